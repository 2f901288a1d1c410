//! Delivery as Firehose does it, from SQL: what each INSERT writes beside its rows, over crashes, exactly once.
//!
//! Invariant: every record sent is in the rows, in an error object, or left out by WHERE; and in the backup.

use std::{
    fmt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
};

use anyhow::Result;
use async_trait::async_trait;
use axum::body::Bytes;
use base64::Engine;

use headwater_engine::{
    checkpoint::store::{CheckpointStore, Created, LocalStore},
    error::{Error, ErrorKind},
};
use headwater_sql::generate::{Dataset, DatasetFormat, Options, generate};
use headwater_tests::{
    http::{self, listening, post},
    jobs::JobFolder,
    scripts::{self, Until},
    services::free_port,
};
use serde_json::Value;

const DELIVERED: &str = "
    CREATE TABLE lines (n BIGINT, kind VARCHAR)
    WITH ('connector' = 'http', 'listen' = '127.0.0.1:${port}', 'format' = 'json');
    CREATE TABLE kept (n BIGINT, share BIGINT)
    WITH ('connector' = 'filesystem', 'path' = '${out}', 'format' = 'json',
          'sink.partition-keys-query' = '{k: .kind}', 'sink.prefix' = 'rows/kind=!{partitionKeyFromQuery:k}/',
          'sink.error-prefix' = 'errors/!{firehose:error-output-type}/', 'sink.backup-prefix' = 'backup/');
    INSERT INTO kept SELECT n, 10 / n FROM lines WHERE n < 100;";

/// A line each: two rows, an expression that fails, no key, no JSON, a value of another type, one that WHERE leaves out.
const LINES: [&str; 7] = [
    r#"{"n": 1, "kind": "a"}"#,
    r#"{"n": 2, "kind": "b"}"#,
    r#"{"n": 0, "kind": "a"}"#,
    r#"{"n": 5}"#,
    "no json",
    r#"{"n": "many", "kind": "a"}"#,
    r#"{"n": 200, "kind": "a"}"#,
];

fn parsed(folder: &Path) -> Result<Vec<Value>> {
    let mut lines = scripts::lines(folder)?;
    lines.sort();
    lines.iter().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// The members of an error object's line, in Firehose's order and spelling.
fn members(kind: &str) -> &'static [&'static str] {
    match kind {
        "format-conversion-failed" => &[
            "attemptsMade",
            "arrivalTimestamp",
            "lastErrorCode",
            "lastErrorMessage",
            "attemptEndingTimestamp",
            "rawData",
            "sequenceNumber",
            "subSequenceNumber",
            "dataCatalogTable",
        ],
        _ => &["attemptsMade", "arrivalTimestamp", "errorCode", "errorMessage", "attemptEndingTimestamp", "rawData"],
    }
}

