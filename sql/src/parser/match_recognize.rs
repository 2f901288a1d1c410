//! `MATCH_RECOGNIZE`, rewritten into a subquery whose select list carries its parts.
//!
//! ```text
//!  t MATCH_RECOGNIZE (PARTITION BY p ORDER BY o MEASURES m AS x PATTERN (A B+) DEFINE B AS c)
//!  (SELECT "$match_recognize"('ONE ROW PER MATCH', '', 'A B +', '', 1), m AS x, c AS "B" FROM t GROUP BY p ORDER BY o)
//! ```
//!
//! Invariant: a clause that is not well formed is left as it is, for the parser to refuse in place.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::rewrite::{at, closing, is, is_word, word};

type Tokens = Vec<TokenWithSpan>;

/// Rewrites every clause, the inner ones first.
pub(super) fn match_recognize(tokens: Tokens) -> Tokens {
    let mut out: Tokens = Vec::with_capacity(tokens.len());
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        let opens = is_word(Some(token), "MATCH_RECOGNIZE") && is(tokens.get(index + 1), &Token::LParen);
        let close = if opens { closing(&tokens, index + 1) } else { None };
        let Some(close) = close else {
            out.push(token.clone());
            index += 1;
            continue;
        };
        let start = relation_start(&out);
        let inside = match_recognize(tokens[index + 2..close].to_vec());
        match Clause::of(&inside).and_then(|clause| clause.subquery(&out[start..], token)) {
            Some(made) => {
                out.truncate(start);
                out.extend(made);
            }
            None => out.extend(tokens[index..=close].iter().cloned()),
        }
        index = close + 1;
    }
    out
}

/// Where the relation that these tokens end with starts: after FROM, JOIN, a comma or an opening parenthesis.
fn relation_start(tokens: &[TokenWithSpan]) -> usize {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().rev() {
        match token.token {
            Token::RParen => depth += 1,
            Token::LParen if depth == 0 => return index + 1,
            Token::LParen => depth -= 1,
            Token::Comma if depth == 0 => return index + 1,
            Token::Word(_) if depth == 0 && ["FROM", "JOIN"].iter().any(|end| is_word(Some(token), end)) => {
                return index + 1;
            }
            _ => {}
        }
    }
    0
}

/// The parts of a clause.
#[derive(Default)]
struct Clause<'t> {
    partition_by: &'t [TokenWithSpan],
    order_by: &'t [TokenWithSpan],
    measures: Vec<&'t [TokenWithSpan]>,
    rows: String,
    skip: String,
    pattern: String,
    subsets: String,
    defines: Vec<(String, &'t [TokenWithSpan])>,
}

/// Words that start a part, in their order.
const PARTS: [&[&str]; 11] = [
    &["PARTITION", "BY"],
    &["ORDER", "BY"],
    &["MEASURES"],
    &["ONE", "ROW"],
    &["ALL", "ROWS"],
    &["AFTER", "MATCH"],
    &["INITIAL"],
    &["SEEK"],
    &["PATTERN"],
    &["SUBSET"],
    &["DEFINE"],
];

impl<'t> Clause<'t> {
    fn of(tokens: &'t [TokenWithSpan]) -> Option<Self> {
        let mut clause = Self::default();
        let (mut index, mut last) = (0, None);
        while index < tokens.len() {
            let part = part_at(tokens, index, last)?;
            let start = index + PARTS[part].len();
            let end = next_part(tokens, start, part);
            let body = &tokens[start..end];
            match part {
                0 => clause.partition_by = body,
                1 => clause.order_by = body,
                2 => clause.measures = split(body),
                3 | 4 => clause.rows = text(&tokens[index..end]),
                5 => clause.skip.push_str(&text(&tokens[index..end])),
                6 | 7 => clause.skip.push_str(" SEEK"),
                8 => clause.pattern = enclosed(body)?,
                9 => clause.subsets = text(body),
                _ => clause.defines = split(body).into_iter().map(define).collect::<Option<_>>()?,
            }
            (index, last) = (end, Some(part));
        }
        let named = |measure: &&[TokenWithSpan]| {
            let [.., name_as, name] = measure else { return false };
            is_word(Some(name_as), "AS") && word(Some(name)).is_some() && measure.len() > 2
        };
        let whole = last == Some(10) && !clause.defines.is_empty() && !clause.pattern.is_empty();
        (whole && clause.measures.iter().all(named)).then_some(clause)
    }

