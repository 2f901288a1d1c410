//! Each pipeline of `queries/` as a process over servers: the lake on S3, streams in Kinesis, tables in DynamoDB.
//!
//! Invariant: the files are run as they are; endpoints and credentials come from the environment.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context, Result};
use aws_sdk_dynamodb::{
    config::{BehaviorVersion, Config, Credentials, Region},
    types::ScalarAttributeType,
};
use aws_sdk_kinesis::{Client as Streams, primitives::Blob, types::PutRecordsRequestEntry};
use base64::Engine;
use futures::TryStreamExt;
use headwater_sql::generate::{Dataset, DatasetFormat, Options, generate};
use headwater_tests::{
    http::post,
    jobs::JobFolder,
    scripts,
    services::{DynamoDbLocal, KinesisLocal, Minio, Ministack, free_port},
};
use object_store::{ObjectStore, ObjectStoreExt, aws::AmazonS3Builder, path::Path as Key};
use serde_json::Value;

use super::{
    dynamodb::{self, pipelines as orders},
    kinesis,
};

const BINARY: &str = env!("CARGO_BIN_EXE_headwater-under-test");

macro_rules! queries {
    ($($file:literal),+) => { concat!($(include_str!(concat!("../../../queries/", $file))),+) };
}

/// A bucket called `lake`.
struct Lake {
    minio: Minio,
    store: Box<dyn ObjectStore>,
}

impl Lake {
    fn start() -> Result<Self> {
        let minio = Minio::start()?;
        minio.create_bucket("lake")?;
        let store = AmazonS3Builder::new()
            .with_bucket_name("lake")
            .with_region("us-east-1")
            .with_endpoint(&minio.endpoint)
            .with_allow_http(true)
            .with_access_key_id(&minio.access_key)
            .with_secret_access_key(&minio.secret_key)
            .build()?;
        Ok(Self { minio, store: Box::new(store) })
    }

    /// A process whose lake this is; `name` is the job's.
    fn job(&self, name: &str, script: &str) -> Result<JobFolder> {
        Ok(JobFolder::new(BINARY, name, script, "'checkpoint.interval' = '500 ms'\n")?
            .with("lake", "s3://lake")
            .with_variable("AWS_ENDPOINT_URL_S3", &self.minio.endpoint)
            .with_variable("AWS_REGION", "us-east-1")
            .with_variable("AWS_ACCESS_KEY_ID", &self.minio.access_key)
            .with_variable("AWS_SECRET_ACCESS_KEY", &self.minio.secret_key))
    }

    fn tables(&self, endpoint: &str) -> aws_sdk_dynamodb::Client {
        let keys = Credentials::new(&self.minio.access_key, &self.minio.secret_key, None, None, "test");
        let config = Config::builder().behavior_version(BehaviorVersion::latest()).region(Region::new("us-east-1"));
        aws_sdk_dynamodb::Client::from_conf(config.endpoint_url(endpoint).credentials_provider(keys).build())
    }

    /// Puts the files of a data set under a prefix.
    async fn generate(&self, dataset: Dataset, rows: u64, prefix: &str) -> Result<()> {
        let folder = tempfile::tempdir()?;
        let target = folder.path().to_owned();
        generate(&Options { dataset, rows: Some(rows), seed: 3, format: None, target })?;
        for entry in std::fs::read_dir(folder.path())? {
            let entry = entry?;
            let key = Key::from(format!("{prefix}/{}", entry.file_name().to_string_lossy()));
            self.store.put(&key, std::fs::read(entry.path())?.into()).await?;
        }
        Ok(())
    }

    /// Keys below a prefix, without what belongs to Headwater.
    async fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        let found: Vec<_> = self.store.list(Some(&Key::from(prefix))).try_collect().await?;
        let keys = found.into_iter().map(|object| object.location.to_string());
        Ok(keys.filter(|key| !key.contains("_headwater/")).collect())
    }

    /// The lines of the objects below a prefix.
    async fn lines(&self, prefix: &str) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for key in self.keys(prefix).await? {
            let bytes = self.store.get(&Key::from(key)).await?.bytes().await?;
            lines.extend(std::str::from_utf8(&bytes)?.lines().map(str::to_owned));
        }
        lines.sort();
        Ok(lines)
    }
}

