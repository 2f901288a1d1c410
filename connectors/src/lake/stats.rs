//! What a statement read: counters that every reader of one statement shares and the scan line shows.
//!
//! Invariant: `bytes_scanned` counts every byte fetched, footers and listings included.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

/// Counters of one statement; cheap to add to from any task.
#[derive(Debug, Default)]
pub struct ScanStats {
    /// Bytes fetched, footers and listings too.
    pub bytes_scanned: AtomicU64,
    /// Size of all files of the tables named, those of partitions that were not needed too: exact on local disks, and
    /// elsewhere as far as this process has seen them (see [`of_excluded`](super::listing::of_excluded)).
    pub bytes_stored: AtomicU64,
    /// Files opened.
    pub files_read: AtomicU64,
    /// Files of the tables named, as far as `bytes_stored` knows them.
    pub files_total: AtomicU64,
    /// Partitions with a file opened.
    pub partitions_read: AtomicU64,
    /// Partitions of the tables named.
    pub partitions_total: AtomicU64,
    /// Rows decoded.
    pub rows_read: AtomicU64,
    /// Rows refused by the decoder and skipped.
    pub rows_rejected: AtomicU64,
    /// Values that became NULL because their text did not fit the type.
    pub values_nulled: AtomicU64,
    /// Files found that do not follow the layout.
    pub files_ignored: AtomicU64,
    /// Folders found that are not registered as partitions.
    pub folders_unregistered: AtomicU64,
    /// Whether a statement that writes is being decided, or has happened and is being finished: it is then not to be cut
    /// short.
    pub committing: AtomicBool,
    warnings: Mutex<Vec<String>>,
}

/// What was counted up to a moment.
#[derive(Debug)]
pub struct SoFar {
    counters: [u64; 11],
    warnings: Vec<String>,
}

/// Warnings kept for one statement; later ones are only counted.
const WARNINGS_MAX: usize = 100;

impl ScanStats {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Relaxed);
    }

    /// Reads a counter.
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Relaxed)
    }

    fn counters(&self) -> [&AtomicU64; 11] {
        [
            &self.bytes_scanned,
            &self.bytes_stored,
            &self.files_read,
            &self.files_total,
            &self.partitions_read,
            &self.partitions_total,
            &self.rows_read,
            &self.rows_rejected,
            &self.values_nulled,
            &self.files_ignored,
            &self.folders_unregistered,
        ]
    }

    /// What is counted so far, before what may begin again: it goes back to this.
    pub fn so_far(&self) -> SoFar {
        SoFar { counters: self.counters().map(Self::get), warnings: self.warnings() }
    }

    /// Goes back to what was counted of tables and rows before what begins again; the bytes were fetched.
    pub fn begin_again(&self, before: &SoFar) {
        let [_, of_tables @ ..] = self.counters();
        of_tables.into_iter().zip(&before.counters[1..]).for_each(|(counter, n)| counter.store(*n, Relaxed));
        self.warnings.lock().clone_from(&before.warnings);
    }

    /// Keeps a warning for the end of the statement; at most the first hundred.
    pub fn warn(&self, message: impl Into<String>) {
        let mut warnings = self.warnings.lock();
        if warnings.len() < WARNINGS_MAX {
            warnings.push(message.into());
        }
    }

    /// The warnings so far.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().clone()
    }
}
