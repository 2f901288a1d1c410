//! Jobs as processes of their own over folders: what is kept aside, savepoints, changed queries, the commands for jobs.
//!
//! Invariant: what a command says is compared with what the files of the job's tables hold.

use std::{collections::BTreeSet, fs, path::Path};

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

#[test]
fn rows_kept_aside_are_read_from_outside_and_feed_other_inserts() -> Result<()> {
    let script = format!(
        "{TABLES}
CREATE TABLE bad (raw VARCHAR, reason VARCHAR, split VARCHAR, off VARCHAR)
  WITH ('connector' = 'filesystem', 'path' = 'bad', 'format' = 'json');
CREATE TABLE old (id BIGINT, off VARCHAR, inserts VARCHAR)
  WITH ('connector' = 'filesystem', 'path' = 'old', 'format' = 'json');
{COUNTS}
INSERT INTO bad SELECT from_utf8(raw), reason, split, \"offset\" FROM \"clicks$rejected\";
INSERT INTO old SELECT id, \"offset\", inserts FROM \"clicks$late\" WHERE id > 0;
"
    );
    let folder = folder(&script)?;
    let lines = [
        r#"{"id": 1, "page": "/a", "ts": "2026-01-01 00:00:01"}"#,
        r#"{"id": 2, "page": "/a", "ts": "2026-01-01 00:10:00"}"#,
        r#"{"id": "x", "page": "/a", "ts": "2026-01-01 00:10:00"}"#,
        r#"{"id": 4, "page": "/a", "ts": null}"#,
        r#"{"id": 5, "page": "/b", "ts": "2026-01-01 00:00:02"}"#,
        "no json",
    ];
    fs::write(folder.path().join("clicks/1.json"), lines.join("\n"))?;
    once(&folder, &[])?;
    let bad = folder.query("SELECT raw, reason LIKE '%id%' OR reason LIKE '%NULL%' FROM read_json('bad/*')")?;
    ensure!(bad.len() == 3 && bad.iter().filter(|line| line.contains("true")).count() >= 1, "{bad:?}");
    let raw = folder.query("SELECT raw FROM read_json('bad/*') ORDER BY off")?;
    let found: BTreeSet<String> = raw.iter().map(|line| line.trim_matches('"').replace("\"\"", "\"")).collect();
    let expected: BTreeSet<String> = [lines[2], lines[3], lines[5]].map(str::to_owned).into();
    ensure!(found == expected, "{found:?}");
    ensure!(folder.query("SELECT id, inserts FROM read_json('old/*')")? == ["5,counts"]);
    // From another process, by the job's name and by the table's.
    let kept = folder.query("SELECT count(*), min(split), count(DISTINCT \"offset\") FROM \"clicks$rejected\"")?;
    ensure!(kept.len() == 1 && kept[0].starts_with("3,") && kept[0].ends_with(",3"), "{kept:?}");
    ensure!(kept[0].contains("clicks/1.json"), "{kept:?}");
    ensure!(folder.query("SELECT id, page, inserts FROM \"clicks$late\"")? == ["5,/b,counts"]);
    let ledger = "SELECT insert_name, sum(\"read\"), sum(rejected), sum(late), sum(held) + sum(released), \
                  bool_and(balanced) FROM headwater.ledger GROUP BY 1 ORDER BY 1";
    ensure!(folder.query(ledger)? == ["bad,3,0,0,3,true", "counts,6,3,1,2,true", "old,1,0,0,1,true"]);
    // The next run goes on: nothing is delivered twice.
    clicks(&folder, "2.json", &[(6, "/c", 1)])?;
    once(&folder, &[])?;
    ensure!(folder.query("SELECT count(*) FROM read_json('bad/*')")? == ["3"]);
    ensure!(folder.query("SELECT id FROM read_json('old/*') ORDER BY id")? == ["5", "6"]);
    Ok(())
}

