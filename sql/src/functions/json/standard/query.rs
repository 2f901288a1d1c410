//! `JSON_EXISTS`, `JSON_VALUE` and `JSON_QUERY`, with their behaviours on empty and on error spelled as arguments.
//!
//! The parser turns `json_value(x, 'lax $.a' DEFAULT 0 ON EMPTY)` into a call of the plain function here.
//!
//! Invariant: an error of the document or the path never leaves a call unless `ERROR ON ERROR` asks for it.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, BooleanBuilder, Int64Builder, ListArray, StringBuilder, StructArray, UInt32Array},
    buffer::OffsetBuffer,
    compute::take,
    datatypes::DataType,
};
use headwater_engine::error::{Error, Result};
use serde_json::Value;

use super::{
    super::{
        super::{
            column::{Column, Compiled, Str, Text},
            scalar::Call,
        },
        canonical::{Keys, write_value},
        scan::Scanner,
    },
    evaluate::{evaluate, integer, number},
    path::StandardPath,
};
use crate::kernels::render;

/// A document, or the error that it is none.
fn document(text: &str) -> Result<Value> {
    let bad = || Error::user("JSON_INPUT_CONVERSION_ERROR", "conversion to JSON failed");
    let mut scanner = Scanner::new(text);
    let mut canonical = String::new();
    write_value(&mut scanner, Keys::AsWritten, &mut canonical).filter(|()| scanner.at_end()).ok_or_else(bad)?;
    serde_json::from_str(&canonical).map_err(|_| bad())
}

fn items(path: &StandardPath, text: &str) -> Result<Vec<Value>> {
    evaluate(path, &document(text)?)
        .map_err(|problem| Error::user("PATH_EVALUATION_ERROR", format!("path evaluation failed: {problem}")))
}

fn option(column: &Column<Str>, row: usize) -> &str {
    column.value(row).unwrap_or_default()
}

/// `(document, path, on error)`.
pub(super) fn exists(call: &Call<'_>) -> Result<ArrayRef> {
    let (documents, paths, on_error) = (call.column::<Str>(0)?, call.column::<Str>(1)?, call.column::<Str>(2)?);
    let mut path = Compiled::default();
    let mut out = BooleanBuilder::with_capacity(call.rows);
    for row in 0..call.rows {
        let (Some(text), Some(path_text)) = (documents.value(row), paths.value(row)) else {
            out.append_null();
            continue;
        };
        let path = path.get(path_text, StandardPath::parse)?;
        out.append_option(match (items(path, text), option(&on_error, row)) {
            (Ok(items), _) => Some(!items.is_empty()),
            (Err(error), "error") => return Err(error),
            (Err(_), "true") => Some(true),
            (Err(_), "unknown") => None,
            (Err(_), _) => Some(false),
        });
    }
    Ok(Arc::new(out.finish()))
}

fn no_value(problem: &str) -> Error {
    Error::user("JSON_VALUE_RESULT_ERROR", format!("cannot extract SQL scalar from JSON: {problem}"))
}

