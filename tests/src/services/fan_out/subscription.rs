//! One subscription: its events, and how it ends.
//!
//! Invariant: what it has sent of a shard is noted when it is sent, so that a test knows what a reader can have.

use std::{io, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, header::CONTENT_TYPE},
    response::Response,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use futures::{StreamExt, stream};
use serde_json::{Value, json};

use super::{
    Asked, Break, EVENT_RECORDS, Shard, Shared, Stream,
    event_stream::{error, event, exception, initial_response},
    refused,
};

/// After so long without a record comes an event without any; the service takes five seconds.
const SIGN_OF_LIFE: Duration = Duration::from_millis(300);

struct Subscription {
    shared: Arc<Shared>,
    shard: String,
    consumer: String,
    /// Its number among those of the shard.
    nth: u64,
    breaks: Option<Break>,
    /// Records sent, counted from the shard's first.
    at: usize,
    events: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Over,
    /// The connection is cut next.
    Cut,
}

/// Answers SubscribeToShard.
pub(super) fn subscribe(shared: &Arc<Shared>, asked: &Value) -> Response {
    match begin(shared, asked) {
        Ok(begun) => {
            let first = (begun.breaks != Some(Break::SilentAtOnce)).then(|| Ok(initial_response()));
            let rest = stream::unfold(begun, |mut subscription| async move {
                let bytes = subscription.next().await?;
                Some((bytes, subscription))
            });
            let mut response = Response::new(Body::from_stream(stream::iter(first).chain(rest)));
            let content_type = HeaderValue::from_static("application/vnd.amazon.eventstream");
            response.headers_mut().insert(CONTENT_TYPE, content_type);
            response
        }
        Err((code, message)) => refused(code, message),
    }
}

fn begin(shared: &Arc<Shared>, asked: &Value) -> Result<Subscription, (&'static str, &'static str)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (shard, position) = (text(&asked["ShardId"]), &asked["StartingPosition"]);
    let from = (text(&position["Type"]), text(&position["SequenceNumber"]));
    let mut stream = shared.stream();
    let consumer = stream.consumer_arn();
    if !stream.has_consumer || text(&asked["ConsumerARN"]) != consumer {
        return Err(("ResourceNotFoundException", "no such consumer"));
    }
    let known = stream.shards.iter().find(|known| known.id == shard);
    let records = &known.ok_or(("ResourceNotFoundException", "no such shard"))?.records;
    let at = match from.0.as_str() {
        "TRIM_HORIZON" => 0,
        "AFTER_SEQUENCE_NUMBER" => records.partition_point(|(sequence, _)| *sequence <= from.1),
        _ => return Err(("InvalidArgumentException", "no such position")),
    };
    let before = stream.subscribed.get(&shard).copied();
    let is_refused = before.is_some_and(|(_, at)| at.elapsed() < shared.takeover);
    stream.asked.push(Asked { shard: shard.clone(), from, is_refused, at: shared.started.elapsed() });
    if is_refused {
        return Err(("ResourceInUseException", "the subscription before is too young"));
    }
    let nth = before.map_or(0, |(nth, _)| nth + 1);
    stream.subscribed.insert(shard.clone(), (nth, std::time::Instant::now()));
    stream.sent.insert(shard.clone(), at);
    stream.history.push((shard.clone(), "subscribed"));
    drop(stream);
    let breaks = (shared.breaks)(&shard, nth);
    Ok(Subscription { shared: Arc::clone(shared), shard, consumer, nth, breaks, at, events: 0, state: State::Open })
}

impl Subscription {
    /// The next bytes; `None` when it ends.
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        match self.state {
            State::Open => {}
            State::Over => return None,
            State::Cut => {
                // What was sent before is to leave before the connection goes.
                tokio::time::sleep(Duration::from_millis(20)).await;
                return Some(Err(io::Error::other("the connection is cut")));
            }
        }
        let events = self.events;
        match self.breaks {
            Some(Break::End(after)) if after == events => return None,
            Some(Break::SilentAtOnce) => std::future::pending::<()>().await,
            Some(Break::Silent(after)) if after == events => std::future::pending::<()>().await,
            Some(Break::Exception(after, code)) if after == events => return Some(Ok(self.last(exception(code)))),
            Some(Break::Error(after, code)) if after == events => return Some(Ok(self.last(error(code)))),
            _ => {}
        }
        let event = self.event().await;
        self.events += 1;
        Some(Ok(match self.breaks {
            Some(Break::Cut(after)) if after == events => {
                self.state = State::Cut;
                event.slice(..event.len() / 2)
            }
            Some(Break::Corrupt(after)) if after == events => {
                let (middle, mut bytes) = (event.len() / 2, event.to_vec());
                bytes[middle] ^= 1;
                self.last(bytes.into())
            }
            _ => event,
        }))
    }

    fn last(&mut self, bytes: Bytes) -> Bytes {
        self.state = State::Over;
        bytes
    }

    async fn event(&mut self) -> Bytes {
        let shared = Arc::clone(&self.shared);
        loop {
            let mut changed = std::pin::pin!(shared.changed.notified());
            changed.as_mut().enable();
            if let Some(event) = self.event_now(&mut shared.stream()) {
                return event;
            }
            if tokio::time::timeout(SIGN_OF_LIFE, changed).await.is_err() {
                return records(&[], 0, &shared.stream());
            }
        }
    }

    /// What is there to be sent: records, the end of the shard, or that the subscription is no more.
    fn event_now(&mut self, stream: &mut Stream) -> Option<Bytes> {
        if stream.subscribed.get(&self.shard).is_none_or(|(nth, _)| *nth != self.nth) {
            return Some(self.last(exception("ResourceInUseException")));
        }
        if !stream.has_consumer || stream.consumer_arn() != self.consumer {
            return Some(self.last(exception("ResourceNotFoundException")));
        }
        let shard = stream.shards.iter().find(|shard| shard.id == self.shard)?;
        let to = shard.records.len().min(self.at + EVENT_RECORDS);
        if self.at < to {
            let event = records(&shard.records[self.at..to], shard.records.len() - to, stream);
            self.at = to;
            stream.sent.insert(self.shard.clone(), to);
            return Some(event);
        }
        let is_child = |other: &&Shard| other.parents.contains(&self.shard);
        let children: Vec<Value> = stream.shards.iter().filter(is_child).map(Shard::as_child).collect();
        if children.is_empty() {
            return None;
        }
        stream.history.push((self.shard.clone(), "ended"));
        let mut end = json!({ "Records": [], "MillisBehindLatest": 0, "ChildShards": children });
        if self.at.is_multiple_of(2) {
            end["ContinuationSequenceNumber"] = Value::Null;
        }
        Some(self.last(event(&end)))
    }
}

fn records(records: &[(String, String)], behind: usize, stream: &Stream) -> Bytes {
    let shown = |(sequence, data): &(String, String)| {
        json!({
            "SequenceNumber": sequence, "ApproximateArrivalTimestamp": stream.began,
            "Data": STANDARD.encode(data), "PartitionKey": "key",
        })
    };
    // Behind what a new subscription goes on: as far as the stream is, once the shard has been read.
    let continuation = match (behind, records.last()) {
        (1.., Some((sequence, _))) => sequence.clone(),
        _ => stream.newest(),
    };
    event(&json!({
        "Records": records.iter().map(shown).collect::<Vec<Value>>(),
        "ContinuationSequenceNumber": continuation, "MillisBehindLatest": behind * 1000,
    }))
}
