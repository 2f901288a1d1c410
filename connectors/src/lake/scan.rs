//! The scan of a lake table as a DataFusion plan: files dealt out to partitions, each read by a task of its own.
//!
//! Invariant: each byte of a file belongs to one unit; dropping a partition's stream stops its task.

use std::{
    collections::{HashSet, VecDeque},
    fmt,
    ops::Range,
    sync::Arc,
};

use arrow::datatypes::SchemaRef;
use datafusion::{
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::{PhysicalExpr, stream::RecordBatchReceiverStream},
};
use parking_lot::Mutex;

use super::{
    format::{Malformed, ReadFormat},
    listing::{LakeFile, Listing},
    read::{
        RejectedText,
        output::{OpenFile, Output},
        parquet,
        required::Required,
        text,
    },
    stats::ScanStats,
};
use crate::leaf::{Leaf, LeafExec};

/// Smallest part of a file that is read on its own.
const PART_BYTES_MIN: u64 = 16 << 20;
/// Batches that wait between a reader and its consumer.
const BATCHES_AHEAD: usize = 2;

/// Where a column of the output comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Column of the file, by its index among those read.
    File(usize),
    /// One value for the whole file, by its index among the constants.
    Constant(usize),
}

/// What a scan yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The table's rows.
    Rows,
    /// What its decoder refuses.
    Rejected,
}

/// Records rejected up to a batch's last row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejects {
    /// Rows of the batch; none if only rejected records were found.
    pub rows: usize,
    /// The records.
    pub records: Vec<RejectedText>,
    /// First byte of each row in its file, where the format has one.
    pub starts: Option<Vec<u64>>,
}

/// What every partition of a scan needs to know.
#[derive(Debug)]
pub struct LakeScan {
    /// Name of the table, for plans.
    pub table: String,
    /// Files to read.
    pub listing: Listing,
    /// How.
    pub format: ReadFormat,
    /// All columns of the files as the table declares them.
    pub table_columns: SchemaRef,
    /// Columns to take from the files, with their declared types.
    pub file_schema: SchemaRef,
    /// Columns of the output.
    pub schema: SchemaRef,
    /// Where each comes from.
    pub output: Vec<Source>,
    /// Rows or rejected records.
    pub wanted: Wanted,
    /// What becomes of a malformed row.
    pub malformed: Malformed,
    /// Columns in which NULL makes a row malformed.
    pub required: Vec<Required>,
    /// Filter over `table_columns` by which parts of Parquet files are left out; rows are filtered again above.
    pub predicate: Option<Arc<dyn PhysicalExpr>>,
    /// Counters of the statement.
    pub stats: Arc<ScanStats>,
    /// Where rejected records go that are wanted beside the rows: an entry for each batch of rows, before it.
    pub rejects: Option<Arc<Mutex<VecDeque<Rejects>>>>,
    /// Partitions of which a file was opened.
    pub opened: Mutex<HashSet<usize>>,
}

impl LakeScan {
    /// Counts a file as read, and its partition the first time.
    pub(crate) fn open(&self, file: &LakeFile, is_first_part: bool) -> OpenFile {
        if is_first_part {
            ScanStats::add(&self.stats.files_read, 1);
        }
        if self.opened.lock().insert(file.partition) {
            ScanStats::add(&self.stats.partitions_read, 1);
        }
        OpenFile::new(self, file)
    }
}

/// A file or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Index of the file in the listing.
    pub file: usize,
    /// Bytes of the part; a record belongs to the part it starts in.
    pub range: Range<u64>,
    /// Whether records surely start and end where the range does.
    pub is_exact: bool,
}

/// Deals files out to `partitions` so that each has about the same bytes; large files that allow it are cut.
pub fn deal(files: &[LakeFile], partitions: usize, may_split: impl Fn(&LakeFile) -> bool) -> Vec<Vec<Unit>> {
    let partitions = partitions.max(1);
    let total: u64 = files.iter().map(|file| file.size).sum();
    let part = (total / partitions as u64).max(PART_BYTES_MIN);
    let mut units: Vec<Unit> = Vec::with_capacity(files.len());
    for (index, file) in files.iter().enumerate() {
        let parts = if may_split(file) { file.size.div_ceil(part).max(1) } else { 1 };
        let length = file.size.div_ceil(parts);
        let unit = |n: u64| Unit { file: index, range: n * length..((n + 1) * length).min(file.size), is_exact: false };
        units.extend((0..parts).map(unit));
    }
    let mut order: Vec<usize> = (0..units.len()).collect();
    order.sort_by_key(|index| (std::cmp::Reverse(units[*index].range.end - units[*index].range.start), *index));
    let count = partitions.min(units.len()).max(1);
    let mut dealt: Vec<(u64, Vec<usize>)> = vec![(0, Vec::new()); count];
    for index in order {
        if let Some(least) = dealt.iter_mut().min_by_key(|(bytes, taken)| (*bytes, taken.len())) {
            least.0 += units[index].range.end - units[index].range.start;
            least.1.push(index);
        }
    }
    let sorted = dealt.into_iter().map(|(_, mut taken)| {
        taken.sort_unstable();
        taken.into_iter().map(|index| units[index].clone()).collect()
    });
    sorted.collect()
}

