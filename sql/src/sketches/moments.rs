//! Central moments up to the fourth, kept so that two halves can be merged.
//!
//! Source: P. Pébay, "Formulas for robust, one-pass parallel computation of covariances and arbitrary-order moments" (2008).
//!
//! Invariant: merging gives the moments of both inputs together.

use headwater_engine::error::Result;

use super::bytes::Reader;

/// The moments of values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Moments {
    count: f64,
    mean: f64,
    second: f64,
    third: f64,
    fourth: f64,
}

impl Moments {
    /// Takes a value.
    pub fn add(&mut self, value: f64) {
        self.merge(&Self { count: 1.0, mean: value, ..Self::default() });
    }

    /// Takes what another one took.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0.0 {
            return;
        }
        let (n, m) = (self.count, other.count);
        let all = n + m;
        let gap = other.mean - self.mean;
        let fourth = self.fourth
            + other.fourth
            + gap.powi(4) * n * m * (n * n - n * m + m * m) / all.powi(3)
            + 6.0 * gap * gap * (n * n * other.second + m * m * self.second) / (all * all)
            + 4.0 * gap * (n * other.third - m * self.third) / all;
        let third = self.third
            + other.third
            + gap.powi(3) * n * m * (n - m) / (all * all)
            + 3.0 * gap * (n * other.second - m * self.second) / all;
        let second = self.second + other.second + gap * gap * n * m / all;
        *self = Self { count: all, mean: self.mean + gap * m / all, second, third, fourth };
    }

    /// The third standardised moment; `None` of fewer than three values.
    pub fn skewness(&self) -> Option<f64> {
        (self.count >= 3.0).then(|| self.count.sqrt() * self.third / self.second.powf(1.5))
    }

    /// The excess of the fourth standardised moment; `None` of fewer than four values.
    pub fn kurtosis(&self) -> Option<f64> {
        let n = self.count;
        let variance = self.second / (n - 1.0);
        let scale = n * (n + 1.0) / ((n - 1.0) * (n - 2.0) * (n - 3.0));
        let excess = scale * self.fourth / (variance * variance) - 3.0 * (n - 1.0).powi(2) / ((n - 2.0) * (n - 3.0));
        (n >= 4.0).then_some(excess)
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.count, self.mean, self.second, self.third, self.fourth]
            .iter()
            .flat_map(|part| part.to_le_bytes())
            .collect()
    }

    /// The moments of bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, "moments");
        let mut next = || reader.f64();
        Ok(Self { count: next()?, mean: next()?, second: next()?, third: next()?, fourth: next()? })
    }
}
