//! What is registered: databases, tables, views, partitions and the statements that committed to them.
//!
//! Invariant: names are compared without regard to case and stored as first written; every change is one atomic step
//! that fails with [`ErrorKind::Conflict`](crate::error::ErrorKind) when the entry it was based on has changed.
//! The engine knows the trait only; memory and SQLite live in `connectors`.

use std::{collections::BTreeMap, fmt, sync::Arc};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// Ordered key-value texts: table properties, SerDe properties, `WITH` options.
pub type Properties = BTreeMap<String, String>;

/// A table's full name, both parts in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableName {
    /// Database (Trino's schema).
    pub database: String,
    /// Table within it.
    pub table: String,
}

impl TableName {
    /// A name from its parts, folded to lower case.
    pub fn new(database: impl AsRef<str>, table: impl AsRef<str>) -> Self {
        Self { database: database.as_ref().to_lowercase(), table: table.as_ref().to_lowercase() }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.database, self.table)
    }
}

/// A database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// Name in lower case.
    pub name: String,
    /// Free text.
    pub comment: Option<String>,
    /// Where tables without a location of their own go.
    pub location: Option<String>,
    /// `DBPROPERTIES`.
    pub properties: Properties,
}

/// A column of a table, or one of its partition keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Name; compared without regard to case.
    pub name: String,
    /// The type as Hive spells it: `array<struct<a:int>>`, `decimal(10,2)`, `timestamp`; the Arrow type follows from it.
    pub type_text: String,
    /// Free text.
    pub comment: Option<String>,
}

/// How bytes become rows, as the DDL said it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storage {
    /// File format.
    pub format: FileFormat,
    /// SerDe class as written, if the DDL named one.
    pub serde: Option<String>,
    /// `WITH SERDEPROPERTIES`, and what `ROW FORMAT DELIMITED` says, under Hive's names (`field.delim`, ..).
    pub serde_properties: Properties,
    /// Hadoop input format class as written.
    pub input_format: Option<String>,
    /// Hadoop output format class as written.
    pub output_format: Option<String>,
}

/// The formats files of a table can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FileFormat {
    /// JSON values, in any of the shapes the reader knows.
    Json,
    /// Delimited text without quotes (LazySimpleSerDe).
    Text,
    /// CSV with quotes (OpenCSVSerde and our own short form).
    Csv,
    /// Parquet.
    Parquet,
    /// One column that holds the bytes of a line.
    Raw,
}

/// What an entry of the catalog is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TableKind {
    /// Files at a location; dropping the entry leaves them.
    External,
    /// Files of a `CREATE TABLE AS` in a folder chosen for it, under the warehouse or its database's location; dropping
    /// the entry deletes them.
    Managed,
    /// A query, as written, with the database its names are resolved in.
    View {
        /// Query text.
        sql: String,
        /// Database that was in use.
        database: String,
    },
}

/// How the partitions of a table are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartitionDiscovery {
    /// Only what is registered counts (Athena DDL).
    Registered,
    /// Folders are listed on every query (the short form, `path` tables).
    Discovered,
}

/// A table or view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Full name.
    pub name: TableName,
    /// What it is.
    pub kind: TableKind,
    /// Columns in the files, without partition keys.
    pub columns: Vec<Column>,
    /// Partition keys, in folder order.
    pub partition_keys: Vec<Column>,
    /// How bytes become rows.
    pub storage: Storage,
    /// Folder of the files, as written: `s3://bucket/prefix/`, `file:///..` or a path.
    pub location: String,
    /// How partitions are found.
    pub discovery: PartitionDiscovery,
    /// `TBLPROPERTIES`.
    pub properties: Properties,
    /// Free text.
    pub comment: Option<String>,
    /// Counts changes of this entry; a replacement names the version it was based on.
    pub version: u64,
}

/// A registered partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// The raw text of each key's value in key order; `None` is NULL.
    pub values: Vec<Option<String>>,
    /// Folder of its files, when not the one the layout gives.
    pub location: Option<String>,
    /// Columns its files were written with, when older than the table's.
    pub columns: Option<Vec<Column>>,
    /// Partition properties.
    pub properties: Properties,
}

/// What to do with a partition that is registered already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfExists {
    /// Refuse the whole call.
    Fail,
    /// Leave the registered one.
    Keep,
    /// Take the new one.
    Replace,
    /// Take the new one; what is not registered stays so.
    Update,
}

/// Databases, tables, views and partitions, safe with several processes on one catalog.
#[async_trait]
pub trait Catalog: fmt::Debug + Send + Sync {
    /// What tells it from every other catalog, in all processes and for as long as it lasts.
    async fn id(&self) -> Result<String>;
    /// All databases by name.
    async fn databases(&self) -> Result<Vec<Database>>;
    /// One database.
    async fn database(&self, name: &str) -> Result<Option<Database>>;
    /// Adds a database; `SCHEMA_ALREADY_EXISTS` if there is one of that name.
    async fn create_database(&self, database: Database) -> Result<()>;
    /// Replaces comment, location and properties of a database.
    async fn replace_database(&self, database: Database) -> Result<()>;
    /// Removes a database; one that is not empty only with `cascade`.
    async fn drop_database(&self, name: &str, cascade: bool) -> Result<()>;
    /// All tables and views of a database by name.
    async fn tables(&self, database: &str) -> Result<Vec<Arc<Table>>>;
    /// One table or view.
    async fn table(&self, name: &TableName) -> Result<Option<Arc<Table>>>;
    /// Adds a table with its first partitions; `TABLE_ALREADY_EXISTS` if there is one of that name.
    async fn create_table(&self, table: Table, partitions: Vec<Partition>) -> Result<()>;
    /// Replaces an entry if its version is still `table.version`, and counts the version up.
    async fn replace_table(&self, table: Table) -> Result<()>;
    /// Removes an entry and its partitions; `false` if there was none.
    async fn drop_table(&self, name: &TableName) -> Result<bool>;
    /// Registered partitions in the order of their values.
    async fn partitions(&self, name: &TableName) -> Result<Vec<Partition>>;
    /// Registers partitions, all or none; returns how many were added or replaced. The folder that the layout gives a
    /// partition may be that of another one by its location: such a partition is refused, or left out with
    /// [`IfExists::Keep`], since its rows would be those of both.
    async fn add_partitions(&self, name: &TableName, partitions: Vec<Partition>, exists: IfExists) -> Result<usize>;
    /// Gives the partition of these values others, and all that `to` says, in one step; `NOT_FOUND` if there is none,
    /// `ALREADY_EXISTS` if there is one of the new values.
    async fn rename_partition(&self, name: &TableName, from: &[Option<String>], to: Partition) -> Result<()>;
    /// Removes partitions by their values; returns how many there were.
    async fn drop_partitions(&self, name: &TableName, values: &[Vec<Option<String>>]) -> Result<usize>;
}
