//! A lake folder as the sink of a job.
//!
//! Invariant: nothing is visible before its checkpoint is published; what is visible is never changed.

use std::{fmt, sync::Arc};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use bytes::Bytes;
use chrono_tz::Tz;
use futures::{StreamExt, TryStreamExt};
use headwater_engine::{
    catalog::{Catalog, Column, FileFormat, IfExists, Partition, PartitionDiscovery, Properties, Storage, Table},
    connector::{
        Beside, BesideRows, Carries, ChangelogMode, CommitFacts, CommitReport, Committable, Distribution, Guarantee,
        JobContext, OpenUnit, Sink, SinkTask, SinkWriter,
    },
    error::{Error, Result},
    message::Epoch,
};

use super::{
    deliver,
    names::Names,
    options::{Overflow, PartitionPolicy, SinkOptions},
    prefix::{KeyFrom, Prefix},
    units::{Detail, Kind},
    writer::{self, Role, Target, UnitWriter},
};
use crate::lake::{
    commit::{Place, record::join, site::place_of},
    hive_type,
    stores::Stores,
    write::{
        Layout, WriteFormat,
        compress::Codec,
        format::DELIMITER,
        known::{Change, Written},
        partition::Values,
    },
};

/// Files of one commit that are written at once.
const FILES_AT_ONCE: usize = 4;

/// A folder that a job writes.
#[derive(Clone)]
pub struct FilesystemSink {
    role: Role,
    table: Table,
    options: SinkOptions,
    pub(super) format: WriteFormat,
    schema: SchemaRef,
    stores: Arc<Stores>,
    catalog: Option<Arc<dyn Catalog>>,
    /// What takes the records that this one cannot.
    errors: Option<Arc<FilesystemSink>>,
    /// What takes all records as they came.
    backup: Option<Arc<FilesystemSink>>,
    /// Places of the partition keys in the rows.
    keys: Vec<usize>,
}

