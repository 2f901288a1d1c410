//! The engagement pipeline as a process over Kinesis and DynamoDB, through everything that makes others count twice: the
//! totals in DynamoDB are those of the events, exactly. The way that counts twice is beside it.
//!
//! Invariant: the files of `queries/` are run as they are; endpoints and credentials come from the environment.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use aws_sdk_dynamodb::types::{AttributeValue, ScalarAttributeType};
use aws_sdk_kinesis::{Client as Streams, primitives::Blob, types::PutRecordsRequestEntry};
use headwater_tests::{
    jobs::JobFolder,
    services::{DynamoDbLocal, KinesisLocal, Proxy, Verdict},
};
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::{dynamodb, kinesis};

const BINARY: &str = env!("CARGO_BIN_EXE_headwater-under-test");
const SCRIPT: &str = concat!(
    include_str!("../../../queries/engagement/aws.sql"),
    include_str!("../../../queries/engagement/tables.sql"),
    include_str!("../../../queries/engagement/count.sql")
);
const KINDS: [&str; 3] = ["like", "comment", "share"];
/// 2025-03-10 08:00:00 UTC in milliseconds; a multiple of the window.
const FIRST_MS: i64 = 1_741_593_600_000;
const WINDOW_MS: i64 = 30_000;
const STREAM: &str = "input_stream";

/// Counts by post and window start.
type Counts = BTreeMap<(String, String), [u64; 3]>;

/// What clients put, and what counting it gives.
struct Clients {
    streams: Streams,
    random: SmallRng,
    now_ms: i64,
    sent: usize,
    expected: Counts,
}

fn time_text(millis: i64) -> Result<String> {
    let time = arrow::temporal_conversions::timestamp_ms_to_datetime(millis).context("a time out of range")?;
    Ok(time.format("%Y-%m-%dT%H:%M:%S%.3f+00:00").to_string())
}

impl Clients {
    /// Puts events, some of event time apart, out of order by less than the watermark's delay.
    async fn send(&mut self, events: usize) -> Result<()> {
        let mut entries = Vec::new();
        for _ in 0..events {
            self.now_ms += self.random.random_range(0..200);
            let at = (self.now_ms - self.random.random_range(0..2_000)).max(FIRST_MS);
            let post = format!("post-{}", self.random.random_range(0..30));
            let kind = self.random.random_range(0..KINDS.len());
            let start = time_text(at - at.rem_euclid(WINDOW_MS))?.replace(".000+00:00", "Z");
            self.expected.entry((post.clone(), start)).or_default()[kind] += 1;
            let data = serde_json::json!({"post_id": post, "engagement_type": KINDS[kind], "user_id": "0042",
                "timestamp": time_text(at)?});
            let entry = PutRecordsRequestEntry::builder().partition_key(post).data(Blob::new(data.to_string()));
            entries.push(entry.build()?);
        }
        self.sent += events;
        for chunk in entries.chunks(100) {
            let request = self.streams.put_records().stream_name(STREAM).set_records(Some(chunk.to_vec()));
            let reply = request.send().await?;
            ensure!(reply.failed_record_count().unwrap_or(0) == 0, "records were refused");
        }
        Ok(())
    }

    /// An event an hour later in each open shard: every window before it is complete.
    async fn close_windows(&self) -> Result<()> {
        let data = serde_json::json!({"post_id": "end", "engagement_type": "like", "user_id": "1",
            "timestamp": time_text(self.now_ms + 3_600_000)?});
        for shard in kinesis::open_shards(&self.streams, STREAM).await? {
            let range = shard.hash_key_range().context("a range")?;
            let request = self.streams.put_record().stream_name(STREAM).partition_key("end");
            let request = request.explicit_hash_key(range.starting_hash_key()).data(Blob::new(data.to_string()));
            request.send().await?;
        }
        Ok(())
    }
}

/// The counts that DynamoDB holds.
async fn counted(tables: &aws_sdk_dynamodb::Client) -> Result<Counts> {
    let mut counts = Counts::new();
    for item in dynamodb::items(tables, "ProcessedStream").await? {
        let of = |kind: &str| {
            let count = item.get(&format!("engagement_counts.{kind}"));
            count.and_then(|value| value.as_n().ok()?.parse::<u64>().ok()).unwrap_or(0)
        };
        let key = (dynamodb::text(&item, "post_id")?.to_owned(), dynamodb::text(&item, "window_start")?.to_owned());
        counts.insert(key, KINDS.map(of));
    }
    counts.retain(|(post, _), _| post != "end");
    Ok(counts)
}

