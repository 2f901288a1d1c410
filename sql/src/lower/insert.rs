//! INSERTs of a job: bound, checked against their sinks, lowered, and put together as one graph.
//!
//! Invariant: a table that several INSERTs read is one source node, and its columns are those any of them uses.

use std::sync::Arc;

use datafusion::{
    catalog::default_table_source::source_as_provider,
    common::{Column as PlanColumn, tree_node::TreeNodeRecursion},
    execution::SessionState,
    logical_expr::{Cast, Expr, LogicalPlan, LogicalPlanBuilder},
    optimizer::{Optimizer, optimize_projections::OptimizeProjections, simplify_expressions::SimplifyExpressions},
    physical_expr::{PhysicalExpr, expressions::Column},
    scalar::ScalarValue,
};
use headwater_connectors::lake::stats::ScanStats;
use headwater_engine::{
    catalog::TableKind,
    connector::{ChangelogMode, TextLength},
    error::{Error, Result},
    graph::{Exchange, Graph, NodeKind, Projection, SinkNode, Step},
    operators::upsert::{ByKey, Keeps},
};

use super::{
    aside::read_table,
    beside,
    facts::Facts,
    flow::{Flow, Lowering, SourceTable, arrow_schema, physical},
    semi::without_subqueries,
    sources,
    table::{ColumnSource, StreamTable},
};
use crate::{
    bind::BoundQuery,
    diagnostics::did_you_mean,
    kernels::{self, Op},
    parser::statement::Insert,
    session::{Session, rules::PushFilters},
    settings::SettingValue,
    tables::{Found, RunTable, find, not_found},
    types::{Type, coerces},
};

/// An INSERT with its plan and its target.
struct Planned {
    name: String,
    plan: LogicalPlan,
    sink: StreamTable,
    state: SessionState,
}

/// The graph of a job that runs these INSERTs.
pub async fn lower_inserts(session: &Session, inserts: &[Insert], once: bool) -> Result<Graph> {
    Ok(lower_job(session, inserts, once).await?.0)
}

/// The graph, and what a user should know about the job.
pub(crate) async fn lower_job(session: &Session, inserts: &[Insert], once: bool) -> Result<(Graph, Vec<String>)> {
    let mut planned: Vec<Planned> = Vec::with_capacity(inserts.len());
    for insert in inserts {
        planned.push(plan(session, insert, once).await?);
    }
    let tables: Vec<&str> = planned.iter().map(|one| one.sink.name.as_str()).collect();
    let names = names(&tables);
    planned.iter_mut().zip(names).for_each(|(one, name)| one.name = name);
    let sources = sources::collect(planned.iter().map(|one| &one.plan))?;
    let settings = session.settings();
    let ttl = Some(settings.state_ttl).filter(|ttl| !ttl.is_zero());
    let refresh = Some(settings.lookup_refresh).filter(|every| !every.is_zero());
    let notes = time_notes(&sources)?;
    let mut lowering = Lowering { sources, ttl, refresh, notes, ..Lowering::default() };
    for Planned { name, plan, sink, state } in planned {
        lowering.insert = name;
        lowering.state = Some(state);
        lower_one(&mut lowering, &plan, sink).await?;
    }
    let notes = std::mem::take(&mut lowering.notes);
    Ok((assemble(lowering)?, notes))
}

/// A name for each INSERT, given the tables they write to: the table's, with a number where it has one already.
fn names(tables: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(tables.len());
    for (index, table) in tables.iter().enumerate() {
        let repeats = tables[..index].iter().filter(|other| *other == table).count();
        let mut name = (*table).to_owned();
        let mut number = repeats;
        while repeats > 0 && (tables.contains(&name.as_str()) || names.contains(&name)) {
            number += 1;
            name = format!("{table}-{number}");
        }
        names.push(name);
    }
    names
}

/// What makes the result depend on when the job runs, not on its rows alone.
fn time_notes(sources: &[SourceTable]) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    for source in sources {
        let table = source.table()?;
        let Some(time) = &table.time else { continue };
        if time.watermark.is_none() {
            notes.push(format!("windows over \"{}\" follow the clock: no two runs give the same", table.name));
        }
        if let Some(timeout) = time.idle_timeout {
            let shown = timeout.show();
            notes.push(format!("a split of \"{}\" that is silent for {shown} no longer holds windows", table.name));
        }
    }
    Ok(notes)
}

/// What the tables an INSERT reads make of it. With `once`, every table counts as one that goes on.
pub(crate) async fn reads(session: &Session, insert: &Insert, once: bool) -> Result<Reads> {
    plan_reads(&session.bound_for_job(&insert.query, once).await?.0.plan)
}

