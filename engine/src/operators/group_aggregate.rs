//! GROUP BY without a window: a changelog of one row a key, over rows that may themselves be taken back.
//!
//! DataFusion's accumulators cannot take back, so the aggregates here are our own: count, sum and avg keep a sum and a
//! count; min, max, count distinct, first and last keep each value (with its order) and how often it is there.
//!
//! Invariant: after each batch, folding what was emitted by key gives the aggregates over all rows not taken back.

mod calls;
mod cells;
mod exact;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use arrow::{
    array::{Array, ArrayRef, AsArray, Int8Array, Int64Array, RecordBatch, UInt16Array},
    compute::{SortOptions, concat},
    datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef},
};
use datafusion::{physical_expr::PhysicalExpr, scalar::ScalarValue};
use futures::future::BoxFuture;

pub use self::calls::{Retractable, RetractableCall};
use self::{
    calls::stored,
    cells::{Argument, Cell, list},
};
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

/// GROUP BY without a window. Output: keys, then values.
#[derive(Debug, Clone)]
pub struct GroupAggregate {
    keys: Vec<(Arc<dyn PhysicalExpr>, FieldRef)>,
    calls: Vec<RetractableCall>,
    /// What is kept of a row for each call: columns, with how they compare.
    kept: Vec<Vec<(DataType, SortOptions)>>,
    with_before: bool,
    ttl: Option<Duration>,
    schema: SchemaRef,
}

impl GroupAggregate {
    /// An aggregation over rows of `input`, which are exchanged by the keys. `with_before` emits the old row of an
    /// update too, for operators behind it; sinks by key do without.
    pub fn new(
        keys: Vec<(Arc<dyn PhysicalExpr>, FieldRef)>,
        calls: Vec<RetractableCall>,
        input: &Schema,
        with_before: bool,
    ) -> Result<Self> {
        let kept = calls.iter().map(|call| call.kept(input)).collect::<Result<Vec<_>>>()?;
        let fields =
            keys.iter().map(|(_, field)| Arc::clone(field)).chain(calls.iter().map(|call| Arc::clone(&call.field)));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Ok(Self { keys, calls, kept, with_before, ttl: None, schema })
    }

    /// Keeps a group for so long after its last row.
    #[must_use]
    pub fn with_ttl(self, ttl: Option<Duration>) -> Self {
        Self { ttl, ..self }
    }

    fn state_schema(&self) -> SchemaRef {
        let mut fields = vec![key_group_field()];
        fields.extend(self.keys.iter().map(|(_, field)| Arc::clone(field)));
        fields.push(Arc::new(Field::new("headwater_rows", DataType::Int64, false)));
        for (index, kept) in self.kept.iter().enumerate() {
            let list = |item: DataType| DataType::List(Arc::new(Field::new_list_field(item, true)));
            fields.push(Arc::new(Field::new(format!("values_{index}"), list(stored(kept)), false)));
            fields.push(Arc::new(Field::new(format!("counts_{index}"), list(DataType::Int64), false)));
        }
        fields.extend(Lifetime::field(self.ttl));
        Arc::new(Schema::new(fields))
    }
}

impl OperatorFactory for GroupAggregate {
    fn name(&self) -> &'static str {
        "group-aggregate"
    }

    fn describe(&self) -> String {
        let keys: Vec<String> = self.keys.iter().map(|(expr, _)| expr.to_string()).collect();
        let calls = self.calls.iter().map(|call| {
            let text =
                |expr: &Option<Arc<dyn PhysicalExpr>>| expr.as_ref().map(ToString::to_string).unwrap_or_default();
            let order = call.order.iter().map(|(expr, options)| format!(" by {expr} {options:?}"));
            let order = order.collect::<String>() + if call.ignores_nulls { " not null" } else { "" };
            format!("{:?}({}{order}) where {}", call.aggregate, text(&call.argument), text(&call.filter))
        });
        format!("group by {} compute {}", keys.join(","), calls.collect::<Vec<_>>().join(","))
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn output(&self, inputs: &[ChangelogMode]) -> Result<ChangelogMode> {
        if inputs.contains(&ChangelogMode::Upsert) {
            return Err(Error::not_supported(
                "an aggregate over rows that are replaced by key without their old value",
            )
            .with_hint("deduplicate by the key first"));
        }
        Ok(if self.with_before { ChangelogMode::Retract } else { ChangelogMode::Upsert })
    }

    fn fingerprint(&self) -> Option<String> {
        let is_sum = |call: &RetractableCall| matches!(call.aggregate, Retractable::Sum | Retractable::Avg);
        let sums = self.calls.iter().zip(&self.kept).filter(|(call, _)| is_sum(call));
        let sums: Vec<String> = sums.map(|(_, kept)| stored(kept).to_string()).collect();
        // Sums were kept in the types of their values before they were kept exactly.
        match sums.as_slice() {
            [] => Some(format!("group-aggregate 1: {}", self.describe())),
            sums => Some(format!("group-aggregate 2: {}; sums as {}", self.describe(), sums.join(", "))),
        }
    }

    fn create(&self, context: &OperatorContext) -> Result<Box<dyn Operator>> {
        Spilling::create(self.clone(), context)
    }
}

