//! Histograms of bounded size: of numbers, and of the most frequent values.
//!
//! Sources: Y. Ben-Haim and E. Tom-Tov, "A streaming parallel decision tree algorithm" (2010), with the loss of variance
//! as the cost of a merge; A. Metwally, D. Agrawal and A. El Abbadi, "Efficient computation of frequent and top-k elements
//! in data streams" (2005).
//!
//! Invariant: neither keeps more entries than its limit and a fixed buffer.

use std::collections::HashMap;

use headwater_engine::error::{Error, Result};

use super::bytes::Reader;

/// Values taken before buckets are merged again.
const BUFFER: usize = 100;

/// The weights of a limited number of buckets, each by the mean of its values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    limit: usize,
    buckets: Vec<(f64, f64)>,
}

impl Histogram {
    /// An empty one of so many buckets at most.
    pub fn new(limit: i64) -> Result<Self> {
        match usize::try_from(limit) {
            Ok(limit) if limit >= 2 => Ok(Self { limit, buckets: Vec::new() }),
            _ => {
                Err(Error::user("INVALID_FUNCTION_ARGUMENT", "numeric_histogram bucket count must be greater than one"))
            }
        }
    }

    /// Takes a value.
    pub fn add(&mut self, value: f64, weight: f64) {
        if weight == 0.0 {
            return;
        }
        self.buckets.push((value, weight));
        if self.buckets.len() >= self.limit + BUFFER {
            self.compact();
        }
    }

    /// Takes what another one took.
    pub fn merge(&mut self, other: &Self) {
        self.buckets.extend_from_slice(&other.buckets);
        self.compact();
    }

    /// The buckets in order, no more than the limit.
    pub fn buckets(&mut self) -> &[(f64, f64)] {
        self.compact();
        &self.buckets
    }

    fn compact(&mut self) {
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.buckets.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 += next.1;
            }
            same
        });
        while self.buckets.len() > self.limit {
            let loss = |at: &usize| {
                let ((a, v), (b, w)) = (self.buckets[*at], self.buckets[at + 1]);
                (a - b) * (a - b) * v * w / (v + w)
            };
            let cheapest = (0..self.buckets.len() - 1).min_by(|a, b| loss(a).total_cmp(&loss(b)));
            let Some(at) = cheapest else { break };
            let ((a, v), (b, w)) = (self.buckets[at], self.buckets[at + 1]);
            self.buckets[at] = ((a * v + b * w) / (v + w), v + w);
            self.buckets.remove(at + 1);
        }
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        self.buckets.capacity() * size_of::<(f64, f64)>()
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = (self.limit as u32).to_le_bytes().to_vec();
        for (value, weight) in &self.buckets {
            out.extend(value.to_le_bytes());
            out.extend(weight.to_le_bytes());
        }
        out
    }

    /// The histogram of bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, "histogram");
        let limit = reader.u32()? as usize;
        let count = bytes.len().saturating_sub(4) / 16;
        let buckets = (0..count).map(|_| Ok((reader.f64()?, reader.f64()?))).collect::<Result<_>>()?;
        Ok(Self { limit, buckets })
    }
}

/// The values that occurred most, by their bytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Frequent {
    shown: usize,
    capacity: usize,
    entries: Vec<Entry>,
    places: HashMap<Vec<u8>, usize>,
    clock: u64,
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    value: Vec<u8>,
    count: i64,
    /// When it was last counted; of equal counts the earliest goes first.
    since: u64,
}

impl Frequent {
    /// An empty one that shows so many of the values it counts.
    pub fn new(shown: i64, capacity: i64) -> Result<Self> {
        let positive = |number: i64| usize::try_from(number).ok().filter(|number| *number > 0);
        let shown = positive(shown).filter(|shown| *shown > 1);
        let shown = shown.ok_or_else(|| {
            let message = "approx_most_frequent bucket count must be greater than one";
            Error::user("INVALID_FUNCTION_ARGUMENT", message)
        })?;
        let capacity = positive(capacity).ok_or_else(|| {
            let message = "approx_most_frequent capacity must be greater than zero";
            Error::user("INVALID_FUNCTION_ARGUMENT", message)
        })?;
        Ok(Self { shown, capacity, ..Self::default() })
    }

