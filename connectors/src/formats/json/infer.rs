//! Columns of JSON files from a sample of their rows.
//!
//! Invariant: each type found reads every sampled value, whole numbers to the last digit. They are BIGINT, longer ones
//! DECIMAL(38,0), with fractions DOUBLE; numbers that no such type holds are VARCHAR, as are numbers, texts and booleans
//! mixed; objects and arrays are merged field by field; what is only NULL is VARCHAR. Keys that differ in case only are one
//! column.

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, Fields, Schema};
use indexmap::IndexMap;

use super::{
    frame::{Found, Frame},
    lexer::Fault,
    nested,
    options::{Dialect, RecordPath},
    tape::{Kind, Tape},
};

/// Largest whole number up to which DOUBLE has each.
pub(crate) const EXACT_MAX: u64 = 1 << f64::MANTISSA_DIGITS;

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
    /// A whole number that DOUBLE has too.
    Whole,
    /// One that BIGINT has.
    Long,
    /// One of at most 38 digits.
    Huge,
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
        Kind::Number => number(node.bytes(row)),
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

fn number(text: &[u8]) -> Seen {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let is_whole = digits.iter().all(u8::is_ascii_digit);
    match super::coerce::integer(text, Dialect::Hive) {
        Some(value) if is_whole && value.unsigned_abs() <= EXACT_MAX => Seen::Whole,
        Some(_) if is_whole => Seen::Long,
        None if is_whole && digits.len() <= usize::from(DECIMAL128_MAX_PRECISION) => Seen::Huge,
        _ if is_whole => Seen::Text,
        _ => {
            let value: Option<f64> = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
            if value.is_some_and(f64::is_finite) { Seen::Number } else { Seen::Text }
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
            (Self::Whole, Self::Number) | (Self::Number, Self::Whole) => Self::Number,
            (Self::Whole, Self::Long) | (Self::Long, Self::Whole) => Self::Long,
            (Self::Whole | Self::Long, Self::Huge) | (Self::Huge, Self::Whole | Self::Long) => Self::Huge,
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
            Self::Whole | Self::Long => DataType::Int64,
            Self::Huge => DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0),
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
            ["a string", "b decimal(38,0)"]
        );
    }

    #[test]
    fn no_digit_of_a_whole_number_is_lost() {
        let rows = r#"{"a":12345678901234567890,"b":9007199254740993,"c":1e400,"d":1e20,"e":1}
{"a":-1,"b":0.5,"c":1,"d":1.5,"e":-9223372036854775808}
{"a":2,"f":123456789012345678901234567890123456789,"g":9007199254740992}
{"g":0.5}
"#;
        let expected = ["a decimal(38,0)", "b string", "c string", "d double", "e bigint", "f string", "g double"];
        assert_eq!(inferred(&[rows], "$"), expected);
    }

    #[test]
    fn rows_are_found_in_every_shape() {
        assert_eq!(inferred(&["[{\"a\":1},\n{\"b\":true}]"], "$"), ["a bigint", "b boolean"]);
        assert_eq!(inferred(&["{\n \"a\": 1\n}\n{\n \"b\": true\n}\n"], "$"), ["a bigint", "b boolean"]);
        assert_eq!(inferred(&["{\"r\":[{\"a\":1},{\"b\":true}]}"], "$.r[*]"), ["a bigint", "b boolean"]);
    }
}
