//! A stream as a writable table: at least once, in order per partition key.
//!
//! PutRecords has no idempotence, so rows are sent as they come, by a task of each writer, and confirmed at the barrier; a
//! crash sends the rows since the last checkpoint again.
//!
//! Invariant: at a barrier every row before it is confirmed or refused.

use std::{fmt, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Schema, SchemaRef},
};
use async_trait::async_trait;
use headwater_engine::{
    connector::{
        ChangelogMode, CommitFacts, CommitReport, Committable, Cut, Distribution, Guarantee, JobContext, OpenUnit,
        Prepared, RefusedRow, Sink, SinkTask, SinkWriter, TableSpec,
    },
    error::{Error, Result},
    format::Encoder,
    message::{ChangeBatch, Epoch},
    time::Clock,
};
use tokio::sync::OnceCell;

use super::{
    api::{Entry, StreamApi},
    client::SdkStream,
    options::{KinesisOptions, Partitioner},
    put::Putter,
};

/// Longest partition key, in characters.
const KEY_CHARACTERS: usize = 256;

/// A writable stream.
pub(super) struct KinesisSink {
    options: KinesisOptions,
    table: TableSpec,
    /// Columns of the partition key.
    keys: Vec<usize>,
    api: OnceCell<Arc<dyn StreamApi>>,
}

impl KinesisSink {
    pub(super) fn new(table: &TableSpec) -> Result<Self> {
        let options = KinesisOptions::parse(table)?;
        let key = |name: &String| {
            table.schema.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name)).ok_or_else(|| {
                Error::user("COLUMN_NOT_FOUND", format!("table \"{}\": PARTITIONED BY names \"{name}\"", table.name))
                    .with_hint("name columns of the table")
            })
        };
        let keys = table.partitioned_by.iter().map(key).collect::<Result<Vec<usize>>>()?;
        Ok(Self { options, table: table.clone(), keys, api: OnceCell::new() })
    }

    #[cfg(test)]
    pub(super) fn with_api(table: &TableSpec, api: Arc<dyn StreamApi>) -> Result<Self> {
        Ok(Self { api: OnceCell::new_with(Some(api)), ..Self::new(table)? })
    }

    async fn api(&self, clock: &Arc<dyn Clock>) -> Result<Arc<dyn StreamApi>> {
        let connect = || async {
            let stream = SdkStream::connect(&self.options, Arc::clone(clock)).await?;
            Ok(Arc::new(stream) as Arc<dyn StreamApi>)
        };
        self.api.get_or_try_init(connect).await.map(Arc::clone)
    }

    /// The payload's columns; what is declared as metadata is not in it.
    fn physical(&self, schema: &SchemaRef) -> (Vec<usize>, SchemaRef) {
        let columns: Vec<usize> =
            (0..schema.fields().len()).filter(|index| self.table.metadata_key(*index).is_none()).collect();
        let fields = columns.iter().map(|index| schema.field(*index).clone()).collect::<Vec<_>>();
        (columns, Arc::new(Schema::new(fields)))
    }
}

impl fmt::Debug for KinesisSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KinesisSink").field("stream", &self.options.stream).finish_non_exhaustive()
    }
}

impl fmt::Display for KinesisSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kinesis stream {}", self.options.stream.text())
    }
}

