//! A table that a job reads: its splits, its progress, and when it is asked for new splits.
//!
//! A watermark waits for a discovery that began after it was computed. A source that is asked cheaply is asked early then,
//! so that windows do not wait for the whole interval.
//!
//! Invariant: between two discoveries lies at least a tenth of the interval.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;

use crate::{
    connector::Source,
    runtime::{
        source_head::{SharedProgress, lock},
        splits::SplitTable,
        task::Command,
    },
    time::Instant,
};

/// So many times within its interval a discovery may begin early, when a watermark waits for it.
const HASTE: u32 = 10;

/// A table that is read.
#[derive(Debug)]
pub(super) struct TableRun {
    pub(super) node: usize,
    pub(super) name: String,
    pub(super) table: String,
    pub(super) source: Arc<dyn Source>,
    pub(super) splits: SplitTable,
    pub(super) progress: SharedProgress,
    pub(super) commands: Vec<mpsc::Sender<Command>>,
    pub(super) next_discovery: Option<Instant>,
    /// When to look whether a watermark waits for a discovery, for sources that are asked cheaply.
    pub(super) next_haste: Option<Instant>,
    pub(super) ended: bool,
}

impl TableRun {
    /// Whether a discovery is due, or a watermark waits for one; else the next look at that is put off.
    pub(super) fn must_discover(&mut self, now: Instant) -> bool {
        if self.next_discovery.is_some_and(|due| due <= now) {
            return true;
        }
        if self.next_haste.is_none_or(|due| due > now) {
            return false;
        }
        let waits = lock(&self.progress).waits();
        self.next_haste = self.haste().map(|haste| now.after(haste));
        waits
    }

    /// Puts the next discovery off by the source's interval.
    pub(super) fn schedule_discovery(&mut self, now: Instant) {
        self.next_discovery = self.source.discovery_interval().map(|interval| now.after(interval));
        self.next_haste = self.haste().map(|haste| now.after(haste));
    }

    /// Time between two looks, and so the shortest between two discoveries.
    fn haste(&self) -> Option<Duration> {
        let interval = self.source.discovery_interval().filter(|_| self.source.discovery_is_cheap())?;
        Some((interval / HASTE).max(Duration::from_millis(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        connector::SplitId,
        runtime::{
            progress::{Mark, TableProgress},
            source_head::{Shared, tell},
        },
        testing::MemoryLog,
        time::Watermark,
    };

    fn at(watermark: i64) -> Mark {
        Mark { watermark: Watermark(watermark), idle: false, backlog: true }
    }

    /// A table that is asked every 20 ms, with a split of which nothing is read.
    fn table(split: &SplitId) -> TableRun {
        let mut progress = TableProgress::new(Watermark::MIN, true);
        progress.join(split.clone(), Watermark::MIN);
        TableRun {
            node: 0,
            name: "source:t".to_owned(),
            table: "t".to_owned(),
            source: Arc::new(MemoryLog::new(false, 1)),
            splits: SplitTable::restore(None, 1),
            progress: Shared::new(progress),
            commands: Vec::new(),
            next_discovery: None,
            next_haste: None,
            ended: false,
        }
    }

    #[test]
    fn a_watermark_that_waits_brings_the_discovery_forward() {
        let split = SplitId::new("a");
        let mut table = table(&split);
        table.schedule_discovery(Instant(0));
        assert!(!table.must_discover(Instant(2)), "nothing waits");
        lock(&table.progress).report(&split, at(5));
        assert!(!table.must_discover(Instant(3)), "the last look is too short ago");
        assert!(table.must_discover(Instant(4)));
        let before = lock(&table.progress).discovery_begins();
        lock(&table.progress).discovery_ended(before);
        table.schedule_discovery(Instant(10));
        assert!(!table.must_discover(Instant(29)), "nothing waits");
        assert!(table.must_discover(Instant(30)));
    }

    #[test]
    fn tasks_are_woken_once_for_a_watermark_that_a_discovery_released() {
        let split = SplitId::new("a");
        let table = table(&split);
        let mut woken = table.progress.watch();
        lock(&table.progress).report(&split, at(5));
        tell(&table.progress);
        assert!(!woken.has_changed().unwrap(), "it is not released");
        let before = lock(&table.progress).discovery_begins();
        lock(&table.progress).discovery_ended(before);
        tell(&table.progress);
        assert_eq!(*woken.borrow_and_update(), Watermark(5));
        tell(&table.progress);
        assert!(!woken.has_changed().unwrap());
    }
}
