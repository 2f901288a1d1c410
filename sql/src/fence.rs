//! A node that hides from the physical optimizer what its input is known to be sorted and equal by.
//!
//! Of a UNION whose arms hold other constants, or columns that equal each other in one arm only, DataFusion's rules make
//! plans that its own check then refuses: a sort key that says nothing in one arm is left out there. Such a plan is made
//! once more with fences above unions and below sorts. A side of a join that is padded with NULLs has one always.
//!
//! Invariant: the rows that come in go out, in the order they came.

use std::{cmp::Ordering, fmt, sync::Arc};

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::{
    common::{
        DFSchemaRef, Result,
        tree_node::{Transformed, TreeNode},
    },
    error::DataFusionError,
    execution::{SendableRecordBatchStream, TaskContext},
    logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore},
};

use crate::unary::{PlansUnary, Unary};

/// What DataFusion's check of a plan says.
const UNSORTED: &str = "does not satisfy order requirements";

/// Whether planning failed because a plan is not sorted as it should be.
pub(crate) fn is_unsorted(error: &DataFusionError) -> bool {
    error.to_string().contains(UNSORTED)
}

/// The plan with fences above its unions and below its sorts.
pub(crate) fn fenced(plan: LogicalPlan) -> Result<LogicalPlan> {
    let fence = |input| LogicalPlan::Extension(Extension { node: Arc::new(FenceNode { input }) });
    let made = plan.transform_up(|node| {
        Ok(match node {
            LogicalPlan::Union(_) => Transformed::yes(fence(node)),
            LogicalPlan::Sort(mut sort) => {
                sort.input = Arc::new(fence(Arc::unwrap_or_clone(sort.input)));
                Transformed::yes(LogicalPlan::Sort(sort))
            }
            other => Transformed::no(other),
        })
    })?;
    Ok(made.data)
}

/// A fence.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct FenceNode {
    input: LogicalPlan,
}

impl PartialOrd for FenceNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.input.partial_cmp(&other.input)
    }
}

impl UserDefinedLogicalNodeCore for FenceNode {
    fn name(&self) -> &'static str {
        "Fence"
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
        write!(f, "Fence")
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        match inputs.into_iter().next() {
            Some(input) => Ok(Self { input }),
            None => Err(DataFusionError::Internal("a fence has an input".to_owned())),
        }
    }
}

impl PlansUnary for FenceNode {
    type Operator = Fence;

    fn operator(&self, _: &Schema) -> Result<Fence> {
        Ok(Fence)
    }

    fn output(&self, input: &SchemaRef) -> SchemaRef {
        Arc::clone(input)
    }
}

/// Passes its rows on.
#[derive(Debug)]
pub(crate) struct Fence;

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rows as they come")
    }
}

impl Unary for Fence {
    fn name(&self) -> &'static str {
        "FenceExec"
    }

    fn passes_on(&self) -> bool {
        true
    }

    fn run(
        &self,
        _: usize,
        input: SendableRecordBatchStream,
        _: &SchemaRef,
        _: &TaskContext,
    ) -> Result<SendableRecordBatchStream> {
        Ok(input)
    }
}
