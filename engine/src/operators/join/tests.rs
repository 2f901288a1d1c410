//! The join against inputs whose answer is known.

use std::collections::BTreeMap;

use arrow::{
    array::{AsArray, Int8Array, Int64Array, TimestampMicrosecondArray},
    datatypes::{DataType, Int64Type, TimeUnit},
};
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::*;
use crate::{
    message::{ChangeBatch, RowKind},
    operator::{Output, Progress},
    runtime::micros,
    state::{StateReader, StateWriter},
    time::Watermark,
};

/// `(key, value, time)`; a negative key is NULL.
type Row = (i64, i64, i64);
type Bag = BTreeMap<(Option<Row>, Option<Row>), i64>;

fn side() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("v", DataType::Int64, true),
        Field::new("t", DataType::Timestamp(TimeUnit::Microsecond, None), false),
    ]))
}

fn rows(rows: &[Row], kinds: Option<Vec<i8>>) -> ChangeBatch {
    let keys: Int64Array = rows.iter().map(|row| (row.0 >= 0).then_some(row.0)).collect();
    let values = Int64Array::from_iter_values(rows.iter().map(|row| row.1));
    let times = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.2));
    let rows = RecordBatch::try_new(side(), vec![Arc::new(keys), Arc::new(values), Arc::new(times)]).unwrap();
    ChangeBatch::new(rows, kinds.map(Int8Array::from))
}

fn collect(bag: &mut Bag, out: &mut Output) {
    while let Some(changes) = out.next_changes() {
        let part = |first: usize, row: usize| {
            let time = micros(changes.rows.column(first + 2)).unwrap();
            if time.is_null(row) {
                return None;
            }
            let number = |column: usize| changes.rows.column(column).as_primitive::<Int64Type>();
            let key = if number(first).is_null(row) { -1 } else { number(first).value(row) };
            Some((key, number(first + 1).value(row), time.value(row)))
        };
        for row in 0..changes.num_rows() {
            let entry = bag.entry((part(0, row), part(3, row))).or_default();
            *entry += match changes.kind(row) {
                RowKind::Insert | RowKind::UpdateAfter => 1,
                RowKind::Delete | RowKind::UpdateBefore => -1,
            };
            assert!(*entry >= 0, "a row was taken back that was not there");
        }
    }
    bag.retain(|_, count| *count != 0);
}

fn expected(kind: JoinKind, left: &[Row], right: &[Row], within: impl Fn(i64, i64) -> bool) -> Bag {
    let mut bag = Bag::new();
    let meet = |l: &Row, r: &Row| l.0 >= 0 && l.0 == r.0 && within(l.2, r.2);
    for l in left {
        for r in right.iter().filter(|r| meet(l, r)) {
            *bag.entry((Some(*l), Some(*r))).or_default() += 1;
        }
        if kind.keeps(0) && !right.iter().any(|r| meet(l, r)) {
            *bag.entry((Some(*l), None)).or_default() += 1;
        }
    }
    for r in right.iter().filter(|r| kind.keeps(1) && !left.iter().any(|l| meet(l, r))) {
        *bag.entry((None, Some(*r))).or_default() += 1;
    }
    bag
}

fn restart(join: &Join, operator: &mut Box<dyn Operator>, saved: &mut [Vec<RecordBatch>; 2], watermark: Watermark) {
    let mut writer = StateWriter::new(false);
    operator.snapshot(&mut writer).unwrap();
    for increment in writer.into_increments() {
        saved[usize::from(increment.table == "right")].extend(increment.batches);
    }
    *operator = join.create(&OperatorContext::alone(1 << 30)).unwrap();
    let tables = vec![("left".to_owned(), saved[0].clone()), ("right".to_owned(), saved[1].clone())];
    operator.restore(&StateReader::new(tables, &(0..128), watermark).unwrap()).unwrap();
}

const KINDS: [JoinKind; 4] = [JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full];

