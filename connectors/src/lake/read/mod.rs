//! Files to rows: what every reader of a lake file shares.
//!
//! ```text
//!  units of a partition -> ranges, several ahead -> inflate -> RowReader -> policy -> batches with constant columns
//! ```
//!
//! Invariant: a reader accounts for each record of its file: a row, a rejected text with its offset and line, or
//! nothing but blanks.

use bytes::Bytes;
use headwater_engine::error::Result;

pub use crate::formats::json::{FileRows, RejectedText};

pub(crate) mod delimited;
mod fetch;
mod inflate;
pub(super) mod json;
pub(super) mod output;
pub(super) mod parquet;
pub(crate) mod record;
pub(super) mod required;
pub(super) mod text;

/// Reads the inflated bytes of one file: feed it, take batches.
pub trait RowReader: Send {
    /// Says where in the file the first byte fed stands, for a part of a file.
    fn starts_at(&mut self, offset: u64, line: u64);
    /// Says what the file of a part begins with, where that says how its records are read.
    fn follows(&mut self, _file_start: &[u8]) {}
    /// Says of each batch where its rows start.
    fn keep_starts(&mut self);
    /// Adds the next bytes.
    fn feed(&mut self, bytes: Bytes);
    /// Says that there are no more.
    fn finish_input(&mut self);
    /// The next batch; `None` when more bytes are needed, or at the end once the input is finished.
    fn next_rows(&mut self) -> Result<Option<FileRows>>;
}
