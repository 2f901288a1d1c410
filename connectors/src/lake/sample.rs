//! What a folder of files holds, from a bounded sample: for tables whose DDL leaves the columns out.
//!
//! Invariant: at most `FILES_MAX` files are opened and at most `SAMPLE_BYTES` of each are fetched, Parquet's footers
//! aside.

use std::{io::Read, sync::Arc};

use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use futures::{StreamExt, TryStreamExt, stream};
use headwater_engine::error::{Error, Result};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use parquet::arrow::{ParquetRecordBatchStreamBuilder, arrow_reader::ArrowReaderOptions};
use tokio::task::JoinSet;

use super::{
    compression::{self, Compression},
    format::ReadFormat,
    layout,
    listing::Pattern,
    read::{
        delimited::{
            DelimitedOptions,
            infer::{self, Start},
        },
        parquet::widen,
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
        return Ok(Vec::from_iter((found.size > 0).then_some(found)));
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
    let read = compression.reader(bytes.as_ref()).and_then(|reader| inflate_into(&mut inflated, reader));
    match read {
        // A sample that ends within a block still shows what was inflated until then.
        Err(error) if is_whole || inflated.is_empty() => {
            return Err(compression::broken(&place.display(path), compression, &error));
        }
        _ => {}
    }
    is_whole &= (inflated.len() as u64) < INFLATED_MAX;
    Ok((index, Start { bytes: inflated, is_whole }))
}

/// What can be inflated, up to a limit, and the error that ended it.
fn inflate_into(inflated: &mut Vec<u8>, reader: impl Read) -> std::io::Result<()> {
    let mut reader = reader.take(INFLATED_MAX);
    let mut chunk = vec![0; 64 << 10];
    loop {
        match reader.read(&mut chunk)? {
            0 => return Ok(()),
            length => inflated.extend_from_slice(&chunk[..length]),
        }
    }
}

async fn parquet(place: &Place, files: Vec<ObjectMeta>) -> Result<Schema> {
    let found: Vec<(String, Schema)> =
        stream::iter(files).map(|meta| parquet_schema(place, meta)).buffered(FILES_MAX).try_collect().await?;
    let mut columns: Vec<(String, Field)> = Vec::new();
    for (file, schema) in found {
        for field in schema.fields() {
            let same = |(_, known): &&mut (String, Field)| known.name().eq_ignore_ascii_case(field.name());
            let Some((first, known)) = columns.iter_mut().find(same) else {
                columns.push((file.clone(), field.as_ref().clone()));
                continue;
            };
            let Some(data_type) = common(known.data_type(), field.data_type()) else {
                let (was, is) = (widen::spelled(known.data_type()), widen::spelled(field.data_type()));
                let name = field.name();
                let message = format!("column \"{name}\" is {was} in file \"{first}\" and {is} in \"{file}\"");
                return Err(Error::data("HIVE_BAD_DATA", message)
                    .with_hint("write the columns in parentheses after the table's name"));
            };
            if data_type != *known.data_type() {
                first.clone_from(&file);
                *known = known.clone().with_data_type(data_type);
            }
        }
    }
    Ok(Schema::new(columns.into_iter().map(|(_, field)| field).collect::<Vec<_>>()))
}

#[expect(deprecated, reason = "only footers are read here; the scan has a reader of its own")]
async fn parquet_schema(place: &Place, meta: ObjectMeta) -> Result<(String, Schema)> {
    let name = place.display(&meta.location);
    let reader = parquet::arrow::async_reader::ParquetObjectReader::new(place.store.clone(), meta.location)
        .with_file_size(meta.size);
    // As the scan sees the types: without what Arrow's writers add to them.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchStreamBuilder::new_with_options(reader, options)
        .await
        .map_err(|error| Error::data("HIVE_BAD_DATA", format!("file \"{name}\" is not Parquet: {error}")))?;
    let usable = |field: &FieldRef| field.as_ref().clone().with_data_type(widen::usable(field.data_type()));
    Ok((name, Schema::new(builder.schema().fields().iter().map(usable).collect::<Vec<_>>())))
}

/// The type that reads values of both, if there is one.
fn common(one: &DataType, other: &DataType) -> Option<DataType> {
    match (one, other) {
        (DataType::Struct(fields), DataType::Struct(others)) => {
            let mut all: Vec<FieldRef> = fields.to_vec();
            for field in others {
                match widen::position(fields, field.name()) {
                    None => all.push(Arc::clone(field)),
                    Some(index) => {
                        let data_type = common(fields[index].data_type(), field.data_type())?;
                        all[index] = Arc::new(fields[index].as_ref().clone().with_data_type(data_type));
                    }
                }
            }
            Some(DataType::Struct(all.into()))
        }
        (DataType::List(item), DataType::List(other)) => {
            let data_type = common(item.data_type(), other.data_type())?;
            Some(DataType::List(Arc::new(item.as_ref().clone().with_data_type(data_type))))
        }
        (DataType::Map(entries, is_sorted), DataType::Map(others, _)) => {
            let all = common(entries.data_type(), others.data_type())?;
            Some(DataType::Map(Arc::new(entries.as_ref().clone().with_data_type(all)), *is_sorted))
        }
        _ if one.is_integer() && other.is_integer() => {
            Some(if one.primitive_width() >= other.primitive_width() { one } else { other }.clone())
        }
        _ if widen::check(other, one).is_ok() => Some(one.clone()),
        _ if widen::check(one, other).is_ok() => Some(other.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use object_store::{PutPayload, memory::InMemory, path::Path};

    use super::*;
    use crate::{formats::json::JsonOptions, lake::counting::ListingCost};

    #[test]
    fn of_two_types_the_wider_one_reads_both() {
        let map = |value: DataType| {
            let fields = vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)];
            DataType::Map(Arc::new(Field::new("entries", DataType::Struct(fields.into()), false)), false)
        };
        let list = |item: DataType| DataType::new_list(item, true);
        let (narrow, wide) = (DataType::Int8, DataType::Int32);
        for (one, other) in
            [(map(narrow.clone()), map(wide.clone())), (list(narrow.clone()), list(wide.clone())), (narrow, wide)]
        {
            assert_eq!((common(&one, &other), common(&other, &one)), (Some(other.clone()), Some(other)));
        }
        assert_eq!(common(&map(DataType::Utf8), &map(DataType::Int8)), None);
    }

    #[tokio::test]
    async fn a_file_that_does_not_inflate_is_named() -> std::result::Result<(), Box<dyn std::error::Error>> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        for n in 0..1000 {
            writeln!(gzip, "{{\"n\": {n}, \"text\": \"{}\"}}", n * 7919 % 1013)?;
        }
        let whole = gzip.finish()?;
        let mut broken = whole.clone();
        broken[whole.len() / 2] ^= 0xff;
        for (name, bytes) in [("cut", &whole[..whole.len() / 2]), ("head", &whole[..12]), ("broken", &broken)] {
            let store = Arc::new(InMemory::new());
            store.put(&Path::from("t/good.json.gz"), PutPayload::from(whole.clone())).await?;
            let place = Place {
                store: store.clone(),
                path: Path::from("t"),
                root: "s3://b/".into(),
                listing: ListingCost::PerObject,
                uploads: None,
            };
            let format = ReadFormat::Json(Box::<JsonOptions>::default());
            assert_eq!(look(&place, &format, None).await?.columns.fields().len(), 2);
            store.put(&Path::from(format!("t/{name}.json.gz")), PutPayload::from(bytes.to_vec())).await?;
            let error = look(&place, &format, None).await.unwrap_err();
            assert!(error.message().contains(&format!("s3://b/t/{name}.json.gz")), "{error}");
        }
        Ok(())
    }
}
