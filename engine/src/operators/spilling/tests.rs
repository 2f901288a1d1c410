//! Every keyed operator with memory for all and with memory for almost nothing, over restarts: the same comes out.

use std::collections::BTreeMap;

use arrow::{
    array::{Int64Array, StringArray, TimestampMicrosecondArray},
    compute::SortOptions,
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
    util::display::array_value_to_string,
};
use datafusion::physical_expr::{PhysicalExpr, expressions::Column};
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::*;
use crate::{
    checkpoint::files::decode,
    message::RowKind,
    operator::OperatorFactory,
    operators::{
        group_aggregate::{GroupAggregate, Retractable, RetractableCall},
        groups::Grouping,
        join::{Join, JoinBound, JoinKind},
        rank::{Rank, Ties},
        running::RunningAggregate,
        upsert::{ByKey, Keeps},
        window_aggregate::{WindowAggregate, Windows},
    },
    window::WindowSpec,
};

/// A folder that is gone after the test.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("headwater-spilling-{}-{count}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const ROUNDS: i64 = 16;
const ROWS: i64 = 500;
/// How many rounds the watermark is behind.
const LAG: i64 = 9;

fn input() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Utf8, true),
        Field::new("v", DataType::Int64, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), true),
    ]))
}

/// Rows whose times are within 20 of the round's, and windows that end at tens.
fn rows(random: &mut SmallRng, round: i64, keys: i64) -> ChangeBatch {
    let events: Vec<(String, i64, i64)> = (0..ROWS)
        .map(|_| {
            let key = format!("a key with some length {}", random.random_range(0..keys));
            (key, random.random_range(0..1000), 10 * (round + random.random_range(1..3)))
        })
        .collect();
    let keys = StringArray::from_iter_values(events.iter().map(|event| &event.0));
    let values = Int64Array::from_iter_values(events.iter().map(|event| event.1));
    let times = TimestampMicrosecondArray::from_iter_values(events.iter().map(|event| event.2));
    let columns: Vec<arrow::array::ArrayRef> = vec![Arc::new(keys), Arc::new(values), Arc::new(times)];
    ChangeBatch::inserts(RecordBatch::try_new(input(), columns).unwrap())
}

fn context(limit: usize, folder: &Scratch) -> OperatorContext {
    OperatorContext { spill: folder.0.clone(), ..OperatorContext::alone(limit) }
}

/// An operator with what came out of it and what its checkpoint holds.
struct Driven {
    operator: Box<dyn Operator>,
    folded: BTreeMap<String, i64>,
    saved: BTreeMap<String, Vec<RecordBatch>>,
    spilled: u64,
    watermark: Watermark,
    /// It moves after each checkpoint.
    now: Instant,
}

enum Call {
    Changes(usize, ChangeBatch),
    Watermark(Watermark),
    Barrier,
    Time,
}

impl Driven {
    fn new(operator: Box<dyn Operator>) -> Self {
        let (folded, saved) = (BTreeMap::new(), BTreeMap::new());
        Self { operator, folded, saved, spilled: 0, watermark: Watermark::MIN, now: Instant(0) }
    }

    async fn call(&mut self, call: Call) {
        let (mut out, mut first) = (Output::default(), true);
        loop {
            if let Some(work) = self.operator.between_calls(self.now) {
                work.await.unwrap();
            }
            let progress = match &call {
                Call::Changes(input, changes) if first => self.operator.on_changes(*input, changes.clone(), &mut out),
                Call::Changes(..) => self.operator.resume(&mut out),
                Call::Watermark(watermark) => self.operator.on_watermark(*watermark, &mut out),
                Call::Barrier => self.operator.on_barrier(&mut out),
                Call::Time => self.operator.on_time(self.now, &mut out),
            };
            first = false;
            while let Some(changes) = out.next_changes() {
                self.fold(&changes);
            }
            if progress.unwrap() == Progress::Done {
                break;
            }
        }
        if let Call::Watermark(watermark) = call {
            self.watermark = watermark;
        }
    }

    fn fold(&mut self, changes: &ChangeBatch) {
        for row in 0..changes.num_rows() {
            let cells = changes.rows.columns().iter().map(|column| array_value_to_string(column, row).unwrap());
            let text = cells.collect::<Vec<_>>().join("|");
            let sign = match changes.kind(row) {
                RowKind::Insert | RowKind::UpdateAfter => 1,
                RowKind::UpdateBefore | RowKind::Delete => -1,
            };
            *self.folded.entry(text).or_default() += sign;
        }
    }

    fn left(self) -> BTreeMap<String, i64> {
        self.folded.into_iter().filter(|(_, count)| *count != 0).collect()
    }

    async fn checkpoint(&mut self) {
        self.call(Call::Barrier).await;
        let mut writer = StateWriter::new(false);
        self.operator.snapshot(&mut writer).unwrap();
        for increment in writer.into_increments() {
            let saved = self.saved.entry(increment.table.to_owned()).or_default();
            if increment.whole {
                saved.clear();
            }
            for (path, _) in increment.files {
                saved.extend(decode("spilled", std::fs::read(path).unwrap().into()).unwrap());
            }
            saved.extend(increment.batches);
        }
        self.spilled = self.spilled.max(self.operator.observe().spilled_bytes);
        self.now = Instant(self.now.0 + 1000);
        self.call(Call::Time).await;
    }

