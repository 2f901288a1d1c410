//! Producers: plain ones that count what is not confirmed, and the transactional one of a committer.
//!
//! Invariant: an error of any record surfaces at the next send, flush or commit; none is lost in a callback.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use headwater_engine::{
    catalog::Properties,
    error::{Error, Result},
    memory::{MemoryBudget, MemoryLease},
};
use parking_lot::{Condvar, Mutex};
use rdkafka::{
    ClientConfig, ClientContext, Message, TopicPartitionList,
    consumer::Consumer,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer},
    topic_partition_list::Offset,
};

use super::{
    client::{self, KafkaConsumer, client_error},
    rows::Record,
};

/// How long a transaction, or everything that was sent, may take to be confirmed.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(120);
/// How long the group's coordinator may take for the delivery marker. A coordinator that moves while it is asked may never
/// answer; a new producer finds the one there is now.
const MARKER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a broker keeps a transaction open, unless a property says otherwise, and how long the client may take beyond.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);
const TRANSACTION_GRACE: Duration = Duration::from_secs(15);
/// How long giving up a transaction may take; one that stays open is aborted when the next producer begins.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest record a broker takes unless it is set up otherwise, as the client has it.
const RECORD_BYTES_MAX: usize = 1_000_000;
/// How long to wait when the producer's bounded queue is full before trying again.
const QUEUE_FULL_WAIT: Duration = Duration::from_millis(50);

/// Counts what is not confirmed yet, and keeps the first delivery error.
#[derive(Debug, Clone, Default)]
struct Confirmations(Arc<Confirming>);

#[derive(Debug, Default)]
struct Confirming {
    sent: AtomicU64,
    confirmed: AtomicU64,
    failed: Mutex<Option<String>>,
    /// Told, under the lock of `failed`, when everything sent is confirmed.
    all: Condvar,
}

impl ClientContext for Confirmations {}

impl ProducerContext for Confirmations {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let confirming = &self.0;
        if let Err((error, message)) = result {
            let topic = message.topic().to_owned();
            let first = || format!("a record for topic \"{topic}\" was not taken: {error}");
            confirming.failed.lock().get_or_insert_with(first);
        }
        let confirmed = confirming.confirmed.fetch_add(1, Ordering::AcqRel) + 1;
        if confirmed >= confirming.sent.load(Ordering::Acquire) {
            let _waiting = confirming.failed.lock();
            confirming.all.notify_all();
        }
    }
}

impl Confirmations {
    fn check(&self) -> Result<()> {
        match self.0.failed.lock().take() {
            Some(error) => Err(Error::unavailable(error)),
            None => Ok(()),
        }
    }

    /// A record is about to be handed to the producer; the answer may come before that call returns.
    fn sending(&self) {
        self.0.sent.fetch_add(1, Ordering::AcqRel);
    }

    /// The producer did not take it.
    fn not_sent(&self) {
        self.0.sent.fetch_sub(1, Ordering::AcqRel);
    }

    /// Waits until everything sent is confirmed; whether it is.
    fn wait(&self, time: Duration) -> bool {
        let confirming = &self.0;
        let is_waiting = |_: &mut Option<String>| {
            confirming.confirmed.load(Ordering::Acquire) < confirming.sent.load(Ordering::Acquire)
        };
        let mut failed = confirming.failed.lock();
        !confirming.all.wait_while_for(&mut failed, is_waiting, time).timed_out()
    }
}

type KafkaProducer = ThreadedProducer<Confirmations>;

/// Sends records without transactions.
#[derive(Clone)]
pub(super) struct Sender {
    producer: Arc<KafkaProducer>,
    topic: Arc<str>,
}

impl Sender {
    /// A producer that holds at the most so many bytes.
    pub(super) fn new(properties: &Properties, topic: &str, queue_bytes: usize) -> Result<Self> {
        let mut config = config(properties, queue_bytes)?;
        if config.get("linger.ms").is_none() {
            config.set("linger.ms", "5");
        }
        Ok(Self { producer: Arc::new(create(&config)?), topic: Arc::from(topic) })
    }

