//! Positions within a shard: after a record, or at a time when nothing has been read yet.
//!
//! As text: `<sequence>:<sub-sequence>@<ms>`, `<sequence>@<ms>` or `@<ms>`. The milliseconds say until when the job
//! has certainly seen everything, so that a restart can tell a shard that was silent from one whose records expired.
//!
//! Invariant: sequence numbers are decimal text without leading zeros, compared by length and then as text: they have
//! more digits than any number type.

use std::cmp::Ordering;

use headwater_engine::{
    connector::Offset,
    error::{Error, Result},
};

/// Where to go on in a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ShardOffset {
    /// The last record read; `None` before the first.
    pub(super) after: Option<RecordPosition>,
    /// Everything that arrived before this is read, in milliseconds since 1970.
    pub(super) seen_ms: i64,
}

/// A record, or one of those it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RecordPosition {
    /// The record.
    pub(super) sequence: String,
    /// The last of the records it aggregates.
    pub(super) sub_sequence: Option<u64>,
}

impl RecordPosition {
    /// As it is shown in `"t$rejected"`.
    pub(super) fn text(&self) -> String {
        match self.sub_sequence {
            Some(sub) => format!("{}:{sub}", self.sequence),
            None => self.sequence.clone(),
        }
    }
}

impl ShardOffset {
    pub(super) fn to_offset(&self) -> Offset {
        let after = self.after.as_ref().map(RecordPosition::text).unwrap_or_default();
        Offset::new(format!("{after}@{}", self.seen_ms))
    }

    pub(super) fn parse(offset: &Offset) -> Result<Self> {
        let parsed = || {
            let (after, seen) = offset.0.split_once('@')?;
            let seen_ms = seen.parse().ok()?;
            let (sequence, sub) = match after.split_once(':') {
                Some((sequence, sub)) => (sequence, Some(sub.parse().ok()?)),
                None => (after, None),
            };
            if !sequence.bytes().all(|digit| digit.is_ascii_digit()) {
                return None;
            }
            let after =
                (!sequence.is_empty()).then(|| RecordPosition { sequence: sequence.to_owned(), sub_sequence: sub });
            Some(Self { after, seen_ms })
        };
        parsed().ok_or_else(|| Error::internal(format!("\"{offset}\" is no position in a shard")))
    }
}

/// Which of two sequence numbers is earlier.
pub(super) fn compare_sequences(left: &str, right: &str) -> Ordering {
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_survive_their_text() {
        let long = "9".repeat(128);
        for (after, text) in [
            (None, "@17".to_owned()),
            (Some((long.clone(), None)), format!("{long}@17")),
            (Some(("495".to_owned(), Some(3))), "495:3@17".to_owned()),
        ] {
            let after = after.map(|(sequence, sub_sequence)| RecordPosition { sequence, sub_sequence });
            let offset = ShardOffset { after, seen_ms: 17 };
            assert_eq!(&*offset.to_offset().0, text);
            assert_eq!(ShardOffset::parse(&offset.to_offset()).unwrap(), offset);
        }
        assert!(ShardOffset::parse(&Offset::new("495")).is_err());
        assert!(ShardOffset::parse(&Offset::new("x@1")).is_err());
    }

    #[test]
    fn a_longer_sequence_number_is_later() {
        assert_eq!(compare_sequences("99", "100"), Ordering::Less);
        assert_eq!(compare_sequences("200", "100"), Ordering::Greater);
        assert_eq!(compare_sequences("100", "100"), Ordering::Equal);
    }
}
