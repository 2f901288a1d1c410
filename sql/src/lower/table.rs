//! A table of the run as jobs read and write it: its connector's spec, event time, and the options the planner takes.
//!
//! Invariant: a connector sees every option but those of this file, with secrets in place.

use std::{any::Any, sync::Arc, time::Duration};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session as CatalogSession, TableProvider},
    logical_expr::{Expr, TableProviderFilterPushDown, TableType},
    physical_plan::ExecutionPlan,
    sql::sqlparser::ast,
};
use headwater_connectors::{
    catalogs::DEFAULT_DATABASE,
    lake::{
        filesystem::CatalogedTable,
        provider::{HIDDEN_MARK, LakeTable},
    },
    options::Options,
};
use headwater_engine::{
    catalog::{Properties, Table},
    connector::{Boundedness, Connector, JobContext, KeyedTable, TableSpec, TextLength},
    error::{Error, Result},
    graph::Malformed,
};

use super::{
    accepted::{self, ACCEPTED},
    columns::{lengths, spec_columns},
    lake_time::lake_time,
    scan::{StreamScan, statement_context},
};
use crate::{
    bind::{Environment, bind_expression, flink, loaded::LoadedTables},
    diagnostics::did_you_mean,
    functions::library,
    parser::{
        cursor::Identifier,
        stream_ddl::{CreateStreamTable, StreamColumn, StreamColumnKind, TableOption},
    },
    run_tables::{self, filesystem_entry},
    session::Session,
    types::Type,
};

/// How far beyond its arrival a row may be and still move the watermark, unless the table says otherwise.
const MAX_AHEAD: Duration = Duration::from_secs(24 * 3600);

/// The options the planner takes; connectors do not see them.
pub(crate) const PLANNED: [&str; 11] = [
    "scan.watermark.idle-timeout",
    "scan.watermark.max-ahead",
    "scan.watermark.alignment.max-drift",
    "watermark.allowed-lateness",
    "malformed",
    "json.ignore-parse-errors",
    "value.json.ignore-parse-errors",
    "csv.ignore-parse-errors",
    "value.csv.ignore-parse-errors",
    "debezium-json.ignore-parse-errors",
    "value.debezium-json.ignore-parse-errors",
];

/// The connector whose tables are folders.
const FILESYSTEM: &str = "filesystem";
/// The option that makes a folder a watched one.
const MONITOR: &str = "source.monitor-interval";
/// Its value where a run stops at the ends that are there at its start.
const MONITOR_ONCE: &str = "1 s";

/// A declared table.
#[derive(Debug)]
pub(crate) struct StreamTable {
    pub(crate) name: String,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) spec: TableSpec,
    /// All columns as declared, computed ones too.
    pub(crate) schema: SchemaRef,
    /// For each column: its index in the spec's schema, or the expression that computes it.
    pub(crate) columns: Vec<ColumnSource>,
    pub(crate) time: Option<EventTime>,
    pub(crate) malformed: Malformed,
    /// The same for a statement that ends, where nothing may be left out unless it is said.
    pub(crate) malformed_in_batch: Malformed,
    /// What a statement that scans it is to its system.
    pub(super) context: JobContext,
    pub(crate) allowed_lateness: Duration,
    /// The spec's columns of text that are declared with a length.
    pub(crate) lengths: Vec<(usize, TextLength)>,
    /// What reads it in batch, for a folder that is not watched.
    pub(crate) batch: Option<Arc<dyn TableProvider>>,
    /// Whether that takes the filters of a statement, and leaves files out by them.
    pub(super) is_pruned: bool,
}

/// Where a declared column comes from.
#[derive(Debug, Clone)]
pub(crate) enum ColumnSource {
    /// The spec's column at this index, cast to the declared type if that differs.
    Spec(usize),
    /// An expression over the spec's columns.
    Computed(Expr),
}

/// `WATERMARK FOR column AS expression` and what goes with it.
#[derive(Debug, Clone)]
pub(crate) struct EventTime {
    /// Index of the declared column.
    pub(crate) column: usize,
    /// Indexes of other columns that are `PROCTIME()`.
    pub(crate) clocks: Vec<usize>,
    /// The watermark of a row, over the declared columns; `None`: the clock is the time, and the watermark.
    pub(crate) watermark: Option<Expr>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) max_ahead: Duration,
    pub(crate) alignment: Option<Duration>,
}

