//! Conversions: Unix time, ISO 8601, time zones, durations, `date`.
//!
//! Invariant: the zone of a result is part of its type; it comes from a constant argument, or is UTC.

use std::fmt::Write;

use arrow::{
    array::ArrayRef,
    datatypes::{DataType, TimeUnit},
};
use datafusion::common::ScalarValue;
use headwater_engine::error::{Error, Result};

use super::{
    super::{
        Family,
        column::{Compiled, Dec, F64, I64, Str, Text, ToI32, ToI64},
        define::{Definition, like_first, scalar},
        kernel::{invalid, text1, value1, value2_with, value3, whole},
        scalar::{Call, Typing},
    },
    civil::{civil_of, days_of, month_length},
    duration, iso,
    moments::{Moments, Scale, per_second, ticks_array},
    print::{padded, zone_id},
    zone::{Zone, canonical_name, offset_text},
};

fn zoned(unit: TimeUnit, zone: &str) -> DataType {
    DataType::Timestamp(unit, Some(zone.into()))
}

/// The widest offset of a zone, in minutes.
const OFFSET_MINUTES_MAX: i64 = 14 * 60;

fn unix_millis(seconds: f64) -> Result<Option<i64>> {
    let millis = (seconds * 1_000.0 + 0.5).floor();
    if millis.is_nan() {
        return Ok(Some(0));
    }
    if millis.abs() > 9e15 {
        return Err(invalid(format!("millis overflow: {millis:.0}")));
    }
    Ok(Some(millis as i64))
}

fn from_unixtime() -> Definition {
    fn unknown(error: Error) -> Error {
        Error::user("NOT_SUPPORTED", error.message())
    }
    fn named(typing: &Typing<'_>) -> Result<DataType> {
        let name = typing.zone(1)?.map_or(Ok("UTC".to_owned()), canonical_name).map_err(unknown)?;
        Ok(zoned(TimeUnit::Millisecond, &name))
    }
    fn offset(typing: &Typing<'_>) -> Result<DataType> {
        let number = |index: usize| match typing.constants.get(index).copied().flatten() {
            Some(datafusion::common::ScalarValue::Int64(value)) => *value,
            _ => None,
        };
        let zone = match (number(1), number(2)) {
            (Some(0), Some(0)) => "UTC".to_owned(),
            (Some(hours), Some(minutes)) => {
                let total = hours.saturating_mul(60).saturating_add(minutes);
                if total.abs() > OFFSET_MINUTES_MAX {
                    return Err(invalid(format!("invalid offset minutes {total}")));
                }
                offset_text(total * 60, true)
            }
            _ => "UTC".to_owned(),
        };
        Ok(zoned(TimeUnit::Millisecond, &zone))
    }
    scalar(Family::DateTime, "from_unixtime", "the instant so many seconds after 1970, in UTC or the zone named")
        .on("from_unixtime(double) -> timestamp(3) with time zone", value1::<F64, ToI64>(unix_millis))
        .on_typed(
            "from_unixtime(double, varchar) -> timestamp(3) with time zone",
            named,
            value2_with::<F64, Str, ToI64, Compiled<Zone>>(|zone, seconds, name| {
                zone.get(name, Zone::parse).map_err(unknown)?;
                unix_millis(seconds)
            }),
        )
        .on_typed(
            "from_unixtime(double, bigint, bigint) -> timestamp(3) with time zone",
            offset,
            value3::<F64, I64, I64, ToI64>(|seconds, _, _| unix_millis(seconds)),
        )
        .example("SELECT from_unixtime(1718458245)", "2024-06-15 13:30:45.000 UTC")
}

fn to_unixtime(call: &Call<'_>) -> Result<ArrayRef> {
    let moments = Moments::new(call, 0)?;
    let scale = moments.scale.per_second as f64;
    let values = (0..call.rows).map(|row| moments.get(row).map(|ticks| ticks as f64 / scale));
    Ok(std::sync::Arc::new(values.collect::<arrow::array::Float64Array>()))
}

