//! Jobs and their checkpoints as they lie in a state store, from any process.
//!
//! Invariant: nothing but `drop_job`, `save` and the requests to stop writes; what is shown is what the newest manifest says, whether or not the job runs.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    accounts::Tally,
    checkpoint::{
        files,
        log::Log,
        manifest::{Claim, Manifest, SplitStatus},
        paths::{Paths, number_of},
        store::CheckpointStore,
    },
    connector::Cut,
    error::{Error, Result},
    message::{Epoch, Generation},
    time::{Clock, Instant, Watermark},
};

/// A job of a state store.
#[derive(Debug, Clone)]
pub struct JobState {
    /// Its name.
    pub name: String,
    /// Who holds it, or held it last.
    pub holder: Option<Claim>,
    /// Its newest checkpoint.
    pub newest: Option<Arc<Manifest>>,
    /// Whether every sink has committed it.
    pub is_committed: bool,
}

impl JobState {
    /// Whether the newest checkpoint ended the job.
    pub fn has_ended(&self) -> bool {
        self.newest.as_ref().is_some_and(|manifest| manifest.cut == Cut::Final)
    }
}

/// A checkpoint in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointLine {
    /// Its epoch.
    pub epoch: Epoch,
    /// The attempt that published it.
    pub generation: u64,
    /// When its barrier was sent, and when all was prepared.
    pub started: Instant,
    /// When all was prepared.
    pub at: Instant,
    /// Bytes of state and outbox it names.
    pub bytes: u64,
    /// Whether every sink has committed it.
    pub is_committed: bool,
    /// Whether the job ended with it.
    pub is_final: bool,
    /// The names it was given as a savepoint.
    pub savepoints: Vec<String>,
}

/// A row of the ledger: what became of the rows of one (INSERT, table, split).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRow {
    /// The INSERT.
    pub insert: String,
    /// The table.
    pub table: String,
    /// The split; `None` for those that have left.
    pub split: Option<String>,
    /// The account.
    pub tally: Tally,
}

/// Where a split stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitRow {
    /// The table.
    pub table: String,
    /// The split.
    pub split: String,
    /// How far it has come.
    pub status: SplitStatus,
    /// Where it resumes.
    pub offset: Option<String>,
    /// Its watermark in microseconds.
    pub watermark: Option<Watermark>,
    /// When that last advanced.
    pub advanced: Option<Instant>,
    /// Records behind what was read, where the system says how many.
    pub lag: Option<u64>,
    /// Milliseconds behind the end, where the system says how many.
    pub lag_ms: Option<u64>,
    /// Rows further beyond their arrival than the watermark follows.
    pub ahead: u64,
    /// Whether it is idle.
    pub is_idle: bool,
    /// Whether it holds back the table's watermark.
    pub holds: bool,
}

/// All jobs of a store, by name.
pub async fn jobs(store: &Arc<dyn CheckpointStore>, clock: &Arc<dyn Clock>) -> Result<Vec<JobState>> {
    let mut jobs = Vec::new();
    for name in store.folders().await? {
        if is_job(store, &name).await? {
            jobs.push(job(store, clock, &name).await?);
        }
    }
    Ok(jobs)
}

/// Whether a folder has a log with an entry in it.
async fn is_job(store: &Arc<dyn CheckpointStore>, name: &str) -> Result<bool> {
    let log = Paths::new(name).log();
    let entries = store.list(&log).await?;
    Ok(entries.iter().any(|path| path.len() == log.len() + 20 && number_of(path).is_some()))
}

/// One job; without claim and checkpoint if there is none of that name.
pub async fn job(store: &Arc<dyn CheckpointStore>, clock: &Arc<dyn Clock>, name: &str) -> Result<JobState> {
    let view = Log::new(Arc::clone(store), name, Arc::clone(clock)).read_all().await?;
    let newest = view.current().cloned().map(Arc::new);
    let is_committed = newest.as_ref().is_some_and(|manifest| view.is_committed(manifest.epoch));
    Ok(JobState { name: name.to_owned(), holder: view.holder().cloned(), newest, is_committed })
}

/// The checkpoints of a job that are kept, oldest first.
pub async fn checkpoints(
    store: &Arc<dyn CheckpointStore>,
    clock: &Arc<dyn Clock>,
    name: &str,
) -> Result<Vec<CheckpointLine>> {
    let view = Log::new(Arc::clone(store), name, Arc::clone(clock)).read_all().await?;
    let names = |epoch: Epoch| {
        let saved = view.savepoints.iter().filter(move |(_, saved)| saved.epoch == epoch);
        saved.map(|(name, _)| name.clone()).collect()
    };
    let line = |manifest: &Manifest| CheckpointLine {
        savepoints: names(manifest.epoch),
        epoch: manifest.epoch,
        generation: manifest.generation.0,
        started: manifest.started,
        at: manifest.at,
        bytes: manifest.state_bytes(),
        is_committed: view.is_committed(manifest.epoch),
        is_final: manifest.cut == Cut::Final,
    };
    let mut all: Vec<&Manifest> = view.manifests().collect();
    all.extend(view.savepoints.iter().map(|(_, manifest)| manifest));
    all.sort_by_key(|manifest| manifest.epoch);
    all.dedup_by_key(|manifest| manifest.epoch);
    Ok(all.into_iter().map(line).collect())
}

