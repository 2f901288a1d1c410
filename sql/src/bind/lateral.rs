//! LATERAL: a right side that refers to the left one, as a join.
//!
//! ```text
//!  L JOIN LATERAL R(L.k) ON c   =   L JOIN R' ON c AND L.k IS NOT DISTINCT FROM R'.k
//!  R' is R for each distinct k of L: those columns go first through every node of R
//! ```
//!
//! Invariant: every node of R' gives the columns referred to first, then what the node of R gave, in order.

use datafusion::{
    common::{Column, JoinType, tree_node::TreeNode, tree_node::TreeNodeRecursion},
    functions_window::row_number::row_number_udwf,
    logical_expr::{
        Aggregate, Distinct, Expr, FetchType, Join, LogicalPlan, LogicalPlanBuilder, SkipType, SortExpr, WindowFrame,
        WindowFunctionDefinition, expr::WindowFunction, lit,
    },
};
use headwater_engine::error::{Error, Result};

use super::{Binder, Bound, column, relations::both, scope::Field, select::replace, select::subquery_of};
use crate::types::Type;

/// What a right side refers to.
struct Around {
    /// The distinct values of the columns referred to.
    keys: LogicalPlan,
    names: Vec<String>,
}

impl Binder<'_> {
    /// Joins a right side that may refer to columns of the left one; `condition` is over both.
    pub(crate) fn dependent_join(
        &self,
        left: Bound,
        right: Bound,
        kind: JoinType,
        condition: Vec<Expr>,
    ) -> Result<Bound> {
        if !matches!(kind, JoinType::Inner | JoinType::Left) {
            return Err(Error::user(
                "INVALID_COLUMN_REFERENCE",
                "LATERAL reference not allowed in RIGHT and FULL JOIN",
            ));
        }
        let scope = both(&left.scope, &right.scope);
        let mut names = Vec::new();
        references(&right.plan, &mut names)?;
        names.retain(|name| left.scope.fields.iter().any(|field| field.column == *name));
        if names.is_empty() {
            let conditions = if condition.is_empty() { vec![lit(true)] } else { condition };
            let plan = LogicalPlanBuilder::from(left.plan).join_on(right.plan, kind, conditions)?.build()?;
            return Ok(Bound { plan, scope });
        }
        let keys = names.iter().map(|name| column(name)).collect::<Vec<_>>();
        let keys = LogicalPlanBuilder::from(left.plan.clone()).project(keys)?.distinct()?.build()?;
        let around = Around { keys, names };
        let made = self.dependent(&right.plan, &around)?;
        let (made, pairs) = self.renamed_keys(made, &around)?;
        let conditions: Vec<Expr> = condition.into_iter().chain(pairs).collect();
        let plan = LogicalPlanBuilder::from(left.plan).join_on(made, kind, conditions)?.build()?;
        let kept = scope.fields.iter().map(Field::expr).collect();
        Ok(Bound { plan: self.project(plan, kept)?, scope })
    }

    /// A plan whose keys have new names, and conditions that those equal the old ones.
    fn renamed_keys(&self, plan: LogicalPlan, around: &Around) -> Result<(LogicalPlan, Vec<Expr>)> {
        let mut exprs = Vec::new();
        let mut pairs = Vec::new();
        for (index, from) in plan.schema().columns().into_iter().enumerate() {
            match around.names.get(index) {
                Some(name) => {
                    let made = self.column(Some("key"), &self.column_type(name)?);
                    pairs.push(Expr::BinaryExpr(datafusion::logical_expr::BinaryExpr::new(
                        Box::new(column(name)),
                        datafusion::logical_expr::Operator::IsNotDistinctFrom,
                        Box::new(column(&made)),
                    )));
                    exprs.push(Expr::Column(from).alias(made));
                }
                None => exprs.push(Expr::Column(from)),
            }
        }
        Ok((self.project(plan, exprs)?, pairs))
    }

    fn dependent(&self, plan: &LogicalPlan, around: &Around) -> Result<LogicalPlan> {
        if !refers(plan, around)? {
            return Ok(LogicalPlanBuilder::from(around.keys.clone()).cross_join(plan.clone())?.build()?);
        }
        let input = |plan: &LogicalPlan| self.dependent(plan, around);
        Ok(match plan {
            LogicalPlan::Projection(node) => {
                let mut exprs = around.exprs();
                for expr in &node.expr {
                    exprs.push(around.resolved(expr)?);
                }
                self.project(input(&node.input)?, exprs)?
            }
            LogicalPlan::Filter(node) => {
                let predicate = around.resolved(&node.predicate)?;
                LogicalPlanBuilder::from(input(&node.input)?).filter(predicate)?.build()?
            }
            LogicalPlan::Aggregate(node) => self.dependent_aggregate(node, around)?,
            LogicalPlan::Distinct(Distinct::All(node)) => LogicalPlanBuilder::from(input(node)?).distinct()?.build()?,
            LogicalPlan::Sort(node) if node.fetch.is_none() => input(&node.input)?,
            LogicalPlan::Limit(node) => {
                let (SkipType::Literal(skip), FetchType::Literal(fetch)) =
                    (node.get_skip_type()?, node.get_fetch_type()?)
                else {
                    return Err(refused("a limit that is no literal"));
                };
                let (below, sorts) = match node.input.as_ref() {
                    LogicalPlan::Sort(sort) => (sort.input.as_ref(), sort.expr.as_slice()),
                    other => (other, [].as_slice()),
                };
                self.dependent_limit(input(below)?, sorts, (skip, fetch), around)?
            }
            LogicalPlan::Union(node) => {
                let mut inputs = node.inputs.iter();
                let first = inputs.next().ok_or_else(|| Error::internal("a union has inputs"))?;
                let first = LogicalPlanBuilder::from(input(first)?);
                inputs.try_fold(first, |all, next| Ok::<_, Error>(all.union(input(next)?)?))?.build()?
            }
            LogicalPlan::Unnest(node) => LogicalPlanBuilder::from(input(&node.input)?)
                .unnest_columns_with_options(node.exec_columns.clone(), node.options.clone())?
                .build()?,
            LogicalPlan::Window(node) => {
                let calls = node
                    .window_expr
                    .iter()
                    .map(|expr| Ok(around.partitioned(around.resolved(expr)?.unalias())))
                    .collect::<Result<Vec<_>>>()?;
                let names: Vec<String> = node.window_expr.iter().map(|expr| expr.schema_name().to_string()).collect();
                self.windows(input(&node.input)?, calls.into_iter().zip(names).collect())?
            }
            LogicalPlan::Join(node) => self.dependent_sides(node, around)?,
            other => return Err(refused(&other.display().to_string())),
        })
    }

    fn dependent_aggregate(&self, node: &Aggregate, around: &Around) -> Result<LogicalPlan> {
        let mut group = around.exprs();
        for expr in &node.group_expr {
            group.push(around.resolved(expr)?);
        }
        let calls = node.aggr_expr.iter().map(|expr| around.resolved(expr)).collect::<Result<Vec<_>>>()?;
        let counts: Vec<bool> = calls.iter().map(is_count).collect();
        let input = self.dependent(&node.input, around)?;
        let made = LogicalPlanBuilder::from(input).aggregate(group, calls)?.build()?;
        if !node.group_expr.is_empty() {
            return Ok(made);
        }
        // Without keys of its own it gives a row for no rows too.
        let results: Vec<Column> = made.schema().columns().into_iter().skip(around.names.len()).collect();
        let (made, pairs) = self.renamed_keys(made, around)?;
        let joined = LogicalPlanBuilder::from(around.keys.clone()).join_on(made, JoinType::Left, pairs)?.build()?;
        let mut exprs = around.exprs();
        for (result, count) in results.into_iter().zip(counts) {
            let value = Expr::Column(result.clone());
            exprs.push(if count {
                let none = value.clone().is_null();
                datafusion::logical_expr::when(none, lit(0i64)).otherwise(value)?.alias(result.name)
            } else {
                value
            });
        }
        self.project(joined, exprs)
    }

    fn dependent_limit(
        &self,
        plan: LogicalPlan,
        sorts: &[SortExpr],
        (skip, fetch): (usize, Option<usize>),
        around: &Around,
    ) -> Result<LogicalPlan> {
        let mut number = WindowFunction::new(WindowFunctionDefinition::WindowUDF(row_number_udwf()), Vec::new());
        number.params.partition_by = around.exprs();
        for sort in sorts {
            let expr = around.resolved(&sort.expr)?;
            number.params.order_by.push(SortExpr { expr, asc: sort.asc, nulls_first: sort.nulls_first });
        }
        number.params.window_frame = WindowFrame::new(None);
        let kept: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
        let name = self.column(Some("number"), &Type::Bigint);
        let plan = self.windows(plan, vec![(Expr::WindowFunction(Box::new(number)), name.clone())])?;
        let mut condition = column(&name).gt(lit(skip as u64));
        if let Some(fetch) = fetch {
            condition = condition.and(column(&name).lt_eq(lit(skip.saturating_add(fetch) as u64)));
        }
        let plan = LogicalPlanBuilder::from(plan).filter(condition)?.build()?;
        self.project(plan, kept)
    }

    fn dependent_sides(&self, node: &Join, around: &Around) -> Result<LogicalPlan> {
        if !matches!(node.join_type, JoinType::Inner | JoinType::Left) {
            return Err(refused("this join"));
        }
        let mut conditions = Vec::new();
        for (a, b) in &node.on {
            conditions.push(around.resolved(a)?.eq(around.resolved(b)?));
        }
        if let Some(filter) = &node.filter {
            conditions.push(around.resolved(filter)?);
        }
        let left = self.dependent(&node.left, around)?;
        let kept: Vec<Expr> =
            left.schema().columns().into_iter().chain(node.right.schema().columns()).map(Expr::Column).collect();
        let right = if refers(&node.right, around)? {
            let (right, pairs) = self.renamed_keys(self.dependent(&node.right, around)?, around)?;
            conditions.extend(pairs);
            right
        } else {
            node.right.as_ref().clone()
        };
        let left = LogicalPlanBuilder::from(left);
        let plan = if conditions.is_empty() && node.join_type == JoinType::Inner {
            left.cross_join(right)?.build()?
        } else {
            left.join_on(right, node.join_type, conditions)?.build()?
        };
        self.project(plan, kept)
    }
}

