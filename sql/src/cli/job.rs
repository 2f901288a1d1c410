//! `headwater run` of a script with unbounded tables: its INSERTs as one job, until it ends or is stopped.
//!
//! ```text
//!  script --statements in order--> DDL, SET, queries, INSERTs whose inputs end: run in order
//!                              \-> INSERTs of a script with an input that goes on: lowered together, run last
//! ```
//!
//! Invariant: the first SIGINT or SIGTERM takes a last checkpoint and ends with 0; the second stops at once.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, builder::RangedU64ValueParser};
use headwater_engine::{
    accounts::{SplitAccount, Tally},
    error::{Error, ErrorKind, Result},
    graph::Graph,
    message::Epoch,
    runtime::job::{self, AfterFailure, GoBackTo, JobConfig, JobSummary, Observer},
    time::{Clock, SystemClock},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    exit::{Exit, Failure},
    interrupt::{self, Ended, Signals, Watched},
    report::counted,
    runner::{self, Style},
    status::{self, JobView},
    tell,
};
use crate::{
    jobs::{self, Jobs, RunningMark},
    lower::{Reads, lower_job, reads},
    parser::{Statement, StatementKind, ddl::Ddl, statement::Insert},
    session::{Session, SessionConfig},
};

/// What `headwater run` says about its job.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct JobOptions {
    /// Name of the job [default: the last file's name without its extension].
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
    /// Stop at the ends that are there now, with a checkpoint to go on from.
    #[arg(long)]
    once: bool,
    /// Tasks of each stage [default: the number of cores].
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    parallelism: Option<usize>,
    /// Go back to this checkpoint or savepoint.
    #[arg(long, value_name = "EPOCH|NAME")]
    from_checkpoint: Option<String>,
    /// Accept that state which the changed query has no use for is lost.
    #[arg(long)]
    allow_drop: bool,
    /// Accept that output is repeated when going back.
    #[arg(long)]
    allow_repeat: bool,
    /// Where metrics are served.
    #[arg(skip)]
    metrics: Option<SocketAddr>,
    /// Whether a line on the terminal says how it goes.
    #[arg(skip)]
    has_line: bool,
}

impl JobOptions {
    /// These options, with metrics at an address, and perhaps a line on the terminal.
    pub(super) fn shown(self, metrics: Option<SocketAddr>, has_line: bool) -> Self {
        Self { metrics, has_line, ..self }
    }
}

/// Runs the statements in order, then the INSERTs that go on as one job.
pub(super) fn run(
    config: SessionConfig,
    statements: Vec<Statement>,
    files: &[PathBuf],
    options: &JobOptions,
    style: Style,
) -> Result<Exit, Failure> {
    let runtime = super::runtime()?;
    let (watched, running) = watch::channel(None);
    let (once, named) = (options.once, (options.job.clone(), files.last().cloned()));
    let before = async move {
        let session = Session::open(config).await?;
        let (tally, waiting) = (runner::Tally::default(), Vec::new());
        let script = Script { session, style, watched, once, named, tally, waiting };
        script.run(statements).await
    };
    let ended = interrupt::watch_over(runtime.handle(), running, before).map_err(Error::from)?;
    let (session, inserts, tally) = match ended {
        Ended::Done(done) => done?,
        Ended::Late(error) => return Err(error.into()),
        Ended::Interrupted => {
            tell("interrupted");
            return Ok(Exit::Interrupted);
        }
    };
    let exit = match inserts.is_empty() {
        true => Exit::Done,
        false => runtime.block_on(until_stopped(&session, &inserts, files, options))?,
    };
    runtime.shutdown_background();
    Ok(if exit == Exit::Done && tally.warned && tally.strict { Exit::Failed } else { exit })
}

/// The statements of a script on their way to a job.
struct Script {
    session: Session,
    style: Style,
    watched: Watched,
    once: bool,
    /// What names its job: the command line, the last file.
    named: (Option<String>, Option<PathBuf>),
    tally: runner::Tally,
    /// INSERTs since the last statement that may look at what they wrote.
    waiting: Vec<Statement>,
}

impl Script {
    /// Runs what ends by itself; the INSERTs of the job are left.
    async fn run(mut self, statements: Vec<Statement>) -> Result<(Session, Vec<Insert>, runner::Tally), Failure> {
        let mut of_job = Vec::new();
        for statement in statements {
            match &statement.kind {
                StatementKind::Insert(_) | StatementKind::StatementSet(_) => self.waiting.push(statement),
                kind if declares(kind) => self.batch(&statement).await?,
                _ => {
                    of_job.extend(self.settle().await?);
                    self.batch(&statement).await?;
                }
            }
        }
        of_job.extend(self.settle().await?);
        self.tally.strict = self.session.settings().strict;
        Ok((self.session, of_job, self.tally))
    }

