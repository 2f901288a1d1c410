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
    connector::MetadataColumn,
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

/// Payloads of values and keys with what the broker knows of each.
#[derive(Debug)]
pub(super) struct Records {
    pub(super) topic: String,
    pub(super) partition: i32,
    values: Vec<u8>,
    value_ends: Vec<usize>,
    pub(super) without_value: Vec<bool>,
    keys: Vec<u8>,
    key_ends: Vec<usize>,
    pub(super) without_key: Vec<bool>,
    pub(super) offsets: Vec<i64>,
    timestamps: Vec<Timestamp>,
    headers: Option<Vec<Vec<Header>>>,
}

impl Records {
    pub(super) fn new(topic: String, partition: i32, with_headers: bool) -> Self {
        Self {
            topic,
            partition,
            values: Vec::new(),
            value_ends: Vec::new(),
            without_value: Vec::new(),
            keys: Vec::new(),
            key_ends: Vec::new(),
            without_key: Vec::new(),
            offsets: Vec::new(),
            timestamps: Vec::new(),
            headers: with_headers.then(Vec::new),
        }
    }

    pub(super) fn push(&mut self, message: Message<'_>) {
        self.values.extend_from_slice(message.payload().unwrap_or_default());
        self.value_ends.push(self.values.len());
        self.without_value.push(message.payload().is_none());
        self.keys.extend_from_slice(message.key().unwrap_or_default());
        self.key_ends.push(self.keys.len());
        self.without_key.push(message.key().is_none());
        self.offsets.push(message.offset());
        self.timestamps.push(message.timestamp());
        if let Some(headers) = &mut self.headers {
            headers.push(message.headers());
        }
    }

    pub(super) fn len(&self) -> usize {
        self.offsets.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.values.len() + self.keys.len()
    }

    /// The offset to resume at.
    pub(super) fn next_offset(&self) -> Option<i64> {
        self.offsets.last().map(|last| last + 1)
    }

    /// When the broker got each message, or its producer made it; a message without time counts as read now.
    pub(super) fn arrivals(&self, now_ms: i64) -> Vec<i64> {
        self.timestamps.iter().map(|timestamp| timestamp.to_millis().unwrap_or(now_ms)).collect()
    }

    /// A metadata column.
    pub(super) fn metadata(&self, key: &str) -> Result<ArrayRef> {
        let rows = self.len();
        Ok(match key {
            "topic" => Arc::new(StringArray::from(vec![self.topic.as_str(); rows])),
            "partition" => Arc::new(Int32Array::from(vec![self.partition; rows])),
            "offset" => Arc::new(Int64Array::from(self.offsets.clone())),
            "timestamp" => {
                let millis = self.timestamps.iter().map(|timestamp| timestamp.to_millis());
                Arc::new(millis.collect::<TimestampMillisecondArray>())
            }
            "timestamp-type" => {
                Arc::new(self.timestamps.iter().map(|t| Some(timestamp_kind(t))).collect::<StringArray>())
            }
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

    /// Payloads of the values and of the keys; the batch is used up.
    pub(super) fn into_payloads(self) -> (Payloads, Payloads) {
        let payloads = |bytes: Vec<u8>, ends| Payloads { buffer: bytes.into(), ends };
        (payloads(self.values, self.value_ends), payloads(self.keys, self.key_ends))
    }
}

fn timestamp_kind(timestamp: &Timestamp) -> &'static str {
    match timestamp {
        Timestamp::NotAvailable => "NoTimestampType",
        Timestamp::CreateTime(_) => "CreateTime",
        Timestamp::LogAppendTime(_) => "LogAppendTime",
    }
}
