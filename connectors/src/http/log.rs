//! The log of a table: records are numbered from 0 on, written in segments, and gone once a checkpoint has them.
//!
//! ```text
//! append ──queue──> writer thread: frames of all that wait ──write, fsync──> answered   (group commit)
//!                                     └─ failed: answered as failed, the segment is closed for good
//! ```
//!
//! Numbers that a failed sync leaves in a closed segment are given again in the next one, whose name says from where on
//! the older ones do not count.
//!
//! Invariant: [`Log::durable`] is never ahead of the disk, and every record below it was answered as accepted.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use headwater_engine::error::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    record::Record,
    segment::{self, Cursor, Segment},
};

/// A segment is closed when it has so many bytes.
const SEGMENT_BYTES: u64 = 16 << 20;
/// Requests that wait for the writer.
const QUEUE: usize = 1024;
/// Bytes that are synced at once.
const COMMIT_BYTES: usize = 8 << 20;
/// A place to start reading from is noted every so many bytes.
const MARK_BYTES: u64 = 64 << 10;
const INCARNATION: &str = "incarnation";

/// Why a request was not accepted.
#[derive(Debug)]
pub(super) enum Refused {
    /// Too much waits for a checkpoint.
    Full,
    /// The disk failed.
    Failed(String),
}

struct Append {
    records: Vec<Record>,
    answer: oneshot::Sender<std::result::Result<u64, Refused>>,
}

/// Where a record begins.
#[derive(Debug, Clone, Copy)]
struct Mark {
    number: u64,
    segment: u64,
    at: u64,
    /// Bytes appended before it, over all segments.
    bytes: u64,
}

#[derive(Debug)]
struct Books {
    segments: VecDeque<Segment>,
    marks: VecDeque<Mark>,
    /// Bytes appended, over all segments that were ever open in this process.
    appended: u64,
    /// Bytes appended before the first record no checkpoint has.
    acknowledged: u64,
    /// Whether records are no longer taken.
    is_closed: bool,
}

/// A log.
#[derive(Debug)]
pub(super) struct Log {
    folder: PathBuf,
    limit: u64,
    books: Arc<Mutex<Books>>,
    queue: mpsc::Sender<Append>,
    durable: watch::Receiver<u64>,
}

