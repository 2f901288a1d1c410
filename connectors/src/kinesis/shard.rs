//! Reads one shard to its end, in a task of its own.
//!
//! ```text
//! begin ──feed──> fetch ──records──> send ──> wait ──> fetch ..      throttled, unanswered: back off, fetch
//!                   ├─ expired ──> feed after the last record         caught up: say so
//!                   └─ ended ────> send the children, stop            beyond the end of --once: say so, stop
//! ```
//!
//! Invariant: the position moves on only when the reader has taken the batch; a new feed starts from that position.

use std::{cmp::Ordering, sync::Arc, time::Duration};

use headwater_engine::{
    connector::{Bound, Lag, SourceEvent, Split, SplitId, StartAt},
    error::{Error, ErrorKind, Result},
    memory::MemoryLease,
    time::{Clock, Instant},
};
use tokio::sync::{Semaphore, mpsc, watch};

use super::{
    api::{Failure, Feed, Fetched, Position, Shard, StreamApi},
    client::error_of,
    offset::{RecordPosition, ShardOffset, compare_sequences},
    options::{InitPosition, KinesisOptions, OnOffsetLost},
    pace::{self, Quotas},
    records::Records,
    source::HashKeys,
};
use crate::aws::Backoff;

/// Records are kept at least so long.
const LEAST_RETENTION_MS: i64 = 24 * 3_600_000;
/// A silent shard's position is renewed so often, so that a restart knows that nothing was missed.
const RENEWAL_MS: i64 = 3_600_000;
/// How far the clocks of job and service may be apart.
const CLOCK_SKEW_MS: i64 = 300_000;
/// Unanswered requests in a row before reading fails.
const TRIES: u32 = 20;
/// Empty replies without lag that end a shard under `--once`.
const EMPTY_REPLIES: u32 = 2;

/// What all shards of a reader share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) api: Arc<dyn StreamApi>,
    pub(super) options: KinesisOptions,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metadata: Vec<(usize, String)>,
    pub(super) bound: Bound,
    /// When reading began: the end under [`Bound::EndNow`].
    pub(super) started_ms: i64,
    pub(super) hash_keys: HashKeys,
    /// Replies that may be in memory at once.
    pub(super) replies: Semaphore,
    /// The part of the job's memory that they take.
    pub(super) _memory: MemoryLease,
    /// When each shard may be asked next.
    pub(super) quotas: Quotas,
}

impl Shared {
    /// A shard's name among those of all streams.
    fn shard_name(&self, split: &SplitId) -> String {
        format!("{}/{}/{}", self.options.aws.place(), self.options.stream.text(), split.0)
    }
}

/// What a shard's task tells the reader.
pub(super) type ShardEvent = Result<SourceEvent>;

/// A shard being read.
pub(super) struct ShardTask {
    pub(super) shared: Arc<Shared>,
    pub(super) split: SplitId,
    pub(super) at: StartAt,
    pub(super) events: mpsc::Sender<ShardEvent>,
    pub(super) paused: watch::Receiver<bool>,
}

/// Where a shard starts.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Start {
    Read {
        from: Position,
        offset: ShardOffset,
    },
    /// Nothing of it is to be read.
    Skip,
}

/// The reader has gone.
struct Closed;

enum Flow {
    On { is_caught_up: bool, bytes: usize },
    Stop,
}

struct Reading {
    task: ShardTask,
    offset: ShardOffset,
    /// Where a new feed starts while nothing has been read.
    first: Position,
    /// Behind what the service has sent everything, where it says.
    reached: Option<String>,
    /// Whether the last feed brought nothing before it expired.
    has_expired: bool,
    said_caught_up: bool,
    empty_replies: u32,
    /// How far the last reply was behind the end of the shard.
    behind_ms: Option<i64>,
}

impl ShardTask {
    /// Reads until the shard, the bound or the reader ends.
    pub(super) async fn run(self) {
        let events = self.events.clone();
        if let Err(error) = self.read().await {
            let _reader_gone = events.send(Err(error)).await;
        }
    }

