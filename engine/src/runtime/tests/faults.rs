//! Stores and sinks that fail for a while: full disks, outages, lost replies, commits that arrive late or twice.
//!
//! Invariant: a call that fails did nothing, or all of it; the caller cannot tell which.

use std::{
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use bytes::Bytes;

use super::*;
use crate::{
    checkpoint::store::Created,
    connector::{
        CommitFacts, CommitReport, Committable, Distribution, Guarantee, JobContext, OpenUnit, Sink, SinkTask,
        SinkWriter,
    },
    error::{Error, ErrorKind, Result},
    message::{ChangeBatch, Epoch},
    time::Clock,
};

/// A time during which every call fails.
#[derive(Debug, Clone)]
struct Outage {
    clock: Arc<StepClock>,
    from_ms: i64,
    to_ms: i64,
    kind: ErrorKind,
    refused: Arc<AtomicU64>,
}

impl Outage {
    fn check(&self) -> Result<()> {
        if !(self.from_ms..self.to_ms).contains(&(self.clock.now().0 - START)) {
            return Ok(());
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        Err(Error::new(self.kind, "OUTAGE", "nothing works now"))
    }
}

#[derive(Debug)]
struct OutageStore(MemoryStore, Outage);

impl fmt::Display for OutageStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a store with outages")
    }
}

#[async_trait]
impl CheckpointStore for OutageStore {
    async fn create(&self, path: &str, bytes: Bytes) -> Result<Created> {
        self.1.check()?;
        self.0.create(path, bytes).await
    }

    async fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.1.check()?;
        self.0.put(path, bytes).await
    }

    async fn get(&self, path: &str) -> Result<Option<Bytes>> {
        self.1.check()?;
        self.0.get(path).await
    }

    async fn folders(&self) -> Result<Vec<String>> {
        self.0.folders().await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        self.1.check()?;
        self.0.list(prefix).await
    }

    async fn delete(&self, path: &str) -> Result<()> {
        self.1.check()?;
        self.0.delete(path).await
    }
}

/// What goes wrong in a sink's calls to its system.
#[derive(Debug, Clone)]
pub(super) enum Trouble {
    /// Every call, for a while.
    Outage(Box<OutageOf>),
    /// A share of the calls, before or after it is done; some commits are made twice, some take long.
    Share(Arc<Mutex<SmallRng>>, f64),
}

/// An outage that a test outside this file need not look into.
#[derive(Debug, Clone)]
pub(super) struct OutageOf(Outage);

/// A table whose system fails.
#[derive(Debug)]
pub(super) struct FaultySink {
    table: MemoryTable,
    trouble: Trouble,
}

impl FaultySink {
    /// A sink that fails a share of its calls, by a seed.
    pub(super) fn by_seed(table: &MemoryTable, seed: u64, share: f64) -> Self {
        let random = Arc::new(Mutex::new(SmallRng::seed_from_u64(seed)));
        Self { table: table.clone(), trouble: Trouble::Share(random, share) }
    }

    /// Whether the call fails before it is done, and whether after.
    async fn fate(&self) -> (Result<()>, Result<()>, bool) {
        let lost = || Err(Error::unavailable("the sink's system did not answer"));
        match &self.trouble {
            Trouble::Outage(outage) => (outage.0.check(), Ok(()), false),
            Trouble::Share(random, share) => {
                let (fails, after, twice, pauses) = {
                    let mut random = random.lock().unwrap();
                    let slow = if random.random_bool(0.1) { 300 } else { 5 };
                    let fails = random.random_bool(*share);
                    (fails, random.random_bool(0.5), random.random_bool(0.1), random.random_range(0..slow))
                };
                for _ in 0..pauses {
                    tokio::task::yield_now().await;
                }
                match (fails, after) {
                    (true, false) => (lost(), Ok(()), twice),
                    (true, true) => (Ok(()), lost(), twice),
                    (false, _) => (Ok(()), Ok(()), twice),
                }
            }
        }
    }
}

impl fmt::Display for FaultySink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table that fails")
    }
}

