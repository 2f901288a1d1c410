//! The watermark of a table: the minimum over its splits that are not idle, released with care. Pure.
//!
//! Every split that is listed has a mark here from the moment it is known, so that one nobody has opened yet holds the
//! watermark. A split that ended keeps its mark until what carries it on is open. Where a source says so, a watermark is
//! only released after a discovery that began after it was computed.
//!
//! Invariant: the released watermark never falls, and never exceeds the mark of a split that holds it.

use std::collections::BTreeMap;

use crate::{connector::SplitId, time::Watermark};

/// What a split contributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Its running watermark.
    pub watermark: Watermark,
    /// Whether it is caught up and silent, so that it does not hold the table.
    pub idle: bool,
    /// Whether it has rows waiting, so that alignment compares it.
    pub backlog: bool,
}

/// Progress of one table over all its tasks.
#[derive(Debug)]
pub struct TableProgress {
    marks: BTreeMap<SplitId, Mark>,
    left: Watermark,
    candidate: Watermark,
    released: Watermark,
    waits_for_discovery: bool,
    finished: bool,
}

/// A watermark that was computed before a discovery began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BeforeDiscovery(Watermark);

impl TableProgress {
    /// Progress that goes on from a released watermark.
    pub fn new(released: Watermark, waits_for_discovery: bool) -> Self {
        Self {
            marks: BTreeMap::new(),
            left: Watermark::MIN,
            candidate: released,
            released,
            waits_for_discovery,
            finished: false,
        }
    }

    /// The table's watermark.
    pub fn released(&self) -> Watermark {
        if self.finished { Watermark::MAX } else { self.released }
    }

    /// A split is known, with a watermark to start from. What was computed without it and is not released yet waits.
    pub fn join(&mut self, split: SplitId, watermark: Watermark) {
        let mark = *self.marks.entry(split).or_insert(Mark { watermark, idle: false, backlog: false });
        self.candidate = self.candidate.min(mark.watermark).max(self.released);
    }

    /// A split that may have been idle has rows: from now on it holds the table, from the table's watermark upwards.
    pub fn wake(&mut self, split: &SplitId) -> Watermark {
        let released = self.released();
        let Some(mark) = self.marks.get_mut(split) else { return released };
        if mark.idle {
            mark.idle = false;
            mark.watermark = mark.watermark.max(released);
            self.candidate = self.candidate.min(mark.watermark).max(self.released);
        }
        mark.watermark
    }

    /// What a split says now.
    pub fn report(&mut self, split: &SplitId, mark: Mark) {
        if let Some(known) = self.marks.get_mut(split) {
            known.watermark = known.watermark.max(mark.watermark);
            known.idle = mark.idle;
            known.backlog = mark.backlog;
        }
        self.advance();
    }

    /// A split no longer holds: it ended and what carries it on is open.
    pub fn leave(&mut self, split: &SplitId) {
        if let Some(mark) = self.marks.remove(split) {
            self.left = self.left.max(mark.watermark);
        }
        self.advance();
    }

    /// Every split has ended for good.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// Whether a watermark waits for a discovery.
    pub fn waits(&self) -> bool {
        self.waits_for_discovery && !self.finished && self.candidate > self.released
    }

    /// A discovery begins.
    pub fn discovery_begins(&self) -> BeforeDiscovery {
        BeforeDiscovery(self.candidate)
    }

    /// A discovery has ended, and what it found has joined.
    pub fn discovery_ended(&mut self, before: BeforeDiscovery) {
        self.released = self.released.max(before.0.min(self.candidate));
    }

    /// The slowest split with backlog, for alignment.
    pub fn slowest_with_backlog(&self) -> Option<Watermark> {
        self.marks.values().filter(|mark| mark.backlog).map(|mark| mark.watermark).min()
    }

    /// The split that holds the watermark.
    pub fn holder(&self) -> Option<(&SplitId, Mark)> {
        self.marks
            .iter()
            .filter(|(_, mark)| !mark.idle)
            .min_by_key(|(_, mark)| mark.watermark)
            .map(|(id, mark)| (id, *mark))
    }

