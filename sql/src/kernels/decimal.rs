//! Decimal arithmetic: exact in 256 bits, then rounded half up and checked against 38 digits.
//!
//! Invariant: a result that does not fit its precision is an error, never a wrapped number.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Decimal128Array},
    compute::try_binary,
    datatypes::{Decimal128Type, i256},
};
use headwater_engine::error::{Error, Result};

use super::arithmetic::{Arithmetic, by_zero, external, out_of_range, unwrapped};

/// Precision and scale of `left op right`, as Trino has them.
pub fn result_of(kind: Arithmetic, (p, s): (u8, i8), (q, t): (u8, i8)) -> Result<(u8, i8)> {
    let (p, s, q, t) = (i32::from(p), i32::from(s), i32::from(q), i32::from(t));
    let scale = s.max(t);
    let (precision, scale) = match kind {
        Arithmetic::Add | Arithmetic::Subtract => ((p - s).max(q - t) + scale + 1, scale),
        Arithmetic::Multiply => (p + q, s + t),
        Arithmetic::Divide => (p + t + (t - s).max(0), scale),
        Arithmetic::Modulus => ((p - s).min(q - t) + scale, scale),
    };
    if scale > 38 {
        return Err(Error::user("INVALID_FUNCTION_ARGUMENT", format!("decimal scale {scale} is above 38")));
    }
    Ok((precision.clamp(1, 38) as u8, scale as i8))
}

/// 10 to a power.
pub fn ten(power: i32) -> i256 {
    i256::from_i128(10).wrapping_pow(power.max(0) as u32)
}

/// `a / b` rounded half up, away from zero.
pub fn divide_rounded(a: i256, b: i256) -> i256 {
    let (quotient, remainder) = (a.wrapping_div(b), a.wrapping_rem(b));
    let twice = remainder.wrapping_abs().wrapping_mul(i256::from_i128(2));
    if twice >= b.wrapping_abs() {
        let away = if (a < i256::ZERO) == (b < i256::ZERO) { 1 } else { -1 };
        return quotient.wrapping_add(i256::from_i128(away));
    }
    quotient
}

/// A value as a decimal of a precision, or an error.
pub fn checked(value: i256, precision: u8) -> Result<i128> {
    let limit = ten(i32::from(precision));
    match value.to_i128() {
        Some(narrow) if value.wrapping_abs() < limit => Ok(narrow),
        _ => Err(out_of_range("decimal overflow")),
    }
}

/// Computes `left op right` into the precision and scale of the result.
pub fn evaluate(
    kind: Arithmetic,
    (a, s): (&Decimal128Array, i8),
    (b, t): (&Decimal128Array, i8),
    (precision, scale): (u8, i8),
) -> Result<ArrayRef> {
    let (s, t, r) = (i32::from(s), i32::from(t), i32::from(scale));
    let (up_a, up_b) = (ten(s.max(t) - s), ten(s.max(t) - t));
    let up_division = ten(r - s + t);
    let compute = |x: i128, y: i128| {
        let (x, y) = (i256::from_i128(x), i256::from_i128(y));
        let wide = match kind {
            Arithmetic::Add => x.wrapping_mul(up_a).wrapping_add(y.wrapping_mul(up_b)),
            Arithmetic::Subtract => x.wrapping_mul(up_a).wrapping_sub(y.wrapping_mul(up_b)),
            Arithmetic::Multiply => x.wrapping_mul(y),
            Arithmetic::Divide | Arithmetic::Modulus if y == i256::ZERO => return Err(by_zero()),
            Arithmetic::Divide => divide_rounded(x.wrapping_mul(up_division), y),
            Arithmetic::Modulus => x.wrapping_mul(up_a).wrapping_rem(y.wrapping_mul(up_b)),
        };
        checked(wide, if kind == Arithmetic::Modulus { precision } else { 38 })
    };
    let array =
        try_binary::<_, _, _, Decimal128Type>(a, b, |x, y| compute(x, y).map_err(external)).map_err(unwrapped)?;
    Ok(Arc::new(array.with_data_type(arrow::datatypes::DataType::Decimal128(precision, scale))))
}

/// The text of a decimal.
pub fn text(value: i128, scale: i8) -> String {
    let digits = value.unsigned_abs().to_string();
    let sign = if value < 0 { "-" } else { "" };
    let scale = scale.max(0) as usize;
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

/// Reads decimal text, with an exponent or without, rounded half up to a scale.
pub fn parse(text: &str, scale: i8) -> Option<i256> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, unsigned) = match mantissa.as_bytes().first()? {
        b'-' => (true, &mantissa[1..]),
        b'+' => (false, &mantissa[1..]),
        _ => (false, mantissa),
    };
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    if whole.is_empty() && fraction.is_empty() || exponent.abs() > 100 {
        return None;
    }
    let mut value = i256::ZERO;
    for digit in whole.bytes().chain(fraction.bytes()) {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(i256::from_i128(10))?.checked_add(i256::from_i128(i128::from(digit - b'0')))?;
    }
    let shift = i32::from(scale) + exponent - fraction.len() as i32;
    let scaled = if shift >= 0 {
        if shift > 76 && value != i256::ZERO {
            return None;
        }
        value.checked_mul(ten(shift))?
    } else if shift < -76 {
        i256::ZERO
    } else {
        divide_rounded(value, ten(-shift))
    };
    Some(if negative { scaled.wrapping_neg() } else { scaled })
}
