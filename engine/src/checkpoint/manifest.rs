//! What the entries of a job's log say.
//!
//! Invariant: a manifest names every file it needs; nothing else is read on restore. A reader refuses a `format` it does
//! not know.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    accounts::SplitAccount,
    connector::{Cut, Offset, RefusedRow, Split, SplitId},
    error::{Error, Result},
    message::{Epoch, Generation},
    operator::{Observation, Traffic},
    time::{Instant, Watermark},
};

/// Version of the layout of entries and of the files they name.
pub const FORMAT: u32 = 1;

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogEntry {
    /// A generation takes over.
    Claim(Claim),
    /// An epoch is published.
    Manifest(Box<Manifest>),
}

impl LogEntry {
    /// What its writer put in to recognise it.
    pub fn nonce(&self) -> &str {
        match self {
            LogEntry::Claim(claim) => &claim.nonce,
            LogEntry::Manifest(manifest) => &manifest.nonce,
        }
    }

    /// The generation that wrote it.
    pub fn generation(&self) -> Generation {
        match self {
            LogEntry::Claim(claim) => claim.generation,
            LogEntry::Manifest(manifest) => manifest.generation,
        }
    }

    /// Reads an entry, refusing formats of the future.
    pub fn parse(path: &str, bytes: &[u8]) -> Result<Self> {
        let entry: LogEntry = serde_json::from_slice(bytes).map_err(|error| {
            Error::data("CHECKPOINT_CORRUPT", format!("log entry \"{path}\" cannot be read: {error}"))
                .with_hint("restore this file from a copy; the job does not start without its log")
        })?;
        let format = match &entry {
            LogEntry::Claim(claim) => claim.format,
            LogEntry::Manifest(manifest) => manifest.format,
        };
        if format > FORMAT {
            return Err(Error::not_supported(format!(
                "checkpoint \"{path}\" has format {format}, this version reads up to {FORMAT}"
            ))
            .with_hint("use the version of headwater that wrote it, or a later one"));
        }
        Ok(entry)
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Result<bytes::Bytes> {
        let text = serde_json::to_vec(self).map_err(|error| Error::internal(format!("log entry: {error}")))?;
        Ok(text.into())
    }
}

/// The entry by which a generation takes over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// [`FORMAT`].
    pub format: u32,
    /// Recognises the writer after an unclear reply.
    pub nonce: String,
    /// Identity of the job's state.
    pub incarnation: String,
    /// Number of the attempt.
    pub generation: Generation,
    /// Host it runs on.
    pub host: String,
    /// Its process id.
    pub pid: u32,
    /// When it was written.
    pub at: Instant,
    /// The epoch it restores when that is not the newest (`--from-checkpoint`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_from: Option<Epoch>,
    /// The script the job runs, as a path, so that another one under the same name is noticed.
    #[serde(default)]
    pub script: String,
}

/// A published epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// Recognises the writer after an unclear reply.
    pub nonce: String,
    /// Identity of the job's state.
    pub incarnation: String,
    /// The attempt that published it.
    pub generation: Generation,
    /// The epoch.
    pub epoch: Epoch,
    /// When its barrier was sent.
    pub started: Instant,
    /// When everything was prepared.
    pub at: Instant,
    /// Whether the job ended with it.
    pub cut: Cut,
    /// Version of the key hash.
    pub hash_version: u32,
    /// How many key groups.
    pub key_groups: u16,
    /// Parallel tasks that wrote it.
    pub parallelism: usize,
    /// How long the job has been running over all attempts (state TTL counts this).
    pub running_ms: u64,
    /// Stateful operators by node name.
    pub operators: BTreeMap<String, OperatorState>,
    /// Tables read, by node name.
    pub sources: BTreeMap<String, SourceState>,
    /// Sinks by node name.
    pub sinks: BTreeMap<String, SinkState>,
    /// Segments of `"t$rejected"` and `"t$late"` by that name.
    pub segments: BTreeMap<String, Vec<Segment>>,
    /// Bytes that waited in front of each node when the barrier was sent.
    #[serde(default)]
    pub queued: BTreeMap<String, u64>,
    /// Rows that passed each operator since the job began, by node name.
    #[serde(default)]
    pub traffic: BTreeMap<String, Traffic>,
}

