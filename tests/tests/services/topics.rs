//! Where reading a topic starts and ends, what it leaves out, what it tells the group, and which topics are one table, on a
//! real broker.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use headwater_tests::{
    jobs::JobFolder,
    services::{Kafka, Sent, Topics},
};

const BINARY: &str = env!("CARGO_BIN_EXE_headwater-under-test");

/// A table over a topic of numbers.
fn table(kafka: &Kafka, name: &str, options: &str) -> String {
    format!(
        "CREATE TABLE {name} (n BIGINT) WITH ('connector' = 'kafka', 'properties.bootstrap.servers' = '{}',
         'format' = 'json', {options});\n",
        kafka.brokers
    )
}

fn numbers(range: std::ops::Range<i64>) -> Vec<Sent> {
    range
        .map(|n| Sent {
            partition: Some((n % 2) as i32),
            timestamp_ms: Some(1_000_000 + n * 1000),
            ..Sent::value(format!("{{\"n\":{n}}}"))
        })
        .collect()
}

fn folder() -> Result<JobFolder> {
    JobFolder::new(BINARY, "empty.sql", "", "")
}

fn ended(job: &JobFolder, statements: &str) -> Result<std::process::Output> {
    std::fs::write(job.path().join("statements.sql"), statements)?;
    job.ended(&["--format", "csv", "-f", "statements.sql"])
}

