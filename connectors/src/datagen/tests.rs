//! The generator: rows repeat, sequences end, options belong to columns.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, TimeUnit, TimestampMillisecondType};

use super::*;

fn spec(options: &[(&str, &str)]) -> TableSpec {
    let fields = vec![
        Field::new("id", DataType::Int64, true),
        Field::new("n", DataType::Int32, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true),
    ];
    TableSpec::new("g", Arc::new(Schema::new(fields)), options.iter().copied())
}

#[test]
fn a_row_is_the_same_wherever_reading_begins() {
    let table = spec(&[
        ("number-of-rows", "50"),
        ("seed", "7"),
        ("fields.n.min", "-3"),
        ("fields.n.max", "3"),
        ("fields.n.null-rate", "0.3"),
        ("fields.name.length", "5"),
        ("fields.ts.kind", "sequence"),
        ("fields.ts.start", "2024-01-01 00:00:00"),
        ("fields.ts.step", "250 ms"),
    ]);
    let options = DatagenOptions::parse(&table).unwrap();
    for rule in &options.fields {
        let all = rule.column(options.seed, 0, 50, 0).unwrap();
        for first in [1, 17, 49] {
            let from = rule.column(options.seed, first, 50 - first as usize, 0).unwrap();
            assert_eq!(&from, &all.slice(first as usize, 50 - first as usize));
        }
    }
    let numbers = options.fields[1].column(7, 0, 1000, 0).unwrap();
    let numbers = numbers.as_primitive::<Int32Type>();
    assert!((200..400).contains(&numbers.null_count()), "{}", numbers.null_count());
    let mut seen: Vec<i32> = numbers.iter().flatten().collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [-3, -2, -1, 0, 1, 2, 3]);
    let times = options.fields[3].column(7, 2, 1, 0).unwrap();
    assert_eq!(times.as_primitive::<TimestampMillisecondType>().value(0), 1_704_067_200_500);
}

#[test]
fn a_sequence_ends_the_table_and_options_are_known_by_column() {
    let bounded = [("fields.id.kind", "sequence"), ("fields.id.start", "10"), ("fields.id.end", "19")];
    assert_eq!(DatagenOptions::parse(&spec(&bounded)).unwrap().rows, Some(10));
    let error = DatagenOptions::parse(&spec(&[("fields.idd.kind", "random")])).unwrap_err();
    assert_eq!(error.hint(), Some("did you mean 'fields.id.kind'?"));
    let error = DatagenOptions::parse(&spec(&[("fields.id.kind", "sequence")])).unwrap_err();
    assert!(error.message().contains("'fields.id.start'"), "{error}");
}
