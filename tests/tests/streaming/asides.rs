//! What is kept aside of tables of payloads: which rows are rejected and why, and late rows with all their columns.
//!
//! Invariant: what one INSERT counts does not depend on the columns it uses, nor on the other INSERTs of the job.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use headwater_engine::{
    checkpoint::store::{CheckpointStore, MemoryStore},
    inspect,
    runtime::job::{JobConfig, JobSummary, run},
    testing::StepClock,
    time::{Clock, Instant, SystemClock},
};
use tokio_util::sync::CancellationToken;

use crate::{connector::Kept, declared::Declared, edges::lines};

/// A log of payloads, as what it holds and as a table. A watermark of ten seconds through `v` is five seconds behind.
const TABLES: &str = "
CREATE TABLE feed (line VARCHAR) WITH ('connector' = 'memory', 'name' = 'log', 'format' = 'raw');
CREATE TABLE s (id BIGINT NOT NULL, name VARCHAR, v BIGINT, ts TIMESTAMP(3), off BIGINT METADATA FROM 'offset' VIRTUAL,
  double_v AS v * 2, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND * (10 / v))
  WITH ('connector' = 'memory', 'name' = 'log', 'format' = 'json');
CREATE TABLE counts (window_start TIMESTAMP(3), n BIGINT) WITH ('connector' = 'kept');
INSERT INTO counts SELECT window_start, count(*) FROM TABLE(TUMBLE(TABLE s, DESCRIPTOR(ts), INTERVAL '10' SECOND))
  GROUP BY window_start, window_end;
";
const BESIDE: &str = "
CREATE TABLE bad (reason VARCHAR) WITH ('connector' = 'kept');
CREATE TABLE old (id BIGINT, name VARCHAR, double_v BIGINT, off BIGINT) WITH ('connector' = 'kept');
INSERT INTO bad SELECT reason FROM \"s$rejected\";
INSERT INTO old SELECT id, name, double_v, off FROM \"s$late\";
";
const LINES: [&str; 9] = [
    r#"{"id":1,"name":"a","v":10,"ts":"2026-01-01 00:00:01"}"#,
    r#"{"id":2,"name":"b","v":10,"ts":"2026-01-01 00:01:00"}"#,
    r#"{"id":"x","name":"c","v":10,"ts":"2026-01-01 00:01:01"}"#,
    r#"{"id":4,"name":"d","v":10,"ts":"2026-01-01 00:00:02"}"#,
    r#"{"name":"e","v":10,"ts":"2026-01-01 00:01:02"}"#,
    r#"{"id":6,"name":"f","v":0,"ts":"2026-01-01 00:01:03"}"#,
    r#"{"id":7,"name":"g","v":2,"ts":"2999-01-01 00:00:00"} {"id":8,"name":"h","v":5,"ts":"2026-01-01 00:00:03"}"#,
    "no json",
    r#"{"id":9,"name":"i","v":10,"ts":"2026-01-01 00:01:04"}"#,
];

struct Job {
    kept: Arc<Kept>,
    store: Arc<dyn CheckpointStore>,
    summary: JobSummary,
}

/// Runs the INSERTs of a script once over the lines.
async fn job(script: &str) -> Job {
    job_over(script, &LINES).await
}

async fn job_over(script: &str, payloads: &[&str]) -> Job {
    job_at(script, payloads, Arc::new(SystemClock)).await
}

async fn job_at(script: &str, payloads: &[&str], clock: Arc<dyn Clock>) -> Job {
    let declared = Declared::new(script, &[]).await;
    let values = payloads.iter().map(|line| format!("('{line}')")).collect::<Vec<_>>().join(", ");
    declared.execute(&format!("INSERT INTO feed VALUES {values}")).await;
    let store: Arc<dyn CheckpointStore> = Arc::new(MemoryStore::default());
    let config = JobConfig { once: true, clock, ..JobConfig::new("job", Arc::clone(&store), declared.folder.path()) };
    let summary = run(declared.graph(true).await, config, CancellationToken::new()).await.unwrap();
    Job { kept: declared.kept, store, summary }
}

impl Job {
    fn table(&self, name: &str) -> Vec<String> {
        lines(&self.kept.tables.lock().unwrap()[name].0.rows())
    }

