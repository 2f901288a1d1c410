//! GROUP BY over windows: partial states per pane on the source's branch, windows behind the exchange.
//!
//! Invariant: the operator's rows are put in the order of the plan's aggregate node by one projection.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::{
    logical_expr::{
        Aggregate, Expr, execution_props::ExecutionProps, physical_planning_context::PhysicalPlanningContext,
    },
    physical_expr::{PhysicalExpr, aggregate::LoweredAggregateBuilder, expressions::Column},
};
use headwater_engine::{
    error::{Error, Result},
    graph::{Branch, BranchInput, Exchange, Input, Lateness, NodeKind, OperatorNode, Projection, Step},
    operators::{
        groups::{AggregateCall, Grouping},
        window_aggregate::{WindowAggregate, Windows},
    },
    window::WindowSpec,
};

use super::flow::{Flow, Lowering, Origin, arrow_schema, index_of, physical, unaliased, uses_windows};

/// What a grouping expression is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GroupColumn {
    /// The key at this index.
    Key(usize),
    Start,
    End,
}

impl Lowering {
    pub(super) fn aggregate(&mut self, aggregate: &Aggregate) -> Result<Flow> {
        if let [Expr::GroupingSet(_)] = aggregate.group_expr.as_slice() {
            return Err(Error::not_supported("GROUPING SETS in a job").with_hint("write one INSERT for each set"));
        }
        let flow = self.flow(&aggregate.input)?;
        let (windows, time_type, start) = windows_of(&flow)?;
        let (groups, keys) = groups(&flow, aggregate, start)?;
        check_windows(&groups, windows)?;
        if aggregate.aggr_expr.iter().any(|expr| uses_windows(&flow, expr)) {
            return Err(Error::not_supported("an aggregate over window_start or window_end in a job")
                .with_hint("they are the same for all rows of a group: use them outside of the aggregate"));
        }
        let grouping = Grouping { keys, aggregates: calls(&flow, aggregate)? };
        let allowed = flow.pending.as_ref().map_or(0, |pending| pending.allowed);
        let operator = WindowAggregate::new(windows, grouping, time_type, allowed)?;
        let input = self.partial(flow, (windows, allowed), &operator)?;
        let output = operator.output_schema();
        let node = OperatorNode { inputs: vec![input], operator: operator.finish()? };
        let id = self.add("window-aggregate", NodeKind::Operator(node));
        let mut result = Flow::of_node(id, &aggregate.schema);
        let keys = groups.iter().filter(|group| matches!(group, GroupColumn::Key(_))).count();
        let mut places: Vec<usize> = groups
            .iter()
            .map(|group| match group {
                GroupColumn::Key(index) => *index,
                GroupColumn::Start => keys,
                GroupColumn::End => keys + 1,
            })
            .collect();
        places.extend((0..aggregate.aggr_expr.len()).map(|index| keys + 2 + index));
        let exprs = places
            .iter()
            .map(|place| Arc::new(Column::new(output.field(*place).name(), *place)) as Arc<dyn PhysicalExpr>)
            .collect();
        let schema = arrow_schema(&aggregate.schema);
        result.steps.push(Step::Project(Projection { exprs, schema }));
        let position = |wanted| groups.iter().position(|group| *group == wanted);
        result.attached = position(GroupColumn::Start).zip(position(GroupColumn::End));
        Ok(result)
    }

    /// The half before the exchange: on the source's branch, or as an operator behind another one.
    fn partial(&mut self, flow: Flow, (windows, allowed): (Windows, i64), operator: &WindowAggregate) -> Result<Input> {
        let keys = operator.exchange_keys();
        let exchange = if keys.is_empty() { Exchange::Single } else { Exchange::Hash(keys) };
        let partial = operator.partial()?;
        match (flow.origin.clone(), windows) {
            (Origin::Source(source), Windows::Assign { spec, .. }) => {
                let branch = Branch {
                    insert: self.insert.clone(),
                    input: BranchInput::Rows,
                    steps: flow.steps,
                    lateness: Some(Lateness::Windows { windows: spec, allowed }),
                    holds: true,
                    schema: partial.schema(),
                    local: vec![partial],
                };
                Ok(self.branch(source, branch, exchange))
            }
            _ => {
                let schema = arrow_schema(&flow.schema);
                let input = self.input(flow, Exchange::Forward, schema, None)?;
                let node = OperatorNode { inputs: vec![input], operator: partial };
                let from = self.add("partial-aggregate", NodeKind::Operator(node));
                Ok(Input { from, branch: 0, exchange })
            }
        }
    }
}

