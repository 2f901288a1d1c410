//! A lake table for DataFusion.
//!
//! Invariant: the schema is the columns of the files, then the partition keys, then the hidden columns; a hidden column
//! carries [`HIDDEN_MARK`] in its metadata and is left out of `SELECT *` by the session.

use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    ops::Range,
    sync::Arc,
};

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::{DFSchema, project_schema},
    logical_expr::{Expr, TableProviderFilterPushDown, TableType, utils::conjunction},
    physical_plan::{ExecutionPlan, PhysicalExpr},
    scalar::ScalarValue,
};
use headwater_engine::{
    catalog::{Catalog, PartitionDiscovery, Table},
    error::{Error, Result},
    time::{Clock, SystemClock},
};
use object_store::{ObjectStoreExt, path::Path};
use parking_lot::Mutex;

use super::{
    commit::{CatalogRegistrar, LISTINGS_MAX, Records, Resolved, recover, resolve, site::site_of},
    format::{Malformed, ReadFormat},
    layout::Key,
    listing::{self, Excluded, LakeFile, ListedPartition, Listing, Pattern, Stored},
    projection::{self, Projection},
    pruning::FileFilter,
    read::{record, required::Required},
    scan::{LakeScan, LakeScanExec, LakeUnits, Rejects, Source, Wanted},
    stats::ScanStats,
    stores::{Place, Stores, not_a_folder},
};

use self::columns::hidden;
pub use self::columns::{HIDDEN_MARK, fields, rejected_schema};

mod columns;

/// Folders left out by the filters in which one scan looks for how much is stored.
const EXCLUDED_MAX: usize = 10_000;

/// A table or the rejected records of one, over its files.
#[derive(Debug, Clone)]
pub struct LakeTable {
    table: Arc<Table>,
    catalog: Arc<dyn Catalog>,
    stores: Arc<Stores>,
    format: ReadFormat,
    malformed: Malformed,
    wanted: Wanted,
    /// Columns of the files.
    file_columns: SchemaRef,
    keys: Vec<Key>,
    schema: SchemaRef,
    only: Option<Pattern>,
    /// Columns in which NULL makes a row malformed, by index among those of the files and the keys.
    not_null: Vec<usize>,
}

impl LakeTable {
    /// The rows of a table. What a statement reads is counted in the [`ScanStats`] that the session configuration of
    /// the statement has as an extension.
    pub fn new(table: Arc<Table>, catalog: Arc<dyn Catalog>, stores: Arc<Stores>) -> Result<Self> {
        let malformed = Malformed::of(&table)?;
        let format = ReadFormat::of(&table, malformed)?;
        let file_columns = Arc::new(Schema::new(fields(&table.columns)?));
        let keys = fields(&table.partition_keys)?;
        format.check_columns(file_columns.fields(), &keys)?;
        let all = file_columns.fields().iter().map(Arc::clone).chain(keys.iter().map(Arc::clone)).chain(hidden());
        let schema = Arc::new(Schema::new(all.collect::<Vec<_>>()));
        let keys =
            keys.iter().map(|key| Key { name: key.name().clone(), data_type: key.data_type().clone() }).collect();
        Ok(Self {
            table,
            catalog,
            stores,
            format,
            malformed,
            wanted: Wanted::Rows,
            file_columns,
            keys,
            schema,
            only: None,
            not_null: Vec::new(),
        })
    }

    /// The same table with the files that a pattern means.
    #[must_use]
    pub fn of_files(self, only: Pattern) -> Self {
        Self { only: Some(only), ..self }
    }

    /// The same table with columns in which NULL makes a row malformed.
    #[must_use]
    pub fn with_not_null(self, names: &[String]) -> Self {
        let all =
            self.file_columns.fields().iter().map(|field| field.name()).chain(self.keys.iter().map(|key| &key.name));
        let is_named = |name: &str| names.iter().any(|named| named.eq_ignore_ascii_case(name));
        let not_null = all.enumerate().filter(|(_, name)| is_named(name)).map(|(index, _)| index).collect();
        Self { not_null, ..self }
    }

