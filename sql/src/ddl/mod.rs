//! What statements about the catalog do.
//!
//! Invariant: a statement changes the catalog in one step or not at all; files of external tables are never touched.

mod alter_table;
mod create_table;
mod create_text;
mod database;
pub(crate) mod infer;
mod like;
pub(crate) mod names;
mod partitions;
mod properties;
mod qualify;
mod repair;
pub mod rows;
pub(crate) mod run_table;
mod secrets;
pub(crate) mod show;
mod storage;
#[cfg(test)]
mod tests;
mod views;

use std::sync::Arc;

use headwater_engine::{catalog::Table, error::Result};

pub(crate) use self::{
    create_table::check_location, database::not_found as no_database, partitions::as_table as partitions_of,
};
use crate::{
    parser::{cursor::ObjectName, ddl::Ddl},
    session::{Outcome, Session},
    tables::not_found,
};

/// Runs a statement about the catalog.
pub(crate) async fn run(session: &Session, ddl: &Ddl) -> Result<Outcome> {
    match ddl {
        Ddl::CreateDatabase(create) => database::create(session, create).await,
        Ddl::DropDatabase { name, if_exists, cascade } => database::drop(session, name, *if_exists, *cascade).await,
        Ddl::AlterDatabase { name, properties } => database::set_properties(session, name, properties).await,
        Ddl::CreateTable(create) => create_table::run(session, create).await,
        Ddl::DropTable { name, if_exists } => views::drop(session, name, *if_exists, false).await,
        Ddl::AlterTable { name, change } => alter_table::run(session, name, change).await,
        Ddl::RepairTable(name) => repair::run(session, name).await,
        Ddl::CreateView(create) => views::create(session, create).await,
        Ddl::DropView { name, if_exists } => views::drop(session, name, *if_exists, true).await,
    }
}

/// The catalog's entry of a name, or the error that says what may have been meant.
pub(crate) async fn table_named(session: &Session, name: &ObjectName) -> Result<Arc<Table>> {
    let full = session.table_name(name)?;
    match session.catalog().table(&full).await? {
        Some(table) => Ok(table),
        None => Err(not_found(session.catalog().as_ref(), session.run_tables(), &full).await.at(name.at())),
    }
}
