//! Windows over event time as arithmetic: which windows a row belongs to and in which pane it is kept.
//!
//! A *pane* is a slice that overlapping windows share: each row is kept once, in the pane its event time falls in, and a
//! window is a run of panes. All values are microseconds.
//!
//! ```text
//! HOP(slide 2, size 6)   panes   |0 .. 2|2 .. 4|4 .. 6|6 .. 8|
//!                        windows |------ 0..6 --------|
//!                                       |------- 2..8 -------|
//! ```
//!
//! Invariant: every row belongs to at least one window (TUMBLE, CUMULATE: through all sizes; HOP: size >= slide, or the
//! row may fall between windows and then belongs to none).

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How rows are grouped in time. Lengths are microseconds and positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowSpec {
    /// Windows of `size` one after another.
    Tumble {
        /// Length.
        size: i64,
        /// Shift of all windows.
        offset: i64,
    },
    /// Windows of `size`, one every `slide`.
    Hop {
        /// Length.
        size: i64,
        /// Distance of two starts.
        slide: i64,
        /// Shift of all windows.
        offset: i64,
    },
    /// Windows that start together every `size` and end at each `step`.
    Cumulate {
        /// Longest length.
        size: i64,
        /// Growth.
        step: i64,
        /// Shift of all windows.
        offset: i64,
    },
    /// Rows at most `gap` apart.
    Session {
        /// Longest silence within a session.
        gap: i64,
    },
}

/// One window: `start <= t < end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Window {
    /// First microsecond.
    pub start: i64,
    /// One past the last.
    pub end: i64,
}

impl WindowSpec {
    /// Checks the lengths: positive, and for CUMULATE `step` divides `size`.
    pub fn validate(&self) -> Result<()> {
        let positive = match *self {
            Self::Tumble { size, .. } => size > 0,
            Self::Hop { size, slide, .. } => size > 0 && slide > 0,
            Self::Cumulate { size, step, .. } => size > 0 && step > 0,
            Self::Session { gap } => gap > 0,
        };
        if !positive {
            return Err(Error::user("INVALID_FUNCTION_ARGUMENT", "window lengths must be positive"));
        }
        match *self {
            Self::Cumulate { size, step, .. } if size % step != 0 => Err(Error::user(
                "INVALID_FUNCTION_ARGUMENT",
                "the size of a CUMULATE window must be a whole multiple of its step",
            )),
            _ => Ok(()),
        }
    }

    /// Length of a pane; for sessions the gap.
    pub fn pane_length(&self) -> i64 {
        match *self {
            Self::Tumble { size, .. } => size,
            Self::Hop { size, slide, .. } => gcd(size, slide),
            Self::Cumulate { step, .. } => step,
            Self::Session { gap } => gap,
        }
    }

    fn offset(&self) -> i64 {
        match *self {
            Self::Tumble { offset, .. } | Self::Hop { offset, .. } | Self::Cumulate { offset, .. } => offset,
            Self::Session { .. } => 0,
        }
    }

    /// Start of the pane a time falls in (not for sessions, whose panes are their own rows' times).
    pub fn pane_of(&self, time: i64) -> i64 {
        floor(time, self.pane_length(), self.offset())
    }

    /// Starts of the tumbling windows of times in units of `unit` microseconds, and their length in that unit: what
    /// [`Self::pane_of`] says of each. `None` for other windows, for bounds that are no whole units, and for times that
    /// microseconds cannot count.
    pub fn tumbling_starts(&self, times: &[i64], unit: i64) -> Option<(Vec<i64>, i64)> {
        let Self::Tumble { size, offset } = *self else { return None };
        let farthest = i64::MAX / unit;
        let counts = |time: &i64| (-farthest..=farthest).contains(time);
        if size % unit != 0 || offset % unit != 0 || !times.iter().fold(true, |all, time| all & counts(time)) {
            return None;
        }
        let (size, offset) = (size / unit, offset / unit);
        Some((near(times, size, |time| floor(time, size, offset)), size))
    }

    /// End of the last window a row of this time belongs to: it is released, and late rows begin, when that is reached.
    /// For a session that is the earliest it can be: time + gap.
    pub fn last_end(&self, time: i64) -> i64 {
        match *self {
            Self::Tumble { size, offset } | Self::Cumulate { size, offset, .. } => {
                floor(time, size, offset).saturating_add(size)
            }
            Self::Hop { size, slide, offset } => floor(time, slide, offset).saturating_add(size),
            Self::Session { gap } => time.saturating_add(gap),
        }
    }

