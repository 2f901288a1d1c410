//! IN and EXISTS over subqueries, as joins with the distinct keys of the subquery.
//!
//! ```text
//!  WHERE k IN (SELECT ..)    l JOIN (SELECT DISTINCT key ..)
//!  WHERE NOT EXISTS (..)     l LEFT JOIN (SELECT DISTINCT key, true AS found ..) WHERE found IS NULL
//! ```
//!
//! Over tables that end the join is a lookup. Over unbounded ones a row comes out when its key is there, and with NOT
//! EXISTS it is taken back when its key comes.
//!
//! Invariant: the columns of what takes a join's place are those of its left side.

use std::sync::Arc;

use datafusion::{
    common::{Column, JoinType, tree_node::Transformed},
    execution::SessionState,
    logical_expr::{Expr, Join, LogicalPlan, LogicalPlanBuilder, lit},
    optimizer::{
        Optimizer, decorrelate_predicate_subquery::DecorrelatePredicateSubquery,
        scalar_subquery_to_join::ScalarSubqueryToJoin,
    },
};
use headwater_engine::error::{Error, Result};

use super::join::condition;
use crate::diagnostics::Classify;

/// The column that says that a key is there.
const FOUND: &str = "headwater_found";

/// A plan without subqueries in its expressions, as far as they are joins.
pub(super) fn without_subqueries(plan: LogicalPlan, state: &SessionState) -> Result<LogicalPlan> {
    let rules = Optimizer::with_rules(vec![
        Arc::new(DecorrelatePredicateSubquery::new()),
        Arc::new(ScalarSubqueryToJoin::new()),
    ]);
    let mut state = state.clone();
    state.config_mut().options_mut().optimizer.enable_physical_uncorrelated_scalar_subquery = false;
    let plan = rules.optimize(plan, &state, |_, _| {})?;
    let joined = plan.transform_up_with_subqueries(|node| match &node {
        LogicalPlan::Join(join) if matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti) => {
            Ok(as_join(join)?.map_or_else(|| Transformed::no(node.clone()), Transformed::yes))
        }
        _ => Ok(Transformed::no(node)),
    });
    Ok(joined.classify()?.data)
}

/// The join with distinct keys; `None` where the condition is more than equal keys.
fn as_join(join: &Join) -> Result<Option<LogicalPlan>> {
    if join.null_aware {
        return Err(Error::not_supported(
            "NOT IN (SELECT ..) cannot run continuously: one NULL in it would take back all",
        )
        .with_hint("write WHERE NOT EXISTS (SELECT 1 FROM .. WHERE key = ..), or filter the NULLs out of it"));
    }
    let condition = condition(join)?;
    if condition.equal.is_empty() || !condition.rest.is_empty() {
        return Ok(None);
    }
    let is_anti = join.join_type == JoinType::LeftAnti;
    let name = |index: usize| format!("headwater_semi_{index}");
    let keys = condition.equal.iter().enumerate().map(|(index, (_, right))| right.clone().alias(name(index)));
    let mut right = LogicalPlanBuilder::from(join.right.as_ref().clone()).project(keys)?.distinct()?;
    if is_anti {
        let names = (0..condition.equal.len()).map(|index| Expr::Column(Column::from_name(name(index))));
        right = right.project(names.chain([lit(true).alias(FOUND)]).collect::<Vec<_>>())?;
    }
    let on = condition.equal.iter().enumerate();
    let on = on.map(|(index, (left, _))| left.clone().eq(Expr::Column(Column::from_name(name(index)))));
    let kind = if is_anti { JoinType::Left } else { JoinType::Inner };
    let left: Vec<Expr> = join.left.schema().columns().into_iter().map(Expr::Column).collect();
    let mut joined = LogicalPlanBuilder::from(join.left.as_ref().clone()).join_on(right.build()?, kind, on)?;
    if is_anti {
        joined = joined.filter(Expr::Column(Column::from_name(FOUND)).is_null())?;
    }
    Ok(Some(joined.project(left)?.build()?))
}
