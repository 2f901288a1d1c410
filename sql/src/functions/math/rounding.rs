//! abs, sign, ceiling, floor, round, truncate.
//!
//! Invariant: rounding is half away from zero, as Trino's is.

use arrow::datatypes::{DataType, i256};
use headwater_engine::error::{Error, Result};

use super::super::{
    Family,
    column::{Dec, F32, F64, I8, I16, I32, I64, ToDec, ToF32, ToF64, ToI8, ToI16, ToI32, ToI64},
    define::{Definition, scalar},
    kernel::{out_of_range, value1, value2, whole},
    scalar::{Call, Kernel, Typing},
};
use crate::kernels::decimal::{divide_rounded, ten};

fn math(name: &'static str, summary: &'static str) -> Definition {
    scalar(Family::Math, name, summary)
}

pub(super) fn definitions() -> Vec<Definition> {
    vec![abs(), sign(), ceiling(), floor(), round(), truncate()]
}

fn decimal_of(typing: &Typing<'_>) -> Result<(u8, i8)> {
    match typing.arguments.first() {
        Some(DataType::Decimal128(p, s)) => Ok((*p, *s)),
        _ => Err(Error::internal("expected a decimal")),
    }
}

fn same(typing: &Typing<'_>) -> Result<DataType> {
    decimal_of(typing).map(|(p, s)| DataType::Decimal128(p, s))
}

fn one_digit(_: &Typing<'_>) -> Result<DataType> {
    Ok(DataType::Decimal128(1, 0))
}

fn rounded_up(typing: &Typing<'_>) -> Result<DataType> {
    let (p, s) = decimal_of(typing)?;
    Ok(DataType::Decimal128((p as i8 - s + s.min(1)).clamp(1, 38) as u8, 0))
}

fn one_more(typing: &Typing<'_>) -> Result<DataType> {
    let (p, s) = decimal_of(typing)?;
    Ok(DataType::Decimal128((p + 1).min(38), s))
}

fn cut(typing: &Typing<'_>) -> Result<DataType> {
    let (p, s) = decimal_of(typing)?;
    Ok(DataType::Decimal128((p as i8 - s).max(1) as u8, 0))
}

/// A kernel over unscaled decimals that knows the scale of its argument.
fn decimals(f: fn(i256, i32) -> i256) -> Kernel {
    whole(move |call: &Call<'_>| {
        let scale = scale_of(call)?;
        value1::<Dec, ToDec>(move |x| narrow(f(i256::from_i128(x), scale)).map(Some))(call)
    })
}

fn scale_of(call: &Call<'_>) -> Result<i32> {
    match call.argument(0)?.array.data_type() {
        DataType::Decimal128(_, s) => Ok(i32::from(*s)),
        _ => Err(Error::internal("expected a decimal")),
    }
}

fn narrow(value: i256) -> Result<i128> {
    value.to_i128().ok_or_else(|| out_of_range("decimal overflow"))
}

fn overflow(name: &str) -> Error {
    out_of_range(format!("value out of range for {name}"))
}

fn abs() -> Definition {
    math("abs", "the value without its sign")
        .on("abs(tinyint) -> tinyint", value1::<I8, ToI8>(|x| x.checked_abs().map(Some).ok_or_else(|| overflow("abs"))))
        .on(
            "abs(smallint) -> smallint",
            value1::<I16, ToI16>(|x| x.checked_abs().map(Some).ok_or_else(|| overflow("abs"))),
        )
        .on(
            "abs(integer) -> integer",
            value1::<I32, ToI32>(|x| x.checked_abs().map(Some).ok_or_else(|| overflow("abs"))),
        )
        .on("abs(bigint) -> bigint", value1::<I64, ToI64>(|x| x.checked_abs().map(Some).ok_or_else(|| overflow("abs"))))
        .on("abs(real) -> real", value1::<F32, ToF32>(|x| Ok(Some(x.abs()))))
        .on("abs(double) -> double", value1::<F64, ToF64>(|x| Ok(Some(x.abs()))))
        .on_typed("abs(decimal(p,s)) -> decimal(p,s)", same, value1::<Dec, ToDec>(|x| Ok(Some(x.abs()))))
        .example("SELECT abs(-3)", "3")
}

