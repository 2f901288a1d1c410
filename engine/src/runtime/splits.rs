//! The splits of a table: what is known, who reads what, what may be forgotten. Pure.
//!
//! ```text
//! listed ──parents ended?──> assigned to a task ──Ended──> ended ──left the listing──> retired (its account stays)
//!    └── Waiting ────────────────^
//! ```
//!
//! A child is read where its parent was, behind the parent's rows. When its parents were read in several tasks it waits for
//! a barrier behind their ends, so that rows of one key keep their order.
//!
//! Invariant: a split is read by at most one task, and only after all its parents that are still listed have ended.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    accounts::{SplitAccount, add_account},
    checkpoint::manifest::{SourceState, SplitState, SplitStatus},
    connector::{Split, SplitId, SplitStart, StartAt},
    time::Watermark,
};

/// A split handed to a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// The task.
    pub task: usize,
    /// Where it starts.
    pub start: SplitStart,
    /// Everything the task goes on from.
    pub state: SplitState,
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    state: SplitState,
    task: Option<usize>,
    reached_end: bool,
    /// Whether a published state has its end and its account.
    settled: bool,
    /// As it was when its task got it, once it has ended: a barrier that its task saw before that knows nothing of its end.
    before_end: Option<Box<SplitState>>,
}

impl Entry {
    fn new(state: SplitState) -> Self {
        let settled = state.status == SplitStatus::Ended;
        Self { state, task: None, reached_end: false, settled, before_end: None }
    }
}

/// Where a split may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Home {
    /// In any task.
    Anywhere,
    /// In the task that has sent its parents' rows.
    Task(usize),
    /// Nowhere before the next barrier.
    Later,
}

/// The splits of one table.
#[derive(Debug, Default)]
pub struct SplitTable {
    entries: BTreeMap<SplitId, Entry>,
    order: Vec<SplitId>,
    retired: SplitAccount,
    listed_once: bool,
    tasks: usize,
}

/// What a listing changes for the table's watermark.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Joined(pub Vec<(SplitId, Watermark)>);

impl SplitTable {
    /// The splits a checkpoint knows, or none.
    pub fn restore(state: Option<&SourceState>, tasks: usize) -> Self {
        let mut table = Self { tasks: tasks.max(1), ..Self::default() };
        let Some(state) = state else { return table };
        table.listed_once = true;
        table.retired = state.retired.clone();
        for split in &state.splits {
            let id = split.split.id.clone();
            table.order.push(id.clone());
            table.entries.insert(id, Entry::new(split.clone()));
        }
        table
    }

    /// Gives up what a table no longer reads. With nothing left it begins as a new table does.
    pub fn give_up(&mut self, is_gone: impl Fn(&SplitId) -> bool) {
        let gone: Vec<SplitId> = self.order.iter().filter(|id| is_gone(id)).cloned().collect();
        gone.iter().for_each(|id| self.retire(id));
        self.listed_once &= gone.is_empty() || !self.order.is_empty();
    }

    /// Says how many tasks read the table; before the first assignment.
    pub fn set_tasks(&mut self, tasks: usize) {
        self.tasks = tasks.max(1);
    }

    /// Takes a complete listing: new splits join with `watermark`; ended ones that left retire.
    pub fn listed(&mut self, listing: Vec<Split>, watermark: Watermark) -> Joined {
        let present: BTreeSet<SplitId> = listing.iter().map(|split| split.id.clone()).collect();
        let joined = self.add(listing, watermark);
        self.retire_absent(&present);
        joined
    }

    /// Takes splits that are new, such as the children of one that ended. They join with `watermark`, a child with the least
    /// watermark of its parents where all of them have ended and were further.
    pub fn add(&mut self, listing: Vec<Split>, watermark: Watermark) -> Joined {
        let first = !std::mem::replace(&mut self.listed_once, true);
        let mut joined = Joined::default();
        for split in listing {
            self.retire_other_version(&split);
            if self.entries.contains_key(&split.id) {
                continue;
            }
            // A parent that was idle did not hold the table's watermark, and may be far below it.
            let start = self.start_of(&split).map_or(watermark, |start| start.max(watermark));
            joined.0.push((split.id.clone(), start));
            self.order.push(split.id.clone());
            let state = SplitState {
                split: split.clone(),
                status: SplitStatus::Waiting,
                offset: None,
                watermark: (start > Watermark::MIN).then_some(start),
                idle: false,
                from_default: first,
                advanced: None,
                lag: None,
                lag_ms: None,
                ahead: 0,
                account: SplitAccount::new(),
            };
            self.entries.insert(split.id, Entry::new(state));
        }
        joined
    }

