//! A source slows down when it rejects more rows than it should (`rejected.max-rate`).
//!
//! Invariant: over any time the rows rejected are at most the rate times that time, and those of one batch.

use std::{sync::Arc, time::Duration};

use crate::time::{Clock, Instant};

/// How long a source task waits before it reads again.
#[derive(Debug)]
pub(super) struct Slow {
    /// Rows a second.
    rate: Option<u64>,
    clock: Arc<dyn Clock>,
    /// When the rows rejected so far are within the rate.
    until: Instant,
}

impl Slow {
    pub(super) fn new(rate: Option<u64>, clock: Arc<dyn Clock>) -> Self {
        let until = clock.now();
        Self { rate: rate.filter(|rate| *rate > 0), clock, until }
    }

    /// Rows were rejected.
    pub(super) fn rejected(&mut self, rows: u64) {
        let Some(rate) = self.rate else { return };
        let millis = i64::try_from(rows.saturating_mul(1000).div_ceil(rate)).unwrap_or(i64::MAX);
        self.until = Instant(self.until.max(self.clock.now()).0.saturating_add(millis));
    }

    /// Returns once reading may go on. Cancel-safe.
    pub(super) async fn wait(&self) {
        let left = self.until.since(self.clock.now());
        if self.rate.is_some() && left > Duration::ZERO {
            self.clock.sleep(left).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::StepClock;

    #[tokio::test]
    async fn rejected_rows_take_the_time_their_rate_allows() {
        let clock: Arc<dyn Clock> = Arc::new(StepClock::new(Instant(0)));
        let mut slow = Slow::new(Some(100), Arc::clone(&clock));
        slow.rejected(50);
        slow.rejected(25);
        assert_eq!(slow.until, Instant(750));
        let mut free = Slow::new(None, clock);
        free.rejected(1_000_000);
        free.wait().await;
        assert_eq!(free.until, Instant(0));
    }
}
