//! From the fields that were read to a moment.
//!
//! Joda's rule, which Trino has from it: the fields are sorted from the longest span to the shortest and set one after
//! another, each cutting off what is smaller, and then once more without cutting; a text that begins with a month, a week
//! or a day is of the year 2000, any other of 1970.
//!
//! Invariant: each field is checked against its range at the moment it is set.

use super::{
    civil::{civil_of, day_of_week, days_of, is_leap, iso_monday, iso_weeks, month_length},
    pattern::Field,
};

/// The year of a text that begins with a month, a week or a day.
const DEFAULT_YEAR: i64 = 2000;
const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A field that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Saved {
    /// A number.
    Number(Field),
    /// AM (0) or PM (1).
    Half,
    /// Milliseconds of the second.
    Fraction,
}

/// Why the fields are no moment.
pub(super) type Checked<T> = Result<T, String>;

/// Spans from the longest to the shortest: years, months, weeks, days, half days, hours, minutes, seconds, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Span {
    Ever,
    Years,
    Months,
    Weeks,
    Days,
    Halves,
    Hours,
    Minutes,
    Seconds,
    Millis,
}

impl Saved {
    /// What the field counts within, and what it counts.
    fn spans(self) -> (Span, Span) {
        match self {
            Self::Half => (Span::Days, Span::Halves),
            Self::Fraction => (Span::Seconds, Span::Millis),
            Self::Number(field) => match field {
                Field::Century | Field::Year | Field::WeekYear => (Span::Ever, Span::Years),
                Field::Month => (Span::Years, Span::Months),
                Field::Week => (Span::Years, Span::Weeks),
                Field::DayOfYear => (Span::Years, Span::Days),
                Field::Day => (Span::Months, Span::Days),
                Field::DayOfWeek => (Span::Weeks, Span::Days),
                Field::HalfHour0 | Field::HalfHour => (Span::Halves, Span::Hours),
                Field::Hour | Field::ClockHour => (Span::Days, Span::Hours),
                Field::Minute => (Span::Hours, Span::Minutes),
                Field::Second => (Span::Minutes, Span::Seconds),
            },
        }
    }
}

/// Milliseconds since 1970 of fields in the order they were read.
pub(super) fn resolve(mut fields: Vec<(Saved, i64)>) -> Checked<i64> {
    fields.sort_by_key(|(field, _)| field.spans());
    let first = fields.first().map(|(field, _)| field.spans().1);
    if first.is_some_and(|first| (Span::Months..=Span::Days).contains(&first)) {
        fields.insert(0, (Saved::Number(Field::Year), DEFAULT_YEAR));
    }
    let mut millis = 0;
    for (field, value) in &fields {
        millis = floor(*field, set(*field, *value, millis)?);
    }
    let last = fields.len().saturating_sub(1);
    for (index, (field, value)) in fields.iter().enumerate() {
        millis = set(*field, *value, millis)?;
        if index == last {
            millis = floor(*field, millis);
        }
    }
    Ok(millis)
}

fn within(name: &str, value: i64, low: i64, high: i64) -> Checked<i64> {
    if (low..=high).contains(&value) {
        return Ok(value);
    }
    Err(format!("value {value} for {name} must be in the range [{low},{high}]"))
}

/// The year and the number of the ISO week of a day.
fn iso_week(day: i64) -> (i64, i64) {
    let thursday = day - day_of_week(day) + 4;
    let year = civil_of(thursday).year;
    (year, (day - iso_monday(year, 1)).div_euclid(7) + 1)
}

/// A moment with one field changed, the others kept as far as they can be.
fn set(field: Saved, value: i64, millis: i64) -> Checked<i64> {
    let (day, time) = (millis.div_euclid(DAY), millis.rem_euclid(DAY));
    let of_day = |day: i64| day * DAY + time;
    let part = |name, low, high, unit: i64, range: i64| {
        let value = within(name, value, low, high)?;
        let own = millis.rem_euclid(range * unit) / unit;
        Ok(millis + (value - own) * unit)
    };
    let civil = civil_of(day);
    let number = match field {
        Saved::Half => return part("halfdayOfDay", 0, 1, 12 * HOUR, 2),
        Saved::Fraction => return part("millisOfSecond", 0, 999, 1, 1_000),
        Saved::Number(number) => number,
    };
    Ok(match number {
        Field::Century => millis,
        Field::Year => {
            let year = within("year", value, -292_275_054, 292_278_993)?;
            of_day(days_of(year, civil.month, civil.day.min(month_length(year, civil.month))))
        }
        Field::WeekYear => {
            let year = within("weekyear", value, -292_275_054, 292_278_993)?;
            let (_, week) = iso_week(day);
            of_day(iso_monday(year, week.min(iso_weeks(year))) + day_of_week(day) - 1)
        }
        Field::Month => {
            let month = within("monthOfYear", value, 1, 12)?;
            of_day(days_of(civil.year, month, civil.day.min(month_length(civil.year, month))))
        }
        Field::Week => {
            let (year, week) = iso_week(day);
            of_day(day + (within("weekOfWeekyear", value, 1, iso_weeks(year).max(52))? - week) * 7)
        }
        Field::DayOfYear => {
            let last = 365 + i64::from(is_leap(civil.year));
            of_day(days_of(civil.year, 1, 1) + within("dayOfYear", value, 1, last)? - 1)
        }
        Field::Day => {
            let last = month_length(civil.year, civil.month);
            of_day(days_of(civil.year, civil.month, within("dayOfMonth", value, 1, last)?))
        }
        Field::DayOfWeek => of_day(day + within("dayOfWeek", value, 1, 7)? - day_of_week(day)),
        Field::HalfHour0 => return part("hourOfHalfday", 0, 11, HOUR, 12),
        Field::HalfHour => {
            let hour = within("clockhourOfHalfday", value, 1, 12)? % 12;
            millis + (hour - millis.rem_euclid(12 * HOUR) / HOUR) * HOUR
        }
        Field::Hour => return part("hourOfDay", 0, 23, HOUR, 24),
        Field::ClockHour => {
            let hour = within("clockhourOfDay", value, 1, 24)? % 24;
            millis + (hour - millis.rem_euclid(DAY) / HOUR) * HOUR
        }
        Field::Minute => return part("minuteOfHour", 0, 59, MINUTE, 60),
        Field::Second => return part("secondOfMinute", 0, 59, SECOND, 60),
    })
}

/// A moment without what is smaller than a field.
fn floor(field: Saved, millis: i64) -> i64 {
    let day = millis.div_euclid(DAY);
    let civil = civil_of(day);
    let to = |unit: i64| millis.div_euclid(unit) * unit;
    let number = match field {
        Saved::Half => return to(12 * HOUR),
        Saved::Fraction => return millis,
        Saved::Number(number) => number,
    };
    match number {
        Field::Century => millis,
        Field::Year => days_of(civil.year, 1, 1) * DAY,
        Field::WeekYear => iso_monday(iso_week(day).0, 1) * DAY,
        Field::Month => days_of(civil.year, civil.month, 1) * DAY,
        Field::Week => (day - day_of_week(day) + 1) * DAY,
        Field::DayOfYear | Field::Day | Field::DayOfWeek => to(DAY),
        Field::HalfHour0 | Field::HalfHour | Field::Hour | Field::ClockHour => to(HOUR),
        Field::Minute => to(MINUTE),
        Field::Second => to(SECOND),
    }
}
