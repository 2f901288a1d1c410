//! Rows in shards, in the order they were committed.
//!
//! Invariant: a row keeps its shard and its number; a unit that is appended again changes nothing. A kept log is opened by
//! the first who reads or writes it, never by a plan.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
};

use arrow::compute::take;
use headwater_engine::{
    error::{Error, ErrorKind, Result},
    message::ChangeBatch,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::kept::{KeptLog, KeptUnit, Opened};

/// Bytes of one log, at most.
const BYTES_MAX: usize = 1 << 30;
/// Units that are remembered, so that a repeated commit is seen: far more than one epoch has.
const UNITS_MAX: usize = 4096;
/// Rows read at once.
const BATCH_ROWS: u64 = 8192;

/// Rows of a shard that came together.
#[derive(Debug, Clone)]
pub(super) struct Stretch {
    pub(super) first: u64,
    pub(super) changes: ChangeBatch,
    pub(super) arrival_ms: i64,
}

#[derive(Debug, Default)]
struct Shard {
    stretches: Vec<Stretch>,
    rows: u64,
}

#[derive(Debug, Default)]
struct State {
    shards: Vec<Shard>,
    asked: Option<usize>,
    identity: String,
    bytes: usize,
    units: VecDeque<String>,
    turn: usize,
    /// Where it is kept beyond the process, if it is.
    kept: Option<KeptLog>,
}

/// A log.
#[derive(Debug)]
pub(super) struct Log {
    state: Mutex<State>,
    pub(super) changed: Notify,
    /// The folder that keeps it beyond the process, if one does.
    folder: Option<PathBuf>,
}

impl Log {
    pub(super) fn new(shards: Option<usize>, folder: Option<PathBuf>) -> Self {
        let identity = uuid::Uuid::new_v4().simple().to_string()[..8].to_owned();
        let state = State { shards: empty(shards.unwrap_or(1)), asked: shards, identity, ..State::default() };
        Self { state: Mutex::new(state), changed: Notify::new(), folder }
    }

    /// Opens a kept log, with what earlier processes appended, unless it is open.
    pub(super) fn open(&self, name: &str) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let mut state = self.state.lock();
        if state.kept.is_some() {
            return Ok(());
        }
        let Opened { file, identity, shards, units } =
            KeptLog::open(folder, name, &state.identity, state.shards.len())?;
        if let Some(asked) = state.asked.filter(|asked| *asked != shards) {
            let message = format!("the log \"{name}\" was made with {shards} shards, not {asked}");
            return Err(Error::user("INVALID_TABLE_PROPERTY", message)
                .with_hint("set 'shards' to what it was, or give another 'log.path'"));
        }
        let mut opened =
            State { shards: empty(shards), asked: state.asked, identity, turn: state.turn, ..State::default() };
        for unit in units {
            let bytes = opened.room_for(&unit.parts)?;
            opened.take(unit, bytes)?;
        }
        opened.kept = Some(file);
        *state = opened;
        Ok(())
    }

    /// The folder that keeps it, if one does.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Tells this log from one of the same name in an earlier process.
    pub(super) fn identity(&self) -> String {
        self.state.lock().identity.clone()
    }

    /// Has a table ask for so many shards; says how many there are if that is another number. A kept log that is not
    /// open has any number as yet.
    pub(super) fn ask(&self, shards: usize) -> Option<usize> {
        let mut state = self.state.lock();
        let is_unknown = self.folder.is_some() && state.kept.is_none();
        if state.asked.is_none() && is_unknown {
            (state.asked, state.shards) = (Some(shards), empty(shards));
        }
        let known = state.asked.unwrap_or(state.shards.len());
        (known != shards).then_some(known)
    }

    pub(super) fn shards(&self) -> usize {
        self.state.lock().shards.len()
    }

    /// How many rows a shard has.
    pub(super) fn rows(&self, shard: usize) -> u64 {
        self.state.lock().shards.get(shard).map_or(0, |shard| shard.rows)
    }

    /// Rows of a shard from a number on, up to another.
    pub(super) fn read(&self, shard: usize, from: u64, to: u64) -> Option<Stretch> {
        let state = self.state.lock();
        let stretches = &state.shards.get(shard)?.stretches;
        let index = stretches.partition_point(|stretch| stretch.first <= from).checked_sub(1)?;
        let stretch = &stretches[index];
        let end = stretch.first + stretch.changes.num_rows() as u64;
        let last = end.min(to).min(from + BATCH_ROWS);
        if from >= last {
            return None;
        }
        let (start, length) = ((from - stretch.first) as usize, (last - from) as usize);
        let kinds = stretch.changes.kinds.as_ref().map(|kinds| kinds.slice(start, length));
        let changes = ChangeBatch::new(stretch.changes.rows.slice(start, length), kinds);
        Some(Stretch { first: from, changes, arrival_ms: stretch.arrival_ms })
    }

    /// Appends the rows of a unit, each to its shard (`None`: all to the shard whose turn it is), unless the unit was
    /// appended before. Says how many rows became visible.
    pub(super) fn append(&self, unit: &str, parts: Vec<(Option<Vec<u32>>, ChangeBatch)>, now_ms: i64) -> Result<u64> {
        let mut state = self.state.lock();
        if state.units.iter().any(|known| known == unit) {
            return Ok(0);
        }
        let mut unit = KeptUnit { unit: unit.to_owned(), arrival_ms: now_ms, parts: Vec::new() };
        let mut turn = state.turn;
        for (shards, changes) in parts {
            match shards {
                None => {
                    unit.parts.push((turn % state.shards.len(), changes));
                    turn += 1;
                }
                Some(shards) => {
                    for shard in 0..state.shards.len() {
                        unit.parts.push((shard, rows_of(&changes, &shards, shard)?));
                    }
                }
            }
        }
        unit.parts.retain(|(_, changes)| changes.num_rows() > 0);
        let count = unit.parts.iter().map(|(_, changes)| changes.num_rows() as u64).sum();
        let bytes = state.room_for(&unit.parts)?;
        if count > 0
            && let Some(kept) = &mut state.kept
        {
            kept.append(&unit)?;
        }
        state.turn = turn;
        state.take(unit, bytes)?;
        drop(state);
        self.changed.notify_waiters();
        Ok(count)
    }
}

