//! A plan without inputs that ends: what such plans of batch queries have in common.
//!
//! Invariant: a leaf promises no order, and says how many partitions it has before any is read.

use std::{fmt, sync::Arc};

use arrow::datatypes::SchemaRef;
use datafusion::{
    common::{Result, Statistics, stats::Precision, tree_node::TreeNodeRecursion},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, ReplaceChildrenOptions,
        StatisticsArgs,
        execution_plan::{Boundedness, EmissionType},
        limit::LimitStream,
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet},
    },
};

/// What reads one kind of thing; it is shown as it displays itself.
pub trait Leaf: fmt::Debug + fmt::Display + Send + Sync + 'static {
    /// Name of the plan.
    fn name(&self) -> &'static str;

    /// The filter by which it leaves out what need not be read.
    fn predicate(&self) -> Option<&Arc<dyn PhysicalExpr>> {
        None
    }

    /// Bytes that it reads at most, where that is known before.
    fn bytes_max(&self) -> Option<u64> {
        None
    }

    /// Rows after which it may stop; more are cut off.
    fn limit(&self) -> Option<usize> {
        None
    }

    /// The same up to a number of rows, if it can stop before its end.
    fn limited(&self, _limit: Option<usize>) -> Option<Self>
    where
        Self: Sized,
    {
        None
    }

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

    /// What it reads.
    pub fn leaf(&self) -> &L {
        &self.leaf
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
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.leaf.predicate().map_or(Ok(TreeNodeRecursion::Continue), f)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.leaf.read(partition, self.properties.equivalence_properties().schema(), &context)?;
        // A leaf stops behind the batch that has the last row; a plan with a fetch stops behind that row.
        Ok(match self.leaf.limit() {
            Some(limit) => {
                let metrics = BaselineMetrics::new(&ExecutionPlanMetricsSet::new(), partition);
                Box::pin(LimitStream::new(rows, 0, Some(limit), metrics))
            }
            None => rows,
        })
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(self.properties.equivalence_properties().schema());
        if let Some(bytes) = self.leaf.bytes_max().filter(|_| args.partition().is_none()) {
            statistics.total_byte_size = Precision::Inexact(usize::try_from(bytes).unwrap_or(usize::MAX));
        }
        Ok(Arc::new(statistics))
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        let leaf = self.leaf.limited(limit)?;
        Some(Arc::new(Self { leaf, properties: Arc::clone(&self.properties) }))
    }

    fn fetch(&self) -> Option<usize> {
        self.leaf.limit()
    }
}
