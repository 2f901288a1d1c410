//! What the protocol writes under `_headwater/`, and under which names.
//!
//! Invariant: a record is written once and whole; an unknown field or version is refused, never guessed.

use headwater_engine::{
    catalog::{Partition, Table, TableName},
    error::{Error, Result},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{FOLDER, owner::Owner, statement::StatementId};

/// Version of the records; a larger one is refused.
const VERSION: u32 = 1;

/// First record of a statement; its age is the heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    /// Who runs the statement.
    pub owner: Owner,
    /// When it began, in milliseconds since 1970.
    pub began_ms: i64,
    /// What renews it: changes with each heartbeat.
    pub beat: u64,
}

/// The record that decides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Decision {
    /// The statement has happened.
    Commit(Box<Effect>),
    /// It never will.
    Abort {
        /// Why, for its owner.
        reason: String,
    },
}

/// What a committed statement does.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Effect {
    /// Files to publish.
    pub files: Vec<StagedFile>,
    /// Paths of files that are replaced.
    pub replaces: Vec<String>,
    /// The catalog of the table and the partitions; statements of before had no id of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<String>,
    /// Table to create, for `CREATE TABLE AS`.
    pub creates: Option<Box<Table>>,
    /// Partitions to register.
    pub partitions: Option<Partitions>,
    /// Rows written.
    pub rows: u64,
}

impl Effect {
    /// Whether a catalog is to be changed.
    pub fn registers(&self) -> bool {
        self.creates.is_some() || self.partitions.is_some()
    }

    /// What is to be registered, alone.
    pub fn registration(&self) -> Self {
        let Self { catalog, creates, partitions, .. } = self.clone();
        Self { catalog, creates, partitions, ..Self::default() }
    }
}

/// Partitions to register with a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partitions {
    /// The table.
    pub table: TableName,
    /// Its new partitions; those it has already stay as they are.
    pub added: Vec<Partition>,
}

/// A durable file that nobody sees yet. Paths are those of the store, without a leading `/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StagedFile {
    /// Where it will be.
    pub target: String,
    /// Its bytes.
    pub size: u64,
    /// Where it is now.
    pub staged: Staged,
}

/// Where the bytes of a staged file are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Staged {
    /// A hidden file or object of this path; publishing renames or copies it.
    At(String),
    /// An upload to the target that is not completed; publishing completes it.
    Upload {
        /// Id of the upload.
        id: String,
        /// Ids of its parts, in order.
        parts: Vec<String>,
    },
}

/// An upload that was begun, written beside it so that a crash does not leave it for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenUpload {
    /// Where its object will be.
    pub target: String,
    /// Id of the upload.
    pub id: String,
}

/// Which exclusive statement is the n-th of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Name of the statement.
    pub statement: String,
}

/// The records of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// [`Begin`].
    Begin,
    /// [`Decision`].
    Decision,
    /// The statement's files count from here.
    Done,
    /// An [`Effect`] that is published and waits for its own catalog to register it.
    Unregistered,
}

impl RecordKind {
    const ALL: [Self; 4] = [Self::Begin, Self::Decision, Self::Done, Self::Unregistered];

    fn extension(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::Decision => "decision",
            Self::Done => "done",
            Self::Unregistered => "unregistered",
        }
    }
}

/// The folder of the protocol under a table's folder.
pub fn folder(root: &str) -> String {
    join(root, FOLDER)
}

/// Path of a statement's record.
pub fn path(root: &str, id: StatementId, kind: RecordKind) -> String {
    join(root, &format!("{FOLDER}/{id}.{}", kind.extension()))
}

/// Path of the folder of a statement's staged files.
pub fn staging(root: &str, id: StatementId) -> String {
    join(root, &format!("{FOLDER}/staging/{id}"))
}

/// Path of the folder of a statement's open uploads.
pub fn uploads(root: &str, id: StatementId) -> String {
    join(root, &format!("{FOLDER}/uploads/{id}"))
}

/// Path of the folder of claims.
pub fn claims(root: &str) -> String {
    join(root, &format!("{FOLDER}/claims"))
}

/// Path of the n-th claim.
pub fn claim(root: &str, number: u64) -> String {
    format!("{}/{number:020}", claims(root))
}

/// A path under a folder; the folder may be the store's root.
pub fn join(root: &str, rest: &str) -> String {
    if root.is_empty() { rest.to_owned() } else { format!("{root}/{rest}") }
}

/// Statement and kind of the record at a path.
pub fn parse_path(path: &str) -> Option<(StatementId, RecordKind)> {
    let (name, extension) = path.rsplit('/').next()?.rsplit_once('.')?;
    let kind = RecordKind::ALL.into_iter().find(|kind| kind.extension() == extension)?;
    Some((name.parse().ok()?, kind))
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    record: T,
}

/// The bytes of a record.
pub fn encode<T: Serialize>(record: &T) -> Result<bytes::Bytes> {
    let text = serde_json::to_vec(&Versioned { version: VERSION, record });
    text.map(Into::into).map_err(|error| Error::internal(format!("a commit record could not be written: {error}")))
}

/// A record from its bytes.
pub fn decode<T: DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<T> {
    let wrong = |detail: String| {
        Error::data("HIVE_INVALID_METADATA", format!("commit record \"{path}\" cannot be read: {detail}"))
            .with_hint("it was written by a newer version, or changed by hand; no file was touched")
    };
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    let head: Head = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
    if head.version > VERSION {
        return Err(wrong(format!("its version is {}", head.version)));
    }
    let record: Versioned<T> = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
    Ok(record.record)
}
