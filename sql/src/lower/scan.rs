//! A table of the run in a query that ends: read to the end that was there at the start.
//!
//! A changelog is folded by its primary key first, so that a query sees the rows there are, not how they came about.
//!
//! Invariant: a scan reads the columns a query uses, takes part in no checkpoint and commits no offset.

use std::{collections::HashMap, fmt, sync::Arc};

use arrow::{
    array::{RecordBatch, RecordBatchOptions, UInt64Array},
    compute::{concat_batches, take_record_batch},
    datatypes::SchemaRef,
    row::{OwnedRow, RowConverter, SortField},
};
use datafusion::{
    common::Result as PlanResult,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::stream::RecordBatchStreamAdapter,
};
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use headwater_connectors::{
    lake::stats::ScanStats,
    leaf::{Leaf, LeafExec},
};
use headwater_engine::{
    connector::{ChangelogMode, JobContext, Unfenced},
    error::{Error, Result},
    graph::{Malformed, SourceNode},
    memory::MemoryBudget,
    message::{ChangeBatch, Generation, RowKind},
    runtime::bounded::{self, OnLeftOut, Until, What},
    time::SystemClock,
};

use super::{sources, table::StreamTable};
use crate::session::Session;

/// What a statement is to the systems it reads and writes: a job without a checkpoint.
pub(crate) fn statement_context(session: &Session) -> JobContext {
    let limit = session.settings().memory_limit.and_then(|limit| usize::try_from(limit.0).ok());
    let name = uuid::Uuid::new_v4().simple().to_string();
    JobContext {
        job: "headwater".to_owned(),
        incarnation: name[..8].to_owned(),
        generation: Generation(1),
        local_state: session.config().local_state(),
        clock: Arc::new(SystemClock),
        memory: MemoryBudget::new(limit.unwrap_or(1 << 30)),
        fence: Arc::new(Unfenced),
        parallelism: 1,
    }
}

/// A table read to its end.
#[derive(Debug)]
pub(super) struct StreamScan {
    node: Arc<SourceNode>,
    context: JobContext,
    what: What,
    /// Indices of the columns wanted among those read.
    wanted: Vec<usize>,
    /// Indices of the key among the columns read, for a changelog.
    key: Option<Vec<usize>>,
}

impl StreamScan {
    /// The rows of a table, in these of its columns.
    pub(super) fn rows(table: &StreamTable, context: JobContext, columns: &[usize]) -> Result<LeafExec<Self>> {
        let source = table.connector.source(&table.spec)?;
        let mut kept = columns.to_vec();
        let mut key = Vec::new();
        if source.changelog() != ChangelogMode::Append {
            if table.spec.primary_key.is_empty() {
                return Err(Error::not_supported(format!(
                    "a SELECT over the changelog \"{}\" without a key",
                    table.name
                ))
                .with_hint("declare PRIMARY KEY (..) NOT ENFORCED: changes are folded by it"));
            }
            for name in &table.spec.primary_key {
                key.push(table.schema.index_of(name)?);
            }
            kept.extend(&key);
        }
        if kept.is_empty() {
            kept.push(0);
        }
        kept.sort_unstable();
        kept.dedup();
        let place = |column: &usize| kept.binary_search(column).unwrap_or_default();
        let wanted: Vec<usize> = columns.iter().map(place).collect();
        let key = (!key.is_empty()).then(|| key.iter().map(place).collect());
        let schema = Arc::new(table.schema.project(columns)?);
        let mut node = sources::node_of(table, &kept, Vec::new(), table.malformed_in_batch)?;
        node.time = None;
        let scan = Self { node: Arc::new(node), context, what: What::Rows, wanted, key };
        Ok(LeafExec::new(scan, schema, 1))
    }

