//! From a script's text to statements: parameters filled in, split at semicolons, each parsed to an enum of ours.
//!
//! Invariant: a script is parsed whole before any of it runs, and every error has its place in the text as written.
//!
//! ```text
//! text --source--> parameters filled in --lexer--> tokens --split--> statements
//!      queries: sqlparser on their tokens (dialect)     everything else: cursor and the parsers here
//! ```

mod create_table;
pub mod cursor;
pub mod data_type;
pub mod ddl;
mod ddl_statements;
pub mod depth;
pub mod dialect;
mod json_calls;
mod json_table;
pub mod lexer;
pub(crate) mod lines;
mod match_recognize;
pub mod rewrite;
mod samples;
mod session_statements;
mod show;
pub mod source;
pub mod statement;
mod statements;
pub mod stream_ddl;
#[cfg(test)]
mod tests;

use headwater_engine::error::Result;

use self::{
    cursor::Cursor,
    lexer::{Token, TokenKind},
    source::Source,
};
pub use self::{
    source::Parameters,
    statement::{Statement, StatementKind},
};

/// All statements of a script.
pub fn parse(text: &str, parameters: &Parameters) -> Result<Vec<Statement>> {
    statements_of(&Source::new(text, parameters)?)
}

/// All statements of a text whose parameters were filled in before: of a view, of a prepared statement.
pub fn parse_filled(text: &str) -> Result<Vec<Statement>> {
    statements_of(&Source::filled(text)?)
}

fn statements_of(source: &Source) -> Result<Vec<Statement>> {
    let pieces = split(source.text(), source.tokens());
    pieces
        .into_iter()
        .map(|piece| {
            depth::check(source, piece)?;
            statements::parse(&mut Cursor::new(source, piece))
        })
        .collect()
}

/// Whether a text ends where a statement may: nothing open, and a semicolon last, or no statement at all.
pub fn is_complete(text: &str) -> bool {
    let Ok(tokens) = lexer::tokens(text) else { return false };
    let is_open = |piece: &&[Token]| is_statement_set(text, piece) && !ends_set(text, piece);
    let ends = tokens.last().is_none_or(|last| last.kind == TokenKind::Symbol(';'));
    ends && !split(text, &tokens).last().is_some_and(is_open)
}

/// The statements' tokens, without the semicolons between them; those within a statement set stay in it.
fn split<'a>(text: &str, tokens: &'a [Token]) -> Vec<&'a [Token]> {
    let mut pieces = Vec::new();
    let mut start = 0;
    for (index, token) in tokens.iter().enumerate() {
        let piece = &tokens[start..index];
        if token.kind != TokenKind::Symbol(';') || is_statement_set(text, piece) && !ends_set(text, piece) {
            continue;
        }
        pieces.push(piece);
        start = index + 1;
    }
    pieces.push(&tokens[start..]);
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

fn is_word(text: &str, token: &Token, word: &str) -> bool {
    token.kind == TokenKind::Word && text[token.range()].eq_ignore_ascii_case(word)
}

fn starts_with(text: &str, tokens: &[Token], words: &[&str]) -> bool {
    tokens.len() >= words.len() && words.iter().zip(tokens).all(|(word, token)| is_word(text, token, word))
}

fn is_statement_set(text: &str, piece: &[Token]) -> bool {
    starts_with(text, piece, &["EXECUTE", "STATEMENT", "SET"])
        || starts_with(text, piece, &["BEGIN", "STATEMENT", "SET"])
}

/// Whether the set is closed: its last statement is `END`.
fn ends_set(text: &str, piece: &[Token]) -> bool {
    match piece {
        [.., before, end] => before.kind == TokenKind::Symbol(';') && is_word(text, end, "END"),
        _ => false,
    }
}
