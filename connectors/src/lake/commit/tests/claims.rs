//! Statements that replace files, one after another, whatever moment they look at each other's claims.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use headwater_engine::{error::Result, time::SystemClock};
use object_store::memory::InMemory;
use parking_lot::Mutex;

use super::{Catalog, Later, ObjectPlace, Place, Site, StatementKind, Transaction, in_memory, site};
use crate::lake::commit::{
    Effect, StatementId,
    claim::Queue,
    place::{Created, Entry, Spot, StagedWriter},
    record::{self, Claim, Decision, OpenUpload, RecordKind, StagedFile},
    recover,
};

/// A store in which another statement claims the folder between two looks at the claims.
#[derive(Debug)]
struct Overtaken {
    place: ObjectPlace,
    /// Who overtakes, and before which operation on the claims.
    by: Mutex<Option<(StatementId, Moment)>>,
    /// What was made durable, and the decision.
    steps: Mutex<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// The newest claim is about to be read: it is replaced by a newer one.
    Read,
    /// A claim is about to be created: it and the next one are taken, and the first is gone again.
    Create,
    /// A claim is about to be created: the one before it went, and the count began anew.
    Anew,
}

impl Overtaken {
    async fn overtake(&self, path: &str, moment: Moment) -> Result<()> {
        let of_claims = path.contains("/claims/");
        let due = self.by.lock().take_if(|(_, at)| of_claims && *at == moment);
        let Some((other, _)) = due else { return Ok(()) };
        let number: u64 = path.rsplit('/').next().and_then(|name| name.parse().ok()).unwrap_or_default();
        let claim = record::encode(&Claim { statement: other.to_string() })?;
        if moment == Moment::Anew {
            self.place.delete(&[record::claim("t", number - 1)]).await?;
            return self.place.create(&record::claim("t", 0), claim).await.map(drop);
        }
        self.place.create(&record::claim("t", number + 1), claim).await?;
        self.place.delete(&[record::claim("t", number)]).await
    }
}

#[async_trait]
impl Place for Overtaken {
    async fn list(&self, folder: &str) -> Result<Vec<Entry>> {
        self.place.list(folder).await
    }
    async fn list_below(&self, folder: &str) -> Result<Vec<Entry>> {
        self.place.list_below(folder).await
    }
    async fn read(&self, path: &str) -> Result<Option<Bytes>> {
        self.overtake(path, Moment::Read).await?;
        self.place.read(path).await
    }
    async fn size(&self, path: &str) -> Result<Option<u64>> {
        self.place.size(path).await
    }
    async fn create(&self, path: &str, bytes: Bytes) -> Result<Created> {
        self.overtake(path, Moment::Create).await?;
        self.overtake(path, Moment::Anew).await?;
        self.steps.lock().extend(path.ends_with(".decision").then(|| "decided".to_owned()));
        self.place.create(path, bytes).await
    }
    async fn renew(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.place.renew(path, bytes).await
    }
    async fn stage(&self, spot: Spot) -> Result<Box<dyn StagedWriter>> {
        self.place.stage(spot).await
    }
    async fn publish(&self, file: &StagedFile) -> Result<()> {
        self.place.publish(file).await
    }
    async fn settle(&self, root: &str, published: &[StagedFile]) -> Result<()> {
        self.steps.lock().extend(published.iter().map(|file| file.target.clone()));
        self.place.settle(root, published).await
    }
    async fn abort_upload(&self, upload: &OpenUpload) -> Result<()> {
        self.place.abort_upload(upload).await
    }
    async fn delete(&self, paths: &[String]) -> Result<()> {
        self.place.delete(paths).await
    }
    async fn delete_empty_folders(&self, root: &str, folders: &[String]) -> Result<()> {
        self.place.delete_empty_folders(root, folders).await
    }
}

#[tokio::test]
async fn a_statement_overtaken_at_any_look_waits_for_the_one_before() -> Result<()> {
    for moment in [Moment::Read, Moment::Create, Moment::Anew] {
        let place = in_memory(InMemory::new());
        let catalog = Arc::new(Catalog::default());
        let plain = site(Arc::new(place.clone()), catalog, "t", Arc::new(SystemClock));
        let first = Transaction::begin(plain.clone(), StatementKind::Exclusive).await?;
        first.commit_exclusive(async |_: &Site| Ok(Effect::default())).await?;

        let other = Transaction::begin(plain.clone(), StatementKind::Exclusive).await?;
        let overtaken = Overtaken { place, by: Mutex::new(Some((other.id(), moment))), steps: Mutex::default() };
        let overtaken = Site { place: Arc::new(overtaken), ..plain };
        let order = Mutex::new(Vec::new());
        let ours = Transaction::begin(overtaken, StatementKind::Exclusive).await?;
        let ours = ours.commit_exclusive(async |_: &Site| {
            order.lock().push("ours");
            Ok(Effect::default())
        });
        let others = async {
            // Long enough for ours to be through if it does not wait.
            for _ in 0..10_000 {
                tokio::task::yield_now().await;
            }
            order.lock().push("the other");
            other.roll_back().await
        };
        let (ours, others) = futures::join!(ours, others);
        ours?;
        others?;
        assert_eq!(*order.lock(), ["the other", "ours"], "{moment:?}");
    }
    Ok(())
}

