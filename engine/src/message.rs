//! What travels along an edge of the graph.
//!
//! Invariant: between two barriers the messages of one edge keep their order; a watermark holds for all rows after it.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, Int8Array, Int64Array},
    record_batch::RecordBatch,
};
use serde::{Deserialize, Serialize};

use crate::{connector::Cut, time::Watermark};

/// Number of the interval a barrier closes; only grows, over restores too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Epoch(pub u64);

/// Number of a job attempt; a larger one fences a smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Generation(pub u64);

impl Epoch {
    /// The next epoch.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// What a row of a changelog does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(i8)]
pub enum RowKind {
    /// A new row.
    Insert = 0,
    /// The old value of a row that changes.
    UpdateBefore = 1,
    /// The new value of a row that changes.
    UpdateAfter = 2,
    /// A row that goes.
    Delete = 3,
}

impl RowKind {
    /// The kind with this code, if it is one.
    pub fn from_code(code: i8) -> Option<Self> {
        match code {
            0 => Some(Self::Insert),
            1 => Some(Self::UpdateBefore),
            2 => Some(Self::UpdateAfter),
            3 => Some(Self::Delete),
            _ => None,
        }
    }
}

/// Rows with what they do; `kinds` is absent when every row is an insert.
#[derive(Debug, Clone)]
pub struct ChangeBatch {
    /// The rows.
    pub rows: RecordBatch,
    /// [`RowKind`] codes, one a row, or `None` for inserts only.
    pub kinds: Option<Int8Array>,
    /// For each row the end of the first window it takes part in, in microseconds (`i64::MIN`: all), or `None` when no row
    /// came too late for some of its windows. Kept up to the operator that assigns the windows.
    pub open_from: Option<Arc<Int64Array>>,
}

/// Bytes of the values of a batch, without what its arrays share with others.
pub fn batch_bytes(rows: &RecordBatch) -> usize {
    let of =
        |array: &ArrayRef| array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size());
    rows.columns().iter().map(of).sum()
}

impl ChangeBatch {
    /// Rows that take part in all their windows.
    pub fn new(rows: RecordBatch, kinds: Option<Int8Array>) -> Self {
        Self { rows, kinds, open_from: None }
    }

    /// Rows that are all inserts.
    pub fn inserts(rows: RecordBatch) -> Self {
        Self::new(rows, None)
    }

    /// The same rows in other columns.
    #[must_use]
    pub fn in_columns(&self, rows: RecordBatch) -> Self {
        Self { rows, kinds: self.kinds.clone(), open_from: self.open_from.clone() }
    }

    /// Whether a row takes part in a window that ends there.
    pub fn is_open(&self, row: usize, end: i64) -> bool {
        self.open_from.as_ref().is_none_or(|from| from.value(row) <= end)
    }

    /// How many rows.
    pub fn num_rows(&self) -> usize {
        self.rows.num_rows()
    }

    /// Bytes of the rows themselves: what a slice shares with other slices is not counted.
    pub fn bytes(&self) -> usize {
        batch_bytes(&self.rows)
    }

    /// The kind of row `index`; an unknown code reads as an insert.
    pub fn kind(&self, index: usize) -> RowKind {
        self.kinds.as_ref().and_then(|kinds| RowKind::from_code(kinds.value(index))).unwrap_or(RowKind::Insert)
    }
}

/// The marker that closes an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Barrier {
    /// The epoch it closes.
    pub epoch: Epoch,
    /// Whether the job ends with it.
    pub cut: Cut,
}

/// What an edge carries.
#[derive(Debug, Clone)]
pub enum Message {
    /// Rows.
    Changes(ChangeBatch),
    /// No later row is older.
    Watermark(Watermark),
    /// The cut between two epochs.
    Barrier(Barrier),
    /// Nothing follows.
    EndOfInput,
}
