//! The pipelines of `queries/` as jobs, fed by boto3 and by plain requests as people's clients feed them.
//!
//! Invariant: the files are run as they are; only endpoint and credentials are filled in.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use aws_sdk_dynamodb::types::ScalarAttributeType;
use base64::Engine;
use headwater_sql::generate::{Dataset, DatasetFormat, Options, generate};
use headwater_tests::{
    http::listening,
    scripts::{self, Until},
    services::{KinesisLocal, free_port, pip_environment},
};
use serde_json::Value;

use super::dynamodb;

/// Sends the lines of a file: `send.py firehose|kinesis|gateway URL STREAM FILE`.
const SEND: &str = r#"
import sys, json, urllib.request
import boto3
kind, url, stream, path = sys.argv[1:5]
lines = open(path, encoding="utf-8").read().splitlines()
options = dict(endpoint_url=url, region_name="us-east-1", aws_access_key_id="id", aws_secret_access_key="secret")
if kind == "firehose":
    client = boto3.client("firehose", **options)
    for start in range(0, len(lines), 500):
        records = [{"Data": (line + "\n").encode()} for line in lines[start:start + 500]]
        assert client.put_record_batch(DeliveryStreamName=stream, Records=records)["FailedPutCount"] == 0
elif kind == "kinesis":
    client = boto3.client("kinesis", **options)
    for start in range(0, len(lines), 50):
        records = [{"Data": line.encode(), "PartitionKey": str(start + n)} for n, line in enumerate(lines[start:start + 50])]
        assert client.put_records(StreamName=stream, Records=records)["FailedRecordCount"] == 0
else:
    for line in lines:
        body = json.dumps({"Data": line, "PartitionKey": 1}).encode()
        request = urllib.request.Request(f"{url}/streams/{stream}/record", data=body, method="PUT")
        assert urllib.request.urlopen(request).status == 200
"#;

/// The local credentials that emulators want, in place of the chain's.
const LOCAL: &str = "'aws.region' = 'us-east-1', 'aws.endpoint' = '${endpoint}',
    'aws.credentials.basic.accesskeyid' = 'id', 'aws.credentials.basic.secretkey' = 'secret'";

/// Files of `queries/`, one after another.
fn script(files: &[&str]) -> Result<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../queries");
    let texts = files.iter().map(|file| Ok(std::fs::read_to_string(folder.join(file))?)).collect::<Result<Vec<_>>>()?;
    Ok(texts.join("\n").replace("'aws.region' = '${region:-us-east-1}'", LOCAL))
}

