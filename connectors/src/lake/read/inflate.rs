//! Chunks of a file as fetched to chunks as written, off the async workers.
//!
//! Invariant: what is fed comes out inflated, in order and whole, or as one error; memory stays bounded by the whole
//! gzip limit for small files and by a few chunks for all others.

use std::io::{self, Read};

use bytes::{Buf, Bytes, BytesMut};
use headwater_engine::error::{Error, Result};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::lake::compression::{self, Compression, WHOLE_COMPRESSED_MAX};

/// Chunks on their way into and out of the inflating thread.
const CHUNKS: usize = 2;

/// Inflates one file.
pub(super) struct Inflater {
    shown: String,
    mode: Mode,
    pending: Option<Bytes>,
    is_last: bool,
    /// Memory to inflate a whole file into, and what was.
    spare: BytesMut,
    whole: Option<Bytes>,
}

enum Mode {
    /// Not compressed.
    Plain,
    /// Collected, then inflated at once.
    Whole(Vec<Bytes>),
    /// Inflated as it comes by a thread of its own.
    Streaming { compression: Compression, input: Option<Sender<Bytes>>, output: Receiver<io::Result<Bytes>> },
}

impl Inflater {
    /// An inflater of a file of so many bytes. `spare` is memory of an earlier one, by [`Self::into_spare`].
    pub(super) fn new(shown: &str, compression: Option<Compression>, size: u64, spare: BytesMut) -> Self {
        let mode = match compression {
            None => Mode::Plain,
            Some(Compression::Gzip) if size <= WHOLE_COMPRESSED_MAX => Mode::Whole(Vec::new()),
            Some(compression) => streaming(compression),
        };
        Self { shown: shown.to_owned(), mode, pending: None, is_last: false, spare, whole: None }
    }

    /// The memory a whole file was inflated into, if nobody holds a part of it: to fetch it from the system again for each
    /// file takes as long as half of the inflating.
    pub(super) fn into_spare(self) -> BytesMut {
        self.whole.and_then(|whole| whole.try_into_mut().ok()).unwrap_or(self.spare)
    }

    /// Adds the next chunk of the file; take all that [`Self::next`] gives before the next one.
    pub(super) fn feed(&mut self, chunk: Bytes, is_last: bool) {
        (self.pending, self.is_last) = (Some(chunk), is_last);
    }

    /// The next inflated bytes, or `None` when more of the file is needed or all is out. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        match &mut self.mode {
            Mode::Plain => return Ok(self.pending.take()),
            Mode::Whole(parts) => {
                parts.extend(self.pending.take());
                if !self.is_last || parts.is_empty() {
                    return Ok(None);
                }
                let compressed = join(std::mem::take(parts));
                let kept = compressed.clone();
                let spare = std::mem::take(&mut self.spare);
                let inflated = tokio::task::spawn_blocking(move || compression::inflate_whole(&kept, spare)).await;
                match inflated.map_err(|error| Error::internal(format!("inflating ended early: {error}")))? {
                    Some(inflated) => {
                        self.whole = Some(inflated.clone());
                        return Ok(Some(inflated));
                    }
                    None => {
                        self.mode = streaming(Compression::Gzip);
                        self.pending = Some(compressed);
                    }
                }
            }
            Mode::Streaming { .. } => {}
        }
        self.next_streamed().await
    }

    async fn next_streamed(&mut self) -> Result<Option<Bytes>> {
        let Mode::Streaming { compression, input, output } = &mut self.mode else { return Ok(None) };
        loop {
            let found = match input.as_ref().filter(|_| self.pending.is_some()) {
                None if !self.is_last => return Ok(None),
                None => {
                    *input = None;
                    output.recv().await
                }
                Some(sender) => tokio::select! {
                    permit = sender.reserve() => {
                        if let (Ok(permit), Some(chunk)) = (permit, self.pending.take()) {
                            permit.send(chunk);
                        }
                        continue;
                    }
                    found = output.recv() => found,
                },
            };
            return match found {
                Some(found) => found.map(Some).map_err(|error| compression::broken(&self.shown, *compression, &error)),
                None if self.pending.is_some() || input.is_some() => {
                    let rest =
                        io::Error::new(io::ErrorKind::InvalidData, "bytes follow its end that are no part of it");
                    Err(compression::broken(&self.shown, *compression, &rest))
                }
                None => Ok(None),
            };
        }
    }
}

fn join(mut parts: Vec<Bytes>) -> Bytes {
    match parts.len() {
        1 => parts.swap_remove(0),
        _ => parts.concat().into(),
    }
}

fn streaming(compression: Compression) -> Mode {
    let (input, chunks) = channel(CHUNKS);
    let (results, output) = channel(CHUNKS);
    tokio::task::spawn_blocking(move || {
        let fed = Fed { chunks, current: Bytes::new() };
        if let Err(error) = inflate(compression, fed, &results) {
            // Nobody listens if the scan has stopped.
            let _ = results.blocking_send(Err(error));
        }
    });
    Mode::Streaming { compression, input: Some(input), output }
}

fn inflate(compression: Compression, fed: Fed, results: &Sender<io::Result<Bytes>>) -> io::Result<()> {
    let mut reader = compression.reader(fed)?;
    loop {
        let chunk = compression::next_chunk(&mut reader)?;
        if chunk.is_empty() || results.blocking_send(Ok(chunk)).is_err() {
            return Ok(());
        }
    }
}

/// Reads what is fed, waiting for more.
struct Fed {
    chunks: Receiver<Bytes>,
    current: Bytes,
}

impl Read for Fed {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(next) => self.current = next,
                None => return Ok(0),
            }
        }
        let length = out.len().min(self.current.len());
        self.current.copy_to_slice(&mut out[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    async fn all(inflater: &mut Inflater, compressed: &[u8], chunk: usize) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let chunks: Vec<_> = compressed.chunks(chunk).collect();
        for (index, part) in chunks.iter().enumerate() {
            inflater.feed(Bytes::copy_from_slice(part), index + 1 == chunks.len());
            while let Some(bytes) = inflater.next().await? {
                out.extend_from_slice(&bytes);
            }
        }
        Ok(out)
    }

    #[tokio::test]
    async fn chunks_come_out_whole_in_every_mode() -> Result<(), Box<dyn std::error::Error>> {
        let data: Vec<u8> = (0..3_000_000u32).flat_map(|n| (n % 977).to_le_bytes()).collect();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&data)?;
        let gzip = gzip.finish()?;
        let twice = [gzip.clone(), gzip.clone()].concat();
        let zstd = zstd::encode_all(data.as_slice(), 1)?;
        for (compression, bytes, size, times) in [
            (None, &data, 0, 1),
            (Some(Compression::Gzip), &gzip, 0, 1),
            (Some(Compression::Gzip), &gzip, u64::MAX, 1),
            (Some(Compression::Gzip), &twice, 0, 2),
            (Some(Compression::Zstd), &zstd, 0, 1),
        ] {
            let mut inflater = Inflater::new("f", compression, size, BytesMut::new());
            let out = all(&mut inflater, bytes, 100_000).await?;
            assert!(out == data.repeat(times), "{compression:?} {size}");
        }
        let mut cut = Inflater::new("f.gz", Some(Compression::Gzip), 0, BytesMut::new());
        let error = all(&mut cut, &gzip[..gzip.len() / 2], 10_000).await.unwrap_err();
        assert!(error.message().contains("f.gz"), "{error}");
        Ok(())
    }
}