impl Log {
    /// Opens the log of a folder for a life of a job, or makes it; replays nothing and cuts off what was never answered.
    pub(super) fn open(folder: &Path, incarnation: &str, limit: u64) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let lock = File::create(folder.join("lock"))?;
        if lock.try_lock().is_err() {
            let message = format!("the log in \"{}\" is in use by another process", folder.display());
            return Err(Error::new(ErrorKind::Unavailable, "LOG_IN_USE", message));
        }
        claim(folder, incarnation)?;
        let (books, next) = recover(folder)?;
        let (durable_now, durable) = watch::channel(next);
        let (queue, waiting) = mpsc::channel(QUEUE);
        let books = Arc::new(Mutex::new(books));
        let writer = Writer {
            folder: folder.to_owned(),
            books: Arc::clone(&books),
            durable: durable_now,
            next,
            file: None,
            first: next,
            bytes: 0,
            _lock: lock,
        };
        std::thread::Builder::new()
            .name("http-log".to_owned())
            .spawn(move || writer.run(waiting))
            .map_err(|error| Error::from(error).context("cannot start a thread for a log"))?;
        Ok(Self { folder: folder.to_owned(), limit, books, queue, durable })
    }

    /// Appends records and waits until they are on disk; gives the number of the first.
    pub(super) async fn append(&self, records: Vec<Record>) -> std::result::Result<u64, Refused> {
        let (answer, answered) = oneshot::channel();
        self.enqueue(Append { records, answer })?;
        answered.await.unwrap_or_else(|_| Err(Refused::Failed("the log's writer has ended".to_owned())))
    }

    /// Lets records wait for the writer, unless too many bytes wait for a checkpoint.
    fn enqueue(&self, append: Append) -> std::result::Result<(), Refused> {
        let books = self.books.lock();
        if books.is_closed || books.appended - books.acknowledged > self.limit {
            return Err(Refused::Full);
        }
        self.queue.try_send(append).map_err(|_| Refused::Full)
    }

    /// Takes no more records; returns once all that were taken are on disk and answered.
    pub(super) async fn close(&self) -> Result<()> {
        self.books.lock().is_closed = true;
        let (answer, answered) = oneshot::channel();
        let ended = || Error::internal("the writer of a log has ended");
        // The writer takes requests in order: when it answers this one, it has answered all others.
        self.queue.send(Append { records: Vec::new(), answer }).await.map_err(|_| ended())?;
        answered.await.map(drop).map_err(|_| ended())
    }

    /// One past the last record on disk, and how to wait for more.
    pub(super) fn durable(&self) -> watch::Receiver<u64> {
        self.durable.clone()
    }

    /// Number of the first record that is still there.
    pub(super) fn first(&self) -> u64 {
        self.books.lock().segments.front().map_or(*self.durable.borrow(), |segment| segment.first)
    }

    /// A checkpoint has everything before this number: segments below it go.
    pub(super) fn acknowledge(&self, up_to: u64) {
        let mut books = self.books.lock();
        while books.marks.len() > 1 && books.marks[1].number <= up_to {
            books.marks.pop_front();
        }
        let all = up_to >= *self.durable.borrow();
        let reached = if all { books.appended } else { books.marks.front().map_or(0, |mark| mark.bytes) };
        books.acknowledged = books.acknowledged.max(reached);
        while books.segments.len() > 1 && books.segments[1].first <= up_to {
            if let Some(segment) = books.segments.pop_front()
                && let Err(error) = fs::remove_file(segment::path(&self.folder, segment.first))
            {
                tracing::warn!("http: a segment of the log in \"{}\" stays: {error}", self.folder.display());
            }
        }
    }

    /// Records from `number` on, until so many bytes are read or `end` is reached.
    pub(super) fn read(&self, number: u64, end: u64, bytes: usize) -> Result<Vec<Record>> {
        let mut cursor = self.seek(number)?;
        let segments = self.books.lock().segments.iter().map(|segment| segment.first).collect::<Vec<_>>();
        let mut following = segments.into_iter().filter(|first| *first > number).peekable();
        let (mut at, mut records, mut size) = (number, Vec::new(), 0);
        while at < end && size < bytes {
            if let Some(first) = following.next_if_eq(&at) {
                cursor = Cursor::open(&self.folder, first, 0)?;
            }
            let record = cursor.next()?.ok_or_else(|| self.damaged(at))?;
            at += 1;
            size += record.payload.len() + 64;
            records.push(record);
        }
        Ok(records)
    }

    fn damaged(&self, number: u64) -> Error {
        let message = format!("record {number} of the log in \"{}\" cannot be read", self.folder.display());
        Error::data("LOG_DAMAGED", message)
    }

    /// A cursor that stands at a record.
    fn seek(&self, number: u64) -> Result<Cursor> {
        let books = self.books.lock();
        let segment = books.segments.iter().rev().find(|segment| segment.first <= number);
        let segment = segment.ok_or_else(|| self.damaged(number))?.first;
        let mark = books.marks.iter().rev().find(|mark| mark.number <= number && mark.segment == segment);
        let (at, offset) = mark.map_or((segment, 0), |mark| (mark.number, mark.at));
        drop(books);
        let mut cursor = Cursor::open(&self.folder, segment, offset)?;
        for skipped in at..number {
            cursor.next()?.ok_or_else(|| self.damaged(skipped))?;
        }
        Ok(cursor)
    }
}

