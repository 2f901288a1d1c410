//! The half behind the exchange: panes of increments and live groups, windows that fire, state that spills.
//!
//! Invariant: what no checkpoint holds yet is in the last `unsaved` increments, in files that are not `saved`, or live.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array},
    compute::take_record_batch,
    datatypes::{Int64Type, Schema, SchemaRef},
};
use futures::future::BoxFuture;

use crate::{
    error::{Error, Result},
    hash::key_groups,
    memory::MemoryLease,
    message::ChangeBatch,
    operator::{Observation, Operator, OperatorContext, Output, Progress},
    operators::{
        groups::{Groups, batch_of},
        window_aggregate::{
            FROM_FIRST, WindowAggregate, Windows,
            spill::{self, BUCKETS, Spilled},
        },
    },
    state::{StateReader, StateWriter, key_group_field},
    time::{Instant, Watermark},
    window::Window,
};

/// Increments a pane may have before they are merged into one.
const INCREMENTS_PER_PANE: usize = 8;

/// Rows of a batch that leaves a fired window.
const BATCH_ROWS: usize = 8192;

/// A pane: its increments, and what came since the last barrier.
#[derive(Debug, Default)]
struct Pane {
    increments: Vec<RecordBatch>,
    spilled: Vec<Spilled>,
    /// How many of the last increments no checkpoint holds yet.
    unsaved: usize,
    live: Option<Groups>,
}

/// A window that fires a bucket at a time, because some of its state is on disk.
#[derive(Debug)]
struct Bucketed {
    window: Window,
    bucket: usize,
    loaded: Option<Vec<RecordBatch>>,
}

#[derive(Debug)]
pub(super) struct Final {
    spec: WindowAggregate,
    output: SchemaRef,
    state: SchemaRef,
    panes: BTreeMap<(i64, i64), Pane>,
    watermark: Watermark,
    firing: VecDeque<Window>,
    ready: VecDeque<RecordBatch>,
    /// Windows within the allowed lateness that changed after they fired.
    dirty: BTreeSet<Window>,
    bucketed: Option<Bucketed>,
    spill_due: bool,
    folder: Arc<Path>,
    files: u64,
    spilled_bytes: u64,
    garbage: Vec<PathBuf>,
    lease: MemoryLease,
}

impl Final {
    pub(super) fn new(
        spec: WindowAggregate,
        partial: &SchemaRef,
        output: SchemaRef,
        context: &OperatorContext,
    ) -> Self {
        let mut fields = vec![key_group_field()];
        fields.extend(partial.fields().iter().cloned());
        Self {
            spec,
            output,
            state: Arc::new(Schema::new(fields)),
            panes: BTreeMap::new(),
            watermark: Watermark::MIN,
            firing: VecDeque::new(),
            ready: VecDeque::new(),
            dirty: BTreeSet::new(),
            bucketed: None,
            spill_due: false,
            folder: Arc::from(context.spill.as_path()),
            files: 0,
            spilled_bytes: 0,
            garbage: Vec::new(),
            lease: context.memory.lease(),
        }
    }

    fn windows_of(&self, pane: (i64, i64)) -> Vec<Window> {
        match self.spec.windows {
            Windows::Assign { spec, .. } => {
                let mut windows = spec.windows_of_pane(pane.0);
                windows.retain(|window| pane.1 == FROM_FIRST || window.end >= pane.1);
                windows
            }
            Windows::Attached { .. } => vec![Window { start: pane.0, end: pane.1 }],
        }
    }

    fn last_end(&self, pane: (i64, i64)) -> i64 {
        match self.spec.windows {
            Windows::Assign { spec, .. } => spec.last_end(pane.0),
            Windows::Attached { .. } => pane.1,
        }
    }

