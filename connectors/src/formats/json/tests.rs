//! What JSON becomes, by dialect, and that no way of feeding it changes that.

use std::sync::Arc;

use arrow::{
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
    json::LineDelimitedWriter,
    record_batch::RecordBatch,
};
use bytes::Bytes;
use headwater_engine::format::{Decoder, Payloads};

use super::*;

mod framing;
mod mixed;

fn schema(columns: &[(&str, &str)]) -> SchemaRef {
    let field = |(name, kind): &(&str, &str)| {
        let data_type = match *kind {
            "json" => DataType::LargeUtf8,
            "ts6" => DataType::Timestamp(TimeUnit::Microsecond, None),
            "ts0" => DataType::Timestamp(TimeUnit::Second, None),
            other => crate::lake::hive_type::parse(other).unwrap(),
        };
        Field::new(*name, data_type, true)
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

fn lines(batch: &RecordBatch) -> Vec<String> {
    let mut writer = LineDelimitedWriter::new(Vec::new());
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    String::from_utf8(writer.into_inner()).unwrap().lines().map(str::to_owned).collect()
}

/// Rows as JSON lines, rejected raw texts with their lines and reasons, NULLs made.
#[derive(Debug, Default, PartialEq, Clone)]
struct Read {
    rows: Vec<String>,
    rejected: Vec<(u64, u64, String, String)>,
    nulled: u64,
}

fn read_in_chunks(schema: &SchemaRef, options: &JsonOptions, input: &[u8], chunk: usize) -> Read {
    let mut reader = JsonReader::try_new(schema.clone(), options).unwrap();
    let mut read = Read::default();
    let (mut chunks, mut is_finished) = (input.chunks(chunk.max(1)), false);
    loop {
        match reader.next_rows().unwrap() {
            Some(part) => {
                read.rows.extend(lines(&part.rows));
                read.nulled += part.values_nulled;
                read.rejected.extend(part.rejected.into_iter().map(|text| {
                    (text.offset, text.line, String::from_utf8_lossy(&text.raw).into_owned(), text.reason)
                }));
            }
            None => match chunks.next() {
                Some(chunk) => reader.feed(Bytes::copy_from_slice(chunk)),
                None if is_finished => return read,
                None => {
                    reader.finish_input();
                    is_finished = true;
                }
            },
        }
    }
}

fn read(columns: &[(&str, &str)], options: &JsonOptions, input: &str) -> Read {
    let schema = schema(columns);
    let whole = read_in_chunks(&schema, options, input.as_bytes(), usize::MAX);
    for chunk in [1, 3, 7] {
        assert_eq!(read_in_chunks(&schema, options, input.as_bytes(), chunk), whole, "in chunks of {chunk}: {input}");
    }
    whole
}

/// The one row of `input`, or the reason why there is none.
fn one(dialect: Dialect, kind: &str, value: &str) -> String {
    let read = read(&[("c", kind)], &JsonOptions::new(dialect), &format!("{{\"c\":{value}}}\n"));
    match (read.rows.as_slice(), read.rejected.as_slice()) {
        ([row], []) => row.strip_prefix("{").and_then(|row| row.strip_suffix("}")).unwrap().replacen("\"c\":", "", 1),
        ([], [(.., reason)]) => format!("refused: {reason}"),
        _ => panic!("{read:?}"),
    }
}

fn check_values(dialect: Dialect, cases: &[(&str, &str, &str)]) {
    for (kind, value, expected) in cases {
        let found = one(dialect, kind, value);
        let fits = if *expected == "refused" { found.starts_with("refused") } else { found == *expected };
        assert!(fits, "{dialect:?} {kind} {value}: {found}, expected {expected}");
    }
}

#[test]
fn headwater_values() {
    check_values(
        Dialect::Headwater,
        &[
            ("bigint", "12", "12"),
            ("bigint", "-9223372036854775808", "-9223372036854775808"),
            ("bigint", "9223372036854775808", "refused"),
            ("bigint", "1.0", "1"),
            ("bigint", "1e3", "1000"),
            ("bigint", "1.5", "refused"),
            ("bigint", "\"12\"", "12"),
            ("bigint", "\"x\"", "refused"),
            ("bigint", "null", ""),
            ("bigint", "true", "refused"),
            ("bigint", "{}", "refused"),
            ("tinyint", "128", "refused"),
            ("int", "01", "refused"),
            ("double", "1", "1.0"),
            ("double", "\"1e2\"", "100.0"),
            ("double", "1e999", "refused"),
            ("decimal(10,2)", "1.005", "1.01"),
            ("decimal(10,2)", "-1.005", "-1.01"),
            ("decimal(10,2)", "123456789", "refused"),
            ("decimal(38,0)", "12345678901234567890123456789012345678", "12345678901234567890123456789012345678"),
            ("boolean", "true", "true"),
            ("boolean", "\"FALSE\"", "false"),
            ("boolean", "1", "refused"),
            ("string", "\"a\\n\\u00e9\\ud83d\\ude00\"", "\"a\\né😀\""),
            ("string", "\"\\ud83d\"", "refused"),
            ("string", "1.230", "\"1.230\""),
            ("string", "true", "\"true\""),
            ("string", "{\"b\" : [1, 2 ] ,\"A\":\"x\\\"y\"}", "\"{\\\"b\\\":[1,2],\\\"A\\\":\\\"x\\\\\\\"y\\\"}\""),
            ("json", "\"x\"", "\"\\\"x\\\"\""),
            ("date", "\"2024-02-29\"", "\"2024-02-29\""),
            ("date", "\"2023-02-29\"", "refused"),
            ("ts6", "\"2023-06-18 14:27:52.123456789\"", "\"2023-06-18T14:27:52.123456\""),
            ("ts6", "\"2023-06-18T14:27:52Z\"", "\"2023-06-18T14:27:52\""),
            ("ts6", "\"2023-06-18T14:27:52.5+02:00\"", "\"2023-06-18T12:27:52.500\""),
            ("ts6", "1687098472123", "\"2023-06-18T14:27:52.123\""),
            ("ts0", "\"1969-12-31 23:59:59.9\"", "\"1969-12-31T23:59:59\""),
            ("ts6", "\"2023-13-18 14:27:52\"", "refused"),
            ("ts6", "\"yesterday\"", "refused"),
            ("binary", "\"aGk=\"", "\"6869\""),
            ("binary", "\"hi!\"", "refused"),
            ("array<int>", "[1, null,3]", "[1,null,3]"),
            ("array<int>", "[1,\"x\"]", "refused"),
            ("array<int>", "1", "refused"),
            ("struct<a:int,b:string>", "{\"B\":\"x\",\"a\":1,\"z\":[]}", "{\"a\":1,\"b\":\"x\"}"),
            ("map<string,int>", "{\"k\":1,\"j\":2,\"k\":3}", "{\"j\":2,\"k\":3}"),
        ],
    );
}

#[test]
fn openx_values_are_as_recorded_from_trino() {
    check_values(
        Dialect::OpenX,
        &[
            ("int", "1.9", "1"),
            ("int", "0x1f", "31"),
            ("int", "010", "8"),
            ("int", "99999999999", ""),
            ("int", "\" 12 \"", ""),
            ("int", "\"x\"", ""),
            ("int", "{}", "refused"),
            ("date", "[]", "refused"),
            ("boolean", "{}", "false"),
            ("boolean", "tRUe", "true"),
            ("boolean", "\"no\"", "false"),
            ("array<int>", "5", "[5]"),
            ("array<int>", "\"\"", ""),
            ("array<int>", "[1,,2,]", "[1,null,2,null]"),
            ("map<string,int>", "\"\"", ""),
            ("struct<a:int>", "\"\"", "{}"),
            ("string", "1.230", "\"1.230\""),
            ("string", "1e2", "\"1E+2\""),
            ("string", "007", "\"7\""),
            ("string", "tRUe", "\"true\""),
            ("string", "{\"aB\": 1}", "\"{\\\"aB\\\":1}\""),
            ("string", "'it'", "\"it\""),
            ("binary", "\"aGk=\"", "\"6869\""),
            ("ts6", "\"2020-05-10T12:34:56+01:00\"", "\"2020-05-10T11:34:56\""),
            ("ts6", "\"2020-05-10 12:34:56Z\"", ""),
            ("ts6", "\"2020-05-10\"", ""),
            ("ts6", "\"2020-13-10 00:00:00\"", "\"2021-01-10T00:00:00\""),
            ("ts6", "1589113496000", "\"2020-05-10T12:24:56\""),
            ("ts6", "1589113496", "\"2020-05-10T12:24:56\""),
            ("ts6", "\"2020\"", "\"1970-01-01T00:33:40\""),
            ("ts6", "1589113496.25", "\"2020-05-10T12:24:56.250\""),
            ("date", "18392", "\"2020-05-10\""),
            ("int", "1,", "refused"),
        ],
    );
}

#[test]
fn hive_values_are_as_recorded_from_trino() {
    check_values(
        Dialect::Hive,
        &[
            ("int", "\"1\"", "refused"),
            ("double", "\"1\"", "refused"),
            ("decimal(10,2)", "\"1.5\"", "1.50"),
            ("decimal(10,2)", "\"x\"", ""),
            ("tinyint", "200", "-56"),
            ("tinyint", "256", "refused"),
            ("ts6", "\"2020-05-10 12:34:56\"", "\"2020-05-10T12:34:56\""),
            ("ts6", "\"2020-05-10T12:34:56Z\"", "refused"),
            ("string", "{\"a\":1}", "refused"),
            ("string", "\"a\tb\"", "refused"),
            ("binary", "\"hi\"", "\"6869\""),
            ("struct<a:int>", "{\"a\":1,\"a\":2}", "{\"a\":2}"),
        ],
    );
    let options = JsonOptions::new(Dialect::Hive);
    assert_eq!(read(&[("a", "int")], &options, "{\"a\":1,\"A\":2}").rows, ["{\"a\":2}"]);
    assert_eq!(read(&[("a", "int"), ("b", "int")], &options, "{\"_col1\":7,\"a\":1}").rows, ["{\"a\":1,\"b\":7}"]);
}

#[test]
fn loose_syntax_of_openx() {
    let options = JsonOptions::new(Dialect::OpenX);
    let columns = [("a", "int"), ("b", "string")];
    for input in [
        "{a:1,b:x}",
        "{'a':1;'b':'x'}",
        "{\"a\"=1,\"b\"=>\"x\"}",
        "{/* one */ \"a\":1, # two\n\"b\":\"x\" // three\n}",
        "[1,\"x\"]",
    ] {
        let read = read(&columns, &options, input);
        assert_eq!(read.rows, ["{\"a\":1,\"b\":\"x\"}"], "{input}: {read:?}");
    }
    for input in [
        "{\"a\":1,}",
        "{\"a\":1,,\"b\":2}",
        "{a}",
        "{\"a\":3,\"A\":1,\"b\":\"x\"}",
        "{\"c\":3,\"\\u0043\":1,\"b\":\"x\"}",
    ] {
        assert_eq!(read(&columns, &options, input).rejected.len(), 1, "{input}");
    }
}

#[test]
fn keys_that_stand_twice_are_seen_in_shapes_too() {
    let input = "{\"x\":1,\"a\":1}\n{\"a\":2,\"X\":1}\n{\"x\":1,\"a\":3,\"X\":2}\n".repeat(3);
    let found = read(&[("a", "int")], &JsonOptions::new(Dialect::OpenX), &input);
    assert_eq!((found.rows.len(), found.rejected.len()), (6, 3), "{found:?}");
    for (kind, value) in [("struct<b:int>", "{\"b\":1,\"B\":2}"), ("map<string,int>", "{\"b\":1,\"b\":2}")] {
        assert!(one(Dialect::OpenX, kind, value).starts_with("refused: column \"c\": key"), "{kind}");
    }
}

#[test]
fn what_goes_by_position_goes_by_that_in_the_table() {
    let table = schema(&[("a", "string"), ("b", "string")]);
    for (dialect, input) in [(Dialect::OpenX, "[\"x\",\"y\"]"), (Dialect::Hive, "{\"_col0\":\"x\",\"_col1\":\"y\"}")] {
        let options = JsonOptions::new(dialect);
        let mut reader = JsonReader::try_new(schema(&[("b", "string")]), &options).unwrap().of_table(&table);
        reader.feed(Bytes::from(format!("{input}\n{input}\n")));
        reader.finish_input();
        let found = reader.next_rows().unwrap().unwrap();
        assert_eq!(lines(&found.rows), ["{\"b\":\"y\"}"; 2], "{dialect:?}");
    }
}

#[test]
fn numbers_beyond_all_bounds_are_no_values() {
    for power in ["2147483647", "-2147483648"] {
        let number = format!("1e{power}");
        assert!(one(Dialect::Headwater, "ts6", &number) != "panic");
        one(Dialect::OpenX, "ts6", &number);
        one(Dialect::Headwater, "decimal(10,2)", &number);
    }
    assert_eq!(one(Dialect::OpenX, "string", "12e2147483647"), "\"1.2E+2147483648\"");
    assert!(one(Dialect::Headwater, "ts6", "1e2147483647").starts_with("refused"));
}
