//! `time with time zone`: a time of day with an offset.
//!
//! A value is ten bytes: the time in UTC as nanoseconds, then the offset in minutes above the least one, both with the
//! highest byte first, so that bytes order as times do.
//!
//! Invariant: two values are equal when their times in UTC are, whatever their offsets.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, Int64Array};
use headwater_engine::error::{Error, Result};

use super::{cast::refused, parse, render, time};
use crate::types::Type;

/// Bytes of a value.
pub const BYTES: i32 = 10;
const MINUTE: i128 = 60_000_000_000;
/// Offsets reach this many minutes to both sides.
const OFFSET_MAX: i64 = 14 * 60;

/// A time of day and its offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value {
    /// Local time in nanoseconds.
    pub local: i128,
    /// Minutes east of UTC.
    pub offset: i64,
}

/// What is computed of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The time in UTC in nanoseconds: what comparisons compare.
    Instant,
    /// The offset's hours.
    Hours,
    /// The offset's minutes within the hour.
    Minutes,
}

impl Value {
    fn utc(self) -> i128 {
        (self.local - i128::from(self.offset) * MINUTE).rem_euclid(time::DAY)
    }

    fn to_bytes(self) -> [u8; BYTES as usize] {
        let mut bytes = [0; BYTES as usize];
        bytes[..8].copy_from_slice(&(self.utc() as u64).to_be_bytes());
        bytes[8..].copy_from_slice(&((self.offset + OFFSET_MAX) as u16).to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let number = |bytes: &[u8]| bytes.iter().fold(0i128, |sum, byte| sum << 8 | i128::from(*byte));
        let (utc, offset) = bytes.split_at(8.min(bytes.len()));
        let offset = number(offset) as i64 - OFFSET_MAX;
        Self { local: (number(utc) + i128::from(offset) * MINUTE).rem_euclid(time::DAY), offset }
    }

    /// The same instant at another offset.
    #[must_use]
    pub fn shifted(self, offset: i64) -> Self {
        let local = (self.utc() + i128::from(offset) * MINUTE).rem_euclid(time::DAY);
        Self { local, offset }
    }
}

/// Reads `10:11:12.5+02:00`, with the digits of its fraction.
pub fn read(text: &str) -> Option<(Value, u8)> {
    let text = text.trim();
    let at = text.rfind(['+', '-']).filter(|at| *at > 0)?;
    let (clock, offset) = (text[..at].trim_end(), &text[at..]);
    let (local, precision) = parse::time_of_day(clock)?;
    let seconds = crate::functions::datetime::zone::parse_offset(offset)?;
    Some((Value { local, offset: i64::from(seconds) / 60 }, precision))
}

/// Values of a column.
pub fn values(array: &ArrayRef) -> Result<Vec<Option<Value>>> {
    let bytes = array.as_fixed_size_binary_opt();
    let bytes = bytes.ok_or_else(|| Error::internal(format!("expected times with zone, got {}", array.data_type())))?;
    Ok(bytes.iter().map(|bytes| bytes.map(Value::from_bytes)).collect())
}

/// A column of values.
pub fn column(values: Vec<Option<Value>>) -> Result<ArrayRef> {
    let bytes = values.into_iter().map(|value| value.map(Value::to_bytes));
    Ok(Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(bytes, BYTES)?))
}

/// The text of a value.
pub fn text(value: Value, precision: u8) -> String {
    let sign = if value.offset < 0 { '-' } else { '+' };
    let minutes = value.offset.abs();
    format!("{}{sign}{:02}:{:02}", render::time_text(value.local, precision), minutes / 60, minutes % 60)
}

/// The text of a value's bytes, with as many digits of its fraction as it needs.
pub fn text_of(bytes: &[u8]) -> String {
    let value = Value::from_bytes(bytes);
    let precision = match value.local {
        nanos if nanos % 1_000_000_000 == 0 => 0,
        nanos if nanos % 1_000_000 == 0 => 3,
        nanos if nanos % 1000 == 0 => 6,
        _ => 9,
    };
    text(value, precision)
}

fn rounded(value: Value, precision: u8) -> Value {
    Value { local: time::round(value.local, precision).rem_euclid(time::DAY), ..value }
}

/// Casts to a time with zone.
pub fn cast_to(array: &ArrayRef, from: &Type, to: &Type) -> Result<ArrayRef> {
    let Type::TimeTz(precision) = to else { return Err(Error::internal("expected a time with zone")) };
    let made: Vec<Option<Value>> = match from {
        Type::TimeTz(_) => values(array)?,
        Type::Time(_) => {
            time::values(array)?.into_iter().map(|local| local.map(|local| Value { local, offset: 0 })).collect()
        }
        Type::TimestampTz(_, name) => {
            let zone = time::zone_of(name)?;
            let of = |instant: i128| Value {
                local: zone.local(instant).rem_euclid(time::DAY),
                offset: i64::from(zone.offset_seconds(instant)) / 60,
            };
            time::values(array)?.into_iter().map(|instant| instant.map(of)).collect()
        }
        _ => render::texts(array, from)?
            .into_iter()
            .map(|text| {
                text.map(|text| read(&text).map(|(value, _)| value).ok_or_else(|| refused(&text, to))).transpose()
            })
            .collect::<Result<_>>()?,
    };
    column(made.into_iter().map(|value| value.map(|value| rounded(value, *precision))).collect())
}

/// Casts to a time without zone: the local one.
pub fn to_time(array: &ArrayRef, to: &Type) -> Result<ArrayRef> {
    let Type::Time(precision) = to else { return Err(Error::internal("expected a time")) };
    let local = |value: Value| time::round(value.local, *precision).rem_euclid(time::DAY);
    time::column(values(array)?.into_iter().map(|value| value.map(local)).collect(), to)
}

/// A part of each value.
pub fn part(array: &ArrayRef, part: Part) -> Result<ArrayRef> {
    let of = |value: Value| match part {
        Part::Instant => value.utc() as i64,
        Part::Hours => value.offset / 60,
        Part::Minutes => value.offset % 60,
    };
    Ok(Arc::new(values(array)?.into_iter().map(|value| value.map(of)).collect::<Int64Array>()))
}

/// The same instants at another offset in minutes.
pub fn shift(array: &ArrayRef, offset: i64) -> Result<ArrayRef> {
    column(values(array)?.into_iter().map(|value| value.map(|value| value.shifted(offset))).collect())
}

/// Times moved by intervals, forwards or backwards around the day.
pub fn moved(array: &ArrayRef, spans: &ArrayRef, forwards: bool) -> Result<ArrayRef> {
    let sign = if forwards { 1 } else { -1 };
    let made = values(array)?.into_iter().zip(time::values(spans)?).map(|(value, span)| {
        let (value, span) = (value?, span?);
        Some(Value { local: (value.local + sign * span).rem_euclid(time::DAY), ..value })
    });
    column(made.collect())
}
