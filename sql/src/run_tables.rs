//! Tables of the run in a batch statement.
//!
//! Invariant: a `filesystem` table reads like a lake table whose folders are listed; every other connector is read to
//! the end that was there at the start.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use headwater_engine::{
    catalog::TableName,
    error::{Error, Result},
};

use crate::{parser::stream_ddl::CreateStreamTable, tables::StatementTables};

/// What reads a table of the run.
pub(crate) async fn provider(
    _tables: &StatementTables,
    name: &TableName,
    table: &CreateStreamTable,
) -> Result<Arc<dyn TableProvider>> {
    let connector = table.option("connector").unwrap_or_default();
    Err(Error::not_supported(format!("reading \"{name}\" through connector \"{connector}\" is not supported")))
}
