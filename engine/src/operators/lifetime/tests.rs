//! Each operator that keeps state without a window, over a lifetime of ten seconds and a restart.

use arrow::{
    array::ArrayRef,
    compute::SortOptions,
    datatypes::{Schema, SchemaRef},
};
use datafusion::physical_expr::{PhysicalExpr, expressions::Column};

use super::*;
use crate::{
    message::{ChangeBatch, RowKind},
    operator::{Operator, OperatorContext, OperatorFactory, Output},
    operators::{
        group_aggregate::{GroupAggregate, Retractable, RetractableCall},
        groups::Grouping,
        join::{Join, JoinBound, JoinKind},
        rank::{Rank, Ties},
        running::RunningAggregate,
        upsert::{ByKey, Keeps},
    },
    state::{StateReader, StateWriter},
    time::Watermark,
};

const TTL: Option<Duration> = Some(Duration::from_secs(10));

#[test]
fn time_stands_still_while_the_job_does_not_run() {
    let running = RunningTime { before_ms: 5_000, since: Instant(1_000_000) };
    let mut lifetime = Lifetime::new(TTL, running);
    assert!(!lifetime.is_over(0), "five of ten seconds are over");
    lifetime.moves_to(Instant(1_004_999));
    assert!(!lifetime.is_over(0));
    lifetime.moves_to(Instant(1_005_000));
    assert!(lifetime.is_over(0) && !lifetime.is_over(1));
    assert!(!Lifetime::new(None, running).is_over(i64::MIN));
}

#[test]
fn sweeps_are_as_rare_as_the_lifetime_is_long() {
    let mut lifetime = Lifetime::new(Some(Duration::from_secs(80)), RunningTime::default());
    assert!(lifetime.is_sweep_due() && !lifetime.is_sweep_due());
    lifetime.moves_to(Instant(10_000));
    assert!(lifetime.is_sweep_due());
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(["k", "v"].map(|name| Field::new(name, DataType::Int64, true)).to_vec()))
}

fn row(key: i64, value: i64) -> ChangeBatch {
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![key])), Arc::new(Int64Array::from(vec![value]))];
    ChangeBatch::inserts(RecordBatch::try_new(schema(), columns).unwrap())
}

fn kinds(out: &mut Output) -> Vec<RowKind> {
    let mut all = Vec::new();
    while let Some(changes) = out.next_changes() {
        all.extend((0..changes.num_rows()).map(|row| changes.kind(row)));
    }
    all
}

/// An operator with what it has saved, at an instant of a machine whose clock began at 0.
struct Run<'f> {
    factory: &'f dyn OperatorFactory,
    operator: Box<dyn Operator>,
    saved: Vec<(String, Vec<RecordBatch>)>,
    running: RunningTime,
}

impl<'f> Run<'f> {
    fn new(factory: &'f dyn OperatorFactory) -> Self {
        let running = RunningTime::default();
        Self { factory, operator: create(factory, running), saved: Vec::new(), running }
    }

    /// What comes out for a row at a second.
    fn give(&mut self, second: i64, input: usize, row: ChangeBatch) -> Vec<RowKind> {
        let mut out = Output::default();
        assert!(self.operator.between_calls(Instant(second * 1000)).is_none());
        let _ = self.operator.on_changes(input, row, &mut out).unwrap();
        kinds(&mut out)
    }

    /// Saves at a second, and goes on an hour later.
    fn restart(&mut self, second: i64) {
        let mut writer = StateWriter::new(false);
        self.operator.snapshot(&mut writer).unwrap();
        for increment in writer.into_increments() {
            self.saved.push((increment.table.to_owned(), increment.batches));
        }
        let before_ms = self.running.at(Instant(second * 1000)) as u64;
        self.running = RunningTime { before_ms, since: Instant((second + 3600) * 1000) };
        self.operator = create(self.factory, self.running);
        let reader = StateReader::new(self.saved.clone(), &(0..128), Watermark::MIN).unwrap();
        self.operator.restore(&reader).unwrap();
    }
}

fn create(factory: &dyn OperatorFactory, running: RunningTime) -> Box<dyn Operator> {
    factory.create(&OperatorContext { running, ..OperatorContext::alone(1 << 30) }).unwrap()
}

/// A key is written at 0, 9 and, after a restart, 18 s of running time: alive. At 28 s it is gone.
fn lives_and_goes(factory: &dyn OperatorFactory, alive: &[RowKind]) {
    let name = factory.name();
    let mut run = Run::new(factory);
    assert_eq!(run.give(0, 0, row(1, 1)), [RowKind::Insert], "{name}");
    assert_eq!(run.give(9, 0, row(1, 2)), alive, "{name}");
    run.restart(12);
    assert_eq!(run.give(3612 + 6, 0, row(1, 3)), alive, "{name} after a restart");
    assert_eq!(run.give(3612 + 16, 0, row(1, 4)), [RowKind::Insert], "{name} when it has gone");
    // What was swept is not there after a restart, and what was not swept is forgotten all the same.
    let mut out = Output::default();
    let _ = run.operator.on_time(Instant((3612 + 30) * 1000), &mut out).unwrap();
    assert_eq!((run.operator.observe().state_rows, kinds(&mut out)), (0, Vec::new()), "{name}");
    run.restart(3612 + 30);
    assert_eq!(run.operator.observe().state_rows, 0, "{name}");
}