    /// Runs the waiting INSERTs if all that they read ends; else those that read tables belong to the job.
    async fn settle(&mut self) -> Result<Vec<Insert>, Failure> {
        let waiting = std::mem::take(&mut self.waiting);
        let mut inserts = Vec::new();
        for statement in &waiting {
            for insert in inserts_of(statement) {
                let read = reads(&self.session, insert, self.once).await;
                inserts.push((insert, read.map_err(|error| error.at(statement.at))?));
            }
        }
        let goes_on = inserts.iter().any(|(_, reads)| *reads == Reads::Unbounded);
        if !goes_on && inserts.iter().any(|(_, reads)| *reads == Reads::Bounded) {
            self.tell_of_checkpoint().await?;
        }
        let of_job = |reads: Reads| goes_on && reads != Reads::Nothing;
        let left: Vec<Insert> =
            inserts.iter().filter(|(_, reads)| of_job(*reads)).map(|(insert, _)| (*insert).clone()).collect();
        let mut reads = inserts.iter().map(|(_, reads)| *reads);
        for statement in &waiting {
            let all: Vec<Reads> = reads.by_ref().take(inserts_of(statement).len()).collect();
            match (all.iter().any(|reads| of_job(*reads)), all.iter().all(|reads| of_job(*reads))) {
                (false, _) => self.batch(statement).await?,
                (true, true) => {}
                (true, false) => {
                    return Err(Error::not_supported("VALUES in a statement set that reads unbounded tables")
                        .with_hint("write INSERT INTO .. VALUES outside of it")
                        .at(statement.at)
                        .into());
                }
            }
        }
        Ok(left)
    }

    /// Whoever made the inputs of a job end may think that it goes on where it was.
    async fn tell_of_checkpoint(&self) -> Result<()> {
        let (job, file) = &self.named;
        let Ok(name) = job_name(&self.session, job.as_ref(), file.as_deref()) else { return Ok(()) };
        if let Some((_, manifest)) = Jobs::read(&self.session).await?.manifests().find(|(job, _)| *job == name) {
            tell(&format!(
                "note: all that this script reads ends, so that it keeps no progress: checkpoint {} of the job \"{name}\" is not used",
                manifest.epoch.0
            ));
        }
        Ok(())
    }

    async fn batch(&mut self, statement: &Statement) -> Result<(), Failure> {
        let (one, out) = (std::slice::from_ref(statement), runner::standard_output());
        let tally = runner::run(&self.session, one, &self.style, &self.watched, out).await?;
        self.tally.warned |= tally.warned;
        Ok(())
    }
}

/// Whether a statement only says what names mean: then INSERTs before it may as well run after it.
pub(super) fn declares(statement: &StatementKind) -> bool {
    match statement {
        StatementKind::CreateStreamTable(_) | StatementKind::Set { .. } => true,
        StatementKind::Ddl(ddl) => {
            matches!(ddl.as_ref(), Ddl::CreateDatabase(_) | Ddl::CreateTable(_) | Ddl::CreateView(_))
        }
        _ => false,
    }
}

/// The INSERTs of a statement.
pub(super) fn inserts_of(statement: &Statement) -> Vec<&Insert> {
    let all = match &statement.kind {
        StatementKind::StatementSet(statements) => statements.as_slice(),
        _ => std::slice::from_ref(statement),
    };
    all.iter()
        .filter_map(|statement| match &statement.kind {
            StatementKind::Insert(insert) => Some(insert),
            _ => None,
        })
        .collect()
}

/// Runs INSERTs as a job up to the ends that are there now.
pub(super) async fn run_once(session: &Session, inserts: &[Insert], name: &str) -> Result<(), Failure> {
    let options = JobOptions { job: Some(name.to_owned()), once: true, ..JobOptions::default() };
    run_job(session, inserts, (&[], &options), CancellationToken::new()).await.map(drop)
}

/// Runs the job until it ends or a signal asks it to stop.
async fn until_stopped(
    session: &Session,
    inserts: &[Insert],
    files: &[PathBuf],
    options: &JobOptions,
) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let stop = CancellationToken::new();
    let mut work = std::pin::pin!(run_job(session, inserts, (files, options), stop.clone()));
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
}

