//! The tables a statement may name: the catalog's, those of the run, and the system's own.
//!
//! Invariant: names are resolved without regard to case, in the database in use unless they say otherwise, and every
//! table found for one statement counts what is read into that statement's [`ScanStats`].

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use datafusion::{
    catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider},
    datasource::ViewTable,
    error::{DataFusionError, Result as DataFusionResult},
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder},
};
use headwater_connectors::lake::{provider::LakeTable, stats::ScanStats};
use headwater_engine::{
    catalog::{Catalog, Column, Table, TableKind, TableName},
    error::{Error, Result},
    graph::BranchInput,
};
use parking_lot::RwLock;

use crate::{
    diagnostics::did_you_mean,
    lower::{
        aside::{LookedUp, RejectedRows, SideRows},
        table::StreamTable,
    },
    parser::{ddl::CreateView, stream_ddl::CreateStreamTable},
    session::Session,
};

/// The name of the one catalog, as Athena calls it.
pub const CATALOG: &str = "awsdatacatalog";
/// What follows a table's name to name the records its decoder refuses.
pub(crate) const REJECTED_SUFFIX: &str = "$rejected";
/// What follows a table's name to name the rows that came too late.
pub(crate) const LATE_SUFFIX: &str = "$late";
/// What follows a table's name to name its partitions.
pub(crate) const PARTITIONS_SUFFIX: &str = "$partitions";
/// What the binder puts behind the name of a table that is looked up.
pub(crate) const LOOKUP_SUFFIX: &str = "$lookup";
/// The database that describes the others.
pub const INFORMATION_SCHEMA: &str = "information_schema";

/// What stands before the name of a table function in the name of the database that a path of files is asked of.
pub(crate) const FILES: &str = "$files:";

/// Views that read views, at most.
const VIEWS_MAX: usize = 64;

/// A table of the run: it is not in the catalog and ends with the session.
#[derive(Debug, Clone)]
pub enum RunTable {
    /// Flink's `CREATE TABLE .. WITH (..)`.
    Table(Arc<CreateStreamTable>),
    /// A view that reads such a table, or a temporary one.
    View(Arc<CreateView>),
}

/// Tables of the run by name.
pub type RunTables = RwLock<BTreeMap<TableName, RunTable>>;

/// What a name stands for.
#[derive(Debug)]
pub enum Found {
    /// A table or view of the catalog.
    Cataloged(Arc<Table>),
    /// A table or view of the run.
    Run(RunTable),
}

/// Reads the entry of a name: of the run first, then of the catalog.
pub async fn find(catalog: &dyn Catalog, run: &RunTables, name: &TableName) -> Result<Option<Found>> {
    if let Some(table) = run.read().get(name) {
        return Ok(Some(Found::Run(table.clone())));
    }
    Ok(catalog.table(name).await?.map(Found::Cataloged))
}

/// The error for a table that is not there, with the name it may have meant.
pub async fn not_found(catalog: &dyn Catalog, run: &RunTables, name: &TableName) -> Error {
    let Ok(tables) = catalog.tables(&name.database).await else {
        let error = Error::user("SCHEMA_NOT_FOUND", format!("database \"{}\" does not exist", name.database));
        let databases = catalog.databases().await.unwrap_or_default();
        return did_you_mean(error, &name.database, databases.iter().map(|database| database.name.as_str()));
    };
    let mut known: Vec<String> = tables.iter().map(|table| table.name.table.clone()).collect();
    known.extend(run.read().keys().filter(|key| key.database == name.database).map(|key| key.table.clone()));
    let error = Error::user("TABLE_NOT_FOUND", format!("table \"{name}\" does not exist"));
    if let Some((of, _)) = name.table.rsplit_once('$') {
        return error.with_hint(format!(
            "beside a table there are \"{of}$rejected\" and \"{of}$late\"; SHOW PARTITIONS {of} lists its partitions, SHOW \
             TBLPROPERTIES {of} its properties"
        ));
    }
    let extensions = [("json", "json"), ("ndjson", "json"), ("jsonl", "json"), ("csv", "csv"), ("parquet", "parquet")];
    let is_named = |extension: &str| name.table.trim_end_matches(".gz").ends_with(&format!(".{extension}"));
    if let Some((_, format)) = extensions.into_iter().find(|(extension, _)| is_named(extension)) {
        return error.with_hint(format!("a file is read by a function: SELECT .. FROM read_{format}('..')"));
    }
    did_you_mean(error, &name.table, known.iter().map(String::as_str))
}

