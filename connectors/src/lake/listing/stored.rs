//! What is stored in folders that a query's filters exclude: for "scanned x of y", not for reading.
//!
//! Invariant: nothing is requested over a network for this, and nothing fails by it. A local folder is looked through, up
//! to `FILES_MAX` files, where it may be; a remote one counts with what an earlier statement of this process found there,
//! else with nothing. So the total is exact for local tables of usual size, and a lower bound otherwise.

use std::{
    collections::{BTreeMap, HashSet},
    ops::AddAssign,
};

use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use parking_lot::Mutex;

use super::{LISTINGS_AT_ONCE, Listing, is_data};
use crate::lake::{counting::ListingCost, stores::Place};

/// Files of excluded local folders that are looked at for one scan.
const FILES_MAX: u64 = 100_000;
/// Remote folders remembered; past it memory starts again.
const FOLDERS_MAX: usize = 100_000;

/// A folder that the filters exclude.
#[derive(Debug, Clone)]
pub struct Excluded {
    /// Where it is.
    pub place: Place,
    /// Levels of partition keys below it.
    pub levels: usize,
}

/// An amount of files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stored {
    /// Partitions that were not counted yet.
    pub partitions: u64,
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl AddAssign for Stored {
    fn add_assign(&mut self, other: Self) {
        self.partitions += other.partitions;
        self.files += other.files;
        self.bytes += other.bytes;
    }
}

/// What earlier statements found in remote folders of partitions.
#[derive(Debug, Default)]
pub struct KnownFolders(Mutex<BTreeMap<String, Stored>>);

impl KnownFolders {
    /// Remembers the partitions of a listing.
    pub fn remember(&self, listing: &Listing) {
        let mut known = self.0.lock();
        for (partition, stored) in listing.partitions.iter().zip(&listing.stored) {
            if partition.place.listing == ListingCost::Free {
                continue;
            }
            if known.len() >= FOLDERS_MAX {
                known.clear();
            }
            known.insert(key(&partition.place), Stored { partitions: 1, ..*stored });
        }
    }

    /// The partitions known below a place: the names of the folders down to each, in order, and what is in it.
    pub(super) fn partitions(&self, place: &Place) -> Vec<(Vec<String>, Stored)> {
        let prefix = key(place);
        let known = self.0.lock();
        let below = known.range(prefix.clone()..).take_while(|(folder, _)| folder.starts_with(&prefix));
        let parts = |folder: &str| folder[prefix.len()..].split_terminator('/').map(ToOwned::to_owned).collect();
        below.map(|(folder, stored)| (parts(folder), *stored)).collect()
    }

    fn below(&self, excluded: &Excluded) -> Stored {
        let prefix = key(&excluded.place);
        let known = self.0.lock();
        let mut total = Stored::default();
        for (_, stored) in known.range(prefix.clone()..).take_while(|(folder, _)| folder.starts_with(&prefix)) {
            total += *stored;
        }
        if excluded.levels == 0 {
            total.partitions = 0;
        }
        total
    }
}

fn key(place: &Place) -> String {
    format!("{place}/")
}

/// What is in the folders that a listing left out.
pub async fn of_excluded(excluded: &[Excluded], known: &KnownFolders) -> Stored {
    let mut total = Stored::default();
    let mut local = Vec::new();
    for folder in excluded {
        match folder.place.listing {
            ListingCost::Free => local.push(folder.clone()),
            ListingCost::PerObject => total += known.below(folder),
        }
    }
    let mut found = stream::iter(local).map(look_through).buffer_unordered(LISTINGS_AT_ONCE);
    while let Some(stored) = found.next().await {
        total += stored;
        if total.files >= FILES_MAX {
            break;
        }
    }
    total
}

async fn look_through(folder: Excluded) -> Stored {
    let Excluded { place, levels } = folder;
    let mut objects = place.store.list(Some(&place.path));
    let (mut stored, mut partitions) = (Stored::default(), HashSet::new());
    while stored.files < FILES_MAX {
        match objects.try_next().await {
            Ok(Some(object)) if is_data(&object, &place.path) => {
                stored.files += 1;
                stored.bytes += object.size;
                partitions.extend(partition_of(&object.location, &place.path, levels));
            }
            Ok(Some(_)) | Err(object_store::Error::NotFound { .. }) => {}
            // The query does not read the folder, so it does not matter whether it may.
            Ok(None) | Err(_) => break,
        }
    }
    stored.partitions = partitions.len() as u64;
    stored
}

/// The folder of a file's partition, `levels` below `folder`; none where the partition is the folder itself.
fn partition_of(file: &Path, folder: &Path, levels: usize) -> Option<String> {
    let names: Vec<String> = file.prefix_match(folder)?.map(|name| name.as_ref().to_owned()).collect();
    (levels > 0 && names.len() > levels).then(|| names[..levels].join("/"))
}
