//! Join with a table that is looked up: each row gets what the table holds when it passes.
//!
//! The table is read whole into memory, once for all tasks, and again once `refresh` has passed. It is no state: a restart
//! reads it anew, and what it held is outside the claim that a stream equals the batch query.
//!
//! Invariant: rows come out in the order they came; one that matches several rows of the table comes out once for each. No
//! more of a table is read than the limit of memory lets be held.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use arrow::{
    array::{ArrayRef, RecordBatch, UInt32Array},
    compute::{concat_batches, take},
    datatypes::{Field, Schema, SchemaRef},
};
use async_trait::async_trait;
use datafusion::physical_expr::PhysicalExpr;
use futures::{StreamExt, future::BoxFuture, stream::BoxStream};
use tokio::sync::Mutex;

use crate::{
    connector::ChangelogMode,
    error::{Error, ErrorKind, Result},
    memory::{MemoryBudget, MemoryLease},
    message::{ChangeBatch, batch_bytes},
    operator::{Observation, Operator, OperatorContext, OperatorFactory, Output, Progress},
    operators::{
        groups::{batch_of, mask},
        keys::{Key, KeyEncoder},
    },
    runtime::{exchange::take_changes, filter_changes},
    time::Instant,
};

/// A table small enough to be held in memory.
#[async_trait]
pub trait LookupTable: fmt::Debug + Send + Sync {
    /// All rows as they are now, with the columns of the schema the join was made with.
    async fn read(&self) -> Result<BoxStream<'static, Result<RecordBatch>>>;
}

/// A lookup join. Output: the stream's columns, then the table's.
#[derive(Debug, Clone)]
pub struct Lookup {
    table: Arc<dyn LookupTable>,
    table_schema: SchemaRef,
    keys: [Vec<usize>; 2],
    keeps_unmatched: bool,
    residual: Option<Arc<dyn PhysicalExpr>>,
    refresh: Option<Duration>,
    schema: SchemaRef,
    /// What the tasks look rows up in, while any of them holds it.
    held: Arc<Mutex<Weak<Held>>>,
}

/// Rows of a lookup table that are held at most.
const TABLE_ROWS: usize = 50_000_000;
/// Bytes a row takes beside its columns, in the map of keys.
const ROW_BYTES: usize = 80;
/// Bytes a table may always take.
const TABLE_BYTES_MIN: usize = 1 << 20;

impl Lookup {
    /// A join of rows of `input` with a table on equal keys (`[stream's, table's]`); `keeps_unmatched` for LEFT JOIN.
    pub fn new(
        table: Arc<dyn LookupTable>,
        schemas: [SchemaRef; 2],
        keys: [Vec<usize>; 2],
        keeps_unmatched: bool,
        refresh: Option<Duration>,
    ) -> Self {
        let schema = joined_schema(&schemas, keeps_unmatched);
        let [_, table_schema] = schemas;
        let held = Arc::default();
        Self { table, table_schema, keys, keeps_unmatched, residual: None, refresh, schema, held }
    }

    /// Adds a further condition over the joined columns.
    #[must_use]
    pub fn with_condition(mut self, condition: Arc<dyn PhysicalExpr>) -> Self {
        self.residual = Some(condition);
        self
    }
}

impl OperatorFactory for Lookup {
    fn name(&self) -> &'static str {
        "lookup-join"
    }

    fn describe(&self) -> String {
        format!("{:?} = {:?}, read again {:?}", self.keys[0], self.keys[1], self.refresh)
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
        let types = self.keys[1].iter().map(|index| self.table_schema.field(*index).data_type().clone());
        let keys = KeyEncoder::new(types)?;
        Ok(Box::new(Looking {
            spec: self.clone(),
            keys,
            held: None,
            name: context.name.clone(),
            task: context.task,
            memory: context.memory.clone(),
        }))
    }
}

/// A table as it was when it was read.
#[derive(Debug)]
struct Held {
    rows: RecordBatch,
    by_key: HashMap<Key, Vec<u32>>,
    read_at: Instant,
    _lease: MemoryLease,
}

