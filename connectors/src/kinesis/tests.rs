//! Source and sink against a stream in memory that throttles, forgets and reshards as the real one does.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use arrow::{
    array::{RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use async_trait::async_trait;
use headwater_engine::{
    connector::{
        Bound, ChangelogMode, Cut, JobContext, Offset, OpenRequest, Sink, SinkTask, Source, SourceData, SourceEvent,
        Split, SplitId, SplitReader, SplitStart, StartAt, TableSpec,
    },
    error::{Error, ErrorKind, Result},
    message::{ChangeBatch, Epoch},
    testing::job_context,
    time::{Clock, Instant},
};
use parking_lot::Mutex;

use super::{
    api::{Description, Entry, Failure, Feed, Fetched, Position, PutOutcome, Shard, StreamApi, StreamRecord},
    options::KinesisOptions,
    put::Putter,
    sink::KinesisSink,
    source::KinesisSource,
};

/// Waiting takes no time: each sleep moves the clock on.
#[derive(Debug)]
struct SkippingClock(Mutex<i64>);

#[async_trait]
impl Clock for SkippingClock {
    fn now(&self) -> Instant {
        Instant(*self.0.lock())
    }

    async fn sleep(&self, time: Duration) {
        *self.0.lock() += time.as_millis() as i64;
        tokio::task::yield_now().await;
    }
}

const START_MS: i64 = 1_700_000_000_000;

#[derive(Debug, Default)]
struct State {
    shards: Vec<Shard>,
    records: BTreeMap<String, Vec<StreamRecord>>,
    closed: Vec<String>,
    /// Records before these are gone.
    trimmed: BTreeMap<String, usize>,
    calls: u64,
    next: u64,
    put: Vec<Vec<Entry>>,
    /// Keys of requests under way, one list a request.
    putting: Vec<Vec<String>>,
    most_puts: usize,
    /// Requests that had a key of another one under way.
    overlaps: usize,
    /// Whether the end of a shard does not name its children.
    hides_children: bool,
    /// Listings that fail before one answers.
    unlisted: u32,
    listings: u32,
    /// Where reading was asked to begin, each time.
    asked: Vec<Position>,
}

/// A stream in memory; every second call for records fails, in turn throttled, expired and unanswered.
#[derive(Debug, Clone, Default)]
struct FakeStream {
    state: Arc<Mutex<State>>,
    /// No iterator is ever good for a call.
    never_reads: bool,
    is_faulty: bool,
    /// Every second call for records finds that its iterator has expired.
    expires: bool,
    refuses_puts: bool,
    /// Requests to put are not answered.
    holds_puts: bool,
}

impl FakeStream {
    fn with_shards(ids: &[&str]) -> Self {
        let stream = Self::default();
        ids.iter().for_each(|id| stream.add_shard(id, &[]));
        stream
    }

    fn add_shard(&self, id: &str, parents: &[&str]) {
        let parents: Vec<String> = parents.iter().map(|parent| (*parent).to_owned()).collect();
        let mut state = self.state.lock();
        state.closed.extend(parents.iter().cloned());
        state.shards.push(Shard { id: id.to_owned(), parents, hash_keys: None });
    }

    fn put_value(&self, shard: &str, value: &str, arrival_ms: i64) {
        let mut state = self.state.lock();
        state.next += 1;
        let record = StreamRecord {
            sequence: (90 + state.next).to_string(),
            arrival_ms: Some(arrival_ms),
            partition_key: value.to_owned(),
            data: value.as_bytes().to_vec().into(),
        };
        state.records.entry(shard.to_owned()).or_default().push(record);
    }
}

#[derive(Debug)]
struct FakeFeed {
    stream: FakeStream,
    shard: String,
    at: usize,
}

#[async_trait]
impl Feed for FakeFeed {
    async fn fetch(&mut self) -> std::result::Result<Fetched, Failure> {
        let mut state = self.stream.state.lock();
        state.calls += 1;
        if self.stream.never_reads {
            return Err(Failure::Expired);
        }
        if self.stream.expires && state.calls.is_multiple_of(2) {
            return Err(Failure::Expired);
        }
        if self.stream.is_faulty && state.calls.is_multiple_of(2) {
            return Err(match state.calls % 6 {
                0 => Failure::Throttled,
                2 => Failure::Expired,
                _ => Failure::Unanswered(Error::unavailable("no answer")),
            });
        }
        let all = state.records.get(&self.shard).map(Vec::as_slice).unwrap_or_default();
        let to = all.len().min(self.at + 2);
        let records = all[self.at..to].to_vec();
        let is_end = to == all.len();
        self.at = to;
        let children = || {
            let is_child = |shard: &&Shard| shard.parents.contains(&self.shard);
            let children = state.shards.iter().filter(is_child);
            if state.hides_children { Vec::new() } else { children.cloned().collect() }
        };
        let ended = (is_end && state.closed.contains(&self.shard)).then(children);
        Ok(Fetched { records, behind_ms: Some(i64::from(!is_end)), ended, continuation: None })
    }

    fn is_pushed(&self) -> bool {
        false
    }
}

#[async_trait]
impl StreamApi for FakeStream {
    async fn shards(&self) -> Result<Vec<Shard>> {
        let mut state = self.state.lock();
        state.listings += 1;
        match state.unlisted.checked_sub(1) {
            Some(left) => {
                state.unlisted = left;
                Err(Error::unavailable("the shards are not listed now"))
            }
            None => Ok(state.shards.clone()),
        }
    }

    async fn describe(&self) -> Result<Description> {
        Ok(Description { arn: "arn".to_owned(), retention_ms: 24 * 3_600_000, record_bytes: 1 << 20 })
    }

    async fn feed(&self, shard: &str, from: &Position) -> std::result::Result<Box<dyn Feed>, Failure> {
        let mut state = self.state.lock();
        state.asked.push(from.clone());
        if !state.shards.iter().any(|known| known.id == shard) {
            return Err(Failure::Gone(Error::user("TABLE_NOT_FOUND", "no such shard")));
        }
        let all = state.records.get(shard).map(Vec::as_slice).unwrap_or_default();
        let index_of = |sequence: &str| all.iter().position(|record| record.sequence == sequence);
        let at = match from {
            Position::TrimHorizon => 0,
            Position::Latest => all.len(),
            Position::AtTimestamp(ms) => all.partition_point(|record| record.arrival_ms < Some(*ms)),
            Position::At(sequence) => index_of(sequence).unwrap_or(0),
            Position::After(sequence) => index_of(sequence).map_or(0, |at| at + 1),
        };
        let at = at.max(state.trimmed.get(shard).copied().unwrap_or(0));
        Ok(Box::new(FakeFeed { stream: self.clone(), shard: shard.to_owned(), at }))
    }

    async fn put(&self, entries: &[Entry]) -> std::result::Result<Vec<PutOutcome>, Failure> {
        let keys: Vec<String> = entries.iter().map(|entry| entry.partition_key.clone()).collect();
        {
            let mut state = self.state.lock();
            let overlaps = state.putting.iter().flatten().any(|key| keys.contains(key));
            state.overlaps += usize::from(overlaps);
            state.putting.push(keys.clone());
            state.most_puts = state.most_puts.max(state.putting.len());
        }
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        if self.holds_puts {
            std::future::pending::<()>().await;
        }
        let mut state = self.state.lock();
        state.calls += 1;
        if let Some(index) = state.putting.iter().position(|other| *other == keys) {
            state.putting.remove(index);
        }
        let fails = |index: usize| self.refuses_puts && (index as u64 + state.calls).is_multiple_of(3);
        let failed = || PutOutcome::Failed("ProvisionedThroughputExceededException".to_owned());
        let outcomes: Vec<PutOutcome> =
            (0..entries.len()).map(|index| if fails(index) { failed() } else { PutOutcome::Taken }).collect();
        let taken = entries.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == PutOutcome::Taken);
        let taken = taken.map(|(entry, _)| entry.clone()).collect();
        state.put.push(taken);
        Ok(outcomes)
    }
}

