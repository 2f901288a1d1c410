//! The job graph: what SQL lowering builds and the runtime runs.
//!
//! Nodes are in topological order and named by [`NodeId`], their index. A source node does everything up to the first
//! exchange: decode, computed columns, event time, and per INSERT a [`Branch`] of filters, projections, the lateness
//! decision and a local pre-aggregation. An operator node runs one operator; a forward edge chains it into the task of
//! its input, a keyed one repartitions.
//!
//! ```text
//! Source bids ─ branch 0 (WHERE, late?, partial count) ──hash(auction)──> window-aggregate ──any──> Sink counts
//!             └ branch 1 (project) ──────────────────────────────────────────────────────forward─> Sink raw
//! ```
//!
//! Invariant: a node's inputs have smaller ids than the node; every node but sinks has a consumer.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use arrow::datatypes::SchemaRef;
use datafusion::{physical_expr::PhysicalExpr, physical_expr_common::physical_expr::is_volatile};

use crate::{
    connector::{Carries, ChangelogMode, Sink, Source, TextLength},
    error::{Error, Result},
    operator::OperatorRef,
    window::WindowSpec,
};

/// Index of a node in [`Graph::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub usize);

/// A whole job.
#[derive(Debug, Default)]
pub struct Graph {
    /// Nodes in topological order.
    pub nodes: Vec<Node>,
}

/// A node with a name that stays the same while its part of the query does: state is found by it.
#[derive(Debug)]
pub struct Node {
    /// Unique name: `source:bids`, `counts/window-aggregate-1`, `sink:counts`.
    pub name: String,
    /// What it is.
    pub kind: NodeKind,
}

/// What a node does.
#[derive(Debug)]
pub enum NodeKind {
    /// Reads a table.
    Source(Box<SourceNode>),
    /// Computes.
    Operator(OperatorNode),
    /// Writes a table.
    Sink(SinkNode),
}

/// A table that is read, once for all INSERTs of the job.
#[derive(Debug)]
pub struct SourceNode {
    /// Name of the table.
    pub table: String,
    /// How to read it.
    pub source: Arc<dyn Source>,
    /// The columns that are used, physical and metadata, in declared order, with the types the source yields.
    pub columns: SchemaRef,
    /// The metadata among them: (index in `columns`, key), ascending.
    pub metadata: Vec<(usize, String)>,
    /// Columns of the table in terms of `columns`: computed ones, casts of metadata. `None` when they are the same.
    pub project: Option<Projection>,
    /// Event time and watermark; `None` for a table without.
    pub time: Option<TimeSpec>,
    /// What each consumer gets. The order is that of [`Input::branch`].
    pub branches: Vec<Branch>,
    /// What happens to payloads that cannot be decoded.
    pub malformed: Malformed,
    /// Indexes in `columns` of those that are NOT NULL: a row without a value there is rejected.
    pub not_null: Vec<usize>,
    /// How late rows get the columns that no INSERT uses; `None` when all are read anyway.
    pub whole: Option<WholeRows>,
}

/// All columns a table declares, for rows that are kept aside.
#[derive(Debug, Clone)]
pub struct WholeRows {
    /// All columns the table reads, physical and metadata, in declared order. The metadata is among that of the node.
    pub columns: SchemaRef,
    /// The metadata among them: (index in `columns`, key), ascending.
    pub metadata: Vec<(usize, String)>,
    /// The declared columns that no INSERT uses, in terms of `columns`.
    pub project: Projection,
    /// Where each declared column comes from.
    pub columns_of: Vec<WholeColumn>,
    /// All declared columns.
    pub schema: SchemaRef,
}

/// Where a declared column of a late row comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WholeColumn {
    /// The column at this index of the node's rows.
    Used(usize),
    /// The column at this index of [`WholeRows::project`], of the row read again.
    Again(usize),
}

/// `'malformed'` of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// They become rows of `"t$rejected"`.
    Reject,
    /// The job stops.
    Fail,
}

