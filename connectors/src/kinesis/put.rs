//! Puts records in order per key: a task of the writer's own, several requests on their way.
//!
//! ```text
//! rows ──> pending ──a batch, enough bytes, the oldest waited, a barrier──> request ──> PutRecords
//!             ↑ what was not taken, in front                                   keys of it wait until it is answered
//! request  a1 b1 a2 c1 a3        reply  ok FAILED ok ok FAILED
//! again    b1 a3                 a failed record and every later one of its key, in their order
//! ```
//!
//! Invariant: a key is in one request at a time, so a record is confirmed only after every earlier one of its key.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use headwater_engine::{
    connector::JobContext,
    error::{Error, Result},
    memory::MemoryLease,
    time::{Clock, Instant},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::{
    api::{Entry, Failure, PutOutcome, StreamApi},
    client::error_of,
    options::{KinesisOptions, PutOptions},
};
use crate::aws::Pace;

/// Bytes of one request at most, keys too; a single larger record goes alone.
const REQUEST_BYTES: usize = 5 << 20;
/// Bytes that wait or are on their way, of one writer, if the job's memory allows.
const BUFFER_BYTES: usize = 64 << 20;
/// Requests in a row that confirm nothing before writing fails.
const TRIES: u32 = 100;

impl Entry {
    /// What it counts against the limits.
    pub(super) fn bytes(&self) -> usize {
        self.data.len() + self.partition_key.len()
    }
}

enum Command {
    Put(Vec<Entry>),
    /// Answer once everything before is confirmed.
    Flush(oneshot::Sender<()>),
}

/// Gives records to a task that sends them; dropping it ends the task.
#[derive(Debug)]
pub(super) struct Putter {
    commands: mpsc::Sender<Command>,
    task: JoinSet<Result<()>>,
}

impl Putter {
    pub(super) fn start(api: Arc<dyn StreamApi>, job: &JobContext, options: &KinesisOptions) -> Self {
        let pump = Pump {
            api,
            clock: Arc::clone(&job.clock),
            stream: options.stream.text().to_owned(),
            pace: Pace::new(options.put.in_flight),
            options: options.put.clone(),
            memory: job.memory.buffer(BUFFER_BYTES, 2 * REQUEST_BYTES),
            pending: VecDeque::new(),
            held_bytes: 0,
            sent_bytes: 0,
            keys: HashSet::new(),
            overdue: 0,
            due_at: None,
            failures: 0,
            wait: Duration::ZERO,
        };
        let (commands, taken) = mpsc::channel(1);
        let mut task = JoinSet::new();
        task.spawn(pump.run(taken));
        Self { commands, task }
    }

    /// Takes records, once there is room for them.
    pub(super) async fn put(&mut self, entries: Vec<Entry>) -> Result<()> {
        if entries.is_empty() { Ok(()) } else { self.tell(Command::Put(entries)).await }
    }

    /// Waits until every record is confirmed.
    pub(super) async fn flush(&mut self) -> Result<()> {
        let (done, confirmed) = oneshot::channel();
        self.tell(Command::Flush(done)).await?;
        match confirmed.await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.failure().await),
        }
    }

    async fn tell(&mut self, command: Command) -> Result<()> {
        match self.commands.send(command).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.failure().await),
        }
    }

    /// Why the task has ended.
    async fn failure(&mut self) -> Error {
        match self.task.join_next().await {
            Some(Ok(Err(error))) => error,
            other => Error::internal(format!("the task that puts records has ended: {other:?}")),
        }
    }
}

type Answer = std::result::Result<Vec<PutOutcome>, Failure>;
type OnItsWay = BoxFuture<'static, (Vec<Entry>, Answer)>;

/// The task.
struct Pump {
    api: Arc<dyn StreamApi>,
    clock: Arc<dyn Clock>,
    stream: String,
    options: PutOptions,
    pace: Pace,
    memory: MemoryLease,
    pending: VecDeque<Entry>,
    /// Bytes of what is pending,
    held_bytes: usize,
    /// and of requests on their way.
    sent_bytes: usize,
    /// Keys of requests on their way.
    keys: HashSet<String>,
    /// How many of what is pending, from the front, wait no longer for others.
    overdue: usize,
    /// When the rest is overdue.
    due_at: Option<Instant>,
    /// Requests in a row that confirmed nothing.
    failures: u32,
    /// How long the next request waits after throttling.
    wait: Duration,
}

