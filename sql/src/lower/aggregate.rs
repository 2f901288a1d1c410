//! GROUP BY over windows: partial states per pane on the source's branch, windows behind the exchange.
//!
//! Invariant: the operator's rows are put in the order of the plan's aggregate node by one projection.

use std::{sync::Arc, time::Duration};

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::{DataType, Field, FieldRef, Schema, TimeUnit},
};
use datafusion::{
    logical_expr::{
        Aggregate, Distinct, Expr, Operator, execution_props::ExecutionProps,
        physical_planning_context::PhysicalPlanningContext,
    },
    physical_expr::{
        PhysicalExpr,
        aggregate::LoweredAggregateBuilder,
        expressions::{BinaryExpr, CastExpr, Column, Literal},
    },
    scalar::ScalarValue,
};
use headwater_engine::{
    connector::{Carries, ChangelogMode},
    error::{Error, Result},
    graph::{Branch, Exchange, Input, Lateness, Projection, Step},
    operator::OperatorRef,
    operators::{
        always::Always,
        group_aggregate::{GroupAggregate, Retractable, RetractableCall},
        groups::{AggregateCall, Grouping},
        running::RunningAggregate,
        window_aggregate::{WindowAggregate, Windows},
    },
    window::WindowSpec,
};

use super::{
    facts::{Attached, Facts},
    flow::{Flow, Lowering, Origin, arrow_schema, index_of, physical, unaliased, uses_windows},
    wavering,
};

/// What a grouping expression is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GroupColumn {
    /// The key at this index.
    Key(usize),
    Start,
    End,
    Time,
}

/// The windows of an aggregation with the group columns that name them.
struct Windowed {
    windows: Windows,
    time_type: DataType,
    groups: Vec<GroupColumn>,
    keys: Keys,
    allowed: i64,
}

impl Lowering {
    pub(super) fn aggregate(&mut self, aggregate: &Aggregate) -> Result<Flow> {
        let mut flow = self.flow(&aggregate.input)?;
        flow.settled("an aggregation of")?;
        let computes = |expr: &Expr| index_of(expr, &flow.schema).is_err() && uses_windows(&flow, expr);
        if aggregate.aggr_expr.iter().any(|expr| uses_windows(&flow, expr)) || aggregate.group_expr.iter().any(computes)
        {
            flow = self.assign(flow)?;
        }
        match windowed(&flow, aggregate)? {
            Some(found) if flow.facts.changes == ChangelogMode::Append => self.in_windows(aggregate, flow, found),
            _ => {
                let flow = self.assign(flow)?;
                self.without_windows(aggregate, flow)
            }
        }
    }

    /// SELECT DISTINCT is a GROUP BY of all columns.
    pub(super) fn distinct(&mut self, distinct: &Distinct) -> Result<Flow> {
        let Distinct::All(input) = distinct else {
            return Err(Error::not_supported("DISTINCT ON cannot run continuously")
                .with_hint("number the rows: ROW_NUMBER() OVER (PARTITION BY .. ORDER BY ..) = 1"));
        };
        let columns = input.schema().columns().into_iter().map(Expr::Column).collect();
        self.aggregate(&Aggregate::try_new(Arc::clone(input), columns, Vec::new())?)
    }

    fn in_windows(&mut self, aggregate: &Aggregate, flow: Flow, found: Windowed) -> Result<Flow> {
        let Windowed { windows, time_type, groups, keys, allowed } = found;
        let grouping = Grouping { keys, aggregates: calls(&flow, aggregate)? };
        let operator = WindowAggregate::new(windows, grouping, time_type.clone(), allowed)?;
        let input = self.partial(flow, (windows, allowed), &operator)?;
        let output = operator.output_schema();
        let id = self.add_operator(input, operator.finish()?);
        let mut result = Flow::of_node(id, &aggregate.schema, facts(&groups, windows, allowed));
        let keys = groups.iter().filter(|group| matches!(group, GroupColumn::Key(_))).count();
        let column =
            |place: usize| -> Arc<dyn PhysicalExpr> { Arc::new(Column::new(output.field(place).name(), place)) };
        let mut exprs = Vec::with_capacity(aggregate.schema.fields().len());
        for group in &groups {
            exprs.push(match group {
                GroupColumn::Key(index) => column(*index),
                GroupColumn::Start => column(keys),
                GroupColumn::End => column(keys + 1),
                GroupColumn::Time => before(column(keys + 1), &time_type)?,
            });
        }
        exprs.extend((0..aggregate.aggr_expr.len()).map(|index| column(keys + 2 + index)));
        let schema = arrow_schema(&aggregate.schema);
        result.steps.push(Step::Project(Projection { exprs, schema }));
        Ok(result)
    }

