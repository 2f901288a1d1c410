//! One file of the log: records in a row, the first of which the file's name numbers.
//!
//! Invariant: a file is only appended to, and never again after an append or a sync of it failed.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use super::record::{FRAME_HEAD, Record, frame_length};

const SUFFIX: &str = ".log";

/// A segment on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    /// Number of its first record.
    pub(super) first: u64,
    /// Bytes of it that count.
    pub(super) bytes: u64,
}

/// Path of the segment that begins with a record.
pub(super) fn path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}{SUFFIX}"))
}

/// First numbers of all segments of a folder, ascending.
pub(super) fn list(folder: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number: Option<u64> =
            name.to_str().and_then(|name| name.strip_suffix(SUFFIX)).and_then(|name| name.parse().ok());
        found.extend(number);
    }
    found.sort_unstable();
    Ok(found)
}

/// Makes a new segment and its name durable.
pub(super) fn create(folder: &Path, first: u64) -> io::Result<File> {
    let file = OpenOptions::new().create_new(true).append(true).open(path(folder, first))?;
    sync_folder(folder)?;
    Ok(file)
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Appends frames and makes them durable.
pub(super) fn append(file: &mut File, frames: &[u8]) -> io::Result<()> {
    file.write_all(frames)?;
    file.sync_data()
}

/// Counts whole records of a segment, at most `limit`: how many, and where the last of them ends.
pub(super) fn scan(folder: &Path, first: u64, limit: u64) -> io::Result<(u64, u64)> {
    let mut cursor = Cursor::open(folder, first, 0)?;
    let mut count = 0;
    while count < limit && cursor.next()?.is_some() {
        count += 1;
    }
    Ok((count, cursor.at))
}

/// Reads the records of a segment one after another.
#[derive(Debug)]
pub(super) struct Cursor {
    file: File,
    /// Where the next frame starts.
    pub(super) at: u64,
    buffer: Vec<u8>,
    /// Bytes of the buffer that are used up.
    used: usize,
}

const READ_BYTES: usize = 256 << 10;

impl Cursor {
    pub(super) fn open(folder: &Path, first: u64, at: u64) -> io::Result<Self> {
        let mut file = File::open(path(folder, first))?;
        file.seek(SeekFrom::Start(at))?;
        Ok(Self { file, at, buffer: Vec::new(), used: 0 })
    }

    /// The next whole record.
    pub(super) fn next(&mut self) -> io::Result<Option<Record>> {
        self.fill(FRAME_HEAD)?;
        let Some(length) = frame_length(&self.buffer[self.used..]) else { return Ok(None) };
        self.fill(FRAME_HEAD + length)?;
        let Some((record, length)) = Record::read(&self.buffer[self.used..]) else { return Ok(None) };
        self.used += length;
        self.at += length as u64;
        Ok(Some(record))
    }

    /// Reads until so many bytes are there, or the file ends.
    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        if self.buffer.len() - self.used >= wanted {
            return Ok(());
        }
        self.buffer.drain(..self.used);
        self.used = 0;
        while self.buffer.len() < wanted {
            let before = self.buffer.len();
            self.buffer.resize(before + READ_BYTES.max(wanted - before), 0);
            let read = self.file.read(&mut self.buffer[before..])?;
            self.buffer.truncate(before + read);
            if read == 0 {
                break;
            }
        }
        Ok(())
    }
}
