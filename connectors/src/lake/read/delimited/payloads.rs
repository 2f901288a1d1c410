//! CSV payloads of a stream: one record each, by the same rules as the records of a file.
//!
//! Invariant: a payload has as many fields as the table declares, each of its column's type, or it is rejected as a whole.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions},
    compute::filter_record_batch,
    datatypes::SchemaRef,
};
use headwater_engine::{
    error::{Error, Result},
    format::{Decoded, Decoder, Payloads, RejectedRow},
    message::ChangeBatch,
};

use super::{
    Habits,
    split::{Fields, Splitter},
    trim_end,
    values::TextColumn,
};
use crate::lake::write::format::TextOptions;

/// Decodes batches of CSV payloads into some of the declared columns.
#[derive(Debug)]
pub(crate) struct CsvDecoder {
    options: TextOptions,
    splitter: Splitter,
    schema: SchemaRef,
    /// For each wanted column its field in the record.
    places: Vec<usize>,
    /// Fields of a record.
    expected: usize,
}

impl CsvDecoder {
    /// A decoder of the columns `schema` of records with the fields `declared`.
    pub(crate) fn try_new(schema: SchemaRef, declared: &SchemaRef, options: TextOptions) -> Result<Self> {
        let place = |name: &str| {
            let found = declared.fields().iter().position(|field| field.name() == name);
            found.ok_or_else(|| Error::internal(format!("column \"{name}\" is not declared")))
        };
        let places = schema.fields().iter().map(|field| place(field.name())).collect::<Result<_>>()?;
        let splitter = Splitter::new(&options, Habits::Csv);
        Ok(Self { options, splitter, schema, places, expected: declared.fields().len() })
    }

    /// Adds a payload's fields to the columns, or says why not.
    fn add(&self, text: &[u8], columns: &mut [TextColumn]) -> Result<(), String> {
        let mut fields = Fields::default();
        self.splitter.fields(trim_end(text), &mut fields);
        if text.is_empty() {
            return Err("empty".to_owned());
        }
        if fields.is_open() {
            return Err("a quote is not closed".to_owned());
        }
        if fields.len() != self.expected {
            return Err(format!("{} fields where {} are expected", fields.len(), self.expected));
        }
        let mut fault = None;
        for (index, (column, place)) in columns.iter_mut().zip(&self.places).enumerate() {
            if let Err(reason) = column.push(fields.get(*place), Habits::Csv, &self.options) {
                fault.get_or_insert_with(|| format!("column \"{}\": {reason}", self.schema.field(index).name()));
            }
        }
        match fault {
            None => Ok(()),
            Some(fault) => Err(fault),
        }
    }
}

impl Decoder for CsvDecoder {
    fn decode(&mut self, payloads: &Payloads) -> Result<Decoded> {
        let mut columns: Vec<TextColumn> =
            self.schema.fields().iter().map(|field| TextColumn::new(field.data_type())).collect();
        let mut faults: Vec<Option<String>> = Vec::with_capacity(payloads.len());
        for payload in 0..payloads.len() {
            let fault = self.add(payloads.payload(payload), &mut columns).err();
            // What was refused before its fields were looked at has no value in any column.
            columns.iter_mut().filter(|column| column.len() <= payload).for_each(TextColumn::null);
            faults.push(fault);
        }
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(columns.len());
        for (column, field) in columns.iter_mut().zip(self.schema.fields()) {
            let (array, misfits) = column.finish(Habits::Csv, &self.options)?;
            for (row, text) in misfits {
                let spelled = crate::lake::read::parquet::widen::spelled(field.data_type());
                faults[row].get_or_insert_with(|| format!("column \"{}\": \"{text}\" is no {spelled}", field.name()));
            }
            arrays.push(array);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(payloads.len()));
        let all = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?;
        let good: BooleanArray = faults.iter().map(|fault| Some(fault.is_none())).collect();
        let kept = (0..payloads.len() as u32).filter(|payload| faults[*payload as usize].is_none()).collect();
        let rejected: Vec<RejectedRow> = faults
            .into_iter()
            .enumerate()
            .filter_map(|(payload, fault)| Some(RejectedRow::whole(payloads, payload, fault?)))
            .collect();
        let (rows, payload_of_row) = match rejected.is_empty() {
            true => (all, None),
            false => (filter_record_batch(&all, &good)?, Some(kept)),
        };
        Ok(Decoded { rows: ChangeBatch::inserts(rows), payload_of_row, rejected, values_nulled: 0 })
    }
}
