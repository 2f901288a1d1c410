//! The options of a Kinesis table, under Flink's names.
//!
//! Invariant: everything is checked here, before a client exists; options of the other reader type and of the other
//! direction are accepted.

use std::{collections::BTreeMap, time::Duration};

use headwater_engine::{
    connector::TableSpec,
    error::{Error, Result},
};

use crate::{
    aws::{self, AwsOptions},
    formats::{self, Part, TableFormat},
    options::Options,
};

/// A stream by name or by ARN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stream {
    Name(String),
    Arn(String),
}

impl Stream {
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Arn(_) => None,
        }
    }

    pub(super) fn arn(&self) -> Option<&str> {
        match self {
            Self::Arn(arn) => Some(arn),
            Self::Name(_) => None,
        }
    }

    /// What it is called in messages.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Name(text) | Self::Arn(text) => text,
        }
    }
}

/// `source.init.position`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum InitPosition {
    TrimHorizon,
    Latest,
    /// Milliseconds since 1970.
    AtTimestamp(i64),
    /// The first record of each shard; a shard that is not named starts at its beginning.
    AtSequenceNumbers(BTreeMap<String, String>),
}

/// What to do when the stream no longer has a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnOffsetLost {
    Fail,
    Earliest,
    Latest,
}

/// `source.reader.type`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ReaderType {
    Polling,
    FanOut { consumer: String, lifecycle: Lifecycle },
}

/// `source.efo.lifecycle`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifecycle {
    /// Registered when the job starts, if there is none of the name.
    JobManaged,
    /// Must be there.
    SelfManaged,
}

/// All options of a table, both directions.
#[derive(Debug, Clone)]
pub(super) struct KinesisOptions {
    pub(super) stream: Stream,
    pub(super) aws: AwsOptions,
    pub(super) position: InitPosition,
    pub(super) reader: ReaderType,
    pub(super) discovery: Option<Duration>,
    pub(super) on_offset_lost: OnOffsetLost,
    pub(super) format: TableFormat,
    pub(super) partitioner: Partitioner,
    pub(super) put: PutOptions,
}

/// What a row's partition key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Partitioner {
    /// The columns of PARTITIONED BY, with `sink.partitioner-field-delimiter` between them.
    Columns { delimiter: String },
    /// Another one for each row.
    Random,
    /// One for each writer, so that its rows stay in order.
    Fixed,
}

/// How rows are put together into requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PutOptions {
    /// `sink.batch.max-size`: records of a request.
    pub(super) batch_records: usize,
    /// `sink.requests.max-inflight`.
    pub(super) in_flight: usize,
    /// `sink.requests.max-buffered`: records that wait before writing does.
    pub(super) buffered_records: usize,
    /// `sink.flush-buffer.size`: bytes that wait before they are sent.
    pub(super) flush_bytes: usize,
    /// `sink.flush-buffer.timeout`: how long a record waits for others.
    pub(super) flush_after: Duration,
    /// `sink.fail-on-error`: whether a record that is not taken ends the attempt instead of being sent again.
    pub(super) fails_on_error: bool,
}

const DISCOVERY_DEFAULT: Duration = Duration::from_secs(10);
const KEY_DELIMITER_DEFAULT: &str = "|";
/// Records of one request, the service's limit.
const BATCH_RECORDS_MAX: u64 = 500;
const IN_FLIGHT_DEFAULT: u64 = 50;
const IN_FLIGHT_MAX: u64 = 1000;
const BUFFERED_DEFAULT: u64 = 10_000;
const BUFFERED_MAX: u64 = 1 << 20;
const FLUSH_BYTES_DEFAULT: u64 = 5 << 20;
const FLUSH_AFTER_DEFAULT: Duration = Duration::from_secs(5);

/// What is written instead of the options of Flink's connector before version 1.15.
const PRODUCER: [(&str, &str); 6] = [
    ("record-max-buffered-time", "'sink.flush-buffer.timeout'"),
    ("collection-max-count", "'sink.batch.max-size'"),
    ("collection-max-size", "'sink.flush-buffer.size'"),
    ("max-connections", "'sink.requests.max-inflight'"),
    ("fail-on-error", "'sink.fail-on-error'"),
    ("aggregation-enabled", "nothing: a row is a record, none are aggregated"),
];

