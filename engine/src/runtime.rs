//! Running a job graph: tasks, the exchanges between them, and the coordinator that cuts epochs.
//!
//! ```text
//! job::run ── attempt ── claim, restore, build ──> source tasks ──exchange──> operator tasks ──> sink writers
//!                └── coordinator <── acks, ended splits ──┘                          │
//!                       └── barrier commands, split assignments ──> source tasks     └── acks ──> coordinator
//! ```
//!
//! Invariant: `task` has the only event loop over data; everything it decides is in `align`, `progress` and `lifecycle`,
//! which are pure.

pub mod align;
pub mod bounded;
pub mod exchange;
pub mod lifecycle;
pub mod progress;
pub mod splits;

mod aside;
mod attempt;
mod build;
mod commit;
mod coordinator;
mod effects;
mod lateness;
mod narrow;
mod overdue;
mod pipe;
mod rejections;
mod slow;
mod source_batch;
mod source_head;
mod table_run;
mod task;

pub mod job;

pub(crate) use exchange::filter_changes;
pub(crate) use narrow::evaluate_all;
pub(crate) use source_batch::micros;

#[cfg(test)]
mod tests;
