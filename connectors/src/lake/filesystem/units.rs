//! Units: files that will be, and when each closes.
//!
//! Invariant: a unit holds rows of one partition; its rows leave for the outbox at each barrier, and it is told to close
//! only there.

use std::{collections::HashMap, time::Duration};

use arrow::record_batch::RecordBatch;
use headwater_engine::{
    connector::{Cut, JobContext, OpenUnit, Prepared, PreparedUnit, SinkTask},
    error::{Error, Result},
    memory::MemoryLease,
    message::{ChangeBatch, batch_bytes},
    time::{Instant, Watermark},
};
use serde::{Deserialize, Serialize};

use super::{
    deliver,
    options::{ObjectNames, Overflow, SinkOptions, Trigger},
    partition_time::TimeExtractor,
    prefix,
};
use crate::lake::write::partition::Values;

/// What a unit is for, and what its commit needs; kept in the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Detail {
    /// File of rows, or declaration that a partition is complete.
    pub(super) kind: Kind,
    /// The partition.
    pub(super) values: Values,
    /// When it began, in milliseconds since 1970.
    pub(super) began_ms: i64,
    /// When it last got a row.
    pub(super) last_ms: i64,
    /// What stands before the file's name instead of the partition's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) prefix: Option<String>,
    /// Arrival of its oldest row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) oldest_ms: Option<i64>,
    /// The part of an object's name that is its own, where names are Firehose's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) object: Option<String>,
}

/// What becomes of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// A file of the table's rows.
    File,
    /// A file of rows that the table would not take.
    Error,
    /// The declaration that a partition is complete.
    Partition,
}

/// Rows on their way into a unit.
#[derive(Debug)]
pub(super) struct Portion {
    /// File or error.
    pub(super) kind: Kind,
    /// The partition, or the evaluated prefix.
    pub(super) values: Values,
    /// Columns of the file.
    pub(super) rows: RecordBatch,
    /// Arrival of the oldest of them.
    pub(super) oldest_ms: i64,
    /// Whether `values` is a prefix.
    pub(super) has_prefix: bool,
}

impl Detail {
    pub(super) fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text)
            .map_err(|error| Error::internal(format!("a file's detail in the checkpoint cannot be read: {error}")))
    }

    fn text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Error::internal(format!("a file's detail: {error}")))
    }
}

#[derive(Debug)]
struct Unit {
    name: String,
    detail: Detail,
    bytes: u64,
    pending: Vec<RecordBatch>,
    pending_bytes: usize,
}

impl Unit {
    fn prepared(&mut self, closes: bool) -> Result<PreparedUnit> {
        self.pending_bytes = 0;
        let rows = std::mem::take(&mut self.pending).into_iter().map(ChangeBatch::inserts).collect();
        Ok(PreparedUnit { unit: self.name.clone(), rows, detail: self.detail.text()?, closes })
    }
}

/// The units of one task.
#[derive(Debug)]
pub(super) struct Units {
    options: SinkOptions,
    /// Names of the partition keys.
    keys: Vec<String>,
    job: JobContext,
    task: usize,
    /// The INSERT: several may write one folder.
    insert: String,
    created: u64,
    open: HashMap<(Kind, Values), Unit>,
    closing: Vec<Unit>,
    partitions: HashMap<Values, Unit>,
    watermark: Watermark,
    memory: MemoryLease,
}

impl Units {
    /// The units of a checkpoint, taken up again.
    pub(super) fn new(
        (options, keys): (SinkOptions, Vec<String>),
        job: &JobContext,
        task: &SinkTask,
        open: Vec<OpenUnit>,
    ) -> Result<Self> {
        let mut units = Self {
            options,
            keys,
            job: job.clone(),
            task: task.index,
            insert: deliver::plain(&task.insert),
            created: 0,
            open: HashMap::new(),
            closing: Vec::new(),
            partitions: HashMap::new(),
            watermark: Watermark::MIN,
            memory: job.memory.lease(),
        };
        for OpenUnit { unit, detail, bytes, .. } in open {
            let detail = Detail::parse(&detail)?;
            let unit = Unit { name: unit, detail, bytes, pending: Vec::new(), pending_bytes: 0 };
            units.take_up(unit);
        }
        Ok(units)
    }