impl KinesisOptions {
    pub(super) fn parse(table: &TableSpec) -> Result<Self> {
        let mut options = Options::new(&table.name, &table.options);
        options.accept(&["connector"]);
        let stream = stream(&mut options, &table.name)?;
        let aws = AwsOptions::parse(&mut options)?;
        let aws = stream.arn().map_or(aws.clone(), |arn| aws.or_region_of(arn));
        let position = position(&mut options)?;
        let reader = reader(&mut options)?;
        let discovery = options.duration("source.shard.discovery.interval")?.unwrap_or(DISCOVERY_DEFAULT);
        let on_offset_lost = options.choice(
            "scan.on-offset-lost",
            &[("fail", OnOffsetLost::Fail), ("earliest", OnOffsetLost::Earliest), ("latest", OnOffsetLost::Latest)],
        )?;
        let format =
            formats::from_options(&mut options, &["format"], "", &Part::of_table(table))?.ok_or_else(|| {
                Error::user("INVALID_TABLE_PROPERTY", format!("table \"{}\" needs the option 'format'", table.name))
                    .with_hint("add 'format' = 'json' or 'raw' to its WITH clause")
            })?;
        let partitioner = partitioner(&mut options, table)?;
        let put = put(&mut options, &table.name)?;
        options.finish()?;
        Ok(Self {
            stream,
            aws,
            position,
            reader,
            discovery: (!discovery.is_zero()).then_some(discovery),
            on_offset_lost: on_offset_lost.unwrap_or(OnOffsetLost::Fail),
            format,
            partitioner,
            put,
        })
    }
}

fn stream(options: &mut Options, table: &str) -> Result<Stream> {
    match (options.text("stream"), options.text("stream.arn")) {
        (Some(name), None) => Ok(Stream::Name(name)),
        (None, Some(arn)) if arn.starts_with("arn:") => Ok(Stream::Arn(arn)),
        (None, Some(arn)) => {
            Err(options.invalid("stream.arn", &arn, "of the form 'arn:aws:kinesis:<region>:<account>:stream/<name>'"))
        }
        (Some(_), Some(_)) => Err(Error::user(
            "INVALID_TABLE_PROPERTY",
            format!("table \"{table}\": 'stream' and 'stream.arn' exclude each other"),
        )),
        (None, None) => {
            Err(Error::user("INVALID_TABLE_PROPERTY", format!("table \"{table}\" needs the option 'stream'"))
                .with_hint("add 'stream' = '..' or 'stream.arn' = '..' to its WITH clause"))
        }
    }
}

#[derive(Clone, Copy)]
enum Mark {
    TrimHorizon,
    Latest,
    Timestamp,
    Sequence,
}

fn position(options: &mut Options) -> Result<InitPosition> {
    let choices = [
        ("TRIM_HORIZON", Mark::TrimHorizon),
        ("LATEST", Mark::Latest),
        ("AT_TIMESTAMP", Mark::Timestamp),
        ("AT_SEQUENCE_NUMBER", Mark::Sequence),
    ];
    let mark = options.choice("source.init.position", &choices)?.unwrap_or(Mark::TrimHorizon);
    let timestamp = options.text("source.init.timestamp");
    let sequences = options.text("source.init.sequence-numbers");
    Ok(match mark {
        Mark::TrimHorizon => InitPosition::TrimHorizon,
        Mark::Latest => InitPosition::Latest,
        Mark::Timestamp => InitPosition::AtTimestamp(aws::timestamp(options, timestamp.as_deref())?),
        Mark::Sequence => InitPosition::AtSequenceNumbers(aws::sequence_numbers(options, sequences.as_deref())?),
    })
}