impl Around {
    fn exprs(&self) -> Vec<Expr> {
        self.names.iter().map(|name| column(name)).collect()
    }

    /// References to the left side as columns.
    fn resolved(&self, expr: &Expr) -> Result<Expr> {
        replace(expr.clone(), &|node| match node {
            Expr::OuterReferenceColumn(_, outer) if self.names.contains(&outer.name) => Some(column(&outer.name)),
            _ => None,
        })
    }

    fn partitioned(&self, expr: Expr) -> Expr {
        match expr {
            Expr::WindowFunction(mut function) => {
                function.params.partition_by.extend(self.exprs());
                Expr::WindowFunction(function)
            }
            other => other,
        }
    }
}

fn refused(what: &str) -> Error {
    Error::not_supported(format!("LATERAL over {what} is not supported"))
        .with_hint("write the reference in WHERE of the subquery, or join without LATERAL")
}

fn is_count(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => is_count(&alias.expr),
        Expr::AggregateFunction(call) => call.func.name() == "count",
        _ => false,
    }
}

/// Columns of queries around that a plan refers to.
pub(crate) fn references(plan: &LogicalPlan, names: &mut Vec<String>) -> Result<()> {
    plan.apply(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                let outer: Vec<&Expr> = match (part, subquery_of(part)) {
                    (Expr::OuterReferenceColumn(..), _) => vec![part],
                    (_, Some(subquery)) => subquery.outer_ref_columns.iter().collect(),
                    _ => Vec::new(),
                };
                for one in outer {
                    if let Expr::OuterReferenceColumn(_, column) = one
                        && !names.contains(&column.name)
                    {
                        names.push(column.name.clone());
                    }
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(())
}

/// Whether a right side refers to a relation to its left.
pub(crate) fn depends(right: &Bound, left: &Bound) -> Result<bool> {
    let mut names = Vec::new();
    references(&right.plan, &mut names)?;
    Ok(names.iter().any(|name| left.scope.fields.iter().any(|field| field.column == *name)))
}

fn refers(plan: &LogicalPlan, around: &Around) -> Result<bool> {
    let mut names = Vec::new();
    references(plan, &mut names)?;
    Ok(names.iter().any(|name| around.names.contains(name)))
}
