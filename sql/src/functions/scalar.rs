//! Scalar functions from data: overloads with their kernels, as one DataFusion function per name.
//!
//! Invariant: a kernel only ever sees arguments of the types its signature names; NULL arguments are its own affair
//! (the loops of `kernel` return NULL for them, as Trino does unless a function says otherwise).

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef},
    compute::take,
    datatypes::{DataType, Field, FieldRef},
};
use chrono::{DateTime, Utc};
use datafusion::{
    common::{ScalarValue, config::ConfigOptions},
    error::{DataFusionError, Result as PlanResult},
    logical_expr::{
        ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature as PlanSignature,
        Volatility,
        simplify::{ExprSimplifyResult, SimplifyContext},
    },
};
use headwater_engine::error::{Error, Result};

use super::{
    column::{Column, Read},
    datetime::clock::StatementClock,
    signature::{Applied, Signature},
};

/// An evaluated argument: a column, or one value for all rows.
#[derive(Debug, Clone)]
pub struct Argument {
    /// The values; one only for a constant.
    pub array: ArrayRef,
    /// Whether the one value stands for all rows.
    pub constant: bool,
}

/// One call of a kernel on one batch.
#[derive(Debug)]
pub struct Call<'a> {
    /// The arguments, of the signature's types.
    pub arguments: Vec<Argument>,
    /// Rows to produce.
    pub rows: usize,
    /// The type to produce.
    pub result: &'a DataType,
    /// Settings of the session.
    pub config: &'a ConfigOptions,
    /// When the query began, where the planner knows it.
    pub now: Option<DateTime<Utc>>,
}

impl Call<'_> {
    /// An argument as a typed column.
    pub fn column<R: Read>(&self, index: usize) -> Result<Column<R>> {
        Column::new(self.argument(index)?)
    }

    /// An argument.
    pub fn argument(&self, index: usize) -> Result<&Argument> {
        self.arguments.get(index).ok_or_else(|| Error::internal(format!("argument {index} of a function is missing")))
    }

    /// An argument with one value per row, constants repeated.
    pub fn full(&self, index: usize) -> Result<ArrayRef> {
        let argument = self.argument(index)?;
        if !argument.constant || self.rows == argument.array.len() {
            return Ok(argument.array.clone());
        }
        Ok(take(&argument.array, &arrow::array::UInt32Array::from(vec![0; self.rows]), None)?)
    }
}

/// Computes a column from arguments.
pub type Kernel = Arc<dyn Fn(&Call<'_>) -> Result<ArrayRef> + Send + Sync>;

/// What a result type may depend on beyond the argument types.
#[derive(Debug)]
pub struct Typing<'a> {
    /// Types of the arguments after coercion.
    pub arguments: &'a [DataType],
    /// Constant arguments.
    pub constants: &'a [Option<&'a ScalarValue>],
}

impl Typing<'_> {
    /// A zone's name, which the type of the result depends on: it cannot come from a column.
    pub fn zone(&self, index: usize) -> Result<Option<&str>> {
        match self.constants.get(index) {
            Some(None) => Err(Error::not_supported("a time zone from a column is not supported")
                .with_hint("write the zone as a literal, or use CASE over the zones")),
            _ => Ok(self.text(index)),
        }
    }

    /// A constant text argument.
    pub fn text(&self, index: usize) -> Option<&str> {
        self.constants.get(index).copied().flatten()?.try_as_str().flatten()
    }
}

/// Decides a result type that the signature's text cannot.
pub type ResultType = fn(&Typing<'_>) -> Result<DataType>;

/// A signature with what computes it.
#[derive(Clone)]
pub struct Overload {
    /// The signature.
    pub signature: Signature,
    /// The result type where the text does not determine it.
    pub result: Option<ResultType>,
    /// The kernel.
    pub kernel: Kernel,
}

impl std::fmt::Debug for Overload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.signature.text)
    }
}

/// A scalar function.
#[derive(Debug, Clone)]
pub struct ScalarFunction {
    name: &'static str,
    aliases: Vec<String>,
    overloads: Vec<Overload>,
    signature: PlanSignature,
    /// Whether its value is that of the query's time, or of a batch's.
    is_clock: bool,
}

/// How a call is to be made.
#[derive(Debug, Clone)]
pub struct Resolution {
    /// Types the arguments have to be cast to.
    pub arguments: Vec<DataType>,
    /// Type of the result.
    pub result: DataType,
}

impl ScalarFunction {
    /// A function of its overloads.
    pub fn new(
        name: &'static str,
        aliases: &[&str],
        overloads: Vec<Overload>,
        volatility: Volatility,
        is_clock: bool,
    ) -> Self {
        let aliases = aliases.iter().map(|&alias| alias.to_owned()).collect();
        Self { name, aliases, overloads, signature: PlanSignature::user_defined(volatility), is_clock }
    }