/// Expressions with the schema they yield.
#[derive(Debug, Clone)]
pub struct Projection {
    /// One expression a column.
    pub exprs: Vec<Arc<dyn PhysicalExpr>>,
    /// Their schema.
    pub schema: SchemaRef,
}

/// Event time of a table; indexes are into the projected columns.
#[derive(Debug, Clone)]
pub struct TimeSpec {
    /// The event time column: a timestamp of any unit, without zone or in UTC.
    pub column: usize,
    /// Columns that are set from the clock.
    pub clocks: Vec<usize>,
    /// How the watermark follows.
    pub watermark: WatermarkRule,
    /// A caught-up split that is silent for this long no longer holds the watermark; `None`: it always does.
    pub idle_timeout: Option<Duration>,
    /// A row further than this beyond its arrival does not move the watermark (`scan.watermark.max-ahead`).
    pub max_ahead: Duration,
    /// Splits this far ahead of the slowest one with backlog wait; `None`: no alignment.
    pub alignment: Option<Duration>,
}

/// Where watermarks come from.
#[derive(Debug, Clone)]
pub enum WatermarkRule {
    /// The running maximum of this expression over the rows of each split; a timestamp.
    Expr(Arc<dyn PhysicalExpr>),
    /// Processing time: the column is set from the clock, and the watermark is the clock.
    Clock,
}

/// What one consumer of a source gets.
#[derive(Debug)]
pub struct Branch {
    /// Name of the INSERT, unique in the job; the ledger counts under it.
    pub insert: String,
    /// Which rows of the table.
    pub input: BranchInput,
    /// Of [`BranchInput::Rejected`]: the INSERT whose own failures it gets, beside records that nobody can read.
    pub of: Option<String>,
    /// Filters and projections, applied in order.
    pub steps: Vec<Step>,
    /// When a row is too late for this INSERT; `None`: never.
    pub lateness: Option<Lateness>,
    /// Whether the ledger counts a row as held until its last window has fired. Needs [`Lateness::Windows`].
    pub holds: bool,
    /// Stateless operators or pre-aggregation run in the source task; their state must be flushed at each barrier.
    pub local: Vec<OperatorRef>,
    /// Columns of the table's rows that come along behind those of the last step: what tells a change from others.
    pub tells: Vec<usize>,
    /// What comes along with each row of the table, behind all that.
    pub carries: Carries,
    /// Schema of what leaves the branch.
    pub schema: SchemaRef,
}

/// Which rows of a source a branch gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BranchInput {
    /// The table's rows.
    Rows,
    /// Every record as it came, with the columns of [`crate::accounts::records_schema`], for a source of records.
    Records,
    /// `"t$rejected"`, with the columns of [`crate::accounts::rejected_schema`]; such rows have no event time.
    Rejected,
    /// `"t$late"`, with the columns of [`crate::accounts::late_schema`]; such rows have no event time.
    Late,
}

/// One stateless step.
#[derive(Debug, Clone)]
pub enum Step {
    /// Keeps rows for which it is true.
    Filter(Arc<dyn PhysicalExpr>),
    /// Computes columns.
    Project(Projection),
}

/// When a row is late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lateness {
    /// When every window it belongs to ended at least `allowed` microseconds before its split's watermark.
    Windows {
        /// The windows of the first stateful operator.
        windows: WindowSpec,
        /// Allowed lateness in microseconds.
        allowed: i64,
    },
    /// When its event time is below its split's watermark (interval joins, deduplication by event time).
    EventTime,
    /// Never: the branch goes by the clock, which is its watermark, beside the event time of the table.
    Clock,
}

/// A computation.
#[derive(Debug)]
pub struct OperatorNode {
    /// Where rows come from; the order is the operator's input index.
    pub inputs: Vec<Input>,
    /// What is computed.
    pub operator: OperatorRef,
}

