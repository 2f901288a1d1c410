//! Window functions whose frame or offset differs from row to row, which DataFusion cannot say.
//!
//! ```text
//!  lag(x, n), nth_value(x, n), ntile(n)      the count is a column
//!  sum(x) OVER (.. ROWS n PRECEDING ..)      the bound is a column: a number of rows, of peer groups, or a value
//! ```
//!
//! The call becomes a window function of our own over whole partitions. Its arguments are those of the call, then what
//! [`Framed`] names by position: offsets, bounds, sort keys, the filter.
//!
//! Invariant: the rows of a partition come in the window's order; frames are found by it and never sort again.

mod evaluate;
mod frame;
mod unordered;

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use arrow::{compute::SortOptions, datatypes::FieldRef};
use datafusion::{
    common::Result as PlanResult,
    logical_expr::{
        AggregateUDF, PartitionEvaluator, Signature, Volatility, WindowUDF, WindowUDFImpl,
        function::{PartitionEvaluatorArgs, WindowUDFFieldArgs},
    },
};

pub use frame::{Edge, Frame, Units};
pub(crate) use unordered::unordered;

/// What is made of the rows of a frame, or of the partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum What {
    /// An aggregate of the first so many arguments, distinct or not.
    Aggregate(Arc<AggregateUDF>, Vec<FieldRef>, bool),
    /// `first_value(x)`
    First,
    /// `last_value(x)`
    Last,
    /// `nth_value(x, n)`
    Nth,
    /// `lag(x, n, default)`, or `lead` forwards
    Shift {
        /// Whether it looks ahead.
        forwards: bool,
    },
    /// `ntile(n)`
    Ntile,
}

/// A window function over whole partitions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Framed {
    /// What it computes.
    pub what: What,
    /// How many of the arguments belong to the call.
    pub own: usize,
    /// The frame of each row.
    pub frame: Frame,
    /// Position of the sort keys and how each sorts.
    pub keys: (usize, Vec<SortOptions>),
    /// Position of the condition that rows of the frame must meet.
    pub filter: Option<usize>,
    /// Whether NULLs are passed over.
    pub ignore_nulls: bool,
    /// The result.
    pub result: FieldRef,
}

impl Framed {
    /// The function a plan calls.
    pub fn function(self) -> Arc<WindowUDF> {
        let signature = Signature::variadic_any(Volatility::Immutable);
        Arc::new(WindowUDF::new_from_impl(FramedFunction { framed: self, signature }))
    }
}

#[derive(Debug, Clone)]
struct FramedFunction {
    framed: Framed,
    signature: Signature,
}

impl PartialEq for FramedFunction {
    fn eq(&self, other: &Self) -> bool {
        self.framed == other.framed
    }
}

impl Eq for FramedFunction {}

impl Hash for FramedFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.framed.hash(state);
    }
}

impl WindowUDFImpl for FramedFunction {
    fn name(&self) -> &str {
        match &self.framed.what {
            What::Aggregate(udaf, ..) => udaf.name(),
            What::First => "first_value",
            What::Last => "last_value",
            What::Nth => "nth_value",
            What::Shift { forwards: true } => "lead",
            What::Shift { forwards: false } => "lag",
            What::Ntile => "ntile",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn partition_evaluator(&self, _: PartitionEvaluatorArgs<'_>) -> PlanResult<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(evaluate::Evaluator::new(self.framed.clone())))
    }

    fn field(&self, args: WindowUDFFieldArgs<'_>) -> PlanResult<FieldRef> {
        Ok(Arc::new(self.framed.result.as_ref().clone().with_name(args.name())))
    }
}
