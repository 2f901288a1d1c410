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

#[test]
fn a_document_cut_short_is_malformed() {
    let mut options = JsonOptions::default();
    for (path, input) in [
        ("$", "[{\"a\":1},{\"a\":2}"),
        ("$", "[{\"a\":1},{\"a\":2},\n"),
        ("$.r[*]", "{\"r\":[{\"a\":1},{\"a\":2}"),
        ("$.r[*]", "{\"r\":[{\"a\":1},{\"a\":2}]\n"),
        ("$.r", "{\"r\":[{\"a\":1},{\"a\":2}]"),
    ] {
        options.records = RecordPath::parse(path).unwrap();
        let found = read(&[("a", "int")], &options, input);
        assert_eq!(found.rows, ["{\"a\":1}", "{\"a\":2}"], "{path} {input}");
        let [(offset, _, _, reason)] = found.rejected.as_slice() else { panic!("{path} {input}: {found:?}") };
        assert_eq!((*offset, reason.as_str()), (input.len() as u64, "the document ends early"));
    }
}

#[test]
fn a_path_that_leads_nowhere_is_said_once_a_file() {
    let mut options = JsonOptions::default();
    for (path, input, is_wrong) in [
        ("$.rows[*]", "{\"r\":[{\"a\":1}]}\n{\"r\":[]}", true),
        ("$.r[*].s[*]", "{\"r\":[{\"a\":1}]}", true),
        ("$.r[*]", "{\"x\":1}\n{\"r\":[]}", false),
        ("$.r[*]", "{\"r\":null}", false),
        ("$.r[*]", " \n", false),
        ("$[*].r[*]", "[]", false),
        ("$[3]", "[{\"a\":1}]", true),
    ] {
        options.records = RecordPath::parse(path).unwrap();
        let found = read(&[("a", "int")], &options, input);
        assert_eq!((found.rows.len(), found.rejected.len()), (0, usize::from(is_wrong)), "{path} {input}: {found:?}");
    }
}

#[test]
fn records_in_every_shape() {
    let columns = [("a", "int")];
    let expected = ["{\"a\":1}", "{\"a\":2}", "{\"a\":3}"];
    for input in [
        "{\"a\":1}\n{\"a\":2}\r\n\n{\"a\":3}",
        "{\"a\":1}{\"a\":2} {\"a\":3}",
        "[{\"a\":1},{\"a\":2},\n{\"a\":3}]",
        "[{\"a\":1}]\n[{\"a\":2},{\"a\":3}]\n",
        "\u{feff}{\n  \"a\": 1\n}\n{\n  \"a\": 2\n}\n{\n  \"a\": 3\n}\n",
        "[]{\"a\":1},{\"a\":2},[],{\"a\":3}",
    ] {
        let read = read(&columns, &JsonOptions::default(), input);
        assert_eq!(read.rows, expected, "{input}");
        assert!(read.rejected.is_empty(), "{input}: {read:?}");
    }
}

