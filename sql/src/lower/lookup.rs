//! A join of a stream with bounded tables: their part of the plan is run whole, and each row looks its partners up.
//!
//! Invariant: the bounded part runs as a batch query, so it may be anything a batch query may be.

use std::sync::Arc;

use arrow::{
    array::{RecordBatch, RecordBatchOptions},
    datatypes::SchemaRef,
};
use async_trait::async_trait;
use datafusion::{
    common::Column as PlanColumn,
    execution::SessionState,
    logical_expr::{Expr, Join as JoinPlan, LogicalPlan, LogicalPlanBuilder, utils::conjunction},
    physical_plan::collect,
};
use headwater_engine::{
    error::{Error, Result},
    graph::Exchange,
    operator::OperatorFactory,
    operators::{
        join::JoinKind,
        lookup::{Lookup, LookupTable},
    },
};

use super::{
    facts::Facts,
    flow::{Flow, Lowering, arrow_schema, index_of, physical},
    join::{Condition, behind},
};
use crate::diagnostics::Classify;

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
    async fn read(&self) -> Result<Vec<RecordBatch>> {
        let physical = self.state.create_physical_plan(&self.plan).await.classify()?;
        let batches = collect(physical, self.state.task_ctx()).await.classify()?;
        let named = |batch: RecordBatch| {
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), batch.columns().to_vec(), &options)?)
        };
        batches.into_iter().map(named).collect()
    }
}

impl Lowering {
    /// A join whose side `stream` is a stream and the other one bounded.
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
        let (table, places) = self.bounded(table_plan, &table_keys)?;
        let (stream_rows, stream_width) = (side.rows.fields().len(), side.width);
        let table_width = table_plan.schema().fields().len();
        let schemas = [Arc::clone(&side.rows), Arc::clone(&table.schema)];
        let keys = [side.keys.clone(), places];
        let mut operator = Lookup::new(Arc::new(table), schemas, keys, kind != JoinKind::Inner, self.refresh);
        // Where a column of the join stands in the operator's rows: the stream's columns come first.
        let left_width = if stream == 0 { stream_width } else { table_width };
        let place = |index: usize| match ((index < left_width), stream) {
            (true, 0) => index,
            (false, 0) => index - left_width + stream_rows,
            (true, _) => index + stream_rows,
            (false, _) => index - left_width,
        };
        if let Some(rest) = conjunction(condition.rest.iter().cloned()) {
            operator = operator.with_condition(behind(&physical(&rest, &join.schema)?, &place)?)?;
        }
        let changes = operator.output(&[side.flow.facts.changes])?;
        let moved = |column: usize| Some(if stream == 0 { column } else { column + table_width });
        let mut facts = Facts { changes, ..side.flow.facts.moved(&moved, &moved) };
        facts.keys.clear();
        let is_source = matches!(side.flow.origin, super::flow::Origin::Source(_));
        let feeds = side.flow.facts.feeds.clone();
        let input = self.input(side.flow, Exchange::Forward, side.rows, None)?;
        facts.feeds = if is_source { vec![(input.from.0, input.branch)] } else { feeds };
        let id = self.add_operator(input, Arc::new(operator));
        let mut flow = Flow::of_node(id, &join.schema, facts);
        let schema = arrow_schema(&join.schema);
        flow.pick((0..schema.fields().len()).map(|index| Some(place(index))), &schema)?;
        Ok(flow)
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
