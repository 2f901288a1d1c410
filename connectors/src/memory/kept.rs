//! The file of a log that outlives its process (`'log.path'`).
//!
//! ```text
//! "HWLOG 2\n"   identity (8 bytes)   shards u32   CRC-32C of these three   then for each unit: head, body
//! head: length of the body u32, CRC-32C of the body u32, CRC-32C of these two u32
//! body: an Arrow IPC stream, a batch per stretch; the unit's name and time of arrival are metadata of its schema, the
//!       last two columns are the stretch's shard and what its rows do
//! ```
//!
//! A crash leaves a part of a unit at the end, or zeros: the file grew and its bytes, or the page with its head, never came.
//! That is nothing, and the next unit is written over it.
//!
//! Invariant: a unit is on disk, whole, before a reader sees it. Reading never changes the file; one of something else, a
//! head that is not what was written and a damaged unit with others behind it are errors.

use std::{
    collections::HashMap,
    fs::{File, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{Array, AsArray, Int8Array, RecordBatch, UInt32Array},
    datatypes::{DataType, Field, Int8Type, Schema, UInt32Type},
    ipc::{reader::StreamReader, writer::StreamWriter},
};
use headwater_engine::{
    error::{Error, ErrorKind, Result},
    message::ChangeBatch,
};

const MAGIC: &[u8] = b"HWLOG 2\n";
/// What the magic of every version begins with.
const MAGIC_NAME: &[u8] = b"HWLOG ";
const IDENTITY_LENGTH: usize = 8;
const START_LENGTH: usize = MAGIC.len() + IDENTITY_LENGTH + 4 + CHECKSUM_LENGTH;
const HEAD_LENGTH: usize = 8 + CHECKSUM_LENGTH;
const CHECKSUM_LENGTH: usize = 4;
/// Bytes of a page, which reach the disk together.
const PAGE: usize = 4096;
const UNIT: &str = "headwater.unit";
const ARRIVAL: &str = "headwater.arrival";
const SHARD: &str = "headwater_shard";
const KIND: &str = "headwater_kind";

/// What one commit appended.
#[derive(Debug)]
pub(super) struct KeptUnit {
    pub(super) unit: String,
    pub(super) arrival_ms: i64,
    /// Rows with their shard, in their order.
    pub(super) parts: Vec<(usize, ChangeBatch)>,
}

/// An open file, which no other process writes to.
#[derive(Debug)]
pub(super) struct KeptLog {
    path: PathBuf,
    file: File,
    /// Bytes of whole units, and whether something else may stand behind them.
    good: u64,
    is_torn: bool,
}

/// What a file said when it was opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: KeptLog,
    pub(super) identity: String,
    pub(super) shards: usize,
    pub(super) units: Vec<KeptUnit>,
}

impl KeptLog {
    /// Opens the file of a log, or makes it with this identity and number of shards.
    pub(super) fn open(folder: &Path, name: &str, identity: &str, shards: usize) -> Result<Opened> {
        let path = folder.join(file_name(name));
        let failed = |error: std::io::Error| failure(&path, &error);
        std::fs::create_dir_all(folder).map_err(failed)?;
        let options = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = options.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = format!("the log {} is in use by another process", path.display());
                return Err(Error::user("INVALID_TABLE_PROPERTY", message)
                    .with_hint("stop that one first, or give this table another 'log.path'"));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        if is_unbegun(&bytes) {
            let shards = u32::try_from(shards).unwrap_or(u32::MAX).to_le_bytes();
            let start = checked([MAGIC, identity.as_bytes(), &shards].concat());
            file.rewind().and_then(|()| file.write_all(&start)).and_then(|()| file.sync_all()).map_err(failed)?;
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
            bytes = start;
        }
        let (identity, shards, good, units) = read(&path, &bytes)?;
        Ok(Opened { file: Self { path, file, good, is_torn: true }, identity, shards, units })
    }

    /// Takes away what stands behind the last whole unit.
    fn tear_off(&mut self) -> Result<()> {
        if self.is_torn {
            let cut = self.file.set_len(self.good).and_then(|()| self.file.seek(SeekFrom::Start(self.good)));
            cut.map_err(|error| failure(&self.path, &error))?;
            self.is_torn = false;
        }
        Ok(())
    }