/// One checkpoint in detail.
pub async fn checkpoint(
    store: &Arc<dyn CheckpointStore>,
    clock: &Arc<dyn Clock>,
    name: &str,
    epoch: Epoch,
) -> Result<Option<Manifest>> {
    let view = Log::new(Arc::clone(store), name, Arc::clone(clock)).read_all().await?;
    Ok(view.manifest(epoch).cloned())
}

/// Names the newest checkpoint of a job, so that it is kept; its epoch.
pub async fn save(
    store: &Arc<dyn CheckpointStore>,
    clock: &Arc<dyn Clock>,
    name: &str,
    savepoint: &str,
) -> Result<Epoch> {
    check_savepoint_name(savepoint)?;
    Log::new(Arc::clone(store), name, Arc::clone(clock)).save(savepoint).await
}

/// Refuses a savepoint's name that is no file name, or that could be taken for an epoch.
pub fn check_savepoint_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if begins && name.chars().all(plain) {
        return Ok(());
    }
    Err(Error::user("INVALID_ARGUMENTS", format!("\"{name}\" is no name for a savepoint"))
        .with_hint("begin with a letter, and use letters, digits, '-', '_' and '.'"))
}

/// Forgets a savepoint; whether there was one. The next checkpoint collects what only it needed.
pub async fn forget_savepoint(
    store: &Arc<dyn CheckpointStore>,
    clock: &Arc<dyn Clock>,
    name: &str,
    savepoint: &str,
) -> Result<bool> {
    let log = Log::new(Arc::clone(store), name, Arc::clone(clock));
    let is_there = log.savepoints().await?.iter().any(|(known, _)| known == savepoint);
    if is_there {
        store.delete(&log.paths().savepoint(savepoint)).await?;
    }
    Ok(is_there)
}

/// The ledger of a checkpoint, row by row.
pub fn ledger(manifest: &Manifest) -> Vec<LedgerRow> {
    let mut rows = Vec::new();
    for source in manifest.sources.values() {
        let row = |split: Option<String>, insert: &String, tally: &Tally| LedgerRow {
            insert: insert.clone(),
            table: source.table.clone(),
            split,
            tally: tally.clone(),
        };
        for split in &source.splits {
            let name = split.split.id.to_string();
            rows.extend(split.account.iter().map(|(insert, tally)| row(Some(name.clone()), insert, tally)));
        }
        rows.extend(source.retired.iter().map(|(insert, tally)| row(None, insert, tally)));
    }
    rows
}

/// The splits of a checkpoint, and which of them hold their table's watermark back.
pub fn splits(manifest: &Manifest) -> Vec<SplitRow> {
    let mut rows = Vec::new();
    for source in manifest.sources.values() {
        let active = || source.splits.iter().filter(|split| split.status != SplitStatus::Ended && !split.idle);
        let least = active().map(|split| split.watermark).min();
        rows.extend(source.splits.iter().map(|split| SplitRow {
            table: source.table.clone(),
            split: split.split.id.to_string(),
            status: split.status,
            offset: split.offset.as_ref().map(ToString::to_string),
            watermark: split.watermark,
            advanced: split.advanced,
            lag: split.lag,
            lag_ms: split.lag_ms,
            ahead: split.ahead,
            is_idle: split.idle,
            holds: split.status != SplitStatus::Ended && !split.idle && Some(split.watermark) == least,
        }));
    }
    rows
}

/// Rows of an accounting table (`t$rejected`, `t$late`) that are retained, a segment at a time.
pub async fn accounting_rows(
    store: &Arc<dyn CheckpointStore>,
    manifest: &Manifest,
    table: &str,
) -> Result<Vec<arrow::array::RecordBatch>> {
    let mut rows = Vec::new();
    for segment in manifest.segments.get(table).into_iter().flatten() {
        // Retention may have collected a segment since the manifest was read.
        if let Some(bytes) = store.get(&segment.path).await? {
            rows.extend(files::decode(&segment.path, bytes)?);
        }
    }
    Ok(rows)
}

/// Asks whoever holds a job to take a last checkpoint and stop; its generation, if somebody does.
pub async fn request_stop(
    store: &Arc<dyn CheckpointStore>,
    clock: &Arc<dyn Clock>,
    name: &str,
) -> Result<Option<Generation>> {
    let log = Log::new(Arc::clone(store), name, Arc::clone(clock));
    let view = log.read().await?;
    let Some(generation) = view.holder().map(|claim| claim.generation) else { return Ok(None) };
    store.put(&log.paths().stop(generation), Bytes::from_static(b"stop")).await?;
    Ok(Some(generation))
}

/// Takes a request to stop back, which nobody was there to follow.
pub async fn forget_stop(store: &Arc<dyn CheckpointStore>, name: &str, generation: Generation) -> Result<()> {
    store.delete(&Paths::new(name).stop(generation)).await
}

/// Removes everything a job has kept. The job must not run.
pub async fn drop_job(store: &Arc<dyn CheckpointStore>, name: &str) -> Result<()> {
    let mut paths = store.list(&format!("{name}/")).await?;
    // The log goes last, so that a removal cut short can be repeated.
    paths.sort_by_key(|path| path.starts_with(&format!("{name}/log/")));
    for path in paths {
        store.delete(&path).await?;
    }
    Ok(())
}
