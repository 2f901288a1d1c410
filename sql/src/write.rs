//! Statements that write to the lake: `INSERT`, `CREATE TABLE AS`, `UNLOAD`.
//!
//! ```text
//!  query --bind--> columns --assign (Trino's rules)--> columns of the target --plan--> lake::write --> commit
//! ```
//!
//! Invariant: what cannot be written is refused here, by name, before anything runs.

mod columns;
mod create;
mod discard;
mod insert;
mod options;
mod system;
mod target;
mod unload;

use std::sync::Arc;

use datafusion::{execution::SessionState, logical_expr::LogicalPlan};
use headwater_connectors::lake::{
    stats::ScanStats,
    write::{Mode, WriteTarget, write_statement},
};
use headwater_engine::error::Result;

pub(crate) use self::{
    create::{create_table_as, declare},
    discard::discard,
    insert::insert,
    target::limits_of,
    unload::unload,
};
use crate::{
    diagnostics::Classify,
    parser::StatementKind,
    session::{Outcome, Session},
};

/// The plan of a statement that writes, with the columns of its target; what it could not write is refused as when it runs.
/// `None` for any other statement.
pub(crate) async fn plan(
    session: &Session,
    statement: &StatementKind,
    stats: &Arc<ScanStats>,
) -> Result<Option<(LogicalPlan, SessionState)>> {
    let planned = match statement {
        StatementKind::Insert(insert) => insert::plan(session, insert, stats).await?,
        StatementKind::CreateTableAs(create) => create::plan(session, create, stats).await?,
        StatementKind::Unload(unload) => unload::plan(session, unload, stats).await?,
        _ => return Ok(None),
    };
    Ok(Some(planned))
}

/// Plans, runs and commits.
async fn run(
    plan: LogicalPlan,
    state: &SessionState,
    target: WriteTarget,
    mode: Mode,
    stats: Arc<ScanStats>,
) -> Result<Outcome> {
    let physical = state.create_physical_plan(&plan).await.classify()?;
    let target = WriteTarget { stats: Arc::clone(&stats), ..target };
    let ending = write_statement(physical, state.task_ctx(), target, mode).await?;
    Ok(Outcome::Done { rows: Some(ending.rows), stats })
}
