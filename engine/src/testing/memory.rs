//! The reference source and sink: a log of splits and a table, in memory.
//!
//! Invariant: the log yields rows by position alone, and the table keeps what each (epoch, unit) committed once, so a
//! repeated commit shows as nothing and a commit of something else under one name as an error.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use async_trait::async_trait;
use futures::TryStreamExt;
use tokio::sync::Notify;

use crate::{
    connector::{
        Bound, Boundedness, ChangelogMode, CommitFacts, CommitReport, Committable, Cut, Distribution, Guarantee,
        JobContext, Lag, Offset, OpenRequest, OpenUnit, Positions, Prepared, PreparedUnit, RefusedRow, Sink, SinkTask,
        SinkWriter, Source, SourceBatch, SourceData, SourceEvent, Split, SplitId, SplitReader, SplitStart, StartAt,
    },
    error::{Error, Result},
    format::Decoder,
    message::{ChangeBatch, Epoch},
};

#[derive(Debug, Default)]
struct LogState {
    splits: BTreeMap<String, Vec<RecordBatch>>,
    /// Splits that end in others.
    children: BTreeMap<String, Vec<String>>,
    bounded: bool,
    acknowledged: BTreeMap<String, u64>,
}

impl LogState {
    fn split(&self, name: &str) -> Split {
        let parents = self.children.iter().filter(|(_, children)| children.iter().any(|child| child == name));
        Split { parents: parents.map(|(parent, _)| SplitId::new(parent)).collect(), ..Split::new(name) }
    }
}

/// A log of rows in named splits, which may grow while a job reads it.
#[derive(Debug, Clone)]
pub struct MemoryLog {
    state: Arc<Mutex<LogState>>,
    changed: Arc<Notify>,
    batch_rows: usize,
}

impl MemoryLog {
    /// An empty log; a bounded one ends where it ends when it is opened.
    pub fn new(bounded: bool, batch_rows: usize) -> Self {
        let state = LogState { bounded, ..LogState::default() };
        Self { state: Arc::new(Mutex::new(state)), changed: Arc::default(), batch_rows: batch_rows.max(1) }
    }

    /// The same log read in batches of another size.
    pub fn with_batch_rows(&self, batch_rows: usize) -> Self {
        Self { batch_rows: batch_rows.max(1), ..self.clone() }
    }

    /// Adds rows to a split, which is made if there is none.
    pub fn append(&self, split: &str, rows: RecordBatch) {
        self.state().splits.entry(split.to_owned()).or_default().push(rows);
        self.changed.notify_waiters();
    }

    /// Says that a split ends, and that these others, which exist, carry on after it.
    pub fn divide(&self, split: &str, children: &[&str]) {
        let children = children.iter().map(|child| (*child).to_owned()).collect();
        self.state().children.insert(split.to_owned(), children);
        self.changed.notify_waiters();
    }

    /// Says that nothing will be added.
    pub fn close(&self) {
        self.state().bounded = true;
        self.changed.notify_waiters();
    }

    /// How far a split was acknowledged.
    pub fn acknowledged(&self, split: &str) -> u64 {
        self.state().acknowledged.get(split).copied().unwrap_or(0)
    }

    fn state(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What carries on after a split that has ended.
    fn children(&self, split: &SplitId) -> Option<Vec<Split>> {
        let state = self.state();
        let children = state.children.get(&*split.0)?;
        Some(children.iter().map(|child| state.split(child)).collect())
    }

    fn length(&self, split: &SplitId) -> u64 {
        let state = self.state();
        state.splits.get(&*split.0).map_or(0, |rows| rows.iter().map(|rows| rows.num_rows() as u64).sum())
    }

    fn read(&self, split: &SplitId, from: u64, to: u64) -> Option<RecordBatch> {
        let state = self.state();
        let mut start = 0;
        for rows in state.splits.get(&*split.0)? {
            let end = start + rows.num_rows() as u64;
            if from < end && from < to {
                let last = end.min(to).min(from + self.batch_rows as u64);
                return Some(rows.slice((from - start) as usize, (last - from) as usize));
            }
            start = end;
        }
        None
    }
}

impl fmt::Display for MemoryLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory log")
    }
}

#[async_trait]
impl Source for MemoryLog {
    fn boundedness(&self) -> Boundedness {
        if self.state().bounded { Boundedness::Bounded } else { Boundedness::Unbounded }
    }

    fn discovery_interval(&self) -> Option<Duration> {
        Some(Duration::from_millis(20))
    }

    fn discovery_holds_watermark(&self) -> bool {
        true
    }

