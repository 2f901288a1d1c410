//! `CAST` and `TRY_CAST`: which exist, which can fail, and their dispatch by the kind of type wanted.
//!
//! Invariant: a cast never truncates a number or a time silently: it rounds half up or fails.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, ListArray, MapArray, StringArray, StringViewArray, StructArray,
        UInt32Array, make_array, new_null_array,
    },
    buffer::{NullBuffer, OffsetBuffer},
    compute::{kernels::nullif::nullif, take},
    datatypes::DataType,
};
use headwater_engine::error::{Error, Result};

use super::{ip, json, parse, render, rows, time, time_tz, zoned};
use crate::{sketches::Sketch, types::Type};

mod numbers;

pub use numbers::Number;

/// Whether a cast exists.
pub fn exists(from: &Type, to: &Type) -> bool {
    use Type as T;
    if from == to || *from == T::Unknown {
        return true;
    }
    if let T::ZonedEach(p) = from {
        return exists(&T::TimestampTz(*p, "UTC".into()), to);
    }
    if let T::ZonedEach(p) = to {
        return exists(from, &T::TimestampTz(*p, "UTC".into()));
    }
    let scalar_number = |of: &Type| of.is_numeric() || *of == T::Boolean;
    match (from, to) {
        (a, b) if scalar_number(a) && scalar_number(b) => true,
        (T::Varchar(_) | T::Char(_), T::Varchar(_) | T::Char(_)) => true,
        (T::Varchar(_), to) if scalar_number(to) => true,
        (T::Varchar(_), T::Date | T::Time(_) | T::Timestamp(_) | T::TimestampTz(..) | T::Json | T::Uuid) => true,
        (T::Sketch(a), T::Varbinary) | (T::Varbinary, T::Sketch(a)) => *a != Sketch::Color,
        (T::Sketch(_), _) | (_, T::Sketch(_)) => false,
        (T::Varchar(_) | T::Time(_) | T::TimeTz(_) | T::TimestampTz(..), T::TimeTz(_)) => true,
        (T::TimeTz(_), T::Time(_)) => true,
        (T::Varbinary | T::Array(_) | T::Map(..) | T::Row(_) | T::Other(_), T::Varchar(_) | T::Char(_)) => false,
        (_, T::Varchar(_)) => true,
        (_, T::Char(_)) => false,
        (T::Varchar(_), T::Varbinary) => true,
        (T::Date, T::Timestamp(_) | T::TimestampTz(..)) => true,
        (T::Time(_), T::Time(_)) => true,
        (T::Timestamp(_) | T::TimestampTz(..), T::Date | T::Time(_) | T::Timestamp(_) | T::TimestampTz(..)) => true,
        (T::Json, to) => json::castable_from(to),
        (from, T::Json) => json::castable_to(from),
        (T::Uuid, T::Varbinary) | (T::Varbinary, T::Uuid) => true,
        (T::IpAddress, T::Varbinary) | (T::Varbinary | T::Varchar(_), T::IpAddress) => true,
        (T::Array(a), T::Array(b)) => exists(a, b),
        (T::Map(ka, va), T::Map(kb, vb)) => exists(ka, kb) && exists(va, vb),
        (T::Row(a), T::Row(b)) => a.len() == b.len() && a.iter().zip(b).all(|((_, a), (_, b))| exists(a, b)),
        (T::Other(_), _) | (_, T::Other(_)) => true,
        _ => false,
    }
}

/// Whether a cast can fail for a value.
pub fn can_fail(from: &Type, to: &Type) -> bool {
    use Type as T;
    match (from, to) {
        (T::Unknown, _) | (_, T::Boolean | T::Double | T::Real)
            if !matches!(from, T::Varchar(_) | T::Char(_) | T::Json) =>
        {
            false
        }
        (T::Varchar(_) | T::Char(_), T::Varchar(_) | T::Char(_)) => false,
        (_, T::Varchar(None)) => *from == T::Json,
        (T::Array(a), T::Array(b)) => can_fail(a, b),
        (T::Row(a), T::Row(b)) => a.iter().zip(b).any(|((_, a), (_, b))| can_fail(a, b)),
        _ => from != to && !crate::types::coerces(from, to),
    }
}

