//! Rows to records: key, value and time, by the table's formats.
//!
//! Invariant: a delete in an upsert topic is a record with its key and without value.

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Schema, SchemaRef, TimestampMillisecondType},
};
use bytes::Bytes;
use headwater_engine::{
    connector::TableSpec,
    error::{Error, Result},
    format::Encoder,
    message::{ChangeBatch, RowKind},
};

use super::options::KafkaOptions;

/// One record of a topic.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) timestamp_ms: Option<i64>,
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
    key: Option<(Vec<usize>, Box<dyn Encoder>)>,
    value_columns: Vec<usize>,
    value: Box<dyn Encoder>,
    timestamp: Option<usize>,
    upsert: bool,
}

impl RowEncoder {
    pub(super) fn new(options: &KafkaOptions, table: &TableSpec, schema: &SchemaRef, upsert: bool) -> Result<Self> {
        let metadata = |index: &usize| table.metadata_key(*index).is_some();
        let is_key = |index: &usize| options.key_fields.iter().any(|field| field == schema.field(*index).name());
        let physical: Vec<usize> = (0..schema.fields().len()).filter(|index| !metadata(index)).collect();
        let project = |columns: &[usize]| -> SchemaRef {
            Schema::new(columns.iter().map(|index| schema.field(*index).clone()).collect::<Vec<_>>()).into()
        };
        let key = match &options.key_format {
            Some(format) => {
                let columns: Vec<usize> = physical.iter().copied().filter(is_key).collect();
                Some((columns.clone(), format.encoder(project(&columns))?))
            }
            None => None,
        };
        let value_columns: Vec<usize> =
            physical.into_iter().filter(|index| options.key_in_value || !is_key(index)).collect();
        let value = options.value_format.encoder(project(&value_columns))?;
        let timestamp = table.metadata.iter().find(|field| field.key == "timestamp" && !field.is_virtual);
        Ok(Self { key, value_columns, value, timestamp: timestamp.map(|field| field.column), upsert })
    }

    /// A record a row; updates' old values are left out, since the new value of the key replaces them.
    pub(super) fn encode(&mut self, changes: &ChangeBatch) -> Result<Vec<Record>> {
        let rows = &changes.rows;
        let values = self.value.encode(&rows.project(&self.value_columns)?)?;
        let keys = match &mut self.key {
            Some((columns, encoder)) => Some(encoder.encode(&rows.project(columns)?)?),
            None => None,
        };
        let times = self.timestamp.map(|column| timestamps(rows, column)).transpose()?;
        let part = |payloads: &headwater_engine::format::Payloads, row: usize| {
            let start = if row == 0 { 0 } else { payloads.ends[row - 1] };
            payloads.buffer.slice(start..payloads.ends[row])
        };
        let mut records = Vec::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            let kind = changes.kind(row);
            if kind == RowKind::UpdateBefore {
                continue;
            }
            let is_delete = self.upsert && kind == RowKind::Delete;
            records.push(Record {
                key: keys.as_ref().map(|keys| part(keys, row)),
                value: (!is_delete).then(|| part(&values, row)),
                timestamp_ms: times.as_ref().and_then(|times| times[row]),
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
