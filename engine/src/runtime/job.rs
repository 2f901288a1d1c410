//! Running a job: attempts one after another until it is done.
//!
//! Invariant: an attempt that failed for a reason outside (a store, a broker) is followed by another one from the newest
//! checkpoint; one that failed for a reason of its own (the query, the data, a defect, a larger generation) is not.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    accounts::{SplitAccount, add_account},
    checkpoint::{
        manifest::Manifest,
        store::{self, CheckpointStore},
    },
    error::{Error, ErrorKind, Result},
    graph::Graph,
    message::Epoch,
    metrics::JobMetrics,
    runtime::{attempt::attempt, rejections::Rejections},
    time::{Clock, SystemClock},
};

/// Everything a job needs beside its graph.
#[derive(Debug, Clone)]
pub struct JobConfig {
    /// Name; with the store it is the job's identity.
    pub name: String,
    /// Where checkpoints live.
    pub store: Arc<dyn CheckpointStore>,
    /// Folder on a local disk for logs and spilled state.
    pub local_state: PathBuf,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Tasks of each stage (`--parallelism`).
    pub parallelism: usize,
    /// Time between two checkpoints (`checkpoint.interval`).
    pub interval: Duration,
    /// Stop at the ends that are there at the start (`--once`).
    pub once: bool,
    /// Bytes of `memory.limit`.
    pub memory_limit: usize,
    /// Checkpoints kept (`checkpoint.retained`).
    pub retained: usize,
    /// Go back to this epoch (`--from-checkpoint`).
    pub from_checkpoint: Option<GoBackTo>,
    /// Accept repeated output when going back (`--allow-repeat`).
    pub allow_repeat: bool,
    /// Accept the loss of state a changed query has no use for (`--allow-drop`).
    pub allow_drop: bool,
    /// How long rows of `"t$rejected"` and `"t$late"` stay readable (`rejected.retention`).
    pub rejected_retention: Duration,
    /// Rejected rows a second above which a source task slows down (`rejected.max-rate`).
    pub rejected_max_rate: Option<u64>,
    /// Path of the script, so that another one under the same name is refused; empty: not compared.
    pub script: String,
    /// Accept another script than the one that was recorded (`--job` names the job whatever its file).
    pub any_script: bool,
    /// Host, for the message who holds a job.
    pub host: String,
    /// Process id, likewise.
    pub pid: u32,
    /// How often an attempt that failed for a reason outside is followed by another.
    pub restarts: u32,
    /// Who wants to see manifests as they are committed.
    pub observer: Observer,
    /// What is counted while it runs.
    pub metrics: Arc<JobMetrics>,
}

impl JobConfig {
    /// The defaults: system clock, one task, 10 s, 1 GB, three checkpoints kept.
    pub fn new(name: impl Into<String>, store: Arc<dyn CheckpointStore>, local_state: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            store,
            local_state: local_state.into(),
            clock: Arc::new(SystemClock),
            parallelism: 1,
            interval: Duration::from_secs(10),
            once: false,
            memory_limit: 1 << 30,
            retained: 3,
            from_checkpoint: None,
            allow_repeat: false,
            allow_drop: false,
            rejected_retention: Duration::from_secs(7 * 24 * 3600),
            rejected_max_rate: None,
            script: String::new(),
            any_script: false,
            host: String::new(),
            pid: std::process::id(),
            restarts: u32::MAX,
            observer: Observer::default(),
            metrics: Arc::default(),
        }
    }
}

/// What `--from-checkpoint` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GoBackTo {
    /// A checkpoint that is kept.
    Epoch(Epoch),
    /// A checkpoint that was given a name.
    Savepoint(String),
}

impl fmt::Display for GoBackTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GoBackTo::Epoch(epoch) => write!(f, "checkpoint {}", epoch.0),
            GoBackTo::Savepoint(name) => write!(f, "savepoint \"{name}\""),
        }
    }
}

/// Sees each manifest once it is committed.
#[derive(Debug, Clone, Default)]
pub struct Observer(Option<watch::Sender<Option<Arc<Manifest>>>>);

impl Observer {
    /// An observer and where to look.
    pub fn channel() -> (Self, watch::Receiver<Option<Arc<Manifest>>>) {
        let (sender, receiver) = watch::channel(None);
        (Self(Some(sender)), receiver)
    }

    pub(crate) fn published(&self, manifest: &Manifest) {
        if let Some(sender) = &self.0 {
            sender.send_replace(Some(Arc::new(manifest.clone())));
        }
    }
}

/// What a job did.
#[derive(Debug, Clone, Default)]
pub struct JobSummary {
    /// The last checkpoint.
    pub manifest: Option<Manifest>,
    /// Accounts by table and INSERT.
    pub ledger: BTreeMap<String, SplitAccount>,
    /// Rows that this run, not an earlier one, has put into `"t$rejected"`, by table.
    pub rejected: BTreeMap<String, u64>,
}

impl JobSummary {
    fn of(manifest: Option<Manifest>, course: &Course, graph: &Graph) -> Self {
        let ledger = manifest.as_ref().map(ledger).unwrap_or_default();
        let begun = course.begun.clone().unwrap_or_default();
        let rejected = Rejections::of(manifest.as_ref()).since(&begun, graph);
        Self { manifest, ledger, rejected }
    }

