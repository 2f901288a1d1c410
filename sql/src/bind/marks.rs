//! Subqueries that refer to the query around by more than equality, as joins that mark its rows.
//!
//! ```text
//!  x op ANY S   =  CASE WHEN any row of S has x op y THEN true  WHEN any row makes it NULL THEN NULL ELSE false END
//!  x op ALL S   =  CASE WHEN any row of S has not x op y THEN false WHEN .. THEN NULL ELSE true END
//! ```
//!
//! Invariant: the rows of the query around stay what they are; a mark is true or false, never NULL.

use std::cell::RefCell;

use datafusion::{
    common::{Column, JoinType, ScalarValue, TableReference, tree_node::TreeNode, tree_node::TreeNodeRecursion},
    logical_expr::{
        Distinct, Expr, Join, LogicalPlan, LogicalPlanBuilder, lit,
        utils::{conjunction, split_conjunction},
    },
};
use headwater_engine::error::Result;

use super::{
    Binder, Bound, Value, column,
    conditions::has_subquery,
    expr::{Negation, boolean},
    lateral,
    relations::both,
    scope::{Context, Field, Inside, Scope},
    select::replace,
};
use crate::{kernels::Comparison, types::Type};

/// What a subquery gives for each row of the query around, to be joined to those rows.
pub(crate) struct Lateral {
    /// One row for each, or the rows that a condition is asked of; the scope holds the column that is made.
    right: Bound,
    /// For a mark: the conditions on both sides that some row of the right one must meet.
    mark: Option<Vec<Expr>>,
    /// Whether an aggregate takes it.
    aggregated: bool,
}

/// Where subqueries go that have to be joined to the rows.
pub(crate) type Laterals = RefCell<Vec<Lateral>>;

/// A plan without references to the query around, and the conditions that had them.
struct Pulled {
    plan: LogicalPlan,
    conditions: Vec<Expr>,
}

impl Lateral {
    /// The column it makes.
    pub(crate) fn column(&self) -> &str {
        self.right.scope.fields.first().map_or("", |field| field.column.as_str())
    }

    /// Whether an aggregate takes it.
    pub(crate) fn is_aggregated(&self) -> bool {
        self.aggregated
    }

    /// The columns of the query around that it looks at.
    pub(crate) fn looks_at(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        lateral::references(&self.right.plan, &mut names)?;
        let own = self.right.plan.schema();
        for condition in self.mark.iter().flatten() {
            let outer = condition.column_refs().into_iter().filter(|column| !own.has_column(column));
            names.extend(outer.map(|column| column.name.clone()));
        }
        Ok(names)
    }

    /// The same with what its conditions say of the query around put in other terms.
    pub(crate) fn rewritten(mut self, rewrite: &dyn Fn(Expr) -> Result<Expr>) -> Result<Self> {
        if let Some(conditions) = self.mark.take() {
            self.mark = Some(conditions.into_iter().map(rewrite).collect::<Result<_>>()?);
        }
        Ok(self)
    }
}