/// The numbers a SELECT gives.
fn selected(job: &JobFolder, table: &str) -> Result<BTreeSet<i64>> {
    let output = ended(job, &format!("{table}SELECT n FROM t;"))?;
    ensure!(output.status.success(), "{table}{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)?.lines().skip(1).map(|line| line.parse().context("a number")).collect()
}

/// Twenty numbers in two partitions, even and odd, one a second; every mode at its start and at its end.
#[tokio::test(flavor = "multi_thread")]
async fn every_start_and_every_end() -> Result<()> {
    let kafka = Kafka::start()?;
    let (topics, job) = (Topics::of(&kafka.brokers), folder()?);
    topics.create("numbers", 2, &[]).await?;
    topics.send("numbers", &numbers(0..20), None)?;
    for partition in 0..2 {
        topics.commit("readers", "numbers", partition, 3 + i64::from(partition))?;
    }
    let group = "'properties.group.id' = 'readers'";
    // Offset k of partition p is number 2k + p.
    let from = |even: i64, odd: i64| -> BTreeSet<i64> {
        (0..20).filter(|n| n / 2 >= if n % 2 == 0 { even } else { odd }).collect()
    };
    let until = |even: i64, odd: i64| &from(0, 0) - &from(even, odd);
    let offsets = "partition:0,offset:8;partition:1,offset:2";
    for (mode, expected) in [
        ("'scan.startup.mode' = 'earliest-offset'".to_owned(), from(0, 0)),
        ("'scan.startup.mode' = 'latest-offset'".to_owned(), BTreeSet::new()),
        (format!("'scan.startup.mode' = 'group-offsets', {group}"), from(3, 4)),
        // Without a word it is the group's offsets, and for a new group the first ones.
        (group.to_owned(), from(3, 4)),
        ("'properties.group.id' = 'new'".to_owned(), from(0, 0)),
        ("'properties.group.id' = 'new', 'properties.auto.offset.reset' = 'latest'".to_owned(), BTreeSet::new()),
        ("'scan.startup.mode' = 'timestamp', 'scan.startup.timestamp-millis' = '1007000'".to_owned(), from(4, 3)),
        (
            format!("'scan.startup.mode' = 'specific-offsets', 'scan.startup.specific-offsets' = '{offsets}'"),
            from(8, 2),
        ),
    ] {
        let found = selected(&job, &table(&kafka, "t", &format!("'topic' = 'numbers', {mode}")))?;
        ensure!(found == expected, "{mode}: {found:?}");
    }
    let earliest = "'scan.startup.mode' = 'earliest-offset'";
    for (mode, expected) in [
        ("'scan.bounded.mode' = 'latest-offset'".to_owned(), from(0, 0)),
        (format!("'scan.bounded.mode' = 'group-offsets', {group}"), until(3, 4)),
        ("'scan.bounded.mode' = 'timestamp', 'scan.bounded.timestamp-millis' = '1007000'".to_owned(), until(4, 3)),
        (
            format!("'scan.bounded.mode' = 'specific-offsets', 'scan.bounded.specific-offsets' = '{offsets}'"),
            until(8, 2),
        ),
    ] {
        let bounded = table(&kafka, "t", &format!("'topic' = 'numbers', {earliest}, {mode}"));
        let found = selected(&job, &bounded)?;
        ensure!(found == expected, "{mode}: {found:?}");
        // As a job it ends by itself.
        let script = format!(
            "{bounded}CREATE TABLE out (n BIGINT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'json');
             INSERT INTO out SELECT n FROM t;"
        );
        let job = JobFolder::new(BINARY, "bounded.sql", &script, "")?;
        job.start("bounded.sql", &[])?.finish()?;
        let found = job.query("SELECT n FROM read_json('out/*')")?.len();
        ensure!(found == expected.len(), "{mode}: {found} rows by a job");
    }
    Ok(())
}

/// Topics by pattern, some of which appear while the job runs; offsets are committed for the group.
#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_finds_topics_that_appear() -> Result<()> {
    let kafka = Kafka::start()?;
    let topics = Topics::of(&kafka.brokers);
    topics.create("in-a", 2, &[]).await?;
    topics.create("other", 2, &[]).await?;
    topics.send("in-a", &numbers(0..10), None)?;
    topics.send("other", &numbers(500..510), None)?;
    let source = table(
        &kafka,
        "t",
        "'topic-pattern' = 'in-.*', 'properties.group.id' = 'watchers', 'scan.topic-partition-discovery.interval' = '300 ms'",
    );
    topics.create("out", 1, &[]).await?;
    let script = format!("{source}{}INSERT INTO out SELECT n FROM t;", table(&kafka, "out", "'topic' = 'out'"));
    let job = JobFolder::new(BINARY, "pattern.sql", &script, "'checkpoint.interval' = '300 ms'\n")?;
    let running = job.start("pattern.sql", &[])?;
    job.wait_for("SELECT sum(rows_read) FROM headwater.jobs", |lines| lines == ["10"])?;
    topics.create("in-b", 2, &[]).await?;
    topics.send("in-b", &numbers(10..30), None)?;
    job.wait_for("SELECT sum(rows_read) FROM headwater.jobs", |lines| lines == ["30"])?;
    topics.grow("in-a", 3).await?;
    topics.send("in-a", &[Sent { partition: Some(2), ..Sent::value("{\"n\":30}") }], None)?;
    job.wait_for("SELECT sum(rows_read) FROM headwater.jobs", |lines| lines == ["31"])?;
    // Committed after each checkpoint, for who watches the group.
    for (topic, partition, offset) in [("in-a", 0, 5), ("in-a", 2, 1), ("in-b", 1, 10)] {
        let begun = Instant::now();
        while topics.committed("watchers", topic, partition)? != Some(offset) {
            ensure!(begun.elapsed() < Duration::from_secs(60), "{topic}-{partition} is not committed");
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }
    ensure!(job.ended(&["jobs", "stop", "pattern"])?.status.success(), "cannot be stopped");
    running.finish()?;
    let found = topics.read("out", 1)?.into_iter().filter_map(|sent| String::from_utf8(sent.value?).ok());
    let found: BTreeSet<String> = found.collect();
    ensure!(found == (0..31).map(|n| format!("{{\"n\":{n}}}")).collect(), "{found:?}");
    Ok(())
}

/// Topics named one after another are one table; each row says where it is from, and a missing one is named.
#[tokio::test(flavor = "multi_thread")]
async fn several_topics_are_one_table() -> Result<()> {
    let kafka = Kafka::start()?;
    let (topics, job) = (Topics::of(&kafka.brokers), folder()?);
    for (topic, range) in [("east", 0..10), ("west", 10..30), ("other", 30..40)] {
        topics.create(topic, 2, &[]).await?;
        topics.send(topic, &numbers(range), None)?;
    }
    let of = |names: &str| {
        let columns = "n BIGINT, topic VARCHAR METADATA VIRTUAL, part INT METADATA FROM 'partition' VIRTUAL";
        let earliest = "'scan.startup.mode' = 'earliest-offset'";
        table(&kafka, "t", &format!("'topic' = '{names}', {earliest}")).replace("n BIGINT", columns)
    };
    let select = "SELECT topic, part, count(*), min(n), max(n) FROM t GROUP BY topic, part ORDER BY topic, part;";
    let output = ended(&job, &format!("{}{select}", of("west;east")))?;
    let found = String::from_utf8(output.stdout)?;
    let expected = ["east,0,5,0,8", "east,1,5,1,9", "west,0,10,10,28", "west,1,10,11,29"];
    ensure!(found.lines().skip(1).eq(expected), "{found} {}", String::from_utf8_lossy(&output.stderr));
    let output = ended(&job, &format!("{}{select}", of("west;nowhere")))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && said.contains("topic \"nowhere\" does not exist"), "{said}");
    // As a job, which remembers each partition of each topic.
    topics.create("all", 1, &[]).await?;
    let script =
        format!("{}{}INSERT INTO all_of SELECT n FROM t;", of("west;east"), table(&kafka, "all_of", "'topic' = 'all'"));
    let job = JobFolder::new(BINARY, "all.sql", &script, "")?;
    for (topic, range, total) in [("west", 0..0, 30), ("east", 40..50, 40), ("west", 50..60, 50)] {
        topics.send(topic, &numbers(range), None)?;
        job.start("all.sql", &["--once"])?.finish()?;
        let found = topics.read("all", 1)?.len();
        ensure!(found == total, "{found} rows, not {total}");
    }
    Ok(())
}

