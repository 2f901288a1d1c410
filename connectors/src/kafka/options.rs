//! The options of a Kafka table, under Flink's names.
//!
//! Invariant: everything is checked here, before a client exists; a secret of `properties.*` is in no message.

use std::{collections::BTreeMap, time::Duration};

use headwater_engine::{
    catalog::Properties,
    connector::TableSpec,
    error::{Error, Result},
};

use super::Mode;
use crate::{
    formats::{self, TableFormat},
    options::Options,
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
    pub(super) key_fields: Vec<String>,
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
        let (key_fields, key_format, value_format) = fields_and_formats(&mut options, table, mode)?;
        let key_in_value =
            options.choice("value.fields-include", &[("ALL", true), ("EXCEPT_KEY", false)])?.unwrap_or(true);
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

fn marker_lost(options: &mut Options) -> Result<OnMarkerLost> {
    let choices = [("fail", OnMarkerLost::Fail), ("redeliver", OnMarkerLost::Redeliver), ("skip", OnMarkerLost::Skip)];
    Ok(options.choice("sink.on-marker-lost", &choices)?.unwrap_or(OnMarkerLost::Fail))
}

type KeyAndValue = (Vec<String>, Option<TableFormat>, TableFormat);

fn fields_and_formats(options: &mut Options, table: &TableSpec, mode: Mode) -> Result<KeyAndValue> {
    let declared = options.text("key.fields");
    let listed = declared.map(|fields| fields.split(';').map(|field| field.trim().to_owned()).collect());
    let key_fields: Vec<String> = match (mode, listed) {
        (Mode::Upsert, None) => table.primary_key.clone(),
        (Mode::Append, fields) => fields.unwrap_or_default(),
        (Mode::Upsert, Some(_)) => {
            return Err(Error::user(
                "INVALID_TABLE_PROPERTY",
                format!(
                    "table \"{}\": upsert-kafka takes its key from the PRIMARY KEY, not from 'key.fields'",
                    table.name
                ),
            ));
        }
    };
    if mode == Mode::Upsert && key_fields.is_empty() {
        return Err(Error::user("INVALID_TABLE_PROPERTY", format!("table \"{}\" needs a PRIMARY KEY", table.name))
            .with_hint("declare PRIMARY KEY (..) NOT ENFORCED"));
    }
    for field in &key_fields {
        if table.schema.index_of(field).is_err() {
            return Err(Error::user(
                "COLUMN_NOT_FOUND",
                format!("table \"{}\": key field \"{field}\" is not one of its columns", table.name),
            ));
        }
    }
    let value_format = formats::from_options(options, &["format", "value.format"], "value.")?.ok_or_else(|| {
        Error::user("INVALID_TABLE_PROPERTY", format!("table \"{}\" needs the option 'format'", table.name))
            .with_hint("add 'format' = 'json' to its WITH clause")
    })?;
    let key_format = formats::from_options(options, &["key.format"], "key.")?;
    let key_format = match (key_format, key_fields.is_empty()) {
        (None, false) => Some(value_format.clone()),
        (Some(_), true) => {
            return Err(Error::user(
                "INVALID_TABLE_PROPERTY",
                format!("table \"{}\" has 'key.format' but no key columns", table.name),
            )
            .with_hint("name them with 'key.fields'"));
        }
        (format, _) => format,
    };
    Ok((key_fields, key_format, value_format))
}
