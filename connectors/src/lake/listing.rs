//! Which files a query reads: folders level by level, each level pruned before the next is listed.
//!
//! ```text
//!  root --list--> year=2023 x   year=2024 --list--> month=01 --list--> files
//!                                                   month=02 x
//! ```
//!
//! Invariant: a folder that the filters exclude is never listed; a file is either in the listing, hidden by its name,
//! empty, or counted as not following the layout.

use std::{collections::BTreeSet, sync::Arc};

use chrono::{DateTime, Utc};
use datafusion::scalar::ScalarValue;
use futures::{StreamExt, TryStreamExt, stream};
use headwater_engine::{
    catalog::{Column, Partition},
    error::{Error, Result},
};
use object_store::{ListResult, ObjectMeta, ObjectStoreExt, path::Path};

mod flat;
mod pattern;
mod stored;

pub use flat::flattened;
pub use pattern::{Pattern, SPECIAL};
pub use stored::{Excluded, KnownFolders, Stored, of_excluded};

use super::{
    commit,
    layout::{self, Key, Value},
    pruning::{FileFilter, Known},
    stores::{Place, is_without_bucket, store_error},
};

/// Listings under way at once.
const LISTINGS_AT_ONCE: usize = 32;
/// Files of one statement's scan; past it the statement is refused rather than the memory exhausted.
const FILES_MAX: usize = 5_000_000;
/// Columns after the keys that each file has one value of: path, size, time.
pub(super) const HIDDEN: usize = 3;

/// A file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LakeFile {
    /// Path in its store.
    pub path: Path,
    /// Bytes.
    pub size: u64,
    /// When it was last written.
    pub modified: DateTime<Utc>,
    /// Index of its partition in the listing.
    pub partition: usize,
}

/// A partition that the filters leave.
#[derive(Debug, Clone)]
pub struct ListedPartition {
    /// A value for each key.
    pub values: Vec<Value>,
    /// Where its files are.
    pub place: Place,
    /// Columns its files were written with, if registered with its own.
    pub columns: Option<Vec<Column>>,
}

/// What a scan found.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// Partitions that the filters leave; one without values for a table without keys.
    pub partitions: Vec<ListedPartition>,
    /// Their files, in the order of their paths within each partition.
    pub files: Vec<LakeFile>,
    /// Partitions seen, pruned ones too.
    pub partitions_total: u64,
    /// Files that do not follow the layout.
    pub ignored: u64,
    /// Path of the first of them.
    pub first_ignored: Option<String>,
    /// What is in the folder of each of the partitions, whether the filters leave it or not.
    pub stored: Vec<Stored>,
    /// Folders that the filters exclude.
    pub excluded: Vec<Excluded>,
    /// Folders in which statements keep records of their files, each with what stands before paths of its store: that of
    /// the table, and those of tables whose folders lie within it.
    pub recorded: BTreeSet<(String, Path)>,
}

impl Listing {
    /// Value of each constant column of a file: its keys, then path, size and time.
    pub fn constants(&self, file: &LakeFile) -> Vec<ScalarValue> {
        let partition = &self.partitions[file.partition];
        let mut values: Vec<_> = partition.values.iter().map(|value| value.typed.clone()).collect();
        values.push(ScalarValue::Utf8(Some(partition.place.display(&file.path))));
        values.push(ScalarValue::Int64(Some(i64::try_from(file.size).unwrap_or(i64::MAX))));
        values.push(ScalarValue::TimestampMillisecond(Some(file.modified.timestamp_millis()), None));
        values
    }

    /// Keeps the files that pass the filters over constants.
    pub fn retain(&mut self, filter: &FileFilter) -> Result<()> {
        if filter.is_empty() {
            return Ok(());
        }
        let constants: Vec<_> = self.files.iter().map(|file| self.constants(file)).collect();
        let mut keep = filter.matches(&constants)?.into_iter();
        self.files.retain(|_| keep.next().unwrap_or(true));
        Ok(())
    }

    /// Reads what was found in the store of `place` through that store, whatever it was listed through.
    #[must_use]
    pub fn through(mut self, place: &Place) -> Self {
        let found = self.partitions.iter_mut().map(|partition| &mut partition.place);
        let excluded = self.excluded.iter_mut().map(|folder| &mut folder.place);
        for other in found.chain(excluded).filter(|other| other.root == place.root) {
            other.store = Arc::clone(&place.store);
        }
        self
    }

