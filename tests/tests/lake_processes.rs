//! The lake under processes that are killed, that run side by side, and that may not read or write: on local folders.
//!
//! Invariant: whatever happens to a process, the next one reads the old state or the new one, and finds no leftovers.

#![cfg(unix)]

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use arrow::{array::AsArray, datatypes::Int64Type};
use futures::{FutureExt, TryStreamExt};
use headwater_connectors::lake::stats::ScanStats;
use headwater_sql::session::{Outcome, Session, SessionConfig};

/// User and group that own nothing.
const NOBODY: u32 = 65_534;
/// Moments of a statement at which it is killed.
const KILLS: u32 = 16;
/// How long a process may take for what a test waits for.
const PATIENCE: Duration = Duration::from_secs(120);

/// A folder with a state and tables in it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headwater-under-test"));
        command
            .current_dir(self.0.path())
            .args(arguments)
            .env("XDG_CONFIG_HOME", self.0.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn begin(&self, sql: &str) -> Result<Child> {
        Ok(self.command(&["-c", sql]).spawn()?)
    }

    /// The rows of a script that succeeds.
    fn rows(&self, sql: &str) -> Result<Vec<String>> {
        let output = self.command(&["-c", sql]).output()?;
        ensure!(output.status.success(), "{sql}: {}", said(&output));
        Ok(String::from_utf8(output.stdout)?.lines().skip(1).map(ToOwned::to_owned).collect())
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn files(folder: &Path) -> Vec<String> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path => found.push(path.to_string_lossy().into_owned()),
            }
        }
    }
    found.sort();
    found
}

/// Waits for so long, or less if the process ends.
fn live(child: &mut Child, time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end && child.try_wait()?.is_none() {
        std::thread::park_timeout(Duration::from_millis(1).min(end - Instant::now().min(end)));
    }
    Ok(())
}

const WRITE: &str = "SELECT n, CAST(n % 5 AS varchar) AS p FROM UNNEST(sequence(1, 400)) AS s (n)";

#[test]
fn a_statement_killed_at_any_moment_has_happened_or_not() -> Result<()> {
    for statement in [
        "INSERT INTO t",
        "INSERT OVERWRITE t",
        "CREATE TABLE made WITH (external_location = 'made/', partitioned_by = ARRAY['p']) AS",
    ] {
        let folder = Folder::new()?;
        let create = "CREATE TABLE t WITH (external_location = 't/', partitioned_by = ARRAY['p']) AS SELECT n, CAST(n % 5 AS varchar) AS p FROM UNNEST(sequence(1, 10)) AS s (n)";
        folder.rows(create)?;
        let sql = format!("{statement} {WRITE}");
        let mut time = None;
        for kill in 0..=KILLS {
            folder.rows("DROP TABLE IF EXISTS made; INSERT OVERWRITE t SELECT n, CAST(n % 5 AS varchar) AS p FROM UNNEST(sequence(1, 10)) AS s (n)")?;
            let _ = fs::remove_dir_all(folder.path("made"));
            let start = Instant::now();
            let mut child = folder.begin(&sql)?;
            // The first one lives, and says how long a statement takes.
            live(&mut child, time.map_or(PATIENCE, |time: Duration| time * kill / KILLS))?;
            child.kill()?;
            let ended = child.wait()?;
            time.get_or_insert_with(|| start.elapsed());
            let at = format!("{statement} killed at {kill}/{KILLS} of {time:?} ({ended})");
            let is_new = check(&folder, statement).with_context(|| at.clone())?;
            ensure!(is_new || !ended.success(), "{at}: it ended well and nothing happened");
        }
    }
    Ok(())
}

