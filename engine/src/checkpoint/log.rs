//! The job's log on a store: reads facts, asks `protocol` what follows, does it.
//!
//! Invariant: an entry counts as ours only when `create` said so or when its nonce was read back.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    checkpoint::{
        manifest::{Claim, CommitMarker, FORMAT, LogEntry, Manifest},
        paths::{Paths, number_of},
        protocol::{self, CreateReply, CreateStep, LogView, ReadBack, ReadBackStep},
        store::{CheckpointStore, Created, is_transient},
    },
    connector::Fence,
    error::{Error, ErrorKind, Result},
    message::{Epoch, Generation},
    time::Clock,
};

const TRIES: u32 = 8;

/// The log of one job.
#[derive(Debug, Clone)]
pub struct Log {
    store: Arc<dyn CheckpointStore>,
    paths: Paths,
    clock: Arc<dyn Clock>,
}

/// What an attempt says about itself when it claims.
#[derive(Debug, Clone, Default)]
pub struct Claimant {
    /// Host.
    pub host: String,
    /// Process id.
    pub pid: u32,
    /// The script it runs.
    pub script: String,
    /// The epoch to go back to, if any.
    pub restored_from: Option<Epoch>,
}

/// A won claim with the log as it was before it.
#[derive(Debug)]
pub struct Claimed {
    /// The claim.
    pub claim: Claim,
    /// Its number.
    pub number: u64,
    /// The log before it.
    pub before: LogView,
}

impl Log {
    /// The log of a job in a store.
    pub fn new(store: Arc<dyn CheckpointStore>, job: &str, clock: Arc<dyn Clock>) -> Self {
        Self { store, paths: Paths::new(job), clock }
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn CheckpointStore> {
        &self.store
    }

    /// Where the job's files lie.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Reads all entries and markers.
    pub async fn read(&self) -> Result<LogView> {
        let mut view = LogView::default();
        for path in self.list(&self.paths.log()).await? {
            let Some(number) = number_of(&path) else { continue };
            // An entry that vanished after the listing was collected; it is older than what is kept.
            if let Some(bytes) = self.get(&path).await? {
                view.entries.push((number, LogEntry::parse(&path, &bytes)?));
            }
        }
        view.entries.sort_by_key(|(number, _)| *number);
        let markers = self.list(&self.paths.commits()).await?;
        view.committed = markers.iter().filter_map(|path| number_of(path)).map(Epoch).collect();
        view.committed.sort();
        Ok(view)
    }

    /// Each call is repeated by itself: of a long log that is read as a whole, some call would fail every time.
    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        self.retrying(|| self.store.list(prefix)).await
    }

    async fn get(&self, path: &str) -> Result<Option<bytes::Bytes>> {
        self.retrying(|| self.store.get(path)).await
    }

    /// Reads all entries, markers and savepoints.
    pub async fn read_all(&self) -> Result<LogView> {
        let savepoints = self.savepoints().await?;
        Ok(LogView { savepoints, ..self.read().await? })
    }

    /// Reads the savepoints, by name.
    pub async fn savepoints(&self) -> Result<Vec<(String, Manifest)>> {
        let mut savepoints = Vec::new();
        let folder = self.paths.savepoints();
        for path in self.list(&folder).await? {
            let Some(name) = path.strip_prefix(&folder) else { continue };
            if let Some(bytes) = self.get(&path).await?
                && let LogEntry::Manifest(manifest) = LogEntry::parse(&path, &bytes)?
            {
                savepoints.push((name.to_owned(), *manifest));
            }
        }
        Ok(savepoints)
    }