    fn ignore(&mut self, place: &Place, path: &Path) {
        self.ignored += 1;
        self.first_ignored.get_or_insert_with(|| place.display(path));
    }
}

/// A folder on the way to a partition.
#[derive(Debug, Clone)]
struct Folder {
    path: Path,
    values: Vec<Option<Value>>,
}

impl Folder {
    fn known(&self) -> Known {
        known(self.values.iter().map(|value| value.as_ref().map(|value| value.typed.clone())))
    }
}

/// What is known of a candidate of which these keys are.
pub(super) fn known(keys: impl Iterator<Item = Option<ScalarValue>>) -> Known {
    keys.chain(std::iter::repeat_n(None, HIDDEN)).collect()
}

/// Finds the partitions below `place` from the names of folders and lists what the filters leave.
pub async fn discover(place: &Place, keys: &[Key], filter: &FileFilter) -> Result<Listing> {
    let mut listing = Listing::default();
    let folders = walk(place, keys, Some(filter), &BTreeSet::new(), &mut listing).await?;
    let found: Option<Vec<_>> = folders
        .into_iter()
        .map(|folder| {
            let values: Option<Vec<_>> = folder.values.into_iter().collect();
            Some(ListedPartition { values: values?, place: place.at(folder.path), columns: None })
        })
        .collect();
    let found = found.ok_or_else(|| Error::internal("a folder below all keys has a value for each"))?;
    list_files(found, filter, listing).await
}

/// Lists the files of partitions whose values and places are known.
pub async fn list_known(partitions: Vec<ListedPartition>, filter: &FileFilter) -> Result<Listing> {
    let candidates: Vec<_> =
        partitions.iter().map(|found| known(found.values.iter().map(|value| Some(value.typed.clone())))).collect();
    let keep = filter.may_match(&candidates)?;
    let mut listing = Listing { partitions_total: partitions.len() as u64, ..Listing::default() };
    let (left, excluded): (Vec<_>, Vec<_>) = partitions.into_iter().zip(keep).partition(|(_, kept)| *kept);
    listing.excluded = excluded.into_iter().map(|(found, _)| Excluded { place: found.place, levels: 0 }).collect();
    list_files(left.into_iter().map(|(found, _)| found).collect(), filter, listing).await
}

/// The registered partitions of a table, with where their files are.
pub fn registered(place: &Place, keys: &[Key], partition: Partition) -> Result<ListedPartition> {
    let values = layout::typed_values(keys, &partition.values)?;
    let mut path = place.path.clone();
    for (key, value) in keys.iter().zip(&values) {
        let name = layout::folder_name(&key.name, value.raw.as_deref());
        path = child(&path, &name)?;
    }
    Ok(ListedPartition { values, place: place.at(path), columns: partition.columns })
}

/// Folders that follow the layout below `place`: raw values in key order, and where each is.
pub async fn find_partitions(place: &Place, keys: &[Key]) -> Result<Vec<(Vec<Option<String>>, Place)>> {
    let folders = walk(place, keys, None, &BTreeSet::new(), &mut Listing::default()).await?;
    let found = folders.into_iter().map(|folder| {
        let raw = folder.values.into_iter().map(|value| value.and_then(|value| value.raw)).collect();
        (raw, place.at(folder.path))
    });
    Ok(found.collect())
}

/// Keys and their types from the names of folders, by going down and looking at each level's first folders.
pub async fn infer_keys(place: &Place) -> Result<Vec<Key>> {
    let (mut keys, mut path): (Vec<Key>, Path) = (Vec::new(), place.path.clone());
    loop {
        let level = list_level(place, &path).await?;
        let folders: Vec<_> = level.common_prefixes.iter().filter(|path| !is_hidden(path)).collect();
        let mut named = folders.iter().filter_map(|path| layout::parse_folder(path.filename()?));
        let Some((name, _)) = named.next() else { return Ok(keys) };
        if keys.iter().any(|key| key.name.eq_ignore_ascii_case(name)) {
            return Ok(keys);
        }
        let values: Vec<_> = folders
            .iter()
            .filter_map(|path| layout::parse_folder(path.filename()?))
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .filter_map(|(_, value)| value)
            .collect();
        let data_type = layout::infer_type(values.iter().map(String::as_str));
        keys.push(Key { name: name.to_lowercase(), data_type });
        let Some(next) = folders.into_iter().find(|path| path.filename().is_some_and(|name| name.contains('='))) else {
            return Ok(keys);
        };
        path = next.clone();
    }
}

