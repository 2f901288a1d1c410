//! Where rows start: lines, objects run together, pretty printed objects, arrays of records, records below a path.
//!
//! ```text
//! stack empty --`[` before `{`--> Rows --`]`--> stack empty        rows are objects at the top or in Rows
//! stack empty --path step-------> Keys | Elements --..--> a row    with a record path
//! ```
//!
//! Invariant: a malformed row costs no row after it that starts on its own line.

use super::{
    lexer::{self, Fault, skip_blanks},
    options::{PathStep, RecordPath},
};

/// What stands at a position.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A row starts here.
    Row(usize),
    /// The bytes do not say; all before this position is done with.
    NeedMore(usize),
    /// Nothing follows.
    End,
    /// Bytes that lead to no row, to be reported.
    Malformed { start: usize, reason: &'static str },
}

/// An open container on the way to the rows.
#[derive(Debug, Clone, Copy)]
enum Level {
    /// An array whose elements are rows.
    Rows,
    /// An object in which the key of a path step is looked for.
    Keys(usize),
    /// An array that a path step leads through, and the index of the element that comes next.
    Elements(usize, usize),
}

/// Finds rows in bytes that come whole or in chunks.
#[derive(Debug)]
pub(super) struct Frame {
    path: RecordPath,
    stack: Vec<Level>,
    /// Whether rows end with their line; unknown before the first row.
    has_lines: Option<bool>,
    /// A row below a path was found and is not read yet.
    is_at_row: bool,
    /// A document was found, and the path led to its records, if to none of them.
    has_document: bool,
    has_records: bool,
}

enum Step {
    Go(usize),
    Found(Found),
}

impl Frame {
    pub(super) fn new(path: RecordPath) -> Self {
        let (has_document, has_records) = (false, path.0.is_empty());
        Self { path, stack: Vec::new(), has_lines: None, is_at_row: false, has_document, has_records }
    }

    /// Begins anew, for the next payload.
    pub(super) fn reset(&mut self) {
        self.stack.clear();
        self.has_lines = None;
        self.is_at_row = false;
        (self.has_document, self.has_records) = (false, self.path.0.is_empty());
    }

    /// What stands at or after `at`; `is_last` says that no bytes follow the buffer.
    #[inline]
    pub(super) fn find(&mut self, buffer: &[u8], mut at: usize, is_last: bool) -> Found {
        loop {
            at = skip_separators(buffer, at);
            let Some(&byte) = buffer.get(at) else {
                return if is_last { self.end(at) } else { Found::NeedMore(at) };
            };
            let step = match self.stack.last().copied() {
                _ if self.is_at_row => return Found::Row(at),
                None if byte == b'{' && self.path.0.is_empty() => return Found::Row(at),
                None => self.top(buffer, at, is_last),
                Some(Level::Rows) if byte != b']' => return Found::Row(at),
                Some(Level::Keys(_)) if byte == b'}' => self.pop(at),
                Some(Level::Rows | Level::Elements(..)) if byte == b']' => self.pop(at),
                Some(Level::Keys(step)) => self.key(buffer, at, step),
                Some(Level::Elements(step, index)) => self.element(buffer, at, (step, index)),
                Some(Level::Rows) => return Found::Row(at),
            };
            match step {
                Step::Go(next) => at = next,
                Step::Found(Found::NeedMore(start)) if is_last => {
                    return Found::Malformed { start, reason: "the document ends early" };
                }
                Step::Found(found) => return found,
            }
        }
    }

    /// What is to be said at the end of the input; once only.
    fn end(&mut self, start: usize) -> Found {
        let is_cut = !self.stack.is_empty();
        let is_beside = self.has_document && !self.has_records;
        self.stack.clear();
        self.has_records = true;
        match (is_cut, is_beside) {
            (true, _) => Found::Malformed { start, reason: "the document ends early" },
            (false, true) => Found::Malformed { start, reason: "nothing stands where the path leads to records" },
            (false, false) => Found::End,
        }
    }

    fn pop(&mut self, at: usize) -> Step {
        // An array of no records leads to them all the same.
        self.has_records |= matches!(self.stack.pop(), Some(Level::Elements(_, 0)));
        Step::Go(at + 1)
    }

    fn top(&mut self, buffer: &[u8], at: usize, is_last: bool) -> Step {
        if !self.path.0.is_empty() {
            self.has_document = true;
            if self.path.0 == [PathStep::Every] && buffer[at] == b'{' {
                self.has_records = true;
                return Step::Found(Found::Row(at));
            }
            return self.enter(buffer, at, 0);
        }
        if buffer[at] != b'[' {
            return Step::Found(Found::Row(at));
        }
        match buffer.get(skip_blanks(buffer, at + 1)) {
            None if !is_last => Step::Found(Found::NeedMore(at)),
            Some(b'{' | b']') => {
                self.stack.push(Level::Rows);
                Step::Go(at + 1)
            }
            _ => Step::Found(Found::Row(at)),
        }
    }

    /// Goes into the value at `at`, which is where path step `step` starts from.
    fn enter(&mut self, buffer: &[u8], at: usize, step: usize) -> Step {
        let Some(&byte) = buffer.get(at) else { return Step::Found(Found::NeedMore(at)) };
        match (self.path.0.get(step), byte) {
            (None, b'[') => {
                self.has_records = true;
                self.stack.push(Level::Rows);
            }
            (None, _) => {
                (self.is_at_row, self.has_records) = (true, true);
                return Step::Found(Found::Row(at));
            }
            (Some(PathStep::Key(_)), b'{') => self.stack.push(Level::Keys(step)),
            (Some(PathStep::Every | PathStep::Index(_)), b'[') => self.stack.push(Level::Elements(step, 0)),
            _ => {
                self.has_records |= byte == b'n';
                return skipped(buffer, at, at);
            }
        }
        Step::Go(at + 1)
    }

