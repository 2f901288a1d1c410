//! Words that are no names unless they are quoted.
//!
//! Invariant: the list is that of Trino's grammar; every other word may name a column or a relation.

use datafusion::sql::sqlparser::ast::Ident;
use headwater_engine::error::{Error, Result};

use super::scope::located;

const WORDS: &[&str] = &[
    "alter",
    "and",
    "as",
    "auto",
    "between",
    "by",
    "case",
    "cast",
    "constraint",
    "create",
    "cross",
    "cube",
    "deallocate",
    "delete",
    "describe",
    "distinct",
    "drop",
    "else",
    "end",
    "escape",
    "except",
    "exists",
    "extract",
    "false",
    "for",
    "from",
    "full",
    "group",
    "grouping",
    "having",
    "in",
    "inner",
    "insert",
    "intersect",
    "into",
    "is",
    "join",
    "json_array",
    "json_exists",
    "json_object",
    "json_query",
    "json_table",
    "json_value",
    "left",
    "like",
    "listagg",
    "natural",
    "normalize",
    "not",
    "null",
    "on",
    "or",
    "order",
    "outer",
    "prepare",
    "recursive",
    "right",
    "rollup",
    "select",
    "skip",
    "table",
    "then",
    "trim",
    "true",
    "uescape",
    "union",
    "unnest",
    "using",
    "values",
    "when",
    "where",
    "with",
];

/// Refuses a name that is a reserved word without quotes, or nothing in quotes.
pub(crate) fn check(name: &Ident) -> Result<()> {
    if name.quote_style.is_some() {
        if name.value.is_empty() {
            return Err(located(Error::user("SYNTAX_ERROR", "a name in quotes must not be empty"), name));
        }
        return Ok(());
    }
    let word = name.value.to_lowercase();
    if WORDS.binary_search(&word.as_str()).is_ok() {
        let error = Error::user("SYNTAX_ERROR", format!("{word} is a reserved word"));
        return Err(located(error.with_hint(format!("write \"{word}\" to use it as a name")), name));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_words_are_sorted() {
        assert!(super::WORDS.is_sorted());
    }
}
