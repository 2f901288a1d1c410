//! From the node of a plan to the operator that runs it.
//!
//! Invariant: partitions and order are columns of the input, since the binder takes nothing else.

use std::sync::Arc;

use arrow::{compute::SortOptions, datatypes::Schema};
use datafusion::{
    common::Result,
    physical_expr::{PhysicalSortExpr, expressions::Column},
};

use super::{MatchNode, exec::Match};
use crate::unary::{PlansUnary, column_index};

impl PlansUnary for MatchNode {
    type Operator = Match;

    fn operator(&self, input: &Schema) -> Result<Match> {
        let index = |expr| column_index(expr, self.input.schema());
        let partition_by = self.partition_by.iter().map(index).collect::<Result<Vec<_>>>()?;
        let sort = |index: usize, options: SortOptions| {
            PhysicalSortExpr::new(Arc::new(Column::new(input.field(index).name(), index)), options)
        };
        let mut sorts: Vec<PhysicalSortExpr> =
            partition_by.iter().map(|index| sort(*index, SortOptions::default())).collect();
        for one in &self.order_by {
            let options = SortOptions { descending: !one.asc, nulls_first: one.nulls_first };
            sorts.push(sort(index(&one.expr)?, options));
        }
        Ok(Match { partition_by, sorts, spec: Arc::clone(&self.spec) })
    }
}
