//! `format(..)`: Java's format strings.
//!
//! Invariant: a conversion that does not fit its argument's type is an error, never a guess.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use headwater_engine::error::{Error, Result};

use super::{cast, render, time};
use crate::types::Type;

/// Characters that a conversion fills up to.
const WIDTH_MAX: usize = 100_000;
/// Digits that a conversion prints, or characters that it keeps.
const PRECISION_MAX: usize = 100_000;

/// One `%..` of a format.
#[derive(Debug, Default, Clone)]
struct Conversion {
    index: Option<usize>,
    flags: String,
    width: usize,
    precision: Option<usize>,
    kind: char,
    time: Option<char>,
    again: bool,
}

enum Piece {
    Text(String),
    Value(Conversion),
}

fn wrong(message: impl Into<String>) -> Error {
    Error::user("INVALID_FUNCTION_ARGUMENT", message)
}

/// Formats the columns after the first by the first.
pub fn evaluate(args: &[ArrayRef], types: &[Type], rows: usize) -> Result<ArrayRef> {
    let Some((formats, values)) = args.split_first() else { return Err(Error::internal("format has arguments")) };
    let formats = formats.as_string::<i32>();
    let mut out = StringBuilder::new();
    for row in 0..rows {
        if formats.is_null(row) {
            out.append_null();
            continue;
        }
        let mut text = String::new();
        let (mut next, mut last) = (0, None);
        for piece in pieces(formats.value(row))? {
            match piece {
                Piece::Text(literal) => text.push_str(&literal),
                Piece::Value(conversion) => {
                    let index = match last {
                        Some(last) if conversion.again => last,
                        _ => conversion.index.unwrap_or(next),
                    };
                    next += usize::from(conversion.index.is_none() && !conversion.again);
                    last = Some(index);
                    let (Some(column), Some(of)) = (values.get(index), types.get(index)) else {
                        return Err(wrong(format!("format specifier '%{}' has no argument", conversion.kind)));
                    };
                    text.push_str(&one(&conversion, &column.slice(row, 1), of)?);
                }
            }
        }
        out.append_value(text);
    }
    Ok(Arc::new(out.finish()))
}

fn pieces(format: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let conversion = conversion(&mut chars)?;
        match conversion.kind {
            '%' => text.push('%'),
            'n' => text.push('\n'),
            _ => {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
                pieces.push(Piece::Value(conversion));
            }
        }
    }
    pieces.push(Piece::Text(text));
    Ok(pieces)
}

