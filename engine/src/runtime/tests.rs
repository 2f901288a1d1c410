//! Whole jobs on the memory log and table: straight, stopped and restored, killed at random, at several parallelisms.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arrow::{
    array::{AsArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray},
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType},
};
use datafusion::{
    functions_aggregate::{count::count_udaf, sum::sum_udaf},
    logical_expr::Operator,
    physical_expr::{
        PhysicalExpr,
        aggregate::AggregateExprBuilder,
        expressions::{BinaryExpr, Column, Literal},
    },
    scalar::ScalarValue,
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio_util::sync::CancellationToken;

use crate::{
    checkpoint::store::{CheckpointStore, MemoryStore},
    connector::{Carries, ChangelogMode, Sink},
    graph::{
        Branch, BranchInput, Exchange, Graph, Input, Lateness, Malformed, NodeKind, OperatorNode, SinkNode, SourceNode,
        Step, TimeSpec, WatermarkRule,
    },
    operators::{
        groups::{AggregateCall, Grouping},
        window_aggregate::{WindowAggregate, Windows},
    },
    runtime::job::{JobConfig, JobSummary, run},
    testing::{MemoryLog, MemoryTable, StepClock},
    time::Instant,
    window::WindowSpec,
};

mod changes;
mod faults;
mod simulation;

/// `(key, milliseconds, value)`.
type Event = (String, i64, i64);

/// `(key, window start, window end) -> (count, sum)`.
type Result_ = BTreeMap<(String, i64, i64), (i64, i64)>;

const START: i64 = 1_000_000;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Utf8, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("v", DataType::Int64, true),
    ]))
}

fn rows(events: &[Event]) -> RecordBatch {
    let keys = StringArray::from_iter_values(events.iter().map(|event| &event.0));
    let times = TimestampMillisecondArray::from_iter_values(events.iter().map(|event| event.1));
    let values = Int64Array::from_iter_values(events.iter().map(|event| event.2));
    RecordBatch::try_new(schema(), vec![Arc::new(keys), Arc::new(times), Arc::new(values)]).unwrap()
}

fn column(name: &str, index: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(name, index))
}

fn grouping() -> Grouping {
    let call = |name: &str, udaf, arg| {
        let function = AggregateExprBuilder::new(udaf, vec![arg]).schema(schema()).alias(name).build().unwrap();
        AggregateCall { function: Arc::new(function), filter: None }
    };
    let one: Arc<dyn PhysicalExpr> = Arc::new(Literal::new(ScalarValue::Int64(Some(1))));
    Grouping {
        keys: vec![(column("k", 0), Arc::new(Field::new("k", DataType::Utf8, true)))],
        aggregates: vec![call("n", count_udaf(), one), call("s", sum_udaf(), column("v", 2))],
    }
}

/// `SELECT k, window_start, window_end, count(*), sum(v) FROM log WHERE v >= 0 GROUP BY k, window`, watermark `ts - 100 ms`.
fn graph(log: &MemoryLog, table: &MemoryTable, spec: WindowSpec) -> Arc<Graph> {
    graph_into(log, spec, Arc::new(table.clone()))
}

/// The same into a sink that stands before the table.
fn graph_into(log: &MemoryLog, spec: WindowSpec, into: Arc<dyn Sink>) -> Arc<Graph> {
    let delay: Arc<dyn PhysicalExpr> = Arc::new(Literal::new(ScalarValue::DurationMillisecond(Some(100))));
    let watermark = BinaryExpr::new(column("ts", 1), Operator::Minus, delay);
    let zero: Arc<dyn PhysicalExpr> = Arc::new(Literal::new(ScalarValue::Int64(Some(0))));
    let filter = BinaryExpr::new(column("v", 2), Operator::GtEq, zero);
    let time_type = DataType::Timestamp(TimeUnit::Millisecond, None);
    let windows = Windows::Assign { spec, time: 1 };
    let aggregate = WindowAggregate::new(windows, grouping(), time_type, 0).unwrap();
    let partial = aggregate.partial().unwrap();
    let mut graph = Graph::default();
    let source = graph.add(
        "source:log",
        NodeKind::Source(Box::new(SourceNode {
            table: "log".into(),
            source: Arc::new(log.clone()),
            columns: schema(),
            metadata: Vec::new(),
            project: None,
            time: Some(TimeSpec {
                column: 1,
                clocks: Vec::new(),
                watermark: WatermarkRule::Expr(Arc::new(watermark)),
                idle_timeout: None,
                max_ahead: Duration::from_secs(86_400),
                alignment: None,
            }),
            branches: vec![Branch {
                insert: "out".into(),
                input: BranchInput::Rows,
                of: None,
                steps: vec![Step::Filter(Arc::new(filter))],
                lateness: Some(Lateness::Windows { windows: spec, allowed: 0 }),
                holds: true,
                tells: Vec::new(),
                carries: Carries::Nothing,
                schema: partial.schema(),
                local: vec![partial],
            }],
            malformed: Malformed::Reject,
            not_null: Vec::new(),
            whole: None,
        })),
    );
    let input = |from, exchange| Input { from, branch: 0, exchange };
    let keys = Exchange::Hash(aggregate.exchange_keys());
    let operator = aggregate.finish().unwrap();
    let node = OperatorNode { inputs: vec![input(source, keys)], operator };
    let counted = graph.add("out/window-aggregate", NodeKind::Operator(node));
    let sink = SinkNode {
        table: "out".into(),
        insert: "out".into(),
        input: input(counted, Exchange::Forward),
        sink: into,
        not_null: Vec::new(),
        lengths: Vec::new(),
        schema: aggregate.output_schema(),
    };
    graph.add("sink:out", NodeKind::Sink(sink));
    Arc::new(graph)
}