    /// Names the newest checkpoint, so that retention leaves it alone; its epoch.
    ///
    /// The copy is written first and the log read again after it: collection deletes entries before it looks at
    /// savepoints, so a checkpoint that is still in the log then keeps its files.
    pub async fn save(&self, name: &str) -> Result<Epoch> {
        let path = self.paths.savepoint(name);
        for _ in 0..TRIES {
            let view = self.read_all().await?;
            let Some(manifest) = view.current() else {
                return Err(Error::user("NOT_FOUND", "the job has no checkpoint yet")
                    .with_hint("wait for its first checkpoint ('checkpoint.interval')"));
            };
            let entry = LogEntry::Manifest(Box::new(manifest.clone()));
            if self.store.create(&path, entry.to_bytes()?).await? == Created::Existed {
                return Err(Error::user("ALREADY_EXISTS", format!("there is a savepoint \"{name}\" already"))
                    .with_hint("choose another name, or delete that one"));
            }
            let is_saved = view.savepoints.iter().any(|(_, saved)| saved.epoch == manifest.epoch);
            if is_saved || self.read().await?.manifests().any(|kept| kept.epoch == manifest.epoch) {
                return Ok(manifest.epoch);
            }
            self.store.delete(&path).await?;
        }
        Err(Error::new(ErrorKind::Conflict, "EXTERNAL", "the job takes checkpoints faster than one can be named")
            .with_hint("set a longer 'checkpoint.interval'"))
    }

    /// Takes the job over: wins the next number with a larger generation.
    pub async fn claim(&self, claimant: &Claimant) -> Result<Claimed> {
        for _ in 0..TRIES * 4 {
            let before = self.read_all().await?;
            let step = protocol::claim_step(&before);
            let incarnation = before.holder().map(|claim| claim.incarnation.clone());
            let claim = Claim {
                format: FORMAT,
                nonce: nonce(),
                incarnation: incarnation.unwrap_or_else(|| nonce()[..8].to_owned()),
                generation: step.generation,
                host: claimant.host.clone(),
                pid: claimant.pid,
                at: self.clock.now(),
                restored_from: claimant.restored_from,
                script: claimant.script.clone(),
            };
            match self.append(step.number, &LogEntry::Claim(claim.clone())).await? {
                ReadBackStep::Won => return Ok(Claimed { claim, number: step.number, before }),
                // Whoever was first has a claim of the same generation; ours goes above it.
                ReadBackStep::Fenced | ReadBackStep::NextNumber | ReadBackStep::CreateAgain => {}
            }
        }
        Err(Error::new(ErrorKind::Conflict, "EXTERNAL", "other attempts keep claiming this job")
            .with_hint("stop the other copies of the job, then start it again"))
    }

    /// Publishes a manifest under the next number, or fails as fenced.
    pub async fn publish(&self, manifest: &Manifest, after: u64) -> Result<u64> {
        let entry = LogEntry::Manifest(Box::new(manifest.clone()));
        let mut number = after + 1;
        loop {
            match self.append(number, &entry).await? {
                ReadBackStep::Won => return Ok(number),
                ReadBackStep::CreateAgain => {}
                ReadBackStep::Fenced => return Err(self.fenced().await),
                ReadBackStep::NextNumber => {
                    let view = self.read().await?;
                    if protocol::is_fenced(manifest.generation, &view) {
                        return Err(fenced_by(view.holder()));
                    }
                    number = view.next_number();
                }
            }
        }
    }

