//! More open keys than memory holds: they go to local disk, and the result is that of a job with memory for all.
//!
//! `HEADWATER_SPILL_KEYS=5000000` runs it at the size of the claim: five million keys under 64 MB.

use std::{sync::Arc, time::Duration};

use arrow::{
    array::{AsArray, Int64Array, RecordBatch, TimestampMillisecondArray},
    datatypes::{DataType, Field, Int64Type, Schema, TimeUnit},
};
use headwater_connectors::catalogs::memory::MemoryCatalog;
use headwater_engine::{
    checkpoint::store::MemoryStore,
    runtime::job::{JobConfig, Observer, run},
    testing::MemoryLog,
};
use headwater_sql::{
    lower::lower_inserts,
    parser::{Parameters, StatementKind, parse},
    session::{Session, SessionConfig},
};
use tokio_util::sync::CancellationToken;

use crate::connector::Kept;

const SCRIPT: &str = "
CREATE TABLE events (k BIGINT, v BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'kept');
CREATE TABLE sums (k BIGINT, n BIGINT, s BIGINT) WITH ('connector' = 'kept');
INSERT INTO sums SELECT k, count(*), sum(v) FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '1' HOUR))
  GROUP BY k, window_start, window_end;
";

/// Bytes of `memory.limit` for a million keys: 64 MB for five.
const LIMIT_PER_MILLION: usize = (64 << 20) / 5;

/// Every key twice in one window, far apart.
fn log(keys: i64) -> MemoryLog {
    let schema = Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("v", DataType::Int64, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true),
    ]));
    let log = MemoryLog::new(false, 8192);
    for part in 0..(2 * keys + 65_535) / 65_536 {
        let rows = part * 65_536..((part + 1) * 65_536).min(2 * keys);
        let k = Int64Array::from_iter_values(rows.clone().map(|row| row * 7919 % keys));
        let v = Int64Array::from_iter_values(rows.clone());
        let ts = TimestampMillisecondArray::from_iter_values(rows.map(|row| row * 3_000_000 / (2 * keys)));
        log.append(
            "p-0",
            RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(k), Arc::new(v), Arc::new(ts)]).unwrap(),
        );
    }
    log.close();
    log
}

/// Rows and sums that came out by key, and the most bytes a checkpoint saw on local disk.
struct Ran {
    sums: Vec<(i64, i64, i64)>,
    spilled: u64,
}

async fn ran(keys: i64, memory_limit: usize) -> Ran {
    let kept = Arc::new(Kept::default());
    kept.logs.lock().unwrap().insert("events".to_owned(), log(keys));
    let folder = tempfile::tempdir().unwrap();
    let config = SessionConfig {
        connectors: vec![Arc::clone(&kept) as _],
        ..SessionConfig::in_directory(folder.path().to_string_lossy())
    };
    let session = Session::with_catalog(config, Arc::new(MemoryCatalog::default())).unwrap();
    let mut inserts = Vec::new();
    for statement in parse(SCRIPT, &Parameters::default()).unwrap() {
        match &statement.kind {
            StatementKind::Insert(insert) => inserts.push(insert.clone()),
            _ => drop(session.execute(&statement).await.unwrap()),
        }
    }
    let graph = lower_inserts(&session, &inserts, false).await.unwrap();
    let (observer, mut newest) = Observer::channel();
    let config = JobConfig {
        interval: Duration::from_millis(500),
        parallelism: 2,
        memory_limit,
        observer,
        ..JobConfig::new("job", Arc::new(MemoryStore::default()), folder.path())
    };
    let running = run(Arc::new(graph), config, CancellationToken::new());
    tokio::pin!(running);
    let mut spilled = 0;
    loop {
        tokio::select! {
            Ok(()) = newest.changed() => {
                let manifest = newest.borrow_and_update().clone();
                let now = manifest.iter().flat_map(|manifest| manifest.operators.values());
                spilled = spilled.max(now.map(|state| state.observed.spilled_bytes).sum());
            }
            ended = &mut running => break drop(ended.unwrap()),
        }
    }
    let mut sums = Vec::new();
    for rows in kept.tables.lock().unwrap()["sums"].0.rows() {
        let column = |index: usize| rows.column(index).as_primitive::<Int64Type>().values().to_vec();
        sums.extend(column(0).into_iter().zip(column(1)).zip(column(2)).map(|((k, n), s)| (k, n, s)));
    }
    sums.sort_unstable();
    Ran { sums, spilled }
}

#[tokio::test(flavor = "multi_thread")]
async fn open_keys_over_the_memory_limit_spill_and_nothing_changes() {
    let keys = std::env::var("HEADWATER_SPILL_KEYS").ok().and_then(|keys| keys.parse().ok()).unwrap_or(300_000);
    let limited = ran(keys, keys as usize * LIMIT_PER_MILLION / 1_000_000).await;
    assert!(limited.spilled > 0, "nothing went to disk");
    let unlimited = ran(keys, 16 << 30).await;
    assert_eq!(unlimited.spilled, 0);
    assert_eq!(limited.sums.len() as i64, keys);
    assert!(limited.sums.iter().all(|(_, n, _)| *n == 2));
    assert!(limited.sums == unlimited.sums, "the sums differ");
}