/// The tables of one statement, as DataFusion asks for them.
#[derive(Clone)]
pub(crate) struct StatementTables {
    pub(crate) session: Session,
    pub(crate) stats: Arc<ScanStats>,
    /// The views being expanded, outermost first.
    pub(crate) views: Vec<TableName>,
    /// Who reads the tables.
    pub(crate) reader: TableReader,
}

/// Who reads the tables of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableReader {
    /// A statement that ends.
    Batch,
    /// A job; `once`: it stops at the ends that are there at its start, so that every folder counts as watched.
    Job {
        /// `--once`.
        once: bool,
    },
}

impl std::fmt::Debug for StatementTables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StatementTables")
    }
}

impl CatalogProviderList for StatementTables {
    fn register_catalog(&self, _: String, _: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        name.eq_ignore_ascii_case(CATALOG).then(|| Arc::new(self.clone()) as Arc<dyn CatalogProvider>)
    }
}

impl CatalogProvider for StatementTables {
    fn schema_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        Some(Arc::new(StatementDatabase { tables: self.clone(), database: name.to_lowercase() }))
    }
}

#[derive(Debug)]
struct StatementDatabase {
    tables: StatementTables,
    database: String,
}

#[async_trait]
impl SchemaProvider for StatementDatabase {
    fn table_names(&self) -> Vec<String> {
        Vec::new()
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>, DataFusionError> {
        if let Some(function) = self.database.strip_prefix(FILES) {
            return Ok(Some(Arc::new(crate::files::read(&self.tables.session, function, name).await?)));
        }
        let name = TableName::new(&self.database, name);
        Ok(Some(self.tables.provider(&name).await?))
    }

    fn table_exist(&self, _: &str) -> bool {
        true
    }
}

/// The table whose rejected or late rows a name stands for.
fn side_of(name: &str) -> Option<(&str, BranchInput)> {
    let rejected = name.strip_suffix(REJECTED_SUFFIX).map(|of| (of, BranchInput::Rejected));
    rejected.or_else(|| Some((name.strip_suffix(LATE_SUFFIX)?, BranchInput::Late)))
}

impl StatementTables {
    /// What reads a table or view; an error that says what may have been meant if there is none.
    pub(crate) async fn provider(&self, name: &TableName) -> Result<Arc<dyn TableProvider>> {
        let session = &self.session;
        if name.database == INFORMATION_SCHEMA {
            return crate::information_schema::table(session, &name.table).await;
        }
        if name.database == crate::jobs::SCHEMA {
            return crate::jobs::table(session, &name.table).await;
        }
        if let Some(of) = name.table.strip_suffix(LOOKUP_SUFFIX) {
            let batch = Self { reader: TableReader::Batch, ..self.clone() };
            let table = Box::pin(batch.provider(&TableName::new(&name.database, of))).await?;
            return Ok(Arc::new(LookedUp(table)));
        }
        if let (TableReader::Job { once }, Some((of, which))) = (self.reader, side_of(&name.table)) {
            return self.side(&TableName::new(&name.database, of), which, once).await;
        }
        if let Some(of) = name.table.strip_suffix(REJECTED_SUFFIX) {
            return self.rejected(name, &TableName::new(&name.database, of)).await;
        }
        if let Some(of) = name.table.strip_suffix(LATE_SUFFIX) {
            return self.late(name, &TableName::new(&name.database, of)).await;
        }
        let found = find(session.catalog().as_ref(), session.run_tables(), name).await?;
        if found.is_none()
            && let Some(of) = name.table.strip_suffix(PARTITIONS_SUFFIX)
            && let Some(Found::Cataloged(table)) =
                find(session.catalog().as_ref(), session.run_tables(), &TableName::new(&name.database, of)).await?
        {
            return crate::ddl::partitions_of(session, &table).await;
        }
        match found {
            Some(Found::Cataloged(table)) => match &table.kind {
                TableKind::View { sql, database } => self.view(name, sql, database, &table.columns).await,
                TableKind::External | TableKind::Managed => match self.reader {
                    TableReader::Batch => self.lake_table(table).await,
                    TableReader::Job { once } => Ok(Arc::new(StreamTable::of_lake(session, &table, once)?)),
                },
            },
            Some(Found::Run(RunTable::View(view))) => self.view(name, &view.query_text, &name.database, &[]).await,
            Some(Found::Run(RunTable::Table(table))) => crate::run_tables::provider(self, name, &table).await,
            None => Err(not_found(session.catalog().as_ref(), session.run_tables(), name).await),
        }
    }

