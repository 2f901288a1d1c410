//! Rows and splits at the edges of time: none, too old, too far ahead, NULL, one split much faster than the other.
//!
//! Invariant: every row that is not counted is in an accounting table with its split and offset, and a table written
//! from there holds the same rows.

use std::{sync::Arc, time::Duration};

use arrow::{
    array::{Array, AsArray, Int64Array, RecordBatch, TimestampMillisecondArray},
    datatypes::{DataType, Field, Schema, TimeUnit},
    util::display::{ArrayFormatter, FormatOptions},
};
use headwater_engine::{
    checkpoint::{
        manifest::Manifest,
        store::{CheckpointStore, MemoryStore},
    },
    connector::SplitId,
    inspect,
    message::RowKind,
    runtime::job::{JobConfig, JobSummary, Observer, run},
    testing::{MemoryLog, StepClock},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{connector::Kept, declared::Declared};

/// 2026-01-01 in milliseconds: also what the clock says.
const NOW: i64 = 1_767_225_600_000;

const TABLES: &str = "
CREATE TABLE events (id BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'kept');
CREATE TABLE counts (window_start TIMESTAMP(3), n BIGINT) WITH ('connector' = 'kept');
CREATE TABLE bad (reason VARCHAR, split VARCHAR, off VARCHAR) WITH ('connector' = 'kept');
CREATE TABLE old (id BIGINT, ts TIMESTAMP(3), split VARCHAR, off VARCHAR, inserts VARCHAR) WITH ('connector' = 'kept');
INSERT INTO counts SELECT window_start, count(*) FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND))
  GROUP BY window_start, window_end;
INSERT INTO bad SELECT reason, split, \"offset\" FROM \"events$rejected\";
INSERT INTO old SELECT id, ts, split, \"offset\", inserts FROM \"events$late\";
";

/// Rows of the table `events`; times are seconds after [`NOW`].
fn events(rows: &[(i64, Option<i64>)]) -> RecordBatch {
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true),
    ]);
    let times = rows.iter().map(|(_, time)| time.map(|seconds| NOW + seconds * 1000));
    let times = times.collect::<TimestampMillisecondArray>();
    let ids = Int64Array::from_iter_values(rows.iter().map(|(id, _)| *id));
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(ids), Arc::new(times)]).unwrap()
}

/// A job over logs in memory.
struct Job {
    kept: Arc<Kept>,
    store: Arc<dyn CheckpointStore>,
    summary: JobSummary,
    manifests: Vec<Arc<Manifest>>,
}

/// Runs a script to the end of its logs.
async fn job(script: &str, logs: &[(&str, MemoryLog)], parallelism: usize) -> Job {
    let declared = Declared::new(script, logs).await;
    let store: Arc<dyn CheckpointStore> = Arc::new(MemoryStore::default());
    let (observer, mut newest) = Observer::channel();
    let config = JobConfig {
        clock: Arc::new(StepClock::new(Instant(NOW))),
        interval: Duration::from_millis(5),
        parallelism,
        observer,
        ..JobConfig::new("job", Arc::clone(&store), declared.folder.path())
    };
    let mut manifests = Vec::new();
    let running = run(declared.graph(false).await, config, CancellationToken::new());
    tokio::pin!(running);
    let summary = loop {
        tokio::select! {
            biased;
            Ok(()) = newest.changed() => manifests.extend(newest.borrow_and_update().clone()),
            ended = &mut running => break ended.unwrap(),
        }
    };
    Job { kept: declared.kept, store, summary, manifests }
}

pub(crate) fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut lines = Vec::new();
    for batch in batches {
        let columns: Vec<_> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap()).collect();
        let line = |row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join(" | ");
        lines.extend((0..batch.num_rows()).map(line));
    }
    lines.sort();
    lines
}

impl Job {
    fn table(&self, name: &str) -> Vec<String> {
        lines(&self.kept.tables.lock().unwrap()[name].0.rows())
    }

