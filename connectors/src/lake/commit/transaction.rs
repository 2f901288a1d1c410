//! A statement that writes: begin, stage files, commit or roll back.
//!
//! Invariant: after an error or a drop before the decision nothing of the statement is ever seen.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use headwater_engine::{
    error::{Error, ErrorKind, Result},
    time::Clock,
};
use tokio::task::JoinHandle;

use super::{
    HEARTBEAT_MS, LISTINGS_MAX,
    claim::Queue,
    owner::Owner,
    place::{Entry, Place, Spot, StagedWriter},
    protocol::Step,
    record::{self, Begin, Decision, Effect, RecordKind, Staged, StagedFile},
    recovery::{apply_all, create_or_read, finish_or_give_up, recover},
    rollback::{is_dropped, roll_back},
    statement::{StatementId, StatementKind},
    visible::Records,
};
use crate::lake::stats::ScanStats;

/// What makes tables and partitions known; repeating it changes nothing.
#[async_trait]
pub trait Registrar: fmt::Debug + Send + Sync {
    /// Creates the table and registers the partitions of a committed statement.
    async fn register(&self, effect: &Effect) -> Result<()>;
    /// Which catalog that is, if it is one.
    async fn catalog(&self) -> Result<Option<String>>;
    /// Refuses a statement whose table was dropped since it began.
    async fn expect_table(&self) -> Result<()> {
        Ok(())
    }
}

/// For statements without a table, such as `UNLOAD`.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCatalog;

#[async_trait]
impl Registrar for NoCatalog {
    async fn register(&self, _effect: &Effect) -> Result<()> {
        Ok(())
    }

    async fn catalog(&self) -> Result<Option<String>> {
        Ok(None)
    }
}

/// The folder a statement writes to, and what it needs to do so.
#[derive(Debug, Clone)]
pub struct Site {
    /// The store.
    pub place: Arc<dyn Place>,
    /// Path of the table's folder in the store.
    pub root: String,
    /// Where tables and partitions are registered.
    pub registrar: Arc<dyn Registrar>,
    /// Now.
    pub clock: Arc<dyn Clock>,
    /// This process.
    pub owner: Owner,
}

/// What a committed statement wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// Rows.
    pub rows: u64,
    /// Files.
    pub files: usize,
    /// Bytes of the files.
    pub bytes: u64,
}

/// A statement between its begin and its end.
#[derive(Debug)]
pub struct Transaction {
    site: Site,
    id: StatementId,
    next_file: AtomicUsize,
    heartbeat: Option<JoinHandle<()>>,
    /// Whether there is nothing left to undo, or only the records know.
    ended: bool,
    /// Whether it asked for a decision: the request may arrive later, so an abort that keeps it out must stay.
    asked: bool,
    /// Whether its table was dropped while it ran.
    dropped: bool,
    stats: Arc<ScanStats>,
}

impl Transaction {
    /// Begins a statement, after finishing or undoing what dead ones left.
    pub async fn begin(site: Site, kind: StatementKind) -> Result<Self> {
        recover(&site).await?;
        let id = StatementId::random(kind);
        let begin = Begin { owner: site.owner.clone(), began_ms: site.clock.now().0, beat: 0 };
        let path = record::path(&site.root, id, RecordKind::Begin);
        site.place.create(&path, record::encode(&begin)?).await?;
        let heartbeat = tokio::spawn(beat(site.place.clone(), path, begin));
        let (next_file, heartbeat) = (AtomicUsize::new(0), Some(heartbeat));
        let (ended, asked, dropped) = (false, false, false);
        Ok(Self { site, id, next_file, heartbeat, ended, asked, dropped, stats: Arc::default() })
    }

    /// The same, saying in the counters of its statement when it is not to be cut short.
    #[must_use]
    pub fn counted(mut self, stats: Arc<ScanStats>) -> Self {
        self.stats = stats;
        self
    }

    /// Its name.
    pub fn id(&self) -> StatementId {
        self.id
    }