/// The raw data of an error type's objects with their codes.
fn errors(out: &Path, kind: &str) -> Result<Vec<(String, String)>> {
    let raw = |error: &Value| -> Result<(String, String)> {
        let names: Vec<&str> = error.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        anyhow::ensure!(names == members(kind), "{kind} has {names:?}");
        let data = error["rawData"].as_str().unwrap_or_default();
        let code = error.get("errorCode").or(error.get("lastErrorCode")).and_then(Value::as_str).unwrap_or_default();
        let bytes = base64::engine::general_purpose::STANDARD.decode(data)?;
        Ok((String::from_utf8(bytes)?, code.to_owned()))
    };
    let mut found = parsed(&out.join("errors").join(kind))?.iter().map(raw).collect::<Result<Vec<_>>>()?;
    found.sort();
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_record_is_delivered_aside_or_left_out_and_backed_up_over_a_crash() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (state, out) = (folder.path().join("state"), folder.path().join("out"));
    let (port, out_text) = (free_port()?, out.to_string_lossy().into_owned());
    let port_text = port.to_string();
    let parameters = [("port", port_text.as_str()), ("out", out_text.as_str())];
    let mut job = scripts::start(DELIVERED, &parameters, &state, Until::Stopped).await?;
    listening(&mut job, port).await?;
    post(port, "/lines", &LINES.join("\n")).await?;
    // Dropped, not stopped: what was accepted comes from the log again.
    drop(job);
    let mut job = scripts::start(DELIVERED, &parameters, &state, Until::Stopped).await?;
    listening(&mut job, port).await?;
    post(port, "/lines", &LINES.join("\n")).await?;
    job.stop().await?;

    let twice = |expected: &[(&str, &str)]| -> Vec<(String, String)> {
        let twice = expected.iter().flat_map(|pair| [pair, pair]);
        twice.map(|(raw, code)| ((*raw).to_owned(), (*code).to_owned())).collect()
    };
    let rows = parsed(&out.join("rows"))?;
    let expected = [r#"{"n":1,"share":10}"#, r#"{"n":2,"share":5}"#].map(serde_json::from_str::<Value>);
    let [one, two] = expected;
    let (one, two) = (one?, two?);
    assert_eq!(rows, [one.clone(), one, two.clone(), two]);
    assert!(out.join("rows/kind=a").is_dir() && out.join("rows/kind=b").is_dir());
    assert_eq!(errors(&out, "processing-failed")?, twice(&[(LINES[2], "Expression.Failed")]));
    let no_key = [(LINES[3], "DynamicPartitioning.MetadataExtractionFailed")];
    assert_eq!(errors(&out, "metadata-extraction-failed")?, twice(&no_key));
    let conversion = [(LINES[4], "DataFormatConversion.ParseError"), (LINES[5], "DataFormatConversion.MalformedData")];
    let mut conversion = twice(&conversion);
    conversion.sort();
    assert_eq!(errors(&out, "format-conversion-failed")?, conversion);
    let mut backup = scripts::lines(&out.join("backup"))?;
    backup.sort();
    let mut all: Vec<&str> = LINES.iter().flat_map(|line| [*line, *line]).collect();
    all.sort_unstable();
    assert_eq!(backup, all);
    Ok(())
}

const CHANGES: &str = "
    CREATE TABLE changes (event_name VARCHAR, new_image ROW<n BIGINT>)
    WITH ('connector' = 'http', 'listen' = '127.0.0.1:${port}', 'format' = 'dynamodb-cdc',
          'dynamodb-cdc.mode' = 'events');
    CREATE TABLE kept (event_name VARCHAR, share BIGINT)
    WITH ('connector' = 'filesystem', 'path' = '${out}', 'format' = 'json', 'sink.prefix' = 'rows/!{timestamp:yyyy}/',
          'sink.error-prefix' = 'errors/!{firehose:error-output-type}/', 'sink.backup-prefix' = 'backup/');
    INSERT INTO kept SELECT event_name, 12 / new_image.n FROM changes WHERE event_name <> 'REMOVE';";

/// A change record as Kinesis Data Streams for DynamoDB has it: with a name and without a sequence number.
fn change(id: &str, event: &str, n: u32) -> String {
    format!(
        r#"{{"eventID":"{id}","eventName":"{event}","dynamodb":{{"ApproximateCreationDateTime":{n},"Keys":{{"k":{{"S":"a"}}}},"NewImage":{{"n":{{"N":"{n}"}}}}}}}}"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_comes_again_after_a_restart_is_not_delivered_again() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (state, out) = (folder.path().join("state"), folder.path().join("out"));
    let (port, out_text) = (free_port()?, out.to_string_lossy().into_owned());
    let port_text = port.to_string();
    let parameters = [("port", port_text.as_str()), ("out", out_text.as_str())];
    let (one, two, three) = (change("e1", "INSERT", 1), change("e2", "MODIFY", 2), change("e3", "MODIFY", 3));
    let (failing, removed) = (change("e4", "MODIFY", 0), change("e5", "REMOVE", 4));
    for sent in [vec![&one, &one, &two, &failing], vec![&two, &one, &three, &removed]] {
        let mut job = scripts::start(CHANGES, &parameters, &state, Until::Stopped).await?;
        listening(&mut job, port).await?;
        for record in &sent {
            post(port, "/changes", record).await?;
        }
        job.stop().await?;
    }
    let rows: Vec<String> = parsed(&out.join("rows"))?.iter().map(|row| row["share"].to_string()).collect();
    assert_eq!(rows, ["12", "4", "6"]);
    assert_eq!(errors(&out, "processing-failed")?, [(failing, "Expression.Failed".to_owned())]);
    assert_eq!(scripts::lines(&out.join("backup"))?.len(), 8, "the backup has every record as it came");
    Ok(())
}

/// A store that refuses every write while it is told to.
#[derive(Debug)]
struct Breaking {
    store: LocalStore,
    is_broken: Arc<AtomicBool>,
    refused: Arc<AtomicU64>,
}

impl fmt::Display for Breaking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a store that breaks")
    }
}