/// Casts a column.
pub fn evaluate(array: &ArrayRef, from: &Type, to: &Type, safe: bool) -> Result<ArrayRef> {
    if !safe {
        return strict(array, from, to);
    }
    rows::by_halves(0, array.len(), &to.to_arrow(), &|start, count| strict(&array.slice(start, count), from, to))
}

fn strict(array: &ArrayRef, from: &Type, to: &Type) -> Result<ArrayRef> {
    use Type as T;
    if *from == T::Unknown || matches!(array.data_type(), DataType::Null) {
        return Ok(new_null_array(&to.to_arrow(), array.len()));
    }
    match (from, to) {
        (from, T::ZonedEach(p)) => zoned::beside_zones(array, from, *p),
        (T::ZonedEach(p), to) => zoned::cast(array, *p, to),
        (T::Json, T::Json) => Ok(array.clone()),
        (_, T::Json) => json::to_json(array, from),
        (T::Json, _) => json::from_json(array, to),
        (_, T::Varchar(length)) => to_varchar(array, from, *length),
        (_, T::Char(length)) => to_char(array, from, *length),
        (_, to) if to.is_numeric() || *to == T::Boolean => numbers::cast(array, from, to),
        (_, T::TimeTz(_)) => time_tz::cast_to(array, from, to),
        (T::TimeTz(_), T::Time(_)) => time_tz::to_time(array, to),
        (_, T::Date | T::Time(_) | T::Timestamp(_) | T::TimestampTz(..)) => to_time(array, from, to),
        (T::Varchar(_), T::Varbinary) => Ok(Arc::new(
            array.as_string::<i32>().iter().map(|v| v.map(str::as_bytes)).collect::<arrow::array::BinaryArray>(),
        )),
        (T::Sketch(_), T::Varbinary) => Ok(Arc::new(Sketch::unwrap(array)?)),
        (T::Varbinary, T::Sketch(sketch)) => sketch.wrap(array.as_binary::<i32>().clone()),
        (T::Varchar(_), T::Uuid) => to_uuid(array),
        (T::IpAddress, T::Varbinary) => Ok(ip::to_bytes(array)),
        (_, T::IpAddress) => ip::cast_to(array, from),
        (T::Uuid, T::Varbinary) | (T::Varbinary, T::Uuid) => Ok(arrow::compute::cast(array, &to.to_arrow())?),
        (T::Array(a), T::Array(b)) => list(array, a, b, to),
        (T::Map(ka, va), T::Map(kb, vb)) => map(array, (ka, kb), (va, vb), to),
        (T::Row(a), T::Row(b)) => row(array, a, b, to),
        _ if from.to_arrow() == to.to_arrow() => Ok(array.clone()),
        _ => Ok(arrow::compute::cast(array, &to.to_arrow())?),
    }
}

/// The error of a value that does not fit.
pub fn refused(value: &str, to: &Type) -> Error {
    Error::user("INVALID_CAST_ARGUMENT", format!("cannot cast '{value}' to {to}"))
}

fn to_varchar(array: &ArrayRef, from: &Type, length: Option<u32>) -> Result<ArrayRef> {
    let fits = match (from, length) {
        (_, None) => true,
        (Type::Varchar(Some(has)), Some(wanted)) => *has <= wanted,
        _ => false,
    };
    if fits && matches!(from, Type::Varchar(_)) {
        return Ok(array.clone());
    }
    let limit = length.map(|length| length as usize);
    let cut = matches!(from, Type::Varchar(_) | Type::Char(_));
    let texts = render::texts(array, from)?.into_iter().map(|text| match (text, limit) {
        (Some(text), Some(limit)) if text.chars().count() > limit => {
            if cut {
                return Ok(Some(text.chars().take(limit).collect()));
            }
            Err(Error::user("INVALID_CAST_ARGUMENT", format!("value {text} cannot be represented as varchar({limit})")))
        }
        (text, _) => Ok(text),
    });
    Ok(Arc::new(texts.collect::<Result<StringArray>>()?))
}

fn to_char(array: &ArrayRef, from: &Type, length: u32) -> Result<ArrayRef> {
    let length = length as usize;
    let texts = render::texts(array, from)?.into_iter().map(|text| {
        let text = text?;
        let mut cut: String = text.chars().take(length).collect();
        let missing = length - cut.chars().count();
        cut.extend(std::iter::repeat_n(' ', missing));
        Some(cut)
    });
    Ok(Arc::new(texts.collect::<StringViewArray>()))
}

