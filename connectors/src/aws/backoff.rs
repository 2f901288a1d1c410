//! Waiting before a request is tried again: exponential, with full jitter.
//!
//! Invariant: a wait is at most the limit, and never shorter than a tenth of its step, so that nothing spins.

use std::{sync::Arc, time::Duration};

use headwater_engine::time::Clock;
use rand::Rng;

/// Successive waits; a success resets them.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    limit: Duration,
    attempts: u32,
}

impl Backoff {
    /// Waits that begin at about `first`, double, and stay at `limit`.
    pub(crate) fn new(first: Duration, limit: Duration) -> Self {
        Self { first, limit, attempts: 0 }
    }

    /// Begins anew.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// How often it has waited since it began.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The next wait.
    pub(crate) fn next_wait(&mut self) -> Duration {
        let step = self.first.saturating_mul(1 << self.attempts.min(20)).min(self.limit);
        self.attempts = self.attempts.saturating_add(1);
        step.mul_f64(rand::rng().random_range(0.1..=1.0))
    }

    /// Waits.
    pub(crate) async fn wait(&mut self, clock: &Arc<dyn Clock>) {
        let wait = self.next_wait();
        clock.sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_limit_and_begin_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        for attempt in 0..40_u32 {
            let step = Duration::from_millis(50 << attempt.min(10)).min(Duration::from_secs(2));
            let wait = backoff.next_wait();
            assert!(wait <= step && wait >= step.mul_f64(0.099), "attempt {attempt}: {wait:?} of {step:?}");
        }
        assert_eq!(backoff.attempts(), 40);
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(50));
    }
}
