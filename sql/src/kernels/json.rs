//! Casts between JSON and everything else.
//!
//! Invariant: JSON text is compact; a map's keys are sorted, a row's fields keep their order.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, LargeStringArray, ListArray, MapArray, StringArray, StructArray, new_null_array,
    },
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::{DataType, Float32Type, Float64Type},
};
use headwater_engine::error::{Error, Result};
use serde_json::Value;

use super::{cast::refused, render};
use crate::types::Type;

/// Whether `CAST(json AS type)` exists.
pub fn castable_from(to: &Type) -> bool {
    match to {
        Type::Boolean | Type::Varchar(_) | Type::Json => true,
        Type::Array(inner) => castable_from(inner),
        Type::Map(key, value) => key_type(key) && castable_from(value),
        Type::Row(fields) => fields.iter().all(|(_, inner)| castable_from(inner)),
        other => other.is_numeric(),
    }
}

/// Whether `CAST(value AS json)` exists.
pub fn castable_to(from: &Type) -> bool {
    match from {
        Type::Unknown | Type::Boolean | Type::Varchar(_) | Type::Json | Type::Date | Type::Timestamp(_) => true,
        Type::Array(inner) => castable_to(inner),
        Type::Map(key, value) => (key_type(key) || **key == Type::Unknown) && castable_to(value),
        Type::Row(fields) => fields.iter().all(|(_, inner)| castable_to(inner)),
        other => other.is_numeric(),
    }
}

fn key_type(of: &Type) -> bool {
    of.is_numeric() || matches!(of, Type::Boolean | Type::Varchar(_))
}

/// `CAST(value AS json)`
pub fn to_json(array: &ArrayRef, from: &Type) -> Result<ArrayRef> {
    let texts = texts(array, from)?;
    Ok(Arc::new(LargeStringArray::from_iter(texts)))
}

fn texts(array: &ArrayRef, from: &Type) -> Result<Vec<Option<String>>> {
    let quoted = |texts: Vec<Option<String>>| texts.into_iter().map(|text| text.map(|text| quote(&text))).collect();
    Ok(match from {
        Type::Real => {
            finite(array.as_primitive::<Float32Type>().iter().map(|v| v.map(|v| (f64::from(v), render::java_real(v)))))
        }
        Type::Double => {
            finite(array.as_primitive::<Float64Type>().iter().map(|v| v.map(|v| (v, render::java_double(v)))))
        }
        Type::Varchar(_) | Type::Date | Type::Timestamp(_) => quoted(render::texts(array, from)?),
        Type::Array(inner) => {
            let list = array.as_list::<i32>();
            let inner = nulls_written(texts(list.values(), inner)?);
            let offsets = list.value_offsets();
            (0..list.len())
                .map(|row| list.is_valid(row).then(|| format!("[{}]", inner[range(offsets, row)].join(","))))
                .collect()
        }
        Type::Map(key, value) => {
            let map = array.as_map();
            let keys = render::texts(map.keys(), key)?;
            let values = nulls_written(texts(map.values(), value)?);
            let offsets = map.value_offsets();
            (0..map.len()).map(|row| map.is_valid(row).then(|| object(range(offsets, row), &keys, &values))).collect()
        }
        Type::Row(fields) => {
            let row = array.as_struct();
            let columns = row
                .columns()
                .iter()
                .zip(fields)
                .map(|(column, (name, inner))| {
                    Ok((quote(name.as_deref().unwrap_or("")), nulls_written(texts(column, inner)?)))
                })
                .collect::<Result<Vec<_>>>()?;
            let one = |at: usize| {
                let members: Vec<String> =
                    columns.iter().map(|(name, texts)| format!("{name}:{}", texts[at])).collect();
                format!("{{{}}}", members.join(","))
            };
            (0..row.len()).map(|at| row.is_valid(at).then(|| one(at))).collect()
        }
        _ => render::texts(array, from)?,
    })
}

fn finite(values: impl Iterator<Item = Option<(f64, String)>>) -> Vec<Option<String>> {
    values
        .map(|value| value.map(|(value, text)| if value.is_finite() { text } else { format!("\"{text}\"") }))
        .collect()
}

fn range(offsets: &[i32], row: usize) -> std::ops::Range<usize> {
    offsets[row] as usize..offsets[row + 1] as usize
}

fn object(range: std::ops::Range<usize>, keys: &[Option<String>], values: &[String]) -> String {
    let mut members: Vec<(&str, &str)> =
        range.map(|at| (keys[at].as_deref().unwrap_or(""), values[at].as_str())).collect();
    members.sort_by_key(|(key, _)| *key);
    let members: Vec<String> = members.into_iter().map(|(key, value)| format!("{}:{value}", quote(key))).collect();
    format!("{{{}}}", members.join(","))
}

fn nulls_written(texts: Vec<Option<String>>) -> Vec<String> {
    texts.into_iter().map(|text| text.unwrap_or_else(|| "null".into())).collect()
}

