//! `SELECT .. EMIT CHANGES`: a job without a table at its end, whose rows go to whoever reads them, until that stops.
//!
//! Invariant: it has no state outside this process and commits no offset; dropping its rows ends it.

use std::{fmt, sync::Arc, time::Duration};

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use async_trait::async_trait;
use datafusion::{
    error::DataFusionError, execution::SendableRecordBatchStream, physical_plan::stream::RecordBatchStreamAdapter,
    sql::sqlparser::ast,
};
use futures::{StreamExt, stream};
use headwater_engine::{
    checkpoint::store::MemoryStore,
    connector::{
        ChangelogMode, CommitFacts, CommitReport, Committable, Cut, Distribution, Guarantee, JobContext, OpenUnit,
        Prepared, RefusedRow, Sink, SinkTask, SinkWriter,
    },
    error::{Error, ErrorKind, Result},
    graph::{Exchange, Graph, NodeKind, SinkNode},
    message::{ChangeBatch, Epoch, RowKind},
    runtime::job::{self, JobConfig},
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    Reads,
    flow::{Lowering, arrow_schema},
    insert::{assemble, optimize, plan_reads},
    sources,
};
use crate::session::Session;

/// Batches on their way to the reader.
const WAITING: usize = 16;
/// Between two checkpoints, of which there are none worth it.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// The column that says what a change does, where rows are updated.
const OP: &str = "op";

type Rows = mpsc::Sender<Result<RecordBatch>>;

/// The rows of a query as they come; `None` if all it reads ends.
pub(crate) async fn follow(session: &Session, query: &ast::Query) -> Result<Option<SendableRecordBatchStream>> {
    let (bound, state) = session.bound_for_job(query, false).await?;
    if plan_reads(&bound.plan)? != Reads::Unbounded {
        return Ok(None);
    }
    let names = bound.schema();
    let plan = optimize(bound.plan, &state)?;
    let settings = session.settings();
    let mut lowering = Lowering {
        sources: sources::collect(std::iter::once(&plan))?,
        ttl: Some(settings.state_ttl).filter(|ttl| !ttl.is_zero()),
        refresh: Some(settings.lookup_refresh).filter(|every| !every.is_zero()),
        insert: "select".to_owned(),
        state: Some(state),
        ..Lowering::default()
    };
    let flow = lowering.flow(&plan)?;
    let flow = lowering.assign(flow)?;
    let (updates, inner) = (flow.facts.changes != ChangelogMode::Append, arrow_schema(&flow.schema));
    let schema = shown(&names, updates);
    let (sender, receiver) = mpsc::channel(WAITING);
    let sink = Arc::new(Reader { rows: sender.clone(), schema: Arc::clone(&schema), updates });
    let input = lowering.input(flow, Exchange::Forward, Arc::clone(&inner), None)?;
    let (table, insert) = ("select".to_owned(), "select".to_owned());
    lowering.add(
        "sink",
        NodeKind::Sink(SinkNode {
            table,
            insert,
            input,
            sink,
            not_null: Vec::new(),
            lengths: Vec::new(),
            schema: inner,
        }),
    );
    let running = run(session, assemble(lowering)?, sender);
    let rows = stream::unfold((receiver, running), |(mut receiver, running)| async move {
        let next = receiver.recv().await?;
        Some((next.map_err(DataFusionError::from), (receiver, running)))
    });
    Ok(Some(Box::pin(RecordBatchStreamAdapter::new(schema, rows.boxed()))))
}

/// The columns shown: those of the query, behind what a change does where rows are updated.
fn shown(names: &SchemaRef, updates: bool) -> SchemaRef {
    let op = updates.then(|| Arc::new(Field::new(OP, DataType::Utf8, false)));
    Arc::new(Schema::new(op.into_iter().chain(names.fields().iter().cloned()).collect::<Vec<_>>()))
}

/// Starts the job; dropping what is returned ends it.
fn run(session: &Session, graph: Graph, rows: Rows) -> JoinSet<()> {
    let settings = session.settings();
    let name = format!("select-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
    let folder = session.config().local_state().join("select");
    let mut config = JobConfig::new(&name, Arc::new(MemoryStore::default()), folder.clone());
    config.interval = NEVER;
    config.parallelism = settings.parallelism.unwrap_or(1);
    config.restarts = 0;
    if let Some(limit) = settings.memory_limit {
        config.memory_limit = usize::try_from(limit.0).unwrap_or(usize::MAX);
    }
    let mut running = JoinSet::new();
    running.spawn(async move {
        let _gone = Folder(folder.join(&name));
        if let Err(error) = job::run(Arc::new(graph), config, CancellationToken::new()).await {
            // A reader that has gone does not want to know.
            let _ = rows.send(Err(error)).await;
        }
    });
    running
}

/// The job's folder on local disk, removed with it.
struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

/// A sink that hands its rows on.
#[derive(Debug, Clone)]
struct Reader {
    rows: Rows,
    schema: SchemaRef,
    updates: bool,
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reader of the query")
    }
}

#[async_trait]
impl Sink for Reader {
    fn accepts(&self) -> ChangelogMode {
        ChangelogMode::Retract
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::None
    }

    fn distribution(&self) -> Distribution {
        Distribution::Single
    }

    async fn check(&self, _: &JobContext, _: SchemaRef) -> Result<()> {
        Ok(())
    }

    async fn writer(&self, _: &JobContext, _: SinkTask, _: Vec<OpenUnit>) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(self.clone()))
    }

    async fn recover(&self, _: &JobContext, _: &CommitFacts) -> Result<()> {
        Ok(())
    }

    async fn commit(&self, _: &JobContext, _: Epoch, _: Vec<Committable>) -> Result<CommitReport> {
        Ok(CommitReport::default())
    }
}

#[async_trait]
impl SinkWriter for Reader {
    async fn write(&mut self, changes: ChangeBatch) -> Result<Vec<RefusedRow>> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        if self.updates {
            let kinds = (0..changes.num_rows()).map(|row| op(changes.kind(row)));
            columns.push(Arc::new(StringArray::from_iter_values(kinds)));
        }
        let wanted = self.schema.fields().iter().skip(columns.len());
        for (column, field) in changes.rows.columns().iter().zip(wanted) {
            columns.push(crate::kernels::fit(Arc::clone(column), field.data_type())?);
        }
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        let gone = |_| Error::new(ErrorKind::Cancelled, "QUERY_CANCELLED", "nobody reads the rows any more");
        self.rows.send(Ok(batch)).await.map_err(gone)?;
        Ok(Vec::new())
    }

    async fn prepare(&mut self, _: Epoch, _: Cut) -> Result<Prepared> {
        Ok(Prepared::default())
    }
}

fn op(kind: RowKind) -> &'static str {
    match kind {
        RowKind::Insert => "+I",
        RowKind::UpdateBefore => "-U",
        RowKind::UpdateAfter => "+U",
        RowKind::Delete => "-D",
    }
}
