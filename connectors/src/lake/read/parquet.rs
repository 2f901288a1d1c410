//! Parquet files: columns by name, only their chunks fetched, row groups left out by their statistics.
//!
//! Invariant: a column of the table is NULL where the file lacks it, a safe widening where the types differ, and else
//! an error that names file, column and both types; never a value of another meaning.

use std::{collections::HashMap, ops::Range, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array},
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
};
use bytes::Bytes;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use futures::{FutureExt, TryStreamExt, future::BoxFuture};
use headwater_engine::error::{Error, Result};
use object_store::{coalesce_ranges, path::Path};
use parquet::{
    arrow::{
        ParquetRecordBatchStreamBuilder, ProjectionMask,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions},
        async_reader::AsyncFileReader,
    },
    basic::Type as Physical,
    errors::ParquetError,
    file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader},
};

use super::{
    FileRows, fetch,
    output::{Flow, OpenFile, Output},
};
use crate::lake::{
    scan::{LakeScan, Unit},
    stores::Place,
};

mod statistics;
pub(in crate::lake) mod widen;

/// Bytes fetched at the end of a file, in the hope that they hold the footer.
const FOOTER_BYTES: usize = 16 << 10;
/// Ranges this close are fetched by one request.
const GAP_BYTES: u64 = 8 << 10;
/// Rows of a batch.
const BATCH_ROWS: usize = 8192;

/// Reads the units of one partition.
pub(crate) async fn read(scan: &Arc<LakeScan>, units: &[Unit], output: &mut Output) -> Result<()> {
    let mut footers: HashMap<usize, Footer> = HashMap::new();
    for unit in units {
        if output.is_done() {
            break;
        }
        let file = scan.open(&scan.listing.files[unit.file], unit.range.start == 0);
        let place = &scan.listing.partitions[file.file.partition].place;
        let footer = match footers.get(&unit.file) {
            Some(found) => found.clone(),
            None => {
                let found = footer(place, &file).await?;
                footers.clear();
                footers.insert(unit.file, found.clone());
                found
            }
        };
        if read_unit(scan, unit, &file, footer, output).await? == Flow::Enough {
            break;
        }
    }
    Ok(())
}

async fn read_unit(scan: &LakeScan, unit: &Unit, file: &OpenFile, footer: Footer, output: &mut Output) -> Result<Flow> {
    let Footer { metadata, tail } = footer;
    let place = &scan.listing.partitions[file.file.partition].place;
    let columns = Columns::new(&scan.file_schema, metadata.schema(), &file.shown)?;
    let groups = row_groups(scan, unit, &metadata)?;
    if groups.is_empty() {
        return Ok(Flow::More);
    }
    let (place, path) = (place.clone(), file.file.path.clone());
    let reader = FileReader { place, path, metadata: Arc::clone(metadata.metadata()), tail };
    let mask = ProjectionMask::roots(metadata.parquet_schema(), columns.roots.iter().copied());
    let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, metadata)
        .with_projection(mask)
        .with_row_groups(groups)
        .with_batch_size(BATCH_ROWS);
    if let Some(left) = output.left() {
        builder = builder.with_limit(left);
    }
    let mut batches = builder.build().map_err(|error| broken(&file.shown, error))?;
    while let Some(batch) = batches.try_next().await.map_err(|error| broken(&file.shown, error))? {
        let rows = columns.take(&batch)?;
        let found = FileRows { rows, rejected: Vec::new(), values_nulled: 0, starts: None };
        if output.take(file, found).await? == Flow::Enough {
            return Ok(Flow::Enough);
        }
    }
    Ok(Flow::More)
}

/// Row groups that start in the unit's range and that the filter does not exclude.
fn row_groups(scan: &LakeScan, unit: &Unit, metadata: &ArrowReaderMetadata) -> Result<Vec<usize>> {
    let all = metadata.metadata().row_groups();
    let starts_here = |index: &usize| {
        let first = all[*index].columns().first();
        let start = first.map_or(0, |column| column.byte_range().0);
        unit.range.contains(&start)
    };
    let here: Vec<usize> = (0..all.len()).filter(starts_here).collect();
    let Some(predicate) = scan.predicate.as_ref().filter(|_| !here.is_empty()) else { return Ok(here) };
    let Ok(pruning) = PruningPredicateBuilder::new()
        .with_file_schema(Arc::clone(&scan.table_columns))
        .try_build(Arc::clone(predicate))
    else {
        return Ok(here);
    };
    let groups = here.iter().map(|index| &all[*index]).collect();
    let facts = statistics::Groups { metadata, table: &scan.table_columns, groups };
    let keep = pruning.prune(&facts)?;
    Ok(here.into_iter().zip(keep).filter(|(_, kept)| *kept).map(|(index, _)| index).collect())
}