/// A JSON string.
pub fn quote(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

/// `CAST(json AS type)`
pub fn from_json(array: &ArrayRef, to: &Type) -> Result<ArrayRef> {
    let values = array
        .as_string::<i64>()
        .iter()
        .map(|text| text.map(|text| serde_json::from_str(text).map_err(|_| refused(text, to))).transpose())
        .collect::<Result<Vec<Option<Value>>>>()?;
    let refs: Vec<Option<&Value>> = values.iter().map(Option::as_ref).collect();
    read(&refs, to)
}

fn read(values: &[Option<&Value>], to: &Type) -> Result<ArrayRef> {
    let present: Vec<Option<&Value>> =
        values.iter().map(|value| value.filter(|value| !value.is_null() || *to == Type::Json)).collect();
    match to {
        Type::Json => Ok(Arc::new(present.iter().map(|v| v.map(Value::to_string)).collect::<LargeStringArray>())),
        Type::Array(inner) => read_array(&present, inner, to),
        Type::Map(key, value) => read_map(&present, key, value, to),
        Type::Row(fields) => read_row(&present, fields, to),
        Type::Varchar(_) => {
            let texts = present.iter().map(|value| value.map(|value| scalar_text(value, to)).transpose());
            let array: ArrayRef = Arc::new(texts.collect::<Result<StringArray>>()?);
            super::cast::evaluate(&array, &Type::VARCHAR, to, false)
        }
        _ => read_number(&present, to),
    }
}

fn scalar_text(value: &Value, to: &Type) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => {
            let text = number.to_string();
            match text.parse::<f64>() {
                Ok(value) if text.contains(['.', 'e', 'E']) && matches!(to, Type::Varchar(_)) => {
                    Ok(render::double(value))
                }
                _ => Ok(text),
            }
        }
        Value::Bool(truth) => Ok(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(refused(&value.to_string(), to)),
    }
}

fn read_number(values: &[Option<&Value>], to: &Type) -> Result<ArrayRef> {
    let texts = values.iter().map(|value| {
        let Some(value) = value else { return Ok(None) };
        match value {
            Value::Bool(truth) => {
                Ok(Some(if *to == Type::Boolean { truth.to_string() } else { u8::from(*truth).to_string() }))
            }
            Value::Number(number) => number_text(&number.to_string(), to).map(Some),
            other => scalar_text(other, to).map(Some),
        }
    });
    let array: ArrayRef = Arc::new(texts.collect::<Result<StringArray>>()?);
    super::cast::evaluate(&array, &Type::VARCHAR, to, false)
}

/// A JSON number as text that the wanted type reads: whole numbers are rounded, truth is "not zero".
fn number_text(number: &str, to: &Type) -> Result<String> {
    let as_double = || number.parse::<f64>().map_err(|_| refused(number, to));
    if *to == Type::Boolean {
        return Ok((as_double()? != 0.0).to_string());
    }
    if !to.is_integer() || number.parse::<i64>().is_ok() {
        return Ok(number.to_owned());
    }
    let rounded = as_double()?;
    Ok(format!("{}", (rounded.abs() + 0.5).floor().copysign(rounded)))
}

fn read_array(values: &[Option<&Value>], inner: &Type, to: &Type) -> Result<ArrayRef> {
    let mut lengths = Vec::with_capacity(values.len());
    let mut elements: Vec<Option<&Value>> = Vec::new();
    for value in values {
        match value {
            None => lengths.push(0),
            Some(Value::Array(array)) => {
                lengths.push(array.len());
                elements.extend(array.iter().map(Some));
            }
            Some(other) => return Err(refused(&other.to_string(), to)),
        }
    }
    let DataType::List(field) = to.to_arrow() else { return Err(Error::internal("expected an array type")) };
    let inner = super::fit(read(&elements, inner)?, field.data_type())?;
    Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), inner, nulls(values))?))
}

fn nulls(values: &[Option<&Value>]) -> Option<NullBuffer> {
    Some(values.iter().map(Option::is_some).collect::<NullBuffer>())
}

fn read_map(values: &[Option<&Value>], key: &Type, value: &Type, to: &Type) -> Result<ArrayRef> {
    let mut lengths = Vec::with_capacity(values.len());
    let (mut keys, mut elements) = (Vec::new(), Vec::new());
    for one in values {
        match one {
            None => lengths.push(0),
            Some(Value::Object(object)) => {
                lengths.push(object.len());
                for (name, element) in object {
                    keys.push(Some(name.as_str()));
                    elements.push(Some(element));
                }
            }
            Some(other) => return Err(refused(&other.to_string(), to)),
        }
    }
    let texts: ArrayRef = Arc::new(StringArray::from(keys));
    let keys = super::cast::evaluate(&texts, &Type::VARCHAR, key, false)?;
    let elements = read(&elements, value)?;
    let DataType::Map(field, sorted) = to.to_arrow() else { return Err(Error::internal("expected a map type")) };
    let DataType::Struct(fields) = field.data_type().clone() else { return Err(Error::internal("a map has entries")) };
    let columns = vec![super::fit(keys, &key.to_arrow())?, super::fit(elements, &value.to_arrow())?];
    let entries = StructArray::try_new(fields, columns, None)?;
    Ok(Arc::new(MapArray::try_new(field, OffsetBuffer::from_lengths(lengths), entries, nulls(values), sorted)?))
}

fn read_row(values: &[Option<&Value>], fields: &[(Option<Arc<str>>, Type)], to: &Type) -> Result<ArrayRef> {
    let DataType::Struct(arrow_fields) = to.to_arrow() else { return Err(Error::internal("expected a row type")) };
    let mut columns = Vec::with_capacity(fields.len());
    for (index, (name, inner)) in fields.iter().enumerate() {
        let members = values
            .iter()
            .map(|value| match value {
                None => Ok(None),
                Some(Value::Array(array)) if array.len() == fields.len() => Ok(array.get(index)),
                Some(Value::Object(object)) => Ok(name.as_deref().and_then(|name| member(object, name))),
                Some(other) => Err(refused(&other.to_string(), to)),
            })
            .collect::<Result<Vec<_>>>()?;
        columns.push(super::fit(read(&members, inner)?, &inner.to_arrow())?);
    }
    if columns.is_empty() {
        return Ok(new_null_array(&to.to_arrow(), values.len()));
    }
    Ok(Arc::new(StructArray::try_new(arrow_fields, columns, nulls(values))?))
}

fn member<'a>(object: &'a serde_json::Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).or_else(|| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value))
}
