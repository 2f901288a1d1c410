//! The conformance suites over connectors that need a server.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context, Result};
use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use aws_sdk_dynamodb::types::{AttributeValue, ScalarAttributeType};
use futures::FutureExt;
use headwater_connectors::{
    dynamodb::{DynamoDb, DynamoDbStreams},
    kafka::Kafka as KafkaConnector,
    kinesis::Kinesis,
    lake::{filesystem::Filesystem, stores::Stores},
};
use headwater_engine::connector::{Connector, Sink, Source, TableSpec};
use headwater_tests::{
    conformance::{SinkUnderTest, rows_of, sink_conforms, source_conforms},
    services::{Kafka, KinesisLocal, Minio, Ministack, Sent, Topics},
};
use object_store::aws::AmazonS3Builder;

use super::{dynamodb, kinesis};

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("word", DataType::Utf8, true)]))
}

fn spec(options: &[(&str, &str)]) -> TableSpec {
    TableSpec::new("t", schema(), options.iter().copied())
}

fn rows() -> Result<RecordBatch> {
    let words = StringArray::from_iter_values((0..12).map(|n| format!("w{n}")));
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(0..12)), Arc::new(words)];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_conforms_as_source_and_as_sink() -> Result<()> {
    let kafka = Kafka::start()?;
    let (topics, folder) = (Topics::of(&kafka.brokers), tempfile::tempdir()?);
    let servers = ("properties.bootstrap.servers", kafka.brokers.as_str());
    let start = ("scan.startup.mode", "earliest-offset");
    for (topic, more) in [
        ("plain", &[][..]),
        // Keys that are columns make rows of the source's own.
        ("keyed", &[("key.format", "json"), ("key.fields", "n"), ("value.fields-include", "EXCEPT_KEY")][..]),
    ] {
        let (from, into) = (format!("{topic}-in"), format!("{topic}-out"));
        topics.create(&from, 3, &[]).await?;
        topics.create(&into, 3, &[]).await?;
        let record = |n: i64| match topic {
            "plain" => Sent::value(format!("{{\"n\":{n},\"word\":\"w{n}\"}}")),
            _ => Sent::keyed(&format!("{{\"n\":{n}}}"), format!("{{\"word\":\"w{n}\"}}")),
        };
        for chunk in 0..4 {
            let records: Vec<Sent> = (chunk * 400..(chunk + 1) * 400).map(record).collect();
            topics.send(&from, &records, Some((topic, chunk % 2 == 0)))?;
        }
        let mut options = vec![servers, start, ("format", "json")];
        options.extend(more);
        let read = [options.clone(), vec![("topic", from.as_str())]].concat();
        source_conforms(KafkaConnector.source(&spec(&read))?, schema(), folder.path()).await?;

        let written = spec(&[options, vec![("topic", into.as_str())]].concat());
        let (declared, state) = (written.clone(), folder.path().to_owned());
        let sink = SinkUnderTest {
            open: Box::new(|| Ok(KafkaConnector.sink(&written)? as Arc<dyn Sink>)),
            visible: Box::new(move || {
                let (declared, state) = (declared.clone(), state.clone());
                async move {
                    let source: Arc<dyn Source> = KafkaConnector.source(&declared)?;
                    rows_of(&source, &schema(), &state).await
                }
                .boxed()
            }),
            rows: rows()?,
            asks_fence: true,
        };
        sink_conforms(sink, folder.path()).await?;
    }
    Ok(())
}

