//! Literals: numbers, text, bytes, dates and times, intervals.
//!
//! Invariant: a whole number is `integer` if it fits and `bigint` otherwise; a fraction is a decimal of its digits;
//! only an exponent makes a double.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray};
use datafusion::{common::ScalarValue, logical_expr::ScalarUDF, sql::sqlparser::ast};
use headwater_engine::error::{Error, Result};

use super::{Binder, Value, literal};
use crate::{
    kernels::{self, Op, cast, decimal, parse, time, time_tz},
    types::{Type, unit},
};

impl Binder<'_> {
    pub(crate) fn literal(&self, written: &ast::ValueWithSpan) -> Result<Value> {
        use ast::Value as V;
        Ok(match &written.value {
            V::Number(text, _) => number(text)?,
            V::SingleQuotedString(text)
            | V::EscapedStringLiteral(text)
            | V::UnicodeStringLiteral(text)
            | V::NationalStringLiteral(text) => text_value(text),
            V::HexStringLiteral(text) => {
                let width = written.span.end.column.saturating_sub(written.span.start.column);
                if width > 0 && width == text.chars().count() as u64 + 2 { radix(text, 16)? } else { bytes(text)? }
            }
            V::Boolean(truth) => Value::new(literal(ScalarValue::Boolean(Some(*truth))), Type::Boolean),
            V::Null => Value::new(literal(ScalarValue::Null), Type::Unknown),
            V::Placeholder(name) => {
                return Err(Error::user("INVALID_PARAMETER_USAGE", format!("parameter {name} has no value"))
                    .with_hint("give values with EXECUTE .. USING"));
            }
            other => return Err(Error::user("SYNTAX_ERROR", format!("literal {other} is not supported"))),
        })
    }

    /// `DATE '..'`, `TIMESTAMP '..'`, `DECIMAL '..'` and the like.
    pub(crate) fn typed_literal(&self, typed: &ast::TypedString) -> Result<Value> {
        let text = typed.value.clone().into_string().unwrap_or_default();
        let name = typed.data_type.to_string().to_lowercase();
        if name == "decimal" || name == "numeric" || name == "dec" {
            return decimal_value(&text);
        }
        if name.contains('(') {
            return Err(Error::user("SYNTAX_ERROR", format!("a literal's type has no parameters: {name}"))
                .with_hint(format!("write CAST('{text}' AS {name})")));
        }
        let data_type = Type::from_ast(&typed.data_type)?;
        let invalid =
            || Error::user("INVALID_LITERAL", format!("'{text}' is not a valid {} literal", name.to_uppercase()));
        match &data_type {
            Type::Timestamp(_) | Type::TimestampTz(..) => timestamp_value(&text).ok_or_else(invalid),
            Type::Time(_) if let Some((value, precision)) = time_tz::read(&text) => {
                scalar(time_tz::column(vec![Some(value)])?, Type::TimeTz(precision))
            }
            Type::Time(_) => {
                let (nanos, precision) = parse::time_of_day(text.trim()).ok_or_else(invalid)?;
                scalar(time::column(vec![Some(nanos)], &Type::Time(precision))?, Type::Time(precision))
            }
            Type::Json => {
                if serde_json::from_str::<serde::de::IgnoredAny>(&text).is_err() {
                    return Err(invalid());
                }
                self.function_value("json_parse", vec![text_value(&text)])
            }
            Type::Varchar(_) => Ok(Value::new(text_value(&text).expr, Type::Varchar(Some(length(&text))))),
            Type::Char(_) => cast_text(&text, &Type::Char(length(&text).max(1))),
            Type::Varbinary => bytes(&text),
            _ => cast_text(&text, &data_type).map_err(|error| match error.code().0 {
                "INVALID_CAST_ARGUMENT" => invalid(),
                _ => error,
            }),
        }
    }

    /// `IPADDRESS '..'`
    pub(crate) fn ip_literal(&self, text: Value) -> Result<Value> {
        let text = match &text.expr {
            datafusion::logical_expr::Expr::Literal(ScalarValue::Utf8(Some(text)), _) => text.clone(),
            _ => return Err(Error::internal("the text of a literal is a literal")),
        };
        cast_text(&text, &Type::IpAddress)
            .map_err(|_| Error::user("INVALID_LITERAL", format!("'{text}' is not a valid IPADDRESS literal")))
    }

    /// A field of a `time with time zone`.
    pub(crate) fn of_time_with_zone(&self, udf: &ScalarUDF, value: Value, precision: u8) -> Result<Value> {
        let part = match udf.name() {
            "timezone_hour" => time_tz::Part::Hours,
            "timezone_minute" => time_tz::Part::Minutes,
            "timezone" => {
                let text = self.cast(value, &Type::VARCHAR, false)?;
                let args = vec![text, text_value("[+-][0-9:]+$")];
                return self.function_value("regexp_extract", args);
            }
            name => {
                let local = self.cast(value, &Type::Time(precision), false)?;
                return self.function_value(name, vec![local]);
            }
        };
        Ok(Value::new(kernels::call(Op::TimeTzPart(part), vec![value.expr], Type::Bigint), Type::Bigint))
    }

    /// `current_timestamp(6)` and the like.
    pub(crate) fn precise_clock(&self, name: &str, precision: &ast::Expr) -> Result<Value> {
        let digits = super::query::ordinal(precision).and_then(|digits| u8::try_from(digits).ok());
        let Some(digits) = digits.filter(|digits| *digits <= 9) else {
            return Err(Error::user("SYNTAX_ERROR", format!("the precision of {name} is from 0 to 9")));
        };
        if name == "current_time" {
            let now = self.function_value("now", Vec::new())?;
            return self.cast(now, &Type::TimeTz(digits), false);
        }
        let now = self.function_value(name, Vec::new())?;
        let wanted = match &now.data_type {
            Type::TimestampTz(_, zone) => Type::TimestampTz(digits, zone.clone()),
            Type::Timestamp(_) => Type::Timestamp(digits),
            _ => Type::Time(digits),
        };
        self.cast(now, &wanted, false)
    }

    /// `INTERVAL '1 02:03:04' DAY TO SECOND`
    pub(crate) fn interval(&self, interval: &ast::Interval) -> Result<Value> {
        let (text, negative) = interval_text(&interval.value)?;
        let invalid = || Error::user("INVALID_LITERAL", format!("'{text}' is not a valid interval literal"));
        let Some(leading) = interval.leading_field.as_ref().map(|field| field.to_string().to_uppercase()) else {
            return Err(Error::user("TYPE_NOT_FOUND", "an interval needs a unit").with_hint("write INTERVAL '1' DAY"));
        };
        let last =
            interval.last_field.as_ref().map_or_else(|| leading.clone(), |field| field.to_string().to_uppercase());
        let (leading, last) = (leading.as_str(), last.as_str());
        if ![leading, last].iter().all(|unit| INTERVAL_UNITS.contains(unit)) {
            return Err(Error::user("TYPE_NOT_FOUND", format!("interval unit {leading} does not exist"))
                .with_hint("use YEAR, MONTH, DAY, HOUR, MINUTE or SECOND"));
        }
        let (body, minus) = match text.trim().strip_prefix('-') {
            Some(rest) => (rest, !negative),
            None => (text.trim().trim_start_matches('+'), negative),
        };
        let sign = if minus { -1 } else { 1 };
        if matches!(leading, "YEAR" | "MONTH") {
            let months = months(body, leading, last).ok_or_else(invalid)? * sign;
            let months = i32::try_from(months).map_err(|_| invalid())?;
            return Ok(Value::new(literal(ScalarValue::IntervalYearMonth(Some(months))), Type::IntervalYearMonth));
        }
        let millis = millis(body, leading, last).ok_or_else(invalid)? * sign;
        Ok(Value::new(literal(ScalarValue::DurationMillisecond(Some(millis))), Type::IntervalDaySecond))
    }
}

