//! Reads shards: an iterator, records until there are none, and the children when the shard is closed.
//!
//! Invariant: an iterator that has expired is asked for again after the last record that was read, so that none is lost
//! and none comes twice.

use std::{sync::Arc, time::Duration};

use arrow::array::StringArray;
use async_trait::async_trait;
use aws_sdk_dynamodbstreams::{
    Client,
    types::{Record, ShardIteratorType},
};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use headwater_engine::{
    connector::{
        Offset, Positions, RejectedRecord, SourceBatch, SourceData, SourceEvent, Split, SplitId, SplitStart, StartAt,
    },
    error::{Error, Result},
    time::{Clock, Instant},
};

use super::{
    super::{
        attributes::{item_of_stream, tagged_json},
        changes::{Change, ChangeDecoder, Event},
        pump::{Events, ReadSplit},
        source::SegmentReader,
    },
    lineage::{self, Lineage, label_of, parse_split},
    options::{OnOffsetLost, Position, StreamOptions},
};
use crate::aws::{Backoff, Failure, failed};

/// Records of one request, at most.
const RECORDS_MAX: i32 = 1000;
/// Requests in a row that may fail before the job is told.
const TRIES: u32 = 10;

/// Reads the shards of a table's streams, and segments of its scan before them.
#[derive(Debug)]
pub(super) struct ShardReader {
    pub(super) client: Client,
    /// The table's streams, oldest first.
    pub(super) arns: Vec<String>,
    pub(super) decoder: ChangeDecoder,
    pub(super) scan: Option<SegmentReader>,
    pub(super) options: StreamOptions,
    /// Reading stops at the end that was there when the shard was opened.
    pub(super) ends_now: bool,
    pub(super) clock: Arc<dyn Clock>,
}

/// Where in a shard reading goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
enum From {
    Beginning,
    Latest,
    /// What was written since a time in milliseconds: a shard that was opened at its end and had nothing yet.
    Since(i64),
    /// The record with this sequence number.
    At(String),
    After(String),
}

/// The position of a shard that was opened at its end and had nothing yet, before the time of that.
const SINCE: &str = "since@";

impl From {
    fn parse(offset: &Offset) -> Self {
        let since = offset.0.strip_prefix(SINCE).and_then(|millis| millis.parse().ok());
        since.map_or_else(|| Self::After(offset.to_string()), Self::Since)
    }

    /// Whether a record is older than what is to be read; some services round times down to the minute.
    fn is_before(&self, record: &Record) -> bool {
        let Self::Since(since_ms) = self else { return false };
        let created = record.dynamodb.as_ref().and_then(|change| change.approximate_creation_date_time);
        created.is_some_and(|time| time.secs() < since_ms.div_euclid(60_000) * 60)
    }
}

/// What a request for records gave.
enum Fetched {
    Records(Vec<Record>, Option<String>),
    /// The iterator is no longer valid.
    Expired,
    /// The position is no longer kept.
    Trimmed,
}

impl Position {
    /// Whether a record is of a second before the one that reading begins at, in a later shard too.
    fn is_after(&self, record: &Record) -> bool {
        let Self::AtTimestamp(from_ms) = self else { return false };
        let created = record.dynamodb.as_ref().and_then(|change| change.approximate_creation_date_time);
        created.is_some_and(|time| time.secs() < from_ms.div_euclid(1000))
    }
}

#[async_trait]
impl ReadSplit for ShardReader {
    async fn read(&self, start: SplitStart, events: &Events) -> Result<()> {
        match &self.scan {
            Some(scan) if start.split.id.0.starts_with("segment-") => scan.read(start, events).await,
            _ => self.read_shard(start, events).await,
        }
    }
}

