//! Scalars into columns: what each dialect makes of a text, a number or a boolean where a column has a type.
//!
//! Invariant: on a misfit the column is as it was, so that the caller may put a NULL there or refuse the row.

use base64::{Engine, engine::general_purpose};

use headwater_engine::error::{Error, Result};

use super::{
    column::{Column, Data, Fixed},
    options::{Dialect, JsonOptions, TimestampReading},
    time_text::{self, Moment, Pattern},
};

/// Why a value is not stored as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misfit {
    /// A scalar that does not read as the column's type.
    Scalar,
    /// An object or array where none may be, or the reverse.
    Shape,
    /// A value that its dialect reads as NULL whatever the policy.
    Null,
}

/// Result of adding a value.
pub(super) type Fit = Result<(), Misfit>;

/// A table's choices, ready for use on every value.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) dialect: Dialect,
    pub(super) is_strict: bool,
    timestamps: TimestampReading,
    patterns: Vec<Pattern>,
}

impl Rules {
    pub(super) fn new(options: &JsonOptions) -> Result<Self> {
        let compile = |text: &String| {
            Pattern::compile(text).ok_or_else(|| {
                Error::user("INVALID_TABLE_PROPERTY", format!("timestamp format \"{text}\" is not supported"))
                    .with_hint("use yyyy MM MMM dd HH hh mm ss S a X Z, quoted literals, or millis")
            })
        };
        Ok(Self {
            dialect: options.dialect,
            is_strict: options.is_strict(),
            timestamps: options.timestamps.clone(),
            patterns: options.timestamps.patterns.iter().map(compile).collect::<Result<_>>()?,
        })
    }

    /// The timestamp a text or number says.
    #[inline]
    fn timestamp(&self, text: &[u8], is_number: bool) -> Option<Moment> {
        if let Some(found) = self.patterns.iter().find_map(|pattern| pattern.parse(text)) {
            return Some(found);
        }
        match self.dialect {
            Dialect::OpenX => time_text::openx_timestamp(text),
            Dialect::Hive if is_number => None,
            Dialect::Hive => time_text::hive_timestamp(text),
            Dialect::Headwater if is_number => time_text::moment_of_number(text, self.timestamps.unit.digits()),
            Dialect::Headwater => {
                let found = time_text::headwater_timestamp(text, self.timestamps.standard);
                if found.is_none() && self.timestamps.standard == Default::default() {
                    return time_text::moment_of_number(text, self.timestamps.unit.digits());
                }
                found
            }
        }
    }

    fn date(&self, text: &[u8], is_number: bool) -> Option<i32> {
        let days = || integer(text, Dialect::Hive).and_then(|days| i32::try_from(days).ok());
        match self.dialect {
            Dialect::Headwater if is_number => None,
            _ if is_number => days(),
            Dialect::OpenX => time_text::date(text).or_else(days),
            Dialect::Hive | Dialect::Headwater => time_text::date(text),
        }
    }
}

/// Digits and power of ten of a number's text, exact to 38 digits; further ones are cut.
#[inline]
pub(super) fn decimal_parts(text: &[u8]) -> Option<(i128, i32)> {
    const FULL: i128 = 10i128.pow(37);
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let (mut mantissa, mut exponent, mut seen, mut point) = (0i128, 0i32, false, false);
    let mut at = 0;
    while let Some(&byte) = digits.get(at) {
        match byte {
            b'0'..=b'9' => {
                seen = true;
                if mantissa < FULL {
                    mantissa = mantissa * 10 + i128::from(byte - b'0');
                    exponent -= i32::from(point);
                } else {
                    exponent += i32::from(!point);
                }
            }
            b'.' if !point => point = true,
            b'e' | b'E' if seen => {
                let power: i32 = std::str::from_utf8(&digits[at + 1..]).ok()?.parse().ok()?;
                exponent = exponent.checked_add(power)?;
                break;
            }
            _ => return None,
        }
        at += 1;
    }
    seen.then_some((if is_negative { -mantissa } else { mantissa }, exponent))
}

