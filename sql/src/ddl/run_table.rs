//! `CREATE TABLE .. WITH (..)`: a table of the run.
//!
//! Invariant: it never enters the catalog, and a file run again in the same session replaces it.

use std::sync::Arc;

use headwater_engine::error::{Error, Result};

use crate::{
    parser::stream_ddl::{CreateStreamTable, StreamColumn, StreamColumnKind},
    run_tables::filesystem_entry,
    session::{Outcome, Session},
    tables::RunTable,
};

/// Declares the table.
pub(crate) async fn create(session: &Session, table: &CreateStreamTable) -> Result<Outcome> {
    let name = session.table_name(&table.name)?;
    if table.option("connector").is_none() {
        let message = format!("table \"{name}\" names no connector");
        return Err(Error::user("MISSING_TABLE_PROPERTY", message)
            .with_hint("add 'connector' = '..' to WITH; for files there is CREATE EXTERNAL TABLE, too")
            .at(table.name.at()));
    }
    if table.option("connector") == Some("filesystem") {
        filesystem_entry(&name, table)?;
    }
    if table.if_not_exists && session.run_tables().read().contains_key(&name) {
        return Ok(Outcome::done());
    }
    session.run_tables().write().insert(name, RunTable::Table(Arc::new(table.clone())));
    Ok(Outcome::done())
}

/// Name, type and comment of each column, as listings show them.
pub(crate) fn column_texts(table: &CreateStreamTable) -> Vec<(String, String, String)> {
    let text = |column: &StreamColumn| match &column.kind {
        StreamColumnKind::Physical { type_text, .. } => type_text.clone(),
        StreamColumnKind::Metadata { data_type, .. } => crate::types::trino_type_name(data_type),
        StreamColumnKind::Computed { text, .. } => format!("AS {text}"),
    };
    let row =
        |column: &StreamColumn| (column.name.value.clone(), text(column), column.comment.clone().unwrap_or_default());
    table.columns.iter().map(row).collect()
}