    /// Appends a unit; it is on disk when this returns.
    pub(super) fn append(&mut self, unit: &KeptUnit) -> Result<()> {
        let body = encoded(unit)?;
        let length = u32::try_from(body.len())
            .map_err(|_| Error::user("EXCEEDED_LOCAL_MEMORY_LIMIT", "an epoch of a memory table is over 4 GB"))?;
        let mut record = checked([length.to_le_bytes(), crc32c::crc32c(&body).to_le_bytes()].concat());
        record.extend_from_slice(&body);
        self.tear_off()?;
        self.is_torn = true;
        let written = self.file.write_all(&record).and_then(|()| self.file.sync_data());
        written.map_err(|error| failure(&self.path, &error))?;
        (self.good, self.is_torn) = (self.good + record.len() as u64, false);
        Ok(())
    }
}

/// A log's name as that of its file: other characters than letters, digits, `-`, `_` and `.` by their bytes.
fn file_name(name: &str) -> String {
    let mut file = String::with_capacity(name.len() + 4);
    for byte in name.bytes() {
        match byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            true => file.push(char::from(byte)),
            false => file.push_str(&format!("%{byte:02X}")),
        }
    }
    file + ".log"
}

/// Bytes with their checksum behind them.
fn checked(mut bytes: Vec<u8>) -> Vec<u8> {
    let checksum = crc32c::crc32c(&bytes).to_le_bytes();
    bytes.extend_from_slice(&checksum);
    bytes
}

/// Bytes before their checksum, if it is theirs.
fn unchecked(bytes: &[u8]) -> Option<&[u8]> {
    let (own, checksum) = bytes.split_last_chunk::<CHECKSUM_LENGTH>()?;
    (crc32c::crc32c(own).to_le_bytes() == *checksum).then_some(own)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Whether a file holds no more than what a crash may have left of its start.
fn is_unbegun(bytes: &[u8]) -> bool {
    let is_part = MAGIC.starts_with(bytes) || (bytes.starts_with(MAGIC) && bytes.len() < START_LENGTH);
    is_part || (bytes.len() <= START_LENGTH && is_zero(bytes))
}

/// Identity and shards of a file, how many of its bytes are whole, and its units.
fn read(path: &Path, bytes: &[u8]) -> Result<(String, usize, u64, Vec<KeptUnit>)> {
    let damaged = |at: usize, what: &str| {
        let message = format!("{} is damaged at byte {at}: {what}", path.display());
        Error::data("EXTERNAL", message).with_hint("bring it back from a copy; without the file the log begins anew")
    };
    if !bytes.starts_with(MAGIC) {
        let what = if bytes.starts_with(MAGIC_NAME) { "of another version" } else { "not a log of this connector" };
        let message = format!("{} is {what}", path.display());
        return Err(Error::user("INVALID_TABLE_PROPERTY", message).with_hint("give the table another 'log.path'"));
    }
    let start = bytes.split_at_checked(START_LENGTH).and_then(|(start, rest)| Some((unchecked(start)?, rest)));
    let (start, mut rest) = start.ok_or_else(|| damaged(0, "its start is not what was written"))?;
    let (identity, shards) = start[MAGIC.len()..].split_at(IDENTITY_LENGTH);
    let shards = shards.iter().rev().fold(0, |shards, byte| shards << 8 | usize::from(*byte));
    let mut units = Vec::new();
    while let Some((head, after)) = rest.split_first_chunk::<HEAD_LENGTH>() {
        let at = bytes.len() - rest.len();
        let [a, b, c, d, checksum @ .., _, _, _, _] = *head;
        if is_zero(rest) {
            break;
        }
        if unchecked(head).is_none() {
            // The file had grown, and not all of the head was on disk; of what follows some pages may have been.
            if is_zero(after) || (is_unwritten(head, at) && !holds_unit(after)) {
                break;
            }
            return Err(damaged(at, "the head of a unit is not what was written"));
        }
        let Some((body, next)) = after.split_at_checked(u32::from_le_bytes([a, b, c, d]) as usize) else { break };
        if crc32c::crc32c(body) != u32::from_le_bytes(checksum) {
            if is_zero(next) {
                break;
            }
            return Err(damaged(at, "a unit is not what was written, and others follow it"));
        }
        units.push(decoded(body).map_err(|error| damaged(at, error.message()))?);
        rest = next;
    }
    let good = (bytes.len() - rest.len()) as u64;
    Ok((String::from_utf8_lossy(identity).into_owned(), shards, good, units))
}

/// Whether a page that a head is on never reached the disk, given where it begins.
fn is_unwritten(head: &[u8; HEAD_LENGTH], at: usize) -> bool {
    let (before, behind) = head.split_at((PAGE - at % PAGE).min(HEAD_LENGTH));
    is_zero(before) || (!behind.is_empty() && is_zero(behind))
}

/// Whether a whole unit begins anywhere among these bytes: then a unit before it had been acknowledged.
fn holds_unit(bytes: &[u8]) -> bool {
    bytes.windows(HEAD_LENGTH).enumerate().any(|(at, head)| {
        let Some([a, b, c, d, checksum @ ..]) = unchecked(head).and_then(|own| own.first_chunk::<8>()) else {
            return false;
        };
        let body = bytes[at + HEAD_LENGTH..].get(..u32::from_le_bytes([*a, *b, *c, *d]) as usize);
        body.is_some_and(|body| crc32c::crc32c(body) == u32::from_le_bytes(*checksum))
    })
}

fn failure(path: &Path, error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "EXTERNAL", format!("cannot keep the log {}: {error}", path.display()))
        .with_hint("check 'log.path': the folder, its permissions and the space left")
}

