//! The catalog's part in a commit: the table of a `CREATE TABLE AS`, and new partitions.
//!
//! Invariant: repeating it changes nothing; a table that was dropped meanwhile is no error, its files are published as
//! they would have been a moment earlier.

use std::sync::Arc;

use async_trait::async_trait;
use headwater_engine::{
    catalog::{Catalog, IfExists},
    error::{Error, Result},
};

use super::{Effect, Registrar};

/// Registers with a catalog.
#[derive(Debug, Clone)]
pub struct CatalogRegistrar {
    catalog: Arc<dyn Catalog>,
}

impl CatalogRegistrar {
    /// A registrar of this catalog.
    pub fn new(catalog: Arc<dyn Catalog>) -> Self {
        Self { catalog }
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
}
