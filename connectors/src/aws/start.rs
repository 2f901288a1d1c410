//! The point in time that reading a stream begins at.
//!
//! Invariant: a text that is no time or no list of sequence numbers is refused with the forms that are.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDateTime};
use headwater_engine::error::Result;

use crate::options::Options;

/// The time of `source.init.timestamp`, in milliseconds since 1970.
pub(crate) fn timestamp(options: &Options, text: Option<&str>) -> Result<i64> {
    let text = text.unwrap_or_default();
    let wanted = "a time such as '2026-01-02T03:04:05Z', or seconds since 1970";
    parsed(text.trim()).ok_or_else(|| options.invalid("source.init.timestamp", text, wanted))
}

/// The sequence numbers of `source.init.sequence-numbers`, by shard.
pub(crate) fn sequence_numbers(options: &Options, text: Option<&str>) -> Result<BTreeMap<String, String>> {
    let text = text.unwrap_or_default();
    let wanted = "of the form 'shardId-000000000000:495..;shardId-000000000001:496..'";
    let pair = |part: &str| {
        let (shard, sequence) = part.trim().rsplit_once(':')?;
        let is_number = !sequence.is_empty() && sequence.bytes().all(|digit| digit.is_ascii_digit());
        is_number.then(|| (shard.trim().to_owned(), sequence.to_owned()))
    };
    let parsed: Option<BTreeMap<String, String>> =
        text.split(';').filter(|part| !part.trim().is_empty()).map(pair).collect();
    let parsed = parsed.filter(|sequences| !sequences.is_empty());
    parsed.ok_or_else(|| options.invalid("source.init.sequence-numbers", text, wanted))
}

/// A date and time, in UTC unless it says otherwise, or seconds since 1970 with or without a fraction.
fn parsed(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds.is_finite() && seconds >= 0.0).then_some((seconds * 1000.0).round() as i64);
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_millis());
    }
    let forms = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"];
    let local = forms.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())?;
    Some(local.and_utc().timestamp_millis())
}