    /// How many rows the sink of an INSERT was given, and how many of them it refused.
    fn sink(&self, insert: &str) -> (u64, u64) {
        let sinks = &self.summary.manifest.as_ref().unwrap().sinks;
        let (_, sink) = sinks.iter().find(|(node, _)| node.starts_with(insert)).unwrap();
        (sink.rows, sink.refused)
    }

    async fn aside(&self, name: &str, columns: &[&str]) -> Vec<String> {
        let manifest = self.summary.manifest.clone().unwrap();
        let batches = inspect::accounting_rows(&self.store, &manifest, name).await.unwrap();
        let project = |batch: &RecordBatch| {
            let schema = batch.schema();
            batch.project(&columns.iter().map(|name| schema.index_of(name).unwrap()).collect::<Vec<_>>()).unwrap()
        };
        lines(&batches.iter().map(project).collect::<Vec<_>>())
    }
}

#[tokio::test]
async fn a_payload_is_judged_by_all_columns_whatever_the_inserts_use() {
    for script in [TABLES.to_owned(), format!("{TABLES}{BESIDE}")] {
        let job = job(&script).await;
        let tally = &job.summary.ledger["s"]["counts"];
        assert_eq!((tally.read, tally.rejected, tally.late), (10, 4, 2), "{tally:?}");
        let reasons = job.aside("s$rejected", &["reason"]).await;
        assert_eq!(reasons.len(), 4, "{reasons:?}");
        assert!(reasons.contains(&"column \"id\" is NULL".to_owned()), "{reasons:?}");
        assert!(reasons.iter().any(|reason| reason.starts_with("expression: ")), "{reasons:?}");
        let raw = job.aside("s$rejected", &["offset"]).await;
        assert_eq!(raw, ["2", "4", "5", "7"]);
        let split = &job.summary.manifest.as_ref().unwrap().sources["source:s"].splits[0];
        assert_eq!(split.ahead, 1);
        if script.contains("bad") {
            assert_eq!(job.table("bad"), reasons);
        }
    }
}

#[tokio::test]
async fn a_late_row_has_all_columns_its_table_declares() {
    for script in [TABLES.to_owned(), format!("{TABLES}{BESIDE}")] {
        let job = job(&script).await;
        let late = job.aside("s$late", &["id", "name", "v", "ts", "off", "double_v", "offset", "inserts"]).await;
        assert_eq!(
            late,
            [
                "4 | d | 10 | 2026-01-01T00:00:02 | 3 | 20 | 3 | counts",
                "8 | h | 5 | 2026-01-01T00:00:03 | 6 | 10 | 6 | counts"
            ]
        );
        if script.contains("old") {
            assert_eq!(job.table("old"), ["4 | d | 20 | 3", "8 | h | 10 | 6"]);
        }
    }
}

#[tokio::test]
async fn a_sink_takes_no_null_where_its_column_has_none() {
    let script = format!(
        "{TABLES}
CREATE TABLE named (id BIGINT, name VARCHAR NOT NULL) WITH ('connector' = 'kept');
INSERT INTO named SELECT id, nullif(name, 'b') FROM s;"
    );
    let job = job(&script).await;
    assert_eq!(job.table("named"), ["1 | a", "4 | d", "7 | g", "8 | h", "9 | i"]);
    let refused = job.aside("named$rejected", &["reason", "split"]).await;
    assert_eq!(refused, ["column \"name\" is NULL | sink"]);
    assert_eq!(job.sink("named"), (6, 1), "rows it was given, and those of them it refused");
}

#[tokio::test]
async fn a_sink_takes_no_text_longer_than_its_column() {
    let script = format!(
        "{TABLES}
CREATE TABLE short (id BIGINT, v VARCHAR(3)) WITH ('connector' = 'kept');
INSERT INTO short SELECT id, if(id = 4, 'abcdef', name || '   ') FROM s;"
    );
    let job = job(&script).await;
    assert_eq!(job.table("short"), ["1 | a  ", "2 | b  ", "7 | g  ", "8 | h  ", "9 | i  "]);
    let refused = job.aside("short$rejected", &["reason"]).await;
    assert_eq!(refused, ["the value \"abcdef\" is longer than column \"v\", which is varchar(3)"]);
    assert_eq!(job.sink("short"), (6, 1));
}