    /// Hands records to the producer; waits while its queue is full.
    pub(super) fn send(&self, records: &[Record]) -> Result<()> {
        send_all(&self.producer, &self.topic, records)
    }

    /// Waits until everything is confirmed.
    pub(super) fn flush(&self) -> Result<()> {
        // The wrapper's own waiting sleeps in steps of 100 ms. Asked for no time it only has the client send what still
        // lingers, and says that this is not done yet; the answers come to the producer's thread.
        let _not_done = self.producer.flush(Duration::ZERO);
        let confirmations = self.producer.context();
        if !confirmations.wait(CONFIRM_TIMEOUT) {
            return Err(Error::unavailable("records were not confirmed in time"));
        }
        confirmations.check()
    }
}

/// The one transactional producer of a sink, with the consumer that reads its proof back.
pub(super) struct Transactions {
    producer: KafkaProducer,
    group: KafkaConsumer,
    topic: String,
}

impl Transactions {
    /// Fences every older producer of this identity and aborts what it left open.
    pub(super) fn open(properties: &Properties, topic: &str, identity: &str, queue_bytes: usize) -> Result<Self> {
        let mut config = config(properties, queue_bytes)?;
        config.set("transactional.id", identity).set("enable.idempotence", "true").set("linger.ms", "5");
        let producer = create(&config)?;
        producer
            .init_transactions(CONFIRM_TIMEOUT)
            .map_err(|error| client_error("cannot take over the sink's transactions", &error))?;
        let mut consumer_properties = properties.clone();
        consumer_properties.insert("group.id".to_owned(), identity.to_owned());
        let group = client::consumer(&consumer_properties, identity, 1 << 20)?;
        Ok(Self { producer, group, topic: topic.to_owned() })
    }

    /// The number the last transaction committed, if any.
    pub(super) fn delivered(&self) -> Result<Option<i64>> {
        client::committed(&self.group, &self.topic, 0)
    }

    /// Delivers records and the number that says so in one transaction.
    pub(super) fn deliver(&self, records: &[Record], number: i64) -> Result<()> {
        let delivered = self.transaction(records, number);
        if delivered.is_err() && self.producer.abort_transaction(ABORT_TIMEOUT).is_err() {
            tracing::debug!("kafka: a failed transaction could not be aborted; the next start does it");
        }
        delivered
    }

    fn transaction(&self, records: &[Record], number: i64) -> Result<()> {
        let failed = |doing: &'static str| move |error: KafkaError| client_error(doing, &error);
        self.producer.begin_transaction().map_err(failed("cannot begin a transaction"))?;
        send_all(&self.producer, &self.topic, records)?;
        let mut offsets = TopicPartitionList::new();
        offsets
            .add_partition_offset(&self.topic, 0, Offset::Offset(number))
            .map_err(failed("cannot write the delivery marker"))?;
        let group = self.group.group_metadata().ok_or_else(|| Error::internal("a Kafka sink without a group"))?;
        self.producer
            .send_offsets_to_transaction(&offsets, &group, MARKER_TIMEOUT)
            .map_err(failed("cannot write the delivery marker"))?;
        self.producer.commit_transaction(CONFIRM_TIMEOUT).map_err(failed("cannot commit a transaction"))?;
        self.producer.context().check()
    }
}

/// How long a delivery may take in all. The broker gives up a transaction that takes longer; the client, asked for its end
/// while a coordinator goes down, was seen to wait for ever.
pub(super) fn delivery_time(properties: &Properties) -> Result<Duration> {
    let config = client::config(properties)?;
    let millis = config.get("transaction.timeout.ms").and_then(|millis| millis.parse().ok());
    Ok(millis.map_or(TRANSACTION_TIMEOUT, Duration::from_millis) + TRANSACTION_GRACE)
}