/// Whether a statement has happened, wholly; else it has not, not in part.
fn check(folder: &Folder, statement: &str) -> Result<bool> {
    let (table, old, new) = match statement {
        "INSERT INTO t" => ("t", "10", "410"),
        "INSERT OVERWRITE t" => ("t", "10", "400"),
        _ => ("made", "", "400"),
    };
    let exists = folder.rows("SHOW TABLES")?.iter().any(|found| found == table);
    let count = if exists { folder.rows(&format!("SELECT count(*) FROM {table}"))?[0].clone() } else { String::new() };
    ensure!(count == old || count == new, "{count} rows");
    let location = folder.path(table);
    if exists {
        // Who only skips hidden names sees the same.
        let below = location.to_string_lossy();
        let everyone = format!("SELECT count(*) FROM read_parquet('{below}/*/*.parquet')");
        ensure!(folder.rows(&everyone)? == [count.clone()], "others do not see {count} rows");
        ensure!(folder.rows(&format!("SHOW PARTITIONS {table}"))?.len() == 5, "partitions are missing");
    } else if location.exists() {
        // A table that was not made: whoever comes next to its folder takes it, or finishes what was decided.
        folder.rows(&format!(
            "CREATE TABLE IF NOT EXISTS made WITH (external_location = 'made/', partitioned_by = ARRAY['p']) AS {WRITE}"
        ))?;
        ensure!(folder.rows("SELECT count(*) FROM made")? == ["400"], "the folder cannot be used again");
    }
    let left: Vec<String> =
        files(&location).into_iter().filter(|path| path.contains("/staging/") || path.ends_with(".begin")).collect();
    ensure!(left.is_empty(), "left over: {left:?}");
    Ok(count == new)
}

#[test]
fn two_processes_change_one_table_and_no_change_is_lost() -> Result<()> {
    let folder = Folder::new()?;
    folder.rows("CREATE EXTERNAL TABLE t (a int) LOCATION 't/'")?;
    let script = |who: &str| -> String {
        (0..200).map(|n| format!("ALTER TABLE t SET TBLPROPERTIES ('{who}.{n}' = '{n}');\n")).collect()
    };
    let both: Vec<Child> = ["one", "two"].iter().map(|who| folder.begin(&script(who))).collect::<Result<_>>()?;
    for child in both {
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "{}", said(&output));
    }
    let properties = folder.rows("SHOW TBLPROPERTIES t")?;
    for who in ["one", "two"] {
        let kept = properties.iter().filter(|line| line.starts_with(&format!("{who}."))).count();
        ensure!(kept == 200, "{kept} of 200 changes of {who} are kept");
    }
    Ok(())
}

