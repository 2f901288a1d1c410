//! Text files (JSON, CSV, lines): fetched in chunks several ahead, inflated, handed to the format's reader.
//!
//! ```text
//!  units --bounds--> ranges --requests--> chunks --inflate--> RowReader --> Output
//!          (a few ahead)     (several ahead)
//! ```
//!
//! Invariant: at most [`CHUNKS_AHEAD`] chunks of [`CHUNK_BYTES`] wait per partition, of local files fewer and smaller
//! ones; a part of a file begins and ends where the format says a record surely starts, and neighbours agree on that
//! without speaking to each other.

use std::{ops::Range, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use headwater_engine::error::Result;

use super::{
    RowReader,
    fetch::{self, Used},
    inflate::Inflater,
    output::{Flow, OpenFile, Output},
};
use crate::lake::{
    compression::Compression,
    counting::ListingCost,
    listing::LakeFile,
    scan::{LakeScan, Unit},
};

/// Bytes of one request.
pub(crate) const CHUNK_BYTES: u64 = 4 << 20;
/// Bytes handed to a reader at a time: what a core's own cache holds, for a reader goes over them more than once.
const FED_BYTES: usize = 256 << 10;
/// Requests under way or answered and not yet decoded, per partition.
const CHUNKS_AHEAD: usize = 8;
/// The same for local files, which answer at once: what is read should still be in the processor's cache when it is
/// decoded, and its memory be used again soon.
const LOCAL_CHUNK_BYTES: u64 = 1 << 20;
const LOCAL_CHUNKS_AHEAD: usize = 2;
/// Parts whose ends are looked for ahead.
const UNITS_AHEAD: usize = 2;
/// Bytes of a file in which its header is looked for, for a part that does not begin with it.
const HEADER_BYTES_MAX: u64 = 1 << 20;
/// Bytes before a part up to which lines are counted, to say on which line of the file a malformed row stands.
const COUNTED_MAX: u64 = 1 << 30;
/// Bytes after a cut within which a start of a record is looked for.
const BOUNDARY_WINDOW: u64 = 4 << 20;

/// A range to fetch of a unit.
#[derive(Debug, Clone)]
struct Request {
    unit: usize,
    range: Range<u64>,
    is_last: bool,
}

struct Chunk {
    request: Request,
    bytes: Bytes,
}

/// Reads the units of one partition.
pub(crate) async fn read(scan: &Arc<LakeScan>, units: &[Unit], output: &mut Output) -> Result<()> {
    let used = Used::new(LOCAL_CHUNKS_AHEAD);
    let mut chunks = std::pin::pin!(chunks(scan, units, &used));
    let mut open: Option<Open> = None;
    let mut spare = BytesMut::new();
    while !output.is_done() {
        let Some(chunk) = chunks.try_next().await? else { break };
        let mut current = match open.take() {
            Some(current) => current,
            None => {
                let unit = &units[chunk.request.unit];
                let mut begun = Open::new(scan, unit, &chunk, std::mem::take(&mut spare))?;
                if scan.format.needs_header(begun.start, HEADER_BYTES_MAX) {
                    let length = HEADER_BYTES_MAX.min(scan.listing.files[unit.file].size);
                    begun.reader.follows(&fetch_range(scan, unit.file, 0..length, Vec::new()).await?);
                }
                begun
            }
        };
        if current.push(&chunk, output).await? == Flow::Enough {
            break;
        }
        if chunk.request.is_last {
            spare = current.into_spare();
        } else {
            open = Some(current);
        }
        used.put(chunk.bytes);
    }
    Ok(())
}

fn chunks<'a>(scan: &'a LakeScan, units: &'a [Unit], used: &'a Used) -> impl Stream<Item = Result<Chunk>> + 'a {
    let is_local = scan.listing.partitions.iter().all(|partition| partition.place.listing == ListingCost::Free);
    let (size, ahead) = if is_local { (LOCAL_CHUNK_BYTES, LOCAL_CHUNKS_AHEAD) } else { (CHUNK_BYTES, CHUNKS_AHEAD) };
    stream::iter(0..units.len())
        .map(move |index| async move { bounds(scan, &units[index]).await.map(|range| (index, range)) })
        .buffered(UNITS_AHEAD)
        .map_ok(move |(unit, range)| stream::iter(requests(unit, range, size)).map(Ok))
        .try_flatten()
        .map_ok(move |request| fetch(scan, &units[request.unit], request, used))
        .try_buffered(ahead)
}

