//! Jobs as processes of their own over folders: what is kept aside, savepoints, changed queries, the commands for jobs.
//!
//! Invariant: what a command says is compared with what the files of the job's tables hold.

use std::fs;

use anyhow::{Result, ensure};
use headwater_tests::jobs::JobFolder;

const BINARY: &str = env!("CARGO_BIN_EXE_headwater-under-test");

/// A watched folder, and one that is written.
const TABLES: &str = "
CREATE TABLE clicks (id BIGINT, page VARCHAR, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND)
  WITH ('connector' = 'filesystem', 'path' = 'clicks', 'format' = 'json', 'source.monitor-interval' = '100 ms');
CREATE TABLE counts (page VARCHAR, window_start TIMESTAMP(3), n BIGINT)
  WITH ('connector' = 'filesystem', 'path' = 'counts', 'format' = 'json');
";
const COUNTS: &str = "
INSERT INTO counts SELECT page, window_start, count(*)
  FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY page, window_start, window_end;
";
const COUNTED: &str = "SELECT page, n FROM read_json('counts/*') ORDER BY window_start, page";

fn folder(script: &str) -> Result<JobFolder> {
    let folder = JobFolder::new(BINARY, "clicks.sql", script, "")?;
    fs::create_dir(folder.path().join("clicks"))?;
    Ok(folder)
}

/// A file of clicks: (id, page, second of the first hour of 2026).
fn clicks(folder: &JobFolder, file: &str, rows: &[(i64, &str, u32)]) -> Result<()> {
    let line = |(id, page, second): &(i64, &str, u32)| {
        let (minute, second) = (second / 60, second % 60);
        format!("{{\"id\": {id}, \"page\": \"{page}\", \"ts\": \"2026-01-01 00:{minute:02}:{second:02}\"}}\n")
    };
    fs::write(folder.path().join("clicks").join(file), rows.iter().map(line).collect::<String>())?;
    Ok(())
}

/// What a command line says, on both outputs, and its exit code.
fn said(folder: &JobFolder, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let output = folder.ended(arguments)?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8(text)?))
}

fn well(folder: &JobFolder, arguments: &[&str]) -> Result<String> {
    let (code, text) = said(folder, arguments)?;
    ensure!(code == Some(0), "{arguments:?} ended with {code:?}: {text}");
    Ok(text)
}

fn once(folder: &JobFolder, more: &[&str]) -> Result<String> {
    well(folder, &[&["run", "clicks.sql", "--once"], more].concat())
}

fn refused(folder: &JobFolder, arguments: &[&str], parts: &[&str]) -> Result<()> {
    let (code, text) = said(folder, arguments)?;
    ensure!(code == Some(1), "{arguments:?} ended with {code:?}: {text}");
    for part in parts {
        ensure!(text.contains(part), "{arguments:?} does not say {part:?}: {text}");
    }
    Ok(())
}

/// What `explain --against` says, without the header.
fn verdicts(folder: &JobFolder, script: &str) -> Result<String> {
    fs::write(folder.path().join("changed.sql"), script)?;
    let text = folder.ended(&["explain", "changed.sql", "--against", "clicks", "--format", "csv"])?;
    ensure!(text.status.success(), "{}", String::from_utf8_lossy(&text.stderr));
    Ok(String::from_utf8(text.stdout)?.lines().skip(1).map(|line| format!("{line}\n")).collect())
}

