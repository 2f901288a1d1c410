//! The options of a Kafka table, under Flink's names.
//!
//! Invariant: everything is checked here, before a client exists; a secret of `properties.*` is in no message.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use arrow::datatypes::{Field, Schema, SchemaRef};
use headwater_engine::{
    catalog::Properties,
    connector::{ChangelogMode, TableSpec},
    error::{Error, Result},
};

use super::Mode;
use crate::{
    formats::{self, Part, TableFormat},
    options::{Options, nearest},
};

/// Offset of each partition, for `specific-offsets`.
pub(super) type PartitionOffsets = BTreeMap<i32, i64>;

/// `scan.startup.mode`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Startup {
    Earliest,
    Latest,
    GroupOffsets,
    Timestamp(i64),
    Specific(PartitionOffsets),
}

/// `scan.bounded.mode`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Until {
    Unbounded,
    Latest,
    GroupOffsets,
    Timestamp(i64),
    Specific(PartitionOffsets),
}

/// What to do when the broker no longer has an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnOffsetLost {
    Fail,
    Earliest,
    Latest,
}

/// `sink.delivery-guarantee`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    None,
    AtLeastOnce,
    ExactlyOnce,
}

/// `sink.on-marker-lost`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnMarkerLost {
    Fail,
    Redeliver,
    Skip,
}

/// Which topics.
#[derive(Debug, Clone)]
pub(super) enum Topics {
    Named(Vec<String>),
    Pattern(String),
}

/// All options of a table, both directions.
#[derive(Debug, Clone)]
pub(super) struct KafkaOptions {
    pub(super) table: String,
    pub(super) topics: Topics,
    pub(super) properties: Properties,
    pub(super) startup: Startup,
    pub(super) until: Until,
    pub(super) on_offset_lost: OnOffsetLost,
    pub(super) discovery: Option<Duration>,
    pub(super) value_format: TableFormat,
    pub(super) key_format: Option<TableFormat>,
    /// Columns of the key, in its order.
    pub(super) key_fields: Vec<String>,
    /// What their names in the table have before those in the key.
    pub(super) key_prefix: String,
    /// Whether they are in the value too.
    pub(super) key_in_value: bool,
    pub(super) delivery: Delivery,
    pub(super) transactional_id_prefix: Option<String>,
    pub(super) on_marker_lost: OnMarkerLost,
    pub(super) transaction_bytes: u64,
}

const DISCOVERY_DEFAULT: Duration = Duration::from_secs(1);
const TRANSACTION_BYTES_DEFAULT: u64 = 32 << 20;

impl KafkaOptions {
    pub(super) fn parse(table: &TableSpec, mode: Mode) -> Result<Self> {
        let mut options = Options::new(&table.name, &table.options);
        options.accept(&["connector"]);
        let properties = properties(&mut options, &table.name)?;
        let topics = topics(&mut options, &table.name)?;
        let startup = startup(&mut options, mode)?;
        let until = until(&mut options)?;
        let on_offset_lost = options.choice(
            "scan.on-offset-lost",
            &[("fail", OnOffsetLost::Fail), ("earliest", OnOffsetLost::Earliest), ("latest", OnOffsetLost::Latest)],
        )?;
        let discovery = options.duration("scan.topic-partition-discovery.interval")?.unwrap_or(DISCOVERY_DEFAULT);
        let KeyAndValue { key_fields, key_prefix, key_in_value, key_format, value_format } =
            fields_and_formats(&mut options, table, mode, &topics)?;
        partitioner(&mut options)?;
        let parsed = Self {
            table: table.name.clone(),
            topics,
            properties,
            startup,
            until,
            on_offset_lost: on_offset_lost.unwrap_or(OnOffsetLost::Fail),
            discovery: (!discovery.is_zero()).then_some(discovery),
            value_format,
            key_format,
            key_fields,
            key_prefix,
            key_in_value,
            delivery: delivery(&mut options)?,
            transactional_id_prefix: options.text("sink.transactional-id-prefix"),
            on_marker_lost: marker_lost(&mut options)?,
            transaction_bytes: options.size("sink.transaction.max-size")?.unwrap_or(TRANSACTION_BYTES_DEFAULT),
        };
        options.finish()?;
        Ok(parsed)
    }

