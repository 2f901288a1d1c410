//! Aggregation per key and window, in two halves: partial states per pane before the exchange, windows after it.
//!
//! ```text
//! rows ──partial──> (pane, keys.., states..) ──hash(keys)──> final: panes ──watermark reaches a window's end──> rows
//! ```
//!
//! A pane holds *increments* (batches of partial states, as they are written to checkpoints) and *live* groups since the
//! last barrier. At a barrier the live groups become an increment; a window that fires merges the increments and live
//! groups of its panes into fresh groups and evaluates those. Increments are merged into one when there are many.
//!
//! Invariant: a row is in exactly one pane, and a pane is dropped once the last window that contains it has fired.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array},
    compute::{cast, take_record_batch},
    datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef, TimeUnit},
};

use crate::{
    connector::ChangelogMode,
    error::{Error, Result},
    hash::key_groups,
    memory::MemoryLease,
    message::ChangeBatch,
    operator::{Observation, Operator, OperatorContext, OperatorFactory, OperatorRef, Output, Progress},
    operators::{
        groups::{Grouping, Groups, batch_of},
        session,
    },
    runtime::micros,
    state::{StateReader, StateWriter, key_group_field},
    time::{Instant, Watermark},
    window::{Window, WindowSpec},
};

/// Name of the pane column between the two halves.
pub const PANE: &str = "headwater_pane";

/// Increments a pane may have before they are merged into one.
const INCREMENTS_PER_PANE: usize = 8;

/// Rows of a batch that leaves a fired window.
const BATCH_ROWS: usize = 8192;

/// Groups the first half keeps before it hands them on.
const PARTIAL_GROUPS: usize = 65_536;

/// An aggregation over windows. `partial` runs before the exchange, `finish` behind it.
#[derive(Debug, Clone)]
pub struct WindowAggregate {
    windows: Windows,
    grouping: Arc<Grouping>,
    /// Type of `window_start` and `window_end`.
    time_type: DataType,
    allowed: i64,
}

/// Which windows a row belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windows {
    /// Those of a window function over this event time column.
    Assign {
        /// The windows.
        spec: WindowSpec,
        /// Index of the event time column in the input.
        time: usize,
    },
    /// The one the row carries (a window over a window): indexes of its `window_start` and `window_end` columns.
    Attached {
        /// Index of `window_start`.
        start: usize,
        /// Index of `window_end`.
        end: usize,
    },
}

impl WindowAggregate {
    /// An aggregation; `time_type` is the type of the window columns, `allowed` the allowed lateness in microseconds.
    pub fn new(windows: Windows, grouping: Grouping, time_type: DataType, allowed: i64) -> Result<Self> {
        if let Windows::Assign { spec, .. } = windows {
            spec.validate()?;
        }
        if !matches!(time_type, DataType::Timestamp(_, _)) {
            return Err(Error::internal(format!("window columns must be timestamps, not {time_type}")));
        }
        Ok(Self { windows, grouping: Arc::new(grouping), time_type, allowed })
    }

    /// The half before the exchange; without state.
    pub fn partial(&self) -> Result<OperatorRef> {
        Ok(Arc::new(PartialFactory { spec: self.clone(), schema: self.partial_schema()? }))
    }

    /// The half behind the exchange.
    pub fn finish(&self) -> Result<OperatorRef> {
        Ok(Arc::new(FinalFactory { spec: self.clone(), schema: self.output_schema() }))
    }

    /// The columns of the partial rows that make up the key, for the exchange.
    pub fn exchange_keys(&self) -> Vec<usize> {
        let first = self.prefix();
        (first..first + self.grouping.keys.len()).collect()
    }

    /// Columns before the keys in partial rows: the pane, or start and end.
    pub(crate) fn prefix(&self) -> usize {
        if self.is_session() || matches!(self.windows, Windows::Attached { .. }) { 2 } else { 1 }
    }

    pub(crate) fn is_session(&self) -> bool {
        matches!(self.windows, Windows::Assign { spec: WindowSpec::Session { .. }, .. })
    }

    pub(crate) fn windows(&self) -> Windows {
        self.windows
    }

