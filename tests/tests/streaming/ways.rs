//! One file of SQL run every way there is: as batch, straight, crashed and restored at other parallelisms.
//!
//! Invariant: whatever the way, the tables it fills hold the rows of the batch query.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arrow::{
    array::{Array, RecordBatch, UInt32Array},
    compute::{cast, take_record_batch},
    datatypes::{DataType, SchemaRef},
    util::display::{ArrayFormatter, FormatOptions},
};
use futures::TryStreamExt;
use headwater_connectors::catalogs::memory::MemoryCatalog;
use headwater_engine::{
    checkpoint::{
        manifest::SplitStatus,
        store::{CheckpointStore, MemoryStore},
    },
    message::{ChangeBatch, RowKind},
    runtime::job::{JobConfig, JobSummary, Observer, run},
    testing::{FaultyStore, MemoryLog, StepClock},
    time::Instant,
};
use headwater_sql::{
    lower::lower_inserts,
    parser::{Parameters, Statement, StatementKind, parse, statement::Insert, stream_ddl::TableOption},
    session::{Session, SessionConfig},
};
use parquet::arrow::ArrowWriter;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio_util::sync::CancellationToken;

use crate::{balance, connector::Kept, data, pipelines};

/// Times a job is stopped before everything must be read.
const LIVES_MAX: usize = 400;

/// The operators whose state goes to disk, as their nodes are named.
const SPILLING: [&str; 8] = [
    "window-aggregate",
    "session-aggregate",
    "group-aggregate",
    "running-aggregate",
    "join",
    "rank",
    "materialize",
    "normalize",
];

/// Rows of each table, as text, sorted.
pub(crate) type Results = BTreeMap<String, Vec<String>>;

/// A folder with the data sets as files, for the batch way and for tables that are looked up.
pub(crate) struct Lake(tempfile::TempDir);

impl Lake {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in data::ALL {
            let path = folder.path().join(name);
            fs::create_dir(&path).unwrap();
            let rows = data::rows(name);
            let file = fs::File::create(path.join("part.parquet")).unwrap();
            let mut writer = ArrowWriter::try_new(file, rows.schema(), None).unwrap();
            writer.write(&rows).unwrap();
            writer.close().unwrap();
        }
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

/// A script on its way.
pub(crate) struct Script {
    /// Its files, as they are told apart.
    pub(crate) name: String,
    statements: Vec<Statement>,
    lake: PathBuf,
    /// Whether its tables have the columns of the folders of their names.
    has_folders: bool,
}

/// A session in which a script's tables are there, and its INSERTs.
struct Ready {
    session: Session,
    kept: Arc<Kept>,
    inserts: Vec<Insert>,
}

impl Script {
    pub(crate) fn read(files: &[&Path], lake: &Lake) -> Self {
        let parameters = Parameters::from([
            ("source".to_owned(), "kept".to_owned()),
            ("sink".to_owned(), "kept".to_owned()),
            ("lake".to_owned(), lake.path().to_string_lossy().into_owned()),
            ("brokers".to_owned(), String::new()),
        ]);
        let parts = files.iter().map(|file| fs::read_to_string(file).unwrap());
        let text = parts.collect::<Vec<_>>().join("\n");
        let names = files.iter().filter(|file| !file.ends_with("tables.sql"));
        let names = names.map(|file| file.components().rev().take(2).map(|part| part.as_os_str().to_string_lossy()));
        let names = names.map(|parts| parts.collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("/"));
        let name = names.collect::<Vec<_>>().join(" + ");
        let statements = parse(&text, &parameters).unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { name, statements, lake: lake.path().to_owned(), has_folders: true }
    }

    /// The same with its connections replaced.
    pub(crate) fn replaced(self) -> Self {
        Self { statements: pipelines::replaced(self.statements), has_folders: false, ..self }
    }

    /// Declares the tables; in batch, those that are kept in memory are folders.
    async fn ready(&self, batch: bool) -> Ready {
        let kept = Arc::new(Kept::default());
        let config = SessionConfig {
            connectors: vec![Arc::clone(&kept) as _],
            ..SessionConfig::in_directory(self.lake.join("state").to_string_lossy())
        };
        let session = Session::with_catalog(config, Arc::new(MemoryCatalog::default())).unwrap();
        let mut inserts = Vec::new();
        for statement in &self.statements {
            let own = pipelines::inserts(statement);
            if own.is_empty() {
                let statement = if batch && self.has_folders { self.in_folder(statement) } else { statement.clone() };
                let done = session.execute(&statement).await;
                done.unwrap_or_else(|error| panic!("{}: {error}: {}", self.name, statement.text));
            }
            inserts.extend(own.into_iter().cloned());
        }
        Ready { session, kept, inserts }
    }