impl State {
    /// The bytes of rows, if there is room for them.
    fn room_for(&self, parts: &[(usize, ChangeBatch)]) -> Result<usize> {
        // Rows that were read back share one buffer, so that each column counts for its own part of it.
        let bytes: usize = parts.iter().map(|(_, changes)| changes.bytes()).sum();
        if self.bytes + bytes > BYTES_MAX {
            return Err(Error::new(
                ErrorKind::User,
                "EXCEEDED_LOCAL_MEMORY_LIMIT",
                "a memory table holds no more than 1 GB",
            )
            .with_hint("write to a folder with 'connector' = 'filesystem'"));
        }
        Ok(bytes)
    }

    /// Makes a unit's rows visible, which take so many bytes.
    fn take(&mut self, unit: KeptUnit, bytes: usize) -> Result<()> {
        self.bytes += bytes;
        for (index, changes) in unit.parts {
            let shard =
                self.shards.get_mut(index).ok_or_else(|| Error::internal("a unit of a shard that is not there"))?;
            let first = shard.rows;
            shard.rows += changes.num_rows() as u64;
            shard.stretches.push(Stretch { first, changes, arrival_ms: unit.arrival_ms });
        }
        self.units.push_back(unit.unit);
        if self.units.len() > UNITS_MAX {
            self.units.pop_front();
        }
        Ok(())
    }
}

fn empty(shards: usize) -> Vec<Shard> {
    (0..shards.max(1)).map(|_| Shard::default()).collect()
}

fn rows_of(changes: &ChangeBatch, shards: &[u32], shard: usize) -> Result<ChangeBatch> {
    let own = shards.iter().enumerate().filter(|(_, of)| **of as usize == shard).map(|(row, _)| row as u32);
    let rows = arrow::array::UInt32Array::from_iter_values(own);
    let kinds = match &changes.kinds {
        None => None,
        Some(kinds) => Some(arrow::array::AsArray::as_primitive(&take(kinds, &rows, None)?).clone()),
    };
    Ok(ChangeBatch::new(arrow::compute::take_record_batch(&changes.rows, &rows)?, kinds))
}
