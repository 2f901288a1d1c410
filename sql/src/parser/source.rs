//! A script's text with its parameters filled in, and the way back from a byte of it to a place in what was written.
//!
//! Invariant: every position a user sees is in the text as written, whatever the parameters expanded to.
//! `${name}` and `${name:-default}` are replaced outside comments and outside `TBLPROPERTIES`; a value keeps to the
//! literal it stands in, because its quotes are escaped there; `$${` writes `${`; `${env:..}` and `${file:..}` stay.

use std::collections::BTreeMap;

use headwater_engine::error::{Error, Location, Result};

use super::{
    lexer::{Token, TokenKind, Unterminated, tokens},
    lines::Lines,
};

/// Values of parameters by name.
pub type Parameters = BTreeMap<String, String>;

/// A script ready to parse.
#[derive(Debug, Clone)]
pub struct Source {
    written: String,
    lines: Lines,
    text: String,
    segments: Vec<Segment>,
    tokens: Vec<Token>,
}

/// A part of the text that was either copied or put in for a parameter.
#[derive(Debug, Clone, Copy)]
struct Segment {
    start: usize,
    written: usize,
    is_copy: bool,
}

impl Source {
    /// Fills in the parameters.
    pub fn new(written: &str, parameters: &Parameters) -> Result<Self> {
        let mut source = Self::filled(written)?;
        if written.contains("${") {
            (source.text, source.segments) = source.fill_in(parameters)?;
            source.tokens = tokens(&source.text).map_err(|open| source.unterminated(&open))?;
        }
        Ok(source)
    }

    /// A text without parameters.
    pub fn filled(written: &str) -> Result<Self> {
        let mut source = Self {
            written: written.to_owned(),
            lines: Lines::of(written),
            text: written.to_owned(),
            segments: vec![Segment { start: 0, written: 0, is_copy: true }],
            tokens: Vec::new(),
        };
        source.tokens = tokens(written).map_err(|open| source.unterminated(&open))?;
        Ok(source)
    }

    fn unterminated(&self, open: &Unterminated) -> Error {
        Error::user("SYNTAX_ERROR", format!("this {} is never closed", open.what)).at(self.location(open.start))
    }

    /// The text with its parameters filled in.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its tokens.
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// The place in the written script of a byte of the text.
    pub fn location(&self, at: usize) -> Location {
        let index = self.segments.partition_point(|segment| segment.start <= at).saturating_sub(1);
        let written = match self.segments.get(index) {
            Some(segment) if segment.is_copy => segment.written + (at - segment.start),
            Some(segment) => segment.written,
            None => at,
        };
        self.lines.location(&self.written, written)
    }

    fn fill_in(&self, parameters: &Parameters) -> Result<(String, Vec<Segment>)> {
        let mut filler = Filler { source: self, parameters, text: String::new(), segments: Vec::new() };
        let mut copied = 0;
        let mut properties = PropertiesWatch::default();
        for token in &self.tokens {
            let is_kept = properties.holds(&self.written[token.range()], token);
            if !is_kept && self.written[token.range()].contains("${") {
                filler.copy(copied, token.start);
                filler.token(token)?;
                copied = token.end;
            }
        }
        filler.copy(copied, self.written.len());
        Ok((filler.text, filler.segments))
    }
}

/// Knows whether a token lies between the parentheses after `TBLPROPERTIES`.
#[derive(Debug, Default)]
struct PropertiesWatch {
    is_named: bool,
    depth: usize,
}

impl PropertiesWatch {
    fn holds(&mut self, word: &str, token: &Token) -> bool {
        match token.kind {
            TokenKind::Symbol('(') if self.is_named || self.depth > 0 => self.depth += 1,
            TokenKind::Symbol(')') if self.depth > 0 => self.depth -= 1,
            _ => {}
        }
        self.is_named = token.kind == TokenKind::Word && word.eq_ignore_ascii_case("TBLPROPERTIES");
        self.depth > 0
    }
}

struct Filler<'a> {
    source: &'a Source,
    parameters: &'a Parameters,
    text: String,
    segments: Vec<Segment>,
}

