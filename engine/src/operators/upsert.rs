//! Between changes that name rows and changes that name keys.
//!
//! ```text
//! Compact      retract -> upsert   stateless: the last change of each key in a batch; rows of a key come in order
//! Materialize  retract -> upsert   keeps all live rows of a key: its rows come from several tasks, in any order
//! Normalize    upsert  -> retract  keeps the last row of a key, so that operators behind it see what it replaces
//! ```
//!
//! Invariant: after each batch, what was emitted, folded by the key, is what came in, folded.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, Int8Array, Int64Array, RecordBatch, UInt16Array, UInt32Array},
    compute::take_record_batch,
    datatypes::{DataType, Field, Schema, SchemaRef},
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

/// What is done with the rows of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// Nothing is kept; the last change of a batch goes on.
    Nothing,
    /// All rows that are there; the one that came last goes on.
    All,
    /// The last row, which goes on together with the one it replaces.
    Last,
}

/// Changes by key. Rows are exchanged by the key unless nothing is kept.
#[derive(Debug, Clone)]
pub struct ByKey {
    keeps: Keeps,
    key: Vec<usize>,
    schema: SchemaRef,
    ttl: Option<Duration>,
}

const TABLE: &str = "rows";
const BATCH_KEYS: usize = 8192;

impl ByKey {
    /// Rows of `schema`, whose key are these columns.
    pub fn new(keeps: Keeps, key: Vec<usize>, schema: SchemaRef) -> Self {
        Self { keeps, key, schema, ttl: None }
    }

    /// Keeps the rows of a key for so long after the last of them came.
    #[must_use]
    pub fn with_ttl(self, ttl: Option<Duration>) -> Self {
        Self { ttl, ..self }
    }

    fn key_of(&self, rows: &RecordBatch) -> Vec<ArrayRef> {
        self.key.iter().map(|index| Arc::clone(rows.column(*index))).collect()
    }

    fn keys(&self) -> Result<KeyEncoder> {
        KeyEncoder::new(self.key.iter().map(|index| self.schema.field(*index).data_type().clone()))
    }
}

impl OperatorFactory for ByKey {
    fn name(&self) -> &'static str {
        match self.keeps {
            Keeps::Nothing => "compact",
            Keeps::All => "materialize",
            Keeps::Last => "normalize",
        }
    }

    fn describe(&self) -> String {
        let names: Vec<&str> = self.key.iter().map(|index| self.schema.field(*index).name().as_str()).collect();
        format!("by {}", names.join(", "))
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn output(&self, inputs: &[ChangelogMode]) -> Result<ChangelogMode> {
        match (self.keeps, inputs.iter().copied().max().unwrap_or(ChangelogMode::Append)) {
            (Keeps::Last, _) => Ok(ChangelogMode::Retract),
            (Keeps::All | Keeps::Nothing, ChangelogMode::Append | ChangelogMode::Retract) => Ok(ChangelogMode::Upsert),
            (Keeps::Nothing, ChangelogMode::Upsert) => Ok(ChangelogMode::Upsert),
            (Keeps::All, ChangelogMode::Upsert) => Err(Error::internal("rows to materialize come without old values")),
        }
    }

    fn fingerprint(&self) -> Option<String> {
        let kept = format!("{:?} {:?} of {:?}", self.keeps, self.key, self.schema.fields());
        (self.keeps != Keeps::Nothing).then(|| format!("by-key 1: {kept}"))
    }

    fn create(&self, context: &OperatorContext) -> Result<Box<dyn Operator>> {
        if self.keeps == Keeps::Nothing {
            return Ok(Box::new(Compact { spec: self.clone(), keys: self.keys()? }));
        }
        Spilling::create(self.clone(), context)
    }
}

impl Keyed for ByKey {
    fn tables(&self) -> &'static [&'static str] {
        &[TABLE]
    }

    fn key_groups(&self, _: usize, rows: &RecordBatch) -> Result<UInt16Array> {
        key_groups(&self.key_of(rows), rows.num_rows())
    }

    fn in_memory(&self, context: &OperatorContext) -> Result<Box<dyn KeyedOperator>> {
        let mut fields = vec![key_group_field(), Arc::new(Field::new("headwater_live", DataType::Boolean, false))];
        fields.extend(self.schema.fields().iter().cloned().chain(Lifetime::field(self.ttl)));
        Ok(Box::new(Keeping {
            written: HashMap::new(),
            lifetime: Lifetime::new(self.ttl, context.running),
            keys: self.keys()?,
            whole: KeyEncoder::exact(self.schema.fields().iter().map(|field| field.data_type().clone()))?,
            state: Arc::new(Schema::new(fields)),
            rows: HashMap::new(),
            dirty: HashMap::new(),
            bytes: 0,
            spec: self.clone(),
        }))
    }
}

/// Whether a change takes its row away.
fn takes_away(kind: RowKind) -> bool {
    match kind {
        RowKind::Insert | RowKind::UpdateAfter => false,
        RowKind::UpdateBefore | RowKind::Delete => true,
    }
}

