//! A value as text, the way Athena and Trino show it.
//!
//! | type | text |
//! |---|---|
//! | timestamp(3), with time zone | `2023-06-01 00:00:00.000`, `2023-06-01 00:00:00.000 Europe/Rome` |
//! | array, map, row | `[1, 2]`, `{1=2}`, `{a=1}` |
//! | real, double | Java's: `1.0`, `1.0E20` |
//! | decimal | all digits of its scale |
//! | varbinary | `68 69` |
//! | interval | `1-2` (year to month), `3 04:05:06.000` (day to second) |
//!
//! Invariant: formatting never fails; a value whose type has no form of its own is shown as Arrow shows it.

use std::fmt::Write;

use arrow::{
    array::{Array, AsArray, timezone::Tz},
    datatypes::{
        ArrowPrimitiveType, DataType, Date32Type, Date64Type, Decimal128Type, Decimal256Type, DecimalType,
        DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType, Float32Type,
        Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalUnit, IntervalYearMonthType,
        Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit,
        TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type,
        UInt16Type, UInt32Type, UInt64Type,
    },
    util::display::{ArrayFormatter, FormatOptions},
};
use chrono::{DateTime, NaiveDate, Offset, TimeZone};

/// Appends the text of one value; nothing for NULL.
pub fn write_text(array: &dyn Array, row: usize, out: &mut String) {
    if array.is_null(row) {
        return;
    }
    match array.data_type() {
        DataType::Null => {}
        DataType::Boolean => push(out, array.as_boolean().value(row)),
        DataType::Int8 => push(out, primitive::<Int8Type>(array, row)),
        DataType::Int16 => push(out, primitive::<Int16Type>(array, row)),
        DataType::Int32 => push(out, primitive::<Int32Type>(array, row)),
        DataType::Int64 => push(out, primitive::<Int64Type>(array, row)),
        DataType::UInt8 => push(out, primitive::<UInt8Type>(array, row)),
        DataType::UInt16 => push(out, primitive::<UInt16Type>(array, row)),
        DataType::UInt32 => push(out, primitive::<UInt32Type>(array, row)),
        DataType::UInt64 => push(out, primitive::<UInt64Type>(array, row)),
        DataType::Float32 => write_real(primitive::<Float32Type>(array, row), out),
        DataType::Float64 => write_double(primitive::<Float64Type>(array, row), out),
        DataType::Decimal128(precision, scale) => {
            out.push_str(&Decimal128Type::format_decimal(primitive::<Decimal128Type>(array, row), *precision, *scale));
        }
        DataType::Decimal256(precision, scale) => {
            out.push_str(&Decimal256Type::format_decimal(primitive::<Decimal256Type>(array, row), *precision, *scale));
        }
        DataType::Utf8 => out.push_str(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => out.push_str(array.as_string::<i64>().value(row)),
        DataType::Utf8View => out.push_str(array.as_string_view().value(row)),
        DataType::Date32 | DataType::Date64 | DataType::Time32(_) | DataType::Time64(_) | DataType::Timestamp(..) => {
            write_time(array, row, out);
        }
        DataType::Duration(_) | DataType::Interval(_) => write_interval(array, row, out),
        DataType::Dictionary(..) => match array.as_any_dictionary_opt() {
            Some(dictionary) => write_text(dictionary.values(), dictionary.normalized_keys()[row], out),
            None => fallback(array, row, out),
        },
        DataType::FixedSizeBinary(16) => write_uuid(array.as_fixed_size_binary().value(row), out),
        DataType::LargeBinary => out.push_str(&crate::kernels::ip::text(array.as_binary::<i64>().value(row))),
        DataType::FixedSizeBinary(crate::kernels::time_tz::BYTES) => {
            out.push_str(&crate::kernels::time_tz::text_of(array.as_fixed_size_binary().value(row)));
        }
        DataType::Binary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            write_hex(bytes(array, row), out);
        }
        _ => write_nested(array, row, out),
    }
}

/// The bytes of a binary value; none for another type.
pub(super) fn bytes(array: &dyn Array, row: usize) -> &[u8] {
    match array.data_type() {
        DataType::Binary => array.as_binary::<i32>().value(row),
        DataType::BinaryView => array.as_binary_view().value(row),
        DataType::FixedSizeBinary(_) => array.as_fixed_size_binary().value(row),
        _ => &[],
    }
}

fn primitive<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> T::Native {
    array.as_primitive::<T>().value(row)
}