/// Two that have taken numbers at once: the smaller one is given back, and who waits for it goes on.
#[tokio::test]
async fn a_smaller_claim_that_is_given_back_holds_nobody() -> Result<()> {
    let place = in_memory(InMemory::new());
    let plain = site(Arc::new(place.clone()), Arc::new(Catalog::default()), "t", Arc::new(SystemClock));
    let first = Transaction::begin(plain.clone(), StatementKind::Exclusive).await?;
    first.commit_exclusive(async |_: &Site| Ok(Effect::default())).await?;
    let other = Transaction::begin(plain.clone(), StatementKind::Exclusive).await?;
    let by = Mutex::new(Some((other.id(), Moment::Anew)));
    let overtaken = Site { place: Arc::new(Overtaken { place, by, steps: Mutex::default() }), ..plain.clone() };
    let ours = Transaction::begin(overtaken, StatementKind::Exclusive).await?;
    let ours = ours.commit_exclusive(async |_: &Site| Ok(Effect::default()));
    let given_back = async {
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
        }
        plain.place.delete(&[record::claim("t", 0)]).await
    };
    let (ours, given_back) = futures::join!(ours, given_back);
    ours?;
    given_back?;
    other.roll_back().await
}

#[tokio::test]
async fn the_newest_claim_of_a_table_stays_whoever_ended_its_statement() -> Result<()> {
    let plain = site(Arc::new(in_memory(InMemory::new())), Arc::new(Catalog::default()), "t", Arc::new(SystemClock));
    let ours = Transaction::begin(plain.clone(), StatementKind::Exclusive).await?;
    let later = Site { clock: Arc::new(Later), ..plain.clone() };
    let ended = ours.commit_exclusive(async |_: &Site| {
        recover(&later).await?;
        Ok(Effect::default())
    });
    let error = ended.await.unwrap_err();
    assert_eq!(error.code().0, "TRANSACTION_CONFLICT", "{error}");
    assert_eq!(plain.place.list(&record::claims("t")).await?.len(), 1, "who has read it takes the next number");
    Ok(())
}

#[tokio::test]
async fn what_is_decided_and_not_to_be_seen_is_not_passed_over() -> Result<()> {
    let plain = site(Arc::new(in_memory(InMemory::new())), Arc::new(Catalog::default()), "t", Arc::new(SystemClock));
    let open = Transaction::begin(plain.clone(), StatementKind::Append).await?;
    let decision = record::path(&plain.root, open.id(), RecordKind::Decision);
    let commit = Decision::Commit(Box::default());
    plain.place.create(&decision, record::encode(&commit)?).await?;
    let replace = Transaction::begin(plain, StatementKind::Exclusive).await?;
    let queue = Queue::new(replace.site(), replace.id());
    assert_eq!(queue.decided_and_open().await?, Some(open.id()));
    open.commit(Effect::default()).await?;
    assert_eq!(queue.decided_and_open().await?, None);
    replace.commit_exclusive(async |_: &Site| Ok(Effect::default())).await?;
    Ok(())
}

#[tokio::test]
async fn hidden_files_are_durable_by_name_before_the_decision() -> Result<()> {
    let place = in_memory(InMemory::new());
    let place = Arc::new(Overtaken { place, by: Mutex::default(), steps: Mutex::default() });
    let site = site(place.clone(), Arc::new(Catalog::default()), "t", Arc::new(SystemClock));
    let transaction = Transaction::begin(site, StatementKind::Append).await?;
    let files = super::stage_all(&transaction, "t").await?;
    transaction.commit(Effect { files, ..Effect::default() }).await?;
    let steps = place.steps.lock();
    let hidden = steps.iter().take_while(|step| *step != "decided").filter(|step| step.contains("/staging/")).count();
    assert_eq!(hidden, 2, "{steps:?}");
    Ok(())
}