impl Pump {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) -> Result<()> {
        let mut on_their_way: FuturesUnordered<OnItsWay> = FuturesUnordered::new();
        let mut flush: Option<oneshot::Sender<()>> = None;
        loop {
            while on_their_way.len() < self.pace.allowed()
                && (flush.is_some() || self.is_due())
                && let Some(request) = self.next_request()
            {
                on_their_way.push(self.send(request));
            }
            if self.pending.is_empty()
                && on_their_way.is_empty()
                && let Some(flush) = flush.take()
            {
                // A writer that is gone does not wait.
                let _writer_gone = flush.send(());
            }
            let clock = Arc::clone(&self.clock);
            let until_due = self.due_at.map(|at| Duration::from_millis((at.0 - clock.now().0).max(0).unsigned_abs()));
            tokio::select! {
                Some((request, answer)) = on_their_way.next() => self.answered(request, answer)?,
                command = commands.recv(), if flush.is_none() && self.has_room() => match command {
                    Some(Command::Put(entries)) => self.add(entries),
                    Some(Command::Flush(done)) => flush = Some(done),
                    None => return Ok(()),
                },
                () = clock.sleep(until_due.unwrap_or_default()), if until_due.is_some() => {
                    (self.overdue, self.due_at) = (self.pending.len(), None);
                }
            }
        }
    }

    fn add(&mut self, entries: Vec<Entry>) {
        if self.due_at.is_none() {
            let after = i64::try_from(self.options.flush_after.as_millis()).unwrap_or(i64::MAX);
            self.due_at = Some(Instant(self.clock.now().0.saturating_add(after)));
        }
        self.held_bytes += entries.iter().map(Entry::bytes).sum::<usize>();
        self.pending.extend(entries);
    }

    fn has_room(&self) -> bool {
        let bytes = self.held_bytes + self.sent_bytes;
        self.pending.len() < self.options.buffered_records && bytes < self.memory.bytes()
    }

    /// Whether something is to be sent without a barrier.
    fn is_due(&self) -> bool {
        self.overdue > 0
            || self.pending.len() >= self.options.batch_records
            || self.held_bytes >= self.options.flush_bytes
            || !self.has_room()
    }

    /// The next request's records, in their order; those of a key that is on its way are passed over.
    fn next_request(&mut self) -> Option<Vec<Entry>> {
        let (mut request, mut passed) = (Vec::new(), VecDeque::new());
        let (mut bytes, mut seen, mut were_overdue) = (0, 0, 0);
        while let Some(entry) = self.pending.pop_front() {
            if self.keys.contains(&entry.partition_key) {
                passed.push_back(entry);
            } else if request.len() < self.options.batch_records
                && (request.is_empty() || bytes + entry.bytes() <= REQUEST_BYTES)
            {
                bytes += entry.bytes();
                were_overdue += usize::from(seen < self.overdue);
                request.push(entry);
            } else {
                self.pending.push_front(entry);
                break;
            }
            seen += 1;
        }
        self.overdue -= were_overdue;
        passed.into_iter().rev().for_each(|entry| self.pending.push_front(entry));
        self.held_bytes -= bytes;
        self.sent_bytes += bytes;
        if self.pending.is_empty() {
            self.due_at = None;
        }
        self.keys.extend(request.iter().map(|entry| entry.partition_key.clone()));
        (!request.is_empty()).then_some(request)
    }

    fn send(&mut self, request: Vec<Entry>) -> OnItsWay {
        let (api, clock, wait) = (Arc::clone(&self.api), Arc::clone(&self.clock), std::mem::take(&mut self.wait));
        Box::pin(async move {
            if !wait.is_zero() {
                clock.sleep(wait).await;
            }
            let answer = api.put(&request).await;
            (request, answer)
        })
    }

    /// Confirms what was taken, and puts the rest in front again.
    fn answered(&mut self, request: Vec<Entry>, answer: Answer) -> Result<()> {
        let sent = request.len();
        for entry in &request {
            self.keys.remove(&entry.partition_key);
            self.sent_bytes -= entry.bytes();
        }
        let (again, reason) = match answer {
            Ok(outcomes) => {
                let (again, code) = to_send_again(request, &outcomes);
                let message = format!("stream \"{}\" refuses records: {}", self.stream, code.unwrap_or_default());
                (again, Error::unavailable(message))
            }
            Err(failure @ (Failure::Throttled | Failure::Unanswered(_))) => (request, error_of(failure, &self.stream)),
            Err(failure) => return Err(error_of(failure, &self.stream)),
        };
        if again.len() < sent {
            self.failures = 0;
            self.pace.progressed();
        }
        if again.is_empty() {
            self.pace.taken();
            return Ok(());
        }
        if self.options.fails_on_error || self.failures >= TRIES {
            return Err(reason);
        }
        self.failures += 1;
        self.wait = self.pace.throttled();
        self.overdue += again.len();
        self.held_bytes += again.iter().map(Entry::bytes).sum::<usize>();
        again.into_iter().rev().for_each(|entry| self.pending.push_front(entry));
        Ok(())
    }
}

/// What a reply leaves to be sent again, and the first reason.
fn to_send_again(request: Vec<Entry>, outcomes: &[PutOutcome]) -> (Vec<Entry>, Option<String>) {
    let mut failed_keys = HashSet::new();
    let (mut again, mut reason) = (Vec::new(), None);
    for (entry, outcome) in request.into_iter().zip(outcomes) {
        if let PutOutcome::Failed(code) = outcome {
            reason.get_or_insert_with(|| code.clone());
            failed_keys.insert(entry.partition_key.clone());
        }
        if failed_keys.contains(&entry.partition_key) {
            again.push(entry);
        }
    }
    (again, reason)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_failed_record_takes_the_later_ones_of_its_key_along() {
        let entry = |key: &str, data: &str| Entry {
            partition_key: key.to_owned(),
            data: Bytes::copy_from_slice(data.as_bytes()),
        };
        let request = vec![entry("a", "1"), entry("b", "1"), entry("a", "2"), entry("b", "2"), entry("a", "3")];
        let failed = PutOutcome::Failed("ProvisionedThroughputExceededException".to_owned());
        let outcomes = [PutOutcome::Taken, failed, PutOutcome::Taken, PutOutcome::Taken, PutOutcome::Taken];
        let (again, reason) = to_send_again(request.clone(), &outcomes);
        assert_eq!(again, [request[1].clone(), request[3].clone()]);
        assert_eq!(reason.as_deref(), Some("ProvisionedThroughputExceededException"));
        assert!(to_send_again(request, &vec![PutOutcome::Taken; 5]).0.is_empty());
    }
}
