//! A row of a data set before it has a format, and how it is written as a line of JSON or CSV.
//!
//! Invariant: the cells of a record are as many as the columns of its data set, in their order.

use std::{fmt::Write, sync::Arc};

use arrow::{
    array::{ArrayRef, Float64Builder, Int64Builder, RecordBatch, StringBuilder, TimestampMillisecondBuilder},
    datatypes::{DataType, Field, Schema, TimeUnit},
};
use headwater_engine::error::Result;

/// A column: its name as written in files, and its type in Parquet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    /// Name, with its case and spaces.
    pub(super) name: &'static str,
    /// Type of its cells.
    pub(super) kind: Kind,
}

/// Types of cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text.
    Text,
    /// A whole number.
    Integer,
    /// A floating point number.
    Double,
    /// Text of the form `2023-06-18 14:27:52.000000`; a timestamp of milliseconds in Parquet.
    Timestamp,
    /// JSON text that stands unquoted in JSON lines; text elsewhere.
    Json,
}

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    /// No value.
    Null,
    /// Text, also of a timestamp or of JSON.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A floating point number.
    Double(f64),
}

/// One row and where it goes.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// Folder below the target, such as `name=a/d=2023-07-16`; empty for the target itself.
    pub(super) folder: String,
    /// Its values.
    pub(super) body: Body,
}

/// The content of a record.
#[derive(Debug, Clone)]
pub(super) enum Body {
    /// A value per column.
    Cells(Vec<Cell>),
    /// A line that is written as it is.
    Line(String),
}

/// Appends a JSON object with its newline.
pub(super) fn json_line(columns: &[Column], cells: &[Cell], out: &mut Vec<u8>) {
    for (i, (column, cell)) in columns.iter().zip(cells).enumerate() {
        out.extend_from_slice(if i == 0 { b"{" } else { b", " });
        json_text(column.name, out);
        out.extend_from_slice(b": ");
        match cell {
            Cell::Null => out.extend_from_slice(b"null"),
            Cell::Integer(value) => out.extend_from_slice(value.to_string().as_bytes()),
            Cell::Double(value) => out.extend_from_slice(value.to_string().as_bytes()),
            Cell::Text(text) if column.kind == Kind::Json => out.extend_from_slice(text.as_bytes()),
            Cell::Text(text) => json_text(text, out),
        }
    }
    out.extend_from_slice(b"}\n");
}

/// Appends a JSON string.
pub(super) fn json_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            0..0x20 => {
                let mut escaped = String::new();
                let _ = write!(escaped, "\\u{byte:04x}");
                out.extend_from_slice(escaped.as_bytes());
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// Appends the header of a CSV file.
pub(super) fn csv_header(columns: &[Column], out: &mut Vec<u8>) {
    let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
    out.extend_from_slice(names.join(",").as_bytes());
    out.push(b'\n');
}

/// Appends a CSV line; NULL is an empty field.
pub(super) fn csv_line(cells: &[Cell], out: &mut Vec<u8>) {
    for (i, cell) in cells.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        match cell {
            Cell::Null => {}
            Cell::Integer(value) => out.extend_from_slice(value.to_string().as_bytes()),
            Cell::Double(value) => out.extend_from_slice(value.to_string().as_bytes()),
            Cell::Text(text) if text.contains([',', '"', '\n', '\r']) => {
                out.push(b'"');
                out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
                out.push(b'"');
            }
            Cell::Text(text) => out.extend_from_slice(text.as_bytes()),
        }
    }
    out.push(b'\n');
}

/// The Parquet schema of the columns.
pub(super) fn schema(columns: &[Column]) -> Arc<Schema> {
    let field = |column: &Column| {
        let data_type = match column.kind {
            Kind::Text | Kind::Json => DataType::Utf8,
            Kind::Integer => DataType::Int64,
            Kind::Double => DataType::Float64,
            Kind::Timestamp => DataType::Timestamp(TimeUnit::Millisecond, None),
        };
        Field::new(column.name, data_type, true)
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// A record batch of the rows.
pub(super) fn batch(columns: &[Column], rows: &[Vec<Cell>]) -> Result<RecordBatch> {
    let arrays = columns.iter().enumerate().map(|(i, column)| array(column.kind, rows.iter().map(|row| &row[i])));
    Ok(RecordBatch::try_new(schema(columns), arrays.collect())?)
}

fn array<'a>(kind: Kind, cells: impl Iterator<Item = &'a Cell>) -> ArrayRef {
    match kind {
        Kind::Text | Kind::Json => {
            let mut builder = StringBuilder::new();
            cells.for_each(|cell| builder.append_option(cell.text()));
            Arc::new(builder.finish())
        }
        Kind::Integer => {
            let mut builder = Int64Builder::new();
            cells.for_each(|cell| builder.append_option(if let Cell::Integer(v) = cell { Some(*v) } else { None }));
            Arc::new(builder.finish())
        }
        Kind::Double => {
            let mut builder = Float64Builder::new();
            cells.for_each(|cell| builder.append_option(if let Cell::Double(v) = cell { Some(*v) } else { None }));
            Arc::new(builder.finish())
        }
        Kind::Timestamp => {
            let mut builder = TimestampMillisecondBuilder::new();
            cells.for_each(|cell| builder.append_option(cell.text().and_then(milliseconds)));
            Arc::new(builder.finish())
        }
    }
}

fn milliseconds(text: &str) -> Option<i64> {
    let time = chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok()?;
    Some(time.and_utc().timestamp_millis())
}

impl Cell {
    /// A text cell.
    pub(super) fn of(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}
