//! From rows of a file to rows of the table: constant columns added, rejected records judged, the limit kept.
//!
//! Invariant: every record a reader hands over is sent, counted as rejected, or ends the scan with an error that names
//! file, line and offset.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BinaryArray, Int64Array, RecordBatch, RecordBatchOptions, StringArray, TimestampMillisecondArray,
    },
    datatypes::SchemaRef,
};
use datafusion::scalar::ScalarValue;
use headwater_engine::error::{Error, Result};
use tokio::sync::mpsc::Sender;

use super::{FileRows, RejectedText, required};
use crate::lake::{
    format::{Malformed, ReadFormat},
    listing::LakeFile,
    scan::{LakeScan, Rejects, Source, Wanted},
    stats::ScanStats,
};

/// Whether the consumer wants more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// It does.
    More,
    /// The limit is reached or nobody listens.
    Enough,
}

/// Where the batches of one partition of a scan go.
pub(crate) struct Output {
    scan: Arc<LakeScan>,
    sender: Sender<datafusion::error::Result<RecordBatch>>,
    left: Option<usize>,
}

/// A file being read: its constants and its name in messages.
pub(crate) struct OpenFile {
    /// The file.
    pub(crate) file: LakeFile,
    /// Its path as users write it.
    pub(crate) shown: String,
    constants: Vec<ScalarValue>,
}

impl OpenFile {
    pub(crate) fn new(scan: &LakeScan, file: &LakeFile) -> Self {
        let shown = scan.listing.partitions[file.partition].place.display(&file.path);
        Self { file: file.clone(), shown, constants: scan.listing.constants(file) }
    }

    /// Whether a constant is NULL.
    pub(super) fn is_null(&self, constant: usize) -> bool {
        self.constants[constant].is_null()
    }
}

impl Output {
    pub(crate) fn new(
        scan: Arc<LakeScan>,
        sender: Sender<datafusion::error::Result<RecordBatch>>,
        limit: Option<usize>,
    ) -> Self {
        Self { scan, sender, left: limit }
    }

    /// The scan it is of.
    pub(crate) fn scan(&self) -> &LakeScan {
        &self.scan
    }

    /// Whether what a reader found ends the scan with an error.
    pub(crate) fn fails_at(&self, found: &FileRows) -> bool {
        !found.rejected.is_empty() && (self.scan.wanted, self.scan.malformed) == (Wanted::Rows, Malformed::Fail)
    }

    /// Rows that need be read yet, if there is a limit and every row read is sent.
    pub(crate) fn left(&self) -> Option<usize> {
        self.left.filter(|_| self.scan.required.is_empty())
    }

    /// Whether nobody listens any more or the limit is reached.
    pub(crate) fn is_done(&self) -> bool {
        self.left == Some(0) || self.sender.is_closed()
    }

    /// Counts and judges what a reader made, and sends its rows.
    pub(crate) async fn take(&mut self, file: &OpenFile, found: FileRows) -> Result<Flow> {
        let found = required::judged(&self.scan, file, found).await?;
        let stats = &self.scan.stats;
        ScanStats::add(&stats.values_nulled, found.values_nulled);
        match (self.scan.wanted, self.scan.malformed) {
            (Wanted::Rejected, _) => {
                let rows = self.rejected_rows(file, &found.rejected)?;
                return self.send(rows).await;
            }
            (Wanted::Rows, Malformed::Fail) => {
                if let Some(first) = found.rejected.first() {
                    return Err(malformed(&self.scan.format, &file.shown, first));
                }
            }
            (Wanted::Rows, Malformed::Null | Malformed::Skip) => {
                ScanStats::add(&stats.rows_rejected, found.rejected.len() as u64);
            }
        }
        if let Some(rejects) = &self.scan.rejects {
            rejects.lock().push_back(Rejects {
                rows: found.rows.num_rows(),
                records: found.rejected,
                starts: found.starts,
            });
        }
        ScanStats::add(&stats.rows_read, found.rows.num_rows() as u64);
        let rows = self.assemble(file, &found.rows)?;
        self.send(rows).await
    }

    /// Columns of the file and constants in the order of the scan's output.
    fn assemble(&self, file: &OpenFile, rows: &RecordBatch) -> Result<RecordBatch> {
        let columns = self.scan.output.iter().map(|source| {
            Ok(match source {
                Source::File(index) => Arc::clone(rows.column(*index)),
                Source::Constant(index) => file.constants[*index].to_array_of_size(rows.num_rows())?,
            })
        });
        batch(&self.scan.schema, columns.collect::<Result<_>>()?, rows.num_rows())
    }

    fn rejected_rows(&self, file: &OpenFile, rejected: &[RejectedText]) -> Result<RecordBatch> {
        let arrival = file.file.modified.timestamp_millis();
        let all: [ArrayRef; 6] = [
            Arc::new(BinaryArray::from_iter_values(rejected.iter().map(|row| &row.raw))),
            Arc::new(StringArray::from_iter_values(rejected.iter().map(|row| &row.reason))),
            Arc::new(StringArray::from_iter_values(rejected.iter().map(|_| &file.shown))),
            Arc::new(StringArray::from_iter_values(rejected.iter().map(|row| row.offset.to_string()))),
            Arc::new(TimestampMillisecondArray::from_iter_values(rejected.iter().map(|_| arrival))),
            Arc::new(Int64Array::from_iter(
                rejected.iter().map(|row| i64::try_from(row.line).ok().filter(|line| *line > 0)),
            )),
        ];
        let columns = self.scan.output.iter().filter_map(|source| match source {
            Source::File(index) => all.get(*index).map(Arc::clone),
            Source::Constant(_) => None,
        });
        batch(&self.scan.schema, columns.collect(), rejected.len())
    }

    async fn send(&mut self, rows: RecordBatch) -> Result<Flow> {
        if rows.num_rows() == 0 {
            return Ok(if self.is_done() { Flow::Enough } else { Flow::More });
        }
        let rows = match &mut self.left {
            None => rows,
            Some(left) => {
                let rows = rows.slice(0, rows.num_rows().min(*left));
                *left -= rows.num_rows();
                rows
            }
        };
        let is_heard = self.sender.send(Ok(rows)).await.is_ok();
        Ok(if is_heard && !self.is_done() { Flow::More } else { Flow::Enough })
    }
}

fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

fn malformed(format: &ReadFormat, shown: &str, rejected: &RejectedText) -> Error {
    let RejectedText { offset, line, reason, .. } = rejected;
    let place = match line {
        _ if matches!(format, ReadFormat::Parquet) => String::new(),
        // A line of a part far into a file is not counted.
        0 => format!(", byte offset {offset}"),
        line => format!(", line {line}, byte offset {offset}"),
    };
    Error::data("HIVE_CURSOR_ERROR", format!("file \"{shown}\"{place}: {reason}"))
        .with_hint("repair the file, or set the table property 'malformed' to 'skip' or 'null' (of read_json: malformed => 'skip')")
}
