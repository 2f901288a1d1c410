//! Compression of single files: told by content first, by name where content says nothing, and inflated.
//!
//! Invariant: inflating yields exactly the bytes that were compressed, members one after another, or an error; never
//! a silent part.

use std::io::{self, Cursor, Read};

use bytes::{Buf, Bytes, BytesMut};
use headwater_engine::error::{Error, Result};

mod members;
mod snappy;

/// Compressed size up to which a gzip file is inflated as a whole.
pub const WHOLE_COMPRESSED_MAX: u64 = 64 << 20;
/// Inflated size up to which it is.
const WHOLE_INFLATED_MAX: usize = 256 << 20;
/// Bytes inflated at a time otherwise.
pub const INFLATED_CHUNK: usize = 1 << 20;
/// First bytes that suffice to tell a compression.
pub const MAGIC_LENGTH: u64 = 10;

/// A compression that files are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// gzip, one or several members.
    Gzip,
    /// Zstandard.
    Zstd,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
    /// Snappy's framing format.
    SnappyFramed,
    /// snappy-java's stream.
    SnappyXerial,
    /// Hadoop's blocks of snappy.
    SnappyHadoop,
    /// LZ4 frames.
    Lz4,
    /// Hadoop's blocks of LZ4.
    Lz4Hadoop,
    /// zlib, or deflate without a header.
    Deflate,
    /// A zip archive; its files one after another.
    Zip,
}

impl Compression {
    /// What a file's name says.
    pub fn by_name(path: &str) -> Option<Self> {
        let (_, extension) = path.rsplit('/').next()?.rsplit_once('.')?;
        Some(match extension.to_ascii_lowercase().as_str() {
            "gz" | "gzip" => Self::Gzip,
            "zst" | "zstd" => Self::Zstd,
            "bz2" => Self::Bzip2,
            "xz" => Self::Xz,
            "snappy" | "snz" | "hsnappy" | "sz" => Self::SnappyHadoop,
            "lz4" => Self::Lz4Hadoop,
            "deflate" | "zlib" => Self::Deflate,
            "zip" => Self::Zip,
            _ => return None,
        })
    }

    /// What a file's first bytes say.
    pub fn by_magic(start: &[u8]) -> Option<Self> {
        const MAGIC: [(&[u8], Compression); 8] = [
            (&[0x1f, 0x8b, 0x08], Compression::Gzip),
            (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
            (&[0xfd, b'7', b'z', b'X', b'Z', 0], Compression::Xz),
            (&[0xff, 0x06, 0x00, 0x00, b's', b'N', b'a', b'P', b'p', b'Y'], Compression::SnappyFramed),
            (&[0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0], Compression::SnappyXerial),
            (&[0x04, 0x22, 0x4d, 0x18], Compression::Lz4),
            (b"PK\x03\x04", Compression::Zip),
            (b"PK\x05\x06", Compression::Zip),
        ];
        let start = &start[..start.len().min(MAGIC_LENGTH as usize)];
        let bzip2 = || start.starts_with(b"BZh") && start.get(4..10) == Some(&[0x31, 0x41, 0x59, 0x26, 0x53, 0x59]);
        let found = MAGIC.iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, compression)| *compression);
        found.or_else(|| bzip2().then_some(Self::Bzip2))
    }

    /// Compression of a file: what its bytes say, else its name if the compression has no mark of its own.
    pub fn of(path: &str, start: &[u8]) -> Option<Self> {
        Self::by_magic(start).or_else(|| {
            Self::by_name(path)
                .filter(|named| matches!(named, Self::SnappyHadoop | Self::Lz4Hadoop | Self::Deflate))
                .filter(|named| !looks_like_text(start, *named))
        })
    }

    /// A reader of the inflated bytes.
    pub fn reader<'a>(self, compressed: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
        let mut buffered = io::BufReader::with_capacity(256 << 10, compressed);
        Ok(match self {
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(buffered)),
            Self::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(buffered)?),
            Self::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(buffered)),
            Self::Xz => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(buffered)),
            Self::SnappyFramed => Box::new(snap::read::FrameDecoder::new(buffered)),
            Self::SnappyXerial => Box::new(snappy::Blocks::xerial(buffered)),
            Self::SnappyHadoop => Box::new(snappy::Blocks::hadoop_snappy(buffered)),
            Self::Lz4 => Box::new(members::Lz4Frames::new(buffered)),
            Self::Lz4Hadoop => Box::new(snappy::Blocks::hadoop_lz4(buffered)),
            Self::Deflate => Box::new(members::Deflate::new(buffered)?),
            Self::Zip => {
                let mut archive = Vec::new();
                buffered.read_to_end(&mut archive)?;
                Box::new(Cursor::new(unzip(archive)?))
            }
        })
    }
}

