//! `ALTER TABLE` of columns, location and properties: read the entry, change it, replace it if nobody else did.
//!
//! Invariant: no change is lost: an entry that another statement changed meanwhile is read and changed again.

use headwater_engine::{
    catalog::{Column, FileFormat, IfExists, PartitionDiscovery, Table, TableKind},
    error::{Error, ErrorKind, Result},
};

use super::{
    create_table::{DISCOVERY_KEY, anchor_template, check_columns, check_location},
    partitions, properties, secrets, table_named,
};
use crate::{
    diagnostics::did_you_mean,
    parser::{
        cursor::{Identifier, ObjectName},
        ddl::{ColumnPlace, TableChange},
    },
    session::{Outcome, Session},
};

/// How many fields the oldest files of a CSV table have.
const FIELDS_MIN_KEY: &str = "csv.fields-min";
/// How often a change is tried on an entry that others keep changing.
const ATTEMPTS_MAX: usize = 1000;

/// Changes the table.
pub(super) async fn run(session: &Session, name: &ObjectName, change: &TableChange) -> Result<Outcome> {
    let table = table_named(session, name).await?;
    if let TableKind::View { .. } = table.kind {
        return Err(Error::user("NOT_SUPPORTED", format!("\"{}\" is a view", table.name))
            .with_hint("use CREATE OR REPLACE VIEW")
            .at(name.at()));
    }
    if partitions::change(session, &table, change).await? {
        return Ok(Outcome::done());
    }
    for _ in 0..ATTEMPTS_MAX {
        let before = table_named(session, name).await?;
        let mut after = Table::clone(&before);
        apply(&mut after, change).map_err(|error| error.at(name.at()))?;
        after.location = session.stores().absolute(&after.location);
        anchor_template(session, &after.location, &mut after.properties);
        properties::check(session, &after).map_err(|error| error.at(name.at()))?;
        if moves_columns(change) && matches!(after.storage.format, FileFormat::Text | FileFormat::Csv) {
            refuse_moved_fields(&before, change).map_err(|error| error.at(name.at()))?;
            keep_columns_of_partitions(session, &before).await?;
        }
        match session.catalog().replace_table(after).await {
            Err(error) if error.kind() == ErrorKind::Conflict => tokio::task::yield_now().await,
            other => return other.map(|()| Outcome::done()),
        }
    }
    Err(Error::new(
        ErrorKind::Conflict,
        "TRANSACTION_CONFLICT",
        format!("\"{}\" keeps being changed by others", table.name),
    ))
}

/// Whether fields of delimited files no longer stand where the columns do.
fn moves_columns(change: &TableChange) -> bool {
    matches!(change, TableChange::ReplaceColumns(_) | TableChange::ChangeColumn { place: Some(_), .. })
        || matches!(change, TableChange::DropColumn(_))
}

/// Fields of delimited files without names are told by their places. Where no registered partition keeps the columns
/// that its files were written with, the files that are there would be read with values in the wrong columns.
fn refuse_moved_fields(table: &Table, change: &TableChange) -> Result<()> {
    let property = |key: &str| table.properties.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
    let is_true = |key: &str| property(key).is_some_and(|(_, value)| value.trim().eq_ignore_ascii_case("true"));
    let is_registered = !table.partition_keys.is_empty()
        && table.discovery == PartitionDiscovery::Registered
        && !is_true("projection.enabled");
    // What REPLACE COLUMNS says is about the places of the fields, as in Athena.
    if is_registered || is_true("csv.header") || matches!(change, TableChange::ReplaceColumns(_)) {
        return Ok(());
    }
    let what = if matches!(change, TableChange::DropColumn(_)) { "drop a column" } else { "move a column" };
    Err(Error::not_supported(format!(
        "cannot {what} of \"{}\": its files are read by the places of their fields",
        table.name
    ))
    .with_hint(
        "REPLACE COLUMNS says which columns the fields are, in their order; or CREATE TABLE AS writes other files",
    ))
}