    /// Takes a value that occurred so often.
    pub fn add(&mut self, value: &[u8], count: i64) {
        self.clock += 1;
        if let Some(entry) = self.places.get(value).and_then(|place| self.entries.get_mut(*place)) {
            entry.count += count;
            entry.since = self.clock;
            return;
        }
        if self.entries.len() < self.capacity {
            self.places.insert(value.to_vec(), self.entries.len());
            self.entries.push(Entry { value: value.to_vec(), count, since: self.clock });
            return;
        }
        let rarest =
            (0..self.entries.len()).min_by_key(|at| self.entries.get(*at).map(|entry| (entry.count, entry.since)));
        if let Some(at) = rarest
            && let Some(entry) = self.entries.get_mut(at)
        {
            self.places.remove(&entry.value);
            self.places.insert(value.to_vec(), at);
            *entry = Entry { value: value.to_vec(), count: entry.count + count, since: self.clock };
        }
    }

    /// Takes what another one took.
    pub fn merge(&mut self, other: &Self) {
        for entry in &other.entries {
            self.add(&entry.value, entry.count);
        }
    }

    /// The most frequent values and how often they occurred.
    pub fn top(&self) -> Vec<(&[u8], i64)> {
        let mut all: Vec<&Entry> = self.entries.iter().collect();
        all.sort_by_key(|entry| (std::cmp::Reverse(entry.count), entry.since));
        all.into_iter().take(self.shown).map(|entry| (entry.value.as_slice(), entry.count)).collect()
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        self.entries.iter().map(|entry| 2 * entry.value.len() + size_of::<Entry>() + size_of::<usize>()).sum()
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for number in [self.shown, self.capacity, self.entries.len()] {
            out.extend((number as u32).to_le_bytes());
        }
        for entry in &self.entries {
            out.extend((entry.value.len() as u32).to_le_bytes());
            out.extend(&entry.value);
            out.extend(entry.count.to_le_bytes());
            out.extend((entry.since as i64).to_le_bytes());
        }
        out
    }

    /// The counts of bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, "count of frequent values");
        let [shown, capacity, entries] = [reader.u32()?, reader.u32()?, reader.u32()?].map(|number| number as usize);
        let mut read = Self { shown, capacity, ..Self::default() };
        for place in 0..entries {
            let length = reader.u32()? as usize;
            let value = reader.take(length)?.to_vec();
            let (count, since) = (reader.i64()?, reader.i64()? as u64);
            read.clock = read.clock.max(since);
            read.places.insert(value.clone(), place);
            read.entries.push(Entry { value, count, since });
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::{Frequent, Histogram};

    #[test]
    fn buckets_stay_few_and_keep_their_weight() -> anyhow::Result<()> {
        let mut whole = Histogram::new(3)?;
        let (mut left, mut right) = (Histogram::new(3)?, Histogram::new(3)?);
        for at in 0..1000 {
            let value = f64::from(at * at % 101);
            whole.add(value, 1.0);
            if at % 2 == 0 {
                left.add(value, 1.0)
            } else {
                right.add(value, 1.0)
            }
            assert!(whole.buckets.len() <= 103);
        }
        left.merge(&Histogram::from_bytes(&right.to_bytes())?);
        for mut histogram in [whole, left] {
            assert_eq!(histogram.buckets().len(), 3);
            assert_eq!(histogram.buckets().iter().map(|(_, weight)| weight).sum::<f64>(), 1000.0);
        }
        Ok(())
    }

    #[test]
    fn frequent_values_survive_rare_ones() -> anyhow::Result<()> {
        let mut counts = Frequent::new(2, 10)?;
        for at in 0..1000_i64 {
            counts.add(format!("rare {}", at % 5).as_bytes(), 1);
            counts.add(b"often", 3);
        }
        let mut merged = Frequent::from_bytes(&counts.to_bytes())?;
        merged.merge(&counts);
        assert_eq!(merged.top()[0], (b"often".as_slice(), 6000));
        assert_eq!(merged.top().len(), 2);
        assert_eq!(merged.entries.len(), 6);
        Ok(())
    }
}
