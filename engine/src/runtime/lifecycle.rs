//! The life of one attempt as a state machine: when a barrier goes out, when a manifest is published, when it ends. Pure.
//!
//! | state | event | next | actions |
//! |---|---|---|---|
//! | Running | Due | Aligning(periodic) | SendBarrier |
//! | Running | Finish | Aligning(final) | SendBarrier |
//! | Aligning | Finish | Aligning, then final | |
//! | Aligning | AllAcked | Delivering | Deliver (publish, commit, mark, acknowledge) |
//! | Delivering(periodic) | Delivered | Running, or Aligning(final) if Finish came | SendBarrier if so |
//! | Delivering(final) | Delivered | Done | Stop |
//!
//! Invariant: at most one epoch is between its barrier and its marker.

use crate::{
    connector::Cut,
    message::{Barrier, Epoch},
};

/// Where an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Between two epochs.
    Running,
    /// A barrier is on its way.
    Aligning(Barrier),
    /// An epoch is being published and committed.
    Delivering(Barrier),
    /// The final epoch is committed.
    Done,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The checkpoint interval has passed.
    Due,
    /// The job should end: asked to, or all inputs are read.
    Finish,
    /// Every task has acknowledged the barrier.
    AllAcked,
    /// The epoch is published, committed and marked.
    Delivered,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send this barrier to all source tasks.
    SendBarrier(Barrier),
    /// Publish and commit this epoch.
    Deliver(Barrier),
    /// Stop all tasks.
    Stop,
}

/// State of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifecycle {
    phase: Phase,
    last: Epoch,
    finishing: bool,
}

impl Lifecycle {
    /// An attempt whose newest epoch is `last`.
    pub fn new(last: Epoch) -> Self {
        Self { phase: Phase::Running, last, finishing: false }
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The epoch that is being filled.
    pub fn current_epoch(&self) -> Epoch {
        self.last.next()
    }

    /// What follows from an event.
    #[must_use]
    pub fn next(self, event: Event) -> (Self, Option<Action>) {
        match (self.phase, event) {
            (Phase::Running, Event::Due) => self.cut(Cut::Periodic),
            (Phase::Running, Event::Finish) => self.cut(Cut::Final),
            (Phase::Aligning(_) | Phase::Delivering(_), Event::Finish) => (Self { finishing: true, ..self }, None),
            (Phase::Aligning(barrier), Event::AllAcked) => {
                (Self { phase: Phase::Delivering(barrier), ..self }, Some(Action::Deliver(barrier)))
            }
            (Phase::Delivering(Barrier { cut: Cut::Final, .. }), Event::Delivered) => {
                (Self { phase: Phase::Done, ..self }, Some(Action::Stop))
            }
            (Phase::Delivering(_), Event::Delivered) if self.finishing => self.cut(Cut::Final),
            (Phase::Delivering(_), Event::Delivered) => (Self { phase: Phase::Running, ..self }, None),
            (Phase::Aligning(_) | Phase::Delivering(_), Event::Due)
            | (Phase::Running | Phase::Delivering(_), Event::AllAcked)
            | (Phase::Running | Phase::Aligning(_), Event::Delivered)
            | (Phase::Done, _) => (self, None),
        }
    }

    fn cut(self, cut: Cut) -> (Self, Option<Action>) {
        let barrier = Barrier { epoch: self.last.next(), cut };
        let next = Self { phase: Phase::Aligning(barrier), last: barrier.epoch, finishing: self.finishing };
        (next, Some(Action::SendBarrier(barrier)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(events: &[Event]) -> (Lifecycle, Vec<Action>) {
        events.iter().fold((Lifecycle::new(Epoch(4)), Vec::new()), |(state, mut actions), event| {
            let (state, action) = state.next(*event);
            actions.extend(action);
            (state, actions)
        })
    }

    fn barrier(epoch: u64, cut: Cut) -> Barrier {
        Barrier { epoch: Epoch(epoch), cut }
    }

    #[test]
    fn one_epoch_at_a_time() {
        let (state, actions) =
            walk(&[Event::Due, Event::Due, Event::AllAcked, Event::Due, Event::Delivered, Event::Due]);
        let first = barrier(5, Cut::Periodic);
        let second = barrier(6, Cut::Periodic);
        assert_eq!(actions, [Action::SendBarrier(first), Action::Deliver(first), Action::SendBarrier(second)]);
        assert_eq!(state.phase(), Phase::Aligning(second));
    }

    #[test]
    fn finishing_while_an_epoch_is_under_way_cuts_one_more() {
        for when in [1, 2] {
            let mut events = vec![Event::Due, Event::AllAcked];
            events.insert(when, Event::Finish);
            events.extend([Event::Delivered, Event::AllAcked, Event::Delivered]);
            let (state, actions) = walk(&events);
            assert_eq!(state.phase(), Phase::Done);
            assert!(actions.contains(&Action::SendBarrier(barrier(6, Cut::Final))), "{actions:?}");
            assert_eq!(actions.last(), Some(&Action::Stop));
        }
    }

    #[test]
    fn an_attempt_that_is_done_does_nothing_more() {
        let (state, _) = walk(&[Event::Finish, Event::AllAcked, Event::Delivered]);
        for event in [Event::Due, Event::Finish, Event::AllAcked, Event::Delivered] {
            assert_eq!(state.next(event), (state, None));
        }
    }
}