/// Units of intervals.
const INTERVAL_UNITS: &[&str] = &["YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND"];

/// A text literal.
pub(crate) fn text_value(text: &str) -> Value {
    Value::new(literal(ScalarValue::Utf8(Some(text.to_owned()))), Type::Varchar(Some(length(text))))
}

fn length(text: &str) -> u32 {
    u32::try_from(text.chars().count()).unwrap_or(u32::MAX)
}

fn interval_text(value: &ast::Expr) -> Result<(String, bool)> {
    match value {
        ast::Expr::Value(value) => match &value.value {
            ast::Value::SingleQuotedString(text) => Ok((text.clone(), false)),
            _ => {
                Err(Error::user("SYNTAX_ERROR", "an interval is written in quotes").with_hint("write INTERVAL '1' DAY"))
            }
        },
        ast::Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } => {
            let (text, negative) = interval_text(expr)?;
            Ok((text, !negative))
        }
        ast::Expr::UnaryOp { op: ast::UnaryOperator::Plus, expr } => interval_text(expr),
        _ => Err(Error::user("SYNTAX_ERROR", "an interval is written in quotes")),
    }
}

/// A whole number of an integer type.
pub(crate) fn integer_value(value: i64) -> Value {
    match i32::try_from(value) {
        Ok(narrow) => Value::new(literal(ScalarValue::Int32(Some(narrow))), Type::Integer),
        Err(_) => Value::new(literal(ScalarValue::Int64(Some(value))), Type::Bigint),
    }
}

fn radix(digits: &str, radix: u32) -> Result<Value> {
    let digits = digits.replace('_', "");
    i64::from_str_radix(&digits, radix)
        .map(integer_value)
        .map_err(|_| Error::user("INVALID_LITERAL", format!("invalid numeric literal: {digits}")))
}