fn config(store: Arc<dyn CheckpointStore>, parallelism: usize) -> JobConfig {
    JobConfig {
        clock: Arc::new(StepClock::new(Instant(START))),
        interval: Duration::from_millis(25),
        parallelism,
        restarts: 50,
        ..JobConfig::new("job", store, std::env::temp_dir().join(format!("headwater-{}", uuid::Uuid::new_v4())))
    }
}

/// Events out of order by at most 90 ms, so that none is late behind a watermark of 100 ms, and some that WHERE drops.
fn events(seed: u64, count: i64) -> Vec<Event> {
    let mut random = SmallRng::seed_from_u64(seed);
    let event = |index: i64| {
        let time = START + index * 7 - random.random_range(0..90);
        (format!("key-{}", random.random_range(0..9)), time, random.random_range(-2..20))
    };
    (0..count).map(event).collect()
}

fn fill(log: &MemoryLog, events: &[Event], splits: usize) {
    for (split, chunk) in (0..splits).map(|split| (split, events.iter().skip(split).step_by(splits))) {
        let chunk: Vec<Event> = chunk.cloned().collect();
        log.append(&format!("split-{split}"), rows(&chunk));
    }
}

fn expected(events: &[Event], spec: WindowSpec) -> Result_ {
    let mut result = Result_::new();
    for (key, time, value) in events.iter().filter(|event| event.2 >= 0) {
        for window in spec.windows_of_pane(spec.pane_of(time * 1000)) {
            let entry = result.entry((key.clone(), window.start / 1000, window.end / 1000)).or_default();
            *entry = (entry.0 + 1, entry.1 + value);
        }
    }
    result
}

fn expected_sessions(events: &[Event], gap_ms: i64) -> Result_ {
    let mut by_key: BTreeMap<String, Vec<(i64, i64)>> = BTreeMap::new();
    for (key, time, value) in events.iter().filter(|event| event.2 >= 0) {
        by_key.entry(key.clone()).or_default().push((*time, *value));
    }
    let mut result = Result_::new();
    for (key, mut rows) in by_key {
        rows.sort();
        let mut session: Option<(i64, i64, i64, i64)> = None;
        for (time, value) in rows {
            session = Some(match session {
                Some((start, end, count, sum)) if time - end <= gap_ms => (start, time, count + 1, sum + value),
                other => {
                    other.map(|(start, end, count, sum)| {
                        result.insert((key.clone(), start, end + gap_ms), (count, sum))
                    });
                    (time, time, 1, value)
                }
            });
        }
        session.map(|(start, end, count, sum)| result.insert((key.clone(), start, end + gap_ms), (count, sum)));
    }
    result
}

/// What the table holds; a window that is there twice fails the test.
fn actual(table: &MemoryTable) -> Result_ {
    let mut result = Result_::new();
    for batch in table.rows() {
        let (starts, ends) = (batch.column(1), batch.column(2));
        let time = |column: &arrow::array::ArrayRef, row| column.as_primitive::<TimestampMillisecondType>().value(row);
        for row in 0..batch.num_rows() {
            let key = (batch.column(0).as_string::<i32>().value(row).to_owned(), time(starts, row), time(ends, row));
            let number = |index: usize| batch.column(index).as_primitive::<Int64Type>().value(row);
            let twice = result.insert(key.clone(), (number(3), number(4)));
            assert_eq!(twice, None, "{key:?} came out twice");
        }
    }
    result
}

