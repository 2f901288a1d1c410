//! Listing a folder in one go instead of folder by folder, where earlier statements say that this takes fewer requests.
//!
//! ```text
//!  1,000 partitions of 3 files, folder by folder:  1,001 requests
//!  the same in one go:                                 3 requests, side by side, cut at folders that are known
//! ```
//!
//! Invariant: what is remembered of folders ([`KnownFolders`]) decides how they are listed, never what is found: every
//! statement fetches the names anew, so a file that is new, gone or changed is seen as it is.

use std::{collections::BTreeMap, fmt, ops::Bound, sync::Arc};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, future, stream, stream::BoxStream};
use headwater_engine::error::Result;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, path::Path,
};

use super::{FILES_MAX, KnownFolders, LISTINGS_AT_ONCE, known};
use crate::lake::{
    counting::ListingCost,
    layout::{self, Key, Value},
    pruning::FileFilter,
    stores::{Place, store_error},
};

/// Names in the answer to one listing request, as S3 has it.
const NAMES_PER_REQUEST: u64 = 1_000;
/// How many times fewer the requests must be: names that are not needed are fetched too.
const FEWER_MIN: u64 = 2;
/// Ends the names of buckets that list in no order, so that a listing cannot be cut.
const UNORDERED: &str = "--x-s3/";

/// The place with its listings answered from one flat listing, if that takes fewer requests than folder by folder.
pub async fn flattened(place: &Place, keys: &[Key], filter: &FileFilter, folders: &KnownFolders) -> Result<Place> {
    if place.listing == ListingCost::Free || place.root.ends_with(UNORDERED) {
        return Ok(place.clone());
    }
    let Some(plan) = plan(place, keys, filter, folders)? else { return Ok(place.clone()) };
    let objects = fetch(place, &plan).await?;
    let store = Flat { store: Arc::clone(&place.store), below: plan.below, objects };
    Ok(Place { store: Arc::new(store), ..place.clone() })
}

/// How a folder is listed in one go.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// The folder that all partitions wanted are in.
    pub(super) below: Path,
    /// Names at which the listing is cut into parts of some requests each.
    pub(super) cuts: Vec<String>,
}

/// How to list in one go what the filter leaves, if what is known says that it takes fewer requests.
pub(super) fn plan(place: &Place, keys: &[Key], filter: &FileFilter, folders: &KnownFolders) -> Result<Option<Plan>> {
    let found = folders.partitions(place);
    let candidates: Vec<_> = found.iter().map(|(folder, _)| of_folder(folder, keys)).collect();
    let keep = filter.may_match(&candidates)?;
    let wanted: Vec<&[String]> =
        found.iter().zip(&keep).filter(|(_, kept)| **kept).map(|((folder, _), _)| folder.as_slice()).collect();
    let (Some(first), Some(last)) = (wanted.first(), wanted.last()) else { return Ok(None) };
    // In sorted order what the first and the last have in common, all have.
    let common = first.iter().zip(*last).take_while(|(one, other)| one == other).count();
    let below = &first[..common];
    let inside = || found.iter().filter(|(folder, _)| folder.starts_with(below));
    let in_one_go = requests(inside().map(|(_, stored)| stored.files).sum());
    if in_one_go.saturating_mul(FEWER_MIN) > folder_by_folder(&wanted, common) {
        return Ok(None);
    }
    let path = |parts: &[String]| {
        let parts: Vec<&str> = Some(place.path.as_ref())
            .filter(|path| !path.is_empty())
            .into_iter()
            .chain(parts.iter().map(String::as_str))
            .collect();
        parts.join("/")
    };
    let (mut cuts, mut files) = (Vec::new(), 0);
    for (folder, stored) in inside() {
        files += stored.files;
        if files >= NAMES_PER_REQUEST {
            cuts.push(path(folder));
            files = 0;
        }
    }
    cuts.sort();
    let below = Path::parse(path(below)).map_err(object_store::Error::from)?;
    Ok(Some(Plan { below, cuts }))
}

/// What a folder's name says of the keys.
fn of_folder(folder: &[String], keys: &[Key]) -> super::Known {
    let value = |key: &Key| {
        let (_, raw) = folder
            .iter()
            .filter_map(|part| layout::parse_folder(part))
            .find(|(name, _)| key.name.eq_ignore_ascii_case(name))?;
        Value::parse(raw.as_deref(), &key.data_type).map(|value| value.typed)
    };
    known(keys.iter().map(value))
}

