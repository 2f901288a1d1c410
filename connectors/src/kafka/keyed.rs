//! Records whose keys are columns: key and value are decoded apart and put together as rows.
//!
//! In an upsert topic a record without value deletes its key; elsewhere a record without key has NULL in its columns.
//!
//! Invariant: a record whose key or value cannot be read is rejected as a whole, once.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int8Array, RecordBatch, RecordBatchOptions, UInt32Array},
    compute::take,
    datatypes::{Field, Schema, SchemaRef},
};
use headwater_engine::{
    connector::{RejectedRecord, SourceData},
    error::{Error, Result},
    format::{Decoded, Decoder, Payloads, RejectedRow},
    message::{ChangeBatch, RowKind},
};

use super::{Mode, records::Records, source::KafkaSource};

/// Where a column of the table comes from.
#[derive(Debug, Clone, Copy)]
enum From {
    Key(usize),
    Value(usize),
    Metadata(usize),
}

/// Puts records together for one task.
#[derive(Debug)]
pub(super) struct RowAssembler {
    columns: SchemaRef,
    from: Vec<From>,
    /// `None` when no column of the key is wanted.
    key: Option<Box<dyn Decoder>>,
    value: Box<dyn Decoder>,
    upsert: bool,
}

/// Rows to be, each a record with its row among the decoded values.
#[derive(Default)]
struct Picked {
    records: Vec<u32>,
    values: Vec<Option<u32>>,
    kinds: Vec<i8>,
}

impl RowAssembler {
    pub(super) fn new(source: &KafkaSource, columns: &SchemaRef, metadata: &[(usize, String)]) -> Result<Self> {
        let options = &source.options;
        let (mut from, mut of_key, mut of_value) = (Vec::new(), Vec::<Field>::new(), Vec::<Field>::new());
        for (index, field) in columns.fields().iter().enumerate() {
            if let Some(place) = metadata.iter().position(|(column, _)| *column == index) {
                from.push(From::Metadata(place));
            } else if options.key_fields.contains(field.name()) {
                let name = field.name().strip_prefix(&options.key_prefix).unwrap_or(field.name());
                from.push(From::Key(of_key.len()));
                of_key.push(field.as_ref().clone().with_name(name));
            } else {
                from.push(From::Value(of_value.len()));
                of_value.push(field.as_ref().clone());
            }
        }
        let format = options.key_format.as_ref().filter(|_| !of_key.is_empty());
        let key = format.map(|format| format.decoder(Arc::new(Schema::new(of_key)))).transpose()?;
        let value = options.value_format.decoder(Arc::new(Schema::new(of_value)))?;
        Ok(Self { columns: Arc::clone(columns), from, key, value, upsert: source.mode == Mode::Upsert })
    }

    /// The rows of records, the record each came from, and the offset of each record.
    pub(super) fn assemble(
        &mut self,
        records: Records,
        metadata: &[ArrayRef],
    ) -> Result<(SourceData, Vec<u32>, Vec<i64>)> {
        let (values, mut keyed, offsets) = records.into_payloads();
        let keys = keyed.payloads();
        let (deletes, without_key) = (keyed.without_value, keyed.without_key);
        let mut rejected: Vec<Option<RejectedRecord>> = vec![None; offsets.len()];
        let mut refuse = |payloads: &Payloads, row: RejectedRow| {
            let (raw, position) = (payloads.buffer.slice(row.start..row.end), offsets[row.payload].to_string());
            rejected[row.payload].get_or_insert(RejectedRecord { raw, reason: row.reason, position });
        };
        let is_delete = |record: usize| self.upsert && deletes[record];
        let (mut key_rows, mut row_of_key) = (None, vec![None; offsets.len()]);
        if let Some(decoder) = &mut self.key {
            let Decoded { rows, payload_of_row, rejected, .. } = decoder.decode(&keys)?;
            for row in 0..rows.num_rows() {
                row_of_key[payload_of_row.as_ref().map_or(row, |payloads| payloads[row] as usize)] = Some(row as u32);
            }
            key_rows = Some(rows.rows);
            for mut row in rejected.into_iter().filter(|row| self.upsert || !without_key[row.payload]) {
                if without_key[row.payload] {
                    row.reason = "the record has no key".to_owned();
                }
                row.reason = format!("key: {}", row.reason);
                refuse(&keys, row);
            }
        }
        let decoded = self.value.decode(&values)?;
        decoded.rejected.into_iter().filter(|row| !is_delete(row.payload)).for_each(|row| refuse(&values, row));
        let is_kept = |record: usize| rejected[record].is_none();
        let picked =
            pick(&decoded.rows, decoded.payload_of_row.as_deref(), (offsets.len(), self.upsert), is_delete, is_kept);
        let sides = (key_rows.as_ref(), row_of_key.as_slice(), &decoded.rows.rows);
        let rows = self.rows(&picked, sides, metadata)?;
        let has_kinds = self.upsert || decoded.rows.kinds.is_some();
        let kinds = has_kinds.then(|| Int8Array::from(picked.kinds));
        let rejected = rejected.into_iter().flatten().collect();
        Ok((SourceData::Rows { rows: ChangeBatch::new(rows, kinds), rejected }, picked.records, offsets))
    }

    fn rows(
        &self,
        picked: &Picked,
        (keys, row_of_key, values): (Option<&RecordBatch>, &[Option<u32>], &RecordBatch),
        metadata: &[ArrayRef],
    ) -> Result<RecordBatch> {
        let of_key: UInt32Array = picked.records.iter().map(|record| row_of_key[*record as usize]).collect();
        let of_value: UInt32Array = picked.values.iter().copied().collect();
        let of_record = UInt32Array::from(picked.records.clone());
        let column = |from: &From| -> Result<ArrayRef> {
            let (array, indexes) = match from {
                From::Key(at) => (keys.map(|keys| keys.column(*at)), &of_key),
                From::Value(at) => (Some(values.column(*at)), &of_value),
                From::Metadata(at) => (metadata.get(*at), &of_record),
            };
            let array = array.ok_or_else(|| Error::internal("a column of a record is missing"))?;
            Ok(take(array, indexes, None)?)
        };
        let columns = self.from.iter().map(column).collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(picked.records.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.columns), columns, &options)?)
    }
}

/// The rows of kept records, in the order of the records.
fn pick(
    values: &ChangeBatch,
    payload_of_row: Option<&[u32]>,
    (records, upsert): (usize, bool),
    is_delete: impl Fn(usize) -> bool,
    is_kept: impl Fn(usize) -> bool,
) -> Picked {
    let record_of = |row: usize| payload_of_row.map_or(row, |payloads| payloads[row] as usize);
    let (mut picked, mut row) = (Picked::default(), 0);
    for record in 0..records {
        let begin = row;
        while row < values.num_rows() && record_of(row) == record {
            row += 1;
        }
        if !is_kept(record) {
            continue;
        }
        if is_delete(record) {
            picked.records.push(record as u32);
            picked.values.push(None);
            picked.kinds.push(RowKind::Delete as i8);
            continue;
        }
        for value in begin..row {
            picked.records.push(record as u32);
            picked.values.push(Some(value as u32));
            picked.kinds.push(if upsert { RowKind::UpdateAfter } else { values.kind(value) } as i8);
        }
    }
    picked
}
