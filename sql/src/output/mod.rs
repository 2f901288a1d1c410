//! Results as a person or a program reads them: table, CSV, TSV, JSON, JSON lines, Parquet.
//!
//! ```text
//!  batches --> Rows (one result) --> table | separated | json | parquet --> any io::Write
//! ```
//!
//! Invariant: rows are written as they come; no format holds more than a stated number of them.

use std::{io, io::Write, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use parquet::{arrow::ArrowWriter, basic::Compression, errors::ParquetError, file::properties::WriterProperties};

mod json;
mod separated;
mod stored;
mod table;
#[cfg(test)]
mod tests;
mod unique;
pub mod value;

use json::JsonRows;
use separated::Separated;
use table::Table;

pub use table::Expanded;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// An aligned table.
    Table,
    /// CSV with a header.
    Csv,
    /// Tab-separated values with a header.
    Tsv,
    /// One JSON array.
    Json,
    /// A JSON object a line.
    Ndjson,
    /// A Parquet file.
    Parquet,
}

impl Format {
    /// Whether a reader finds columns by their names.
    fn needs_names(self) -> bool {
        match self {
            Self::Table | Self::Csv | Self::Tsv => false,
            Self::Json | Self::Ndjson | Self::Parquet => true,
        }
    }
}

/// How results look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The format.
    pub format: Format,
    /// Columns of the terminal; none if the rows do not go to one.
    pub width_max: Option<usize>,
    /// When a table is shown a value a line.
    pub expanded: Expanded,
}

/// Rows kept of a Parquet result before they are written as a row group.
const ROW_GROUP_ROWS: usize = 128 << 10;

/// Writes the rows of one result.
pub struct Rows<W: Write + Send> {
    kind: Kind<W>,
}

enum Kind<W: Write + Send> {
    Table(Table, W),
    Separated(Separated, W),
    Json(JsonRows, W),
    Parquet(Box<ArrowWriter<W>>, SchemaRef),
}

impl<W: Write + Send> std::fmt::Debug for Rows<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").finish_non_exhaustive()
    }
}

impl<W: Write + Send> Rows<W> {
    /// Begins a result: writes what stands before the first row.
    pub fn begin(look: Look, schema: SchemaRef, mut out: W) -> io::Result<Self> {
        let schema = if look.format.needs_names() { unique::names(schema) } else { schema };
        let kind = match look.format {
            Format::Table => Kind::Table(Table::new(&schema, look.width_max, look.expanded), out),
            Format::Csv | Format::Tsv => {
                let separated = if look.format == Format::Csv { Separated::Comma } else { Separated::Tab };
                separated.header(&schema, &mut out)?;
                Kind::Separated(separated, out)
            }
            Format::Json | Format::Ndjson => Kind::Json(JsonRows::new(&schema, look.format == Format::Json), out),
            Format::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::SNAPPY)
                    .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
                    .build();
                let schema = stored::schema(&schema);
                let writer = ArrowWriter::try_new(out, Arc::clone(&schema), Some(properties)).map_err(to_io)?;
                Kind::Parquet(Box::new(writer), schema)
            }
        };
        Ok(Self { kind })
    }

    /// Writes the rows of a batch.
    pub fn write(&mut self, batch: &RecordBatch) -> io::Result<()> {
        match &mut self.kind {
            Kind::Table(table, out) => table.batch(batch, out),
            Kind::Separated(separated, out) => separated.batch(batch, out),
            Kind::Json(rows, out) => rows.batch(batch, out),
            Kind::Parquet(writer, schema) => writer.write(&stored::rows(batch, schema)?).map_err(to_io),
        }
    }

    /// Shows what was written so far, for rows that come slowly.
    pub fn show(&mut self) -> io::Result<()> {
        match &mut self.kind {
            Kind::Table(table, out) => {
                table.finish(out)?;
                out.flush()
            }
            Kind::Separated(_, out) | Kind::Json(_, out) => out.flush(),
            // The rows of a Parquet file are seen when it is whole.
            Kind::Parquet(..) => Ok(()),
        }
    }

    /// Writes what stands after the last row, and gives the output back.
    pub fn finish(self) -> io::Result<W> {
        let mut out = match self.kind {
            Kind::Table(mut table, mut out) => {
                table.finish(&mut out)?;
                out
            }
            Kind::Separated(_, out) => out,
            Kind::Json(mut rows, mut out) => {
                rows.finish(&mut out)?;
                out
            }
            Kind::Parquet(writer, _) => writer.into_inner().map_err(to_io)?,
        };
        out.flush()?;
        Ok(out)
    }
}

/// A closed pipe inside a Parquet error is a closed pipe.
fn to_io(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(source) => io::Error::other(source),
        },
        error => io::Error::other(error),
    }
}