    fn advance(&mut self) {
        let active = self.marks.values().filter(|mark| !mark.idle).map(|mark| mark.watermark).min();
        let all = || self.marks.values().map(|mark| mark.watermark).max().unwrap_or(Watermark::MIN).max(self.left);
        let now = active.unwrap_or_else(all);
        self.candidate = now.max(self.released);
        if !self.waits_for_discovery {
            self.released = self.candidate;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> SplitId {
        SplitId::new(name)
    }

    fn at(watermark: i64) -> Mark {
        Mark { watermark: Watermark(watermark), idle: false, backlog: true }
    }

    fn idle(watermark: i64) -> Mark {
        Mark { watermark: Watermark(watermark), idle: true, backlog: false }
    }

    #[test]
    fn a_listed_split_that_nobody_opened_holds_the_watermark() {
        let mut table = TableProgress::new(Watermark::MIN, false);
        table.join(id("a"), Watermark::MIN);
        table.join(id("b"), Watermark(3));
        table.report(&id("a"), at(10));
        assert_eq!(table.released(), Watermark(3));
        assert_eq!(table.holder().unwrap().0, &id("b"));
    }

    #[test]
    fn idle_splits_do_not_hold_and_all_idle_releases_the_furthest() {
        let mut table = TableProgress::new(Watermark::MIN, false);
        table.join(id("a"), Watermark::MIN);
        table.join(id("b"), Watermark::MIN);
        table.report(&id("b"), idle(2));
        table.report(&id("a"), at(10));
        assert_eq!(table.released(), Watermark(10));
        table.report(&id("a"), idle(12));
        assert_eq!(table.released(), Watermark(12));
        table.report(&id("b"), at(5));
        assert_eq!(table.released(), Watermark(12), "it never falls");
    }

    #[test]
    fn an_ended_split_holds_until_it_leaves() {
        let mut table = TableProgress::new(Watermark::MIN, false);
        table.join(id("parent"), Watermark::MIN);
        table.join(id("other"), Watermark::MIN);
        table.report(&id("other"), at(50));
        table.report(&id("parent"), at(20));
        table.join(id("child"), Watermark(20));
        table.leave(&id("parent"));
        assert_eq!(table.released(), Watermark(20));
        table.report(&id("child"), at(70));
        assert_eq!(table.released(), Watermark(50));
    }

    #[test]
    fn a_watermark_waits_for_a_discovery_that_began_after_it() {
        let mut table = TableProgress::new(Watermark::MIN, true);
        table.join(id("a"), Watermark::MIN);
        let early = table.discovery_begins();
        table.report(&id("a"), at(10));
        table.discovery_ended(early);
        assert_eq!(table.released(), Watermark::MIN);
        assert!(table.waits());
        let later = table.discovery_begins();
        table.discovery_ended(later);
        assert_eq!(table.released(), Watermark(10));
        assert!(!table.waits());
    }

    #[test]
    fn a_split_that_a_discovery_found_holds_what_was_not_released_yet() {
        let mut table = TableProgress::new(Watermark(3), true);
        table.join(id("a"), Watermark(3));
        table.report(&id("a"), at(10));
        let begun = table.discovery_begins();
        table.join(id("new"), table.released());
        table.discovery_ended(begun);
        assert_eq!(table.released(), Watermark(3), "the new split may have rows from 3 on");
        table.report(&id("new"), at(8));
        table.discovery_ended(table.discovery_begins());
        assert_eq!(table.released(), Watermark(8));
    }

    #[test]
    fn an_idle_split_that_wakes_holds_at_once() {
        let mut table = TableProgress::new(Watermark::MIN, false);
        table.join(id("a"), Watermark::MIN);
        table.join(id("b"), Watermark::MIN);
        table.report(&id("a"), at(10));
        table.report(&id("b"), idle(2));
        assert_eq!(table.released(), Watermark(10));
        assert_eq!(table.wake(&id("b")), Watermark(10));
        table.report(&id("a"), at(20));
        assert_eq!(table.released(), Watermark(10));
    }
}