    /// `"t$rejected"`: the records of a table that its decoder refuses, whatever the policy.
    pub fn rejected(table: Arc<Table>, catalog: Arc<dyn Catalog>, stores: Arc<Stores>) -> Result<Self> {
        let rows = Self::new(table, catalog, stores)?;
        let format = ReadFormat::of(&rows.table, Malformed::Skip)?;
        Ok(Self { format, wanted: Wanted::Rejected, malformed: Malformed::Skip, schema: rejected_schema(), ..rows })
    }

    /// The keys of its partitions.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Columns that each file has one value of, in the order of [`Listing::constants`].
    fn constants(&self) -> Vec<FieldRef> {
        let keys = self.keys.iter().map(|key| Arc::new(Field::new(&key.name, key.data_type.clone(), true)));
        keys.chain(hidden()).collect()
    }

    async fn list(&self, place: &Place, filter: &FileFilter, stats: &Arc<ScanStats>) -> Result<Listing> {
        let listing = self.list_committed(place, filter, stats).await?;
        if listing.partitions_total <= 1 && listing.files.is_empty() && !self.table.location.ends_with('/') {
            self.expect_folder(place).await?;
        }
        if let Some(first) = &listing.first_ignored {
            let count = listing.ignored;
            let files = if count == 1 { "file does" } else { "files do" };
            stats.warn(format!(
                "{}: {count} {files} not follow the layout of the table, first \"{first}\"",
                self.table.name
            ));
        }
        Ok(listing)
    }

    /// An object by the name of the location is no table of no rows.
    async fn expect_folder(&self, place: &Place) -> Result<()> {
        match place.store.head(&place.path).await {
            Ok(_) => Err(not_a_folder(&place.to_string())),
            Err(_) => Ok(()),
        }
    }

    /// The files of the statements that have happened: those that were done when the listing began, and none that they
    /// replaced (see [`commit`](super::commit)).
    async fn list_committed(&self, place: &Place, filter: &FileFilter, stats: &Arc<ScanStats>) -> Result<Listing> {
        let mut folders = BTreeSet::from([place.path.clone()]);
        let mut before = self.records(place, &folders, stats).await?;
        let projection = Projection::of(&self.table, &self.keys, projection::at_millis(SystemClock.now().0))?;
        for _ in 0..LISTINGS_MAX {
            let near = listing::flattened(place, &self.keys, filter, self.stores.known_folders()).await?;
            let listing = match (&projection, self.table.discovery) {
                (Some(projection), _) => self.list_projected(&near, projection, filter, stats).await?,
                (None, PartitionDiscovery::Registered) if !self.keys.is_empty() => {
                    self.list_registered(&near, filter, stats).await?
                }
                (None, PartitionDiscovery::Registered | PartitionDiscovery::Discovered) => {
                    listing::discover(&near, &self.keys, filter).await?
                }
            };
            let mut listing = listing.through(place);
            let within = listing.recorded.iter().filter(|(root, _)| *root == place.root).map(|(_, folder)| folder);
            let known = folders.len();
            folders.extend(within.cloned());
            if folders.len() > known {
                before = self.records(place, &folders, stats).await?;
                continue;
            }
            let after = Records::read_all(&*place.store, folders.iter(), &place.root).await?;
            match resolve(std::mem::take(&mut listing.files), &before, &after, |file| file.path.as_ref()) {
                Resolved::Files(files) => {
                    listing.files = files;
                    return Ok(listing);
                }
                Resolved::ListAgain => before = after,
            }
        }
        Err(Error::unavailable(format!("\"{}\" was replaced while it was listed, again and again", self.table.name)))
    }