    fn take_rows(&mut self, pane: (i64, i64), rows: &RecordBatch) -> Result<()> {
        if self.spec.allowed > 0 {
            let late = self.windows_of(pane).into_iter().filter(|window| window.end <= self.watermark.0);
            self.dirty.extend(late.collect::<Vec<_>>());
        }
        let (prefix, keys) = (self.spec.prefix(), self.spec.grouping.keys.len());
        let entry = self.panes.entry(pane).or_default();
        let groups = match &mut entry.live {
            Some(groups) => groups,
            None => entry.live.insert(Groups::new(Arc::clone(&self.spec.grouping))?),
        };
        let columns = rows.columns();
        groups.merge(&columns[prefix..prefix + keys], &columns[prefix + keys..], rows.num_rows())
    }

    /// Turns the live groups of a pane into an increment.
    fn settle(&mut self, pane: (i64, i64)) -> Result<()> {
        let (state, prefix) = (Arc::clone(&self.state), self.spec.prefix());
        let Some(entry) = self.panes.get_mut(&pane) else { return Ok(()) };
        let Some(mut groups) = entry.live.take() else { return Ok(()) };
        if let Some(batch) = increment(&state, prefix, pane, &mut groups)? {
            entry.increments.push(batch);
            entry.unsaved += 1;
        }
        Ok(())
    }

    /// What no checkpoint holds yet of a pane; after this it counts as saved.
    fn save(&mut self, pane: (i64, i64)) -> Result<Vec<RecordBatch>> {
        self.settle(pane)?;
        let (state, prefix) = (Arc::clone(&self.state), self.spec.prefix());
        let Some(entry) = self.panes.get_mut(&pane) else { return Ok(Vec::new()) };
        let saved = entry.increments.len() - std::mem::take(&mut entry.unsaved);
        let new = entry.increments[saved..].to_vec();
        if entry.increments.len() > INCREMENTS_PER_PANE {
            let mut merged = Groups::new(Arc::clone(&self.spec.grouping))?;
            merge_increments(&mut merged, &entry.increments, prefix, self.spec.grouping.keys.len())?;
            entry.increments = increment(&state, prefix, pane, &mut merged)?.into_iter().collect();
        }
        Ok(new)
    }

    /// Queues the windows that end in `(from, to]` and have rows.
    fn queue(&mut self, from: Watermark, to: Watermark) {
        let windows = self.panes.keys().flat_map(|pane| self.windows_of(*pane));
        let mut due: BTreeSet<(i64, i64)> = windows
            .filter(|window| window.end <= to.0 && (window.end > from.0 || self.dirty.contains(window)))
            .map(|window| (window.end, window.start))
            .collect();
        let dirty = std::mem::take(&mut self.dirty);
        due.extend(dirty.into_iter().map(|window| (window.end, window.start)));
        self.firing.extend(due.into_iter().map(|(end, start)| Window { start, end }));
    }

    fn panes_of(&self, window: Window) -> Vec<(i64, i64)> {
        self.panes.keys().copied().filter(|pane| self.windows_of(*pane).contains(&window)).collect()
    }

    /// Fires a window at once, or begins to fire it a bucket at a time.
    fn begin(&mut self, window: Window) -> Result<()> {
        let panes = self.panes_of(window);
        if panes.iter().filter_map(|pane| self.panes.get(pane)).all(|pane| pane.spilled.is_empty()) {
            return self.fire(window);
        }
        panes.into_iter().try_for_each(|pane| self.settle(pane))?;
        self.bucketed = Some(Bucketed { window, bucket: 0, loaded: None });
        Ok(())
    }

    /// Fires the bucket that was read back; whether there was one.
    fn fire_bucket(&mut self) -> Result<bool> {
        let Some(Bucketed { window, bucket, loaded }) = &mut self.bucketed else { return Ok(false) };
        let (window, bucket) = (*window, *bucket);
        let loaded = loaded.take().ok_or_else(|| Error::internal("a bucket fires before it was read back"))?;
        self.bucketed = None;
        let mut groups = Groups::new(Arc::clone(&self.spec.grouping))?;
        let (prefix, keys) = (self.spec.prefix(), self.spec.grouping.keys.len());
        merge_increments(&mut groups, &loaded, prefix, keys)?;
        for pane in self.panes_of(window) {
            let Some(entry) = self.panes.get(&pane) else { continue };
            merge_increments(&mut groups, &spill::of_bucket(&entry.increments, bucket)?, prefix, keys)?;
        }
        self.evaluate(window, &mut groups)?;
        if bucket + 1 < BUCKETS {
            self.bucketed = Some(Bucketed { window, bucket: bucket + 1, loaded: None });
        }
        Ok(true)
    }

