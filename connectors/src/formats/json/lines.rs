//! Rows as JSON objects, one a line: for files of the lake and records of streams alike.
//!
//! Invariant: a NULL is left out unless asked for; timestamps are written as SQL spells them unless told ISO-8601; bytes
//! are base64; a line end stands after each object and nowhere else.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, StringArray, StructArray},
    datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit},
    json::{LineDelimitedWriter, WriterBuilder, writer::LineDelimited},
    record_batch::RecordBatch,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use headwater_engine::{
    error::Result,
    format::{Decoder, Encoder, Format, Payloads},
};

use super::{JsonDecoder, JsonOptions, written_time::Spelling};

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JsonLines {
    /// `2026-01-02T03:04:05.678Z` instead of `2026-01-02 03:04:05.678`.
    pub iso_timestamps: bool,
    /// Write `null` instead of leaving a field out.
    pub explicit_nulls: bool,
}

impl JsonLines {
    /// Appends a line for each row.
    pub fn write(&self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let rows = with_base64(rows)?;
        let (spelling, format) = self.timestamps(&rows.schema());
        let builder = WriterBuilder::new()
            .with_encoder_factory(Arc::new(spelling))
            .with_explicit_nulls(self.explicit_nulls)
            .with_timestamp_format(format.clone())
            .with_timestamp_tz_format(format);
        let mut writer: LineDelimitedWriter<&mut Vec<u8>> = builder.build::<_, LineDelimited>(out);
        writer.write(&rows)?;
        writer.finish()?;
        Ok(())
    }

    /// Milliseconds are shown as three digits, always; finer ones as far as they go.
    /// The format is for times in zones.
    fn timestamps(&self, schema: &Schema) -> (Spelling, String) {
        let spelling = Spelling { iso: self.iso_timestamps, fine: schema.fields().iter().any(is_fine) };
        let fraction = if spelling.fine { "%.f" } else { "%.3f" };
        let format = match spelling.iso {
            true => format!("%Y-%m-%dT%H:%M:%S{fraction}Z"),
            false => format!("%Y-%m-%d %H:%M:%S{fraction}"),
        };
        (spelling, format)
    }
}

/// Whether a column, or a field of a row in it, has more digits than milliseconds.
fn is_fine(field: &Arc<Field>) -> bool {
    match field.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, _) => true,
        DataType::Struct(fields) => fields.iter().any(is_fine),
        _ => false,
    }
}

fn has_binary(field: &Arc<Field>) -> bool {
    match field.data_type() {
        DataType::Binary => true,
        DataType::Struct(fields) => fields.iter().any(has_binary),
        _ => false,
    }
}

fn with_base64(rows: &RecordBatch) -> Result<RecordBatch> {
    if !rows.schema().fields().iter().any(has_binary) {
        return Ok(rows.clone());
    }
    let (fields, columns) = in_base64(rows.schema().fields(), rows.columns())?;
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// Columns with bytes, and those of rows in them, as base64.
fn in_base64(fields: &Fields, columns: &[ArrayRef]) -> Result<(Fields, Vec<ArrayRef>)> {
    let (mut new_fields, mut new_columns) = (Vec::new(), Vec::<ArrayRef>::new());
    for (field, column) in fields.iter().zip(columns) {
        match field.data_type() {
            DataType::Binary => {
                let bytes = column.as_binary::<i32>();
                let text: StringArray = bytes.iter().map(|value| value.map(|value| STANDARD.encode(value))).collect();
                new_fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
                new_columns.push(Arc::new(text));
            }
            DataType::Struct(within) if has_binary(field) => {
                let row = column.as_struct();
                let (fields, columns) = in_base64(within, row.columns())?;
                new_fields.push(Arc::new(Field::new(field.name(), DataType::Struct(fields.clone()), true)));
                new_columns.push(Arc::new(StructArray::try_new(fields, columns, row.nulls().cloned())?));
            }
            _ => {
                new_fields.push(field.clone());
                new_columns.push(column.clone());
            }
        }
    }
    Ok((new_fields.into(), new_columns))
}

/// `'format' = 'json'` of a table.
#[derive(Debug, Clone)]
pub struct Json {
    /// How payloads are read.
    pub reading: JsonOptions,
    /// How rows are written.
    pub writing: JsonLines,
}

impl Format for Json {
    fn name(&self) -> &'static str {
        "json"
    }

    fn decoder(&self, schema: SchemaRef) -> Result<Box<dyn Decoder>> {
        Ok(Box::new(JsonDecoder::try_new(schema, &self.reading)?))
    }

    fn encoder(&self, _schema: SchemaRef) -> Result<Box<dyn Encoder>> {
        Ok(Box::new(JsonEncoder { writing: self.writing }))
    }
}

/// Rows to payloads of one JSON object each.
#[derive(Debug)]
struct JsonEncoder {
    writing: JsonLines,
}

impl Encoder for JsonEncoder {
    fn encode(&mut self, rows: &RecordBatch) -> Result<Payloads> {
        let mut lines = Vec::new();
        self.writing.write(rows, &mut lines)?;
        let (mut buffer, mut ends) = (Vec::with_capacity(lines.len()), Vec::with_capacity(rows.num_rows()));
        for line in lines.split(|byte| *byte == b'\n').take(rows.num_rows()) {
            buffer.extend_from_slice(line);
            ends.push(buffer.len());
        }
        Ok(Payloads { buffer: buffer.into(), ends })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_a_payload_with_its_line_ends_escaped() {
        let schema =
            Arc::new(Schema::new(vec![Field::new("a", DataType::Utf8, true), Field::new("b", DataType::Binary, true)]));
        let text = StringArray::from(vec![Some("x\ny"), None]);
        let bytes = arrow::array::BinaryArray::from(vec![Some(b"hi".as_slice()), None]);
        let rows = RecordBatch::try_new(schema, vec![Arc::new(text), Arc::new(bytes)]).unwrap();
        let payloads = JsonEncoder { writing: JsonLines::default() }.encode(&rows).unwrap();
        assert_eq!(payloads.payload(0), br#"{"a":"x\ny","b":"aGk="}"#);
        assert_eq!(payloads.payload(1), b"{}");
    }
}
