//! The columns of a result as a Parquet file can say what they are.
//!
//! Invariant: whoever reads the file sees the type or the text that a user of the query sees, never a bare number.

use std::{io, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray},
    compute::cast,
    datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit},
};

use super::value::write_text;

/// The schema of the file.
pub(super) fn schema(rows: &Schema) -> SchemaRef {
    let field = |field: &Arc<Field>| Field::new(field.name(), stored(field.data_type()), field.is_nullable());
    Arc::new(Schema::new(rows.fields().iter().map(field).collect::<Vec<_>>()))
}

/// The rows in that schema.
pub(super) fn rows(batch: &RecordBatch, schema: &SchemaRef) -> io::Result<RecordBatch> {
    let column = |(column, field): (&ArrayRef, &Arc<Field>)| match column.data_type() == field.data_type() {
        true => Ok(Arc::clone(column)),
        false if is_text(column.data_type()) => Ok(texts(column)),
        false => cast(column, field.data_type()).map_err(io::Error::other),
    };
    let columns = batch.columns().iter().zip(schema.fields()).map(column).collect::<io::Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(io::Error::other)
}

/// Parquet counts times in milliseconds at the coarsest, and has no logical type that readers share for intervals,
/// UUIDs and times with a zone.
fn stored(of: &DataType) -> DataType {
    let nested = |field: &Arc<Field>| Arc::new(field.as_ref().clone().with_data_type(stored(field.data_type())));
    match of {
        DataType::Timestamp(TimeUnit::Second, zone) => DataType::Timestamp(TimeUnit::Millisecond, zone.clone()),
        DataType::Time32(TimeUnit::Second) => DataType::Time32(TimeUnit::Millisecond),
        DataType::List(item) => DataType::List(nested(item)),
        DataType::Map(entries, sorted) => DataType::Map(nested(entries), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(nested).collect::<Fields>()),
        other if is_text(other) => DataType::Utf8,
        other => other.clone(),
    }
}

fn is_text(of: &DataType) -> bool {
    matches!(of, DataType::Duration(_) | DataType::Interval(_) | DataType::FixedSizeBinary(_))
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