    /// The one topic a sink writes to.
    pub(super) fn sink_topic(&self) -> Result<&str> {
        match &self.topics {
            Topics::Named(names) if names.len() == 1 => Ok(&names[0]),
            _ => Err(Error::user(
                "INVALID_TABLE_PROPERTY",
                format!("table \"{}\": a sink writes to one topic", self.table),
            )
            .with_hint("give 'topic' a single name")),
        }
    }

    /// The brokers a client asks first, in an order of their own.
    pub(super) fn servers(&self) -> String {
        let given = self.properties.get("bootstrap.servers").map(String::as_str).unwrap_or_default();
        let servers: BTreeSet<&str> = given.split(',').map(str::trim).filter(|server| !server.is_empty()).collect();
        servers.into_iter().collect::<Vec<_>>().join(",")
    }
}

fn properties(options: &mut Options, table: &str) -> Result<Properties> {
    let properties = options.prefixed("properties.");
    if !properties.contains_key("bootstrap.servers") {
        return Err(Error::user(
            "INVALID_TABLE_PROPERTY",
            format!("table \"{table}\" needs the option 'properties.bootstrap.servers'"),
        )
        .with_hint("add 'properties.bootstrap.servers' = 'host:port' to its WITH clause"));
    }
    let kerberos = properties.get("sasl.mechanism").or_else(|| properties.get("sasl.mechanisms"));
    if kerberos.is_some_and(|mechanism| mechanism.eq_ignore_ascii_case("GSSAPI")) {
        return Err(Error::not_supported(format!("table \"{table}\": kerberos (GSSAPI) is not supported"))
            .with_hint("use SASL PLAIN or SCRAM over TLS"));
    }
    Ok(properties)
}

fn topics(options: &mut Options, table: &str) -> Result<Topics> {
    match (options.text("topic"), options.text("topic-pattern")) {
        (Some(names), None) => Ok(Topics::Named(names.split(';').map(|name| name.trim().to_owned()).collect())),
        (None, Some(pattern)) => Ok(Topics::Pattern(pattern)),
        (Some(_), Some(_)) => Err(Error::user(
            "INVALID_TABLE_PROPERTY",
            format!("table \"{table}\": 'topic' and 'topic-pattern' exclude each other"),
        )),
        (None, None) => {
            Err(Error::user("INVALID_TABLE_PROPERTY", format!("table \"{table}\" needs the option 'topic'"))
                .with_hint("add 'topic' = '..' or 'topic-pattern' = '..' to its WITH clause"))
        }
    }
}

#[derive(Clone, Copy)]
enum Mark {
    Earliest,
    Latest,
    Group,
    Timestamp,
    Specific,
    Unbounded,
}

fn startup(options: &mut Options, mode: Mode) -> Result<Startup> {
    let choices = [
        ("earliest-offset", Mark::Earliest),
        ("latest-offset", Mark::Latest),
        ("group-offsets", Mark::Group),
        ("timestamp", Mark::Timestamp),
        ("specific-offsets", Mark::Specific),
    ];
    let default = if mode == Mode::Upsert { Mark::Earliest } else { Mark::Group };
    let mark = options.choice("scan.startup.mode", &choices)?.unwrap_or(default);
    let timestamp = options.text("scan.startup.timestamp-millis");
    let specific = options.text("scan.startup.specific-offsets");
    Ok(match mark {
        Mark::Earliest => Startup::Earliest,
        Mark::Latest => Startup::Latest,
        Mark::Timestamp => Startup::Timestamp(millis(options, "scan.startup.timestamp-millis", timestamp)?),
        Mark::Specific => Startup::Specific(offsets(options, "scan.startup.specific-offsets", specific)?),
        Mark::Group | Mark::Unbounded => Startup::GroupOffsets,
    })
}

fn until(options: &mut Options) -> Result<Until> {
    let choices = [
        ("unbounded", Mark::Unbounded),
        ("latest-offset", Mark::Latest),
        ("group-offsets", Mark::Group),
        ("timestamp", Mark::Timestamp),
        ("specific-offsets", Mark::Specific),
    ];
    let mark = options.choice("scan.bounded.mode", &choices)?.unwrap_or(Mark::Unbounded);
    let timestamp = options.text("scan.bounded.timestamp-millis");
    let specific = options.text("scan.bounded.specific-offsets");
    Ok(match mark {
        Mark::Latest => Until::Latest,
        Mark::Group => Until::GroupOffsets,
        Mark::Timestamp => Until::Timestamp(millis(options, "scan.bounded.timestamp-millis", timestamp)?),
        Mark::Specific => Until::Specific(offsets(options, "scan.bounded.specific-offsets", specific)?),
        Mark::Unbounded | Mark::Earliest => Until::Unbounded,
    })
}

