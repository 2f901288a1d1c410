//! The coordinator of an attempt: cuts epochs, hands out splits, gathers acknowledgements into manifests.
//!
//! It does nothing to rows. What it waits for: tasks, the interval, discoveries, deliveries, and the wish to stop.
//!
//! Invariant: a manifest is published only when every task has acknowledged its barrier.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    checkpoint::manifest::{FORMAT, Manifest, OperatorState, Segment, SinkState, UnitState},
    connector::{Boundedness, Split},
    error::{Error, ErrorKind, Result},
    hash::{HASH_VERSION, KEY_GROUPS},
    message::{Barrier, Epoch},
    metrics::JobMetrics,
    operator::Traffic,
    runtime::{
        commit::Delivery,
        effects::{AckParts, OperatorAck, SinkAck, SourceAck, TaskAck},
        lifecycle::{Action, Event, Lifecycle, Phase},
        overdue::Overdue,
        progress::BeforeDiscovery,
        source_head::{SplitNews, lock, tell},
        table_run::TableRun,
        task::{Command, TaskEvent},
    },
    time::{Instant, Watermark},
};

/// Rows of an accounting table that stay readable.
const RETAINED_ROWS: u64 = 100_000;

/// What an attempt goes on from.
#[derive(Debug)]
pub(super) struct Begin {
    pub(super) last_epoch: Epoch,
    pub(super) log_number: u64,
    pub(super) running_ms: u64,
    pub(super) sinks: BTreeMap<String, SinkState>,
    pub(super) segments: BTreeMap<String, Vec<Segment>>,
    /// Rows that have passed each operator of the graph.
    pub(super) traffic: BTreeMap<String, Traffic>,
}

/// Settings of the coordinator.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    pub(super) interval: Duration,
    pub(super) once: bool,
    /// How long rows of an accounting table stay readable.
    pub(super) retention: Duration,
}

enum Background {
    Delivered(Result<u64>),
    Listed { table: usize, before: BeforeDiscovery, listing: Result<Vec<Split>> },
}

/// Runs one attempt.
pub(super) struct Coordinator {
    delivery: Delivery,
    pace: Pace,
    begin: Begin,
    tables: Vec<TableRun>,
    tasks: usize,
    lifecycle: Lifecycle,
    acks: Vec<TaskAck>,
    started: Instant,
    next_due: Instant,
    barrier_sent: Instant,
    overdue: Overdue,
    /// Bytes in front of each node when the barrier was sent.
    queued: BTreeMap<String, u64>,
    background: FuturesUnordered<BoxFuture<'static, Background>>,
    published: Option<Manifest>,
    observer: super::job::Observer,
    metrics: Arc<JobMetrics>,
}

enum Wake {
    Stop,
    TaskEnded(Option<std::result::Result<Result<()>, JoinError>>),
    Task(Option<TaskEvent>),
    Background(Background),
    /// Sinks hold much.
    Due,
    Time,
}

impl Coordinator {
    pub(super) fn new(delivery: Delivery, pace: Pace, begin: Begin, tables: Vec<TableRun>, tasks: usize) -> Self {
        let now = delivery.job.clock.now();
        Self {
            lifecycle: Lifecycle::new(begin.last_epoch),
            next_due: now.after(pace.interval),
            started: now,
            barrier_sent: now,
            overdue: Overdue::new(pace.interval),
            queued: BTreeMap::new(),
            delivery,
            pace,
            begin,
            tables,
            tasks,
            acks: Vec::new(),
            background: FuturesUnordered::new(),
            published: None,
            observer: super::job::Observer::default(),
            metrics: Arc::default(),
        }
    }

    pub(super) fn watched_by(mut self, observer: super::job::Observer, metrics: Arc<JobMetrics>) -> Self {
        self.observer = observer;
        self.metrics = metrics;
        self
    }

    /// Runs until the final epoch is committed; the last manifest.
    pub(super) async fn run(
        mut self,
        mut tasks: JoinSet<Result<()>>,
        mut events: mpsc::Receiver<TaskEvent>,
        stop: &CancellationToken,
    ) -> Result<Option<Manifest>> {
        let (clock, memory) = (Arc::clone(&self.delivery.job.clock), self.delivery.job.memory.clone());
        let mut stopping = false;
        self.check_ends().await?;
        while self.lifecycle.phase() != Phase::Done {
            let wait = self.next_wake().since(clock.now()).max(Duration::from_millis(1));
            let wake = tokio::select! {
                biased;
                () = stop.cancelled(), if !stopping => Wake::Stop,
                ended = tasks.join_next() => Wake::TaskEnded(ended),
                event = events.recv() => Wake::Task(event),
                Some(done) = self.background.next() => Wake::Background(done),
                () = memory.checkpoint_due() => Wake::Due,
                () = clock.sleep(wait) => Wake::Time,
            };
            match wake {
                Wake::Stop => {
                    stopping = true;
                    self.step(Event::Finish).await?;
                }
                Wake::TaskEnded(ended) => return Err(task_failure(ended, &mut tasks).await),
                Wake::Task(Some(event)) => self.task_event(event).await?,
                Wake::Task(None) => return Err(last_failure(tasks).await),
                Wake::Background(done) => self.background_done(done).await?,
                Wake::Due => self.due_before_time().await?,
                Wake::Time => self.time().await?,
            }
        }
        Ok(self.published)
    }

