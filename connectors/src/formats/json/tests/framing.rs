//! Where records begin and end, whatever stands between them, and what a malformed one costs.

use super::*;

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
    assert_eq!(decoder.parts(), None);
}

#[test]
fn a_row_that_shares_its_payload_knows_its_own_bytes() {
    let texts = [" {\"a\":1}\n", "{\"a\":2} {\"a\":3}\n", "[{\"a\":4}]", "x\n{\"a\":5}"];
    let ends = texts.iter().scan(0, |end, text| {
        *end += text.len();
        Some(*end)
    });
    let payloads = Payloads { buffer: texts.concat().into(), ends: ends.collect() };
    let mut decoder = JsonDecoder::try_new(schema(&[("a", "int")]), &JsonOptions::default()).unwrap();
    let decoded = decoder.decode(&payloads).unwrap();
    assert_eq!(decoded.payload_of_row, Some(vec![0, 1, 1, 2, 3]));
    let parts =
        decoder.parts().unwrap().iter().map(|part| std::str::from_utf8(&payloads.buffer[part.clone()]).unwrap());
    let expected = [texts[0], "{\"a\":2}", "{\"a\":3}", "{\"a\":4}", "{\"a\":5}"];
    assert_eq!(parts.collect::<Vec<_>>(), expected);
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
