//! `headwater explain`: the plans of query files, against a copy of the catalog, so that nothing is changed.
//!
//! Invariant: DDL runs on the copy only, no statement reads or writes rows, and no file is deleted.

use std::sync::Arc;

use headwater_connectors::catalogs::memory::MemoryCatalog;
use headwater_engine::{
    catalog::{Catalog, IfExists},
    error::Error,
    verdict::{self, StateVerdict},
};

use super::{
    exit::{Exit, Failure},
    interrupt::Watched,
    job,
    runner::{self, Output, Style, Tally},
};
use crate::{
    information_schema::text_batch,
    jobs::Jobs,
    lower::{Reads, lower_inserts, reads},
    output::Rows,
    parser::{Statement, StatementKind},
    session::{Session, SessionConfig, instead_of},
};

/// Explains the statements that read or write, and runs the others on a copy of the catalog.
pub(super) async fn run(
    session: &Session,
    statements: Vec<Statement>,
    style: &Style,
    watched: &Watched,
    out: Output,
) -> Result<Tally, Failure> {
    let copy = Session::for_plans(session.config().clone(), copy_of(session.catalog().as_ref()).await?)?;
    let statements: Vec<Statement> = together(statements).into_iter().map(explained).collect();
    runner::run(&copy, &statements, style, watched, out).await
}

/// Says for each piece of a job's state whether it carries over into a script, is dropped or is new.
pub(super) async fn against(
    config: SessionConfig,
    statements: Vec<Statement>,
    job: &str,
    style: &Style,
) -> Result<Exit, Failure> {
    let session = Session::open(config).await?;
    let jobs = Jobs::read(&session).await?;
    let state = jobs.job(job)?;
    let (newest, is_committed) = (state.newest.clone(), state.is_committed);
    let manifest = newest.ok_or_else(|| Error::user("NOT_FOUND", format!("job \"{job}\" has no checkpoint yet")))?;
    let copy = Session::for_plans(session.config().clone(), copy_of(session.catalog().as_ref()).await?)?;
    let mut inserts = Vec::new();
    for statement in &statements {
        match &statement.kind {
            StatementKind::Insert(_) | StatementKind::StatementSet(_) => inserts.extend(job::inserts_of(statement)),
            StatementKind::CreateStreamTable(_) | StatementKind::Ddl(_) | StatementKind::Set { .. } => {
                copy.execute(statement).await?;
            }
            _ => {}
        }
    }
    let mut of_job = Vec::new();
    for insert in inserts {
        if reads(&copy, insert, false).await? != Reads::Nothing {
            of_job.push(insert.clone());
        }
    }
    let graph = lower_inserts(&copy, &of_job, false).await?;
    let row = |state: StateVerdict| vec![Some(state.node), Some(state.verdict.to_string()), Some(state.reason)];
    let mut verdicts = verdict::against(&graph, &manifest);
    if !is_committed {
        verdicts.extend(verdict::undelivered(&graph, &manifest));
    }
    let rows: Vec<_> = verdicts.into_iter().map(row).collect();
    let batch = text_batch(&["state", "verdict", "reason"], &rows)?;
    let mut out = Rows::begin(style.look, batch.schema(), runner::standard_output())?;
    out.write(&batch)?;
    out.finish()?;
    Ok(Exit::Done)
}

/// INSERTs with nothing between them that could look at what they wrote are one job, if any of them goes on.
fn together(statements: Vec<Statement>) -> Vec<Statement> {
    let (mut all, mut waiting) = (Vec::new(), Vec::new());
    for statement in statements {
        match &statement.kind {
            StatementKind::Insert(_) | StatementKind::StatementSet(_) => waiting.push(statement),
            kind if job::declares(kind) => all.push(statement),
            _ => {
                all.extend(one_set(std::mem::take(&mut waiting)));
                all.push(statement);
            }
        }
    }
    all.extend(one_set(waiting));
    all
}

fn one_set(mut statements: Vec<Statement>) -> Option<Statement> {
    if statements.len() < 2 {
        return statements.pop();
    }
    let (at, texts): (_, Vec<&str>) =
        (statements[0].at, statements.iter().map(|statement| statement.text.as_str()).collect());
    let text = texts.join(";\n");
    let inserts = statements.into_iter().flat_map(|statement| match statement.kind {
        StatementKind::StatementSet(inserts) => inserts,
        _ => vec![statement],
    });
    Some(Statement { text, at, kind: StatementKind::StatementSet(inserts.collect()) })
}

fn explained(statement: Statement) -> Statement {
    let Some(explain) = instead_of(&statement) else { return statement };
    let (text, at) = (format!("EXPLAIN {}", explain.statement.text), statement.at);
    Statement { text, at, kind: StatementKind::Explain(Box::new(explain)) }
}

async fn copy_of(catalog: &dyn Catalog) -> Result<Arc<dyn Catalog>, Failure> {
    let copy = MemoryCatalog::default();
    for database in catalog.databases().await? {
        let name = database.name.clone();
        if copy.database(&name).await?.is_none() {
            copy.create_database(database).await?;
        }
        for table in catalog.tables(&name).await? {
            let partitions = catalog.partitions(&table.name).await?;
            copy.create_table(table.as_ref().clone(), Vec::new()).await?;
            copy.add_partitions(&table.name, partitions, IfExists::Keep).await?;
        }
    }
    Ok(Arc::new(copy))
}
