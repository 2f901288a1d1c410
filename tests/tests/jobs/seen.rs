//! What a job shows of itself: its plan, its metrics, its log, the line on a terminal, the changes of a query.
//!
//! Invariant: what is shown is compared with what the job was given.

use std::fs;

use anyhow::{Result, ensure};
use headwater_tests::jobs::JobFolder;

use crate::{BINARY, COUNTS, TABLES, clicks, folder, once, well};

#[test]
fn a_select_that_emits_changes_follows_its_table() -> Result<()> {
    let script = "CREATE TABLE gen (id BIGINT, k BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '50', \
                  'fields.k.min' = '1', 'fields.k.max' = '1');";
    let folder = JobFolder::new(BINARY, "none.sql", "", "")?;
    let updates = format!("{script} SELECT k, count(*) AS n FROM gen GROUP BY k EMIT CHANGES");
    let mut following = folder
        .command(&["--format", "csv", "-c", &updates])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()?;
    let out = following.stdout.take().ok_or_else(|| anyhow::anyhow!("no output"))?;
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(out));
    let mut next = || lines.next().transpose();
    ensure!(next()?.as_deref() == Some("op,k,n"));
    let first = next()?.unwrap_or_default();
    ensure!(first.starts_with("+I,1,"), "{first}");
    let (mut count, mut line) = (0, String::new());
    while count < 60 {
        line = next()?.unwrap_or_default();
        let last = line.rsplit(',').next().unwrap_or_default();
        count = last.parse::<u64>()?;
    }
    ensure!(line.starts_with("-U,1,") || line.starts_with("+U,1,"), "{line}");
    following.kill()?;
    following.wait()?;
    // What ends needs no following.
    let rows = folder.query("SELECT x FROM (VALUES 1, 2) AS t (x) EMIT CHANGES")?;
    ensure!(rows == ["1", "2"], "{rows:?}");
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

/// Three INSERTs over a table and what it keeps aside.
const EXPLAINED: &str = "
CREATE TABLE bids (auction BIGINT, price BIGINT, at TIMESTAMP(3), WATERMARK FOR at AS at - INTERVAL '1' SECOND)
  WITH ('connector' = 'kafka', 'topic' = 'bids', 'properties.bootstrap.servers' = 'localhost:1', 'format' = 'json',
        'scan.watermark.idle-timeout' = '10 s');
CREATE TABLE out (a BIGINT, n BIGINT)
  WITH ('connector' = 'kafka', 'topic' = 'out', 'properties.bootstrap.servers' = 'localhost:1', 'format' = 'json');
CREATE TABLE totals (a BIGINT, n BIGINT, PRIMARY KEY (a) NOT ENFORCED)
  WITH ('connector' = 'upsert-kafka', 'topic' = 'totals', 'properties.bootstrap.servers' = 'localhost:1',
        'key.format' = 'json', 'value.format' = 'json');
CREATE TABLE old (a BIGINT, off VARCHAR)
  WITH ('connector' = 'kafka', 'topic' = 'old', 'properties.bootstrap.servers' = 'localhost:1', 'format' = 'json');
INSERT INTO out SELECT auction, count(*) FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(at), INTERVAL '1' MINUTE))
  WHERE price > 3 GROUP BY auction, window_start, window_end;
INSERT INTO totals SELECT auction, sum(price) FROM bids GROUP BY auction;
INSERT INTO old SELECT auction, \"offset\" FROM \"bids$late\";
";

