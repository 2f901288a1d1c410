//! Reading: splits, where to start in them, and what comes out.
//!
//! Invariant: an [`Offset`] names a whole service record; rows of one record never straddle two batches, so that
//! resuming at a batch's `resume_at` neither loses nor repeats a row.

use std::{fmt, sync::Arc, time::Duration};

use arrow::{
    array::{Array, ArrayRef, RecordBatch, StringArray},
    datatypes::{DataType, SchemaRef},
};
use async_trait::async_trait;
use datafusion::physical_plan::PhysicalExpr;
use serde::{Deserialize, Serialize};

use crate::{
    connector::JobContext,
    error::Result,
    format::{Decoder, Payloads},
    message::ChangeBatch,
};

/// A readable table. A cheap handle; no I/O before [`Source::splits`].
#[async_trait]
pub trait Source: fmt::Debug + fmt::Display + Send + Sync {
    /// Whether reading ends by itself (`scan.bounded.mode`, a file list, a row count).
    fn boundedness(&self) -> Boundedness;

    /// What the rows do: inserts only, or a changelog (CDC formats).
    fn changelog(&self) -> super::ChangelogMode {
        super::ChangelogMode::Append
    }

    /// The text column by which changes of one key are ordered where rows may come in another order (carriers of CDC
    /// records); the decoder fills it when it is asked for.
    fn change_order(&self) -> Option<&'static str> {
        None
    }

    /// The text column that names a change, where the rows are the changes themselves and may come more than once; the
    /// decoder fills it when it is asked for. Has [`Source::change_order`] beside it.
    fn change_id(&self) -> Option<&'static str> {
        None
    }

    /// How often [`Source::splits`] is asked again while running; `None` means never.
    fn discovery_interval(&self) -> Option<Duration> {
        None
    }

    /// Whether a watermark waits for a discovery that began after it was computed (Kafka: new partitions may hold older
    /// rows). Files do not: what appears later is late. Kinesis does not: children are known in band.
    fn discovery_holds_watermark(&self) -> bool {
        false
    }

    /// Whether a discovery may begin ten times within its interval while a watermark waits for one.
    fn discovery_is_cheap(&self) -> bool {
        false
    }

    /// Whether some value of a column of this type makes its payload malformed.
    fn may_refuse(&self, _: &DataType) -> bool {
        false
    }

    /// How rows that were read with some of the columns can be had again with all of them.
    fn reads_again(&self) -> ReadsAgain {
        ReadsAgain::Never
    }

    /// The same source without the splits of which no row can pass any of these filters over `schema`, the table's declared
    /// columns by name: such a split ends at once, unread. `None` when every split has to be read.
    fn narrowed(&self, _filters: &[Arc<dyn PhysicalExpr>], _schema: &SchemaRef) -> Option<Arc<dyn Source>> {
        None
    }

    /// A decoder of this table's payloads into `columns` (the physical columns that are used, a subset of the
    /// declared ones); `None` when the source yields ready rows.
    fn decoder(&self, columns: SchemaRef) -> Result<Option<Box<dyn Decoder>>>;

    /// Every split there is now, in the order they should be read (files: oldest first). A split that has been read to
    /// its end stays in the list as long as the outside still has it: its checkpoint entry goes when it leaves.
    async fn splits(&self, job: &JobContext) -> Result<Vec<Split>>;

    /// Whether a split of a checkpoint is still a part of what the table reads, as it is declared now; `origin` is how the
    /// source called itself when the checkpoint was taken (empty: not known). Of a split that is not, nothing more is read.
    fn keeps(&self, _split: &SplitId, _origin: &str) -> bool {
        true
    }

    /// One client for all splits of one source task.
    async fn open(&self, job: &JobContext, request: OpenRequest) -> Result<Box<dyn SplitReader>>;

    /// Tells the system that rows of `split` before `up_to` are in a published checkpoint. Repeats and steps back are
    /// harmless. Never decides where reading resumes.
    async fn acknowledge(&self, job: &JobContext, split: &SplitId, up_to: &Offset) -> Result<()>;
}

