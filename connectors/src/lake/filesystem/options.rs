//! The options of a `filesystem` table, under Flink's names, and the lake table they describe.
//!
//! Invariant: what the table's storage says comes from the same place for batch and for jobs: a [`Table`].

use std::time::Duration;

use arrow::datatypes::{DataType, TimeUnit};
use chrono_tz::Tz;
use headwater_engine::{
    catalog::{Column, FileFormat, PartitionDiscovery, Properties, Storage, Table, TableKind, TableName},
    connector::TableSpec,
    error::{Error, Result},
};

use super::{
    keys_query::KeysQuery,
    partition_time::TimeExtractor,
    prefix::{Prefix, Purpose},
};
use crate::{
    formats,
    lake::{
        hive_type,
        write::format::{DELIMITER, NULL_LITERAL},
    },
    options::Options,
};

/// When files close and partitions are declared complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkOptions {
    /// Bytes of a file's rows, as they wait in the outbox, at which it closes.
    pub file_bytes: u64,
    /// Age at which it closes.
    pub rollover: Duration,
    /// Time without a row after which it closes.
    pub inactivity: Duration,
    /// Partitions with an open file, per task.
    pub open_max: usize,
    /// What happens beyond.
    pub overflow: Overflow,
    /// What declares a partition complete.
    pub policies: Vec<PartitionPolicy>,
    /// When that is done.
    pub trigger: Trigger,
    /// How long after its first file, or after its time, that is done.
    pub delay: Duration,
    /// Name of the file that says so.
    pub success_file: String,
    /// Where objects go instead of partition folders.
    pub prefix: Option<Prefix>,
    /// Where error objects go; without it refused rows are in the accounts alone.
    pub error_prefix: Option<Prefix>,
    /// Where source records are kept as they came.
    pub backup_prefix: Option<Prefix>,
    /// JQ that takes partition keys from the raw record.
    pub keys_query: Option<String>,
    /// How objects are named.
    pub object_names: ObjectNames,
    /// Whose clocks the times in prefixes and names are read from.
    pub time_zone: Tz,
    /// What stands after each row of a file, where that is not a line end.
    pub delimiter: Option<String>,
    /// What stands after each record of a backup, where that is not a line end.
    pub backup_delimiter: Option<String>,
}

/// How objects are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectNames {
    /// `part-<job>-<incarnation>-<generation>-<epoch>-<task>-<n>`.
    Part,
    /// `<table>-1-<arrival of the oldest row>-<uuid>`, as Firehose names them.
    Firehose,
}

/// What happens to a row of one partition too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// The least recently written file closes.
    Close,
    /// The row is refused.
    Error,
}

/// When a partition is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// Some time after its first file.
    ProcessTime,
    /// When the watermark has passed its time.
    PartitionTime(TimeExtractor),
}

/// How a complete partition is declared so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionPolicy {
    /// It is registered in the catalog.
    Metastore,
    /// An empty file is put into its folder.
    SuccessFile,
}

impl Default for SinkOptions {
    fn default() -> Self {
        Self {
            file_bytes: 128 << 20,
            rollover: Duration::from_secs(30 * 60),
            inactivity: Duration::from_secs(5 * 60),
            open_max: 500,
            overflow: Overflow::Close,
            policies: Vec::new(),
            trigger: Trigger::ProcessTime,
            delay: Duration::ZERO,
            success_file: "_SUCCESS".into(),
            prefix: None,
            error_prefix: None,
            backup_prefix: None,
            keys_query: None,
            object_names: ObjectNames::Part,
            time_zone: Tz::UTC,
            delimiter: None,
            backup_delimiter: None,
        }
    }
}

impl SinkOptions {
    /// The options among the properties of a table, whose other properties are left alone.
    pub fn of_properties(properties: &Properties) -> Result<Self> {
        let is_ours = |key: &&String| key.starts_with("sink.") || key.starts_with("partition.time-extractor.");
        let ours = properties.keys().filter(is_ours).map(|key| (key.clone(), properties[key].clone())).collect();
        let mut options = Options::new("t", &ours);
        let taken = Self::take(&mut options)?;
        options.finish()?;
        Ok(taken)
    }

