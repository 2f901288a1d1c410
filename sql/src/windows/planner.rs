//! From the window node of a plan to the operator that runs it in batch.
//!
//! Invariant: sessions see all rows of a key in one place; other windows are assigned wherever a row is.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::{
    catalog::Session,
    common::Result,
    logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNode, physical_planning_context::PhysicalPlanningContext},
    physical_plan::ExecutionPlan,
    physical_planner::{ExtensionPlanner, PhysicalPlanner},
};
use headwater_engine::error::Error;

use super::{WindowExec, WindowNode};

/// Plans [`WindowNode`]s.
#[derive(Debug, Clone, Copy, Default)]
pub struct WindowPlanner;

#[async_trait]
impl ExtensionPlanner for WindowPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<WindowNode>() else { return Ok(None) };
        let input = inputs.first().ok_or_else(|| Error::internal("a window has an input"))?;
        let index = |expr: &Expr| match expr {
            Expr::Column(column) => node.input.schema().index_of_column(column),
            _ => Err(Error::internal("the time or a key of a window is not a column").into()),
        };
        let time = index(&node.time)?;
        let keys = node.keys.iter().map(index).collect::<Result<Vec<_>>>()?;
        let schema = Arc::clone(node.schema.inner());
        Ok(Some(Arc::new(WindowExec::new(Arc::clone(input), node.spec, time, keys, schema))))
    }
}
