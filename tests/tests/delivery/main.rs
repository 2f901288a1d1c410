//! Delivery as Firehose does it, from SQL: what each INSERT writes beside its rows, over crashes, exactly once.
//!
//! Invariant: every record sent is in the rows, in an error object, or left out by WHERE; and in the backup.

mod demos;
mod restarts;

use std::path::Path;

use anyhow::Result;
use base64::Engine;
use headwater_tests::{
    http::{self, listening, post},
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

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_one_record_are_delivered_and_put_aside_one_by_one() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (state, out) = (folder.path().join("state"), folder.path().join("out"));
    let (port, out_text) = (free_port()?, out.to_string_lossy().into_owned());
    let port_text = port.to_string();
    let parameters = [("port", port_text.as_str()), ("out", out_text.as_str())];
    let mut job = scripts::start(DELIVERED, &parameters, &state, Until::Stopped).await?;
    listening(&mut job, port).await?;
    let record = [LINES[0], LINES[1], LINES[2], LINES[3]].concat();
    post(port, "/lines", &record).await?;
    job.stop().await?;
    assert_eq!(scripts::lines(&out.join("rows/kind=a"))?, [r#"{"n":1,"share":10}"#]);
    assert_eq!(scripts::lines(&out.join("rows/kind=b"))?, [r#"{"n":2,"share":5}"#]);
    let raw = |kind| anyhow::Ok(errors(&out, kind)?.into_iter().map(|(raw, _)| raw).collect::<Vec<_>>());
    assert_eq!(raw("processing-failed")?, [LINES[2]]);
    assert_eq!(raw("metadata-extraction-failed")?, [LINES[3]]);
    assert_eq!(scripts::lines(&out.join("backup"))?, [record]);
    Ok(())
}

/// Two INSERTs of one table, of which the second fails on a row that the first delivers.
const TWO: &str = "
    CREATE TABLE lines (n BIGINT) WITH ('connector' = 'filesystem', 'path' = '${out}/in', 'format' = 'json');
    CREATE TABLE plain (n BIGINT)
    WITH ('connector' = 'filesystem', 'path' = '${out}/plain', 'format' = 'json', 'sink.prefix' = 'rows/',
          'sink.error-prefix' = 'errors/!{firehose:error-output-type}/');
    CREATE TABLE shares WITH ('path' = '${out}/shares') LIKE plain;
    INSERT INTO plain SELECT n FROM lines;
    INSERT INTO shares SELECT 10 / n FROM lines;";

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_delivered_is_no_error_object_because_another_insert_fails_on_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (state, out) = (folder.path().join("state"), folder.path().join("out"));
    std::fs::create_dir_all(out.join("in"))?;
    std::fs::write(out.join("in/a.json"), "{\"n\":1}\n{\"n\":0}\n{\"n\":\"many\"}\n")?;
    let summary = scripts::run_once(TWO, &[("out", &*out.to_string_lossy())], &state).await?;
    assert_eq!(scripts::lines(&out.join("plain/rows"))?.len(), 2);
    assert_eq!(scripts::lines(&out.join("shares/rows"))?.len(), 1);
    for (table, expressions) in [("plain", 0), ("shares", 1)] {
        assert_eq!(errors(&out.join(table), "format-conversion-failed")?.len(), 1, "{table}");
        assert_eq!(errors(&out.join(table), "processing-failed")?.len(), expressions, "{table}");
        let account = &summary.ledger["lines"];
        let (rows, aside) = (&account[table], &account[&format!("{table}$errors")]);
        assert_eq!(rows.rejected, aside.read, "{table}: what the INSERT rejects is what it keeps aside");
    }
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
