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

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::{
    common::{DFSchemaRef, Result},
    error::DataFusionError,
    execution::{SendableRecordBatchStream, TaskContext},
    logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore},
    physical_plan::stream::RecordBatchStreamAdapter,
};
use futures::StreamExt;
use headwater_engine::error::Error;

use crate::unary::{PlansUnary, Unary};

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

impl PlansUnary for StepNode {
    type Operator = Step;

    fn operator(&self, _: &Schema) -> Result<Step> {
        Ok(Step::default())
    }

    fn output(&self, input: &SchemaRef) -> SchemaRef {
        Arc::clone(input)
    }
}

/// Counts how often the step runs.
#[derive(Debug, Default)]
pub(crate) struct Step {
    runs: AtomicUsize,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {DEPTH_MAX} times")
    }
}

impl Unary for Step {
    fn name(&self) -> &'static str {
        "RecursionStepExec"
    }

    fn run(
        &self,
        partition: usize,
        input: SendableRecordBatchStream,
        schema: &SchemaRef,
        _: &TaskContext,
    ) -> Result<SendableRecordBatchStream> {
        let before = if partition == 0 { self.runs.fetch_add(1, Memory::Relaxed) } else { 0 };
        let checked = input.map(move |batch| match batch {
            Ok(batch) if before >= DEPTH_MAX && batch.num_rows() > 0 => {
                let message = format!("recursion depth limit exceeded ({DEPTH_MAX})");
                let hint = "bound the recursion by a condition in its step, or write sequence(..)";
                Err(Error::not_supported(message).with_hint(hint).into())
            }
            other => other,
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), checked)))
    }
}