    fn in_folder(&self, statement: &Statement) -> Statement {
        let mut statement = statement.clone();
        if let StatementKind::CreateStreamTable(table) = &mut statement.kind
            && table.option("connector") == Some("kept")
            && table.option("format").is_none()
        {
            let at = table.name.at();
            let data = table.option("data").map_or(table.name.parts.last().unwrap().value.clone(), str::to_owned);
            let path = self.lake.join(data).to_string_lossy().into_owned();
            let option = |key: &str, value: &str| TableOption { key: key.into(), value: value.into(), at };
            table.options = vec![option("connector", "filesystem"), option("path", &path), option("format", "parquet")];
        }
        statement
    }

    /// The batch result of each INSERT, in the types of the tables it fills.
    pub(crate) async fn batch(&self) -> Results {
        let ready = self.ready(true).await;
        fill(&ready.kept, 1, 100);
        ready.kept.logs.lock().unwrap().values().for_each(MemoryLog::close);
        let stream = self.ready(false).await;
        fill(&stream.kept, 1, 100);
        lower_inserts(&stream.session, &stream.inserts, false)
            .await
            .unwrap_or_else(|error| panic!("{}: {error} {:?}", self.name, error.hint()));
        let mut results = Results::new();
        for insert in &ready.inserts {
            let table = insert.table.parts.last().unwrap().value.to_lowercase();
            let (bound, state) = ready.session.bound(&insert.query, &Arc::default()).await.unwrap();
            let rows = ready.session.run_plan(&bound.plan, &state).await.unwrap();
            let rows: Vec<RecordBatch> =
                rows.try_collect().await.unwrap_or_else(|error| panic!("{}: {error}", self.name));
            let (_, spec) = stream.kept.tables.lock().unwrap()[&table].clone();
            let lines = results.entry(table).or_default();
            rows.iter().for_each(|rows| lines.extend(texts(rows, &spec.schema)));
            lines.sort();
        }
        results
    }

    /// Runs the job from end to end.
    pub(crate) async fn straight(&self, parallelism: usize, batch_rows: usize, splits: usize) -> Results {
        self.straight_in(usize::MAX, parallelism, batch_rows, splits).await.0
    }

    /// Runs the job from end to end with memory for nothing: all keyed state goes to disk.
    pub(crate) async fn spilled(&self) -> Results {
        let (results, summary) = self.straight_in(1, 2, 64, 3).await;
        for (node, state) in &summary.manifest.unwrap().operators {
            let is_kept = SPILLING.iter().any(|operator| node.contains(operator));
            assert!(!is_kept || state.observed.spilled_bytes > 0, "{}: \"{node}\" never went to disk", self.name);
        }
        results
    }

    async fn straight_in(
        &self,
        memory_limit: usize,
        parallelism: usize,
        batch_rows: usize,
        splits: usize,
    ) -> (Results, JobSummary) {
        let ready = self.ready(false).await;
        fill(&ready.kept, splits, batch_rows);
        ready.kept.logs.lock().unwrap().values().for_each(MemoryLog::close);
        let graph = lower_inserts(&ready.session, &ready.inserts, false).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = config(Arc::new(MemoryStore::default()), parallelism, memory_limit, folder.path());
        let graph = Arc::new(graph);
        let ended = run(Arc::clone(&graph), config, CancellationToken::new()).await;
        let summary = ended.unwrap_or_else(|error| panic!("{}: {error}", self.name));
        balance::check(&self.name, &graph, &summary);
        for (table, tallies) in &summary.ledger {
            for (insert, tally) in tallies {
                assert!(tally.is_balanced(), "{} {table} {insert}: {tally:?}", self.name);
                assert_eq!((tally.late, tally.rejected), (0, 0), "{} {table} {insert}: {tally:?}", self.name);
            }
        }
        (ready.results(), summary)
    }