    /// A view with the columns it was made with, or all that its query has.
    async fn view(
        &self,
        name: &TableName,
        sql: &str,
        database: &str,
        columns: &[Column],
    ) -> Result<Arc<dyn TableProvider>> {
        if self.views.contains(name) || self.views.len() >= VIEWS_MAX {
            return Err(Error::user("VIEW_IS_RECURSIVE", format!("view \"{name}\" reads itself"))
                .with_hint("SHOW CREATE VIEW shows what it reads; replace it with CREATE OR REPLACE VIEW"));
        }
        let mut tables = self.clone();
        tables.views.push(name.clone());
        let plan = Box::pin(self.session.plan_view(sql, database, tables))
            .await
            .map_err(|error| error.within(format!("view \"{name}\"")))?;
        let plan = with_columns(plan, columns).map_err(|error| error.within(format!("view \"{name}\"")))?;
        Ok(Arc::new(ViewTable::new(plan, Some(sql.to_owned()))))
    }

    /// `"t$rejected"` or `"t$late"` of a table the job reads, from the source they share.
    async fn side(&self, of: &TableName, which: BranchInput, once: bool) -> Result<Arc<dyn TableProvider>> {
        let session = &self.session;
        let table = match find(session.catalog().as_ref(), session.run_tables(), of).await? {
            Some(Found::Run(RunTable::Table(table))) => StreamTable::of_job(session, &table, once)?,
            Some(Found::Cataloged(table)) if !matches!(table.kind, TableKind::View { .. }) => {
                StreamTable::of_lake(session, &table, once)?
            }
            Some(_) => {
                return Err(Error::not_supported(format!("\"{of}\" is a view, which keeps no rows aside"))
                    .with_hint("read \"t$rejected\" or \"t$late\" of the table the view reads"));
            }
            None => return Err(not_found(session.catalog().as_ref(), session.run_tables(), of).await),
        };
        Ok(Arc::new(SideRows::new(table, which)))
    }

    /// `"t$rejected"`: what the decoder of a table refuses; of a job's table, what its job keeps.
    async fn rejected(&self, whole: &TableName, name: &TableName) -> Result<Arc<dyn TableProvider>> {
        let session = &self.session;
        let found = find(session.catalog().as_ref(), session.run_tables(), name).await?;
        let of_job = match &found {
            Some(Found::Run(RunTable::Table(table))) => {
                table.option("connector") != Some("filesystem")
                    || session.config().job.is_some()
                    || match StreamTable::of_job(session, table, true) {
                        Ok(table) => crate::jobs::is_of_job(session, &table).await?,
                        // What no job can read is of none.
                        Err(_) => false,
                    }
            }
            Some(Found::Run(RunTable::View(_)) | Found::Cataloged(_)) => session.config().job.is_some(),
            None => true,
        };
        if of_job {
            // A table whose job keeps nothing, or that has none, is read again.
            if let Some(kept) = crate::jobs::accounting_table(session, &whole.table, None).await? {
                return Ok(kept);
            }
        }
        let (table, not_null) = match found {
            Some(Found::Cataloged(table)) if !matches!(table.kind, TableKind::View { .. }) => (table, Vec::new()),
            Some(Found::Run(RunTable::Table(table))) if table.option("connector") == Some("filesystem") => {
                (Arc::new(crate::run_tables::filesystem_entry(name, &table)?), crate::run_tables::not_null(&table))
            }
            Some(Found::Run(RunTable::Table(table))) => {
                return Ok(Arc::new(RejectedRows(StreamTable::new(session, &table)?)));
            }
            Some(_) => return Err(Error::not_supported(format!("\"{name}\" is a view and rejects nothing"))),
            None => {
                let schema = headwater_engine::accounts::rejected_schema();
                return match crate::jobs::nothing_kept(session, &name.table, schema).await? {
                    Some(nothing) => Ok(nothing),
                    None => Err(not_found(session.catalog().as_ref(), session.run_tables(), name).await),
                };
            }
        };
        let table = self.with_secrets(table)?;
        let rejected = LakeTable::rejected(table, Arc::clone(session.catalog()), Arc::clone(session.stores()))?;
        Ok(Arc::new(rejected.with_not_null(&not_null)))
    }

