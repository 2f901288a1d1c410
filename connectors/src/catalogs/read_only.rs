//! A catalog that cannot be written: what is in it can be read, and every change is refused with the reason.
//!
//! Invariant: nothing that a statement declares here is forgotten in silence.

use std::sync::Arc;

use async_trait::async_trait;
use headwater_engine::{
    catalog::{Catalog, Database, IfExists, Partition, Table, TableName},
    error::{Error, Result},
};

/// The catalog.
#[derive(Debug)]
pub struct ReadOnlyCatalog {
    found: Arc<dyn Catalog>,
    reason: Error,
}

impl ReadOnlyCatalog {
    /// What was found, and why it cannot be written.
    pub fn new(found: Arc<dyn Catalog>, reason: Error) -> Self {
        Self { found, reason }
    }

    fn refused<T>(&self) -> Result<T> {
        let reason = self.reason.duplicate();
        Err(match reason.hint() {
            Some(_) => reason,
            None => reason.with_hint("name a folder that can be written: --state DIR, or --catalog FILE"),
        })
    }
}

#[async_trait]
impl Catalog for ReadOnlyCatalog {
    /// Asked for by those who are about to register something.
    async fn id(&self) -> Result<String> {
        self.refused()
    }

    async fn databases(&self) -> Result<Vec<Database>> {
        self.found.databases().await
    }

    async fn database(&self, name: &str) -> Result<Option<Database>> {
        self.found.database(name).await
    }

    async fn create_database(&self, _: Database) -> Result<()> {
        self.refused()
    }

    async fn replace_database(&self, _: Database) -> Result<()> {
        self.refused()
    }

    async fn drop_database(&self, _: &str, _: bool) -> Result<()> {
        self.refused()
    }

    async fn tables(&self, database: &str) -> Result<Vec<Arc<Table>>> {
        self.found.tables(database).await
    }

    async fn table(&self, name: &TableName) -> Result<Option<Arc<Table>>> {
        self.found.table(name).await
    }

    async fn create_table(&self, _: Table, _: Vec<Partition>) -> Result<()> {
        self.refused()
    }

    async fn replace_table(&self, _: Table) -> Result<()> {
        self.refused()
    }

    async fn drop_table(&self, _: &TableName) -> Result<bool> {
        self.refused()
    }

    async fn partitions(&self, name: &TableName) -> Result<Vec<Partition>> {
        self.found.partitions(name).await
    }

    async fn add_partitions(&self, _: &TableName, _: Vec<Partition>, _: IfExists) -> Result<usize> {
        self.refused()
    }

    async fn rename_partition(&self, _: &TableName, _: &[Option<String>], _: Partition) -> Result<()> {
        self.refused()
    }

    async fn drop_partitions(&self, _: &TableName, _: &[Vec<Option<String>>]) -> Result<usize> {
        self.refused()
    }
}
