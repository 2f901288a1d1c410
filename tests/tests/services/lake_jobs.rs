//! A job that writes folders of a bucket, killed at many moments: what becomes visible is what the batch query gives.
//!
//! Invariant: no object is visible whose checkpoint is not published, and no upload outlives the job that began it.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, ensure};
use headwater_tests::{
    jobs::{JobFolder, RunningJob},
    services::Minio,
};
use rand::{Rng, SeedableRng, rngs::SmallRng};

pub(super) const BINARY: &str = env!("CARGO_BIN_EXE_headwater-under-test");
pub(super) const KINDS: [&str; 3] = ["like", "comment", "share"];
const BUCKET: &str = "s3://lake";

/// A watched folder, and two that are written below `LAKE`.
const TABLES: &str = "
CREATE TABLE events (id BIGINT, kind VARCHAR, pad VARCHAR, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND)
  WITH ('connector' = 'filesystem', 'path' = 'events', 'format' = 'json', 'source.monitor-interval' = '100 ms');
CREATE TABLE lines (id BIGINT, pad VARCHAR, ts TIMESTAMP(3), kind VARCHAR) PARTITIONED BY (kind)
  WITH ('connector' = 'filesystem', 'path' = 'LAKE/lines', 'format' = 'json',
        'sink.rolling-policy.inactivity-interval' = '1 s');
CREATE TABLE counts (window_start TIMESTAMP(3), n BIGINT, ids BIGINT, kind VARCHAR) PARTITIONED BY (kind)
  WITH ('connector' = 'filesystem', 'path' = 'LAKE/counts', 'format' = 'parquet',
        'sink.rolling-policy.rollover-interval' = '1 s');
";
const COUNTED: &str = "SELECT window_start, count(*) AS n, sum(id) AS ids, kind
  FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY kind, window_start, window_end";

/// The folder of a job, its bucket if it has one, and the rows that were sent.
pub(super) struct Pipeline {
    minio: Option<Minio>,
    pub(super) job: JobFolder,
    tables: String,
    sent: u64,
}

impl Pipeline {
    /// A job with these settings that writes into a bucket.
    pub(super) fn into_bucket(settings: &str) -> Result<Self> {
        let minio = Minio::start()?;
        minio.create_bucket("lake")?;
        let mut pipeline = Self::into_folder(BUCKET, settings)?;
        pipeline.job = pipeline
            .job
            .with_variable("AWS_ENDPOINT_URL_S3", &minio.endpoint)
            .with_variable("AWS_ACCESS_KEY_ID", &minio.access_key)
            .with_variable("AWS_SECRET_ACCESS_KEY", &minio.secret_key)
            .with_variable("AWS_REGION", "us-east-1");
        pipeline.minio = Some(minio);
        Ok(pipeline)
    }

    /// A job with these settings that writes below a folder.
    pub(super) fn into_folder(lake: &str, settings: &str) -> Result<Self> {
        let tables = TABLES.replace("LAKE", lake);
        let script =
            format!("{tables}INSERT INTO lines SELECT id, pad, ts, kind FROM events;\nINSERT INTO counts {COUNTED};");
        let job = JobFolder::new(BINARY, "events.sql", &script, settings)?;
        fs::create_dir(job.path().join("events"))?;
        Ok(Self { minio: None, job, tables, sent: 0 })
    }

    /// The same with its state at this place.
    pub(super) fn with_state(self, state: &str) -> Self {
        Self { job: self.job.with_state(state), ..self }
    }

    /// Its bucket.
    pub(super) fn minio(&mut self) -> Result<&mut Minio> {
        self.minio.as_mut().context("this pipeline has no bucket")
    }

    /// A file of rows, ten a second of event time; it appears at once.
    pub(super) fn send(&mut self, rows: u64, pad: usize, kinds: &[&str]) -> Result<()> {
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

    pub(super) fn query(&self, sql: &str) -> Result<Vec<String>> {
        self.job.query(&format!("{}{sql}", self.tables))
    }

    /// Waits until the job has read all that was sent.
    pub(super) fn wait_until_read(&self) -> Result<()> {
        let sent = self.sent.to_string();
        self.job.wait_for("SELECT sum(rows_read) FROM headwater.jobs", |lines| lines == [sent.clone()]).map(drop)
    }

    /// Stops the job, which must end well.
    pub(super) fn stop(&self, running: RunningJob) -> Result<()> {
        let asked = self.job.ended(&["jobs", "stop", "events"])?;
        ensure!(asked.status.success(), "{}{}", String::from_utf8_lossy(&asked.stderr), running.log()?);
        running.finish().map(drop)
    }

    /// Every visible object belongs to a checkpoint that is published, and no row is there twice.
    pub(super) fn ensure_sound(&mut self) -> Result<()> {
        // What is listed first was published before.
        let mut visible = self.minio()?.keys("lake", "lines/")?;
        visible.extend(self.minio()?.keys("lake", "counts/")?);
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
    pub(super) fn ensure_as_batch(&self, windows: usize) -> Result<()> {
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

    /// Waits until the job has begun an upload.
    pub(super) fn wait_for_upload(&mut self, running: &RunningJob) -> Result<()> {
        let (begun, patience) = (running.started(), Duration::from_secs(120));
        let jobs = self.minio()?.folder("lake").join("lines/_headwater/jobs");
        while !is_noted(&jobs, begun) {
            ensure!(begun.elapsed()? < patience, "no upload begins:\n{}", running.log()?);
            std::thread::park_timeout(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Kills a job while an upload of it is under way, of which the store still knows afterwards.
    fn kill_while_uploading(&mut self) -> Result<()> {
        let running = self.job.start("events.sql", &[])?;
        self.wait_for_upload(&running)?;
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
    let settings = "'checkpoint.interval' = '300 ms'\n's3.timeout' = '10 s'\n's3.retries' = '1'\n";
    let mut pipeline = Pipeline::into_bucket(settings)?;
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
        left += pipeline.minio()?.open_uploads("lake")?;
        pipeline.ensure_sound()?;
    }
    ensure!(left > 0, "no kill left an upload behind");
    pipeline.send(600, 0, &KINDS)?;
    let log = pipeline.job.start("events.sql", &["--once"])?.finish()?;
    pipeline.ensure_sound()?;
    ensure!(pipeline.minio()?.open_uploads("lake")? == 0, "uploads are left:\n{log}");
    let left = pipeline.minio()?.keys("lake", "lines/_headwater/")?;
    ensure!(left.is_empty(), "{left:?}");
    pipeline.ensure_as_batch(400)
}
