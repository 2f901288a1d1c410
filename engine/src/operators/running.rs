//! GROUP BY without a window over rows that are only ever added: any aggregate, as a changelog of one row a key.
//!
//! What is kept of a key is its partial state and the row that was last emitted for it. A batch merges the states of the
//! keys it touches into fresh accumulators, takes its rows, and drains them again, so that every aggregate that can be
//! checkpointed in a window can run without one.
//!
//! Invariant: after each batch, folding what was emitted by key gives the aggregates over all rows so far.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use arrow::{
    array::{ArrayRef, Int8Array, Int64Array, RecordBatch, UInt16Array},
    datatypes::{FieldRef, Schema, SchemaRef},
};
use futures::future::BoxFuture;

use crate::{
    connector::ChangelogMode,
    error::{Error, Result},
    hash::key_groups,
    message::{ChangeBatch, RowKind},
    operator::{Observation, Operator, OperatorContext, OperatorFactory, Output, Progress},
    operators::{
        groups::{Grouping, Groups, batch_of},
        keys::{Key, KeyEncoder},
        lifetime::Lifetime,
        spilling::{Keyed, KeyedOperator, Spilling},
    },
    state::{StateReader, StateWriter, key_group_field},
    time::Instant,
};

/// GROUP BY without a window. Output: keys, then values; an update takes back the old row first.
#[derive(Debug, Clone)]
pub struct RunningAggregate {
    grouping: Arc<Grouping>,
    schema: SchemaRef,
    ttl: Option<Duration>,
}

const TABLE: &str = "groups";
const BATCH_KEYS: usize = 8192;

impl RunningAggregate {
    /// An aggregation over rows that are exchanged by the keys.
    pub fn new(grouping: Grouping) -> Result<Self> {
        let fields = grouping.key_fields().into_iter().chain(grouping.value_fields());
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let new = Self { grouping: Arc::new(grouping), schema, ttl: None };
        new.encoders()?;
        Ok(new)
    }

    /// Keeps a group for so long after its last row.
    #[must_use]
    pub fn with_ttl(self, ttl: Option<Duration>) -> Self {
        Self { ttl, ..self }
    }

    fn encoders(&self) -> Result<[KeyEncoder; 3]> {
        let encoder = |what: &str, fields: Vec<FieldRef>| {
            let types = fields.iter().map(|field| field.data_type().clone());
            let encoder = if what == "key" { KeyEncoder::new(types) } else { KeyEncoder::exact(types) };
            encoder.map_err(|error| {
                let names: Vec<&str> = self.grouping.aggregates.iter().map(|call| call.function.fun().name()).collect();
                Error::not_supported(format!("a {what} of {} without a window: {error}", names.join(", ")))
                    .with_hint("group by a window")
            })
        };
        let keys = encoder("key", self.grouping.key_fields())?;
        let states = encoder("state", self.grouping.state_fields()?)?;
        Ok([keys, states, encoder("result", self.grouping.value_fields())?])
    }

    fn state_schema(&self) -> Result<SchemaRef> {
        let mut fields = vec![key_group_field()];
        fields.extend(self.grouping.key_fields());
        fields.extend(self.grouping.state_fields()?);
        fields.extend(Lifetime::field(self.ttl));
        Ok(Arc::new(Schema::new(fields)))
    }
}

impl RunningAggregate {
    fn key_columns(&self, rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let keys = self.grouping.keys.iter();
        keys.map(|(expr, _)| Ok(expr.evaluate(rows)?.into_array(rows.num_rows())?)).collect()
    }
}

impl OperatorFactory for RunningAggregate {
    fn name(&self) -> &'static str {
        if self.grouping.aggregates.is_empty() { "distinct" } else { "running-aggregate" }
    }

    fn describe(&self) -> String {
        self.grouping.fingerprint()
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn output(&self, inputs: &[ChangelogMode]) -> Result<ChangelogMode> {
        if inputs.iter().any(|input| *input != ChangelogMode::Append) {
            return Err(Error::internal("a running aggregate over rows that are taken back"));
        }
        // A key alone never changes.
        Ok(if self.grouping.aggregates.is_empty() { ChangelogMode::Append } else { ChangelogMode::Retract })
    }

    fn fingerprint(&self) -> Option<String> {
        Some(format!("running-aggregate 1: {}", self.grouping.fingerprint()))
    }

    fn create(&self, context: &OperatorContext) -> Result<Box<dyn Operator>> {
        Spilling::create(self.clone(), context)
    }
}