    fn key(&mut self, buffer: &[u8], at: usize, step: usize) -> Step {
        let ((end, is_escaped), value) = match lexer::key_end(buffer, at) {
            Ok(found) => found,
            Err(fault) => return faulty(fault, at),
        };
        let mut key = Vec::new();
        if is_escaped {
            lexer::unescape(&buffer[at + 1..end], &mut key);
        } else {
            key.extend_from_slice(&buffer[at + 1..end]);
        }
        match self.path.0.get(step) {
            Some(PathStep::Key(wanted)) if key == wanted.as_bytes() => match self.enter(buffer, value, step + 1) {
                // The key is read again with the rest of its value.
                Step::Found(Found::NeedMore(_)) => Step::Found(Found::NeedMore(at)),
                step => step,
            },
            _ => skipped(buffer, value, at),
        }
    }

    fn element(&mut self, buffer: &[u8], at: usize, (step, index): (usize, usize)) -> Step {
        let is_wanted = match self.path.0.get(step) {
            Some(PathStep::Index(wanted)) => *wanted == index,
            _ => true,
        };
        let depth = self.stack.len() - 1;
        let next = if is_wanted { self.enter(buffer, at, step + 1) } else { skipped(buffer, at, at) };
        if !matches!(next, Step::Found(Found::NeedMore(_))) {
            self.stack[depth] = Level::Elements(step, index + 1);
        }
        next
    }

    /// Takes note of a row that was read, to know whether rows end with their line.
    #[inline]
    pub(super) fn row_read(&mut self, row: &[u8]) {
        self.is_at_row = false;
        if self.has_lines.is_none() {
            self.has_lines = Some(memchr::memchr(b'\n', row).is_none());
        }
    }

    /// Takes note that a row was refused.
    pub(super) fn row_refused(&mut self) {
        self.is_at_row = false;
    }

    /// Where to go on after the malformed row at `start`; `None` when the bytes do not say yet.
    pub(super) fn after_malformed(&mut self, buffer: &[u8], start: usize, is_last: bool) -> Option<usize> {
        let rest = &buffer[start..];
        let newline = memchr::memchr(b'\n', rest);
        let at_end = is_last.then_some(rest.len());
        let is_container = matches!(rest.first(), Some(b'{' | b'['));
        let length = if !self.stack.is_empty() {
            match balanced_end(rest, is_container) {
                Some(length) => length,
                None => match next_object_line(rest) {
                    Some(length) => {
                        self.stack.retain(|level| matches!(level, Level::Rows));
                        length
                    }
                    None => {
                        let length = at_end?;
                        // That the document is cut is said of what is cut.
                        self.stack.clear();
                        self.has_records = true;
                        length
                    }
                },
            }
        } else if self.has_lines.unwrap_or_else(|| looks_like_lines(rest, newline)) {
            let line = newline.or(at_end)?;
            balanced_end(&rest[..line], is_container).unwrap_or(line)
        } else {
            balanced_end(rest, is_container).or_else(|| next_object_line(rest)).or(at_end)?
        };
        Some((start + length.max(1)).min(buffer.len()))
    }
}

fn faulty(fault: Fault, at: usize) -> Step {
    Step::Found(match fault {
        Fault::Incomplete => Found::NeedMore(at),
        Fault::Bad { reason, .. } => Found::Malformed { start: at, reason },
    })
}

/// Skips the value at `at`; while it is incomplete, all from `restart` is needed again.
fn skipped(buffer: &[u8], at: usize, restart: usize) -> Step {
    match lexer::skip_value(buffer, at, 0) {
        // A number at the very end may go on.
        Ok(end) if end < buffer.len() => Step::Go(end),
        Ok(_) => Step::Found(Found::NeedMore(restart)),
        Err(fault) => faulty(fault, restart),
    }
}

/// Skips what may stand between rows: blanks, commas, record separators, a byte order mark.
#[inline]
fn skip_separators(buffer: &[u8], mut at: usize) -> usize {
    loop {
        match buffer.get(at) {
            Some(b'{') | None => return at,
            Some(b' ' | b'\n' | b'\r' | b'\t' | b',' | 0x1E) => at += 1,
            Some(0xEF) if buffer[at..].starts_with(b"\xEF\xBB\xBF") => at += 3,
            Some(_) => return at,
        }
    }
}

/// End of the container at the start of `bytes` by its brackets alone, strings respected.
fn balanced_end(bytes: &[u8], is_container: bool) -> Option<usize> {
    if !is_container {
        return None;
    }
    let (mut depth, mut at) = (0usize, 0);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            b'"' => at = loose_string_end(bytes, at + 1)?,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

fn loose_string_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            b'\n' => return None,
            _ => at += 1,
        }
    }
}

/// The next line that starts with an object.
fn next_object_line(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, b"\n{").map(|at| at + 1)
}

/// Whether a malformed row at the start of `bytes` is a line of its own, where no row has been read yet.
fn looks_like_lines(bytes: &[u8], newline: Option<usize>) -> bool {
    let Some(newline) = newline else { return true };
    if bytes.get(newline + 1) == Some(&b'{') {
        return true;
    }
    !matches!(bytes[..newline].trim_ascii_end().last(), Some(b'{' | b'[' | b',' | b':'))
}
