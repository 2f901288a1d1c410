//! A JSON file, whole or in chunks, as batches of rows.
//!
//! Invariant: every byte belongs to a row, to a rejected row or to what separates them; offsets and lines are those of
//! the file, also over chunks.

use arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use bytes::Bytes;
use headwater_engine::error::Result;

use super::{
    frame::{Found, Frame},
    options::{JsonOptions, Malformed},
    rows::{Refusal, Rows},
};

/// Part of a file that did not become a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedText {
    /// First byte in the file, counted from 0.
    pub offset: u64,
    /// Line of that byte, counted from 1.
    pub line: u64,
    /// Why, in words a user can act on.
    pub reason: String,
    /// The bytes themselves, without the end of the line.
    pub raw: Bytes,
}

/// Rows of a file, and what was rejected between them.
#[derive(Debug, Clone)]
pub struct FileRows {
    /// The rows.
    pub rows: RecordBatch,
    /// What did not become a row, in order.
    pub rejected: Vec<RejectedText>,
    /// Values that became NULL because their text did not fit.
    pub values_nulled: u64,
    /// First byte of each row in the file, if the reader was asked for that.
    pub starts: Option<Vec<u64>>,
}

/// Reads one JSON file: feed it bytes, take batches.
///
/// ```text
/// loop { match reader.next_rows()? { Some(rows) => .., None if more => reader.feed(chunk), None => break } }
/// ```
/// with `finish_input` before the last `next_rows`. A file fed whole is not copied.
#[derive(Debug)]
pub struct JsonReader {
    rows: Rows,
    frame: Frame,
    malformed: Malformed,
    buffer: Bytes,
    at: usize,
    is_utf8: bool,
    /// The chunk that the buffer ends with a part of.
    ahead: Option<Ahead>,
    /// The last chunk was fed.
    has_all: bool,
    /// The rest of a row that was too long is skipped to the end of its line.
    skips_line: bool,
    /// Offset of the buffer's first byte in the file.
    offset: u64,
    /// Line and position in the buffer up to which lines are counted.
    line: u64,
    counted: usize,
    rejected: Vec<RejectedText>,
    rows_nulled: u64,
    /// Where the rows of the batch start, if that is wanted.
    starts: Option<Vec<u64>>,
    rows_max: usize,
    row_bytes_max: usize,
}

/// A chunk of which only the first bytes are in the buffer, behind the row that the chunk before it cut: enough to end that
/// row, so that the others are read where they are.
#[derive(Debug)]
struct Ahead {
    chunk: Bytes,
    /// How many of its bytes the buffer ends with.
    shared: usize,
}

/// Why a batch is not filled further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// It is full.
    Full,
    /// The buffer ends within a row.
    Starved,
    /// There is no more row.
    End,
}

/// Bytes of a chunk that are first put behind a cut row, and by how much that grows when the row is longer.
const SHARED_MIN: usize = 4 << 10;
const SHARED_GROWTH: usize = 16;
/// Bytes of rows after which a batch ends, so that offsets of text columns stay far from their limit.
const BATCH_BYTES_MAX: usize = 64 << 20;
/// Rejected rows after which a batch ends.
const REJECTED_MAX: usize = 1024;

impl JsonReader {
    /// A reader of the columns of `schema`.
    pub fn try_new(schema: SchemaRef, options: &JsonOptions) -> Result<Self> {
        Ok(Self {
            rows: Rows::new(schema, options)?,
            frame: Frame::new(options.records.clone()),
            malformed: options.malformed,
            buffer: Bytes::new(),
            at: 0,
            is_utf8: true,
            ahead: None,
            has_all: false,
            skips_line: false,
            offset: 0,
            line: 1,
            counted: 0,
            rejected: Vec::new(),
            rows_nulled: 0,
            starts: None,
            rows_max: options.batch_rows_max,
            row_bytes_max: options.row_bytes_max,
        })
    }

    /// The same for some of the columns of `table`: what goes by position goes by theirs.
    #[must_use]
    pub fn of_table(mut self, table: &SchemaRef) -> Self {
        self.rows.declare(table);
        self
    }

