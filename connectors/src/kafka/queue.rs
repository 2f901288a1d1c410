//! Messages of a consumer's partitions, many per call: librdkafka's batch interface, which its Rust wrapper leaves out.
//!
//! One call per message costs two readings of the clock, an event and a reference count each; here a call takes what is
//! there. Partitions are routed to a queue of their own, so that only messages and errors of partitions are in it, and
//! logs, refusals and the like stay where the wrapper reads them.
//!
//! Why the `unsafe` here is sound: the queue is made from a live client and destroyed before it, which this type owns;
//! a pointer to a message is looked at while its [`Owned`] lives, and what is read of it borrows from that; lengths and
//! pointers are those librdkafka gives for one message. The test feeds random keys, values and headers through it.
//!
//! Invariant: every message that was taken from librdkafka is given back exactly once.

#![expect(unsafe_code, reason = "librdkafka's batch interface has no safe wrapper")]

use std::{
    ffi::{CStr, CString, c_void},
    fmt,
    marker::PhantomData,
    ptr::{self, NonNull},
    slice,
    sync::Arc,
    time::Duration,
};

use headwater_engine::error::{Error, Result};
use rdkafka::{
    Timestamp, bindings as native, bindings::rd_kafka_resp_err_t as Code, consumer::Consumer, error::RDKafkaErrorCode,
};

use super::client::KafkaConsumer;

/// Messages taken by one call at most.
pub(super) const CALL_MESSAGES: usize = 512;

/// Stands for an offset that is not known.
const UNKNOWN: i64 = -1001;

/// A header of a message: its name and its value.
pub(super) type Header = (String, Option<Vec<u8>>);

/// The queue of a consumer's routed partitions.
pub(super) struct MessageQueue {
    queue: NonNull<native::rd_kafka_queue_t>,
    taken: Vec<*mut native::rd_kafka_message_t>,
    // Dropped after the queue has been destroyed.
    consumer: Arc<KafkaConsumer>,
}

impl fmt::Debug for MessageQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageQueue").finish_non_exhaustive()
    }
}

// SAFETY: librdkafka's queues may be used from any thread; `taken` is empty between calls of `take`, which needs `&mut`.
unsafe impl Send for MessageQueue {}

impl Drop for MessageQueue {
    fn drop(&mut self) {
        // SAFETY: the queue was made by `new` and is destroyed here only, before its client.
        unsafe { native::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

impl MessageQueue {
    /// A queue without partitions.
    pub(super) fn new(consumer: Arc<KafkaConsumer>) -> Result<Self> {
        // SAFETY: the pointer is that of a live client.
        let queue = unsafe { native::rd_kafka_queue_new(consumer.client().native_ptr()) };
        let queue = NonNull::new(queue).ok_or_else(|| Error::internal("librdkafka makes no queue"))?;
        Ok(Self { queue, taken: vec![ptr::null_mut(); CALL_MESSAGES], consumer })
    }

    /// Has a partition's messages come here; it is to be assigned afterwards.
    pub(super) fn route(&self, topic: &str, partition: i32) -> Result<()> {
        let name = CString::new(topic).map_err(|_| Error::internal(format!("topic {topic:?} has a zero byte")))?;
        // SAFETY: the client lives, the name ends with a zero byte, both queues are live; the reference to the
        // partition's queue that the first call gives is returned by the last.
        unsafe {
            let own =
                native::rd_kafka_queue_get_partition(self.consumer.client().native_ptr(), name.as_ptr(), partition);
            if own.is_null() {
                return Err(Error::internal(format!("librdkafka has no queue for {topic}-{partition}")));
            }
            native::rd_kafka_queue_forward(own, self.queue.as_ptr());
            native::rd_kafka_queue_destroy(own);
        }
        Ok(())
    }

    /// One past the last message of a partition, as the broker's last reply to a fetch said; nobody is asked.
    pub(super) fn end(&self, topic: &str, partition: i32) -> Option<i64> {
        let name = CString::new(topic).ok()?;
        let (mut first, mut end) = (UNKNOWN, UNKNOWN);
        let client = self.consumer.client().native_ptr();
        // SAFETY: the client lives, the name ends with a zero byte, and the offsets are written to places of their type.
        let code = unsafe {
            native::rd_kafka_get_watermark_offsets(client, name.as_ptr(), partition, &raw mut first, &raw mut end)
        };
        (code == Code::RD_KAFKA_RESP_ERR_NO_ERROR && end >= 0).then_some(end)
    }

    /// Takes at most so many messages, and no more than [`CALL_MESSAGES`]; waits until there are so many or the time is
    /// over. Says how many there were, errors included.
    pub(super) fn take(&mut self, count_max: usize, wait: Duration, mut each: impl FnMut(Taken<'_>)) -> usize {
        let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        let count_max = count_max.min(self.taken.len());
        // SAFETY: the queue lives, and there is room for `count_max` pointers.
        let count = unsafe {
            native::rd_kafka_consume_batch_queue(self.queue.as_ptr(), wait_ms, self.taken.as_mut_ptr(), count_max)
        };
        // A negative count says that the queue is closed, which has no messages.
        let count = usize::try_from(count).unwrap_or(0);
        for place in self.taken.iter_mut().take(count) {
            if let Some(message) = NonNull::new(std::mem::replace(place, ptr::null_mut())) {
                each(Owned(message).look());
            }
        }
        count
    }
}

/// A message of ours, given back when dropped.
struct Owned(NonNull<native::rd_kafka_message_t>);

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: librdkafka gave the message to us, and nothing borrows from it any more.
        unsafe { native::rd_kafka_message_destroy(self.0.as_ptr()) }
    }
}

impl Owned {
    fn look(&self) -> Taken<'_> {
        // SAFETY: the message lives as long as `self`, and librdkafka does not write to it.
        let raw = unsafe { self.0.as_ref() };
        let message = Message { raw, owner: PhantomData };
        match raw.err {
            Code::RD_KAFKA_RESP_ERR_NO_ERROR => Taken::Message(message),
            Code::RD_KAFKA_RESP_ERR__PARTITION_EOF => Taken::AtEnd(message),
            code => Taken::Failed(code.into()),
        }
    }
}

/// What a queue had.
#[derive(Debug)]
pub(super) enum Taken<'a> {
    /// A message.
    Message(Message<'a>),
    /// A partition has no more messages now; only topic, partition and offset are set.
    AtEnd(Message<'a>),
    /// A partition cannot be read.
    Failed(RDKafkaErrorCode),
}

/// A message as librdkafka holds it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    raw: &'a native::rd_kafka_message_t,
    owner: PhantomData<&'a Owned>,
}

impl<'a> Message<'a> {
    /// Its topic.
    pub(super) fn topic(self) -> &'a str {
        if self.raw.rkt.is_null() {
            return "";
        }
        // SAFETY: the topic lives as long as its message, and its name ends with a zero byte.
        unsafe { CStr::from_ptr(native::rd_kafka_topic_name(self.raw.rkt)) }.to_str().unwrap_or_default()
    }

