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

use super::{
    again::Again,
    growing::{Growing, Part, Position},
    source::{Listed, columns_of, is_local},
};
use crate::lake::{
    listing::{LakeFile, Listing},
    provider::LakeTable,
    pruning::AnyFilter,
    scan::Rejects,
};

/// Reads the files of one task.
pub(super) struct FileReader {
    table: LakeTable,
    /// What a file is read for; others end unread.
    wanted: Option<AnyFilter>,
    listed: Arc<Mutex<Listed>>,
    schema: SchemaRef,
    columns: Vec<usize>,
    waiting: VecDeque<SplitStart>,
    open: Vec<OpenSplit>,
    paused: HashSet<SplitId>,
    /// What is to be said before anything more is read.
    news: VecDeque<SourceEvent>,
    growing: Option<Growing>,
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

    pub(super) fn text(self) -> String {
        format!("{},{}", self.rows, self.rejected)
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
    /// The part of a growing file that this is.
    part: Option<Part>,
    modified_ms: i64,
    file: (Arc<Listing>, LakeFile),
    /// Rows of the file before what is read here, and before the last batch.
    begun: u64,
    last: u64,
    /// Reads rows once more.
    again: Second,
}

/// The second reader of a split.
enum Second {
    /// No row has been asked for.
    Unopened,
    Reading(Again),
    /// It met an error, and would meet it again.
    Failed,
}

impl OpenSplit {
    fn offset(&self) -> Offset {
        match &self.part {
            None => Offset::new(self.at.text()),
            Some(part) => Position { at: self.at, ..part.begin }.offset(),
        }
    }
}

impl FileReader {
    /// A reader of these columns, which are at these places of the table's, for rows that are wanted.
    pub(super) fn new(
        (table, wanted): (LakeTable, Option<AnyFilter>),
        listed: Arc<Mutex<Listed>>,
        (schema, columns): (SchemaRef, Vec<usize>),
        growing: Option<Growing>,
    ) -> Self {
        let (waiting, open) = (VecDeque::new(), Vec::new());
        let (paused, news) = (HashSet::new(), VecDeque::new());
        Self { table, wanted, listed, schema, columns, waiting, open, paused, news, growing }
    }

    /// Whether a file may hold a row that is wanted, by the keys of its partition.
    fn is_wanted(&self, listing: &Listing, file: &LakeFile) -> Result<bool> {
        let Some(wanted) = &self.wanted else { return Ok(true) };
        let keys = self.table.keys().iter().map(|key| key.name.as_str());
        let values = listing.partitions[file.partition].values.iter().map(|value| &value.typed);
        Ok(wanted.may_match(keys.zip(values))?)
    }

    /// Position of the file to read from now: the first one that is not paused, opened if none is.
    fn current(&mut self) -> Result<Option<usize>> {
        if let Some(index) = self.open.iter().position(|split| !self.paused.contains(&split.id)) {
            return Ok(Some(index));
        }
        let next = self.waiting.iter().position(|start| !self.paused.contains(&start.split.id));
        let Some(start) = next.and_then(|index| self.waiting.remove(index)) else { return Ok(None) };
        let listed = self.listed.lock();
        let Some(file) = listed.files.get(&start.split.id).cloned() else {
            self.news.push_back(SourceEvent::Ended { split: start.split.id, children: Vec::new() });
            return Ok(None);
        };
        let listing = Arc::clone(&listed.listing);
        drop(listed);
        let position = match &start.at {
            StartAt::TableDefault | StartAt::Beginning => Position::default(),
            StartAt::Offset(offset) => Position::parse(&offset.0)?,
        };
        let grows = is_local(&listing, &file) && self.table.is_by_line(&file);
        if let Some(growing) = self.growing.as_mut().filter(|_| grows) {
            growing.rest(start.split.id, position, (listing, file));
            return Ok(None);
        }
        if !self.is_wanted(&listing, &file)? {
            self.news.push_back(SourceEvent::Ended { split: start.split.id, children: Vec::new() });
            return Ok(None);
        }
        let whole = (start.split.id, At::default(), position.at, None);
        let split = self.open_file((listing, file), whole)?;
        self.open.push(split);
        Ok(Some(self.open.len() - 1))
    }

