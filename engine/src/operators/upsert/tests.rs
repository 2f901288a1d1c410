//! Random changes through each kind, restored after every batch, against a fold by hand.

use super::*;
use crate::time::Watermark;
use arrow::{array::Int64Array, datatypes::Int64Type};
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use std::collections::BTreeMap;

type Change = (i64, i64, RowKind);

fn spec(keeps: Keeps) -> ByKey {
    let fields = ["k", "v"].map(|name| Field::new(name, DataType::Int64, true));
    ByKey::new(keeps, vec![0], Arc::new(Schema::new(fields.to_vec())))
}

fn operator(keeps: Keeps) -> Box<dyn Operator> {
    spec(keeps).create(&OperatorContext::alone(1 << 30)).unwrap()
}

fn batch(changes: &[Change]) -> ChangeBatch {
    let column =
        |of: fn(&Change) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(changes.iter().map(of))) };
    let rows = RecordBatch::try_new(spec(Keeps::All).schema, vec![column(|c| c.0), column(|c| c.1)]).unwrap();
    let kinds = Int8Array::from_iter_values(changes.iter().map(|change| change.2 as i8));
    ChangeBatch::new(rows, Some(kinds))
}

fn changes(out: &mut Output) -> Vec<Change> {
    let mut all = Vec::new();
    while let Some(changes) = out.next_changes() {
        let number = |column: usize, row| changes.rows.column(column).as_primitive::<Int64Type>().value(row);
        all.extend((0..changes.num_rows()).map(|row| (number(0, row), number(1, row), changes.kind(row))));
    }
    all
}

/// Runs the batches through one kind, restoring after each; what came out.
fn run(keeps: Keeps, batches: &[Vec<Change>]) -> Vec<Change> {
    let (mut running, mut saved, mut all) = (operator(keeps), Vec::new(), Vec::new());
    for (index, one) in batches.iter().enumerate() {
        let mut out = Output::default();
        let _ = running.on_changes(0, batch(one), &mut out).unwrap();
        all.extend(changes(&mut out));
        let whole = index % 5 == 4;
        let mut writer = StateWriter::new(whole);
        running.snapshot(&mut writer).unwrap();
        if whole {
            saved.clear();
        }
        saved.extend(writer.into_increments().into_iter().flat_map(|increment| increment.batches));
        running = operator(keeps);
        let tables = vec![(TABLE.to_owned(), saved.clone())];
        running.restore(&StateReader::new(tables, &(0..128), Watermark::MIN).unwrap()).unwrap();
    }
    all
}

fn upserted(changes: &[Change]) -> BTreeMap<i64, i64> {
    let mut table = BTreeMap::new();
    for (key, value, kind) in changes {
        match kind {
            RowKind::Insert | RowKind::UpdateAfter => drop(table.insert(*key, *value)),
            RowKind::Delete => drop(table.remove(key)),
            RowKind::UpdateBefore => panic!("an upsert has no old rows"),
        }
    }
    table
}

#[test]
fn a_normalized_changelog_takes_back_exactly_what_it_gave() {
    let mut random = SmallRng::seed_from_u64(1);
    let mut expected = BTreeMap::new();
    let mut batches = Vec::new();
    for _ in 0..40 {
        let mut one = Vec::new();
        for _ in 0..9 {
            let (key, value) = (random.random_range(0..6), random.random_range(0..4));
            let kind = if random.random_bool(0.3) { RowKind::Delete } else { RowKind::UpdateAfter };
            if kind == RowKind::Delete {
                expected.remove(&key)
            } else {
                expected.insert(key, value)
            };
            one.push((key, value, kind));
        }
        batches.push(one);
    }
    let mut table: BTreeMap<i64, i64> = BTreeMap::new();
    for (key, value, kind) in run(Keeps::Last, &batches) {
        match kind {
            RowKind::Insert | RowKind::UpdateAfter => assert_eq!(table.insert(key, value), None),
            RowKind::UpdateBefore | RowKind::Delete => assert_eq!(table.remove(&key), Some(value)),
        }
    }
    assert_eq!(table, expected);
}

#[test]
fn a_materialized_key_has_a_row_as_long_as_one_is_left() {
    let mut random = SmallRng::seed_from_u64(2);
    let mut live: Vec<(i64, i64)> = Vec::new();
    let mut batches = Vec::new();
    for _ in 0..60 {
        let mut one = Vec::new();
        for _ in 0..5 {
            if random.random_bool(0.5) && !live.is_empty() {
                let gone = *live.choose(&mut random).unwrap();
                let place = live.iter().rposition(|row| *row == gone).unwrap();
                live.remove(place);
                one.push((gone.0, gone.1, RowKind::Delete));
            } else {
                let row = (random.random_range(0..4), random.random_range(0..9));
                live.push(row);
                one.push((row.0, row.1, RowKind::Insert));
            }
        }
        batches.push(one);
    }
    let expected: BTreeMap<i64, i64> = live.into_iter().collect();
    assert_eq!(upserted(&run(Keeps::All, &batches)), expected);
}

#[test]
fn compacting_keeps_the_last_change_of_a_key() {
    let mut operator = operator(Keeps::Nothing);
    let mut out = Output::default();
    let all = [
        (1, 1, RowKind::UpdateBefore),
        (1, 2, RowKind::UpdateAfter),
        (2, 5, RowKind::Insert),
        (3, 7, RowKind::UpdateBefore),
    ];
    let _ = operator.on_changes(0, batch(&all), &mut out).unwrap();
    let expected = [(1, 2, RowKind::UpdateAfter), (2, 5, RowKind::Insert), (3, 7, RowKind::Delete)];
    assert_eq!(changes(&mut out), expected);
}
