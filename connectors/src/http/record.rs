//! A record as the log keeps it, and batches of records as the source hands them on.
//!
//! ```text
//! frame: length u32 | CRC-32C of the body u32 | body
//! body:  arrival ms i64 | key length u16 | key | headers length u32 | headers as JSON | payload     (little endian)
//! ```
//!
//! Invariant: a frame whose checksum is wrong ends the segment: everything after it was never acknowledged.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, MapBuilder, MapFieldNames, StringArray, StringBuilder, TimestampMillisecondArray},
    datatypes::{DataType, TimeUnit},
};
use bytes::Bytes;
use headwater_engine::{
    connector::{MetadataColumn, Offset, Positions, SourceBatch, SourceData, SplitId},
    error::{Error, Result},
    format::Payloads,
};

/// Bytes before the body.
pub(super) const FRAME_HEAD: usize = 8;
/// A body is never larger.
pub(super) const BODY_MAX: usize = 1 << 30;

/// What a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) payload: Bytes,
    /// Empty when there is none.
    pub(super) partition_key: String,
    /// Names and values of the request's headers.
    pub(super) headers: Arc<Vec<(String, String)>>,
    pub(super) arrival_ms: i64,
}

impl Record {
    /// Appends the frame of this record.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; FRAME_HEAD]);
        out.extend_from_slice(&self.arrival_ms.to_le_bytes());
        let key = self.partition_key.as_bytes();
        let key = &key[..key.len().min(usize::from(u16::MAX))];
        out.extend_from_slice(&(key.len() as u16).to_le_bytes());
        out.extend_from_slice(key);
        let headers = match self.headers.is_empty() {
            true => Vec::new(),
            false => serde_json::to_vec(&*self.headers).unwrap_or_default(),
        };
        out.extend_from_slice(&(headers.len() as u32).to_le_bytes());
        out.extend_from_slice(&headers);
        out.extend_from_slice(&self.payload);
        let body = start + FRAME_HEAD;
        let (length, checksum) = ((out.len() - body) as u32, crc32c::crc32c(&out[body..]));
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        out[start + 4..body].copy_from_slice(&checksum.to_le_bytes());
    }

    /// The record at the start of these bytes and the length of its frame; `None` when there is no whole one.
    pub(super) fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let length = frame_length(bytes)?;
        let body = bytes.get(FRAME_HEAD..FRAME_HEAD + length)?;
        if crc32c::crc32c(body) != u32::from_le_bytes(bytes[4..8].try_into().ok()?) {
            return None;
        }
        let arrival_ms = i64::from_le_bytes(body.get(..8)?.try_into().ok()?);
        let key_length = usize::from(u16::from_le_bytes(body.get(8..10)?.try_into().ok()?));
        let key = body.get(10..10 + key_length)?;
        let rest = &body[10 + key_length..];
        let headers_length = u32::from_le_bytes(rest.get(..4)?.try_into().ok()?) as usize;
        let headers = match rest.get(4..4 + headers_length)? {
            [] => Vec::new(),
            text => serde_json::from_slice(text).ok()?,
        };
        let record = Self {
            payload: Bytes::copy_from_slice(&rest[4 + headers_length..]),
            partition_key: String::from_utf8_lossy(key).into_owned(),
            headers: Arc::new(headers),
            arrival_ms,
        };
        Some((record, FRAME_HEAD + length))
    }
}

/// Length of the body of the frame that starts here, if it can be one.
pub(super) fn frame_length(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    (length <= BODY_MAX).then_some(length)
}

/// What `METADATA FROM` may name.
pub(super) fn metadata_columns() -> Vec<MetadataColumn> {
    let column = |key, data_type| MetadataColumn { key, data_type, writable: false };
    vec![
        column("timestamp", DataType::Timestamp(TimeUnit::Millisecond, None)),
        column("record-id", DataType::Utf8),
        column("partition-key", DataType::Utf8),
        column("headers", crate::lake::hive_type::map_of(DataType::Utf8, DataType::Utf8)),
    ]
}

/// Consecutive records, the first with this number, as a batch.
pub(super) fn batch(
    split: &SplitId,
    first: u64,
    records: &[Record],
    metadata: &[(usize, String)],
) -> Result<SourceBatch> {
    let (mut buffer, mut ends) = (Vec::new(), Vec::with_capacity(records.len()));
    for record in records {
        buffer.extend_from_slice(&record.payload);
        ends.push(buffer.len());
    }
    let arrays = metadata.iter().map(|(_, key)| column(key, first, records)).collect::<Result<Vec<ArrayRef>>>()?;
    Ok(SourceBatch {
        split: split.clone(),
        data: SourceData::Payloads { payloads: Payloads { buffer: buffer.into(), ends }, metadata: arrays },
        resume_at: Offset::new((first + records.len() as u64).to_string()),
        positions: Positions::From(first as i64),
        arrivals_ms: Some(records.iter().map(|record| record.arrival_ms).collect()),
        lag: None,
    })
}

fn column(key: &str, first: u64, records: &[Record]) -> Result<ArrayRef> {
    Ok(match key {
        "timestamp" => {
            Arc::new(TimestampMillisecondArray::from_iter_values(records.iter().map(|record| record.arrival_ms)))
        }
        "record-id" => {
            let ids = (0..records.len()).map(|index| record_id(first + index as u64));
            Arc::new(StringArray::from_iter_values(ids))
        }
        "partition-key" => {
            let keys = records.iter().map(|record| Some(record.partition_key.as_str()).filter(|key| !key.is_empty()));
            Arc::new(keys.collect::<StringArray>())
        }
        "headers" => headers(records)?,
        other => return Err(Error::internal(format!("http has no metadata \"{other}\""))),
    })
}

/// How the services' replies and `record-id` name a record: twenty-one digits, ascending.
pub(super) fn record_id(number: u64) -> String {
    format!("{number:021}")
}

fn headers(records: &[Record]) -> Result<ArrayRef> {
    let DataType::Map(entries, _) = crate::lake::hive_type::map_of(DataType::Utf8, DataType::Utf8) else {
        return Err(Error::internal("a map type is no map"));
    };
    let DataType::Struct(fields) = entries.data_type() else { return Err(Error::internal("a map without entries")) };
    let names =
        MapFieldNames { entry: entries.name().clone(), key: fields[0].name().clone(), value: fields[1].name().clone() };
    let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
        .with_keys_field(Arc::clone(&fields[0]))
        .with_values_field(Arc::clone(&fields[1]));
    for record in records {
        for (name, value) in record.headers.iter() {
            maps.keys().append_value(name);
            maps.values().append_value(value);
        }
        maps.append(true)?;
    }
    Ok(Arc::new(maps.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_its_frame_and_a_torn_one_is_none() {
        let record = Record {
            payload: Bytes::from_static(b"{\"a\": 1}\xff"),
            partition_key: "k".to_owned(),
            headers: Arc::new(vec![("content-type".to_owned(), "text/plain".to_owned())]),
            arrival_ms: -5,
        };
        let mut bytes = Vec::new();
        record.write(&mut bytes);
        record.write(&mut bytes);
        let (first, length) = Record::read(&bytes).unwrap();
        assert_eq!((first, length * 2), (record, bytes.len()));
        for end in 0..length {
            assert_eq!(Record::read(&bytes[..end]), None);
        }
        bytes[length - 1] ^= 1;
        assert_eq!(Record::read(&bytes), None);
    }
}
