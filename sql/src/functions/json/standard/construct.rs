//! `JSON_OBJECT` and `JSON_ARRAY`: text of members and elements.
//!
//! Invariant: every element is JSON text already (`json_item` made it so); these only join.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, LargeStringBuilder};
use headwater_engine::error::{Error, Result};

use super::super::{
    super::{
        column::{Str, Text},
        kernel::invalid,
        nested::as_list,
        scalar::Call,
    },
    canonical::{Keys, write_double, write_string, write_value},
    scan::Scanner,
};
use crate::{kernels::render, types::Type};

/// The JSON text of a value of any type that has one.
pub(super) fn item(call: &Call<'_>) -> Result<ArrayRef> {
    let array = call.full(0)?;
    let of = Type::from_arrow(array.data_type());
    let quoted = match &of {
        Type::Boolean | Type::Tinyint | Type::Smallint | Type::Integer | Type::Bigint | Type::Decimal(..) => false,
        Type::Real | Type::Double => return Ok(Arc::new(doubles(&array)?.finish())),
        Type::Varchar(_) | Type::Char(_) | Type::Date | Type::Time(_) | Type::Timestamp(_) | Type::TimestampTz(..) => {
            true
        }
        Type::Unknown => return Ok(arrow::array::new_null_array(call.result, call.rows)),
        Type::Json => {
            return Err(Error::user("INVALID_CAST_ARGUMENT", "a json value needs FORMAT JSON")
                .with_hint("write json_format(x) FORMAT JSON"));
        }
        other => return Err(Error::not_supported(format!("a value of type {other} in JSON is not supported"))),
    };
    let mut out = LargeStringBuilder::new();
    let mut text = String::new();
    for value in render::texts(&array, &of)? {
        text.clear();
        out.append_option(value.map(|value| {
            if quoted {
                write_string(&value, &mut text);
                text.clone()
            } else {
                value
            }
        }));
    }
    Ok(Arc::new(out.finish()))
}

fn doubles(array: &ArrayRef) -> Result<LargeStringBuilder> {
    let wide = arrow::compute::cast(array, &arrow::datatypes::DataType::Float64)?;
    let mut out = LargeStringBuilder::new();
    for value in wide.as_primitive::<arrow::datatypes::Float64Type>() {
        out.append_option(value.map(|value| {
            let mut text = String::new();
            write_double(value, &mut text);
            text
        }));
    }
    Ok(out)
}

/// `FORMAT JSON`: text that is JSON.
pub(super) fn formatted(call: &Call<'_>) -> Result<ArrayRef> {
    let texts = call.column::<Str>(0)?;
    let mut out = LargeStringBuilder::new();
    for row in 0..call.rows {
        let Some(text) = texts.value(row) else {
            out.append_null();
            continue;
        };
        let mut scanner = Scanner::new(text);
        let mut canonical = String::new();
        write_value(&mut scanner, Keys::AsWritten, &mut canonical)
            .filter(|()| scanner.at_end())
            .ok_or_else(|| Error::user("JSON_INPUT_CONVERSION_ERROR", "conversion to JSON failed"))?;
        out.append_value(canonical);
    }
    Ok(Arc::new(out.finish()))
}

/// `(null or absent, elements)`.
pub(super) fn array(call: &Call<'_>) -> Result<ArrayRef> {
    let modes = call.column::<Str>(0)?;
    let lists = call.full(1)?;
    let lists = as_list(&lists)?;
    let mut out = Text::new(call.rows, call.result);
    for row in 0..call.rows {
        let absent = modes.value(row) != Some("null");
        let elements = lists.value(row);
        let mut separator = "[";
        for element in elements.as_string::<i64>().iter().filter(|element| element.is_some() || !absent) {
            out.push_str(separator);
            out.push_str(element.unwrap_or("null"));
            separator = ",";
        }
        out.push_str(if separator == "[" { "[]" } else { "]" });
        out.end(true);
    }
    out.finish()
}

/// `(null or absent, unique or not, keys, values)`.
pub(super) fn object(call: &Call<'_>) -> Result<ArrayRef> {
    let (modes, uniques) = (call.column::<Str>(0)?, call.column::<Str>(1)?);
    let (keys, values) = (call.full(2)?, call.full(3)?);
    let (keys, values) = (as_list(&keys)?, as_list(&values)?);
    let mut out = Text::new(call.rows, call.result);
    for row in 0..call.rows {
        let absent = modes.value(row) == Some("absent");
        let (names, members) = (keys.value(row), values.value(row));
        let (names, members) = (names.as_string::<i32>(), members.as_string::<i64>());
        let mut kept: Vec<(&str, Option<&str>)> = Vec::with_capacity(names.len());
        let mut seen: Vec<&str> = Vec::with_capacity(names.len());
        for (name, member) in names.iter().zip(members) {
            let name = name.ok_or_else(|| invalid("null value passed for JSON object key to JSON_OBJECT function"))?;
            if seen.contains(&name) {
                return Err(if uniques.value(row) == Some("unique") {
                    invalid("duplicate key passed to JSON_OBJECT function")
                } else {
                    Error::not_supported("cannot construct a JSON object with duplicate key")
                });
            }
            seen.push(name);
            if member.is_none() && absent {
                continue;
            }
            kept.push((name, member));
        }
        let table = table_size(kept.len());
        kept.sort_by_key(|(name, _)| place(name, table));
        let mut text = String::from("{");
        for (name, member) in kept {
            if text.len() > 1 {
                text.push(',');
            }
            write_string(name, &mut text);
            text.push(':');
            text.push_str(member.unwrap_or("null"));
        }
        text.push('}');
        out.push_str(&text);
        out.end(true);
    }
    out.finish()
}

/// How many places a hash table of Java's has for so many keys: the order of an object's members follows them.
fn table_size(keys: usize) -> u32 {
    let mut size = 16_usize;
    while keys > size / 4 * 3 {
        size *= 2;
    }
    u32::try_from(size).unwrap_or(u32::MAX)
}

/// The place of a key in such a table.
fn place(key: &str, table: u32) -> u32 {
    let hash = key.encode_utf16().fold(0_u32, |hash, unit| hash.wrapping_mul(31).wrapping_add(u32::from(unit)));
    (hash ^ (hash >> 16)) & (table - 1)
}