    fn take(options: &mut Options) -> Result<Self> {
        let default = Self::default();
        let by_time =
            options.choice("sink.partition-commit.trigger", &[("process-time", false), ("partition-time", true)])?;
        let extractor = TimeExtractor::take(options)?;
        let trigger = if by_time.unwrap_or(false) { Trigger::PartitionTime(extractor) } else { Trigger::ProcessTime };
        let policies = match options.text("sink.partition-commit.policy.kind") {
            None => Vec::new(),
            Some(kinds) => kinds.split(',').map(|kind| policy(kind.trim())).collect::<Result<_>>()?,
        };
        let mut take_prefix =
            |purpose: Purpose| options.text(purpose.option()).map(|text| Prefix::parse(&text, purpose)).transpose();
        let prefix = take_prefix(Purpose::Rows)?;
        let (error_prefix, backup_prefix) = (take_prefix(Purpose::Errors)?, take_prefix(Purpose::Backup)?);
        let keys_query = options.text("sink.partition-keys-query");
        if let Some(query) = &keys_query {
            KeysQuery::parse(query)?;
        }
        let names = [("part", ObjectNames::Part), ("firehose", ObjectNames::Firehose)];
        let usual = if prefix.is_some() { ObjectNames::Firehose } else { ObjectNames::Part };
        if prefix.is_some() && !policies.is_empty() {
            let message = "'sink.prefix' and 'sink.partition-commit.policy.kind' exclude each other";
            return Err(Error::user("INVALID_TABLE_PROPERTY", message)
                .with_hint("declare PARTITIONED BY columns instead of a prefix"));
        }
        let overflow = [("close", Overflow::Close), ("error", Overflow::Error)];
        Ok(Self {
            file_bytes: options.size("sink.rolling-policy.file-size")?.unwrap_or(default.file_bytes),
            rollover: options.duration("sink.rolling-policy.rollover-interval")?.unwrap_or(default.rollover),
            inactivity: options.duration("sink.rolling-policy.inactivity-interval")?.unwrap_or(default.inactivity),
            open_max: match options.number("sink.partition.max-open")? {
                Some(number) => usize::try_from(number).unwrap_or(usize::MAX).max(1),
                None => default.open_max,
            },
            overflow: options.choice("sink.partition.overflow", &overflow)?.unwrap_or(default.overflow),
            policies,
            trigger,
            delay: options.duration("sink.partition-commit.delay")?.unwrap_or(default.delay),
            success_file: options.text("sink.partition-commit.success-file.name").unwrap_or(default.success_file),
            prefix,
            error_prefix,
            backup_prefix,
            keys_query,
            object_names: options.choice("sink.object-names", &names)?.unwrap_or(usual),
            time_zone: time_zone(options)?.unwrap_or(default.time_zone),
            delimiter: options.text(DELIMITER),
            backup_delimiter: options.text("sink.backup-delimiter"),
        })
    }
}

fn time_zone(options: &mut Options) -> Result<Option<Tz>> {
    let Some(name) = options.text("sink.time-zone") else { return Ok(None) };
    let wanted = "the name of a time zone, such as 'America/New_York'";
    name.trim().parse().map(Some).map_err(|_| options.invalid("sink.time-zone", &name, wanted))
}

fn policy(kind: &str) -> Result<PartitionPolicy> {
    match kind {
        "metastore" => Ok(PartitionPolicy::Metastore),
        "success-file" => Ok(PartitionPolicy::SuccessFile),
        _ => {
            let message = format!("'sink.partition-commit.policy.kind' cannot be '{kind}'");
            Err(Error::user("INVALID_TABLE_PROPERTY", message).with_hint("use 'metastore', 'success-file', or both"))
        }
    }
}

/// How a folder is watched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceOptions {
    /// How often it is listed; `None` reads what is there once.
    pub monitor_interval: Option<Duration>,
    /// Whether a file that is overwritten is read again.
    pub reprocess: bool,
    /// Whether local files by lines are read while they grow.
    pub growing: bool,
}

impl SourceOptions {
    /// The options among the properties of a table, whose other properties are left alone.
    pub fn of_properties(properties: &Properties) -> Result<Self> {
        let is_ours = |key: &&String| key.starts_with("source.");
        let ours = properties.keys().filter(is_ours).map(|key| (key.clone(), properties[key].clone())).collect();
        let mut options = Options::new("t", &ours);
        let taken = Self::take(&mut options)?;
        options.finish()?;
        Ok(taken)
    }

    fn take(options: &mut Options) -> Result<Self> {
        let overwritten = [("ignore", false), ("reprocess", true)];
        Ok(Self {
            monitor_interval: options.duration("source.monitor-interval")?,
            reprocess: options.choice("source.overwritten", &overwritten)?.unwrap_or_default(),
            growing: options.flag("source.growing-files")?.unwrap_or_default(),
        })
    }
}

