//! Reading a log: each shard is a split, a row's number its offset.
//!
//! Invariant: an offset names the log it is of, so that one of an earlier process starts again at the beginning.

use std::{collections::VecDeque, fmt, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
        TimestampMillisecondArray,
    },
    compute::cast,
    datatypes::{DataType, SchemaRef},
};
use async_trait::async_trait;
use headwater_engine::{
    connector::{
        Bound, Boundedness, ChangelogMode, JobContext, Lag, Offset, OpenRequest, Positions, ReadsAgain, Source,
        SourceBatch, SourceData, SourceEvent, Split, SplitId, SplitReader, SplitStart, StartAt, TableSpec,
    },
    error::{Error, Result},
    format::{Decoder, Payloads},
    message::ChangeBatch,
};

use super::{
    MemoryOptions, PAYLOAD,
    log::{Log, Stretch},
};

/// A log as a source.
#[derive(Debug)]
pub(super) struct MemorySource {
    table: String,
    options: MemoryOptions,
    is_keyed: bool,
}

impl MemorySource {
    pub(super) fn new(table: &TableSpec, options: MemoryOptions) -> Self {
        Self { table: table.name.clone(), options, is_keyed: !table.primary_key.is_empty() }
    }
}

impl fmt::Display for MemorySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memory {}", self.table)
    }
}

#[async_trait]
impl Source for MemorySource {
    fn boundedness(&self) -> Boundedness {
        if self.options.is_bounded { Boundedness::Bounded } else { Boundedness::Unbounded }
    }

    fn changelog(&self) -> ChangelogMode {
        match &self.options.format {
            Some(format) => format.changelog(),
            None if self.is_keyed => ChangelogMode::Upsert,
            None => ChangelogMode::Append,
        }
    }

    fn change_order(&self) -> Option<&'static str> {
        self.options.format.as_ref().and_then(|format| format.change_order())
    }

    fn change_id(&self) -> Option<&'static str> {
        self.options.format.as_ref().and_then(|format| format.change_id())
    }

    fn may_refuse(&self, data_type: &DataType) -> bool {
        self.options.format.as_ref().is_some_and(|format| format.may_refuse(data_type))
    }

    fn reads_again(&self) -> ReadsAgain {
        if self.options.format.is_some() { ReadsAgain::Payloads } else { ReadsAgain::Never }
    }

    fn decoder(&self, columns: SchemaRef) -> Result<Option<Box<dyn Decoder>>> {
        self.options.format.as_ref().map(|format| format.decoder(columns)).transpose()
    }

    async fn splits(&self, _: &JobContext) -> Result<Vec<Split>> {
        self.options.log.open(&self.options.name)?;
        Ok((0..self.options.log.shards()).map(|shard| Split::new(format!("shard-{shard}"))).collect())
    }

    async fn open(&self, _: &JobContext, request: OpenRequest) -> Result<Box<dyn SplitReader>> {
        self.options.log.open(&self.options.name)?;
        let mut reader = LogReader {
            log: Arc::clone(&self.options.log),
            identity: self.options.log.identity(),
            from_latest: self.options.from_latest,
            ends: request.bound == Bound::EndNow || self.options.is_bounded,
            is_bounded: self.options.is_bounded,
            holds_payloads: self.options.format.is_some(),
            columns: request.columns,
            metadata: request.metadata,
            splits: VecDeque::new(),
        };
        reader.assign(request.splits).await?;
        Ok(Box::new(reader))
    }

    async fn acknowledge(&self, _: &JobContext, _: &SplitId, _: &Offset) -> Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct OpenSplit {
    id: SplitId,
    shard: usize,
    next: u64,
    end: Option<u64>,
    told: bool,
    paused: bool,
}

#[derive(Debug)]
struct LogReader {
    log: Arc<Log>,
    identity: String,
    from_latest: bool,
    ends: bool,
    is_bounded: bool,
    holds_payloads: bool,
    columns: SchemaRef,
    metadata: Vec<(usize, String)>,
    splits: VecDeque<OpenSplit>,
}

impl LogReader {
    /// What the split in front has to say; it then goes to the back.
    fn poll_split(&mut self) -> Result<Option<SourceEvent>> {
        let Some(mut open) = self.splits.pop_front() else { return Ok(None) };
        let read = match open.paused {
            true => None,
            false => self.log.read(open.shard, open.next, open.end.unwrap_or(u64::MAX)),
        };
        let event = match read {
            Some(stretch) => {
                open.next += stretch.changes.num_rows() as u64;
                open.told = false;
                Some(SourceEvent::Batch(self.batch(&open, stretch)?))
            }
            None if open.paused || open.told => None,
            None if self.is_bounded => return Ok(Some(SourceEvent::Ended { split: open.id, children: Vec::new() })),
            None => {
                open.told = true;
                let split = open.id.clone();
                Some(match open.end {
                    Some(_) => SourceEvent::ReachedEnd { split, resume_at: None },
                    None => SourceEvent::CaughtUp(split),
                })
            }
        };
        self.splits.push_back(open);
        Ok(event)
    }

    fn batch(&self, open: &OpenSplit, stretch: Stretch) -> Result<SourceBatch> {
        let rows = stretch.changes.num_rows();
        Ok(SourceBatch {
            split: open.id.clone(),
            resume_at: Offset::new(format!("{}:{}", self.identity, open.next)),
            positions: Positions::From(i64::try_from(stretch.first).unwrap_or(i64::MAX)),
            arrivals_ms: Some(vec![stretch.arrival_ms; rows]),
            lag: Some(Lag::Records(self.log.rows(open.shard).saturating_sub(open.next))),
            data: match self.holds_payloads {
                true => self.payloads(open, &stretch)?,
                false => SourceData::Rows { rows: self.as_wanted(open, &stretch)?, rejected: Vec::new() },
            },
        })
    }