fn reader(options: &mut Options) -> Result<ReaderType> {
    let is_fan_out = options.choice("source.reader.type", &[("POLLING", false), ("EFO", true)])?.unwrap_or(false);
    let consumer = options.text("source.efo.consumer.name");
    let lifecycles = [("JOB_MANAGED", Lifecycle::JobManaged), ("SELF_MANAGED", Lifecycle::SelfManaged)];
    let lifecycle = options.choice("source.efo.lifecycle", &lifecycles)?.unwrap_or(Lifecycle::JobManaged);
    if !is_fan_out {
        return Ok(ReaderType::Polling);
    }
    match consumer.filter(|name| !name.is_empty()) {
        Some(consumer) => Ok(ReaderType::FanOut { consumer, lifecycle }),
        None => options.required("source.efo.consumer.name").map(|_| ReaderType::Polling),
    }
}

fn partitioner(options: &mut Options, table: &TableSpec) -> Result<Partitioner> {
    const KEY: &str = "sink.partitioner";
    let named = options.choice(KEY, &[("random", false), ("fixed", true)])?;
    let delimiter = options.text("sink.partitioner-field-delimiter");
    match (named, table.partitioned_by.is_empty()) {
        (Some(_), false) => {
            let message = format!("table \"{}\": option '{KEY}' and PARTITIONED BY exclude each other", table.name);
            Err(Error::user("INVALID_TABLE_PROPERTY", message)
                .with_hint("the columns of PARTITIONED BY are the partition key; leave one of the two out"))
        }
        (None, false) => {
            Ok(Partitioner::Columns { delimiter: delimiter.unwrap_or_else(|| KEY_DELIMITER_DEFAULT.to_owned()) })
        }
        (Some(true), true) => Ok(Partitioner::Fixed),
        (Some(false) | None, true) => Ok(Partitioner::Random),
    }
}