/// At-least-once rows do not wait for a checkpoint; what was sent since the last one is sent again after a crash.
#[tokio::test(flavor = "multi_thread")]
async fn at_least_once_repeats_rows_and_loses_none() -> Result<()> {
    let kafka = Kafka::start()?;
    let topics = Topics::of(&kafka.brokers);
    topics.create("numbers", 2, &[]).await?;
    topics.create("copied", 2, &[]).await?;
    let source = table(&kafka, "numbers", "'topic' = 'numbers', 'scan.startup.mode' = 'earliest-offset'");
    let sink = table(&kafka, "copied", "'topic' = 'copied', 'sink.delivery-guarantee' = 'at-least-once'");
    let script = format!("{source}{sink}INSERT INTO copied SELECT n FROM numbers;");
    let job = JobFolder::new(BINARY, "copy.sql", &script, "'checkpoint.interval' = '1 h'\n")?;
    topics.send("numbers", &numbers(0..500), None)?;
    for lives in 1..=3 {
        let running = job.start("copy.sql", &["--parallelism", "2"])?;
        let begun = Instant::now();
        while topics.read("copied", 2)?.len() < 500 * lives {
            ensure!(begun.elapsed() < Duration::from_secs(60), "rows wait for a checkpoint:\n{}", running.log()?);
            std::thread::park_timeout(Duration::from_millis(100));
        }
        running.kill()?;
    }
    topics.send("numbers", &numbers(500..700), None)?;
    job.start("copy.sql", &["--once"])?.finish()?;
    // From here on there is a checkpoint: nothing before it is sent again.
    topics.send("numbers", &numbers(700..710), None)?;
    job.start("copy.sql", &["--once"])?.finish()?;
    let mut times = std::collections::BTreeMap::<String, usize>::new();
    for sent in topics.read("copied", 2)? {
        *times.entry(String::from_utf8(sent.value.unwrap_or_default())?).or_default() += 1;
    }
    for n in 0..710 {
        let sent = times.remove(&format!("{{\"n\":{n}}}")).unwrap_or(0);
        let expected = if n < 500 { 4 } else { 1 };
        ensure!(sent == expected, "{n} is there {sent} times");
    }
    ensure!(times.is_empty(), "{times:?}");
    Ok(())
}

