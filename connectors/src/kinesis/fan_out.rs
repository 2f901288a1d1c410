//! Enhanced fan-out: a registered consumer to whom the service sends each shard's records.
//!
//! ```text
//! subscribe ──> events, one at least every five seconds ──> with the children of the shard: it has ended
//!     │            └─ five minutes are over, broken off, or nothing for SILENCE_MAX: subscribe again behind the last event
//!     ├─ ResourceInUse: the one before is less than five seconds old, or a copy of the job still reads: wait
//!     └─ ResourceNotFound: the consumer is looked for, and registered again if it may be; else the shard is gone
//! ```
//!
//! Invariant: however a subscription ends, the next one goes on behind the last event whose records were all handed on.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_sdk_kinesis::{
    error::{DisplayErrorContext, ProvideErrorMetadata, SdkError},
    operation::subscribe_to_shard::SubscribeToShardOutput,
    primitives::DateTime,
    types::{
        ConsumerStatus, ShardIteratorType, StartingPosition, SubscribeToShardEventStream,
        error::SubscribeToShardEventStreamError,
    },
};
use aws_smithy_types::event_stream::RawMessage;
use headwater_engine::{
    error::{Error, ErrorKind, Result},
    time::Clock,
};
use parking_lot::Mutex;

use super::{
    api::{Failure, Feed, Fetched, Position, StreamApi},
    client::{SdkStream, child, failure, record},
    options::Lifecycle,
};

/// How often a new consumer is looked at until it is active.
const LOOK: Duration = Duration::from_millis(500);
/// Looks until it is given up.
const LOOKS: u32 = 240;
/// Silence after which a connection counts as dead; the service sends an event at least every five seconds.
const SILENCE_MAX: Duration = Duration::from_secs(35);
/// How long a subscription may take to begin. It is longer than two attempts of the client, which leaves a dead connection
/// that it shares only when an attempt of its own has timed out.
const BEGIN_MAX: Duration = Duration::from_secs(70);

/// A registered consumer. One that is deleted and registered again has another ARN.
#[derive(Debug, Clone)]
pub(super) struct Consumer {
    name: String,
    lifecycle: Lifecycle,
    arn: Arc<Mutex<String>>,
}

impl Consumer {
    /// The consumer of a name, registered if it may be.
    pub(super) async fn find(stream: &SdkStream, name: &str, lifecycle: Lifecycle) -> Result<Self> {
        let arn = active(stream, name, lifecycle).await?;
        Ok(Self { name: name.to_owned(), lifecycle, arn: Arc::new(Mutex::new(arn)) })
    }

    /// What to do when the service knows no such consumer, or no such shard.
    async fn not_found(&self, stream: &SdkStream, used: &str, ours: Error) -> Failure {
        match active(stream, &self.name, self.lifecycle).await {
            Ok(found) if found == used => Failure::Gone(ours),
            Ok(found) => {
                *self.arn.lock() = found;
                Failure::Unanswered(Error::unavailable(ours.message()))
            }
            Err(error) => Failure::Refused(error),
        }
    }
}

/// The ARN of the consumer of a name once it is active, registered if it may be.
async fn active(stream: &SdkStream, name: &str, lifecycle: Lifecycle) -> Result<String> {
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
    consumer: &Consumer,
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
    let arn = consumer.arn.lock().clone();
    let request = stream.client.subscribe_to_shard().consumer_arn(&arn).shard_id(shard).starting_position(start);
    // The client's own limits end with the head of the answer, but it waits for the first event too.
    let sent = tokio::select! {
        sent = request.send() => sent,
        () = stream.clock.sleep(BEGIN_MAX) => return Err(silent(&doing, BEGIN_MAX)),
    };
    match sent {
        Ok(output) => Ok(Box::new(Subscription { output, doing, is_over: false, clock: Arc::clone(&stream.clock) })),
        Err(error) => {
            let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
            Err(match (code, failure(&doing, &error)) {
                (Some("ResourceInUseException"), _) => Failure::Unanswered(in_use(&doing)),
                (Some("ResourceNotFoundException"), Failure::Gone(ours)) => {
                    consumer.not_found(stream, &arn, ours).await
                }
                (_, other) => other,
            })
        }
    }
}

fn silent(doing: &str, time: Duration) -> Failure {
    Failure::Unanswered(Error::unavailable(format!("{doing}: the service sent nothing for {} s", time.as_secs())))
}

fn in_use(doing: &str) -> Error {
    Error::unavailable(format!("{doing}: ResourceInUseException: another reader has the consumer"))
        .with_hint("give each job a 'source.efo.consumer.name' of its own")
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
                return Err(silent(&self.doing, SILENCE_MAX));
            }
        };
        let event = match received {
            Ok(Some(SubscribeToShardEventStream::SubscribeToShardEvent(event))) => event,
            Ok(Some(_)) => return Ok(Fetched { behind_ms: Some(1), ..Fetched::default() }),
            Ok(None) => {
                self.is_over = true;
                return Err(Failure::Expired);
            }
            Err(error) => {
                self.is_over = true;
                return Err(broken(&self.doing, &error));
            }
        };
        let children = event.child_shards().iter().map(child).collect::<Vec<_>>();
        Ok(Fetched {
            behind_ms: Some(event.millis_behind_latest),
            ended: (!children.is_empty()).then_some(children),
            continuation: Some(event.continuation_sequence_number).filter(|sequence| !sequence.is_empty()),
            records: event.records.into_iter().map(record).collect(),
        })
    }

    fn is_pushed(&self) -> bool {
        true
    }
}

/// What the service refuses for as long as nobody changes the stream's key or a policy.
const REFUSALS: [&str; 6] = [
    "AccessDeniedException",
    "KMSAccessDeniedException",
    "KMSDisabledException",
    "KMSInvalidStateException",
    "KMSNotFoundException",
    "KMSOptInRequired",
];

/// What to do when a subscription ends with an error: mostly subscribe again, which says more.
fn broken(doing: &str, error: &SdkError<SubscribeToShardEventStreamError, RawMessage>) -> Failure {
    let header = |name: &str| match error.raw_response() {
        Some(RawMessage::Decoded(message)) => {
            let found = message.headers().iter().find(|header| header.name().as_str() == name);
            found.and_then(|header| header.value().as_string().ok()).map(|text| text.as_str().to_owned())
        }
        _ => None,
    };
    let Some(code) = header(":exception-type").or_else(|| header(":error-code")) else {
        let text = DisplayErrorContext(error).to_string();
        return Failure::Unanswered(Error::unavailable(format!("{doing}: the subscription broke off: {text}")));
    };
    if code == "ResourceInUseException" {
        return Failure::Unanswered(in_use(doing));
    }
    let words = error.as_service_error().and_then(|error| error.message().map(str::to_owned));
    let words = words.or_else(|| header(":error-message")).unwrap_or_default();
    let message = format!("{doing}: {code}: {words}");
    match REFUSALS.contains(&code.as_str()) {
        true if code.contains("AccessDenied") => Failure::Refused(
            Error::new(ErrorKind::Denied, "PERMISSION_DENIED", message)
                .with_hint("let the job's credentials use the stream and the key that encrypts it"),
        ),
        true => Failure::Refused(
            Error::user("EXTERNAL", message).with_hint("see to the key that encrypts the stream, then start the job"),
        ),
        false => Failure::Unanswered(Error::unavailable(message)),
    }
}
