//! A table's description: its keys, which columns fill them, and its stream.
//!
//! Invariant: two items have one key exactly if their [`KeyId`]s are equal.

use arrow::datatypes::{DataType, Schema};
use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, KeyType, TableStatus},
};
use headwater_engine::error::{Error, Result};

use super::{
    encode::ItemEncoder,
    size::{Item, KEY_BYTES_MAX, value_bytes},
};
use crate::aws::failed;

/// The value of an item's key as one text.
pub(super) type KeyId = String;

/// One attribute of a table's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyAttribute {
    /// Its name, as the table has it.
    pub(super) name: String,
    /// S, N or B.
    pub(super) kind: String,
}

/// A table as the service describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Description {
    /// Partition key, then sort key if there is one.
    pub(super) keys: Vec<KeyAttribute>,
    /// Bytes of all items, some hours old.
    pub(super) bytes: u64,
    /// The newest change stream.
    pub(super) stream_arn: Option<String>,
}

/// Asks the service for a table's description.
pub(super) async fn describe(client: &Client, table: &str) -> Result<Description> {
    let doing = format!("cannot describe the DynamoDB table \"{table}\"");
    let answer = client.describe_table().table_name(table).send().await.map_err(|error| {
        let error = failed(&doing, &error);
        if error.code().0 == "TABLE_NOT_FOUND" {
            return Error::user("TABLE_NOT_FOUND", format!("DynamoDB table \"{table}\" does not exist"))
                .with_hint("create it, or correct the options 'table-name', 'aws.region' and 'aws.endpoint'");
        }
        error
    })?;
    let found = answer.table.ok_or_else(|| Error::unavailable(format!("{doing}: the answer is empty")))?;
    if let Some(status @ (TableStatus::Creating | TableStatus::Deleting | TableStatus::Archived)) = &found.table_status
    {
        return Err(Error::unavailable(format!("DynamoDB table \"{table}\" is {}", status.as_str())));
    }
    let mut keys = Vec::new();
    for wanted in [KeyType::Hash, KeyType::Range] {
        let key = found.key_schema().iter().find(|key| key.key_type == wanted);
        let Some(key) = key else { continue };
        let kind = found.attribute_definitions().iter().find(|one| one.attribute_name == key.attribute_name);
        let kind = kind.map_or("S", |one| one.attribute_type.as_str()).to_owned();
        keys.push(KeyAttribute { name: key.attribute_name.clone(), kind });
    }
    let bytes = found.table_size_bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0);
    Ok(Description { keys, bytes, stream_arn: found.latest_stream_arn })
}

/// Whether one attribute alone is read as each value: times and floats are written in more than one way.
pub(super) fn is_spelt_one_way(data_type: &DataType, kind: &str) -> bool {
    match kind {
        "S" => matches!(data_type, DataType::Utf8),
        "N" => data_type.is_integer() || matches!(data_type, DataType::Decimal128(..)),
        "B" => matches!(data_type, DataType::Binary),
        _ => false,
    }
}

impl Description {
    /// The columns that fill the keys, in the keys' order; they must agree with a declared PRIMARY KEY.
    pub(super) fn columns(&self, table: &str, schema: &Schema, primary_key: &[String]) -> Result<Vec<usize>> {
        let names = || self.keys.iter().map(|key| format!("\"{}\"", key.name)).collect::<Vec<_>>().join(", ");
        let declares = |key: &KeyAttribute| primary_key.iter().any(|name| name.eq_ignore_ascii_case(&key.name));
        let agrees = primary_key.len() == self.keys.len() && self.keys.iter().all(declares);
        if !primary_key.is_empty() && !agrees {
            let message = format!(
                "table \"{table}\" declares PRIMARY KEY ({}), the key of the DynamoDB table is ({})",
                primary_key.join(", "),
                names()
            );
            return Err(Error::user("INVALID_TABLE_PROPERTY", message)
                .with_hint("declare the table's key, or leave PRIMARY KEY out"));
        }
        let column = |key: &KeyAttribute| {
            let fields = schema.fields();
            let exact = fields.iter().position(|field| *field.name() == key.name);
            let found = exact.or_else(|| fields.iter().position(|field| field.name().eq_ignore_ascii_case(&key.name)));
            found.ok_or_else(|| {
                let message = format!("table \"{table}\" has no column \"{}\" for the key ({})", key.name, names());
                Error::user("COLUMN_NOT_FOUND", message).with_hint("declare every column of the key")
            })
        };
        self.keys.iter().map(column).collect()
    }

