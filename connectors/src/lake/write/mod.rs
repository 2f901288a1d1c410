//! Rows to files: a statement's rows are dealt to Hive partitions, encoded, rolled by size, staged, and committed as one.
//!
//! ```text
//!  plan --(hash by partition keys)--> one task per core
//!     task: deal rows to partitions -> encode -> compress -> staged file -> (roll at a size)
//!           more partitions than may be open: the rest is sorted by partition (spilling), one file at a time
//!  all tasks --> Effect{files, partitions, replaces} --> commit
//! ```
//!
//! Invariant: memory is bounded by [`Limits`], whatever the number of partitions; nothing is visible before the commit.

pub mod arranged;
pub mod compress;
pub mod encode;
pub mod files;
pub mod format;
pub mod known;
pub mod partition;
pub mod statement;

#[cfg(test)]
mod tests;

pub use format::WriteFormat;
pub use partition::Layout;
pub use statement::{Mode, WriteTarget, write_statement};

/// Bounds of a statement that writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes at which a file is closed and the next begun.
    pub file_bytes: u64,
    /// Partitions with an unfinished file, over all tasks; beyond, rows are sorted first.
    pub open_files: usize,
    /// Bytes of unfinished files and of the sort in memory, over all tasks.
    pub memory_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { file_bytes: 128 << 20, open_files: 64, memory_bytes: 192 << 20 }
    }
}
