//! A job that comes back with other tables, on a real broker.
//!
//! Invariant: rows that were read are in the sink of their time, once, and nothing is read that the file does not name.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use headwater_tests::{
    jobs::JobFolder,
    services::{Kafka, Sent, Topics},
};

const BINARY: &str = env!("CARGO_BIN_EXE_headwater-under-test");

/// A table of numbers over a topic.
fn table(kafka: &Kafka, name: &str, topic: &str) -> String {
    format!(
        "CREATE TABLE {name} (n BIGINT) WITH ('connector' = 'kafka', 'properties.bootstrap.servers' = '{}',
         'format' = 'json', 'topic' = '{topic}', 'scan.startup.mode' = 'earliest-offset');\n",
        kafka.brokers
    )
}

fn numbers(range: std::ops::Range<i64>) -> Vec<Sent> {
    range.map(|n| Sent { partition: Some(0), ..Sent::value(format!("{{\"n\":{n}}}")) }).collect()
}

/// How often each number is in a topic.
fn found(topics: &Topics, topic: &str) -> Result<BTreeMap<String, usize>> {
    let mut times = BTreeMap::new();
    for sent in topics.read(topic, 1)? {
        *times.entry(String::from_utf8(sent.value.unwrap_or_default())?).or_default() += 1;
    }
    Ok(times)
}

fn each(range: std::ops::Range<i64>, times: usize) -> BTreeMap<String, usize> {
    range.map(|n| (format!("{{\"n\":{n}}}"), times)).collect()
}

async fn created(kafka: &Kafka, names: &[&str]) -> Result<Topics> {
    let topics = Topics::of(&kafka.brokers);
    for name in names {
        topics.create(name, 1, &[]).await?;
    }
    Ok(topics)
}

fn changed(job: &JobFolder, script: &str) -> Result<()> {
    Ok(std::fs::write(job.path().join("copy.sql"), script)?)
}

fn verdicts(job: &JobFolder) -> Result<String> {
    let text = job.ended(&["explain", "copy.sql", "--against", "copy", "--format", "csv"])?;
    ensure!(text.status.success(), "{}", String::from_utf8_lossy(&text.stderr));
    Ok(String::from_utf8(text.stdout)?)
}

fn refused(job: &JobFolder) -> Result<String> {
    let ended = job.ended(&["run", "copy.sql", "--once"])?;
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    ensure!(!ended.status.success(), "it ran: {said}");
    Ok(said)
}

/// Two INSERTs into one table; then one is taken away, another added, and one put in front.
#[tokio::test(flavor = "multi_thread")]
async fn inserts_into_one_topic_come_and_go() -> Result<()> {
    let kafka = Kafka::start()?;
    let topics = created(&kafka, &["in", "out", "more"]).await?;
    let tables = table(&kafka, "s", "in") + &table(&kafka, "o", "out") + &table(&kafka, "m", "more");
    let insert = |table: &str, plus: i64| format!("INSERT INTO {table} SELECT n + {plus} FROM s;\n");
    let mut expected = BTreeMap::new();
    let scripts: [&[(&str, i64)]; 4] =
        [&[("o", 0), ("o", 1000)], &[("o", 0)], &[("o", 0), ("m", 2000)], &[("o", 3000), ("o", 0), ("m", 2000)]];
    let job = JobFolder::new(BINARY, "copy.sql", "", "")?;
    for (life, inserts) in (0..).zip(scripts) {
        let numbers_now = life * 10..life * 10 + 10;
        topics.send("in", &numbers(numbers_now.clone()), None)?;
        let text: String = inserts.iter().map(|(table, plus)| insert(table, *plus)).collect();
        changed(&job, &format!("{tables}{text}"))?;
        job.start("copy.sql", &["--once", "--parallelism", "2"])?.finish()?;
        for (table, plus) in inserts {
            let topic = if *table == "o" { "out" } else { "more" };
            let rows = each(numbers_now.start + plus..numbers_now.end + plus, 1);
            expected.entry(topic).or_insert_with(BTreeMap::new).extend(rows);
        }
        for (topic, rows) in &expected {
            let found = found(&topics, topic)?;
            ensure!(found == *rows, "{topic} in life {life}: {found:?}");
        }
    }
    Ok(())
}