    /// Keeps to the general parser, to compare it with the fast way.
    #[cfg(test)]
    pub(super) fn learn_nothing(&mut self) {
        self.rows.learn_nothing();
    }

    /// Says where in the file the first byte fed stands, for a part of a file.
    pub fn starts_at(&mut self, offset: u64, line: u64) {
        (self.offset, self.line) = (offset, line);
    }

    /// Says of each batch where its rows start.
    pub fn keep_starts(&mut self) {
        self.starts.get_or_insert_default();
    }

    /// Adds the next bytes of the file, once [`Self::next_rows`] asks for more.
    pub fn feed(&mut self, chunk: Bytes) {
        let rest = self.buffer.len() - self.at;
        if rest == 0 {
            self.go_on_in(chunk);
        } else {
            self.share(Ahead { chunk, shared: 0 }, SHARED_MIN);
        }
    }

    /// Goes on with the chunk ahead; `false` if there is none.
    fn advance(&mut self) -> bool {
        let Some(ahead) = self.ahead.take() else { return false };
        match ahead.shared.checked_sub(self.buffer.len() - self.at) {
            Some(read) => self.go_on_in(ahead.chunk.slice(read..)),
            None => {
                let wanted = ahead.shared.saturating_mul(SHARED_GROWTH);
                self.share(ahead, wanted);
            }
        }
        true
    }

    /// Puts bytes of the chunk up to `wanted` behind what is left of the buffer.
    fn share(&mut self, ahead: Ahead, wanted: usize) {
        let wanted = wanted.min(ahead.chunk.len());
        let joined = [&self.buffer[self.at..], &ahead.chunk[ahead.shared..wanted]].concat();
        self.go_on_in(joined.into());
        self.ahead = (wanted < ahead.chunk.len()).then_some(Ahead { shared: wanted, ..ahead });
    }

    /// Makes `buffer`, which starts with what is not yet read, the buffer.
    fn go_on_in(&mut self, buffer: Bytes) {
        self.count_lines(self.at);
        self.offset += self.at as u64;
        (self.buffer, self.at, self.counted) = (buffer, 0, 0);
        self.is_utf8 = simdutf8::basic::from_utf8(without_cut_character(&self.buffer)).is_ok();
    }

    /// Says that the file has no more bytes.
    pub fn finish_input(&mut self) {
        self.has_all = true;
    }

    /// Whether no byte follows those of the buffer.
    fn is_last(&self) -> bool {
        self.has_all && self.ahead.is_none()
    }

    /// Offset in the file of the first byte that is not yet part of a row.
    pub fn position(&self) -> u64 {
        self.offset + self.at as u64
    }

    /// The next batch; `None` when more bytes are needed, or at the end once the input is finished.
    pub fn next_rows(&mut self) -> Result<Option<FileRows>> {
        loop {
            match self.fill() {
                Stop::Full => return self.take().map(Some),
                Stop::End => return self.last_rows(),
                Stop::Starved if self.advance() => {}
                Stop::Starved if self.has_all => return self.last_rows(),
                Stop::Starved => return Ok(None),
            }
        }
    }

    fn fill(&mut self) -> Stop {
        let is_last = self.is_last();
        while self.rows.len() < self.rows_max
            && self.rows.bytes() < BATCH_BYTES_MAX
            && self.rejected.len() < REJECTED_MAX
        {
            if self.skips_line && !self.skip_line() {
                return Stop::Starved;
            }
            match self.frame.find(&self.buffer, self.at, is_last) {
                Found::Row(start) => {
                    self.at = start;
                    if !self.row() {
                        return Stop::Starved;
                    }
                }
                Found::NeedMore(at) => {
                    self.at = at;
                    if !self.is_too_long() {
                        return Stop::Starved;
                    }
                    self.refuse_too_long();
                }
                Found::End => {
                    self.at = self.buffer.len();
                    return Stop::End;
                }
                Found::Malformed { start, reason } => {
                    self.at = start;
                    if !self.refuse(None, reason.to_owned()) {
                        return Stop::Starved;
                    }
                }
            }
        }
        Stop::Full
    }

    fn last_rows(&mut self) -> Result<Option<FileRows>> {
        if self.rows.len() == 0 && self.rejected.is_empty() { Ok(None) } else { self.take().map(Some) }
    }

