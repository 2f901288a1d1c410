//! `debezium-json` and `debezium-avro-confluent`: a table's changes as Debezium writes them, `before`, `after` and `op`.
//!
//! With a PRIMARY KEY the changes are upserts by it: an update needs no old row, and a repeated one does no harm. Without
//! one, every change comes with its old row, which the database must be told to send. The record without value that
//! follows a delete, for the broker to forget the key, is no change.
//!
//! Invariant: a change is rows as a whole or rejected as a whole; an update without a key is always a pair.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int8Array, RecordBatch, RecordBatchOptions, StringArray, StructArray},
    buffer::NullBuffer,
    compute::interleave,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use headwater_engine::{
    connector::ChangelogMode,
    error::Result,
    format::{Decoded, Decoder, Encoder, Format, Payloads, RejectedRow},
    message::{ChangeBatch, RowKind},
};

/// Debezium's envelope over a format of rows.
#[derive(Debug, Clone)]
pub struct Debezium {
    name: &'static str,
    envelope: Arc<dyn Format>,
    mode: ChangelogMode,
}

impl Debezium {
    /// The envelope in another format; `mode` is upsert for a table with a key, else retract.
    pub(super) fn new(name: &'static str, envelope: Arc<dyn Format>, mode: ChangelogMode) -> Self {
        Self { name, envelope, mode }
    }
}

/// `before`, `after` and `op` for rows of a schema.
pub(super) fn envelope(rows: &SchemaRef) -> SchemaRef {
    let mut fields = rows.fields().clone();
    if fields.is_empty() {
        // A query that uses no column still needs to know which side is there.
        fields = vec![Field::new("headwater_none", DataType::Utf8, true)].into();
    }
    let side = |name: &str| Field::new(name, DataType::Struct(fields.clone()), true);
    Arc::new(Schema::new(vec![side("before"), side("after"), Field::new("op", DataType::Utf8, true)]))
}

impl Format for Debezium {
    fn name(&self) -> &'static str {
        self.name
    }

    fn may_refuse(&self, data_type: &DataType) -> bool {
        self.envelope.may_refuse(data_type)
    }

    fn decoder(&self, schema: SchemaRef) -> Result<Box<dyn Decoder>> {
        let envelope = self.envelope.decoder(envelope(&schema))?;
        Ok(Box::new(DebeziumDecoder { envelope, schema, mode: self.mode }))
    }

    fn encoder(&self, schema: SchemaRef) -> Result<Box<dyn Encoder>> {
        let schema = envelope(&schema);
        Ok(Box::new(DebeziumEncoder { envelope: self.envelope.encoder(Arc::clone(&schema))?, schema }))
    }
}

#[derive(Debug)]
struct DebeziumDecoder {
    envelope: Box<dyn Decoder>,
    schema: SchemaRef,
    mode: ChangelogMode,
}

/// Index of the array a row is taken from.
const BEFORE: usize = 0;
const AFTER: usize = 1;

/// Rows to make: the side and the row of each, what it does, and its payload.
#[derive(Default)]
struct Changes {
    places: Vec<(usize, usize)>,
    kinds: Vec<i8>,
    payloads: Vec<u32>,
}

impl Changes {
    fn add(&mut self, side: usize, row: usize, kind: RowKind, payload: u32) {
        self.places.push((side, row));
        self.kinds.push(kind as i8);
        self.payloads.push(payload);
    }
}

/// The three columns of a batch of envelopes.
struct Envelopes<'a> {
    before: &'a StructArray,
    after: &'a StructArray,
    op: &'a StringArray,
}

