//! A whole statement that writes: plan in, committed files out.
//!
//! Invariant: whatever fails or is cancelled before the commit, nothing of the statement is left or seen.

use std::sync::Arc;

use arrow::{
    datatypes::{Field, Schema, SchemaRef},
    record_batch::RecordBatch,
};
use datafusion::{
    error::DataFusionError,
    execution::{
        SendableRecordBatchStream, TaskContext,
        memory_pool::{FairSpillPool, MemoryLimit},
        runtime_env::RuntimeEnvBuilder,
    },
    physical_expr::{LexOrdering, PhysicalSortExpr, expressions::Column},
    physical_plan::{
        ExecutionPlan, ExecutionPlanProperties, Partitioning, PhysicalExpr,
        repartition::RepartitionExec,
        sorts::sort::SortExec,
        stream::RecordBatchStreamAdapter,
        streaming::{PartitionStream, StreamingTableExec},
    },
};
use futures::{StreamExt, TryStreamExt};
use headwater_engine::{
    catalog::{Partition, Table, TableName},
    error::{Error, Result},
};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::{
    Limits, WriteFormat,
    files::{Job, TaskFiles, Written},
    partition::{Layout, Values},
};
use crate::lake::{
    commit::{
        Effect, Partitions, StatementKind, Transaction,
        transaction::{Ending, Site, visible_files},
    },
    stats::ScanStats,
};

/// What a statement does to the files that are there.
#[derive(Debug, Clone)]
pub enum Mode {
    /// They stay.
    Append,
    /// Those of the partitions written are replaced; of a table without partitions, all.
    Overwrite {
        /// Partitions that are replaced even if no row is written to them.
        also: Vec<Values>,
    },
    /// There must be none.
    CreateNew {
        /// The table to create, for `CREATE TABLE AS`.
        table: Option<Box<Table>>,
    },
}

/// Where and how a statement writes.
#[derive(Debug, Clone)]
pub struct WriteTarget {
    /// Store, folder and catalog.
    pub site: Site,
    /// The folder as users write it, for messages.
    pub location: String,
    /// Format of the files.
    pub format: WriteFormat,
    /// Partition keys and known partitions.
    pub layout: Layout,
    /// Table whose new partitions are registered.
    pub register: Option<TableName>,
    /// Bounds.
    pub limits: Limits,
    /// Counters of the statement.
    pub stats: Arc<ScanStats>,
    /// What an error of the plan means to a user.
    pub explain: fn(DataFusionError) -> Error,
}

/// Runs `plan`, whose columns are those of the files followed by the partition keys, and commits its rows.
pub async fn write_statement(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    target: WriteTarget,
    mode: Mode,
) -> Result<Ending> {
    if let Mode::CreateNew { .. } = mode {
        expect_empty(&target.site, &target.location).await?;
    }
    let kind = if matches!(mode, Mode::Append) { StatementKind::Append } else { StatementKind::Exclusive };
    let transaction = Transaction::begin(target.site.clone(), kind).await?.counted(target.stats.clone());
    let transaction = Arc::new(transaction);
    let written = write_all(plan, context, &target, transaction.clone()).await;
    let Some(transaction) = Arc::into_inner(transaction) else {
        return Err(Error::internal("a task of the statement goes on after its end"));
    };
    match written {
        Ok(written) => commit(transaction, written, target, mode).await,
        Err(error) => {
            // What cannot be undone now is undone by the next statement.
            let _ = transaction.roll_back().await;
            Err(error)
        }
    }
}

