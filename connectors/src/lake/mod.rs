//! The lake: one module reads, watches and writes directories of files, for batch scans, streams and statements alike.

pub mod commit;
pub mod hive_type;
pub mod stats;
pub mod write;
