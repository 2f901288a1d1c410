//! Trino's operators as kernels over Arrow arrays, and how a plan calls them.
//!
//! Where DataFusion's own expression means the same, the binder uses that one, since its optimizer knows it; everything
//! else is an [`Op`]: arithmetic with overflow, casts, subscripts, comparisons of nested values, TRY.
//!
//! Invariant: an operator's result type is fixed when it is bound, and its kernel returns exactly that Arrow type.

use std::{
    hash::{Hash, Hasher},
    mem::discriminant,
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef, BooleanArray, new_empty_array, new_null_array},
    datatypes::{DataType, Field, FieldRef},
};
use datafusion::{
    common::ScalarValue,
    error::{DataFusionError, Result as PlanResult},
    logical_expr::{
        ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
        Volatility, expr::ScalarFunction,
    },
};
use headwater_engine::{
    connector::TextLength,
    error::{Error, Result},
};

use crate::{functions::lambda::Closed, types::Type};

pub mod arithmetic;
pub mod cast;
pub mod collected;
pub mod compare;
pub mod decimal;
pub mod format;
pub mod interval;
pub mod ip;
pub mod json;
pub mod like;
mod names;
pub mod nested;
pub mod parse;
pub mod render;
pub mod rows;
pub mod stored;
pub mod tdigest;
pub mod time;
pub mod time_tz;
pub mod totals;
pub mod zoned;

pub use arithmetic::Arithmetic;
pub use compare::Comparison;

/// An operator with the types it was bound for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Op {
    /// `left op right`
    Arithmetic(Arithmetic, Type, Type),
    /// `-value`
    Negate(Type),
    /// A comparison of two values of one type.
    Compare(Comparison, Type),
    /// `CAST`, or `TRY_CAST` when `safe`.
    Cast {
        /// Type of the value.
        from: Type,
        /// Type wanted.
        to: Type,
        /// NULL in place of an error.
        safe: bool,
    },
    /// `array[index]`
    Subscript,
    /// `map[key]`, of the key's type
    MapSubscript(Type),
    /// A field of a row by its position.
    Field(usize),
    /// `ROW(..)`
    Row,
    /// `ARRAY[..]`
    Array,
    /// `||` of values of one type
    Concat(Type),
    /// Zips arrays and maps into one array of rows, for UNNEST.
    Zip(nested::ZipShape),
    /// An expression whose failing rows are NULL.
    Try(Closed),
    /// An expression over JSON_VALUE's text, whose failure is JSON_VALUE's.
    Fit(Closed),
    /// `left AND/OR right`, where the right side is only evaluated for rows it decides; `true` is AND.
    Lazy(Closed, bool),
    /// `value LIKE pattern [ESCAPE ..]`
    Like,
    /// A part of a `time with time zone`.
    TimeTzPart(time_tz::Part),
    /// A `time with time zone` at another offset in minutes.
    TimeTzShift(i64),
    /// A `time with time zone` moved by an interval; `true` forwards.
    TimeTzMove(bool),
    /// The same instants shown in another zone.
    AtTimeZone(Type),
    /// Instants beside the names of their zones; with `true`, what clocks in those zones show.
    WithZones(bool),
    /// The zone that a text names.
    ZoneOfText(zoned::Notation),
    /// A function called zone by zone for the values with zones at a position.
    PerZone(Arc<ScalarUDF>, usize),
    /// Values with zones moved by an interval; the operator is that of one zone.
    MovedPerZone(Box<Op>),
    /// A value of a subquery that must have at most one row: fails where the count is above one.
    AtMostOne,
    /// What an aggregate makes of collected values.
    Collected(collected::Collected),
    /// A step of a sum, a mean or an extreme.
    Total(totals::Total),
    /// `format(..)` of values of these types.
    Format(Vec<Type>),
    /// `GREATEST` (`true`) or `LEAST` of the arguments; NULL if one is.
    Extreme(bool),
    /// `value IN (array)`; a NULL array is an empty one.
    Among,
    /// `value IN (subquery)` by what a mark join found.
    Marked,
    /// `array || element` (`true`) or `element || array`
    Appended(bool),
    /// A text as a column of a table with a length holds it.
    Stored(TextLength),
    /// The same, but a text that is too long stays as it is.
    Cut(TextLength),
    /// A value of the column of this name, which has no NULL.
    Present(String),
    /// 1, 0 or NULL as a boolean; keeps a lazy CASE from being rewritten as AND and OR.
    Truth,
}