    async fn read(self) -> Result<()> {
        let start = start(&self.shared, &self.split, &self.at).await?;
        let Start::Read { from, offset } = start else {
            let _reader_gone =
                self.events.send(Ok(SourceEvent::Ended { split: self.split, children: Vec::new() })).await;
            return Ok(());
        };
        let is_fresh_latest = from == Position::Latest;
        let mut reading = Reading::new(self, offset, from);
        let Some(mut feed) = reading.feed().await? else { return Ok(()) };
        if is_fresh_latest {
            reading.first = Position::AtTimestamp(reading.offset.seen_ms);
            if reading.mark().await?.is_err() {
                return Ok(());
            }
        }
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));
        loop {
            reading.wait_while_paused().await;
            let shared = Arc::clone(&reading.task.shared);
            if !feed.is_pushed() {
                shared.clock.sleep(shared.quotas.turn(&shared.shard_name(&reading.task.split), reading.now())).await;
            }
            let permit = if feed.is_pushed() { None } else { shared.replies.acquire().await.ok() };
            match feed.fetch().await {
                Ok(fetched) => {
                    backoff.reset();
                    reading.has_expired = false;
                    match reading.take(fetched).await? {
                        Ok(Flow::On { is_caught_up, bytes }) if !feed.is_pushed() => {
                            drop(permit);
                            shared.quotas.spent(&shared.shard_name(&reading.task.split), bytes, reading.now());
                            shared.clock.sleep(pace::wait_after(bytes, is_caught_up)).await;
                        }
                        Ok(Flow::On { .. }) => {}
                        Ok(Flow::Stop) | Err(Closed) => return Ok(()),
                    }
                }
                Err(failure) => {
                    drop(permit);
                    let renew = reading.after_failure(failure, &mut backoff).await?;
                    if renew {
                        let Some(renewed) = reading.feed().await? else { return Ok(()) };
                        feed = renewed;
                    }
                }
            }
        }
    }
}

impl Reading {
    fn new(task: ShardTask, offset: ShardOffset, first: Position) -> Self {
        let (reached, behind_ms) = (None, None);
        let (said_caught_up, has_expired, empty_replies) = (false, false, 0);
        Self { task, offset, first, reached, has_expired, said_caught_up, empty_replies, behind_ms }
    }

    /// Where a new feed starts.
    fn position(&self) -> Position {
        let Some(last) = &self.offset.after else { return self.first.clone() };
        let further = |reached: &&String| compare_sequences(reached, &last.sequence) == Ordering::Greater;
        Position::After(self.reached.as_ref().filter(further).unwrap_or(&last.sequence).clone())
    }

    fn now(&self) -> Instant {
        self.task.shared.clock.now()
    }

    fn now_ms(&self) -> i64 {
        self.now().0
    }

    fn stream(&self) -> &str {
        self.task.shared.options.stream.text()
    }

