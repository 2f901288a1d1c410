//! Casts to numbers and truth values.
//!
//! Invariant: rounding is half away from zero, and a value outside the type is an error.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, Decimal128Array, Float32Array, Float64Array, PrimitiveArray},
    datatypes::{
        ArrowPrimitiveType, DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
        Int64Type, i256,
    },
};
use headwater_engine::error::{Error, Result};

use super::{refused, render};
use crate::{
    kernels::{arithmetic::out_of_range, decimal, parse},
    types::Type,
};

/// A number of any kind, on its way from one to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A whole number.
    Whole(i64),
    /// An unscaled decimal and its scale.
    Decimal(i128, i8),
    /// Single precision.
    Single(f32),
    /// Double precision.
    Double(f64),
}

/// Casts to a numeric type or boolean.
pub(super) fn cast(array: &ArrayRef, from: &Type, to: &Type) -> Result<ArrayRef> {
    if matches!(from, Type::Varchar(_) | Type::Char(_)) {
        return from_text(&render::texts(array, from)?, to);
    }
    column(numbers(array, from)?, to)
}

fn numbers(array: &ArrayRef, from: &Type) -> Result<Vec<Option<Number>>> {
    fn whole<T: ArrowPrimitiveType>(array: &ArrayRef) -> Vec<Option<Number>>
    where
        T::Native: Into<i64>,
    {
        array.as_primitive::<T>().iter().map(|value| value.map(|value| Number::Whole(value.into()))).collect()
    }
    Ok(match from {
        Type::Boolean => {
            crate::kernels::booleans(array)?.iter().map(|v| v.map(|v| Number::Whole(i64::from(v)))).collect()
        }
        Type::Tinyint => whole::<Int8Type>(array),
        Type::Smallint => whole::<Int16Type>(array),
        Type::Integer => whole::<Int32Type>(array),
        Type::Bigint => whole::<Int64Type>(array),
        Type::Real => array.as_primitive::<Float32Type>().iter().map(|v| v.map(Number::Single)).collect(),
        Type::Double => array.as_primitive::<Float64Type>().iter().map(|v| v.map(Number::Double)).collect(),
        Type::Decimal(_, s) => {
            array.as_primitive::<Decimal128Type>().iter().map(|v| v.map(|v| Number::Decimal(v, *s))).collect()
        }
        other => return Err(Error::internal(format!("{other} is not a number"))),
    })
}

fn column(values: Vec<Option<Number>>, to: &Type) -> Result<ArrayRef> {
    Ok(match to {
        Type::Boolean => {
            let truths: BooleanArray = values.into_iter().map(|v| v.map(Number::truth)).collect();
            Arc::new(truths)
        }
        Type::Tinyint => whole::<Int8Type>(values, to)?,
        Type::Smallint => whole::<Int16Type>(values, to)?,
        Type::Integer => whole::<Int32Type>(values, to)?,
        Type::Bigint => whole::<Int64Type>(values, to)?,
        Type::Real => {
            let reals: Float32Array = values.into_iter().map(|v| v.map(Number::single)).collect();
            Arc::new(reals)
        }
        Type::Double => {
            let doubles: Float64Array = values.into_iter().map(|v| v.map(Number::double)).collect();
            Arc::new(doubles)
        }
        Type::Decimal(p, s) => {
            let decimals = values
                .into_iter()
                .map(|v| v.map(|v| v.decimal(*p, *s).ok_or_else(|| refused(&v.text(), to))).transpose())
                .collect::<Result<Decimal128Array>>()?;
            Arc::new(decimals.with_data_type(DataType::Decimal128(*p, *s)))
        }
        other => return Err(Error::internal(format!("{other} is not a number"))),
    })
}

fn whole<T: ArrowPrimitiveType>(values: Vec<Option<Number>>, to: &Type) -> Result<ArrayRef>
where
    T::Native: TryFrom<i64>,
{
    let array = values
        .into_iter()
        .map(|value| value.map(|value| value.narrow::<T::Native>(to)).transpose())
        .collect::<Result<PrimitiveArray<T>>>()?;
    Ok(Arc::new(array))
}

impl Number {
    fn truth(self) -> bool {
        match self {
            Self::Whole(value) => value != 0,
            Self::Decimal(value, _) => value != 0,
            Self::Single(value) => value != 0.0,
            Self::Double(value) => value != 0.0,
        }
    }