/// What the tables a plan reads make of it.
pub(super) fn plan_reads(plan: &LogicalPlan) -> Result<Reads> {
    let mut reads = Reads::Nothing;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some((table, _)) = read_table(&source_as_provider(&scan.source)?)
        {
            reads = reads.max(if table.is_unbounded()? { Reads::Unbounded } else { Reads::Bounded });
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(reads)
}

/// What a query reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reads {
    /// No table.
    Nothing,
    /// Tables that end.
    Bounded,
    /// A table that goes on.
    Unbounded,
}

async fn plan(session: &Session, insert: &Insert, once: bool) -> Result<Planned> {
    let at = insert.table.at();
    if insert.overwrite || !insert.partition.is_empty() {
        return Err(Error::not_supported("INSERT OVERWRITE and PARTITION (..) in a job")
            .with_hint("write INSERT INTO; partition columns are filled from the query")
            .at(at));
    }
    let sink = target(session, insert).await.map_err(|error| error.at(at))?;
    let (bound, state) = session.bound_for_job(&insert.query, once).await?;
    // A job refuses rows that are too long where it writes them: an expression that fails would end it.
    let plan = optimize(assign(insert, &sink, bound, &[]).map_err(|error| error.at(at))?, &state)?;
    Ok(Planned { name: sink.name.clone(), plan, sink, state })
}

/// The plan of an INSERT that ends, in the columns of the table it writes to, and that table.
pub(crate) async fn plan_for_sink(
    session: &Session,
    insert: &Insert,
    stats: &Arc<ScanStats>,
) -> Result<(LogicalPlan, SessionState, StreamTable)> {
    let at = insert.table.at();
    if insert.overwrite || !insert.partition.is_empty() {
        let what =
            "INSERT OVERWRITE and PARTITION (..) into a table that is no folder, or is written as Firehose does it";
        return Err(Error::not_supported(what).at(at));
    }
    let sink = target(session, insert).await.map_err(|error| error.at(at))?;
    let (bound, state) = session.bound(&insert.query, stats).await?;
    let plan = assign(insert, &sink, bound, &sink.lengths).map_err(|error| error.at(at))?;
    Ok((plan, state, sink))
}

/// The table an INSERT writes to.
async fn target(session: &Session, insert: &Insert) -> Result<StreamTable> {
    let name = session.table_name(&insert.table)?;
    let is_view = || Err(Error::not_supported(format!("\"{name}\" is a view; it holds no rows")));
    match find(session.catalog().as_ref(), session.run_tables(), &name).await? {
        Some(Found::Run(RunTable::Table(table))) => StreamTable::new(session, &table),
        Some(Found::Run(RunTable::View(_))) => is_view(),
        Some(Found::Cataloged(table)) => match table.kind {
            TableKind::View { .. } => is_view(),
            TableKind::External | TableKind::Managed => StreamTable::of_lake(session, &table, false),
        },
        None => Err(not_found(session.catalog().as_ref(), session.run_tables(), &name).await),
    }
}

/// The rules that help a job: fewer columns, earlier filters, constants folded. Others assume an end of the input.
pub(super) fn optimize(plan: LogicalPlan, state: &SessionState) -> Result<LogicalPlan> {
    let plan = without_subqueries(plan, state)?;
    let rules = Optimizer::with_rules(vec![
        Arc::new(SimplifyExpressions::new()),
        Arc::new(PushFilters::default()),
        Arc::new(OptimizeProjections::new()),
    ]);
    Ok(rules.optimize(plan, state, |_, _| {})?)
}