impl Keyed for RunningAggregate {
    fn tables(&self) -> &'static [&'static str] {
        &[TABLE]
    }

    fn key_groups(&self, _: usize, rows: &RecordBatch) -> Result<UInt16Array> {
        key_groups(&self.key_columns(rows)?, rows.num_rows())
    }

    fn in_memory(&self, context: &OperatorContext) -> Result<Box<dyn KeyedOperator>> {
        let [keys, states, values] = self.encoders()?;
        Ok(Box::new(Running {
            state: self.state_schema()?,
            keys,
            states,
            values,
            groups: HashMap::new(),
            dirty: HashSet::new(),
            bytes: 0,
            lifetime: Lifetime::new(self.ttl, context.running),
            spec: self.clone(),
        }))
    }
}

/// What is kept of a key.
#[derive(Debug)]
struct Saved {
    state: Key,
    value: Key,
    /// When its last row came, in running time.
    written: i64,
}

impl Saved {
    fn size(&self, key: &Key) -> usize {
        // The key is also among what changed.
        2 * key.len() + self.state.len() + self.value.len() + 192
    }
}

#[derive(Debug)]
struct Running {
    spec: RunningAggregate,
    state: SchemaRef,
    keys: KeyEncoder,
    states: KeyEncoder,
    values: KeyEncoder,
    groups: HashMap<Key, Saved>,
    dirty: HashSet<Key>,
    bytes: usize,
    lifetime: Lifetime,
}

impl Running {
    /// The groups of these rows with what is kept of their keys.
    fn gathered(&mut self, rows: &RecordBatch) -> Result<Groups> {
        let grouping = Arc::clone(&self.spec.grouping);
        let columns = self.spec.key_columns(rows)?;
        let touched: HashSet<Key> = self.keys.encode(&columns, rows.num_rows())?.into_iter().collect();
        if self.lifetime.is_limited() {
            touched.iter().for_each(|key| self.forget_if_over(key));
        }
        let known: Vec<&Key> = touched.iter().filter(|key| self.groups.contains_key(*key)).collect();
        let states = known.iter().filter_map(|key| self.groups.get(*key)).map(|saved| &saved.state);
        let mut groups = Groups::new(Arc::clone(&grouping))?;
        let (keys, states) = (self.keys.decode(known.iter().copied())?, self.states.decode(states)?);
        groups.merge(&keys, &states, known.len())?;
        groups.update(rows)?;
        Ok(groups)
    }

    fn forget_if_over(&mut self, key: &Key) {
        if self.groups.get(key).is_some_and(|saved| self.lifetime.is_over(saved.written))
            && let Some(gone) = self.groups.remove(key)
        {
            self.bytes -= gone.size(key);
        }
    }

    /// Drains groups: their keys, states and values, each as one text of bytes a group.
    fn drained(&mut self, groups: &mut Groups) -> Result<Vec<(Key, Saved)>> {
        let (keys, states, rows) = groups.drain()?;
        groups.merge(&keys, &states, rows)?;
        let (again, values, count) = groups.evaluate()?;
        let encoded = self.keys.encode(&keys, rows)?;
        if count != rows || self.keys.encode(&again, count)? != encoded {
            return Err(Error::internal("groups changed their order"));
        }
        let states = self.states.encode(&states, rows)?;
        let values = self.values.encode(&values, rows)?;
        let written = self.lifetime.now();
        let saved = states.into_iter().zip(values).map(|(state, value)| Saved { state, value, written });
        Ok(encoded.into_iter().zip(saved).collect())
    }

    /// Keeps what changed, and says which rows go out.
    fn keep(&mut self, drained: Vec<(Key, Saved)>) -> Vec<(Key, Key, RowKind)> {
        let mut emissions = Vec::new();
        for (key, saved) in drained {
            let value = saved.value.clone();
            self.bytes += saved.size(&key);
            let old = self.groups.insert(key.clone(), saved);
            self.bytes -= old.as_ref().map_or(0, |old| old.size(&key));
            match old {
                None => emissions.push((key.clone(), value, RowKind::Insert)),
                Some(old) if old.value == value => {}
                Some(old) => {
                    emissions.push((key.clone(), old.value, RowKind::UpdateBefore));
                    emissions.push((key.clone(), value, RowKind::UpdateAfter));
                }
            }
            self.dirty.insert(key);
        }
        emissions
    }

