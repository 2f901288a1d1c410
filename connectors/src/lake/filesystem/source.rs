//! A lake folder as the source of a job: every file once, oldest first.
//!
//! Invariant: a file is a split, its version what tells an overwritten one; a file that may still be written is not
//! listed until two looks a second apart agree.

use std::{
    collections::HashMap,
    fmt,
    path::{Component, Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::physical_plan::PhysicalExpr;
use headwater_engine::{
    catalog::{Catalog, Table},
    connector::{Boundedness, JobContext, Offset, OpenRequest, ReadsAgain, Source, Split, SplitId, SplitReader},
    error::{Error, Result},
    format::Decoder,
};
use parking_lot::Mutex;

use super::{growing::Growing, options::SourceOptions, reader::FileReader};
use crate::lake::{
    counting::ListingCost,
    listing::{LakeFile, Listing},
    provider::LakeTable,
    pruning::AnyFilter,
    stores::Stores,
};

/// How long a local file must not have changed before it is taken.
const QUIET: Duration = Duration::from_secs(1);

/// A folder that a job reads.
pub struct FilesystemSource {
    location: String,
    table: LakeTable,
    options: SourceOptions,
    /// What some consumer wants of it, where that leaves out partitions.
    wanted: Option<AnyFilter>,
    /// The newest listing, from which splits are opened.
    listed: Arc<Mutex<Listed>>,
}

/// Files of the newest listing by their splits.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) listing: Arc<Listing>,
    pub(super) files: HashMap<SplitId, LakeFile>,
}

impl fmt::Debug for FilesystemSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilesystemSource").field("location", &self.location).finish_non_exhaustive()
    }
}

impl fmt::Display for FilesystemSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "filesystem {}", self.location)
    }
}

impl FilesystemSource {
    /// A source of the files of a table.
    pub fn new(
        mut table: Table,
        options: SourceOptions,
        stores: Arc<Stores>,
        catalog: Arc<dyn Catalog>,
    ) -> Result<Self> {
        let location = table.location.clone();
        if options.growing && table.properties.get("csv.header").is_some_and(|header| header == "true") {
            return Err(Error::not_supported("'source.growing-files' with 'csv.header'")
                .with_hint("a line of a growing file is read by its place alone: leave the header out"));
        }
        // In a job a malformed row is rejected unless the table says otherwise.
        table.properties.entry("malformed".into()).or_insert_with(|| "skip".into());
        let table = LakeTable::new(Arc::new(table), catalog, stores)?;
        Ok(Self { location, table, options, wanted: None, listed: Arc::default() })
    }

    fn split(&self, listing: &Listing, file: &LakeFile) -> Split {
        let place = &listing.partitions[file.partition].place;
        let mut split = Split::new(place.display(&file.path));
        if self.options.reprocess && !self.grows(listing, file) {
            split.version = version(file);
        }
        split
    }

    /// The files that are surely whole: those of object stores, and local ones that two looks find the same. Those that
    /// are read while they grow need not be whole.
    async fn settled(&self) -> Result<Listing> {
        let first = self.table.files().await?;
        let now = chrono::Utc::now();
        let may_change = |listing: &Listing, file: &LakeFile| is_local(listing, file) && !self.grows(listing, file);
        let is_fresh = |file: &LakeFile| (now - file.modified).to_std().unwrap_or_default() < QUIET;
        if !first.files.iter().any(|file| may_change(&first, file) && is_fresh(file)) {
            return Ok(first);
        }
        tokio::time::sleep(QUIET).await;
        let mut second = self.table.files().await?;
        let looked: HashMap<_, _> = first.files.iter().map(|file| (&file.path, version(file))).collect();
        let mut files = std::mem::take(&mut second.files);
        files.retain(|file| !may_change(&second, file) || looked.get(&file.path) == Some(&version(file)));
        second.files = files;
        Ok(second)
    }

    /// Whether a file is read line by line as it grows.
    fn grows(&self, listing: &Listing, file: &LakeFile) -> bool {
        self.options.growing && is_local(listing, file) && self.table.is_by_line(file)
    }
}

/// Whether a file is on a local disk, where others may still be writing it.
pub(super) fn is_local(listing: &Listing, file: &LakeFile) -> bool {
    matches!(listing.partitions[file.partition].place.listing, ListingCost::Free)
}

