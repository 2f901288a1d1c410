//! The options of a change stream.
//!
//! Invariant: everything is checked here, before a client exists.

use std::{collections::BTreeMap, time::Duration};

use headwater_engine::{
    connector::TableSpec,
    error::{Error, Result},
};

use super::super::changes::ChangeMode;
use crate::{
    aws::{self, AwsOptions},
    options::Options,
};

/// `source.init.position`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Position {
    TrimHorizon,
    Latest,
    /// What was written at or after a time in milliseconds, in the whole seconds that the service keeps.
    AtTimestamp(i64),
    /// The first record of each shard, and what follows; a shard that is not named is read from its beginning.
    AtSequenceNumbers(BTreeMap<String, String>),
}

/// `scan.startup.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Startup {
    /// The stream alone.
    Stream,
    /// A scan of the table, then the stream.
    Initial,
}

/// `scan.on-offset-lost`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnOffsetLost {
    Fail,
    Earliest,
    Latest,
}

/// All options of a change stream.
#[derive(Debug, Clone)]
pub(super) struct StreamOptions {
    pub(super) table_name: Option<String>,
    pub(super) stream_arn: Option<String>,
    pub(super) aws: AwsOptions,
    pub(super) position: Position,
    pub(super) startup: Startup,
    pub(super) mode: ChangeMode,
    pub(super) on_offset_lost: OnOffsetLost,
    pub(super) discovery: Duration,
    /// Time between two requests for a shard that had nothing new.
    pub(super) idle_wait: Duration,
}

const DISCOVERY_DEFAULT: Duration = Duration::from_secs(10);
const IDLE_WAIT_DEFAULT: Duration = Duration::from_millis(250);

impl StreamOptions {
    pub(super) fn parse(spec: &TableSpec) -> Result<Self> {
        let mut options = Options::new(&spec.name, &spec.options);
        options.accept(&["connector"]);
        let table_name = options.text("table-name");
        let stream_arn = options.text("stream.arn");
        if table_name.is_none() && stream_arn.is_none() {
            options.required("table-name")?;
        }
        let mut aws = AwsOptions::parse(&mut options)?;
        if let Some(arn) = &stream_arn {
            aws = aws.or_region_of(arn);
        }
        let position = position(&mut options)?;
        let startups = [("stream", Startup::Stream), ("initial", Startup::Initial)];
        let lost =
            [("fail", OnOffsetLost::Fail), ("earliest", OnOffsetLost::Earliest), ("latest", OnOffsetLost::Latest)];
        let discovery = options.duration("source.shard.discovery.interval")?.unwrap_or(DISCOVERY_DEFAULT);
        let idle_wait = options.duration("source.shard.idle-wait")?.unwrap_or(IDLE_WAIT_DEFAULT);
        let parsed = Self {
            table_name,
            stream_arn,
            aws,
            position,
            startup: options.choice("scan.startup.mode", &startups)?.unwrap_or(Startup::Stream),
            mode: options.choice("scan.mode", &ChangeMode::NAMES)?.unwrap_or(ChangeMode::Changelog),
            on_offset_lost: options.choice("scan.on-offset-lost", &lost)?.unwrap_or(OnOffsetLost::Fail),
            discovery,
            idle_wait,
        };
        options.finish()?;
        parsed.check(spec)?;
        Ok(parsed)
    }

    fn check(&self, spec: &TableSpec) -> Result<()> {
        let wrong = |message: String, hint: &str| {
            Err(Error::user("INVALID_TABLE_PROPERTY", format!("table \"{}\": {message}", spec.name)).with_hint(hint))
        };
        if self.startup == Startup::Initial && self.mode == ChangeMode::Events {
            return wrong(
                "'scan.startup.mode' = 'initial' gives rows, not events".to_owned(),
                "use 'scan.mode' = 'changelog', or 'scan.startup.mode' = 'stream'",
            );
        }
        if self.startup == Startup::Initial && (self.table_name.is_none() || !spec.metadata.is_empty()) {
            return wrong(
                "'scan.startup.mode' = 'initial' needs 'table-name' and no METADATA columns".to_owned(),
                "a scanned item has no record of its change",
            );
        }
        if self.startup == Startup::Initial && self.position != Position::TrimHorizon {
            return wrong(
                "'scan.startup.mode' = 'initial' reads the stream from its beginning".to_owned(),
                "leave 'source.init.position' out: changes during the scan would be lost",
            );
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Mark {
    TrimHorizon,
    Latest,
    Timestamp,
    Sequence,
}

fn position(options: &mut Options) -> Result<Position> {
    let marks = [
        ("TRIM_HORIZON", Mark::TrimHorizon),
        ("LATEST", Mark::Latest),
        ("AT_TIMESTAMP", Mark::Timestamp),
        ("AT_SEQUENCE_NUMBER", Mark::Sequence),
    ];
    let mark = options.choice("source.init.position", &marks)?.unwrap_or(Mark::TrimHorizon);
    let timestamp = options.text("source.init.timestamp");
    let sequences = options.text("source.init.sequence-numbers");
    Ok(match mark {
        Mark::TrimHorizon => Position::TrimHorizon,
        Mark::Latest => Position::Latest,
        Mark::Timestamp => Position::AtTimestamp(aws::timestamp(options, timestamp.as_deref())?),
        Mark::Sequence => Position::AtSequenceNumbers(aws::sequence_numbers(options, sequences.as_deref())?),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn parsed(pairs: &[(&str, &str)]) -> Result<StreamOptions> {
        let options = [("table-name", "T")].iter().chain(pairs).copied();
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Utf8, true)]));
        StreamOptions::parse(&TableSpec::new("t", schema, options))
    }

    #[test]
    fn a_time_to_begin_at_is_a_time_and_no_scan_goes_before_it() {
        let at = [("source.init.position", "AT_TIMESTAMP"), ("source.init.timestamp", "1970-01-01T00:00:02Z")];
        assert_eq!(parsed(&at).unwrap().position, Position::AtTimestamp(2000));
        assert!(parsed(&at[..1]).unwrap_err().message().contains("source.init.timestamp"));
        let initial = parsed(&[at[0], at[1], ("scan.startup.mode", "initial")]).unwrap_err();
        assert!(initial.message().contains("reads the stream from its beginning"), "{initial}");
        assert_eq!(parsed(&[]).unwrap().position, Position::TrimHorizon);
    }

    #[test]
    fn sequence_numbers_to_begin_at_are_given_by_shard() {
        let at =
            [("source.init.position", "AT_SEQUENCE_NUMBER"), ("source.init.sequence-numbers", "shardId-1-a:100; s:2")];
        let named = [("shardId-1-a", "100"), ("s", "2")].map(|(shard, number)| (shard.to_owned(), number.to_owned()));
        assert_eq!(parsed(&at).unwrap().position, Position::AtSequenceNumbers(named.into()));
        assert!(parsed(&at[..1]).unwrap_err().message().contains("source.init.sequence-numbers"));
    }
}
