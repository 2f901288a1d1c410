//! The best N of each key over rows that may be taken back: every row is kept, since one that goes lets another up.
//!
//! Invariant: after each batch, folding what was emitted gives the first N of all rows that were not taken back; rows
//! that are equal in the order are ordered by their columns.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, AsArray, Int8Array, Int64Array, RecordBatch},
    compute::SortOptions,
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef},
};
use futures::future::BoxFuture;

use super::Rank;
use crate::{
    error::Result,
    hash::key_groups,
    message::{ChangeBatch, RowKind},
    operator::{Observation, Operator, OperatorContext, Output, Progress},
    operators::{
        groups::batch_of,
        keys::{Key, KeyEncoder},
        lifetime::Lifetime,
        spilling::KeyedOperator,
    },
    state::{StateReader, StateWriter, key_group_field},
    time::Instant,
};

/// Its state table.
pub(super) const TABLE: &str = "all";
/// How often a row is there; zero for one that has gone.
const COUNT: &str = "headwater_rows";
/// Rows of a batch of state.
const BATCH_ROWS: usize = 8192;

/// The rows of a key, in order, with how often each is there.
#[derive(Debug, Default)]
struct Group {
    rows: BTreeMap<Key, i64>,
    /// When it last changed, in running time.
    written: i64,
}

/// What happens to a row of a key.
type Change = (Key, usize, RowKind);

#[derive(Debug)]
pub(super) struct ChangingRank {
    spec: Rank,
    state: SchemaRef,
    output: SchemaRef,
    keys: KeyEncoder,
    /// Rows: the columns of the order as they are sorted, then all columns.
    rows: KeyEncoder,
    groups: HashMap<Key, Group>,
    dirty: HashSet<(Key, Key)>,
    bytes: usize,
    lifetime: Lifetime,
}

/// Bytes a row takes: among the rows of its key, and among what changed.
fn row_bytes(row: &Key) -> usize {
    2 * row.len() + 96
}

impl ChangingRank {
    pub(super) fn new(spec: &Rank, context: &OperatorContext) -> Result<Self> {
        let data_type = |index: usize| spec.input.field(index).data_type().clone();
        let order = spec.order.iter().map(|(index, options)| (data_type(*index), *options));
        let columns = (0..spec.input.fields().len()).map(|index| (data_type(index), SortOptions::default()));
        let mut fields = vec![key_group_field()];
        fields.extend(spec.input.fields().iter().cloned());
        fields.push(Arc::new(Field::new(COUNT, DataType::Int64, false)));
        fields.extend(Lifetime::field(spec.ttl));
        Ok(Self {
            state: Arc::new(Schema::new(fields)),
            output: spec.output_schema(),
            keys: KeyEncoder::exact(spec.partition.iter().map(|index| data_type(*index)))?,
            rows: KeyEncoder::ordered(order.chain(columns))?,
            groups: HashMap::new(),
            dirty: HashSet::new(),
            bytes: 0,
            lifetime: Lifetime::new(spec.ttl, context.running),
            spec: spec.clone(),
        })
    }

    /// The key of each row, and the row itself.
    fn encode(&mut self, rows: &RecordBatch) -> Result<Vec<(Key, Key)>> {
        let keys = self.keys.encode(&self.spec.columns(rows, &self.spec.partition), rows.num_rows())?;
        let order: Vec<usize> = self.spec.order.iter().map(|(index, _)| *index).collect();
        let mut columns = self.spec.columns(rows, &order);
        columns.extend(rows.columns().iter().cloned());
        let encoded = self.rows.encode(&columns, rows.num_rows())?;
        Ok(keys.into_iter().zip(encoded).collect())
    }

