//! Bytes to records, and records to fields.
//!
//! Invariant: a field of our own CSV that is quoted from its start may hold delimiters and newlines; nothing else does.

use super::Habits;
use crate::lake::write::format::TextOptions;

/// The fields of one record: in one buffer, without quotes and escapes.
#[derive(Debug, Default)]
pub(super) struct Fields {
    buffer: Vec<u8>,
    /// End of each field, and whether its text is escaped or quoted, so that it is no mark of NULL.
    ends: Vec<(usize, bool)>,
    /// A quote is open at the end.
    is_open: bool,
}

/// One field.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldText<'a> {
    pub(super) text: &'a [u8],
    /// It was quoted.
    pub(super) is_quoted: bool,
}

impl Fields {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether a quote is open where the record ends.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    pub(super) fn get(&self, index: usize) -> Option<FieldText<'_>> {
        let (end, is_quoted) = *self.ends.get(index)?;
        let start = if index == 0 { 0 } else { self.ends[index - 1].0 };
        Some(FieldText { text: &self.buffer[start..end], is_quoted })
    }

    pub(super) fn texts(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|index| self.get(index).map(|field| field.text))
    }

    fn end(&mut self, is_quoted: bool) {
        self.ends.push((self.buffer.len(), is_quoted));
    }
}

/// How far a record has been looked through that is not all there.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Scan {
    /// Byte to go on at.
    at: usize,
    /// A quote is open, and where it was opened.
    is_inside: bool,
    opened: usize,
}

impl Scan {
    /// Whether a quote is open where the record ends.
    pub(super) fn is_open(self) -> bool {
        self.is_inside
    }
}

/// Cuts text by a table's delimiters.
#[derive(Debug)]
pub(super) struct Splitter {
    delimiter: u8,
    /// Quote and escape, where there are quotes.
    quotes: Option<(u8, u8)>,
    escape: Option<u8>,
    habits: Habits,
}

impl Splitter {
    pub(super) fn new(options: &TextOptions, habits: Habits) -> Self {
        let quotes = options.style.quotes();
        Self { delimiter: options.field_delimiter, quotes, escape: options.escape, habits }
    }

    /// Length of the first record with its line's end, and whether a quote in it is not closed: then it is its first line,
    /// since what the quote has swallowed is lines of their own. `None` if it is not all there.
    pub(super) fn first(&self, text: &[u8], is_last: bool) -> Option<(usize, bool)> {
        let mut scan = Scan::default();
        let length = self.record(text, &mut scan, is_last)?;
        let line = memchr::memchr(b'\n', text).map(|at| at + 1).filter(|_| scan.is_open());
        Some((line.unwrap_or(length), scan.is_open()))
    }

    /// Length of the first record with its line's end; `None` if it is not all there, and then `scan` says where to go on
    /// once more follows.
    pub(super) fn record(&self, text: &[u8], scan: &mut Scan, is_last: bool) -> Option<usize> {
        let Some((quote, escape)) = self.quotes.filter(|_| self.habits == Habits::Csv) else {
            let found = memchr::memchr(b'\n', &text[scan.at..]).map(|at| scan.at + at + 1);
            scan.at = found.unwrap_or(text.len());
            return found.or_else(|| is_last.then_some(text.len()));
        };
        loop {
            let Some(found) = memchr::memchr3(b'\n', quote, escape, &text[scan.at..]) else {
                scan.at = text.len();
                return is_last.then_some(text.len());
            };
            let (at, byte) = (scan.at + found, text[scan.at + found]);
            let next = text.get(at + 1).copied();
            scan.at = at;
            if byte == b'\n' && !scan.is_inside {
                scan.at = at + 1;
                return Some(at + 1);
            }
            if next.is_none() && !is_last {
                // What a quote or an escape means depends on what follows.
                return None;
            }
            scan.at += 1;
            if byte == quote && scan.is_inside {
                // Two of them are one that belongs to the field.
                if next == Some(quote) {
                    scan.at += 1;
                    continue;
                }
                let is_end = next.is_none_or(|next| next == self.delimiter || next == b'\n' || next == b'\r');
                if !is_end && memchr::memchr(b'\n', &text[scan.opened..at]).is_some() {
                    // It stands within a text some lines on: it is another field's, and the first was never closed.
                    return Some(scan.at);
                }
                scan.is_inside = false;
            } else if byte == quote {
                (scan.is_inside, scan.opened) = (self.is_field_start(text, at), at);
            } else if byte == escape && (scan.is_inside || (next != Some(b'\n') && next != Some(self.delimiter))) {
                scan.at = (at + 2).min(text.len());
            }
        }
    }

    /// Whether a field starts here, so that a quote here opens it.
    fn is_field_start(&self, text: &[u8], at: usize) -> bool {
        match text[..at] {
            [] | [0xef, 0xbb, 0xbf] => true,
            [.., before] => before == self.delimiter,
        }
    }

