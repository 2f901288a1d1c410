//! Rows that wait until the watermark reaches the end of their window, of one input or two.
//!
//! Invariant: a window comes out once; after that it never opens again.

use std::collections::{BTreeMap, VecDeque, btree_map::OccupiedEntry};

use arrow::{
    array::{RecordBatch, UInt32Array},
    compute::take_record_batch,
};

use crate::{
    error::Result,
    message::ChangeBatch,
    operator::{Observation, Output, Progress},
    runtime::micros,
    state::{StateReader, StateWriter},
    time::Watermark,
};

/// Rows of one window, by input.
#[derive(Debug)]
pub(crate) struct WindowRows<const INPUTS: usize> {
    /// As they came.
    pub(crate) pieces: [Vec<RecordBatch>; INPUTS],
    unsaved: [usize; INPUTS],
}

/// Rows of the windows that are open.
#[derive(Debug)]
pub(crate) struct Waiting<const INPUTS: usize> {
    windows: BTreeMap<i64, WindowRows<INPUTS>>,
    watermark: Watermark,
    /// Rows of the window that came out last.
    ready: VecDeque<RecordBatch>,
    /// Bytes of all pieces.
    bytes: usize,
}

impl<const INPUTS: usize> Default for WindowRows<INPUTS> {
    fn default() -> Self {
        Self { pieces: std::array::from_fn(|_| Vec::new()), unsaved: [0; INPUTS] }
    }
}

impl<const INPUTS: usize> Default for Waiting<INPUTS> {
    fn default() -> Self {
        Self { windows: BTreeMap::new(), watermark: Watermark::MIN, ready: VecDeque::new(), bytes: 0 }
    }
}

/// Splits rows by the time in one of their columns.
fn by_time(rows: &RecordBatch, column: usize) -> Result<Vec<(i64, RecordBatch)>> {
    let times = micros(rows.column(column))?;
    let mut rows_of: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
    times.values().iter().enumerate().for_each(|(row, time)| rows_of.entry(*time).or_default().push(row as u32));
    let part = |(time, list): (i64, Vec<u32>)| Ok((time, take_record_batch(rows, &UInt32Array::from(list))?));
    rows_of.into_iter().map(part).collect()
}

impl<const INPUTS: usize> Waiting<INPUTS> {
    /// Keeps rows of an input, whose column `end` is the end of their window.
    pub(crate) fn keep(&mut self, input: usize, rows: &RecordBatch, end: usize) -> Result<()> {
        for (end, rows) in by_time(rows, end)? {
            let window = self.windows.entry(end).or_default();
            self.bytes += rows.get_array_memory_size();
            window.pieces[input].push(rows);
            window.unsaved[input] += 1;
        }
        Ok(())
    }

    /// Emits a batch of what is ready, else fires the first window that has ended.
    pub(crate) fn advance(
        &mut self,
        watermark: Watermark,
        out: &mut Output,
        fire: impl FnOnce(WindowRows<INPUTS>) -> Result<Vec<RecordBatch>>,
    ) -> Result<Progress> {
        self.watermark = self.watermark.max(watermark);
        if let Some(rows) = self.ready.pop_front() {
            out.emit(ChangeBatch::inserts(rows));
            return Ok(Progress::More);
        }
        let due = self.windows.first_entry().filter(|window| *window.key() <= watermark.0);
        let Some(window) = due.map(OccupiedEntry::remove) else { return Ok(Progress::Done) };
        self.weigh();
        self.ready.extend(fire(window)?);
        Ok(Progress::More)
    }

    /// Saves an input's rows that are new, or all of them if the state wants the whole, as `saved` makes them.
    pub(crate) fn snapshot(
        &mut self,
        input: usize,
        table: &'static str,
        state: &mut StateWriter,
        saved: impl Fn(&RecordBatch) -> Result<RecordBatch>,
    ) -> Result<()> {
        let mut batches = Vec::new();
        let mut last = i64::MIN;
        for (end, window) in &mut self.windows {
            let pieces = &window.pieces[input];
            let from = if state.wants_whole() { 0 } else { pieces.len() - window.unsaved[input] };
            for piece in &pieces[from..] {
                batches.push(saved(piece)?);
                last = *end;
            }
            window.unsaved[input] = 0;
        }
        state.write_panes(table, batches, last, self.watermark.0.saturating_add(1));
        Ok(())
    }

    /// Takes up an input's rows that were saved, of the windows that have not come out; `columns` are their own ones.
    pub(crate) fn restore(
        &mut self,
        input: usize,
        table: &str,
        state: &StateReader,
        (columns, end): (usize, usize),
    ) -> Result<()> {
        self.watermark = state.watermark();
        let columns: Vec<usize> = (1..=columns).collect();
        for batch in state.batches(table) {
            for (end, rows) in by_time(&batch.project(&columns)?, end)? {
                if end > self.watermark.0 {
                    self.windows.entry(end).or_default().pieces[input].push(rows);
                }
            }
        }
        self.weigh();
        Ok(())
    }

    /// Replaces the rows of windows that are saved, where `less` has fewer for them.
    pub(crate) fn replace(
        &mut self,
        less: impl Fn(&WindowRows<INPUTS>) -> Result<Option<[Vec<RecordBatch>; INPUTS]>>,
    ) -> Result<()> {
        for window in self.windows.values_mut() {
            if let Some(pieces) = less(window)? {
                window.pieces = pieces;
            }
        }
        self.weigh();
        Ok(())
    }

    fn pieces(&self) -> impl Iterator<Item = &RecordBatch> {
        self.windows.values().flat_map(|window| window.pieces.iter().flatten())
    }

    fn weigh(&mut self) {
        self.bytes = self.pieces().map(RecordBatch::get_array_memory_size).sum();
    }

    /// Bytes of all rows.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The end of the first window.
    pub(crate) fn first_end(&self) -> Option<i64> {
        self.windows.keys().next().copied()
    }

    /// What there is.
    pub(crate) fn observe(&self) -> Observation {
        Observation {
            state_bytes: self.bytes as u64,
            state_rows: self.pieces().map(|rows| rows.num_rows() as u64).sum(),
            spilled_bytes: 0,
            oldest_open_window: self.first_end(),
            open_windows: self.windows.len() as u64,
        }
    }
}
