//! The only memory of a job's progress: a log of claims and manifests, and the files manifests name.
//!
//! ```text
//! <job>/log/00000000000000000007      claim or manifest, created if absent
//! <job>/commits/00000000000000000003  marker: every sink has committed epoch 3
//! <job>/state/..                      increments of operator state
//! <job>/outbox/..                     rows of exactly-once sinks awaiting their commit
//! <job>/accounts/..                   segments of "t$rejected" and "t$late"
//! <job>/stop/..                      requests that an attempt stops
//! <job>/savepoints/<name>             copies of manifests that retention leaves alone
//! ```
//!
//! Invariant: a file under `state`, `outbox` and `accounts` is written before the manifest that names it, and its name
//! carries the generation that wrote it.

pub mod files;
pub mod gc;
pub mod log;
pub mod manifest;
pub mod paths;
pub mod protocol;
pub mod store;