/// The decimal of a number's text at a scale, rounded half up, if it has at most `precision` digits.
pub(super) fn decimal(text: &[u8], precision: u8, scale: i8) -> Option<i128> {
    let (mantissa, exponent) = decimal_parts(text)?;
    let shift = exponent.checked_add(i32::from(scale))?;
    let scaled = if mantissa == 0 {
        0
    } else if shift >= 0 {
        mantissa.checked_mul(10i128.checked_pow(shift.unsigned_abs())?)?
    } else {
        match 10i128.checked_pow(shift.unsigned_abs()) {
            Some(unit) => {
                let (quotient, rest) = (mantissa / unit, mantissa % unit);
                quotient + if rest.abs() >= unit - rest.abs() { mantissa.signum() } else { 0 }
            }
            None => 0,
        }
    };
    (scaled.abs() < 10i128.pow(u32::from(precision))).then_some(scaled)
}

/// The integer of a number's text, by the dialect.
#[inline]
pub(super) fn integer(text: &[u8], dialect: Dialect) -> Option<i64> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let is_plain = digits.len() < 19 && !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    if is_plain && (dialect != Dialect::OpenX || digits[0] != b'0' || digits.len() == 1) {
        let value = digits.iter().fold(0i64, |value, digit| value * 10 + i64::from(digit - b'0'));
        return Some(if is_negative { -value } else { value });
    }
    if dialect == Dialect::OpenX {
        let radix = match digits {
            [b'0', b'x' | b'X', hex @ ..] => Some((hex, 16)),
            [b'0', octal @ ..] if octal.iter().all(u8::is_ascii_digit) => Some((octal, 8)),
            _ => None,
        };
        if let Some((digits, radix)) = radix {
            let value = i64::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()?;
            return Some(if is_negative { -value } else { value });
        }
    }
    let (mantissa, exponent) = decimal_parts(text)?;
    let value = match (mantissa, 10i128.checked_pow(exponent.unsigned_abs())) {
        (0, _) => 0,
        (_, None) if exponent > 0 => return None,
        (_, unit) if exponent < 0 => {
            let unit = unit.unwrap_or(i128::MAX);
            if dialect != Dialect::OpenX && mantissa % unit != 0 {
                return None;
            }
            mantissa / unit
        }
        (_, unit) => mantissa.checked_mul(unit.unwrap_or(1))?,
    };
    i64::try_from(value).ok()
}

fn float(text: &[u8]) -> Option<f64> {
    short_float(text).or_else(|| std::str::from_utf8(text).ok()?.parse().ok())
}

