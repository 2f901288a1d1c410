//! ROW_NUMBER() up to N per key: Top-N and deduplication, per window or as a changelog.
//!
//! Per window (the rows carry `window_start` and `window_end`), rows are kept until the watermark reaches the window's end
//! and come out once. Without a window the best N of each key are kept and every change among them comes out; rows that
//! fall out of the best N are forgotten, which is right where input rows are never taken back; where they are, all rows of
//! a key are kept.
//!
//! Invariant: ties keep the order in which rows came.

mod changing;
mod window;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use arrow::{
    array::{ArrayRef, Int8Array, Int64Array, RecordBatch, UInt16Array, UInt32Array},
    compute::{SortColumn, SortOptions, interleave_record_batch, lexsort_to_indices, take_record_batch},
    datatypes::{DataType, Field, Schema, SchemaRef},
    row::{RowConverter, SortField},
};
use futures::future::BoxFuture;

use crate::{
    connector::ChangelogMode,
    error::{Error, Result},
    hash::key_groups,
    message::{ChangeBatch, RowKind},
    operator::{Observation, Operator, OperatorContext, OperatorFactory, Output, Progress},
    operators::{
        groups::batch_of,
        keys::{Key, KeyEncoder},
        lifetime::Lifetime,
        spilling::{Keyed, KeyedOperator, Spilling},
    },
    state::{StateReader, StateWriter, key_group_field},
    time::Instant,
};

/// Rows a window keeps in pieces before they are cut down to the best N.
const PIECES: usize = 32;

use self::{changing::ChangingRank, window::WindowRank};

/// What rows that are equal in the order are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ties {
    /// One after another, as they came: `ROW_NUMBER()`.
    InTurn,
    /// Alike, and the next row as if they had been numbered: `RANK()`.
    Alike,
    /// Alike, and the next row one more: `DENSE_RANK()`.
    Dense,
}

/// The best N rows of each key. Output: the input's columns, and the rank if asked for.
#[derive(Debug, Clone)]
pub struct Rank {
    /// Columns of the key (`PARTITION BY`), which the exchange uses too.
    pub partition: Vec<usize>,
    /// Columns of the order.
    pub order: Vec<(usize, SortOptions)>,
    /// N.
    pub limit: usize,
    /// The column of `window_end`, for a rank per window; it must be among the partition columns' window.
    pub window_end: Option<usize>,
    /// Name of the rank column, if the query selects it.
    pub rank_name: Option<String>,
    /// What equal rows are numbered; other than in turn only per window.
    pub ties: Ties,
    /// Columns of the input.
    pub input: SchemaRef,
    /// How long a key without a window is kept after its best rows last changed; `None`: for ever.
    pub ttl: Option<Duration>,
    /// Whether rows are taken back; they are then not ranked per window.
    pub is_updated: bool,
}

impl Rank {
    fn output_schema(&self) -> SchemaRef {
        let mut fields: Vec<_> = self.input.fields().iter().cloned().collect();
        fields.extend(self.rank_name.iter().map(|name| Arc::new(Field::new(name, DataType::Int64, false))));
        Arc::new(Schema::new(fields))
    }

    fn state_schema(&self) -> SchemaRef {
        let mut fields = vec![key_group_field()];
        fields.extend(self.input.fields().iter().cloned());
        Arc::new(Schema::new(fields))
    }

    fn columns(&self, rows: &RecordBatch, indexes: &[usize]) -> Vec<ArrayRef> {
        indexes.iter().map(|index| Arc::clone(rows.column(*index))).collect()
    }

