//! How many requests may be on their way: halved when the service throttles, one more for each round that it takes all.
//!
//! Invariant: at least one request and at most the table's limit are allowed.

use std::time::Duration;

use super::Backoff;

/// First wait after throttling,
const WAIT_FIRST: Duration = Duration::from_millis(25);
/// and the longest.
const WAIT_LIMIT: Duration = Duration::from_secs(5);
/// Requests at the start.
const START: usize = 8;

/// Adapts to the service.
#[derive(Debug)]
pub(crate) struct Pace {
    allowed: f64,
    limit: usize,
    backoff: Backoff,
}

impl Pace {
    /// With a limit of requests on their way.
    pub(crate) fn new(limit: usize) -> Self {
        Self { allowed: START.min(limit) as f64, limit, backoff: Backoff::new(WAIT_FIRST, WAIT_LIMIT) }
    }

    /// Requests that may be on their way now.
    pub(crate) fn allowed(&self) -> usize {
        self.allowed as usize
    }

    /// The service took all of a request.
    pub(crate) fn taken(&mut self) {
        self.allowed = (self.allowed + 1.0 / self.allowed).min(self.limit as f64);
        self.backoff.reset();
    }

    /// The service took a part of a request, so that what it refuses may be sent again soon.
    pub(crate) fn progressed(&mut self) {
        self.backoff.reset();
    }

    /// The service refused some or all of a request for now; how long the next one waits.
    pub(crate) fn throttled(&mut self) -> Duration {
        self.allowed = (self.allowed / 2.0).max(1.0);
        self.backoff.next_wait()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttling_halves_and_success_grows_up_to_the_limit() {
        let mut pace = Pace::new(12);
        assert_eq!(pace.allowed(), 8);
        let _wait = pace.throttled();
        assert_eq!(pace.allowed(), 4);
        for _ in 0..10 {
            assert!(pace.throttled() <= WAIT_LIMIT);
        }
        assert_eq!(pace.allowed(), 1);
        for _ in 0..200 {
            pace.taken();
        }
        assert_eq!(pace.allowed(), 12);
    }
}