    /// Rows from what they were encoded as.
    fn decode<'a>(&self, rows: impl Iterator<Item = &'a Key>) -> Result<Vec<ArrayRef>> {
        Ok(self.rows.decode(rows)?.split_off(self.spec.order.len()))
    }

    /// The best of a key.
    fn best(&self, key: &Key) -> Vec<Key> {
        let rows = self.groups.get(key).into_iter().flat_map(|group| &group.rows);
        let each = rows.flat_map(|(row, count)| std::iter::repeat_n(row, usize::try_from(*count).unwrap_or(0)));
        each.take(self.spec.limit).cloned().collect()
    }

    /// Sets how often a row of a key is there.
    fn set(&mut self, key: &Key, row: Key, count: i64) {
        if !self.groups.contains_key(key) {
            self.bytes += key.len() + 128;
        }
        let group = self.groups.entry(key.clone()).or_default();
        let before = group.rows.get(&row).copied().unwrap_or(0);
        match (before, count) {
            (0, 0) => {}
            (_, 0) => {
                group.rows.remove(&row);
                self.bytes = self.bytes.saturating_sub(row_bytes(&row));
            }
            (0, _) => {
                self.bytes += row_bytes(&row);
                group.rows.insert(row, count);
            }
            _ => drop(group.rows.insert(row, count)),
        }
    }

    /// Forgets a key, and says so in the next increment.
    fn forget(&mut self, key: &Key) {
        if let Some(group) = self.groups.remove(key) {
            let rows: usize = group.rows.keys().map(row_bytes).sum();
            self.bytes = self.bytes.saturating_sub(rows + key.len() + 128);
            self.dirty.extend(group.rows.into_keys().map(|row| (key.clone(), row)));
        }
    }

    /// Takes rows and takes them back; the best as they were of each key that is touched.
    fn take(&mut self, changes: &ChangeBatch) -> Result<Vec<(Key, Vec<Key>)>> {
        let (mut before, mut touched) = (Vec::new(), HashSet::new());
        for (place, (key, row)) in self.encode(&changes.rows)?.into_iter().enumerate() {
            if touched.insert(key.clone()) {
                if self.groups.get(&key).is_some_and(|group| self.lifetime.is_over(group.written)) {
                    self.forget(&key);
                }
                before.push((key.clone(), self.best(&key)));
            }
            let there = self.groups.get(&key).and_then(|group| group.rows.get(&row)).copied().unwrap_or(0);
            let count = match changes.kind(place) {
                RowKind::Insert | RowKind::UpdateAfter => there + 1,
                RowKind::UpdateBefore | RowKind::Delete => (there - 1).max(0),
            };
            self.set(&key, row.clone(), count);
            if let Some(group) = self.groups.get_mut(&key) {
                group.written = self.lifetime.now();
            }
            self.dirty.insert((key, row));
        }
        Ok(before)
    }

    /// What a key's best lost and got.
    fn differences(&self, old: Vec<Key>, new: Vec<Key>, out: &mut Vec<Change>) {
        if self.spec.rank_name.is_some() {
            let same = |rank: usize| old.get(rank) == new.get(rank);
            let places = 0..old.len().max(new.len());
            let changed: Vec<usize> = places.filter(|rank| !same(*rank)).collect();
            let of = |rows: &[Key], kind: RowKind| {
                let there = changed.iter().filter_map(|rank| Some((rows.get(*rank)?.clone(), *rank, kind)));
                there.collect::<Vec<Change>>()
            };
            out.extend(of(&old, RowKind::Delete));
            out.extend(of(&new, RowKind::Insert));
            return;
        }
        let mut counts: BTreeMap<Key, i64> = BTreeMap::new();
        old.into_iter().for_each(|row| *counts.entry(row).or_default() -= 1);
        new.into_iter().for_each(|row| *counts.entry(row).or_default() += 1);
        for (wanted, kind) in [(-1, RowKind::Delete), (1, RowKind::Insert)] {
            for (row, count) in counts.iter().filter(|(_, count)| count.signum() == wanted) {
                out.extend((0..count.abs()).map(|_| (row.clone(), 0, kind)));
            }
        }
    }

    fn emit(&self, before: Vec<(Key, Vec<Key>)>, out: &mut Output) -> Result<()> {
        let mut changes: Vec<Change> = Vec::new();
        for (key, old) in before {
            self.differences(old, self.best(&key), &mut changes);
        }
        if changes.is_empty() {
            return Ok(());
        }
        let mut columns = self.decode(changes.iter().map(|(row, ..)| row))?;
        if self.spec.rank_name.is_some() {
            columns.push(Arc::new(Int64Array::from_iter_values(changes.iter().map(|(_, rank, _)| *rank as i64 + 1))));
        }
        let rows = batch_of(&self.output, columns, changes.len())?;
        let kinds = Int8Array::from_iter_values(changes.iter().map(|(.., kind)| *kind as i8));
        out.emit(ChangeBatch::new(rows, Some(kinds)));
        Ok(())
    }

    /// Rows of the state table.
    fn written(&self, rows: &[(&Key, &Key)]) -> Result<RecordBatch> {
        let decoded = self.decode(rows.iter().map(|(_, row)| *row))?;
        let keys: Vec<ArrayRef> = self.spec.partition.iter().map(|index| Arc::clone(&decoded[*index])).collect();
        let group = |key: &Key| self.groups.get(key);
        let count = |(key, row): &(&Key, &Key)| group(key).and_then(|group| group.rows.get(*row)).copied().unwrap_or(0);
        let mut columns: Vec<ArrayRef> = vec![Arc::new(key_groups(&keys, rows.len())?)];
        columns.extend(decoded);
        columns.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(count))));
        if self.lifetime.is_limited() {
            let written = rows.iter().map(|(key, _)| group(key).map_or(0, |group| group.written));
            columns.push(Arc::new(Int64Array::from_iter_values(written)));
        }
        batch_of(&self.state, columns, rows.len())
    }
}

