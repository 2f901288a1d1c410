//! How a statement that writes many files happens as one: the commit protocol.
//!
//! Everything a statement knows about itself lies under `_headwater/` in the folder of its table, where no reader looks
//! for data. One record, created if absent, decides; what follows can be repeated by anyone.
//!
//! ```text
//!  <id>.begin     owner and heartbeat             created first, deleted last
//!  staging/<id>/  files nobody sees               (object stores also: uploads that are not completed)
//!  <id>.decision  commit{files, replaces, ..}     created if absent: THE commit; or abort, by whoever finds a dead owner
//!  <table>/..     register, then publish each     rename | copy | complete the upload; repeating is a no-op
//!  <id>.unregistered   if who finishes it has another catalog: what its own one still has to register
//!  <id>.done      readers of ours switch here     from all of the old state to all of the new
//!                 replaced files, staging, begin  deleted; decision and done stay for a while (`RETENTION_MS`)
//! ```
//!
//! What a crash leaves, and what whoever comes next does with it ([`protocol::next_step`] is this table):
//!
//! | begin | decision | done | owner | step |
//! |---|---|---|---|---|
//! | yes | none | no | alive | leave it |
//! | yes | none | no | dead | decide abort, then as below |
//! | yes | abort | no | any | roll back: delete what was staged, abort uploads, delete begin |
//! | yes | commit | no | alive | leave it |
//! | yes | commit | no | dead | finish: register, publish, done, then clean |
//! | yes | commit | yes | alive | leave it |
//! | yes | commit | yes | dead | clean: delete what was replaced and what is staged, delete begin |
//! | no | abort or commit | any | | collect after its retention |
//! | no | none | yes | | collect |
//!
//! An owner that fails rolls itself back in the same way, and then deletes what would stay for it alone
//! ([`protocol::after_own_roll_back`] is this table):
//!
//! | decision asked for | begin | table | deletes also |
//! |---|---|---|---|
//! | yes | any | any | nothing: its commit may be under way still, and an abort keeps it out |
//! | no | there, or not known | not known to be dropped | nothing |
//! | no | gone | not known to be dropped | the abort of whoever took it away |
//! | no | any | dropped | that abort, and its claims, which nobody looks at again |
//!
//! Whether an owner is dead is a guess (its process is gone, or its heartbeat is older than the lease). A wrong guess
//! never loses or doubles a row: the decision is created once, and an owner that finds an abort fails its statement.
//!
//! Invariant: outside `_headwater/` no file of a statement exists before its decision is `commit`; our readers see all
//! files of a statement and none it replaced, or the other way round ([`visible::resolve`]).

mod claim;
pub mod discard;
pub mod owner;
pub mod place;
pub mod protocol;
pub mod record;
pub mod recovery;
pub mod registrar;
mod rollback;
pub mod site;
pub mod statement;
pub mod transaction;
pub mod visible;

pub use place::{Place, StagedWriter};
pub use record::{Decision, Effect, Partitions, StagedFile};
pub use recovery::recover;
pub use registrar::CatalogRegistrar;
pub use statement::{StatementId, StatementKind};
pub use transaction::{Ending, Registrar, Transaction};
pub use visible::{Records, Resolved, resolve};

/// Folder of the protocol within a table's folder; readers skip names that start with `_`.
pub const FOLDER: &str = "_headwater";

/// How long the records of a finished statement stay, so that a listing that takes long still knows of it.
pub const RETENTION_MS: i64 = 3_600_000;

/// How long an abort stays, so that its owner finds it when it wakes up.
pub const ABORT_RETENTION_MS: i64 = 7 * 24 * 3_600_000;

/// How old a heartbeat may be before its owner counts as dead.
pub const LEASE_MS: i64 = 300_000;

/// How often a table that is replaced meanwhile is listed before its reader gives up.
pub const LISTINGS_MAX: usize = 10;

/// How often an owner renews its heartbeat.
pub const HEARTBEAT_MS: u64 = 20_000;

#[cfg(test)]
mod tests;
