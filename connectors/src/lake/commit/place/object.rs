//! An object store as a place to write: conditional puts create, completed uploads and copies publish.
//!
//! Invariant: an object under its final name appears whole and only by `publish`.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use headwater_engine::error::{Error, Result};
use object_store::{
    Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutPayload, WriteMultipart,
    multipart::{MultipartStore, PartId},
    path::Path,
};

use super::{Created, Entry, Place, Spot, StagedWriter};
use crate::lake::{
    commit::record::{self, OpenUpload, Staged, StagedFile},
    stores::store_error,
};

/// Bytes of each part of an upload but the last; a file below it is one hidden object.
const PART_BYTES: usize = 8 << 20;

/// A store's uploads that outlive a process.
#[derive(Clone)]
pub struct Uploads(pub Arc<dyn MultipartStore>);

impl fmt::Debug for Uploads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Uploads")
    }
}

/// A bucket, or a store in memory.
#[derive(Clone)]
pub struct ObjectPlace {
    store: Arc<dyn ObjectStore>,
    uploads: Option<Uploads>,
    part_bytes: usize,
    /// What stands before a path in messages.
    shown: String,
}

impl ObjectPlace {
    /// A place in `store`; with `uploads` (the same store) large files are uploads that the commit completes, without it
    /// hidden objects that the commit copies.
    pub fn new(store: Arc<dyn ObjectStore>, uploads: Option<Uploads>) -> Self {
        Self { store, uploads, part_bytes: PART_BYTES, shown: String::new() }
    }

    /// The same with paths shown after this in messages: `s3://bucket/`.
    #[must_use]
    pub fn shown_after(mut self, root: &str) -> Self {
        root.clone_into(&mut self.shown);
        self
    }

    /// What a failure of the store means, naming the object.
    fn failed(&self, path: &str, error: StoreError) -> Error {
        store_error(&format!("{}{path}", self.shown), error)
    }

    /// The same with smaller parts, for stores that take them.
    #[must_use]
    pub fn with_part_bytes(mut self, part_bytes: usize) -> Self {
        self.part_bytes = part_bytes;
        self
    }
}

impl fmt::Debug for ObjectPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectPlace({})", self.store)
    }
}

fn key(path: &str) -> Result<Path> {
    Ok(Path::parse(path).map_err(StoreError::from)?)
}

fn entry(object: object_store::ObjectMeta) -> Entry {
    Entry { path: object.location.to_string(), size: object.size, modified_ms: object.last_modified.timestamp_millis() }
}

#[async_trait]
impl Place for ObjectPlace {
    async fn list(&self, folder: &str) -> Result<Vec<Entry>> {
        let listed = self.store.list_with_delimiter(Some(&key(folder)?)).await;
        let listed = listed.map_err(|error| self.failed(folder, error))?;
        Ok(listed.objects.into_iter().map(entry).collect())
    }

    async fn list_below(&self, folder: &str) -> Result<Vec<Entry>> {
        let listed = self.store.list(Some(&key(folder)?)).map_ok(entry).try_collect().await;
        listed.map_err(|error| self.failed(folder, error))
    }

    async fn read(&self, path: &str) -> Result<Option<Bytes>> {
        match self.store.get(&key(path)?).await {
            Ok(found) => Ok(Some(found.bytes().await.map_err(|error| self.failed(path, error))?)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(path, error)),
        }
    }

    async fn size(&self, path: &str) -> Result<Option<u64>> {
        match self.store.head(&key(path)?).await {
            Ok(found) => Ok(Some(found.size)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(path, error)),
        }
    }

    async fn create(&self, path: &str, bytes: Bytes) -> Result<Created> {
        match self.store.put_opts(&key(path)?, bytes.into(), PutMode::Create.into()).await {
            Ok(_) => Ok(Created::Now),
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => Ok(Created::Before),
            Err(error) => Err(self.failed(path, error)),
        }
    }

    async fn renew(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.store.put(&key(path)?, bytes.into()).await.map_err(|error| self.failed(path, error))?;
        Ok(())
    }

    async fn stage(&self, spot: Spot) -> Result<Box<dyn StagedWriter>> {
        let place = self.clone();
        Ok(Box::new(ObjectWriter { place, spot, size: 0, pending: BytesMut::new(), phase: Phase::Small }))
    }

    async fn publish(&self, file: &StagedFile) -> Result<()> {
        let target = key(&file.target)?;
        let result = match &file.staged {
            Staged::At(staged) => self.store.copy(&key(staged)?, &target).await,
            Staged::Upload { id, parts } => {
                let parts = parts.iter().map(|part| PartId { content_id: part.clone() }).collect();
                self.uploads()?.complete_multipart(&target, id, parts).await.map(drop)
            }
        };
        let Err(error) = result else { return Ok(()) };
        match self.store.head(&target).await {
            Ok(found) if found.size == file.size => Ok(()),
            _ => Err(self.failed(&file.target, error).context("publishing a file")),
        }
    }

    async fn settle(&self, _root: &str, _published: &[StagedFile]) -> Result<()> {
        Ok(())
    }

