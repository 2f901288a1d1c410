//! Join with a table that answers for keys: each batch asks for the keys it needs and does not know.
//!
//! ```text
//! rows ──> keys ──known?──> cache ──────────────┐
//!             └─unknown──> one question a batch ─┴─> rows beside what they found
//! ```
//!
//! What is cached is no state: a restart asks again, and what the table held is outside the claim that a stream equals
//! the batch query.
//!
//! Invariant: rows come out in the order they came; a key is asked for once a batch, and all rows of a batch that have it
//! see the same answer.

mod cache;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, RecordBatch, UInt32Array, new_null_array},
    compute::{filter_record_batch, interleave, take_record_batch},
    datatypes::{Schema, SchemaRef},
};
use datafusion::physical_expr::PhysicalExpr;
use futures::future::BoxFuture;

use self::cache::{Cache, Found};
use crate::{
    connector::{ChangelogMode, KeyedTable},
    error::{Error, Result},
    graph::Step,
    message::ChangeBatch,
    operator::{Observation, Operator, OperatorContext, OperatorFactory, Output, Progress},
    operators::{
        groups::mask,
        keys::{Key, KeyEncoder},
        lookup::{append_only, check_condition, joined_schema, key_columns, paired},
    },
    runtime::{evaluate_all, exchange::take_changes},
    time::Instant,
};

/// What is asked of a table, and what is made of its rows.
#[derive(Debug, Clone)]
pub struct AskedTable {
    /// The table.
    pub table: Arc<dyn KeyedTable>,
    /// The columns it is asked for.
    pub columns: SchemaRef,
    /// What is done with its rows before they are joined.
    pub steps: Vec<Step>,
    /// The rows then.
    pub schema: SchemaRef,
    /// Names of the key columns as the table has them, in the order of the join's keys; those without one are compared
    /// only.
    pub key_names: Vec<Option<String>>,
}

/// A lookup join by key. Output: the stream's columns, then the table's.
#[derive(Debug, Clone)]
pub struct KeyedLookup {
    asked: AskedTable,
    keys: [Vec<usize>; 2],
    keeps_unmatched: bool,
    residual: Option<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
}

impl KeyedLookup {
    /// A join of rows of `input` with a table on equal keys (`[stream's, table's]`); `keeps_unmatched` for LEFT JOIN.
    pub fn new(asked: AskedTable, input: &SchemaRef, keys: [Vec<usize>; 2], keeps_unmatched: bool) -> Self {
        let schema = joined_schema(&[Arc::clone(input), Arc::clone(&asked.schema)], keeps_unmatched);
        Self { asked, keys, keeps_unmatched, residual: None, schema }
    }

    /// Adds a further condition over the joined columns; for inner joins only.
    pub fn with_condition(mut self, condition: Arc<dyn PhysicalExpr>) -> Result<Self> {
        check_condition(self.keeps_unmatched)?;
        self.residual = Some(condition);
        Ok(self)
    }
}

impl OperatorFactory for KeyedLookup {
    fn name(&self) -> &'static str {
        "lookup-join"
    }

    fn describe(&self) -> String {
        let names: Vec<&str> = self.asked.key_names.iter().flatten().map(String::as_str).collect();
        format!("{} by {}, cache {:?}", self.asked.table, names.join(", "), self.asked.table.cache())
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

    fn create(&self, context: &OperatorContext) -> Result<Box<dyn Operator>> {
        let types = self.keys[1].iter().map(|index| self.asked.schema.field(*index).data_type().clone());
        let encoder = KeyEncoder::new(types)?;
        let cache = Cache::new(self.asked.table.cache(), context.memory.lease());
        Ok(Box::new(Asking { spec: self.clone(), encoder, cache, waiting: None, now: Instant(i64::MIN) }))
    }
}

#[derive(Debug)]
struct Asking {
    spec: KeyedLookup,
    encoder: KeyEncoder,
    cache: Cache,
    waiting: Option<Waiting>,
    now: Instant,
}

/// A batch on its way through.
#[derive(Debug)]
struct Waiting {
    changes: ChangeBatch,
    /// The key of each row, unless one of its columns is NULL.
    keys: Vec<Option<Key>>,
    found: HashMap<Key, Found>,
    /// Keys to ask for, and a row that has each.
    unknown: Vec<(Key, u32)>,
}

impl Asking {
    fn taken(&mut self, changes: ChangeBatch) -> Result<Waiting> {
        let columns = key_columns(&changes.rows, &self.spec.keys[0]);
        let keys = self.encoder.encode(&columns, changes.num_rows())?;
        let is_known = |row: usize| columns.iter().all(|column| column.is_valid(row));
        let keys = keys.into_iter().enumerate().map(|(row, key)| is_known(row).then_some(key)).collect();
        let mut waiting = Waiting { changes, keys, found: HashMap::new(), unknown: Vec::new() };
        let mut seen = std::collections::HashSet::new();
        for (row, key) in waiting.keys.iter().enumerate() {
            let Some(key) = key.as_ref().filter(|key| seen.insert(*key)) else { continue };
            match self.cache.get(key, self.now) {
                Some(found) => drop(waiting.found.insert(key.clone(), found)),
                None => waiting.unknown.push((key.clone(), row as u32)),
            }
        }
        Ok(waiting)
    }

