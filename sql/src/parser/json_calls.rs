//! The JSON functions of the SQL standard, rewritten into plain calls with every choice as an argument.
//!
//! ```text
//!  json_value(x, 'lax $.a' RETURNING integer DEFAULT 0 ON EMPTY)
//!      TRY_CAST("$json_value"(x, 'lax $.a', 'integer', 'default', CAST(0 AS varchar), 'null', NULL) AS integer)
//!  json_object('a' : 1, KEY 'b' VALUE x)
//!      "$json_object"('null', '', ARRAY['a', 'b'], ARRAY["$json_item"(1), "$json_item"(x)])
//! ```
//!
//! Invariant: what this does not know is left as it is, for the parser to refuse in place.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::rewrite::{at, closing, is, is_word, word};

pub(super) type Tokens = Vec<TokenWithSpan>;

/// Rewrites all calls, the inner ones first.
pub(super) fn json_calls(tokens: Tokens) -> Tokens {
    const NAMES: [&str; 6] = ["json_exists", "json_value", "json_query", "json_object", "json_array", "json_table"];
    let mut out: Tokens = Vec::with_capacity(tokens.len());
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        let name = NAMES.iter().find(|name| is_word(Some(token), name));
        let call = name.filter(|_| is(tokens.get(index + 1), &Token::LParen)).zip(closing(&tokens, index + 1));
        let Some((name, close)) = call else {
            out.push(token.clone());
            index += 1;
            continue;
        };
        let inside = json_calls(tokens[index + 2..close].to_vec());
        match rewritten(name, &inside, token) {
            Some(new) => out.extend(new),
            None => {
                out.extend(tokens[index..index + 2].iter().cloned());
                out.extend(inside);
                out.push(tokens[close].clone());
            }
        }
        index = close + 1;
    }
    out
}

pub(super) fn rewritten(name: &str, inside: &[TokenWithSpan], place: &TokenWithSpan) -> Option<Tokens> {
    let made = Maker { place };
    match name {
        "json_object" => object(inside, &made),
        "json_array" => array(inside, &made),
        "json_table" => super::json_table::json_table(inside, &made),
        _ => {
            let comma = top(inside, |token| token.token == Token::Comma)?;
            let (input, rest) = (without_format(&inside[..comma]).0, &inside[comma + 1..]);
            let (path, clauses) = rest.split_first()?;
            let (path, clauses) = passing(std::slice::from_ref(path), clauses, &made)?;
            let path = path.as_slice();
            match name {
                "json_exists" => exists(input, path, clauses, &made),
                "json_value" => value(input, path, clauses, &made),
                _ => query(input, path, clauses, &made),
            }
        }
    }
}

/// A path with the values of `PASSING value AS name, ..`, and what follows them: the path's text, a mark, an object.
pub(super) fn passing<'t>(
    path: &[TokenWithSpan],
    clauses: &'t [TokenWithSpan],
    made: &Maker<'_>,
) -> Option<(Tokens, &'t [TokenWithSpan])> {
    if !begins(clauses, &["PASSING"]) {
        return Some((path.to_vec(), clauses));
    }
    let (mut keys, mut values, mut rest) = (Vec::new(), Vec::new(), &clauses[1..]);
    loop {
        let name_as = top_word(rest, "AS")?;
        let name = word(rest.get(name_as + 1))?;
        let key = if name.quote_style.is_some() { name.value.clone() } else { name.value.to_uppercase() };
        keys.push(made.text(&key));
        values.push(item(&rest[..name_as], made));
        rest = &rest[name_as + 2..];
        if !is(rest.first(), &Token::Comma) {
            break;
        }
        rest = &rest[1..];
    }
    let members = vec![made.text("null"), made.text(""), made.array(keys), made.array(values)];
    let parts = vec![path.to_vec(), made.text("\u{1}"), made.call("$json_object", members)];
    Some((made.call("concat", parts), rest))
}

/// Makes tokens at the place of the call.
pub(super) struct Maker<'a> {
    pub(super) place: &'a TokenWithSpan,
}