    /// Reads back what the bucket in turn has on disk.
    async fn load_bucket(&mut self) -> Result<()> {
        let Some(Bucketed { window, bucket, loaded: None }) = &self.bucketed else { return Ok(()) };
        let panes = self.panes_of(*window);
        let spilled = panes.iter().filter_map(|pane| self.panes.get(pane)).flat_map(|pane| &pane.spilled);
        let read = spill::read(spilled.map(|file| file.path.clone()).collect(), *bucket).await?;
        if let Some(bucketed) = &mut self.bucketed {
            bucketed.loaded = Some(read);
        }
        Ok(())
    }

    /// Moves every increment to local disk.
    async fn spill(&mut self) -> Result<()> {
        self.spill_due = false;
        for pane in self.panes.keys().copied().collect::<Vec<_>>() {
            self.settle(pane)?;
            let Some(entry) = self.panes.get_mut(&pane) else { continue };
            let saved = entry.increments.len() - std::mem::take(&mut entry.unsaved);
            let unsaved = entry.increments.split_off(saved);
            let parts = [(std::mem::take(&mut entry.increments), true), (unsaved, false)];
            for (batches, saved) in parts.into_iter().filter(|(batches, _)| !batches.is_empty()) {
                let path = spill::next_path(&self.folder, &mut self.files);
                let bytes = spill::write(Arc::clone(&self.state), batches, path.clone()).await?;
                self.spilled_bytes += bytes;
                if let Some(entry) = self.panes.get_mut(&pane) {
                    entry.spilled.push(Spilled { path, saved });
                }
            }
        }
        self.weigh();
        Ok(())
    }

    async fn tidy(&mut self) -> Result<()> {
        if !self.garbage.is_empty() {
            spill::remove(std::mem::take(&mut self.garbage)).await?;
        }
        if self.spill_due {
            self.spill().await?;
        }
        self.load_bucket().await
    }

    /// Tells the budget what is held in memory, and whether that should change.
    fn weigh(&mut self) {
        let live: usize = self.panes.values().filter_map(|pane| pane.live.as_ref()).map(Groups::size).sum();
        let kept = self.panes.values().flat_map(|pane| &pane.increments).map(RecordBatch::get_array_memory_size);
        self.lease.resize(live + kept.sum::<usize>());
        let budget = self.lease.budget();
        self.spill_due = budget.is_over() && self.lease.bytes() > budget.spills_from();
    }

    fn fire(&mut self, window: Window) -> Result<()> {
        let mut groups = Groups::new(Arc::clone(&self.spec.grouping))?;
        let (prefix, keys) = (self.spec.prefix(), self.spec.grouping.keys.len());
        for pane in self.panes_of(window) {
            let only = self.last_end(pane) == window.end && self.spec.allowed == 0;
            let Some(entry) = self.panes.get_mut(&pane) else { continue };
            match entry.live.take() {
                // Nobody needs this pane after this window: its live groups serve as they are.
                Some(live) if only && groups.is_empty() => groups = live,
                Some(live) => {
                    entry.live = Some(live);
                    self.settle(pane)?;
                }
                None => {}
            }
            if let Some(entry) = self.panes.get(&pane) {
                merge_increments(&mut groups, &entry.increments, prefix, keys)?;
            }
        }
        self.evaluate(window, &mut groups)
    }

    fn evaluate(&mut self, window: Window, groups: &mut Groups) -> Result<()> {
        let (keys, values, rows) = groups.evaluate()?;
        if rows == 0 {
            return Ok(());
        }
        let mut columns = keys;
        columns.push(self.spec.window_column(window.start, rows)?);
        columns.push(self.spec.window_column(window.end, rows)?);
        columns.extend(values);
        self.ready.push_back(batch_of(&self.output, columns, rows)?);
        Ok(())
    }

