//! A session: the catalog, settings, tables and prepared statements of one connection, and how a statement runs.
//!
//! Invariant: a statement either returns rows with the counters of what it read, or an error with its code; a session is
//! a cheap handle, and its clones share everything.

use std::{path::PathBuf, sync::Arc};

use arrow::{
    array::{RecordBatch, RecordBatchOptions},
    datatypes::SchemaRef,
};
use datafusion::{
    execution::{SendableRecordBatchStream, SessionState},
    logical_expr::LogicalPlan,
    physical_plan::{execute_stream, stream::RecordBatchStreamAdapter},
};
use futures::StreamExt;
use headwater_connectors::{
    catalogs::{DEFAULT_DATABASE, memory::MemoryCatalog, read_only::ReadOnlyCatalog, sqlite::SqliteCatalog},
    lake::{filesystem::Filesystem, stats::ScanStats, stores::Stores},
};
use headwater_engine::{
    catalog::{Catalog, TableName},
    connector::Connector,
    error::{Error, ErrorKind, Result},
};
use parking_lot::RwLock;

pub(crate) use self::{explain::instead_of, prepared::parameter_count};
use crate::{
    diagnostics::Classify,
    kernels,
    parser::{
        self, Parameters, Statement, StatementKind,
        cursor::{Identifier, ObjectName},
        statement::Query,
    },
    secrets::Secrets,
    settings::Settings,
    tables::{CATALOG, RunTables, StatementTables, TableReader},
};

mod again;
mod explain;
mod padded;
mod planning;
mod prepared;
pub(crate) mod rules;

/// Where a session keeps its state, and what it starts with.
#[derive(Debug, Clone, Default)]
pub struct SessionConfig {
    /// Directory or URL of checkpoints and history.
    pub state: String,
    /// The catalog's file; by default `catalog.db` in a local `state`, else in `local_state`.
    pub catalog: Option<PathBuf>,
    /// Folder for what must be on a local disk; by default a local `state`, else `.headwater`.
    pub local_state: Option<PathBuf>,
    /// Folder or URL of tables without a location; by default `warehouse/` in `local_state`.
    pub warehouse: Option<String>,
    /// Where `${env:..}` in options is taken from.
    pub secrets: Secrets,
    /// Values for `${name}` in scripts.
    pub parameters: Parameters,
    /// The job whose tables of rejected and late rows are meant, if several have one of that name.
    pub job: Option<String>,
    /// Settings to start with, by key.
    pub settings: Vec<(String, String)>,
    /// Outside systems beside those that are always there.
    pub connectors: Vec<Arc<dyn Connector>>,
}

/// Where state lives unless told otherwise.
pub const DEFAULT_STATE: &str = ".headwater";

impl SessionConfig {
    /// A configuration with everything in one directory.
    pub fn in_directory(state: impl Into<String>) -> Self {
        Self { state: state.into(), ..Self::default() }
    }

    /// The folder for what must be on a local disk.
    pub fn local_state(&self) -> PathBuf {
        let is_local = !self.state.is_empty() && !self.state.contains("://");
        match &self.local_state {
            Some(folder) => folder.clone(),
            None if is_local => PathBuf::from(&self.state),
            None => PathBuf::from(DEFAULT_STATE),
        }
    }

    /// The catalog's file.
    pub fn catalog(&self) -> PathBuf {
        self.catalog.clone().unwrap_or_else(|| self.local_state().join("catalog.db"))
    }

    /// The folder or URL of tables without a location, ending with a slash.
    pub fn warehouse(&self) -> String {
        let folder = match &self.warehouse {
            Some(folder) => folder.clone(),
            None => self.local_state().join("warehouse").to_string_lossy().into_owned(),
        };
        if folder.ends_with('/') { folder } else { folder + "/" }
    }
}

/// One connection; clones are the same one.
#[derive(Clone)]
pub struct Session {
    shared: Arc<Shared>,
    counters: Option<Arc<ScanStats>>,
}

