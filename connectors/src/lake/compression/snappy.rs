//! Compressions without a crate of their own: snappy-java's stream, and Hadoop's blocks of snappy or LZ4.
//!
//! ```text
//!  xerial   82 'SNAPPY' 00, version, compatible version (4 bytes each), then blocks: length (big-endian), snappy
//!  hadoop   blocks: inflated length (big-endian), then until it is reached: length (big-endian), snappy or LZ4
//! ```
//!
//! Invariant: a length that the data does not bear out is an error.

use std::io::{self, BufRead, Read};

/// Longest block; what Hadoop and snappy-java write is far below.
const BLOCK_MAX: usize = 256 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Xerial,
    HadoopSnappy,
    HadoopLz4,
}

/// Reads such a file.
pub(super) struct Blocks<R> {
    input: R,
    framing: Framing,
    has_header: bool,
    /// Inflated bytes that the current Hadoop block still owes.
    owed: usize,
    block: Vec<u8>,
    at: usize,
}

impl<R: BufRead> Blocks<R> {
    pub(super) fn xerial(input: R) -> Self {
        Self::new(input, Framing::Xerial)
    }

    pub(super) fn hadoop_snappy(input: R) -> Self {
        Self::new(input, Framing::HadoopSnappy)
    }

    pub(super) fn hadoop_lz4(input: R) -> Self {
        Self::new(input, Framing::HadoopLz4)
    }

    fn new(input: R, framing: Framing) -> Self {
        Self { input, framing, has_header: false, owed: 0, block: Vec::new(), at: 0 }
    }

    fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.input.fill_buf()?.is_empty())
    }

    fn length(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 4];
        self.input.read_exact(&mut bytes)?;
        match usize::try_from(u32::from_be_bytes(bytes)) {
            Ok(length) if length <= BLOCK_MAX => Ok(length),
            _ => Err(wrong("a block is too long")),
        }
    }

    /// Inflates the next block; `false` at the end.
    fn next_block(&mut self) -> io::Result<bool> {
        if self.framing == Framing::Xerial && !self.has_header {
            let mut header = [0; 16];
            self.input.read_exact(&mut header)?;
            self.has_header = true;
        }
        while self.owed == 0 {
            if self.is_at_end()? {
                return Ok(false);
            }
            self.owed = match self.framing {
                Framing::Xerial => 1,
                Framing::HadoopSnappy | Framing::HadoopLz4 => self.length()?,
            };
        }
        let mut compressed = vec![0; self.length()?];
        self.input.read_exact(&mut compressed)?;
        let (block, at_most) = match self.framing {
            Framing::Xerial => (snappy(&compressed)?, usize::MAX),
            Framing::HadoopSnappy => (snappy(&compressed)?, self.owed),
            Framing::HadoopLz4 => (lz4(&compressed, self.owed)?, self.owed),
        };
        if block.len() > at_most || (block.is_empty() && self.framing != Framing::Xerial) {
            return Err(wrong("a block is not as long as it says"));
        }
        self.owed = if self.framing == Framing::Xerial { 0 } else { self.owed - block.len() };
        (self.block, self.at) = (block, 0);
        Ok(true)
    }
}

fn snappy(compressed: &[u8]) -> io::Result<Vec<u8>> {
    if snap::raw::decompress_len(compressed).map_err(io::Error::other)? > BLOCK_MAX {
        return Err(wrong("a block is too long"));
    }
    snap::raw::Decoder::new().decompress_vec(compressed).map_err(io::Error::other)
}

fn lz4(compressed: &[u8], length_max: usize) -> io::Result<Vec<u8>> {
    lz4_flex::block::decompress(compressed, length_max).map_err(io::Error::other)
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl<R: BufRead> Read for Blocks<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let length = out.len().min(self.block.len() - self.at);
        out[..length].copy_from_slice(&self.block[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}