/// Records deleted by the broker before they were read: said, or skipped over if told so.
#[tokio::test(flavor = "multi_thread")]
async fn an_offset_that_is_gone_is_an_error_unless_told_otherwise() -> Result<()> {
    let kafka = Kafka::start()?;
    let topics = Topics::of(&kafka.brokers);
    for (policy, expected) in [("fail", None), ("earliest", Some(4 + 4)), ("latest", Some(4))] {
        let (input, output) = (format!("in_{policy}"), format!("out_{policy}"));
        topics.create(&input, 1, &[]).await?;
        topics.create(&output, 1, &[]).await?;
        let send = |range: std::ops::Range<i64>| {
            let sent: Vec<Sent> =
                range.map(|n| Sent { partition: Some(0), ..Sent::value(format!("{{\"n\":{n}}}")) }).collect();
            topics.send(&input, &sent, None)
        };
        send(0..4)?;
        let options =
            format!("'topic' = '{input}', 'scan.startup.mode' = 'earliest-offset', 'scan.on-offset-lost' = '{policy}'");
        let out = table(&kafka, "out", &format!("'topic' = '{output}'"));
        let script = format!("{}{out}INSERT INTO out SELECT n FROM t;", table(&kafka, "t", &options));
        let job = JobFolder::new(BINARY, "lost.sql", &script, "")?;
        job.start("lost.sql", &["--once"])?.finish()?;
        send(4..12)?;
        topics.delete_before(&input, 0, 8).await?;
        let (code, said) = job.start("lost.sql", &["--once"])?.wait()?;
        match expected {
            None => {
                ensure!(code == Some(1) && said.contains("error[OFFSET_LOST]"), "{code:?}\n{said}");
                ensure!(said.contains("no longer has offset 4: it holds 8 to 12"), "{said}");
                ensure!(said.contains("'scan.on-offset-lost'"), "{said}");
            }
            Some(rows) => {
                ensure!(code == Some(0), "{policy}: {code:?}\n{said}");
                let found = topics.read(&output, 1)?.len();
                ensure!(found == rows, "{policy}: {found}");
            }
        }
    }
    Ok(())
}

/// Transactions that were aborted or are open are not read; compressed batches are.
#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_committed_is_read() -> Result<()> {
    let kafka = Kafka::start()?;
    let (topics, job) = (Topics::of(&kafka.brokers), folder()?);
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("numbers-{codec}");
        topics.create(&topic, 2, &[("compression.type", codec)]).await?;
        topics.send(&topic, &numbers(0..10), Some((codec, true)))?;
        topics.send(&topic, &numbers(10..20), Some((codec, false)))?;
        topics.send(&topic, &numbers(20..30), Some((codec, true)))?;
        let options = format!("'topic' = '{topic}', 'scan.startup.mode' = 'earliest-offset'");
        let found = selected(&job, &table(&kafka, "t", &options))?;
        ensure!(found == (0..10).chain(20..30).collect(), "{codec}: {found:?}");
        let all = format!("{options}, 'properties.isolation.level' = 'read_uncommitted'");
        let found = selected(&job, &table(&kafka, "t", &all))?;
        ensure!(found == (0..30).collect(), "{codec}, uncommitted too: {found:?}");
    }
    Ok(())
}

