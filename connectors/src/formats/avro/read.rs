//! Avro values to columns: fields are found by name, the exact one before one that differs in case.
//!
//! Invariant: a value that is none of its column's type rejects its row; nothing becomes NULL that is not null.

use std::{collections::HashMap, sync::Arc};

use apache_avro::{
    Schema,
    schema::{Name, RecordSchema, ResolvedSchema},
    types::Value,
};
use arrow::{
    array::{
        Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryBuilder, Float32Array,
        Float64Array, Int64Array, LargeStringArray, ListArray, MapArray, RecordBatch, RecordBatchOptions, StringArray,
        StructArray, Time64MicrosecondArray, TimestampMicrosecondArray, TimestampNanosecondArray, UInt32Array,
    },
    buffer::{NullBuffer, OffsetBuffer},
    compute::{CastOptions, cast_with_options, concat_batches, take_record_batch},
    datatypes::{DataType, Field, Fields, SchemaRef, TimeUnit},
};
use headwater_engine::error::{Error, Result};

use super::broken;

/// Refuses columns that no Avro value can fill.
pub(super) fn check(columns: &SchemaRef) -> Result<()> {
    super::schema::of_rows(columns, true).map(drop)
}

/// Rows of several schemas, gathered in the order of their payloads.
pub(super) struct Rows {
    columns: SchemaRef,
    parts: Vec<RecordBatch>,
    payloads: Vec<u32>,
}

/// A value with the schema it was written with; `None` is null.
type Cell<'a> = Option<(&'a Value, &'a Schema)>;

type Names<'a> = HashMap<Name, &'a Schema>;

/// Rows that cannot be read, with the reason.
type Faults = Vec<(u32, String)>;

impl Rows {
    pub(super) fn new(columns: SchemaRef) -> Self {
        Self { columns, parts: Vec::new(), payloads: Vec::new() }
    }

    /// Adds values of one schema, each with its payload; returns payloads that are no rows, and why.
    pub(super) fn add(&mut self, schema: &Schema, values: &[Value], payloads: &[u32]) -> Result<Faults> {
        let resolved = ResolvedSchema::try_from(schema).map_err(|error| broken(&error))?;
        let names: Names<'_> = resolved.get_names().iter().map(|(name, schema)| (name.clone(), *schema)).collect();
        let rows: Vec<u32> = (0..values.len() as u32).collect();
        let mut reading = Reading { names: &names, faults: Vec::new() };
        let cells: Vec<Cell<'_>> = values.iter().map(|value| reading.peeled(value, schema)).collect();
        let columns = reading.fields(&cells, &rows, self.columns.fields())?;
        let mut faults = std::mem::take(&mut reading.faults);
        faults.extend((0..cells.len()).filter(|row| cells[*row].is_none()).map(|row| (row as u32, "null".to_owned())));
        faults.sort_by_key(|(row, _)| *row);
        faults.dedup_by_key(|(row, _)| *row);
        let options = RecordBatchOptions::new().with_row_count(Some(values.len()));
        let mut batch = RecordBatch::try_new_with_options(Arc::clone(&self.columns), columns, &options)?;
        let mut kept = rows;
        if !faults.is_empty() {
            kept.retain(|row| faults.binary_search_by_key(row, |(row, _)| *row).is_err());
            batch = take_record_batch(&batch, &UInt32Array::from(kept.clone()))?;
        }
        self.payloads.extend(kept.iter().map(|row| payloads[*row as usize]));
        self.parts.push(batch);
        Ok(faults.into_iter().map(|(row, reason)| (payloads[row as usize], reason)).collect())
    }