    /// Where it writes.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// A writer of its next file, to be published in `folder`.
    pub async fn stage(&self, folder: &str, extension: &str) -> Result<Box<dyn StagedWriter>> {
        let number = self.next_file.fetch_add(1, Relaxed);
        let name = self.id.file_name(number, extension);
        let root = &self.site.root;
        let spot = Spot {
            staging: record::join(&record::staging(root, self.id), &format!("{number:05}")),
            upload: record::join(&record::uploads(root, self.id), &format!("{number:05}")),
            target: record::join(folder, &name),
        };
        self.site.place.stage(spot).await
    }

    /// Makes the statement happen. An error of kind `Unavailable` with a hint may mean that it has.
    pub async fn commit(mut self, effect: Effect) -> Result<Ending> {
        let committed = self.decide(effect).await;
        self.conclude(committed).await
    }

    /// Waits until every exclusive statement before this one has ended, then asks `prepare` what it replaces, and makes
    /// it happen; an error of `prepare` rolls it back.
    pub async fn commit_exclusive<F>(mut self, prepare: F) -> Result<Ending>
    where
        F: AsyncFnOnce(&Site) -> Result<Effect>,
    {
        let claimed = async {
            let queue = Queue::new(&self.site, self.id);
            queue.claim().await?;
            queue.await_decided().await?;
            let effect = prepare(&self.site).await?;
            self.decide(effect).await
        };
        let decided = claimed.await;
        self.conclude(decided).await
    }

    /// Deletes what was staged; the statement never happens. If that fails it is tried once more in the background.
    pub async fn roll_back(mut self) -> Result<()> {
        self.stop_heartbeat().await;
        roll_back(&self.site, self.id, self.asked, self.dropped).await?;
        self.ended = true;
        Ok(())
    }

    async fn decide(&mut self, mut effect: Effect) -> Result<Effect> {
        if effect.registers() {
            effect.catalog = self.site.registrar.catalog().await?;
        }
        // Whoever drops the table ends the statements whose begin records are there then: so the table is asked for last.
        let begin = record::path(&self.site.root, self.id, RecordKind::Begin);
        let is_there = self.site.place.read(&begin).await?.is_some();
        let expected = self.site.registrar.expect_table().await;
        self.dropped = is_dropped(&expected);
        expected?;
        if !is_there {
            return Err(self.aborted("its begin record is gone"));
        }
        self.settle_staged(&effect).await?;
        let decision = Decision::Commit(Box::new(effect));
        let path = record::path(&self.site.root, self.id, RecordKind::Decision);
        let ours = record::encode(&decision)?;
        self.stats.committing.store(true, Relaxed);
        // From here on only the records know whether it happened.
        (self.ended, self.asked) = (true, true);
        let found = match self.create_or_read(&path, ours).await {
            Ok(found) => found,
            Err(error) if matches!(error.kind(), ErrorKind::Limit | ErrorKind::Denied) => {
                self.ended = false;
                return Err(error);
            }
            Err(error) => self.clear_up(&path, error).await?,
        };
        match record::decode(&path, &found)? {
            Decision::Commit(effect) => Ok(*effect),
            Decision::Abort { reason } => Err(self.aborted(&reason)),
        }
    }

    /// The names of hidden files are durable before anything says that they are there.
    async fn settle_staged(&self, effect: &Effect) -> Result<()> {
        let hidden = effect.files.iter().filter_map(|file| match &file.staged {
            Staged::At(path) => Some(StagedFile { target: path.clone(), ..file.clone() }),
            Staged::Upload { .. } => None,
        });
        self.site.place.settle(&self.site.root, &hidden.collect::<Vec<_>>()).await
    }

    /// After an unclear reply: an abort that is created first makes sure that the commit never is.
    async fn clear_up(&mut self, path: &str, error: Error) -> Result<bytes::Bytes> {
        let abort = Decision::Abort { reason: format!("its decision failed: {error}") };
        let abort = record::encode(&abort)?;
        match self.create_or_read(path, abort.clone()).await {
            Ok(found) if found == abort => {
                self.ended = false;
                Err(error)
            }
            Ok(found) => Ok(found),
            Err(_) => {
                let hint = "whether the statement happened is not known; the next one here finishes or undoes it";
                Err(error.with_hint(hint))
            }
        }
    }