/// A folder with a lake and the state of a job.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("send.py"), SEND)?;
        Ok(Self { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn lake(&self) -> String {
        self.path("lake").to_string_lossy().into_owned()
    }

    /// A data set as one file of lines.
    fn generate(&self, dataset: Dataset, format: DatasetFormat, rows: u64) -> Result<Vec<String>> {
        let target = self.path("generated");
        generate(&Options { dataset, rows: Some(rows), seed: 3, format: Some(format), target: target.clone() })?;
        let mut lines = scripts::lines(&target)?;
        lines.sort();
        Ok(lines)
    }

    async fn send(&self, kind: &str, url: &str, stream: &str, lines: &[String]) -> Result<()> {
        let python = pip_environment("boto3", &["boto3"])?;
        let file = self.path("lines.txt");
        std::fs::write(&file, lines.join("\n"))?;
        let mut command = Command::new(python);
        command.arg(self.path("send.py")).args([kind, url, stream]).arg(file);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn rows(&self, folder: &str) -> Result<Vec<Value>> {
        scripts::lines(&self.path("lake").join(folder))?.iter().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}

fn check_crimes(place: &Place, lines: &[String]) -> Result<()> {
    let mut backup = scripts::lines(&place.path("lake/crimes_backup"))?;
    backup.sort();
    assert_eq!(backup, lines);
    let aside: Vec<Value> = place.rows("crimes_aside/processing-failed")?;
    assert_eq!(aside.len(), 1, "{aside:?}");
    let raw = base64::engine::general_purpose::STANDARD.decode(aside[0]["rawData"].as_str().unwrap_or_default())?;
    assert_eq!(String::from_utf8(raw)?, "2006/01/01 00:00:00|short");
    assert!(aside[0]["errorMessage"].as_str().is_some_and(|message| message.contains("subscript")), "{}", aside[0]);
    let decoded = place.rows("crimes_raw")?;
    assert_eq!(decoded.len(), lines.len() - 1);
    for row in decoded {
        assert!(row["location"]["lat"] == row["latitude"] && row["crime_year"] == "2006", "{row}");
        let address = row["address"].as_str().context("an address")?;
        assert!(lines.iter().any(|line| line.contains(address)), "{row}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn crimes_come_through_kinesis_and_through_a_gateway() -> Result<()> {
    let place = Place::new()?;
    let mut lines = place.generate(Dataset::Crimes, DatasetFormat::Stream, 300)?;
    lines.push("2006/01/01 00:00:00|short".to_owned());
    lines.sort();
    let kinesis = KinesisLocal::start()?;
    let (lake, endpoint) = (place.lake(), kinesis.endpoint.clone());
    super::kinesis::create(&super::kinesis::client(&endpoint), "crimes", 2).await?;
    place.send("kinesis", &endpoint, "crimes", &lines).await?;
    let parameters = [("lake", lake.as_str()), ("endpoint", &endpoint)];
    let aws = script(&["crimes/aws.sql", "crimes/tables.sql", "crimes/decode.sql"])?;
    scripts::run_once(&aws, &parameters, &place.path("state")).await?;
    check_crimes(&place, &lines)?;

    let local = Place::new()?;
    let (lake, port) = (local.lake(), free_port()?);
    let port_text = port.to_string();
    let parameters = [("lake", lake.as_str()), ("port", &port_text)];
    let embedded = script(&["crimes/http.sql", "crimes/tables.sql", "crimes/decode.sql"])?;
    let mut job = scripts::start(&embedded, &parameters, &local.path("state"), Until::Stopped).await?;
    listening(&mut job, port).await?;
    let url = format!("http://127.0.0.1:{port}");
    local.send("kinesis", &url, "crimes", &lines[..200]).await?;
    local.send("gateway", &url, "crimes", &lines[200..]).await?;
    job.stop().await?;
    check_crimes(&local, &lines)?;
    let lake_of = [("lake", parameters[0].1)];
    let to_parquet = script(&["crimes/lake.sql", "crimes/to_parquet.sql", "crimes/first_ten.sql"])?;
    let first = scripts::rows(&to_parquet, &lake_of, &local.path("lake-state")).await?;
    assert_eq!((first.len(), &first[0]["crime_time"]), (10, &"2006/01/01 00:00:00".into()), "{first:?}");
    assert!(first.iter().all(|row| row["lat"].is_number() && row["lon"].is_number()), "{first:?}");
    assert!(local.path("lake/crimes/crime_year=2006/crime_month=01/crime_day=01").is_dir());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn telemetry_is_sent_twice_by_boto3_and_delivered_by_name_and_day() -> Result<()> {
    let place = Place::new()?;
    let mut lines = place.generate(Dataset::Telemetry, DatasetFormat::Ndjson, 3_000)?;
    lines.push("no event".to_owned());
    let (lake, port) = (place.lake(), free_port()?);
    let port_text = port.to_string();
    let parameters = [("lake", lake.as_str()), ("port", &port_text)];
    let embedded = script(&["telemetry/http.sql", "telemetry/tables.sql", "telemetry/deliver.sql"])?;
    let mut job = scripts::start(&embedded, &parameters, &place.path("state"), Until::Stopped).await?;
    listening(&mut job, port).await?;
    let url = format!("http://127.0.0.1:{port}");
    for stream in ["events_stream_json", "events_stream_parquet"] {
        let sent = place.send("firehose", &url, stream, &lines).await;
        assert!(job.is_running().await?, "the job has ended");
        sent?;
    }
    let after = job.stop().await?;
    let delivered = place.rows("events_raw/json")?;
    assert_eq!(delivered.len(), 3_000, "{:?}", after.ledger);
    let mut by_md5: BTreeMap<&str, i64> = BTreeMap::new();
    for line in &lines[..3_000] {
        let event: Value = serde_json::from_str(line)?;
        let key = delivered.iter().find(|row| row["payload_md5"] == event["payload_md5"]);
        let found = key.and_then(|row| row["payload_md5"].as_str()).with_context(|| format!("{event} is missing"))?;
        *by_md5.entry(found).or_default() += 1;
    }
    for row in &delivered {
        *by_md5.entry(row["payload_md5"].as_str().context("a checksum")?).or_default() -= 1;
    }
    assert!(by_md5.values().all(|left| *left == 0));
    assert!(place.path("lake/events_raw/json/name=anonymous_visited").is_dir());
    assert!(place.path("lake/events_raw/parquet/name=account_created").is_dir());
    let errors = place.rows("errors/json")?;
    assert_eq!((errors.len(), &errors[0]["rawData"]), (1, &"bm8gZXZlbnQK".into()), "{errors:?}");
    let accounts = after.ledger.values().flat_map(|account| account.values());
    assert_eq!(accounts.map(|tally| tally.rejected).max(), Some(1), "the line that is no event: {:?}", after.ledger);
    check_june(&place, &lines[..3_000], by_md5.len()).await
}

/// The June query over what was delivered, as computed from the lines; and without what was sent twice.
async fn check_june(place: &Place, lines: &[String], distinct: usize) -> Result<()> {
    let mut sessions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in lines {
        let event: Value = serde_json::from_str(line)?;
        let day = event["tstamp"].as_str().context("a time")?[..10].to_owned();
        if event["name"] == "anonymous_visited" && day.starts_with("2023-06") {
            let payload: Value = serde_json::from_str(event["payload"].as_str().context("a payload")?)?;
            sessions.entry(day).or_default().insert(payload["session_id"].to_string());
        }
    }
    let expected: Vec<(String, u64)> = sessions.into_iter().map(|(day, ids)| (day, ids.len() as u64)).collect();
    let (lake, state) = (place.lake(), place.path("lake-state"));
    let june = script(&["telemetry/lake.sql", "telemetry/repair.sql", "telemetry/june.sql"])?;
    for events in ["events_json", "events_parquet"] {
        let rows = scripts::rows(&june, &[("lake", &lake), ("events", events)], &state).await?;
        let count = |row: &Value| Some((row["day"].as_str()?[..10].to_owned(), row["_col1"].as_u64()?));
        assert_eq!(rows.iter().filter_map(count).collect::<Vec<_>>(), expected, "{events}");
    }
    let counts = scripts::rows(&script(&["telemetry/deduplicate.sql"])?, &[("lake", &lake)], &state).await?;
    assert_eq!((&counts[0]["sent"], &counts[0]["distinct_events"]), (&lines.len().into(), &distinct.into()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn engagements_through_kinesis_become_items_while_shards_split() -> Result<()> {
    let place = Place::new()?;
    let lines = place.generate(Dataset::Engagements, DatasetFormat::Ndjson, 900)?;
    let mut events = lines.iter().map(|line| Ok(serde_json::from_str(line)?)).collect::<Result<Vec<Value>>>()?;
    events.sort_by_key(|event| event["timestamp"].as_str().unwrap_or_default().to_owned());
    let lines: Vec<String> = events.iter().map(Value::to_string).collect();
    let (kinesis, dynamo) = (KinesisLocal::start()?, dynamodb::local()?);
    let (streams, tables) = (super::kinesis::client(&kinesis.endpoint), dynamodb::client(&dynamo.endpoint));
    super::kinesis::create(&streams, "input_stream", 1).await?;
    let keys = [("post_id", ScalarAttributeType::S), ("window_start", ScalarAttributeType::S)];
    dynamodb::create(&tables, "ProcessedStream", &keys).await?;
    let text = script(&["engagement/aws.sql", "engagement/tables.sql", "engagement/count.sql"])?;
    let (before, after) = text.split_once("'connector' = 'dynamodb'").context("a sink into DynamoDB")?;
    let text = format!(
        "{before}'connector' = 'dynamodb'{}",
        after.replacen("${endpoint}", "${dynamo}", 1).replacen("'id'", "'local'", 1)
    );

    let lake = place.lake();
    let parameters = [("lake", lake.as_str()), ("endpoint", &kinesis.endpoint), ("dynamo", &dynamo.endpoint)];

    place.send("kinesis", &kinesis.endpoint, "input_stream", &lines[..300]).await?;
    scripts::run_once(&text, &parameters, &place.path("state")).await?;
    place.send("kinesis", &kinesis.endpoint, "input_stream", &lines[300..500]).await?;
    super::kinesis::split(&streams, "input_stream").await?;
    place.send("kinesis", &kinesis.endpoint, "input_stream", &lines[500..600]).await?;
    scripts::run_once(&text, &parameters, &place.path("state")).await?;
    super::kinesis::merge(&streams, "input_stream").await?;
    place.send("kinesis", &kinesis.endpoint, "input_stream", &lines[600..]).await?;
    scripts::run_once(&text, &parameters, &place.path("state")).await?;
    assert_eq!(place.rows("rawData/stream")?.len(), 900);
    let mut total = 0;
    for item in dynamodb::items(&tables, "ProcessedStream").await? {
        for kind in ["like", "comment", "share"] {
            let count = item.get(&format!("engagement_counts.{kind}"));
            total += count.and_then(|value| value.as_n().ok()?.parse::<i64>().ok()).unwrap_or(0);
        }
    }
    // One event a second from 08:00:00 on: the windows that end up to 08:14:30 have closed.
    assert_eq!(total, 29 * 30);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn engagements_are_kept_and_counted_once() -> Result<()> {
    let place = Place::new()?;
    let lines = place.generate(Dataset::Engagements, DatasetFormat::Ndjson, 1_200)?;
    let (lake, port) = (place.lake(), free_port()?);
    let port_text = port.to_string();
    let parameters = [("lake", lake.as_str()), ("port", &port_text)];
    let embedded = script(&["engagement/http.sql", "engagement/tables.sql", "engagement/count.sql"])?;
    let mut job = scripts::start(&embedded, &parameters, &place.path("state"), Until::Stopped).await?;
    listening(&mut job, port).await?;
    let mut events = lines.iter().map(|line| Ok(serde_json::from_str(line)?)).collect::<Result<Vec<Value>>>()?;
    events.sort_by_key(|event| event["timestamp"].as_str().unwrap_or_default().to_owned());
    let lines: Vec<String> = events.iter().map(Value::to_string).collect();
    let url = format!("http://127.0.0.1:{port}");
    place.send("kinesis", &url, "input_stream", &lines[..600]).await?;
    drop(job);
    let mut job = scripts::start(&embedded, &parameters, &place.path("state"), Until::Stopped).await?;
    listening(&mut job, port).await?;
    place.send("kinesis", &url, "input_stream", &lines[600..]).await?;
    job.stop().await?;
    scripts::run_once(&embedded, &parameters, &place.path("state")).await?;
    assert_eq!(place.rows("rawData/stream")?.len(), 1_200);
    let counts = place.rows("processedData/stream")?;
    let number = |row: &Value, kind: &str| row[format!("engagement_counts.{kind}")].as_i64().unwrap_or(0);
    let total: i64 = counts.iter().map(|row| number(row, "like") + number(row, "comment") + number(row, "share")).sum();
    // One event a second from 08:00:00 on: the windows that end up to 08:19:30 have closed.
    assert_eq!(total, 39 * 30, "windows: {}", counts.len());
    let distinct: std::collections::BTreeSet<String> =
        counts.iter().map(|row| format!("{} {}", row["post_id"], row["window_start"])).collect();
    assert_eq!(distinct.len(), counts.len(), "each window of a post once");
    Ok(())
}
