//! The silent wrong answers that DataFusion's own file tables give, each as files, our answer, and theirs beside it.
//!
//! Invariant: a test generates its files, asserts our answer, and shows on the same files what the stock provider does,
//! so that a trap that is mended there one day is noticed here.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on may stop")]

use std::{
    fs,
    io::Write,
    path::{Path as FilePath, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{Array, Int32Array},
    datatypes::{DataType, Field, Schema, SchemaRef},
    record_batch::RecordBatch,
};
use datafusion::{
    catalog::streaming::StreamingTable,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::{stream::RecordBatchStreamAdapter, streaming::PartitionStream},
    prelude::{SessionConfig as StockConfig, SessionContext},
};
use futures::{StreamExt, TryStreamExt};
use headwater_connectors::lake::stats::ScanStats;
use headwater_sql::{
    output::value::write_text,
    session::{Outcome, Session, SessionConfig},
};
use headwater_tests::scripts::{self, Until};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};

mod watched;

use self::watched::Watched;

/// A folder of files, a session over it, and the stock engine.
struct Case {
    folder: tempfile::TempDir,
    session: Session,
    stock: SessionContext,
}

impl Case {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join(".state").to_string_lossy().into_owned();
        let session = Session::open(SessionConfig::in_directory(state)).await.unwrap();
        Self { folder, session, stock: SessionContext::new_with_config(StockConfig::new().with_target_partitions(2)) }
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn filled(&self, sql: &str) -> String {
        sql.replace("{}", &self.folder.path().to_string_lossy())
    }

    /// The rows of the last statement of a script; `{}` is the folder.
    async fn ours(&self, script: &str) -> Vec<String> {
        self.ours_counted(script).await.0
    }

    async fn ours_counted(&self, script: &str) -> (Vec<String>, Arc<ScanStats>) {
        let mut last = (Vec::new(), Arc::default());
        for statement in self.session.parse(&self.filled(script)).unwrap() {
            let outcome = self.session.execute(&statement).await;
            match outcome.unwrap_or_else(|error| panic!("{}: {error:?}", statement.text)) {
                Outcome::Rows { stream, stats } => {
                    let batches: Vec<RecordBatch> = stream.try_collect().await.unwrap();
                    last = (rows(&batches), stats);
                }
                Outcome::Done { .. } => {}
            }
        }
        last
    }

    /// The text of the error that a script ends with.
    async fn our_error(&self, script: &str) -> String {
        for statement in self.session.parse(&self.filled(script)).unwrap() {
            let failed = match self.session.execute(&statement).await {
                Err(error) => error.to_string(),
                Ok(Outcome::Rows { stream, .. }) => match stream.try_collect::<Vec<RecordBatch>>().await {
                    Err(error) => error.to_string(),
                    Ok(_) => continue,
                },
                Ok(Outcome::Done { .. }) => continue,
            };
            return failed;
        }
        panic!("no statement failed");
    }

    /// What the stock engine answers, or its error.
    async fn stock(&self, statements: &[&str]) -> Result<Vec<String>, String> {
        let mut last = Vec::new();
        for sql in statements {
            let frame = self.stock.sql(&self.filled(sql)).await.map_err(|error| error.to_string())?;
            last = rows(&frame.collect().await.map_err(|error| error.to_string())?);
        }
        Ok(last)
    }
}

/// Rows as text, sorted, so that both engines can be compared.
fn rows(batches: &[RecordBatch]) -> Vec<String> {
    let mut all = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| match column.is_null(row) {
                true => "NULL".to_owned(),
                false => {
                    let mut text = String::new();
                    write_text(column.as_ref(), row, &mut text);
                    text
                }
            });
            all.push(cells.collect::<Vec<_>>().join("|"));
        }
    }
    all.sort();
    all
}

fn get(counter: &std::sync::atomic::AtomicU64) -> u64 {
    ScanStats::get(counter)
}

