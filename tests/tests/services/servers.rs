//! Each server of the suite starts and accepts connections.

use anyhow::Result;
use headwater_tests::services::{DynamoDbLocal, Kafka, KinesisLocal, Minio, Ministack};

#[test]
fn kafka_starts_and_restarts() -> Result<()> {
    let mut kafka = Kafka::start()?;
    kafka.restart()
}

#[test]
fn minio_starts() -> Result<()> {
    Minio::start()?.create_bucket("lake")
}

#[test]
fn dynamodb_starts() -> Result<()> {
    DynamoDbLocal::start().map(drop)
}

#[test]
fn kinesis_starts() -> Result<()> {
    KinesisLocal::start().map(drop)
}

#[test]
fn ministack_starts() -> Result<()> {
    Ministack::start().map(drop)
}
