//! From a location as written to the store and the folder it names.
//!
//! ```text
//!  s3://bucket/a/b/   bucket's store, "a/b"        file:///a/b, /a/b   the file system, "a/b"
//!  a/b                the file system, working directory + "a/b"
//! ```
//!
//! Invariant: a bucket has one client in a process as long as its settings stay the same, so that connections and
//! credentials are shared; what a statement fetches is counted by the wrapper it asks for, not by the client.

use std::{
    collections::HashMap,
    fmt,
    path::{Component, PathBuf},
    sync::Arc,
};

use headwater_engine::{
    catalog::Properties,
    error::{Error, ErrorKind, Result},
};
use object_store::{ObjectStore, path::Path};
use parking_lot::{Mutex, RwLock};

mod local;

use local::LocalFiles;

use super::{
    commit::place::Uploads,
    counting::{CountingStore, ListingCost},
    listing::KnownFolders,
    s3::{self, S3Settings},
    stats::ScanStats,
};

/// Clients kept at once; the registry starts again when it is full.
const CLIENTS_MAX: usize = 256;

/// A location, resolved.
#[derive(Debug, Clone)]
pub struct Place {
    /// The store that holds it.
    pub store: Arc<dyn ObjectStore>,
    /// The folder or object within the store.
    pub path: Path,
    /// What stands before a store's path in `"$path"` and in messages: `s3://bucket/` or `/`.
    pub root: String,
    /// Whether listings are fetched over a network.
    pub listing: ListingCost,
    /// Uploads that outlive a process, where the store has them.
    pub uploads: Option<Uploads>,
}

impl Place {
    /// The same place with its fetched bytes counted.
    #[must_use]
    pub fn counted(&self, stats: &Arc<ScanStats>) -> Self {
        let store = CountingStore::new(Arc::clone(&self.store), Arc::clone(stats), self.listing);
        Self { store: Arc::new(store), ..self.clone() }
    }

    /// A path of this store as users write it.
    pub fn display(&self, path: &Path) -> String {
        format!("{}{path}", self.root)
    }

    /// The same store at another path.
    #[must_use]
    pub fn at(&self, path: Path) -> Self {
        Self { path, ..self.clone() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.display(&self.path))
    }
}

/// One bucket's client, as a store and as what its uploads are made with.
#[derive(Clone)]
struct Client {
    store: Arc<dyn ObjectStore>,
    uploads: Option<Uploads>,
}

/// The stores of a process, by location.
pub struct Stores {
    settings: RwLock<Properties>,
    working_directory: PathBuf,
    local: Arc<LocalFiles>,
    clients: Mutex<HashMap<String, (S3Settings, Client)>>,
    /// Stores given by name instead of made: tests put memory here.
    given: RwLock<HashMap<String, Arc<dyn ObjectStore>>>,
    known_folders: KnownFolders,
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stores").field("working_directory", &self.working_directory).finish_non_exhaustive()
    }
}

impl Stores {
    /// Stores with settings (`s3.endpoint`, ..; others are ignored), relative paths counted from `working_directory`.
    pub fn new(settings: Properties, working_directory: PathBuf) -> Self {
        Self {
            settings: RwLock::new(settings),
            working_directory,
            local: Arc::default(),
            clients: Mutex::default(),
            given: RwLock::default(),
            known_folders: KnownFolders::default(),
        }
    }

    /// How much earlier statements found in remote folders.
    pub fn known_folders(&self) -> &KnownFolders {
        &self.known_folders
    }

    /// Changes the settings for what is resolved from now on.
    pub fn set(&self, settings: Properties) {
        *self.settings.write() = settings;
    }

    /// Uses `store` for locations `<scheme>://<name>/..` from now on.
    pub fn give(&self, scheme: &str, name: &str, store: Arc<dyn ObjectStore>) {
        self.given.write().insert(format!("{scheme}://{name}"), store);
    }

    /// Refuses what a table's own `s3.*` properties cannot say, whether its location is on S3 or not.
    pub fn check(&self, options: &Properties) -> Result<()> {
        S3Settings::for_bucket("", &Properties::new(), options).map(drop)
    }

    /// The location as every working directory finds it: a relative path is counted from this one, once and for all.
    pub fn absolute(&self, location: &str) -> String {
        let path = location.strip_prefix("file:").unwrap_or(location);
        if location.contains("://") || path.starts_with('/') {
            return location.to_owned();
        }
        match self.local(path) {
            Ok(place) if path.ends_with('/') => format!("{place}/"),
            Ok(place) => place.to_string(),
            Err(_) => location.to_owned(),
        }
    }

