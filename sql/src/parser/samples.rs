//! `TABLESAMPLE` behind what sqlparser takes none behind: UNNEST, TABLE(..), JSON_TABLE, joins in brackets and LATERAL.
//!
//! ```text
//!  UNNEST(a) WITH ORDINALITY AS t (x, n) TABLESAMPLE ..    (SELECT * FROM UNNEST(a) WITH ORDINALITY AS t (x, n)) AS t TABLESAMPLE ..
//!  LATERAL (SELECT ..) AS t TABLESAMPLE ..                 (SELECT ..) AS t TABLESAMPLE ..
//! ```
//!
//! Invariant: what is sampled does not see the relations to its left.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::rewrite::{at, closing, is, is_word, word};

/// Words that begin a relation whose brackets follow.
const OPENING: [&str; 3] = ["UNNEST", "TABLE", "JSON_TABLE"];

/// Rewrites relations that are sampled.
pub(super) fn samples(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut from = 0;
    while let Some(sample) = next_sample(&tokens, from) {
        from = sample + 1;
        let Some(factor) = factor_before(&tokens, sample) else { continue };
        if is_word(tokens.get(factor.start), "LATERAL") {
            tokens.remove(factor.start);
            from -= 1;
            continue;
        }
        let Some(first) = tokens.get(factor.start).cloned() else { continue };
        let mut end = vec![at(&first, Token::RParen)];
        if let Some(alias) = factor.alias.and_then(|alias| tokens.get(alias)) {
            end.extend([at(alias, Token::make_keyword("AS")), alias.clone()]);
        }
        let begin = [Token::LParen, Token::make_keyword("SELECT"), Token::Mul, Token::make_keyword("FROM")];
        from += begin.len() + end.len();
        tokens.splice(sample..sample, end);
        tokens.splice(factor.start..factor.start, begin.map(|made| at(&first, made)));
    }
    tokens
}

/// A relation with its alias.
struct Factor {
    start: usize,
    alias: Option<usize>,
}

fn next_sample(tokens: &[TokenWithSpan], from: usize) -> Option<usize> {
    (from..tokens.len()).find(|&index| {
        is_word(tokens.get(index), "TABLESAMPLE")
            && word(tokens.get(index + 1)).is_some()
            && is(tokens.get(index + 2), &Token::LParen)
    })
}

/// The relation before `end`, if it is one that sqlparser takes no sample behind.
fn factor_before(tokens: &[TokenWithSpan], end: usize) -> Option<Factor> {
    let mut last = end.checked_sub(1)?;
    let mut alias = None;
    let opening = |close: usize| {
        (0..close).rev().find(|&open| closing(tokens, open) == Some(close) && is(tokens.get(open), &Token::LParen))
    };
    if is(tokens.get(last), &Token::RParen) && opening(last).and_then(|open| start_of(tokens, open)).is_none() {
        last = opening(last)?.checked_sub(1)?;
    }
    if word(tokens.get(last)).is_some() && !is_word(tokens.get(last), "ORDINALITY") {
        alias = Some(last);
        last = last.checked_sub(1)?;
        if is_word(tokens.get(last), "AS") {
            last = last.checked_sub(1)?;
        }
    }
    if is_word(tokens.get(last), "ORDINALITY") {
        last = last.checked_sub(2)?;
    }
    let start = start_of(tokens, opening(last)?)?;
    Some(Factor { start, alias })
}

/// Where the relation begins that has its brackets at `open`, if it is no plain subquery.
fn start_of(tokens: &[TokenWithSpan], open: usize) -> Option<usize> {
    let before = open.checked_sub(1)?;
    if OPENING.iter().any(|word| is_word(tokens.get(before), word)) || is_word(tokens.get(before), "LATERAL") {
        return Some(before);
    }
    let follows = |token: Option<&TokenWithSpan>| {
        is_word(token, "FROM") || is_word(token, "JOIN") || is(token, &Token::Comma) || is(token, &Token::LParen)
    };
    (follows(tokens.get(before)) && holds_joins(tokens, open)).then_some(open)
}

/// Whether brackets are around relations, not around a query.
fn holds_joins(tokens: &[TokenWithSpan], open: usize) -> bool {
    let first = tokens.get(open + 1);
    if !is(first, &Token::LParen) {
        return !["SELECT", "WITH", "VALUES", "TABLE"].iter().any(|begin| is_word(first, begin));
    }
    let Some(close) = closing(tokens, open + 1) else { return false };
    let next = tokens.get(close + 1);
    let of_query = ["UNION", "INTERSECT", "EXCEPT", "ORDER", "LIMIT", "OFFSET", "FETCH"];
    !is(next, &Token::RParen) && !of_query.iter().any(|word| is_word(next, word))
}