fn millis(options: &Options, key: &str, text: Option<String>) -> Result<i64> {
    let text = text.unwrap_or_default();
    text.trim().parse().map_err(|_| options.invalid(key, &text, "milliseconds since 1970"))
}

/// `partition:0,offset:42;partition:1,offset:300`
fn offsets(options: &Options, key: &str, text: Option<String>) -> Result<PartitionOffsets> {
    let text = text.unwrap_or_default();
    let pair = |part: &str| {
        let (partition, offset) = part.trim().split_once(',')?;
        let partition = partition.trim().strip_prefix("partition:")?.trim().parse().ok()?;
        Some((partition, offset.trim().strip_prefix("offset:")?.trim().parse().ok()?))
    };
    let parsed: Option<PartitionOffsets> = text.split(';').filter(|part| !part.trim().is_empty()).map(pair).collect();
    parsed
        .filter(|offsets| !offsets.is_empty())
        .ok_or_else(|| options.invalid(key, &text, "of the form 'partition:0,offset:42;partition:1,offset:300'"))
}

fn delivery(options: &mut Options) -> Result<Delivery> {
    let choices =
        [("none", Delivery::None), ("at-least-once", Delivery::AtLeastOnce), ("exactly-once", Delivery::ExactlyOnce)];
    Ok(options.choice("sink.delivery-guarantee", &choices)?.unwrap_or(Delivery::ExactlyOnce))
}

/// Rows go to partitions by their key, which is what Flink's default does.
fn partitioner(options: &mut Options) -> Result<()> {
    match options.text("sink.partitioner") {
        Some(named) if !named.trim().eq_ignore_ascii_case("default") => {
            Err(options.invalid("sink.partitioner", &named, "default").with_hint(
                "rows go to partitions by their key ('key.fields'), those without one to any; set 'default' or leave it out",
            ))
        }
        Some(_) | None => Ok(()),
    }
}

fn marker_lost(options: &mut Options) -> Result<OnMarkerLost> {
    let choices = [("fail", OnMarkerLost::Fail), ("redeliver", OnMarkerLost::Redeliver), ("skip", OnMarkerLost::Skip)];
    Ok(options.choice("sink.on-marker-lost", &choices)?.unwrap_or(OnMarkerLost::Fail))
}

struct KeyAndValue {
    key_fields: Vec<String>,
    key_prefix: String,
    key_in_value: bool,
    key_format: Option<TableFormat>,
    value_format: TableFormat,
}

fn fields_and_formats(options: &mut Options, table: &TableSpec, mode: Mode, topics: &Topics) -> Result<KeyAndValue> {
    let key_fields = key_fields(options, table, mode)?;
    let key_in_value = options.choice("value.fields-include", &[("ALL", true), ("EXCEPT_KEY", false)])?.unwrap_or(true);
    let key_prefix = options.text("key.fields-prefix").unwrap_or_default();
    check_prefix(table, &key_fields, &key_prefix, key_in_value)?;
    let subject = |of: &str| match topics {
        Topics::Named(names) if names.len() == 1 => Some(format!("{}-{of}", names[0])),
        _ => None,
    };
    let physical = table.physical_schema();
    let in_value = |index: &usize| key_in_value || !key_fields.contains(physical.field(*index).name());
    let value: Vec<usize> = (0..physical.fields().len()).filter(in_value).collect();
    let is_keyed = mode == Mode::Append && !table.primary_key.is_empty();
    let part = Part { columns: Arc::new(physical.project(&value)?), is_keyed, subject: subject("value") };
    let value_format =
        formats::from_options(options, &["format", "value.format"], "value.", &part)?.ok_or_else(|| {
            Error::user("INVALID_TABLE_PROPERTY", format!("table \"{}\" needs the option 'format'", table.name))
                .with_hint("add 'format' = 'json' to its WITH clause")
        })?;
    let part =
        Part { columns: key_schema(&physical, &key_fields, &key_prefix)?, is_keyed: false, subject: subject("key") };
    let key_format = formats::from_options(options, &["key.format"], "key.", &part)?;
    let key_format = match (key_format, key_fields.is_empty()) {
        (None, false) => formats::from_options(options, &["format", "value.format"], "key.", &part)?,
        (Some(_), true) => {
            let message = format!("table \"{}\" has 'key.format' but no key columns", table.name);
            return Err(Error::user("INVALID_TABLE_PROPERTY", message).with_hint("name them with 'key.fields'"));
        }
        (format, _) => format,
    };
    let changes = |format: &TableFormat| format.changelog() != ChangelogMode::Append;
    let misplaced = key_format.as_ref().filter(|format| changes(format));
    let misplaced = misplaced.or_else(|| Some(&value_format).filter(|format| mode == Mode::Upsert && changes(format)));
    if let Some(format) = misplaced {
        let message = format!("table \"{}\": format '{}' carries changes, not rows", table.name, format.name());
        return Err(
            Error::user("INVALID_TABLE_PROPERTY", message).with_hint("use it as 'format' with 'connector' = 'kafka'")
        );
    }
    Ok(KeyAndValue { key_fields, key_prefix, key_in_value, key_format, value_format })
}

