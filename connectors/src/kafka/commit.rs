//! Exactly-once delivery: an epoch in transactions of bounded size, each carrying its own proof.
//!
//! Every transaction also commits one offset of the sink's own consumer group; the number is the epoch and how many
//! chunks of it are delivered. Reading that one number back tells what an unclear reply or a crash left behind.
//!
//! ```text
//! commit(7): [rows.. , offset (7,1)] [rows.. , offset (7,2)] [offset (7,done)]
//! crash after the first: the number read back is (7,1), delivery goes on with the second
//! ```
//!
//! Invariant: rows and the number that says they are delivered become visible in one transaction.

use headwater_engine::{
    connector::CommitFacts,
    error::{Error, Result},
    message::Epoch,
};

use super::options::OnMarkerLost;

/// Chunks of an epoch are counted below this; it is also what stands for "all of them".
const CHUNKS: i64 = 1 << 20;

/// How far an epoch is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Delivered {
    pub(super) epoch: Epoch,
    /// Chunks delivered; [`Delivered::all`] when the epoch is complete.
    pub(super) chunks: i64,
}

impl Delivered {
    pub(super) fn part(epoch: Epoch, chunks: i64) -> Result<Self> {
        if chunks >= CHUNKS - 1 {
            return Err(Error::not_supported(format!("an epoch of more than {CHUNKS} transactions"))
                .with_hint("raise 'sink.transaction.max-size' or shorten 'checkpoint.interval'"));
        }
        Ok(Self { epoch, chunks })
    }

    pub(super) fn all(epoch: Epoch) -> Self {
        Self { epoch, chunks: CHUNKS - 1 }
    }

    /// The number committed as the group's offset.
    pub(super) fn to_offset(self) -> i64 {
        self.epoch.0 as i64 * CHUNKS + self.chunks
    }

    pub(super) fn from_offset(offset: i64) -> Self {
        Self { epoch: Epoch((offset / CHUNKS) as u64), chunks: offset % CHUNKS }
    }
}

/// What is left to deliver of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remaining {
    Nothing,
    /// Everything after so many chunks.
    From(i64),
}

/// Compares an epoch with the number read back.
pub(super) fn remaining(epoch: Epoch, delivered: Option<Delivered>) -> Remaining {
    match delivered {
        Some(last) if last >= Delivered::all(epoch) => Remaining::Nothing,
        Some(last) if last.epoch == epoch => Remaining::From(last.chunks),
        _ => Remaining::From(0),
    }
}

/// What to take for delivered at a start, given the log's facts and the number the broker has.
pub(super) fn delivered_at_start(
    facts: &CommitFacts,
    read_back: Option<Delivered>,
    policy: OnMarkerLost,
    table: &str,
) -> Result<Option<Delivered>> {
    let Some(committed) = facts.committed else { return Ok(read_back) };
    if read_back.is_some_and(|delivered| delivered >= Delivered::all(committed)) {
        return Ok(read_back);
    }
    match policy {
        OnMarkerLost::Redeliver => Ok(read_back.max(Some(Delivered::all(committed)))),
        OnMarkerLost::Skip => Ok(Some(Delivered::all(facts.published.unwrap_or(committed)))),
        OnMarkerLost::Fail => Err(Error::data(
            "DELIVERY_MARKER_LOST",
            format!(
                "table \"{table}\": epoch {} was delivered, but the broker no longer has the offset that says so, so it \
                 is not known whether the epoch after it was",
                committed.0
            ),
        )
        .with_hint("look at the topic's end, then set 'sink.on-marker-lost' to 'redeliver' or 'skip' for one start")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_keeps_epoch_and_chunks() {
        for delivered in
            [Delivered::part(Epoch(0), 0).unwrap(), Delivered::part(Epoch(7), 3).unwrap(), Delivered::all(Epoch(9))]
        {
            assert_eq!(Delivered::from_offset(delivered.to_offset()), delivered);
        }
    }

    #[test]
    fn a_repeated_epoch_goes_on_where_it_stopped() {
        assert_eq!(remaining(Epoch(7), None), Remaining::From(0));
        assert_eq!(remaining(Epoch(7), Some(Delivered::all(Epoch(6)))), Remaining::From(0));
        assert_eq!(remaining(Epoch(7), Delivered::part(Epoch(7), 2).ok()), Remaining::From(2));
        assert_eq!(remaining(Epoch(7), Some(Delivered::all(Epoch(7)))), Remaining::Nothing);
        assert_eq!(remaining(Epoch(7), Some(Delivered::all(Epoch(8)))), Remaining::Nothing);
    }

    #[test]
    fn a_lost_number_stops_the_job_unless_told_otherwise() {
        let facts = CommitFacts { insert: "t".into(), published: Some(Epoch(5)), committed: Some(Epoch(4)) };
        let lost = |policy| delivered_at_start(&facts, None, policy, "t");
        assert_eq!(lost(OnMarkerLost::Fail).unwrap_err().code().0, "DELIVERY_MARKER_LOST");
        assert_eq!(lost(OnMarkerLost::Redeliver).unwrap(), Some(Delivered::all(Epoch(4))));
        assert_eq!(lost(OnMarkerLost::Skip).unwrap(), Some(Delivered::all(Epoch(5))));
        let there = Some(Delivered::all(Epoch(4)));
        assert_eq!(delivered_at_start(&facts, there, OnMarkerLost::Fail, "t").unwrap(), there);
        let fresh = CommitFacts::default();
        assert_eq!(delivered_at_start(&fresh, None, OnMarkerLost::Fail, "t").unwrap(), None);
    }
}
