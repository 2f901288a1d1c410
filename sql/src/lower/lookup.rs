//! A join of a stream with tables whose rows are looked up: the rows of one table by key where it answers for keys, else
//! the tables' part of the plan, run whole.
//!
//! Invariant: a table that answers for keys is read whole only where it says so ('lookup.cache' = 'FULL').

use std::{sync::Arc, time::Duration};

use arrow::{
    array::{RecordBatch, RecordBatchOptions},
    datatypes::SchemaRef,
};
use async_trait::async_trait;
use datafusion::{
    catalog::default_table_source::source_as_provider,
    common::{Column as PlanColumn, tree_node::TreeNodeRecursion},
    execution::SessionState,
    logical_expr::{Expr, Join as JoinPlan, LogicalPlan, LogicalPlanBuilder, utils::conjunction},
    physical_expr::PhysicalExpr,
    physical_plan::execute_stream,
};
use futures::{StreamExt, stream::BoxStream};
use headwater_engine::{
    connector::{KeyedTable, LookupCache},
    error::{Error, Result},
    graph::{Exchange, Projection, Step},
    operator::OperatorRef,
    operators::{
        join::JoinKind,
        keyed_lookup::{AskedTable, KeyedLookup},
        lookup::{Lookup, LookupTable},
    },
};

use super::{
    aside::lookup_table,
    facts::Facts,
    flow::{Flow, Lowering, Origin, arrow_schema, index_of, physical, unaliased},
    join::{Condition, Side, behind},
    wavering,
};
use crate::{diagnostics::Classify, settings::SettingValue};

/// The bounded side: a plan that is run when it is read.
struct PlanTable {
    plan: LogicalPlan,
    state: SessionState,
    schema: SchemaRef,
}

impl std::fmt::Debug for PlanTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PlanTable({})", self.plan.display())
    }
}

#[async_trait]
impl LookupTable for PlanTable {
    async fn read(&self) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let physical = self.state.create_physical_plan(&self.plan).await.classify()?;
        let rows = execute_stream(physical, self.state.task_ctx()).classify()?;
        let schema = Arc::clone(&self.schema);
        let named = move |batch: datafusion::error::Result<RecordBatch>| {
            let batch = batch.classify()?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            Ok(RecordBatch::try_new_with_options(Arc::clone(&schema), batch.columns().to_vec(), &options)?)
        };
        Ok(rows.map(named).boxed())
    }
}

/// The rows of one table that answers for keys, filtered and projected.
struct Rows {
    table: Arc<dyn KeyedTable>,
    columns: SchemaRef,
    steps: Vec<Step>,
    /// For each column of the plan its name in the table, if it is one of the table's.
    names: Vec<Option<String>>,
}

impl Rows {
    /// `None` for a plan that is anything else.
    fn of(plan: &LogicalPlan) -> Result<Option<Self>> {
        match plan {
            LogicalPlan::TableScan(scan) if scan.fetch.is_none() => {
                let provider = source_as_provider(&scan.source)?;
                let Some(table) = lookup_table(&provider) else { return Ok(None) };
                let Some(keyed) = table.keyed_table()? else { return Ok(None) };
                let columns = arrow_schema(&scan.projected_schema);
                let names = columns.fields().iter().map(|field| Some(field.name().clone())).collect();
                Ok(Some(Self { table: keyed, columns, steps: Vec::new(), names }))
            }
            LogicalPlan::SubqueryAlias(alias) => Self::of(&alias.input),
            LogicalPlan::Filter(filter) => {
                let Some(mut rows) = Self::of(&filter.input)? else { return Ok(None) };
                rows.steps.push(Step::Filter(physical(&filter.predicate, filter.input.schema())?));
                Ok(Some(rows))
            }
            LogicalPlan::Projection(projection) => {
                let Some(mut rows) = Self::of(&projection.input)? else { return Ok(None) };
                let input = projection.input.schema();
                let exprs = projection.expr.iter().map(|expr| physical(expr, input)).collect::<Result<Vec<_>>>()?;
                let schema = arrow_schema(&projection.schema);
                rows.steps.push(Step::Project(Projection { exprs, schema }));
                let name = |expr: &Expr| rows.names[index_of(unaliased(expr), input).ok()?].clone();
                rows.names = projection.expr.iter().map(name).collect();
                Ok(Some(rows))
            }
            _ => Ok(None),
        }
    }
}

