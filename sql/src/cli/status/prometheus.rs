//! A job's numbers in the text form Prometheus reads.
//!
//! Invariant: a name ends in its unit, or in `_total` when it only grows while the process lives.

use std::fmt::Write;

use headwater_engine::{
    checkpoint::manifest::Manifest,
    inspect,
    time::{Instant, Watermark},
};

use super::JobView;

/// Metrics under way.
struct Page<'a> {
    text: String,
    job: &'a str,
    last: &'static str,
}

impl Page<'_> {
    /// Adds a value; samples of one name must follow each other.
    fn add(&mut self, (name, kind, help): (&'static str, &str, &str), labels: &[(&str, &str)], value: f64) {
        if self.last != name {
            let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            self.last = name;
        }
        let _ = write!(self.text, "{name}{{job=\"{}\"", escaped(self.job));
        for (label, value) in labels {
            let _ = write!(self.text, ",{label}=\"{}\"", escaped(value));
        }
        let _ = writeln!(self.text, "}} {value}");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// All metrics of a job now.
pub(super) fn text(watched: &JobView, now: Instant) -> String {
    let mut page = Page { text: String::new(), job: &watched.job, last: "" };
    live(&mut page, watched, now);
    if let Some(newest) = &*watched.newest.borrow() {
        checkpoint(&mut page, newest, now);
    }
    page.text
}

fn live(page: &mut Page<'_>, watched: &JobView, now: Instant) {
    let sample = watched.metrics.sample();
    page.add(("headwater_attempts_total", "counter", "Attempts of this process."), &[], sample.attempts as f64);
    let checkpoints = ("headwater_checkpoints_total", "counter", "Checkpoints committed by this process.");
    page.add(checkpoints, &[], sample.checkpoints as f64);
    let splits =
        || sample.tables.iter().flat_map(|(table, splits)| splits.iter().map(move |(id, split)| (table, id, split)));
    for (table, id, split) in splits() {
        let name = ("headwater_rows_read_total", "counter", "Rows read.");
        page.add(name, &[("table", table), ("split", &id.0)], split.rows as f64);
    }
    for (table, id, split) in splits() {
        let name = ("headwater_lag_records", "gauge", "Records of a split that wait.");
        if let Some(lag) = split.lag {
            page.add(name, &[("table", table), ("split", &id.0)], lag as f64);
        }
    }
    for (table, id, split) in splits() {
        let name = ("headwater_lag_seconds", "gauge", "How far reading is behind the end of a split.");
        if let Some(lag) = split.lag_ms {
            page.add(name, &[("table", table), ("split", &id.0)], lag as f64 / 1e3);
        }
    }
    for (table, id, split) in splits() {
        let name = ("headwater_watermark_delay_seconds", "gauge", "How far a split's watermark is behind the clock.");
        if split.watermark > Watermark::MIN && split.watermark < Watermark::MAX {
            let delay = now.micros().saturating_sub(split.watermark.0) as f64 / 1e6;
            page.add(name, &[("table", table), ("split", &id.0)], delay);
        }
    }
    for (sink, rows) in &sample.written {
        page.add(("headwater_rows_written_total", "counter", "Rows given to a sink."), &[("sink", sink)], *rows as f64);
    }
    for (node, bytes) in &sample.queued {
        page.add(
            ("headwater_queue_bytes", "gauge", "Bytes that wait in front of a node."),
            &[("node", node)],
            *bytes as f64,
        );
    }
    if let Some((used, limit)) = sample.memory {
        page.add(("headwater_memory_used_bytes", "gauge", "Bytes of the memory budget in use."), &[], used as f64);
        page.add(("headwater_memory_limit_bytes", "gauge", "The memory budget."), &[], limit as f64);
    }
}

fn checkpoint(page: &mut Page<'_>, newest: &Manifest, now: Instant) {
    let mut gauge = |name: (&'static str, &'static str), value: f64| page.add((name.0, "gauge", name.1), &[], value);
    gauge(("headwater_checkpoint_epoch", "The newest checkpoint."), newest.epoch.0 as f64);
    gauge(("headwater_checkpoint_age_seconds", "Time since then."), now.since(newest.at).as_secs_f64());
    let took = newest.at.since(newest.started).as_secs_f64();
    gauge(("headwater_checkpoint_duration_seconds", "Time from its barrier until all was prepared."), took);
    gauge(("headwater_checkpoint_bytes", "Bytes of state and outbox it names."), newest.state_bytes() as f64);
    let ledger = inspect::ledger(newest);
    for row in &ledger {
        let tally = &row.tally;
        let fates = [
            ("read", tally.read),
            ("rejected", tally.rejected),
            ("filtered", tally.filtered),
            ("late", tally.late),
            ("held", tally.held_rows()),
            ("released", tally.released),
            ("partly_late", tally.partly_late),
        ];
        for (fate, rows) in fates {
            let split = row.split.as_deref().unwrap_or_default();
            let labels = [("insert", row.insert.as_str()), ("table", &row.table), ("split", split), ("fate", fate)];
            page.add(("headwater_ledger_rows", "gauge", "Rows of the ledger."), &labels, rows as f64);
        }
    }
    for (name, rows) in &newest.traffic {
        let ways = [("in", rows.rows_in), ("out", rows.rows_out), ("dropped", rows.dropped)];
        for (way, rows) in ways {
            let metric =
                ("headwater_operator_rows", "gauge", "Rows that came into an operator, went out, were left out.");
            page.add(metric, &[("operator", name), ("way", way)], rows as f64);
        }
    }
    let observed = || newest.operators.iter().map(|(name, state)| (name.as_str(), &state.observed));
    for (name, state) in observed() {
        let metric = ("headwater_state_rows", "gauge", "Groups, keys or rows an operator keeps.");
        page.add(metric, &[("operator", name)], state.state_rows as f64);
    }
    for (name, state) in observed() {
        let metric = ("headwater_state_bytes", "gauge", "Bytes of state in memory.");
        page.add(metric, &[("operator", name)], state.state_bytes as f64);
    }
    for (name, state) in observed() {
        let metric = ("headwater_spilled_bytes", "gauge", "Bytes of state on local disk.");
        page.add(metric, &[("operator", name)], state.spilled_bytes as f64);
    }
    for (name, state) in observed() {
        let metric = ("headwater_open_windows", "gauge", "Windows that have not fired.");
        page.add(metric, &[("operator", name)], state.open_windows as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_explained_once_and_labels_are_escaped() {
        let mut page = Page { text: String::new(), job: "a\"b", last: "" };
        page.add(("x_total", "counter", "X."), &[("split", "p-0")], 1.0);
        page.add(("x_total", "counter", "X."), &[], 2.5);
        let expected = "# HELP x_total X.\n# TYPE x_total counter\nx_total{job=\"a\\\"b\",split=\"p-0\"} 1\n\
                        x_total{job=\"a\\\"b\"} 2.5\n";
        assert_eq!(page.text, expected);
    }
}
