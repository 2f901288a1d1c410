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
    listing::Pattern,
    read::delimited::{
        DelimitedOptions,
        infer::{self, Start},
    },
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

/// What a folder's files hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// The columns; none when there is no row.
    pub columns: Schema,
    /// Table properties that reading them needs.
    pub properties: Vec<(&'static str, String)>,
}

/// What the files below `place` hold, those that `only` means.
pub async fn look(place: &Place, format: &ReadFormat, only: Option<&Pattern>) -> Result<Sampled> {
    let files = files(place, only).await?;
    let columns = match format {
        ReadFormat::Json(options) => json(place, files, &options.records).await?,
        ReadFormat::Parquet => parquet(place, files).await?,
        ReadFormat::Delimited(options) if options.is_inferable() => return delimited(place, files, options).await,
        ReadFormat::Delimited(_) => {
            return Err(Error::not_supported("columns of these files cannot be found in them")
                .with_hint("list the columns with their types, or say STORED AS CSV"));
        }
    };
    Ok(Sampled { columns, properties: Vec::new() })
}

/// Some of the files, spread evenly over the first ones listed.
async fn files(place: &Place, only: Option<&Pattern>) -> Result<Vec<ObjectMeta>> {
    if let Some(path) = only.and_then(Pattern::exact) {
        let found = place.store.head(&path).await.map_err(|error| store_error(&place.display(&path), error))?;
        return Ok(vec![found]);
    }
    let shown = place.display(&place.path);
    let (mut listing, mut listed) = (place.store.list(Some(&place.path)), Vec::new());
    while let Some(meta) = listing.try_next().await.map_err(|error| store_error(&shown, error))? {
        if is_data(place, &meta) && only.is_none_or(|only| only.matches(&meta.location)) {
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
    let mut inference = JsonInference::default();
    for start in starts(place, files).await? {
        inference.sample(&start.bytes, records);
    }
    Ok(inference.schema())
}

async fn delimited(place: &Place, files: Vec<ObjectMeta>, options: &DelimitedOptions) -> Result<Sampled> {
    let Some(found) = infer::infer(&starts(place, files).await?, options) else {
        return Ok(Sampled { columns: Schema::empty(), properties: Vec::new() });
    };
    let mut properties = Vec::new();
    if found.header {
        properties.push(("csv.header", "true".to_owned()));
    }
    if found.delimiter != b',' {
        let text = if found.delimiter == b'\t' { "\\t".to_owned() } else { char::from(found.delimiter).to_string() };
        properties.push(("csv.field-delimiter", text));
    }
    Ok(Sampled { columns: found.columns, properties })
}

/// The starts of some files, fetched side by side.
async fn starts(place: &Place, files: Vec<ObjectMeta>) -> Result<Vec<Start>> {
    let mut fetches = JoinSet::new();
    for (index, meta) in files.into_iter().enumerate() {
        fetches.spawn(start_of(index, place.clone(), meta));
    }
    let mut starts = Vec::new();
    while let Some(fetched) = fetches.join_next().await {
        starts.push(fetched.map_err(|error| Error::internal(format!("a fetch ended early: {error}")))??);
    }
    starts.sort_by_key(|(index, _)| *index);
    Ok(starts.into_iter().map(|(_, start)| start).collect())
}

/// The first bytes of file `index`, inflated; what is cut off is left out.
async fn start_of(index: usize, place: Place, meta: ObjectMeta) -> Result<(usize, Start)> {
    let path = &meta.location;
    let range = 0..meta.size.min(SAMPLE_BYTES);
    let bytes = place.store.get_range(path, range).await.map_err(|error| store_error(&place.display(path), error))?;
    let mut is_whole = meta.size <= SAMPLE_BYTES;
    let Some(compression) = Compression::of(path.as_ref(), &bytes) else {
        return Ok((index, Start { bytes: bytes.to_vec(), is_whole }));
    };
    let mut inflated = Vec::new();
    // The sample may end within a block: what was inflated until then is what there is to see.
    if let Ok(reader) = compression.reader(bytes.as_ref()) {
        let mut reader = reader.take(INFLATED_MAX);
        let mut chunk = vec![0; 64 << 10];
        while let Ok(length @ 1..) = reader.read(&mut chunk) {
            inflated.extend_from_slice(&chunk[..length]);
        }
    }
    is_whole &= (inflated.len() as u64) < INFLATED_MAX;
    Ok((index, Start { bytes: inflated, is_whole }))
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
