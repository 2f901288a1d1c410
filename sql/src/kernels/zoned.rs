//! Timestamps with time zone of which each has a zone of its own.
//!
//! Arrow's timestamps have one zone for a column. Where zones differ, or a column tells them, a value is a row of its
//! instant and the name of its zone; what a function makes of it is computed zone by zone.
//!
//! Invariant: the instant comes first, so that rows sort as instants do.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, StringArray, StructArray, UInt32Array, make_array, new_null_array},
    compute::{interleave, take},
    datatypes::{DataType, Field, TimeUnit},
};
use datafusion::{
    common::config::ConfigOptions,
    logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF},
};
use headwater_engine::error::{Error, Result};

use super::{parse, time};
use crate::{functions::datetime::formats::ZoneReader, types::Type};

/// The field of the instant.
pub const INSTANT: &str = "$instant";
const ZONE: &str = "$zone";

/// Where the zone of a text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Notation {
    /// ISO 8601.
    Iso,
    /// As a cast reads it.
    Plain,
    /// By Joda's letters, which are the second argument.
    Letters,
}

/// The Arrow type.
pub fn arrow_type(unit: TimeUnit) -> DataType {
    let instant = Field::new(INSTANT, DataType::Timestamp(unit, Some("UTC".into())), true);
    DataType::Struct(vec![instant, Field::new(ZONE, DataType::Utf8, true)].into())
}

/// The unit of a column whose values each have a zone.
pub fn unit_of(data_type: &DataType) -> Option<TimeUnit> {
    let DataType::Struct(fields) = data_type else { return None };
    match fields.as_ref() {
        [instant, zone] if instant.name() == INSTANT && zone.name() == ZONE => match instant.data_type() {
            DataType::Timestamp(unit, _) => Some(*unit),
            _ => None,
        },
        _ => None,
    }
}

/// Instants beside their zones; with `local`, what clocks in those zones show.
pub fn with_zones(values: &ArrayRef, zones: &ArrayRef, local: bool, result: &Type) -> Result<ArrayRef> {
    let mut names: HashMap<&str, String> = HashMap::new();
    let zones = zones.as_string::<i32>();
    let missing = values.logical_nulls();
    let is_missing = |row: usize| missing.as_ref().is_some_and(|missing| missing.is_null(row));
    for (row, zone) in zones.iter().enumerate() {
        // What has no instant may say anything of its zone.
        let Some(zone) = zone.filter(|_| !is_missing(row)) else { continue };
        if !names.contains_key(zone) {
            names.insert(zone, time::Zone::canonical(zone)?);
        }
    }
    let name = |row: usize| zones.is_valid(row).then(|| names.get(zones.value(row))).flatten();
    let named: StringArray = (0..zones.len()).map(|row| name(row).map(String::as_str)).collect();
    let mut instants = time::values(values)?;
    for (row, instant) in instants.iter_mut().enumerate() {
        *instant = match (*instant, name(row)) {
            (Some(value), Some(name)) if local => Some(time::zone_of(name)?.instant(value)),
            (value, Some(_)) => value,
            (_, None) => None,
        };
    }
    let Type::ZonedEach(precision) = result else { return Err(Error::internal("expected values with zones")) };
    let instants = time::column(instants, &Type::TimestampTz(*precision, "UTC".into()))?;
    let DataType::Struct(fields) = result.to_arrow() else { return Err(Error::internal("expected a row")) };
    let nulls = instants.logical_nulls();
    Ok(Arc::new(StructArray::try_new(fields, vec![instants, Arc::new(named)], nulls)?))
}