fn push(out: &mut String, value: impl std::fmt::Display) {
    let _ = write!(out, "{value}");
}

fn fallback(array: &dyn Array, row: usize, out: &mut String) {
    if let Ok(formatter) = ArrayFormatter::try_new(array, &FormatOptions::default()) {
        push(out, formatter.value(row));
    }
}

fn write_nested(array: &dyn Array, row: usize, out: &mut String) {
    match array.data_type() {
        DataType::List(_) => write_elements(&*array.as_list::<i32>().value(row), out),
        DataType::LargeList(_) => write_elements(&*array.as_list::<i64>().value(row), out),
        DataType::FixedSizeList(..) => write_elements(&*array.as_fixed_size_list().value(row), out),
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            out.push('{');
            for i in 0..entries.len() {
                out.push_str(if i == 0 { "" } else { ", " });
                write_inside(entries.column(0), i, out);
                out.push('=');
                write_inside(entries.column(1), i, out);
            }
            out.push('}');
        }
        DataType::Struct(_) if let Some(text) = crate::kernels::zoned::text_of(array, row) => out.push_str(&text),
        DataType::Struct(fields) => {
            out.push('{');
            for (i, (field, column)) in fields.iter().zip(array.as_struct().columns()).enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                match field.name().as_str() {
                    "" => push(out, format_args!("field{i}=")),
                    name => push(out, format_args!("{name}=")),
                }
                write_inside(column, row, out);
            }
            out.push('}');
        }
        _ => fallback(array, row, out),
    }
}

fn write_elements(elements: &dyn Array, out: &mut String) {
    out.push('[');
    for i in 0..elements.len() {
        out.push_str(if i == 0 { "" } else { ", " });
        write_inside(elements, i, out);
    }
    out.push(']');
}

fn write_inside(array: &dyn Array, row: usize, out: &mut String) {
    if array.is_null(row) || array.data_type() == &DataType::Null {
        out.push_str("null");
    } else {
        write_text(array, row, out);
    }
}

fn write_hex(bytes: &[u8], out: &mut String) {
    for (i, byte) in bytes.iter().enumerate() {
        out.push_str(if i == 0 { "" } else { " " });
        push(out, format_args!("{byte:02x}"));
    }
}

fn write_uuid(bytes: &[u8], out: &mut String) {
    match uuid::Uuid::from_slice(bytes) {
        Ok(uuid) => push(out, uuid.hyphenated()),
        Err(_) => write_hex(bytes, out),
    }
}

/// Appends a double as Java writes it: `1.0`, `1.0E20`, `Infinity`.
pub fn write_double(value: f64, out: &mut String) {
    write_java_number(
        value.is_nan(),
        value.is_infinite(),
        value.is_sign_negative(),
        &format!("{:e}", value.abs()),
        out,
    );
}

/// Appends a real as Java writes a float.
pub fn write_real(value: f32, out: &mut String) {
    write_java_number(
        value.is_nan(),
        value.is_infinite(),
        value.is_sign_negative(),
        &format!("{:e}", value.abs()),
        out,
    );
}

/// `shortest` has the shortest digits that read back, as `1.5e20`. Java writes them plainly from 0.001 to 10,000,000.
fn write_java_number(nan: bool, infinite: bool, negative: bool, shortest: &str, out: &mut String) {
    if nan {
        return out.push_str("NaN");
    }
    out.push_str(if negative { "-" } else { "" });
    if infinite {
        return out.push_str("Infinity");
    }
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    if digits == "0" {
        out.push_str("0.0");
    } else if (0..7).contains(&exponent) {
        let whole = exponent as usize + 1;
        let fraction = digits.get(whole..).filter(|fraction| !fraction.is_empty()).unwrap_or("0");
        push(out, format_args!("{:0<whole$}.{fraction}", &digits[..whole.min(digits.len())]));
    } else if (-3..0).contains(&exponent) {
        let zeros = (-exponent - 1) as usize;
        push(out, format_args!("0.{:0<zeros$}{digits}", ""));
    } else {
        let fraction = if digits.len() > 1 { &digits[1..] } else { "0" };
        push(out, format_args!("{}.{fraction}E{exponent}", &digits[..1]));
    }
}

