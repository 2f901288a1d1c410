//! The table of crashes, walked: a statement is cut at every operation, and so is the recovery of what it left; and
//! every interleaving of a reader with a writer's operations sees the old or the new state.

mod claims;
mod dropped;
mod faults;
mod given_up;
mod readers;
mod table;
mod undone;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use headwater_engine::{
    catalog::{Partition, TableName},
    error::Result,
    time::{Clock, Instant, SystemClock},
};
use object_store::memory::InMemory;
use parking_lot::Mutex;

use super::{
    Effect, LEASE_MS, Partitions, Place, Registrar, StatementKind, Transaction,
    owner::Owner,
    place::{LocalPlace, ObjectPlace, Uploads},
    transaction::{self, Site},
};

/// The machine's clock some time ahead, so that every heartbeat of before is older than the lease.
#[derive(Debug)]
struct Later;

impl Clock for Later {
    fn now(&self) -> Instant {
        Instant(SystemClock.now().0 + LEASE_MS + 60_000)
    }
}

#[derive(Debug, Default)]
struct Catalog(Mutex<Vec<Partition>>, Option<&'static str>);

#[async_trait]
impl Registrar for Catalog {
    async fn register(&self, effect: &Effect) -> Result<()> {
        let mut registered = self.0.lock();
        for partition in effect.partitions.iter().flat_map(|partitions| &partitions.added) {
            if !registered.contains(partition) {
                registered.push(partition.clone());
            }
        }
        Ok(())
    }

    async fn catalog(&self) -> Result<Option<String>> {
        Ok(self.1.map(str::to_owned))
    }
}

fn site(place: Arc<dyn Place>, registrar: Arc<dyn Registrar>, root: &str, clock: Arc<dyn Clock>) -> Site {
    let owner = Owner { machine: String::new(), pid: 1, started: 0 };
    Site { place, root: root.to_owned(), registrar, clock, owner }
}

const OLD: [(&str, &str); 3] = [("p=1/old.json", "1"), ("p=2/old.json", "22"), ("p=3/old.json", "333")];
/// New files, the last one longer than a part of an upload.
const NEW: [(&str, &str); 3] =
    [("p=1", "new one"), ("p=4", "new four"), ("p=4", "0123456789012345678901234567890123456789")];
/// Part size of uploads in memory, so that the last new file is one.
const PART: usize = 16;

async fn write_old(place: &dyn Place, root: &str) {
    for (name, text) in OLD {
        place.renew(&format!("{root}/{name}"), Bytes::from_static(text.as_bytes())).await.unwrap();
    }
}

/// A whole statement, as the writers run it: an append, or a replacement of the partitions it writes.
async fn write_statement(site: Site, kind: StatementKind) -> Result<()> {
    let root = site.root.clone();
    let transaction = Transaction::begin(site, kind).await?;
    let staged = stage_all(&transaction, &root).await;
    let files = match staged {
        Ok(files) => files,
        Err(error) => {
            transaction.roll_back().await?;
            return Err(error);
        }
    };
    let added =
        Partition { values: vec![Some("4".into())], location: None, columns: None, properties: Default::default() };
    let partitions = Some(Partitions { table: TableName::new("d", "t"), added: vec![added] });
    let mut effect = Effect { files, partitions, rows: 3, ..Effect::default() };
    if kind == StatementKind::Append {
        return transaction.commit(effect).await.map(drop);
    }
    let folders = [format!("{root}/p=1"), format!("{root}/p=4")];
    let replace = async |site: &Site| {
        let replaced = transaction::visible_files(site, &folders).await?;
        effect.replaces = replaced.into_iter().map(|entry| entry.path).collect();
        Ok(effect)
    };
    transaction.commit_exclusive(replace).await.map(drop)
}

async fn stage_all(transaction: &Transaction, root: &str) -> Result<Vec<super::StagedFile>> {
    let mut files = Vec::new();
    for (folder, text) in NEW {
        let mut writer = transaction.stage(&format!("{root}/{folder}"), "json").await?;
        let (first, second) = text.split_at(text.len() / 2);
        writer.write(Bytes::from_static(first.as_bytes())).await?;
        writer.write(Bytes::from_static(second.as_bytes())).await?;
        files.push(writer.finish().await?);
    }
    Ok(files)
}

/// Folder and text of each file, sorted: what a table holds, whatever its files are called.
type Content = Vec<(String, String)>;

fn folder_of(path: &str) -> String {
    path.split('/').rev().nth(1).unwrap_or_default().to_owned()
}

fn old_content() -> Content {
    let mut content: Content = OLD.iter().map(|(name, text)| (name[..3].to_owned(), (*text).to_owned())).collect();
    content.sort();
    content
}

fn new_content(kind: StatementKind) -> Content {
    let kept = |(folder, _): &(String, String)| kind == StatementKind::Append || folder != "p=1";
    let mut content: Content = old_content().into_iter().filter(kept).collect();
    content.extend(NEW.iter().map(|(folder, text)| ((*folder).to_owned(), (*text).to_owned())));
    content.sort();
    content
}

async fn read_all(place: &dyn Place, paths: impl IntoIterator<Item = String>) -> Content {
    let mut content = Content::new();
    for path in paths {
        let bytes = place.read(&path).await.unwrap().unwrap();
        content.push((folder_of(&path), String::from_utf8(bytes.to_vec()).unwrap()));
    }
    content.sort();
    content
}

/// What our readers see.
async fn ours(site: &Site) -> Content {
    let files = transaction::visible_files(site, std::slice::from_ref(&site.root)).await.unwrap();
    read_all(&*site.place, files.into_iter().map(|entry| entry.path)).await
}

/// What any engine that skips `_` and `.` sees.
async fn theirs(site: &Site) -> Content {
    let files = site.place.list_below(&site.root).await.unwrap();
    let below = site.root.len();
    let is_data = |path: &String| !path[below..].contains("/_") && !path[below..].contains("/.");
    read_all(&*site.place, files.into_iter().map(|entry| entry.path).filter(is_data)).await
}

/// Names under `_headwater/` that are not the records kept for a while.
async fn leftovers(site: &Site) -> Vec<String> {
    let all = site.place.list_below(&format!("{}/_headwater", site.root)).await.unwrap();
    let is_kept = |path: &String| path.ends_with(".decision") || path.ends_with(".done") || path.contains("/claims/");
    all.into_iter().map(|entry| entry.path).filter(|path| !is_kept(path)).collect()
}

async fn is_committed(site: &Site) -> bool {
    for entry in site.place.list(&format!("{}/_headwater", site.root)).await.unwrap() {
        if entry.path.ends_with(".decision") {
            let text = site.place.read(&entry.path).await.unwrap().unwrap();
            return String::from_utf8_lossy(&text).contains("\"commit\"");
        }
    }
    false
}

fn in_memory(store: InMemory) -> ObjectPlace {
    let store = Arc::new(store);
    ObjectPlace::new(store.clone(), Some(Uploads(store))).with_part_bytes(PART)
}

/// A folder of its own on the real file system, and its path as the store spells it.
fn on_disk() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("t").to_string_lossy().trim_start_matches('/').to_owned();
    (folder, root)
}

fn counts(items: &Content) -> BTreeMap<&(String, String), usize> {
    items.iter().fold(BTreeMap::new(), |mut counts, item| {
        *counts.entry(item).or_default() += 1;
        counts
    })
}

/// Whether every file of `part` is one of `whole`.
fn is_within(part: &Content, whole: &Content) -> bool {
    let whole = counts(whole);
    counts(part).iter().all(|(item, count)| whole.get(item).is_some_and(|has| has >= count))
}
