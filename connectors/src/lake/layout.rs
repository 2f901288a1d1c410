//! Which partition a folder is: names of folders to values of keys, and back.
//!
//! Invariant: a value keeps the raw text of its folder beside its typed value, so `month=01` is the number 1 of an
//! `int` key and the text `01` of a `string` key; `__HIVE_DEFAULT_PARTITION__` and an empty value are NULL.

use arrow::{
    compute::{CastOptions, cast_with_options},
    datatypes::DataType,
};
use datafusion::scalar::ScalarValue;
use headwater_engine::error::{Error, Result};

use super::hive_type;

/// Folder value that stands for NULL.
pub const NULL_FOLDER: &str = "__HIVE_DEFAULT_PARTITION__";

/// A partition key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Name as declared.
    pub name: String,
    /// Declared type.
    pub data_type: DataType,
}

/// A partition's value of one key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Value {
    /// Text as in the folder's name, decoded; `None` is NULL.
    pub raw: Option<String>,
    /// The value in the key's type.
    pub typed: ScalarValue,
}

impl Value {
    /// The value that a raw text has in a key's type, or `None` if it is none of that type.
    pub fn parse(raw: Option<&str>, data_type: &DataType) -> Option<Self> {
        let raw = raw.filter(|text| !text.is_empty() && *text != NULL_FOLDER);
        let typed = match raw {
            None => ScalarValue::try_from(data_type).ok()?,
            Some(text) => typed(text, data_type)?,
        };
        Some(Self { raw: raw.map(ToOwned::to_owned), typed })
    }
}

fn typed(text: &str, data_type: &DataType) -> Option<ScalarValue> {
    let number = text.trim();
    Some(match data_type {
        DataType::Utf8 => ScalarValue::Utf8(Some(text.to_owned())),
        DataType::Int8 => ScalarValue::Int8(Some(number.parse().ok()?)),
        DataType::Int16 => ScalarValue::Int16(Some(number.parse().ok()?)),
        DataType::Int32 => ScalarValue::Int32(Some(number.parse().ok()?)),
        DataType::Int64 => ScalarValue::Int64(Some(number.parse().ok()?)),
        DataType::Boolean => match number.to_ascii_lowercase().as_str() {
            "true" => ScalarValue::Boolean(Some(true)),
            "false" => ScalarValue::Boolean(Some(false)),
            _ => return None,
        },
        other => {
            let text = ScalarValue::Utf8(Some(number.to_owned())).to_array().ok()?;
            let cast = cast_with_options(&text, other, &CastOptions { safe: true, ..Default::default() }).ok()?;
            let value = ScalarValue::try_from_array(&cast, 0).ok()?;
            if value.is_null() {
                return None;
            }
            value
        }
    })
}

/// Key and decoded value of a folder called `key=value`; the value is `None` for NULL.
pub fn parse_folder(name: &str) -> Option<(&str, Option<String>)> {
    let (key, value) = name.split_once('=')?;
    if key.is_empty() {
        return None;
    }
    let value = decode(value);
    Some((key, Some(value).filter(|value| !value.is_empty() && value != NULL_FOLDER)))
}

/// A folder's value without its percent codes; bytes that are then no UTF-8 leave the text as it is.
fn decode(value: &str) -> String {
    match percent_encoding::percent_decode_str(value).decode_utf8() {
        Ok(decoded) => decoded.into_owned(),
        Err(_) => value.to_owned(),
    }
}

/// Name of the folder of a value, as Hive writes it.
pub fn folder_name(key: &str, raw: Option<&str>) -> String {
    let mut name = format!("{}=", key.to_lowercase());
    match raw.filter(|text| !text.is_empty()) {
        None => name.push_str(NULL_FOLDER),
        Some(text) => {
            for c in text.chars() {
                if c.is_ascii_control() || "\"#%'*/:=?\\{[]^".contains(c) {
                    name.push_str(&format!("%{:02X}", c as u32));
                } else {
                    name.push(c);
                }
            }
        }
    }
    name
}

/// Whether readers skip a file or folder of this name.
pub fn is_hidden(name: &str) -> bool {
    name.starts_with(['_', '.'])
}

