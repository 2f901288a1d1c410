//! What a folder of files holds, from a bounded sample: for tables whose DDL leaves the columns out.
//!
//! Invariant: at most `FILES_MAX` files are opened and at most `SAMPLE_BYTES` of each are fetched, Parquet's footers
//! aside.

use std::io::Read;

use arrow::datatypes::Schema;
use futures::TryStreamExt;
use headwater_engine::error::{Error, Result};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use tokio::task::JoinSet;

use super::{
    compression::Compression,
    format::ReadFormat,
    layout,
    stores::{Place, store_error},
};
use crate::formats::json::{JsonInference, RecordPath};

/// Files looked into.
const FILES_MAX: usize = 8;
/// Names listed to choose them from.
const LISTED_MAX: usize = 1000;
/// Bytes fetched of each.
const SAMPLE_BYTES: u64 = 1 << 20;
/// Bytes looked at of each after inflating.
const INFLATED_MAX: u64 = 4 << 20;
/// The columns of the files below `place`; none when there is no row.
pub async fn columns(place: &Place, format: &ReadFormat) -> Result<Schema> {
    let files = files(place).await?;
    match format {
        ReadFormat::Json(options) => json(place, files, &options.records).await,
        ReadFormat::Parquet => parquet(place, files).await,
        ReadFormat::Delimited(_) => Err(Error::not_supported("columns of delimited text cannot be found in its files")
            .with_hint("list the columns with their types")),
    }
}

/// Some of the files, spread evenly over the first ones listed.
async fn files(place: &Place) -> Result<Vec<ObjectMeta>> {
    let shown = place.display(&place.path);
    let (mut listing, mut listed) = (place.store.list(Some(&place.path)), Vec::new());
    while let Some(meta) = listing.try_next().await.map_err(|error| store_error(&shown, error))? {
        if is_data(place, &meta) {
            listed.push(meta);
        }
        if listed.len() == LISTED_MAX {
            break;
        }
    }
    listed.sort_by(|one, two| one.location.cmp(&two.location));
    let step = listed.len().div_ceil(FILES_MAX).max(1);
    Ok(listed.into_iter().step_by(step).collect())
}

fn is_data(place: &Place, meta: &ObjectMeta) -> bool {
    let parts = meta.location.prefix_match(&place.path);
    meta.size > 0 && parts.is_some_and(|mut parts| parts.all(|part| !layout::is_hidden(part.as_ref())))
}

async fn json(place: &Place, files: Vec<ObjectMeta>, records: &RecordPath) -> Result<Schema> {
    let mut fetches = JoinSet::new();
    for (index, meta) in files.into_iter().enumerate() {
        fetches.spawn(start_of(index, place.clone(), meta));
    }
    let mut starts = Vec::new();
    while let Some(fetched) = fetches.join_next().await {
        starts.push(fetched.map_err(|error| Error::internal(format!("a fetch ended early: {error}")))??);
    }
    starts.sort_by_key(|(index, _)| *index);
    let mut inference = JsonInference::default();
    for (_, start) in starts {
        inference.sample(&start, records);
    }
    Ok(inference.schema())
}

/// The first bytes of file `index`, inflated; what is cut off is left out.
async fn start_of(index: usize, place: Place, meta: ObjectMeta) -> Result<(usize, Vec<u8>)> {
    let path = &meta.location;
    let range = 0..meta.size.min(SAMPLE_BYTES);
    let bytes = place.store.get_range(path, range).await.map_err(|error| store_error(&place.display(path), error))?;
    let Some(compression) = Compression::of(path.as_ref(), &bytes) else { return Ok((index, bytes.to_vec())) };
    let mut inflated = Vec::new();
    // The sample may end within a block: what was inflated until then is what there is to see.
    if let Ok(reader) = compression.reader(bytes.as_ref()) {
        let mut reader = reader.take(INFLATED_MAX);
        let mut chunk = vec![0; 64 << 10];
        while let Ok(length @ 1..) = reader.read(&mut chunk) {
            inflated.extend_from_slice(&chunk[..length]);
        }
    }
    Ok((index, inflated))
}

#[expect(deprecated, reason = "only footers are read here; the scan has a reader of its own")]
async fn parquet(place: &Place, files: Vec<ObjectMeta>) -> Result<Schema> {
    let mut schemas = Vec::new();
    for meta in files {
        let name = place.display(&meta.location);
        let reader = parquet::arrow::async_reader::ParquetObjectReader::new(place.store.clone(), meta.location)
            .with_file_size(meta.size);
        let builder = ParquetRecordBatchStreamBuilder::new(reader)
            .await
            .map_err(|error| Error::data("HIVE_BAD_DATA", format!("file \"{name}\" is not Parquet: {error}")))?;
        schemas.push(builder.schema().as_ref().clone().with_metadata(Default::default()));
    }
    Schema::try_merge(schemas).map_err(|error| {
        Error::data("HIVE_BAD_DATA", format!("the files do not agree on their columns: {error}"))
            .with_hint("write the columns in parentheses after the table's name")
    })
}
