//! Bytes to rows and back: the seam every format implements, for files and streams alike.
//!
//! Invariant: a decoder takes a batch of payloads in one contiguous buffer and accounts for each payload: it becomes
//! rows, or it becomes a [`RejectedRow`] that keeps its bytes' position and the reason.

use std::{fmt, ops::Range};

use arrow::{
    datatypes::{DataType, SchemaRef},
    record_batch::RecordBatch,
};
use bytes::Bytes;

use crate::{error::Result, message::ChangeBatch};

/// Payloads of one split, one after another in a single buffer.
#[derive(Debug, Clone, Default)]
pub struct Payloads {
    /// All bytes.
    pub buffer: Bytes,
    /// End of each payload in `buffer`, ascending; payload `i` starts where `i - 1` ends.
    pub ends: Vec<usize>,
}

impl Payloads {
    /// How many payloads.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of payload `index`.
    pub fn payload(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.buffer[start..self.ends[index]]
    }
}

/// A payload, or a part of one, that could not become a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRow {
    /// Index of the payload.
    pub payload: usize,
    /// First byte of the row in the buffer.
    pub start: usize,
    /// One past its last byte in the buffer.
    pub end: usize,
    /// Why, in words a user can act on.
    pub reason: String,
}

impl RejectedRow {
    /// A payload that is refused as a whole.
    pub fn whole(payloads: &Payloads, payload: usize, reason: impl Into<String>) -> Self {
        let start = if payload == 0 { 0 } else { payloads.ends[payload - 1] };
        Self { payload, start, end: payloads.ends[payload], reason: reason.into() }
    }
}

/// What a decoder made of a batch of payloads.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// The rows, and for changelog formats what they do.
    pub rows: ChangeBatch,
    /// For each row the index of the payload it came from; `None` when row `i` is payload `i`.
    pub payload_of_row: Option<Vec<u32>>,
    /// What could not be read.
    pub rejected: Vec<RejectedRow>,
    /// Values that became NULL because their text did not fit the column's type.
    pub values_nulled: u64,
}

/// Turns payloads into rows of one schema, a batch at a time.
pub trait Decoder: fmt::Debug + Send {
    /// Decodes all payloads; an error is a defect or a limit, never a bad row.
    fn decode(&mut self, payloads: &Payloads) -> Result<Decoded>;

    /// For each row of the last batch its place among all rows of its payload, where some are left out without a word;
    /// `None` where they come one after another.
    fn places(&self) -> Option<&[u32]> {
        None
    }

    /// For each row of the last batch the bytes of the buffer it was read from; `None` where each is all of its payload, or
    /// cannot be told from the others of it.
    fn parts(&self) -> Option<&[Range<usize>]> {
        None
    }

    /// A decoder into columns of `schema` for payloads that were decoded before: one that leaves out no row for having
    /// been there already. `None` where any decoder of the table is one.
    fn again(&self, _schema: SchemaRef) -> Result<Option<Box<dyn Decoder>>> {
        Ok(None)
    }
}

/// Turns rows into payloads, one each.
pub trait Encoder: fmt::Debug + Send {
    /// Encodes every row into its own payload.
    fn encode(&mut self, rows: &RecordBatch) -> Result<Payloads>;

    /// Encodes every change into its own payload; a format of plain rows is given inserts, or what replaces a key's row.
    fn encode_changes(&mut self, changes: &ChangeBatch) -> Result<Payloads> {
        self.encode(&changes.rows)
    }
}

/// A format by name, made with a table's options.
pub trait Format: fmt::Debug + Send + Sync {
    /// Name in `'format' = '..'`.
    fn name(&self) -> &'static str;
    /// Whether some value of a column of this type makes its payload malformed.
    fn may_refuse(&self, data_type: &DataType) -> bool {
        *data_type != DataType::Utf8
    }
    /// A decoder that yields columns of `schema`.
    fn decoder(&self, schema: SchemaRef) -> Result<Box<dyn Decoder>>;
    /// An encoder for rows of `schema`.
    fn encoder(&self, schema: SchemaRef) -> Result<Box<dyn Encoder>>;
}
