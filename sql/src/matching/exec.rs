//! Runs MATCH_RECOGNIZE over sorted input, a partition at a time.
//!
//! Invariant: one partition is in memory at a time, and it is reserved from the memory limit.

use std::{fmt, sync::Arc};

use arrow::{
    array::RecordBatch,
    compute::concat_batches,
    datatypes::{Schema, SchemaRef},
    row::{OwnedRow, RowConverter, SortField},
};
use datafusion::{
    common::Result,
    execution::{
        SendableRecordBatchStream, TaskContext,
        memory_pool::{MemoryConsumer, MemoryReservation},
    },
    physical_expr::{LexOrdering, OrderingRequirements, PhysicalSortExpr},
    physical_plan::{Distribution, stream::RecordBatchStreamAdapter},
};
use futures::{StreamExt, TryStreamExt};

use super::{MatchSpec, measures};
use crate::unary::{Unary, by_columns};

/// MATCH_RECOGNIZE of a batch plan, over input that is sorted by partitions, then by order: by all of `sorts`.
#[derive(Debug)]
pub(crate) struct Match {
    pub(super) partition_by: Vec<usize>,
    pub(super) sorts: Vec<PhysicalSortExpr>,
    pub(super) spec: Arc<MatchSpec>,
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pattern=({})", self.spec.text)
    }
}

impl Unary for Match {
    fn name(&self) -> &'static str {
        "MatchExec"
    }

    fn distribution(&self, input: &Schema) -> Distribution {
        by_columns(&self.partition_by, input)
    }

    fn ordering(&self) -> Option<OrderingRequirements> {
        LexOrdering::new(self.sorts.iter().cloned()).map(OrderingRequirements::from)
    }

    fn run(
        &self,
        _: usize,
        input: SendableRecordBatchStream,
        schema: &SchemaRef,
        context: &TaskContext,
    ) -> Result<SendableRecordBatchStream> {
        let of_input = input.schema();
        let fields = self.partition_by.iter().map(|index| SortField::new(of_input.field(*index).data_type().clone()));
        let state = Partitions {
            input,
            keys: self.partition_by.clone(),
            converter: RowConverter::new(fields.collect())?,
            pending: Vec::new(),
            current: None,
            memory: MemoryConsumer::new("MATCH_RECOGNIZE").register(context.memory_pool()),
            spec: Arc::clone(&self.spec),
            schema: Arc::clone(schema),
        };
        let stream = futures::stream::try_unfold(Some(state), |state| async move {
            let Some(mut state) = state else { return Ok(None) };
            let (batches, done) = state.next().await?;
            let next = if done { None } else { Some(state) };
            Ok::<_, datafusion::error::DataFusionError>(Some((futures::stream::iter(batches).map(Ok), next)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), stream.try_flatten())))
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