    fn next_wake(&self) -> Instant {
        let of = |table: &TableRun| table.next_discovery.into_iter().chain(table.next_haste).min();
        self.tables.iter().filter_map(of).fold(self.next_due, Instant::min)
    }

    async fn step(&mut self, event: Event) -> Result<()> {
        let (next, action) = self.lifecycle.next(event);
        self.lifecycle = next;
        match action {
            None | Some(Action::Stop) => Ok(()),
            Some(Action::SendBarrier(barrier)) => self.send_barrier(barrier).await,
            Some(Action::Deliver(barrier)) => {
                self.deliver(barrier)?;
                self.assign_settled().await
            }
        }
    }

    /// Splits that waited for the ends of their parents to be behind a barrier.
    async fn assign_settled(&mut self) -> Result<()> {
        for table in 0..self.tables.len() {
            self.assign(table).await?;
        }
        Ok(())
    }

    async fn send_barrier(&mut self, barrier: Barrier) -> Result<()> {
        self.barrier_sent = self.delivery.job.clock.now();
        self.overdue.begin();
        self.queued = self.metrics.sample().queued;
        self.acks.clear();
        for sender in self.tables.iter().flat_map(|table| &table.commands) {
            // A task that has gone is reported by the task set, with its reason.
            let _ = sender.send(Command::Barrier(barrier)).await;
        }
        Ok(())
    }

    async fn time(&mut self) -> Result<()> {
        let now = self.delivery.job.clock.now();
        self.overdue.tell(self.lifecycle.phase(), now.since(self.barrier_sent));
        for index in 0..self.tables.len() {
            if self.tables[index].must_discover(now) {
                self.discover(index);
            }
        }
        if self.next_due <= now {
            self.next_due = now.after(self.pace.interval);
            self.step(Event::Due).await?;
        }
        Ok(())
    }

    /// Cuts an epoch because of what sinks hold, unless one is under way.
    async fn due_before_time(&mut self) -> Result<()> {
        if !self.delivery.job.memory.is_checkpoint_due() || self.lifecycle.phase() != Phase::Running {
            return Ok(());
        }
        self.next_due = self.delivery.job.clock.now().after(self.pace.interval);
        self.step(Event::Due).await
    }

    fn discover(&mut self, index: usize) {
        let table = &mut self.tables[index];
        (table.next_discovery, table.next_haste) = (None, None);
        let before = lock(&table.progress).discovery_begins();
        let (source, job) = (Arc::clone(&table.source), self.delivery.job.clone());
        let listing = async move {
            let listing = source.splits(&job).await;
            Background::Listed { table: index, before, listing }
        };
        self.background.push(listing.boxed());
    }

    async fn background_done(&mut self, done: Background) -> Result<()> {
        match done {
            Background::Delivered(number) => {
                self.begin.log_number = number?;
                self.metrics.checkpointed();
                if let Some(manifest) = &self.published {
                    self.observer.published(manifest);
                }
                self.step(Event::Delivered).await?;
                self.due_before_time().await
            }
            Background::Listed { table, before, listing } => {
                let now = self.delivery.job.clock.now();
                let run = &mut self.tables[table];
                run.schedule_discovery(now);
                match listing {
                    Ok(listing) => {
                        {
                            let mut progress = lock(&run.progress);
                            let joined = run.splits.listed(listing, progress.released());
                            joined.0.into_iter().for_each(|(split, watermark)| progress.join(split, watermark));
                            progress.discovery_ended(before);
                        }
                        tell(&run.progress);
                    }
                    Err(error) if crate::checkpoint::store::is_transient(&error) => {
                        tracing::warn!(%error, table = run.table, "new splits could not be listed; trying again");
                    }
                    Err(error) => return Err(error.context(format!("table \"{}\"", run.table))),
                }
                self.assign(table).await
            }
        }
    }

    async fn assign(&mut self, table: usize) -> Result<()> {
        let run = &mut self.tables[table];
        let mut by_task: BTreeMap<usize, Vec<_>> = BTreeMap::new();
        for assignment in run.splits.assign() {
            by_task.entry(assignment.task).or_default().push(assignment);
        }
        for (task, assignments) in by_task {
            if let Some(sender) = run.commands.get(task) {
                let _ = sender.send(Command::Assign(assignments)).await;
            }
        }
        Ok(())
    }

