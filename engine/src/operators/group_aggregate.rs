//! GROUP BY without a window: a changelog of one row a key, over rows that may themselves be taken back.
//!
//! DataFusion's accumulators cannot take back, so the aggregates here are our own: count, sum and avg keep a sum and a
//! count; min, max, count distinct, first and last keep each value (with its order) and how often it is there.
//!
//! Invariant: after each batch, folding what was emitted by key gives the aggregates over all rows not taken back.

mod calls;
mod cells;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use arrow::{
    array::{Array, ArrayRef, AsArray, Int8Array, Int64Array, RecordBatch, StructArray, UInt16Array},
    compute::{SortOptions, concat},
    datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef},
};
use datafusion::{physical_expr::PhysicalExpr, scalar::ScalarValue};
use futures::future::BoxFuture;

pub use self::calls::{Retractable, RetractableCall};
use self::{
    calls::stored,
    cells::{Argument, Cell, decimal_average, list},
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
        Some(format!("group-aggregate 1: {}", self.describe()))
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
        let cell = |call: &RetractableCall| match call.aggregate.is_sum() {
            true => Cell::Sum { sum: None, count: 0 },
            false => Cell::Values(BTreeMap::new()),
        };
        Group { rows: 0, written: self.lifetime.now(), cells: self.spec.calls.iter().map(cell).collect() }
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
                let scalar =
                    |row| if counts(row) { ScalarValue::try_from_array(column, row).map(Some) } else { Ok(None) };
                Ok(Argument::Scalars((0..rows.num_rows()).map(scalar).collect::<Result<_, _>>()?))
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
            (Retractable::Count, Cell::Sum { count, .. }) => ScalarValue::Int64(Some(*count)),
            (Retractable::Sum, Cell::Sum { sum: Some(sum), count }) if *count > 0 => sum.clone(),
            (Retractable::Avg, Cell::Sum { sum: Some(ScalarValue::Decimal128(Some(sum), ..)), count })
                if *count > 0 =>
            {
                return decimal_average(*sum, *count, wanted);
            }
            (Retractable::Avg, Cell::Sum { sum: Some(sum), count }) if *count > 0 => {
                let sum = sum.cast_to(&DataType::Float64)?;
                match sum {
                    ScalarValue::Float64(Some(sum)) => ScalarValue::Float64(Some(sum / *count as f64)),
                    other => return Err(Error::internal(format!("a sum that is no number: {other}"))),
                }
            }
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
            let before = counts.len();
            match cell {
                Cell::Sum { sum, count } => {
                    counts.push(*count);
                    value_lengths.push(usize::from(sum.is_some()));
                    if let Some(sum) = sum {
                        parts.push(sum.cast_to(&stored)?.to_array()?);
                    }
                }
                Cell::Values(values) => {
                    counts.extend(values.values());
                    value_lengths.push(values.len());
                    let columns = self.values[index].decode(values.keys())?;
                    match &stored {
                        DataType::Struct(fields) if columns.len() > 1 => {
                            parts.push(Arc::new(StructArray::try_new(fields.clone(), columns, None)?));
                        }
                        _ => parts.extend(columns),
                    }
                }
            }
            count_lengths.push(counts.len() - before);
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
        self.lifetime.moves_to(now);
        if self.lifetime.is_sweep_due() {
            let over = self.groups.iter().filter(|(_, group)| self.lifetime.is_over(group.written));
            let over: Vec<Key> = over.map(|(key, _)| key.clone()).collect();
            over.iter().for_each(|key| self.forget(key));
        }
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
                    let counts = counts.as_primitive::<Int64Type>();
                    match cell {
                        Cell::Sum { sum, count } => {
                            *count = counts.values().first().copied().unwrap_or(0);
                            *sum = (!values.is_empty()).then(|| ScalarValue::try_from_array(&values, 0)).transpose()?;
                        }
                        Cell::Values(map) => {
                            let columns = match values.as_struct_opt() {
                                Some(columns) if self.spec.kept[index].len() > 1 => columns.columns().to_vec(),
                                _ => vec![Arc::clone(&values)],
                            };
                            let keys = self.values[index].encode(&columns, values.len())?;
                            *map = keys.into_iter().zip(counts.values().iter().copied()).collect();
                        }
                    }
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
mod tests {
    use super::*;
    use crate::{memory::MemoryBudget, time::Watermark};
    use arrow::array::StringArray;
    use datafusion::physical_expr::expressions::Column;
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    fn input() -> SchemaRef {
        let number = |name: &str| Field::new(name, DataType::Int64, true);
        Arc::new(Schema::new(vec![Field::new("k", DataType::Utf8, true), number("v"), number("at")]))
    }

    fn spec() -> GroupAggregate {
        let value: Arc<dyn PhysicalExpr> = Arc::new(Column::new("v", 1));
        let call = |aggregate, name: &str, argument: Option<&Arc<dyn PhysicalExpr>>| RetractableCall {
            aggregate,
            argument: argument.map(Arc::clone),
            filter: None,
            order: match aggregate {
                Retractable::First | Retractable::Last => {
                    vec![(Arc::new(Column::new("at", 2)), SortOptions::default())]
                }
                _ => Vec::new(),
            },
            ignores_nulls: false,
            field: Arc::new(Field::new(name, DataType::Int64, true)),
        };
        let calls = vec![
            call(Retractable::Count, "n", None),
            call(Retractable::Sum, "s", Some(&value)),
            call(Retractable::Min, "lo", Some(&value)),
            call(Retractable::Max, "hi", Some(&value)),
            call(Retractable::CountDistinct, "d", Some(&value)),
            call(Retractable::First, "first", Some(&value)),
            call(Retractable::Last, "last", Some(&value)),
        ];
        let key: Arc<dyn PhysicalExpr> = Arc::new(Column::new("k", 0));
        let field = Arc::new(Field::new("k", DataType::Utf8, true));
        GroupAggregate::new(vec![(key, field)], calls, &input(), true).unwrap()
    }

    fn context() -> OperatorContext {
        let memory = MemoryBudget::new(1 << 30);
        OperatorContext {
            name: "test".to_owned(),
            task: 0,
            tasks: 1,
            key_groups: 0..128,
            memory,
            spill: std::env::temp_dir(),
            running: crate::operator::RunningTime::default(),
        }
    }

    /// Folds what comes out by key and checks it against the rows that were not taken back, over a restore.
    #[test]
    fn a_folded_changelog_equals_the_aggregate_of_what_is_left() {
        let mut random = SmallRng::seed_from_u64(3);
        let mut operator = spec().create(&context()).unwrap();
        let (mut alive, mut at): (Vec<(String, i64, i64)>, i64) = (Vec::new(), 0);
        let mut table: HashMap<String, Vec<Option<i64>>> = HashMap::new();
        let mut saved: Vec<RecordBatch> = Vec::new();
        for _ in 0..60 {
            let mut rows: Vec<((String, i64, i64), RowKind)> = Vec::new();
            for _ in 0..random.random_range(1..12) {
                if !alive.is_empty() && random.random_bool(0.45) {
                    let row = alive.swap_remove(random.random_range(0..alive.len()));
                    rows.push((row, RowKind::Delete));
                } else {
                    at += 1;
                    let row = (format!("k{}", random.random_range(0..4)), random.random_range(0..6), at * 7919 % 1009);
                    alive.push(row.clone());
                    rows.push((row, RowKind::Insert));
                }
            }
            let keys = StringArray::from_iter_values(rows.iter().map(|(row, _)| &row.0));
            let values = Int64Array::from_iter_values(rows.iter().map(|(row, _)| row.1));
            let times = Int64Array::from_iter_values(rows.iter().map(|(row, _)| row.2));
            let kinds = Int8Array::from_iter_values(rows.iter().map(|(_, kind)| *kind as i8));
            let columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(values), Arc::new(times)];
            let rows = RecordBatch::try_new(input(), columns).unwrap();
            let mut out = Output::default();
            let _ = operator.on_changes(0, ChangeBatch::new(rows, Some(kinds)), &mut out).unwrap();
            while let Some(changes) = out.next_changes() {
                fold(&mut table, &changes);
            }
            assert_eq!(table, expected(&alive));
            let mut writer = StateWriter::new(false);
            operator.snapshot(&mut writer).unwrap();
            saved.extend(writer.into_increments().into_iter().flat_map(|increment| increment.batches));
            operator = spec().create(&context()).unwrap();
            let tables = vec![("groups".to_owned(), saved.clone())];
            operator.restore(&StateReader::new(tables, &(0..128), Watermark::MIN).unwrap()).unwrap();
        }
    }

    fn fold(table: &mut HashMap<String, Vec<Option<i64>>>, changes: &ChangeBatch) {
        for row in 0..changes.num_rows() {
            let key = changes.rows.column(0).as_string::<i32>().value(row).to_owned();
            let number = |index: usize| {
                let column = changes.rows.column(index).as_primitive::<Int64Type>();
                column.is_valid(row).then(|| column.value(row))
            };
            let values: Vec<Option<i64>> = (1..8).map(number).collect();
            match changes.kind(row) {
                RowKind::Insert => assert_eq!(table.insert(key, values), None),
                RowKind::UpdateBefore => assert_eq!(table.get(&key), Some(&values)),
                RowKind::UpdateAfter => assert!(table.insert(key, values).is_some()),
                RowKind::Delete => assert_eq!(table.remove(&key), Some(values)),
            }
        }
    }

    fn expected(alive: &[(String, i64, i64)]) -> HashMap<String, Vec<Option<i64>>> {
        let mut by_key: HashMap<String, Vec<(i64, i64)>> = HashMap::new();
        alive.iter().for_each(|(key, value, at)| by_key.entry(key.clone()).or_default().push((*at, *value)));
        let row = |mut rows: Vec<(i64, i64)>| {
            rows.sort();
            let mut values: Vec<i64> = rows.iter().map(|(_, value)| *value).collect();
            let (first, last) = (values.first().copied(), values.last().copied());
            let (count, sum) = (values.len() as i64, values.iter().sum());
            values.sort();
            let (low, high) = (values.first().copied(), values.last().copied());
            values.dedup();
            vec![Some(count), Some(sum), low, high, Some(values.len() as i64), first, last]
        };
        by_key.into_iter().map(|(key, values)| (key, row(values))).collect()
    }
}