impl Op {
    /// Whether it is bound with types, and NULL where an argument is: a planner that asks what becomes of a filter where a
    /// column has no value gives that column no type either.
    fn is_strict(&self) -> bool {
        match self {
            Self::Arithmetic(_, left, right) => *left != Type::Unknown && *right != Type::Unknown,
            Self::Compare(Comparison::Distinct | Comparison::NotDistinct, _) => false,
            Self::Negate(of) | Self::Concat(of) | Self::Compare(_, of) | Self::Cast { from: of, .. } => {
                *of != Type::Unknown
            }
            Self::Subscript | Self::MapSubscript(_) | Self::Field(_) | Self::Like | Self::AtTimeZone(_) => true,
            Self::Truth | Self::TimeTzPart(_) | Self::TimeTzShift(_) | Self::TimeTzMove(_) => true,
            _ => false,
        }
    }

    /// Whether it is bound with types and gives something for NULL, so that it has no answer for such a planner.
    fn needs_types(&self) -> bool {
        match self {
            Self::Marked | Self::Appended(_) => true,
            Self::Format(types) => !types.contains(&Type::Unknown),
            _ => false,
        }
    }

    /// Whether arguments have the types it is bound with: what such a planner asks with has whatever type its functions
    /// make of no type.
    fn takes(&self, arrays: &[ArrayRef]) -> bool {
        let is = |array: &ArrayRef, of: &Type| {
            let found = array.data_type();
            *of == Type::Unknown || *found == DataType::Null || discriminant(found) == discriminant(&of.to_arrow())
        };
        match (self, arrays) {
            (Self::Arithmetic(_, left, right), [a, b]) => is(a, left) && is(b, right),
            (Self::Negate(of) | Self::Concat(of) | Self::Compare(_, of) | Self::Cast { from: of, .. }, all) => {
                all.iter().all(|array| is(array, of))
            }
            _ => true,
        }
    }

    /// Whether evaluating it can fail for a row.
    pub fn can_fail(&self) -> bool {
        match self {
            // Only a time that no row has is out of range; a bound on event times stays one the planner sees.
            Self::Arithmetic(_, Type::Timestamp(_), Type::IntervalDaySecond)
            | Self::Arithmetic(_, Type::IntervalDaySecond, Type::Timestamp(_)) => false,
            Self::Arithmetic(_, left, right) => {
                !matches!(left, Type::Double | Type::Real) || !matches!(right, Type::Double | Type::Real)
            }
            Self::Cast { safe, from, to } => !safe && cast::can_fail(from, to),
            Self::Negate(of) => of.is_integer(),
            Self::Format(_)
            | Self::Subscript
            | Self::MapSubscript(_)
            | Self::AtMostOne
            | Self::WithZones(_)
            | Self::PerZone(..)
            | Self::MovedPerZone(_)
            | Self::Fit(_)
            | Self::Lazy(..)
            | Self::Stored(_)
            | Self::Present(_)
            | Self::Total(_) => true,
            Self::Compare(..)
            | Self::Cut(_)
            | Self::Field(_)
            | Self::Row
            | Self::Array
            | Self::Concat(_)
            | Self::Zip(_)
            | Self::Try(_)
            | Self::Like
            | Self::AtTimeZone(_)
            | Self::TimeTzPart(_)
            | Self::TimeTzShift(_)
            | Self::TimeTzMove(_)
            | Self::ZoneOfText(_)
            | Self::Among
            | Self::Marked
            | Self::Appended(_)
            | Self::Collected(_)
            | Self::Extreme(_)
            | Self::Truth => false,
        }
    }

