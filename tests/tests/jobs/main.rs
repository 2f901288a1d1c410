//! Jobs as processes of their own over folders: savepoints, the commands for jobs, names and credentials.
//!
//! Invariant: what a command says is compared with what the files of the job's tables hold.

mod asides;
mod changed;
mod seen;

use std::{fs, path::Path};

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
    let refused = |mut command: std::process::Command| -> Result<()> {
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("PERMISSION_DENIED"), "{said}");
        assert!(said.contains("no AWS credentials were found"), "{said}");
        Ok(())
    };
    refused(command)?;
    // A profile that is asked for is the only place that is looked at.
    let of_profile = "'aws.credentials.provider' = 'PROFILE', 'aws.credentials.profile.name' = 'none'";
    let table = table.replace(
        "'format' = 'json');\n                 CREATE",
        &format!("{of_profile}, 'format' = 'json');\n CREATE"),
    );
    assert!(table.contains(of_profile), "{table}");
    fs::write(folder.path().join("keyless.sql"), table)?;
    let mut command = folder.command(&["run", "keyless.sql"]);
    command.env("AWS_ACCESS_KEY_ID", "id").env("AWS_SECRET_ACCESS_KEY", "secret");
    refused(command)?;
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

/// Partitions that every INSERT filters out are not read, so what is wrong in them is nobody's matter.
#[test]
fn a_job_reads_the_partitions_that_some_insert_wants() -> Result<()> {
    let tables = "
CREATE TABLE parts (a BIGINT, d INT, e VARCHAR) PARTITIONED BY (d, e)
  WITH ('connector' = 'filesystem', 'path' = 'parts', 'format' = 'json', 'source.monitor-interval' = '100 ms');
CREATE TABLE one (a BIGINT, e VARCHAR) WITH ('connector' = 'filesystem', 'path' = 'one', 'format' = 'json');
CREATE TABLE two (a BIGINT) WITH ('connector' = 'filesystem', 'path' = 'two', 'format' = 'json');
INSERT INTO one SELECT a + 1, e FROM parts WHERE d = 1 AND a > 1;
";
    let folder = JobFolder::new(BINARY, "clicks.sql", tables, "")?;
    let part = |path: &str, text: &str| -> Result<()> {
        fs::create_dir_all(folder.path().join("parts").join(path))?;
        Ok(fs::write(folder.path().join("parts").join(path).join("1.json"), text)?)
    };
    part("d=1/e=x", "{\"a\": 1}\n{\"a\": 2}\n")?;
    part("d=1/e=__HIVE_DEFAULT_PARTITION__", "{\"a\": 3}\n")?;
    part("d=2/e=x", "{\"a\": 4}\nno json\n")?;
    part("d=3/e=x", "{\"a\": 5}\nno json\n")?;
    let said = once(&folder, &["--job", "one"])?;
    ensure!(said.contains("read 3 = rejected 0 + filtered 1 + late 0 + held 0 + released 2"), "{said}");
    let rows = folder.query("SELECT a, e FROM read_json('one/') ORDER BY a")?;
    ensure!(rows == ["3,x", "4,"], "{rows:?}");
    // Another INSERT wants another partition; the row that is malformed there is one for both.
    fs::write(
        folder.path().join("clicks.sql"),
        format!("{tables}INSERT INTO two SELECT a FROM parts WHERE d IN (1, 3);"),
    )?;
    let said = once(&folder, &["--job", "both"])?;
    ensure!(said.contains("one: read 5 = rejected 1 + filtered 2"), "{said}");
    ensure!(said.contains("two: read 5 = rejected 1 + filtered 0"), "{said}");
    // What is not known of a partition is read.
    fs::write(folder.path().join("clicks.sql"), tables.replace("d = 1 AND a > 1", "d = 1 OR a > 4"))?;
    let said = once(&folder, &["--job", "rows"])?;
    ensure!(said.contains("read 7 = rejected 2 + filtered 1"), "{said}");
    Ok(())
}

/// Whoever makes the folder of a job end starts from its beginning, and is told.
#[test]
fn a_script_whose_inputs_end_says_that_a_checkpoint_is_not_used() -> Result<()> {
    let copy = "INSERT INTO counts SELECT page, ts, id FROM clicks WHERE page IS NOT NULL;";
    let folder = folder(&format!("{TABLES}{copy}"))?;
    clicks(&folder, "1.json", &[(1, "/a", 1)])?;
    let first = once(&folder, &[])?;
    ensure!(!first.contains("note:"), "{first}");
    let ends = TABLES.replace(", 'source.monitor-interval' = '100 ms'", "");
    fs::write(folder.path().join("clicks.sql"), format!("{ends}{copy}"))?;
    let said = well(&folder, &["run", "clicks.sql"])?;
    ensure!(said.contains("of the job \"clicks\" is not used"), "{said}");
    let said = well(&folder, &["run", "clicks.sql", "--job", "another"])?;
    ensure!(!said.contains("is not used"), "{said}");
    ensure!(folder.query("SELECT count(*) FROM read_json('counts/')")? == ["3"]);
    Ok(())
}