impl StreamTable {
    /// Checks a declaration against its connector.
    pub(crate) fn new(session: &Session, declared: &CreateStreamTable) -> Result<Self> {
        let name = declared.name.parts.last().map(written).unwrap_or_default();
        let connector = connector_of(session, declared)?;
        run_tables::check_columns(declared)?;
        let all: Properties =
            declared.options.iter().map(|option| (option.key.clone(), option.value.clone())).collect();
        let all = session.config().secrets.resolve(&all)?;
        let mut options = Options::new(&name, &all);
        let own = TimeOptions::take(session, &mut options)?;
        let allowed_lateness = own.allowed_lateness;
        let policy = malformed(&mut options)?;
        accepted::take(&mut options)?;
        let is_ours = |key: &str| PLANNED.contains(&key) || ACCEPTED.contains(&key);
        let left = all.into_iter().filter(|(key, _)| key != "connector" && !is_ours(key));
        let (spec_fields, metadata) = spec_columns(&*connector, declared)?;
        let spec = TableSpec {
            name: name.clone(),
            schema: Arc::new(Schema::new(spec_fields)),
            metadata,
            options: left.collect(),
            partitioned_by: declared.partitioned_by.iter().map(written).collect(),
            primary_key: declared.primary_key.iter().map(written).collect(),
        };
        let (schema, columns) = declared_columns(session, declared, &spec)?;
        let time = event_time(session, declared, &schema, own)?;
        let (malformed, malformed_in_batch) = (policy.unwrap_or(Malformed::Reject), policy.unwrap_or(Malformed::Fail));
        let context = statement_context(session);
        let texts = declared.columns.iter().filter_map(|column| match &column.kind {
            StreamColumnKind::Physical { type_text, .. } => Some((written(&column.name), type_text.as_str())),
            StreamColumnKind::Metadata { .. } | StreamColumnKind::Computed { .. } => None,
        });
        let lengths = lengths(&spec.schema, texts);
        Ok(Self {
            name,
            connector,
            spec,
            schema,
            columns,
            time,
            malformed,
            malformed_in_batch,
            context,
            allowed_lateness,
            lengths,
            batch: None,
            is_pruned: false,
        })
    }

    /// The declared columns of the PRIMARY KEY, by index.
    pub(crate) fn key_columns(&self) -> Result<Vec<usize>> {
        self.spec.primary_key.iter().map(|name| Ok(self.schema.index_of(name)?)).collect()
    }
}

impl StreamTable {
    /// A declared table as a job reads it: with `--once` every folder counts as watched.
    pub(crate) fn of_job(session: &Session, declared: &CreateStreamTable, once: bool) -> Result<Self> {
        if declared.option("connector") != Some(FILESYSTEM) || declared.option(MONITOR).is_some() {
            return Self::new(session, declared);
        }
        let batch = Some(folder(session, declared)?);
        if !once {
            return Ok(Self { batch, ..Self::new(session, declared)? });
        }
        let mut watched = declared.clone();
        let (key, value) = (MONITOR.to_owned(), MONITOR_ONCE.to_owned());
        watched.options.push(TableOption { key, value, at: declared.name.at() });
        Ok(Self { batch, ..Self::new(session, &watched)? })
    }

    /// A declared folder with computed columns, in batch.
    pub(crate) fn over_folder(
        session: &Session,
        declared: &CreateStreamTable,
        folder: Arc<dyn TableProvider>,
    ) -> Result<Self> {
        let mut table = Self::new(session, declared)?;
        let all = folder.schema();
        let is_hidden = |field: &&Arc<Field>| field.metadata().contains_key(HIDDEN_MARK);
        let hidden: Vec<Arc<Field>> = all.fields().iter().filter(is_hidden).map(Arc::clone).collect();
        let first = table.spec.schema.fields().len();
        table.columns.extend((first..first + hidden.len()).map(ColumnSource::Spec));
        for schema in [&mut table.spec.schema, &mut table.schema] {
            *schema = Arc::new(Schema::new([schema.fields().to_vec(), hidden.clone()].concat()));
        }
        Ok(Self { batch: Some(folder), is_pruned: true, ..table })
    }