    /// One row a key, updated as rows come.
    fn without_windows(&mut self, aggregate: &Aggregate, flow: Flow) -> Result<Flow> {
        let what = if aggregate.aggr_expr.is_empty() { "DISTINCT" } else { "GROUP BY" };
        self.unbounded_state(&format!("{what} without a window"));
        let calls = calls(&flow, aggregate)?;
        let empty = if has_row_of_nothing(aggregate, self.ttl) { Some(of_nothing(&calls)?) } else { None };
        let input_changes = flow.facts.changes;
        let (flow, places, rows) = self.with_columns(flow, &aggregate.group_expr)?;
        let key = |(index, place): (usize, &usize)| {
            let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(rows.field(*place).name(), *place));
            (column, aggregate.schema.field(index).clone())
        };
        let keys: Keys = places.iter().enumerate().map(key).collect();
        let operator: OperatorRef = match input_changes {
            ChangelogMode::Append => {
                Arc::new(RunningAggregate::new(Grouping { keys, aggregates: calls })?.with_ttl(self.ttl))
            }
            ChangelogMode::Upsert | ChangelogMode::Retract => {
                let calls = calls.into_iter().map(|call| retractable(call, &rows)).collect::<Result<Vec<_>>>()?;
                Arc::new(GroupAggregate::new(keys, calls, &rows, true)?.with_ttl(self.ttl))
            }
        };
        let mut facts = Facts::of(operator.output(&[input_changes])?);
        facts.keys = vec![(0..places.len()).collect()];
        facts.spread = facts.keys.clone();
        let exchange = if places.is_empty() { Exchange::Single } else { Exchange::Hash(places) };
        let input = self.input(flow, exchange, rows, None)?;
        let mut id = self.add_operator(input, operator);
        if let Some(empty) = empty {
            let input = Input { from: id, branch: 0, exchange: Exchange::Forward };
            id = self.add_operator(input, Arc::new(Always::new(empty)?));
        }
        let mut flow = Flow::of_node(id, &aggregate.schema, facts);
        let schema = arrow_schema(&aggregate.schema);
        flow.pick((0..schema.fields().len()).map(Some), &schema)?;
        Ok(flow)
    }

    /// The half before the exchange: on the source's branch, or as an operator behind another one.
    fn partial(&mut self, flow: Flow, (windows, allowed): (Windows, i64), operator: &WindowAggregate) -> Result<Input> {
        let keys = operator.exchange_keys();
        let exchange = if keys.is_empty() { Exchange::Single } else { Exchange::Hash(keys) };
        let partial = operator.partial()?;
        let own = flow.pending.as_ref().map(|pending| pending.lateness);
        match (flow.origin.clone(), windows) {
            (Origin::Source(source, input), Windows::Assign { spec, .. }) if self.tells(source)?.is_none() => {
                let lateness = own.unwrap_or(Lateness::Windows { windows: spec, allowed });
                let branch = Branch {
                    insert: self.insert.clone(),
                    input,
                    of: None,
                    steps: flow.steps,
                    holds: matches!(lateness, Lateness::Windows { .. }),
                    lateness: Some(lateness),
                    tells: Vec::new(),
                    carries: Carries::Nothing,
                    schema: partial.schema(),
                    local: vec![partial],
                };
                Ok(self.branch(source, branch, exchange))
            }
            _ => {
                let lateness = match windows {
                    Windows::Assign { spec, .. } => own.or(Some(Lateness::Windows { windows: spec, allowed })),
                    Windows::Attached { .. } => None,
                };
                let (input, _) = self.feed(flow, lateness)?;
                let from = self.add_operator(input, partial);
                Ok(Input { from, branch: 0, exchange })
            }
        }
    }
}

/// Whether an aggregation has a row of no rows; state that is forgotten leaves none.
fn has_row_of_nothing(aggregate: &Aggregate, ttl: Option<Duration>) -> bool {
    aggregate.group_expr.is_empty() && !aggregate.aggr_expr.is_empty() && ttl.is_none()
}