#[async_trait]
impl Sink for KinesisSink {
    fn accepts(&self) -> ChangelogMode {
        self.options.format.changelog()
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn distribution(&self) -> Distribution {
        if self.keys.is_empty() { Distribution::Any } else { Distribution::ByKey(self.keys.clone()) }
    }

    async fn check(&self, job: &JobContext, schema: SchemaRef) -> Result<()> {
        self.options.format.encoder(self.physical(&schema).1)?;
        self.api(&job.clock).await?.describe().await.map(drop)
    }

    async fn writer(&self, job: &JobContext, task: SinkTask, open: Vec<OpenUnit>) -> Result<Box<dyn SinkWriter>> {
        if let Some(unit) = open.first() {
            return Err(Error::internal(format!("a Kinesis sink has no units, but \"{}\" is open", unit.unit)));
        }
        let api = self.api(&job.clock).await?;
        let (columns, schema) = self.physical(&task.schema);
        let record_bytes = api.describe().await?.record_bytes;
        Ok(Box::new(Writer {
            encoder: self.options.format.encoder(schema)?,
            columns,
            keys: self.keys.clone(),
            partitioner: self.options.partitioner.clone(),
            index: task.index,
            record_bytes,
            stream: self.options.stream.text().to_owned(),
            batch_records: self.options.put.batch_records,
            putter: Putter::start(api, job, &self.options),
        }))
    }

    async fn recover(&self, _job: &JobContext, _facts: &CommitFacts) -> Result<()> {
        Ok(())
    }

    async fn commit(&self, _job: &JobContext, _epoch: Epoch, _work: Vec<Committable>) -> Result<CommitReport> {
        Ok(CommitReport::default())
    }
}

/// Sends rows as they come.
struct Writer {
    encoder: Box<dyn Encoder>,
    columns: Vec<usize>,
    keys: Vec<usize>,
    partitioner: Partitioner,
    /// Which writer of the sink this is.
    index: usize,
    record_bytes: usize,
    stream: String,
    batch_records: usize,
    putter: Putter,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Writer {
    /// Why a record cannot be sent, if so.
    fn refusal(&self, entry: &Entry) -> Option<String> {
        let characters = entry.partition_key.chars().count();
        if !(1..=KEY_CHARACTERS).contains(&characters) {
            return Some(format!("partition key of {characters} characters; Kinesis takes 1 to {KEY_CHARACTERS}"));
        }
        let bytes = entry.bytes();
        (bytes > self.record_bytes)
            .then(|| format!("record of {bytes} bytes; stream \"{}\" takes {}", self.stream, self.record_bytes))
    }
}

#[async_trait]
impl SinkWriter for Writer {
    async fn write(&mut self, changes: ChangeBatch) -> Result<Vec<RefusedRow>> {
        let rows = &changes.rows;
        let wanted = ChangeBatch::new(rows.project(&self.columns)?, changes.kinds.clone());
        let payloads = self.encoder.encode_changes(&wanted)?;
        let keys = match &self.partitioner {
            Partitioner::Columns { delimiter } => Some(partition_keys(rows, &self.keys, delimiter)?),
            Partitioner::Fixed => Some(vec![self.index.to_string(); rows.num_rows()]),
            Partitioner::Random => None,
        };
        let (mut refused, mut entries) = (Vec::new(), Vec::new());
        for row in 0..rows.num_rows() {
            let start = if row == 0 { 0 } else { payloads.ends[row - 1] };
            let data = payloads.buffer.slice(start..payloads.ends[row]);
            let partition_key = match &keys {
                Some(keys) => keys[row].clone(),
                None => format!("{:032x}", rand::random::<u128>()),
            };
            let entry = Entry { partition_key, data };
            if let Some(reason) = self.refusal(&entry) {
                refused.push(RefusedRow::of(rows, row, reason)?);
                continue;
            }
            entries.push(entry);
            if entries.len() >= self.batch_records {
                self.putter.put(std::mem::take(&mut entries)).await?;
            }
        }
        self.putter.put(entries).await?;
        Ok(refused)
    }

    async fn prepare(&mut self, _epoch: Epoch, _cut: Cut) -> Result<Prepared> {
        self.putter.flush().await?;
        Ok(Prepared::default())
    }
}

/// The partition key of each row.
fn partition_keys(rows: &RecordBatch, columns: &[usize], delimiter: &str) -> Result<Vec<String>> {
    let texts: Vec<ArrayRef> =
        columns.iter().map(|column| Ok(cast(rows.column(*column), &DataType::Utf8)?)).collect::<Result<_>>()?;
    let key = |row: usize| {
        let parts = texts.iter().map(|text| {
            let text = text.as_string::<i32>();
            if text.is_null(row) { "" } else { text.value(row) }
        });
        parts.collect::<Vec<_>>().join(delimiter)
    };
    Ok((0..rows.num_rows()).map(key).collect())
}
