//! A topic as a writable table.
//!
//! Exactly-once: the writer only collects; [`Sink::commit`] encodes and sends in transactions (see `commit`).
//! At-least-once: the writer sends at once and waits at the barrier until every record is confirmed.
//!
//! Invariant: one transactional id and one committer for an INSERT of a job, whatever the parallelism.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::StreamExt;
use headwater_engine::{
    connector::{
        ChangelogMode, CommitFacts, CommitReport, Committable, Cut, Distribution, Guarantee, JobContext, OpenUnit,
        Prepared, PreparedUnit, RefusedRow, Sink, SinkTask, SinkWriter, TableSpec,
    },
    error::{Error, ErrorKind, Result},
    memory::MemoryLease,
    message::{ChangeBatch, Epoch},
};
use parking_lot::Mutex;

use super::{
    Mode, client,
    commit::{self, Delivered, Remaining},
    options::{Delivery, KafkaOptions},
    producer::{self, Sender, Transactions},
    rows::{Record, RowEncoder},
};

/// A writable topic.
pub(super) struct KafkaSink {
    options: KafkaOptions,
    mode: Mode,
    topic: String,
    table: TableSpec,
    /// The committer, once recovery has made it.
    committer: Mutex<Option<Arc<Mutex<Committer>>>>,
    units: AtomicU64,
}

/// What delivers epochs. A producer whose transaction failed is not used again: a new one aborts what it left, and reads
/// back what was delivered after all.
struct Committer {
    /// The INSERT it delivers.
    insert: String,
    transactions: Option<Transactions>,
    delivered: Option<Delivered>,
    /// The producer's queue.
    queued: MemoryLease,
}

impl KafkaSink {
    pub(super) fn new(table: &TableSpec, mode: Mode) -> Result<Self> {
        let options = KafkaOptions::parse(table, mode)?;
        let topic = options.sink_topic()?.to_owned();
        let (table, committer) = (table.clone(), Mutex::default());
        let sink = Self { options, mode, topic, table, committer, units: AtomicU64::new(0) };
        // What the format cannot hold is said when the job is planned.
        sink.encoder(&sink.table.schema)?;
        Ok(sink)
    }

    fn encoder(&self, schema: &SchemaRef) -> Result<RowEncoder> {
        RowEncoder::new(&self.options, &self.table, schema, self.mode == Mode::Upsert)
    }

    /// Transactional id and group of an INSERT within its job.
    fn identity(&self, job: &JobContext, insert: &str) -> String {
        let prefix = self.options.transactional_id_prefix.as_deref().unwrap_or(&job.job);
        format!("{prefix}-{}-{insert}", job.incarnation)
    }

    fn committer(&self) -> Result<Arc<Mutex<Committer>>> {
        self.committer.lock().clone().ok_or_else(|| Error::internal("a Kafka sink commits before it has recovered"))
    }
}

impl fmt::Debug for KafkaSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSink").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl fmt::Display for KafkaSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kafka topic {}", self.topic)
    }
}

#[async_trait]
impl Sink for KafkaSink {
    fn accepts(&self) -> ChangelogMode {
        match self.mode {
            Mode::Append => self.options.value_format.changelog(),
            Mode::Upsert => ChangelogMode::Upsert,
        }
    }

    fn guarantee(&self) -> Guarantee {
        match self.options.delivery {
            Delivery::None => Guarantee::None,
            Delivery::AtLeastOnce => Guarantee::AtLeastOnce,
            Delivery::ExactlyOnce => Guarantee::ExactlyOnce,
        }
    }

    fn destination(&self) -> String {
        format!("{self} at {}", self.options.servers())
    }

    /// The servers of a cluster come and go: one that both lists name is enough.
    fn is_destination(&self, destination: &str) -> bool {
        let Some(servers) = destination.strip_prefix(&format!("{self} at ")) else {
            return destination == self.to_string();
        };
        let own = self.options.servers();
        servers.split(',').any(|server| own.split(',').any(|own| own == server))
    }

    fn distribution(&self) -> Distribution {
        let keys: Option<Vec<usize>> =
            self.options.key_fields.iter().map(|field| self.table.schema.index_of(field).ok()).collect();
        match keys {
            Some(keys) if !keys.is_empty() => Distribution::ByKey(keys),
            _ => Distribution::Any,
        }
    }