fn iso_error(text: &str) -> Error {
    invalid(format!("invalid format: \"{text}\" is not ISO 8601"))
}

fn iso_ticks(text: &str, unit: TimeUnit) -> Result<Option<i64>> {
    let read = iso::timestamp(text).ok_or_else(|| iso_error(text))?;
    let offset = read.zone.map_or(0, |zone| zone.offset_at(0));
    let ticks = per_second(unit);
    let seconds = read.days * 86_400 - offset;
    seconds
        .checked_mul(ticks)
        .and_then(|whole| whole.checked_add(read.nanos / (1_000_000_000 / ticks)))
        .map(Some)
        .ok_or_else(|| invalid(format!("timestamp \"{text}\" is out of range")))
}

fn iso_zone(typing: &Typing<'_>) -> String {
    typing.text(0).and_then(iso::timestamp).map_or_else(|| "UTC".to_owned(), |read| read.zone_name())
}

fn to_iso8601(call: &Call<'_>) -> Result<ArrayRef> {
    let moments = Moments::new(call, 0)?;
    let mut out = Text::new(call.rows, call.result);
    for row in 0..call.rows {
        if let Some(ticks) = moments.get(row) {
            write_iso(&moments, ticks, &mut out);
            out.end(true);
        } else {
            out.end(false);
        }
    }
    out.finish()
}

fn write_iso(moments: &Moments, ticks: i64, out: &mut Text) {
    let (scale, local) = (moments.scale, moments.to_local(ticks));
    let (days, _) = scale.split(local);
    let date = civil_of(days);
    padded(date.year, 4, out);
    out.push('-');
    padded(date.month, 2, out);
    out.push('-');
    padded(date.day, 2, out);
    if scale.per_second == 0 {
        return;
    }
    let clock = scale.seconds(local).rem_euclid(86_400);
    // Writing to a builder cannot fail.
    let _ = write!(out, "T{:02}:{:02}:{:02}", clock / 3_600, clock / 60 % 60, clock % 60);
    let digits = scale.per_second.ilog10() as usize;
    if digits > 0 {
        let _ = write!(out, ".{:0digits$}", local.rem_euclid(scale.per_second));
    }
    if let Some(zone) = moments.zone {
        match zone.offset_at(scale.seconds(ticks)) {
            0 => out.push('Z'),
            offset => out.push_str(&offset_text(offset, true)),
        }
    }
}

fn iso_definitions() -> Vec<Definition> {
    let datetime = |name, summary| scalar(Family::DateTime, name, summary);
    vec![
        datetime("from_iso8601_timestamp", "the timestamp of an ISO 8601 text, in its offset or UTC")
            .on_typed(
                "from_iso8601_timestamp(varchar) -> timestamp(3) with time zone",
                |typing| Ok(zoned(TimeUnit::Millisecond, &iso_zone(typing))),
                value1::<Str, ToI64>(|text| iso_ticks(text, TimeUnit::Millisecond)),
            )
            .example(
                "SELECT to_iso8601(from_iso8601_timestamp('2024-06-15T10:00:00+02:00'))",
                "2024-06-15T10:00:00.000+02:00",
            ),
        datetime("from_iso8601_timestamp_nanos", "the same with nanoseconds")
            .on_typed(
                "from_iso8601_timestamp_nanos(varchar) -> timestamp(9) with time zone",
                |typing| Ok(zoned(TimeUnit::Nanosecond, &iso_zone(typing))),
                value1::<Str, ToI64>(|text| iso_ticks(text, TimeUnit::Nanosecond)),
            )
            .example(
                "SELECT to_iso8601(from_iso8601_timestamp_nanos('2024-06-15T10:00:00.5Z'))",
                "2024-06-15T10:00:00.500000000Z",
            ),
        datetime("from_iso8601_date", "the date of an ISO 8601 text: by month and day, by day of the year, or by week")
            .on(
                "from_iso8601_date(varchar) -> date",
                value1::<Str, ToI32>(|text| {
                    let days = iso::date(text).ok_or_else(|| iso_error(text))?;
                    i32::try_from(days).map(Some).map_err(|_| iso_error(text))
                }),
            )
            .example("SELECT from_iso8601_date('2024-W24-6')", "2024-06-15"),
        datetime("to_iso8601", "a date or timestamp as ISO 8601 text")
            .on("to_iso8601(date) -> varchar", whole(to_iso8601))
            .on("to_iso8601(timestamp(p)) -> varchar", whole(to_iso8601))
            .on("to_iso8601(timestamp(p) with time zone) -> varchar", whole(to_iso8601))
            .example("SELECT to_iso8601(DATE '2024-06-15')", "2024-06-15"),
    ]
}

