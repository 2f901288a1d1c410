//! Distinct counts: a HyperLogLog that is a sorted list of hash prefixes while it is small.
//!
//! Bytes are those of Trino's `HyperLogLog` type (its formats "sparse 2" and "dense 2"), so that sketches may be exchanged.
//! Sources: Flajolet et al., "HyperLogLog" (2007); Heule et al., "HyperLogLog in Practice" (2013) for the sparse form and
//! linear counting; O. Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (2017) for the middle range.
//!
//! Invariant: merging two sketches gives the sketch of both inputs together, whatever their order.

use headwater_engine::error::{Error, Result};

use super::bytes::Reader;

const SPARSE: u8 = 2;
const DENSE: u8 = 3;
/// Bits of a hash that a sparse entry keeps.
const PREFIX_BITS: u32 = 26;
/// Bits of a sparse entry that count the zeros behind the prefix.
const VALUE_BITS: u32 = 6;
/// By how many entries a sparse sketch grows; the step decides when it turns dense.
const ENTRY_STEP: usize = 10;
/// Above this share of empty buckets they are counted.
const EMPTY_SHARE_MIN: f64 = 0.4;
/// From so many values a bucket on, the raw estimate has no bias worth mending.
const UNBIASED_FROM: f64 = 5.0;
/// The largest difference to the baseline that a dense bucket holds in four bits.
const DELTA_MAX: u8 = 15;

/// A distinct count with `2^bits` buckets.
#[derive(Debug, Clone, PartialEq)]
pub struct Hll {
    bits: u8,
    form: Form,
}

#[derive(Debug, Clone, PartialEq)]
enum Form {
    /// Sorted entries: 26 bits of the hash, then the number of zeros after them.
    Sparse(Vec<u32>),
    /// For each bucket the longest run of zeros and the one behind it.
    Dense(Vec<u8>),
}

impl Hll {
    /// An empty sketch of `2^bits` buckets.
    pub fn new(bits: u8) -> Self {
        Self { bits, form: Form::Sparse(Vec::new()) }
    }

    /// The number of bucket bits for a standard error, as Trino chooses it.
    pub fn bits_for(error: f64) -> Result<u8> {
        const LEAST: f64 = 0.004_062_5;
        const MOST: f64 = 0.26;
        if !(LEAST..=MOST).contains(&error) {
            return Err(Error::user(
                "INVALID_FUNCTION_ARGUMENT",
                format!("standard error must be from {LEAST} to {MOST}: {error}"),
            ));
        }
        let buckets = (1.0816 / (error * error)).ceil() as u32;
        Ok((u32::BITS - (buckets - 1).leading_zeros()) as u8)
    }

    /// Takes the hash of a value.
    pub fn add(&mut self, hash: u64) {
        match &mut self.form {
            Form::Sparse(entries) => {
                let zeros = zeros_after(hash, PREFIX_BITS);
                insert(entries, (hash >> 32) as u32 & !value_mask() | zeros);
                self.settle();
            }
            Form::Dense(buckets) => {
                let bucket = (hash >> (64 - u32::from(self.bits))) as usize;
                let run = zeros_after(hash, u32::from(self.bits)) as u8 + 1;
                if let Some(known) = buckets.get_mut(bucket) {
                    *known = (*known).max(run);
                }
            }
        }
    }

