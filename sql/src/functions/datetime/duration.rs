//! Durations as text: `3.5h` to milliseconds, seconds to words.
//!
//! Invariant: a duration is kept in whole milliseconds, rounded half up.

use std::fmt::Write;

use headwater_engine::error::Result;

use super::super::{column::Text, kernel::invalid};

/// The milliseconds of a text: a number and a unit from `ns` to `d`.
pub fn parse(text: &str) -> Result<i64> {
    let trimmed = text.trim();
    let end = trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(trimmed.len());
    let (number, unit) = (&trimmed[..end], trimmed[end..].trim());
    let not_one = || invalid(format!("duration is not a valid data duration string: {text}"));
    let number: f64 = number.parse().map_err(|_| not_one())?;
    if unit.is_empty() || !unit.bytes().all(|b| b.is_ascii_alphabetic()) {
        return Err(not_one());
    }
    let millis = match unit {
        "ns" => 1e-6,
        "us" => 1e-3,
        "ms" => 1.0,
        "s" => 1e3,
        "m" => 6e4,
        "h" => 3.6e6,
        "d" => 8.64e7,
        _ => return Err(invalid(format!("unknown time unit: {unit}"))),
    };
    Ok((number * millis + 0.5).floor() as i64)
}

/// Writes `1 day, 2 hours`.
pub fn write_readable(seconds: f64, out: &mut Text) -> Result<()> {
    if seconds.is_nan() || seconds.is_infinite() {
        return Err(invalid(format!("invalid argument found: {seconds}")));
    }
    let mut left = (seconds.abs() + 0.5).floor() as i64;
    let mut first = true;
    for (length, name) in [(604_800, "week"), (86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")] {
        let count = left / length;
        left %= length;
        if count == 0 && !(length == 1 && first) {
            continue;
        }
        if !first {
            out.push_str(", ");
        }
        first = false;
        // Writing to a builder cannot fail.
        let _ = write!(out, "{count} {name}{}", if count == 1 { "" } else { "s" });
    }
    Ok(())
}
