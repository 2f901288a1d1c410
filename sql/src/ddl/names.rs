//! Names that statements give to new tables and views.
//!
//! Invariant: the folder of a table in the warehouse lies below its database's, and no entry hides a table of ours.

use headwater_engine::{
    catalog::TableName,
    error::{Error, Result},
};

use crate::{jobs::SCHEMA, parser::cursor::ObjectName, session::Session, tables::INFORMATION_SCHEMA};

/// The full name of an entry to be made.
pub(crate) fn new_table(session: &Session, name: &ObjectName) -> Result<TableName> {
    let full = session.table_name(name)?;
    if is_reserved(&full.database) {
        let message = format!("database \"{}\" is read-only", full.database);
        return Err(Error::not_supported(message).with_hint("name another database").at(name.at()));
    }
    let table = full.table.as_str();
    if table.is_empty() || table == "." || table == ".." || table.contains(['/', '\0']) {
        let message = format!("a table cannot be named \"{table}\"");
        return Err(Error::user("INVALID_ARGUMENTS", message)
            .with_hint("its name is the name of a folder: leave out slashes")
            .at(name.at()));
    }
    if let Some((_, kept)) = table.rsplit_once('$')
        && ["rejected", "late"].contains(&kept)
    {
        let message = format!("a table cannot be named \"{table}\": the name is that of rows kept aside");
        return Err(Error::user("INVALID_ARGUMENTS", message).at(name.at()));
    }
    Ok(full)
}

/// Whether a database is one of ours, in no catalog.
pub(crate) fn is_reserved(database: &str) -> bool {
    database.eq_ignore_ascii_case(INFORMATION_SCHEMA) || database.eq_ignore_ascii_case(SCHEMA)
}