    pub(crate) fn grouping(&self) -> &Arc<Grouping> {
        &self.grouping
    }

    /// `[pane | start, end]`, keys, states.
    pub(crate) fn partial_schema(&self) -> Result<SchemaRef> {
        let int = |name: &str| Arc::new(Field::new(name, DataType::Int64, false));
        let mut fields: Vec<FieldRef> = match self.prefix() {
            1 => vec![int(PANE)],
            _ => vec![int("headwater_start"), int("headwater_end")],
        };
        fields.extend(self.grouping.key_fields());
        fields.extend(self.grouping.state_fields()?);
        Ok(Arc::new(Schema::new(fields)))
    }

    /// Keys, `window_start`, `window_end`, values.
    pub fn output_schema(&self) -> SchemaRef {
        let mut fields = self.grouping.key_fields();
        fields.push(Arc::new(Field::new("window_start", self.time_type.clone(), false)));
        fields.push(Arc::new(Field::new("window_end", self.time_type.clone(), false)));
        fields.extend(self.grouping.value_fields());
        Arc::new(Schema::new(fields))
    }

    pub(crate) fn window_column(&self, micros: i64, rows: usize) -> Result<ArrayRef> {
        self.window_columns(Int64Array::from_value(micros, rows))
    }

    pub(crate) fn window_columns(&self, micros: Int64Array) -> Result<ArrayRef> {
        let DataType::Timestamp(_, zone) = &self.time_type else {
            return Err(Error::internal("window columns must be timestamps"));
        };
        let exact = cast(&micros, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
        Ok(cast(&exact, &self.time_type)?)
    }

    fn describe(&self) -> String {
        let windows = match self.windows {
            Windows::Assign { spec, .. } => format!("{spec:?}"),
            Windows::Attached { .. } => "attached".to_owned(),
        };
        format!("{windows} {}", self.grouping.fingerprint())
    }
}

/// The pane of each row: its start, or for attached windows start and end.
fn panes(windows: Windows, rows: &RecordBatch) -> Result<Vec<(i64, i64)>> {
    match windows {
        Windows::Assign { spec, time } => {
            let times = micros(rows.column(time))?;
            Ok(times.values().iter().map(|time| (spec.pane_of(*time), 0)).collect())
        }
        Windows::Attached { start, end } => {
            let (starts, ends) = (micros(rows.column(start))?, micros(rows.column(end))?);
            Ok(starts.values().iter().copied().zip(ends.values().iter().copied()).collect())
        }
    }
}

#[derive(Debug)]
struct PartialFactory {
    spec: WindowAggregate,
    schema: SchemaRef,
}

impl OperatorFactory for PartialFactory {
    fn name(&self) -> &'static str {
        "window-aggregate-partial"
    }

    fn describe(&self) -> String {
        self.spec.describe()
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn output(&self, inputs: &[ChangelogMode]) -> Result<ChangelogMode> {
        append_only(inputs)
    }

    fn fingerprint(&self) -> Option<String> {
        None
    }

    fn create(&self, _: &OperatorContext) -> Result<Box<dyn Operator>> {
        if self.spec.is_session() {
            return Ok(Box::new(session::Partial::new(self.spec.clone(), Arc::clone(&self.schema))));
        }
        Ok(Box::new(Partial {
            spec: self.spec.clone(),
            schema: Arc::clone(&self.schema),
            panes: BTreeMap::new(),
            sent: Watermark::MIN,
        }))
    }
}

fn append_only(inputs: &[ChangelogMode]) -> Result<ChangelogMode> {
    match inputs.iter().max() {
        None | Some(ChangelogMode::Append) => Ok(ChangelogMode::Append),
        Some(ChangelogMode::Upsert | ChangelogMode::Retract) => {
            Err(Error::not_supported("a window aggregate over rows that are updated later")
                .with_hint("aggregate in the window first, or group without a window"))
        }
    }
}

/// Partial aggregates of one task since they were last handed on.
#[derive(Debug)]
struct Partial {
    spec: WindowAggregate,
    schema: SchemaRef,
    panes: BTreeMap<(i64, i64), Groups>,
    sent: Watermark,
}

impl Partial {
    fn flush(&mut self, out: &mut Output) -> Result<()> {
        for ((first, second), mut groups) in std::mem::take(&mut self.panes) {
            let (keys, states, rows) = groups.drain()?;
            let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_value(first, rows))];
            if self.spec.prefix() == 2 {
                columns.push(Arc::new(Int64Array::from_value(second, rows)));
            }
            columns.extend(keys);
            columns.extend(states);
            if rows > 0 {
                out.emit(ChangeBatch::inserts(batch_of(&self.schema, columns, rows)?));
            }
        }
        Ok(())
    }

    /// Whether two watermarks fire the same windows, so that the first can stand for the second.
    fn is_same_step(&self, a: Watermark, b: Watermark) -> bool {
        match self.spec.windows {
            _ if a == Watermark::MIN || b == Watermark::MAX => false,
            Windows::Assign { spec, .. } => spec.pane_of(a.0) == spec.pane_of(b.0),
            Windows::Attached { .. } => false,
        }
    }
}

