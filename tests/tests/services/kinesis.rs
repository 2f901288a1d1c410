//! Kinesis end to end: exact counts while shards split and merge, restarts, and rows written and read back.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result};
use aws_sdk_kinesis::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
    primitives::Blob,
    types::{PutRecordsRequestEntry, StreamStatus},
};
use headwater_engine::time::{Clock, SystemClock};
use headwater_tests::{
    scripts::{self, Until},
    services::{KinesisLocal, Ministack, Proxy, Verdict},
};

pub(crate) fn client(endpoint: &str) -> Client {
    let config = aws_sdk_kinesis::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("id", "secret", None, None, "tests"))
        .endpoint_url(endpoint);
    Client::from_conf(config.build())
}

async fn wait_active(client: &Client, stream: &str) -> Result<()> {
    for _ in 0..600 {
        let reply = client.describe_stream_summary().stream_name(stream).send().await?;
        let status = reply.stream_description_summary().map(|summary| summary.stream_status().clone());
        if status == Some(StreamStatus::Active) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("stream {stream} does not become active")
}

pub(crate) async fn create(client: &Client, stream: &str, shards: i32) -> Result<()> {
    client.create_stream().stream_name(stream).shard_count(shards).send().await?;
    wait_active(client, stream).await
}

/// Puts `{"n": ..}` for each number, keyed by it.
pub(crate) async fn put(client: &Client, stream: &str, numbers: std::ops::Range<u32>) -> Result<()> {
    for chunk in numbers.collect::<Vec<_>>().chunks(200) {
        let entry = |number: &u32| {
            let data = Blob::new(format!("{{\"n\": {number}}}"));
            PutRecordsRequestEntry::builder().partition_key(number.to_string()).data(data).build()
        };
        let entries = chunk.iter().map(entry).collect::<std::result::Result<Vec<_>, _>>()?;
        let reply = client.put_records().stream_name(stream).set_records(Some(entries)).send().await?;
        anyhow::ensure!(reply.failed_record_count().unwrap_or(0) == 0, "records were refused");
    }
    Ok(())
}

pub(crate) async fn open_shards(client: &Client, stream: &str) -> Result<Vec<aws_sdk_kinesis::types::Shard>> {
    let reply = client.list_shards().stream_name(stream).send().await?;
    let parents: BTreeSet<String> = reply
        .shards()
        .iter()
        .flat_map(|shard| shard.parent_shard_id().into_iter().chain(shard.adjacent_parent_shard_id()))
        .map(str::to_owned)
        .collect();
    let mut open: Vec<_> = reply.shards().iter().filter(|shard| !parents.contains(shard.shard_id())).cloned().collect();
    open.sort_by_key(|shard| {
        shard.hash_key_range().and_then(|range| range.starting_hash_key().parse::<u128>().ok()).unwrap_or(0)
    });
    Ok(open)
}

pub(crate) async fn split(client: &Client, stream: &str) -> Result<()> {
    let shard = open_shards(client, stream).await?.into_iter().next().context("an open shard")?;
    let range = shard.hash_key_range().context("a range")?;
    let (first, last): (u128, u128) = (range.starting_hash_key().parse()?, range.ending_hash_key().parse()?);
    let middle = (first + (last - first) / 2).to_string();
    let request = client.split_shard().stream_name(stream).shard_to_split(shard.shard_id());
    request.new_starting_hash_key(middle).send().await?;
    wait_active(client, stream).await
}

pub(crate) async fn merge(client: &Client, stream: &str) -> Result<()> {
    let open = open_shards(client, stream).await?;
    let request = client.merge_shards().stream_name(stream).shard_to_merge(open[0].shard_id());
    request.adjacent_shard_to_merge(open[1].shard_id()).send().await?;
    wait_active(client, stream).await
}

const INTO_FILES: &str = "
    CREATE TABLE numbers (n BIGINT, shard VARCHAR METADATA FROM 'shard-id' VIRTUAL)
    WITH ('connector' = 'kinesis', 'stream' = 'numbers', 'aws.region' = 'us-east-1', 'aws.endpoint' = '${endpoint}',
          'aws.credentials.basic.accesskeyid' = 'id', 'aws.credentials.basic.secretkey' = 'secret', 'format' = 'json');
    CREATE TABLE kept (n BIGINT, shard VARCHAR)
    WITH ('connector' = 'filesystem', 'path' = '${out}', 'format' = 'json');
    INSERT INTO kept SELECT n, shard FROM numbers;";

pub(crate) const FAN_OUT: &str = "'source.reader.type' = 'EFO', 'source.efo.consumer.name' = 'tests'";

/// The script with more options of its stream.
pub(crate) fn with_options(options: &str) -> Result<String> {
    let script = INTO_FILES.replacen(
        "'format' = 'json');\n    CREATE TABLE kept",
        &format!("'format' = 'json', {options});\n    CREATE TABLE kept"),
        1,
    );
    anyhow::ensure!(script.contains(options), "the script has no such place");
    Ok(script)
}

/// Every number that was kept, ascending.
pub(crate) fn kept(folder: &std::path::Path) -> Result<Vec<u64>> {
    let number = |line: &String| {
        let row: serde_json::Value = serde_json::from_str(line)?;
        row["n"].as_u64().with_context(|| format!("no number in {line}"))
    };
    let mut numbers = scripts::lines(folder)?.iter().map(number).collect::<Result<Vec<u64>>>()?;
    numbers.sort_unstable();
    Ok(numbers)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_is_kept_once_through_splits_merges_and_restarts() -> Result<()> {
    let kinesis = KinesisLocal::start()?;
    let (client, folder) = (client(&kinesis.endpoint), tempfile::tempdir()?);
    let (state, out) = (folder.path().join("state"), folder.path().join("out"));
    std::fs::create_dir_all(&out)?;
    let parameters = [("endpoint", kinesis.endpoint.as_str()), ("out", &*out.to_string_lossy())];
    create(&client, "numbers", 2).await?;
    put(&client, "numbers", 0..500).await?;

    let first = scripts::start(INTO_FILES, &parameters, &state, Until::Stopped).await?;
    put(&client, "numbers", 500..1000).await?;
    split(&client, "numbers").await?;
    put(&client, "numbers", 1000..1500).await?;
    first.stop().await?;

    put(&client, "numbers", 1500..2000).await?;
    merge(&client, "numbers").await?;
    put(&client, "numbers", 2000..2500).await?;
    // A job that is dropped leaves what a crash leaves.
    let crashed = scripts::start(INTO_FILES, &parameters, &state, Until::Stopped).await?;
    split(&client, "numbers").await?;
    put(&client, "numbers", 2500..3000).await?;
    drop(crashed);

    let summary = scripts::run_once(INTO_FILES, &parameters, &state).await?;
    let expected: Vec<u64> = (0..3000).collect();
    assert_eq!(kept(&out)?, expected);
    let read: u64 = summary.ledger.values().flat_map(|account| account.values()).map(|tally| tally.read).sum();
    assert_eq!(read, 3000, "{:?}", summary.ledger);
    Ok(())
}

/// What a stream says of its records, as columns.
const METADATA: &str = "
    CREATE TABLE numbers (n BIGINT, shard VARCHAR METADATA FROM 'shard-id' VIRTUAL,
                          number VARCHAR METADATA FROM 'sequence-number' VIRTUAL,
                          sub BIGINT METADATA FROM 'sub-sequence-number' VIRTUAL,
                          key VARCHAR METADATA FROM 'partition-key' VIRTUAL,
                          arrival TIMESTAMP(3) METADATA FROM 'timestamp' VIRTUAL)
    WITH ('connector' = 'kinesis', 'stream.arn' = '${arn}', 'aws.endpoint' = '${endpoint}',
          'aws.credentials.basic.accesskeyid' = 'id', 'aws.credentials.basic.secretkey' = 'secret',
          'source.init.position' = '${position}', 'source.init.timestamp' = '${from}', 'format' = 'json');
    CREATE TABLE kept (n BIGINT, shard VARCHAR, number VARCHAR, sub BIGINT, key VARCHAR, arrival BIGINT)
    WITH ('connector' = 'filesystem', 'path' = '${out}', 'format' = 'json');
    INSERT INTO kept SELECT n, shard, number, sub, key, CAST(to_unixtime(arrival) * 1000 AS BIGINT) FROM numbers;";

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_an_arn_is_read_from_a_time_on_and_says_where_its_records_are() -> Result<()> {
    let kinesis = KinesisLocal::start()?;
    let (client, folder) = (client(&kinesis.endpoint), tempfile::tempdir()?);
    create(&client, "numbers", 2).await?;
    let summary = client.describe_stream_summary().stream_name("numbers").send().await?;
    let arn = summary.stream_description_summary().context("a summary")?.stream_arn().to_owned();
    let begun = SystemClock.now().0;
    // Arrivals of different milliseconds.
    let mut beat = tokio::time::interval(Duration::from_millis(20));
    for first in (0..200).step_by(20) {
        beat.tick().await;
        put(&client, "numbers", first..first + 20).await?;
    }
    let ended = SystemClock.now().0;
    let kept = async |position: &str, from: i64| -> Result<Vec<serde_json::Value>> {
        let out = folder.path().join(format!("{position}{from}"));
        let script =
            if from == 0 { METADATA.replace("'source.init.timestamp' = '${from}',", "") } else { METADATA.into() };
        // The service takes seconds with a fraction.
        let from = format!("{}.{:03}", from / 1000, from % 1000);
        let parameters = [
            ("endpoint", kinesis.endpoint.as_str()),
            ("arn", &arn),
            ("position", position),
            ("from", &from),
            ("out", &out.to_string_lossy()),
        ];
        scripts::run_once(&script, &parameters, &out.with_extension("state")).await?;
        scripts::lines(&out)?.iter().map(|line| Ok(serde_json::from_str(line)?)).collect()
    };
    let number = |row: &serde_json::Value, name: &str| row[name].as_i64().with_context(|| format!("{name} of {row}"));
    let all = kept("TRIM_HORIZON", 0).await?;
    assert_eq!(all.len(), 200);
    let (mut numbers, mut shards, mut arrivals) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for row in &all {
        assert_eq!(row["key"], number(row, "n")?.to_string(), "{row}");
        assert_eq!(number(row, "sub")?, 0, "{row}");
        numbers.insert(row["number"].to_string());
        shards.insert(row["shard"].to_string());
        arrivals.insert(number(row, "arrival")?);
    }
    assert_eq!((numbers.len(), shards.len()), (200, 2), "{numbers:?} {shards:?}");
    assert!(arrivals.iter().all(|at| (begun - 1000..=ended + 1000).contains(at)), "{arrivals:?} {begun} {ended}");

    let from = *arrivals.iter().nth(arrivals.len() / 2).context("arrivals")?;
    let mut expected = Vec::new();
    for row in &all {
        if number(row, "arrival")? >= from {
            expected.push(number(row, "n")?);
        }
    }
    let later = kept("AT_TIMESTAMP", from).await?;
    let mut later = later.iter().map(|row| number(row, "n")).collect::<Result<Vec<_>>>()?;
    expected.sort_unstable();
    later.sort_unstable();
    assert_eq!(later, expected);
    assert!((1..200).contains(&later.len()), "{later:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_written_to_a_stream_are_read_back() -> Result<()> {
    let kinesis = KinesisLocal::start()?;
    let (client, folder) = (client(&kinesis.endpoint), tempfile::tempdir()?);
    let (state, out) = (folder.path().join("state"), folder.path().join("out"));
    std::fs::create_dir_all(&out)?;
    let parameters = [("endpoint", kinesis.endpoint.as_str()), ("out", &*out.to_string_lossy())];
    create(&client, "source", 2).await?;
    create(&client, "numbers", 2).await?;
    put(&client, "source", 0..700).await?;
    let options = "'aws.region' = 'us-east-1', 'aws.endpoint' = '${endpoint}', 'format' = 'json',
        'aws.credentials.basic.accesskeyid' = 'id', 'aws.credentials.basic.secretkey' = 'secret'";
    let forward = format!(
        "CREATE TABLE source (n BIGINT) WITH ('connector' = 'kinesis', 'stream' = 'source', {options});
         CREATE TABLE target (n BIGINT, shard VARCHAR) PARTITIONED BY (n)
         WITH ('connector' = 'kinesis', 'stream' = 'numbers', {options});
         INSERT INTO target SELECT n, 'none' FROM source;"
    );
    scripts::run_once(&forward, &parameters, &state.join("forward")).await?;
    scripts::run_once(INTO_FILES, &parameters, &state.join("back")).await?;
    let expected: Vec<u64> = (0..700).collect();
    assert_eq!(kept(&out)?, expected);
    Ok(())
}

/// The server forgets a shard with its records once it is split or merged: `fan_out.rs` has one that does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_by_fan_out_reads_every_record_once() -> Result<()> {
    let stack = Ministack::start()?;
    let (client, folder) = (client(&stack.endpoint), tempfile::tempdir()?);
    let (state, out) = (folder.path().join("state"), folder.path().join("out"));
    std::fs::create_dir_all(&out)?;
    let parameters = [("endpoint", stack.endpoint.as_str()), ("out", &*out.to_string_lossy())];
    create(&client, "numbers", 2).await?;
    put(&client, "numbers", 0..600).await?;
    let script = with_options(FAN_OUT)?;
    scripts::run_once(&script, &parameters, &state).await?;
    put(&client, "numbers", 600..800).await?;
    scripts::run_once(&script, &parameters, &state).await?;
    let expected: Vec<u64> = (0..800).collect();
    assert_eq!(kept(&out)?, expected);
    Ok(())
}

/// Records as a producer library puts them together, each `(hash key, data)`, with a right or a wrong checksum.
fn aggregated(records: &[(u128, &str)], is_right: bool) -> Vec<u8> {
    fn bytes(number: u8, value: &[u8], out: &mut Vec<u8>) {
        out.push(number << 3 | 2);
        let mut length = value.len();
        while length > 127 {
            out.push(length as u8 | 128);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(value);
    }
    let mut message = Vec::new();
    bytes(1, b"key", &mut message);
    for (hash, _) in records {
        bytes(2, hash.to_string().as_bytes(), &mut message);
    }
    for (index, (_, data)) in records.iter().enumerate() {
        let mut record = vec![1 << 3, 0, 2 << 3, index as u8];
        bytes(3, data.as_bytes(), &mut record);
        bytes(3, &record, &mut message);
    }
    let digest = if is_right { md5(&message) } else { [7; 16] };
    [&[0xF3, 0x89, 0x9A, 0xC2][..], &message, &digest].concat()
}

fn md5(bytes: &[u8]) -> [u8; 16] {
    use md5::{Digest, Md5};
    Md5::digest(bytes).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn aggregates_are_taken_apart_and_what_belongs_elsewhere_is_left() -> Result<()> {
    let kinesis = KinesisLocal::start()?;
    let (client, folder) = (client(&kinesis.endpoint), tempfile::tempdir()?);
    let (state, out) = (folder.path().join("state"), folder.path().join("out"));
    std::fs::create_dir_all(&out)?;
    create(&client, "numbers", 2).await?;
    let elsewhere = u128::MAX - 5;
    let three = aggregated(&[(1, r#"{"n": 1}"#), (2, r#"{"n": 2}"#), (3, r#"{"n": 3}"#)], true);
    let moved = aggregated(&[(4, r#"{"n": 4}"#), (elsewhere, r#"{"n": 99}"#), (5, r#"{"n": 5}"#)], true);
    let broken = aggregated(&[(6, r#"{"n": 98}"#)], false);
    for data in [three, moved, broken.clone(), br#"{"n": 6}"#.to_vec()] {
        let request = client.put_record().stream_name("numbers").partition_key("outer").explicit_hash_key("0");
        request.data(Blob::new(data)).send().await?;
    }
    let script = INTO_FILES
        .replace(
            "shard VARCHAR METADATA FROM 'shard-id' VIRTUAL",
            "shard BIGINT METADATA FROM 'sub-sequence-number' VIRTUAL",
        )
        .replace("shard VARCHAR)", "shard BIGINT)");
    let parameters = [("endpoint", kinesis.endpoint.as_str()), ("out", &*out.to_string_lossy())];
    let summary = scripts::run_once(&script, &parameters, &state).await?;
    assert_eq!(kept(&out)?, [1, 2, 3, 4, 5, 6]);
    let last = scripts::lines(&out)?.into_iter().find(|line| line.contains("\"n\":5")).context("the fifth")?;
    assert!(last.contains("\"shard\":2"), "its place in the aggregate: {last}");
    let tallies = || summary.ledger.values().flat_map(|account| account.values());
    let sum = |of: fn(&headwater_engine::accounts::Tally) -> u64| tallies().map(of).sum::<u64>();
    // Three and two of the aggregates and a plain one. That with a wrong checksum is a plain record too; the mark of its
    // first field is a line end, so that JSON finds two lines in it.
    assert_eq!((sum(|tally| tally.read), sum(|tally| tally.rejected)), (8, 2), "{:?}", summary.ledger);
    let query = format!("{script} SELECT to_hex(raw) AS raw, reason FROM \"numbers$rejected\";");
    let query = query.replace("INSERT INTO kept SELECT n, shard FROM numbers;", "");
    let rejected = scripts::rows(&query, &parameters, &folder.path().join("reading")).await?;
    let hex: String = broken.iter().map(|byte| format!("{byte:02X}")).collect();
    let raws: Vec<&str> = rejected.iter().filter_map(|row| row["raw"].as_str()).collect();
    assert!(raws.len() == 2 && raws.iter().all(|raw| hex.contains(raw)), "{rejected:?} of {hex}");
    assert!(rejected.iter().all(|row| row["reason"].as_str().is_some_and(|reason| !reason.is_empty())), "{rejected:?}");
    Ok(())
}

/// Everything from one shard on, whose parents were read before.
const FROM_LATEST: &str = "'source.init.position' = 'LATEST', 'source.shard.discovery.interval' = '1 h'";

#[tokio::test(flavor = "multi_thread")]
async fn after_latest_the_children_of_a_shard_are_read_from_their_beginning() -> Result<()> {
    let kinesis = KinesisLocal::start()?;
    let (client, folder) = (client(&kinesis.endpoint), tempfile::tempdir()?);
    let (state, out) = (folder.path().join("state"), folder.path().join("out"));
    std::fs::create_dir_all(&out)?;
    create(&client, "numbers", 1).await?;
    put(&client, "numbers", 0..100).await?;
    let script = with_options(FROM_LATEST)?;
    let proxy = Proxy::start(&kinesis.endpoint, |_, _| Verdict::Pass).await?;
    let parameters = [("endpoint", proxy.endpoint.as_str()), ("out", &*out.to_string_lossy())];
    let mut job = scripts::start(&script, &parameters, &state, Until::Stopped).await?;
    let begun = std::time::Instant::now();
    while proxy.requests("GetRecords") < 2 {
        anyhow::ensure!(begun.elapsed() < Duration::from_secs(60) && job.is_running().await?, "the shard is not read");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    put(&client, "numbers", 100..200).await?;
    split(&client, "numbers").await?;
    // They are in the children before anybody reads those.
    put(&client, "numbers", 200..300).await?;
    job.stop().await?;
    put(&client, "numbers", 300..400).await?;
    scripts::run_once(&script, &parameters, &state).await?;
    assert_eq!(kept(&out)?, (100..400).collect::<Vec<u64>>(), "nothing before the start, everything after it");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tables_share_what_a_shard_allows_while_iterators_expire() -> Result<()> {
    let kinesis = KinesisLocal::start()?;
    let proxy = Proxy::start(&kinesis.endpoint, |operation, nth| match (operation, nth % 5) {
        ("GetRecords", 1) => Verdict::Refuse("ExpiredIteratorException"),
        ("GetRecords", 3) => Verdict::Throttle,
        _ => Verdict::Pass,
    })
    .await?;
    let (client, folder) = (client(&kinesis.endpoint), tempfile::tempdir()?);
    let (state, out) = (folder.path().join("state"), folder.path().join("out"));
    create(&client, "numbers", 1).await?;
    put(&client, "numbers", 0..400).await?;
    let second = INTO_FILES.replace("TABLE numbers", "TABLE again").replace("FROM numbers", "FROM again");
    let second = second.replace("TABLE kept", "TABLE kept_again").replace("INTO kept", "INTO kept_again");
    let script = format!("{}{}", INTO_FILES.replace("${out}", "${out}/a"), second.replace("${out}", "${out}/b"));
    let parameters = [("endpoint", proxy.endpoint.as_str()), ("out", &*out.to_string_lossy())];
    let begun = std::time::Instant::now();
    let job = scripts::start(&script, &parameters, &state, Until::Stopped).await?;
    put(&client, "numbers", 400..600).await?;
    while proxy.requests("GetRecords") < 30 {
        anyhow::ensure!(begun.elapsed() < Duration::from_secs(120), "the shard is hardly read");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (calls, seconds) = (proxy.requests("GetRecords"), begun.elapsed().as_secs_f64());
    let summary = job.stop().await?;
    assert!(calls as f64 <= 5.0 * seconds + 1.0, "{calls} calls in {seconds} s");
    let expected: Vec<u64> = (0..600).collect();
    assert_eq!((kept(&out.join("a"))?, kept(&out.join("b"))?), (expected.clone(), expected));
    let sources = summary.manifest.context("a checkpoint")?.sources.clone();
    let lags: Vec<_> = sources.values().flat_map(|source| &source.splits).map(|split| split.lag_ms).collect();
    assert_eq!(lags, [Some(0), Some(0)], "milliseconds behind the latest record");
    Ok(())
}
