//! The `filesystem` connector: lake folders as sources and sinks of jobs.
//!
//! ```text
//!  rows -> units (a file that will be; its rows wait in the outbox) -> closed by size, age, silence
//!       -> commit(epoch): encode, stage hidden, publish under part-<job>-<generation>-<epoch>-<task>-<n>
//! ```
//!
//! Invariant: the name of a file follows from its unit and its epoch alone, so that a repeated commit finds it there.

mod deliver;
mod options;
mod sink;
mod units;

#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use headwater_engine::{
    catalog::{Catalog, Table},
    connector::{Connector, Sink, Source, TableSpec},
    error::{Error, Result},
};

pub use self::{options::SinkOptions, sink::FilesystemSink};
use crate::lake::stores::Stores;

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

    /// A sink into a table of the catalog, as its DDL declares it.
    pub fn sink_of_table(&self, table: &Table) -> Result<Arc<dyn Sink>> {
        let options = SinkOptions::of_properties(&table.properties)?;
        let sink = FilesystemSink::new(table.clone(), options, self.stores.clone(), self.catalog.clone())?;
        Ok(Arc::new(sink))
    }
}

impl Connector for Filesystem {
    fn name(&self) -> &'static str {
        "filesystem"
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>> {
        Err(Error::not_supported(format!("table \"{}\": a folder is not read by a job", table.name)))
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>> {
        let (table, options) = options::of_spec(table)?;
        Ok(Arc::new(FilesystemSink::new(table, options, self.stores.clone(), None)?))
    }
}