    async fn aside(&self, name: &str) -> Vec<RecordBatch> {
        let manifest = Arc::new(self.summary.manifest.clone().unwrap());
        inspect::accounting_rows(&self.store, &manifest, name).await.unwrap()
    }
}

fn column(batches: &[RecordBatch], name: &str) -> Vec<String> {
    let of = |batch: &RecordBatch| {
        let column = batch.column_by_name(name).unwrap().as_string::<i32>().clone();
        (0..column.len()).map(|row| column.value(row).to_owned()).collect::<Vec<_>>()
    };
    batches.iter().flat_map(of).collect()
}

#[tokio::test]
async fn null_times_and_late_rows_are_kept_with_split_and_offset_and_feed_other_inserts() {
    for parallelism in [1, 3] {
        let log = MemoryLog::new(false, 2);
        log.append("p-0", events(&[(1, Some(1)), (2, None), (3, Some(60)), (4, Some(2)), (5, Some(58))]));
        log.append("p-1", events(&[(6, Some(3)), (7, Some(64)), (8, None), (9, Some(8))]));
        log.close();
        let job = job(TABLES, &[("events", log)], parallelism).await;
        assert_eq!(
            job.table("counts"),
            ["2026-01-01T00:00:00 | 2", "2026-01-01T00:00:50 | 1", "2026-01-01T00:01:00 | 2"]
        );
        let reason = "event time \"ts\" is NULL";
        assert_eq!(job.table("bad"), [format!("{reason} | p-0 | 1"), format!("{reason} | p-1 | 2")]);
        let late = ["4 | 2026-01-01T00:00:02 | p-0 | 3 | counts", "9 | 2026-01-01T00:00:08 | p-1 | 3 | counts"];
        assert_eq!(job.table("old"), late);
        let (rejected, kept) = (job.aside("events$rejected").await, job.aside("events$late").await);
        let mut offsets = column(&rejected, "offset");
        offsets.sort();
        assert_eq!((offsets, column(&kept, "offset")), (vec!["1".into(), "2".into()], vec!["3".into(); 2]));
        let ledger = &job.summary.ledger["events"];
        let tally = &ledger["counts"];
        assert_eq!((tally.read, tally.rejected, tally.late, tally.released), (9, 2, 2, 5));
        assert_eq!((ledger["bad"].read, ledger["old"].read), (2, 2));
        assert!(ledger.values().all(headwater_engine::accounts::Tally::is_balanced));
    }
}

#[tokio::test]
async fn functions_of_the_clock_say_the_time_of_each_batch_in_the_job() {
    let script = "
        CREATE TABLE events (id BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'kept');
        CREATE TABLE seen (id BIGINT, day DATE, is_now BOOLEAN, are_one BOOLEAN) WITH ('connector' = 'kept');
        CREATE TABLE counts (day DATE, n BIGINT) WITH ('connector' = 'kept');
        INSERT INTO seen SELECT id, current_date, localtimestamp BETWEEN TIMESTAMP '2026-01-01 00:00:00'
          AND TIMESTAMP '2026-01-01 01:00:00', now() = current_timestamp AND PROCTIME() = localtimestamp
          FROM events WHERE ts <= localtimestamp;
        INSERT INTO counts SELECT current_date, count(*) FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '1' DAY))
          GROUP BY window_start, window_end HAVING max(ts) > localtimestamp;";
    let log = MemoryLog::new(false, 2);
    log.append("p-0", events(&[(1, Some(-1)), (2, Some(7200))]));
    log.close();
    // The clock of the job, which is in the past: a planner that reads the machine's keeps both rows.
    let job = job(script, &[("events", log)], 1).await;
    assert_eq!(job.table("seen"), ["1 | 2026-01-01 | true | true"]);
    assert_eq!(job.table("counts"), ["2026-01-01 | 1"]);
}