    /// Goes on in a new operator, with some tables in parts.
    async fn restart(&mut self, operator: Box<dyn Operator>) {
        self.operator = operator;
        for (table, batches) in &self.saved {
            for batch in batches {
                let part = vec![(table.clone(), vec![batch.clone()])];
                let part = StateReader::new(part, &(0..128), self.watermark).unwrap();
                assert!(self.operator.restore_part(&part).unwrap());
                if let Some(work) = self.operator.between_calls(self.now) {
                    work.await.unwrap();
                }
            }
        }
        let rest = StateReader::new(Vec::new(), &(0..128), self.watermark).unwrap();
        self.operator.restore(&rest).unwrap();
    }
}

/// What comes out with this much memory, and how much went to disk.
async fn run(factory: &dyn OperatorFactory, limit: usize, inputs: usize, keys: i64) -> (BTreeMap<String, i64>, u64) {
    let folder = Scratch::new();
    let mut random = SmallRng::seed_from_u64(11);
    let mut driven = Driven::new(factory.create(&context(limit, &folder)).unwrap());
    for round in 0..ROUNDS {
        for input in 0..inputs {
            driven.call(Call::Changes(input, rows(&mut random, round, keys))).await;
        }
        driven.call(Call::Watermark(Watermark(10 * (round - LAG)))).await;
        if round % 5 == 4 {
            driven.checkpoint().await;
        }
        if round == 9 {
            driven.restart(factory.create(&context(limit, &folder)).unwrap()).await;
        }
    }
    driven.call(Call::Watermark(Watermark::MAX)).await;
    driven.checkpoint().await;
    let spilled = driven.spilled;
    (driven.left(), spilled)
}

async fn check(name: &str, factory: &dyn OperatorFactory, inputs: usize, keys: i64) {
    let (unlimited, nothing) = run(factory, usize::MAX, inputs, keys).await;
    let (limited, spilled) = run(factory, 1 << 10, inputs, keys).await;
    assert_eq!(nothing, 0, "{name}");
    assert!(spilled > 0, "{name} never went to disk");
    assert!(unlimited.len() > 1000, "{name}: {}", unlimited.len());
    assert!(limited == unlimited, "{name}: {} rows and {}", limited.len(), unlimited.len());
}

fn column(name: &str, index: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(name, index))
}

fn key() -> (Arc<dyn PhysicalExpr>, Arc<Field>) {
    (column("k", 0), Arc::new(Field::new("k", DataType::Utf8, true)))
}

#[tokio::test]
async fn a_group_by_whose_rows_may_be_taken_back() {
    let call = |aggregate, name: &str| RetractableCall {
        aggregate,
        argument: Some(column("v", 1)),
        filter: None,
        order: Vec::new(),
        ignores_nulls: false,
        field: Arc::new(Field::new(name, DataType::Int64, true)),
    };
    let calls = vec![call(Retractable::Sum, "s"), call(Retractable::Max, "m")];
    let factory = GroupAggregate::new(vec![key()], calls, &input(), true).unwrap();
    check("group by", &factory, 1, 3000).await;
}

#[tokio::test]
async fn a_group_by_of_rows_that_stay() {
    let factory = RunningAggregate::new(Grouping { keys: vec![key()], aggregates: Vec::new() }).unwrap();
    check("running", &factory, 1, 6000).await;
}

#[tokio::test]
async fn the_last_row_of_each_key() {
    check("normalize", &ByKey::new(Keeps::Last, vec![0], input()), 1, 3000).await;
}

#[tokio::test]
async fn the_best_rows_of_each_key_and_window() {
    for (window_end, is_updated) in [(None, false), (None, true), (Some(2), false)] {
        let order = vec![(1, SortOptions { descending: true, nulls_first: false }), (2, SortOptions::default())];
        let (rank_name, ties) = (Some("r".into()), Ties::InTurn);
        let partition = if window_end.is_some() { vec![0, 2] } else { vec![0] };
        let rank =
            Rank { partition, order, limit: 2, window_end, rank_name, ties, input: input(), ttl: None, is_updated };
        check("rank", &rank, 1, 3000).await;
    }
}

#[tokio::test]
async fn joins_of_every_kind_and_bound() {
    let bounds = [
        ("window join", JoinBound::Window { ends: [2, 2] }),
        ("interval join", JoinBound::Interval { times: [2, 2], lower: -40, upper: 10 }),
        ("interval join ahead", JoinBound::Interval { times: [2, 2], lower: -40, upper: -10 }),
        ("join", JoinBound::None),
    ];
    for (name, bound) in bounds {
        for kind in if bound == JoinBound::None { vec![JoinKind::Inner, JoinKind::Full] } else { vec![JoinKind::Full] }
        {
            let keys = if let JoinBound::Window { .. } = bound { vec![0, 2] } else { vec![0] };
            let join = Join::new(kind, bound, [keys.clone(), keys], None, [input(), input()]).unwrap();
            check(name, &join, 2, 2500).await;
        }
    }
}

