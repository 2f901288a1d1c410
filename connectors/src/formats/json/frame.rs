//! Where rows start: lines, objects run together, pretty printed objects, arrays of records, records below a path.
//!
//! ```text
//! stack empty --`[` before `{`--> Rows --`]`--> stack empty        rows are objects at the top or in Rows
//! stack empty --path step-------> Keys | Elements --..--> a row    with a record path
//! ```
//!
//! Invariant: a malformed row costs no row after it that starts on its own line, unless what is between them may well be
//! its own nested values: a balance of brackets is trusted only up to the next line on which a row may start. Among rows of
//! one line that is looked for in at most 64 KB, and in less while such searches lead to nothing: all of them together
//! take time by the length of the input.

use super::{
    brackets::{Stop, balanced_end},
    lexer::{self, Fault, skip_blanks},
    options::{PathStep, RecordPath},
};

/// Bytes in which a malformed row of several lines is looked for among rows of one line: at most, and at least.
const REACH_MAX: usize = 64 << 10;
const REACH_MIN: usize = 1 << 10;
/// Bytes that each byte of a row lets later searches look at.
const REACH_EARNED: usize = 16;

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

/// A container that is open, and how its children stand.
#[derive(Debug, Clone, Copy)]
struct Open {
    level: Level,
    /// Bytes before the first child that began its line; none if none did.
    indent: Option<usize>,
}

/// Finds rows in bytes that come whole or in chunks.
#[derive(Debug)]
pub(super) struct Frame {
    path: RecordPath,
    stack: Vec<Open>,
    /// Bytes between the last line end and what stands next; none if there is more than blanks and commas.
    indent: Option<usize>,
    /// The same of the rows of an array that ended: what follows may well be in it, and its end a bracket too many.
    indent_before: Option<usize>,
    /// Whether rows end with their line; unknown before the first row.
    has_lines: Option<bool>,
    /// A row below a path was found and is not read yet.
    is_at_row: bool,
    /// A document was found, and the path led to its records, if to none of them.
    has_document: bool,
    has_records: bool,
    /// Bytes in which the next malformed row may be looked for.
    reach: usize,
}

enum Step {
    Go(usize),
    Found(Found),
}

impl Frame {
    pub(super) fn new(path: RecordPath) -> Self {
        let (has_document, has_records) = (false, path.0.is_empty());
        Self {
            path,
            stack: Vec::new(),
            indent: None,
            indent_before: None,
            has_lines: None,
            is_at_row: false,
            has_document,
            has_records,
            reach: REACH_MAX,
        }
    }

    /// Begins anew, for the next payload.
    pub(super) fn reset(&mut self) {
        self.stack.clear();
        (self.indent, self.indent_before, self.has_lines, self.is_at_row) = (None, None, None, false);
        (self.has_document, self.has_records) = (false, self.path.0.is_empty());
        self.reach = REACH_MAX;
    }

    /// What stands at or after `at`; `is_last` says that no bytes follow the buffer.
    #[inline]
    pub(super) fn find(&mut self, buffer: &[u8], mut at: usize, is_last: bool) -> Found {
        loop {
            let from = at;
            at = skip_separators(buffer, at);
            self.note_indent(&buffer[from..at]);
            let Some(&byte) = buffer.get(at) else {
                return if is_last { self.end(at) } else { Found::NeedMore(at) };
            };
            self.note_child(byte);
            let step = match self.stack.last().map(|open| open.level) {
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
                Step::Go(next) => (at, self.indent) = (next, None),
                Step::Found(Found::NeedMore(start)) if is_last => {
                    return Found::Malformed { start, reason: "the document ends early" };
                }
                Step::Found(found) => return found,
            }
        }
    }

    /// Takes note of how far from the start of its line the next child of an open container is.
    #[inline]
    fn note_indent(&mut self, between: &[u8]) {
        if self.stack.is_empty() {
            return;
        }
        match memchr::memrchr(b'\n', between) {
            Some(end) => self.indent = Some(between.len() - end - 1),
            // Chunks may end between blanks.
            None => self.indent = self.indent.map(|indent| indent + between.len()),
        }
    }

