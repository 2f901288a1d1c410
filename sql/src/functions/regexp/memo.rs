//! What a pattern found in the texts it saw, for texts that come again: columns often hold few different ones.
//!
//! A text is in one of a few places that follow each other, the first by its hash; where all are taken it replaces what
//! is in the first. Where few texts come again the memo rests for a while.
//!
//! Invariant: an answer is given only to the very text it was found for; at most [`PLACES`] are kept, a megabyte.

use headwater_engine::error::Result;

use super::pattern::Span;

/// What was found: `None` without a match, `Some(None)` where a group is not part of it.
pub(super) type Found = Option<Option<Span>>;

/// Places for texts; a power of two.
const PLACES: usize = 1 << 14;

/// Places a text may be in.
const PROBES: usize = 4;

/// Bytes of a text that is kept at the most, so that a place is one line of a processor's cache.
const TEXT_MAX: usize = 60;

/// So many texts are looked up before the memo weighs whether that is worth it, and so many rounds it rests if not.
const ROUND: u32 = 1 << 14;
const ROUNDS_OF_REST: u32 = 16;

/// Texts that are looked up together, so that their places come from memory at the same time.
pub(super) const TOGETHER: usize = 16;

/// Where a text is first looked for, and whether what is there may be it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Glance {
    place: usize,
    may_be: bool,
}

/// Answers of a pattern for one group.
#[derive(Debug, Default)]
pub(super) struct Memo {
    group: usize,
    places: Vec<Place>,
    asked: u32,
    known: u32,
    /// Texts to come that are not looked up.
    resting: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Nothing,
    NoMatch,
    NoGroup,
    Span,
}

#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Place {
    text: [u8; TEXT_MAX],
    length: u8,
    kept: Kept,
    start: u8,
    end: u8,
}

impl Place {
    const EMPTY: Self = Self { text: [0; TEXT_MAX], length: 0, kept: Kept::Nothing, start: 0, end: 0 };

    fn found(&self, text: &[u8]) -> Option<Found> {
        if usize::from(self.length) != text.len() || self.text.get(..text.len()) != Some(text) {
            return None;
        }
        match self.kept {
            Kept::Nothing => None,
            Kept::NoMatch => Some(None),
            Kept::NoGroup => Some(Some(None)),
            Kept::Span => Some(Some(Some((usize::from(self.start), usize::from(self.end))))),
        }
    }

    fn keep(&mut self, text: &[u8], found: Found) {
        let Some(own) = self.text.get_mut(..text.len()) else { return };
        own.copy_from_slice(text);
        let kept = match found {
            None => Kept::NoMatch,
            Some(None) => Kept::NoGroup,
            Some(Some(_)) => Kept::Span,
        };
        let (start, end) = found.flatten().unwrap_or_default();
        // A text is shorter than 256 bytes, and so are the places in it.
        (self.length, self.kept, self.start, self.end) = (text.len() as u8, kept, start as u8, end as u8);
    }
}

impl Memo {
    /// A first look for some texts, of which each is then asked for by [`Self::find_glanced`].
    pub(super) fn glance<'t>(&self, texts: impl Iterator<Item = &'t str>) -> [Glance; TOGETHER] {
        let mut glances = [Glance::default(); TOGETHER];
        if self.resting == 0 && !self.places.is_empty() {
            for (glance, text) in glances.iter_mut().zip(texts) {
                let place = place_of(text.as_bytes());
                let may_be = self.places.get(place).is_some_and(|kept| usize::from(kept.length) == text.len());
                *glance = Glance { place, may_be };
            }
        }
        glances
    }

    /// What [`Self::find`] gives, for a text that was looked for.
    #[inline]
    pub(super) fn find_glanced(
        &mut self,
        glance: Glance,
        text: &str,
        group: usize,
        find: impl FnOnce() -> Result<Found>,
    ) -> Result<Found> {
        if glance.may_be
            && self.group == group
            && let Some(found) = self.places.get(glance.place).and_then(|place| place.found(text.as_bytes()))
        {
            self.asked += 1;
            self.known += 1;
            return Ok(found);
        }
        self.find(text, group, find)
    }

    /// What is known of a text and a group, or what `find` finds.
    pub(super) fn find(&mut self, text: &str, group: usize, find: impl FnOnce() -> Result<Found>) -> Result<Found> {
        let text = text.as_bytes();
        if text.len() > TEXT_MAX || self.rests() {
            return find();
        }
        if self.places.is_empty() || self.group != group {
            self.places.clear();
            self.places.resize(PLACES, Place::EMPTY);
            self.group = group;
        }
        self.asked += 1;
        let first = place_of(text);
        let mut free = first;
        for at in (0..PROBES).map(|probe| (first + probe) % PLACES) {
            let Some(place) = self.places.get(at) else { break };
            if let Some(found) = place.found(text) {
                self.known += 1;
                return Ok(found);
            }
            if place.kept == Kept::Nothing {
                free = at;
                break;
            }
        }
        let found = find()?;
        if let Some(place) = self.places.get_mut(free) {
            place.keep(text, found);
        }
        Ok(found)
    }

    fn rests(&mut self) -> bool {
        if self.resting > 0 {
            self.resting -= 1;
            return true;
        }
        if self.asked >= ROUND {
            self.resting = if self.known < ROUND / 2 { ROUND * ROUNDS_OF_REST } else { 0 };
            (self.asked, self.known) = (0, 0);
        }
        false
    }
}

