//! Keyed operators whose state goes to local disk when the memory of the process is over its limit.
//!
//! ```text
//! in memory:  rows ──> one operator for all keys ──> rows
//!                 │ over memory.limit: its whole state is written in buckets, one a key group, and the operator is dropped
//!                 v
//! on disk:    rows wait on disk by bucket; at a barrier each bucket that rows wait for (or whose time has come) in turn:
//!             read back ──> an operator for these keys ──> its rows, the watermark ──> rows out, what changed to disk
//! ```
//!
//! Rows therefore come out of an operator with spilled state once a checkpoint interval, and one bucket of its keys is in
//! memory at a time. What a turn over the buckets writes is what the checkpoint takes, file by file. A bucket that alone
//! is larger than the limit fails the job, which is better than the system ending it.
//!
//! Invariant: what comes out, folded, and what is in a checkpoint are the same in memory and on disk.

mod disk;
mod files;
mod turn;

use std::{fmt, sync::Arc};

use arrow::array::{RecordBatch, UInt16Array};
use futures::future::BoxFuture;

use self::{disk::OnDisk, turn::Turn};
use crate::{
    error::{Error, ErrorKind, Result},
    memory::MemoryLease,
    message::ChangeBatch,
    operator::{Observation, Operator, OperatorContext, Output, Progress},
    operators::groups::batch_of,
    state::{StateReader, StateWriter, TableIncrement},
    time::{Instant, Watermark},
};

/// The part of the limit that rows on their way to disk may take.
const ARRIVED_PART: usize = 16;
/// Bytes that rows on their way to disk may always take.
const ARRIVED_MIN: usize = 64 << 10;
/// Bytes that one key group may always take.
const KEY_GROUP_MIN: usize = 1 << 20;

/// What is needed to keep an operator's state by key: how to divide its rows, and how to make one for some keys.
pub(crate) trait Keyed: fmt::Debug + Send + Sync {
    /// The tables its state is written to.
    fn tables(&self) -> &'static [&'static str];

    /// Key groups of rows of an input, the same as those in its state.
    fn key_groups(&self, input: usize, rows: &RecordBatch) -> Result<UInt16Array>;

    /// How far it holds the watermark back, in microseconds.
    fn holds_back(&self) -> i64 {
        0
    }

    /// An operator that keeps all its state in memory.
    fn in_memory(&self, context: &OperatorContext) -> Result<Box<dyn KeyedOperator>>;
}

/// An operator that keeps its state in memory, and says how much that is.
pub(crate) trait KeyedOperator: Operator {
    /// Bytes it holds; asked after every call.
    fn bytes(&self) -> usize;

    /// A time such that no watermark up to it changes anything; `None` if no watermark ever does.
    fn next_event(&self) -> Option<i64>;
}

#[derive(Debug)]
enum Place {
    Memory(Box<dyn KeyedOperator>),
    Disk(Box<OnDisk>, Option<Box<Turn>>),
}