#[async_trait]
impl Sink for FaultySink {
    fn accepts(&self) -> ChangelogMode {
        self.table.accepts()
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn distribution(&self) -> Distribution {
        self.table.distribution()
    }

    async fn check(&self, job: &JobContext, schema: SchemaRef) -> Result<()> {
        self.fate().await.0?;
        self.table.check(job, schema).await
    }

    async fn writer(&self, job: &JobContext, task: SinkTask, open: Vec<OpenUnit>) -> Result<Box<dyn SinkWriter>> {
        self.table.writer(job, task, open).await
    }

    async fn recover(&self, job: &JobContext, facts: &CommitFacts) -> Result<()> {
        let (before, after, _) = self.fate().await;
        before?;
        self.table.recover(job, facts).await?;
        after
    }

    async fn commit(&self, job: &JobContext, epoch: Epoch, work: Vec<Committable>) -> Result<CommitReport> {
        let (before, after, twice) = self.fate().await;
        before?;
        let mut kept: Vec<(String, String, Vec<ChangeBatch>)> = Vec::new();
        for unit in work {
            let rows = futures::TryStreamExt::try_collect(unit.rows).await?;
            kept.push((unit.unit, unit.detail, rows));
        }
        let again = || {
            kept.iter().map(|(unit, detail, rows)| {
                let rows = futures::StreamExt::boxed(futures::stream::iter(rows.clone().into_iter().map(Ok)));
                Committable { unit: unit.clone(), detail: detail.clone(), rows }
            })
        };
        let report = self.table.commit(job, epoch, again().collect()).await?;
        if twice {
            self.table.commit(job, epoch, again().collect()).await?;
        }
        after.map(|()| report)
    }
}

/// A minute in which nothing works, in the store or in the sink: the job waits, goes on by itself, and nothing shows.
async fn survives(kind: ErrorKind, in_store: bool) {
    let events = events(5, 900);
    let log = MemoryLog::new(false, 20);
    fill(&log, &events, 3);
    let clock = Arc::new(StepClock::new(Instant(START)));
    let outage = Outage { clock: Arc::clone(&clock), from_ms: 150, to_ms: 60_150, kind, refused: Arc::default() };
    let refused = Arc::clone(&outage.refused);
    let table = MemoryTable::new(ChangelogMode::Append, 1);
    let store: Arc<dyn CheckpointStore> = match in_store {
        true => Arc::new(OutageStore(MemoryStore::default(), outage.clone())),
        false => Arc::new(MemoryStore::default()),
    };
    let trouble = if in_store {
        Trouble::Share(Arc::new(Mutex::new(SmallRng::seed_from_u64(1))), 0.0)
    } else {
        Trouble::Outage(Box::new(OutageOf(outage)))
    };
    let sink = FaultySink { table: table.clone(), trouble };
    let job_clock: Arc<dyn Clock> = Arc::clone(&clock) as _;
    let config = JobConfig { clock: job_clock, restarts: u32::MAX, ..config(store, 2) };
    let job = run(graph_into(&log, TUMBLE, Arc::new(sink)), config, CancellationToken::new());
    let close = async {
        while clock.now().0 - START < 61_000 {
            tokio::task::yield_now().await;
        }
        log.close();
    };
    let (summary, ()) = tokio::join!(job, close);
    check_ledger(&summary.unwrap(), &events);
    assert_eq!(actual(&table), expected(&events, TUMBLE));
    let refused = refused.load(Ordering::Relaxed);
    assert!((2..200).contains(&refused), "it tried {refused} times in a minute");
}

#[tokio::test]
async fn a_store_that_fails_for_a_minute_and_a_full_disk_are_waited_for() {
    survives(ErrorKind::Unavailable, true).await;
    survives(ErrorKind::Limit, true).await;
}

#[tokio::test]
async fn a_sink_that_fails_for_a_minute_and_a_full_disk_are_waited_for() {
    survives(ErrorKind::Unavailable, false).await;
    survives(ErrorKind::Limit, false).await;
}

#[tokio::test]
async fn a_store_that_refuses_is_an_error_at_once() {
    let clock = Arc::new(StepClock::new(Instant(START)));
    let kind = ErrorKind::Denied;
    let outage = Outage { clock: Arc::clone(&clock), from_ms: 0, to_ms: i64::MAX, kind, refused: Arc::default() };
    let store: Arc<dyn CheckpointStore> = Arc::new(OutageStore(MemoryStore::default(), outage));
    let log = MemoryLog::new(false, 20);
    let table = MemoryTable::new(ChangelogMode::Append, 1);
    let config = JobConfig { clock, ..config(store, 2) };
    let error = run(graph(&log, &table, TUMBLE), config, CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
}
