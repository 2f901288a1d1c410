//! Compression of whole text files as they are written, and the extension that says so.
//!
//! Invariant: what a codec writes, the lake's reader reads, told by content and by extension alike.

use std::{io::Write, sync::Arc};

use bytes::Bytes;
use headwater_engine::error::{Error, Result};
use parking_lot::Mutex;

/// How a text file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Codec {
    /// Not at all.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// A zip archive with one member.
    Zip,
    /// The stream of snappy-java, as Firehose writes it.
    Snappy,
    /// Hadoop's blocks of snappy.
    HadoopSnappy,
    /// Zstandard.
    Zstd,
    /// bzip2.
    Bzip2,
}

/// Names of the codecs as options spell them.
pub const CODECS: [(&str, Codec); 7] = [
    ("none", Codec::None),
    ("gzip", Codec::Gzip),
    ("zip", Codec::Zip),
    ("snappy", Codec::Snappy),
    ("hadoop-snappy", Codec::HadoopSnappy),
    ("zstd", Codec::Zstd),
    ("bzip2", Codec::Bzip2),
];

impl Codec {
    /// The codec of this name, without regard to case; `_` and `-` are the same.
    pub fn parse(name: &str) -> Result<Self> {
        let wanted = name.to_lowercase().replace('_', "-");
        let wanted = match wanted.as_str() {
            "uncompressed" => "none",
            "gz" => "gzip",
            "bz2" => "bzip2",
            "zst" => "zstd",
            other => other,
        };
        CODECS.iter().find(|(known, _)| *known == wanted).map(|(_, codec)| *codec).ok_or_else(|| {
            let known: Vec<&str> = CODECS.iter().map(|(known, _)| *known).collect();
            Error::not_supported(format!("compression \"{name}\" is not supported for text files"))
                .with_hint(format!("use one of {}", known.join(", ")))
        })
    }

    /// Its name as options spell it.
    pub fn name(self) -> &'static str {
        CODECS.iter().find(|(_, codec)| *codec == self).map_or("none", |(name, _)| name)
    }

    /// What follows the extension of the format, with its dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zip => ".zip",
            // Hadoop and Athena know its codec by this extension; Firehose documents another and uses this one.
            Self::Snappy | Self::HadoopSnappy => ".snappy",
            Self::Zstd => ".zst",
            Self::Bzip2 => ".bz2",
        }
    }

    /// About how many bytes of memory a compressor of it holds: what zlib, libzstd and bzip2 say of the levels used here.
    pub fn memory_bytes(self) -> usize {
        match self {
            Self::None => 0,
            Self::Gzip | Self::Zip => 320 << 10,
            Self::Snappy => 2 * Framing::Xerial.block_bytes(),
            Self::HadoopSnappy => 2 * Framing::Hadoop.block_bytes(),
            Self::Zstd => 4 << 20,
            Self::Bzip2 => 5200 << 10,
        }
    }

    /// A compressor of one file.
    pub fn compressor(self) -> Result<Compressor> {
        Ok(Compressor(match self {
            Self::None => Stream::None(Vec::new()),
            Self::Gzip => Stream::Gzip(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6))),
            Self::Zip => {
                let out = Shared::default();
                Stream::Zip { stream: Box::new(zip_stream(out.clone())?), out }
            }
            Self::Snappy => Stream::Snappy(Blocks::of(Framing::Xerial)),
            Self::HadoopSnappy => Stream::Snappy(Blocks::of(Framing::Hadoop)),
            Self::Zstd => Stream::Zstd(zstd::stream::write::Encoder::new(Vec::new(), 3)?),
            Self::Bzip2 => Stream::Bzip2(bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::new(6))),
        }))
    }
}

/// Compresses one file; what is ready is taken while it goes on.
pub struct Compressor(Stream);

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Compressor")
    }
}

type ZipStream = zip::ZipWriter<zip::write::StreamWriter<Shared>>;

/// Bytes that an archive's writer gives out and its owner takes while it goes on.
#[derive(Debug, Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

enum Stream {
    None(Vec<u8>),
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Zip { stream: Box<ZipStream>, out: Shared },
    Snappy(Blocks),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Bzip2(bzip2::write::BzEncoder<Vec<u8>>),
}

