//! The aggregates that can take rows back, and calls of them.
//!
//! Invariant: what is not one of them is refused by name before a job starts.

use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::physical_expr::PhysicalExpr;

use crate::error::{Error, Result};

/// The aggregates that can take rows back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retractable {
    /// `count(*)`, `count(x)`.
    Count,
    /// `sum(x)`.
    Sum,
    /// `avg(x)` of a double, or of a decimal, rounded half up.
    Avg,
    /// `min(x)`.
    Min,
    /// `max(x)`.
    Max,
    /// `count(distinct x)`.
    CountDistinct,
}

impl Retractable {
    /// The aggregate of this name, or an error that names it.
    pub fn by_name(name: &str, is_distinct: bool) -> Result<Self> {
        match (name, is_distinct) {
            ("count", false) => Ok(Self::Count),
            ("count", true) | ("approx_distinct", _) => Ok(Self::CountDistinct),
            ("sum", false) => Ok(Self::Sum),
            ("avg", false) => Ok(Self::Avg),
            ("min", _) => Ok(Self::Min),
            ("max", _) => Ok(Self::Max),
            _ => Err(Error::not_supported(format!("the aggregate \"{name}\" without a window in a streaming job"))
                .with_hint("use count, sum, avg, min, max or count(distinct), or group by a window")),
        }
    }
}

/// One aggregate call.
#[derive(Debug, Clone)]
pub struct RetractableCall {
    /// The aggregate.
    pub aggregate: Retractable,
    /// Its argument, of the type values are kept in (the planner casts); `None` for `count(*)`.
    pub argument: Option<Arc<dyn PhysicalExpr>>,
    /// `FILTER (WHERE ..)`.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// Field of the result.
    pub field: FieldRef,
}