/// A table that is written.
#[derive(Debug)]
pub struct SinkNode {
    /// Name of the table.
    pub table: String,
    /// Name of the INSERT.
    pub insert: String,
    /// Where rows come from; their schema is the table's.
    pub input: Input,
    /// How to write it.
    pub sink: Arc<dyn Sink>,
    /// Columns that must have a value: a row without one is refused.
    pub not_null: Vec<usize>,
    /// Columns of text with a length: a row with a longer one is refused.
    pub lengths: Vec<(usize, TextLength)>,
    /// Schema of the rows.
    pub schema: SchemaRef,
}

/// An edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// The node rows come from.
    pub from: NodeId,
    /// Which branch, when `from` is a source; else 0.
    pub branch: usize,
    /// How rows are spread over this node's tasks.
    pub exchange: Exchange,
}

/// How rows are spread over tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exchange {
    /// Task i gives to task i; the node is chained into the task of its input if that is its only input.
    Forward,
    /// By the hash of these columns.
    Hash(Vec<usize>),
    /// Everything to one task.
    Single,
}

impl SourceNode {
    /// What an operator of a branch is called in `headwater.operators`.
    pub fn local_name(&self, branch: usize, operator: &OperatorRef) -> String {
        let insert = self.branches.get(branch).map_or("", |branch| &branch.insert);
        format!("{insert}/{}:{}-{branch}", operator.name(), self.table)
    }

    /// Columns of the table's rows, before any branch.
    pub fn schema(&self) -> SchemaRef {
        let projected = self.project.as_ref().map(|projection| Arc::clone(&projection.schema));
        projected.unwrap_or_else(|| Arc::clone(&self.columns))
    }
}

impl Graph {
    /// Adds a node.
    pub fn add(&mut self, name: impl Into<String>, kind: NodeKind) -> NodeId {
        self.nodes.push(Node { name: name.into(), kind });
        NodeId(self.nodes.len() - 1)
    }

    /// The names of all operators, those within sources too.
    pub(crate) fn operator_names(&self) -> BTreeSet<String> {
        let names = |node: &Node| match &node.kind {
            NodeKind::Source(source) => {
                let branches = source.branches.iter().enumerate();
                let local = branches.flat_map(|(index, branch)| branch.local.iter().map(move |one| (index, one)));
                local.map(|(index, operator)| source.local_name(index, operator)).collect()
            }
            NodeKind::Operator(_) => vec![node.name.clone()],
            NodeKind::Sink(_) => Vec::new(),
        };
        self.nodes.iter().flat_map(names).collect()
    }

    /// The source nodes whose rows reach a node, by name.
    pub fn sources_of(&self, name: &str) -> Vec<String> {
        let Some(start) = self.nodes.iter().position(|node| node.name == name) else { return Vec::new() };
        let mut above = vec![false; self.nodes.len()];
        self.mark_inputs(start, &mut above);
        let is_source = |(node, above): &(&Node, bool)| *above && matches!(node.kind, NodeKind::Source(_));
        self.nodes.iter().zip(above).filter(is_source).map(|(node, _)| node.name.clone()).collect()
    }

    fn mark_inputs(&self, index: usize, above: &mut [bool]) {
        for input in self.nodes[index].kind.inputs() {
            above[input.from.0] = true;
            self.mark_inputs(input.from.0, above);
        }
    }

    /// The node of an id.
    pub fn node(&self, id: NodeId) -> Result<&Node> {
        self.nodes.get(id.0).ok_or_else(|| Error::internal(format!("graph has no node {}", id.0)))
    }

    /// Schema of the rows an edge carries.
    pub fn schema_of(&self, input: &Input) -> Result<SchemaRef> {
        match &self.node(input.from)?.kind {
            NodeKind::Source(source) => {
                source.branches.get(input.branch).map(|branch| Arc::clone(&branch.schema)).ok_or_else(|| {
                    Error::internal(format!("source \"{}\" has no branch {}", source.table, input.branch))
                })
            }
            NodeKind::Operator(operator) => Ok(operator.operator.schema()),
            NodeKind::Sink(sink) => Err(Error::internal(format!("sink \"{}\" has no output", sink.table))),
        }
    }