#[test]
fn without_bound_the_folded_changelog_equals_the_join_of_what_is_left() {
    for kind in KINDS {
        let join = Join::new(kind, JoinBound::None, [vec![0], vec![0]], None, [side(), side()]).unwrap();
        let mut random = SmallRng::seed_from_u64(9);
        let mut operator = join.create(&OperatorContext::alone(1 << 30)).unwrap();
        let (mut alive, mut saved, mut bag) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()], Bag::new());
        for step in 0..120 {
            let input: usize = random.random_range(0..2);
            let (mut batch, mut kinds) = (Vec::new(), Vec::new());
            for _ in 0..random.random_range(1..5) {
                if !alive[input].is_empty() && random.random_bool(0.4) {
                    let at = random.random_range(0..alive[input].len());
                    batch.push(alive[input].swap_remove(at));
                    kinds.push(RowKind::Delete as i8);
                } else {
                    let row: Row = (random.random_range(-1..4), random.random_range(0..3), 0);
                    alive[input].push(row);
                    batch.push(row);
                    kinds.push(RowKind::Insert as i8);
                }
            }
            let mut out = Output::default();
            let _ = operator.on_changes(input, rows(&batch, Some(kinds)), &mut out).unwrap();
            collect(&mut bag, &mut out);
            assert_eq!(bag, expected(kind, &alive[0], &alive[1], |_, _| true), "{kind:?} step {step}");
            if step % 3 == 0 {
                restart(&join, &mut operator, &mut saved, Watermark::MIN);
            }
        }
    }
}

#[test]
fn within_an_interval_it_equals_the_join_of_all_rows() {
    let (lower, upper) = (-5, 8);
    for kind in KINDS {
        let bound = JoinBound::Interval { times: [2, 2], lower, upper };
        let join = Join::new(kind, bound, [vec![0], vec![0]], None, [side(), side()]).unwrap();
        let mut random = SmallRng::seed_from_u64(4);
        let mut operator = join.create(&OperatorContext::alone(1 << 30)).unwrap();
        let (mut all, mut saved, mut bag) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()], Bag::new());
        for step in 0..200i64 {
            let input: usize = random.random_range(0..2);
            let row = |_| (random.random_range(-1..3), random.random_range(0..99), step + random.random_range(0..6));
            let batch: Vec<Row> = (0..2).map(row).collect();
            all[input].extend(batch.clone());
            let mut out = Output::default();
            let _ = operator.on_changes(input, rows(&batch, None), &mut out).unwrap();
            let _ = operator.on_watermark(Watermark(step), &mut out).unwrap();
            collect(&mut bag, &mut out);
            if step % 7 == 0 {
                restart(&join, &mut operator, &mut saved, Watermark(step));
            }
        }
        let mut out = Output::default();
        let _ = operator.on_watermark(Watermark::MAX, &mut out).unwrap();
        collect(&mut bag, &mut out);
        let within = |left: i64, right: i64| left + lower <= right && right <= left + upper;
        assert_eq!(bag, expected(kind, &all[0], &all[1], within), "{kind:?}");
    }
}

#[test]
fn within_windows_it_equals_the_join_of_equal_window_ends() {
    for kind in KINDS {
        let join =
            Join::new(kind, JoinBound::Window { ends: [2, 2] }, [vec![0, 2], vec![0, 2]], None, [side(), side()]);
        let join = join.unwrap();
        let mut random = SmallRng::seed_from_u64(8);
        let mut operator = join.create(&OperatorContext::alone(1 << 30)).unwrap();
        let (mut all, mut saved, mut bag) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()], Bag::new());
        for step in 0..60i64 {
            let input: usize = random.random_range(0..2);
            let row = |_| (random.random_range(-1..3), random.random_range(0..99), (step / 10 + 1) * 10);
            let batch: Vec<Row> = (0..2).map(row).collect();
            all[input].extend(batch.clone());
            let mut out = Output::default();
            let _ = operator.on_changes(input, rows(&batch, None), &mut out).unwrap();
            while operator.on_watermark(Watermark(step), &mut out).unwrap() == Progress::More {}
            collect(&mut bag, &mut out);
            restart(&join, &mut operator, &mut saved, Watermark(step));
        }
        let mut out = Output::default();
        while operator.on_watermark(Watermark::MAX, &mut out).unwrap() == Progress::More {}
        collect(&mut bag, &mut out);
        assert_eq!(bag, expected(kind, &all[0], &all[1], |left, right| left == right), "{kind:?}");
    }
}
