//! Regular expressions in Java's syntax.
//!
//! Invariant: a pattern is compiled once per batch of equal patterns, and `\d`, `\w`, `\s` are ASCII as in Trino.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, ListBuilder, StringBuilder},
    datatypes::{DataType, Field},
};
use headwater_engine::error::{Error, Result};

use super::{
    Family, Function,
    column::{I64, Str, Text, ToBool, ToI32, ToI64},
    define::{self, Definition, scalar},
    kernel::{invalid, text2_with, text3_with, value2_with, value3_with, value4_with, whole},
    scalar::{Call, Kernel},
    string::columns,
};

mod lambda;
mod memo;
mod pattern;
mod translate;

use pattern::{Cached, Pattern};

pub use lambda::function as replace_with_lambda;

/// The functions of this family.
pub fn functions() -> Result<Vec<Function>> {
    let mut all = define::build(vec![like(), extract(), extract_all(), split(), count(), position(), replace()])?;
    all.push(replace_with_lambda());
    Ok(all)
}

fn regexp(name: &'static str, summary: &'static str) -> Definition {
    scalar(Family::Regexp, name, summary)
}

fn like() -> Definition {
    regexp("regexp_like", "whether a part of a text matches")
        .on(
            "regexp_like(varchar, varchar) -> boolean",
            value2_with::<Str, Str, ToBool, Cached>(|cached, text, pattern| {
                cached.get(pattern)?.is_match(text).map(Some)
            }),
        )
        .example("SELECT regexp_like('1a 2b', '\\d+b')", "true")
}

fn extract() -> Definition {
    regexp("regexp_extract", "the first part of a text that matches, or a group of it")
        .on(
            "regexp_extract(varchar, varchar) -> varchar",
            extracted(text2_with::<Str, Str, Cached>(|cached, text, pattern, out| {
                first(cached.get(pattern)?, text, 0, out)
            })),
        )
        .on(
            "regexp_extract(varchar, varchar, bigint) -> varchar",
            extracted(text3_with::<Str, Str, I64, Cached>(|cached, text, pattern, group, out| {
                first(cached.get(pattern)?, text, group, out)
            })),
        )
        .example("SELECT regexp_extract('1a 2b', '\\d+([a-z])', 1)", "a")
}

fn first(pattern: &mut Pattern, text: &str, group: i64, out: &mut Text) -> Result<bool> {
    let group = pattern.group(group)?;
    match pattern.first_group(text, group)?.flatten() {
        Some((start, end)) => {
            out.push_str(&text[start..end]);
            Ok(true)
        }
        None => Ok(false),
    }
}

/// A kernel that takes a column of texts at once where pattern and group are constant, else row by row.
fn extracted(each: Kernel) -> Kernel {
    whole(move |call: &Call<'_>| {
        let group = if call.arguments.len() > 2 { columns::constant_number(call, 2) } else { Some(0) };
        let (Some(texts), Some(pattern), Some(group)) = (columns::texts(call), columns::constant_text(call, 1), group)
        else {
            return each(call);
        };
        if texts.null_count() == texts.len() {
            return each(call);
        }
        let mut cached = Cached::default();
        let pattern = cached.get(pattern)?;
        let group = pattern.group(group)?;
        let mut out = Text::new(texts.len(), call.result);
        pattern.first_groups(texts, group, |found| {
            out.push_str(found.unwrap_or_default());
            out.end(found.is_some());
        })?;
        out.finish()
    })
}