fn job() -> JobContext {
    JobContext { clock: Arc::new(SkippingClock(Mutex::new(START_MS))), ..job_context("j") }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("raw", DataType::Utf8, true)]))
}

fn table(extra: &[(&str, &str)]) -> TableSpec {
    let options = [("stream", "s"), ("format", "raw")].iter().chain(extra).copied();
    TableSpec::new("t", schema(), options)
}

async fn open(
    stream: &FakeStream,
    options: &[(&str, &str)],
    bound: Bound,
    starts: Vec<SplitStart>,
) -> Result<Box<dyn SplitReader>> {
    let source = KinesisSource::with_api(&table(options), Arc::new(stream.clone()))?;
    let request = OpenRequest { splits: starts, bound, columns: schema(), metadata: Vec::new(), task: 0, tasks: 1 };
    source.open(&job(), request).await
}

fn at(shard: &str, at: StartAt) -> Vec<SplitStart> {
    vec![SplitStart { split: Split::new(shard), at }]
}

/// Values of all batches until every split that was opened has ended or reached its end; the last positions too.
async fn drain(
    reader: &mut dyn SplitReader,
    mut open: usize,
) -> Result<(Vec<String>, BTreeMap<String, Offset>, Vec<Split>)> {
    let (mut values, mut resume, mut children) = (Vec::new(), BTreeMap::new(), Vec::new());
    while open > 0 {
        match reader.next().await? {
            SourceEvent::Batch(batch) => {
                let SourceData::Payloads { payloads, .. } = &batch.data else { panic!("payloads") };
                values.extend((0..payloads.len()).map(|i| String::from_utf8_lossy(payloads.payload(i)).into_owned()));
                resume.insert(batch.split.to_string(), batch.resume_at);
            }
            SourceEvent::CaughtUp(_) => {}
            SourceEvent::ReachedEnd { split, resume_at } => {
                resume.extend(resume_at.map(|offset| (split.to_string(), offset)));
                open -= 1;
            }
            SourceEvent::Ended { children: found, .. } => {
                children.extend(found);
                open -= 1;
            }
        }
    }
    Ok((values, resume, children))
}

