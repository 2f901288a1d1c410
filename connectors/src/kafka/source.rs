//! A topic as a readable table: partitions are splits, offsets are resume positions.
//!
//! Invariant: where a job resumes is in its checkpoint; the group's committed offsets are for monitoring only.

use std::{fmt, sync::Arc, time::Duration};

use arrow::{
    array::{ArrayRef, Int8Array},
    compute::take,
    datatypes::{Schema, SchemaRef},
    record_batch::RecordBatch,
};
use async_trait::async_trait;
use headwater_engine::{
    connector::{
        Boundedness, ChangelogMode, JobContext, Offset, OpenRequest, Positions, RejectedRecord, Source, SourceBatch,
        SourceData, Split, SplitId, SplitReader, TableSpec,
    },
    error::{Error, Result},
    format::{Decoded, Decoder, Payloads},
    message::{ChangeBatch, RowKind},
    time::Clock,
};
use parking_lot::Mutex;
use rdkafka::{
    TopicPartitionList,
    consumer::{CommitMode, Consumer},
    topic_partition_list::Offset as KafkaOffset,
};

use super::{
    Mode,
    client::{self, KafkaConsumer, client_error},
    options::{KafkaOptions, Until},
    reader::KafkaReader,
    records::Records,
    start,
};

/// A readable topic.
pub(super) struct KafkaSource {
    options: KafkaOptions,
    mode: Mode,
    /// Lists partitions and commits the group's offsets; made when first needed.
    control: Arc<Mutex<Option<Arc<KafkaConsumer>>>>,
}

impl KafkaSource {
    pub(super) fn new(table: &TableSpec, mode: Mode) -> Result<Self> {
        Ok(Self { options: KafkaOptions::parse(table, mode)?, mode, control: Arc::default() })
    }

    fn control(&self, job: &JobContext) -> Result<Arc<KafkaConsumer>> {
        let mut control = self.control.lock();
        if let Some(consumer) = &*control {
            return Ok(Arc::clone(consumer));
        }
        let consumer = Arc::new(client::consumer(&self.options.properties, &job.job, 1 << 20)?);
        *control = Some(Arc::clone(&consumer));
        Ok(consumer)
    }

    /// Whether rows are put together here rather than by the table's decoder: keys and deletes are part of them.
    fn yields_rows(&self) -> bool {
        self.mode == Mode::Upsert || self.options.key_format.is_some()
    }
}

impl fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSource").field("topics", &self.options.topics).finish_non_exhaustive()
    }
}

impl fmt::Display for KafkaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kafka {:?}", self.options.topics)
    }
}

#[async_trait]
impl Source for KafkaSource {
    fn boundedness(&self) -> Boundedness {
        match self.options.until {
            Until::Unbounded => Boundedness::Unbounded,
            _ => Boundedness::Bounded,
        }
    }

    fn changelog(&self) -> ChangelogMode {
        match self.mode {
            Mode::Append => self.options.value_format.changelog(),
            Mode::Upsert => ChangelogMode::Upsert,
        }
    }

    fn discovery_interval(&self) -> Option<Duration> {
        self.options.discovery
    }

    /// A partition added meanwhile may hold older rows.
    fn discovery_holds_watermark(&self) -> bool {
        true
    }

    fn decoder(&self, columns: SchemaRef) -> Result<Option<Box<dyn Decoder>>> {
        if self.yields_rows() { Ok(None) } else { self.options.value_format.decoder(columns).map(Some) }
    }

    async fn splits(&self, job: &JobContext) -> Result<Vec<Split>> {
        let consumer = self.control(job)?;
        let topics = self.options.topics.clone();
        let partitions = blocking(move || client::partitions(&consumer, &topics)).await?;
        Ok(partitions.iter().map(|(topic, partition)| Split::new(&*start::split_id(topic, *partition).0)).collect())
    }

    async fn open(&self, job: &JobContext, request: OpenRequest) -> Result<Box<dyn SplitReader>> {
        let fetch_bytes = job.memory.limit() / 8 / request.tasks.max(1);
        let consumer = client::consumer(&self.options.properties, &job.job, fetch_bytes)?;
        let assembler = Assembler::new(self, &request, Arc::clone(&job.clock))?;
        let reader = KafkaReader::start(consumer, self.options.clone(), assembler, request.bound, request.splits)?;
        Ok(Box::new(reader))
    }