/// A kernel that makes an array of texts of each row.
fn lists(arity: usize, f: fn(&mut Pattern, &str, Option<i64>, &mut StringBuilder) -> Result<()>) -> Kernel {
    whole(move |call: &Call<'_>| {
        let (texts, patterns) = (call.column::<Str>(0)?, call.column::<Str>(1)?);
        let groups = if arity > 2 { Some(call.column::<I64>(2)?) } else { None };
        let field = Field::new("item", DataType::Utf8, true);
        let mut out = ListBuilder::new(StringBuilder::new()).with_field(field);
        let mut cached = Cached::default();
        for row in 0..call.rows {
            let group = match &groups {
                None => Some(None),
                Some(groups) => groups.value(row).map(Some),
            };
            match (texts.value(row), patterns.value(row), group) {
                (Some(text), Some(pattern), Some(group)) => {
                    f(cached.get(pattern)?, text, group, out.values())?;
                    out.append(true);
                }
                _ => out.append(false),
            }
        }
        let array: ArrayRef = Arc::new(out.finish());
        Ok(array)
    })
}

fn extract_all() -> Definition {
    fn all(pattern: &mut Pattern, text: &str, group: Option<i64>, out: &mut StringBuilder) -> Result<()> {
        let group = pattern.group(group.unwrap_or(0))?;
        pattern.each(text, |found| {
            out.append_option(found.get(group).copied().flatten().map(|(start, end)| &text[start..end]));
            Ok(())
        })
    }
    regexp("regexp_extract_all", "every part of a text that matches, or a group of each")
        .on("regexp_extract_all(varchar, varchar) -> array(varchar)", lists(2, all))
        .on("regexp_extract_all(varchar, varchar, bigint) -> array(varchar)", lists(3, all))
        .example("SELECT array_join(regexp_extract_all('1a 2b', '\\d+'), ',')", "1,2")
}

fn split() -> Definition {
    fn parts(pattern: &mut Pattern, text: &str, _: Option<i64>, out: &mut StringBuilder) -> Result<()> {
        let mut last = 0;
        pattern.each_span(text, 0, |(start, end)| {
            out.append_value(&text[last..start]);
            last = end;
            Ok(())
        })?;
        out.append_value(&text[last..]);
        Ok(())
    }
    regexp("regexp_split", "a text split where it matches")
        .on("regexp_split(varchar, varchar) -> array(varchar)", lists(2, parts))
        .example("SELECT array_join(regexp_split('1a 2b', '[a-z] ?'), ',')", "1,2,")
}

fn count() -> Definition {
    regexp("regexp_count", "how often a text matches")
        .on(
            "regexp_count(varchar, varchar) -> bigint",
            value2_with::<Str, Str, ToI64, Cached>(|cached, text, pattern| {
                let mut count = 0;
                cached.get(pattern)?.each_span(text, 0, |_| {
                    count += 1;
                    Ok(())
                })?;
                Ok(Some(count))
            }),
        )
        .example("SELECT regexp_count('1a 2b', '\\d')", "2")
}

fn position() -> Definition {
    regexp("regexp_position", "where a text matches first, or for the n-th time from a position on; -1 if it does not")
        .on(
            "regexp_position(varchar, varchar) -> integer",
            value2_with::<Str, Str, ToI32, Cached>(|cached, text, pattern| {
                place(cached.get(pattern)?, text, 1, 1).map(Some)
            }),
        )
        .on(
            "regexp_position(varchar, varchar, bigint) -> integer",
            value3_with::<Str, Str, I64, ToI32, Cached>(|cached, text, pattern, start| {
                place(cached.get(pattern)?, text, start, 1).map(Some)
            }),
        )
        .on(
            "regexp_position(varchar, varchar, bigint, bigint) -> integer",
            value4_with::<Str, Str, I64, I64, ToI32, Cached>(|cached, text, pattern, start, occurrence| {
                place(cached.get(pattern)?, text, start, occurrence).map(Some)
            }),
        )
        .example("SELECT regexp_position('a1b2', '\\d')", "2")
}