#[tokio::test]
async fn every_record_comes_once_while_half_of_all_calls_fail() -> Result<()> {
    let stream = FakeStream { is_faulty: true, ..FakeStream::with_shards(&["a"]) };
    let expected: Vec<String> = (0..101).map(|value| value.to_string()).collect();
    expected.iter().for_each(|value| stream.put_value("a", value, START_MS - 1));
    let mut reader = open(&stream, &[], Bound::EndNow, at("a", StartAt::TableDefault)).await?;
    let (values, resume, _) = drain(&mut *reader, 1).await?;
    assert_eq!(values, expected);
    stream.put_value("a", "more", START_MS - 1);
    let mut again = open(&stream, &[], Bound::EndNow, at("a", StartAt::Offset(resume["a"].clone()))).await?;
    assert_eq!(drain(&mut *again, 1).await?.0, ["more"]);
    Ok(())
}

#[tokio::test]
async fn an_expired_iterator_is_asked_for_again_behind_the_last_record() -> Result<()> {
    let stream = FakeStream { expires: true, ..FakeStream::with_shards(&["a"]) };
    let expected: Vec<String> = (0..5).map(|value| value.to_string()).collect();
    expected.iter().for_each(|value| stream.put_value("a", value, START_MS - 1));
    let mut reader = open(&stream, &[], Bound::EndNow, at("a", StartAt::TableDefault)).await?;
    assert_eq!(drain(&mut *reader, 1).await?.0, expected);
    let asked = stream.state.lock().asked.clone();
    let after = |sequence: &str| Position::After(sequence.to_owned());
    assert_eq!(asked[..4], [Position::TrimHorizon, after("92"), after("94"), after("95")]);
    Ok(())
}

#[tokio::test]
async fn a_shard_whose_every_iterator_has_expired_is_not_asked_for_ever() -> Result<()> {
    let stream = FakeStream { never_reads: true, ..FakeStream::with_shards(&["a"]) };
    let mut reader = open(&stream, &[], Bound::Table, at("a", StartAt::TableDefault)).await?;
    let failed = drain(&mut *reader, 1).await.unwrap_err();
    assert!(failed.kind() == ErrorKind::Unavailable && failed.message().contains("takes no iterator"), "{failed}");
    assert!((10..30).contains(&stream.state.lock().asked.len()), "{failed}");
    Ok(())
}

