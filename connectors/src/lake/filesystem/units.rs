//! The writer: rows to units, and when a unit closes.
//!
//! Invariant: a unit holds rows of one partition; its rows leave for the outbox at each barrier, and it is told to close
//! only there.

use std::{collections::HashMap, time::Duration};

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use headwater_engine::{
    connector::{Cut, JobContext, OpenUnit, Prepared, PreparedUnit, RefusedRow, SinkTask, SinkWriter},
    error::{Error, Result},
    memory::MemoryLease,
    message::{ChangeBatch, Epoch},
    time::Instant,
};
use serde::{Deserialize, Serialize};

use super::{
    options::{Overflow, SinkOptions},
    prefix,
};
use crate::lake::write::partition::{Layout, Values};

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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    File,
    Partition,
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
}

impl Unit {
    fn pending_bytes(&self) -> usize {
        self.pending.iter().map(RecordBatch::get_array_memory_size).sum()
    }

    fn prepared(&mut self, closes: bool) -> Result<PreparedUnit> {
        let rows = std::mem::take(&mut self.pending).into_iter().map(ChangeBatch::inserts).collect();
        Ok(PreparedUnit { unit: self.name.clone(), rows, detail: self.detail.text()?, closes })
    }
}

/// Writes the rows of one task.
#[derive(Debug)]
pub(super) struct UnitWriter {
    options: SinkOptions,
    layout: Layout,
    projection: Vec<usize>,
    job: JobContext,
    task: usize,
    created: u64,
    open: HashMap<Values, Unit>,
    closing: Vec<Unit>,
    partitions: HashMap<Values, Unit>,
    memory: MemoryLease,
}

impl UnitWriter {
    /// A writer that goes on with the units of a checkpoint. `projection` brings a row's columns into the order of the
    /// files, keys last.
    pub(super) fn new(
        options: SinkOptions,
        layout: Layout,
        projection: Vec<usize>,
        job: &JobContext,
        task: &SinkTask,
        open: Vec<OpenUnit>,
    ) -> Result<Self> {
        let mut writer = Self {
            options,
            layout,
            projection,
            job: job.clone(),
            task: task.index,
            created: 0,
            open: HashMap::new(),
            closing: Vec::new(),
            partitions: HashMap::new(),
            memory: job.memory.lease(),
        };
        for OpenUnit { unit, detail, bytes, .. } in open {
            let detail = Detail::parse(&detail)?;
            let unit = Unit { name: unit, detail, bytes, pending: Vec::new() };
            writer.take_up(unit);
        }
        Ok(writer)
    }

    /// Two open files of one partition can meet in one task after a change of parallelism: the second one closes.
    fn take_up(&mut self, unit: Unit) {
        let of_kind = match unit.detail.kind {
            Kind::File => &mut self.open,
            Kind::Partition => &mut self.partitions,
        };
        if of_kind.contains_key(&unit.detail.values) {
            self.closing.push(unit);
        } else {
            of_kind.insert(unit.detail.values.clone(), unit);
        }
    }

    fn new_unit(&mut self, kind: Kind, values: &Values, now: Instant) -> Unit {
        let name = format!("{}-{}-{}", self.job.generation.0, self.task, self.created);
        self.created += 1;
        let evaluated = self.options.prefix.as_ref().and_then(|_| values.first().cloned().flatten());
        let prefix = evaluated.map(|evaluated| prefix::settled(&evaluated));
        let detail = Detail { kind, values: values.clone(), began_ms: now.0, last_ms: now.0, prefix };
        Unit { name, detail, bytes: 0, pending: Vec::new() }
    }