impl Binder<'_> {
    /// Rows with what subqueries give for them.
    pub(crate) fn with_laterals(&self, from: Bound, laterals: Vec<Lateral>) -> Result<Bound> {
        laterals.into_iter().try_fold(from, |from, lateral| match lateral.mark {
            None => self.dependent_join(from, lateral.right, JoinType::Left, Vec::new()),
            Some(conditions) => self.mark_join(from, lateral.right, conditions),
        })
    }

    fn mark_join(&self, left: Bound, right: Bound, conditions: Vec<Expr>) -> Result<Bound> {
        let scope = both(&left.scope, &right.scope);
        let mut kept: Vec<Expr> = left.scope.fields.iter().map(Field::expr).collect();
        let mut plan = right.plan;
        for field in right.scope.fields {
            let alias = TableReference::bare(field.column.clone());
            plan = LogicalPlanBuilder::from(plan).alias(alias.clone())?.build()?;
            kept.push(Expr::Column(Column::new(Some(alias), "mark")).alias(field.column));
        }
        let conditions = if conditions.is_empty() { vec![lit(true)] } else { conditions };
        let plan = LogicalPlanBuilder::from(left.plan).join_on(plan, JoinType::LeftMark, conditions)?.build()?;
        Ok(Bound { plan: self.project(plan, kept)?, scope })
    }

    /// A column that a plan gives for each row around, by a join.
    pub(crate) fn joined_value(&self, right: Bound, mark: Option<Vec<Expr>>, laterals: &Laterals, inside: Inside) {
        laterals.borrow_mut().push(Lateral { right, mark, aggregated: inside == Inside::Aggregate });
    }

    /// Whether a row of a subquery meets conditions, as a column.
    fn mark(&self, plan: LogicalPlan, conditions: Vec<Expr>, context: &Context<'_>) -> Option<Expr> {
        let column = self.column(Some("mark"), &Type::Boolean);
        let field = Field { qualifier: Vec::new(), name: None, column, data_type: Type::Boolean, hidden: true };
        let made = field.expr();
        self.joined_value(
            Bound { plan, scope: Scope { fields: vec![field] } },
            Some(conditions),
            context.laterals?,
            context.inside,
        );
        Some(made)
    }

    /// `EXISTS` by a mark, where that can be.
    pub(crate) fn exists_mark(&self, plan: &LogicalPlan, context: &Context<'_>) -> Result<Option<Expr>> {
        Ok(pulled(plan, context)?.and_then(|pulled| self.mark(pulled.plan, pulled.conditions, context)))
    }

    /// A comparison with any or all rows of a plan of one column, by marks, where that can be.
    pub(crate) fn marked_comparison(
        &self,
        value: &Value,
        plan: &LogicalPlan,
        (kind, all): (Comparison, bool),
        context: &Context<'_>,
    ) -> Result<Option<Value>> {
        let Some(Pulled { plan, conditions }) = pulled(plan, context)? else { return Ok(None) };
        let value = self.settled(value.clone(), context)?;
        let Some(candidate) = plan.schema().columns().into_iter().next() else { return Ok(None) };
        let candidate = Value::new(Expr::Column(candidate), value.data_type.clone());
        let holds = self.compare(kind, value.clone(), candidate.clone())?.expr;
        let deciding = match (kind, all) {
            (_, false) => holds.clone(),
            (Comparison::NotEqual, true) => self.compare(Comparison::Equal, value.clone(), candidate.clone())?.expr,
            (_, true) => holds.clone().negated_keeping_null(),
        };
        let with = |more: Expr| conditions.iter().cloned().chain([more]).collect::<Vec<_>>();
        let decided = self.mark(plan.clone(), with(deciding), context);
        let unknown = if matches!(value.data_type, Type::Array(_) | Type::Map(..) | Type::Row(_)) {
            self.mark(plan, with(holds.is_null()), context)
        } else {
            let nulls = LogicalPlanBuilder::from(plan.clone()).filter(candidate.expr.is_null())?.build()?;
            let null = self.mark(nulls, conditions.clone(), context);
            // An equality, so that only rows whose value is NULL look for others.
            let always = self.column(Some("always"), &Type::Boolean);
            let mut exprs: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
            exprs.push(lit(true).alias(always.clone()));
            let any = self.mark(self.project(plan, exprs)?, with(value.expr.is_null().eq(column(&always))), context);
            null.zip(any).map(|(null, any)| null.or(any))
        };
        let Some((decided, unknown)) = decided.zip(unknown) else { return Ok(None) };
        let null = boolean(lit(ScalarValue::Boolean(None)));
        let branches = vec![(decided, boolean(lit(!all))), (unknown, null)];
        self.choose(branches, Some(boolean(lit(all))), "comparison").map(Some)
    }

    /// A value whose subqueries are columns: what is compared in a join has none of its own.
    pub(crate) fn settled(&self, value: Value, context: &Context<'_>) -> Result<Value> {
        let Some(laterals) = context.laterals.filter(|_| has_subquery(&value.expr)) else { return Ok(value) };
        let mut found = Vec::new();
        value.expr.apply(|node| {
            if let Expr::ScalarSubquery(subquery) = node
                && !found.iter().any(|(known, _)| known == node)
            {
                found.push((node.clone(), subquery.subquery.clone()));
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        let mut columns = Vec::with_capacity(found.len());
        for (node, plan) in found {
            let from = plan.schema().columns().swap_remove(0);
            let data_type = self.column_type(&from.name)?;
            let made = self.column(Some("scalar"), &data_type);
            let plan = self.project((*plan).clone(), vec![Expr::Column(from).alias(made.clone())])?;
            let field = Field { qualifier: Vec::new(), name: None, column: made, data_type, hidden: true };
            columns.push((node, field.expr()));
            self.joined_value(Bound { plan, scope: Scope { fields: vec![field] } }, None, laterals, context.inside);
        }
        let expr = replace(value.expr, &|node| {
            columns.iter().find(|(known, _)| known == node).map(|(_, column)| column.clone())
        })?;
        Ok(Value::new(expr, value.data_type))
    }
}

/// A plan with its conditions on the query around taken out of it; `None` where that would change what it gives, or where
/// it refers to more than the columns in scope.
fn pulled(plan: &LogicalPlan, context: &Context<'_>) -> Result<Option<Pulled>> {
    let mut names = Vec::new();
    lateral::references(plan, &mut names)?;
    let known = |name: &String| context.scope.fields.iter().any(|field| field.column == *name);
    let is_apart = names.is_empty() || !names.iter().all(known);
    if context.laterals.is_none() || !context.parameters.is_empty() || is_apart {
        return Ok(None);
    }
    without_references(plan)
}

fn without_references(plan: &LogicalPlan) -> Result<Option<Pulled>> {
    let mut names = Vec::new();
    lateral::references(plan, &mut names)?;
    if names.is_empty() {
        return Ok(Some(Pulled { plan: plan.clone(), conditions: Vec::new() }));
    }
    let refers = |expr: &Expr| expr.contains_outer() || has_subquery(expr);
    match plan {
        LogicalPlan::Projection(node) if !node.expr.iter().any(refers) => {
            let Some(Pulled { plan, conditions }) = without_references(&node.input)? else { return Ok(None) };
            let mut exprs = node.expr.clone();
            for column in conditions.iter().flat_map(Expr::column_refs) {
                let given = exprs.iter().any(|expr| expr.qualified_name().1 == column.name);
                if !given && plan.schema().has_column(column) {
                    exprs.push(Expr::Column(column.clone()));
                }
            }
            let plan = LogicalPlanBuilder::from(plan).project(exprs)?.build()?;
            Ok(Some(Pulled { plan, conditions }))
        }
        LogicalPlan::Filter(node) => {
            let Some(Pulled { mut plan, mut conditions }) = without_references(&node.input)? else { return Ok(None) };
            let (outer, inner): (Vec<&Expr>, Vec<&Expr>) =
                split_conjunction(&node.predicate).into_iter().partition(|part| refers(part));
            if outer.iter().any(|part| has_subquery(part)) {
                return Ok(None);
            }
            for part in outer {
                conditions.push(replace(part.clone(), &|node| match node {
                    Expr::OuterReferenceColumn(_, outer) => Some(Expr::Column(outer.clone())),
                    _ => None,
                })?);
            }
            if let Some(inner) = conjunction(inner.into_iter().cloned()) {
                plan = LogicalPlanBuilder::from(plan).filter(inner)?.build()?;
            }
            Ok(Some(Pulled { plan, conditions }))
        }
        // Whether there is a row does not depend on how often it is there.
        LogicalPlan::Distinct(Distinct::All(input)) => without_references(input),
        LogicalPlan::Sort(node) if node.fetch.is_none() => without_references(&node.input),
        LogicalPlan::Join(node) if node.join_type == JoinType::Inner => joined_without_references(node, &refers),
        _ => Ok(None),
    }
}

fn joined_without_references(node: &Join, refers: &dyn Fn(&Expr) -> bool) -> Result<Option<Pulled>> {
    let mut on: Vec<Expr> = node.on.iter().map(|(a, b)| a.clone().eq(b.clone())).collect();
    on.extend(node.filter.clone());
    if on.iter().any(refers) {
        return Ok(None);
    }
    let (Some(left), Some(right)) = (without_references(&node.left)?, without_references(&node.right)?) else {
        return Ok(None);
    };
    let plan = LogicalPlanBuilder::from(left.plan);
    let plan = match on.is_empty() {
        true => plan.cross_join(right.plan)?,
        false => plan.join_on(right.plan, JoinType::Inner, on)?,
    };
    let conditions = left.conditions.into_iter().chain(right.conditions).collect();
    Ok(Some(Pulled { plan: plan.build()?, conditions }))
}
