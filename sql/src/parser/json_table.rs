//! `JSON_TABLE`, rewritten into a subquery over the rows its paths find.
//!
//! ```text
//!  JSON_TABLE(j, 'lax $[*]' COLUMNS (n FOR ORDINALITY, a integer PATH 'lax $.a'))
//!  (SELECT "$json_table"(), "$o0" AS n, json_value("$i0", 'lax $.a' RETURNING integer) AS a
//!     FROM UNNEST("$json_rows"(j, 'lax $[*]', 'empty', 0)) AS "$j0"("$i0", "$o0", "$k0"))
//! ```
//! Nested columns are one more `LEFT JOIN UNNEST(..)`; siblings are told apart by `"$k1"`.
//!
//! Invariant: what is not one of the forms is left as it is, for the parser to refuse in place.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::{
    json_calls::{Maker, Tokens, begins, passing, rewritten, split, top, without_format},
    rewrite::{closing, is, is_word, word},
};

/// What is known while one call is rewritten.
struct Table<'m, 'p> {
    made: &'m Maker<'p>,
    /// `ERROR ON ERROR` stands at the end.
    errors: bool,
    /// `PLAN` asks for INNER, and for CROSS.
    inner: bool,
    cross: bool,
    items: Tokens,
    joins: Tokens,
    next: usize,
}

/// The subquery for the arguments of a call.
pub(super) fn json_table(inside: &[TokenWithSpan], made: &Maker<'_>) -> Option<Tokens> {
    let comma = top(inside, |token| token.token == Token::Comma)?;
    let (input, _) = without_format(&inside[..comma]);
    let (path, after) = inside[comma + 1..].split_first()?;
    let after = if is_word(after.first(), "AS") { after.get(2..)? } else { after };
    let (path, after) = passing(std::slice::from_ref(path), after, made)?;
    if !is_word(after.first(), "COLUMNS") || !is(after.get(1), &Token::LParen) {
        return None;
    }
    let close = closing(after, 1)?;
    let (columns, tail) = (&after[2..close], &after[close + 1..]);
    let plan = |name: &str| tail.iter().any(|token| is_word(Some(token), name));
    let errors = tail.get(tail.len().saturating_sub(3)..).is_some_and(|end| begins(end, &["ERROR", "ON", "ERROR"]));
    if plan("INNER") && plan("OUTER") || plan("CROSS") && plan("UNION") {
        return None;
    }
    let known = tail.is_empty()
        || is_word(tail.first(), "PLAN")
        || tail.get(1..).is_some_and(|rest| begins(rest, &["ON", "ERROR"]));
    if !known {
        return None;
    }
    let mut table = Table {
        made,
        errors,
        inner: plan("INNER"),
        cross: plan("CROSS"),
        items: made.call("$json_table", Vec::new()),
        joins: Tokens::new(),
        next: 1,
    };
    table.columns(columns, (made.name("$i0"), made.name("$o0")))?;
    let mut out = vec![made.token(Token::LParen), made.keyword("SELECT")];
    out.extend(table.items);
    out.push(made.keyword("FROM"));
    let rows = rows_call(made, (input.to_vec(), path), errors, 0);
    out.extend(unnested(made, rows, 0));
    out.extend(table.joins);
    out.push(made.token(Token::RParen));
    Some(out)
}

fn rows_call(made: &Maker<'_>, (input, path): (Tokens, Tokens), errors: bool, sibling: usize) -> Tokens {
    let on_error = made.text(if errors { "error" } else { "empty" });
    let sibling = vec![made.token(Token::Number(sibling.to_string(), false))];
    made.call("$json_rows", vec![input, path, on_error, sibling])
}

/// `UNNEST(rows) AS "$jN"("$iN", "$oN", "$kN")`
fn unnested(made: &Maker<'_>, rows: Tokens, level: usize) -> Tokens {
    let mut out = vec![made.keyword("UNNEST"), made.token(Token::LParen)];
    out.extend(rows);
    out.extend([made.token(Token::RParen), made.keyword("AS")]);
    let columns = ["i", "o", "k"].map(|name| made.name(&format!("${name}{level}")));
    out.extend(made.name(&format!("$j{level}")));
    out.extend(made.list(Token::LParen, columns.to_vec(), Token::RParen));
    out
}

impl Table<'_, '_> {
    /// Columns of one level, whose item and number these tokens give.
    fn columns(&mut self, columns: &[TokenWithSpan], (item, number): (Tokens, Tokens)) -> Option<()> {
        let columns = split(columns);
        let nested = columns
            .iter()
            .filter(|column| begins(column, &["NESTED"]))
            .map(|column| nested_parts(column))
            .collect::<Option<Vec<_>>>()?;
        let mut places = self.places(&nested, &item).into_iter();
        let mut inner = nested.into_iter();
        for column in columns {
            if begins(column, &["NESTED"]) {
                let ((_, columns), place) = (inner.next()?, places.next()?);
                self.columns(columns, place)?;
                continue;
            }
            let (name, spec) = column.split_first()?;
            let value = if begins(spec, &["FOR", "ORDINALITY"]) && spec.len() == 2 {
                number.clone()
            } else {
                self.value(name, spec, item.clone())?
            };
            self.add(name, value);
        }
        Some(())
    }