#[test]
fn an_interrupt_leaves_nothing_and_says_130() -> Result<()> {
    let folder = Folder::new()?;
    folder.rows("CREATE TABLE t WITH (external_location = 't/') AS SELECT 1 AS n")?;
    let endless = "INSERT INTO t SELECT CAST(a.n AS integer) FROM UNNEST(sequence(1, 9000)) AS a (n), UNNEST(sequence(1, 9000)) AS b (n), UNNEST(sequence(1, 9000)) AS c (n)";
    let mut child = folder.begin(endless)?;
    let end = Instant::now() + PATIENCE;
    while !files(&folder.path("t")).iter().any(|path| path.ends_with(".begin")) {
        ensure!(Instant::now() < end && child.try_wait()?.is_none(), "the statement does not begin");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status()?;
    ensure!(interrupted.success());
    ensure!(child.wait()?.code() == Some(130), "it is not interrupted");
    ensure!(folder.rows("SELECT count(*) FROM t")? == ["1"]);
    let left: Vec<String> = files(&folder.path("t"))
        .into_iter()
        .filter(|path| path.contains("staging") || path.ends_with(".begin"))
        .collect();
    ensure!(left.is_empty(), "left over: {left:?}");
    Ok(())
}

/// Runs as a user who owns nothing, if we may choose: then modes count, as they do for everybody but root.
fn as_nobody(folder: &Folder, arguments: &[&str]) -> Result<Output> {
    let mut command = folder.command(arguments);
    let we_are_root = fs::metadata("/proc/self").is_ok_and(|about| std::os::unix::fs::MetadataExt::uid(&about) == 0);
    if !we_are_root {
        return Ok(command.output()?);
    }
    // The program may lie where others cannot go.
    let program = folder.path("program");
    if !program.exists() {
        let built = env!("CARGO_BIN_EXE_headwater-under-test");
        if fs::hard_link(built, &program).is_err() {
            fs::copy(built, &program)?;
        }
    }
    let mut command = Command::new(&program);
    command.current_dir(folder.0.path()).args(arguments).env("HOME", "/nonexistent").stdin(Stdio::null());
    Ok(command.uid(NOBODY).gid(NOBODY).output()?)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

#[test]
fn what_may_not_be_read_or_written_is_named() -> Result<()> {
    let folder = Folder::new()?;
    for (name, text) in [
        ("shut_file/a.json", "{\"x\": 1}\n"),
        ("shut_folder/p=1/a.json", "{\"x\": 1}\n"),
        ("read_only/a.json", "{\"x\": 1}\n"),
    ] {
        let path = folder.path(name);
        fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
        fs::write(path, text)?;
    }
    folder.rows(
        "CREATE EXTERNAL TABLE shut_file (x INT) STORED AS JSON LOCATION 'shut_file/';
         CREATE EXTERNAL TABLE shut_folder (x INT) PARTITIONED BY (p INT) STORED AS JSON LOCATION 'shut_folder/';
         CREATE EXTERNAL TABLE read_only (x INT) STORED AS JSON LOCATION 'read_only/'",
    )?;
    set_mode(&folder.path("shut_file/a.json"), 0o000)?;
    set_mode(&folder.path("shut_folder/p=1"), 0o000)?;
    set_mode(&folder.path("read_only"), 0o555)?;
    set_mode(&folder.path(".headwater"), 0o777)?;
    for entry in fs::read_dir(folder.path(".headwater"))? {
        let path = entry?.path();
        set_mode(&path, if path.is_dir() { 0o777 } else { 0o666 })?;
    }
    set_mode(folder.0.path(), 0o755)?;
    for (sql, named) in [
        ("SELECT * FROM shut_file", "shut_file/a.json"),
        ("CREATE EXTERNAL TABLE inferred STORED AS JSON LOCATION 'shut_file/'", "shut_file/a.json"),
        ("SELECT * FROM read_json('shut_file/a.json')", "shut_file/a.json"),
        ("SELECT * FROM shut_folder", "shut_folder/p=1"),
        ("INSERT INTO read_only SELECT 2", "read_only"),
        ("UNLOAD (SELECT 2 AS x) TO 'read_only/out/' WITH (format = 'JSON')", "read_only/out"),
        ("CREATE TABLE made WITH (external_location = 'read_only/made/') AS SELECT 2 AS x", "read_only/made"),
    ] {
        let output = as_nobody(&folder, &["-c", sql])?;
        let said = said(&output);
        ensure!(output.status.code() == Some(1), "{sql}: {:?} {said}", output.status);
        ensure!(
            said.contains("error[PERMISSION_DENIED]") && said.contains(named) && said.contains("hint: "),
            "{sql}: {said}"
        );
    }
    // What does not fit into memory then goes to the system's folder for temporary files.
    set_mode(&folder.path(".headwater/spill"), 0o555)?;
    let output = as_nobody(&folder, &["-c", "SELECT 1"])?;
    ensure!(output.stdout == b"_col0\n1\n", "{}", said(&output));
    set_mode(&folder.path(".headwater/spill"), 0o777)?;
    // What may be read is read, though nothing may be written beside it.
    let output = as_nobody(&folder, &["-c", "SELECT x FROM read_only"])?;
    ensure!(output.stdout == b"x\n1\n", "{}", said(&output));
    ensure!(files(&folder.path("read_only")).len() == 1);
    ensure!(folder.rows("SHOW TABLES")? == ["read_only", "shut_file", "shut_folder"]);
    set_mode(&folder.path("shut_folder/p=1"), 0o755)?;
    set_mode(&folder.path("read_only"), 0o755)?;
    Ok(())
}

#[test]
fn a_table_is_the_same_from_every_working_directory() -> Result<()> {
    let folder = Folder::new()?;
    fs::create_dir_all(folder.path("data/p=1"))?;
    fs::write(folder.path("data/p=1/a.json"), "{\"x\": 1}\n")?;
    fs::create_dir(folder.path("elsewhere"))?;
    folder.rows(
        "CREATE EXTERNAL TABLE found (x INT) PARTITIONED BY (p INT) STORED AS JSON LOCATION 'data/';
         CREATE EXTERNAL TABLE projected (x INT) PARTITIONED BY (p INT) STORED AS JSON LOCATION './data'
           TBLPROPERTIES ('projection.enabled' = 'true', 'projection.p.type' = 'integer', 'projection.p.range' = '1,2',
           'storage.location.template' = 'data/p=${p}/');
         CREATE EXTERNAL TABLE registered (x INT) PARTITIONED BY (p INT)
           ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe' LOCATION 's3://bucket/none/';
         ALTER TABLE registered ADD PARTITION (p = 1) LOCATION 'data/p=1/';
         CREATE DATABASE here LOCATION 'db/';
         CREATE TABLE made WITH (external_location = 'made/') AS SELECT 7 AS x;
         CREATE TABLE here.kept AS SELECT 8 AS x;
         CREATE TABLE housed AS SELECT 9 AS x",
    )?;
    for (table, x) in [("found", "1"), ("projected", "1"), ("made", "7"), ("here.kept", "8"), ("housed", "9")] {
        for (from, state) in [("", ".headwater"), ("elsewhere", "../.headwater")] {
            let sql = format!("SELECT x FROM {table}");
            let output = folder.command(&["--state", state, "-c", &sql]).current_dir(folder.path(from)).output()?;
            ensure!(output.stdout == format!("x\n{x}\n").as_bytes(), "{table} from {from:?}: {}", said(&output));
        }
    }
    let shown = folder.rows("DESCRIBE FORMATTED registered PARTITION (p = 1); DESCRIBE FORMATTED found")?.join("\n");
    let here = folder.0.path().canonicalize()?;
    ensure!(shown.matches(&format!("Location:,{}/data/", here.display())).count() == 2, "{shown}");
    Ok(())
}

#[test]
fn what_show_create_writes_to_a_file_can_be_run() -> Result<()> {
    let folder = Folder::new()?;
    folder.rows(
        "CREATE EXTERNAL TABLE t (a int COMMENT 'it''s, \"a\"', b array<string>) PARTITIONED BY (p date)
           STORED AS PARQUET LOCATION 't/';
         CREATE VIEW v AS SELECT 1 AS one,\n 'x;y' AS two",
    )?;
    let show = ["-c", "SHOW CREATE TABLE t; SHOW CREATE VIEW v"];
    let output = folder.command(&show).output()?;
    fs::write(folder.path("ddl.sql"), &output.stdout)?;
    folder.rows("DROP TABLE t; DROP VIEW v")?;
    let ran = folder.command(&["-f", "ddl.sql"]).output()?;
    ensure!(ran.status.success(), "{} {}", String::from_utf8_lossy(&output.stdout), said(&ran));
    let again = folder.command(&show).output()?;
    ensure!(again.stdout == output.stdout, "{}", String::from_utf8_lossy(&again.stdout));
    let asked = folder.command(&["--format", "csv", "-c", "SHOW CREATE VIEW v"]).output()?;
    ensure!(asked.stdout.starts_with(b"Create View\n"), "a format that is asked for is kept");
    Ok(())
}

#[test]
fn what_projected_partitions_store_is_known_though_they_are_not_read() -> Result<()> {
    let folder = Folder::new()?;
    for day in 1..=4 {
        let path = folder.path(&format!("data/d={day}/a.json"));
        fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
        fs::write(path, "{\"x\": 1}\n")?;
    }
    let table = |name: &str, more: &str| {
        format!(
            "CREATE EXTERNAL TABLE {name} (x INT) PARTITIONED BY (d INT) STORED AS JSON LOCATION '{name}/' TBLPROPERTIES
             ('projection.enabled' = 'true', 'projection.d.type' = 'integer', 'projection.d.range' = '1,3'{more});"
        )
    };
    let moved = table("moved", ", 'storage.location.template' = 'data/d=${d}/'");
    folder.rows(&format!("{}{moved}", table("data", "")))?;
    for table in ["data", "moved"] {
        let sql = format!("SELECT * FROM {table} WHERE d = 2");
        let stats = said(&folder.command(&["--stats", "json", "-c", &sql]).output()?);
        for (key, value) in [
            ("bytes_scanned", 9),
            ("bytes_stored", 27),
            ("files_read", 1),
            ("files_total", 3),
            ("partitions_read", 1),
            ("partitions_total", 3),
        ] {
            ensure!(stats.contains(&format!("\"{key}\":{value},")), "{table}: {key} is not {value} in {stats}");
        }
    }
    Ok(())
}

/// Most memory the process had so far, in kB, as the kernel counts it.
fn peak_memory_kb(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok())
}

#[test]
fn ten_thousand_partitions_are_written_by_one_statement_within_its_memory() -> Result<()> {
    let folder = Folder::new()?;
    let sql = "SET 'memory.limit' = '512 MB';
        CREATE TABLE t WITH (external_location = 't/', format = 'JSON', write_compression = 'none', partitioned_by = ARRAY['k']) AS
        SELECT a.n AS n, (a.n * 7919 + b.n) % 10000 AS k
        FROM UNNEST(sequence(1, 10000)) AS a (n), UNNEST(sequence(0, 1)) AS b (n)";
    let mut child = folder.begin(sql)?;
    let mut peak = 0;
    while child.try_wait()?.is_none() {
        peak = peak.max(peak_memory_kb(&child).unwrap_or(0));
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{}", said(&output));
    ensure!(peak < 512 << 10, "it took {peak} kB");
    ensure!(folder.rows("SHOW PARTITIONS t")?.len() == 10_000);
    ensure!(folder.rows("SELECT count(*), count(DISTINCT k) FROM t WHERE k < 10")? == ["20,10"]);
    Ok(())
}

async fn run(session: &Session, text: &str) -> Result<Outcome> {
    let statement = session.parse(text)?.pop().context("a statement")?;
    Ok(session.execute(&statement).await?)
}

/// Files that are replaced are gone at once: other engines would see both.
#[tokio::test]
async fn a_query_whose_files_are_replaced_before_it_has_rows_begins_again() -> Result<()> {
    let folder = Folder::new()?;
    let session = Session::open(SessionConfig::in_directory(folder.path("state").to_string_lossy())).await?;
    run(&session, "SET 'parallelism' = '1'").await?;
    let location = folder.path("t");
    let create = format!("CREATE EXTERNAL TABLE t (n int) STORED AS JSON LOCATION '{}/'", location.display());
    run(&session, &create).await?;
    for n in 0..12 {
        run(&session, &format!("INSERT INTO t VALUES ({n})")).await?;
    }
    let Outcome::Rows { stream, stats } = run(&session, "SELECT sum(n) FROM t").await? else { bail!("rows expected") };
    run(&session, "INSERT OVERWRITE t VALUES (100)").await?;
    let found: Vec<_> = stream.try_collect().await?;
    assert_eq!(found[0].column(0).as_primitive::<Int64Type>().value(0), 100);
    assert_eq!((ScanStats::get(&stats.files_read), ScanStats::get(&stats.files_total)), (1, 1));
    Ok(())
}

/// What the first INSERT of a set has done holds, and the second is not yet decided.
#[tokio::test]
async fn an_insert_of_a_set_whose_files_are_replaced_begins_again_by_itself() -> Result<()> {
    let folder = Folder::new()?;
    let session = Session::open(SessionConfig::in_directory(folder.path("state").to_string_lossy())).await?;
    run(&session, "SET 'parallelism' = '1'").await?;
    for table in ["t", "first", "second"] {
        let location = folder.path(table);
        let create =
            format!("CREATE EXTERNAL TABLE {table} (n bigint) STORED AS JSON LOCATION '{}/'", location.display());
        run(&session, &create).await?;
    }
    for n in 0..12 {
        run(&session, &format!("INSERT INTO t VALUES ({n})")).await?;
    }
    let stats = Arc::<ScanStats>::default();
    let counting = session.counting_into(Arc::clone(&stats));
    let inserts = "INSERT INTO first VALUES (1); INSERT INTO second SELECT sum(n) FROM t;";
    let inserts = format!("EXECUTE STATEMENT SET BEGIN {inserts} END");
    let set = run(&counting, &inserts).boxed();
    let listed = async {
        while ScanStats::get(&stats.files_total) < 12 {
            tokio::task::yield_now().await;
        }
    };
    let futures::future::Either::Right(((), set)) = futures::future::select(set, listed.boxed()).await else {
        bail!("it ended before it had read");
    };
    run(&session, "INSERT OVERWRITE t VALUES (100)").await?;
    let Outcome::Done { rows, stats } = set.await? else { bail!("it writes") };
    assert_eq!((rows, ScanStats::get(&stats.files_total)), (Some(2), 1));
    let both = "SELECT sum(n) FROM (SELECT n FROM first UNION ALL SELECT n FROM second)";
    let Outcome::Rows { stream, .. } = run(&session, both).await? else { bail!("rows expected") };
    let found: Vec<_> = stream.try_collect().await?;
    assert_eq!(found[0].column(0).as_primitive::<Int64Type>().value(0), 101);
    Ok(())
}

/// What comes through a pipe is a script, in which the commands of the REPL may stand, as in other shells.
#[test]
fn commands_may_stand_between_statements_that_are_piped_in() -> Result<()> {
    let folder = Folder::new()?;
    let piped = |text: &str| -> Result<Output> {
        fs::write(folder.path("typed.sql"), text)?;
        Ok(folder.command(&[]).stdin(fs::File::open(folder.path("typed.sql"))?).output()?)
    };
    let output = piped(
        "CREATE TABLE t AS\nSELECT 1 AS one;\n\\dt\n\\o made.csv\nSELECT one\n + 1 AS two\nFROM t;\n\\q\nSELECT 3;\n",
    )?;
    ensure!(output.status.success(), "{}", said(&output));
    let shown = String::from_utf8(output.stdout)?;
    ensure!(shown.lines().skip(1).eq(["t"]), "{shown}");
    ensure!(fs::read_to_string(folder.path("made.csv"))? == "two\n2\n");
    for (text, error) in [
        ("SELECT 1;\n\\timing off\nSELECT\n nothing;\nSELECT 2;\n", "error[COLUMN_NOT_FOUND] 4:2:"),
        ("SELECT 1;\n\\nonsense\nSELECT 2;\n", "command \"\\nonsense\" is not known"),
        ("SELECT 1;\n\\dt\nSELECT 2", "1 row in "),
    ] {
        let output = piped(text)?;
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(said(&output).contains(error), "{text}: {}", said(&output));
        ensure!(output.status.success() == shown.contains("_col0\n2"), "{text}: {:?} {shown}", output.status);
    }
    Ok(())
}
