//! Delimited text: LazySimpleSerDe's lines, OpenCSVSerde, CSV as everybody else writes it, and raw lines.
//!
//! ```text
//!  bytes -> records (quotes may hold newlines) -> fields -> text columns -> values of the declared types
//! ```
//!
//! Invariant: a record is added to every column or rejected; values are judged a column at a time once a batch is
//! full, and a record with a value that its SerDe refuses is rejected as a whole.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions},
    compute::{filter_record_batch, nullif},
    datatypes::{FieldRef, SchemaRef},
};
use bytes::Bytes;
use headwater_engine::{
    catalog::Table,
    error::{Error, Result},
};

use self::{
    split::{Fields, Splitter},
    values::TextColumn,
};
use super::{FileRows, RejectedText, RowReader};
use crate::lake::{
    format::Malformed,
    write::format::{TextOptions, TextStyle, WriteFormat},
};

pub(crate) mod infer;
mod payloads;
mod split;
mod values;

pub(crate) use payloads::CsvDecoder;

/// Most rows of a batch.
const BATCH_ROWS: usize = 8192;
/// Longest record, as in Athena.
const RECORD_BYTES_MAX: usize = 32 << 20;

/// Whose habits are followed where text meets a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Habits {
    /// LazySimpleSerDe: what does not fit is NULL, missing fields are NULL, more are ignored.
    Lazy,
    /// OpenCSVSerde: missing fields are NULL; what does not fit is malformed; dates are days, timestamps milliseconds.
    OpenCsv,
    /// Ours: as many fields as columns, and each fits.
    Csv,
    /// One column that holds the line.
    Raw,
}

/// How a table's delimited files are read.
#[derive(Debug, Clone)]
pub struct DelimitedOptions {
    text: TextOptions,
    habits: Habits,
    /// Lines before the first record.
    skip: usize,
    /// The first line names the columns.
    is_named: bool,
    /// The table says whether the first line names the columns.
    says_header: bool,
    /// The table says what is between fields.
    has_delimiter: bool,
    malformed: Malformed,
}

impl DelimitedOptions {
    /// The options of a table whose malformed rows have this fate.
    pub fn of(table: &Table, malformed: Malformed) -> Result<Self> {
        let WriteFormat::Text { options: text, .. } = WriteFormat::of(&table.storage, &table.properties)? else {
            return Err(Error::internal("a table of delimited text has its options"));
        };
        let property =
            |key: &str| table.properties.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, v)| v.trim());
        let skip = match property("skip.header.line.count") {
            None => 0,
            Some(count) => count.parse().map_err(|_| {
                Error::user("INVALID_TABLE_PROPERTY", format!("'skip.header.line.count' is \"{count}\""))
                    .with_hint("use a number of lines")
            })?,
        };
        let habits = match text.style {
            TextStyle::Delimited => Habits::Lazy,
            TextStyle::Raw => Habits::Raw,
            TextStyle::Csv { .. } if table.storage.serde.is_some() => Habits::OpenCsv,
            TextStyle::Csv { .. } => Habits::Csv,
        };
        let (says_header, is_named) = match property("csv.header").map(str::to_ascii_lowercase).as_deref() {
            None => (false, false),
            Some("true") => (true, true),
            Some("false") => (true, false),
            Some(other) => {
                return Err(Error::user("INVALID_TABLE_PROPERTY", format!("'csv.header' is \"{other}\""))
                    .with_hint("use 'true' or 'false'"));
            }
        };
        let declared = ["separatorchar", "field.delim", "csv.field-delimiter", "delimiter", "serialization.format"];
        let serde = &table.storage.serde_properties;
        let has_delimiter = table
            .properties
            .keys()
            .chain(serde.keys())
            .any(|key| declared.iter().any(|declared| key.eq_ignore_ascii_case(declared)));
        Ok(Self { text, habits, skip, is_named, says_header, has_delimiter, malformed })
    }

    /// Whether columns can be found in the files.
    pub(crate) fn is_inferable(&self) -> bool {
        match self.habits {
            Habits::Csv | Habits::OpenCsv => true,
            Habits::Lazy => self.has_delimiter,
            Habits::Raw => false,
        }
    }

    /// Whether a line's end is always a record's end.
    pub(crate) fn is_by_line(&self) -> bool {
        matches!(self.habits, Habits::Lazy | Habits::Raw)
    }
}

