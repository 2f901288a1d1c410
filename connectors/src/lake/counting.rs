//! A store that adds every byte it fetches to the counters of one statement.
//!
//! Invariant: a byte that reached this process is counted once, by the request that brought it: ranges and whole
//! objects by their length when the answer starts, listings of remote stores by [`LISTED_OBJECT_BYTES`] an object.

use std::{fmt, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result, path::Path,
};

use super::stats::ScanStats;

/// What one object costs in the answer to a listing, beside its key: S3's XML for key, size, date and tag.
pub const LISTED_OBJECT_BYTES: u64 = 256;

/// Whether listings cross a network and so count as bytes fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListingCost {
    /// The file system answers; nothing is fetched.
    Free,
    /// Counted by object.
    PerObject,
}

/// Wraps a store for one statement.
#[derive(Debug)]
pub struct CountingStore {
    store: Arc<dyn ObjectStore>,
    stats: Arc<ScanStats>,
    listing: ListingCost,
}

impl CountingStore {
    /// Counts what `store` fetches in `stats`.
    pub fn new(store: Arc<dyn ObjectStore>, stats: Arc<ScanStats>, listing: ListingCost) -> Self {
        Self { store, stats, listing }
    }

    fn fetched(&self, bytes: u64) {
        ScanStats::add(&self.stats.bytes_scanned, bytes);
    }

    fn counted(&self, objects: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (stats, listing) = (Arc::clone(&self.stats), self.listing);
        let counted = objects.inspect(move |object| {
            if let (Ok(object), ListingCost::PerObject) = (object, listing) {
                ScanStats::add(&stats.bytes_scanned, LISTED_OBJECT_BYTES + object.location.as_ref().len() as u64);
            }
        });
        counted.boxed()
    }

    fn listed(&self, keys: impl Iterator<Item = usize>) {
        if self.listing == ListingCost::PerObject {
            self.fetched(keys.map(|key| LISTED_OBJECT_BYTES + key as u64).sum());
        }
    }
}

impl fmt::Display for CountingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.store)
    }
}

#[async_trait]
impl ObjectStore for CountingStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.store.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, path: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(path, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        let result = self.store.get_opts(location, options).await?;
        if !head {
            self.fetched(result.range.end - result.range.start);
        }
        Ok(result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let found = self.store.get_ranges(location, ranges).await?;
        self.fetched(found.iter().map(|bytes| bytes.len() as u64).sum());
        Ok(found)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.counted(self.store.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.counted(self.store.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let found = self.store.list_with_delimiter(prefix).await?;
        self.listed(found.objects.iter().map(|object| object.location.as_ref().len()));
        self.listed(found.common_prefixes.iter().map(|folder| folder.as_ref().len()));
        Ok(found)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.store.rename_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use object_store::{ObjectStoreExt, memory::InMemory};

    use super::*;

    #[tokio::test]
    async fn counts_ranges_objects_and_listings() -> Result<()> {
        let stats = Arc::new(ScanStats::default());
        let store = CountingStore::new(Arc::new(InMemory::new()), Arc::clone(&stats), ListingCost::PerObject);
        let path = Path::from("a/b.json");
        store.put(&path, PutPayload::from_static(b"0123456789")).await?;
        store.get_range(&path, 2..5).await?;
        assert_eq!(ScanStats::get(&stats.bytes_scanned), 3);
        store.get_ranges(&path, &[0..1, 8..10]).await?;
        assert_eq!(ScanStats::get(&stats.bytes_scanned), 6);
        store.head(&path).await?;
        assert_eq!(ScanStats::get(&stats.bytes_scanned), 6);
        store.get(&path).await?.bytes().await?;
        assert_eq!(ScanStats::get(&stats.bytes_scanned), 16);
        store.list_with_delimiter(Some(&Path::from("a"))).await?;
        assert_eq!(ScanStats::get(&stats.bytes_scanned), 16 + LISTED_OBJECT_BYTES + 8);
        Ok(())
    }
}