#[test]
fn a_key_that_was_not_written_for_its_lifetime_begins_anew() {
    let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new("k", 0));
    let field = Arc::new(Field::new("k", DataType::Int64, true));
    let count = RetractableCall {
        aggregate: Retractable::Count,
        argument: None,
        filter: None,
        order: Vec::new(),
        ignores_nulls: false,
        field: Arc::new(Field::new("n", DataType::Int64, true)),
    };
    let keys = vec![(Arc::clone(&column), Arc::clone(&field))];
    let updated = [RowKind::UpdateBefore, RowKind::UpdateAfter];
    let group = GroupAggregate::new(keys.clone(), vec![count], &schema(), true).unwrap().with_ttl(TTL);
    lives_and_goes(&group, &updated);
    lives_and_goes(&ByKey::new(Keeps::Last, vec![0], schema()).with_ttl(TTL), &updated);
    lives_and_goes(&ByKey::new(Keeps::All, vec![0], schema()).with_ttl(TTL), &[RowKind::UpdateAfter]);
    let order = vec![(1, SortOptions { descending: true, nulls_first: false })];
    let (ties, input) = (Ties::InTurn, schema());
    let best = Rank {
        partition: vec![0],
        order,
        limit: 1,
        window_end: None,
        rank_name: None,
        ties,
        input,
        ttl: TTL,
        is_updated: false,
    };
    lives_and_goes(&best, &[RowKind::Delete, RowKind::Insert]);
}

#[test]
fn a_duplicate_comes_through_again_when_its_key_has_gone() {
    let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new("k", 0));
    let field = Arc::new(Field::new("k", DataType::Int64, true));
    let distinct = Grouping { keys: vec![(column, field)], aggregates: Vec::new() };
    lives_and_goes(&RunningAggregate::new(distinct).unwrap().with_ttl(TTL), &[]);
}

#[test]
fn rows_of_a_join_meet_while_both_live() {
    let join = Join::new(JoinKind::Inner, JoinBound::None, [vec![0], vec![0]], None, [schema(), schema()]);
    let join = join.unwrap().with_ttl(TTL);
    let mut run = Run::new(&join);
    assert!(run.give(0, 0, row(1, 1)).is_empty());
    assert_eq!(run.give(9, 1, row(1, 2)), [RowKind::Insert]);
    run.restart(9);
    assert!(run.give(3610, 1, row(1, 3)).is_empty(), "the left row is ten seconds old");
    assert_eq!(run.give(3610, 0, row(1, 4)).len(), 2, "both right rows live");
    let _ = run.operator.on_time(Instant(3_700_000), &mut Output::default()).unwrap();
    assert_eq!(run.operator.observe().state_rows, 0);
    let back = ChangeBatch { kinds: Some(vec![RowKind::Delete as i8].into()), ..row(1, 4) };
    assert!(run.give(3700, 0, back).is_empty(), "what has gone is not taken back");
}

fn taken_back(key: i64, value: i64) -> ChangeBatch {
    ChangeBatch { kinds: Some(vec![RowKind::Delete as i8].into()), ..row(key, value) }
}

#[test]
fn a_row_that_was_never_given_alone_is_not_taken_back_alone() {
    for (kind, kept) in [(JoinKind::Left, 0), (JoinKind::Right, 1), (JoinKind::Full, 1)] {
        let join = Join::new(kind, JoinBound::None, [vec![0], vec![0]], None, [schema(), schema()]);
        let join = join.unwrap().with_ttl(TTL);
        let mut run = Run::new(&join);
        let _ = run.give(0, 1 - kept, row(1, 1));
        assert!(run.give(9, kept, row(1, 2)).contains(&RowKind::Insert));
        assert!(run.give(12, kept, taken_back(1, 2)).is_empty(), "{kind:?}: its partner has gone, the pair stays");
        assert_eq!(run.give(12, kept, row(1, 3)), [RowKind::Insert]);
        assert_eq!(run.give(13, kept, taken_back(1, 3)), [RowKind::Delete]);
    }
}

#[test]
fn of_equal_rows_the_newest_is_taken_back_with_a_restart_and_without() {
    for restarts in [false, true] {
        let join = Join::new(JoinKind::Inner, JoinBound::None, [vec![0], vec![0]], None, [schema(), schema()]);
        let join = join.unwrap().with_ttl(TTL);
        let mut run = Run::new(&join);
        let _ = run.give(0, 0, row(1, 1));
        let _ = run.give(5, 0, row(1, 1));
        assert!(run.give(8, 0, taken_back(1, 1)).is_empty());
        if restarts {
            run.restart(11);
        }
        assert!(run.give(12, 1, row(1, 2)).is_empty(), "the row of the beginning has gone by itself");
    }
}
