//! The end of a table whose files are its own.
//!
//! Invariant: only files below the table's folder are deleted, the records of its statements among them.

use std::collections::BTreeSet;

use headwater_engine::error::Result;

use super::transaction::Site;

/// Deletes every file below the folder of a site, and the folders that are then empty.
pub async fn discard(site: &Site) -> Result<()> {
    let files: Vec<String> = site.place.list_below(&site.root).await?.into_iter().map(|entry| entry.path).collect();
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
