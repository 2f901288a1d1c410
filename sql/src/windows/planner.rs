//! From the window node of a plan to the operator that runs it in batch.
//!
//! Invariant: sessions see all rows of a key in one place; other windows are assigned wherever a row is.

use arrow::datatypes::Schema;
use datafusion::common::Result;

use super::{WindowNode, exec::Windows};
use crate::unary::{PlansUnary, column_index};

impl PlansUnary for WindowNode {
    type Operator = Windows;

    fn operator(&self, _: &Schema) -> Result<Windows> {
        let index = |expr| column_index(expr, self.input.schema());
        let keys = self.keys.iter().map(index).collect::<Result<Vec<_>>>()?;
        Ok(Windows { spec: self.spec, time: index(&self.time)?, keys })
    }
}
