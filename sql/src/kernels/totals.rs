//! What sums and extremes are made of, so that they neither wrap nor prefer a NaN.
//!
//! A sum of whole numbers or of intervals is a decimal sum that is brought back to its type here; a sum of long
//! decimals is a sum over 76 digits. The extreme of floating point is that of a whole number in the same order.
//!
//! Invariant: a result outside its type is an error, never another number; a NaN is only chosen where all are.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Decimal128Array, DurationMillisecondArray, Int64Array, IntervalYearMonthArray},
    compute::cast,
    datatypes::{
        DataType, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int32Type, Int64Type,
        IntervalYearMonthType, i256,
    },
};
use headwater_engine::error::{Error, Result};

use super::{arithmetic::out_of_range, decimal};
use crate::types::Type;

/// A step before or after an aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Total {
    /// A number or an interval as the decimal that is summed.
    Summand,
    /// A decimal sum as a value of the result's type.
    Sum,
    /// A decimal sum and a count as their mean.
    Mean,
    /// Floating point as a whole number of the same order; a NaN is the least (`true`) or the greatest.
    Key(bool),
    /// The floating point of such a number.
    OfKey,
}

/// Evaluates one.
pub fn evaluate(total: Total, args: &[ArrayRef], result: &Type) -> Result<ArrayRef> {
    let Some(value) = args.first() else { return Err(Error::internal("a total's value is missing")) };
    match total {
        Total::Summand => Ok(cast(&whole(value)?, &result.to_arrow())?),
        Total::Sum => sum(value, result),
        Total::Mean => match args.get(1) {
            Some(count) => mean(value, count, result),
            None => Err(Error::internal("a mean's count is missing")),
        },
        Total::Key(least) => keys(value, least),
        Total::OfKey => of_keys(value, result),
    }
}

/// An interval as the number of its units.
fn whole(value: &ArrayRef) -> Result<ArrayRef> {
    Ok(match value.data_type() {
        DataType::Interval(_) => {
            Arc::new(value.as_primitive::<IntervalYearMonthType>().reinterpret_cast::<Int32Type>())
        }
        DataType::Duration(_) => cast(value, &DataType::Int64)?,
        _ => value.clone(),
    })
}

fn wide(value: &ArrayRef) -> Result<Vec<Option<i256>>> {
    if let Some(values) = value.as_primitive_opt::<Decimal128Type>() {
        return Ok(values.iter().map(|value| value.map(i256::from_i128)).collect());
    }
    match value.as_primitive_opt::<Decimal256Type>() {
        Some(values) => Ok(values.iter().collect()),
        None => Err(Error::internal(format!("expected a decimal sum, got {}", value.data_type()))),
    }
}

fn sum(value: &ArrayRef, result: &Type) -> Result<ArrayRef> {
    let sums = wide(value)?;
    narrowed(sums, result, || match result {
        Type::Decimal(..) => out_of_range("Decimal overflow"),
        Type::Bigint => out_of_range("bigint addition overflow"),
        other => out_of_range(format!("{other} addition overflow")),
    })
}

fn mean(value: &ArrayRef, count: &ArrayRef, result: &Type) -> Result<ArrayRef> {
    let counts = count.as_primitive::<Int64Type>();
    let means = wide(value)?.into_iter().zip(counts).map(|(sum, count)| match (sum, count) {
        (Some(sum), Some(count)) if count > 0 => Some(decimal::divide_rounded(sum, i256::from_i128(i128::from(count)))),
        _ => None,
    });
    narrowed(means.collect(), result, || out_of_range("Decimal overflow"))
}

fn narrowed(values: Vec<Option<i256>>, result: &Type, overflow: impl Fn() -> Error) -> Result<ArrayRef> {
    let mut out = Vec::with_capacity(values.len());
    for value in values {
        out.push(value.map(|value| value.to_i128().ok_or_else(&overflow)).transpose()?);
    }
    let whole = |value: Option<i128>| value.map(|value| i64::try_from(value).map_err(|_| overflow())).transpose();
    Ok(match result {
        Type::Decimal(p, s) => {
            if out.iter().flatten().any(|value| value.unsigned_abs() >= 10u128.pow(u32::from(*p))) {
                return Err(overflow());
            }
            Arc::new(Decimal128Array::from(out).with_precision_and_scale(*p, *s)?)
        }
        Type::IntervalDaySecond => Arc::new(out.into_iter().map(whole).collect::<Result<DurationMillisecondArray>>()?),
        Type::IntervalYearMonth => {
            let month =
                |value: Option<i128>| value.map(|value| i32::try_from(value).map_err(|_| overflow())).transpose();
            Arc::new(out.into_iter().map(month).collect::<Result<IntervalYearMonthArray>>()?)
        }
        _ => Arc::new(out.into_iter().map(whole).collect::<Result<Int64Array>>()?),
    })
}

fn keys(value: &ArrayRef, least: bool) -> Result<ArrayRef> {
    let doubles = cast(value, &DataType::Float64)?;
    let nan = if least { i64::MIN } else { i64::MAX };
    let key = |value: f64| if value.is_nan() { nan } else { folded(value.to_bits() as i64) };
    Ok(Arc::new(doubles.as_primitive::<Float64Type>().unary::<_, Int64Type>(key)))
}

fn of_keys(value: &ArrayRef, result: &Type) -> Result<ArrayRef> {
    let double = |key: i64| match key {
        i64::MIN | i64::MAX => f64::NAN,
        key => f64::from_bits(folded(key) as u64),
    };
    let keys = value.as_primitive::<Int64Type>();
    Ok(match result {
        Type::Real => Arc::new(keys.unary::<_, Float32Type>(|key| double(key) as f32)),
        _ => Arc::new(keys.unary::<_, Float64Type>(double)),
    })
}

/// The bits of a double in the order of whole numbers, and back.
fn folded(bits: i64) -> i64 {
    if bits < 0 { bits ^ i64::MAX } else { bits }
}