#[tokio::test]
async fn a_closed_shard_ends_with_its_children_and_they_start_at_their_beginning_after_latest() -> Result<()> {
    let stream = FakeStream::with_shards(&["p", "q"]);
    stream.put_value("p", "old", START_MS - 1);
    let latest = [("source.init.position", "LATEST")];
    let mut reader = open(&stream, &latest, Bound::Table, at("p", StartAt::TableDefault)).await?;
    let first = reader.next().await?;
    assert!(matches!(&first, SourceEvent::Batch(batch) if batch.positions.text(0).is_empty()), "a position, no rows");
    stream.put_value("p", "new", START_MS + 1);
    stream.add_shard("c", &["p", "q"]);
    stream.put_value("c", "child", START_MS + 2);
    let (values, _, children) = drain(&mut *reader, 1).await?;
    assert_eq!(values, ["new"]);
    let parents = [SplitId::new("p"), SplitId::new("q")];
    assert_eq!((children.len(), &children[0].parents[..]), (1, &parents[..]));
    reader.assign(vec![SplitStart { split: children[0].clone(), at: StartAt::Beginning }]).await?;
    let SourceEvent::Batch(batch) = reader.next().await? else { panic!("a batch") };
    assert_eq!(batch.positions.text(0), "93");
    Ok(())
}

#[tokio::test]
async fn a_shard_has_not_ended_before_its_children_are_known() -> Result<()> {
    let stream = FakeStream::with_shards(&["p"]);
    stream.put_value("p", "last", START_MS - 1);
    stream.add_shard("c", &["p"]);
    stream.add_shard("d", &["p"]);
    {
        let mut state = stream.state.lock();
        (state.hides_children, state.unlisted) = (true, 3);
    }
    let mut reader = open(&stream, &[], Bound::Table, at("p", StartAt::TableDefault)).await?;
    let (values, _, children) = drain(&mut *reader, 1).await?;
    assert_eq!(values, ["last"]);
    let ids: Vec<String> = children.iter().map(|child| child.id.to_string()).collect();
    assert_eq!(ids, ["c", "d"], "a shard without children would let the watermark pass their rows");
    assert_eq!(stream.state.lock().listings, 4);

    stream.state.lock().unlisted = u32::MAX;
    let mut reader = open(&stream, &[], Bound::Table, at("p", StartAt::TableDefault)).await?;
    let failed = drain(&mut *reader, 1).await.unwrap_err();
    assert!(failed.message().contains("not listed now"), "{failed}");
    Ok(())
}

#[tokio::test]
async fn once_ends_at_the_first_record_that_arrived_after_the_start() -> Result<()> {
    let stream = FakeStream::with_shards(&["a"]);
    stream.put_value("a", "before", START_MS - 1);
    stream.put_value("a", "after", START_MS + 1);
    let mut reader = open(&stream, &[], Bound::EndNow, at("a", StartAt::TableDefault)).await?;
    let (values, resume, _) = drain(&mut *reader, 1).await?;
    assert_eq!((values, &*resume["a"].0), (vec!["before".to_owned()], "91@1699999999999"));
    Ok(())
}