fn check_ledger(summary: &JobSummary, events: &[Event]) {
    let tally = &summary.ledger["log"]["out"];
    assert!(tally.is_balanced(), "{tally:?}");
    assert_eq!(tally.read, events.len() as u64);
    assert_eq!(tally.filtered, events.iter().filter(|event| event.2 < 0).count() as u64);
    assert_eq!(tally.late, 0);
    assert_eq!(tally.held_rows(), 0);
}

const TUMBLE: WindowSpec = WindowSpec::Tumble { size: 300_000, offset: 0 };
const HOP: WindowSpec = WindowSpec::Hop { size: 600_000, slide: 200_000, offset: 0 };
const CUMULATE: WindowSpec = WindowSpec::Cumulate { size: 900_000, step: 300_000, offset: 0 };
const SESSION: WindowSpec = WindowSpec::Session { gap: 30_000 };

async fn straight(spec: WindowSpec, parallelism: usize, batch_rows: usize) -> Result_ {
    let events = events(7, 2000);
    let log = MemoryLog::new(true, batch_rows);
    fill(&log, &events, 3);
    let table = MemoryTable::new(ChangelogMode::Append, 2);
    let config = config(Arc::new(MemoryStore::default()), parallelism);
    let summary = run(graph(&log, &table, spec), config, CancellationToken::new()).await.unwrap();
    check_ledger(&summary, &events);
    let expected = if let WindowSpec::Session { gap } = spec {
        expected_sessions(&events, gap / 1000)
    } else {
        expected(&events, spec)
    };
    let actual = actual(&table);
    assert_eq!(actual, expected, "{spec:?} at {parallelism}, batches of {batch_rows}");
    actual
}

#[tokio::test]
async fn every_window_equals_the_batch_result_at_any_parallelism_and_batch_size() {
    for spec in [TUMBLE, HOP, CUMULATE, SESSION] {
        for (parallelism, batch_rows) in [(1, 1000), (3, 1000), (1, 1), (4, 17)] {
            straight(spec, parallelism, batch_rows).await;
        }
    }
}

/// Events so far out of order that many come too late for some of their windows, and some for all; by split.
fn disordered(seed: u64) -> Vec<Vec<Event>> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut event = |index: i64| {
        let late = if random.random_bool(0.3) { random.random_range(0..900) } else { 0 };
        (format!("key-{}", random.random_range(0..4)), START + 1000 + index * 9 - late, random.random_range(-2..20))
    };
    (0..3).map(|_| (0..300).map(&mut event).collect()).collect()
}

/// What each split's own watermark leaves of the windows, how many rows missed some of theirs, and how many all.
fn expected_in_part(splits: &[Vec<Event>], spec: WindowSpec) -> (Result_, u64, u64) {
    let (mut result, mut part, mut late) = (Result_::new(), 0, 0);
    for split in splits {
        let mut watermark = i64::MIN;
        for (key, time, value) in split {
            let windows = spec.windows_of_pane(spec.pane_of(time * 1000));
            let open: Vec<_> = windows.iter().filter(|window| window.end > watermark).collect();
            if *value >= 0 {
                part += u64::from(!open.is_empty() && open.len() < windows.len());
                late += u64::from(open.is_empty());
                for window in open {
                    let entry = result.entry((key.clone(), window.start / 1000, window.end / 1000)).or_default();
                    *entry = (entry.0 + 1, entry.1 + value);
                }
            }
            watermark = watermark.max((time - 100) * 1000);
        }
    }
    (result, part, late)
}

