//! Lambdas: how a function takes one, and how the binder hands it over.
//!
//! ```text
//!  transform(a, e -> e + x)
//!    binder: asks Higher::parameters for the types of `e`, binds the body with `e` in scope,
//!            finds the columns it captures (`x`), compiles the body over (e, x)
//!    plan:   a scalar call  higher(a, x)  whose function holds the compiled lambda
//!    run:    Higher::invoke gets `a` and a LambdaCall that evaluates the body over many elements at once
//! ```
//!
//! Invariant: a lambda is evaluated over a whole column of elements, never once per element.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array},
    compute::take,
    datatypes::{DataType, Field, FieldRef, Schema, SchemaRef},
};
use datafusion::{
    error::{DataFusionError, Result as PlanResult},
    logical_expr::{
        ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature as PlanSignature,
    },
    physical_plan::PhysicalExpr,
};
use headwater_engine::error::{Error, Result};

/// What is known of an argument while a call is bound, from left to right.
#[derive(Debug, Clone, PartialEq)]
pub enum ArgumentType {
    /// A value of a type.
    Value(DataType),
    /// A lambda of so many parameters; its result type once its body is bound.
    Lambda(usize, Option<DataType>),
}

impl ArgumentType {
    /// The type of a value, or of a lambda's result.
    pub fn data_type(&self) -> Option<&DataType> {
        match self {
            Self::Value(data_type) => Some(data_type),
            Self::Lambda(_, result) => result.as_ref(),
        }
    }
}

/// A function that takes lambdas.
pub trait Higher: fmt::Debug + Send + Sync {
    /// Its name, in lower case.
    fn name(&self) -> &'static str;

    /// The types values are cast to before anything else is bound; the types given are returned where they fit.
    /// An error is `FUNCTION_NOT_FOUND`.
    fn coerce(&self, arguments: &[ArgumentType]) -> Result<Vec<ArgumentType>> {
        Ok(arguments.to_vec())
    }

    /// Types of the parameters of the lambda at `index`; lambdas before it have their result types.
    fn parameters(&self, index: usize, arguments: &[ArgumentType]) -> Result<Vec<DataType>>;

    /// The type the result of the lambda at `index` must have, if it is fixed (`boolean` of a filter, the state of a
    /// reduction); the binder coerces to it or refuses.
    fn lambda_result(&self, _index: usize, _arguments: &[ArgumentType]) -> Option<DataType> {
        None
    }

    /// Type of the call.
    fn result(&self, arguments: &[ArgumentType]) -> Result<DataType>;

    /// Computes the call for `rows` rows.
    fn invoke(&self, arguments: &[HigherArgument<'_>], rows: usize, result: &DataType) -> Result<ArrayRef>;
}

/// An argument while a call runs.
#[derive(Debug)]
pub enum HigherArgument<'a> {
    /// Values, one per row.
    Value(ArrayRef),
    /// A lambda with what it captured.
    Lambda(LambdaCall<'a>),
}

impl HigherArgument<'_> {
    /// The values.
    pub fn value(&self) -> Result<&ArrayRef> {
        match self {
            Self::Value(array) => Ok(array),
            Self::Lambda(_) => Err(Error::internal("expected a value, got a lambda")),
        }
    }

    /// The lambda.
    pub fn lambda(&self) -> Result<&LambdaCall<'_>> {
        match self {
            Self::Lambda(call) => Ok(call),
            Self::Value(_) => Err(Error::internal("expected a lambda, got a value")),
        }
    }
}

/// A compiled expression over named inputs.
#[derive(Debug, Clone)]
pub struct Closed {
    /// Inputs: parameters first, then captured columns.
    pub inputs: SchemaRef,
    /// How many of the inputs are parameters.
    pub parameters: usize,
    /// The body.
    pub body: Arc<dyn PhysicalExpr>,
    /// What the body was planned from, its inputs named by their places: two are the same when this and their inputs'
    /// types are.
    pub planned_from: Expr,
    /// Whether it gives something else each time.
    pub is_volatile: bool,
}

impl PartialEq for Closed {
    fn eq(&self, other: &Self) -> bool {
        let types =
            |closed: &Self| closed.inputs.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
        self.planned_from == other.planned_from && self.parameters == other.parameters && types(self) == types(other)
    }
}

impl Eq for Closed {}

impl Hash for Closed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.planned_from.hash(state);
        self.parameters.hash(state);
    }
}

