//! A query's plan as a flow of rows: steps on a source's branch first, operators after the first stateful one.
//!
//! Invariant: the schema of a flow is that of the plan node it stands for, column by column.

use std::{any::Any, sync::Arc};

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::{
    catalog::{TableProvider, default_table_source::source_as_provider},
    common::{DFSchema, DFSchemaRef},
    logical_expr::{
        Expr, LogicalPlan, execution_props::ExecutionProps, physical_planning_context::PhysicalPlanningContext,
    },
    physical_expr::{PhysicalExpr, create_physical_expr, expressions::Column},
};
use headwater_engine::{
    error::{Error, Result},
    graph::{Branch, BranchInput, Exchange, Input, Lateness, NodeId, NodeKind, OperatorNode, Projection, Step},
    operator::{OperatorFactory, OperatorRef},
    operators::{assign_windows::AssignWindows, stateless::Steps, union::Union},
    window::WindowSpec,
};

use super::table::{StreamTable, stream_table};
use crate::windows::WindowNode;

/// Name of the event time where a plan no longer has it.
const HIDDEN_TIME: &str = "headwater_time";

/// Rows on their way.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    pub(super) origin: Origin,
    pub(super) steps: Vec<Step>,
    /// Columns as the plan has them.
    pub(super) schema: DFSchemaRef,
    /// Windows that rows are to be assigned to; their columns are in `schema` but not yet in the rows.
    pub(super) pending: Option<Pending>,
    /// Where `window_start` and `window_end` of an aggregation below stand.
    pub(super) attached: Option<(usize, usize)>,
}

/// Where rows come from.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// A table, by its index among the job's sources.
    Source(usize),
    /// An operator.
    Node(NodeId),
}

/// A window function whose aggregation is still to come.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) spec: WindowSpec,
    /// Index of the event time column in the rows.
    pub(super) time: usize,
    /// Allowed lateness in microseconds.
    pub(super) allowed: i64,
    /// Where `window_start`, `window_end` and `window_time` are in the plan's columns, if they are still there.
    pub(super) columns: [Option<usize>; 3],
    /// The event time, when it is in the rows (as the last column) but no longer in the plan's columns.
    hidden: Option<FieldRef>,
}

/// A table that is read, with what its consumers get.
#[derive(Debug)]
pub(super) struct SourceTable {
    pub(super) provider: Arc<dyn TableProvider>,
    /// Declared columns that some INSERT uses, ascending.
    pub(super) kept: Vec<usize>,
    pub(super) branches: Vec<Branch>,
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
}

impl Lowering {
    pub(super) fn add(&mut self, what: &str, kind: NodeKind) -> NodeId {
        let id = NodeId(self.sources.len() + self.nodes.len());
        let name = format!("{}/{what}-{}", self.insert, self.nodes.len());
        self.nodes.push((name, kind));
        id
    }

