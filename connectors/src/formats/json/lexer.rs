//! The words of strict JSON: where blanks, strings, numbers and whole values end, and what escapes stand for.
//!
//! Invariant: these functions are the only judges of strict grammar, so every way through the decoder refuses the same
//! bytes. They look at bytes only; that the buffer is UTF-8 is checked by their callers.

/// Why bytes are not the value that was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The bytes end before the value does.
    Incomplete,
    /// The value is wrong at a position.
    Bad {
        /// Where.
        at: usize,
        /// Why, for the user.
        reason: &'static str,
    },
}

/// Result of looking for a value.
pub(super) type Scan<T> = Result<T, Fault>;

/// Deepest nesting of one row.
pub(super) const DEPTH_MAX: usize = 256;

pub(super) fn bad<T>(at: usize, reason: &'static str) -> Scan<T> {
    Err(Fault::Bad { at, reason })
}

/// The first position at or after `at` that is not a blank.
#[inline]
pub(super) fn skip_blanks(buffer: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = buffer.get(at) {
        at += 1;
    }
    at
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Marks the bytes of a word that end or interrupt a string: a quote, a backslash, a control character. Only the
/// lowest mark is exact, which is the one that is used.
#[inline(always)]
fn string_marks(word: u64) -> u64 {
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let is_control = word.wrapping_sub(ONES * 0x20) & !word;
    let is_quote = quote.wrapping_sub(ONES) & !quote;
    let is_backslash = backslash.wrapping_sub(ONES) & !backslash;
    (is_control | is_quote | is_backslash) & HIGHS
}

/// The first quote, backslash or control character at or after `at`, or the buffer's length.
#[inline(always)]
pub(super) fn string_stop(buffer: &[u8], mut at: usize) -> usize {
    while let Some(word) = buffer.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let marks = string_marks(u64::from_le_bytes(*word));
        if marks != 0 {
            return at + (marks.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while buffer.get(at).is_some_and(|&byte| byte != b'"' && byte != b'\\' && byte >= 0x20) {
        at += 1;
    }
    at
}

/// End of the content of a string whose content starts at `at`, and whether it has escapes. The quote is at the end.
#[inline]
pub(super) fn string_end(buffer: &[u8], at: usize) -> Scan<(usize, bool)> {
    let stop = string_stop(buffer, at);
    match buffer.get(stop) {
        Some(b'"') => Ok((stop, false)),
        _ => escaped_string_end(buffer, stop).map(|end| (end, true)),
    }
}

#[cold]
fn escaped_string_end(buffer: &[u8], mut at: usize) -> Scan<usize> {
    loop {
        at = string_stop(buffer, at);
        match buffer.get(at) {
            None => return Err(Fault::Incomplete),
            Some(b'"') => return Ok(at),
            Some(b'\\') => at = escape_end(buffer, at)?,
            Some(_) => return bad(at, "a control character stands in a string"),
        }
    }
}

/// End of the escape whose backslash is at `at`.
fn escape_end(buffer: &[u8], at: usize) -> Scan<usize> {
    match buffer.get(at + 1) {
        None => Err(Fault::Incomplete),
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => match hex4(buffer, at + 2)? {
            0xD800..=0xDBFF => match (buffer.get(at + 6), buffer.get(at + 7)) {
                (None, _) | (Some(b'\\'), None) => Err(Fault::Incomplete),
                (Some(b'\\'), Some(b'u')) if (0xDC00..=0xDFFF).contains(&hex4(buffer, at + 8)?) => Ok(at + 12),
                _ => bad(at, "an escape is half of a character"),
            },
            0xDC00..=0xDFFF => bad(at, "an escape is half of a character"),
            _ => Ok(at + 6),
        },
        Some(_) => bad(at, "an escape is unknown"),
    }
}

pub(super) fn hex4(buffer: &[u8], at: usize) -> Scan<u32> {
    let mut value = 0;
    for position in at..at + 4 {
        let Some(&byte) = buffer.get(position) else { return Err(Fault::Incomplete) };
        let Some(digit) = (byte as char).to_digit(16) else {
            return bad(position, "an escape needs four hexadecimal digits");
        };
        value = value * 16 + digit;
    }
    Ok(value)
}

/// Appends what a checked string stands for.
pub(super) fn unescape(raw: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', &raw[at..]) {
        out.extend_from_slice(&raw[at..at + found]);
        at += found;
        let (char, length) = escape(&raw[at..]);
        out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
        at = (at + length).min(raw.len());
    }
    out.extend_from_slice(&raw[at..]);
}

/// The character a checked escape stands for, and the escape's length.
pub(super) fn escape(raw: &[u8]) -> (char, usize) {
    let char = match raw.get(1) {
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => {
            let first = hex4(raw, 2).unwrap_or(0xFFFD);
            if !(0xD800..=0xDBFF).contains(&first) {
                return (char::from_u32(first).unwrap_or('?'), 6);
            }
            let second = if raw.get(6..8) == Some(b"\\u") { hex4(raw, 8).unwrap_or(0) } else { 0 };
            if !(0xDC00..=0xDFFF).contains(&second) {
                return ('?', 6);
            }
            let code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
            return (char::from_u32(code).unwrap_or('?'), 12);
        }
        Some(&byte) => byte as char,
        None => '\\',
    };
    (char, 2)
}

/// End of the number that starts at `at`.
#[inline]
pub(super) fn number_end(buffer: &[u8], at: usize) -> Scan<usize> {
    let mut end = at + usize::from(buffer.get(at) == Some(&b'-'));
    match buffer.get(end) {
        Some(b'0') => end += 1,
        Some(b'1'..=b'9') => end = digits_end(buffer, end),
        None => return Err(Fault::Incomplete),
        Some(_) => return bad(at, "a value is neither a string, a number, an object, an array, true, false nor null"),
    }
    if buffer.get(end) == Some(&b'.') {
        end = needed_digits_end(buffer, end + 1)?;
    }
    if let Some(b'e' | b'E') = buffer.get(end) {
        let signed = end + 1 + usize::from(matches!(buffer.get(end + 1), Some(b'+' | b'-')));
        end = needed_digits_end(buffer, signed)?;
    }
    Ok(end)
}

#[inline]
fn digits_end(buffer: &[u8], mut at: usize) -> usize {
    while buffer.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

fn needed_digits_end(buffer: &[u8], at: usize) -> Scan<usize> {
    match buffer.get(at) {
        Some(b'0'..=b'9') => Ok(digits_end(buffer, at)),
        None => Err(Fault::Incomplete),
        Some(_) => bad(at, "a number lacks a digit"),
    }
}

/// End of `true`, `false` or `null` starting at `at`.
#[inline]
pub(super) fn word_end(buffer: &[u8], at: usize, word: &'static [u8]) -> Scan<usize> {
    let rest = &buffer[at..];
    if rest.starts_with(word) {
        return Ok(at + word.len());
    }
    if word.starts_with(rest) { Err(Fault::Incomplete) } else { bad(at, "a word is neither true, false nor null") }
}

/// End of the value that starts at `at`, checked like any other.
pub(super) fn skip_value(buffer: &[u8], at: usize, depth: usize) -> Scan<usize> {
    match buffer.get(at) {
        None => Err(Fault::Incomplete),
        Some(b'"') => string_end(buffer, at + 1).map(|(end, _)| end + 1),
        Some(b'{') => skip_container(buffer, at, depth + 1, b'}'),
        Some(b'[') => skip_container(buffer, at, depth + 1, b']'),
        Some(b't') => word_end(buffer, at, b"true"),
        Some(b'f') => word_end(buffer, at, b"false"),
        Some(b'n') => word_end(buffer, at, b"null"),
        Some(_) => number_end(buffer, at),
    }
}

fn skip_container(buffer: &[u8], at: usize, depth: usize, close: u8) -> Scan<usize> {
    if depth > DEPTH_MAX {
        return bad(at, "values are nested more than 256 deep");
    }
    let mut at = skip_blanks(buffer, at + 1);
    if buffer.get(at) == Some(&close) {
        return Ok(at + 1);
    }
    loop {
        if close == b'}' {
            at = key_end(buffer, at)?.1;
        }
        at = skip_blanks(buffer, skip_value(buffer, at, depth)?);
        match buffer.get(at) {
            Some(&byte) if byte == close => return Ok(at + 1),
            Some(b',') => at = skip_blanks(buffer, at + 1),
            None => return Err(Fault::Incomplete),
            Some(_) => return bad(at, expected_after(close)),
        }
    }
}

/// What is missing after an element of a container that `close` closes.
pub(super) fn expected_after(close: u8) -> &'static str {
    if close == b'}' { "expected \",\" or \"}\"" } else { "expected \",\" or \"]\"" }
}

/// End of the content of the key whose quote is at `at` (with whether it has escapes), and where its value starts.
pub(super) fn key_end(buffer: &[u8], at: usize) -> Scan<((usize, bool), usize)> {
    match buffer.get(at) {
        Some(b'"') => {}
        None => return Err(Fault::Incomplete),
        Some(_) => return bad(at, "expected a key in quotes"),
    }
    let content = string_end(buffer, at + 1)?;
    let colon = skip_blanks(buffer, content.0 + 1);
    match buffer.get(colon) {
        Some(b':') => Ok((content, skip_blanks(buffer, colon + 1))),
        None => Err(Fault::Incomplete),
        Some(_) => bad(colon, "expected \":\""),
    }
}
