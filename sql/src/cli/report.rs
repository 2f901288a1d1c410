//! What a statement did, in one line for people or one JSON object for programs.
//!
//! Invariant: the cost is Athena's: $5 for 2^40 bytes, each query's bytes rounded up to a MB and at least 10 MB.

use std::{sync::atomic::AtomicU64, time::Duration};

use headwater_connectors::lake::stats::ScanStats;
use serde_json::json;

const MB: u64 = 1 << 20;
const CHARGED_MIN: u64 = 10 * MB;
const DOLLARS_PER_BYTE: f64 = 5.0 / (1_u64 << 40) as f64;

/// What a statement did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Report<'a> {
    /// The statement's text.
    pub(crate) statement: &'a str,
    /// Rows shown or written; none for a statement without any.
    pub(crate) rows: Option<u64>,
    /// The rows were written into a table or files.
    pub(crate) written: bool,
    /// Time on the clock.
    pub(crate) wall: Duration,
    /// Time on the processors.
    pub(crate) cpu: Duration,
    /// What was read.
    pub(crate) stats: &'a ScanStats,
}

impl Report<'_> {
    /// The line for people.
    pub(crate) fn line(&self) -> String {
        let get = |counter: &AtomicU64| ScanStats::get(counter);
        let stats = self.stats;
        let what = match (self.rows, self.written) {
            (None, _) => "done".to_owned(),
            (Some(rows), false) => counted(rows, "row"),
            (Some(rows), true) => format!("{} written", counted(rows, "row")),
        };
        let mut line = format!("{what} in {}", duration(self.wall));
        let (scanned, stored) = (get(&stats.bytes_scanned), get(&stats.bytes_stored));
        if scanned > 0 || get(&stats.files_total) > 0 {
            line += &format!("; scanned {} of {}", bytes(scanned), bytes(stored));
            line += &format!(", {} of {}", grouped(get(&stats.files_read)), counted(get(&stats.files_total), "file"));
            if get(&stats.partitions_total) > 0 {
                let total = counted(get(&stats.partitions_total), "partition");
                line += &format!(", {} of {total}", grouped(get(&stats.partitions_read)));
            }
            line += &format!("; Athena: ${:.6}", athena_dollars(scanned));
        }
        let notes = [
            (&stats.rows_rejected, "malformed row", " skipped"),
            (&stats.values_nulled, "value", " read as NULL"),
            (&stats.files_ignored, "file", " ignored"),
            (&stats.folders_unregistered, "folder", " not registered"),
        ];
        for (counter, noun, did) in notes {
            if get(counter) > 0 {
                line += &format!("; {}{did}", counted(get(counter), noun));
            }
        }
        line
    }

    /// The object for programs.
    pub(crate) fn json(&self) -> String {
        let get = |counter: &AtomicU64| ScanStats::get(counter);
        let seconds = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e6;
        let stats = self.stats;
        json!({
            "statement": self.statement,
            "rows": self.rows.unwrap_or(0),
            "wall_s": seconds(self.wall),
            "cpu_s": seconds(self.cpu),
            "bytes_scanned": get(&stats.bytes_scanned),
            "bytes_stored": get(&stats.bytes_stored),
            "files_read": get(&stats.files_read),
            "files_total": get(&stats.files_total),
            "partitions_read": get(&stats.partitions_read),
            "partitions_total": get(&stats.partitions_total),
            "rows_rejected": get(&stats.rows_rejected),
            "values_nulled": get(&stats.values_nulled),
            "files_ignored": get(&stats.files_ignored),
        })
        .to_string()
    }
}

/// What Athena would have charged for a query that scanned so much.
fn athena_dollars(scanned: u64) -> f64 {
    (scanned.div_ceil(MB) * MB).max(CHARGED_MIN) as f64 * DOLLARS_PER_BYTE
}

/// `1 row`, `2,000 rows`.
pub(crate) fn counted(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(n), if n == 1 { "" } else { "s" })
}

/// Digits in groups of three.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in the largest unit that leaves a whole part.
pub(crate) fn bytes(n: u64) -> String {
    let units = ["KB", "MB", "GB", "TB", "PB", "EB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", units[unit])
}

/// Time in a form short enough for the end of a line.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 0.9995 {
        format!("{:.0} ms", seconds * 1e3)
    } else if seconds < 60.0 {
        format!("{seconds:.2} s")
    } else {
        format!("{} min {:.0} s", time.as_secs() / 60, (time.as_secs() % 60) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats() -> ScanStats {
        let stats = ScanStats::default();
        ScanStats::add(&stats.bytes_scanned, 8 * MB + 1);
        ScanStats::add(&stats.bytes_stored, 44 * MB);
        ScanStats::add(&stats.files_read, 5);
        ScanStats::add(&stats.files_total, 21);
        ScanStats::add(&stats.partitions_read, 1);
        ScanStats::add(&stats.partitions_total, 3);
        stats
    }

    fn report(stats: &ScanStats) -> Report<'_> {
        let (wall, cpu) = (Duration::from_millis(412), Duration::from_millis(650));
        Report { statement: "SELECT 1", rows: Some(30), written: false, wall, cpu, stats }
    }

    #[test]
    fn the_line_says_rows_time_scan_and_cost() {
        assert_eq!(
            report(&stats()).line(),
            "30 rows in 412 ms; scanned 8.0 MB of 44.0 MB, 5 of 21 files, 1 of 3 partitions; Athena: $0.000048"
        );
        let stats = ScanStats::default();
        ScanStats::add(&stats.rows_rejected, 1);
        assert_eq!(report(&stats).line(), "30 rows in 412 ms; 1 malformed row skipped");
    }

    #[test]
    fn the_object_has_the_documented_keys() {
        let object: serde_json::Value = serde_json::from_str(&report(&stats()).json()).unwrap();
        let keys: Vec<&String> = object.as_object().unwrap().keys().collect();
        let documented = "statement, rows, wall_s, cpu_s, bytes_scanned, bytes_stored, files_read, files_total, \
            partitions_read, partitions_total, rows_rejected, values_nulled, files_ignored";
        assert_eq!(keys, documented.split(", ").collect::<Vec<_>>());
        assert_eq!(object["wall_s"], 0.412);
    }

    #[test]
    fn athena_rounds_up_to_a_megabyte_and_to_ten() {
        assert_eq!(athena_dollars(1), athena_dollars(10 * MB));
        assert!(athena_dollars(10 * MB + 1) > athena_dollars(10 * MB));
        assert_eq!(athena_dollars(10 * MB + 1), athena_dollars(11 * MB));
        assert_eq!(athena_dollars(1 << 40), 5.0);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 1023, 1024, 8_400_000, 1 << 50].map(bytes), ["0 B", "1023 B", "1.0 KB", "8.0 MB", "1.0 PB"]);
        assert_eq!(duration(Duration::from_secs(75)), "1 min 15 s");
        assert_eq!(duration(Duration::from_micros(999_600)), "1.00 s");
    }
}