async fn run_job(
    session: &Session,
    inserts: &[Insert],
    (files, options): (&[PathBuf], &JobOptions),
    stop: CancellationToken,
) -> Result<Exit, Failure> {
    let (graph, notes) = lowered(session, inserts, options.once, &stop).await?;
    notes.iter().for_each(|note| tell(&format!("note: {note}")));
    let mut config = job_config(session, files, options).await?;
    let name = config.name.clone();
    let (observer, newest) = Observer::channel();
    config.observer = observer;
    let (metrics, started) = (Arc::clone(&config.metrics), SystemClock.now());
    let told_to_stop = stop.clone();
    let view = JobView { job: name.clone(), metrics, newest, started, interval: config.interval };
    let listener = status::listen(options.metrics).await?;
    let _running = RunningMark::set(&jobs::local_folder(session), &name)?;
    let done = tokio::select! {
        done = job::run(Arc::new(graph), config, stop) => done,
        never = status::line(view.clone(), options.has_line) => match never {},
        ended = status::serve(listener, view) => match ended {
            Ok(never) => match never {},
            Err(error) => Err(error),
        },
    };
    match done {
        Ok(summary) => {
            report(&name, &summary);
            let warned = warn_of_rejected(&summary.rejected);
            // Who stops a job asks for its last checkpoint, and is told of its warnings above.
            Ok(if warned && session.settings().strict && !told_to_stop.is_cancelled() {
                Exit::Failed
            } else {
                Exit::Done
            })
        }
        Err(error) if error.kind() == ErrorKind::Fenced => {
            tell(&crate::diagnostics::render(&error));
            Ok(Exit::Fenced)
        }
        Err(error) => Err(error.into()),
    }
}

/// The name of a job: the command line's, the script's, the file's.
fn job_name(session: &Session, job: Option<&String>, file: Option<&Path>) -> Result<String> {
    let settings = session.settings();
    let name = match job.or(settings.pipeline_name.as_ref()) {
        Some(name) => name.clone(),
        None => file.and_then(Path::file_stem).map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default(),
    };
    if !name.is_empty() && name != "-" && !name.contains(['/', '\\']) {
        return Ok(name);
    }
    Err(Error::user("INVALID_ARGUMENTS", format!("\"{name}\" is no name for a job"))
        .with_hint("give it one with --job"))
}

/// The job's graph; a system that must be asked to make it, and does not answer, is waited for.
async fn lowered(
    session: &Session,
    inserts: &[Insert],
    once: bool,
    stop: &CancellationToken,
) -> Result<(Graph, Vec<String>)> {
    let mut failures = 0;
    loop {
        let error = match lower_job(session, inserts, once).await {
            Err(error) if error.kind() == ErrorKind::Unavailable => error,
            done => return done,
        };
        let AfterFailure::Restart(wait) = job::after_failure(error.kind(), failures, u32::MAX) else {
            return Err(error);
        };
        tracing::warn!(%error, "the job cannot be planned yet and is tried again");
        tokio::select! {
            () = SystemClock.sleep(wait) => failures += 1,
            () = stop.cancelled() => return Err(error),
        }
    }
}

async fn job_config(session: &Session, files: &[PathBuf], options: &JobOptions) -> Result<JobConfig> {
    let settings = session.settings();
    let file = files.last().map(PathBuf::as_path).unwrap_or(Path::new("-"));
    let name = job_name(session, options.job.as_ref(), Some(file))?;
    let mut config = JobConfig::new(&name, jobs::state_store(session).await?, jobs::local_folder(session));
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    config.parallelism = options.parallelism.or(settings.parallelism).unwrap_or_else(cores).max(1);
    config.interval = settings.checkpoint_interval;
    config.retained = settings.checkpoint_retained;
    config.once = options.once;
    if let Some(limit) = settings.memory_limit {
        config.memory_limit = usize::try_from(limit.0).unwrap_or(usize::MAX);
    }
    config.from_checkpoint = options.from_checkpoint.as_deref().map(|name| match name.parse() {
        Ok(epoch) => GoBackTo::Epoch(Epoch(epoch)),
        Err(_) => GoBackTo::Savepoint(name.to_owned()),
    });
    config.rejected_retention = settings.rejected_retention;
    config.rejected_max_rate = settings.rejected_max_rate.map(|rate| rate as u64);
    config.allow_drop = options.allow_drop;
    config.allow_repeat = options.allow_repeat;
    config.host = jobs::host();
    config.any_script = options.job.is_some();
    config.script = match std::fs::canonicalize(file) {
        Ok(path) => path.to_string_lossy().into_owned(),
        Err(_) => String::new(),
    };
    Ok(config)
}

fn report(name: &str, summary: &JobSummary) {
    let epoch = summary.manifest.as_ref().map_or(0, |manifest| manifest.epoch.0);
    tell(&format!("job {name}: stopped at checkpoint {epoch}, {} rows written", summary.rows_written()));
    for (table, account) in &summary.ledger {
        tell(&format!("  {table}: {}", account_text(account)));
    }
}

/// Says of which tables this run rejected rows; whether of any.
fn warn_of_rejected(rejected: &BTreeMap<String, u64>) -> bool {
    for (table, rows) in rejected {
        tell(&format!(
            "warning: {} of \"{table}\" rejected: SELECT * FROM \"{table}$rejected\"",
            counted(*rows, "row")
        ));
    }
    !rejected.is_empty()
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
