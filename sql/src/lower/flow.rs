//! A query's plan as a flow of rows: steps on a source's branch first, operators after the first stateful one.
//!
//! Invariant: the schema of a flow is that of the plan node it stands for, column by column.

use std::{sync::Arc, time::Duration};

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::{
    catalog::TableProvider,
    common::{DFSchema, DFSchemaRef, tree_node::TreeNode},
    execution::SessionState,
    logical_expr::{
        Expr, Filter, LogicalPlan, Projection as PlanProjection, Window, execution_props::ExecutionProps,
        physical_planning_context::PhysicalPlanningContext,
    },
    physical_expr::{
        PhysicalExpr, create_physical_expr,
        expressions::{CastExpr, Column, Literal},
    },
    scalar::ScalarValue,
};
use headwater_engine::{
    connector::{Carries, ChangelogMode},
    error::{Error, Result},
    graph::{Branch, BranchInput, Exchange, Input, Lateness, NodeId, NodeKind, OperatorNode, Projection, Step},
    operator::OperatorRef,
    operators::stateless::Steps,
    window::WindowSpec,
};

use super::{
    facts::Facts,
    refused::{refused, unsupported},
    table::{StreamTable, stream_table},
    wavering,
};
use crate::{bind::subquery_of, settings::SettingValue, windows::WindowNode};

/// Rows on their way.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    pub(super) origin: Origin,
    pub(super) steps: Vec<Step>,
    /// Columns as the plan has them.
    pub(super) schema: DFSchemaRef,
    /// Windows that rows are to be assigned to; their columns are in `schema` but not yet in the rows.
    pub(super) pending: Option<Pending>,
    pub(super) facts: Facts,
}

/// Where rows come from.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// Rows of a table, by its index among the job's sources.
    Source(usize, BranchInput),
    /// An operator.
    Node(NodeId),
}

/// A window function whose aggregation is still to come.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) spec: WindowSpec,
    /// Index of the event time column in the rows.
    pub(super) time: usize,
    /// When a row is late for the windows.
    pub(super) lateness: Lateness,
    /// Allowed lateness in microseconds.
    pub(super) allowed: i64,
    /// Where `window_start`, `window_end` and `window_time` are in the plan's columns, if they are still there.
    pub(super) columns: [Option<usize>; 3],
    /// `PARTITION BY` of sessions, as the plan's columns, if they are still there.
    pub(super) session_keys: Vec<Option<usize>>,
    /// The event time, when it is in the rows (as the last column) but no longer in the plan's columns.
    pub(super) hidden: Option<FieldRef>,
}

/// A table that is read, with what its consumers get.
#[derive(Debug)]
pub(super) struct SourceTable {
    pub(super) provider: Arc<dyn TableProvider>,
    /// Declared columns that some INSERT uses, ascending.
    pub(super) kept: Vec<usize>,
    pub(super) branches: Vec<Branch>,
    /// Which changes its rows are.
    pub(super) changes: ChangelogMode,
}

impl SourceTable {
    /// The table itself.
    pub(super) fn table(&self) -> Result<&StreamTable> {
        stream_table(&self.provider).ok_or_else(|| Error::internal("a source is no table of the run"))
    }
}

/// The job as far as it is lowered.
#[derive(Debug, Default)]
pub(super) struct Lowering {
    pub(super) sources: Vec<SourceTable>,
    /// Nodes behind the sources; their ids start after those of the sources.
    pub(super) nodes: Vec<(String, NodeKind)>,
    /// The INSERT being lowered.
    pub(super) insert: String,
    /// What runs the bounded parts of the INSERT being lowered.
    pub(super) state: Option<SessionState>,
    /// What a user should know about the job.
    pub(super) notes: Vec<String>,
    /// How long state is kept that no window ends (`table.exec.state.ttl`); `None`: for ever.
    pub(super) ttl: Option<Duration>,
    /// How often tables that are looked up are read again.
    pub(super) refresh: Option<Duration>,
}

