//! Rows of a file read once more, for those that are kept aside with all their columns.
//!
//! A second reader goes through the file behind the first one, as far as rows are asked for: whatever the format, a file is
//! read at most twice, and once where no row is kept aside.
//!
//! Invariant: both readers judge a row by the same columns, so that the nth row of one is the nth of the other.

use std::{collections::VecDeque, sync::Arc};

use arrow::{
    array::{RecordBatch, UInt32Array},
    compute::{concat_batches, take_record_batch},
};
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt;
use headwater_engine::error::Result;
use parking_lot::Mutex;

use crate::lake::scan::Rejects;

/// The second reader of a file.
pub(super) struct Again {
    rows: SendableRecordBatchStream,
    rejects: Arc<Mutex<VecDeque<Rejects>>>,
    /// The batch it stands at, and the number of its first row.
    current: Option<RecordBatch>,
    first: u64,
}

impl Again {
    /// A reader at the first row, which puts rejected records there.
    pub(super) fn new(rows: SendableRecordBatchStream, rejects: Arc<Mutex<VecDeque<Rejects>>>) -> Self {
        Self { rows, rejects, current: None, first: 0 }
    }

    /// The rows with these numbers, which ascend and follow those of earlier calls; `None` if the file has no such row.
    pub(super) async fn rows(&mut self, numbers: &[u64]) -> Result<Option<RecordBatch>> {
        let mut pieces = Vec::new();
        let mut rest = numbers;
        while let Some(next) = rest.first() {
            let length = self.current.as_ref().map_or(0, RecordBatch::num_rows) as u64;
            if *next >= self.first + length {
                self.first += length;
                self.current = self.rows.try_next().await?;
                self.rejects.lock().clear();
                if self.current.is_none() {
                    return Ok(None);
                }
                continue;
            }
            let Some(batch) = self.current.as_ref().filter(|_| *next >= self.first) else { return Ok(None) };
            let here = rest.iter().take_while(|number| **number < self.first + length);
            let here = UInt32Array::from_iter_values(here.map(|number| (*number - self.first) as u32));
            rest = &rest[here.len()..];
            pieces.push(take_record_batch(batch, &here)?);
        }
        let Some(schema) = pieces.first().map(RecordBatch::schema) else { return Ok(None) };
        Ok(Some(concat_batches(&schema, &pieces)?))
    }
}