impl Closed {
    /// Evaluates the body over columns of equal length.
    pub fn evaluate(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<ArrayRef> {
        let columns = self
            .inputs
            .fields()
            .iter()
            .zip(columns)
            .map(|(field, column)| fit(field, column))
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.inputs.clone(), columns, &options)?;
        Ok(self.body.evaluate(&batch)?.into_array(rows)?)
    }
}

/// Field names inside nested types may differ from the declared ones; the values are the same.
fn fit(field: &Field, column: ArrayRef) -> Result<ArrayRef> {
    if column.data_type() == field.data_type() {
        return Ok(column);
    }
    Ok(arrow::compute::cast(&column, field.data_type())?)
}

/// A lambda in a running call.
#[derive(Debug)]
pub struct LambdaCall<'a> {
    closed: &'a Closed,
    captures: Vec<ArrayRef>,
}

impl LambdaCall<'_> {
    /// Evaluates the body once for each element: `parameters` are columns of elements, and `rows_of` says which row
    /// of the call each element belongs to.
    pub fn evaluate(&self, parameters: &[ArrayRef], rows_of: &UInt32Array) -> Result<ArrayRef> {
        let mut columns: Vec<ArrayRef> = parameters.to_vec();
        for capture in &self.captures {
            columns.push(take(capture, rows_of, None)?);
        }
        self.closed.evaluate(columns, rows_of.len())
    }

    /// Type of the results.
    pub fn result(&self) -> Result<DataType> {
        Ok(self.closed.body.data_type(&self.closed.inputs)?)
    }
}

/// A position of a call: a value argument, or a lambda.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The next value argument of the plan's call.
    Value,
    /// A lambda; the captured columns follow the values in the plan's call, in the order of the lambdas.
    Lambda(Closed),
}

/// A bound call of a higher function, as a scalar function of its values and captured columns.
#[derive(Debug, Clone)]
pub struct HigherCall {
    function: Arc<dyn Higher>,
    slots: Vec<Slot>,
    result: DataType,
    signature: PlanSignature,
}

impl HigherCall {
    /// A call from its slots and the type it gives.
    pub fn new(function: Arc<dyn Higher>, slots: Vec<Slot>, result: DataType) -> Self {
        let is_volatile = slots.iter().any(|slot| matches!(slot, Slot::Lambda(closed) if closed.is_volatile));
        Self { function, slots, result, signature: crate::kernels::any_arguments(is_volatile) }
    }

    fn arguments(&self, values: &[ArrayRef]) -> Result<Vec<HigherArgument<'_>>> {
        let mut values = values.iter();
        let count = self.slots.iter().filter(|slot| matches!(slot, Slot::Value)).count();
        let mut plain = values.by_ref().take(count).cloned().collect::<Vec<_>>().into_iter();
        self.slots
            .iter()
            .map(|slot| match slot {
                Slot::Value => plain
                    .next()
                    .map(HigherArgument::Value)
                    .ok_or_else(|| Error::internal("a call with a lambda has too few values")),
                Slot::Lambda(closed) => {
                    let captured = closed.inputs.fields().len() - closed.parameters;
                    let captures = values.by_ref().take(captured).cloned().collect();
                    Ok(HigherArgument::Lambda(LambdaCall { closed, captures }))
                }
            })
            .collect()
    }
}

impl PartialEq for HigherCall {
    fn eq(&self, other: &Self) -> bool {
        self.function.name() == other.function.name() && self.slots == other.slots && self.result == other.result
    }
}

impl Eq for HigherCall {}

impl Hash for HigherCall {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name().hash(state);
        self.slots.hash(state);
    }
}

impl ScalarUDFImpl for HigherCall {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn signature(&self) -> &PlanSignature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> PlanResult<DataType> {
        Ok(self.result.clone())
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> PlanResult<FieldRef> {
        Ok(Field::new(self.function.name(), self.result.clone(), true).into())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> PlanResult<ColumnarValue> {
        let rows = args.number_rows;
        let values = args.args.iter().map(|value| value.clone().into_array(rows)).collect::<PlanResult<Vec<_>>>()?;
        let arguments = self.arguments(&values)?;
        let array = self.function.invoke(&arguments, rows, &self.result).map_err(DataFusionError::from)?;
        Ok(ColumnarValue::Array(array))
    }
}

/// Makes a schema for a closed expression.
pub fn inputs(fields: impl IntoIterator<Item = (String, DataType)>) -> SchemaRef {
    let fields: Vec<Field> = fields.into_iter().map(|(name, data_type)| Field::new(name, data_type, true)).collect();
    Arc::new(Schema::new(fields))
}
