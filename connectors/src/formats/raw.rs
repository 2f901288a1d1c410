//! `'format' = 'raw'`: one column that is the payload itself.
//!
//! Invariant: no byte is changed; bytes that are no UTF-8 in a VARCHAR column are a rejected row.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, BinaryArray, StringBuilder},
    buffer::{Buffer, OffsetBuffer},
    datatypes::{DataType, SchemaRef},
    record_batch::{RecordBatch, RecordBatchOptions},
};
use headwater_engine::{
    error::{Error, Result},
    format::{Decoded, Decoder, Encoder, Format, Payloads, RejectedRow},
    message::ChangeBatch,
};

/// The raw format.
#[derive(Debug, Clone, Copy, Default)]
pub struct Raw;

impl Format for Raw {
    fn name(&self) -> &'static str {
        "raw"
    }

    fn may_refuse(&self, data_type: &DataType) -> bool {
        *data_type == DataType::Utf8
    }

    fn decoder(&self, schema: SchemaRef) -> Result<Box<dyn Decoder>> {
        check(&schema)?;
        Ok(Box::new(RawDecoder { schema }))
    }

    fn encoder(&self, schema: SchemaRef) -> Result<Box<dyn Encoder>> {
        check(&schema)?;
        Ok(Box::new(RawEncoder))
    }
}

/// At most one column, text or bytes; none when a query uses no payload column.
fn check(schema: &SchemaRef) -> Result<()> {
    let fits = match schema.fields().as_ref() {
        [] => true,
        [only] => matches!(only.data_type(), DataType::Utf8 | DataType::Binary),
        _ => false,
    };
    if fits {
        return Ok(());
    }
    Err(Error::user(
        "INVALID_TABLE_PROPERTY",
        "a table with 'format' = 'raw' has one column of type VARCHAR or VARBINARY",
    )
    .with_hint("declare other columns as METADATA, or use 'format' = 'json' or 'csv'"))
}

#[derive(Debug)]
struct RawDecoder {
    schema: SchemaRef,
}

impl Decoder for RawDecoder {
    fn decode(&mut self, payloads: &Payloads) -> Result<Decoded> {
        let Some(field) = self.schema.fields().first() else {
            let options = RecordBatchOptions::new().with_row_count(Some(payloads.len()));
            let rows = RecordBatch::try_new_with_options(Arc::clone(&self.schema), Vec::new(), &options)?;
            return Ok(decoded(rows, None, Vec::new()));
        };
        if field.data_type() == &DataType::Binary {
            let column = Arc::new(binary(payloads)?) as ArrayRef;
            return Ok(decoded(RecordBatch::try_new(Arc::clone(&self.schema), vec![column])?, None, Vec::new()));
        }
        let mut column = StringBuilder::with_capacity(payloads.len(), payloads.buffer.len());
        let (mut kept, mut rejected) = (Vec::new(), Vec::new());
        for index in 0..payloads.len() {
            match simdutf8::basic::from_utf8(payloads.payload(index)) {
                Ok(text) => {
                    column.append_value(text);
                    kept.push(index as u32);
                }
                Err(_) => rejected.push(RejectedRow::whole(payloads, index, "not UTF-8")),
            }
        }
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), vec![Arc::new(column.finish())])?;
        Ok(decoded(rows, (!rejected.is_empty()).then_some(kept), rejected))
    }
}

fn decoded(rows: RecordBatch, payload_of_row: Option<Vec<u32>>, rejected: Vec<RejectedRow>) -> Decoded {
    Decoded { rows: ChangeBatch::inserts(rows), payload_of_row, rejected, values_nulled: 0 }
}

/// The payloads as an array over their own buffer.
fn binary(payloads: &Payloads) -> Result<BinaryArray> {
    let offsets: std::result::Result<Vec<i32>, _> =
        std::iter::once(Ok(0)).chain(payloads.ends.iter().map(|end| i32::try_from(*end))).collect();
    let offsets = offsets.map_err(|_| Error::internal("a batch of payloads is larger than 2 GB"))?;
    let values = Buffer::from(payloads.buffer.clone());
    Ok(BinaryArray::try_new(OffsetBuffer::new(offsets.into()), values, None)?)
}

#[derive(Debug)]
struct RawEncoder;

impl Encoder for RawEncoder {
    fn encode(&mut self, rows: &RecordBatch) -> Result<Payloads> {
        let column = rows.columns().first().ok_or_else(|| Error::internal("raw rows without a column"))?;
        let (mut buffer, mut ends) = (Vec::new(), Vec::with_capacity(rows.num_rows()));
        for row in 0..rows.num_rows() {
            let bytes: &[u8] = match column.data_type() {
                DataType::Utf8 => column.as_string::<i32>().value(row).as_bytes(),
                _ => column.as_binary::<i32>().value(row),
            };
            if !column.is_null(row) {
                buffer.extend_from_slice(bytes);
            }
            ends.push(buffer.len());
        }
        Ok(Payloads { buffer: buffer.into(), ends })
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, Schema};

    use super::*;

    fn payloads(parts: &[&[u8]]) -> Payloads {
        let ends = parts.iter().scan(0, |end, part| {
            *end += part.len();
            Some(*end)
        });
        Payloads { ends: ends.collect(), buffer: parts.concat().into() }
    }

    fn schema(data_type: DataType) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("raw", data_type, true)]))
    }

    #[test]
    fn bytes_round_trip() {
        let input = payloads(&[b"a\xff", b"", b"b"]);
        let decoded = Raw.decoder(schema(DataType::Binary)).unwrap().decode(&input).unwrap();
        assert_eq!(decoded.rows.num_rows(), 3);
        let encoded = Raw.encoder(schema(DataType::Binary)).unwrap().encode(&decoded.rows.rows).unwrap();
        assert_eq!((encoded.buffer, encoded.ends), (input.buffer, input.ends));
    }

    #[test]
    fn text_that_is_no_utf8_is_rejected_with_its_place() {
        let input = payloads(&[b"ok", b"\xff\xfe", b"fine"]);
        let decoded = Raw.decoder(schema(DataType::Utf8)).unwrap().decode(&input).unwrap();
        assert_eq!(decoded.payload_of_row, Some(vec![0, 2]));
        let rejected = RejectedRow { payload: 1, start: 2, end: 4, reason: "not UTF-8".to_owned() };
        assert_eq!(decoded.rejected, vec![rejected]);
    }

    #[test]
    fn two_columns_are_refused() {
        let two = Schema::new(vec![Field::new("a", DataType::Utf8, true), Field::new("b", DataType::Utf8, true)]);
        assert!(Raw.decoder(Arc::new(two)).unwrap_err().message().contains("one column"));
    }
}
