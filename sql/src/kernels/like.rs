//! `LIKE`: `%`, `_` and an escape character, which there is none of unless the query names one.
//!
//! Invariant: an escape character stands before `%`, `_` or itself only.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, StringArray},
    datatypes::DataType,
};
use headwater_engine::error::{Error, Result};

/// A compiled pattern.
#[derive(Debug)]
struct Pattern(Vec<Part>);

#[derive(Debug, PartialEq)]
enum Part {
    Text(char),
    One,
    Any,
}

/// Evaluates `value LIKE pattern [ESCAPE escape]`.
pub fn evaluate(args: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
    let text = args.iter().map(|arg| Ok(arrow::compute::cast(arg, &DataType::Utf8)?)).collect::<Result<Vec<_>>>()?;
    let columns: Vec<&StringArray> = text.iter().map(|column| column.as_string::<i32>()).collect();
    let [values, patterns, escapes @ ..] = columns.as_slice() else {
        return Err(Error::internal("LIKE is missing an argument"));
    };
    let mut last: Option<(&str, Option<&str>, Pattern)> = None;
    let matched = (0..rows).map(|row| {
        let escape = match escapes.first() {
            Some(column) if arrow::array::Array::is_null(column, row) => return Ok(None),
            Some(column) => Some(column.value(row)),
            None => None,
        };
        if arrow::array::Array::is_null(values, row) || arrow::array::Array::is_null(patterns, row) {
            return Ok(None);
        }
        let pattern = patterns.value(row);
        if last.as_ref().is_none_or(|(text, known, _)| *text != pattern || *known != escape) {
            last = Some((pattern, escape, compile(pattern, escape)?));
        }
        let value = values.value(row);
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
    Ok(Pattern(parts))
}

impl Pattern {
    fn matches(&self, value: &str) -> bool {
        let text: Vec<char> = value.chars().collect();
        let parts = &self.0;
        let (mut at, mut part) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        while at < text.len() {
            match parts.get(part) {
                Some(Part::Any) => {
                    retry = Some((part, at));
                    part += 1;
                }
                Some(Part::One) => (at, part) = (at + 1, part + 1),
                Some(Part::Text(c)) if *c == text[at] => (at, part) = (at + 1, part + 1),
                _ => match retry {
                    Some((any, from)) => {
                        retry = Some((any, from + 1));
                        (at, part) = (from + 1, any + 1);
                    }
                    None => return false,
                },
            }
        }
        parts[part..].iter().all(|rest| *rest == Part::Any)
    }
}
