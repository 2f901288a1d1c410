//! The catalog in one SQLite file, safe with several processes on it.
//!
//! Invariant: every change is one immediate transaction, so a writer sees what it replaces and no change is lost; the
//! journal is a write-ahead log, so readers never wait. Entries are JSON; the columns beside them are what is searched.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use headwater_engine::{
    catalog::{Catalog, Database, IfExists, Partition, Table, TableName},
    error::{Error, ErrorKind, Result},
};
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::OnceCell;

use super::{
    DEFAULT_DATABASE, changed, database_exists, default_database, is_taken, keeps_default, no_database, no_partition,
    no_table, not_empty, partition_exists, table_exists, to_store,
};

/// How long a writer waits for another one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait before a file is opened again that another process was making.
const BUSY_PAUSE: Duration = Duration::from_millis(10);
/// Version of the layout below, kept in the file.
const LAYOUT: i64 = 1;
const CREATE: &str = "
    CREATE TABLE databases (name TEXT PRIMARY KEY, entry TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE tables (
        database TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, entry TEXT NOT NULL,
        PRIMARY KEY (database, name)
    ) WITHOUT ROWID;
    CREATE TABLE partitions (
        database TEXT NOT NULL, name TEXT NOT NULL, key TEXT NOT NULL, entry TEXT NOT NULL,
        PRIMARY KEY (database, name, key)
    ) WITHOUT ROWID;";

/// The catalog.
#[derive(Debug)]
pub struct SqliteCatalog {
    connection: Arc<Mutex<Connection>>,
    id: OnceCell<String>,
}

impl SqliteCatalog {
    /// Opens the file, making it and its folder if they are not there.
    pub async fn open(path: &Path) -> Result<Self> {
        let started = tokio::time::Instant::now();
        loop {
            let file = path.to_owned();
            if let Some(connection) = blocking(move || connect_at(&file)).await? {
                return Ok(Self { connection: Arc::new(Mutex::new(connection)), id: OnceCell::new() });
            }
            if started.elapsed() > BUSY_TIMEOUT {
                let message =
                    format!("catalog {}: another process has been making it for {BUSY_TIMEOUT:?}", path.display());
                return Err(Error::new(ErrorKind::Unavailable, "EXTERNAL", message)
                    .with_hint("end the process that holds the file, then try again"));
            }
            tokio::time::sleep(BUSY_PAUSE).await;
        }
    }

    /// Opens a file that is there and cannot be written.
    pub async fn open_read_only(path: &Path) -> Result<Self> {
        let file = path.to_owned();
        let connection = blocking(move || {
            connect_to_read(&file).map_err(|error| error.context(format!("catalog {}", file.display())))
        });
        Ok(Self { connection: Arc::new(Mutex::new(connection.await?)), id: OnceCell::new() })
    }

    async fn read<T: Send + 'static>(&self, read: impl FnOnce(&Connection) -> Result<T> + Send + 'static) -> Result<T> {
        let connection = Arc::clone(&self.connection);
        blocking(move || read(&connection.lock())).await
    }

    async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let connection = Arc::clone(&self.connection);
        blocking(move || {
            let mut connection = connection.lock();
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(from_sqlite)?;
            let written = write(&transaction)?;
            transaction.commit().map_err(from_sqlite)?;
            Ok(written)
        })
        .await
    }
}

/// The connection; `None` if another process makes the file right now.
fn connect_at(path: &Path) -> Result<Option<Connection>> {
    let named = |error: Error| error.context(format!("catalog {}", path.display()));
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| named(no_folder(error)))?;
    }
    connect(path).map_err(named)
}

/// A folder that cannot be made is a place that cannot be written, whatever stands in its way.
fn no_folder(error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => error.into(),
        _ => Error::new(ErrorKind::Denied, "PERMISSION_DENIED", error.to_string()),
    }
}

