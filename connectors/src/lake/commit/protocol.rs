//! The protocol as pure functions: from what is found to what to do about it.
//!
//! Invariant: every step can be cut short anywhere and begun again by anyone; the same facts give the same step.

use super::{
    ABORT_RETENTION_MS, RETENTION_MS,
    owner::Fate,
    record::{RecordKind, StagedFile},
};

/// Which way a decision went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It happens.
    Commit,
    /// It does not.
    Abort,
}

/// What is found of one statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Its begin record is there.
    pub begun: bool,
    /// Its decision, if there is one.
    pub decision: Option<Verdict>,
    /// Its done record is there.
    pub done: bool,
    /// What became of its owner.
    pub owner: Fate,
    /// Milliseconds since its newest record was written.
    pub age_ms: i64,
}

/// What whoever comes next does about a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing: its owner goes on, or its records are still needed.
    Leave,
    /// Decide that it does not happen, then look again.
    DecideAbort,
    /// Delete what it staged.
    RollBack,
    /// Register, publish, mark as done, then look again.
    Finish,
    /// Delete what it replaced and what it staged.
    Clean,
    /// Delete its last records.
    Collect,
}

/// The table of the module's documentation.
pub fn next_step(facts: Facts) -> Step {
    let Facts { begun, decision, done, owner, age_ms } = facts;
    match (begun, decision, done, owner) {
        (true, None, true, _) => Step::Clean,
        (false, None, true, _) => Step::Collect,
        (true, None, false, Fate::Alive) => Step::Leave,
        (true, None, false, Fate::Dead) => Step::DecideAbort,
        (false, None, false, _) => Step::Leave,
        (true, Some(Verdict::Abort), _, _) => Step::RollBack,
        (false, Some(Verdict::Abort), _, _) => collect_after(ABORT_RETENTION_MS, age_ms),
        (true, Some(Verdict::Commit), false, Fate::Alive) => Step::Leave,
        (true, Some(Verdict::Commit), false, Fate::Dead) => Step::Finish,
        // Decided after it had been rolled back, or given up at `Register`: nothing of it was published.
        (false, Some(Verdict::Commit), false, _) => collect_after(RETENTION_MS, age_ms),
        (true, Some(Verdict::Commit), true, Fate::Alive) => Step::Leave,
        (true, Some(Verdict::Commit), true, Fate::Dead) => Step::Clean,
        (false, Some(Verdict::Commit), true, _) => collect_after(RETENTION_MS, age_ms),
    }
}

fn collect_after(retention_ms: i64, age_ms: i64) -> Step {
    if age_ms > retention_ms { Step::Collect } else { Step::Leave }
}

/// What an owner knows of its statement when it rolls it back itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Own {
    /// It has asked for a decision; whether the request arrived, and will not arrive later, is not known.
    pub asked: bool,
    /// Its begin record was there before; `None` if that could not be read.
    pub begun: Option<bool>,
    /// Its table is known to be dropped.
    pub dropped: bool,
}

/// What an owner deletes of its own records after it has rolled its statement back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remains {
    /// Nothing: they keep something out, or nothing is known to be there.
    Keep,
    /// The abort, which was for it alone to find.
    DeleteAbort,
    /// The abort and its claims.
    DeleteAbortAndClaims,
}

/// The second table of the module's documentation.
pub fn after_own_roll_back(own: Own) -> Remains {
    match (own.asked, own.begun, own.dropped) {
        (true, _, _) => Remains::Keep,
        (false, _, true) => Remains::DeleteAbortAndClaims,
        // Whoever took the begin record away left an abort.
        (false, Some(false), false) => Remains::DeleteAbort,
        (false, Some(true) | None, false) => Remains::Keep,
    }
}

/// One effect on the store or the catalog; repeating it changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action<'a> {
    /// Create the table and its partitions in the catalog.
    Register,
    /// Make a file visible.
    Publish(&'a StagedFile),
    /// Create the done record.
    MarkDone,
    /// Delete published files that were replaced.
    DeleteReplaced,
    /// Abort uploads that were begun and never completed, and forget them.
    AbortUploads,
    /// Delete hidden files.
    DeleteStaged,
    /// Delete a record.
    Delete(RecordKind),
}

/// The effects of a step, in order. `files` are the committed ones, empty unless the step finishes.
pub fn actions(step: Step, files: &[StagedFile]) -> Vec<Action<'_>> {
    match step {
        Step::Leave | Step::DecideAbort => Vec::new(),
        Step::Finish => {
            let publish = files.iter().map(Action::Publish);
            std::iter::once(Action::Register).chain(publish).chain([Action::MarkDone]).collect()
        }
        Step::Clean => {
            vec![Action::DeleteReplaced, Action::AbortUploads, Action::DeleteStaged, Action::Delete(RecordKind::Begin)]
        }
        Step::RollBack => vec![Action::AbortUploads, Action::DeleteStaged, Action::Delete(RecordKind::Begin)],
        // The decision goes first: a decision without a done record would hide the statement's files.
        Step::Collect => vec![Action::Delete(RecordKind::Decision), Action::Delete(RecordKind::Done)],
    }
}
