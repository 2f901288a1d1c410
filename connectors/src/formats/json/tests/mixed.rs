//! Malformed rows among rows of other layouts: no row beside them is lost, and no object within one becomes a row.

use std::collections::BTreeSet;

use super::*;

#[test]
fn a_malformed_row_over_lines_is_one_whatever_the_rows_before_are() {
    let formatted = "[\n  {\"a\": 1, \"items\": []},\n  {\n    \"a\": x,\n    \"items\": [\n      {\"a\": 99},\n      {\"a\": 98}\n    ]\n  },\n  {\"a\": 2, \"items\": []}\n]\n";
    for (input, path) in [
        (formatted, "$"),
        ("[{\"a\":1}, {\n \"a\": x,\n \"b\": [{\"c\": 9, \"a\": 7}]\n}, {\"a\": 2}]", "$"),
        ("[{\"a\": x, \"b\": [\n{\"a\": 7}\n]}, {\"a\": 1}, {\"a\": 2}]", "$"),
        ("[{\"a\":1}, {\"a\": x\n, \"b\": [\n{\"a\": 7}\n]\n}, {\"a\": 2}]", "$"),
        ("[\n{\"a\":1},\n{\"a\": x\n, \"b\": [\n{\"a\": 7}\n]\n},\n{\"a\": 2}\n]", "$"),
        ("{\"a\":1}\n{\"a\": x, \"b\":\n{\"a\": 7}}\n{\"a\":2}\n", "$"),
        ("{\"a\":1}\n{\n  \"a\": x,\n  \"b\": [\n{\"a\": 7}\n  ]\n}\n{\"a\":2}\n", "$"),
        ("{\"r\": [{\"a\":1}, {\n \"a\": x,\n \"b\": [{\"a\": 7}]\n}, {\"a\": 2}]}\n", "$.r[*]"),
    ] {
        let options = JsonOptions { records: RecordPath::parse(path).unwrap(), ..JsonOptions::default() };
        let found = read(&[("a", "int")], &options, input);
        assert_eq!(
            (found.rows.as_slice(), found.rejected.len()),
            (["{\"a\":1}", "{\"a\":2}"].map(String::from).as_slice(), 1),
            "{input}: {found:?}"
        );
    }
}

#[test]
fn lines_that_are_no_rows_are_refused_one_by_one() {
    let found =
        read(&[("a", "int")], &JsonOptions::default(), "{\"a\":1}\nfirst,\nsecond\n{\"a\":\nthird\n{\"a\":2}\n");
    assert_eq!(found.rows, ["{\"a\":1}", "{\"a\":2}"]);
    assert_eq!(
        found.rejected.iter().map(|row| row.2.as_str()).collect::<Vec<_>>(),
        ["first,", "second", "{\"a\":", "third"]
    );
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Lines,
    ArrayOfLines,
    Pretty,
    /// Some rows on one line, some over several.
    Formatted,
    /// The same, and rows begin where others end.
    RunOn,
}

fn row(number: u64, is_pretty: bool) -> String {
    if is_pretty {
        format!(
            "  {{\n    \"a\": {number},\n    \"b\": [\n      1,\n      {{\n        \"c\": \"[\"\n      }}\n    ]\n  }}"
        )
    } else {
        format!("  {{\"a\": {number}, \"b\": [{{\"c\": \"[\"}}]}}")
    }
}

/// A generator of numbers below others.
fn numbers(mut seed: u64) -> impl FnMut(u64) -> u64 {
    move |below| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    }
}

/// Damages a row by a way that adds no object to it.
fn damage(row: &mut String, layout: Layout, next: &mut impl FnMut(u64) -> u64) {
    let start = row.len() - row.trim_start().len();
    let at = start + 1 + usize::try_from(next((row.len() - start) as u64 - 2)).unwrap();
    match next(5) {
        _ if layout == Layout::RunOn => *row = row.replacen("\"a\": ", "\"a\": x", 1),
        0 => row.truncate(at),
        1 => row.insert(at, '['),
        2 => row.insert(at, ']'),
        3 => row.insert(at, '"'),
        _ => *row = row.replacen("\"a\": ", "\"a\": x", 1),
    }
}

#[test]
fn what_is_read_beside_malformed_rows_is_what_was_not_touched() {
    let mut next = numbers(11);
    let layouts = [Layout::Lines, Layout::ArrayOfLines, Layout::Pretty, Layout::Formatted, Layout::RunOn];
    for (round, layout) in layouts.into_iter().cycle().take(150).enumerate() {
        let (mut texts, mut expected, mut touched) = (Vec::new(), Vec::new(), 0);
        for number in 0..200 {
            let is_pretty = match layout {
                Layout::Lines | Layout::ArrayOfLines => false,
                Layout::Pretty => true,
                Layout::Formatted | Layout::RunOn => number > 0 && next(3) == 0,
            };
            let mut text = row(number, is_pretty);
            if number > 1 && next(20) == 0 {
                damage(&mut text, layout, &mut next);
                touched += 1;
            }
            // What stands within a text or a key does no harm to the others.
            if let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) {
                expected.push(value.get("a").map_or("{}".to_owned(), |number| format!("{{\"a\":{number}}}")));
            }
            texts.push(text);
        }
        let text = match layout {
            Layout::Lines => texts.join("\n"),
            Layout::RunOn => format!("[{}]", texts.join(", ")),
            Layout::ArrayOfLines | Layout::Pretty | Layout::Formatted => format!("[\n{}\n]\n", texts.join(",\n")),
        };
        let schema = schema(&[("a", "int")]);
        let found = read_in_chunks(&schema, &JsonOptions::default(), text.as_bytes(), usize::MAX);
        let what = format!("round {round}, {layout:?}, {touched} touched");
        assert_eq!(found, read_in_chunks(&schema, &JsonOptions::default(), text.as_bytes(), 97), "{what}");
        assert_eq!(found.rows, expected, "{what}\n{text}");
    }
}

fn whole(text: &str) -> Read {
    read_in_chunks(&schema(&[("a", "int")]), &JsonOptions::default(), text.as_bytes(), usize::MAX)
}

#[test]
fn a_malformed_row_ends_within_64_kb_or_with_its_line() {
    for (items, expected) in [(2_000, 1), (20_000, 20_002)] {
        let text = format!("{{\"a\":1}}\n{{\"a\":x,\"b\":[\n{}0]}}\n{{\"a\":2}}\n", "12345,\n".repeat(items));
        let found = whole(&text);
        assert_eq!(found.rows, ["{\"a\":1}", "{\"a\":2}"]);
        let lines: BTreeSet<u64> = found.rejected.iter().map(|(_, line, _, _)| *line).collect();
        assert_eq!(lines.len(), expected);
    }
}