    /// The store and folder of a location; `options` are a table's own `s3.*` properties.
    pub async fn resolve(&self, location: &str, options: &Properties) -> Result<Place> {
        let Some((scheme, rest)) = location.split_once("://") else {
            return self.local(location.strip_prefix("file:").unwrap_or(location));
        };
        if scheme.eq_ignore_ascii_case("file") {
            return self.local(&format!("/{}", rest.trim_start_matches('/')));
        }
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.contains('@') {
            let message = format!("the location of scheme \"{scheme}\" holds credentials");
            return Err(Error::user("INVALID_TABLE_PROPERTY", message)
                .with_hint("leave them out; they are taken from the environment"));
        }
        let path = Path::parse(key.trim_end_matches('/')).map_err(|error| bad_location(location, &error))?;
        // A bucket is one store by whichever of its names.
        let name = if matches!(scheme, "s3a" | "s3n") { "s3" } else { scheme };
        let given = self.given.read().get(&format!("{name}://{bucket}")).map(Arc::clone);
        let client = match given {
            Some(store) => Client { store, uploads: None },
            None if matches!(scheme, "s3" | "s3a" | "s3n") && !bucket.is_empty() => {
                self.bucket(bucket, options).await?
            }
            None => {
                return Err(Error::user(
                    "INVALID_TABLE_PROPERTY",
                    format!("location \"{location}\" is not known here"),
                )
                .with_hint("use s3://bucket/folder/, file:///folder/ or a path"));
            }
        };
        let Client { store, uploads } = client;
        Ok(Place { store, uploads, path, root: format!("{name}://{bucket}/"), listing: ListingCost::PerObject })
    }

    fn local(&self, location: &str) -> Result<Place> {
        let mut absolute = PathBuf::from("/");
        for component in self.working_directory.join(location).components() {
            match component {
                Component::ParentDir => {
                    absolute.pop();
                }
                Component::Normal(name) => absolute.push(name),
                Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
            }
        }
        let text = absolute.to_str().ok_or_else(|| bad_location(location, &"it is not UTF-8"))?;
        let path = Path::parse(text).map_err(|error| bad_location(location, &error))?;
        let store: Arc<dyn ObjectStore> = Arc::<LocalFiles>::clone(&self.local);
        Ok(Place { store, path, root: "/".into(), listing: ListingCost::Free, uploads: None })
    }

    async fn bucket(&self, bucket: &str, options: &Properties) -> Result<Client> {
        let settings = {
            let shared = self.settings.read();
            S3Settings::for_bucket(bucket, &shared, options)?
        };
        if let Some((with, client)) = self.clients.lock().get(bucket)
            && *with == settings
        {
            return Ok(client.clone());
        }
        let store = s3::open(bucket, &settings).await?;
        let client = Client { store: store.clone(), uploads: Some(Uploads(store)) };
        let mut clients = self.clients.lock();
        if clients.len() >= CLIENTS_MAX {
            clients.clear();
        }
        clients.insert(bucket.to_owned(), (settings, client.clone()));
        Ok(client)
    }
}

fn bad_location(location: &str, why: &dyn fmt::Display) -> Error {
    Error::user("INVALID_TABLE_PROPERTY", format!("location \"{location}\" cannot be used: {why}"))
}

/// What a store's failure means to a user, naming the object; credentials never appear.
pub fn store_error(what: &str, error: object_store::Error) -> Error {
    use object_store::Error as Store;
    if let Some(explained) = s3::explain(what, &error) {
        return explained;
    }
    match io_kind(&error) {
        Some(std::io::ErrorKind::NotADirectory) => return not_a_folder(what),
        Some(std::io::ErrorKind::InvalidFilename) => return no_name(what),
        Some(std::io::ErrorKind::PermissionDenied) => {
            return Error::new(ErrorKind::Denied, "PERMISSION_DENIED", format!("no permission for \"{what}\""))
                .with_hint("check the owner and the mode of the file and of its folders");
        }
        _ => {}
    }
    match error {
        Store::InvalidPath { .. } => no_name(what),
        Store::NotFound { .. } => {
            Error::data("HIVE_FILE_NOT_FOUND", format!("file \"{what}\" is not there (any more)"))
                .with_hint("if its files were replaced meanwhile, run the statement again; else the location is wrong")
        }
        Store::PermissionDenied { .. } => {
            Error::new(ErrorKind::Denied, "PERMISSION_DENIED", format!("no permission for \"{what}\""))
                .with_hint("check the policy of the bucket, or the owner of the file")
        }
        Store::Unauthenticated { .. } => Error::new(
            ErrorKind::Denied,
            "PERMISSION_DENIED",
            format!("the store did not accept the credentials for \"{what}\""),
        )
        .with_hint("check the AWS profile or environment, or set 's3.unsigned' = 'true' for public data"),
        other if what.starts_with('/') => Error::new(
            ErrorKind::Unavailable,
            "HIVE_FILESYSTEM_ERROR",
            format!("\"{what}\" could not be used: {}", s3::plain(&other)),
        )
        .with_hint("a link that leads back to itself or a name that is not UTF-8 is to be renamed or moved away"),
        other => Error::new(
            ErrorKind::Unavailable,
            "HIVE_FILESYSTEM_ERROR",
            format!("\"{what}\" could not be reached: {}", s3::plain(&other)),
        )
        .with_hint("check the network, and 's3.endpoint' if the store is not on AWS"),
    }
}