impl ShardReader {
    async fn read_shard(&self, start: SplitStart, events: &Events) -> Result<()> {
        let split = &start.split.id;
        let opened = self.clock.now();
        let mut from = match &start.at {
            StartAt::Offset(offset) => From::parse(offset),
            StartAt::TableDefault => match self.table_default(split).await? {
                Some(from) => from,
                None => return self.end(split, events).await,
            },
            // It follows a shard that was read: nothing of it may be missed either.
            StartAt::Beginning => From::Since(0),
        };
        let mut iterator = self.iterator(split, &mut from).await?;
        let mut is_from_the_end = from == From::Latest;
        if is_from_the_end {
            // From here on nothing may be missed: neither by a restart nor when the iterator expires.
            from = From::Since(opened.0);
            if events.send(Ok(SourceEvent::Batch(self.mark(split, opened)?))).await.is_err() {
                return Ok(());
            }
        }
        let mut empty_replies = 0;
        while let Some(current) = iterator {
            let (mut records, next) = match self.fetch(split, &current).await? {
                Fetched::Records(records, next) => (records, next),
                Fetched::Expired => {
                    is_from_the_end = false;
                    iterator = self.iterator(split, &mut from).await?;
                    continue;
                }
                Fetched::Trimmed => {
                    from = self.lost(split, &from)?;
                    iterator = self.iterator(split, &mut from).await?;
                    continue;
                }
            };
            let came = records.len();
            if !is_from_the_end {
                records.retain(|record| !from.is_before(record) && !self.options.position.is_after(record));
            }
            let is_closed = next.is_none();
            iterator = next;
            if records.is_empty() {
                if is_closed {
                    break;
                }
                if came > 0 {
                    continue;
                }
                empty_replies += 1;
                if !self.wait(split, empty_replies, events).await? {
                    return Ok(());
                }
                continue;
            }
            empty_replies = 0;
            let is_past_the_end = self.ends_now && arrived_after(&records, opened);
            let batch = self.batch(split, records)?;
            from = From::After(batch.resume_at.to_string());
            if events.send(Ok(SourceEvent::Batch(batch))).await.is_err() {
                return Ok(());
            }
            if is_past_the_end {
                let _nobody_listens =
                    events.send(Ok(SourceEvent::ReachedEnd { split: split.clone(), resume_at: None })).await;
                return Ok(());
            }
        }
        self.end(split, events).await
    }

    /// Nothing of the shard is left to read.
    async fn end(&self, split: &SplitId, events: &Events) -> Result<()> {
        let children = self.children(split).await?;
        let _nobody_listens = events.send(Ok(SourceEvent::Ended { split: split.clone(), children })).await;
        Ok(())
    }

    /// Where the table's options say that a shard begins; nowhere in one that others follow at whose numbers reading begins.
    async fn table_default(&self, split: &SplitId) -> Result<Option<From>> {
        let named = match &self.options.position {
            Position::TrimHorizon | Position::AtTimestamp(_) => return Ok(Some(From::Beginning)),
            Position::Latest => return Ok(Some(From::Latest)),
            Position::AtSequenceNumbers(named) => named,
        };
        let number = |split: &SplitId| named.get(&*split.0).or_else(|| named.get(parse_split(split).ok()?.1));
        if let Some(number) = number(split) {
            return Ok(Some(From::At(number.clone())));
        }
        let is_before = is_followed(&self.splits().await?, split, &|split| number(split).is_some());
        Ok((!is_before).then_some(From::Beginning))
    }

    /// After a reply without records; whether reading goes on.
    async fn wait(&self, split: &SplitId, empty_replies: u32, events: &Events) -> Result<bool> {
        if empty_replies == 1 && events.send(Ok(SourceEvent::CaughtUp(split.clone()))).await.is_err() {
            return Ok(false);
        }
        if self.ends_now && empty_replies >= 2 {
            let _nobody_listens =
                events.send(Ok(SourceEvent::ReachedEnd { split: split.clone(), resume_at: None })).await;
            return Ok(false);
        }
        self.clock.sleep(self.options.idle_wait).await;
        Ok(true)
    }

