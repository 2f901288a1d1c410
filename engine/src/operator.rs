//! Operators: the pure part of a task. No I/O, no clock, no await, but for [`Operator::between_calls`].
//!
//! The runtime calls an operator with what its inputs bring, already aligned: watermarks are the minimum over all
//! channels, barriers arrive as [`Operator::snapshot`]. An operator that has much to say returns [`Progress::More`] and
//! is called again, so that a million firing groups obey backpressure.
//!
//! Invariant: the rows an operator emits depend only on the order of its calls since the snapshot it was restored from.

use std::{collections::VecDeque, fmt, ops::Range, path::PathBuf, sync::Arc};

use arrow::datatypes::SchemaRef;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::{
    connector::ChangelogMode,
    error::Result,
    memory::MemoryBudget,
    message::ChangeBatch,
    state::{StateReader, StateWriter},
    time::{Instant, Watermark},
};

/// Whether a call is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// Nothing left to do for this call.
    Done,
    /// The output so far should go out; call again with the same event (`on_changes`: with [`Operator::resume`]).
    More,
}

/// A computation over one partition of its input.
pub trait Operator: fmt::Debug + Send {
    /// Takes rows of an input.
    fn on_changes(&mut self, input: usize, changes: ChangeBatch, out: &mut Output) -> Result<Progress>;

    /// Work with the outside that must be done before the next call: loading a lookup table, writing state to disk or
    /// reading it back. The runtime awaits it before every call; `None` means there is none.
    fn between_calls<'a>(&'a mut self, _now: Instant) -> Option<BoxFuture<'a, Result<()>>> {
        None
    }

    /// Goes on with rows whose `on_changes` returned [`Progress::More`].
    fn resume(&mut self, _out: &mut Output) -> Result<Progress> {
        Ok(Progress::Done)
    }

    /// No later row of any input is older. Unless the operator lowers it with [`Output::hold_watermark`], the same
    /// watermark goes on downstream once this is done.
    fn on_watermark(&mut self, _watermark: Watermark, _out: &mut Output) -> Result<Progress> {
        Ok(Progress::Done)
    }

    /// The clock has moved (processing time, TTL); called about every second.
    fn on_time(&mut self, _now: Instant, _out: &mut Output) -> Result<Progress> {
        Ok(Progress::Done)
    }

    /// Rows that must be out before the barrier passes (pre-aggregates); called before `snapshot`.
    fn on_barrier(&mut self, _out: &mut Output) -> Result<Progress> {
        Ok(Progress::Done)
    }

    /// All inputs have ended; the watermark was already at its maximum.
    fn on_end_of_input(&mut self, _out: &mut Output) -> Result<Progress> {
        Ok(Progress::Done)
    }

    /// Writes what changed since the last snapshot, or everything where the writer asks for it; each of its tables every
    /// time, without batches where nothing changed.
    fn snapshot(&mut self, _state: &mut StateWriter) -> Result<()> {
        Ok(())
    }

    /// Takes up a part of the state: called for each file of it in order, before [`Operator::restore`] with the rest, and
    /// followed by [`Operator::between_calls`]. Whether it did: an operator that needs all its state at once does not.
    fn restore_part(&mut self, _state: &StateReader) -> Result<bool> {
        Ok(false)
    }

    /// Takes up the state of this task's key groups; called once, before any event.
    fn restore(&mut self, _state: &StateReader) -> Result<()> {
        Ok(())
    }

    /// What an operator can ask about from outside: rows and panes it keeps.
    fn observe(&self) -> Observation {
        Observation::default()
    }
}

/// What an operator keeps, for `headwater.operators` and `headwater.windows`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Bytes of state in memory.
    pub state_bytes: u64,
    /// Groups, keys or rows kept.
    pub state_rows: u64,
    /// Bytes written to local disk because memory was over its limit.
    pub spilled_bytes: u64,
    /// End of the oldest window that has not fired, in microseconds.
    pub oldest_open_window: Option<i64>,
    /// Windows that have not fired.
    pub open_windows: u64,
}

impl Observation {
    /// Adds what another task keeps.
    pub fn add(&mut self, other: &Observation) {
        self.state_bytes += other.state_bytes;
        self.state_rows += other.state_rows;
        self.spilled_bytes += other.spilled_bytes;
        self.open_windows = self.open_windows.max(other.open_windows);
        self.oldest_open_window = match (self.oldest_open_window, other.oldest_open_window) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
}

/// Rows that passed a node, for its balance in `headwater.operators`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Rows that came in, over all inputs.
    pub rows_in: u64,
    /// Rows that went out.
    pub rows_out: u64,
    /// Rows that came in and were left out on purpose.
    pub dropped: u64,
}