impl Lowering {
    pub(super) fn add(&mut self, what: &str, kind: NodeKind) -> NodeId {
        let id = NodeId(self.sources.len() + self.nodes.len());
        let own = format!("{}/", self.insert);
        let place = self.nodes.iter().filter(|(name, _)| name.starts_with(&own)).count();
        self.nodes.push((format!("{own}{what}-{place}"), kind));
        id
    }

    /// Adds an operator with one input.
    pub(super) fn add_operator(&mut self, input: Input, operator: OperatorRef) -> NodeId {
        let what = operator.name();
        self.add(what, NodeKind::Operator(OperatorNode { inputs: vec![input], operator }))
    }

    /// State that nothing in the query ends: said in EXPLAIN and at the start.
    pub(super) fn unbounded_state(&mut self, what: &str) {
        let kept = match self.ttl {
            None => "keeps state for ever: set 'table.exec.state.ttl' if keys come and go".to_owned(),
            Some(ttl) => format!("forgets state {} after it was last written", ttl.show()),
        };
        let note = format!("{}: {what} {kept}", self.insert);
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// The flow of a plan.
    pub(super) fn flow(&mut self, plan: &LogicalPlan) -> Result<Flow> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::Projection(projection) => {
                let input = match projection.input.as_ref() {
                    LogicalPlan::Filter(filter) => self.filter(filter, Some(&projection.expr))?,
                    input => self.flow(input)?,
                };
                self.project(input, &projection.expr, &projection.schema)
            }
            LogicalPlan::Filter(filter) => self.filter(filter, None),
            LogicalPlan::SubqueryAlias(alias) => {
                let input = self.flow(&alias.input)?;
                Ok(Flow { schema: Arc::clone(&alias.schema), ..input })
            }
            LogicalPlan::Extension(extension) => match extension.node.as_any().downcast_ref::<WindowNode>() {
                Some(node) => self.window(node, plan.schema()),
                None => Err(refused(plan)),
            },
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Distinct(distinct) => self.distinct(distinct),
            LogicalPlan::Union(union) => self.union(union),
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Unnest(unnest) => self.unnest(unnest),
            other => Err(refused(other)),
        }
    }

    /// `above` are the expressions over the filtered rows, if they are known.
    fn filter(&mut self, filter: &Filter, above: Option<&[Expr]>) -> Result<Flow> {
        if let Some((window, kept)) = numbered(&filter.input) {
            let width = window.input.schema().fields().len();
            let is_rank = |column: &_| window.schema.index_of_column(column).is_ok_and(|index| index == width);
            let is_ranked =
                above.is_none_or(|exprs| exprs.iter().any(|expr| expr.column_refs().into_iter().any(is_rank)));
            let ranked = self.rank(filter, window, is_ranked)?;
            return match kept {
                Some(kept) => self.project(ranked, &kept.expr, &kept.schema),
                None => Ok(ranked),
            };
        }
        let mut input = self.flow(&filter.input)?;
        input.settled("a condition on")?;
        check_sessions(&input, &filter.predicate)?;
        if uses_windows(&input, &filter.predicate) {
            input = self.assign(input)?;
        }
        let predicate = physical(&filter.predicate, input.rows_schema()?.as_ref())?;
        wavering::check("filter", [&predicate], &input.facts)?;
        input.steps.push(Step::Filter(predicate));
        Ok(input)
    }

    /// Columns for expressions that are none yet, behind the rows' own; with the places of all, and the rows' schema.
    pub(super) fn with_columns(&self, mut flow: Flow, exprs: &[Expr]) -> Result<(Flow, Vec<usize>, SchemaRef)> {
        let schema = arrow_schema(&flow.schema);
        let mut fields: Vec<FieldRef> = schema.fields().to_vec();
        let mut all: Vec<Arc<dyn PhysicalExpr>> =
            (0..fields.len()).map(|index| Arc::new(Column::new(fields[index].name(), index)) as _).collect();
        let mut places = Vec::with_capacity(exprs.len());
        for expr in exprs {
            if let Ok(index) = index_of(expr, &flow.schema) {
                flow.facts.check_column("key", index)?;
                places.push(index);
                continue;
            }
            let made = physical(expr, &flow.schema)?;
            wavering::check("key", [&made], &flow.facts)?;
            let name = format!("headwater_key_{}", all.len());
            fields.push(Arc::new(Field::new(name, made.data_type(&schema)?, true)));
            places.push(all.len());
            all.push(made);
        }
        if all.len() == schema.fields().len() {
            return Ok((flow, places, schema));
        }
        let schema = Arc::new(Schema::new(fields));
        flow.steps.push(Step::Project(Projection { exprs: all, schema: Arc::clone(&schema) }));
        Ok((flow, places, schema))
    }

    /// Ends a flow as the input of a node: a branch of its source, or a chain of steps behind an operator.
    pub(super) fn input(
        &mut self,
        flow: Flow,
        exchange: Exchange,
        schema: SchemaRef,
        lateness: Option<Lateness>,
    ) -> Result<Input> {
        match flow.origin {
            Origin::Source(source, BranchInput::Rows) if self.tells(source)?.is_some() => {
                let once = self.once(source, flow.steps, &schema, lateness)?;
                Ok(Input { exchange, ..once })
            }
            Origin::Source(source, input) => {
                let branch = Branch {
                    insert: self.insert.clone(),
                    input,
                    of: None,
                    steps: flow.steps,
                    lateness,
                    holds: false,
                    local: Vec::new(),
                    tells: Vec::new(),
                    carries: Carries::Nothing,
                    schema,
                };
                Ok(self.branch(source, branch, exchange))
            }
            Origin::Node(node) => {
                if let Some(lateness) = lateness {
                    self.refuse_late(&flow.facts.feeds, lateness);
                }
                let steps = flow.steps;
                let from = Input { from: node, branch: 0, exchange: Exchange::Forward };
                if steps.is_empty() {
                    return Ok(Input { exchange, ..from });
                }
                let from = self.add_operator(from, Arc::new(Steps::new(steps, schema)));
                Ok(Input { from, branch: 0, exchange })
            }
        }
    }

    /// Ends a flow, and says which branches feed what follows, if that is stateless.
    pub(super) fn feed(&mut self, flow: Flow, lateness: Option<Lateness>) -> Result<(Input, Vec<(usize, usize)>)> {
        let rows = flow.rows_schema()?;
        let schema = arrow_schema(&rows);
        let (origin, feeds) = (flow.origin.clone(), flow.facts.feeds.clone());
        let input = self.input(Flow { pending: None, ..flow }, Exchange::Forward, schema, lateness)?;
        let feeds = match origin {
            Origin::Source(source, _) => vec![(source, self.sources[source].branches.len() - 1)],
            Origin::Node(_) => feeds,
        };
        Ok((input, feeds))
    }

    /// Lateness is decided at the source, also for windows behind operators without state.
    pub(super) fn refuse_late(&mut self, feeds: &[(usize, usize)], lateness: Lateness) {
        for (source, branch) in feeds {
            self.sources[*source].branches[*branch].lateness.get_or_insert(lateness);
        }
    }

    pub(super) fn branch(&mut self, source: usize, branch: Branch, exchange: Exchange) -> Input {
        let branches = &mut self.sources[source].branches;
        branches.push(branch);
        Input { from: NodeId(source), branch: branches.len() - 1, exchange }
    }
}