/// 1: `month=01` as a number.
#[tokio::test]
async fn a_padded_month_is_found_as_a_number() {
    let case = Case::new().await;
    case.write("t/year=2024/month=01/a.json", "{\"x\": 1}\n");
    case.write("t/year=2024/month=12/b.json", "{\"x\": 2}\n");
    let ours = "CREATE EXTERNAL TABLE t (x INT) PARTITIONED BY (year INT, month INT) STORED AS JSON LOCATION '{}/t/';
        SELECT x, month FROM t WHERE year = 2024 AND month = 1";
    assert_eq!(case.ours(ours).await, ["1|1"]);
    let stock = case
        .stock(&[
            "CREATE EXTERNAL TABLE t (x INT, year INT, month INT) STORED AS JSON PARTITIONED BY (year, month) LOCATION '{}/t/'",
            "SELECT x, month FROM t WHERE year = 2024 AND month = 1",
        ])
        .await;
    assert_eq!(stock, Ok(Vec::new()), "no row, and no error");
}

/// 2: a filter prunes the listing, and a file that comes later is seen.
#[tokio::test]
async fn a_filter_lists_what_it_needs_and_new_files_are_seen() {
    let case = Case::new().await;
    let store = Arc::new(Watched::default());
    for month in 1..=12 {
        for day in 1..=20 {
            store.put_text(&format!("t/month={month:02}/d={day:02}/a.json"), "{\"x\": 1}\n").await;
        }
    }
    case.session.stores().give("s3", "bucket", Arc::clone(&store) as Arc<dyn ObjectStore>);
    let ours =
        "CREATE EXTERNAL TABLE t (x INT) PARTITIONED BY (month INT, d INT) STORED AS JSON LOCATION 's3://bucket/t/';";
    let query = "SELECT count(*) FROM t WHERE month = 3 AND d = 7";
    case.ours(ours).await;
    store.reset();
    let (found, stats) = case.ours_counted(query).await;
    assert_eq!(found, ["1"]);
    // The root, the month, the day's files; and the records of statements, before and after.
    assert_eq!((store.listings(), store.listed()), (5, 12 + 20 + 1));
    assert_eq!((get(&stats.files_read), get(&stats.partitions_read)), (1, 1));
    store.put_text("t/month=03/d=07/b.json", "{\"x\": 2}\n").await;
    assert_eq!(case.ours(query).await, ["2"]);

    let url = url_of("bucket");
    case.stock.register_object_store(&url, Arc::clone(&store) as Arc<dyn ObjectStore>);
    let declared = "CREATE EXTERNAL TABLE t (x INT, month VARCHAR, d VARCHAR) STORED AS JSON PARTITIONED BY (month, d) LOCATION 's3://bucket/t/'";
    store.reset();
    case.stock(&[declared]).await.unwrap();
    let query = "SELECT count(*) FROM t WHERE month = '03' AND d = '07'";
    assert_eq!(case.stock(&[query]).await, Ok(vec!["2".to_owned()]));
    assert!(store.listed() >= 241, "the whole table is listed: {}", store.listed());
    store.put_text("t/month=03/d=07/c.json", "{\"x\": 3}\n").await;
    assert_eq!(case.stock(&[query]).await, Ok(vec!["2".to_owned()]), "the new file is not seen");
    assert_eq!(case.ours("SELECT count(*) FROM t WHERE month = 3 AND d = 7").await, ["3"]);
    // The same table again: what is known of its folders saves requests, and hides no file.
    let all = "SELECT count(*) FROM t";
    store.reset();
    assert_eq!(case.ours(all).await, ["242"]);
    assert_eq!(store.listings(), 1 + 12 + 240 + 2);
    store.reset();
    assert_eq!(case.ours(all).await, ["242"]);
    assert_eq!(store.listings(), 1 + 2, "one listing for 253 folders, and the records of statements");
    for path in ["t/month=03/d=07/0.json", "t/month=00/d=01/a.json", "t/month=13/d=01/a.json"] {
        store.put_text(path, "{\"x\": 4}\n").await;
    }
    store.delete(&Path::from("t/month=12/d=20/a.json")).await.unwrap();
    assert_eq!(case.ours(all).await, ["244"]);
    store.reset();
    assert_eq!(case.ours("SELECT count(*) FROM t WHERE month = 3").await, ["23"]);
    assert_eq!(store.listings(), 2 + 2, "the root, and the month in one go");
}

