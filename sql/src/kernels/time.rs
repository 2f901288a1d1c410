//! Instants, civil times and zones: the conversions every other kernel of time uses.
//!
//! Invariant: inside, a time is a count of nanoseconds in an `i128` since 1970, so no unit overflows on the way.

use arrow::{
    array::{Array, ArrayRef, AsArray, PrimitiveArray},
    datatypes::{
        DataType, Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit,
        TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    },
};
use chrono::{
    DateTime, Datelike, FixedOffset, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone, Timelike,
};
use headwater_engine::error::{Error, Result};

use super::arithmetic::out_of_range;
use crate::types::Type;

/// Nanoseconds in a day.
pub const DAY: i128 = 86_400_000_000_000;

/// Nanoseconds in a unit.
pub fn nanos_of(unit: TimeUnit) -> i128 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

/// A time zone.
#[derive(Debug, Clone, Copy)]
pub enum Zone {
    /// Of the tz database.
    Named(chrono_tz::Tz),
    /// A fixed offset.
    Fixed(FixedOffset),
}

impl Zone {
    /// Reads a zone name or offset (`+05:30`, `UTC+2`, `Asia/Tokyo`).
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("z") {
            return Some(Self::Named(chrono_tz::UTC));
        }
        if let Some(offset) = offset(text) {
            return Some(Self::Fixed(offset));
        }
        let upper = text.to_ascii_uppercase();
        for prefix in ["UTC", "GMT", "UT"] {
            if let Some(offset) = upper.strip_prefix(prefix).and_then(offset) {
                return Some(Self::Fixed(offset));
            }
        }
        named(text).map(Self::Named)
    }

    /// The name a zone is shown by: `UTC` for zero offsets, `+05:30` for fixed ones.
    pub fn canonical(text: &str) -> Result<String> {
        match Self::parse(text) {
            Some(Self::Fixed(offset)) if offset.local_minus_utc() == 0 => Ok("UTC".into()),
            Some(Self::Fixed(offset)) => Ok(offset.to_string()),
            Some(Self::Named(tz)) => Ok(match tz.name() {
                "Z" | "Zulu" | "UCT" | "Etc/UTC" | "Etc/UCT" | "Etc/Zulu" | "Universal" | "Etc/Universal" | "GMT"
                | "Etc/GMT" => "UTC".into(),
                name => name.to_owned(),
            }),
            None => Err(Error::user("INVALID_FUNCTION_ARGUMENT", format!("'{text}' is not a valid time zone"))),
        }
    }

    /// Local civil time of an instant.
    pub fn local(self, nanos: i128) -> i128 {
        nanos + i128::from(self.offset_seconds(nanos)) * 1_000_000_000
    }

    /// Offset at an instant, in seconds east of UTC.
    pub fn offset_seconds(self, nanos: i128) -> i32 {
        match self {
            Self::Fixed(offset) => offset.local_minus_utc(),
            Self::Named(chrono_tz::UTC) => 0,
            Self::Named(tz) => match DateTime::from_timestamp(nanos.div_euclid(1_000_000_000) as i64, 0) {
                Some(instant) => tz.offset_from_utc_datetime(&instant.naive_utc()).fix().local_minus_utc(),
                None => 0,
            },
        }
    }

    /// The instant of a local civil time; the earlier of two, and past a gap by the gap.
    pub fn instant(self, local: i128) -> i128 {
        let offset = match self {
            Self::Fixed(offset) => offset.local_minus_utc(),
            Self::Named(chrono_tz::UTC) => 0,
            Self::Named(tz) => match DateTime::from_timestamp(local.div_euclid(1_000_000_000) as i64, 0) {
                Some(civil) => match tz.offset_from_local_datetime(&civil.naive_utc()) {
                    MappedLocalTime::Single(offset) | MappedLocalTime::Ambiguous(offset, _) => {
                        offset.fix().local_minus_utc()
                    }
                    MappedLocalTime::None => self
                        .offset_seconds(local - DAY / 8 * 3 - i128::from(self.offset_seconds(local)) * 1_000_000_000),
                },
                None => 0,
            },
        };
        local - i128::from(offset) * 1_000_000_000
    }
}

fn named(text: &str) -> Option<chrono_tz::Tz> {
    if ["EST", "MST", "HST", "ROC"].contains(&text) {
        return None;
    }
    text.parse()
        .ok()
        .or_else(|| chrono_tz::TZ_VARIANTS.iter().find(|zone| zone.name().eq_ignore_ascii_case(text)).copied())
}

fn offset(text: &str) -> Option<FixedOffset> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let (hours, minutes) = match rest.split_once(':') {
        Some((hours, minutes)) => (hours.parse::<i32>().ok()?, minutes.parse::<i32>().ok()?),
        None if rest.len() == 4 => (rest[..2].parse().ok()?, rest[2..].parse().ok()?),
        None => (rest.parse().ok()?, 0),
    };
    if hours > 14 || minutes > 59 || (hours == 14 && minutes > 0) {
        return None;
    }
    FixedOffset::east_opt(sign * (hours * 3600 + minutes * 60))
}

