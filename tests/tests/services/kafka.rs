//! Kafka's source and sink against a real broker: offsets, ends, transactions and what a crash leaves.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use arrow::{
    array::{AsArray, BinaryArray, RecordBatch},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use futures::StreamExt;
use headwater_connectors::kafka::Kafka as KafkaConnector;
use headwater_engine::{
    connector::{
        Bound, CommitFacts, Committable, Connector, JobContext, Offset, OpenRequest, Source, SourceData, SourceEvent,
        Split, SplitStart, StartAt, TableSpec,
    },
    error::ErrorKind,
    message::{ChangeBatch, Epoch},
    testing::{Overtaken, job_context},
};
use headwater_tests::services::Kafka;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};

fn job() -> JobContext {
    job_context("counts")
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("raw", DataType::Binary, true)]))
}

fn table(kafka: &Kafka, topic: &str, extra: &[(&str, &str)]) -> TableSpec {
    let options = [
        ("topic", topic),
        ("properties.bootstrap.servers", &kafka.brokers),
        ("scan.startup.mode", "earliest-offset"),
        ("format", "raw"),
    ];
    TableSpec::new(topic, schema(), options.into_iter().chain(extra.iter().copied()))
}

async fn create_topic(kafka: &Kafka, name: &str, partitions: i32) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &kafka.brokers).create()?;
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for result in admin.create_topics([&topic], &AdminOptions::new()).await? {
        result.map_err(|(topic, code)| anyhow::anyhow!("cannot create {topic}: {code}"))?;
    }
    Ok(())
}

fn unit(values: std::ops::Range<u32>) -> Committable {
    let column = BinaryArray::from_iter_values(values.map(|value| format!("v{value}")));
    let rows = RecordBatch::try_new(schema(), vec![Arc::new(column)]);
    Committable {
        unit: "u".to_owned(),
        detail: String::new(),
        rows: futures::stream::once(async move { Ok(ChangeBatch::inserts(rows?)) }).boxed(),
    }
}

/// Reads every split to the end that is there now; returns values and the resume offsets.
async fn read(source: &dyn Source, starts: Vec<SplitStart>) -> Result<(Vec<String>, BTreeMap<String, Offset>)> {
    let request = OpenRequest {
        splits: starts.clone(),
        bound: Bound::EndNow,
        columns: schema(),
        metadata: Vec::new(),
        task: 0,
        tasks: 1,
    };
    let mut reader = source.open(&job(), request).await?;
    let mut decoder = source.decoder(schema())?.context("raw payloads need a decoder")?;
    let (mut values, mut resume, mut left) = (Vec::new(), BTreeMap::new(), starts.len());
    while left > 0 {
        match tokio::time::timeout(Duration::from_secs(60), reader.next()).await?? {
            SourceEvent::Batch(batch) => {
                resume.insert(batch.split.to_string(), batch.resume_at);
                let SourceData::Payloads { payloads, .. } = batch.data else { anyhow::bail!("payloads expected") };
                let rows = decoder.decode(&payloads)?.rows.rows;
                let column = rows.column(0).as_binary::<i32>();
                values.extend((0..rows.num_rows()).map(|i| String::from_utf8_lossy(column.value(i)).into_owned()));
            }
            SourceEvent::ReachedEnd { split, resume_at } => {
                resume.extend(resume_at.map(|offset| (split.to_string(), offset)));
                left -= 1;
            }
            SourceEvent::CaughtUp(_) => {}
            SourceEvent::Ended { split, .. } => anyhow::bail!("split {split} of a topic ended"),
        }
    }
    values.sort();
    Ok((values, resume))
}

