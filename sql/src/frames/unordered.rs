//! `min` and `max` over a window, of whose order nothing is said.
//!
//! DataFusion takes a running maximum for sorted. Where its first rows have no value yet they are NULL, and those would have
//! to come last: a sort by it was left out, and LIMIT then kept other rows.
//!
//! Invariant: everything but the promise of an order is the function's own.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::{
    common::{Result, ScalarValue},
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, ReversedUDAF, SetMonotonicity, Signature,
        function::{AccumulatorArgs, StateFieldsArgs},
        utils::AggregateOrderSensitivity,
    },
};

/// The function without its promise, if it makes one about values that may be NULL.
pub(crate) fn unordered(function: Arc<AggregateUDF>, result: &DataType) -> Arc<AggregateUDF> {
    let promises = function.inner().set_monotonicity(result) != SetMonotonicity::NotMonotonic;
    if promises && function.is_nullable() { Arc::new(Unordered(function).into()) } else { function }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Unordered(Arc<AggregateUDF>);

impl AggregateUDFImpl for Unordered {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        self.0.return_type(args)
    }

    fn return_field(&self, args: &[FieldRef]) -> Result<FieldRef> {
        self.0.return_field(args)
    }

    fn is_nullable(&self) -> bool {
        self.0.is_nullable()
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        self.0.accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        self.0.create_sliding_accumulator(args)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        self.0.state_fields(args)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.0.inner().order_sensitivity()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.0.reverse_udf()
    }

    fn coerce_types(&self, args: &[DataType]) -> Result<Vec<DataType>> {
        self.0.coerce_types(args)
    }

    fn default_value(&self, result: &DataType) -> Result<ScalarValue> {
        self.0.default_value(result)
    }
}