/// A keyed operator in memory or, over the limit, on disk.
#[derive(Debug)]
pub(crate) struct Spilling {
    keyed: Arc<dyn Keyed>,
    context: OperatorContext,
    place: Place,
    /// State of the checkpoint that is being taken up, by table.
    restored: Vec<(&'static str, Vec<RecordBatch>)>,
    lease: MemoryLease,
    spill_due: bool,
    now: Instant,
    watermark: Watermark,
}

impl Spilling {
    pub(crate) fn create(keyed: impl Keyed + 'static, context: &OperatorContext) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Self {
            place: Place::Memory(keyed.in_memory(context)?),
            keyed: Arc::new(keyed),
            context: context.clone(),
            restored: Vec::new(),
            lease: context.memory.lease(),
            spill_due: false,
            now: context.running.since,
            watermark: Watermark::MIN,
        }))
    }

    /// Tells the budget what is held; after a call that is done, whether it should go to disk.
    fn weigh(&mut self, progress: Progress) {
        match &self.place {
            Place::Memory(operator) => {
                self.lease.resize(operator.bytes());
                let (budget, bytes) = (self.lease.budget(), self.lease.bytes());
                let is_over = budget.is_over() && bytes > budget.spills_from();
                self.spill_due = progress == Progress::Done && is_over;
            }
            Place::Disk(disk, turn) => {
                self.lease.resize(disk.arrived_bytes + turn.as_ref().map_or(0, |turn| turn.bytes()));
                let budget = self.lease.budget();
                let much = disk.arrived_bytes > (budget.limit() / ARRIVED_PART).max(ARRIVED_MIN);
                self.spill_due = much && turn.is_none();
            }
        }
    }

    async fn spill(&mut self) -> Result<()> {
        self.spill_due = false;
        if let Place::Memory(operator) = &mut self.place {
            let mut writer = StateWriter::new(true);
            operator.snapshot(&mut writer)?;
            let mut disk = OnDisk::new(&self.context, self.keyed.tables(), self.watermark);
            let (observed, next_event) = (operator.observe(), operator.next_event());
            disk.buckets.iter_mut().for_each(|bucket| bucket.next_event = next_event);
            if let Some(first) = disk.buckets.first_mut() {
                first.observed = observed;
            }
            // The operator is gone before its state is written.
            self.place = Place::Disk(Box::new(disk), None);
            self.lease.resize(0);
            tracing::info!(operator = %self.context.name, "state is over memory.limit and goes to local disk");
            if let Place::Disk(disk, _) = &mut self.place {
                disk.add(writer.into_increments(), false).await?;
            }
        }
        if let Place::Disk(disk, _) = &mut self.place {
            disk.flush().await?;
        }
        self.weigh(Progress::Done);
        Ok(())
    }

    /// Moves state that is being restored to disk.
    async fn spill_restored(&mut self) -> Result<()> {
        self.spill_due = false;
        if matches!(self.place, Place::Memory(_)) {
            let mut disk = OnDisk::new(&self.context, self.keyed.tables(), self.watermark);
            // Which times matter to a bucket is known once it has been read.
            disk.buckets.iter_mut().for_each(|bucket| bucket.next_event = Some(i64::MIN));
            self.place = Place::Disk(Box::new(disk), None);
        }
        let Place::Disk(disk, _) = &mut self.place else { return Ok(()) };
        let increment = |(table, batches)| TableIncrement::new(table, false, batches);
        let increments = std::mem::take(&mut self.restored).into_iter().map(increment).collect();
        disk.done = self.watermark;
        disk.add(increments, true).await?;
        self.lease.resize(0);
        Ok(())
    }

    fn take_restored(&mut self, state: &StateReader) {
        self.watermark = state.watermark();
        for table in self.keyed.tables() {
            let batches = state.batches(table);
            match self.restored.iter_mut().find(|(known, _)| known == table) {
                Some((_, kept)) => kept.extend_from_slice(batches),
                None => self.restored.push((table, batches.to_vec())),
            }
        }
        let bytes = self.restored.iter().flat_map(|(_, batches)| batches).map(RecordBatch::get_array_memory_size);
        let bytes = bytes.sum::<usize>();
        self.lease.resize(bytes);
        // In maps it takes more than in batches.
        let budget = self.lease.budget();
        self.spill_due = bytes > budget.spills_from() && budget.used().saturating_add(bytes) > budget.limit();
    }

    /// Goes over the buckets, a step a call.
    fn turn(&mut self, to: Watermark, out: &mut Output) -> Result<Progress> {
        let Place::Disk(disk, turn) = &mut self.place else { return Ok(Progress::Done) };
        let progress = match turn {
            None => {
                *turn = Turn::begin(disk, to).map(Box::new);
                if turn.is_none() {
                    disk.done = disk.done.max(to);
                }
                if turn.is_some() { Progress::More } else { Progress::Done }
            }
            Some(running) if running.is_over() => {
                *turn = None;
                disk.done = disk.done.max(to);
                Progress::Done
            }
            Some(running) => {
                running.step(out)?;
                Progress::More
            }
        };
        // What the operators hold back is known, and goes on once every bucket has been called.
        out.take_held_watermark();
        self.weigh(progress);
        self.check_bucket()?;
        Ok(progress)
    }

    fn forwarded(&self, done: Watermark) -> Watermark {
        match done {
            Watermark::MAX | Watermark::MIN => done,
            Watermark(time) => Watermark(time.saturating_sub(self.keyed.holds_back())),
        }
    }

    /// Fails if one bucket alone is too much.
    fn check_bucket(&self) -> Result<()> {
        let limit = self.context.memory.limit().max(KEY_GROUP_MIN);
        let Place::Disk(disk, Some(turn)) = &self.place else { return Ok(()) };
        if turn.bytes() <= limit {
            return Ok(());
        }
        let message = format!(
            "operator \"{}\": the state of one of its {} key groups takes {} bytes, more than memory.limit ({} bytes)",
            self.context.name,
            disk.buckets.len(),
            turn.bytes(),
            self.context.memory.limit()
        );
        let hint = "raise memory.limit; state is read back a key group at a time, so one key with very many rows needs \
                    memory for all of them: add a column to the key, a filter or a shorter window, or set \
                    table.exec.state.ttl";
        Err(Error::new(ErrorKind::User, "EXCEEDED_LOCAL_MEMORY_LIMIT", message).with_hint(hint))
    }
}

