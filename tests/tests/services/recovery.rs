//! `queries/engagement/counts.sql` as a process over a real broker: killed at random, restarted at another parallelism,
//! with more partitions; the counts are those of the rows, exactly.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use headwater_tests::{
    jobs::JobFolder,
    services::{Kafka, Minio},
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_headwater-under-test");
const COUNTS: &str = include_str!("../../../queries/engagement/counts.sql");
const KINDS: [&str; 3] = ["like", "comment", "share"];
/// 2025-03-10 08:00:00 UTC in milliseconds; a multiple of the window.
const FIRST_MS: i64 = 1_741_593_600_000;
const WINDOW_MS: i64 = 30_000;

/// Counts by post and window start.
type Counts = BTreeMap<(String, String), [u64; 3]>;

/// A topic of engagements, and what counting them gives.
struct Engagements {
    producer: ThreadedProducer<DefaultProducerContext>,
    random: SmallRng,
    partitions: i32,
    now_ms: i64,
    sent: u64,
    malformed: u64,
    expected: Counts,
}

fn sql_time(millis: i64) -> Result<String> {
    let time = arrow::temporal_conversions::timestamp_ms_to_datetime(millis).context("a time out of range")?;
    Ok(time.format("%Y-%m-%d %H:%M:%S%.3f").to_string())
}

/// A producer that keeps the order of rows when it sends some of them again.
fn producer(kafka: &Kafka) -> Result<ThreadedProducer<DefaultProducerContext>> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &kafka.brokers).set("linger.ms", "5").set("enable.idempotence", "true");
    Ok(config.create()?)
}

impl Engagements {
    fn new(kafka: &Kafka, seed: u64, partitions: i32) -> Result<Self> {
        let producer = producer(kafka)?;
        let random = SmallRng::seed_from_u64(seed);
        let (now_ms, sent, malformed, expected) = (FIRST_MS, 0, 0, Counts::new());
        Ok(Self { producer, random, partitions, now_ms, sent, malformed, expected })
    }

    /// From now on rows go to so many partitions, which the topic has.
    fn spread(&mut self, kafka: &Kafka, partitions: i32) -> Result<()> {
        let begun = Instant::now();
        let known = |producer: &ThreadedProducer<DefaultProducerContext>| -> Result<usize> {
            let metadata = producer.client().fetch_metadata(Some("engagements"), Duration::from_secs(10))?;
            Ok(metadata.topics().iter().map(|topic| topic.partitions().len()).sum())
        };
        loop {
            // A producer learns of new partitions only after minutes; a new one knows them at once.
            self.producer = producer(kafka)?;
            if known(&self.producer)? == partitions as usize {
                self.partitions = partitions;
                return Ok(());
            }
            ensure!(begun.elapsed() < Duration::from_secs(30), "the topic does not grow");
        }
    }

    fn put(&mut self, partition: i32, value: &str) -> Result<()> {
        let record: BaseRecord<'_, str, str> = BaseRecord::to("engagements").partition(partition).payload(value);
        self.producer.send(record).map_err(|(error, _)| error)?;
        self.sent += 1;
        Ok(())
    }

    /// Sends rows, some seconds of event time at a time, out of order by less than the watermark's delay.
    fn send(&mut self, rows: u32) -> Result<()> {
        for row in 0..rows {
            self.now_ms += self.random.random_range(0..20);
            let at = (self.now_ms - self.random.random_range(0..2_000)).max(FIRST_MS);
            let post = format!("post-{}", self.random.random_range(0..40));
            let kind = self.random.random_range(0..KINDS.len());
            let partition = self.random.random_range(0..self.partitions);
            let time = sql_time(at)?;
            let user = self.random.random_range(0..1000);
            let event = format!(
                "{{\"post_id\":\"{post}\",\"engagement_type\":\"{}\",\"user_id\":\"{user}\",\"timestamp\":\"{time}\"}}",
                KINDS[kind]
            );
            self.put(partition, &event)?;
            let start = sql_time(at - at.rem_euclid(WINDOW_MS))?;
            self.expected.entry((post, start)).or_default()[kind] += 1;
            if row % 997 == 0 {
                self.put(partition, "{\"post_id\": \"broken")?;
                self.malformed += 1;
            }
        }
        self.producer.flush(Duration::from_secs(30))?;
        Ok(())
    }