    /// Changes an edge carries.
    pub fn changelog_of(&self, input: &Input) -> Result<ChangelogMode> {
        match &self.node(input.from)?.kind {
            NodeKind::Source(source) => match source.branches.get(input.branch).map(|branch| branch.input) {
                Some(BranchInput::Rejected | BranchInput::Late | BranchInput::Records) => Ok(ChangelogMode::Append),
                Some(BranchInput::Rows) | None => Ok(source.source.changelog()),
            },
            NodeKind::Operator(operator) => {
                let inputs = operator.inputs.iter().map(|input| self.changelog_of(input));
                operator.operator.output(&inputs.collect::<Result<Vec<_>>>()?)
            }
            NodeKind::Sink(sink) => Err(Error::internal(format!("sink \"{}\" has no output", sink.table))),
        }
    }

    /// Checks what every node relies on: order of ids, unique names, sinks that take what they get.
    pub fn validate(&self) -> Result<()> {
        for (index, node) in self.nodes.iter().enumerate() {
            if self.nodes[..index].iter().any(|other| other.name == node.name) {
                return Err(Error::internal(format!("two nodes of the job are named \"{}\"", node.name)));
            }
            if node.kind.inputs().iter().any(|input| input.from.0 >= index) {
                return Err(Error::internal(format!("node \"{}\" reads a later one", node.name)));
            }
            for input in node.kind.inputs() {
                self.schema_of(input)?;
            }
            match &node.kind {
                NodeKind::Sink(sink) => self.validate_sink(sink)?,
                NodeKind::Source(source) => {
                    let mut rows = source.branches.iter().filter(|branch| branch.input == BranchInput::Rows);
                    rows.try_for_each(|branch| check_filters(&branch.steps, source.source.changelog()))?;
                }
                NodeKind::Operator(_) => {}
            }
        }
        Ok(())
    }

    fn validate_sink(&self, sink: &SinkNode) -> Result<()> {
        let changes = self.changelog_of(&sink.input)?;
        if changes <= sink.sink.accepts() {
            return Ok(());
        }
        let message = format!(
            "the query for \"{}\" updates rows it has already emitted, and the sink takes inserts only",
            sink.table
        );
        Err(Error::not_supported(message)
            .with_hint("group by a window, or write to a sink with a PRIMARY KEY (upsert-kafka, dynamodb, memory)"))
    }
}

/// Refuses filters that answer otherwise when a row is taken back than when it came, so that it would stay for ever.
pub(crate) fn check_filters(steps: &[Step], changes: ChangelogMode) -> Result<()> {
    let filters = steps.iter().filter_map(|step| match step {
        Step::Filter(expr) => Some(expr),
        Step::Project(_) => None,
    });
    match filters.into_iter().find(|expr| wavers(expr, changes)) {
        Some(expr) => Err(wavering("filter", &expr.to_string())),
        None => Ok(()),
    }
}

/// Whether an expression over such rows has another value when a row is taken back than when it came.
pub fn wavers(expr: &Arc<dyn PhysicalExpr>, changes: ChangelogMode) -> bool {
    changes != ChangelogMode::Append && is_volatile(expr)
}

/// That an expression [`wavers`], where rows are found again by its value.
pub fn wavering(what: &str, expr: &str) -> Error {
    Error::not_supported(format!("the {what} {expr} goes by the clock or by chance, over rows that change"))
        .with_hint("filter the rows before they are grouped or joined, or the table when it is read")
}

impl NodeKind {
    /// Its inputs.
    pub fn inputs(&self) -> &[Input] {
        match self {
            NodeKind::Source(_) => &[],
            NodeKind::Operator(operator) => &operator.inputs,
            NodeKind::Sink(sink) => std::slice::from_ref(&sink.input),
        }
    }
}