impl Operator for Spilling {
    fn on_changes(&mut self, input: usize, changes: ChangeBatch, out: &mut Output) -> Result<Progress> {
        let progress = match &mut self.place {
            Place::Memory(operator) => operator.on_changes(input, changes, out)?,
            Place::Disk(disk, _) => {
                let groups = self.keyed.key_groups(input, &changes.rows)?;
                disk.take(input, Arc::new(groups), &changes)?;
                Progress::Done
            }
        };
        self.weigh(progress);
        Ok(progress)
    }

    fn between_calls<'a>(&'a mut self, now: Instant) -> Option<BoxFuture<'a, Result<()>>> {
        self.now = self.now.max(now);
        if !self.restored.is_empty() {
            return if self.spill_due { Some(Box::pin(self.spill_restored())) } else { None };
        }
        if self.spill_due {
            return Some(Box::pin(self.spill()));
        }
        let (now, keyed, context) = (self.now, &self.keyed, &self.context);
        match &mut self.place {
            Place::Memory(operator) => operator.between_calls(now),
            Place::Disk(disk, Some(turn)) if turn.waits() => {
                Some(Box::pin(turn.advance(disk, keyed.as_ref(), context, now)))
            }
            Place::Disk(..) => None,
        }
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Progress> {
        self.watermark = self.watermark.max(watermark);
        let progress = match &mut self.place {
            Place::Memory(operator) => operator.on_watermark(watermark, out)?,
            Place::Disk(..) if watermark == Watermark::MAX => return self.turn(watermark, out),
            Place::Disk(disk, _) => {
                let done = disk.done;
                out.hold_watermark(self.forwarded(done));
                Progress::Done
            }
        };
        self.weigh(progress);
        Ok(progress)
    }

    fn on_time(&mut self, now: Instant, out: &mut Output) -> Result<Progress> {
        let Place::Memory(operator) = &mut self.place else { return Ok(Progress::Done) };
        let progress = operator.on_time(now, out)?;
        self.weigh(progress);
        Ok(progress)
    }

    fn on_barrier(&mut self, out: &mut Output) -> Result<Progress> {
        if let Place::Memory(operator) = &mut self.place {
            return operator.on_barrier(out);
        }
        let progress = self.turn(self.watermark, out)?;
        if progress == Progress::Done
            && let Place::Disk(disk, _) = &self.place
        {
            out.release_watermark(self.forwarded(disk.done));
        }
        Ok(progress)
    }

    fn on_end_of_input(&mut self, out: &mut Output) -> Result<Progress> {
        match &mut self.place {
            Place::Memory(operator) => operator.on_end_of_input(out),
            Place::Disk(..) => self.turn(self.watermark, out),
        }
    }

    fn snapshot(&mut self, state: &mut StateWriter) -> Result<()> {
        match &mut self.place {
            Place::Memory(operator) => operator.snapshot(state),
            Place::Disk(disk, _) => disk.snapshot(state),
        }
    }

    fn restore_part(&mut self, state: &StateReader) -> Result<bool> {
        self.take_restored(state);
        Ok(true)
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        self.take_restored(state);
        self.spill_due = false;
        if let Place::Memory(operator) = &mut self.place {
            let tables = std::mem::take(&mut self.restored).into_iter();
            let tables = tables.map(|(name, batches)| (name.to_owned(), batches)).collect();
            drop(operator.between_calls(self.now));
            operator.restore(&StateReader::new(tables, &self.context.key_groups, self.watermark)?)?;
            self.weigh(Progress::Done);
        } else {
            self.spill_due = true;
        }
        Ok(())
    }

    fn observe(&self) -> Observation {
        match &self.place {
            Place::Memory(operator) => Observation { state_bytes: operator.bytes() as u64, ..operator.observe() },
            Place::Disk(disk, _) => {
                let mut sum = Observation::default();
                disk.buckets.iter().for_each(|bucket| sum.add(&bucket.observed));
                Observation { state_bytes: self.lease.bytes() as u64, spilled_bytes: disk.written, ..sum }
            }
        }
    }
}

#[cfg(test)]
mod tests;
