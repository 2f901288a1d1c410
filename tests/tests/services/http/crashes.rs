//! A process that is killed under load, and a store that hangs.
//!
//! Invariant: an answered record arrives exactly once, one that was not answered at most once.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use headwater_tests::{
    http::{self, post},
    jobs::JobFolder,
    services::{Gate, Minio},
};

use super::{BINARY, Place, numbers};

/// Sends lines of ten numbers each, starting at its own, until told to stop; what was answered, and what was not.
async fn load(port: u16, first: u64, done: Arc<AtomicBool>) -> (Vec<u64>, Vec<u64>) {
    let (mut answered, mut open) = (Vec::new(), Vec::new());
    let mut next = first;
    while !done.load(SeqCst) {
        let numbers: Vec<u64> = (next..next + 10).collect();
        let lines: Vec<String> = numbers.iter().map(|n| format!("{{\"n\":{n}}}")).collect();
        match post(port, "/events", &lines.join("\n")).await {
            Ok(()) => answered.extend(numbers),
            Err(_) => {
                open.extend(numbers);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        next += 10;
    }
    (answered, open)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_arrives_once_however_often_the_process_is_killed() -> Result<()> {
    let place = Place::new()?;
    let settings = "\"checkpoint.interval\" = \"300 ms\"\n";
    let job = JobFolder::new(BINARY, "ingest.sql", &place.script(""), settings)?;
    let done = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> =
        (0..4).map(|client| tokio::spawn(load(place.port, client * 10_000_000, Arc::clone(&done)))).collect();
    for kill in 0..4 {
        let running = job.start("ingest.sql", &[])?;
        tokio::time::sleep(Duration::from_millis(1500 + kill * 217)).await;
        running.kill()?;
    }
    done.store(true, SeqCst);
    let (mut answered, mut open) = (Vec::new(), Vec::new());
    for client in clients {
        let (of_client, not_of_client) = client.await?;
        answered.extend(of_client);
        open.extend(not_of_client);
    }
    ensure!(answered.len() > 100, "only {} records were answered", answered.len());
    let last = job.start("ingest.sql", &["--once"])?;
    last.finish()?;
    let found = numbers(&place.path("out"))?;
    let mut once = found.clone();
    once.dedup();
    assert_eq!(once.len(), found.len(), "a record arrived twice");
    let lost: Vec<u64> = answered.iter().filter(|n| found.binary_search(n).is_err()).copied().collect();
    assert!(lost.is_empty(), "{} answered records are missing: {:?}", lost.len(), &lost[..lost.len().min(10)]);
    let extra = found.len() - answered.len();
    assert!(extra <= open.len(), "{extra} records arrived that nobody sent");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_stops_neither_the_listener_nor_the_delivery() -> Result<()> {
    let place = Place::new()?;
    let minio = Minio::start()?;
    minio.create_bucket("lake")?;
    let gate = Gate::start(&minio.endpoint).await?;
    let script = format!(
        "CREATE TABLE events (n BIGINT, filler VARCHAR)
         WITH ('connector' = 'http', 'listen' = '127.0.0.1:{}', 'path' = '/events', 'format' = 'json', 'buffer.max-size' = '200 kb');
         CREATE TABLE kept (n BIGINT) WITH ('connector' = 'filesystem', 'path' = 's3://lake/kept/', 'format' = 'json',
             'sink.rolling-policy.rollover-interval' = '1 s',
             's3.endpoint' = '{}', 's3.region' = 'us-east-1', 's3.timeout' = '1 s', 's3.retries' = '1');
         INSERT INTO kept SELECT n FROM events;",
        place.port, gate.endpoint
    );
    let job = JobFolder::new(BINARY, "hangs.sql", &script, "\"checkpoint.interval\" = \"300 ms\"\n")?
        .with_variable("AWS_ACCESS_KEY_ID", &minio.access_key)
        .with_variable("AWS_SECRET_ACCESS_KEY", &minio.secret_key)
        .with_variable("AWS_EC2_METADATA_DISABLED", "true");
    let running = job.start("hangs.sql", &[])?;
    let (mut sent, mut accepted, filler) = (0_u64, Vec::new(), "x".repeat(10_000));
    let mut send = async || {
        let line = format!("{{\"n\":{sent},\"filler\":\"{filler}\"}}");
        sent += 1;
        let answer = http::request(place.port, ("POST", "/events"), &[], line.as_bytes()).await;
        let status = answer.map(|(status, _)| status)?;
        if status == 200 {
            accepted.push(sent - 1);
        }
        Ok::<_, anyhow::Error>(status)
    };
    place.reached().await.with_context(|| running.log().unwrap_or_default())?;
    send().await?;
    gate.shut();
    let mut refused = 0;
    for _ in 0..200 {
        // Every request is answered while the store hangs: first taken, then refused.
        match send().await.context("the listener does not answer")? {
            503 => refused += 1,
            status => ensure!(status == 200, "{status}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(refused > 0, "the buffer has no bound");
    gate.open();
    let mut is_back = false;
    for _ in 0..300 {
        is_back = send().await? == 200;
        if is_back {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    ensure!(is_back, "nothing is taken although the store is back: {}", running.log()?);
    let stopped = Command::new("kill").args(["-TERM", &running.id().to_string()]).status()?;
    ensure!(stopped.success(), "the job cannot be told to stop");
    running.finish()?;
    let table = format!(
        "CREATE EXTERNAL TABLE kept_lines (n bigint) STORED AS JSON LOCATION 's3://lake/kept/'
         TBLPROPERTIES ('s3.endpoint' = '{}', 's3.region' = 'us-east-1');",
        minio.endpoint
    );
    let rows = job.query(&format!("{table} SELECT n FROM kept_lines ORDER BY n"))?;
    let found: Vec<u64> = rows.iter().filter_map(|row| row.parse().ok()).collect();
    assert_eq!(found, accepted, "what was accepted arrives once the store is back");
    Ok(())
}