    /// A row an hour later in each partition: every window before it is complete.
    fn close_windows(&mut self) -> Result<()> {
        let time = sql_time(self.now_ms + 3_600_000)?;
        for partition in 0..self.partitions {
            let event = format!("{{\"post_id\":\"end\",\"engagement_type\":\"like\",\"timestamp\":\"{time}\"}}");
            self.put(partition, &event)?;
        }
        self.producer.flush(Duration::from_secs(30))?;
        Ok(())
    }
}

fn admin(kafka: &Kafka) -> Result<AdminClient<DefaultClientContext>> {
    Ok(ClientConfig::new().set("bootstrap.servers", &kafka.brokers).create()?)
}

async fn create_topics(kafka: &Kafka) -> Result<()> {
    let topics = [("engagements", 4), ("counts", 3)]
        .map(|(name, partitions)| NewTopic::new(name, partitions, TopicReplication::Fixed(1)));
    for result in admin(kafka)?.create_topics(&topics, &AdminOptions::new()).await? {
        result.map_err(|(topic, code)| anyhow::anyhow!("cannot create {topic}: {code}"))?;
    }
    Ok(())
}

async fn add_partitions(kafka: &Kafka, count: usize) -> Result<()> {
    let grown = NewPartitions::new("engagements", count);
    for result in admin(kafka)?.create_partitions([&grown], &AdminOptions::new()).await? {
        result.map_err(|(topic, code)| anyhow::anyhow!("cannot grow {topic}: {code}"))?;
    }
    Ok(())
}

/// Every committed row of the topic `counts`; a window that was delivered twice is an error.
fn delivered(kafka: &Kafka) -> Result<Counts> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &kafka.brokers)
        .set("group.id", "check")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..3 {
        list.add_partition_offset("counts", partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let (mut counts, mut ends, begun) = (Counts::new(), 0, Instant::now());
    while ends < 3 {
        ensure!(begun.elapsed() < Duration::from_secs(60), "the topic counts does not end");
        match consumer.poll(Duration::from_millis(200)) {
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => ends += 1,
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(message)) => {
                let row: Value = serde_json::from_slice(message.payload().context("a row without a value")?)?;
                let text = |key: &str| row[key].as_str().map(str::to_owned).with_context(|| format!("{key} in {row}"));
                let key = (text("post_id")?, text("window_start")?);
                let count = |kind: &str| row[format!("engagement_counts.{kind}")].as_u64().unwrap_or(u64::MAX);
                let was = counts.insert(key.clone(), KINDS.map(count));
                ensure!(was.is_none(), "{key:?} was delivered twice");
            }
            None => {}
        }
    }
    Ok(counts)
}

/// What the job's own query gives in batch, over the topic to its end.
fn batch(kafka: &Kafka, job: &JobFolder) -> Result<Counts> {
    let (tables, insert) = COUNTS.split_once("INSERT INTO counts").context("a script with one INSERT")?;
    let tables = tables.replace("${brokers}", &kafka.brokers).replace(
        "'connector' = 'kafka', 'topic' = 'engagements'",
        "'connector' = 'kafka', 'malformed' = 'reject', 'topic' = 'engagements'",
    );
    ensure!(tables.contains("'malformed'"), "the table of the topic is declared otherwise: {tables}");
    let names = "post_id, window_start, window_end, likes, comments, shares";
    let query = insert.trim().trim_end_matches(';');
    let sql = format!("{tables} SELECT * FROM ({query}) AS counts ({names}) WHERE post_id <> 'end'");
    let row = |line: String| -> Result<((String, String), [u64; 3])> {
        let parts: Vec<&str> = line.split(',').collect();
        let [post, start, _, counts @ ..] = parts.as_slice() else { anyhow::bail!("{line}") };
        let counts = counts.iter().map(|count| count.parse()).collect::<Result<Vec<u64>, _>>()?;
        let counts = counts.try_into().map_err(|counts| anyhow::anyhow!("{counts:?} in {line}"))?;
        Ok((((*post).to_owned(), (*start).to_owned()), counts))
    };
    job.query(&sql)?.into_iter().map(row).collect()
}

fn ensure_equal(found: &Counts, expected: &Counts) -> Result<()> {
    let different = expected.iter().find(|(key, counts)| found.get(*key) != Some(counts));
    let different = different.map(|(key, counts)| format!("{key:?} is {:?}, not {counts:?}", found.get(key)));
    ensure!(different.is_none(), "{} of {} windows: {different:?}", found.len(), expected.len());
    ensure!(found.len() == expected.len(), "{} windows, not {}", found.len(), expected.len());
    Ok(())
}

