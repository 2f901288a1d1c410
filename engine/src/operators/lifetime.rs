//! State with a lifetime (`table.exec.state.ttl`): what was last written longer ago counts as gone.
//!
//! Time is that the job has been running, which its checkpoints carry on: a job that was down for a week forgets nothing
//! for it. Nothing is taken back when state goes; a key that comes again begins anew.
//!
//! Invariant: whether a piece of state is there depends on when it was written and on the time of the call, not on when
//! it was swept away.

use std::{sync::Arc, time::Duration};

use arrow::{
    array::{AsArray, Int64Array, RecordBatch},
    datatypes::{DataType, Field, FieldRef, Int64Type},
};

use crate::{operator::RunningTime, operators::keys::Key, time::Instant};

/// The last column of state tables with a lifetime: when a row's key was written, in milliseconds of running time.
const WRITTEN: &str = "headwater_written_ms";
/// State is swept this often within a lifetime.
const SWEEPS: i64 = 8;
/// State is swept at most this often, in milliseconds.
const SWEEP_MIN: i64 = 1000;

/// How long state is kept, and what time it is.
#[derive(Debug, Clone)]
pub(crate) struct Lifetime {
    limit: Option<i64>,
    running: RunningTime,
    now: i64,
    next_sweep: i64,
}

impl Lifetime {
    /// State that is kept for `limit` after it was last written; `None`: for ever.
    pub(crate) fn new(limit: Option<Duration>, running: RunningTime) -> Self {
        let limit = limit.map(|limit| i64::try_from(limit.as_millis()).unwrap_or(i64::MAX));
        let now = running.at(running.since);
        Self { limit, running, now, next_sweep: now }
    }

    /// The clock has moved.
    pub(crate) fn moves_to(&mut self, now: Instant) {
        self.now = self.now.max(self.running.at(now));
    }

    /// The running time now, in milliseconds.
    pub(crate) fn now(&self) -> i64 {
        self.now
    }

    /// Whether state ever goes.
    pub(crate) fn is_limited(&self) -> bool {
        self.limit.is_some()
    }

    /// Whether what was written then is gone now.
    pub(crate) fn is_over(&self, written: i64) -> bool {
        self.was_over(written, self.now)
    }

    /// Whether what was written then was gone at another time.
    pub(crate) fn was_over(&self, written: i64, at: i64) -> bool {
        self.limit.is_some_and(|limit| at.saturating_sub(written) >= limit)
    }

    /// Whether what was written then has been gone for so many more lifetimes.
    pub(crate) fn is_over_for(&self, lifetimes: i64, written: i64) -> bool {
        let more = self.limit.map_or(0, |limit| limit.saturating_mul(lifetimes));
        self.was_over(written, self.now.saturating_sub(more))
    }

    /// Whether of two pieces of state the older was gone when the younger was written.
    pub(crate) fn missed(&self, a: i64, b: i64) -> bool {
        self.was_over(a.min(b), a.max(b))
    }

    /// Whether it is time to give memory back; asked about every second.
    pub(crate) fn is_sweep_due(&mut self) -> bool {
        let Some(limit) = self.limit else { return false };
        let is_due = self.now >= self.next_sweep;
        if is_due {
            self.next_sweep = self.now.saturating_add((limit / SWEEPS).max(SWEEP_MIN));
        }
        is_due
    }

    /// The keys to forget now, of those there are with when they were written: none while no sweep is due.
    pub(crate) fn swept<'a>(&mut self, now: Instant, keys: impl Iterator<Item = (&'a Key, i64)>) -> Vec<Key> {
        self.moves_to(now);
        if !self.is_sweep_due() {
            return Vec::new();
        }
        keys.filter(|(_, written)| self.is_over(*written)).map(|(key, _)| key.clone()).collect()
    }

    /// The column of when a row was written, if state has a lifetime.
    pub(crate) fn field(limit: Option<Duration>) -> Option<FieldRef> {
        limit.map(|_| Arc::new(Field::new(WRITTEN, DataType::Int64, false)))
    }

    /// When each row of a state table was written: now, where the table was written without a lifetime.
    pub(crate) fn written(&self, rows: &RecordBatch) -> Int64Array {
        match rows.column_by_name(WRITTEN) {
            Some(column) => column.as_primitive::<Int64Type>().clone(),
            None => Int64Array::from_value(self.now, rows.num_rows()),
        }
    }
}

#[cfg(test)]
mod tests;