/// Whether a file is in a folder, as its path is shown, however the folder is spelt.
fn is_below(file: &str, folder: &str) -> bool {
    let plain = |path: &str| match path.split_once("://") {
        Some((scheme, rest)) if scheme != "file" => rest.to_owned(),
        local => {
            let path = Path::new(local.map_or(path, |(_, rest)| rest));
            let mut plain = PathBuf::new();
            for part in std::path::absolute(path).as_deref().unwrap_or(path).components() {
                match part {
                    Component::ParentDir => drop(plain.pop()),
                    part => plain.push(part),
                }
            }
            plain.to_string_lossy().into_owned()
        }
    };
    let (file, folder) = (plain(file), plain(folder));
    file.strip_prefix(folder.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'))
}

fn version(file: &LakeFile) -> String {
    format!("{}-{}", file.size, file.modified.timestamp_micros())
}

#[async_trait]
impl Source for FilesystemSource {
    fn boundedness(&self) -> Boundedness {
        match self.options.monitor_interval {
            Some(_) => Boundedness::Unbounded,
            None => Boundedness::Bounded,
        }
    }

    fn discovery_interval(&self) -> Option<Duration> {
        self.options.monitor_interval
    }

    fn reads_again(&self) -> ReadsAgain {
        ReadsAgain::Reader
    }

    fn narrowed(&self, filters: &[Arc<dyn PhysicalExpr>], schema: &SchemaRef) -> Option<Arc<dyn Source>> {
        let wanted = Some(AnyFilter::new(filters, schema)?);
        let (location, table, options) = (self.location.clone(), self.table.clone(), self.options.clone());
        Some(Arc::new(Self { location, table, options, wanted, listed: Arc::default() }))
    }

    fn decoder(&self, _columns: SchemaRef) -> Result<Option<Box<dyn Decoder>>> {
        Ok(None)
    }

    async fn splits(&self, _job: &JobContext) -> Result<Vec<Split>> {
        let mut listing = self.settled().await?;
        listing.files.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
        let splits: Vec<Split> = listing.files.iter().map(|file| self.split(&listing, file)).collect();
        let files = splits.iter().map(|split| split.id.clone()).zip(listing.files.iter().cloned()).collect();
        *self.listed.lock() = Listed { listing: Arc::new(listing), files };
        Ok(splits)
    }

    /// Files of another folder were another table's, unless it is the same one spelt otherwise.
    fn keeps(&self, split: &SplitId, origin: &str) -> bool {
        let is_same = origin.is_empty() || origin.trim_end_matches('/') == self.to_string().trim_end_matches('/');
        is_same || is_below(&split.0, &self.location)
    }

    async fn open(&self, _job: &JobContext, request: OpenRequest) -> Result<Box<dyn SplitReader>> {
        let columns = columns_of(&self.table, &request.columns, &request.metadata)?;
        if self.listed.lock().files.is_empty() && !request.splits.is_empty() {
            let listing = self.settled().await?;
            let split = |file: &LakeFile| (self.split(&listing, file).id, file.clone());
            let files = listing.files.iter().map(split).collect();
            *self.listed.lock() = Listed { listing: Arc::new(listing), files };
        }
        let growing = self.options.growing.then(|| Growing::new(self.options.monitor_interval, request.bound));
        let schema = request.columns.clone();
        let table = (self.table.clone(), self.wanted.clone());
        let mut reader = FileReader::new(table, self.listed.clone(), (schema, columns), growing);
        reader.assign(request.splits).await?;
        Ok(Box::new(reader))
    }

    async fn acknowledge(&self, _job: &JobContext, _split: &SplitId, _up_to: &Offset) -> Result<()> {
        Ok(())
    }
}

/// Indices of columns in the schema of a table; some are metadata.
pub(super) fn columns_of(table: &LakeTable, columns: &SchemaRef, metadata: &[(usize, String)]) -> Result<Vec<usize>> {
    use datafusion::catalog::TableProvider;
    let schema = table.schema();
    let index = |(position, field): (usize, &Arc<arrow::datatypes::Field>)| {
        let metadata = metadata.iter().find(|(index, _)| *index == position);
        let name = match metadata.map(|(_, key)| key.as_str()) {
            Some("file.path") => "$path",
            Some("file.size") => "$file_size",
            Some("file.modification-time") => "$file_modified_time",
            Some(other) => return Err(Error::internal(format!("files have no metadata \"{other}\""))),
            None => field.name(),
        };
        let found = schema.fields().iter().position(|column| column.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| Error::internal(format!("column \"{name}\" is not one of the table's")))
    };
    columns.fields().iter().enumerate().map(index).collect()
}