/// By a quick hash, sixteen bytes at a time; texts that meet in a place only cost time.
fn place_of(text: &[u8]) -> usize {
    const KEYS: [u64; 2] = [0xff51_afd7_ed55_8ccd, 0x9e37_79b9_7f4a_7c15];
    let fold = |hash: u64, (low, high): (u64, u64)| {
        let product = u128::from(low ^ KEYS[0] ^ hash) * u128::from(high ^ KEYS[1]);
        (product as u64) ^ ((product >> 64) as u64)
    };
    let halves = |pair: &[u8; 16]| {
        let pair = u128::from_le_bytes(*pair);
        (pair as u64, (pair >> 64) as u64)
    };
    let hash = match text.last_chunk::<16>() {
        // The last sixteen bytes again, whole, rather than what is left of them.
        Some(last) => text.as_chunks::<16>().0.iter().chain([last]).map(halves).fold(text.len() as u64, fold),
        None => fold(text.len() as u64, short(text)),
    };
    // The upper bits of a product depend on every bit of its factors.
    (hash.wrapping_mul(KEYS[0]) >> (u64::BITS - PLACES.trailing_zeros())) as usize
}

/// The bytes of a text shorter than sixteen, some of them twice.
fn short(text: &[u8]) -> (u64, u64) {
    if let (Some(first), Some(last)) = (text.first_chunk::<8>(), text.last_chunk::<8>()) {
        return (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
    }
    if let (Some(first), Some(last)) = (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        return (u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into());
    }
    (text.iter().fold(0, |bytes, byte| bytes << 8 | u64::from(*byte)), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Found {
        match text.len() % 3 {
            0 => None,
            1 => Some(None),
            _ => Some(Some((1, text.len()))),
        }
    }

    #[test]
    fn every_answer_is_that_of_its_own_text_and_group() {
        let mut memo = Memo::default();
        let mut searched = 0;
        for round in 0..8 {
            for number in 0..5_000 {
                let text = format!("{}{number}", "x".repeat(number % 70));
                let found = memo.find(&text, round / 4, || {
                    searched += 1;
                    Ok(of(&text).filter(|_| round / 4 == 0))
                });
                assert_eq!(found.unwrap(), of(&text).filter(|_| round / 4 == 0), "{text}");
            }
        }
        assert!(searched < 30_000, "nothing was remembered");
    }

    #[test]
    fn texts_of_a_column_that_come_again_are_searched_once() {
        let mut memo = Memo::default();
        let mut searched = 0;
        for number in 0..40_000 {
            let text = format!("  orange {} {}", ["Paris", "stone"][number % 2], number % 5_000);
            let found = memo.find(&text, 0, || {
                searched += 1;
                Ok(of(&text))
            });
            assert_eq!(found.unwrap(), of(&text));
        }
        assert!(searched < 5_500, "{searched} searches for 5,000 texts");
    }

    #[test]
    fn texts_looked_for_together_get_the_same_answers() {
        let (mut memo, mut searched) = (Memo::default(), 0);
        let texts: Vec<String> = (0..200_000).map(|n| "x".repeat(n * 7 % 70) + &(n % 4_000).to_string()).collect();
        for some in texts.chunks(TOGETHER) {
            let glances = memo.glance(some.iter().map(String::as_str));
            for (glance, text) in glances.into_iter().zip(some) {
                let found = memo.find_glanced(glance, text, 0, || {
                    searched += 1;
                    Ok(of(text))
                });
                assert_eq!(found.unwrap(), of(text), "{text}");
            }
        }
        assert!(searched < 100_000, "{searched} searches, though most texts come again");
    }

    #[test]
    fn it_rests_while_no_text_comes_again_and_wakes_up_later() {
        let mut memo = Memo::default();
        let mut ask = |text: &str| {
            let mut searched = false;
            let found = memo.find(text, 0, || {
                searched = true;
                Ok(None)
            });
            assert_eq!(found.unwrap(), None);
            searched
        };
        assert!((0..=ROUND).all(|number| ask(&number.to_string())));
        assert!(ask("again") && ask("again"), "it does not rest");
        for _ in 0..ROUND * ROUNDS_OF_REST {
            let _ = ask("again");
        }
        assert!(!ask("again"), "it does not wake up");
    }
}
