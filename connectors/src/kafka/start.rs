//! Where reading a partition starts and ends, from the options and the checkpoint.
//!
//! Invariant: a position that the broker no longer has is never skipped over in silence.

use headwater_engine::{
    connector::{Bound, SplitId, StartAt},
    error::{Error, Result},
};

use super::{
    client::{self, KafkaConsumer},
    options::{KafkaOptions, OnOffsetLost, Startup, Until},
};

/// A partition with its range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) topic: String,
    pub(super) partition: i32,
    /// First offset to read.
    pub(super) start: i64,
    /// One past the last, when there is an end.
    pub(super) end: Option<i64>,
}

/// Name of a split: `topic-partition`.
pub(super) fn split_id(topic: &str, partition: i32) -> SplitId {
    SplitId::new(format!("{topic}-{partition}"))
}

/// Topic and partition of a split's name.
pub(super) fn parse_split(id: &SplitId) -> Result<(String, i32)> {
    let parsed = id.0.rsplit_once('-').and_then(|(topic, partition)| Some((topic.to_owned(), partition.parse().ok()?)));
    parsed.ok_or_else(|| Error::internal(format!("split \"{id}\" is not of the form topic-partition")))
}

/// Asks the broker what is needed to know the range of a split.
pub(super) fn range(
    consumer: &KafkaConsumer,
    options: &KafkaOptions,
    id: &SplitId,
    at: &StartAt,
    bound: Bound,
) -> Result<Range> {
    let (topic, partition) = parse_split(id)?;
    let (first, last) = client::bounds(consumer, &topic, partition)?;
    let start = match at {
        StartAt::Beginning => first,
        StartAt::Offset(offset) => {
            let wanted: i64 = offset
                .0
                .parse()
                .map_err(|_| Error::internal(format!("offset \"{offset}\" of split \"{id}\" is not a number")))?;
            check_available(id, wanted, (first, last), options.on_offset_lost)?
        }
        StartAt::TableDefault => default_start(consumer, options, (&topic, partition), (first, last))?,
    };
    let end = match bound {
        Bound::EndNow => Some(last),
        Bound::Table => end(consumer, options, (&topic, partition), last)?,
    };
    Ok(Range { topic, partition, start, end })
}

/// The offset to go on at, or the error that it is gone.
pub(super) fn check_available(
    id: &SplitId,
    wanted: i64,
    (first, last): (i64, i64),
    policy: OnOffsetLost,
) -> Result<i64> {
    if (first..=last).contains(&wanted) {
        return Ok(wanted);
    }
    match policy {
        OnOffsetLost::Earliest => Ok(first),
        OnOffsetLost::Latest => Ok(last),
        OnOffsetLost::Fail => Err(Error::data(
            "OFFSET_LOST",
            format!("partition \"{id}\" no longer has offset {wanted}: it holds {first} to {last}"),
        )
        .with_hint(
            "rows between were deleted by the broker; set 'scan.on-offset-lost' to 'earliest' or 'latest' to go on",
        )),
    }
}

fn default_start(
    consumer: &KafkaConsumer,
    options: &KafkaOptions,
    (topic, partition): (&str, i32),
    (first, last): (i64, i64),
) -> Result<i64> {
    Ok(match &options.startup {
        Startup::Earliest => first,
        Startup::Latest => last,
        Startup::Timestamp(millis) => client::offset_at(consumer, topic, partition, *millis)?,
        Startup::Specific(offsets) => offsets.get(&partition).copied().unwrap_or(first).clamp(first, last),
        Startup::GroupOffsets => match client::committed(consumer, topic, partition)? {
            Some(offset) => {
                check_available(&split_id(topic, partition), offset, (first, last), options.on_offset_lost)?
            }
            None => reset(options, (first, last))?,
        },
    })
}

/// `properties.auto.offset.reset`, when the group has no offset.
fn reset(options: &KafkaOptions, (first, last): (i64, i64)) -> Result<i64> {
    match options.properties.get("auto.offset.reset").map(String::as_str) {
        None | Some("earliest" | "smallest" | "beginning") => Ok(first),
        Some("latest" | "largest" | "end") => Ok(last),
        Some(other) => Err(Error::user(
            "INVALID_TABLE_PROPERTY",
            format!(
                "table \"{}\": the group has no offset and 'properties.auto.offset.reset' is '{other}'",
                options.table
            ),
        )
        .with_hint("set it to earliest or latest, or choose another 'scan.startup.mode'")),
    }
}

fn end(
    consumer: &KafkaConsumer,
    options: &KafkaOptions,
    (topic, partition): (&str, i32),
    last: i64,
) -> Result<Option<i64>> {
    Ok(match &options.until {
        Until::Unbounded => None,
        Until::Latest => Some(last),
        Until::Timestamp(millis) => Some(client::offset_at(consumer, topic, partition, *millis)?.min(last)),
        Until::Specific(offsets) => Some(offsets.get(&partition).copied().unwrap_or(last)),
        Until::GroupOffsets => Some(client::committed(consumer, topic, partition)?.unwrap_or(last)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_name_keeps_dashes_of_its_topic() {
        assert_eq!(parse_split(&split_id("a-b", 12)).unwrap(), ("a-b".to_owned(), 12));
        assert!(parse_split(&SplitId::new("nonsense")).is_err());
    }

    #[test]
    fn a_lost_offset_is_an_error_unless_told_otherwise() {
        let id = SplitId::new("t-0");
        assert_eq!(check_available(&id, 5, (5, 9), OnOffsetLost::Fail).unwrap(), 5);
        assert_eq!(check_available(&id, 9, (5, 9), OnOffsetLost::Fail).unwrap(), 9);
        let error = check_available(&id, 4, (5, 9), OnOffsetLost::Fail).unwrap_err();
        assert!(error.message().contains("no longer has offset 4"), "{error}");
        assert_eq!(check_available(&id, 4, (5, 9), OnOffsetLost::Earliest).unwrap(), 5);
        assert_eq!(check_available(&id, 10, (5, 9), OnOffsetLost::Latest).unwrap(), 9);
    }
}
