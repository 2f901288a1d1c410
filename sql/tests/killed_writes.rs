//! Statements that write, killed with SIGKILL at each stage of their commit, as another process then sees the table.
//!
//! Invariant: the next process sees all rows of a statement or none, and the next statement leaves no trace of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Rows of each statement.
const ROWS: u64 = 10_000;
/// Partitions they are in.
const PARTITIONS: u64 = 60;

/// What is waited for before the process is killed.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Begun,
    FirstStaged,
    HalfStaged,
    Decided,
    FirstPublished,
    Done,
}

const STAGES: [Stage; 6] =
    [Stage::Begun, Stage::FirstStaged, Stage::HalfStaged, Stage::Decided, Stage::FirstPublished, Stage::Done];

struct Lake {
    folder: tempfile::TempDir,
}

impl Lake {
    fn new() -> Self {
        let lake = Self { folder: tempfile::tempdir().unwrap() };
        let table = "CREATE EXTERNAL TABLE t (n bigint, run int) PARTITIONED BY (p bigint) \
                     ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe' LOCATION 't/'";
        lake.run(table);
        lake
    }

    fn command(&self, sql: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headwater"));
        command.current_dir(self.folder.path()).args(["--format", "csv", "-c", sql]).stdin(Stdio::null());
        command
    }

    fn run(&self, sql: &str) -> String {
        let output = self.command(sql).output().unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn start(&self, verb: &str, run: usize) -> Child {
        let digits = "(VALUES 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)";
        let sql = format!(
            "{verb} t SELECT n, {run}, n % {PARTITIONS} FROM (SELECT a.x * 1000 + b.x * 100 + c.x * 10 + d.x AS n \
             FROM {digits} a (x) CROSS JOIN {digits} b (x) CROSS JOIN {digits} c (x) CROSS JOIN {digits} d (x)) v"
        );
        self.command(&sql).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn files(&self, below: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder.path().join(below)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().is_dir() { folders.push(entry.path()) } else { found.push(entry.path()) }
            }
        }
        found
    }

    fn data(&self) -> usize {
        self.files("t").iter().filter(|path| !is_hidden(path)).count()
    }

    fn records(&self, extension: &str) -> usize {
        let is_record = |path: &PathBuf| path.extension().is_some_and(|found| found == extension);
        self.files("t/_headwater").into_iter().filter(is_record).count()
    }

    /// Kills the statement when it has come this far; one that ended first has simply happened.
    fn kill_at(&self, mut child: Child, stage: Stage) {
        let (begun, decided, done, data) =
            (self.records("begin"), self.records("decision"), self.records("done"), self.data());
        let staged = || self.files("t/_headwater/staging").len() as u64;
        let has_come = || match stage {
            Stage::Begun => self.records("begin") > begun,
            Stage::FirstStaged => staged() > 0,
            Stage::HalfStaged => staged() > PARTITIONS / 2,
            Stage::Decided => self.records("decision") > decided,
            Stage::FirstPublished => self.data() > data,
            Stage::Done => self.records("done") > done,
        };
        while child.try_wait().unwrap().is_none() && !has_come() {
            std::thread::yield_now();
        }
        let _ = child.kill();
        child.wait().unwrap();
    }

    fn numbers(&self, sql: &str) -> Vec<u64> {
        let text = self.run(sql);
        text.lines().nth(1).unwrap().split(',').map(|number| number.parse().unwrap()).collect()
    }

    fn expect_no_trace(&self) {
        assert_eq!(self.records("begin"), 0);
        assert_eq!(self.files("t/_headwater/staging"), Vec::<PathBuf>::new());
    }
}

fn is_hidden(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "_headwater")
}

#[test]
fn a_killed_insert_has_happened_or_not() {
    let lake = Lake::new();
    let mut before = 0;
    for (run, stage) in STAGES.into_iter().enumerate() {
        lake.kill_at(lake.start("INSERT INTO", run), stage);
        let seen = lake.numbers("SELECT count(*), count(DISTINCT run) FROM t");
        assert!(seen[0] == before || seen[0] == before + ROWS, "{stage:?}: {seen:?} after {before}");
        assert_eq!(seen[0], seen[1] * ROWS, "{stage:?}: all rows of each statement");
        before = seen[0];
    }
    assert!(lake.start("INSERT INTO", 99).wait().unwrap().success());
    assert_eq!(lake.numbers("SELECT count(*) FROM t")[0], before + ROWS);
    lake.expect_no_trace();
}

#[test]
fn a_killed_overwrite_leaves_the_old_or_the_new_rows() {
    let lake = Lake::new();
    assert!(lake.start("INSERT INTO", 0).wait().unwrap().success());
    let mut last = 0;
    for (run, stage) in STAGES.into_iter().enumerate() {
        let run = run + 1;
        lake.kill_at(lake.start("INSERT OVERWRITE", run), stage);
        let seen = lake.numbers("SELECT count(*), min(run), max(run) FROM t");
        assert_eq!(seen[0], ROWS, "{stage:?}: {seen:?}");
        assert_eq!(seen[1], seen[2], "{stage:?}: rows of one statement only");
        assert!(seen[1] == last || seen[1] == run as u64, "{stage:?}: {seen:?}");
        last = seen[1];
    }
    assert!(lake.start("INSERT OVERWRITE", 99).wait().unwrap().success());
    assert_eq!(lake.numbers("SELECT count(*), min(run), max(run) FROM t"), [ROWS, 99, 99]);
    assert_eq!(lake.data() as u64, PARTITIONS);
    lake.expect_no_trace();
}

#[test]
fn two_processes_insert_at_once_and_both_land() {
    let lake = Lake::new();
    let mut children = [lake.start("INSERT INTO", 1), lake.start("INSERT INTO", 2)];
    assert!(children.iter_mut().all(|child| child.wait().unwrap().success()));
    assert_eq!(lake.numbers("SELECT count(*), count(DISTINCT run) FROM t"), [2 * ROWS, 2]);
}