    fn single(self) -> f32 {
        match self {
            Self::Whole(value) => value as f32,
            Self::Decimal(value, scale) => decimal::text(value, scale).parse().unwrap_or(f32::NAN),
            Self::Single(value) => value,
            Self::Double(value) => value as f32,
        }
    }

    fn double(self) -> f64 {
        match self {
            Self::Whole(value) => value as f64,
            Self::Decimal(value, scale) => decimal::text(value, scale).parse().unwrap_or(f64::NAN),
            Self::Single(value) => f64::from(value),
            Self::Double(value) => value,
        }
    }

    fn text(self) -> String {
        match self {
            Self::Whole(value) => value.to_string(),
            Self::Decimal(value, scale) => decimal::text(value, scale),
            Self::Single(value) => render::real(value),
            Self::Double(value) => render::double(value),
        }
    }

    fn narrow<N: TryFrom<i64>>(self, to: &Type) -> Result<N> {
        let unable = || refused(&self.text(), to);
        let wide = match self {
            Self::Whole(value) => value,
            Self::Decimal(value, scale) => {
                let rounded = decimal::divide_rounded(i256::from_i128(value), decimal::ten(i32::from(scale)));
                let wide = rounded.to_i128().and_then(|value| i64::try_from(value).ok()).ok_or_else(unable)?;
                return N::try_from(wide).map_err(|_| unable());
            }
            Self::Single(_) | Self::Double(_) => {
                let value = self.double();
                if value.is_nan() {
                    return Err(unable());
                }
                let rounded = value.abs().mul_add(1.0, 0.5).floor().copysign(value);
                if !(-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&rounded) {
                    return Err(if *to == Type::Bigint { unable() } else { self.outside(to) });
                }
                rounded as i64
            }
        };
        N::try_from(wide).map_err(|_| self.outside(to))
    }

    fn outside(self, to: &Type) -> Error {
        out_of_range(format!("out of range for {to}: {}", self.text()))
    }

    /// As a decimal, rounded half up; `None` if it does not fit.
    pub fn decimal(self, precision: u8, scale: i8) -> Option<i128> {
        let wide = match self {
            Self::Whole(value) => i256::from_i128(i128::from(value)).checked_mul(decimal::ten(i32::from(scale)))?,
            Self::Decimal(value, has) if scale >= has => {
                i256::from_i128(value).checked_mul(decimal::ten(i32::from(scale - has)))?
            }
            Self::Decimal(value, has) => {
                decimal::divide_rounded(i256::from_i128(value), decimal::ten(i32::from(has - scale)))
            }
            Self::Single(value) if value.is_finite() => decimal::parse(&format!("{value:e}"), scale)?,
            Self::Double(value) if value.is_finite() => decimal::parse(&format!("{value:e}"), scale)?,
            Self::Single(_) | Self::Double(_) => return None,
        };
        decimal::checked(wide, precision).ok()
    }
}

fn from_text(texts: &[Option<String>], to: &Type) -> Result<ArrayRef> {
    let wrong = |text: &str| refused(text, to);
    if *to == Type::Boolean {
        let truths = texts
            .iter()
            .map(|text| text.as_deref().map(|text| parse::boolean(text).ok_or_else(|| wrong(text))).transpose())
            .collect::<Result<BooleanArray>>()?;
        return Ok(Arc::new(truths));
    }
    let values = texts
        .iter()
        .map(|text| text.as_deref().map(|text| read(text, to).ok_or_else(|| wrong(text))).transpose())
        .collect::<Result<Vec<_>>>()?;
    column(values, to)
}

/// Reads a number of a type from text.
fn read(text: &str, to: &Type) -> Option<Number> {
    Some(match to {
        Type::Real => Number::Single(parse::double(text)? as f32),
        Type::Double => Number::Double(parse::double(text)?),
        Type::Decimal(p, s) => {
            let wide = parse::decimal(text, *s)?;
            Number::Decimal(decimal::checked(wide, *p).ok()?, *s)
        }
        _ => {
            let value = parse::whole(text)?;
            let fits = match to {
                Type::Tinyint => i8::try_from(value).is_ok(),
                Type::Smallint => i16::try_from(value).is_ok(),
                Type::Integer => i32::try_from(value).is_ok(),
                _ => true,
            };
            if !fits {
                return None;
            }
            Number::Whole(value)
        }
    })
}
