//! One JSON object a line, as the Hive and OpenX SerDes read it.
//!
//! Invariant: a NULL is left out; timestamps are written as SQL spells them unless the table says ISO-8601; bytes are
//! base64.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
    json::{LineDelimitedWriter, WriterBuilder, writer::LineDelimited},
    record_batch::RecordBatch,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use headwater_engine::error::Result;

use super::LineEncoder;
use crate::lake::write::format::JsonOptions;

#[derive(Debug)]
pub(super) struct JsonRows {
    options: JsonOptions,
}

impl JsonRows {
    pub(super) fn new(options: JsonOptions) -> Self {
        Self { options }
    }
}

impl LineEncoder for JsonRows {
    fn head(&mut self, _schema: &SchemaRef, _out: &mut Vec<u8>) {}

    fn lines(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let rows = with_base64(rows)?;
        let format = timestamp_format(&rows.schema(), &self.options);
        let builder = WriterBuilder::new()
            .with_explicit_nulls(self.options.explicit_nulls)
            .with_timestamp_format(format.clone())
            .with_timestamp_tz_format(format);
        let mut writer: LineDelimitedWriter<&mut Vec<u8>> = builder.build::<_, LineDelimited>(out);
        writer.write(&rows)?;
        writer.finish()?;
        Ok(())
    }
}

/// Milliseconds are shown as three digits, always; finer ones as far as they go.
fn timestamp_format(schema: &Schema, options: &JsonOptions) -> String {
    let is_fine = |field: &Arc<Field>| {
        matches!(field.data_type(), DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, _))
    };
    let fraction = if schema.fields().iter().any(is_fine) { "%.f" } else { "%.3f" };
    match options.iso_timestamps {
        true => format!("%Y-%m-%dT%H:%M:%S{fraction}Z"),
        false => format!("%Y-%m-%d %H:%M:%S{fraction}"),
    }
}

fn with_base64(rows: &RecordBatch) -> Result<RecordBatch> {
    let is_binary = |field: &Arc<Field>| matches!(field.data_type(), DataType::Binary);
    if !rows.schema().fields().iter().any(is_binary) {
        return Ok(rows.clone());
    }
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
        if is_binary(field) {
            let bytes = column.as_binary::<i32>();
            let text: StringArray = bytes.iter().map(|value| value.map(|value| STANDARD.encode(value))).collect();
            fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
            columns.push(Arc::new(text));
        } else {
            fields.push(field.clone());
            columns.push(column.clone());
        }
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
