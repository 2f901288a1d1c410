//! Runs MATCH_RECOGNIZE over sorted input, a partition at a time.
//!
//! Invariant: one partition is in memory at a time, and it is reserved from the memory limit.

use std::{fmt, sync::Arc};

use arrow::{
    array::RecordBatch,
    compute::concat_batches,
    datatypes::SchemaRef,
    row::{OwnedRow, RowConverter, SortField},
};
use datafusion::{
    common::{Result, tree_node::TreeNodeRecursion},
    execution::{
        SendableRecordBatchStream, TaskContext,
        memory_pool::{MemoryConsumer, MemoryReservation},
    },
    physical_expr::{
        EquivalenceProperties, LexOrdering, OrderingRequirements, PhysicalExpr, PhysicalSortExpr, expressions::Column,
    },
    physical_plan::{
        DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties, Partitioning,
        PlanProperties,
        execution_plan::{Boundedness, EmissionType},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt, TryStreamExt};
use headwater_engine::error::Error;

use super::{MatchSpec, measures};

/// MATCH_RECOGNIZE of a batch plan.
#[derive(Debug)]
pub struct MatchExec {
    input: Arc<dyn ExecutionPlan>,
    partition_by: Vec<usize>,
    sorts: Vec<PhysicalSortExpr>,
    spec: Arc<MatchSpec>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl MatchExec {
    /// Finds matches in `input`, which is sorted by partitions, then by order: by all of `sorts`.
    pub fn new(
        input: Arc<dyn ExecutionPlan>,
        partition_by: Vec<usize>,
        sorts: Vec<PhysicalSortExpr>,
        spec: Arc<MatchSpec>,
        schema: SchemaRef,
    ) -> Self {
        let partitions = input.output_partitioning().partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { input, partition_by, sorts, spec, schema, properties: Arc::new(properties) }
    }
}

impl DisplayAs for MatchExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MatchExec: pattern=({})", self.spec.text)
    }
}

impl ExecutionPlan for MatchExec {
    fn name(&self) -> &'static str {
        "MatchExec"
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
        if self.partition_by.is_empty() {
            return vec![Distribution::SinglePartition];
        }
        let schema = self.input.schema();
        let key = |index: &usize| Arc::new(Column::new(schema.field(*index).name(), *index)) as _;
        vec![Distribution::KeyPartitioned(self.partition_by.iter().map(key).collect())]
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![LexOrdering::new(self.sorts.iter().cloned()).map(OrderingRequirements::from)]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.into_iter().next().ok_or_else(|| Error::internal("MATCH_RECOGNIZE has an input"))?;
        let (partition_by, sorts) = (self.partition_by.clone(), self.sorts.clone());
        Ok(Arc::new(Self::new(input, partition_by, sorts, Arc::clone(&self.spec), Arc::clone(&self.schema))))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let schema = self.input.schema();
        let fields = self.partition_by.iter().map(|index| SortField::new(schema.field(*index).data_type().clone()));
        let state = Partitions {
            input,
            keys: self.partition_by.clone(),
            converter: RowConverter::new(fields.collect())?,
            pending: Vec::new(),
            current: None,
            memory: MemoryConsumer::new("MATCH_RECOGNIZE").register(context.memory_pool()),
            spec: Arc::clone(&self.spec),
            schema: Arc::clone(&self.schema),
        };
        let stream = futures::stream::try_unfold(Some(state), |state| async move {
            let Some(mut state) = state else { return Ok(None) };
            let (batches, done) = state.next().await?;
            let next = if done { None } else { Some(state) };
            Ok::<_, datafusion::error::DataFusionError>(Some((futures::stream::iter(batches).map(Ok), next)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream.try_flatten())))
    }
}

/// Rows gathered into partitions.
struct Partitions {
    input: SendableRecordBatchStream,
    keys: Vec<usize>,
    converter: RowConverter,
    pending: Vec<RecordBatch>,
    current: Option<OwnedRow>,
    memory: MemoryReservation,
    spec: Arc<MatchSpec>,
    schema: SchemaRef,
}

impl Partitions {
    /// What the partitions give that end with the next batch; and whether it was the last one.
    async fn next(&mut self) -> Result<(Vec<RecordBatch>, bool)> {
        let Some(batch) = self.input.try_next().await? else { return Ok((self.finished()?, true)) };
        let mut out = Vec::new();
        let mut start = 0;
        if !self.keys.is_empty() {
            let columns: Vec<_> = self.keys.iter().map(|key| Arc::clone(batch.column(*key))).collect();
            let rows = self.converter.convert_columns(&columns)?;
            for row in 0..batch.num_rows() {
                let key = rows.row(row);
                if self.current.as_ref().is_some_and(|current| current.row() == key) {
                    continue;
                }
                if row > start {
                    self.keep(batch.slice(start, row - start))?;
                }
                out.extend(self.finished()?);
                self.current = Some(key.owned());
                start = row;
            }
        }
        self.keep(batch.slice(start, batch.num_rows() - start))?;
        Ok((out, false))
    }

    fn keep(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() > 0 {
            self.memory.try_grow(batch.get_array_memory_size())?;
            self.pending.push(batch);
        }
        Ok(())
    }

    fn finished(&mut self) -> Result<Vec<RecordBatch>> {
        if self.pending.is_empty() {
            return Ok(Vec::new());
        }
        let whole = concat_batches(&self.input.schema(), &self.pending)?;
        self.pending.clear();
        let made = measures::partition(&self.spec, &whole, &self.schema);
        self.memory.free();
        Ok(made?)
    }
}