/// 3: a JSON array over 1 MiB.
#[tokio::test]
async fn a_large_json_array_is_rows() {
    let case = Case::new().await;
    let records: Vec<String> = (0..40_000).map(|n| format!("{{\"n\": {n}, \"text\": \"abcdefghijklmnop\"}}")).collect();
    let array = format!("[{}]", records.join(",\n"));
    assert!(array.len() > 1 << 20);
    case.write("t/a.json", &array);
    let ours = "CREATE EXTERNAL TABLE t (n BIGINT, text STRING) STORED AS JSON LOCATION '{}/t/'; SELECT count(*), sum(n) FROM t";
    assert_eq!(case.ours(ours).await, ["40000|799980000"]);
    let stock = case
        .stock(&[
            "CREATE EXTERNAL TABLE t (n BIGINT, text VARCHAR) STORED AS JSON LOCATION '{}/t/' OPTIONS ('format.newline_delimited' 'false')",
            "SELECT count(*), sum(n) FROM t",
        ])
        .await;
    assert!(stock.is_err(), "{stock:?}");
}

/// 4: columns that differ between rows and files, and objects run together.
#[tokio::test]
async fn inference_widens_and_reads_what_it_inferred() {
    let case = Case::new().await;
    case.write("mixed/a.json", "{\"v\": 1}\n{\"v\": \"one\"}\n");
    case.write("numbers/a.json", "{\"v\": 1}\n");
    case.write("numbers/b.json", "{\"v\": 1.5}\n");
    case.write("together/a.json", "{\"v\": 1}{\"v\":\n 2}");
    let ours = |name: &str| {
        format!("CREATE EXTERNAL TABLE {name} STORED AS JSON LOCATION '{{}}/{name}/'; SELECT v, typeof(v) FROM {name}")
    };
    assert_eq!(case.ours(&ours("mixed")).await, ["1|varchar", "one|varchar"]);
    assert_eq!(case.ours(&ours("numbers")).await, ["1.0|double", "1.5|double"]);
    assert_eq!(case.ours(&ours("together")).await, ["1|bigint", "2|bigint"]);
    for name in ["mixed", "numbers", "together"] {
        let declare = format!("CREATE EXTERNAL TABLE {name} STORED AS JSON LOCATION '{{}}/{name}/'");
        let stock = case.stock(&[&declare, &format!("SELECT v FROM {name}")]).await;
        assert!(stock.is_err(), "{name}: {stock:?}");
    }
}

/// 5: one bad record among good ones.
#[tokio::test]
async fn a_bad_record_is_told_apart_from_good_ones() {
    let case = Case::new().await;
    case.write("t/a.json", b"{\"x\": 1}\n{\"x\": \xff}\n{\"x\": 3}\n");
    let declare = |policy: &str| {
        format!(
            "DROP TABLE IF EXISTS t; CREATE EXTERNAL TABLE t (x INT) STORED AS JSON LOCATION '{{}}/t/' TBLPROPERTIES ('malformed' = '{policy}');"
        )
    };
    let (found, stats) = case.ours_counted(&format!("{}SELECT x FROM t", declare("skip"))).await;
    assert_eq!(found, ["1", "3"]);
    assert_eq!(get(&stats.rows_rejected), 1);
    assert_eq!(case.ours("SELECT line, \"offset\", raw FROM \"t$rejected\"").await, ["2|9|7b 22 78 22 3a 20 ff 7d"]);
    assert_eq!(case.ours(&format!("{}SELECT x FROM t", declare("null"))).await, ["1", "3", "NULL"]);
    let error = case.our_error(&format!("{}SELECT x FROM t", declare("fail"))).await;
    assert!(error.contains("t/a.json") && error.contains("line 2") && error.contains("byte offset 9"), "{error}");
    let stock =
        case.stock(&["CREATE EXTERNAL TABLE t (x INT) STORED AS JSON LOCATION '{}/t/'", "SELECT x FROM t"]).await;
    assert!(stock.is_err(), "no row at all, and nothing to say that bad ones are skipped: {stock:?}");
}

