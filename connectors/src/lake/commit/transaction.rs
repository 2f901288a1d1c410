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
    owner::Owner,
    place::{Entry, Place, Spot, StagedWriter},
    protocol::Step,
    record::{self, Begin, Claim, Decision, Effect, RecordKind, Staged, StagedFile},
    recovery::{apply_all, create_or_read, finish_or_give_up, forget, recover},
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
    ended: bool,
    /// It never asks for a decision, so an abort of others is not needed once it is rolled back.
    gave_up: bool,
    stats: Arc<ScanStats>,
}

/// The newest claim of a folder.
#[derive(Debug, Clone, Copy)]
enum Newest {
    /// Nobody ever claimed it.
    None,
    /// Its number, and whose it is.
    Claim(u64, StatementId),
    /// It went between the look at the list and the look at it.
    Gone,
}

/// How long an exclusive statement waits for the one before it.
const CLAIM_WAIT_MS: u64 = 600_000;
/// How long it waits for the files of statements that are decided: longer than it takes to see that one has died, after
/// which its files are moved for it.
pub(super) const DECIDED_WAIT_MS: u64 = super::LEASE_MS as u64 + 60_000;
/// Pause between two looks at the one before.
pub(super) const CLAIM_POLL_MS: u64 = 100;

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
        Ok(Self { site, id, next_file, heartbeat, ended: false, gave_up: false, stats: Arc::default() })
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
            self.claim().await?;
            self.await_decided().await?;
            let effect = prepare(&self.site).await?;
            self.decide(effect).await
        };
        let decided = claimed.await;
        self.conclude(decided).await
    }

    async fn claim(&self) -> Result<()> {
        let mut waited_ms = 0;
        loop {
            let number = match self.newest_claim().await? {
                Newest::None => Some(0),
                Newest::Claim(number, earlier) if self.has_ended(earlier).await? => Some(number + 1),
                Newest::Claim(_, earlier) if waited_ms >= CLAIM_WAIT_MS => return Err(self.claimed_by(earlier)),
                // A claim is deleted once there is a newer one: it is in the next list.
                Newest::Claim(..) | Newest::Gone => None,
            };
            if let Some(number) = number
                && self.claim_number(number).await?
            {
                return self.delete_claims_below(number).await;
            }
            tokio::time::sleep(Duration::from_millis(CLAIM_POLL_MS)).await;
            waited_ms += CLAIM_POLL_MS;
        }
    }

    /// Waits until the files of every statement that is decided can be seen: what is in no listing cannot be replaced.
    async fn await_decided(&self) -> Result<()> {
        let mut waited_ms = 0;
        while let Some(open) = self.decided_and_open().await? {
            if waited_ms >= DECIDED_WAIT_MS {
                let message =
                    format!("an earlier statement on \"{}\" is committed and not finished: {open}", self.site.root);
                return Err(Error::new(ErrorKind::Conflict, "TRANSACTION_CONFLICT", message).with_hint(
                    "its files cannot be moved into place yet: see that the folder can be written, then try again",
                ));
            }
            tokio::time::sleep(Duration::from_millis(CLAIM_POLL_MS)).await;
            waited_ms += CLAIM_POLL_MS;
            recover(&self.site).await?;
        }
        Ok(())
    }

    /// A statement whose files nobody sees yet although it happened.
    pub(super) async fn decided_and_open(&self) -> Result<Option<StatementId>> {
        let mut records = Records::default();
        for entry in self.site.place.list(&record::folder(&self.site.root)).await? {
            records.add(&entry.path);
        }
        for id in records.unfinished().into_iter().filter(|id| *id != self.id) {
            let path = record::path(&self.site.root, id, RecordKind::Decision);
            let decision = self.site.place.read(&path).await?.map(|bytes| record::decode(&path, &bytes)).transpose()?;
            if matches!(decision, Some(Decision::Commit(_))) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Takes a number; `false` if another statement has it, or took a larger one meanwhile: this one is then worth
    /// nothing, since who looks for the newest does not see it.
    async fn claim_number(&self, number: u64) -> Result<bool> {
        let path = record::claim(&self.site.root, number);
        let ours = record::encode(&Claim { statement: self.id.to_string() })?;
        if self.create_or_read(&path, ours.clone()).await? != ours {
            return Ok(false);
        }
        if self.largest_claim().await?.is_some_and(|largest| largest > number) {
            self.site.place.delete(&[path]).await?;
            return Ok(false);
        }
        Ok(true)
    }

    /// Deletes what was staged; the statement never happens.
    pub async fn roll_back(mut self) -> Result<()> {
        self.stop_heartbeat().await;
        self.ended = true;
        // Whoever took the begin record away left an abort, which is for this statement alone to find.
        let begin = record::path(&self.site.root, self.id, RecordKind::Begin);
        let was_ended = self.gave_up || self.site.place.read(&begin).await?.is_none();
        apply_all(&self.site, self.id, Step::RollBack, None).await?;
        if !was_ended {
            return Ok(());
        }
        forget(&self.site, self.id).await?;
        self.delete_own_claims().await
    }

    /// Deletes its claims of a folder that nobody may look at again.
    async fn delete_own_claims(&self) -> Result<()> {
        let mut own = Vec::new();
        for entry in self.site.place.list(&record::claims(&self.site.root)).await? {
            let Some(bytes) = self.site.place.read(&entry.path).await? else { continue };
            let claim: Claim = record::decode(&entry.path, &bytes)?;
            if claim.statement == self.id.to_string() {
                own.push(entry.path);
            }
        }
        self.site.place.delete(&own).await
    }

    async fn decide(&mut self, mut effect: Effect) -> Result<Effect> {
        if effect.registers() {
            effect.catalog = self.site.registrar.catalog().await?;
        }
        // Whoever drops the table ends the statements whose begin records are there then: so the table is asked for last.
        let begin = record::path(&self.site.root, self.id, RecordKind::Begin);
        let is_there = self.site.place.read(&begin).await?.is_some();
        let expected = self.site.registrar.expect_table().await;
        if expected.is_err() || !is_there {
            self.gave_up = true;
        }
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
        self.ended = true;
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
                    self.roll_back().await?;
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

    async fn largest_claim(&self) -> Result<Option<u64>> {
        let claims = self.site.place.list(&record::claims(&self.site.root)).await?;
        Ok(claims.iter().filter_map(claim_number).max())
    }

    async fn newest_claim(&self) -> Result<Newest> {
        let Some(number) = self.largest_claim().await? else { return Ok(Newest::None) };
        let path = record::claim(&self.site.root, number);
        let Some(bytes) = self.site.place.read(&path).await? else { return Ok(Newest::Gone) };
        let claim: Claim = record::decode(&path, &bytes)?;
        Ok(Newest::Claim(number, claim.statement.parse()?))
    }

    async fn has_ended(&self, earlier: StatementId) -> Result<bool> {
        if earlier == self.id {
            return Ok(true);
        }
        recover(&self.site).await?;
        let mut records = Records::default();
        for entry in self.site.place.list(&record::folder(&self.site.root)).await? {
            records.add(&entry.path);
        }
        Ok(!records.unfinished().contains(&earlier))
    }

    async fn delete_claims_below(&self, number: u64) -> Result<()> {
        let claims = self.site.place.list(&record::claims(&self.site.root)).await?;
        let below = |entry: &&Entry| claim_number(entry).is_some_and(|found| found < number);
        let paths: Vec<String> = claims.iter().filter(below).map(|entry| entry.path.clone()).collect();
        self.site.place.delete(&paths).await
    }

    fn claimed_by(&self, earlier: StatementId) -> Error {
        let message = format!("another statement is replacing files of \"{}\": {earlier}", self.site.root);
        Error::new(ErrorKind::Conflict, "TRANSACTION_CONFLICT", message).with_hint("try again when it has ended")
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
        let Some(heartbeat) = self.heartbeat.take() else { return };
        heartbeat.abort();
        if self.ended {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (site, id) = (self.site.clone(), self.id);
            runtime.spawn(async move { apply_all(&site, id, Step::RollBack, None).await });
        }
    }
}

fn committed_but_unfinished(error: Error) -> Error {
    let hint = "the statement is committed; the next one on this table makes its files visible";
    error.context("committed but not finished").with_hint(hint)
}

fn claim_number(entry: &Entry) -> Option<u64> {
    entry.path.rsplit('/').next()?.parse().ok()
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
