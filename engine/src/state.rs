//! Operator state as tables of increments.
//!
//! A state table is a sequence of record batches. The first column of each is [`KEY_GROUP`] (`UInt16`), the rest is the
//! operator's: keys, a pane, a mergeable state or a row with what happened to it. An epoch appends an increment; once
//! there are many, the writer asks for the whole state, which replaces them. Restoring reads the increments in order,
//! whichever task wrote them, and keeps the key groups of the task that reads.
//!
//! Invariant: increments of one key are written by one task at a time and read back in the order of their epochs.

use std::{ops::Range, path::PathBuf, sync::Arc};

use arrow::{
    array::{Array, BooleanArray, RecordBatch, UInt16Array},
    compute::filter_record_batch,
    datatypes::{DataType, Field, FieldRef},
};

use crate::{
    error::{Error, Result},
    time::Watermark,
};

/// Name of the first column of every state table.
pub const KEY_GROUP: &str = "headwater_key_group";

/// The field of the key group column.
pub fn key_group_field() -> FieldRef {
    Arc::new(Field::new(KEY_GROUP, DataType::UInt16, false))
}

/// What one operator writes to one state table at a barrier.
#[derive(Debug)]
pub struct TableIncrement {
    /// Name of the table within the operator.
    pub table: &'static str,
    /// Whether this is the whole state, replacing all earlier increments of this task.
    pub whole: bool,
    /// The rows.
    pub batches: Vec<RecordBatch>,
    /// Largest pane in the rows; a file whose largest pane is below [`TableIncrement::alive_from`] is dropped.
    pub last_pane: i64,
    /// Panes below this are gone.
    pub alive_from: i64,
    /// Files on local disk that belong to the increment as they are, with their largest pane.
    pub files: Vec<(PathBuf, i64)>,
}

impl TableIncrement {
    /// Rows that live until nothing replaces them; `whole` if there are no others.
    pub fn new(table: &'static str, whole: bool, batches: Vec<RecordBatch>) -> Self {
        Self { table, whole, batches, last_pane: i64::MAX, alive_from: i64::MIN, files: Vec::new() }
    }
}

/// Collects what an operator writes at a barrier.
#[derive(Debug)]
pub struct StateWriter {
    whole: bool,
    increments: Vec<TableIncrement>,
}

impl StateWriter {
    /// A writer; `whole` asks for everything instead of the changes.
    pub fn new(whole: bool) -> Self {
        Self { whole, increments: Vec::new() }
    }

    /// Whether the operator must write its whole state.
    pub fn wants_whole(&self) -> bool {
        self.whole
    }

    /// Appends to a table: the changes, or the whole state if [`StateWriter::wants_whole`].
    pub fn write(&mut self, table: &'static str, batches: Vec<RecordBatch>) {
        self.increments.push(TableIncrement::new(table, self.whole, batches));
    }

    /// As [`StateWriter::write`], for tables whose rows die with their pane.
    pub fn write_panes(&mut self, table: &'static str, batches: Vec<RecordBatch>, last_pane: i64, alive_from: i64) {
        let files = Vec::new();
        self.increments.push(TableIncrement { table, whole: self.whole, batches, last_pane, alive_from, files });
    }

    /// Adds files of spilled state, each with its largest pane, to what was last written to a table.
    pub fn add_files(&mut self, table: &'static str, files: Vec<(PathBuf, i64)>) {
        if let Some(increment) = self.increments.iter_mut().rev().find(|increment| increment.table == table) {
            increment.files.extend(files);
        }
    }

    /// Appends files of spilled state, each with its largest pane; `whole` if they are all that is left of the table.
    pub fn write_files(&mut self, table: &'static str, whole: bool, files: Vec<(PathBuf, i64)>, alive_from: i64) {
        let increment = TableIncrement::new(table, whole, Vec::new());
        self.increments.push(TableIncrement { alive_from, files, ..increment });
    }

    /// What was written.
    pub fn into_increments(self) -> Vec<TableIncrement> {
        self.increments
    }
}

/// What an operator finds when a job restarts.
#[derive(Debug)]
pub struct StateReader {
    watermark: Watermark,
    tables: Vec<(String, Vec<RecordBatch>)>,
}

impl StateReader {
    /// A reader over tables, their batches in order, kept to some key groups; `watermark` is the operator's at the barrier.
    pub fn new(tables: Vec<(String, Vec<RecordBatch>)>, key_groups: &Range<u16>, watermark: Watermark) -> Result<Self> {
        let keep = |batches: Vec<RecordBatch>| -> Result<Vec<RecordBatch>> {
            let kept = batches.into_iter().map(|batch| keep_key_groups(batch, key_groups));
            Ok(kept.collect::<Result<Vec<_>>>()?.into_iter().filter(|batch| batch.num_rows() > 0).collect())
        };
        let tables = tables.into_iter().map(|(name, batches)| Ok((name, keep(batches)?)));
        Ok(Self { watermark, tables: tables.collect::<Result<_>>()? })
    }

    /// The watermark the operator had seen.
    pub fn watermark(&self) -> Watermark {
        self.watermark
    }

    /// The batches of a table in order; none if it was never written.
    pub fn batches(&self, table: &str) -> &[RecordBatch] {
        self.tables.iter().find(|(name, _)| name == table).map_or(&[], |(_, batches)| batches.as_slice())
    }

    /// The batches of all tables.
    pub fn into_batches(self) -> impl Iterator<Item = RecordBatch> {
        self.tables.into_iter().flat_map(|(_, batches)| batches)
    }

    /// Whether there is no state at all.
    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(|(_, batches)| batches.is_empty())
    }
}

fn keep_key_groups(batch: RecordBatch, key_groups: &Range<u16>) -> Result<RecordBatch> {
    let groups = batch.column_by_name(KEY_GROUP).and_then(|column| column.as_any().downcast_ref::<UInt16Array>());
    let groups = groups.ok_or_else(|| Error::internal(format!("state batch without its \"{KEY_GROUP}\" column")))?;
    let keep: BooleanArray = groups.values().iter().map(|group| Some(key_groups.contains(group))).collect();
    if keep.true_count() == batch.num_rows() {
        return Ok(batch);
    }
    Ok(filter_record_batch(&batch, &keep)?)
}