impl Keyed for GroupAggregate {
    fn tables(&self) -> &'static [&'static str] {
        &["groups"]
    }

    fn key_groups(&self, _: usize, rows: &RecordBatch) -> Result<UInt16Array> {
        let columns = self.keys.iter().map(|(expr, _)| Ok(expr.evaluate(rows)?.into_array(rows.num_rows())?));
        key_groups(&columns.collect::<Result<Vec<ArrayRef>>>()?, rows.num_rows())
    }

    fn in_memory(&self, context: &OperatorContext) -> Result<Box<dyn KeyedOperator>> {
        let keys = KeyEncoder::new(self.keys.iter().map(|(_, field)| field.data_type().clone()))?;
        let values = self.kept.iter().map(|kept| KeyEncoder::ordered(kept.iter().cloned()));
        let values = values.collect::<Result<Vec<_>>>()?;
        Ok(Box::new(Grouped {
            spec: self.clone(),
            state: self.state_schema(),
            keys,
            values,
            groups: HashMap::new(),
            dirty: HashSet::new(),
            bytes: 0,
            lifetime: Lifetime::new(self.ttl, context.running),
        }))
    }
}

#[derive(Debug, Clone)]
struct Group {
    rows: i64,
    /// When its last row came, in running time.
    written: i64,
    cells: Vec<Cell>,
}

impl Group {
    /// Bytes it takes with its key: once among the groups, once among what changed.
    fn bytes(&self, key: &Key) -> usize {
        let cells: usize = self.cells.iter().map(Cell::bytes).sum();
        cells + 2 * key.len() + 192
    }
}

#[derive(Debug)]
struct Grouped {
    spec: GroupAggregate,
    state: SchemaRef,
    keys: KeyEncoder,
    values: Vec<KeyEncoder>,
    groups: HashMap<Key, Group>,
    dirty: HashSet<Key>,
    bytes: usize,
    lifetime: Lifetime,
}

impl Grouped {
    fn empty(&self) -> Group {
        let cell = |(call, kept): (&RetractableCall, &Vec<(DataType, SortOptions)>)| match (call.aggregate, kept.last())
        {
            (Retractable::Count, _) => Cell::Count(0),
            (Retractable::Sum | Retractable::Avg, Some((kept, _))) => Cell::sum_of(kept),
            _ => Cell::Values(BTreeMap::new()),
        };
        let cells = self.spec.calls.iter().zip(&self.spec.kept).map(cell).collect();
        Group { rows: 0, written: self.lifetime.now(), cells }
    }

    fn forget(&mut self, key: &Key) {
        if let Some(group) = self.groups.remove(key) {
            self.bytes = self.bytes.saturating_sub(group.bytes(key));
        }
    }

    fn argument(&mut self, index: usize, rows: &RecordBatch) -> Result<Argument> {
        let call = &self.spec.calls[index];
        let evaluate = |expr: &Arc<dyn PhysicalExpr>| -> Result<ArrayRef> {
            Ok(expr.evaluate(rows)?.into_array(rows.num_rows())?)
        };
        let filter = call.filter.as_ref().map(evaluate).transpose()?;
        let passes = |row: usize| {
            filter.as_ref().and_then(|filter| filter.as_boolean_opt()).is_none_or(|f| f.is_valid(row) && f.value(row))
        };
        let column = call.argument.as_ref().map(evaluate).transpose()?;
        let counts = |row: usize| passes(row) && column.as_ref().is_none_or(|column| column.is_valid(row));
        match (call.aggregate, &column) {
            (Retractable::Count, _) | (_, None) => Ok(Argument::Rows((0..rows.num_rows()).map(counts).collect())),
            (Retractable::Sum | Retractable::Avg, Some(column)) => {
                Argument::summed(column, &stored(&self.spec.kept[index]), counts)
            }
            (Retractable::Min | Retractable::Max | Retractable::CountDistinct, Some(column)) => {
                let keys = self.values[index].encode(&[Arc::clone(column)], rows.num_rows())?;
                Ok(Argument::Keys(keys.into_iter().enumerate().map(|(row, key)| counts(row).then_some(key)).collect()))
            }
            (Retractable::First | Retractable::Last, Some(column)) => {
                let order = call.order.iter().map(|(expr, _)| evaluate(expr)).collect::<Result<Vec<_>>>()?;
                let columns: Vec<ArrayRef> = order.into_iter().chain([Arc::clone(column)]).collect();
                let keys = self.values[index].encode(&columns, rows.num_rows())?;
                let counts = |row: usize| passes(row) && (!call.ignores_nulls || column.is_valid(row));
                Ok(Argument::Keys(keys.into_iter().enumerate().map(|(row, key)| counts(row).then_some(key)).collect()))
            }
        }
    }

