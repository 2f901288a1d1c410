//! Delimited text (LazySimpleSerDe), CSV with quotes, and lines as they are.
//!
//! Invariant: what is written here, the SerDe named in the table reads back: delimiters within values are escaped or
//! quoted, or the statement fails and says which value cannot be written.

use arrow::{
    array::{Array, ArrayRef, AsArray},
    compute::{CastOptions, cast, cast_with_options},
    datatypes::{DataType, SchemaRef, TimeUnit},
    record_batch::RecordBatch,
    util::display::{ArrayFormatter, FormatOptions},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use headwater_engine::{
    error::{Error, Result},
    format::Payloads,
};

use super::LineEncoder;
use crate::lake::write::format::{Delimiter, TextOptions, TextStyle};

/// Timestamps, dates and booleans as Hive writes them as text.
fn format_options() -> FormatOptions<'static> {
    FormatOptions::new()
        .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
        .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f"))
        .with_date_format(Some("%Y-%m-%d"))
}

/// Rows as lines of text.
#[derive(Debug)]
pub(crate) struct TextRows {
    options: TextOptions,
    /// Whether they are records of a stream, where nothing is an empty text.
    are_records: bool,
}

impl TextRows {
    pub(crate) fn new(options: TextOptions, schema: &SchemaRef) -> Result<Self> {
        if matches!(options.style, TextStyle::Raw) && schema.fields().len() != 1 {
            let message = format!("format raw writes one column, not {}", schema.fields().len());
            return Err(Error::user("INVALID_TABLE_PROPERTY", message));
        }
        for field in schema.fields() {
            let nested = field.data_type().is_nested();
            if nested && !matches!(options.style, TextStyle::Delimited) {
                let message = format!("column \"{}\" is nested and cannot be written as CSV", field.name());
                return Err(Error::not_supported(message).with_hint("write JSON or Parquet, or CAST it to JSON text"));
            }
        }
        let rows = Self { options, are_records: false };
        for field in schema.fields() {
            if rows.options.header_lines > 0 {
                rows.value(field.name(), &mut Vec::new())?;
            }
        }
        Ok(rows)
    }

    /// Rows as records of a stream.
    pub(crate) fn records(options: TextOptions, schema: &SchemaRef) -> Result<Self> {
        Ok(Self { are_records: true, ..Self::new(options, schema)? })
    }
}

impl LineEncoder for TextRows {
    fn head(&mut self, schema: &SchemaRef, out: &mut Vec<u8>) {
        for _ in 0..self.options.header_lines {
            let names = schema.fields().iter().map(|field| field.name().as_str());
            for (index, name) in names.enumerate() {
                self.separate(index, out);
                // Names that cannot be written were refused before.
                let _ = self.value(name, out);
            }
            out.push(b'\n');
        }
    }

    fn lines(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let columns = self.columns(rows)?;
        self.expect_values(rows)?;
        let is_raw = matches!(self.options.style, TextStyle::Raw) && self.options.delimiter == Delimiter::LineEnd;
        for row in 0..rows.num_rows() {
            let start = out.len();
            self.row(&columns, row, out)?;
            let line = &out[start..];
            if is_raw && (line.contains(&b'\n') || line.ends_with(b"\r")) {
                return Err(of_lines(&String::from_utf8_lossy(line), "a raw file"));
            }
            out.extend_from_slice(self.options.delimiter.bytes());
        }
        Ok(())
    }
}

/// A column and its name.
struct Column {
    name: String,
    values: Values,
}

enum Values {
    Text(ArrayRef),
    Bytes(ArrayRef),
    Nested(ArrayRef),
}

impl Values {
    fn new(array: &ArrayRef) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Binary => Self::Bytes(array.clone()),
            nested if nested.is_nested() => Self::Nested(array.clone()),
            _ => Self::Text(as_text(array)?),
        })
    }
}

