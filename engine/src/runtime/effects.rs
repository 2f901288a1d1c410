//! What a task does to the checkpoint store, and what it tells the coordinator at a barrier.
//!
//! Invariant: every file named in an acknowledgement has been written before it is sent.

use std::collections::BTreeMap;

use arrow::{array::RecordBatch, datatypes::SchemaRef};

use crate::{
    accounts::rejected_schema,
    checkpoint::{
        files,
        log::Log,
        manifest::{Segment, SplitState, StateFile, UnitSegment},
        paths::DataFolder,
    },
    connector::RefusedRow,
    error::{Error, Result},
    message::{Barrier, Epoch, Generation},
    operator::{Observation, Traffic},
    time::{Clock, Instant, Watermark},
};
use std::sync::Arc;

/// State of one operator task at a barrier.
#[derive(Debug)]
pub(super) struct OperatorAck {
    pub(super) node: String,
    pub(super) task: usize,
    pub(super) fingerprint: String,
    pub(super) watermark: Watermark,
    pub(super) tables: BTreeMap<String, Vec<StateFile>>,
    pub(super) observed: Observation,
}

/// Units of one sink writer at a barrier.
#[derive(Debug)]
pub(super) struct SinkAck {
    pub(super) node: String,
    pub(super) task: usize,
    pub(super) units: Vec<UnitAck>,
    pub(super) rows: u64,
    pub(super) refused: u64,
}

/// One unit of a sink writer at a barrier.
#[derive(Debug)]
pub(super) struct UnitAck {
    pub(super) unit: String,
    pub(super) detail: String,
    pub(super) closes: bool,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) segment: Option<UnitSegment>,
}

/// Splits of one source task at a barrier.
#[derive(Debug)]
pub(super) struct SourceAck {
    pub(super) node: String,
    pub(super) splits: Vec<SplitState>,
    pub(super) emitted: Watermark,
}

/// Everything one task did for an epoch.
#[derive(Debug, Default)]
pub(super) struct AckParts {
    pub(super) operators: Vec<OperatorAck>,
    /// Rows that passed each operator since the barrier before, by node name.
    pub(super) traffic: Vec<(String, Traffic)>,
    pub(super) sinks: Vec<SinkAck>,
    pub(super) source: Option<SourceAck>,
    pub(super) segments: Vec<(String, Segment)>,
}

/// One task's acknowledgement of a barrier.
#[derive(Debug)]
pub(super) struct TaskAck {
    pub(super) barrier: Barrier,
    pub(super) parts: AckParts,
}

/// A task's hand on the checkpoint store.
#[derive(Debug)]
pub(super) struct Effects {
    log: Log,
    clock: Arc<dyn Clock>,
    /// When the event came that the task works on.
    at: Instant,
    generation: Generation,
    /// The epoch being filled.
    epoch: Epoch,
    task: String,
    files: u64,
    parts: AckParts,
}

impl Effects {
    pub(super) fn new(log: Log, clock: Arc<dyn Clock>, generation: Generation, epoch: Epoch, task: String) -> Self {
        let at = clock.now();
        Self { log, clock, at, generation, epoch, task, files: 0, parts: AckParts::default() }
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// An event has come.
    pub(super) fn begin(&mut self) {
        self.at = self.clock.now();
    }

    /// When the event came that the task works on: what functions of the clock say of all its rows.
    pub(super) fn at(&self) -> Instant {
        self.at
    }

    pub(super) fn parts(&mut self) -> &mut AckParts {
        &mut self.parts
    }

    /// The acknowledgement of a barrier; the next epoch begins.
    pub(super) fn acknowledge(&mut self, barrier: Barrier) -> TaskAck {
        self.epoch = barrier.epoch.next();
        TaskAck { barrier, parts: std::mem::take(&mut self.parts) }
    }

    /// Writes batches of one schema as a file; its path and size.
    pub(super) async fn write(
        &mut self,
        folder: DataFolder,
        name: &str,
        schema: &SchemaRef,
        batches: &[RecordBatch],
    ) -> Result<(String, u64)> {
        self.files += 1;
        let rest = format!("{}-{name}-{}", self.task, self.files);
        let path = self.log.paths().data(folder, self.generation, self.epoch, &rest);
        let bytes = files::encode(schema, batches)?;
        let size = bytes.len() as u64;
        let store = self.log.store();
        self.log.retrying(|| store.put(&path, bytes.clone())).await?;
        Ok((path, size))
    }

    /// Copies a file of spilled state; its path, rows and size.
    pub(super) async fn copy_state(&mut self, name: &str, from: &std::path::Path) -> Result<(String, u64, u64)> {
        let bytes = tokio::fs::read(from)
            .await
            .map_err(|error| Error::from(error).context(format!("spilled state \"{}\"", from.display())))?;
        let bytes = bytes::Bytes::from(bytes);
        let rows = files::decode(&from.display().to_string(), bytes.clone())?;
        let rows = rows.iter().map(|batch| batch.num_rows() as u64).sum();
        self.files += 1;
        let rest = format!("{}-{name}-{}", self.task, self.files);
        let path = self.log.paths().data(DataFolder::State, self.generation, self.epoch, &rest);
        let size = bytes.len() as u64;
        let store = self.log.store();
        self.log.retrying(|| store.put(&path, bytes.clone())).await?;
        Ok((path, rows, size))
    }

    /// Writes rows of an accounting table.
    pub(super) async fn write_segment(&mut self, table: &str, batches: &[RecordBatch]) -> Result<()> {
        let Some(first) = batches.first() else { return Ok(()) };
        let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        let (path, _) = self.write(DataFolder::Accounts, table, &first.schema(), batches).await?;
        let segment = Segment { path, rows, at: self.clock.now() };
        self.parts.segments.push((table.to_owned(), segment));
        Ok(())
    }

    /// Writes rows a sink refused.
    pub(super) async fn write_refused(&mut self, table: &str, refused: &[RefusedRow]) -> Result<()> {
        if refused.is_empty() {
            return Ok(());
        }
        let batch = refused_batch(refused, self.clock.now().0)?;
        self.write_segment(&format!("{table}$rejected"), &[batch]).await
    }
}

/// Refused rows as rows of `"t$rejected"`; their split is `sink`.
pub(super) fn refused_batch(refused: &[RefusedRow], now_ms: i64) -> Result<RecordBatch> {
    use arrow::array::{BinaryArray, StringArray, TimestampMillisecondArray};
    let raw = BinaryArray::from_iter_values(refused.iter().map(|row| row.raw.as_bytes()));
    let reason = StringArray::from_iter_values(refused.iter().map(|row| row.reason.as_str()));
    let split = StringArray::from_iter_values(refused.iter().map(|_| "sink"));
    let offset = StringArray::new_null(refused.len());
    let arrival = TimestampMillisecondArray::from_value(now_ms, refused.len());
    let columns: Vec<arrow::array::ArrayRef> =
        vec![Arc::new(raw), Arc::new(reason), Arc::new(split), Arc::new(offset), Arc::new(arrival)];
    RecordBatch::try_new(rejected_schema(), columns).map_err(Error::from)
}
