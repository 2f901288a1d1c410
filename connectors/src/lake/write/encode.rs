//! Encoders: record batches to the bytes of one file.
//!
//! Invariant: an encoder holds what it has not given out; `held_bytes` says how much that is, so that its owner can
//! keep within its budget.

mod json;
mod parquet;
mod text;

use std::fmt;

use arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use bytes::Bytes;
use headwater_engine::error::Result;

pub(crate) use self::text::{TextRows, as_text};
use super::{
    compress::{Codec, Compressor},
    format::WriteFormat,
};

/// Encodes one file.
pub trait FileEncoder: fmt::Debug + Send {
    /// Adds rows.
    fn write(&mut self, rows: &RecordBatch) -> Result<()>;
    /// Takes the bytes that are final.
    fn drain(&mut self) -> Result<Bytes>;
    /// Bytes of memory that rows added so far still need, the compressor's own included.
    fn held_bytes(&self) -> usize;
    /// Bytes that the file has beyond what was given out, as far as is known.
    fn unwritten_bytes(&self) -> usize;
    /// Ends the file and gives its last bytes.
    fn finish(self: Box<Self>) -> Result<Bytes>;
}

/// An encoder of one file of this format.
pub fn encoder(format: &WriteFormat, schema: &SchemaRef) -> Result<Box<dyn FileEncoder>> {
    Ok(match format {
        WriteFormat::Parquet(options) => Box::new(parquet::ParquetFile::new(schema, options)?),
        WriteFormat::Json { codec, options } => Box::new(TextFile::new(*codec, json::JsonRows::new(options.clone()))?),
        WriteFormat::Text { codec, options } => {
            Box::new(TextFile::new(*codec, text::TextRows::new(options.clone(), schema)?)?)
        }
    })
}

/// Which rows a file of this format cannot have, and why.
pub(crate) fn unwritable(format: &WriteFormat, rows: &RecordBatch) -> Result<Vec<(usize, String)>> {
    match format {
        WriteFormat::Text { options, .. } => Ok(TextRows::new(options.clone(), &rows.schema())?.unwritable(rows)),
        WriteFormat::Parquet(_) | WriteFormat::Json { .. } => Ok(Vec::new()),
    }
}

/// Rows to lines.
trait LineEncoder: fmt::Debug + Send {
    /// What the file starts with.
    fn head(&mut self, schema: &SchemaRef, out: &mut Vec<u8>);
    /// A line for each row.
    fn lines(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()>;
}

/// Lines, compressed.
#[derive(Debug)]
struct TextFile<L> {
    lines: L,
    compressor: Compressor,
    scratch: Vec<u8>,
    codec_bytes: usize,
    has_head: bool,
}

impl<L: LineEncoder> TextFile<L> {
    fn new(codec: Codec, lines: L) -> Result<Self> {
        let (compressor, codec_bytes) = (codec.compressor()?, codec.memory_bytes());
        Ok(Self { lines, compressor, scratch: Vec::new(), codec_bytes, has_head: false })
    }
}

impl<L: LineEncoder> FileEncoder for TextFile<L> {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.scratch.clear();
        if !std::mem::replace(&mut self.has_head, true) {
            self.lines.head(&rows.schema(), &mut self.scratch);
        }
        self.lines.lines(rows, &mut self.scratch)?;
        self.compressor.write(&self.scratch)
    }

    fn drain(&mut self) -> Result<Bytes> {
        Ok(self.compressor.drain())
    }

    fn held_bytes(&self) -> usize {
        self.scratch.capacity() + self.codec_bytes
    }

    fn unwritten_bytes(&self) -> usize {
        // What a compressor holds is little, and how little it becomes is not known.
        0
    }

    fn finish(self: Box<Self>) -> Result<Bytes> {
        self.compressor.finish()
    }
}