/// Values of one zone, each beside it; what has no zone is of UTC.
pub fn beside_zones(array: &ArrayRef, from: &Type, precision: u8) -> Result<ArrayRef> {
    let result = Type::ZonedEach(precision);
    if let Type::ZonedEach(known) = from {
        let whole = array.as_struct();
        let (instant, wanted) = (Type::TimestampTz(*known, "UTC".into()), Type::TimestampTz(precision, "UTC".into()));
        let instants = super::cast::evaluate(whole.column(0), &instant, &wanted, false)?;
        return with_zones(&instants, whole.column(1), false, &result);
    }
    let zone: Arc<str> = match from {
        Type::TimestampTz(_, zone) => Arc::clone(zone),
        _ => "UTC".into(),
    };
    if matches!(from, Type::Varchar(_)) {
        let instants = super::cast::evaluate(array, from, &Type::TimestampTz(precision, zone), false)?;
        let zones = zones_of_texts(Notation::Plain, std::slice::from_ref(array))?;
        return with_zones(&instants, &zones, false, &result);
    }
    let instants = super::cast::evaluate(array, from, &Type::TimestampTz(precision, Arc::clone(&zone)), false)?;
    let zones: ArrayRef = Arc::new(StringArray::from(vec![zone.as_ref(); array.len()]));
    with_zones(&instants, &zones, false, &result)
}

/// The zones that texts name; those that name none are of UTC.
pub fn zones_of_texts(notation: Notation, args: &[ArrayRef]) -> Result<ArrayRef> {
    let texts = args.first().ok_or_else(|| Error::internal("a text is missing"))?.as_string::<i32>();
    let formats = args.get(1).map(|formats| formats.as_string::<i32>());
    let mut reader = ZoneReader::default();
    let mut zone = |row: usize| {
        let text = texts.value(row);
        match notation {
            Notation::Plain => parse::timestamp(text).and_then(|written| written.zone),
            Notation::Iso => ZoneReader::iso(text),
            Notation::Letters => formats
                .filter(|formats| formats.is_valid(row))
                .and_then(|formats| reader.letters(text, formats.value(row))),
        }
    };
    let zones: StringArray = (0..texts.len())
        .map(|row| texts.is_valid(row).then(|| zone(row).unwrap_or_else(|| "UTC".to_owned())))
        .collect();
    Ok(Arc::new(zones))
}

/// Computes zone by zone: `run` gets the instants of a zone, as a column of that zone, and the rows they stand in.
fn by_zone(
    array: &ArrayRef,
    mut run: impl FnMut(&ArrayRef, &str, &UInt32Array) -> Result<ArrayRef>,
) -> Result<Vec<Part>> {
    let whole = array.as_struct();
    let (instants, zones) = (whole.column(0), whole.column(1).as_string::<i32>());
    let mut rows_of: Vec<(&str, Vec<u32>)> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for row in (0..array.len()).filter(|row| whole.is_valid(*row) && zones.is_valid(*row)) {
        let zone = zones.value(row);
        let place = *places.entry(zone).or_insert_with(|| {
            rows_of.push((zone, Vec::new()));
            rows_of.len() - 1
        });
        if let Some((_, rows)) = rows_of.get_mut(place) {
            rows.push(row as u32);
        }
    }
    let mut parts = Vec::with_capacity(rows_of.len());
    for (zone, rows) in rows_of {
        let rows = UInt32Array::from(rows);
        let own = take(instants, &rows, None)?;
        let DataType::Timestamp(unit, _) = own.data_type().clone() else {
            return Err(Error::internal("an instant is a timestamp"));
        };
        let shown = own.to_data().into_builder().data_type(DataType::Timestamp(unit, Some(zone.into()))).build()?;
        let values = run(&make_array(shown), zone, &rows)?;
        parts.push(Part { rows, values });
    }
    Ok(parts)
}

/// What was computed for the rows of a zone.
struct Part {
    rows: UInt32Array,
    values: ArrayRef,
}

fn joined(parts: &[Part], rows: usize, of: &DataType) -> Result<ArrayRef> {
    let missing = new_null_array(of, 1);
    let mut places = vec![(parts.len(), 0); rows];
    for (index, part) in parts.iter().enumerate() {
        for (at, row) in part.rows.values().iter().enumerate() {
            if let Some(place) = places.get_mut(*row as usize) {
                *place = (index, at);
            }
        }
    }
    let mut values: Vec<&dyn Array> = parts.iter().map(|part| part.values.as_ref()).collect();
    values.push(missing.as_ref());
    Ok(interleave(&values, &places)?)
}

