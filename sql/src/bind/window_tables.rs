//! TABLE(..): the window table functions, and functions that give rows.
//!
//! Invariant: the columns `window_start`, `window_end` and `window_time` follow the table's own, in this order.

use datafusion::{logical_expr::LogicalPlan, sql::sqlparser::ast};
use headwater_engine::error::{Error, Result};

use super::{Binder, Bound, ctes::Ctes, scope::Context};

impl Binder<'_> {
    /// `TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL ..))`
    pub(crate) fn window_table(&self, node: &ast::Expr, _outer: Option<&Context<'_>>, _ctes: &Ctes) -> Result<Bound> {
        let _: Option<LogicalPlan> = None;
        Err(Error::not_supported(format!("table function {node} is not supported yet")))
    }
}
