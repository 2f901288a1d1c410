//! Databases: created, described, dropped.
//!
//! Invariant: `default` is always there, and `information_schema` is not one of the catalog's.

use headwater_engine::{
    catalog::Database,
    error::{Error, Result},
};

use super::{create_table::check_location, names, secrets};
use crate::{
    diagnostics::did_you_mean,
    parser::{
        cursor::Identifier,
        ddl::{CreateDatabase, Pairs},
    },
    session::{Outcome, Session},
    write::discard,
};

/// `CREATE DATABASE`.
pub(super) async fn create(session: &Session, create: &CreateDatabase) -> Result<Outcome> {
    let name = create.name.value.to_lowercase();
    if names::is_reserved(&name) {
        return Err(exists(&name).at(create.name.at));
    }
    if name.is_empty() || name.contains(['/', '.', '$']) {
        return Err(
            Error::user("INVALID_ARGUMENTS", format!("a database cannot be named \"{name}\"")).at(create.name.at)
        );
    }
    let properties = create.properties.iter().cloned().collect();
    secrets::refuse_literals(&properties)?;
    if let Some(location) = &create.location {
        check_location(location).map_err(|(message, hint)| {
            Error::user("INVALID_TABLE_PROPERTY", message).with_hint(hint).at(create.name.at)
        })?;
    }
    let location = create.location.as_deref().map(|location| session.stores().absolute(location));
    let database = Database { name, comment: create.comment.clone(), location, properties };
    match session.catalog().create_database(database).await {
        Err(error) if error.code().0 == "SCHEMA_ALREADY_EXISTS" => match create.if_not_exists {
            true => Ok(Outcome::done()),
            false => Err(error.with_hint("CREATE DATABASE IF NOT EXISTS leaves it as it is").at(create.name.at)),
        },
        other => other.map(|()| Outcome::done()),
    }
}

fn exists(name: &str) -> Error {
    Error::user("SCHEMA_ALREADY_EXISTS", format!("database \"{name}\" exists already"))
}

/// `DROP DATABASE`.
pub(super) async fn drop(session: &Session, name: &Identifier, if_exists: bool, cascade: bool) -> Result<Outcome> {
    let tables = match cascade {
        true => session.catalog().tables(&name.value).await.unwrap_or_default(),
        false => Vec::new(),
    };
    match session.catalog().drop_database(&name.value, cascade).await {
        Ok(()) => {
            session.leave_database(&name.value.to_lowercase());
            // No table of it can be dropped again: each is tried, whatever becomes of the others.
            let mut failed = None;
            for table in &tables {
                failed = discard(session, table).await.err().or(failed);
            }
            failed.map_or_else(|| Ok(Outcome::done()), Err)
        }
        Err(error) if error.code().0 == "SCHEMA_NOT_FOUND" && if_exists => Ok(Outcome::done()),
        Err(error) if error.code().0 == "SCHEMA_NOT_FOUND" => Err(not_found(session, name).await),
        Err(error) => Err(error.at(name.at)),
    }
}

/// The error for a database that is not there.
pub(crate) async fn not_found(session: &Session, name: &Identifier) -> Error {
    let error = Error::user("SCHEMA_NOT_FOUND", format!("database \"{}\" does not exist", name.value)).at(name.at);
    let databases = session.catalog().databases().await.unwrap_or_default();
    did_you_mean(error, &name.value, databases.iter().map(|database| database.name.as_str()))
}

/// `ALTER DATABASE .. SET DBPROPERTIES`.
pub(super) async fn set_properties(session: &Session, name: &Identifier, properties: &Pairs) -> Result<Outcome> {
    let Some(mut database) = session.catalog().database(&name.value).await? else {
        return Err(not_found(session, name).await);
    };
    database.properties.extend(properties.iter().cloned());
    secrets::refuse_literals(&database.properties)?;
    session.catalog().replace_database(database).await?;
    Ok(Outcome::done())
}