/// Where a record surely starts after a cut, in files whose records are lines.
pub(crate) fn line_start(window: &[u8]) -> Option<usize> {
    memchr::memchr(b'\n', window).map(|at| at + 1)
}

/// Where a record is, for when it is rejected.
#[derive(Debug, Clone, Copy)]
struct Record {
    start: usize,
    end: usize,
    line: u64,
}

/// Reads one file.
pub(crate) struct DelimitedReader {
    options: DelimitedOptions,
    splitter: Splitter,
    schema: SchemaRef,
    /// Names of the columns in the order of the file's fields.
    names: Vec<String>,
    /// For each column wanted the field it is taken from.
    places: Vec<Option<usize>>,
    columns: Vec<TextColumn>,
    records: Vec<Record>,
    faults: Vec<(usize, String)>,
    buffer: Bytes,
    at: usize,
    offset: u64,
    line: u64,
    is_last: bool,
    /// Lines still to skip, and then the line of names.
    to_skip: usize,
    needs_names: bool,
}

impl DelimitedReader {
    /// A reader of the columns `schema` of a file with the fields `declared`; `is_start` if it begins with its first
    /// byte, where the header is.
    pub(crate) fn new(schema: SchemaRef, declared: &[FieldRef], options: &DelimitedOptions, is_start: bool) -> Self {
        let names: Vec<String> = declared.iter().map(|field| field.name().to_lowercase()).collect();
        let columns = schema.fields().iter().map(|field| TextColumn::new(field.data_type())).collect();
        let mut reader = Self {
            splitter: Splitter::new(&options.text, options.habits),
            to_skip: if is_start { options.skip } else { 0 },
            needs_names: is_start && options.is_named,
            options: options.clone(),
            schema,
            names,
            places: Vec::new(),
            columns,
            records: Vec::new(),
            faults: Vec::new(),
            buffer: Bytes::new(),
            at: 0,
            offset: 0,
            line: 1,
            is_last: false,
        };
        reader.place();
        reader
    }

    fn place(&mut self) {
        let position = |name: &str| self.names.iter().position(|found| *found == name.to_lowercase());
        self.places = self.schema.fields().iter().map(|field| position(field.name())).collect();
    }

    /// Takes one record; `false` if more bytes are needed.
    fn record(&mut self) -> Result<bool> {
        let rest = &self.buffer[self.at..];
        let Some(length) = self.splitter.record(rest, self.is_last) else {
            if rest.len() > RECORD_BYTES_MAX {
                return Err(Error::data(
                    "HIVE_CURSOR_ERROR",
                    format!("line {}: a record is longer than 32 MB", self.line),
                )
                .with_hint("a quote may be missing at its end"));
            }
            return Ok(false);
        };
        let whole = Record { start: self.at, end: self.at + length, line: self.line };
        let bytes = self.buffer.slice(whole.start..whole.end);
        self.line += memchr::memchr_iter(b'\n', &bytes).count() as u64;
        self.at = whole.end;
        let text = trim_end(&bytes);
        if self.to_skip > 0 {
            self.to_skip -= 1;
        } else if self.needs_names {
            self.needs_names = false;
            let mut fields = Fields::default();
            self.splitter.fields(without_mark(text, whole.start as u64 + self.offset), &mut fields);
            self.names = fields.texts().map(|name| String::from_utf8_lossy(name).to_lowercase()).collect();
            self.place();
        } else if !text.is_empty() || self.is_row_when_blank() {
            let text = without_mark(text, whole.start as u64 + self.offset);
            self.add(text, Record { end: whole.start + trim_end(&bytes).len(), ..whole });
        }
        Ok(true)
    }

    /// A blank line is a row where a lone column may be empty; elsewhere it is between records.
    fn is_row_when_blank(&self) -> bool {
        matches!(self.options.habits, Habits::Raw | Habits::Lazy)
    }

