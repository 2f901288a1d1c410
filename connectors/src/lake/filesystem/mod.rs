//! The `filesystem` connector: lake folders as sources and sinks of jobs.
//!
//! ```text
//!  rows -> units (a file that will be; its rows wait in the outbox) -> closed by size, age, silence
//!       -> commit(epoch): encode, stage hidden, publish under part-<job>-<incarnation>-<generation>-<epoch>-<task>-<n>
//! ```
//!
//! Invariant: the name of a file follows from its job's incarnation, its unit and its epoch alone, so that a repeated commit finds it there.

mod again;
mod cataloged;
mod deliver;
mod failure;
mod growing;
mod keys_query;
mod names;
mod options;
mod partition_time;
mod prefix;
mod reader;
mod sink;
mod source;
mod units;
mod writer;

#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use arrow::datatypes::{DataType, TimeUnit};
use headwater_engine::{
    catalog::{Catalog, Table},
    connector::{Connector, MetadataColumn, Sink, Source, TableSpec},
    error::Result,
};

pub use self::{
    cataloged::CatalogedTable,
    options::{ObjectNames, Overflow, PartitionPolicy, SinkOptions, SourceOptions},
    prefix::{Prefix, Purpose},
    sink::FilesystemSink,
    source::FilesystemSource,
};
use crate::{catalogs::memory::MemoryCatalog, lake::stores::Stores};

/// Makes sources and sinks of folders.
#[derive(Clone)]
pub struct Filesystem {
    stores: Arc<Stores>,
    catalog: Option<Arc<dyn Catalog>>,
}

impl fmt::Debug for Filesystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filesystem")
    }
}

impl Filesystem {
    /// A connector over these stores; partitions of cataloged tables are registered in `catalog`.
    pub fn new(stores: Arc<Stores>, catalog: Option<Arc<dyn Catalog>>) -> Self {
        Self { stores, catalog }
    }

    /// A source of a table of the catalog, as its DDL declares it.
    pub fn source_of_table(&self, table: &Table) -> Result<Arc<dyn Source>> {
        let options = SourceOptions::of_properties(&table.properties)?;
        Ok(Arc::new(FilesystemSource::new(table.clone(), options, self.stores.clone(), self.some_catalog())?))
    }

    /// The catalog, or an empty one for tables that are in none.
    fn some_catalog(&self) -> Arc<dyn Catalog> {
        self.catalog.clone().unwrap_or_else(|| Arc::new(MemoryCatalog::default()))
    }

    /// A sink into a table of the catalog, as its DDL declares it.
    pub fn sink_of_table(&self, table: &Table) -> Result<Arc<dyn Sink>> {
        let options = SinkOptions::of_properties(&table.properties)?;
        let keys = (0..table.partition_keys.len()).map(|key| table.columns.len() + key).collect();
        let sink = FilesystemSink::new(table.clone(), options, self.stores.clone(), self.catalog.clone())?;
        Ok(Arc::new(sink.with_keys(keys)))
    }
}

impl Connector for Filesystem {
    fn name(&self) -> &'static str {
        "filesystem"
    }

    fn metadata_columns(&self) -> Vec<MetadataColumn> {
        let column = |key, data_type| MetadataColumn { key, data_type, writable: false };
        vec![
            column("file.path", DataType::Utf8),
            column("file.size", DataType::Int64),
            column("file.modification-time", DataType::Timestamp(TimeUnit::Millisecond, None)),
        ]
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>> {
        let (table, options, _) = options::of_spec(table)?;
        Ok(Arc::new(FilesystemSource::new(table, options, self.stores.clone(), self.some_catalog())?))
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>> {
        let keys = table.partitioned_by.iter().filter_map(|key| table.schema.index_of(key).ok()).collect();
        let (table, _, options) = options::of_spec(table)?;
        Ok(Arc::new(FilesystemSink::new(table, options, self.stores.clone(), None)?.with_keys(keys)))
    }
}