#[test]
fn records_below_a_path() {
    let mut options = JsonOptions::default();
    for (path, input) in [
        ("$.r[*]", r#"{"x":[1,{"y":2}],"r":[{"a":1},{"a":2}],"z":"]"} {"r":[],"s":1} {"r":[{"a":3}]}"#),
        ("$.r", r#"{"r":[{"a":1},{"a":2}]}{"r":{"a":3}}"#),
        ("$['r'].s[1]", r#"{"r":{"s":[{"a":9},{"a":1}]}}{"r":{"s":[0,{"a":2}]}}{"r":{"s":[0,{"a":3},4]}}"#),
        ("$[*]", r#"[{"a":1},{"a":2}]{"a":3}"#),
        ("$[*].r[*]", r#"[{"r":[{"a":1},{"a":2}]},{"q":0},{"r":[{"a":3}]}]"#),
    ] {
        options.records = RecordPath::parse(path).unwrap();
        let read = read(&[("a", "int")], &options, input);
        assert_eq!(read.rows, ["{\"a\":1}", "{\"a\":2}", "{\"a\":3}"], "{path}: {read:?}");
        assert!(read.rejected.is_empty(), "{path}: {read:?}");
    }
    assert!(RecordPath::parse("a[*]").is_err());
    assert!(RecordPath::parse("$.a[").is_err());
}

#[test]
fn a_malformed_row_costs_no_other() {
    let columns = [("a", "int")];
    let cases = [
        ("{\"a\":1}\n{\"a\":\n{\"a\":2}\n", 8, 2, "{\"a\":"),
        ("{\"a\":1}\n{\"a\":\"\n{\"a\":2}\n", 8, 2, "{\"a\":\""),
        ("{\"a\":1}\ngarbage\n{\"a\":2}\n", 8, 2, "garbage"),
        ("{\"a\":1}\n{\"a\":x} {\"a\":2}\n", 8, 2, "{\"a\":x}"),
        ("{\n\"a\":1}\n{\n\"a\":x\n}\n{\"a\":2}\n", 9, 3, "{\n\"a\":x\n}"),
        ("[{\"a\":1},{\"a\":x},{\"a\":2}]", 9, 1, "{\"a\":x}"),
        ("[{\"a\":1},5,{\"a\":2}]", 9, 1, "5"),
        ("{\"a\":1}\n{\"a\":\"x\"}\n{\"a\":2}\n", 8, 2, "{\"a\":\"x\"}"),
    ];
    for (input, offset, line, raw) in cases {
        let found = read(&columns, &JsonOptions::default(), input);
        assert_eq!(found.rows, ["{\"a\":1}", "{\"a\":2}"], "{input}: {found:?}");
        let [rejected] = found.rejected.as_slice() else { panic!("{input}: {found:?}") };
        assert_eq!((rejected.0, rejected.1, rejected.2.as_str()), (offset, line, raw), "{input}");
    }
    let options = JsonOptions { malformed: Malformed::Null, ..JsonOptions::default() };
    let found = read(&columns, &options, "{\"a\":1}\nx\n{\"a\":2}\n");
    assert_eq!((found.rows.len(), found.rows[1].as_str(), found.rejected.len()), (3, "{}", 0));
}

#[test]
fn rows_after_one_that_is_cut_off_are_read() {
    let cases = [
        ("[\n{\"a\":1},\n{\"a\":2,\n{\"a\":3},\n{\"a\":4}\n]\n", "$", vec![1, 3, 4], 1),
        (
            "{\"a\":0}\n[{\"a\":1}\n{\"a\":2\n{\"a\":3}\n{\"a\":4}\n{\"a\":5}}\n{\"a\":6}\n",
            "$",
            vec![0, 1, 3, 4, 5, 6],
            3,
        ),
        ("[{\"a\":1},{\"a\":2,{\"a\":3}]\n[{\"a\":4}]\n{\"a\":5}\n", "$", vec![1, 4, 5], 1),
        ("[\n  {\n    \"a\": 1\n  },\n  {\n    \"a\": 2,\n  {\n    \"a\": 3\n  }\n]\n", "$", vec![1, 3], 1),
        (
            "[\n  {\n    \"a\": 1,\n    \"b\": [\n      {\"c\": 1},\n      {\"c\": x}\n    ]\n  },\n  {\n    \"a\": 2\n  }\n]\n",
            "$",
            vec![2],
            1,
        ),
        (
            "{\n\"a\":1\n}\n{\n\"b\":\n{\n\"c\":x\n}\n}\n{\n\"a\":2,\n{\n\"a\":3\n}\n{\n\"a\":4\n}\n",
            "$",
            vec![1, 3, 4],
            2,
        ),
        ("{\"r\":[{\"a\":1},{\"a\":2,{\"a\":3}]}\n{\"r\":[{\"a\":4}]}\n", "$.r[*]", vec![1, 4], 1),
        ("{\"r\":[\n{\"a\":1},\n{\"a\":2,\n{\"a\":3}\n]}\n{\"r\":[{\"a\":4}]}\n", "$.r[*]", vec![1, 3, 4], 1),
        ("[\n{\"r\":[{\"a\":1},{\"a\":x]},\n{\"r\":[{\"a\":2}]}\n]\n", "$[*].r[*]", vec![1, 2], 1),
        ("[\n{\"a\":1},\n{\"a\":2,\"b\":[\n{\"a\":3},\n{\"a\":4}\n]\n", "$", vec![1, 3, 4], 1),
    ];
    for (input, path, rows, rejected) in cases {
        let options = JsonOptions { records: RecordPath::parse(path).unwrap(), ..JsonOptions::default() };
        let found = read(&[("a", "int")], &options, input);
        let rows: Vec<String> = rows.iter().map(|row: &i32| format!("{{\"a\":{row}}}")).collect();
        assert_eq!((&found.rows, found.rejected.len()), (&rows, rejected), "{input}: {found:?}");
    }
}

/// Rows of which some are cut or have brackets or quotes too many cost no other, in lines, in arrays and pretty-printed.
#[test]
fn rows_that_are_not_touched_are_read_whatever_the_others_are() {
    let mut seed = 7_u64;
    let mut next = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for round in 0..90 {
        let (is_array, is_pretty) = (round % 3 > 0, round % 3 == 2);
        let (mut text, mut expected) = (String::from(if is_array { "[\n" } else { "" }), Vec::new());
        for row in 0..200 {
            let mut line = match is_pretty {
                false => format!("{{\"a\":{row},\"b\":[{{\"c\":\"[\"}}]}}"),
                true => format!(
                    "  {{\n    \"a\": {row},\n    \"b\": [\n      1,\n      {{\n        \"c\": \"[\"\n      }}\n    ]\n  }}"
                ),
            };
            if row > 1 && next(20) == 0 {
                let at = 1 + usize::try_from(next(line.len() as u64 - 2)).unwrap();
                match next(6) {
                    0 => line.truncate(at),
                    1 => line.insert(at, '['),
                    2 => line.insert(at, '{'),
                    3 => line.insert(at, ']'),
                    4 => line.insert(at, '}'),
                    _ => line.insert(at, '"'),
                }
            } else {
                expected.push(format!("{{\"a\":{row}}}"));
            }
            text.push_str(&line);
            text.push_str(if is_array { ",\n" } else { "\n" });
        }
        text.push_str(if is_array { "]\n" } else { "" });
        let found = read_in_chunks(&schema(&[("a", "int")]), &JsonOptions::default(), text.as_bytes(), usize::MAX);
        let lost: Vec<_> = expected.iter().filter(|row| !found.rows.contains(row)).collect();
        // A row that is cut off pretty-printed may end where the next one does.
        let most = if is_pretty { 2 } else { 0 };
        assert!(lost.len() <= most, "round {round}: lost {lost:?}\n{text}");
    }
}

#[test]
fn invalid_utf8_and_long_rows_are_rejected_alone() {
    let schema = schema(&[("a", "string")]);
    let input = b"{\"a\":\"x\"}\n{\"a\":\"\xff\"}\n{\"a\":\"\xc3\xa9\"}\n";
    for chunk in [1, 5, 100] {
        let found = read_in_chunks(&schema, &JsonOptions::default(), input, chunk);
        assert_eq!(found.rows, ["{\"a\":\"x\"}", "{\"a\":\"é\"}"]);
        assert_eq!(found.rejected.len(), 1);
    }
    let options = JsonOptions { row_bytes_max: 20, ..JsonOptions::default() };
    let input = format!("{{\"a\":\"{}\"}}\n{{\"a\":\"y\"}}\n", "x".repeat(50));
    for chunk in [1, 7, 1000] {
        let found = read_in_chunks(&schema, &options, input.as_bytes(), chunk);
        assert_eq!(found.rows, ["{\"a\":\"y\"}"], "{chunk}");
        assert!(found.rejected[0].3.contains("longer than 20 bytes"));
    }
}

#[test]
fn keys_are_matched_by_the_options() {
    let mut options = JsonOptions::new(Dialect::OpenX);
    options.mapping.insert("a".to_owned(), "Key-A".to_owned());
    options.dots_to_underscores = true;
    let found = read(&[("a", "int"), ("b_c", "int")], &options, "{\"key-a\":1,\"b.C\":2}");
    assert_eq!(found.rows, ["{\"a\":1,\"b_c\":2}"]);
    options.case_insensitive = false;
    let found = read(&[("a", "int"), ("b_c", "int")], &options, "{\"key-a\":1,\"b.c\":2}");
    assert_eq!(found.rows, ["{\"b_c\":2}"]);
}

#[test]
fn java_patterns_of_a_serde() {
    let properties = [("timestamp.formats".to_owned(), "dd/MMM/yyyy hh:mm a, yyyyMMdd'T'HHmmssX".to_owned())];
    let options = JsonOptions::from_serde(Dialect::Hive, &properties.into_iter().collect()).unwrap();
    let found = read(&[("t", "ts0")], &options, "{\"t\":\"05/Jan/2024 01:30 PM\"}{\"t\":\"20240105T133000+01:00\"}");
    assert_eq!(found.rows, ["{\"t\":\"2024-01-05T13:30:00\"}", "{\"t\":\"2024-01-05T12:30:00\"}"], "{found:?}");
}

#[test]
fn payloads_are_framed_one_by_one() {
    let texts = ["{\"a\":1}", "", "{\"a\":2}{\"a\":3}", "x", "{\"a\":", "{\"a\":4}"];
    let mut payloads = Payloads::default();
    let mut buffer = Vec::new();
    for text in texts {
        buffer.extend_from_slice(text.as_bytes());
        payloads.ends.push(buffer.len());
    }
    payloads.buffer = buffer.into();
    let mut decoder = JsonDecoder::try_new(schema(&[("a", "int")]), &JsonOptions::default()).unwrap();
    let decoded = decoder.decode(&payloads).unwrap();
    assert_eq!(lines(&decoded.rows.rows), ["{\"a\":1}", "{\"a\":2}", "{\"a\":3}", "{\"a\":4}"]);
    assert_eq!(decoded.payload_of_row, Some(vec![0, 2, 2, 5]));
    let rejected: Vec<_> = decoded.rejected.iter().map(|row| (row.payload, row.reason.as_str())).collect();
    assert_eq!(rejected[0], (1, "empty"));
    assert_eq!(rejected.iter().map(|row| row.0).collect::<Vec<_>>(), [1, 3, 4]);
    let (mut ends, mut start) = (Vec::new(), 0);
    for _ in 0..3 {
        start += 7;
        ends.push(start);
    }
    let plain = Payloads { buffer: Bytes::from_static(b"{\"a\":1}{\"a\":2}{\"a\":3}"), ends };
    assert_eq!(decoder.decode(&plain).unwrap().payload_of_row, None);
}

#[test]
fn rows_cut_between_large_chunks_are_those_of_the_whole() {
    let mut input = String::new();
    for row in 0..120usize {
        let length = if row == 60 { 90_000 } else { row * row * 37 % 9000 };
        let line = format!("{{\"a\":{row},\"b\":\"{}\"}}\n", "é".repeat(length));
        input.push_str(if row % 17 == 3 { line.trim_end_matches("}\n") } else { &line });
        input.push_str(if row % 17 == 3 { "\n" } else { "" });
    }
    let schema = schema(&[("a", "bigint"), ("b", "varchar")]);
    let whole = read_in_chunks(&schema, &JsonOptions::default(), input.as_bytes(), usize::MAX);
    assert_eq!((whole.rows.len(), whole.rejected.len()), (113, 7));
    for chunk in [4_097, 5_000, 65_537, 70_001, 300_000] {
        let found = read_in_chunks(&schema, &JsonOptions::default(), input.as_bytes(), chunk);
        assert!(found == whole, "in chunks of {chunk}");
    }
}