#[tokio::test]
async fn what_expired_before_it_was_read_stops_the_job_unless_told_otherwise() -> Result<()> {
    let stream = FakeStream::with_shards(&["a"]);
    ["one", "two", "three"].iter().for_each(|value| stream.put_value("a", value, START_MS - 1));
    stream.state.lock().trimmed.insert("a".to_owned(), 2);
    let old = StartAt::Offset(Offset::new(format!("91@{}", START_MS - 25 * 3_600_000)));
    let mut reader = open(&stream, &[], Bound::EndNow, at("a", old.clone())).await?;
    let lost = drain(&mut *reader, 1).await.unwrap_err();
    assert_eq!(lost.code().0, "OFFSET_LOST");
    for (policy, expected) in [("earliest", vec!["three".to_owned()]), ("latest", vec![])] {
        let policy = [("scan.on-offset-lost", policy)];
        let mut reader = open(&stream, &policy, Bound::EndNow, at("a", old.clone())).await?;
        assert_eq!(drain(&mut *reader, 1).await?.0, expected);
    }
    let mut gone =
        open(&stream, &[], Bound::EndNow, at("none", StartAt::Offset(Offset::new("91@1700000000000")))).await?;
    assert_eq!(drain(&mut *gone, 1).await.unwrap_err().code().0, "OFFSET_LOST");
    let latest = [("scan.on-offset-lost", "latest")];
    let mut gone =
        open(&stream, &latest, Bound::EndNow, at("none", StartAt::Offset(Offset::new("91@1700000000000")))).await?;
    assert!(drain(&mut *gone, 1).await?.0.is_empty(), "a shard that is gone has nothing more");
    Ok(())
}

#[tokio::test]
async fn shards_before_a_named_sequence_number_are_not_read() -> Result<()> {
    let stream = FakeStream::with_shards(&["p"]);
    stream.put_value("p", "old", START_MS - 1);
    stream.add_shard("c", &["p"]);
    ["one", "two"].iter().for_each(|value| stream.put_value("c", value, START_MS - 1));
    let at_sequence = [("source.init.position", "AT_SEQUENCE_NUMBER"), ("source.init.sequence-numbers", "c:93")];
    let both = [at("p", StartAt::TableDefault), at("c", StartAt::TableDefault)].concat();
    let mut reader = open(&stream, &at_sequence, Bound::EndNow, both).await?;
    assert_eq!(drain(&mut *reader, 2).await?.0, ["two"]);
    Ok(())
}

#[tokio::test]
async fn a_paused_shard_stays_silent_until_it_is_resumed() -> Result<()> {
    let stream = FakeStream::with_shards(&["a"]);
    let mut reader = open(&stream, &[], Bound::Table, at("a", StartAt::TableDefault)).await?;
    assert!(matches!(reader.next().await?, SourceEvent::CaughtUp(_)));
    reader.pause(&[SplitId::new("a")]);
    tokio::task::yield_now().await;
    stream.put_value("a", "one", START_MS);
    let waited = tokio::time::timeout(Duration::from_millis(50), reader.next()).await;
    // A request that was under way when the pause came may still bring its records.
    if waited.is_err() {
        reader.resume(&[SplitId::new("a")]);
        assert!(matches!(reader.next().await?, SourceEvent::Batch(_)));
    }
    Ok(())
}

fn rows(values: &[&str]) -> ChangeBatch {
    let column = Arc::new(StringArray::from(values.to_vec()));
    ChangeBatch::inserts(RecordBatch::try_new(schema(), vec![column]).unwrap())
}

async fn write(stream: &FakeStream, key: Option<&str>, batches: &[ChangeBatch]) -> Result<Vec<String>> {
    write_with(stream, &[], key, batches).await
}

async fn write_with(
    stream: &FakeStream,
    options: &[(&str, &str)],
    key: Option<&str>,
    batches: &[ChangeBatch],
) -> Result<Vec<String>> {
    let table = TableSpec { partitioned_by: key.map(str::to_owned).into_iter().collect(), ..table(options) };
    let sink = KinesisSink::with_api(&table, Arc::new(stream.clone()))?;
    sink.check(&job(), schema()).await?;
    let task =
        SinkTask { insert: "i".to_owned(), index: 0, count: 1, schema: schema(), changes: ChangelogMode::Append };
    let mut writer = sink.writer(&job(), task, Vec::new()).await?;
    let mut refused = Vec::new();
    for batch in batches {
        refused.extend(writer.write(batch.clone()).await?);
    }
    writer.prepare(Epoch(1), Cut::Periodic).await?;
    Ok(refused.into_iter().map(|row| row.reason).collect())
}

