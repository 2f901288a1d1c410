//! The SDK behind [`StreamApi`].
//!
//! Invariant: every error becomes a [`Failure`] by its code, in one place a request.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_sdk_kinesis::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    operation::get_records::GetRecordsOutput,
    primitives::{Blob, DateTime},
    types::{self, PutRecordsRequestEntry, ShardIteratorType},
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use bytes::Bytes;
use headwater_engine::{
    error::{Error, Result},
    time::Clock,
};

use super::{
    api::{Description, Entry, Failure, Feed, Fetched, Position, PutOutcome, Shard, StreamApi, StreamRecord},
    fan_out::{self, Consumer},
    options::{KinesisOptions, ReaderType, Stream},
};
use crate::aws::{self, Backoff};

/// Records of one reply at most.
const REPLY_RECORDS: i32 = 10_000;
/// Tries of a request nothing else repeats, such as listing shards.
const TRIES: u32 = 8;
/// Largest record of a stream that does not say another limit.
const RECORD_BYTES: usize = 1 << 20;

/// A stream through the SDK.
#[derive(Debug, Clone)]
pub(super) struct SdkStream {
    pub(super) client: Client,
    pub(super) stream: Stream,
    pub(super) clock: Arc<dyn Clock>,
    /// The registered consumer, when reading by fan-out.
    consumer: Option<Consumer>,
}

impl SdkStream {
    pub(super) async fn connect(options: &KinesisOptions, clock: Arc<dyn Clock>) -> Result<Self> {
        let config = options.aws.connect(&["Kinesis"]).await?;
        let client = Client::new(&config);
        Ok(Self { client, stream: options.stream.clone(), clock, consumer: None })
    }

    /// The same stream, read by fan-out if the options say so.
    pub(super) async fn for_reading(mut self, options: &KinesisOptions) -> Result<Self> {
        if let ReaderType::FanOut { consumer, lifecycle } = &options.reader {
            self.consumer = Some(Consumer::find(&self, consumer, *lifecycle).await?);
        }
        Ok(self)
    }

    pub(super) fn doing(&self, what: &str) -> String {
        format!("cannot {what} stream \"{}\"", self.stream.text())
    }

    async fn shard_page(&self, token: Option<String>) -> std::result::Result<(Vec<Shard>, Option<String>), Failure> {
        let request = self.client.list_shards();
        let request = match token {
            Some(token) => request.next_token(token),
            None => request
                .set_stream_name(self.stream.name().map(str::to_owned))
                .set_stream_arn(self.stream.arn().map(str::to_owned)),
        };
        let reply = request.send().await.map_err(|error| failure(&self.doing("list the shards of"), &error))?;
        let shards = reply.shards().iter().map(shard).collect();
        Ok((shards, reply.next_token().map(str::to_owned)))
    }

    async fn describe_once(&self) -> std::result::Result<Description, Failure> {
        let request = self.client.describe_stream_summary();
        let request = request
            .set_stream_name(self.stream.name().map(str::to_owned))
            .set_stream_arn(self.stream.arn().map(str::to_owned));
        let reply = request.send().await.map_err(|error| failure(&self.doing("describe"), &error))?;
        let summary = reply.stream_description_summary();
        let hours = summary.map_or(24, |summary| summary.retention_period_hours());
        let kib = summary.and_then(|summary| summary.max_record_size_in_kib());
        Ok(Description {
            arn: summary.map(|summary| summary.stream_arn().to_owned()).unwrap_or_default(),
            retention_ms: i64::from(hours) * 3_600_000,
            record_bytes: kib.and_then(|kib| usize::try_from(kib).ok()).map_or(RECORD_BYTES, |kib| kib << 10),
        })
    }

    /// Tries a request again while the service is busy.
    pub(super) async fn patiently<T, F>(&self, mut request: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, Failure>>,
    {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            match request().await {
                Ok(done) => return Ok(done),
                Err(Failure::Throttled) if backoff.attempts() < TRIES => {}
                Err(Failure::Unanswered(_)) if backoff.attempts() < TRIES => {}
                Err(failed) => return Err(error_of(failed, self.stream.text())),
            }
            backoff.wait(&self.clock).await;
        }
    }
}

/// What is left to say when trying again does not help.
pub(super) fn error_of(failure: Failure, stream: &str) -> Error {
    match failure {
        Failure::Throttled => Error::unavailable(format!("stream \"{stream}\" goes on refusing requests as too many"))
            .with_hint("other readers share its limits; add shards or read with 'source.reader.type' = 'EFO'"),
        Failure::Expired => Error::unavailable(format!("stream \"{stream}\" takes no iterator that it gives")),
        Failure::Gone(error) | Failure::Unanswered(error) | Failure::Refused(error) => error,
    }
}

type Sent<T, E> = std::result::Result<T, SdkError<E, HttpResponse>>;

pub(super) fn failure<E>(doing: &str, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default();
    let ours = aws::failed(doing, error);
    match (code, aws::Failure::of(error)) {
        ("ExpiredIteratorException", _) => Failure::Expired,
        ("ResourceInUseException", _) | (_, aws::Failure::Throttled) => Failure::Throttled,
        ("ResourceNotFoundException" | "InvalidArgumentException", _) => Failure::Gone(ours),
        (_, aws::Failure::Unanswered) => Failure::Unanswered(ours),
        (_, aws::Failure::Refused) => Failure::Refused(ours),
    }
}

fn hash_keys(range: Option<&types::HashKeyRange>) -> Option<(u128, u128)> {
    let range = range?;
    Some((range.starting_hash_key().parse().ok()?, range.ending_hash_key().parse().ok()?))
}