impl Operator for Partial {
    fn on_changes(&mut self, _: usize, changes: ChangeBatch, out: &mut Output) -> Result<Progress> {
        let panes = panes(self.spec.windows, &changes.rows)?;
        let Some(first) = panes.first() else { return Ok(Progress::Done) };
        if panes.iter().all(|pane| pane == first) {
            group_of(&mut self.panes, *first, &self.spec.grouping)?.update(&changes.rows)?;
        } else {
            let mut rows_of: BTreeMap<(i64, i64), Vec<u32>> = BTreeMap::new();
            panes.iter().enumerate().for_each(|(row, pane)| rows_of.entry(*pane).or_default().push(row as u32));
            for (pane, rows) in rows_of {
                let part = take_record_batch(&changes.rows, &UInt32Array::from(rows))?;
                group_of(&mut self.panes, pane, &self.spec.grouping)?.update(&part)?;
            }
        }
        if self.panes.values().map(Groups::len).sum::<usize>() >= PARTIAL_GROUPS {
            self.flush(out)?;
        }
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Progress> {
        if self.is_same_step(self.sent, watermark) {
            out.hold_watermark(self.sent);
            return Ok(Progress::Done);
        }
        self.flush(out)?;
        self.sent = watermark;
        Ok(Progress::Done)
    }

    fn on_barrier(&mut self, out: &mut Output) -> Result<Progress> {
        self.flush(out)?;
        Ok(Progress::Done)
    }

    fn on_end_of_input(&mut self, out: &mut Output) -> Result<Progress> {
        self.flush(out)?;
        Ok(Progress::Done)
    }
}

fn group_of<'a, K: Ord>(
    panes: &'a mut BTreeMap<K, Groups>,
    pane: K,
    grouping: &Arc<Grouping>,
) -> Result<&'a mut Groups> {
    match panes.entry(pane) {
        std::collections::btree_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
        std::collections::btree_map::Entry::Vacant(entry) => Ok(entry.insert(Groups::new(Arc::clone(grouping))?)),
    }
}

#[derive(Debug)]
struct FinalFactory {
    spec: WindowAggregate,
    schema: SchemaRef,
}

impl OperatorFactory for FinalFactory {
    fn name(&self) -> &'static str {
        if self.spec.is_session() { "session-aggregate" } else { "window-aggregate" }
    }

    fn describe(&self) -> String {
        self.spec.describe()
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn output(&self, inputs: &[ChangelogMode]) -> Result<ChangelogMode> {
        append_only(inputs)?;
        Ok(if self.spec.allowed > 0 { ChangelogMode::Upsert } else { ChangelogMode::Append })
    }

    fn fingerprint(&self) -> Option<String> {
        Some(format!("window-aggregate 1: {}", self.spec.describe()))
    }

    fn create(&self, context: &OperatorContext) -> Result<Box<dyn Operator>> {
        let partial = self.spec.partial_schema()?;
        if self.spec.is_session() {
            let schema = Arc::clone(&self.schema);
            return Ok(Box::new(session::Sessions::new(self.spec.clone(), partial, schema, context)));
        }
        let mut fields = vec![key_group_field()];
        fields.extend(partial.fields().iter().cloned());
        Ok(Box::new(Final {
            spec: self.spec.clone(),
            output: Arc::clone(&self.schema),
            state: Arc::new(Schema::new(fields)),
            panes: BTreeMap::new(),
            watermark: Watermark::MIN,
            firing: VecDeque::new(),
            ready: VecDeque::new(),
            dirty: BTreeSet::new(),
            lease: context.memory.lease(),
        }))
    }
}