    async fn conclude(mut self, decided: Result<Effect>) -> Result<Ending> {
        self.stop_heartbeat().await;
        let effect = match decided {
            Ok(effect) => effect,
            Err(error) => {
                if !self.ended {
                    // What cannot be undone now is undone by the next statement.
                    let _ = self.roll_back().await;
                }
                return Err(error);
            }
        };
        let finished = finish_or_give_up(&self.site, self.id, Some(&effect)).await;
        if let Some(reason) = finished.map_err(committed_but_unfinished)? {
            return Err(reason);
        }
        // What is left to delete is deleted by the next statement if it cannot be now.
        let _ = apply_all(&self.site, self.id, Step::Clean, Some(&effect)).await;
        let bytes = effect.files.iter().map(|file| file.size).sum();
        Ok(Ending { rows: effect.rows, files: effect.files.len(), bytes })
    }

    async fn stop_heartbeat(&mut self) {
        if let Some(heartbeat) = self.heartbeat.take() {
            heartbeat.abort();
            let _ = heartbeat.await;
        }
    }

    async fn create_or_read(&self, path: &str, ours: bytes::Bytes) -> Result<bytes::Bytes> {
        create_or_read(&*self.site.place, path, ours).await
    }

    fn aborted(&self, reason: &str) -> Error {
        let message = format!("the statement was rolled back by another one on \"{}\": {reason}", self.site.root);
        Error::new(ErrorKind::Conflict, "TRANSACTION_CONFLICT", message)
            .with_hint("nothing of it was written; run it again")
    }
}

impl Drop for Transaction {
    /// A dropped statement (Ctrl-C, an error elsewhere) is rolled back in the background, or by the next one.
    fn drop(&mut self) {
        if let Some(heartbeat) = self.heartbeat.take() {
            heartbeat.abort();
        }
        if self.ended {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (site, id, asked, dropped) = (self.site.clone(), self.id, self.asked, self.dropped);
            runtime.spawn(async move { roll_back(&site, id, asked, dropped).await });
        }
    }
}

fn committed_but_unfinished(error: Error) -> Error {
    let hint = "the statement is committed; the next one on this table makes its files visible";
    error.context("committed but not finished").with_hint(hint)
}

/// Renews a begin record until it is aborted; a renewal that fails is tried again at the next beat.
async fn beat(place: Arc<dyn Place>, path: String, mut begin: Begin) {
    loop {
        tokio::time::sleep(Duration::from_millis(HEARTBEAT_MS)).await;
        begin.beat += 1;
        if let Ok(bytes) = record::encode(&begin) {
            let _ = place.renew(&path, bytes).await;
        }
    }
}

/// The files of a folder that a reader of ours sees now, `list` giving all files below it.
pub async fn visible_files(site: &Site, folders: &[String]) -> Result<Vec<Entry>> {
    let mut before = read_records(site).await?;
    for _ in 0..LISTINGS_MAX {
        let mut files = Vec::new();
        for folder in folders {
            let below = site.place.list_below(folder).await?;
            files.extend(below.into_iter().filter(|file| !is_hidden(&file.path, folder)));
        }
        let after = read_records(site).await?;
        match super::visible::resolve(files, &before, &after, |file: &Entry| &file.path) {
            super::visible::Resolved::Files(files) => return Ok(files),
            super::visible::Resolved::ListAgain => before = after,
        }
    }
    Err(Error::unavailable(format!("\"{}\" was replaced while it was listed, again and again", site.root)))
}

/// Whether a name below a folder starts with `_` or `.`; how the folder itself is called does not matter, since who
/// lists it was told to.
fn is_hidden(path: &str, folder: &str) -> bool {
    let below = path.strip_prefix(folder).map_or(path, |below| below.trim_start_matches('/'));
    below.split('/').any(crate::lake::layout::is_hidden)
}

async fn read_records(site: &Site) -> Result<Records> {
    let mut records = Records::default();
    for entry in site.place.list(&record::folder(&site.root)).await? {
        records.add(&entry.path);
    }
    for id in records.still_deleting() {
        let path = record::path(&site.root, id, RecordKind::Decision);
        if let Some(bytes) = site.place.read(&path).await? {
            records.add_replaced(record::decode(&path, &bytes)?);
        }
    }
    Ok(records)
}
