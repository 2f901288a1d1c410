//! Every type of column becomes the attribute the table at the top of `encode` says.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{
        BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, LargeStringArray, ListArray,
        StringArray, StructArray, TimestampMillisecondArray, TimestampSecondArray,
    },
    datatypes::{Int32Type, Schema, TimeUnit},
};

use super::*;

fn encoded(column: ArrayRef, sets: &[(&str, SetKind)], ignore_nulls: bool) -> Vec<std::result::Result<Item, String>> {
    let schema = Arc::new(Schema::new(vec![Field::new("a", column.data_type().clone(), true)]));
    let sets: BTreeMap<String, SetKind> = sets.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect();
    let encoder = ItemEncoder::new(&schema, vec!["A".to_owned()], &sets, ignore_nulls).unwrap();
    let rows = RecordBatch::try_new(schema, vec![column]).unwrap();
    (0..rows.num_rows()).map(|row| encoder.item(&rows, row)).collect()
}

fn values(column: ArrayRef) -> Vec<AttributeValue> {
    encoded(column, &[], true).into_iter().map(|item| item.unwrap().remove("A").unwrap()).collect()
}

fn s(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn n(text: &str) -> AttributeValue {
    AttributeValue::N(text.to_owned())
}

#[test]
fn scalars() {
    assert_eq!(values(Arc::new(StringArray::from(vec!["x", ""]))), [s("x"), s("")]);
    assert_eq!(values(Arc::new(Int64Array::from(vec![-5, 0]))), [n("-5"), n("0")]);
    assert_eq!(values(Arc::new(BooleanArray::from(vec![true]))), [AttributeValue::Bool(true)]);
    let decimals = Decimal128Array::from(vec![19_007, -50, 1_000, -7]).with_precision_and_scale(10, 2).unwrap();
    assert_eq!(values(Arc::new(decimals)), [n("190.07"), n("-0.5"), n("10"), n("-0.07")]);
    assert_eq!(
        values(Arc::new(Float64Array::from(vec![190.07, -0.0, 1e100, 1e-7]))),
        [n("190.07"), n("0"), n("1E100"), n("1E-7")]
    );
    assert_eq!(values(Arc::new(Date32Array::from(vec![0, 19_000]))), [s("1970-01-01"), s("2022-01-08")]);
    let bytes = values(Arc::new(BinaryArray::from_vec(vec![b"\x00\xff"])));
    assert_eq!(bytes, [AttributeValue::B(Blob::new(b"\x00\xff".to_vec()))]);
}

#[test]
fn timestamps_have_no_fraction_that_is_zero() {
    let millis = TimestampMillisecondArray::from(vec![1_741_593_630_000, 1_741_593_630_120, -1]);
    assert_eq!(
        values(Arc::new(millis)),
        [s("2025-03-10T08:00:30Z"), s("2025-03-10T08:00:30.120Z"), s("1969-12-31T23:59:59.999Z")]
    );
    assert_eq!(values(Arc::new(TimestampSecondArray::from(vec![0]))), [s("1970-01-01T00:00:00Z")]);
    assert_eq!(
        ColumnKind::of("a", &DataType::Timestamp(TimeUnit::Nanosecond, None)).unwrap(),
        ColumnKind::Timestamp(9)
    );
}

#[test]
fn numbers_that_dynamodb_does_not_have_are_refused() {
    for wrong in [f64::NAN, f64::INFINITY, 1e200, 1e-200] {
        let refused = encoded(Arc::new(Float64Array::from(vec![wrong])), &[], true).remove(0).unwrap_err();
        assert!(refused.contains("attribute \"A\""), "{refused}");
    }
}

#[test]
fn null_is_no_attribute_unless_the_option_says_so() {
    let column: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>]));
    assert_eq!(encoded(Arc::clone(&column), &[], true), [Ok(Item::new())]);
    assert_eq!(encoded(column, &[], false), [Ok(Item::from([("A".to_owned(), AttributeValue::Null(true))]))]);
}

#[test]
fn nested_values_and_json() {
    let rows = StructArray::from(vec![
        (Arc::new(Field::new("like", DataType::Int64, true)), Arc::new(Int64Array::from(vec![3])) as ArrayRef),
        (Arc::new(Field::new("none", DataType::Utf8, true)), Arc::new(StringArray::from(vec![None::<&str>]))),
    ]);
    assert_eq!(values(Arc::new(rows)), [AttributeValue::M(Item::from([("like".to_owned(), n("3"))]))]);
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), None, Some(1)])]);
    assert_eq!(values(Arc::new(lists)), [AttributeValue::L(vec![n("1"), AttributeValue::Null(true), n("1")])]);
    let json = LargeStringArray::from(vec![r#"{"a":[1.50,"x",null,true]}"#]);
    let list = AttributeValue::L(vec![n("1.50"), s("x"), AttributeValue::Null(true), AttributeValue::Bool(true)]);
    assert_eq!(values(Arc::new(json)), [AttributeValue::M(Item::from([("a".to_owned(), list)]))]);
}

#[test]
fn sets_have_no_repeats_no_null_and_no_emptiness() {
    let list = |values: Vec<Option<i32>>| {
        Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(values)])) as ArrayRef
    };
    let sets = [("a", SetKind::Numbers)];
    let item = encoded(list(vec![Some(2), Some(1), Some(2)]), &sets, true).remove(0).unwrap();
    assert_eq!(item["A"], AttributeValue::Ns(vec!["2".to_owned(), "1".to_owned()]));
    assert!(encoded(list(vec![None]), &sets, true).remove(0).unwrap_err().contains("NULL"));
    assert_eq!(encoded(list(vec![]), &sets, true), [Ok(Item::new())]);
    assert!(encoded(list(vec![]), &sets, false).remove(0).unwrap_err().contains("empty"));
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Utf8, true)]));
    let sets = BTreeMap::from([("a".to_owned(), SetKind::Strings)]);
    assert!(ItemEncoder::new(&schema, vec!["a".to_owned()], &sets, true).is_err());
}