fn put(options: &mut Options, table: &str) -> Result<PutOptions> {
    const BUFFERED: &str = "sink.requests.max-buffered";
    const FLUSH_BYTES: &str = "sink.flush-buffer.size";
    if let Some(key) = options.prefixed("sink.producer.").keys().next() {
        let instead = PRODUCER.iter().find(|(old, _)| old == key).map(|(_, instead)| *instead);
        let message = format!("table \"{table}\": option 'sink.producer.{key}' is one of the Kinesis Producer Library");
        return Err(Error::user("INVALID_TABLE_PROPERTY", message).with_hint(match instead {
            Some(instead) => format!("write {instead}"),
            None => "leave it out; 'sink.batch.max-size', 'sink.requests.max-inflight', 'sink.requests.max-buffered', \
                     'sink.flush-buffer.size' and 'sink.flush-buffer.timeout' say how rows are sent"
                .to_owned(),
        }));
    }
    let batch_records = options.bounded("sink.batch.max-size", BATCH_RECORDS_MAX)?.unwrap_or(BATCH_RECORDS_MAX);
    let buffered_records = options.bounded(BUFFERED, BUFFERED_MAX)?.unwrap_or(BUFFERED_DEFAULT);
    if buffered_records < batch_records {
        let wanted = format!("at least 'sink.batch.max-size', which is {batch_records}");
        return Err(options.invalid(BUFFERED, &buffered_records.to_string(), &wanted));
    }
    let flush_bytes = options.size(FLUSH_BYTES)?.unwrap_or(FLUSH_BYTES_DEFAULT);
    if flush_bytes == 0 {
        return Err(options.invalid(FLUSH_BYTES, "0", "a size of one byte or more"));
    }
    Ok(PutOptions {
        batch_records: batch_records as usize,
        in_flight: options.bounded("sink.requests.max-inflight", IN_FLIGHT_MAX)?.unwrap_or(IN_FLIGHT_DEFAULT) as usize,
        buffered_records: buffered_records as usize,
        flush_bytes: flush_bytes as usize,
        flush_after: options.duration("sink.flush-buffer.timeout")?.unwrap_or(FLUSH_AFTER_DEFAULT),
        fails_on_error: options.flag("sink.fail-on-error")?.unwrap_or(false),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn parsed(pairs: &[(&str, &str)]) -> Result<KinesisOptions> {
        let options = [("stream", "s"), ("format", "raw")].iter().chain(pairs).copied();
        let schema = Arc::new(Schema::new(vec![Field::new("raw", DataType::Utf8, true)]));
        KinesisOptions::parse(&TableSpec::new("t", schema, options))
    }

    #[test]
    fn the_default_is_polling_from_the_oldest_record() {
        let options = parsed(&[("source.efo.consumer.name", "unused")]).unwrap();
        assert_eq!((options.position, options.reader), (InitPosition::TrimHorizon, ReaderType::Polling));
        assert_eq!(options.discovery, Some(Duration::from_secs(10)));
    }

    #[test]
    fn positions_are_read_in_every_form() {
        let at = |text| parsed(&[("source.init.position", "at_timestamp"), ("source.init.timestamp", text)]);
        for text in ["2026-01-02T03:04:05Z", "2026-01-02 03:04:05", "2026-01-02T04:04:05+01:00", "1767323045"] {
            assert_eq!(at(text).unwrap().position, InitPosition::AtTimestamp(1_767_323_045_000), "{text}");
        }
        assert!(at("yesterday").unwrap_err().message().contains("source.init.timestamp"));
        let sequences = [
            ("source.init.position", "AT_SEQUENCE_NUMBER"),
            ("source.init.sequence-numbers", "shardId-000000000000:495;shardId-000000000001:496"),
        ];
        let InitPosition::AtSequenceNumbers(found) = parsed(&sequences).unwrap().position else { panic!("sequences") };
        assert_eq!(found["shardId-000000000001"], "496");
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        let missing = parsed(&[("source.reader.type", "EFO")]).unwrap_err();
        assert!(missing.message().contains("source.efo.consumer.name"), "{missing}");
        let unknown = parsed(&[("source.init.postion", "LATEST")]).unwrap_err();
        assert_eq!(unknown.hint(), Some("did you mean 'source.init.position'?"));
        assert!(parsed(&[("stream.arn", "arn:aws:kinesis:eu-west-1:1:stream/s")]).is_err());
    }

    #[test]
    fn a_sink_has_flinks_defaults_and_limits() {
        let defaults = parsed(&[]).unwrap();
        assert_eq!(
            (defaults.put.batch_records, defaults.put.in_flight, defaults.put.buffered_records),
            (500, 50, 10_000)
        );
        assert_eq!((defaults.put.flush_bytes, defaults.put.flush_after), (5 << 20, Duration::from_secs(5)));
        assert_eq!((defaults.put.fails_on_error, defaults.partitioner), (false, Partitioner::Random));
        let message = |key: &str, value: &str| parsed(&[(key, value)]).unwrap_err().message().to_owned();
        assert!(message("sink.batch.max-size", "501").contains("from 1 to 500"));
        assert!(message("sink.requests.max-inflight", "0").contains("from 1 to 1000"));
        assert!(message("sink.requests.max-buffered", "499").contains("at least 'sink.batch.max-size', which is 500"));
        assert!(message("sink.flush-buffer.size", "0").contains("one byte or more"));
        assert!(message("sink.flush-buffer.timeout", "soon").contains("a length of time"));
        assert!(message("sink.partitioner", "com.example.Mine").contains("one of random, fixed"));
        let small = [("sink.requests.max-buffered", "10"), ("sink.batch.max-size", "10")];
        assert_eq!(parsed(&small).unwrap().put.buffered_records, 10);
    }

    #[test]
    fn options_of_the_producer_library_say_what_to_write_instead() {
        let hint = |key: &str| parsed(&[(key, "1")]).unwrap_err().hint().unwrap_or_default().to_owned();
        assert_eq!(hint("sink.producer.record-max-buffered-time"), "write 'sink.flush-buffer.timeout'");
        assert!(hint("sink.producer.aggregation-enabled").contains("none are aggregated"));
        assert!(hint("sink.producer.verify-certificate").contains("leave it out"));
    }
}