fn conversion(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Conversion> {
    let mut made = Conversion::default();
    let mut digits = String::new();
    made.again = chars.next_if_eq(&'<').is_some();
    while let Some(c) = chars.next_if(|c| c.is_ascii_digit() && (*c != '0' || !digits.is_empty())) {
        digits.push(c);
    }
    if !digits.is_empty() && chars.next_if_eq(&'$').is_some() {
        made.index = digits.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        digits.clear();
    }
    if digits.is_empty() {
        while let Some(c) = chars.next_if(|c| "-#+ 0,(".contains(*c)) {
            made.flags.push(c);
        }
        while let Some(c) = chars.next_if(char::is_ascii_digit) {
            digits.push(c);
        }
    }
    if !digits.is_empty() {
        made.width = within(&digits, WIDTH_MAX, "width")?;
    }
    if chars.next_if_eq(&'.').is_some() {
        let mut places = String::new();
        while let Some(c) = chars.next_if(char::is_ascii_digit) {
            places.push(c);
        }
        made.precision = Some(within(&places, PRECISION_MAX, "precision")?);
    }
    made.kind = chars.next().ok_or_else(|| wrong("format string ends with '%'"))?;
    if matches!(made.kind, 't' | 'T') {
        made.time = chars.next();
    }
    Ok(made)
}

/// A number of a conversion; Java's are whole numbers of 32 bits, and more than a limit is not printed.
fn within(digits: &str, limit: usize, what: &str) -> Result<usize> {
    let number = digits.parse::<i32>().map_err(|_| wrong(format!("invalid format {what} '{digits}'")))?;
    usize::try_from(number).ok().filter(|number| *number <= limit).ok_or_else(|| {
        Error::not_supported(format!("a format {what} of more than {limit} is not supported"))
            .with_hint("use rpad or lpad for longer text")
    })
}

fn one(conversion: &Conversion, value: &ArrayRef, of: &Type) -> Result<String> {
    let mismatch = || wrong(format!("invalid format conversion '%{}' for {of}", conversion.kind));
    let null = value.is_null(0) || *of == Type::Unknown;
    let upper = conversion.kind.is_ascii_uppercase();
    let text = match conversion.kind.to_ascii_lowercase() {
        _ if null && !conversion.kind.eq_ignore_ascii_case(&'b') => "null".to_owned(),
        's' => plain(value, of)?,
        'b' => match of {
            Type::Boolean if !null => super::booleans(value)?.value(0).to_string(),
            _ => (!null).to_string(),
        },
        'd' if of.is_integer() => whole(conversion, number(value, of)?),
        'x' if of.is_integer() => hexadecimal(value, of)?,
        'o' if of.is_integer() => format!("{:o}", number(value, of)?),
        'f' | 'e' | 'g' if matches!(of, Type::Double | Type::Real | Type::Decimal(..)) => {
            floating(conversion, value, of)?
        }
        'h' => format!("{:x}", java_hash(value, of)?),
        't' => moment(conversion.time, value, of).ok_or_else(mismatch)?,
        _ => return Err(mismatch()),
    };
    let text = match (conversion.kind.to_ascii_lowercase(), conversion.precision) {
        ('s' | 'b', Some(places)) => text.chars().take(places).collect(),
        _ => text,
    };
    let text = if upper { text.to_uppercase() } else { text };
    Ok(padded(conversion, text))
}

fn plain(value: &ArrayRef, of: &Type) -> Result<String> {
    let text = match of {
        Type::Array(_) | Type::Map(..) | Type::Row(_) | Type::Varbinary => {
            return Err(Error::not_supported(format!("format of {of} is not supported")));
        }
        Type::Double => {
            let values = value.as_primitive::<arrow::datatypes::Float64Type>();
            return Ok(render::java_double(values.value(0)));
        }
        Type::Real => {
            let values = value.as_primitive::<arrow::datatypes::Float32Type>();
            return Ok(render::java_real(values.value(0)));
        }
        Type::Time(_) | Type::Timestamp(_) | Type::TimestampTz(..) => return iso(value, of),
        of => render::texts(value, of)?,
    };
    Ok(text.into_iter().next().flatten().unwrap_or_else(|| "null".into()))
}

/// A time as Java's classes write it: seconds only if there are any, fractions in groups of three digits.
fn iso(value: &ArrayRef, of: &Type) -> Result<String> {
    let Some(Some(nanos)) = time::values(value)?.into_iter().next() else { return Ok("null".into()) };
    let zone = match of {
        Type::TimestampTz(_, name) => Some((time::zone_of(name)?, name)),
        _ => None,
    };
    let local = zone.as_ref().map_or(nanos, |(zone, _)| zone.local(nanos));
    let clock = local.rem_euclid(time::DAY);
    let digits = match clock {
        clock if clock % 60_000_000_000 == 0 => 0,
        clock if clock % 1_000_000_000 == 0 => 8,
        clock if clock % 1_000_000 == 0 => 12,
        clock if clock % 1000 == 0 => 15,
        _ => 18,
    };
    let clock: String = render::time_text(clock, 9).chars().take(if digits == 0 { 5 } else { digits }).collect();
    let shown = zone.map_or_else(String::new, |(zone, name)| {
        let minutes = zone.offset_seconds(nanos) / 60;
        let sign = if minutes < 0 { '-' } else { '+' };
        let offset = format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60);
        let offset = if minutes == 0 { "Z" } else { offset.as_str() };
        if name.starts_with(['+', '-']) { offset.to_owned() } else { format!("{offset}[{name}]") }
    });
    Ok(match of {
        Type::Time(_) => clock,
        _ => format!("{}T{clock}{shown}", render::date_text(local.div_euclid(time::DAY) as i64)),
    })
}