    /// Its partition.
    pub(super) fn partition(self) -> i32 {
        self.raw.partition
    }

    /// The same for messages of one partition that come one after another, and cheaper than their names.
    pub(super) fn origin(self) -> (usize, i32) {
        (self.raw.rkt.addr(), self.raw.partition)
    }

    /// Its offset.
    pub(super) fn offset(self) -> i64 {
        self.raw.offset
    }

    /// Its value.
    pub(super) fn payload(self) -> Option<&'a [u8]> {
        // SAFETY: librdkafka gives pointer and length of the value, which lives as long as the message.
        unsafe { bytes(self.raw.payload, self.raw.len) }
    }

    /// Its key.
    pub(super) fn key(self) -> Option<&'a [u8]> {
        // SAFETY: librdkafka gives pointer and length of the key, which lives as long as the message.
        unsafe { bytes(self.raw.key, self.raw.key_len) }
    }

    /// When it was made, or taken in by the broker.
    pub(super) fn timestamp(self) -> Timestamp {
        use native::rd_kafka_timestamp_type_t as Kind;
        let mut kind = Kind::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message lives, and the kind is written to a place of its type.
        let millis = unsafe { native::rd_kafka_message_timestamp(self.raw, &raw mut kind) };
        match kind {
            Kind::RD_KAFKA_TIMESTAMP_CREATE_TIME if millis != -1 => Timestamp::CreateTime(millis),
            Kind::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME if millis != -1 => Timestamp::LogAppendTime(millis),
            _ => Timestamp::NotAvailable,
        }
    }

    /// Copies of its headers.
    pub(super) fn headers(self) -> Vec<Header> {
        let mut list = ptr::null_mut();
        // SAFETY: the message lives; the list it gives lives as long.
        let found = unsafe { native::rd_kafka_message_headers(self.raw, &raw mut list) };
        let mut headers = Vec::new();
        if found != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return headers;
        }
        loop {
            let (mut name, mut value, mut length) = (ptr::null(), ptr::null(), 0);
            // SAFETY: the list lives, and name, value and length are written to places of their types.
            let code = unsafe {
                native::rd_kafka_header_get_all(list, headers.len(), &raw mut name, &raw mut value, &raw mut length)
            };
            if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
                return headers;
            }
            // SAFETY: a header's name ends with a zero byte; its value has the length given; both live with the list.
            let (name, value) = unsafe { (CStr::from_ptr(name), bytes(value, length)) };
            headers.push((name.to_string_lossy().into_owned(), value.map(<[u8]>::to_vec)));
        }
    }
}

