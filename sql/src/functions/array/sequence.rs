//! `sequence`: numbers, dates and timestamps from a start to a stop.
//!
//! Invariant: a sequence has at most 10,000 elements, as in Trino.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Int64Array},
    datatypes::{DataType, DurationMillisecondType, IntervalUnit, IntervalYearMonthType},
};
use headwater_engine::error::Result;

use super::super::{
    define::Definition,
    kernel::{invalid, whole},
    nested::Offsets,
    scalar::{Call, Typing},
    signature::list_of,
};
use crate::{
    kernels::{interval::add_months, time},
    types::Type,
};

const ENTRIES_MAX: usize = 10_000;

fn of_first(typing: &Typing<'_>) -> Result<DataType> {
    Ok(list_of(typing.arguments.first().cloned().unwrap_or(DataType::Null)))
}

pub(super) fn definition() -> Definition {
    super::array("sequence", "the numbers, dates or timestamps from a start to a stop, by a step")
        .on("sequence(bigint, bigint) -> array(bigint)", whole(|call| whole_numbers(call, false)))
        .on("sequence(bigint, bigint, bigint) -> array(bigint)", whole(|call| whole_numbers(call, true)))
        .on("sequence(date, date) -> array(date)", whole(times))
        .on("sequence(date, date, interval day to second) -> array(date)", whole(times))
        .on("sequence(date, date, interval year to month) -> array(date)", whole(times))
        .on_typed(
            "sequence(timestamp(p), timestamp(p), interval day to second) -> array(timestamp(p))",
            of_first,
            whole(times),
        )
        .on_typed(
            "sequence(timestamp(p), timestamp(p), interval year to month) -> array(timestamp(p))",
            of_first,
            whole(times),
        )
        .example("SELECT sequence(1, 3)", "[1, 2, 3]")
}

/// Values from a start while they do not pass the stop.
fn run(start: i128, stop: i128, forward: bool, mut step: impl FnMut(usize) -> Result<i128>) -> Result<Vec<i128>> {
    let mut all = Vec::new();
    let mut value = start;
    while if forward { value <= stop } else { value >= stop } {
        if all.len() == ENTRIES_MAX {
            return Err(invalid(format!("result of sequence function must not have more than {ENTRIES_MAX} entries")));
        }
        all.push(value);
        value = step(all.len())?;
    }
    Ok(all)
}

fn check(start: i128, stop: i128, step: i128) -> Result<bool> {
    if step == 0 {
        return Err(invalid("step must not be zero"));
    }
    if (step > 0) != (stop >= start) && stop != start {
        return Err(invalid(
            "sequence stop value should be greater than or equal to start value if step is greater than zero otherwise stop should be less than or equal to start",
        ));
    }
    Ok(step > 0)
}

fn whole_numbers(call: &Call<'_>, stepped: bool) -> Result<ArrayRef> {
    let (starts, stops) = (super::numbers(&call.full(0)?), super::numbers(&call.full(1)?));
    let steps = if stepped { Some(super::numbers(&call.full(2)?)) } else { None };
    let (mut offsets, mut values) = (Offsets::new(call.rows), Vec::new());
    for row in 0..call.rows {
        let step = match &steps {
            Some(steps) => steps[row],
            None => starts[row].zip(stops[row]).map(|(start, stop)| if stop >= start { 1 } else { -1 }),
        };
        let whole = starts[row].zip(stops[row]).zip(step);
        if let Some(((start, stop), step)) = whole {
            let (start, stop, step) = (i128::from(start), i128::from(stop), i128::from(step));
            let forward = check(start, stop, step)?;
            values.extend(
                run(start, stop, forward, |count| Ok(start + step * count as i128))?.into_iter().map(|v| v as i64),
            );
        }
        offsets.end(values.len(), whole.is_some())?;
    }
    offsets.list(Arc::new(Int64Array::from(values)), call.result)
}

fn times(call: &Call<'_>) -> Result<ArrayRef> {
    let first = call.full(0)?;
    let of = Type::from_arrow(first.data_type());
    let (starts, stops) = (time::values(&first)?, time::values(&call.full(1)?)?);
    let steps = if call.arguments.len() > 2 { Some(call.full(2)?) } else { None };
    let (mut offsets, mut values) = (Offsets::new(call.rows), Vec::new());
    for row in 0..call.rows {
        let bounds = starts[row].zip(stops[row]);
        let mut valid = bounds.is_some();
        if let Some((start, stop)) = bounds {
            let made = match &steps {
                None => Some(days(start, stop)?),
                Some(steps) if steps.is_null(row) => None,
                Some(steps) if *steps.data_type() == DataType::Interval(IntervalUnit::YearMonth) => {
                    let months = i64::from(steps.as_primitive::<IntervalYearMonthType>().value(row));
                    let forward = check(start, stop, i128::from(months))?;
                    Some(run(start, stop, forward, |count| add_months(start, months * count as i64, None))?)
                }
                Some(steps) => {
                    let step = i128::from(steps.as_primitive::<DurationMillisecondType>().value(row)) * 1_000_000;
                    if of == Type::Date && step % time::DAY != 0 {
                        return Err(invalid("sequence step must be a day interval if start and end values are dates"));
                    }
                    let forward = check(start, stop, step)?;
                    Some(run(start, stop, forward, |count| Ok(start + step * count as i128))?)
                }
            };
            valid = made.is_some();
            values.extend(made.into_iter().flatten().map(Some));
        }
        offsets.end(values.len(), valid)?;
    }
    offsets.list(time::column(values, &of)?, call.result)
}

fn days(start: i128, stop: i128) -> Result<Vec<i128>> {
    let step = if stop >= start { time::DAY } else { -time::DAY };
    run(start, stop, step > 0, |count| Ok(start + step * count as i128))
}
