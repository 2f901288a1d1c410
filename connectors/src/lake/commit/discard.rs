//! The end of a table whose files are its own.
//!
//! Invariant: only files below the table's folder are deleted, the records of its statements among them; a statement that
//! is under way publishes nothing afterwards.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use headwater_engine::error::{Error, ErrorKind, Result};

use super::{
    claim::{CLAIM_POLL_MS, DECIDED_WAIT_MS},
    protocol::Step,
    record::{self, Decision, RecordKind},
    recovery::{apply_all, create_or_read, recover},
    statement::StatementId,
    transaction::Site,
    visible::Records,
};

/// Deletes every file below the folder of a site, and the folders that are then empty. The catalog has the table no longer,
/// so that a statement which begins now refuses itself.
pub async fn discard(site: &Site) -> Result<()> {
    let aborted = end_statements(site).await?;
    let is_needed = |path: &str| {
        let record = record::parse_path(path);
        record.is_some_and(|(id, kind)| kind == RecordKind::Decision && aborted.contains(&id))
    };
    let below = site.place.list_below(&site.root).await?.into_iter().map(|entry| entry.path);
    let files: Vec<String> = below.filter(|path| !is_needed(path)).collect();
    site.place.delete(&files).await?;
    let mut folders = BTreeSet::new();
    for file in &files {
        let mut folder = file.as_str();
        while let Some((parent, _)) = folder.rsplit_once('/') {
            if parent.len() <= site.root.len() || !folders.insert(parent.to_owned()) {
                break;
            }
            folder = parent;
        }
    }
    let mut innermost_first: Vec<String> = folders.into_iter().collect();
    innermost_first.sort_by_key(|folder| std::cmp::Reverse(folder.matches('/').count()));
    site.place.delete_empty_folders(&site.root, &innermost_first).await
}

/// Aborts the statements under way, or waits for those that are decided. The aborts stay for their owners, who delete them.
async fn end_statements(site: &Site) -> Result<HashSet<StatementId>> {
    let (mut aborted, mut waited_ms) = (HashSet::new(), 0);
    loop {
        let mut records = Records::default();
        for entry in site.place.list(&record::folder(&site.root)).await? {
            records.add(&entry.path);
        }
        let mut decided = None;
        for id in records.unfinished() {
            if aborted.contains(&id) {
                continue;
            }
            let abort = Decision::Abort { reason: "its table was dropped".to_owned() };
            let path = record::path(&site.root, id, RecordKind::Decision);
            let found = create_or_read(&*site.place, &path, record::encode(&abort)?).await?;
            match record::decode(&path, &found)? {
                Decision::Commit(_) => decided = Some(id),
                Decision::Abort { .. } => {
                    apply_all(site, id, Step::RollBack, None).await?;
                    aborted.insert(id);
                }
            }
        }
        let Some(decided) = decided else { return Ok(aborted) };
        if waited_ms >= DECIDED_WAIT_MS {
            let message = format!("a statement on \"{}\" is committed and not finished: {decided}", site.root);
            return Err(Error::new(ErrorKind::Conflict, "TRANSACTION_CONFLICT", message)
                .with_hint("its files are still moved into place: delete the folder when it has ended"));
        }
        recover(site).await?;
        tokio::time::sleep(Duration::from_millis(CLAIM_POLL_MS)).await;
        waited_ms += CLAIM_POLL_MS;
    }
}