impl Maker<'_> {
    pub(super) fn token(&self, token: Token) -> TokenWithSpan {
        at(self.place, token)
    }

    pub(super) fn name(&self, name: &str) -> Tokens {
        vec![self.token(Token::make_word(name, Some('"')))]
    }

    pub(super) fn text(&self, text: &str) -> Tokens {
        vec![self.token(Token::SingleQuotedString(text.to_owned()))]
    }

    pub(super) fn keyword(&self, word: &str) -> TokenWithSpan {
        self.token(Token::make_keyword(word))
    }

    pub(super) fn list(&self, open: Token, items: Vec<Tokens>, close: Token) -> Tokens {
        let mut out = vec![self.token(open)];
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                out.push(self.token(Token::Comma));
            }
            out.extend(item);
        }
        out.push(self.token(close));
        out
    }

    pub(super) fn call(&self, name: &str, arguments: Vec<Tokens>) -> Tokens {
        let mut out = vec![self.token(Token::make_word(name, Some('"')))];
        out.extend(self.list(Token::LParen, arguments, Token::RParen));
        out
    }

    fn array(&self, items: Vec<Tokens>) -> Tokens {
        let mut out = vec![self.keyword("ARRAY")];
        out.extend(self.list(Token::LBracket, items, Token::RBracket));
        out
    }

    fn cast(&self, how: &str, value: Tokens, data_type: &[TokenWithSpan]) -> Tokens {
        let mut out = vec![self.keyword(how), self.token(Token::LParen)];
        out.extend(value);
        out.push(self.keyword("AS"));
        out.extend(data_type.iter().cloned());
        out.push(self.token(Token::RParen));
        out
    }
}