    /// Runs the job over every other row: what it gives must differ, or the comparison could not fail.
    pub(crate) async fn damaged(&self) -> Results {
        let ready = self.ready(false).await;
        // Two splits, of which one is not there.
        for name in data::ALL {
            let rows = data::rows(name);
            let places = (0..rows.num_rows() as u32).step_by(2);
            let log = MemoryLog::new(true, 10_000);
            log.append("split-0", take_record_batch(&rows, &UInt32Array::from_iter_values(places)).unwrap());
            ready.kept.logs.lock().unwrap().insert(name.to_owned(), log);
        }
        ready.kept.logs.lock().unwrap().extend(pipelines::halves());
        let graph = lower_inserts(&ready.session, &ready.inserts, false).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = config(Arc::new(MemoryStore::default()), 1, usize::MAX, folder.path());
        let ended = run(Arc::new(graph), config, CancellationToken::new()).await;
        ended.unwrap_or_else(|error| panic!("{}: {error}", self.name));
        ready.results()
    }

    /// Stops the job at each epoch and restores it at another parallelism, until all is read, then runs it to its end.
    pub(crate) async fn stopped(&self) -> Results {
        let folder = tempfile::tempdir().unwrap();
        let config = |store, parallelism| config(store, parallelism, usize::MAX, folder.path());
        let ready = self.ready(false).await;
        fill(&ready.kept, 2, 40);
        let store: Arc<dyn CheckpointStore> = Arc::new(MemoryStore::default());
        let mut is_read = false;
        for life in 0..LIVES_MAX {
            let graph = lower_inserts(&ready.session, &ready.inserts, false).await.unwrap();
            let (observer, mut newest) = Observer::channel();
            let stop = CancellationToken::new();
            let config = JobConfig { observer, ..config(Arc::clone(&store), 1 + life % 4) };
            let at_an_epoch = async {
                newest.changed().await.unwrap();
                stop.cancel();
            };
            let (stopped, ()) = tokio::join!(run(Arc::new(graph), config, stop.clone()), at_an_epoch);
            let stopped = stopped.unwrap_or_else(|error| panic!("{} stopped at life {life}: {error}", self.name));
            let sources = stopped.manifest.unwrap().sources.into_values();
            is_read = sources
                .flat_map(|source| source.splits)
                .all(|split| split.lag == Some(0) || split.status == SplitStatus::Ended);
            if is_read {
                break;
            }
        }
        assert!(is_read, "{}: {LIVES_MAX} lives do not read it all", self.name);
        ready.kept.logs.lock().unwrap().values().for_each(MemoryLog::close);
        let graph = Arc::new(lower_inserts(&ready.session, &ready.inserts, false).await.unwrap());
        let ended = run(Arc::clone(&graph), config(store, 2), CancellationToken::new()).await;
        let summary = ended.unwrap_or_else(|error| panic!("{} after its stops: {error}", self.name));
        balance::check(&self.name, &graph, &summary);
        ready.results()
    }