/// Reads a lake table.
pub type LakeScanExec = LeafExec<LakeUnits>;

/// Which parts of a table's files each partition of a plan reads.
#[derive(Debug, Clone)]
pub struct LakeUnits {
    scan: Arc<LakeScan>,
    units: Arc<Vec<Vec<Unit>>>,
    limit: Option<usize>,
}

impl LakeUnits {
    /// A scan over at most `partitions` partitions that may stop after `limit` rows.
    pub fn plan(scan: Arc<LakeScan>, partitions: usize, limit: Option<usize>) -> LakeScanExec {
        let units = deal(&scan.listing.files, partitions, |file| {
            scan.wanted == Wanted::Rows && scan.format.may_split(&file.path)
        });
        Self { scan, units: Arc::new(units), limit }.planned()
    }

    /// A scan of a part of the only file, whose bounds are those of records.
    pub fn plan_part(scan: Arc<LakeScan>, range: Range<u64>) -> LakeScanExec {
        Self { scan, units: Arc::new(vec![vec![Unit { file: 0, range, is_exact: true }]]), limit: None }.planned()
    }

    fn planned(self) -> LakeScanExec {
        let (schema, partitions) = (Arc::clone(&self.scan.schema), self.units.len());
        LeafExec::new(self, schema, partitions)
    }
}

impl fmt::Display for LakeUnits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listing = &self.scan.listing;
        let columns: Vec<_> = self.scan.schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, "table={}, format={}, columns=[{}]", self.scan.table, self.scan.format, columns.join(", "))?;
        write!(
            f,
            ", files={}, partitions={}/{}",
            listing.files.len(),
            listing.partitions.len(),
            listing.partitions_total
        )?;
        if let Some(predicate) = &self.scan.predicate {
            write!(f, ", prune={predicate}")?;
        }
        match self.limit {
            Some(limit) => write!(f, ", limit={limit}"),
            None => Ok(()),
        }
    }
}

impl Leaf for LakeUnits {
    fn name(&self) -> &'static str {
        "LakeScanExec"
    }

    fn predicate(&self) -> Option<&Arc<dyn PhysicalExpr>> {
        self.scan.predicate.as_ref()
    }

    fn bytes_max(&self) -> Option<u64> {
        Some(self.scan.listing.files.iter().map(|file| file.size).sum())
    }

    fn limit(&self) -> Option<usize> {
        self.limit
    }

    fn limited(&self, limit: Option<usize>) -> Option<Self> {
        Some(Self { limit, ..self.clone() })
    }

    fn read(&self, partition: usize, schema: &SchemaRef, _: &TaskContext) -> Result<SendableRecordBatchStream> {
        let mut builder = RecordBatchReceiverStream::builder(Arc::clone(schema), BATCHES_AHEAD);
        let mut output = Output::new(Arc::clone(&self.scan), builder.tx(), self.limit);
        let (scan, units) = (Arc::clone(&self.scan), self.units[partition].clone());
        builder.spawn(async move {
            match &scan.format {
                ReadFormat::Parquet => parquet::read(&scan, &units, &mut output).await?,
                _ => text::read(&scan, &units, &mut output).await?,
            };
            Ok(())
        });
        Ok(builder.build())
    }
}

#[cfg(test)]
mod tests {
    use object_store::path::Path;

    use super::*;

    fn file(size: u64) -> LakeFile {
        LakeFile { path: Path::from("f"), size, modified: chrono::DateTime::UNIX_EPOCH, partition: 0 }
    }

    #[test]
    fn every_byte_is_dealt_once_and_evenly() {
        let files = [file(200 << 20), file(1), file(30 << 20), file(5)];
        let dealt = deal(&files, 3, |_| true);
        assert_eq!(dealt.len(), 3);
        let mut covered = [0u64; 4];
        for unit in dealt.iter().flatten() {
            covered[unit.file] += unit.range.end - unit.range.start;
        }
        assert_eq!(covered, [200 << 20, 1, 30 << 20, 5]);
        let loads: Vec<u64> =
            dealt.iter().map(|units| units.iter().map(|unit| unit.range.end - unit.range.start).sum()).collect();
        assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() < 60 << 20, "{loads:?}");
    }

    #[test]
    fn files_that_may_not_be_split_stay_whole() {
        let dealt = deal(&[file(200 << 20)], 4, |_| false);
        assert_eq!(dealt, [vec![Unit { file: 0, range: 0..200 << 20, is_exact: false }]]);
        assert_eq!(deal(&[], 4, |_| true), [Vec::new()]);
    }
}
