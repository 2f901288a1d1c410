//! The tokens of a script: where statements, literals, parameters and comments begin and end.
//!
//! Invariant: tokens are in order, do not overlap and lie on character boundaries; what is between them is blank or
//! comment. In Hive's DDL a backslash escapes inside literals, everywhere else it is an ordinary character, so the
//! lexer watches the first words of each statement.

use std::ops::Range;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// An unquoted word: keyword or identifier.
    Word,
    /// A name in double quotes or backticks; which of the two.
    Quoted(char),
    /// A literal in single quotes.
    Text,
    /// A number, without its sign.
    Number,
    /// `${..}` outside any quotes.
    Parameter,
    /// Any other character.
    Symbol(char),
}

/// A token: its kind and where it is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// Kind.
    pub kind: TokenKind,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
    /// Whether a backslash escapes in it.
    pub escapes: bool,
}

impl Token {
    /// Its bytes.
    pub fn range(&self) -> Range<usize> {
        self.start..self.end
    }
}

/// Something opened and never closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unterminated {
    /// What: `string`, `quoted name`, `comment`, `parameter`.
    pub what: &'static str,
    /// Where it opens.
    pub start: usize,
}

/// Splits a script into tokens.
pub fn tokens(text: &str) -> Result<Vec<Token>, Unterminated> {
    let mut lexer = Lexer { text, at: 0, words: 0, is_create: false, is_hive: false, tokens: Vec::new() };
    while lexer.next()? {}
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    /// Words seen in this statement, counted to two.
    words: usize,
    is_create: bool,
    is_hive: bool,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn next(&mut self) -> Result<bool, Unterminated> {
        self.skip_blanks_and_comments()?;
        let rest = &self.text[self.at..];
        let Some(first) = rest.chars().next() else { return Ok(false) };
        let (kind, length) = match first {
            '\'' => (TokenKind::Text, self.quoted(rest, first, "string")?),
            '"' | '`' => (TokenKind::Quoted(first), self.quoted(rest, first, "quoted name")?),
            '$' if rest.starts_with("${") => (TokenKind::Parameter, self.until(rest, "}", "parameter")?),
            '$' if rest.starts_with("$${") => (TokenKind::Parameter, 3),
            '0'..='9' => (TokenKind::Number, number_length(rest)),
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) && !self.follows_a_name() => {
                (TokenKind::Number, number_length(rest))
            }
            first if is_word_start(first) => (TokenKind::Word, word_length(rest)),
            first => (TokenKind::Symbol(first), first.len_utf8()),
        };
        self.push(kind, length);
        Ok(true)
    }

    /// Whether the byte before is part of a name, as in `t.1`.
    fn follows_a_name(&self) -> bool {
        self.tokens
            .last()
            .is_some_and(|last| last.end == self.at && !matches!(last.kind, TokenKind::Symbol(_) | TokenKind::Number))
    }

    fn push(&mut self, kind: TokenKind, length: usize) {
        let token = Token { kind, start: self.at, end: self.at + length, escapes: self.is_hive };
        self.at = token.end;
        match kind {
            TokenKind::Symbol(';') => (self.words, self.is_hive) = (0, false),
            TokenKind::Word if self.words < 2 => {
                let word = &self.text[token.range()];
                let is = |keyword: &&str| word.eq_ignore_ascii_case(keyword);
                if self.words == 0 {
                    self.is_create = is(&"CREATE");
                    self.is_hive = ["ALTER", "MSCK"].iter().any(is);
                } else if self.is_create {
                    self.is_hive = ["EXTERNAL", "DATABASE", "SCHEMA"].iter().any(is);
                }
                self.words += 1;
            }
            _ => self.words = self.words.max(2),
        }
        self.tokens.push(token);
    }

    fn skip_blanks_and_comments(&mut self) -> Result<(), Unterminated> {
        loop {
            let rest = &self.text[self.at..];
            let trimmed = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
            self.at = self.text.len() - trimmed.len();
            if trimmed.starts_with("--") {
                self.at += trimmed.find('\n').unwrap_or(trimmed.len());
            } else if trimmed.starts_with("/*") {
                self.at += self.until(trimmed, "*/", "comment")?;
            } else {
                return Ok(());
            }
        }
    }

    fn until(&self, rest: &str, end: &str, what: &'static str) -> Result<usize, Unterminated> {
        rest.get(2..)
            .and_then(|inside| inside.find(end))
            .map(|found| 2 + found + end.len())
            .ok_or(Unterminated { what, start: self.at })
    }

    fn quoted(&self, rest: &str, quote: char, what: &'static str) -> Result<usize, Unterminated> {
        let mut characters = rest.char_indices().skip(1).peekable();
        while let Some((at, character)) = characters.next() {
            if character == '\\' && self.is_hive && quote != '`' {
                characters.next();
            } else if character == quote && characters.next_if(|(_, next)| *next == quote).is_none() {
                return Ok(at + 1);
            }
        }
        Err(Unterminated { what, start: self.at })
    }
}

fn is_word_start(character: char) -> bool {
    character.is_alphabetic() || character == '_' || character == '@' || character == '#'
}

fn word_length(rest: &str) -> usize {
    rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '@' | '#' | '$'))).unwrap_or(rest.len())
}

fn number_length(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let mut length = 0;
    while length < bytes.len() {
        let is_exponent_sign =
            matches!(bytes[length], b'+' | b'-') && length > 0 && matches!(bytes[length - 1], b'e' | b'E');
        let is_hex = rest.starts_with("0x") || rest.starts_with("0X");
        let is_part = bytes[length].is_ascii_alphanumeric() || matches!(bytes[length], b'.' | b'_');
        if !(is_part || is_exponent_sign && !is_hex) {
            break;
        }
        length += 1;
    }
    length
}

