//! A local directory tree as a place to write: hard links create, renames publish, everything is synced before it counts.
//!
//! Invariant: a path that others may see never holds part of a file.

use std::{
    collections::BTreeSet,
    fs,
    io::{ErrorKind as Io, Write},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use async_trait::async_trait;
use bytes::Bytes;
use headwater_engine::error::{Error, Result};
use tokio::io::AsyncWriteExt;

use super::{Created, Entry, Place, Spot, StagedWriter};
use crate::lake::commit::{
    FOLDER,
    record::{OpenUpload, Staged, StagedFile},
};

/// The file system of this machine; paths are absolute ones without their first `/`.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalPlace;

/// Start of the names of records that are being written; `recover` deletes old ones.
pub(crate) const TEMPORARY: &str = ".tmp-";

/// Folders synced at once: the file system makes one journal entry of several.
const SYNCS_AT_ONCE: usize = 16;

fn to_file(path: &str) -> PathBuf {
    Path::new("/").join(path)
}

fn named<T>(path: &Path, result: std::io::Result<T>) -> Result<T> {
    result.map_err(|error| {
        let hint = match error.kind() {
            Io::PermissionDenied | Io::ReadOnlyFilesystem => Some("check the owner and the mode of the folder"),
            Io::StorageFull | Io::QuotaExceeded => Some("make space and run the statement again; it left nothing"),
            _ => None,
        };
        let error = Error::from(error).context(format!("\"{}\"", path.display()));
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::internal(format!("a file operation did not end: {error}"))),
    }
}

#[async_trait]
impl Place for LocalPlace {
    async fn list(&self, folder: &str) -> Result<Vec<Entry>> {
        let folder = folder.to_owned();
        blocking(move || {
            let mut found = Vec::new();
            list_folder(&folder, false, &mut found)?;
            Ok(found)
        })
        .await
    }

    async fn list_below(&self, folder: &str) -> Result<Vec<Entry>> {
        let folder = folder.to_owned();
        blocking(move || {
            let mut found = Vec::new();
            list_folder(&folder, true, &mut found)?;
            Ok(found)
        })
        .await
    }

    async fn read(&self, path: &str) -> Result<Option<Bytes>> {
        let file = to_file(path);
        match tokio::fs::read(&file).await {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) if error.kind() == Io::NotFound => Ok(None),
            Err(error) => named(&file, Err(error)),
        }
    }

    async fn size(&self, path: &str) -> Result<Option<u64>> {
        let file = to_file(path);
        match tokio::fs::metadata(&file).await {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == Io::NotFound => Ok(None),
            Err(error) => named(&file, Err(error)),
        }
    }

    async fn create(&self, path: &str, bytes: Bytes) -> Result<Created> {
        let file = to_file(path);
        blocking(move || create_whole(&file, &bytes)).await
    }

    async fn renew(&self, path: &str, bytes: Bytes) -> Result<()> {
        let file = to_file(path);
        blocking(move || {
            let temporary = write_temporary(&file, &bytes)?;
            named(&file, fs::rename(&temporary, &file))
        })
        .await
    }

    async fn stage(&self, spot: Spot) -> Result<Box<dyn StagedWriter>> {
        let path = to_file(&spot.staging);
        let opened = path.clone();
        let file = blocking(move || {
            create_folder_of(&opened)?;
            // A writer that was given up may still be writing: what it opened is another file from here on.
            named(&opened, remove_if_there(&opened))?;
            named(&opened, fs::File::create_new(&opened))
        })
        .await?;
        Ok(Box::new(LocalWriter { path, spot, size: 0, file: file.into() }))
    }

    async fn publish(&self, file: &StagedFile) -> Result<()> {
        let Staged::At(staged) = &file.staged else {
            return Err(Error::internal("a local file is never an upload"));
        };
        let (staged, target) = (to_file(staged), to_file(&file.target));
        blocking(move || publish_file(&staged, &target)).await
    }

    async fn settle(&self, root: &str, published: &[StagedFile]) -> Result<()> {
        let root = to_file(root);
        let mut folders = BTreeSet::new();
        for file in published {
            let target = to_file(&file.target);
            let within = target.ancestors().skip(1).take_while(|folder| folder.starts_with(&root));
            folders.extend(within.map(Path::to_path_buf));
            folders.extend(target.parent().map(Path::to_path_buf));
        }
        let folders: Vec<PathBuf> = folders.into_iter().collect();
        let mut syncs = tokio::task::JoinSet::new();
        for part in folders.chunks(folders.len().div_ceil(SYNCS_AT_ONCE).max(1)) {
            let part = part.to_vec();
            syncs.spawn(blocking(move || part.iter().try_for_each(|folder| sync_folder(folder))));
        }
        while let Some(synced) = syncs.join_next().await {
            synced.map_err(|error| Error::internal(format!("a sync did not end: {error}")))??;
        }
        Ok(())
    }

    async fn abort_upload(&self, _upload: &OpenUpload) -> Result<()> {
        Ok(())
    }

    async fn delete(&self, paths: &[String]) -> Result<()> {
        let files: Vec<PathBuf> = paths.iter().map(|path| to_file(path)).collect();
        blocking(move || files.iter().try_for_each(|file| named(file, remove_if_there(file)))).await
    }

    async fn delete_empty_folders(&self, root: &str, folders: &[String]) -> Result<()> {
        let mut folders: Vec<PathBuf> = folders.iter().map(|folder| to_file(folder)).collect();
        folders.push(to_file(root).join(FOLDER));
        folders.push(to_file(root));
        blocking(move || {
            for folder in &folders {
                // Not empty, not there, not ours to delete: all the same.
                let _ = fs::remove_dir(folder);
            }
            Ok(())
        })
        .await
    }
}

