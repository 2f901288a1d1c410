//! The texts of a MATCH_RECOGNIZE clause: rows per match, where to skip to, pattern and subsets.
//!
//! Invariant: a text that is not one of the forms is a syntax error.

use datafusion::sql::sqlparser::ast;
use headwater_engine::error::{Error, Result};

use super::{Matching, skip_to};
use crate::matching::{RowsPerMatch, Skip};

/// The texts, as the parser hands them over.
pub(super) struct Header {
    rows: String,
    skip: String,
    pub(super) pattern: String,
    subsets: String,
    /// How many items of the select list are measures.
    pub(super) measures: usize,
}

fn wrong(what: &str, text: &str) -> Error {
    Error::user("SYNTAX_ERROR", format!("MATCH_RECOGNIZE: {what} \"{text}\" is not known"))
}

/// A name as it was written.
fn ident(text: &str) -> ast::Ident {
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(quoted) => ast::Ident::with_quote('"', quoted),
        None => ast::Ident::new(text),
    }
}

fn canonical(text: &str) -> String {
    let name = ident(text);
    if name.quote_style.is_some() { name.value } else { name.value.to_uppercase() }
}

impl Header {
    /// Reads the arguments of the carrying call.
    pub(super) fn of(function: &ast::Function) -> Result<Self> {
        let broken = || Error::internal("MATCH_RECOGNIZE was handed over without its texts");
        let ast::FunctionArguments::List(list) = &function.args else { return Err(broken()) };
        let texts: Vec<String> = list
            .args
            .iter()
            .filter_map(|arg| match arg {
                ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(ast::Expr::Value(value))) => match &value.value {
                    ast::Value::SingleQuotedString(text) | ast::Value::Number(text, _) => Some(text.clone()),
                    _ => None,
                },
                _ => None,
            })
            .collect();
        let [rows, skip, pattern, subsets, measures] = texts.try_into().map_err(|_| broken())?;
        Ok(Self { rows, skip, pattern, subsets, measures: measures.parse().map_err(|_| broken())? })
    }

    pub(super) fn rows(&self) -> Result<RowsPerMatch> {
        let all = |empty, unmatched| Ok(RowsPerMatch::All { empty, unmatched });
        match self.rows.to_uppercase().as_str() {
            "" | "ONE ROW PER MATCH" => Ok(RowsPerMatch::One),
            "ALL ROWS PER MATCH" | "ALL ROWS PER MATCH SHOW EMPTY MATCHES" => all(true, false),
            "ALL ROWS PER MATCH OMIT EMPTY MATCHES" => all(false, false),
            "ALL ROWS PER MATCH WITH UNMATCHED ROWS" => all(true, true),
            _ => Err(wrong("rows per match", &self.rows)),
        }
    }

    pub(super) fn skip(&self, matching: &Matching) -> Result<Skip> {
        if self.skip.ends_with(" SEEK") {
            return Err(Error::not_supported("pattern search modifiers INITIAL and SEEK are not supported")
                .with_hint("leave the word out, or begin the pattern with ^"));
        }
        let words: Vec<&str> = self.skip.split_whitespace().collect();
        let upper: Vec<String> = words.iter().map(|word| word.to_uppercase()).collect();
        let upper: Vec<&str> = upper.iter().map(String::as_str).collect();
        match (upper.as_slice(), words.last()) {
            ([] | ["AFTER", "MATCH", "SKIP", "PAST", "LAST", "ROW"], _) => Ok(Skip::PastLast),
            (["AFTER", "MATCH", "SKIP", "TO", "NEXT", "ROW"], _) => Ok(Skip::ToNext),
            (["AFTER", "MATCH", "SKIP", "TO", "FIRST", _], Some(label)) => skip_to(true, &ident(label), matching),
            (["AFTER", "MATCH", "SKIP", "TO", "LAST", _] | ["AFTER", "MATCH", "SKIP", "TO", _], Some(label)) => {
                skip_to(false, &ident(label), matching)
            }
            _ => Err(wrong("where to skip to", &self.skip)),
        }
    }

    /// `U = (A, B), V = (B, C)`
    pub(super) fn subsets(&self, labels: &[String]) -> Result<Vec<(String, Vec<u16>)>> {
        let invalid = |message: String| Err(Error::user("INVALID_LABEL", message));
        let mut subsets: Vec<(String, Vec<u16>)> = Vec::new();
        for part in self.subsets.split(')') {
            let part = part.trim().trim_start_matches(',').trim();
            if part.is_empty() {
                continue;
            }
            let Some((name, members)) = part.split_once('=') else { return Err(wrong("subset", part)) };
            let Some(members) = members.trim().strip_prefix('(') else { return Err(wrong("subset", part)) };
            let name = canonical(name.trim());
            if labels.contains(&name) || subsets.iter().any(|(known, _)| *known == name) {
                return invalid(format!("union pattern variable name {name} is a duplicate"));
            }
            let mut numbers = Vec::new();
            for member in members.split(',') {
                let member = canonical(member.trim());
                match labels.iter().position(|label| *label == member) {
                    Some(label) => numbers.push(label as u16),
                    None => return invalid(format!("subset element {member} is not a primary pattern variable")),
                }
            }
            numbers.sort_unstable();
            numbers.dedup();
            subsets.push((name, numbers));
        }
        Ok(subsets)
    }
}