struct Shared {
    config: SessionConfig,
    catalog: Arc<dyn Catalog>,
    stores: Arc<Stores>,
    connectors: Vec<Arc<dyn Connector>>,
    filesystem: Filesystem,
    base: RwLock<SessionState>,
    run_tables: RunTables,
    state: RwLock<State>,
    plans_only: bool,
}

/// What statements of the session change.
#[derive(Debug)]
struct State {
    database: String,
    settings: Settings,
    prepared: prepared::PreparedStatements,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

/// What a statement gave.
pub enum Outcome {
    /// Rows to read, with the counters they fill while they are read.
    Rows {
        /// The rows.
        stream: SendableRecordBatchStream,
        /// What was read for them.
        stats: Arc<ScanStats>,
    },
    /// Nothing to show; how many rows were written, if any.
    Done {
        /// Rows written.
        rows: Option<u64>,
        /// What was read.
        stats: Arc<ScanStats>,
    },
}

impl Outcome {
    /// Nothing to show and nothing read.
    pub fn done() -> Self {
        Self::Done { rows: None, stats: Arc::default() }
    }
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rows { .. } => f.write_str("Rows"),
            Self::Done { rows, .. } => write!(f, "Done({rows:?})"),
        }
    }
}

impl Session {
    /// Opens a session on the SQLite catalog of its configuration. Where that cannot be written, what is in it is read,
    /// or it is empty, and a statement that would change it is refused.
    pub async fn open(config: SessionConfig) -> Result<Self> {
        let file = config.catalog();
        let catalog: Arc<dyn Catalog> = match SqliteCatalog::open(&file).await {
            Ok(catalog) => Arc::new(catalog),
            Err(denied) if denied.kind() == ErrorKind::Denied => {
                let found: Arc<dyn Catalog> = match file.is_file() {
                    true => Arc::new(SqliteCatalog::open_read_only(&file).await?),
                    false => Arc::new(MemoryCatalog::default()),
                };
                Arc::new(ReadOnlyCatalog::new(found, denied))
            }
            Err(error) => return Err(error),
        };
        Self::with_catalog(config, catalog)
    }

    /// A session on a catalog that is open.
    pub fn with_catalog(config: SessionConfig, catalog: Arc<dyn Catalog>) -> Result<Self> {
        Self::build(config, catalog, false)
    }

    /// A session on a copy of a catalog, which explains what would read or write rows, and deletes no file.
    pub(crate) fn for_plans(config: SessionConfig, copy: Arc<dyn Catalog>) -> Result<Self> {
        Self::build(config, copy, true)
    }

    fn build(config: SessionConfig, catalog: Arc<dyn Catalog>, plans_only: bool) -> Result<Self> {
        let mut settings = Settings::default();
        for (key, value) in &config.settings {
            settings.set(key, value)?;
        }
        let base = planning::base_state(&settings, &config)?;
        let state = State {
            database: DEFAULT_DATABASE.to_owned(),
            settings,
            prepared: prepared::PreparedStatements::default(),
        };
        let base = RwLock::new(base);
        let here = std::env::current_dir().map_err(|error| Error::from(error).context("the working directory"))?;
        let stores = Arc::new(Stores::new(state.settings.s3_options(), here));
        let mut connectors = headwater_connectors::all();
        let filesystem = Filesystem::new(Arc::clone(&stores), Some(Arc::clone(&catalog)));
        connectors.push(Arc::new(filesystem.clone()));
        connectors.extend(config.connectors.iter().cloned());
        let shared = Shared {
            config,
            catalog,
            stores,
            connectors,
            filesystem,
            base,
            run_tables: RunTables::default(),
            state: RwLock::new(state),
            plans_only,
        };
        Ok(Self { shared: Arc::new(shared), counters: None })
    }

    /// Whether nothing may be run or deleted: the catalog is a copy, and the files are those of the real one.
    pub(crate) fn plans_only(&self) -> bool {
        self.shared.plans_only
    }

