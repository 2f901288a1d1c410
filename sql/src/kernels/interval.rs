//! Dates, times and intervals added and subtracted.
//!
//! Invariant: adding months keeps the day of the month or takes the month's last; it never runs into the next month.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, DurationMillisecondArray, IntervalYearMonthArray},
    datatypes::{DurationMillisecondType, Float64Type, Int64Type, IntervalYearMonthType},
};
use chrono::{Months, NaiveDate};
use headwater_engine::error::{Error, Result};

use super::{
    arithmetic::{Arithmetic, by_zero, out_of_range},
    time::{self, Zone},
};
use crate::types::Type;

/// The type of `left op right` where one of them is a time or an interval; `None` if there is no such operator.
pub fn result_of(kind: Arithmetic, left: &Type, right: &Type) -> Option<Type> {
    use Arithmetic::{Add, Divide, Multiply, Subtract};
    use Type as T;
    Some(match (kind, left, right) {
        (Add | Subtract, T::Date, T::IntervalDaySecond | T::IntervalYearMonth) => T::Date,
        (Add, T::IntervalDaySecond | T::IntervalYearMonth, T::Date) => T::Date,
        (Add | Subtract, T::Timestamp(p), T::IntervalDaySecond | T::IntervalYearMonth)
        | (Add, T::IntervalDaySecond | T::IntervalYearMonth, T::Timestamp(p)) => {
            T::Timestamp(sum_precision(*p, left, right))
        }
        (Add | Subtract, T::TimestampTz(p, zone), T::IntervalDaySecond | T::IntervalYearMonth)
        | (Add, T::IntervalDaySecond | T::IntervalYearMonth, T::TimestampTz(p, zone)) => {
            T::TimestampTz(sum_precision(*p, left, right), zone.clone())
        }
        (Add | Subtract, T::Time(p), T::IntervalDaySecond) | (Add, T::IntervalDaySecond, T::Time(p)) => {
            T::Time((*p).max(3))
        }
        (Subtract, T::Date, T::Date) | (Subtract, T::Timestamp(_), T::Timestamp(_)) => T::IntervalDaySecond,
        (Subtract, T::TimestampTz(..), T::TimestampTz(..)) | (Subtract, T::Time(_), T::Time(_)) => T::IntervalDaySecond,
        (Add | Subtract, T::IntervalDaySecond, T::IntervalDaySecond) => T::IntervalDaySecond,
        (Add | Subtract, T::IntervalYearMonth, T::IntervalYearMonth) => T::IntervalYearMonth,
        (Multiply | Divide, T::IntervalDaySecond | T::IntervalYearMonth, T::Bigint | T::Double) => left.clone(),
        (Multiply, T::Bigint | T::Double, T::IntervalDaySecond | T::IntervalYearMonth) => right.clone(),
        _ => return None,
    })
}

fn sum_precision(precision: u8, left: &Type, right: &Type) -> u8 {
    if *left == Type::IntervalDaySecond || *right == Type::IntervalDaySecond { precision.max(3) } else { precision }
}

/// Computes `left op right`.
pub fn evaluate(
    kind: Arithmetic,
    left: (&ArrayRef, &Type),
    right: (&ArrayRef, &Type),
    result: &Type,
) -> Result<ArrayRef> {
    let is_interval = |of: &Type| matches!(of, Type::IntervalDaySecond | Type::IntervalYearMonth);
    let is_number = |of: &Type| matches!(of, Type::Bigint | Type::Double);
    match (is_interval(left.1), is_interval(right.1)) {
        (true, true) => between_intervals(kind, left, right),
        (true, false) if is_number(right.1) => scale(kind, left, right),
        (false, true) if is_number(left.1) => scale(kind, right, left),
        (true, false) => shift(right, left, 1, result),
        (false, true) => shift(left, right, if kind == Arithmetic::Subtract { -1 } else { 1 }, result),
        (false, false) => difference(left.0, right.0),
    }
}

fn difference(a: &ArrayRef, b: &ArrayRef) -> Result<ArrayRef> {
    let (a, b) = (time::values(a)?, time::values(b)?);
    let values = a.into_iter().zip(b).map(|(a, b)| Some(((a? - b?) + 500_000).div_euclid(1_000_000) as i64));
    Ok(Arc::new(values.collect::<DurationMillisecondArray>()))
}

fn between_intervals(kind: Arithmetic, (a, of): (&ArrayRef, &Type), (b, _): (&ArrayRef, &Type)) -> Result<ArrayRef> {
    let overflow = || out_of_range("interval overflow");
    let subtract = kind == Arithmetic::Subtract;
    if *of == Type::IntervalYearMonth {
        let (a, b) = (a.as_primitive::<IntervalYearMonthType>(), b.as_primitive::<IntervalYearMonthType>());
        let pairs = a.iter().zip(b).map(|(a, b)| {
            let (Some(a), Some(b)) = (a, b) else { return Ok(None) };
            (if subtract { a.checked_sub(b) } else { a.checked_add(b) }).map(Some).ok_or_else(overflow)
        });
        return Ok(Arc::new(pairs.collect::<Result<IntervalYearMonthArray>>()?));
    }
    let (a, b) = (a.as_primitive::<DurationMillisecondType>(), b.as_primitive::<DurationMillisecondType>());
    let pairs = a.iter().zip(b).map(|(a, b)| {
        let (Some(a), Some(b)) = (a, b) else { return Ok(None) };
        (if subtract { a.checked_sub(b) } else { a.checked_add(b) }).map(Some).ok_or_else(overflow)
    });
    Ok(Arc::new(pairs.collect::<Result<DurationMillisecondArray>>()?))
}