    fn drop_closed(&mut self) {
        let (watermark, allowed) = (self.watermark.0, self.spec.allowed);
        let closed: Vec<(i64, i64)> = self
            .panes
            .keys()
            .copied()
            .filter(|pane| self.last_end(*pane).saturating_add(allowed) <= watermark)
            .collect();
        for pane in closed {
            let spilled = self.panes.remove(&pane).map(|pane| pane.spilled).unwrap_or_default();
            self.garbage.extend(spilled.into_iter().map(|file| file.path));
        }
        self.weigh();
    }

    /// Emits a bounded piece of what is ready; whether there is more.
    fn emit_ready(&mut self, out: &mut Output) -> bool {
        let Some(batch) = self.ready.pop_front() else { return false };
        let piece = batch.slice(0, batch.num_rows().min(BATCH_ROWS));
        if piece.num_rows() < batch.num_rows() {
            self.ready.push_front(batch.slice(BATCH_ROWS, batch.num_rows() - BATCH_ROWS));
        }
        let kinds = (self.spec.allowed > 0)
            .then(|| arrow::array::Int8Array::from_value(crate::message::RowKind::UpdateAfter as i8, piece.num_rows()));
        out.emit(ChangeBatch::new(piece, kinds));
        true
    }
}

/// Drains groups into a batch of the state table.
fn increment(state: &SchemaRef, prefix: usize, pane: (i64, i64), groups: &mut Groups) -> Result<Option<RecordBatch>> {
    let (keys, states, rows) = groups.drain()?;
    if rows == 0 {
        return Ok(None);
    }
    let mut columns: Vec<ArrayRef> = vec![Arc::new(key_groups(&keys, rows)?)];
    columns.push(Arc::new(Int64Array::from_value(pane.0, rows)));
    if prefix == 2 {
        columns.push(Arc::new(Int64Array::from_value(pane.1, rows)));
    }
    columns.extend(keys);
    columns.extend(states);
    batch_of(state, columns, rows).map(Some)
}

fn merge_increments(groups: &mut Groups, increments: &[RecordBatch], prefix: usize, keys: usize) -> Result<()> {
    for batch in increments {
        let columns = &batch.columns()[1 + prefix..];
        groups.merge(&columns[..keys], &columns[keys..], batch.num_rows())?;
    }
    Ok(())
}

/// Splits rows by their pane columns, which are the first `prefix` after `skip`.
fn by_pane(rows: &RecordBatch, skip: usize, prefix: usize) -> Result<Vec<((i64, i64), RecordBatch)>> {
    let column = |index: usize| {
        let column = rows.column(index).as_primitive_opt::<Int64Type>();
        column.ok_or_else(|| Error::internal("partial rows without their pane"))
    };
    let first = column(skip)?;
    let second = if prefix == 2 { Some(column(skip + 1)?) } else { None };
    let pane = |row: usize| (first.value(row), second.map_or(FROM_FIRST, |second| second.value(row)));
    let mut rows_of: BTreeMap<(i64, i64), Vec<u32>> = BTreeMap::new();
    let mut start = 0;
    while start < rows.num_rows() {
        let own = pane(start);
        let end = (start + 1..rows.num_rows()).find(|row| pane(*row) != own).unwrap_or(rows.num_rows());
        rows_of.entry(own).or_default().extend(start as u32..end as u32);
        start = end;
    }
    if rows_of.len() == 1 {
        return Ok(rows_of.into_keys().map(|pane| (pane, rows.clone())).collect());
    }
    let parts = rows_of.into_iter().map(|(pane, list)| Ok((pane, take_record_batch(rows, &UInt32Array::from(list))?)));
    parts.collect()
}

impl Operator for Final {
    fn on_changes(&mut self, _: usize, changes: ChangeBatch, _: &mut Output) -> Result<Progress> {
        for (pane, rows) in by_pane(&changes.rows, 0, self.spec.prefix())? {
            self.take_rows(pane, &rows)?;
        }
        self.weigh();
        Ok(Progress::Done)
    }