impl Held {
    fn is_old(&self, refresh: Option<Duration>, now: Instant) -> bool {
        refresh.is_some_and(|refresh| now.since(self.read_at) >= refresh)
    }
}

#[derive(Debug)]
struct Looking {
    spec: Lookup,
    keys: KeyEncoder,
    held: Option<Arc<Held>>,
    name: String,
    task: usize,
    memory: MemoryBudget,
}

impl Looking {
    fn is_due(&self, now: Instant) -> bool {
        self.held.as_ref().is_none_or(|held| held.is_old(self.spec.refresh, now))
    }

    /// The rows of pairs: columns of the input, then of the table.
    fn joined(&self, changes: &ChangeBatch, pairs: &[(u32, Option<u32>)]) -> Result<ChangeBatch> {
        let table = &self.held()?.rows;
        let taken = take_changes(changes, &UInt32Array::from_iter_values(pairs.iter().map(|pair| pair.0)))?;
        let right: UInt32Array = pairs.iter().map(|pair| pair.1).collect();
        let looked_up =
            table.columns().iter().map(|column| take(column, &right, None)).collect::<Result<Vec<_>, _>>()?;
        let columns = taken.rows.columns().iter().cloned().chain(looked_up).collect();
        let rows = batch_of(&self.spec.schema, columns, taken.rows.num_rows())?;
        Ok(taken.in_columns(rows))
    }

    fn held(&self) -> Result<&Held> {
        self.held.as_deref().ok_or_else(unread)
    }

    /// Counts rows against the memory of the job; a table is held whole or not at all.
    fn weigh(&self, lease: &mut MemoryLease, bytes: usize, rows: usize) -> Result<()> {
        if rows > TABLE_ROWS {
            let message = format!("a lookup table of more than {TABLE_ROWS} rows, which is what is held at most");
            return Err(Error::not_supported(message).with_hint("join it as a stream"));
        }
        let bytes = bytes + rows * ROW_BYTES;
        lease.resize(bytes);
        let limit = self.memory.limit();
        if bytes <= limit.max(TABLE_BYTES_MIN) {
            return Ok(());
        }
        Err(self.too_large())
    }

    fn too_large(&self) -> Error {
        let limit = self.memory.limit();
        let message =
            format!("operator \"{}\": the lookup table takes more than memory.limit ({limit} bytes)", self.name);
        let hint =
            "raise memory.limit, look up fewer columns and rows, or join it as a stream with 'source.monitor-interval'";
        Error::user("EXCEEDED_LOCAL_MEMORY_LIMIT", message).with_hint(hint)
    }

    /// Reading the table again would come to the same limit again.
    fn while_reading(&self, error: Error) -> Error {
        if error.kind() == ErrorKind::Limit { self.too_large() } else { error }
    }

    /// Takes what another task has read, or reads the table for all of them.
    async fn load(&mut self, now: Instant) -> Result<()> {
        let slot = Arc::clone(&self.spec.held);
        let mut slot = slot.lock().await;
        let known = slot.upgrade().filter(|held| !held.is_old(self.spec.refresh, now));
        let held = match known {
            Some(held) => held,
            None => Arc::new(self.read(now).await?),
        };
        *slot = Arc::downgrade(&held);
        self.held = Some(held);
        Ok(())
    }

