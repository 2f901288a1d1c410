//! DynamoDB: tables that are written by key, read by scan or by key, and followed through their change stream.
//!
//! ```text
//! sink:     outbox ──commit(epoch)──> last write of each key ──> BatchWriteItem, PutItem on condition, or
//!                                                                TransactWriteItems
//! query:    key given ──> GetItem, Query      else ──> Scan in segments
//! lookup:   keys of a batch ──> BatchGetItem, Query ──> rows, cached if the table says so
//! streams:  streams of the table ──> shards, parents first ──> change records ──> rows
//! ```
//!
//! Invariant: an item is always written whole and absolutely, so that writing it again changes nothing.

mod attributes;
mod changes;
mod decode;
mod deliver;
mod encode;
mod keys;
mod lookup;
mod options;
mod pages;
mod provider;
mod pump;
mod rows;
mod sink;
mod size;
mod source;
mod streams;
mod transact;

/// What the format of change records needs.
pub(crate) mod cdc {
    pub(crate) use super::{
        attributes::{item_of_json, tagged_json},
        changes::{CHANGE_ID, CHANGE_ORDER, Change, ChangeDecoder, ChangeMode, Event},
    };
}

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use headwater_engine::{
    connector::{Connector, KeyedTable, MetadataColumn, Sink, Source, TableSpec},
    error::{Error, Result},
    graph::Malformed,
};

/// What the service is called in the environment and in profiles.
const SERVICE: &str = "DynamoDB";

/// `'connector' = 'dynamodb'`: a table of items.
#[derive(Debug, Clone, Copy, Default)]
pub struct DynamoDb;

#[async_trait]
impl Connector for DynamoDb {
    fn name(&self) -> &'static str {
        "dynamodb"
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(source::DynamoSource::new(table)?))
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(sink::DynamoSink::new(table)?))
    }

    async fn key_outside(&self, table: &TableSpec) -> Result<Vec<String>> {
        sink::DynamoSink::new(table)?.key().await
    }

    fn query_table(&self, table: &TableSpec, malformed: Malformed) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(Some(Arc::new(provider::DynamoTable::new(table, malformed)?)))
    }

    fn keyed_table(&self, table: &TableSpec, malformed: Malformed) -> Result<Option<Arc<dyn KeyedTable>>> {
        Ok(Some(Arc::new(lookup::DynamoLookup::new(table, malformed)?)))
    }
}

/// `'connector' = 'dynamodb-streams'`: the changes of a table.
#[derive(Debug, Clone, Copy, Default)]
pub struct DynamoDbStreams;

impl Connector for DynamoDbStreams {
    fn name(&self) -> &'static str {
        "dynamodb-streams"
    }

    fn metadata_columns(&self) -> Vec<MetadataColumn> {
        changes::metadata_columns()
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(streams::StreamSource::new(table)?))
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>> {
        Err(Error::not_supported(format!("writing to the change stream \"{}\"", table.name))
            .with_hint("write to the table itself with 'connector' = 'dynamodb'"))
    }
}