    /// A feed from where reading stands; `None` when the shard is gone and the policy is to go on without it.
    async fn feed(&mut self) -> Result<Option<Box<dyn Feed>>> {
        let shared = Arc::clone(&self.task.shared);
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));
        loop {
            let from = self.position();
            let failure = match shared.api.feed(&self.task.split.0, &from).await {
                Ok(feed) => return Ok(Some(feed)),
                Err(failure) => failure,
            };
            if matches!(failure, Failure::Gone(_)) && self.reached.take().is_some() && self.position() != from {
                // What counts is the last record, not where the service said that it goes on.
                continue;
            }
            match failure {
                Failure::Gone(error) => {
                    let known = from == Position::TrimHorizon || from == Position::Latest;
                    match (shared.options.on_offset_lost, known) {
                        (OnOffsetLost::Fail, _) => return Err(lost(&self.task.split, &error.to_string())),
                        (OnOffsetLost::Earliest | OnOffsetLost::Latest, true) => {
                            let _reader_gone = self.end(Vec::new()).await?;
                            return Ok(None);
                        }
                        (policy, false) => {
                            self.offset.after = None;
                            self.first = fallback(policy);
                        }
                    }
                }
                Failure::Throttled | Failure::Unanswered(_) | Failure::Expired if backoff.attempts() < TRIES => {
                    backoff.wait(&shared.clock).await;
                }
                other => return Err(error_of(other, self.stream())),
            }
        }
    }

    /// Waits after a failure; says whether a new feed is needed.
    async fn after_failure(&mut self, failure: Failure, backoff: &mut Backoff) -> Result<bool> {
        match failure {
            Failure::Expired => {
                // A feed that brings nothing, again and again, is not asked for without a pause.
                if std::mem::replace(&mut self.has_expired, true) {
                    if backoff.attempts() >= TRIES {
                        return Err(error_of(Failure::Expired, self.stream()));
                    }
                    backoff.wait(&self.task.shared.clock).await;
                }
                Ok(true)
            }
            Failure::Throttled => {
                backoff.wait(&self.task.shared.clock).await;
                Ok(false)
            }
            Failure::Unanswered(error) => {
                if backoff.attempts() >= TRIES {
                    return Err(error);
                }
                tracing::warn!(
                    "kinesis: shard \"{}\": {error}; reading goes on when the service answers",
                    self.task.split
                );
                backoff.wait(&self.task.shared.clock).await;
                Ok(true)
            }
            Failure::Gone(error) | Failure::Refused(error) => Err(error),
        }
    }

    async fn wait_while_paused(&mut self) {
        // The sender lives in the reader; when it goes, this task is about to be dropped.
        let _reader_gone = self.task.paused.wait_for(|paused| !paused).await;
    }

    /// Hands on what one request brought.
    async fn take(&mut self, fetched: Fetched) -> Result<std::result::Result<Flow, Closed>> {
        let Fetched { records, behind_ms, ended, continuation } = fetched;
        let bytes = records.iter().map(|record| record.data.len()).sum();
        let count = records.len();
        self.behind_ms = behind_ms;
        let is_bounded = self.task.shared.bound == Bound::EndNow;
        let now_ms = self.now_ms();
        let hash_keys = self.task.shared.hash_keys.of(&self.task.split);
        let mut batch = Records::default();
        for record in records {
            if self.has_read(&record.sequence) {
                continue;
            }
            let is_beyond = record.arrival_ms.is_some_and(|arrival| arrival >= self.task.shared.started_ms);
            if is_bounded && is_beyond {
                return Ok(match self.send(batch).await? {
                    Ok(()) => self.reached_end().await,
                    Err(Closed) => Err(Closed),
                });
            }
            batch.push(&record, hash_keys, now_ms);
            if batch.is_full() && self.send(std::mem::take(&mut batch)).await?.is_err() {
                return Ok(Err(Closed));
            }
        }
        if self.send(batch).await?.is_err() {
            return Ok(Err(Closed));
        }
        self.reached = continuation;
        if let Some(children) = ended {
            return Ok(self.end(children).await?.map(|()| Flow::Stop));
        }
        let is_caught_up = count == 0 && behind_ms.unwrap_or(0) == 0;
        if !is_caught_up {
            self.empty_replies = 0;
            return Ok(Ok(Flow::On { is_caught_up: behind_ms == Some(0) && count < 1000, bytes }));
        }
        self.empty_replies += 1;
        if is_bounded && self.empty_replies >= EMPTY_REPLIES {
            return Ok(self.reached_end().await);
        }
        Ok(self.caught_up(now_ms).await?.map(|()| Flow::On { is_caught_up, bytes }))
    }

    /// Whether nothing has been read of a shard that is read from its beginning: a restart does the same again.
    fn is_at_start(&self) -> bool {
        self.offset.after.is_none() && self.first == Position::TrimHorizon
    }

    /// Whether a request that was made twice has brought a record again.
    fn has_read(&self, sequence: &str) -> bool {
        let last = self.offset.after.as_ref();
        last.is_some_and(|last| compare_sequences(sequence, &last.sequence) != Ordering::Greater)
    }

    async fn send(&mut self, records: Records) -> Result<std::result::Result<(), Closed>> {
        if records.is_empty() {
            return Ok(Ok(()));
        }
        let shared = &self.task.shared;
        let (mut batch, resume) = records.into_batch(&self.task.split, &shared.metadata, self.offset.clone())?;
        batch.lag = self.behind_ms.and_then(|behind| u64::try_from(behind).ok()).map(Lag::Millis);
        if self.tell(SourceEvent::Batch(batch)).await.is_err() {
            return Ok(Err(Closed));
        }
        self.offset = resume;
        self.said_caught_up = false;
        Ok(Ok(()))
    }

    /// Puts the position as it is into the next checkpoint, by a batch without rows.
    async fn mark(&mut self) -> Result<std::result::Result<(), Closed>> {
        let shared = &self.task.shared;
        let (batch, _) = Records::default().into_batch(&self.task.split, &shared.metadata, self.offset.clone())?;
        Ok(self.tell(SourceEvent::Batch(batch)).await)
    }

    async fn caught_up(&mut self, now_ms: i64) -> Result<std::result::Result<(), Closed>> {
        if !self.is_at_start() && now_ms - self.offset.seen_ms >= RENEWAL_MS + CLOCK_SKEW_MS {
            self.offset.seen_ms = now_ms - CLOCK_SKEW_MS;
            if self.mark().await?.is_err() {
                return Ok(Err(Closed));
            }
            self.said_caught_up = false;
        }
        if std::mem::replace(&mut self.said_caught_up, true) {
            return Ok(Ok(()));
        }
        Ok(self.tell(SourceEvent::CaughtUp(self.task.split.clone())).await)
    }

    async fn reached_end(&self) -> std::result::Result<Flow, Closed> {
        let resume_at = (!self.is_at_start()).then(|| self.offset.to_offset());
        self.tell(SourceEvent::ReachedEnd { split: self.task.split.clone(), resume_at }).await.map(|()| Flow::Stop)
    }

    /// The shard has ended; a service that does not name the children is asked for all shards.
    async fn end(&self, children: Vec<Shard>) -> Result<std::result::Result<(), Closed>> {
        let children = if children.is_empty() { self.listed_children().await? } else { children };
        self.task.shared.hash_keys.learn(&children);
        let children = children.iter().map(split_of).collect();
        Ok(self.tell(SourceEvent::Ended { split: self.task.split.clone(), children }).await)
    }

    /// The children among all shards. Without an answer the shard has not ended: its children's rows would be late.
    async fn listed_children(&self) -> Result<Vec<Shard>> {
        let (id, shared) = (&*self.task.split.0, &self.task.shared);
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));
        loop {
            match shared.api.shards().await {
                Ok(mut all) => {
                    all.retain(|shard| shard.parents.iter().any(|parent| parent == id));
                    return Ok(all);
                }
                Err(error) if error.kind() == ErrorKind::Unavailable && backoff.attempts() < TRIES => {
                    tracing::debug!(%error, "the shards of a stream are asked for again");
                    backoff.wait(&shared.clock).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn tell(&self, event: SourceEvent) -> std::result::Result<(), Closed> {
        self.task.events.send(Ok(event)).await.map_err(|_| Closed)
    }
}

/// A shard as a split.
pub(super) fn split_of(shard: &Shard) -> Split {
    Split { parents: shard.parents.iter().map(SplitId::new).collect(), ..Split::new(&shard.id) }
}

fn lost(split: &SplitId, why: &str) -> Error {
    Error::data("OFFSET_LOST", format!("shard \"{split}\" no longer has the position of the checkpoint: {why}"))
        .with_hint(
            "records expired before they were read; set 'scan.on-offset-lost' to 'earliest' or 'latest' to go on",
        )
}

fn fallback(policy: OnOffsetLost) -> Position {
    match policy {
        OnOffsetLost::Latest => Position::Latest,
        OnOffsetLost::Earliest | OnOffsetLost::Fail => Position::TrimHorizon,
    }
}

/// Where a shard is read from.
async fn start(shared: &Shared, split: &SplitId, at: &StartAt) -> Result<Start> {
    let now_ms = shared.clock.now().0;
    let begin = |from| {
        let seen_ms = match &from {
            Position::Latest => now_ms,
            Position::AtTimestamp(ms) => *ms,
            Position::TrimHorizon | Position::At(_) | Position::After(_) => 0,
        };
        Start::Read { from, offset: ShardOffset { after: None, seen_ms } }
    };
    match at {
        StartAt::Beginning => Ok(begin(Position::TrimHorizon)),
        StartAt::TableDefault => Ok(match &shared.options.position {
            InitPosition::TrimHorizon => begin(Position::TrimHorizon),
            InitPosition::Latest => begin(Position::Latest),
            InitPosition::AtTimestamp(ms) => begin(Position::AtTimestamp(*ms)),
            InitPosition::AtSequenceNumbers(named) => match named.get(&*split.0) {
                Some(sequence) => begin(Position::At(sequence.clone())),
                None if is_ancestor(&shared.api.shards().await?, &split.0, |id| named.contains_key(id)) => Start::Skip,
                None => begin(Position::TrimHorizon),
            },
        }),
        StartAt::Offset(offset) => resume(shared, split, ShardOffset::parse(offset)?, now_ms).await,
    }
}

/// Goes on from a checkpoint, unless what came after it may have expired.
async fn resume(shared: &Shared, split: &SplitId, offset: ShardOffset, now_ms: i64) -> Result<Start> {
    let age = now_ms - offset.seen_ms;
    let is_kept = age < LEAST_RETENTION_MS || age < shared.api.describe().await?.retention_ms;
    let from = match &offset.after {
        Some(RecordPosition { sequence, .. }) => Position::After(sequence.clone()),
        None => Position::AtTimestamp(offset.seen_ms),
    };
    if is_kept {
        return Ok(Start::Read { from, offset });
    }
    match shared.options.on_offset_lost {
        OnOffsetLost::Fail => Err(lost(split, "it is older than the stream keeps records")),
        OnOffsetLost::Earliest => {
            Ok(Start::Read { from: Position::TrimHorizon, offset: ShardOffset { after: None, seen_ms: 0 } })
        }
        OnOffsetLost::Latest => {
            Ok(Start::Read { from: Position::Latest, offset: ShardOffset { after: None, seen_ms: now_ms } })
        }
    }
}

/// Whether one of the shards that carry this one on is wanted.
fn is_ancestor(shards: &[Shard], id: &str, wanted: impl Fn(&str) -> bool + Copy) -> bool {
    let mut children = shards.iter().filter(|shard| shard.parents.iter().any(|parent| parent == id));
    children.any(|child| wanted(&child.id) || is_ancestor(shards, &child.id, wanted))
}