    /// Runs the job with crashes, stops and lost replies, each time at another parallelism, then to its end.
    pub(crate) async fn crashed(&self, seed: u64, memory_limit: usize) -> Results {
        let folder = tempfile::tempdir().unwrap();
        let config = |store, parallelism| config(store, parallelism, memory_limit, folder.path());
        let mut random = SmallRng::seed_from_u64(seed);
        let ready = self.ready(false).await;
        fill(&ready.kept, random.random_range(1..4), random.random_range(5..90));
        let memory: Arc<dyn CheckpointStore> = Arc::new(MemoryStore::default());
        let faulty = |life| Arc::new(FaultyStore::new(Arc::clone(&memory), seed * 100 + life, 0.03)) as Arc<_>;
        for life in 0..random.random_range(2..6_u64) {
            let graph = lower_inserts(&ready.session, &ready.inserts, false).await.unwrap();
            let stop = CancellationToken::new();
            let config = config(faulty(life), random.random_range(1..5));
            let steps = random.random_range(10..4000);
            let job = run(Arc::new(graph), config, stop.clone());
            if random.random_bool(0.3) {
                let cancel = async {
                    after_steps(steps).await;
                    stop.cancel();
                };
                let (stopped, ()) = tokio::join!(job, cancel);
                stopped.unwrap_or_else(|error| panic!("{} seed {seed}: {error}", self.name));
                continue;
            }
            tokio::select! {
                biased;
                ended = job => panic!("{} seed {seed}: it ended: {:?}", self.name, ended.map(|_| ())),
                () = after_steps(steps) => {}
            }
        }
        ready.kept.logs.lock().unwrap().values().for_each(MemoryLog::close);
        let graph = lower_inserts(&ready.session, &ready.inserts, false).await.unwrap();
        let ended = run(Arc::new(graph), config(faulty(99), random.random_range(1..5)), CancellationToken::new()).await;
        ended.unwrap_or_else(|error| panic!("{} seed {seed}: {error}", self.name));
        ready.results()
    }
}

/// Gives way this many times, then is done: cutting a job here is a crash at that instruction.
async fn after_steps(steps: u64) {
    for _ in 0..steps {
        tokio::task::yield_now().await;
    }
}

fn config(store: Arc<dyn CheckpointStore>, parallelism: usize, memory_limit: usize, folder: &Path) -> JobConfig {
    JobConfig {
        clock: Arc::new(StepClock::new(Instant(1_767_225_600_000))),
        interval: Duration::from_millis(25),
        parallelism,
        restarts: 50,
        memory_limit,
        ..JobConfig::new("job", store, folder)
    }
}

/// Logs of all data sets, each over some splits.
fn fill(kept: &Kept, splits: usize, batch_rows: usize) {
    let mut logs = kept.logs.lock().unwrap();
    for name in data::ALL {
        let rows = data::rows(name);
        let log = MemoryLog::new(false, batch_rows);
        for split in 0..splits {
            let places = (split as u32..rows.num_rows() as u32).step_by(splits);
            let part = take_record_batch(&rows, &UInt32Array::from_iter_values(places)).unwrap();
            log.append(&format!("split-{split}"), part);
        }
        logs.insert(name.to_owned(), log);
    }
    logs.extend(pipelines::logs(splits, batch_rows));
}

impl Ready {
    /// What the tables hold: those with a key folded by it.
    fn results(&self) -> Results {
        let tables = self.kept.tables.lock().unwrap();
        let held = tables.iter().map(|(name, (table, spec))| {
            let keys: Vec<usize> = spec.primary_key.iter().map(|key| spec.schema.index_of(key).unwrap()).collect();
            let changes = table.changes();
            let mut lines = match keys.is_empty() {
                true => changes.iter().flat_map(|changes| texts(&changes.rows, &spec.schema)).collect(),
                false => folded(&changes, &keys, &spec.schema),
            };
            lines.sort();
            (name.clone(), lines)
        });
        held.collect()
    }
}

fn folded(changes: &[ChangeBatch], keys: &[usize], schema: &SchemaRef) -> Vec<String> {
    let mut table: BTreeMap<Vec<String>, String> = BTreeMap::new();
    for changes in changes {
        let whole = texts(&changes.rows, schema);
        let key = changes.rows.project(keys).unwrap();
        let keys = texts(&key, &key.schema());
        for (row, (key, text)) in keys.into_iter().zip(whole).enumerate() {
            match changes.kind(row) {
                RowKind::Insert | RowKind::UpdateAfter => drop(table.insert(vec![key], text)),
                RowKind::Delete => drop(table.remove(&vec![key])),
                RowKind::UpdateBefore => panic!("an upsert table got an old row"),
            }
        }
    }
    table.into_values().collect()
}

/// Rows as text in the types of a table; floating numbers to nine digits.
fn texts(rows: &RecordBatch, schema: &SchemaRef) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<_> = rows.columns().iter().zip(schema.fields()).collect();
    let columns: Vec<_> = columns.into_iter().map(|(column, field)| cast(column, field.data_type()).unwrap()).collect();
    let text = |column: &Arc<dyn Array>, row: usize| match column.data_type() {
        DataType::Float64 if column.is_valid(row) => {
            let number = column.as_any().downcast_ref::<arrow::array::Float64Array>().unwrap().value(row);
            format!("{number:.8e}")
        }
        _ => ArrayFormatter::try_new(column, &options).unwrap().value(row).to_string(),
    };
    (0..rows.num_rows())
        .map(|row| columns.iter().map(|column| text(column, row)).collect::<Vec<_>>().join(" | "))
        .collect()
}
