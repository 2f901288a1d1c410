//! Jobs from SQL, run in the test's own process until they end or are told to stop.
//!
//! Invariant: a job that is dropped is stopped without a last checkpoint, as a crash would.

use std::{
    io::{ErrorKind, Read},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use futures::TryStreamExt;
use headwater_engine::{
    checkpoint::store::{CheckpointStore, LocalStore},
    runtime::job::{self, JobConfig, JobSummary},
    time::{Clock, SystemClock},
};
use headwater_sql::{
    lower::lower_inserts,
    output::{Expanded, Format, Look, Rows},
    parser::{Parameters, StatementKind, parse, statement::Insert},
    session::{Outcome, Session, SessionConfig},
};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A job under way.
#[derive(Debug)]
pub struct RunningJob {
    stop: CancellationToken,
    work: Option<JoinHandle<headwater_engine::error::Result<JobSummary>>>,
}

/// Where a job ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// When it is stopped.
    Stopped,
    /// At the ends that are there when it starts.
    Once,
}

/// Starts the INSERTs of a script as a job whose state is in a folder.
pub async fn start(script: &str, parameters: &[(&str, &str)], state: &Path, until: Until) -> Result<RunningJob> {
    start_on(Arc::new(LocalStore::new(state.to_owned())), script, parameters, (state, until)).await
}

/// The same, with its checkpoints in another store.
pub async fn start_on(
    store: Arc<dyn CheckpointStore>,
    script: &str,
    parameters: &[(&str, &str)],
    (state, until): (&Path, Until),
) -> Result<RunningJob> {
    start_by((store, Arc::new(SystemClock)), script, parameters, (state, until)).await
}

/// The same, by another clock.
pub async fn start_by(
    (store, clock): (Arc<dyn CheckpointStore>, Arc<dyn Clock>),
    script: &str,
    parameters: &[(&str, &str)],
    (state, until): (&Path, Until),
) -> Result<RunningJob> {
    let filled: Parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let session = Session::open(SessionConfig::in_directory(state.to_string_lossy().into_owned())).await?;
    let mut inserts: Vec<Insert> = Vec::new();
    for statement in parse(script, &filled)? {
        match &statement.kind {
            StatementKind::Insert(insert) => inserts.push(insert.clone()),
            _ => drop(session.execute(&statement).await?),
        }
    }
    let once = until == Until::Once;
    let graph = lower_inserts(&session, &inserts, once).await?;
    let mut config = JobConfig::new("job", store, state.join("jobs"));
    (config.once, config.interval, config.parallelism) = (once, Duration::from_millis(500), 2);
    config.clock = clock;
    let stop = CancellationToken::new();
    let work = tokio::spawn(job::run(Arc::new(graph), config, stop.clone()));
    Ok(RunningJob { stop, work: Some(work) })
}

/// Runs a job to the ends that are there now.
pub async fn run_once(script: &str, parameters: &[(&str, &str)], state: &Path) -> Result<JobSummary> {
    start(script, parameters, state, Until::Once).await?.ended().await
}

impl RunningJob {
    /// Waits until it ends by itself.
    pub async fn ended(mut self) -> Result<JobSummary> {
        Ok(self.work.take().context("a job ends once")?.await??)
    }

    /// Takes a last checkpoint and ends.
    pub async fn stop(self) -> Result<JobSummary> {
        self.stop.cancel();
        self.ended().await
    }

    /// Whether it is still running; a job that failed says why.
    pub async fn is_running(&mut self) -> Result<bool> {
        match self.work.as_ref().is_some_and(JoinHandle::is_finished) {
            false => Ok(true),
            true => self.work.take().context("a job ends once")?.await?.map(|_| false).map_err(Into::into),
        }
    }
}

impl Drop for RunningJob {
    fn drop(&mut self) {
        if let Some(work) = &self.work {
            work.abort();
        }
    }
}

/// Runs the statements of a script one after another; the rows of the last result, as JSON.
pub async fn rows(script: &str, parameters: &[(&str, &str)], state: &Path) -> Result<Vec<Value>> {
    let filled: Parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let session = Session::open(SessionConfig::in_directory(state.to_string_lossy().into_owned())).await?;
    let mut last = Vec::new();
    for statement in parse(script, &filled)? {
        if let Outcome::Rows { stream, .. } = session.execute(&statement).await? {
            let look = Look { format: Format::Ndjson, width_max: None, expanded: Expanded::Off };
            let mut shown = Rows::begin(look, stream.schema(), Vec::new())?;
            let batches: Vec<_> = stream.try_collect().await?;
            batches.iter().try_for_each(|batch| shown.write(batch))?;
            let text = String::from_utf8(shown.finish()?)?;
            last = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        }
    }
    Ok(last)
}

/// The lines of all files under a folder that are whole: a name that ends in `#` and a number is still being written.
/// A folder that is not there, which a job makes and takes away when it tries its sink, holds none.
pub fn lines(folder: &Path) -> Result<Vec<String>> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let is_staged = name.rsplit_once('#').is_some_and(|(_, n)| n.bytes().all(|byte| byte.is_ascii_digit()));
            if is_staged || name.starts_with(['_', '.']) {
                continue;
            }
            match path.is_dir() {
                true => folders.push(path),
                false => found.extend(text(&path)?.lines().map(str::to_owned)),
            }
        }
    }
    Ok(found)
}

fn text(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path)?;
    if path.extension().is_none_or(|extension| extension != "gz") {
        return Ok(String::from_utf8(bytes)?);
    }
    let mut unpacked = String::new();
    flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_string(&mut unpacked)?;
    Ok(unpacked)
}