    fn with_key_groups(&self, schema: &SchemaRef, rows: &RecordBatch, more: Option<ArrayRef>) -> Result<RecordBatch> {
        let groups = key_groups(&self.columns(rows, &self.partition), rows.num_rows())?;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(groups)];
        columns.extend(rows.columns().iter().cloned().chain(more));
        batch_of(schema, columns, rows.num_rows())
    }

    /// The best N of each key, by key and rank, with their ranks.
    fn best(&self, rows: &RecordBatch) -> Result<(RecordBatch, Int64Array)> {
        let mut order: Vec<SortColumn> = self.columns(rows, &self.partition).into_iter().map(column_of).collect();
        for (index, options) in &self.order {
            order.push(SortColumn { values: Arc::clone(rows.column(*index)), options: Some(*options) });
        }
        // The row's place breaks ties by arrival.
        order.push(column_of(Arc::new(UInt32Array::from_iter_values(0..rows.num_rows() as u32))));
        let sorted = take_record_batch(rows, &lexsort_to_indices(&order, None)?)?;
        let fields = self.partition.iter().map(|index| self.input.field(*index).data_type().clone());
        let keys = KeyEncoder::exact(fields)?.encode(&self.columns(&sorted, &self.partition), sorted.num_rows())?;
        let ordered: Vec<usize> = self.order.iter().map(|(index, _)| *index).collect();
        let fields = ordered.iter().map(|index| self.input.field(*index).data_type().clone());
        let orders = KeyEncoder::exact(fields)?.encode(&self.columns(&sorted, &ordered), sorted.num_rows())?;
        let (mut kept, mut ranks) = (Vec::new(), Vec::new());
        let (mut rank, mut place) = (0, 0);
        for row in 0..sorted.num_rows() {
            let is_new_key = row == 0 || keys[row] != keys[row - 1];
            place = if is_new_key { 1 } else { place + 1 };
            rank = match self.ties {
                _ if is_new_key => 1,
                Ties::InTurn => place,
                Ties::Alike | Ties::Dense if orders[row] == orders[row - 1] => rank,
                Ties::Alike => place,
                Ties::Dense => rank + 1,
            };
            if rank <= self.limit as i64 {
                kept.push(row as u32);
                ranks.push(rank);
            }
        }
        Ok((take_record_batch(&sorted, &UInt32Array::from(kept))?, Int64Array::from(ranks)))
    }
}

fn column_of(values: ArrayRef) -> SortColumn {
    SortColumn { values, options: None }
}

impl OperatorFactory for Rank {
    fn name(&self) -> &'static str {
        if self.window_end.is_some() { "window-rank" } else { "rank" }
    }

    fn describe(&self) -> String {
        let ties = match self.ties {
            Ties::InTurn => "",
            Ties::Alike => ", ties alike",
            Ties::Dense => ", ties alike without gaps",
        };
        let updated = if self.is_updated { ", of rows that change" } else { "" };
        format!(
            "first {} by {:?} of each {:?}, window end {:?}{ties}{updated}",
            self.limit, self.order, self.partition, self.window_end
        )
    }

    fn schema(&self) -> SchemaRef {
        self.output_schema()
    }

    fn output(&self, inputs: &[ChangelogMode]) -> Result<ChangelogMode> {
        if inputs.contains(&ChangelogMode::Upsert) {
            return Err(Error::not_supported("ROW_NUMBER over rows that are replaced by key without their old value")
                .with_hint("rank per window, or rank the rows before they are aggregated"));
        }
        if self.is_updated != inputs.contains(&ChangelogMode::Retract) || (self.is_updated && self.window_end.is_some())
        {
            return Err(Error::internal("a rank over rows that change, taken for one over rows that stay"));
        }
        Ok(if self.window_end.is_some() { ChangelogMode::Append } else { ChangelogMode::Retract })
    }

    fn fingerprint(&self) -> Option<String> {
        Some(format!("rank 1: {} over {:?}", self.describe(), self.input.fields()))
    }

    fn create(&self, context: &OperatorContext) -> Result<Box<dyn Operator>> {
        if self.ties != Ties::InTurn && self.window_end.is_none() {
            return Err(Error::internal("ranks with ties need a window"));
        }
        Spilling::create(self.clone(), context)
    }
}

impl Keyed for Rank {
    fn tables(&self) -> &'static [&'static str] {
        match (self.window_end, self.is_updated) {
            (Some(_), _) => &["rows"],
            (None, false) => &["best"],
            (None, true) => &[changing::TABLE],
        }
    }

    fn key_groups(&self, _: usize, rows: &RecordBatch) -> Result<UInt16Array> {
        key_groups(&self.columns(rows, &self.partition), rows.num_rows())
    }

    fn in_memory(&self, context: &OperatorContext) -> Result<Box<dyn KeyedOperator>> {
        if let Some(end) = self.window_end {
            return Ok(Box::new(WindowRank::new(self, end)));
        }
        if self.is_updated {
            return Ok(Box::new(ChangingRank::new(self, context)?));
        }
        let types = self.partition.iter().map(|index| self.input.field(*index).data_type().clone());
        let order = self.order.iter().map(|(index, options)| {
            SortField::new_with_options(self.input.field(*index).data_type().clone(), *options)
        });
        let state = self.state_schema();
        let fields = state.fields().iter().cloned().chain(Lifetime::field(self.ttl));
        Ok(Box::new(RunningRank {
            state: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
            written: HashMap::new(),
            lifetime: Lifetime::new(self.ttl, context.running),
            output: self.output_schema(),
            keys: KeyEncoder::exact(types)?,
            order: RowConverter::new(order.collect())?,
            best: HashMap::new(),
            batches: Vec::new(),
            batch_bytes: 0,
            places: 0,
            dirty: HashSet::new(),
            spec: self.clone(),
        }))
    }
}