/// The plan whose columns are those of the sink's spec, in its order; it fails on a text that is too long for one of these.
fn assign(
    insert: &Insert,
    sink: &StreamTable,
    bound: BoundQuery,
    lengths: &[(usize, TextLength)],
) -> Result<LogicalPlan> {
    let writable = writable(sink);
    let given = given(insert, sink, &writable)?;
    if given.len() != bound.columns.len() {
        let message =
            format!("\"{}\" takes {} columns here, the query has {}", sink.name, given.len(), bound.columns.len());
        return Err(Error::user("TYPE_MISMATCH", message).with_hint("name the columns: INSERT INTO t (a, b) SELECT .."));
    }
    let inputs: Vec<Expr> = (bound.plan.schema().iter())
        .map(|(qualifier, field)| Expr::Column(PlanColumn::new(qualifier.cloned(), field.name())))
        .collect();
    let mut exprs = Vec::with_capacity(sink.spec.schema.fields().len());
    for (index, field) in sink.spec.schema.fields().iter().enumerate() {
        let to = Type::from_arrow(field.data_type());
        let expr = match given.iter().position(|column| *column == index) {
            None => Expr::Literal(ScalarValue::try_from(field.data_type())?, None),
            Some(position) => {
                let from = &bound.columns[position].data_type;
                let fits = coerces(from, &to) || matches!((from, &to), (Type::Char(_), Type::Varchar(None)));
                if !fits {
                    let message =
                        format!("column \"{}\" of \"{}\" is {to}, the query gives {from}", field.name(), sink.name);
                    return Err(Error::user("TYPE_MISMATCH", message).with_hint(format!("CAST the value AS {to}")));
                }
                convert(inputs[position].clone(), from, &to)
            }
        };
        let expr = match lengths.iter().find(|(column, _)| *column == index) {
            Some((_, length)) => kernels::call(Op::Stored(length.clone()), vec![expr], to),
            None => expr,
        };
        exprs.push(expr.alias(field.name().clone()));
    }
    Ok(LogicalPlanBuilder::from(bound.plan).project(exprs)?.build()?)
}

fn convert(expr: Expr, from: &Type, to: &Type) -> Expr {
    match from {
        _ if from == to => expr,
        Type::Unknown | Type::Char(_) => Expr::Cast(Cast::new(Box::new(expr), to.to_arrow())),
        _ if from.to_arrow() == to.to_arrow() => expr,
        _ => kernels::call(Op::Cast { from: from.clone(), to: to.clone(), safe: false }, vec![expr], to.clone()),
    }
}

/// The spec's columns that an INSERT fills, by index: all but virtual metadata.
fn writable(sink: &StreamTable) -> Vec<usize> {
    let is_virtual = |index: &usize| sink.spec.metadata.iter().any(|field| field.column == *index && field.is_virtual);
    let own = sink.columns.iter().filter_map(|column| match column {
        ColumnSource::Spec(index) => Some(*index),
        ColumnSource::Computed(_) => None,
    });
    own.filter(|index| !is_virtual(index)).collect()
}

fn given(insert: &Insert, sink: &StreamTable, writable: &[usize]) -> Result<Vec<usize>> {
    if insert.columns.is_empty() {
        return Ok(writable.to_vec());
    }
    let name = |index: &usize| sink.spec.schema.field(*index).name().as_str();
    insert
        .columns
        .iter()
        .map(|column| {
            let found = writable.iter().find(|index| name(index).eq_ignore_ascii_case(&column.value));
            found.copied().ok_or_else(|| {
                let message = format!("column \"{}\" not found in table \"{}\"", column.value, sink.name);
                let error = Error::user("COLUMN_NOT_FOUND", message).at(column.at);
                did_you_mean(error, &column.value, writable.iter().map(name))
            })
        })
        .collect()
}

async fn lower_one(lowering: &mut Lowering, plan: &LogicalPlan, mut table: StreamTable) -> Result<()> {
    let flow = lowering.flow(plan)?;
    let flow = lowering.assign(flow)?;
    let schema = arrow_schema(&flow.schema);
    let mut sink = table.connector.sink(&table.spec)?;
    let is_changed = sink.accepts() == ChangelogMode::Upsert && flow.facts.changes != ChangelogMode::Append;
    if is_changed && table.spec.primary_key.is_empty() {
        table.spec.primary_key = table.connector.key_outside(&table.spec).await?;
        sink = table.connector.sink(&table.spec)?;
    }
    let flow = match sink.accepts() {
        ChangelogMode::Upsert => keys_in_length(by_key(lowering, flow, &table)?, &mut table)?,
        ChangelogMode::Append | ChangelogMode::Retract => flow,
    };
    if let Some(caution) = sink.caution(flow.facts.changes) {
        lowering.notes.push(format!("{}: {caution}", lowering.insert));
    }
    let origin = flow.origin.clone();
    let input = lowering.input(flow, Exchange::Forward, Arc::clone(&schema), None)?;
    let carried = beside::carry(lowering, &origin, &input, sink.as_ref(), &table.name)?;
    let schema = carried.extend(&schema);
    let others = sink.beside();
    let (insert, not_null, lengths) = (lowering.insert.clone(), table.not_null(), table.lengths);
    let node = SinkNode { table: table.name.clone(), insert, input: input.clone(), sink, not_null, lengths, schema };
    lowering.add("sink", NodeKind::Sink(node));
    others.into_iter().try_for_each(|other| beside::add(lowering, &origin, &input, other, &table.name))
}

