//! The recovery protocol: every decision a job takes about its log, as pure functions from facts.
//!
//! The log is numbered from 1. An attempt reads it, claims the next number under a larger generation, restores what was
//! newest before its claim, and from then on appends manifests. Whoever loses a number reads again and decides anew.
//!
//! ```text
//!            read log ──> claim_step ──create──> won ──> recovery_step ──> Fresh | Restore | RestoreThenCommit
//!               ^                          └─ lost ─┐
//!               └───────────────────────────────────┤
//! running: publish_step(number taken by ..) ────────┴──> Fenced by a larger generation | try the next number
//! ```
//!
//! Invariant: among all attempts of a job at most one believes it holds the newest number, and every manifest after a
//! claim has at least the claim's generation.

use crate::{
    checkpoint::manifest::{Claim, LogEntry, Manifest},
    message::{Epoch, Generation},
};

/// What an attempt has read of the log.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LogView {
    /// Entries by ascending number.
    pub entries: Vec<(u64, LogEntry)>,
    /// Epochs with a commit marker, ascending.
    pub committed: Vec<Epoch>,
    /// Savepoints by name, where they were read too.
    pub savepoints: Vec<(String, Manifest)>,
}

impl LogView {
    /// The number after the last.
    pub fn next_number(&self) -> u64 {
        self.entries.last().map_or(1, |(number, _)| number + 1)
    }

    /// The largest generation there is.
    pub fn generation(&self) -> Generation {
        self.entries.iter().map(|(_, entry)| entry.generation()).max().unwrap_or_default()
    }

    /// The largest epoch ever published.
    pub fn last_epoch(&self) -> Epoch {
        self.manifests().map(|manifest| manifest.epoch).max().unwrap_or_default()
    }

    /// The claim of the largest generation.
    pub fn holder(&self) -> Option<&Claim> {
        self.claims().max_by_key(|claim| claim.generation)
    }

    /// All claims, oldest first.
    pub fn claims(&self) -> impl Iterator<Item = &Claim> {
        self.entries.iter().filter_map(|(_, entry)| match entry {
            LogEntry::Claim(claim) => Some(claim),
            LogEntry::Manifest(_) => None,
        })
    }

    /// All manifests, oldest first.
    pub fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        self.entries.iter().filter_map(|(_, entry)| match entry {
            LogEntry::Claim(_) => None,
            LogEntry::Manifest(manifest) => Some(&**manifest),
        })
    }

    /// The manifest a restart goes on from: the newest, unless a later claim went back to an older one and has not
    /// published since.
    pub fn current(&self) -> Option<&Manifest> {
        let back = self.entries.iter().rev().find_map(|(_, entry)| match entry {
            LogEntry::Manifest(_) => Some(None),
            LogEntry::Claim(claim) => claim.restored_from.map(Some),
        });
        match back.flatten() {
            Some(epoch) => self.manifest(epoch),
            None => self.manifests().last(),
        }
    }

    /// The manifest of an epoch, in the log or as a savepoint.
    pub fn manifest(&self, epoch: Epoch) -> Option<&Manifest> {
        let saved = self.savepoints.iter().map(|(_, manifest)| manifest);
        self.manifests().chain(saved).filter(|manifest| manifest.epoch == epoch).last()
    }

    /// The savepoint of a name.
    pub fn savepoint(&self, name: &str) -> Option<&Manifest> {
        self.savepoints.iter().find(|(saved, _)| saved == name).map(|(_, manifest)| manifest)
    }

    /// Whether an epoch has its marker.
    pub fn is_committed(&self, epoch: Epoch) -> bool {
        self.committed.binary_search(&epoch).is_ok()
    }
}

/// What the attempt should claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimStep {
    /// Number to create.
    pub number: u64,
    /// Generation to claim.
    pub generation: Generation,
}

/// The next claim, after reading the log.
pub fn claim_step(log: &LogView) -> ClaimStep {
    ClaimStep { number: log.next_number(), generation: Generation(log.generation().0 + 1) }
}