/// A kept row: its order, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    order: Key,
    batch: usize,
    row: usize,
}

#[derive(Debug)]
struct RunningRank {
    spec: Rank,
    state: SchemaRef,
    output: SchemaRef,
    keys: KeyEncoder,
    order: RowConverter,
    best: HashMap<Key, Vec<Place>>,
    batches: Vec<RecordBatch>,
    batch_bytes: usize,
    /// How many rows are among the best.
    places: usize,
    dirty: HashSet<Key>,
    /// When the best of a key last changed, in running time; empty if they are kept for ever.
    written: HashMap<Key, i64>,
    lifetime: Lifetime,
}

impl RunningRank {
    fn take(&mut self, rows: RecordBatch) -> Result<Vec<(Key, Vec<Place>)>> {
        let keys = self.keys.encode(&self.spec.columns(&rows, &self.spec.partition), rows.num_rows())?;
        let columns: Vec<usize> = self.spec.order.iter().map(|(index, _)| *index).collect();
        let orders = self.order.convert_columns(&self.spec.columns(&rows, &columns))?;
        let batch = self.batches.len();
        let mut before: Vec<(Key, Vec<Place>)> = Vec::new();
        let mut seen: HashSet<Key> = HashSet::new();
        for (row, key) in keys.into_iter().enumerate() {
            let order: Key = orders.row(row).as_ref().into();
            if self.written.get(&key).is_some_and(|written| self.lifetime.is_over(*written)) {
                let gone = self.best.remove(&key).map_or(0, |best| best.len());
                self.places = self.places.saturating_sub(gone);
            }
            let best = self.best.entry(key.clone()).or_default();
            let at = best.partition_point(|place| place.order <= order);
            if at >= self.spec.limit {
                continue;
            }
            if self.lifetime.is_limited() {
                self.written.insert(key.clone(), self.lifetime.now());
            }
            if seen.insert(key.clone()) {
                before.push((key, best.clone()));
            }
            best.insert(at, Place { order, batch, row });
            let before = best.len() - 1;
            best.truncate(self.spec.limit);
            self.places += best.len() - before;
        }
        self.batch_bytes += rows.get_array_memory_size();
        self.batches.push(rows);
        Ok(before)
    }

