//! An owner that undoes its own statement while requests fail, or are answered and carried out at different times.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use headwater_engine::error::{Error, ErrorKind};

use super::*;
use crate::lake::commit::{
    place::{Created, Entry, Spot, StagedWriter},
    record::{OpenUpload, StagedFile},
};

/// A store whose answers do not come, each once.
#[derive(Debug)]
struct Unclear {
    place: ObjectPlace,
    /// The decision is not answered; the next record under its name comes first, and then somebody cleans up.
    loses_decision: AtomicBool,
    /// The lost decision, which arrives later.
    late: Mutex<Option<(String, Bytes)>>,
    /// The decision is there, and nobody may read it.
    hides_decision: AtomicBool,
    /// Begin records cannot be read.
    hides_begin: AtomicBool,
    /// The next file cannot be deleted.
    keeps: AtomicBool,
}

impl Unclear {
    fn new() -> Arc<Self> {
        let (loses_decision, hides_decision, hides_begin, keeps) = Default::default();
        let late = Mutex::default();
        let place = in_memory(InMemory::new());
        Arc::new(Self { place, loses_decision, late, hides_decision, hides_begin, keeps })
    }

    fn site(self: &Arc<Self>) -> Site {
        site(self.clone(), Arc::new(Catalog::default()), "t", Arc::new(SystemClock))
    }
}

#[async_trait]
impl Place for Unclear {
    async fn list(&self, folder: &str) -> Result<Vec<Entry>> {
        self.place.list(folder).await
    }
    async fn list_below(&self, folder: &str) -> Result<Vec<Entry>> {
        self.place.list_below(folder).await
    }
    async fn read(&self, path: &str) -> Result<Option<Bytes>> {
        let hides_decision = path.ends_with(".decision") && self.hides_decision.load(Relaxed);
        if hides_decision || path.ends_with(".begin") && self.hides_begin.load(Relaxed) {
            return Err(Error::new(ErrorKind::Denied, "PERMISSION_DENIED", "not to be read"));
        }
        self.place.read(path).await
    }
    async fn size(&self, path: &str) -> Result<Option<u64>> {
        self.place.size(path).await
    }
    async fn create(&self, path: &str, bytes: Bytes) -> Result<Created> {
        if !path.ends_with(".decision") {
            return self.place.create(path, bytes).await;
        }
        if self.loses_decision.swap(false, Relaxed) {
            *self.late.lock() = Some((path.to_owned(), bytes));
            return Err(Error::unavailable("no answer"));
        }
        let created = self.place.create(path, bytes).await?;
        if self.late.lock().is_some() {
            self.place.delete(&[path.replace(".decision", ".begin")]).await?;
        }
        // A request that was sent twice finds what the first one created.
        Ok(if self.hides_decision.load(Relaxed) { Created::Before } else { created })
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
        self.place.settle(root, published).await
    }
    async fn abort_upload(&self, upload: &OpenUpload) -> Result<()> {
        self.place.abort_upload(upload).await
    }
    async fn delete(&self, paths: &[String]) -> Result<()> {
        if !paths.is_empty() && self.keeps.swap(false, Relaxed) {
            return Err(Error::unavailable("not now"));
        }
        self.place.delete(paths).await
    }
    async fn delete_empty_folders(&self, root: &str, folders: &[String]) -> Result<()> {
        self.place.delete_empty_folders(root, folders).await
    }
}

#[tokio::test]
async fn the_abort_of_a_statement_that_asked_for_its_decision_keeps_a_late_commit_out() {
    let place = Unclear::new();
    let now = place.site();
    write_old(&*now.place, "t").await;
    let transaction = Transaction::begin(now.clone(), StatementKind::Append).await.unwrap();
    let files = stage_all(&transaction, "t").await.unwrap();
    place.loses_decision.store(true, Relaxed);
    let error = transaction.commit(Effect { files, ..Effect::default() }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(leftovers(&now).await, Vec::<String>::new());
    let (path, commit) = place.late.lock().take().unwrap();
    assert_eq!(place.create(&path, commit).await.unwrap(), Created::Before);
    assert_eq!(ours(&now).await, old_content());
}

#[tokio::test]
async fn what_a_statement_staged_stays_while_its_own_commit_cannot_be_read() {
    let place = Unclear::new();
    let now = place.site();
    write_old(&*now.place, "t").await;
    let transaction = Transaction::begin(now.clone(), StatementKind::Append).await.unwrap();
    let files = stage_all(&transaction, "t").await.unwrap();
    place.hides_decision.store(true, Relaxed);
    let error = transaction.commit(Effect { files, rows: 3, ..Effect::default() }).await.unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("is not known")), "{error:?}");
    place.hides_decision.store(false, Relaxed);
    let later = Site { clock: Arc::new(Later), ..now };
    assert_eq!(super::super::recover(&later).await.unwrap(), Vec::<String>::new());
    assert_eq!(ours(&later).await, new_content(StatementKind::Append));
}

/// The statement fails by itself while the store fails too.
async fn fails_with(place: &Arc<Unclear>, now: &Site, fault: fn(&Unclear) -> &AtomicBool) -> Error {
    let transaction = Transaction::begin(now.clone(), StatementKind::Exclusive).await.unwrap();
    stage_all(&transaction, "t").await.unwrap();
    let fails = transaction.commit_exclusive(async |_: &Site| {
        fault(place).store(true, Relaxed);
        Err(Error::user("DIVISION_BY_ZERO", "the statement's own"))
    });
    fails.await.unwrap_err()
}

#[tokio::test]
async fn what_was_staged_goes_although_the_begin_record_cannot_be_read() {
    let place = Unclear::new();
    let now = place.site();
    let error = fails_with(&place, &now, |place| &place.hides_begin).await;
    assert_eq!(error.code().0, "DIVISION_BY_ZERO", "{error}");
    assert_eq!(leftovers(&now).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_roll_back_that_fails_is_tried_again_and_hides_no_error() {
    let place = Unclear::new();
    let now = place.site();
    let error = fails_with(&place, &now, |place| &place.keeps).await;
    assert_eq!(error.code().0, "DIVISION_BY_ZERO", "{error}");
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(leftovers(&now).await, Vec::<String>::new());
}
