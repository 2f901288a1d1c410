//! Time as the engine sees it: event time in rows, watermarks, and an injected clock.
//!
//! Invariant: nothing in the engine reads the machine's clock except [`SystemClock`].

use std::fmt;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Instant(pub i64);

/// Where "now" comes from.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time now.
    fn now(&self) -> Instant;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant(chrono::Utc::now().timestamp_millis())
    }
}