async fn write_all(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    target: &WriteTarget,
    transaction: Arc<Transaction>,
) -> Result<Written> {
    let columns = plan.schema().fields().len();
    let keys: Vec<usize> = (columns - target.layout.keys.len()..columns).collect();
    let schema = file_schema(&plan.schema(), columns - keys.len());
    let plan = gather_partitions(plan, &keys)?;
    let tasks = plan.output_partitioning().partition_count();
    let memory_bytes = target.limits.memory_bytes / 2 / tasks;
    // Every open file has a compressor; half of the memory is left for the rows.
    let compressors = memory_bytes / 2 / target.format.codec().memory_bytes().max(1);
    let limits = Limits {
        open_files: (target.limits.open_files / tasks).min(compressors).max(1),
        memory_bytes,
        ..target.limits
    };
    let format = target.format.clone();
    let job = Arc::new(Job { transaction, format, schema, layout: target.layout.clone(), limits });
    let sorting = sort_context(&context, target.limits.memory_bytes / 2, tasks)?;
    let mut running = JoinSet::new();
    for task in 0..tasks {
        let rows = plan.execute(task, context.clone())?;
        let task = Task { rows, keys: keys.clone(), context: sorting.clone(), explain: target.explain };
        running.spawn(write_task(task, job.clone()));
    }
    drop(job);
    let mut all = Written::default();
    let mut failed = None;
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok(Ok(written)) => {
                all.files.extend(written.files);
                all.partitions.extend(written.partitions);
                all.rows += written.rows;
            }
            Ok(Err(error)) => {
                running.abort_all();
                failed.get_or_insert(error);
            }
            Err(error) if error.is_cancelled() => {}
            Err(error) => {
                running.abort_all();
                failed.get_or_insert(Error::internal(format!("a task of the statement failed: {error}")));
            }
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    all.partitions.sort();
    all.partitions.dedup();
    all.files.sort_by(|a, b| a.target.cmp(&b.target));
    Ok(all)
}

/// The columns of the files: plain names and types, all nullable, so that any reader sees the table's types.
fn file_schema(plan: &Schema, columns: usize) -> SchemaRef {
    let plain = |index| Field::new(plan.field(index).name(), plan.field(index).data_type().clone(), true);
    Arc::new(Schema::new((0..columns).map(plain).collect::<Vec<_>>()))
}

/// All rows of a Hive partition in one task, so that there are no more files than needed.
fn gather_partitions(plan: Arc<dyn ExecutionPlan>, keys: &[usize]) -> Result<Arc<dyn ExecutionPlan>> {
    let tasks = plan.output_partitioning().partition_count();
    if keys.is_empty() || tasks == 1 {
        return Ok(plan);
    }
    let by = Partitioning::Hash(keys.iter().map(|key| column(&plan.schema(), *key)).collect(), tasks);
    Ok(Arc::new(RepartitionExec::try_new(plan, by)?))
}

fn column(schema: &SchemaRef, index: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(schema.field(index).name(), index))
}

struct Task {
    rows: SendableRecordBatchStream,
    keys: Vec<usize>,
    context: Arc<TaskContext>,
    explain: fn(DataFusionError) -> Error,
}

async fn write_task(task: Task, job: Arc<Job>) -> Result<Written> {
    let Task { mut rows, keys, context, explain } = task;
    let mut files = TaskFiles::new(job.clone());
    while let Some(batch) = rows.try_next().await.map_err(explain)? {
        let groups = job.layout.deal(&batch)?;
        if files.is_full_with(&groups) {
            let mut sorted = sort(batch, rows, &keys, &context)?;
            while let Some(batch) = sorted.try_next().await.map_err(explain)? {
                write_in_order(&batch, &job, &mut files).await?;
            }
            break;
        }
        for (values, rows) in &groups {
            files.write(values, rows).await?;
        }
    }
    files.finish().await
}

/// Rows in the order of their partitions: the files of all but the last one are ended.
async fn write_in_order(batch: &RecordBatch, job: &Job, files: &mut TaskFiles) -> Result<()> {
    let groups = job.layout.deal(batch)?;
    for (index, (values, rows)) in groups.iter().enumerate() {
        files.write(values, rows).await?;
        if index + 1 < groups.len() {
            files.close(values).await?;
        } else {
            files.close_others(values).await?;
        }
    }
    Ok(())
}

#[derive(Debug)]
struct Rest {
    schema: SchemaRef,
    rows: Mutex<Option<RowStream>>,
}

struct RowStream(SendableRecordBatchStream);

impl std::fmt::Debug for RowStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RowStream")
    }
}

impl PartitionStream for Rest {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        match self.rows.lock().take() {
            Some(RowStream(rows)) => rows,
            None => {
                let error = DataFusionError::Internal("rows that are sorted are read once".into());
                let failed = futures::stream::once(async { Err(error) });
                Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), failed))
            }
        }
    }
}

