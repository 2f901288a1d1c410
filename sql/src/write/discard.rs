//! What goes when a table is dropped.
//!
//! Invariant: files are deleted only of tables in folders that were chosen here: those of `CREATE TABLE AS` without a
//! location. Where a statement named the location, the files stay, as in Athena.

use std::sync::Arc;

use headwater_connectors::lake::commit::{CatalogRegistrar, discard::discard as delete_files, site::site_of};
use headwater_engine::{
    catalog::{Table, TableKind},
    error::Result,
};

use crate::session::Session;

/// Deletes the files of a table that the catalog no longer has, if they were its own.
pub(crate) async fn discard(session: &Session, table: &Table) -> Result<()> {
    if table.kind != TableKind::Managed || session.plans_only() {
        return Ok(());
    }
    let deleted = async {
        let place = session.stores().resolve(&table.location, &table.properties).await?;
        let registrar = Arc::new(CatalogRegistrar::new(Arc::clone(session.catalog())));
        delete_files(&site_of(&place, registrar)).await
    };
    deleted.await.map_err(|error| {
        let message =
            format!("\"{}\" is dropped, but its files in \"{}\" are not all deleted", table.name, table.location);
        error.context(message)
    })
}