/// A data set as lines.
fn lines_of(dataset: Dataset, format: DatasetFormat, rows: u64) -> Result<Vec<String>> {
    let folder = tempfile::tempdir()?;
    let target = folder.path().to_owned();
    generate(&Options { dataset, rows: Some(rows), seed: 3, format: Some(format), target })?;
    scripts::lines(folder.path())
}

async fn put(streams: &Streams, stream: &str, lines: &[String]) -> Result<()> {
    for chunk in lines.chunks(50) {
        let entry = |line: &String| {
            let entry = PutRecordsRequestEntry::builder().partition_key(line.get(..20).unwrap_or(line));
            entry.data(Blob::new(line.clone())).build()
        };
        let entries = chunk.iter().map(entry).collect::<std::result::Result<Vec<_>, _>>()?;
        let reply = streams.put_records().stream_name(stream).set_records(Some(entries)).send().await?;
        anyhow::ensure!(reply.failed_record_count().unwrap_or(0) == 0, "records were refused");
    }
    Ok(())
}

/// Counts by post and start of the window, of the windows that have ended five seconds before the last event.
fn counted(events: &[Value]) -> Result<BTreeMap<(String, String), BTreeMap<String, u64>>> {
    let text = |event: &Value, key: &str| event[key].as_str().map(str::to_owned).context("a text");
    let times = events.iter().map(|event| text(event, "timestamp")).collect::<Result<BTreeSet<_>>>()?;
    let seconds = |time: &str| -> Result<u64> { Ok(time[14..16].parse::<u64>()? * 60 + time[17..19].parse::<u64>()?) };
    let last = seconds(times.last().context("an event")?)?;
    let mut counts: BTreeMap<_, BTreeMap<String, u64>> = BTreeMap::new();
    for event in events {
        let time = text(event, "timestamp")?;
        let start = seconds(&time)? / 30 * 30;
        if start + 30 + 5 <= last {
            let start = format!("{}{:02}:{:02}Z", &time[..14], start / 60, start % 60);
            *counts
                .entry((text(event, "post_id")?, start))
                .or_default()
                .entry(text(event, "engagement_type")?)
                .or_default() += 1;
        }
    }
    Ok(counts)
}