/// A column's values as text.
pub(crate) fn as_text(array: &ArrayRef) -> Result<ArrayRef> {
    let options = CastOptions { safe: false, format_options: format_options() };
    Ok(cast_with_options(array, &DataType::Utf8, &options)?)
}

impl TextRows {
    /// Every row as a payload of its own, without a line's end.
    pub(crate) fn payloads(&self, rows: &RecordBatch) -> Result<Payloads> {
        let columns = self.columns(rows)?;
        let (mut buffer, mut ends) = (Vec::new(), Vec::with_capacity(rows.num_rows()));
        for row in 0..rows.num_rows() {
            self.row(&columns, row, &mut buffer)?;
            ends.push(buffer.len());
        }
        Ok(Payloads { buffer: buffer.into(), ends })
    }

    fn columns(&self, rows: &RecordBatch) -> Result<Vec<Column>> {
        let values = |array: &ArrayRef| match (self.options.style, array.data_type()) {
            (TextStyle::OpenCsv { .. }, DataType::Date32) => Values::new(&cast(array, &DataType::Int32)?),
            (TextStyle::OpenCsv { .. }, DataType::Timestamp(_, None)) => {
                let millis = cast(array, &DataType::Timestamp(TimeUnit::Millisecond, None))?;
                Values::new(&cast(&millis, &DataType::Int64)?)
            }
            _ => Values::new(array),
        };
        let schema = rows.schema();
        let columns = schema.fields().iter().zip(rows.columns());
        columns.map(|(field, array)| Ok(Column { name: field.name().clone(), values: values(array)? })).collect()
    }

    /// Rows that cannot be written, and why.
    pub(super) fn unwritable(&mut self, rows: &RecordBatch) -> Vec<(usize, String)> {
        let mut scratch = Vec::new();
        let mut refusal = |rows: &RecordBatch| {
            scratch.clear();
            match self.options.style {
                // What is quoted can be anything.
                TextStyle::Csv { .. } => self.columns(rows).err(),
                _ => self.lines(rows, &mut scratch).err(),
            }
        };
        if refusal(rows).is_none() {
            return Vec::new();
        }
        let of_row = |row| refusal(&rows.slice(row, 1)).map(|error| (row, error.message().to_owned()));
        (0..rows.num_rows()).filter_map(of_row).collect()
    }

    /// OpenCSVSerde reads an empty field as an empty text, which is no value of any other type, and so does a raw file
    /// an empty line.
    fn expect_values(&self, rows: &RecordBatch) -> Result<()> {
        let is_raw = match self.options.style {
            TextStyle::OpenCsv { .. } => false,
            TextStyle::Raw => true,
            TextStyle::Csv { .. } | TextStyle::Delimited => return Ok(()),
        };
        let schema = rows.schema();
        let columns = schema.fields().iter().zip(rows.columns());
        let missing = columns
            .into_iter()
            .find(|(field, array)| (is_raw || *field.data_type() != DataType::Utf8) && array.null_count() > 0);
        let Some((field, _)) = missing else { return Ok(()) };
        let (why, hint) = match is_raw {
            true => {
                ("a raw file has no mark for", "leave such rows out with WHERE, or give them a value with coalesce")
            }
            false => (
                "OpenCSVSerde has for texts only",
                "declare the column as string, or the table STORED AS CSV, JSON or PARQUET",
            ),
        };
        let message = format!("a value of column \"{}\" is NULL, which {why}", field.name());
        Err(Error::data("HIVE_WRITER_DATA_ERROR", message).with_hint(hint))
    }

    fn row(&self, columns: &[Column], row: usize, out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        for (index, column) in columns.iter().enumerate() {
            self.separate(index, out);
            self.values(&column.values, row, out)
                .map_err(|error| error.context(format!("column \"{}\"", column.name)))?;
        }
        if let Some((quote, _)) = self.options.style.quotes()
            && out.len() == start
        {
            // A line without a byte would be no record.
            out.extend_from_slice(&[quote, quote]);
        }
        Ok(())
    }