    /// Two open files of one partition can meet in one task after a change of parallelism: the second one closes.
    fn take_up(&mut self, unit: Unit) {
        let values = unit.detail.values.clone();
        let is_taken = match unit.detail.kind {
            Kind::Partition => self.partitions.contains_key(&values),
            kind => self.open.contains_key(&(kind, values.clone())),
        };
        match unit.detail.kind {
            _ if is_taken => self.closing.push(unit),
            Kind::Partition => drop(self.partitions.insert(values, unit)),
            kind => drop(self.open.insert((kind, values), unit)),
        }
    }

    fn new_unit(&mut self, kind: Kind, values: &Values, has_prefix: bool, now: Instant) -> Unit {
        let name = format!("{}-{}-{}-{}", self.job.generation.0, self.task, self.created, self.insert);
        self.created += 1;
        let evaluated = values.first().filter(|_| has_prefix).cloned().flatten();
        let is_named = kind != Kind::Partition && self.options.object_names == ObjectNames::Firehose;
        let detail = Detail {
            kind,
            values: values.clone(),
            began_ms: now.0,
            last_ms: now.0,
            prefix: evaluated.map(|evaluated| prefix::settled(&evaluated)),
            oldest_ms: None,
            object: is_named.then(|| uuid::Uuid::new_v4().to_string()),
        };
        Unit { name, detail, bytes: 0, pending: Vec::new(), pending_bytes: 0 }
    }

    /// Adds rows; `false` when that would be one partition too many, and the sink says that this is an error.
    pub(super) fn add(&mut self, portion: Portion, now: Instant) -> bool {
        let Portion { kind, values, rows, oldest_ms, has_prefix } = portion;
        let key = (kind, values);
        if !self.open.contains_key(&key) {
            if self.open.keys().filter(|(open, _)| *open == kind).count() >= self.options.open_max {
                match self.options.overflow {
                    Overflow::Error if kind == Kind::File => return false,
                    Overflow::Error | Overflow::Close => self.close_oldest(kind),
                }
            }
            let unit = self.new_unit(kind, &key.1, has_prefix, now);
            self.open.insert(key.clone(), unit);
        }
        let Some(unit) = self.open.get_mut(&key) else { return true };
        let bytes = batch_bytes(&rows);
        unit.bytes += bytes as u64;
        unit.pending_bytes += bytes;
        unit.detail.last_ms = now.0;
        unit.detail.oldest_ms = Some(unit.detail.oldest_ms.map_or(oldest_ms, |known| known.min(oldest_ms)));
        unit.pending.push(rows);
        if unit.bytes >= self.options.file_bytes
            && let Some(full) = self.open.remove(&key)
        {
            self.closing.push(full);
        }
        true
    }

    fn close_oldest(&mut self, kind: Kind) {
        let of_kind = self.open.iter().filter(|((open, _), _)| *open == kind);
        let oldest = of_kind.min_by_key(|(_, unit)| unit.detail.last_ms).map(|(key, _)| key.clone());
        if let Some(unit) = oldest.and_then(|key| self.open.remove(&key)) {
            self.closing.push(unit);
        }
    }

    fn is_due(&self, unit: &Unit, now: Instant) -> bool {
        let since = |then: i64| Duration::from_millis(u64::try_from(now.0.saturating_sub(then)).unwrap_or(0));
        let has_passed = match &self.options.trigger {
            Trigger::PartitionTime(extractor) if !self.options.policies.is_empty() => {
                self.has_passed(extractor, &unit.detail.values)
            }
            Trigger::PartitionTime(_) | Trigger::ProcessTime => false,
        };
        has_passed
            || since(unit.detail.began_ms) >= self.options.rollover
            || since(unit.detail.last_ms) >= self.options.inactivity
    }