/// A pane: its increments, and what came since the last barrier.
#[derive(Debug, Default)]
struct Pane {
    increments: Vec<RecordBatch>,
    /// How many of the last increments no checkpoint holds yet.
    unsaved: usize,
    live: Option<Groups>,
}

#[derive(Debug)]
struct Final {
    spec: WindowAggregate,
    output: SchemaRef,
    state: SchemaRef,
    panes: BTreeMap<(i64, i64), Pane>,
    watermark: Watermark,
    firing: VecDeque<Window>,
    ready: VecDeque<RecordBatch>,
    /// Windows within the allowed lateness that changed after they fired.
    dirty: BTreeSet<Window>,
    lease: MemoryLease,
}

impl Final {
    fn windows_of(&self, pane: (i64, i64)) -> Vec<Window> {
        match self.spec.windows {
            Windows::Assign { spec, .. } => spec.windows_of_pane(pane.0),
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

    fn fire(&mut self, window: Window) -> Result<()> {
        let mut groups = Groups::new(Arc::clone(&self.spec.grouping))?;
        let (prefix, keys) = (self.spec.prefix(), self.spec.grouping.keys.len());
        let panes: Vec<(i64, i64)> =
            self.panes.keys().copied().filter(|pane| self.windows_of(*pane).contains(&window)).collect();
        for pane in panes {
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
        closed.iter().for_each(|pane| {
            self.panes.remove(pane);
        });
        let live: usize = self.panes.values().filter_map(|pane| pane.live.as_ref()).map(Groups::size).sum();
        let kept = self.panes.values().flat_map(|pane| &pane.increments).map(RecordBatch::get_array_memory_size);
        self.lease.resize(live + kept.sum::<usize>());
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
        out.emit(ChangeBatch { rows: piece, kinds });
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
    let pane = |row: usize| (first.value(row), second.map_or(0, |second| second.value(row)));
    let mut rows_of: BTreeMap<(i64, i64), Vec<u32>> = BTreeMap::new();
    (0..rows.num_rows()).for_each(|row| rows_of.entry(pane(row)).or_default().push(row as u32));
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
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Progress> {
        if watermark > self.watermark {
            let before = std::mem::replace(&mut self.watermark, watermark);
            self.queue(before, watermark);
        }
        if self.emit_ready(out) {
            return Ok(Progress::More);
        }
        if let Some(window) = self.firing.pop_front() {
            self.fire(window)?;
            return Ok(Progress::More);
        }
        self.drop_closed();
        Ok(Progress::Done)
    }

    fn on_time(&mut self, _: Instant, out: &mut Output) -> Result<Progress> {
        if self.firing.is_empty() && self.ready.is_empty() && !self.dirty.is_empty() {
            self.queue(self.watermark, self.watermark);
        }
        if self.emit_ready(out) {
            return Ok(Progress::More);
        }
        if let Some(window) = self.firing.pop_front() {
            self.fire(window)?;
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
        let panes: Vec<(i64, i64)> = self.panes.keys().copied().collect();
        for pane in panes {
            let new = self.save(pane)?;
            let kept = self.panes.get(&pane).map(|pane| pane.increments.clone()).unwrap_or_default();
            let written = if state.wants_whole() { kept } else { new };
            if !written.is_empty() {
                last = last.max(self.last_end(pane));
                batches.extend(written);
            }
        }
        // A file is needed while its last window may still fire.
        let alive_from = self.watermark.0.saturating_sub(self.spec.allowed).saturating_add(1);
        state.write_panes("panes", batches, last, alive_from);
        Ok(())
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
            spilled_bytes: 0,
            oldest_open_window: open.first().copied(),
            open_windows: open.len() as u64,
        }
    }
}