/// How often tables that are read whole are read again, where they say so; fails for one that does not want to be.
fn whole(plan: &LogicalPlan) -> Result<Option<Duration>> {
    let mut shortest: Option<Duration> = None;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(table) = lookup_table(&source_as_provider(&scan.source)?)
            && let Some(keyed) = table.keyed_table()?
        {
            let LookupCache::Full(reload) = keyed.cache() else {
                let message = format!("a join that looks up more of \"{}\" than rows by key", table.name);
                return Err(Error::not_supported(message)
                    .with_hint("join with the table itself by its key, or declare it with 'lookup.cache' = 'FULL'")
                    .into());
            };
            shortest = shortest.into_iter().chain(reload).min();
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(shortest)
}

/// Where columns of the join stand in the rows of the operator, whose stream's columns come first.
struct Places {
    stream: usize,
    stream_rows: usize,
    left_width: usize,
}

impl Places {
    fn of(&self, index: usize) -> usize {
        match (index < self.left_width, self.stream) {
            (true, 0) => index,
            (false, 0) => index - self.left_width + self.stream_rows,
            (true, _) => index + self.stream_rows,
            (false, _) => index - self.left_width,
        }
    }
}

impl Lowering {
    /// A join whose side `stream` is a stream and the other one is looked up.
    pub(super) fn lookup(
        &mut self,
        join: &JoinPlan,
        kind: JoinKind,
        condition: &Condition,
        stream: usize,
    ) -> Result<Flow> {
        let (left, right): (Vec<Expr>, Vec<Expr>) = condition.equal.iter().cloned().unzip();
        let (stream_plan, table_plan) = if stream == 0 { (&join.left, &join.right) } else { (&join.right, &join.left) };
        let (stream_keys, table_keys) = if stream == 0 { (left, right) } else { (right, left) };
        let side = self.side(stream_plan, &stream_keys)?;
        let table_width = table_plan.schema().fields().len();
        let left_width = if stream == 0 { side.width } else { table_width };
        let places = Places { stream, stream_rows: side.rows.fields().len(), left_width };
        let residual = match conjunction(condition.rest.iter().cloned()) {
            Some(rest) => Some(behind(&physical(&rest, &join.schema)?, &|index| places.of(index))?),
            None => None,
        };
        // The stream's columns come first there.
        wavering::check("condition", &residual, &side.flow.facts)?;
        let operator = match self.asked(table_plan, &table_keys)? {
            Some((asked, keys)) => by_key(asked, &side, keys, kind, residual)?,
            None => {
                self.note_lookup();
                self.read_whole(table_plan, &table_keys, &side, kind, residual)?
            }
        };
        let changes = operator.output(&[side.flow.facts.changes])?;
        let moved = |column: usize| Some(if stream == 0 { column } else { column + table_width });
        let mut facts = Facts { changes, ..side.flow.facts.moved(&moved, &moved) };
        facts.keys.clear();
        let is_source = matches!(side.flow.origin, Origin::Source(..));
        let feeds = side.flow.facts.feeds.clone();
        let input = self.input(side.flow, Exchange::Forward, side.rows, None)?;
        facts.feeds = if is_source { vec![(input.from.0, input.branch)] } else { feeds };
        let id = self.add_operator(input, operator);
        let mut flow = Flow::of_node(id, &join.schema, facts);
        let schema = arrow_schema(&join.schema);
        flow.pick((0..schema.fields().len()).map(|index| Some(places.of(index))), &schema)?;
        Ok(flow)
    }

    /// A plan whose rows are asked for by key, with the places of the keys; `None` if it has to be read whole.
    fn asked(&self, plan: &LogicalPlan, keys: &[Expr]) -> Result<Option<(AskedTable, Vec<usize>)>> {
        let Some(rows) = Rows::of(plan)? else { return Ok(None) };
        if matches!(rows.table.cache(), LookupCache::Full(_)) {
            return Ok(None);
        }
        let Ok(places) = keys.iter().map(|key| index_of(key, plan.schema())).collect::<Result<Vec<usize>>>() else {
            return Ok(None);
        };
        let key_names: Vec<Option<String>> = places.iter().map(|place| rows.names[*place].clone()).collect();
        rows.table.check(&key_names.iter().flatten().map(String::as_str).collect::<Vec<_>>())?;
        let schema = arrow_schema(plan.schema());
        let Rows { table, columns, steps, .. } = rows;
        Ok(Some((AskedTable { table, columns, steps, schema, key_names }, places)))
    }

    fn read_whole(
        &self,
        plan: &LogicalPlan,
        keys: &[Expr],
        side: &Side,
        kind: JoinKind,
        residual: Option<Arc<dyn PhysicalExpr>>,
    ) -> Result<OperatorRef> {
        let refresh = whole(plan)?.or(self.refresh);
        let (table, places) = self.bounded(plan, keys)?;
        let schemas = [Arc::clone(&side.rows), Arc::clone(&table.schema)];
        let keys = [side.keys.clone(), places];
        let operator = Lookup::new(Arc::new(table), schemas, keys, kind != JoinKind::Inner, refresh);
        Ok(match residual {
            Some(condition) => Arc::new(operator.with_condition(condition)),
            None => Arc::new(operator),
        })
    }

    fn note_lookup(&mut self) {
        let note = match self.refresh {
            None => "tables that are looked up are read at the start of the job: set \
                     'lookup.full-cache.periodic-reload.interval' if they change"
                .to_owned(),
            Some(every) => format!("tables that are looked up are read again every {}", every.show()),
        };
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// A bounded plan as a table, with its keys as columns, and their places.
    fn bounded(&self, plan: &LogicalPlan, keys: &[Expr]) -> Result<(PlanTable, Vec<usize>)> {
        let state = self.state.clone().ok_or_else(|| Error::internal("a job without a session for its tables"))?;
        let mut exprs: Vec<Expr> = (plan.schema().iter())
            .map(|(qualifier, field)| Expr::Column(PlanColumn::new(qualifier.cloned(), field.name())))
            .collect();
        let mut places = Vec::with_capacity(keys.len());
        for key in keys {
            if let Ok(index) = index_of(key, plan.schema()) {
                places.push(index);
                continue;
            }
            places.push(exprs.len());
            exprs.push(key.clone().alias(format!("headwater_key_{}", exprs.len())));
        }
        let plan = LogicalPlanBuilder::from(plan.clone()).project(exprs)?.build()?;
        let schema = arrow_schema(plan.schema());
        Ok((PlanTable { plan, state, schema }, places))
    }
}

fn by_key(
    asked: AskedTable,
    side: &Side,
    places: Vec<usize>,
    kind: JoinKind,
    residual: Option<Arc<dyn PhysicalExpr>>,
) -> Result<OperatorRef> {
    let keys = [side.keys.clone(), places];
    let operator = KeyedLookup::new(asked, &side.rows, keys, kind != JoinKind::Inner);
    Ok(match residual {
        Some(condition) => Arc::new(operator.with_condition(condition)?),
        None => Arc::new(operator),
    })
}
