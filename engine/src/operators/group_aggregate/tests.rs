//! Sums, values and their order over rows that are taken back, against what is left.
//!
//! Invariant: every changelog here is folded, and may only take back what it said.

use super::*;
use crate::time::Watermark;
use arrow::array::Float64Array;
use arrow::array::StringArray;
use datafusion::physical_expr::expressions::Column;
use rand::{Rng, SeedableRng, rngs::SmallRng};

fn input() -> SchemaRef {
    let number = |name: &str| Field::new(name, DataType::Int64, true);
    Arc::new(Schema::new(vec![Field::new("k", DataType::Utf8, true), number("v"), number("at")]))
}

fn spec() -> GroupAggregate {
    let value: Arc<dyn PhysicalExpr> = Arc::new(Column::new("v", 1));
    let call = |aggregate, name: &str, argument: Option<&Arc<dyn PhysicalExpr>>| RetractableCall {
        aggregate,
        argument: argument.map(Arc::clone),
        filter: None,
        order: match aggregate {
            Retractable::First | Retractable::Last => {
                vec![(Arc::new(Column::new("at", 2)), SortOptions::default())]
            }
            _ => Vec::new(),
        },
        ignores_nulls: false,
        field: Arc::new(Field::new(name, DataType::Int64, true)),
    };
    let calls = vec![
        call(Retractable::Count, "n", None),
        call(Retractable::Sum, "s", Some(&value)),
        call(Retractable::Min, "lo", Some(&value)),
        call(Retractable::Max, "hi", Some(&value)),
        call(Retractable::CountDistinct, "d", Some(&value)),
        call(Retractable::First, "first", Some(&value)),
        call(Retractable::Last, "last", Some(&value)),
    ];
    let key: Arc<dyn PhysicalExpr> = Arc::new(Column::new("k", 0));
    let field = Arc::new(Field::new("k", DataType::Utf8, true));
    GroupAggregate::new(vec![(key, field)], calls, &input(), true).unwrap()
}

/// Folds what comes out by key and checks it against the rows that were not taken back, over a restore.
#[test]
fn a_folded_changelog_equals_the_aggregate_of_what_is_left() {
    let mut random = SmallRng::seed_from_u64(3);
    let mut operator = spec().create(&OperatorContext::alone(1 << 30)).unwrap();
    let (mut alive, mut at): (Vec<(String, i64, i64)>, i64) = (Vec::new(), 0);
    let mut table: HashMap<String, Vec<Option<i64>>> = HashMap::new();
    let mut saved: Vec<RecordBatch> = Vec::new();
    for _ in 0..60 {
        let mut rows: Vec<((String, i64, i64), RowKind)> = Vec::new();
        for _ in 0..random.random_range(1..12) {
            if !alive.is_empty() && random.random_bool(0.45) {
                let row = alive.swap_remove(random.random_range(0..alive.len()));
                rows.push((row, RowKind::Delete));
            } else {
                at += 1;
                let row = (format!("k{}", random.random_range(0..4)), random.random_range(0..6), at * 7919 % 1009);
                alive.push(row.clone());
                rows.push((row, RowKind::Insert));
            }
        }
        let keys = StringArray::from_iter_values(rows.iter().map(|(row, _)| &row.0));
        let values = Int64Array::from_iter_values(rows.iter().map(|(row, _)| row.1));
        let times = Int64Array::from_iter_values(rows.iter().map(|(row, _)| row.2));
        let kinds = Int8Array::from_iter_values(rows.iter().map(|(_, kind)| *kind as i8));
        let columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(values), Arc::new(times)];
        let rows = RecordBatch::try_new(input(), columns).unwrap();
        let mut out = Output::default();
        let _ = operator.on_changes(0, ChangeBatch::new(rows, Some(kinds)), &mut out).unwrap();
        while let Some(changes) = out.next_changes() {
            fold(&mut table, &changes);
        }
        assert_eq!(table, expected(&alive));
        let mut writer = StateWriter::new(false);
        operator.snapshot(&mut writer).unwrap();
        saved.extend(writer.into_increments().into_iter().flat_map(|increment| increment.batches));
        operator = spec().create(&OperatorContext::alone(1 << 30)).unwrap();
        let tables = vec![("groups".to_owned(), saved.clone())];
        operator.restore(&StateReader::new(tables, &(0..128), Watermark::MIN).unwrap()).unwrap();
    }
}