    async fn read(&mut self, now: Instant) -> Result<Held> {
        let mut lease = self.memory.lease();
        let (mut batches, mut bytes, mut count) = (Vec::new(), 0, 0);
        let mut table = self.spec.table.read().await.map_err(|error| self.while_reading(error))?;
        while let Some(batch) = table.next().await {
            let batch = batch.map_err(|error| self.while_reading(error))?;
            (bytes, count) = (bytes + batch_bytes(&batch), count + batch.num_rows());
            self.weigh(&mut lease, bytes, count)?;
            batches.push(batch);
        }
        drop(table);
        // Both are held while one is made of the other.
        lease.resize(lease.bytes() + bytes);
        let rows = concat_batches(&self.spec.table_schema, &batches)?;
        drop(batches);
        self.weigh(&mut lease, rows.get_array_memory_size(), count)?;
        let columns = key_columns(&rows, &self.spec.keys[1]);
        let mut by_key: HashMap<Key, Vec<u32>> = HashMap::new();
        for (row, key) in self.keys.encode(&columns, rows.num_rows())?.into_iter().enumerate() {
            if columns.iter().all(|column| column.is_valid(row)) {
                by_key.entry(key).or_default().push(row as u32);
            }
        }
        Ok(Held { rows, by_key, read_at: now, _lease: lease })
    }
}

fn unread() -> Error {
    Error::internal("the lookup table has not been read")
}