/// The values of aggregates over no rows.
fn of_nothing(calls: &[AggregateCall]) -> Result<RecordBatch> {
    let column = |call: &AggregateCall| -> Result<(FieldRef, ArrayRef)> {
        let field = call.function.field();
        let value = call.function.create_accumulator()?.evaluate()?.cast_to(field.data_type())?;
        Ok((field, value.to_array()?))
    };
    let columns = calls.iter().map(column).collect::<Result<Vec<_>>>()?;
    let (fields, values): (Vec<FieldRef>, Vec<ArrayRef>) = columns.into_iter().unzip();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), values)?)
}

type Keys = Vec<(Arc<dyn PhysicalExpr>, Arc<Field>)>;

/// The windows a query groups by, if it does.
fn windowed(flow: &Flow, aggregate: &Aggregate) -> Result<Option<Windowed>> {
    let (windows, time_type, columns, allowed) = match (&flow.pending, flow.facts.attached) {
        (Some(pending), _) => {
            let windows = Windows::Assign { spec: pending.spec, time: pending.time };
            let time_type = flow.rows_schema()?.field(pending.time).data_type().clone();
            (windows, time_type, pending.columns, pending.allowed)
        }
        (None, Some(Attached { start, end, time })) => {
            let time_type = flow.schema.field(start).data_type().clone();
            (Windows::Attached { start, end }, time_type, [Some(start), Some(end), time], 0)
        }
        (None, None) => return Ok(None),
    };
    let (groups, keys, plain) = groups(flow, aggregate, columns)?;
    if !is_named(&groups, windows) {
        return Ok(None);
    }
    if let Some(pending) = &flow.pending {
        check_session_keys(flow, &pending.session_keys, windows, &plain)?;
    }
    Ok(Some(Windowed { windows, time_type, groups, keys, allowed }))
}

type Groups = (Vec<GroupColumn>, Keys, Vec<Option<usize>>);

/// What each group expression is, the keys, and for each key the plan's column it is.
fn groups(flow: &Flow, aggregate: &Aggregate, [start, end, time]: [Option<usize>; 3]) -> Result<Groups> {
    let rows = flow.rows_schema()?;
    let (mut groups, mut keys, mut plain): Groups = (Vec::new(), Vec::new(), Vec::new());
    for (index, expr) in aggregate.group_expr.iter().enumerate() {
        let column = index_of(unaliased(expr), &flow.schema).ok();
        let is = |window: Option<usize>| column.is_some() && column == window;
        groups.push(match () {
            () if is(start) => GroupColumn::Start,
            () if is(end) => GroupColumn::End,
            () if is(time) => GroupColumn::Time,
            () => {
                keys.push((physical(expr, &rows)?, aggregate.schema.field(index).clone()));
                plain.push(column);
                GroupColumn::Key(keys.len() - 1)
            }
        });
    }
    Ok((groups, keys, plain))
}

/// Whether group columns name a window: start or end do alone where all windows have one length; of windows that share
/// a start, only the end does.
fn is_named(groups: &[GroupColumn], windows: Windows) -> bool {
    let start = groups.contains(&GroupColumn::Start);
    let end = groups.contains(&GroupColumn::End) || groups.contains(&GroupColumn::Time);
    match windows {
        Windows::Assign { spec: WindowSpec::Tumble { .. } | WindowSpec::Hop { .. }, .. } => start || end,
        Windows::Assign { spec: WindowSpec::Cumulate { .. }, .. } => end,
        Windows::Assign { spec: WindowSpec::Session { .. }, .. } => start && end,
        Windows::Attached { .. } => start && end,
    }
}

/// A session is one of its PARTITION BY keys, in batch as in a job: the groups within it must be the same.
fn check_session_keys(flow: &Flow, session: &[Option<usize>], windows: Windows, keys: &[Option<usize>]) -> Result<()> {
    if !matches!(windows, Windows::Assign { spec: WindowSpec::Session { .. }, .. }) {
        return Ok(());
    }
    let same = session.iter().all(|key| key.is_some() && keys.contains(key))
        && keys.iter().all(|key| key.is_some() && session.contains(key));
    if same {
        return Ok(());
    }
    let names = |columns: &[Option<usize>]| {
        let name = |column: &Option<usize>| match column {
            Some(column) => flow.schema.field(*column).name().split('#').next().unwrap_or_default().to_owned(),
            None => "an expression".to_owned(),
        };
        if columns.is_empty() { "nothing".to_owned() } else { columns.iter().map(name).collect::<Vec<_>>().join(", ") }
    };
    Err(Error::not_supported(format!("sessions by {} that are grouped by {}", names(session), names(keys)))
        .with_hint("give SESSION(TABLE t PARTITION BY ..) the same columns as GROUP BY beside its window"))
}

