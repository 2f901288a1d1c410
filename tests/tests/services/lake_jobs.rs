//! A job that writes folders of a bucket, killed at many moments: what becomes visible is what the batch query gives.
//!
//! Invariant: no object is visible whose checkpoint is not published, and no upload outlives the job that began it.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, ensure};
use headwater_tests::{jobs::JobFolder, services::Minio};
use rand::{Rng, SeedableRng, rngs::SmallRng};

const BINARY: &str = env!("CARGO_BIN_EXE_headwater-under-test");
const KINDS: [&str; 3] = ["like", "comment", "share"];

const TABLES: &str = "
CREATE TABLE events (id BIGINT, kind VARCHAR, pad VARCHAR, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND)
  WITH ('connector' = 'filesystem', 'path' = 'events', 'format' = 'json', 'source.monitor-interval' = '100 ms');
CREATE TABLE lines (id BIGINT, pad VARCHAR, ts TIMESTAMP(3), kind VARCHAR) PARTITIONED BY (kind)
  WITH ('connector' = 'filesystem', 'path' = 's3://lake/lines', 'format' = 'json',
        'sink.rolling-policy.inactivity-interval' = '1 s');
CREATE TABLE counts (window_start TIMESTAMP(3), n BIGINT, ids BIGINT, kind VARCHAR) PARTITIONED BY (kind)
  WITH ('connector' = 'filesystem', 'path' = 's3://lake/counts', 'format' = 'parquet',
        'sink.rolling-policy.rollover-interval' = '1 s');
";
const COUNTED: &str = "SELECT window_start, count(*) AS n, sum(id) AS ids, kind
  FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY kind, window_start, window_end";

/// The folder of a job, its bucket, and the rows that were sent.
struct Pipeline {
    minio: Minio,
    job: JobFolder,
    sent: u64,
}

impl Pipeline {
    fn start() -> Result<Self> {
        let minio = Minio::start()?;
        minio.create_bucket("lake")?;
        let script =
            format!("{TABLES}INSERT INTO lines SELECT id, pad, ts, kind FROM events;\nINSERT INTO counts {COUNTED};");
        let settings = "'checkpoint.interval' = '300 ms'\n's3.timeout' = '10 s'\n's3.retries' = '1'\n";
        let job = JobFolder::new(BINARY, "events.sql", &script, settings)?
            .with_variable("AWS_ENDPOINT_URL_S3", &minio.endpoint)
            .with_variable("AWS_ACCESS_KEY_ID", &minio.access_key)
            .with_variable("AWS_SECRET_ACCESS_KEY", &minio.secret_key)
            .with_variable("AWS_REGION", "us-east-1");
        fs::create_dir(job.path().join("events"))?;
        Ok(Self { minio, job, sent: 0 })
    }

    /// A file of rows, ten a second of event time; it appears at once.
    fn send(&mut self, rows: u64, pad: usize, kinds: &[&str]) -> Result<()> {
        let pad = "x".repeat(pad);
        let line = |id: u64| {
            let (tenths, kind) = (id % 10, kinds[(id % kinds.len() as u64) as usize]);
            let (hour, minute, second) = (id / 36_000, id / 600 % 60, id / 10 % 60);
            let ts = format!("2026-01-01 {hour:02}:{minute:02}:{second:02}.{tenths}");
            format!("{{\"id\":{id},\"kind\":\"{kind}\",\"pad\":\"{pad}\",\"ts\":\"{ts}\"}}\n")
        };
        let lines: String = (self.sent..self.sent + rows).map(line).collect();
        let folder = self.job.path();
        fs::write(folder.join("file.part"), lines)?;
        fs::rename(folder.join("file.part"), folder.join(format!("events/{:08}.json", self.sent)))?;
        self.sent += rows;
        Ok(())
    }

    fn query(&self, sql: &str) -> Result<Vec<String>> {
        self.job.query(&format!("{TABLES}{sql}"))
    }