/// Options of reading that become properties of the table.
const OF_READING: &[&str] = &[
    "malformed",
    "coercion",
    "json.path",
    "json.timestamp-format.standard",
    "json.timestamp-unit",
    "json.encode.ignore-null-fields",
    "csv.field-delimiter",
    "csv.quote-character",
    "csv.escape-character",
    "csv.header",
    "csv.fields-min",
    NULL_LITERAL,
];

/// The lake table that a `filesystem` table is, and its options as a source and as a sink.
pub(super) fn of_spec(spec: &TableSpec) -> Result<(Table, SourceOptions, SinkOptions)> {
    if !spec.primary_key.is_empty() {
        return Err(Error::not_supported(format!("table \"{}\": files have no PRIMARY KEY", spec.name)));
    }
    let mut options = Options::new(&spec.name, &spec.options);
    options.accept(&["connector", "scan.bounded.mode", "sink.rolling-policy.check-interval"]);
    if options.flag("auto-compaction")?.unwrap_or(false) {
        return Err(options.invalid("auto-compaction", "true", "false").with_hint(
            "files are as large as 'sink.rolling-policy.*' lets them become; they are not put together afterwards",
        ));
    }
    let location = options.required("path")?;
    let formats = [
        ("json", FileFormat::Json),
        ("csv", FileFormat::Csv),
        ("parquet", FileFormat::Parquet),
        ("raw", FileFormat::Raw),
    ];
    let Some(format) = options.choice("format", &formats)? else {
        return Err(Error::user(
            "INVALID_TABLE_PROPERTY",
            format!("table \"{}\" needs the option 'format'", spec.name),
        )
        .with_hint("use 'json', 'csv', 'parquet' or 'raw'"));
    };
    let mut properties = Properties::new();
    let compression = options.text("compression");
    if format != FileFormat::Parquet {
        properties.insert("compression".into(), compression.unwrap_or_else(|| "none".into()));
    } else if let Some(codec) = options.text("parquet.compression").or(compression) {
        properties.insert("parquet.compression".into(), codec);
    }
    let of_stores = options.prefixed("s3.");
    properties.extend(of_stores.into_iter().map(|(key, value)| (format!("s3.{key}"), value)));
    formats::check_json(&mut options)?;
    for key in OF_READING {
        if let Some(value) = options.text(key) {
            properties.insert((*key).to_owned(), value);
        }
    }
    let source = SourceOptions::take(&mut options)?;
    let sink = SinkOptions::take(&mut options)?;
    options.finish()?;
    if let Some(delimiter) = &sink.delimiter {
        properties.insert(DELIMITER.into(), delimiter.clone());
    }
    if sink.policies.contains(&PartitionPolicy::Metastore) {
        let message = format!("table \"{}\" is in no catalog, so its partitions cannot be registered", spec.name);
        return Err(Error::not_supported(message).with_hint("declare it with CREATE EXTERNAL TABLE"));
    }
    let (columns, partition_keys) = columns(spec)?;
    let storage =
        Storage { format, serde: None, serde_properties: Properties::new(), input_format: None, output_format: None };
    let table = Table {
        name: TableName::new("default", &spec.name),
        kind: TableKind::External,
        columns,
        partition_keys,
        storage,
        location,
        discovery: PartitionDiscovery::Discovered,
        properties,
        comment: None,
        version: 0,
    };
    Ok((table, source, sink))
}

/// The Hive spelling of a type, with the precision of timestamps.
fn type_text(data_type: &DataType) -> Result<String> {
    Ok(match data_type {
        DataType::Timestamp(TimeUnit::Microsecond, None) => "timestamp(6)".into(),
        DataType::Timestamp(TimeUnit::Nanosecond, None) => "timestamp(9)".into(),
        other => hive_type::text(other)?,
    })
}

fn columns(spec: &TableSpec) -> Result<(Vec<Column>, Vec<Column>)> {
    let physical = spec.physical_schema();
    let column = |name: &str| -> Result<Column> {
        let field = physical.field_with_name(name).map_err(|_| {
            let message = format!("table \"{}\": partition key \"{name}\" is not a column", spec.name);
            Error::user("COLUMN_NOT_FOUND", message)
        })?;
        Ok(Column { name: name.to_owned(), type_text: type_text(field.data_type())?, comment: None })
    };
    let is_key = |name: &str| spec.partitioned_by.iter().any(|key| key.eq_ignore_ascii_case(name));
    let names = physical.fields().iter().map(|field| field.name().as_str());
    let files = names.filter(|name| !is_key(name)).map(column).collect::<Result<_>>()?;
    let keys = spec.partitioned_by.iter().map(|key| column(key)).collect::<Result<_>>()?;
    Ok((files, keys))
}