/// What is known of the rows of windows.
fn facts(groups: &[GroupColumn], windows: Windows, allowed: i64) -> Facts {
    let mut facts = Facts::of(if allowed > 0 { ChangelogMode::Upsert } else { ChangelogMode::Append });
    let place = |wanted| groups.iter().position(|group| *group == wanted);
    let (start, end, time) = (place(GroupColumn::Start), place(GroupColumn::End), place(GroupColumn::Time));
    facts.attached = start.zip(end).map(|(start, end)| Attached { start, end, time });
    facts.times = [end, time].into_iter().flatten().collect();
    let is_key = |index: &usize| matches!(groups[*index], GroupColumn::Key(_));
    let keys: Vec<usize> = (0..groups.len()).filter(is_key).collect();
    let named = [start, end, time].into_iter().flatten().collect::<Vec<_>>();
    for chosen in 1..1_usize << named.len() {
        let columns: Vec<usize> =
            named.iter().enumerate().filter(|(bit, _)| chosen >> bit & 1 == 1).map(|(_, column)| *column).collect();
        let of: Vec<GroupColumn> = columns.iter().map(|column| groups[*column]).collect();
        if is_named(&of, windows) || of.contains(&GroupColumn::End) || of.contains(&GroupColumn::Time) {
            facts.keys.push([keys.as_slice(), &columns].concat());
        }
    }
    facts.spread = vec![keys];
    facts
}

/// `window_time` lies this many microseconds before the window's end.
const WINDOW_TIME_BEFORE_END: i64 = 1000;

/// `window_time` from `window_end`.
fn before(end: Arc<dyn PhysicalExpr>, time_type: &DataType) -> Result<Arc<dyn PhysicalExpr>> {
    let DataType::Timestamp(_, zone) = time_type else {
        return Err(Error::internal("window columns must be timestamps"));
    };
    let exact = DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
    let back = Literal::new(ScalarValue::DurationMicrosecond(Some(WINDOW_TIME_BEFORE_END)));
    let end = Arc::new(CastExpr::new(end, exact, None));
    let time = Arc::new(BinaryExpr::new(end, Operator::Minus, Arc::new(back)));
    Ok(Arc::new(CastExpr::new(time, time_type.clone(), None)))
}

/// A call as one that can take rows back, its argument in the type values are kept in.
fn retractable(call: AggregateCall, rows: &Schema) -> Result<RetractableCall> {
    let function = &call.function;
    let aggregate = Retractable::by_name(function.fun().name(), function.is_distinct())?;
    let field = function.field();
    let is_decimal = matches!(field.data_type(), DataType::Decimal128(..));
    let kept = match aggregate {
        Retractable::Sum => Some(field.data_type().clone()),
        Retractable::Avg if is_decimal => match field.data_type() {
            DataType::Decimal128(_, scale) => Some(DataType::Decimal128(38, *scale)),
            other => Some(other.clone()),
        },
        Retractable::Avg => Some(DataType::Float64),
        Retractable::Count
        | Retractable::CountDistinct
        | Retractable::Min
        | Retractable::Max
        | Retractable::First
        | Retractable::Last => None,
    };
    let order = function.order_bys().iter().map(|sort| (Arc::clone(&sort.expr), sort.options)).collect();
    let ignores_nulls = function.ignore_nulls();
    let argument = match (function.expressions().into_iter().next(), kept) {
        (Some(argument), Some(kept)) if argument.data_type(rows)? != kept => {
            Some(Arc::new(CastExpr::new(argument, kept, None)) as Arc<dyn PhysicalExpr>)
        }
        (argument, _) => argument,
    };
    Ok(RetractableCall { aggregate, argument, filter: call.filter, order, ignores_nulls, field })
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
            let arguments = lowered.aggregate.all_expressions();
            let all = arguments.args.iter().chain(&arguments.order_by_exprs).chain(&lowered.filter);
            wavering::check("aggregate of", all, &flow.facts)?;
            Ok(AggregateCall { function: lowered.aggregate, filter: lowered.filter })
        })
        .collect()
}