#[test]
fn late_rows_have_all_columns_and_those_of_an_older_table_are_shown_by_name() -> Result<()> {
    let totals = "
CREATE TABLE totals (window_start TIMESTAMP(3), n BIGINT)
  WITH ('connector' = 'filesystem', 'path' = 'totals', 'format' = 'json');
INSERT INTO totals SELECT window_start, count(*) FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND))
  GROUP BY window_start, window_end;";
    let folder = folder(&format!("{TABLES}{totals}"))?;
    clicks(&folder, "1.json", &[(1, "/a", 1), (2, "/a", 600), (3, "/b", 2)])?;
    once(&folder, &[])?;
    ensure!(folder.query("SELECT id, page, inserts FROM \"clicks$late\"")? == ["3,/b,totals"]);
    let wider = TABLES.replace("page VARCHAR, ts", "page VARCHAR, extra BIGINT, ts");
    fs::write(folder.path().join("clicks.sql"), format!("{wider}{}", totals.replace("count(*)", "sum(id)")))?;
    let row = |id: i64| {
        format!("{{\"id\": {id}, \"page\": \"/c\", \"extra\": {}, \"ts\": \"2026-01-01 00:00:03\"}}\n", id * 2)
    };
    // More rows than a batch has, and late ones in several of them.
    fs::write(folder.path().join("clicks/2.json"), (4..20_004).map(row).collect::<String>())?;
    once(&folder, &["--allow-drop"])?;
    let late = "SELECT count(*), count(page), sum(extra) = 2 * sum(id) - 6, min(extra) FROM \"clicks$late\"";
    ensure!(folder.query(late)? == ["20001,20001,true,8"], "{:?}", folder.query(late)?);
    ensure!(folder.query("SELECT page, extra FROM \"clicks$late\" WHERE id = 3")? == ["/b,"]);
    Ok(())
}

#[test]
fn a_savepoint_outlives_retention_and_a_job_goes_back_to_it() -> Result<()> {
    let folder = folder(&format!("{TABLES}{COUNTS}"))?;
    refused(&folder, &["jobs", "savepoint", "clicks", "first"], &["job \"clicks\" does not exist"])?;
    clicks(&folder, "1.json", &[(1, "/a", 1), (2, "/a", 2), (3, "/b", 20)])?;
    once(&folder, &[])?;
    let text = well(&folder, &["jobs", "savepoint", "clicks", "first"])?;
    ensure!(text.contains("savepoint first is checkpoint 1"), "{text}");
    refused(&folder, &["jobs", "savepoint", "clicks", "first"], &["there is a savepoint \"first\" already"])?;
    refused(&folder, &["jobs", "savepoint", "clicks", "7"], &["\"7\" is no name for a savepoint"])?;
    for run in 2..8 {
        clicks(&folder, &format!("{run}.json"), &[(10 + run, "/c", 30 * run as u32)])?;
        once(&folder, &[])?;
    }
    let kept = folder.query("SELECT epoch, savepoint FROM headwater.checkpoints ORDER BY epoch")?;
    ensure!(kept == ["1,first", "5,", "6,", "7,"], "{kept:?}");
    let listed = well(&folder, &["checkpoints", "clicks", "--format", "csv"])?;
    ensure!(listed.lines().count() == 5 && listed.contains("first"), "{listed}");
    ensure!(well(&folder, &["checkpoints", "clicks", "1"])?.contains("\"epoch\": 1"));
    refused(&folder, &["checkpoints", "clicks", "3"], &["job \"clicks\" has no checkpoint 3"])?;

    let before = folder.query(COUNTED)?;
    ensure!(before.len() == 7, "{before:?}");
    let back = ["run", "clicks.sql", "--once", "--from-checkpoint", "first"];
    refused(&folder, &back, &["going back to checkpoint 1 repeats output", "--allow-repeat"])?;
    let other = ["run", "clicks.sql", "--once", "--from-checkpoint", "second"];
    refused(&folder, &other, &["has no savepoint \"second\"", "there are: 5, 6, 7, first"])?;
    once(&folder, &["--from-checkpoint", "first", "--allow-repeat"])?;
    // Window 20 s of "/b" was open in it, and all files after the first are read again.
    let after = folder.query(COUNTED)?;
    ensure!(after.len() == before.len() * 2 - 1, "{after:?}");
    let epochs = folder.query("SELECT max(epoch) FROM headwater.checkpoints")?;
    ensure!(epochs == ["8"], "epochs only grow: {epochs:?}");
    well(&folder, &["jobs", "savepoint", "clicks", "first", "--drop"])?;
    refused(&folder, &["jobs", "savepoint", "clicks", "firts", "--drop"], &["has no savepoint"])?;
    once(&folder, &[])?;
    ensure!(folder.query("SELECT min(epoch) FROM headwater.checkpoints")? != ["1"]);
    Ok(())
}

