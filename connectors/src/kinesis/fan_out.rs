//! Enhanced fan-out: a registered consumer to whom the service sends each shard's records.
//!
//! A subscription lasts five minutes; when it ends, another one goes on from its last event. One consumer can hold one
//! subscription a shard, so a copy of the job that is still reading makes the service answer `ResourceInUse` for a while.
//!
//! Invariant: a subscription that ends, or falls silent, is asked for again from the position after the last record that was handed on.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_sdk_kinesis::{
    error::ProvideErrorMetadata,
    operation::subscribe_to_shard::SubscribeToShardOutput,
    primitives::DateTime,
    types::{ConsumerStatus, ShardIteratorType, StartingPosition, SubscribeToShardEventStream},
};
use headwater_engine::{
    error::{Error, Result},
    time::Clock,
};

use super::{
    api::{Failure, Feed, Fetched, Position, StreamApi},
    client::{SdkStream, child, failure, record},
    options::Lifecycle,
};

/// How often a new consumer is looked at until it is active.
const LOOK: Duration = Duration::from_millis(500);
/// Looks until it is given up.
const LOOKS: u32 = 240;
/// Silence after which a connection counts as dead; the service sends an event every few seconds.
const SILENCE_MAX: Duration = Duration::from_secs(35);

/// The ARN of the consumer of a name, registered if it may be.
pub(super) async fn consumer(stream: &SdkStream, name: &str, lifecycle: Lifecycle) -> Result<String> {
    let stream_arn = stream.describe().await?.arn;
    for _ in 0..LOOKS {
        match stream.patiently(|| described(stream, &stream_arn, name)).await? {
            Some((arn, ConsumerStatus::Active)) => return Ok(arn),
            Some(_) => {}
            None if lifecycle == Lifecycle::SelfManaged => {
                let message = format!("stream \"{}\" has no consumer \"{name}\"", stream.stream.text());
                return Err(Error::user("TABLE_NOT_FOUND", message)
                    .with_hint("register it, or set 'source.efo.lifecycle' = 'JOB_MANAGED'"));
            }
            None => stream.patiently(|| register(stream, &stream_arn, name)).await?,
        }
        stream.clock.sleep(LOOK).await;
    }
    Err(Error::unavailable(format!(
        "consumer \"{name}\" of stream \"{}\" does not become active",
        stream.stream.text()
    )))
}

type Described = Option<(String, ConsumerStatus)>;

async fn described(stream: &SdkStream, stream_arn: &str, name: &str) -> std::result::Result<Described, Failure> {
    let request = stream.client.describe_stream_consumer().stream_arn(stream_arn).consumer_name(name);
    match request.send().await {
        Ok(reply) => {
            let found = reply.consumer_description();
            Ok(found.map(|found| (found.consumer_arn().to_owned(), found.consumer_status().clone())))
        }
        Err(error) => match error.as_service_error().and_then(ProvideErrorMetadata::code) {
            Some("ResourceNotFoundException") => Ok(None),
            _ => Err(failure(&stream.doing("describe a consumer of"), &error)),
        },
    }
}

async fn register(stream: &SdkStream, stream_arn: &str, name: &str) -> std::result::Result<(), Failure> {
    let request = stream.client.register_stream_consumer().stream_arn(stream_arn).consumer_name(name);
    match request.send().await {
        Ok(_) => Ok(()),
        Err(error) => match error.as_service_error().and_then(ProvideErrorMetadata::code) {
            // Another task, or another job, has just done so.
            Some("ResourceInUseException") => Ok(()),
            _ => Err(failure(&stream.doing("register a consumer of"), &error)),
        },
    }
}

/// Subscribes to a shard.
pub(super) async fn subscribe(
    stream: &SdkStream,
    consumer: &str,
    shard: &str,
    from: &Position,
) -> std::result::Result<Box<dyn Feed>, Failure> {
    let (kind, sequence, time) = match from {
        Position::TrimHorizon => (ShardIteratorType::TrimHorizon, None, None),
        Position::Latest => (ShardIteratorType::Latest, None, None),
        Position::AtTimestamp(ms) => (ShardIteratorType::AtTimestamp, None, Some(DateTime::from_millis(*ms))),
        Position::At(sequence) => (ShardIteratorType::AtSequenceNumber, Some(sequence.clone()), None),
        Position::After(sequence) => (ShardIteratorType::AfterSequenceNumber, Some(sequence.clone()), None),
    };
    let start = StartingPosition::builder().r#type(kind).set_sequence_number(sequence).set_timestamp(time).build();
    let start = start.map_err(|error| Failure::Refused(Error::internal(format!("no starting position: {error}"))))?;
    let doing = format!("cannot subscribe to shard \"{shard}\" of stream \"{}\"", stream.stream.text());
    let request = stream.client.subscribe_to_shard().consumer_arn(consumer).shard_id(shard).starting_position(start);
    let output = request.send().await.map_err(|error| failure(&doing, &error))?;
    Ok(Box::new(Subscription { output, doing, is_over: false, clock: Arc::clone(&stream.clock) }))
}

/// A shard by SubscribeToShard.
#[derive(Debug)]
struct Subscription {
    output: SubscribeToShardOutput,
    doing: String,
    is_over: bool,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl Feed for Subscription {
    async fn fetch(&mut self) -> std::result::Result<Fetched, Failure> {
        if self.is_over {
            return Err(Failure::Expired);
        }
        let received = tokio::select! {
            received = self.output.event_stream.recv() => received,
            () = self.clock.sleep(SILENCE_MAX) => {
                self.is_over = true;
                return Err(Failure::Expired);
            }
        };
        let event = match received {
            Ok(Some(SubscribeToShardEventStream::SubscribeToShardEvent(event))) => event,
            Ok(Some(_)) => return Ok(Fetched { behind_ms: Some(1), ..Fetched::default() }),
            Ok(None) => return Err(Failure::Expired),
            Err(error) => {
                self.is_over = true;
                let code = error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default().to_owned();
                let ours = Error::unavailable(format!("{}: {error} {code}", self.doing));
                return Err(match code.as_str() {
                    "ResourceNotFoundException" => Failure::Gone(ours),
                    _ => Failure::Unanswered(ours),
                });
            }
        };
        let children = event.child_shards().iter().map(child).collect::<Vec<_>>();
        Ok(Fetched {
            behind_ms: Some(event.millis_behind_latest),
            ended: (!children.is_empty()).then_some(children),
            records: event.records.into_iter().map(record).collect(),
        })
    }

    fn is_pushed(&self) -> bool {
        true
    }
}
