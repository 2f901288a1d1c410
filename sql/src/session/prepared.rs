//! Prepared statements: texts with `?` for their parameters, run with other texts in their place.
//!
//! Invariant: a parameter takes the place of one `?` outside quotes and comments, in the order of the text.

use std::collections::BTreeMap;

use headwater_engine::error::{Error, Result};

use super::{Outcome, Session};
use crate::{
    diagnostics::did_you_mean,
    parser::{
        self, Statement,
        cursor::Identifier,
        lexer::{TokenKind, tokens},
    },
};

/// Prepared statements of one session kept at most.
const PREPARED_MAX: usize = 1000;

/// Texts by name in lower case.
pub(super) type PreparedStatements = BTreeMap<String, String>;

impl Session {
    pub(super) fn prepare(&self, name: &Identifier, text: &str) -> Result<Outcome> {
        let prepared = &mut self.shared.state.write().prepared;
        if prepared.len() >= PREPARED_MAX {
            let message = format!("a session keeps at most {PREPARED_MAX} prepared statements");
            return Err(Error::user("GENERIC_USER_ERROR", message).with_hint("drop some with DEALLOCATE PREPARE"));
        }
        prepared.insert(name.value.to_lowercase(), text.to_owned());
        Ok(Outcome::done())
    }

    pub(super) fn deallocate(&self, name: &Identifier) -> Result<Outcome> {
        match self.shared.state.write().prepared.remove(&name.value.to_lowercase()) {
            Some(_) => Ok(Outcome::done()),
            None => Err(not_prepared(name, &PreparedStatements::new())),
        }
    }

    /// The text of a prepared statement.
    pub(crate) fn prepared_text(&self, name: &Identifier) -> Result<String> {
        let state = self.shared.state.read();
        let text = state.prepared.get(&name.value.to_lowercase());
        text.cloned().ok_or_else(|| not_prepared(name, &state.prepared))
    }

    pub(super) async fn execute_prepared(&self, name: &Identifier, arguments: &[String]) -> Result<Outcome> {
        let text = self.prepared_text(name)?;
        let run = self.execute_text(&text, arguments).await;
        run.map_err(|error| error.within(format!("prepared statement \"{}\"", name.value)).at(name.at))
    }

    /// A statement with its parameters replaced by these texts.
    pub(crate) fn bind_parameters(&self, text: &str, arguments: &[String]) -> Result<Statement> {
        bind_parameters(text, arguments)
    }

    pub(super) async fn execute_text(&self, text: &str, arguments: &[String]) -> Result<Outcome> {
        let statement = bind_parameters(text, arguments)?;
        self.run(&statement).await
    }
}

fn not_prepared(name: &Identifier, known: &PreparedStatements) -> Error {
    let error = Error::user("NOT_FOUND", format!("prepared statement \"{}\" does not exist", name.value)).at(name.at);
    did_you_mean(error, &name.value, known.keys().map(String::as_str))
}

/// How many parameters a text has.
pub(crate) fn parameter_count(text: &str) -> usize {
    let tokens = tokens(text).unwrap_or_default();
    tokens.iter().filter(|token| token.kind == TokenKind::Symbol('?')).count()
}

/// The statement with its parameters replaced by these texts.
fn bind_parameters(text: &str, arguments: &[String]) -> Result<Statement> {
    let wanted = parameter_count(text);
    if wanted != arguments.len() {
        let message = format!("the statement has {wanted} parameters, {} were given", arguments.len());
        return Err(Error::user("INVALID_PARAMETER_USAGE", message)
            .with_hint("give one value for each ? after USING, separated by commas"));
    }
    let mut bound = String::with_capacity(text.len());
    let mut copied = 0;
    let mut values = arguments.iter();
    for token in tokens(text).unwrap_or_default() {
        if token.kind == TokenKind::Symbol('?') {
            bound.push_str(&text[copied..token.start]);
            bound.extend([" ", values.next().map_or("", String::as_str), " "]);
            copied = token.end;
        }
    }
    bound.push_str(&text[copied..]);
    let mut statements = parser::parse_filled(&bound)?;
    match statements.pop() {
        Some(statement) if statements.is_empty() => Ok(statement),
        _ => Err(Error::user("SYNTAX_ERROR", "a prepared statement is one statement")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_take_the_place_of_question_marks_outside_quotes() -> Result<()> {
        let arguments = ["5".to_owned(), "'x'".to_owned()];
        let bound = bind_parameters("SELECT '?' -- ?\n, ? FROM t WHERE a=? ", &arguments)?;
        assert_eq!(bound.text, "SELECT '?' -- ?\n,  5  FROM t WHERE a= 'x'");
        Ok(())
    }

    #[test]
    fn a_wrong_number_of_values_is_refused() {
        let error = bind_parameters("SELECT ?", &[]).unwrap_err();
        assert_eq!(error.message(), "the statement has 1 parameters, 0 were given");
    }
}