    async fn append(&self, number: u64, entry: &LogEntry) -> Result<ReadBackStep> {
        let path = self.paths.log_entry(number);
        let bytes = entry.to_bytes()?;
        let mut wait = Duration::from_millis(50);
        for attempt in 1.. {
            let reply = match self.store.create(&path, bytes.clone()).await {
                Ok(Created::New) => CreateReply::New,
                Ok(Created::Existed) => CreateReply::Existed,
                Err(error) if is_transient(&error) => {
                    tracing::warn!(%error, "a call of the state store failed and is tried again");
                    CreateReply::Unclear
                }
                Err(error) => return Err(error),
            };
            if protocol::after_create(reply) == CreateStep::Won {
                return self.settled(number, entry).await;
            }
            match self.read_back(&path, entry).await {
                Ok(ReadBackStep::CreateAgain) if attempt < TRIES => {}
                Ok(ReadBackStep::Won) => return self.settled(number, entry).await,
                Ok(step) => return Ok(step),
                Err(error) if is_transient(&error) && attempt < TRIES => {}
                Err(error) => return Err(error),
            }
            self.clock.sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(5));
        }
        Err(Error::internal("the loop above always returns"))
    }

    /// Whether an entry that was created stands: collection frees the numbers of old entries, and a copy that hesitated
    /// for long may create one of those. It takes such an entry away again, and nobody reads it as the newest meanwhile.
    async fn settled(&self, number: u64, entry: &LogEntry) -> Result<ReadBackStep> {
        let listed = self.list(&self.paths.log()).await?;
        let listed: Vec<u64> = listed.iter().filter_map(|path| number_of(path)).collect();
        let step = protocol::after_won(number, entry, &listed);
        if step != ReadBackStep::Won {
            let path = self.paths.log_entry(number);
            self.retrying(|| self.store.delete(&path)).await?;
        }
        Ok(step)
    }

    async fn read_back(&self, path: &str, ours: &LogEntry) -> Result<ReadBackStep> {
        let found = match self.store.get(path).await? {
            None => ReadBack::Absent,
            Some(bytes) => {
                let entry = LogEntry::parse(path, &bytes)?;
                if entry.nonce() == ours.nonce() { ReadBack::Ours } else { ReadBack::Other(entry.generation()) }
            }
        };
        Ok(protocol::after_read_back(found, ours.generation()))
    }

    /// Writes the marker that every sink has committed an epoch.
    pub async fn mark_committed(&self, epoch: Epoch, marker: &CommitMarker) -> Result<()> {
        let bytes = serde_json::to_vec(marker).map_err(|error| Error::internal(format!("commit marker: {error}")))?;
        self.retrying(|| async { self.store.create(&self.paths.commit(epoch), bytes.clone().into()).await.map(|_| ()) })
            .await
    }

    /// Fails as fenced if a larger generation has claimed the job.
    pub async fn check_fence(&self, us: Generation) -> Result<()> {
        let view = self.read().await?;
        if protocol::is_fenced(us, &view) { Err(fenced_by(view.holder())) } else { Ok(()) }
    }

    async fn fenced(&self) -> Error {
        match self.read().await {
            Ok(view) => fenced_by(view.holder()),
            Err(_) => fenced_by(None),
        }
    }

    /// Repeats a call while the store does not answer, up to a limit.
    pub async fn retrying<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut wait = Duration::from_millis(50);
        let mut attempt = 1;
        loop {
            match call().await {
                Err(error) if is_transient(&error) && attempt < TRIES => {
                    tracing::warn!(%error, "a call of the state store failed and is tried again");
                    self.clock.sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(10));
                    attempt += 1;
                }
                done => return done,
            }
        }
    }
}

fn fenced_by(holder: Option<&Claim>) -> Error {
    let who = match holder {
        Some(claim) => format!("generation {} on host {}, process {}", claim.generation.0, claim.host, claim.pid),
        None => "another copy".to_owned(),
    };
    Error::new(ErrorKind::Fenced, "JOB_FENCED", format!("this job is now held by {who}"))
        .with_hint("stop that copy first if this one should run")
}

/// A text nobody else has.
pub(crate) fn nonce() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// The fence of one attempt.
#[derive(Debug, Clone)]
pub struct LogFence {
    log: Log,
    generation: Generation,
}

impl LogFence {
    /// The fence of the attempt with this generation.
    pub fn new(log: Log, generation: Generation) -> Self {
        Self { log, generation }
    }
}

#[async_trait]
impl Fence for LogFence {
    async fn check(&self) -> Result<()> {
        self.log.check_fence(self.generation).await
    }
}