    fn discovery_is_cheap(&self) -> bool {
        true
    }

    fn decoder(&self, _: SchemaRef) -> Result<Option<Box<dyn Decoder>>> {
        Ok(None)
    }

    async fn splits(&self, _: &JobContext) -> Result<Vec<Split>> {
        let state = self.state();
        Ok(state.splits.keys().map(|name| state.split(name)).collect())
    }

    async fn open(&self, _: &JobContext, request: OpenRequest) -> Result<Box<dyn SplitReader>> {
        let mut reader = LogReader { log: self.clone(), bound: request.bound, splits: VecDeque::new() };
        reader.assign(request.splits).await?;
        Ok(Box::new(reader))
    }

    async fn acknowledge(&self, _: &JobContext, split: &SplitId, up_to: &Offset) -> Result<()> {
        let position = position(up_to)?;
        self.state().acknowledged.insert(split.0.to_string(), position);
        Ok(())
    }
}

fn position(offset: &Offset) -> Result<u64> {
    offset.0.parse().map_err(|_| Error::internal(format!("offset \"{offset}\" is no number")))
}

#[derive(Debug)]
struct OpenSplit {
    split: SplitId,
    next: u64,
    end: Option<u64>,
    told: bool,
    paused: bool,
}

#[derive(Debug)]
struct LogReader {
    log: MemoryLog,
    bound: Bound,
    splits: VecDeque<OpenSplit>,
}

impl LogReader {
    /// What the split in front has to say; it then goes to the back.
    fn poll_split(&mut self) -> Option<SourceEvent> {
        let mut open = self.splits.pop_front()?;
        if open.paused {
            self.splits.push_back(open);
            return None;
        }
        let end = open.end.unwrap_or(u64::MAX);
        let children = self.log.children(&open.split).filter(|_| open.next >= self.log.length(&open.split));
        let event = match self.log.read(&open.split, open.next, end) {
            Some(rows) => {
                let first = open.next;
                open.next += rows.num_rows() as u64;
                open.told = false;
                Some(SourceEvent::Batch(SourceBatch {
                    split: open.split.clone(),
                    positions: Positions::From(first as i64),
                    resume_at: Offset::new(open.next.to_string()),
                    arrivals_ms: None,
                    lag: Some(Lag::Records(self.log.length(&open.split) - open.next)),
                    data: SourceData::Rows { rows: ChangeBatch::inserts(rows), rejected: Vec::new() },
                }))
            }
            None if children.is_some() || self.log.state().bounded => {
                return Some(SourceEvent::Ended { split: open.split, children: children.unwrap_or_default() });
            }
            None if open.end.is_some() && !open.told => {
                open.told = true;
                Some(SourceEvent::ReachedEnd { split: open.split.clone(), resume_at: None })
            }
            None if !open.told => {
                open.told = true;
                Some(SourceEvent::CaughtUp(open.split.clone()))
            }
            None => None,
        };
        self.splits.push_back(open);
        event
    }
}

#[async_trait]
impl SplitReader for LogReader {
    async fn next(&mut self) -> Result<SourceEvent> {
        loop {
            let changed = Arc::clone(&self.log.changed);
            let changed = changed.notified();
            for _ in 0..self.splits.len() {
                if let Some(event) = self.poll_split() {
                    return Ok(event);
                }
            }
            changed.await;
        }
    }

    async fn assign(&mut self, splits: Vec<SplitStart>) -> Result<()> {
        for SplitStart { split, at } in splits {
            let next = match &at {
                StartAt::TableDefault | StartAt::Beginning => 0,
                StartAt::Offset(offset) => position(offset)?,
            };
            let end = (self.bound == Bound::EndNow).then(|| self.log.length(&split.id));
            self.splits.push_back(OpenSplit { split: split.id, next, end, told: false, paused: false });
        }
        Ok(())
    }

    fn pause(&mut self, splits: &[SplitId]) {
        self.splits.iter_mut().filter(|open| splits.contains(&open.split)).for_each(|open| open.paused = true);
    }

    fn resume(&mut self, splits: &[SplitId]) {
        self.splits.iter_mut().filter(|open| splits.contains(&open.split)).for_each(|open| open.paused = false);
    }
}

type Committed = BTreeMap<(Epoch, String), Vec<ChangeBatch>>;

/// A table that keeps what was committed to it.
#[derive(Debug, Clone)]
pub struct MemoryTable {
    committed: Arc<Mutex<Committed>>,
    accepts: ChangelogMode,
    /// Barriers a unit stays open for.
    unit_epochs: u64,
    keys: Vec<usize>,
}

