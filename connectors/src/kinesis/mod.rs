//! Kinesis: streams as tables; a shard is a split.
//!
//! ```text
//! source:  a task a shard ──GetRecords, or a subscription──> bounded channel ──> KinesisReader ──> source task
//! sink:    rows ──> PutRecords, in order per key ──> confirmed at the barrier (at least once)
//! ```
//!
//! Parents are read before children: the engine holds a shard back until the shards it came from have ended. The service
//! is spoken to in JSON, the one protocol of the AWS SDK for Rust; CBOR, which other SDKs use, would save a quarter of the
//! bytes and means the same.
//!
//! Invariant: where a job resumes is in its checkpoint, as a sequence number or a time; the stream knows nothing of it.

mod aggregate;
mod api;
mod client;
mod fan_out;
mod offset;
mod options;
mod pace;
mod put;
mod reader;
mod records;
mod shard;
mod sink;
mod source;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use headwater_engine::{
    connector::{Connector, MetadataColumn, Sink, Source, TableSpec},
    error::Result,
};

/// `'connector' = 'kinesis'`: a data stream. Its tables share what a shard allows.
#[derive(Debug, Clone, Default)]
pub struct Kinesis {
    quotas: pace::Quotas,
}

impl Connector for Kinesis {
    fn name(&self) -> &'static str {
        "kinesis"
    }

    fn metadata_columns(&self) -> Vec<MetadataColumn> {
        records::metadata_columns()
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(source::KinesisSource::new(table, self.quotas.clone())?))
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(sink::KinesisSink::new(table)?))
    }
}
