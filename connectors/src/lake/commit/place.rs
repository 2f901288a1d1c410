//! Where a statement writes: the few operations the protocol asks of a store.
//!
//! Invariant: `create` is atomic and durable and tells whether it was first; `publish` and `delete` may be repeated.
//! Paths are those of the store, without a leading `/`.

mod local;
mod object;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use headwater_engine::error::Result;

pub use local::LocalPlace;
pub(crate) use local::TEMPORARY;
pub use object::{ObjectPlace, Uploads};

use super::record::{OpenUpload, StagedFile};

/// A file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// When it was last written, in milliseconds since 1970.
    pub modified_ms: i64,
}

/// Whether a record was created by this call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// By this call.
    Now,
    /// It was there already.
    Before,
}

/// Where a file is staged and where it will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// Path of the hidden file.
    pub staging: String,
    /// Path of the note that an upload was begun.
    pub upload: String,
    /// Path when published.
    pub target: String,
}

/// A store to write to.
#[async_trait]
pub trait Place: fmt::Debug + Send + Sync {
    /// Files directly in a folder; none if there is no such folder.
    async fn list(&self, folder: &str) -> Result<Vec<Entry>>;
    /// Files in a folder and below; none if there is no such folder.
    async fn list_below(&self, folder: &str) -> Result<Vec<Entry>>;
    /// The bytes of a small file, if it is there.
    async fn read(&self, path: &str) -> Result<Option<Bytes>>;
    /// The size of a file, if it is there.
    async fn size(&self, path: &str) -> Result<Option<u64>>;
    /// Creates a small file with all its bytes, durably, unless it is there.
    async fn create(&self, path: &str, bytes: Bytes) -> Result<Created>;
    /// Writes a small file anew, whole or not at all.
    async fn renew(&self, path: &str, bytes: Bytes) -> Result<()>;
    /// A writer of a hidden file.
    async fn stage(&self, spot: Spot) -> Result<Box<dyn StagedWriter>>;
    /// Makes a staged file visible; nothing happens if it is already.
    async fn publish(&self, file: &StagedFile) -> Result<()>;
    /// Makes publications below `root` durable.
    async fn settle(&self, root: &str, published: &[StagedFile]) -> Result<()>;
    /// Gives an upload up; nothing happens if it is completed or gone.
    async fn abort_upload(&self, upload: &OpenUpload) -> Result<()>;
    /// Deletes files; those that are gone do not matter.
    async fn delete(&self, paths: &[String]) -> Result<()>;
    /// Deletes folders of this table that are empty, innermost first, the last being `root`; stores without folders do nothing.
    async fn delete_empty_folders(&self, root: &str, folders: &[String]) -> Result<()>;
}

/// Writes one hidden file. Dropped unfinished, it leaves bytes that the rollback of its statement deletes.
#[async_trait]
pub trait StagedWriter: fmt::Debug + Send {
    /// Appends bytes.
    async fn write(&mut self, bytes: Bytes) -> Result<()>;
    /// Makes the bytes durable.
    async fn finish(self: Box<Self>) -> Result<StagedFile>;
}