    /// [`Self::pane_of`] of each time.
    pub fn panes_of(&self, times: &[i64]) -> Vec<i64> {
        let (length, offset) = (self.pane_length(), self.offset());
        near(times, length, |time| floor(time, length, offset))
    }

    /// [`Self::last_end`] of each time.
    pub fn last_ends(&self, times: &[i64]) -> Vec<i64> {
        let (step, offset) = match *self {
            Self::Tumble { size, offset } | Self::Cumulate { size, offset, .. } => (size, offset),
            Self::Hop { slide, offset, .. } => (slide, offset),
            Self::Session { gap } => return times.iter().map(|time| time.saturating_add(gap)).collect(),
        };
        let mut ends = near(times, step, |time| floor(time, step, offset));
        let size = match *self {
            Self::Hop { size, .. } => size,
            _ => step,
        };
        ends.iter_mut().for_each(|end| *end = end.saturating_add(size));
        ends
    }

    /// End of the first window after `closed` that a row of this time belongs to, if there is one. Not for sessions.
    pub fn first_end_after(&self, time: i64, closed: i64) -> Option<i64> {
        let (step, offset) = match *self {
            Self::Tumble { size, offset } => (size, offset),
            Self::Hop { size, slide, offset } => (slide, offset.saturating_add(size)),
            Self::Cumulate { step, offset, .. } => (step, offset),
            Self::Session { .. } => return None,
        };
        let end = floor(time.max(closed), step, offset).saturating_add(step);
        (end <= self.last_end(time)).then_some(end)
    }

    /// Distance between the ends of two windows that follow each other; 0 for sessions.
    pub fn step(&self) -> i64 {
        match *self {
            Self::Tumble { size, .. } => size,
            Self::Hop { slide, .. } => slide,
            Self::Cumulate { step, .. } => step,
            Self::Session { .. } => 0,
        }
    }

    /// Whether a row may be in several windows.
    pub fn overlap(&self) -> bool {
        match *self {
            Self::Tumble { .. } | Self::Session { .. } => false,
            Self::Hop { size, slide, .. } => size > slide,
            Self::Cumulate { size, step, .. } => size > step,
        }
    }

    /// Whether a row may be in no window.
    pub fn has_gaps(&self) -> bool {
        matches!(*self, Self::Hop { size, slide, .. } if size < slide)
    }

    /// Whether a row of this time is in any window at all (HOP with gaps between windows).
    pub fn covers(&self, time: i64) -> bool {
        self.last_end(time) > time
    }

    /// All windows that contain a pane starting at `pane`, by end. Sessions have none here: they depend on the rows.
    pub fn windows_of_pane(&self, pane: i64) -> Vec<Window> {
        match *self {
            Self::Tumble { size, .. } => vec![Window { start: pane, end: pane.saturating_add(size) }],
            Self::Hop { size, slide, offset } => {
                let last = floor(pane, slide, offset);
                let mut starts: Vec<i64> = std::iter::successors(Some(last), |start| start.checked_sub(slide))
                    .take_while(|start| start.saturating_add(size) > pane)
                    .collect();
                starts.reverse();
                starts.into_iter().map(|start| Window { start, end: start.saturating_add(size) }).collect()
            }
            Self::Cumulate { size, step, offset } => {
                let start = floor(pane, size, offset);
                let first = pane.saturating_add(step);
                std::iter::successors(Some(first), |end| end.checked_add(step))
                    .take_while(|end| *end <= start.saturating_add(size))
                    .map(|end| Window { start, end })
                    .collect()
            }
            Self::Session { .. } => Vec::new(),
        }
    }
}

/// The start of each time's slice of `length`. Rows near each other in time are near each other in a batch, so that few of
/// them need the division.
fn near(times: &[i64], length: i64, start_of: impl Fn(i64) -> i64) -> Vec<i64> {
    let mut start = times.first().map_or(0, |first| start_of(*first));
    let starts = times.iter().map(|&time| {
        if time.wrapping_sub(start) as u64 >= length as u64 {
            start = start_of(time);
        }
        start
    });
    starts.collect()
}

