//! A plan without inputs that ends: what such plans of batch queries have in common.
//!
//! Invariant: a leaf promises no order, and says how many partitions it has before any is read.

use std::{fmt, sync::Arc};

use arrow::datatypes::SchemaRef;
use datafusion::{
    common::{Result, tree_node::TreeNodeRecursion},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, ReplaceChildrenOptions,
        execution_plan::{Boundedness, EmissionType},
    },
};

/// What reads one kind of thing; it is shown as it displays itself.
pub trait Leaf: fmt::Debug + fmt::Display + Send + Sync + 'static {
    /// Name of the plan.
    fn name(&self) -> &'static str;

    /// Reads a partition.
    fn read(&self, partition: usize, schema: &SchemaRef, context: &TaskContext) -> Result<SendableRecordBatchStream>;
}

/// A leaf as a plan.
#[derive(Debug)]
pub struct LeafExec<L> {
    leaf: L,
    properties: Arc<PlanProperties>,
}

impl<L> LeafExec<L> {
    /// Rows of this schema in so many partitions.
    pub fn new(leaf: L, schema: SchemaRef, partitions: usize) -> Self {
        Self { leaf, properties: Arc::new(bounded(schema, partitions)) }
    }
}

/// The properties of a plan that ends and promises no order.
pub fn bounded(schema: SchemaRef, partitions: usize) -> PlanProperties {
    PlanProperties::new(
        EquivalenceProperties::new(schema),
        Partitioning::UnknownPartitioning(partitions),
        EmissionType::Incremental,
        Boundedness::Bounded,
    )
}

impl<L: Leaf> DisplayAs for LeafExec<L> {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.leaf.name(), self.leaf)
    }
}

impl<L: Leaf> ExecutionPlan for LeafExec<L> {
    fn name(&self) -> &str {
        self.leaf.name()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.leaf.read(partition, self.properties.equivalence_properties().schema(), &context)
    }
}