fn shard(shard: &types::Shard) -> Shard {
    let parents = shard.parent_shard_id().into_iter().chain(shard.adjacent_parent_shard_id());
    Shard {
        id: shard.shard_id().to_owned(),
        parents: parents.map(str::to_owned).collect(),
        hash_keys: hash_keys(shard.hash_key_range()),
    }
}

pub(super) fn child(child: &types::ChildShard) -> Shard {
    Shard {
        id: child.shard_id().to_owned(),
        parents: child.parent_shards().to_vec(),
        hash_keys: hash_keys(child.hash_key_range()),
    }
}

pub(super) fn record(record: types::Record) -> StreamRecord {
    StreamRecord {
        arrival_ms: record.approximate_arrival_timestamp().and_then(|time| time.to_millis().ok()),
        sequence: record.sequence_number,
        partition_key: record.partition_key.unwrap_or_default(),
        data: Bytes::from(record.data.into_inner()),
    }
}

#[async_trait]
impl StreamApi for SdkStream {
    async fn shards(&self) -> Result<Vec<Shard>> {
        let (mut shards, mut token) = (Vec::new(), None);
        loop {
            let (page, next) = self.patiently(|| self.shard_page(token.clone())).await?;
            shards.extend(page);
            token = next;
            if token.is_none() {
                return Ok(shards);
            }
        }
    }

    async fn describe(&self) -> Result<Description> {
        self.patiently(|| self.describe_once()).await
    }

    async fn feed(&self, shard: &str, from: &Position) -> std::result::Result<Box<dyn Feed>, Failure> {
        if let Some(consumer) = &self.consumer {
            return fan_out::subscribe(self, consumer, shard, from).await;
        }
        let (kind, sequence, time) = match from {
            Position::TrimHorizon => (ShardIteratorType::TrimHorizon, None, None),
            Position::Latest => (ShardIteratorType::Latest, None, None),
            Position::AtTimestamp(ms) => (ShardIteratorType::AtTimestamp, None, Some(DateTime::from_millis(*ms))),
            Position::At(sequence) => (ShardIteratorType::AtSequenceNumber, Some(sequence.clone()), None),
            Position::After(sequence) => (ShardIteratorType::AfterSequenceNumber, Some(sequence.clone()), None),
        };
        let request = self.client.get_shard_iterator();
        let request = request
            .set_stream_name(self.stream.name().map(str::to_owned))
            .set_stream_arn(self.stream.arn().map(str::to_owned))
            .shard_id(shard)
            .shard_iterator_type(kind)
            .set_starting_sequence_number(sequence)
            .set_timestamp(time);
        let doing = format!("cannot read shard \"{shard}\" of stream \"{}\"", self.stream.text());
        let reply = request.send().await.map_err(|error| failure(&doing, &error))?;
        let iterator = reply.shard_iterator().map(str::to_owned);
        Ok(Box::new(Polling { stream: self.clone(), doing, iterator }))
    }

    async fn put(&self, entries: &[Entry]) -> std::result::Result<Vec<PutOutcome>, Failure> {
        let records = entries.iter().map(|entry| {
            PutRecordsRequestEntry::builder()
                .partition_key(&entry.partition_key)
                .data(Blob::new(entry.data.to_vec()))
                .build()
                .map_err(|error| Failure::Refused(Error::internal(format!("a record that cannot be sent: {error}"))))
        });
        let records = records.collect::<std::result::Result<Vec<_>, Failure>>()?;
        let request = self.client.put_records();
        let request = request
            .set_stream_name(self.stream.name().map(str::to_owned))
            .set_stream_arn(self.stream.arn().map(str::to_owned))
            .set_records(Some(records));
        let reply = request.send().await.map_err(|error| failure(&self.doing("write to"), &error))?;
        if reply.records().len() != entries.len() {
            let message = format!("{}: the reply has another number of records", self.doing("write to"));
            return Err(Failure::Unanswered(Error::unavailable(message)));
        }
        let outcome = |entry: &types::PutRecordsResultEntry| match entry.error_code() {
            Some(code) => PutOutcome::Failed(code.to_owned()),
            None => PutOutcome::Taken,
        };
        Ok(reply.records().iter().map(outcome).collect())
    }
}

/// A shard by GetRecords.
#[derive(Debug)]
struct Polling {
    stream: SdkStream,
    doing: String,
    /// `None` once the shard has ended.
    iterator: Option<String>,
}

#[async_trait]
impl Feed for Polling {
    async fn fetch(&mut self) -> std::result::Result<Fetched, Failure> {
        let Some(iterator) = &self.iterator else {
            return Ok(Fetched { ended: Some(Vec::new()), ..Fetched::default() });
        };
        let request = self.stream.client.get_records().shard_iterator(iterator).limit(REPLY_RECORDS);
        let request = request.set_stream_arn(self.stream.stream.arn().map(str::to_owned));
        let sent: Sent<GetRecordsOutput, _> = request.send().await;
        let reply = sent.map_err(|error| match failure(&self.doing, &error) {
            // An iterator is opaque: what the service cannot read is as good as too old.
            Failure::Gone(_) => Failure::Expired,
            other => other,
        })?;
        let children = reply.child_shards().iter().map(child).collect();
        self.iterator = reply.next_shard_iterator;
        Ok(Fetched {
            records: reply.records.into_iter().map(record).collect(),
            behind_ms: reply.millis_behind_latest,
            ended: self.iterator.is_none().then_some(children),
            continuation: None,
        })
    }

    fn is_pushed(&self) -> bool {
        false
    }
}