    /// The configuration it was opened with.
    pub fn config(&self) -> &SessionConfig {
        &self.shared.config
    }

    /// The catalog.
    pub fn catalog(&self) -> &Arc<dyn Catalog> {
        &self.shared.catalog
    }

    /// Tables and views that live as long as the session.
    pub fn run_tables(&self) -> &RunTables {
        &self.shared.run_tables
    }

    /// The outside systems that tables of the run may name.
    pub fn connectors(&self) -> &[Arc<dyn Connector>] {
        &self.shared.connectors
    }

    /// The folders of the lake, as jobs read and write them.
    pub(crate) fn filesystem(&self) -> &Filesystem {
        &self.shared.filesystem
    }

    /// The stores of locations, with this session's settings as they are now.
    pub fn stores(&self) -> &Arc<Stores> {
        &self.shared.stores
    }

    /// The database in use.
    pub fn database(&self) -> String {
        self.shared.state.read().database.clone()
    }

    /// The settings as they are now.
    pub fn settings(&self) -> Settings {
        self.shared.state.read().settings.clone()
    }

    /// The statements of a script, with this session's parameters.
    pub fn parse(&self, text: &str) -> Result<Vec<Statement>> {
        parser::parse(text, &self.shared.config.parameters)
    }

    /// The full name of a table, in the database in use unless it says otherwise.
    pub fn table_name(&self, name: &ObjectName) -> Result<TableName> {
        let value = |part: &Identifier| part.value.clone();
        match name.parts.as_slice() {
            [table] => Ok(TableName::new(self.database(), value(table))),
            [database, table] => Ok(TableName::new(value(database), value(table))),
            [catalog, database, table] if catalog.value.eq_ignore_ascii_case(CATALOG) => {
                Ok(TableName::new(value(database), value(table)))
            }
            [catalog, ..] => {
                Err(Error::user("CATALOG_NOT_FOUND", format!("catalog \"{}\" does not exist", catalog.value))
                    .with_hint(format!("there is one catalog, \"{CATALOG}\"; its name can be left out"))
                    .at(catalog.at))
            }
            [] => Err(Error::internal("a name has no parts")),
        }
    }

    /// This session, with statements that count what they read into these counters, so that it can be watched.
    #[must_use]
    pub fn counting_into(&self, counters: Arc<ScanStats>) -> Self {
        Self { shared: Arc::clone(&self.shared), counters: Some(counters) }
    }

    /// The counters of a statement: those that are watched, or new ones.
    pub(crate) fn counters(&self) -> Arc<ScanStats> {
        self.counters.clone().unwrap_or_default()
    }

    /// Runs one statement.
    pub async fn execute(&self, statement: &Statement) -> Result<Outcome> {
        self.run(statement).await.map_err(|error| match error.location() {
            Some(_) => error,
            None if error.kind() == headwater_engine::error::ErrorKind::User => error.at(statement.at),
            None => error,
        })
    }

    async fn run(&self, statement: &Statement) -> Result<Outcome> {
        if self.plans_only()
            && let Some(explain) = instead_of(statement)
        {
            return self.explain(&explain).await;
        }
        match &statement.kind {
            StatementKind::Query(query) => self.query(query).await,
            StatementKind::Insert(_) | StatementKind::CreateTableAs(_) | StatementKind::Unload(_) => {
                self.written(&statement.kind).await
            }
            StatementKind::StatementSet(statements) => {
                let stats = self.counters();
                let session = self.counting_into(Arc::clone(&stats));
                let mut written = 0;
                for statement in statements {
                    if let Outcome::Done { rows: Some(rows), .. } = Box::pin(session.run(statement)).await? {
                        written += rows;
                    }
                }
                Ok(Outcome::Done { rows: Some(written), stats })
            }
            StatementKind::CreateStreamTable(table) => crate::ddl::run_table::create(self, table).await,
            StatementKind::Ddl(ddl) => crate::ddl::run(self, ddl).await,
            StatementKind::Show(show) => crate::ddl::show::run(self, show).await,
            StatementKind::Use(database) => self.use_database(database).await,
            StatementKind::Set { key, value } => self.set(&key.value, value).map_err(|error| error.at(key.at)),
            StatementKind::Reset(key) => self.reset(key.as_ref()),
            StatementKind::Prepare { name, text, .. } => self.prepare(name, text),
            StatementKind::Execute { name, arguments } => Box::pin(self.execute_prepared(name, arguments)).await,
            StatementKind::ExecuteImmediate { text, arguments } => {
                let run = Box::pin(self.execute_text(text, arguments)).await;
                run.map_err(|error| error.within("the statement of EXECUTE IMMEDIATE").at(statement.at))
            }
            StatementKind::Deallocate(name) => self.deallocate(name),
            StatementKind::Explain(explain) => self.explain(explain).await,
        }
    }

