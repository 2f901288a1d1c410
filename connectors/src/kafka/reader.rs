//! Reads the partitions of one source task with one consumer, on a thread of its own.
//!
//! A blocking thread takes messages from librdkafka, gathers them per partition and sends whole batches over a bounded
//! channel; [`KafkaReader::next`] only receives, so it is cancel-safe.
//!
//! Invariant: at most [`QUEUE_BATCHES`] batches wait in the channel; beyond that the thread takes no more, librdkafka's
//! bounded fetch queue fills, and the broker is no longer asked.

use std::{
    collections::HashMap,
    sync::{Arc, mpsc as std_mpsc},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use headwater_engine::{
    connector::{Bound, Offset, SourceEvent, SplitId, SplitReader, SplitStart},
    error::{Error, Result},
    memory::MemoryLease,
};
use rdkafka::{
    TopicPartitionList,
    consumer::Consumer,
    error::{KafkaError, RDKafkaErrorCode},
    topic_partition_list::Offset as KafkaOffset,
};
use tokio::sync::mpsc;

use super::{
    client::{self, KafkaConsumer, client_error},
    options::{KafkaOptions, OnOffsetLost},
    queue::{CALL_MESSAGES, Message, MessageQueue, Taken},
    records::{Records, Room, Wanted},
    source::Assembler,
    start::{self, Range},
};

/// Batches that wait between the consumer's thread and the task.
const QUEUE_BATCHES: usize = 4;
/// A batch goes out when it has so many messages,
const BATCH_MESSAGES: usize = 16_384;
/// or so many bytes,
const BATCH_BYTES: usize = 2 << 20;
/// or when nothing has come for so long.
const POLL: Duration = Duration::from_millis(20);

/// What the thread tells the reader.
#[derive(Debug)]
enum Event {
    Records { split: SplitId, records: Box<Records>, lag: Option<u64> },
    CaughtUp(SplitId),
    End { split: SplitId, at: i64 },
    Failed(Error),
}

/// What the reader tells the thread.
#[derive(Debug)]
enum Command {
    Assign(Vec<SplitStart>),
    Pause(Vec<SplitId>),
    Resume(Vec<SplitId>),
}

/// The reader of a source task.
#[derive(Debug)]
pub(super) struct KafkaReader {
    events: mpsc::Receiver<Event>,
    commands: std_mpsc::Sender<Command>,
    assembler: Assembler,
    bound: Bound,
    /// What the consumer may fetch ahead.
    _fetched: MemoryLease,
}

impl KafkaReader {
    /// Starts the thread with the first splits.
    pub(super) fn start(
        (consumer, fetched): (KafkaConsumer, MemoryLease),
        options: KafkaOptions,
        assembler: Assembler,
        bound: Bound,
        splits: Vec<SplitStart>,
    ) -> Result<Self> {
        let (send_events, events) = mpsc::channel(QUEUE_BATCHES);
        let (commands, receive_commands) = std_mpsc::channel();
        let consumer = Arc::new(consumer);
        let poller = Poller {
            queue: MessageQueue::new(Arc::clone(&consumer))?,
            consumer,
            options,
            bound,
            wanted: assembler.wanted(),
            events: send_events,
            commands: receive_commands,
            splits: Vec::new(),
            places: HashMap::new(),
            refused_since: None,
        };
        let reader = Self { events, commands, assembler, bound, _fetched: fetched };
        reader.command(Command::Assign(splits))?;
        std::thread::Builder::new()
            .name("kafka-reader".to_owned())
            .spawn(move || poller.run())
            .map_err(|error| Error::from(error).context("cannot start a thread for a Kafka consumer"))?;
        Ok(reader)
    }

    fn command(&self, command: Command) -> Result<()> {
        self.commands.send(command).map_err(|_| Error::internal("the Kafka consumer's thread has ended"))
    }
}

#[async_trait]
impl SplitReader for KafkaReader {
    async fn next(&mut self) -> Result<SourceEvent> {
        match self.events.recv().await {
            Some(Event::Records { split, records, lag }) => {
                Ok(SourceEvent::Batch(self.assembler.assemble(split, *records, lag)?))
            }
            Some(Event::CaughtUp(split)) => Ok(SourceEvent::CaughtUp(split)),
            Some(Event::End { split, at }) => Ok(match self.bound {
                Bound::EndNow => SourceEvent::ReachedEnd { split, resume_at: Some(Offset::new(at.to_string())) },
                Bound::Table => SourceEvent::Ended { split, children: Vec::new() },
            }),
            Some(Event::Failed(error)) => Err(error),
            None => Err(Error::internal("the Kafka consumer's thread has ended")),
        }
    }

    async fn assign(&mut self, splits: Vec<SplitStart>) -> Result<()> {
        self.command(Command::Assign(splits))
    }

    fn pause(&mut self, splits: &[SplitId]) {
        // A thread that has ended says so in `next`.
        let _ended = self.command(Command::Pause(splits.to_vec()));
    }

    fn resume(&mut self, splits: &[SplitId]) {
        let _ended = self.command(Command::Resume(splits.to_vec()));
    }
}

/// One partition as the thread reads it.
#[derive(Debug)]
struct Reading {
    split: SplitId,
    range: Range,
    /// Next offset to read.
    position: i64,
    gathered: Option<Records>,
    /// What the last batch took.
    room: Room,
    at_end: bool,
}

struct Poller {
    queue: MessageQueue,
    consumer: Arc<KafkaConsumer>,
    options: KafkaOptions,
    bound: Bound,
    wanted: Wanted,
    events: mpsc::Sender<Event>,
    commands: std_mpsc::Receiver<Command>,
    splits: Vec<Reading>,
    /// Where each of them is.
    places: HashMap<SplitId, usize>,
    /// Since when the broker refuses what it accepted before.
    refused_since: Option<Instant>,
}

/// The reader has gone; the thread ends.
struct Closed;

impl Poller {
    fn run(mut self) {
        loop {
            let step = self.obey().and_then(|()| self.gather());
            match step {
                Ok(Ok(())) if !self.events.is_closed() => {}
                Ok(_) => return,
                Err(error) => {
                    let _reader_gone = self.events.blocking_send(Event::Failed(error));
                    return;
                }
            }
        }
    }

    fn obey(&mut self) -> Result<()> {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Assign(splits) => self.assign(splits)?,
                Command::Pause(splits) => {
                    let list = self.list(&splits);
                    self.consumer.pause(&list).map_err(|error| client_error("cannot pause partitions", &error))?;
                }
                Command::Resume(splits) => {
                    let list = self.list(&splits);
                    self.consumer.resume(&list).map_err(|error| client_error("cannot resume partitions", &error))?;
                }
            }
        }
        Ok(())
    }

    fn list(&self, splits: &[SplitId]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        let known = splits.iter().filter_map(|split| self.splits.get(*self.places.get(split)?));
        for reading in known.filter(|reading| !reading.at_end) {
            list.add_partition(&reading.range.topic, reading.range.partition);
        }
        list
    }

    fn assign(&mut self, splits: Vec<SplitStart>) -> Result<()> {
        let mut list = TopicPartitionList::new();
        for SplitStart { split, at } in splits {
            let range = start::range(&self.consumer, &self.options, &split.id, &at, self.bound)?;
            let at_end = range.end.is_some_and(|end| end <= range.start);
            if at_end {
                self.send(Event::End { split: split.id.clone(), at: range.start });
            } else {
                self.queue.route(&range.topic, range.partition)?;
                list.add_partition_offset(&range.topic, range.partition, KafkaOffset::Offset(range.start))
                    .map_err(|error| client_error("cannot assign a partition", &error))?;
            }
            let (position, room, id) = (range.start, Room::default(), split.id);
            let reading = Reading { split: id.clone(), range, position, gathered: None, room, at_end };
            match self.places.get(&id) {
                Some(place) => self.splits[*place] = reading,
                None => {
                    self.places.insert(id, self.splits.len());
                    self.splits.push(reading);
                }
            }
        }
        if list.count() > 0 {
            self.consumer
                .incremental_assign(&list)
                .map_err(|error| client_error("cannot assign partitions", &error))?;
        }
        Ok(())
    }

    /// Takes messages until batches are full or nothing comes, then sends them.
    fn gather(&mut self) -> Result<std::result::Result<(), Closed>> {
        self.heed_events()?;
        let (mut taken, mut full) = (0, false);
        let (mut dry, mut failed) = (Vec::new(), Vec::new());
        // Only the first message is waited for.
        let (mut wanted, mut wait) = (1, POLL);
        while taken < BATCH_MESSAGES && !full && dry.is_empty() {
            // Messages of a partition come in long runs, and its split is looked for once for a run.
            let mut run = None;
            let (places, splits, kept) = (&self.places, &mut self.splits, self.wanted);
            let place = |message: Message<'_>| {
                places.get(&start::split_id(message.topic(), message.partition())).copied().unwrap_or(usize::MAX)
            };
            let count = self.queue.take(wanted, wait, |next| match next {
                Taken::Message(message) => {
                    let origin = message.origin();
                    if run.is_none_or(|(known, _)| known != origin) {
                        run = Some((origin, place(message)));
                    }
                    let at = run.map_or(usize::MAX, |(_, at)| at);
                    full |= splits.get_mut(at).is_some_and(|reading| reading.take(message, kept));
                }
                Taken::AtEnd(message) => dry.push(start::split_id(message.topic(), message.partition())),
                Taken::Failed(code) => failed.push(KafkaError::MessageConsumption(code)),
            });
            if count > failed.len() + dry.len() {
                self.refused_since = None;
            }
            failed.drain(..).try_for_each(|error| self.poll_error(error))?;
            if count < wanted {
                break;
            }
            taken += count;
            (wanted, wait) = (CALL_MESSAGES, Duration::ZERO);
        }
        Ok(self.flush().and_then(|()| dry.into_iter().try_for_each(|split| self.ran_dry(split))))
    }

    /// Serves what is not of a partition: logs, refusals, answers to commits.
    fn heed_events(&mut self) -> Result<()> {
        match self.consumer.poll(Duration::ZERO) {
            None => Ok(()),
            Some(Err(error)) => self.poll_error(error),
            Some(Ok(_)) => Err(Error::internal("a message came outside the queue of its partition")),
        }
    }

    fn poll_error(&mut self, error: KafkaError) -> Result<()> {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => self.recover_lost_offsets(),
            Some(
                RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable,
            ) => {
                tracing::warn!("kafka: {error}; reading goes on when the broker answers");
                Ok(())
            }
            // A broker that has just started may not know its users yet.
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed)
                if self.refused_since.get_or_insert_with(Instant::now).elapsed() < client::ASK_AGAIN_FOR =>
            {
                tracing::warn!("kafka: {error}; trying again");
                Ok(())
            }
            _ => Err(client_error(&format!("table \"{}\": reading failed", self.options.table), &error)),
        }
    }

    fn recover_lost_offsets(&mut self) -> Result<()> {
        let policy: OnOffsetLost = self.options.on_offset_lost;
        for reading in &mut self.splits {
            let bounds = client::bounds(&self.consumer, &reading.range.topic, reading.range.partition)?;
            let position = start::check_available(&reading.split, reading.position, bounds, policy)?;
            if position != reading.position {
                reading.position = position;
                let (topic, partition) = (&reading.range.topic, reading.range.partition);
                self.consumer
                    .seek(topic, partition, KafkaOffset::Offset(position), client::REQUEST_TIMEOUT)
                    .map_err(|error| client_error("cannot move to an offset", &error))?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> std::result::Result<(), Closed> {
        let mut out = Vec::new();
        let mut ended = TopicPartitionList::new();
        for reading in &mut self.splits {
            if let Some(records) = reading.gathered.take() {
                reading.room = records.room();
                let (topic, partition) = (&reading.range.topic, reading.range.partition);
                let end = reading.range.end.or_else(|| self.queue.end(topic, partition));
                let lag = end.map(|end| (end - reading.position).max(0) as u64);
                out.push(Event::Records { split: reading.split.clone(), records: Box::new(records), lag });
            }
            if !reading.at_end && reading.range.end.is_some_and(|end| reading.position >= end) {
                reading.at_end = true;
                ended.add_partition(&reading.range.topic, reading.range.partition);
                out.push(Event::End { split: reading.split.clone(), at: reading.position });
            }
        }
        if ended.count() > 0 && self.consumer.incremental_unassign(&ended).is_err() {
            tracing::debug!("kafka: a partition that was read to its end could not be given back");
        }
        out.into_iter().try_for_each(|event| self.send(event).then_some(()).ok_or(Closed))
    }

    /// A partition without more messages: caught up, or at its end when only markers of transactions were left.
    fn ran_dry(&mut self, split: SplitId) -> std::result::Result<(), Closed> {
        let place = self.places.get(&split).copied().unwrap_or(usize::MAX);
        let Some(reading) = self.splits.get_mut(place) else { return Ok(()) };
        let event = match reading.range.end {
            Some(end) if !reading.at_end => {
                reading.at_end = true;
                Event::End { split, at: end.max(reading.position) }
            }
            Some(_) => return Ok(()),
            None => Event::CaughtUp(split),
        };
        if self.send(event) { Ok(()) } else { Err(Closed) }
    }

    fn send(&self, event: Event) -> bool {
        self.events.blocking_send(event).is_ok()
    }
}

impl Reading {
    /// Takes a message unless it lies beyond the end; says whether the batch is full.
    fn take(&mut self, message: Message<'_>, wanted: Wanted) -> bool {
        let beyond = self.range.end.is_some_and(|end| message.offset() >= end);
        if self.at_end || beyond {
            self.position = self.position.max(self.range.end.unwrap_or(self.position));
            return beyond;
        }
        let new = || Records::new(self.range.topic.clone(), self.range.partition, wanted, self.room);
        let records = self.gathered.get_or_insert_with(new);
        records.push(message);
        self.position = message.offset() + 1;
        records.len() >= BATCH_MESSAGES || records.bytes() >= BATCH_BYTES
    }
}
