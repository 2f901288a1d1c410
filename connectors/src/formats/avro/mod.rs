//! Avro: `avro` (the bytes of one value, with the schema the table's columns have in Flink) and `avro-confluent` (a schema's
//! number in a registry before each value).
//!
//! ```text
//! payload ── framing ──> (writer's schema, bytes) ── apache_avro ──> value ── read ──> columns
//!                registry: number -> schema, schema -> number
//! ```
//!
//! Invariant: a value is read with the schema it was written with, and its fields are found by name; a field the writer
//! did not have is NULL.

mod read;
mod registry;
mod schema;
mod write;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use apache_avro::{Schema, reader::datum::GenericDatumReader, types::Value, writer::datum::GenericDatumWriter};
use arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use headwater_engine::{
    error::{Error, Result},
    format::{Decoded, Decoder, Encoder, Format, Payloads, RejectedRow},
};

use super::table_format::{Given, Part};
use registry::{Found, Registry};

/// Bytes before a value with Confluent's framing: a zero and the schema's number.
const FRAME: usize = 5;

/// Where schemas come from.
#[derive(Debug, Clone)]
enum Origin {
    /// The one the table's columns have.
    Table(Arc<Schema>),
    /// Numbers in a registry; the subject is where a sink registers its own.
    Registry { registry: Arc<Registry>, subject: Option<String> },
}

/// The format of a part of a table.
#[derive(Debug, Clone)]
pub struct Avro {
    name: &'static str,
    origin: Origin,
    /// The schema that rows are written with: that of the declared columns, where NOT NULL makes a difference.
    written: Arc<Schema>,
}

impl Avro {
    /// `avro`, under Flink's options. `columns` are those of a value, the envelope of a changelog among them.
    pub(super) fn plain(given: &mut Given<'_>, columns: &SchemaRef) -> Result<Self> {
        if let Some(encoding) = given.text("avro.encoding")
            && encoding != "binary"
        {
            return Err(Error::not_supported(format!("'avro.encoding' = '{encoding}'")).with_hint("use 'binary'"));
        }
        let legacy_timestamps = given.flag("avro.timestamp_mapping.legacy")?.unwrap_or(true);
        let written = Arc::new(schema::of_rows(columns, legacy_timestamps)?);
        Ok(Self { name: "avro", origin: Origin::Table(Arc::clone(&written)), written })
    }

    /// `avro-confluent`, under Flink's options, which stand behind `name`.
    pub(super) fn confluent(given: &mut Given<'_>, name: &'static str, part: &Part) -> Result<Self> {
        let registry = Registry::of(given, name)?;
        let subject = given.text(&format!("{name}.subject")).or_else(|| part.subject.clone());
        let origin = Origin::Registry { registry: Arc::new(registry), subject };
        Ok(Self { name, origin, written: Arc::new(schema::of_rows(&part.columns, true)?) })
    }
}

impl Format for Avro {
    fn name(&self) -> &'static str {
        self.name
    }

    fn decoder(&self, schema: SchemaRef) -> Result<Box<dyn Decoder>> {
        read::check(&schema)?;
        Ok(Box::new(AvroDecoder { origin: self.origin.clone(), columns: schema }))
    }

    fn encoder(&self, _: SchemaRef) -> Result<Box<dyn Encoder>> {
        if let Origin::Registry { subject: None, .. } = &self.origin {
            return Err(Error::user("INVALID_TABLE_PROPERTY", format!("format '{}' has no subject", self.name))
                .with_hint(format!("add '{}.subject' = '..' to the WITH clause", self.name)));
        }
        Ok(Box::new(AvroEncoder { origin: self.origin.clone(), schema: Arc::clone(&self.written) }))
    }
}

#[derive(Debug)]
struct AvroDecoder {
    origin: Origin,
    columns: SchemaRef,
}

/// Payloads of one writer's schema, with where their values begin.
type OfSchema = BTreeMap<i32, (Arc<Schema>, Vec<(u32, usize)>)>;

