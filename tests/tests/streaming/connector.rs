//! A connector over logs and tables in memory, under the names of the tables that use it.
//!
//! Invariant: a log yields the columns that are asked for, whatever it holds.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use headwater_engine::{
    connector::{
        Boundedness, ChangelogMode, Connector, JobContext, Offset, OpenRequest, Sink, Source, SourceData, SourceEvent,
        Split, SplitId, SplitReader, SplitStart, TableSpec,
    },
    error::{Error, Result},
    format::Decoder,
    message::ChangeBatch,
    testing::{MemoryLog, MemoryTable},
};

/// What was read of a table, batch after batch: the split, and how far it was read.
pub(crate) type Reads = Arc<Mutex<Vec<(SplitId, u64)>>>;

/// Logs to read and tables to write, by name.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// What the jobs have read, of all tables.
    pub(crate) reads: Reads,
    pub(crate) logs: Mutex<HashMap<String, MemoryLog>>,
    pub(crate) tables: Mutex<HashMap<String, (MemoryTable, TableSpec)>>,
}

impl Connector for Kept {
    fn name(&self) -> &'static str {
        "kept"
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>> {
        let name = table.options.get("data").unwrap_or(&table.name).clone();
        match self.logs.lock().unwrap().get(&name) {
            Some(log) => Ok(Arc::new(KeptLog(log.clone(), Arc::clone(&self.reads)))),
            None => Err(Error::internal(format!("there are no rows of \"{name}\""))),
        }
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>> {
        let mut tables = self.tables.lock().unwrap();
        let keys: Vec<usize> = table.primary_key.iter().map(|key| table.schema.index_of(key).unwrap()).collect();
        let accepts = if keys.is_empty() { ChangelogMode::Append } else { ChangelogMode::Upsert };
        let new = || (MemoryTable::new(accepts, 1).keyed(keys), table.clone());
        let (table, _) = tables.entry(table.name.clone()).or_insert_with(new);
        Ok(Arc::new(table.clone()))
    }
}

#[derive(Debug)]
struct KeptLog(MemoryLog, Reads);

impl fmt::Display for KeptLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl Source for KeptLog {
    fn boundedness(&self) -> Boundedness {
        self.0.boundedness()
    }

    fn discovery_interval(&self) -> Option<std::time::Duration> {
        self.0.discovery_interval()
    }

    fn discovery_holds_watermark(&self) -> bool {
        self.0.discovery_holds_watermark()
    }

    fn discovery_is_cheap(&self) -> bool {
        self.0.discovery_is_cheap()
    }

    fn decoder(&self, _: SchemaRef) -> Result<Option<Box<dyn Decoder>>> {
        Ok(None)
    }

    async fn splits(&self, job: &JobContext) -> Result<Vec<Split>> {
        self.0.splits(job).await
    }

    async fn open(&self, job: &JobContext, request: OpenRequest) -> Result<Box<dyn SplitReader>> {
        let columns = Arc::clone(&request.columns);
        let reads = Arc::clone(&self.1);
        Ok(Box::new(KeptReader { reader: self.0.open(job, request).await?, columns, reads }))
    }

    async fn acknowledge(&self, job: &JobContext, split: &SplitId, up_to: &Offset) -> Result<()> {
        self.0.acknowledge(job, split, up_to).await
    }
}

#[derive(Debug)]
struct KeptReader {
    reader: Box<dyn SplitReader>,
    columns: SchemaRef,
    reads: Reads,
}

#[async_trait]
impl SplitReader for KeptReader {
    async fn next(&mut self) -> Result<SourceEvent> {
        let mut event = self.reader.next().await?;
        if let SourceEvent::Batch(batch) = &mut event
            && let SourceData::Rows { rows, .. } = &mut batch.data
        {
            let read = (batch.split.clone(), batch.resume_at.0.parse().unwrap());
            self.reads.lock().unwrap().push(read);
            let there = rows.rows.schema();
            let places = self.columns.fields().iter().map(|field| there.index_of(field.name()));
            let kept = rows.rows.project(&places.collect::<Result<Vec<_>, _>>()?)?;
            *rows = ChangeBatch::new(kept, rows.kinds.take());
        }
        Ok(event)
    }

    async fn assign(&mut self, splits: Vec<SplitStart>) -> Result<()> {
        self.reader.assign(splits).await
    }

    fn pause(&mut self, splits: &[SplitId]) {
        self.reader.pause(splits);
    }

    fn resume(&mut self, splits: &[SplitId]) {
        self.reader.resume(splits);
    }
}
