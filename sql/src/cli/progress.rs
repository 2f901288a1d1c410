//! One line on the terminal while a statement takes long: files, rows, bytes and their rate.
//!
//! Invariant: nothing is written unless standard error is a terminal, and the line is gone before rows are shown.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use headwater_connectors::lake::stats::ScanStats;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;

use super::report;

/// A statement that is done by then shows no line.
const QUIET: Duration = Duration::from_millis(500);
/// Time between two states of the line.
const TICK: Duration = Duration::from_millis(100);

/// The line; dropping it removes it.
#[derive(Debug)]
pub(crate) struct Progress {
    task: JoinHandle<()>,
    bar: ProgressBar,
}

impl Progress {
    /// Shows the counters from now on, after a moment.
    pub(crate) fn start(stats: Arc<ScanStats>) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        let (shown, started) = (bar.clone(), Instant::now());
        let task = tokio::spawn(async move {
            tokio::time::sleep(QUIET).await;
            shown.set_draw_target(ProgressDrawTarget::stderr());
            loop {
                shown.set_message(message(&stats, started.elapsed()));
                shown.tick();
                tokio::time::sleep(TICK).await;
            }
        });
        Self { task, bar }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.task.abort();
        self.bar.finish_and_clear();
    }
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