/// A connection that changes nothing, not even the files beside the database if there are none.
fn connect_to_read(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(path, flags).map_err(from_sqlite)?;
    if layout(&connection).is_ok_and(|found| found == LAYOUT) {
        return Ok(connection);
    }
    // Its log may hold what the file does not: then it is read through the log or not at all.
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let is_whole = std::fs::metadata(&log).map_or(true, |log| log.len() == 0);
    let Some(name) = path.to_str().filter(|_| is_whole) else { return Err(unreadable(path)) };
    let name = name.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let connection = Connection::open_with_flags(format!("file:{name}?immutable=1"), flags).map_err(from_sqlite)?;
    match layout(&connection)? {
        LAYOUT => Ok(connection),
        _ => Err(unreadable(path)),
    }
}

fn unreadable(path: &Path) -> Error {
    let message = format!("\"{}\" cannot be written, and is no catalog that this version reads", path.display());
    Error::new(ErrorKind::Denied, "PERMISSION_DENIED", message)
}

fn connect(path: &Path) -> Result<Option<Connection>> {
    let mut connection = Connection::open(path).map_err(from_sqlite)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(from_sqlite)?;
    // Of two processes that begin the log at once, SQLite refuses one without a wait: each waits for the other.
    match connection.pragma_update(None, "journal_mode", "WAL") {
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => return Ok(None),
        begun => begun.map_err(from_sqlite)?,
    }
    connection.pragma_update(None, "synchronous", "FULL").map_err(from_sqlite)?;
    if layout(&connection)? == LAYOUT {
        return Ok(Some(connection));
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(from_sqlite)?;
    match layout(&transaction)? {
        LAYOUT => {}
        0 => {
            transaction.execute_batch(CREATE).map_err(from_sqlite)?;
            put_database(&transaction, &default_database())?;
            transaction.pragma_update(None, "user_version", LAYOUT).map_err(from_sqlite)?;
        }
        newer => {
            return Err(Error::not_supported(format!("the catalog has layout {newer}, this version reads {LAYOUT}"))
                .with_hint("use the version of Headwater that wrote it, or export and import the catalog"));
        }
    }
    transaction.commit().map_err(from_sqlite)?;
    Ok(Some(connection))
}

fn layout(connection: &Connection) -> Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(from_sqlite)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(Error::internal("the catalog's thread ended early")),
    }
}

fn from_sqlite(error: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode as Code;
    let (kind, code) = match error.sqlite_error_code() {
        Some(Code::DatabaseBusy | Code::DatabaseLocked) => (ErrorKind::Unavailable, "EXTERNAL"),
        Some(Code::ReadOnly | Code::PermissionDenied | Code::CannotOpen | Code::AuthorizationForStatementDenied) => {
            (ErrorKind::Denied, "PERMISSION_DENIED")
        }
        Some(Code::DiskFull) => (ErrorKind::Limit, "NO_SPACE"),
        Some(Code::NotADatabase | Code::DatabaseCorrupt) => (ErrorKind::Data, "CATALOG_CORRUPT"),
        Some(Code::SystemIoFailure) => (ErrorKind::Unavailable, "EXTERNAL"),
        _ => (ErrorKind::Internal, "GENERIC_INTERNAL_ERROR"),
    };
    Error::new(kind, code, error.to_string())
}

fn to_entry(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::internal(format!("a catalog entry cannot be written: {error}")))
}

fn from_entry<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|error| Error::data("CATALOG_CORRUPT", format!("a catalog entry cannot be read: {error}")))
}

fn entries<T: DeserializeOwned>(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
) -> Result<Vec<T>> {
    let mut statement = connection.prepare_cached(sql).map_err(from_sqlite)?;
    let rows = statement.query_map(parameters, |row| row.get::<_, String>(0)).map_err(from_sqlite)?;
    rows.map(|row| from_entry(&row.map_err(from_sqlite)?)).collect()
}

