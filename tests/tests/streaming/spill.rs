//! More open keys than memory holds: they go to local disk, and the result is that of a job with memory for all, also
//! when what is on disk comes back at another parallelism.
//!
//! `HEADWATER_SPILL_KEYS=5000000` runs it at the size of the claim: five million keys under 64 MB.

use std::{collections::BTreeMap, ops::Range, sync::Arc, time::Duration};

use arrow::{
    array::{AsArray, Int64Array, RecordBatch, TimestampMillisecondArray},
    datatypes::{DataType, Field, Int64Type, Schema, TimeUnit},
};
use headwater_engine::{
    checkpoint::store::MemoryStore,
    runtime::job::{JobConfig, Observer, run},
    testing::{MemoryLog, MemoryTable},
};
use tokio_util::sync::CancellationToken;

use crate::{connector::Kept, declared::Declared};

const SUMS: &str = "
CREATE TABLE events (k BIGINT, v BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'kept');
CREATE TABLE sums (k BIGINT, n BIGINT, s BIGINT) WITH ('connector' = 'kept');
INSERT INTO sums SELECT k, count(*), sum(v) FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '1' HOUR))
  GROUP BY k, window_start, window_end;
";

/// Bytes of `memory.limit` for a million keys: 64 MB for five.
const LIMIT_PER_MILLION: usize = (64 << 20) / 5;

/// Rows of a log in which every key is twice in one window, far apart.
fn rows(keys: i64, rows: Range<i64>) -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("v", DataType::Int64, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true),
    ]));
    let k = Int64Array::from_iter_values(rows.clone().map(|row| row * 7919 % keys));
    let v = Int64Array::from_iter_values(rows.clone());
    let ts = TimestampMillisecondArray::from_iter_values(rows.map(|row| row * 3_000_000 / (2 * keys)));
    RecordBatch::try_new(schema, vec![Arc::new(k), Arc::new(v), Arc::new(ts)]).unwrap()
}

fn log(keys: i64) -> MemoryLog {
    let log = MemoryLog::new(false, 8192);
    for part in 0..(2 * keys + 65_535) / 65_536 {
        log.append("p-0", rows(keys, part * 65_536..((part + 1) * 65_536).min(2 * keys)));
    }
    log.close();
    log
}

/// A job over the logs of its tables, life after life.
struct Lives {
    declared: Declared,
    store: Arc<MemoryStore>,
}

/// When a life is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    End,
    /// At the first checkpoint with so many operators that have state on disk.
    Spilled(usize),
}

impl Lives {
    async fn new(script: &str, logs: &[(&str, MemoryLog)]) -> Self {
        Self { declared: Declared::new(script, logs).await, store: Arc::default() }
    }

    /// Runs the job; the most bytes a checkpoint saw on local disk, over all operators.
    async fn live(&self, parallelism: usize, memory_limit: usize, until: Until) -> u64 {
        let (observer, mut newest) = Observer::channel();
        let interval = Duration::from_millis(if until == Until::End { 500 } else { 20 });
        let config = JobConfig {
            interval,
            parallelism,
            memory_limit,
            observer,
            ..JobConfig::new("job", Arc::clone(&self.store) as _, self.declared.folder.path())
        };
        let stop = CancellationToken::new();
        let running = run(self.declared.graph(false).await, config, stop.clone());
        tokio::pin!(running);
        let mut spilled = 0;
        loop {
            tokio::select! {
                Ok(()) = newest.changed() => {
                    let manifest = newest.borrow_and_update().clone();
                    let now = manifest.iter().flat_map(|manifest| manifest.operators.values());
                    let bytes: Vec<u64> = now.map(|state| state.observed.spilled_bytes).collect();
                    spilled = spilled.max(bytes.iter().sum());
                    if matches!(until, Until::Spilled(count) if bytes.iter().filter(|bytes| **bytes > 0).count() >= count) {
                        stop.cancel();
                    }
                }
                ended = &mut running => break drop(ended.unwrap()),
            }
        }
        spilled
    }

