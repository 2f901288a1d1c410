//! A store in memory that tells what was asked of it, and how much at once.
//!
//! Invariant: it answers as the store it wraps does; it only counts.

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use async_trait::async_trait;
use futures::{TryStreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult, memory::InMemory, path::Path,
};

/// A store in memory that counts what is asked of it.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    store: InMemory,
    listings: Arc<AtomicUsize>,
    listed: Arc<AtomicUsize>,
    fetched: AtomicUsize,
    gets: AtomicUsize,
    gets_at_once: AtomicUsize,
}

impl Watched {
    pub(crate) async fn put_text(&self, path: &str, text: &str) {
        self.store.put(&Path::parse(path).unwrap(), PutPayload::from(text.to_owned())).await.unwrap();
    }

    pub(crate) fn reset(&self) {
        for counter in [&*self.listings, &*self.listed, &self.fetched, &self.gets_at_once] {
            counter.store(0, SeqCst);
        }
    }

    pub(crate) fn listings(&self) -> usize {
        self.listings.load(SeqCst)
    }

    pub(crate) fn listed(&self) -> usize {
        self.listed.load(SeqCst)
    }

    pub(crate) fn fetched(&self) -> usize {
        self.fetched.load(SeqCst)
    }

    pub(crate) fn gets_at_once(&self) -> usize {
        self.gets_at_once.load(SeqCst)
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}

#[async_trait]
impl ObjectStore for Watched {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> StoreResult<PutResult> {
        self.store.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        let at_once = self.gets.fetch_add(1, SeqCst) + 1;
        self.gets_at_once.fetch_max(at_once, SeqCst);
        // Others have their turn before this one is answered, as over a network.
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
        let found = self.store.get_opts(location, options).await;
        self.gets.fetch_sub(1, SeqCst);
        if let Ok(found) = &found {
            self.fetched.fetch_add(length(&found.range), SeqCst);
        }
        found
    }

    fn delete_stream(&self, locations: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.listings.fetch_add(1, SeqCst);
        let listed = Arc::clone(&self.listed);
        Box::pin(self.store.list(prefix).inspect_ok(move |_| {
            listed.fetch_add(1, SeqCst);
        }))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.listings.fetch_add(1, SeqCst);
        let found = self.store.list_with_delimiter(prefix).await?;
        self.listed.fetch_add(found.objects.len() + found.common_prefixes.len(), SeqCst);
        Ok(found)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.store.copy_opts(from, to, options).await
    }
}

fn length(range: &Range<u64>) -> usize {
    usize::try_from(range.end - range.start).unwrap()
}