impl Breaking {
    fn check(&self) -> headwater_engine::error::Result<()> {
        if !self.is_broken.load(SeqCst) {
            return Ok(());
        }
        self.refused.fetch_add(1, SeqCst);
        Err(Error::new(ErrorKind::Conflict, "OUTAGE", "nothing is written now"))
    }
}

#[async_trait]
impl CheckpointStore for Breaking {
    async fn create(&self, path: &str, bytes: Bytes) -> headwater_engine::error::Result<Created> {
        self.check()?;
        self.store.create(path, bytes).await
    }

    async fn put(&self, path: &str, bytes: Bytes) -> headwater_engine::error::Result<()> {
        self.check()?;
        self.store.put(path, bytes).await
    }

    async fn get(&self, path: &str) -> headwater_engine::error::Result<Option<Bytes>> {
        self.store.get(path).await
    }

    async fn folders(&self) -> headwater_engine::error::Result<Vec<String>> {
        self.store.folders().await
    }

    async fn list(&self, prefix: &str) -> headwater_engine::error::Result<Vec<String>> {
        self.store.list(prefix).await
    }

    async fn delete(&self, path: &str) -> headwater_engine::error::Result<()> {
        self.store.delete(path).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_were_read_before_an_attempt_failed_are_read_and_delivered_after_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (state, out) = (folder.path().join("state"), folder.path().join("out"));
    let (port, out_text) = (free_port()?, out.to_string_lossy().into_owned());
    let port_text = port.to_string();
    let parameters = [("port", port_text.as_str()), ("out", out_text.as_str())];
    let (is_broken, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let store = LocalStore::new(state.clone());
    let store = Arc::new(Breaking { store, is_broken: Arc::clone(&is_broken), refused: Arc::clone(&refused) });
    let mut job = scripts::start_on(store, CHANGES, &parameters, (&state, Until::Stopped)).await?;
    listening(&mut job, port).await?;
    post(port, "/changes", &change("e1", "INSERT", 1)).await?;
    is_broken.store(true, SeqCst);
    post(port, "/changes", &change("e2", "INSERT", 2)).await?;
    let begun = std::time::Instant::now();
    while refused.load(SeqCst) < 2 {
        anyhow::ensure!(job.is_running().await?, "the job has ended");
        anyhow::ensure!(begun.elapsed().as_secs() < 60, "no attempt fails");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    is_broken.store(false, SeqCst);
    listening(&mut job, port).await?;
    post(port, "/changes", &change("e3", "INSERT", 3)).await?;
    job.stop().await?;
    let rows: Vec<String> = parsed(&out.join("rows"))?.iter().map(|row| row["share"].to_string()).collect();
    assert_eq!(rows, ["12", "4", "6"]);
    Ok(())
}

/// Whether a file below a folder has bytes.
fn has_bytes(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| match path.is_dir() {
        true => has_bytes(&path),
        false => path.metadata().is_ok_and(|file| file.len() > 0),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_pipeline_as_one_job_loses_nothing_over_a_crash_and_restarts() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (state, lake) = (folder.path().join("state"), folder.path().join("lake"));
    generate(&Options {
        dataset: Dataset::Crimes,
        rows: Some(300),
        seed: 3,
        format: Some(DatasetFormat::Stream),
        target: lake.join("crimes_lines"),
    })?;
    let files = ["embedded", "tables", "send", "decode"].map(|name| {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../queries/crimes/{name}.sql")))
    });
    let script = files.into_iter().collect::<std::io::Result<String>>()?;
    let lake_text = lake.to_string_lossy().into_owned();
    let parameters = [("lake", lake_text.as_str())];
    let mut job = scripts::start(&script, &parameters, &state, Until::Stopped).await?;
    let begun = std::time::Instant::now();
    while !has_bytes(&lake.join(".streams")) {
        anyhow::ensure!(job.is_running().await?, "the job has ended");
        anyhow::ensure!(begun.elapsed().as_secs() < 60, "nothing is put on the stream");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // The files are taken; what they hold is on the stream and nowhere else.
    drop(job);
    for _ in 0..2 {
        scripts::run_once(&script, &parameters, &state).await?;
    }
    let mut sent = scripts::lines(&lake.join("crimes_lines"))?;
    let mut kept = scripts::lines(&lake.join("crimes_backup"))?;
    sent.sort();
    kept.sort();
    assert_eq!(kept, sent, "every line once");
    assert_eq!(scripts::lines(&lake.join("crimes_raw"))?.len(), 300);
    Ok(())
}

const PARTITIONED: &str = "
    CREATE TABLE lines (n BIGINT, kind VARCHAR)
    WITH ('connector' = 'http', 'listen' = '127.0.0.1:${port}', 'format' = 'json');
    CREATE TABLE by_kind (n BIGINT)
    WITH ('connector' = 'filesystem', 'path' = '${out}/by_kind', 'format' = 'json',
          'sink.partition-keys-query' = '{k: .kind}', 'sink.prefix' = 'rows/kind=!{partitionKeyFromQuery:k}/',
          'sink.partition.max-open' = '2', 'sink.partition.overflow' = 'error',
          'sink.error-prefix' = 'errors/!{firehose:error-output-type}/');
    CREATE TABLE by_part (n BIGINT, part VARCHAR)
    WITH ('connector' = 'filesystem', 'path' = '${out}/by_part', 'format' = 'json',
          'sink.prefix' = 'rows/part=!{partitionKeyFromLambda:part}/',
          'sink.error-prefix' = 'errors/!{firehose:error-output-type}/');
    INSERT INTO by_kind SELECT n FROM lines;
    INSERT INTO by_part SELECT n, nullif(kind, 'k3') FROM lines;";

#[tokio::test(flavor = "multi_thread")]
async fn rows_without_a_partition_and_of_one_too_many_are_error_objects() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (state, out) = (folder.path().join("state"), folder.path().join("out"));
    let (port, out_text) = (free_port()?, out.to_string_lossy().into_owned());
    let port_text = port.to_string();
    let parameters = [("port", port_text.as_str()), ("out", out_text.as_str())];
    let mut job = scripts::start(PARTITIONED, &parameters, &state, Until::Stopped).await?;
    listening(&mut job, port).await?;
    let lines: Vec<String> = (0..10).map(|n| format!("{{\"n\":{n},\"kind\":\"k{n}\"}}")).collect();
    post(port, "/lines", &lines.join("\n")).await?;
    job.stop().await?;
    // Two tasks may have two partitions open each.
    let kept = parsed(&out.join("by_kind/rows"))?.len();
    let errors_of = errors(&out.join("by_kind"), "metadata-extraction-failed")?;
    assert!((2..=4).contains(&kept) && kept + errors_of.len() == 10, "{kept} {errors_of:?}");
    let code = "DynamicPartitioning.ActivePartitionLimitExceeded";
    assert!(errors_of.iter().all(|(raw, found)| found == code && lines.contains(raw)), "{errors_of:?}");
    assert_eq!(parsed(&out.join("by_part/rows"))?.len(), 9);
    let failed = (lines[3].clone(), "DynamicPartitioning.PartitioningFailed".to_owned());
    assert_eq!(errors(&out.join("by_part"), "partitioning-failed")?, [failed]);
    Ok(())
}

/// Types and partition keys are those of the table of the catalog; JSON comes, Parquet goes.
const CONVERTED: &str = "
    CREATE EXTERNAL TABLE IF NOT EXISTS readings (
        n int, seen timestamp, sensor struct<id:string,value:double>, tags array<string>)
    PARTITIONED BY (name string, d string) STORED AS PARQUET LOCATION '${out}/readings/'
    TBLPROPERTIES ('parquet.compression' = 'gzip', 'sink.error-prefix' = '_errors/!{firehose:error-output-type}/');
    CREATE TABLE arriving (arrival TIMESTAMP(3) METADATA FROM 'timestamp' VIRTUAL)
    WITH ('connector' = 'http', 'listen' = '127.0.0.1:${port}', 'format' = 'json')
    LIKE readings (EXCLUDING PARTITIONS);
    INSERT INTO readings SELECT n, seen, sensor, tags, name, date_format(arrival, '%Y-%m-%d') FROM arriving;";

#[tokio::test(flavor = "multi_thread")]
async fn json_becomes_parquet_by_the_schema_of_a_table_of_the_catalog() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (state, out) = (folder.path().join("state"), folder.path().join("out"));
    let (port, out_text) = (free_port()?, out.to_string_lossy().into_owned());
    let port_text = port.to_string();
    let parameters = [("port", port_text.as_str()), ("out", out_text.as_str())];
    let mut job = scripts::start(CONVERTED, &parameters, &state, Until::Stopped).await?;
    listening(&mut job, port).await?;
    let lines = [
        r#"{"n":1,"seen":"2026-07-03T10:00:00.123456Z","sensor":{"ID":"a","value":1.5},"tags":["x","y"],"name":"up","more":{}}"#,
        r#"{"n":2,"seen":"2026-07-03 10:00:01","sensor":{"id":"b"},"name":"down"}{"n":3,"name":"up"}"#,
        r#"{"n":"oops","name":"up"}"#,
        "no json",
    ];
    post(port, "/arriving", &lines.join("\n")).await?;
    job.stop().await?;
    let query = "SELECT n, CAST(seen AS VARCHAR) AS seen, sensor.id AS id, sensor.value AS value, tags[1] AS tag, name,
                 d = CAST(current_date AS VARCHAR) OR d = CAST(current_date - INTERVAL '1' DAY AS VARCHAR) AS today
                 FROM readings ORDER BY n";
    let rows = scripts::rows(query, &[], &state).await?;
    let expected = [
        r#"{"n":1,"seen":"2026-07-03 10:00:00.123","id":"a","value":1.5,"tag":"x","name":"up","today":true}"#,
        r#"{"n":2,"seen":"2026-07-03 10:00:01.000","id":"b","value":null,"tag":null,"name":"down","today":true}"#,
        r#"{"n":3,"seen":null,"id":null,"value":null,"tag":null,"name":"up","today":true}"#,
    ];
    let expected = expected.iter().map(|row| Ok(serde_json::from_str(row)?)).collect::<Result<Vec<Value>>>()?;
    assert_eq!(rows, expected, "found through the partitions that the sink has registered");
    let failed = parsed_hidden(&out.join("readings/_errors/format-conversion-failed"))?;
    let mut shown: Vec<String> = failed
        .iter()
        .map(|error| format!("{} {}", error["lastErrorCode"], error["dataCatalogTable"]["tableName"]))
        .collect();
    shown.sort();
    let expected =
        ["\"DataFormatConversion.MalformedData\" \"readings\"", "\"DataFormatConversion.ParseError\" \"readings\""];
    assert_eq!(shown, expected);
    Ok(())
}

/// Lines of files in a folder whose own name may be hidden.
fn parsed_hidden(folder: &Path) -> Result<Vec<Value>> {
    scripts::lines(folder)?.iter().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_compression_is_read_back_under_the_names_of_firehose() -> Result<()> {
    const TEXT: [(&str, &str); 7] = [
        ("none", ""),
        ("gzip", ".gz"),
        ("zip", ".zip"),
        ("snappy", ".snappy"),
        ("hadoop-snappy", ".snappy"),
        ("zstd", ".zst"),
        ("bzip2", ".bz2"),
    ];
    const PARQUET: [&str; 5] = ["none", "snappy", "gzip", "zstd", "lz4"];
    let folder = tempfile::tempdir()?;
    let (state, out) = (folder.path().join("state"), folder.path().join("out"));
    std::fs::create_dir_all(out.join("in"))?;
    let lines: Vec<String> = (0..20_000).map(|n| format!("{{\"n\":{n},\"t\":\"text {}\"}}\n", n % 97)).collect();
    std::fs::write(out.join("in/lines.json"), lines.concat())?;
    let of_text = TEXT.map(|(codec, _)| (codec, format!("'compression' = '{codec}'"), "json"));
    let of_parquet = PARQUET.map(|codec| (codec, format!("'parquet.compression' = '{codec}'"), "parquet"));
    let (mut tables, mut inserts, mut selects) = (String::new(), String::new(), Vec::new());
    for (codec, option, format) in of_text.iter().chain(&of_parquet) {
        let name = format!("{format}_{}", codec.replace('-', "_"));
        tables += &format!(
            "CREATE TABLE {name} WITH ('path' = '${{out}}/{name}', 'format' = '{format}', {option},
                                       'sink.object-names' = 'firehose') LIKE lines;\n"
        );
        inserts += &format!("INSERT INTO {name} SELECT n, t FROM lines;\n");
        let select = "count(*) AS c, sum(n) AS s, max(t) AS m, count(DISTINCT t) AS d";
        selects.push(format!("SELECT '{name}' AS name, {select} FROM {name}"));
    }
    let tables = format!(
        "CREATE TABLE lines (n BIGINT, t VARCHAR)
         WITH ('connector' = 'filesystem', 'path' = '${{out}}/in', 'format' = 'json');\n{tables}"
    );
    let parameters = [("out", &*out.to_string_lossy())];
    scripts::run_once(&format!("{tables}{inserts}"), &parameters, &state).await?;
    let query = format!("{tables}{};", selects.join(" UNION ALL "));
    let rows = scripts::rows(&query, &parameters, &folder.path().join("reading")).await?;
    assert_eq!(rows.len(), TEXT.len() + PARQUET.len());
    for row in &rows {
        let found = (&row["c"], &row["s"], &row["m"], &row["d"]);
        assert_eq!(found, (&20_000.into(), &199_990_000.into(), &"text 96".into(), &97.into()), "{row}");
    }
    for (codec, extension) in TEXT {
        let name = format!("json_{}", codec.replace('-', "_"));
        for entry in std::fs::read_dir(out.join(&name))? {
            let file = entry?.file_name().to_string_lossy().into_owned();
            let is_named =
                file.starts_with(&format!("{name}-1-2")) && file.find('.').map_or("", |at| &file[at..]) == extension;
            assert!(is_named || file.starts_with('_'), "{file}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn several_inserts_write_one_folder() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (state, out) = (folder.path().join("state"), folder.path().join("out"));
    let (port, out_text) = (free_port()?, out.to_string_lossy().into_owned());
    let port_text = port.to_string();
    let script = "
        CREATE TABLE lines (n BIGINT) WITH ('connector' = 'http', 'listen' = '127.0.0.1:${port}', 'format' = 'json');
        CREATE TABLE kept (n BIGINT) WITH ('connector' = 'filesystem', 'path' = '${out}', 'format' = 'json');
        INSERT INTO kept SELECT n FROM lines WHERE n < 50;
        INSERT INTO kept SELECT n FROM lines WHERE n >= 50;";
    let parameters = [("port", port_text.as_str()), ("out", out_text.as_str())];
    let mut job = scripts::start(script, &parameters, &state, Until::Stopped).await?;
    listening(&mut job, port).await?;
    let lines: Vec<String> = (0..100).map(|n| format!("{{\"n\":{n}}}")).collect();
    post(port, "/lines", &lines.join("\n")).await?;
    job.stop().await?;
    let mut kept = scripts::lines(&out)?;
    kept.sort();
    let mut expected = lines;
    expected.sort();
    assert_eq!(kept, expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn keeping_records_is_refused_where_rows_and_records_part() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("out").to_string_lossy().into_owned();
    let tables = "
        CREATE TABLE lines (n BIGINT) WITH ('connector' = 'http', 'listen' = '127.0.0.1:1', 'format' = 'json');
        CREATE TABLE files (n BIGINT) WITH ('connector' = 'filesystem', 'path' = '${out}/in', 'format' = 'json',
                                            'source.monitor-interval' = '1 s');
        CREATE TABLE kept (n BIGINT) WITH ('connector' = 'filesystem', 'path' = '${out}', 'format' = 'json',
                                           'sink.backup-prefix' = 'backup/');";
    for (insert, why) in [
        ("INSERT INTO kept SELECT n FROM files", "has rows, not records"),
        (
            "INSERT INTO kept SELECT a.n FROM lines AS a CROSS JOIN UNNEST(ARRAY[1, 2]) AS t (x)",
            "rows and records apart",
        ),
    ] {
        let script = format!("{tables}{insert};");
        let started = scripts::start(&script, &[("out", &out)], &folder.path().join("state"), Until::Stopped).await;
        let refused = started.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.contains(why), "{insert}: {refused}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_refused_is_answered() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (state, out) = (folder.path().join("state"), folder.path().join("out").to_string_lossy().into_owned());
    let port = free_port()?;
    let port_text = port.to_string();
    let mut job = scripts::start(DELIVERED, &[("port", &port_text), ("out", &out)], &state, Until::Stopped).await?;
    listening(&mut job, port).await?;
    let large = vec![b' '; 17 << 20];
    for (method, path, expected) in [("POST", "/lines", 413), ("POST", "/none", 404), ("DELETE", "/lines", 405)] {
        let (status, _) = http::request(port, (method, path), &[], &large).await?;
        assert_eq!(status, expected, "{method} {path}");
    }
    job.stop().await?;
    Ok(())
}

/// Runs a demo on a small data set: its folder, and what it said.
fn demo(name: &str) -> Result<(tempfile::TempDir, String)> {
    let job = JobFolder::new(env!("CARGO_BIN_EXE_headwater-under-test"), "none.sql", "", "")?;
    let output = job.ended(&["--format", "ndjson", "demo", name, "--rows", "600"])?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{said}");
    let kept = tempfile::tempdir()?;
    std::fs::rename(job.path().join("state/demo").join(name), kept.path().join(name))?;
    Ok((kept, said))
}

/// The sum of a column over all rows that have it.
fn sum_of(said: &str, column: &str) -> i64 {
    let rows = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    rows.filter_map(|row| row[column].as_i64()).sum()
}

#[test]
fn the_demo_of_crimes_shows_what_was_decoded() -> Result<()> {
    let (folder, said) = demo("crimes")?;
    let lake = folder.path().join("crimes");
    assert_eq!(scripts::lines(&lake.join("crimes_backup"))?.len(), 600);
    assert_eq!(scripts::lines(&lake.join("crimes_raw"))?.len(), 600);
    assert!(said.contains("queries/crimes/embedded.sql") && said.contains("queries/crimes/send.sql"), "{said}");
    assert_eq!(said.matches("\"crime_time\":").count(), 10, "{said}");
    Ok(())
}

#[test]
fn the_demo_of_telemetry_delivers_both_streams() -> Result<()> {
    let (folder, said) = demo("telemetry")?;
    let streamed = folder.path().join("telemetry/streamed");
    let sent = scripts::lines(&folder.path().join("telemetry/raw"))?.len();
    assert_eq!(scripts::lines(&streamed.join("events_raw/json"))?.len(), sent);
    assert!(streamed.join("events_raw/parquet/name=anonymous_visited").is_dir());
    assert!(said.contains("queries/telemetry/embedded.sql") && said.contains("queries/telemetry/send.sql"), "{said}");
    assert!(said.contains("queries/telemetry/delivered.sql"), "{said}");
    let sent = i64::try_from(sent)?;
    assert_eq!((sum_of(&said, "json_events"), sum_of(&said, "parquet_events")), (sent, sent), "{said}");
    Ok(())
}

#[test]
fn the_demo_of_engagement_counts_every_event_and_joins_the_posts() -> Result<()> {
    let (folder, said) = demo("engagement")?;
    let events = scripts::lines(&folder.path().join("engagement/rawData/stream"))?.len();
    assert_eq!(events, scripts::lines(&folder.path().join("engagement/engagements"))?.len());
    for file in ["report.sql", "report_days.sql", "busiest.sql", "report_stream.sql"] {
        assert!(said.contains(&format!("queries/engagement/{file}")), "{file}: {said}");
    }
    assert!(said.contains("\"day\":") && said.contains("\"window_start\":"), "{said}");
    Ok(())
}

#[test]
fn the_demo_of_sales_shows_what_was_delivered_and_the_orders_as_they_are() -> Result<()> {
    let (folder, said) = demo("sales")?;
    let delivered = i64::try_from(scripts::lines(&folder.path().join("sales/sales"))?.len())?;
    let rows = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let by_day: i64 = rows.filter(|row| row["partition_0"].is_string()).filter_map(|row| row["changes"].as_i64()).sum();
    assert_eq!(by_day, delivered, "{said}");
    assert!(said.contains("\"worth\":"), "{said}");
    Ok(())
}
