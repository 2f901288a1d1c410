//! `date_trunc`, `date_add`, `date_diff` and `last_day_of_month`.
//!
//! Invariant: of zoned timestamps, hours and shorter units count instants, days and longer what the wall clock shows.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array},
    datatypes::DataType,
};
use headwater_engine::error::Result;

use super::{
    super::{
        Family,
        column::{Column, Compiled, I64, Str},
        define::{Definition, like_second, like_third, scalar},
        kernel::whole,
        scalar::{Call, Kernel},
    },
    civil::{civil_of, days_of, month_length},
    moments::{Moments, ticks_array},
    units::{Kind, Unit, add, difference, to_millis, truncate},
};

fn kind_of(call: &Call<'_>, index: usize) -> Result<Kind> {
    Ok(match call.argument(index)?.array.data_type() {
        DataType::Date32 => Kind::Date,
        DataType::Time32(_) | DataType::Time64(_) => Kind::Time,
        _ => Kind::Timestamp,
    })
}

/// The unit of each row, parsed once for a constant.
struct Units {
    names: Column<Str>,
    unit: Compiled<Unit>,
    kind: Kind,
}

impl Units {
    fn new(call: &Call<'_>, of: usize) -> Result<Self> {
        Ok(Self { names: call.column(0)?, unit: Compiled::default(), kind: kind_of(call, of)? })
    }

    fn get(&mut self, row: usize) -> Result<Option<Unit>> {
        let Some(name) = self.names.value(row) else { return Ok(None) };
        let kind = self.kind;
        Ok(Some(*self.unit.get(name, |name| Unit::parse(name, kind))?))
    }
}

fn trunc_kernel(call: &Call<'_>) -> Result<ArrayRef> {
    let moments = Moments::new(call, 1)?;
    let mut units = Units::new(call, 1)?;
    let mut out = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        let Some(ticks) = moments.get(row) else {
            out.push(None);
            continue;
        };
        out.push(match units.get(row)? {
            Some(unit) => {
                let local = moments.to_local(ticks);
                let start = truncate(unit, local, moments.scale);
                Some(if unit < Unit::Day { ticks - (local - start) } else { moments.to_instant(start) })
            }
            _ => None,
        });
    }
    ticks_array(out, call.result)
}

fn add_kernel(call: &Call<'_>) -> Result<ArrayRef> {
    let moments = Moments::new(call, 2)?;
    let counts = call.column::<I64>(1)?;
    let mut units = Units::new(call, 2)?;
    let mut out = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        let (Some(count), Some(ticks)) = (counts.value(row), moments.get(row)) else {
            out.push(None);
            continue;
        };
        out.push(match units.get(row)? {
            Some(unit) if units.kind == Kind::Time => {
                let sum = add(unit, count % unit.per_day(), ticks, moments.scale)?;
                Some(sum.rem_euclid(moments.scale.per_day))
            }
            Some(unit) if unit < Unit::Day => Some(add(unit, count, ticks, moments.scale)?),
            Some(unit) => {
                let local = moments.to_local(ticks);
                Some(moments.to_instant(add(unit, count, local, moments.scale)?))
            }
            _ => None,
        });
    }
    ticks_array(out, call.result)
}

fn diff_kernel(call: &Call<'_>) -> Result<ArrayRef> {
    let (from, mut to) = (Moments::new(call, 1)?, Moments::new(call, 2)?);
    // Days are those of the first one's zone.
    to.zone = to.zone.and(from.zone);
    let mut units = Units::new(call, 1)?;
    let mut out = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        let (Some(a), Some(b)) = (from.get(row), to.get(row)) else {
            out.push(None);
            continue;
        };
        out.push(match units.get(row)? {
            Some(unit) => {
                let (a, b) = if unit < Unit::Day { (a, b) } else { (from.to_local(a), to.to_local(b)) };
                Some(difference(unit, to_millis(a, from.scale), to_millis(b, to.scale)))
            }
            _ => None,
        });
    }
    Ok(Arc::new(Int64Array::from(out)))
}

fn last_day_kernel(call: &Call<'_>) -> Result<ArrayRef> {
    let moments = Moments::new(call, 0)?;
    let last = |local: i64| {
        let date = civil_of(moments.scale.split(local).0);
        days_of(date.year, date.month, month_length(date.year, date.month))
    };
    ticks_array((0..call.rows).map(|row| moments.local(row).map(last)).collect(), call.result)
}

/// The functions.
pub(super) fn definitions() -> Vec<Definition> {
    let kernel = |f: fn(&Call<'_>) -> Result<ArrayRef>| -> Kernel { whole(f) };
    let datetime = |name, summary| scalar(Family::DateTime, name, summary);
    vec![
        datetime("date_trunc", "the beginning of the unit (millisecond to year) a date or time lies in")
            .on_typed("date_trunc(varchar, date) -> date", like_second, kernel(trunc_kernel))
            .on_typed("date_trunc(varchar, time(p)) -> time(p)", like_second, kernel(trunc_kernel))
            .on_typed("date_trunc(varchar, timestamp(p)) -> timestamp(p)", like_second, kernel(trunc_kernel))
            .on_typed(
                "date_trunc(varchar, timestamp(p) with time zone) -> timestamp(p) with time zone",
                like_second,
                kernel(trunc_kernel),
            )
            .example("SELECT date_trunc('month', DATE '2024-06-15')", "2024-06-01"),
        datetime("date_add", "a date or time some units later; negative for earlier")
            .on_typed("date_add(varchar, bigint, date) -> date", like_third, kernel(add_kernel))
            .on_typed("date_add(varchar, bigint, time(p)) -> time(p)", like_third, kernel(add_kernel))
            .on_typed("date_add(varchar, bigint, timestamp(p)) -> timestamp(p)", like_third, kernel(add_kernel))
            .on_typed(
                "date_add(varchar, bigint, timestamp(p) with time zone) -> timestamp(p) with time zone",
                like_third,
                kernel(add_kernel),
            )
            .example("SELECT date_add('month', 1, DATE '2024-01-31')", "2024-02-29"),
        datetime("date_diff", "the whole units from one date or time to another")
            .on("date_diff(varchar, date, date) -> bigint", kernel(diff_kernel))
            .on("date_diff(varchar, time(p), time(p)) -> bigint", kernel(diff_kernel))
            .on("date_diff(varchar, timestamp(p), timestamp(p)) -> bigint", kernel(diff_kernel))
            .on(
                "date_diff(varchar, timestamp(p) with time zone, timestamp(p) with time zone) -> bigint",
                kernel(diff_kernel),
            )
            .example("SELECT date_diff('day', DATE '2024-02-28', DATE '2024-03-01')", "2"),
        datetime("last_day_of_month", "the last day of the month")
            .on("last_day_of_month(date) -> date", kernel(last_day_kernel))
            .on("last_day_of_month(timestamp(p)) -> date", kernel(last_day_kernel))
            .on("last_day_of_month(timestamp(p) with time zone) -> date", kernel(last_day_kernel))
            .example("SELECT last_day_of_month(DATE '2024-02-10')", "2024-02-29"),
    ]
}
