//! Where checkpoints live: five operations any object store or disk can do.
//!
//! Invariant: of all calls of [`CheckpointStore::create`] for one path, at most one ever returns [`Created::New`]. A
//! path written by [`CheckpointStore::put`] is only ever written with the same bytes.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, path::Path};

use crate::error::{Error, ErrorKind, Result};

/// What became of a `create`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The path was free, and now has our bytes.
    New,
    /// Somebody was first, perhaps an earlier try of our own.
    Existed,
}

/// Durable storage of a job's checkpoints. Paths are relative, with `/`.
#[async_trait]
pub trait CheckpointStore: fmt::Debug + fmt::Display + Send + Sync {
    /// Writes a path if there is nothing yet, durably. An error leaves open whether it happened.
    async fn create(&self, path: &str, bytes: Bytes) -> Result<Created>;
    /// Writes a path durably.
    async fn put(&self, path: &str, bytes: Bytes) -> Result<()>;
    /// The bytes of a path, if it exists.
    async fn get(&self, path: &str) -> Result<Option<Bytes>>;
    /// The first parts of all paths that have more than one, sorted.
    async fn folders(&self) -> Result<Vec<String>>;
    /// All paths under a prefix that ends with `/`, sorted.
    async fn list(&self, prefix: &str) -> Result<Vec<String>>;
    /// Removes a path; none there is no error.
    async fn delete(&self, path: &str) -> Result<()>;
}

/// Refuses a store that lets two writers create one path: creates a fresh key twice and expects the second to fail.
pub async fn probe(store: &dyn CheckpointStore, folder: &str) -> Result<()> {
    let path = format!("{folder}probe/{}", uuid::Uuid::new_v4());
    let first = store.create(&path, Bytes::from_static(b"1")).await?;
    let second = store.create(&path, Bytes::from_static(b"2")).await?;
    let read = store.get(&path).await?;
    store.delete(&path).await?;
    if first == Created::New && second == Created::Existed && read.as_deref() == Some(b"1") {
        return Ok(());
    }
    Err(Error::user("NOT_SUPPORTED", format!("the state store {store} lets two writers create one object"))
        .with_hint("use a store with conditional writes (If-None-Match), such as Amazon S3, or a local directory"))
}

/// A directory of a local disk.
#[derive(Debug, Clone)]
pub struct LocalStore {
    root: PathBuf,
}

impl LocalStore {
    /// A store in `root`, which is made when first written.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        path: &str,
        work: impl FnOnce(PathBuf) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let full = self.root.join(path);
        let name = full.display().to_string();
        let done = tokio::task::spawn_blocking(move || work(full)).await;
        match done {
            Ok(result) => result.map_err(|error| Error::from(error).context(format!("state file \"{name}\""))),
            Err(error) => Err(Error::internal(format!("writing \"{name}\" was cut off: {error}"))),
        }
    }
}

impl fmt::Display for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.root.display())
    }
}

mod disk {
    //! Durable writes on a local disk: temporary file, fsync, link or rename within one directory, fsync of it.

    use std::{
        fs::{self, File},
        io::{self, Write},
        path::{Path, PathBuf},
    };

    /// A file that goes with this value, unless it was renamed.
    struct Temporary(PathBuf);

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _gone = fs::remove_file(&self.0);
        }
    }

    fn temporary(path: &Path, bytes: &[u8]) -> io::Result<Temporary> {
        let folder = path.parent().unwrap_or(Path::new("."));
        make_folder(folder)?;
        let temporary = Temporary(folder.join(format!(".tmp-{}", uuid::Uuid::new_v4())));
        let mut file = File::create(&temporary.0)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(temporary)
    }

    fn make_folder(folder: &Path) -> io::Result<()> {
        if folder.as_os_str().is_empty() || folder.is_dir() {
            return Ok(());
        }
        if let Some(parent) = folder.parent() {
            make_folder(parent)?;
        }
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        folder.parent().map_or(Ok(()), sync_folder)
    }

    fn sync_folder(folder: &Path) -> io::Result<()> {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        File::open(folder)?.sync_all()
    }

    /// Whether the path was free and now has these bytes.
    pub(super) fn create(path: &Path, bytes: &[u8]) -> io::Result<bool> {
        let temporary = temporary(path, bytes)?;
        match fs::hard_link(&temporary.0, path) {
            Ok(()) => path.parent().map_or(Ok(()), sync_folder).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
        fs::rename(&temporary(path, bytes)?.0, path)?;
        path.parent().map_or(Ok(()), sync_folder)
    }

    pub(super) fn folders(root: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.path().is_dir() {
                found.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        found.sort();
        Ok(found)
    }

    pub(super) fn list(root: &Path, prefix: &Path, found: &mut Vec<String>) -> io::Result<()> {
        let entries = match fs::read_dir(prefix) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".tmp-"));
            if path.is_dir() {
                list(root, &path, found)?;
            } else if let (false, Ok(relative)) = (hidden, path.strip_prefix(root)) {
                found.push(relative.to_string_lossy().into_owned());
            }
        }
        Ok(())
    }
}

