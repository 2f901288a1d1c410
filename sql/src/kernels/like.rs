//! `LIKE`: `%`, `_` and an escape character, which there is none of unless the query names one.
//!
//! Invariant: an escape character stands before `%`, `_` or itself only.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, StringArray},
    datatypes::DataType,
};
use headwater_engine::error::{Error, Result};
use memchr::memmem::Finder;

use crate::functions::string::columns::holding;

/// A compiled pattern.
#[derive(Debug)]
enum Pattern {
    /// Text alone.
    Exact(String),
    /// Text at the beginning, texts in their order between, text at the end.
    Texts { head: String, between: Vec<Finder<'static>>, tail: String },
    /// A pattern with `_` in it.
    Parts(Vec<Part>),
}

#[derive(Debug, PartialEq)]
enum Part {
    Text(char),
    One,
    Any,
}

/// A column, or one value that stands for all rows.
struct Column<'a> {
    array: &'a StringArray,
    stride: usize,
}

impl<'a> Column<'a> {
    fn new(array: &'a ArrayRef, rows: usize) -> Self {
        let array = array.as_string::<i32>();
        Self { array, stride: usize::from(array.len() == rows) }
    }

    fn value(&self, row: usize) -> Option<&'a str> {
        let row = row * self.stride;
        self.array.is_valid(row).then(|| self.array.value(row))
    }

    /// The value that stands for all rows.
    fn constant(&self) -> Option<&'a str> {
        if self.array.len() == 1 { self.value(0) } else { None }
    }
}

/// Evaluates `value LIKE pattern [ESCAPE escape]`; an argument of one value stands for all rows.
pub fn evaluate(args: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
    let text = args.iter().map(|arg| Ok(arrow::compute::cast(arg, &DataType::Utf8)?)).collect::<Result<Vec<_>>>()?;
    let columns: Vec<Column<'_>> = text.iter().map(|column| Column::new(column, rows)).collect();
    let [values, patterns, escapes @ ..] = columns.as_slice() else {
        return Err(Error::internal("LIKE is missing an argument"));
    };
    if let Some(pattern) = patterns.constant()
        && escapes.iter().all(|escape| escape.constant().is_some())
        && values.array.null_count() < values.array.len()
    {
        let compiled = compile(pattern, escapes.first().and_then(Column::constant))?;
        return Ok(Arc::new(compiled.of_each(values, rows)));
    }
    let mut last: Option<(&str, Option<&str>, Pattern)> = None;
    let matched = (0..rows).map(|row| {
        let escape = match escapes.first().map(|column| column.value(row)) {
            Some(None) => return Ok(None),
            Some(escape) => escape,
            None => None,
        };
        let (Some(value), Some(pattern)) = (values.value(row), patterns.value(row)) else {
            return Ok(None);
        };
        if last.as_ref().is_none_or(|(text, known, _)| *text != pattern || *known != escape) {
            last = Some((pattern, escape, compile(pattern, escape)?));
        }
        Ok(last.as_ref().map(|(_, _, compiled)| compiled.matches(value)))
    });
    Ok(Arc::new(matched.collect::<Result<BooleanArray>>()?))
}

fn compile(pattern: &str, escape: Option<&str>) -> Result<Pattern> {
    let wrong = |message: &str| Error::user("INVALID_FUNCTION_ARGUMENT", message.to_owned());
    let escape = match escape.map(|text| text.chars().collect::<Vec<_>>()) {
        None => None,
        Some(one) if one.len() == 1 => one.first().copied(),
        Some(_) => return Err(wrong("escape string must be a single character")),
    };
    let mut parts = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if Some(c) == escape {
            match chars.next() {
                Some(next) if next == '%' || next == '_' || Some(next) == escape => parts.push(Part::Text(next)),
                _ => return Err(wrong("escape character must be followed by '%', '_' or the escape character itself")),
            }
        } else if c == '%' {
            if parts.last() != Some(&Part::Any) {
                parts.push(Part::Any);
            }
        } else {
            parts.push(if c == '_' { Part::One } else { Part::Text(c) });
        }
    }
    Ok(Pattern::of(parts))
}

impl Pattern {
    fn of(parts: Vec<Part>) -> Self {
        if parts.contains(&Part::One) {
            return Self::Parts(parts);
        }
        let text = |parts: &[Part]| {
            parts.iter().filter_map(|part| if let Part::Text(c) = part { Some(*c) } else { None }).collect::<String>()
        };
        let texts: Vec<String> = parts.split(|part| *part == Part::Any).map(text).collect();
        match texts.as_slice() {
            [] => Self::Exact(String::new()),
            [one] => Self::Exact(one.clone()),
            [head, between @ .., tail] => Self::Texts {
                head: head.clone(),
                between: between.iter().map(|text| Finder::new(text.as_bytes()).into_owned()).collect(),
                tail: tail.clone(),
            },
        }
    }