fn number(value: &ArrayRef, of: &Type) -> Result<i64> {
    let wide = cast::evaluate(value, of, &Type::Bigint, false)?;
    Ok(wide.as_primitive::<arrow::datatypes::Int64Type>().value(0))
}

/// What Java's `hashCode` gives for a value of a simple type.
fn java_hash(value: &ArrayRef, of: &Type) -> Result<i32> {
    let folded = |bits: i64| (bits ^ (bits as u64 >> 32) as i64) as i32;
    Ok(match of {
        Type::Boolean => {
            if super::booleans(value)?.value(0) {
                1231
            } else {
                1237
            }
        }
        of if of.is_integer() => folded(number(value, of)?),
        Type::Double => folded(value.as_primitive::<arrow::datatypes::Float64Type>().value(0).to_bits() as i64),
        Type::Varchar(_) | Type::Char(_) => plain(value, of)?
            .encode_utf16()
            .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit))),
        other => return Err(wrong(format!("invalid format conversion '%h' for {other}"))),
    })
}

fn hexadecimal(value: &ArrayRef, of: &Type) -> Result<String> {
    Ok(format!("{:x}", number(value, of)?))
}

fn whole(conversion: &Conversion, value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let digits = if conversion.flags.contains(',') { separated(&digits) } else { digits };
    signed(conversion, value < 0, digits)
}