/// A name that the store cannot have.
fn no_name(what: &str) -> Error {
    Error::user("INVALID_NAME", format!("the store can have nothing of the name \"{what}\""))
        .with_hint("names of folders and files have 1 to 255 bytes on a local disk, keys of objects 1,024, and no control characters")
}

/// The location of a table is a file.
pub fn not_a_folder(what: &str) -> Error {
    Error::user("INVALID_TABLE_PROPERTY", format!("\"{what}\" is a file, and a table's location is a folder"))
        .with_hint("name the folder it is in, or read it alone with read_json, read_csv or read_parquet('..')")
}

/// What the file system said, if it was asked.
fn io_kind(error: &object_store::Error) -> Option<std::io::ErrorKind> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(found) = source {
        if let Some(io) = found.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        source = found.source();
    }
    None
}

/// Whether a store does not know its bucket, rather than the object.
pub(super) fn is_without_bucket(error: &object_store::Error) -> bool {
    error.to_string().contains("NoSuchBucket")
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    fn stores() -> Stores {
        Stores::new(Properties::new(), PathBuf::from("/work dir/x"))
    }

    #[tokio::test]
    async fn paths_and_urls_resolve() -> Result<()> {
        let none = Properties::new();
        for (location, shown) in [
            ("data/t/", "/work dir/x/data/t"),
            ("./data/../t", "/work dir/x/t"),
            ("/a//b/", "/a/b"),
            ("file:///a/b%20c/", "/a/b%20c"),
            ("/t/d=2024-01-01 10%3A00", "/t/d=2024-01-01 10%3A00"),
        ] {
            assert_eq!(stores().resolve(location, &none).await?.to_string(), shown, "{location}");
        }
        Ok(())
    }

    #[tokio::test]
    async fn given_stores_come_first_and_unknown_schemes_are_refused() -> Result<()> {
        let stores = stores();
        stores.give("s3", "b", Arc::new(InMemory::new()));
        let place = stores.resolve("s3://b/x/y/", &Properties::new()).await?;
        assert_eq!((place.to_string().as_str(), place.path.as_ref()), ("s3://b/x/y", "x/y"));
        let error = stores.resolve("ftp://b/x", &Properties::new()).await.unwrap_err();
        assert!(error.hint().is_some_and(|hint| hint.contains("s3://")));
        Ok(())
    }

    #[tokio::test]
    async fn a_bucket_is_one_store_by_all_its_names() -> Result<()> {
        let stores = stores();
        stores.give("s3", "b", Arc::new(InMemory::new()));
        for scheme in ["s3", "s3a", "s3n"] {
            assert_eq!(stores.resolve(&format!("{scheme}://b/x"), &Properties::new()).await?.root, "s3://b/");
        }
        Ok(())
    }

    #[test]
    fn a_local_failure_says_nothing_of_the_network() {
        let error = object_store::Error::Generic { store: "LocalFileSystem", source: "a loop".into() };
        let shown = store_error("/t/x", error);
        assert!(shown.hint().is_some_and(|hint| hint.contains("link") && !hint.contains("network")));
    }

    #[tokio::test]
    async fn a_bucket_keeps_its_client_until_its_settings_change() -> Result<()> {
        let stores = stores();
        let at = |endpoint: &str| {
            Properties::from([("s3.endpoint".into(), endpoint.into()), ("s3.unsigned".into(), "true".into())])
        };
        stores.set(at("http://127.0.0.1:1"));
        let none = Properties::new();
        let first = stores.resolve("s3://b/x", &none).await?;
        let second = stores.resolve("s3://b/y", &none).await?;
        assert!(Arc::ptr_eq(&first.store, &second.store));
        stores.set(at("http://127.0.0.1:2"));
        assert!(!Arc::ptr_eq(&first.store, &stores.resolve("s3://b/y", &none).await?.store));
        Ok(())
    }
}