    fn add(&mut self, text: &[u8], record: Record) {
        let row = self.records.len();
        self.records.push(record);
        let mut fields = Fields::default();
        self.splitter.fields(text, &mut fields);
        let found = fields.len();
        let expected = self.names.len();
        let fault = match self.options.habits {
            Habits::Csv if fields.is_open() => Some("a quote is not closed".to_owned()),
            Habits::Csv if found != expected => Some(format!("{found} fields where {expected} are expected")),
            Habits::Csv | Habits::Lazy | Habits::OpenCsv | Habits::Raw => None,
        };
        if let Some(fault) = fault {
            self.faults.push((row, fault));
            self.columns.iter_mut().for_each(TextColumn::null);
            return;
        }
        for (index, (column, place)) in self.columns.iter_mut().zip(&self.places).enumerate() {
            let field = place.and_then(|place| fields.get(place));
            if let Err(reason) = column.push(field, self.options.habits, &self.options.text) {
                let name = self.schema.field(index).name();
                self.faults.push((row, format!("column \"{name}\": {reason}")));
            }
        }
    }

    /// The batch so far, if it holds anything.
    fn flush(&mut self) -> Result<Option<FileRows>> {
        if self.records.is_empty() {
            return Ok(None);
        }
        let rows = self.records.len();
        let mut nulled = 0;
        let mut faults = std::mem::take(&mut self.faults);
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for (column, field) in self.columns.iter_mut().zip(self.schema.fields()) {
            let (array, misfits) = column.finish(self.options.habits, &self.options.text)?;
            match self.options.habits {
                Habits::Lazy => nulled += misfits.len() as u64,
                Habits::OpenCsv | Habits::Csv | Habits::Raw => faults.extend(misfits.into_iter().map(|(row, text)| {
                    (
                        row,
                        format!(
                            "column \"{}\": \"{text}\" is no {}",
                            field.name(),
                            super::parquet::widen::spelled(field.data_type())
                        ),
                    )
                })),
            }
            arrays.push(array);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?;
        let records = std::mem::take(&mut self.records);
        let (rows, rejected) = self.judge(batch, &records, faults)?;
        Ok(Some(FileRows { rows, rejected, values_nulled: nulled }))
    }

    /// Takes malformed rows out of a batch, or makes rows of NULLs of them.
    fn judge(
        &self,
        batch: RecordBatch,
        records: &[Record],
        mut faults: Vec<(usize, String)>,
    ) -> Result<(RecordBatch, Vec<RejectedText>)> {
        if faults.is_empty() {
            return Ok((batch, Vec::new()));
        }
        faults.sort_by_key(|(row, _)| *row);
        faults.dedup_by_key(|(row, _)| *row);
        let mut bad = vec![false; records.len()];
        faults.iter().for_each(|(row, _)| bad[*row] = true);
        if self.options.malformed == Malformed::Null {
            let mask = BooleanArray::from(bad);
            let columns = batch.columns().iter().map(|column| nullif(column, &mask)).collect::<Result<Vec<_>, _>>()?;
            let options = RecordBatchOptions::new().with_row_count(Some(records.len()));
            return Ok((RecordBatch::try_new_with_options(batch.schema(), columns, &options)?, Vec::new()));
        }
        let rejected = faults.into_iter().map(|(row, reason)| {
            let Record { start, end, line } = records[row];
            RejectedText { offset: self.offset + start as u64, line, reason, raw: self.buffer.slice(start..end) }
        });
        let rejected = rejected.collect();
        let good: BooleanArray = bad.into_iter().map(|is_bad| Some(!is_bad)).collect();
        Ok((filter_record_batch(&batch, &good)?, rejected))
    }
}

impl RowReader for DelimitedReader {
    fn starts_at(&mut self, offset: u64, line: u64) {
        (self.offset, self.line) = (offset, line);
    }

    fn feed(&mut self, bytes: Bytes) {
        self.offset += self.at as u64;
        let rest = self.buffer.slice(self.at..);
        self.buffer = if rest.is_empty() { bytes } else { [rest, bytes].concat().into() };
        self.at = 0;
    }

    fn finish_input(&mut self) {
        self.is_last = true;
    }

    fn next_rows(&mut self) -> Result<Option<FileRows>> {
        while self.records.len() < BATCH_ROWS && self.at < self.buffer.len() {
            if !self.record()? {
                break;
            }
        }
        self.flush()
    }
}

fn trim_end(record: &[u8]) -> &[u8] {
    let record = record.strip_suffix(b"\n").unwrap_or(record);
    record.strip_suffix(b"\r").unwrap_or(record)
}

/// A record without the mark of UTF-8 that some programs put at the start of a file.
fn without_mark(text: &[u8], offset: u64) -> &[u8] {
    if offset == 0 { text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text) } else { text }
}

#[cfg(test)]
mod tests;