fn sign() -> Definition {
    let real = |x: f32| if x.is_nan() || x == 0.0 { x } else { x.signum() };
    let double = |x: f64| if x.is_nan() || x == 0.0 { x } else { x.signum() };
    math("sign", "-1, 0 or 1, by the value's sign")
        .on("sign(tinyint) -> tinyint", value1::<I8, ToI8>(|x| Ok(Some(x.signum()))))
        .on("sign(smallint) -> smallint", value1::<I16, ToI16>(|x| Ok(Some(x.signum()))))
        .on("sign(integer) -> integer", value1::<I32, ToI32>(|x| Ok(Some(x.signum()))))
        .on("sign(bigint) -> bigint", value1::<I64, ToI64>(|x| Ok(Some(x.signum()))))
        .on("sign(real) -> real", value1::<F32, ToF32>(move |x| Ok(Some(real(x)))))
        .on("sign(double) -> double", value1::<F64, ToF64>(move |x| Ok(Some(double(x)))))
        .on_typed("sign(decimal(p,s)) -> decimal(p,s)", one_digit, value1::<Dec, ToDec>(|x| Ok(Some(x.signum()))))
        .example("SELECT sign(-3)", "-1")
}

fn ceiling() -> Definition {
    math("ceiling", "the smallest whole number that is not below the value")
        .aliases(&["ceil"])
        .on("ceiling(tinyint) -> tinyint", value1::<I8, ToI8>(|x| Ok(Some(x))))
        .on("ceiling(smallint) -> smallint", value1::<I16, ToI16>(|x| Ok(Some(x))))
        .on("ceiling(integer) -> integer", value1::<I32, ToI32>(|x| Ok(Some(x))))
        .on("ceiling(bigint) -> bigint", value1::<I64, ToI64>(|x| Ok(Some(x))))
        .on("ceiling(real) -> real", value1::<F32, ToF32>(|x| Ok(Some(x.ceil()))))
        .on("ceiling(double) -> double", value1::<F64, ToF64>(|x| Ok(Some(x.ceil()))))
        .on_typed(
            "ceiling(decimal(p,s)) -> decimal(p,s)",
            rounded_up,
            decimals(|x, scale| floor_div(x.wrapping_neg(), scale).wrapping_neg()),
        )
        .example("SELECT ceiling(1.2)", "2")
}

fn floor() -> Definition {
    math("floor", "the largest whole number that is not above the value")
        .on("floor(tinyint) -> tinyint", value1::<I8, ToI8>(|x| Ok(Some(x))))
        .on("floor(smallint) -> smallint", value1::<I16, ToI16>(|x| Ok(Some(x))))
        .on("floor(integer) -> integer", value1::<I32, ToI32>(|x| Ok(Some(x))))
        .on("floor(bigint) -> bigint", value1::<I64, ToI64>(|x| Ok(Some(x))))
        .on("floor(real) -> real", value1::<F32, ToF32>(|x| Ok(Some(x.floor()))))
        .on("floor(double) -> double", value1::<F64, ToF64>(|x| Ok(Some(x.floor()))))
        .on_typed("floor(decimal(p,s)) -> decimal(p,s)", rounded_up, decimals(floor_div))
        .example("SELECT floor(1.8)", "1")
}

fn floor_div(x: i256, scale: i32) -> i256 {
    let unit = ten(scale);
    let (quotient, remainder) = (x.wrapping_div(unit), x.wrapping_rem(unit));
    if remainder < i256::ZERO { quotient.wrapping_sub(i256::ONE) } else { quotient }
}