fn execute(connection: &Connection, sql: &str, parameters: impl rusqlite::Params) -> Result<usize> {
    connection.prepare_cached(sql).and_then(|mut statement| statement.execute(parameters)).map_err(from_sqlite)
}

fn put_database(connection: &Connection, database: &Database) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO databases (name, entry) VALUES (?1, ?2)";
    execute(connection, sql, params![database.name, to_entry(database)?]).map(drop)
}

fn get_database(connection: &Connection, name: &str) -> Result<Option<Database>> {
    Ok(entries(connection, "SELECT entry FROM databases WHERE name = ?1", [name])?.pop())
}

fn version_of(connection: &Connection, name: &TableName) -> Result<Option<u64>> {
    let sql = "SELECT version FROM tables WHERE database = ?1 AND name = ?2";
    connection
        .query_row(sql, [&name.database, &name.table], |row| row.get::<_, i64>(0).map(i64::cast_unsigned))
        .optional()
        .map_err(from_sqlite)
}

fn put_table(connection: &Connection, table: &Table) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO tables (database, name, version, entry) VALUES (?1, ?2, ?3, ?4)";
    execute(
        connection,
        sql,
        params![table.name.database, table.name.table, table.version.cast_signed(), to_entry(table)?],
    )
    .map(drop)
}

fn put_partition(connection: &Connection, name: &TableName, partition: &Partition) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO partitions (database, name, key, entry) VALUES (?1, ?2, ?3, ?4)";
    let key = to_entry(&partition.values)?;
    execute(connection, sql, params![name.database, name.table, key, to_entry(partition)?]).map(drop)
}

fn is_registered(connection: &Connection, name: &TableName, values: &[Option<String>]) -> Result<bool> {
    let sql = "SELECT 1 FROM partitions WHERE database = ?1 AND name = ?2 AND key = ?3";
    let key = to_entry(&values)?;
    let found = connection.query_row(sql, params![name.database, name.table, key], |_| Ok(()));
    Ok(found.optional().map_err(from_sqlite)?.is_some())
}

/// The partitions that have a location of their own.
fn located(connection: &Connection, name: &TableName) -> Result<Vec<Partition>> {
    let sql = r#"SELECT entry FROM partitions WHERE database = ?1 AND name = ?2 AND entry LIKE '%"location":"%'"#;
    entries(connection, sql, [&name.database, &name.table])
}

/// The catalog's id, if it has got one.
fn identity(connection: &Connection) -> Result<Option<String>> {
    let sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'identity'";
    if connection.query_row(sql, [], |_| Ok(())).optional().map_err(from_sqlite)?.is_none() {
        return Ok(None);
    }
    connection.query_row("SELECT id FROM identity", [], |row| row.get(0)).optional().map_err(from_sqlite)
}

/// The catalog's id; files made before there were any get one now, and older versions do not look at it.
fn make_identity(connection: &Connection) -> Result<String> {
    if let Some(id) = identity(connection)? {
        return Ok(id);
    }
    connection.execute_batch("CREATE TABLE IF NOT EXISTS identity (id TEXT NOT NULL)").map_err(from_sqlite)?;
    let id = uuid::Uuid::new_v4().to_string();
    execute(connection, "INSERT INTO identity (id) VALUES (?1)", [&id])?;
    Ok(id)
}

#[async_trait]
impl Catalog for SqliteCatalog {
    async fn id(&self) -> Result<String> {
        let made = self.id.get_or_try_init(|| async {
            match self.read(identity).await? {
                Some(id) => Ok(id),
                None => self.write(|transaction| make_identity(transaction)).await,
            }
        });
        made.await.cloned()
    }

    async fn databases(&self) -> Result<Vec<Database>> {
        self.read(|connection| entries(connection, "SELECT entry FROM databases ORDER BY name", [])).await
    }

    async fn database(&self, name: &str) -> Result<Option<Database>> {
        let name = name.to_lowercase();
        self.read(move |connection| get_database(connection, &name)).await
    }