/// Bytes that librdkafka holds; none where it has no pointer.
///
/// # Safety
///
/// The pointer is null or that of so many bytes which live, and are not written to, as long as the result.
unsafe fn bytes<'a>(start: *const c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: as the caller says.
    (!start.is_null()).then(|| unsafe { slice::from_raw_parts(start.cast::<u8>(), length) })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use rand::{Rng, SeedableRng, rngs::StdRng};
    use rdkafka::{
        ClientConfig, Offset, TopicPartitionList,
        message::{Header as Sent, OwnedHeaders},
        mocking::MockCluster,
        producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
    };

    use super::*;

    type Kept = (i32, Option<Vec<u8>>, Option<Vec<u8>>, Vec<Header>);

    fn some(random: &mut StdRng) -> Option<Vec<u8>> {
        let length = random.random_range(0..200);
        random.random_bool(0.8).then(|| (0..length).map(|_| random.random()).collect())
    }

    fn sent(random: &mut StdRng) -> Kept {
        let headers = (0..random.random_range(0..4)).map(|at| (format!("h{at}"), some(random))).collect();
        (random.random_range(0..3), some(random), some(random), headers)
    }

    fn produce(brokers: &str, all: &[Kept]) {
        let producer: ThreadedProducer<DefaultProducerContext> =
            ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
        for (partition, key, value, headers) in all {
            let list = headers
                .iter()
                .fold(OwnedHeaders::new(), |list, (key, value)| list.insert(Sent { key, value: value.as_ref() }));
            let mut record = BaseRecord::<[u8], [u8]>::to("fuzz").partition(*partition).headers(list);
            record.key = key.as_deref();
            record.payload = value.as_deref();
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(Duration::from_secs(30)).unwrap();
    }

    #[test]
    fn random_messages_come_through_once_and_in_order() {
        const SEED: u64 = 7;
        let mut random = StdRng::seed_from_u64(SEED);
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("fuzz", 3, 1).unwrap();
        let brokers = cluster.bootstrap_servers();
        let all: Vec<Kept> = (0..2_000).map(|_| sent(&mut random)).collect();
        produce(&brokers, &all);
        let properties = std::collections::BTreeMap::from([("bootstrap.servers".to_owned(), brokers)]);
        let consumer =
            Arc::new(super::super::client::consumer(&properties.into_iter().collect(), "fuzz", 1 << 20).unwrap());
        let mut queue = MessageQueue::new(Arc::clone(&consumer)).unwrap();
        assert_eq!(queue.end("fuzz", 0), None);
        let mut list = TopicPartitionList::new();
        for partition in 0..3 {
            queue.route("fuzz", partition).unwrap();
            list.add_partition_offset("fuzz", partition, Offset::Offset(0)).unwrap();
        }
        consumer.incremental_assign(&list).unwrap();
        let (mut got, mut ends) = (Vec::<Kept>::new(), [false; 3]);
        let started = Instant::now();
        while ends != [true; 3] {
            assert!(started.elapsed() < Duration::from_secs(60), "{} of {} messages came", got.len(), all.len());
            assert!(consumer.poll(Duration::ZERO).is_none_or(|polled| polled.is_err()), "a message in the main queue");
            let wanted = random.random_range(1..=CALL_MESSAGES);
            queue.take(wanted, Duration::from_millis(20), |taken| match taken {
                Taken::Message(message) => {
                    assert_eq!(message.topic(), "fuzz");
                    assert!(matches!(message.timestamp(), Timestamp::CreateTime(_)));
                    let (key, value) = (message.key().map(<[u8]>::to_vec), message.payload().map(<[u8]>::to_vec));
                    let before = got.iter().filter(|(partition, ..)| *partition == message.partition()).count();
                    assert_eq!(message.offset(), before as i64);
                    got.push((message.partition(), key, value, message.headers()));
                }
                Taken::AtEnd(message) => {
                    assert_eq!(message.topic(), "fuzz");
                    ends[message.partition() as usize] = true;
                }
                Taken::Failed(code) => panic!("{code}"),
            });
        }
        for partition in 0..3 {
            let count = all.iter().filter(|(own, ..)| *own == partition).count();
            assert_eq!(queue.end("fuzz", partition), Some(count as i64));
            let of = |all: &[Kept]| all.iter().filter(|(own, ..)| *own == partition).cloned().collect::<Vec<_>>();
            assert_eq!(of(&got), of(&all));
        }
    }
}
