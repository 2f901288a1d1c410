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
    pub(super) key_delimiter: String,
}

const DISCOVERY_DEFAULT: Duration = Duration::from_secs(10);
const KEY_DELIMITER_DEFAULT: &str = "|";

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
        let key_delimiter = options.text("sink.partitioner-field-delimiter");
        options.finish()?;
        Ok(Self {
            stream,
            aws,
            position,
            reader,
            discovery: (!discovery.is_zero()).then_some(discovery),
            on_offset_lost: on_offset_lost.unwrap_or(OnOffsetLost::Fail),
            format,
            key_delimiter: key_delimiter.unwrap_or_else(|| KEY_DELIMITER_DEFAULT.to_owned()),
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
}
