//! The command line as a whole: options where people put them, and what is refused.

use std::path::{Path, PathBuf};

use headwater_engine::catalog::TableName;

use super::*;
use crate::{parser::Parameters, session::Outcome};

fn parse(arguments: &[&str]) -> Arguments {
    Arguments::try_parse_from(std::iter::once("headwater").chain(arguments.iter().copied())).unwrap()
}

fn refusal(arguments: &[&str]) -> String {
    let arguments = std::iter::once("headwater").chain(arguments.iter().copied());
    Arguments::try_parse_from(arguments).unwrap_err().to_string()
}

#[test]
fn the_definition_is_sound() {
    Arguments::command().debug_assert();
}

#[test]
fn options_may_stand_before_and_after_the_command() {
    let before = parse(&["--state", "s", "--format", "csv", "--param", "a=1", "run", "x.sql"]);
    let after = parse(&["run", "x.sql", "--state", "s", "--format", "csv", "--param", "a=1"]);
    for arguments in [before, after] {
        assert_eq!(arguments.common.state, "s");
        let Some(Command::Run { files, results, .. }) = arguments.command else { panic!("run expected") };
        let results = results.or(arguments.results);
        assert_eq!((files.len(), results.format), (1, Some(Format::Csv)));
        assert_eq!(results.parameters, [("a".to_owned(), "1".to_owned())]);
    }
}

#[test]
fn generate_has_formats_of_its_own() {
    let Some(Command::Generate { format, seed, .. }) =
        parse(&["generate", "telemetry", "--format", "json.gz", "d"]).command
    else {
        panic!("generate expected")
    };
    assert_eq!((format, seed), (Some(generate::DatasetFormat::JsonGz), 1));
    assert!(refusal(&["generate", "telemetry", "--format", "table", "d"]).contains("possible values"));
}

#[test]
fn mistakes_are_named() {
    assert!(refusal(&["--staet", "x"]).contains("--state"));
    assert!(refusal(&["run"]).contains("<FILE>"));
    assert!(refusal(&["-c", "SELECT 1", "--param", "x"]).contains("write NAME=VALUE"));
    assert!(refusal(&["-c", "SELECT 1", "-f", "x"]).contains("cannot be used with"));
    assert!(refusal(&["generte"]).contains("generate"));
    assert!(refusal(&["run", "x.sql", "--parallelism", "0"]).contains("0 is not in 1.."));
}

#[test]
fn a_parquet_result_needs_a_file_and_one_statement() {
    let refused = |results, to_terminal| runner::check_format(Format::Parquet, results, to_terminal).is_err();
    assert!(refused(1, true) && refused(2, false) && !refused(1, false));
    assert!(runner::check_format(Format::Csv, 2, true).is_ok());
}

#[test]
fn files_are_one_script_with_statements_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a.sql"), folder.path().join("b.sql"));
    fs::write(&a, "SELECT 1 -- no semicolon").unwrap();
    fs::write(&b, "SELECT 2;\nSELECT 3;\n").unwrap();
    let script = Script::read(&[a, b]).unwrap();
    assert_eq!(crate::parser::parse(&script.text, &Parameters::new()).unwrap().len(), 3);
}

#[test]
fn an_error_is_at_a_place_of_the_file_it_is_in() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a.sql"), folder.path().join("b.sql"));
    fs::write(&a, "SELECT 1;\nSELECT 2 -- no semicolon").unwrap();
    fs::write(&b, "SELECT 3;\n  SELEC 4;\n").unwrap();
    let placed = |files: &[PathBuf]| {
        let script = Script::read(files).unwrap();
        let error = crate::parser::parse(&script.text, &Parameters::new()).unwrap_err();
        let Failure::Error(error) = script.placed(error.into()) else { panic!("an error expected") };
        crate::diagnostics::render(&error)
    };
    let shown = b.display().to_string();
    assert!(placed(&[a.clone(), b.clone()]).contains(&format!("] {shown}:2:3: ")), "{}", placed(&[a, b]));
    assert!(placed(std::slice::from_ref(&b)).contains("] 2:3: "), "one file needs no name");
}

/// Where nothing can be kept, what keeps nothing still runs.
#[tokio::test]
async fn a_state_that_cannot_be_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("blocked");
    fs::write(&blocked, "a file where the folder should be").unwrap();
    let state = blocked.join("state").to_string_lossy().into_owned();
    let session = Session::open(SessionConfig::in_directory(state)).await.unwrap();
    fs::write(folder.path().join("a.json"), "{\"a\": 7}\n").unwrap();
    let read = format!("SELECT a FROM read_json('{}')", folder.path().join("a.json").display());
    for statement in session.parse(&format!("SELECT 1; SHOW TABLES; {read}")).unwrap() {
        let Outcome::Rows { stream, .. } = session.execute(&statement).await.unwrap() else { panic!("rows expected") };
        let _: Vec<_> = futures::TryStreamExt::try_collect(stream).await.unwrap();
    }
    let to = folder.path().join("out");
    let made = format!("CREATE TABLE t WITH (external_location = '{}') AS SELECT 1 AS a", to.display());
    for refused in ["CREATE VIEW v AS SELECT 1 AS a", "CREATE DATABASE d", made.as_str()] {
        let error = session.execute(&session.parse(refused).unwrap()[0]).await.unwrap_err();
        assert_eq!(error.code().0, "PERMISSION_DENIED", "{refused}: {error}");
        assert!(error.message().contains("catalog.db") && error.hint().unwrap().contains("--state"), "{error}");
    }
    assert!(!to.exists(), "nothing is written that cannot be registered");
}