    /// The flow of a plan.
    pub(super) fn flow(&mut self, plan: &LogicalPlan) -> Result<Flow> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::Projection(projection) => {
                let input = self.flow(&projection.input)?;
                self.project(input, &projection.expr, &projection.schema)
            }
            LogicalPlan::Filter(filter) => {
                let mut input = self.flow(&filter.input)?;
                if uses_windows(&input, &filter.predicate) {
                    input = self.assign(input)?;
                }
                let predicate = physical(&filter.predicate, input.rows_schema()?.as_ref())?;
                input.steps.push(Step::Filter(predicate));
                Ok(input)
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let input = self.flow(&alias.input)?;
                Ok(Flow { schema: Arc::clone(&alias.schema), ..input })
            }
            LogicalPlan::Extension(extension) => match extension.node.as_any().downcast_ref::<WindowNode>() {
                Some(node) => self.window(node, plan.schema()),
                None => Err(unsupported(&format!("the plan node {}", extension.node.name()))),
            },
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Union(union) => {
                let inputs = union.inputs.iter().map(|input| self.union_input(input)).collect::<Result<Vec<_>>>()?;
                let schema = arrow_schema(&union.schema);
                let operator: OperatorRef = Arc::new(Union::new(schema));
                let id = self.add("union", NodeKind::Operator(OperatorNode { inputs, operator }));
                Ok(Flow::of_node(id, &union.schema))
            }
            other => Err(refused(other)),
        }
    }

    fn scan(&mut self, scan: &datafusion::logical_expr::TableScan) -> Result<Flow> {
        let provider = source_as_provider(&scan.source)?;
        let Some(table) = stream_table(&provider) else {
            return Err(Error::not_supported(format!(
                "a job over the table \"{}\", which has no connector",
                scan.table_name
            ))
            .with_hint("declare it with CREATE TABLE .. WITH ('connector' = ..)"));
        };
        let index = self
            .sources
            .iter()
            .position(|source| source.table().is_ok_and(|known| known.name == table.name))
            .ok_or_else(|| Error::internal(format!("table \"{}\" was not collected", table.name)))?;
        let source = &self.sources[index];
        let place = |column: usize| {
            let kept = source.kept.iter().position(|kept| *kept == column);
            kept.ok_or_else(|| Error::internal(format!("column {column} of \"{}\" is not read", table.name)))
        };
        let all: Vec<usize> = (0..table.schema.fields().len()).collect();
        let wanted = scan.projection.as_ref().unwrap_or(&all);
        let exprs = wanted.iter().map(|column| {
            let name = table.schema.field(*column).name();
            Ok(Arc::new(Column::new(name, place(*column)?)) as Arc<dyn PhysicalExpr>)
        });
        let exprs = exprs.collect::<Result<Vec<_>>>()?;
        let schema = arrow_schema(&scan.projected_schema);
        let steps = vec![Step::Project(Projection { exprs, schema })];
        let schema = Arc::clone(&scan.projected_schema);
        Ok(Flow { origin: Origin::Source(index), steps, schema, pending: None, attached: None })
    }

    fn window(&mut self, node: &WindowNode, schema: &DFSchemaRef) -> Result<Flow> {
        let mut input = self.flow(&node.input)?;
        if input.pending.is_some() {
            input = self.assign(input)?;
        }
        let Origin::Source(source) = input.origin else {
            return Err(Error::not_supported("a window function over the result of an aggregation or join in a job")
                .with_hint("aggregate by its window_start and window_end instead"));
        };
        let time = index_of(&node.time, &input.schema)?;
        self.check_event_time(source, &input, time)?;
        let width = input.schema.fields().len();
        let columns = [Some(width), Some(width + 1), Some(width + 2)];
        let lateness = self.sources[source].table()?.allowed_lateness;
        let allowed = i64::try_from(lateness.as_micros()).unwrap_or(i64::MAX);
        let pending = Some(Pending { spec: node.spec, time, allowed, columns, hidden: None });
        Ok(Flow { schema: Arc::clone(schema), pending, ..input })
    }

    /// Windows run on event time: the column must be the table's own, unchanged.
    fn check_event_time(&self, source: usize, flow: &Flow, time: usize) -> Result<()> {
        let source = &self.sources[source];
        let table = source.table()?;
        let name = flow.schema.field(time).name();
        let Some(event_time) = &table.time else {
            return Err(Error::user("NOT_SUPPORTED", format!("table \"{}\" has no watermark", table.name))
                .with_hint("declare WATERMARK FOR its time column AS that column - INTERVAL '5' SECOND"));
        };
        let mut column = time;
        for step in flow.steps.iter().rev() {
            if let Step::Project(projection) = step {
                let expr = &projection.exprs[column];
                column = match (expr.as_ref() as &dyn Any).downcast_ref::<Column>() {
                    Some(from) => from.index(),
                    None => usize::MAX,
                };
                if column == usize::MAX {
                    break;
                }
            }
        }
        if source.kept.get(column) == Some(&event_time.column) {
            return Ok(());
        }
        let wanted = table.schema.field(event_time.column).name();
        Err(Error::not_supported(format!(
            "windows over \"{}\", which is not the event time \"{wanted}\" of table \"{}\"",
            name.split('#').next().unwrap_or_default(),
            table.name
        ))
        .with_hint(format!("use DESCRIPTOR({wanted}), or declare the WATERMARK for the other column")))
    }

    fn project(&mut self, input: Flow, exprs: &[Expr], schema: &DFSchemaRef) -> Result<Flow> {
        let Some(pending) = input.pending.clone() else { return projected(input, exprs, schema) };
        let carried = |expr: &Expr| {
            let index = index_of(expr, &input.schema).ok()?;
            pending.columns.iter().position(|column| *column == Some(index))
        };
        // Anything but window columns carried along as they are needs their values.
        if exprs.iter().any(|expr| carried(expr).is_none() && uses_windows(&input, expr)) {
            let assigned = self.assign(input)?;
            return projected(assigned, exprs, schema);
        }
        let rows = input.rows_schema()?;
        let (mut physicals, mut fields, mut columns) = (Vec::new(), Vec::new(), [None; 3]);
        for (index, expr) in exprs.iter().enumerate() {
            match carried(expr) {
                Some(which) => columns[which] = Some(index),
                None => {
                    physicals.push(physical(expr, &rows)?);
                    fields.push(Arc::clone(&schema.fields()[index]));
                }
            }
        }
        let is_time = |expr: &Arc<dyn PhysicalExpr>| {
            (expr.as_ref() as &dyn Any).downcast_ref::<Column>().is_some_and(|column| column.index() == pending.time)
        };
        let (time, hidden) = match physicals.iter().position(is_time) {
            Some(time) => (time, None),
            None => {
                let field = Arc::new(rows.field(pending.time).as_ref().clone().with_name(HIDDEN_TIME));
                physicals.push(Arc::new(Column::new(rows.field(pending.time).name(), pending.time)));
                fields.push(Arc::clone(&field));
                (physicals.len() - 1, Some(field))
            }
        };
        let mut flow = input;
        flow.steps.push(Step::Project(Projection { exprs: physicals, schema: Arc::new(Schema::new(fields)) }));
        flow.schema = Arc::clone(schema);
        flow.pending = Some(Pending { time, columns, hidden, ..pending });
        Ok(flow)
    }

    /// Makes pending window columns real, by an operator that gives each row once a window.
    pub(super) fn assign(&mut self, flow: Flow) -> Result<Flow> {
        let Some(pending) = flow.pending.clone() else { return Ok(flow) };
        let schema = Arc::clone(&flow.schema);
        let rows = arrow_schema(flow.rows_schema()?.as_ref());
        let operator = AssignWindows::new(pending.spec, pending.time, &rows)?;
        let assigned = operator.schema();
        let lateness = Lateness::Windows { windows: pending.spec, allowed: pending.allowed };
        let width = rows.fields().len();
        let from = self.input(Flow { pending: None, ..flow }, Exchange::Forward, rows, Some(lateness))?;
        let node = OperatorNode { inputs: vec![from], operator: Arc::new(operator) };
        let id = self.add("assign-windows", NodeKind::Operator(node));
        let mut next = 0;
        let exprs = (0..schema.fields().len()).map(|index| {
            let window = pending.columns.iter().position(|column| *column == Some(index));
            let place = window.map_or(next, |which| width + which);
            next += usize::from(window.is_none());
            Arc::new(Column::new(assigned.field(place).name(), place)) as Arc<dyn PhysicalExpr>
        });
        let step = Projection { exprs: exprs.collect(), schema: arrow_schema(&schema) };
        let attached = pending.columns[0].zip(pending.columns[1]);
        Ok(Flow { attached, steps: vec![Step::Project(step)], ..Flow::of_node(id, &schema) })
    }

    fn union_input(&mut self, plan: &LogicalPlan) -> Result<Input> {
        let flow = self.flow(plan)?;
        let flow = self.assign(flow)?;
        let schema = arrow_schema(&flow.schema);
        self.input(flow, Exchange::Forward, schema, None)
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
            Origin::Source(source) => {
                let branch = Branch {
                    insert: self.insert.clone(),
                    input: BranchInput::Rows,
                    steps: flow.steps,
                    lateness,
                    holds: false,
                    local: Vec::new(),
                    schema,
                };
                Ok(self.branch(source, branch, exchange))
            }
            Origin::Node(from) if flow.steps.is_empty() => Ok(Input { from, branch: 0, exchange }),
            Origin::Node(from) => {
                let operator: OperatorRef = Arc::new(Steps::new(flow.steps, schema));
                let inputs = vec![Input { from, branch: 0, exchange: Exchange::Forward }];
                let from = self.add("steps", NodeKind::Operator(OperatorNode { inputs, operator }));
                Ok(Input { from, branch: 0, exchange })
            }
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

    pub(super) fn of_node(id: NodeId, schema: &DFSchemaRef) -> Self {
        Self { origin: Origin::Node(id), steps: Vec::new(), schema: Arc::clone(schema), pending: None, attached: None }
    }
}

