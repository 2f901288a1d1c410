//! From the node of a plan to the operator that runs it.
//!
//! Invariant: partitions and order are columns of the input, since the binder takes nothing else.

use std::sync::Arc;

use arrow::compute::SortOptions;
use async_trait::async_trait;
use datafusion::{
    catalog::Session,
    common::Result,
    logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNode, physical_planning_context::PhysicalPlanningContext},
    physical_expr::{PhysicalSortExpr, expressions::Column},
    physical_plan::ExecutionPlan,
    physical_planner::{ExtensionPlanner, PhysicalPlanner},
};
use headwater_engine::error::Error;

use super::{MatchExec, MatchNode};

/// Plans [`MatchNode`]s.
#[derive(Debug, Clone, Copy, Default)]
pub struct MatchPlanner;

#[async_trait]
impl ExtensionPlanner for MatchPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<MatchNode>() else { return Ok(None) };
        let input = inputs.first().ok_or_else(|| Error::internal("MATCH_RECOGNIZE has an input"))?;
        let index = |expr: &Expr| match expr {
            Expr::Column(column) => node.input.schema().index_of_column(column),
            _ => Err(Error::internal("a partition or order of MATCH_RECOGNIZE is not a column").into()),
        };
        let partition_by = node.partition_by.iter().map(index).collect::<Result<Vec<_>>>()?;
        let schema = input.schema();
        let sort = |index: usize, options: SortOptions| {
            PhysicalSortExpr::new(Arc::new(Column::new(schema.field(index).name(), index)), options)
        };
        let mut sorts: Vec<PhysicalSortExpr> =
            partition_by.iter().map(|index| sort(*index, SortOptions::default())).collect();
        for one in &node.order_by {
            let options = SortOptions { descending: !one.asc, nulls_first: one.nulls_first };
            sorts.push(sort(index(&one.expr)?, options));
        }
        let schema = Arc::clone(node.schema.inner());
        Ok(Some(Arc::new(MatchExec::new(Arc::clone(input), partition_by, sorts, Arc::clone(&node.spec), schema))))
    }
}
