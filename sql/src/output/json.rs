//! Rows as JSON: one array (`json`) or an object a line (`ndjson`).
//!
//! Invariant: what is written is JSON whatever the values are: a double that is no number is a string, a decimal keeps all
//! its digits, binary is base64, and a value of the JSON type stands as it is.

use std::{fmt::Write as _, io, io::Write};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{DataType, Float32Type, Float64Type, Schema},
};
use base64::{Engine, engine::general_purpose::STANDARD};

use super::value;

/// Bytes gathered before they are written.
const WRITE_BYTES: usize = 64 << 10;

/// Writes rows as JSON objects.
#[derive(Debug)]
pub(super) struct JsonRows {
    array: bool,
    keys: Vec<String>,
    rows: u64,
}

impl JsonRows {
    /// One array around all rows, or an object a line.
    pub(super) fn new(schema: &Schema, array: bool) -> Self {
        let key = |name: &String| {
            let mut key = String::new();
            write_string(name, &mut key);
            key.push(':');
            key
        };
        Self { array, keys: schema.fields().iter().map(|field| key(field.name())).collect(), rows: 0 }
    }

    /// Writes the rows of a batch.
    pub(super) fn batch(&mut self, batch: &RecordBatch, out: &mut dyn Write) -> io::Result<()> {
        let mut text = String::new();
        for row in 0..batch.num_rows() {
            if self.array {
                text.push_str(if self.rows == 0 { "[\n" } else { ",\n" });
            }
            for (i, (key, column)) in self.keys.iter().zip(batch.columns()).enumerate() {
                text.push(if i == 0 { '{' } else { ',' });
                text.push_str(key);
                write_json(column, row, &mut text);
            }
            text.push_str(if self.keys.is_empty() { "{}" } else { "}" });
            text.push_str(if self.array { "" } else { "\n" });
            self.rows += 1;
            if text.len() >= WRITE_BYTES {
                out.write_all(text.as_bytes())?;
                text.clear();
            }
        }
        out.write_all(text.as_bytes())
    }

    /// Closes the array.
    pub(super) fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        match (self.array, self.rows) {
            (false, _) => Ok(()),
            (true, 0) => out.write_all(b"[]\n"),
            (true, _) => out.write_all(b"\n]\n"),
        }
    }
}

/// Appends one value as JSON.
pub(super) fn write_json(array: &dyn Array, row: usize, out: &mut String) {
    if array.is_null(row) || array.data_type() == &DataType::Null {
        return out.push_str("null");
    }
    match array.data_type() {
        data_type if data_type.is_integer() => value::write_text(array, row, out),
        DataType::Boolean | DataType::LargeUtf8 | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            value::write_text(array, row, out);
        }
        DataType::Float32 => write_number(f64::from(array.as_primitive::<Float32Type>().value(row)), array, row, out),
        DataType::Float64 => write_number(array.as_primitive::<Float64Type>().value(row), array, row, out),
        DataType::Binary | DataType::BinaryView => {
            write_string(&STANDARD.encode(value::bytes(array, row)), out);
        }
        DataType::List(_) => write_array(&*array.as_list::<i32>().value(row), out),
        DataType::LargeList(_) => write_array(&*array.as_list::<i64>().value(row), out),
        DataType::FixedSizeList(..) => write_array(&*array.as_fixed_size_list().value(row), out),
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            write_object(entries.len(), out, |i, out| {
                write_key(entries.column(0), i, out);
                write_json(entries.column(1), i, out);
            });
        }
        DataType::Struct(_) if crate::kernels::zoned::unit_of(array.data_type()).is_some() => {
            write_as_text(array, row, out)
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct();
            write_object(fields.len(), out, |i, out| {
                match fields[i].name().as_str() {
                    "" => write_string(&format!("field{i}"), out),
                    name => write_string(name, out),
                }
                out.push(':');
                write_json(columns.column(i), row, out);
            });
        }
        DataType::Dictionary(..) => match array.as_any_dictionary_opt() {
            Some(dictionary) => write_json(dictionary.values(), dictionary.normalized_keys()[row], out),
            None => write_as_text(array, row, out),
        },
        _ => write_as_text(array, row, out),
    }
}

fn write_as_text(array: &dyn Array, row: usize, out: &mut String) {
    let mut text = String::new();
    value::write_text(array, row, &mut text);
    write_string(&text, out);
}

fn write_number(number: f64, array: &dyn Array, row: usize, out: &mut String) {
    if number.is_finite() { value::write_text(array, row, out) } else { write_as_text(array, row, out) }
}

fn write_array(elements: &dyn Array, out: &mut String) {
    out.push('[');
    for i in 0..elements.len() {
        out.push_str(if i == 0 { "" } else { "," });
        write_json(elements, i, out);
    }
    out.push(']');
}

fn write_object(len: usize, out: &mut String, mut member: impl FnMut(usize, &mut String)) {
    out.push('{');
    for i in 0..len {
        out.push_str(if i == 0 { "" } else { "," });
        member(i, out);
    }
    out.push('}');
}

/// A key of a map: its text, because keys of JSON are strings.
fn write_key(keys: &dyn Array, row: usize, out: &mut String) {
    write_as_text(keys, row, out);
    out.push(':');
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{0}'..'\u{20}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
