//! HTTP: events that clients send, as a table; the Kinesis and Firehose calls of AWS's SDKs are understood too.
//!
//! ```text
//! request ──auth──> records ──group commit──> log on the local disk ──> answer
//!                                               └──> HttpReader ──> source task ──checkpoint──> acknowledge: segments go
//! ```
//!
//! Invariant: a record is on disk before its request is answered, and leaves the disk only after a published checkpoint
//! holds its offset.

mod api;
mod auth;
mod body;
mod budget;
mod listener;
mod log;
mod options;
mod reader;
mod record;
mod reply;
mod segment;
mod server;
mod services;
mod source;

use std::sync::Arc;

use headwater_engine::{
    connector::{Connector, MetadataColumn, Sink, Source, TableSpec},
    error::{Error, Result},
};

/// `'connector' = 'http'`: a listener. Tables of one address share it, so one value serves a whole session.
#[derive(Debug, Default)]
pub struct Http {
    listeners: Arc<listener::Listeners>,
}

impl Connector for Http {
    fn name(&self) -> &'static str {
        "http"
    }

    fn metadata_columns(&self) -> Vec<MetadataColumn> {
        record::metadata_columns()
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(source::HttpSource::new(table, Arc::clone(&self.listeners))?))
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>> {
        Err(Error::not_supported(format!("table \"{}\": an http table is read, not written", table.name))
            .with_hint("write to a filesystem, kinesis, kafka or dynamodb table"))
    }
}