/// Key columns with a length: what is only added is cut to it before rows are dealt to tasks by their keys. Where rows
/// change, their keys are those of the query, of which two may not become one: nothing is cut off.
fn keys_in_length(mut flow: Flow, table: &mut StreamTable) -> Result<Flow> {
    let (spec, is_append) = (&table.spec, flow.facts.changes == ChangelogMode::Append);
    let is_key = |column: usize| spec.primary_key.contains(spec.schema.field(column).name());
    let keys: Vec<&mut (usize, TextLength)> = table.lengths.iter_mut().filter(|(column, _)| is_key(*column)).collect();
    if keys.is_empty() {
        return Ok(flow);
    }
    let schema = arrow_schema(&flow.schema);
    let columns = (0..).zip(schema.fields()).map(|(place, field)| Arc::new(Column::new(field.name(), place)) as _);
    let mut exprs: Vec<Arc<dyn PhysicalExpr>> = columns.collect();
    for (column, length) in keys {
        length.is_key = !is_append;
        let value = Expr::Column(flow.schema.columns()[*column].clone());
        let cut = kernels::call(Op::Cut(length.clone()), vec![value], Type::Varchar(None));
        exprs[*column] = physical(&cut, &flow.schema)?;
    }
    if is_append {
        flow.steps.push(Step::Project(Projection { exprs, schema }));
    }
    Ok(flow)
}

/// Changes as a sink with a key takes them: the last one of each key.
fn by_key(lowering: &mut Lowering, flow: Flow, table: &StreamTable) -> Result<Flow> {
    let name = |column: &usize| table.spec.schema.field(*column).name().clone();
    let key = table.spec.primary_key.iter().map(|column| Ok(table.spec.schema.index_of(column)?));
    let key = key.collect::<Result<Vec<usize>>>()?;
    if flow.facts.changes == ChangelogMode::Append {
        if !key.is_empty() && !flow.facts.is_unique(&key) {
            let note = "of several rows with one key, the last in the order of their splits wins";
            lowering.notes.push(format!("{}: {note}", lowering.insert));
        }
        return Ok(flow);
    }
    if !flow.facts.is_key(&key) {
        let names = |columns: &[usize]| columns.iter().map(name).collect::<Vec<_>>().join(", ");
        let of_query = match flow.facts.keys.iter().min_by_key(|key| key.len()) {
            Some(key) if key.is_empty() => "has one row and no key".to_owned(),
            Some(key) => format!("has the key ({})", names(key)),
            None => "has no key among the columns it selects".to_owned(),
        };
        let message = format!(
            "the query {of_query}, but the PRIMARY KEY of \"{}\" is ({}): updates could not find their row",
            table.name,
            names(&key)
        );
        return Err(Error::user("NOT_SUPPORTED", message).with_hint(
            "select the columns the query groups, ranks or joins by, and declare exactly these as the key",
        ));
    }
    let is_together = flow.facts.is_together(&key);
    key.iter().try_for_each(|column| flow.facts.check_column("key", *column))?;
    if flow.facts.changes == ChangelogMode::Upsert {
        return Ok(flow);
    }
    let (keeps, exchange) = match is_together {
        true => (Keeps::Nothing, Exchange::Forward),
        false => (Keeps::All, Exchange::Hash(key.clone())),
    };
    if !is_together {
        flow.facts.check_columns()?;
        lowering.unbounded_state("a result whose rows of one key come from several tasks");
    }
    let (schema, rows) = (Arc::clone(&flow.schema), arrow_schema(&flow.schema));
    let input = lowering.input(flow, exchange, Arc::clone(&rows), None)?;
    let id = lowering.add_operator(input, Arc::new(ByKey::new(keeps, key, rows).with_ttl(lowering.ttl)));
    Ok(Flow::of_node(id, &schema, Facts::of(ChangelogMode::Upsert)))
}

pub(super) fn assemble(lowering: Lowering) -> Result<Graph> {
    let mut graph = Graph::default();
    for source in lowering.sources {
        let name = format!("source:{}", source.table()?.name);
        graph.add(name, NodeKind::Source(Box::new(sources::node(source)?)));
    }
    for (name, kind) in lowering.nodes {
        graph.add(name, kind);
    }
    graph.validate()?;
    Ok(graph)
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn inserts_of_a_job_have_names_of_their_own() {
        assert_eq!(names(&["o", "p", "o", "o"]), ["o", "p", "o-2", "o-3"]);
        assert_eq!(names(&["o", "o", "o-2"]), ["o", "o-3", "o-2"]);
        assert_eq!(names(&["o-2", "o", "o", "o", "o-2"]), ["o-2", "o", "o-3", "o-4", "o-2-2"]);
    }
}