    /// Joins the rows of nested parts; gives the item and number of each.
    fn places(&mut self, nested: &[(Tokens, &[TokenWithSpan])], item: &Tokens) -> Vec<(Tokens, Tokens)> {
        let (made, errors) = (self.made, self.errors);
        let rows = |path: &Tokens, sibling| rows_call(made, (item.clone(), path.clone()), errors, sibling);
        if self.cross || nested.len() == 1 {
            let each = nested.iter().map(|(path, _)| {
                let level = self.join(vec![rows(path, 0)]);
                (made.name(&format!("$i{level}")), made.name(&format!("$o{level}")))
            });
            return each.collect();
        }
        if nested.is_empty() {
            return Vec::new();
        }
        let level = self.join(nested.iter().enumerate().map(|(index, (path, _))| rows(path, index)).collect());
        let place = |index| (self.of_sibling("i", level, index), self.of_sibling("o", level, index));
        (0..nested.len()).map(place).collect()
    }

    fn add(&mut self, name: &TokenWithSpan, value: Tokens) {
        self.items.push(self.made.token(Token::Comma));
        self.items.extend(value);
        self.items.push(self.made.keyword("AS"));
        self.items.push(name.clone());
    }

    /// Joins the rows of one or more siblings; gives their level.
    fn join(&mut self, rows: Vec<Tokens>) -> usize {
        let (made, level) = (self.made, self.next);
        self.next += 1;
        let mut all = Tokens::new();
        for (index, one) in rows.into_iter().enumerate() {
            if index > 0 {
                all.push(made.token(Token::StringConcat));
            }
            all.extend(one);
        }
        let words: &[&str] = if self.inner { &["CROSS", "JOIN"] } else { &["LEFT", "JOIN"] };
        self.joins.extend(words.iter().map(|word| made.keyword(word)));
        self.joins.extend(unnested(made, all, level));
        if !self.inner {
            self.joins.extend(["ON", "TRUE"].iter().map(|word| made.keyword(word)));
        }
        level
    }

    /// `CASE WHEN "$kN" = index THEN "$iN" END`
    fn of_sibling(&self, name: &str, level: usize, index: usize) -> Tokens {
        let made = self.made;
        let mut out = vec![made.token(Token::LParen), made.keyword("CASE"), made.keyword("WHEN")];
        out.extend(made.name(&format!("$k{level}")));
        out.extend([made.token(Token::Eq), made.token(Token::Number(index.to_string(), false)), made.keyword("THEN")]);
        out.extend(made.name(&format!("${name}{level}")));
        out.extend([made.keyword("END"), made.token(Token::RParen)]);
        out
    }

    /// `type [FORMAT JSON] [PATH path] clauses` as a call of `json_value` or `json_query`.
    fn value(&self, name: &TokenWithSpan, spec: &[TokenWithSpan], item: Tokens) -> Option<Tokens> {
        const AFTER: [&str; 10] =
            ["PATH", "FORMAT", "NULL", "ERROR", "DEFAULT", "EMPTY", "WITH", "WITHOUT", "KEEP", "OMIT"];
        let of_type = |token: &TokenWithSpan| AFTER.iter().any(|after| is_word(Some(token), after));
        let end = top(spec, of_type).unwrap_or(spec.len());
        let (data_type, mut rest) = spec.split_at(end);
        if is_word(data_type.last(), "EXISTS") {
            return None;
        }
        let formatted = begins(rest, &["FORMAT", "JSON"]);
        if formatted {
            rest = &rest[2..];
        }
        let mut path = vec![];
        if begins(rest, &["PATH"]) {
            path = vec![rest.get(1)?.clone()];
            rest = &rest[2..];
        }
        if path.is_empty() {
            let own = word(Some(name))?;
            let key = if own.quote_style.is_some() { own.value.clone() } else { own.value.to_uppercase() };
            path = self.made.text(&format!("lax $.\"{key}\""));
        }
        let mut arguments = item;
        arguments.push(self.made.token(Token::Comma));
        arguments.extend(path);
        arguments.push(self.made.keyword("RETURNING"));
        arguments.extend(data_type.iter().cloned());
        arguments.extend(rest.iter().cloned());
        let handled = rest.windows(2).any(|pair| is_word(pair.first(), "ON") && is_word(pair.last(), "ERROR"));
        if self.errors && !handled {
            arguments.extend(["ERROR", "ON", "ERROR"].iter().map(|word| self.made.keyword(word)));
        }
        rewritten(if formatted { "json_query" } else { "json_value" }, &arguments, self.made.place)
    }
}

/// Path and columns of `NESTED [PATH] path [AS name] COLUMNS (..)`.
fn nested_parts(column: &[TokenWithSpan]) -> Option<(Tokens, &[TokenWithSpan])> {
    let start = 1 + usize::from(is_word(column.get(1), "PATH"));
    let path = column.get(start)?.clone();
    let rest = &column[start + 1..];
    let rest = if is_word(rest.first(), "AS") { rest.get(2..)? } else { rest };
    let whole =
        is_word(rest.first(), "COLUMNS") && is(rest.get(1), &Token::LParen) && closing(rest, 1)? + 1 == rest.len();
    whole.then(|| (vec![path], &rest[2..rest.len() - 1]))
}