    fn apply(&mut self, changes: &ChangeBatch) -> Result<Vec<(Key, Option<Group>)>> {
        let rows = &changes.rows;
        let columns = self.spec.keys.iter().map(|(expr, _)| Ok(expr.evaluate(rows)?.into_array(rows.num_rows())?));
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        let keys = self.keys.encode(&columns, rows.num_rows())?;
        let arguments = (0..self.spec.calls.len()).map(|index| self.argument(index, rows));
        let arguments = arguments.collect::<Result<Vec<_>>>()?;
        let empty = self.empty();
        let mut touched: HashMap<Key, Option<Group>> = HashMap::new();
        let mut order = Vec::new();
        for (row, key) in keys.into_iter().enumerate() {
            if !touched.contains_key(&key) {
                if self.groups.get(&key).is_some_and(|group| self.lifetime.is_over(group.written)) {
                    self.forget(&key);
                }
                touched.insert(key.clone(), self.groups.get(&key).cloned());
                order.push(key.clone());
            }
            let sign = match changes.kind(row) {
                RowKind::Insert | RowKind::UpdateAfter => 1,
                RowKind::UpdateBefore | RowKind::Delete => -1,
            };
            if sign < 0 && self.lifetime.is_limited() && !self.groups.contains_key(&key) {
                // It takes back a row whose group has gone.
                continue;
            }
            let group = self.groups.entry(key).or_insert_with(|| empty.clone());
            group.written = self.lifetime.now();
            group.rows += sign;
            for (cell, argument) in group.cells.iter_mut().zip(&arguments) {
                cell.apply(argument, row, sign)?;
            }
        }
        Ok(order.into_iter().filter_map(|key| touched.remove(&key).map(|old| (key, old))).collect())
    }

    fn value(&self, index: usize, group: &Group) -> Result<ScalarValue> {
        let call = &self.spec.calls[index];
        let wanted = call.field.data_type();
        let key = |key: Option<&Key>| -> Result<ScalarValue> {
            let Some(key) = key else { return Ok(ScalarValue::try_from(wanted)?) };
            let columns = self.values[index].decode(std::iter::once(key))?;
            let column = columns.last().ok_or_else(|| Error::internal("a value without its column"))?;
            Ok(ScalarValue::try_from_array(column, 0)?)
        };
        let value = match (call.aggregate, &group.cells[index]) {
            (Retractable::Count, Cell::Count(count)) => ScalarValue::Int64(Some(*count)),
            (Retractable::Sum, cell) => return cell.total(&stored(&self.spec.kept[index]), wanted),
            (Retractable::Avg, cell) => return cell.average(wanted),
            (Retractable::CountDistinct, Cell::Values(values)) => ScalarValue::Int64(Some(values.len() as i64)),
            (Retractable::Min | Retractable::First | Retractable::Last, Cell::Values(values)) => {
                key(values.keys().next())?
            }
            (Retractable::Max, Cell::Values(values)) => key(values.keys().next_back())?,
            _ => ScalarValue::try_from(wanted)?,
        };
        Ok(value.cast_to(wanted)?)
    }

