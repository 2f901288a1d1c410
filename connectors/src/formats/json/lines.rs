//! Rows as JSON objects, one a line: for files of the lake and records of streams alike.
//!
//! Invariant: a NULL is left out unless asked for; timestamps are written as SQL spells them unless told ISO-8601; bytes
//! are base64 unless told otherwise; a float that is no number is a quoted word; a line end stands after each object and nowhere else.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, BinaryArray, StringArray},
    compute::cast,
    datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type, Schema, SchemaRef, TimeUnit},
    error::ArrowError,
    json::{
        LineDelimitedWriter, WriterBuilder,
        writer::{EncoderFactory, EncoderOptions, LineDelimited, NullableEncoder, make_encoder},
    },
    record_batch::RecordBatch,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use headwater_engine::{
    error::{Error, Result},
    format::{Decoder, Encoder, Format, Payloads},
};

use super::{JsonDecoder, JsonOptions, nested::write_text, written_time};

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JsonLines {
    /// `2026-01-02T03:04:05.678Z` instead of `2026-01-02 03:04:05.678`.
    pub iso_timestamps: bool,
    /// Write `null` instead of leaving a field out.
    pub explicit_nulls: bool,
    /// How bytes are written.
    pub binary: BinaryText,
}

/// Bytes as a JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BinaryText {
    /// In base64.
    #[default]
    Base64,
    /// As they are, which is what Hive's SerDe reads; what is no UTF-8 is refused.
    Plain,
}

impl JsonLines {
    /// Appends a line for each row.
    pub fn write(&self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let (times, format) = self.timestamps(&rows.schema());
        let builder = WriterBuilder::new()
            .with_explicit_nulls(self.explicit_nulls)
            .with_encoder_factory(Arc::new(Spelling { times, binary: self.binary }))
            .with_timestamp_format(format.clone())
            .with_timestamp_tz_format(format);
        let mut writer: LineDelimitedWriter<&mut Vec<u8>> = builder.build::<_, LineDelimited>(out);
        writer.write(rows)?;
        writer.finish()?;
        Ok(())
    }

    /// Milliseconds are shown as three digits, always; finer ones as far as they go.
    /// The format is for times in zones.
    fn timestamps(&self, schema: &Schema) -> (written_time::Spelling, String) {
        let spelling = written_time::Spelling { iso: self.iso_timestamps, fine: schema.fields().iter().any(is_fine) };
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
        DataType::List(within) | DataType::Map(within, _) => is_fine(within),
        _ => false,
    }
}

/// Bytes as base64 or as they are, and what is no JSON number as the text that readers take for it.
#[derive(Debug)]
struct Spelling {
    times: written_time::Spelling,
    binary: BinaryText,
}

impl EncoderFactory for Spelling {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn arrow::json::writer::Encoder + 'a> = match array.data_type() {
            DataType::Binary => {
                let bytes = array.as_binary::<i32>();
                if self.binary == BinaryText::Plain {
                    check_text(field.name(), bytes)?;
                }
                Box::new(Bytes(bytes, self.binary))
            }
            DataType::Float32 if has_words(array.as_primitive::<Float32Type>().iter().flatten().map(f64::from)) => {
                let values = array.as_primitive::<Float32Type>();
                Box::new(Floats(move |index| (f64::from(values.value(index)), format!("{:?}", values.value(index)))))
            }
            DataType::Float64 if has_words(array.as_primitive::<Float64Type>().iter().flatten()) => {
                let values = array.as_primitive::<Float64Type>();
                Box::new(Floats(move |index| (values.value(index), format!("{:?}", values.value(index)))))
            }
            DataType::Map(entries, _) => {
                let DataType::Struct(entries) = entries.data_type() else { return Ok(None) };
                let [_, value] = entries.as_ref() else { return Ok(None) };
                let map = array.as_map();
                let (keys, values) = (keys(field.name(), map.keys())?, make_encoder(value, map.values(), options)?);
                Box::new(Entries { offsets: map.value_offsets(), keys, values })
            }
            _ => return self.times.make_default_encoder(field, array, options),
        };
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

