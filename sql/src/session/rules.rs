//! DataFusion's optimizer rules, three of them held back from what would change rows.
//!
//! DataFusion says for a whole join whether NULL equals NULL. Its rules that merge joins, or that take equalities from a
//! filter into a join, forget that: keys of `=` beside `IS NOT DISTINCT FROM` then match NULLs, or the other way round. And
//! its rule that moves filters towards the tables moves a random one below joins and aggregations, and one without columns
//! below an aggregation.
//!
//! Invariant: no rule gives a join a key whose comparison is not the join's own, makes an aggregation one of nothing, or lets
//! chance decide about other rows than those it stands above.

use std::sync::Arc;

use datafusion::{
    common::{
        DataFusionError, NullEquality, Result,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    logical_expr::{
        Expr, Filter, Join, JoinType, Limit, LogicalPlan,
        utils::{conjunction, split_conjunction},
    },
    optimizer::{
        ApplyOrder, Optimizer, OptimizerConfig, OptimizerRule, eliminate_cross_join::EliminateCrossJoin,
        extract_equijoin_predicate::ExtractEquijoinPredicate, push_down_filter::PushDownFilter,
    },
};

use crate::functions::scalar::is_clock;

/// All of them.
pub(super) fn held_back() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let own = |rule: Arc<dyn OptimizerRule + Send + Sync>| -> Arc<dyn OptimizerRule + Send + Sync> {
        match rule.name() {
            "eliminate_cross_join" => Arc::new(MergeJoins::default()),
            "extract_equijoin_predicate" => Arc::new(FindKeys::default()),
            "push_down_filter" => Arc::new(PushFilters::default()),
            _ => rule,
        }
    };
    Optimizer::new().rules.into_iter().map(own).collect()
}

fn is_null_safe(join: &Join) -> bool {
    join.null_equality == NullEquality::NullEqualsNull
}

/// Keys from the filter of a join whose keys are not null-safe already.
#[derive(Debug, Default)]
struct FindKeys(ExtractEquijoinPredicate);

impl OptimizerRule for FindKeys {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match &plan {
            LogicalPlan::Join(join) if is_null_safe(join) => Ok(Transformed::no(plan)),
            _ => self.0.rewrite(plan, config),
        }
    }
}

/// Merges inner joins, with a null-safe one as a border between those above it and below each of its sides.
#[derive(Debug, Default)]
struct MergeJoins(EliminateCrossJoin);

impl OptimizerRule for MergeJoins {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let mut is_mixed = false;
        plan.apply_with_subqueries(|node| {
            is_mixed = matches!(node, LogicalPlan::Join(join) if is_null_safe(join));
            Ok(if is_mixed { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        if !is_mixed {
            return self.0.rewrite(plan, config);
        }
        let bordered = plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Join(join) if is_null_safe(&join) && join.join_type == JoinType::Inner => {
                let (left, right) = (border(join.left), border(join.right));
                let join = LogicalPlan::Join(Join { left: Arc::new(left), right: Arc::new(right), ..join });
                Ok(Transformed::yes(border(Arc::new(join))))
            }
            other => Ok(Transformed::no(other)),
        })?;
        let merged = self.0.rewrite(bordered.data, config)?;
        let plain = merged.data.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Limit(Limit { skip: None, fetch: None, input }) => {
                Ok(Transformed::yes(Arc::unwrap_or_clone(input)))
            }
            other => Ok(Transformed::no(other)),
        })?;
        Ok(Transformed::new_transformed(plain.data, merged.transformed))
    }
}

/// Moves filters towards the tables, but none that is random, which is so for each row where it stands, and no condition
/// without columns below an aggregation: where it does not hold there is no row of it, while an aggregation of nothing has
/// one.
#[derive(Debug, Default)]
pub(crate) struct PushFilters(PushDownFilter);