    fn changes(&self, before: &[(Key, Vec<Place>)]) -> Result<Option<ChangeBatch>> {
        let (mut places, mut ranks, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
        let ranked = self.spec.rank_name.is_some();
        for (key, old) in before {
            let Some(new) = self.best.get(key) else { continue };
            let mut push = |place: &Place, rank: usize, kind: RowKind| {
                places.push((place.batch, place.row));
                ranks.push(rank as i64 + 1);
                kinds.push(kind as i8);
            };
            let gone =
                |rank: usize, place: &Place| if ranked { new.get(rank) != Some(place) } else { !new.contains(place) };
            let came =
                |rank: usize, place: &Place| if ranked { old.get(rank) != Some(place) } else { !old.contains(place) };
            let left = old.iter().enumerate().filter(|(rank, place)| gone(*rank, place));
            left.for_each(|(rank, place)| push(place, rank, RowKind::Delete));
            let new = new.iter().enumerate().filter(|(rank, place)| came(*rank, place));
            new.for_each(|(rank, place)| push(place, rank, RowKind::Insert));
        }
        if places.is_empty() {
            return Ok(None);
        }
        let mut columns = self.rows_at(&places)?.columns().to_vec();
        if ranked {
            columns.push(Arc::new(Int64Array::from(ranks)));
        }
        let rows = batch_of(&self.output, columns, places.len())?;
        Ok(Some(ChangeBatch::new(rows, Some(Int8Array::from(kinds)))))
    }

    fn rows_at(&self, places: &[(usize, usize)]) -> Result<RecordBatch> {
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        Ok(interleave_record_batch(&batches, places)?)
    }

    /// Keeps only the rows that are among the best.
    fn put_together(&mut self) -> Result<()> {
        let mut places = Vec::new();
        for best in self.best.values_mut() {
            for place in best {
                places.push((place.batch, place.row));
                (place.batch, place.row) = (0, places.len() - 1);
            }
        }
        self.batches = if places.is_empty() { Vec::new() } else { vec![self.rows_at(&places)?] };
        self.batch_bytes = self.batches.iter().map(RecordBatch::get_array_memory_size).sum();
        self.places = places.len();
        Ok(())
    }
}

impl Operator for RunningRank {
    fn on_changes(&mut self, _: usize, changes: ChangeBatch, out: &mut Output) -> Result<Progress> {
        let before = self.take(changes.rows)?;
        if let Some(changes) = self.changes(&before)? {
            out.emit(changes);
        }
        self.dirty.extend(before.into_iter().map(|(key, _)| key));
        if self.batches.len() > PIECES {
            self.put_together()?;
        }
        Ok(Progress::Done)
    }

    fn between_calls<'a>(&'a mut self, now: Instant) -> Option<BoxFuture<'a, Result<()>>> {
        self.lifetime.moves_to(now);
        None
    }

    fn on_time(&mut self, now: Instant, _: &mut Output) -> Result<Progress> {
        self.lifetime.moves_to(now);
        if self.lifetime.is_sweep_due() {
            let before = self.written.len();
            self.written.retain(|_, written| !self.lifetime.is_over(*written));
            if self.written.len() < before {
                self.best.retain(|key, _| self.written.contains_key(key));
                self.put_together()?;
            }
        }
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, state: &mut StateWriter) -> Result<()> {
        // The best of a key are written as a whole; a later increment of a key replaces an earlier one.
        let dirty = std::mem::take(&mut self.dirty);
        let keys: Vec<&Key> = if state.wants_whole() { self.best.keys().collect() } else { dirty.iter().collect() };
        let (mut places, mut written) = (Vec::new(), Vec::new());
        for key in keys {
            let best = self.best.get(key).map(Vec::as_slice).unwrap_or_default();
            places.extend(best.iter().map(|place| (place.batch, place.row)));
            written.resize(places.len(), self.written.get(key).copied().unwrap_or(0));
        }
        let batches = match places.is_empty() {
            true => Vec::new(),
            false => {
                let written = self.lifetime.is_limited().then(|| Arc::new(Int64Array::from(written)) as ArrayRef);
                vec![self.spec.with_key_groups(&self.state, &self.rows_at(&places)?, written)?]
            }
        };
        state.write("best", batches);
        Ok(())
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        let columns: Vec<usize> = (1..=self.spec.input.fields().len()).collect();
        for batch in state.batches("best") {
            let rows = batch.project(&columns)?;
            let keys = self.keys.encode(&self.spec.columns(&rows, &self.spec.partition), rows.num_rows())?;
            keys.iter().for_each(|key| {
                self.best.remove(key);
                self.written.remove(key);
            });
            let written = self.lifetime.written(batch);
            let alive = (0..rows.num_rows() as u32).filter(|row| !self.lifetime.is_over(written.value(*row as usize)));
            self.take(take_record_batch(&rows, &UInt32Array::from_iter_values(alive))?)?;
            for (key, written) in keys.into_iter().zip(written.values()) {
                self.written.entry(key).and_modify(|known| *known = *written);
            }
        }
        self.put_together()
    }

    fn observe(&self) -> Observation {
        let rows: usize = self.best.values().map(Vec::len).sum();
        Observation { state_bytes: self.bytes() as u64, state_rows: rows as u64, ..Observation::default() }
    }
}

impl KeyedOperator for RunningRank {
    fn bytes(&self) -> usize {
        self.batch_bytes + self.places * 64 + self.best.len() * 128
    }

    fn next_event(&self) -> Option<i64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{runtime::micros, time::Watermark};
    use arrow::{array::AsArray, datatypes::Int64Type};
    use rand::{Rng, SeedableRng, rngs::SmallRng};
    use std::collections::BTreeMap;