#[derive(Debug)]
struct Compact {
    spec: ByKey,
    keys: KeyEncoder,
}

impl Operator for Compact {
    fn on_changes(&mut self, _: usize, changes: ChangeBatch, out: &mut Output) -> Result<Progress> {
        if changes.kinds.is_none() {
            out.emit(changes);
            return Ok(Progress::Done);
        }
        let keys = self.keys.encode(&self.spec.key_of(&changes.rows), changes.num_rows())?;
        let mut last: HashMap<&Key, u32> = HashMap::new();
        let mut repeated: HashSet<&Key> = HashSet::new();
        for (row, key) in keys.iter().enumerate() {
            if last.insert(key, row as u32).is_some() {
                repeated.insert(key);
            }
        }
        let mut rows: Vec<u32> = last.values().copied().collect();
        rows.sort_unstable();
        let kind = |row: &u32| match changes.kind(*row as usize) {
            kind if takes_away(kind) => RowKind::Delete as i8,
            RowKind::Insert if !repeated.contains(&keys[*row as usize]) => RowKind::Insert as i8,
            _ => RowKind::UpdateAfter as i8,
        };
        let kinds = Int8Array::from_iter_values(rows.iter().map(kind));
        let rows = take_record_batch(&changes.rows, &UInt32Array::from(rows))?;
        out.emit(ChangeBatch::new(rows, Some(kinds)));
        Ok(Progress::Done)
    }
}

/// What goes out: a whole row with its kind.
type Emission = (Key, RowKind);

#[derive(Debug)]
struct Keeping {
    spec: ByKey,
    keys: KeyEncoder,
    whole: KeyEncoder,
    state: SchemaRef,
    rows: HashMap<Key, Vec<Key>>,
    /// Keys that changed since the last snapshot, with the row that changed.
    dirty: HashMap<Key, Key>,
    bytes: usize,
    /// When a row of a key last came, in running time; empty if they are kept for ever.
    written: HashMap<Key, i64>,
    lifetime: Lifetime,
}

impl Keeping {
    /// Takes one change of a key in; what goes out for it.
    fn take(&mut self, key: &Key, row: Key, kind: RowKind, emissions: &mut Vec<Emission>) -> Result<()> {
        match (self.spec.keeps, takes_away(kind)) {
            (Keeps::Last, false) => {
                let kept = self.rows.entry(key.clone()).or_default();
                match kept.pop() {
                    Some(old) if old == row => {}
                    Some(old) => {
                        emissions.push((old, RowKind::UpdateBefore));
                        emissions.push((row.clone(), RowKind::UpdateAfter));
                    }
                    None => emissions.push((row.clone(), RowKind::Insert)),
                }
                kept.push(row);
            }
            (Keeps::Last, true) => {
                let kept = self.rows.remove(key).unwrap_or_default();
                emissions.extend(kept.into_iter().map(|old| (old, RowKind::Delete)));
            }
            (Keeps::All | Keeps::Nothing, false) => {
                let kept = self.rows.entry(key.clone()).or_default();
                let kind = if kept.is_empty() { RowKind::Insert } else { RowKind::UpdateAfter };
                emissions.push((row.clone(), kind));
                kept.push(row);
            }
            (Keeps::All | Keeps::Nothing, true) => self.take_back(key, row, emissions)?,
        }
        Ok(())
    }

    fn take_back(&mut self, key: &Key, row: Key, emissions: &mut Vec<Emission>) -> Result<()> {
        let kept = self.rows.entry(key.clone()).or_default();
        let Some(place) = kept.iter().rposition(|other| *other == row) else {
            if self.lifetime.is_limited() {
                // It takes back a row that has gone.
                return Ok(());
            }
            return Err(Error::data("GENERIC_INTERNAL_ERROR", "a row is taken back that never came"));
        };
        let was_last = place + 1 == kept.len();
        kept.remove(place);
        match kept.last() {
            Some(last) if was_last => emissions.push((last.clone(), RowKind::UpdateAfter)),
            Some(_) => {}
            None => {
                self.rows.remove(key);
                emissions.push((row, RowKind::Delete));
            }
        }
        Ok(())
    }

    /// Forgets the rows of a key that have gone, and notes when it was written.
    fn touch(&mut self, key: &Key) {
        if !self.lifetime.is_limited() {
            return;
        }
        if self.written.insert(key.clone(), self.lifetime.now()).is_some_and(|then| self.lifetime.is_over(then)) {
            self.forget(key);
        }
    }

    fn forget(&mut self, key: &Key) {
        let gone: usize = self.rows.remove(key).iter().flatten().map(|row| key.len() + row.len() + 64).sum();
        self.bytes = self.bytes.saturating_sub(gone);
    }

