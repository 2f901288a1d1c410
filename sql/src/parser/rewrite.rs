//! Trino's syntax that sqlparser does not know, rewritten token by token into what it does.
//!
//! ```text
//!  0b101                      0 b101           one number
//!  VALUES 1, 2                VALUES (1), (2)
//!  CAST(x AS row(a integer))  CAST(x AS "row(a integer)")
//!  TUMBLE(TABLE t, ..)        TUMBLE("$table"(t), ..)
//!  x = ANY (VALUES 1, 2)      x = ANY (SELECT * FROM (VALUES (1), (2)))
//!  trim(TRAILING FROM x)      rtrim(x)
//!  normalize(x, NFC)          normalize(x, 'NFC')
//!  IPADDRESS '::1'            "$ipaddress"('::1')
//! ```
//!
//! Invariant: tokens keep the place they were written at, so that errors point there.

use datafusion::sql::sqlparser::{
    keywords::Keyword,
    tokenizer::{Token, TokenWithSpan, Word},
};

use super::{json_calls::json_calls, match_recognize::match_recognize, samples::samples};

/// Rewrites a statement's tokens.
pub fn rewrite(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let tokens: Vec<TokenWithSpan> =
        tokens.into_iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).collect();
    let tokens: Vec<TokenWithSpan> = tokens.into_iter().map(plain_name).collect();
    let tokens = table_queries(match_recognize(samples(joined_numbers(escaped_texts(tokens)))));
    let tokens = group_quantifiers(tokens);
    cast_types(values_rows(values_queries(trims(json_calls(table_arguments(tokens))))))
}

pub(super) fn word(token: Option<&TokenWithSpan>) -> Option<&Word> {
    match token.map(|token| &token.token) {
        Some(Token::Word(word)) => Some(word),
        _ => None,
    }
}

pub(super) fn is_word(token: Option<&TokenWithSpan>, wanted: &str) -> bool {
    word(token).is_some_and(|word| word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted))
}

pub(super) fn is(token: Option<&TokenWithSpan>, wanted: &Token) -> bool {
    token.is_some_and(|token| token.token == *wanted)
}

/// `user` and `session_user` are names like others, which sqlparser takes for calls.
fn plain_name(token: TokenWithSpan) -> TokenWithSpan {
    match &token.token {
        Token::Word(Word { value, quote_style: None, keyword: Keyword::USER | Keyword::SESSION_USER }) => {
            let word = Word { value: value.clone(), quote_style: None, keyword: Keyword::NoKeyword };
            at(&token, Token::Word(word))
        }
        _ => token,
    }
}

pub(super) fn at(token: &TokenWithSpan, new: Token) -> TokenWithSpan {
    TokenWithSpan { token: new, span: token.span }
}

/// `U&'..' UESCAPE '!'` as the text it means; `==` as two signs, which no expression has.
fn escaped_texts(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut rest = tokens.into_iter().peekable();
    while let Some(token) = rest.next() {
        match &token.token {
            Token::Word(name)
                if name.quote_style.is_none()
                    && name.value.eq_ignore_ascii_case("ipaddress")
                    && matches!(rest.peek().map(|next| &next.token), Some(Token::SingleQuotedString(_))) =>
            {
                out.extend([at(&token, Token::make_word("$ipaddress", Some('"'))), at(&token, Token::LParen)]);
                out.extend(rest.next());
                out.push(at(&token, Token::RParen));
            }
            Token::DoubleEq => out.extend([at(&token, Token::Eq), at(&token, Token::Eq)]),
            Token::UnicodeStringLiteral(text) if is_word(rest.peek(), "UESCAPE") => {
                let keyword = rest.next();
                let mark = match rest.peek().map(|next| &next.token) {
                    Some(Token::SingleQuotedString(mark)) if mark.chars().count() == 1 => mark.chars().next(),
                    _ => None,
                };
                match mark.and_then(|mark| unescaped(text, mark)) {
                    Some(text) => {
                        rest.next();
                        out.push(at(&token, Token::SingleQuotedString(text)));
                    }
                    None => {
                        out.push(token);
                        out.extend(keyword);
                    }
                }
            }
            _ => out.push(token),
        }
    }
    out
}

