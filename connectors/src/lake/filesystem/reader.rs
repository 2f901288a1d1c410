//! Files one after another, each from its first row or from where a checkpoint says.
//!
//! Invariant: an offset counts the rows and the rejected records before it; reading a file again gives the same ones.

use std::{
    collections::{HashSet, VecDeque},
    fmt,
    sync::Arc,
};

use arrow::{
    array::ArrayRef,
    compute::{CastOptions, cast_with_options},
    datatypes::SchemaRef,
    record_batch::{RecordBatch, RecordBatchOptions},
};
use async_trait::async_trait;
use datafusion::{
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::ExecutionPlan,
};
use futures::TryStreamExt;
use headwater_engine::{
    connector::{
        Offset, Positions, RejectedRecord, SourceBatch, SourceData, SourceEvent, SplitId, SplitReader, SplitStart,
        StartAt,
    },
    error::{Error, Result},
    message::ChangeBatch,
};
use parking_lot::Mutex;

use super::source::Listed;
use crate::lake::{provider::LakeTable, scan::Rejects};

/// Reads the files of one task.
pub(super) struct FileReader {
    table: LakeTable,
    listed: Arc<Mutex<Listed>>,
    schema: SchemaRef,
    columns: Vec<usize>,
    waiting: VecDeque<SplitStart>,
    open: Vec<OpenSplit>,
    paused: HashSet<SplitId>,
    gone: VecDeque<SplitId>,
}

impl fmt::Debug for FileReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileReader({} open, {} waiting)", self.open.len(), self.waiting.len())
    }
}

/// Rows and rejected records before a position in a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct At {
    pub(super) rows: u64,
    pub(super) rejected: u64,
}

impl At {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let parsed = text
            .split_once(',')
            .and_then(|(rows, rejected)| Some(Self { rows: rows.parse().ok()?, rejected: rejected.parse().ok()? }));
        parsed.ok_or_else(|| Error::internal(format!("\"{text}\" is not a position in a file")))
    }

    fn offset(self) -> Offset {
        Offset::new(format!("{},{}", self.rows, self.rejected))
    }
}

struct OpenSplit {
    id: SplitId,
    rows: SendableRecordBatchStream,
    rejects: Arc<Mutex<VecDeque<Rejects>>>,
    /// What has been read, skipped parts included.
    at: At,
    /// Where the checkpoint says to go on.
    from: At,
    modified_ms: i64,
}

impl FileReader {
    pub(super) fn new(table: LakeTable, listed: Arc<Mutex<Listed>>, schema: SchemaRef, columns: Vec<usize>) -> Self {
        let (waiting, open) = (VecDeque::new(), Vec::new());
        Self { table, listed, schema, columns, waiting, open, paused: HashSet::new(), gone: VecDeque::new() }
    }

    /// Position of the file to read from now: the first one that is not paused, opened if none is.
    fn current(&mut self) -> Result<Option<usize>> {
        if let Some(index) = self.open.iter().position(|split| !self.paused.contains(&split.id)) {
            return Ok(Some(index));
        }
        let next = self.waiting.iter().position(|start| !self.paused.contains(&start.split.id));
        let Some(start) = next.and_then(|index| self.waiting.remove(index)) else { return Ok(None) };
        match self.open_file(&start)? {
            Some(split) => {
                self.open.push(split);
                Ok(Some(self.open.len() - 1))
            }
            None => {
                self.gone.push_back(start.split.id);
                Ok(None)
            }
        }
    }

    /// Starts to read a file; `None` if it is no longer listed.
    fn open_file(&self, start: &SplitStart) -> Result<Option<OpenSplit>> {
        let from = match &start.at {
            StartAt::TableDefault | StartAt::Beginning => At::default(),
            StartAt::Offset(offset) => At::parse(&offset.0)?,
        };
        let listed = self.listed.lock();
        let Some(file) = listed.files.get(&start.split.id) else { return Ok(None) };
        let rejects = Arc::<Mutex<VecDeque<Rejects>>>::default();
        let scan = self.table.one_file(&listed.listing, file, &self.columns, rejects.clone())?;
        let rows = scan.execute(0, Arc::new(TaskContext::default()))?;
        let modified_ms = file.modified.timestamp_millis();
        Ok(Some(OpenSplit { id: start.split.id.clone(), rows, rejects, at: At::default(), from, modified_ms }))
    }