    /// Whether a partition is complete: some time after it began, or once the watermark has passed its time.
    fn is_complete(&self, unit: &Unit, now: Instant, cut: Cut) -> bool {
        match &self.options.trigger {
            Trigger::ProcessTime => {
                let delay = i64::try_from(self.options.delay.as_millis()).unwrap_or(i64::MAX);
                cut == Cut::Final || now.0.saturating_sub(unit.detail.began_ms) >= delay
            }
            Trigger::PartitionTime(extractor) => self.has_passed(extractor, &unit.detail.values),
        }
    }

    /// Whether no later row belongs to a partition; one whose values are no time is complete at the end of all input.
    fn has_passed(&self, extractor: &TimeExtractor, values: &Values) -> bool {
        let delay = i64::try_from(self.options.delay.as_micros()).unwrap_or(i64::MAX);
        match extractor.micros(&self.keys, values) {
            Some(time) => time.saturating_add(delay) <= self.watermark.0,
            None => self.watermark == Watermark::MAX,
        }
    }

    /// Declarations of partitions that got a file: begun with it, closed when they are complete.
    fn prepare_partitions(&mut self, now: Instant, cut: Cut, prepared: &mut Prepared) -> Result<()> {
        let due: Vec<Values> = (self.partitions.iter())
            .filter(|(_, unit)| self.is_complete(unit, now, cut))
            .map(|(values, _)| values.clone())
            .collect();
        for values in due {
            if let Some(mut unit) = self.partitions.remove(&values) {
                prepared.units.push(unit.prepared(true)?);
            }
        }
        Ok(())
    }

    fn declare(&mut self, values: &Values, now: Instant, prepared: &mut Prepared) -> Result<()> {
        if self.options.policies.is_empty() || self.partitions.contains_key(values) {
            return Ok(());
        }
        let mut unit = self.new_unit(Kind::Partition, values, false, now);
        prepared.units.push(unit.prepared(false)?);
        self.partitions.insert(values.clone(), unit);
        Ok(())
    }

    /// Counts what is held against the budget.
    pub(super) fn note_memory(&mut self) {
        let held = self.open.values().chain(&self.closing).map(|unit| unit.pending_bytes).sum();
        self.memory.resize(held);
    }

    /// No later row is older.
    pub(super) fn on_watermark(&mut self, watermark: Watermark) {
        self.watermark = self.watermark.max(watermark);
    }

    /// What came since the last barrier, and what closes.
    pub(super) fn prepare(&mut self, cut: Cut) -> Result<Prepared> {
        let now = self.job.clock.now();
        let mut prepared = Prepared::default();
        let due: Vec<(Kind, Values)> = (self.open.iter())
            .filter(|(_, unit)| cut == Cut::Final || self.is_due(unit, now))
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            self.closing.extend(self.open.remove(&key));
        }
        for mut unit in std::mem::take(&mut self.closing) {
            let is_file = unit.detail.kind == Kind::File;
            prepared.units.push(unit.prepared(true)?);
            if is_file {
                self.declare(&unit.detail.values, now, &mut prepared)?;
            }
        }
        for unit in self.open.values_mut().filter(|unit| !unit.pending.is_empty()) {
            prepared.units.push(unit.prepared(false)?);
        }
        self.prepare_partitions(now, cut, &mut prepared)?;
        merge_repeats(&mut prepared.units);
        self.note_memory();
        Ok(prepared)
    }
}

/// A declaration that begins and closes at one barrier is named once.
fn merge_repeats(units: &mut Vec<PreparedUnit>) {
    let closing: std::collections::HashSet<String> =
        units.iter().filter(|unit| unit.closes).map(|unit| unit.unit.clone()).collect();
    units.retain(|unit| unit.closes || !closing.contains(&unit.unit));
}