fn encoded(unit: &KeptUnit) -> Result<Vec<u8>> {
    let Some((_, first)) = unit.parts.first() else { return Err(Error::internal("a unit without rows")) };
    let mut fields: Vec<Arc<Field>> = first.rows.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(SHARD, DataType::UInt32, false)));
    fields.push(Arc::new(Field::new(KIND, DataType::Int8, true)));
    let metadata =
        HashMap::from([(UNIT.to_owned(), unit.unit.clone()), (ARRIVAL.to_owned(), unit.arrival_ms.to_string())]);
    let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
    let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
    for (shard, changes) in &unit.parts {
        let rows = changes.num_rows();
        let mut columns = changes.rows.columns().to_vec();
        columns.push(Arc::new(UInt32Array::from_value(u32::try_from(*shard).unwrap_or(u32::MAX), rows)));
        columns.push(Arc::new(changes.kinds.clone().unwrap_or_else(|| Int8Array::new_null(rows))));
        writer.write(&RecordBatch::try_new(Arc::clone(&schema), columns)?)?;
    }
    Ok(writer.into_inner()?)
}

fn decoded(body: &[u8]) -> Result<KeptUnit> {
    let damaged = || Error::internal("a unit of a kept log is not well formed");
    let reader = StreamReader::try_new(body, None)?;
    let schema = reader.schema();
    let said = |key: &str| schema.metadata().get(key).cloned().ok_or_else(damaged);
    let columns = schema.fields().len().checked_sub(2).ok_or_else(damaged)?;
    let own: Vec<usize> = (0..columns).collect();
    let mut parts = Vec::new();
    for batch in reader {
        let batch = batch?;
        let shards = batch.column(columns).as_primitive_opt::<UInt32Type>().ok_or_else(damaged)?;
        let kinds = batch.column(columns + 1).as_primitive_opt::<Int8Type>().ok_or_else(damaged)?;
        let Some(shard) = shards.values().first() else { continue };
        let rows = batch.project(&own)?;
        let plain = Arc::new(Schema::new(rows.schema().fields().clone()));
        let rows = RecordBatch::try_new(plain, rows.columns().to_vec())?;
        let kinds = (kinds.null_count() == 0).then(|| kinds.clone());
        parts.push((*shard as usize, ChangeBatch::new(rows, kinds)));
    }
    Ok(KeptUnit { unit: said(UNIT)?, arrival_ms: said(ARRIVAL)?.parse().map_err(|_| damaged())?, parts })
}
