//! One line on the terminal while a statement takes long: files, rows, bytes and their rate.
//!
//! Invariant: nothing is written unless standard error is a terminal, and a line that was cleared does not come back.

use std::{
    io::{self, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use headwater_connectors::lake::stats::ScanStats;
use parking_lot::Mutex;

use super::{aside::CLEAR, report};

/// A statement that is done by then shows no line.
const QUIET: Duration = Duration::from_millis(500);
/// What turns while the line lives.
const SPINNER: &[char] = &['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

/// The line of one statement; clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    counters: Arc<ScanStats>,
    started: Instant,
    line: Arc<Mutex<Line>>,
}

/// What is on the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Nothing so far.
    Waiting,
    /// The line, drawn so many times.
    Shown(usize),
    /// Nothing, and nothing will be.
    Gone,
}

impl Progress {
    /// A line that shows these counters, if it is wanted at all.
    pub(crate) fn new(counters: Arc<ScanStats>, wanted: bool) -> Self {
        let line = if wanted { Line::Waiting } else { Line::Gone };
        Self { counters, started: Instant::now(), line: Arc::new(Mutex::new(line)) }
    }

    /// Whether the statement is being committed.
    pub(crate) fn is_committing(&self) -> bool {
        self.counters.committing.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Shows the counters as they are now.
    pub(crate) fn tick(&self) {
        let elapsed = self.started.elapsed();
        let mut line = self.line.lock();
        let drawn = match *line {
            Line::Gone => return,
            Line::Waiting if elapsed < QUIET => return,
            Line::Waiting => 0,
            Line::Shown(drawn) => drawn,
        };
        write(&format!("{CLEAR}{} {}", SPINNER[drawn % SPINNER.len()], message(&self.counters, elapsed)));
        *line = Line::Shown(drawn + 1);
    }

    /// Takes the line away for good.
    pub(crate) fn clear(&self) {
        let mut line = self.line.lock();
        if matches!(*line, Line::Shown(_)) {
            write(CLEAR);
        }
        *line = Line::Gone;
    }
}

/// A terminal that does not take the line does without.
fn write(text: &str) {
    let mut terminal = io::stderr().lock();
    let _ = terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush());
}

fn message(stats: &ScanStats, elapsed: Duration) -> String {
    let (read, total) = (ScanStats::get(&stats.files_read), ScanStats::get(&stats.files_total));
    let (rows, scanned) = (ScanStats::get(&stats.rows_read), ScanStats::get(&stats.bytes_scanned));
    let rate = (scanned as f64 / elapsed.as_secs_f64().max(0.001)) as u64;
    let mut parts = vec![report::duration(elapsed)];
    if total > 0 {
        parts.push(format!("{read} of {}", report::counted(total, "file")));
    }
    if scanned > 0 {
        parts.push(report::counted(rows, "row"));
        parts.push(format!("{} ({}/s)", report::bytes(scanned), report::bytes(rate)));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_files_rows_bytes_and_rate() {
        let stats = ScanStats::default();
        assert_eq!(message(&stats, Duration::from_secs(2)), "2.00 s");
        ScanStats::add(&stats.files_total, 20);
        ScanStats::add(&stats.files_read, 4);
        ScanStats::add(&stats.rows_read, 1_500);
        ScanStats::add(&stats.bytes_scanned, 4 << 20);
        assert_eq!(message(&stats, Duration::from_secs(2)), "2.00 s, 4 of 20 files, 1,500 rows, 4.0 MB (2.0 MB/s)");
    }
}
