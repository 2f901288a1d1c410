//! The rows one side of a join keeps, by key.
//!
//! Invariant: `kept` is the number of rows in `by_key`, and every place in it names a row of `batches`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, Int8Array, Int64Array, RecordBatch},
    datatypes::SchemaRef,
};

use crate::{
    error::Result,
    hash::key_groups,
    message::RowKind,
    operators::{
        groups::batch_of,
        join::Join,
        keys::{Key, KeyEncoder},
        lifetime::Lifetime,
    },
};

/// Batches a side has before what is kept is put together.
const BATCHES: usize = 64;

#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) batch: usize,
    pub(super) row: usize,
    pub(super) time: i64,
    /// When it came, in running time.
    pub(super) written: i64,
    pub(super) matches: usize,
}

/// Rows of one side. Batch 0 is the padding.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) batches: Vec<RecordBatch>,
    pub(super) by_key: HashMap<Key, Vec<Kept>>,
    /// Keys by event time, to find what has expired.
    pub(super) by_time: BTreeMap<i64, Vec<Key>>,
    pub(super) unsaved: Vec<RecordBatch>,
    pub(super) row_keys: KeyEncoder,
    pub(super) state: SchemaRef,
    pub(super) dead: usize,
    pub(super) kept: usize,
    /// Bytes of its batches and of what is unsaved beside them.
    pub(super) bytes: usize,
}

impl Side {
    /// Forgets the newest row that equals `whole` and had not gone at a time. The newest, because after a restart older
    /// ones may be gone already.
    pub(super) fn forget(&mut self, key: &Key, whole: &Key, (lifetime, at): (&Lifetime, i64)) -> Result<Option<Kept>> {
        let Some(rows) = self.by_key.get(key) else { return Ok(None) };
        let mut found = None;
        for (index, kept) in rows.iter().enumerate().rev().filter(|(_, kept)| !lifetime.missed(kept.written, at)) {
            let row = self.batches[kept.batch].slice(kept.row, 1);
            if self.row_keys.encode(row.columns(), 1)?.first() == Some(whole) {
                found = Some(index);
                break;
            }
        }
        let Some((index, rows)) = found.zip(self.by_key.get_mut(key)) else { return Ok(None) };
        let kept = rows.remove(index);
        if rows.is_empty() {
            self.by_key.remove(key);
        }
        self.lose(1);
        Ok(Some(kept))
    }

    /// What was written since the last snapshot; its batches are counted without it from now on.
    pub(super) fn take_unsaved(&mut self) -> Vec<RecordBatch> {
        self.bytes = self.batches.iter().map(RecordBatch::get_array_memory_size).sum();
        std::mem::take(&mut self.unsaved)
    }

    /// Counts rows that are no longer kept.
    pub(super) fn lose(&mut self, rows: usize) {
        self.dead += rows;
        self.kept = self.kept.saturating_sub(rows);
    }

    /// Forgets the rows that have been gone for so many lifetimes more.
    pub(super) fn sweep(&mut self, lifetime: &Lifetime, more: i64) {
        let before = self.kept;
        let mut kept = 0;
        self.by_key.retain(|_, rows| {
            rows.retain(|kept| !lifetime.is_over_for(more, kept.written));
            kept += rows.len();
            !rows.is_empty()
        });
        self.lose(before.saturating_sub(kept));
    }

    /// Puts the rows that are kept into one batch, once there are many batches.
    pub(super) fn put_together(&mut self) -> Result<()> {
        let kept: usize = self.by_key.values().map(Vec::len).sum();
        if self.batches.len() < BATCHES && self.dead <= kept + 1024 {
            return Ok(());
        }
        let mut places = vec![(0, 0)];
        for kept in self.by_key.values_mut().flatten() {
            places.push((kept.batch, kept.row));
            (kept.batch, kept.row) = (1, places.len() - 2);
        }
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        let rows = arrow::compute::interleave_record_batch(&batches, &places[1..])?;
        self.batches.truncate(1);
        // What is unsaved had its buffers in the batches that go.
        let unsaved = self.unsaved.iter().map(RecordBatch::get_array_memory_size).sum::<usize>();
        self.bytes = rows.get_array_memory_size() + unsaved;
        self.batches.push(rows);
        self.dead = 0;
        Ok(())
    }

    /// Every kept row as an insert of the state table.
    pub(super) fn whole(&self, join: &Join, side: usize, with_written: bool) -> Result<Vec<RecordBatch>> {
        let places: Vec<(usize, usize)> = self.by_key.values().flatten().map(|kept| (kept.batch, kept.row)).collect();
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        let rows = arrow::compute::interleave_record_batch(&batches, &places)?;
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(key_groups(&join.key_columns(side, &rows), rows.num_rows())?),
            Arc::new(Int8Array::from_value(RowKind::Insert as i8, rows.num_rows())),
        ];
        columns.extend(rows.columns().iter().cloned());
        if with_written {
            let written = self.by_key.values().flatten().map(|kept| kept.written);
            columns.push(Arc::new(Int64Array::from_iter_values(written)));
        }
        Ok(vec![batch_of(&self.state, columns, rows.num_rows())?])
    }
}