/// The stream's columns, then the table's, which may be NULL where rows without a match stay.
pub(super) fn joined_schema([input, table]: &[SchemaRef; 2], keeps_unmatched: bool) -> SchemaRef {
    let padded =
        |field: &Arc<Field>| Arc::new(field.as_ref().clone().with_nullable(keeps_unmatched || field.is_nullable()));
    let fields = input.fields().iter().cloned().chain(table.fields().iter().map(padded));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// What a lookup join emits; rows that are updated later would have to find what they found before.
pub(super) fn append_only(inputs: &[ChangelogMode]) -> Result<ChangelogMode> {
    match inputs.iter().copied().max().unwrap_or(ChangelogMode::Append) {
        ChangelogMode::Append => Ok(ChangelogMode::Append),
        ChangelogMode::Upsert | ChangelogMode::Retract => {
            Err(Error::not_supported("a lookup join of rows that are updated later")
                .with_hint("look the values up before aggregating"))
        }
    }
}

/// A condition beside equal keys cannot decide whether a row of a LEFT join has a match.
pub(super) fn check_condition(keeps_unmatched: bool) -> Result<()> {
    match keeps_unmatched {
        false => Ok(()),
        true => Err(Error::not_supported("a LEFT lookup join with a condition beside equal keys")
            .with_hint("filter the table in a subquery, or use an inner join")),
    }
}

/// Rows of the stream beside what they found, those that meet a condition.
pub(super) fn paired(
    schema: &SchemaRef,
    residual: Option<&Arc<dyn PhysicalExpr>>,
    taken: ChangeBatch,
    looked_up: Vec<ArrayRef>,
) -> Result<ChangeBatch> {
    let columns = taken.rows.columns().iter().cloned().chain(looked_up).collect();
    let rows = batch_of(schema, columns, taken.rows.num_rows())?;
    let joined = taken.in_columns(rows);
    let Some(residual) = residual else { return Ok(joined) };
    let kept = residual.evaluate(&joined.rows)?.into_array(joined.num_rows())?;
    filter_changes(&joined, &mask(&kept)?)
}

/// Pairs in the order of their rows, and rows of which there is no pair with no partner.
fn with_unmatched(pairs: &[(u32, Option<u32>)], rows: u32) -> Vec<(u32, Option<u32>)> {
    let mut all = Vec::with_capacity(pairs.len().max(rows as usize));
    let mut pairs = pairs.iter().copied().peekable();
    for row in 0..rows {
        let before = all.len();
        while let Some(pair) = pairs.next_if(|pair| pair.0 == row) {
            all.push(pair);
        }
        if all.len() == before {
            all.push((row, None));
        }
    }
    all
}

pub(super) fn key_columns(rows: &RecordBatch, indexes: &[usize]) -> Vec<ArrayRef> {
    indexes.iter().map(|index| Arc::clone(rows.column(*index))).collect()
}

impl Operator for Looking {
    fn between_calls<'a>(&'a mut self, now: Instant) -> Option<BoxFuture<'a, Result<()>>> {
        if self.is_due(now) { Some(Box::pin(self.load(now))) } else { None }
    }

    fn on_changes(&mut self, _: usize, changes: ChangeBatch, out: &mut Output) -> Result<Progress> {
        let columns = key_columns(&changes.rows, &self.spec.keys[0]);
        let held = self.held.clone().ok_or_else(unread)?;
        let mut pairs: Vec<(u32, Option<u32>)> = Vec::new();
        for (row, key) in self.keys.encode(&columns, changes.num_rows())?.into_iter().enumerate() {
            let known = columns.iter().all(|column| column.is_valid(row));
            let matches = held.by_key.get(&key).filter(|_| known);
            pairs.extend(matches.into_iter().flatten().map(|other| (row as u32, Some(*other))));
        }
        if let Some(residual) = &self.spec.residual {
            let joined = self.joined(&changes, &pairs)?;
            let kept = mask(&residual.evaluate(&joined.rows)?.into_array(joined.num_rows())?)?;
            pairs = pairs.into_iter().enumerate().filter(|(pair, _)| kept.value(*pair)).map(|(_, pair)| pair).collect();
        }
        if self.spec.keeps_unmatched {
            pairs = with_unmatched(&pairs, changes.num_rows() as u32);
        }
        out.emit(self.joined(&changes, &pairs)?);
        Ok(Progress::Done)
    }

    fn observe(&self) -> Observation {
        // One task speaks for the table that all of them look rows up in.
        let rows = self.held.as_ref().filter(|_| self.task == 0).map(|held| &held.rows);
        Observation {
            state_bytes: rows.map_or(0, RecordBatch::get_array_memory_size) as u64,
            state_rows: rows.map_or(0, RecordBatch::num_rows) as u64,
            ..Observation::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::{
        array::{Array, AsArray, Int64Array},
        datatypes::{DataType, Int64Type},
    };
    use std::sync::atomic::{AtomicI64, Ordering};

    #[derive(Debug, Default)]
    struct Names(AtomicI64);

    fn schema(names: [&str; 2]) -> SchemaRef {
        Arc::new(Schema::new(names.map(|name| Field::new(name, DataType::Int64, true)).to_vec()))
    }

    fn rows(names: [&str; 2], columns: [Vec<Option<i64>>; 2]) -> RecordBatch {
        let columns = columns.map(|column| Arc::new(Int64Array::from(column)) as ArrayRef);
        RecordBatch::try_new(schema(names), columns.to_vec()).unwrap()
    }

    #[async_trait]
    impl LookupTable for Names {
        async fn read(&self) -> Result<BoxStream<'static, Result<RecordBatch>>> {
            let reads = self.0.fetch_add(1, Ordering::Relaxed);
            let keys = vec![Some(1), Some(1), None];
            let batch = rows(["id", "name"], [keys, vec![Some(10 + reads), Some(20 + reads), Some(30)]]);
            Ok(futures::stream::iter([Ok(batch)]).boxed())
        }
    }

    /// A table that does not end.
    #[derive(Debug)]
    struct Endless;

    #[async_trait]
    impl LookupTable for Endless {
        async fn read(&self) -> Result<BoxStream<'static, Result<RecordBatch>>> {
            let batch = || rows(["id", "name"], [vec![Some(1); 1000], vec![Some(2); 1000]]);
            Ok(futures::stream::repeat_with(move || Ok(batch())).boxed())
        }
    }

    /// A table whose plan has no memory: an aggregate of a subquery that is looked up.
    #[derive(Debug)]
    struct Starved;

    #[async_trait]
    impl LookupTable for Starved {
        async fn read(&self) -> Result<BoxStream<'static, Result<RecordBatch>>> {
            let error = || Error::new(ErrorKind::Limit, "EXCEEDED_MEMORY_LIMIT", "no memory for an aggregate");
            Ok(futures::stream::repeat_with(move || Err(error())).boxed())
        }
    }

    fn context(task: usize, memory: MemoryBudget) -> OperatorContext {
        OperatorContext { task, tasks: 2, memory, ..OperatorContext::alone(0) }
    }

    async fn joined(operator: &mut Box<dyn Operator>, now: i64) -> Vec<(Option<i64>, Option<i64>)> {
        if let Some(work) = operator.between_calls(Instant(now)) {
            work.await.unwrap();
        }
        let input = rows(["k", "v"], [vec![Some(1), Some(2), None], vec![Some(0); 3]]);
        let mut out = Output::default();
        let _ = operator.on_changes(0, ChangeBatch::inserts(input), &mut out).unwrap();
        let rows = out.next_changes().unwrap().rows;
        let number = |column: usize, row| {
            let column = rows.column(column).as_primitive::<Int64Type>();
            column.is_valid(row).then(|| column.value(row))
        };
        (0..rows.num_rows()).map(|row| (number(0, row), number(3, row))).collect()
    }

    #[tokio::test]
    async fn a_left_lookup_pads_what_is_unknown_and_reads_again_when_due() {
        let schemas = [schema(["k", "v"]), schema(["id", "name"])];
        let refresh = Some(Duration::from_secs(1));
        let lookup = Lookup::new(Arc::new(Names::default()), schemas, [vec![0], vec![0]], true, refresh);
        let mut operator = lookup.create(&OperatorContext::alone(1 << 20)).unwrap();
        let first = [(Some(1), Some(10)), (Some(1), Some(20)), (Some(2), None), (None, None)];
        assert_eq!(joined(&mut operator, 0).await, first);
        assert_eq!(joined(&mut operator, 999).await, first);
        assert_eq!(joined(&mut operator, 1000).await[0], (Some(1), Some(11)));
    }

    #[tokio::test]
    async fn a_table_is_read_once_for_all_tasks_and_given_back_with_the_last() {
        let (names, memory) = (Arc::new(Names::default()), MemoryBudget::new(1 << 20));
        let schemas = || [schema(["k", "v"]), schema(["id", "name"])];
        let refresh = Some(Duration::from_secs(1));
        let lookup = Lookup::new(Arc::clone(&names) as _, schemas(), [vec![0], vec![0]], false, refresh);
        let mut tasks = [0, 1].map(|task| lookup.create(&context(task, memory.clone())).unwrap());
        for now in [0, 999] {
            for task in &mut tasks {
                assert_eq!(joined(task, now).await, [(Some(1), Some(10)), (Some(1), Some(20))]);
            }
        }
        let held = memory.used();
        assert!(held > 0 && tasks[0].observe().state_rows == 3 && tasks[1].observe().state_rows == 0);
        assert_eq!(joined(&mut tasks[1], 1000).await[0], (Some(1), Some(11)));
        assert_eq!(memory.used(), 2 * held, "one task has the old rows still");
        assert_eq!(joined(&mut tasks[0], 1001).await[0], (Some(1), Some(11)));
        assert_eq!((memory.used(), names.0.load(Ordering::Relaxed)), (held, 2));
        drop(tasks);
        assert_eq!(memory.used(), 0);
        let mut again = lookup.create(&context(0, memory.clone())).unwrap();
        assert_eq!(joined(&mut again, 1002).await[0], (Some(1), Some(12)), "a restart reads it anew");
    }

    #[tokio::test]
    async fn a_table_over_the_limit_is_not_read_to_its_end_and_not_tried_again() {
        for table in [Arc::new(Endless) as Arc<dyn LookupTable>, Arc::new(Starved)] {
            let memory = MemoryBudget::new(2 << 20);
            let schemas = [schema(["k", "v"]), schema(["id", "name"])];
            let lookup = Lookup::new(table, schemas, [vec![0], vec![0]], false, None);
            let mut operator = lookup.create(&context(0, memory.clone())).unwrap();
            let error = operator.between_calls(Instant(0)).unwrap().await.unwrap_err();
            assert_eq!((error.code().0, error.kind()), ("EXCEEDED_LOCAL_MEMORY_LIMIT", ErrorKind::User));
            assert_eq!(memory.used(), 0);
        }
    }
}