fn zip_stream(out: Shared) -> Result<ZipStream> {
    let mut writer = zip::ZipWriter::new_stream(out);
    writer.start_file("data", zip::write::SimpleFileOptions::default()).map_err(|error| zip_error(&error))?;
    Ok(writer)
}

fn zip_error(error: &zip::result::ZipError) -> Error {
    Error::internal(format!("a zip member could not be written: {error}"))
}

impl Compressor {
    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.0 {
            Stream::None(out) => out.extend_from_slice(bytes),
            Stream::Gzip(stream) => stream.write_all(bytes)?,
            Stream::Zip { stream, .. } => stream.write_all(bytes)?,
            Stream::Snappy(stream) => stream.write(bytes)?,
            Stream::Zstd(stream) => stream.write_all(bytes)?,
            Stream::Bzip2(stream) => stream.write_all(bytes)?,
        }
        Ok(())
    }

    /// Takes the compressed bytes that are ready.
    pub fn drain(&mut self) -> Bytes {
        match &mut self.0 {
            Stream::None(out) => std::mem::take(out),
            Stream::Gzip(stream) => std::mem::take(stream.get_mut()),
            Stream::Zip { out, .. } => out.take(),
            Stream::Snappy(stream) => std::mem::take(&mut stream.out),
            Stream::Zstd(stream) => std::mem::take(stream.get_mut()),
            Stream::Bzip2(stream) => std::mem::take(stream.get_mut()),
        }
        .into()
    }

    /// Ends the file and gives the last bytes.
    pub fn finish(self) -> Result<Bytes> {
        Ok(match self.0 {
            Stream::None(out) => out,
            Stream::Gzip(stream) => stream.finish()?,
            Stream::Zip { stream, out } => {
                stream.finish().map_err(|error| zip_error(&error))?;
                out.take()
            }
            Stream::Snappy(stream) => stream.finish()?,
            Stream::Zstd(stream) => stream.finish()?,
            Stream::Bzip2(stream) => stream.finish()?,
        }
        .into())
    }
}

/// Whose blocks of snappy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// A header, then for each block its length and its bytes.
    Xerial,
    /// For each block its length before, its length after, and its bytes, as `BlockCompressorStream` writes it.
    Hadoop,
}

/// Mark of a snappy-java stream, its version, and the oldest that reads it.
const XERIAL_HEADER: &[u8; 16] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";

impl Framing {
    /// Uncompressed bytes of a block, as the originals have it.
    fn block_bytes(self) -> usize {
        match self {
            Self::Xerial => 32 << 10,
            Self::Hadoop => 256 << 10,
        }
    }
}

/// Snappy has no stream of its own: blocks, framed.
struct Blocks {
    framing: Framing,
    pending: Vec<u8>,
    out: Vec<u8>,
}

impl Blocks {
    fn of(framing: Framing) -> Self {
        let out = if framing == Framing::Xerial { XERIAL_HEADER.to_vec() } else { Vec::new() };
        Self { framing, pending: Vec::new(), out }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.pending.extend_from_slice(bytes);
        let size = self.framing.block_bytes();
        let whole = self.pending.len() - self.pending.len() % size;
        for block in self.pending[..whole].chunks(size) {
            write_block(self.framing, block, &mut self.out)?;
        }
        self.pending.drain(..whole);
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<u8>> {
        if !self.pending.is_empty() {
            write_block(self.framing, &self.pending, &mut self.out)?;
        }
        Ok(self.out)
    }
}

fn write_block(framing: Framing, raw: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let compressed = snap::raw::Encoder::new()
        .compress_vec(raw)
        .map_err(|error| Error::internal(format!("snappy could not compress: {error}")))?;
    let length = |length: usize| u32::try_from(length).map_err(|_| Error::internal("a block over 4 GB"));
    if framing == Framing::Hadoop {
        out.extend_from_slice(&length(raw.len())?.to_be_bytes());
    }
    out.extend_from_slice(&length(compressed.len())?.to_be_bytes());
    out.extend_from_slice(&compressed);
    Ok(())
}
