//! The files one task has open: rows in, staged files out, within a budget of memory and a number of partitions.
//!
//! Invariant: a file that is closed is never opened again; a partition that goes on gets its next file.

use std::{collections::HashMap, sync::Arc};

use arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use headwater_engine::error::Result;

use super::{
    Limits, WriteFormat,
    arranged::Arranged,
    encode::{self, FileEncoder},
    partition::{Layout, Values},
};
use crate::lake::commit::{StagedFile, StagedWriter, Transaction};

/// Bytes collected before they are sent to the staged file.
const SEND_BYTES: usize = 1 << 20;
/// Files that are being made durable at once, per task.
const CLOSING_MAX: usize = 16;

/// What a statement's tasks share.
#[derive(Debug)]
pub struct Job {
    /// The statement.
    pub transaction: Arc<Transaction>,
    /// Format of its files.
    pub format: WriteFormat,
    /// Columns of its files.
    pub schema: SchemaRef,
    /// Where its partitions are.
    pub layout: Layout,
    /// Bounds of each task.
    pub limits: Limits,
}

/// Staged files, and which partitions they are in.
#[derive(Debug, Default)]
pub struct Written {
    /// The files.
    pub files: Vec<StagedFile>,
    /// Partitions written to, each once.
    pub partitions: Vec<Values>,
    /// Rows written.
    pub rows: u64,
}

/// The open files of one task.
pub struct TaskFiles {
    job: Arc<Job>,
    open: HashMap<Values, OpenFile>,
    closing: FuturesUnordered<BoxFuture<'static, Result<StagedFile>>>,
    partitions: std::collections::HashSet<Values>,
    written: Written,
}

impl std::fmt::Debug for TaskFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TaskFiles({} open, {} closing)", self.open.len(), self.closing.len())
    }
}

struct OpenFile {
    folder: String,
    arranged: Arranged,
    encoder: Box<dyn FileEncoder>,
    pending: BytesMut,
    staged: Option<Box<dyn StagedWriter>>,
    bytes: u64,
}

impl OpenFile {
    fn held_bytes(&self) -> usize {
        self.encoder.held_bytes() + self.pending.len()
    }

    fn file_bytes(&self) -> u64 {
        self.bytes + (self.pending.len() + self.encoder.unwritten_bytes()) as u64
    }
}

impl TaskFiles {
    /// No files yet.
    pub fn new(job: Arc<Job>) -> Self {
        Self {
            job,
            open: HashMap::new(),
            closing: FuturesUnordered::new(),
            partitions: Default::default(),
            written: Written::default(),
        }
    }

    /// Whether rows of so many more partitions would be too many open files.
    pub fn is_full_with(&self, groups: &[(Values, RecordBatch)]) -> bool {
        let new = groups.iter().filter(|(values, _)| !self.open.contains_key(values)).count();
        self.open.len() + new > self.job.limits.open_files
    }

    /// Adds rows to the file of their partition.
    pub async fn write(&mut self, values: &Values, rows: &RecordBatch) -> Result<()> {
        self.written.rows += rows.num_rows() as u64;
        if !self.open.contains_key(values) {
            let Job { format, schema, layout, .. } = &*self.job;
            let arranged = Arranged::new(format, schema, layout.columns(values))?;
            let encoder = encode::encoder(format, arranged.schema())?;
            let folder = layout.folder(values);
            let file = OpenFile { folder, arranged, encoder, pending: BytesMut::new(), staged: None, bytes: 0 };
            self.open.insert(values.clone(), file);
            self.partitions.insert(values.clone());
        }
        let Some(file) = self.open.get_mut(values) else { return Ok(()) };
        file.encoder.write(&file.arranged.rows(rows)?)?;
        file.pending.extend_from_slice(&file.encoder.drain()?);
        if file.pending.len() >= SEND_BYTES {
            let bytes = file.pending.split().freeze();
            file.bytes += bytes.len() as u64;
            if file.staged.is_none() {
                let extension = self.job.format.extension();
                file.staged = Some(self.job.transaction.stage(&file.folder, &extension).await?);
            }
            if let Some(staged) = &mut file.staged {
                staged.write(bytes).await?;
            }
        }
        if file.file_bytes() >= self.job.limits.file_bytes {
            self.close(values).await?;
        }
        self.keep_within_budget().await
    }

    /// Ends the file of a partition.
    pub async fn close(&mut self, values: &Values) -> Result<()> {
        let Some(file) = self.open.remove(values) else { return Ok(()) };
        while self.closing.len() >= CLOSING_MAX {
            self.collect_one().await?;
        }
        let last = file.encoder.finish()?;
        let mut bytes = file.pending;
        bytes.extend_from_slice(&last);
        let job = self.job.clone();
        self.closing.push(Box::pin(end_file(job, file.folder, file.staged, bytes.freeze())));
        Ok(())
    }

    /// Ends the files of all other partitions.
    pub async fn close_others(&mut self, values: &Values) -> Result<()> {
        let others: Vec<Values> = self.open.keys().filter(|open| *open != values).cloned().collect();
        for other in others {
            self.close(&other).await?;
        }
        Ok(())
    }

    /// Ends all files.
    pub async fn finish(mut self) -> Result<Written> {
        let open: Vec<Values> = self.open.keys().cloned().collect();
        for values in open {
            self.close(&values).await?;
        }
        while !self.closing.is_empty() {
            self.collect_one().await?;
        }
        self.written.partitions = self.partitions.into_iter().collect();
        Ok(self.written)
    }

    async fn keep_within_budget(&mut self) -> Result<()> {
        loop {
            let held: usize = self.open.values().map(OpenFile::held_bytes).sum();
            if held <= self.job.limits.memory_bytes {
                return Ok(());
            }
            let largest = self.open.iter().max_by_key(|(_, file)| file.held_bytes()).map(|(values, _)| values.clone());
            match largest {
                Some(values) => self.close(&values).await?,
                None => return Ok(()),
            }
        }
    }

    async fn collect_one(&mut self) -> Result<()> {
        if let Some(file) = self.closing.next().await {
            self.written.files.push(file?);
        }
        Ok(())
    }
}

async fn end_file(
    job: Arc<Job>,
    folder: String,
    staged: Option<Box<dyn StagedWriter>>,
    last: Bytes,
) -> Result<StagedFile> {
    let mut staged = match staged {
        Some(staged) => staged,
        None => job.transaction.stage(&folder, &job.format.extension()).await?,
    };
    if !last.is_empty() {
        staged.write(last).await?;
    }
    staged.finish().await
}