/// Columns of the plan that name a row's window.
type WindowColumns = (Option<usize>, Option<usize>);

/// The windows rows are grouped by, the type of their columns, and which columns of the plan these are.
fn windows_of(flow: &Flow) -> Result<(Windows, DataType, WindowColumns)> {
    match (&flow.pending, flow.attached) {
        (Some(pending), _) => {
            let windows = Windows::Assign { spec: pending.spec, time: pending.time };
            let time_type = flow.rows_schema()?.field(pending.time).data_type().clone();
            Ok((windows, time_type, (pending.columns[0], pending.columns[1])))
        }
        (None, Some((start, end))) => {
            let time_type = flow.schema.field(start).data_type().clone();
            Ok((Windows::Attached { start, end }, time_type, (Some(start), Some(end))))
        }
        (None, None) => Err(Error::not_supported("GROUP BY over an unbounded table without a window")
            .with_hint("group by window_start and window_end of TABLE(TUMBLE(..)), HOP, CUMULATE or SESSION")),
    }
}

type Keys = Vec<(Arc<dyn PhysicalExpr>, Arc<Field>)>;

fn groups(flow: &Flow, aggregate: &Aggregate, (start, end): WindowColumns) -> Result<(Vec<GroupColumn>, Keys)> {
    let rows = flow.rows_schema()?;
    let (mut groups, mut keys): (Vec<GroupColumn>, Keys) = (Vec::new(), Vec::new());
    for (index, expr) in aggregate.group_expr.iter().enumerate() {
        let column = index_of(unaliased(expr), &flow.schema).ok();
        if column.is_some() && column == start {
            groups.push(GroupColumn::Start);
        } else if column.is_some() && column == end {
            groups.push(GroupColumn::End);
        } else if uses_windows(flow, expr) {
            return Err(Error::not_supported("GROUP BY an expression over window columns in a job")
                .with_hint("group by window_start and window_end themselves"));
        } else {
            groups.push(GroupColumn::Key(keys.len()));
            let field = aggregate.schema.field(index).clone();
            keys.push((physical(expr, &rows)?, field));
        }
    }
    Ok((groups, keys))
}

/// Start or end name a window alone where all windows have one length; of windows that share a start, only the end does.
fn check_windows(groups: &[GroupColumn], windows: Windows) -> Result<()> {
    let (start, end) = (groups.contains(&GroupColumn::Start), groups.contains(&GroupColumn::End));
    let enough = match windows {
        Windows::Assign { spec: WindowSpec::Cumulate { .. } | WindowSpec::Session { .. }, .. } => start && end,
        Windows::Assign { .. } => start || end,
        Windows::Attached { .. } => start && end,
    };
    if enough {
        return Ok(());
    }
    Err(Error::not_supported("GROUP BY over an unbounded table without its window")
        .with_hint("add window_start and window_end to GROUP BY"))
}

fn calls(flow: &Flow, aggregate: &Aggregate) -> Result<Vec<AggregateCall>> {
    let rows = flow.rows_schema()?;
    let input: Schema = arrow_schema(&rows).as_ref().clone();
    let (props, context) = (ExecutionProps::new(), PhysicalPlanningContext::default());
    aggregate
        .aggr_expr
        .iter()
        .enumerate()
        .map(|(index, expr)| {
            let name = aggregate.schema.field(aggregate.group_expr.len() + index).name().clone();
            let lowered = LoweredAggregateBuilder::new(unaliased(expr), &rows, &input, &props, &context)
                .with_name(name)
                .build()?;
            Ok(AggregateCall { function: lowered.aggregate, filter: lowered.filter })
        })
        .collect()
}