impl Flow {
    /// The columns the rows have: the plan's without window columns that are not there yet.
    pub(super) fn rows_schema(&self) -> Result<DFSchemaRef> {
        let Some(pending) = &self.pending else { return Ok(Arc::clone(&self.schema)) };
        let is_window = |index: usize| pending.columns.contains(&Some(index));
        let mut fields: Vec<_> = self
            .schema
            .iter()
            .enumerate()
            .filter(|(index, _)| !is_window(*index))
            .map(|(_, (qualifier, field))| (qualifier.cloned(), Arc::clone(field)))
            .collect();
        fields.extend(pending.hidden.iter().map(|field| (None, Arc::clone(field))));
        Ok(Arc::new(DFSchema::new_with_metadata(fields, Default::default())?))
    }

    pub(super) fn of_node(id: NodeId, schema: &DFSchemaRef, facts: Facts) -> Self {
        Self { origin: Origin::Node(id), steps: Vec::new(), schema: Arc::clone(schema), pending: None, facts }
    }

    /// Puts the rows' columns in the order of a schema; `None` is a column that nothing reads.
    pub(super) fn pick(&mut self, places: impl Iterator<Item = Option<usize>>, schema: &SchemaRef) -> Result<()> {
        let mut exprs: Vec<Arc<dyn PhysicalExpr>> = Vec::with_capacity(schema.fields().len());
        for (place, field) in places.zip(schema.fields()) {
            exprs.push(match (place, field.data_type()) {
                (Some(place), DataType::UInt64) => {
                    Arc::new(CastExpr::new(Arc::new(Column::new(field.name(), place)), DataType::UInt64, None))
                }
                (Some(place), _) => Arc::new(Column::new(field.name(), place)),
                (None, of) => Arc::new(Literal::new(ScalarValue::new_zero(of)?)),
            });
        }
        self.steps.push(Step::Project(Projection { exprs, schema: Arc::clone(schema) }));
        Ok(())
    }