/// Takes the folder for a life of a job.
fn claim(folder: &Path, incarnation: &str) -> Result<()> {
    let file = folder.join(INCARNATION);
    match fs::read_to_string(&file) {
        Ok(known) if known == incarnation => Ok(()),
        Ok(known) if !known.is_empty() => Err(Error::user(
            "LOG_OF_ANOTHER_JOB",
            format!(
                "the log in \"{}\" holds what was sent to another job, or to this one before its state was dropped",
                folder.display()
            ),
        )
        .with_hint("restore that state, or move the folder away: what it holds and no checkpoint has will be missing")),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        // Also where whoever began it was stopped before it was written: nothing is acknowledged before it is.
        Ok(_) | Err(_) => {
            let begun = folder.join(format!("{INCARNATION}.new"));
            fs::write(&begun, incarnation)?;
            File::open(&begun)?.sync_all()?;
            fs::rename(&begun, &file)?;
            Ok(segment::sync_folder(folder)?)
        }
    }
}

/// What is on disk: segments, and the next number.
fn recover(folder: &Path) -> Result<(Books, u64)> {
    let (segments, marks) = (VecDeque::new(), VecDeque::new());
    let mut books = Books { segments, marks, appended: 0, acknowledged: 0, is_closed: false };
    let numbers = segment::list(folder)?;
    let mut next = numbers.first().copied().unwrap_or(0);
    for (index, first) in numbers.iter().enumerate() {
        let limit = numbers.get(index + 1).map_or(u64::MAX, |following| following - first);
        let (count, bytes) = segment::scan(folder, *first, limit)?;
        let is_last = index + 1 == numbers.len();
        if !is_last && count < limit {
            let message = format!("record {} of the log in \"{}\" is missing", first + count, folder.display());
            return Err(Error::data("LOG_DAMAGED", message));
        }
        if is_last {
            let file = fs::OpenOptions::new().write(true).open(segment::path(folder, *first))?;
            file.set_len(bytes)?;
            file.sync_all()?;
        }
        books.marks.push_back(Mark { number: *first, segment: *first, at: 0, bytes: books.appended });
        books.segments.push_back(Segment { first: *first, bytes });
        books.appended += bytes;
        next = first + count;
    }
    Ok((books, next))
}

/// Writes what is appended, on a thread of its own.
struct Writer {
    folder: PathBuf,
    books: Arc<Mutex<Books>>,
    durable: watch::Sender<u64>,
    next: u64,
    /// The open segment; `None` before the first record and after a failure.
    file: Option<File>,
    first: u64,
    bytes: u64,
    /// Held until the last write is done.
    _lock: File,
}

impl Writer {
    fn run(mut self, mut waiting: mpsc::Receiver<Append>) {
        while let Some(append) = waiting.blocking_recv() {
            let mut frames = Vec::new();
            let (mut group, mut starts, mut count) = (Vec::new(), Vec::new(), 0);
            let mut next = Some(append);
            while let Some(append) = next.take() {
                for record in &append.records {
                    starts.push(frames.len() as u64);
                    record.write(&mut frames);
                }
                group.push((self.next + count, append.answer));
                count += append.records.len() as u64;
                if frames.len() < COMMIT_BYTES {
                    next = waiting.try_recv().ok();
                }
            }
            let written = self.commit(&frames, &starts, count);
            for (first, answer) in group {
                // A client that has gone does not wait for its answer.
                let _client_gone = answer.send(match &written {
                    Ok(()) => Ok(first),
                    Err(error) => Err(Refused::Failed(error.to_string())),
                });
            }
        }
    }

    fn commit(&mut self, frames: &[u8], starts: &[u64], count: u64) -> io::Result<()> {
        if count == 0 {
            return Ok(());
        }
        let written = self.write(frames);
        if let Err(error) = written {
            tracing::error!("http: the log in \"{}\" cannot be written: {error}", self.folder.display());
            self.file = None;
            return Err(error);
        }
        let mut books = self.books.lock();
        let mut marked = books.marks.back().filter(|mark| mark.segment == self.first).map(|mark| mark.at);
        for (index, start) in starts.iter().enumerate() {
            let at = self.bytes + start;
            if marked.is_none_or(|marked| at - marked >= MARK_BYTES) {
                let bytes = books.appended + start;
                books.marks.push_back(Mark { number: self.next + index as u64, segment: self.first, at, bytes });
                marked = Some(at);
            }
        }
        self.bytes += frames.len() as u64;
        books.appended += frames.len() as u64;
        if let Some(segment) = books.segments.back_mut() {
            segment.bytes = self.bytes;
        }
        drop(books);
        self.next += count;
        self.durable.send_replace(self.next);
        Ok(())
    }

