//! The head of a source task: its reader, its splits and its branches.
//!
//! Invariant: the state of a split moves on only after all branches have taken the batch, so that a barrier between two
//! batches sees offset, watermark and account of exactly the rows that went downstream.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arrow::{
    array::RecordBatch,
    datatypes::{Schema, SchemaRef},
};
use tokio::sync::watch;

use crate::{
    checkpoint::manifest::{SplitState, SplitStatus},
    connector::{Lag, SourceBatch, SourceEvent, Split, SplitId, SplitReader},
    error::{Error, Result},
    format::Decoder,
    graph::{Lateness, Malformed, SourceNode, WatermarkRule},
    memory::MemoryBudget,
    message::{Barrier, Message},
    metrics::{JobMetrics, SplitSample},
    runtime::{
        bounded,
        effects::{Effects, SourceAck},
        pipe::{Event, Pipe},
        progress::{Mark, TableProgress},
        slow::Slow,
        source_batch,
        splits::Assignment,
    },
    time::{Instant, Watermark, as_of},
};

mod sides;

/// Progress of a table, shared by its tasks and the coordinator, with the watermark the tasks are told of.
#[derive(Debug)]
pub(super) struct Shared {
    progress: Mutex<TableProgress>,
    released: watch::Sender<Watermark>,
}

/// See [`Shared`].
pub(super) type SharedProgress = Arc<Shared>;

/// The lock is held for a few instructions and never over an await.
pub(super) fn lock(progress: &SharedProgress) -> MutexGuard<'_, TableProgress> {
    progress.progress.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes the tasks that are behind the watermark.
pub(super) fn tell(progress: &SharedProgress) {
    let released = lock(progress).released();
    progress.released.send_if_modified(|known| std::mem::replace(known, released.max(*known)) < released);
}

impl Shared {
    /// Progress that tasks may share.
    pub(super) fn new(progress: TableProgress) -> SharedProgress {
        let released = watch::Sender::new(progress.released());
        Arc::new(Self { progress: Mutex::new(progress), released })
    }

    /// What wakes a task.
    pub(super) fn watch(&self) -> watch::Receiver<Watermark> {
        self.released.subscribe()
    }
}

/// What the coordinator must know at once.
#[derive(Debug)]
pub(super) enum SplitNews {
    /// A split has ended for good.
    Ended { split: SplitId, watermark: Watermark, children: Vec<Split> },
    /// A split has reached the end that was there at the start.
    ReachedEnd { split: SplitId },
}

#[derive(Debug)]
struct SplitRun {
    state: SplitState,
    watermark: Watermark,
    caught_up: Option<Instant>,
    reached_end: bool,
    paused: bool,
}

#[derive(Debug, Default)]
struct Segments {
    batches: Vec<RecordBatch>,
    rows: usize,
}

/// Reads one table's splits in one task.
#[derive(Debug)]
pub(super) struct SourceHead {
    name: String,
    graph: Arc<crate::graph::Graph>,
    node: usize,
    reader: Box<dyn SplitReader>,
    decoder: Option<Box<dyn Decoder>>,
    /// Decodes late rows into all columns; made for the first one.
    whole_decoder: Option<Box<dyn Decoder>>,
    progress: SharedProgress,
    released: watch::Receiver<Watermark>,
    branches: Vec<Pipe>,
    splits: BTreeMap<SplitId, SplitRun>,
    emitted: Watermark,
    rejected: Segments,
    late: Segments,
    ended: bool,
    slow: Slow,
    memory: MemoryBudget,
    metrics: Arc<JobMetrics>,
}

/// What a head is made of.
#[derive(Debug)]
pub(super) struct HeadParts {
    pub(super) graph: Arc<crate::graph::Graph>,
    pub(super) node: usize,
    pub(super) reader: Box<dyn SplitReader>,
    pub(super) progress: SharedProgress,
    pub(super) pipes: Vec<Pipe>,
    pub(super) memory: MemoryBudget,
    pub(super) metrics: Arc<JobMetrics>,
}