fn fold(table: &mut HashMap<String, Vec<Option<i64>>>, changes: &ChangeBatch) {
    for row in 0..changes.num_rows() {
        let key = changes.rows.column(0).as_string::<i32>().value(row).to_owned();
        let number = |index: usize| {
            let column = changes.rows.column(index).as_primitive::<Int64Type>();
            column.is_valid(row).then(|| column.value(row))
        };
        let values: Vec<Option<i64>> = (1..8).map(number).collect();
        match changes.kind(row) {
            RowKind::Insert => assert_eq!(table.insert(key, values), None),
            RowKind::UpdateBefore => assert_eq!(table.get(&key), Some(&values)),
            RowKind::UpdateAfter => assert!(table.insert(key, values).is_some()),
            RowKind::Delete => assert_eq!(table.remove(&key), Some(values)),
        }
    }
}

fn expected(alive: &[(String, i64, i64)]) -> HashMap<String, Vec<Option<i64>>> {
    let mut by_key: HashMap<String, Vec<(i64, i64)>> = HashMap::new();
    alive.iter().for_each(|(key, value, at)| by_key.entry(key.clone()).or_default().push((*at, *value)));
    let row = |mut rows: Vec<(i64, i64)>| {
        rows.sort();
        let mut values: Vec<i64> = rows.iter().map(|(_, value)| *value).collect();
        let (first, last) = (values.first().copied(), values.last().copied());
        let (count, sum) = (values.len() as i64, values.iter().sum());
        values.sort();
        let (low, high) = (values.first().copied(), values.last().copied());
        values.dedup();
        vec![Some(count), Some(sum), low, high, Some(values.len() as i64), first, last]
    };
    by_key.into_iter().map(|(key, values)| (key, row(values))).collect()
}

/// What `sum(v)` and `avg(v)` are after these changes to one key, with a restore between any two.
fn totals(values: ArrayRef, kinds: &[RowKind], result: &DataType, average: &DataType) -> Vec<ScalarValue> {
    let value: Arc<dyn PhysicalExpr> = Arc::new(Column::new("v", 0));
    let input = Arc::new(Schema::new(vec![Field::new("v", values.data_type().clone(), true)]));
    let call = |aggregate, name: &str, data_type: &DataType| RetractableCall {
        aggregate,
        argument: Some(Arc::clone(&value)),
        filter: None,
        order: Vec::new(),
        ignores_nulls: false,
        field: Arc::new(Field::new(name, data_type.clone(), true)),
    };
    let calls = vec![call(Retractable::Sum, "s", result), call(Retractable::Avg, "a", average)];
    let grouped = GroupAggregate::new(Vec::new(), calls, &input, false).unwrap();
    let (mut saved, mut last) = (Vec::new(), Vec::new());
    for (row, kind) in kinds.iter().enumerate() {
        let mut operator = grouped.create(&OperatorContext::alone(1 << 30)).unwrap();
        let tables = vec![("groups".to_owned(), saved.clone())];
        operator.restore(&StateReader::new(tables, &(0..128), Watermark::MIN).unwrap()).unwrap();
        let rows = RecordBatch::try_new(Arc::clone(&input), vec![values.slice(row, 1)]).unwrap();
        let kinds = Some(Int8Array::from(vec![*kind as i8]));
        let mut out = Output::default();
        let _ = operator.on_changes(0, ChangeBatch::new(rows, kinds), &mut out).unwrap();
        while let Some(changes) = out.next_changes() {
            let of = |column: usize| ScalarValue::try_from_array(changes.rows.column(column), 0).unwrap();
            last = vec![of(0), of(1)];
        }
        let mut writer = StateWriter::new(false);
        operator.snapshot(&mut writer).unwrap();
        saved.extend(writer.into_increments().into_iter().flat_map(|increment| increment.batches));
    }
    last
}

#[test]
fn doubles_that_are_taken_back_leave_no_trace() {
    use RowKind::{Delete, Insert};
    for gone in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e308, 1e17] {
        let values: ArrayRef = Arc::new(Float64Array::from(vec![gone, gone, 0.1, gone, gone, 0.2]));
        let kinds = [Insert, Insert, Insert, Delete, Delete, Insert];
        let found = totals(values, &kinds, &DataType::Float64, &DataType::Float64);
        let sum = 0.1 + 0.2;
        assert_eq!(found, [ScalarValue::Float64(Some(sum)), ScalarValue::Float64(Some(sum / 2.0))], "{gone}");
    }
}

