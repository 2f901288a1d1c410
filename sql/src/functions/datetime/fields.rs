//! The fields of dates, times and intervals: `year` to `millisecond`, and those of the time zone.
//!
//! Invariant: a field of a zoned timestamp is what the clock in its zone shows.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use headwater_engine::error::{Error, Result};

use super::{
    super::{
        Family,
        column::{I32, I64, ToI64},
        define::{Definition, scalar},
        kernel::{value1, whole},
        scalar::{Call, Kernel},
    },
    civil::{civil_of, day_of_week, day_of_year, iso_week},
    moments::{Moments, Scale},
};

type Field = fn(i64, Scale) -> i64;

fn of_moment(field: Field) -> Kernel {
    whole(move |call: &Call<'_>| -> Result<ArrayRef> {
        let moments = Moments::new(call, 0)?;
        let values = (0..call.rows).map(|row| moments.local(row).map(|ticks| field(ticks, moments.scale)));
        Ok(Arc::new(values.collect::<Int64Array>()))
    })
}

fn of_zone(field: fn(i64) -> i64) -> Kernel {
    whole(move |call: &Call<'_>| -> Result<ArrayRef> {
        let moments = Moments::new(call, 0)?;
        let zone = moments.zone.ok_or_else(|| Error::internal("a time zone is expected"))?;
        let offset = |ticks| field(zone.offset_at(moments.scale.seconds(ticks)));
        Ok(Arc::new((0..call.rows).map(|row| moments.get(row).map(offset)).collect::<Int64Array>()))
    })
}

fn day(ticks: i64, scale: Scale) -> i64 {
    scale.split(ticks).0
}

/// Seconds into the day.
fn clock(ticks: i64, scale: Scale) -> i64 {
    scale.seconds(ticks).rem_euclid(86_400)
}

fn field(name: &'static str, summary: &'static str) -> Definition {
    scalar(Family::DateTime, name, summary)
}

macro_rules! date_field {
    ($name:literal, $kernel:expr) => {
        |definition: Definition| {
            definition
                .on(concat!($name, "(date) -> bigint"), of_moment($kernel))
                .on(concat!($name, "(timestamp(p)) -> bigint"), of_moment($kernel))
                .on(concat!($name, "(timestamp(p) with time zone) -> bigint"), of_moment($kernel))
        }
    };
}

macro_rules! time_field {
    ($name:literal, $kernel:expr, $millis:literal, $modulo:literal) => {
        |definition: Definition| {
            definition
                .on(concat!($name, "(timestamp(p)) -> bigint"), of_moment($kernel))
                .on(concat!($name, "(timestamp(p) with time zone) -> bigint"), of_moment($kernel))
                .on(concat!($name, "(time(p)) -> bigint"), of_moment($kernel))
                .on(
                    concat!($name, "(interval day to second) -> bigint"),
                    value1::<I64, ToI64>(|millis| Ok(Some(millis / $millis % $modulo))),
                )
        }
    };
}

/// Fields of the date.
pub(super) fn of_dates() -> Vec<Definition> {
    let year: Field = |ticks, scale| civil_of(day(ticks, scale)).year;
    let quarter: Field = |ticks, scale| (civil_of(day(ticks, scale)).month - 1) / 3 + 1;
    let month: Field = |ticks, scale| civil_of(day(ticks, scale)).month;
    let week: Field = |ticks, scale| iso_week(day(ticks, scale)).1;
    let year_of_week: Field = |ticks, scale| iso_week(day(ticks, scale)).0;
    let day_of_month: Field = |ticks, scale| civil_of(day(ticks, scale)).day;
    let weekday: Field = |ticks, scale| day_of_week(day(ticks, scale));
    let yearday: Field = |ticks, scale| day_of_year(day(ticks, scale));
    vec![
        date_field!("year", year)(field("year", "the year"))
            .on("year(interval year to month) -> bigint", value1::<I32, ToI64>(|n| Ok(Some(i64::from(n / 12)))))
            .example("SELECT year(DATE '2024-06-15')", "2024"),
        date_field!("quarter", quarter)(field("quarter", "the quarter of the year, 1 to 4"))
            .example("SELECT quarter(DATE '2024-06-15')", "2"),
        date_field!("month", month)(field("month", "the month, 1 to 12"))
            .on("month(interval year to month) -> bigint", value1::<I32, ToI64>(|n| Ok(Some(i64::from(n % 12)))))
            .example("SELECT month(DATE '2024-06-15')", "6"),
        date_field!("week", week)(field("week", "the ISO week, 1 to 53").aliases(&["week_of_year"]))
            .example("SELECT week(DATE '2024-12-30')", "1"),
        date_field!("year_of_week", year_of_week)(field("year_of_week", "the year of the ISO week").aliases(&["yow"]))
            .example("SELECT year_of_week(DATE '2024-12-30')", "2025"),
        date_field!("day", day_of_month)(field("day", "the day of the month").aliases(&["day_of_month"]))
            .on("day(interval day to second) -> bigint", value1::<I64, ToI64>(|n| Ok(Some(n / 86_400_000))))
            .example("SELECT day(DATE '2024-06-15')", "15"),
        date_field!("day_of_week", weekday)(
            field("day_of_week", "the day of the ISO week, 1 = Monday").aliases(&["dow"]),
        )
        .example("SELECT day_of_week(DATE '2024-06-16')", "7"),
        date_field!("day_of_year", yearday)(field("day_of_year", "the day of the year, from 1").aliases(&["doy"]))
            .example("SELECT day_of_year(DATE '2024-12-31')", "366"),
    ]
}

/// Fields of the time of day and of the zone.
pub(super) fn of_times() -> Vec<Definition> {
    let hour: Field = |ticks, scale| clock(ticks, scale) / 3_600;
    let minute: Field = |ticks, scale| clock(ticks, scale) / 60 % 60;
    let second: Field = |ticks, scale| clock(ticks, scale) % 60;
    let millisecond: Field = |ticks, scale| scale.nanos(ticks) / 1_000_000;
    vec![
        time_field!("hour", hour, 3_600_000, 24)(field("hour", "the hour, 0 to 23"))
            .example("SELECT hour(TIMESTAMP '2024-06-15 13:04:05')", "13"),
        time_field!("minute", minute, 60_000, 60)(field("minute", "the minute"))
            .example("SELECT minute(TIMESTAMP '2024-06-15 13:04:05')", "4"),
        time_field!("second", second, 1_000, 60)(field("second", "the second"))
            .example("SELECT second(TIMESTAMP '2024-06-15 13:04:05')", "5"),
        time_field!("millisecond", millisecond, 1, 1_000)(field("millisecond", "the millisecond of the second"))
            .example("SELECT millisecond(TIMESTAMP '2024-06-15 13:04:05.678')", "678"),
        field("timezone_hour", "the hours of the offset from UTC")
            .on("timezone_hour(timestamp(p) with time zone) -> bigint", of_zone(|offset| offset / 3_600))
            .example("SELECT timezone_hour(from_unixtime(0, 5, 30))", "5"),
        field("timezone_minute", "the minutes of the offset from UTC, without the hours")
            .on("timezone_minute(timestamp(p) with time zone) -> bigint", of_zone(|offset| offset / 60 % 60))
            .example("SELECT timezone_minute(from_unixtime(0, 5, 30))", "30"),
    ]
}