/// A stream of two shards with 400 records, read by polling or by fan-out.
async fn stream_conforms(endpoint: &str, more: &[(&str, &str)]) -> Result<()> {
    let client = kinesis::client(endpoint);
    kinesis::create(&client, "numbers", 2).await?;
    kinesis::put(&client, "numbers", 0..400).await?;
    let mut options = vec![
        ("stream", "numbers"),
        ("format", "json"),
        ("aws.region", "us-east-1"),
        ("aws.endpoint", endpoint),
        ("aws.credentials.basic.accesskeyid", "id"),
        ("aws.credentials.basic.secretkey", "secret"),
    ];
    options.extend(more);
    let folder = tempfile::tempdir()?;
    let columns = Arc::new(schema().project(&[0])?);
    source_conforms(Kinesis::default().source(&spec(&options))?, columns, folder.path()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_conforms_as_source() -> Result<()> {
    let server = KinesisLocal::start()?;
    stream_conforms(&server.endpoint, &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_conforms_as_source_by_fan_out() -> Result<()> {
    let server = Ministack::start()?;
    let fan_out = [("source.reader.type", "EFO"), ("source.efo.consumer.name", "suite")];
    stream_conforms(&server.endpoint, &fan_out).await
}

#[tokio::test(flavor = "multi_thread")]
async fn items_conform_as_sink_and_as_source() -> Result<()> {
    let (server, folder) = (dynamodb::local()?, tempfile::tempdir()?);
    let client = dynamodb::client(&server.endpoint);
    dynamodb::create(&client, "conforming-fences", &[("entry", ScalarAttributeType::S)]).await?;
    for fencing in ["check", "item", "transaction"] {
        let table = format!("conforming-{fencing}");
        dynamodb::create(&client, &table, &[("n", ScalarAttributeType::N)]).await?;
        let mut options = vec![("sink.fencing", fencing)];
        options.extend((fencing == "transaction").then_some(("sink.fencing.table-name", "conforming-fences")));
        let written = dynamodb::spec(&server.endpoint, &table, schema(), &options);
        let scanned = dynamodb::spec(&server.endpoint, &table, schema(), &[]);
        let (declared, state) = (scanned.clone(), folder.path().to_owned());
        let sink = SinkUnderTest {
            open: Box::new(|| dynamodb::sink(&written)),
            visible: Box::new(move || {
                let (declared, state) = (declared.clone(), state.clone());
                async move {
                    let source: Arc<dyn Source> = DynamoDb.source(&declared)?;
                    rows_of(&source, &schema(), &state).await
                }
                .boxed()
            }),
            rows: rows()?,
            asks_fence: true,
        };
        sink_conforms(sink, folder.path()).await.with_context(|| format!("sink.fencing = {fencing}"))?;
        source_conforms(DynamoDb.source(&scanned)?, schema(), folder.path()).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_stream_conforms_as_source() -> Result<()> {
    let (server, folder) = (dynamodb::local()?, tempfile::tempdir()?);
    let client = dynamodb::client(&server.endpoint);
    dynamodb::create(&client, "conforming-changes", &[("n", ScalarAttributeType::N)]).await?;
    dynamodb::reading::set_stream(&client, "conforming-changes", true).await?;
    for n in 0..60 {
        let item =
            client.put_item().table_name("conforming-changes").item("n", AttributeValue::N((n % 40).to_string()));
        item.item("word", AttributeValue::S(format!("w{n}"))).send().await?;
    }
    let changes =
        dynamodb::spec(&server.endpoint, "conforming-changes", schema(), &[("source.shard.idle-wait", "20 ms")]);
    source_conforms(DynamoDbStreams.source(&changes)?, schema(), folder.path()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_conforms_as_sink_and_as_source() -> Result<()> {
    let minio = Minio::start()?;
    minio.create_bucket("lake")?;
    let store = AmazonS3Builder::new()
        .with_endpoint(&minio.endpoint)
        .with_allow_http(true)
        .with_bucket_name("lake")
        .with_region("us-east-1")
        .with_access_key_id(&minio.access_key)
        .with_secret_access_key(&minio.secret_key)
        .build()?;
    let stores = Arc::new(Stores::new(BTreeMap::new(), "/".into()));
    stores.give("s3", "lake", Arc::new(store));
    let files = Filesystem::new(stores, None);
    let folder = tempfile::tempdir()?;
    for (format, roll) in [("json", "1 b"), ("csv", "128 mb"), ("parquet", "128 mb")] {
        let path = format!("s3://lake/{format}/");
        let options = [("path", path.as_str()), ("format", format), ("sink.rolling-policy.file-size", roll)];
        let table = spec(&options);
        let (files, table, state) = (&files, &table, folder.path());
        let sink = SinkUnderTest {
            open: Box::new(|| Ok(Connector::sink(files, table)?)),
            visible: Box::new(move || {
                async move {
                    let source: Arc<dyn Source> = Connector::source(files, table)?;
                    rows_of(&source, &schema(), state).await
                }
                .boxed()
            }),
            rows: rows()?,
            asks_fence: false,
        };
        sink_conforms(sink, folder.path()).await.with_context(|| path.clone())?;
        source_conforms(Connector::source(files, table)?, schema(), folder.path())
            .await
            .with_context(|| path.clone())?;
    }
    Ok(())
}
