//! Text to values, a column at a time.
//!
//! Invariant: a text that is no value of the type is NULL and reported with its row; nothing else becomes NULL.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayBuilder, ArrayRef, BinaryArray, BooleanArray, ListArray, MapArray, StringArray, StringBuilder,
        StructArray,
    },
    buffer::{NullBuffer, OffsetBuffer},
    compute::{CastOptions, cast_with_options},
    datatypes::{DataType, Int64Type, TimeUnit},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use headwater_engine::error::{Error, Result};

use super::{Habits, split::FieldText};
use crate::lake::write::format::TextOptions;

/// Rows whose text is no value of the column's type, with that text.
pub(super) type Misfits = Vec<(usize, String)>;

/// The texts of a column, until the batch is full.
#[derive(Debug)]
pub(super) struct TextColumn {
    data_type: DataType,
    texts: StringBuilder,
}

impl TextColumn {
    pub(super) fn new(data_type: &DataType) -> Self {
        Self { data_type: data_type.clone(), texts: StringBuilder::new() }
    }

    pub(super) fn null(&mut self) {
        self.texts.append_null();
    }

    /// Values so far.
    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    /// Adds a field, or NULL if the record has none here; bytes that are no text are refused where that is malformed.
    pub(super) fn push(
        &mut self,
        field: Option<FieldText<'_>>,
        habits: Habits,
        options: &TextOptions,
    ) -> Result<(), String> {
        let Some(FieldText { text, is_quoted }) = field else {
            self.null();
            return Ok(());
        };
        // Of nested values too, blanks are part of texts within, and nothing at all is no item.
        let is_text = matches!(self.data_type, DataType::Utf8 | DataType::Binary) || self.data_type.is_nested();
        let is_null = match habits {
            Habits::Lazy => text == options.null.as_bytes() || (text.is_empty() && !is_text),
            Habits::Csv => {
                (text.is_empty() && !is_text)
                    || (!is_quoted && !options.null.is_empty() && text == options.null.as_bytes())
            }
            Habits::OpenCsv | Habits::Raw => false,
        };
        if is_null {
            self.null();
            return Ok(());
        }
        match (simdutf8::basic::from_utf8(text), habits) {
            (Ok(text), _) => self.texts.append_value(if is_text { text } else { text.trim() }),
            (Err(_), Habits::Lazy) => self.texts.append_value(String::from_utf8_lossy(text)),
            (Err(_), _) => {
                self.null();
                return Err("the bytes are not UTF-8".into());
            }
        }
        Ok(())
    }

    /// The column's values so far, and the rows that had none of its type.
    pub(super) fn finish(&mut self, habits: Habits, options: &TextOptions) -> Result<(ArrayRef, Misfits)> {
        let texts = self.texts.finish();
        let values = match habits {
            Habits::Lazy => nested(&texts, &self.data_type, options, 1)?,
            Habits::OpenCsv | Habits::Csv | Habits::Raw => scalar(&texts, &self.data_type, habits)?,
        };
        let misfits = (0..texts.len()).filter(|row| texts.is_valid(*row) && values.is_null(*row));
        let misfits = misfits.map(|row| (row, texts.value(row).to_owned())).collect();
        Ok((values, misfits))
    }
}

pub(super) fn scalar(texts: &StringArray, data_type: &DataType, habits: Habits) -> Result<ArrayRef> {
    let safe = CastOptions { safe: true, ..Default::default() };
    let cast = |array: &dyn Array, to: &DataType| cast_with_options(array, to, &safe);
    let numbers = || cast(texts, &DataType::Int64);
    Ok(match data_type {
        DataType::Utf8 => Arc::new(texts.clone()),
        DataType::LargeUtf8 => cast(texts, data_type)?,
        DataType::Binary => binary(texts, habits),
        DataType::Boolean => Arc::new(texts.iter().map(|text| text.and_then(boolean)).collect::<BooleanArray>()),
        DataType::Date32 if habits == Habits::OpenCsv => cast(&cast(&numbers()?, &DataType::Int32)?, data_type)?,
        DataType::Timestamp(_, None) if habits == Habits::OpenCsv => {
            cast(&cast(&numbers()?, &DataType::Timestamp(TimeUnit::Millisecond, None))?, data_type)?
        }
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 if habits == Habits::Lazy => {
            let whole = texts
                .iter()
                .map(|text| text.and_then(whole_number))
                .collect::<arrow::array::PrimitiveArray<Int64Type>>();
            cast(&whole, data_type)?
        }
        DataType::List(_) | DataType::Map(_, _) | DataType::Struct(_) => {
            return Err(Error::not_supported(format!("a CSV file has no values of type {data_type}"))
                .with_hint("declare the column as string, or use ROW FORMAT DELIMITED with collection delimiters"));
        }
        _ => cast(texts, data_type)?,
    })
}

/// Bytes of base64; LazySimpleSerDe takes what is none for the bytes themselves, and so are lines as they are.
fn binary(texts: &StringArray, habits: Habits) -> ArrayRef {
    let bytes = |text: &str| match (habits, STANDARD.decode(text)) {
        (Habits::Raw, _) | (Habits::Lazy, Err(_)) => Some(text.as_bytes().to_vec()),
        (_, decoded) => decoded.ok(),
    };
    Arc::new(texts.iter().map(|text| text.and_then(bytes)).collect::<BinaryArray>())
}

