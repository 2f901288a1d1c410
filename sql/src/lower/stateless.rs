//! The parts of a query that keep nothing: scans, projections, windows that are only assigned, UNION ALL, UNNEST.
//!
//! Invariant: which source branches feed a flow is known as long as nothing between has state, for lateness is theirs.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::{
    catalog::default_table_source::source_as_provider,
    common::DFSchemaRef,
    logical_expr::{Expr, TableScan, Union as UnionPlan, Unnest as UnnestPlan},
    physical_expr::{PhysicalExpr, expressions::Column},
};
use headwater_engine::{
    connector::ChangelogMode,
    error::{Error, Result},
    graph::{BranchInput, Exchange, Lateness, NodeKind, OperatorNode, Projection, Step},
    operator::OperatorRef,
    operators::{
        assign_windows::AssignWindows,
        in_order::InOrder,
        union::Union,
        unnest::Unnest,
        upsert::{ByKey, Keeps},
    },
    window::WindowSpec,
};

use super::{
    aside::{read_table, side_schema},
    facts::{Attached, Facts},
    flow::{Flow, Lowering, Origin, Pending, arrow_schema, index_of, physical, uses_windows},
    sources,
    table::{ColumnSource, StreamTable},
    wavering::Wavering,
};
use crate::windows::WindowNode;

/// Name of the event time where a plan no longer has it.
const HIDDEN_TIME: &str = "headwater_time";

impl Lowering {
    pub(super) fn scan(&mut self, scan: &TableScan) -> Result<Flow> {
        let provider = source_as_provider(&scan.source)?;
        let Some((table, which)) = read_table(&provider) else {
            return Err(Error::not_supported(format!(
                "a job over the table \"{}\", which has no connector",
                scan.table_name
            ))
            .with_hint("join it with a stream, or declare it with CREATE TABLE .. WITH ('connector' = ..)"));
        };
        let index = self
            .sources
            .iter()
            .position(|source| source.table().is_ok_and(|known| known.name == table.name))
            .ok_or_else(|| Error::internal(format!("table \"{}\" was not collected", table.name)))?;
        let all: Vec<usize> = (0..table.schema.fields().len()).collect();
        let wanted = scan.projection.as_ref().unwrap_or(&all);
        if which != BranchInput::Rows {
            return self.side_rows(index, which, table, scan);
        }
        if self.sources[index].changes == ChangelogMode::Upsert {
            return self.normalized(index, table, wanted, &scan.projected_schema);
        }
        let projection = self.declared(index, table, wanted)?;
        let mut facts = Facts::of(self.sources[index].changes);
        let place = |column: usize| wanted.iter().position(|wanted| *wanted == column);
        facts.times = table.time.iter().filter_map(|time| place(time.column)).collect();
        facts.clocks = table.time.iter().flat_map(|time| &time.clocks).filter_map(|column| place(*column)).collect();
        let key: Option<Vec<usize>> = table.key_columns()?.into_iter().map(place).collect();
        facts.keys = key.into_iter().filter(|key| !key.is_empty()).collect();
        if facts.changes != ChangelogMode::Append {
            let of = |(place, column): (usize, &usize)| {
                let is_clock = facts.clocks.contains(&place);
                let is_wavering = matches!(&table.columns[*column], ColumnSource::Computed(expr) if expr.is_volatile());
                let shown = table.schema.field(*column).name().clone();
                (is_clock || is_wavering).then_some(Wavering { column: place, shown })
            };
            facts.wavering = wanted.iter().enumerate().filter_map(of).collect();
        }
        let schema = Arc::clone(&scan.projected_schema);
        let origin = Origin::Source(index, BranchInput::Rows);
        Ok(Flow { origin, steps: vec![Step::Project(projection)], schema, pending: None, facts })
    }

    /// `"t$rejected"` or `"t$late"`: the columns wanted of what the source keeps aside. Such rows have no event time.
    fn side_rows(&self, index: usize, which: BranchInput, table: &StreamTable, scan: &TableScan) -> Result<Flow> {
        let there = side_schema(table, which);
        let all: Vec<usize> = (0..there.fields().len()).collect();
        let wanted = scan.projection.as_ref().unwrap_or(&all);
        let column = |column: &usize| Arc::new(Column::new(there.field(*column).name(), *column)) as _;
        let exprs = wanted.iter().map(column).collect();
        let step = Step::Project(Projection { exprs, schema: Arc::new(there.project(wanted)?) });
        let schema = Arc::clone(&scan.projected_schema);
        let origin = Origin::Source(index, which);
        Ok(Flow { origin, steps: vec![step], schema, pending: None, facts: Facts::append() })
    }