/// A keyed topic that the broker compacts: updates, deletes and records after compaction give the rows there are.
#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_topic_is_a_table() -> Result<()> {
    let kafka = Kafka::start()?;
    let topics = Topics::of(&kafka.brokers);
    let compacted = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("max.compaction.lag.ms", "100"),
        ("delete.retention.ms", "100"),
    ];
    topics.create("prices", 1, &compacted).await?;
    topics.create("totals", 1, &[]).await?;
    let declared = |name: &str, columns: &str, key: &str| {
        format!(
            "CREATE TABLE {name} ({columns}, PRIMARY KEY ({key}) NOT ENFORCED) WITH ('connector' = 'upsert-kafka',
             'topic' = '{name}', 'properties.bootstrap.servers' = '{}', 'key.format' = 'json', 'value.format' = 'json',
             'value.fields-include' = 'EXCEPT_KEY');\n",
            kafka.brokers
        )
    };
    let tables = declared("prices", "item VARCHAR, price BIGINT", "item")
        + &declared("totals", "parity BIGINT, total BIGINT", "parity");
    let script = format!("{tables}INSERT INTO totals SELECT price % 2, sum(price) FROM prices GROUP BY price % 2;");
    let job = JobFolder::new(BINARY, "totals.sql", &script, "'checkpoint.interval' = '300 ms'\n")?;
    let key = |item: i64| format!("{{\"item\":\"i{item}\"}}");
    let set = |item: i64, price: i64| Sent::keyed(&key(item), format!("{{\"price\":{price}}}"));
    let mut sent: Vec<Sent> = (0..40).map(|item| set(item, item)).collect();
    sent.extend((0..40).step_by(4).map(|item| set(item, item + 101)));
    sent.extend((1..40).step_by(4).map(|item| Sent { value: None, ..Sent::keyed(&key(item), "") }));
    topics.send("prices", &sent, None)?;
    let running = job.start("totals.sql", &[])?;
    job.wait_for("SELECT sum(rows_read) FROM headwater.jobs", |lines| lines == ["60"])?;
    running.kill()?;
    // Later segments make the first ones eligible; some of what the job has read is compacted away under it.
    for round in 0..8 {
        topics.send("prices", &[set(2, 1000 + round * 2)], None)?;
        std::thread::park_timeout(Duration::from_millis(400));
    }
    job.start("totals.sql", &["--once"])?.finish()?;
    let prices: Vec<i64> = (0..40)
        .filter(|item| item % 4 != 1)
        .map(|item| {
            if item == 2 {
                1014
            } else if item % 4 == 0 {
                item + 101
            } else {
                item
            }
        })
        .collect();
    let sum = |parity: i64| prices.iter().filter(|price| **price % 2 == parity).sum::<i64>();
    let expected = [format!("0,{}", sum(0)), format!("1,{}", sum(1))];
    for select in [
        "SELECT * FROM totals ORDER BY parity;",
        "SELECT price % 2 AS p, sum(price) FROM prices GROUP BY 1 ORDER BY 1;",
    ] {
        let output = ended(&job, &format!("{tables}{select}"))?;
        let found: Vec<String> = String::from_utf8(output.stdout)?.lines().skip(1).map(str::to_owned).collect();
        ensure!(found == expected, "{select} {found:?} {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// A partition whose rows are half a minute apart and one whose rows are a second apart: the first waits for the second,
/// and goes on without losing or repeating a row.
#[tokio::test(flavor = "multi_thread")]
async fn a_fast_partition_waits_for_a_slow_one() -> Result<()> {
    const ROWS: i64 = 30_000;
    let kafka = Kafka::start()?;
    let topics = Topics::of(&kafka.brokers);
    topics.create("events", 2, &[]).await?;
    topics.create("read", 1, &[]).await?;
    let pad = "x".repeat(1000);
    let event = |partition: i32, n: i64, step: i64| Sent {
        partition: Some(partition),
        ..Sent::value(format!("{{\"n\":{n},\"at\":{},\"pad\":\"{pad}\"}}", n * step * 1000))
    };
    let sent: Vec<Sent> = (0..ROWS).flat_map(|n| [event(0, n, 30), event(1, n, 1)]).collect();
    topics.send("events", &sent, None)?;
    let brokers = &kafka.brokers;
    let script = format!(
        "CREATE TABLE events (n BIGINT, at BIGINT, part INT METADATA FROM 'partition' VIRTUAL,
           ts AS CAST(from_unixtime(at / 1000) AS TIMESTAMP(3)), WATERMARK FOR ts AS ts)
           WITH ('connector' = 'kafka', 'properties.bootstrap.servers' = '{brokers}', 'topic' = 'events', 'format' = 'json',
                 'scan.startup.mode' = 'earliest-offset', 'scan.watermark.alignment.max-drift' = '60 s',
                 'properties.max.partition.fetch.bytes' = '131072');
         CREATE TABLE read (part INT, n BIGINT)
           WITH ('connector' = 'kafka', 'properties.bootstrap.servers' = '{brokers}', 'topic' = 'read', 'format' = 'csv',
                 'sink.delivery-guarantee' = 'at-least-once');
         INSERT INTO read SELECT part, n FROM events;"
    );
    let job = JobFolder::new(BINARY, "read.sql", &script, "")?;
    job.start("read.sql", &["--once", "--parallelism", "1"])?.finish()?;
    let read = topics.read("read", 1)?.into_iter().filter_map(|sent| sent.value);
    let read: Vec<String> = read.map(|value| String::from_utf8_lossy(&value).trim().to_owned()).collect();
    for partition in 0..2 {
        let of: Vec<&str> = read
            .iter()
            .filter_map(|line| line.split_once(','))
            .filter(|(part, _)| *part == partition.to_string())
            .map(|(_, n)| n)
            .collect();
        let expected: Vec<String> = (0..ROWS).map(|n| n.to_string()).collect();
        ensure!(of == expected, "{} rows of partition {partition}, or in another order", of.len());
    }
    let slow_ends = read.iter().rposition(|line| line.starts_with("1,")).context("no row of the slow partition")?;
    let fast = read[..slow_ends].iter().filter(|line| line.starts_with("0,")).count();
    // What was on its way when it began to wait is a few batches.
    ensure!(fast < 20_000, "{fast} rows of the fast partition were read before the slow one ended");
    Ok(())
}
