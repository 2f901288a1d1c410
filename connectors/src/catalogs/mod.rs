//! Catalogs: what is registered, kept in memory or in SQLite, and one suite that both pass.
//!
//! Invariant: both give the same answers to the same calls; SQLite also to several processes at once.

pub mod conformance;
pub mod memory;
pub mod sqlite;

use headwater_engine::{
    catalog::{Database, IfExists, Partition, Properties, TableName},
    error::{Error, ErrorKind},
};

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

/// What happens to a partition given what is registered: `None` is to leave it.
fn to_store(
    name: &TableName,
    exists: IfExists,
    is_registered: bool,
    partition: Partition,
) -> Result<Option<Partition>, Error> {
    match (is_registered, exists) {
        (false, _) | (true, IfExists::Replace) => Ok(Some(partition)),
        (true, IfExists::Keep) => Ok(None),
        (true, IfExists::Fail) => Err(partition_exists(name, &partition.values)),
    }
}
