//! Printing a moment by the pieces of a format.
//!
//! Invariant: printing never fails; every piece has a value at every moment.

use std::fmt::Write;

use super::{
    super::column::Text,
    civil::{Civil, civil_of, day_of_week, day_of_year, iso_week},
    moments::Scale,
    pattern::{Field, Named, Pattern, Piece},
    zone::{Zone, offset_text},
};

/// Names of the months.
pub const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// Names of the days, from Monday.
pub const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// A moment to print.
#[derive(Debug, Clone, Copy)]
pub struct Printed {
    /// What the clock in the zone shows.
    pub local: i64,
    /// The instant.
    pub instant: i64,
    /// Scale of both.
    pub scale: Scale,
    /// The zone.
    pub zone: Zone,
    /// Digits of the fraction that are shown; the rest are zeros.
    pub fraction_digits: usize,
}

/// The last day printed: rows of one day often follow each other.
#[derive(Debug)]
pub struct Day(i64, Civil);

impl Default for Day {
    fn default() -> Self {
        Self(0, civil_of(0))
    }
}

impl Day {
    fn date(&mut self, days: i64) -> Civil {
        if self.0 != days {
            *self = Self(days, civil_of(days));
        }
        self.1
    }
}

/// Prints a moment.
pub fn print(pattern: &Pattern, moment: Printed, day: &mut Day, out: &mut Text) {
    let seconds = moment.scale.seconds(moment.local);
    let (days, clock) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let date = day.date(days);
    for piece in &pattern.pieces {
        match piece {
            Piece::Literal(text) => out.push_str(text),
            Piece::Number(field, digits, _) => padded(value(*field, days, date, clock), *digits, out),
            Piece::TwoDigits(field, _) => padded(value(*field, days, date, clock).rem_euclid(100), 2, out),
            Piece::Name(name, short) => out.push_str(named(*name, *short, days, date, clock)),
            Piece::Fraction(digits, _) => fraction(moment, *digits, out),
            Piece::Offset(colon) => {
                let seconds = moment.zone.offset_at(moment.scale.seconds(moment.instant));
                out.push_str(&offset_text(seconds, *colon));
            }
            Piece::ZoneId => out.push_str(&zone_id(moment.zone)),
            Piece::ZoneName => out.push_str(&moment.zone.abbreviation(moment.scale.seconds(moment.instant))),
        }
    }
}

/// The identifier of a zone.
pub fn zone_id(zone: Zone) -> String {
    match zone {
        Zone::Fixed(0) => "UTC".to_owned(),
        Zone::Fixed(seconds) => offset_text(i64::from(seconds), true),
        Zone::Named(zone) => zone.name().to_owned(),
    }
}

fn value(field: Field, days: i64, date: Civil, clock: i64) -> i64 {
    match field {
        Field::Century => date.year / 100,
        Field::Year => date.year,
        Field::WeekYear => iso_week(days).0,
        Field::Week => iso_week(days).1,
        Field::DayOfWeek => day_of_week(days),
        Field::DayOfYear => day_of_year(days),
        Field::Month => date.month,
        Field::Day => date.day,
        Field::HalfHour0 => clock / 3_600 % 12,
        Field::HalfHour => (clock / 3_600 + 11) % 12 + 1,
        Field::Hour => clock / 3_600,
        Field::ClockHour => (clock / 3_600 + 23) % 24 + 1,
        Field::Minute => clock / 60 % 60,
        Field::Second => clock % 60,
    }
}

fn named(name: Named, short: bool, days: i64, date: Civil, clock: i64) -> &'static str {
    let index = |value: i64| usize::try_from(value - 1).unwrap_or_default();
    let text = match name {
        Named::Era if date.year > 0 => "AD",
        Named::Era => "BC",
        Named::Month => MONTHS.get(index(date.month)).copied().unwrap_or_default(),
        Named::Day => DAYS.get(index(day_of_week(days))).copied().unwrap_or_default(),
        Named::Half if clock < 43_200 => "AM",
        Named::Half => "PM",
    };
    if short { text.get(..3).unwrap_or(text) } else { text }
}

fn fraction(moment: Printed, digits: usize, out: &mut Text) {
    let nanos = format!("{:09}", moment.scale.nanos(moment.local));
    for at in 0..digits {
        let shown = at < moment.fraction_digits;
        out.push_str(nanos.get(at..=at).filter(|_| shown).unwrap_or("0"));
    }
}

/// The two digits of each number below a hundred.
const PAIRS: &str = "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849\
                     5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";

fn pair(value: usize) -> &'static str {
    PAIRS.get(2 * value..2 * value + 2).unwrap_or_default()
}

/// A number with so many digits at least.
pub fn padded(value: i64, digits: usize, out: &mut Text) {
    match (value, digits) {
        (0..10, 1) => out.push(char::from(b'0' + value as u8)),
        (0..100, 2) => out.push_str(pair(value as usize)),
        (0..10_000, 4) => {
            out.push_str(pair(value as usize / 100));
            out.push_str(pair(value as usize % 100));
        }
        _ => {
            let width = if value < 0 { digits + 1 } else { digits };
            // Writing to memory cannot fail.
            let _ = write!(out, "{value:0width$}");
        }
    }
}