/// The windows of `TABLES` as others, read as they are and through operators that keep nothing.
fn in_windows(function: &str) -> [String; 3] {
    let plain = TABLES.replace("TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND)", function);
    let union = plain.replace(
        &format!("FROM TABLE({function})"),
        &format!(
            "FROM (SELECT window_start, window_end FROM TABLE({function}) UNION ALL
                   SELECT window_start, window_end FROM TABLE({function}) WHERE id < 0)"
        ),
    );
    let unnested = plain.replace(
        &format!("FROM TABLE({function})\n"),
        &format!("FROM TABLE({function}) CROSS JOIN UNNEST(ARRAY[1]) AS one (x)\n"),
    );
    [plain, union, unnested]
}

#[tokio::test]
async fn a_row_too_late_for_some_of_its_windows_is_in_the_others_whatever_other_splits_do() {
    for script in in_windows("HOP(TABLE events, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND)") {
        for other in [0, 40] {
            let log = MemoryLog::new(false, 1);
            log.append("p-0", events(&[(1, Some(1)), (2, Some(17)), (3, Some(7)), (4, Some(2)), (5, Some(80))]));
            log.append("p-1", events(&[(6, Some(other)), (7, Some(80))]));
            log.close();
            let job = job(&script, &[("events", log)], 2).await;
            let counts = job.table("counts");
            let of_start = |start: &str| counts.iter().filter(|line| line.contains(start)).cloned().collect::<Vec<_>>();
            assert_eq!(of_start("2026-01-01T00:00:05"), ["2026-01-01T00:00:05 | 1"], "{script} {other}");
            let own = if other == 0 { 2 } else { 1 };
            assert_eq!(of_start("2026-01-01T00:00:00"), [format!("2026-01-01T00:00:00 | {own}")], "{script} {other}");
            let late = job.aside("events$late").await;
            let missed = late.iter().flat_map(|batch| {
                let column = batch.column_by_name("missed_until").unwrap();
                let column = column.as_primitive::<arrow::datatypes::TimestampMillisecondType>().clone();
                (0..column.len()).map(move |row| column.is_valid(row).then(|| (column.value(row) - NOW) / 1000))
            });
            let mut missed: Vec<Option<i64>> = missed.collect();
            missed.sort();
            assert_eq!(missed, [None, Some(10)], "{script}");
            let tally = &job.summary.ledger["events"]["counts"];
            assert_eq!((tally.late, tally.partly_late, tally.released), (1, 1, 6), "{script}");
        }
    }
}

#[tokio::test]
async fn a_row_between_two_windows_is_filtered_not_late() {
    let [script, ..] = in_windows("HOP(TABLE events, DESCRIPTOR(ts), INTERVAL '30' SECOND, INTERVAL '10' SECOND)");
    let log = MemoryLog::new(false, 2);
    log.append("p-0", events(&[(1, Some(1)), (2, Some(15)), (3, Some(61)), (4, Some(45)), (5, Some(2))]));
    log.close();
    let job = job(&script, &[("events", log)], 1).await;
    let tally = &job.summary.ledger["events"]["counts"];
    assert_eq!((tally.filtered, tally.late, tally.released), (2, 1, 2), "{tally:?}");
    assert_eq!(job.table("old").len(), 1);
}

#[tokio::test]
async fn a_row_far_ahead_is_counted_and_does_not_move_the_watermark() {
    let log = MemoryLog::new(false, 1);
    let days = 40 * 24 * 3600;
    log.append("p-0", events(&[(1, Some(1)), (2, Some(days)), (3, Some(4)), (4, Some(30)), (5, Some(12))]));
    log.close();
    let job = job(TABLES, &[("events", log)], 1).await;
    assert_eq!(job.table("counts"), ["2026-01-01T00:00:00 | 2", "2026-01-01T00:00:30 | 1", "2026-02-10T00:00:00 | 1"]);
    assert_eq!(column(&job.aside("events$late").await, "offset"), ["4"], "12 s is below 30 s - 5 s");
    let most = job.manifests.iter().filter_map(|manifest| manifest.sources["source:events"].watermark);
    let before_end = most.filter(|watermark| watermark.0 < i64::MAX).max();
    assert!(before_end.is_none_or(|watermark| watermark.0 <= (NOW + 25_000) * 1000), "{before_end:?}");
}

