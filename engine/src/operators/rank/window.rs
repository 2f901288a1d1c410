//! Ranks per window: rows are kept until the watermark reaches the window's end, and come out once.
//!
//! Invariant: a window that has come out never opens again.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use arrow::{
    array::{Int64Array, RecordBatch, UInt32Array},
    compute::{concat_batches, take_record_batch},
    datatypes::SchemaRef,
};

use super::{PIECES, Rank};
use crate::{
    error::Result,
    message::ChangeBatch,
    operator::{Observation, Operator, Output, Progress},
    operators::{groups::batch_of, spilling::KeyedOperator},
    runtime::micros,
    state::{StateReader, StateWriter},
    time::Watermark,
};

#[derive(Debug, Default)]
struct WindowRows {
    pieces: Vec<RecordBatch>,
    unsaved: usize,
}

#[derive(Debug)]
pub(super) struct WindowRank {
    spec: Rank,
    end: usize,
    state: SchemaRef,
    output: SchemaRef,
    windows: BTreeMap<i64, WindowRows>,
    watermark: Watermark,
    ready: VecDeque<RecordBatch>,
    /// Bytes of all pieces.
    bytes: usize,
}

/// Splits rows by the time in one of their columns.
pub(crate) fn by_time(rows: &RecordBatch, column: usize) -> Result<Vec<(i64, RecordBatch)>> {
    let times = micros(rows.column(column))?;
    let mut rows_of: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
    times.values().iter().enumerate().for_each(|(row, time)| rows_of.entry(*time).or_default().push(row as u32));
    let part = |(time, list): (i64, Vec<u32>)| Ok((time, take_record_batch(rows, &UInt32Array::from(list))?));
    rows_of.into_iter().map(part).collect()
}

impl WindowRank {
    pub(super) fn new(spec: &Rank, end: usize) -> Self {
        Self {
            end,
            state: spec.state_schema(),
            output: spec.output_schema(),
            windows: BTreeMap::new(),
            watermark: Watermark::MIN,
            ready: VecDeque::new(),
            bytes: 0,
            spec: spec.clone(),
        }
    }

    fn weigh(&mut self) {
        let pieces = self.windows.values().flat_map(|window| &window.pieces);
        self.bytes = pieces.map(RecordBatch::get_array_memory_size).sum();
    }

    fn cut_down(&self, rows: &WindowRows) -> Result<Option<(RecordBatch, Int64Array)>> {
        if rows.pieces.is_empty() {
            return Ok(None);
        }
        self.spec.best(&concat_batches(&self.spec.input, &rows.pieces)?).map(Some)
    }
}

impl Operator for WindowRank {
    fn on_changes(&mut self, _: usize, changes: ChangeBatch, _: &mut Output) -> Result<Progress> {
        for (end, rows) in by_time(&changes.rows, self.end)? {
            let window = self.windows.entry(end).or_default();
            self.bytes += rows.get_array_memory_size();
            window.pieces.push(rows);
            window.unsaved += 1;
        }
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Progress> {
        self.watermark = self.watermark.max(watermark);
        if let Some(rows) = self.ready.pop_front() {
            out.emit(ChangeBatch::inserts(rows));
            return Ok(Progress::More);
        }
        let due = self.windows.first_entry().filter(|window| *window.key() <= watermark.0);
        let Some(window) = due.map(std::collections::btree_map::OccupiedEntry::remove) else {
            return Ok(Progress::Done);
        };
        self.weigh();
        if let Some((rows, ranks)) = self.cut_down(&window)? {
            let mut columns = rows.columns().to_vec();
            if self.spec.rank_name.is_some() {
                columns.push(Arc::new(ranks));
            }
            self.ready.push_back(batch_of(&self.output, columns, rows.num_rows())?);
        }
        Ok(Progress::More)
    }

    fn snapshot(&mut self, state: &mut StateWriter) -> Result<()> {
        let mut batches = Vec::new();
        let mut last = i64::MIN;
        for (end, window) in &mut self.windows {
            let from = if state.wants_whole() { 0 } else { window.pieces.len() - window.unsaved };
            for piece in &window.pieces[from..] {
                batches.push(self.spec.with_key_groups(&self.state, piece, None)?);
                last = *end;
            }
            window.unsaved = 0;
        }
        state.write_panes("rows", batches, last, self.watermark.0.saturating_add(1));
        // What can never be among the best is dropped once it is saved.
        let many: Vec<i64> =
            self.windows.iter().filter(|(_, window)| window.pieces.len() > PIECES).map(|(end, _)| *end).collect();
        for end in many {
            let best = self.windows.get(&end).map(|window| self.cut_down(window)).transpose()?.flatten();
            if let (Some((rows, _)), Some(window)) = (best, self.windows.get_mut(&end)) {
                window.pieces = vec![rows];
            }
        }
        self.weigh();
        Ok(())
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        self.watermark = state.watermark();
        let columns: Vec<usize> = (1..=self.spec.input.fields().len()).collect();
        for batch in state.batches("rows") {
            for (end, rows) in by_time(&batch.project(&columns)?, self.end)? {
                if end > self.watermark.0 {
                    self.windows.entry(end).or_default().pieces.push(rows);
                }
            }
        }
        self.weigh();
        Ok(())
    }

    fn observe(&self) -> Observation {
        let rows: usize = self.windows.values().flat_map(|window| &window.pieces).map(RecordBatch::num_rows).sum();
        Observation {
            state_bytes: self.bytes as u64,
            state_rows: rows as u64,
            spilled_bytes: 0,
            oldest_open_window: self.windows.keys().next().copied(),
            open_windows: self.windows.len() as u64,
        }
    }
}

impl KeyedOperator for WindowRank {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn next_event(&self) -> Option<i64> {
        self.windows.keys().next().copied()
    }
}
