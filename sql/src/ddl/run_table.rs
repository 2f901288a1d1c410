//! `CREATE TABLE .. WITH (..)`: a table of the run.
//!
//! Invariant: it never enters the catalog, and a file run again in the same session replaces it.

use std::sync::Arc;

use headwater_engine::error::Result;

use crate::{
    parser::stream_ddl::CreateStreamTable,
    session::{Outcome, Session},
    tables::RunTable,
};

/// Declares the table.
pub(crate) async fn create(session: &Session, table: &CreateStreamTable) -> Result<Outcome> {
    let name = session.table_name(&table.name)?;
    session.run_tables().write().insert(name, RunTable::Table(Arc::new(table.clone())));
    Ok(Outcome::done())
}
