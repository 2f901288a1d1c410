//! `headwater jobs` and `headwater checkpoints`: what the tables of `headwater.*` say, and stopping and dropping jobs.
//!
//! Invariant: what is shown comes from queries anybody can write; only `stop` and `drop` write to the state store.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use clap::{Args, Subcommand};
use headwater_engine::{
    checkpoint::manifest::Manifest,
    error::{Error, ErrorKind, Result},
    inspect,
    message::Epoch,
};
use tokio::sync::watch;

use super::{
    Failure,
    arguments::Results,
    exit::Exit,
    report,
    runner::{self, ReportStyle, Style},
    tell,
};
use crate::{
    jobs::{Jobs, Status},
    session::{Session, SessionConfig},
};

/// How long `jobs stop` waits for the last checkpoint.
const STOP_MAX: Duration = Duration::from_secs(120);
/// How often it looks.
const STOP_LOOK: Duration = Duration::from_millis(200);

/// What `headwater jobs` does.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum JobsAction {
    /// List the jobs of the state.
    List,
    /// Show one: its splits, windows that are open, ledger and sinks.
    Show {
        /// The job.
        job: String,
    },
    /// Take a last checkpoint and stop, as SIGTERM does.
    Stop {
        /// The job.
        job: String,
        /// Give the last checkpoint this name, so that it is kept.
        #[arg(long, value_name = "NAME")]
        savepoint: Option<String>,
    },
    /// Give the newest checkpoint a name, so that it is kept: run --from-checkpoint NAME goes back to it.
    Savepoint {
        /// The job.
        job: String,
        /// The name.
        name: String,
        /// Forget the savepoint of this name instead.
        #[arg(long)]
        drop: bool,
    },
    /// Delete the state of a job that does not run.
    Drop {
        /// The job.
        job: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// What `headwater checkpoints` shows.
#[derive(Debug, Clone, Args)]
pub(super) struct CheckpointsOptions {
    /// The job.
    pub(super) job: String,
    /// One checkpoint in detail, as JSON.
    pub(super) epoch: Option<u64>,
}

/// Runs `headwater jobs`.
pub(super) async fn run(
    config: SessionConfig,
    action: &JobsAction,
    style: &Style,
    has_terminal: bool,
) -> Result<Exit, Failure> {
    let session = Session::open(config).await?;
    match action {
        JobsAction::List => {
            let columns = "job, status, checkpoint, checkpoint_at, rows_read, rows_written, rows_read_per_second, lag, \
                           state_bytes, host, pid";
            query(&session, &format!("SELECT {columns} FROM headwater.jobs ORDER BY job"), style).await?;
        }
        JobsAction::Show { job } => show(&session, job, style).await?,
        JobsAction::Stop { job, savepoint } => {
            if let Some(name) = savepoint {
                inspect::check_savepoint_name(name)?;
            }
            stop(&session, job).await?;
            if let Some(name) = savepoint {
                save(&session, job, name).await?;
            }
        }
        JobsAction::Savepoint { job, name, drop: false } => save(&session, job, name).await?,
        JobsAction::Savepoint { job, name, drop: true } => forget(&session, job, name).await?,
        JobsAction::Drop { job, yes } => drop_job(&session, job, *yes, has_terminal).await?,
    }
    Ok(Exit::Done)
}

/// Runs `headwater checkpoints`.
pub(super) async fn checkpoints(
    config: SessionConfig,
    options: &CheckpointsOptions,
    style: &Style,
) -> Result<Exit, Failure> {
    let session = Session::open(config).await?;
    let jobs = Jobs::read(&session).await?;
    let job = jobs.job(&options.job)?;
    let Some(epoch) = options.epoch else {
        let name = literal(&job.name);
        let text = format!("SELECT * FROM headwater.checkpoints WHERE job = {name} ORDER BY epoch");
        query(&session, &text, style).await?;
        return Ok(Exit::Done);
    };
    let found = inspect::checkpoint(&jobs.store, &jobs.clock, &job.name, Epoch(epoch)).await?;
    let manifest = found.ok_or_else(|| {
        Error::user("NOT_FOUND", format!("job \"{}\" has no checkpoint {epoch}", job.name))
            .with_hint(format!("headwater checkpoints {} lists those that are kept", job.name))
    })?;
    write_manifest(&manifest)?;
    Ok(Exit::Done)
}

fn write_manifest(manifest: &Manifest) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(manifest).map_err(|error| Error::internal(format!("manifest: {error}")))?;
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    Ok(())
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

async fn query(session: &Session, text: &str, style: &Style) -> Result<(), Failure> {
    let style = Style { report: ReportStyle::Silent, progress: false, ..style.clone() };
    let (watched, _running) = watch::channel(None);
    let statements = session.parse(text)?;
    runner::run(session, &statements, &style, &watched, runner::standard_output()).await?;
    Ok(())
}

async fn show(session: &Session, job: &str, style: &Style) -> Result<(), Failure> {
    Jobs::read(session).await?.job(job)?;
    let sections = [("job", "jobs"), ("splits", "splits"), ("operators", "operators"), ("open windows", "windows")];
    for (title, table) in sections.into_iter().chain([("ledger", "ledger"), ("sinks", "sinks")]) {
        tell(title);
        let text = format!("SELECT * FROM headwater.{table} WHERE job = {}", literal(job));
        query(session, &text, style).await?;
    }
    Ok(())
}

async fn stop(session: &Session, name: &str) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut asked = None;
    loop {
        let jobs = Jobs::read(session).await?;
        let job = jobs.job(name)?;
        let (status, claim) = jobs.status(job);
        let epoch = job.newest.as_ref().map_or(0, |newest| newest.epoch.0);
        match (status, asked) {
            (Status::Running | Status::Unknown, _) => {}
            (Status::Stopped, Some(_)) => {
                tell(&format!("job {name}: stopped at checkpoint {epoch}"));
                return Ok(());
            }
            (Status::Failed, Some(_)) => return Err(not_running(name, "ended without a last checkpoint").into()),
            (Status::Stopped | Status::Failed, None) => return Err(not_running(name, "does not run").into()),
        }
        // An attempt that failed meanwhile has a new generation, which has to be asked again.
        let holder = claim.map(|claim| claim.generation);
        if holder.is_some() && asked != holder {
            asked = inspect::request_stop(&jobs.store, &jobs.clock, name).await?;
        }
        if begun.elapsed() > STOP_MAX {
            if let Some(generation) = asked {
                inspect::forget_stop(&jobs.store, name, generation).await?;
            }
            let message = format!("job \"{name}\" did not stop within {}", report::duration(STOP_MAX));
            return Err(Error::new(ErrorKind::Unavailable, "EXTERNAL", message)
                .with_hint("its process may be gone, or a sink may not answer; see headwater jobs show")
                .into());
        }
        tokio::time::sleep(STOP_LOOK).await;
    }
}

