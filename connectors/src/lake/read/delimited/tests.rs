//! Delimited text of every dialect, whole and in pieces, well-formed and not.

use arrow::{
    datatypes::{Field, Schema},
    util::display::{ArrayFormatter, FormatOptions},
};

use super::*;
use crate::lake::{
    hive_type,
    write::format::{TextOptions, TextStyle},
};

fn options(habits: Habits, text: TextOptions) -> DelimitedOptions {
    DelimitedOptions {
        text,
        habits,
        skip: 0,
        is_named: false,
        fields_min: None,
        says_header: false,
        has_delimiter: false,
        malformed: Malformed::Fail,
    }
}

fn schema(columns: &[(&str, &str)]) -> SchemaRef {
    let fields = columns.iter().map(|(name, text)| Field::new(*name, hive_type::parse(text).unwrap(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

struct Read {
    rows: Vec<String>,
    rejected: Vec<RejectedText>,
    nulled: u64,
}

/// Reads a text in chunks of several sizes, which must not matter.
fn read(columns: &[(&str, &str)], options: &DelimitedOptions, text: &str) -> Read {
    let whole = read_chunks(columns, options, text, usize::MAX);
    for chunk in [1, 3, 7] {
        let again = read_chunks(columns, options, text, chunk);
        assert_eq!((&again.rows, &again.rejected), (&whole.rows, &whole.rejected), "chunks of {chunk}");
    }
    whole
}

fn read_chunks(columns: &[(&str, &str)], options: &DelimitedOptions, text: &str, chunk: usize) -> Read {
    let schema = schema(columns);
    let mut reader = DelimitedReader::new(Arc::clone(&schema), schema.fields(), options, true);
    let mut found = Read { rows: Vec::new(), rejected: Vec::new(), nulled: 0 };
    let drain = |reader: &mut DelimitedReader, found: &mut Read| {
        while let Some(batch) = reader.next_rows().unwrap() {
            let format = FormatOptions::new().with_null("NULL");
            let columns: Vec<_> =
                batch.rows.columns().iter().map(|column| ArrayFormatter::try_new(column, &format).unwrap()).collect();
            for row in 0..batch.rows.num_rows() {
                found
                    .rows
                    .push(columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|"));
            }
            found.rejected.extend(batch.rejected);
            found.nulled += batch.values_nulled;
        }
    };
    for part in text.as_bytes().chunks(chunk.min(text.len().max(1))) {
        reader.feed(Bytes::copy_from_slice(part));
        drain(&mut reader, &mut found);
    }
    reader.finish_input();
    drain(&mut reader, &mut found);
    found
}

const PAIR: [(&str, &str); 2] = [("n", "int"), ("t", "string")];

#[test]
fn csv_has_quotes_newlines_and_doubled_quotes() {
    let csv = options(Habits::Csv, TextOptions::csv());
    let found = read(&PAIR, &csv, "1,\"a,\"\"b\"\"\nc\"\r\n2,\n,x\n\n3,last");
    assert_eq!(found.rows, ["1|a,\"b\"\nc", "2|", "NULL|x", "3|last"]);
    assert!(found.rejected.is_empty());
}

#[test]
fn csv_refuses_what_does_not_fit_with_line_and_offset() {
    let csv = options(Habits::Csv, TextOptions::csv());
    let found = read(&PAIR, &csv, "1,\"a\nb\"\nx,y\n4\n5,z\n");
    assert_eq!(found.rows, ["1|a\nb", "5|z"]);
    let places: Vec<_> = found.rejected.iter().map(|rejected| (rejected.offset, rejected.line)).collect();
    assert_eq!(places, [(8, 3), (12, 4)]);
    assert_eq!(found.rejected[0].reason, "column \"n\": \"x\" is no int");
    assert_eq!(found.rejected[1].reason, "1 fields where 2 are expected");
    assert_eq!(found.rejected[0].raw.as_ref(), b"x,y");
    let nulls = DelimitedOptions { malformed: Malformed::Null, ..csv };
    assert_eq!(read(&PAIR, &nulls, "x,y\n5,z\n").rows, ["NULL|NULL", "5|z"]);
}

#[test]
fn a_header_names_the_columns() {
    let named = DelimitedOptions { is_named: true, ..options(Habits::Csv, TextOptions::csv()) };
    let found = read(
        &[("likes", "bigint"), ("post id", "string"), ("absent", "int")],
        &named,
        "\u{feff}Post ID,other,Likes\na,b,7\n",
    );
    assert_eq!(found.rows, ["7|a|NULL"]);
    let skipped = DelimitedOptions { skip: 2, ..options(Habits::Lazy, TextOptions::delimited()) };
    assert_eq!(read(&PAIR, &skipped, "x\ny\n1\u{1}a").rows, ["1|a"]);
    assert!(read(&PAIR, &skipped, "x\n").rows.is_empty());
}

#[test]
fn lazy_text_follows_hive() {
    let lazy = options(Habits::Lazy, TextOptions { field_delimiter: b'|', ..TextOptions::delimited() });
    let found = read(&PAIR, &lazy, "1.9|a\n1e2|\n\\N|\\N\n7\n8|b|more\n300000000000|x\n");
    assert_eq!(found.rows, ["1|a", "NULL|", "NULL|NULL", "7|NULL", "8|b", "NULL|x"]);
    assert_eq!(found.nulled, 2);
}

#[test]
fn lazy_text_nests_and_escapes() {
    let text = TextOptions {
        field_delimiter: b'|',
        item_delimiter: b',',
        key_delimiter: b':',
        escape: Some(b'\\'),
        ..TextOptions::delimited()
    };
    let lazy = options(Habits::Lazy, text);
    let columns = [("a", "array<int>"), ("m", "map<string,int>"), ("s", "struct<x:int,y:string>"), ("t", "string")];
    let found = read(&columns, &lazy, "1,2,x|k:1,l:2,k:3|5,q\\,r|a\\|b\n|||\n");
    assert_eq!(found.rows[0], "[1, 2, NULL]|{k: 1, l: 2}|{x: 5, y: q,r}|a|b");
    assert_eq!(found.rows[1], "[]|{}|{x: NULL, y: NULL}|");
}

#[test]
fn open_csv_follows_its_serde() {
    let style = TextStyle::Csv { quote: b'"', escape: b'\\' };
    let open = options(Habits::OpenCsv, TextOptions { style, ..TextOptions::csv() });
    let found = read(&[("t", "string"), ("d", "date"), ("n", "int")], &open, "\"a\\\"b\",19000,1\n\\N,0\n\"\",1,\n");
    assert_eq!(found.rows, ["a\"b|2022-01-08|1", "N|1970-01-01|NULL"]);
    assert_eq!(found.rejected.len(), 1);
}

#[test]
fn a_raw_line_is_a_row() {
    let raw =
        options(Habits::Raw, TextOptions { style: TextStyle::Raw, null: String::new(), ..TextOptions::delimited() });
    assert_eq!(read(&[("line", "string")], &raw, "a,\"b\n\nc").rows, ["a,\"b", "", "c"]);
}

#[test]
fn a_quote_within_a_field_is_text() {
    let csv = options(Habits::Csv, TextOptions::csv());
    let found = read(&PAIR, &csv, "1,5\" pipe\n2,a\"b\n3,c\"d\n4,\"x\"\" y\"\n");
    assert_eq!(found.rows, ["1|5\" pipe", "2|a\"b", "3|c\"d", "4|x\" y"]);
    let escaped = TextOptions { style: TextStyle::Csv { quote: b'"', escape: b'\\' }, ..TextOptions::csv() };
    let found = read(&PAIR, &options(Habits::Csv, escaped), "1,C:\\\\temp\\\n2,a\\\"b\n3,\"c\\\"\nd\"\n");
    assert_eq!(found.rows, ["1|C:\\temp\\", "2|a\"b", "3|c\"\nd"]);
    assert!(found.rejected.is_empty(), "{:?}", found.rejected);
}

#[test]
fn a_quote_that_is_not_closed_costs_its_line_only() {
    let csv = options(Habits::Csv, TextOptions::csv());
    let found = read(&PAIR, &csv, "1,\"x\n2,abc\n3,def\n4,\"ghi\n");
    // The next quote stands within a text and does not close the first one.
    assert_eq!(found.rows, ["2|abc", "3|def"]);
    assert_eq!(found.rejected.iter().map(|rejected| rejected.line).collect::<Vec<_>>(), [1, 4]);
}

#[test]
fn open_csv_has_a_record_a_line() {
    let style = TextStyle::Csv { quote: b'"', escape: b'\\' };
    let open = options(Habits::OpenCsv, TextOptions { style, ..TextOptions::csv() });
    let columns = [("n", "string"), ("t", "string")];
    let found =
        read(&columns, &open, "1,5\" pipe\n2,abc\n3,C:\\temp\\\n4,ghi\n5,a\"b\"c\n6,\"x\"\"y\"\n7,  \"z\"\n8,'it'\n");
    let expected = ["1|NULL", "2|abc", "3|C:temp", "4|ghi", "5|a\"b\"c", "6|x\"y", "7|z", "8|'it'"];
    assert_eq!(found.rows, expected);
    assert_eq!((found.rejected.len(), found.nulled), (0, 1));
}

#[test]
fn a_header_of_other_columns_makes_its_file_malformed() {
    let named = DelimitedOptions { is_named: true, ..options(Habits::Csv, TextOptions::csv()) };
    let found = read(&PAIR, &named, "2,b\n3,c\n");
    assert!(found.rows.is_empty());
    assert_eq!(found.rejected.iter().map(|rejected| rejected.line).collect::<Vec<_>>(), [1, 2]);
    assert!(found.rejected[0].reason.contains("names none of the table's columns"));
}

#[test]
fn files_older_than_a_column_read_null() {
    let three = [("n", "int"), ("t", "string"), ("added", "int")];
    let csv = options(Habits::Csv, TextOptions::csv());
    assert_eq!(read(&three, &csv, "1,a\n2,b\n").rejected.len(), 2);
    let older = DelimitedOptions { fields_min: Some(2), ..csv };
    let found = read(&three, &older, "1,a\n2,b\n3\n4,d,4\n5,e\n");
    assert_eq!(found.rows, ["1|a|NULL", "2|b|NULL", "4|d|4"]);
    assert_eq!(found.rejected.iter().map(|rejected| rejected.line).collect::<Vec<_>>(), [3, 5]);
}

#[test]
fn a_record_that_is_too_long_is_one_malformed_row() {
    let csv = options(Habits::Csv, TextOptions::csv());
    let schema = schema(&PAIR);
    for (text, rows, lines) in [
        ("1,a\n2,\"open\n3,c\n4,d and more and more\n5,e\n", 4, vec![2]),
        ("1,a\n2,longer than any record may be, by far\n3,c\n", 2, vec![2]),
    ] {
        for chunk in [1, 9, 25] {
            let mut reader = DelimitedReader::new(Arc::clone(&schema), schema.fields(), &csv, true);
            reader.record_bytes_max = 24;
            let (mut found, mut rejected) = (0, Vec::new());
            for part in text.as_bytes().chunks(chunk) {
                reader.feed(Bytes::copy_from_slice(part));
                while let Some(batch) = reader.next_rows().unwrap() {
                    found += batch.rows.num_rows();
                    rejected.extend(batch.rejected.into_iter().map(|rejected| rejected.line));
                }
            }
            reader.finish_input();
            while let Some(batch) = reader.next_rows().unwrap() {
                found += batch.rows.num_rows();
                rejected.extend(batch.rejected.into_iter().map(|rejected| rejected.line));
            }
            assert_eq!((found, rejected), (rows, lines.clone()), "chunks of {chunk}: {text}");
        }
    }
}

#[test]
fn a_part_of_a_file_is_read_by_the_files_header() {
    let named = DelimitedOptions { is_named: true, skip: 1, ..options(Habits::Csv, TextOptions::csv()) };
    let schema = schema(&PAIR);
    let file = "a comment\nT, n ,other\nx,1,y\nz,2,w\n";
    // From behind a record, the names and the comment: what is left of the header is no record.
    for (start, rows) in [(28, 1), (22, 2), (10, 2)] {
        let mut reader = DelimitedReader::new(Arc::clone(&schema), schema.fields(), &named, false);
        reader.starts_at(start as u64, 1);
        reader.follows(file.as_bytes());
        reader.feed(Bytes::from(&file[start..]));
        reader.finish_input();
        let found = reader.next_rows().unwrap().unwrap().rows;
        let last = |column: &arrow::array::ArrayRef| {
            ArrayFormatter::try_new(column, &FormatOptions::new()).unwrap().value(rows - 1).to_string()
        };
        assert_eq!(found.num_rows(), rows, "from {start}");
        assert_eq!(found.columns().iter().map(last).collect::<Vec<_>>(), ["2", "z"]);
    }
}

#[test]
fn a_header_without_an_end_costs_later_parts_no_row() {
    let named = DelimitedOptions { is_named: true, ..options(Habits::Csv, TextOptions::csv()) };
    let schema = schema(&PAIR);
    let rows_of = |file: &str, options: &DelimitedOptions, start: usize| {
        let mut reader = DelimitedReader::new(Arc::clone(&schema), schema.fields(), options, start == 0);
        reader.starts_at(start as u64, 1);
        if start > 0 {
            reader.follows(file.as_bytes());
        }
        reader.feed(Bytes::copy_from_slice(&file.as_bytes()[start..]));
        reader.finish_input();
        let found = reader.next_rows().unwrap().unwrap();
        (found.rows.num_rows(), found.rejected.len())
    };
    // A quote of the header that is not closed, to the end or up to another one lines later.
    for tail in ["1,x\n2,y\n", "1,x\n2,\"y\"\n"] {
        let file = format!("\"n,t\n{tail}");
        assert_eq!(rows_of(&file, &named, 0), (2, 1), "{file}");
        assert_eq!(rows_of(&file, &named, 5), (2, 0), "{file}");
    }
    // One of a line before it.
    let skips = DelimitedOptions { skip: 1, ..named.clone() };
    let file = "\"note\nn,t\n1,x\n2,y\n";
    for (start, rows) in [(0, 2), (6, 2), (10, 2), (14, 1)] {
        assert_eq!(rows_of(file, &skips, start), (rows, 0), "from {start}");
    }
    // One that is longer than what is looked at: what the fields are is not known, and no record is taken for it.
    let file = format!("n,{}t\n", " ".repeat(1 << 20));
    let mut reader = DelimitedReader::new(Arc::clone(&schema), schema.fields(), &named, false);
    reader.starts_at(file.len() as u64, 1);
    reader.follows(&file.as_bytes()[..1 << 20]);
    reader.feed(Bytes::from_static(b"1,x\n2,y\n"));
    reader.finish_input();
    let found = reader.next_rows().unwrap().unwrap();
    assert_eq!((found.rows.num_rows(), found.rejected.len()), (0, 2));
}

#[test]
fn a_record_found_again_is_the_one_that_was_read() {
    let csv = options(Habits::Csv, TextOptions::csv());
    let single = TextStyle::Csv { quote: b'\'', escape: b'\'' };
    let single = options(Habits::Csv, TextOptions { style: single, ..TextOptions::csv() });
    let open = options(Habits::OpenCsv, TextOptions::csv());
    let tabs = options(Habits::Csv, TextOptions { field_delimiter: b'\t', ..TextOptions::csv() });
    for (options, text, record) in [
        (&csv, "a,5\" pipe,x,\nb,plain,oops,\nc,6\" tube,3,\n", "a,5\" pipe,x,"),
        (&csv, "\"a\nb\",1\r\nc,2\n", "\"a\nb\",1"),
        (&single, "'a\n\"b',1\nc,2\n", "'a\n\"b',1"),
        (&open, "\"a,1\nb\",2\n", "\"a,1"),
        (&tabs, "  a x\tzz\t\t\nb\t\t\t\n", "  a x\tzz\t\t"),
    ] {
        assert_eq!(options.record(text.as_bytes(), false), Some(record.as_bytes()), "{text}");
    }
    assert_eq!(csv.record(b"\"a\nb", false), None);
    assert_eq!(csv.record(b"\"a\nb", true), Some(b"\"a".as_slice()));
}