    /// What the decoder of a table refuses, in these columns of `"t$rejected"`.
    pub(super) fn rejected(table: &StreamTable, context: JobContext, columns: &[usize]) -> Result<LeafExec<Self>> {
        let all: Vec<usize> = (0..table.schema.fields().len()).collect();
        let node = sources::node_of(table, &all, Vec::new(), Malformed::Reject)?;
        let schema = Arc::new(headwater_engine::accounts::rejected_schema().project(columns)?);
        let wanted = columns.to_vec();
        let scan = Self { node: Arc::new(node), context, what: What::Rejected, wanted, key: None };
        Ok(LeafExec::new(scan, schema, 1))
    }
}

impl fmt::Display for StreamScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.node.source)
    }
}

impl Leaf for StreamScan {
    fn name(&self) -> &'static str {
        "StreamScanExec"
    }

    fn read(&self, _: usize, schema: &SchemaRef, task: &TaskContext) -> PlanResult<SendableRecordBatchStream> {
        let stats = task.session_config().get_extension::<ScanStats>();
        let on_left_out: OnLeftOut = match stats.clone() {
            Some(stats) => Arc::new(move |rows| ScanStats::add(&stats.rows_rejected, rows)),
            None => Arc::new(|_| ()),
        };
        let changes =
            bounded::read(Arc::clone(&self.node), self.context.clone(), self.what, Until::EndNow, on_left_out);
        let rows: BoxStream<'static, Result<RecordBatch>> = match &self.key {
            None => changes.map_ok(|changes| changes.rows).boxed(),
            Some(key) => {
                let (key, context, schema) = (key.clone(), self.context.clone(), self.node.schema());
                futures::stream::once(async move { fold(changes, schema, &key, &context).await }).boxed()
            }
        };
        let (wanted, output) = (self.wanted.clone(), Arc::clone(schema));
        let projected = rows.map(move |rows| {
            let rows = rows?;
            if let Some(stats) = &stats {
                ScanStats::add(&stats.rows_read, rows.num_rows() as u64);
            }
            let columns = wanted.iter().map(|index| Arc::clone(rows.column(*index))).collect();
            let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
            Ok(RecordBatch::try_new_with_options(Arc::clone(&output), columns, &options)?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), projected)))
    }
}

/// The rows a changelog leaves, by key. All its changes are held until its end, within the memory of the statement.
async fn fold(
    mut changes: BoxStream<'static, Result<ChangeBatch>>,
    schema: SchemaRef,
    key: &[usize],
    context: &JobContext,
) -> Result<RecordBatch> {
    let mut lease = context.memory.lease();
    let mut batches: Vec<RecordBatch> = Vec::new();
    let mut rows: HashMap<OwnedRow, u64> = HashMap::new();
    let (mut converter, mut first, mut bytes) = (None, 0_u64, 0);
    while let Some(ChangeBatch { rows: batch, kinds, .. }) = changes.try_next().await? {
        let keys = batch.project(key)?;
        let converter = match &mut converter {
            Some(converter) => converter,
            none => {
                let fields =
                    keys.schema().fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
                none.insert(RowConverter::new(fields)?)
            }
        };
        let keys = converter.convert_columns(keys.columns())?;
        let changes = ChangeBatch::new(batch, kinds);
        for index in 0..changes.num_rows() {
            let key = keys.row(index).owned();
            match changes.kind(index) {
                RowKind::Insert | RowKind::UpdateAfter => rows.insert(key, first + index as u64),
                RowKind::Delete => rows.remove(&key),
                RowKind::UpdateBefore => None,
            };
        }
        first += changes.num_rows() as u64;
        bytes += changes.rows.get_array_memory_size();
        lease.resize(bytes);
        if context.memory.is_over() {
            return Err(Error::new(
                headwater_engine::error::ErrorKind::Limit,
                "EXCEEDED_LOCAL_MEMORY_LIMIT",
                "the changes of the table do not fit into the memory of a statement",
            )
            .with_hint("raise 'memory.limit', or write the table to a keyed sink with a job"));
        }
        batches.push(changes.rows);
    }
    let mut left: Vec<u64> = rows.into_values().collect();
    left.sort_unstable();
    Ok(take_record_batch(&concat_batches(&schema, &batches)?, &UInt64Array::from(left))?)
}
