//! `headwater run` of a script with unbounded tables: its INSERTs as one job, until it ends or is stopped.
//!
//! ```text
//!  script --statements in order--> DDL, SET, batch INSERTs: run at once
//!                              \-> INSERTs into tables with a connector: lowered together, run last
//! ```
//!
//! Invariant: the first SIGINT or SIGTERM takes a last checkpoint and ends with 0; the second stops at once.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use headwater_engine::{
    accounts::{SplitAccount, Tally},
    checkpoint::store::{CheckpointStore, LocalStore, ObjectCheckpointStore},
    error::{Error, ErrorKind, Result},
    message::Epoch,
    runtime::job::{self, JobConfig, JobSummary},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    exit::{Exit, Failure},
    interrupt::Signals,
    runner::{self, Style},
    tell,
};
use crate::{
    lower::lower_inserts,
    parser::{Statement, StatementKind, statement::Insert},
    session::{Session, SessionConfig},
    tables::RunTable,
};

/// What `headwater run` says about its job.
#[derive(Debug, Clone, Args)]
pub(super) struct JobOptions {
    /// Name of the job [default: the last file's name without its extension].
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
    /// Stop at the ends that are there now, with a checkpoint to go on from.
    #[arg(long)]
    once: bool,
    /// Tasks of each stage [default: the number of cores].
    #[arg(long, value_name = "N")]
    parallelism: Option<usize>,
    /// Go back to this checkpoint.
    #[arg(long, value_name = "EPOCH")]
    from_checkpoint: Option<u64>,
    /// Accept that state which the changed query has no use for is lost.
    #[arg(long)]
    allow_drop: bool,
    /// Accept that output is repeated when going back.
    #[arg(long)]
    allow_repeat: bool,
}

/// Whether a script declares a table that only a job can read or write.
pub(super) fn is_job(statements: &[Statement]) -> bool {
    let needs_job = |statement: &Statement| match &statement.kind {
        StatementKind::CreateStreamTable(table) => table.option("connector").is_some_and(|name| name != "filesystem"),
        _ => false,
    };
    statements.iter().any(needs_job)
}

/// Runs the statements, then their job.
pub(super) fn run(
    config: SessionConfig,
    statements: &[Statement],
    files: &[PathBuf],
    options: &JobOptions,
    style: &Style,
) -> Result<Exit, Failure> {
    let runtime = super::runtime()?;
    let ended = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let stop = CancellationToken::new();
        let work = script(config, statements, (files, options), style, stop.clone());
        let mut work = std::pin::pin!(work);
        tokio::select! {
            done = &mut work => return done,
            () = signals.next() => {
                tell("stopping: a last checkpoint is taken; once more stops at once");
                stop.cancel();
            }
        }
        tokio::select! {
            done = &mut work => done,
            () = signals.next() => Ok(Exit::Interrupted),
        }
    });
    runtime.shutdown_background();
    ended
}

async fn script(
    config: SessionConfig,
    statements: &[Statement],
    (files, options): (&[PathBuf], &JobOptions),
    style: &Style,
    stop: CancellationToken,
) -> Result<Exit, Failure> {
    let session = Session::open(config).await?;
    let (deadlines, _limits) = watch::channel(None);
    let mut inserts: Vec<&Insert> = Vec::new();
    for statement in statements {
        let found = job_inserts(&session, statement)?;
        if found.is_empty() {
            let out = runner::standard_output();
            runner::run(&session, std::slice::from_ref(statement), style, &deadlines, out).await?;
        }
        inserts.extend(found);
    }
    if inserts.is_empty() {
        return Ok(Exit::Done);
    }
    let graph = lower_inserts(&session, &inserts).await?;
    let config = job_config(&session, files, options).await?;
    let name = config.name.clone();
    match job::run(Arc::new(graph), config, stop).await {
        Ok(summary) => {
            report(&name, &summary);
            Ok(Exit::Done)
        }
        Err(error) if error.kind() == ErrorKind::Fenced => {
            tell(&format!("error[{}] {error}", error.code()));
            Ok(Exit::Fenced)
        }
        Err(error) => Err(error.into()),
    }
}

