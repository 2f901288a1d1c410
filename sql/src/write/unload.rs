//! `UNLOAD (query) TO 'location'`: files without a table.
//!
//! Invariant: the location is empty before, and holds the whole result or nothing after.

use std::sync::Arc;

use datafusion::{execution::SessionState, logical_expr::LogicalPlan};
use headwater_connectors::lake::{stats::ScanStats, write::Mode};
use headwater_engine::error::Result;

use super::{columns, create::split_keys, options, target};
use crate::{
    parser::statement::Unload,
    session::{Outcome, Session},
};

/// Runs the statement.
pub(crate) async fn unload(session: &Session, unload: &Unload) -> Result<Outcome> {
    let files = options::of_unload(&unload.options)?;
    let stats = session.counters();
    let (plan, state) = plan(session, unload, &stats).await?;
    let target =
        target::of_location(session, &unload.location, &files).await.map_err(|error| error.at(unload.location_at))?;
    super::run(plan, &state, target, Mode::CreateNew { table: None }, stats).await
}

/// The rows as the files take them.
pub(super) async fn plan(
    session: &Session,
    unload: &Unload,
    stats: &Arc<ScanStats>,
) -> Result<(LogicalPlan, SessionState)> {
    let files = options::of_unload(&unload.options)?;
    let (bound, state) = session.bound(&unload.query, stats).await?;
    let mut all = columns::of_query(&bound.columns, &[], unload.location_at)?;
    for (column, name) in all.iter_mut().zip(columns::written_names(&unload.query, &bound.columns)) {
        column.name = name;
    }
    split_keys(&all, &files.partitioned_by).map_err(|error| error.at(unload.location_at))?;
    Ok((columns::assigned(bound, &columns::in_order(all))?, state))
}
