//! Text.
//!
//! Invariant: text is UTF-8 and counted in characters; no function looks at bytes where a user sees characters.

use headwater_engine::error::Result;

use super::{Function, define::build};

pub mod case;
pub mod columns;
pub mod format_number;
pub mod measure;
pub mod search;

/// The family's functions.
pub(super) fn functions() -> Result<Vec<Function>> {
    let mut all = case::definitions();
    all.extend(search::definitions());
    all.extend(measure::definitions());
    all.extend(format_number::definitions());
    build(all)
}
