//! Parquet files, row group by row group.
//!
//! Invariant: the file says nothing that only Arrow understands; any reader sees the table's types.

use arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use bytes::Bytes;
use headwater_engine::error::{Error, Result};
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::{Compression, GzipLevel, ZstdLevel},
    errors::ParquetError,
    file::properties::WriterProperties,
};

use super::FileEncoder;
use crate::lake::write::format::{ParquetCodec, ParquetOptions};

/// Encoded bytes at which a row group ends.
const ROW_GROUP_BYTES: usize = 32 << 20;

pub(super) struct ParquetFile(ArrowWriter<Vec<u8>>);

impl std::fmt::Debug for ParquetFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ParquetFile")
    }
}

impl ParquetFile {
    pub(super) fn new(schema: &SchemaRef, options: &ParquetOptions) -> Result<Self> {
        let properties = WriterProperties::builder()
            .set_created_by(concat!("headwater ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(compression(options)?)
            .build();
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        Ok(Self(ArrowWriter::try_new_with_options(Vec::new(), schema.clone(), options).map_err(parquet_error)?))
    }
}

fn compression(options: &ParquetOptions) -> Result<Compression> {
    let level = options.level;
    Ok(match options.codec {
        ParquetCodec::None => Compression::UNCOMPRESSED,
        ParquetCodec::Snappy => Compression::SNAPPY,
        ParquetCodec::Lz4 => Compression::LZ4_RAW,
        ParquetCodec::Gzip => Compression::GZIP(
            GzipLevel::try_new(level.and_then(|level| level.try_into().ok()).unwrap_or(6)).map_err(parquet_error)?,
        ),
        ParquetCodec::Zstd => Compression::ZSTD(ZstdLevel::try_new(level.unwrap_or(3)).map_err(parquet_error)?),
    })
}

fn parquet_error(error: ParquetError) -> Error {
    match error {
        ParquetError::NYI(message) => Error::not_supported(format!("Parquet cannot hold it: {message}")),
        other => Error::internal(format!("a Parquet file could not be written: {other}")),
    }
}

impl FileEncoder for ParquetFile {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.0.write(rows).map_err(parquet_error)?;
        if self.0.in_progress_size() >= ROW_GROUP_BYTES {
            self.0.flush().map_err(parquet_error)?;
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<Bytes> {
        Ok(std::mem::take(self.0.inner_mut()).into())
    }

    fn held_bytes(&self) -> usize {
        self.0.memory_size()
    }

    fn unwritten_bytes(&self) -> usize {
        self.0.in_progress_size()
    }

    fn finish(mut self: Box<Self>) -> Result<Bytes> {
        self.0.finish().map_err(parquet_error)?;
        self.drain()
    }
}