/// A partition's raw values in the types of its keys.
pub fn typed_values(keys: &[Key], raw: &[Option<String>]) -> Result<Vec<Value>> {
    if keys.len() != raw.len() {
        return Err(Error::data(
            "HIVE_INVALID_METADATA",
            format!("a registered partition has {} values for {} keys", raw.len(), keys.len()),
        ));
    }
    keys.iter()
        .zip(raw)
        .map(|(key, text)| {
            Value::parse(text.as_deref(), &key.data_type).ok_or_else(|| {
                let text = text.as_deref().unwrap_or_default();
                Error::data(
                    "HIVE_INVALID_PARTITION_VALUE",
                    format!("partition value \"{text}\" of \"{}\" is no {}", key.name, type_name(&key.data_type)),
                )
                .with_hint("drop that partition, or declare the key as string")
            })
        })
        .collect()
}

fn type_name(data_type: &DataType) -> String {
    hive_type::text(data_type).unwrap_or_else(|_| data_type.to_string())
}

/// The type that fits every value found for a key: integers, dates, else text.
pub fn infer_type<'a>(values: impl IntoIterator<Item = &'a str>) -> DataType {
    let (mut any, mut integers, mut dates) = (false, true, true);
    for value in values {
        any = true;
        let digits = !value.is_empty() && value.len() <= 18 && value.bytes().all(|b| b.is_ascii_digit());
        integers &= digits && (value.len() <= 2 || !value.starts_with('0'));
        dates &= value.len() == 10 && typed(value, &DataType::Date32).is_some();
    }
    match (any, integers, dates) {
        (true, true, _) => DataType::Int64,
        (true, _, true) => DataType::Date32,
        _ => DataType::Utf8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_padded_number_is_a_number_for_numbers_and_text_for_text() {
        let number = Value::parse(Some("01"), &DataType::Int32);
        assert_eq!(number.map(|value| value.typed), Some(ScalarValue::Int32(Some(1))));
        let text = Value::parse(Some("01"), &DataType::Utf8);
        assert_eq!(text.map(|value| value.typed), Some(ScalarValue::Utf8(Some("01".into()))));
        assert_eq!(Value::parse(Some("x"), &DataType::Int32), None);
    }

    #[test]
    fn null_has_two_spellings() {
        for raw in [None, Some(""), Some(NULL_FOLDER)] {
            let value = Value::parse(raw, &DataType::Int64);
            assert_eq!(value, Some(Value { raw: None, typed: ScalarValue::Int64(None) }), "{raw:?}");
        }
        assert_eq!(parse_folder("p=__HIVE_DEFAULT_PARTITION__"), Some(("p", None)));
        assert_eq!(parse_folder("p="), Some(("p", None)));
    }

    #[test]
    fn folders_are_decoded_and_encoded() {
        assert_eq!(parse_folder("Day=2024-01-01 10%3A00"), Some(("Day", Some("2024-01-01 10:00".into()))));
        assert_eq!(parse_folder("data"), None);
        assert_eq!(parse_folder("a=b=c"), Some(("a", Some("b=c".into()))));
        for raw in ["a/b", "10:00", "50%", "x=y", "ä \"q\""] {
            let name = folder_name("K", Some(raw));
            assert_eq!(parse_folder(&name), Some(("k", Some(raw.to_owned()))), "{name}");
        }
    }

    #[test]
    fn dates_and_timestamps_are_typed() {
        assert!(Value::parse(Some("2024-02-29"), &DataType::Date32).is_some());
        assert!(Value::parse(Some("2024-02-30"), &DataType::Date32).is_none());
        let at = DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None);
        assert!(Value::parse(Some("2024-02-29 10:00:00.0"), &at).is_some());
    }

    #[test]
    fn types_are_inferred_from_values() {
        assert_eq!(infer_type(["2024", "01"]), DataType::Int64);
        assert_eq!(infer_type(["008", "7"]), DataType::Utf8);
        assert_eq!(infer_type(["2024-01-01"]), DataType::Date32);
        assert_eq!(infer_type([]), DataType::Utf8);
    }
}