    /// Whether an argument is given to the kernel with a value for every row, constants too.
    fn repeats(&self, argument: &ColumnarValue) -> bool {
        matches!(argument, ColumnarValue::Array(_)) || !matches!(self, Self::Like)
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Arithmetic(kind, ..) => kind.symbol(),
            Self::Negate(_) => "negate",
            Self::Compare(kind, _) => kind.symbol(),
            Self::Cast { safe: false, .. } => "trino_cast",
            Self::Cast { safe: true, .. } => "trino_try_cast",
            Self::Subscript | Self::MapSubscript(_) => "subscript",
            Self::Field(_) => "field",
            Self::Row => "row",
            Self::Array => "array",
            Self::Concat(_) | Self::Appended(_) => "||",
            Self::Zip(_) => "unnest_zip",
            Self::Try(_) => "try",
            Self::Fit(_) => "fit",
            Self::Lazy(_, true) => "lazy_and",
            Self::Lazy(_, false) => "lazy_or",
            Self::Like => "like",
            Self::AtTimeZone(_) | Self::TimeTzShift(_) | Self::WithZones(_) => "at_time_zone",
            Self::ZoneOfText(_) => "zone_of_text",
            Self::PerZone(..) => "per_zone",
            Self::MovedPerZone(_) => "moved_per_zone",
            Self::TimeTzPart(_) => "time_part",
            Self::TimeTzMove(_) => "time_move",
            Self::AtMostOne => "at_most_one",
            Self::Among => "among",
            Self::Marked => "marked",
            Self::Format(_) => "format",
            Self::Collected(_) => "collected",
            Self::Total(_) => "total",
            Self::Extreme(true) => "greatest",
            Self::Extreme(false) => "least",
            Self::Stored(_) => "stored",
            Self::Cut(_) => "cut",
            Self::Present(_) => "present",
            Self::Truth => "truth",
        }
    }

    fn evaluate(&self, args: &[ArrayRef], rows: usize, result: &Type) -> Result<ArrayRef> {
        match self {
            Self::Arithmetic(kind, left, right) => {
                let (a, b) = two(args)?;
                arithmetic::evaluate(*kind, (a, left), (b, right), result)
            }
            Self::Negate(of) => arithmetic::negate(one(args)?, of),
            Self::Compare(kind, of) => {
                let (a, b) = two(args)?;
                compare::evaluate(*kind, a, b, of)
            }
            Self::Cast { from, to, safe } => cast::evaluate(one(args)?, from, to, *safe),
            Self::Subscript => {
                let (a, b) = two(args)?;
                nested::subscript(a, b)
            }
            Self::MapSubscript(key) => {
                let (a, b) = two(args)?;
                nested::map_subscript(a, b, key)
            }
            Self::Field(index) => nested::field(one(args)?, *index),
            Self::Row => nested::row(args, rows, &result.to_arrow()),
            Self::Array => nested::array(args, rows, &result.to_arrow()),
            Self::Concat(of) => {
                let (a, b) = two(args)?;
                nested::concat(a, b, of)
            }
            Self::Zip(shape) => nested::zip(args, rows, shape, result),
            Self::Try(closed) => rows::try_rows(closed, args, rows, &result.to_arrow()),
            Self::Fit(closed) => rows::fitted(closed, args, rows),
            Self::Lazy(closed, and) => rows::lazy(closed, args, rows, *and),
            Self::Like => like::evaluate(args, rows),
            Self::TimeTzPart(part) => time_tz::part(one(args)?, *part),
            Self::TimeTzShift(offset) => time_tz::shift(one(args)?, *offset),
            Self::TimeTzMove(forwards) => {
                let (value, span) = two(args)?;
                time_tz::moved(value, span, *forwards)
            }
            Self::AtTimeZone(from) => cast::evaluate(one(args)?, from, result, false),
            Self::WithZones(local) => {
                let (values, zones) = two(args)?;
                zoned::with_zones(values, zones, *local, result)
            }
            Self::ZoneOfText(notation) => zoned::zones_of_texts(*notation, args),
            Self::PerZone(udf, at) => zoned::invoke(udf, *at, args, result),
            Self::MovedPerZone(op) => {
                let (left, right) = two(args)?;
                match (zoned::precision(op, left), zoned::precision(op, right)) {
                    (Some(p), _) => zoned::moved(op, (left, p), right, true, result),
                    (_, Some(p)) => zoned::moved(op, (right, p), left, false, result),
                    _ => Err(Error::internal("one side has zones")),
                }
            }
            Self::AtMostOne => {
                let (value, count) = two(args)?;
                rows::at_most_one(value, count)
            }
            Self::Collected(kind) => collected::evaluate(*kind, args, result),
            Self::Total(kind) => totals::evaluate(*kind, args, result),
            Self::Format(types) => format::evaluate(args, types, rows),
            Self::Extreme(greatest) => compare::extreme(args, rows, *greatest),
            Self::Among => two(args).and_then(|(a, b)| nested::among(a, b)),
            Self::Marked => nested::marked(args),
            Self::Appended(at_end) => nested::appended(args, *at_end),
            Self::Stored(length) => stored::evaluate(one(args)?, length),
            Self::Cut(length) => stored::cut(one(args)?, length),
            Self::Present(column) => stored::present(one(args)?, column),
            Self::Truth => Ok(arrow::compute::cast(one(args)?, &DataType::Boolean)?),
        }
    }
}

fn one(args: &[ArrayRef]) -> Result<&ArrayRef> {
    args.first().ok_or_else(|| Error::internal("an operator is missing its argument"))
}

fn two(args: &[ArrayRef]) -> Result<(&ArrayRef, &ArrayRef)> {
    match args {
        [a, b, ..] => Ok((a, b)),
        _ => Err(Error::internal("an operator is missing an argument")),
    }
}

/// An operator as a scalar function of a plan.
#[derive(Debug, Clone)]
pub struct OpCall {
    /// The operator.
    pub op: Op,
    /// The type of its result.
    pub result: Type,
    signature: Signature,
    place: names::Place,
}

