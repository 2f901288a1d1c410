//! Values as text, as `CAST(.. AS varchar)` writes them.
//!
//! Invariant: the text reads back as the value, except that zones and precision come from the type.

use arrow::{
    array::{Array, ArrayRef, AsArray},
    datatypes::{
        Decimal128Type, DurationMillisecondType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
        IntervalYearMonthType,
    },
};
use chrono::{Datelike, NaiveDate};
use headwater_engine::error::{Error, Result};

use super::{decimal, ip, time, time_tz, zoned};
use crate::{sketches::Sketch, types::Type};

/// The text of each value.
pub fn texts(array: &ArrayRef, of: &Type) -> Result<Vec<Option<String>>> {
    Ok(match of {
        Type::Unknown => vec![None; array.len()],
        Type::Boolean => super::booleans(array)?.iter().map(|v| v.map(|v| v.to_string())).collect(),
        Type::Tinyint => array.as_primitive::<Int8Type>().iter().map(|v| v.map(|v| v.to_string())).collect(),
        Type::Smallint => array.as_primitive::<Int16Type>().iter().map(|v| v.map(|v| v.to_string())).collect(),
        Type::Integer => array.as_primitive::<Int32Type>().iter().map(|v| v.map(|v| v.to_string())).collect(),
        Type::Bigint => array.as_primitive::<Int64Type>().iter().map(|v| v.map(|v| v.to_string())).collect(),
        Type::Real => array.as_primitive::<Float32Type>().iter().map(|v| v.map(real)).collect(),
        Type::Double => array.as_primitive::<Float64Type>().iter().map(|v| v.map(double)).collect(),
        Type::Decimal(_, s) => {
            array.as_primitive::<Decimal128Type>().iter().map(|v| v.map(|v| decimal::text(v, *s))).collect()
        }
        Type::Varchar(_) => array.as_string::<i32>().iter().map(|v| v.map(str::to_owned)).collect(),
        Type::Char(_) => array.as_string_view().iter().map(|v| v.map(str::to_owned)).collect(),
        Type::Json => array.as_string::<i64>().iter().map(|v| v.map(str::to_owned)).collect(),
        Type::Date | Type::Time(_) | Type::Timestamp(_) | Type::TimestampTz(..) => times(array, of)?,
        Type::ZonedEach(p) => {
            let texts = zoned::cast(array, *p, &Type::VARCHAR)?;
            texts.as_string::<i32>().iter().map(|v| v.map(str::to_owned)).collect()
        }
        Type::TimeTz(p) => time_tz::values(array)?.into_iter().map(|v| v.map(|v| time_tz::text(v, *p))).collect(),
        Type::IntervalYearMonth => {
            array.as_primitive::<IntervalYearMonthType>().iter().map(|v| v.map(months)).collect()
        }
        Type::IntervalDaySecond => {
            array.as_primitive::<DurationMillisecondType>().iter().map(|v| v.map(millis)).collect()
        }
        Type::Uuid => array.as_fixed_size_binary().iter().map(|v| v.map(uuid_text)).collect(),
        Type::IpAddress => array.as_binary::<i64>().iter().map(|v| v.map(ip::text)).collect(),
        Type::Sketch(sketch) => Sketch::unwrap(array)?.iter().map(|v| v.map(|v| sketch_text(*sketch, v))).collect(),
        Type::Varbinary | Type::Array(_) | Type::Map(..) | Type::Row(_) | Type::Other(_) => {
            return Err(Error::user("TYPE_MISMATCH", format!("cannot cast {of} to varchar")));
        }
    })
}

/// A sketch's bytes in base64, as clients show them; the name of a colour.
fn sketch_text(sketch: Sketch, bytes: &[u8]) -> String {
    use base64::Engine;
    match sketch {
        Sketch::Color => crate::functions::color::text(bytes),
        _ => base64::engine::general_purpose::STANDARD.encode(bytes),
    }
}

fn uuid_text(bytes: &[u8]) -> String {
    uuid::Uuid::from_slice(bytes).map(|uuid| uuid.to_string()).unwrap_or_default()
}