    /// Every visible object belongs to a checkpoint that is published, and no row is there twice.
    fn ensure_sound(&self) -> Result<()> {
        // What is listed first was published before.
        let mut visible = self.minio.keys("lake", "lines/")?;
        visible.extend(self.minio.keys("lake", "counts/")?);
        visible.retain(|key| !key.contains("/_headwater/"));
        let newest = self.job.query("SELECT checkpoint FROM headwater.jobs")?;
        let newest: u64 = newest.first().filter(|text| !text.is_empty()).map_or(Ok(0), |text| text.parse())?;
        for key in &visible {
            let name = key.rsplit('/').next().unwrap_or_default();
            let epoch: u64 = name.split('-').nth(4).with_context(|| format!("no epoch in {key}"))?.parse()?;
            ensure!(epoch <= newest, "{key} is visible, and checkpoint {newest} is the newest");
        }
        let twice = self.query("SELECT id FROM lines GROUP BY id HAVING count(*) > 1 LIMIT 3")?;
        ensure!(twice.is_empty(), "rows are there twice: {twice:?}");
        Ok(())
    }

    /// The folders hold what the queries give in batch, of windows those that the last row's watermark has passed.
    fn ensure_as_batch(&self, windows: usize) -> Result<()> {
        let missing =
            "SELECT count(*) FROM (SELECT id, kind, pad, ts FROM events EXCEPT SELECT id, kind, pad, ts FROM lines)";
        ensure!(self.query(missing)? == ["0"], "{:?} rows are missing", self.query(missing)?);
        ensure!(self.query("SELECT count(*) FROM lines")? == [self.sent.to_string()]);
        let last = format!("SELECT max(window_start) FROM ({COUNTED})");
        let order = "ORDER BY window_start, kind";
        let expected = self.query(&format!("SELECT * FROM ({COUNTED}) WHERE window_start < ({last}) {order}"))?;
        ensure!(expected.len() > windows, "{} windows", expected.len());
        ensure!(self.query(&format!("SELECT window_start, n, ids, kind FROM counts {order}"))? == expected);
        Ok(())
    }

    /// Kills a job while an upload of it is under way, of which the store still knows afterwards.
    fn kill_while_uploading(&self) -> Result<()> {
        let (begun, patience) = (SystemTime::now(), Duration::from_secs(120));
        let running = self.job.start("events.sql", &[])?;
        while !is_noted(&self.minio.folder("lake").join("lines/_headwater/jobs"), begun) {
            ensure!(begun.elapsed()? < patience, "no upload begins:\n{}", running.log()?);
            std::thread::park_timeout(Duration::from_millis(2));
        }
        running.kill()
    }
}

/// Whether an upload was noted here since then; what is looked at may come and go.
fn is_noted(folder: &Path, since: SystemTime) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| match path.is_dir() {
        true => is_noted(&path, since),
        false => {
            let is_note = path.components().any(|part| part.as_os_str() == "uploads");
            is_note && path.metadata().and_then(|found| found.modified()).is_ok_and(|at| at > since)
        }
    })
}

#[test]
fn what_a_killed_job_writes_to_a_bucket_is_the_batch_result() -> Result<()> {
    let seed = 20_260_101;
    let mut random = SmallRng::seed_from_u64(seed);
    let mut pipeline = Pipeline::start()?;
    for kill in 0..8 {
        pipeline.send(1_500, 20, &KINDS)?;
        let parallelism = random.random_range(1..=3).to_string();
        let running = pipeline.job.start("events.sql", &["--parallelism", &parallelism])?;
        std::thread::park_timeout(Duration::from_millis(random.random_range(300..4_000)));
        running.kill().with_context(|| format!("kill {kill} of seed {seed}"))?;
        pipeline.ensure_sound()?;
    }

    // Files of several parts: the upload of a dead job is aborted by the next one.
    pipeline.send(9_000, 4_000, &["large"])?;
    let mut left = 0;
    for _ in 0..3 {
        pipeline.kill_while_uploading()?;
        left += pipeline.minio.open_uploads("lake")?;
        pipeline.ensure_sound()?;
    }
    ensure!(left > 0, "no kill left an upload behind");
    pipeline.send(600, 0, &KINDS)?;
    let log = pipeline.job.start("events.sql", &["--once"])?.finish()?;
    pipeline.ensure_sound()?;
    ensure!(pipeline.minio.open_uploads("lake")? == 0, "uploads are left:\n{log}");
    let left = pipeline.minio.keys("lake", "lines/_headwater/")?;
    ensure!(left.is_empty(), "{left:?}");
    pipeline.ensure_as_batch(400)
}
