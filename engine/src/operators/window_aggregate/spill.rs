//! Increments on local disk: a file has one batch a bucket of key groups, so that one bucket can be read alone.
//!
//! Invariant: a file is written whole before anything refers to it, and is a valid file of the checkpoint as it is.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{AsArray, RecordBatch, UInt32Array},
    compute::{concat_batches, take_record_batch},
    datatypes::{SchemaRef, UInt16Type},
    ipc::reader::FileReader,
};

use crate::{
    checkpoint::files,
    error::{Error, Result},
    hash::KEY_GROUPS,
};

/// Buckets of key groups; a fired window needs one of them in memory at a time.
pub(super) const BUCKETS: usize = 16;

/// A spilled file.
#[derive(Debug, Clone)]
pub(super) struct Spilled {
    pub(super) path: PathBuf,
    /// Whether a checkpoint holds its rows.
    pub(super) saved: bool,
}

/// The rows of batches that fall in a bucket.
pub(super) fn of_bucket(batches: &[RecordBatch], bucket: usize) -> Result<Vec<RecordBatch>> {
    let width = usize::from(KEY_GROUPS) / BUCKETS;
    let part = |batch: &RecordBatch| -> Result<RecordBatch> {
        let groups = batch.column(0).as_primitive_opt::<UInt16Type>();
        let groups = groups.ok_or_else(|| Error::internal("an increment without its key groups"))?;
        let rows = groups.values().iter().enumerate().filter(|(_, group)| usize::from(**group) / width == bucket);
        Ok(take_record_batch(batch, &UInt32Array::from_iter_values(rows.map(|(row, _)| row as u32)))?)
    };
    batches.iter().map(part).collect()
}

/// Writes increments as a file with a batch a bucket.
pub(super) async fn write(schema: SchemaRef, batches: Vec<RecordBatch>, path: PathBuf) -> Result<u64> {
    let work = move || -> Result<u64> {
        let bucket = |bucket| Ok(concat_batches(&schema, &of_bucket(&batches, bucket)?)?);
        let buckets = (0..BUCKETS).map(bucket).collect::<Result<Vec<_>>>()?;
        let bytes = files::encode(&schema, &buckets)?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, &bytes).map_err(|error| named(error, &path))?;
        Ok(bytes.len() as u64)
    };
    blocking(work).await
}

/// Reads one bucket of several files.
pub(super) async fn read(paths: Vec<PathBuf>, bucket: usize) -> Result<Vec<RecordBatch>> {
    let work = move || -> Result<Vec<RecordBatch>> {
        let read = |path: &PathBuf| -> Result<RecordBatch> {
            let file = fs::File::open(path).map_err(|error| named(error, path))?;
            let mut reader = FileReader::try_new(std::io::BufReader::new(file), None)?;
            reader.set_index(bucket)?;
            let batch = reader.next().ok_or_else(|| Error::internal("a spilled file is short"))?;
            Ok(batch?)
        };
        paths.iter().map(read).collect()
    };
    blocking(work).await
}

/// Removes files that are no longer needed; a file that stays is removed at the next start.
pub(super) async fn remove(paths: Vec<PathBuf>) -> Result<()> {
    let work = move || {
        for path in &paths {
            if let Err(error) = fs::remove_file(path) {
                tracing::debug!(%error, path = %path.display(), "a spilled file was not removed");
            }
        }
        Ok(())
    };
    blocking(work).await
}

fn named(error: std::io::Error, path: &Path) -> Error {
    Error::from(error).context(format!("spilled state \"{}\"", path.display()))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::internal(format!("spilling was cut off: {error}"))))
}

/// A name for the next file of an operator.
pub(super) fn next_path(folder: &Arc<Path>, count: &mut u64) -> PathBuf {
    *count += 1;
    folder.join(format!("{count:08}.arrow"))
}