/// The largest watermark of the table in any checkpoint before the end.
fn furthest(job: &Job) -> i64 {
    let watermarks = job.manifests.iter().filter_map(|manifest| manifest.sources["source:events"].watermark);
    watermarks.map(|watermark| watermark.0).filter(|watermark| *watermark < i64::MAX).max().unwrap_or(i64::MIN)
}

#[tokio::test]
async fn an_empty_partition_holds_windows_until_it_is_idle() {
    for (timeout, moves) in [("", false), ("'scan.watermark.idle-timeout' = '20 ms', ", true)] {
        let log = MemoryLog::new(false, 5);
        let rows: Vec<(i64, Option<i64>)> = (0..40).map(|row| (row, Some(row))).collect();
        log.append("full", events(&rows));
        log.append("empty", events(&[]));
        let script = TABLES.replace(
            "('connector' = 'kept');\nCREATE TABLE counts",
            &format!("({timeout}'connector' = 'kept');\nCREATE TABLE counts"),
        );
        let close = async {
            for _ in 0..3_000 {
                tokio::task::yield_now().await;
            }
            log.close();
        };
        let logs = [("events", log.clone())];
        let (job, ()) = tokio::join!(job(&script, &logs, 2), close);
        assert_eq!(job.table("counts").len(), 4);
        assert_eq!(furthest(&job) > NOW * 1000, moves, "{timeout:?}");
    }
}

/// Rows of event time in the split "fast" for one of "slow".
const STEP: u64 = 30;
/// Rows of each.
const ROWS: u64 = 500;

/// How often the split "fast" was read while it was this many seconds ahead of "slow", which had told where it is and had
/// more to read.
fn reads_ahead(reads: &[(SplitId, u64)], drift: u64) -> usize {
    let (mut fast, mut slow, mut ahead) = (0, 0, 0);
    for (split, read) in reads {
        if &*split.0 == "slow" {
            slow = *read;
            continue;
        }
        ahead += usize::from((1..ROWS).contains(&slow) && fast * STEP > slow + drift);
        fast = *read;
    }
    ahead
}

#[tokio::test]
async fn a_fast_split_waits_for_a_slow_one() {
    let rows = |step: u64| (0..ROWS as i64).map(|row| (row, Some(row * step as i64))).collect::<Vec<_>>();
    for option in ["", "'scan.watermark.alignment.max-drift' = '60 s', "] {
        let log = MemoryLog::new(false, 1);
        log.append("fast", events(&rows(STEP)));
        log.append("slow", events(&rows(1)));
        log.close();
        let script = TABLES.replacen("WITH (", &format!("WITH ({option}"), 1);
        let job = job(&script, &[("events", log)], 1).await;
        assert_eq!(job.summary.ledger["events"]["counts"].released, 2 * ROWS, "{option:?}");
        let ahead = reads_ahead(&job.kept.reads.lock().unwrap(), 60 + STEP);
        match option {
            "" => assert!(ahead > 300, "only {ahead} reads, so this proves nothing"),
            // What was on its way when the other first told where it is.
            _ => assert!(ahead <= 2, "{ahead} reads"),
        }
    }
}