    /// The least of the final watermarks of a split's parents, once they have ended.
    fn start_of(&self, split: &Split) -> Option<Watermark> {
        let parents: Vec<&Entry> = split.parents.iter().filter_map(|parent| self.entries.get(parent)).collect();
        let ended = parents.iter().all(|parent| parent.state.status == SplitStatus::Ended);
        if ended { parents.iter().filter_map(|parent| parent.state.watermark).min() } else { None }
    }

    fn retire_other_version(&mut self, split: &Split) {
        let changed = self
            .entries
            .get(&split.id)
            .is_some_and(|known| known.settled && known.state.split.version != split.version);
        if changed {
            self.retire(&split.id);
        }
    }

    fn retire_absent(&mut self, present: &BTreeSet<SplitId>) {
        let gone = |entry: &Entry| entry.settled && !present.contains(&entry.state.split.id);
        let needed: BTreeSet<SplitId> = self
            .entries
            .values()
            .filter(|entry| entry.state.status == SplitStatus::Waiting)
            .flat_map(|entry| entry.state.split.parents.iter().cloned())
            .collect();
        let retiring: Vec<SplitId> = self
            .entries
            .values()
            .filter(|entry| gone(entry) && !needed.contains(&entry.state.split.id))
            .map(|entry| entry.state.split.id.clone())
            .collect();
        retiring.iter().for_each(|id| self.retire(id));
    }

    fn retire(&mut self, id: &SplitId) {
        if let Some(entry) = self.entries.remove(id) {
            add_account(&mut self.retired, &entry.state.account);
            self.order.retain(|other| other != id);
        }
    }

    /// Hands every split that may be read and has no task to its parent's, or to the least loaded one.
    pub fn assign(&mut self) -> Vec<Assignment> {
        let mut load = vec![0usize; self.tasks];
        for entry in self.entries.values() {
            if let (Some(task), SplitStatus::Open) = (entry.task, entry.state.status) {
                load[task] += 1;
            }
        }
        let mut assignments = Vec::new();
        for id in self.order.clone() {
            if !self.may_be_read(&id) {
                continue;
            }
            let task = match self.home(&id) {
                Home::Task(task) => task,
                Home::Anywhere => (0..self.tasks).min_by_key(|task| load[*task]).unwrap_or(0),
                Home::Later => continue,
            };
            load[task] += 1;
            let start = self.entries.get(&id).and_then(|entry| self.start_of(&entry.state.split));
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            entry.task = Some(task);
            entry.state.watermark = entry.state.watermark.max(start);
            entry.state.status = SplitStatus::Open;
            let at = match &entry.state.offset {
                Some(offset) => StartAt::Offset(offset.clone()),
                None if entry.state.from_default => StartAt::TableDefault,
                None => StartAt::Beginning,
            };
            let start = SplitStart { split: entry.state.split.clone(), at };
            assignments.push(Assignment { task, start, state: entry.state.clone() });
        }
        assignments
    }

    /// Where a split may be read: rows of a parent whose end is in no checkpoint may still be on their way.
    fn home(&self, id: &SplitId) -> Home {
        let parents = self.entries.get(id).map(|entry| entry.state.split.parents.as_slice()).unwrap_or_default();
        let unsettled = parents.iter().filter_map(|parent| self.entries.get(parent)).filter(|parent| !parent.settled);
        let tasks: BTreeSet<usize> = unsettled.filter_map(|parent| parent.task).collect();
        match (tasks.first(), tasks.len()) {
            (None, _) => Home::Anywhere,
            (Some(task), 1) => Home::Task(*task),
            (Some(_), _) => Home::Later,
        }
    }

    fn may_be_read(&self, id: &SplitId) -> bool {
        let Some(entry) = self.entries.get(id) else { return false };
        let ended =
            |parent: &SplitId| self.entries.get(parent).is_none_or(|parent| parent.state.status == SplitStatus::Ended);
        entry.task.is_none() && entry.state.status != SplitStatus::Ended && entry.state.split.parents.iter().all(ended)
    }