fn source_of(graph: &crate::graph::Graph, node: usize) -> Result<&SourceNode> {
    match graph.nodes.get(node).map(|node| &node.kind) {
        Some(crate::graph::NodeKind::Source(source)) => Ok(source),
        _ => Err(Error::internal(format!("node {node} is no source"))),
    }
}

/// The columns that are no metadata.
fn physical(columns: &SchemaRef, metadata: &[(usize, String)]) -> SchemaRef {
    let physical = columns.fields().iter().enumerate();
    let physical = physical.filter(|(index, _)| metadata.iter().all(|(column, _)| column != index));
    Arc::new(Schema::new(physical.map(|(_, field)| Arc::clone(field)).collect::<Vec<_>>()))
}

impl SourceHead {
    pub(super) fn new(parts: HeadParts, assigned: &[Assignment], slow: Slow) -> Result<Self> {
        let node = source_of(&parts.graph, parts.node)?;
        let decoder = node.source.decoder(physical(&node.columns, &node.metadata))?;
        let mut head = Self {
            name: parts.graph.nodes[parts.node].name.clone(),
            node: parts.node,
            reader: parts.reader,
            decoder,
            whole_decoder: None,
            released: parts.progress.watch(),
            progress: parts.progress,
            branches: parts.pipes,
            splits: BTreeMap::new(),
            emitted: Watermark::MIN,
            rejected: Segments::default(),
            late: Segments::default(),
            ended: false,
            slow,
            memory: parts.memory,
            metrics: parts.metrics,
            graph: parts.graph,
        };
        head.track(assigned);
        Ok(head)
    }

    fn track(&mut self, assigned: &[Assignment]) {
        for assignment in assigned {
            let state = SplitState { status: SplitStatus::Open, ..assignment.state.clone() };
            let watermark = state.watermark.unwrap_or(Watermark::MIN);
            let run = SplitRun { watermark, caught_up: None, reached_end: false, paused: false, state };
            self.splits.insert(assignment.start.split.id.clone(), run);
        }
    }

