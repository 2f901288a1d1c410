//! What is written is read back, and what does not fit is named.

use arrow::{
    array::{Array, AsArray, Int32Array},
    datatypes::{Field, Schema},
    util::pretty::pretty_format_batches,
};

use super::*;

fn s(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn n(text: &str) -> AttributeValue {
    AttributeValue::N(text.to_owned())
}

fn item(members: &[(&str, AttributeValue)]) -> Item {
    members.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

fn decoded(fields: Vec<Field>, items: &[Item]) -> DecodedItems {
    let decoder = ItemDecoder::new(Arc::new(Schema::new(fields))).unwrap();
    decoder.decode(&items.iter().map(Some).collect::<Vec<_>>()).unwrap()
}

#[test]
fn an_order_becomes_a_row_whatever_the_case_of_its_key() {
    let fields = vec![
        Field::new("orderid", DataType::Utf8, true),
        Field::new("quantity", DataType::Int32, true),
        Field::new("price", DataType::Float64, true),
        Field::new("missing", DataType::Utf8, true),
    ];
    let order = item(&[("orderId", s("3714")), ("quantity", n("5")), ("price", n("190.07")), ("other", s("x"))]);
    let rows = decoded(fields, &[order]).rows;
    let expected = "\
+---------+----------+--------+---------+
| orderid | quantity | price  | missing |
+---------+----------+--------+---------+
| 3714    | 5        | 190.07 |         |
+---------+----------+--------+---------+";
    assert_eq!(pretty_format_batches(&[rows]).unwrap().to_string(), expected);
}

#[test]
fn every_type_is_read_back() {
    let list = |of| DataType::List(Arc::new(Field::new("item", of, true)));
    let entries =
        Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Int64, true)]);
    let fields = vec![
        Field::new("decimal", DataType::Decimal128(10, 2), true),
        Field::new("time", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("ttl", DataType::Timestamp(TimeUnit::Second, None), true),
        Field::new("day", DataType::Date32, true),
        Field::new("tags", list(DataType::Utf8), true),
        Field::new("sizes", list(DataType::Int64), true),
        Field::new(
            "counts",
            DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false),
            true,
        ),
        Field::new("place", DataType::Struct(Fields::from(vec![Field::new("lat", DataType::Float64, true)])), true),
        Field::new("doc", DataType::LargeUtf8, true),
    ];
    let value = item(&[
        ("decimal", n("190.07")),
        ("time", s("2025-03-10T08:00:31.123456+00:00")),
        ("ttl", n("1741593630")),
        ("day", s("2022-01-08")),
        ("tags", AttributeValue::Ss(vec!["a".into(), "b".into()])),
        ("sizes", AttributeValue::L(vec![n("1"), AttributeValue::Null(true)])),
        ("counts", AttributeValue::M(item(&[("like", n("3"))]))),
        ("place", AttributeValue::M(item(&[("lat", n("38.5"))]))),
        ("doc", AttributeValue::M(item(&[("b", AttributeValue::Bool(true)), ("a", n("1.50"))]))),
    ]);
    let rows = decoded(fields, &[value, Item::new()]).rows;
    let shown = |column: usize| {
        let options = arrow::util::display::FormatOptions::default();
        let formatter = arrow::util::display::ArrayFormatter::try_new(rows.column(column).as_ref(), &options).unwrap();
        formatter.value(0).to_string()
    };
    let all: Vec<String> = (0..rows.num_columns()).map(shown).collect();
    assert_eq!(
        all,
        [
            "190.07",
            "2025-03-10T08:00:31.123",
            "2025-03-10T08:00:30",
            "2022-01-08",
            "[a, b]",
            "[1, ]",
            "{like: 3}",
            "{lat: 38.5}",
            r#"{"a":1.50,"b":true}"#
        ]
    );
    assert!((0..rows.num_columns()).all(|column| rows.column(column).is_null(1)));
}

#[test]
fn what_does_not_fit_is_left_out_and_named() {
    let fields = vec![Field::new("n", DataType::Int32, true)];
    let items = [item(&[("n", n("1"))]), item(&[("n", s("two"))]), item(&[("n", n("3.5"))]), item(&[("n", n("1E+2"))])];
    let DecodedItems { rows, kept, misfits } = decoded(fields, &items);
    assert_eq!(rows.column(0).as_ref(), &Int32Array::from(vec![1, 100]) as &dyn Array);
    assert_eq!(kept, [0, 3]);
    assert_eq!(misfits[&1], "attribute \"n\" is no Int32: two");
    assert_eq!(misfits[&2], "attribute \"n\" is no Int32: 3.5");
    let text = decoded(vec![Field::new("n", DataType::Utf8, true)], &items).rows;
    assert_eq!(text.column(0).as_string::<i32>().value(2), "3.5");
}

#[test]
fn a_number_keeps_all_its_digits_or_does_not_fit() {
    let of = |text: &str, precision, scale| exact_decimal(text, precision, scale);
    assert_eq!(of("190.07", 10, 2), Some(19_007));
    assert_eq!(of("190.070", 10, 2), Some(19_007));
    assert_eq!(of("-1.5E+2", 38, 0), Some(-150));
    assert_eq!(of("1E-7", 38, 7), Some(1));
    assert_eq!((of("0.00", 1, 0), of("0E5", 1, 0)), (Some(0), Some(0)));
    for (text, precision, scale) in [("190.079", 10, 2), ("12.5", 38, 0), ("1E3", 3, 0), ("", 3, 0), ("1x", 3, 0)] {
        assert_eq!(of(text, precision, scale), None, "{text}");
    }
    assert_eq!((whole("7.0"), whole("1E3"), whole("1.0000000001")), (Some(7), Some(1000), None));
}

#[test]
fn a_decimal_is_the_very_number_or_none() {
    let of = |text: &str| exact_decimal(text, 10, 2);
    assert_eq!(
        [of("190.07"), of("1.9E2"), of("-0.5"), of("0e-400"), of("1E-2")],
        [19_007, 19_000, -50, 0, 1].map(Some)
    );
    for text in ["190.079", "1E9", "123456789", "1e-2147483648", "1e2147483647", "1e99999999999", "", "e1", "1.2.3"] {
        assert_eq!(of(text), None, "{text}");
    }
}

#[test]
fn an_item_is_judged_by_columns_that_are_not_wanted_too() {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    let texts = DataType::List(Arc::new(field("item", DataType::Utf8)));
    let declared =
        Arc::new(Schema::new(vec![field("id", DataType::Utf8), field("n", DataType::Int64), field("texts", texts)]));
    let items = [
        item(&[("id", s("a")), ("n", n("1"))]),
        item(&[("id", s("b")), ("n", s("x"))]),
        item(&[("id", s("c")), ("texts", s("no list"))]),
        item(&[("id", n("4")), ("n", n("4"))]),
    ];
    let items: Vec<Option<&Item>> = items.iter().map(Some).collect();
    for wanted in [vec![], vec![0], vec![1], vec![2, 0], vec![0, 1, 2]] {
        let schema = Arc::new(declared.project(&wanted).unwrap());
        let decoder = ItemDecoder::new(Arc::clone(&schema)).unwrap();
        assert_eq!(decoder.clone().decode(&[]).unwrap().rows.schema(), schema);
        let decoded = decoder.judging(&declared).decode(&items).unwrap();
        assert_eq!((decoded.kept, decoded.rows.num_rows(), decoded.rows.schema()), (vec![0, 3], 2, schema));
        assert!(decoded.misfits[&1].contains("\"n\" is no Int64") && decoded.misfits[&2].contains("\"texts\""));
    }
}