/// Whether a file is plain in spite of its name. The blocks of Hadoop begin with a length below 2^24; deflate may begin
/// with any byte, so that only the brackets of JSON tell there.
fn looks_like_text(start: &[u8], named: Compression) -> bool {
    start.first().is_none_or(|first| match named {
        Compression::Deflate => matches!(first, b'{' | b'['),
        _ => first.is_ascii_graphic() || first.is_ascii_whitespace(),
    })
}

fn unzip(archive: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut archive = zip::ZipArchive::new(Cursor::new(archive))?;
    let mut inflated = Vec::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index)?;
        if file.is_file() {
            file.read_to_end(&mut inflated)?;
        }
    }
    Ok(inflated)
}

/// Inflates a gzip file as a whole if it is one member of a bearable size; `None` leaves it to the streaming reader.
/// `spare` is memory that may be used for it.
pub fn inflate_whole(compressed: &[u8], mut spare: BytesMut) -> Option<Bytes> {
    let trailer = compressed.len().checked_sub(8)?;
    let mut tail = &compressed[trailer..];
    let (crc, length) = (tail.get_u32_le(), tail.get_u32_le() as usize);
    let members = if length > WHOLE_INFLATED_MAX { Members::Several } else { members(&compressed[1..]) };
    if members == Members::Several {
        return None;
    }
    if spare.capacity() < length {
        spare = BytesMut::zeroed(length);
    } else {
        spare.resize(length, 0);
    }
    // This compares the checksum of the member it finds; a file that may have another one is compared with its end too.
    let found = libdeflater::Decompressor::new().gzip_decompress(compressed, &mut spare).ok()?;
    let is_whole = found == length && (members == Members::One || checksum(&spare) == crc);
    is_whole.then(|| spare.freeze())
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut sum = libdeflater::Crc::new();
    sum.update(bytes);
    sum.sum()
}

/// What a look for the start of another gzip member finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Members {
    /// There is none.
    One,
    /// Bytes that no known program would begin a member with.
    Perhaps,
    /// What looks like one; wrong at times, which costs time only.
    Several,
}

fn members(rest: &[u8]) -> Members {
    let mut found = Members::One;
    for at in memchr::memmem::find_iter(rest, &[0x1f, 0x8b, 0x08]) {
        let header = &rest[at..];
        if header.get(3).is_none_or(|flags| *flags >= 0x20) {
            continue;
        }
        found = Members::Perhaps;
        if header.get(8).is_some_and(|effort| matches!(effort, 0 | 2 | 4))
            && header.get(9).is_some_and(|system| *system <= 13 || *system == 255)
        {
            return Members::Several;
        }
    }
    found
}

/// The error of a file that does not inflate.
pub fn broken(path: &str, compression: Compression, error: &io::Error) -> Error {
    Error::data("HIVE_CURSOR_ERROR", format!("file \"{path}\" is not whole {compression:?} data: {error}"))
        .with_hint("it may be cut short; write it again or move it away")
}

/// Reads the next chunk of inflated bytes; empty at the end.
pub fn next_chunk(reader: &mut dyn Read) -> io::Result<Bytes> {
    let mut chunk = Vec::with_capacity(INFLATED_CHUNK);
    reader.take(INFLATED_CHUNK as u64).read_to_end(&mut chunk)?;
    Ok(chunk.into())
}

/// Inflates all of a file that is in memory, up to a limit of bytes.
pub fn inflate_start(path: &str, compressed: &[u8], limit: u64) -> Result<Bytes> {
    let Some(compression) = Compression::of(path, compressed) else {
        return Ok(Bytes::copy_from_slice(
            &compressed[..compressed.len().min(usize::try_from(limit).unwrap_or(usize::MAX))],
        ));
    };
    let mut inflated = Vec::new();
    let read = compression.reader(compressed).and_then(|reader| reader.take(limit).read_to_end(&mut inflated));
    match read {
        Err(error) if inflated.is_empty() => Err(broken(path, compression, &error)),
        _ => Ok(inflated.into()),
    }
}

#[cfg(test)]
mod tests;