    async fn abort_upload(&self, upload: &OpenUpload) -> Result<()> {
        match self.uploads()?.abort_multipart(&key(&upload.target)?, &upload.id).await {
            Ok(()) | Err(StoreError::NotFound { .. } | StoreError::NotImplemented { .. }) => Ok(()),
            // A store in memory says so of an upload that is completed or aborted.
            Err(error) if error.to_string().contains("MultipartUpload not found") => Ok(()),
            Err(error) => Err(self.failed(&upload.target, error)),
        }
    }

    async fn delete(&self, paths: &[String]) -> Result<()> {
        let keys: Result<Vec<Path>> = paths.iter().map(|path| key(path)).collect();
        let keys = futures::stream::iter(keys?.into_iter().map(Ok));
        let mut deleted = self.store.delete_stream(Box::pin(keys));
        loop {
            match deleted.try_next().await {
                Ok(Some(_)) | Err(StoreError::NotFound { .. }) => {}
                Ok(None) => return Ok(()),
                Err(error) => return Err(self.failed("", error)),
            }
        }
    }

    async fn delete_empty_folders(&self, _root: &str, _folders: &[String]) -> Result<()> {
        Ok(())
    }
}

impl ObjectPlace {
    /// Gives up an upload of an earlier try, whose note is about to be replaced.
    async fn abort_noted(&self, note: &str) -> Result<()> {
        let Some(noted) = self.read(note).await? else { return Ok(()) };
        self.abort_upload(&record::decode(note, &noted)?).await
    }

    fn uploads(&self) -> Result<&Arc<dyn MultipartStore>> {
        let uploads = self.uploads.as_ref().map(|uploads| &uploads.0);
        uploads.ok_or_else(|| Error::internal("an upload in a store that has none"))
    }
}

enum Phase {
    /// Below one part: all bytes are still here.
    Small,
    /// An upload to the final name, to be completed by the commit.
    Upload { id: String, parts: Vec<String> },
    /// An upload to the hidden name, in a store without lasting uploads.
    Hidden(WriteMultipart),
}

struct ObjectWriter {
    place: ObjectPlace,
    spot: Spot,
    size: u64,
    pending: BytesMut,
    phase: Phase,
}

impl fmt::Debug for ObjectWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectWriter({}, {} bytes)", self.spot.target, self.size)
    }
}

impl ObjectWriter {
    async fn send_part(&mut self, part: Bytes) -> Result<()> {
        if let Phase::Small = self.phase {
            self.phase = self.start_upload().await?;
        }
        match &mut self.phase {
            Phase::Small => Err(Error::internal("an upload was expected to have begun")),
            Phase::Hidden(upload) => {
                let sent = upload.wait_for_capacity(2).await;
                sent.map_err(|error| self.place.failed(&self.spot.target, error))?;
                upload.put(part);
                Ok(())
            }
            Phase::Upload { id, parts } => {
                let target = key(&self.spot.target)?;
                let sent = self.place.uploads()?.put_part(&target, id, parts.len(), PutPayload::from(part)).await;
                let sent = sent.map_err(|error| self.place.failed(&self.spot.target, error))?;
                parts.push(sent.content_id);
                Ok(())
            }
        }
    }

    async fn start_upload(&mut self) -> Result<Phase> {
        let Some(Uploads(uploads)) = &self.place.uploads else {
            let upload = self.place.store.put_multipart(&key(&self.spot.staging)?).await;
            let upload = upload.map_err(|error| self.place.failed(&self.spot.target, error))?;
            return Ok(Phase::Hidden(WriteMultipart::new_with_chunk_size(upload, self.place.part_bytes)));
        };
        self.place.abort_noted(&self.spot.upload).await?;
        let id = uploads.create_multipart(&key(&self.spot.target)?).await;
        let id = id.map_err(|error| self.place.failed(&self.spot.target, error))?;
        let note = OpenUpload { target: self.spot.target.clone(), id: id.clone() };
        if let Err(error) = self.place.renew(&self.spot.upload, record::encode(&note)?).await {
            // Nobody would know of it.
            let _ = self.place.abort_upload(&note).await;
            return Err(error);
        }
        Ok(Phase::Upload { id, parts: Vec::new() })
    }
}

#[async_trait]
impl StagedWriter for ObjectWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.size += bytes.len() as u64;
        self.pending.extend_from_slice(&bytes);
        while self.pending.len() >= self.place.part_bytes {
            let part = self.pending.split_to(self.place.part_bytes).freeze();
            self.send_part(part).await?;
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<StagedFile> {
        let rest = std::mem::take(&mut self.pending).freeze();
        if let Phase::Small = self.phase {
            self.place.renew(&self.spot.staging, rest).await?;
        } else if !rest.is_empty() {
            self.send_part(rest).await?;
        }
        let Self { place, spot, size, phase, .. } = *self;
        let staged = match phase {
            Phase::Small => Staged::At(spot.staging),
            Phase::Upload { id, parts } => Staged::Upload { id, parts },
            Phase::Hidden(upload) => {
                upload.finish().await.map_err(|error| place.failed(&spot.target, error))?;
                Staged::At(spot.staging)
            }
        };
        Ok(StagedFile { target: spot.target, size, staged })
    }
}