#[test]
fn explain_shows_one_graph_with_keys_state_watermarks_and_changes_of_each_edge() -> Result<()> {
    let folder = JobFolder::new(BINARY, "explained.sql", EXPLAINED, "")?;
    let text = folder.ended(&["explain", "explained.sql", "--format", "tsv"])?;
    ensure!(text.status.success(), "{}", String::from_utf8_lossy(&text.stderr));
    let text = String::from_utf8(text.stdout)?;
    for line in [
        "source:bids: kafka Named([\"bids\"]) (inserts), reads auction, price, at",
        "  watermark: -(at@2, 1000)",
        "  branch 0: rows for out",
        "    late once the windows of TUMBLE(size 60 s) have ended, by 0 ms",
        "    window-aggregate-partial before the exchange",
        "  branch 1: rows for totals",
        "  branch 2: late rows for old",
        "out/window-aggregate-0: window-aggregate (keeps state)",
        "  <- source:bids branch 0, by auction#0, inserts",
        "out/sink-2: kafka topic out (takes inserts, ExactlyOnce)",
        "totals/running-aggregate-0: running-aggregate (keeps state)",
        "  <- source:bids branch 1, by auction#0, inserts",
        "  <- totals/running-aggregate-0, forward, changes with their old rows",
        "totals/compact-2: compact (no state)",
        "totals/sink-3: kafka topic totals (takes upserts by key, ExactlyOnce)",
        "  <- totals/compact-2, forward, upserts by key",
        "old/sink-0: kafka topic old (takes inserts, ExactlyOnce)",
        "  <- source:bids branch 2, forward, inserts",
        "note: a split of \"bids\" that is silent for 10 s no longer holds windows",
        "note: totals: GROUP BY without a window keeps state for ever: set 'table.exec.state.ttl' if keys come and go",
    ] {
        let times = text.lines().filter(|found| *found == line).count();
        ensure!(times == 1, "{line:?} is there {times} times:\n{text}");
    }
    ensure!(text.matches("source:bids:").count() == 1, "the INSERTs share their source:\n{text}");
    Ok(())
}

/// A job on a terminal: a line that is written over each second, and makes way for what is said meanwhile.
#[test]
fn a_line_on_the_terminal_says_how_a_job_goes() -> Result<()> {
    let script = "
CREATE TABLE g (id BIGINT, ts AS LOCALTIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
  WITH ('connector' = 'datagen', 'rows-per-second' = '200');
CREATE TABLE o (id BIGINT, n BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO o SELECT id % 3, count(*) FROM TABLE(TUMBLE(TABLE g, DESCRIPTOR(ts), INTERVAL '1' SECOND))
  GROUP BY id % 3, window_start, window_end;
";
    let folder = JobFolder::new(BINARY, "gen.sql", script, "'checkpoint.interval' = '500 ms'\n")?;
    let mut typed = std::process::Command::new("script")
        .args(["-qec", &format!("'{BINARY}' --state state run gen.sql"), "/dev/null"])
        .current_dir(folder.path())
        .env("XDG_CONFIG_HOME", folder.path())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let epochs = "SELECT max(epoch) FROM headwater.checkpoints WHERE job = 'gen'";
    let is_late =
        |lines: &[String]| lines.first().and_then(|epoch| epoch.parse::<u64>().ok()).is_some_and(|epoch| epoch >= 6);
    let waited = folder.wait_for(epochs, is_late);
    let stopped = folder.ended(&["jobs", "stop", "gen"])?;
    if !stopped.status.success() {
        typed.kill()?;
    }
    let shown = typed.wait_with_output()?;
    waited?;
    ensure!(stopped.status.success(), "cannot be stopped: {}", String::from_utf8_lossy(&stopped.stderr));
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let states: Vec<&str> = shown.split("\r\u{1b}[K").collect();
    let line = states.iter().find(|state| state.starts_with("gen: in ") && state.contains(", checkpoint "));
    let Some(line) = line else { anyhow::bail!("there is no line with a checkpoint: {shown:?}") };
    for part in ["/s, out ", ", watermark ", " behind, ", " ago in "] {
        ensure!(line.contains(part), "no {part:?} in {line:?}");
    }
    ensure!(states.last().is_some_and(|last| !last.contains("gen: in ")), "the line is left: {shown:?}");
    ensure!(states.iter().any(|state| state.starts_with("job gen: stopped at checkpoint ")), "{shown:?}");
    Ok(())
}

#[test]
fn metrics_for_everybody_are_warned_of() -> Result<()> {
    let folder = folder(&format!("{TABLES}{COUNTS}"))?;
    let port = headwater_tests::services::free_port()?;
    let said = once(&folder, &["--metrics", &format!("0.0.0.0:{port}")])?;
    ensure!(said.contains(&format!("warning: --metrics 0.0.0.0:{port} answers everybody")), "{said}");
    let said = once(&folder, &["--metrics", &format!("127.0.0.1:{port}")])?;
    ensure!(!said.contains("warning"), "{said}");
    Ok(())
}