/// 6: NULL as a partition's value, written and read.
#[tokio::test]
async fn a_null_partition_is_null_again() {
    let case = Case::new().await;
    let ours = "CREATE TABLE t WITH (format = 'JSON', partitioned_by = ARRAY['p'], external_location = '{}/ours/') AS
        SELECT * FROM (VALUES (1, 10), (2, NULL)) v (x, p);
        SELECT x FROM t WHERE p IS NULL";
    assert_eq!(case.ours(ours).await, ["2"]);
    assert!(case.folder.path().join("ours/p=__HIVE_DEFAULT_PARTITION__").is_dir());
    let stock = case
        .stock(&[
            "CREATE EXTERNAL TABLE s (x INT, p INT) STORED AS JSON PARTITIONED BY (p) LOCATION '{}/stock/'",
            "INSERT INTO s VALUES (1, 10), (2, NULL)",
            "SELECT x, p FROM s",
        ])
        .await;
    assert_ne!(stock, Ok(vec!["1|10".to_owned(), "2|NULL".to_owned()]), "NULL is another value");
    let hive = case
        .stock(&[
            "CREATE EXTERNAL TABLE h (x INT, p VARCHAR) STORED AS JSON PARTITIONED BY (p) LOCATION '{}/hive/'",
            "SELECT count(*) FROM h WHERE p IS NULL",
        ])
        .await;
    case.write("hive/p=__HIVE_DEFAULT_PARTITION__/a.json", "{\"x\": 1}\n");
    assert_eq!(hive, Ok(vec!["0".to_owned()]));
    let ours =
        "CREATE EXTERNAL TABLE h (x INT) PARTITIONED BY (p INT) STORED AS JSON LOCATION '{}/hive/'; SELECT x, p FROM h";
    assert_eq!(case.ours(ours).await, ["1|NULL"]);
}

/// 7: the compression and shape of a file are the file's own, so no plan can lose them on its way.
#[tokio::test]
async fn compression_and_shape_are_found_in_each_file() {
    let case = Case::new().await;
    case.write("t/a.json", "[{\"x\": 1}, {\"x\": 2}]");
    case.write("t/b.json", gzip(b"{\"x\": 3}\n"));
    let ours = "CREATE EXTERNAL TABLE t (x INT) STORED AS JSON LOCATION '{}/t/'; SELECT x FROM t";
    assert_eq!(case.ours(ours).await, ["1", "2", "3"]);
}

/// 8: rows that pass a filter over a stream do not wait until thousands have.
#[tokio::test]
async fn a_filter_over_a_stream_keeps_no_row_back() {
    let case = Case::new().await;
    case.write("in/a.json", "{\"x\": 1}\n{\"x\": 2}\n{\"x\": 3}\n");
    let script = case.filled(
        "CREATE TABLE i (x INT) WITH ('connector' = 'filesystem', 'path' = '{}/in/', 'format' = 'json',
           'source.monitor-interval' = '100 ms');
         CREATE TABLE o (x INT) WITH ('connector' = 'filesystem', 'path' = '{}/out/', 'format' = 'json',
           'compression' = 'none', 'sink.rolling-policy.rollover-interval' = '1 s');
         INSERT INTO o SELECT x FROM i WHERE x > 1",
    );
    let (state, out) = (case.folder.path().join("state"), case.folder.path().join("out"));
    let mut job = scripts::start(&script, &[], &state, Until::Stopped).await.unwrap();
    let mut lines = Vec::new();
    while lines.len() < 2 {
        assert!(job.is_running().await.unwrap(), "the job goes on until it is stopped");
        lines = scripts::lines(&out).unwrap();
        tokio::task::yield_now().await;
    }
    job.stop().await.unwrap();
    lines.sort();
    assert_eq!(lines, ["{\"x\":2}", "{\"x\":3}"]);

    let stream = Arc::new(Endless(Arc::new(Schema::new(vec![Field::new("x", DataType::Int32, false)]))));
    let table = StreamingTable::try_new(stream.schema().clone(), vec![stream]).unwrap().with_infinite_table(true);
    case.stock.register_table("s", Arc::new(table)).unwrap();
    let mut rows = case.stock.sql("SELECT x FROM s WHERE x > 1").await.unwrap().execute_stream().await.unwrap();
    let first = tokio::time::timeout(std::time::Duration::from_millis(300), rows.try_next()).await;
    assert!(first.is_err(), "rows that have passed are kept back: {first:?}");
}

/// Three rows, and then none for ever.
#[derive(Debug)]
struct Endless(SchemaRef);