fn requests(names: u64) -> u64 {
    names.div_ceil(NAMES_PER_REQUEST).max(1)
}

/// Requests that listing each of these partitions takes, with the folders on the way to them from level `common` on.
fn folder_by_folder(wanted: &[&[String]], common: usize) -> u64 {
    let mut requests = 0;
    let mut before: &[String] = &[];
    for folder in wanted {
        let same = folder.iter().zip(before).take_while(|(one, other)| one == other).count();
        requests += folder.len().saturating_sub(same.max(common)) as u64;
        before = folder;
    }
    requests
}

async fn fetch(place: &Place, plan: &Plan) -> Result<BTreeMap<Path, ObjectMeta>> {
    let starts = std::iter::once(None).chain(plan.cuts.iter().cloned().map(Some));
    let ends = plan.cuts.iter().cloned().map(Some).chain([None]);
    let mut parts = stream::iter(starts.zip(ends))
        .map(|(start, end)| list_part(place, &plan.below, start, end))
        .buffer_unordered(LISTINGS_AT_ONCE);
    let mut objects = BTreeMap::new();
    while let Some(part) = parts.try_next().await? {
        objects.extend(part.into_iter().map(|object| (object.location.clone(), object)));
        if objects.len() > FILES_MAX {
            return Err(super::too_many());
        }
    }
    Ok(objects)
}

/// The objects below a folder whose names lie after `start` and up to `end`.
async fn list_part(place: &Place, below: &Path, start: Option<String>, end: Option<String>) -> Result<Vec<ObjectMeta>> {
    let prefix = Some(below).filter(|path| !path.as_ref().is_empty());
    let listed = match &start {
        None => place.store.list(prefix),
        Some(start) => {
            let start = Path::parse(start).map_err(object_store::Error::from)?;
            place.store.list_with_offset(prefix, &start)
        }
    };
    let is_within = |object: &ObjectMeta| end.as_ref().is_none_or(|end| object.location.as_ref() <= end.as_str());
    listed
        .try_take_while(|object| future::ready(Ok(is_within(object))))
        .try_collect()
        .await
        .map_err(|error| store_error(&place.display(below), error))
}

/// A store whose listings below one folder are answered from memory.
#[derive(Debug)]
struct Flat {
    store: Arc<dyn ObjectStore>,
    below: Path,
    objects: BTreeMap<Path, ObjectMeta>,
}

impl Flat {
    /// The objects below a folder, if they are all known here.
    fn known(&self, folder: &Path) -> Option<Vec<&ObjectMeta>> {
        if !folder.prefix_matches(&self.below) {
            return None;
        }
        let from = Bound::Excluded(folder);
        let below = self.objects.range::<Path, _>((from, Bound::Unbounded));
        let prefix = folder.as_ref();
        let starts = |path: &Path| path.as_ref().starts_with(prefix);
        let inside = below.take_while(|(path, _)| starts(path)).filter(|(path, _)| path.prefix_matches(folder));
        Some(inside.map(|(_, object)| object).collect())
    }
}

impl fmt::Display for Flat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.store)
    }
}

#[async_trait]
impl ObjectStore for Flat {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.store.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(path, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.store.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        match prefix.and_then(|folder| self.known(folder)) {
            Some(found) => {
                let found: Vec<_> = found.into_iter().cloned().map(Ok).collect();
                stream::iter(found).boxed()
            }
            None => self.store.list(prefix),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        let Some((folder, found)) = prefix.and_then(|folder| Some((folder, self.known(folder)?))) else {
            return self.store.list_with_delimiter(prefix).await;
        };
        let (mut objects, mut common_prefixes): (Vec<ObjectMeta>, Vec<Path>) = (Vec::new(), Vec::new());
        for object in found {
            let mut parts = object.location.prefix_match(folder).into_iter().flatten();
            let Some(part) = parts.next() else { continue };
            if parts.next().is_none() {
                objects.push(object.clone());
                continue;
            }
            let child = folder.clone().join(part);
            if common_prefixes.last() != Some(&child) {
                common_prefixes.push(child);
            }
        }
        Ok(ListResult { common_prefixes, objects })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}