/// How rows can be had again with other columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadsAgain {
    /// Not at all: all columns are read from the start where they may be wanted.
    Never,
    /// They come as payloads, which are decoded once more.
    Payloads,
    /// From [`SplitReader::read_again`].
    Reader,
}

/// Whether a source ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundedness {
    /// Every split ends; then the watermark goes to the maximum.
    Bounded,
    /// It goes on until the job stops.
    Unbounded,
}

/// Name of a split, unique within its table and stable over restarts: `topic-3`, a shard id, a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SplitId(pub Arc<str>);

impl SplitId {
    /// A split id.
    pub fn new(id: impl AsRef<str>) -> Self {
        Self(Arc::from(id.as_ref()))
    }
}

impl fmt::Display for SplitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A unit of a source that one reader reads in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Its name.
    pub id: SplitId,
    /// What tells a changed split from the same one (a file's size and etag); empty when it cannot change.
    /// A split that comes back with another version is a new split: a source that ignores overwrites keeps the old
    /// version in its list.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Splits that must end before this one is read (resharding); those no longer listed count as ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<SplitId>,
}

impl Split {
    /// A split without version and parents.
    pub fn new(id: impl AsRef<str>) -> Self {
        Self { id: SplitId::new(id), version: String::new(), parents: Vec::new() }
    }
}

/// Opaque resume position within a split, as text; only the source that made it reads it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Offset(pub Arc<str>);

impl Offset {
    /// An offset from its text.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(Arc::from(text.as_ref()))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where reading a split starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartAt {
    /// As the table's options say; the job has never seen the table.
    TableDefault,
    /// At its first record: it appeared while the job was running, or between two runs.
    Beginning,
    /// After what a checkpoint holds.
    Offset(Offset),
}

/// Where reading stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Where the table's options say; never for an unbounded table.
    Table,
    /// At the end that is there when the split is opened (`--once`): [`SourceEvent::ReachedEnd`] follows.
    EndNow,
}

/// A split with its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitStart {
    /// The split.
    pub split: Split,
    /// Where to start.
    pub at: StartAt,
}

/// What a source task asks its reader for.
#[derive(Debug, Clone)]
pub struct OpenRequest {
    /// The first splits of this task; more may be assigned later. May be empty.
    pub splits: Vec<SplitStart>,
    /// Where reading stops.
    pub bound: Bound,
    /// The columns that are used, in declared order: ready rows have exactly these.
    pub columns: SchemaRef,
    /// The metadata among them, as (index in `columns`, key), ascending: payload batches carry these arrays in this order.
    pub metadata: Vec<(usize, String)>,
    /// Index of this task, and how many there are.
    pub task: usize,
    /// How many tasks read the table.
    pub tasks: usize,
}

/// Reads the splits of one source task. Dropping it closes its client.
#[async_trait]
pub trait SplitReader: fmt::Debug + Send {
    /// What comes next; waits while there is nothing, for ever if no split is open. Cancel-safe: a dropped call has
    /// taken nothing. Splits take turns fairly; one split's events keep their order.
    async fn next(&mut self) -> Result<SourceEvent>;

    /// Adds splits; they are opened with the bound of the request.
    async fn assign(&mut self, splits: Vec<SplitStart>) -> Result<()>;

    /// Rows of the last batch of a split once more, by their index in it, ascending, with these columns of the table and the
    /// metadata among them; `None` where that cannot be. Asked before anything else is read.
    async fn read_again(
        &mut self,
        _split: &SplitId,
        _rows: &[u32],
        _columns: (&SchemaRef, &[(usize, String)]),
    ) -> Result<Option<RecordBatch>> {
        Ok(None)
    }

    /// The bytes that rows of the last batch of a split came as, by their positions, ascending; `None` where there are none.
    /// Asked before anything else is read.
    async fn raw_records(&mut self, _split: &SplitId, _positions: &[i64]) -> Result<Option<Vec<bytes::Bytes>>> {
        Ok(None)
    }

