//! Where a malformed row ends, by its brackets and by the lines behind it.
//!
//! Invariant: no byte behind the end that is found is looked at, but for the line that starts there.

/// What ends a malformed row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Its last bracket.
    Balanced(usize),
    /// The end of the line before the next one on which a row may start.
    Row(usize),
    /// Neither is among the bytes.
    Neither,
}

impl Stop {
    /// What ends the malformed row at the start of `bytes`, whichever of both comes first. Of a line after a line end
    /// `is_row` says whether a row may start there: of the number of blanks or commas it starts with, of what is behind
    /// them, at least a byte, and of the byte that the lines before end with.
    pub(super) fn of(bytes: &[u8], is_row: impl Fn(usize, &[u8], u8) -> bool) -> Self {
        let mut open = matches!(bytes.first(), Some(b'{' | b'[')).then(Vec::new);
        let mut from = 0;
        for newline in memchr::memchr_iter(b'\n', bytes).chain([bytes.len()]) {
            match open.as_mut().map(|open| close(open, &bytes[..newline], from)) {
                Some(Ok(Some(end))) => return Stop::Balanced(end),
                Some(Err(Unbalanced)) => open = None,
                Some(Ok(None)) | None => {}
            }
            if newline < bytes.len() && starts_line(bytes, newline, &is_row) {
                return Stop::Row(newline);
            }
            from = newline;
        }
        Stop::Neither
    }

    /// Where it is.
    pub(super) fn at(self) -> Option<usize> {
        match self {
            Stop::Balanced(at) | Stop::Row(at) => Some(at),
            Stop::Neither => None,
        }
    }

    /// The end of the last bracket, if that is what it is.
    pub(super) fn balanced(self) -> Option<usize> {
        match self {
            Stop::Balanced(end) => Some(end),
            Stop::Row(_) | Stop::Neither => None,
        }
    }
}

/// Brackets that do not belong together, or a text without an end.
struct Unbalanced;

/// Opens and closes brackets from `at` on; the end of the first one, if it is among the bytes.
fn close(open: &mut Vec<u8>, bytes: &[u8], mut at: usize) -> Result<Option<usize>, Unbalanced> {
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'{' | b'[' => open.push(byte),
            b'}' | b']' if open.pop() != Some(byte - 2) => return Err(Unbalanced),
            b'"' => at = loose_string_end(bytes, at + 1).ok_or(Unbalanced)?,
            _ => {}
        }
        at += 1;
        if open.is_empty() {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// End of the container at the start of `bytes` by its brackets alone, strings respected.
pub(super) fn balanced_end(bytes: &[u8]) -> Option<usize> {
    Stop::of(bytes, |_, _, _| false).balanced()
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

/// Whether a row may start on the line behind `newline`.
fn starts_line(bytes: &[u8], newline: usize, is_it: impl Fn(usize, &[u8], u8) -> bool) -> bool {
    let line = &bytes[newline + 1..];
    let blanks = line.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b',')).count();
    if matches!(line.get(blanks), None | Some(b'\n' | b'\r')) {
        return false;
    }
    let before = bytes[..newline].trim_ascii_end().last();
    before.is_some_and(|before| is_it(blanks, &line[blanks..], *before))
}