/// The integer of a text as LazySimpleSerDe reads it: a fraction is cut off, an exponent is no number.
fn whole_number(text: &str) -> Option<i64> {
    match text.split_once('.') {
        None => text.parse().ok(),
        Some((whole, fraction)) if fraction.bytes().all(|byte| byte.is_ascii_digit()) => whole.parse().ok(),
        Some(_) => None,
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// Values with LazySimpleSerDe's nesting: each level has its delimiter.
fn nested(texts: &StringArray, data_type: &DataType, options: &TextOptions, level: u8) -> Result<ArrayRef> {
    let delimiter = options.nested_delimiter(level);
    let parts = |text: &str| cut(text, delimiter, options.escape, usize::MAX);
    match data_type {
        DataType::List(item) => {
            let (offsets, items) = flatten(texts, parts, options);
            let values = nested(&items, item.data_type(), options, level + 1)?;
            Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, texts.nulls().cloned())?))
        }
        DataType::Map(entries, sorted) => {
            let DataType::Struct(kv) = entries.data_type() else {
                return Err(Error::internal("map entries are a pair"));
            };
            let between = options.nested_delimiter(level + 1);
            let (mut keys, mut values, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
            for text in texts.iter() {
                let before = keys.len();
                for entry in text.filter(|text| !text.is_empty()).map(parts).unwrap_or_default() {
                    let mut pair = cut(&entry, between, options.escape, 2).into_iter();
                    let (key, value) = (pair.next().unwrap_or_default(), pair.next());
                    // A repeated key keeps its first value.
                    if !keys[before..].contains(&key) {
                        keys.push(key);
                        values.push(value.filter(|value| *value != options.null));
                    }
                }
                lengths.push(keys.len() - before);
            }
            let key_array = nested(&StringArray::from_iter_values(keys), kv[0].data_type(), options, level + 2)?;
            let value_array = nested(&StringArray::from_iter(values), kv[1].data_type(), options, level + 2)?;
            let pairs = StructArray::try_new(kv.clone(), vec![key_array, value_array], None)?;
            let offsets = OffsetBuffer::from_lengths(lengths);
            Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, texts.nulls().cloned(), *sorted)?))
        }
        DataType::Struct(fields) => {
            let rows: Vec<Option<Vec<String>>> = texts.iter().map(|text| text.map(parts)).collect();
            let columns = fields.iter().enumerate().map(|(index, field)| {
                let column = rows
                    .iter()
                    .map(|row| row.as_ref().and_then(|row| row.get(index)).filter(|text| **text != options.null));
                nested(&StringArray::from_iter(column), field.data_type(), options, level + 1)
            });
            let columns = columns.collect::<Result<Vec<_>>>()?;
            let nulls: Option<NullBuffer> = texts.nulls().cloned();
            Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, nulls, texts.len())?))
        }
        _ => {
            let is_bare = level > 1 && !matches!(data_type, DataType::Utf8 | DataType::Binary);
            let plain: StringArray = match (options.escape, is_bare) {
                (None, false) => return scalar(texts, data_type, Habits::Lazy),
                (None, true) => texts.iter().map(|text| text.map(str::trim)).collect(),
                (Some(escape), false) => unescaped(texts, escape).collect(),
                (Some(escape), true) => {
                    unescaped(texts, escape).map(|text| text.map(|text| text.trim().to_owned())).collect()
                }
            };
            scalar(&plain, data_type, Habits::Lazy)
        }
    }
}

fn unescaped(texts: &StringArray, escape: u8) -> impl Iterator<Item = Option<String>> + '_ {
    texts.iter().map(move |text| text.map(|text| unescape(text, escape)))
}

fn flatten(
    texts: &StringArray,
    parts: impl Fn(&str) -> Vec<String>,
    options: &TextOptions,
) -> (OffsetBuffer<i32>, StringArray) {
    let (mut items, mut lengths) = (Vec::new(), Vec::with_capacity(texts.len()));
    for text in texts.iter() {
        let found = text.filter(|text| !text.is_empty()).map(&parts).unwrap_or_default();
        lengths.push(found.len());
        items.extend(found.into_iter().map(|text| Some(text).filter(|text| *text != options.null)));
    }
    (OffsetBuffer::from_lengths(lengths), StringArray::from_iter(items))
}

/// A text in at most `most` parts; escaped delimiters do not cut, and escapes stay for the next level.
fn cut(text: &str, delimiter: u8, escape: Option<u8>, most: usize) -> Vec<String> {
    let (mut parts, mut part, mut is_escaped) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        if !is_escaped && c == char::from(delimiter) && parts.len() + 1 < most {
            parts.push(std::mem::take(&mut part));
            continue;
        }
        is_escaped = !is_escaped && escape.is_some_and(|escape| c == char::from(escape));
        part.push(c);
    }
    parts.push(part);
    parts
}

fn unescape(text: &str, escape: u8) -> String {
    let mut chars = text.chars();
    let mut plain = String::with_capacity(text.len());
    while let Some(c) = chars.next() {
        match c {
            _ if c != char::from(escape) => plain.push(c),
            _ => match chars.next() {
                Some('n') => plain.push('\n'),
                Some('r') => plain.push('\r'),
                Some(next) => plain.push(next),
                None => plain.push(c),
            },
        }
    }
    plain
}