    /// The records of the statements in these folders, once the dead ones are finished, undone or cleaned up after.
    async fn records(&self, place: &Place, folders: &BTreeSet<Path>, stats: &ScanStats) -> Result<Records> {
        let found = Records::read_all(&*place.store, folders.iter(), &place.root).await?;
        if !found.is_any_open() {
            return Ok(found);
        }
        let whole = self.stores.resolve(&self.table.location, &self.table.properties).await?;
        for folder in folders {
            let registrar = Arc::new(CatalogRegistrar::new(Arc::clone(&self.catalog)));
            match recover(&site_of(&whole.at(folder.clone()), registrar)).await {
                Ok(problems) => problems.into_iter().for_each(|problem| stats.warn(problem)),
                // Where that is not allowed, their files stay hidden.
                Err(error) => stats.warn(format!("{}: {error}", self.table.name)),
            }
        }
        Records::read_all(&*place.store, folders.iter(), &place.root).await
    }

    /// The files of the partitions that the table's properties span.
    async fn list_projected(
        &self,
        near: &Place,
        projection: &Projection,
        filter: &FileFilter,
        stats: &Arc<ScanStats>,
    ) -> Result<Listing> {
        let spanned =
            projection.partitions(filter).map_err(|error| error.context(format!("\"{}\"", self.table.name)))?;
        let mut partitions = Vec::with_capacity(spanned.partitions.len());
        for values in spanned.partitions {
            let place = self.place_of(near, &projection.location(&self.table.location, &values), stats).await?;
            partitions.push(ListedPartition { values, place, columns: None });
        }
        let mut listing = listing::list_known(partitions, filter).await?;
        for values in &spanned.left_out {
            for folder in projection.folders(&self.table.location, values) {
                if listing.excluded.len() >= EXCLUDED_MAX {
                    break;
                }
                // How many partitions there are is known without looking.
                let place = self.place_of(near, &folder, stats).await?;
                listing.excluded.push(Excluded { place, levels: 0 });
            }
        }
        Ok(Listing { partitions_total: spanned.total, ..listing })
    }

    /// Where a partition with a location of its own is; in the store of the table if it is there.
    async fn place_of(&self, near: &Place, location: &str, stats: &Arc<ScanStats>) -> Result<Place> {
        let place = self.stores.resolve(location, &self.table.properties).await?;
        Ok(if place.root == near.root { near.at(place.path) } else { place.counted(stats) })
    }

    async fn list_registered(&self, near: &Place, filter: &FileFilter, stats: &Arc<ScanStats>) -> Result<Listing> {
        let (mut partitions, mut seen) = (Vec::new(), HashSet::new());
        for partition in self.catalog.partitions(&self.table.name).await? {
            let elsewhere = partition.location.clone();
            let mut listed = listing::registered(near, &self.keys, partition)?;
            if let Some(location) = elsewhere {
                listed.place = self.place_of(near, &location, stats).await?;
            }
            // Two spellings of one value, such as NULL and the name of its folder, are one partition.
            let values: Vec<ScalarValue> = listed.values.iter().map(|value| value.typed.clone()).collect();
            if seen.insert((listed.place.to_string(), values)) {
                partitions.push(listed);
            }
        }
        let mut strays = Listing::default();
        let unregistered = listing::unregistered(near, &self.keys, &partitions, filter, &mut strays).await?;
        ScanStats::add(&stats.folders_unregistered, unregistered);
        let Listing { ignored, first_ignored, .. } = strays;
        Ok(Listing { ignored, first_ignored, ..listing::list_known(partitions, filter).await? })
    }
}

