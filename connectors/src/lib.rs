//! The outside world of Headwater: the lake (files on S3 or local), Kafka, Kinesis, DynamoDB, HTTP; formats; catalogs.
//!
//! Knows the engine's seams and no SQL text.

mod aws;
pub mod blackhole;
pub mod catalogs;
pub mod datagen;
pub mod dynamodb;
pub mod formats;
pub mod http;
pub mod kafka;
pub mod kinesis;
pub mod lake;
pub mod leaf;
mod lookup;
pub mod memory;
pub mod options;
pub mod print;

use std::sync::Arc;

use headwater_engine::connector::Connector;

/// Every outside system: the one list.
pub fn all() -> Vec<Arc<dyn Connector>> {
    vec![
        Arc::new(kafka::Kafka),
        Arc::new(kafka::UpsertKafka),
        Arc::new(kinesis::Kinesis::default()),
        Arc::new(dynamodb::DynamoDb),
        Arc::new(dynamodb::DynamoDbStreams),
        Arc::new(http::Http::default()),
        Arc::new(memory::Memory::default()),
        Arc::new(datagen::Datagen),
        Arc::new(print::Print),
        Arc::new(blackhole::Blackhole),
    ]
}
