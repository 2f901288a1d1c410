//! DynamoDB: tables that are written by key, read by scan or by key, and followed through their change stream.
//!
//! ```text
//! sink:   outbox ──commit(epoch)──> last write of each key ──> BatchWriteItem, or PutItem on condition
//! ```
//!
//! Invariant: an item is always written whole and absolutely, so that writing it again changes nothing.

mod decode;
mod deliver;
mod encode;
mod keys;
mod options;
mod pace;
mod pages;
mod provider;
mod rows;
mod sink;
mod size;

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use headwater_engine::{
    connector::{Connector, Sink, Source, TableSpec},
    error::{Error, Result},
};

/// What the service is called in the environment and in profiles.
const SERVICE: &str = "DynamoDB";

/// `'connector' = 'dynamodb'`: a table of items.
#[derive(Debug, Clone, Copy, Default)]
pub struct DynamoDb;

impl Connector for DynamoDb {
    fn name(&self) -> &'static str {
        "dynamodb"
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>> {
        Err(Error::not_supported(format!("the DynamoDB table \"{}\" as a stream", table.name)).with_hint(
            "read its changes with 'connector' = 'dynamodb-streams', or SELECT from it in a batch statement",
        ))
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(sink::DynamoSink::new(table)?))
    }

    fn query_table(&self, table: &TableSpec) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(Some(Arc::new(provider::DynamoTable::new(table)?)))
    }
}
