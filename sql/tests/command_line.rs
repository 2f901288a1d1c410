//! The binary as a shell sees it: exit codes, what goes to which stream, signals, pipes.
//!
//! It stands beside the binary because cargo tells only these tests where the binary is.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Command, Output, Stdio},
};

fn headwater(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headwater"));
    command.current_dir(folder).stdin(Stdio::null()).env("XDG_CONFIG_HOME", folder).env_remove("HEADWATER_LOG");
    command
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    ended(headwater(folder.path()).args(arguments).output().unwrap())
}

fn ended(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A query that runs for minutes and never pauses.
fn endless() -> String {
    let digits = "(VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10))";
    let tables: Vec<String> = ('a'..='l').map(|name| format!("{digits} {name}(x)")).collect();
    format!("SELECT count(*) FROM {} WHERE a.x + l.x > 3", tables.join(", "))
}

#[test]
fn rows_go_to_standard_output_and_the_rest_to_standard_error() {
    let (code, out, err) = run(&["-c", "SELECT 1 AS a, NULL AS b, '' AS c"]);
    assert_eq!((code, out.as_str()), (Some(0), "a,b,c\n1,,\"\"\n"));
    assert!(err.starts_with("1 row in "), "{err}");
}

#[test]
fn ddl_prints_nothing() {
    let (code, out, err) = run(&["-c", "CREATE DATABASE lake; USE lake"]);
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "", ""));
}

#[test]
fn statistics_are_one_object_a_statement() {
    let (code, out, err) = run(&["--stats", "json", "--format", "ndjson", "-c", "SELECT 1 AS a; CREATE DATABASE d"]);
    assert_eq!((code, out.as_str()), (Some(0), "{\"a\":1}\n"));
    let objects: Vec<serde_json::Value> = err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), 2);
    assert_eq!((&objects[0]["statement"], &objects[0]["rows"]), (&"SELECT 1 AS a".into(), &1.into()));
}

#[test]
fn a_failure_is_one_and_says_code_place_and_hint() {
    let (code, out, err) = run(&["-c", "SELECT 1 AS a;\nSELECT nowhere FROM (SELECT 1 AS nowhare) t"]);
    assert_eq!((code, out.as_str()), (Some(1), "a\n1\n"), "what ran before stays");
    assert!(err.contains("error[COLUMN_NOT_FOUND] 2:8: "), "{err}");
    assert!(err.contains("hint: did you mean \"nowhare\"?"), "{err}");
}

#[test]
fn nothing_runs_if_a_later_statement_cannot_be_parsed() {
    let (code, out, err) = run(&["-c", "SELECT 1;\nSELEC 2"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.starts_with("error[SYNTAX_ERROR] 2:1: "), "{err}");
}

#[test]
fn usage_is_two() {
    for arguments in
        [&["--nonsense"][..], &["run"], &["-c", "SELECT 1", "--timeout", "soon"], &["-c", "SELECT 1", "run", "x"]]
    {
        let (code, out, err) = run(arguments);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}: {err}");
        assert!(err.starts_with("error: "), "{err}");
    }
}

#[test]
fn parameters_are_filled_in_with_their_quotes() {
    let script = "SELECT '${name}' AS a, ${n:-7} AS b";
    let (code, out, _) = run(&["-c", script, "--param", "name=it's"]);
    assert_eq!((code, out.as_str()), (Some(0), "a,b\nit's,7\n"));
    let (code, _, err) = run(&["-c", script]);
    assert_eq!(code, Some(1));
    assert!(err.starts_with("error[INVALID_PARAMETER] 1:9: parameter \"name\" is not defined"), "{err}");
}

#[test]
fn a_script_comes_from_standard_input_or_files() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.sql"), "CREATE DATABASE lake -- and no semicolon").unwrap();
    let mut child = headwater(folder.path())
        .args(["run", "a.sql", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"USE lake; SELECT 2 AS x").unwrap();
    let (code, out, err) = ended(child.wait_with_output().unwrap());
    assert_eq!((code, out.as_str()), (Some(0), "x\n2\n"), "{err}");
    let (code, _, err) = ended(headwater(folder.path()).args(["-f", "b.sql"]).output().unwrap());
    assert_eq!((code, err.as_str()), (Some(1), "error[NOT_FOUND]: file \"b.sql\" does not exist\n"));
}

#[test]
fn state_is_where_it_is_said() {
    let folder = tempfile::tempdir().unwrap();
    headwater(folder.path()).args(["--state", "here", "-c", "CREATE DATABASE lake"]).output().unwrap();
    assert!(folder.path().join("here/catalog.db").exists() && !folder.path().join(".headwater").exists());
    let show = headwater(folder.path()).args(["-c", "SHOW DATABASES", "--state", "here"]).output().unwrap();
    assert!(String::from_utf8(show.stdout).unwrap().contains("lake"));
}

