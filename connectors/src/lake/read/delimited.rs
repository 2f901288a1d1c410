//! Delimited text: LazySimpleSerDe's lines, OpenCSVSerde, CSV as everybody else writes it, and raw lines.
//!
//! ```text
//!  bytes -> records (quotes may hold newlines) -> fields -> text columns -> values of the declared types
//! ```
//!
//! Invariant: a record is added to every column or rejected; values are judged a column at a time once a batch is
//! full, and a record with a value that its SerDe refuses is rejected as a whole.

use std::{collections::HashSet, sync::Arc};

use arrow::{
    array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions},
    compute::{filter_record_batch, nullif},
    datatypes::{FieldRef, SchemaRef},
};
use bytes::{Bytes, BytesMut};
use headwater_engine::error::Result;

use self::{
    options::Habits,
    split::{Fields, Scan, Splitter, trim_end, without_mark},
    values::TextColumn,
};
use super::{FileRows, RejectedText, RowReader};
use crate::lake::format::Malformed;

pub(crate) mod infer;
mod options;
mod payloads;
mod split;
mod values;

pub(crate) use options::DelimitedOptions;
pub(crate) use payloads::CsvDecoder;
pub(crate) use split::line_start;

/// Most rows of a batch.
const BATCH_ROWS: usize = 8192;
/// Longest record, as in Athena.
const RECORD_BYTES_MAX: usize = 32 << 20;
/// Left-over bytes from which on the buffer is added to rather than made anew.
const GROWN_BYTES: usize = 1 << 20;

