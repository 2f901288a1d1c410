//! The fast way and the general parser agree on every input, in what they accept, refuse and make of it.
//!
//! `HEADWATER_FUZZ_ROUNDS` sets how many inputs the long run takes.

use std::sync::Arc;

use arrow::{
    datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit},
    record_batch::RecordBatch,
};
use bytes::Bytes;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRng, TestRunner},
};

use super::*;

fn schema() -> SchemaRef {
    let item = Arc::new(Field::new("item", DataType::Int32, true));
    let row = Fields::from(vec![Field::new("x", DataType::Float64, true), Field::new("y", DataType::Utf8, true)]);
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("price", DataType::Decimal128(10, 2), true),
        Field::new("ok", DataType::Boolean, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new("tags", DataType::List(item), true),
        Field::new("row", DataType::Struct(row), true),
        Field::new("rate", DataType::Float64, true),
        Field::new("any", DataType::LargeUtf8, true),
    ]))
}

type Rejections = Vec<(u64, String, Bytes)>;

fn read(options: &JsonOptions, input: &Bytes, learns: bool) -> (Vec<RecordBatch>, Rejections, u64) {
    let mut reader = JsonReader::try_new(schema(), options).unwrap();
    if !learns {
        reader.learn_nothing();
    }
    reader.feed(input.clone());
    reader.finish_input();
    let (mut batches, mut rejected, mut nulled) = (Vec::new(), Vec::new(), 0);
    while let Some(part) = reader.next_rows().unwrap() {
        batches.push(part.rows);
        rejected.extend(part.rejected.into_iter().map(|text| (text.offset, text.reason, text.raw)));
        nulled += part.values_nulled;
    }
    (batches, rejected, nulled)
}

fn check(input: Vec<u8>) -> Result<(), TestCaseError> {
    let input = Bytes::from(input);
    for dialect in [Dialect::Headwater, Dialect::OpenX, Dialect::Hive] {
        for coercion in [Coercion::Strict, Coercion::Lenient] {
            let options = JsonOptions { coercion, ..JsonOptions::new(dialect) };
            let (fast, general) = (read(&options, &input, true), read(&options, &input, false));
            prop_assert_eq!(fast, general, "{:?} {:?} {}", dialect, coercion, String::from_utf8_lossy(&input));
        }
    }
    Ok(())
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => any::<i64>().prop_map(|n| n.to_string()),
        4 => any::<f64>().prop_map(|x| if x.is_finite() { format!("{x:?}") } else { "0".to_owned() }),
        2 => "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,3})?",
        4 => "[a-zé\" \\\\/\\n]{0,20}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        1 => "\"(\\\\u[0-9a-fdD]{4}|\\\\[nt\"x]|[ -~&&[^\"\\\\]]){0,6}\"",
        2 => "\"20[0-9]{2}-[01][0-9]-[0-3][0-9][ T][0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{0,9})?Z?\"",
        3 => prop::sample::select(vec!["true", "false", "null", "[]", "{}", "[1,2]", "[null]", "{\"x\":1.5,\"y\":\"z\"}",
            "{\"Y\" : 2, \"x\":\"3\"}", "\"12\"", "\"\"", "[[{}]]", "nul", "01", "-", "1.", ".5", "1e", "tru"]).prop_map(str::to_owned),
    ]
}

const KEYS: [&str; 14] =
    ["id", "name", "price", "ok", "at", "tags", "row", "rate", "any", "other", "ID", "\\u0069d", "o", "_col1"];

fn row() -> impl Strategy<Value = String> {
    let fields = prop::collection::vec((0..KEYS.len(), value()), 0..8);
    (fields, any::<bool>(), 0..6u8).prop_map(|(mut fields, is_sorted, style)| {
        if is_sorted {
            fields.sort_by_key(|(key, _)| *key);
        }
        let (comma, colon) = match style {
            0 => (", ", ": "),
            1 => (" ,", " :\t"),
            _ => (",", ":"),
        };
        let fields: Vec<_> = fields.iter().map(|(key, value)| format!("\"{}\"{colon}{value}", KEYS[*key])).collect();
        let end = if style == 2 { " }" } else { "}" };
        format!("{{{}{end}", fields.join(comma))
    })
}

/// Rows, a few bytes of which are replaced, removed or doubled.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..4u8, any::<u8>()), 0..4);
    (prop::collection::vec(row(), 1..12), edits, any::<bool>()).prop_map(|(rows, edits, has_lines)| {
        let mut bytes = rows.join(if has_lines { "\n" } else { "" }).into_bytes();
        for (place, kind, byte) in edits {
            if bytes.is_empty() {
                break;
            }
            let at = place.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, b"\"\\{}[],:0e.-\n \t"[usize::from(byte) % 16 % 15]),
                _ => bytes.truncate(at),
            }
        }
        bytes
    })
}

#[test]
fn fast_way_and_general_parser_agree() {
    let rounds = option_env!("HEADWATER_FUZZ_ROUNDS").and_then(|text| text.parse().ok()).unwrap_or(400);
    let config = Config { cases: rounds, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(config.rng_algorithm);
    TestRunner::new_with_rng(config, rng).run(&input(), check).unwrap();
}

#[test]
fn rows_with_absent_and_new_keys_agree() {
    let lines = [
        r#"{"id":1,"name":"a","price":1.5}"#,
        r#"{"id":2,"price":2.5}"#,
        r#"{"name":"c","price":2.5,"ok":true}"#,
        r#"{"id":4,"name":"d\n","price":2.5,"ok":true}"#,
        r#"{"id":5,"ID":6,"name":"e"}"#,
        r#"{"id":5,"name":"e","ok":false }"#,
        r#"{"ok":true,"id":7}"#,
        r#"{}"#,
        r#"{"id":8,"name":null,"id":9}"#,
    ];
    check([lines.join("\n"), lines.join(""), lines.concat()].join("\n").into_bytes()).unwrap();
}
