//! A connector over logs and tables in memory, under the names of the tables that use it.
//!
//! A log holds rows, or for a table with a 'format' payloads and when they arrived.
//!
//! Invariant: a log yields the columns that are asked for, whatever it holds.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
};

use arrow::{
    array::{ArrayRef, AsArray, Int32Array, Int64Array},
    datatypes::{DataType, SchemaRef, TimeUnit},
};
use async_trait::async_trait;
use headwater_connectors::{
    formats::{self, Part, TableFormat},
    options::Options,
};
use headwater_engine::{
    connector::{
        Boundedness, ChangelogMode, Connector, JobContext, MetadataColumn, Offset, OpenRequest, Positions, Sink,
        Source, SourceBatch, SourceData, SourceEvent, Split, SplitId, SplitReader, SplitStart, TableSpec,
    },
    error::{Error, Result},
    format::{Decoder, Payloads},
    message::ChangeBatch,
    testing::{MemoryLog, MemoryTable},
};

/// What was read of a table, batch after batch: the split, and how far it was read.
pub(crate) type Reads = Arc<Mutex<Vec<(SplitId, u64)>>>;

/// The columns of a log of payloads.
pub(crate) const PAYLOAD: &str = "payload";
pub(crate) const ARRIVAL: &str = "arrival";

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

    fn metadata_columns(&self) -> Vec<MetadataColumn> {
        let column = |key, data_type| MetadataColumn { key, data_type, writable: false };
        vec![
            column("timestamp", DataType::Timestamp(TimeUnit::Millisecond, None)),
            column("partition", DataType::Int32),
            column("offset", DataType::Int64),
        ]
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>> {
        let mut options = Options::new(&table.name, &table.options);
        let name = options.text("data").unwrap_or_else(|| table.name.clone());
        let format = formats::from_options(&mut options, &["format"], "", &Part::of_table(table))?;
        options.finish()?;
        match self.logs.lock().unwrap().get(&name) {
            Some(log) => Ok(Arc::new(KeptLog { log: log.clone(), format, reads: Arc::clone(&self.reads) })),
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
struct KeptLog {
    log: MemoryLog,
    format: Option<TableFormat>,
    reads: Reads,
}

impl fmt::Display for KeptLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.log.fmt(f)
    }
}

#[async_trait]
impl Source for KeptLog {
    fn boundedness(&self) -> Boundedness {
        self.log.boundedness()
    }

    fn changelog(&self) -> ChangelogMode {
        self.format.as_ref().map_or(ChangelogMode::Append, TableFormat::changelog)
    }

    fn change_order(&self) -> Option<&'static str> {
        self.format.as_ref().and_then(TableFormat::change_order)
    }

    fn discovery_interval(&self) -> Option<std::time::Duration> {
        self.log.discovery_interval()
    }

    fn discovery_holds_watermark(&self) -> bool {
        self.log.discovery_holds_watermark()
    }

    fn discovery_is_cheap(&self) -> bool {
        self.log.discovery_is_cheap()
    }

    fn decoder(&self, columns: SchemaRef) -> Result<Option<Box<dyn Decoder>>> {
        self.format.as_ref().map(|format| format.decoder(columns)).transpose()
    }

    async fn splits(&self, job: &JobContext) -> Result<Vec<Split>> {
        self.log.splits(job).await
    }

    async fn open(&self, job: &JobContext, request: OpenRequest) -> Result<Box<dyn SplitReader>> {
        let (columns, metadata) = (Arc::clone(&request.columns), request.metadata.clone());
        let (is_encoded, reads) = (self.format.is_some(), Arc::clone(&self.reads));
        Ok(Box::new(KeptReader { reader: self.log.open(job, request).await?, columns, metadata, is_encoded, reads }))
    }

    async fn acknowledge(&self, job: &JobContext, split: &SplitId, up_to: &Offset) -> Result<()> {
        self.log.acknowledge(job, split, up_to).await
    }
}

#[derive(Debug)]
struct KeptReader {
    reader: Box<dyn SplitReader>,
    columns: SchemaRef,
    reads: Reads,
    metadata: Vec<(usize, String)>,
    is_encoded: bool,
}

impl KeptReader {
    fn decode(&self, batch: &mut SourceBatch) {
        let SourceData::Rows { rows, .. } = &batch.data else { return };
        let Positions::From(first) = batch.positions else { return };
        let count = rows.num_rows();
        let (mut buffer, mut ends) = (Vec::new(), Vec::new());
        for payload in rows.rows.column_by_name(PAYLOAD).unwrap().as_binary::<i32>().iter().flatten() {
            buffer.extend_from_slice(payload);
            ends.push(buffer.len());
        }
        let metadata = self.metadata.iter().map(|(_, key)| -> ArrayRef {
            match key.as_str() {
                "timestamp" => Arc::clone(rows.rows.column_by_name(ARRIVAL).unwrap()),
                "partition" => Arc::new(Int32Array::from_value(0, count)),
                _ => Arc::new(Int64Array::from_iter_values(first..first + count as i64)),
            }
        });
        let metadata = metadata.collect();
        batch.data = SourceData::Payloads { payloads: Payloads { buffer: buffer.into(), ends }, metadata };
    }
}

#[async_trait]
impl SplitReader for KeptReader {
    async fn next(&mut self) -> Result<SourceEvent> {
        let mut event = self.reader.next().await?;
        if self.is_encoded {
            if let SourceEvent::Batch(batch) = &mut event {
                self.decode(batch);
            }
        } else if let SourceEvent::Batch(batch) = &mut event
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
