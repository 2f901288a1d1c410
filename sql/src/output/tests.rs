//! Each format against the exact text it must give.

use std::sync::Arc;

use arrow::{
    array::*,
    buffer::OffsetBuffer,
    datatypes::{DataType, Field, Fields, Int32Type, Schema, TimeUnit},
};

use super::*;

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

fn render(format: Format, batch: &RecordBatch) -> String {
    let look = Look { format, width_max: None, expanded: Expanded::Off };
    let mut rows = Rows::begin(look, batch.schema(), Vec::new()).unwrap();
    rows.write(batch).unwrap();
    String::from_utf8(rows.finish().unwrap()).unwrap()
}

fn text(array: impl Array) -> Vec<String> {
    (0..array.len())
        .map(|row| {
            let mut out = String::new();
            value::write_text(&array, row, &mut out);
            out
        })
        .collect()
}

fn people() -> RecordBatch {
    batch(vec![
        ("name", Arc::new(StringArray::from(vec![Some("Zoë"), None, Some(""), Some("a,\"b\"\tc\nd")]))),
        ("n", Arc::new(Int64Array::from(vec![Some(1), Some(-20), None, Some(300)]))),
    ])
}

#[test]
fn names_that_repeat_are_told_apart_where_readers_go_by_them() {
    let one = |n: i32| Arc::new(Int32Array::from(vec![n])) as ArrayRef;
    let fields = ["a", "b", "a", "a_1", "a"].map(|name| Field::new(name, DataType::Int32, true));
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields.to_vec())), [1, 2, 3, 4, 5].map(one).to_vec()).unwrap();
    assert_eq!(render(Format::Ndjson, &rows), "{\"a\":1,\"b\":2,\"a_2\":3,\"a_1\":4,\"a_3\":5}\n");
    assert_eq!(render(Format::Csv, &rows), "a,b,a,a_1,a\n1,2,3,4,5\n");
    let look = Look { format: Format::Parquet, width_max: None, expanded: Expanded::Off };
    let mut written = Rows::begin(look, rows.schema(), Vec::new()).unwrap();
    written.write(&rows).unwrap();
    let file = bytes::Bytes::from(written.finish().unwrap());
    let read = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let names: Vec<_> = read.schema().fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["a", "b", "a_2", "a_1", "a_3"]);
}

#[test]
fn doubles_read_as_in_java() {
    let values = [0.0, -0.0, 1.0, 0.001, 0.0009, 9_999_999.0, 1e7, 1e20, 123.456, -1.5e-7, f64::NAN, f64::NEG_INFINITY];
    let expected = [
        "0.0",
        "-0.0",
        "1.0",
        "0.001",
        "9.0E-4",
        "9999999.0",
        "1.0E7",
        "1.0E20",
        "123.456",
        "-1.5E-7",
        "NaN",
        "-Infinity",
    ];
    assert_eq!(text(Float64Array::from(values.to_vec())), expected);
    assert_eq!(text(Float32Array::from(vec![0.1, 16_777_216.0])), ["0.1", "1.6777216E7"]);
}

#[test]
fn times_keep_the_digits_of_their_precision() {
    let seconds = 1_685_577_600;
    assert_eq!(text(TimestampSecondArray::from(vec![seconds])), ["2023-06-01 00:00:00"]);
    assert_eq!(text(TimestampMillisecondArray::from(vec![seconds * 1000])), ["2023-06-01 00:00:00.000"]);
    assert_eq!(text(TimestampMicrosecondArray::from(vec![-1])), ["1969-12-31 23:59:59.999999"]);
    let zoned = |zone: &str| TimestampMillisecondArray::from(vec![seconds * 1000]).with_timezone(zone);
    assert_eq!(text(zoned("Europe/Rome")), ["2023-06-01 02:00:00.000 Europe/Rome"]);
    assert_eq!(text(zoned("+00:00")), ["2023-06-01 00:00:00.000 UTC"]);
    assert_eq!(text(Date32Array::from(vec![19_509, -1])), ["2023-06-01", "1969-12-31"]);
    assert_eq!(text(Time32MillisecondArray::from(vec![3_723_004])), ["01:02:03.004"]);
    assert_eq!(text(DurationMillisecondArray::from(vec![-93_784_005])), ["-1 02:03:04.005"]);
    assert_eq!(text(IntervalYearMonthArray::from(vec![14])), ["1-2"]);
}

#[test]
fn nested_values_read_as_in_athena() {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), None]), Some(vec![])]);
    assert_eq!(text(list), ["[1, null]", "[]"]);
    let fields = Fields::from(vec![Field::new("a", DataType::Int32, true), Field::new("", DataType::Utf8, true)]);
    let columns: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(vec![1])), Arc::new(StringArray::from(vec!["x"]))];
    assert_eq!(text(StructArray::new(fields, columns, None)), ["{a=1, field1=x}"]);
    assert_eq!(text(BinaryArray::from_vec(vec![b"hi"])), ["68 69"]);
    assert_eq!(text(Decimal128Array::from(vec![1250]).with_precision_and_scale(10, 3).unwrap()), ["1.250"]);
    assert_eq!(text(map()), ["{k=1}"]);
}

