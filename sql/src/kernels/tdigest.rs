//! Quantiles of weighted values as Trino estimates them: a merging t-digest with the compression 100.
//!
//! Source: T. Dunning, O. Ertl, "Computing extremely accurate quantiles using t-digests", scale function k2.
//!
//! Invariant: as long as fewer values than the digest's limit were added, each is a centroid of its own.

use headwater_engine::error::Result;

use crate::sketches::bytes::Reader;

const FORMAT: u8 = 0;
/// The compression of Trino's `approx_percentile`.
const COMPRESSION: f64 = 100.0;
/// Centroids kept before they are merged.
const CENTROIDS_MAX: usize = 210;

/// A digest of values.
#[derive(Debug, Clone, Default)]
pub struct Digest {
    centroids: Vec<(f64, f64)>,
    weight: f64,
    min: f64,
    max: f64,
    backwards: bool,
}

impl Digest {
    /// Adds a value as often as the weight says.
    pub fn add(&mut self, value: f64, weight: f64) {
        if self.centroids.len() >= CENTROIDS_MAX {
            self.merge(COMPRESSION * 2.0);
        }
        if self.centroids.is_empty() {
            (self.min, self.max) = (value, value);
        }
        self.centroids.push((value, weight));
        self.weight += weight;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Takes what another one took.
    pub fn merge_with(&mut self, other: &Self) {
        if other.centroids.is_empty() {
            return;
        }
        let (min, max) = match self.centroids.is_empty() {
            true => (other.min, other.max),
            false => (self.min.min(other.min), self.max.max(other.max)),
        };
        other.centroids.iter().for_each(|(mean, weight)| self.add(*mean, *weight));
        (self.min, self.max) = (min, max);
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        self.centroids.capacity() * size_of::<(f64, f64)>()
    }

    /// Its bytes, those of Trino's `tdigest` type.
    pub fn bytes(&mut self) -> Vec<u8> {
        self.finish();
        let mut out = vec![FORMAT];
        for part in [self.min, self.max, COMPRESSION, self.weight] {
            out.extend(part.to_le_bytes());
        }
        out.extend((self.centroids.len() as u32).to_le_bytes());
        self.centroids.iter().for_each(|(mean, _)| out.extend(mean.to_le_bytes()));
        self.centroids.iter().for_each(|(_, weight)| out.extend(weight.to_le_bytes()));
        out
    }

    /// The digest of bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, "tdigest");
        if reader.u8()? != FORMAT {
            return Err(reader.broken());
        }
        let (min, max, _, weight) = (reader.f64()?, reader.f64()?, reader.f64()?, reader.f64()?);
        let count = reader.u32()?;
        let means = (0..count).map(|_| reader.f64()).collect::<Result<Vec<_>>>()?;
        let weights = (0..count).map(|_| reader.f64()).collect::<Result<Vec<_>>>()?;
        Ok(Self { centroids: means.into_iter().zip(weights).collect(), weight, min, max, backwards: false })
    }

    /// Merges neighbours while a centroid stays within its share of the weight.
    fn merge(&mut self, compression: f64) {
        self.centroids.sort_by(|a, b| a.0.total_cmp(&b.0));
        if self.backwards {
            self.centroids.reverse();
        }
        let normalizer = compression / (4.0 * (self.weight / compression).ln() + 24.0);
        let limit = |quantile: f64| quantile * (1.0 - quantile) / normalizer;
        let mut merged: Vec<(f64, f64)> = Vec::with_capacity(CENTROIDS_MAX);
        let (mut before, mut start_limit) = (0.0, limit(0.0));
        for &(mean, weight) in &self.centroids {
            let Some(last) = merged.last_mut() else {
                merged.push((mean, weight));
                continue;
            };
            let together = last.1 + weight;
            let end = ((before + together) / self.weight).min(1.0);
            if together <= self.weight * start_limit.min(limit(end)) {
                last.0 += (mean - last.0) * weight / together;
                last.1 = together;
            } else {
                before += last.1;
                start_limit = limit(before / self.weight);
                merged.push((mean, weight));
            }
        }
        if self.backwards {
            merged.reverse();
        }
        self.backwards = !self.backwards;
        self.centroids = merged;
    }

    /// Merges and sorts what was added. To be called once before quantiles are asked for.
    pub fn finish(&mut self) {
        if self.centroids.len() > 1 {
            self.merge(COMPRESSION);
        }
        self.centroids.sort_by(|a, b| a.0.total_cmp(&b.0));
    }

    /// The value below which this share of the weight lies; `None` of an empty digest.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let (first, last) = (self.centroids.first()?, self.centroids.last()?);
        if self.centroids.len() == 1 {
            return Some(first.0);
        }
        let offset = share * self.weight;
        if offset < 1.0 {
            return Some(self.min);
        }
        if self.weight - offset < 1.0 {
            return Some(self.max);
        }
        if first.1 > 1.0 && offset < first.1 / 2.0 {
            return Some(self.min + (offset - 1.0) / (first.1 / 2.0 - 1.0) * (first.0 - self.min));
        }
        if last.1 > 1.0 && self.weight - offset <= last.1 / 2.0 {
            return Some(self.max - (self.weight - offset - 1.0) / (last.1 / 2.0 - 1.0) * (self.max - last.0));
        }
        Some(self.between(offset))
    }

    fn between(&self, offset: f64) -> f64 {
        let mut before = self.centroids.first().map_or(0.0, |first| first.1 / 2.0);
        for (left, right) in self.centroids.iter().zip(self.centroids.iter().skip(1)) {
            let step = (left.1 + right.1) / 2.0;
            if before + step > offset {
                if left.1 == 1.0 && offset - before < 0.5 {
                    return left.0;
                }
                if right.1 == 1.0 && before + step - offset <= 0.5 {
                    return right.0;
                }
                let unit = |weight: f64| if weight == 1.0 { 0.5 } else { 0.0 };
                let from_left = offset - before - unit(left.1);
                let to_right = before + step - offset - unit(right.1);
                return (left.0 * to_right + right.0 * from_left) / (to_right + from_left);
            }
            before += step;
        }
        self.max
    }
}