/// A split that is far behind the others or far ahead of them, a restart, another parallelism: none of it decides which
/// windows a row takes part in.
#[tokio::test]
async fn what_a_row_misses_depends_on_its_own_split_alone() {
    for (seed, spec) in (0..4).flat_map(|seed| [HOP, CUMULATE].map(|spec| (seed, spec))) {
        let mut splits = disordered(seed);
        splits[2].iter_mut().for_each(|event| event.1 += 3000 * (seed as i64 % 3 - 1));
        let (expected, part, late) = expected_in_part(&splits, spec);
        assert!(part > 10 && late > 10, "{part} and {late} rows prove nothing");
        for (parallelism, batch_rows, steps) in [(1, 100, 1), (3, 7, 1), (2, 50, 5), (3, 1, 3)] {
            let log = MemoryLog::new(false, batch_rows);
            let table = MemoryTable::new(ChangelogMode::Append, 3);
            let store: Arc<dyn CheckpointStore> = Arc::new(MemoryStore::default());
            for step in 0..steps {
                for (name, events) in splits.iter().enumerate() {
                    let length = events.len() / steps;
                    log.append(&format!("split-{name}"), rows(&events[step * length..(step + 1) * length]));
                }
                let config = JobConfig { once: true, ..config(Arc::clone(&store), 1 + (parallelism + step) % 3) };
                run(graph(&log, &table, spec), config, CancellationToken::new()).await.unwrap();
            }
            log.close();
            let last = config(Arc::clone(&store), parallelism);
            let summary = run(graph(&log, &table, spec), last, CancellationToken::new()).await.unwrap();
            let what = format!("{spec:?}, seed {seed}, {parallelism} tasks, batches of {batch_rows}, {steps} steps");
            assert_eq!(actual(&table), expected, "{what}");
            let tally = &summary.ledger["log"]["out"];
            assert!(tally.is_balanced(), "{tally:?}");
            assert_eq!((tally.partly_late, tally.late), (part, late), "{what}");
        }
    }
}

/// Runs a job in `--once` steps while the log grows, at a new parallelism each time, then to its end.
#[tokio::test]
async fn stopped_and_restored_at_other_parallelisms() {
    for spec in [TUMBLE, HOP, CUMULATE, SESSION] {
        let events = events(11, 1500);
        let log = MemoryLog::new(false, 50);
        let table = MemoryTable::new(ChangelogMode::Append, 3);
        let store: Arc<dyn CheckpointStore> = Arc::new(MemoryStore::default());
        for (step, chunk) in events.chunks(250).enumerate() {
            fill(&log, chunk, 2 + step % 2);
            let config = JobConfig { once: true, ..config(Arc::clone(&store), 1 + step % 4) };
            run(graph(&log, &table, spec), config, CancellationToken::new()).await.unwrap();
        }
        log.close();
        let config = config(Arc::clone(&store), 2);
        let summary = run(graph(&log, &table, spec), config, CancellationToken::new()).await.unwrap();
        let tally = &summary.ledger["log"]["out"];
        assert!(tally.is_balanced() && tally.held_rows() == 0, "{tally:?}");
        let on_time: i64 = actual(&table).values().map(|(count, _)| count).sum();
        if spec == TUMBLE {
            assert_eq!(on_time as u64, tally.released, "every row that was neither late nor filtered is counted");
        }
        assert!(tally.late < events.len() as u64 / 2, "{tally:?}");
    }
}

/// Gives way this many times, then is done: cutting a job here is a crash at that instruction.
async fn after_steps(steps: u64) {
    for _ in 0..steps {
        tokio::task::yield_now().await;
    }
}

fn null_time(key: &str) -> RecordBatch {
    let keys = StringArray::from(vec![key]);
    let times = TimestampMillisecondArray::new_null(1);
    RecordBatch::try_new(schema(), vec![Arc::new(keys), Arc::new(times), Arc::new(Int64Array::from(vec![5]))]).unwrap()
}

#[tokio::test]
async fn late_and_null_rows_are_rows_of_their_tables_with_split_and_offset() {
    let log = MemoryLog::new(true, 1);
    let minute = 60_000;
    let on_time = |offset: i64, value| ("a".to_owned(), START + offset * minute, value);
    // The third row closes the first window, so the fourth is late; the last is far ahead and moves nothing.
    log.append("s", rows(&[on_time(0, 1), on_time(1, 2), on_time(9, 3), on_time(1, 4)]));
    log.append("s", null_time("b"));
    log.append("s", rows(&[on_time(60 * 24 * 365, 6), on_time(10, 7)]));
    let table = MemoryTable::new(ChangelogMode::Append, 1);
    let store: Arc<dyn CheckpointStore> = Arc::new(MemoryStore::default());
    let graph = graph(&log, &table, TUMBLE);
    let summary = run(graph, config(Arc::clone(&store), 2), CancellationToken::new()).await.unwrap();
    let tally = &summary.ledger["log"]["out"];
    assert_eq!((tally.read, tally.rejected, tally.late, tally.released), (7, 1, 1, 5), "{tally:?}");
    let manifest = summary.manifest.unwrap();
    let late = crate::inspect::accounting_rows(&store, &manifest, "log$late").await.unwrap();
    assert_eq!(late.len(), 1);
    let text =
        |batch: &RecordBatch, name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().value(0).to_owned();
    assert_eq!(
        (text(&late[0], "split"), text(&late[0], "offset"), text(&late[0], "inserts")),
        ("s".into(), "3".into(), "out".into())
    );
    assert_eq!(late[0].column(2).as_primitive::<Int64Type>().value(0), 4);
    let rejected = crate::inspect::accounting_rows(&store, &manifest, "log$rejected").await.unwrap();
    assert_eq!(text(&rejected[0], "reason"), "event time \"ts\" is NULL");
    assert_eq!(text(&rejected[0], "offset"), "4");
    let total: i64 = actual(&table).values().map(|(_, sum)| sum).sum();
    assert_eq!(total, 1 + 2 + 3 + 6 + 7);
}

