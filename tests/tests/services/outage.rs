//! A bucket that is down when a job starts, goes down while it runs, and hangs: the job says so, waits and goes on by
//! itself, and every row is there once.
//!
//! Invariant: the server is stopped or frozen as a whole, for many checkpoint intervals, while rows keep coming.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use headwater_tests::{jobs::RunningJob, services::free_port};

use super::lake_jobs::{KINDS, Pipeline};

/// Sends rows for a while, some every half second.
fn send_for(pipeline: &mut Pipeline, time: Duration) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < time {
        pipeline.send(100, 20, &KINDS)?;
        std::thread::park_timeout(Duration::from_millis(500));
    }
    Ok(())
}

/// What the job says from here on until it has said this.
fn said_since(running: &RunningJob, from: usize, what: &str) -> Result<()> {
    let log = running.log()?;
    ensure!(log.get(from..).is_some_and(|said| said.contains(what)), "{what:?} is not said:\n{log}");
    Ok(())
}

#[test]
fn a_bucket_with_files_and_state_may_be_down_at_the_start_and_later_and_hang() -> Result<()> {
    let settings = "'checkpoint.interval' = '300 ms'\n's3.timeout' = '3 s'\n's3.retries' = '1'\n";
    let mut pipeline = Pipeline::into_bucket(settings)?.with_state("s3://lake/state");
    pipeline.minio()?.stop()?;
    pipeline.send(500, 20, &KINDS)?;
    let running = pipeline.job.start("events.sql", &["--parallelism", "2"])?;
    running.wait_for_log("Connection refused")?;
    send_for(&mut pipeline, Duration::from_secs(15))?;
    pipeline.minio()?.restart()?;
    pipeline.wait_until_read()?;

    let heard = running.log()?.len();
    pipeline.minio()?.stop()?;
    send_for(&mut pipeline, Duration::from_secs(25))?;
    said_since(&running, heard, "Connection refused")?;
    pipeline.minio()?.restart()?;
    pipeline.wait_until_read()?;

    let heard = running.log()?.len();
    pipeline.minio()?.freeze()?;
    send_for(&mut pipeline, Duration::from_secs(25))?;
    said_since(&running, heard, "timed out")?;
    pipeline.minio()?.thaw()?;
    pipeline.wait_until_read()?;
    pipeline.stop(running)?;
    pipeline.ensure_sound()?;
    pipeline.ensure_as_batch(30)
}

/// The number of a job's metrics with this beginning, summed.
fn metric(port: u16, name: &str) -> Result<f64> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    let samples = page.lines().filter(|line| line.starts_with(name));
    let value = |line: &str| -> Result<f64> { Ok(line.rsplit(' ').next().context("a value")?.parse()?) };
    samples.map(value).sum()
}

/// With its state elsewhere the job runs on while its files cannot be written: it holds no more rows than it may.
#[test]
fn a_bucket_that_goes_while_a_large_file_is_written_gets_it_once_and_nothing_is_left() -> Result<()> {
    let settings = "'checkpoint.interval' = '300 ms'\n'memory.limit' = '32 MB'\n's3.retries' = '1'\n";
    let mut pipeline = Pipeline::into_bucket(settings)?;
    let port = free_port()?;
    pipeline.send(9_000, 4_000, &["large"])?;
    let metrics = format!("127.0.0.1:{port}");
    let running = pipeline.job.start("events.sql", &["--parallelism", "1", "--metrics", &metrics])?;
    pipeline.wait_for_upload(&running)?;
    pipeline.minio()?.stop()?;
    for _ in 0..16 {
        pipeline.send(1_000, 4_000, &["large"])?;
    }
    running.wait_for_log("the commit of a sink failed and is tried again")?;
    running.wait_for_log("a checkpoint takes long")?;
    let (read, used) = (metric(port, "headwater_rows_read_total")?, metric(port, "headwater_memory_used_bytes")?);
    ensure!(read < 20_000.0 && used < 32e6, "{read} rows are read, {used} bytes held");
    pipeline.minio()?.restart()?;
    pipeline.wait_until_read()?;
    ensure!(metric(port, "headwater_attempts_total")? == 1.0, "the job began again:\n{}", running.log()?);

    // Frozen, it takes what it was sent before, perhaps after the job has sent it again.
    let heard = running.log()?.len();
    pipeline.minio()?.freeze()?;
    send_for(&mut pipeline, Duration::from_secs(15))?;
    said_since(&running, heard, "a checkpoint takes long")?;
    pipeline.minio()?.thaw()?;
    pipeline.wait_until_read()?;
    pipeline.stop(running)?;
    std::fs::write(pipeline.job.path().join("headwater.toml"), "")?;
    pipeline.ensure_sound()?;
    pipeline.ensure_as_batch(100)?;
    let minio = pipeline.minio()?;
    ensure!(minio.open_uploads("lake")? == 0, "uploads are left");
    let left: Vec<String> = minio.keys("lake", "")?.into_iter().filter(|key| key.contains("/_headwater/")).collect();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}