    async fn task_event(&mut self, event: TaskEvent) -> Result<()> {
        match event {
            TaskEvent::Ack(ack) => {
                self.acks.push(*ack);
                if self.acks.len() == self.tasks {
                    return self.step(Event::AllAcked).await;
                }
                Ok(())
            }
            TaskEvent::Split { node, news } => {
                let Some(table) = self.tables.iter().position(|table| table.node == node) else { return Ok(()) };
                match news {
                    SplitNews::ReachedEnd { split } => self.tables[table].splits.reached_end(&split),
                    SplitNews::Ended { split, watermark, children } => {
                        let run = &mut self.tables[table];
                        run.splits.ended(&split, watermark);
                        {
                            let mut progress = lock(&run.progress);
                            let joined = run.splits.add(children, progress.released());
                            joined.0.into_iter().for_each(|(split, watermark)| progress.join(split, watermark));
                            progress.leave(&split);
                        }
                        tell(&run.progress);
                        self.assign(table).await?;
                    }
                }
                self.check_ends().await
            }
        }
    }

    /// Ends tables that are read, and the job when all are.
    async fn check_ends(&mut self) -> Result<()> {
        let mut all_done = true;
        for run in &mut self.tables {
            let bounded = run.source.boundedness() == Boundedness::Bounded;
            if bounded && run.splits.is_all_ended() && !run.ended {
                run.ended = true;
                lock(&run.progress).finish();
                for sender in &run.commands {
                    let _ = sender.send(Command::EndOfInput).await;
                }
            }
            all_done &= run.ended || (self.pace.once && run.splits.is_all_reached());
        }
        if all_done { self.step(Event::Finish).await } else { Ok(()) }
    }

    fn deliver(&mut self, barrier: Barrier) -> Result<()> {
        let manifest = self.assemble(barrier)?;
        self.published = Some(manifest.clone());
        let (delivery, number) = (self.delivery.clone(), self.begin.log_number);
        let delivered = async move { Background::Delivered(delivery.deliver(manifest, number).await) };
        self.background.push(delivered.boxed());
        Ok(())
    }

    fn assemble(&mut self, barrier: Barrier) -> Result<Manifest> {
        let now = self.delivery.job.clock.now();
        let mut operators: BTreeMap<String, OperatorState> = BTreeMap::new();
        let mut sources: HashMap<String, Vec<SourceAck>> = HashMap::new();
        self.begin.sinks.values_mut().for_each(|sink| sink.closed.clear());
        for ack in std::mem::take(&mut self.acks) {
            if ack.barrier.epoch != barrier.epoch {
                return Err(Error::internal(format!("epoch {} was acknowledged late", ack.barrier.epoch.0)));
            }
            let AckParts { operators: states, traffic, sinks, source, segments } = ack.parts;
            traffic.iter().for_each(|(node, rows)| self.begin.traffic.entry(node.clone()).or_default().add(rows));
            states.into_iter().for_each(|state| add_operator(&mut operators, state));
            let mut sinks = sinks;
            sinks.sort_by_key(|sink| sink.task);
            sinks.into_iter().for_each(|sink| add_sink(&mut self.begin.sinks, sink));
            segments.into_iter().for_each(|(table, segment)| {
                self.begin.segments.entry(table).or_default().push(segment);
            });
            if let Some(source) = source {
                sources.entry(source.node.clone()).or_default().push(source);
            }
        }
        for (name, sink) in self.delivery.exactly_once() {
            self.begin.sinks.entry(name.to_owned()).or_default().destination = Some(sink.sink.destination());
        }
        for (name, state) in &mut operators {
            state.reads = self.delivery.graph.sources_of(name);
        }
        let retention = self.pace.retention;
        self.begin.segments.values_mut().for_each(|segments| retain(segments, now, retention));
        let sources = self.tables.iter_mut().map(|run| {
            let acks = sources.remove(&run.name).unwrap_or_default();
            (run.name.clone(), source_state(run, acks))
        });
        let sources = sources.collect();
        let running = u64::try_from(now.since(self.started).as_millis()).unwrap_or(0);
        let job = &self.delivery.job;
        Ok(Manifest {
            format: FORMAT,
            nonce: crate::checkpoint::log::nonce(),
            incarnation: job.incarnation.clone(),
            generation: job.generation,
            epoch: barrier.epoch,
            started: self.barrier_sent,
            at: now,
            cut: barrier.cut,
            hash_version: HASH_VERSION,
            key_groups: KEY_GROUPS,
            parallelism: job.parallelism,
            running_ms: self.begin.running_ms + running,
            operators,
            sources,
            sinks: self.begin.sinks.clone(),
            segments: self.begin.segments.clone(),
            queued: std::mem::take(&mut self.queued),
            traffic: self.begin.traffic.clone(),
        })
    }
}