fn projected(mut input: Flow, exprs: &[Expr], schema: &DFSchemaRef) -> Result<Flow> {
    let physicals = exprs.iter().map(|expr| physical(expr, &input.schema)).collect::<Result<Vec<_>>>()?;
    let moved = |column: usize| {
        let index = |expr: &Expr| index_of(unaliased(expr), &input.schema).ok();
        exprs.iter().position(|expr| index(expr) == Some(column))
    };
    input.attached = input.attached.and_then(|(start, end)| Some((moved(start)?, moved(end)?)));
    let fields = arrow_schema(schema).fields()[..exprs.len()].to_vec();
    let step = Projection { exprs: physicals, schema: Arc::new(Schema::new(fields)) };
    input.steps.push(Step::Project(step));
    input.schema = Arc::clone(schema);
    Ok(input)
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
    let context = PhysicalPlanningContext::default();
    Ok(create_physical_expr(unaliased(expr), schema, &ExecutionProps::new(), &context)?)
}

fn unsupported(what: &str) -> Error {
    Error::not_supported(format!("{what} cannot run continuously"))
}

fn refused(plan: &LogicalPlan) -> Error {
    match plan {
        LogicalPlan::Sort(_) => unsupported("ORDER BY over an unbounded table")
            .with_hint("leave it out: a sink has no order; sort when you read it"),
        LogicalPlan::Limit(_) => unsupported("LIMIT over an unbounded table").with_hint("leave it out"),
        LogicalPlan::Join(_) => {
            unsupported("a join of streams").with_hint("write both sides to tables and join those in batch")
        }
        LogicalPlan::Window(_) => {
            unsupported("a window function with OVER").with_hint("aggregate over TABLE(TUMBLE(..)) instead")
        }
        LogicalPlan::Distinct(_) => {
            unsupported("SELECT DISTINCT over an unbounded table").with_hint("GROUP BY the columns and a window")
        }
        other => unsupported(&format!("the plan node {}", other.display())),
    }
}
