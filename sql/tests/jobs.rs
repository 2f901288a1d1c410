//! Jobs over folders as a shell runs them: to the ends that are there, again, and after they were killed.
//!
//! Invariant: whatever happens to the process, each row of the source is in the sink once.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

const TABLES: &str = "
SET 'checkpoint.interval' = '200 ms';
CREATE TABLE events (id BIGINT, kind VARCHAR, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
WITH ('connector' = 'filesystem', 'path' = 'in', 'format' = 'json', 'source.monitor-interval' = '100 ms');
CREATE TABLE copied (id BIGINT, ts TIMESTAMP(3), kind VARCHAR) PARTITIONED BY (kind) WITH (
  'connector' = 'filesystem', 'path' = 'out', 'format' = 'json',
  'sink.rolling-policy.rollover-interval' = '300 ms', 'sink.partition-commit.policy.kind' = 'success-file');
CREATE TABLE counts (kind VARCHAR, window_start TIMESTAMP(3), n BIGINT)
WITH ('connector' = 'filesystem', 'path' = 'counts', 'format' = 'parquet');
";

const INSERTS: &str = "
INSERT INTO copied SELECT id, ts, kind FROM events;
INSERT INTO counts SELECT kind, window_start, count(*)
FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY kind, window_start, window_end;
";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        fs::write(folder.path().join("job.sql"), script).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headwater"));
        command.current_dir(self.0.path()).stdin(Stdio::null()).env_remove("HEADWATER_LOG");
        command.args(arguments).env("XDG_CONFIG_HOME", self.0.path());
        command
    }

    /// Runs a command that must succeed; what it wrote to standard output and standard error.
    fn run(&self, arguments: &[&str]) -> (String, String) {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (out, err) = (text(output.stdout), text(output.stderr));
        assert_eq!(output.status.code(), Some(0), "{err}");
        (out, err)
    }

    fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// A file of 300 events, 10 ms apart, and one line that is none.
    fn events(&self, file: i64) {
        let mut lines = String::new();
        for id in file * 300..(file + 1) * 300 {
            let (kind, ms) = (["a", "b", "c"][id as usize % 3], id * 10);
            let time = format!("2024-01-01 00:{:02}:{:02}.{:03}", ms / 60_000, ms / 1000 % 60, ms % 1000);
            writeln!(lines, r#"{{"id": {id}, "kind": "{kind}", "ts": "{time}"}}"#).unwrap();
        }
        lines.push_str("{\"id\": nonsense\n");
        let hidden = self.path("in/_writing");
        fs::write(&hidden, lines).unwrap();
        fs::rename(hidden, self.path(&format!("in/{file:03}.json"))).unwrap();
    }

    /// How often each id is in the sink.
    fn copied(&self) -> BTreeMap<i64, usize> {
        let mut ids = BTreeMap::new();
        for path in files(&self.path("out")) {
            if path.extension().is_some_and(|extension| extension == "json") {
                for line in fs::read_to_string(path).unwrap().lines() {
                    let row: serde_json::Value = serde_json::from_str(line).unwrap();
                    *ids.entry(row["id"].as_i64().unwrap()).or_default() += 1;
                }
            }
        }
        ids
    }

    /// The windows that have fired, and the rows in them.
    fn counted(&self) -> String {
        let query = format!("{TABLES} SELECT count(*), count(DISTINCT (kind, window_start)), sum(n) FROM counts");
        let (out, _) = self.run(&["--state", "other", "-c", &query]);
        out.lines().last().unwrap().to_owned()
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

/// Waits until something has become true.
fn until(what: &str, is_true: impl Fn() -> bool) {
    let (_open, never) = mpsc::channel::<()>();
    let started = Instant::now();
    while !is_true() {
        assert!(started.elapsed() < PATIENCE, "waited too long for {what}");
        let _ = never.recv_timeout(Duration::from_millis(5));
    }
}

fn all(ids: i64) -> BTreeMap<i64, usize> {
    (0..ids).map(|id| (id, 1)).collect()
}

#[test]
fn a_run_goes_on_from_the_files_it_has_read() {
    let folder = Folder::new(&format!("{TABLES}{INSERTS}"));
    folder.events(0);
    folder.events(1);
    let (_, err) = folder.run(&["run", "job.sql", "--once"]);
    assert!(err.contains("copied: read 602 = rejected 2 + filtered 0 + late 0 + held 0 + released 600"), "{err}");
    assert_eq!(folder.copied(), all(600));
    assert!(folder.path("out/kind=a/_SUCCESS").is_file());
    folder.run(&["run", "job.sql", "--once"]);
    assert_eq!(folder.copied(), all(600), "nothing is read twice");
    folder.events(2);
    folder.events(3);
    folder.run(&["run", "job.sql", "--once", "--parallelism", "3"]);
    assert_eq!(folder.copied(), all(1200));
    // The watermark stands at 11.99 s - 1 s: one window of 10 s has fired for each of three kinds.
    assert_eq!(folder.counted(), "3,3,1000");
}

#[test]
fn a_job_that_is_killed_again_and_again_delivers_each_row_once() {
    let folder = Folder::new(&format!("{TABLES}{INSERTS}"));
    // Entries are numbered, and old ones are collected: the newest number says how many there were.
    let log = |folder: &Folder| {
        let numbers = files(&folder.path(".headwater/job/log")).into_iter();
        let numbers = numbers.filter_map(|path| path.file_name()?.to_str()?.parse::<u64>().ok());
        numbers.max().unwrap_or(0)
    };
    for round in 0..6 {
        let before = log(&folder);
        let parallelism = (round % 3 + 1).to_string();
        let mut job = folder.start(&["run", "job.sql", "--parallelism", &parallelism]);
        folder.events(round);
        // Killed after its claim, after its first checkpoint, after its second, ..
        let wanted = before + 1 + round as u64 % 3;
        until("an entry of the log", || log(&folder) >= wanted);
        job.kill().unwrap();
        job.wait().unwrap();
    }
    folder.events(6);
    folder.run(&["run", "job.sql", "--once"]);
    assert_eq!(folder.copied(), all(2100));
    // Until 20.99 s - 1 s.
    assert_eq!(folder.counted(), "3,3,1000");
    for sink in ["out/_headwater", "counts/_headwater"] {
        assert_eq!(files(&folder.path(sink)), Vec::<PathBuf>::new(), "nothing half-written is left");
    }
}

#[test]
fn tables_of_the_catalog_are_read_and_written_as_their_ddl_says() {
    let folder = Folder::new(
        "CREATE EXTERNAL TABLE IF NOT EXISTS raw (id bigint, kind string, ts timestamp)
         ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe' LOCATION 'in/' TBLPROPERTIES ('malformed' = 'skip');
         CREATE EXTERNAL TABLE IF NOT EXISTS done (id bigint, ts timestamp) PARTITIONED BY (kind string)
         STORED AS PARQUET LOCATION 'done/';
         CREATE TABLE others (id BIGINT) WITH ('connector' = 'filesystem', 'path' = 'others', 'format' = 'csv');
         INSERT INTO done SELECT id, ts, kind FROM raw WHERE kind <> 'c';
         INSERT INTO others SELECT id FROM raw WHERE kind = 'c';",
    );
    let script = fs::read_to_string(folder.path("job.sql")).unwrap();
    let script = script.replace("'in/'", &format!("'{}/'", folder.path("in").display()));
    fs::write(folder.path("job.sql"), script.replace("'done/'", &format!("'{}/'", folder.path("done").display())))
        .unwrap();
    folder.events(0);
    folder.run(&["run", "job.sql", "--once"]);
    folder.events(1);
    folder.run(&["run", "job.sql", "--once"]);
    let (out, _) = folder.run(&["-c", "SELECT kind, count(*), min(id), max(id) FROM done GROUP BY 1 ORDER BY 1"]);
    assert_eq!(out, "kind,_col1,_col2,_col3\na,200,0,597\nb,200,1,598\n");
    let others = files(&folder.path("others")).iter().map(|path| fs::read_to_string(path).unwrap()).collect::<String>();
    assert_eq!(others.lines().count(), 200);
}

#[test]
fn a_script_whose_inputs_end_is_no_job() {
    let script =
        format!("{TABLES}{INSERTS}").replace(", 'source.monitor-interval' = '100 ms'", ", 'malformed' = 'skip'");
    let folder = Folder::new(&script);
    folder.events(0);
    folder.run(&["run", "job.sql"]);
    assert_eq!(folder.copied(), all(300));
    assert_eq!(folder.counted(), "3,3,300", "at the end every window fires");
    assert!(!folder.path(".headwater/job").exists());
}
