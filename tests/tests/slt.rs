//! Runs the SQL logic tests: every `.slt` file under `tests/slt`, each with a session, catalog and folder of its own.
//!
//! Invariant: a file sees nothing of another one. `${tmp}` in it is its folder, `${repo}` the root of the project; NULL
//! is written `NULL`, an empty text `(empty)`; an error is matched by its printed form, `error[CODE] line:col: ..`.
//! `SLT=part cargo test -p headwater-tests --test slt` runs the files whose path contains the part.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use arrow::array::Array;
use futures::TryStreamExt;
use headwater_connectors::lake::stats::ScanStats;
use headwater_engine::error::Error;
use headwater_sql::{
    diagnostics,
    output::value::write_text,
    parser::depth::STACK_BYTES,
    session::{Outcome, Session, SessionConfig},
};
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};

/// Files run at the same time.
const WORKERS: usize = 2;

/// A session as the runner knows it.
struct Database {
    session: Session,
}

/// An error as a user sees it.
#[derive(Debug)]
struct Printed(String);

impl fmt::Display for Printed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Printed {}

impl From<Error> for Printed {
    fn from(error: Error) -> Self {
        Self(diagnostics::render(&error))
    }
}

#[async_trait::async_trait]
impl AsyncDB for Database {
    type Error = Printed;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Printed> {
        let mut output = DBOutput::StatementComplete(0);
        for statement in self.session.parse(sql)? {
            output = match self.session.execute(&statement).await? {
                Outcome::Rows { stream, .. } => {
                    let columns = stream.schema().fields().len();
                    let batches: Vec<_> = stream.try_collect().await.map_err(diagnostics::classify)?;
                    let mut rows = Vec::new();
                    for batch in &batches {
                        rows.extend((0..batch.num_rows()).map(|row| {
                            batch.columns().iter().map(|column| cell(column.as_ref(), row)).collect::<Vec<_>>()
                        }));
                    }
                    DBOutput::Rows { types: vec![DefaultColumnType::Any; columns], rows }
                }
                Outcome::Done { rows, stats } => {
                    let _ = ScanStats::get(&stats.rows_read);
                    DBOutput::StatementComplete(rows.unwrap_or_default())
                }
            };
        }
        Ok(output)
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "headwater"
    }
}

fn cell(column: &dyn Array, row: usize) -> String {
    if column.is_null(row) || matches!(column.data_type(), arrow::datatypes::DataType::Null) {
        return "NULL".to_owned();
    }
    let mut text = String::new();
    write_text(column, row, &mut text);
    if text.is_empty() { "(empty)".to_owned() } else { text }
}

fn find(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            find(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "slt") {
            found.push(path);
        }
    }
}

async fn run(path: &Path) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let repo = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let script = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let script = script.replace("${tmp}", &folder.path().to_string_lossy()).replace("${repo}", &repo.to_string_lossy());
    let state = folder.path().join(".headwater").to_string_lossy().into_owned();
    let session = Session::open(SessionConfig::in_directory(state)).await.map_err(|error| error.to_string())?;
    let mut runner = Runner::new(|| {
        let session = session.clone();
        async move { Ok(Database { session }) }
    });
    let name = path.strip_prefix(repo).unwrap_or(path).to_string_lossy().into_owned();
    runner.run_script_with_name_async(&script, name).await.map_err(|error| error.display(false).to_string())
}

#[test]
fn sql_logic_tests() {
    let mut files = Vec::new();
    find(&Path::new(env!("CARGO_MANIFEST_DIR")).join("slt"), &mut files);
    let wanted = std::env::var("SLT").unwrap_or_default();
    files.retain(|path| path.to_string_lossy().contains(&wanted));
    files.sort();
    assert!(!files.is_empty(), "no file matches {wanted:?}");
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
            let running = thread.spawn_scoped(scope, || {
                let mut runtime = tokio::runtime::Builder::new_multi_thread();
                runtime.worker_threads(2).thread_stack_size(STACK_BYTES).enable_all();
                let runtime = runtime.build().unwrap();
                while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(failure) = runtime.block_on(run(path)) {
                        failures.lock().unwrap().push(format!("{}\n{failure}", path.display()));
                    }
                }
            });
            running.unwrap();
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} of {} files fail:\n\n{}", failures.len(), files.len(), failures.join("\n\n"));
}