    /// A table of the catalog as a job reads and writes it.
    pub(crate) fn of_lake(session: &Session, table: &Arc<Table>, once: bool) -> Result<Self> {
        let name = match table.name.database.as_str() {
            DEFAULT_DATABASE => table.name.table.clone(),
            _ => table.name.to_string(),
        };
        let mut table = session.statement_tables(&Arc::default()).with_secrets(Arc::clone(table))?;
        let is_watched = table.properties.contains_key(MONITOR);
        if once && !table.properties.contains_key(MONITOR) {
            Arc::make_mut(&mut table).properties.insert(MONITOR.to_owned(), MONITOR_ONCE.to_owned());
        }
        let fails = table.properties.get("malformed").is_some_and(|policy| policy == "fail");
        let all = LakeTable::new(Arc::clone(&table), Arc::clone(session.catalog()), Arc::clone(session.stores()))?;
        let all: Arc<dyn TableProvider> = Arc::new(all);
        let shown = |field: &&Arc<Field>| !field.metadata().contains_key(HIDDEN_MARK);
        let fields: Vec<Arc<Field>> = all.schema().fields().iter().filter(shown).map(Arc::clone).collect();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let (time, allowed_lateness) = lake_time(session, &table, &schema)?;
        let spec = TableSpec {
            name: name.clone(),
            schema: Arc::clone(&schema),
            metadata: Vec::new(),
            options: Properties::new(),
            partitioned_by: table.partition_keys.iter().map(|key| key.name.clone()).collect(),
            primary_key: Vec::new(),
        };
        let columns = (0..schema.fields().len()).map(ColumnSource::Spec).collect();
        let texts = table.columns.iter().chain(&table.partition_keys);
        let lengths = lengths(&schema, texts.map(|column| (column.name.clone(), column.type_text.as_str())));
        let malformed = if fails { Malformed::Fail } else { Malformed::Reject };
        let connector = Arc::new(CatalogedTable::new(session.filesystem().clone(), table));
        let batch: Option<Arc<dyn TableProvider>> = (!is_watched).then_some(all);
        Ok(Self {
            name,
            connector,
            spec,
            schema,
            columns,
            time,
            malformed,
            malformed_in_batch: malformed,
            context: statement_context(session),
            allowed_lateness,
            lengths,
            batch,
            is_pruned: false,
        })
    }

    /// The key of the metadata that the spec's column at this index holds.
    pub(super) fn metadata_of(&self, index: usize) -> Option<&str> {
        self.spec.metadata.iter().find(|field| field.column == index).map(|field| field.key.as_str())
    }

    /// The spec's columns that a sink writes no NULL into: those declared so, and a key whose format knows none.
    pub(crate) fn not_null(&self) -> Vec<usize> {
        let is_raw_key = self.spec.options.get("key.format").is_some_and(|format| format.eq_ignore_ascii_case("raw"));
        let is_key = |name: &String| is_raw_key && self.spec.primary_key.contains(name);
        let fields = self.spec.schema.fields().iter().enumerate();
        let fields = fields.filter(|(_, field)| !field.is_nullable() || is_key(field.name()));
        fields.map(|(index, _)| index).filter(|index| self.metadata_of(*index).is_none()).collect()
    }

    /// Whether all columns are the system's own.
    fn has_own_columns(&self) -> bool {
        let is_own = |(index, column): (usize, &ColumnSource)| matches!(column, ColumnSource::Spec(at) if *at == index);
        let types = |schema: &Schema| schema.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
        self.columns.iter().enumerate().all(is_own) && types(&self.schema) == types(&self.spec.schema)
    }

    /// The system's own way to answer queries, where all columns are the system's.
    fn query_table(&self) -> Result<Option<Arc<dyn TableProvider>>> {
        if self.has_own_columns() { self.connector.query_table(&self.spec, self.malformed_in_batch) } else { Ok(None) }
    }

    /// The system's own way to answer joins by key, where all columns are the system's.
    pub(crate) fn keyed_table(&self) -> Result<Option<Arc<dyn KeyedTable>>> {
        if self.has_own_columns() { self.connector.keyed_table(&self.spec, self.malformed_in_batch) } else { Ok(None) }
    }