    fn take(&mut self) -> Result<FileRows> {
        let (rows, values_nulled) = self.rows.finish()?;
        let values_nulled = values_nulled + std::mem::take(&mut self.rows_nulled);
        let starts = self.starts.as_mut().map(std::mem::take);
        Ok(FileRows { rows, rejected: std::mem::take(&mut self.rejected), values_nulled, starts })
    }

    /// Reads the row that starts here; `false` when more bytes are needed.
    #[inline]
    fn row(&mut self) -> bool {
        let start = self.at;
        match self.rows.add(&self.buffer, start, self.is_utf8) {
            Ok(end) => {
                self.frame.row_read(&self.buffer[start..end]);
                self.at = end;
                self.starts_row(start);
                true
            }
            Err(Refusal::Incomplete) if self.is_too_long() => {
                self.refuse_too_long();
                true
            }
            Err(Refusal::Incomplete) if !self.is_last() => false,
            Err(Refusal::Incomplete) => self.refuse(None, "the row ends early".to_owned()),
            Err(Refusal::Malformed { end, reason }) => self.refuse(end, reason),
        }
    }

    #[inline]
    fn starts_row(&mut self, start: usize) {
        if let Some(starts) = &mut self.starts {
            starts.push(self.offset + start as u64);
        }
    }

    fn is_too_long(&self) -> bool {
        self.buffer.len() - self.at > self.row_bytes_max
    }

    /// Refuses a row that has no end so far; where rows are lines, only its line.
    fn refuse_too_long(&mut self) {
        let start = self.at;
        let most = (start + self.row_bytes_max).min(self.buffer.len());
        let line = memchr::memchr(b'\n', &self.buffer[start..most]).filter(|_| self.frame.has_lines());
        let end = line.map_or(most, |length| start + length.max(1));
        self.reject(start, end, format!("the row is longer than {} bytes", self.row_bytes_max));
        self.frame.row_refused();
        self.at = end;
        self.skips_line = line.is_none();
    }

    /// Skips to the end of the line; `false` when it is not in the buffer.
    fn skip_line(&mut self) -> bool {
        let newline = memchr::memchr(b'\n', &self.buffer[self.at..]);
        self.at = newline.map_or(self.buffer.len(), |found| self.at + found);
        self.skips_line = newline.is_none();
        newline.is_some()
    }

    /// Rejects what stands here, up to `end` or where rows can start again; `false` when more bytes are needed.
    fn refuse(&mut self, end: Option<usize>, reason: String) -> bool {
        let start = self.at;
        match end.or_else(|| self.frame.after_malformed(&self.buffer, start, self.is_last())) {
            Some(end) => {
                self.reject(start, end, reason);
                self.frame.row_refused();
                self.at = end;
                true
            }
            None if self.is_too_long() => {
                self.refuse_too_long();
                true
            }
            None => false,
        }
    }

    fn reject(&mut self, start: usize, end: usize, reason: String) {
        if self.malformed == Malformed::Null {
            self.rows.add_nulls();
            self.rows_nulled += 1;
            self.starts_row(start);
            return;
        }
        self.count_lines(start);
        let raw = self.buffer.slice(start..end);
        let raw = raw.slice_ref(raw.trim_ascii_end());
        self.rejected.push(RejectedText { offset: self.offset + start as u64, line: self.line, reason, raw });
    }

    fn count_lines(&mut self, to: usize) {
        let lines = memchr::memchr_iter(b'\n', &self.buffer[self.counted..to]).count();
        self.line += lines as u64;
        self.counted = to;
    }
}

/// Bytes of the character that starts with this byte.
fn character_length(lead: u8) -> usize {
    match lead {
        0xC0..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF7 => 4,
        _ => 1,
    }
}

/// The bytes without a character that the next chunk may complete.
fn without_cut_character(bytes: &[u8]) -> &[u8] {
    let tail = bytes.len().saturating_sub(3);
    match bytes[tail..].iter().rposition(|&byte| byte >= 0xC0) {
        Some(lead) if tail + lead + character_length(bytes[tail + lead]) > bytes.len() => &bytes[..tail + lead],
        _ => bytes,
    }
}