/// State of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OperatorState {
    /// What the state means.
    pub fingerprint: String,
    /// The watermark of its input at the barrier.
    pub watermark: Option<Watermark>,
    /// The tables whose rows it sees, by node name: they decide its watermark.
    #[serde(default)]
    pub reads: Vec<String>,
    /// What it keeps, summed over tasks.
    #[serde(default)]
    pub observed: Observation,
    /// Files of each table in the order of their epochs, by task.
    pub tasks: Vec<BTreeMap<String, Vec<StateFile>>>,
}

/// A file of increments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateFile {
    /// Path in the store.
    pub path: String,
    /// Rows in it.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// Largest pane in it.
    pub last_pane: i64,
}

/// Progress in a table.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SourceState {
    /// Name of the table.
    pub table: String,
    /// Watermark of the table.
    pub watermark: Option<Watermark>,
    /// Every split that is listed or was and still is outside.
    pub splits: Vec<SplitState>,
    /// Accounts of splits that have left, by INSERT.
    #[serde(default)]
    pub retired: SplitAccount,
    /// What the table read, as its source called it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub origin: String,
}

/// Progress in a split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitState {
    /// The split.
    #[serde(flatten)]
    pub split: Split,
    /// How far it has come.
    pub status: SplitStatus,
    /// Where to resume; `None`: nothing has been read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<Offset>,
    /// Running watermark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<Watermark>,
    /// Whether it was idle, so that it did not hold the table's watermark.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idle: bool,
    /// Whether it starts where the table's options say, if nothing has been read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_default: bool,
    /// When its watermark last advanced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advanced: Option<Instant>,
    /// Records behind what was read, where the system says how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// Milliseconds behind the end, where the system says how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_ms: Option<u64>,
    /// Rows further beyond their arrival than the watermark follows.
    #[serde(default)]
    pub ahead: u64,
    /// What became of its rows.
    #[serde(default)]
    pub account: SplitAccount,
}

/// How far a split has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitStatus {
    /// Listed, but waits for its parents.
    Waiting,
    /// Being read.
    Open,
    /// Read to its end.
    Ended,
}

/// State of a sink.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SinkState {
    /// Units that stay open.
    pub open: Vec<UnitState>,
    /// Units this epoch's commit makes visible.
    pub closed: Vec<UnitState>,
    /// Rows written in all.
    pub rows: u64,
    /// Rows refused in all.
    pub refused: u64,
    /// Where its units go, as the sink calls it; `None` for one that has no units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
}

/// A unit with its rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitState {
    /// Its name.
    pub unit: String,
    /// The sink's own description.
    pub detail: String,
    /// Rows so far.
    pub rows: u64,
    /// Bytes so far.
    pub bytes: u64,
    /// Where the rows are, in order.
    pub segments: Vec<UnitSegment>,
}

/// Rows of a unit in an outbox file: a run of its record batches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitSegment {
    /// Path in the store.
    pub path: String,
    /// First batch.
    pub first: usize,
    /// How many batches.
    pub count: usize,
}

/// Rows of an accounting table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Path in the store.
    pub path: String,
    /// Rows.
    pub rows: u64,
    /// When it was written.
    pub at: Instant,
}

/// What a commit marker holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CommitMarker {
    /// The generation that finished the commit.
    pub generation: Generation,
    /// When.
    pub at_ms: i64,
    /// Rows services refused, by sink node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, Vec<RefusedRow>>,
}

impl Manifest {
    /// Every file it names.
    pub fn files(&self) -> BTreeSet<&str> {
        let state =
            self.operators.values().flat_map(|operator| &operator.tasks).flat_map(|task| task.values().flatten());
        let units = self.sinks.values().flat_map(|sink| sink.open.iter().chain(&sink.closed));
        let segments = self.segments.values().flatten();
        state
            .map(|file| file.path.as_str())
            .chain(units.flat_map(|unit| &unit.segments).map(|segment| segment.path.as_str()))
            .chain(segments.map(|segment| segment.path.as_str()))
            .collect()
    }

    /// Bytes of state and outbox it names.
    pub fn state_bytes(&self) -> u64 {
        let state =
            self.operators.values().flat_map(|operator| &operator.tasks).flat_map(|task| task.values().flatten());
        let units = self.sinks.values().flat_map(|sink| sink.open.iter().chain(&sink.closed));
        state.map(|file| file.bytes).sum::<u64>() + units.map(|unit| unit.bytes).sum::<u64>()
    }

    /// Progress of a split of a source node.
    pub fn split(&self, node: &str, split: &SplitId) -> Option<&SplitState> {
        self.sources.get(node)?.splits.iter().find(|state| state.split.id == *split)
    }
}
