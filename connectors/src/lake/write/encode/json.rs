//! One JSON object a line, as the Hive and OpenX SerDes read it.
//!
//! Invariant: what a line looks like is decided where streams have it too, in `formats::json`.

use arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use headwater_engine::error::Result;

use super::LineEncoder;
use crate::{
    formats::json::JsonLines,
    lake::write::format::{Delimiter, JsonOptions},
};

#[derive(Debug)]
pub(super) struct JsonRows {
    lines: JsonLines,
    delimiter: Delimiter,
}

impl JsonRows {
    pub(super) fn new(options: JsonOptions) -> Self {
        let JsonOptions { iso_timestamps, explicit_nulls, binary, delimiter } = options;
        Self { lines: JsonLines { iso_timestamps, explicit_nulls, binary }, delimiter }
    }
}

impl LineEncoder for JsonRows {
    fn head(&mut self, _schema: &SchemaRef, _out: &mut Vec<u8>) {}

    fn lines(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let Delimiter::Bytes(delimiter) = &self.delimiter else { return self.lines.write(rows, out) };
        let mut lines = Vec::new();
        self.lines.write(rows, &mut lines)?;
        // Within an object a line end is written as two characters.
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            out.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
            out.extend_from_slice(delimiter);
        }
        Ok(())
    }
}