#[test]
fn the_commands_for_jobs_list_show_stop_and_drop() -> Result<()> {
    let folder = folder(&format!("{TABLES}{COUNTS}"))?;
    clicks(&folder, "1.json", &[(1, "/a", 1), (2, "/a", 2), (3, "/b", 20)])?;
    let settings = "checkpoint.interval = '200 ms'\nparallelism = '2'\n";
    fs::write(folder.path().join("headwater.toml"), settings)?;
    let running = folder.start("clicks.sql", &[])?;
    folder.wait_for("SELECT job, status, rows_read FROM headwater.jobs", |lines| lines == ["clicks,running,3"])?;
    refused(&folder, &["jobs", "drop", "clicks", "--yes"], &["job \"clicks\" is running", "jobs stop clicks"])?;
    let windows = "SELECT open_windows, oldest_window_end, table_name, missing_ms, reason FROM headwater.windows";
    let why = folder.wait_for(windows, |lines| !lines.is_empty())?;
    ensure!(why[0].starts_with("1,2026-01-01 00:00:30.000,") && why[0].contains("no split holds it back"), "{why:?}");
    let passed = "SELECT operator, rows_in, rows_out, rows_dropped FROM headwater.operators ORDER BY 1";
    let all =
        ["counts/steps-1,1,1,0", "counts/window-aggregate-0,2,1,0", "counts/window-aggregate-partial:clicks-0,3,2,0"];
    folder.wait_for(passed, |lines| lines == all)?;
    let operators = "SELECT operator, state_rows, state_bytes > 0, queue_bytes FROM headwater.operators ORDER BY 1";
    let operators = folder.query(operators)?;
    ensure!(
        operators.iter().any(|line| line.starts_with("counts/window-aggregate") && line.contains(",1,true,0")),
        "{operators:?}"
    );
    let stopped = well(&folder, &["jobs", "stop", "clicks", "--savepoint", "end"])?;
    ensure!(stopped.contains("job clicks: stopped at checkpoint") && stopped.contains("savepoint end is"), "{stopped}");
    let log = running.finish()?;
    ensure!(log.contains("clicks: counts: read 3 = rejected 0 + filtered 0 + late 0 + held 1 + released 2"), "{log}");
    refused(&folder, &["jobs", "stop", "clicks"], &["job \"clicks\" does not run"])?;
    refused(&folder, &["jobs", "stop", "click"], &["job \"click\" does not exist", "clicks"])?;
    let listed = well(&folder, &["jobs", "list"])?;
    ensure!(listed.contains("clicks") && listed.contains("stopped"), "{listed}");
    let shown = well(&folder, &["jobs", "show", "clicks"])?;
    for part in ["splits", "clicks/1.json", "open windows", "ledger", "sinks", "counts/sink"] {
        ensure!(shown.contains(part), "{part} is not in {shown}");
    }
    let (code, text) = said(&folder, &["jobs", "drop", "clicks"])?;
    ensure!(code == Some(2) && text.contains("--yes"), "{code:?} {text}");
    well(&folder, &["jobs", "drop", "clicks", "--yes"])?;
    ensure!(folder.query("SELECT count(*) FROM headwater.jobs")? == ["0"]);
    ensure!(
        !Path::new(&folder.path().join("state/clicks")).exists()
            || folder.query("SELECT * FROM headwater.checkpoints")?.is_empty()
    );
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

#[test]
fn a_job_without_credentials_ends_and_says_so() -> Result<()> {
    let table = "CREATE TABLE s (n BIGINT) WITH ('connector' = 'kinesis', 'stream' = 's', 'aws.region' = 'us-east-1',
                     'aws.endpoint' = 'http://127.0.0.1:1', 'format' = 'json');
                 CREATE TABLE out (n BIGINT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'json');
                 INSERT INTO out SELECT n FROM s;";
    let mut folder = JobFolder::new(BINARY, "keyless.sql", table, "")?;
    for (name, value) in [
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/nowhere/credentials"),
        ("AWS_CONFIG_FILE", "/nowhere/config"),
    ] {
        folder = folder.with_variable(name, value);
    }
    let mut command = folder.command(&["run", "keyless.sql"]);
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"] {
        command.env_remove(name);
    }
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("PERMISSION_DENIED"), "{said}");
    assert!(said.contains("no AWS credentials were found"), "{said}");
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

