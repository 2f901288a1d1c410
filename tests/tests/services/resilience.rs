//! A broker that is down when a job starts, goes down again while it runs, or hands its partitions to another one: the job
//! says so, waits and goes on.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use headwater_tests::{
    jobs::JobFolder,
    services::{Kafka, Sent, Topics},
};

const BINARY: &str = env!("CARGO_BIN_EXE_headwater-under-test");

fn numbers(range: std::ops::Range<i64>) -> Vec<Sent> {
    range.map(|n| Sent::value(format!("{{\"n\":{n}}}"))).collect()
}

fn copy(brokers: &str) -> String {
    let table = |topic: &str| {
        format!(
            "CREATE TABLE {topic} (n BIGINT) WITH ('connector' = 'kafka', 'topic' = '{topic}', 'format' = 'json',
             'scan.startup.mode' = 'earliest-offset', 'properties.bootstrap.servers' = '{brokers}');\n"
        )
    };
    format!("{}{}INSERT INTO copied SELECT n FROM numbers;", table("numbers"), table("copied"))
}

fn ensure_copied(topics: &Topics, partitions: i32, range: std::ops::Range<i64>) -> Result<()> {
    let mut copied: Vec<Vec<u8>> =
        topics.read("copied", partitions)?.into_iter().filter_map(|sent| sent.value).collect();
    let mut expected: Vec<Vec<u8>> = numbers(range).into_iter().filter_map(|sent| sent.value).collect();
    copied.sort();
    expected.sort();
    ensure!(copied == expected, "{} rows were copied", copied.len());
    Ok(())
}

/// Two brokers, of which one goes and comes back: all partitions have another leader, twice, the coordinator of the sink's
/// transactions too.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_change_their_leader() -> Result<()> {
    let (first, mut second) = Kafka::start_two()?;
    let both = format!("{},{}", first.brokers, second.brokers);
    let topics = Topics::of(&both).with_copies(2);
    let wait = |leads: fn(&[i32]) -> bool, what: &str| -> Result<()> {
        let begun = Instant::now();
        while !leads(&topics.leaders("numbers")?) || !leads(&topics.leaders("copied")?) {
            ensure!(begun.elapsed() < Duration::from_secs(90), "{what}: {:?}", topics.leaders("numbers")?);
            std::thread::park_timeout(Duration::from_millis(200));
        }
        Ok(())
    };
    topics.create("numbers", 4, &[]).await?;
    topics.create("copied", 4, &[]).await?;
    let one = |leaders: &[i32]| leaders.iter().all(|leader| *leader == 1);
    let two = |leaders: &[i32]| leaders.contains(&1) && leaders.contains(&2);
    wait(two, "both lead")?;
    let job = JobFolder::new(BINARY, "copy.sql", &copy(&both), "'checkpoint.interval' = '300 ms'\n")?;
    topics.send("numbers", &numbers(0..500), None)?;
    let running = job.start("copy.sql", &[])?;
    job.wait_for("SELECT sum(rows_read) FROM headwater.jobs", |lines| lines == ["500"])?;
    second.stop()?;
    wait(one, "the first leads")?;
    topics.send("numbers", &numbers(500..1000), None)?;
    job.wait_for("SELECT sum(rows_read) FROM headwater.jobs", |lines| lines == ["1000"])?;
    second.restart()?;
    wait(two, "both lead again")?;
    topics.send("numbers", &numbers(1000..1500), None)?;
    job.wait_for("SELECT sum(rows_read) FROM headwater.jobs", |lines| lines == ["1500"])?;
    ensure!(job.ended(&["jobs", "stop", "copy"])?.status.success(), "cannot be stopped:\n{}", running.log()?);
    running.finish()?;
    ensure_copied(&topics, 4, 0..1500)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_down_is_waited_for() -> Result<()> {
    let mut kafka = Kafka::start()?;
    let topics = Topics::of(&kafka.brokers);
    topics.create("numbers", 2, &[]).await?;
    topics.create("copied", 2, &[]).await?;
    topics.send("numbers", &numbers(0..50), None)?;
    let script = copy(&kafka.brokers);
    let job = JobFolder::new(BINARY, "copy.sql", &script, "'checkpoint.interval' = '300 ms'\n")?;
    kafka.stop()?;
    let running = job.start("copy.sql", &[])?;
    let begun = Instant::now();
    while !running.log()?.contains("asking again") {
        ensure!(begun.elapsed() < Duration::from_secs(60), "nothing is said of the broker:\n{}", running.log()?);
        std::thread::park_timeout(Duration::from_millis(100));
    }
    ensure!(running.log()?.contains("Connection refused"), "{}", running.log()?);
    kafka.restart()?;
    job.wait_for("SELECT sum(rows_read) FROM headwater.jobs", |lines| lines == ["50"])?;

    // Down again, long enough for several checkpoints to be due.
    kafka.stop()?;
    std::thread::park_timeout(Duration::from_secs(5));
    kafka.restart()?;
    topics.send("numbers", &numbers(50..80), None)?;
    job.wait_for("SELECT sum(rows_read) FROM headwater.jobs", |lines| lines == ["80"])?;
    ensure!(job.ended(&["jobs", "stop", "copy"])?.status.success(), "cannot be stopped");
    running.finish()?;
    ensure_copied(&topics, 2, 0..80)
}