    /// Rows as the job wants them; those before the checkpoint's position are left out.
    fn batch(&self, split: &mut OpenSplit, rows: Option<RecordBatch>) -> Result<Option<SourceBatch>> {
        let count = rows.as_ref().map_or(0, RecordBatch::num_rows);
        let records = split.take_rejects(count);
        let skipped = usize::try_from(split.from.rows.saturating_sub(split.at.rows)).unwrap_or(usize::MAX).min(count);
        let skipped_records = split.from.rejected.saturating_sub(split.at.rejected);
        let skipped_records = usize::try_from(skipped_records).unwrap_or(usize::MAX).min(records.len());
        split.at.rows += count as u64;
        split.at.rejected += records.len() as u64;
        let rejected: Vec<RejectedRecord> = records.into_iter().skip(skipped_records).collect();
        let first = split.at.rows - (count - skipped) as u64;
        if count == skipped && rejected.is_empty() {
            return Ok(None);
        }
        let rows = match rows {
            Some(rows) => self.as_wanted(&rows.slice(skipped, count - skipped))?,
            None => RecordBatch::new_empty(self.schema.clone()),
        };
        let arrivals_ms = Some(vec![split.modified_ms; rows.num_rows()]);
        Ok(Some(SourceBatch {
            split: split.id.clone(),
            data: SourceData::Rows { rows: ChangeBatch::inserts(rows), rejected },
            resume_at: split.at.offset(),
            positions: Positions::From(i64::try_from(first).unwrap_or(i64::MAX)),
            arrivals_ms,
            lag_records: None,
        }))
    }

    fn as_wanted(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let options = CastOptions { safe: false, ..CastOptions::default() };
        let columns = rows.columns().iter().zip(self.schema.fields()).map(|(column, field)| {
            if column.data_type() == field.data_type() {
                return Ok(column.clone());
            }
            Ok(cast_with_options(column, field.data_type(), &options)?)
        });
        let columns: Vec<ArrayRef> = columns.collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

impl OpenSplit {
    /// Records rejected up to the last row of a batch of so many rows; at the end of the file, all that are left.
    fn take_rejects(&self, rows: usize) -> Vec<RejectedRecord> {
        let mut rejects = self.rejects.lock();
        let mut records = Vec::new();
        while let Some(entry) = rejects.pop_front() {
            records.extend(entry.records.into_iter().map(|record| RejectedRecord {
                raw: record.raw,
                reason: record.reason,
                position: record.offset.to_string(),
            }));
            if entry.rows > 0 && rows > 0 {
                break;
            }
        }
        records
    }
}

#[async_trait]
impl SplitReader for FileReader {
    async fn next(&mut self) -> Result<SourceEvent> {
        loop {
            if let Some(split) = self.gone.pop_front() {
                return Ok(SourceEvent::Ended { split, children: Vec::new() });
            }
            let Some(index) = self.current()? else {
                if self.gone.is_empty() {
                    std::future::pending::<()>().await;
                }
                continue;
            };
            let read = self.open[index].rows.try_next().await?;
            let is_end = read.is_none();
            let mut split = self.open.remove(index);
            let batch = self.batch(&mut split, read);
            if is_end {
                self.gone.push_back(split.id);
            } else {
                self.open.insert(index, split);
            }
            if let Some(batch) = batch? {
                return Ok(SourceEvent::Batch(batch));
            }
        }
    }

    async fn assign(&mut self, splits: Vec<SplitStart>) -> Result<()> {
        self.waiting.extend(splits);
        Ok(())
    }

    fn pause(&mut self, splits: &[SplitId]) {
        self.paused.extend(splits.iter().cloned());
    }

    fn resume(&mut self, splits: &[SplitId]) {
        for split in splits {
            self.paused.remove(split);
        }
    }
}
