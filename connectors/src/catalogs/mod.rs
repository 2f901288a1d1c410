//! Catalogs: what is registered, kept in memory or in SQLite, and one suite that both pass.
//!
//! Invariant: both give the same answers to the same calls; SQLite also to several processes at once.

pub mod conformance;
pub mod memory;
pub mod read_only;
pub mod sqlite;

use headwater_engine::{
    catalog::{Database, IfExists, Partition, Properties, Table, TableName},
    error::{Error, ErrorKind},
};

use crate::lake::layout::folder_name;

/// The database every catalog has.
pub const DEFAULT_DATABASE: &str = "default";

fn default_database() -> Database {
    Database { name: DEFAULT_DATABASE.into(), comment: None, location: None, properties: Properties::new() }
}

fn no_database(name: &str) -> Error {
    Error::user("SCHEMA_NOT_FOUND", format!("database \"{name}\" does not exist"))
}

fn no_table(name: &TableName) -> Error {
    Error::user("TABLE_NOT_FOUND", format!("table \"{name}\" does not exist"))
}

fn database_exists(name: &str) -> Error {
    Error::user("SCHEMA_ALREADY_EXISTS", format!("database \"{name}\" exists already"))
}

fn table_exists(name: &TableName) -> Error {
    Error::user("TABLE_ALREADY_EXISTS", format!("\"{name}\" exists already"))
}

fn changed(name: &TableName) -> Error {
    Error::new(ErrorKind::Conflict, "TRANSACTION_CONFLICT", format!("\"{name}\" was changed by another statement"))
        .with_hint("run the statement again")
}

fn not_empty(name: &str) -> Error {
    Error::user("SCHEMA_NOT_EMPTY", format!("database \"{name}\" is not empty"))
        .with_hint("drop its tables first, or add CASCADE; files of external tables stay either way")
}

fn keeps_default() -> Error {
    Error::user("NOT_SUPPORTED", "database \"default\" cannot be dropped")
}

fn partition_exists(name: &TableName, values: &[Option<String>]) -> Error {
    let values: Vec<_> = values.iter().map(|value| value.as_deref().unwrap_or("NULL")).collect();
    Error::user("ALREADY_EXISTS", format!("partition ({}) of \"{name}\" exists already", values.join(", ")))
        .with_hint("ADD IF NOT EXISTS PARTITION leaves it as it is")
}

fn no_partition(name: &TableName, values: &[Option<String>]) -> Error {
    let values: Vec<_> = values.iter().map(|value| value.as_deref().unwrap_or("NULL")).collect();
    Error::user("NOT_FOUND", format!("partition ({}) of \"{name}\" does not exist", values.join(", ")))
}

/// Whether the folder that the layout gives a partition is that of another one, which has it by its location.
fn is_taken<'a>(table: &Table, mut located: impl Iterator<Item = &'a Partition>, added: &Partition) -> bool {
    if added.location.is_some() {
        return false;
    }
    let names = table.partition_keys.iter().zip(&added.values);
    let names: Vec<_> = names.map(|(key, value)| folder_name(&key.name, value.as_deref())).collect();
    let usual = format!("{}/{}", table.location.trim_end_matches('/'), names.join("/"));
    located.any(|other| {
        let location = other.location.as_deref().map(|location| location.trim_end_matches('/'));
        location == Some(usual.as_str()) && other.values != added.values
    })
}

fn folder_taken(name: &TableName, values: &[Option<String>]) -> Error {
    let values: Vec<_> = values.iter().map(|value| value.as_deref().unwrap_or("NULL")).collect();
    let message = format!("the folder of partition ({}) of \"{name}\" is that of another partition", values.join(", "));
    Error::user("ALREADY_EXISTS", message).with_hint("give it one of its own: ADD PARTITION (..) LOCATION '..'")
}

/// What happens to a partition given what is registered: `None` is to leave it.
fn to_store(
    name: &TableName,
    exists: IfExists,
    (is_registered, is_taken): (bool, bool),
    partition: Partition,
) -> Result<Option<Partition>, Error> {
    match (is_registered, exists) {
        (false, IfExists::Keep) if is_taken => Ok(None),
        (false, IfExists::Fail | IfExists::Replace) if is_taken => Err(folder_taken(name, &partition.values)),
        (false, IfExists::Fail | IfExists::Keep | IfExists::Replace) => Ok(Some(partition)),
        (true, IfExists::Replace | IfExists::Update) => Ok(Some(partition)),
        (true, IfExists::Keep) | (false, IfExists::Update) => Ok(None),
        (true, IfExists::Fail) => Err(partition_exists(name, &partition.values)),
    }
}