    fn write(&mut self, frames: &[u8]) -> io::Result<()> {
        if self.bytes >= SEGMENT_BYTES {
            self.file = None;
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.roll()?,
        };
        segment::append(&mut file, frames)?;
        self.file = Some(file);
        Ok(())
    }

    /// A new segment from the next number on; one that holds nothing that counts is replaced.
    fn roll(&mut self) -> io::Result<File> {
        let path = segment::path(&self.folder, self.next);
        if path.exists() {
            fs::remove_file(&path)?;
        }
        let file = segment::create(&self.folder, self.next)?;
        (self.first, self.bytes) = (self.next, 0);
        let mut books = self.books.lock();
        books.segments.retain(|segment| segment.first < self.next);
        books.segments.push_back(Segment { first: self.next, bytes: 0 });
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};
    use bytes::Bytes;
    use headwater_engine::{connector::TableSpec, memory::MemoryBudget, time::SystemClock};
    use hyper::Request;

    use super::{
        super::{api, listener::Endpoint, options::HttpOptions},
        *,
    };

    fn records(numbers: std::ops::Range<u64>) -> Vec<Record> {
        let record = |number: u64| Record {
            payload: Bytes::from(format!("{number} {}", "x".repeat(1000))),
            partition_key: String::new(),
            headers: Arc::default(),
            arrival_ms: number as i64,
        };
        numbers.map(record).collect()
    }

    fn arrivals(log: &Log, from: u64) -> Vec<i64> {
        let end = *log.durable().borrow();
        let (mut at, mut found) = (from, Vec::new());
        while at < end {
            let read = log.read(at, end, 1 << 20).unwrap();
            at += read.len() as u64;
            found.extend(read.iter().map(|record| record.arrival_ms));
        }
        found
    }

