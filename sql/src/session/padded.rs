//! What is known of the padded side of an outer join, kept from the plan above it.
//!
//! DataFusion carries constants and equal expressions of both sides through every join. A side that is padded with NULLs is
//! not constant any more: ORDER BY and windows by such a column were not sorted, and LIMIT kept other rows.
//!
//! Invariant: only an input of which something is known is fenced; the other plans stay as they are.

use std::sync::Arc;

use datafusion::{
    common::{
        JoinType, Result,
        config::ConfigOptions,
        tree_node::{Transformed, TreeNode},
    },
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{
        ExecutionPlan, ExecutionPlanProperties,
        execution_plan::replace_children_if_necessary,
        joins::{HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec},
    },
};

use crate::{fence::Fence, unary::above};

/// Puts fences above padded sides of which something is known.
#[derive(Debug, Default)]
pub(super) struct PaddedSides;

impl PhysicalOptimizerRule for PaddedSides {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let made = plan.transform_up(|node| {
            let padded = padded(node.as_ref());
            let knows =
                |input: &Arc<dyn ExecutionPlan>| input.equivalence_properties().eq_group().iter().next().is_some();
            let children: Vec<(bool, Arc<dyn ExecutionPlan>)> = node
                .children()
                .into_iter()
                .zip(padded)
                .map(|(input, is)| (is && knows(input), input.clone()))
                .collect();
            if !children.iter().any(|(forgets, _)| *forgets) {
                return Ok(Transformed::no(node));
            }
            let wrap = |(forgets, input): (bool, Arc<dyn ExecutionPlan>)| -> Arc<dyn ExecutionPlan> {
                if forgets { above(Fence, input) } else { input }
            };
            Ok(Transformed::yes(replace_children_if_necessary(node, children.into_iter().map(wrap).collect())?))
        })?;
        Ok(made.data)
    }

    fn name(&self) -> &str {
        "padded_sides"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Which sides of a join are padded with NULLs.
fn padded(plan: &dyn ExecutionPlan) -> [bool; 2] {
    let kind = plan.downcast_ref::<HashJoinExec>().map(HashJoinExec::join_type);
    let kind = kind.copied().or_else(|| plan.downcast_ref::<NestedLoopJoinExec>().map(|join| *join.join_type()));
    let kind = kind.or_else(|| plan.downcast_ref::<SortMergeJoinExec>().map(|join| join.join_type()));
    match kind {
        Some(JoinType::Left) => [false, true],
        Some(JoinType::Right) => [true, false],
        Some(JoinType::Full) => [true, true],
        _ => [false, false],
    }
}