    /// The rows of the table "sums", by key.
    fn sums(&self) -> Vec<(i64, i64, i64)> {
        let mut sums = Vec::new();
        for rows in self.declared.kept.tables.lock().unwrap()["sums"].0.rows() {
            let column = |index: usize| rows.column(index).as_primitive::<Int64Type>().values().to_vec();
            sums.extend(column(0).into_iter().zip(column(1)).zip(column(2)).map(|((k, n), s)| (k, n, s)));
        }
        sums.sort_unstable();
        sums
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn open_keys_over_the_memory_limit_spill_and_nothing_changes() {
    let keys = std::env::var("HEADWATER_SPILL_KEYS").ok().and_then(|keys| keys.parse().ok()).unwrap_or(300_000);
    let log = log(keys);
    let limited = Lives::new(SUMS, &[("events", log.clone())]).await;
    let limit = keys as usize * LIMIT_PER_MILLION / 1_000_000;
    assert!(limited.live(2, limit, Until::End).await > 0, "nothing went to disk");
    let unlimited = Lives::new(SUMS, &[("events", log)]).await;
    assert_eq!(unlimited.live(2, 16 << 30, Until::End).await, 0);
    let sums = limited.sums();
    assert_eq!(sums.len() as i64, keys);
    assert!(sums.iter().all(|(_, n, _)| *n == 2));
    assert_eq!(sums.iter().map(|(_, _, s)| s).sum::<i64>(), keys * (2 * keys - 1));
    assert!(sums == unlimited.sums(), "the sums differ");
}

/// Windows, sessions, joins and groups, each behind an exchange of its own.
const SHAPES: &str = "
CREATE TABLE events (k BIGINT, v BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'kept');
CREATE TABLE others (k BIGINT, v BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'kept');
CREATE TABLE windows (k BIGINT, n BIGINT, s BIGINT) WITH ('connector' = 'kept');
CREATE TABLE sessions (k BIGINT, n BIGINT, s BIGINT) WITH ('connector' = 'kept');
CREATE TABLE joined (k BIGINT, v BIGINT, w BIGINT) WITH ('connector' = 'kept');
CREATE TABLE groups (k BIGINT, n BIGINT, s BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'kept');
CREATE TABLE best (k BIGINT, v BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'kept');
INSERT INTO windows SELECT k, count(*), sum(v) FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '1' HOUR))
  GROUP BY k, window_start, window_end;
INSERT INTO sessions SELECT k, count(*), sum(v)
  FROM TABLE(SESSION(TABLE events PARTITION BY k, DESCRIPTOR(ts), INTERVAL '2' HOUR)) GROUP BY k, window_start, window_end;
INSERT INTO joined SELECT e.k, e.v, o.v FROM events e JOIN others o ON e.k = o.k;
INSERT INTO groups SELECT k, count(*), sum(v) FROM events GROUP BY k;
INSERT INTO best SELECT k, v FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY v DESC) AS r FROM events) WHERE r = 1;
";
/// Operators of them with state that may go to disk.
const SHAPES_KEPT: usize = 5;

/// The rows of each table, keyed ones folded.
fn tables(kept: &Kept) -> BTreeMap<String, Vec<Vec<i64>>> {
    let tables = kept.tables.lock().unwrap();
    let rows = |table: &MemoryTable, is_keyed: bool| {
        let (mut all, mut by_key) = (Vec::new(), BTreeMap::new());
        for changes in table.changes() {
            for row in 0..changes.num_rows() {
                let columns = changes.rows.columns().iter();
                let values: Vec<i64> = columns.map(|column| column.as_primitive::<Int64Type>().value(row)).collect();
                match is_keyed {
                    true => drop(by_key.insert(values[0], values)),
                    false => all.push(values),
                }
            }
        }
        all.extend(by_key.into_values());
        all.sort();
        all
    };
    tables.iter().map(|(name, (table, spec))| (name.clone(), rows(table, !spec.primary_key.is_empty()))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn state_on_disk_comes_back_at_another_parallelism() {
    const KEYS: i64 = 2_000;
    let straight = Lives::new(SHAPES, &[("events", log(KEYS)), ("others", log(KEYS))]).await;
    assert_eq!(straight.live(1, usize::MAX, Until::End).await, 0);
    let expected = tables(&straight.declared.kept);
    let lengths = expected.values().map(Vec::len).filter(|length| *length > 0);
    assert_eq!(lengths.collect::<Vec<_>>(), [2000, 2000, 8000, 2000, 2000]);
    let logs = [("events", MemoryLog::new(false, 64)), ("others", MemoryLog::new(false, 64))];
    let lives = Lives::new(SHAPES, &logs).await;
    for (life, parallelism) in [2, 3, 1, 4].into_iter().enumerate() {
        let part = life as i64 * 1000..(life as i64 + 1) * 1000;
        logs.iter().for_each(|(_, log)| log.append("p-0", rows(KEYS, part.clone())));
        assert!(lives.live(parallelism, 1, Until::Spilled(SHAPES_KEPT)).await > 0);
    }
    logs.iter().for_each(|(_, log)| log.close());
    // All of it fits again.
    lives.live(2, usize::MAX, Until::End).await;
    assert!(tables(&lives.declared.kept) == expected, "a restored table differs");
}