/// Registered partitions of delimited files go on being read with the columns they were written with.
async fn keep_columns_of_partitions(session: &Session, table: &Table) -> Result<()> {
    let registered = session.catalog().partitions(&table.name).await?;
    let mut older: Vec<_> = registered.into_iter().filter(|partition| partition.columns.is_none()).collect();
    for partition in &mut older {
        partition.columns = Some(table.columns.clone());
    }
    if !older.is_empty() {
        session.catalog().add_partitions(&table.name, older, IfExists::Update).await?;
    }
    Ok(())
}

fn apply(table: &mut Table, change: &TableChange) -> Result<()> {
    match change {
        TableChange::AddColumns(added) => {
            keep_fields_min(table);
            table.columns.extend(added.iter().cloned());
        }
        TableChange::ReplaceColumns(columns) => table.columns.clone_from(columns),
        TableChange::ChangeColumn { old, new, place } => change_column(table, old, new, place.as_ref())?,
        TableChange::DropColumn(name) => {
            let index = position(table, name)?;
            if table.columns.len() == 1 {
                return Err(Error::not_supported(format!("column \"{}\" is the only one", name.value)).at(name.at));
            }
            table.columns.remove(index);
        }
        TableChange::SetLocation { location, .. } => {
            check_location(location)
                .map_err(|(message, hint)| Error::user("INVALID_TABLE_PROPERTY", message).with_hint(hint))?;
            table.location.clone_from(location);
            // The folder was named now: it does not go with the table.
            table.kind = TableKind::External;
        }
        TableChange::SetProperties(pairs) => set_properties(table, pairs)?,
        TableChange::UnsetProperties(keys) => {
            table.properties.retain(|key, _| !keys.contains(key));
        }
        TableChange::AddPartitions { .. }
        | TableChange::DropPartitions { .. }
        | TableChange::RenamePartition { .. } => {
            return Err(Error::internal("a change of partitions came to the table's entry"));
        }
    }
    let at = headwater_engine::error::Location { line: 1, column: 1 };
    check_columns(&table.columns, &table.partition_keys, at)
}

/// Files of our own CSV that were there before columns are added have fewer fields, and that is no fault of theirs.
fn keep_fields_min(table: &mut Table) {
    let is_ours = table.storage.format == FileFormat::Csv && table.storage.serde.is_none();
    if is_ours && !table.properties.contains_key(FIELDS_MIN_KEY) {
        table.properties.insert(FIELDS_MIN_KEY.to_owned(), table.columns.len().to_string());
    }
}

fn set_properties(table: &mut Table, pairs: &[(String, String)]) -> Result<()> {
    for (key, value) in pairs {
        if key == "comment" {
            table.comment = Some(value.clone());
        } else if key == DISCOVERY_KEY {
            return Err(Error::not_supported(format!("property \"{DISCOVERY_KEY}\" cannot be changed"))
                .with_hint("create the table again with it; its files stay"));
        } else {
            table.properties.insert(key.clone(), value.clone());
        }
    }
    secrets::refuse_literals(&table.properties)
}

fn position(table: &Table, name: &Identifier) -> Result<usize> {
    if let Some(index) = table.columns.iter().position(|column| column.name.eq_ignore_ascii_case(&name.value)) {
        return Ok(index);
    }
    if table.partition_keys.iter().any(|key| key.name.eq_ignore_ascii_case(&name.value)) {
        return Err(Error::not_supported(format!("\"{}\" is a partition key and cannot be changed", name.value))
            .with_hint("create the table again over the same location")
            .at(name.at));
    }
    let message = format!("column \"{}\" not found in table \"{}\"", name.value, table.name);
    let error = Error::user("COLUMN_NOT_FOUND", message).at(name.at);
    Err(did_you_mean(error, &name.value, table.columns.iter().map(|column| column.name.as_str())))
}

fn change_column(table: &mut Table, old: &Identifier, new: &Column, place: Option<&ColumnPlace>) -> Result<()> {
    let index = position(table, old)?;
    let previous = table.columns.remove(index);
    let comment = new.comment.clone().or(previous.comment);
    let column = Column { comment, ..new.clone() };
    let to = match place {
        None => index,
        Some(ColumnPlace::First) => 0,
        Some(ColumnPlace::After(name)) => position(table, name)? + 1,
    };
    table.columns.insert(to, column);
    Ok(())
}
