//! A clock that moves a little whenever somebody waits: simulated time on a single thread.
//!
//! Invariant: time never passes without a task giving way, so a run is a function of its seed.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use async_trait::async_trait;

use crate::time::{Clock, Instant};

/// Advances by a millisecond each time a waiting task is polled.
#[derive(Debug)]
pub struct StepClock(AtomicI64);

impl StepClock {
    /// A clock that begins at this time.
    pub fn new(start: Instant) -> Self {
        Self(AtomicI64::new(start.0))
    }

    /// Moves the clock.
    pub fn advance(&self, time: Duration) {
        self.0.fetch_add(i64::try_from(time.as_millis()).unwrap_or(0), Ordering::Relaxed);
    }
}

#[async_trait]
impl Clock for StepClock {
    fn now(&self) -> Instant {
        Instant(self.0.load(Ordering::Relaxed))
    }

    async fn sleep(&self, time: Duration) {
        let until = self.now().0.saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
        while self.now().0 < until {
            self.advance(Duration::from_millis(1));
            tokio::task::yield_now().await;
        }
    }
}
