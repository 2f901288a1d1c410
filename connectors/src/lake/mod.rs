//! The lake: one module reads, watches and writes directories of files, for batch scans, streams and statements alike.
//!
//! ```text
//!  location --stores--> place --listing, layout, pruning--> files --scan--> units --read--> rows
//! ```
//!
//! Invariant: nothing here knows SQL text; a statement's counters come in with its session configuration.

pub mod commit;
pub mod compression;
pub mod counting;
pub mod filesystem;
pub mod format;
pub mod hive_type;
pub mod layout;
pub mod listing;
pub mod projection;
pub mod provider;
pub mod pruning;
pub mod read;
mod s3;
pub mod sample;
pub mod scan;
pub mod stats;
pub mod stores;
pub mod write;