impl Operator for ChangingRank {
    fn on_changes(&mut self, _: usize, changes: ChangeBatch, out: &mut Output) -> Result<Progress> {
        let before = self.take(&changes)?;
        let keys: Vec<Key> = before.iter().map(|(key, _)| key.clone()).collect();
        self.emit(before, out)?;
        for key in keys {
            if self.groups.get(&key).is_some_and(|group| group.rows.is_empty()) {
                self.forget(&key);
            }
        }
        Ok(Progress::Done)
    }

    fn between_calls<'a>(&'a mut self, now: Instant) -> Option<BoxFuture<'a, Result<()>>> {
        self.lifetime.moves_to(now);
        None
    }

    fn on_time(&mut self, now: Instant, _: &mut Output) -> Result<Progress> {
        let over = self.lifetime.swept(now, self.groups.iter().map(|(key, group)| (key, group.written)));
        over.iter().for_each(|key| self.forget(key));
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, state: &mut StateWriter) -> Result<()> {
        let dirty = std::mem::take(&mut self.dirty);
        let rows: Vec<(&Key, &Key)> = match state.wants_whole() {
            true => self.groups.iter().flat_map(|(key, group)| group.rows.keys().map(move |row| (key, row))).collect(),
            false => dirty.iter().map(|(key, row)| (key, row)).collect(),
        };
        let batches = rows.chunks(BATCH_ROWS).map(|rows| self.written(rows)).collect::<Result<Vec<_>>>()?;
        state.write(TABLE, batches);
        Ok(())
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        let width = self.spec.input.fields().len();
        let columns: Vec<usize> = (1..=width).collect();
        for batch in state.batches(TABLE) {
            let rows = self.encode(&batch.project(&columns)?)?;
            let counts = batch.column(1 + width).as_primitive::<Int64Type>().clone();
            let written = self.lifetime.written(batch);
            for (place, (key, row)) in rows.into_iter().enumerate() {
                // A later increment of a row replaces an earlier one.
                self.set(&key, row, counts.value(place));
                if let Some(group) = self.groups.get_mut(&key) {
                    group.written = group.written.max(written.value(place));
                }
            }
        }
        let empty = self.groups.iter().filter(|(_, group)| group.rows.is_empty());
        let empty: Vec<Key> = empty.map(|(key, _)| key.clone()).collect();
        empty.iter().for_each(|key| self.forget(key));
        Ok(())
    }

    fn observe(&self) -> Observation {
        let rows: usize = self.groups.values().map(|group| group.rows.len()).sum();
        Observation { state_bytes: self.bytes as u64, state_rows: rows as u64, ..Observation::default() }
    }
}