    /// The declared columns of a table in terms of those its source reads.
    fn declared(&self, index: usize, table: &StreamTable, wanted: &[usize]) -> Result<Projection> {
        let source = &self.sources[index];
        let exprs = wanted.iter().map(|column| {
            let place = source.kept.iter().position(|kept| kept == column);
            let place =
                place.ok_or_else(|| Error::internal(format!("column {column} of \"{}\" is not read", table.name)))?;
            Ok(Arc::new(Column::new(table.schema.field(*column).name(), place)) as Arc<dyn PhysicalExpr>)
        });
        let schema = Arc::new(table.schema.project(wanted)?);
        Ok(Projection { exprs: exprs.collect::<Result<Vec<_>>>()?, schema })
    }

    /// A table whose rows replace each other by key, with the rows they replace.
    fn normalized(
        &mut self,
        index: usize,
        table: &StreamTable,
        wanted: &[usize],
        schema: &DFSchemaRef,
    ) -> Result<Flow> {
        let key = table.key_columns()?;
        if key.is_empty() {
            return Err(Error::user("MISSING_TABLE_PROPERTY", format!("table \"{}\" has no PRIMARY KEY", table.name))
                .with_hint("its rows replace each other by key: declare PRIMARY KEY (..) NOT ENFORCED"));
        }
        let mut read = wanted.to_vec();
        read.extend(key.iter().filter(|column| !wanted.contains(column)));
        let place = |column: &usize| read.iter().position(|read| read == column);
        let keys: Vec<usize> = key.iter().filter_map(place).collect();
        let mut projection = self.declared(index, table, &read)?;
        let rows = Arc::clone(&projection.schema);
        let order = sources::change_order(table)?;
        if let Some(order) = order {
            let mut fields = rows.fields().to_vec();
            fields.push(Arc::new(Field::new(order, DataType::Utf8, true)));
            projection.exprs.push(Arc::new(Column::new(order, self.sources[index].kept.len())));
            projection.schema = Arc::new(Schema::new(fields));
        }
        let ordered_rows = Arc::clone(&projection.schema);
        let facts = Facts::of(ChangelogMode::Upsert);
        let steps = vec![Step::Project(projection)];
        let origin = Origin::Source(index, BranchInput::Rows);
        let flow = Flow { origin, steps, schema: Arc::clone(schema), pending: None, facts };
        let read_rows = if order.is_some() { ordered_rows } else { Arc::clone(&rows) };
        let mut input = self.input(flow, Exchange::Hash(keys.clone()), Arc::clone(&read_rows), None)?;
        if order.is_some() {
            let in_order = InOrder::new(keys.clone(), rows.fields().len(), read_rows)?;
            let id = self.add_operator(input, Arc::new(in_order));
            let flow = Flow::of_node(id, schema, Facts::of(ChangelogMode::Upsert));
            input = self.input(flow, Exchange::Forward, Arc::clone(&rows), None)?;
        }
        self.unbounded_state(&format!("the last row of each key of \"{}\"", table.name));
        let id = self.add_operator(input, Arc::new(ByKey::new(Keeps::Last, keys.clone(), rows).with_ttl(self.ttl)));
        let mut facts = Facts::of(ChangelogMode::Retract);
        if keys.iter().all(|key| *key < wanted.len()) {
            facts.keys = vec![keys.clone()];
            facts.spread = vec![keys];
        }
        let mut flow = Flow::of_node(id, schema, facts);
        flow.pick((0..wanted.len()).map(Some), &arrow_schema(schema))?;
        Ok(flow)
    }

    pub(super) fn window(&mut self, node: &WindowNode, schema: &DFSchemaRef) -> Result<Flow> {
        let mut input = self.flow(&node.input)?;
        input.settled("windows over")?;
        let time = index_of(&node.time, &input.schema)?;
        let session_keys =
            node.keys.iter().map(|key| Ok(Some(index_of(key, &input.schema)?))).collect::<Result<_>>()?;
        input = self.assign(input)?;
        if input.facts.changes != ChangelogMode::Append {
            return Err(Error::not_supported("windows over rows that are updated later")
                .with_hint("aggregate in the window first, or group without a window"));
        }
        self.check_event_time(&input, time)?;
        let width = input.schema.fields().len();
        let columns = [Some(width), Some(width + 1), Some(width + 2)];
        let sources = input.facts.feeds.iter().map(|(source, _)| *source);
        let sources: Vec<usize> = match input.origin {
            Origin::Source(source, _) => vec![source],
            Origin::Node(_) => sources.collect(),
        };
        let mut allowed = 0;
        for source in sources.into_iter().filter(|_| !matches!(node.spec, WindowSpec::Session { .. })) {
            let lateness = self.sources[source].table()?.allowed_lateness;
            allowed = allowed.max(i64::try_from(lateness.as_micros()).unwrap_or(i64::MAX));
        }
        let lateness = match self.is_by_clock(&input, time) {
            true => Lateness::Clock,
            false => Lateness::Windows { windows: node.spec, allowed },
        };
        let allowed = if let Lateness::Clock = lateness { 0 } else { allowed };
        let pending = Some(Pending { spec: node.spec, time, lateness, allowed, columns, session_keys, hidden: None });
        input.facts.attached = None;
        Ok(Flow { schema: Arc::clone(schema), pending, ..input })
    }