#[tokio::test(flavor = "multi_thread")]
async fn engagement_runs_over_kinesis_dynamodb_and_s3_with_its_error_folder() -> Result<()> {
    let (lake, kinesis, dynamo) = (Lake::start()?, KinesisLocal::start()?, DynamoDbLocal::start()?);
    let (streams, tables) = (kinesis::client(&kinesis.endpoint), lake.tables(&dynamo.endpoint));
    kinesis::create(&streams, "input_stream", 1).await?;
    dynamodb::create(&tables, "ProcessedData", &[("post_id", ScalarAttributeType::S)]).await?;
    let keys = [("post_id", ScalarAttributeType::S), ("window_start", ScalarAttributeType::S)];
    dynamodb::create(&tables, "ProcessedStream", &keys).await?;
    let job = |name: &str, script: &str| -> Result<JobFolder> {
        let job = lake.job(name, script)?.with_variable("AWS_ENDPOINT_URL_KINESIS", &kinesis.endpoint);
        Ok(job.with_variable("AWS_ENDPOINT_URL_DYNAMODB", &dynamo.endpoint))
    };

    lake.generate(Dataset::Posts, 100, "rawData/posts").await?;
    let posts = job("posts.sql", queries!("engagement/aws.sql", "engagement/tables.sql", "engagement/posts.sql"))?;
    for _ in 0..2 {
        posts.start("posts.sql", &["--once"])?.finish()?;
        assert_eq!(dynamodb::items(&tables, "ProcessedData").await?.len(), 100);
        let rows = posts.query("SELECT count(*) FROM read_parquet('s3://lake/processedData/posts_processed/')")?;
        assert_eq!(rows, ["100"], "no file is taken twice");
    }

    let mut lines = lines_of(Dataset::Engagements, DatasetFormat::Ndjson, 600)?;
    lines.sort_by_key(|line| line.split("\"timestamp\"").nth(1).unwrap_or_default().to_owned());
    let events = lines.iter().map(|line| Ok(serde_json::from_str(line)?)).collect::<Result<Vec<Value>>>()?;
    lines.insert(300, "no engagement".to_owned());
    let count = job("count.sql", queries!("engagement/aws.sql", "engagement/tables.sql", "engagement/count.sql"))?;
    put(&streams, "input_stream", &lines[..400]).await?;
    count.start("count.sql", &["--once"])?.finish()?;
    put(&streams, "input_stream", &lines[400..]).await?;
    count.start("count.sql", &["--once"])?.finish()?;

    let mut found: BTreeMap<(String, String), BTreeMap<String, u64>> = BTreeMap::new();
    for item in dynamodb::items(&tables, "ProcessedStream").await? {
        let key = (dynamodb::text(&item, "post_id")?.to_owned(), dynamodb::text(&item, "window_start")?.to_owned());
        let counts = item.keys().filter_map(|name| Some((name, name.strip_prefix("engagement_counts.")?)));
        let counts = counts.map(|(name, kind)| Ok((kind.to_owned(), dynamodb::text(&item, name)?.parse()?)));
        found.insert(key, counts.collect::<Result<_>>()?);
    }
    assert_eq!(found, counted(&events)?);
    let errors = lake.lines("rawData/stream/format-conversion-failed").await?;
    let kept = lake.lines("rawData/stream").await?;
    let kept = kept.iter().filter(|line| !errors.contains(line)).map(|line| serde_json::from_str(line));
    let mut kept = kept.collect::<std::result::Result<Vec<Value>, _>>()?;
    let place = |event: &Value| event.to_string();
    kept.sort_by_key(place);
    let mut sent = events.clone();
    sent.sort_by_key(place);
    assert_eq!(kept, sent, "every event as it was sent, its time too");
    let error: Value = serde_json::from_str(&errors.concat())?;
    assert_eq!((errors.len(), &error["rawData"]), (1, &"bm8gZW5nYWdlbWVudA==".into()), "{errors:?}");
    let keys = lake.keys("rawData/stream").await?;
    for key in &keys {
        let is_error = key.starts_with("rawData/stream/format-conversion-failed/");
        let rest = key.trim_start_matches("rawData/stream/").trim_start_matches("format-conversion-failed/");
        let names: Vec<&str> = rest.split('/').map(|part| part.split('=').next().unwrap_or_default()).collect();
        assert_eq!(names[..4], ["year", "month", "day", "hour"], "{key}");
        assert_eq!(names.len(), 5, "{key} {is_error}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_keys_that_no_object_can_have_are_error_objects_and_the_rest_arrives() -> Result<()> {
    let (lake, port) = (Lake::start()?, free_port()?);
    let script = "
        CREATE TABLE sent (name VARCHAR, n BIGINT)
        WITH ('connector' = 'http', 'listen' = '127.0.0.1:${port}', 'format' = 'json');
        CREATE TABLE kept (name VARCHAR, n BIGINT)
        WITH ('connector' = 'filesystem', 'path' = '${lake}/', 'format' = 'json',
              'sink.prefix' = 'r/k=!{partitionKeyFromQuery:name}/',
              'sink.error-prefix' = 'errors/!{firehose:error-output-type}/');
        INSERT INTO kept SELECT name, n FROM sent;";
    let job = lake.job("keys.sql", script)?.with("port", &port.to_string());
    let running = job.start("keys.sql", &[])?;
    let begun = std::time::Instant::now();
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        anyhow::ensure!(begun.elapsed().as_secs() < 60, "nothing listens: {}", running.log()?);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let (long, longer) = ("n".repeat(300), "n".repeat(600));
    let names = ["good", "a//b", "/a", "a\u{0}b", "..", "\u{1}", &longer, &long, "a/b"];
    let rows: Vec<String> =
        names.iter().enumerate().map(|(n, name)| serde_json::json!({"name": name, "n": n}).to_string()).collect();
    post(port, "/sent", &rows.join("\n")).await?;
    let stopped = std::process::Command::new("kill").args(["-TERM", &running.id().to_string()]).status()?;
    anyhow::ensure!(stopped.success(), "the job cannot be told to stop");
    running.finish()?;
    let number = |line: &String| Ok(serde_json::from_str::<Value>(line)?["n"].as_u64().unwrap_or(u64::MAX));
    let mut kept = lake.lines("r").await?.iter().map(number).collect::<Result<Vec<u64>>>()?;
    kept.sort_unstable();
    assert_eq!(kept, [0, 2, 4, 8]);
    assert_eq!(lake.lines("errors/metadata-extraction-failed").await?.len(), 5);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sales_run_over_change_records_in_kinesis_and_s3() -> Result<()> {
    let (lake, stack) = (Lake::start()?, Ministack::start()?);
    let (streams, tables) = (kinesis::client(&stack.endpoint), lake.tables(&stack.endpoint));
    dynamodb::create(&tables, "OrderTable", &[("orderid", ScalarAttributeType::S)]).await?;
    dynamodb::create(&tables, "OrderState", &[("orderid", ScalarAttributeType::S)]).await?;
    kinesis::create(&streams, "kinesis-sales-order", 2).await?;
    let described = streams.describe_stream_summary().stream_name("kinesis-sales-order").send().await?;
    let arn = described.stream_description_summary.context("a stream")?.stream_arn;
    tables.enable_kinesis_streaming_destination().table_name("OrderTable").stream_arn(arn).send().await?;
    let job = lake.job("deliver.sql", queries!("sales/aws.sql", "sales/tables.sql", "sales/deliver.sql"))?;
    let job = job
        .with_variable("AWS_ENDPOINT_URL_KINESIS", &stack.endpoint)
        .with_variable("AWS_ENDPOINT_URL_DYNAMODB", &stack.endpoint);

    let mut expected = orders::change_orders(&tables, 0..20).await?;
    job.start("deliver.sql", &["--once"])?.finish()?;
    expected.extend(orders::change_orders(&tables, 20..40).await?);
    job.start("deliver.sql", &["--once"])?.finish()?;
    assert_eq!(orders::orders_now(&tables).await?, expected);
    let delivered = lake.lines("sales").await?;
    assert_eq!(delivered.len(), (0..40).map(|id| 1 + id % 3).sum::<usize>(), "every change but removals, once");
    let line: Value = serde_json::from_str(&delivered[0])?;
    let names: Vec<&str> = line.as_object().context("an object")?.keys().map(String::as_str).collect();
    assert_eq!(names, ["orderid", "product_name", "quantity", "price"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn crimes_run_over_kinesis_and_s3_to_the_first_ten() -> Result<()> {
    let (lake, kinesis) = (Lake::start()?, KinesisLocal::start()?);
    let streams = kinesis::client(&kinesis.endpoint);
    kinesis::create(&streams, "crimes", 2).await?;
    let mut lines = lines_of(Dataset::Crimes, DatasetFormat::Stream, 300)?;
    lines.push("2006/01/01 00:00:00|short".to_owned());
    lines.sort();
    put(&streams, "crimes", &lines).await?;
    let job = lake.job("decode.sql", queries!("crimes/aws.sql", "crimes/tables.sql", "crimes/decode.sql"))?;
    let job = job.with_variable("AWS_ENDPOINT_URL_KINESIS", &kinesis.endpoint);
    job.start("decode.sql", &["--once"])?.finish()?;
    assert_eq!(lake.lines("crimes_backup").await?, lines);
    assert_eq!(lake.lines("crimes_raw").await?.len(), 300);
    let aside = lake.lines("crimes_aside/processing-failed").await?;
    let error: Value = serde_json::from_str(&aside.concat())?;
    let raw = base64::engine::general_purpose::STANDARD.decode(error["rawData"].as_str().unwrap_or_default())?;
    assert_eq!(String::from_utf8(raw)?, "2006/01/01 00:00:00|short");

    let queries = queries!("crimes/lake.sql", "crimes/to_parquet.sql", "crimes/first_ten.sql");
    let reading = lake.job("first.sql", queries)?;
    let said = reading.start("first.sql", &["--format", "ndjson"])?.finish()?;
    let rows: Vec<Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!((rows.len(), &rows[0]["crime_time"]), (10, &"2006/01/01 00:00:00".into()), "{said}");
    assert!(rows.iter().all(|row| row["lat"].is_number() && row["lon"].is_number()), "{said}");
    let keys = lake.keys("crimes/crime_year=2006/crime_month=01").await?;
    assert!(keys.iter().any(|key| key.contains("/crime_day=01/")), "{keys:?}");
    assert!(Path::new(&keys[0]).extension().is_some_and(|extension| extension == "parquet"), "{keys:?}");
    Ok(())
}