    /// The attributes' names, column by column: a key column takes the key's spelling.
    pub(super) fn attribute_names(&self, schema: &Schema, key_columns: &[usize]) -> Vec<String> {
        let name = |index: usize| {
            let key = key_columns.iter().position(|column| *column == index);
            key.map_or_else(|| schema.field(index).name().clone(), |key| self.keys[key].name.clone())
        };
        (0..schema.fields().len()).map(name).collect()
    }

    /// Checks that each key column becomes the type its key has.
    pub(super) fn check_types(&self, table: &str, encoder: &ItemEncoder, key_columns: &[usize]) -> Result<()> {
        for (key, column) in self.keys.iter().zip(key_columns) {
            let kind = encoder.kind(*column).and_then(|kind| kind.key_type());
            if kind != Some(key.kind.as_str()) {
                let message = format!(
                    "key \"{}\" of the DynamoDB table is of type {}, column \"{}\" of \"{table}\" becomes {}",
                    key.name,
                    key.kind,
                    key.name,
                    kind.unwrap_or("no key type")
                );
                return Err(Error::user("TYPE_MISMATCH", message)
                    .with_hint("declare it as VARCHAR for S, as a number for N, as VARBINARY for B"));
            }
        }
        Ok(())
    }

    /// The key attributes of an item and their text, or why they are no key.
    pub(super) fn key_of(&self, item: &Item) -> std::result::Result<(Item, KeyId), String> {
        let mut key = Item::with_capacity(self.keys.len());
        for (attribute, max) in self.keys.iter().zip(KEY_BYTES_MAX) {
            let name = &attribute.name;
            let value = match item.get(name) {
                None | Some(AttributeValue::Null(_)) => return Err(format!("key \"{name}\" is NULL")),
                Some(value) => value,
            };
            let is_empty = matches!(value, AttributeValue::S(text) if text.is_empty())
                || matches!(value, AttributeValue::B(bytes) if bytes.as_ref().is_empty());
            if is_empty {
                return Err(format!("key \"{name}\" is empty"));
            }
            let bytes = value_bytes(value);
            if bytes > max {
                return Err(format!("key \"{name}\" has {bytes} bytes, DynamoDB takes {max}"));
            }
            key.insert(name.clone(), value.clone());
        }
        let id = self.key_id(&key);
        Ok((key, id))
    }

    /// Whether an item can have this value in an attribute of its key.
    pub(super) fn key_of_one(&self, attribute: &KeyAttribute, value: &AttributeValue) -> bool {
        let place = self.keys.iter().position(|key| key == attribute).unwrap_or_default();
        let bytes = value_bytes(value);
        bytes > 0 && KEY_BYTES_MAX.get(place).is_none_or(|max| bytes <= *max)
    }

    /// The key's text, with the length of each part so that no two keys have one.
    pub(super) fn key_id(&self, item: &Item) -> KeyId {
        let mut id = String::new();
        for key in &self.keys {
            let text = match item.get(&key.name) {
                Some(AttributeValue::S(text) | AttributeValue::N(text)) => text.clone(),
                Some(AttributeValue::B(bytes)) => hex::encode(bytes.as_ref()),
                _ => String::new(),
            };
            id.push_str(&format!("{}:{text}", text.len()));
        }
        id
    }