    /// `"t$late"`: what a job keeps of rows whose windows had closed.
    async fn late(&self, whole: &TableName, name: &TableName) -> Result<Arc<dyn TableProvider>> {
        let session = &self.session;
        let schema = match find(session.catalog().as_ref(), session.run_tables(), name).await? {
            Some(Found::Run(RunTable::Table(table))) => {
                let table = crate::lower::table::StreamTable::new(session, &table)?;
                Some(headwater_engine::accounts::late_schema(&table.schema))
            }
            Some(Found::Run(RunTable::View(_)) | Found::Cataloged(_)) | None => None,
        };
        if let Some(kept) = crate::jobs::accounting_table(session, &whole.table, schema).await? {
            return Ok(kept);
        }
        let schema = headwater_engine::accounts::late_schema(&arrow::datatypes::Schema::empty());
        crate::jobs::nothing_kept(session, &name.table, schema).await?.ok_or_else(|| {
            Error::user("TABLE_NOT_FOUND", format!("no job reads a table \"{name}\""))
                .with_hint("headwater.ledger counts what came too late, for each table a job reads")
        })
    }

    /// What reads the files of a table.
    pub(crate) async fn lake_table(&self, table: Arc<Table>) -> Result<Arc<dyn TableProvider>> {
        Ok(Arc::new(self.lake(self.with_secrets(table)?)?))
    }

    /// The files of a table whose secrets are known.
    pub(crate) fn lake(&self, table: Arc<Table>) -> Result<LakeTable> {
        LakeTable::new(table, Arc::clone(self.session.catalog()), Arc::clone(self.session.stores()))
    }

    /// The table with the secrets its properties name.
    pub(crate) fn with_secrets(&self, table: Arc<Table>) -> Result<Arc<Table>> {
        if !table.properties.values().any(|value| value.contains("${")) {
            return Ok(table);
        }
        let properties = self.session.config().secrets.resolve(&table.properties)?;
        Ok(Arc::new(Table { properties, ..Table::clone(&table) }))
    }
}

/// The plan of a view with the columns it had when it was made: `*` may stand for more of them, or others, by now.
fn with_columns(plan: LogicalPlan, columns: &[Column]) -> Result<LogicalPlan> {
    let found: Vec<_> = plan.schema().iter().map(|(table, field)| (table.cloned(), field.name().clone())).collect();
    let is_same = |(column, (_, name)): (&Column, &(_, String))| column.name.eq_ignore_ascii_case(name);
    if columns.is_empty() || (columns.len() == found.len() && columns.iter().zip(&found).all(is_same)) {
        return Ok(plan);
    }
    let exprs = columns.iter().map(|column| {
        let place = found.iter().find(|(_, name)| column.name.eq_ignore_ascii_case(name));
        let (table, name) = place.cloned().ok_or_else(|| {
            Error::user("VIEW_IS_STALE", format!("its query has no column \"{}\" any more", column.name))
                .with_hint("make it again with CREATE OR REPLACE VIEW")
        })?;
        Ok(Expr::Column(datafusion::common::Column::new(table, name)))
    });
    let exprs = exprs.collect::<Result<Vec<_>>>()?;
    Ok(LogicalPlanBuilder::from(plan).project(exprs)?.build()?)
}