    /// A task has read a split to its end; `watermark` is its last.
    pub fn ended(&mut self, id: &SplitId, watermark: Watermark) {
        if let Some(entry) = self.entries.get_mut(id) {
            let before = SplitState { status: SplitStatus::Waiting, ..entry.state.clone() };
            entry.before_end.get_or_insert_with(|| Box::new(before));
            entry.state.status = SplitStatus::Ended;
            entry.state.watermark = Some(watermark);
        }
    }

    /// A split has reached the end that was there at the start.
    pub fn reached_end(&mut self, id: &SplitId) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.reached_end = true;
        }
    }

    /// Whether nothing is left to read, now or later.
    pub fn is_all_ended(&self) -> bool {
        self.entries.values().all(|entry| entry.state.status == SplitStatus::Ended)
    }

    /// Whether everything that was there at the start is read.
    pub fn is_all_reached(&self) -> bool {
        self.entries.values().all(|entry| entry.state.status == SplitStatus::Ended || entry.reached_end)
    }

    /// Splits that are known and have not ended, with their watermarks, for the table's progress.
    pub fn open_marks(&self) -> Vec<(SplitId, Watermark)> {
        let open = self.entries.values().filter(|entry| entry.state.status != SplitStatus::Ended);
        open.map(|entry| (entry.state.split.id.clone(), entry.state.watermark.unwrap_or(Watermark::MIN))).collect()
    }

    /// The table as of a barrier: `acked` are the splits as tasks had them at it. A split no task had is written as it
    /// was when it joined.
    pub fn snapshot(&mut self, table: &str, watermark: Watermark, acked: Vec<SplitState>) -> SourceState {
        let mut acked: BTreeMap<SplitId, SplitState> =
            acked.into_iter().map(|state| (state.split.id.clone(), state)).collect();
        let mut splits = Vec::with_capacity(self.order.len());
        for id in &self.order {
            let Some(entry) = self.entries.get_mut(id) else { continue };
            match acked.remove(id) {
                Some(state) if state.status == SplitStatus::Ended => {
                    entry.state = state.clone();
                    entry.settled = true;
                    entry.before_end = None;
                    splits.push(state);
                }
                Some(state) => splits.push(state),
                None if let Some(before) = &entry.before_end => splits.push((**before).clone()),
                None if entry.state.status == SplitStatus::Open => {
                    splits.push(SplitState { status: SplitStatus::Waiting, ..entry.state.clone() });
                }
                None => splits.push(entry.state.clone()),
            }
        }
        let watermark = (watermark > Watermark::MIN).then_some(watermark);
        SourceState { table: table.to_owned(), watermark, splits, retired: self.retired.clone(), origin: String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(id: &str, parents: &[&str]) -> Split {
        Split { parents: parents.iter().map(SplitId::new).collect(), ..Split::new(id) }
    }

    fn ids(assignments: &[Assignment]) -> Vec<(usize, &str)> {
        assignments.iter().map(|assignment| (assignment.task, &*assignment.start.split.id.0)).collect()
    }

    fn end(table: &mut SplitTable, id: &str) {
        table.ended(&SplitId::new(id), Watermark(1));
        let mut state = table.entries[&SplitId::new(id)].state.clone();
        state.status = SplitStatus::Ended;
        table.snapshot("t", Watermark(1), vec![state]);
    }

    #[test]
    fn a_child_waits_for_both_parents_and_starts_with_the_lesser_watermark() {
        let mut table = SplitTable::restore(None, 2);
        table.listed(vec![Split::new("a"), Split::new("b")], Watermark::MIN);
        assert_eq!(ids(&table.assign()), [(0, "a"), (1, "b")]);
        table.ended(&SplitId::new("a"), Watermark(7));
        table.ended(&SplitId::new("b"), Watermark(5));
        let listing = vec![Split::new("a"), Split::new("b"), child("c", &["a", "b"])];
        let joined = table.listed(listing, Watermark(1));
        assert_eq!(joined.0, [(SplitId::new("c"), Watermark(5))]);
        assert!(table.assign().is_empty(), "rows of both tasks are on their way");
        end(&mut table, "a");
        end(&mut table, "b");
        let assigned = table.assign();
        assert_eq!(ids(&assigned), [(0, "c")]);
        assert_eq!(assigned[0].start.at, StartAt::Beginning);
    }

    #[test]
    fn children_of_a_parent_that_was_idle_start_with_the_tables_watermark() {
        let mut table = SplitTable::restore(None, 1);
        table.listed(vec![Split::new("silent"), Split::new("empty"), Split::new("busy")], Watermark::MIN);
        table.assign();
        for (parent, last) in [("silent", Watermark(5)), ("empty", Watermark::MIN), ("busy", Watermark(120))] {
            table.ended(&SplitId::new(parent), last);
            let name = format!("{parent}1");
            let joined = table.add(vec![child(&name, &[parent])], Watermark(100));
            let expected = Watermark(100).max(last);
            assert_eq!(joined.0, [(SplitId::new(&name), expected)]);
            let assigned = table.assign();
            assert_eq!((ids(&assigned), assigned[0].state.watermark), (vec![(0, &*name)], Some(expected)));
        }
    }

    #[test]
    fn children_follow_their_parent_in_its_task() {
        let mut table = SplitTable::restore(None, 2);
        table.listed(vec![Split::new("a"), Split::new("b")], Watermark::MIN);
        assert_eq!(ids(&table.assign()), [(0, "a"), (1, "b")]);
        table.ended(&SplitId::new("b"), Watermark(5));
        table.add(vec![child("b1", &["b"]), child("b2", &["b"])], Watermark::MIN);
        assert_eq!(ids(&table.assign()), [(1, "b1"), (1, "b2")], "behind the rows of \"b\", though the other is free");
        table.ended(&SplitId::new("b1"), Watermark(6));
        end(&mut table, "b1");
        table.add(vec![child("b11", &["b1"])], Watermark::MIN);
        assert_eq!(ids(&table.assign()).len(), 1, "a checkpoint has its end: any task may read what follows");
    }

    #[test]
    fn the_first_listing_starts_at_the_tables_default_later_ones_at_the_beginning() {
        let mut table = SplitTable::restore(None, 1);
        table.listed(vec![Split::new("a")], Watermark::MIN);
        assert_eq!(table.assign()[0].start.at, StartAt::TableDefault);
        table.listed(vec![Split::new("a"), Split::new("b")], Watermark(3));
        assert_eq!(table.assign()[0].start.at, StartAt::Beginning);
        let state = table.snapshot("t", Watermark(3), Vec::new());
        let mut again = SplitTable::restore(Some(&state), 1);
        assert_eq!(again.assign()[0].start.at, StartAt::TableDefault, "nothing of it was read before the barrier");
    }

    #[test]
    fn a_split_that_was_read_after_the_barrier_is_written_as_unread() {
        let mut table = SplitTable::restore(None, 2);
        table.listed(vec![Split::new("a")], Watermark::MIN);
        table.assign();
        table.ended(&SplitId::new("a"), Watermark(9));
        // Its task saw the barrier before it got the split.
        let state = table.snapshot("t", Watermark::MIN, Vec::new());
        assert_eq!((state.splits[0].status, state.splits[0].watermark), (SplitStatus::Waiting, None));
        let mut again = SplitTable::restore(Some(&state), 2);
        assert_eq!(again.assign()[0].start.at, StartAt::TableDefault);
        end(&mut table, "a");
        let state = table.snapshot("t", Watermark(9), Vec::new());
        assert_eq!(state.splits[0].status, SplitStatus::Ended);
    }

    #[test]
    fn an_ended_split_is_not_read_again_until_its_version_changes_and_goes_when_it_leaves() {
        let file = |version: &str| Split { version: version.into(), ..Split::new("f") };
        let mut table = SplitTable::restore(None, 1);
        table.listed(vec![file("1")], Watermark::MIN);
        assert_eq!(table.assign().len(), 1);
        end(&mut table, "f");
        table.listed(vec![file("1")], Watermark(1));
        assert!(table.assign().is_empty() && table.is_all_ended());
        table.listed(vec![file("2")], Watermark(1));
        assert_eq!(table.assign().len(), 1);
        end(&mut table, "f");
        table.listed(vec![], Watermark(1));
        assert!(table.snapshot("t", Watermark(1), Vec::new()).splits.is_empty());
    }
}