impl OptimizerRule for PushFilters {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if let Some((plain, random)) = without_random(&plan)? {
            let moved = self.0.rewrite(plain, config)?;
            return Ok(Transformed::new_transformed(with_condition(moved.data, random)?, moved.transformed));
        }
        let Some((conditions, filtered)) = filtered(&plan) else { return self.0.rewrite(plan, config) };
        let is_aggregated = matches!(filtered.as_ref(), LogicalPlan::Aggregate(_));
        let stays = |condition: &Expr| is_random(condition) || (is_aggregated && condition.column_refs().is_empty());
        let (staying, moving): (Vec<Expr>, Vec<Expr>) = conditions.into_iter().partition(stays);
        if staying.is_empty() {
            return self.0.rewrite(plan, config);
        }
        let Some(moving) = conjunction(moving) else { return Ok(Transformed::no(plan)) };
        let below = LogicalPlan::Filter(Filter::try_new(moving, filtered)?);
        let moved = self.rewrite(below, config)?;
        // What could not move either stands in one filter with what may not.
        let (kept, input) = match moved.data {
            LogicalPlan::Filter(kept) => (Some(kept.predicate), kept.input),
            other => (None, Arc::new(other)),
        };
        let all = conjunction(staying.into_iter().chain(kept)).map(|all| Filter::try_new(all, Arc::clone(&input)));
        let data = all.transpose()?.map_or_else(|| Arc::unwrap_or_clone(input), LogicalPlan::Filter);
        Ok(Transformed::new_transformed(data, moved.transformed))
    }
}

/// A join, or filters on one, without the conditions of ON that are random, and these.
fn without_random(plan: &LogicalPlan) -> Result<Option<(LogicalPlan, Expr)>> {
    match plan {
        LogicalPlan::Join(join) => {
            let all = join.filter.iter().flat_map(|filter| split_conjunction(filter)).cloned();
            let (random, plain): (Vec<Expr>, Vec<Expr>) = all.partition(is_random);
            let Some(random) = conjunction(random) else { return Ok(None) };
            Ok(Some((LogicalPlan::Join(Join { filter: conjunction(plain), ..join.clone() }), random)))
        }
        LogicalPlan::Filter(filter) if split_conjunction(&filter.predicate).into_iter().all(|one| !is_random(one)) => {
            let below = without_random(&filter.input)?;
            let over = |(input, random)| {
                Ok((LogicalPlan::Filter(Filter::try_new(filter.predicate.clone(), Arc::new(input))?), random))
            };
            below.map(over).transpose()
        }
        _ => Ok(None),
    }
}

/// The same join with one more condition of ON.
fn with_condition(plan: LogicalPlan, random: Expr) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Join(join) => {
            let filter = conjunction(join.filter.clone().into_iter().chain([random]));
            Ok(LogicalPlan::Join(Join { filter, ..join }))
        }
        LogicalPlan::Filter(filter) => {
            let input = with_condition(Arc::unwrap_or_clone(filter.input), random)?;
            Ok(LogicalPlan::Filter(Filter::try_new(filter.predicate, Arc::new(input))?))
        }
        other => Err(DataFusionError::Internal(format!("a join became {}", other.display()))),
    }
}

/// Whether chance decides about a value. The clock says the same for all rows of a statement or a batch, wherever it is asked.
fn is_random(expr: &Expr) -> bool {
    let is_it = |node: &Expr| match node {
        Expr::ScalarFunction(call) => node.is_volatile_node() && !is_clock(&call.func),
        _ => node.is_volatile_node(),
    };
    expr.exists(|node| Ok(is_it(node))).unwrap_or(true)
}

/// The conditions of filters that stand on each other, and what is below them, if the plan is such.
fn filtered(plan: &LogicalPlan) -> Option<(Vec<Expr>, Arc<LogicalPlan>)> {
    let LogicalPlan::Filter(filter) = plan else { return None };
    let mut conditions: Vec<Expr> = split_conjunction(&filter.predicate).into_iter().cloned().collect();
    let mut input = &filter.input;
    while let LogicalPlan::Filter(filter) = input.as_ref() {
        let first = split_conjunction(&filter.predicate).into_iter().cloned();
        conditions = first.chain(conditions).collect();
        input = &filter.input;
    }
    Some((conditions, Arc::clone(input)))
}

/// A node that does nothing but end a run of joins.
fn border(input: Arc<LogicalPlan>) -> LogicalPlan {
    LogicalPlan::Limit(Limit { skip: None, fetch: None, input })
}