    fn values(&self, values: &Values, row: usize, out: &mut Vec<u8>) -> Result<()> {
        match values {
            Values::Bytes(array) if matches!(self.options.style, TextStyle::Raw) && array.is_valid(row) => {
                out.extend_from_slice(array.as_binary::<i32>().value(row));
                Ok(())
            }
            Values::Bytes(array) if array.is_valid(row) => {
                let text = STANDARD.encode(array.as_binary::<i32>().value(row));
                self.value(&text, out)
            }
            Values::Text(array) if array.is_valid(row) => self.value(array.as_string::<i32>().value(row), out),
            Values::Nested(array) if array.is_valid(row) => self.nested(array, row, 1, out),
            Values::Bytes(_) | Values::Text(_) | Values::Nested(_) => {
                out.extend_from_slice(self.options.null.as_bytes());
                Ok(())
            }
        }
    }

    fn separate(&self, index: usize, out: &mut Vec<u8>) {
        if index > 0 {
            out.push(self.options.field_delimiter);
        }
    }

    fn value(&self, text: &str, out: &mut Vec<u8>) -> Result<()> {
        match self.options.style {
            TextStyle::Raw => out.extend_from_slice(text.as_bytes()),
            TextStyle::OpenCsv { .. } if text.contains(['\n', '\r']) => {
                return Err(of_lines(text, "an OpenCSVSerde table"));
            }
            TextStyle::Csv { quote, escape } | TextStyle::OpenCsv { quote, escape } => {
                let is_plain = !text.is_empty() && !self.is_null_mark(text.as_bytes());
                quoted(text, quote, escape, (self.options.field_delimiter, is_plain), out);
            }
            TextStyle::Delimited => self.escaped(text, 0, out)?,
        }
        Ok(())
    }

    /// A value at a level of nesting. LazySimpleSerDe without `escape.delim` cannot hold a delimiter or a line's end:
    /// Hive writes them and reads something else, so here such a value is refused.
    fn escaped(&self, text: &str, level: u8, out: &mut Vec<u8>) -> Result<()> {
        let is_delimiter = |byte: u8| {
            byte == self.options.field_delimiter
                || (1..=level).any(|level| byte == self.options.nested_delimiter(level))
        };
        let start = out.len();
        for byte in text.bytes() {
            match self.options.escape {
                Some(escape) if byte == b'\n' => out.extend_from_slice(&[escape, b'n']),
                Some(escape) if byte == b'\r' => out.extend_from_slice(&[escape, b'r']),
                Some(escape) if is_delimiter(byte) || byte == escape => out.extend_from_slice(&[escape, byte]),
                None if is_delimiter(byte) => return Err(unwritable(text, "a delimiter")),
                None if matches!(byte, b'\n' | b'\r') => return Err(unwritable(text, "the end of a line")),
                _ => out.push(byte),
            }
        }
        // With an escape or without: what is written is what readers compare with the mark.
        if self.is_null_mark(&out[start..]) && !(self.are_records && text.is_empty()) {
            return Err(Error::data("HIVE_WRITER_DATA_ERROR", format!("the value {text:?} is the mark of NULL"))
                .with_hint("declare another one (NULL DEFINED AS '..'), or write CSV, JSON or Parquet"));
        }
        Ok(())
    }

    fn is_null_mark(&self, written: &[u8]) -> bool {
        written == self.options.null.as_bytes()
    }

    /// Refuses a nested value that would be read as none.
    fn expect_no_null(&self, written: &[u8], kind: &str) -> Result<()> {
        if !self.is_null_mark(written) {
            return Ok(());
        }
        let message = format!("{kind} is written as {:?}, the mark of NULL", self.options.null);
        Err(Error::data("HIVE_WRITER_DATA_ERROR", message)
            .with_hint("declare another one (NULL DEFINED AS '..'), or write JSON or Parquet"))
    }

