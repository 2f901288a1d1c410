//! Jobs as other processes see them: in the state store, and by the lock a running process holds.
//!
//! ```text
//!  state store ── newest manifests ──┐
//!  local state ── locks ─────────────┴──> headwater.jobs, .checkpoints, .splits, .windows, ..
//! ```
//!
//! Invariant: nothing here changes a job; what is shown is what its newest checkpoint says.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
};

use headwater_engine::{
    checkpoint::{
        manifest::{Claim, Manifest},
        store::{CheckpointStore, LocalStore, ObjectCheckpointStore},
    },
    error::{Error, Result},
    inspect::{self, JobState},
    time::{Clock, Instant, SystemClock},
};

use crate::session::Session;

mod accounts;
mod tables;

pub(crate) use self::{
    accounts::{accounting_table, is_of_job, nothing_kept},
    tables::{SCHEMA, table},
};

/// A job on another host that has said nothing for so long is not known to run.
const SILENT_MS: i64 = 60_000;

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// A process runs it.
    Running,
    /// It was stopped, or its inputs ended, after a last checkpoint.
    Stopped,
    /// Its process ended without a last checkpoint.
    Failed,
    /// Its process is on another host, and has said nothing for a while.
    Unknown,
}

impl Status {
    /// As users read it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Status::Running => "running",
            Status::Stopped => "stopped",
            Status::Failed => "failed",
            Status::Unknown => "unknown",
        }
    }
}

/// The store of a session's `--state`.
pub(crate) async fn state_store(session: &Session) -> Result<Arc<dyn CheckpointStore>> {
    let state = &session.config().state;
    if !state.contains("://") {
        return Ok(Arc::new(LocalStore::new(session.config().local_state())));
    }
    let place = session.stores().resolve(state, &Default::default()).await?;
    Ok(Arc::new(ObjectCheckpointStore::new(place.store, place.path, state.clone())))
}

/// The folder in which a job's processes lock a file each.
pub(crate) fn local_folder(session: &Session) -> PathBuf {
    session.config().local_state().join("jobs")
}

/// The name of this host; empty if it has none.
pub(crate) fn host() -> String {
    let read = |path: &str| fs::read_to_string(path).ok();
    let name = read("/proc/sys/kernel/hostname").or_else(|| read("/etc/hostname"));
    name.unwrap_or_default().trim().to_owned()
}

/// Says that this process runs a job, for as long as it lives.
#[derive(Debug)]
pub(crate) struct RunningMark {
    _lock: File,
    path: PathBuf,
}

impl RunningMark {
    /// Marks a job as running; marks of processes that have gone are removed.
    pub(crate) fn set(folder: &Path, job: &str) -> Result<Self> {
        let folder = folder.join(job);
        fs::create_dir_all(&folder).map_err(|error| Error::from(error).context(folder.display()))?;
        for entry in fs::read_dir(&folder)?.filter_map(std::result::Result::ok) {
            if entry.file_name().to_string_lossy().starts_with("running-") && !is_locked(&entry.path()) {
                // Another process may have removed it first.
                let _gone = fs::remove_file(entry.path());
            }
        }
        let path = mark_path(&folder, std::process::id());
        let lock = File::create(&path).map_err(|error| Error::from(error).context(path.display()))?;
        lock.lock().map_err(|error| Error::from(error).context(path.display()))?;
        Ok(Self { _lock: lock, path })
    }
}

impl Drop for RunningMark {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.path);
    }
}

fn mark_path(folder: &Path, pid: u32) -> PathBuf {
    folder.join(format!("running-{pid}"))
}

fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// What a job does now.
pub(crate) fn status(folder: &Path, job: &JobState, now: Instant) -> Status {
    let Some(claim) = &job.holder else { return Status::Stopped };
    if is_locked(&mark_path(&folder.join(&job.name), claim.pid)) {
        return Status::Running;
    }
    let has_ended = job.has_ended() && job.newest.as_ref().is_some_and(|newest| newest.generation == claim.generation);
    if has_ended {
        return Status::Stopped;
    }
    if claim.host == host() {
        return Status::Failed;
    }
    let heard = job.newest.as_ref().map_or(claim.at, |newest| newest.at.max(claim.at));
    if now.0.saturating_sub(heard.0) > SILENT_MS { Status::Unknown } else { Status::Running }
}

/// Everything known about the jobs of a session's state.
pub(crate) struct Jobs {
    pub(crate) store: Arc<dyn CheckpointStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) folder: PathBuf,
    pub(crate) jobs: Vec<JobState>,
}

impl Jobs {
    /// Reads all jobs.
    pub(crate) async fn read(session: &Session) -> Result<Self> {
        let store = state_store(session).await?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let jobs = inspect::jobs(&store, &clock).await?;
        Ok(Self { store, clock, folder: local_folder(session), jobs })
    }

    /// The status of a job, and who holds it.
    pub(crate) fn status(&self, job: &JobState) -> (Status, Option<Claim>) {
        (status(&self.folder, job, self.clock.now()), job.holder.clone())
    }

    /// One job, or the error that there is none of that name.
    pub(crate) fn job(&self, name: &str) -> Result<&JobState> {
        self.jobs.iter().find(|job| job.name == name).ok_or_else(|| {
            let error = Error::user("NOT_FOUND", format!("job \"{name}\" does not exist"));
            crate::diagnostics::did_you_mean(error, name, self.jobs.iter().map(|job| job.name.as_str()))
        })
    }

    /// The newest checkpoint of each job.
    pub(crate) fn manifests(&self) -> impl Iterator<Item = (&str, &Manifest)> {
        self.jobs.iter().filter_map(|job| Some((job.name.as_str(), job.newest.as_deref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_locked_while_its_process_runs_the_job() {
        let folder = tempfile::tempdir().unwrap();
        let path = mark_path(&folder.path().join("counts"), std::process::id());
        let stale = folder.path().join("counts/running-1");
        fs::create_dir_all(folder.path().join("counts")).unwrap();
        fs::write(&stale, "").unwrap();
        let mark = RunningMark::set(folder.path(), "counts").unwrap();
        assert!(is_locked(&path) && !stale.exists());
        drop(mark);
        assert!(!is_locked(&path));
    }
}
