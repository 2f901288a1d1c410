//! From the graph to tasks: which nodes share a task, the channels between tasks, and the state each takes up.
//!
//! An operator or sink with a single forward input is chained into the task of that input; every other node heads tasks
//! of its own. Sources have at most as many tasks as splits.
//!
//! Invariant: every task of a stage has a channel from every task of each of its inputs, so that barriers and watermarks
//! reach all.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    checkpoint::{
        files,
        log::Log,
        manifest::{Manifest, OperatorState, UnitState},
    },
    connector::{Bound, Distribution, Guarantee, JobContext, OpenRequest, OpenUnit, SinkTask},
    error::{Error, Result},
    graph::{Exchange, Graph, Input, NodeKind, SinkNode, SourceNode},
    hash::key_groups_of_task,
    message::Epoch,
    metrics::JobMetrics,
    operator::{Operator, OperatorContext, OperatorFactory, RunningTime},
    runtime::{
        align::Aligner,
        effects::Effects,
        exchange::{ChannelReceiver, ChannelSender, Gate, Outgoing, channel},
        pipe::{OperatorSlot, Outlet, Pipe, SinkSlot, SlotState},
        slow::Slow,
        source_head::{HeadParts, SharedProgress, SourceHead},
        splits::Assignment,
        task::{Command, Head, Task, TaskEvent},
    },
    state::StateReader,
    time::Watermark,
    verdict::why_dropped,
};

/// What tasks are built from.
#[derive(Debug)]
pub(super) struct Builder<'a> {
    pub(super) graph: &'a Arc<Graph>,
    pub(super) job: &'a JobContext,
    pub(super) log: &'a Log,
    pub(super) restored: Option<&'a Manifest>,
    pub(super) epoch: Epoch,
    pub(super) bound: Bound,
    pub(super) events: mpsc::Sender<TaskEvent>,
    pub(super) cancel: CancellationToken,
    pub(super) metrics: Arc<JobMetrics>,
    pub(super) rejected_max_rate: Option<u64>,
    running: RunningTime,
    /// Tasks of each head node.
    pub(super) tasks: HashMap<usize, usize>,
    senders: HashMap<(usize, usize, usize), Vec<ChannelSender>>,
    receivers: HashMap<(usize, usize), Vec<(usize, ChannelReceiver)>>,
}

/// A table's share in building: its splits by task, and its progress.
#[derive(Debug)]
pub(super) struct TableParts {
    pub(super) assigned: Vec<Assignment>,
    pub(super) progress: SharedProgress,
}

/// Commands waiting for a source task at most.
const COMMANDS: usize = 256;

/// Whether a node runs in the task of its input.
fn is_chained(graph: &Graph, node: usize) -> bool {
    match graph.nodes[node].kind.inputs() {
        [input] => effective_exchange(graph, node, input) == Exchange::Forward,
        _ => false,
    }
}

/// The exchange of an edge; a sink's own distribution comes before the planner's.
fn effective_exchange(graph: &Graph, node: usize, input: &Input) -> Exchange {
    match &graph.nodes[node].kind {
        NodeKind::Sink(sink) => match sink.sink.distribution() {
            Distribution::Any => input.exchange.clone(),
            Distribution::ByKey(columns) => Exchange::Hash(columns),
            Distribution::Single => Exchange::Single,
        },
        NodeKind::Operator(_) | NodeKind::Source(_) => input.exchange.clone(),
    }
}

/// The node whose tasks a node runs in.
fn head_of(graph: &Graph, node: usize) -> usize {
    let mut node = node;
    while is_chained(graph, node) {
        let [input] = graph.nodes[node].kind.inputs() else { break };
        node = input.from.0;
    }
    node
}