    async fn query(&self, query: &Query) -> Result<Outcome> {
        let stats = self.counters();
        if query.emit_changes
            && let Some(stream) = crate::lower::follow(self, &query.body).await?
        {
            return Ok(Outcome::Rows { stream, stats });
        }
        let stream = self.rows(&query.body, &stats).await?;
        Ok(Outcome::Rows { stream, stats })
    }

    /// Starts a plan; rows are computed as they are read.
    pub async fn run_plan(&self, plan: &LogicalPlan, state: &SessionState) -> Result<SendableRecordBatchStream> {
        let physical = state.create_physical_plan(plan).await.classify()?;
        execute_stream(physical, state.task_ctx()).classify()
    }

    /// Changes a setting for the statements after this one.
    fn set(&self, key: &str, value: &str) -> Result<Outcome> {
        let mut settings = self.settings();
        settings.set(key, value)?;
        self.take_settings(settings)
    }

    fn reset(&self, key: Option<&Identifier>) -> Result<Outcome> {
        let mut settings = self.settings();
        match key {
            Some(key) => settings.reset(Some(&key.value)).map_err(|error| error.at(key.at))?,
            None => settings.reset(None)?,
        }
        self.take_settings(settings)
    }

    fn take_settings(&self, settings: Settings) -> Result<Outcome> {
        *self.shared.base.write() = planning::base_state(&settings, &self.shared.config)?;
        self.shared.stores.set(settings.s3_options());
        self.shared.state.write().settings = settings;
        Ok(Outcome::done())
    }

    async fn use_database(&self, name: &Identifier) -> Result<Outcome> {
        let Some(database) = self.catalog().database(&name.value).await? else {
            return Err(crate::ddl::no_database(self, name).await);
        };
        self.shared.state.write().database = database.name;
        Ok(Outcome::done())
    }

    /// Goes back to the database that is always there, if this one was in use.
    pub(crate) fn leave_database(&self, dropped: &str) {
        let state = &mut self.shared.state.write();
        if state.database == dropped {
            DEFAULT_DATABASE.clone_into(&mut state.database);
        }
    }

    /// The tables of a statement that counts into these counters.
    pub(crate) fn statement_tables(&self, stats: &Arc<ScanStats>) -> StatementTables {
        let (session, stats) = (self.clone(), Arc::clone(stats));
        StatementTables { session, stats, views: Vec::new(), reader: TableReader::Batch }
    }
}

/// The rows under the names and types users know.
fn named(stream: SendableRecordBatchStream, schema: SchemaRef) -> SendableRecordBatchStream {
    let output = Arc::clone(&schema);
    let renamed = stream.map(move |batch| {
        let batch = batch?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let columns = batch
            .columns()
            .iter()
            .zip(output.fields())
            .map(|(column, field)| Ok(kernels::fit(Arc::clone(column), field.data_type())?))
            .collect::<datafusion::error::Result<Vec<_>>>()?;
        Ok(RecordBatch::try_new_with_options(Arc::clone(&output), columns, &options)?)
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, renamed))
}