    #[test]
    fn a_log_whose_first_life_ended_while_it_took_the_folder_is_taken_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(INCARNATION), "").unwrap();
        claim(folder.path(), "two").unwrap();
        claim(folder.path(), "two").unwrap();
        assert_eq!(claim(folder.path(), "three").unwrap_err().code().0, "LOG_OF_ANOTHER_JOB");
    }

    #[tokio::test]
    async fn what_was_answered_is_there_after_a_restart_and_a_torn_end_is_not() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let log = Log::open(folder.path(), "one", 1 << 30)?;
        assert_eq!(log.append(records(0..300)).await.unwrap(), 0);
        assert_eq!(log.append(records(300..40_000)).await.unwrap(), 300);
        assert_eq!(log.append(records(40_000..40_010)).await.unwrap(), 40_000);
        assert!(Log::open(folder.path(), "one", 1).unwrap_err().message().contains("in use"));
        let last = segment::list(folder.path())?.pop().unwrap_or_default();
        drop(log);
        let torn = &records(0..1)[0];
        let mut frame = Vec::new();
        torn.write(&mut frame);
        let path = segment::path(folder.path(), last);
        let mut bytes = fs::read(&path)?;
        bytes.extend_from_slice(&frame[..frame.len() - 1]);
        fs::write(&path, bytes)?;

        let log = reopened(folder.path(), "one").await?;
        assert_eq!(log.append(records(40_010..40_011)).await.unwrap(), 40_010);
        let expected: Vec<i64> = (0..40_011).collect();
        assert_eq!(arrivals(&log, 0), expected);
        assert_eq!(arrivals(&log, 39_999), expected[39_999..]);
        log.acknowledge(40_010);
        assert!(log.first() > 0, "segments before the last are gone");
        assert_eq!(arrivals(&log, 40_010), [40_010]);
        drop(log);
        let other = loop {
            match Log::open(folder.path(), "two", 1) {
                Err(error) if error.code().0 == "LOG_IN_USE" => tokio::task::yield_now().await,
                other => break other,
            }
        };
        assert_eq!(other.unwrap_err().code().0, "LOG_OF_ANOTHER_JOB");
        Ok(())
    }

    /// An endpoint whose log has two records and then, once, a file that takes what is written and cannot be synced.
    async fn without_one_sync(folder: &Path) -> Result<Endpoint> {
        let log = Log::open(folder, "one", 1 << 20)?;
        assert_eq!(log.append(records(0..2)).await.unwrap(), 0);
        drop(log);
        let lock = File::create(folder.join("lock"))?;
        while lock.try_lock().is_err() {
            tokio::task::yield_now().await;
        }
        let (books, next) = recover(folder)?;
        let bytes = books.segments.back().map_or(0, |segment| segment.bytes);
        let file = Some(fs::OpenOptions::new().write(true).open("/dev/null")?);
        let (durable_now, durable) = watch::channel(next);
        let ((queue, waiting), books) = (mpsc::channel(QUEUE), Arc::new(Mutex::new(books)));
        let (folder, of_writer) = (folder.to_owned(), Arc::clone(&books));
        let own = folder.clone();
        let writer =
            Writer { folder: own, books: of_writer, durable: durable_now, next, file, first: 0, bytes, _lock: lock };
        std::thread::Builder::new().spawn(move || writer.run(waiting))?;
        let log = Arc::new(Log { folder, limit: 1 << 20, books, queue, durable });
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        let options = [("connector", "http"), ("listen", "127.0.0.1:1"), ("format", "json")];
        let options = HttpOptions::parse(&TableSpec::new("t", schema, options))?;
        Ok(Endpoint { options, log, clock: Arc::new(SystemClock), memory: MemoryBudget::new(1 << 20) })
    }

    #[tokio::test]
    async fn a_failed_sync_is_a_503_and_closes_its_segment_for_good() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let endpoint = without_one_sync(folder.path()).await?;
        // All of it may be on the disk nevertheless.
        let mut left = Vec::new();
        records(7..8)[0].write(&mut left);
        let mut first = fs::OpenOptions::new().append(true).open(segment::path(folder.path(), 0))?;
        segment::append(&mut first, &left)?;

        let parts = Request::builder().body(()).unwrap().into_parts().0;
        let status = async |body: &'static [u8]| {
            api::events(&endpoint, &parts, &Bytes::from_static(body)).await.status().as_u16()
        };
        assert_eq!(status(b"{\"n\": 1}").await, 503);
        assert_eq!(*endpoint.log.durable().borrow(), 2, "what was refused is not there");
        assert_eq!(status(b"{\"n\": 2}").await, 200);
        assert_eq!(segment::list(folder.path())?, [0, 2]);
        drop(endpoint);
        let log = reopened(folder.path(), "one").await?;
        assert_eq!(*log.durable().borrow(), 3);
        let read = log.read(0, 3, 1 << 20)?;
        assert_eq!((read.len(), &read[2].payload[..]), (3, &b"{\"n\": 2}"[..]), "nor what it left in its segment");
        Ok(())
    }

    async fn reopened(folder: &Path, incarnation: &str) -> Result<Log> {
        loop {
            match Log::open(folder, incarnation, 1 << 30) {
                Err(error) if error.code().0 == "LOG_IN_USE" => tokio::task::yield_now().await,
                other => return other,
            }
        }
    }

    #[tokio::test]
    async fn a_full_log_refuses_until_a_checkpoint_has_its_records() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let log = Log::open(folder.path(), "one", 100_000)?;
        let mut sent = 0;
        while log.append(records(sent..sent + 10)).await.is_ok() {
            sent += 10;
        }
        assert!((90..=120).contains(&sent), "{sent}");
        log.acknowledge(sent);
        assert_eq!(log.append(records(sent..sent + 1)).await.unwrap(), sent);
        assert_eq!(arrivals(&log, sent), [sent as i64]);
        Ok(())
    }
}