    /// Rows that sinks were given in all, without those they refused.
    pub fn rows_written(&self) -> u64 {
        let sinks = self.manifest.iter().flat_map(|manifest| manifest.sinks.values());
        sinks.map(|sink| sink.rows.saturating_sub(sink.refused)).sum()
    }
}

/// The accounts of a checkpoint by table and INSERT, summed over splits.
pub fn ledger(manifest: &Manifest) -> BTreeMap<String, SplitAccount> {
    let mut ledger: BTreeMap<String, SplitAccount> = BTreeMap::new();
    for source in manifest.sources.values() {
        let sum = ledger.entry(source.table.clone()).or_default();
        add_account(sum, &source.retired);
        source.splits.iter().for_each(|split| add_account(sum, &split.account));
    }
    ledger
}

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFailure {
    /// Try again after this time.
    Restart(Duration),
    /// Report the error.
    Stop,
}

/// Decides what follows a failed attempt; `failures` counts those in a row without a checkpoint between them.
pub fn after_failure(kind: ErrorKind, failures: u32, restarts: u32) -> AfterFailure {
    match kind {
        ErrorKind::Unavailable | ErrorKind::Conflict | ErrorKind::Limit if failures < restarts => {
            AfterFailure::Restart(Duration::from_millis(200 << failures.min(7)))
        }
        ErrorKind::Unavailable
        | ErrorKind::Conflict
        | ErrorKind::Limit
        | ErrorKind::User
        | ErrorKind::Data
        | ErrorKind::Denied
        | ErrorKind::Fenced
        | ErrorKind::Cancelled
        | ErrorKind::Internal => AfterFailure::Stop,
    }
}

/// Attempts to take the last checkpoint of a job that was asked to stop, after one that failed for a reason outside.
const LAST_TRIES: u32 = 1;

/// Runs a job until its inputs end, `stop` is cancelled (a last checkpoint is taken first) or it fails for good.
///
/// Dropping the future stops at once; the next run goes on from the newest checkpoint.
pub async fn run(graph: Arc<Graph>, config: JobConfig, stop: CancellationToken) -> Result<JobSummary> {
    graph.validate()?;
    let mut config = config;
    let (mut failures, mut last_tries) = (0, LAST_TRIES);
    let mut course = Course::default();
    loop {
        let checkpoints = config.metrics.sample().checkpoints;
        let error = match probed_attempt(&graph, &config, &stop, &mut course).await {
            Ok(manifest) => return Ok(JobSummary::of(manifest, &course, &graph)),
            Err(error) => error,
        };
        if config.metrics.sample().checkpoints > checkpoints {
            failures = 0;
        }
        match after_failure(error.kind(), failures, config.restarts) {
            AfterFailure::Stop => return Err(error),
            AfterFailure::Restart(_) if stop.is_cancelled() && last_tries == 0 => return Err(error),
            AfterFailure::Restart(wait) if stop.is_cancelled() => {
                tracing::warn!(%error, job = config.name, "the last checkpoint failed and is tried again");
                config.clock.sleep(wait).await;
                last_tries -= 1;
            }
            AfterFailure::Restart(wait) => {
                tracing::warn!(%error, job = config.name, "the job failed and goes on from its last checkpoint");
                wait_or_stop(&config, wait, &stop).await?;
                failures += 1;
            }
        }
        // A second attempt goes on from what the first one published, not from where the first one was told to begin.
        config.from_checkpoint = None;
    }
}

/// What is known of a run over all its attempts.
#[derive(Debug, Default)]
struct Course {
    is_probed: bool,
    /// What was rejected before it, once an attempt has seen the log.
    begun: Option<Rejections>,
}

async fn probed_attempt(
    graph: &Arc<Graph>,
    config: &JobConfig,
    stop: &CancellationToken,
    course: &mut Course,
) -> Result<Option<Manifest>> {
    if !course.is_probed {
        store::probe(config.store.as_ref(), &format!("{}/", config.name)).await?;
        course.is_probed = true;
    }
    attempt(graph, config, stop, &mut course.begun).await
}

async fn wait_or_stop(config: &JobConfig, wait: Duration, stop: &CancellationToken) -> Result<()> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(Error::new(ErrorKind::Cancelled, "QUERY_CANCELLED", "the job was stopped")),
        () = config.clock.sleep(wait) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reasons_outside_are_tried_again() {
        for kind in [ErrorKind::Unavailable, ErrorKind::Conflict, ErrorKind::Limit] {
            assert_eq!(after_failure(kind, 0, 5), AfterFailure::Restart(Duration::from_millis(200)));
            assert_eq!(after_failure(kind, 5, 5), AfterFailure::Stop);
        }
        for kind in [ErrorKind::User, ErrorKind::Data, ErrorKind::Denied, ErrorKind::Fenced, ErrorKind::Internal] {
            assert_eq!(after_failure(kind, 0, 5), AfterFailure::Stop);
        }
    }
}