impl<'a> Builder<'a> {
    /// A builder; `split_counts` has the number of splits of each source node.
    pub(super) fn new(
        graph: &'a Arc<Graph>,
        job: &'a JobContext,
        log: &'a Log,
        restored: Option<&'a Manifest>,
        split_counts: &HashMap<usize, usize>,
    ) -> (Self, mpsc::Receiver<TaskEvent>) {
        let mut tasks = HashMap::new();
        for (index, node) in graph.nodes.iter().enumerate().filter(|(index, _)| !is_chained(graph, *index)) {
            let single = |input: &Input| match effective_exchange(graph, index, input) {
                Exchange::Single => true,
                Exchange::Hash(columns) => columns.is_empty(),
                Exchange::Forward => false,
            };
            let count = match &node.kind {
                NodeKind::Source(_) => split_counts.get(&index).copied().unwrap_or(1).clamp(1, job.parallelism),
                kind if kind.inputs().iter().all(single) => 1,
                _ => job.parallelism,
            };
            tasks.insert(index, count);
        }
        let (sender, receiver) = mpsc::channel(1024);
        let builder = Self {
            graph,
            job,
            log,
            restored,
            epoch: Epoch::default(),
            bound: Bound::Table,
            events: sender,
            cancel: CancellationToken::new(),
            metrics: Arc::default(),
            rejected_max_rate: None,
            running: RunningTime {
                before_ms: restored.map_or(0, |manifest| manifest.running_ms),
                since: job.clock.now(),
            },
            tasks,
            senders: HashMap::new(),
            receivers: HashMap::new(),
        };
        (builder, receiver)
    }

    fn tasks_of(&self, node: usize) -> usize {
        self.tasks.get(&head_of(self.graph, node)).copied().unwrap_or(1)
    }

    /// Makes the channels of every edge between stages.
    fn connect(&mut self) {
        let stages: Vec<usize> = (0..self.graph.nodes.len()).filter(|node| !is_chained(self.graph, *node)).collect();
        let pairs = |node: usize, input: &Input| self.tasks_of(node) * self.tasks_of(input.from.0);
        let edges =
            stages.iter().flat_map(|node| self.graph.nodes[*node].kind.inputs().iter().map(move |i| (*node, i)));
        let count: usize = edges.map(|(node, input)| pairs(node, input)).sum();
        let limit = (self.job.memory.limit() / 8 / count.max(1)).clamp(64 << 10, 4 << 20);
        for node in stages {
            for (index, input) in self.graph.nodes[node].kind.inputs().iter().enumerate() {
                for up in 0..self.tasks_of(input.from.0) {
                    let mut row = Vec::new();
                    for down in 0..self.tasks_of(node) {
                        let (sender, receiver) = channel(limit);
                        sender.watched_by(&self.metrics, &self.graph.nodes[node].name);
                        row.push(sender);
                        self.receivers.entry((node, down)).or_default().push((index, receiver));
                    }
                    self.senders.insert((node, index, up), row);
                }
            }
        }
    }

    /// Builds all tasks, and the command channels of source tasks by node.
    pub(super) async fn build(
        mut self,
        mut tables: HashMap<usize, TableParts>,
    ) -> Result<(Vec<Task>, HashMap<usize, Vec<mpsc::Sender<Command>>>)> {
        self.connect();
        let mut tasks = Vec::new();
        let mut commands: HashMap<usize, Vec<mpsc::Sender<Command>>> = HashMap::new();
        for node in 0..self.graph.nodes.len() {
            if is_chained(self.graph, node) {
                continue;
            }
            let table = tables.remove(&node);
            for task in 0..self.tasks_of(node) {
                let head = match (&self.graph.nodes[node].kind, &table) {
                    (NodeKind::Source(source), Some(table)) => {
                        let (sender, receiver) = mpsc::channel(COMMANDS);
                        commands.entry(node).or_default().push(sender);
                        let head = Box::new(self.source_head(node, source, table, task).await?);
                        Head::Source { node, head, commands: receiver }
                    }
                    (NodeKind::Source(_), None) => return Err(Error::internal("a source without its splits")),
                    (NodeKind::Operator(_) | NodeKind::Sink(_), _) => self.gate(node, task).await?,
                };
                let name = format!("{}-{task}", self.graph.nodes[node].name);
                let clock = Arc::clone(&self.job.clock);
                let effects = Effects::new(self.log.clone(), clock, self.job.generation, self.epoch, name.clone());
                tasks.push(Task { name, head, effects, events: self.events.clone(), cancel: self.cancel.clone() });
            }
        }
        Ok((tasks, commands))
    }