/// The double of a plain number of few digits: digits and power of ten are doubles themselves, so that their quotient is
/// the nearest double (Clinger 1990).
#[inline]
fn short_float(text: &[u8]) -> Option<f64> {
    const DIGITS_MAX: usize = 15;
    const POWERS: [f64; DIGITS_MAX + 1] =
        [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.len() > DIGITS_MAX {
        return None;
    }
    let mut number = 0u64;
    let mut add = |byte: &u8| {
        number = number * 10 + u64::from(byte.wrapping_sub(b'0'));
        byte.is_ascii_digit()
    };
    let whole = digits.iter().position(|byte| *byte == b'.').unwrap_or(digits.len());
    let fraction = digits.get(whole + 1..).unwrap_or_default();
    if !digits[..whole].iter().all(&mut add) || !fraction.iter().all(&mut add) || whole + fraction.len() == 0 {
        return None;
    }
    let value = number as f64 / POWERS[fraction.len()];
    Some(if is_negative { -value } else { value })
}

/// A double of a quoted text: a number, `NaN`, `Infinity` or `-Infinity`.
fn quoted_float(text: &[u8]) -> Option<f64> {
    match text {
        b"NaN" => Some(f64::NAN),
        b"Infinity" | b"+Infinity" => Some(f64::INFINITY),
        b"-Infinity" => Some(f64::NEG_INFINITY),
        [b'0'..=b'9' | b'-' | b'+' | b'.', ..] => float(text).filter(|value| value.is_finite()),
        _ => None,
    }
}

fn is_float_word(text: &[u8]) -> bool {
    matches!(text, b"NaN" | b"Infinity" | b"-Infinity")
}

fn store<T: Copy + Default>(fixed: &mut Fixed<T>, value: Option<T>) -> Fit {
    value.map(|value| fixed.push(value)).ok_or(Misfit::Scalar)
}

fn store_integer<T: Copy + Default + TryFrom<i64>>(fixed: &mut Fixed<T>, value: Option<i64>) -> Fit {
    store(fixed, value.and_then(|value| T::try_from(value).ok()))
}

impl Column {
    /// Adds the value of a quoted text, escapes resolved.
    pub(super) fn push_text(&mut self, text: &[u8], rules: &Rules) -> Fit {
        let is_hive = rules.dialect == Dialect::Hive;
        match &mut self.data {
            Data::Text(varying) => varying.push(text),
            Data::Json(varying) => {
                super::nested::write_text(text, &mut varying.bytes);
                varying.end_value();
            }
            Data::Timestamp(fixed, digits) => {
                return store(fixed, rules.timestamp(text, false).and_then(|moment| moment.in_unit(*digits)));
            }
            Data::Int8(_) | Data::Int16(_) | Data::Int32(_) | Data::Int64(_) if is_hive => return Err(Misfit::Shape),
            // What is written here for a float that is no number is read here.
            Data::Float32(_) | Data::Float64(_) if is_hive && !is_float_word(text) => return Err(Misfit::Shape),
            Data::Int8(fixed) => return store_integer(fixed, integer(text, rules.dialect)),
            Data::Int16(fixed) => return store_integer(fixed, integer(text, rules.dialect)),
            Data::Int32(fixed) => return store_integer(fixed, integer(text, rules.dialect)),
            Data::Int64(fixed) => return store(fixed, integer(text, rules.dialect)),
            Data::Float32(fixed) => return store(fixed, quoted_float(text).map(|value| value as f32)),
            Data::Float64(fixed) => return store(fixed, quoted_float(text)),
            Data::Decimal(fixed, precision, scale) => {
                let value = decimal(text, *precision, *scale);
                if value.is_none() && is_hive {
                    return Err(Misfit::Null);
                }
                return store(fixed, value);
            }
            Data::Boolean(values, nulls) => {
                let value = match (rules.dialect, text.to_ascii_lowercase().as_slice()) {
                    (Dialect::Hive, _) => return Err(Misfit::Shape),
                    (Dialect::OpenX, word) => word == b"true",
                    (Dialect::Headwater, b"true") => true,
                    (Dialect::Headwater, b"false") => false,
                    (Dialect::Headwater, _) => return Err(Misfit::Scalar),
                };
                values.append(value);
                nulls.append_non_null();
            }
            Data::Date(fixed) => return store(fixed, rules.date(text, false)),
            Data::Time32(fixed, digits) => {
                return store_integer(fixed, time_in_unit(text, *digits));
            }
            Data::Time64(fixed, digits) => return store(fixed, time_in_unit(text, *digits)),
            Data::Binary(varying) if is_hive => varying.push(text),
            Data::Binary(varying) => {
                let start = varying.bytes.len();
                if general_purpose::STANDARD.decode_vec(text, &mut varying.bytes).is_err() {
                    varying.bytes.truncate(start);
                    return Err(Misfit::Scalar);
                }
                varying.end_value();
            }
            Data::Uuid(fixed) => {
                return store(fixed, uuid::Uuid::try_parse_ascii(text).ok().map(|uuid| uuid.as_u128()));
            }
            Data::Null(_) => return Err(Misfit::Scalar),
            Data::List { .. } | Data::Map { .. } | Data::Struct { .. } => return Err(Misfit::Shape),
        }
        Ok(())
    }

    /// Adds the value of a number's text.
    pub(super) fn push_number(&mut self, text: &[u8], rules: &Rules) -> Fit {
        let whole = |bits: u32| {
            let value = integer(text, rules.dialect)?;
            // Hive wraps what is too large for a byte.
            let wraps = bits == 8 && rules.dialect == Dialect::Hive && (128..=255).contains(&value);
            Some(if wraps { value - 256 } else { value })
        };
        match &mut self.data {
            Data::Int64(fixed) => store(fixed, whole(64)),
            Data::Int32(fixed) => store_integer(fixed, whole(32)),
            Data::Int16(fixed) => store_integer(fixed, whole(16)),
            Data::Int8(fixed) => store_integer(fixed, whole(8)),
            Data::Float64(fixed) => store(fixed, float(text).filter(|value| value.is_finite())),
            Data::Float32(fixed) => {
                store(fixed, float(text).map(|value| value as f32).filter(|value| value.is_finite()))
            }
            Data::Decimal(fixed, precision, scale) => store(fixed, decimal(text, *precision, *scale)),
            Data::Timestamp(fixed, digits) => {
                store(fixed, rules.timestamp(text, true).and_then(|moment| moment.in_unit(*digits)))
            }
            Data::Date(fixed) => store(fixed, rules.date(text, true)),
            Data::Text(varying) => {
                if rules.dialect == Dialect::OpenX {
                    super::nested::write_java_number(text, &mut varying.bytes);
                } else {
                    varying.bytes.extend_from_slice(text);
                }
                varying.end_value();
                Ok(())
            }
            Data::Json(varying) => {
                varying.push(text);
                Ok(())
            }
            Data::Boolean(values, nulls) if rules.dialect == Dialect::OpenX => {
                values.append(false);
                nulls.append_non_null();
                Ok(())
            }
            Data::List { .. } | Data::Map { .. } | Data::Struct { .. } => Err(Misfit::Shape),
            Data::Null(_)
            | Data::Boolean(..)
            | Data::Time32(..)
            | Data::Time64(..)
            | Data::Binary(_)
            | Data::Uuid(_) => Err(Misfit::Scalar),
        }
    }

    /// Adds `true` or `false`.
    pub(super) fn push_boolean(&mut self, value: bool) -> Fit {
        let word: &[u8] = if value { b"true" } else { b"false" };
        match &mut self.data {
            Data::Boolean(values, nulls) => {
                values.append(value);
                nulls.append_non_null();
                Ok(())
            }
            Data::Text(varying) | Data::Json(varying) => {
                varying.push(word);
                Ok(())
            }
            Data::List { .. } | Data::Map { .. } | Data::Struct { .. } => Err(Misfit::Shape),
            _ => Err(Misfit::Scalar),
        }
    }
}

fn time_in_unit(text: &[u8], digits: u32) -> Option<i64> {
    time_text::time_of_day(text).map(|nanos| nanos / 10i64.pow(9 - digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_floats_are_those_of_the_general_way() {
        for text in
            ["0", "-0", "1", "-1.5", "10.10", "0.1", "99.99", "123456789.01234", "5.", ".5", "000.300", "-0.001"]
        {
            let (short, general) = (short_float(text.as_bytes()), text.parse::<f64>().unwrap());
            assert_eq!(short.map(f64::to_bits), Some(general.to_bits()), "{text}");
        }
        for number in 0..20_000u64 {
            let text = format!("{}.{:03}", number * 7919 % 1_000_003, number % 1000);
            assert_eq!(short_float(text.as_bytes()), text.parse().ok(), "{text}");
        }
        for text in ["", "-", ".", "-.", "1.2.3", "1e5", "+1", "1234567890123456", " 1", "NaN"] {
            assert_eq!(short_float(text.as_bytes()), None, "{text}");
        }
    }
}