/// Zone of a type's values.
pub fn zone_of(name: &str) -> Result<Zone> {
    Zone::parse(name)
        .ok_or_else(|| Error::user("INVALID_FUNCTION_ARGUMENT", format!("'{name}' is not a valid time zone")))
}

/// Days since 1970 as a date.
pub fn date(days: i64) -> Option<NaiveDate> {
    NaiveDate::from_num_days_from_ce_opt(i32::try_from(days + 719_163).ok()?)
}

/// A date as days since 1970.
pub fn days(date: NaiveDate) -> i32 {
    date.num_days_from_ce() - 719_163
}

/// Nanoseconds since 1970 as a civil time.
pub fn civil(nanos: i128) -> Option<NaiveDateTime> {
    let date = date(i64::try_from(nanos.div_euclid(DAY)).ok()?)?;
    let within = nanos.rem_euclid(DAY);
    let time = NaiveTime::from_num_seconds_from_midnight_opt(
        (within / 1_000_000_000) as u32,
        (within % 1_000_000_000) as u32,
    )?;
    Some(date.and_time(time))
}

/// A civil time as nanoseconds since 1970.
pub fn nanos(civil: NaiveDateTime) -> i128 {
    let seconds = i128::from(civil.time().num_seconds_from_midnight());
    i128::from(days(civil.date())) * DAY + seconds * 1_000_000_000 + i128::from(civil.time().nanosecond())
}

/// Rounds half up to a precision.
pub fn round(nanos: i128, precision: u8) -> i128 {
    let step = 10i128.pow(u32::from(9 - precision.min(9)));
    (nanos + step / 2).div_euclid(step) * step
}

/// Values of a date, time or timestamp column in nanoseconds.
pub fn values(array: &ArrayRef) -> Result<Vec<Option<i128>>> {
    fn scaled<T: arrow::datatypes::ArrowPrimitiveType>(array: &ArrayRef, scale: i128) -> Vec<Option<i128>>
    where
        T::Native: Into<i128>,
    {
        array.as_primitive::<T>().iter().map(|value| value.map(|value| value.into() * scale)).collect()
    }
    use arrow::datatypes::{Date32Type, DurationMillisecondType};
    Ok(match array.data_type() {
        DataType::Date32 => scaled::<Date32Type>(array, DAY),
        DataType::Timestamp(TimeUnit::Second, _) => scaled::<TimestampSecondType>(array, 1_000_000_000),
        DataType::Timestamp(TimeUnit::Millisecond, _) => scaled::<TimestampMillisecondType>(array, 1_000_000),
        DataType::Timestamp(TimeUnit::Microsecond, _) => scaled::<TimestampMicrosecondType>(array, 1_000),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => scaled::<TimestampNanosecondType>(array, 1),
        DataType::Time32(TimeUnit::Second) => scaled::<Time32SecondType>(array, 1_000_000_000),
        DataType::Time32(_) => scaled::<Time32MillisecondType>(array, 1_000_000),
        DataType::Time64(TimeUnit::Microsecond) => scaled::<Time64MicrosecondType>(array, 1_000),
        DataType::Time64(_) => scaled::<Time64NanosecondType>(array, 1),
        DataType::Duration(TimeUnit::Millisecond) => scaled::<DurationMillisecondType>(array, 1_000_000),
        other => return Err(Error::internal(format!("expected times, got {other}"))),
    })
}

/// A column of a date, time or timestamp type from nanoseconds.
pub fn column(values: Vec<Option<i128>>, of: &Type) -> Result<ArrayRef> {
    use arrow::datatypes::Date32Type;
    let data_type = of.to_arrow();
    match &data_type {
        DataType::Date32 => narrow::<Date32Type>(values, DAY, &data_type),
        DataType::Timestamp(TimeUnit::Second, _) => narrow::<TimestampSecondType>(values, 1_000_000_000, &data_type),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            narrow::<TimestampMillisecondType>(values, 1_000_000, &data_type)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => narrow::<TimestampMicrosecondType>(values, 1_000, &data_type),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => narrow::<TimestampNanosecondType>(values, 1, &data_type),
        DataType::Time32(TimeUnit::Second) => narrow::<Time32SecondType>(values, 1_000_000_000, &data_type),
        DataType::Time32(_) => narrow::<Time32MillisecondType>(values, 1_000_000, &data_type),
        DataType::Time64(TimeUnit::Microsecond) => narrow::<Time64MicrosecondType>(values, 1_000, &data_type),
        DataType::Time64(_) => narrow::<Time64NanosecondType>(values, 1, &data_type),
        other => Err(Error::internal(format!("expected a type of time, got {other}"))),
    }
}

fn narrow<T: arrow::datatypes::ArrowPrimitiveType>(
    values: Vec<Option<i128>>,
    scale: i128,
    data_type: &DataType,
) -> Result<ArrayRef>
where
    T::Native: TryFrom<i128>,
{
    let array = values
        .into_iter()
        .map(|value| {
            value
                .map(|value| {
                    T::Native::try_from(value.div_euclid(scale)).map_err(|_| out_of_range("time is out of range"))
                })
                .transpose()
        })
        .collect::<Result<PrimitiveArray<T>>>()?;
    Ok(std::sync::Arc::new(array.with_data_type(data_type.clone())))
}