    /// All rows in the order of their payloads, and these.
    pub(super) fn finish(self) -> Result<(RecordBatch, Vec<u32>)> {
        let Self { columns, parts, payloads } = self;
        let rows = match parts.as_slice() {
            [only] => only.clone(),
            parts => concat_batches(&columns, parts)?,
        };
        if payloads.is_sorted() {
            return Ok((rows, payloads));
        }
        let mut order: Vec<u32> = (0..payloads.len() as u32).collect();
        order.sort_by_key(|row| payloads[*row as usize]);
        let sorted = order.iter().map(|row| payloads[*row as usize]).collect();
        Ok((take_record_batch(&rows, &UInt32Array::from(order))?, sorted))
    }
}

struct Reading<'a> {
    names: &'a Names<'a>,
    faults: Faults,
}

impl<'a> Reading<'a> {
    /// A value without the unions around it, and its schema without the names.
    fn peeled<'v>(&self, value: &'v Value, schema: &'v Schema) -> Cell<'v>
    where
        'a: 'v,
    {
        match (value, self.named(schema)) {
            (Value::Union(at, inner), Schema::Union(union)) => {
                self.peeled(inner, union.variants().get(*at as usize).unwrap_or(&Schema::Null))
            }
            (Value::Null, _) => None,
            (value, schema) => Some((value, schema)),
        }
    }