    async fn create_database(&self, mut database: Database) -> Result<()> {
        database.name = database.name.to_lowercase();
        self.write(move |transaction| {
            if get_database(transaction, &database.name)?.is_some() {
                return Err(database_exists(&database.name));
            }
            put_database(transaction, &database)
        })
        .await
    }

    async fn replace_database(&self, mut database: Database) -> Result<()> {
        database.name = database.name.to_lowercase();
        self.write(move |transaction| {
            if get_database(transaction, &database.name)?.is_none() {
                return Err(no_database(&database.name));
            }
            put_database(transaction, &database)
        })
        .await
    }

    async fn drop_database(&self, name: &str, cascade: bool) -> Result<()> {
        let name = name.to_lowercase();
        if name == DEFAULT_DATABASE {
            return Err(keeps_default());
        }
        self.write(move |transaction| {
            if execute(transaction, "DELETE FROM databases WHERE name = ?1", [&name])? == 0 {
                return Err(no_database(&name));
            }
            let tables = execute(transaction, "DELETE FROM tables WHERE database = ?1", [&name])?;
            if tables > 0 && !cascade {
                return Err(not_empty(&name));
            }
            execute(transaction, "DELETE FROM partitions WHERE database = ?1", [&name]).map(drop)
        })
        .await
    }

    async fn tables(&self, database: &str) -> Result<Vec<Arc<Table>>> {
        let database = database.to_lowercase();
        self.read(move |connection| {
            if get_database(connection, &database)?.is_none() {
                return Err(no_database(&database));
            }
            let sql = "SELECT entry FROM tables WHERE database = ?1 ORDER BY name";
            Ok(entries(connection, sql, [&database])?.into_iter().map(Arc::new).collect())
        })
        .await
    }

    async fn table(&self, name: &TableName) -> Result<Option<Arc<Table>>> {
        let name = name.clone();
        self.read(move |connection| {
            let sql = "SELECT entry FROM tables WHERE database = ?1 AND name = ?2";
            Ok(entries(connection, sql, [&name.database, &name.table])?.pop().map(Arc::new))
        })
        .await
    }

    async fn create_table(&self, mut table: Table, partitions: Vec<Partition>) -> Result<()> {
        table.version = 1;
        self.write(move |transaction| {
            if get_database(transaction, &table.name.database)?.is_none() {
                return Err(no_database(&table.name.database));
            }
            if version_of(transaction, &table.name)?.is_some() {
                return Err(table_exists(&table.name));
            }
            put_table(transaction, &table)?;
            partitions.iter().try_for_each(|partition| put_partition(transaction, &table.name, partition))
        })
        .await
    }

    async fn replace_table(&self, mut table: Table) -> Result<()> {
        self.write(move |transaction| {
            match version_of(transaction, &table.name)? {
                None => return Err(no_table(&table.name)),
                Some(version) if version != table.version => return Err(changed(&table.name)),
                Some(_) => table.version += 1,
            }
            put_table(transaction, &table)
        })
        .await
    }

    async fn drop_table(&self, name: &TableName) -> Result<bool> {
        let name = name.clone();
        self.write(move |transaction| {
            let key = [&name.database, &name.table];
            execute(transaction, "DELETE FROM partitions WHERE database = ?1 AND name = ?2", key)?;
            Ok(execute(transaction, "DELETE FROM tables WHERE database = ?1 AND name = ?2", key)? > 0)
        })
        .await
    }

    async fn partitions(&self, name: &TableName) -> Result<Vec<Partition>> {
        let name = name.clone();
        self.read(move |connection| {
            if version_of(connection, &name)?.is_none() {
                return Err(no_table(&name));
            }
            let sql = "SELECT entry FROM partitions WHERE database = ?1 AND name = ?2";
            let mut partitions: Vec<Partition> = entries(connection, sql, [&name.database, &name.table])?;
            partitions.sort_by(|left, right| left.values.cmp(&right.values));
            Ok(partitions)
        })
        .await
    }