    async fn acknowledge(&self, job: &JobContext, split: &SplitId, up_to: &Offset) -> Result<()> {
        let consumer = self.control(job)?;
        let (topic, partition) = start::parse_split(split)?;
        let offset: i64 =
            up_to.0.parse().map_err(|_| Error::internal(format!("offset \"{up_to}\" is not a number")))?;
        blocking(move || {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&topic, partition, KafkaOffset::Offset(offset))
                .and_then(|()| consumer.commit(&list, CommitMode::Async))
                .map_err(|error| client_error("cannot commit the group's offsets", &error))
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::internal(format!("a Kafka request ended: {error}")))?
}

/// Turns gathered records into what the runtime takes: payloads, or rows where keys are part of them.
#[derive(Debug)]
pub(super) struct Assembler {
    columns: SchemaRef,
    metadata: Vec<(usize, String)>,
    rows: Option<RowAssembler>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct RowAssembler {
    /// Columns that come from the key, and where they stand in the table's columns.
    key: Box<dyn Decoder>,
    key_columns: Vec<usize>,
    value: Box<dyn Decoder>,
    value_columns: Vec<usize>,
    upsert: bool,
}

impl Assembler {
    fn new(source: &KafkaSource, request: &OpenRequest, clock: Arc<dyn Clock>) -> Result<Self> {
        let columns = Arc::clone(&request.columns);
        let metadata = request.metadata.clone();
        if !source.yields_rows() {
            return Ok(Self { columns, metadata, rows: None, clock });
        }
        let is_metadata = |index: usize| metadata.iter().any(|(at, _)| *at == index);
        let is_key = |index: usize| source.options.key_fields.iter().any(|field| field == columns.field(index).name());
        let physical: Vec<usize> = (0..columns.fields().len()).filter(|index| !is_metadata(*index)).collect();
        let key_columns: Vec<usize> = physical.iter().copied().filter(|index| is_key(*index)).collect();
        let value_columns = physical.iter().copied().filter(|index| !is_key(*index)).collect::<Vec<_>>();
        let schema =
            |of: &[usize]| Arc::new(Schema::new(of.iter().map(|i| columns.field(*i).clone()).collect::<Vec<_>>()));
        let key_format = source.options.key_format.as_ref().unwrap_or(&source.options.value_format);
        let rows = RowAssembler {
            key: key_format.decoder(schema(&key_columns))?,
            key_columns,
            value: source.options.value_format.decoder(schema(&value_columns))?,
            value_columns,
            upsert: source.mode == Mode::Upsert,
        };
        Ok(Self { columns, metadata, rows: Some(rows), clock })
    }

    pub(super) fn needs_headers(&self) -> bool {
        self.metadata.iter().any(|(_, key)| key == "headers")
    }