    /// Takes what another sketch of the same size took.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if self.bits != other.bits {
            return Err(Error::user(
                "INVALID_FUNCTION_ARGUMENT",
                format!("cannot merge sketches of 2^{} and 2^{} buckets", self.bits, other.bits),
            ));
        }
        match (&mut self.form, &other.form) {
            (Form::Sparse(entries), Form::Sparse(more)) => {
                more.iter().for_each(|entry| insert(entries, *entry));
                self.settle();
            }
            (Form::Sparse(_), Form::Dense(_)) => {
                self.densify();
                return self.merge(other);
            }
            (Form::Dense(buckets), Form::Sparse(entries)) => raise(buckets, entries, self.bits),
            (Form::Dense(buckets), Form::Dense(more)) => {
                buckets.iter_mut().zip(more).for_each(|(known, run)| *known = (*known).max(*run));
            }
        }
        Ok(())
    }

    /// A sparse sketch that has grown past a dense one becomes one.
    fn settle(&mut self) {
        let Form::Sparse(entries) = &self.form else { return };
        let steps = entries.len().saturating_sub(1).div_ceil(ENTRY_STEP);
        if (1 + steps * ENTRY_STEP) * size_of::<u32>() > 1 << (self.bits - 1) {
            self.densify();
        }
    }

    fn densify(&mut self) {
        if let Form::Sparse(entries) = &self.form {
            let mut buckets = vec![0; 1 << self.bits];
            raise(&mut buckets, entries, self.bits);
            self.form = Form::Dense(buckets);
        }
    }

    /// The estimated number of distinct values.
    pub fn cardinality(&self) -> i64 {
        match &self.form {
            Form::Sparse(entries) => {
                let all = f64::from(1u32 << PREFIX_BITS);
                linear(all - entries.len() as f64, all).round() as i64
            }
            Form::Dense(buckets) => {
                let all = buckets.len() as f64;
                let empty = buckets.iter().filter(|run| **run == 0).count() as f64;
                if empty > all * EMPTY_SHARE_MIN {
                    return linear(empty, all).round() as i64;
                }
                let sum: f64 = buckets.iter().map(|run| 0.5f64.powi(i32::from(*run))).sum();
                let raw = alpha(self.bits) * all * all / sum;
                if raw > all * UNBIASED_FROM { raw.round() as i64 } else { improved(buckets, self.bits).round() as i64 }
            }
        }
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        match &self.form {
            Form::Sparse(entries) => entries.capacity() * size_of::<u32>(),
            Form::Dense(buckets) => buckets.capacity(),
        }
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        match &self.form {
            Form::Sparse(entries) => {
                let mut out = vec![SPARSE, self.bits];
                out.extend((entries.len() as u16).to_le_bytes());
                entries.iter().for_each(|entry| out.extend(entry.to_le_bytes()));
                out
            }
            Form::Dense(buckets) => {
                let base = buckets.iter().copied().min().unwrap_or(0);
                let mut out = vec![DENSE, self.bits, base];
                let delta = |run: &u8| (run - base).min(DELTA_MAX);
                out.extend(buckets.chunks(2).map(|pair| match pair {
                    [high, low] => delta(high) << 4 | delta(low),
                    _ => 0,
                }));
                let over: Vec<(u16, u8)> = buckets
                    .iter()
                    .enumerate()
                    .filter(|(_, run)| **run - base > DELTA_MAX)
                    .map(|(bucket, run)| (bucket as u16, run - base - DELTA_MAX))
                    .collect();
                out.extend((over.len() as u16).to_le_bytes());
                over.iter().for_each(|(bucket, _)| out.extend(bucket.to_le_bytes()));
                out.extend(over.iter().map(|(_, rest)| *rest));
                out
            }
        }
    }

    /// The sketch of bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, "HyperLogLog");
        let (tag, bits) = (reader.u8()?, reader.u8()?);
        if !(1..=16).contains(&bits) {
            return Err(reader.broken());
        }
        let form = match tag {
            SPARSE => {
                let count = reader.u16()?;
                Form::Sparse((0..count).map(|_| reader.u32()).collect::<Result<_>>()?)
            }
            DENSE => {
                let base = reader.u8()?;
                let mut buckets = Vec::with_capacity(1 << bits);
                for _ in 0..1usize << bits >> 1 {
                    let pair = reader.u8()?;
                    buckets.extend([base + (pair >> 4), base + (pair & DELTA_MAX)]);
                }
                let over = reader.u16()?;
                let places = (0..over).map(|_| reader.u16()).collect::<Result<Vec<_>>>()?;
                for place in places {
                    let rest = reader.u8()?;
                    let bucket = buckets.get_mut(usize::from(place)).ok_or_else(|| reader.broken())?;
                    *bucket = bucket.saturating_add(rest);
                }
                Form::Dense(buckets)
            }
            _ => return Err(reader.broken()),
        };
        Ok(Self { bits, form })
    }
}

const fn value_mask() -> u32 {
    (1 << VALUE_BITS) - 1
}

/// Zeros at the front of a hash without its first bits.
fn zeros_after(hash: u64, bits: u32) -> u32 {
    (hash << bits | 1 << (bits - 1)).leading_zeros()
}

fn insert(entries: &mut Vec<u32>, entry: u32) {
    let prefix = entry & !value_mask();
    match entries.binary_search_by_key(&prefix, |known| known & !value_mask()) {
        Ok(at) => entries[at] = entries[at].max(entry),
        Err(at) => entries.insert(at, entry),
    }
}

fn raise(buckets: &mut [u8], entries: &[u32], bits: u8) {
    let bits = u32::from(bits);
    for entry in entries {
        let mut zeros = (entry << bits).leading_zeros();
        if zeros >= PREFIX_BITS - bits {
            zeros = PREFIX_BITS - bits + (entry & value_mask());
        }
        if let Some(known) = buckets.get_mut((entry >> (32 - bits)) as usize) {
            *known = (*known).max(zeros as u8 + 1);
        }
    }
}

fn linear(empty: f64, all: f64) -> f64 {
    all * (all / empty).ln()
}

fn alpha(bits: u8) -> f64 {
    match bits {
        4 => 0.673,
        5 => 0.697,
        6 => 0.709,
        _ => 0.7213 / (1.0 + 1.079 / f64::from(1u32 << bits)),
    }
}

/// Ertl's estimate from how often each run occurs.
fn improved(buckets: &[u8], bits: u8) -> f64 {
    let longest = 64 - usize::from(bits);
    let mut counts = vec![0.0; longest + 2];
    for run in buckets {
        counts[usize::from(*run).min(longest + 1)] += 1.0;
    }
    let all = buckets.len() as f64;
    let mut z = all * tau(1.0 - counts[longest + 1] / all);
    for count in counts[1..=longest].iter().rev() {
        z = 0.5 * (z + count);
    }
    z += all * sigma(counts[0] / all);
    all * all / (2.0 * std::f64::consts::LN_2 * z)
}

fn sigma(share: f64) -> f64 {
    let (mut x, mut y, mut z) = (share, 1.0, share);
    if share >= 1.0 {
        return f64::INFINITY;
    }
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(share: f64) -> f64 {
    if share <= 0.0 || share >= 1.0 {
        return 0.0;
    }
    let (mut x, mut y, mut z) = (share, 1.0, 1.0 - share);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z == before {
            return z / 3.0;
        }
    }
}