/// Text with `!0041` and `!+01F600` as characters, and the mark twice as itself.
fn unescaped(text: &str, mark: char) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != mark {
            out.push(c);
        } else if chars.next_if_eq(&mark).is_some() {
            out.push(mark);
        } else {
            let digits = if chars.next_if_eq(&'+').is_some() { 6 } else { 4 };
            let code: String = chars.by_ref().take(digits).collect();
            out.push(char::from_u32(u32::from_str_radix(&code, 16).ok()?)?);
        }
    }
    Some(out)
}

/// `GROUP BY ALL a` is `GROUP BY a`; of `GROUP BY DISTINCT ..` the word becomes a key of its own that the binder knows.
fn group_quantifiers(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    for (index, token) in tokens.iter().enumerate() {
        let by = index > 1 && is_word(tokens.get(index - 1), "BY") && is_word(tokens.get(index - 2), "GROUP");
        let ends = match tokens.get(index + 1).map(|next| &next.token) {
            None | Some(Token::RParen | Token::SemiColon | Token::Comma | Token::EOF) => true,
            Some(Token::Word(word)) => {
                let after = ["HAVING", "ORDER", "LIMIT", "OFFSET", "FETCH", "UNION", "INTERSECT", "EXCEPT", "WINDOW"];
                word.quote_style.is_none() && after.iter().any(|after| word.value.eq_ignore_ascii_case(after))
            }
            _ => false,
        };
        if by && !ends && is_word(Some(token), "ALL") {
            continue;
        }
        if by && !ends && is_word(Some(token), "DISTINCT") {
            let marker = Token::make_word("$distinct", Some('"'));
            out.extend([marker, Token::LParen, Token::RParen, Token::Comma].map(|made| at(token, made)));
            continue;
        }
        out.push(token.clone());
    }
    out
}

fn joined_numbers(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    for token in tokens {
        let joined = match (out.last(), &token.token) {
            (Some(TokenWithSpan { token: Token::Number(zero, _), span }), Token::Word(word))
                if zero == "0" && span.end == token.span.start && word.value.starts_with(['b', 'B', 'o', 'O', 'X']) =>
            {
                Some(format!("0{}", word.value))
            }
            (Some(TokenWithSpan { token: Token::Number(digits, _), span }), Token::Word(word))
                if span.end == token.span.start
                    && word.value.starts_with('_')
                    && word.value.chars().all(|c| c == '_' || c.is_ascii_digit()) =>
            {
                Some(format!("{digits}{}", word.value))
            }
            _ => None,
        };
        match (joined, out.last_mut()) {
            (Some(number), Some(last)) => {
                last.token = Token::Number(number, false);
                last.span.end = token.span.end;
            }
            _ => out.push(token),
        }
    }
    out
}

/// The position of the parenthesis that closes the one at `open`.
pub(super) fn closing(tokens: &[TokenWithSpan], open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(index);
                }
            }
            _ => {}
        }
    }
    None
}

/// `TABLE t` where a query may stand is `SELECT * FROM t`; what stands in the brackets of a call is an argument.
fn table_queries(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    const BEFORE: [&str; 14] = [
        "UNION",
        "ALL",
        "DISTINCT",
        "EXCEPT",
        "INTERSECT",
        "AS",
        "FROM",
        "JOIN",
        "IN",
        "EXISTS",
        "ANY",
        "SOME",
        "LATERAL",
        "SELECT",
    ];
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    for (index, token) in tokens.iter().enumerate() {
        let before = |back: usize| index.checked_sub(back).and_then(|index| tokens.get(index));
        let follows = |token: Option<&TokenWithSpan>| BEFORE.iter().any(|word| is_word(token, word));
        let begins = match before(1).map(|token| &token.token) {
            None | Some(Token::RParen) => true,
            Some(Token::LParen) => before(2).is_none_or(|token| word(Some(token)).is_none()) || follows(before(2)),
            Some(_) => follows(before(1)) && !is_word(before(1), "FROM") && !is_word(before(1), "JOIN"),
        };
        if begins && is_word(Some(token), "TABLE") && word(tokens.get(index + 1)).is_some() {
            let made = [Token::make_keyword("SELECT"), Token::Mul, Token::make_keyword("FROM")];
            out.extend(made.map(|made| at(token, made)));
        } else {
            out.push(token.clone());
        }
    }
    out
}