    /// Cuts a record without its line's end.
    pub(super) fn fields(&self, text: &[u8], out: &mut Fields) {
        match self.quotes {
            _ if self.habits == Habits::Raw => {
                out.buffer.extend_from_slice(text);
                out.end(false);
            }
            Some(quotes) if self.habits == Habits::OpenCsv => self.open_csv(text, quotes, out),
            Some(quotes) => self.quoted(text, quotes, out),
            // Escapes are undone once nested values are cut.
            None => {
                let mut start = 0;
                let mut at = 0;
                while at < text.len() {
                    if Some(text[at]) == self.escape {
                        at += 2;
                        continue;
                    }
                    if text[at] == self.delimiter {
                        out.buffer.extend_from_slice(&text[start..at]);
                        out.end(false);
                        start = at + 1;
                    }
                    at += 1;
                }
                out.buffer.extend_from_slice(&text[start..]);
                out.end(false);
            }
        }
    }

    /// Fields of our own CSV: a quote opens a field at its start only, and by the rules of [`Splitter::record`].
    fn quoted(&self, text: &[u8], (quote, escape): (u8, u8), out: &mut Fields) {
        let (mut is_inside, mut was_quoted, mut at) = (false, false, 0);
        while at < text.len() {
            let byte = text[at];
            let next = text.get(at + 1).copied();
            if byte == quote && is_inside && next == Some(quote) {
                out.buffer.push(quote);
                at += 1;
            } else if byte == quote && (is_inside || self.is_field_start(text, at)) {
                is_inside = !is_inside;
                was_quoted = true;
            } else if byte == escape && byte != quote && next.is_some() {
                // An escaped separator outside quotes still splits.
                if let Some(next) = next.filter(|next| is_inside || *next != self.delimiter) {
                    out.buffer.push(next);
                    at += 1;
                }
            } else if byte == self.delimiter && !is_inside {
                out.end(was_quoted);
                was_quoted = false;
            } else {
                out.buffer.push(byte);
            }
            at += 1;
        }
        out.end(was_quoted);
        out.is_open = is_inside;
    }

    /// Fields of a line as OpenCSVSerde cuts it: quotes may open and close anywhere and stay where they stand within a
    /// text, an escape counts before a quote or another escape only, and a field that is still open at the end is none.
    fn open_csv(&self, text: &[u8], (quote, escape): (u8, u8), out: &mut Fields) {
        let (mut is_inside, mut is_field, mut was_quoted, mut at) = (false, false, false, 0);
        while at < text.len() {
            let byte = text[at];
            let next = text.get(at + 1).copied();
            if byte == escape {
                if (is_inside || is_field) && (next == Some(quote) || next == Some(escape)) {
                    out.buffer.extend(next);
                    at += 1;
                }
            } else if byte == quote {
                if (is_inside || is_field) && next == Some(quote) {
                    out.buffer.push(quote);
                    at += 1;
                } else {
                    let is_beside_text = at > 2 && text[at - 1] != self.delimiter;
                    if is_beside_text && next.is_some_and(|next| next != self.delimiter) {
                        self.quote_within(quote, out);
                    }
                    is_inside = !is_inside;
                    was_quoted = true;
                }
                is_field = !is_field;
            } else if byte == self.delimiter && !is_inside {
                out.end(was_quoted);
                (is_field, was_quoted) = (false, false);
            } else {
                out.buffer.push(byte);
                is_field = true;
            }
            at += 1;
        }
        out.is_open = is_inside;
        if !is_inside {
            out.end(was_quoted);
        }
    }

    /// A quote within a text belongs to it, unless only blanks stand before it: then it opens the field.
    fn quote_within(&self, quote: u8, out: &mut Fields) {
        let start = out.ends.last().map_or(0, |(end, _)| *end);
        let before = &out.buffer[start..];
        if !before.is_empty() && before.iter().all(u8::is_ascii_whitespace) {
            out.buffer.truncate(start);
        } else {
            out.buffer.push(quote);
        }
    }
}

/// Where a record surely starts after a cut, in files whose records are lines.
pub(crate) fn line_start(window: &[u8]) -> Option<usize> {
    memchr::memchr(b'\n', window).map(|at| at + 1)
}

/// A record without its line's end.
pub(super) fn trim_end(record: &[u8]) -> &[u8] {
    let record = record.strip_suffix(b"\n").unwrap_or(record);
    record.strip_suffix(b"\r").unwrap_or(record)
}

/// A record without the mark of UTF-8 that some programs put at the start of a file.
pub(super) fn without_mark(text: &[u8], offset: u64) -> &[u8] {
    if offset == 0 { text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text) } else { text }
}