/// The first token outside of brackets for which the test holds.
pub(super) fn top(tokens: &[TokenWithSpan], test: impl Fn(&TokenWithSpan) -> bool) -> Option<usize> {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate() {
        if depth == 0 && test(token) {
            return Some(index);
        }
        match token.token {
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

pub(super) fn top_word(tokens: &[TokenWithSpan], wanted: &str) -> Option<usize> {
    top(tokens, |token| is_word(Some(token), wanted))
}

/// Whether tokens begin with these words.
pub(super) fn begins(tokens: &[TokenWithSpan], words: &[&str]) -> bool {
    words.iter().enumerate().all(|(index, wanted)| is_word(tokens.get(index), wanted))
}

fn ends<'t>(tokens: &'t [TokenWithSpan], words: &[&str]) -> Option<&'t [TokenWithSpan]> {
    let start = tokens.len().checked_sub(words.len())?;
    begins(&tokens[start..], words).then(|| &tokens[..start])
}

pub(super) fn without_format(tokens: &[TokenWithSpan]) -> (&[TokenWithSpan], bool) {
    match ends(tokens, &["FORMAT", "JSON"]) {
        Some(rest) => (rest, true),
        None => (tokens, false),
    }
}

/// The behaviours `.. ON EMPTY` and `.. ON ERROR`; nothing else may be left.
fn behaviours(tokens: &[TokenWithSpan]) -> Option<(&[TokenWithSpan], &[TokenWithSpan])> {
    let (mut empty, mut error, mut rest) = (&tokens[..0], &tokens[..0], tokens);
    while !rest.is_empty() {
        let on = top_word(rest, "ON")?;
        match word(rest.get(on + 1))?.value.to_ascii_uppercase().as_str() {
            "EMPTY" => empty = &rest[..on],
            "ERROR" => error = &rest[..on],
            _ => return None,
        }
        rest = &rest[on + 2..];
    }
    Some((empty, error))
}

fn exists(input: &[TokenWithSpan], path: &[TokenWithSpan], rest: &[TokenWithSpan], made: &Maker<'_>) -> Option<Tokens> {
    let (empty, error) = behaviours(rest)?;
    if !empty.is_empty() {
        return None;
    }
    let behaviour = match error {
        [] => "false".to_owned(),
        [one] => word(Some(one))?.value.to_ascii_lowercase(),
        _ => return None,
    };
    Some(made.call("$json_exists", vec![input.to_vec(), path.to_vec(), made.text(&behaviour)]))
}

/// Takes `RETURNING type` off the front: the type, and what follows it.
fn returning(tokens: &[TokenWithSpan]) -> (Option<&[TokenWithSpan]>, &[TokenWithSpan]) {
    if !begins(tokens, &["RETURNING"]) {
        return (None, tokens);
    }
    const AFTER: [&str; 9] = ["NULL", "ERROR", "DEFAULT", "EMPTY", "FORMAT", "WITH", "WITHOUT", "KEEP", "OMIT"];
    let rest = &tokens[1..];
    let end = top(rest, |token| AFTER.iter().any(|after| is_word(Some(token), after))).unwrap_or(rest.len());
    let after = &rest[end..];
    (Some(&rest[..end]), if begins(after, &["FORMAT", "JSON"]) { &after[2..] } else { after })
}

fn value(input: &[TokenWithSpan], path: &[TokenWithSpan], rest: &[TokenWithSpan], made: &Maker<'_>) -> Option<Tokens> {
    let (data_type, rest) = returning(rest);
    let (empty, error) = behaviours(rest)?;
    let varchar = [made.token(Token::make_word("varchar", None))];
    let part = |tokens: &[TokenWithSpan]| -> Option<(&'static str, Tokens)> {
        let null = vec![made.keyword("NULL")];
        match tokens {
            [] => Some(("null", null)),
            [one] if is_word(Some(one), "NULL") => Some(("null", null)),
            [one] if is_word(Some(one), "ERROR") => Some(("error", null)),
            [one, default @ ..] if is_word(Some(one), "DEFAULT") => {
                Some(("default", made.cast("CAST", default.to_vec(), &varchar)))
            }
            _ => None,
        }
    };
    let ((on_empty, empty_default), (on_error, error_default)) = (part(empty)?, part(error)?);
    let family = match data_type.and_then(|tokens| word(tokens.first())).map(|word| word.value.to_ascii_lowercase()) {
        None => "text",
        Some(name) => match name.as_str() {
            "varchar" | "char" | "character" => "text",
            "tinyint" | "smallint" | "integer" | "int" | "bigint" => "integer",
            _ => "other",
        },
    };
    let arguments = vec![
        input.to_vec(),
        path.to_vec(),
        made.text(family),
        made.text(on_empty),
        empty_default,
        made.text(on_error),
        error_default.clone(),
    ];
    let text = made.call("$json_value", arguments);
    let Some(data_type) = data_type else { return Some(text) };
    Some(match on_error {
        // What the cast makes nothing of is an error of JSON_VALUE.
        "error" => made.call("$json_fit", vec![made.cast("CAST", text, data_type)]),
        "default" => {
            let value = made.cast("TRY_CAST", text, data_type);
            let mut out = vec![made.token(Token::make_word("coalesce", None))];
            let default = made.cast("CAST", error_default, data_type);
            out.extend(made.list(Token::LParen, vec![value, default], Token::RParen));
            out
        }
        _ => made.cast("TRY_CAST", text, data_type),
    })
}

fn query(input: &[TokenWithSpan], path: &[TokenWithSpan], rest: &[TokenWithSpan], made: &Maker<'_>) -> Option<Tokens> {
    let (data_type, mut rest) = returning(rest);
    let mut wrapper = "never";
    if let Some(end) = top_word(rest, "WRAPPER") {
        let words = &rest[..end];
        wrapper = match () {
            () if begins(words, &["WITHOUT"]) => "never",
            () if begins(words, &["WITH", "CONDITIONAL"]) => "conditional",
            () if begins(words, &["WITH"]) => "always",
            () => return None,
        };
        rest = &rest[end + 1..];
    }
    let mut quotes = "keep";
    if begins(rest, &["OMIT", "QUOTES"]) || begins(rest, &["KEEP", "QUOTES"]) {
        quotes = if begins(rest, &["OMIT"]) { "omit" } else { "keep" };
        rest = if begins(&rest[2..], &["ON", "SCALAR"]) { rest.get(5..)? } else { &rest[2..] };
    }
    let (empty, error) = behaviours(rest)?;
    let part = |tokens: &[TokenWithSpan]| match tokens {
        [] => Some("null"),
        [one] if is_word(Some(one), "NULL") => Some("null"),
        [one] if is_word(Some(one), "ERROR") => Some("error"),
        tokens if begins(tokens, &["EMPTY", "OBJECT"]) => Some("object"),
        tokens if begins(tokens, &["EMPTY"]) => Some("array"),
        _ => None,
    };
    let mut arguments = vec![input.to_vec(), path.to_vec()];
    arguments.extend([wrapper, quotes, part(empty)?, part(error)?].map(|text| made.text(text)));
    let text = made.call("$json_query", arguments);
    Some(match data_type {
        Some(data_type) => made.cast("CAST", text, data_type),
        None => text,
    })
}

/// What is left of a constructor's arguments without its clauses, its way with NULL, and whether keys are unique.
fn clauses<'t>(tokens: &'t [TokenWithSpan], nulls: &'static str) -> (&'t [TokenWithSpan], &'static str, bool) {
    let mut rest = match top_word(tokens, "RETURNING") {
        Some(end) => &tokens[..end],
        None => tokens,
    };
    let mut unique = false;
    for (words, means) in [
        (&["WITH", "UNIQUE", "KEYS"] as &[&str], true),
        (&["WITH", "UNIQUE"], true),
        (&["WITHOUT", "UNIQUE", "KEYS"], false),
        (&["WITHOUT", "UNIQUE"], false),
    ] {
        if let Some(before) = ends(rest, words) {
            (rest, unique) = (before, means);
            break;
        }
    }
    for (kind, means) in [("NULL", "null"), ("ABSENT", "absent")] {
        if let Some(before) = ends(rest, &[kind, "ON", "NULL"]) {
            return (before, means, unique);
        }
    }
    (rest, nulls, unique)
}