    /// What the reader says next; `None` when there is a watermark to send on before that. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Option<SourceEvent>> {
        let room = self.memory.clone();
        self.next_after(room.room()).await
    }

    /// The same, once something is ready.
    async fn next_after(&mut self, ready: impl Future<Output = ()>) -> Result<Option<SourceEvent>> {
        let Self { slow, reader, released, name, .. } = self;
        slow.wait().await;
        let event = async {
            ready.await;
            reader.next().await
        };
        let event = tokio::select! {
            biased;
            event = event => event,
            Ok(()) = released.changed() => return Ok(None),
        };
        event.map(Some).map_err(|error| error.context(format!("source \"{name}\"")))
    }

    /// Takes up more splits.
    pub(super) async fn assign(&mut self, assigned: Vec<Assignment>) -> Result<()> {
        self.track(&assigned);
        self.reader.assign(assigned.into_iter().map(|assignment| assignment.start).collect()).await
    }

    /// Takes what the reader said.
    pub(super) async fn take(&mut self, event: SourceEvent, effects: &mut Effects) -> Result<Option<SplitNews>> {
        let now = effects.at();
        match event {
            SourceEvent::Batch(batch) => {
                self.take_batch(batch, now, effects).await?;
                Ok(None)
            }
            SourceEvent::CaughtUp(split) => {
                if let Some(run) = self.splits.get_mut(&split) {
                    run.caught_up.get_or_insert(now);
                    (run.state.lag, run.state.lag_ms) = (Some(0), Some(0));
                }
                self.report(&split, 0, now)?;
                self.forward_watermark(effects).await?;
                Ok(None)
            }
            SourceEvent::ReachedEnd { split, resume_at } => {
                if let Some(run) = self.splits.get_mut(&split) {
                    run.reached_end = true;
                    run.caught_up.get_or_insert(now);
                    run.state.offset = resume_at.or(run.state.offset.take());
                }
                self.report(&split, 0, now)?;
                self.forward_watermark(effects).await?;
                Ok(Some(SplitNews::ReachedEnd { split }))
            }
            SourceEvent::Ended { split, children } => {
                let watermark = self.splits.get_mut(&split).map(|run| {
                    run.state.status = SplitStatus::Ended;
                    run.watermark
                });
                self.metrics.split_ended(&source_of(&self.graph, self.node)?.table, &split);
                Ok(Some(SplitNews::Ended { watermark: watermark.unwrap_or(Watermark::MIN), split, children }))
            }
        }
    }

    async fn take_batch(&mut self, batch: SourceBatch, now: Instant, effects: &mut Effects) -> Result<()> {
        let graph = Arc::clone(&self.graph);
        let node = source_of(&graph, self.node)?;
        let split = batch.split.clone();
        let resume_at = batch.resume_at.clone();
        let (rows, lag) = (batch.data.records() as u64, batch.lag);
        let woken = lock(&self.progress).wake(&split);
        let run = self.splits.get_mut(&split);
        let run = run.ok_or_else(|| Error::internal(format!("a batch of split \"{split}\", which is not assigned")))?;
        if run.state.idle {
            run.watermark = run.watermark.max(woken);
        }
        let (decoder, watermark) = (self.decoder.as_mut(), &mut run.watermark);
        let (prepared, origin) = as_of(now, || source_batch::prepare(node, decoder, batch, watermark, now))?;
        if let (Malformed::Fail, Some(row)) = (node.malformed, prepared.rejected.first()) {
            return Err(bounded::malformed(&node.table, &split, row));
        }
        self.run_branches(node, &prepared, &origin, effects).await?;
        if let Some(run) = self.splits.get_mut(&split) {
            run.state.offset = Some(resume_at);
            run.state.ahead += prepared.ahead;
            run.state.idle = false;
            run.caught_up = None;
            (run.state.lag, run.state.lag_ms) = match lag {
                Some(Lag::Records(records)) => (Some(records), None),
                Some(Lag::Millis(millis)) => (None, Some(millis)),
                None => (None, None),
            };
        }
        self.report(&split, rows, now)?;
        self.align()?;
        self.forward_watermark(effects).await
    }

    fn report(&mut self, split: &SplitId, rows: u64, now: Instant) -> Result<()> {
        let node = source_of(&self.graph, self.node)?;
        let timeout = node.time.as_ref().and_then(|time| time.idle_timeout);
        let Some(run) = self.splits.get_mut(split) else { return Ok(()) };
        let silent = run.caught_up.map(|since| now.since(since));
        // Only rows end it: a checkpoint has it too, and until then the split holds no watermark to go back to.
        run.state.idle |= matches!((silent, timeout), (Some(silent), Some(timeout)) if silent >= timeout);
        let watermark = (run.watermark > Watermark::MIN).then_some(run.watermark);
        if run.state.watermark != watermark || run.state.advanced.is_none() {
            run.state.advanced = Some(now);
        }
        run.state.watermark = watermark;
        let SplitState { lag, lag_ms, advanced, idle, .. } = run.state;
        let sample = SplitSample { rows: 0, lag, lag_ms, watermark: run.watermark, advanced, is_idle: idle };
        self.metrics.split(&node.table, split, rows, sample);
        let mark = Mark { watermark: run.watermark, idle: run.state.idle, backlog: run.caught_up.is_none() };
        lock(&self.progress).report(split, mark);
        tell(&self.progress);
        Ok(())
    }

    /// Sends the table's watermark on if it has advanced.
    pub(super) async fn forward_watermark(&mut self, effects: &mut Effects) -> Result<()> {
        self.released.mark_unchanged();
        let graph = Arc::clone(&self.graph);
        let node = source_of(&graph, self.node)?;
        let Some(time) = &node.time else { return Ok(()) };
        let by_clock = node.branches.iter().map(|branch| matches!(branch.lateness, Some(Lateness::Clock)));
        let by_clock: Vec<bool> = by_clock.collect();
        if by_clock.contains(&true) && !self.ended {
            let now = Event::Message(Message::Watermark(Watermark(effects.clock().now().micros())));
            self.push_to(now, |branch| by_clock[branch], effects).await?;
        }
        let clock = matches!(time.watermark, WatermarkRule::Clock);
        let watermark = if clock && !self.ended {
            Watermark(effects.clock().now().micros())
        } else {
            lock(&self.progress).released()
        };
        if watermark <= self.emitted {
            return Ok(());
        }
        self.emitted = watermark;
        let event = Event::Message(Message::Watermark(watermark));
        self.push_to(event, |branch| !by_clock[branch], effects).await
    }

    async fn push_all(&mut self, event: Event, effects: &mut Effects) -> Result<()> {
        self.push_to(event, |_| true, effects).await
    }

    async fn push_to(&mut self, event: Event, is_meant: impl Fn(usize) -> bool, effects: &mut Effects) -> Result<()> {
        for (index, branch) in self.branches.iter_mut().enumerate() {
            if is_meant(index) {
                branch.push(0, event.clone(), effects).await?;
            }
        }
        Ok(())
    }

    /// About every second: idle splits, alignment, time for the operators.
    pub(super) async fn tick(&mut self, effects: &mut Effects) -> Result<()> {
        let now = effects.clock().now();
        let quiet: Vec<SplitId> = self
            .splits
            .iter()
            .filter(|(_, run)| run.caught_up.is_some() && run.state.status == SplitStatus::Open)
            .map(|(split, _)| split.clone())
            .collect();
        for split in quiet {
            self.report(&split, 0, now)?;
        }
        self.align()?;
        self.forward_watermark(effects).await?;
        self.push_all(Event::Time(now), effects).await
    }

    /// Lets splits wait that are too far ahead of the slowest one with backlog.
    fn align(&mut self) -> Result<()> {
        let node = source_of(&self.graph, self.node)?;
        let Some(drift) = node.time.as_ref().and_then(|time| time.alignment) else { return Ok(()) };
        let slowest = lock(&self.progress).slowest_with_backlog();
        let drift = i64::try_from(drift.as_micros()).unwrap_or(i64::MAX);
        let limit = slowest.map_or(i64::MAX, |slowest| slowest.0.saturating_add(drift));
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        for (split, run) in &mut self.splits {
            let ahead = run.watermark.0 > limit;
            match (run.paused, ahead) {
                (false, true) => pause.push(split.clone()),
                (true, false) => resume.push(split.clone()),
                (true, true) | (false, false) => {}
            }
            run.paused = ahead;
        }
        if !pause.is_empty() {
            self.reader.pause(&pause);
        }
        if !resume.is_empty() {
            self.reader.resume(&resume);
        }
        Ok(())
    }

    /// Every split of the table has ended for good.
    pub(super) async fn end(&mut self, effects: &mut Effects) -> Result<()> {
        self.ended = true;
        self.emitted = Watermark::MAX;
        self.push_all(Event::Message(Message::Watermark(Watermark::MAX)), effects).await?;
        self.push_all(Event::Message(Message::EndOfInput), effects).await
    }

    /// Before the last barrier: what this process has accepted from clients is read to its end.
    pub(super) async fn close(&mut self, effects: &mut Effects) -> Result<()> {
        let mut open = self.reader.close().await?;
        while !open.is_empty() {
            // The checkpoint that would make room comes after this.
            let Some(event) = self.next_after(std::future::ready(())).await? else {
                self.forward_watermark(effects).await?;
                continue;
            };
            if let SourceEvent::ReachedEnd { split, .. } = &event {
                open.retain(|other| other != split);
            }
            self.take(event, effects).await?;
        }
        Ok(())
    }

    /// Closes an epoch: everything out, then the splits as they are.
    pub(super) async fn barrier(&mut self, barrier: Barrier, effects: &mut Effects) -> Result<()> {
        self.forward_watermark(effects).await?;
        self.push_all(Event::Message(Message::Barrier(barrier)), effects).await?;
        self.write_segments(effects).await?;
        let splits = self.splits.values().map(|run| run.state.clone()).collect();
        effects.parts().source = Some(SourceAck { node: self.name.clone(), splits, emitted: self.emitted });
        self.splits.retain(|_, run| run.state.status != SplitStatus::Ended);
        for run in self.splits.values_mut() {
            run.state.account.values_mut().for_each(|tally| tally.release(self.emitted));
        }
        Ok(())
    }
}