/// The folder, resolved.
#[derive(Debug)]
pub(super) struct Folder {
    /// Name of the table, which Firehose's names of objects begin with.
    pub(super) stream: String,
    pub(super) role: Role,
    pub(super) time_zone: Tz,
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
        let fields = table.columns.iter().map(|column| {
            let data_type = hive_type::parse(&column.type_text)?;
            Ok(Field::new(&column.name, data_type, true))
        });
        let schema = Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?));
        let mut sink = Self::of(Role::Rows, (table, schema), options, (stores, catalog))?;
        sink.errors = sink.options.error_prefix.as_ref().map(|prefix| sink.other(Role::Errors, prefix)).transpose()?;
        sink.backup = sink.options.backup_prefix.as_ref().map(|prefix| sink.other(Role::Backup, prefix)).transpose()?;
        Ok(sink)
    }

    /// A sink beside this one: the same rules for its files, another place and other rows.
    fn other(&self, role: Role, prefix: &Prefix) -> Result<Arc<Self>> {
        let (name, data_type) = match role {
            Role::Backup => ("raw", DataType::Binary),
            Role::Errors | Role::Rows => ("line", DataType::Utf8),
        };
        let mut table = self.table.clone();
        let column = Column { name: name.into(), type_text: hive_type::text(&data_type)?, comment: None };
        (table.columns, table.partition_keys) = (vec![column], Vec::new());
        let codec = if role == Role::Backup { self.format.codec() } else { Codec::None };
        table.properties.retain(|key, _| key.starts_with("s3."));
        table.properties.insert("compression".into(), codec.name().into());
        if let (Role::Backup, Some(delimiter)) = (role, &self.options.backup_delimiter) {
            table.properties.insert(DELIMITER.into(), delimiter.clone());
        }
        table.storage = Storage {
            format: FileFormat::Raw,
            serde: None,
            serde_properties: Properties::new(),
            input_format: None,
            output_format: None,
        };
        if let Some(location) = prefix.location() {
            table.location = location.to_owned();
        }
        let options = SinkOptions {
            prefix: (role == Role::Backup).then(|| prefix.clone()),
            error_prefix: (role == Role::Errors).then(|| prefix.clone()),
            backup_prefix: None,
            keys_query: None,
            policies: Vec::new(),
            overflow: Overflow::Close,
            ..self.options.clone()
        };
        let schema = match role {
            Role::Errors => writer::error_schema(),
            Role::Rows | Role::Backup => Arc::new(Schema::new(vec![Field::new(name, data_type, true)])),
        };
        let places = (Arc::clone(&self.stores), self.catalog.clone());
        Ok(Arc::new(Self::of(role, (table, schema), options, places)?))
    }

    /// A sink with nothing beside it.
    fn of(
        role: Role,
        (table, schema): (Table, SchemaRef),
        options: SinkOptions,
        (stores, catalog): (Arc<Stores>, Option<Arc<dyn Catalog>>),
    ) -> Result<Self> {
        let mut format = WriteFormat::of(&table.storage, &table.properties)?;
        if role == Role::Backup {
            format = format.of_records();
        }
        let (errors, backup, keys) = (None, None, Vec::new());
        Ok(Self { role, table, options, format, schema, stores, catalog, errors, backup, keys })
    }

    /// The same, with the places of the partition keys in the rows it gets.
    #[must_use]
    pub fn with_keys(self, keys: Vec<usize>) -> Self {
        Self { keys, ..self }
    }

    async fn folder(&self) -> Result<Folder> {
        let place = self.stores.resolve(&self.table.location, &self.table.properties).await?;
        let (table, stores, catalog) = (&self.table, &*self.stores, self.catalog.as_deref());
        let layout = Written { table, place: &place, stores, catalog }.layout(Change::Adds).await?;
        Ok(Folder {
            stream: self.table.name.table.clone(),
            role: self.role,
            time_zone: self.options.time_zone,
            place: place_of(&place),
            layout,
            format: self.format.clone(),
            schema: self.schema.clone(),
        })
    }

    /// The folder of the error objects that this sink writes itself.
    async fn error_folder(&self) -> Result<Option<Arc<Folder>>> {
        match &self.errors {
            Some(errors) => Ok(Some(Arc::new(errors.folder().await?))),
            None => Ok(None),
        }
    }

    /// What Firehose's definition asks for can be done with these columns.
    fn check_prefix(&self, prefix: &Prefix) -> Result<()> {
        let name = &self.table.name.table;
        if !self.table.partition_keys.is_empty() {
            let message = format!("table \"{name}\" has both 'sink.prefix' and PARTITIONED BY");
            return Err(Error::user("INVALID_TABLE_PROPERTY", message)
                .with_hint("name the columns in the prefix, as !{partitionKeyFromQuery:column}"));
        }
        let is_column = |name: &str| self.schema.fields().iter().any(|field| field.name().eq_ignore_ascii_case(name));
        let of_query = |from| from == KeyFrom::Query && self.options.keys_query.is_some();
        let unknown = prefix.keys().find(|key| !of_query(key.from) && !is_column(&key.name));
        let Some(key) = unknown else { return Ok(()) };
        let message = format!("'sink.prefix' names column \"{}\", which table \"{name}\" has not", key.name);
        Err(Error::user("COLUMN_NOT_FOUND", message)
            .with_hint("a partition key is a column here, unless 'sink.partition-keys-query' gives it"))
    }

    /// The names its files can have.
    pub(super) fn names(&self) -> Names {
        Names::of(&self.table.location)
    }

    /// Where the partitions are now.
    pub(super) async fn layout(&self) -> Result<Layout> {
        Ok(self.folder().await?.layout)
    }

    /// Registers partitions that are not known yet.
    async fn register(&self, folder: &Folder, mut partitions: Vec<Values>) -> Result<()> {
        let Some(catalog) = &self.catalog else { return Ok(()) };
        partitions.retain(|values| folder.layout.is_new(values));
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
                PartitionPolicy::Metastore => self.register(folder, vec![values.clone()]).await?,
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

    fn carries(&self) -> Carries {
        match &self.options {
            _ if self.role != Role::Rows => Carries::Nothing,
            options if options.keys_query.is_some() || options.error_prefix.is_some() => Carries::Record,
            options if options.prefix.is_some() => Carries::Arrival,
            _ => Carries::Nothing,
        }
    }

    fn needs_records(&self) -> bool {
        self.options.keys_query.is_some()
    }

    fn beside(&self) -> Vec<Beside> {
        let beside = |name, takes, sink: &Option<Arc<Self>>| {
            sink.as_ref().map(|sink| Beside { name, takes, sink: Arc::clone(sink) as Arc<dyn Sink> })
        };
        let errors = beside("errors", BesideRows::Rejected, &self.errors);
        errors.into_iter().chain(beside("backup", BesideRows::Records, &self.backup)).collect()
    }

    /// A partition that is declared complete is in one writer's hands, which knows all of its files.
    fn distribution(&self) -> Distribution {
        match self.options.policies.is_empty() || self.keys.is_empty() {
            true => Distribution::Any,
            false => Distribution::ByKey(self.keys.clone()),
        }
    }

    async fn check(&self, job: &JobContext, schema: SchemaRef) -> Result<()> {
        if self.role == Role::Rows {
            let has = |name: &str| schema.fields().iter().any(|field| field.name().eq_ignore_ascii_case(name));
            let all = self.table.columns.iter().chain(&self.table.partition_keys);
            if let Some(column) = all.into_iter().find(|column| !has(&column.name)) {
                return Err(Error::internal(format!("rows without column \"{}\"", column.name)));
            }
            self.options.prefix.as_ref().map_or(Ok(()), |prefix| self.check_prefix(prefix))?;
        }
        deliver::probe(&self.folder().await?, job).await
    }

    async fn writer(&self, job: &JobContext, task: SinkTask, open: Vec<OpenUnit>) -> Result<Box<dyn SinkWriter>> {
        let target = Target {
            role: self.role,
            options: self.options.clone(),
            layout: self.layout().await?,
            sink: self.clone(),
            table: self.table.name.clone(),
            files: self.table.columns.iter().map(|column| column.name.clone()).collect(),
            ends_lines: self.format.ends_lines(),
        };
        Ok(Box::new(UnitWriter::new(target, job, &task, open)?))
    }

    async fn recover(&self, job: &JobContext, _facts: &CommitFacts) -> Result<()> {
        deliver::clean(&self.folder().await?, job).await
    }

    async fn commit(&self, job: &JobContext, epoch: Epoch, work: Vec<Committable>) -> Result<CommitReport> {
        if work.is_empty() {
            return Ok(CommitReport::default());
        }
        let (folder, errors) = (Arc::new(self.folder().await?), self.error_folder().await?);
        let (mut files, mut complete, mut partitions) = (Vec::new(), Vec::new(), Vec::new());
        for unit in work {
            let detail = Detail::parse(&unit.detail)?;
            match detail.kind {
                Kind::File => {
                    partitions.push(detail.values);
                    files.push((Arc::clone(&folder), unit));
                }
                Kind::Error => {
                    let errors =
                        errors.as_ref().ok_or_else(|| Error::internal("error objects without their folder"))?;
                    files.push((Arc::clone(errors), unit));
                }
                Kind::Partition => complete.push(detail.values),
            }
        }
        let written = futures::stream::iter(files).map(|(folder, unit)| deliver::file(folder, job, epoch, unit));
        let rows: Vec<u64> = written.buffer_unordered(FILES_AT_ONCE).try_collect().await?;
        if self.registers_at_once() {
            partitions.sort();
            partitions.dedup();
            self.register(&folder, partitions).await?;
        }
        for values in complete {
            self.declare(&folder, &values).await?;
        }
        Ok(CommitReport { refused: Vec::new(), rows: rows.into_iter().sum() })
    }
}