pub(super) fn split(tokens: &[TokenWithSpan]) -> Vec<&[TokenWithSpan]> {
    let (mut parts, mut rest) = (Vec::new(), tokens);
    while let Some(comma) = top(rest, |token| token.token == Token::Comma) {
        parts.push(&rest[..comma]);
        rest = &rest[comma + 1..];
    }
    if !rest.is_empty() {
        parts.push(rest);
    }
    parts
}

/// A value as JSON text.
fn item(tokens: &[TokenWithSpan], made: &Maker<'_>) -> Tokens {
    let (value, formatted) = without_format(tokens);
    let constructed = word(value.first())
        .is_some_and(|word| matches!(word.value.as_str(), "$json_object" | "$json_array"))
        && closing(value, 1) == Some(value.len().saturating_sub(1));
    let name = if formatted || constructed { "$json_text" } else { "$json_item" };
    made.call(name, vec![value.to_vec()])
}

fn array(inside: &[TokenWithSpan], made: &Maker<'_>) -> Option<Tokens> {
    let (elements, nulls, _) = clauses(inside, "absent");
    let items = split(elements).into_iter().map(|element| item(element, made)).collect();
    Some(made.call("$json_array", vec![made.text(nulls), made.array(items)]))
}

fn object(inside: &[TokenWithSpan], made: &Maker<'_>) -> Option<Tokens> {
    let (members, nulls, unique) = clauses(inside, "null");
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    for member in split(members) {
        let member = if begins(member, &["KEY"]) { &member[1..] } else { member };
        let between = top(member, |token| token.token == Token::Colon || is_word(Some(token), "VALUE"))?;
        keys.push(member[..between].to_vec());
        values.push(item(&member[between + 1..], made));
    }
    let unique = made.text(if unique { "unique" } else { "" });
    Some(made.call("$json_object", vec![made.text(nulls), unique, made.array(keys), made.array(values)]))
}
