//! Writing to a log: what an epoch brings becomes visible in its commit.
//!
//! Invariant: rows of one key go to one shard in their order.

use std::{fmt, sync::Arc};

use arrow::{
    array::{BinaryArray, RecordBatch},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use async_trait::async_trait;
use futures::TryStreamExt;
use headwater_engine::{
    connector::{
        ChangelogMode, CommitFacts, CommitReport, Committable, Cut, Distribution, Guarantee, JobContext, OpenUnit,
        Prepared, PreparedUnit, RefusedRow, Sink, SinkTask, SinkWriter, TableSpec,
    },
    error::{Error, Result},
    hash::hash_rows,
    message::{ChangeBatch, Epoch},
};

use super::{MemoryOptions, PAYLOAD, log::Log};
use crate::formats::TableFormat;

/// A log as a sink.
#[derive(Debug)]
pub(super) struct MemorySink {
    table: String,
    log: Arc<Log>,
    /// The log's name.
    name: String,
    is_keyed: bool,
    /// Indices of the columns whose hash picks a row's shard; empty: the shards take turns.
    shard_by: Vec<usize>,
    format: Option<TableFormat>,
    /// Indices of the columns that are in the payload.
    physical: Vec<usize>,
}

impl MemorySink {
    pub(super) fn new(table: &TableSpec, options: MemoryOptions) -> Result<Self> {
        let is_keyed = !table.primary_key.is_empty();
        let names = if is_keyed { &table.primary_key } else { &table.partitioned_by };
        let shard_by = names.iter().map(|name| column(&table.schema, &table.name, name)).collect::<Result<_>>()?;
        let physical = (0..table.schema.fields().len()).filter(|index| table.metadata_key(*index).is_none()).collect();
        let MemoryOptions { log, name, format, .. } = options;
        Ok(Self { table: table.name.clone(), log, name, is_keyed, shard_by, format, physical })
    }

    /// The rows as the log holds them.
    fn held(&self, changes: ChangeBatch) -> Result<ChangeBatch> {
        let Some(format) = &self.format else { return Ok(changes) };
        let rows = changes.rows.project(&self.physical)?;
        let mut encoder = format.encoder(rows.schema())?;
        let payloads = encoder.encode_changes(&ChangeBatch::new(rows, changes.kinds))?;
        let column = BinaryArray::from_iter_values((0..payloads.len()).map(|index| payloads.payload(index)));
        let schema = Arc::new(Schema::new(vec![Field::new(PAYLOAD, DataType::Binary, false)]));
        Ok(ChangeBatch::new(RecordBatch::try_new(schema, vec![Arc::new(column)])?, None))
    }
}

fn column(schema: &Schema, table: &str, name: &str) -> Result<usize> {
    let found = schema.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name));
    found.ok_or_else(|| Error::user("COLUMN_NOT_FOUND", format!("table \"{table}\": key \"{name}\" is not a column")))
}

impl fmt::Display for MemorySink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memory {}", self.table)
    }
}

#[async_trait]
impl Sink for MemorySink {
    fn accepts(&self) -> ChangelogMode {
        match &self.format {
            Some(format) => format.changelog(),
            None if self.is_keyed => ChangelogMode::Upsert,
            None => ChangelogMode::Append,
        }
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn destination(&self) -> String {
        match self.log.folder() {
            Some(folder) => format!("memory log \"{}\" in {}", self.name, folder.display()),
            None => format!("memory log \"{}\"", self.name),
        }
    }

    fn distribution(&self) -> Distribution {
        if self.shard_by.is_empty() { Distribution::Any } else { Distribution::ByKey(self.shard_by.clone()) }
    }

    async fn check(&self, _: &JobContext, schema: SchemaRef) -> Result<()> {
        let Some(format) = &self.format else { return Ok(()) };
        format.encoder(Arc::new(schema.project(&self.physical)?)).map(drop)
    }

    async fn writer(&self, job: &JobContext, task: SinkTask, _: Vec<OpenUnit>) -> Result<Box<dyn SinkWriter>> {
        let name = format!("{}/{}-{}", task.insert, job.generation.0, task.index);
        Ok(Box::new(Writer { name, lease: job.memory.lease(), pending: Vec::new() }))
    }

    async fn recover(&self, _: &JobContext, _: &CommitFacts) -> Result<()> {
        self.log.open(&self.name)
    }

    async fn commit(&self, job: &JobContext, _: Epoch, work: Vec<Committable>) -> Result<CommitReport> {
        self.log.open(&self.name)?;
        let mut report = CommitReport::default();
        let shards = self.log.shards() as u64;
        for unit in work {
            let changes: Vec<ChangeBatch> = unit.rows.try_collect().await?;
            let mut parts = Vec::with_capacity(changes.len());
            for changes in changes {
                let of_rows = match self.shard_by.is_empty() {
                    true => None,
                    false => {
                        let keys = changes.rows.project(&self.shard_by)?;
                        let hashes = hash_rows(keys.columns(), keys.num_rows())?;
                        Some(hashes.into_iter().map(|hash| (hash % shards) as u32).collect())
                    }
                };
                parts.push((of_rows, self.held(changes)?));
            }
            let name = format!("{}/{}", job.incarnation, unit.unit);
            report.rows += self.log.append(&name, parts, job.clock.now().0)?;
        }
        Ok(report)
    }
}

#[derive(Debug)]
struct Writer {
    name: String,
    lease: headwater_engine::memory::MemoryLease,
    pending: Vec<ChangeBatch>,
}

#[async_trait]
impl SinkWriter for Writer {
    async fn write(&mut self, changes: ChangeBatch) -> Result<Vec<RefusedRow>> {
        self.lease.resize(self.lease.bytes() + changes.rows.get_array_memory_size());
        self.pending.push(changes);
        Ok(Vec::new())
    }

    async fn prepare(&mut self, epoch: Epoch, _: Cut) -> Result<Prepared> {
        let rows = std::mem::take(&mut self.pending);
        self.lease.resize(0);
        if rows.is_empty() {
            return Ok(Prepared::default());
        }
        let unit = format!("{}-{}", self.name, epoch.0);
        let unit = PreparedUnit { unit, rows, detail: String::new(), closes: true };
        Ok(Prepared { units: vec![unit], refused: Vec::new() })
    }
}