    fn between_calls<'a>(&'a mut self, _: Instant) -> Option<BoxFuture<'a, Result<()>>> {
        let waits = matches!(self.bucketed, Some(Bucketed { loaded: None, .. }));
        let busy = waits || self.spill_due || !self.garbage.is_empty();
        if busy { Some(Box::pin(self.tidy())) } else { None }
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Progress> {
        if watermark > self.watermark {
            let before = std::mem::replace(&mut self.watermark, watermark);
            self.queue(before, watermark);
        }
        if self.emit_ready(out) {
            return Ok(Progress::More);
        }
        if self.fire_bucket()? {
            return Ok(Progress::More);
        }
        if let Some(window) = self.firing.pop_front() {
            self.begin(window)?;
            return Ok(Progress::More);
        }
        self.drop_closed();
        Ok(Progress::Done)
    }

    fn on_time(&mut self, _: Instant, out: &mut Output) -> Result<Progress> {
        if self.bucketed.is_none() && self.firing.is_empty() && self.ready.is_empty() && !self.dirty.is_empty() {
            self.queue(self.watermark, self.watermark);
        }
        if self.emit_ready(out) {
            return Ok(Progress::More);
        }
        if self.fire_bucket()? {
            return Ok(Progress::More);
        }
        if let Some(window) = self.firing.pop_front() {
            self.begin(window)?;
            return Ok(Progress::More);
        }
        Ok(Progress::Done)
    }

    fn on_barrier(&mut self, out: &mut Output) -> Result<Progress> {
        // What was changed by accepted late rows goes out with the epoch that holds those rows.
        self.on_time(Instant(0), out)
    }

    fn snapshot(&mut self, state: &mut StateWriter) -> Result<()> {
        let mut batches = Vec::new();
        let mut last = i64::MIN;
        let mut paths = Vec::new();
        let panes: Vec<(i64, i64)> = self.panes.keys().copied().collect();
        for pane in panes {
            let new = self.save(pane)?;
            let end = self.last_end(pane);
            let kept = self.panes.get(&pane).map(|pane| pane.increments.clone()).unwrap_or_default();
            for file in self.panes.get_mut(&pane).into_iter().flat_map(|pane| &mut pane.spilled) {
                if state.wants_whole() || !file.saved {
                    paths.push((file.path.clone(), end));
                }
                file.saved = true;
            }
            let written = if state.wants_whole() { kept } else { new };
            if !written.is_empty() {
                last = last.max(end);
                batches.extend(written);
            }
        }
        // A file is needed while its last window may still fire.
        let alive_from = self.watermark.0.saturating_sub(self.spec.allowed).saturating_add(1);
        state.write_panes("panes", batches, last, alive_from);
        state.add_files("panes", paths);
        Ok(())
    }

    fn restore_part(&mut self, state: &StateReader) -> Result<bool> {
        self.restore(state)?;
        Ok(true)
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        self.watermark = state.watermark();
        let prefix = self.spec.prefix();
        for batch in state.batches("panes") {
            for (pane, rows) in by_pane(batch, 1, prefix)? {
                if self.last_end(pane).saturating_add(self.spec.allowed) > self.watermark.0 {
                    self.panes.entry(pane).or_default().increments.push(rows);
                }
            }
        }
        self.weigh();
        Ok(())
    }

    fn observe(&self) -> Observation {
        let live: usize = self.panes.values().filter_map(|pane| pane.live.as_ref()).map(Groups::len).sum();
        let kept: usize = self.panes.values().flat_map(|pane| &pane.increments).map(RecordBatch::num_rows).sum();
        let ends = self.panes.keys().flat_map(|pane| self.windows_of(*pane)).map(|window| window.end);
        let open: BTreeSet<i64> = ends.filter(|end| *end > self.watermark.0).collect();
        Observation {
            state_bytes: self.lease.bytes() as u64,
            state_rows: (live + kept) as u64,
            spilled_bytes: self.spilled_bytes,
            oldest_open_window: open.first().copied(),
            open_windows: open.len() as u64,
        }
    }
}
