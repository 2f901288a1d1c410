//! Attribute values in DynamoDB's own JSON (`{"orderid": {"S": "3714"}}`), and those of the streams' client.
//!
//! Invariant: [`item_of_json`] reads what [`tagged_json`] writes, value for value.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_dynamodbstreams::types::AttributeValue as StreamValue;
use aws_smithy_types::Blob;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::size::Item;

/// An item of DynamoDB's JSON, if it is one.
pub(crate) fn item_of_json(value: Value) -> Option<Item> {
    match value {
        Value::Object(members) => {
            members.into_iter().map(|(name, value)| Some((name, attribute_of_json(value)?))).collect()
        }
        _ => None,
    }
}

fn attribute_of_json(value: Value) -> Option<AttributeValue> {
    let Value::Object(tagged) = value else { return None };
    let mut tagged = tagged.into_iter();
    let (tag, value) = tagged.next().filter(|_| tagged.len() == 0)?;
    Some(match (tag.as_str(), value) {
        ("S", Value::String(text)) => AttributeValue::S(text),
        ("N", value) => AttributeValue::N(number(value)?),
        ("B", value) => AttributeValue::B(blob(value)?),
        ("BOOL", Value::Bool(value)) => AttributeValue::Bool(value),
        ("NULL", _) => AttributeValue::Null(true),
        ("L", Value::Array(values)) => {
            AttributeValue::L(values.into_iter().map(attribute_of_json).collect::<Option<_>>()?)
        }
        ("M", value) => AttributeValue::M(item_of_json(value)?),
        ("SS", Value::Array(values)) => AttributeValue::Ss(values.into_iter().map(text).collect::<Option<_>>()?),
        ("NS", Value::Array(values)) => AttributeValue::Ns(values.into_iter().map(number).collect::<Option<_>>()?),
        ("BS", Value::Array(values)) => AttributeValue::Bs(values.into_iter().map(blob).collect::<Option<_>>()?),
        _ => return None,
    })
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// A number as text; some writers leave the quotes out.
fn number(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn blob(value: Value) -> Option<Blob> {
    STANDARD.decode(text(value)?).ok().map(Blob::new)
}

/// An item in DynamoDB's JSON, its attributes in order of their names.
pub(crate) fn tagged_json(item: &Item) -> Value {
    let members: BTreeMap<&String, &AttributeValue> = item.iter().collect();
    Value::Object(members.into_iter().map(|(name, value)| (name.clone(), tagged(value))).collect())
}

fn tagged(value: &AttributeValue) -> Value {
    let encoded = |blob: &Blob| STANDARD.encode(blob.as_ref());
    match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(text) => json!({ "N": text }),
        AttributeValue::B(blob) => json!({ "B": encoded(blob) }),
        AttributeValue::Bool(value) => json!({ "BOOL": value }),
        AttributeValue::L(values) => json!({ "L": values.iter().map(tagged).collect::<Vec<_>>() }),
        AttributeValue::M(members) => json!({ "M": tagged_json(members) }),
        AttributeValue::Ss(texts) => json!({ "SS": texts }),
        AttributeValue::Ns(texts) => json!({ "NS": texts }),
        AttributeValue::Bs(blobs) => json!({ "BS": blobs.iter().map(encoded).collect::<Vec<_>>() }),
        _ => json!({ "NULL": true }),
    }
}

/// An item of the streams' client.
pub(super) fn item_of_stream(item: HashMap<String, StreamValue>) -> Item {
    item.into_iter().map(|(name, value)| (name, of_stream(value))).collect()
}

fn of_stream(value: StreamValue) -> AttributeValue {
    match value {
        StreamValue::S(text) => AttributeValue::S(text),
        StreamValue::N(text) => AttributeValue::N(text),
        StreamValue::B(blob) => AttributeValue::B(blob),
        StreamValue::Bool(value) => AttributeValue::Bool(value),
        StreamValue::L(values) => AttributeValue::L(values.into_iter().map(of_stream).collect()),
        StreamValue::M(members) => AttributeValue::M(item_of_stream(members)),
        StreamValue::Ss(texts) => AttributeValue::Ss(texts),
        StreamValue::Ns(texts) => AttributeValue::Ns(texts),
        StreamValue::Bs(blobs) => AttributeValue::Bs(blobs),
        _ => AttributeValue::Null(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_survive_their_json() {
        let text = r#"{"a":{"S":"x"},"b":{"N":"1.50"},"c":{"B":"AP8="},"d":{"BOOL":false},"e":{"NULL":true},
            "f":{"L":[{"S":"y"},{"M":{"k":{"N":"2"}}}]},"g":{"SS":["p","q"]},"h":{"NS":["1"]},"i":{"BS":["AA=="]}}"#;
        let value: Value = serde_json::from_str(text).unwrap();
        let item = item_of_json(value.clone()).unwrap();
        assert_eq!(item["c"], AttributeValue::B(Blob::new(vec![0, 255])));
        assert_eq!(tagged_json(&item), value);
    }

    #[test]
    fn plain_json_is_no_item() {
        for plain in [r#"{"a":"x"}"#, r#"{"a":{"S":"x","N":"1"}}"#, r#"{"a":{"X":"x"}}"#, "[]"] {
            assert_eq!(item_of_json(serde_json::from_str(plain).unwrap()), None, "{plain}");
        }
    }
}