fn child(path: &Path, name: &str) -> Result<Path> {
    let joined = if path.as_ref().is_empty() { name.to_owned() } else { format!("{path}/{name}") };
    Path::parse(&joined).map_err(|_| Error::data("HIVE_INVALID_METADATA", format!("\"{joined}\" is no path")))
}

fn is_hidden(path: &Path) -> bool {
    path.filename().is_none_or(layout::is_hidden)
}

async fn list_level(place: &Place, path: &Path) -> Result<ListResult> {
    let prefix = Some(path).filter(|path| !path.as_ref().is_empty());
    match place.store.list_with_delimiter(prefix).await {
        Ok(found) => Ok(found),
        Err(error @ object_store::Error::NotFound { .. }) if !is_without_bucket(&error) => {
            Ok(ListResult { common_prefixes: Vec::new(), objects: Vec::new() })
        }
        Err(error) => Err(store_error(&place.display(path), error)),
    }
}

/// Goes down one level for each key; what is left has all values. Counts what does not follow the layout, except in
/// folders that lead to those `registered` elsewhere than the layout has them.
async fn walk(
    place: &Place,
    keys: &[Key],
    filter: Option<&FileFilter>,
    registered: &BTreeSet<Path>,
    listing: &mut Listing,
) -> Result<Vec<Folder>> {
    let mut level = vec![Folder { path: place.path.clone(), values: vec![None; keys.len()] }];
    for depth in 0..keys.len() {
        let listed: Vec<(Folder, ListResult)> = stream::iter(level)
            .map(|folder| async move {
                let found = list_level(place, &folder.path).await?;
                Ok::<_, Error>((folder, found))
            })
            .buffered(LISTINGS_AT_ONCE)
            .try_collect()
            .await?;
        let mut next = Vec::new();
        for (folder, found) in listed {
            let only = filter.and_then(FileFilter::only);
            let is_meant = |object: &&ObjectMeta| only.is_none_or(|only| only.matches(&object.location));
            for object in found.objects.iter().filter(|object| is_data(object, &place.path)).filter(is_meant) {
                listing.ignore(place, &object.location);
            }
            for path in found.common_prefixes.into_iter().filter(|path| !is_hidden(path)) {
                match below(&folder, &path, keys) {
                    Some(child) => next.push(child),
                    None if holds_any(registered, &path) => {}
                    None => ignore_below(place, &path, listing).await?,
                }
            }
        }
        if depth + 1 == keys.len() {
            listing.partitions_total += next.len() as u64;
        }
        if let Some(filter) = filter {
            let keep = filter.may_match(&next.iter().map(Folder::known).collect::<Vec<_>>())?;
            let (kept, excluded): (Vec<_>, Vec<_>) = next.into_iter().zip(keep).partition(|(_, kept)| *kept);
            next = kept.into_iter().map(|(folder, _)| folder).collect();
            let levels = keys.len() - depth - 1;
            let excluded = excluded.into_iter().map(|(folder, _)| Excluded { place: place.at(folder.path), levels });
            listing.excluded.extend(excluded);
        }
        level = next;
    }
    if keys.is_empty() {
        listing.partitions_total += 1;
    }
    Ok(level)
}

/// The folder below `parent` at `path`, if its name gives one of the keys that are still open a value of its type.
fn below(parent: &Folder, path: &Path, keys: &[Key]) -> Option<Folder> {
    let (name, raw) = layout::parse_folder(path.filename()?)?;
    let index = keys.iter().position(|key| key.name.eq_ignore_ascii_case(name))?;
    if parent.values[index].is_some() {
        return None;
    }
    let mut values = parent.values.clone();
    values[index] = Some(Value::parse(raw.as_deref(), &keys[index].data_type)?);
    Some(Folder { path: path.clone(), values })
}

/// Whether one of the folders is this one or below it.
fn holds_any(folders: &BTreeSet<Path>, path: &Path) -> bool {
    // Folders whose names go on with what sorts before a slash stand between a folder and what is in it.
    let begins = |next: &&Path| next.as_ref().starts_with(path.as_ref());
    folders.range(path..).take_while(begins).any(|next| next.prefix_matches(path))
}