impl PartitionStream for Endless {
    fn schema(&self) -> &SchemaRef {
        &self.0
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = RecordBatch::try_new(Arc::clone(&self.0), vec![Arc::new(Int32Array::from(vec![1, 2, 3]))]);
        let rows = futures::stream::iter([rows.map_err(Into::into)]).chain(futures::stream::pending());
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.0), rows))
    }
}

/// 9: a statement that fails half-way, and one that replaces.
#[tokio::test]
async fn a_failed_write_leaves_nothing_and_an_overwrite_replaces() {
    let case = Case::new().await;
    let lines: String = (0..50_000).map(|n| format!("{{\"n\": {}}}\n", 49_999 - n)).collect();
    case.write("source/a.json", lines);
    let ours = "CREATE EXTERNAL TABLE source (n BIGINT) STORED AS JSON LOCATION '{}/source/';
        CREATE EXTERNAL TABLE t (q BIGINT) PARTITIONED BY (p BIGINT) STORED AS JSON LOCATION '{}/ours/';
        INSERT INTO t SELECT 1000 / n, n % 7 FROM source";
    let error = case.our_error(ours).await;
    assert!(error.contains("zero"), "{error}");
    assert_eq!(files_below(&case.folder.path().join("ours")), 0);
    case.ours("INSERT INTO t SELECT n, n % 7 FROM source WHERE n < 14; INSERT OVERWRITE t SELECT 100, 3").await;
    assert_eq!(case.ours("SELECT count(*), max(q) FROM t WHERE p = 3").await, ["1|100"]);
    assert_eq!(case.ours("SELECT count(*) FROM t").await, ["13"]);

    let mut stock = case
        .stock(&[
            "CREATE EXTERNAL TABLE source (n BIGINT) STORED AS JSON LOCATION '{}/source/'",
            "CREATE EXTERNAL TABLE t (q BIGINT, p BIGINT) STORED AS JSON PARTITIONED BY (p) LOCATION '{}/stock/'",
            "INSERT INTO t SELECT n, n % 7 FROM source WHERE n < 14",
        ])
        .await;
    assert!(stock.is_ok(), "{stock:?}");
    stock = case.stock(&["INSERT OVERWRITE t SELECT 100, 3"]).await;
    assert!(stock.is_err(), "there is no overwrite: {stock:?}");
    stock = case
        .stock(&[
            "SET datafusion.execution.soft_max_rows_per_output_file = 1000",
            "SET datafusion.execution.minimum_parallel_output_files = 1",
            "CREATE EXTERNAL TABLE u (q BIGINT) STORED AS JSON LOCATION '{}/failed/'",
            "INSERT INTO u SELECT 1000 / n FROM source",
        ])
        .await;
    assert!(stock.is_err_and(|error| error.contains("zero")));
    assert!(files_below(&case.folder.path().join("failed")) > 0, "what was finished before stays, for all to see");
}