/// A number literal.
pub(crate) fn number(text: &str) -> Result<Value> {
    let misplaced = |text: &str| text.contains("__") || text.ends_with('_');
    if misplaced(text) || text.contains(['e', 'E']) && !text.starts_with('0') && text.contains('_') {
        return Err(Error::user("SYNTAX_ERROR", format!("invalid numeric literal: {text}")));
    }
    let plain = text.replace('_', "");
    let lower = plain.to_ascii_lowercase();
    for (prefix, base) in [("0x", 16), ("0b", 2), ("0o", 8)] {
        if let Some(digits) = lower.strip_prefix(prefix) {
            return radix(digits, base);
        }
    }
    if lower.contains('e') {
        let value: f64 = lower.parse().map_err(|_| Error::user("INVALID_LITERAL", format!("invalid number {text}")))?;
        return Ok(Value::new(literal(ScalarValue::Float64(Some(value))), Type::Double));
    }
    if lower.contains('.') {
        return decimal_value(&lower);
    }
    match lower.parse::<i64>() {
        Ok(value) => Ok(integer_value(value)),
        Err(_) => Err(Error::user("SYNTAX_ERROR", format!("invalid numeric literal: {text}"))
            .with_hint("write DECIMAL '..' for more digits")),
    }
}

fn decimal_value(text: &str) -> Result<Value> {
    let invalid = || Error::user("INVALID_LITERAL", format!("invalid decimal literal: {text}"));
    let text = text.trim().replace('_', "");
    let unsigned = text.trim_start_matches(['+', '-']);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let whole = whole.trim_start_matches('0');
    let precision = (whole.len() + fraction.len()).max(1);
    let precision = u8::try_from(precision).ok().filter(|precision| *precision <= 38).ok_or_else(invalid)?;
    let scale = fraction.len() as i8;
    let value = decimal::parse(&text, scale).ok_or_else(invalid)?;
    let value = decimal::checked(value, precision).map_err(|_| invalid())?;
    Ok(Value::new(literal(ScalarValue::Decimal128(Some(value), precision, scale)), Type::Decimal(precision, scale)))
}

fn bytes(text: &str) -> Result<Value> {
    let digits: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let decoded = hex::decode(&digits)
        .map_err(|_| Error::user("SYNTAX_ERROR", format!("X'{text}' is not made of pairs of hexadecimal digits")))?;
    Ok(Value::new(literal(ScalarValue::Binary(Some(decoded))), Type::Varbinary))
}

fn cast_text(text: &str, to: &Type) -> Result<Value> {
    let array: ArrayRef = Arc::new(StringArray::from(vec![text]));
    if !cast::exists(&Type::VARCHAR, to) {
        return Err(Error::user("INVALID_LITERAL", format!("there is no literal of type {to}")));
    }
    scalar(cast::evaluate(&array, &Type::VARCHAR, to, false)?, to.clone())
}

fn scalar(array: ArrayRef, data_type: Type) -> Result<Value> {
    debug_assert_eq!(array.len(), 1);
    Ok(Value::new(literal(ScalarValue::try_from_array(&array, 0)?), data_type))
}

fn timestamp_value(text: &str) -> Option<Value> {
    let written = parse::timestamp(text)?;
    let precision = written.precision;
    let (nanos, data_type) = match &written.zone {
        None => (written.local, Type::Timestamp(precision)),
        Some(name) => {
            let zone = time::Zone::parse(name)?;
            let instant = zone.instant(written.local);
            if zone.local(instant) != written.local {
                return None;
            }
            (instant, Type::TimestampTz(precision, name.as_str().into()))
        }
    };
    debug_assert_eq!(unit(precision), unit(precision));
    scalar(time::column(vec![Some(nanos)], &data_type).ok()?, data_type).ok()
}

fn months(text: &str, leading: &str, last: &str) -> Option<i64> {
    match (leading, last) {
        ("YEAR", "YEAR") => text.parse::<i64>().ok()?.checked_mul(12),
        ("MONTH", "MONTH") => text.parse().ok(),
        ("YEAR", "MONTH") => {
            let (years, months) = text.split_once('-')?;
            Some(years.parse::<i64>().ok()? * 12 + months.parse::<i64>().ok()?)
        }
        _ => None,
    }
}

fn millis(text: &str, leading: &str, last: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 4] = [("DAY", 86_400_000), ("HOUR", 3_600_000), ("MINUTE", 60_000), ("SECOND", 1000)];
    let first = UNITS.iter().position(|(name, _)| *name == leading)?;
    let end = UNITS.iter().position(|(name, _)| *name == last)?;
    if end < first {
        return None;
    }
    let mut parts = text.split([' ', ':']).filter(|part| !part.is_empty());
    let mut total: i64 = 0;
    for (name, size) in &UNITS[first..=end] {
        let Some(part) = parts.next() else { break };
        let amount = if *name == "SECOND" {
            let (whole, fraction) = part.split_once('.').unwrap_or((part, ""));
            let fraction: String = fraction.chars().chain("000".chars()).take(3).collect();
            whole.parse::<i64>().ok()?.checked_mul(1000)?.checked_add(fraction.parse().ok()?)?
        } else {
            part.parse::<i64>().ok()?.checked_mul(*size)?
        };
        total = total.checked_add(amount)?;
    }
    if parts.next().is_some() { None } else { Some(total) }
}
