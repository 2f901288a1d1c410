//! A place in the tokens of one statement, with the small steps every statement parser is made of.
//!
//! Invariant: a failed step leaves the place where it was, and its error says what was expected and what stands there.

use datafusion::sql::sqlparser::{
    ast::{self, Spanned},
    keywords::Keyword,
    parser::{Parser, ParserError},
    tokenizer::{self, Tokenizer},
};
use headwater_engine::error::{Error, Location, Result};

use super::{
    dialect::TrinoDialect,
    lexer::{Token, TokenKind, is_digit_name, unquote},
    lines::Lines,
    rewrite::rewrite,
    source::Source,
};

/// Expressions may nest this deep.
const NESTING_MAX: usize = 200;

/// A name as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identifier {
    /// The name without its quotes.
    pub value: String,
    /// Whether it stood in quotes.
    pub is_quoted: bool,
    /// Where.
    pub at: Location,
}

/// A name of one to three parts: `[[catalog.]database.]name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectName {
    /// The parts, at least one.
    pub parts: Vec<Identifier>,
}

impl ObjectName {
    /// Where it starts.
    pub fn at(&self) -> Location {
        self.parts.first().map_or(Location { line: 1, column: 1 }, |part| part.at)
    }
}

impl std::fmt::Display for ObjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, part) in self.parts.iter().enumerate() {
            let dot = if index == 0 { "" } else { "." };
            write!(f, "{dot}{}", part.value)?;
        }
        Ok(())
    }
}