    /// Takes note of where the children of a container stand. The first one says it: what is left of malformed ones may
    /// stand anywhere.
    #[inline]
    fn note_child(&mut self, byte: u8) {
        let (Some(open), Some(indent)) = (self.stack.last_mut(), self.indent) else { return };
        let is_child = byte == if matches!(open.level, Level::Keys(_)) { b'"' } else { b'{' };
        if is_child {
            open.indent.get_or_insert(indent);
        }
    }

    fn push(&mut self, level: Level) {
        self.indent_before = None;
        self.stack.push(Open { level, indent: None });
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
        let closed = self.stack.pop();
        self.indent_before = closed.and_then(|open| open.indent);
        // An array of no records leads to them all the same.
        self.has_records |= matches!(closed.map(|open| open.level), Some(Level::Elements(_, 0)));
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
                self.push(Level::Rows);
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
                self.push(Level::Rows);
            }
            (None, _) => {
                (self.is_at_row, self.has_records) = (true, true);
                return Step::Found(Found::Row(at));
            }
            (Some(PathStep::Key(_)), b'{') => self.push(Level::Keys(step)),
            (Some(PathStep::Every | PathStep::Index(_)), b'[') => self.push(Level::Elements(step, 0)),
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
            self.stack[depth].level = Level::Elements(step, index + 1);
        }
        next
    }

    /// Takes note of a row that was read, to know whether rows end with their line.
    #[inline]
    pub(super) fn row_read(&mut self, row: &[u8]) {
        (self.is_at_row, self.indent) = (false, None);
        self.earn(row.len());
        if self.has_lines.is_none() {
            self.has_lines = Some(memchr::memchr(b'\n', row).is_none());
        }
    }

    /// Takes note that a row was refused.
    pub(super) fn row_refused(&mut self) {
        (self.is_at_row, self.indent) = (false, None);
    }

    /// Whether rows end with their line, as far as is known.
    pub(super) fn has_lines(&self) -> bool {
        self.has_lines == Some(true)
    }

    /// Where to go on after the malformed row at `start`; `None` when the bytes do not say yet.
    pub(super) fn after_malformed(&mut self, buffer: &[u8], start: usize, is_last: bool) -> Option<usize> {
        let rest = &buffer[start..];
        let newline = memchr::memchr(b'\n', rest);
        let at_end = is_last.then_some(rest.len());
        let has_lines = self.has_lines.unwrap_or_else(|| looks_like_lines(rest, newline));
        let length = if has_lines && !self.goes_on(rest, newline, is_last)? {
            let line = newline.or(at_end)?;
            self.after_line(balanced_end(&rest[..line]), line)
        } else if has_lines && self.rows_indent().1.is_none() {
            let line = newline.or(at_end)?;
            let is_row = |_: usize, line: &[u8], before| is_open(line[0]) && !matches!(before, b':' | b'[' | b',');
            let within = self.within(rest);
            let stop = Stop::of(within, is_row);
            if stop == Stop::Neither && within.len() == rest.len() {
                at_end?;
            }
            self.spend(stop.at().unwrap_or(within.len()));
            self.after_line(stop.balanced(), line)
        } else {
            self.after_lines(rest, newline.filter(|_| has_lines), at_end)?
        };
        if at_end == Some(length) && balanced_end(rest) != Some(length) {
            // That the document is cut is said of what is cut.
            self.leave(0);
        }
        self.earn(length);
        Some((start + length.max(1)).min(buffer.len()))
    }

    #[inline]
    fn earn(&mut self, bytes: usize) {
        self.reach = self.reach.saturating_add(bytes.saturating_mul(REACH_EARNED)).min(REACH_MAX);
    }

    /// The bytes that may be looked at for the end of a malformed row.
    fn within<'a>(&self, rest: &'a [u8]) -> &'a [u8] {
        &rest[..rest.len().min(self.reach)]
    }

    fn spend(&mut self, bytes: usize) {
        self.reach = self.reach.saturating_sub(bytes).max(REACH_MIN);
    }

    /// Whether a malformed row may have more lines than its first one, although others end with their line; `None` when the
    /// bytes do not say yet.
    fn goes_on(&self, rest: &[u8], newline: Option<usize>, is_last: bool) -> Option<bool> {
        let is_key = matches!(self.stack.last(), Some(Open { level: Level::Keys(_), .. }));
        let is_in_array = !self.stack.is_empty() || self.indent_before.is_some();
        let (Some(newline), false) = (newline, is_key) else { return Some(false) };
        // Other text than a container, beside an array, is lines.
        if !is_in_array && !is_open(rest[0]) {
            return Some(false);
        }
        let last = rest[..newline].trim_ascii_end().last();
        let next = rest.get(skip_separators(rest, newline));
        if next.is_none() && !is_last {
            return None;
        }
        Some(match (last, next) {
            (Some(b'['), Some(b']')) => true,
            (_, None | Some(b']')) => false,
            (Some(b'{' | b'[' | b',' | b':'), _) => true,
            (_, Some(b'{' | b'[')) => false,
            (_, Some(_)) => is_in_array && rest[0] == b'{',
        })
    }

    /// How far the children of the innermost array on lines of their own are from their start, and how many containers are
    /// open up to it.
    fn rows_indent(&self) -> (usize, Option<usize>) {
        let is_array = |open: &Open| !matches!(open.level, Level::Keys(_)) && open.indent.is_some();
        match self.stack.iter().rposition(is_array) {
            Some(index) => (index + 1, self.stack[index].indent),
            None => (0, self.indent_before),
        }
    }

    /// Length of a malformed row that ends with its first line, unless its last bracket was found.
    fn after_line(&mut self, balanced: Option<usize>, line: usize) -> usize {
        balanced.unwrap_or_else(|| {
            self.leave_line();
            line
        })
    }

    /// Length of a malformed row over several lines: up to its last bracket, if that comes before the next line on which a
    /// row may start or the rows end. Where neither is to be found it is its first line, if others have one.
    fn after_lines(&mut self, rest: &[u8], line: Option<usize>, at_end: Option<usize>) -> Option<usize> {
        let (depth, rows) = self.rows_indent();
        let indent = rows.unwrap_or(0);
        let is_row = |blanks: usize, line: &[u8]| match line {
            [b'{', ..] => blanks == indent,
            [b']'] | [b']', b'\n' | b'\r' | b',' | b'}', ..] => blanks < indent,
            _ => false,
        };
        if at_end.is_none() && rest.ends_with(b"]") {
            // What follows says whether the rows end here.
            return None;
        }
        // Between rows of an array is a comma, between others none.
        let follows = |before: u8| !matches!(before, b':' | b'[') && (rows.is_some() || before != b',');
        let is_next = |blanks: usize, line: &[u8], before| is_row(blanks, line) && (line[0] == b']' || follows(before));
        let within = self.within(rest);
        let stop = Stop::of(within, is_next);
        if stop == Stop::Neither && within.len() == rest.len() {
            at_end?;
        }
        let searched = stop.at().unwrap_or(within.len());
        let length = match stop.balanced() {
            Some(length) => length,
            // A row that cannot be its first line alone ends somewhere.
            None => {
                match Stop::of(if line.is_some() { within } else { rest }, |blanks, line, _| is_row(blanks, line)) {
                    Stop::Balanced(length) => length,
                    Stop::Row(row) => {
                        self.leave(depth);
                        row
                    }
                    Stop::Neither => line.or(at_end)?,
                }
            }
        };
        self.spend(searched);
        Some(length)
    }

    /// Leaves the containers whose children do not start on lines of their own: they have ended with their line.
    fn leave_line(&mut self) {
        let depth = self.stack.iter().rposition(|open| open.indent.is_some()).map_or(0, |index| index + 1);
        self.leave(depth);
    }

    /// Leaves all but the outermost containers.
    fn leave(&mut self, depth: usize) {
        self.has_records |= depth < self.stack.len();
        self.stack.truncate(depth);
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

fn is_open(byte: u8) -> bool {
    matches!(byte, b'{' | b'[')
}

/// Whether a malformed row at the start of `bytes` is a line of its own, where no row has been read yet.
fn looks_like_lines(bytes: &[u8], newline: Option<usize>) -> bool {
    let Some(newline) = newline else { return true };
    if bytes.get(newline + 1) == Some(&b'{') {
        return true;
    }
    !matches!(bytes[..newline].trim_ascii_end().last(), Some(b'{' | b'[' | b',' | b':'))
}