/// What the reply to a `create` of a log number was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateReply {
    /// Ours is there.
    New,
    /// Something is there.
    Existed,
    /// No clear answer.
    Unclear,
}

/// What the entry at that number is, read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadBack {
    /// Ours.
    Ours,
    /// Another's, of this generation.
    Other(Generation),
    /// Nothing is there.
    Absent,
}

/// What follows from a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateStep {
    /// The entry is ours.
    Won,
    /// Read the entry back, then decide.
    ReadBack,
}

/// What follows from the reply to a `create`.
pub fn after_create(reply: CreateReply) -> CreateStep {
    match reply {
        CreateReply::New => CreateStep::Won,
        CreateReply::Existed | CreateReply::Unclear => CreateStep::ReadBack,
    }
}

/// What follows from reading an entry back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadBackStep {
    /// The entry is ours after all.
    Won,
    /// The number is still free: create it again.
    CreateAgain,
    /// A larger generation holds the job: stop.
    Fenced,
    /// An older attempt was first: read the log and take the next number.
    NextNumber,
}

/// What follows from reading back the entry at a number `us` wanted to create.
pub fn after_read_back(found: ReadBack, us: Generation) -> ReadBackStep {
    match found {
        ReadBack::Ours => ReadBackStep::Won,
        ReadBack::Absent => ReadBackStep::CreateAgain,
        // An equal generation that is not ours can only be another's claim that won the race for it.
        ReadBack::Other(generation) if generation >= us => ReadBackStep::Fenced,
        ReadBack::Other(_) => ReadBackStep::NextNumber,
    }
}

/// Whether an entry that was created under `number` stands, given the numbers that are in the log after that.
///
/// Collection deletes old entries from the front, so a copy that hesitates between reading and creating can find a number
/// free that was taken long ago. A claim stands if nothing is behind it. A manifest may have a claim behind it already;
/// it stands if the entry it follows is still there, for then its own number was never free.
pub fn after_won(number: u64, entry: &LogEntry, listed: &[u64]) -> ReadBackStep {
    match entry {
        LogEntry::Claim(_) if listed.iter().any(|other| *other > number) => ReadBackStep::NextNumber,
        LogEntry::Manifest(_) if !listed.contains(&(number.saturating_sub(1))) => ReadBackStep::Fenced,
        LogEntry::Claim(_) | LogEntry::Manifest(_) => ReadBackStep::Won,
    }
}

/// How an attempt that has its claim begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecoveryStep {
    /// Nothing was ever published: start fresh.
    Fresh,
    /// Restore this epoch; everything published is committed.
    Restore(Epoch),
    /// Restore this epoch, and commit it first.
    CommitThenRestore(Epoch),
}

/// How an attempt begins: `restore` is the epoch to go on from, `newest` the newest published one.
pub fn recovery_step(restore: Option<Epoch>, newest: Option<Epoch>, newest_committed: bool) -> RecoveryStep {
    match (restore, newest) {
        (None, _) => RecoveryStep::Fresh,
        (Some(epoch), Some(last)) if epoch == last && !newest_committed => RecoveryStep::CommitThenRestore(epoch),
        (Some(epoch), _) => RecoveryStep::Restore(epoch),
    }
}

/// Whether going back to an older checkpoint is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoBackStep {
    /// Go on.
    Allowed,
    /// It would repeat what exactly-once sinks have delivered, and was not asked for.
    WouldRepeat,
}

/// Whether `--from-checkpoint` may go back.
pub fn go_back_step(epoch: Epoch, newest: Epoch, has_exactly_once_sink: bool, allow_repeat: bool) -> GoBackStep {
    if epoch < newest && has_exactly_once_sink && !allow_repeat { GoBackStep::WouldRepeat } else { GoBackStep::Allowed }
}

/// Whether an attempt is fenced, given the claims in the log.
pub fn is_fenced(us: Generation, log: &LogView) -> bool {
    log.claims().any(|claim| claim.generation > us)
}

#[cfg(test)]
mod tests;
