//! Operators of batch plans with one input: what our own ones have in common, and how they are planned.
//!
//! ```text
//! logical node (PlansUnary) ── planner ──> UnaryExec { operator (Unary), input } ── per partition ──> Unary::run
//! ```
//!
//! Invariant: an operator keeps the number of its input's partitions and promises no order. One that passes its rows on keeps
//! also what is known of their partitions and number.

use std::{fmt, marker::PhantomData, sync::Arc};

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::{
    catalog::Session,
    common::{DFSchema, Result, Statistics, tree_node::TreeNodeRecursion},
    execution::{SendableRecordBatchStream, TaskContext},
    logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNode, physical_planning_context::PhysicalPlanningContext},
    physical_expr::{EquivalenceProperties, OrderingRequirements, PhysicalExpr, expressions::Column},
    physical_plan::{
        DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
        statistics::{ChildStats, StatisticsArgs},
    },
    physical_planner::{ExtensionPlanner, PhysicalPlanner},
};
use headwater_connectors::leaf::bounded;
use headwater_engine::error::Error;

/// An operator; it is shown as it displays itself.
pub(crate) trait Unary: fmt::Debug + fmt::Display + Send + Sync + 'static {
    /// Name of the plan.
    fn name(&self) -> &'static str;

    /// Which rows must be in one partition.
    fn distribution(&self, _input: &Schema) -> Distribution {
        Distribution::UnspecifiedDistribution
    }

    /// In which order it wants each partition.
    fn ordering(&self) -> Option<OrderingRequirements> {
        None
    }

    /// Whether its rows are those of its input, each in its partition.
    fn passes_on(&self) -> bool {
        false
    }

    /// Runs over a partition of its input.
    fn run(
        &self,
        partition: usize,
        input: SendableRecordBatchStream,
        schema: &SchemaRef,
        context: &TaskContext,
    ) -> Result<SendableRecordBatchStream>;
}

/// An operator over its input.
#[derive(Debug)]
struct UnaryExec<U> {
    operator: Arc<U>,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl<U: Unary> UnaryExec<U> {
    fn new(operator: Arc<U>, input: Arc<dyn ExecutionPlan>, schema: SchemaRef) -> Self {
        let partitioning = input.output_partitioning();
        let properties = if operator.passes_on() {
            let nothing = EquivalenceProperties::new(schema);
            PlanProperties::new(nothing, partitioning.clone(), input.pipeline_behavior(), input.boundedness())
        } else {
            bounded(schema, partitioning.partition_count())
        };
        Self { operator, input, properties: Arc::new(properties) }
    }

    fn schema(&self) -> &SchemaRef {
        self.properties.equivalence_properties().schema()
    }
}

impl<U: Unary> DisplayAs for UnaryExec<U> {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operator.name(), self.operator)
    }
}

impl<U: Unary> ExecutionPlan for UnaryExec<U> {
    fn name(&self) -> &str {
        self.operator.name()
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

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![self.operator.distribution(&self.input.schema())]
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![self.operator.ordering()]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = only(&children, self.operator.name())?;
        Ok(Arc::new(Self::new(Arc::clone(&self.operator), input, Arc::clone(self.schema()))))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        self.operator.run(partition, input, self.schema(), &context)
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![if self.operator.passes_on() { ChildStats::At(partition) } else { ChildStats::Skip }]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        match inputs {
            [input] if self.operator.passes_on() => Ok(Arc::clone(input)),
            _ => Ok(Arc::new(Statistics::new_unknown(self.schema()))),
        }
    }
}

/// An operator above a plan.
pub(crate) fn above(operator: impl Unary, input: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    let schema = input.schema();
    Arc::new(UnaryExec::new(Arc::new(operator), input, schema))
}

/// A node of a logical plan that becomes an operator.
pub(crate) trait PlansUnary: UserDefinedLogicalNode + 'static {
    /// The operator.
    type Operator: Unary;

    /// The operator over such an input.
    fn operator(&self, input: &Schema) -> Result<Self::Operator>;

    /// The schema of its rows.
    fn output(&self, _input: &SchemaRef) -> SchemaRef {
        Arc::clone(self.schema().inner())
    }
}

/// What plans the nodes of a kind.
pub(crate) fn planner<N: PlansUnary>() -> Arc<dyn ExtensionPlanner + Send + Sync> {
    Arc::new(NodePlanner::<N>(PhantomData))
}

struct NodePlanner<N>(PhantomData<fn() -> N>);

#[async_trait]
impl<N: PlansUnary> ExtensionPlanner for NodePlanner<N> {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<N>() else { return Ok(None) };
        let input = only(inputs, node.name())?;
        let operator = Arc::new(node.operator(&input.schema())?);
        let schema = node.output(&input.schema());
        Ok(Some(Arc::new(UnaryExec::new(operator, input, schema))))
    }
}

fn only(inputs: &[Arc<dyn ExecutionPlan>], name: &str) -> Result<Arc<dyn ExecutionPlan>> {
    match inputs {
        [input] => Ok(Arc::clone(input)),
        _ => Err(Error::internal(format!("{name} has one input, not {}", inputs.len())).into()),
    }
}

/// The place of a column that an expression of a node is.
pub(crate) fn column_index(expr: &Expr, schema: &DFSchema) -> Result<usize> {
    match expr {
        Expr::Column(column) => schema.index_of_column(column),
        other => Err(Error::internal(format!("\"{other}\" is not a column")).into()),
    }
}

/// Rows that agree in these columns are in one partition.
pub(crate) fn by_columns(columns: &[usize], schema: &Schema) -> Distribution {
    if columns.is_empty() {
        return Distribution::SinglePartition;
    }
    let key = |index: &usize| Arc::new(Column::new(schema.field(*index).name(), *index)) as _;
    Distribution::KeyPartitioned(columns.iter().map(key).collect())
}
