//! A table of the catalog as a connector: its DDL says where its files are, and its properties how a job treats them.
//!
//! Invariant: the options of a [`TableSpec`] are not looked at; everything comes from the catalog's entry.

use std::sync::Arc;

use headwater_engine::{
    catalog::Table,
    connector::{Connector, MetadataColumn, Sink, Source, TableSpec},
    error::Result,
};

use super::Filesystem;

/// One table of the catalog.
#[derive(Debug, Clone)]
pub struct CatalogedTable {
    filesystem: Filesystem,
    table: Arc<Table>,
}

impl CatalogedTable {
    /// The table, over the stores and the catalog of a connector.
    pub fn new(filesystem: Filesystem, table: Arc<Table>) -> Self {
        Self { filesystem, table }
    }
}

impl Connector for CatalogedTable {
    fn name(&self) -> &'static str {
        self.filesystem.name()
    }

    fn metadata_columns(&self) -> Vec<MetadataColumn> {
        self.filesystem.metadata_columns()
    }

    fn source(&self, _table: &TableSpec) -> Result<Arc<dyn Source>> {
        self.filesystem.source_of_table(&self.table)
    }

    fn sink(&self, _table: &TableSpec) -> Result<Arc<dyn Sink>> {
        self.filesystem.sink_of_table(&self.table)
    }
}