    /// The job stops: takes no more from clients. Splits that are named are read until they have reached their end; after
    /// that the last barrier goes. Called once, and only for a system whose records this process itself accepts.
    async fn close(&mut self) -> Result<Vec<SplitId>> {
        Ok(Vec::new())
    }

    /// Stops yielding batches of these splits until resumed (watermark alignment). Unknown ones are ignored.
    fn pause(&mut self, splits: &[SplitId]);

    /// Takes up paused splits again.
    fn resume(&mut self, splits: &[SplitId]);
}

/// What a reader says.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every event is a batch; boxing it would cost an allocation each")]
pub enum SourceEvent {
    /// Rows of one split.
    Batch(SourceBatch),
    /// The split has no more for now. Said whenever a split with earlier batches runs dry, and once for one that is
    /// empty when opened; a batch takes it back.
    CaughtUp(SplitId),
    /// Under [`Bound::EndNow`]: the end that was there at the start is reached; the split itself goes on, and its
    /// watermark stays. Said once, after its last batch.
    ReachedEnd {
        /// The split.
        split: SplitId,
        /// Where a later run resumes, when that is beyond the last batch (records without rows).
        resume_at: Option<Offset>,
    },
    /// The split has ended for good; its watermark leaves the minimum once `children` are open.
    Ended {
        /// The split.
        split: SplitId,
        /// Splits that carry on (resharding), already known to be listed.
        children: Vec<Split>,
    },
}

/// Rows of one split, at most a few megabytes.
#[derive(Debug)]
pub struct SourceBatch {
    /// The split.
    pub split: SplitId,
    /// Rows, or payloads to decode.
    pub data: SourceData,
    /// Where to resume once these rows are in a checkpoint.
    pub resume_at: Offset,
    /// Position of each payload (or ready row), for `"t$rejected"` and `"t$late"`.
    pub positions: Positions,
    /// When the system received each payload (or ready row), in milliseconds since 1970; `None` when it does not say,
    /// then the time of reading counts.
    pub arrivals_ms: Option<Vec<i64>>,
    /// How far these are from the end of the split, if known.
    pub lag: Option<Lag>,
}

/// How far reading is from the end of a split, as its system counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lag {
    /// Records that lie behind.
    Records(u64),
    /// Milliseconds between the arrival of what was read and now.
    Millis(u64),
}

/// What a batch holds.
#[derive(Debug)]
pub enum SourceData {
    /// Bytes for the table's decoder.
    Payloads {
        /// One payload a record.
        payloads: Payloads,
        /// Values of the requested metadata columns, one a payload.
        metadata: Vec<ArrayRef>,
    },
    /// Ready rows with the requested columns; `rejected` are records that could not become rows.
    Rows {
        /// The rows.
        rows: ChangeBatch,
        /// Raw bytes, position and reason of what could not be read.
        rejected: Vec<RejectedRecord>,
    },
}

impl SourceData {
    /// How many records these are, those included that could not become rows.
    pub fn records(&self) -> usize {
        match self {
            SourceData::Payloads { payloads, .. } => payloads.len(),
            SourceData::Rows { rows, rejected } => rows.num_rows() + rejected.len(),
        }
    }
}

/// A record that a source with ready rows could not turn into rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRecord {
    /// Its bytes.
    pub raw: bytes::Bytes,
    /// Why.
    pub reason: String,
    /// Its position.
    pub position: String,
}

/// Positions of records within a split.
#[derive(Debug, Clone)]
pub enum Positions {
    /// Consecutive numbers from this one.
    From(i64),
    /// A number each.
    Numbers(Vec<i64>),
    /// A text each.
    Texts(StringArray),
}

impl Positions {
    /// The position of record `index` as text.
    pub fn text(&self, index: usize) -> String {
        match self {
            Positions::From(first) => (first + index as i64).to_string(),
            Positions::Numbers(numbers) => numbers.get(index).map(i64::to_string).unwrap_or_default(),
            Positions::Texts(texts) if index < texts.len() => texts.value(index).to_owned(),
            Positions::Texts(_) => String::new(),
        }
    }
}