/// What is wrong with a file whose first line should name columns, and each of its records.
const NAMELESS: &str = "the first line of the file, its header, names none of the table's columns";

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
    /// Values so far that are NULL because their field has no end.
    nulled: u64,
    buffer: Bytes,
    at: usize,
    offset: u64,
    line: u64,
    is_last: bool,
    /// Lines still to skip, and then the line of names.
    to_skip: usize,
    needs_names: bool,
    /// The line of names has none of the columns.
    is_nameless: bool,
    /// Fields of the records so far, where files may have fewer than there are columns.
    width: Option<usize>,
    /// How far the record that is not all there was looked through.
    scan: Scan,
    /// The rest of a record that was too long is left out, up to its line's end.
    skips_line: bool,
    record_bytes_max: usize,
    keeps_starts: bool,
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
            nulled: 0,
            buffer: Bytes::new(),
            at: 0,
            offset: 0,
            line: 1,
            is_last: false,
            is_nameless: false,
            width: None,
            scan: Scan::default(),
            skips_line: false,
            record_bytes_max: RECORD_BYTES_MAX,
            keeps_starts: false,
        };
        reader.place();
        reader
    }

    fn place(&mut self) {
        // Blanks around a name in a header are part of it, unless it is nothing without them.
        let position = |name: &str| {
            let name = name.to_lowercase();
            let exact = self.names.iter().position(|found| *found == name);
            exact.or_else(|| self.names.iter().position(|found| found.trim() == name))
        };
        self.places = self.schema.fields().iter().map(|field| position(field.name())).collect();
    }

    /// Takes one record; `false` if more bytes are needed.
    fn record(&mut self) -> bool {
        if self.skips_line && !self.skip_line() {
            return false;
        }
        let rest = &self.buffer[self.at..];
        let found = self.splitter.record(rest, &mut self.scan, self.is_last);
        let found = found.filter(|length| *length <= self.record_bytes_max);
        if found.is_none() && rest.len() <= self.record_bytes_max {
            return false;
        }
        let is_open = std::mem::take(&mut self.scan).is_open();
        let line = memchr::memchr(b'\n', rest).map(|at| at + 1);
        // What a quote that is not closed has swallowed is lines of their own.
        let (length, fault) = match found {
            Some(length) if !is_open => (length, None),
            Some(length) => (line.unwrap_or(length), Some("a quote is not closed".to_owned())),
            None => {
                self.skips_line = line.is_none();
                let reason = format!("a record is longer than {} bytes", self.record_bytes_max);
                (line.unwrap_or(rest.len()), Some(reason))
            }
        };
        let whole = Record { start: self.at, end: self.at + length, line: self.line };
        let bytes = self.buffer.slice(whole.start..whole.end);
        self.line += memchr::memchr_iter(b'\n', &bytes).count() as u64;
        self.at = whole.end;
        let text = trim_end(&bytes);
        let record = Record { end: whole.start + text.len(), ..whole };
        let text = without_mark(text, whole.start as u64 + self.offset);
        if self.to_skip > 0 {
            self.to_skip -= 1;
        } else if let Some(fault) = fault {
            self.needs_names = false;
            self.refuse(record, fault);
        } else if self.needs_names {
            self.needs_names = false;
            self.name(text);
            if self.is_nameless {
                self.refuse(record, NAMELESS.to_owned());
            }
        } else if !text.is_empty() || self.is_row_when_blank() {
            self.add(text, record);
        }
        true
    }

    /// Takes the names of the columns from the first line.
    fn name(&mut self, text: &[u8]) {
        let mut fields = Fields::default();
        self.splitter.fields(text, &mut fields);
        let declared = std::mem::take(&mut self.names);
        self.names = fields.texts().map(|name| String::from_utf8_lossy(name).to_lowercase()).collect();
        let is_named = |name: &String| self.names.iter().any(|found| found == name || found.trim() == name);
        self.is_nameless = !declared.is_empty() && !declared.iter().any(is_named);
        self.place();
    }

    /// Leaves out what is left of a line; `false` when its end is not in the buffer.
    fn skip_line(&mut self) -> bool {
        let newline = memchr::memchr(b'\n', &self.buffer[self.at..]);
        self.at = newline.map_or(self.buffer.len(), |at| self.at + at + 1);
        self.line += u64::from(newline.is_some());
        self.skips_line = newline.is_none();
        newline.is_some()
    }

    /// A record that is malformed whatever its fields are.
    fn refuse(&mut self, record: Record, reason: String) {
        self.faults.push((self.records.len(), reason));
        self.records.push(record);
        self.columns.iter_mut().for_each(TextColumn::null);
    }

    /// Why a record of so many fields is none of this file.
    fn misfit(&mut self, found: usize) -> Option<String> {
        let expected = self.names.len();
        let least = self.options.fields_min.unwrap_or(expected);
        let is_older = !self.options.is_named
            && (least..expected).contains(&found)
            && self.width.is_none_or(|width| width == found);
        if found != expected && !is_older {
            return Some(format!("{found} fields where {expected} are expected"));
        }
        self.width = Some(found);
        None
    }

    /// A blank line is a row where a lone column may be empty; elsewhere it is between records.
    fn is_row_when_blank(&self) -> bool {
        matches!(self.options.habits, Habits::Raw | Habits::Lazy)
    }

    fn add(&mut self, text: &[u8], record: Record) {
        let mut fields = Fields::default();
        self.splitter.fields(text, &mut fields);
        let fault = match self.options.habits {
            Habits::Csv | Habits::OpenCsv if self.is_nameless => Some(NAMELESS.to_owned()),
            Habits::Csv => self.misfit(fields.len()),
            Habits::OpenCsv if fields.is_open() => {
                self.nulled += 1;
                None
            }
            Habits::Lazy | Habits::OpenCsv | Habits::Raw => None,
        };
        if let Some(fault) = fault {
            return self.refuse(record, fault);
        }
        let row = self.records.len();
        self.records.push(record);
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
        let mut nulled = std::mem::take(&mut self.nulled);
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
        let bad: HashSet<usize> = faults.iter().map(|(row, _)| *row).collect();
        let is_null = self.options.malformed == Malformed::Null;
        let kept = records.iter().enumerate().filter(|(row, _)| is_null || !bad.contains(row));
        let starts = self.keeps_starts.then(|| kept.map(|(_, record)| self.start_of(record)).collect());
        let (rows, rejected) = self.judge(batch, &records, faults)?;
        let rows_nulled = if is_null { bad.len() as u64 } else { 0 };
        Ok(Some(FileRows { rows, rejected, values_nulled: nulled + rows_nulled, starts }))
    }

    /// First byte of a record in the file.
    fn start_of(&self, record: &Record) -> u64 {
        self.offset + record.start as u64
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
            RejectedText { offset: self.start_of(&records[row]), line, reason, raw: self.buffer.slice(start..end) }
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

    fn follows(&mut self, file_start: &[u8]) {
        // The part may begin within the header, where a file grew by a line at a time.
        let (mut at, mut line) = (0, 0);
        while (at as u64) < self.offset && line < self.options.skip + usize::from(self.options.is_named) {
            let Some((length, is_open)) = self.splitter.first(&file_start[at..], true) else { break };
            let record = &file_start[at..at + length];
            if line == self.options.skip && !record.ends_with(b"\n") {
                // Its names are not all there: nothing says what the fields are.
                self.is_nameless = true;
            } else if line == self.options.skip && !is_open {
                self.name(without_mark(trim_end(record), at as u64));
            }
            at += length;
            line += 1;
        }
        self.to_skip = self.options.skip.saturating_sub(line);
        self.needs_names = self.options.is_named && line <= self.options.skip;
    }

    fn keep_starts(&mut self) {
        self.keeps_starts = true;
    }

    fn feed(&mut self, bytes: Bytes) {
        self.offset += self.at as u64;
        let rest = std::mem::take(&mut self.buffer).split_off(self.at);
        self.at = 0;
        self.buffer = match rest.len() {
            0 => bytes,
            1..GROWN_BYTES => [rest, bytes].concat().into(),
            _ => {
                let mut grown = rest.try_into_mut().unwrap_or_else(|shared| BytesMut::from(shared.as_ref()));
                grown.extend_from_slice(&bytes);
                grown.freeze()
            }
        };
    }

    fn finish_input(&mut self) {
        self.is_last = true;
    }

    fn next_rows(&mut self) -> Result<Option<FileRows>> {
        while self.records.len() < BATCH_ROWS && self.at < self.buffer.len() {
            if !self.record() {
                break;
            }
        }
        self.flush()
    }
}

#[cfg(test)]
mod tests;
