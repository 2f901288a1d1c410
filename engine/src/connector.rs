//! The seams to the outside world: what a connector must offer so that jobs can read and write its system.
//!
//! The runtime owns every loop, barrier, clock and retry; a connector is asked and answers. Progress is never kept in
//! a connector: a [`Source`] is told where to start, a [`Sink`] is told what to commit, both out of the checkpoint.
//!
//! ```text
//! Connector ── source(table) ──> Source ── open(splits, bound) ──> SplitReader ── next() ──> SourceEvent
//!           └─ sink(table) ────> Sink ──── writer(task, open units) ──> SinkWriter ── write, prepare(cut)
//!                                  └────── recover(facts), commit(epoch, work)
//! ```
//!
//! Invariant: nothing here does I/O before a job runs, but [`Connector::key_outside`], which a query needs to be planned;
//! `Connector::source` and `Connector::sink` only parse options.

mod keyed;
mod sink;
mod source;

pub use keyed::{KeyedTable, LookupCache, PartialCache};
pub use sink::{
    ARRIVAL, Beside, BesideRows, Carries, ChangelogMode, CommitFacts, CommitReport, Committable, Cut, Distribution,
    Guarantee, OpenUnit, OutboxRows, Prepared, PreparedUnit, RECORD, RefusedRow, Sink, SinkTask, SinkWriter,
    TextLength,
};
pub use source::{
    Bound, Boundedness, Lag, Offset, OpenRequest, Positions, ReadsAgain, RejectedRecord, Source, SourceBatch,
    SourceData, SourceEvent, Split, SplitId, SplitReader, SplitStart, StartAt,
};

use std::{fmt, path::PathBuf, sync::Arc};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::TableProvider;

use crate::{catalog::Properties, error::Result, graph::Malformed, time::Clock};

/// One outside system: a factory of sources and sinks, found by its name in `WITH ('connector' = '..')`.
#[async_trait]
pub trait Connector: fmt::Debug + Send + Sync {
    /// The name in `'connector' = '<name>'`.
    fn name(&self) -> &'static str;

    /// What `METADATA FROM '<key>'` may name, with the type each key has.
    fn metadata_columns(&self) -> Vec<MetadataColumn> {
        Vec::new()
    }

    /// A readable table; options are parsed and checked here, without I/O.
    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>>;

    /// A writable table; options are parsed and checked here, without I/O.
    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>>;

    /// The columns that hold the key of a writable table which declares no PRIMARY KEY, where its system knows one.
    async fn key_outside(&self, _table: &TableSpec) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// What answers a query that ends, for a system that can do better than being read from end to end (by key); rows
    /// that are none of the table's are left out and counted, or fail it.
    fn query_table(&self, _table: &TableSpec, _malformed: Malformed) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(None)
    }

    /// What answers a join for its keys, for a system whose rows can be had one by one; the same goes for its rows.
    fn keyed_table(&self, _table: &TableSpec, _malformed: Malformed) -> Result<Option<Arc<dyn KeyedTable>>> {
        Ok(None)
    }
}

/// A column a system knows about each record beside its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataColumn {
    /// Name in `METADATA FROM '<key>'`.
    pub key: &'static str,
    /// The type the source yields; the table may declare another it can be cast to (the planner casts).
    pub data_type: DataType,
    /// Whether a sink takes it (a column that is not `VIRTUAL`).
    pub writable: bool,
}

/// A declared column that is filled from metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataField {
    /// Index in [`TableSpec::schema`].
    pub column: usize,
    /// One of the connector's keys.
    pub key: String,
    /// Whether it is read only.
    pub is_virtual: bool,
}

/// A table as its DDL declared it, ready for a connector.
#[derive(Debug, Clone)]
pub struct TableSpec {
    /// Name as written.
    pub name: String,
    /// Physical and metadata columns in declared order, metadata columns with the type the connector offers; computed
    /// columns are the planner's business and not here.
    pub schema: SchemaRef,
    /// Which columns are metadata.
    pub metadata: Vec<MetadataField>,
    /// `WITH` options with parameters and secrets resolved, without those the planner itself takes.
    pub options: Properties,
    /// `PARTITIONED BY`.
    pub partitioned_by: Vec<String>,
    /// `PRIMARY KEY`.
    pub primary_key: Vec<String>,
}

impl TableSpec {
    /// A table of physical columns alone, with these options.
    pub fn new<'a>(name: &str, schema: SchemaRef, options: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self {
            name: name.to_owned(),
            schema,
            metadata: Vec::new(),
            options: options.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            partitioned_by: Vec::new(),
            primary_key: Vec::new(),
        }
    }

    /// The columns that are in the payload.
    pub fn physical_schema(&self) -> SchemaRef {
        let physical = |index: &usize| self.metadata.iter().all(|field| field.column != *index);
        let fields = (0..self.schema.fields().len()).filter(physical).map(|index| self.schema.field(index).clone());
        Arc::new(Schema::new(fields.collect::<Vec<Field>>()))
    }

    /// The metadata key of a column, if it is a metadata column.
    pub fn metadata_key(&self, column: usize) -> Option<&str> {
        self.metadata.iter().find(|field| field.column == column).map(|field| field.key.as_str())
    }
}

/// What a running job tells its sources and sinks about itself.
#[derive(Debug, Clone)]
pub struct JobContext {
    /// Name of the job.
    pub job: String,
    /// Identity of the job's state, made with its first claim; part of group names and transactional ids.
    pub incarnation: String,
    /// Number of this attempt.
    pub generation: crate::message::Generation,
    /// Folder on a local disk for what must be there (logs, spill); exists.
    pub local_state: PathBuf,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The budget buffers count against.
    pub memory: crate::memory::MemoryBudget,
    /// How to find out whether a larger generation has taken over.
    pub fence: Arc<dyn Fence>,
    /// Parallel tasks of this attempt.
    pub parallelism: usize,
}

/// Asks the job's log whether this attempt still holds the job.
#[async_trait]
pub trait Fence: fmt::Debug + Send + Sync {
    /// Fails with [`ErrorKind::Fenced`](crate::error::ErrorKind::Fenced) once a larger generation has claimed the job.
    async fn check(&self) -> Result<()>;

    /// Whether a larger generation can claim the job at all.
    fn can_be_lost(&self) -> bool {
        true
    }
}

/// A fence for what runs outside a job (batch statements, tests): nobody else can take over.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unfenced;

#[async_trait]
impl Fence for Unfenced {
    async fn check(&self) -> Result<()> {
        Ok(())
    }

    fn can_be_lost(&self) -> bool {
        false
    }
}