    /// The key as people read it: `post_id = "a", window_start = "b"`.
    pub(super) fn key_text(&self, item: &Item) -> String {
        let part = |key: &KeyAttribute| match item.get(&key.name) {
            Some(AttributeValue::S(text)) => {
                format!("{} = \"{}\"", key.name, text.chars().take(100).collect::<String>())
            }
            Some(AttributeValue::N(number)) => format!("{} = {number}", key.name),
            Some(AttributeValue::B(bytes)) => format!("{} = x'{}'", key.name, hex::encode(bytes.as_ref())),
            _ => format!("{} = NULL", key.name),
        };
        self.keys.iter().map(part).collect::<Vec<_>>().join(", ")
    }

    /// The key of a row that is one JSON object, as people read it.
    pub(super) fn key_in(&self, row: &str) -> String {
        let row: serde_json::Map<String, serde_json::Value> = serde_json::from_str(row).unwrap_or_default();
        let part = |key: &KeyAttribute| {
            let value = row.iter().find(|(name, _)| name.eq_ignore_ascii_case(&key.name)).map(|(_, value)| value);
            let shown = value.map_or_else(|| "NULL".to_owned(), ToString::to_string);
            format!("{} = {}", key.name, shown.chars().take(100).collect::<String>())
        };
        self.keys.iter().map(part).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, TimeUnit};

    use super::*;

    fn described() -> Description {
        let key = |name: &str, kind: &str| KeyAttribute { name: name.into(), kind: kind.into() };
        Description { keys: vec![key("post_id", "S"), key("Window", "N")], bytes: 0, stream_arn: None }
    }

    fn schema() -> Schema {
        let field = |name: &str, data_type| Field::new(name, data_type, true);
        Schema::new(vec![
            field("count", DataType::Int64),
            field("window", DataType::Int64),
            field("post_id", DataType::Utf8),
        ])
    }

    #[test]
    fn keys_are_found_without_regard_to_case_and_keep_the_tables_spelling() {
        let columns = described().columns("t", &schema(), &[]).unwrap();
        assert_eq!(columns, [2, 1]);
        assert_eq!(described().attribute_names(&schema(), &columns), ["count", "Window", "post_id"]);
        let declared = ["window".to_owned(), "post_id".to_owned()];
        assert!(described().columns("t", &schema(), &declared).is_ok());
    }

    #[test]
    fn a_key_that_does_not_agree_is_named() {
        let wrong = described().columns("t", &schema(), &["post_id".to_owned()]).unwrap_err();
        assert_eq!(
            wrong.message(),
            "table \"t\" declares PRIMARY KEY (post_id), the key of the DynamoDB table is (\"post_id\", \"Window\")"
        );
        let missing = described().columns("t", &schema().project(&[0, 1]).unwrap(), &[]).unwrap_err();
        assert!(missing.message().contains("no column \"post_id\""));
    }

    #[test]
    fn times_and_floats_have_more_than_one_spelling() {
        let time = DataType::Timestamp(TimeUnit::Second, None);
        assert!(!is_spelt_one_way(&time, "S") && !is_spelt_one_way(&DataType::Utf8, "N"));
        assert!(!is_spelt_one_way(&DataType::Float64, "N") && is_spelt_one_way(&DataType::Int64, "N"));
    }

    #[test]
    fn keys_that_cannot_be_are_refused() {
        let item = |id: &str| {
            Item::from([
                ("post_id".to_owned(), AttributeValue::S(id.to_owned())),
                ("Window".to_owned(), AttributeValue::N("1".to_owned())),
            ])
        };
        let of = |item: &Item| described().key_of(item);
        assert!(of(&item("")).unwrap_err().contains("\"post_id\" is empty"));
        assert!(of(&item(&"x".repeat(2049))).unwrap_err().contains("2049 bytes"));
        assert!(of(&Item::new()).unwrap_err().contains("is NULL"));
        assert_ne!(of(&item("a")).unwrap().1, of(&item("ab")).unwrap().1);
        assert_eq!(described().key_text(&item("a")), "post_id = \"a\", Window = 1");
        assert_eq!(described().key_in(r#"{"window": 1, "c": 2}"#), "post_id = NULL, Window = 1");
    }
}
