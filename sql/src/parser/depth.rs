//! How deep a statement is, before anything walks it: what is parsed, planned and dropped by recursion must end.
//!
//! Invariant: a statement that passes needs less stack than [`STACK_BYTES`], whatever it says.

use headwater_engine::error::{Error, Result};

use super::{
    lexer::{Token, TokenKind},
    source::Source,
};

/// Stack of the threads that statements are planned on; pages that are not used are not there.
pub const STACK_BYTES: usize = 128 << 20;
/// Operators that stand in one another: `1 + 1 + ..`, `a OR b OR ..`, `UNION ALL`, and brackets around them.
const LINKS_MAX: usize = 2_000;
/// Brackets in brackets, those of types among them.
const BRACKETS_MAX: usize = 200;

/// Refuses a statement that is too deep.
pub(super) fn check(source: &Source, tokens: &[Token]) -> Result<()> {
    let text = source.text();
    let (mut levels, mut links) = (vec![Level::default()], 0_usize);
    for (index, token) in tokens.iter().enumerate() {
        match link(text, tokens, index) {
            Link::Opens => levels.push(Level::default()),
            Link::Closes if levels.len() > 1 => links -= levels.pop().unwrap_or_default().links(),
            Link::Adds => {
                links += 1;
                if let Some(level) = levels.last_mut() {
                    level.joined += 1;
                }
            }
            Link::Computes => {
                links += 1;
                if let Some(level) = levels.last_mut() {
                    level.computed += 1;
                }
            }
            Link::Joins => {
                links += 1;
                if let Some(level) = levels.last_mut() {
                    // What stands on its two sides does not stand in one another.
                    links -= std::mem::take(&mut level.computed);
                    level.joined += 1;
                }
            }
            Link::Begins => {
                if let Some(level) = levels.last_mut() {
                    links -= std::mem::take(level).links();
                }
            }
            Link::Closes | Link::None => {}
        }
        let too_deep = |what: String, hint: &str| {
            Err(Error::user("SYNTAX_ERROR", what).with_hint(hint).at(source.location(token.start)))
        };
        if levels.len() > BRACKETS_MAX {
            return too_deep(format!("brackets nest deeper than {BRACKETS_MAX}"), "split the statement with WITH");
        }
        if links > LINKS_MAX {
            let hint = "use IN (..) or a join with VALUES for many values, array_join or concat for many texts";
            return too_deep(format!("more than {LINKS_MAX} operators stand in one another"), hint);
        }
    }
    Ok(())
}

/// Operators between two brackets so far.
#[derive(Debug, Default)]
struct Level {
    joined: usize,
    /// Those of arithmetic since the last AND or OR.
    computed: usize,
}

impl Level {
    fn links(&self) -> usize {
        self.joined + self.computed
    }
}

/// What a token does to the depth of the tree.
enum Link {
    Opens,
    Closes,
    /// One level more, up to the next comma or clause.
    Adds,
    /// One level more, up to the next AND or OR.
    Computes,
    /// AND or OR: one level more, where arithmetic begins anew.
    Joins,
    /// A new item or clause begins.
    Begins,
    None,
}

fn link(text: &str, tokens: &[Token], index: usize) -> Link {
    let token = &tokens[index];
    let word = |index: usize| text[tokens[index].range()].to_ascii_uppercase();
    let opens_type = |index: usize| {
        index > 0
            && tokens[index - 1].kind == TokenKind::Word
            && ["ARRAY", "MAP", "STRUCT"].contains(&word(index - 1).as_str())
    };
    match token.kind {
        TokenKind::Symbol('(' | '[') => Link::Opens,
        TokenKind::Symbol('<') if opens_type(index) => Link::Opens,
        TokenKind::Symbol(')' | ']') => Link::Closes,
        TokenKind::Symbol(',' | ';') => Link::Begins,
        // `||` is one operator.
        TokenKind::Symbol('|') if index > 0 && tokens[index - 1].kind == TokenKind::Symbol('|') => Link::None,
        TokenKind::Symbol('+' | '-' | '*' | '/' | '%' | '|') => Link::Computes,
        TokenKind::Word => match word(index).as_str() {
            "AND" | "OR" => Link::Joins,
            "NOT" | "UNION" | "INTERSECT" | "EXCEPT" | "EXPLAIN" | "JOIN" | "CASE" => Link::Adds,
            "WHEN" | "THEN" | "ELSE" => Link::Begins,
            _ => Link::None,
        },
        _ => Link::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<()> {
        let source = Source::filled(text)?;
        check(&source, source.tokens())
    }

    #[test]
    fn long_is_not_deep() {
        of(&format!("SELECT * FROM (VALUES {})", vec!["(1 + 1, -2)"; 9_000].join(", "))).unwrap();
        of(&format!("SELECT CASE {} END", "WHEN a = 1 OR b = 2 THEN -1 ".repeat(9_000))).unwrap();
        of(&format!("SELECT 'a'{}", " || 'a'".repeat(1_900))).unwrap();
        of(&format!("SELECT x IN ({})", vec!["-1"; 9_000].join(", "))).unwrap();
        of(&format!("SELECT {}", vec!["10 / x + 1 = 0"; 1_900].join(" OR "))).unwrap();
    }

    #[test]
    fn what_is_too_deep_is_told_where() {
        for (text, says) in [
            (format!("SELECT 1{}", " + 1".repeat(3_000)), "more than 2000 operators"),
            (format!("SELECT {}", vec!["a = 1"; 3_000].join(" OR ")), "more than 2000 operators"),
            (vec!["SELECT 1"; 3_000].join(" UNION ALL "), "more than 2000 operators"),
            (format!("SELECT {}1{}", "(".repeat(300), ")".repeat(300)), "brackets nest deeper"),
            (format!("CREATE EXTERNAL TABLE t (a {}int", "array<".repeat(300)), "brackets nest deeper"),
        ] {
            let error = of(&text).unwrap_err();
            assert!(error.message().starts_with(says) && error.location().is_some(), "{error}");
        }
    }
}
