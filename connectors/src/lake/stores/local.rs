//! The file system as a store, with all its files: object_store's own leaves out names that end in `#` and digits, which
//! it keeps for uploads under way. Ours are in `_headwater/`, so here such a file is like any other.
//!
//! Invariant: what is listed can be read.

use std::{fmt, fs, io, ops::Range, path::PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{FutureExt, StreamExt, stream, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, local::LocalFileSystem, path::Path,
};

/// Folders below one another; links that lead back are left to object_store to report.
const DEPTH_MAX: usize = 64;

/// The file system.
#[derive(Debug, Default)]
pub(super) struct LocalFiles(LocalFileSystem);

/// Whether object_store takes a file for an upload under way.
fn looks_unfinished(name: &str) -> bool {
    name.split_once('#').is_some_and(|(_, end)| !end.is_empty() && end.bytes().all(|byte| byte.is_ascii_digit()))
}

fn on_disk(path: &Path) -> PathBuf {
    PathBuf::from(format!("/{path}"))
}

fn failed(error: io::Error, path: &Path) -> object_store::Error {
    match error.kind() {
        io::ErrorKind::NotFound => object_store::Error::NotFound { path: path.to_string(), source: Box::new(error) },
        _ => object_store::Error::Generic { store: "LocalFileSystem", source: Box::new(error) },
    }
}

fn meta_of(location: Path, found: &fs::Metadata) -> ObjectMeta {
    let modified = found.modified().map_or(DateTime::UNIX_EPOCH, DateTime::<Utc>::from);
    ObjectMeta { location, last_modified: modified, size: found.len(), e_tag: None, version: None }
}

/// The files of such names in a folder, and below it down to a depth.
fn left_out(folder: &Path, depth: usize, found: &mut Vec<ObjectMeta>) {
    // What cannot be listed has been reported by the listing of the others.
    let Ok(entries) = fs::read_dir(on_disk(folder)) else { return };
    for entry in entries.flatten() {
        let followed = |kind: fs::FileType| match kind.is_symlink() {
            true => fs::metadata(entry.path()).map(|found| found.file_type()),
            false => Ok(kind),
        };
        let Ok(kind) = entry.file_type().and_then(followed) else { continue };
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| kind.is_dir() && depth > 0 || looks_unfinished(name)) else {
            continue;
        };
        let Ok(path) = Path::parse(format!("{folder}/{name}")) else { continue };
        if kind.is_dir() {
            if depth > 0 {
                left_out(&path, depth - 1, found);
            }
        } else if let Ok(metadata) = fs::metadata(entry.path())
            && metadata.is_file()
        {
            found.push(meta_of(path, &metadata));
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|error| object_store::Error::Generic { store: "LocalFileSystem", source: Box::new(error) })
}

fn open(location: Path, wanted: Option<&GetRange>) -> Result<GetResult> {
    let path = on_disk(&location);
    let opened = fs::File::open(&path).and_then(|file| Ok((file.metadata()?, file)));
    let (metadata, file) = opened.map_err(|error| failed(error, &location))?;
    let size = metadata.len();
    let range = match wanted {
        None => 0..size,
        Some(wanted) => wanted
            .as_range(size)
            .map_err(|error| object_store::Error::Generic { store: "LocalFileSystem", source: Box::new(error) })?,
    };
    let meta = meta_of(location, &metadata);
    Ok(GetResult { payload: GetResultPayload::File(file, path), meta, range, attributes: Default::default() })
}

impl fmt::Display for LocalFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[async_trait]
impl ObjectStore for LocalFiles {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.0.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, path: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(path, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if !location.filename().is_some_and(looks_unfinished) {
            return self.0.get_opts(location, options).await;
        }
        let location = location.clone();
        blocking(move || open(location, options.range.as_ref())).await?
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if !location.filename().is_some_and(looks_unfinished) {
            return self.0.get_ranges(location, ranges).await;
        }
        let mut found = Vec::with_capacity(ranges.len());
        for range in ranges {
            let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
            found.push(self.get_opts(location, options).await?.bytes().await?);
        }
        Ok(found)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let folder = prefix.cloned().unwrap_or_default();
        let rest = blocking(move || {
            let mut found = Vec::new();
            left_out(&folder, DEPTH_MAX, &mut found);
            found
        });
        let rest = rest.map(|found| match found {
            Ok(found) => stream::iter(found.into_iter().map(Ok)).left_stream(),
            Err(error) => stream::iter([Err(error)]).right_stream(),
        });
        self.0.list(prefix).chain(rest.flatten_stream()).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let folder = prefix.cloned().unwrap_or_default();
        let mut listed = self.0.list_with_delimiter(prefix).await?;
        let rest = blocking(move || {
            let mut found = Vec::new();
            left_out(&folder, 0, &mut found);
            found
        });
        listed.objects.extend(rest.await?);
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use object_store::ObjectStoreExt;

    use super::*;

    #[tokio::test]
    async fn a_file_is_a_file_whatever_its_name() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        for name in ["a.json", "b.json#1", "c#x", "sub/d%20.json#22"] {
            fs::write(folder.path().join(name), "0123456789").unwrap();
        }
        std::os::unix::fs::symlink(folder.path().join("sub"), folder.path().join("way")).unwrap();
        let root = Path::parse(folder.path().to_str().unwrap()).unwrap();
        let store = LocalFiles::default();
        let mut names: Vec<_> = store.list(Some(&root)).map_ok(|object| object.location).try_collect().await?;
        names.sort();
        let wanted = ["a.json", "b.json#1", "c#x", "sub/d%20.json#22", "way/d%20.json#22"];
        assert_eq!(names, wanted.map(|name| Path::parse(format!("{root}/{name}")).unwrap()));
        for name in &names {
            assert_eq!(store.get(name).await?.bytes().await?, "0123456789");
            assert_eq!(store.get_range(name, 2..4).await?, "23");
            assert_eq!(store.get_ranges(name, &[0..1, 8..10]).await?, ["0", "89"]);
            assert_eq!(store.head(name).await?.size, 10);
            assert!(store.get_range(name, 20..30).await.is_err(), "a file that is shorter now");
        }
        let level = store.list_with_delimiter(Some(&root)).await?;
        assert_eq!((level.objects.len(), level.common_prefixes.len()), (3, 2));
        assert!(store.head(&Path::parse(format!("{root}/none#1")).unwrap()).await.is_err());
        Ok(())
    }
}