/// The bytes one of so many producers of a table may hold in its queue: as many as a property says, or enough for the
/// largest record there may be, which the client counts with its key.
pub(super) fn queue(properties: &Properties, memory: &MemoryBudget, producers: usize) -> Result<MemoryLease> {
    let config = client::config(properties)?;
    let number =
        |key: &str| config.get(key).and_then(|number| number.parse::<u32>().ok()).map(|number| number as usize);
    if let Some(kbytes) = number("queue.buffering.max.kbytes") {
        let mut lease = memory.lease();
        lease.resize(kbytes * 1024);
        return Ok(lease);
    }
    let largest = number("message.max.bytes").unwrap_or(RECORD_BYTES_MAX);
    let least = (2 * largest).next_multiple_of(1024).max(client::FETCH_BYTES_MIN);
    Ok(client::queue(memory, producers, least))
}

fn config(properties: &Properties, queue_bytes: usize) -> Result<ClientConfig> {
    let mut config = client::config(properties)?;
    for consumer_only in ["group.id", "isolation.level", "client.rack"] {
        config.remove(consumer_only);
    }
    if config.get("queue.buffering.max.kbytes").is_none() {
        config.set("queue.buffering.max.kbytes", (queue_bytes / 1024).max(1).to_string());
    }
    if config.get("partitioner").is_none() {
        config.set("partitioner", "murmur2_random");
    }
    Ok(config)
}

fn create(config: &ClientConfig) -> Result<KafkaProducer> {
    config
        .create_with_context(Confirmations::default())
        .map_err(|error| client_error("cannot make a Kafka producer", &error))
}

fn send_all(producer: &KafkaProducer, topic: &str, records: &[Record]) -> Result<()> {
    for record in records {
        let mut message: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
        message.payload = record.value.as_deref();
        message.key = record.key.as_deref();
        message.timestamp = record.timestamp_ms;
        message.headers.clone_from(&record.headers);
        loop {
            let is_empty = producer.in_flight_count() == 0;
            producer.context().sending();
            match producer.send(message).inspect_err(|_| producer.context().not_sent()) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) if is_empty => {
                    let message =
                        format!("a record of {} bytes does not fit into the producer's queue", record.bytes());
                    return Err(Error::user("INVALID_TABLE_PROPERTY", message)
                        .with_hint("raise 'properties.queue.buffering.max.kbytes', or leave it out"));
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    message = back;
                    // The queue is the backpressure: wait until some of it is confirmed.
                    std::thread::park_timeout(QUEUE_FULL_WAIT);
                }
                Err((error, _)) => return Err(client_error("cannot send a record", &error)),
            }
        }
    }
    producer.context().check()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(given: &[(&str, &str)]) -> Properties {
        let servers = [("bootstrap.servers", "localhost:1")];
        servers.iter().chain(given).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_queue_takes_the_largest_record_and_no_more_than_its_lease() -> Result<()> {
        let kbytes = |limit: usize, given: &[(&str, &str)]| -> Result<(usize, Option<String>)> {
            let (given, memory) = (properties(given), MemoryBudget::new(limit));
            let lease = queue(&given, &memory, 1)?;
            assert_eq!(memory.used(), lease.bytes());
            let config = config(&given, lease.bytes())?;
            Ok((lease.bytes() / 1024, config.get("queue.buffering.max.kbytes").map(str::to_owned)))
        };
        let same = |kbytes: usize| (kbytes, Some(kbytes.to_string()));
        assert_eq!(kbytes(32 << 20, &[])?, same(4096));
        assert_eq!(kbytes(1 << 20, &[])?, same(1954), "twice the largest record, where there is less");
        assert_eq!(kbytes(32 << 20, &[("message.max.bytes", "100000000")])?, same(195_313));
        assert_eq!(kbytes(1 << 30, &[("message.max.bytes", "100000000")])?, same(195_313));
        assert_eq!(kbytes(32 << 20, &[("queue.buffering.max.kbytes", "77")])?, same(77));
        Ok(())
    }

    #[test]
    fn a_record_that_never_fits_is_an_error() -> Result<()> {
        let given = [("queue.buffering.max.kbytes", "1")];
        let sender = Sender::new(&properties(&given), "t", 1 << 20)?;
        let record = Record { key: None, value: Some(vec![b'x'; 5_000].into()), timestamp_ms: None, headers: None };
        let error = sender.send(&[record]).unwrap_err();
        assert!(error.message().starts_with("a record of 5064 bytes does not fit"), "{error:?}");
        Ok(())
    }
}