    fn subquery(&self, relation: &[TokenWithSpan], place: &TokenWithSpan) -> Option<Tokens> {
        if relation.is_empty() {
            return None;
        }
        let made = |token: Token| at(place, token);
        let mut out = vec![made(Token::LParen), made(Token::make_keyword("SELECT"))];
        out.push(made(Token::make_word("$match_recognize", Some('"'))));
        out.push(made(Token::LParen));
        for text in [&self.rows, &self.skip, &self.pattern, &self.subsets] {
            out.push(made(Token::SingleQuotedString(text.clone())));
            out.push(made(Token::Comma));
        }
        out.push(made(Token::Number(self.measures.len().to_string(), false)));
        out.push(made(Token::RParen));
        for measure in &self.measures {
            out.push(made(Token::Comma));
            out.extend(modes(measure));
        }
        for (name, condition) in &self.defines {
            out.push(made(Token::Comma));
            out.extend(modes(condition));
            out.push(made(Token::make_keyword("AS")));
            out.push(made(Token::make_word(name, Some('"'))));
        }
        out.push(made(Token::make_keyword("FROM")));
        out.extend(relation.iter().cloned());
        for (words, list) in [("GROUP", self.partition_by), ("ORDER", self.order_by)] {
            if !list.is_empty() {
                out.extend([made(Token::make_keyword(words)), made(Token::make_keyword("BY"))]);
                out.extend(list.iter().cloned());
            }
        }
        out.push(made(Token::RParen));
        Some(out)
    }
}

/// The part that starts here, if it may follow the last one.
fn part_at(tokens: &[TokenWithSpan], index: usize, last: Option<usize>) -> Option<usize> {
    PARTS.iter().enumerate().position(|(part, words)| {
        last.is_none_or(|last| part > last)
            && words.iter().enumerate().all(|(offset, wanted)| is_word(tokens.get(index + offset), wanted))
    })
}

fn next_part(tokens: &[TokenWithSpan], start: usize, part: usize) -> usize {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().skip(start) {
        match token.token {
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket => depth = depth.saturating_sub(1),
            Token::Word(_) if depth == 0 && part_at(tokens, index, Some(part)).is_some() => {
                return index;
            }
            _ => {}
        }
    }
    tokens.len()
}

fn split(tokens: &[TokenWithSpan]) -> Vec<&[TokenWithSpan]> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0usize);
    for (index, token) in tokens.iter().enumerate() {
        match token.token {
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket => depth = depth.saturating_sub(1),
            Token::Comma if depth == 0 => {
                parts.push(&tokens[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&tokens[start..]);
    parts
}

fn text(tokens: &[TokenWithSpan]) -> String {
    tokens.iter().map(|token| token.token.to_string()).collect::<Vec<_>>().join(" ")
}

/// The text within the parentheses that these tokens are.
fn enclosed(tokens: &[TokenWithSpan]) -> Option<String> {
    let whole = is(tokens.first(), &Token::LParen) && closing(tokens, 0)? + 1 == tokens.len();
    let inside = text(tokens.get(1..tokens.len().checked_sub(1)?)?);
    (whole && !inside.is_empty()).then_some(inside)
}

/// `X AS condition`
fn define(tokens: &[TokenWithSpan]) -> Option<(String, &[TokenWithSpan])> {
    let [name, name_as, condition @ ..] = tokens else { return None };
    let name = word(Some(name))?;
    let label = if name.quote_style.is_some() { name.value.clone() } else { name.value.to_uppercase() };
    (is_word(Some(name_as), "AS") && !condition.is_empty()).then_some((label, condition))
}

/// `FINAL f(..)` as `"$final"(f(..))`, and the same with RUNNING.
fn modes(tokens: &[TokenWithSpan]) -> Tokens {
    let mut out: Tokens = Vec::with_capacity(tokens.len());
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        let mode = [("FINAL", "$final"), ("RUNNING", "$running")]
            .into_iter()
            .find(|(name, _)| is_word(Some(token), name) && word(tokens.get(index + 1)).is_some());
        let close = mode
            .filter(|_| is(tokens.get(index + 2), &Token::LParen))
            .and_then(|(_, name)| Some((name, closing(tokens, index + 2)?)));
        let Some((name, close)) = close else {
            out.push(token.clone());
            index += 1;
            continue;
        };
        out.push(at(token, Token::make_word(name, Some('"'))));
        out.push(at(token, Token::LParen));
        out.extend(tokens[index + 1..index + 3].iter().cloned());
        out.extend(modes(&tokens[index + 3..close]));
        out.push(tokens[close].clone());
        out.push(at(token, Token::RParen));
        index = close + 1;
    }
    out
}
