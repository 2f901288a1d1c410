//! Rows to records: key, value and time, by the table's formats.
//!
//! Invariant: a delete in an upsert topic is a record with its key and without value.

use std::sync::Arc;

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{SchemaRef, TimestampMillisecondType},
};
use bytes::Bytes;
use headwater_engine::{
    connector::TableSpec,
    error::{Error, Result},
    format::{Encoder, Payloads},
    message::{ChangeBatch, RowKind},
};
use rdkafka::message::{Header, OwnedHeaders};

use super::options::{self, KafkaOptions};

/// One record of a topic.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) timestamp_ms: Option<i64>,
    pub(super) headers: Option<OwnedHeaders>,
}

impl Record {
    /// What it counts against a transaction's size.
    pub(super) fn bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len) + self.value.as_ref().map_or(0, Bytes::len) + 64
    }
}

/// Encodes rows of one schema.
#[derive(Debug)]
pub(super) struct RowEncoder {
    key: Option<KeyEncoder>,
    value_columns: Vec<usize>,
    value: Box<dyn Encoder>,
    timestamp: Option<usize>,
    headers: Option<usize>,
    upsert: bool,
}

#[derive(Debug)]
struct KeyEncoder {
    columns: Vec<usize>,
    schema: SchemaRef,
    encoder: Box<dyn Encoder>,
    is_raw: bool,
}

impl RowEncoder {
    pub(super) fn new(options: &KafkaOptions, table: &TableSpec, schema: &SchemaRef, upsert: bool) -> Result<Self> {
        let key = match &options.key_format {
            Some(format) => {
                let columns = options.key_fields.iter().map(|field| schema.index_of(field));
                let columns = columns.collect::<std::result::Result<Vec<usize>, _>>()?;
                let schema = options::key_schema(schema, &options.key_fields, &options.key_prefix)?;
                let encoder = format.encoder(Arc::clone(&schema))?;
                let is_raw = format.name() == "raw" && columns.len() == 1;
                Some(KeyEncoder { columns, schema, encoder, is_raw })
            }
            None => None,
        };
        let is_key = |index: &usize| options.key_fields.contains(schema.field(*index).name());
        let value_columns: Vec<usize> = (0..schema.fields().len())
            .filter(|index| table.metadata_key(*index).is_none() && (options.key_in_value || !is_key(index)))
            .collect();
        let value = options.value_format.encoder(Arc::new(schema.project(&value_columns)?))?;
        let written = |key: &str| table.metadata.iter().find(|field| field.key == key && !field.is_virtual);
        let timestamp = written("timestamp").map(|field| field.column);
        let headers = written("headers").map(|field| field.column);
        Ok(Self { key, value_columns, value, timestamp, headers, upsert })
    }

    /// A record a change; for a keyed topic an update's old value is left out, since the new one of the key replaces it.
    pub(super) fn encode(&mut self, changes: &ChangeBatch) -> Result<Vec<Record>> {
        let rows = &changes.rows;
        let of_value = ChangeBatch::new(rows.project(&self.value_columns)?, changes.kinds.clone());
        let values = self.value.encode_changes(&of_value)?;
        let keys = match &mut self.key {
            Some(KeyEncoder { columns, schema, encoder, .. }) => {
                let columns = columns.iter().map(|column| Arc::clone(rows.column(*column))).collect();
                Some(encoder.encode(&RecordBatch::try_new(Arc::clone(schema), columns)?)?)
            }
            None => None,
        };
        // Bytes as they are have no NULL: that is a record without key.
        let no_key = self.key.as_ref().filter(|key| key.is_raw).map(|key| rows.column(key.columns[0]));
        let times = self.timestamp.map(|column| timestamps(rows, column)).transpose()?;
        let part = |payloads: &Payloads, row: usize| {
            let start = if row == 0 { 0 } else { payloads.ends[row - 1] };
            payloads.buffer.slice(start..payloads.ends[row])
        };
        let mut records = Vec::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            let kind = changes.kind(row);
            if self.upsert && kind == RowKind::UpdateBefore {
                continue;
            }
            let is_delete = self.upsert && kind == RowKind::Delete;
            records.push(Record {
                key: keys.as_ref().map(|keys| part(keys, row)).filter(|_| no_key.is_none_or(|key| key.is_valid(row))),
                value: (!is_delete).then(|| part(&values, row)),
                timestamp_ms: times.as_ref().and_then(|times| times[row]),
                headers: self.headers.and_then(|column| headers(rows, column, row)),
            });
        }
        Ok(records)
    }
}

fn timestamps(rows: &RecordBatch, column: usize) -> Result<Vec<Option<i64>>> {
    let array = rows.column(column).as_primitive_opt::<TimestampMillisecondType>();
    let array = array.ok_or_else(|| Error::internal("the metadata column \"timestamp\" is not in milliseconds"))?;
    Ok((0..array.len()).map(|row| array.is_valid(row).then(|| array.value(row))).collect())
}

/// The headers of a row, if it has any.
fn headers(rows: &RecordBatch, column: usize, row: usize) -> Option<OwnedHeaders> {
    let maps = rows.column(column).as_map_opt().filter(|maps| maps.is_valid(row))?;
    let entries = maps.value(row);
    let (keys, values) = (entries.column(0).as_string_opt::<i32>()?, entries.column(1).as_binary_opt::<i32>()?);
    let all = (0..entries.len()).fold(OwnedHeaders::new_with_capacity(entries.len()), |all, at| {
        all.insert(Header { key: keys.value(at), value: values.is_valid(at).then(|| values.value(at)) })
    });
    Some(all)
}