/// The place.
#[derive(Debug, Clone)]
pub struct Cursor<'a> {
    source: &'a Source,
    tokens: &'a [Token],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The start of these tokens.
    pub fn new(source: &'a Source, tokens: &'a [Token]) -> Self {
        Self { source, tokens, at: 0 }
    }

    /// Whether nothing is left.
    pub fn is_at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    /// The tokens not yet taken.
    pub fn rest(&self) -> &'a [Token] {
        &self.tokens[self.at.min(self.tokens.len())..]
    }

    /// A cursor over some tokens of the same script.
    pub fn over(&self, tokens: &'a [Token]) -> Cursor<'a> {
        Cursor::new(self.source, tokens)
    }

    /// The whole script, parameters filled in.
    pub fn script(&self) -> &'a str {
        self.source.text()
    }

    /// Takes `count` tokens.
    pub fn skip(&mut self, count: usize) {
        self.at = (self.at + count).min(self.tokens.len());
    }

    /// Where the next token stands, or the end of the last one.
    pub fn location(&self) -> Location {
        match (self.tokens.get(self.at), self.tokens.last()) {
            (Some(token), _) => self.source.location(token.start),
            (None, Some(last)) => self.source.location(last.end),
            (None, None) => self.source.location(self.source.text().len()),
        }
    }

    /// The text from the first to the last of some tokens, as it stands in the script.
    pub fn text_of(&self, tokens: &[Token]) -> &'a str {
        match (tokens.first(), tokens.last()) {
            (Some(first), Some(last)) => &self.source.text()[first.start..last.end],
            _ => "",
        }
    }

    /// The unquoted word `ahead` tokens from here, in upper case.
    pub fn word_ahead(&self, ahead: usize) -> Option<String> {
        let token = self.tokens.get(self.at + ahead)?;
        (token.kind == TokenKind::Word).then(|| self.source.text()[token.range()].to_uppercase())
    }

    /// Whether these words come next.
    pub fn is_at(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(ahead, word)| {
            self.tokens.get(self.at + ahead).is_some_and(|token| {
                token.kind == TokenKind::Word && self.source.text()[token.range()].eq_ignore_ascii_case(word)
            })
        })
    }

    /// Takes these words if they come next.
    pub fn take(&mut self, words: &[&str]) -> bool {
        let is_next = self.is_at(words);
        if is_next {
            self.at += words.len();
        }
        is_next
    }

    /// Takes these words or says what stands there.
    pub fn expect(&mut self, words: &[&str]) -> Result<()> {
        if self.take(words) { Ok(()) } else { Err(self.expected(&words.join(" "))) }
    }

    /// Whether this character comes next.
    pub fn is_at_symbol(&self, symbol: char) -> bool {
        self.tokens.get(self.at).is_some_and(|token| token.kind == TokenKind::Symbol(symbol))
    }

    /// Takes this character if it comes next.
    pub fn take_symbol(&mut self, symbol: char) -> bool {
        let is_next = self.is_at_symbol(symbol);
        if is_next {
            self.at += 1;
        }
        is_next
    }

    /// Takes this character or says what stands there.
    pub fn expect_symbol(&mut self, symbol: char) -> Result<()> {
        if self.take_symbol(symbol) { Ok(()) } else { Err(self.expected(&format!("\"{symbol}\""))) }
    }

    /// Refuses anything left over.
    pub fn expect_end(&self) -> Result<()> {
        if self.is_at_end() { Ok(()) } else { Err(self.expected("the end of the statement")) }
    }

    /// A name, quoted or not.
    pub fn identifier(&mut self, what: &str) -> Result<Identifier> {
        match self.tokens.get(self.at) {
            Some(token) if matches!(token.kind, TokenKind::Word | TokenKind::Quoted(_)) => {
                let name = Identifier {
                    value: unquote(self.source.text(), token),
                    is_quoted: token.kind != TokenKind::Word,
                    at: self.location(),
                };
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.expected(what)),
        }
    }

    /// A name of up to three parts.
    pub fn object_name(&mut self, what: &str) -> Result<ObjectName> {
        let mut parts = vec![self.identifier(what)?];
        while self.is_at_symbol('.') {
            self.at += 1;
            parts.push(self.identifier(what)?);
        }
        if parts.len() > 3 {
            return Err(
                Error::user("SYNTAX_ERROR", "a name has at most three parts: catalog.database.table").at(parts[0].at)
            );
        }
        Ok(ObjectName { parts })
    }

    /// A text in single quotes, or in double quotes as Hive allows.
    pub fn text(&mut self, what: &str) -> Result<String> {
        match self.tokens.get(self.at) {
            Some(token) if matches!(token.kind, TokenKind::Text | TokenKind::Quoted('"')) => {
                self.at += 1;
                Ok(unquote(self.source.text(), token))
            }
            _ => Err(self.expected(what)),
        }
    }

    /// Whether a text comes next.
    pub fn is_at_text(&self) -> bool {
        self.tokens.get(self.at).is_some_and(|token| matches!(token.kind, TokenKind::Text | TokenKind::Quoted('"')))
    }

    /// A number as written, with its sign.
    pub fn number(&mut self, what: &str) -> Result<String> {
        let is_negative = self.is_at_symbol('-');
        let at = self.at + usize::from(is_negative);
        match self.tokens.get(at) {
            Some(token) if token.kind == TokenKind::Number => {
                self.at = at + 1;
                let sign = if is_negative { "-" } else { "" };
                Ok(format!("{sign}{}", &self.source.text()[token.range()]))
            }
            _ => Err(self.expected(what)),
        }
    }

    /// Whether a number comes next.
    pub fn is_at_number(&self) -> bool {
        let at = self.at + usize::from(self.is_at_symbol('-'));
        self.tokens.get(at).is_some_and(|token| token.kind == TokenKind::Number)
    }

    /// Items between parentheses, separated by commas, at least one.
    pub fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        self.expect_symbol('(')?;
        let mut items = vec![item(self)?];
        while self.take_symbol(',') {
            items.push(item(self)?);
        }
        self.expect_symbol(')')?;
        Ok(items)
    }

    /// The tokens up to the parenthesis that closes the one which comes next; both are taken.
    pub fn parenthesised(&mut self) -> Result<&'a [Token]> {
        let opening = self.clone();
        self.expect_symbol('(')?;
        let start = self.at;
        let end = self.until_at_depth_zero(|cursor| cursor.is_at_symbol(')'));
        if end.is_none() {
            return Err(opening.error("this parenthesis is never closed"));
        }
        let inside = &self.tokens[start..self.at];
        self.at += 1;
        Ok(inside)
    }

    /// Moves to the first place outside parentheses where the condition holds; `None`, at the end, if there is none.
    pub fn until_at_depth_zero(&mut self, is_found: impl Fn(&Self) -> bool) -> Option<usize> {
        let mut depth = 0_usize;
        while let Some(token) = self.tokens.get(self.at) {
            if depth == 0 && is_found(self) {
                return Some(self.at);
            }
            match token.kind {
                TokenKind::Symbol('(' | '[') => depth += 1,
                TokenKind::Symbol(')' | ']') => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.at += 1;
        }
        None
    }

    /// A syntax error at this place.
    pub fn error(&self, message: impl Into<String>) -> Error {
        Error::user("SYNTAX_ERROR", message).at(self.location())
    }

    /// A syntax error that says what was expected here.
    pub fn expected(&self, what: &str) -> Error {
        let found = match self.tokens.get(self.at) {
            Some(token) => format!("\"{}\"", &self.source.text()[token.range()]),
            None => "the end of the statement".to_owned(),
        };
        self.error(format!("expected {what}, found {found}"))
    }

    /// The query that these tokens are.
    pub fn query(&self, tokens: &[Token]) -> Result<Box<ast::Query>> {
        let parsed = self.sqlparser(tokens, "a query", |parser| parser.parse_query());
        parsed.map_err(|error| self.of_the_past(tokens).unwrap_or(error))
    }

    /// The refusal of `FOR TIMESTAMP AS OF`, where that is what a query cannot be read for.
    fn of_the_past(&self, tokens: &[Token]) -> Option<Error> {
        let refused = |at: usize| {
            let here = self.over(&tokens[at..]);
            let kind = ["TIMESTAMP", "VERSION"].into_iter().find(|kind| here.is_at(&["FOR", kind, "AS", "OF"]))?;
            Some(
                Error::not_supported(format!("FOR {kind} AS OF is not supported"))
                    .with_hint("files have no history; keep what a table is now with CREATE TABLE AS")
                    .at(here.location()),
            )
        };
        (0..tokens.len()).find_map(refused)
    }

    /// The expression that these tokens are.
    pub fn expression(&self, tokens: &[Token]) -> Result<ast::Expr> {
        self.sqlparser(tokens, "an expression", |parser| parser.parse_expr())
    }

    /// The data type that these tokens are.
    pub fn data_type(&self, tokens: &[Token]) -> Result<ast::DataType> {
        self.sqlparser(tokens, "a type", |parser| parser.parse_data_type())
    }

    fn sqlparser<T>(
        &self,
        tokens: &[Token],
        what: &str,
        parse: impl FnOnce(&mut Parser<'_>) -> Result<T, ParserError>,
    ) -> Result<T> {
        let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else { return Err(self.expected(what)) };
        let text = &self.source.text()[first.start..last.end];
        if let Some(glued) = tokens.iter().find(|token| is_digit_name(&self.source.text()[token.range()])) {
            return Err(Error::user(
                "SYNTAX_ERROR",
                "identifiers must not start with a digit; surround the identifier with double quotes",
            )
            .at(self.source.location(glued.start)));
        }
        let mut spanned = Tokenizer::new(&TrinoDialect, text).tokenize_with_location().map_err(|error| {
            Error::user("SYNTAX_ERROR", lower_first(&error.message)).at(self.source.location(first.start))
        })?;
        let lines = Lines::of(text);
        for token in &mut spanned {
            for end in [&mut token.span.start, &mut token.span.end] {
                let at = lines.byte(text, Location { line: end.line, column: end.column });
                let place = self.source.location(first.start + at);
                *end = tokenizer::Location::new(place.line, place.column);
            }
        }
        let mut parser =
            Parser::new(&TrinoDialect).with_recursion_limit(NESTING_MAX).with_tokens_with_locations(rewrite(spanned));
        let (start, end) = (self.source.location(first.start), self.source.location(last.end));
        let parsed = parse(&mut parser).map_err(|error| syntax_error(error, start, end))?;
        if parser.peek_token_ref().token != tokenizer::Token::EOF {
            let left = parser.peek_token();
            let error = ParserError::ParserError(format!("Expected: the end of the statement, found: {left}"));
            return Err(syntax_error(error, location_of(left.span.start).unwrap_or(start), end));
        }
        Ok(parsed)
    }
}

/// The place of a parsed node in the script, if sqlparser kept it.
pub fn location_of_node(node: &impl Spanned) -> Option<Location> {
    location_of(node.span().start)
}

fn location_of(place: tokenizer::Location) -> Option<Location> {
    (place.line > 0).then_some(Location { line: place.line, column: place.column })
}

/// Our wording and position of sqlparser's error.
fn syntax_error(error: ParserError, start: Location, end: Location) -> Error {
    let message = match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
        ParserError::RecursionLimitExceeded => {
            return Error::user("SYNTAX_ERROR", format!("expressions nest deeper than {NESTING_MAX}")).at(start);
        }
    };
    let (message, at) = match message.rsplit_once(" at Line: ") {
        Some((message, place)) => {
            let mut numbers = place.split(", Column: ").map(|number| number.trim().parse().ok());
            let at = match (numbers.next().flatten(), numbers.next().flatten()) {
                (Some(line), Some(column)) => Location { line, column },
                _ => start,
            };
            (message.to_owned(), at)
        }
        None if message.ends_with("found: EOF") => (message, end),
        None => (message, start),
    };
    let message =
        message.replace("Expected: ", "expected ").replace(", found: EOF", ", found the end of the statement");
    Error::user("SYNTAX_ERROR", lower_first(&quote_found(&message))).at(at)
}

fn quote_found(message: &str) -> String {
    match message.split_once(", found: ") {
        Some((expected, found)) => format!("{expected}, found \"{found}\""),
        None => message.to_owned(),
    }
}

fn lower_first(message: &str) -> String {
    let mut characters = message.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}

/// Whether a word cannot stand unquoted where a name is expected.
pub fn is_reserved(word: &str) -> bool {
    use datafusion::sql::sqlparser::keywords;
    keywords::ALL_KEYWORDS
        .binary_search(&word)
        .ok()
        .map(|index| keywords::ALL_KEYWORDS_INDEX[index])
        .is_some_and(|keyword: Keyword| keywords::RESERVED_FOR_COLUMN_ALIAS.contains(&keyword))
}