impl Filler<'_> {
    fn copy(&mut self, from: usize, to: usize) {
        self.segments.push(Segment { start: self.text.len(), written: from, is_copy: true });
        self.text.push_str(&self.source.written[from..to]);
    }

    fn token(&mut self, token: &Token) -> Result<()> {
        let mut at = token.start;
        while let Some(found) = self.source.written[at..token.end].find("${") {
            let open = at + found;
            if self.source.written[..open].ends_with('$') && open > at {
                self.copy(at, open - 1);
                self.copy(open, open + 2);
                at = open + 2;
                continue;
            }
            let close = self.source.written[open..token.end].find('}').map(|found| open + found).ok_or_else(|| {
                Error::user("SYNTAX_ERROR", "this parameter is never closed")
                    .with_hint("write ${name}, or $${ for the characters ${")
                    .at(self.source.location(open))
            })?;
            let inside = &self.source.written[open + 2..close];
            if inside.starts_with("env:") || inside.starts_with("file:") {
                self.copy(at, close + 1);
            } else {
                self.copy(at, open);
                let mut value = self.value(inside, open, token)?;
                if is_bare(token) && value.starts_with('-') && self.text.ends_with('-') {
                    // Two of them would begin a comment.
                    value.insert(0, ' ');
                }
                self.segments.push(Segment { start: self.text.len(), written: open, is_copy: false });
                self.text.push_str(&value);
            }
            at = close + 1;
        }
        self.copy(at, token.end);
        Ok(())
    }

    /// What stands for a parameter: its value, made fit for the token, or its default, which is written as the token is.
    fn value(&self, inside: &str, open: usize, token: &Token) -> Result<String> {
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        let given = self.parameters.get(name);
        if is_bare(token) && given.is_some_and(|value| !is_operand(value)) {
            let message = format!("the value of parameter \"{name}\" is neither a name nor a literal");
            return Err(Error::user("INVALID_PARAMETER", message)
                .with_hint(format!("write '${{{name}}}' for a text; a parameter is no other part of a statement"))
                .at(self.source.location(open)));
        }
        let given = given.map(|value| escaped(value, token));
        if let Some(value) = given.or_else(|| default.map(str::to_owned)) {
            return Ok(value);
        }
        let error = Error::user("INVALID_PARAMETER", format!("parameter \"{name}\" is not defined"));
        let known = crate::diagnostics::nearest(name, self.parameters.keys().map(String::as_str));
        Err(match known {
            Some(known) => error.with_hint(format!("did you mean \"{known}\"?")),
            None => error.with_hint(format!("pass --param {name}=.., or write ${{{name}:-default}}")),
        }
        .at(self.source.location(open)))
    }
}

/// Whether a token has no quotes.
fn is_bare(token: &Token) -> bool {
    !matches!(token.kind, TokenKind::Text | TokenKind::Quoted(_))
}

/// Whether a text is one name, with or without dots, or literals with commas between: numbers, texts, texts with their
/// type, intervals.
fn is_operand(value: &str) -> bool {
    let value = value.trim();
    let Ok(tokens) = tokens(value) else { return false };
    let mut before = 0;
    for token in &tokens {
        if !value[before..token.start].trim().is_empty() {
            return false;
        }
        before = token.end;
    }
    before == value.len()
        && (tokens.split(|token| token.kind == TokenKind::Symbol(',')).all(|part| is_literal(value, part))
            || is_name(&tokens))
}

/// Whether tokens are names with dots between.
fn is_name(tokens: &[Token]) -> bool {
    let fits = |(at, token): (usize, &Token)| match at % 2 {
        0 => matches!(token.kind, TokenKind::Word | TokenKind::Quoted(_)),
        _ => token.kind == TokenKind::Symbol('.'),
    };
    tokens.len() % 2 == 1 && tokens.iter().enumerate().all(fits)
}