#[async_trait]
impl TableProvider for LakeTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> datafusion::error::Result<Vec<TableProviderFilterPushDown>> {
        if self.wanted == Wanted::Rejected {
            return Ok(vec![TableProviderFilterPushDown::Unsupported; filters.len()]);
        }
        let constants = self.constants();
        let is_constant = |name: &str| constants.iter().any(|field| field.name() == name);
        let support = filters.iter().map(|filter| {
            let columns = filter.column_refs();
            let (mut all, mut any) = (!columns.is_empty() && !filter.is_volatile(), false);
            for column in columns {
                all &= is_constant(&column.name);
                any |= is_constant(&column.name);
            }
            match (all, any) {
                (true, _) => TableProviderFilterPushDown::Exact,
                (false, true) => TableProviderFilterPushDown::Inexact,
                (false, false) if matches!(self.format, ReadFormat::Parquet) => TableProviderFilterPushDown::Inexact,
                (false, false) => TableProviderFilterPushDown::Unsupported,
            }
        });
        Ok(support.collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        let stats = state.config().get_extension::<ScanStats>().unwrap_or_default();
        let place = self.stores.resolve(&self.table.location, &self.table.properties).await?.counted(&stats);
        let rows = Self { wanted: Wanted::Rows, ..self.clone() };
        let filter = match self.wanted {
            Wanted::Rows => FileFilter::new(state, filters, &self.schema, self.constants())?,
            Wanted::Rejected => FileFilter::new(state, &[], &self.schema, rows.constants())?,
        };
        let filter = filter.of_files(self.only.clone());
        let listing = self.list(&place, &filter, &stats).await?;
        self.stores.known_folders().remember(&listing);
        let excluded = listing::of_excluded(&listing.excluded, self.stores.known_folders()).await;
        account(&stats, &listing, excluded);
        let scan = self.plan(state, projection, filters, listing, stats)?;
        let partitions = state.config().target_partitions();
        Ok(Arc::new(LakeUnits::plan(Arc::new(scan), partitions, limit)))
    }
}

impl LakeTable {
    /// Every file there is, with its partition.
    pub async fn files(&self) -> Result<Listing> {
        let place = self.stores.resolve(&self.table.location, &self.table.properties).await?;
        self.list(&place, &FileFilter::none(self.constants()), &Arc::default()).await
    }

    /// The rows of one file of a listing, in their order, with these columns of [`LakeTable::schema`]; rejected records
    /// go to `rejects`. Of a file by lines a part may be asked for, which begins and ends with a line.
    pub fn one_file(
        &self,
        (listing, file): (&Listing, &LakeFile),
        part: Option<Range<u64>>,
        columns: &[usize],
        rejects: Arc<Mutex<VecDeque<Rejects>>>,
    ) -> Result<LakeScanExec> {
        let partitions = vec![listing.partitions[file.partition].clone()];
        let files = vec![LakeFile { partition: 0, ..file.clone() }];
        let (file_schema, output) = self.sources(columns)?;
        let scan = Arc::new(LakeScan {
            table: self.table.name.to_string(),
            listing: Listing { partitions, files, ..Listing::default() },
            format: self.format.clone(),
            table_columns: Arc::clone(&self.file_columns),
            file_schema,
            schema: Arc::new(self.schema.project(columns)?),
            output,
            wanted: Wanted::Rows,
            malformed: self.malformed,
            required: Vec::new(),
            predicate: None,
            stats: Arc::default(),
            rejects: Some(rejects),
            opened: Mutex::default(),
        });
        Ok(match part {
            None => LakeUnits::plan(scan, 1, None),
            Some(range) => LakeUnits::plan_part(scan, range),
        })
    }

    /// The records of a file that begin at these bytes, ascending, as they stand in it; `None` where the file is compressed
    /// or no text.
    pub async fn records_at(
        &self,
        (listing, file): (&Listing, &LakeFile),
        starts: &[u64],
    ) -> Result<Option<Vec<bytes::Bytes>>> {
        record::at((&listing.partitions[file.partition].place, file), &self.format, starts).await
    }

    /// Whether a record of this file is a line, so that what stands before a line's end can be read on its own.
    pub fn is_by_line(&self, file: &LakeFile) -> bool {
        self.format.is_by_line(&file.path)
    }