    /// Starts to read a file, or a part of it: at what has been read before, from where rows are wanted.
    fn open_file(
        &self,
        file: (Arc<Listing>, LakeFile),
        (id, at, from, part): (SplitId, At, At, Option<Part>),
    ) -> Result<OpenSplit> {
        let (rows, rejects) = self.scan(&file, part.as_ref(), &self.columns)?;
        let modified_ms = file.1.modified.timestamp_millis();
        let (begun, last, again) = (at.rows, at.rows, Second::Unopened);
        Ok(OpenSplit { id, rows, rejects, at, from, part, modified_ms, file, begun, last, again })
    }

    /// The rows of a file or a part of it in these columns of the table's, and the records rejected among them.
    fn scan(&self, file: &(Arc<Listing>, LakeFile), part: Option<&Part>, columns: &[usize]) -> Result<Scanned> {
        let rejects = Arc::<Mutex<VecDeque<Rejects>>>::default();
        let range = part.map(|part| part.begin.byte..part.end);
        let scan = self.table.one_file((&file.0, &file.1), range, columns, rejects.clone())?;
        Ok((scan.execute(0, Arc::new(TaskContext::default()))?, rejects))
    }

    /// Waits until it is time to look at the growing files, and opens what has been added to them.
    async fn look(&mut self) -> Result<()> {
        let Some(growing) = &mut self.growing else { return std::future::pending().await };
        let found = growing.look(&self.paused).await?;
        for (resting, part) in found.grown {
            let (listing, mut file) = resting.file;
            file.size = part.end;
            let begun = (resting.id, part.begin.base, part.begin.at, Some(part));
            let split = self.open_file((listing, file), begun)?;
            self.open.push(split);
        }
        self.news.extend(found.news);
        Ok(())
    }

    /// A file has been read: it has ended, or rests until it has grown.
    fn ended(&mut self, split: OpenSplit) {
        match (split.part, &mut self.growing) {
            (Some(part), Some(growing)) => growing.rested(split.id, split.at, part),
            _ => self.news.push_back(SourceEvent::Ended { split: split.id, children: Vec::new() }),
        }
    }