/// Whether tokens of a text are one literal.
fn is_literal(text: &str, tokens: &[Token]) -> bool {
    let is_interval = |token: &Token| text[token.range()].eq_ignore_ascii_case("INTERVAL");
    match tokens.iter().map(|token| &token.kind).collect::<Vec<_>>().as_slice() {
        [TokenKind::Number | TokenKind::Text]
        | [TokenKind::Symbol('-' | '+'), TokenKind::Number]
        | [TokenKind::Word, TokenKind::Text] => true,
        [TokenKind::Word, TokenKind::Text, TokenKind::Word]
        | [TokenKind::Word, TokenKind::Symbol('-' | '+'), TokenKind::Text, TokenKind::Word] => is_interval(&tokens[0]),
        _ => false,
    }
}

/// A value as it must be written within this token's quotes.
fn escaped(value: &str, token: &Token) -> String {
    let quote = match token.kind {
        TokenKind::Text => '\'',
        TokenKind::Quoted(quote) => quote,
        TokenKind::Word | TokenKind::Number | TokenKind::Parameter | TokenKind::Symbol(_) => return value.to_owned(),
    };
    let doubled = value.replace(quote, &format!("{quote}{quote}"));
    if token.escapes && quote != '`' { doubled.replace('\\', r"\\") } else { doubled }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(written: &str) -> String {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let parameters = Parameters::from([("day", "o'clock"), ("n", "7"), ("q", "a\"b"), ("less", "-7")].map(owned));
        Source::new(written, &parameters).map_or_else(|error| format!("{error:?}"), |source| source.text().to_owned())
    }

    #[test]
    fn values_keep_to_their_literal() {
        assert_eq!(filled("SELECT '${day}', \"${q}\", ${n}"), "SELECT 'o''clock', \"a\"\"b\", 7");
        assert_eq!(filled("SELECT '${x:-b c}' -- ${undefined}"), "SELECT 'b c' -- ${undefined}");
        assert_eq!(filled("SELECT '${x:-it''s}', '${day:-it''s}'"), "SELECT 'it''s', 'o''clock'");
        assert_eq!(filled("SELECT '$${n} ${n}'"), "SELECT '${n} 7'");
        assert_eq!(filled("SELECT 1 -${less}, -${x:--8}, '-${less}'"), "SELECT 1 - -7, - -8, '--7'");
    }

    #[test]
    fn without_quotes_a_value_is_one_name_or_literal() {
        for operand in
            ["7", "-1.5", "a", "db.\"t\"", "'it''s'", "DATE '2024-01-01'", " x ", "1, 2,'a'", "INTERVAL '5' second"]
        {
            assert!(is_operand(operand), "{operand}");
        }
        for other in [
            "",
            "1; DROP TABLE t",
            "1 OR 1=1",
            "it's",
            "1 -- ",
            "a /* b */",
            "f(x)",
            "a b",
            "1, a",
            "1,",
            "a.",
            "- a",
            "x '5' y",
        ] {
            assert!(!is_operand(other), "{other}");
        }
        let refused = filled("SELECT ${day}");
        assert!(refused.contains("neither a name nor a literal"), "{refused}");
    }

    #[test]
    fn secrets_and_templates_stay() {
        assert_eq!(filled("WITH ('a' = '${env:KEY}${n}')"), "WITH ('a' = '${env:KEY}7')");
        assert_eq!(
            filled("LOCATION '${n}' TBLPROPERTIES ('t' = 's3://b/${n}/') ; SELECT ${n}"),
            "LOCATION '7' TBLPROPERTIES ('t' = 's3://b/${n}/') ; SELECT 7"
        );
    }

    #[test]
    fn an_undefined_parameter_is_an_error_with_its_place() {
        let error = Source::new("SELECT 1,\n  '${dya}'", &Parameters::from([("day".into(), "1".into())])).unwrap_err();
        assert_eq!((error.location().unwrap().line, error.location().unwrap().column), (2, 4));
        assert_eq!(error.hint(), Some("did you mean \"day\"?"));
    }

    #[test]
    fn positions_are_those_of_the_written_text() {
        let source = Source::new(
            "SELECT ${n},\n '${day}', x",
            &Parameters::from([("n".into(), "1234567".into()), ("day".into(), "a\nb".into())]),
        )
        .unwrap();
        let x = source.text().rfind('x').unwrap();
        assert_eq!(source.location(x), Location { line: 2, column: 12 });
    }
}
