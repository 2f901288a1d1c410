//! `headwater explain`: the plans of query files, against a copy of the catalog, so that nothing is changed.
//!
//! Invariant: DDL runs on the copy only, and no statement reads or writes rows.

use std::sync::Arc;

use headwater_connectors::catalogs::memory::MemoryCatalog;
use headwater_engine::catalog::{Catalog, IfExists};

use super::{
    exit::Failure,
    interrupt::Watched,
    runner::{self, Output, Style, Tally},
};
use crate::{
    parser::{
        Statement, StatementKind,
        statement::{Explain, ExplainFormat, ExplainKind},
    },
    session::Session,
};

/// Explains the statements that read or write, and runs the others on a copy of the catalog.
pub(super) async fn run(
    session: &Session,
    statements: Vec<Statement>,
    style: &Style,
    watched: &Watched,
    out: Output,
) -> Result<Tally, Failure> {
    let copy = Session::with_catalog(session.config().clone(), copy_of(session.catalog().as_ref()).await?)?;
    let statements: Vec<Statement> = statements.into_iter().map(explained).collect();
    runner::run(&copy, &statements, style, watched, out).await
}

fn explained(statement: Statement) -> Statement {
    match statement.kind {
        StatementKind::Query(_)
        | StatementKind::Insert(_)
        | StatementKind::CreateTableAs(_)
        | StatementKind::Unload(_)
        | StatementKind::StatementSet(_) => {
            let (text, at) = (format!("EXPLAIN {}", statement.text), statement.at);
            let (kind, format) = (ExplainKind::default(), ExplainFormat::default());
            let explain = Explain { analyze: false, verbose: false, kind, format, statement };
            Statement { text, at, kind: StatementKind::Explain(Box::new(explain)) }
        }
        _ => statement,
    }
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
