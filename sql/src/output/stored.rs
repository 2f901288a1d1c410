//! The columns of a result as a Parquet file can say what they are.
//!
//! Invariant: whoever reads the file sees the type or the text that a user of the query sees, never a bare number.

use std::{io, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, ListArray, MapArray, RecordBatch, RecordBatchOptions, StringArray, StructArray},
    compute::cast,
    datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit},
    error::ArrowError,
};

use super::value::write_text;
use crate::kernels::zoned;

/// The schema of the file.
pub(super) fn schema(rows: &Schema) -> SchemaRef {
    let field = |field: &Arc<Field>| Field::new(field.name(), stored(field.data_type()), field.is_nullable());
    Arc::new(Schema::new(rows.fields().iter().map(field).collect::<Vec<_>>()))
}

/// The rows in that schema.
pub(super) fn rows(batch: &RecordBatch, schema: &SchemaRef) -> io::Result<RecordBatch> {
    let fields = batch.columns().iter().zip(schema.fields());
    let columns = fields.map(|(column, field)| values(column, field.data_type())).collect::<io::Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(io::Error::other)
}

/// Values as the file holds them, whatever they are nested in.
fn values(array: &ArrayRef, to: &DataType) -> io::Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(Arc::clone(array));
    }
    if is_text(array.data_type()) {
        return Ok(texts(array));
    }
    let made: Result<ArrayRef, ArrowError> = match to {
        DataType::List(item) => {
            let list = array.as_list::<i32>();
            let inner = values(list.values(), item.data_type())?;
            let made = ListArray::try_new(Arc::clone(item), list.offsets().clone(), inner, list.nulls().cloned());
            made.map(|made| Arc::new(made) as ArrayRef)
        }
        DataType::Map(entries, sorted) => {
            let map = array.as_map();
            let own: ArrayRef = Arc::new(map.entries().clone());
            let inner = values(&own, entries.data_type())?.as_struct().clone();
            let offsets = map.offsets().clone();
            let made = MapArray::try_new(Arc::clone(entries), offsets, inner, map.nulls().cloned(), *sorted);
            made.map(|made| Arc::new(made) as ArrayRef)
        }
        DataType::Struct(fields) => {
            let row = array.as_struct();
            let pairs = row.columns().iter().zip(fields);
            let inner = pairs.map(|(column, field)| values(column, field.data_type())).collect::<io::Result<_>>()?;
            let made = StructArray::try_new(fields.clone(), inner, row.nulls().cloned());
            made.map(|made| Arc::new(made) as ArrayRef)
        }
        plain => cast(array, plain),
    };
    made.map_err(io::Error::other)
}

/// Parquet counts times in milliseconds at the coarsest, and has no logical type that readers share for intervals,
/// UUIDs, addresses, times with a zone and timestamps that each have one.
fn stored(of: &DataType) -> DataType {
    let nested =
        |field: &Arc<Field>| Arc::new(Field::new(field.name(), stored(field.data_type()), field.is_nullable()));
    match of {
        other if is_text(other) => DataType::Utf8,
        DataType::Timestamp(TimeUnit::Second, zone) => DataType::Timestamp(TimeUnit::Millisecond, zone.clone()),
        DataType::Time32(TimeUnit::Second) => DataType::Time32(TimeUnit::Millisecond),
        DataType::List(item) => DataType::List(nested(item)),
        DataType::Map(entries, sorted) => DataType::Map(nested(entries), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(nested).collect::<Fields>()),
        other => other.clone(),
    }
}

fn is_text(of: &DataType) -> bool {
    let named = matches!(
        of,
        DataType::Duration(_) | DataType::Interval(_) | DataType::FixedSizeBinary(_) | DataType::LargeBinary
    );
    named || zoned::unit_of(of).is_some()
}

fn texts(column: &ArrayRef) -> ArrayRef {
    let text = |row: usize| {
        (!column.is_null(row)).then(|| {
            let mut text = String::new();
            write_text(column.as_ref(), row, &mut text);
            text
        })
    };
    Arc::new((0..column.len()).map(text).collect::<StringArray>())
}
