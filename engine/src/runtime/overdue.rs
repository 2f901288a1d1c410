//! When to say that a checkpoint is under way for long: something outside hangs, or a task has much to do.
//!
//! Invariant: nothing is decided by it, and an outage of hours is told in a few lines.

use std::time::Duration;

use crate::runtime::lifecycle::Phase;

/// Intervals that a checkpoint may take before that is said.
const INTERVALS: u32 = 3;
/// Time that one may take in any case.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the checkpoint under way may take before more is said of it.
#[derive(Debug)]
pub(super) struct Overdue {
    first: Duration,
    next: Duration,
}

impl Overdue {
    pub(super) fn new(interval: Duration) -> Self {
        let first = (interval * INTERVALS).max(PATIENCE);
        Self { first, next: first }
    }

    /// A checkpoint begins.
    pub(super) fn begin(&mut self) {
        self.next = self.first;
    }

    /// Says what a checkpoint waits for that is under way for so long, if it is time to.
    pub(super) fn tell(&mut self, phase: Phase, under_way: Duration) {
        let (epoch, waits_for) = match phase {
            Phase::Aligning(barrier) => (barrier.epoch.0, "the tasks, which write their state and their rows"),
            Phase::Delivering(barrier) => (barrier.epoch.0, "the state store and the sinks, which take it in"),
            Phase::Running | Phase::Done => return,
        };
        if self.is_told(under_way) {
            let seconds = under_way.as_secs();
            tracing::warn!(checkpoint = epoch, seconds, waits_for, "a checkpoint takes long");
        }
    }

    /// Whether it is to be said that one is under way for so long: at a first time, and whenever that has doubled.
    fn is_told(&mut self, under_way: Duration) -> bool {
        let is_due = under_way >= self.next;
        while self.next <= under_way {
            self.next *= 2;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_said_ever_more_seldom() {
        let mut overdue = Overdue::new(Duration::from_secs(5));
        let mut told_at = || {
            overdue.begin();
            (0..200).filter(|seconds| overdue.is_told(Duration::from_secs(*seconds))).collect::<Vec<u64>>()
        };
        assert_eq!(told_at(), [15, 30, 60, 120]);
        assert_eq!(told_at(), [15, 30, 60, 120], "another checkpoint");
        assert!(!Overdue::new(Duration::from_millis(100)).is_told(Duration::from_secs(9)));
    }
}