    pub(super) fn assemble(&mut self, split: SplitId, records: Records, lag: Option<u64>) -> Result<SourceBatch> {
        let resume_at = records.next_offset().ok_or_else(|| Error::internal("a Kafka batch without messages"))?;
        let arrivals_ms = Some(records.arrivals(self.clock.now().0));
        let metadata = self.metadata.iter().map(|(_, key)| records.metadata(key)).collect::<Result<Vec<ArrayRef>>>()?;
        let offsets = records.offsets.clone();
        let (data, kept) = match &mut self.rows {
            None => {
                let (payloads, _) = records.into_payloads();
                (SourceData::Payloads { payloads, metadata }, None)
            }
            Some(rows) => {
                let placed = (&self.columns, self.metadata.as_slice(), metadata.as_slice());
                let (data, kept) = rows.assemble(records, placed)?;
                (data, Some(kept))
            }
        };
        let (positions, arrivals_ms) = match kept {
            None => (offsets, arrivals_ms),
            Some(kept) => (
                kept.iter().map(|row| offsets[*row as usize]).collect(),
                arrivals_ms.map(|all| kept.iter().map(|row| all[*row as usize]).collect()),
            ),
        };
        Ok(SourceBatch {
            split,
            data,
            resume_at: Offset::new(resume_at.to_string()),
            positions: Positions::Numbers(positions),
            arrivals_ms,
            lag_records: lag,
        })
    }
}

type Placed<'a> = (&'a SchemaRef, &'a [(usize, String)], &'a [ArrayRef]);

impl RowAssembler {
    /// Decodes keys and values, keeps the records both of which could be read, and says which those are.
    fn assemble(&mut self, records: Records, placed: Placed<'_>) -> Result<(SourceData, Vec<u32>)> {
        let deletes = records.without_value.clone();
        let offsets = records.offsets.clone();
        let (values, keys) = records.into_payloads();
        let mut rejected = Vec::new();
        let key_rows = decode(&mut *self.key, &keys, &mut rejected, |_| false)?;
        let is_delete = |payload: usize| self.upsert && deletes[payload];
        let value_rows = decode(&mut *self.value, &values, &mut rejected, is_delete)?;
        let kept: Vec<u32> = (0..offsets.len() as u32)
            .filter(|i| {
                let index = *i as usize;
                key_rows.row_of[index].is_some() && (is_delete(index) || value_rows.row_of[index].is_some())
            })
            .collect();
        let rejected = rejected
            .into_iter()
            .map(|(payload, raw, reason)| RejectedRecord { raw, reason, position: offsets[payload].to_string() })
            .collect();
        let columns = self.columns(&kept, &key_rows, &value_rows, placed)?;
        let rows = RecordBatch::try_new(Arc::clone(placed.0), columns)?;
        let kinds = (self.upsert && kept.iter().any(|row| deletes[*row as usize])).then(|| {
            let kind = |row: &u32| if deletes[*row as usize] { RowKind::Delete } else { RowKind::UpdateAfter };
            kept.iter().map(|row| kind(row) as i8).collect::<Int8Array>()
        });
        let kinds =
            kinds.or_else(|| self.upsert.then(|| Int8Array::from(vec![RowKind::UpdateAfter as i8; kept.len()])));
        Ok((SourceData::Rows { rows: ChangeBatch { rows, kinds }, rejected }, kept))
    }

    fn columns(&self, kept: &[u32], keys: &Rows, values: &Rows, placed: Placed<'_>) -> Result<Vec<ArrayRef>> {
        let (schema, metadata, arrays) = placed;
        let pick = |rows: &Rows, column: usize| -> Result<ArrayRef> {
            let indices: arrow::array::UInt32Array = kept.iter().map(|row| rows.row_of[*row as usize]).collect();
            Ok(take(rows.batch.column(column), &indices, None)?)
        };
        let kept_rows = arrow::array::UInt32Array::from(kept.to_vec());
        (0..schema.fields().len())
            .map(|index| {
                if let Some(at) = self.key_columns.iter().position(|column| *column == index) {
                    pick(keys, at)
                } else if let Some(at) = self.value_columns.iter().position(|column| *column == index) {
                    pick(values, at)
                } else {
                    let at = metadata.iter().position(|(column, _)| *column == index);
                    let at = at.ok_or_else(|| Error::internal("a column is neither key, value nor metadata"))?;
                    Ok(take(&arrays[at], &kept_rows, None)?)
                }
            })
            .collect()
    }
}

struct Rows {
    batch: RecordBatch,
    /// Row of each payload, if it has one.
    row_of: Vec<Option<u32>>,
}

type Refused = (usize, bytes::Bytes, String);

fn decode(
    decoder: &mut dyn Decoder,
    payloads: &Payloads,
    rejected: &mut Vec<Refused>,
    skip: impl Fn(usize) -> bool,
) -> Result<Rows> {
    let Decoded { rows, payload_of_row, rejected: refused, .. } = decoder.decode(payloads)?;
    let mut row_of = vec![None; payloads.len()];
    match payload_of_row {
        None => row_of.iter_mut().enumerate().for_each(|(index, row)| *row = Some(index as u32)),
        Some(payload_of) => payload_of.iter().enumerate().for_each(|(row, at)| row_of[*at as usize] = Some(row as u32)),
    }
    for row in refused.into_iter().filter(|row| !skip(row.payload)) {
        let raw = payloads.buffer.slice(row.start..row.end);
        rejected.push((row.payload, raw, row.reason));
    }
    Ok(Rows { batch: rows.rows, row_of })
}