/// Why the task set shrank: the first real failure, since neighbours of a failed task only see closed channels.
async fn task_failure(
    ended: Option<std::result::Result<Result<()>, JoinError>>,
    tasks: &mut JoinSet<Result<()>>,
) -> Error {
    let mut next = ended;
    for _ in 0..=tasks.len() {
        match next {
            Some(Ok(Err(error))) if error.kind() != ErrorKind::Cancelled => return error,
            Some(Err(error)) if error.is_panic() => return Error::internal(format!("a task panicked: {error}")),
            Some(_) => next = tasks.try_join_next(),
            None => break,
        }
        tokio::task::yield_now().await;
    }
    Error::unavailable("a task ended while the job runs")
}

/// Why all tasks are gone. A task lets go of the channel before it has ended, so its error may still be to come.
async fn last_failure(mut tasks: JoinSet<Result<()>>) -> Error {
    let mut failure = None;
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(Err(error)) if error.kind() != ErrorKind::Cancelled => return error,
            Err(error) if error.is_panic() => return Error::internal(format!("a task panicked: {error}")),
            Ok(Err(error)) => failure = Some(error),
            Ok(Ok(())) | Err(_) => {}
        }
    }
    failure.unwrap_or_else(|| Error::internal("all tasks are gone while the job runs"))
}

fn add_operator(operators: &mut BTreeMap<String, OperatorState>, ack: OperatorAck) {
    let state = operators.entry(ack.node).or_default();
    state.fingerprint = ack.fingerprint;
    state.watermark = (ack.watermark > Watermark::MIN).then_some(ack.watermark);
    state.observed.add(&ack.observed);
    if state.tasks.len() <= ack.task {
        state.tasks.resize(ack.task + 1, BTreeMap::new());
    }
    state.tasks[ack.task] = ack.tables;
}

fn add_sink(sinks: &mut BTreeMap<String, SinkState>, ack: SinkAck) {
    let state = sinks.entry(ack.node).or_default();
    state.rows += ack.rows;
    state.refused += ack.refused;
    for unit in ack.units {
        let place = state.open.iter().position(|open| open.unit == unit.unit);
        let mut known = match place {
            Some(place) => state.open.remove(place),
            None => UnitState { unit: unit.unit, detail: String::new(), rows: 0, bytes: 0, segments: Vec::new() },
        };
        known.detail = unit.detail;
        known.rows += unit.rows;
        known.bytes += unit.bytes;
        known.segments.extend(unit.segment);
        if unit.closes {
            state.closed.push(known);
        } else {
            state.open.push(known);
        }
    }
}

fn source_state(run: &mut TableRun, acks: Vec<SourceAck>) -> crate::checkpoint::manifest::SourceState {
    let emitted = acks.iter().map(|ack| ack.emitted).min().unwrap_or(Watermark::MIN);
    let mut splits: Vec<_> = acks.into_iter().flat_map(|ack| ack.splits).collect();
    for tally in splits.iter_mut().flat_map(|split| split.account.values_mut()) {
        tally.release(emitted);
    }
    let released = lock(&run.progress).released();
    let mut state = run.splits.snapshot(&run.table, released.min(emitted), splits);
    state.origin = run.source.to_string();
    for tally in state.splits.iter_mut().flat_map(|split| split.account.values_mut()) {
        tally.release(emitted);
    }
    state.retired.values_mut().for_each(|tally| tally.release(emitted));
    state
}

fn retain(segments: &mut Vec<Segment>, now: Instant, time: Duration) {
    segments.retain(|segment| now.since(segment.at) <= time);
    let mut rows: u64 = segments.iter().map(|segment| segment.rows).sum();
    while rows > RETAINED_ROWS && segments.len() > 1 {
        rows -= segments.remove(0).rows;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_error_of_a_task_is_told_although_its_channel_closes_before_it_ends() {
        let (events, mut received) = mpsc::channel::<TaskEvent>(1);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            drop(events);
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            Err(Error::new(ErrorKind::Denied, "PERMISSION_DENIED", "no"))
        });
        tasks.spawn(async { Err(Error::new(ErrorKind::Cancelled, "QUERY_CANCELLED", "a neighbour is gone")) });
        assert!(received.recv().await.is_none());
        assert_eq!(last_failure(tasks).await.code().0, "PERMISSION_DENIED");
        let none = last_failure(JoinSet::new()).await;
        assert_eq!(none.message(), "all tasks are gone while the job runs");
    }
}