#[test]
fn a_changed_query_gets_a_verdict_for_each_piece_of_state() -> Result<()> {
    let folder = folder(&format!("{TABLES}{COUNTS}"))?;
    clicks(&folder, "1.json", &[(1, "/a", 1), (2, "/a", 2), (3, "/b", 20)])?;
    once(&folder, &[])?;
    let carries = "source:clicks,carries over,goes on at the offsets of 1 splits\n\
                   counts/window-aggregate-0,carries over,computes the same\n";
    ensure!(verdicts(&folder, &format!("{TABLES}{COUNTS}"))? == carries);
    // A column added that no state is about.
    let wider = TABLES.replace("n BIGINT)", "n BIGINT, tag VARCHAR)");
    let column = COUNTS.replace("count(*)\n", "count(*), concat(page, '!')\n");
    let found = verdicts(&folder, &format!("{wider}{column}"))?;
    ensure!(found == carries, "{found}");
    let changed = "source:clicks,carries over,goes on at the offsets of 1 splits\n\
                   counts/window-aggregate-0,dropped,computes something else now\n\
                   counts/window-aggregate-0,new,begins empty\n";
    let aggregate = COUNTS.replace("count(*)\n", "max(id)\n");
    let window = COUNTS.replace("'10' SECOND", "'20' SECOND");
    let key =
        COUNTS.replace("SELECT page,", "SELECT upper(page) AS page,").replace("GROUP BY page", "GROUP BY upper(page)");
    for query in [&aggregate, &window, &key] {
        let found = verdicts(&folder, &format!("{TABLES}{query}"))?;
        ensure!(found == changed, "{query}: {found}");
    }
    let other = TABLES.replace("TABLE clicks", "TABLE hits").replace("'path' = 'clicks'", "'path' = 'hits'");
    let source = COUNTS.replace("TABLE clicks", "TABLE hits");
    let found = verdicts(&folder, &format!("{other}{source}"))?;
    let gone = "source:hits,new,starts where its table's options say\n\
                counts/window-aggregate-0,dropped,reads other tables now\n\
                counts/window-aggregate-0,new,begins empty\n\
                source:clicks,dropped,is no longer read\n";
    ensure!(found == gone, "{found}");
    refused(&folder, &["explain", "clicks.sql", "--against", "clics"], &["job \"clics\" does not exist"])?;

    // A run loses nothing of it unasked.
    fs::write(folder.path().join("clicks.sql"), format!("{TABLES}{window}"))?;
    let parts = ["would drop state", "counts/window-aggregate-0", "--allow-drop"];
    refused(&folder, &["run", "clicks.sql", "--once"], &parts)?;
    clicks(&folder, "2.json", &[(4, "/a", 3000)])?;
    once(&folder, &["--allow-drop"])?;
    let counted = folder.query(COUNTED)?;
    ensure!(counted == ["/a,2"], "the open window of /b was dropped: {counted:?}");
    Ok(())
}

/// The answer to a GET without its headers.
fn get(address: &str, path: &str) -> Result<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    ensure!(text.starts_with("HTTP/1.1 200"), "{text}");
    Ok(text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

#[test]
fn a_running_job_shows_its_metrics_and_logs_in_json() -> Result<()> {
    let folder = folder(&format!("{TABLES}{COUNTS}"))?.with_variable("HEADWATER_LOG", "info");
    fs::write(folder.path().join("headwater.toml"), "checkpoint.interval = '200 ms'\n")?;
    clicks(&folder, "1.json", &[(1, "/a", 1), (2, "/a", 2), (3, "/b", 20)])?;
    let address = format!("127.0.0.1:{}", headwater_tests::services::free_port()?);
    let running = folder.start("clicks.sql", &["--metrics", &address, "--log-format", "json"])?;
    folder.wait_for("SELECT rows_read FROM headwater.jobs", |lines| lines == ["3"])?;
    let page = get(&address, "/metrics")?;
    for line in [
        "headwater_ledger_rows{job=\"clicks\",insert=\"counts\",table=\"clicks\",split=",
        "fate=\"held\"} 1",
        "headwater_rows_read_total{job=\"clicks\",table=\"clicks\",split=",
        "headwater_rows_written_total{job=\"clicks\",sink=\"counts\"} 1",
        "headwater_open_windows{job=\"clicks\",operator=\"counts/",
        "headwater_queue_bytes{job=\"clicks\",node=\"",
        "headwater_checkpoint_duration_seconds{job=\"clicks\"}",
        "headwater_memory_limit_bytes{job=\"clicks\"}",
    ] {
        ensure!(page.contains(line), "{line} is not in\n{page}");
    }
    ensure!(get(&address, "/healthz")? == "ok\n");
    well(&folder, &["jobs", "stop", "clicks"])?;
    let log = running.finish()?;
    let asked = log.lines().find(|line| line.contains("asked to stop")).unwrap_or_default();
    ensure!(asked.starts_with('{') && asked.ends_with('}') && asked.contains("\"level\":\"INFO\""), "{log}");
    Ok(())
}
