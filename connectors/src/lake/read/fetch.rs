//! Ranges of files: of local ones into memory that was used before and is not cleared, of all others as their store gives them.
//!
//! Invariant: a range comes whole or as an error that names the file.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
};

use bytes::Bytes;
use headwater_engine::error::{Error, Result};
use object_store::{GetOptions, GetResultPayload, path::Path};
use parking_lot::Mutex;

use crate::lake::stores::{Place, store_error};

/// Chunks that were decoded: their memory serves the next ones, since to get it from the system takes as long as to read
/// into it.
#[derive(Debug)]
pub(super) struct Used {
    chunks: Mutex<VecDeque<Bytes>>,
    most: usize,
}

impl Used {
    /// Keeps at most so many chunks.
    pub(super) fn new(most: usize) -> Self {
        Self { chunks: Mutex::default(), most }
    }

    /// Takes a chunk back.
    pub(super) fn put(&self, chunk: Bytes) {
        let mut chunks = self.chunks.lock();
        chunks.push_back(chunk);
        if chunks.len() > self.most {
            chunks.pop_front();
        }
    }

    /// Memory of the oldest chunk, if no row or rejected record refers to it.
    pub(super) fn take(&self) -> Vec<u8> {
        let mut chunks = self.chunks.lock();
        match chunks.front() {
            Some(oldest) if oldest.is_unique() => chunks.pop_front().map(Vec::from).unwrap_or_default(),
            _ => Vec::new(),
        }
    }
}

/// A range of a file, in `memory` if that is of use.
pub(super) async fn range(place: &Place, path: &Path, range: Range<u64>, memory: Vec<u8>) -> Result<Bytes> {
    let failed = |error| store_error(&place.display(path), error);
    let options = GetOptions { range: Some(range.into()), ..GetOptions::default() };
    let found = place.store.get_opts(path, options).await.map_err(failed)?;
    match found.payload {
        GetResultPayload::File(opened, _) => {
            let read = tokio::task::spawn_blocking(move || part(opened, found.range, memory)).await;
            let read = read.map_err(|error| Error::internal(format!("reading ended early: {error}")))?;
            read.map_err(|error| Error::from(error).context(place.display(path)))
        }
        GetResultPayload::Stream(_) => found.bytes().await.map_err(failed),
    }
}

fn part(mut file: File, range: Range<u64>, mut bytes: Vec<u8>) -> io::Result<Bytes> {
    let length = range.end - range.start;
    file.seek(SeekFrom::Start(range.start))?;
    bytes.clear();
    bytes.reserve_exact(usize::try_from(length).unwrap_or(usize::MAX));
    file.take(length).read_to_end(&mut bytes)?;
    match bytes.len() as u64 == length {
        true => Ok(bytes.into()),
        false => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file has become shorter")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn memory_serves_again_once_nobody_refers_to_it() -> io::Result<()> {
        let mut file = tempfile::tempfile()?;
        file.write_all(b"0123456789")?;
        let used = Used::new(2);
        let first = part(file.try_clone()?, 2..8, used.take())?;
        assert_eq!(first, "234567");
        let (held, place) = (first.slice(1..3), first.as_ptr());
        used.put(first);
        assert_eq!(used.take().capacity(), 0);
        drop(held);
        let second = part(file.try_clone()?, 0..4, used.take())?;
        assert_eq!((second.as_ref(), second.as_ptr()), (b"0123".as_slice(), place));
        assert!(part(file, 8..12, Vec::new()).is_err());
        Ok(())
    }
}
