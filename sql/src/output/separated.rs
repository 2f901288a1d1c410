//! Rows as CSV (RFC 4180) or TSV, with the column names as the first line.
//!
//! Invariant: NULL and the empty text differ: in CSV NULL is an empty field and the empty text is `""`; in TSV NULL is `\N`,
//! and a tab, line break or backslash is written with a backslash.

use std::{io, io::Write};

use arrow::{array::RecordBatch, datatypes::Schema};

use super::value;

/// Bytes gathered before they are written.
const WRITE_BYTES: usize = 64 << 10;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Separated {
    /// Fields joined by commas, quoted where needed.
    Comma,
    /// Fields joined by tabs, escaped where needed.
    Tab,
}

impl Separated {
    /// Writes the names of the columns.
    pub(super) fn header(self, schema: &Schema, out: &mut dyn Write) -> io::Result<()> {
        let mut text = String::new();
        for (i, field) in schema.fields().iter().enumerate() {
            self.separate(i, &mut text);
            self.write_field(field.name(), &mut text);
        }
        text.push('\n');
        out.write_all(text.as_bytes())
    }

    /// Writes the rows of a batch.
    pub(super) fn batch(self, batch: &RecordBatch, out: &mut dyn Write) -> io::Result<()> {
        let (mut text, mut field) = (String::new(), String::new());
        for row in 0..batch.num_rows() {
            for (i, column) in batch.columns().iter().enumerate() {
                self.separate(i, &mut text);
                if column.is_null(row) || column.data_type().is_null() {
                    text.push_str(if self == Self::Tab { "\\N" } else { "" });
                } else {
                    field.clear();
                    value::write_text(column, row, &mut field);
                    self.write_field(&field, &mut text);
                }
            }
            text.push('\n');
            if text.len() >= WRITE_BYTES {
                out.write_all(text.as_bytes())?;
                text.clear();
            }
        }
        out.write_all(text.as_bytes())
    }

    fn separate(self, column: usize, out: &mut String) {
        match self {
            _ if column == 0 => {}
            Self::Comma => out.push(','),
            Self::Tab => out.push('\t'),
        }
    }

    fn write_field(self, field: &str, out: &mut String) {
        match self {
            Self::Comma if field.is_empty() || field.contains([',', '"', '\n', '\r']) => {
                out.push('"');
                out.push_str(&field.replace('"', "\"\""));
                out.push('"');
            }
            Self::Comma => out.push_str(field),
            Self::Tab => {
                for c in field.chars() {
                    match c {
                        '\t' => out.push_str("\\t"),
                        '\n' => out.push_str("\\n"),
                        '\r' => out.push_str("\\r"),
                        '\\' => out.push_str("\\\\"),
                        c => out.push(c),
                    }
                }
            }
        }
    }
}