    /// Whether a join looks its rows up: all of it is read in batch, or it answers for keys.
    pub(crate) fn is_looked_up(&self) -> bool {
        self.batch.is_some() || !matches!(self.keyed_table(), Ok(None))
    }

    /// Whether it goes on until the job stops.
    pub(crate) fn is_unbounded(&self) -> Result<bool> {
        Ok(self.connector.source(&self.spec)?.boundedness() == Boundedness::Unbounded)
    }
}

/// What reads a declared folder in batch.
fn folder(session: &Session, declared: &CreateStreamTable) -> Result<Arc<dyn TableProvider>> {
    let name = session.table_name(&declared.name)?;
    let entry = Arc::new(filesystem_entry(&name, declared)?);
    let entry = session.statement_tables(&Arc::default()).with_secrets(entry)?;
    let table = LakeTable::new(entry, Arc::clone(session.catalog()), Arc::clone(session.stores()))?;
    Ok(Arc::new(table.with_not_null(&run_tables::not_null(declared))))
}

/// What a table says of its event time beside the watermark itself.
pub(super) struct TimeOptions {
    idle_timeout: Option<Duration>,
    max_ahead: Duration,
    alignment: Option<Duration>,
    pub(super) allowed_lateness: Duration,
}

impl TimeOptions {
    pub(super) fn take(session: &Session, options: &mut Options) -> Result<Self> {
        let idle = options.duration("scan.watermark.idle-timeout")?;
        Ok(Self {
            idle_timeout: idle.or(Some(session.settings().idle_timeout).filter(|timeout| !timeout.is_zero())),
            max_ahead: options.duration("scan.watermark.max-ahead")?.unwrap_or(MAX_AHEAD),
            alignment: options.duration("scan.watermark.alignment.max-drift")?,
            allowed_lateness: options.duration("watermark.allowed-lateness")?.unwrap_or_default(),
        })
    }

    /// The event time in a column.
    pub(super) fn of(&self, column: usize, watermark: Option<Expr>) -> EventTime {
        EventTime {
            column,
            clocks: Vec::new(),
            watermark,
            idle_timeout: self.idle_timeout,
            max_ahead: self.max_ahead,
            alignment: self.alignment,
        }
    }
}

/// A name as rows have it: quoted ones keep their case.
pub(crate) fn written(name: &Identifier) -> String {
    if name.is_quoted { name.value.clone() } else { name.value.to_lowercase() }
}

/// The connector that a declaration names.
pub(crate) fn connector_of(session: &Session, declared: &CreateStreamTable) -> Result<Arc<dyn Connector>> {
    let wanted = declared.option("connector").unwrap_or_default();
    let known = session.connectors();
    if let Some(found) = known.iter().find(|connector| connector.name() == wanted) {
        return Ok(Arc::clone(found));
    }
    let at =
        declared.options.iter().find(|option| option.key == "connector").map_or(declared.name.at(), |option| option.at);
    let error = Error::user("INVALID_TABLE_PROPERTY", format!("connector \"{wanted}\" does not exist")).at(at);
    Err(did_you_mean(error, wanted, known.iter().map(|connector| connector.name())))
}

fn malformed(options: &mut Options) -> Result<Option<Malformed>> {
    let choices = [("reject", Malformed::Reject), ("skip", Malformed::Reject), ("fail", Malformed::Fail)];
    let policy = options.choice("malformed", &choices).map_err(|error| {
        let is_null = options.text("malformed").is_some_and(|text| text.trim().eq_ignore_ascii_case("null"));
        match is_null {
            true => error.with_hint(
                "rows of NULLs are for batch queries of files; a job keeps what it cannot read in \"t$rejected\": use reject",
            ),
            false => error,
        }
    })?;
    let mut ignore = None;
    for key in PLANNED.into_iter().filter(|key| key.ends_with(".ignore-parse-errors")) {
        ignore = options.flag(key)?.or(ignore);
    }
    Ok(policy.or(ignore.map(|ignore| if ignore { Malformed::Reject } else { Malformed::Fail })))
}

