//! Messages of one partition, gathered into a batch: payloads in one buffer, metadata in columns.
//!
//! Invariant: every message that was taken is a payload of the batch, in the order of its offsets.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BinaryBuilder, Int32Array, Int64Array, MapBuilder, StringArray, StringBuilder,
        TimestampMillisecondArray,
    },
    datatypes::DataType,
};
use headwater_engine::{
    connector::{MetadataColumn, Positions},
    error::{Error, Result},
    format::Payloads,
};
use rdkafka::Timestamp;

use super::{
    queue::{Header, Message},
    timestamp_type,
};

/// What `METADATA FROM` may name.
pub(super) fn metadata_columns() -> Vec<MetadataColumn> {
    let column = |key, data_type, writable| MetadataColumn { key, data_type, writable };
    vec![
        column("topic", DataType::Utf8, false),
        column("partition", DataType::Int32, false),
        column("offset", DataType::Int64, false),
        column("timestamp", timestamp_type(), true),
        column("timestamp-type", DataType::Utf8, false),
        column("headers", headers_type(), true),
    ]
}

fn headers_type() -> DataType {
    crate::lake::hive_type::map_of(DataType::Utf8, DataType::Binary)
}

/// What is kept of messages beside values, offsets and times.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted {
    /// Keys, and which records have no key or no value.
    pub(super) keys: bool,
    /// Headers.
    pub(super) headers: bool,
    /// Who made each time.
    pub(super) time_kinds: bool,
}

/// Payloads of values and keys with what the broker knows of each.
#[derive(Debug)]
pub(super) struct Records {
    pub(super) topic: String,
    pub(super) partition: i32,
    values: Vec<u8>,
    value_ends: Vec<usize>,
    keyed: Option<Keyed>,
    offsets: Vec<i64>,
    /// [`NO_TIME`] for a message without.
    times_ms: Vec<i64>,
    time_kinds: Option<Vec<&'static str>>,
    headers: Option<Vec<Vec<Header>>>,
}

/// Records and bytes of values that a batch is made ready for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Room {
    records: usize,
    bytes: usize,
}

/// Keys of records, and what they lack.
#[derive(Debug, Default)]
pub(super) struct Keyed {
    keys: Vec<u8>,
    key_ends: Vec<usize>,
    pub(super) without_key: Vec<bool>,
    pub(super) without_value: Vec<bool>,
}

/// Stands for no time.
const NO_TIME: i64 = i64::MIN;

impl Records {
    pub(super) fn new(topic: String, partition: i32, wanted: Wanted, room: Room) -> Self {
        Self {
            topic,
            partition,
            values: Vec::with_capacity(room.bytes),
            value_ends: Vec::with_capacity(room.records),
            keyed: wanted.keys.then(Keyed::default),
            offsets: Vec::with_capacity(room.records),
            times_ms: Vec::with_capacity(room.records),
            time_kinds: wanted.time_kinds.then(Vec::new),
            headers: wanted.headers.then(Vec::new),
        }
    }

    pub(super) fn push(&mut self, message: Message<'_>) {
        let (value, time) = (message.payload(), message.timestamp());
        self.values.extend_from_slice(value.unwrap_or_default());
        self.value_ends.push(self.values.len());
        self.offsets.push(message.offset());
        self.times_ms.push(time.to_millis().unwrap_or(NO_TIME));
        if let Some(keyed) = &mut self.keyed {
            let key = message.key();
            keyed.keys.extend_from_slice(key.unwrap_or_default());
            keyed.key_ends.push(keyed.keys.len());
            keyed.without_key.push(key.is_none());
            keyed.without_value.push(value.is_none());
        }
        if let Some(kinds) = &mut self.time_kinds {
            kinds.push(timestamp_kind(time));
        }
        if let Some(headers) = &mut self.headers {
            headers.push(message.headers());
        }
    }

    pub(super) fn len(&self) -> usize {
        self.offsets.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.values.len() + self.keyed.as_ref().map_or(0, |keyed| keyed.keys.len())
    }

    /// What a batch like this takes.
    pub(super) fn room(&self) -> Room {
        Room { records: self.len(), bytes: self.values.len() }
    }

    /// The offset to resume at.
    pub(super) fn next_offset(&self) -> Option<i64> {
        self.offsets.last().map(|last| last + 1)
    }

    /// When the broker got each message, or its producer made it; a message without time counts as read now.
    pub(super) fn arrivals(&self, now_ms: i64) -> Vec<i64> {
        self.times_ms.iter().map(|time| if *time == NO_TIME { now_ms } else { *time }).collect()
    }

    /// A metadata column.
    pub(super) fn metadata(&self, key: &str) -> Result<ArrayRef> {
        let rows = self.len();
        Ok(match key {
            "topic" => Arc::new(StringArray::from(vec![self.topic.as_str(); rows])),
            "partition" => Arc::new(Int32Array::from(vec![self.partition; rows])),
            "offset" => Arc::new(Int64Array::from(self.offsets.clone())),
            "timestamp" => {
                let millis = self.times_ms.iter().map(|time| (*time != NO_TIME).then_some(*time));
                Arc::new(millis.collect::<TimestampMillisecondArray>())
            }
            "timestamp-type" => Arc::new(StringArray::from_iter_values(self.time_kinds.iter().flatten())),
            "headers" => self.header_maps()?,
            other => return Err(Error::internal(format!("\"{other}\" is not a metadata key of kafka"))),
        })
    }

    fn header_maps(&self) -> Result<ArrayRef> {
        let names = arrow::array::MapFieldNames {
            entry: "entries".to_owned(),
            key: "key".to_owned(),
            value: "value".to_owned(),
        };
        let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), BinaryBuilder::new());
        for headers in self.headers.iter().flatten() {
            for (name, value) in headers {
                maps.keys().append_value(name);
                maps.values().append_option(value.as_ref());
            }
            maps.append(true)?;
        }
        Ok(Arc::new(maps.finish()))
    }

    /// Where each record lies in its partition.
    pub(super) fn positions(&self) -> Positions {
        match (self.offsets.first(), self.offsets.last()) {
            // Offsets grow, so none is left out.
            (Some(first), Some(last)) if (last - first) as usize + 1 == self.len() => Positions::From(*first),
            _ => Positions::Numbers(self.offsets.clone()),
        }
    }

    /// Payloads of the values, and what else is known of the records; the batch is used up.
    pub(super) fn into_payloads(self) -> (Payloads, Keyed, Vec<i64>) {
        let values = Payloads { buffer: self.values.into(), ends: self.value_ends };
        (values, self.keyed.unwrap_or_default(), self.offsets)
    }
}

impl Keyed {
    /// The keys as payloads.
    pub(super) fn payloads(&mut self) -> Payloads {
        Payloads { buffer: std::mem::take(&mut self.keys).into(), ends: std::mem::take(&mut self.key_ends) }
    }
}

fn timestamp_kind(timestamp: Timestamp) -> &'static str {
    match timestamp {
        Timestamp::NotAvailable => "NoTimestampType",
        Timestamp::CreateTime(_) => "CreateTime",
        Timestamp::LogAppendTime(_) => "LogAppendTime",
    }
}