#[test]
fn a_comment_on_the_last_line_ends_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a.sql"), folder.path().join("b.sql"));
    fs::write(&a, "SELECT 1 -- one;").unwrap();
    fs::write(&b, "SELECT 2").unwrap();
    let script = Script::read(&[a, b]).unwrap();
    assert_eq!(crate::parser::parse(&script.text, &Parameters::new()).unwrap().len(), 2);
}

fn files_of(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files_of(&path)),
            false => found.push((path.clone(), fs::read(&path).unwrap())),
        }
    }
    found.sort();
    found
}

/// Explaining is for scripts that are not to be run, those that drop and replace among them.
#[tokio::test]
async fn explain_leaves_every_file_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().to_string_lossy().into_owned();
    let session = Session::open(SessionConfig::in_directory(state)).await.unwrap();
    for statement in session
        .parse("CREATE TABLE kept AS SELECT 1 AS a; CREATE DATABASE db; CREATE TABLE db.t AS SELECT 2 AS a")
        .unwrap()
    {
        session.execute(&statement).await.unwrap();
    }
    let warehouse = folder.path().join("warehouse");
    let before = files_of(&warehouse);
    assert!(before.len() >= 2);
    let script = "PREPARE p FROM INSERT INTO kept SELECT 5; EXECUTE p; EXECUTE IMMEDIATE 'INSERT INTO kept SELECT 8';
        EXPLAIN ANALYZE SELECT * FROM kept; INSERT OVERWRITE kept SELECT 9; DROP TABLE kept; DROP DATABASE db CASCADE;
        CREATE TABLE kept AS SELECT 'x' AS b; SELECT b FROM kept; EXPLAIN CREATE TABLE shown AS SELECT 1 AS a;
        CREATE TABLE shown AS SELECT 'x' AS b; SELECT b FROM shown";
    let statements = session.parse(script).unwrap();
    let style = style(&Results::default(), &Environment::default());
    let (watched, _running) = watch::channel(None);
    explain::run(&session, statements, &style, &watched, Box::new(io::BufWriter::new(io::sink()))).await.unwrap();
    assert_eq!(files_of(&warehouse), before);
    assert!(session.catalog().table(&TableName::new("db", "t")).await.unwrap().is_some());
}

/// Whoever comes second finds the table made, whatever it ran into on its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_may_make_a_table_that_need_not_be_new() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().to_string_lossy().into_owned();
    let sessions = (0..5).map(|_| Session::open(SessionConfig::in_directory(state.clone())));
    let sessions = futures::future::try_join_all(sessions).await.unwrap();
    let made = sessions.iter().cloned().map(|session| {
        tokio::spawn(async move {
            let statements = session.parse("CREATE TABLE IF NOT EXISTS t AS SELECT 1 AS a").unwrap();
            session.execute(&statements[0]).await.map(drop)
        })
    });
    for made in futures::future::join_all(made).await {
        made.unwrap().unwrap();
    }
    let Outcome::Rows { stream, .. } =
        sessions[0].execute(&sessions[0].parse("SELECT a FROM t").unwrap()[0]).await.unwrap()
    else {
        panic!("rows expected")
    };
    let rows: Vec<_> = futures::TryStreamExt::try_collect(stream).await.unwrap();
    assert_eq!(rows.iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>(), 1);
}

/// Each statement of a set counts.
#[tokio::test]
async fn a_set_tells_the_rows_of_all_its_statements() {
    let folder = tempfile::tempdir().unwrap();
    let session = Session::open(SessionConfig::in_directory(folder.path().to_string_lossy())).await.unwrap();
    let script = "CREATE TABLE a AS SELECT 1 AS n; CREATE TABLE b AS SELECT 2 AS n;
        EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT n FROM b; INSERT INTO b SELECT n FROM a; END";
    let mut last = None;
    for statement in session.parse(script).unwrap() {
        last = Some(session.execute(&statement).await.unwrap());
    }
    let Some(Outcome::Done { rows, stats }) = last else { panic!("a set gives no rows") };
    assert_eq!(rows, Some(3));
    assert_eq!(headwater_connectors::lake::stats::ScanStats::get(&stats.files_read), 3);
}

#[test]
fn a_file_that_does_not_exist_is_named() {
    let Err(Failure::Error(error)) = Script::read(&["none.sql".into()]) else { panic!("an error expected") };
    assert_eq!(error.to_string(), "file \"none.sql\" does not exist");
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let closed = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
    assert_eq!(closed.report(), Exit::Done);
    let fenced = Error::new(headwater_engine::error::ErrorKind::Fenced, "FENCED", "another holds the job");
    assert_eq!(Failure::from(fenced).report().code(), 3);
}

#[test]
fn settings_come_from_the_file_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("headwater.toml");
    fs::write(&file, "parallelism = 2\n[s3]\nendpoint = 'http://localhost:1'\n").unwrap();
    let settings = configured(Some(&file), &Environment::default()).unwrap();
    assert_eq!(settings[0], ("parallelism".to_owned(), "2".to_owned()));
    assert_eq!(settings[1], ("s3.endpoint".to_owned(), "http://localhost:1".to_owned()));
    fs::write(&file, "paralelism = 2\n").unwrap();
    let error = configured(Some(&file), &Environment::default()).unwrap_err();
    assert!(error.to_string().contains("headwater.toml"), "{error}");
    assert!(configured(Some(Path::new("none.toml")), &Environment::default()).is_err());
}
