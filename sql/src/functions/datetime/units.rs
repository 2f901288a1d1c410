//! Units of time: truncation to, addition of and difference in them.
//!
//! Invariant: months and years count by the calendar (a day past the month's end becomes its last); shorter units are
//! a number of ticks.

use headwater_engine::error::{Error, Result};

use super::{
    super::kernel::invalid,
    civil::{Civil, add_months, civil_of, day_of_week, days_of, is_leap, month_length},
    moments::Scale,
};

/// A unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// 1/1000 second.
    Millisecond,
    /// Second.
    Second,
    /// Minute.
    Minute,
    /// Hour.
    Hour,
    /// Day.
    Day,
    /// Week, from Monday.
    Week,
    /// Month.
    Month,
    /// Three months.
    Quarter,
    /// Year.
    Year,
}

/// What kind of value a unit is applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `date`: days and longer.
    Date,
    /// `time`: hours and shorter.
    Time,
    /// `timestamp`: all.
    Timestamp,
}

impl Unit {
    /// The unit of a name, if it applies to the kind.
    pub fn parse(name: &str, kind: Kind) -> Result<Self> {
        let unit = match name.to_ascii_lowercase().as_str() {
            "millisecond" => Self::Millisecond,
            "second" => Self::Second,
            "minute" => Self::Minute,
            "hour" => Self::Hour,
            "day" => Self::Day,
            "week" => Self::Week,
            "month" => Self::Month,
            "quarter" => Self::Quarter,
            "year" => Self::Year,
            _ => return Err(wrong(name, kind)),
        };
        match kind {
            Kind::Date if unit < Self::Day => Err(wrong(name, kind)),
            Kind::Time if unit >= Self::Day => Err(wrong(name, kind)),
            _ => Ok(unit),
        }
    }

    fn months(self) -> Option<i64> {
        match self {
            Self::Month => Some(1),
            Self::Quarter => Some(3),
            Self::Year => Some(12),
            _ => None,
        }
    }

    /// How many of it make a day, of units shorter than one.
    pub fn per_day(self) -> i64 {
        86_400_000 / self.millis()
    }

    /// Its length in milliseconds, of units that have one.
    fn millis(self) -> i64 {
        match self {
            Self::Millisecond => 1,
            Self::Second => 1_000,
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
            Self::Week => 7 * 86_400_000,
            _ => 86_400_000,
        }
    }
}

fn wrong(name: &str, kind: Kind) -> Error {
    let kind = match kind {
        Kind::Date => "DATE",
        Kind::Time => "TIME",
        Kind::Timestamp => "TIMESTAMP",
    };
    invalid(format!("'{name}' is not a valid {kind} field"))
}

/// The beginning of the unit a local time lies in.
pub fn truncate(unit: Unit, ticks: i64, scale: Scale) -> i64 {
    if unit < Unit::Day {
        let length = unit.millis() * scale.per_second / 1_000;
        return if length <= 1 { ticks } else { ticks - ticks.rem_euclid(length) };
    }
    let (days, _) = scale.split(ticks);
    let Civil { year, month, .. } = civil_of(days);
    let days = match unit {
        Unit::Week => days - day_of_week(days) + 1,
        Unit::Month => days_of(year, month, 1),
        Unit::Quarter => days_of(year, (month - 1) / 3 * 3 + 1, 1),
        Unit::Year => days_of(year, 1, 1),
        _ => days,
    };
    days * scale.per_day
}

/// A local time some units later.
pub fn add(unit: Unit, count: i64, ticks: i64, scale: Scale) -> Result<i64> {
    let overflow = || invalid("the date is out of range");
    if let Some(months) = unit.months() {
        let (days, rest) = scale.split(ticks);
        let months = count.checked_mul(months).ok_or_else(overflow)?;
        let days = add_months(days, months).ok_or_else(overflow)?;
        return days.checked_mul(scale.per_day).and_then(|day| day.checked_add(rest)).ok_or_else(overflow);
    }
    let step = if unit >= Unit::Day {
        count.checked_mul(unit.millis() / 86_400_000).and_then(|days| days.checked_mul(scale.per_day))
    } else if unit == Unit::Millisecond && scale.per_second < 1_000 {
        count.checked_add(500).map(|count| count.div_euclid(1_000))
    } else {
        count.checked_mul(unit.millis() * scale.per_second / 1_000)
    };
    let micros_fit = |ticks: &i64| match scale.per_second {
        per_second @ 1..1_000_000 => ticks.checked_mul(1_000_000 / per_second).is_some(),
        _ => true,
    };
    step.and_then(|step| ticks.checked_add(step)).filter(micros_fit).ok_or_else(overflow)
}

/// Whole units from `a` to `b`, both in local milliseconds.
pub fn difference(unit: Unit, a: i64, b: i64) -> i64 {
    if a > b { -later(unit, b, a) } else { later(unit, a, b) }
}

/// Ticks in milliseconds, cut.
pub fn to_millis(ticks: i64, scale: Scale) -> i64 {
    match scale.per_second {
        0 => ticks * 86_400_000,
        1 => ticks * 1_000,
        per_second => ticks.div_euclid(per_second / 1_000),
    }
}

fn later(unit: Unit, a: i64, b: i64) -> i64 {
    match unit {
        Unit::Month => months_between(a, b),
        Unit::Quarter => months_between(a, b) / 3,
        Unit::Year => years_between(a, b),
        _ => (b - a) / unit.millis(),
    }
}

const DAY: i64 = 86_400_000;

fn months_between(a: i64, b: i64) -> i64 {
    let (from, to) = (civil_of(a.div_euclid(DAY)), civil_of(b.div_euclid(DAY)));
    let months = (to.year - from.year) * 12 + to.month - from.month;
    let last = to.day == month_length(to.year, to.month);
    let day = if last { from.day.min(to.day) } else { from.day };
    let rest = |day: i64, millis: i64| day * DAY + millis.rem_euclid(DAY);
    months - i64::from(rest(to.day, b) < rest(day, a))
}

/// Joda's rule: a leap day more in one of the years is evened out.
fn years_between(a: i64, b: i64) -> i64 {
    const FEB_29: i64 = 59 * DAY;
    let (from, to) = (civil_of(a.div_euclid(DAY)).year, civil_of(b.div_euclid(DAY)).year);
    let mut from_rest = a - days_of(from, 1, 1) * DAY;
    let mut to_rest = b - days_of(to, 1, 1) * DAY;
    if from_rest >= FEB_29 {
        if is_leap(from) {
            if !is_leap(to) {
                from_rest -= DAY;
            }
        } else if to_rest >= FEB_29 && is_leap(to) {
            to_rest -= DAY;
        }
    }
    to - from - i64::from(to_rest < from_rest)
}