fn list_folder(folder: &str, below: bool, found: &mut Vec<Entry>) -> Result<()> {
    let path = to_file(folder);
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), Io::NotFound | Io::NotADirectory) => return Ok(()),
        Err(error) => return named(&path, Err(error)),
    };
    for entry in entries {
        let entry = named(&path, entry)?;
        let name = entry.file_name();
        let child = crate::lake::commit::record::join(folder, &name.to_string_lossy());
        let metadata = match fs::metadata(entry.path()) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == Io::NotFound => continue,
            Err(error) => return named(&entry.path(), Err(error)),
        };
        if metadata.is_file() {
            let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let modified_ms = modified.map_or(0, |age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
            found.push(Entry { path: child, size: metadata.len(), modified_ms });
        } else if below {
            list_folder(&child, true, found)?;
        }
    }
    Ok(())
}

fn remove_if_there(file: &Path) -> std::io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != Io::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn create_folder_of(file: &Path) -> Result<()> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    named(folder, fs::create_dir_all(folder))
}

fn sync_folder(folder: &Path) -> Result<()> {
    match fs::File::open(folder) {
        Ok(file) => named(folder, file.sync_all()),
        Err(error) if error.kind() == Io::NotFound => Ok(()),
        Err(error) => named(folder, Err(error)),
    }
}

fn write_temporary(file: &Path, bytes: &[u8]) -> Result<PathBuf> {
    create_folder_of(file)?;
    let temporary = file.with_file_name(format!("{TEMPORARY}{}", uuid::Uuid::new_v4().simple()));
    let write = || {
        let mut open = fs::File::create_new(&temporary)?;
        open.write_all(bytes)?;
        open.sync_all()
    };
    if let Err(error) = write() {
        let _ = fs::remove_file(&temporary);
        return named(file, Err(error));
    }
    Ok(temporary)
}

fn create_whole(file: &Path, bytes: &[u8]) -> Result<Created> {
    let temporary = write_temporary(file, bytes)?;
    let linked = fs::hard_link(&temporary, file);
    let _ = fs::remove_file(&temporary);
    match linked {
        Ok(()) => {
            sync_folder(file.parent().unwrap_or(Path::new("/")))?;
            Ok(Created::Now)
        }
        Err(error) if error.kind() == Io::AlreadyExists => Ok(Created::Before),
        Err(error) => named(file, Err(error)),
    }
}

fn publish_file(staged: &Path, target: &Path) -> Result<()> {
    create_folder_of(target)?;
    match fs::rename(staged, target) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == Io::NotFound && target.exists() => Ok(()),
        Err(error) if error.kind() == Io::CrossesDevices => copy_then_rename(staged, target),
        Err(error) => named(target, Err(error)),
    }
}

/// A partition on another file system: the copy is hidden until it is whole.
fn copy_then_rename(staged: &Path, target: &Path) -> Result<()> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let hidden = target.with_file_name(format!(".{name}"));
    let copy = || {
        fs::copy(staged, &hidden)?;
        fs::File::open(&hidden)?.sync_all()?;
        fs::rename(&hidden, target)
    };
    let copied = copy();
    if copied.is_err() {
        let _ = fs::remove_file(&hidden);
    }
    named(target, copied)
}

#[derive(Debug)]
struct LocalWriter {
    path: PathBuf,
    spot: Spot,
    size: u64,
    file: tokio::fs::File,
}

#[async_trait]
impl StagedWriter for LocalWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.size += bytes.len() as u64;
        named(&self.path, self.file.write_all(&bytes).await)
    }

    async fn finish(mut self: Box<Self>) -> Result<StagedFile> {
        named(&self.path, self.file.flush().await)?;
        named(&self.path, self.file.sync_all().await)?;
        Ok(StagedFile { target: self.spot.target, size: self.size, staged: Staged::At(self.spot.staging) })
    }
}