#[test]
fn whole_and_decimal_sums_may_be_too_large_on_the_way() {
    use RowKind::{Delete, Insert};
    let (kinds, one) = ([Insert, Insert, Delete, Insert], |value| ScalarValue::Int64(Some(value)));
    let values: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX, -1, i64::MAX, 3]));
    assert_eq!(totals(values, &kinds, &DataType::Int64, &DataType::Decimal128(38, 0))[0], one(2));
    let decimal = DataType::Decimal128(38, 2);
    let large = 10_i128.pow(38) - 1;
    let values = arrow::array::Decimal128Array::from(vec![large, -large, large, 705]);
    let values: ArrayRef = Arc::new(values.with_data_type(decimal.clone()));
    let found = totals(values, &kinds, &decimal, &decimal);
    let of = |value| ScalarValue::Decimal128(Some(value), 38, 2);
    assert_eq!(found, [of(705 - large), of((705 - large) / 2)]);
}

#[test]
fn a_batch_may_pass_the_range_of_its_sum() {
    let value: Arc<dyn PhysicalExpr> = Arc::new(Column::new("v", 0));
    let input = Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, true)]));
    let field = Arc::new(Field::new("s", DataType::Int64, true));
    let (aggregate, argument) = (Retractable::Sum, Some(value));
    let call = RetractableCall { aggregate, argument, filter: None, order: Vec::new(), ignores_nulls: false, field };
    let mut operator = GroupAggregate::new(Vec::new(), vec![call], &input, false)
        .unwrap()
        .create(&OperatorContext::alone(1 << 30))
        .unwrap();
    let change = |values: Vec<i64>| {
        let rows = RecordBatch::try_new(Arc::clone(&input), vec![Arc::new(Int64Array::from(values))]).unwrap();
        ChangeBatch::inserts(rows)
    };
    let mut out = Output::default();
    let _ = operator.on_changes(0, change(vec![i64::MAX, 5, -5]), &mut out).unwrap();
    let sum = out.next_changes().unwrap().rows.column(0).as_primitive::<Int64Type>().value(0);
    assert_eq!(sum, i64::MAX);
    let error = operator.on_changes(0, change(vec![1]), &mut out).unwrap_err();
    assert!(error.to_string().contains("Overflow"), "{error}");
}

#[test]
fn state_of_another_type_is_an_error_and_never_a_sum_of_nothing() {
    let restored = |kept: &DataType, values: ArrayRef, counts: Vec<i64>| {
        let mut cell = Cell::sum_of(kept);
        let mut encoder = KeyEncoder::new([kept.clone()]).unwrap();
        cell.restore(&values, &Int64Array::from(counts), &mut encoder).map(|()| cell.total(kept, kept).unwrap())
    };
    let whole = DataType::Decimal256(76, 0);
    let number = |value: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![value])) };
    let error = restored(&whole, number(300), vec![2]).unwrap_err();
    assert_eq!(error.message(), "a checkpoint keeps an aggregate as Int64, which is not its state");
    assert!(restored(&DataType::Float64, number(300), vec![2, 1, 0, 0, 0]).is_err());
    assert!(restored(&DataType::Float64, Arc::new(Float64Array::from(vec![300.0])), vec![2]).is_err());
    let none = arrow::array::new_empty_array(&whole);
    assert!(restored(&whole, Arc::clone(&none), vec![2]).is_err() && restored(&whole, none, vec![]).is_err());
    let kept = Float64Array::from(vec![300.0]);
    let total = restored(&DataType::Float64, Arc::new(kept), vec![2, 1, 0, 0, 0]).unwrap();
    assert_eq!(total, ScalarValue::Float64(Some(300.0)));
}

/// What older checkpoints have of sums is not taken up; what they have of other aggregates is.
#[test]
fn the_fingerprint_says_how_sums_are_kept() {
    let of = |aggregate| {
        let call = spec().calls.into_iter().find(|call| call.aggregate == aggregate).unwrap();
        GroupAggregate::new(Vec::new(), vec![call], &input(), true).unwrap().fingerprint().unwrap()
    };
    let sum = of(Retractable::Sum);
    assert!(sum.starts_with("group-aggregate 2: ") && sum.ends_with("sums as Decimal256(76, 0)"), "{sum}");
    assert!(of(Retractable::Max).starts_with("group-aggregate 1: "));
}
