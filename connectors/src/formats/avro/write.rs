//! Rows to Avro values of the schema their columns have.
//!
//! Invariant: the values of a row are those of `schema::of_rows`, member for member.

use std::collections::HashMap;

use apache_avro::{Decimal, Schema, types::Value};
use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::cast,
    datatypes::{
        DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type, Time32MillisecondType,
        Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    },
};
use headwater_engine::error::{Error, Result};

/// The value of each row.
pub(super) fn values(rows: &RecordBatch, schema: &Schema) -> Result<Vec<Value>> {
    records(rows.columns(), rows.num_rows(), schema)
}

fn records(of: &[ArrayRef], rows: usize, schema: &Schema) -> Result<Vec<Value>> {
    let Schema::Record(record) = schema else { return Err(Error::internal("rows are an Avro record")) };
    let names: Vec<String> = record.fields.iter().map(|field| field.name.clone()).collect();
    let mut columns = Vec::with_capacity(names.len());
    for (column, field) in of.iter().zip(&record.fields) {
        if column.null_count() > 0 && !matches!(field.schema, Schema::Union(_)) {
            let message = format!("column \"{}\" is declared NOT NULL, and a row has NULL in it", field.name);
            return Err(Error::data("CONSTRAINT_VIOLATION", message).with_hint("declare it without NOT NULL"));
        }
        columns.push(column_values(column, &field.schema)?.into_iter());
    }
    Ok((0..rows)
        .map(|_| {
            let values = columns.iter_mut().map(|column| column.next().unwrap_or(Value::Null));
            Value::Record(names.iter().cloned().zip(values).collect())
        })
        .collect())
}

/// The values of a column, in unions where the schema has them.
fn column_values(column: &ArrayRef, schema: &Schema) -> Result<Vec<Value>> {
    let Schema::Union(union) = schema else { return present(column, schema) };
    let inner = union.variants().get(1).ok_or_else(|| Error::internal("a union of null and a type"))?;
    let values = present(column, inner)?.into_iter().enumerate();
    Ok(values
        .map(|(row, value)| match column.is_valid(row) {
            true => Value::Union(1, Box::new(value)),
            false => Value::Union(0, Box::new(Value::Null)),
        })
        .collect())
}

/// The values of a column as if none were NULL.
fn present(column: &ArrayRef, schema: &Schema) -> Result<Vec<Value>> {
    let rows = 0..column.len();
    let to = |data_type: DataType| cast(column, &data_type);
    Ok(match schema {
        Schema::Boolean => rows.map(|row| Value::Boolean(column.as_boolean().value(row))).collect(),
        Schema::Int => {
            to(DataType::Int32)?.as_primitive::<Int32Type>().values().iter().copied().map(Value::Int).collect()
        }
        Schema::Long => {
            to(DataType::Int64)?.as_primitive::<Int64Type>().values().iter().copied().map(Value::Long).collect()
        }
        Schema::Float => column.as_primitive::<Float32Type>().values().iter().copied().map(Value::Float).collect(),
        Schema::Double => column.as_primitive::<Float64Type>().values().iter().copied().map(Value::Double).collect(),
        Schema::String => {
            let text = to(DataType::Utf8)?;
            rows.map(|row| Value::String(text.as_string::<i32>().value(row).to_owned())).collect()
        }
        Schema::Bytes => rows.map(|row| Value::Bytes(column.as_binary::<i32>().value(row).to_vec())).collect(),
        Schema::Uuid(_) => {
            let bytes = column.as_fixed_size_binary();
            rows.map(|row| apache_avro::Uuid::from_slice(bytes.value(row)).map_or(Value::Null, Value::Uuid)).collect()
        }
        Schema::Decimal(_) => {
            let numbers = column.as_primitive::<Decimal128Type>();
            rows.map(|row| Value::Decimal(Decimal::from(shortest(numbers.value(row))))).collect()
        }
        Schema::Date => column.as_primitive::<Date32Type>().values().iter().copied().map(Value::Date).collect(),
        Schema::TimeMillis => {
            let times = to(DataType::Time32(TimeUnit::Millisecond))?;
            times.as_primitive::<Time32MillisecondType>().values().iter().copied().map(Value::TimeMillis).collect()
        }
        Schema::TimeMicros => {
            let times = to(DataType::Time64(TimeUnit::Microsecond))?;
            times.as_primitive::<Time64MicrosecondType>().values().iter().copied().map(Value::TimeMicros).collect()
        }
        Schema::Array(_) | Schema::Map(_) | Schema::Record(_) => nested(column, schema)?,
        other => timestamps(column, other)?,
    })
}

fn timestamps(column: &ArrayRef, schema: &Schema) -> Result<Vec<Value>> {
    let DataType::Timestamp(_, zone) = column.data_type() else {
        return Err(Error::internal(format!("a column of type {} has no Avro schema", column.data_type())));
    };
    let in_unit = |unit: TimeUnit| cast(column, &DataType::Timestamp(unit, zone.clone()));
    let wrap: fn(i64) -> Value = match schema {
        Schema::TimestampMillis => Value::TimestampMillis,
        Schema::TimestampMicros => Value::TimestampMicros,
        Schema::LocalTimestampMillis => Value::LocalTimestampMillis,
        Schema::LocalTimestampMicros => Value::LocalTimestampMicros,
        other => return Err(Error::internal(format!("a timestamp is no {other:?}"))),
    };
    Ok(match schema {
        Schema::TimestampMillis | Schema::LocalTimestampMillis => {
            let times = in_unit(TimeUnit::Millisecond)?;
            times.as_primitive::<TimestampMillisecondType>().values().iter().copied().map(wrap).collect()
        }
        _ => {
            let times = in_unit(TimeUnit::Microsecond)?;
            times.as_primitive::<TimestampMicrosecondType>().values().iter().copied().map(wrap).collect()
        }
    })
}

fn nested(column: &ArrayRef, schema: &Schema) -> Result<Vec<Value>> {
    Ok(match schema {
        Schema::Array(array) => {
            let lists = column.as_list::<i32>();
            let of_row = |row: usize| Ok(Value::Array(column_values(&lists.value(row), &array.items)?));
            (0..column.len()).map(of_row).collect::<Result<_>>()?
        }
        Schema::Map(map) => {
            let maps = column.as_map();
            let of_row = |row: usize| {
                let entries = maps.value(row);
                let keys = entries.column(0).as_string::<i32>();
                let values = column_values(entries.column(1), &map.types)?;
                let pairs = keys.iter().flatten().map(str::to_owned).zip(values);
                Ok(Value::Map(pairs.collect::<HashMap<_, _>>()))
            };
            (0..column.len()).map(of_row).collect::<Result<_>>()?
        }
        other => records(column.as_struct().columns(), column.len(), other)?,
    })
}

/// A number in as few bytes as hold it, highest first.
fn shortest(number: i128) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let filler = if number < 0 { 0xff } else { 0 };
    let skipped =
        bytes.windows(2).take_while(|pair| pair[0] == filler && (pair[1] & 0x80 == 0) == (filler == 0)).count();
    bytes[skipped..].to_vec()
}