/// What a table no longer names is not read, and giving it up must be allowed.
#[tokio::test(flavor = "multi_thread")]
async fn another_topic_is_read_from_its_start_and_the_old_one_no_more() -> Result<()> {
    let kafka = Kafka::start()?;
    let topics = created(&kafka, &["a", "b", "out"]).await?;
    let script = |topic: &str| {
        format!("{}{}INSERT INTO o SELECT n FROM s;", table(&kafka, "s", topic), table(&kafka, "o", "out"))
    };
    let job = JobFolder::new(BINARY, "copy.sql", &script("a"), "")?;
    topics.send("a", &numbers(0..5), None)?;
    job.start("copy.sql", &["--once"])?.finish()?;
    topics.send("a", &numbers(5..8), None)?;
    topics.send("b", &numbers(10..15), None)?;
    changed(&job, &script("b"))?;
    let said = verdicts(&job)?;
    let lines =
        ["source:s,dropped,\"no longer reads \"\"a-0\"\"\"", "source:s,new,starts where its table's options say"];
    ensure!(lines.iter().all(|line| said.contains(line)) && !said.contains("carries over"), "{said}");
    let said = refused(&job)?;
    ensure!(said.contains("no longer reads \"a-0\"") && said.contains("--allow-drop"), "{said}");
    job.start("copy.sql", &["--once", "--allow-drop"])?.finish()?;
    let mut rows = each(0..5, 1);
    rows.extend(each(10..15, 1));
    ensure!(found(&topics, "out")? == rows, "{:?}", found(&topics, "out")?);
    let splits = job.query("SELECT split FROM headwater.splits")?;
    ensure!(splits == ["b-0"], "{splits:?}");
    // A list that grows keeps what it had.
    changed(&job, &script("b;a"))?;
    ensure!(!verdicts(&job)?.contains("dropped"));
    job.start("copy.sql", &["--once"])?.finish()?;
    // All of "a" is read anew: it is a topic that was not there.
    for (row, times) in each(0..5, 2).into_iter().chain(each(5..8, 1)) {
        rows.insert(row, times);
    }
    ensure!(found(&topics, "out")? == rows, "{:?}", found(&topics, "out")?);
    Ok(())
}

/// Rows that were published while the broker was away are not forgotten when their sink is changed.
#[tokio::test(flavor = "multi_thread")]
async fn published_rows_are_delivered_before_their_sink_may_change() -> Result<()> {
    let mut kafka = Kafka::start()?;
    let topics = created(&kafka, &["out"]).await?;
    let files = "CREATE TABLE s (n BIGINT) WITH ('connector' = 'filesystem', 'path' = 'in', 'format' = 'json',
                 'source.monitor-interval' = '100 ms');\n";
    let insert = "INSERT INTO o SELECT n FROM s;";
    let script = format!("{files}{}{insert}", table(&kafka, "o", "out"));
    let job = JobFolder::new(BINARY, "copy.sql", &script, "'checkpoint.interval' = '15 s'\n")?;
    std::fs::create_dir(job.path().join("in"))?;
    std::fs::write(job.path().join("in/1.json"), "{\"n\":1}\n")?;
    let running = job.start("copy.sql", &[])?;
    let begun = Instant::now();
    while found(&topics, "out")?.is_empty() {
        ensure!(begun.elapsed() < Duration::from_secs(60), "nothing arrives:\n{}", running.log()?);
        std::thread::park_timeout(Duration::from_millis(100));
    }
    // Read long before the next checkpoint, which is published when the broker is away.
    std::fs::write(job.path().join("in/2.json"), "{\"n\":2}\n")?;
    kafka.stop()?;
    let waits = "SELECT (SELECT sum(read) FROM headwater.ledger),
                        (SELECT count(*) FROM headwater.checkpoints WHERE NOT committed)";
    let waited = job.wait_for(waits, |lines| lines.first().is_some_and(|line| line == "2,1"));
    running.kill()?;
    waited?;
    kafka.restart()?;
    let other = "CREATE TABLE o (n BIGINT) WITH ('connector' = 'filesystem', 'path' = 'files', 'format' = 'json');\n";
    changed(&job, &format!("{files}{other}{insert}"))?;
    let dropped = "has 1 rows of epoch";
    let said = verdicts(&job)?;
    ensure!(said.contains(dropped), "{said}");
    let said = refused(&job)?;
    ensure!(said.contains(dropped) && said.contains("start the job once as it was"), "{said}");
    changed(&job, &script)?;
    job.start("copy.sql", &["--once"])?.finish()?;
    ensure!(found(&topics, "out")? == each(1..3, 1), "{:?}", found(&topics, "out")?);
    changed(&job, &format!("{files}{other}{insert}"))?;
    job.start("copy.sql", &["--once"])?.finish()?;
    Ok(())
}