    fn arn<'a>(&self, split: &'a SplitId) -> Result<(&'a str, String)> {
        let (label, shard) = parse_split(split)?;
        let arn = self.arns.iter().find(|arn| label_of(arn) == label).cloned();
        // A stream that was enabled after this reader was made differs in its label alone.
        let arn = arn.or_else(|| {
            let first = self.arns.first()?;
            Some(format!("{}{label}", first.strip_suffix(label_of(first))?))
        });
        Ok((shard, arn.ok_or_else(|| Error::internal(format!("no stream for the shard \"{split}\"")))?))
    }

    async fn iterator(&self, split: &SplitId, from: &mut From) -> Result<Option<String>> {
        let (shard, arn) = self.arn(split)?;
        let doing = format!("cannot read shard \"{split}\" of a change stream");
        let mut backoff = backoff();
        loop {
            let request = self.client.get_shard_iterator().stream_arn(&arn).shard_id(shard);
            let request = match &*from {
                From::Beginning | From::Since(_) => request.shard_iterator_type(ShardIteratorType::TrimHorizon),
                From::Latest => request.shard_iterator_type(ShardIteratorType::Latest),
                From::At(sequence) => {
                    request.shard_iterator_type(ShardIteratorType::AtSequenceNumber).sequence_number(sequence)
                }
                From::After(sequence) => {
                    request.shard_iterator_type(ShardIteratorType::AfterSequenceNumber).sequence_number(sequence)
                }
            };
            let error = match request.send().await {
                Ok(answer) => return Ok(answer.shard_iterator),
                Err(error) => error,
            };
            match error.code() {
                Some("TrimmedDataAccessException") => {
                    *from = self.lost(split, from)?;
                    continue;
                }
                // The whole shard is no longer kept: what is left of it are its children.
                Some("ResourceNotFoundException") => {
                    self.lost(split, from)?;
                    return Ok(None);
                }
                _ => {}
            }
            if Failure::of(&error) == Failure::Refused || backoff.attempts() >= TRIES {
                return Err(failed(&doing, &error));
            }
            backoff.wait(&self.clock).await;
        }
    }

    async fn fetch(&self, split: &SplitId, iterator: &str) -> Result<Fetched> {
        let mut backoff = backoff();
        loop {
            let request = self.client.get_records().shard_iterator(iterator).limit(RECORDS_MAX);
            let error = match request.send().await {
                Ok(answer) => {
                    return Ok(Fetched::Records(answer.records.unwrap_or_default(), answer.next_shard_iterator));
                }
                Err(error) => error,
            };
            match error.code() {
                Some("ExpiredIteratorException") => return Ok(Fetched::Expired),
                Some("TrimmedDataAccessException") => return Ok(Fetched::Trimmed),
                _ => {}
            }
            if Failure::of(&error) == Failure::Refused || backoff.attempts() >= TRIES {
                return Err(failed(&format!("cannot read shard \"{split}\" of a change stream"), &error));
            }
            backoff.wait(&self.clock).await;
        }
    }

    /// Where to go on when the position is no longer kept (24 hours).
    fn lost(&self, split: &SplitId, from: &From) -> Result<From> {
        let what = match from {
            From::Beginning | From::Latest => return Ok(From::Beginning),
            From::Since(0) => "its beginning".to_owned(),
            From::Since(_) => "what was written since it was opened".to_owned(),
            From::At(sequence) => format!("sequence number {sequence}"),
            From::After(sequence) => format!("what follows sequence number {sequence}"),
        };
        match self.options.on_offset_lost {
            OnOffsetLost::Earliest => Ok(From::Beginning),
            OnOffsetLost::Latest => Ok(From::Latest),
            OnOffsetLost::Fail => {
                let message = format!("shard \"{split}\" no longer has {what}");
                Err(Error::data("OFFSET_LOST", message)
                    .with_hint("'scan.on-offset-lost' = 'earliest' goes on with what is left"))
            }
        }
    }

    /// The shards that follow a closed one.
    async fn children(&self, split: &SplitId) -> Result<Vec<Split>> {
        Ok(self.splits().await?.into_iter().filter(|other| other.parents.contains(split)).collect())
    }

    /// All shards there are.
    async fn splits(&self) -> Result<Vec<Split>> {
        let mut lineage = Lineage::default();
        for arn in &self.arns {
            lineage.add(lineage::described(&self.client, arn).await?.shards);
        }
        Ok(lineage.splits())
    }

    /// A position without rows, for the next checkpoint.
    fn mark(&self, split: &SplitId, opened: Instant) -> Result<SourceBatch> {
        let none = self.decoder.decode(&[])?;
        Ok(SourceBatch {
            split: split.clone(),
            resume_at: Offset::new(format!("{SINCE}{}", opened.0)),
            positions: Positions::Texts(StringArray::from(Vec::<Option<&str>>::new())),
            arrivals_ms: Some(Vec::new()),
            lag: None,
            data: SourceData::Rows { rows: none.rows, rejected: Vec::new() },
        })
    }

    fn batch(&self, split: &SplitId, records: Vec<Record>) -> Result<SourceBatch> {
        let (_, shard) = parse_split(split)?;
        let shard: Arc<str> = Arc::from(shard);
        let last = records.iter().rev().find_map(|record| record.dynamodb.as_ref()?.sequence_number.clone());
        let resume_at = last.ok_or_else(|| Error::unavailable("change records without sequence numbers"))?;
        let (mut changes, mut rejected) = (Vec::with_capacity(records.len()), Vec::new());
        for record in records {
            let sequence = record.dynamodb.as_ref().and_then(|change| change.sequence_number.clone());
            match change(record, &shard) {
                Some(change) => changes.push(change),
                None => rejected.push(RejectedRecord {
                    raw: bytes::Bytes::new(),
                    reason: "a change record without an event or keys".to_owned(),
                    position: sequence.unwrap_or_default(),
                }),
            }
        }
        let decoded = self.decoder.decode(&changes)?;
        let position = |index: usize| changes[index].sequence.clone().unwrap_or_default();
        rejected.extend(decoded.misfits.into_iter().map(|(index, reason)| {
            let image = changes[index].new_image.as_ref().unwrap_or(&changes[index].keys);
            RejectedRecord { raw: tagged_json(image).to_string().into(), reason, position: position(index) }
        }));
        let kept = || decoded.kept.iter().map(|index| *index as usize);
        let now = self.clock.now().0;
        let arrivals = kept().map(|index| changes[index].created_us.map_or(now, |micros| micros / 1000)).collect();
        Ok(SourceBatch {
            split: split.clone(),
            resume_at: Offset::new(resume_at),
            positions: Positions::Texts(kept().map(|index| Some(position(index))).collect::<StringArray>()),
            arrivals_ms: Some(arrivals),
            lag: None,
            data: SourceData::Rows { rows: decoded.rows, rejected },
        })
    }
}

fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_secs(5))
}

/// Whether a shard that is wanted comes after this one.
fn is_followed(splits: &[Split], id: &SplitId, is_wanted: &dyn Fn(&SplitId) -> bool) -> bool {
    let mut children = splits.iter().filter(|split| split.parents.contains(id));
    children.any(|child| is_wanted(&child.id) || is_followed(splits, &child.id, is_wanted))
}

/// Whether a record was written after a time; the service keeps whole seconds.
fn arrived_after(records: &[Record], opened: Instant) -> bool {
    let last = records.iter().rev().find_map(|record| record.dynamodb.as_ref()?.approximate_creation_date_time);
    last.is_some_and(|time| time.secs() > opened.0.div_euclid(1000))
}

/// A record of the streams' client, if it is whole.
fn change(record: Record, shard: &Arc<str>) -> Option<Change> {
    let event = Event::named(record.event_name.as_ref()?.as_str())?;
    let body = record.dynamodb?;
    let created = body.approximate_creation_date_time;
    let created_us = created.map(|time| time.secs() * 1_000_000 + i64::from(time.subsec_nanos() / 1000));
    Some(Change {
        id: record.event_id.unwrap_or_default(),
        event,
        sequence: body.sequence_number,
        created_us,
        keys: item_of_stream(body.keys?),
        new_image: body.new_image.map(item_of_stream),
        old_image: body.old_image.map(item_of_stream),
        size_bytes: body.size_bytes,
        user_identity: record.user_identity.and_then(|identity| identity.principal_id),
        shard: Some(Arc::clone(shard)),
    })
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodbstreams::{primitives::DateTime, types::StreamRecord};

    use super::*;

    #[test]
    fn a_shard_without_a_record_yet_goes_on_from_its_minute() {
        let from = From::parse(&Offset::new("since@1795268853869"));
        assert_eq!(from, From::Since(1_795_268_853_869));
        assert_eq!(From::parse(&Offset::new("000000000000000000001")), From::After("000000000000000000001".to_owned()));
        let record = |seconds| {
            let change = StreamRecord::builder().approximate_creation_date_time(DateTime::from_secs(seconds)).build();
            Record::builder().dynamodb(change).build()
        };
        // DynamoDB Local says 14:07:00 of what was written at 14:07:33.
        assert!(from.is_before(&record(1_795_268_819)));
        assert!(!from.is_before(&record(1_795_268_820)) && !from.is_before(&record(1_795_268_853)));
        assert!(!From::Beginning.is_before(&record(0)));
        let at = Position::AtTimestamp(10_500);
        assert!(at.is_after(&record(9)) && !at.is_after(&record(10)) && !at.is_after(&record(11)));
        assert!(!Position::TrimHorizon.is_after(&record(0)));
    }

    #[test]
    fn shards_before_the_one_that_is_named_are_found() {
        let split = |id: &str, parents: &[&str]| Split {
            id: SplitId::new(id),
            version: String::new(),
            parents: parents.iter().map(|parent| SplitId::new(*parent)).collect(),
        };
        let splits = [split("l/a", &[]), split("l/b", &["l/a"]), split("l/c", &["l/b"]), split("l/d", &["l/a"])];
        let followed = |id: &str| is_followed(&splits, &SplitId::new(id), &|split| split.0.ends_with("/c"));
        assert!(followed("l/a") && followed("l/b") && !followed("l/c") && !followed("l/d"));
    }
}
