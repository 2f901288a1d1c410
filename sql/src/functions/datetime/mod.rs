//! Dates, times, time zones and intervals.
//!
//! Invariant: calendars are proleptic Gregorian with ISO weeks, as in Trino; all zones of the tz database are known.

use headwater_engine::error::Result;

use super::{Function, define::build};

pub mod arithmetic;
pub mod civil;
pub mod clock;
pub mod conversion;
pub mod duration;
pub mod fields;
pub mod formats;
pub mod iso;
pub mod moments;
pub mod pattern;
pub mod print;
pub mod read;
mod resolve;
pub mod units;
pub mod zone;

/// The family's functions.
pub(super) fn functions() -> Result<Vec<Function>> {
    let mut all = arithmetic::definitions();
    all.extend(fields::of_dates());
    all.extend(fields::of_times());
    all.extend(formats::definitions());
    all.extend(conversion::definitions());
    all.extend(clock::definitions());
    build(all)
}
