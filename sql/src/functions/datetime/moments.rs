//! Dates, times and timestamps of any precision as one kind of column: ticks of a scale, shown in a zone.
//!
//! Invariant: [`Moments::local`] is what a clock on the wall shows; arithmetic on days and longer is done on it.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int32Array, Int64Array},
    datatypes::{DataType, TimeUnit},
};
use headwater_engine::error::{Error, Result};

use super::{
    super::{
        column::{Column, I32, I64, retype},
        scalar::Call,
    },
    zone::Zone,
};

/// How many ticks a day and a second have; a date has one a day and none a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// Ticks of a day.
    pub per_day: i64,
    /// Ticks of a second; 0 for dates.
    pub per_second: i64,
}

impl Scale {
    /// Ticks rounded to whole milliseconds, as formats show them.
    pub fn to_whole_millis(self, ticks: i64) -> i64 {
        let millis = self.per_second / 1_000;
        if millis <= 1 {
            return ticks;
        }
        (ticks + millis / 2).div_euclid(millis) * millis
    }

    /// The scale of a type.
    pub fn of(data_type: &DataType) -> Result<Self> {
        let per_second = match data_type {
            DataType::Date32 => return Ok(Self { per_day: 1, per_second: 0 }),
            DataType::Timestamp(unit, _) | DataType::Time32(unit) | DataType::Time64(unit) => per_second(*unit),
            other => return Err(Error::internal(format!("a date or time is expected, not {other}"))),
        };
        Ok(Self { per_day: per_second * 86_400, per_second })
    }

    /// The day and the ticks into it.
    pub fn split(self, ticks: i64) -> (i64, i64) {
        (ticks.div_euclid(self.per_day), ticks.rem_euclid(self.per_day))
    }

    /// Whole seconds since 1970.
    pub fn seconds(self, ticks: i64) -> i64 {
        if self.per_second == 0 { ticks * 86_400 } else { ticks.div_euclid(self.per_second) }
    }

    /// Nanoseconds within the second.
    pub fn nanos(self, ticks: i64) -> i64 {
        if self.per_second == 0 { 0 } else { ticks.rem_euclid(self.per_second) * (1_000_000_000 / self.per_second) }
    }
}

/// Ticks of a second.
pub fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// The zone a type shows its values in.
pub fn zone_of(data_type: &DataType) -> Result<Option<Zone>> {
    match data_type {
        DataType::Timestamp(_, Some(zone)) => Ok(Some(Zone::parse(zone)?)),
        _ => Ok(None),
    }
}

#[derive(Debug)]
enum Ticks {
    Narrow(Column<I32>),
    Wide(Column<I64>),
}

/// A column of dates, times or timestamps.
#[derive(Debug)]
pub struct Moments {
    ticks: Ticks,
    /// Its scale.
    pub scale: Scale,
    /// Its zone, of timestamps with one.
    pub zone: Option<Zone>,
}

impl Moments {
    /// Reads an argument.
    pub fn new(call: &Call<'_>, index: usize) -> Result<Self> {
        let data_type = call.argument(index)?.array.data_type();
        let ticks = match data_type {
            DataType::Date32 | DataType::Time32(_) => Ticks::Narrow(call.column(index)?),
            _ => Ticks::Wide(call.column(index)?),
        };
        Ok(Self { ticks, scale: Scale::of(data_type)?, zone: zone_of(data_type)? })
    }

    /// The ticks of a row, in UTC for zoned timestamps.
    pub fn get(&self, row: usize) -> Option<i64> {
        match &self.ticks {
            Ticks::Narrow(column) => column.value(row).map(i64::from),
            Ticks::Wide(column) => column.value(row),
        }
    }

    /// The ticks of a row as the clock in its zone shows them.
    pub fn local(&self, row: usize) -> Option<i64> {
        self.get(row).map(|ticks| self.to_local(ticks))
    }

    /// Ticks as the clock in the zone shows them.
    pub fn to_local(&self, ticks: i64) -> i64 {
        match self.zone {
            Some(Zone::Fixed(0)) | None => ticks,
            Some(zone) => ticks + zone.offset_at(self.scale.seconds(ticks)) * self.scale.per_second,
        }
    }

    /// The instant at which the clock in the zone shows these ticks.
    pub fn to_instant(&self, local: i64) -> i64 {
        match self.zone {
            Some(Zone::Fixed(0)) | None => local,
            Some(zone) => local - zone.offset_at_local(self.scale.seconds(local)) * self.scale.per_second,
        }
    }
}

/// Ticks as an array of the type a call produces.
pub fn ticks_array(ticks: Vec<Option<i64>>, result: &DataType) -> Result<ArrayRef> {
    let array: ArrayRef = match result {
        DataType::Date32 | DataType::Time32(_) => {
            let narrow = ticks.into_iter().map(|tick| tick.map(i32::try_from).transpose());
            let narrow: Int32Array = narrow
                .collect::<Result<_, _>>()
                .map_err(|_| Error::user("INVALID_FUNCTION_ARGUMENT", "the date is out of range"))?;
            Arc::new(narrow)
        }
        _ => Arc::new(Int64Array::from(ticks)),
    };
    retype(&array, result)
}