#[async_trait]
impl CheckpointStore for LocalStore {
    async fn create(&self, path: &str, bytes: Bytes) -> Result<Created> {
        let new = self.blocking(path, move |path| disk::create(&path, &bytes)).await?;
        Ok(if new { Created::New } else { Created::Existed })
    }

    async fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.blocking(path, move |path| disk::put(&path, &bytes)).await
    }

    async fn get(&self, path: &str) -> Result<Option<Bytes>> {
        let read = |path: PathBuf| match std::fs::read(path) {
            Ok(bytes) => Ok(Some(Bytes::from(bytes))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        self.blocking(path, read).await
    }

    async fn folders(&self) -> Result<Vec<String>> {
        self.blocking("", move |root| disk::folders(&root)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let root = self.root.clone();
        let list = move |folder: PathBuf| {
            let mut found = Vec::new();
            disk::list(&root, &folder, &mut found)?;
            found.sort();
            Ok(found)
        };
        self.blocking(prefix, list).await
    }

    async fn delete(&self, path: &str) -> Result<()> {
        let remove = |path: PathBuf| match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        self.blocking(path, remove).await
    }
}

/// A prefix of an object store.
#[derive(Debug, Clone)]
pub struct ObjectCheckpointStore {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    shown: String,
}

impl ObjectCheckpointStore {
    /// A store under `prefix`; `shown` is the URL a user gave.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path, shown: impl Into<String>) -> Self {
        Self { store, prefix, shown: shown.into() }
    }

    fn full(&self, path: &str) -> Path {
        path.split('/').filter(|part| !part.is_empty()).fold(self.prefix.clone(), |full, part| full.join(part))
    }
}

impl fmt::Display for ObjectCheckpointStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

#[async_trait]
impl CheckpointStore for ObjectCheckpointStore {
    async fn create(&self, path: &str, bytes: Bytes) -> Result<Created> {
        let options = PutOptions::from(PutMode::Create);
        match self.store.put_opts(&self.full(path), bytes.into(), options).await {
            Ok(_) => Ok(Created::New),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(Created::Existed)
            }
            Err(error) => Err(Error::from(error)),
        }
    }

    async fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.store.put(&self.full(path), bytes.into()).await?;
        Ok(())
    }

    async fn get(&self, path: &str) -> Result<Option<Bytes>> {
        match self.store.get(&self.full(path)).await {
            Ok(found) => Ok(Some(found.bytes().await?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(Error::from(error)),
        }
    }

    async fn folders(&self) -> Result<Vec<String>> {
        let prefix = (!self.prefix.as_ref().is_empty()).then_some(&self.prefix);
        let found = self.store.list_with_delimiter(prefix).await?;
        let mut names: Vec<String> =
            found.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned)).collect();
        names.sort();
        Ok(names)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let full = self.full(prefix);
        let found: Vec<_> = self.store.list(Some(&full)).try_collect().await?;
        let skip = if self.prefix.as_ref().is_empty() { 0 } else { self.prefix.as_ref().len() + 1 };
        let mut paths: Vec<String> =
            found.into_iter().filter_map(|meta| meta.location.as_ref().get(skip..).map(str::to_owned)).collect();
        paths.sort();
        Ok(paths)
    }

    async fn delete(&self, path: &str) -> Result<()> {
        match self.store.delete(&self.full(path)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(Error::from(error)),
        }
    }
}

/// Checkpoints in memory: gone with the process; for tests and jobs that keep nothing.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: std::sync::Mutex<BTreeMap<String, Bytes>>,
}

impl MemoryStore {
    fn objects(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.objects.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl fmt::Display for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory")
    }
}

#[async_trait]
impl CheckpointStore for MemoryStore {
    async fn create(&self, path: &str, bytes: Bytes) -> Result<Created> {
        let mut objects = self.objects();
        if objects.contains_key(path) {
            return Ok(Created::Existed);
        }
        objects.insert(path.to_owned(), bytes);
        Ok(Created::New)
    }

    async fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.objects().insert(path.to_owned(), bytes);
        Ok(())
    }

    async fn get(&self, path: &str) -> Result<Option<Bytes>> {
        Ok(self.objects().get(path).cloned())
    }

    async fn folders(&self) -> Result<Vec<String>> {
        let objects = self.objects();
        let mut names: Vec<String> =
            objects.keys().filter_map(|path| path.split_once('/').map(|(name, _)| name.to_owned())).collect();
        names.dedup();
        Ok(names)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        Ok(self.objects().keys().filter(|path| path.starts_with(prefix)).cloned().collect())
    }

    async fn delete(&self, path: &str) -> Result<()> {
        self.objects().remove(path);
        Ok(())
    }
}

/// Whether a failed call may succeed when tried again.
pub(crate) fn is_transient(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Limit)
}