fn round() -> Definition {
    math("round", "the value rounded to a number of decimal places, by default none")
        .on("round(tinyint) -> tinyint", value1::<I8, ToI8>(|x| Ok(Some(x))))
        .on("round(smallint) -> smallint", value1::<I16, ToI16>(|x| Ok(Some(x))))
        .on("round(integer) -> integer", value1::<I32, ToI32>(|x| Ok(Some(x))))
        .on("round(bigint) -> bigint", value1::<I64, ToI64>(|x| Ok(Some(x))))
        .on("round(real) -> real", value1::<F32, ToF32>(|x| Ok(Some(round_double(f64::from(x), 0) as f32))))
        .on("round(double) -> double", value1::<F64, ToF64>(|x| Ok(Some(round_double(x, 0)))))
        .on_typed("round(decimal(p,s)) -> decimal(p,s)", rounded_up, decimals(|x, scale| divide_rounded(x, ten(scale))))
        .on(
            "round(tinyint, integer) -> tinyint",
            value2::<I8, I32, ToI8>(|x, n| whole_places(i64::from(x), n, "tinyint").and_then(fits).map(Some)),
        )
        .on(
            "round(smallint, integer) -> smallint",
            value2::<I16, I32, ToI16>(|x, n| whole_places(i64::from(x), n, "smallint").and_then(fits).map(Some)),
        )
        .on(
            "round(integer, integer) -> integer",
            value2::<I32, I32, ToI32>(|x, n| whole_places(i64::from(x), n, "integer").and_then(fits).map(Some)),
        )
        .on(
            "round(bigint, integer) -> bigint",
            value2::<I64, I32, ToI64>(|x, n| whole_places(x, n, "bigint").map(Some)),
        )
        .on("round(real, integer) -> real", value2::<F32, I32, ToF32>(|x, n| Ok(Some(round_single(x, n)))))
        .on("round(double, integer) -> double", value2::<F64, I32, ToF64>(|x, n| Ok(Some(round_double(x, n)))))
        .on_typed("round(decimal(p,s), integer) -> decimal(p,s)", one_more, decimal_places(divide_rounded))
        .example("SELECT round(2.5)", "3")
}

fn fits<N: TryFrom<i64>>(value: i64) -> Result<N> {
    N::try_from(value).map_err(|_| overflow("round"))
}

/// A whole number rounded to tens, hundreds and so on for negative places.
fn whole_places(x: i64, places: i32, name: &str) -> Result<i64> {
    if places >= 0 {
        return Ok(x);
    }
    if places < -19 {
        return Ok(0);
    }
    let unit = ten(-places);
    let rounded = divide_rounded(i256::from_i128(i128::from(x)), unit).wrapping_mul(unit);
    rounded.to_i128().and_then(|value| i64::try_from(value).ok()).ok_or_else(|| overflow(name))
}

fn decimal_places(divide: fn(i256, i256) -> i256) -> Kernel {
    whole(move |call: &Call<'_>| {
        let scale = scale_of(call)?;
        value2::<Dec, I32, ToDec>(move |x, places| {
            let dropped = scale.saturating_sub(places);
            if dropped <= 0 {
                return Ok(Some(x));
            }
            if dropped > 38 {
                return Ok(Some(0));
            }
            let unit = ten(dropped);
            narrow(divide(i256::from_i128(x), unit).wrapping_mul(unit)).map(Some)
        })(call)
    })
}

/// A double rounded by its decimal digits.
fn round_double(x: f64, places: i32) -> f64 {
    if !x.is_finite() || places > 300 {
        return x;
    }
    let factor = 10f64.powi(places);
    let scaled = x * factor;
    if !scaled.is_finite() || factor == 0.0 {
        return if factor == 0.0 { 0.0 } else { x };
    }
    let rounded = (scaled.abs() + 0.5).floor().copysign(x) / factor;
    if rounded == 0.0 { 0.0f64.copysign(if x == 0.0 { x } else { 1.0 }) } else { rounded }
}

fn round_single(x: f32, places: i32) -> f32 {
    round_double(f64::from(x), places) as f32
}

fn truncate() -> Definition {
    math("truncate", "the value without its fraction, or without the digits after a number of places")
        .on("truncate(real) -> real", value1::<F32, ToF32>(|x| Ok(Some(x.trunc()))))
        .on("truncate(double) -> double", value1::<F64, ToF64>(|x| Ok(Some(x.trunc()))))
        .on_typed("truncate(decimal(p,s)) -> decimal(p,s)", cut, decimals(|x, scale| x.wrapping_div(ten(scale))))
        .on_typed("truncate(decimal(p,s), bigint) -> decimal(p,s)", same, truncated_places())
        .example("SELECT truncate(1.9)", "1")
}

fn truncated_places() -> Kernel {
    whole(|call: &Call<'_>| {
        let scale = scale_of(call)?;
        value2::<Dec, I64, ToDec>(move |x, places| {
            let dropped = i64::from(scale) - places;
            if dropped <= 0 {
                return Ok(Some(x));
            }
            let unit = ten(dropped.min(39) as i32);
            narrow(i256::from_i128(x).wrapping_div(unit).wrapping_mul(unit)).map(Some)
        })(call)
    })
}