    fn spec(limit: usize, window_end: Option<usize>) -> Rank {
        let input = Arc::new(Schema::new(vec![
            Field::new("k", DataType::Int64, true),
            Field::new("v", DataType::Int64, true),
            Field::new("end", DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None), true),
        ]));
        let order = vec![(1, SortOptions { descending: true, nulls_first: false })];
        let (rank_name, ties, ttl) = (Some("r".into()), Ties::InTurn, None);
        Rank { partition: vec![0, 2], order, limit, window_end, rank_name, ties, input, ttl, is_updated: false }
    }

    fn rows(events: &[(i64, i64, i64)]) -> ChangeBatch {
        let column = |of: fn(&(i64, i64, i64)) -> i64| Int64Array::from_iter_values(events.iter().map(of));
        let ends = arrow::array::TimestampMicrosecondArray::from_iter_values(events.iter().map(|event| event.2));
        let columns: Vec<ArrayRef> = vec![Arc::new(column(|e| e.0)), Arc::new(column(|e| e.1)), Arc::new(ends)];
        ChangeBatch::inserts(RecordBatch::try_new(spec(1, None).input, columns).unwrap())
    }

    /// `(key, end, rank) -> value`, folded; a row that comes twice or goes without having come fails.
    fn fold(table: &mut BTreeMap<(i64, i64, i64), i64>, out: &mut Output) {
        while let Some(changes) = out.next_changes() {
            let number = |column: usize, row| changes.rows.column(column).as_primitive::<Int64Type>().value(row);
            let ends = micros(changes.rows.column(2)).unwrap();
            for row in 0..changes.num_rows() {
                let key = (number(0, row), ends.value(row), number(3, row));
                match changes.kind(row) {
                    RowKind::Insert => assert_eq!(table.insert(key, number(1, row)), None),
                    RowKind::Delete => assert_eq!(table.remove(&key), Some(number(1, row))),
                    other => panic!("unexpected {other:?}"),
                }
            }
        }
    }

    fn expected(events: &[(i64, i64, i64)], limit: usize) -> BTreeMap<(i64, i64, i64), i64> {
        let mut by_key: BTreeMap<(i64, i64), Vec<i64>> = BTreeMap::new();
        events.iter().for_each(|(key, value, end)| by_key.entry((*key, *end)).or_default().push(*value));
        let mut result = BTreeMap::new();
        for ((key, end), mut values) in by_key {
            values.sort_by_key(|value| -value);
            for (rank, value) in (1..).zip(values.into_iter().take(limit)) {
                result.insert((key, end, rank), value);
            }
        }
        result
    }

    #[test]
    fn both_kinds_equal_a_sort_over_restores() {
        for window_end in [None, Some(2)] {
            let mut random = SmallRng::seed_from_u64(5);
            let spec = spec(2, window_end);
            let table_name = if window_end.is_some() { "rows" } else { "best" };
            let mut operator = spec.create(&OperatorContext::alone(1 << 30)).unwrap();
            let (mut all, mut table, mut saved) = (Vec::new(), BTreeMap::new(), Vec::new());
            for _ in 0..50 {
                let event = |_| (random.random_range(0..3), random.random_range(0..50), 10 * random.random_range(1..3));
                let events: Vec<(i64, i64, i64)> = (0..7).map(event).collect();
                all.extend(events.clone());
                let mut out = Output::default();
                let _ = operator.on_changes(0, rows(&events), &mut out).unwrap();
                fold(&mut table, &mut out);
                let mut writer = StateWriter::new(false);
                operator.snapshot(&mut writer).unwrap();
                saved.extend(writer.into_increments().into_iter().flat_map(|increment| increment.batches));
                operator = spec.create(&OperatorContext::alone(1 << 30)).unwrap();
                let tables = vec![(table_name.to_owned(), saved.clone())];
                operator.restore(&StateReader::new(tables, &(0..128), Watermark::MIN).unwrap()).unwrap();
            }
            let mut out = Output::default();
            while operator.on_watermark(Watermark::MAX, &mut out).unwrap() == Progress::More {
                fold(&mut table, &mut out);
            }
            assert_eq!(table, expected(&all, 2), "{window_end:?}");
        }
    }
}
