//! A catalog that lives as long as its process: for tests and for sessions that keep nothing.
//!
//! Invariant: one lock guards everything, so each call is atomic.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use headwater_engine::{
    catalog::{Catalog, Database, IfExists, Partition, Table, TableName},
    error::Result,
};
use parking_lot::Mutex;

use super::{
    DEFAULT_DATABASE, changed, database_exists, default_database, is_taken, keeps_default, no_database, no_partition,
    no_table, not_empty, partition_exists, table_exists, to_store,
};

type Partitions = BTreeMap<Vec<Option<String>>, Partition>;

/// The catalog.
#[derive(Debug)]
pub struct MemoryCatalog {
    id: String,
    entries: Mutex<Entries>,
}

#[derive(Debug)]
struct Entries {
    databases: BTreeMap<String, Database>,
    tables: BTreeMap<TableName, (Arc<Table>, Partitions)>,
}

impl Default for MemoryCatalog {
    fn default() -> Self {
        let databases = BTreeMap::from([(DEFAULT_DATABASE.to_owned(), default_database())]);
        let id = uuid::Uuid::new_v4().to_string();
        Self { id, entries: Mutex::new(Entries { databases, tables: BTreeMap::new() }) }
    }
}

#[async_trait]
impl Catalog for MemoryCatalog {
    async fn id(&self) -> Result<String> {
        Ok(self.id.clone())
    }

    async fn databases(&self) -> Result<Vec<Database>> {
        Ok(self.entries.lock().databases.values().cloned().collect())
    }

    async fn database(&self, name: &str) -> Result<Option<Database>> {
        Ok(self.entries.lock().databases.get(&name.to_lowercase()).cloned())
    }

    async fn create_database(&self, mut database: Database) -> Result<()> {
        database.name = database.name.to_lowercase();
        let mut entries = self.entries.lock();
        if entries.databases.contains_key(&database.name) {
            return Err(database_exists(&database.name));
        }
        entries.databases.insert(database.name.clone(), database);
        Ok(())
    }

    async fn replace_database(&self, mut database: Database) -> Result<()> {
        database.name = database.name.to_lowercase();
        let mut entries = self.entries.lock();
        let known = entries.databases.get_mut(&database.name).ok_or_else(|| no_database(&database.name))?;
        *known = database;
        Ok(())
    }

    async fn drop_database(&self, name: &str, cascade: bool) -> Result<()> {
        let name = name.to_lowercase();
        let mut entries = self.entries.lock();
        if name == DEFAULT_DATABASE {
            return Err(keeps_default());
        }
        if !entries.databases.contains_key(&name) {
            return Err(no_database(&name));
        }
        if !cascade && entries.tables.keys().any(|table| table.database == name) {
            return Err(not_empty(&name));
        }
        entries.tables.retain(|table, _| table.database != name);
        entries.databases.remove(&name);
        Ok(())
    }

    async fn tables(&self, database: &str) -> Result<Vec<Arc<Table>>> {
        let database = database.to_lowercase();
        let entries = self.entries.lock();
        if !entries.databases.contains_key(&database) {
            return Err(no_database(&database));
        }
        let tables = entries.tables.values().filter(|(table, _)| table.name.database == database);
        Ok(tables.map(|(table, _)| Arc::clone(table)).collect())
    }

    async fn table(&self, name: &TableName) -> Result<Option<Arc<Table>>> {
        Ok(self.entries.lock().tables.get(name).map(|(table, _)| Arc::clone(table)))
    }

    async fn create_table(&self, mut table: Table, partitions: Vec<Partition>) -> Result<()> {
        let mut entries = self.entries.lock();
        if !entries.databases.contains_key(&table.name.database) {
            return Err(no_database(&table.name.database));
        }
        if entries.tables.contains_key(&table.name) {
            return Err(table_exists(&table.name));
        }
        table.version = 1;
        let partitions =
            partitions.into_iter().map(|partition| (partition.values.clone(), partition)).collect::<Partitions>();
        entries.tables.insert(table.name.clone(), (Arc::new(table), partitions));
        Ok(())
    }

    async fn replace_table(&self, mut table: Table) -> Result<()> {
        let mut entries = self.entries.lock();
        let (known, _) = entries.tables.get_mut(&table.name).ok_or_else(|| no_table(&table.name))?;
        if known.version != table.version {
            return Err(changed(&table.name));
        }
        table.version += 1;
        *known = Arc::new(table);
        Ok(())
    }

    async fn drop_table(&self, name: &TableName) -> Result<bool> {
        Ok(self.entries.lock().tables.remove(name).is_some())
    }

    async fn partitions(&self, name: &TableName) -> Result<Vec<Partition>> {
        let entries = self.entries.lock();
        let (_, partitions) = entries.tables.get(name).ok_or_else(|| no_table(name))?;
        Ok(partitions.values().cloned().collect())
    }

    async fn add_partitions(&self, name: &TableName, added: Vec<Partition>, exists: IfExists) -> Result<usize> {
        let mut entries = self.entries.lock();
        let (table, registered) = entries.tables.get_mut(name).ok_or_else(|| no_table(name))?;
        let mut next = registered.clone();
        let mut count = 0;
        for partition in added {
            let found = (next.contains_key(&partition.values), is_taken(table, next.values(), &partition));
            if let Some(partition) = to_store(name, exists, found, partition)? {
                next.insert(partition.values.clone(), partition);
                count += 1;
            }
        }
        *registered = next;
        Ok(count)
    }

    async fn rename_partition(&self, name: &TableName, from: &[Option<String>], to: Partition) -> Result<()> {
        let mut entries = self.entries.lock();
        let (_, registered) = entries.tables.get_mut(name).ok_or_else(|| no_table(name))?;
        if to.values != from && registered.contains_key(&to.values) {
            return Err(partition_exists(name, &to.values));
        }
        registered.remove(from).ok_or_else(|| no_partition(name, from))?;
        registered.insert(to.values.clone(), to);
        Ok(())
    }

    async fn drop_partitions(&self, name: &TableName, values: &[Vec<Option<String>>]) -> Result<usize> {
        let mut entries = self.entries.lock();
        let (_, registered) = entries.tables.get_mut(name).ok_or_else(|| no_table(name))?;
        Ok(values.iter().filter(|values| registered.remove(*values).is_some()).count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn conforms() -> Result<()> {
        super::super::conformance::check(&MemoryCatalog::default()).await
    }
}