/// The type of the first argument, shown in the zone that the second names.
fn in_zone(typing: &Typing<'_>) -> Result<DataType> {
    let Some(DataType::Timestamp(unit, zone)) = typing.arguments.first() else {
        return like_first(typing);
    };
    let kept = zone.as_deref().unwrap_or("UTC").to_owned();
    if typing.constants.first().copied().flatten().is_some_and(ScalarValue::is_null) {
        return Ok(zoned(*unit, &kept));
    }
    Ok(zoned(*unit, &typing.zone(1)?.map_or(Ok(kept), canonical_name)?))
}

fn move_zone(call: &Call<'_>, keep_clock: bool) -> Result<ArrayRef> {
    let (moments, names) = (Moments::new(call, 0)?, call.column::<Str>(1)?);
    let mut zone = Compiled::default();
    let mut out = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        out.push(match (moments.get(row), names.value(row)) {
            (Some(ticks), Some(name)) => {
                let zone: Zone = *zone.get(name, Zone::parse)?;
                let offset = if keep_clock { zone.offset_at_local(moments.scale.seconds(ticks)) } else { 0 };
                Some(ticks - offset * moments.scale.per_second)
            }
            _ => None,
        });
    }
    ticks_array(out, call.result)
}

fn zone_definitions() -> Vec<Definition> {
    let datetime = |name, summary| scalar(Family::DateTime, name, summary);
    vec![
        datetime("at_timezone", "the same instant, shown in another zone")
            .on_typed(
                "at_timezone(timestamp(p) with time zone, varchar) -> timestamp(p) with time zone",
                in_zone,
                whole(|call| move_zone(call, false)),
            )
            .example("SELECT to_iso8601(at_timezone(from_unixtime(0), 'Asia/Tokyo'))", "1970-01-01T09:00:00.000+09:00"),
        datetime("with_timezone", "the instant at which a clock in the zone shows the timestamp")
            .on_typed(
                "with_timezone(timestamp(p), varchar) -> timestamp(p) with time zone",
                in_zone,
                whole(|call| move_zone(call, true)),
            )
            .example("SELECT to_unixtime(with_timezone(TIMESTAMP '1970-01-01 09:00:00', 'Asia/Tokyo'))", "0.0"),
        datetime("timezone", "the zone of a timestamp")
            .on(
                "timezone(timestamp(p) with time zone) -> varchar",
                whole(|call| {
                    let moments = Moments::new(call, 0)?;
                    let name = zone_id(moments.zone.unwrap_or(Zone::Fixed(0)));
                    let mut out = Text::new(call.rows, call.result);
                    for row in 0..call.rows {
                        let valid = moments.get(row).is_some();
                        if valid {
                            out.push_str(&name);
                        }
                        out.end(valid);
                    }
                    out.finish()
                }),
            )
            .example("SELECT timezone(from_unixtime(0, 'Asia/Tokyo'))", "Asia/Tokyo"),
    ]
}