    fn named<'v>(&self, schema: &'v Schema) -> &'v Schema
    where
        'a: 'v,
    {
        match schema {
            Schema::Ref { name } => self.names.get(name).copied().unwrap_or(&Schema::Null),
            other => other,
        }
    }

    /// The columns of records.
    fn fields(&mut self, cells: &[Cell<'_>], rows: &[u32], fields: &Fields) -> Result<Vec<ArrayRef>> {
        let mut places: Option<(*const RecordSchema, Vec<Option<usize>>)> = None;
        let mut of_field: Vec<Vec<Cell<'_>>> = vec![Vec::with_capacity(cells.len()); fields.len()];
        for (cell, row) in cells.iter().zip(rows) {
            let Some((value, schema)) = cell else {
                of_field.iter_mut().for_each(|field| field.push(None));
                continue;
            };
            let (Value::Record(members), Schema::Record(record)) = (value, schema) else {
                self.fault(*row, format!("{} is no record", spelled(value)));
                of_field.iter_mut().for_each(|field| field.push(None));
                continue;
            };
            if places.as_ref().is_none_or(|(of, _)| !std::ptr::eq(*of, record)) {
                places = Some((record, fields.iter().map(|field| position(record, field)).collect()));
            }
            let found = places.as_ref().map(|(_, places)| places.as_slice()).unwrap_or_default();
            for (column, place) in of_field.iter_mut().zip(found) {
                let member = place.and_then(|at| Some((&members.get(at)?.1, &record.fields[at].schema)));
                column.push(member.and_then(|(value, schema)| self.peeled(value, schema)));
            }
        }
        let columns = fields.iter().zip(&of_field).map(|(field, cells)| {
            let before = self.faults.len();
            let array = self.column(cells, rows, field.data_type())?;
            for (_, reason) in &mut self.faults[before..] {
                *reason = format!("column \"{}\": {reason}", field.name());
            }
            Ok(array)
        });
        columns.collect()
    }

    fn fault(&mut self, row: u32, reason: String) {
        self.faults.push((row, reason));
    }

    /// The values of cells by `of`; a cell it has no value for is a fault of its row.
    fn each<T>(
        &mut self,
        cells: &[Cell<'_>],
        rows: &[u32],
        data_type: &DataType,
        of: impl Fn(&Value, &Schema) -> Option<T>,
    ) -> Vec<Option<T>> {
        let mut values = Vec::with_capacity(cells.len());
        for (cell, row) in cells.iter().zip(rows) {
            let found = cell.and_then(|(value, schema)| of(value, schema));
            if let (Some((value, _)), None) = (cell, &found) {
                let wanted = crate::lake::hive_type::text(data_type).unwrap_or_else(|_| data_type.to_string());
                self.fault(*row, format!("{} is no {wanted}", spelled(value)));
            }
            values.push(found);
        }
        values
    }

    fn column(&mut self, cells: &[Cell<'_>], rows: &[u32], data_type: &DataType) -> Result<ArrayRef> {
        Ok(match data_type {
            DataType::Boolean => {
                let of = |value: &Value, _: &Schema| match value {
                    Value::Boolean(value) => Some(*value),
                    _ => None,
                };
                Arc::new(BooleanArray::from(self.each(cells, rows, data_type, of)))
            }
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
                let (low, high) = range(data_type);
                let of = |value: &Value, _: &Schema| whole(value).filter(|value| (low..=high).contains(value));
                cast(&Int64Array::from(self.each(cells, rows, data_type, of)), data_type)?
            }
            DataType::Float32 => {
                let of = |value: &Value, _: &Schema| real(value).map(|value| value as f32);
                Arc::new(Float32Array::from(self.each(cells, rows, data_type, of)))
            }
            DataType::Float64 => {
                Arc::new(Float64Array::from(self.each(cells, rows, data_type, |value, _| real(value))))
            }
            DataType::Utf8 => Arc::new(StringArray::from(self.each(cells, rows, data_type, |value, _| text(value)))),
            DataType::LargeUtf8 => {
                let of = |value: &Value, _: &Schema| {
                    let json: serde_json::Value = serde_json::from_str(&text(value)?).ok()?;
                    Some(json.to_string())
                };
                Arc::new(LargeStringArray::from(self.each(cells, rows, data_type, of)))
            }
            DataType::Binary => {
                let of = |value: &Value, _: &Schema| bytes(value);
                Arc::new(self.each(cells, rows, data_type, of).into_iter().collect::<BinaryArray>())
            }
            DataType::Decimal128(precision, scale) => {
                let of = |value: &Value, schema: &Schema| decimal(value, schema, *precision, *scale);
                let numbers = Decimal128Array::from(self.each(cells, rows, data_type, of));
                Arc::new(numbers.with_precision_and_scale(*precision, *scale)?)
            }
            DataType::FixedSizeBinary(16) => {
                let mut ids = FixedSizeBinaryBuilder::with_capacity(cells.len(), 16);
                for id in self.each(cells, rows, data_type, |value, _| uuid(value)) {
                    match id {
                        Some(id) => ids.append_value(id)?,
                        None => ids.append_null(),
                    }
                }
                Arc::new(ids.finish())
            }
            DataType::Date32 | DataType::Time32(_) | DataType::Time64(_) | DataType::Timestamp(_, _) => {
                self.time(cells, rows, data_type)?
            }
            DataType::List(_) | DataType::Map(_, _) | DataType::Struct(_) => self.nested(cells, rows, data_type)?,
            other => return Err(Error::internal(format!("Avro has no type for {other}"))),
        })
    }

    fn time(&mut self, cells: &[Cell<'_>], rows: &[u32], data_type: &DataType) -> Result<ArrayRef> {
        if data_type == &DataType::Date32 {
            let of = |value: &Value, _: &Schema| match value {
                Value::Date(days) | Value::Int(days) => Some(*days),
                _ => None,
            };
            return Ok(Arc::new(Date32Array::from(self.each(cells, rows, data_type, of))));
        }
        if let DataType::Timestamp(unit, _) = data_type {
            if *unit == TimeUnit::Nanosecond {
                let of = |value: &Value, _: &Schema| timestamp(value, 1_000_000_000);
                return cast(&TimestampNanosecondArray::from(self.each(cells, rows, data_type, of)), data_type);
            }
            let of = |value: &Value, _: &Schema| timestamp(value, 1_000_000);
            return cast(&TimestampMicrosecondArray::from(self.each(cells, rows, data_type, of)), data_type);
        }
        let of = |value: &Value, _: &Schema| match value {
            Value::TimeMillis(millis) | Value::Int(millis) => Some(i64::from(*millis) * 1000),
            Value::TimeMicros(micros) | Value::Long(micros) => Some(*micros),
            _ => None,
        };
        cast(&Time64MicrosecondArray::from(self.each(cells, rows, data_type, of)), data_type)
    }

    fn nested(&mut self, cells: &[Cell<'_>], rows: &[u32], data_type: &DataType) -> Result<ArrayRef> {
        let there: NullBuffer = cells.iter().map(Option::is_some).collect();
        match data_type {
            DataType::Struct(fields) => {
                let columns = self.fields(cells, rows, fields)?;
                Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, Some(there), cells.len())?))
            }
            DataType::List(item) => {
                let (mut items, mut of_rows, mut lengths) = (Vec::new(), Vec::new(), Vec::with_capacity(cells.len()));
                for (cell, row) in cells.iter().zip(rows) {
                    let before = items.len();
                    match cell {
                        Some((Value::Array(values), Schema::Array(array))) => {
                            items.extend(values.iter().map(|value| self.peeled(value, &array.items)));
                        }
                        Some((other, _)) => self.fault(*row, format!("{} is no array", spelled(other))),
                        None => {}
                    }
                    lengths.push(items.len() - before);
                    of_rows.resize(items.len(), *row);
                }
                let values = self.column(&items, &of_rows, item.data_type())?;
                let offsets = OffsetBuffer::from_lengths(lengths);
                Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, Some(there))?))
            }
            DataType::Map(entries, sorted) => self.map(cells, rows, entries, *sorted),
            other => Err(Error::internal(format!("{other} is not nested"))),
        }
    }

    fn map(&mut self, cells: &[Cell<'_>], rows: &[u32], entries: &Arc<Field>, sorted: bool) -> Result<ArrayRef> {
        let DataType::Struct(pair) = entries.data_type() else {
            return Err(Error::internal("map entries are a pair"));
        };
        let there: NullBuffer = cells.iter().map(Option::is_some).collect();
        let (mut keys, mut values, mut of_rows) = (Vec::new(), Vec::new(), Vec::new());
        let mut lengths = Vec::with_capacity(cells.len());
        for (cell, row) in cells.iter().zip(rows) {
            let before = keys.len();
            match cell {
                Some((Value::Map(found), Schema::Map(map))) => {
                    let mut found: Vec<(&String, &Value)> = found.iter().collect();
                    found.sort_unstable_by_key(|(key, _)| *key);
                    for (key, value) in found {
                        keys.push(key.as_str());
                        values.push(self.peeled(value, &map.types));
                    }
                }
                Some((other, _)) => self.fault(*row, format!("{} is no map", spelled(other))),
                None => {}
            }
            lengths.push(keys.len() - before);
            of_rows.resize(keys.len(), *row);
        }
        let values = self.column(&values, &of_rows, pair[1].data_type())?;
        let keys = Arc::new(StringArray::from(keys)) as ArrayRef;
        let pairs = StructArray::try_new(pair.clone(), vec![keys, values], None)?;
        let offsets = OffsetBuffer::from_lengths(lengths);
        Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, Some(there), sorted)?))
    }
}