    async fn add_partitions(&self, name: &TableName, added: Vec<Partition>, exists: IfExists) -> Result<usize> {
        let name = name.clone();
        self.write(move |transaction| {
            let sql = "SELECT entry FROM tables WHERE database = ?1 AND name = ?2";
            let table: Option<Table> = entries(transaction, sql, [&name.database, &name.table])?.pop();
            let table = table.ok_or_else(|| no_table(&name))?;
            let located = located(transaction, &name)?;
            let mut count = 0;
            for partition in added {
                let is_registered = is_registered(transaction, &name, &partition.values)?;
                let found = (is_registered, is_taken(&table, located.iter(), &partition));
                if let Some(partition) = to_store(&name, exists, found, partition)? {
                    put_partition(transaction, &name, &partition)?;
                    count += 1;
                }
            }
            Ok(count)
        })
        .await
    }

    async fn rename_partition(&self, name: &TableName, from: &[Option<String>], to: Partition) -> Result<()> {
        let (name, from) = (name.clone(), from.to_vec());
        self.write(move |transaction| {
            if version_of(transaction, &name)?.is_none() {
                return Err(no_table(&name));
            }
            if to.values != from && is_registered(transaction, &name, &to.values)? {
                return Err(partition_exists(&name, &to.values));
            }
            let sql = "DELETE FROM partitions WHERE database = ?1 AND name = ?2 AND key = ?3";
            if execute(transaction, sql, params![name.database, name.table, to_entry(&from)?])? == 0 {
                return Err(no_partition(&name, &from));
            }
            put_partition(transaction, &name, &to)
        })
        .await
    }

    async fn drop_partitions(&self, name: &TableName, values: &[Vec<Option<String>>]) -> Result<usize> {
        let (name, values) = (name.clone(), values.to_vec());
        self.write(move |transaction| {
            if version_of(transaction, &name)?.is_none() {
                return Err(no_table(&name));
            }
            let sql = "DELETE FROM partitions WHERE database = ?1 AND name = ?2 AND key = ?3";
            let mut count = 0;
            for values in values {
                count += execute(transaction, sql, params![name.database, name.table, to_entry(&values)?])?;
            }
            Ok(count)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn conforms() -> Result<()> {
        let folder = tempfile::tempdir()?;
        super::super::conformance::check(&SqliteCatalog::open(&folder.path().join("a/catalog.db")).await?).await
    }

    #[tokio::test]
    async fn entries_survive_opening_again() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("catalog.db");
        let first = SqliteCatalog::open(&path).await?;
        first.create_database(Database { name: "Kept".into(), ..default_database() }).await?;
        let second = SqliteCatalog::open(&path).await?;
        assert!(second.database("KEPT").await?.is_some());
        assert_eq!(first.id().await?, second.id().await?);
        assert_ne!(first.id().await?, SqliteCatalog::open(&folder.path().join("other.db")).await?.id().await?);
        Ok(())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn many_may_make_the_file_at_once() -> Result<()> {
        let folder = tempfile::tempdir()?;
        for round in 0..100 {
            let path = folder.path().join(format!("{round}.db"));
            let opened = (0..8).map(|_| {
                let path = path.clone();
                tokio::spawn(async move { SqliteCatalog::open(&path).await.map(drop) })
            });
            for opened in futures::future::join_all(opened).await {
                opened.unwrap()?;
            }
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_file_that_is_no_catalog_is_refused_by_name() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("catalog.db");
        std::fs::write(&path, "not a database, just some text that is long enough".repeat(30))?;
        let error = SqliteCatalog::open(&path).await.unwrap_err();
        assert!(error.message().contains("catalog.db"), "{error}");
        assert_eq!(error.code().0, "CATALOG_CORRUPT");
        Ok(())
    }
}
