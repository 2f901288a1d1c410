//! Columns of JSON files from a sample of their rows.
//!
//! Invariant: each type found reads every sampled value without loss. Whole numbers are BIGINT, with others DOUBLE;
//! numbers, texts and booleans mixed are VARCHAR; objects and arrays are merged field by field; what is only NULL is
//! VARCHAR. Keys that differ in case only are one column.

use arrow::datatypes::{DataType, Field, Fields, Schema};
use indexmap::IndexMap;

use super::{
    frame::{Found, Frame},
    lexer::Fault,
    nested,
    options::{Dialect, RecordPath},
    tape::{Kind, Tape},
};

/// Gathers the types of the rows it is shown.
#[derive(Debug, Default)]
pub struct JsonInference {
    fields: IndexMap<String, Seen>,
    rows: u64,
}

/// What one field has held so far.
#[derive(Debug, Clone, PartialEq, Default)]
enum Seen {
    /// NULL only.
    #[default]
    Nothing,
    Boolean,
    Whole,
    Number,
    Text,
    List(Box<Seen>),
    Object(IndexMap<String, Seen>),
}

impl JsonInference {
    /// Looks at the rows of a file's first bytes; the last row may be cut off, and malformed ones are passed over.
    pub fn sample(&mut self, bytes: &[u8], records: &RecordPath) {
        let mut frame = Frame::new(records.clone());
        let (mut tape, mut at) = (Tape::default(), 0);
        while let Found::Row(start) = frame.find(bytes, at, false) {
            at = match tape.parse(&bytes[start..]) {
                Ok(length) => {
                    frame.row_read(&bytes[start..start + length]);
                    self.row(&tape, &bytes[start..]);
                    start + length
                }
                Err(Fault::Incomplete) => return,
                Err(Fault::Bad { .. }) => {
                    frame.row_refused();
                    match frame.after_malformed(bytes, start, false) {
                        Some(next) => next,
                        None => return,
                    }
                }
            };
        }
    }

    /// Rows looked at.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The columns found, in the order of their first appearance, all nullable, names in lower case.
    pub fn schema(&self) -> Schema {
        Schema::new(fields_of(&self.fields))
    }

    fn row(&mut self, tape: &Tape, row: &[u8]) {
        if let Seen::Object(fields) = seen(tape, 0, row) {
            self.rows += 1;
            merge_fields(&mut self.fields, fields);
        }
    }
}

fn seen(tape: &Tape, index: usize, row: &[u8]) -> Seen {
    let node = tape.nodes[index];
    match node.kind {
        Kind::Null => Seen::Nothing,
        Kind::True | Kind::False => Seen::Boolean,
        Kind::Number if super::coerce::integer(node.bytes(row), Dialect::Hive).is_some() => {
            let is_plain = node.bytes(row).iter().all(|byte| byte.is_ascii_digit() || *byte == b'-');
            if is_plain { Seen::Whole } else { Seen::Number }
        }
        Kind::Number => Seen::Number,
        Kind::Text | Kind::EscapedText | Kind::Word => Seen::Text,
        Kind::Array => {
            let items = tape.children(index).map(|item| seen(tape, item, row)).fold(Seen::Nothing, Seen::merged);
            Seen::List(Box::new(items))
        }
        Kind::Object => {
            let mut fields = IndexMap::new();
            for key in tape.children(index).step_by(2) {
                let name = String::from_utf8_lossy(&nested::text_of(tape, key, row)).to_lowercase();
                fields.insert(name, seen(tape, key + 1, row));
            }
            Seen::Object(fields)
        }
    }
}

fn merge_fields(into: &mut IndexMap<String, Seen>, fields: IndexMap<String, Seen>) {
    for (name, seen) in fields {
        let known = into.entry(name).or_default();
        *known = std::mem::take(known).merged(seen);
    }
}

impl Seen {
    /// The least type that holds both.
    fn merged(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, seen) | (seen, Self::Nothing) => seen,
            (Self::Whole | Self::Number, Self::Number) | (Self::Number, Self::Whole) => Self::Number,
            (Self::List(one), Self::List(two)) => Self::List(Box::new(one.merged(*two))),
            (Self::Object(mut one), Self::Object(two)) => {
                merge_fields(&mut one, two);
                Self::Object(one)
            }
            (one, two) if one == two => one,
            _ => Self::Text,
        }
    }

    fn data_type(&self) -> DataType {
        match self {
            Self::Nothing | Self::Text => DataType::Utf8,
            Self::Boolean => DataType::Boolean,
            Self::Whole => DataType::Int64,
            Self::Number => DataType::Float64,
            Self::List(item) => DataType::new_list(item.data_type(), true),
            // A row without fields is no column type; its JSON text is kept.
            Self::Object(fields) if fields.is_empty() => DataType::Utf8,
            Self::Object(fields) => DataType::Struct(fields_of(fields)),
        }
    }
}

fn fields_of(fields: &IndexMap<String, Seen>) -> Fields {
    fields.iter().map(|(name, seen)| Field::new(name, seen.data_type(), true)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::hive_type;

    fn inferred(samples: &[&str], path: &str) -> Vec<String> {
        let mut inference = JsonInference::default();
        for sample in samples {
            inference.sample(sample.as_bytes(), &RecordPath::parse(path).unwrap());
        }
        let schema = inference.schema();
        let text =
            |field: &std::sync::Arc<Field>| format!("{} {}", field.name(), hive_type::text(field.data_type()).unwrap());
        schema.fields().iter().map(text).collect()
    }

    #[test]
    fn types_widen_over_rows_and_files() {
        let one = r#"{"a":1,"b":1,"c":true,"d":null,"e":{"x":1},"f":[1],"g":{}}
{"a":2,"b":2.5,"c":"x","E":{"X":2.0,"y":[]},"f":[null,"t"]}
{broken
{"a":99999999999,"h":[{"k":1},{"l":false}]}
{"a":"cut"#;
        let expected = [
            "a bigint",
            "b double",
            "c string",
            "d string",
            "e struct<x:double,y:array<string>>",
            "f array<string>",
            "g string",
            "h array<struct<k:bigint,l:boolean>>",
        ];
        assert_eq!(inferred(&[one], "$"), expected);
        assert_eq!(
            inferred(&["{\"a\":1}\n", "{\"a\":\"x\",\"b\":9223372036854775808}\n"], "$"),
            ["a string", "b double"]
        );
    }

    #[test]
    fn rows_are_found_in_every_shape() {
        assert_eq!(inferred(&["[{\"a\":1},\n{\"b\":true}]"], "$"), ["a bigint", "b boolean"]);
        assert_eq!(inferred(&["{\n \"a\": 1\n}\n{\n \"b\": true\n}\n"], "$"), ["a bigint", "b boolean"]);
        assert_eq!(inferred(&["{\"r\":[{\"a\":1},{\"b\":true}]}"], "$.r[*]"), ["a bigint", "b boolean"]);
    }
}
