//! One JSON object a line, as the Hive and OpenX SerDes read it.
//!
//! Invariant: what a line looks like is decided where streams have it too, in `formats::json`.

use arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use headwater_engine::error::Result;

use super::LineEncoder;
use crate::{formats::json::JsonLines, lake::write::format::JsonOptions};

#[derive(Debug)]
pub(super) struct JsonRows {
    lines: JsonLines,
}

impl JsonRows {
    pub(super) fn new(options: JsonOptions) -> Self {
        let JsonOptions { iso_timestamps, explicit_nulls } = options;
        Self { lines: JsonLines { iso_timestamps, explicit_nulls } }
    }
}

impl LineEncoder for JsonRows {
    fn head(&mut self, _schema: &SchemaRef, _out: &mut Vec<u8>) {}

    fn lines(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        self.lines.write(rows, out)
    }
}