    /// Refuses rows that replace each other without naming the old one, as windows with allowed lateness give them.
    pub(super) fn settled(&self, what: &str) -> Result<()> {
        if self.facts.changes != ChangelogMode::Upsert {
            return Ok(());
        }
        Err(Error::not_supported(format!("{what} windows that fire again within the allowed lateness"))
            .with_hint("write them directly to a sink with a PRIMARY KEY, or leave out 'watermark.allowed-lateness'"))
    }
}

/// The window functions right below a condition, perhaps with fewer of their columns between.
fn numbered(plan: &LogicalPlan) -> Option<(&Window, Option<&PlanProjection>)> {
    match plan {
        LogicalPlan::Window(window) => Some((window, None)),
        LogicalPlan::Projection(kept) if kept.expr.iter().all(|expr| matches!(expr, Expr::Column(_))) => {
            match kept.input.as_ref() {
                LogicalPlan::Window(window) => Some((window, Some(kept))),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Sessions are made of all rows of their keys: a condition may come before them only if it is about these keys.
fn check_sessions(flow: &Flow, predicate: &Expr) -> Result<()> {
    let Some(pending) = flow.pending.as_ref().filter(|pending| matches!(pending.spec, WindowSpec::Session { .. }))
    else {
        return Ok(());
    };
    let is_key = |column| flow.schema.index_of_column(column).is_ok_and(|at| pending.session_keys.contains(&Some(at)));
    if predicate.column_refs().into_iter().all(is_key) && !predicate.is_volatile() {
        return Ok(());
    }
    Err(unsupported("a condition on the rows of sessions").with_hint(
        "put FILTER (WHERE ..) behind the aggregates; or, for sessions of fewer rows, put the condition into a view or a \
         query of WITH and write SESSION(TABLE that ..)",
    ))
}

/// Whether an expression needs the values of window columns that are not there yet.
pub(super) fn uses_windows(flow: &Flow, expr: &Expr) -> bool {
    let Some(pending) = &flow.pending else { return false };
    let is_window = |index: usize| pending.columns.contains(&Some(index));
    expr.column_refs().iter().any(|column| flow.schema.index_of_column(column).is_ok_and(is_window))
}

pub(super) fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

pub(super) fn index_of(expr: &Expr, schema: &DFSchema) -> Result<usize> {
    match unaliased(expr) {
        Expr::Column(column) => Ok(schema.index_of_column(column)?),
        other => Err(Error::internal(format!("{other} is not a column"))),
    }
}

pub(super) fn arrow_schema(schema: &DFSchema) -> SchemaRef {
    Arc::clone(schema.inner())
}

/// The expression as the engine evaluates it.
pub(super) fn physical(expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
    if expr.exists(|node| Ok(subquery_of(node).is_some()))? {
        return Err(Error::not_supported("a subquery in an expression cannot run continuously")
            .with_hint("join the table instead: JOIN .. ON, with a bounded table it is looked up"));
    }
    let context = PhysicalPlanningContext::default();
    Ok(create_physical_expr(unaliased(expr), schema, &ExecutionProps::new(), &context)?)
}