#[tokio::test]
async fn stopping_takes_a_last_checkpoint_and_the_next_run_goes_on_from_it() {
    let events = events(3, 600);
    let log = MemoryLog::new(false, 40);
    fill(&log, &events, 2);
    let table = MemoryTable::new(ChangelogMode::Append, 1);
    let store: Arc<dyn CheckpointStore> = Arc::new(MemoryStore::default());
    let stop = CancellationToken::new();
    let first = run(graph(&log, &table, TUMBLE), config(Arc::clone(&store), 2), stop.clone());
    let cancel = async {
        after_steps(400).await;
        stop.cancel();
    };
    let (stopped, ()) = tokio::join!(first, cancel);
    let manifest = stopped.unwrap().manifest.unwrap();
    assert_eq!(manifest.cut, crate::connector::Cut::Final);
    let clock: Arc<dyn crate::time::Clock> = Arc::new(StepClock::new(Instant(START)));
    let jobs = crate::inspect::jobs(&store, &clock).await.unwrap();
    assert!(jobs.len() == 1 && jobs[0].has_ended() && jobs[0].is_committed, "{jobs:?}");
    log.close();
    let summary = run(graph(&log, &table, TUMBLE), config(store, 3), CancellationToken::new()).await.unwrap();
    check_ledger(&summary, &events);
    assert_eq!(actual(&table), expected(&events, TUMBLE));
}

#[tokio::test]
async fn a_changed_query_is_refused_until_the_loss_of_state_is_allowed() {
    let events = events(3, 300);
    let log = MemoryLog::new(false, 40);
    fill(&log, &events, 2);
    let table = MemoryTable::new(ChangelogMode::Append, 1);
    let store: Arc<dyn CheckpointStore> = Arc::new(MemoryStore::default());
    let once = JobConfig { once: true, ..config(Arc::clone(&store), 2) };
    run(graph(&log, &table, TUMBLE), once.clone(), CancellationToken::new()).await.unwrap();
    let refused = run(graph(&log, &table, HOP), once.clone(), CancellationToken::new()).await.unwrap_err();
    assert!(refused.message().contains("\"out/window-aggregate\" computes something else now"), "{refused}");
    let allowed = JobConfig { allow_drop: true, ..once };
    run(graph(&log, &table, HOP), allowed, CancellationToken::new()).await.unwrap();
}

/// Events over many keys, so that state is far larger than the limit.
#[tokio::test]
async fn state_over_the_memory_limit_spills_and_changes_nothing() {
    let mut random = SmallRng::seed_from_u64(1);
    let events: Vec<Event> = (0..20_000)
        .map(|index| (format!("key-{}", random.random_range(0..8_000)), START + index * 60, random.random_range(0..9)))
        .collect();
    let long = WindowSpec::Tumble { size: 400_000_000, offset: 0 };
    for spec in [long, WindowSpec::Hop { size: 600_000_000, slide: 300_000_000, offset: 0 }] {
        let log = MemoryLog::new(true, 2000);
        fill(&log, &events, 2);
        let table = MemoryTable::new(ChangelogMode::Append, 1);
        let store: Arc<dyn CheckpointStore> = Arc::new(MemoryStore::default());
        let limited = JobConfig {
            memory_limit: 300 << 10,
            clock: Arc::new(crate::time::SystemClock),
            interval: Duration::from_millis(300),
            ..config(Arc::clone(&store), 2)
        };
        let summary = run(graph(&log, &table, spec), limited, CancellationToken::new()).await.unwrap();
        check_ledger(&summary, &events);
        assert_eq!(actual(&table), expected(&events, spec));
        let operator = &summary.manifest.unwrap().operators["out/window-aggregate"];
        assert!(operator.observed.spilled_bytes > 0, "{:?}", operator.observed);
    }
}