fn times(array: &ArrayRef, of: &Type) -> Result<Vec<Option<String>>> {
    let zone = match of {
        Type::TimestampTz(_, name) => Some((time::zone_of(name)?, name)),
        _ => None,
    };
    Ok(time::values(array)?
        .into_iter()
        .map(|value| {
            let value = value?;
            Some(match of {
                Type::Date => date_text(value.div_euclid(time::DAY) as i64),
                Type::Time(p) => time_text(value, *p),
                Type::Timestamp(p) => timestamp_text(value, *p),
                Type::TimestampTz(p, _) => match zone {
                    Some((zone, name)) => format!("{} {name}", timestamp_text(zone.local(value), *p)),
                    None => timestamp_text(value, *p),
                },
                _ => String::new(),
            })
        })
        .collect())
}

/// A date, years beyond four digits with a sign.
pub fn date_text(days: i64) -> String {
    match time::date(days) {
        Some(date) => civil_date(date),
        None => days.to_string(),
    }
}

fn civil_date(date: NaiveDate) -> String {
    let year = date.year();
    let sign = if year > 9999 {
        "+"
    } else if year < 0 {
        "-"
    } else {
        ""
    };
    format!("{sign}{:04}-{:02}-{:02}", year.unsigned_abs(), date.month(), date.day())
}

/// A time of day.
pub fn time_text(nanos: i128, precision: u8) -> String {
    let seconds = nanos.rem_euclid(time::DAY) / 1_000_000_000;
    let mut text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if precision > 0 {
        let fraction = format!("{:09}", nanos.rem_euclid(1_000_000_000));
        text.push('.');
        text.push_str(&fraction[..usize::from(precision.min(9))]);
    }
    text
}

/// A civil date and time.
pub fn timestamp_text(nanos: i128, precision: u8) -> String {
    format!("{} {}", date_text(nanos.div_euclid(time::DAY) as i64), time_text(nanos, precision))
}

fn months(months: i32) -> String {
    let sign = if months < 0 { "-" } else { "" };
    format!("{sign}{}-{}", months.unsigned_abs() / 12, months.unsigned_abs() % 12)
}

fn millis(millis: i64) -> String {
    let sign = if millis < 0 { "-" } else { "" };
    let all = millis.unsigned_abs();
    let (days, seconds) = (all / 86_400_000, all / 1000 % 86_400);
    format!("{sign}{days} {:02}:{:02}:{:02}.{:03}", seconds / 3600, seconds / 60 % 60, seconds % 60, all % 1000)
}

/// A double as `CAST` writes it: one digit, a fraction, an exponent.
pub fn double(value: f64) -> String {
    special(value).or_else(|| zero(value)).unwrap_or_else(|| scientific(&format!("{value:e}")))
}

/// A real as `CAST` writes it.
pub fn real(value: f32) -> String {
    special(f64::from(value)).or_else(|| zero(f64::from(value))).unwrap_or_else(|| scientific(&format!("{value:e}")))
}

fn special(value: f64) -> Option<String> {
    if value.is_nan() {
        return Some("NaN".into());
    }
    value.is_infinite().then(|| if value > 0.0 { "Infinity".into() } else { "-Infinity".into() })
}

fn zero(value: f64) -> Option<String> {
    (value == 0.0).then(|| if value.is_sign_negative() { "-0E0".into() } else { "0E0".into() })
}

fn scientific(text: &str) -> String {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let point = if mantissa.contains('.') { "" } else { ".0" };
    format!("{mantissa}{point}E{exponent}")
}

/// A double as Java writes it, which JSON uses: plain between a thousandth and ten million.
pub fn java_double(value: f64) -> String {
    java(value, double(value), format!("{value}"))
}

/// A real as Java writes it.
pub fn java_real(value: f32) -> String {
    java(f64::from(value), real(value), format!("{value}"))
}

fn java(value: f64, scientific: String, plain: String) -> String {
    let size = value.abs();
    if value.is_finite() && (size == 0.0 || (1e-3..1e7).contains(&size)) {
        return if plain.contains('.') { plain } else { format!("{plain}.0") };
    }
    scientific
}