fn to_uuid(array: &ArrayRef) -> Result<ArrayRef> {
    let bytes = array.as_string::<i32>().iter().map(|text| {
        text.map(|text| {
            uuid::Uuid::parse_str(text).map(|uuid| uuid.into_bytes()).map_err(|_| refused(text, &Type::Uuid))
        })
        .transpose()
    });
    let values: Vec<Option<[u8; 16]>> = bytes.collect::<Result<_>>()?;
    let sized = arrow::array::FixedSizeBinaryArray::try_from_sparse_iter_with_size(values.into_iter(), 16)?;
    Ok(Arc::new(sized))
}

fn to_time(array: &ArrayRef, from: &Type, to: &Type) -> Result<ArrayRef> {
    if matches!(from, Type::Varchar(_) | Type::Char(_)) {
        let values = render::texts(array, from)?
            .into_iter()
            .map(|text| text.map(|text| read_time(&text, to)).transpose())
            .collect::<Result<_>>()?;
        return time::column(values, to);
    }
    if let Some(same) = same_ticks(array, from, to)? {
        return Ok(same);
    }
    let from_zone = zone(from)?;
    let to_zone = zone(to)?;
    let values = time::values(array)?.into_iter().map(|value| {
        let value = value?;
        let rounded = |value: i128| match to {
            Type::Time(p) | Type::Timestamp(p) | Type::TimestampTz(p, _) => time::round(value, *p),
            _ => value,
        };
        Some(match (from_zone, to) {
            (_, Type::TimestampTz(..)) if from_zone.is_some() => rounded(value),
            (_, Type::TimestampTz(..)) => rounded(to_zone.map_or(value, |zone| zone.instant(value))),
            (Some(zone), _) => within(rounded(zone.local(value)), to),
            (None, _) => within(rounded(value), to),
        })
    });
    time::column(values.collect(), to)
}

/// Timestamps of one precision with UTC and without a zone have the same ticks.
fn same_ticks(array: &ArrayRef, from: &Type, to: &Type) -> Result<Option<ArrayRef>> {
    let (precision, zone, other) = match (from, to) {
        (Type::Timestamp(p), Type::TimestampTz(q, name)) | (Type::TimestampTz(p, name), Type::Timestamp(q)) => {
            (p, name, q)
        }
        _ => return Ok(None),
    };
    if precision != other || **zone != *"UTC" || *array.data_type() != from.to_arrow() {
        return Ok(None);
    }
    Ok(Some(make_array(array.to_data().into_builder().data_type(to.to_arrow()).build()?)))
}

fn zone(of: &Type) -> Result<Option<time::Zone>> {
    match of {
        Type::TimestampTz(_, name) => time::zone_of(name).map(Some),
        _ => Ok(None),
    }
}

fn within(nanos: i128, to: &Type) -> i128 {
    match to {
        Type::Date => nanos.div_euclid(time::DAY) * time::DAY,
        Type::Time(_) => nanos.rem_euclid(time::DAY),
        _ => nanos,
    }
}

/// Reads a date, time or timestamp from text, in nanoseconds.
pub fn read_time(text: &str, to: &Type) -> Result<i128> {
    let wrong = || match to {
        Type::Date => refused(text, to),
        _ => Error::user("INVALID_CAST_ARGUMENT", format!("value cannot be cast to {to}: {text}")),
    };
    match to {
        Type::Date => parse::date(text).map(|days| i128::from(days) * time::DAY).ok_or_else(wrong),
        Type::Time(p) => {
            let (nanos, _) = parse::time_of_day(text.trim()).ok_or_else(wrong)?;
            Ok(time::round(nanos, *p).rem_euclid(time::DAY))
        }
        Type::Timestamp(p) => parse::timestamp(text).map(|written| time::round(written.local, *p)).ok_or_else(wrong),
        Type::TimestampTz(p, zone) => {
            let written = parse::timestamp(text).ok_or_else(wrong)?;
            let zone = time::zone_of(written.zone.as_deref().unwrap_or(zone))?;
            Ok(time::round(zone.instant(written.local), *p))
        }
        _ => Err(wrong()),
    }
}