    /// Which values match; a text anywhere in them is sought in all at once.
    fn of_each(&self, values: &Column<'_>, rows: usize) -> BooleanArray {
        let array = values.array;
        match self {
            Self::Texts { head, between, tail } if values.stride == 1 && head.is_empty() && tail.is_empty() => {
                if let [text] = between.as_slice() {
                    return BooleanArray::new(holding(array, text), array.nulls().cloned());
                }
            }
            _ => {}
        }
        (0..rows).map(|row| values.value(row).map(|value| self.matches(value))).collect()
    }

    fn matches(&self, value: &str) -> bool {
        match self {
            Self::Exact(text) => value == text,
            Self::Texts { head, between, tail } => {
                let Some(rest) = inner(value, head, tail) else { return false };
                // The first place of each text leaves the most for those after it.
                let mut rest = rest.as_bytes();
                between.iter().all(|text| match text.find(rest) {
                    Some(at) => {
                        rest = rest.get(at + text.needle().len()..).unwrap_or_default();
                        true
                    }
                    None => false,
                })
            }
            Self::Parts(parts) => matches(parts, value),
        }
    }
}

/// What is between a beginning and an end. An empty one is not compared: the C library's comparison of no bytes at the
/// address of an empty text costs more than the search itself.
fn inner<'a>(value: &'a str, head: &str, tail: &str) -> Option<&'a str> {
    let rest = if head.is_empty() { value } else { value.strip_prefix(head)? };
    if tail.is_empty() { Some(rest) } else { rest.strip_suffix(tail) }
}

/// Matches from left to right; where a part fails, the last `%` takes one character more.
fn matches(parts: &[Part], value: &str) -> bool {
    let (mut rest, mut part) = (value.chars(), 0);
    let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
    loop {
        let before = rest.clone();
        let Some(c) = rest.next() else { break };
        match parts.get(part) {
            Some(Part::Any) => {
                retry = Some((part, before.clone()));
                (rest, part) = (before, part + 1);
            }
            Some(Part::One) => part += 1,
            Some(Part::Text(wanted)) if *wanted == c => part += 1,
            _ => match &mut retry {
                Some((any, from)) => {
                    from.next();
                    (rest, part) = (from.clone(), *any + 1);
                }
                None => return false,
            },
        }
    }
    parts.get(part..).unwrap_or_default().iter().all(|rest| *rest == Part::Any)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By trying every way to split the value.
    fn naive(parts: &[Part], value: &[char]) -> bool {
        match (parts, value) {
            ([], rest) => rest.is_empty(),
            ([Part::Any, after @ ..], _) => (0..=value.len()).any(|skip| naive(after, &value[skip..])),
            ([Part::One, after @ ..], [_, rest @ ..]) => naive(after, rest),
            ([Part::Text(wanted), after @ ..], [c, rest @ ..]) => wanted == c && naive(after, rest),
            _ => false,
        }
    }

    fn words(alphabet: &[char], length_max: usize) -> Vec<String> {
        let mut all = vec![String::new()];
        let mut last = all.clone();
        for _ in 0..length_max {
            last = last.iter().flat_map(|word| alphabet.iter().map(move |c| format!("{word}{c}"))).collect();
            all.extend(last.iter().cloned());
        }
        all
    }

    #[test]
    fn every_short_pattern_matches_as_trying_every_split_does() {
        let values = words(&['a', 'é', 'b'], 4);
        for pattern in words(&['a', 'é', '%', '_'], 5) {
            let compiled = compile(&pattern, None).unwrap();
            let parts: Vec<Part> = pattern
                .chars()
                .map(|c| match c {
                    '%' => Part::Any,
                    '_' => Part::One,
                    c => Part::Text(c),
                })
                .collect();
            for value in &values {
                let chars: Vec<char> = value.chars().collect();
                assert_eq!(compiled.matches(value), naive(&parts, &chars), "{value} LIKE {pattern}");
            }
        }
    }

    #[test]
    fn one_value_stands_for_all_rows_and_null_gives_null() {
        let values: ArrayRef = Arc::new(StringArray::from(vec![Some("a%c"), None, Some("abc")]));
        let pattern: ArrayRef = Arc::new(StringArray::from(vec!["_$%%"]));
        let escape: ArrayRef = Arc::new(StringArray::from(vec!["$"]));
        let matched = evaluate(&[values, pattern, escape], 3).unwrap();
        let matched: Vec<Option<bool>> = matched.as_boolean().iter().collect();
        assert_eq!(matched, [Some(true), None, Some(false)]);
    }
}