fn separated(digits: &str) -> String {
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn signed(conversion: &Conversion, negative: bool, digits: String) -> String {
    let sign = match (negative, conversion.flags.contains('+'), conversion.flags.contains(' ')) {
        (true, ..) if conversion.flags.contains('(') => return format!("({digits})"),
        (true, ..) => "-",
        (_, true, _) => "+",
        (_, _, true) => " ",
        _ => "",
    };
    let zeros = if conversion.flags.contains('0') {
        conversion.width.saturating_sub(sign.len() + digits.chars().count())
    } else {
        0
    };
    format!("{sign}{}{digits}", "0".repeat(zeros))
}

fn floating(conversion: &Conversion, value: &ArrayRef, of: &Type) -> Result<String> {
    let places = conversion.precision.unwrap_or(6);
    if let (Type::Decimal(_, scale), 'f') = (of, conversion.kind) {
        let unscaled = value.as_primitive::<arrow::datatypes::Decimal128Type>().value(0);
        let text = super::decimal::text(unscaled.wrapping_abs(), *scale);
        let text = fixed(&text.replace('.', ""), text.find('.').unwrap_or(text.len()) as i64, places);
        return Ok(grouped_fraction(conversion, unscaled < 0, &text));
    }
    let wide = cast::evaluate(value, of, &Type::Double, false)?;
    let number = wide.as_primitive::<arrow::datatypes::Float64Type>().value(0);
    if !number.is_finite() {
        return Ok(render::double(number));
    }
    let negative = number.is_sign_negative();
    if conversion.kind.eq_ignore_ascii_case(&'e') {
        let (digits, exponent) = significant(number, places + 1);
        return Ok(signed(conversion, negative, scientific(&digits, exponent)));
    }
    if conversion.kind.eq_ignore_ascii_case(&'g') {
        let count = places.max(1);
        let (digits, exponent) = significant(number, count);
        return Ok(match usize::try_from(exponent) {
            Ok(place) if place < count => {
                let (whole, rest) = digits.split_at(place + 1);
                let point = if rest.is_empty() { "" } else { "." };
                grouped_fraction(conversion, negative, &format!("{whole}{point}{rest}"))
            }
            Err(_) if exponent >= -4 => {
                let zeros = "0".repeat(exponent.unsigned_abs() as usize - 1);
                grouped_fraction(conversion, negative, &format!("0.{zeros}{digits}"))
            }
            _ => signed(conversion, negative, scientific(&digits, exponent)),
        });
    }
    let written = format!("{:e}", number.abs());
    let (mantissa, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    let text = fixed(&mantissa.replace('.', ""), exponent.parse::<i64>().unwrap_or(0) + 1, places);
    Ok(grouped_fraction(conversion, negative, &text))
}

/// `0.digits` times a power of ten with so many places, rounded half up; what no digit says is zero.
fn fixed(digits: &str, point: i64, places: usize) -> String {
    let digit = |at: i64| usize::try_from(at).ok().and_then(|at| digits.as_bytes().get(at)).copied().unwrap_or(b'0');
    let (from, to) = (point.min(1) - 1, point + places as i64);
    let mut out: Vec<u8> = (from.min(point - 1)..to).map(digit).collect();
    if digit(to) >= b'5' {
        let nines = out.iter().rev().take_while(|digit| **digit == b'9').count();
        let rest = out.len() - nines;
        out[rest..].fill(b'0');
        match out[..rest].last_mut() {
            Some(last) => *last += 1,
            None => out.insert(0, b'1'),
        }
    }
    let whole = String::from_utf8_lossy(&out[..out.len() - places]).into_owned();
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    match places {
        0 => whole.to_owned(),
        _ => format!("{whole}.{}", String::from_utf8_lossy(&out[out.len() - places..])),
    }
}

/// So many digits of a number, rounded half up as it is written, and the power of ten of the first.
fn significant(number: f64, count: usize) -> (String, i32) {
    let text = format!("{:e}", number.abs());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let mut exponent = exponent.parse().unwrap_or(0);
    let mut digits: Vec<char> = mantissa.chars().filter(char::is_ascii_digit).collect();
    let up = digits.get(count).is_some_and(|digit| *digit >= '5');
    digits.resize(count, '0');
    if up {
        while digits.last() == Some(&'9') {
            digits.pop();
        }
        match digits.last_mut() {
            Some(last) => *last = char::from(*last as u8 + 1),
            None => {
                digits.push('1');
                exponent += 1;
            }
        }
        digits.resize(count, '0');
    }
    (digits.into_iter().collect(), exponent)
}

/// `1.2345e+08`
fn scientific(digits: &str, exponent: i32) -> String {
    let (first, rest) = digits.split_at(digits.len().min(1));
    let (point, sign) = (if rest.is_empty() { "" } else { "." }, if exponent < 0 { '-' } else { '+' });
    format!("{first}{point}{rest}e{sign}{:02}", exponent.unsigned_abs())
}

fn grouped_fraction(conversion: &Conversion, negative: bool, text: &str) -> String {
    if !conversion.flags.contains(',') {
        return signed(conversion, negative, text.to_owned());
    }
    let (whole, fraction) =
        text.split_once('.').map_or((text, String::new()), |(whole, rest)| (whole, format!(".{rest}")));
    signed(conversion, negative, format!("{}{fraction}", separated(whole)))
}

fn moment(part: Option<char>, value: &ArrayRef, of: &Type) -> Option<String> {
    let nanos = match of {
        of if of.is_integer() => i128::from(number(value, of).ok()?) * 1_000_000,
        _ => time::values(value).ok()?.first().copied().flatten()?,
    };
    let local = match of {
        Type::TimestampTz(_, zone) => time::zone_of(zone).ok()?.local(nanos),
        _ => nanos,
    };
    let civil = time::civil(local)?;
    let code = match part? {
        'F' => "%Y-%m-%d".to_owned(),
        'T' => "%H:%M:%S".to_owned(),
        'R' => "%H:%M".to_owned(),
        'D' => "%m/%d/%y".to_owned(),
        'N' => "%9f".to_owned(),
        'L' => "%3f".to_owned(),
        'e' => "%-d".to_owned(),
        code @ ('Y' | 'y' | 'm' | 'd' | 'H' | 'I' | 'M' | 'S' | 'j' | 'B' | 'b' | 'A' | 'a' | 'p') => {
            format!("%{code}")
        }
        _ => return None,
    };
    Some(civil.format(&code).to_string())
}

fn padded(conversion: &Conversion, text: String) -> String {
    let missing = conversion.width.saturating_sub(text.chars().count());
    let blanks = " ".repeat(missing);
    if conversion.flags.contains('-') { format!("{text}{blanks}") } else { format!("{blanks}{text}") }
}