async fn wait_until(what: &str, done: impl Fn() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !done() {
        ensure!(begun.elapsed() < Duration::from_secs(120), "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn total(counts: &Counts) -> u64 {
    counts.values().flatten().sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn totals_are_those_of_the_events_through_kills_replays_splits_copies_and_throttling() -> Result<()> {
    let (kinesis, dynamo) = (KinesisLocal::start()?, DynamoDbLocal::start()?);
    let (streams, tables) = (kinesis::client(&kinesis.endpoint), dynamodb::client(&dynamo.endpoint));
    kinesis::create(&streams, STREAM, 2).await?;
    let keys = [("post_id", ScalarAttributeType::S), ("window_start", ScalarAttributeType::S)];
    dynamodb::create(&tables, "ProcessedStream", &keys).await?;

    // Half of all calls are throttled; some writes happen whose answers never come.
    let reads = Proxy::start(&kinesis.endpoint, |operation, nth| match operation {
        "GetRecords" | "GetShardIterator" if nth.is_multiple_of(2) => Verdict::Throttle,
        _ => Verdict::Pass,
    });
    let holds = Arc::new(AtomicBool::new(false));
    let held = Arc::clone(&holds);
    let writes = Proxy::start(&dynamo.endpoint, move |operation, nth| match operation {
        "BatchWriteItem" if held.load(Ordering::Relaxed) => Verdict::Hold,
        "BatchWriteItem" if nth.is_multiple_of(2) => Verdict::Throttle,
        "BatchWriteItem" if nth % 5 == 1 => Verdict::LoseReply,
        "BatchWriteItem" if nth % 7 == 3 => Verdict::Half,
        _ => Verdict::Pass,
    });
    let (reads, writes) = (reads.await?, writes.await?);
    let job = JobFolder::new(BINARY, "count.sql", SCRIPT, "'checkpoint.interval' = '300 ms'\n")?
        .with("lake", "lake")
        .with_variable("AWS_ENDPOINT_URL_KINESIS", &reads.endpoint)
        .with_variable("AWS_ENDPOINT_URL_DYNAMODB", &writes.endpoint)
        .with_variable("AWS_ACCESS_KEY_ID", "local")
        .with_variable("AWS_SECRET_ACCESS_KEY", "local");
    let random = SmallRng::seed_from_u64(20_261_121);
    let mut clients = Clients { streams: streams.clone(), random, now_ms: FIRST_MS, sent: 0, expected: Counts::new() };

    clients.send(800).await?;
    for round in 0..4 {
        // Killed after items were written and before anybody heard of it.
        holds.store(true, Ordering::Relaxed);
        let (running, before) = (job.start("count.sql", &["--parallelism", "2"])?, writes.held());
        clients.send(200).await?;
        match round {
            0 => kinesis::split(&streams, STREAM).await?,
            1 => kinesis::merge(&streams, STREAM).await?,
            _ => {}
        }
        clients.send(400).await?;
        wait_until("a write", || writes.held() > before).await.with_context(|| running.log().unwrap_or_default())?;
        running.kill().with_context(|| format!("kill {round}"))?;
        holds.store(false, Ordering::Relaxed);
    }

    // Two copies at once: the second takes the job over while the first still runs.
    let first = job.start("count.sql", &["--parallelism", "1"])?;
    clients.send(300).await?;
    let written = writes.requests("BatchWriteItem");
    wait_until("the first copy's writes", || writes.requests("BatchWriteItem") > written + 2).await?;
    let second = job.start("count.sql", &["--parallelism", "2"])?;
    clients.send(500).await?;
    let (code, log) = first.wait()?;
    ensure!(code == Some(3), "the first copy is fenced: {code:?} {log}");
    second.kill()?;

    clients.close_windows().await?;
    job.start("count.sql", &["--once"])?.finish()?;
    let found = counted(&tables).await?;
    assert_eq!((total(&found), clients.sent as u64), (total(&clients.expected), total(&clients.expected)));
    assert_eq!(found, clients.expected);

    // What the newest checkpoints hold is read and written three more times.
    for _ in 0..3 {
        let oldest = job.query("SELECT min(epoch) FROM headwater.checkpoints")?.concat();
        let again = ["--once", "--from-checkpoint", &oldest, "--allow-repeat"];
        job.start("count.sql", &again)?.finish()?;
    }
    assert_eq!(counted(&tables).await?, clients.expected);
    Ok(())
}

/// A function that adds what a batch holds to the items, as people write it for tumbling windows.
async fn add(tables: &aws_sdk_dynamodb::Client, batch: &[(&str, i64)]) -> Result<()> {
    for (post, count) in batch {
        let request = tables.update_item().table_name("NaiveCounts").key("id", AttributeValue::S((*post).to_owned()));
        let request = request.update_expression("SET n = if_not_exists(n, :zero) + :n");
        let request = request.expression_attribute_values(":zero", AttributeValue::N("0".to_owned()));
        request.expression_attribute_values(":n", AttributeValue::N(count.to_string())).send().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn adding_counts_a_batch_again_when_its_acknowledgement_is_lost() -> Result<()> {
    let server = dynamodb::local()?;
    let tables = dynamodb::client(&server.endpoint);
    dynamodb::create(&tables, "NaiveCounts", &[("id", ScalarAttributeType::S)]).await?;
    let batches: [&[(&str, i64)]; 4] = [&[("a", 10), ("b", 5)], &[("a", 7)], &[("b", 3)], &[("a", 1), ("b", 1)]];
    for (number, batch) in batches.iter().enumerate() {
        add(&tables, batch).await?;
        // The function was killed after it wrote and before it answered, so that the service sends the batch again.
        if number == 1 {
            add(&tables, batch).await?;
        }
    }
    let events: i64 = batches.iter().flat_map(|batch| batch.iter()).map(|(_, count)| count).sum();
    let mut counted = 0;
    for item in dynamodb::items(&tables, "NaiveCounts").await? {
        counted += dynamodb::text(&item, "n")?.parse::<i64>()?;
    }
    assert_eq!((events, counted), (27, 34), "seven events are counted twice");
    Ok(())
}