fn declared_columns(
    session: &Session,
    declared: &CreateStreamTable,
    spec: &TableSpec,
) -> Result<(SchemaRef, Vec<ColumnSource>)> {
    let (mut fields, mut columns, mut next) = (Vec::new(), Vec::new(), 0);
    for column in &declared.columns {
        let name = written(&column.name);
        match &column.kind {
            StreamColumnKind::Physical { data_type, .. } | StreamColumnKind::Metadata { data_type, .. } => {
                fields.push(Field::new(name, data_type.clone(), true));
                columns.push(ColumnSource::Spec(next));
                next += 1;
            }
            StreamColumnKind::Computed { expression, .. } => {
                let (expr, data_type) = bound(session, expression, &spec.schema)?;
                fields.push(Field::new(name, data_type.to_arrow(), true));
                columns.push(ColumnSource::Computed(expr));
            }
        }
    }
    Ok((Arc::new(Schema::new(fields)), columns))
}

fn event_time(
    session: &Session,
    declared: &CreateStreamTable,
    schema: &Schema,
    options: TimeOptions,
) -> Result<Option<EventTime>> {
    let Some(watermark) = &declared.watermark else {
        return Ok(declared.columns.iter().position(is_processing_time).map(|column| options.of(column, None)));
    };
    let name = written(&watermark.column);
    let Some((column, field)) =
        schema.fields().iter().enumerate().find(|(_, field)| field.name().eq_ignore_ascii_case(&name))
    else {
        let error = Error::user("COLUMN_NOT_FOUND", format!("column \"{name}\" not found")).at(watermark.column.at);
        return Err(did_you_mean(error, &name, schema.fields().iter().map(|field| field.name().as_str())));
    };
    let (expr, found) = bound(session, &watermark.expression, schema)?;
    for (what, data_type) in [("the event time", field.data_type()), ("the watermark", &found.to_arrow())] {
        if !matches!(data_type, DataType::Timestamp(_, _)) {
            let found = crate::types::trino_type_name(data_type);
            return Err(Error::user("TYPE_MISMATCH", format!("{what} of \"{name}\" is {found}, not a timestamp"))
                .with_hint("declare it as TIMESTAMP(3), or compute one with AS")
                .at(watermark.column.at));
        }
    }
    let clocks = declared.columns.iter().enumerate().filter(|(_, column)| is_processing_time(column));
    let clocks = clocks.map(|(index, _)| index).collect();
    Ok(Some(EventTime { clocks, ..options.of(column, Some(expr)) }))
}

/// `AS PROCTIME()`.
fn is_processing_time(column: &StreamColumn) -> bool {
    match &column.kind {
        StreamColumnKind::Computed { expression, .. } => match expression.as_ref() {
            ast::Expr::Function(function) => function.name.to_string().eq_ignore_ascii_case("proctime"),
            _ => false,
        },
        StreamColumnKind::Physical { .. } | StreamColumnKind::Metadata { .. } => false,
    }
}

fn bound(session: &Session, expression: &ast::Expr, schema: &Schema) -> Result<(Expr, Type)> {
    let state = session.statement_state(&Arc::default());
    let tables = LoadedTables::default();
    let environment = Environment { tables: &tables, library: library()?, builtin: &state, zone: "UTC" };
    bind_expression(&flink::as_trino(expression)?, schema, environment)
}

#[async_trait]
impl TableProvider for StreamTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> datafusion::error::Result<Vec<TableProviderFilterPushDown>> {
        match self.query_table()? {
            Some(table) => table.supports_filters_pushdown(filters),
            None => self.folder_filters(filters),
        }
    }

    async fn scan(
        &self,
        state: &dyn CatalogSession,
        wanted: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        if let Some(table) = self.query_table()? {
            return table.scan(state, wanted, filters, limit).await;
        }
        let columns = wanted.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        if let Some(folder) = &self.batch {
            return self.scan_folder(folder, state, &columns, (filters, limit)).await;
        }
        Ok(Arc::new(StreamScan::rows(self, self.context.clone(), &columns)?))
    }
}

/// The stream table behind a plan's scan, if it is one.
pub(crate) fn stream_table(provider: &Arc<dyn TableProvider>) -> Option<&StreamTable> {
    (provider.as_ref() as &dyn Any).downcast_ref()
}