    /// Whether windows go by the clock, while the table has an event time for others.
    fn is_by_clock(&self, flow: &Flow, time: usize) -> bool {
        matches!(flow.origin, Origin::Source(_, BranchInput::Rows)) && flow.facts.clocks.contains(&time)
    }

    /// Windows run on event time: the column must be one below which nothing comes any more.
    fn check_event_time(&self, flow: &Flow, time: usize) -> Result<()> {
        let decided = |(source, branch): &(usize, usize)| self.sources[*source].branches[*branch].lateness.is_some();
        let of_window = flow.facts.attached.is_some_and(|window| time == window.end || Some(time) == window.time);
        if !of_window && flow.facts.feeds.iter().any(decided) {
            return Err(Error::not_supported("a window function over rows of another one by the same event time")
                .with_hint("aggregate in the first window, and use DESCRIPTOR(window_time) for the second"));
        }
        if flow.facts.times.contains(&time) || self.is_by_clock(flow, time) {
            return Ok(());
        }
        let name = flow.schema.field(time).name().split('#').next().unwrap_or_default().to_owned();
        let Origin::Source(source, which) = flow.origin else {
            return Err(Error::not_supported(format!("windows over \"{name}\", which is no event time here"))
                .with_hint("use the event time of the table, or DESCRIPTOR(window_time) of a query with windows"));
        };
        let table = self.sources[source].table()?;
        if which != BranchInput::Rows {
            return Err(Error::not_supported(format!("windows over the rows kept aside of \"{}\"", table.name))
                .with_hint("they have no event time; write them to a table, and query that"));
        }
        let Some(event_time) = &table.time else {
            return Err(Error::user("NOT_SUPPORTED", format!("table \"{}\" has no watermark", table.name))
                .with_hint("declare WATERMARK FOR its time column AS that column - INTERVAL '5' SECOND"));
        };
        let wanted = table.schema.field(event_time.column).name();
        Err(Error::not_supported(format!(
            "windows over \"{name}\", which is not the event time \"{wanted}\" of table \"{}\"",
            table.name
        ))
        .with_hint(format!("use DESCRIPTOR({wanted}), or declare the WATERMARK for the other column")))
    }

    pub(super) fn project(&mut self, input: Flow, exprs: &[Expr], schema: &DFSchemaRef) -> Result<Flow> {
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
            expr.downcast_ref::<Column>().is_some_and(|column| column.index() == pending.time)
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
        let place = |column: usize| exprs.iter().position(|expr| index_of(expr, &input.schema).ok() == Some(column));
        let session_keys = pending.session_keys.iter().map(|key| key.and_then(place)).collect();
        let facts = input.facts.projected(exprs, &input.schema);
        let mut flow = input;
        flow.steps.push(Step::Project(Projection { exprs: physicals, schema: Arc::new(Schema::new(fields)) }));
        flow.schema = Arc::clone(schema);
        flow.facts = facts;
        flow.pending = Some(Pending { time, columns, hidden, session_keys, ..pending });
        Ok(flow)
    }

