//! Topics of a real broker as tests make, fill and read them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    message::{Headers, OwnedHeaders},
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};

/// How long a broker may take to answer a test.
const PATIENCE: Duration = Duration::from_secs(60);

/// A record as a test writes or reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sent {
    /// Where it goes; the key decides when there is none.
    pub partition: Option<i32>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; a record without deletes its key.
    pub value: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Its time.
    pub timestamp_ms: Option<i64>,
}

impl Sent {
    /// A record with a value only.
    pub fn value(value: impl Into<Vec<u8>>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    /// A record with key and value.
    pub fn keyed(key: &str, value: impl Into<Vec<u8>>) -> Self {
        Self { key: Some(key.as_bytes().to_vec()), ..Self::value(value) }
    }
}

/// The topics of one broker.
#[derive(Debug, Clone)]
pub struct Topics {
    brokers: String,
    copies: i32,
}

impl Topics {
    /// The topics of a broker.
    pub fn of(brokers: &str) -> Self {
        Self { brokers: brokers.to_owned(), copies: 1 }
    }

    /// Topics it makes from now on have so many copies.
    #[must_use]
    pub fn with_copies(self, copies: i32) -> Self {
        Self { copies, ..self }
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        Ok(self.config().create()?)
    }

    /// Makes a topic with these settings.
    pub async fn create(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(self.copies));
        topic.config = settings.to_vec();
        for result in self.admin()?.create_topics([&topic], &AdminOptions::new()).await? {
            result.map_err(|(topic, code)| anyhow::anyhow!("cannot create {topic}: {code}"))?;
        }
        Ok(())
    }

    /// Adds partitions to a topic, so that it has so many.
    pub async fn grow(&self, name: &str, partitions: usize) -> Result<()> {
        let grown = NewPartitions::new(name, partitions);
        for result in self.admin()?.create_partitions([&grown], &AdminOptions::new()).await? {
            result.map_err(|(topic, code)| anyhow::anyhow!("cannot grow {topic}: {code}"))?;
        }
        Ok(())
    }

    /// Deletes the records of a partition before an offset.
    pub async fn delete_before(&self, topic: &str, partition: i32, offset: i64) -> Result<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
        self.admin()?.delete_records(&list, &AdminOptions::new()).await?;
        Ok(())
    }

    /// Sends records, in a transaction if `transaction` has a name; it is committed if asked, else aborted.
    pub fn send(&self, topic: &str, records: &[Sent], transaction: Option<(&str, bool)>) -> Result<()> {
        let mut config = self.config();
        config.set("linger.ms", "5").set("enable.idempotence", "true");
        if let Some((id, _)) = transaction {
            config.set("transactional.id", id);
        }
        let producer: ThreadedProducer<DefaultProducerContext> = config.create()?;
        if transaction.is_some() {
            producer.init_transactions(PATIENCE)?;
            producer.begin_transaction()?;
        }
        for sent in records {
            let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
            (record.partition, record.timestamp) = (sent.partition, sent.timestamp_ms);
            (record.key, record.payload) = (sent.key.as_deref(), sent.value.as_deref());
            if !sent.headers.is_empty() {
                let all = sent.headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| {
                    all.insert(rdkafka::message::Header { key, value: Some(value) })
                });
                record = record.headers(all);
            }
            producer.send(record).map_err(|(error, _)| error)?;
        }
        producer.flush(PATIENCE)?;
        match transaction {
            Some((_, true)) => producer.commit_transaction(PATIENCE)?,
            Some((_, false)) => producer.abort_transaction(PATIENCE)?,
            None => {}
        }
        Ok(())
    }

    /// The broker that leads each partition of a topic, by its number.
    pub fn leaders(&self, topic: &str) -> Result<Vec<i32>> {
        let consumer: BaseConsumer = self.config().create()?;
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
        let partitions = metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions);
        Ok(partitions.map(rdkafka::metadata::MetadataPartition::leader).collect())
    }

    /// Every committed record of a topic, partition after partition.
    pub fn read(&self, topic: &str, partitions: i32) -> Result<Vec<Sent>> {
        let consumer: BaseConsumer = self
            .config()
            .set("group.id", "reader-of-tests")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .create()?;
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        let (mut found, mut ends, begun) = (BTreeMap::new(), 0, Instant::now());
        while ends < partitions {
            ensure!(begun.elapsed() < PATIENCE, "the topic {topic} does not end");
            match consumer.poll(Duration::from_millis(200)) {
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => ends += 1,
                Some(Err(error)) => return Err(error.into()),
                Some(Ok(message)) => {
                    let headers = message.headers().map(|headers| {
                        let all = headers.iter();
                        all.map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec())).collect()
                    });
                    let sent = Sent {
                        partition: Some(message.partition()),
                        key: message.key().map(<[u8]>::to_vec),
                        value: message.payload().map(<[u8]>::to_vec),
                        headers: headers.unwrap_or_default(),
                        timestamp_ms: message.timestamp().to_millis(),
                    };
                    found.insert((message.partition(), message.offset()), sent);
                }
                None => {}
            }
        }
        Ok(found.into_values().collect())
    }

    /// The offset a group has committed for a partition.
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Result<Option<i64>> {
        let consumer: BaseConsumer = self.config().set("group.id", group).create()?;
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        let offsets = consumer.committed_offsets(list, PATIENCE)?;
        let found = offsets.find_partition(topic, partition).context("no answer for the partition")?;
        Ok(match found.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        })
    }

    /// Commits an offset for a group, as another program would.
    pub fn commit(&self, group: &str, topic: &str, partition: i32, offset: i64) -> Result<()> {
        let consumer: BaseConsumer = self.config().set("group.id", group).create()?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
        Ok(consumer.commit(&list, rdkafka::consumer::CommitMode::Sync)?)
    }
}