/// The elements of arrays or maps that belong to a row: behind a NULL and beside a slice there may be others.
struct Held {
    offsets: OffsetBuffer<i32>,
    /// Their places, if they do not stand together.
    places: Option<UInt32Array>,
    start: usize,
}

impl Held {
    fn of(offsets: &OffsetBuffer<i32>, nulls: Option<&NullBuffer>) -> Self {
        let valid = |row: usize| nulls.is_none_or(|nulls| nulls.is_valid(row));
        let spans = || (0..offsets.len().saturating_sub(1)).map(|row| (row, offsets[row], offsets[row + 1]));
        let held = || spans().filter(|(row, from, to)| valid(*row) && to > from);
        let lengths = spans().map(|(row, from, to)| if valid(row) { (to - from) as usize } else { 0 });
        let (mut start, mut next) = (None, None);
        let together = held().all(|(_, from, to)| {
            start.get_or_insert(from);
            next.replace(to).is_none_or(|end| end == from)
        });
        let places = (!together).then(|| held().flat_map(|(_, from, to)| from as u32..to as u32).collect());
        let start = start.unwrap_or_default() as usize;
        Self { offsets: OffsetBuffer::from_lengths(lengths), places, start }
    }

    fn of_child(&self, child: &ArrayRef) -> Result<ArrayRef> {
        match &self.places {
            Some(places) => Ok(take(child, places, None)?),
            None => Ok(child.slice(self.start, self.offsets.last().map_or(0, |end| *end as usize))),
        }
    }
}

/// A field of rows, NULL where the row is.
fn of_rows(column: &ArrayRef, nulls: Option<&NullBuffer>) -> Result<ArrayRef> {
    match nulls {
        Some(nulls) if !matches!(column.data_type(), DataType::Null) => {
            Ok(nullif(column, &BooleanArray::new(!nulls.inner(), None))?)
        }
        _ => Ok(column.clone()),
    }
}

fn list(array: &ArrayRef, a: &Type, b: &Type, to: &Type) -> Result<ArrayRef> {
    let list = array.as_list::<i32>();
    let held = Held::of(list.offsets(), list.nulls());
    let values = super::fit(strict(&held.of_child(list.values())?, a, b)?, &b.to_arrow())?;
    let DataType::List(field) = to.to_arrow() else { return Err(Error::internal("an array casts to an array")) };
    Ok(Arc::new(ListArray::try_new(field, held.offsets, values, list.nulls().cloned())?))
}

fn map(array: &ArrayRef, keys: (&Type, &Type), values: (&Type, &Type), to: &Type) -> Result<ArrayRef> {
    let map = array.as_map();
    let held = Held::of(map.offsets(), map.nulls());
    let cast_keys = super::fit(strict(&held.of_child(map.keys())?, keys.0, keys.1)?, &keys.1.to_arrow())?;
    if cast_keys.null_count() > 0 {
        return Err(Error::user("INVALID_CAST_ARGUMENT", "map key is null"));
    }
    let cast_values = super::fit(strict(&held.of_child(map.values())?, values.0, values.1)?, &values.1.to_arrow())?;
    let DataType::Map(field, sorted) = to.to_arrow() else { return Err(Error::internal("a map casts to a map")) };
    let DataType::Struct(fields) = field.data_type().clone() else { return Err(Error::internal("a map has entries")) };
    let entries = StructArray::try_new(fields, vec![cast_keys, cast_values], None)?;
    Ok(Arc::new(MapArray::try_new(field, held.offsets, entries, map.nulls().cloned(), sorted)?))
}

type RowFields = [(Option<Arc<str>>, Type)];

fn row(array: &ArrayRef, a: &RowFields, b: &RowFields, to: &Type) -> Result<ArrayRef> {
    let row = array.as_struct();
    let DataType::Struct(fields) = to.to_arrow() else { return Err(Error::internal("a row casts to a row")) };
    let columns = row
        .columns()
        .iter()
        .zip(a.iter().zip(b))
        .map(|(column, ((_, a), (_, b)))| super::fit(strict(&of_rows(column, row.nulls())?, a, b)?, &b.to_arrow()))
        .collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(StructArray::try_new(fields, columns, row.nulls().cloned())?))
}
