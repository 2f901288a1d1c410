//! The time of a partition, from the values of its keys: `partition.time-extractor.*`.
//!
//! Invariant: values that spell no time have none; they are never guessed.

use chrono::{NaiveDate, NaiveDateTime};
use headwater_engine::error::{Error, Result};

use crate::{
    lake::{projection::strftime, write::partition::Values},
    options::Options,
};

/// How the values of partition keys become a time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TimeExtractor {
    /// A text with `$key` for each value; the first value if there is none.
    pattern: Option<String>,
    /// How that text is read, in chrono's terms.
    formatter: Option<String>,
}

impl TimeExtractor {
    pub(super) fn take(options: &mut Options) -> Result<Self> {
        let kind = options.text("partition.time-extractor.kind");
        if let Some(kind) = kind.filter(|kind| kind != "default") {
            let message = format!("'partition.time-extractor.kind' = '{kind}' is not supported");
            return Err(Error::not_supported(message)
                .with_hint("use 'partition.time-extractor.timestamp-pattern', such as '$dt $hour:00:00'"));
        }
        let zone = options.text("sink.partition-commit.watermark-time-zone");
        if let Some(zone) = zone.filter(|zone| zone != "UTC") {
            let message = format!("'sink.partition-commit.watermark-time-zone' = '{zone}' is not supported");
            return Err(Error::not_supported(message).with_hint("partitions are in UTC"));
        }
        let pattern = options.text("partition.time-extractor.timestamp-pattern");
        let key = "partition.time-extractor.timestamp-formatter";
        let formatter = match options.text(key) {
            None => None,
            Some(text) => {
                Some(strftime(&text).ok_or_else(|| options.invalid(key, &text, "a pattern such as 'yyyy-MM-dd HH'"))?)
            }
        };
        Ok(Self { pattern, formatter })
    }

    /// The time of a partition in microseconds since 1970, if its values spell one.
    pub(super) fn micros(&self, keys: &[String], values: &Values) -> Option<i64> {
        let text = match &self.pattern {
            None => values.first().cloned().flatten()?,
            Some(pattern) => {
                // Longer names first, so that `$hour` is not taken for `$h` with something behind it.
                let mut named: Vec<_> = keys.iter().zip(values).collect();
                named.sort_by_key(|(key, _)| std::cmp::Reverse(key.len()));
                named.into_iter().try_fold(pattern.clone(), |text, (key, value)| {
                    let place = format!("${key}");
                    if text.contains(&place) { Some(text.replace(&place, value.as_deref()?)) } else { Some(text) }
                })?
            }
        };
        Some(self.parsed(text.trim())?.and_utc().timestamp_micros())
    }

    fn parsed(&self, text: &str) -> Option<NaiveDateTime> {
        let at_midnight = |date: NaiveDate| date.and_hms_opt(0, 0, 0);
        if let Some(formatter) = &self.formatter {
            let whole = NaiveDateTime::parse_from_str(text, formatter).ok();
            // Chrono wants minutes; a pattern may end with the hour, or with the day.
            let hours = || NaiveDateTime::parse_from_str(&format!("{text} 0"), &format!("{formatter} %M")).ok();
            return whole.or_else(hours).or_else(|| at_midnight(NaiveDate::parse_from_str(text, formatter).ok()?));
        }
        ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M"]
            .into_iter()
            .find_map(|pattern| NaiveDateTime::parse_from_str(text, pattern).ok())
            .or_else(|| at_midnight(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn micros(options: &[(&str, &str)], keys: &[(&str, Option<&str>)]) -> Option<i64> {
        let all: BTreeMap<String, String> = options
            .iter()
            .map(|(key, value)| (format!("partition.time-extractor.{key}"), (*value).to_owned()))
            .collect();
        let mut options = Options::new("t", &all);
        let extractor = TimeExtractor::take(&mut options).unwrap();
        options.finish().unwrap();
        let names: Vec<String> = keys.iter().map(|(key, _)| (*key).to_owned()).collect();
        let values: Values = keys.iter().map(|(_, value)| value.map(str::to_owned)).collect();
        extractor.micros(&names, &values)
    }

    const DAY: i64 = 86_400_000_000;

    #[test]
    fn values_become_times() {
        assert_eq!(micros(&[], &[("dt", Some("1970-01-03"))]), Some(2 * DAY));
        let hours = [("h", Some("x")), ("dt", Some("1970-01-02")), ("hour", Some("6"))];
        assert_eq!(micros(&[("timestamp-pattern", "$dt $hour:00:00")], &hours), Some(DAY + DAY / 4));
        let parts = [("year", Some("1970")), ("month", Some("1")), ("day", Some("2"))];
        assert_eq!(micros(&[("timestamp-pattern", "$year-$month-$day")], &parts), Some(DAY));
        let compact = [("timestamp-formatter", "yyyyMMddHH")];
        assert_eq!(micros(&compact, &[("dt", Some("1970010206"))]), Some(DAY + DAY / 4));
        let day = [("timestamp-formatter", "yyyyMMdd")];
        assert_eq!(micros(&day, &[("dt", Some("19700102"))]), Some(DAY));
    }

    #[test]
    fn what_is_no_time_has_none() {
        assert_eq!(micros(&[], &[("dt", None)]), None);
        assert_eq!(micros(&[], &[("city", Some("Oslo"))]), None);
        assert_eq!(micros(&[("timestamp-pattern", "$dt")], &[("dt", None)]), None);
    }
}