    fn saved_batch(&self, keys: &[&Key]) -> Result<RecordBatch> {
        let key_columns = self.keys.decode(keys.iter().copied())?;
        let states = keys.iter().filter_map(|key| self.groups.get(*key)).map(|saved| &saved.state);
        let mut columns: Vec<ArrayRef> = vec![Arc::new(key_groups(&key_columns, keys.len())?)];
        columns.extend(key_columns);
        columns.extend(self.states.decode(states)?);
        if self.lifetime.is_limited() {
            let saved = keys.iter().filter_map(|key| self.groups.get(*key));
            columns.push(Arc::new(Int64Array::from_iter_values(saved.map(|saved| saved.written))));
        }
        batch_of(&self.state, columns, keys.len())
    }
}

impl Operator for Running {
    fn on_changes(&mut self, _: usize, changes: ChangeBatch, out: &mut Output) -> Result<Progress> {
        let mut groups = self.gathered(&changes.rows)?;
        let drained = self.drained(&mut groups)?;
        let emissions = self.keep(drained);
        if emissions.is_empty() {
            return Ok(Progress::Done);
        }
        let mut columns = self.keys.decode(emissions.iter().map(|(key, ..)| key))?;
        columns.extend(self.values.decode(emissions.iter().map(|(_, value, _)| value))?);
        let rows = batch_of(&self.spec.schema, columns, emissions.len())?;
        let kinds = Int8Array::from_iter_values(emissions.iter().map(|(.., kind)| *kind as i8));
        let appends = self.spec.grouping.aggregates.is_empty();
        out.emit(ChangeBatch::new(rows, if appends { None } else { Some(kinds) }));
        Ok(Progress::Done)
    }

    fn between_calls<'a>(&'a mut self, now: Instant) -> Option<BoxFuture<'a, Result<()>>> {
        self.lifetime.moves_to(now);
        None
    }

    fn on_time(&mut self, now: Instant, _: &mut Output) -> Result<Progress> {
        let over = self.lifetime.swept(now, self.groups.iter().map(|(key, saved)| (key, saved.written)));
        over.iter().for_each(|key| self.forget_if_over(key));
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, state: &mut StateWriter) -> Result<()> {
        let dirty = std::mem::take(&mut self.dirty);
        // A key may have gone since it was written.
        let kept = dirty.iter().filter(|key| self.groups.contains_key(*key));
        let keys: Vec<&Key> = if state.wants_whole() { self.groups.keys().collect() } else { kept.collect() };
        let batches = keys.chunks(BATCH_KEYS).map(|keys| self.saved_batch(keys)).collect::<Result<Vec<_>>>()?;
        state.write(TABLE, batches);
        Ok(())
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        let width = self.spec.grouping.keys.len();
        // A later increment of a key replaces an earlier one.
        let states_end = 1 + width + self.spec.grouping.state_fields()?.len();
        let mut newest: HashMap<Key, (Key, i64)> = HashMap::new();
        for batch in state.batches(TABLE) {
            let keys = self.keys.encode(&batch.columns()[1..1 + width], batch.num_rows())?;
            let states = self.states.encode(&batch.columns()[1 + width..states_end], batch.num_rows())?;
            let written = self.lifetime.written(batch);
            newest.extend(keys.into_iter().zip(states.into_iter().zip(written.values().iter().copied())));
        }
        newest.retain(|_, (_, written)| !self.lifetime.is_over(*written));
        let all: Vec<(&Key, &Key)> = newest.iter().map(|(key, (state, _))| (key, state)).collect();
        for part in all.chunks(BATCH_KEYS) {
            let keys = self.keys.decode(part.iter().map(|(key, _)| *key))?;
            let states = self.states.decode(part.iter().map(|(_, state)| *state))?;
            let mut groups = Groups::new(Arc::clone(&self.spec.grouping))?;
            groups.merge(&keys, &states, part.len())?;
            let drained = self.drained(&mut groups)?;
            self.keep(drained);
        }
        for (key, (_, written)) in newest {
            self.groups.entry(key).and_modify(|saved| saved.written = written);
        }
        self.dirty.clear();
        Ok(())
    }

    fn observe(&self) -> Observation {
        let (bytes, rows) = (self.bytes as u64, self.groups.len() as u64);
        Observation { state_bytes: bytes, state_rows: rows, ..Observation::default() }
    }
}

impl KeyedOperator for Running {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn next_event(&self) -> Option<i64> {
        None
    }
}
