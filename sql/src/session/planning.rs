//! From a parsed query to a plan: DataFusion's state for a session, and for one statement with its tables.
//!
//! Invariant: views of text are off, so that a type is carried by one Arrow type (see the types of a plan).

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use chrono::Utc;
use datafusion::{
    catalog::Session as CatalogSession,
    common::tree_node::{TreeNode, TreeNodeRecursion},
    execution::{
        SessionState, SessionStateBuilder,
        context::QueryPlanner,
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
    logical_expr::LogicalPlan,
    physical_optimizer::optimizer::PhysicalOptimizer,
    physical_plan::ExecutionPlan,
    physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner},
    prelude::SessionConfig as DataFusionConfig,
    sql::sqlparser::ast,
};
use headwater_connectors::{
    lake::{scan::LakeScanExec, stats::ScanStats},
    leaf::Leaf,
};
use headwater_engine::{
    catalog::TableName,
    error::{Error, ErrorKind, Result},
};

use super::{Session, SessionConfig, padded::PaddedSides, rules};
use crate::{
    bind::{BoundQuery, Environment, bind_query, loaded::LoadedTables},
    diagnostics::Classify,
    fence::{FenceNode, fenced, is_unsorted},
    functions::{datetime::clock::StatementClock, library},
    matching::MatchNode,
    parser::{self, StatementKind},
    recursion::StepNode,
    settings::{ByteCount, SettingValue, Settings},
    tables::{CATALOG, StatementTables, TableReader},
    unary::planner,
    windows::WindowNode,
};

/// DataFusion's planner, which also knows our own nodes, and refuses to scan more than is allowed.
#[derive(Debug)]
struct BatchPlanner {
    scan_max: Option<ByteCount>,
}

#[async_trait]
impl QueryPlanner for BatchPlanner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn CatalogSession,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![
            planner::<WindowNode>(),
            planner::<MatchNode>(),
            planner::<StepNode>(),
            planner::<FenceNode>(),
        ]);
        let physical = match planner.create_physical_plan(plan, session).await {
            Err(error) if is_unsorted(&error) => planner.create_physical_plan(&fenced(plan.clone())?, session).await?,
            made => made?,
        };
        match self.scan_max {
            Some(max) => refuse_larger(physical, max),
            None => Ok(physical),
        }
    }
}

/// The plan, unless the files it would read are larger than allowed.
fn refuse_larger(plan: Arc<dyn ExecutionPlan>, max: ByteCount) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
    let mut bytes = 0;
    plan.apply(|node| {
        bytes += node.downcast_ref::<LakeScanExec>().and_then(|scan| scan.leaf().bytes_max()).unwrap_or(0);
        Ok(TreeNodeRecursion::Continue)
    })?;
    if bytes <= max.0 {
        return Ok(plan);
    }
    let (would, allowed) = (ByteCount(bytes).show(), max.show());
    let message = format!("the query would scan up to {would}, and 'max-scan' allows {allowed}");
    let hint = "name the partitions it needs in its WHERE, or allow more";
    Err(Error::new(ErrorKind::Limit, "EXCEEDED_SCAN_LIMIT", message).with_hint(hint).into())
}

/// What every statement of a session starts from.
pub(super) fn base_state(settings: &Settings, config: &SessionConfig) -> Result<SessionState> {
    let mut options = DataFusionConfig::new()
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(false)
        .with_default_catalog_and_schema(CATALOG, "default");
    if let Some(parallelism) = settings.parallelism {
        options = options.with_target_partitions(parallelism);
    }
    let execution = options.options_mut();
    execution.sql_parser.map_string_types_to_utf8view = false;
    execution.sql_parser.parse_float_as_decimal = true;
    execution.sql_parser.default_null_ordering = "nulls_last".into();
    execution.execution.parquet.schema_force_view_types = false;
    // What a CASE proves not to be NULL is known to the logical plan alone.
    execution.execution.skip_physical_aggregate_schema_check = true;
    execution.execution.parquet.pushdown_filters = settings.parquet_pushdown_filters;
    let mut runtime = RuntimeEnvBuilder::new();
    if let Some(limit) = settings.memory_limit.and_then(|limit| usize::try_from(limit.0).ok()) {
        runtime = runtime.with_memory_limit(limit, 1.0);
    }
    let mut physical = PhysicalOptimizer::new().rules;
    physical.insert(0, Arc::new(PaddedSides));
    Ok(SessionStateBuilder::new()
        .with_config(options)
        .with_runtime_env(Arc::new(with_spill(runtime, &config.local_state())?))
        .with_default_features()
        .with_optimizer_rules(rules::held_back())
        .with_physical_optimizer_rules(physical)
        .with_query_planner(Arc::new(BatchPlanner { scan_max: settings.max_scan }))
        .build())
}