    /// Rows as the job wants them; those before the checkpoint's position are left out.
    fn batch(&self, split: &mut OpenSplit, rows: Option<RecordBatch>) -> Result<Option<SourceBatch>> {
        let count = rows.as_ref().map_or(0, RecordBatch::num_rows);
        let (records, starts) = split.take_rejects(count);
        let skipped = usize::try_from(split.from.rows.saturating_sub(split.at.rows)).unwrap_or(usize::MAX).min(count);
        let skipped_records = split.from.rejected.saturating_sub(split.at.rejected);
        let skipped_records = usize::try_from(skipped_records).unwrap_or(usize::MAX).min(records.len());
        split.at.rows += count as u64;
        split.at.rejected += records.len() as u64;
        let rejected: Vec<RejectedRecord> = records.into_iter().skip(skipped_records).collect();
        let first = split.at.rows - (count - skipped) as u64;
        split.last = first;
        if count == skipped && rejected.is_empty() {
            return Ok(None);
        }
        let rows = match rows {
            Some(rows) => as_wanted(&rows.slice(skipped, count - skipped), &self.schema)?,
            None => RecordBatch::new_empty(self.schema.clone()),
        };
        let arrivals_ms = Some(vec![split.modified_ms; rows.num_rows()]);
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let positions = match starts {
            Some(starts) if starts.len() == count => {
                Positions::Numbers(starts[skipped..].iter().copied().map(number).collect())
            }
            _ => Positions::From(number(first)),
        };
        Ok(Some(SourceBatch {
            split: split.id.clone(),
            data: SourceData::Rows { rows: ChangeBatch::inserts(rows), rejected },
            resume_at: split.offset(),
            positions,
            arrivals_ms,
            lag: None,
        }))
    }
}

type Scanned = (SendableRecordBatchStream, Arc<Mutex<VecDeque<Rejects>>>);

fn as_wanted(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let columns = rows.columns().iter().zip(schema.fields()).map(|(column, field)| {
        if column.data_type() == field.data_type() {
            return Ok(column.clone());
        }
        Ok(cast_with_options(column, field.data_type(), &options)?)
    });
    let columns: Vec<ArrayRef> = columns.collect::<Result<_>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

impl FileReader {
    /// Whether a file that is not paused waits to be opened.
    fn has_waiting(&self) -> bool {
        self.waiting.iter().any(|start| !self.paused.contains(&start.split.id))
    }
}

impl OpenSplit {
    /// Records rejected up to the last row of a batch of so many rows, and where these rows start; at the end of the file,
    /// all that are left.
    fn take_rejects(&self, rows: usize) -> (Vec<RejectedRecord>, Option<Vec<u64>>) {
        let mut rejects = self.rejects.lock();
        let (mut records, mut starts) = (Vec::new(), None);
        while let Some(entry) = rejects.pop_front() {
            records.extend(entry.records.into_iter().map(|record| RejectedRecord {
                raw: record.raw,
                reason: record.reason,
                position: record.offset.to_string(),
            }));
            if entry.rows > 0 && rows > 0 {
                starts = entry.starts;
                break;
            }
        }
        (records, starts)
    }
}

#[async_trait]
impl SplitReader for FileReader {
    async fn next(&mut self) -> Result<SourceEvent> {
        loop {
            if let Some(news) = self.news.pop_front() {
                return Ok(news);
            }
            let Some(index) = self.current()? else {
                if self.news.is_empty() && !self.has_waiting() {
                    self.look().await?;
                }
                continue;
            };
            let read = self.open[index].rows.try_next().await?;
            let is_end = read.is_none();
            let mut split = self.open.remove(index);
            let batch = self.batch(&mut split, read);
            if is_end {
                self.ended(split);
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

    async fn raw_records(&mut self, split: &SplitId, positions: &[i64]) -> Result<Option<Vec<bytes::Bytes>>> {
        let Some(open) = self.open.iter().find(|open| open.id == *split) else { return Ok(None) };
        let starts: Vec<u64> = positions.iter().filter_map(|position| u64::try_from(*position).ok()).collect();
        let found = self.table.records_at((&open.file.0, &open.file.1), &starts).await?;
        Ok(found.filter(|records| records.len() == positions.len()))
    }

    async fn read_again(
        &mut self,
        split: &SplitId,
        rows: &[u32],
        (schema, metadata): (&SchemaRef, &[(usize, String)]),
    ) -> Result<Option<RecordBatch>> {
        let Some(index) = self.open.iter().position(|open| open.id == *split) else { return Ok(None) };
        let open = &self.open[index];
        let first = open.last - open.begun;
        let numbers: Vec<u64> = rows.iter().map(|row| first + u64::from(*row)).collect();
        let mut again = match std::mem::replace(&mut self.open[index].again, Second::Unopened) {
            Second::Failed => {
                self.open[index].again = Second::Failed;
                return Ok(None);
            }
            Second::Reading(again) => again,
            Second::Unopened => {
                let columns = columns_of(&self.table, schema, metadata)?;
                let open = &self.open[index];
                let (rows, rejects) = self.scan(&open.file, open.part.as_ref(), &columns)?;
                Again::new(rows, rejects)
            }
        };
        match again.rows(&numbers).await {
            Ok(found) => {
                self.open[index].again = Second::Reading(again);
                found.map(|rows| as_wanted(&rows, schema)).transpose()
            }
            Err(error) => {
                self.open[index].again = Second::Failed;
                tracing::warn!(%error, %split, "late rows are kept without the columns that no INSERT uses");
                Ok(None)
            }
        }
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