    async fn check(&self, job: &JobContext, schema: SchemaRef) -> Result<()> {
        self.encoder(&schema)?;
        let (properties, topic, group) = (self.options.properties.clone(), self.topic.clone(), job.job.clone());
        blocking(move || {
            let consumer = client::consumer(&properties, &group, 1 << 20)?;
            client::partitions(&consumer, &super::options::Topics::Named(vec![topic])).map(drop)
        })
        .await
    }

    async fn writer(&self, job: &JobContext, task: SinkTask, open: Vec<OpenUnit>) -> Result<Box<dyn SinkWriter>> {
        if let Some(unit) = open.first() {
            return Err(Error::internal(format!("kafka units close at each barrier, but \"{}\" is open", unit.unit)));
        }
        if self.options.delivery == Delivery::ExactlyOnce {
            let number = self.units.fetch_add(1, Ordering::Relaxed);
            return Ok(Box::new(OutboxWriter { task: task.index, number, rows: Vec::new(), held: job.memory.lease() }));
        }
        let encoder = self.encoder(&task.schema)?;
        let queued = producer::queue(&self.options.properties, &job.memory, task.count)?;
        let sender = Sender::new(&self.options.properties, &self.topic, queued.bytes())?;
        let wait = self.options.delivery == Delivery::AtLeastOnce;
        Ok(Box::new(DirectWriter { encoder, sender, wait, _queued: queued }))
    }

    async fn recover(&self, job: &JobContext, facts: &CommitFacts) -> Result<()> {
        if self.options.delivery != Delivery::ExactlyOnce {
            return Ok(());
        }
        let insert = if facts.insert.is_empty() { self.options.table.clone() } else { facts.insert.clone() };
        let queued = producer::queue(&self.options.properties, &job.memory, 1)?;
        let (transactions, read_back) = self.open(job, &insert, queued.bytes()).await?;
        let delivered = commit::delivered_at_start(facts, read_back, self.options.on_marker_lost, &self.options.table)?;
        let committer = Committer { insert, transactions: Some(transactions), delivered, queued };
        *self.committer.lock() = Some(Arc::new(Mutex::new(committer)));
        Ok(())
    }

    async fn commit(&self, job: &JobContext, epoch: Epoch, work: Vec<Committable>) -> Result<CommitReport> {
        if self.options.delivery != Delivery::ExactlyOnce {
            return Ok(CommitReport::default());
        }
        match self.deliver(job, epoch, work).await {
            Err(error) if error.kind() == ErrorKind::Fenced => {
                // The job's log decides who holds it, not the broker: an older copy may have taken the transactions
                // over just before it noticed.
                job.fence.check().await?;
                Err(Error::unavailable(error.message()))
            }
            delivered => delivered,
        }
    }
}

impl KafkaSink {
    async fn deliver(&self, job: &JobContext, epoch: Epoch, work: Vec<Committable>) -> Result<CommitReport> {
        let committer = self.committer()?;
        let (is_open, insert, queue_bytes) = {
            let held = committer.lock();
            (held.transactions.is_some(), held.insert.clone(), held.queued.bytes())
        };
        if !is_open {
            job.fence.check().await?;
            let (transactions, read_back) = self.open(job, &insert, queue_bytes).await?;
            let mut committer = committer.lock();
            committer.transactions = Some(transactions);
            committer.delivered = committer.delivered.max(read_back);
        }
        let Remaining::From(skip) = commit::remaining(epoch, committer.lock().delivered) else {
            return Ok(CommitReport::default());
        };
        let held = job.memory.lease();
        let records = Vec::new();
        let mut delivery =
            EpochDelivery { sink: self, committer, epoch, chunk: 0, skip, records, bytes: 0, held, rows: 0 };
        for unit in work {
            let mut rows = unit.rows;
            while let Some(changes) = rows.next().await {
                delivery.add(&changes?).await?;
            }
        }
        job.fence.check().await?;
        delivery.finish().await
    }

    /// Takes the sink's transactions over, and reads back how far they went.
    async fn open(
        &self,
        job: &JobContext,
        insert: &str,
        queue_bytes: usize,
    ) -> Result<(Transactions, Option<Delivered>)> {
        let identity = self.identity(job, insert);
        let (properties, topic) = (self.options.properties.clone(), self.topic.clone());
        let transactions = blocking(move || Transactions::open(&properties, &topic, &identity, queue_bytes)).await?;
        job.fence.check().await?;
        blocking(move || {
            let read_back = transactions.delivered()?.map(Delivered::from_offset);
            Ok((transactions, read_back))
        })
        .await
    }
}

