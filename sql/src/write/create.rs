//! `CREATE TABLE AS`.
//!
//! Invariant: the table is registered in the same commit that makes its files visible.

use std::sync::Arc;

use datafusion::{execution::SessionState, logical_expr::LogicalPlan};
use headwater_connectors::lake::{
    stats::ScanStats,
    write::{Mode, known::Change},
};
use headwater_engine::{
    catalog::{Column, PartitionDiscovery, Table, TableKind, TableName},
    error::{Error, Result},
};

use super::{columns, options, target};
use crate::{
    ddl::{check_location, names},
    parser::statement::CreateTableAs,
    session::{Outcome, Session},
};

/// Runs the statement.
pub(crate) async fn create_table_as(session: &Session, create: &CreateTableAs) -> Result<Outcome> {
    let name = names::new_table(session, &create.table)?;
    if session.catalog().table(&name).await?.is_some() {
        if create.if_not_exists {
            return Ok(Outcome::done());
        }
        return Err(exists(create, &name));
    }
    // A catalog that cannot be written says so before the query runs.
    session.catalog().id().await?;
    let stats = session.counters();
    let (bound, state) = session.bound(&create.query, &stats).await?;
    let all = columns::of_query(&bound.columns, &create.columns, create.table.at())?;
    let table = entry(session, create, &name, &all).await?;
    let target = target::of_table(session, &table, Change::Adds).await?;
    if !create.with_data {
        target::expect_empty(&target).await?;
        session.catalog().create_table(table, Vec::new()).await?;
        return Ok(Outcome::Done { rows: Some(0), stats });
    }
    let plan = columns::assigned(bound, &columns::in_order(all))?;
    let mode = Mode::CreateNew { table: Some(Box::new(table)) };
    match super::run(plan, &state, target, mode, stats).await {
        Err(error) if was_first(&error) && session.catalog().table(&name).await?.is_some() => {
            if create.if_not_exists {
                Ok(Outcome::done())
            } else {
                Err(exists(create, &name))
            }
        }
        done => done,
    }
}

fn exists(create: &CreateTableAs, name: &TableName) -> Error {
    Error::user("TABLE_ALREADY_EXISTS", format!("table \"{name}\" exists already"))
        .with_hint("CREATE TABLE IF NOT EXISTS leaves it as it is")
        .at(create.table.at())
}

/// Whether another statement made the table in the meantime; any other failure is one of ours.
fn was_first(error: &Error) -> bool {
    matches!(error.code().0, "TABLE_ALREADY_EXISTS" | "HIVE_PATH_ALREADY_EXISTS")
}

/// Registers the table and writes nothing, for the plans of the statements that use it.
pub(crate) async fn declare(session: &Session, create: &CreateTableAs) -> Result<()> {
    let name = names::new_table(session, &create.table)?;
    if create.if_not_exists && session.catalog().table(&name).await?.is_some() {
        return Ok(());
    }
    let (bound, _) = session.bound(&create.query, &session.counters()).await?;
    let all = columns::of_query(&bound.columns, &create.columns, create.table.at())?;
    let table = entry(session, create, &name, &all).await?;
    session.catalog().create_table(table, Vec::new()).await
}

/// The rows as the new table takes them.
pub(super) async fn plan(
    session: &Session,
    create: &CreateTableAs,
    stats: &Arc<ScanStats>,
) -> Result<(LogicalPlan, SessionState)> {
    let name = names::new_table(session, &create.table)?;
    if !create.if_not_exists && session.catalog().table(&name).await?.is_some() {
        return Err(exists(create, &name));
    }
    let (bound, state) = session.bound(&create.query, stats).await?;
    let all = columns::of_query(&bound.columns, &create.columns, create.table.at())?;
    entry(session, create, &name, &all).await?;
    Ok((columns::assigned(bound, &columns::in_order(all))?, state))
}

async fn entry(session: &Session, create: &CreateTableAs, name: &TableName, all: &[Column]) -> Result<Table> {
    let at = create.table.at();
    let files = options::of_table(&create.options)?;
    let (columns, partition_keys) = split_keys(all, &files.partitioned_by).map_err(|error| error.at(at))?;
    let Some(database) = session.catalog().database(&name.database).await? else {
        return Err(Error::user("SCHEMA_NOT_FOUND", format!("database \"{}\" does not exist", name.database)).at(at));
    };
    // What is in a folder that was named stays when the table is dropped; a folder chosen here goes with it.
    let kind = if files.location.is_some() { TableKind::External } else { TableKind::Managed };
    let location = match (files.location, database.location) {
        (Some(location), _) => {
            check_location(&location)
                .map_err(|(message, hint)| Error::user("INVALID_TABLE_PROPERTY", message).with_hint(hint).at(at))?;
            session.stores().absolute(&location)
        }
        (None, Some(folder)) => format!("{}/{}/", folder.trim_end_matches('/'), name.table),
        (None, None) => {
            let warehouse = session.stores().absolute(&session.config().warehouse());
            format!("{warehouse}{}/{}/", name.database, name.table)
        }
    };
    Ok(Table {
        name: name.clone(),
        kind,
        columns,
        partition_keys,
        storage: files.storage,
        location,
        discovery: PartitionDiscovery::Registered,
        properties: files.properties,
        comment: create.comment.clone(),
        version: 0,
    })
}

/// Columns and partition keys; the keys are the last columns of the query, in their order, as in Athena.
pub(super) fn split_keys(all: &[Column], keys: &[String]) -> Result<(Vec<Column>, Vec<Column>)> {
    for key in keys {
        if !all.iter().any(|column| column.name.eq_ignore_ascii_case(key)) {
            return Err(Error::user(
                "COLUMN_NOT_FOUND",
                format!("partition key \"{key}\" is not a column of the query"),
            ));
        }
    }
    let (columns, last) = all.split_at(all.len() - keys.len().min(all.len()));
    if !last.iter().zip(keys).all(|(column, key)| column.name.eq_ignore_ascii_case(key)) {
        let message =
            format!("partition keys must be the last columns of the query, in this order: {}", keys.join(", "));
        return Err(Error::user("HIVE_COLUMN_ORDER_MISMATCH", message));
    }
    if columns.is_empty() {
        return Err(Error::user("INVALID_TABLE_PROPERTY", "a table needs a column that is not a partition key"));
    }
    Ok((columns.to_vec(), last.to_vec()))
}