    async fn source_head(
        &mut self,
        node: usize,
        source: &SourceNode,
        table: &TableParts,
        task: usize,
    ) -> Result<SourceHead> {
        let assigned: Vec<Assignment> =
            table.assigned.iter().filter(|assignment| assignment.task == task).cloned().collect();
        let request = OpenRequest {
            splits: assigned.iter().map(|assignment| assignment.start.clone()).collect(),
            bound: self.bound,
            columns: Arc::clone(&source.columns),
            metadata: source.metadata.clone(),
            task,
            tasks: self.tasks_of(node),
        };
        let named = |error: Error| error.context(format!("table \"{}\"", source.table));
        let reader = source.source.open(self.job, request).await.map_err(named)?;
        let mut pipes = Vec::new();
        for (index, branch) in source.branches.iter().enumerate() {
            let mut operators = Vec::new();
            for factory in &branch.local {
                let context = self.operator_context(&format!("{}-{index}", self.graph.nodes[node].name), task, 1);
                operators.push(OperatorSlot::new(source.local_name(index, factory), factory.create(&context)?, None));
            }
            let outlets = self.outlets(node, index, task).await?;
            pipes.push(Pipe { operators, outlets });
        }
        let (progress, metrics) = (Arc::clone(&table.progress), Arc::clone(&self.metrics));
        let memory = self.job.memory.clone();
        let parts = HeadParts { graph: Arc::clone(self.graph), node, reader, progress, pipes, memory, metrics };
        let slow = Slow::new(self.rejected_max_rate, Arc::clone(&self.job.clock));
        SourceHead::new(parts, &assigned, slow)
    }

    async fn gate(&mut self, node: usize, task: usize) -> Result<Head> {
        let channels = self.receivers.remove(&(node, task)).unwrap_or_default();
        let inputs: Vec<usize> = channels.iter().map(|(input, _)| *input).collect();
        let gate = Gate::new(channels.into_iter().map(|(_, receiver)| receiver).collect());
        let pipe = self.pipe_of(node, task).await?;
        Ok(Head::Gate { gate, aligner: Aligner::new(&inputs), pipe })
    }

    /// The pipe that begins with this operator or sink.
    async fn pipe_of(&mut self, node: usize, task: usize) -> Result<Pipe> {
        let graph = Arc::clone(self.graph);
        match &graph.nodes[node].kind {
            NodeKind::Operator(operator) => {
                let slot = self.operator_slot(node, operator.operator.as_ref(), task).await?;
                let outlets = Box::pin(self.outlets(node, 0, task)).await?;
                Ok(Pipe { operators: vec![slot], outlets })
            }
            NodeKind::Sink(sink) => {
                let slot = self.sink_slot(node, sink, task).await?;
                Ok(Pipe { operators: Vec::new(), outlets: vec![Outlet::Sink(Box::new(slot))] })
            }
            NodeKind::Source(source) => Err(Error::internal(format!("source \"{}\" has an input", source.table))),
        }
    }

    async fn outlets(&mut self, node: usize, branch: usize, task: usize) -> Result<Vec<Outlet>> {
        let graph = Arc::clone(self.graph);
        let mut outlets = Vec::new();
        for (consumer, kind) in graph.nodes.iter().map(|node| &node.kind).enumerate() {
            for (index, input) in kind.inputs().iter().enumerate() {
                if input.from.0 != node || input.branch != branch {
                    continue;
                }
                if is_chained(&graph, consumer) {
                    outlets.push(Outlet::Pipe(Box::pin(self.pipe_of(consumer, task)).await?));
                    continue;
                }
                let senders = self.senders.remove(&(consumer, index, task)).unwrap_or_default();
                let exchange = effective_exchange(&graph, consumer, input);
                outlets.push(Outlet::Exchange(Outgoing::new(senders, exchange, task)));
            }
        }
        Ok(outlets)
    }

    fn operator_context(&self, name: &str, task: usize, tasks: usize) -> OperatorContext {
        let safe: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
        OperatorContext {
            name: name.to_owned(),
            task,
            tasks,
            key_groups: key_groups_of_task(task, tasks),
            memory: self.job.memory.clone(),
            // What a dead attempt still writes is not in the way.
            spill: self.job.local_state.join(format!("spill/{}/{safe}-{task}", self.job.generation.0)),
            running: self.running,
        }
    }

