//! The one split of a generated table, at its pace.
//!
//! Invariant: an offset is the number of the next row.

use std::{fmt, sync::Arc};

use arrow::{
    array::{RecordBatch, RecordBatchOptions},
    datatypes::SchemaRef,
};
use async_trait::async_trait;
use headwater_engine::{
    connector::{
        Bound, Boundedness, JobContext, Offset, OpenRequest, Positions, Source, SourceBatch, SourceData, SourceEvent,
        Split, SplitId, SplitReader, SplitStart, StartAt,
    },
    error::{Error, Result},
    format::Decoder,
    message::ChangeBatch,
    time::{Clock, Instant},
};

use super::DatagenOptions;

/// Rows of a batch, at most.
const BATCH_ROWS: u64 = 4096;
/// How often rows are made where the pace is slow.
const TICK_MS: u64 = 20;

/// A generated table.
#[derive(Debug)]
pub(super) struct DatagenSource {
    table: String,
    options: DatagenOptions,
}

impl DatagenSource {
    pub(super) fn new(table: String, options: DatagenOptions) -> Self {
        Self { table, options }
    }
}

impl fmt::Display for DatagenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "datagen {}", self.table)
    }
}

#[async_trait]
impl Source for DatagenSource {
    fn boundedness(&self) -> Boundedness {
        if self.options.rows.is_some() { Boundedness::Bounded } else { Boundedness::Unbounded }
    }

    fn decoder(&self, _: SchemaRef) -> Result<Option<Box<dyn Decoder>>> {
        Ok(None)
    }

    async fn splits(&self, _: &JobContext) -> Result<Vec<Split>> {
        Ok(vec![Split::new("rows")])
    }

    async fn open(&self, job: &JobContext, request: OpenRequest) -> Result<Box<dyn SplitReader>> {
        if request.bound == Bound::EndNow && self.options.rows.is_none() {
            let message = format!("table \"{}\" generates rows for ever and has no end to stop at", self.table);
            return Err(Error::user("NOT_SUPPORTED", message).with_hint("give it 'number-of-rows'"));
        }
        let mut reader = Generator {
            options: self.options.clone(),
            columns: request.columns,
            clock: Arc::clone(&job.clock),
            split: None,
            paused: false,
        };
        reader.assign(request.splits).await?;
        Ok(Box::new(reader))
    }

    async fn acknowledge(&self, _: &JobContext, _: &SplitId, _: &Offset) -> Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct Generator {
    options: DatagenOptions,
    columns: SchemaRef,
    clock: Arc<dyn Clock>,
    split: Option<Open>,
    paused: bool,
}

#[derive(Debug)]
struct Open {
    id: SplitId,
    first: u64,
    next: u64,
    started: Instant,
}

impl Generator {
    /// Rows that are due now, from the next one on; 0 if it is too early.
    fn due_rows(&self, open: &Open) -> u64 {
        let left = self.options.rows.map_or(u64::MAX, |rows| rows.saturating_sub(open.next));
        let allowed = match self.options.rows_per_second {
            None => BATCH_ROWS,
            Some(rate) => {
                let elapsed = self.clock.now().since(open.started).as_millis();
                let made = u64::try_from(elapsed * u128::from(rate) / 1000 + 1).unwrap_or(u64::MAX);
                made.saturating_sub(open.next - open.first)
            }
        };
        allowed.min(BATCH_ROWS).min(left)
    }

    fn batch(&self, open: &Open, count: u64) -> Result<SourceBatch> {
        let (now, length) = (self.clock.now(), usize::try_from(count).unwrap_or_default());
        let column = |field: &Arc<arrow::datatypes::Field>| {
            let rule = self.options.fields.iter().find(|rule| rule.is_of(field.name()));
            let rule = rule.ok_or_else(|| Error::internal(format!("no rule for column \"{}\"", field.name())))?;
            rule.column(self.options.seed, open.next, length, now.0)
        };
        let columns = self.columns.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(length));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.columns), columns, &options)?;
        Ok(SourceBatch {
            split: open.id.clone(),
            data: SourceData::Rows { rows: ChangeBatch::inserts(rows), rejected: Vec::new() },
            resume_at: Offset::new((open.next + count).to_string()),
            positions: Positions::From(i64::try_from(open.next).unwrap_or(i64::MAX)),
            arrivals_ms: None,
            lag: None,
        })
    }
}

#[async_trait]
impl SplitReader for Generator {
    async fn next(&mut self) -> Result<SourceEvent> {
        loop {
            let Some(open) = self.split.as_ref().filter(|_| !self.paused) else {
                std::future::pending::<()>().await;
                continue;
            };
            if self.options.rows.is_some_and(|rows| open.next >= rows) {
                let split = open.id.clone();
                self.split = None;
                return Ok(SourceEvent::Ended { split, children: Vec::new() });
            }
            let count = self.due_rows(open);
            if count == 0 {
                let due = self.options.due(open.next - open.first);
                let wait = due.saturating_sub(self.clock.now().since(open.started));
                self.clock.sleep(wait.max(std::time::Duration::from_millis(TICK_MS))).await;
                continue;
            }
            let batch = self.batch(open, count)?;
            if let Some(open) = &mut self.split {
                open.next += count;
            }
            return Ok(SourceEvent::Batch(batch));
        }
    }

    async fn assign(&mut self, splits: Vec<SplitStart>) -> Result<()> {
        for SplitStart { split, at } in splits {
            let next = match &at {
                StartAt::TableDefault | StartAt::Beginning => 0,
                StartAt::Offset(offset) => {
                    let row = offset.0.parse();
                    row.map_err(|_| Error::internal(format!("offset \"{offset}\" is no row")))?
                }
            };
            self.split = Some(Open { id: split.id, first: next, next, started: self.clock.now() });
        }
        Ok(())
    }

    fn pause(&mut self, splits: &[SplitId]) {
        self.paused |= self.split.as_ref().is_some_and(|open| splits.contains(&open.id));
    }

    fn resume(&mut self, splits: &[SplitId]) {
        self.paused &= !self.split.as_ref().is_some_and(|open| splits.contains(&open.id));
    }
}