/// Nobody looks at the rows a job keeps aside unless told of them.
#[test]
fn strict_is_not_content_with_rows_that_a_job_keeps_aside() -> Result<()> {
    let folder = folder(&format!("{TABLES}{COUNTS}"))?;
    clicks(&folder, "1.json", &[(1, "/a", 1), (2, "/a", 2)])?;
    once(&folder, &["--strict"])?;
    fs::write(folder.path().join("clicks/2.json"), "{\"id\": 3}\nno json\n")?;
    let warning = "warning: 2 rows of \"clicks\" rejected: SELECT * FROM \"clicks$rejected\"";
    refused(&folder, &["run", "clicks.sql", "--once", "--strict"], &[warning])?;
    // What an earlier run has rejected is not this one's.
    let said = once(&folder, &["--strict"])?;
    ensure!(!said.contains("warning"), "{said}");
    fs::write(folder.path().join("clicks/3.json"), "no json\n")?;
    let said = once(&folder, &[])?;
    ensure!(said.contains("warning: 1 row of \"clicks\" rejected"), "{said}");
    // The DDL of the file given again shows what its job keeps, not what another look at the files finds.
    fs::remove_file(folder.path().join("clicks/2.json"))?;
    let kept = folder.query(&format!("{TABLES}SELECT count(*) FROM \"clicks$rejected\""))?;
    ensure!(kept == ["3"], "{kept:?}");
    // A table of that name over another folder is another table.
    fs::create_dir(folder.path().join("elsewhere"))?;
    let other = TABLES.replace("'path' = 'clicks'", "'path' = 'elsewhere'");
    let kept = folder.query(&format!("{other}SELECT count(*) FROM \"clicks$rejected\""))?;
    ensure!(kept == ["0"], "{kept:?}");
    Ok(())
}

/// A query over a stream counts what it leaves out, as one over files does.
#[test]
fn strict_is_not_content_with_rows_that_a_query_of_a_stream_leaves_out() -> Result<()> {
    let folder = folder("")?;
    let script = "
CREATE TABLE lines (line VARCHAR) WITH ('connector' = 'memory', 'name' = 'log', 'format' = 'raw');
CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'memory', 'name' = 'log', 'format' = 'json', 'malformed' = 'reject');
INSERT INTO lines VALUES ('{\"n\": 1}'), ('no json'), ('{\"n\": 2}'), ('{\"n\": \"x\"}');
SELECT sum(n) FROM numbers;
";
    let said = well(&folder, &["-c", script])?;
    ensure!(said.lines().any(|line| line == "3") && said.contains("2 malformed rows skipped"), "{said}");
    refused(&folder, &["--strict", "-c", script], &["2 malformed rows skipped"])
}