/// The INSERTs of a statement that belong to the job.
fn job_inserts<'s>(session: &Session, statement: &'s Statement) -> Result<Vec<&'s Insert>> {
    let all: Vec<&Insert> = match &statement.kind {
        StatementKind::Insert(insert) => vec![insert],
        StatementKind::StatementSet(statements) => statements
            .iter()
            .filter_map(|statement| match &statement.kind {
                StatementKind::Insert(insert) => Some(insert),
                _ => None,
            })
            .collect(),
        _ => return Ok(Vec::new()),
    };
    let mut of_job = Vec::new();
    for insert in &all {
        let name = session.table_name(&insert.table)?;
        let tables = session.run_tables().read();
        if let Some(RunTable::Table(table)) = tables.get(&name)
            && table.option("connector") != Some("filesystem")
        {
            of_job.push(*insert);
        }
    }
    if !of_job.is_empty() && of_job.len() < all.len() {
        return Err(Error::not_supported("a statement set that writes to tables with and without a connector")
            .with_hint("write the INSERTs into the catalog's tables outside of it")
            .at(statement.at));
    }
    Ok(of_job)
}

async fn job_config(session: &Session, files: &[PathBuf], options: &JobOptions) -> Result<JobConfig> {
    let settings = session.settings();
    let file = files.last().map(PathBuf::as_path).unwrap_or(Path::new("-"));
    let name = match &options.job {
        Some(name) => name.clone(),
        None => file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default(),
    };
    let named = !name.is_empty() && name != "-" && !name.contains(['/', '\\']);
    if !named {
        return Err(Error::user("INVALID_ARGUMENTS", format!("\"{name}\" is no name for a job"))
            .with_hint("give it one with --job"));
    }
    let local = session.config().local_state();
    let mut config = JobConfig::new(&name, state_store(session).await?, local.join("jobs").join(&name));
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    config.parallelism = options.parallelism.or(settings.parallelism).unwrap_or_else(cores).max(1);
    config.interval = settings.checkpoint_interval;
    config.once = options.once;
    if let Some(limit) = settings.memory_limit {
        config.memory_limit = usize::try_from(limit.0).unwrap_or(usize::MAX);
    }
    config.from_checkpoint = options.from_checkpoint.map(Epoch);
    config.allow_drop = options.allow_drop;
    config.allow_repeat = options.allow_repeat;
    config.script = match std::fs::canonicalize(file) {
        Ok(path) => path.to_string_lossy().into_owned(),
        Err(_) => String::new(),
    };
    Ok(config)
}

async fn state_store(session: &Session) -> Result<Arc<dyn CheckpointStore>> {
    let state = &session.config().state;
    if !state.contains("://") {
        return Ok(Arc::new(LocalStore::new(session.config().local_state())));
    }
    let place = session.stores().resolve(state, &Default::default()).await?;
    Ok(Arc::new(ObjectCheckpointStore::new(place.store, place.path, state.clone())))
}

fn report(name: &str, summary: &JobSummary) {
    let epoch = summary.manifest.as_ref().map_or(0, |manifest| manifest.epoch.0);
    tell(&format!("job {name}: stopped at checkpoint {epoch}, {} rows written", summary.rows_written()));
    for (table, account) in &summary.ledger {
        tell(&format!("  {table}: {}", account_text(account)));
    }
}

/// The ledger's equation for each INSERT, on one line.
fn account_text(account: &SplitAccount) -> String {
    let line = |(insert, tally): (&String, &Tally)| {
        format!(
            "{insert}: read {} = rejected {} + filtered {} + late {} + held {} + released {}",
            tally.read,
            tally.rejected,
            tally.filtered,
            tally.late,
            tally.held_rows(),
            tally.released
        )
    };
    account.iter().map(line).collect::<Vec<_>>().join("; ")
}