    /// Asks for what is not known, and keeps the answer.
    async fn ask(&mut self) -> Result<()> {
        let Some(waiting) = &mut self.waiting else { return Ok(()) };
        let spec = &self.spec;
        let rows = UInt32Array::from_iter_values(waiting.unknown.iter().map(|(_, row)| *row));
        let named = spec.asked.key_names.iter().zip(&spec.keys[0]);
        let (mut fields, mut places) = (Vec::new(), Vec::new());
        for (name, place) in named {
            let Some(name) = name else { continue };
            fields.push(waiting.changes.rows.schema().field(*place).clone().with_name(name));
            places.push(*place);
        }
        let keys = take_record_batch(&waiting.changes.rows.project(&places)?, &rows)?;
        let keys = RecordBatch::try_new(Arc::new(Schema::new(fields)), keys.columns().to_vec())?;
        let answer = stepped(spec.asked.table.rows(&keys, &spec.asked.columns).await?, &spec.asked.steps)?;
        let mut of_key: HashMap<Key, Vec<u32>> = HashMap::new();
        let columns = key_columns(&answer, &spec.keys[1]);
        for (row, key) in self.encoder.encode(&columns, answer.num_rows())?.into_iter().enumerate() {
            of_key.entry(key).or_default().push(row as u32);
        }
        for (key, _) in waiting.unknown.drain(..) {
            let rows = UInt32Array::from(of_key.remove(&key).unwrap_or_default());
            let found: Found = Arc::new(take_record_batch(&answer, &rows)?);
            self.cache.put(key.clone(), &found, self.now);
            waiting.found.insert(key, found);
        }
        Ok(())
    }

    fn join(&self, waiting: &Waiting) -> Result<ChangeBatch> {
        let spec = &self.spec;
        let mut batches: Vec<&RecordBatch> = Vec::new();
        let mut batch_of: HashMap<&Key, usize> = HashMap::new();
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for (row, key) in waiting.keys.iter().enumerate() {
            let found = key.as_ref().and_then(|key| Some((key, waiting.found.get(key)?)));
            match found.filter(|(_, found)| found.num_rows() > 0) {
                Some((key, found)) => {
                    // Place 0 is the row of NULLs.
                    let batch = *batch_of.entry(key).or_insert_with(|| {
                        batches.push(found);
                        batches.len()
                    });
                    left.extend(std::iter::repeat_n(row as u32, found.num_rows()));
                    right.extend((0..found.num_rows()).map(|other| (batch, other)));
                }
                None if spec.keeps_unmatched => {
                    left.push(row as u32);
                    right.push((0, 0));
                }
                None => {}
            }
        }
        let taken = take_changes(&waiting.changes, &UInt32Array::from(left))?;
        let column = |index: usize| -> Result<ArrayRef> {
            let nulls = new_null_array(spec.asked.schema.field(index).data_type(), 1);
            let mut all: Vec<&dyn Array> = vec![nulls.as_ref()];
            all.extend(batches.iter().map(|batch| batch.column(index).as_ref()));
            Ok(interleave(&all, &right)?)
        };
        let looked_up = (0..spec.asked.schema.fields().len()).map(column).collect::<Result<Vec<_>>>()?;
        paired(&spec.schema, spec.residual.as_ref(), taken, looked_up)
    }
}

/// The table's rows as the join's plan has them.
fn stepped(mut rows: RecordBatch, steps: &[Step]) -> Result<RecordBatch> {
    for step in steps {
        rows = match step {
            Step::Filter(expr) => {
                let kept = expr.evaluate(&rows)?.into_array(rows.num_rows())?;
                filter_record_batch(&rows, &mask(&kept)?)?
            }
            Step::Project(projection) => evaluate_all(projection, &rows)?,
        };
    }
    Ok(rows)
}

impl Operator for Asking {
    fn between_calls<'a>(&'a mut self, now: Instant) -> Option<BoxFuture<'a, Result<()>>> {
        self.now = now;
        let asks = self.waiting.as_ref().is_some_and(|waiting| !waiting.unknown.is_empty());
        if asks { Some(Box::pin(self.ask())) } else { None }
    }

    fn on_changes(&mut self, _: usize, changes: ChangeBatch, out: &mut Output) -> Result<Progress> {
        let waiting = self.taken(changes)?;
        if waiting.unknown.is_empty() {
            out.emit(self.join(&waiting)?);
            return Ok(Progress::Done);
        }
        self.waiting = Some(waiting);
        Ok(Progress::More)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        let waiting = self.waiting.take().filter(|waiting| waiting.unknown.is_empty());
        let waiting = waiting.ok_or_else(|| Error::internal("rows go on before their keys were asked for"))?;
        out.emit(self.join(&waiting)?);
        Ok(Progress::Done)
    }

    fn observe(&self) -> Observation {
        Observation {
            state_bytes: self.cache.bytes() as u64,
            state_rows: self.cache.rows() as u64,
            ..Observation::default()
        }
    }
}
