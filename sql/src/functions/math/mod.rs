//! Functions of numbers: rounding, powers and angles, bits, distributions.
//!
//! Invariant: whole numbers and decimals keep their kind or fail; only functions that are real-valued give a double.

use headwater_engine::error::Result;

use super::{Function, define};

mod bits;
mod distributions;
mod elementary;
mod rounding;

/// The functions of this family.
pub fn functions() -> Result<Vec<Function>> {
    let mut all = rounding::definitions();
    all.extend(elementary::definitions());
    all.extend(bits::definitions());
    all.extend(distributions::definitions());
    define::build(all)
}
