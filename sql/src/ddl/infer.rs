//! Columns and partition keys of a table whose DDL leaves them out, from a sample of its files.
//!
//! Invariant: what the DDL says is kept; only what it leaves out is inferred.

use headwater_engine::{
    catalog::Table,
    error::{Error, Result},
};

use crate::session::Session;

/// Fills in the columns and the types of partition keys that are missing.
pub(super) async fn fill_in(_session: &Session, table: &mut Table) -> Result<()> {
    Err(Error::not_supported(format!("inferring the columns of \"{}\" is not supported", table.name))
        .with_hint("write the columns in parentheses after the table's name"))
}