impl DebeziumDecoder {
    /// Adds the rows of one change, or says why it is none.
    fn change(&self, from: &Envelopes<'_>, row: usize, payload: u32, changes: &mut Changes) -> Result<(), String> {
        let op = if from.op.is_valid(row) { from.op.value(row) } else { "" };
        let (has_before, has_after) = (from.before.is_valid(row), from.after.is_valid(row));
        let by_key = self.mode == ChangelogMode::Upsert;
        match op {
            "c" | "r" if has_after => {
                let kind = if by_key { RowKind::UpdateAfter } else { RowKind::Insert };
                changes.add(AFTER, row, kind, payload);
            }
            "u" if has_after && by_key => changes.add(AFTER, row, RowKind::UpdateAfter, payload),
            "u" if has_after && has_before => {
                changes.add(BEFORE, row, RowKind::UpdateBefore, payload);
                changes.add(AFTER, row, RowKind::UpdateAfter, payload);
            }
            "d" if has_before => changes.add(BEFORE, row, RowKind::Delete, payload),
            "c" | "r" => return Err(format!("\"op\" is \"{op}\" but \"after\" is missing")),
            "u" if has_after => {
                return Err(
                    "\"op\" is \"u\" but \"before\" is missing: let the database send old rows (REPLICA IDENTITY \
                            FULL), or declare a PRIMARY KEY"
                        .to_owned(),
                );
            }
            "u" => return Err("\"op\" is \"u\" but \"after\" is missing".to_owned()),
            "d" => {
                return Err(
                    "\"op\" is \"d\" but \"before\" is missing: let the database send at least the key".to_owned()
                );
            }
            "" => return Err("a Debezium change has \"op\", \"before\" and \"after\"".to_owned()),
            other => return Err(format!("\"op\" is \"{other}\", not c, r, u or d")),
        }
        Ok(())
    }