impl KeyedOperator for ChangingRank {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn next_event(&self) -> Option<i64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::OperatorFactory;
    use crate::{operators::rank::Ties, time::Watermark};
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    fn spec(limit: usize, is_ranked: bool) -> Rank {
        let number = |name: &str| Field::new(name, DataType::Int64, true);
        Rank {
            partition: vec![0],
            order: vec![(1, SortOptions { descending: true, nulls_first: false })],
            limit,
            window_end: None,
            rank_name: is_ranked.then(|| "r".to_owned()),
            ties: Ties::InTurn,
            input: Arc::new(Schema::new(vec![number("k"), number("v")])),
            ttl: None,
            is_updated: true,
        }
    }

    /// The rows there are, as they come out; one that goes without having come fails.
    fn fold(table: &mut Vec<Vec<i64>>, out: &mut Output) {
        while let Some(changes) = out.next_changes() {
            for row in 0..changes.num_rows() {
                let columns = changes.rows.columns().iter();
                let values: Vec<i64> = columns.map(|column| column.as_primitive::<Int64Type>().value(row)).collect();
                match changes.kind(row) {
                    RowKind::Insert => table.push(values),
                    RowKind::Delete => {
                        let place = table.iter().position(|there| *there == values).expect("a row that never came");
                        table.remove(place);
                    }
                    other => panic!("unexpected {other:?}"),
                }
            }
        }
        table.sort();
    }

    fn expected(alive: &[(i64, i64)], limit: usize, is_ranked: bool) -> Vec<Vec<i64>> {
        let mut by_key: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        alive.iter().for_each(|(key, value)| by_key.entry(*key).or_default().push(*value));
        let mut rows = Vec::new();
        for (key, mut values) in by_key {
            values.sort_by_key(|value| -value);
            for (rank, value) in (1..).zip(values.into_iter().take(limit)) {
                rows.push(if is_ranked { vec![key, value, rank] } else { vec![key, value] });
            }
        }
        rows.sort();
        rows
    }

    #[test]
    fn the_best_of_what_is_left_over_restores() {
        for is_ranked in [true, false] {
            let mut random = SmallRng::seed_from_u64(9);
            let spec = spec(3, is_ranked);
            let mut operator = spec.create(&OperatorContext::alone(1 << 30)).unwrap();
            let (mut alive, mut table, mut saved): (Vec<(i64, i64)>, _, _) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..80 {
                let mut rows: Vec<((i64, i64), RowKind)> = Vec::new();
                for _ in 0..random.random_range(1..10) {
                    if !alive.is_empty() && random.random_bool(0.48) {
                        rows.push((alive.swap_remove(random.random_range(0..alive.len())), RowKind::Delete));
                    } else {
                        let row = (random.random_range(0..3), random.random_range(0..12));
                        alive.push(row);
                        rows.push((row, RowKind::Insert));
                    }
                }
                let column =
                    |of: fn(&(i64, i64)) -> i64| Int64Array::from_iter_values(rows.iter().map(|row| of(&row.0)));
                let columns: Vec<ArrayRef> = vec![Arc::new(column(|row| row.0)), Arc::new(column(|row| row.1))];
                let batch = RecordBatch::try_new(Arc::clone(&spec.input), columns).unwrap();
                let kinds = Int8Array::from_iter_values(rows.iter().map(|row| row.1 as i8));
                let mut out = Output::default();
                let _ = operator.on_changes(0, ChangeBatch::new(batch, Some(kinds)), &mut out).unwrap();
                fold(&mut table, &mut out);
                assert_eq!(table, expected(&alive, 3, is_ranked));
                let mut writer = StateWriter::new(false);
                operator.snapshot(&mut writer).unwrap();
                saved.extend(writer.into_increments().into_iter().flat_map(|increment| increment.batches));
                operator = spec.create(&OperatorContext::alone(1 << 30)).unwrap();
                let tables = vec![(TABLE.to_owned(), saved.clone())];
                operator.restore(&StateReader::new(tables, &(0..128), Watermark::MIN).unwrap()).unwrap();
            }
        }
    }
}
