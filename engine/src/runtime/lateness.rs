//! The one decision about lateness: for each row which of its windows it comes too late for.
//!
//! It is made against the watermark of the row's own split as it was just before the row, and for each window by itself:
//! what a row takes part in follows from the rows before it in its split, and from nothing else that is read.
//!
//! Invariant: a row takes part in exactly those of its windows whose end, the allowed lateness included, is after that
//! watermark.

use crate::{accounts::Tally, graph::Lateness, window::WindowSpec};

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It takes part in all its windows.
    Whole,
    /// It takes part in the windows that end at `from` or later, and has missed those that end up to `missed_until`.
    Part { from: i64, missed_until: i64 },
    /// It takes part in none: too late.
    Late,
    /// It takes part in none: it lies between two windows.
    Between,
}

/// What becomes of the rows of a branch.
#[derive(Debug, Default)]
pub(super) struct Decided {
    /// For window functions the end of each row's last window, the allowed lateness included.
    pub(super) ends: Vec<i64>,
    /// One a row, or `None` when all are whole.
    pub(super) fates: Option<Vec<Fate>>,
}

/// Decides for these rows, which are indexes into `times` and `before`.
pub(super) fn decide(lateness: &Lateness, times: &[i64], before: &[i64], rows: &[u32]) -> Decided {
    let place = |row: &u32| (times[*row as usize], before[*row as usize]);
    match *lateness {
        Lateness::Windows { windows, allowed } => {
            let of_rows: Vec<i64> = rows.iter().map(|row| times[*row as usize]).collect();
            let mut ends = windows.last_ends(&of_rows);
            ends.iter_mut().for_each(|end| *end = end.saturating_add(allowed));
            let slack = if matches!(windows, WindowSpec::Session { .. }) { 0 } else { allowed };
            // A row that is not behind its watermark is in time for every window, since each ends after it.
            let is_behind = |row: &u32| place(row).0.saturating_add(slack) < place(row).1;
            if !windows.has_gaps() && !rows.iter().any(is_behind) {
                return Decided { ends, fates: None };
            }
            let fate = |row| {
                let (time, before) = place(row);
                fate(windows, time, before, allowed)
            };
            let fates: Vec<Fate> = rows.iter().map(fate).collect();
            let all_whole = fates.iter().all(|fate| *fate == Fate::Whole);
            Decided { ends, fates: (!all_whole).then_some(fates) }
        }
        Lateness::EventTime => {
            let is_late = |row: &u32| place(row).0 < place(row).1;
            let fate = |row| if is_late(row) { Fate::Late } else { Fate::Whole };
            let fates = rows.iter().any(is_late).then(|| rows.iter().map(fate).collect());
            Decided { ends: Vec::new(), fates }
        }
        Lateness::Clock => Decided::default(),
    }
}

fn fate(windows: WindowSpec, time: i64, before: i64, allowed: i64) -> Fate {
    if let WindowSpec::Session { .. } = windows {
        return if time < before { Fate::Late } else { Fate::Whole };
    }
    if !windows.covers(time) {
        return Fate::Between;
    }
    let first = windows.first_end_after(time, i64::MIN);
    match windows.first_end_after(time, before.saturating_sub(allowed)) {
        None => Fate::Late,
        open if open == first => Fate::Whole,
        Some(from) => Fate::Part { from, missed_until: from.saturating_sub(windows.step()) },
    }
}

/// Accounts for rows that take part in none or not all of their windows, and names those that came too late.
pub(super) fn missed(fates: &[Fate], origin: &[u32], tally: &mut Tally) -> Vec<(u32, Option<i64>)> {
    let mut late = Vec::new();
    for (fate, row) in fates.iter().zip(origin) {
        match *fate {
            Fate::Whole => {}
            Fate::Part { missed_until, .. } => {
                tally.partly_late += 1;
                late.push((*row, Some(missed_until)));
            }
            Fate::Late => {
                tally.late += 1;
                late.push((*row, None));
            }
            Fate::Between => tally.filtered += 1,
        }
    }
    late
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOP: WindowSpec = WindowSpec::Hop { size: 10, slide: 5, offset: 0 };

    fn fates(windows: WindowSpec, allowed: i64, rows: &[(i64, i64)]) -> Option<Vec<Fate>> {
        let (times, before): (Vec<i64>, Vec<i64>) = rows.iter().copied().unzip();
        let all: Vec<u32> = (0..rows.len() as u32).collect();
        decide(&Lateness::Windows { windows, allowed }, &times, &before, &all).fates
    }

    #[test]
    fn rows_in_time_need_no_fates() {
        assert_eq!(fates(HOP, 0, &[(1, i64::MIN), (7, 7), (7, 9)]), None);
        assert_eq!(fates(HOP, 3, &[(7, 12)]), None);
    }

    #[test]
    fn a_row_misses_the_windows_that_have_ended() {
        let part = Fate::Part { from: 15, missed_until: 10 };
        assert_eq!(fates(HOP, 0, &[(7, 9), (7, 10), (7, 14), (7, 15)]).unwrap(), [Fate::Whole, part, part, Fate::Late]);
        assert_eq!(fates(HOP, 2, &[(7, 12), (7, 16), (7, 17)]).unwrap(), [part, part, Fate::Late]);
        let cumulate = WindowSpec::Cumulate { size: 9, step: 3, offset: 0 };
        let part = Fate::Part { from: 9, missed_until: 6 };
        assert_eq!(fates(cumulate, 0, &[(1, 6), (1, 9)]).unwrap(), [part, Fate::Late]);
    }

    #[test]
    fn a_row_between_two_windows_is_not_late() {
        let gaps = WindowSpec::Hop { size: 2, slide: 5, offset: 0 };
        assert_eq!(fates(gaps, 0, &[(3, 0), (3, 9), (1, 9)]).unwrap(), [Fate::Between, Fate::Between, Fate::Late]);
        assert_eq!(fates(gaps, 0, &[(1, 0), (6, 1)]), None);
    }
}
