//! `CREATE TABLE .. WITH (..)`: a table of the run.
//!
//! Invariant: it never enters the catalog, and a file run again in the same session replaces it.

use std::sync::Arc;

use headwater_connectors::options::nearest;
use headwater_engine::error::{Error, Result};

use super::{like, names};
use crate::{
    lower::{
        accepted::ACCEPTED,
        table::{PLANNED, StreamTable, connector_of},
    },
    parser::stream_ddl::{CreateStreamTable, StreamColumn, StreamColumnKind, TableOption},
    run_tables::filesystem_entry,
    session::{Outcome, Session},
    tables::RunTable,
};

/// Declares the table.
pub(crate) async fn create(session: &Session, table: &CreateStreamTable) -> Result<Outcome> {
    let table = &like::expanded(session, table).await?;
    let name = names::new_table(session, &table.name)?;
    if table.option("connector").is_none() {
        let message = format!("table \"{name}\" names no connector");
        return Err(Error::user("MISSING_TABLE_PROPERTY", message)
            .with_hint("add 'connector' = '..' to WITH; for files there is CREATE EXTERNAL TABLE, whose statement SHOW CREATE TABLE prints")
            .at(table.name.at()));
    }
    if table.columns.is_empty() {
        // What is wrong with a connection is said of the tables that are like it.
        connector_of(session, table)?;
    } else if table.option("connector") == Some("filesystem") {
        let entry = filesystem_entry(&name, table)?;
        session.stores().check(&entry.properties).map_err(|error| error.at(table.name.at()))?;
        check_folder_options(session, table)?;
    } else {
        check_options(session, table)?;
    }
    if table.if_not_exists && session.run_tables().read().contains_key(&name) {
        return Ok(Outcome::done());
    }
    session.run_tables().write().insert(name, RunTable::Table(Arc::new(table.clone())));
    Ok(Outcome::done())
}

/// The same of a folder, whose rows of NULLs are for statements that end.
fn check_folder_options(session: &Session, table: &CreateStreamTable) -> Result<()> {
    let mut of_job = table.clone();
    of_job.options.retain(|option| option.key != "malformed" || !option.value.eq_ignore_ascii_case("null"));
    match check_options(session, &of_job) {
        Err(error) if error.code().0 == "INVALID_TABLE_PROPERTY" => Err(error),
        Err(_) | Ok(()) => Ok(()),
    }
}

/// Judges the options that are given, whichever direction they are for. What a direction lacks is said when it is used.
fn check_options(session: &Session, table: &CreateStreamTable) -> Result<()> {
    let declared = StreamTable::new(session, table).map_err(|error| placed(error, table))?;
    let source = declared.connector.source(&declared.spec).err();
    let sink = declared.connector.sink(&declared.spec).err();
    let is_about_an_option =
        |error: &Error| error.code().0 == "INVALID_TABLE_PROPERTY" && option_of(error, table).is_some();
    match source.into_iter().chain(sink).find(is_about_an_option) {
        Some(error) => Err(placed(error, table)),
        None => Ok(()),
    }
}

/// The option an error is about.
fn option_of<'t>(error: &Error, table: &'t CreateStreamTable) -> Option<&'t TableOption> {
    table.options.iter().find(|option| error.message().contains(&format!("option '{}'", option.key)))
}

/// An error at the option it is about; a misspelt one may have meant an option of the planner's.
fn placed(error: Error, table: &CreateStreamTable) -> Error {
    let Some(option) = option_of(&error, table) else { return error };
    let is_unknown = error.message().contains("unknown option");
    let error = if error.location().is_some() { error } else { error.at(option.at) };
    match nearest(&option.key, PLANNED.into_iter().chain(ACCEPTED)).filter(|_| is_unknown) {
        Some(meant) => error.with_hint(format!("did you mean '{meant}'?")),
        None => error,
    }
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
