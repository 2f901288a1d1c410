//! Randomness of the data sets: SplitMix64 (Steele, Lea and Flood, 2014), written out here because a crate may change
//! its numbers from one version to the next.
//!
//! Invariant: the same seed and label give the same numbers on every machine and in every release.

use std::fmt::Write;

/// A stream of numbers fixed by its seed.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    /// The stream of one thing (a session, a post) of one data set: streams of different labels or indexes are unrelated.
    pub(super) fn of(seed: u64, label: &str, index: u64) -> Self {
        let label = label.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3) // FNV-1a
        });
        let mut mixed = Self(seed ^ label.rotate_left(17));
        let start = mixed.next() ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = Self(start);
        random.next();
        random
    }

    /// The next 64 bits.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `limit - 1`; 0 for a limit of 0.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    /// A number from `first` to `last`, both included.
    pub(super) fn between(&mut self, first: i64, last: i64) -> i64 {
        first + self.below((last - first + 1) as u64) as i64
    }

    /// True in `percent` of 100 calls.
    pub(super) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of the choices, all equally likely; the choices are never empty.
    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// 32 hex digits in the form of a version 4 UUID, without dashes.
    pub(super) fn uuid_hex(&mut self) -> String {
        let high = (self.next() & !0xf000) | 0x4000;
        let low = (self.next() & !(0b11 << 62)) | (0b10 << 62);
        let mut text = String::with_capacity(32);
        let _ = write!(text, "{high:016x}{low:016x}");
        text
    }

    /// A version 4 UUID with dashes.
    pub(super) fn uuid(&mut self) -> String {
        let hex = self.uuid_hex();
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }
}