/// Whether a number runs on into what would be a name: `1x`, `0xZZ`, `1e`.
pub(super) fn is_digit_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    if !bytes.first().is_some_and(u8::is_ascii_digit) {
        return false;
    }
    let run = |from: usize, is: fn(&u8) -> bool| bytes.iter().skip(from).take_while(|byte| is(byte)).count();
    let name = run(0, |byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let digits = run(0, u8::is_ascii_digit);
    // Digits of which each may follow one underscore.
    let grouped = |from: usize, is: fn(&u8) -> bool| {
        let mut length = 0;
        loop {
            let skipped = usize::from(bytes.get(from + length) == Some(&b'_'));
            if (from + length == 0 && skipped == 1) || !bytes.get(from + length + skipped).is_some_and(is) {
                return length;
            }
            length += skipped + 1;
        }
    };
    let radix = match (bytes.first(), bytes.get(1).map(u8::to_ascii_lowercase)) {
        (Some(b'0'), Some(b'x')) => grouped(2, u8::is_ascii_hexdigit),
        (Some(b'0'), Some(b'o')) => grouped(2, |byte| matches!(byte, b'0'..=b'7')),
        (Some(b'0'), Some(b'b')) => grouped(2, |byte| matches!(byte, b'0' | b'1')),
        _ => 0,
    };
    let exponent = match bytes.get(digits) {
        Some(b'e' | b'E') => {
            let sign = usize::from(matches!(bytes.get(digits + 1), Some(b'+' | b'-')));
            run(digits + 1 + sign, u8::is_ascii_digit)
        }
        _ => 0,
    };
    let number = match (radix, exponent) {
        (0, 0) => grouped(0, u8::is_ascii_digit),
        (0, power) => digits + 1 + power,
        (radix, _) => 2 + radix,
    };
    name > number
}

/// The value of a literal or quoted name: without its quotes, doubled quotes undone, and Hive's escapes where they apply.
pub fn unquote(text: &str, token: &Token) -> String {
    let raw = &text[token.range()];
    let quote = match token.kind {
        TokenKind::Text => '\'',
        TokenKind::Quoted(quote) => quote,
        TokenKind::Word | TokenKind::Number | TokenKind::Parameter | TokenKind::Symbol(_) => return raw.to_owned(),
    };
    let inside = &raw[1..raw.len() - 1];
    let mut value = String::with_capacity(inside.len());
    let mut characters = inside.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\\' && token.escapes && quote != '`' {
            push_escape(&mut characters, &mut value);
        } else {
            if character == quote {
                characters.next();
            }
            value.push(character);
        }
    }
    value
}

/// Hive's escapes: `\n \t \r \b \0 \Z`, `\u0001`, `\001`; `\%` and `\_` stay; anything else is the character itself.
fn push_escape(characters: &mut std::iter::Peekable<std::str::Chars<'_>>, value: &mut String) {
    let Some(next) = characters.next() else { return value.push('\\') };
    match next {
        'n' => value.push('\n'),
        't' => value.push('\t'),
        'r' => value.push('\r'),
        'b' => value.push('\u{8}'),
        'Z' => value.push('\u{1a}'),
        '%' | '_' => value.extend(['\\', next]),
        'u' => push_code(characters, value, next, 4, 16),
        '0'..='7' => {
            let rest: String = characters.clone().take(2).collect();
            if rest.len() == 2 && rest.bytes().all(|digit| (b'0'..=b'7').contains(&digit)) {
                push_code_of(&format!("{next}{rest}"), 8, value);
                characters.nth(1);
            } else if next == '0' {
                value.push('\0');
            } else {
                value.push(next);
            }
        }
        other => value.push(other),
    }
}

fn push_code(
    characters: &mut std::iter::Peekable<std::str::Chars<'_>>,
    value: &mut String,
    otherwise: char,
    digits: usize,
    radix: u32,
) {
    let code: String = characters.clone().take(digits).collect();
    if code.len() == digits && push_code_of(&code, radix, value) {
        characters.nth(digits - 1);
    } else {
        value.push(otherwise);
    }
}

fn push_code_of(digits: &str, radix: u32, value: &mut String) -> bool {
    let character = u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
    value.extend(character);
    character.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<String> {
        tokens(text).unwrap().iter().map(|token| unquote(text, token)).collect()
    }

    #[test]
    fn comments_and_blanks_are_between_tokens() {
        assert_eq!(values("SELECT -- it's\n /* ; */ 1.5e-3;"), ["SELECT", "1.5e-3", ";"]);
        assert_eq!(values("a.b1 .5 t.1"), ["a", ".", "b1", ".5", "t", ".", "1"]);
    }

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(values(r#"'it''s' "a""b" `c``d`"#), ["it's", "a\"b", "c`d"]);
    }

    #[test]
    fn backslashes_escape_in_hive_ddl_only() {
        assert_eq!(values(r"SELECT '\'")[1], r"\");
        let ddl = r#"CREATE EXTERNAL TABLE t ('\'' "\"" '\t' '\001' '\u0002' '\\')"#;
        assert_eq!(values(ddl)[5..11], ["'", "\"", "\t", "\u{1}", "\u{2}", "\\"]);
        assert_eq!(values(r"ALTER TABLE t; SELECT '\t'").last().unwrap(), r"\t");
    }

    #[test]
    fn what_is_never_closed_is_named() {
        for (text, what) in
            [("SELECT 'x", "string"), ("a \"b", "quoted name"), ("/* x", "comment"), ("${a", "parameter")]
        {
            assert_eq!(tokens(text).unwrap_err().what, what);
        }
    }
}
