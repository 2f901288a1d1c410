//! One JSON object a line, as the Hive and OpenX SerDes read it.
//!
//! Invariant: what a line looks like is decided where streams have it too, in `formats::json`.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    datatypes::{FieldRef, Fields, Schema, SchemaRef},
    record_batch::RecordBatch,
};
use headwater_engine::error::Result;

use super::LineEncoder;
use crate::{
    formats::json::JsonLines,
    lake::write::format::{Delimiter, JsonOptions},
};

#[derive(Debug)]
pub(super) struct JsonRows {
    lines: JsonLines,
    mapping: BTreeMap<String, String>,
    delimiter: Delimiter,
}

impl JsonRows {
    pub(super) fn new(options: JsonOptions) -> Self {
        let JsonOptions { iso_timestamps, explicit_nulls, binary, mapping, delimiter } = options;
        Self { lines: JsonLines { iso_timestamps, explicit_nulls, binary }, mapping, delimiter }
    }

    /// The rows with columns called like the keys of their values.
    fn keyed(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        if self.mapping.is_empty() {
            return Ok(rows.clone());
        }
        let renamed = |field: &FieldRef| match self.mapping.get(&field.name().to_lowercase()) {
            Some(key) => Arc::new(field.as_ref().clone().with_name(key)),
            None => Arc::clone(field),
        };
        let schema = Schema::new(rows.schema().fields().iter().map(renamed).collect::<Fields>());
        Ok(RecordBatch::try_new(Arc::new(schema), rows.columns().to_vec())?)
    }
}

impl LineEncoder for JsonRows {
    fn head(&mut self, _schema: &SchemaRef, _out: &mut Vec<u8>) {}

    fn lines(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let rows = self.keyed(rows)?;
        let Delimiter::Bytes(delimiter) = &self.delimiter else { return self.lines.write(&rows, out) };
        let mut lines = Vec::new();
        self.lines.write(&rows, &mut lines)?;
        // Within an object a line end is written as two characters.
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            out.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
            out.extend_from_slice(delimiter);
        }
        Ok(())
    }
}
