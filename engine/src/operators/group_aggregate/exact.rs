//! A sum of doubles from which every value can be taken back.
//!
//! The finite part is kept exactly, as doubles that do not overlap (Shewchuk, "Adaptive Precision Floating-Point
//! Arithmetic", 1997); values near the largest double are kept scaled down beside it, so that no part overflows. NaN and
//! the infinities are counted.
//!
//! Invariant: a value added and taken back leaves what was there before, bit for bit.

/// What is added to the exponent of a large value: parts of 2^900 and more are kept divided by 2^200.
const SCALE: f64 = 1.606_938_044_258_990_3e60;
/// 2^900.
const LARGE: f64 = 8.452_712_498_170_644e270;

/// The sum.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ExactSum {
    /// From the smallest to the largest.
    small: Vec<f64>,
    /// The same of large values, divided by [`SCALE`].
    large: Vec<f64>,
    nan: i64,
    above: i64,
    below: i64,
}

impl ExactSum {
    /// Bytes beyond its own size.
    pub(super) fn bytes(&self) -> usize {
        (self.small.len() + self.large.len()) * size_of::<f64>()
    }

    /// Adds a value (`sign` 1) or takes it back (-1).
    pub(super) fn add(&mut self, value: f64, sign: i64) {
        let signed = if sign < 0 { -value } else { value };
        if value.is_nan() {
            self.nan += sign;
        } else if value == f64::INFINITY {
            self.above += sign;
        } else if value == f64::NEG_INFINITY {
            self.below += sign;
        } else if value.abs() >= LARGE {
            grow(&mut self.large, signed / SCALE);
        } else {
            grow(&mut self.small, signed);
        }
    }

    /// The sum, rounded once.
    pub(super) fn value(&self) -> f64 {
        if self.nan > 0 || (self.above > 0 && self.below > 0) {
            return f64::NAN;
        }
        match (self.above > 0, self.below > 0) {
            (true, _) => f64::INFINITY,
            (_, true) => f64::NEG_INFINITY,
            _ if self.large.is_empty() => rounded(&self.small),
            _ => {
                let mut both = self.large.clone();
                self.small.iter().for_each(|part| grow(&mut both, part / SCALE));
                rounded(&both) * SCALE
            }
        }
    }

    /// As two lists of a state file: the parts, and how many are small, NaN, infinite above and below.
    pub(super) fn lists(&self) -> (Vec<f64>, [i64; 4]) {
        let parts = self.small.iter().chain(&self.large).copied().collect();
        (parts, [self.small.len() as i64, self.nan, self.above, self.below])
    }

    /// From the lists of a state file.
    pub(super) fn from_lists(parts: &[f64], counts: &[i64]) -> Option<Self> {
        let [small, nan, above, below] = *counts else { return None };
        let (small, large) = parts.split_at_checked(usize::try_from(small).ok()?)?;
        Some(Self { small: small.to_vec(), large: large.to_vec(), nan, above, below })
    }
}

/// Adds a value to parts that do not overlap; none is lost.
fn grow(parts: &mut Vec<f64>, value: f64) {
    let (mut sum, mut kept) = (value, 0);
    for index in 0..parts.len() {
        let (high, low) = two_sum(sum, parts[index]);
        if low != 0.0 {
            parts[kept] = low;
            kept += 1;
        }
        sum = high;
    }
    parts.truncate(kept);
    if sum != 0.0 {
        parts.push(sum);
    }
}

/// The rounded sum of two values and what the rounding left out.
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let (large, small) = if a.abs() < b.abs() { (b, a) } else { (a, b) };
    let high = large + small;
    (high, small - (high - large))
}

/// The sum of parts that do not overlap, rounded to the nearest double, ties to even.
fn rounded(parts: &[f64]) -> f64 {
    let mut rest = parts.iter().rev().copied();
    let Some(mut sum) = rest.next() else { return 0.0 };
    while let Some(part) = rest.next() {
        let (high, low) = two_sum(sum, part);
        sum = high;
        if low != 0.0 {
            // Half an ulp was cut off; the next part says to which side the tie falls.
            let next = rest.next().unwrap_or(0.0);
            let twice = low * 2.0;
            if (low < 0.0) == (next < 0.0) && next != 0.0 && (sum + twice) - sum == twice {
                sum += twice;
            }
            break;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    fn sum(values: &[f64]) -> ExactSum {
        let mut sum = ExactSum::default();
        values.iter().for_each(|value| sum.add(*value, 1));
        sum
    }

    #[test]
    fn what_was_taken_back_leaves_no_trace() {
        for gone in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e308, -1e308, 1e17, 5e-324] {
            let mut with = sum(&[0.1, 3.5, gone, 1e308]);
            with.add(gone, -1);
            with.add(1e308, -1);
            assert_eq!(with, sum(&[0.1, 3.5]), "{gone}");
            assert_eq!(with.value(), 3.6);
        }
    }

    #[test]
    fn sums_are_rounded_once_and_do_not_overflow_on_the_way() {
        assert_eq!(sum(&[0.1; 10]).value(), 1.0);
        assert_eq!(sum(&[1e308, 1e308, -1e308]).value(), 1e308);
        assert_eq!(sum(&[1e308, 1e308]).value(), f64::INFINITY);
        assert_eq!(sum(&[1e16, 1.0, 1e-16]).value(), 10000000000000002.0);
        assert_eq!(sum(&[1e17, 0.1, 0.2, -1e17]).value(), 0.1 + 0.2);
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).value().is_nan());
        assert_eq!(sum(&[]).value(), 0.0);
    }

    #[test]
    fn any_order_of_changes_gives_the_sum_of_what_is_left_and_survives_a_state_file() {
        let mut random = SmallRng::seed_from_u64(5);
        for _ in 0..200 {
            let values: Vec<f64> =
                (0..50).map(|_| f64::from_bits(random.random::<u64>())).filter(|value| !value.is_nan()).collect();
            let mut all = sum(&values);
            let (parts, counts) = all.lists();
            assert_eq!(ExactSum::from_lists(&parts, &counts).as_ref(), Some(&all));
            let (left, gone) = values.split_at(values.len() / 2);
            gone.iter().for_each(|value| all.add(*value, -1));
            let mut backwards = ExactSum::default();
            left.iter().rev().for_each(|value| backwards.add(*value, 1));
            assert_eq!(all.value().to_bits(), backwards.value().to_bits());
        }
    }
}
