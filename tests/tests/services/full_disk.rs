//! Disks that fill up under a job's files, under its state and under its spilled state, and under statements: a job says
//! so, waits and goes on by itself once there is room; a statement fails and leaves nothing.
//!
//! Invariant: the disk is a real one, and what is there at the end is what the batch query gives.

use std::time::Duration;

use anyhow::{Result, ensure};
use headwater_tests::{
    disk::SmallDisk,
    jobs::{JobFolder, RunningJob},
};

use super::lake_jobs::{BINARY, KINDS, Pipeline};

const FULL: &str = "No space left on device";
const SETTINGS: &str = "'checkpoint.interval' = '300 ms'\n";

fn text(disk: &SmallDisk, folder: &str) -> String {
    disk.path().join(folder).to_string_lossy().into_owned()
}

/// Keeps the disk full for several checkpoints while rows come, and until the job says this once more.
fn fill_up(disk: &SmallDisk, pipeline: &mut Pipeline, running: &RunningJob, what: &str) -> Result<()> {
    let heard = running.log()?.len();
    for beat in 0.. {
        // What the job deletes makes room, which is taken too.
        disk.fill(0)?;
        let log = running.log()?;
        let is_said = log.get(heard..).is_some_and(|said| said.contains(FULL) && said.contains(what));
        if is_said && beat >= 10 {
            break;
        }
        ensure!(beat < 600, "{what:?} is not said:\n{log}");
        if beat < 10 {
            pipeline.send(100, 1_000, &KINDS)?;
        }
        std::thread::park_timeout(Duration::from_millis(300));
    }
    Ok(())
}

#[test]
fn a_full_disk_under_the_files_of_a_job_is_waited_for() -> Result<()> {
    let disk = SmallDisk::mount(8)?;
    let mut pipeline = Pipeline::into_folder(&text(&disk, "lake"), SETTINGS)?;
    let running = pipeline.job.start("events.sql", &["--parallelism", "2"])?;
    for _ in 0..2 {
        pipeline.send(500, 20, &KINDS)?;
        pipeline.wait_until_read()?;
        fill_up(&disk, &mut pipeline, &running, "the commit of a sink failed and is tried again")?;
        // What is visible is whole.
        let ids = pipeline.query("SELECT count(*) - count(DISTINCT id), count(*) - count(pad) FROM lines")?;
        ensure!(ids == ["0,0"], "{ids:?}");
        disk.clear()?;
        pipeline.wait_until_read()?;
    }
    pipeline.stop(running)?;
    pipeline.ensure_as_batch(10)?;
    let hidden: Vec<_> = disk.files()?.into_iter().filter(|(path, _)| path.to_string_lossy().contains("/_")).collect();
    ensure!(hidden.is_empty(), "{hidden:?}");
    Ok(())
}

#[test]
fn a_full_disk_under_the_state_of_a_job_is_waited_for() -> Result<()> {
    let disk = SmallDisk::mount(16)?;
    let mut pipeline = Pipeline::into_folder("lake", SETTINGS)?.with_state(&text(&disk, "state"));
    let running = pipeline.job.start("events.sql", &["--parallelism", "2"])?;
    for _ in 0..2 {
        pipeline.send(500, 20, &KINDS)?;
        pipeline.wait_until_read()?;
        fill_up(&disk, &mut pipeline, &running, "a call of the state store failed and is tried again")?;
        disk.clear()?;
        pipeline.wait_until_read()?;
    }
    pipeline.stop(running)?;
    pipeline.ensure_as_batch(10)?;
    let torn: Vec<_> = disk.files()?.into_iter().filter(|(path, _)| path.to_string_lossy().contains(".tmp-")).collect();
    ensure!(torn.is_empty(), "{torn:?}");
    Ok(())
}