async fn save(session: &Session, job: &str, name: &str) -> Result<(), Failure> {
    let jobs = Jobs::read(session).await?;
    jobs.job(job)?;
    let epoch = inspect::save(&jobs.store, &jobs.clock, job, name).await?;
    tell(&format!("job {job}: savepoint {name} is checkpoint {}", epoch.0));
    Ok(())
}

async fn forget(session: &Session, job: &str, name: &str) -> Result<(), Failure> {
    let jobs = Jobs::read(session).await?;
    jobs.job(job)?;
    if !inspect::forget_savepoint(&jobs.store, &jobs.clock, job, name).await? {
        let kept = inspect::checkpoints(&jobs.store, &jobs.clock, job).await?;
        let error = Error::user("NOT_FOUND", format!("job \"{job}\" has no savepoint \"{name}\""));
        let names = kept.iter().flat_map(|line| &line.savepoints).map(String::as_str);
        return Err(crate::diagnostics::did_you_mean(error, name, names).into());
    }
    tell(&format!("job {job}: savepoint {name} is forgotten"));
    Ok(())
}

fn not_running(name: &str, how: &str) -> Error {
    Error::user("NOT_FOUND", format!("job \"{name}\" {how}")).with_hint("headwater jobs lists what runs")
}

async fn drop_job(session: &Session, name: &str, yes: bool, has_terminal: bool) -> Result<(), Failure> {
    let jobs = Jobs::read(session).await?;
    let job = jobs.job(name)?;
    if jobs.status(job).0 == Status::Running {
        return Err(Error::user("NOT_SUPPORTED", format!("job \"{name}\" is running"))
            .with_hint(format!("stop it first: headwater jobs stop {name}"))
            .into());
    }
    if !yes && !confirmed(name, has_terminal)? {
        tell("nothing was deleted");
        return Ok(());
    }
    inspect::drop_job(&jobs.store, name).await?;
    match std::fs::remove_dir_all(jobs.folder.join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::from(error).into()),
        _ => {}
    }
    tell(&format!("job {name}: its state is deleted"));
    Ok(())
}

fn confirmed(name: &str, has_terminal: bool) -> Result<bool, Failure> {
    if !has_terminal {
        return Err(Failure::Usage("there is no terminal to ask at; add --yes to delete the state".into()));
    }
    let mut out = io::stderr().lock();
    write!(out, "Delete all checkpoints of job \"{name}\"? It would start from the beginning. [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// `headwater jobs` with its options.
#[derive(Debug, Clone, Args)]
pub(super) struct JobsOptions {
    /// What to do [default: list].
    #[command(subcommand)]
    pub(super) action: Option<JobsAction>,
    #[command(flatten)]
    pub(super) results: Results,
}
