//! Local files that are read while others write to them: a part at a time, each up to the last line that is whole.
//!
//! ```text
//!  resting ──look: has it grown?──> part [byte, last line's end) ──read──> resting at its end
//! ```
//!
//! Invariant: a byte is read once, and only when the line it belongs to has its end; a file that gets shorter is an error.

use std::{collections::HashSet, sync::Arc, time::Duration};

use headwater_engine::{
    connector::{Bound, Offset, SourceEvent, SplitId},
    error::{Error, Result},
};
use object_store::ObjectStoreExt;
use tokio::time::Instant;

use super::reader::At;
use crate::lake::{
    listing::{LakeFile, Listing},
    stores::store_error,
};

/// How often files are looked at, unless the table says otherwise.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of one part at the most, unless a line is longer.
const PART_BYTES: u64 = 64 << 20;
/// Bytes read at once to find the last line's end.
const WINDOW: u64 = 64 << 10;

/// A position in a file: what has been read of it in all, and where the part that is being read began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) at: At,
    /// First byte of the part.
    pub(super) byte: u64,
    /// What had been read before it.
    pub(super) base: At,
}

impl Position {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let Some((at, part)) = text.split_once('@') else {
            return Ok(Self { at: At::parse(text)?, ..Self::default() });
        };
        let parsed = part.split_once(',').and_then(|(byte, base)| Some((byte.parse().ok()?, At::parse(base).ok()?)));
        let (byte, base) =
            parsed.ok_or_else(|| Error::internal(format!("\"{text}\" is not a position in a growing file")))?;
        Ok(Self { at: At::parse(at)?, byte, base })
    }

    pub(super) fn offset(self) -> Offset {
        Offset::new(format!("{}@{},{}", self.at.text(), self.byte, self.base.text()))
    }
}

/// A part of a file on its way.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) begin: Position,
    /// One past its last byte, which is a line's end.
    pub(super) end: u64,
    file: (Arc<Listing>, LakeFile),
    /// Where a run that ends stops.
    until: Option<u64>,
}

/// A file that waits for more.
#[derive(Debug)]
pub(super) struct Resting {
    pub(super) id: SplitId,
    position: Position,
    pub(super) file: (Arc<Listing>, LakeFile),
    until: Option<u64>,
    /// Whether it has been said that there is no more for now.
    is_told: bool,
}

/// What a look has found.
#[derive(Debug, Default)]
pub(super) struct Looked {
    pub(super) grown: Vec<(Resting, Part)>,
    pub(super) news: Vec<SourceEvent>,
}

/// The growing files of one task that are not being read now.
#[derive(Debug)]
pub(super) struct Growing {
    interval: Duration,
    bound: Bound,
    resting: Vec<Resting>,
    next_look: Instant,
}

/// What has become of a file.
enum Fate {
    Same,
    Gone,
    /// Its whole lines, or those of a part, end here; it has so many bytes.
    Lines {
        end: u64,
        size: u64,
    },
}

impl Growing {
    pub(super) fn new(interval: Option<Duration>, bound: Bound) -> Self {
        let interval = interval.unwrap_or(LOOK_INTERVAL);
        Self { interval, bound, resting: Vec::new(), next_look: Instant::now() }
    }

    /// Takes a file up that is to be read from a position.
    pub(super) fn rest(&mut self, id: SplitId, position: Position, file: (Arc<Listing>, LakeFile)) {
        // Read again from the part's first byte: what is before the position is left out by the reader.
        self.resting.push(Resting { id, position, file, until: None, is_told: false });
        self.next_look = Instant::now();
    }

    /// A part has been read to its end.
    pub(super) fn rested(&mut self, id: SplitId, at: At, part: Part) {
        let position = Position { at, byte: part.end, base: at };
        self.resting.push(Resting { id, position, file: part.file, until: part.until, is_told: false });
        self.next_look = Instant::now();
    }

    /// Waits for the time of the next look, then takes out what has grown or ended. Cancel-safe.
    pub(super) async fn look(&mut self, paused: &HashSet<SplitId>) -> Result<Looked> {
        if self.resting.is_empty() {
            return std::future::pending().await;
        }
        tokio::time::sleep_until(self.next_look).await;
        let mut fates = Vec::with_capacity(self.resting.len());
        for resting in &self.resting {
            fates.push(if paused.contains(&resting.id) { Fate::Same } else { self.fate(resting).await? });
        }
        self.next_look = Instant::now() + self.interval;
        let mut looked = Looked::default();
        for (resting, fate) in std::mem::take(&mut self.resting).into_iter().zip(fates) {
            if !paused.contains(&resting.id) {
                self.settle(resting, fate, &mut looked);
            } else {
                self.resting.push(resting);
            }
        }
        Ok(looked)
    }

    async fn fate(&self, resting: &Resting) -> Result<Fate> {
        let (listing, file) = &resting.file;
        let place = &listing.partitions[file.partition].place;
        let failed = |error| store_error(&place.display(&file.path), error);
        let byte = resting.position.byte;
        let size = match (resting.until, place.store.head(&file.path).await) {
            (Some(until), _) => until,
            (None, Ok(found)) => found.size,
            (None, Err(object_store::Error::NotFound { .. })) => return Ok(Fate::Gone),
            (None, Err(error)) => return Err(failed(error)),
        };
        if size < byte {
            let message =
                format!("\"{}\" had {byte} bytes that were read, and has {size} now", place.display(&file.path));
            return Err(Error::data("FILE_CHANGED", message)
                .with_hint("with 'source.growing-files' a file only grows: begin another one instead of emptying it"));
        }
        let mut limit = size.min(byte + PART_BYTES);
        loop {
            let mut end = limit;
            while end > byte {
                let start = end.saturating_sub(WINDOW).max(byte);
                let window = place.store.get_range(&file.path, start..end).await.map_err(failed)?;
                if let Some(at) = memchr::memrchr(b'\n', &window) {
                    return Ok(Fate::Lines { end: start + at as u64 + 1, size });
                }
                end = start;
            }
            if limit == size {
                return Ok(Fate::Same);
            }
            limit = size.min(limit + PART_BYTES);
        }
    }

    fn settle(&mut self, mut resting: Resting, fate: Fate, looked: &mut Looked) {
        match fate {
            Fate::Gone => looked.news.push(SourceEvent::Ended { split: resting.id, children: Vec::new() }),
            Fate::Lines { end, size } => {
                if self.bound == Bound::EndNow && resting.until.is_none() {
                    resting.until = Some(size);
                }
                let (begin, file, until) = (resting.position, resting.file.clone(), resting.until);
                looked.grown.push((resting, Part { begin, end, file, until }));
            }
            Fate::Same if self.bound == Bound::EndNow => {
                let resume_at = Some(resting.position.offset());
                looked.news.push(SourceEvent::ReachedEnd { split: resting.id, resume_at });
            }
            Fate::Same => {
                if !std::mem::replace(&mut resting.is_told, true) {
                    looked.news.push(SourceEvent::CaughtUp(resting.id.clone()));
                }
                self.resting.push(resting);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_back_and_those_of_whole_files_are_understood() {
        let at = |rows, rejected| At { rows, rejected };
        let position = Position { at: at(7, 2), byte: 90, base: at(5, 1) };
        assert_eq!(Position::parse(&position.offset().0).unwrap(), position);
        assert_eq!(Position::parse("7,2").unwrap(), Position { at: at(7, 2), ..Position::default() });
        assert!(Position::parse("7,2@x").is_err());
    }
}