async fn ignore_below(place: &Place, path: &Path, listing: &mut Listing) -> Result<()> {
    let mut objects = place.store.list(Some(path));
    while let Some(object) = objects.try_next().await.map_err(|error| store_error(&place.display(path), error))? {
        if is_data(&object, path) {
            listing.ignore(place, &object.location);
        }
    }
    Ok(())
}

/// Whether an object below a folder is data: not empty, and neither it nor a folder on the way to it is hidden.
fn is_data(object: &ObjectMeta, folder: &Path) -> bool {
    object.size > 0
        && !object.location.as_ref().ends_with("_$folder$")
        && object
            .location
            .prefix_match(folder)
            .is_none_or(|mut parts| !parts.any(|part| layout::is_hidden(part.as_ref())))
}

async fn list_files(partitions: Vec<ListedPartition>, filter: &FileFilter, mut listing: Listing) -> Result<Listing> {
    let places: Vec<Place> = partitions.iter().map(|partition| partition.place.clone()).collect();
    let mut lists = stream::iter(places.into_iter().enumerate())
        .map(|(index, place)| async move { files_of(index, &place, filter.only()).await })
        .buffered(LISTINGS_AT_ONCE);
    let mut files = Vec::new();
    while let Some((mut found, recorded)) = lists.try_next().await? {
        listing.recorded.extend(recorded);
        let bytes = found.iter().map(|file| file.size).sum();
        listing.stored.push(Stored { files: found.len() as u64, bytes, ..Stored::default() });
        files.append(&mut found);
        if files.len() > FILES_MAX {
            return Err(too_many());
        }
    }
    drop(lists);
    listing.partitions = partitions;
    listing.files = files;
    listing.retain(filter)?;
    Ok(listing)
}

fn too_many() -> Error {
    Error::user("EXCEEDED_LISTING_LIMIT", format!("the table has more than {FILES_MAX} files here"))
        .with_hint("filter on its partition keys")
}

/// The data files of a partition, and the folders with records on the way to them.
async fn files_of(
    index: usize,
    place: &Place,
    only: Option<&Pattern>,
) -> Result<(Vec<LakeFile>, BTreeSet<(String, Path)>)> {
    let prefix = Some(&place.path).filter(|path| !path.as_ref().is_empty());
    let mut objects = match only.and_then(Pattern::exact) {
        Some(path) => stream::iter([place.store.head(&path).await]).boxed(),
        None => place.store.list(prefix),
    };
    let is_wanted =
        |object: &ObjectMeta| is_data(object, &place.path) && only.is_none_or(|only| only.matches(&object.location));
    let (mut files, mut recorded) = (Vec::new(), BTreeSet::new());
    loop {
        match objects.try_next().await {
            Ok(Some(object)) if is_wanted(&object) => files.push(LakeFile {
                path: object.location,
                size: object.size,
                modified: object.last_modified,
                partition: index,
            }),
            Ok(Some(object)) => {
                recorded.extend(recorded_at(&object.location).map(|folder| (place.root.clone(), folder)));
            }
            Err(error @ object_store::Error::NotFound { .. }) if !is_without_bucket(&error) => {}
            Ok(None) => break,
            Err(error) => return Err(store_error(&place.to_string(), error)),
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((files, recorded))
}

/// The folder whose statements an object is a record of.
fn recorded_at(record: &Path) -> Option<Path> {
    let (folder, rest) = record.as_ref().rsplit_once(commit::FOLDER)?;
    let folder = folder.strip_suffix('/').or(folder.is_empty().then_some(""))?;
    rest.starts_with('/').then(|| Path::parse(folder).ok())?
}

/// How many folders look like partitions and are not among the registered ones; files that follow no layout are counted
/// in `listing`.
pub async fn unregistered(
    place: &Place,
    keys: &[Key],
    registered: &[ListedPartition],
    filter: &FileFilter,
    listing: &mut Listing,
) -> Result<u64> {
    let known: BTreeSet<Path> = registered.iter().map(|partition| partition.place.path.clone()).collect();
    let mut found = Listing::default();
    let folders = walk(place, keys, Some(filter), &known, &mut found).await?;
    (listing.ignored, listing.first_ignored) = (found.ignored, found.first_ignored);
    Ok(folders.iter().filter(|folder| !known.contains(&folder.path)).count() as u64)
}

#[cfg(test)]
mod tests;