    async fn operator_slot(&mut self, node: usize, factory: &dyn OperatorFactory, task: usize) -> Result<OperatorSlot> {
        let name = self.graph.nodes[node].name.clone();
        let tasks = self.tasks_of(node);
        let context = self.operator_context(&name, task, tasks);
        let mut operator = factory.create(&context)?;
        let Some(fingerprint) = factory.fingerprint() else { return Ok(OperatorSlot::new(name, operator, None)) };
        let saved = self.restored.and_then(|manifest| manifest.operators.get(&name));
        let saved = saved.filter(|saved| why_dropped(self.graph, &name, &fingerprint, saved).is_none());
        let same = saved.is_none_or(|saved| saved.tasks.len() == tasks);
        let mut tables = BTreeMap::new();
        let mut watermark = Watermark::MIN;
        if let Some(saved) = saved {
            watermark = saved.watermark.unwrap_or(Watermark::MIN);
            if same {
                tables = saved.tasks[task].clone();
            }
            self.restore(operator.as_mut(), saved, same.then_some(task), &context, watermark).await?;
        }
        let state = SlotState { node: name.clone(), task, fingerprint, watermark, tables, whole_next: !same };
        let mut slot = OperatorSlot::new(name, operator, Some(state));
        slot.emitted = Watermark::MIN;
        Ok(slot)
    }

    /// Gives an operator the state of one task, or of all, file by file in the order of their epochs.
    async fn restore(
        &self,
        operator: &mut dyn Operator,
        saved: &OperatorState,
        only: Option<usize>,
        context: &OperatorContext,
        watermark: Watermark,
    ) -> Result<()> {
        let mut rest: BTreeMap<String, Vec<arrow::array::RecordBatch>> = BTreeMap::new();
        let chosen = saved.tasks.iter().enumerate().filter(|(task, _)| only.is_none_or(|only| only == *task));
        for (table, list) in chosen.flat_map(|(_, tables)| tables) {
            for file in list {
                let store = self.log.store();
                let bytes = self.log.retrying(|| store.get(&file.path)).await?;
                let missing = || files::missing("state", &file.path);
                let batches = files::decode(&file.path, bytes.ok_or_else(missing)?)?;
                let part = StateReader::new(vec![(table.clone(), batches)], &context.key_groups, watermark)?;
                if !operator.restore_part(&part)? {
                    rest.entry(table.clone()).or_default().extend(part.into_batches());
                    continue;
                }
                if let Some(work) = operator.between_calls(self.job.clock.now()) {
                    work.await?;
                }
            }
        }
        operator.restore(&StateReader::new(rest.into_iter().collect(), &context.key_groups, watermark)?)
    }

    async fn sink_slot(&mut self, node: usize, sink: &SinkNode, task: usize) -> Result<SinkSlot> {
        let name = self.graph.nodes[node].name.clone();
        let count = self.tasks_of(node);
        let open = self.restored.and_then(|manifest| manifest.sinks.get(&name)).map(|state| state.open.as_slice());
        let own = open.unwrap_or_default().iter().enumerate().filter(|(index, _)| index % count == task);
        let open = own.map(|(_, unit)| open_unit(unit)).collect();
        let place = SinkTask {
            insert: sink.insert.clone(),
            index: task,
            count,
            schema: Arc::clone(&sink.schema),
            changes: self.graph.changelog_of(&sink.input)?,
        };
        let named = |error: Error| error.context(format!("sink \"{}\"", sink.table));
        let writer = sink.sink.writer(self.job, place, open).await.map_err(named)?;
        let metrics = Arc::clone(&self.metrics);
        let is_held = sink.sink.guarantee() == Guarantee::ExactlyOnce;
        let unpublished = is_held.then(|| self.job.memory.unpublished());
        let (table, not_null, lengths) = (sink.table.clone(), sink.not_null.clone(), sink.lengths.clone());
        let refused = Vec::new();
        Ok(SinkSlot { node: name, table, task, writer, not_null, lengths, refused, rows: 0, unpublished, metrics })
    }
}

fn open_unit(unit: &UnitState) -> OpenUnit {
    OpenUnit { unit: unit.unit.clone(), detail: unit.detail.clone(), rows: unit.rows, bytes: unit.bytes }
}