#[tokio::test]
async fn every_row_is_taken_in_order_per_key_while_a_third_is_refused_at_first() -> Result<()> {
    let stream = FakeStream { refuses_puts: true, ..FakeStream::default() };
    let values: Vec<&str> = (0..900).map(|n| ["a", "b", "c", "d", "e", "f", "g"][n % 7]).collect();
    assert!(write(&stream, Some("raw"), &[rows(&values)]).await?.is_empty());
    let state = stream.state.lock();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    state.put.iter().flatten().for_each(|entry| *counts.entry(&entry.partition_key).or_default() += 1);
    for (key, count) in counts {
        assert!(count >= values.iter().filter(|value| **value == key).count(), "{key}: {count}");
    }
    Ok(())
}

#[tokio::test]
async fn rows_that_kinesis_cannot_take_are_refused_with_the_reason() -> Result<()> {
    let stream = FakeStream::default();
    let (large, long) = ("x".repeat((1 << 20) + 1), "k".repeat(257));
    let refused = write(&stream, None, &[rows(&[&large, "fits"])]).await?;
    assert!(refused.len() == 1 && refused[0].contains("stream \"s\" takes 1048576"), "{refused:?}");
    let refused = write(&stream, Some("raw"), &[rows(&[&long, "", "k"])]).await?;
    assert_eq!(refused.len(), 2, "{refused:?}");
    let state = stream.state.lock();
    let sent: VecDeque<&Entry> = state.put.iter().flatten().collect();
    assert_eq!(sent.iter().map(|entry| &entry.data[..]).collect::<Vec<_>>(), [&b"fits"[..], b"k"]);
    Ok(())
}

/// A putter with options of the table, whose waits are real.
fn putter(stream: &FakeStream, options: &[(&str, &str)]) -> Result<Putter> {
    let parsed = KinesisOptions::parse(&table(options))?;
    Ok(Putter::start(Arc::new(stream.clone()), &job_context("j"), &parsed))
}

fn entry(key: &str, data: impl Into<Vec<u8>>) -> Entry {
    Entry { partition_key: key.to_owned(), data: data.into().into() }
}

#[tokio::test]
async fn a_request_keeps_both_limits_and_a_large_record_goes_alone() -> Result<()> {
    let stream = FakeStream::default();
    let mut putter = putter(&stream, &[("sink.flush-buffer.timeout", "1 h")])?;
    putter.put((0..1001).map(|n| entry(&n.to_string(), "x")).collect()).await?;
    putter.flush().await?;
    let sizes = |stream: &FakeStream| {
        let mut sizes: Vec<usize> = stream.state.lock().put.drain(..).map(|request| request.len()).collect();
        sizes.sort_unstable();
        sizes
    };
    assert_eq!(sizes(&stream), [1, 500, 500]);
    let large = |n: usize, megabytes: usize| entry(&n.to_string(), vec![b'x'; megabytes << 20]);
    putter.put(vec![large(1, 3), large(2, 3), large(3, 6), large(4, 2), large(5, 2)]).await?;
    putter.flush().await?;
    assert_eq!(sizes(&stream), [1, 1, 1, 2]);
    Ok(())
}

#[tokio::test]
async fn as_many_requests_as_allowed_are_under_way_and_none_shares_a_key_with_another() -> Result<()> {
    let stream = FakeStream { refuses_puts: true, ..FakeStream::default() };
    let options = [("sink.batch.max-size", "10"), ("sink.requests.max-inflight", "3")];
    let mut putter = putter(&stream, &options)?;
    let data = |n: u32| n.to_be_bytes().to_vec();
    for chunk in (0..600_u32).collect::<Vec<_>>().chunks(100) {
        putter.put(chunk.iter().map(|n| entry(&(n % 41).to_string(), data(*n))).collect()).await?;
    }
    putter.flush().await?;
    let state = stream.state.lock();
    assert_eq!((state.most_puts, state.overlaps), (3, 0));
    assert!(state.put.iter().all(|request| request.len() <= 10));
    // What is not taken is sent again with what follows it, so that of each key the last copies are in order.
    let mut last: BTreeMap<&[u8], usize> = BTreeMap::new();
    for (at, entry) in state.put.iter().flatten().enumerate() {
        last.insert(&entry.data, at);
    }
    assert_eq!(last.len(), 600);
    let mut by_key: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for n in 0..600_u32 {
        by_key.entry(n % 41).or_default().push(last[&data(n)[..]]);
    }
    assert!(by_key.values().all(|places| places.is_sorted()), "{by_key:?}");
    Ok(())
}

