//! A table that is dropped while a statement writes into it.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use headwater_engine::error::Error;

use super::{
    faults::{Budget, Death, Faulty},
    *,
};
use crate::lake::commit::discard::discard;

/// A catalog with one table, until it is dropped.
#[derive(Debug, Default)]
struct OneTable {
    is_gone: AtomicBool,
    /// Where the files are deleted right after a writer has asked for the table.
    dropped_at: Mutex<Option<Site>>,
}

#[async_trait]
impl Registrar for OneTable {
    async fn register(&self, _: &Effect) -> Result<()> {
        Ok(())
    }

    async fn catalog(&self) -> Result<Option<String>> {
        Ok(None)
    }

    async fn expect_table(&self) -> Result<()> {
        if self.is_gone.load(Relaxed) {
            return Err(Error::user("TABLE_NOT_FOUND", "it was dropped"));
        }
        let dropped_at = self.dropped_at.lock().take();
        match dropped_at {
            Some(site) => discard(&site).await,
            None => Ok(()),
        }
    }
}

async fn all_files(site: &Site) -> Vec<String> {
    site.place.list_below(&site.root).await.unwrap().into_iter().map(|entry| entry.path).collect()
}

#[tokio::test]
async fn a_statement_under_way_writes_nothing_after_its_table_is_dropped() {
    for kind in [StatementKind::Append, StatementKind::Exclusive] {
        let catalog = Arc::new(OneTable::default());
        let now = site(Arc::new(in_memory(InMemory::new())), catalog.clone(), "t", Arc::new(SystemClock));
        write_old(&*now.place, "t").await;
        let transaction = Transaction::begin(now.clone(), kind).await.unwrap();
        let files = stage_all(&transaction, "t").await.unwrap();
        catalog.is_gone.store(true, Relaxed);
        discard(&now).await.unwrap();
        let late = transaction.stage("t/p=5", "json").await.unwrap();
        drop(late.finish().await.unwrap());
        let effect = Effect { files, ..Effect::default() };
        let error = match kind {
            StatementKind::Append => transaction.commit(effect).await.unwrap_err(),
            StatementKind::Exclusive => transaction.commit_exclusive(async |_| Ok(effect)).await.unwrap_err(),
        };
        assert_eq!(error.code().0, "TABLE_NOT_FOUND", "{kind:?}");
        assert_eq!(all_files(&now).await, Vec::<String>::new(), "{kind:?}: neither data nor records are left");
    }
}

#[tokio::test]
async fn a_statement_that_fails_by_itself_after_its_table_is_dropped_leaves_nothing() {
    let now = site(Arc::new(in_memory(InMemory::new())), Arc::new(OneTable::default()), "t", Arc::new(SystemClock));
    let transaction = Transaction::begin(now.clone(), StatementKind::Append).await.unwrap();
    let _staged = stage_all(&transaction, "t").await.unwrap();
    discard(&now).await.unwrap();
    transaction.roll_back().await.unwrap();
    assert_eq!(all_files(&now).await, Vec::<String>::new());
}

/// Ctrl-C while it waits, or while it looks at what it replaces.
#[tokio::test]
async fn a_statement_that_is_dropped_after_its_table_leaves_nothing() {
    let catalog = Arc::new(OneTable::default());
    let now = site(Arc::new(in_memory(InMemory::new())), catalog.clone(), "t", Arc::new(SystemClock));
    let transaction = Transaction::begin(now.clone(), StatementKind::Exclusive).await.unwrap();
    let _staged = stage_all(&transaction, "t").await.unwrap();
    catalog.is_gone.store(true, Relaxed);
    discard(&now).await.unwrap();
    let is_asked = tokio::sync::Notify::new();
    let replaces = transaction.commit_exclusive(async |_: &Site| {
        is_asked.notify_one();
        std::future::pending().await
    });
    tokio::select! {
        _ = replaces => unreachable!("it never ends"),
        () = is_asked.notified() => {}
    }
    assert_eq!(all_files(&now).await.len(), 2, "an abort for it, and its claim");
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(all_files(&now).await, Vec::<String>::new());
}

#[tokio::test]
async fn no_folder_of_a_dropped_table_is_left() {
    let (_folder, root) = on_disk();
    let catalog = Arc::new(OneTable::default());
    let now = site(Arc::new(LocalPlace), catalog.clone(), &root, Arc::new(SystemClock));
    let transaction = Transaction::begin(now.clone(), StatementKind::Exclusive).await.unwrap();
    let files = stage_all(&transaction, &root).await.unwrap();
    catalog.is_gone.store(true, Relaxed);
    discard(&now).await.unwrap();
    let effect = Effect { files, ..Effect::default() };
    transaction.commit_exclusive(async |_: &Site| Ok(effect)).await.unwrap_err();
    assert!(!std::path::Path::new("/").join(&root).exists());
}

/// The decision of whoever drops comes first, and stays for the owner to find.
#[tokio::test]
async fn a_drop_between_the_look_and_the_decision_wins() {
    let catalog = Arc::new(OneTable::default());
    let now = site(Arc::new(in_memory(InMemory::new())), catalog.clone(), "t", Arc::new(SystemClock));
    let transaction = Transaction::begin(now.clone(), StatementKind::Append).await.unwrap();
    let files = stage_all(&transaction, "t").await.unwrap();
    *catalog.dropped_at.lock() = Some(now.clone());
    let error = transaction.commit(Effect { files, ..Effect::default() }).await.unwrap_err();
    assert!(error.message().contains("its table was dropped"), "{error}");
    let left = all_files(&now).await;
    assert!(matches!(left.as_slice(), [abort] if abort.ends_with(".decision")), "{left:?}");
}

/// What died decided is finished before it is deleted; what died undecided is undone.
#[tokio::test]
async fn a_drop_ends_what_the_dead_left() {
    let mut decided = 0;
    for operation in 0.. {
        let store: Arc<dyn Place> = Arc::new(in_memory(InMemory::new()));
        let budget = Budget::dies_after(operation, Death::After);
        let place = Arc::new(Faulty { place: store.clone(), budget: budget.clone() });
        let cut = site(place, Arc::new(Catalog::default()), "t", Arc::new(SystemClock));
        let _ = write_statement(cut, StatementKind::Append).await;
        let later = site(store, Arc::new(Catalog::default()), "t", Arc::new(Later));
        decided += usize::from(is_committed(&later).await);
        discard(&later).await.unwrap();
        let mut left = all_files(&later).await;
        left.retain(|path| !path.ends_with(".decision"));
        assert_eq!(left, Vec::<String>::new(), "cut at {operation}");
        if !budget.is_dead() {
            break;
        }
    }
    assert!(decided > 0);
}
