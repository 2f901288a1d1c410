//! What tests of the engine and of everything built on it share: a memory log and table that keep the rules to the
//! letter, a clock that moves with the work, a store that fails,
//! and a job where none runs.
//!
//! Invariant: nothing here is reachable from a running job unless a test put it there.

mod clock;
mod faulty;
mod job;
mod memory;

pub use clock::StepClock;
pub use faulty::FaultyStore;
pub use job::{Overtaken, job_context};
pub use memory::{MemoryLog, MemoryTable};
