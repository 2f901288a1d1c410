//! The files that a reader of ours sees, for statements that look before they write.
//!
//! Invariant: the same rules as for every other reader ([`resolve`]).

use headwater_engine::error::{Error, Result};

use super::{
    LISTINGS_MAX, Records, Resolved,
    place::Entry,
    record::{self, RecordKind},
    resolve,
    transaction::Site,
};

/// The files of a folder that a reader of ours sees now, `list` giving all files below it.
pub async fn visible_files(site: &Site, folders: &[String]) -> Result<Vec<Entry>> {
    let mut before = read_records(site).await?;
    for _ in 0..LISTINGS_MAX {
        let mut files = Vec::new();
        for folder in folders {
            files.extend(site.place.list_below(folder).await?);
        }
        let after = read_records(site).await?;
        match resolve(files, &before, &after, |file: &Entry| &file.path) {
            Resolved::Files(files) => {
                let is_data = |file: &Entry| !is_hidden(&file.path, &site.root);
                return Ok(files.into_iter().filter(is_data).collect());
            }
            Resolved::ListAgain => before = after,
        }
    }
    Err(Error::unavailable(format!("\"{}\" was replaced while it was listed, again and again", site.root)))
}

/// Whether a name below the root starts with `_` or `.`.
fn is_hidden(path: &str, root: &str) -> bool {
    let below = path.strip_prefix(root).unwrap_or(path);
    below.split('/').any(|name| name.starts_with(['_', '.']))
}

async fn read_records(site: &Site) -> Result<Records> {
    let mut records = Records::default();
    for entry in site.place.list(&record::folder(&site.root)).await? {
        records.add(&entry.path);
    }
    for id in records.still_deleting() {
        let path = record::path(&site.root, id, RecordKind::Decision);
        if let Some(bytes) = site.place.read(&path).await? {
            records.add_replaced(record::decode(&path, &bytes)?);
        }
    }
    Ok(records)
}
