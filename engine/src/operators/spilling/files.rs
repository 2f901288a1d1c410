//! Files of state on local disk: batches in buckets of key groups, so that one bucket can be read alone.
//!
//! Invariant: a file is written whole before anything refers to it, is a valid file of the checkpoint as it is, and is
//! removed once nothing refers to it.

use std::{
    fmt, fs,
    io::{BufReader, BufWriter},
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arrow::{
    array::{ArrayRef, AsArray, RecordBatch, UInt32Array},
    compute::{concat_batches, take_record_batch},
    datatypes::{DataType, UInt16Type},
    ipc::{reader::FileReader, writer::FileWriter},
};

use crate::error::{Error, Result};

/// A file takes no more batches once it has so many bytes, so that it can be copied whole.
const FILE_BYTES: u64 = 8 << 20;
/// Rows that are sorted into buckets at a time.
const SORTED_ROWS: usize = 64 << 10;

/// A finished file.
#[derive(Debug)]
pub(super) struct BucketFile {
    pub(super) path: PathBuf,
    /// The bucket of each of its batches.
    buckets: Vec<usize>,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// Largest pane of its rows.
    pub(super) last_pane: i64,
}

impl Drop for BucketFile {
    fn drop(&mut self) {
        // A file that stays is removed at the next start.
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "a spilled file was not removed");
        }
    }
}

/// What was written together: the rows of a bucket in earlier layers come before those in later ones.
pub(super) type Layer = Vec<Arc<BucketFile>>;

/// A folder for the files of one operator.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: Arc<Path>,
    files: Arc<AtomicU64>,
}

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: Arc::from(path), files: Arc::default() }
    }

    fn next(&self) -> Result<PathBuf> {
        fs::create_dir_all(&self.path)?;
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        Ok(self.path.join(format!("{number:08}.arrow")))
    }
}

/// Writes a layer of one schema.
pub(super) struct LayerWriter {
    folder: Folder,
    open: Option<(FileWriter<BufWriter<fs::File>>, BucketFile)>,
    done: Layer,
}

impl fmt::Debug for LayerWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerWriter").field("done", &self.done).finish_non_exhaustive()
    }
}

impl LayerWriter {
    pub(super) fn new(folder: &Folder) -> Self {
        Self { folder: folder.clone(), open: None, done: Vec::new() }
    }

    /// Appends rows of a bucket.
    pub(super) fn write(&mut self, bucket: usize, rows: &RecordBatch, last_pane: i64) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let (writer, file) = match &mut self.open {
            Some(open) => open,
            none => {
                let path = self.folder.next()?;
                let created = fs::File::create(&path).map_err(|error| named(error, &path))?;
                let writer = FileWriter::try_new(BufWriter::new(created), &rows.schema());
                let writer = writer.map_err(|error| named(error, &path))?;
                let file = BucketFile { path, buckets: Vec::new(), rows: 0, bytes: 0, last_pane: i64::MIN };
                none.insert((writer, file))
            }
        };
        writer.write(&own(rows)?).map_err(|error| named(error, &file.path))?;
        file.buckets.push(bucket);
        file.rows += rows.num_rows() as u64;
        file.last_pane = file.last_pane.max(last_pane);
        let written = writer.get_ref().get_ref().metadata().map_err(|error| named(error, &file.path))?;
        if written.len() >= FILE_BYTES { self.close() } else { Ok(()) }
    }

    /// Appends batches whose first column is their key group, in buckets of one key group each.
    pub(super) fn write_sorted(&mut self, batches: &[RecordBatch], groups: &Range<u16>, last_pane: i64) -> Result<()> {
        let mut from = 0;
        while from < batches.len() {
            let (mut to, mut rows) = (from, 0);
            while to < batches.len() && (to == from || rows + batches[to].num_rows() <= SORTED_ROWS) {
                rows += batches[to].num_rows();
                to += 1;
            }
            let together = concat_batches(&batches[from].schema(), &batches[from..to])?;
            for (bucket, rows) in in_buckets(&together, groups)? {
                self.write(bucket, &rows, last_pane)?;
            }
            from = to;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        let Some((mut writer, mut file)) = self.open.take() else { return Ok(()) };
        let written = writer.finish().and_then(|()| writer.into_inner());
        let written = written.map_err(|error| named(error, &file.path))?;
        written.into_inner().map_err(|error| named(error.into_error(), &file.path))?;
        file.bytes = fs::metadata(&file.path).map_err(|error| named(error, &file.path))?.len();
        self.done.push(Arc::new(file));
        Ok(())
    }

    /// What was written; no file if there were no rows.
    pub(super) fn finish(mut self) -> Result<Layer> {
        self.close()?;
        Ok(self.done)
    }
}

/// Slices of rows by bucket, in the order they had.
fn in_buckets(rows: &RecordBatch, groups: &Range<u16>) -> Result<Vec<(usize, RecordBatch)>> {
    let of_row = rows.column(0).as_primitive_opt::<UInt16Type>();
    let of_row = of_row.ok_or_else(|| Error::internal("state without its key groups"))?.values();
    let mut sorted: Vec<u32> = (0..rows.num_rows() as u32).collect();
    sorted.sort_by_key(|row| of_row[*row as usize]);
    let ordered = take_record_batch(rows, &UInt32Array::from(sorted.clone()))?;
    let mut parts = Vec::new();
    let mut from = 0;
    for part in sorted.chunk_by(|a, b| of_row[*a as usize] == of_row[*b as usize]) {
        let group = of_row[part[0] as usize];
        if !groups.contains(&group) {
            return Err(Error::internal(format!("a row of key group {group} in a task that has {groups:?}")));
        }
        parts.push((usize::from(group - groups.start), ordered.slice(from, part.len())));
        from += part.len();
    }
    Ok(parts)
}

/// The rows without what else their buffers hold, which would be written too.
fn own(rows: &RecordBatch) -> Result<RecordBatch> {
    let column = |column: &ArrayRef| -> ArrayRef {
        match column.data_type() {
            DataType::Utf8View => Arc::new(column.as_string_view().gc()),
            DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
            _ => Arc::clone(column),
        }
    };
    let columns = rows.columns().iter().map(column).collect();
    super::batch_of(&rows.schema(), columns, rows.num_rows())
}

/// The batches of a bucket in layers, in order.
pub(super) fn read(layers: &[Layer], bucket: usize) -> Result<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    for file in layers.iter().flatten().filter(|file| file.buckets.contains(&bucket)) {
        let opened = fs::File::open(&file.path).map_err(|error| named(error, &file.path))?;
        let mut reader = FileReader::try_new(BufReader::new(opened), None)?;
        for (index, _) in file.buckets.iter().enumerate().filter(|(_, of)| **of == bucket) {
            reader.set_index(index)?;
            batches.push(reader.next().ok_or_else(|| Error::internal("a spilled file is short"))??);
        }
    }
    Ok(batches)
}

/// Marks the buckets a layer has rows of.
pub(super) fn mark_buckets(layer: &Layer, buckets: &mut [bool]) {
    for bucket in layer.iter().flat_map(|file| &file.buckets) {
        buckets[*bucket] = true;
    }
}

/// Bytes of layers.
pub(super) fn bytes(layers: &[Layer]) -> u64 {
    layers.iter().flatten().map(|file| file.bytes).sum()
}

fn named(error: impl Into<Error>, path: &Path) -> Error {
    error.into().context(format!("spilled state \"{}\"", path.display()))
}

/// Runs work on files on a thread that may wait for them.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::internal(format!("spilling was cut off: {error}"))))
}
