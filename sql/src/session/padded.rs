//! What is known of the padded side of an outer join, kept from the plan above it.
//!
//! DataFusion carries constants and equal expressions of both sides through every join. A side that is padded with NULLs is
//! not constant any more: ORDER BY and windows by such a column were not sorted, and LIMIT kept other rows.
//!
//! Invariant: rows, partitions and statistics are the input's; nothing is said of constants and order.

use std::{fmt, sync::Arc};

use datafusion::{
    common::{
        JoinType, Result, Statistics,
        config::ConfigOptions,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
        execution_plan::replace_children_if_necessary,
        joins::{HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec},
        statistics::{ChildStats, StatisticsArgs},
    },
};
use headwater_engine::error::Error;

/// Puts what forgets above padded sides of which something is known.
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
                if forgets { Arc::new(PaddedExec::new(input)) } else { input }
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

/// Its input's rows, of which nothing is known.
#[derive(Debug)]
struct PaddedExec {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl PaddedExec {
    fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            input.output_partitioning().clone(),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Self { input, properties: Arc::new(properties) }
    }
}

impl DisplayAs for PaddedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PaddedExec")
    }
}

impl ExecutionPlan for PaddedExec {
    fn name(&self) -> &str {
        "PaddedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match children.as_slice() {
            [input] => Ok(Arc::new(Self::new(Arc::clone(input)))),
            _ => Err(Error::internal("a padded side is one plan").into()),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        match inputs {
            [input] => Ok(Arc::clone(input)),
            _ => Ok(Arc::new(Statistics::new_unknown(&self.input.schema()))),
        }
    }
}