fn requests(unit: usize, range: Range<u64>, size: u64) -> Vec<Request> {
    let mut requests: Vec<Request> = (range.start..range.end)
        .step_by(usize::try_from(size).unwrap_or(usize::MAX))
        .map(|start| Request { unit, range: start..(start + size).min(range.end), is_last: false })
        .collect();
    if let Some(last) = requests.last_mut() {
        last.is_last = true;
    }
    requests
}

async fn fetch(scan: &LakeScan, unit: &Unit, request: Request, used: &Used) -> Result<Chunk> {
    let bytes = fetch_range(scan, unit.file, request.range.clone(), used.take()).await?;
    Ok(Chunk { request, bytes })
}

async fn fetch_range(scan: &LakeScan, file: usize, range: Range<u64>, memory: Vec<u8>) -> Result<Bytes> {
    let file = &scan.listing.files[file];
    fetch::range(&scan.listing.partitions[file.partition].place, &file.path, range, memory).await
}

/// Where a unit's records start and end: at its cuts' first sure starts of a record.
async fn bounds(scan: &LakeScan, unit: &Unit) -> Result<Range<u64>> {
    let size = scan.listing.files[unit.file].size;
    if unit.is_exact || unit.range == (0..size) {
        return Ok(unit.range.clone());
    }
    // What is compressed is read as a whole by whoever has its start, whatever the file's name says, and so is what has no
    // record that surely starts after a cut.
    let first = fetch_range(scan, unit.file, 0..scan.format.start_bytes().min(size), Vec::new()).await?;
    if Compression::by_magic(&first).is_some() || !scan.format.may_cut(&first) {
        return Ok(if unit.range.start == 0 { 0..size } else { 0..0 });
    }
    let length = unit.range.end - unit.range.start;
    let start = match unit.range.start {
        0 => 0,
        cut => match boundary(scan, unit.file, cut).await? {
            Some(start) => start,
            None => return Ok(0..0),
        },
    };
    let mut cut = unit.range.end;
    while cut < size {
        if let Some(end) = boundary(scan, unit.file, cut).await? {
            return Ok(start..end.max(start));
        }
        cut = (cut + length).min(size);
    }
    Ok(start..size)
}

/// The first sure start of a record at or after a cut, if there is one nearby.
async fn boundary(scan: &LakeScan, file: usize, cut: u64) -> Result<Option<u64>> {
    let size = scan.listing.files[file].size;
    let mut length = 64 << 10;
    loop {
        let end = (cut + length).min(size);
        let window = fetch_range(scan, file, cut - 1..end, Vec::new()).await?;
        if let Some(at) = scan.format.record_start(&window) {
            return Ok(Some(cut - 1 + at as u64));
        }
        if end == size || length >= BOUNDARY_WINDOW {
            return Ok(None);
        }
        length *= 8;
    }
}

/// Lines that end before a byte of a file; not known where too much would have to be read for it.
async fn lines_before(scan: &LakeScan, file: &LakeFile, byte: u64) -> Result<Option<u64>> {
    if byte > COUNTED_MAX {
        return Ok(None);
    }
    let place = &scan.listing.partitions[file.partition].place;
    let mut lines = 0;
    for start in (0..byte).step_by(CHUNK_BYTES as usize) {
        let range = start..(start + CHUNK_BYTES).min(byte);
        let bytes = fetch::range(place, &file.path, range, Vec::new()).await?;
        lines += memchr::memchr_iter(b'\n', &bytes).count() as u64;
    }
    Ok(Some(lines))
}

/// A file that is being read.
struct Open {
    file: OpenFile,
    /// First byte of the part.
    start: u64,
    inflater: Inflater,
    reader: Box<dyn RowReader>,
}

impl Open {
    fn new(scan: &LakeScan, unit: &Unit, first: &Chunk, spare: BytesMut) -> Result<Self> {
        let file = scan.open(&scan.listing.files[unit.file], unit.range.start == 0);
        let is_whole = unit.range.start == 0 && first.request.range.start == 0;
        let compression = is_whole.then(|| Compression::of(file.file.path.as_ref(), &first.bytes)).flatten();
        let columns = scan.listing.partitions[file.file.partition].columns.as_deref();
        let mut reader = scan.format.reader(scan, columns, first.request.range.start == 0)?;
        reader.starts_at(first.request.range.start, 1);
        if scan.rejects.is_some() || !scan.required.is_empty() {
            reader.keep_starts();
        }
        let inflater = Inflater::new(&file.shown, compression, file.file.size, spare);
        Ok(Self { inflater, file, start: first.request.range.start, reader })
    }

    fn into_spare(self) -> BytesMut {
        drop(self.reader);
        self.inflater.into_spare()
    }

