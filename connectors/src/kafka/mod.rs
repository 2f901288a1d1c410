//! Kafka: topics as tables, through librdkafka.
//!
//! ```text
//! source:  consumer thread ──bounded channel──> KafkaReader ──> task       (offsets live in the checkpoint only)
//! sink:    outbox ──commit(epoch)──> transaction [records.., offset (epoch, chunk) of the sink's own group]
//! ```
//!
//! Invariant: neither direction keeps progress in Kafka that a restart relies on, except the offset a sink's
//! transaction commits together with its records.

mod client;
mod commit;
mod keyed;
mod options;
mod producer;
mod queue;
mod reader;
mod records;
mod rows;
mod sink;
mod source;
mod start;

use std::sync::Arc;

use arrow::datatypes::DataType;
use headwater_engine::{
    connector::{Connector, MetadataColumn, Sink, Source, TableSpec},
    error::Result,
};

/// `'connector' = 'kafka'`: a topic as a log of rows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kafka;

/// `'connector' = 'upsert-kafka'`: a topic as a changelog by key, a record without value being a delete.
#[derive(Debug, Clone, Copy, Default)]
pub struct UpsertKafka;

/// How a topic is read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Append,
    Upsert,
}

impl Connector for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn metadata_columns(&self) -> Vec<MetadataColumn> {
        records::metadata_columns()
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(source::KafkaSource::new(table, Mode::Append)?))
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(sink::KafkaSink::new(table, Mode::Append)?))
    }
}

impl Connector for UpsertKafka {
    fn name(&self) -> &'static str {
        "upsert-kafka"
    }

    fn metadata_columns(&self) -> Vec<MetadataColumn> {
        records::metadata_columns()
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(source::KafkaSource::new(table, Mode::Upsert)?))
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(sink::KafkaSink::new(table, Mode::Upsert)?))
    }
}

fn timestamp_type() -> DataType {
    DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None)
}