    fn rows(&self, from: &Envelopes<'_>, changes: &Changes) -> Result<RecordBatch> {
        let columns = (0..self.schema.fields().len()).map(|column| {
            let sides: [&dyn Array; 2] = [from.before.column(column).as_ref(), from.after.column(column).as_ref()];
            Ok(interleave(&sides, &changes.places)?)
        });
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(changes.places.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

impl Decoder for DebeziumDecoder {
    fn decode(&mut self, payloads: &Payloads) -> Result<Decoded> {
        let Decoded { rows, payload_of_row, mut rejected, values_nulled } = self.envelope.decode(payloads)?;
        rejected.retain(|row| !payloads.payload(row.payload).is_empty());
        let columns = rows.rows.columns();
        let from = Envelopes {
            before: columns[0].as_struct(),
            after: columns[1].as_struct(),
            op: columns[2].as_string::<i32>(),
        };
        let mut changes = Changes::default();
        for row in 0..rows.rows.num_rows() {
            let payload = payload_of_row.as_ref().map_or(row as u32, |payloads| payloads[row]);
            if let Err(reason) = self.change(&from, row, payload, &mut changes) {
                rejected.push(RejectedRow::whole(payloads, payload as usize, reason));
            }
        }
        let rows = self.rows(&from, &changes)?;
        let rows = ChangeBatch::new(rows, Some(Int8Array::from(changes.kinds)));
        Ok(Decoded { rows, payload_of_row: Some(changes.payloads), rejected, values_nulled })
    }
}

#[derive(Debug)]
struct DebeziumEncoder {
    envelope: Box<dyn Encoder>,
    schema: SchemaRef,
}

impl Encoder for DebeziumEncoder {
    fn encode(&mut self, rows: &RecordBatch) -> Result<Payloads> {
        self.encode_changes(&ChangeBatch::inserts(rows.clone()))
    }

    /// What goes is `before` with `d`, what comes is `after` with `c`: an update is both, one after the other.
    fn encode_changes(&mut self, changes: &ChangeBatch) -> Result<Payloads> {
        let goes: Vec<bool> = (0..changes.num_rows())
            .map(|row| matches!(changes.kind(row), RowKind::Delete | RowKind::UpdateBefore))
            .collect();
        let DataType::Struct(fields) = self.schema.field(0).data_type() else { return self.encode(&changes.rows) };
        let side = |there: Vec<bool>| -> Result<ArrayRef> {
            let nulls = Some(NullBuffer::from(there));
            Ok(Arc::new(StructArray::try_new(fields.clone(), changes.rows.columns().to_vec(), nulls)?))
        };
        let ops: StringArray = goes.iter().map(|goes| Some(if *goes { "d" } else { "c" })).collect();
        let comes = goes.iter().map(|goes| !goes).collect();
        let columns = vec![side(goes)?, side(comes)?, Arc::new(ops) as ArrayRef];
        self.envelope.encode(&RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Int64Type;

    use super::*;
    use crate::formats::json::{Json, JsonLines, JsonOptions, Malformed};

    fn format(mode: ChangelogMode) -> Debezium {
        let reading = JsonOptions { malformed: Malformed::Skip, ..JsonOptions::default() };
        let writing = JsonLines { explicit_nulls: true, ..JsonLines::default() };
        Debezium::new("debezium-json", Arc::new(Json { reading, writing }), mode)
    }

    fn schema() -> SchemaRef {
        let id = Field::new("id", DataType::Int64, true);
        Arc::new(Schema::new(vec![id, Field::new("name", DataType::Utf8, true)]))
    }

    fn payloads(parts: &[&str]) -> Payloads {
        let ends = parts.iter().scan(0, |end, part| {
            *end += part.len();
            Some(*end)
        });
        Payloads { ends: ends.collect(), buffer: parts.concat().into_bytes().into() }
    }

    const CHANGES: [&str; 7] = [
        r#"{"before":null,"after":{"id":1,"name":"a"},"op":"c","ts_ms":5,"source":{"db":"x"}}"#,
        r#"{"before":{"id":1,"name":"a"},"after":{"id":1,"name":"b"},"op":"u"}"#,
        r#"{"before":null,"after":{"id":1,"name":"c"},"op":"u"}"#,
        r#"{"before":{"id":1},"after":null,"op":"d"}"#,
        "",
        r#"{"before":null,"after":null,"op":"t"}"#,
        r#"{"id":1}"#,
    ];

    fn ids_and_kinds(decoded: &Decoded) -> Vec<(i64, RowKind)> {
        let ids = decoded.rows.rows.column(0).as_primitive::<Int64Type>();
        (0..ids.len()).map(|row| (ids.value(row), decoded.rows.kind(row))).collect()
    }

    #[test]
    fn without_a_key_each_change_comes_with_its_old_row() {
        let decoded = format(ChangelogMode::Retract).decoder(schema()).unwrap().decode(&payloads(&CHANGES)).unwrap();
        let kinds = [RowKind::Insert, RowKind::UpdateBefore, RowKind::UpdateAfter, RowKind::Delete];
        assert_eq!(ids_and_kinds(&decoded), kinds.map(|kind| (1, kind)));
        assert_eq!(decoded.payload_of_row, Some(vec![0, 1, 1, 3]));
        let refused: Vec<(usize, &str)> =
            decoded.rejected.iter().map(|row| (row.payload, row.reason.split(':').next().unwrap())).collect();
        let expected = [
            (2, "\"op\" is \"u\" but \"before\" is missing"),
            (5, "\"op\" is \"t\", not c, r, u or d"),
            (6, "a Debezium change has \"op\", \"before\" and \"after\""),
        ];
        assert_eq!(refused, expected);
    }

    #[test]
    fn with_a_key_changes_replace_each_other() {
        let decoded = format(ChangelogMode::Upsert).decoder(schema()).unwrap().decode(&payloads(&CHANGES)).unwrap();
        let kinds = [RowKind::UpdateAfter, RowKind::UpdateAfter, RowKind::UpdateAfter, RowKind::Delete];
        assert_eq!(ids_and_kinds(&decoded), kinds.map(|kind| (1, kind)));
        assert_eq!(decoded.rejected.len(), 2);
    }

    #[test]
    fn changes_are_written_as_rows_that_go_and_come() {
        let format = format(ChangelogMode::Retract);
        let read = format.decoder(schema()).unwrap().decode(&payloads(&CHANGES[..2])).unwrap();
        let written = format.encoder(schema()).unwrap().encode_changes(&read.rows).unwrap();
        assert_eq!(written.payload(0), br#"{"before":null,"after":{"id":1,"name":"a"},"op":"c"}"#);
        assert_eq!(written.payload(1), br#"{"before":{"id":1,"name":"a"},"after":null,"op":"d"}"#);
        assert_eq!(written.payload(2), br#"{"before":null,"after":{"id":1,"name":"b"},"op":"c"}"#);
    }

    #[test]
    fn a_query_without_columns_counts_rows() {
        let none = Arc::new(Schema::empty());
        let decoded = format(ChangelogMode::Retract).decoder(none).unwrap().decode(&payloads(&CHANGES[..2])).unwrap();
        assert_eq!(decoded.rows.num_rows(), 3);
    }
}