#[tokio::test]
async fn keys_that_blanks_alone_tell_apart_do_not_become_one_behind_the_query() {
    let key = "if(id = 1, 'bcd ', if(id = 2, 'bcd', name))";
    let script = format!(
        "{TABLES}
CREATE TABLE groups (c VARCHAR(3), n BIGINT, PRIMARY KEY (c) NOT ENFORCED) WITH ('connector' = 'kept');
CREATE TABLE latest (c VARCHAR(3), id BIGINT, PRIMARY KEY (c) NOT ENFORCED) WITH ('connector' = 'kept');
INSERT INTO groups SELECT c, count(*) FROM (SELECT {key} AS c FROM s) GROUP BY c;
INSERT INTO latest SELECT {key}, id FROM s;"
    );
    let job = job(&script).await;
    assert_eq!(job.table("groups"), ["bcd | 1", "d | 1", "g | 1", "h | 1", "i | 1"]);
    let refused = job.aside("groups$rejected", &["reason"]).await;
    let reason = "the value \"bcd \" has blanks at its end that the key \"c\", which is varchar(3), does not keep";
    assert_eq!(refused, [reason]);
    assert_eq!(job.table("latest"), ["bcd | 1", "bcd | 2", "d | 4", "g | 7", "h | 8", "i | 9"]);
    // Rows of one key go to one task: they are cut before they are dealt.
    let graph = Declared::new(&script, &[]).await.graph(true).await;
    let shown = format!("{graph:?}");
    assert_eq!(shown.matches("name: \"cut\", args").count(), 1, "{shown}");
}

#[tokio::test]
async fn a_late_row_has_the_time_of_its_batch_in_columns_that_are_computed_again() {
    let script = TABLES.replace("double_v AS v * 2,", "double_v AS v * 2, day AS current_date,");
    // 2020-01-01, which the machine's clock is past.
    let clock = StepClock::new(Instant(1_577_836_800_000));
    let job = job_at(&script, &LINES, Arc::new(clock)).await;
    assert_eq!(job.aside("s$late", &["id", "day"]).await, ["4 | 2020-01-01", "8 | 2020-01-01"]);
}

/// Changes that came before are dropped; the late one beside them is read again as it is, not for one of those.
#[tokio::test]
async fn a_late_change_has_all_columns_although_it_is_known_when_it_is_read_again() {
    let change = |id: &str, at: &str| {
        format!(
            r#"{{"eventID":"e{id}","eventName":"INSERT","dynamodb":{{"Keys":{{"id":{{"S":"{id}"}}}},"SizeBytes":{id},
            "NewImage":{{"id":{{"S":"{id}"}},"at":{{"S":"2026-01-01 {at}"}}}}}}}}"#
        )
    };
    let (first, second, late) = (change("1", "00:01:00"), change("2", "00:01:01"), change("3", "00:00:01"));
    let payloads = [first.clone(), format!("[{first},{second}]"), format!("[{first},{late}]"), late.clone()];
    let payloads = payloads.iter().map(String::as_str).collect::<Vec<_>>();
    let script = "
CREATE TABLE feed (line VARCHAR) WITH ('connector' = 'memory', 'name' = 'log', 'format' = 'raw');
CREATE TABLE s (new_image ROW(at TIMESTAMP(3)), keys VARCHAR, size_bytes BIGINT, at AS new_image.at,
  WATERMARK FOR at AS at - INTERVAL '1' SECOND)
  WITH ('connector' = 'memory', 'name' = 'log', 'format' = 'dynamodb-cdc', 'dynamodb-cdc.mode' = 'events');
CREATE TABLE counts (window_start TIMESTAMP(3), n BIGINT) WITH ('connector' = 'kept');
INSERT INTO counts SELECT window_start, count(*) FROM TABLE(TUMBLE(TABLE s, DESCRIPTOR(at), INTERVAL '10' SECOND))
  GROUP BY window_start, window_end;";
    let job = job_over(script, &payloads).await;
    assert_eq!(job.summary.ledger["s"]["counts"].late, 1);
    assert_eq!(job.aside("s$late", &["keys", "size_bytes", "offset"]).await, [r#"{"id":"3"} | 3 | 2"#]);
}
