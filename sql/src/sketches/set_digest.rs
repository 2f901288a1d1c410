//! Sets that can be compared: a distinct count and the least hashes of the values with how often each came.
//!
//! Bytes are those of Trino's `SetDigest` type. Source: A. Broder, "On the resemblance and containment of documents" (1997).
//!
//! Invariant: while fewer than the limit of hashes are kept, every answer is exact.

use std::collections::BTreeMap;

use headwater_engine::error::Result;

use super::{bytes::Reader, hll::Hll};

const VERSION: u8 = 1;
/// Hashes kept.
const HASHES_MAX: usize = 8192;
/// Bucket bits of the distinct count within.
const COUNT_BITS: u8 = 11;

/// A set of values.
#[derive(Debug, Clone, PartialEq)]
pub struct SetDigest {
    count: Hll,
    hashes: BTreeMap<i64, u16>,
}

impl Default for SetDigest {
    fn default() -> Self {
        Self { count: Hll::new(COUNT_BITS), hashes: BTreeMap::new() }
    }
}

impl SetDigest {
    /// Takes the hash of a value.
    pub fn add(&mut self, hash: u64) {
        self.count.add(hash);
        self.keep(hash as i64, 1);
    }

    fn keep(&mut self, hash: i64, times: u16) {
        let known = self.hashes.entry(hash).or_insert(0);
        *known = known.saturating_add(times);
        if self.hashes.len() > HASHES_MAX {
            self.hashes.pop_last();
        }
    }

    /// Takes what another one took.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        self.count.merge(&other.count)?;
        other.hashes.iter().for_each(|(hash, times)| self.keep(*hash, *times));
        Ok(())
    }

    fn is_exact(&self) -> bool {
        self.hashes.len() < HASHES_MAX
    }

    /// The estimated number of distinct values.
    pub fn cardinality(&self) -> i64 {
        if self.is_exact() { self.hashes.len() as i64 } else { self.count.cardinality() }
    }

    /// How much two sets have in common, from 0 to 1.
    pub fn jaccard(&self, other: &Self) -> f64 {
        let smaller = self.hashes.len().min(other.hashes.len());
        let mut union: Vec<i64> = self.hashes.keys().chain(other.hashes.keys()).copied().collect();
        union.sort_unstable();
        union.dedup();
        let shared = union
            .iter()
            .take(smaller)
            .filter(|hash| self.hashes.contains_key(hash) && other.hashes.contains_key(hash))
            .count();
        shared as f64 / smaller as f64
    }

    /// The estimated number of values in both.
    pub fn intersection(&self, other: &Self) -> Result<i64> {
        if self.is_exact() && other.is_exact() {
            return Ok(self.hashes.keys().filter(|hash| other.hashes.contains_key(hash)).count() as i64);
        }
        let mut both = self.count.clone();
        both.merge(&other.count)?;
        let shared = (self.jaccard(other) * both.cardinality() as f64).round() as i64;
        Ok(shared.min(self.cardinality()).min(other.cardinality()))
    }

    /// The hashes kept, with how often each came.
    pub fn counts(&self) -> impl Iterator<Item = (i64, i16)> {
        self.hashes.iter().map(|(hash, times)| (*hash, i16::try_from(*times).unwrap_or(i16::MAX)))
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        self.count.size() + self.hashes.len() * size_of::<(i64, u16)>() * 2
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let count = self.count.to_bytes();
        let mut out = vec![VERSION];
        out.extend((count.len() as u32).to_le_bytes());
        out.extend(count);
        out.extend((HASHES_MAX as u32).to_le_bytes());
        out.extend((self.hashes.len() as u32).to_le_bytes());
        self.hashes.keys().for_each(|hash| out.extend(hash.to_le_bytes()));
        self.hashes.values().for_each(|times| out.extend(times.to_le_bytes()));
        out
    }

    /// The set of bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, "SetDigest");
        if reader.u8()? != VERSION {
            return Err(reader.broken());
        }
        let length = reader.u32()? as usize;
        let count = Hll::from_bytes(reader.take(length)?)?;
        let (_, kept) = (reader.u32()?, reader.u32()?);
        let hashes = (0..kept).map(|_| reader.i64()).collect::<Result<Vec<_>>>()?;
        let times = (0..kept).map(|_| reader.u16()).collect::<Result<Vec<_>>>()?;
        Ok(Self { count, hashes: hashes.into_iter().zip(times).collect() })
    }
}