/// A map with its entries that are NULL and keys that are no text, which Arrow's own encoder leaves out or refuses.
struct Entries<'a> {
    offsets: &'a [i32],
    keys: StringArray,
    values: NullableEncoder<'a>,
}

impl arrow::json::writer::Encoder for Entries<'_> {
    fn encode(&mut self, index: usize, out: &mut Vec<u8>) {
        let place = |index: usize| self.offsets.get(index).map_or(0, |offset| *offset as usize);
        let (start, end) = (place(index), place(index + 1));
        out.push(b'{');
        for entry in start..end {
            if entry > start {
                out.push(b',');
            }
            write_text(self.keys.value(entry).as_bytes(), out);
            out.push(b':');
            match self.values.is_null(entry) {
                true => out.extend_from_slice(b"null"),
                false => self.values.encode(entry, out),
            }
        }
        out.push(b'}');
    }
}

/// The keys of a map as the names of a JSON object.
fn keys(column: &str, keys: &ArrayRef) -> Result<StringArray, ArrowError> {
    let of = keys.data_type();
    if *of == DataType::Utf8 || of.is_integer() || *of == DataType::Date32 {
        return Ok(cast(keys, &DataType::Utf8)?.as_string::<i32>().clone());
    }
    let error = Error::not_supported(format!("column \"{column}\" is a map whose keys JSON cannot hold"))
        .with_hint("CAST the keys AS varchar, or write Parquet");
    Err(ArrowError::ExternalError(Box::new(error)))
}

struct Bytes<'a>(&'a BinaryArray, BinaryText);

impl arrow::json::writer::Encoder for Bytes<'_> {
    fn encode(&mut self, index: usize, out: &mut Vec<u8>) {
        let value = self.0.value(index);
        let text = match self.1 {
            BinaryText::Base64 => STANDARD.encode(value).into(),
            BinaryText::Plain => String::from_utf8_lossy(value),
        };
        write_text(text.as_bytes(), out);
    }
}

/// What a float is, and how a finite one is written.
struct Floats<F>(F);

impl<F: Fn(usize) -> (f64, String)> arrow::json::writer::Encoder for Floats<F> {
    fn encode(&mut self, index: usize, out: &mut Vec<u8>) {
        let (value, text) = (self.0)(index);
        let word = match value {
            value if value.is_nan() => "\"NaN\"",
            f64::INFINITY => "\"Infinity\"",
            f64::NEG_INFINITY => "\"-Infinity\"",
            _ => text.as_str(),
        };
        out.extend_from_slice(word.as_bytes());
    }
}

fn has_words(mut values: impl Iterator<Item = f64>) -> bool {
    values.any(|value| !value.is_finite())
}

/// A SerDe that takes bytes as they are has none that are no text.
fn check_text(name: &str, values: &BinaryArray) -> Result<(), ArrowError> {
    if values.iter().flatten().all(|value| simdutf8::basic::from_utf8(value).is_ok()) {
        return Ok(());
    }
    let message = format!("column \"{name}\" holds bytes that are no text, which this JSON SerDe cannot hold");
    let error = Error::data("HIVE_WRITER_DATA_ERROR", message)
        .with_hint("write to_base64(..) into a string column, or use the OpenX SerDe or Parquet");
    Err(ArrowError::ExternalError(Box::new(error)))
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

    fn may_refuse(&self, data_type: &DataType) -> bool {
        self.reading.may_refuse(data_type)
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
        let text = arrow::array::StringArray::from(vec![Some("x\ny"), None]);
        let bytes = arrow::array::BinaryArray::from(vec![Some(b"hi".as_slice()), None]);
        let rows = RecordBatch::try_new(schema, vec![Arc::new(text), Arc::new(bytes)]).unwrap();
        let payloads = JsonEncoder { writing: JsonLines::default() }.encode(&rows).unwrap();
        assert_eq!(payloads.payload(0), br#"{"a":"x\ny","b":"aGk="}"#);
        assert_eq!(payloads.payload(1), b"{}");
    }
}
