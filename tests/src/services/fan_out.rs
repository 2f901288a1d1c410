//! A Kinesis stream that is read by enhanced fan-out, in the test's own process: it keeps the shards that others forget, and
//! its subscriptions end as a test says.
//!
//! ```text
//! SubscribeToShard ──> initial-response ──> events of records ──> at the end of a closed shard its children, then nothing
//!                                               └─ none for a while: an event without records, as a sign of life
//! ```
//!
//! Invariant: an event is sent whole and once for a position that is asked for; only a [`Break`] does otherwise.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle};

mod event_stream;
mod subscription;

use subscription::subscribe;

/// Records of an event at most.
const EVENT_RECORDS: usize = 7;

/// How a subscription ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// After so many events, as after five minutes.
    End(usize),
    /// Nothing more is sent after so many events, and the connection stays.
    Silent(usize),
    /// Nothing is sent, not even that it has begun.
    SilentAtOnce,
    /// The connection is cut in the middle of the event after so many.
    Cut(usize),
    /// The event after so many has a wrong checksum.
    Corrupt(usize),
    /// After so many events comes this exception.
    Exception(usize, &'static str),
    /// After so many events comes an error outside the stream's model.
    Error(usize, &'static str),
}

type Breaks = dyn Fn(&str, u64) -> Option<Break> + Send + Sync;

/// What a reader asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The shard.
    pub shard: String,
    /// Type of the position, and its sequence number if it has one.
    pub from: (String, String),
    /// Whether it was refused as too early.
    pub is_refused: bool,
    /// When, since the server started.
    pub at: Duration,
}