    /// Its overloads.
    pub fn overloads(&self) -> &[Overload] {
        &self.overloads
    }

    /// Chooses the overload for argument types and says what to cast and what comes out.
    pub fn resolve(&self, arguments: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<Resolution> {
        let (overload, applied) = self.choose(arguments)?;
        let result = overload.result_type(&applied, constants)?;
        Ok(Resolution { arguments: applied.arguments, result })
    }

    fn choose(&self, arguments: &[DataType]) -> Result<(&Overload, Applied)> {
        let mut best: Option<(&Overload, Applied)> = None;
        for overload in &self.overloads {
            let Some(applied) = overload.signature.apply(arguments) else { continue };
            if best.as_ref().is_none_or(|(_, known)| applied.cost < known.cost) {
                best = Some((overload, applied));
            }
        }
        best.ok_or_else(|| unexpected(self.name, arguments, self.overloads.iter().map(|o| o.signature.text)))
    }
}

/// The error of a call that fits no signature.
pub fn unexpected<'a>(name: &str, arguments: &[DataType], texts: impl Iterator<Item = &'a str>) -> Error {
    let given = arguments.iter().map(crate::types::trino_type_name).collect::<Vec<_>>().join(", ");
    let expected = texts.map(|text| text.split(" -> ").next().unwrap_or(text)).collect::<Vec<_>>().join(", ");
    Error::user(
        "FUNCTION_NOT_FOUND",
        format!("unexpected parameters ({given}) for function {name}; expected: {expected}"),
    )
}

/// Whether a function says the query's time, or a batch's.
pub fn is_clock(function: &ScalarUDF) -> bool {
    function.inner().as_ref().downcast_ref::<ScalarFunction>().is_some_and(|function| function.is_clock)
}

impl Overload {
    fn result_type(&self, applied: &Applied, constants: &[Option<&ScalarValue>]) -> Result<DataType> {
        match self.result {
            Some(decide) => decide(&Typing { arguments: &applied.arguments, constants }),
            None => self.signature.result_type(&applied.bindings).ok_or_else(|| {
                Error::internal(format!("signature \"{}\" does not determine its result", self.signature.text))
            }),
        }
    }
}

impl PartialEq for ScalarFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for ScalarFunction {}

impl Hash for ScalarFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for ScalarFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &PlanSignature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> PlanResult<DataType> {
        Ok(self.resolve(arguments, &[])?.result)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> PlanResult<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let resolution = self.resolve(&types, args.scalar_arguments)?;
        Ok(Field::new(self.name, resolution.result, true).into())
    }

    fn coerce_types(&self, arguments: &[DataType]) -> PlanResult<Vec<DataType>> {
        Ok(self.choose(arguments)?.1.arguments)
    }

    /// Fixes the clock: a function of the query's time alone becomes its value.
    fn simplify(&self, args: Vec<Expr>, context: &SimplifyContext) -> PlanResult<ExprSimplifyResult> {
        let clock = context.config_options().extensions.get::<StatementClock>().map(|clock| clock.0);
        let (true, Some(now)) = (args.is_empty(), clock) else {
            return Ok(ExprSimplifyResult::Original(args));
        };
        if !self.is_clock {
            return Ok(ExprSimplifyResult::Original(args));
        }
        let resolution = self.resolve(&[], &[])?;
        let (overload, _) = self.choose(&[])?;
        let call = Call {
            arguments: Vec::new(),
            rows: 1,
            result: &resolution.result,
            config: context.config_options().as_ref(),
            now: Some(now),
        };
        let value = ScalarValue::try_from_array(&(overload.kernel)(&call)?, 0)?;
        Ok(ExprSimplifyResult::Simplified(Expr::Literal(value, None)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> PlanResult<ColumnarValue> {
        let types: Vec<DataType> = args.args.iter().map(ColumnarValue::data_type).collect();
        let (overload, _) = self.choose(&types)?;
        let fold = (self.is_clock || self.signature.volatility != Volatility::Volatile)
            && args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if fold { 1 } else { args.number_rows };
        let arguments = args.args.iter().map(argument).collect::<PlanResult<Vec<_>>>()?;
        let call = Call {
            arguments,
            rows,
            result: args.return_field.data_type(),
            config: args.config_options.as_ref(),
            now: args.config_options.extensions.get::<StatementClock>().map(|clock| clock.0),
        };
        let array = (overload.kernel)(&call).map_err(DataFusionError::from)?;
        if fold {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
        }
        Ok(ColumnarValue::Array(array))
    }
}

fn argument(value: &ColumnarValue) -> PlanResult<Argument> {
    Ok(match value {
        ColumnarValue::Array(array) => Argument { array: array.clone(), constant: false },
        ColumnarValue::Scalar(scalar) => Argument { array: scalar.to_array()?, constant: true },
    })
}