/// 10: the bytes that a query fetched, of every format; and a sample that is one.
#[tokio::test]
async fn every_byte_fetched_is_counted() {
    let case = Case::new().await;
    let store = Arc::new(Watched::default());
    case.session.stores().give("s3", "bucket", Arc::clone(&store) as Arc<dyn ObjectStore>);
    let json = "{\"x\": 1}\n".repeat(1000);
    store.put_text("json/a.json", &json).await;
    case.ours("CREATE EXTERNAL TABLE j (x INT) STORED AS JSON LOCATION 's3://bucket/json/'").await;
    store.reset();
    let (_, stats) = case.ours_counted("SELECT sum(x) FROM j").await;
    assert_eq!(store.fetched(), json.len());
    assert!(get(&stats.bytes_scanned) > json.len() as u64, "listings count too");
    assert!(get(&stats.bytes_scanned) < json.len() as u64 + 1000);
    assert_eq!(get(&stats.bytes_stored), json.len() as u64);

    case.ours(
        "CREATE TABLE p WITH (external_location = '{}/p/') AS SELECT n, CAST(n AS varchar) AS t FROM UNNEST(sequence(1, 9999)) AS s (n)",
    )
    .await;
    for file in fs::read_dir(case.folder.path().join("p")).unwrap().map(|entry| entry.unwrap().path()) {
        if file.is_file() {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            store.put(&Path::from(format!("p/{name}")), fs::read(file).unwrap().into()).await.unwrap();
        }
    }
    case.ours("CREATE EXTERNAL TABLE remote (n BIGINT, t STRING) STORED AS PARQUET LOCATION 's3://bucket/p/'").await;
    store.reset();
    let (found, stats) = case.ours_counted("SELECT sum(n) FROM remote").await;
    assert_eq!(found, ["49995000"]);
    let (fetched, scanned) = (store.fetched() as u64, get(&stats.bytes_scanned));
    assert!(scanned >= fetched && scanned < fetched + 5000, "footers count: {fetched} fetched, {scanned} scanned");

    let sample = "SELECT count(*) FROM j TABLESAMPLE BERNOULLI (10)";
    let sampled: usize = case.ours(sample).await[0].parse().unwrap();
    assert!((20..400).contains(&sampled), "{sampled} of 1000 rows");
    case.stock.register_object_store(&url_of("bucket"), Arc::clone(&store) as Arc<dyn ObjectStore>);
    let declare = "CREATE EXTERNAL TABLE j (x INT) STORED AS JSON LOCATION 's3://bucket/json/'";
    assert_eq!(case.stock(&[declare, sample]).await, Ok(vec!["1000".to_owned()]), "the sample is ignored");
    let analyzed = case.stock(&["EXPLAIN ANALYZE SELECT sum(x) FROM j"]).await.unwrap().join("\n");
    assert!(
        analyzed.contains("file_type=json") && !analyzed.contains("bytes_scanned"),
        "nothing is counted: {analyzed}"
    );
}

/// 11: plain and compressed files side by side.
#[tokio::test]
async fn a_mixed_folder_is_read_whole() {
    let case = Case::new().await;
    case.write("t/a.json", "{\"x\": 1}\n");
    case.write("t/b.json.gz", gzip(b"{\"x\": 2}\n"));
    let ours = "CREATE EXTERNAL TABLE t (x INT) STORED AS JSON LOCATION '{}/t/'; SELECT x FROM t";
    assert_eq!(case.ours(ours).await, ["1", "2"]);
    let stock =
        case.stock(&["CREATE EXTERNAL TABLE t (x INT) STORED AS JSON LOCATION '{}/t/'", "SELECT x FROM t"]).await;
    assert!(stock.is_err(), "one compression for the whole table: {stock:?}");
}

/// 12: keys with capital letters.
#[tokio::test]
async fn keys_match_whatever_their_case() {
    let case = Case::new().await;
    case.write("t/a.json", "{\"UserId\": 7}\n");
    let ours = "CREATE EXTERNAL TABLE t (UserId INT) STORED AS JSON LOCATION '{}/t/'; SELECT userid, USERID FROM t";
    assert_eq!(case.ours(ours).await, ["7|7"]);
    let stock = case
        .stock(&["CREATE EXTERNAL TABLE t (UserId INT) STORED AS JSON LOCATION '{}/t/'", "SELECT userid FROM t"])
        .await;
    assert_eq!(stock, Ok(vec!["NULL".to_owned()]), "the key is not found, and nobody says so");
}

/// 13: objects of a store are fetched ahead, more of them than there are partitions.
#[tokio::test]
async fn objects_are_fetched_ahead() {
    let case = Case::new().await;
    let store = Arc::new(Watched::default());
    for n in 0..32 {
        store.put_text(&format!("t/{n}.json"), "{\"x\": 1}\n").await;
    }
    case.session.stores().give("s3", "bucket", Arc::clone(&store) as Arc<dyn ObjectStore>);
    case.ours("CREATE EXTERNAL TABLE t (x INT) STORED AS JSON LOCATION 's3://bucket/t/'; SET 'parallelism' = '1'")
        .await;
    assert_eq!(case.ours("SELECT count(*) FROM t").await, ["32"]);
    assert!(store.gets_at_once() >= 4, "{} requests at once", store.gets_at_once());
}

fn url_of(bucket: &str) -> url::Url {
    url::Url::parse(&format!("s3://{bucket}")).unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn files_below(folder: &FilePath) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries.map(|entry| entry.unwrap().path()).map(|path| if path.is_dir() { files_below(&path) } else { 1 }).sum()
}