#[tokio::test]
async fn a_record_waits_for_others_no_longer_than_it_may() -> Result<()> {
    let (waiting, sent) = (FakeStream::default(), FakeStream::default());
    let mut slow = putter(&waiting, &[("sink.flush-buffer.timeout", "1 h"), ("sink.flush-buffer.size", "1 kb")])?;
    let mut fast = putter(&sent, &[("sink.flush-buffer.timeout", "20 ms")])?;
    slow.put(vec![entry("k", "one")]).await?;
    fast.put(vec![entry("k", "one")]).await?;
    let count = |stream: &FakeStream| stream.state.lock().put.iter().map(Vec::len).sum::<usize>();
    while count(&sent) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(count(&waiting), 0, "it waits for a barrier, a batch or enough bytes");
    slow.put(vec![entry("l", vec![b'x'; 1024])]).await?;
    while count(&waiting) < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    slow.flush().await
}

#[tokio::test]
async fn a_buffer_that_is_full_takes_no_more_until_requests_are_answered() -> Result<()> {
    let stream = FakeStream { holds_puts: true, ..FakeStream::default() };
    let options =
        [("sink.batch.max-size", "10"), ("sink.requests.max-inflight", "2"), ("sink.requests.max-buffered", "20")];
    let mut putter = putter(&stream, &options)?;
    let mut taken = 0;
    let filling = async {
        loop {
            let entries = (0..10).map(|n| entry(&format!("{taken}/{n}"), "x")).collect();
            if let Err(error) = putter.put(entries).await {
                return error;
            }
            taken += 10;
        }
    };
    assert!(tokio::time::timeout(Duration::from_millis(200), filling).await.is_err(), "it waits");
    // Twenty under way, twenty in the buffer, ten before it.
    assert_eq!((taken, stream.state.lock().most_puts), (50, 2));
    Ok(())
}

#[tokio::test]
async fn on_error_the_attempt_ends_if_it_is_told_to() -> Result<()> {
    let stream = FakeStream { refuses_puts: true, ..FakeStream::default() };
    let mut patient = putter(&stream, &[])?;
    let mut strict = putter(&stream, &[("sink.fail-on-error", "true")])?;
    let entries = || (0..9).map(|n| entry(&n.to_string(), "x")).collect::<Vec<_>>();
    patient.put(entries()).await?;
    patient.flush().await?;
    strict.put(entries()).await?;
    let failed = strict.flush().await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Unavailable);
    assert!(failed.message().contains("refuses records: ProvisionedThroughputExceededException"), "{failed}");
    Ok(())
}

#[tokio::test]
async fn the_partition_key_is_the_columns_a_random_text_or_the_writers_own() -> Result<()> {
    let keys = async |partitioner: Option<&str>, key: Option<&str>| -> Result<Vec<String>> {
        let stream = FakeStream::default();
        let options: Vec<(&str, &str)> = partitioner.map(|name| ("sink.partitioner", name)).into_iter().collect();
        write_with(&stream, &options, key, &[rows(&["a", "b", "a"])]).await?;
        let state = stream.state.lock();
        Ok(state.put.iter().flatten().map(|entry| entry.partition_key.clone()).collect())
    };
    assert_eq!(keys(None, Some("raw")).await?, ["a", "b", "a"]);
    assert_eq!(keys(Some("fixed"), None).await?, ["0", "0", "0"]);
    for random in [keys(None, None).await?, keys(Some("random"), None).await?] {
        let different: std::collections::BTreeSet<&String> = random.iter().collect();
        assert!(different.len() == 3 && random.iter().all(|key| key.len() == 32), "{random:?}");
    }
    let both = keys(Some("fixed"), Some("raw")).await.unwrap_err();
    assert!(both.message().contains("'sink.partitioner' and PARTITIONED BY exclude each other"), "{both}");
    Ok(())
}