fn cast(array: &dyn Array, data_type: &DataType) -> Result<ArrayRef> {
    Ok(cast_with_options(array, data_type, &CastOptions { safe: false, ..CastOptions::default() })?)
}

/// Place of a column among a record's fields.
fn position(record: &RecordSchema, field: &Field) -> Option<usize> {
    let exact = record.fields.iter().position(|found| found.name == *field.name());
    exact.or_else(|| record.fields.iter().position(|found| found.name.eq_ignore_ascii_case(field.name())))
}

fn range(data_type: &DataType) -> (i64, i64) {
    match data_type {
        DataType::Int8 => (i8::MIN.into(), i8::MAX.into()),
        DataType::Int16 => (i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => (i32::MIN.into(), i32::MAX.into()),
        _ => (i64::MIN, i64::MAX),
    }
}

fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Int(value) | Value::Date(value) | Value::TimeMillis(value) => Some(i64::from(*value)),
        Value::Long(value)
        | Value::TimeMicros(value)
        | Value::TimestampMillis(value)
        | Value::TimestampMicros(value)
        | Value::TimestampNanos(value)
        | Value::LocalTimestampMillis(value)
        | Value::LocalTimestampMicros(value)
        | Value::LocalTimestampNanos(value) => Some(*value),
        _ => None,
    }
}