impl AvroDecoder {
    /// Sorts payloads by the schema they were written with.
    fn deal(&self, payloads: &Payloads, rejected: &mut Vec<RejectedRow>) -> Result<OfSchema> {
        let mut of_schema = OfSchema::new();
        for payload in 0..payloads.len() {
            let bytes = payloads.payload(payload);
            let mut refuse = |reason: String| rejected.push(RejectedRow::whole(payloads, payload, reason));
            if bytes.is_empty() {
                refuse("empty".to_owned());
                continue;
            }
            let (number, start) = match &self.origin {
                Origin::Table(_) => (0, 0),
                Origin::Registry { .. } => match frame(bytes) {
                    Ok(number) => (number, FRAME),
                    Err(reason) => {
                        refuse(reason);
                        continue;
                    }
                },
            };
            if let Some((_, members)) = of_schema.get_mut(&number) {
                members.push((payload as u32, start));
                continue;
            }
            let schema = match &self.origin {
                Origin::Table(schema) => Arc::clone(schema),
                Origin::Registry { registry, .. } => match registry.schema(number)? {
                    Found::Schema(schema) => schema,
                    Found::Unusable(reason) => {
                        refuse(reason);
                        continue;
                    }
                },
            };
            of_schema.insert(number, (schema, vec![(payload as u32, start)]));
        }
        Ok(of_schema)
    }
}

/// The schema's number before a value.
fn frame(bytes: &[u8]) -> std::result::Result<i32, String> {
    match bytes {
        [0, a, b, c, d, ..] => Ok(i32::from_be_bytes([*a, *b, *c, *d])),
        [0, ..] => Err(format!("{} bytes are too few for a schema's number", bytes.len())),
        [first, ..] => Err(format!("the first byte is {first}, not the 0 of Confluent's framing")),
        [] => Err("empty".to_owned()),
    }
}

impl Decoder for AvroDecoder {
    fn decode(&mut self, payloads: &Payloads) -> Result<Decoded> {
        let mut rejected = Vec::new();
        let of_schema = self.deal(payloads, &mut rejected)?;
        let mut rows = read::Rows::new(Arc::clone(&self.columns));
        for (schema, members) in of_schema.values() {
            let (mut values, mut from) = (Vec::with_capacity(members.len()), Vec::with_capacity(members.len()));
            let reader = GenericDatumReader::builder(schema).build().map_err(|error| broken(&error))?;
            for (payload, start) in members {
                match value(&reader, &payloads.payload(*payload as usize)[*start..]) {
                    Ok(value) => {
                        values.push(value);
                        from.push(*payload);
                    }
                    Err(reason) => rejected.push(RejectedRow::whole(payloads, *payload as usize, reason)),
                }
            }
            for (index, reason) in rows.add(schema, &values, &from)? {
                rejected.push(RejectedRow::whole(payloads, index as usize, reason));
            }
        }
        rejected.sort_by_key(|row| row.payload);
        let (rows, payload_of_row) = rows.finish()?;
        let payload_of_row = (payload_of_row.len() < payloads.len()).then_some(payload_of_row);
        Ok(Decoded {
            rows: headwater_engine::message::ChangeBatch::inserts(rows),
            payload_of_row,
            rejected,
            values_nulled: 0,
        })
    }
}

/// One value that takes up all its bytes.
fn value(reader: &GenericDatumReader<'_>, mut bytes: &[u8]) -> std::result::Result<Value, String> {
    let value = reader.read_value(&mut bytes).map_err(|error| format!("no value of its Avro schema: {error}"))?;
    match bytes.len() {
        0 => Ok(value),
        left => Err(format!("no value of its Avro schema: {left} bytes follow it")),
    }
}

fn broken(error: &apache_avro::Error) -> Error {
    Error::data("INVALID_SCHEMA", format!("an Avro schema cannot be used: {error}"))
}

#[derive(Debug)]
struct AvroEncoder {
    origin: Origin,
    schema: Arc<Schema>,
}

impl Encoder for AvroEncoder {
    fn encode(&mut self, rows: &RecordBatch) -> Result<Payloads> {
        let head = match &self.origin {
            Origin::Table(_) => Vec::new(),
            Origin::Registry { registry, subject } => {
                let number = registry.number(subject.as_deref().unwrap_or_default(), &self.schema)?;
                [&[0], &number.to_be_bytes()[..]].concat()
            }
        };
        let writer = GenericDatumWriter::builder(&self.schema).build().map_err(|error| broken(&error))?;
        let (mut buffer, mut ends) = (Vec::new(), Vec::with_capacity(rows.num_rows()));
        for value in write::values(rows, &self.schema)? {
            buffer.extend_from_slice(&head);
            writer
                .write_value_ref(&mut buffer, &value)
                .map_err(|error| Error::internal(format!("a row does not fit its own Avro schema: {error}")))?;
            ends.push(buffer.len());
        }
        Ok(Payloads { buffer: buffer.into(), ends })
    }
}