    fn add(&mut self, values: Values, rows: RecordBatch, now: Instant) -> Result<Vec<RefusedRow>> {
        if !self.open.contains_key(&values) {
            if self.open.len() >= self.options.open_max {
                match self.options.overflow {
                    Overflow::Error => return self.refuse(&rows),
                    Overflow::Close => self.close_oldest(),
                }
            }
            let unit = self.new_unit(Kind::File, &values, now);
            self.open.insert(values.clone(), unit);
        }
        let Some(unit) = self.open.get_mut(&values) else { return Ok(Vec::new()) };
        unit.bytes += logical_bytes(&rows);
        unit.detail.last_ms = now.0;
        unit.pending.push(rows);
        if unit.bytes >= self.options.file_bytes
            && let Some(full) = self.open.remove(&values)
        {
            self.closing.push(full);
        }
        Ok(Vec::new())
    }

    fn refuse(&self, rows: &RecordBatch) -> Result<Vec<RefusedRow>> {
        let reason = format!("ActivePartitionLimitExceeded: more than {} partitions are open", self.options.open_max);
        (0..rows.num_rows()).map(|row| RefusedRow::of(rows, row, &reason)).collect()
    }

    fn close_oldest(&mut self) {
        let oldest = self.open.iter().min_by_key(|(_, unit)| unit.detail.last_ms).map(|(values, _)| values.clone());
        if let Some(unit) = oldest.and_then(|values| self.open.remove(&values)) {
            self.closing.push(unit);
        }
    }

    fn is_due(&self, unit: &Unit, now: Instant) -> bool {
        let since = |then: i64| Duration::from_millis(u64::try_from(now.0.saturating_sub(then)).unwrap_or(0));
        since(unit.detail.began_ms) >= self.options.rollover || since(unit.detail.last_ms) >= self.options.inactivity
    }

    /// Declarations of partitions that got a file: begun with it, closed after the delay.
    fn prepare_partitions(&mut self, now: Instant, cut: Cut, prepared: &mut Prepared) -> Result<()> {
        let delay = i64::try_from(self.options.delay.as_millis()).unwrap_or(i64::MAX);
        let due: Vec<Values> = (self.partitions.iter())
            .filter(|(_, unit)| cut == Cut::Final || now.0.saturating_sub(unit.detail.began_ms) >= delay)
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
        let mut unit = self.new_unit(Kind::Partition, values, now);
        prepared.units.push(unit.prepared(false)?);
        self.partitions.insert(values.clone(), unit);
        Ok(())
    }

    fn note_memory(&mut self) {
        let held = self.open.values().chain(&self.closing).map(Unit::pending_bytes).sum();
        self.memory.resize(held);
    }
}

#[async_trait]
impl SinkWriter for UnitWriter {
    async fn write(&mut self, changes: ChangeBatch) -> Result<Vec<RefusedRow>> {
        let now = self.job.clock.now();
        let rows = changes.rows.project(&self.projection)?;
        let mut refused = Vec::new();
        let groups = match &self.options.prefix {
            None => self.layout.deal(&rows)?,
            Some(prefix) => {
                let dealt = prefix.deal(&rows, now)?;
                for (row, reason) in dealt.refused {
                    refused.push(RefusedRow::of(&rows, row as usize, reason)?);
                }
                dealt.groups.into_iter().map(|(evaluated, rows)| (vec![Some(evaluated)], rows)).collect()
            }
        };
        for (values, rows) in groups {
            refused.extend(self.add(values, rows, now)?);
        }
        self.note_memory();
        Ok(refused)
    }

    async fn prepare(&mut self, _epoch: Epoch, cut: Cut) -> Result<Prepared> {
        let now = self.job.clock.now();
        let mut prepared = Prepared::default();
        let due: Vec<Values> = (self.open.iter())
            .filter(|(_, unit)| cut == Cut::Final || self.is_due(unit, now))
            .map(|(values, _)| values.clone())
            .collect();
        for values in due {
            self.closing.extend(self.open.remove(&values));
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

/// Bytes of the values of a batch, without what its arrays share with others.
fn logical_bytes(rows: &RecordBatch) -> u64 {
    let of = |array: &arrow::array::ArrayRef| array.to_data().get_slice_memory_size().unwrap_or_default() as u64;
    rows.columns().iter().map(of).sum()
}
