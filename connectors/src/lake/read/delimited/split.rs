//! Bytes to records, and records to fields.
//!
//! Invariant: a quoted field may hold delimiters and newlines; nothing else does.

use super::Habits;
use crate::lake::write::format::{TextOptions, TextStyle};

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

    /// Whether a quote at the start of a field has no other at its end.
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
        let quotes = match options.style {
            TextStyle::Csv { quote, escape } => {
                // OpenCSVSerde takes the quote as its own escape for the backslash.
                let escape = if habits == Habits::OpenCsv && escape == quote { b'\\' } else { escape };
                Some((quote, escape))
            }
            TextStyle::Delimited | TextStyle::Raw => None,
        };
        Self { delimiter: options.field_delimiter, quotes, escape: options.escape, habits }
    }

    /// Length of the first record with its line's end; `None` if it is not all there.
    pub(super) fn record(&self, text: &[u8], is_last: bool) -> Option<usize> {
        let whole = || is_last.then_some(text.len());
        let Some((quote, escape)) = self.quotes else {
            return memchr::memchr(b'\n', text).map(|at| at + 1).or_else(whole);
        };
        let (mut at, mut is_inside) = (0, false);
        loop {
            let Some(found) = memchr::memchr3(b'\n', quote, escape, &text[at..]) else { return whole() };
            let byte = text[at + found];
            at += found + 1;
            if byte == quote {
                is_inside = !is_inside;
            } else if byte == escape {
                at = (at + 1).min(text.len());
            } else if !is_inside {
                return Some(at);
            }
        }
    }

    /// Cuts a record without its line's end.
    pub(super) fn fields(&self, text: &[u8], out: &mut Fields) {
        match self.quotes {
            _ if self.habits == Habits::Raw => {
                out.buffer.extend_from_slice(text);
                out.end(false);
            }
            Some((quote, escape)) => self.quoted(text, quote, escape, out),
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

    fn quoted(&self, text: &[u8], quote: u8, escape: u8, out: &mut Fields) {
        let (mut is_inside, mut was_quoted, mut at) = (false, false, 0);
        while at < text.len() {
            let byte = text[at];
            let next = text.get(at + 1).copied();
            if is_inside && byte == quote && next == Some(quote) {
                out.buffer.push(quote);
                at += 1;
            } else if byte == escape && byte != quote {
                if let Some(next) = next {
                    // An escaped separator outside quotes still splits, as OpenCSVSerde has it.
                    if is_inside || next != self.delimiter {
                        out.buffer.push(next);
                        at += 1;
                    }
                }
            } else if byte == quote && (is_inside || !self.has_text(out)) {
                is_inside = !is_inside;
                was_quoted = true;
            } else if byte == quote && self.habits == Habits::OpenCsv {
                is_inside = !is_inside;
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

    /// Whether the field under way holds something already.
    fn has_text(&self, out: &Fields) -> bool {
        out.buffer.len() > out.ends.last().map_or(0, |(end, _)| *end)
    }
}