    fn is_same(&self, old: &Group, new: &Group) -> Result<bool> {
        for index in 0..self.spec.calls.len() {
            if self.value(index, old)? != self.value(index, new)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn emit(&mut self, touched: Vec<(Key, Option<Group>)>, out: &mut Output) -> Result<()> {
        let mut keys: Vec<Key> = Vec::new();
        let mut kinds: Vec<i8> = Vec::new();
        let mut values: Vec<Vec<ScalarValue>> = vec![Vec::new(); self.spec.calls.len()];
        let mut push = |this: &Self, key: &Key, group: &Group, kind: RowKind| -> Result<()> {
            keys.push(key.clone());
            kinds.push(kind as i8);
            for (index, column) in values.iter_mut().enumerate() {
                column.push(this.value(index, group)?);
            }
            Ok(())
        };
        for (key, old) in touched {
            let before = old.as_ref().map_or(0, |old| old.bytes(&key));
            self.bytes = self.bytes.saturating_sub(before);
            let new = self.groups.get(&key).filter(|group| group.rows > 0).cloned();
            self.bytes += new.as_ref().map_or(0, |new| new.bytes(&key));
            let old = old.filter(|group| group.rows > 0);
            match (&old, &new) {
                (None, None) => {}
                (None, Some(new)) => push(self, &key, new, RowKind::Insert)?,
                (Some(old), None) => push(self, &key, old, RowKind::Delete)?,
                (Some(old), Some(new)) if self.is_same(old, new)? => {}
                (Some(old), Some(new)) => {
                    if self.spec.with_before {
                        push(self, &key, old, RowKind::UpdateBefore)?;
                    }
                    push(self, &key, new, RowKind::UpdateAfter)?;
                }
            }
            if new.is_none() && self.groups.get(&key).is_some_and(|group| group.rows <= 0) {
                self.groups.remove(&key);
            }
            self.dirty.insert(key);
        }
        if keys.is_empty() {
            return Ok(());
        }
        let mut columns = self.keys.decode(keys.iter())?;
        for column in values {
            columns.push(ScalarValue::iter_to_array(column)?);
        }
        let rows = batch_of(&self.spec.schema, columns, keys.len())?;
        out.emit(ChangeBatch::new(rows, Some(Int8Array::from(kinds))));
        Ok(())
    }

    fn rows_of(&self, keys: &[&Key]) -> Result<RecordBatch> {
        let empty = self.empty();
        let groups: Vec<&Group> = keys.iter().map(|key| self.groups.get(*key).unwrap_or(&empty)).collect();
        let key_columns = self.keys.decode(keys.iter().copied())?;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(key_groups(&key_columns, keys.len())?)];
        columns.extend(key_columns);
        columns.push(Arc::new(Int64Array::from_iter_values(groups.iter().map(|group| group.rows))));
        for index in 0..self.spec.calls.len() {
            let cells: Vec<&Cell> = groups.iter().map(|group| &group.cells[index]).collect();
            let (values, counts) = self.cell_columns(index, &cells)?;
            columns.push(values);
            columns.push(counts);
        }
        if self.lifetime.is_limited() {
            columns.push(Arc::new(Int64Array::from_iter_values(groups.iter().map(|group| group.written))));
        }
        batch_of(&self.state, columns, keys.len())
    }

    fn cell_columns(&self, index: usize, cells: &[&Cell]) -> Result<(ArrayRef, ArrayRef)> {
        let mut counts: Vec<i64> = Vec::new();
        let stored = stored(&self.spec.kept[index]);
        let (mut value_lengths, mut count_lengths) = (Vec::new(), Vec::new());
        let mut parts: Vec<ArrayRef> = Vec::new();
        for cell in cells {
            let (kept, numbers) = cell.state(&stored, &self.values[index])?;
            value_lengths.push(kept.as_ref().map_or(0, |kept| kept.len()));
            count_lengths.push(numbers.len());
            parts.extend(kept);
            counts.extend(numbers);
        }
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        let values = if parts.is_empty() { arrow::array::new_empty_array(&stored) } else { concat(&parts)? };
        Ok((list(value_lengths, values)?, list(count_lengths, Arc::new(Int64Array::from(counts)))?))
    }
}

impl Operator for Grouped {
    fn on_changes(&mut self, _: usize, changes: ChangeBatch, out: &mut Output) -> Result<Progress> {
        let touched = self.apply(&changes)?;
        self.emit(touched, out)?;
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
        let keys: Vec<&Key> = if state.wants_whole() { self.groups.keys().collect() } else { dirty.iter().collect() };
        let batches = keys.chunks(8192).map(|keys| self.rows_of(keys)).collect::<Result<Vec<_>>>()?;
        state.write("groups", batches);
        Ok(())
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        for batch in state.batches("groups") {
            let width = self.spec.keys.len();
            let keys = self.keys.encode(&batch.columns()[1..1 + width], batch.num_rows())?;
            let rows = batch.column(1 + width).as_primitive::<Int64Type>().clone();
            let written = self.lifetime.written(batch);
            for (row, key) in keys.into_iter().enumerate() {
                let mut group = self.empty();
                group.rows = rows.value(row);
                group.written = written.value(row);
                for (index, cell) in group.cells.iter_mut().enumerate() {
                    let values = batch.column(2 + width + 2 * index).as_list::<i32>().value(row);
                    let counts = batch.column(3 + width + 2 * index).as_list::<i32>().value(row);
                    cell.restore(&values, counts.as_primitive::<Int64Type>(), &mut self.values[index])?;
                }
                // A later increment replaces an earlier one; no rows means the key is gone.
                self.forget(&key);
                if group.rows != 0 && !self.lifetime.is_over(group.written) {
                    self.bytes += group.bytes(&key);
                    self.groups.insert(key, group);
                }
            }
        }
        Ok(())
    }

    fn observe(&self) -> Observation {
        Observation { state_bytes: self.bytes as u64, state_rows: self.groups.len() as u64, ..Observation::default() }
    }
}

impl KeyedOperator for Grouped {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn next_event(&self) -> Option<i64> {
        None
    }
}

#[cfg(test)]
mod tests;