/// A running server of one stream.
pub struct FanOut {
    /// Endpoint URL.
    pub endpoint: String,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    started: Instant,
    breaks: Box<Breaks>,
    /// How soon after a subscription another one of its shard is refused.
    takeover: Duration,
    stream: Mutex<Stream>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Stream {
    /// When all records came, in seconds since 1970.
    began: f64,
    shards: Vec<Shard>,
    next: u64,
    /// Incarnations of the consumer; the last one is there unless it was deleted.
    consumers: u64,
    has_consumer: bool,
    /// Number and time of each shard's last subscription,
    subscribed: BTreeMap<String, (u64, Instant)>,
    /// and how many records it was sent, counted from the shard's first.
    sent: BTreeMap<String, usize>,
    asked: Vec<Asked>,
    /// Shards whose end was sent, and those that were subscribed to, in the order it happened.
    history: Vec<(String, &'static str)>,
}

#[derive(Debug, Clone)]
struct Shard {
    id: String,
    parents: Vec<String>,
    range: (u128, u128),
    records: Vec<(String, String)>,
    is_closed: bool,
}

impl fmt::Debug for FanOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FanOut").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Drop for FanOut {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl FanOut {
    /// Starts a stream of so many shards; `breaks` gets a shard and how many subscriptions it had before.
    pub async fn start(
        shards: usize,
        takeover: Duration,
        breaks: impl Fn(&str, u64) -> Option<Break> + Send + Sync + 'static,
    ) -> Result<Self> {
        let began = std::time::UNIX_EPOCH.elapsed()?.as_secs_f64();
        let mut stream = Stream { began, ..Stream::default() };
        let part = u128::MAX / shards as u128;
        for index in 0..shards as u128 {
            let last = if index + 1 == shards as u128 { u128::MAX } else { (index + 1) * part - 1 };
            stream.open(Vec::new(), (index * part, last));
        }
        let shared = Arc::new(Shared {
            started: Instant::now(),
            breaks: Box::new(breaks),
            takeover,
            stream: Mutex::new(stream),
            changed: Notify::new(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let app = Router::new().fallback(handle).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move {
            let _stopped = axum::serve(listener, app).await;
        });
        Ok(Self { endpoint, shared, server })
    }

    /// Puts `{"n": ..}` for each number into the open shards in turn.
    pub fn put(&self, numbers: std::ops::Range<u64>) {
        let mut stream = self.shared.stream();
        for number in numbers {
            let sequence = stream.sequence();
            let mut open: Vec<&mut Shard> = stream.shards.iter_mut().filter(|shard| !shard.is_closed).collect();
            let index = number as usize % open.len();
            open[index].records.push((sequence, format!("{{\"n\": {number}}}")));
        }
        drop(stream);
        self.shared.changed.notify_waiters();
    }

    /// Splits the first open shard.
    pub fn split(&self) -> Result<()> {
        let mut stream = self.shared.stream();
        let parent = stream.shards.iter_mut().find(|shard| !shard.is_closed).context("an open shard")?;
        parent.is_closed = true;
        let ((first, last), id) = (parent.range, parent.id.clone());
        let middle = first + (last - first) / 2;
        stream.open(vec![id.clone()], (first, middle));
        stream.open(vec![id], (middle + 1, last));
        drop(stream);
        self.shared.changed.notify_waiters();
        Ok(())
    }

    /// Merges two open shards that are neighbours.
    pub fn merge(&self) -> Result<()> {
        let mut stream = self.shared.stream();
        let mut open: Vec<&mut Shard> = stream.shards.iter_mut().filter(|shard| !shard.is_closed).collect();
        open.sort_by_key(|shard| shard.range);
        let [one, other, ..] = &mut open[..] else { anyhow::bail!("one shard is open") };
        (one.is_closed, other.is_closed) = (true, true);
        let (parents, range) = (vec![one.id.clone(), other.id.clone()], (one.range.0, other.range.1));
        stream.open(parents, range);
        drop(stream);
        self.shared.changed.notify_waiters();
        Ok(())
    }

    /// Deletes the consumer, whose subscriptions are told so.
    pub fn delete_consumer(&self) {
        self.shared.stream().has_consumer = false;
        self.shared.changed.notify_waiters();
    }

    /// Waits until the readers of all open shards were sent every record.
    pub async fn wait_sent(&self) -> Result<()> {
        let is_sent = |stream: &Stream, shard: &Shard| stream.sent.get(&shard.id) == Some(&shard.records.len());
        for _ in 0..6000 {
            let all = {
                let stream = self.shared.stream();
                stream.shards.iter().filter(|shard| !shard.is_closed).all(|shard| is_sent(&stream, shard))
            };
            if all {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::bail!("a shard is not read to its end: {:?}", self.shared.stream().history)
    }

    /// Every subscription that was asked for.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.stream().asked.clone()
    }

    /// How often the consumer was registered.
    pub fn registrations(&self) -> u64 {
        self.shared.stream().consumers
    }

    /// Checks that no shard was read before the end of each of its parents was sent.
    pub fn check_order(&self) -> Result<()> {
        let stream = self.shared.stream();
        for (at, (id, what)) in stream.history.iter().enumerate() {
            let shard = stream.shards.iter().find(|shard| shard.id == *id).context("a shard")?;
            for parent in shard.parents.iter().filter(|_| *what == "subscribed") {
                let ended = stream.history[..at].iter().any(|(id, what)| id == parent && *what == "ended");
                anyhow::ensure!(ended, "{id} was read before the end of {parent}");
            }
        }
        Ok(())
    }
}

impl Shared {
    fn stream(&self) -> MutexGuard<'_, Stream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream {
    fn open(&mut self, parents: Vec<String>, range: (u128, u128)) {
        let id = format!("shardId-{:012}", self.shards.len());
        self.shards.push(Shard { id, parents, range, records: Vec::new(), is_closed: false });
    }

    /// The next sequence number.
    fn sequence(&mut self) -> String {
        self.next += 1;
        self.newest()
    }

    /// The newest sequence number, as long as those of the service.
    fn newest(&self) -> String {
        format!("4957{:052}", self.next)
    }

    fn consumer_arn(&self) -> String {
        format!("arn:aws:kinesis:us-east-1:000000000000:stream/numbers/consumer/tests:{}", self.consumers)
    }
}

impl Shard {
    fn listed(&self) -> Value {
        let (first, last) = self.range;
        let mut listed = json!({
            "ShardId": self.id,
            "HashKeyRange": { "StartingHashKey": first.to_string(), "EndingHashKey": last.to_string() },
            "SequenceNumberRange": { "StartingSequenceNumber": "0" },
        });
        for (name, parent) in ["ParentShardId", "AdjacentParentShardId"].into_iter().zip(&self.parents) {
            listed[name] = json!(parent);
        }
        listed
    }

    fn as_child(&self) -> Value {
        json!({ "ShardId": self.id, "ParentShards": self.parents, "HashKeyRange": self.listed()["HashKeyRange"] })
    }
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, 1 << 20).await else { return refused("SerializationException", "no body") };
    let target = parts.headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut stream = shared.stream();
    let consumer = |stream: &Stream, status: &str| {
        json!({
            "ConsumerName": "tests", "ConsumerARN": stream.consumer_arn(), "ConsumerStatus": status,
            "ConsumerCreationTimestamp": 1.0, "StreamARN": "arn:aws:kinesis:us-east-1:000000000000:stream/numbers",
        })
    };
    match target.rsplit('.').next().unwrap_or_default() {
        "DescribeStreamSummary" => answer(&json!({ "StreamDescriptionSummary": {
            "StreamName": "numbers", "StreamARN": "arn:aws:kinesis:us-east-1:000000000000:stream/numbers",
            "StreamStatus": "ACTIVE", "RetentionPeriodHours": 24, "StreamCreationTimestamp": 1.0,
            "EnhancedMonitoring": [], "OpenShardCount": stream.shards.len(),
        }})),
        "ListShards" => {
            let listed: Vec<Value> = stream.shards.iter().map(Shard::listed).collect();
            answer(&json!({ "Shards": listed }))
        }
        "DescribeStreamConsumer" if stream.has_consumer => {
            answer(&json!({ "ConsumerDescription": consumer(&stream, "ACTIVE") }))
        }
        "DescribeStreamConsumer" => refused("ResourceNotFoundException", "no such consumer"),
        "RegisterStreamConsumer" if stream.has_consumer => refused("ResourceInUseException", "it is there"),
        "RegisterStreamConsumer" => {
            stream.consumers += 1;
            stream.has_consumer = true;
            answer(&json!({ "Consumer": consumer(&stream, "CREATING") }))
        }
        "SubscribeToShard" => {
            drop(stream);
            subscribe(&shared, &asked)
        }
        other => refused("UnknownOperationException", other),
    }
}

fn answer(body: &Value) -> Response {
    Response::new(Body::from(body.to_string()))
}

fn refused(code: &str, message: &str) -> Response {
    let mut response = answer(&json!({ "__type": code, "message": message }));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}
