//! How often the step of a recursive query may run.
//!
//! Invariant: a step that would make rows once more than allowed fails the query; nothing is cut off in silence.

use std::{
    cmp::Ordering,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering as Memory},
    },
};

use async_trait::async_trait;
use datafusion::{
    catalog::Session,
    common::{DFSchemaRef, Result, tree_node::TreeNodeRecursion},
    error::DataFusionError,
    execution::{SendableRecordBatchStream, TaskContext},
    logical_expr::{
        Expr, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore,
        physical_planning_context::PhysicalPlanningContext,
    },
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
        execution_plan::{Boundedness, EmissionType},
        stream::RecordBatchStreamAdapter,
    },
    physical_planner::{ExtensionPlanner, PhysicalPlanner},
};
use futures::StreamExt;
use headwater_engine::error::Error;

/// Steps that may make rows.
const DEPTH_MAX: usize = 10;

/// The step of a recursive query.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct StepNode {
    /// What it computes.
    pub input: LogicalPlan,
}

impl PartialOrd for StepNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.input.partial_cmp(&other.input)
    }
}

impl UserDefinedLogicalNodeCore for StepNode {
    fn name(&self) -> &'static str {
        "RecursionStep"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecursionStep: at most {DEPTH_MAX} times")
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        match inputs.into_iter().next() {
            Some(input) => Ok(Self { input }),
            None => Err(DataFusionError::Internal("the step of a recursive query has an input".to_owned())),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }
}

/// Counts how often the step runs.
#[derive(Debug)]
struct StepExec {
    input: Arc<dyn ExecutionPlan>,
    runs: Arc<AtomicUsize>,
    properties: Arc<PlanProperties>,
}

impl StepExec {
    fn new(input: Arc<dyn ExecutionPlan>, runs: Arc<AtomicUsize>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            input.output_partitioning().clone(),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { input, runs, properties: Arc::new(properties) }
    }
}

impl DisplayAs for StepExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecursionStepExec: at most {DEPTH_MAX} times")
    }
}

impl ExecutionPlan for StepExec {
    fn name(&self) -> &'static str {
        "RecursionStepExec"
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
        let input = children.into_iter().next().ok_or_else(|| Error::internal("a step has an input"))?;
        Ok(Arc::new(Self::new(input, Arc::clone(&self.runs))))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let before = if partition == 0 { self.runs.fetch_add(1, Memory::Relaxed) } else { 0 };
        let input = self.input.execute(partition, context)?;
        let schema = input.schema();
        let checked = input.map(move |batch| match batch {
            Ok(batch) if before >= DEPTH_MAX && batch.num_rows() > 0 => {
                let message = format!("recursion depth limit exceeded ({DEPTH_MAX})");
                let hint = "bound the recursion by a condition in its step, or write sequence(..)";
                Err(Error::not_supported(message).with_hint(hint).into())
            }
            other => other,
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, checked)))
    }
}

/// Plans [`StepNode`]s.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StepPlanner;

#[async_trait]
impl ExtensionPlanner for StepPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        if node.as_any().downcast_ref::<StepNode>().is_none() {
            return Ok(None);
        }
        let input = inputs.first().ok_or_else(|| Error::internal("a step has an input"))?;
        Ok(Some(Arc::new(StepExec::new(Arc::clone(input), Arc::default()))))
    }
}
