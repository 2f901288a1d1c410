//! Time as the engine sees it: event time in rows, watermarks, and an injected clock.
//!
//! Invariant: nothing in the engine reads the machine's clock except [`SystemClock`].

use std::{cell::Cell, fmt, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// Event time in microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EventTime(pub i64);

/// Promise that no later row has an event time below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Watermark(pub i64);

impl Watermark {
    /// Before every row.
    pub const MIN: Self = Self(i64::MIN);
    /// After every row: the input has ended.
    pub const MAX: Self = Self(i64::MAX);
}

/// Milliseconds since 1970-01-01T00:00:00Z on the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Instant(pub i64);

impl Instant {
    /// This instant as event time.
    pub fn micros(self) -> i64 {
        self.0.saturating_mul(1000)
    }

    /// This much later.
    pub fn after(self, time: Duration) -> Instant {
        Instant(self.0.saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; nothing when it is before.
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

thread_local! {
    static BATCH: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Does work on one batch, for which [`batch_instant`] is `now`. DataFusion hands an expression its rows and nothing else,
/// so this is how functions of the clock learn the time of the job.
pub(crate) fn as_of<T>(now: Instant, work: impl FnOnce() -> T) -> T {
    struct Outer(Option<Instant>);
    impl Drop for Outer {
        fn drop(&mut self) {
            BATCH.set(self.0);
        }
    }
    let _outer = Outer(BATCH.replace(Some(now)));
    work()
}

/// The time of the batch that a task of a job works on in this thread; `None` outside of jobs.
pub fn batch_instant() -> Option<Instant> {
    BATCH.get()
}

/// Where "now" comes from, and what waiting means.
#[async_trait]
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time now.
    fn now(&self) -> Instant;

    /// Returns once this much time has passed. Cancel-safe.
    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant(chrono::Utc::now().timestamp_millis())
    }
}