/// Reads until so many values are there: a broker answers the end of a transaction before every partition shows it.
async fn read_all(
    source: &dyn Source,
    starts: Vec<SplitStart>,
    count: usize,
) -> Result<(Vec<String>, BTreeMap<String, Offset>)> {
    let begun = std::time::Instant::now();
    loop {
        let found = read(source, starts.clone()).await?;
        if found.0.len() >= count || begun.elapsed() > Duration::from_secs(30) {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn starts(source: &dyn Source) -> Result<Vec<SplitStart>> {
    let splits: Vec<Split> = source.splits(&job()).await?;
    Ok(splits.into_iter().map(|split| SplitStart { split, at: StartAt::TableDefault }).collect())
}

fn expected(values: std::ops::Range<u32>) -> Vec<String> {
    let mut values: Vec<String> = values.map(|value| format!("v{value}")).collect();
    values.sort();
    values
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_is_delivered_once_however_often_it_is_committed() -> Result<()> {
    let kafka = Kafka::start()?;
    create_topic(&kafka, "out", 3).await?;
    let small = [("sink.transaction.max-size", "4 kb")];
    let table = table(&kafka, "out", &small);
    let fresh = CommitFacts::default();
    let sink = KafkaConnector.sink(&table)?;
    sink.check(&job(), schema()).await?;
    sink.recover(&job(), &fresh).await?;
    sink.commit(&job(), Epoch(1), vec![unit(0..500)]).await?;
    sink.commit(&job(), Epoch(1), vec![unit(0..500)]).await?;

    // A new attempt that finds epoch 1 published without its marker repeats it, then goes on.
    let published = CommitFacts { published: Some(Epoch(1)), ..CommitFacts::default() };
    let next = KafkaConnector.sink(&table)?;
    next.recover(&job(), &published).await?;
    next.commit(&job(), Epoch(1), vec![unit(0..500)]).await?;
    next.commit(&job(), Epoch(2), vec![]).await?;
    next.commit(&job(), Epoch(3), vec![unit(500..510)]).await?;

    // The first attempt is fenced by the job's log, and by the broker even if it has not noticed yet.
    let lost = sink.commit(&job(), Epoch(2), vec![unit(900..901)]).await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Unavailable, "{lost}");
    // Where it still holds the job, it takes the transactions back, and finds what was delivered without it.
    sink.commit(&job(), Epoch(3), vec![unit(500..510)]).await?;
    sink.commit(&job(), Epoch(4), vec![unit(510..520)]).await?;
    let overtaken = JobContext { fence: Arc::new(Overtaken), ..job() };
    let fenced = sink.commit(&overtaken, Epoch(5), vec![unit(900..901)]).await.unwrap_err();
    assert_eq!(fenced.kind(), ErrorKind::Fenced, "{fenced}");

    let source = KafkaConnector.source(&table)?;
    let (values, _) = read_all(&*source, starts(&*source).await?, 520).await?;
    assert_eq!(values, expected(0..520));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_resumes_where_the_checkpoint_says() -> Result<()> {
    let mut kafka = Kafka::start()?;
    create_topic(&kafka, "events", 2).await?;
    let table = table(&kafka, "events", &[]);
    let sink = KafkaConnector.sink(&table)?;
    sink.recover(&job(), &CommitFacts::default()).await?;
    sink.commit(&job(), Epoch(1), vec![unit(0..1000)]).await?;

    let source = KafkaConnector.source(&table)?;
    let first = starts(&*source).await?;
    let (values, resume) = read_all(&*source, first.clone(), 1000).await?;
    assert_eq!(values, expected(0..1000));

    kafka.restart()?;
    sink.commit(&job(), Epoch(2), vec![unit(1000..1100)]).await?;
    let again = first
        .into_iter()
        .map(|start| SplitStart { at: StartAt::Offset(resume[&start.split.id.to_string()].clone()), ..start })
        .collect();
    let (values, _) = read_all(&*source, again, 100).await?;
    assert_eq!(values, expected(1000..1100));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_and_a_lost_offset_say_so() -> Result<()> {
    let kafka = Kafka::start()?;
    create_topic(&kafka, "short", 1).await?;
    let missing = KafkaConnector.sink(&table(&kafka, "nope", &[]))?.check(&job(), schema()).await.unwrap_err();
    assert!(missing.message().contains("topic \"nope\" does not exist"), "{missing}");

    let source = KafkaConnector.source(&table(&kafka, "short", &[]))?;
    let gone = SplitStart { split: Split::new("short-0"), at: StartAt::Offset(Offset::new("77")) };
    let lost = read(&*source, vec![gone]).await.unwrap_err();
    assert!(lost.to_string().contains("no longer has offset 77"), "{lost}");
    Ok(())
}
