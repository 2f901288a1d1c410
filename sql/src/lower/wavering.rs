//! Values that go by the clock or by chance, over rows that change.
//!
//! A row that is taken back is computed anew from what it was, and such a value is another one by then: whatever finds rows
//! by that value would not find it. What only passes rows on, and a sink that finds them by a key of other columns, can do
//! with them.
//!
//! Invariant: nothing filters, groups, joins or orders by such a value, and no operator finds a row again by one.

use std::sync::Arc;

use datafusion::physical_expr::{PhysicalExpr, utils::collect_columns};
use headwater_engine::{
    error::Result,
    graph::{wavering, wavers},
};

use super::facts::Facts;

/// A column with such values, and what it shows.
#[derive(Debug, Clone)]
pub(super) struct Wavering {
    pub(super) column: usize,
    pub(super) shown: String,
}

/// Refuses expressions with such values over these rows.
pub(super) fn check<'e>(
    what: &str,
    exprs: impl IntoIterator<Item = &'e Arc<dyn PhysicalExpr>>,
    facts: &Facts,
) -> Result<()> {
    let shown = |expr: &Arc<dyn PhysicalExpr>| facts.wavering_in(expr);
    exprs.into_iter().find_map(shown).map_or(Ok(()), |shown| Err(wavering(what, &shown)))
}

impl Facts {
    /// Which of these expressions over the rows have such values.
    pub(super) fn wavering_of(&self, exprs: &[Arc<dyn PhysicalExpr>]) -> Vec<Wavering> {
        let of = |(column, expr)| Some(Wavering { column, shown: self.wavering_in(expr)? });
        exprs.iter().enumerate().filter_map(of).collect()
    }

    /// What of an expression has such values.
    fn wavering_in(&self, expr: &Arc<dyn PhysicalExpr>) -> Option<String> {
        if wavers(expr, self.changes) {
            return Some(expr.to_string());
        }
        if self.wavering.is_empty() {
            return None;
        }
        let columns = collect_columns(expr);
        let known = self.wavering.iter().find(|known| columns.iter().any(|column| column.index() == known.column));
        known.map(|known| known.shown.clone())
    }

    /// Refuses a column with such values.
    pub(super) fn check_column(&self, what: &str, column: usize) -> Result<()> {
        let known = self.wavering.iter().find(|known| known.column == column);
        known.map_or(Ok(()), |known| Err(wavering(what, &known.shown)))
    }

    /// Refuses all of them, where rows are found again as wholes.
    pub(super) fn check_columns(&self) -> Result<()> {
        self.wavering.first().map_or(Ok(()), |known| Err(wavering("column", &known.shown)))
    }
}