/// How the columns wanted are had from those of a file.
struct Columns<'a> {
    wanted: &'a SchemaRef,
    /// Columns of the file to read, ascending.
    roots: Vec<usize>,
    /// For each column wanted its index among those read, and whether it must be widened.
    sources: Vec<Option<(usize, bool)>>,
    shown: &'a str,
}

impl<'a> Columns<'a> {
    fn new(wanted: &'a SchemaRef, file: &Schema, shown: &'a str) -> Result<Self> {
        let mut found = Vec::with_capacity(wanted.fields().len());
        for field in wanted.fields() {
            let index = widen::position(file.fields(), field.name());
            if let Some(index) = index {
                widen::check(file.field(index).data_type(), field.data_type())
                    .map_err(|inner| mismatch(shown, field, file.field(index), &inner))?;
            }
            found.push(index);
        }
        let mut roots: Vec<usize> = found.iter().flatten().copied().collect();
        roots.sort_unstable();
        roots.dedup();
        let sources = found.iter().zip(wanted.fields()).map(|(index, field)| {
            let index = (*index)?;
            Some((roots.binary_search(&index).ok()?, file.field(index).data_type() != field.data_type()))
        });
        let sources = sources.collect();
        Ok(Self { wanted, roots, sources, shown })
    }

    fn take(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let columns = self.sources.iter().zip(self.wanted.fields()).map(|(source, field)| -> Result<ArrayRef> {
            match source {
                None => Ok(new_null_array(field.data_type(), batch.num_rows())),
                Some((index, false)) => Ok(Arc::clone(batch.column(*index))),
                Some((index, true)) => {
                    let column = batch.column(*index);
                    widen::widen(column, field.data_type()).map_err(|error| {
                        let (found, wanted) = (widen::spelled(column.data_type()), widen::spelled(field.data_type()));
                        let types = format!("is {found} in the file and {wanted} in the table");
                        let text = format!("file \"{}\", column \"{}\" {types}: {error}", self.shown, field.name());
                        Error::data("HIVE_BAD_DATA", text)
                            .with_hint("declare the column with the file's type, or write the file again")
                    })
                }
            }
        });
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(self.wanted), columns.collect::<Result<_>>()?, &options)?)
    }
}

fn mismatch(shown: &str, wanted: &Field, found: &Field, inner: &widen::Mismatch) -> Error {
    let text = format!(
        "file \"{shown}\", column \"{}\" is {} in the file and {} in the table{}",
        wanted.name(),
        widen::spelled(found.data_type()),
        widen::spelled(wanted.data_type()),
        inner.place(),
    );
    let has_type = widen::check(found.data_type(), &widen::usable(found.data_type())).is_ok();
    Error::data("HIVE_BAD_DATA", text).with_hint(match has_type {
        true => "declare the column with the file's type, or write the file again",
        false => "no column of a table has that type: leave it out of the query, or write the file again",
    })
}

fn broken(shown: &str, error: ParquetError) -> Error {
    if let ParquetError::External(inner) = error {
        return match inner.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(inner) => Error::data("HIVE_CURSOR_ERROR", format!("file \"{shown}\" cannot be read: {inner}")),
        };
    }
    Error::data("HIVE_BAD_DATA", format!("file \"{shown}\" is not valid Parquet: {error}"))
        .with_hint("it may be cut short or of another format; move it away or declare the format it has")
}

/// What is known of a file before its columns are read.
#[derive(Clone)]
struct Footer {
    metadata: ArrowReaderMetadata,
    tail: Tail,
}

/// The end of a file that came with its footer: of a small file it holds the columns too.
#[derive(Debug, Clone, Default)]
struct Tail {
    start: u64,
    bytes: Bytes,
}