fn real(value: &Value) -> Option<f64> {
    match value {
        Value::Float(value) => Some(f64::from(*value)),
        Value::Double(value) => Some(*value),
        Value::Int(value) => Some(f64::from(*value)),
        Value::Long(value) => Some(*value as f64),
        _ => None,
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) | Value::Enum(_, text) => Some(text.clone()),
        Value::Uuid(id) => Some(id.to_string()),
        _ => None,
    }
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Bytes(bytes) | Value::Fixed(_, bytes) => Some(bytes.clone()),
        _ => None,
    }
}

fn uuid(value: &Value) -> Option<[u8; 16]> {
    match value {
        Value::Uuid(id) => Some(*id.as_bytes()),
        Value::String(text) => apache_avro::Uuid::parse_str(text).ok().map(|id| *id.as_bytes()),
        _ => None,
    }
}

/// A decimal at the column's scale, if no digit is lost and it fits.
fn decimal(value: &Value, schema: &Schema, precision: u8, scale: i8) -> Option<i128> {
    let (digits, from) = match (value, schema) {
        (Value::Decimal(decimal), Schema::Decimal(of)) => {
            (whole_of_bytes(&Vec::<u8>::try_from(decimal).ok()?)?, i32::try_from(of.scale).ok()?)
        }
        (value, _) => (i128::from(whole(value)?), 0),
    };
    let shift = i32::from(scale) - from;
    let factor = 10_i128.checked_pow(shift.unsigned_abs())?;
    let number = match shift >= 0 {
        true => digits.checked_mul(factor)?,
        false if digits % factor == 0 => digits / factor,
        false => return None,
    };
    (number.unsigned_abs() < 10_u128.checked_pow(u32::from(precision))?).then_some(number)
}

/// A number from its bytes, highest first, the first bit being the sign.
fn whole_of_bytes(bytes: &[u8]) -> Option<i128> {
    let filler = if bytes.first().is_some_and(|first| first & 0x80 != 0) { 0xff } else { 0 };
    let spare = bytes.len().saturating_sub(16);
    if bytes[..spare].iter().any(|byte| *byte != filler) {
        return None;
    }
    let mut number = [filler; 16];
    let kept = &bytes[spare..];
    number[16 - kept.len()..].copy_from_slice(kept);
    Some(i128::from_be_bytes(number))
}

/// A time since 1970 in parts of a second; a bare number counts milliseconds.
fn timestamp(value: &Value, per_second: i64) -> Option<i64> {
    let (number, from) = match value {
        Value::TimestampMillis(at) | Value::LocalTimestampMillis(at) | Value::Long(at) => (*at, 1_000),
        Value::TimestampMicros(at) | Value::LocalTimestampMicros(at) => (*at, 1_000_000),
        Value::TimestampNanos(at) | Value::LocalTimestampNanos(at) => (*at, 1_000_000_000),
        _ => return None,
    };
    match per_second >= from {
        true => number.checked_mul(per_second / from),
        false => Some(number.div_euclid(from / per_second)),
    }
}

/// A value as messages show it.
fn spelled(value: &Value) -> String {
    match value {
        Value::String(text) | Value::Enum(_, text) => format!("\"{}\"", text.chars().take(40).collect::<String>()),
        Value::Boolean(value) => value.to_string(),
        Value::Float(_) | Value::Double(_) => real(value).unwrap_or_default().to_string(),
        Value::Bytes(_) | Value::Fixed(_, _) => "a value of bytes".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        Value::Map(_) => "a map".to_owned(),
        Value::Record(_) => "a record".to_owned(),
        other => whole(other).map_or_else(|| "a value of another type".to_owned(), |value| value.to_string()),
    }
}
