//! `+ - * / %` of numbers, with Trino's overflow and division errors.
//!
//! Invariant: whole numbers and decimals never wrap; floating point follows IEEE.

use arrow::{
    array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray},
    compute::{kernels::numeric, try_unary},
    datatypes::{Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type},
    error::ArrowError,
};
use headwater_engine::error::{Error, Result};

use super::{decimal, interval};
use crate::types::Type;

/// A binary operator on numbers, times and intervals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Modulus,
}

impl Arithmetic {
    /// How it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulus => "%",
        }
    }
}

/// Division by zero.
pub fn by_zero() -> Error {
    Error::user("DIVISION_BY_ZERO", "division by zero")
}

/// A result outside its type.
pub fn out_of_range(message: impl Into<String>) -> Error {
    Error::user("NUMERIC_VALUE_OUT_OF_RANGE", message)
}

/// Wraps an error for Arrow's fallible kernels.
pub fn external(error: Error) -> ArrowError {
    ArrowError::ExternalError(Box::new(error))
}

/// Takes the wrapped error out again.
pub fn unwrapped(error: ArrowError) -> Error {
    match error {
        ArrowError::ExternalError(inner) => match inner.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(other) => Error::internal(other.to_string()),
        },
        other => Error::from(other),
    }
}

/// Computes `left op right`.
pub fn evaluate(
    kind: Arithmetic,
    left: (&ArrayRef, &Type),
    right: (&ArrayRef, &Type),
    result: &Type,
) -> Result<ArrayRef> {
    let (a, b) = (left.0, right.0);
    match (left.1, right.1) {
        (Type::Tinyint, Type::Tinyint) => whole::<Int8Type>(kind, a, b, "tinyint"),
        (Type::Smallint, Type::Smallint) => whole::<Int16Type>(kind, a, b, "smallint"),
        (Type::Integer, Type::Integer) => whole::<Int32Type>(kind, a, b, "integer"),
        (Type::Bigint, Type::Bigint) => whole::<Int64Type>(kind, a, b, "bigint"),
        (Type::Real, Type::Real) => floating(kind, &a.as_primitive::<Float32Type>(), &b.as_primitive::<Float32Type>()),
        (Type::Double, Type::Double) => {
            floating(kind, &a.as_primitive::<Float64Type>(), &b.as_primitive::<Float64Type>())
        }
        (Type::Decimal(_, s), Type::Decimal(_, t)) => {
            let Type::Decimal(p, scale) = result else {
                return Err(Error::internal("decimal arithmetic gives a decimal"));
            };
            let (a, b) = (a.as_primitive::<Decimal128Type>(), b.as_primitive::<Decimal128Type>());
            decimal::evaluate(kind, (a, *s), (b, *t), (*p, *scale))
        }
        _ => interval::evaluate(kind, left, right, result),
    }
}

fn floating(kind: Arithmetic, a: &dyn arrow::array::Datum, b: &dyn arrow::array::Datum) -> Result<ArrayRef> {
    Ok(match kind {
        Arithmetic::Add => numeric::add_wrapping(a, b),
        Arithmetic::Subtract => numeric::sub_wrapping(a, b),
        Arithmetic::Multiply => numeric::mul_wrapping(a, b),
        Arithmetic::Divide => numeric::div(a, b),
        Arithmetic::Modulus => numeric::rem(a, b),
    }?)
}

fn whole<T: ArrowPrimitiveType>(kind: Arithmetic, a: &ArrayRef, b: &ArrayRef, name: &str) -> Result<ArrayRef>
where
    T::Native: arrow::datatypes::ArrowNativeTypeOp,
{
    use arrow::datatypes::ArrowNativeTypeOp;
    let overflow = |x: T::Native, y: T::Native, what: &str| {
        external(out_of_range(format!("{name} {what} overflow: {x:?} {} {y:?}", kind.symbol())))
    };
    let (a, b) = (a.as_primitive::<T>(), b.as_primitive::<T>());
    let zero = T::Native::ZERO;
    let computed: Result<PrimitiveArray<T>, ArrowError> = arrow::compute::try_binary(a, b, |x, y| match kind {
        Arithmetic::Add => x.add_checked(y).map_err(|_| overflow(x, y, "addition")),
        Arithmetic::Subtract => x.sub_checked(y).map_err(|_| overflow(x, y, "subtraction")),
        Arithmetic::Multiply => x.mul_checked(y).map_err(|_| overflow(x, y, "multiplication")),
        Arithmetic::Divide if y == zero => Err(external(by_zero())),
        Arithmetic::Divide => x.div_checked(y).map_err(|_| overflow(x, y, "division")),
        Arithmetic::Modulus if y == zero => Err(external(by_zero())),
        Arithmetic::Modulus => Ok(x.mod_wrapping(y)),
    });
    Ok(std::sync::Arc::new(computed.map_err(unwrapped)?))
}

/// Computes `-value`.
pub fn negate(value: &ArrayRef, of: &Type) -> Result<ArrayRef> {
    fn whole<T: ArrowPrimitiveType>(value: &ArrayRef, of: &Type) -> Result<ArrayRef>
    where
        T::Native: arrow::datatypes::ArrowNativeTypeOp,
    {
        use arrow::datatypes::ArrowNativeTypeOp;
        let array = value.as_primitive::<T>();
        let negated: PrimitiveArray<T> = try_unary(array, |x| {
            x.neg_checked().map_err(|_| external(out_of_range(format!("{of} negation overflow: {x:?}"))))
        })
        .map_err(unwrapped)?;
        Ok(std::sync::Arc::new(negated))
    }
    match of {
        Type::Tinyint => whole::<Int8Type>(value, of),
        Type::Smallint => whole::<Int16Type>(value, of),
        Type::Integer => whole::<Int32Type>(value, of),
        Type::Bigint => whole::<Int64Type>(value, of),
        Type::IntervalYearMonth | Type::IntervalDaySecond => interval::negate(value),
        _ => Ok(numeric::neg_wrapping(value.as_ref() as &dyn Array)?),
    }
}