    fn snapshot_batch(&self, keys: &[(&Key, Option<&Key>)]) -> Result<RecordBatch> {
        let (mut rows, mut live): (Vec<&Key>, Vec<bool>) = (Vec::new(), Vec::new());
        let mut written = Vec::new();
        for (key, gone) in keys {
            match (self.rows.get(*key), gone) {
                (Some(kept), _) => {
                    rows.extend(kept);
                    live.resize(rows.len(), true);
                }
                (None, Some(gone)) => {
                    rows.push(gone);
                    live.push(false);
                }
                (None, None) => {}
            }
            written.resize(rows.len(), self.written.get(*key).copied().unwrap_or(0));
        }
        let columns = self.whole.decode(rows.iter().copied())?;
        let key_columns: Vec<ArrayRef> = self.spec.key.iter().map(|index| Arc::clone(&columns[*index])).collect();
        let groups = key_groups(&key_columns, rows.len())?;
        let mut all: Vec<ArrayRef> = vec![Arc::new(groups), Arc::new(BooleanArray::from(live))];
        all.extend(columns);
        if self.lifetime.is_limited() {
            all.push(Arc::new(Int64Array::from(written)));
        }
        batch_of(&self.state, all, rows.len())
    }
}

impl Operator for Keeping {
    fn on_changes(&mut self, _: usize, changes: ChangeBatch, out: &mut Output) -> Result<Progress> {
        let keys = self.keys.encode(&self.spec.key_of(&changes.rows), changes.num_rows())?;
        let rows = self.whole.encode(changes.rows.columns(), changes.num_rows())?;
        let mut emissions = Vec::new();
        for (index, (key, row)) in keys.into_iter().zip(rows).enumerate() {
            let kind = changes.kind(index);
            let size = key.len() + row.len() + 64;
            self.bytes = if takes_away(kind) { self.bytes.saturating_sub(size) } else { self.bytes + size };
            self.dirty.insert(key.clone(), row.clone());
            self.touch(&key);
            self.take(&key, row, kind, &mut emissions)?;
        }
        if !emissions.is_empty() {
            let columns = self.whole.decode(emissions.iter().map(|(row, _)| row))?;
            let kinds = Int8Array::from_iter_values(emissions.iter().map(|(_, kind)| *kind as i8));
            let rows = batch_of(&self.spec.schema, columns, emissions.len())?;
            out.emit(ChangeBatch::new(rows, Some(kinds)));
        }
        Ok(Progress::Done)
    }

    fn between_calls<'a>(&'a mut self, now: Instant) -> Option<BoxFuture<'a, Result<()>>> {
        self.lifetime.moves_to(now);
        None
    }

    fn on_time(&mut self, now: Instant, _: &mut Output) -> Result<Progress> {
        let over = self.lifetime.swept(now, self.written.iter().map(|(key, written)| (key, *written)));
        for key in &over {
            self.written.remove(key);
            self.forget(key);
        }
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, state: &mut StateWriter) -> Result<()> {
        // All rows of a key are in one batch, which replaces what earlier ones say about that key.
        let dirty = std::mem::take(&mut self.dirty);
        let keys: Vec<(&Key, Option<&Key>)> = match state.wants_whole() {
            true => self.rows.keys().map(|key| (key, None)).collect(),
            false => dirty.iter().map(|(key, row)| (key, Some(row))).collect(),
        };
        let batches = keys.chunks(BATCH_KEYS).map(|keys| self.snapshot_batch(keys)).collect::<Result<Vec<_>>>()?;
        state.write(TABLE, batches);
        Ok(())
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        let columns: Vec<usize> = (2..2 + self.spec.schema.fields().len()).collect();
        for batch in state.batches(TABLE) {
            let rows = batch.project(&columns)?;
            let live = batch.column(1).as_boolean();
            let keys = self.keys.encode(&self.spec.key_of(&rows), rows.num_rows())?;
            for key in &keys {
                self.forget(key);
            }
            let written = self.lifetime.written(batch);
            let whole = self.whole.encode(rows.columns(), rows.num_rows())?;
            for (index, (key, row)) in keys.into_iter().zip(whole).enumerate().filter(|(index, _)| live.value(*index)) {
                debug_assert!(live.is_valid(index));
                if self.lifetime.is_over(written.value(index)) {
                    continue;
                }
                if self.lifetime.is_limited() {
                    self.written.insert(key.clone(), written.value(index));
                }
                self.bytes += key.len() + row.len() + 64;
                self.rows.entry(key).or_default().push(row);
            }
        }
        Ok(())
    }

    fn observe(&self) -> Observation {
        let rows: usize = self.rows.values().map(Vec::len).sum();
        Observation { state_bytes: self.bytes as u64, state_rows: rows as u64, ..Observation::default() }
    }
}

impl KeyedOperator for Keeping {
    fn bytes(&self) -> usize {
        // The last change of a key is also among what changed.
        self.bytes + self.dirty.len() * 128
    }

    fn next_event(&self) -> Option<i64> {
        None
    }
}

#[cfg(test)]
mod tests;
