//! Delivery as Firehose does it, from SQL: what each INSERT writes beside its rows, over crashes, exactly once.
//!
//! Invariant: every record sent is in the rows, in an error object, or left out by WHERE; and in the backup.

use std::path::Path;

use anyhow::Result;
use base64::Engine;
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

/// The raw data of an error type's objects with their codes.
fn errors(out: &Path, kind: &str) -> Result<Vec<(String, String)>> {
    let raw = |error: &Value| -> Result<(String, String)> {
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

#[test]
fn demos_show_the_streaming_half_of_telemetry_and_crimes() -> Result<()> {
    let binary = env!("CARGO_BIN_EXE_headwater-under-test");
    let demo = |name: &str| -> Result<(tempfile::TempDir, String)> {
        let job = JobFolder::new(binary, "none.sql", "", "")?;
        let output = job.ended(&["demo", name, "--rows", "600"])?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "{said}");
        let kept = tempfile::tempdir()?;
        std::fs::rename(job.path().join("state/demo").join(name), kept.path().join(name))?;
        Ok((kept, said))
    };
    let (folder, said) = demo("crimes")?;
    assert!(said.contains("queries/crimes/send.sql") && said.contains("queries/crimes/memory.sql"), "{said}");
    let lake = folder.path().join("crimes");
    assert_eq!(scripts::lines(&lake.join("crimes_backup"))?.len(), 600);
    assert_eq!(scripts::lines(&lake.join("crimes_raw"))?.len(), 600);
    let (folder, said) = demo("telemetry")?;
    assert!(said.contains("queries/telemetry/send.sql") && said.contains("queries/telemetry/delivered.sql"), "{said}");
    let streamed = folder.path().join("telemetry/streamed");
    let sent = scripts::lines(&folder.path().join("telemetry/raw"))?.len();
    assert_eq!(scripts::lines(&streamed.join("events_raw/json"))?.len(), sent);
    assert!(streamed.join("events_raw/parquet/name=anonymous_visited").is_dir());
    Ok(())
}
