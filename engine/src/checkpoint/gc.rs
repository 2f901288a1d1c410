//! Retention: which manifests are kept, and which files nobody needs any more.
//!
//! Invariant: a file is deleted only if no kept manifest and no savepoint names it, and either a dropped manifest named
//! it and its generation is not above ours, or its generation is older than ours. Everything is decided on a log that
//! was read after the decision to collect.

use std::collections::BTreeSet;

use crate::{
    checkpoint::{
        log::Log,
        manifest::{LogEntry, Manifest},
        paths::{DataFolder, number_of, writer_of},
        protocol::LogView,
    },
    error::Result,
    message::{Epoch, Generation},
};

/// What one collection deletes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Garbage {
    /// Log entries.
    pub entries: Vec<u64>,
    /// Data files.
    pub files: Vec<String>,
    /// Commit markers.
    pub markers: Vec<Epoch>,
}

/// Decides what goes: the newest `keep` manifests stay, and what savepoints name.
pub fn decide(log: &LogView, savepoints: &[Manifest], listed: &[String], keep: usize, us: Generation) -> Garbage {
    let numbers: Vec<u64> = log
        .entries
        .iter()
        .filter(|(_, entry)| matches!(entry, LogEntry::Manifest(_)))
        .map(|(number, _)| *number)
        .collect();
    let Some(oldest_kept) = numbers.len().checked_sub(keep.max(1)).and_then(|index| numbers.get(index)).copied() else {
        return Garbage::default();
    };
    let current = log.current().map(|manifest| manifest.epoch);
    let is_kept = |number: u64, entry: &LogEntry| match entry {
        LogEntry::Manifest(manifest) => number >= oldest_kept || Some(manifest.epoch) == current,
        LogEntry::Claim(claim) => number >= oldest_kept || claim.generation == log.generation(),
    };
    let kept = log.entries.iter().filter(|(number, entry)| is_kept(*number, entry));
    let kept_manifests: Vec<&Manifest> = kept
        .filter_map(|(_, entry)| match entry {
            LogEntry::Manifest(manifest) => Some(&**manifest),
            LogEntry::Claim(_) => None,
        })
        .chain(savepoints)
        .collect();
    let needed: BTreeSet<&str> = kept_manifests.iter().flat_map(|manifest| manifest.files()).collect();
    let dropped = || log.entries.iter().filter(|(number, entry)| !is_kept(*number, entry));
    let was_named: BTreeSet<&str> = dropped()
        .filter_map(|(_, entry)| match entry {
            LogEntry::Manifest(manifest) => Some(manifest.files()),
            LogEntry::Claim(_) => None,
        })
        .flatten()
        .collect();
    let may_go = |path: &str| match writer_of(path) {
        Some((generation, _)) if was_named.contains(path) => generation <= us,
        Some((generation, _)) => generation < us,
        None => false,
    };
    let files = listed.iter().filter(|path| !needed.contains(path.as_str()) && may_go(path)).cloned().collect();
    let oldest_epoch = kept_manifests.iter().map(|manifest| manifest.epoch).min().unwrap_or_default();
    Garbage {
        entries: dropped().map(|(number, _)| *number).collect(),
        files,
        markers: log.committed.iter().copied().filter(|epoch| *epoch < oldest_epoch).collect(),
    }
}

/// Collects: log entries first, so that nobody starts from a manifest whose files go.
pub async fn collect(log: &Log, keep: usize, us: Generation) -> Result<Garbage> {
    let store = log.store();
    let mut listed = Vec::new();
    for folder in DataFolder::ALL {
        listed.extend(store.list(&log.paths().data_folder(folder)).await?);
    }
    let view = log.read().await?;
    if crate::checkpoint::protocol::is_fenced(us, &view) {
        return Ok(Garbage::default());
    }
    // Which entries go does not depend on savepoints. They are read after that, so that of a checkpoint which is named
    // meanwhile either the entry is gone or the savepoint is seen.
    for number in decide(&view, &[], &listed, keep, us).entries {
        store.delete(&log.paths().log_entry(number)).await?;
    }
    let savepoints: Vec<Manifest> = log.savepoints().await?.into_iter().map(|(_, manifest)| manifest).collect();
    let garbage = decide(&view, &savepoints, &listed, keep, us);
    for path in &garbage.files {
        store.delete(path).await?;
    }
    for epoch in &garbage.markers {
        store.delete(&log.paths().commit(*epoch)).await?;
    }
    debug_assert!(garbage.files.iter().all(|path| number_of(path).is_none()));
    Ok(garbage)
}