    fn payloads(&self, open: &OpenSplit, stretch: &Stretch) -> Result<SourceData> {
        let stored = stretch.changes.rows.column_by_name(PAYLOAD).and_then(|column| column.as_binary_opt::<i32>());
        let stored = stored.ok_or_else(|| {
            Error::user("INVALID_TABLE_PROPERTY", "a memory table with 'format' reads a log that holds rows")
                .with_hint("give the table that writes to it a 'format' too, or neither")
        })?;
        let (mut buffer, mut ends) = (Vec::new(), Vec::with_capacity(stored.len()));
        for payload in stored.iter().flatten() {
            buffer.extend_from_slice(payload);
            ends.push(buffer.len());
        }
        let metadata = self.metadata.iter().map(|(_, key)| metadata(key, open, stretch)).collect::<Result<_>>()?;
        Ok(SourceData::Payloads { payloads: Payloads { buffer: buffer.into(), ends }, metadata })
    }

    fn as_wanted(&self, open: &OpenSplit, stretch: &Stretch) -> Result<ChangeBatch> {
        let stored = &stretch.changes.rows;
        let column = |(index, field): (usize, &Arc<arrow::datatypes::Field>)| -> Result<ArrayRef> {
            if let Some((_, key)) = self.metadata.iter().find(|(column, _)| *column == index) {
                return metadata(key, open, stretch);
            }
            let schema = stored.schema();
            let found = schema.fields().iter().position(|known| known.name().eq_ignore_ascii_case(field.name()));
            let found = found.ok_or_else(|| {
                let message = format!("column \"{}\" is not one of those written to the memory table", field.name());
                Error::user("COLUMN_NOT_FOUND", message)
            })?;
            Ok(cast(stored.column(found), field.data_type())?)
        };
        let columns = self.columns.fields().iter().enumerate().map(column).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(stored.num_rows()));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.columns), columns, &options)?;
        Ok(ChangeBatch::new(rows, stretch.changes.kinds.clone()))
    }
}

fn metadata(key: &str, open: &OpenSplit, stretch: &Stretch) -> Result<ArrayRef> {
    let rows = stretch.changes.num_rows();
    let numbers = stretch.first..stretch.first + rows as u64;
    Ok(match key {
        "timestamp" => Arc::new(TimestampMillisecondArray::from_value(stretch.arrival_ms, rows)),
        "shard-id" => Arc::new(StringArray::from_iter_values(numbers.map(|_| open.id.0.as_ref()))),
        "sequence-number" => Arc::new(StringArray::from_iter_values(numbers.map(|number| number.to_string()))),
        "partition" => Arc::new(Int32Array::from_value(i32::try_from(open.shard).unwrap_or(i32::MAX), rows)),
        "offset" => {
            Arc::new(Int64Array::from_iter_values(numbers.map(|number| i64::try_from(number).unwrap_or(i64::MAX))))
        }
        other => return Err(Error::internal(format!("a memory table has no metadata \"{other}\""))),
    })
}

#[async_trait]
impl SplitReader for LogReader {
    async fn next(&mut self) -> Result<SourceEvent> {
        let log = Arc::clone(&self.log);
        loop {
            let changed = log.changed.notified();
            for _ in 0..self.splits.len() {
                if let Some(event) = self.poll_split()? {
                    return Ok(event);
                }
            }
            changed.await;
        }
    }

    async fn assign(&mut self, splits: Vec<SplitStart>) -> Result<()> {
        for SplitStart { split, at } in splits {
            let shard = split.id.0.strip_prefix("shard-").and_then(|number| number.parse().ok());
            let shard: usize = shard.ok_or_else(|| Error::internal(format!("\"{}\" is no shard", split.id)))?;
            let rows = self.log.rows(shard);
            let next = match &at {
                StartAt::TableDefault if self.from_latest => rows,
                StartAt::TableDefault | StartAt::Beginning => 0,
                StartAt::Offset(offset) => self.position(offset, rows)?,
            };
            let end = self.ends.then_some(rows);
            self.splits.push_back(OpenSplit { id: split.id, shard, next, end, told: false, paused: false });
        }
        Ok(())
    }

    fn pause(&mut self, splits: &[SplitId]) {
        self.splits.iter_mut().filter(|open| splits.contains(&open.id)).for_each(|open| open.paused = true);
    }

    fn resume(&mut self, splits: &[SplitId]) {
        self.splits.iter_mut().filter(|open| splits.contains(&open.id)).for_each(|open| open.paused = false);
        self.log.changed.notify_waiters();
    }
}

impl LogReader {
    fn position(&self, offset: &Offset, rows: u64) -> Result<u64> {
        let parsed = offset.0.split_once(':').and_then(|(log, row)| Some((log, row.parse().ok()?)));
        let (log, row) = parsed.ok_or_else(|| Error::internal(format!("offset \"{offset}\" is not of a log")))?;
        if log != self.identity {
            return Ok(0);
        }
        if row > rows {
            let message = format!("the log ends at row {rows}, before row {row} of the checkpoint");
            return Err(Error::data("OFFSET_LOST", message).with_hint("bring the file of 'log.path' back from a copy"));
        }
        Ok(row)
    }
}