fn map() -> MapArray {
    let fields =
        Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Int32, true)]);
    let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec!["k"])), Arc::new(Int32Array::from(vec![1]))];
    let entries = StructArray::new(fields.clone(), columns, None);
    let entry = Arc::new(Field::new("entries", DataType::Struct(fields), false));
    MapArray::new(entry, OffsetBuffer::from_lengths([1]), entries, None, false)
}

#[test]
fn csv_tells_null_from_empty_and_quotes_what_needs_it() {
    assert_eq!(render(Format::Csv, &people()), "name,n\nZoë,1\n,-20\n\"\",\n\"a,\"\"b\"\"\tc\nd\",300\n");
}

#[test]
fn tsv_escapes_instead_of_quoting() {
    assert_eq!(render(Format::Tsv, &people()), "name\tn\nZoë\t1\n\\N\t-20\n\t\\N\na,\"b\"\\tc\\nd\t300\n");
}

#[test]
fn json_is_one_array_and_ndjson_a_line_a_row() {
    let two = people().slice(0, 2);
    assert_eq!(render(Format::Json, &two), "[\n{\"name\":\"Zoë\",\"n\":1},\n{\"name\":null,\"n\":-20}\n]\n");
    assert_eq!(render(Format::Ndjson, &two), "{\"name\":\"Zoë\",\"n\":1}\n{\"name\":null,\"n\":-20}\n");
    assert_eq!(render(Format::Json, &people().slice(0, 0)), "[]\n");
    assert_eq!(render(Format::Ndjson, &people().slice(0, 0)), "");
}

