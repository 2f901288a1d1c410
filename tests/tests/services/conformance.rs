//! The conformance suites over connectors that need a server.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Result;
use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use futures::FutureExt;
use headwater_connectors::{kafka::Kafka as KafkaConnector, kinesis::Kinesis};
use headwater_engine::connector::{Connector, Sink, Source, TableSpec};
use headwater_tests::{
    conformance::{SinkUnderTest, rows_of, sink_conforms, source_conforms},
    services::{Kafka, KinesisLocal, Sent, Topics},
};

use super::kinesis;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("word", DataType::Utf8, true)]))
}

fn spec(options: &[(&str, &str)]) -> TableSpec {
    let options: BTreeMap<String, String> =
        options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    TableSpec {
        name: "t".to_owned(),
        schema: schema(),
        metadata: Vec::new(),
        options,
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
    }
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
        let words = StringArray::from_iter_values((0..12).map(|n| format!("w{n}")));
        let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(0..12)), Arc::new(words)];
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
            rows: RecordBatch::try_new(schema(), columns)?,
            asks_fence: true,
        };
        sink_conforms(sink, folder.path()).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_conforms_as_source() -> Result<()> {
    let server = KinesisLocal::start()?;
    let client = kinesis::client(&server.endpoint);
    kinesis::create(&client, "numbers", 2).await?;
    kinesis::put(&client, "numbers", 0..400).await?;
    let options = [
        ("stream", "numbers"),
        ("format", "json"),
        ("aws.region", "us-east-1"),
        ("aws.endpoint", server.endpoint.as_str()),
        ("aws.credentials.basic.accesskeyid", "id"),
        ("aws.credentials.basic.secretkey", "secret"),
    ];
    let folder = tempfile::tempdir()?;
    let columns = Arc::new(schema().project(&[0])?);
    source_conforms(Kinesis::default().source(&spec(&options))?, columns, folder.path()).await
}
