//! Where each file of a job lies. Numbers are padded so that names sort as numbers do.
//!
//! Invariant: every name under `state`, `outbox` and `accounts` starts with the generation and epoch that wrote it.

use crate::message::{Epoch, Generation};

/// The folders of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    root: String,
}

impl Paths {
    /// The folders of the job of this name.
    pub fn new(job: &str) -> Self {
        Self { root: format!("{job}/") }
    }

    /// The job's folder, with a slash.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Folder of the log.
    pub fn log(&self) -> String {
        format!("{}log/", self.root)
    }

    /// An entry of the log.
    pub fn log_entry(&self, number: u64) -> String {
        format!("{}log/{number:020}", self.root)
    }

    /// Folder of the commit markers.
    pub fn commits(&self) -> String {
        format!("{}commits/", self.root)
    }

    /// The commit marker of an epoch.
    pub fn commit(&self, epoch: Epoch) -> String {
        format!("{}commits/{:020}", self.root, epoch.0)
    }

    /// The request that the attempt of this generation stops.
    pub fn stop(&self, generation: Generation) -> String {
        format!("{}stop/{:020}", self.root, generation.0)
    }

    /// A savepoint.
    pub fn savepoint(&self, name: &str) -> String {
        format!("{}savepoints/{name}", self.root)
    }

    /// Folder of the savepoints.
    pub fn savepoints(&self) -> String {
        format!("{}savepoints/", self.root)
    }

    /// A data file: `folder` is `state`, `outbox` or `accounts`.
    pub fn data(&self, folder: DataFolder, generation: Generation, epoch: Epoch, rest: &str) -> String {
        let safe: String = rest
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' })
            .collect();
        format!("{}{}/{:010}-{:012}-{safe}", self.root, folder.name(), generation.0, epoch.0)
    }

    /// A folder of data files.
    pub fn data_folder(&self, folder: DataFolder) -> String {
        format!("{}{}/", self.root, folder.name())
    }
}

/// Folders whose files manifests name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataFolder {
    /// Operator state.
    State,
    /// Rows awaiting their commit.
    Outbox,
    /// Rejected and late rows.
    Accounts,
}

impl DataFolder {
    /// All of them.
    pub const ALL: [DataFolder; 3] = [DataFolder::State, DataFolder::Outbox, DataFolder::Accounts];

    fn name(self) -> &'static str {
        match self {
            DataFolder::State => "state",
            DataFolder::Outbox => "outbox",
            DataFolder::Accounts => "accounts",
        }
    }
}

/// The number at the end of a log entry's or marker's path.
pub fn number_of(path: &str) -> Option<u64> {
    path.rsplit('/').next()?.parse().ok()
}

/// The generation and epoch that wrote a data file.
pub fn writer_of(path: &str) -> Option<(Generation, Epoch)> {
    let mut parts = path.rsplit('/').next()?.splitn(3, '-');
    let generation = parts.next()?.parse().ok()?;
    let epoch = parts.next()?.parse().ok()?;
    Some((Generation(generation), Epoch(epoch)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_their_numbers_and_read_back() {
        let paths = Paths::new("counts");
        assert!(paths.log_entry(9) < paths.log_entry(10));
        assert_eq!(number_of(&paths.log_entry(10)), Some(10));
        let path = paths.data(DataFolder::State, Generation(3), Epoch(12), "counts/agg 1-0");
        assert_eq!(path, "counts/state/0000000003-000000000012-counts_agg_1-0");
        assert_eq!(writer_of(&path), Some((Generation(3), Epoch(12))));
    }
}