#[tokio::test]
async fn sessions() {
    let windows = Windows::Assign { spec: WindowSpec::Session { gap: 15 }, time: 2 };
    let grouping = Grouping { keys: vec![key()], aggregates: Vec::new() };
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let spec = WindowAggregate::new(windows, grouping, time, 0).unwrap();
    let partial = spec.partial().unwrap();
    let folder = Scratch::new();
    let mut make = partial.create(&context(usize::MAX, &folder)).unwrap();
    let finish = spec.finish().unwrap();
    let mut ran = Vec::new();
    for limit in [usize::MAX, 1 << 10] {
        let mut random = SmallRng::seed_from_u64(11);
        let mut driven = Driven::new(finish.create(&context(limit, &folder)).unwrap());
        for round in 0..ROUNDS {
            let mut out = Output::default();
            let _ = make.on_changes(0, rows(&mut random, round, 3000), &mut out).unwrap();
            while let Some(pieces) = out.next_changes() {
                driven.call(Call::Changes(0, pieces)).await;
            }
            driven.call(Call::Watermark(Watermark(10 * (round - LAG)))).await;
            if round % 5 == 4 {
                driven.checkpoint().await;
            }
            if round == 9 {
                driven.restart(finish.create(&context(limit, &folder)).unwrap()).await;
            }
        }
        driven.call(Call::Watermark(Watermark::MAX)).await;
        driven.checkpoint().await;
        let spilled = driven.spilled;
        ran.push((driven.left(), spilled));
    }
    assert_eq!(ran[0].1, 0);
    assert!(ran[1].1 > 0 && ran[0].0.len() > 1000);
    assert!(ran[0].0 == ran[1].0);
}

/// Rows come in one interval between checkpoints and their keys are over in a later one, in memory as on disk.
#[tokio::test]
async fn state_with_a_lifetime() {
    let ttl = Some(std::time::Duration::from_millis(1500));
    let call = RetractableCall {
        aggregate: Retractable::Sum,
        argument: Some(column("v", 1)),
        filter: None,
        order: Vec::new(),
        ignores_nulls: false,
        field: Arc::new(Field::new("s", DataType::Int64, true)),
    };
    let grouped = GroupAggregate::new(vec![key()], vec![call], &input(), true).unwrap();
    let (for_ever, _) = run(&grouped, usize::MAX, 1, 3000).await;
    let (limited, _) = run(&grouped.clone().with_ttl(ttl), usize::MAX, 1, 3000).await;
    assert_ne!(for_ever, limited, "no key was ever over");
    check("group by", &grouped.with_ttl(ttl), 1, 3000).await;
    let running = RunningAggregate::new(Grouping { keys: vec![key()], aggregates: Vec::new() }).unwrap();
    check("running", &running.with_ttl(ttl), 1, 6000).await;
    let order = vec![(1, SortOptions { descending: true, nulls_first: false }), (2, SortOptions::default())];
    let (rank_name, ties) = (Some("r".into()), Ties::InTurn);
    let rank = Rank {
        partition: vec![0],
        order,
        limit: 2,
        window_end: None,
        rank_name,
        ties,
        input: input(),
        ttl,
        is_updated: false,
    };
    check("rank", &rank, 1, 3000).await;
    check("rank of rows that change", &Rank { is_updated: true, ..rank }, 1, 3000).await;
    let join = Join::new(JoinKind::Left, JoinBound::None, [vec![0], vec![0]], None, [input(), input()]).unwrap();
    check("join", &join.with_ttl(ttl), 2, 2500).await;
    check("normalize", &ByKey::new(Keeps::Last, vec![0], input()).with_ttl(ttl), 1, 3000).await;
}

/// One key that alone is larger than the limit cannot be divided.
#[tokio::test]
async fn a_key_larger_than_memory_is_refused_by_name() {
    let join = Join::new(JoinKind::Inner, JoinBound::None, [vec![0], vec![0]], None, [input(), input()]).unwrap();
    let folder = Scratch::new();
    let mut random = SmallRng::seed_from_u64(2);
    let mut operator = join.create(&context(1 << 10, &folder)).unwrap();
    let mut refused = None;
    'rounds: for round in 0..40 {
        let mut out = Output::default();
        let _ = operator.on_changes(0, rows(&mut random, round, 1), &mut out).unwrap();
        loop {
            if let Some(work) = operator.between_calls(Instant(0)) {
                work.await.unwrap();
            }
            match operator.on_barrier(&mut out) {
                Ok(Progress::Done) => break,
                Ok(Progress::More) => {}
                Err(error) => {
                    refused = Some(error);
                    break 'rounds;
                }
            }
        }
        let mut writer = StateWriter::new(false);
        operator.snapshot(&mut writer).unwrap();
    }
    let refused = refused.unwrap();
    assert!(refused.message().contains("operator \"test\"") && refused.message().contains("memory.limit"), "{refused}");
    assert!(refused.hint().is_some_and(|hint| hint.contains("raise memory.limit")));
}
