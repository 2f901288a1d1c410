//! A topic as a readable table: partitions are splits, offsets are resume positions.
//!
//! Invariant: where a job resumes is in its checkpoint; the group's committed offsets are for monitoring only.

use std::{fmt, sync::Arc, time::Duration};

use arrow::{
    array::ArrayRef,
    datatypes::{DataType, SchemaRef},
};
use async_trait::async_trait;
use headwater_engine::{
    connector::{
        Boundedness, ChangelogMode, JobContext, Lag, Offset, OpenRequest, Positions, ReadsAgain, Source, SourceBatch,
        SourceData, Split, SplitId, SplitReader, TableSpec,
    },
    error::{Error, Result},
    format::Decoder,
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
    keyed::RowAssembler,
    options::{KafkaOptions, Topics, Until},
    reader::KafkaReader,
    records::{Records, Wanted},
    start,
};

/// A readable topic.
pub(super) struct KafkaSource {
    pub(super) options: KafkaOptions,
    pub(super) mode: Mode,
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
        self.mode == Mode::Upsert || (self.options.key_format.is_some() && !self.options.key_in_value)
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

    fn change_order(&self) -> Option<&'static str> {
        self.options.value_format.change_order()
    }

    fn change_id(&self) -> Option<&'static str> {
        self.options.value_format.change_id()
    }

    fn discovery_interval(&self) -> Option<Duration> {
        self.options.discovery
    }

    /// A partition added meanwhile may hold older rows.
    fn discovery_holds_watermark(&self) -> bool {
        true
    }

    /// Of a pattern, all the topics of the broker are asked for.
    fn discovery_is_cheap(&self) -> bool {
        matches!(self.options.topics, Topics::Named(_))
    }

    fn may_refuse(&self, data_type: &DataType) -> bool {
        self.options.value_format.may_refuse(data_type)
    }

    fn reads_again(&self) -> ReadsAgain {
        if self.yields_rows() { ReadsAgain::Never } else { ReadsAgain::Payloads }
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

    fn keeps(&self, split: &SplitId, _origin: &str) -> bool {
        start::parse_split(split).is_ok_and(|(topic, _)| client::is_named(&self.options.topics, &topic))
    }

    async fn open(&self, job: &JobContext, request: OpenRequest) -> Result<Box<dyn SplitReader>> {
        let lease = client::queue(&job.memory, request.tasks, client::FETCH_BYTES_MIN);
        let consumer = client::consumer(&self.options.properties, &job.job, lease.bytes())?;
        let assembler = Assembler::new(self, &request, Arc::clone(&job.clock))?;
        let reader =
            KafkaReader::start((consumer, lease), self.options.clone(), assembler, request.bound, request.splits)?;
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
    metadata: Vec<(usize, String)>,
    rows: Option<RowAssembler>,
    clock: Arc<dyn Clock>,
}

impl Assembler {
    fn new(source: &KafkaSource, request: &OpenRequest, clock: Arc<dyn Clock>) -> Result<Self> {
        let metadata = request.metadata.clone();
        let rows = source.yields_rows().then(|| RowAssembler::new(source, &request.columns, &metadata)).transpose()?;
        Ok(Self { metadata, rows, clock })
    }

    /// What rows are made of beside values, offsets and times.
    pub(super) fn wanted(&self) -> Wanted {
        let is_wanted = |wanted: &str| self.metadata.iter().any(|(_, key)| key == wanted);
        Wanted { keys: self.rows.is_some(), headers: is_wanted("headers"), time_kinds: is_wanted("timestamp-type") }
    }

    pub(super) fn assemble(&mut self, split: SplitId, records: Records, lag: Option<u64>) -> Result<SourceBatch> {
        let resume_at = records.next_offset().ok_or_else(|| Error::internal("a Kafka batch without messages"))?;
        let arrivals_ms = records.arrivals(self.clock.now().0);
        let metadata = self.metadata.iter().map(|(_, key)| records.metadata(key)).collect::<Result<Vec<ArrayRef>>>()?;
        let positions = records.positions();
        let (data, positions, arrivals_ms) = match &mut self.rows {
            None => {
                let (payloads, ..) = records.into_payloads();
                (SourceData::Payloads { payloads, metadata }, positions, arrivals_ms)
            }
            Some(rows) => {
                let (data, kept, offsets) = rows.assemble(records, &metadata)?;
                let positions = kept.iter().map(|row| offsets[*row as usize]).collect();
                let arrivals_ms = kept.iter().map(|row| arrivals_ms[*row as usize]).collect();
                (data, Positions::Numbers(positions), arrivals_ms)
            }
        };
        Ok(SourceBatch {
            split,
            data,
            resume_at: Offset::new(resume_at.to_string()),
            positions,
            arrivals_ms: Some(arrivals_ms),
            lag: lag.map(Lag::Records),
        })
    }
}