fn key_fields(options: &mut Options, table: &TableSpec, mode: Mode) -> Result<Vec<String>> {
    let wrong = |message: String| Error::user("INVALID_TABLE_PROPERTY", format!("table \"{}\"{message}", table.name));
    let listed = options.text("key.fields");
    let listed = listed.map(|fields| fields.split(';').map(|field| field.trim().to_owned()).collect());
    let key_fields: Vec<String> = match (mode, listed) {
        (Mode::Upsert, None) => table.primary_key.clone(),
        (Mode::Append, fields) => fields.unwrap_or_default(),
        (Mode::Upsert, Some(_)) => {
            return Err(wrong(": upsert-kafka takes its key from the PRIMARY KEY, not from 'key.fields'".to_owned()));
        }
    };
    if mode == Mode::Upsert && key_fields.is_empty() {
        return Err(wrong(" needs a PRIMARY KEY".to_owned()).with_hint("declare PRIMARY KEY (..) NOT ENFORCED"));
    }
    let physical = table.physical_schema();
    match key_fields.iter().find(|field| physical.index_of(field).is_err()) {
        None => Ok(key_fields),
        Some(field) => {
            let message = format!("table \"{}\": key field \"{field}\" is not one of its columns", table.name);
            let error = Error::user("COLUMN_NOT_FOUND", message);
            let known = physical.fields().iter().map(|field| field.name().as_str());
            Err(match nearest(field, known) {
                Some(known) => error.with_hint(format!("did you mean \"{known}\"?")),
                None => error,
            })
        }
    }
}

fn check_prefix(table: &TableSpec, key_fields: &[String], prefix: &str, key_in_value: bool) -> Result<()> {
    let wrong = |message: &str, hint: String| {
        let message = format!("table \"{}\": {message}", table.name);
        Err(Error::user("INVALID_TABLE_PROPERTY", message).with_hint(hint))
    };
    if prefix.is_empty() {
        return Ok(());
    }
    if key_in_value {
        let hint = "set 'value.fields-include' = 'EXCEPT_KEY'".to_owned();
        return wrong("'key.fields-prefix' needs the key's columns to be out of the value", hint);
    }
    match key_fields.iter().find(|field| !field.starts_with(prefix)) {
        None => Ok(()),
        Some(field) => {
            let hint = format!("rename it to \"{prefix}{field}\"");
            wrong(&format!("key field \"{field}\" does not start with 'key.fields-prefix' = '{prefix}'"), hint)
        }
    }
}

/// The columns of a key under the names they have in it.
pub(super) fn key_schema(columns: &Schema, fields: &[String], prefix: &str) -> Result<SchemaRef> {
    let of_key = |name: &String| {
        let field = columns.field_with_name(name)?.clone();
        let inner = name.strip_prefix(prefix).unwrap_or(name).to_owned();
        Ok(field.with_name(inner))
    };
    Ok(Arc::new(Schema::new(fields.iter().map(of_key).collect::<Result<Vec<Field>>>()?)))
}