/// Values cast to another type, each in its zone.
pub fn cast(array: &ArrayRef, precision: u8, to: &Type) -> Result<ArrayRef> {
    let of = to.to_arrow();
    let parts = by_zone(array, |instants, zone, _| {
        super::fit(super::cast::evaluate(instants, &Type::TimestampTz(precision, zone.into()), to, false)?, &of)
    })?;
    joined(&parts, array.len(), &of)
}

/// A function called zone by zone; its argument at a position holds the values with zones.
pub fn invoke(udf: &ScalarUDF, at: usize, args: &[ArrayRef], result: &Type) -> Result<ArrayRef> {
    let array = args.get(at).ok_or_else(|| Error::internal("an argument is missing"))?;
    let of = result.to_arrow();
    let config = Arc::new(ConfigOptions::default());
    let parts = by_zone(array, |instants, zone, rows| {
        let mut own = Vec::with_capacity(args.len());
        for (index, arg) in args.iter().enumerate() {
            own.push(if index == at { instants.clone() } else { take(arg, rows, None)? });
        }
        let fields: Vec<_> = own.iter().map(|arg| Arc::new(Field::new("", arg.data_type().clone(), true))).collect();
        let constants = vec![None; own.len()];
        let returned =
            udf.return_field_from_args(ReturnFieldArgs { arg_fields: &fields, scalar_arguments: &constants })?;
        let call = ScalarFunctionArgs {
            args: own.into_iter().map(ColumnarValue::Array).collect(),
            arg_fields: fields,
            number_rows: rows.len(),
            return_field: returned,
            config_options: Arc::clone(&config),
        };
        let values = udf.invoke_with_args(call)?.into_array(rows.len())?;
        match result {
            Type::ZonedEach(_) => {
                let zones: ArrayRef = Arc::new(StringArray::from(vec![zone; rows.len()]));
                with_zones(&values, &zones, false, result)
            }
            _ => super::fit(values, &of),
        }
    })?;
    joined(&parts, array.len(), &of)
}

/// Values moved by an interval, each in its zone.
pub fn moved(
    op: &super::Op,
    (array, precision): (&ArrayRef, u8),
    span: &ArrayRef,
    array_first: bool,
    result: &Type,
) -> Result<ArrayRef> {
    let super::Op::Arithmetic(kind, left, right) = op else {
        return Err(Error::internal("an interval is added or subtracted"));
    };
    let Type::ZonedEach(moved) = result else { return Err(Error::internal("expected values with zones")) };
    let parts = by_zone(array, |instants, zone, rows| {
        let span = take(span, rows, None)?;
        let own = Type::TimestampTz(precision, zone.into());
        let shown = Type::TimestampTz(*moved, zone.into());
        let values = if array_first {
            super::arithmetic::evaluate(*kind, (instants, &own), (&span, right), &shown)?
        } else {
            super::arithmetic::evaluate(*kind, (&span, left), (instants, &own), &shown)?
        };
        let zones: ArrayRef = Arc::new(StringArray::from(vec![zone; rows.len()]));
        with_zones(&values, &zones, false, result)
    })?;
    joined(&parts, array.len(), &result.to_arrow())
}

/// The precision of the values with zones, if a column has such.
pub fn precision(op: &super::Op, array: &ArrayRef) -> Option<u8> {
    unit_of(array.data_type())?;
    match op {
        super::Op::Arithmetic(_, Type::TimestampTz(p, _), _) | super::Op::Arithmetic(_, _, Type::TimestampTz(p, _)) => {
            Some(*p)
        }
        _ => None,
    }
}

/// The text of one value, as the command line shows it.
pub fn text_of(array: &dyn Array, row: usize) -> Option<String> {
    let unit = unit_of(array.data_type())?;
    let one = array.slice(row, 1);
    let digits = match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    };
    cast(&one, digits, &Type::VARCHAR).ok()?.as_string::<i32>().iter().next().flatten().map(str::to_owned)
}
