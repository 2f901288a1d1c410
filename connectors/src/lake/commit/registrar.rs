//! The catalog's part in a commit: the table of a `CREATE TABLE AS`, and new partitions.
//!
//! Invariant: repeating it changes nothing. A statement whose table was dropped is refused before it decides; later that
//! is no error: its files are published as they would have been a moment earlier, and whoever drops waits for them.

use std::sync::Arc;

use async_trait::async_trait;
use headwater_engine::{
    catalog::{Catalog, IfExists, Table, TableName},
    error::{Error, Result},
};

use super::{Effect, Registrar};

/// Registers with a catalog.
#[derive(Debug, Clone)]
pub struct CatalogRegistrar {
    catalog: Arc<dyn Catalog>,
    /// Name and location of the table whose rows a statement writes.
    written: Option<(TableName, String)>,
}

impl CatalogRegistrar {
    /// A registrar of this catalog.
    pub fn new(catalog: Arc<dyn Catalog>) -> Self {
        Self { catalog, written: None }
    }

    /// The same for a statement that writes into a table of the catalog.
    #[must_use]
    pub fn writing(self, table: &Table) -> Self {
        Self { written: Some((table.name.clone(), table.location.clone())), ..self }
    }
}

#[async_trait]
impl Registrar for CatalogRegistrar {
    async fn register(&self, effect: &Effect) -> Result<()> {
        if let Some(table) = &effect.creates {
            match self.catalog.table(&table.name).await? {
                // Ours, from an earlier try: nobody else commits to an empty folder at the same time.
                Some(found) if found.location == table.location && found.columns == table.columns => {}
                Some(_) => {
                    let message = format!("table \"{}\" exists already", table.name);
                    return Err(Error::user("TABLE_ALREADY_EXISTS", message));
                }
                None => self.catalog.create_table((**table).clone(), Vec::new()).await?,
            }
        }
        let Some(partitions) = &effect.partitions else { return Ok(()) };
        match self.catalog.add_partitions(&partitions.table, partitions.added.clone(), IfExists::Keep).await {
            Err(error) if error.code().0 == "TABLE_NOT_FOUND" => Ok(()),
            other => other.map(drop),
        }
    }

    async fn catalog(&self) -> Result<Option<String>> {
        self.catalog.id().await.map(Some)
    }

    async fn expect_table(&self) -> Result<()> {
        let Some((name, location)) = &self.written else { return Ok(()) };
        match self.catalog.table(name).await? {
            Some(found) if found.location == *location => Ok(()),
            _ => {
                let message = format!("table \"{name}\" was dropped or moved while the statement ran");
                Err(Error::user("TABLE_NOT_FOUND", message).with_hint("nothing of it was written"))
            }
        }
    }
}