#[test]
fn json_nests_and_stays_json() {
    let batch = batch(vec![
        ("j", Arc::new(LargeStringArray::from(vec![r#"{"a":[1]}"#]))),
        ("m", Arc::new(map())),
        ("d", Arc::new(Float64Array::from(vec![f64::INFINITY]))),
        ("c", Arc::new(Decimal128Array::from(vec![10]).with_precision_and_scale(5, 2).unwrap())),
        ("b", Arc::new(BinaryArray::from_vec(vec![b"hi"]))),
        ("t", Arc::new(TimestampMillisecondArray::from(vec![0]))),
        ("s", Arc::new(StringArray::from(vec!["\u{1}\"\\"]))),
    ]);
    let expected = concat!(
        r#"{"j":{"a":[1]},"m":{"k":1},"d":"Infinity","c":0.10,"b":"aGk=","t":"1970-01-01 00:00:00.000","#,
        r#""s":"\u0001\"\\"}"#,
        "\n"
    );
    assert_eq!(render(Format::Ndjson, &batch), expected);
}

#[test]
fn a_table_aligns_numbers_right_and_shows_null() {
    let rendered = render(Format::Table, &people());
    assert_eq!(
        rendered,
        " name        |    n\n-------------+------\n Zoë         |    1\n NULL        |  -20\n             | NULL\n a,\"b\"\\tc\\nd |  300\n"
    );
}

#[test]
fn a_table_wider_than_the_terminal_is_expanded() {
    let batch = batch(vec![
        ("id", Arc::new(Int64Array::from(vec![1]))),
        ("description", Arc::new(StringArray::from(vec!["x".repeat(40)]))),
    ]);
    let look = |width| Look { format: Format::Table, width_max: Some(width), expanded: Expanded::Auto };
    let render = |width| {
        let mut rows = Rows::begin(look(width), batch.schema(), Vec::new()).unwrap();
        rows.write(&batch).unwrap();
        String::from_utf8(rows.finish().unwrap()).unwrap()
    };
    assert!(render(30).starts_with("-[ row 1 ]"), "{}", render(30));
    assert!(render(30).contains("\nid          | 1\n"), "{}", render(30));
    assert!(render(47).starts_with(" id | description"), "{}", render(47));
}

#[test]
fn a_long_table_is_written_before_its_end() {
    let numbers = batch(vec![("n", Arc::new(Int64Array::from_iter_values(0..3_000)))]);
    let look = Look { format: Format::Table, width_max: None, expanded: Expanded::Off };
    let mut rows = Rows::begin(look, numbers.schema(), Vec::new()).unwrap();
    rows.write(&numbers).unwrap();
    let Kind::Table(_, out) = &rows.kind else { panic!("a table expected") };
    assert!(out.ends_with(b" 2999\n"), "rows past the measured ones do not wait");
    assert_eq!(rows.finish().unwrap().iter().filter(|byte| **byte == b'\n').count(), 3_002);
}

#[test]
fn parquet_reads_back() {
    let rows = people();
    let look = Look { format: Format::Parquet, width_max: None, expanded: Expanded::Off };
    let mut writer = Rows::begin(look, rows.schema(), Vec::new()).unwrap();
    writer.write(&rows).unwrap();
    let bytes = bytes::Bytes::from(writer.finish().unwrap());
    let mut reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(bytes, 100).unwrap();
    assert_eq!(reader.next().unwrap().unwrap(), rows);
}

#[test]
fn a_parquet_file_says_what_its_columns_are() {
    let rows = batch(vec![
        ("at", Arc::new(TimestampSecondArray::from(vec![Some(1_577_836_800), None])) as ArrayRef),
        ("time", Arc::new(Time32SecondArray::from(vec![36_000, 0]))),
        ("took", Arc::new(DurationMillisecondArray::from(vec![90_000, 0]))),
        (
            "list",
            Arc::new(ListArray::new(
                Arc::new(Field::new("item", DataType::Timestamp(TimeUnit::Second, None), true)),
                OffsetBuffer::from_lengths([1, 0]),
                Arc::new(TimestampSecondArray::from(vec![1])),
                None,
            )),
        ),
    ]);
    let look = Look { format: Format::Parquet, width_max: None, expanded: Expanded::Off };
    let mut writer = Rows::begin(look, rows.schema(), Vec::new()).unwrap();
    writer.write(&rows).unwrap();
    let bytes = bytes::Bytes::from(writer.finish().unwrap());
    let reader = parquet::arrow::arrow_reader::ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let read = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new_with_options(bytes, reader);
    let back = read.unwrap().build().unwrap().next().unwrap().unwrap();
    let types: Vec<String> = back.schema().fields().iter().map(|field| field.data_type().to_string()).collect();
    assert_eq!(types[..3], ["Timestamp(ms)", "Time32(ms)", "Utf8"], "{types:?}");
    assert!(types[3].contains("Timestamp(ms)"), "{types:?}");
    assert_eq!(
        render(Format::Csv, &back),
        "at,time,took,list\n2020-01-01 00:00:00.000,10:00:00.000,0 00:01:30.000,[1970-01-01 00:00:01.000]\n,00:00:00.000,0 00:00:00.000,[]\n"
    );
}

/// What Parquet has no type for is text, in arrays and rows as well.
#[test]
fn a_parquet_file_holds_texts_inside_of_values() {
    let list = |values: ArrayRef| -> ArrayRef {
        let item = Arc::new(Field::new("item", values.data_type().clone(), true));
        Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([values.len()]), values, None))
    };
    let uuids = FixedSizeBinaryArray::try_from_iter([[7_u8; 16]].iter()).unwrap();
    let instants: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![0]).with_timezone("UTC"));
    let zones: ArrayRef = Arc::new(StringArray::from(vec!["Asia/Tokyo"]));
    let DataType::Struct(fields) = crate::kernels::zoned::arrow_type(TimeUnit::Millisecond) else { panic!("a row") };
    let zoned: ArrayRef = Arc::new(StructArray::new(fields, vec![instants, zones], None));
    let addresses: ArrayRef =
        Arc::new(LargeBinaryArray::from_vec(vec![&[0_u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 1][..]]));
    let row = StructArray::from(vec![(
        Arc::new(Field::new("took", DataType::Duration(TimeUnit::Millisecond), true)),
        Arc::new(DurationMillisecondArray::from(vec![90_000])) as ArrayRef,
    )]);
    let rows = batch(vec![
        ("ids", list(Arc::new(uuids))),
        ("took", list(Arc::new(DurationMillisecondArray::from(vec![90_000])))),
        ("row", Arc::new(row)),
        ("address", addresses),
        ("at", zoned.clone()),
        ("ats", list(zoned)),
    ]);
    let look = Look { format: Format::Parquet, width_max: None, expanded: Expanded::Off };
    let mut writer = Rows::begin(look, rows.schema(), Vec::new()).unwrap();
    writer.write(&rows).unwrap();
    let bytes = bytes::Bytes::from(writer.finish().unwrap());
    let mut reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(bytes, 100).unwrap();
    let back = reader.next().unwrap().unwrap();
    assert_eq!(*back.column(4).data_type(), DataType::Utf8);
    let text = render(Format::Tsv, &back);
    assert_eq!(text.lines().nth(1), render(Format::Tsv, &rows).lines().nth(1));
    assert!(text.contains("[0 00:01:30.000]") && text.contains("1970-01-01 09:00:00.000 Asia/Tokyo"), "{text}");
}

#[test]
fn a_table_without_rows_shows_its_columns() {
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Utf8, true)]));
    assert_eq!(render(Format::Table, &RecordBatch::new_empty(schema)), " a\n---\n");
}
