//! What a running job counts between two checkpoints, for its status line and its metrics.
//!
//! Invariant: nothing decides by these numbers. What is kept is bounded by the splits and edges of the job.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Semaphore;

use crate::{
    connector::SplitId,
    memory::MemoryBudget,
    time::{Instant, Watermark},
};

/// Counters of one job, shared by its tasks.
#[derive(Debug, Default)]
pub struct JobMetrics(Mutex<Live>);

#[derive(Debug, Default)]
struct Live {
    attempts: u64,
    tables: BTreeMap<String, BTreeMap<SplitId, SplitSample>>,
    written: BTreeMap<String, u64>,
    queues: Vec<Queue>,
    memory: Option<MemoryBudget>,
    checkpoints: u64,
}

#[derive(Debug)]
struct Queue {
    node: String,
    free: Arc<Semaphore>,
    limit: usize,
}

/// A split now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitSample {
    /// Rows read by this process.
    pub rows: u64,
    /// Records behind what was read last, where the system says so; 0 once caught up.
    pub lag: Option<u64>,
    /// Milliseconds behind the end, where the system says so; 0 once caught up.
    pub lag_ms: Option<u64>,
    /// Its running watermark.
    pub watermark: Watermark,
    /// When that last advanced.
    pub advanced: Option<Instant>,
    /// Whether it holds nothing because it is silent.
    pub is_idle: bool,
}

/// What is counted now.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// Attempts of this process; more than one after failures outside.
    pub attempts: u64,
    /// Splits by table and name.
    pub tables: BTreeMap<String, BTreeMap<SplitId, SplitSample>>,
    /// Rows given to each sink by this process.
    pub written: BTreeMap<String, u64>,
    /// Bytes waiting in front of each node.
    pub queued: BTreeMap<String, u64>,
    /// Bytes of the memory budget in use, and its limit.
    pub memory: Option<(u64, u64)>,
    /// Checkpoints committed by this process.
    pub checkpoints: u64,
}

impl Sample {
    /// Rows read by this process.
    pub fn rows_read(&self) -> u64 {
        self.tables.values().flatten().map(|(_, split)| split.rows).sum()
    }

    /// Rows given to sinks by this process.
    pub fn rows_written(&self) -> u64 {
        self.written.values().sum()
    }

    /// Records that wait, where every split says how many.
    pub fn lag(&self) -> Option<u64> {
        self.tables.values().flatten().map(|(_, split)| split.lag).sum()
    }

    /// The splits that hold their table's watermark: its name, the split and how it stands.
    pub fn holders(&self) -> impl Iterator<Item = (&str, &SplitId, &SplitSample)> {
        self.tables.iter().filter_map(|(table, splits)| {
            let active = splits.iter().filter(|(_, split)| !split.is_idle);
            active.min_by_key(|(_, split)| split.watermark).map(|(id, split)| (table.as_str(), id, split))
        })
    }
}

impl JobMetrics {
    fn lock(&self) -> MutexGuard<'_, Live> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is counted now.
    pub fn sample(&self) -> Sample {
        let live = self.lock();
        let mut queued = BTreeMap::new();
        for queue in &live.queues {
            *queued.entry(queue.node.clone()).or_default() += (queue.limit - queue.free.available_permits()) as u64;
        }
        Sample {
            attempts: live.attempts,
            tables: live.tables.clone(),
            written: live.written.clone(),
            queued,
            memory: live.memory.as_ref().map(|memory| (memory.used() as u64, memory.limit() as u64)),
            checkpoints: live.checkpoints,
        }
    }

    /// An attempt begins with empty queues and no splits.
    pub(crate) fn begin(&self, memory: &MemoryBudget) {
        let mut live = self.lock();
        live.attempts += 1;
        live.queues.clear();
        live.memory = Some(memory.clone());
        for split in live.tables.values_mut().flat_map(BTreeMap::values_mut) {
            split.is_idle = true;
        }
    }

    /// A checkpoint is committed.
    pub(crate) fn checkpointed(&self) {
        self.lock().checkpoints += 1;
    }

    /// A channel in front of a node.
    pub(crate) fn queue(&self, node: &str, free: Arc<Semaphore>, limit: usize) {
        self.lock().queues.push(Queue { node: node.to_owned(), free, limit });
    }

    /// How a split stands; `rows` came since it was last said.
    pub(crate) fn split(&self, table: &str, id: &SplitId, rows: u64, sample: SplitSample) {
        let mut live = self.lock();
        let known = live.tables.get_mut(table).and_then(|splits| splits.get_mut(id));
        match known {
            Some(known) => *known = SplitSample { rows: known.rows + rows, ..sample },
            None => {
                let sample = SplitSample { rows, ..sample };
                live.tables.entry(table.to_owned()).or_default().insert(id.clone(), sample);
            }
        }
    }

    /// A split has ended for good; its rows stay counted.
    pub(crate) fn split_ended(&self, table: &str, id: &SplitId) {
        let mut live = self.lock();
        let Some(splits) = live.tables.get_mut(table) else { return };
        let Some(ended) = splits.remove(id) else { return };
        let none = SplitSample {
            rows: 0,
            lag: Some(0),
            lag_ms: Some(0),
            watermark: Watermark::MAX,
            advanced: None,
            is_idle: true,
        };
        splits.entry(SplitId::new("(ended)")).or_insert(none).rows += ended.rows;
    }

    /// Rows given to a sink.
    pub(crate) fn written(&self, sink: &str, rows: u64) {
        let mut live = self.lock();
        match live.written.get_mut(sink) {
            Some(known) => *known += rows,
            None => {
                live.written.insert(sink.to_owned(), rows);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(watermark: i64, is_idle: bool) -> SplitSample {
        SplitSample { rows: 0, lag: Some(3), lag_ms: None, watermark: Watermark(watermark), advanced: None, is_idle }
    }

    #[test]
    fn the_holder_is_the_slowest_split_that_is_not_idle() {
        let metrics = JobMetrics::default();
        metrics.split("t", &SplitId::new("a"), 5, split(10, false));
        metrics.split("t", &SplitId::new("b"), 1, split(2, true));
        metrics.split("t", &SplitId::new("a"), 2, split(12, false));
        let sample = metrics.sample();
        let holders: Vec<_> = sample.holders().map(|(table, id, _)| (table, id.to_string())).collect();
        assert_eq!(holders, [("t", "a".to_owned())]);
        assert_eq!((sample.rows_read(), sample.lag()), (8, Some(6)));
        metrics.split_ended("t", &SplitId::new("a"));
        assert_eq!(metrics.sample().rows_read(), 8);
    }
}