fn scale(
    kind: Arithmetic,
    (interval, of): (&ArrayRef, &Type),
    (number, number_type): (&ArrayRef, &Type),
) -> Result<ArrayRef> {
    let months = *of == Type::IntervalYearMonth;
    let base: Vec<Option<i64>> = if months {
        interval.as_primitive::<IntervalYearMonthType>().iter().map(|v| v.map(i64::from)).collect()
    } else {
        interval.as_primitive::<DurationMillisecondType>().iter().collect()
    };
    let scaled: Vec<Option<i64>> = if *number_type == Type::Bigint {
        let numbers = number.as_primitive::<Int64Type>().iter();
        base.into_iter().zip(numbers).map(|(a, b)| whole(kind, a, b)).collect::<Result<_>>()?
    } else {
        let numbers = number.as_primitive::<Float64Type>().iter();
        let scaled = |a: i64, b: f64| if kind == Arithmetic::Divide { a as f64 / b } else { a as f64 * b };
        base.into_iter().zip(numbers).map(|(a, b)| Some(scaled(a?, b?) as i64)).collect()
    };
    if months {
        let narrow = scaled
            .into_iter()
            .map(|v| v.map(|v| i32::try_from(v).map_err(|_| out_of_range("interval overflow"))).transpose());
        return Ok(Arc::new(narrow.collect::<Result<IntervalYearMonthArray>>()?));
    }
    Ok(Arc::new(DurationMillisecondArray::from(scaled)))
}

fn whole(kind: Arithmetic, a: Option<i64>, b: Option<i64>) -> Result<Option<i64>> {
    let (Some(a), Some(b)) = (a, b) else { return Ok(None) };
    match kind {
        Arithmetic::Divide if b == 0 => Err(by_zero()),
        Arithmetic::Divide => Ok(Some(a / b)),
        _ => a.checked_mul(b).map(Some).ok_or_else(|| out_of_range("interval overflow")),
    }
}

fn shift(
    (base, of): (&ArrayRef, &Type),
    (interval, interval_type): (&ArrayRef, &Type),
    sign: i64,
    result: &Type,
) -> Result<ArrayRef> {
    let values = time::values(base)?;
    let zone = match of {
        Type::TimestampTz(_, name) => Some(time::zone_of(name)?),
        _ => None,
    };
    let shifted: Vec<Option<i128>> = if *interval_type == Type::IntervalYearMonth {
        let months = interval.as_primitive::<IntervalYearMonthType>();
        let each = values.into_iter().zip(months).map(|(value, months)| {
            let (Some(value), Some(months)) = (value, months) else { return Ok(None) };
            add_months(value, i64::from(months) * sign, zone).map(Some)
        });
        each.collect::<Result<_>>()?
    } else {
        let millis = interval.as_primitive::<DurationMillisecondType>();
        let each = values.into_iter().zip(millis).map(|(value, millis)| {
            let (Some(value), Some(millis)) = (value, millis) else { return Ok(None) };
            add_millis(value, i128::from(millis) * i128::from(sign), of).map(Some)
        });
        each.collect::<Result<_>>()?
    };
    time::column(shifted, result)
}

fn add_millis(value: i128, millis: i128, of: &Type) -> Result<i128> {
    let moved = value + millis * 1_000_000;
    match of {
        Type::Date if moved.rem_euclid(time::DAY) != 0 => {
            Err(Error::user("INVALID_FUNCTION_ARGUMENT", "cannot add hour, minutes or seconds to a date")
                .with_hint("cast the date to timestamp first"))
        }
        Type::Time(_) => Ok(moved.rem_euclid(time::DAY)),
        _ => Ok(moved),
    }
}

/// Adds months to a civil time, or to an instant in its zone.
pub fn add_months(nanos: i128, months: i64, zone: Option<Zone>) -> Result<i128> {
    let local = zone.map_or(nanos, |zone| zone.local(nanos));
    let out = || out_of_range("time is out of range");
    let date: NaiveDate = time::date((local.div_euclid(time::DAY)) as i64).ok_or_else(out)?;
    let count = Months::new(u32::try_from(months.unsigned_abs()).map_err(|_| out())?);
    let moved = if months < 0 { date.checked_sub_months(count) } else { date.checked_add_months(count) };
    let moved = i128::from(time::days(moved.ok_or_else(out)?)) * time::DAY + local.rem_euclid(time::DAY);
    Ok(zone.map_or(moved, |zone| zone.instant(moved)))
}

/// Computes `-interval`.
pub fn negate(value: &ArrayRef) -> Result<ArrayRef> {
    if let Some(months) = value.as_primitive_opt::<IntervalYearMonthType>() {
        return Ok(Arc::new(months.iter().map(|v| v.map(|v| v.wrapping_neg())).collect::<IntervalYearMonthArray>()));
    }
    let millis = value.as_primitive::<DurationMillisecondType>();
    Ok(Arc::new(millis.iter().map(|v| v.map(|v| v.wrapping_neg())).collect::<DurationMillisecondArray>()))
}