fn table_arguments(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        let argument = is_word(Some(token), "TABLE")
            && matches!(out.last().map(|last| &last.token), Some(Token::LParen | Token::Comma | Token::RArrow));
        let enclosed = argument && is(tokens.get(index + 1), &Token::LParen);
        if !argument || !(enclosed || word(tokens.get(index + 1)).is_some()) {
            out.push(token.clone());
            index += 1;
            continue;
        }
        out.push(at(token, Token::make_word("$table", Some('"'))));
        out.push(at(token, Token::LParen));
        index += 1 + usize::from(enclosed);
        while let Some(part) = tokens.get(index).filter(|part| is_name_part(part)) {
            out.push(part.clone());
            index += 1;
        }
        index = partition_keys(&tokens, index, &mut out);
        if !enclosed {
            out.push(at(token, Token::RParen));
        }
    }
    out
}

fn is_name_part(token: &TokenWithSpan) -> bool {
    matches!(token.token, Token::Word(_) | Token::Period) && !is_word(Some(token), "PARTITION")
}

/// `PARTITION BY a, b` or `PARTITION BY (a, b)` after a table: its keys become further arguments.
fn partition_keys(tokens: &[TokenWithSpan], start: usize, out: &mut Vec<TokenWithSpan>) -> usize {
    let Some(first) = tokens.get(start).filter(|token| is_word(Some(token), "PARTITION")) else { return start };
    if !is_word(tokens.get(start + 1), "BY") {
        return start;
    }
    let mut index = start + 2;
    let bracketed = is(tokens.get(index), &Token::LParen);
    index += usize::from(bracketed);
    out.push(at(first, Token::Comma));
    while let Some(part) = tokens.get(index) {
        // A comma belongs to the keys when what follows it is a column, not a call or a named argument.
        let calls = matches!(tokens.get(index + 2).map(|token| &token.token), Some(Token::LParen | Token::RArrow));
        let goes_on = match part.token {
            Token::Word(_) | Token::Period => true,
            Token::Comma => bracketed || !calls,
            _ => false,
        };
        if !goes_on {
            break;
        }
        out.push(part.clone());
        index += 1;
    }
    index + usize::from(bracketed && is(tokens.get(index), &Token::RParen))
}

/// `TRIM([side] FROM x)` without characters.
fn trims(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        let call = is_word(Some(token), "TRIM") && is(tokens.get(index + 1), &Token::LParen);
        let sides = [("LEADING", "ltrim"), ("TRAILING", "rtrim"), ("BOTH", "trim")];
        let side = sides.iter().find(|(side, _)| is_word(tokens.get(index + 2), side));
        match side {
            Some((_, name)) if call && is_word(tokens.get(index + 3), "FROM") => {
                out.push(at(token, Token::make_word(name, None)));
                out.extend(tokens.get(index + 1).cloned());
                index += 4;
            }
            None if call && is_word(tokens.get(index + 2), "FROM") => {
                out.push(token.clone());
                out.extend(tokens.get(index + 1).cloned());
                index += 3;
            }
            _ => {
                out.push(token.clone());
                index += 1;
            }
        }
    }
    out
}

/// VALUES as the subquery of a predicate.
fn values_queries(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut closes: Vec<usize> = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let predicate = ["ANY", "ALL", "SOME", "IN", "EXISTS", "SELECT", "WHERE", "AND", "OR", "WHEN", "THEN"]
            .iter()
            .any(|word| is_word(tokens.get(index.wrapping_sub(1)), word))
            || matches!(
                tokens.get(index.wrapping_sub(1)).map(|before| &before.token),
                Some(Token::Eq | Token::Lt | Token::Gt | Token::LtEq | Token::GtEq | Token::Neq | Token::Plus)
            );
        let opens = token.token == Token::LParen && predicate && is_word(tokens.get(index + 1), "VALUES");
        if closes.last() == Some(&index) {
            closes.pop();
            out.push(at(token, Token::RParen));
        }
        out.push(token.clone());
        if let Some(close) = closing(&tokens, index).filter(|_| opens) {
            for word in ["SELECT", "*", "FROM", "("] {
                let made = match word {
                    "*" => Token::Mul,
                    "(" => Token::LParen,
                    word => Token::make_keyword(word),
                };
                out.push(at(token, made));
            }
            closes.push(close);
        }
    }
    out
}