    fn plan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        listing: Listing,
        stats: Arc<ScanStats>,
    ) -> datafusion::error::Result<LakeScan> {
        let schema = project_schema(&self.schema, projection)?;
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let wanted = projection.unwrap_or(&all);
        let (file_schema, output) = match self.wanted {
            Wanted::Rows => self.sources(wanted)?,
            Wanted::Rejected => {
                (Arc::clone(&self.file_columns), wanted.iter().map(|index| Source::File(*index)).collect())
            }
        };
        let required = self.required(&file_schema);
        Ok(LakeScan {
            table: self.table.name.to_string(),
            listing,
            format: self.format.clone(),
            table_columns: Arc::clone(&self.file_columns),
            file_schema,
            schema,
            output,
            wanted: self.wanted,
            malformed: self.malformed,
            required,
            predicate: self.file_predicate(state, filters)?,
            stats,
            rejects: None,
            opened: Mutex::default(),
        })
    }

    /// Columns to read from the files for the columns wanted, and where each of these comes from. Where malformed rows
    /// are left out or become NULL, all that make a row malformed are read, so that every query judges the same rows.
    fn sources(&self, wanted: &[usize]) -> datafusion::error::Result<(SchemaRef, Vec<Source>)> {
        let files = self.file_columns.fields().len();
        let mut read: Vec<usize> = wanted.iter().copied().filter(|index| *index < files).collect();
        if self.malformed != Malformed::Fail {
            let judged = self.file_columns.fields().iter().enumerate();
            read.extend(judged.filter(|(_, field)| self.format.may_refuse(field.data_type())).map(|(index, _)| index));
            read.extend(self.not_null.iter().filter(|index| **index < files));
        }
        read.sort_unstable();
        read.dedup();
        let output = wanted.iter().map(|index| match read.binary_search(index) {
            Ok(place) => Source::File(place),
            Err(_) => Source::Constant(index - files),
        });
        Ok((Arc::new(self.file_columns.project(&read)?), output.collect()))
    }

    /// The columns of a scan that must have a value.
    fn required(&self, file_schema: &Schema) -> Vec<Required> {
        let files = self.file_columns.fields().len();
        let required = self.not_null.iter().filter_map(|index| match index.checked_sub(files) {
            Some(key) => Some(Required { name: self.keys.get(key)?.name.clone(), source: Source::Constant(key) }),
            None => {
                let name = self.file_columns.field(*index).name();
                Some(Required { name: name.clone(), source: Source::File(file_schema.index_of(name).ok()?) })
            }
        });
        required.collect()
    }

    /// The filters over columns of the files, for leaving parts of files out.
    fn file_predicate(
        &self,
        state: &dyn Session,
        filters: &[Expr],
    ) -> datafusion::error::Result<Option<Arc<dyn PhysicalExpr>>> {
        let is_file = |name: &str| self.file_columns.field_with_name(name).is_ok();
        let over_files = filters.iter().filter(|filter| {
            let columns = filter.column_refs();
            !columns.is_empty() && columns.iter().all(|column| is_file(&column.name))
        });
        let Some(predicate) = conjunction(over_files.cloned()) else { return Ok(None) };
        let schema = DFSchema::try_from(Arc::clone(&self.file_columns))?;
        Ok(Some(state.create_physical_expr(predicate, &schema)?))
    }
}

/// Adds what a scan will read, and of what, to the counters of its statement. Files that a statement still under way
/// writes may be among those stored.
fn account(stats: &ScanStats, listing: &Listing, excluded: Stored) {
    let stored = listing.stored.iter().fold(excluded, |mut total, stored| {
        total += *stored;
        total
    });
    ScanStats::add(&stats.bytes_stored, stored.bytes);
    ScanStats::add(&stats.files_total, stored.files);
    ScanStats::add(&stats.partitions_total, listing.partitions_total + stored.partitions);
    ScanStats::add(&stats.files_ignored, listing.ignored);
}

#[cfg(test)]
mod tests;