fn nanos_definition() -> Definition {
    scalar(Family::DateTime, "from_unixtime_nanos", "the instant so many nanoseconds after 1970")
        .on("from_unixtime_nanos(bigint) -> timestamp(9) with time zone", value1::<I64, ToI64>(|nanos| Ok(Some(nanos))))
        .on(
            "from_unixtime_nanos(decimal(38,0)) -> timestamp(9) with time zone",
            value1::<Dec, ToI64>(|nanos| {
                i64::try_from(nanos).map(Some).map_err(|_| invalid(format!("long overflow: {nanos}")))
            }),
        )
        .example("SELECT to_unixtime(from_unixtime_nanos(1500000000))", "1.5")
}

/// Reads `2024-6-15`, with a sign or not, blanks around it.
fn cast_date(text: &str) -> Option<i32> {
    let trimmed = text.trim();
    let (sign, digits) = match trimmed.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let mut parts = digits.split('-').map(|part| {
        (!part.is_empty() && part.len() < 10 && part.bytes().all(|b| b.is_ascii_digit()))
            .then(|| part.parse::<i64>().ok())?
    });
    let (year, month, day) = (parts.next()?? * sign, parts.next()??, parts.next()??);
    if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=month_length(year, month)).contains(&day) {
        return None;
    }
    i32::try_from(days_of(year, month, day)).ok()
}

fn date_definition() -> Definition {
    fn of_moment(call: &Call<'_>) -> Result<ArrayRef> {
        let moments = Moments::new(call, 0)?;
        let scale: Scale = moments.scale;
        ticks_array((0..call.rows).map(|row| moments.local(row).map(|t| scale.split(t).0)).collect(), call.result)
    }
    scalar(Family::DateTime, "date", "the date of a timestamp or a text")
        .on(
            "date(varchar) -> date",
            value1::<Str, ToI32>(|text| {
                let days = cast_date(text).ok_or_else(|| {
                    Error::user("INVALID_CAST_ARGUMENT", format!("value cannot be cast to date: {text}"))
                })?;
                Ok(Some(days))
            }),
        )
        .on("date(timestamp(p)) -> date", whole(of_moment))
        .on("date(timestamp(p) with time zone) -> date", whole(of_moment))
        .example("SELECT date('2024-06-15')", "2024-06-15")
}

/// The functions.
pub(super) fn definitions() -> Vec<Definition> {
    let datetime = |name, summary| scalar(Family::DateTime, name, summary);
    let mut all = vec![
        from_unixtime(),
        nanos_definition(),
        datetime("to_unixtime", "the seconds from 1970 to an instant")
            .on("to_unixtime(timestamp(p) with time zone) -> double", whole(to_unixtime))
            .example("SELECT to_unixtime(TIMESTAMP '1970-01-01 00:00:01.5')", "1.5"),
        date_definition(),
        datetime("parse_duration", "the interval of a text such as `3.5h` or `42 ms`")
            .on(
                "parse_duration(varchar) -> interval day to second",
                value1::<Str, ToI64>(|t| duration::parse(t).map(Some)),
            )
            .example("SELECT to_milliseconds(parse_duration('2m'))", "120000"),
        datetime("human_readable_seconds", "a number of seconds in weeks, days, hours, minutes and seconds")
            .on(
                "human_readable_seconds(double) -> varchar",
                text1::<F64>(|seconds, out| duration::write_readable(seconds, out).map(|()| true)),
            )
            .example("SELECT human_readable_seconds(93784)", "1 day, 2 hours, 3 minutes, 4 seconds"),
        datetime("to_milliseconds", "the milliseconds of an interval")
            .on("to_milliseconds(interval day to second) -> bigint", value1::<I64, ToI64>(|millis| Ok(Some(millis))))
            .example("SELECT to_milliseconds(parse_duration('1s'))", "1000"),
    ];
    all.extend(iso_definitions());
    all.extend(zone_definitions());
    all
}