#[test]
fn a_file_of_no_rows_is_said_to_have_none() {
    let folder = tempfile::tempdir().unwrap();
    for format in ["json", "csv", "parquet"] {
        std::fs::write(folder.path().join(format!("a.{format}")), "").unwrap();
        let query = format!("SELECT * FROM read_{format}('a.{format}')");
        let (code, _, err) = ended(headwater(folder.path()).args(["-c", &query]).output().unwrap());
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains(&format!("no file with rows is meant by \"a.{format}\"")), "{err}");
    }
}

#[test]
fn explain_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.sql"), "CREATE DATABASE lake; USE lake; SELECT 1 AS x, 2 AS y").unwrap();
    let (code, out, err) = ended(headwater(folder.path()).args(["explain", "a.sql"]).output().unwrap());
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("\nProjectionExec: expr=[1 as x#0, 2 as y#1]\n"), "{out}");
    let (_, out, _) = ended(headwater(folder.path()).args(["-c", "SHOW DATABASES"]).output().unwrap());
    assert!(!out.contains("lake"), "{out}");
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let folder = tempfile::tempdir().unwrap();
    let query = endless().replace("count(*)", "a.x");
    let mut child =
        headwater(folder.path()).args(["-c", &query]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert_eq!(first, "x\n");
    let (code, _, err) = ended(child.wait_with_output().unwrap());
    assert_eq!((code, err.as_str()), (Some(0), ""));
}

#[test]
#[cfg(unix)]
fn an_interrupted_query_is_130() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!("SELECT 1 AS a; {}", endless());
    let mut child =
        headwater(folder.path()).args(["-c", &script]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    err.read_line(&mut line).unwrap();
    assert!(line.starts_with("1 row in "), "the first statement is done: {line}");
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    line.clear();
    err.read_to_string(&mut line).unwrap();
    assert_eq!(line, "interrupted\n");
}

#[test]
fn a_statement_that_takes_too_long_is_stopped() {
    let (code, out, err) = run(&["--timeout", "100 ms", "-c", &endless()]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.starts_with("error[EXCEEDED_TIME_LIMIT] 1:1: the statement took longer than 100 ms\nhint: "), "{err}");
}

#[test]
fn a_query_that_would_scan_too_much_is_refused_before_it_reads() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["generate", "crimes", "--format", "ndjson", "data", "--rows", "100"];
    headwater(folder.path()).args(arguments).output().unwrap();
    let script = "CREATE EXTERNAL TABLE IF NOT EXISTS c (district int) STORED AS JSON LOCATION 'data'; SELECT count(*) AS n FROM c";
    let limited = |limit| headwater(folder.path()).args(["--max-scan", limit, "-c", script]).output().unwrap();
    let (code, out, err) = ended(limited("10 KB"));
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.starts_with("error[EXCEEDED_SCAN_LIMIT]"), "{err}");
    let (code, out, err) = ended(limited("10 MB"));
    assert_eq!((code, out.as_str()), (Some(0), "n\n100\n"), "{err}");
}

#[test]
fn results_have_many_formats() {
    let format = |format| run(&["--format", format, "-c", "SELECT 1 AS a, 'x' AS b"]).1;
    assert_eq!(format("table"), " a | b\n---+---\n 1 | x\n");
    assert_eq!(format("tsv"), "a\tb\n1\tx\n");
    assert_eq!(format("json"), "[\n{\"a\":1,\"b\":\"x\"}\n]\n");
    let folder = tempfile::tempdir().unwrap();
    let parquet = headwater(folder.path()).args(["--format", "parquet", "-c", "SELECT 1 AS a"]).output().unwrap();
    assert!(parquet.stdout.starts_with(b"PAR1") && parquet.stdout.ends_with(b"PAR1"));
    let (code, _, err) = run(&["--format", "parquet", "-c", "SELECT 1; SELECT 2"]);
    assert_eq!(code, Some(2), "{err}");
}

#[test]
fn data_sets_are_generated() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, err) =
        ended(headwater(folder.path()).args(["generate", "crimes", "data", "--rows", "10"]).output().unwrap());
    assert_eq!((code, out.as_str()), (Some(0), ""));
    assert!(err.starts_with("10 rows (") && err.contains("written to 1 file under data in "), "{err}");
    assert_eq!(std::fs::read_to_string(folder.path().join("data/crimes.csv")).unwrap().lines().count(), 11);
}

#[test]
fn settings_are_read_from_the_file_beside_us() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("headwater.toml"), "parallelsm = 1\n").unwrap();
    let (code, _, err) = ended(headwater(folder.path()).args(["-c", "SELECT 1"]).output().unwrap());
    assert_eq!(code, Some(1));
    assert!(
        err.contains("headwater.toml: setting \"parallelsm\" does not exist\nhint: did you mean \"parallelism\"?"),
        "{err}"
    );
}