    /// Arrays, maps and rows with one delimiter for each level, as Hive nests them.
    fn nested(&self, array: &ArrayRef, row: usize, level: u8, out: &mut Vec<u8>) -> Result<()> {
        if array.is_null(row) {
            out.extend_from_slice(self.options.null.as_bytes());
            return Ok(());
        }
        let (start, delimiter) = (out.len(), self.options.nested_delimiter(level));
        match array.data_type() {
            DataType::List(_) => {
                let items = array.as_list::<i32>().value(row);
                for item in 0..items.len() {
                    if item > 0 {
                        out.push(delimiter);
                    }
                    self.nested(&items, item, level + 1, out)?;
                }
                if items.len() == 1 && (out.len() == start || self.is_null_mark(&out[start..])) {
                    return Err(alone("an array"));
                }
                self.expect_no_null(&out[start..], "an array")?;
            }
            DataType::Struct(_) => {
                for (index, column) in array.as_struct().columns().iter().enumerate() {
                    if index > 0 {
                        out.push(delimiter);
                    }
                    self.nested(column, row, level + 1, out)?;
                }
                if self.is_null_mark(&out[start..]) {
                    return Err(alone("a row"));
                }
            }
            DataType::Map(_, _) => {
                let entries = array.as_map().value(row);
                for entry in 0..entries.len() {
                    if entry > 0 {
                        out.push(delimiter);
                    }
                    self.nested(entries.column(0), entry, level + 2, out)?;
                    out.push(self.options.nested_delimiter(level + 1));
                    self.nested(entries.column(1), entry, level + 2, out)?;
                }
                self.expect_no_null(&out[start..], "a map")?;
            }
            DataType::Binary => {
                let text = STANDARD.encode(array.as_binary::<i32>().value(row));
                self.escaped(&text, level - 1, out)?;
            }
            _ => {
                let options = format_options();
                let formatter = ArrayFormatter::try_new(array, &options)?;
                self.escaped(&formatter.value(row).to_string(), level - 1, out)?;
            }
        }
        Ok(())
    }
}

/// The error for a nested value that is written like another one.
fn alone(kind: &str) -> Error {
    let message = format!("{kind} of one element that is NULL or empty cannot be told from {kind} without any");
    Error::data("HIVE_WRITER_DATA_ERROR", message).with_hint("write JSON or Parquet, which can")
}

/// The error for a value of several lines where a record is a line.
fn of_lines(text: &str, what: &str) -> Error {
    let start: String = text.chars().take(50).collect();
    let message = format!("the value {start:?} holds the end of a line, which {what} has between records only");
    Error::data("HIVE_WRITER_DATA_ERROR", message)
        .with_hint("write STORED AS CSV, JSON or PARQUET, or replace the line ends")
}

/// The error for a value that would be read as something else.
fn unwritable(text: &str, what: &str) -> Error {
    let start: String = text.chars().take(50).collect();
    Error::data(
        "HIVE_WRITER_DATA_ERROR",
        format!("the value {start:?} holds {what}, and no escape character is declared"),
    )
    .with_hint("declare one (ESCAPED BY '\\\\'), or write CSV, JSON or Parquet")
}

/// Quotes a value that holds the delimiter, a quote or a line's end, and one that is not plain: without quotes it would be
/// NULL.
fn quoted(text: &str, quote: u8, escape: u8, (delimiter, is_plain): (u8, bool), out: &mut Vec<u8>) {
    let is_special = |byte: u8| byte == delimiter || byte == quote || byte == escape || matches!(byte, b'\n' | b'\r');
    if is_plain && !text.bytes().any(is_special) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    out.push(quote);
    for byte in text.bytes() {
        if byte == quote || byte == escape {
            out.push(escape);
        }
        out.push(byte);
    }
    out.push(quote);
}