fn place(pattern: &mut Pattern, text: &str, start: i64, occurrence: i64) -> Result<i32> {
    if start < 1 {
        return Err(invalid("start position cannot be smaller than 1"));
    }
    if occurrence < 1 {
        return Err(invalid("occurrence cannot be smaller than 1"));
    }
    let skipped = usize::try_from(start - 1).unwrap_or(usize::MAX);
    if skipped >= text.chars().count() {
        return Ok(-1);
    }
    let from = text.char_indices().nth(skipped).map_or(text.len(), |(at, _)| at);
    let (mut left, mut found) = (occurrence, -1);
    pattern.each_span(text, from, |(start, _)| {
        left -= 1;
        if left == 0 {
            found = text[..start].chars().count() as i32 + 1;
        }
        Ok(())
    })?;
    Ok(found)
}

fn replace() -> Definition {
    regexp("regexp_replace", "a text with what matches removed or replaced, with `$1` and `${name}` for groups, or by a lambda of the groups")
        .on(
            "regexp_replace(varchar, varchar) -> varchar",
            text2_with::<Str, Str, Cached>(|cached, text, pattern, out| replaced(cached.get(pattern)?, text, "", out)),
        )
        .on(
            "regexp_replace(varchar, varchar, varchar) -> varchar",
            text3_with::<Str, Str, Str, Cached>(|cached, text, pattern, with, out| {
                replaced(cached.get(pattern)?, text, with, out)
            }),
        )
        .example("SELECT regexp_replace('1a 2b', '(\\d)([a-z])', '$2$1')", "a1 b2")
}

fn replaced(pattern: &mut Pattern, text: &str, with: &str, out: &mut Text) -> Result<bool> {
    let mut last = 0;
    if !with.contains(['$', '\\']) {
        pattern.each_span(text, 0, |(start, end)| {
            out.push_str(&text[last..start]);
            out.push_str(with);
            last = end;
            Ok(())
        })?;
    } else if pattern.is_match(text)? {
        // A replacement that is wrong fails only where there is something to replace.
        let parts = replacement(pattern, with)?;
        pattern.each(text, |found| {
            let Some(Some((start, end))) = found.first().copied() else { return Ok(()) };
            out.push_str(&text[last..start]);
            for part in &parts {
                match part {
                    Part::Text(literal) => out.push_str(literal),
                    Part::Group(group) => {
                        if let Some(Some((start, end))) = found.get(*group).copied() {
                            out.push_str(&text[start..end]);
                        }
                    }
                }
            }
            last = end;
            Ok(())
        })?;
    }
    out.push_str(&text[last..]);
    Ok(true)
}

enum Part {
    Text(String),
    Group(usize),
}

fn illegal(what: &str) -> Error {
    invalid(format!("illegal replacement sequence: {what}"))
}

fn replacement(pattern: &Pattern, with: &str) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut chars = with.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => text.push(chars.next().ok_or_else(|| illegal("\\"))?),
            '$' => {
                let group = if chars.next_if_eq(&'{').is_some() {
                    let name: String = chars.by_ref().take_while(|c| *c != '}').collect();
                    pattern.named(&name).ok_or_else(|| illegal(&format!("unknown group {{ {name} }}")))?
                } else {
                    numbered(pattern, &mut chars)?
                };
                parts.push(Part::Text(std::mem::take(&mut text)));
                parts.push(Part::Group(group));
            }
            c => text.push(c),
        }
    }
    parts.push(Part::Text(text));
    Ok(parts)
}

/// As many digits as still name a group.
fn numbered(pattern: &Pattern, chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<usize> {
    let digit = |c: &char| c.to_digit(10).map(|digit| digit as usize);
    let mut group = chars.next_if(char::is_ascii_digit).as_ref().and_then(digit).ok_or_else(|| illegal("$"))?;
    if group >= pattern.groups() {
        return Err(illegal(&format!("unknown group {group}")));
    }
    while let Some(next) = chars.peek().and_then(digit) {
        if group * 10 + next >= pattern.groups() {
            break;
        }
        group = group * 10 + next;
        chars.next();
    }
    Ok(group)
}
