//! Time zones: names of the tz database and fixed offsets, and what local time they show.
//!
//! Invariant: a local time in a gap means the instant it would be without the change; one that comes twice means the
//! earlier instant, as in Trino.

use chrono::{DateTime, LocalResult, Offset, TimeZone};
use headwater_engine::error::Result;

use super::super::kernel::invalid;

/// A time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// A constant offset, in seconds east of Greenwich.
    Fixed(i32),
    /// A zone of the tz database.
    Named(chrono_tz::Tz),
}

impl Zone {
    /// The zone of a name: `UTC`, `Z`, `+02:30`, `-0500`, `+7`, `Europe/Berlin`.
    pub fn parse(name: &str) -> Result<Self> {
        Self::find(name).ok_or_else(|| invalid(format!("'{name}' is not a valid time zone")))
    }

    /// The zone of a name, if there is one.
    pub fn find(name: &str) -> Option<Self> {
        if matches!(name, "UTC" | "Z" | "z" | "GMT" | "UT" | "Etc/UTC" | "Zulu" | "utc") {
            return Some(Self::Fixed(0));
        }
        if ["EST", "MST", "HST", "ROC"].contains(&name) {
            return None;
        }
        let offset = name.strip_prefix("UTC").or_else(|| name.strip_prefix("GMT")).unwrap_or(name);
        if let Some(seconds) = parse_offset(offset) {
            return Some(Self::Fixed(seconds));
        }
        if let Ok(zone) = name.parse() {
            return Some(Self::Named(zone));
        }
        let same = |zone: &&chrono_tz::Tz| zone.name().eq_ignore_ascii_case(name);
        chrono_tz::TZ_VARIANTS.iter().find(same).copied().map(Self::Named)
    }

    /// Its offset from UTC at an instant, in seconds.
    pub fn offset_at(self, utc_seconds: i64) -> i64 {
        match self {
            Self::Fixed(seconds) => i64::from(seconds),
            Self::Named(zone) => match DateTime::from_timestamp(utc_seconds, 0) {
                Some(instant) => i64::from(zone.offset_from_utc_datetime(&instant.naive_utc()).fix().local_minus_utc()),
                None => 0,
            },
        }
    }

    /// Its offset at a local time, in seconds.
    pub fn offset_at_local(self, local_seconds: i64) -> i64 {
        match self {
            Self::Fixed(seconds) => i64::from(seconds),
            Self::Named(zone) => {
                let Some(local) = DateTime::from_timestamp(local_seconds, 0) else { return 0 };
                match zone.offset_from_local_datetime(&local.naive_utc()) {
                    LocalResult::Single(offset) | LocalResult::Ambiguous(offset, _) => {
                        i64::from(offset.fix().local_minus_utc())
                    }
                    LocalResult::None => self.offset_at(local_seconds - 86_400),
                }
            }
        }
    }

    /// The abbreviation in use at an instant, such as `EDT`.
    pub fn abbreviation(self, utc_seconds: i64) -> String {
        match self {
            Self::Fixed(0) => "UTC".to_owned(),
            Self::Fixed(seconds) => offset_text(i64::from(seconds), true),
            Self::Named(zone) => match DateTime::from_timestamp(utc_seconds, 0) {
                Some(instant) => zone.offset_from_utc_datetime(&instant.naive_utc()).to_string(),
                None => zone.name().to_owned(),
            },
        }
    }
}

/// The name a zone is kept under: `UTC` for all spellings of it, `+02:30` for offsets.
pub fn canonical_name(name: &str) -> Result<String> {
    Ok(match Zone::parse(name)? {
        Zone::Fixed(0) => "UTC".to_owned(),
        Zone::Fixed(seconds) => offset_text(i64::from(seconds), true),
        Zone::Named(zone) => zone.name().to_owned(),
    })
}

/// An offset as `+02:30` or `+0230`.
pub fn offset_text(seconds: i64, colon: bool) -> String {
    let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.abs() / 60);
    format!("{sign}{:02}{}{:02}", minutes / 60, if colon { ":" } else { "" }, minutes % 60)
}

/// The seconds of `+2`, `+02`, `+0230` or `+02:30`; up to 14 hours.
pub fn parse_offset(text: &str) -> Option<i32> {
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits = &text[1..];
    let (hours, minutes) = match digits.split_once(':') {
        Some((hours, minutes)) if minutes.len() == 2 => (hours, minutes),
        Some(_) => return None,
        None if digits.len() == 4 && digits.is_char_boundary(2) => digits.split_at(2),
        None => (digits, "0"),
    };
    let number =
        |text: &str| (text.len() <= 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?;
    let (hours, minutes): (i32, i32) = (number(hours)?, number(minutes)?);
    (minutes < 60 && hours * 60 + minutes <= 14 * 60).then_some(sign * (hours * 60 + minutes) * 60)
}