const KEYS: &str = "
CREATE TABLE events (k BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
  WITH ('connector' = 'filesystem', 'path' = 'events', 'format' = 'json', 'source.monitor-interval' = '100 ms');
CREATE TABLE counts (k BIGINT, n BIGINT) WITH ('connector' = 'filesystem', 'path' = 'counts', 'format' = 'json');
";
const COUNT_KEYS: &str = "INSERT INTO counts SELECT k, count(*)
  FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY k, window_start, window_end;";

#[test]
fn a_full_disk_under_spilled_state_is_waited_for() -> Result<()> {
    let disk = SmallDisk::mount(32)?;
    // Long enough for the state to be on its way to disk before a checkpoint is.
    let settings = "'checkpoint.interval' = '5 s'\n'memory.limit' = '1 MB'\n";
    let job = JobFolder::new(BINARY, "keys.sql", &format!("{KEYS}{COUNT_KEYS}"), settings)?;
    let job = job.with_state(&text(&disk, "state"));
    std::fs::create_dir(job.path().join("events"))?;
    let send = |file: &str, keys: std::ops::Range<u32>, hour: u32| {
        let line = |k: u32| format!("{{\"k\": {k}, \"ts\": \"2026-01-01 {hour:02}:00:00\"}}\n");
        std::fs::write(job.path().join("events").join(file), keys.map(line).collect::<String>())
    };
    let running = job.start("keys.sql", &["--parallelism", "1"])?;
    send("1.json", 0..10, 0)?;
    job.wait_for("SELECT sum(rows_read) FROM headwater.jobs", |lines| lines == ["10"])?;
    disk.fill(0)?;
    send("2.json", 0..100_000, 0)?;
    running.wait_for_log(FULL)?;
    let said = running.log()?;
    ensure!(said.contains("spilled state"), "{said}");
    std::thread::park_timeout(Duration::from_secs(2));
    disk.clear()?;
    send("3.json", 0..1, 2)?;
    job.wait_for("SELECT sum(rows_read) FROM headwater.jobs", |lines| lines == ["100011"])?;
    let spilled = job.query("SELECT max(spilled_bytes) FROM headwater.operators")?;
    ensure!(spilled.first().is_some_and(|bytes| bytes != "0"), "nothing was spilled: {spilled:?}");
    ensure!(job.ended(&["jobs", "stop", "keys"])?.status.success(), "cannot be stopped:\n{}", running.log()?);
    running.finish()?;
    std::fs::write(job.path().join("headwater.toml"), "")?;
    let counts = job.query("SELECT count(*), count(DISTINCT k), sum(n) FROM read_json('counts/*')")?;
    ensure!(counts == ["100000,100000,100010"], "{counts:?}");
    Ok(())
}

#[test]
fn a_statement_into_a_full_disk_fails_and_leaves_what_was_there() -> Result<()> {
    let disk = SmallDisk::mount(8)?;
    let folder = JobFolder::new(BINARY, "none.sql", "", "")?;
    let lake = text(&disk, "lake");
    let rows = |count: u32| {
        format!(
            "SELECT n, to_hex(sha512(to_utf8(CAST(n AS varchar)))) AS pad FROM UNNEST(sequence(1, {count})) AS t (n)"
        )
    };
    folder.query(&format!(
        "CREATE TABLE kept WITH (format = 'JSON', external_location = '{lake}/kept/') AS {};
         CREATE TABLE parted WITH (format = 'PARQUET', external_location = '{lake}/parted/', partitioned_by = ARRAY['p']) AS
           SELECT n, pad, n % 3 AS p FROM ({})",
        rows(1_000),
        rows(900)
    ))?;
    let before = disk.files()?;
    ensure!(!before.is_empty());
    disk.fill(64 << 10)?;
    let many = rows(9_000);
    for (statement, left) in [
        (format!("INSERT INTO kept {many}"), 64 << 10),
        (format!("INSERT INTO parted SELECT n, pad, n % 7 FROM ({many})"), 64 << 10),
        (format!("INSERT OVERWRITE parted SELECT n, pad, n % 7 FROM ({many})"), 64 << 10),
        (format!("CREATE TABLE made WITH (format = 'JSON', external_location = '{lake}/made/') AS {many}"), 64 << 10),
        (format!("UNLOAD ({many}) TO '{lake}/unloaded/' WITH (format = 'JSON')"), 64 << 10),
        // Not even the first record of the statement has room.
        (format!("INSERT INTO kept {many}"), 0),
    ] {
        disk.fill(left)?;
        let output = folder.ended(&["-c", &statement])?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(1), "{statement}: {:?} {said}", output.status);
        for part in ["error[NO_SPACE]", FULL, "make space and run the statement again"] {
            ensure!(said.contains(part), "{statement}: {said}");
        }
        ensure!(disk.files()? == before, "{statement} left {:?}", disk.files()?);
    }
    let rows_of = |table: &str| folder.query(&format!("SELECT count(*), count(DISTINCT n) FROM {table}"));
    ensure!(rows_of("kept")? == ["1000,1000"] && rows_of("parted")? == ["900,900"]);
    ensure!(rows_of("made").is_err(), "a table is there that was not made");
    disk.clear()?;
    folder.query(&format!("INSERT INTO kept {many}"))?;
    ensure!(rows_of("kept")? == ["10000,9000"]);
    Ok(())
}