/// Everything is read, balanced and none of it late.
fn ensure_balanced(job: &JobFolder, rows: &Engagements) -> Result<()> {
    let sums = "sum(read), sum(rejected), sum(late), bool_and(balanced)";
    let ledger = job.query(&format!("SELECT {sums} FROM headwater.ledger WHERE job = 'counts'"))?;
    ensure!(ledger == [format!("{},{},0,true", rows.sent, rows.malformed)], "{ledger:?}");
    let rejected = job.query("SELECT count(*), count(DISTINCT \"offset\" || split) FROM \"engagements$rejected\"")?;
    ensure!(rejected == [format!("{0},{0}", rows.malformed)], "{rejected:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_exact_however_often_the_job_is_killed() -> Result<()> {
    let seed = 20_251_121;
    println!("seed {seed}");
    let kafka = Kafka::start()?;
    create_topics(&kafka).await?;
    let mut rows = Engagements::new(&kafka, seed, 4)?;
    let mut random = SmallRng::seed_from_u64(seed);
    rows.send(20_000)?;
    let job = JobFolder::new(BINARY, "counts.sql", COUNTS, "'checkpoint.interval' = '300 ms'\n")?
        .with("brokers", &kafka.brokers);
    for kill in 0..20 {
        let parallelism = random.random_range(1..=4).to_string();
        let running = job.start("counts.sql", &["--parallelism", &parallelism])?;
        std::thread::park_timeout(Duration::from_millis(random.random_range(100..2_000)));
        rows.send(2_000)?;
        if kill == 7 {
            // The job finds the new partitions while it runs, or when it starts the next time.
            add_partitions(&kafka, 8).await?;
            rows.spread(&kafka, 8)?;
            rows.send(2_000)?;
        }
        std::thread::park_timeout(Duration::from_millis(random.random_range(0..1_500)));
        running.kill().with_context(|| format!("kill {kill}"))?;
    }
    rows.close_windows()?;
    let log = job.start("counts.sql", &["--once", "--parallelism", "3"])?.finish()?;
    println!("{log}");
    ensure_balanced(&job, &rows)?;
    let delivered = delivered(&kafka)?;
    ensure_equal(&delivered, &rows.expected)?;
    ensure_equal(&delivered, &batch(&kafka, &job)?).context("the batch query over the topic")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_grows_from_four_to_eight_partitions_while_it_is_read() -> Result<()> {
    let kafka = Kafka::start()?;
    create_topics(&kafka).await?;
    let mut rows = Engagements::new(&kafka, 48, 4)?;
    rows.send(4_000)?;
    let job = JobFolder::new(BINARY, "counts.sql", COUNTS, "'checkpoint.interval' = '300 ms'\n")?
        .with("brokers", &kafka.brokers);
    let running = job.start("counts.sql", &["--parallelism", "2"])?;
    let all_read = |sent: u64| {
        job.wait_for("SELECT rows_read FROM headwater.jobs", move |lines| lines == [sent.to_string()]).map(drop)
    };
    all_read(rows.sent)?;
    add_partitions(&kafka, 8).await?;
    // The first four go on while nobody has been told of the others.
    rows.send(1_000)?;
    rows.spread(&kafka, 8)?;
    rows.send(4_000)?;
    all_read(rows.sent)?;
    let splits = job.query("SELECT count(*), count(watermark) FROM headwater.splits WHERE status = 'open'")?;
    ensure!(splits == ["8,8"], "{splits:?}");
    rows.close_windows()?;
    all_read(rows.sent)?;
    ensure!(job.ended(&["jobs", "stop", "counts"])?.status.success(), "cannot be stopped:\n{}", running.log()?);
    running.finish()?;
    ensure_balanced(&job, &rows)?;
    let delivered = delivered(&kafka)?;
    ensure_equal(&delivered, &rows.expected)?;
    ensure_equal(&delivered, &batch(&kafka, &job)?).context("the batch query over the topic")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_is_seen_stopped_and_fenced_from_other_processes() -> Result<()> {
    let kafka = Kafka::start()?;
    create_topics(&kafka).await?;
    let mut rows = Engagements::new(&kafka, 7, 4)?;
    rows.send(6_000)?;
    let job = JobFolder::new(BINARY, "counts.sql", COUNTS, "'checkpoint.interval' = '500 ms'\n")?
        .with("brokers", &kafka.brokers);
    let port = headwater_tests::services::free_port()?;
    let first = job.start("counts.sql", &["--metrics", &format!("127.0.0.1:{port}")])?;
    let read = format!("{}", rows.sent);
    job.wait_for("SELECT rows_read FROM headwater.jobs WHERE status = 'running'", |lines| lines == [read.clone()])?;

    // Why has the last window not fired? Every partition waits for later rows.
    let reason = "the split is read to its end and has given no later row; \
                  'scan.watermark.idle-timeout' lets the others go on without it";
    let windows = "SELECT DISTINCT table_name, reason FROM headwater.windows WHERE split IS NOT NULL";
    job.wait_for(windows, |lines| lines == [format!("engagements,{reason}")])?;
    let splits = job.query("SELECT count(*), sum(lag) FROM headwater.splits WHERE status = 'open'")?;
    ensure!(splits == ["4,0"], "{splits:?}");
    let metrics = http_get(port, "/metrics")?;
    ensure!(metrics.contains("headwater_rows_read_total{job=\"counts\",table=\"engagements\""), "{metrics}");
    ensure!(http_get(port, "/healthz")?.starts_with("HTTP/1.1 200"), "not healthy");

    // A second copy takes over; the first says who holds the job.
    let second = job.start("counts.sql", &[])?;
    let (code, log) = first.wait()?;
    ensure!(code == Some(3) && log.contains(&format!("process {}", second.id())), "{code:?} {log}");

    // A broker restart is survived.
    let mut kafka = kafka;
    kafka.restart()?;
    rows.close_windows()?;
    let read = format!("{}", rows.sent);
    job.wait_for("SELECT rows_read FROM headwater.jobs WHERE status = 'running'", |lines| lines == [read.clone()])?;
    let stopped = job.ended(&["jobs", "stop", "counts"])?;
    ensure!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
    second.finish()?;
    ensure_equal(&delivered(&kafka)?, &rows.expected)?;
    ensure_balanced(&job, &rows)?;
    let status = job.query("SELECT status FROM headwater.jobs")?;
    ensure!(status == ["stopped"], "{status:?}");

    // Dropped, it is gone.
    ensure!(job.ended(&["jobs", "drop", "counts"])?.status.code() == Some(2), "it must ask");
    ensure!(job.ended(&["jobs", "drop", "counts", "--yes"])?.status.success(), "cannot be dropped");
    ensure!(job.query("SELECT * FROM headwater.jobs")?.is_empty(), "still there");
    Ok(())
}

/// State in an object store: the same, from another folder each time.
#[tokio::test(flavor = "multi_thread")]
async fn state_in_an_object_store_outlives_the_machine() -> Result<()> {
    let kafka = Kafka::start()?;
    let minio = Minio::start()?;
    minio.create_bucket("state")?;
    create_topics(&kafka).await?;
    let mut rows = Engagements::new(&kafka, 11, 4)?;
    let machine = || -> Result<JobFolder> {
        let job = JobFolder::new(BINARY, "counts.sql", COUNTS, "'checkpoint.interval' = '500 ms'\n")?;
        Ok(job
            .with("brokers", &kafka.brokers)
            .with_state("s3://state/jobs")
            .with_variable("AWS_ENDPOINT_URL_S3", &minio.endpoint)
            .with_variable("AWS_ACCESS_KEY_ID", &minio.access_key)
            .with_variable("AWS_SECRET_ACCESS_KEY", &minio.secret_key)
            .with_variable("AWS_REGION", "us-east-1"))
    };
    for round in 0..3 {
        rows.send(3_000)?;
        let job = machine()?;
        let running = job.start("counts.sql", &["--job", "counts", "--parallelism", &format!("{}", round + 1)])?;
        let read = format!("{}", rows.sent);
        job.wait_for("SELECT rows_read FROM headwater.jobs", |lines| lines == [read.clone()])?;
        running.kill()?;
    }
    rows.close_windows()?;
    let job = machine()?;
    job.start("counts.sql", &["--job", "counts", "--once"])?.finish()?;
    ensure_equal(&delivered(&kafka)?, &rows.expected)?;
    ensure_balanced(&job, &rows)
}

fn http_get(port: u16, path: &str) -> Result<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
