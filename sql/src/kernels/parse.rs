//! Text as values, as `CAST('..' AS type)` and typed literals read it.
//!
//! Invariant: text that is not wholly a value of the type is refused, never read in part.

use arrow::datatypes::i256;
use chrono::NaiveDate;

use super::time::{self, Zone};

/// A whole number, with a sign and surrounding blanks.
pub fn whole(text: &str) -> Option<i64> {
    text.trim().parse().ok()
}

/// A floating point number as Java reads it.
pub fn double(text: &str) -> Option<f64> {
    let text = text.trim();
    match text.trim_start_matches(['+', '-']) {
        "NaN" => return Some(f64::NAN),
        "Infinity" => return Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY }),
        _ => {}
    }
    let digits = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    let plain = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    if plain { digits.parse().ok() } else { None }
}

/// A truth value.
pub fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" => Some(true),
        "false" | "f" | "0" => Some(false),
        _ => None,
    }
}

/// A decimal of a scale, rounded half up.
pub fn decimal(text: &str, scale: i8) -> Option<i256> {
    super::decimal::parse(text, scale)
}

/// A date in days since 1970.
pub fn date(text: &str) -> Option<i32> {
    let text = text.trim();
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut parts = unsigned.split('-');
    let mut number = |widest: usize| {
        let part = parts.next()?;
        let plain = !part.is_empty() && part.len() <= widest && part.bytes().all(|b| b.is_ascii_digit());
        if plain { part.parse::<i32>().ok() } else { None }
    };
    let (year, month, day) = (number(6)?, number(2)?, number(2)?);
    if parts.next().is_some() {
        return None;
    }
    let date = NaiveDate::from_ymd_opt(if negative { -year } else { year }, month as u32, day as u32)?;
    Some(time::days(date))
}

/// A time of day in nanoseconds, with the digits of its fraction.
pub fn time_of_day(text: &str) -> Option<(i128, u8)> {
    let (clock, fraction) = match text.split_once('.') {
        Some((clock, fraction)) => (clock, fraction),
        None => (text, ""),
    };
    if fraction.len() > 12
        || !fraction.bytes().all(|b| b.is_ascii_digit())
        || (text.contains('.') && fraction.is_empty())
    {
        return None;
    }
    let mut parts = clock.split(':');
    let mut number = |limit: i128| {
        let part = parts.next()?;
        let plain = (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        part.parse::<i128>().ok().filter(|value| plain && *value < limit)
    };
    let (hours, minutes) = (number(24)?, number(60)?);
    let seconds = if clock.matches(':').count() > 1 { number(60)? } else { 0 };
    if parts.next().is_some() || (clock.matches(':').count() == 1 && !fraction.is_empty()) {
        return None;
    }
    let mut digits = fraction.to_owned();
    let precision = digits.len().min(9) as u8;
    while digits.len() < 12 {
        digits.push('0');
    }
    let picos: i128 = digits.parse().ok()?;
    Some((((hours * 60 + minutes) * 60 + seconds) * 1_000_000_000 + (picos + 500) / 1000, precision))
}

/// A timestamp as it is written: civil time, digits of the fraction, and the zone if there is one.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// Civil time in nanoseconds since 1970.
    pub local: i128,
    /// Digits of the fraction.
    pub precision: u8,
    /// Name of the zone.
    pub zone: Option<String>,
}

/// Reads `date[ time][ zone]`.
pub fn timestamp(text: &str) -> Option<Written> {
    let text = text.trim();
    let (date_text, rest) = match text.find(' ') {
        Some(at) => (&text[..at], text[at..].trim_start()),
        None => (text, ""),
    };
    let days = date(date_text)?;
    let starts_clock = rest.as_bytes().first().is_some_and(u8::is_ascii_digit);
    let (clock, zone) = if starts_clock {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == ':' || c == '.')).unwrap_or(rest.len());
        (&rest[..end], rest[end..].trim())
    } else {
        ("", rest.trim())
    };
    let (within, precision) = if clock.is_empty() { (0, 0) } else { time_of_day(clock)? };
    let zone = if zone.is_empty() { None } else { Some(Zone::canonical(zone).ok()?) };
    Some(Written { local: i128::from(days) * time::DAY + within, precision, zone })
}