#[test]
fn another_folder_is_another_source() -> Result<()> {
    let folder = folder(&format!("{TABLES}{COUNTS}"))?;
    clicks(&folder, "1.json", &[(1, "/a", 1), (2, "/a", 20)])?;
    once(&folder, &[])?;
    fs::create_dir(folder.path().join("elsewhere"))?;
    let moved = TABLES.replace("'path' = 'clicks'", "'path' = 'elsewhere'");
    fs::write(folder.path().join("clicks.sql"), format!("{moved}{COUNTS}"))?;
    let verdicts = well(&folder, &["explain", "clicks.sql", "--against", "clicks"])?;
    ensure!(verdicts.contains("source:clicks,dropped,\"no longer reads"), "{verdicts}");
    ensure!(verdicts.contains("source:clicks,new,starts where its table's options say; rows behind"), "{verdicts}");
    refused(&folder, &["run", "clicks.sql", "--once"], &["no longer reads", "1.json", "--allow-drop"])?;
    fs::rename(folder.path().join("clicks/1.json"), folder.path().join("elsewhere/1.json"))?;
    clicks(&folder, "2.json", &[(3, "/b", 40)])?;
    fs::rename(folder.path().join("clicks/2.json"), folder.path().join("elsewhere/2.json"))?;
    let said = once(&folder, &["--allow-drop"])?;
    ensure!(said.contains("read 5"), "all files of the new folder are new: {said}");
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

/// `SET 'pipeline.name'` names the job, unless the command line does.
#[test]
fn a_job_has_the_name_that_its_file_gives_it() -> Result<()> {
    let folder = folder(&format!("SET 'pipeline.name' = 'page views';\n{TABLES}{COUNTS}"))?;
    once(&folder, &[])?;
    once(&folder, &["--job", "other"])?;
    ensure!(folder.query("SELECT job FROM headwater.jobs ORDER BY 1")? == ["other", "page views"]);
    Ok(())
}

/// Rows that a run rejects are its own, also where an earlier one rejected as many, for another INSERT or before this one
/// went back.
#[test]
fn strict_counts_what_this_run_rejects_wherever_it_began() -> Result<()> {
    let folder = folder(&format!("{TABLES}{COUNTS}"))?;
    let bad = |file: &str, rows: usize| fs::write(folder.path().join("clicks").join(file), "no json\n".repeat(rows));
    clicks(&folder, "1.json", &[(1, "/a", 1)])?;
    well(&folder, &["run", "clicks.sql", "--once"])?;
    let first = folder.query("SELECT max(epoch) FROM headwater.checkpoints")?.concat();
    bad("2.json", 3)?;
    refused(&folder, &["run", "clicks.sql", "--once", "--strict"], &["warning: 3 rows of \"clicks\" rejected"])?;
    let back = ["run", "clicks.sql", "--once", "--strict", "--from-checkpoint", &first, "--allow-repeat"];
    refused(&folder, &back, &["warning: 3 rows of \"clicks\" rejected"])?;

    let other = TABLES.replace("counts", "pages");
    let pages = other.split_once("CREATE TABLE pages").map(|(_, table)| format!("CREATE TABLE pages{table}"));
    let script = format!("{TABLES}{}{}", pages.unwrap_or_default(), COUNTS.replace("counts", "pages"));
    fs::write(folder.path().join("clicks.sql"), script)?;
    bad("3.json", 1)?;
    let changed = ["run", "clicks.sql", "--once", "--strict", "--allow-drop"];
    refused(&folder, &changed, &["warning: 1 row of \"clicks\" rejected"])
}