fn write_time(array: &dyn Array, row: usize, out: &mut String) {
    match array.data_type() {
        DataType::Date32 => write_date(i64::from(primitive::<Date32Type>(array, row)), out),
        DataType::Date64 => write_date(primitive::<Date64Type>(array, row).div_euclid(86_400_000), out),
        DataType::Time32(TimeUnit::Second) => write_clock(i64::from(primitive::<Time32SecondType>(array, row)), 0, out),
        DataType::Time32(_) => write_clock(i64::from(primitive::<Time32MillisecondType>(array, row)), 3, out),
        DataType::Time64(TimeUnit::Microsecond) => write_clock(primitive::<Time64MicrosecondType>(array, row), 6, out),
        DataType::Time64(_) => write_clock(primitive::<Time64NanosecondType>(array, row), 9, out),
        DataType::Timestamp(unit, zone) => {
            let (value, digits) = match unit {
                TimeUnit::Second => (primitive::<TimestampSecondType>(array, row), 0),
                TimeUnit::Millisecond => (primitive::<TimestampMillisecondType>(array, row), 3),
                TimeUnit::Microsecond => (primitive::<TimestampMicrosecondType>(array, row), 6),
                TimeUnit::Nanosecond => (primitive::<TimestampNanosecondType>(array, row), 9),
            };
            write_timestamp(value, digits, zone.as_deref(), out);
        }
        _ => fallback(array, row, out),
    }
}

fn write_date(days: i64, out: &mut String) {
    let epoch = NaiveDate::default();
    match chrono::TimeDelta::try_days(days).and_then(|days| epoch.checked_add_signed(days)) {
        Some(date) => push(out, date.format("%Y-%m-%d")),
        None => push(out, format_args!("{days} days after 1970-01-01")),
    }
}

/// A time of day in units of `10^-digits` seconds.
fn write_clock(value: i64, digits: u32, out: &mut String) {
    let unit = 10_i64.pow(digits);
    let (seconds, fraction) = (value.div_euclid(unit), value.rem_euclid(unit));
    push(out, format_args!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60));
    write_fraction(fraction, digits, out);
}

fn write_fraction(fraction: i64, digits: u32, out: &mut String) {
    if digits > 0 {
        push(out, format_args!(".{fraction:0width$}", width = digits as usize));
    }
}

fn write_timestamp(value: i64, digits: u32, zone: Option<&str>, out: &mut String) {
    let unit = 10_i64.pow(digits);
    let (seconds, fraction) = (value.div_euclid(unit), value.rem_euclid(unit));
    let offset = match (zone.and_then(|zone| zone.parse::<Tz>().ok()), DateTime::from_timestamp(seconds, 0)) {
        (Some(zone), Some(utc)) => i64::from(zone.offset_from_utc_datetime(&utc.naive_utc()).fix().local_minus_utc()),
        _ => 0,
    };
    let Some(local) = DateTime::from_timestamp(seconds + offset, 0) else {
        return push(out, format_args!("{seconds} s after 1970-01-01"));
    };
    push(out, local.format("%Y-%m-%d %H:%M:%S"));
    write_fraction(fraction, digits, out);
    match zone {
        Some("+00:00" | "Z" | "UTC") => out.push_str(" UTC"),
        Some(zone) => push(out, format_args!(" {zone}")),
        None => {}
    }
}

fn write_interval(array: &dyn Array, row: usize, out: &mut String) {
    let milliseconds = match array.data_type() {
        DataType::Duration(TimeUnit::Second) => primitive::<DurationSecondType>(array, row).saturating_mul(1_000),
        DataType::Duration(TimeUnit::Millisecond) => primitive::<DurationMillisecondType>(array, row),
        DataType::Duration(TimeUnit::Microsecond) => primitive::<DurationMicrosecondType>(array, row) / 1_000,
        DataType::Duration(TimeUnit::Nanosecond) => primitive::<DurationNanosecondType>(array, row) / 1_000_000,
        DataType::Interval(IntervalUnit::YearMonth) => {
            let months = primitive::<IntervalYearMonthType>(array, row);
            let sign = if months < 0 { "-" } else { "" };
            return push(out, format_args!("{sign}{}-{}", months.unsigned_abs() / 12, months.unsigned_abs() % 12));
        }
        _ => return fallback(array, row, out),
    };
    let sign = if milliseconds < 0 { "-" } else { "" };
    let total = milliseconds.unsigned_abs();
    let (days, rest) = (total / 86_400_000, total % 86_400_000);
    push(out, format_args!("{sign}{days} "));
    write_clock(rest as i64, 3, out);
}