/// Words that end the rows of VALUES.
const AFTER_VALUES: &[&str] = &["UNION", "INTERSECT", "EXCEPT", "ORDER", "LIMIT", "OFFSET", "FETCH", "EMIT"];

fn values_rows(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        out.push(token.clone());
        index += 1;
        let starts = is_word(Some(token), "VALUES")
            && !matches!(tokens.get(index.wrapping_sub(2)).map(|t| &t.token), Some(Token::Period));
        if !starts {
            continue;
        }
        loop {
            let end = row_end(&tokens, index);
            let row = &tokens[index..end];
            let enclosed = is(row.first(), &Token::LParen) && closing(&tokens, index) == Some(end.saturating_sub(1));
            let inner = values_rows(row.to_vec());
            match row.first() {
                Some(first) if !enclosed => {
                    out.push(at(first, Token::LParen));
                    out.extend(inner);
                    out.push(at(first, Token::RParen));
                }
                _ => out.extend(inner),
            }
            index = end;
            if !is(tokens.get(index), &Token::Comma) || row.is_empty() {
                break;
            }
            out.extend(tokens.get(index).cloned());
            index += 1;
        }
    }
    out
}

/// Where a row of VALUES ends: at a comma, a closing parenthesis or a word that follows VALUES.
fn row_end(tokens: &[TokenWithSpan], start: usize) -> usize {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().skip(start) {
        match &token.token {
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket if depth == 0 => return index,
            Token::RParen | Token::RBracket => depth -= 1,
            Token::Comma | Token::SemiColon if depth == 0 => return index,
            Token::Word(word)
                if depth == 0
                    && word.quote_style.is_none()
                    && AFTER_VALUES.iter().any(|after| word.value.eq_ignore_ascii_case(after)) =>
            {
                return index;
            }
            _ => {}
        }
    }
    tokens.len()
}

fn cast_types(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out = tokens;
    let mut index = 0;
    while index < out.len() {
        let is_cast = (is_word(out.get(index), "CAST") || is_word(out.get(index), "TRY_CAST"))
            && is(out.get(index + 1), &Token::LParen);
        if is_cast {
            if let Some(close) = closing(&out, index + 1)
                && let Some(start) = type_start(&out, index + 1, close)
            {
                let text = type_text(&out[start..close]);
                let token = at(&out[start], Token::make_word(&text, Some('"')));
                out.splice(start..close, [token]);
            }
        } else if is_word(out.get(index), "NORMALIZE")
            && is(out.get(index + 1), &Token::LParen)
            && let Some(close) = closing(&out, index + 1)
        {
            let form = word(out.get(close - 1)).map(|word| word.value.to_uppercase());
            if let Some(form) = form.filter(|form| matches!(form.as_str(), "NFC" | "NFD" | "NFKC" | "NFKD")) {
                out[close - 1].token = Token::SingleQuotedString(form);
            }
        }
        index += 1;
    }
    out
}

/// Where the type of `CAST(.. AS type)` starts: after the last AS that is not nested.
fn type_start(tokens: &[TokenWithSpan], open: usize, close: usize) -> Option<usize> {
    let mut depth = 0usize;
    let mut found = None;
    for index in open..close {
        match tokens.get(index)?.token {
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket => depth = depth.saturating_sub(1),
            _ if depth == 1 && is_word(tokens.get(index), "AS") => found = Some(index + 1),
            _ => {}
        }
    }
    found.filter(|start| *start < close)
}

fn type_text(tokens: &[TokenWithSpan]) -> String {
    let mut text = String::new();
    for token in tokens {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&token.token.to_string());
    }
    text
}
