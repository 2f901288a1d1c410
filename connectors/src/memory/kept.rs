//! The file of a log that outlives its process (`'log.path'`).
//!
//! ```text
//! identity (8 bytes)   then for each unit: length u32, CRC-32C u32, body
//! body: an Arrow IPC stream, a batch per stretch; the unit's name and time of arrival are metadata of its schema, the
//!       last two columns are the stretch's shard and what its rows do
//! ```
//!
//! Invariant: a unit is on disk, whole, before a reader sees it; what a crash cut off at the end is no unit.

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

const IDENTITY_LENGTH: usize = 8;
const HEAD_LENGTH: usize = 8;
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
}

impl KeptLog {
    /// Opens the file of a log or makes it: its identity and what it holds.
    pub(super) fn open(folder: &Path, name: &str, identity: &str) -> Result<(Self, String, Vec<KeptUnit>)> {
        let readable = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
        let file_name: String = name.chars().map(|c| if readable(c) { c } else { '_' }).collect();
        let path = folder.join(format!("{file_name}.log"));
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
        let (identity, units, good) = match bytes.split_at_checked(IDENTITY_LENGTH) {
            Some((known, rest)) => {
                let (units, length) = whole_units(rest)?;
                (String::from_utf8_lossy(known).into_owned(), units, IDENTITY_LENGTH + length)
            }
            None => {
                file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
                file.write_all(identity.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
                (identity.to_owned(), Vec::new(), IDENTITY_LENGTH)
            }
        };
        let good = good as u64;
        file.set_len(good).and_then(|()| file.seek(SeekFrom::Start(good))).map_err(failed)?;
        Ok((Self { path, file }, identity, units))
    }

    /// Appends a unit; it is on disk when this returns.
    pub(super) fn append(&mut self, unit: &KeptUnit) -> Result<()> {
        let body = encoded(unit)?;
        let length = u32::try_from(body.len())
            .map_err(|_| Error::user("EXCEEDED_LOCAL_MEMORY_LIMIT", "an epoch of a memory table is over 4 GB"))?;
        let mut record = Vec::with_capacity(HEAD_LENGTH + body.len());
        record.extend_from_slice(&length.to_le_bytes());
        record.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        record.extend_from_slice(&body);
        let start = self.file.stream_position().map_err(|error| failure(&self.path, &error))?;
        let written = self.file.write_all(&record).and_then(|()| self.file.sync_data());
        written.map_err(|error| {
            // What was written of it must not stand before the next unit.
            let _ = self.file.set_len(start).and_then(|()| self.file.seek(SeekFrom::Start(start)));
            failure(&self.path, &error)
        })
    }
}

fn failure(path: &Path, error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "EXTERNAL", format!("cannot keep the log {}: {error}", path.display()))
        .with_hint("check 'log.path': the folder, its permissions and the space left")
}

/// The units that are whole, and how many bytes they take.
fn whole_units(bytes: &[u8]) -> Result<(Vec<KeptUnit>, usize)> {
    let (mut units, mut rest) = (Vec::new(), bytes);
    while let Some((head, after)) = rest.split_first_chunk::<HEAD_LENGTH>() {
        let [a, b, c, d, checksum @ ..] = *head;
        let Some((body, next)) = after.split_at_checked(u32::from_le_bytes([a, b, c, d]) as usize) else { break };
        if crc32c::crc32c(body) != u32::from_le_bytes(checksum) {
            break;
        }
        units.push(decoded(body)?);
        rest = next;
    }
    Ok((units, bytes.len() - rest.len()))
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