impl Traffic {
    /// Adds what passed elsewhere.
    pub fn add(&mut self, other: &Traffic) {
        self.rows_in += other.rows_in;
        self.rows_out += other.rows_out;
        self.dropped += other.dropped;
    }
}

/// Makes the operators of a node, one a task.
pub trait OperatorFactory: fmt::Debug + Send + Sync {
    /// What it is, for EXPLAIN and `headwater.operators`: `window-aggregate`.
    fn name(&self) -> &'static str;

    /// What it does in one line, for EXPLAIN.
    fn describe(&self) -> String;

    /// Schema of the rows it emits.
    fn schema(&self) -> SchemaRef;

    /// Changes it emits, given those it gets.
    fn output(&self, inputs: &[ChangelogMode]) -> Result<ChangelogMode>;

    /// What its state means; state carries over a changed query only between equal fingerprints. `None` = no state.
    fn fingerprint(&self) -> Option<String>;

    /// An operator for one task.
    fn create(&self, context: &OperatorContext) -> Result<Box<dyn Operator>>;
}

/// What an operator knows about its place.
#[derive(Debug, Clone)]
pub struct OperatorContext {
    /// Name of the node, for messages.
    pub name: String,
    /// Index of the task.
    pub task: usize,
    /// How many tasks the node has.
    pub tasks: usize,
    /// Key groups whose keys come to this task.
    pub key_groups: Range<u16>,
    /// The budget state counts against.
    pub memory: MemoryBudget,
    /// A folder of this operator's own on local disk, made when first used, emptied at start.
    pub spill: PathBuf,
    /// How long the job has been running.
    pub running: RunningTime,
}

#[cfg(test)]
impl OperatorContext {
    /// The place of an operator that runs alone, with so many bytes of memory.
    pub(crate) fn alone(memory: usize) -> Self {
        Self {
            name: "test".to_owned(),
            task: 0,
            tasks: 1,
            key_groups: 0..128,
            memory: MemoryBudget::new(memory),
            spill: std::env::temp_dir(),
            running: RunningTime::default(),
        }
    }
}

/// How long a job has been running over all attempts, which its checkpoints carry on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunningTime {
    /// Milliseconds before this attempt.
    pub before_ms: u64,
    /// When this attempt began.
    pub since: Instant,
}

impl RunningTime {
    /// Milliseconds at an instant.
    pub fn at(&self, now: Instant) -> i64 {
        let own = i64::try_from(now.since(self.since).as_millis()).unwrap_or(i64::MAX);
        own.saturating_add(i64::try_from(self.before_ms).unwrap_or(i64::MAX))
    }
}

/// Collects what an operator emits during one call.
#[derive(Debug, Default)]
pub struct Output {
    changes: VecDeque<ChangeBatch>,
    held: Option<Watermark>,
    released: Option<Watermark>,
    dropped: u64,
}

impl Output {
    /// Emits changes; empty ones are left out.
    pub fn emit(&mut self, changes: ChangeBatch) {
        if changes.num_rows() > 0 {
            self.changes.push_back(changes);
        }
    }

    /// Sends a lower watermark on than the one that came in.
    pub fn hold_watermark(&mut self, watermark: Watermark) {
        self.held = Some(watermark);
    }

    /// Sends a watermark on that was held before, with an event that brings none.
    pub fn release_watermark(&mut self, watermark: Watermark) {
        self.released = Some(watermark);
    }

    /// Counts rows an operator left out on purpose (a filter, a lookup that finds nothing).
    pub fn drop_rows(&mut self, rows: u64) {
        self.dropped += rows;
    }

    /// Takes the next emitted batch.
    pub fn next_changes(&mut self) -> Option<ChangeBatch> {
        self.changes.pop_front()
    }

    /// Takes the lowered watermark, if one was set.
    pub fn take_held_watermark(&mut self) -> Option<Watermark> {
        self.held.take()
    }

    /// Takes the watermark that goes on, if one was held before.
    pub fn take_released_watermark(&mut self) -> Option<Watermark> {
        self.released.take()
    }

    /// Takes the count of rows left out.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

/// A shared factory, as the graph holds it.
pub type OperatorRef = Arc<dyn OperatorFactory>;