impl Tail {
    /// The bytes of a range, if they are all here.
    fn get(&self, range: &Range<u64>) -> Option<Bytes> {
        let from = usize::try_from(range.start.checked_sub(self.start)?).ok()?;
        let to = usize::try_from(range.end.checked_sub(self.start)?).ok()?;
        (from <= to && to <= self.bytes.len()).then(|| self.bytes.slice(from..to))
    }
}

/// The footer of a file, with the types that any reader of Parquet sees.
async fn footer(place: &Place, file: &OpenFile) -> Result<Footer> {
    let mut tail = Tail::default();
    let metadata = metadata(Fetch { place, path: &file.file.path, tail: &mut tail }, file).await?;
    Ok(Footer { metadata, tail })
}

async fn metadata(fetch: Fetch<'_>, file: &OpenFile) -> Result<ArrowReaderMetadata> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let reader = ParquetMetaDataReader::new()
        .with_prefetch_hint(Some(FOOTER_BYTES))
        .with_page_index_policy(PageIndexPolicy::Skip);
    let footer = reader.load_and_finish(fetch, file.file.size).await.map_err(|error| broken(&file.shown, error))?;
    let footer = Arc::new(footer);
    let plain = ArrowReaderMetadata::try_new(Arc::clone(&footer), options.clone());
    let plain = plain.map_err(|error| broken(&file.shown, error))?;
    match without_nanoseconds(&plain) {
        None => Ok(plain),
        Some(schema) => ArrowReaderMetadata::try_new(footer, options.with_schema(schema))
            .map_err(|error| broken(&file.shown, error)),
    }
}

/// The schema with 96-bit timestamps in microseconds, whose range nanoseconds do not have.
fn without_nanoseconds(metadata: &ArrowReaderMetadata) -> Option<SchemaRef> {
    let columns = metadata.parquet_schema().columns();
    if !columns.iter().any(|column| column.physical_type() == Physical::INT96) {
        return None;
    }
    let is_old = |name: &str| {
        columns.iter().any(|column| {
            column.physical_type() == Physical::INT96 && column.path().parts().len() == 1 && column.name() == name
        })
    };
    let fields: Vec<Field> = metadata
        .schema()
        .fields()
        .iter()
        .map(|field| match is_old(field.name()) {
            true => field.as_ref().clone().with_data_type(DataType::Timestamp(TimeUnit::Microsecond, None)),
            false => field.as_ref().clone(),
        })
        .collect();
    Some(Arc::new(Schema::new(fields)))
}

struct Fetch<'a> {
    place: &'a Place,
    path: &'a Path,
    /// What came first: the end of the file.
    tail: &'a mut Tail,
}

impl parquet::arrow::async_reader::MetadataFetch for Fetch<'_> {
    fn fetch(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        async move {
            if let Some(found) = self.tail.get(&range).filter(|found| !found.is_empty()) {
                return Ok(found);
            }
            let start = range.start;
            let bytes = fetch(self.place, self.path, range).await?;
            *self.tail = Tail { start, bytes: bytes.clone() };
            Ok(bytes)
        }
        .boxed()
    }
}

async fn fetch(place: &Place, path: &Path, range: Range<u64>) -> parquet::errors::Result<Bytes> {
    let found = fetch::range(place, path, range, Vec::new()).await;
    found.map_err(|error| ParquetError::External(Box::new(error)))
}

/// Fetches the column chunks of one file.
struct FileReader {
    place: Place,
    path: Path,
    metadata: Arc<ParquetMetaData>,
    tail: Tail,
}

impl AsyncFileReader for FileReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        async move {
            match self.tail.get(&range) {
                Some(found) => Ok(found),
                None => fetch(&self.place, &self.path, range).await,
            }
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        let (place, path, tail) = (&self.place, &self.path, &self.tail);
        async move {
            if let Some(found) = ranges.iter().map(|range| tail.get(range)).collect() {
                return Ok(found);
            }
            coalesce_ranges(&ranges, |range| fetch(place, path, range), GAP_BYTES).await
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        let metadata = Arc::clone(&self.metadata);
        async move { Ok(metadata) }.boxed()
    }
}