#[tokio::test]
async fn processing_time_windows_count_every_row() {
    let script = include_str!("../../../queries/nexmark/processing_time/q12.sql")
        .replace("${source}", "kept")
        .replace("${sink}", "kept");
    let rows = crate::data::rows("bid");
    let log = MemoryLog::new(false, 50);
    log.append("p-0", rows.clone());
    log.close();
    let job = job(&script, &[("bid", log)], 2).await;
    let tally = &job.summary.ledger["bid"]["q12"];
    assert_eq!((tally.read, tally.released, tally.late), (rows.num_rows() as u64, rows.num_rows() as u64, 0));
    let counted: i64 = job.kept.tables.lock().unwrap()["q12"]
        .0
        .rows()
        .iter()
        .map(|rows| rows.column(1).as_primitive::<arrow::datatypes::Int64Type>().values().iter().sum::<i64>())
        .sum();
    assert_eq!(counted, rows.num_rows() as i64);
}

/// One table with both times: each window goes by its own, and rows that are late for one are not for the other.
#[tokio::test]
async fn windows_by_the_clock_go_beside_those_of_event_time() {
    let script = "
CREATE TABLE events (id BIGINT, ts TIMESTAMP(3), pt AS PROCTIME(), WATERMARK FOR ts AS ts) WITH ('connector' = 'kept');
CREATE TABLE counts (window_start TIMESTAMP(3), n BIGINT) WITH ('connector' = 'kept');
CREATE TABLE read_at (window_start TIMESTAMP(3), n BIGINT) WITH ('connector' = 'kept');
INSERT INTO counts SELECT window_start, count(*) FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND))
  GROUP BY window_start, window_end;
INSERT INTO read_at SELECT window_start, count(*)
  FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(pt), INTERVAL '1' DAY)) WHERE id < 4 GROUP BY window_start, window_end;
";
    let log = MemoryLog::new(false, 1);
    log.append("p-0", events(&[(1, Some(1)), (2, Some(-90_000)), (3, Some(25)), (4, Some(2)), (5, Some(26))]));
    log.close();
    let job = job(script, &[("events", log)], 2).await;
    let ledger = &job.summary.ledger["events"];
    assert_eq!((ledger["counts"].late, ledger["counts"].released), (2, 3), "{ledger:?}");
    assert_eq!(
        (ledger["read_at"].late, ledger["read_at"].filtered, ledger["read_at"].released),
        (0, 2, 3),
        "{ledger:?}"
    );
    assert_eq!(job.table("counts"), ["2026-01-01T00:00:00 | 1", "2026-01-01T00:00:20 | 2"]);
    assert_eq!(job.table("read_at"), ["2026-01-01T00:00:00 | 3"], "the day on the clock");
}

/// What there is of no rows: after a job over none, and after all rows have been taken back.
#[tokio::test]
async fn aggregates_without_keys_have_a_row_of_no_rows() {
    let script = "
CREATE TABLE events (id BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'kept');
CREATE TABLE totals (k VARCHAR, n BIGINT, high BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'kept');
INSERT INTO totals SELECT 'none', count(*), max(id) FROM events WHERE id > 100
UNION ALL SELECT 'gone', count(*), max(n) FROM (SELECT id, count(*) AS n FROM events GROUP BY id HAVING count(*) < 2);
";
    let log = MemoryLog::new(false, 1);
    log.append("p-0", events(&[(1, Some(1)), (1, Some(2)), (1, Some(3))]));
    log.close();
    for parallelism in [1, 3] {
        let job = job(script, &[("events", log.clone())], parallelism).await;
        let mut totals = std::collections::BTreeMap::new();
        for changes in job.kept.tables.lock().unwrap()["totals"].0.changes() {
            for row in 0..changes.num_rows() {
                let line = lines(&[changes.rows.slice(row, 1)]).concat();
                totals.insert(line.split(' ').next().unwrap().to_owned(), (changes.kind(row), line));
            }
        }
        let is_there = |kind: &RowKind| matches!(kind, RowKind::Insert | RowKind::UpdateAfter);
        let there: Vec<String> =
            totals.into_values().filter(|(kind, _)| is_there(kind)).map(|(_, line)| line).collect();
        assert_eq!(there, ["gone | 0 | NULL", "none | 0 | NULL"]);
    }
}
