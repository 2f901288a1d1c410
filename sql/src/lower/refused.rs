//! What cannot run continuously, with the reason and the way out.
//!
//! Invariant: every plan node a job does not run is named here in the words of its SQL.

use datafusion::logical_expr::LogicalPlan;
use headwater_engine::error::Error;

/// The refusal of a plan node.
pub(super) fn refused(plan: &LogicalPlan) -> Error {
    let (what, hint) = match plan {
        LogicalPlan::Sort(_) => {
            ("ORDER BY over an unbounded table", "leave it out: a sink has no order; sort when you read it")
        }
        LogicalPlan::Limit(_) => {
            ("LIMIT over an unbounded table", "leave it out, or keep the first N by ROW_NUMBER(): WHERE rn <= 10")
        }
        LogicalPlan::Window(_) => (
            "a window function with OVER and without a bound",
            "keep the first N by ROW_NUMBER() (WHERE rn <= 10), or aggregate over TABLE(TUMBLE(..))",
        ),
        LogicalPlan::Subquery(_) => ("a LATERAL subquery over an unbounded table", "join by equal keys instead"),
        LogicalPlan::Values(_) | LogicalPlan::EmptyRelation(_) => {
            ("a query without a table", "run it as a batch statement, outside of the job's INSERTs")
        }
        LogicalPlan::RecursiveQuery(_) => {
            ("WITH RECURSIVE over an unbounded table", "run it in batch over what a job has written")
        }
        other => return unsupported(&format!("the plan node {}", other.display())),
    };
    unsupported(what).with_hint(hint)
}

pub(super) fn unsupported(what: &str) -> Error {
    Error::not_supported(format!("{what} cannot run continuously"))
}