/// An epoch on its way: records gather until a transaction is full.
struct EpochDelivery<'a> {
    sink: &'a KafkaSink,
    committer: Arc<Mutex<Committer>>,
    epoch: Epoch,
    chunk: i64,
    /// Chunks an earlier attempt has delivered.
    skip: i64,
    records: Vec<Record>,
    bytes: usize,
    held: MemoryLease,
    rows: u64,
}

impl EpochDelivery<'_> {
    async fn add(&mut self, changes: &ChangeBatch) -> Result<()> {
        let mut encoder = self.sink.encoder(&changes.rows.schema())?;
        for record in encoder.encode(changes)? {
            self.bytes += record.bytes();
            self.records.push(record);
            self.rows += 1;
            if self.bytes as u64 >= self.sink.options.transaction_bytes {
                self.send(Delivered::part(self.epoch, self.chunk + 1)?).await?;
            }
        }
        self.held.resize(self.bytes);
        Ok(())
    }

    async fn finish(mut self) -> Result<CommitReport> {
        self.send(Delivered::all(self.epoch)).await?;
        Ok(CommitReport { refused: Vec::new(), rows: self.rows })
    }

    async fn send(&mut self, delivered: Delivered) -> Result<()> {
        let records = std::mem::take(&mut self.records);
        self.bytes = 0;
        self.chunk += 1;
        if self.chunk <= self.skip {
            return Ok(());
        }
        let transactions = self.committer.lock().transactions.take();
        let transactions = transactions.ok_or_else(|| Error::unavailable("the last transaction failed"))?;
        let sent = blocking(move || {
            transactions.deliver(&records, delivered.to_offset())?;
            Ok(transactions)
        });
        // A producer that does not come back in time is left to itself: the next one fences it and reads back how far it
        // came, as after a crash.
        let time = producer::delivery_time(&self.sink.options.properties)?;
        let late = |_| Error::unavailable(format!("a transaction did not end within {} s", time.as_secs()));
        let transactions = tokio::time::timeout(time, sent).await.map_err(late)??;
        let mut committer = self.committer.lock();
        committer.transactions = Some(transactions);
        committer.delivered = Some(delivered);
        Ok(())
    }
}

/// Collects an epoch's rows for the outbox.
#[derive(Debug)]
struct OutboxWriter {
    task: usize,
    number: u64,
    rows: Vec<ChangeBatch>,
    held: MemoryLease,
}

#[async_trait]
impl SinkWriter for OutboxWriter {
    async fn write(&mut self, changes: ChangeBatch) -> Result<Vec<RefusedRow>> {
        self.held.resize(self.held.bytes() + changes.rows.get_array_memory_size());
        self.rows.push(changes);
        Ok(Vec::new())
    }

    async fn prepare(&mut self, epoch: Epoch, _cut: Cut) -> Result<Prepared> {
        let rows = std::mem::take(&mut self.rows);
        self.held.resize(0);
        if rows.is_empty() {
            return Ok(Prepared::default());
        }
        let unit = format!("epoch-{}-{}-{}", epoch.0, self.task, self.number);
        let unit = PreparedUnit { unit, rows, detail: String::new(), closes: true };
        Ok(Prepared { units: vec![unit], refused: Vec::new() })
    }
}

/// Sends rows as they come.
struct DirectWriter {
    encoder: RowEncoder,
    sender: Sender,
    wait: bool,
    _queued: MemoryLease,
}

impl fmt::Debug for DirectWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectWriter").field("wait", &self.wait).finish_non_exhaustive()
    }
}

#[async_trait]
impl SinkWriter for DirectWriter {
    async fn write(&mut self, changes: ChangeBatch) -> Result<Vec<RefusedRow>> {
        let records = self.encoder.encode(&changes)?;
        let sender = self.sender.clone();
        blocking(move || sender.send(&records)).await?;
        Ok(Vec::new())
    }

    async fn prepare(&mut self, _epoch: Epoch, _cut: Cut) -> Result<Prepared> {
        if self.wait {
            let sender = self.sender.clone();
            blocking(move || sender.flush()).await?;
        }
        Ok(Prepared::default())
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::internal(format!("a Kafka request ended: {error}")))?
}

#[cfg(test)]
mod tests;