/// The rest of a task's rows in the order of their partitions, spilled to disk beyond the budget.
fn sort(
    first: RecordBatch,
    rest: SendableRecordBatchStream,
    keys: &[usize],
    context: &Arc<TaskContext>,
) -> Result<SendableRecordBatchStream> {
    let schema = rest.schema();
    let rows = futures::stream::once(async move { Ok(first) }).chain(rest);
    let rows = RowStream(Box::pin(RecordBatchStreamAdapter::new(schema.clone(), rows)));
    let rest = Arc::new(Rest { schema: schema.clone(), rows: Mutex::new(Some(rows)) });
    let input = StreamingTableExec::try_new(schema.clone(), vec![rest], None, Vec::new(), false, None)?;
    let by = keys.iter().map(|key| PhysicalSortExpr::new_default(column(&schema, *key)));
    let by = LexOrdering::new(by).ok_or_else(|| Error::internal("a sort without partition keys"))?;
    Ok(SortExec::new(by, Arc::new(input)).execute(0, context.clone())?)
}

/// The statement's context with memory for sorts bounded, unless the session bounds it already.
fn sort_context(context: &Arc<TaskContext>, memory_bytes: usize, tasks: usize) -> Result<Arc<TaskContext>> {
    let runtime = context.runtime_env();
    let mut config = context.session_config().clone();
    let reserved = &mut config.options_mut().execution.sort_spill_reservation_bytes;
    *reserved = (*reserved).min(memory_bytes / tasks / 4);
    if let MemoryLimit::Finite(_) = runtime.memory_pool.memory_limit() {
        return Ok(context.clone());
    }
    let pool = Arc::new(FairSpillPool::new(memory_bytes));
    let runtime = RuntimeEnvBuilder::from_runtime_env(&runtime).with_memory_pool(pool).build()?;
    let context = TaskContext::new(
        context.task_id(),
        context.session_id(),
        config,
        context.scalar_functions().clone(),
        context.higher_order_functions().clone(),
        context.aggregate_functions().clone(),
        context.window_functions().clone(),
        Arc::new(runtime),
    );
    Ok(Arc::new(context))
}

async fn commit(transaction: Transaction, written: Written, target: WriteTarget, mode: Mode) -> Result<Ending> {
    let WriteTarget { location, layout, register, .. } = target;
    let partitions = new_partitions(&layout, &written.partitions);
    let mut effect = Effect { files: written.files, rows: written.rows, ..Effect::default() };
    if let Some(table) = register.filter(|_| !partitions.is_empty()) {
        effect.partitions = Some(Partitions { table, added: partitions });
    }
    match mode {
        Mode::Append => transaction.commit(effect).await,
        Mode::CreateNew { table } => {
            effect.creates = table;
            let prepare = async move |site: &Site| {
                expect_empty(site, &location).await?;
                Ok(effect)
            };
            transaction.commit_exclusive(prepare).await
        }
        Mode::Overwrite { also } => {
            let replaced: Vec<Values> = written.partitions.into_iter().chain(also).collect();
            let mut folders: Vec<String> = replaced.iter().flat_map(|values| layout.folders(values)).collect();
            if layout.keys.is_empty() {
                folders = vec![layout.root.clone()];
            }
            folders.sort();
            folders.dedup();
            let prepare = async move |site: &Site| {
                let files = visible_files(site, &folders).await?;
                effect.replaces = files.into_iter().map(|file| file.path).collect();
                Ok(effect)
            };
            transaction.commit_exclusive(prepare).await
        }
    }
}

fn new_partitions(layout: &Layout, written: &[Values]) -> Vec<Partition> {
    if layout.keys.is_empty() {
        return Vec::new();
    }
    let partition = |values: &Values| Partition {
        values: values.clone(),
        location: None,
        columns: None,
        properties: Default::default(),
    };
    written.iter().filter(|values| layout.is_new(values)).map(partition).collect()
}

/// `HIVE_PATH_ALREADY_EXISTS` if a folder holds files that readers see.
async fn expect_empty(site: &Site, location: &str) -> Result<()> {
    if visible_files(site, std::slice::from_ref(&site.root)).await?.is_empty() {
        return Ok(());
    }
    Err(Error::user(
        "HIVE_PATH_ALREADY_EXISTS",
        format!("target folder \"{location}\" already exists and is not empty"),
    )
    .with_hint("choose another location, or delete its files first"))
}