impl MemoryTable {
    /// An empty table whose units close after this many barriers.
    pub fn new(accepts: ChangelogMode, unit_epochs: u64) -> Self {
        Self { committed: Arc::default(), accepts, unit_epochs: unit_epochs.max(1), keys: Vec::new() }
    }

    /// A table whose writers each see all rows of a key.
    #[must_use]
    pub fn keyed(mut self, keys: Vec<usize>) -> Self {
        self.keys = keys;
        self
    }

    fn committed(&self) -> MutexGuard<'_, Committed> {
        self.committed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that is visible, in the order it was committed.
    pub fn changes(&self) -> Vec<ChangeBatch> {
        self.committed().values().flatten().cloned().collect()
    }

    /// Visible rows.
    pub fn rows(&self) -> Vec<RecordBatch> {
        self.changes().into_iter().map(|changes| changes.rows).collect()
    }
}

impl fmt::Display for MemoryTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory table")
    }
}

#[async_trait]
impl Sink for MemoryTable {
    fn accepts(&self) -> ChangelogMode {
        self.accepts
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn distribution(&self) -> Distribution {
        if self.keys.is_empty() { Distribution::Any } else { Distribution::ByKey(self.keys.clone()) }
    }

    async fn check(&self, _: &JobContext, _: SchemaRef) -> Result<()> {
        Ok(())
    }

    async fn writer(&self, job: &JobContext, task: SinkTask, open: Vec<OpenUnit>) -> Result<Box<dyn SinkWriter>> {
        let name = format!("{}-{}", job.generation.0, task.index);
        let closing = open.into_iter().map(|unit| (unit.unit, unit.rows)).collect();
        Ok(Box::new(TableWriter {
            name,
            epochs: self.unit_epochs,
            count: 0,
            since: 0,
            rows: Vec::new(),
            closing,
            open: false,
        }))
    }

    async fn recover(&self, _: &JobContext, facts: &CommitFacts) -> Result<()> {
        let newest = self.committed().keys().map(|(epoch, _)| *epoch).max();
        if newest > facts.published {
            return Err(Error::internal(format!("epoch {newest:?} is visible, but only {facts:?} is published")));
        }
        Ok(())
    }

    async fn commit(&self, _: &JobContext, epoch: Epoch, work: Vec<Committable>) -> Result<CommitReport> {
        let mut report = CommitReport::default();
        for unit in work {
            let rows: Vec<ChangeBatch> = unit.rows.try_collect().await?;
            let count = |rows: &[ChangeBatch]| rows.iter().map(|rows| rows.num_rows() as u64).sum::<u64>();
            if unit.detail != "moved" && unit.detail.parse() != Ok(count(&rows)) {
                return Err(Error::internal(format!(
                    "unit {} has {} rows, said {}",
                    unit.unit,
                    count(&rows),
                    unit.detail
                )));
            }
            report.rows += count(&rows);
            let mut committed = self.committed();
            if committed.keys().any(|(other, name)| *name == unit.unit && *other != epoch) {
                return Err(Error::internal(format!("unit {} was committed in two epochs", unit.unit)));
            }
            committed.insert((epoch, unit.unit), rows);
        }
        Ok(report)
    }
}

#[derive(Debug)]
struct TableWriter {
    name: String,
    epochs: u64,
    count: u64,
    since: u64,
    open: bool,
    rows: Vec<ChangeBatch>,
    closing: Vec<(String, u64)>,
}

#[async_trait]
impl SinkWriter for TableWriter {
    async fn write(&mut self, changes: ChangeBatch) -> Result<Vec<RefusedRow>> {
        self.rows.push(changes);
        Ok(Vec::new())
    }

    async fn prepare(&mut self, _: Epoch, cut: Cut) -> Result<Prepared> {
        let mut units: Vec<PreparedUnit> = std::mem::take(&mut self.closing)
            .into_iter()
            .map(|(unit, rows)| PreparedUnit { unit, rows: Vec::new(), detail: rows.to_string(), closes: true })
            .collect();
        let rows = std::mem::take(&mut self.rows);
        self.open |= !rows.is_empty();
        self.since += 1;
        if self.open {
            let closes = cut == Cut::Final || self.since >= self.epochs;
            let unit = format!("{}-{}", self.name, self.count);
            units.push(PreparedUnit { unit, rows, detail: "moved".to_owned(), closes });
            if closes {
                self.count += 1;
                self.since = 0;
                self.open = false;
            }
        }
        Ok(Prepared { units, refused: Vec::new() })
    }
}