    /// Makes pending window columns real, by an operator that gives each row once a window.
    pub(super) fn assign(&mut self, flow: Flow) -> Result<Flow> {
        let Some(pending) = flow.pending.clone() else { return Ok(flow) };
        let (schema, mut times) = (Arc::clone(&flow.schema), flow.facts.times.clone());
        if let Lateness::Clock = pending.lateness {
            times.clear();
        }
        let rows = arrow_schema(flow.rows_schema()?.as_ref());
        let operator = AssignWindows::new(pending.spec, pending.time, &rows)?;
        let assigned = headwater_engine::operator::OperatorFactory::schema(&operator);
        // Rows that go on without an aggregation are never given twice, whatever lateness is allowed.
        let lateness = match pending.lateness {
            Lateness::Clock => Lateness::Clock,
            Lateness::Windows { .. } | Lateness::EventTime => Lateness::Windows { windows: pending.spec, allowed: 0 },
        };
        let width = rows.fields().len();
        let (from, feeds) = self.feed(flow, Some(lateness))?;
        let id = self.add_operator(from, Arc::new(operator));
        let mut next = 0;
        let places = (0..schema.fields().len()).map(|index| {
            let window = pending.columns.iter().position(|column| *column == Some(index));
            let place = window.map_or(next, |which| width + which);
            next += usize::from(window.is_none());
            place
        });
        let exprs = places.map(|place| Arc::new(Column::new(assigned.field(place).name(), place)) as _).collect();
        let step = Projection { exprs, schema: arrow_schema(&schema) };
        let mut facts = Facts { times, feeds, ..Facts::append() };
        let [start, end, time] = pending.columns;
        facts.attached = start.zip(end).map(|(start, end)| Attached { start, end, time });
        facts.times.extend([end, time].into_iter().flatten());
        Ok(Flow { steps: vec![Step::Project(step)], ..Flow::of_node(id, &schema, facts) })
    }

    pub(super) fn union(&mut self, union: &UnionPlan) -> Result<Flow> {
        let mut inputs = Vec::with_capacity(union.inputs.len());
        let mut all: Option<Facts> = None;
        let mut parts = Vec::with_capacity(union.inputs.len());
        for plan in &union.inputs {
            let flow = self.flow(plan)?;
            let flow = self.assign(flow)?;
            flow.settled("UNION ALL of")?;
            let own = flow.facts.clone();
            parts.push(own.clone());
            let (input, feeds) = self.feed(flow, None)?;
            inputs.push(input);
            let own = Facts { feeds, keys: Vec::new(), spread: Vec::new(), values: Vec::new(), ..own };
            all = Some(match all {
                None => own,
                Some(before) => Facts {
                    changes: before.changes.max(own.changes),
                    attached: before.attached.filter(|attached| own.attached == Some(*attached)),
                    times: before.times.into_iter().filter(|time| own.times.contains(time)).collect(),
                    wavering: [before.wavering, own.wavering].concat(),
                    feeds: [before.feeds, own.feeds].concat(),
                    ..Facts::append()
                },
            });
        }
        let operator: OperatorRef = Arc::new(Union::new(arrow_schema(&union.schema)));
        let id = self.add("union", NodeKind::Operator(OperatorNode { inputs, operator }));
        let mut facts = all.ok_or_else(|| Error::internal("a union without inputs"))?;
        if let Some(Facts { keys, spread, values, .. }) = Facts::told_apart(&parts) {
            facts = Facts { keys, spread, values, ..facts };
        }
        Ok(Flow::of_node(id, &union.schema, facts))
    }

    pub(super) fn unnest(&mut self, unnest: &UnnestPlan) -> Result<Flow> {
        let ([(list, _)], []) = (unnest.list_type_columns.as_slice(), unnest.struct_type_columns.as_slice()) else {
            return Err(Error::internal("an unnesting of other than one array"));
        };
        let flow = self.flow(&unnest.input)?;
        flow.settled("UNNEST of")?;
        let flow = self.assign(flow)?;
        flow.facts.check_column("list", *list)?;
        let place = |column: usize| {
            let kept = unnest.dependency_indices.iter().position(|from| *from == column);
            kept.filter(|_| column != *list)
        };
        let mut facts = flow.facts.moved(&place, &place);
        facts.keys.clear();
        let (from, feeds) = self.feed(flow, None)?;
        facts.feeds = feeds;
        let columns = unnest.dependency_indices.clone();
        let operator = Unnest::new(*list, columns, arrow_schema(&unnest.schema))?;
        let id = self.add_operator(from, Arc::new(operator));
        Ok(Flow::of_node(id, &unnest.schema, facts))
    }
}

fn projected(mut input: Flow, exprs: &[Expr], schema: &DFSchemaRef) -> Result<Flow> {
    let physicals = exprs.iter().map(|expr| physical(expr, &input.schema)).collect::<Result<Vec<_>>>()?;
    let wavering = input.facts.wavering_of(&physicals);
    input.facts = Facts { wavering, ..input.facts.projected(exprs, &input.schema) };
    let fields = arrow_schema(schema).fields()[..exprs.len()].to_vec();
    let step = Projection { exprs: physicals, schema: Arc::new(Schema::new(fields)) };
    input.steps.push(Step::Project(step));
    input.schema = Arc::clone(schema);
    Ok(input)
}