impl PartialEq for OpCall {
    fn eq(&self, other: &Self) -> bool {
        self.op == other.op && self.result == other.result
    }
}

impl Eq for OpCall {}

impl Hash for OpCall {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.op.hash(state);
        self.result.hash(state);
    }
}

impl ScalarUDFImpl for OpCall {
    fn name(&self) -> &str {
        self.op.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn schema_name(&self, args: &[Expr]) -> PlanResult<String> {
        Ok(self.place.name(self.op.name(), args))
    }

    fn return_type(&self, _arguments: &[DataType]) -> PlanResult<DataType> {
        Ok(self.result.to_arrow())
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> PlanResult<FieldRef> {
        Ok(Field::new(self.op.name(), self.result.to_arrow(), true).into())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> PlanResult<ColumnarValue> {
        let result = self.result.to_arrow();
        if args.number_rows == 0 {
            return Ok(ColumnarValue::Array(new_empty_array(&result)));
        }
        let constant = self.signature.volatility != Volatility::Volatile
            && args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let repeated = |arg: &ColumnarValue| if self.op.repeats(arg) { rows } else { 1 };
        let arrays = args
            .args
            .into_iter()
            .map(|arg| {
                let rows = repeated(&arg);
                arg.into_array(rows)
            })
            .collect::<PlanResult<Vec<_>>>()?;
        let lacks_type = arrays.iter().any(|array| *array.data_type() == DataType::Null);
        if lacks_type && self.op.is_strict() {
            let nulls = ColumnarValue::Array(new_null_array(&result, rows));
            return if constant { Ok(ColumnarValue::Scalar(ScalarValue::try_from(&result)?)) } else { Ok(nulls) };
        }
        if lacks_type && self.op.needs_types() || !self.op.takes(&arrays) {
            return Err(DataFusionError::Plan(format!("{} is not asked about a value without a type", self.op.name())));
        }
        let array = self.op.evaluate(&arrays, rows, &self.result).map_err(DataFusionError::from)?;
        let array = fit(array, &result)?;
        if constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
        }
        Ok(ColumnarValue::Array(array))
    }
}

/// Nested types may differ in the names of their inner fields only.
pub fn fit(array: ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    if array.data_type() == wanted {
        return Ok(array);
    }
    if matches!(array.data_type(), DataType::Null) {
        return Ok(new_null_array(wanted, array.len()));
    }
    if array.data_type().is_nested() {
        return relabel(&array, wanted);
    }
    Ok(arrow::compute::cast(&array, wanted)?)
}

fn relabel(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    let data = array.to_data();
    let children = match wanted {
        DataType::List(field) => vec![field.data_type().clone()],
        DataType::Map(field, _) => vec![field.data_type().clone()],
        DataType::Struct(fields) => fields.iter().map(|field| field.data_type().clone()).collect(),
        _ => return Ok(arrow::compute::cast(array, wanted)?),
    };
    if children.len() != data.child_data().len() {
        return Ok(arrow::compute::cast(array, wanted)?);
    }
    let fitted = data
        .child_data()
        .iter()
        .zip(&children)
        .map(|(child, wanted)| Ok(fit(arrow::array::make_array(child.clone()), wanted)?.to_data()))
        .collect::<Result<Vec<_>>>()?;
    let rebuilt = data.into_builder().data_type(wanted.clone()).child_data(fitted).build()?;
    Ok(arrow::array::make_array(rebuilt))
}

/// Any number of arguments, none included: the binder has chosen their types.
pub fn any_arguments(is_volatile: bool) -> Signature {
    let volatility = if is_volatile { Volatility::Volatile } else { Volatility::Immutable };
    Signature::one_of(vec![TypeSignature::VariadicAny, TypeSignature::Nullary], volatility)
}

/// The call of an operator.
pub fn call(op: Op, args: Vec<Expr>, result: Type) -> Expr {
    let is_volatile = matches!(&op, Op::Try(body) | Op::Fit(body) | Op::Lazy(body, _) if body.is_volatile);
    let place = names::Place::of(&op, &args);
    let call = OpCall { op, result, signature: any_arguments(is_volatile), place };
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::new_from_impl(call)), args))
}

/// The operator an expression calls, if it is one.
pub fn op_of(expr: &Expr) -> Option<&Op> {
    let Expr::ScalarFunction(function) = expr else { return None };
    function.func.inner().as_ref().downcast_ref::<OpCall>().map(|call| &call.op)
}

/// A boolean column as itself.
pub fn booleans(array: &ArrayRef) -> Result<&BooleanArray> {
    array
        .as_any()
        .downcast_ref::<BooleanArray>()
        .ok_or_else(|| Error::internal(format!("expected booleans, got {}", array.data_type())))
}
