//! Compressed streams one after another in one file, where a codec's own reader stops at the end of the first.
//!
//! Invariant: the end is said only where the file ends and a stream is complete; bytes that begin no stream are an error.

use std::io::{self, BufRead, Read};

use flate2::bufread::{DeflateDecoder, ZlibDecoder};
use lz4_flex::frame::FrameDecoder;

/// Frames of LZ4.
pub(super) struct Lz4Frames<R: BufRead> {
    frames: FrameDecoder<Watched<R>>,
    /// The file ended after a frame: whoever asks again is told so again.
    has_ended: bool,
}

/// Notes whether somebody read past the end, which the frame reader takes for the end of a frame.
struct Watched<R> {
    input: R,
    is_past_end: bool,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(out)?;
        self.is_past_end |= length == 0 && !out.is_empty();
        Ok(length)
    }
}

impl<R: BufRead> Lz4Frames<R> {
    pub(super) fn new(input: R) -> Self {
        Self { frames: FrameDecoder::new(Watched { input, is_past_end: false }), has_ended: false }
    }
}

impl<R: BufRead> Read for Lz4Frames<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while !self.has_ended {
            let length = self.frames.read(out)?;
            if length > 0 || out.is_empty() {
                return Ok(length);
            }
            let watched = self.frames.get_mut();
            if watched.is_past_end {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the last frame is not complete"));
            }
            self.has_ended = watched.input.fill_buf()?.is_empty();
        }
        Ok(0)
    }
}

/// Streams of zlib, or of deflate without a header.
pub(super) enum Deflate<R> {
    Zlib(ZlibDecoder<R>),
    Raw(DeflateDecoder<R>),
    /// After the last one.
    Ended,
}

impl<R: BufRead> Deflate<R> {
    pub(super) fn new(mut input: R) -> io::Result<Self> {
        let is_zlib = match input.fill_buf()? {
            [method, flags, ..] => method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]) % 31 == 0,
            _ => false,
        };
        Ok(if is_zlib { Self::Zlib(ZlibDecoder::new(input)) } else { Self::Raw(DeflateDecoder::new(input)) })
    }

    /// Goes on with the stream that follows, of the same kind.
    fn advance(&mut self) -> io::Result<()> {
        *self = match std::mem::replace(self, Self::Ended) {
            Self::Zlib(stream) => {
                following(stream.into_inner())?.map_or(Self::Ended, |r| Self::Zlib(ZlibDecoder::new(r)))
            }
            Self::Raw(stream) => {
                following(stream.into_inner())?.map_or(Self::Ended, |r| Self::Raw(DeflateDecoder::new(r)))
            }
            Self::Ended => Self::Ended,
        };
        Ok(())
    }
}

/// The input, if something is left of it.
fn following<R: BufRead>(mut input: R) -> io::Result<Option<R>> {
    let is_empty = input.fill_buf()?.is_empty();
    Ok((!is_empty).then_some(input))
}

impl<R: BufRead> Read for Deflate<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let length = match self {
                Self::Zlib(stream) => stream.read(out)?,
                Self::Raw(stream) => stream.read(out)?,
                Self::Ended => return Ok(0),
            };
            if length > 0 || out.is_empty() {
                return Ok(length);
            }
            self.advance()?;
        }
    }
}