fn floor(time: i64, length: i64, offset: i64) -> i64 {
    let shifted = time.saturating_sub(offset);
    shifted.div_euclid(length).saturating_mul(length).saturating_add(offset)
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(start: i64, end: i64) -> Window {
        Window { start, end }
    }

    #[test]
    fn a_row_before_the_epoch_falls_in_the_window_that_contains_it() {
        let spec = WindowSpec::Tumble { size: 10, offset: 3 };
        assert_eq!(spec.pane_of(-1), -7);
        assert_eq!(spec.windows_of_pane(-7), vec![window(-7, 3)]);
        assert_eq!(spec.last_end(2), 3);
        assert_eq!(spec.last_end(3), 13);
    }

    #[test]
    fn starts_in_a_unit_are_those_of_the_panes() {
        let spec = WindowSpec::Tumble { size: 10_000, offset: 3000 };
        let times = [0, 2, 3, 12, 13, -1, -7, -8, 1000, 5];
        let (starts, size) = spec.tumbling_starts(&times, 1000).unwrap();
        assert_eq!(size, 10);
        let panes: Vec<i64> = times.iter().map(|time| spec.pane_of(time * 1000) / 1000).collect();
        assert_eq!(starts, panes);
        assert_eq!(spec.tumbling_starts(&[i64::MAX / 999], 1000), None);
        assert_eq!(spec.tumbling_starts(&[0], 1_000_000), None);
        assert_eq!(WindowSpec::Session { gap: 1 }.tumbling_starts(&[0], 1), None);
    }

    #[test]
    fn hop_windows_share_panes() {
        let spec = WindowSpec::Hop { size: 6, slide: 4, offset: 0 };
        assert_eq!(spec.pane_length(), 2);
        assert_eq!(spec.windows_of_pane(4), vec![window(0, 6), window(4, 10)]);
        assert_eq!(spec.windows_of_pane(2), vec![window(0, 6)]);
    }

    #[test]
    fn hop_with_gaps_has_rows_in_no_window() {
        let spec = WindowSpec::Hop { size: 2, slide: 5, offset: 0 };
        assert!(spec.covers(1));
        assert!(!spec.covers(3));
        assert_eq!(spec.windows_of_pane(spec.pane_of(3)), vec![]);
    }

    #[test]
    fn cumulate_windows_start_together() {
        let spec = WindowSpec::Cumulate { size: 6, step: 2, offset: 0 };
        assert_eq!(spec.windows_of_pane(2), vec![window(0, 4), window(0, 6)]);
        assert_eq!(spec.last_end(7), 12);
        assert!(WindowSpec::Cumulate { size: 5, step: 2, offset: 0 }.validate().is_err());
    }

    #[test]
    fn every_pane_of_a_window_names_that_window() {
        for spec in [
            WindowSpec::Hop { size: 9, slide: 6, offset: 1 },
            WindowSpec::Cumulate { size: 12, step: 3, offset: -2 },
            WindowSpec::Tumble { size: 7, offset: 0 },
        ] {
            for time in -50..50 {
                let windows = spec.windows_of_pane(spec.pane_of(time));
                assert!(windows.iter().all(|window| window.start <= time && time < window.end), "{spec:?} {time}");
                assert_eq!(windows.iter().map(|window| window.end).max(), Some(spec.last_end(time)), "{spec:?} {time}");
            }
            let times: Vec<i64> = (-50..50).chain([7, i64::MIN, i64::MAX, 0]).collect();
            assert_eq!(spec.panes_of(&times), times.iter().map(|time| spec.pane_of(*time)).collect::<Vec<_>>());
            assert_eq!(spec.last_ends(&times), times.iter().map(|time| spec.last_end(*time)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_first_open_window_is_the_first_one_that_ends_after() {
        for spec in [
            WindowSpec::Hop { size: 9, slide: 6, offset: 1 },
            WindowSpec::Hop { size: 2, slide: 5, offset: 0 },
            WindowSpec::Hop { size: 10, slide: 5, offset: 0 },
            WindowSpec::Cumulate { size: 12, step: 3, offset: -2 },
            WindowSpec::Tumble { size: 7, offset: 4 },
        ] {
            for (time, closed) in (-30..30).flat_map(|time| (-40..60).map(move |closed| (time, closed))) {
                let ends = spec.windows_of_pane(spec.pane_of(time)).into_iter().map(|window| window.end);
                let first = ends.filter(|end| *end > closed).min();
                assert_eq!(spec.first_end_after(time, closed), first, "{spec:?} {time} {closed}");
            }
        }
        assert_eq!(WindowSpec::Session { gap: 3 }.first_end_after(1, 0), None);
    }
}