    async fn push(&mut self, chunk: &Chunk, output: &mut Output) -> Result<Flow> {
        self.inflater.feed(chunk.bytes.clone(), chunk.request.is_last);
        while let Some(mut bytes) = self.inflater.next().await? {
            while !bytes.is_empty() {
                self.reader.feed(bytes.split_to(bytes.len().min(FED_BYTES)));
                if self.drain(output).await? == Flow::Enough {
                    return Ok(Flow::Enough);
                }
            }
        }
        if chunk.request.is_last {
            self.reader.finish_input();
            return self.drain(output).await;
        }
        Ok(Flow::More)
    }

    async fn drain(&mut self, output: &mut Output) -> Result<Flow> {
        while let Some(mut found) = self.reader.next_rows()? {
            if self.start > 0 && output.fails_at(&found) {
                let before = lines_before(output.scan(), &self.file.file, self.start).await?;
                found.rejected.iter_mut().for_each(|rejected| rejected.line = before.map_or(0, |n| n + rejected.line));
            }
            if output.take(&self.file, found).await? == Flow::Enough {
                return Ok(Flow::Enough);
            }
        }
        Ok(if output.is_done() { Flow::Enough } else { Flow::More })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use arrow::datatypes::{DataType, Field, Schema};
    use object_store::{ObjectStoreExt, PutPayload, memory::InMemory, path::Path};

    use super::*;
    use crate::{
        formats::json::JsonOptions,
        lake::{
            format::{Malformed, ReadFormat},
            listing::{ListedPartition, Listing},
            scan::{Source, Wanted},
            stores::Place,
        },
    };

    /// A scan of one file of JSON with the column `a`.
    async fn scan_of(bytes: &[u8]) -> Arc<LakeScan> {
        let (store, path) = (InMemory::new(), Path::from("t/part-0000"));
        store.put(&path, PutPayload::from(bytes.to_vec())).await.unwrap();
        let place = Place {
            store: Arc::new(store),
            path: Path::from("t"),
            root: "s3://b/".into(),
            listing: ListingCost::PerObject,
            uploads: None,
        };
        let modified = chrono::DateTime::UNIX_EPOCH;
        let listing = Listing {
            partitions: vec![ListedPartition { values: Vec::new(), place, columns: None }],
            files: vec![LakeFile { path, size: bytes.len() as u64, modified, partition: 0 }],
            ..Listing::default()
        };
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
        Arc::new(LakeScan {
            table: "t".into(),
            listing,
            format: ReadFormat::Json(Box::<JsonOptions>::default()),
            table_columns: Arc::clone(&schema),
            file_schema: Arc::clone(&schema),
            schema,
            output: vec![Source::File(0)],
            wanted: Wanted::Rows,
            malformed: Malformed::Fail,
            required: Vec::new(),
            predicate: None,
            stats: Arc::default(),
            rejects: None,
            opened: parking_lot::Mutex::default(),
        })
    }

    fn unit(range: Range<u64>) -> Unit {
        Unit { file: 0, range, is_exact: false }
    }

    #[tokio::test]
    async fn a_compressed_file_is_one_part_whatever_its_name() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        (0..2000).for_each(|n| writeln!(gzip, "{{\"a\":{n}}}").unwrap());
        let bytes = gzip.finish().unwrap();
        let (size, scan) = (bytes.len() as u64, scan_of(&bytes).await);
        assert_eq!(bounds(&scan, &unit(0..size / 2)).await.unwrap(), 0..size);
        assert!(bounds(&scan, &unit(size / 2..size)).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_malformed_row_of_a_part_is_on_its_line_of_the_file() {
        let text: String = (1..=2000)
            .map(|n| if n == 1500 { "{\"a\":\"x\"}\n".to_owned() } else { format!("{{\"a\":{n}}}\n") })
            .collect();
        let (size, scan) = (text.len() as u64, scan_of(text.as_bytes()).await);
        let (sender, _receiver) = tokio::sync::mpsc::channel(8);
        let mut output = Output::new(Arc::clone(&scan), sender, None);
        let error = read(&scan, &[unit(size / 2..size)], &mut output).await.unwrap_err();
        assert!(error.message().contains("line 1500, byte offset"), "{error}");
    }

    #[test]
    fn requests_cover_the_range_and_mark_the_last() {
        let found = requests(3, 10..CHUNK_BYTES * 2 + 11, CHUNK_BYTES);
        assert_eq!(found.len(), 3);
        assert_eq!((found[0].range.start, found[2].range.end), (10, CHUNK_BYTES * 2 + 11));
        assert!(found.windows(2).all(|pair| pair[0].range.end == pair[1].range.start && !pair[0].is_last));
        assert!(found[2].is_last);
        assert!(requests(0, 5..5, CHUNK_BYTES).is_empty());
    }
}