/// A scalar as text that a cast to the type wanted can read; the first letter of the type says which.
fn scalar_text(item: &Value, returning: &str) -> Result<Option<String>> {
    Ok(match item {
        Value::Null => None,
        Value::Bool(value) => Some(value.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Number(plain) => {
            let whole = integer(item);
            let value = number(item).ok_or_else(|| no_value("the number is out of range"))?;
            Some(match returning {
                "integer" if whole.is_none() && value.abs() < 9e18 => format!("{:.0}", value.round()),
                "text" | "" if whole.is_none() && plain.to_string().contains(['.', 'e', 'E']) => render::double(value),
                "text" | "" if whole.is_none() => return Err(no_value("the number is out of range")),
                _ => plain.to_string(),
            })
        }
        Value::Array(_) | Value::Object(_) => return Err(no_value("JSON path found an item that is no scalar")),
    })
}

/// `(document, path, type family, on empty, default, on error, default)`.
pub(super) fn value(call: &Call<'_>) -> Result<ArrayRef> {
    let columns = (0..7).map(|index| call.column::<Str>(index)).collect::<Result<Vec<_>>>()?;
    let mut path = Compiled::default();
    let mut out = Text::new(call.rows, call.result);
    for row in 0..call.rows {
        let (Some(text), Some(path_text)) = (columns[0].value(row), columns[1].value(row)) else {
            out.end(false);
            continue;
        };
        let path = path.get(path_text, StandardPath::parse)?;
        let found = items(path, text).and_then(|items| match items.as_slice() {
            [] => Ok(None),
            [item] => scalar_text(item, option(&columns[2], row)).map(Some),
            _ => Err(no_value("JSON path found multiple items")),
        });
        let chosen: Option<String> = match found {
            Ok(Some(text)) => text,
            Ok(None) => match option(&columns[3], row) {
                "error" => return Err(no_value("JSON path found no items")),
                "default" => columns[4].value(row).map(str::to_owned),
                _ => None,
            },
            Err(error) => match option(&columns[5], row) {
                "error" => return Err(error),
                "default" => columns[6].value(row).map(str::to_owned),
                _ => None,
            },
        };
        out.push_str(chosen.as_deref().unwrap_or_default());
        out.end(chosen.is_some());
    }
    out.finish()
}

/// `(document, path, on error, number of the sibling)`: an array of the items found as JSON text, each with its place.
pub(super) fn rows(call: &Call<'_>) -> Result<ArrayRef> {
    let (documents, paths, on_error) = (call.column::<Str>(0)?, call.column::<Str>(1)?, call.column::<Str>(2)?);
    let siblings = call.full(3)?;
    let mut path = Compiled::default();
    let (mut texts, mut places, mut taken) = (StringBuilder::new(), Int64Builder::new(), Vec::new());
    let mut lengths = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        let found = match (documents.value(row), paths.value(row)) {
            (Some(text), Some(path_text)) => match items(path.get(path_text, StandardPath::parse)?, text) {
                Ok(items) => items,
                Err(error) if option(&on_error, row) == "error" => return Err(error),
                Err(_) => Vec::new(),
            },
            _ => Vec::new(),
        };
        lengths.push(found.len());
        for (index, item) in found.iter().enumerate() {
            texts.append_value(json_text(item));
            places.append_value(index as i64 + 1);
            taken.push(row as u32);
        }
    }
    let siblings = take(&siblings, &UInt32Array::from(taken), None)?;
    let parts: Vec<ArrayRef> = vec![Arc::new(texts.finish()), Arc::new(places.finish()), siblings];
    let DataType::List(field) = call.result else { return Err(Error::internal("JSON rows are a list")) };
    let DataType::Struct(fields) = field.data_type() else {
        return Err(Error::internal("JSON rows are a list of rows"));
    };
    let rows = StructArray::try_new(fields.clone(), parts, None)?;
    Ok(Arc::new(ListArray::try_new(Arc::clone(field), OffsetBuffer::from_lengths(lengths), Arc::new(rows), None)?))
}

fn no_json(problem: &str) -> Error {
    Error::user("JSON_OUTPUT_CONVERSION_ERROR", format!("conversion from JSON failed: {problem}"))
}

fn json_text(item: &Value) -> String {
    let text = item.to_string();
    let mut out = String::with_capacity(text.len());
    match write_value(&mut Scanner::new(&text), Keys::AsWritten, &mut out) {
        Some(()) => out,
        None => text,
    }
}

/// What the items become: NULL is for empty.
fn wrapped(items: Vec<Value>, wrapper: &str, omit_quotes: bool) -> Result<Option<String>> {
    let wrap = match (wrapper, items.as_slice()) {
        (_, []) => return Ok(None),
        ("always", _) => true,
        ("conditional", [Value::Array(_) | Value::Object(_)]) => false,
        ("conditional", _) => true,
        (_, [_]) => false,
        _ => return Err(no_json("JSON path found multiple items")),
    };
    if wrap {
        return Ok(Some(json_text(&Value::Array(items))));
    }
    Ok(items.first().map(|item| match item {
        Value::String(text) if omit_quotes => text.clone(),
        item => json_text(item),
    }))
}

fn instead(behaviour: &str, error: Error) -> Result<Option<String>> {
    match behaviour {
        "error" => Err(error),
        "array" => Ok(Some("[]".to_owned())),
        "object" => Ok(Some("{}".to_owned())),
        _ => Ok(None),
    }
}

/// `(document, path, wrapper, quotes, on empty, on error)`.
pub(super) fn query(call: &Call<'_>) -> Result<ArrayRef> {
    let columns = (0..6).map(|index| call.column::<Str>(index)).collect::<Result<Vec<_>>>()?;
    let mut path = Compiled::default();
    let mut out = Text::new(call.rows, call.result);
    for row in 0..call.rows {
        let (Some(text), Some(path_text)) = (columns[0].value(row), columns[1].value(row)) else {
            out.end(false);
            continue;
        };
        let path = path.get(path_text, StandardPath::parse)?;
        let omit = option(&columns[3], row) == "omit";
        let found = items(path, text).and_then(|items| wrapped(items, option(&columns[2], row), omit));
        let chosen = match found {
            Ok(Some(text)) => Some(text),
            Ok(None) => instead(option(&columns[4], row), no_json("JSON path found no items"))?,
            Err(error) => instead(option(&columns[5], row), error)?,
        };
        out.push_str(chosen.as_deref().unwrap_or_default());
        out.end(chosen.is_some());
    }
    out.finish()
}
