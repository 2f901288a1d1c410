//! The calendar: days since 1970-01-01 to years, months, weeks and back (proleptic Gregorian, ISO weeks).
//!
//! Source of the day count: Howard Hinnant, "chrono-compatible low-level date algorithms".
//!
//! Invariant: `days_of(civil_of(d)) == d` for every day.

/// A date as year, month and day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Civil {
    /// Year.
    pub year: i64,
    /// Month, 1 to 12.
    pub month: i64,
    /// Day of month, from 1.
    pub day: i64,
}

/// The date of a day count.
pub fn civil_of(days: i64) -> Civil {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    Civil { year: yoe + era * 400 + i64::from(month <= 2), month, day: doy - (153 * mp + 2) / 5 + 1 }
}

/// The day count of a date; the day may be past the month's end.
pub fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let y = year - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 719_468
}

/// Whether a year has 366 days.
pub fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Days of a month.
pub fn month_length(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The day of the week, 1 = Monday.
pub fn day_of_week(days: i64) -> i64 {
    (days + 3).rem_euclid(7) + 1
}

/// The day of the year, from 1.
pub fn day_of_year(days: i64) -> i64 {
    days - days_of(civil_of(days).year, 1, 1) + 1
}

/// The ISO year and week of a day.
pub fn iso_week(days: i64) -> (i64, i64) {
    let thursday = days - day_of_week(days) + 4;
    (civil_of(thursday).year, (day_of_year(thursday) - 1) / 7 + 1)
}

/// The Monday of an ISO week.
pub fn iso_monday(year: i64, week: i64) -> i64 {
    let fourth = days_of(year, 1, 4);
    fourth - day_of_week(fourth) + 1 + (week - 1) * 7
}

/// Weeks of an ISO year.
pub fn iso_weeks(year: i64) -> i64 {
    iso_week(days_of(year, 12, 28)).1
}

/// A day some months later, at most the last of its month.
pub fn add_months(days: i64, months: i64) -> Option<i64> {
    let Civil { year, month, day } = civil_of(days);
    let total = year.checked_mul(12)?.checked_add(month - 1)?.checked_add(months)?;
    let (year, month) = (total.div_euclid(12), total.rem_euclid(12) + 1);
    if !(-300_000_000..300_000_000).contains(&year) {
        return None;
    }
    Some(days_of(year, month, day.min(month_length(year, month))))
}
