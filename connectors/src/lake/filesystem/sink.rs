//! A lake folder as the sink of a job.
//!
//! Invariant: nothing is visible before its checkpoint is published; what is visible is never changed.

use std::{fmt, sync::Arc};

use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use headwater_engine::{
    catalog::{Catalog, IfExists, Partition, PartitionDiscovery, Table},
    connector::{
        ChangelogMode, CommitFacts, CommitReport, Committable, Guarantee, JobContext, OpenUnit, Sink, SinkTask,
        SinkWriter,
    },
    error::{Error, Result},
    message::Epoch,
};

use super::{
    deliver,
    options::{PartitionPolicy, SinkOptions},
    units::{Detail, Kind, UnitWriter},
};
use crate::lake::{
    commit::{Place, record::join, site::place_of},
    hive_type,
    stores::Stores,
    write::{Layout, WriteFormat, partition::Values},
};

/// Files of one commit that are written at once.
const FILES_AT_ONCE: usize = 4;

/// A folder that a job writes.
pub struct FilesystemSink {
    table: Table,
    options: SinkOptions,
    format: WriteFormat,
    schema: SchemaRef,
    stores: Arc<Stores>,
    catalog: Option<Arc<dyn Catalog>>,
}

/// The folder, resolved.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) place: Arc<dyn Place>,
    pub(super) layout: Layout,
    pub(super) format: WriteFormat,
    pub(super) schema: SchemaRef,
}

impl fmt::Debug for FilesystemSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilesystemSink").field("location", &self.table.location).finish_non_exhaustive()
    }
}

impl fmt::Display for FilesystemSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "filesystem {}", self.table.location)
    }
}

impl FilesystemSink {
    /// A sink into the folder of a table; new partitions are registered in `catalog` if the table's are.
    pub fn new(
        table: Table,
        options: SinkOptions,
        stores: Arc<Stores>,
        catalog: Option<Arc<dyn Catalog>>,
    ) -> Result<Self> {
        let format = WriteFormat::of(&table.storage, &table.properties)?;
        let fields = table.columns.iter().map(|column| {
            let data_type = hive_type::parse(&column.type_text)?;
            Ok(Field::new(&column.name, data_type, true))
        });
        let schema = Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?));
        Ok(Self { table, options, format, schema, stores, catalog })
    }

    async fn folder(&self) -> Result<Folder> {
        let place = self.stores.resolve(&self.table.location, &self.table.properties).await?;
        let mut layout = Layout::flat(place.path.to_string());
        layout.keys = self.table.partition_keys.iter().map(|key| key.name.clone()).collect();
        Ok(Folder { place: place_of(&place), layout, format: self.format.clone(), schema: self.schema.clone() })
    }

    /// Columns of the files, then keys, as indices of a row's columns.
    fn projection(&self, rows: &Schema) -> Result<Vec<usize>> {
        let all = self.table.columns.iter().chain(&self.table.partition_keys);
        let index = |name: &str| {
            let found = rows.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name));
            found.ok_or_else(|| Error::internal(format!("rows without column \"{name}\"")))
        };
        all.map(|column| index(&column.name)).collect()
    }

    async fn register(&self, partitions: Vec<Values>) -> Result<()> {
        let Some(catalog) = &self.catalog else { return Ok(()) };
        if partitions.is_empty() || self.table.partition_keys.is_empty() {
            return Ok(());
        }
        let partition = |values| Partition { values, location: None, columns: None, properties: Default::default() };
        let partitions = partitions.into_iter().map(partition).collect();
        catalog.add_partitions(&self.table.name, partitions, IfExists::Keep).await.map(drop)
    }

    async fn declare(&self, folder: &Folder, values: &Values) -> Result<()> {
        for policy in &self.options.policies {
            match policy {
                PartitionPolicy::Metastore => self.register(vec![values.clone()]).await?,
                PartitionPolicy::SuccessFile => {
                    let path = join(&folder.layout.folder(values), &self.options.success_file);
                    folder.place.create(&path, Bytes::new()).await?;
                }
            }
        }
        Ok(())
    }

    /// Partitions of a registered table are registered with their first file, unless a policy says when.
    fn registers_at_once(&self) -> bool {
        self.table.discovery == PartitionDiscovery::Registered
            && !self.options.policies.contains(&PartitionPolicy::Metastore)
    }
}

#[async_trait]
impl Sink for FilesystemSink {
    fn accepts(&self) -> ChangelogMode {
        ChangelogMode::Append
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    async fn check(&self, job: &JobContext, schema: SchemaRef) -> Result<()> {
        self.projection(&schema)?;
        if let Some(prefix) = &self.options.prefix {
            if !self.table.partition_keys.is_empty() {
                let message = format!("table \"{}\" has both 'sink.prefix' and PARTITIONED BY", self.table.name.table);
                return Err(Error::user("INVALID_TABLE_PROPERTY", message)
                    .with_hint("name the columns in the prefix, as !{partitionKeyFromQuery:column}"));
            }
            prefix.check(&self.schema)?;
        }
        deliver::probe(&self.folder().await?, job).await
    }

    async fn writer(&self, job: &JobContext, task: SinkTask, open: Vec<OpenUnit>) -> Result<Box<dyn SinkWriter>> {
        let layout = self.folder().await?.layout;
        let projection = self.projection(&task.schema)?;
        Ok(Box::new(UnitWriter::new(self.options.clone(), layout, projection, job, &task, open)?))
    }

    async fn recover(&self, job: &JobContext, _facts: &CommitFacts) -> Result<()> {
        deliver::clean(&self.folder().await?, job).await
    }

    async fn commit(&self, job: &JobContext, epoch: Epoch, work: Vec<Committable>) -> Result<CommitReport> {
        if work.is_empty() {
            return Ok(CommitReport::default());
        }
        let folder = self.folder().await?;
        let (mut files, mut complete, mut partitions) = (Vec::new(), Vec::new(), Vec::new());
        for unit in work {
            let detail = Detail::parse(&unit.detail)?;
            match detail.kind {
                Kind::File => {
                    partitions.push(detail.values);
                    files.push(unit);
                }
                Kind::Partition => complete.push(detail.values),
            }
        }
        let written = futures::stream::iter(files).map(|unit| deliver::file(&folder, job, epoch, unit));
        let rows: Vec<u64> = written.buffer_unordered(FILES_AT_ONCE).try_collect().await?;
        if self.registers_at_once() {
            partitions.sort();
            partitions.dedup();
            self.register(partitions).await?;
        }
        for values in complete {
            self.declare(&folder, &values).await?;
        }
        Ok(CommitReport { refused: Vec::new(), rows: rows.into_iter().sum() })
    }
}