/// The runtime, with rows that do not fit into memory in the local state, or where that cannot be written, in the
/// system's folder for temporary files.
fn with_spill(runtime: RuntimeEnvBuilder, local_state: &Path) -> Result<RuntimeEnv> {
    let spill = local_state.join("spill");
    // DataFusion makes a folder that is not there, and fails if another process makes it in the same moment.
    if local_state.is_dir()
        && std::fs::create_dir_all(&spill).is_ok()
        && let Ok(built) = runtime.clone().with_temp_file_path(spill).build()
    {
        return Ok(built);
    }
    runtime.build().classify()
}

impl Session {
    /// DataFusion's state for one statement: this session's, with its tables counting into `stats`.
    pub fn statement_state(&self, stats: &Arc<ScanStats>) -> SessionState {
        self.state_in(&self.database(), self.statement_tables(stats))
    }

    fn state_in(&self, database: &str, tables: StatementTables) -> SessionState {
        let base = self.shared.base.read().clone();
        let mut options = base
            .config()
            .clone()
            .with_default_catalog_and_schema(CATALOG, database)
            .with_extension(Arc::clone(&tables.stats));
        if tables.reader == TableReader::Batch {
            options.options_mut().extensions.insert(StatementClock(Utc::now()));
        }
        SessionStateBuilder::new_from_existing(base).with_config(options).with_catalog_list(Arc::new(tables)).build()
    }

    /// The plan of a query, and the state to run it with. Its columns have internal names.
    pub async fn plan(&self, query: &ast::Query, stats: &Arc<ScanStats>) -> Result<(LogicalPlan, SessionState)> {
        let (bound, state) = self.bound(query, stats).await?;
        Ok((bound.plan, state))
    }

    /// The bound query, with the names and types of its columns, and the state to run it with.
    pub async fn bound(&self, query: &ast::Query, stats: &Arc<ScanStats>) -> Result<(BoundQuery, SessionState)> {
        let state = self.statement_state(stats);
        Ok((bind_in(&state, query).await?, state))
    }

    /// The bound query of a view, which must not read the view itself.
    pub(crate) async fn bound_as_view(&self, name: &TableName, query: &ast::Query) -> Result<BoundQuery> {
        let tables = self.statement_tables(&Arc::default());
        let state = self.state_in(&self.database(), StatementTables { views: vec![name.clone()], ..tables });
        bind_in(&state, query).await
    }

    /// The bound query of a job, whose tables are all read as streams.
    pub(crate) async fn bound_for_job(&self, query: &ast::Query, once: bool) -> Result<(BoundQuery, SessionState)> {
        let tables = self.statement_tables(&Arc::default());
        let state = self.state_in(&self.database(), StatementTables { reader: TableReader::Job { once }, ..tables });
        Ok((bind_in(&state, query).await?, state))
    }

    /// The plan of a view's text, in the database it was written in; `tables` know the views around it.
    pub(crate) async fn plan_view(&self, sql: &str, database: &str, tables: StatementTables) -> Result<LogicalPlan> {
        let mut statements = parser::parse_filled(sql)?;
        match statements.pop().map(|statement| statement.kind) {
            Some(StatementKind::Query(query)) if statements.is_empty() => {
                bind_in(&self.state_in(database, tables), &query.body).await?.named()
            }
            _ => Err(Error::internal("a view's text is not one query")),
        }
    }
}

async fn bind_in(state: &SessionState, query: &ast::Query) -> Result<BoundQuery> {
    let tables = LoadedTables::load(query, state).await;
    let environment = Environment { tables: &tables, library: library()?, builtin: state, zone: "UTC" };
    bind_query(query, environment)
}
