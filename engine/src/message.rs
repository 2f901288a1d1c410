//! What travels along an edge of the graph.
//!
//! Invariant: between two barriers the messages of one edge keep their order; a watermark holds for all rows after it.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayData, AsArray, Int8Array, Int64Array},
    datatypes::DataType,
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
    rows.columns().iter().map(|column| array_bytes(column.as_ref())).sum()
}

/// Bytes of an array's values; of arrays and maps those of their own elements, among which those of other rows may stand.
fn array_bytes(array: &dyn Array) -> usize {
    let of_elements = |offsets: &[i32], elements: &dyn Array| {
        let (from, to) = (offsets.first().copied().unwrap_or(0), offsets.last().copied().unwrap_or(0));
        size_of_val(offsets) + array_bytes(elements.slice(from as usize, (to - from) as usize).as_ref())
    };
    match array.data_type() {
        DataType::List(_) => of_elements(array.as_list::<i32>().value_offsets(), array.as_list::<i32>().values()),
        DataType::Map(..) => of_elements(array.as_map().value_offsets(), array.as_map().entries()),
        DataType::Struct(_) => array.as_struct().columns().iter().map(|column| array_bytes(column.as_ref())).sum(),
        _ => {
            let data = array.to_data();
            let slice = data.get_slice_memory_size().map(|bytes| bytes + viewed_bytes(&data));
            slice.unwrap_or_else(|_| array.get_array_memory_size())
        }
    }
}

/// Bytes of texts that stand beside their views, which the size of a slice leaves out.
fn viewed_bytes(data: &ArrayData) -> usize {
    match (data.data_type(), data.buffers().first()) {
        (DataType::Utf8View | DataType::BinaryView, Some(views)) => {
            let views = views.typed_data::<u128>().iter().skip(data.offset()).take(data.len());
            // The lower half of a view's first word is the length; short texts are in the view itself.
            views.map(|view| (*view as u32) as usize).filter(|length| *length > VIEW_HOLDS).sum()
        }
        _ => 0,
    }
}

/// Bytes of a text that its view holds.
const VIEW_HOLDS: usize = 12;

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

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::{
        array::{ArrayRef, ListArray, StringArray, StringViewArray, StructArray},
        buffer::OffsetBuffer,
        datatypes::Field,
    };

    #[test]
    fn texts_count_whether_or_not_they_stand_beside_their_views() {
        let texts = |range: std::ops::Range<usize>| range.map(|row| format!("{row:0>255}")).collect::<Vec<_>>();
        let bytes = |column: ArrayRef| batch_bytes(&RecordBatch::try_from_iter([("c", column)]).unwrap());
        let views: ArrayRef = Arc::new(StringViewArray::from_iter_values(texts(0..100)));
        let plain = bytes(Arc::new(StringArray::from_iter_values(texts(0..100))));
        assert_eq!((bytes(Arc::clone(&views)), plain), (100 * (16 + 255), 100 * 255 + 101 * 4));
        assert_eq!(bytes(views.slice(10, 20)), 20 * (16 + 255));
        assert_eq!(bytes(Arc::new(StringViewArray::from_iter_values(["short"; 100]))), 100 * 16);
        let field = Arc::new(Field::new_list_field(DataType::Utf8View, true));
        let lists = ListArray::new(field, OffsetBuffer::from_lengths([50, 50]), views, None);
        assert!(bytes(Arc::new(lists)) > 100 * (16 + 255));
    }

    #[test]
    fn a_part_of_a_list_counts_its_own_elements() {
        let field = Arc::new(Field::new_list_field(DataType::Int64, true));
        let elements = Arc::new(Int64Array::from_iter_values(0..1000));
        let lists = ListArray::new(field, OffsetBuffer::from_lengths([10; 100]), elements, None);
        let nested = StructArray::from(vec![(
            Arc::new(Field::new("l", lists.data_type().clone(), true)),
            Arc::new(lists) as ArrayRef,
        )]);
        let bytes = |array: ArrayRef| batch_bytes(&RecordBatch::try_from_iter([("c", array)]).unwrap());
        let whole: ArrayRef = Arc::new(nested);
        let parts: usize = (0..100).map(|row| bytes(whole.slice(row, 1))).sum();
        assert_eq!((bytes(Arc::clone(&whole)), parts), (1000 * 8 + 101 * 4, 1000 * 8 + 100 * 2 * 4));
    }
}
