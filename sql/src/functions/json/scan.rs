//! Reading JSON text from left to right without building anything.
//!
//! Invariant: what is passed over is checked as strictly as what is returned; a malformed token anywhere on the way is
//! `None`. Nesting is limited to 1000 levels.

use std::borrow::Cow;

const DEPTH_MAX: usize = 1000;

/// What kind of value a piece of text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `{..}`.
    Object,
    /// `[..]`.
    Array,
    /// `".."`.
    String,
    /// A number without fraction and exponent.
    Integer,
    /// Any other number.
    Float,
    /// `true` or `false`.
    Bool,
    /// `null`.
    Null,
}

/// A position in JSON text.
#[derive(Debug, Clone)]
pub struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

/// The text between the quotes of a string, and whether it holds escapes.
#[derive(Debug, Clone, Copy)]
pub struct RawString<'a> {
    /// Between the quotes.
    pub raw: &'a str,
    /// Whether a backslash is among it.
    pub escaped: bool,
}

impl<'a> RawString<'a> {
    /// The characters meant.
    pub fn decode(&self) -> Cow<'a, str> {
        if self.escaped { Cow::Owned(unescape(self.raw)) } else { Cow::Borrowed(self.raw) }
    }

    /// Whether it means this text.
    pub fn is(&self, text: &str) -> bool {
        if self.escaped { unescape(self.raw) == text } else { self.raw == text }
    }
}

impl<'a> Scanner<'a> {
    /// Starts at the beginning.
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The bytes passed so far.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The text from a position to here.
    pub fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// Passes white space and shows the next byte.
    pub fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    /// Passes white space and this byte.
    pub fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Whether only white space is left.
    pub fn at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    /// Enters an array or object: whether it has a first member; an empty one is passed.
    pub fn enter(&mut self, close: u8) -> Option<bool> {
        self.at += 1;
        if self.peek()? == close {
            self.at += 1;
            return Some(false);
        }
        Some(true)
    }

    /// After a member: whether another follows.
    pub fn another(&mut self, close: u8) -> Option<bool> {
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b',' => Some(true),
            _ if byte == close => Some(false),
            _ => None,
        }
    }

    /// Passes the key of an object's member and the colon.
    pub fn key(&mut self) -> Option<RawString<'a>> {
        if self.peek()? != b'"' {
            return None;
        }
        let key = self.string()?;
        self.expect(b':')?;
        Some(key)
    }

    /// Passes a string; the next byte is its quote.
    pub fn string(&mut self) -> Option<RawString<'a>> {
        let bytes = self.text.as_bytes();
        let start = self.at + 1;
        let mut at = start;
        let mut escaped = false;
        loop {
            at = plain_until(bytes, at);
            match bytes.get(at)? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    at += match bytes.get(at + 1)? {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
                        b'u' if bytes.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => 6,
                        _ => return None,
                    };
                }
                _ => return None,
            }
        }
        self.at = at + 1;
        Some(RawString { raw: self.text.get(start..at)?, escaped })
    }

    /// Passes one value and says what it is.
    pub fn skip(&mut self) -> Option<Kind> {
        self.skip_at(0)
    }

    fn skip_at(&mut self, depth: usize) -> Option<Kind> {
        match self.peek()? {
            b'{' if depth < DEPTH_MAX => {
                let mut more = self.enter(b'}')?;
                while more {
                    self.key()?;
                    self.skip_at(depth + 1)?;
                    more = self.another(b'}')?;
                }
                Some(Kind::Object)
            }
            b'[' if depth < DEPTH_MAX => {
                let mut more = self.enter(b']')?;
                while more {
                    self.skip_at(depth + 1)?;
                    more = self.another(b']')?;
                }
                Some(Kind::Array)
            }
            b'"' => self.string().map(|_| Kind::String),
            b't' => self.word("true", Kind::Bool),
            b'f' => self.word("false", Kind::Bool),
            b'n' => self.word("null", Kind::Null),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &str, kind: Kind) -> Option<Kind> {
        self.text.get(self.at..)?.starts_with(word).then(|| self.at += word.len())?;
        let next = self.text.as_bytes().get(self.at);
        (!next.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')).then_some(kind)
    }

    fn number(&mut self) -> Option<Kind> {
        let bytes = self.text.as_bytes();
        let mut at = self.at;
        if bytes.get(at) == Some(&b'-') {
            at += 1;
        }
        let first = at;
        at = digits(bytes, at)?;
        if bytes[first] == b'0' && at > first + 1 {
            return None;
        }
        let mut kind = Kind::Integer;
        if bytes.get(at) == Some(&b'.') {
            kind = Kind::Float;
            at = digits(bytes, at + 1)?;
        }
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            kind = Kind::Float;
            at += 1;
            if matches!(bytes.get(at), Some(b'+' | b'-')) {
                at += 1;
            }
            at = digits(bytes, at)?;
        }
        let start = std::mem::replace(&mut self.at, at);
        let is_whole = match bytes.get(at) {
            None | Some(b',' | b']' | b'}') => true,
            Some(byte) if byte.is_ascii_whitespace() => true,
            Some(byte) if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'"') => false,
            // A number that is the document ends with it or at a space: a date is none.
            Some(_) => !self.text.get(..start)?.trim().is_empty(),
        };
        is_whole.then_some(kind)
    }
}

fn digits(bytes: &[u8], start: usize) -> Option<usize> {
    let count = bytes.get(start..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (count > 0).then_some(start + count)
}

/// The next quote, backslash or control character, eight bytes at a time.
fn plain_until(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    while let Some(Ok(word)) = bytes.get(at..at + 8).map(<[u8; 8]>::try_from) {
        let word = u64::from_le_bytes(word);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let found = zero(word ^ (ONES * u64::from(b'"'))) | zero(word ^ (ONES * u64::from(b'\\'))) | control;
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|&byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        at += 1;
    }
    at
}

/// The characters a string with valid escapes means; half a surrogate pair becomes `?`.
fn unescape(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = rest.as_bytes().get(at + 1).copied().unwrap_or(b'\\');
        let mut used = 2;
        match escape {
            b'n' => out.push('\n'),
            b't' => out.push('\t'),
            b'r' => out.push('\r'),
            b'b' => out.push('\u{8}'),
            b'f' => out.push('\u{c}'),
            b'u' => {
                let (c, length) = unicode_escape(&rest[at..]);
                out.push(c);
                used = length;
            }
            other => out.push(char::from(other)),
        }
        rest = rest.get(at + used..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

fn unicode_escape(text: &str) -> (char, usize) {
    let unit = |from: usize| text.get(from..from + 4).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    let high = unit(2).unwrap_or(0xFFFD);
    if let Some(c) = char::from_u32(high) {
        return (c, 6);
    }
    let low = if text.get(6..8) == Some("\\u") { unit(8) } else { None };
    match low {
        Some(low) if (0xD800..0xDC00).contains(&high) && (0xDC00..0xE000).contains(&low) => {
            let c = char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00));
            (c.unwrap_or('?'), 12)
        }
        _ => ('?', 6),
    }
}
