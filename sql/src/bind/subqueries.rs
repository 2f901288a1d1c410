//! Subqueries in expressions: scalar, EXISTS, IN, and comparisons with ALL, ANY and SOME.
//!
//! ```text
//!  x IN S  as a condition that must hold:  a semi join, NOT IN an anti join that knows NULL
//!          elsewhere in a filter:          a mark join, and what S holds: no row, values only, a NULL
//!          outside of filters:             x among the array of S
//! ```
//!
//! Invariant: a scalar subquery with two rows is an error wherever it stands, and one without rows is NULL; IN is NULL
//! where no row is equal and either side has a NULL, unless it is a condition to which NULL and false are the same.

use std::sync::Arc;

use datafusion::{
    common::{
        Spans,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    functions_aggregate::{
        array_agg::array_agg,
        count::count_all,
        expr_fn::{count, first_value, max, min},
    },
    logical_expr::{
        BinaryExpr, Distinct, Expr, FetchType, LogicalPlan, LogicalPlanBuilder, Operator, SkipType, Subquery,
        expr::{Exists, InSubquery},
        lit,
        utils::split_conjunction,
        when,
    },
    sql::sqlparser::ast,
};
use headwater_engine::error::{Error, Result};

use super::{
    Binder, Bound, Value, at,
    calls::unsupported,
    column,
    expr::{Negation, boolean, row},
    scope::Context,
    select::replace,
};
use crate::{
    kernels::{self, Comparison, Op, nested},
    types::{Type, as_instants, common},
};

impl Binder<'_> {
    pub(crate) fn subquery_expr(&self, node: &ast::Expr, context: &Context<'_>) -> Result<Value> {
        match node {
            ast::Expr::Exists { subquery, negated } => {
                let mut bound = self.query(subquery, Some(context), context.ctes)?;
                if is_fixed(&bound.plan) {
                    bound.plan = rows_of(bound.plan)?;
                }
                if !context.filter || (context.laterals.is_some() && is_fixed(&bound.plan)) {
                    return self.counted_exists(bound, *negated, context);
                }
                Ok(boolean(Expr::Exists(Exists { subquery: subquery_node(bound.plan), negated: *negated })))
            }
            ast::Expr::Subquery(query) => {
                let bound = self.query(query, Some(context), context.ctes)?;
                self.scalar_subquery(bound, context)
            }
            ast::Expr::InSubquery { expr, subquery, negated } => {
                let value = self.expr(expr, &Context { filter: false, ..*context })?;
                let bound = self.query(subquery, Some(context), context.ctes)?;
                at(self.in_subquery(value, bound, *negated, context), node)
            }
            ast::Expr::AnyOp { left, compare_op, right, .. } => {
                self.quantified(left, compare_op, right, false, context)
            }
            ast::Expr::AllOp { left, compare_op, right } => self.quantified(left, compare_op, right, true, context),
            other => Err(unsupported(other)),
        }
    }

    fn one_column(&self, bound: Bound) -> Result<(LogicalPlan, Value)> {
        if let [only] = bound.scope.fields.as_slice() {
            let value = only.value();
            return Ok((bound.plan, value));
        }
        let fields =
            bound.scope.fields.iter().map(|field| (field.name.as_deref().map(Arc::from), field.value())).collect();
        let whole = row(fields);
        let made = self.column(Some("row"), &whole.data_type);
        let plan = self.project(bound.plan, vec![whole.expr.alias(made.clone())])?;
        Ok((plan, Value::new(column(&made), whole.data_type)))
    }

    fn scalar_subquery(&self, bound: Bound, context: &Context<'_>) -> Result<Value> {
        let (plan, value) = self.one_column(bound)?;
        if let Some(expr) = inlined(&plan, context) {
            return Ok(Value::new(expr, value.data_type));
        }
        if is_single_row(&plan) {
            return self.single_value(plan, value, context);
        }
        let (first, rows) = (self.column(Some("first"), &value.data_type), self.column(Some("rows"), &Type::Bigint));
        let aggregates =
            vec![first_value(value.expr, Vec::new()).alias(first.clone()), count_all().alias(rows.clone())];
        let plan = LogicalPlanBuilder::from(plan).aggregate(Vec::<Expr>::new(), aggregates)?.build()?;
        let only = kernels::call(Op::AtMostOne, vec![column(&first), column(&rows)], value.data_type.clone());
        let made = self.column(Some("scalar"), &value.data_type);
        let plan = self.project(plan, vec![only.alias(made.clone())])?;
        self.single_value(plan, Value::new(column(&made), value.data_type), context)
    }

    /// The value of a plan of one row. What DataFusion cannot decorrelate is joined to the rows of the query around.
    fn single_value(&self, plan: LogicalPlan, value: Value, context: &Context<'_>) -> Result<Value> {
        let Some(laterals) = context.laterals.filter(|_| is_hard(&plan)) else {
            return Ok(Value::new(Expr::ScalarSubquery(subquery_node(plan)), value.data_type));
        };
        let bound = Bound { plan, scope: super::scope::Scope::default() };
        let around = Bound { plan: LogicalPlanBuilder::empty(false).build()?, scope: context.scope.clone() };
        if !super::lateral::depends(&bound, &around)? {
            return Ok(Value::new(Expr::ScalarSubquery(subquery_node(bound.plan)), value.data_type));
        }
        let made = self.column(Some("scalar"), &value.data_type);
        let plan = self.project(bound.plan, vec![value.expr.alias(made.clone())])?;
        let field = super::scope::Field {
            qualifier: Vec::new(),
            name: None,
            column: made,
            data_type: value.data_type,
            hidden: true,
        };
        let value = field.value();
        let right = Bound { plan, scope: super::scope::Scope { fields: vec![field] } };
        self.joined_value(right, None, laterals, context.inside);
        Ok(value)
    }

    /// EXISTS outside a filter: whether there is more than no row.
    fn counted_exists(&self, bound: Bound, negated: bool, context: &Context<'_>) -> Result<Value> {
        if is_hard(&bound.plan)
            && let Some(mark) = self.exists_mark(&bound.plan, context)?
        {
            return Ok(boolean(if negated { mark.negated_keeping_null() } else { mark }));
        }
        let made = self.column(Some("rows"), &Type::Bigint);
        let mut plan = LogicalPlanBuilder::from(bound.plan);
        if plan.plan().all_out_ref_exprs().is_empty() {
            plan = plan.limit(0, Some(1))?;
        }
        let plan = plan.aggregate(Vec::<Expr>::new(), vec![count_all().alias(made.clone())])?.build()?;
        let rows = self.single_value(plan, Value::new(column(&made), Type::Bigint), context)?.expr;
        Ok(boolean(if negated { rows.eq(lit(0i64)) } else { rows.gt(lit(0i64)) }))
    }

    fn in_subquery(&self, value: Value, bound: Bound, negated: bool, context: &Context<'_>) -> Result<Value> {
        let (plan, candidate) = self.one_column(bound)?;
        let shared = common(&value.data_type, &candidate.data_type).ok_or_else(|| {
            Error::user(
                "TYPE_MISMATCH",
                format!(
                    "value expression and result of subquery must be of the same type: {} vs {}",
                    value.data_type, candidate.data_type
                ),
            )
        })?;
        let all = as_instants(shared);
        let value = self.convert(value, &all)?;
        let made = self.column(Some("in"), &all);
        let plan = self.project(plan, vec![self.convert(candidate, &all)?.expr.alias(made)])?;
        let value = if context.filter { self.settled(value, context)? } else { value };
        // The anti join knows the NULLs of plain columns, and takes one pair of them.
        let plain = matches!(value.expr, Expr::Column(_)) && plan.all_out_ref_exprs().is_empty();
        let is_fixed = context.laterals.is_some() && is_fixed(&plan);
        if context.conjunct && (plain || !negated) && !is_fixed {
            let is_nested = matches!(all, Type::Row(_) | Type::Array(_) | Type::Map(..));
            // A NULL within equals nothing, while a join takes nested values for equal by all they hold.
            let equals_itself = (is_nested && !negated).then(|| {
                let both = vec![value.expr.clone(), value.expr.clone()];
                kernels::call(Op::Compare(Comparison::Equal, all), both, Type::Boolean)
            });
            let inside = InSubquery { expr: Box::new(value.expr), subquery: subquery_node(plan), negated };
            let inside = Expr::InSubquery(inside);
            return Ok(boolean(match equals_itself {
                Some(equals_itself) => inside.and(equals_itself),
                None => inside,
            }));
        }
        if is_hard(&plan)
            && let Some(marked) = self.marked_comparison(&value, &plan, (Comparison::Equal, false), context)?
        {
            return Ok(if negated { boolean(marked.expr.negated_keeping_null()) } else { marked });
        }
        let found = match context.filter && !is_fixed {
            true => self.marked(value, plan, context)?,
            false => self.among(value, plan, &all, context)?,
        };
        Ok(boolean(if negated { found.negated_keeping_null() } else { found }))
    }

    /// A call whose correlated subqueries are columns that are computed before it, among `prepared`: DataFusion takes them
    /// out of projections and filters alone.
    pub(crate) fn beside(&self, call: Expr, prepared: &mut Vec<Expr>) -> Result<Expr> {
        let moved = call.transform_down(|node| match &node {
            Expr::ScalarSubquery(subquery) if !subquery.outer_ref_columns.is_empty() => {
                let data_type = self.column_type(subquery.subquery.schema().field(0).name())?;
                let made = self.column(Some("subquery"), &data_type);
                prepared.push(node.alias(made.clone()));
                Ok(Transformed::new(column(&made), true, TreeNodeRecursion::Jump))
            }
            _ => Ok(Transformed::no(node)),
        })?;
        Ok(moved.data)
    }

    /// `value IN (plan)` with its NULLs, by whether an equal row was found and what kinds of rows there are.
    fn marked(&self, value: Value, plan: LogicalPlan, context: &Context<'_>) -> Result<Expr> {
        let candidate = Expr::Column(plan.schema().columns().swap_remove(0));
        let kind = when(candidate.is_null(), lit(nested::WITH_NULL)).otherwise(lit(nested::ALL_KNOWN))?;
        let made = self.column(Some("kind"), &Type::Bigint);
        let kinds = LogicalPlanBuilder::from(plan.clone())
            .aggregate(Vec::<Expr>::new(), vec![max(kind).alias(made.clone())])?
            .build()?;
        let kind = self.single_value(kinds, Value::new(column(&made), Type::Bigint), context)?.expr;
        let unknown = value.expr.clone().is_null();
        let equal = InSubquery { expr: Box::new(value.expr), subquery: subquery_node(plan), negated: false };
        Ok(kernels::call(Op::Marked, vec![Expr::InSubquery(equal), unknown, kind], Type::Boolean))
    }

    /// `value IN (plan)` by an array of all rows.
    fn among(&self, value: Value, plan: LogicalPlan, all: &Type, context: &Context<'_>) -> Result<Expr> {
        let list = Type::array(all.clone());
        let collected = self.column(Some("candidates"), &list);
        let candidate = Expr::Column(plan.schema().columns().swap_remove(0));
        let plan = LogicalPlanBuilder::from(plan)
            .aggregate(Vec::<Expr>::new(), vec![array_agg(candidate).alias(collected.clone())])?
            .build()?;
        let candidates = self.single_value(plan, Value::new(column(&collected), list), context)?.expr;
        Ok(kernels::call(Op::Among, vec![value.expr, candidates], Type::Boolean))
    }

    fn quantified(
        &self,
        left: &ast::Expr,
        op: &ast::BinaryOperator,
        right: &ast::Expr,
        all: bool,
        context: &Context<'_>,
    ) -> Result<Value> {
        let query = match right {
            ast::Expr::Subquery(query) => query,
            ast::Expr::Nested(inner) => return self.quantified(left, op, inner, all, context),
            other => return Err(Error::user("SYNTAX_ERROR", format!("ALL and ANY need a subquery, not {other}"))),
        };
        use ast::BinaryOperator as B;
        let value = self.expr(left, &Context { filter: false, ..*context })?;
        let bound = self.query(query, Some(context), context.ctes)?;
        let kind = match op {
            B::Eq if !all => return self.in_subquery(value, bound, false, context),
            B::NotEq if all => return self.in_subquery(value, bound, true, context),
            B::Eq => Comparison::Equal,
            B::NotEq => Comparison::NotEqual,
            B::Lt => Comparison::Less,
            B::LtEq => Comparison::LessOrEqual,
            B::Gt => Comparison::Greater,
            B::GtEq => Comparison::GreaterOrEqual,
            other => return Err(Error::user("SYNTAX_ERROR", format!("operator {other} is not a comparison"))),
        };
        self.by_extremes(value, bound, (kind, all), context)
    }

    /// A comparison with all or any of the rows, by their least and greatest.
    fn by_extremes(
        &self,
        value: Value,
        bound: Bound,
        (kind, all): (Comparison, bool),
        context: &Context<'_>,
    ) -> Result<Value> {
        let (plan, candidate) = self.one_column(bound)?;
        let both = common(&value.data_type, &candidate.data_type).ok_or_else(|| {
            Error::user("TYPE_MISMATCH", format!("cannot compare {} with {}", value.data_type, candidate.data_type))
        })?;
        let both = as_instants(both);
        let candidate = self.convert(candidate, &both)?;
        let value = self.convert(value, &both)?;
        if is_hard(&plan) {
            let made = self.column(Some("candidate"), &both);
            let plan = self.project(plan.clone(), vec![candidate.expr.clone().alias(made)])?;
            if let Some(marked) = self.marked_comparison(&value, &plan, (kind, all), context)? {
                return Ok(marked);
            }
        }
        let scalar = |aggregate: Expr, data_type: &Type| -> Result<Value> {
            let made = self.column(Some("extreme"), data_type);
            let plan = LogicalPlanBuilder::from(plan.clone())
                .aggregate(Vec::<Expr>::new(), vec![aggregate.alias(made.clone())])?
                .build()?;
            self.single_value(plan, Value::new(column(&made), data_type.clone()), context)
        };
        let least = scalar(min(candidate.expr.clone()), &both)?;
        let greatest = scalar(max(candidate.expr.clone()), &both)?;
        let rows = scalar(count_all(), &Type::Bigint)?.expr;
        let known = scalar(count(candidate.expr.clone()), &Type::Bigint)?.expr;
        let holds = match (kind, all) {
            (Comparison::Equal, _) => {
                let one = self.compare(Comparison::Equal, least, greatest.clone())?.expr;
                one.and(self.compare(Comparison::Equal, value, greatest)?.expr)
            }
            (Comparison::NotEqual, _) => {
                let several = self.compare(Comparison::NotEqual, least, greatest.clone())?.expr;
                several.or(self.compare(Comparison::NotEqual, value, greatest)?.expr)
            }
            (Comparison::Less | Comparison::LessOrEqual, true)
            | (Comparison::Greater | Comparison::GreaterOrEqual, false) => self.compare(kind, value, least)?.expr,
            _ => self.compare(kind, value, greatest)?.expr,
        };
        let decided = if all { holds.clone().is_false() } else { holds.clone().is_true() };
        let null = || boolean(lit(datafusion::common::ScalarValue::Boolean(None)));
        let branches = vec![
            (rows.clone().eq(lit(0i64)), boolean(lit(all))),
            (decided, boolean(lit(!all))),
            (rows.not_eq(known), null()),
        ];
        self.choose(branches, Some(boolean(holds)), "comparison")
    }
}

/// Whether what is asked of a node is asked of its parts: they must hold where it must.
pub(crate) fn is_conjunct(node: &ast::Expr) -> bool {
    use ast::Expr as E;
    let is_subquery =
        |node: &E| matches!(node, E::Exists { .. } | E::InSubquery { .. } | E::AnyOp { .. } | E::AllOp { .. });
    match node {
        E::Nested(_) | E::BinaryOp { op: ast::BinaryOperator::And, .. } => true,
        node => is_subquery(node),
    }
}

fn subquery_node(plan: LogicalPlan) -> Subquery {
    let outer_ref_columns = plan.all_out_ref_exprs();
    Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: Spans::new() }
}

/// The expression of `(SELECT expression)`, which needs no subquery; columns of the query around become plain ones.
fn inlined(plan: &LogicalPlan, context: &Context<'_>) -> Option<Expr> {
    let LogicalPlan::Projection(projection) = plan else { return None };
    let one = match projection.input.as_ref() {
        LogicalPlan::EmptyRelation(empty) => empty.produce_one_row,
        _ => false,
    };
    let expr = projection.expr.first()?.clone().unalias();
    if !one || !expr.contains_outer() || super::conditions::has_subquery(&expr) {
        return None;
    }
    replace(expr, &|node| match node {
        Expr::OuterReferenceColumn(_, outer) if context.scope.fields.iter().any(|field| field.column == outer.name) => {
            Some(Expr::Column(outer.clone()))
        }
        _ => None,
    })
    .ok()
}

/// Whether a plan has parts through which DataFusion pulls no reference up, or refers in another way than by equality.
fn is_hard(plan: &LogicalPlan) -> bool {
    let mut aggregates = 0;
    plan.exists(|node| {
        let refers = || !node.all_out_ref_exprs().is_empty();
        Ok(match node {
            LogicalPlan::Join(_) => refers(),
            // What an aggregate makes of no rows is known of the last one only.
            LogicalPlan::Aggregate(_) if refers() => {
                aggregates += 1;
                aggregates > 1
            }
            LogicalPlan::Unnest(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::Window(_)
            | LogicalPlan::Union(_)
            | LogicalPlan::Distinct(_) => true,
            LogicalPlan::Filter(filter) => split_conjunction(&filter.predicate)
                .into_iter()
                .any(|part| part.contains_outer() && !is_equality(part) || super::conditions::has_subquery(part)),
            node => node.expressions().iter().any(Expr::contains_outer),
        })
    })
    .unwrap_or(false)
}

/// Whether a plan refers to the query around from below a node that has to stay there, or in another place than a filter: a
/// join of its rows would be one of other rows.
fn is_fixed(plan: &LogicalPlan) -> bool {
    plan.exists(|node| {
        let refers = || !node.all_out_ref_exprs().is_empty();
        Ok(match node {
            LogicalPlan::Filter(_) | LogicalPlan::TableScan(_) | LogicalPlan::SubqueryAlias(_) => false,
            LogicalPlan::Distinct(Distinct::All(_)) => false,
            LogicalPlan::Projection(_) => node.expressions().iter().any(Expr::contains_outer),
            _ => refers(),
        })
    })
    .unwrap_or(false)
}

/// A plan that has a row where this one has: what each row holds, their order, and which of several is left do not matter.
fn rows_of(plan: LogicalPlan) -> Result<LogicalPlan> {
    let input = match &plan {
        LogicalPlan::Projection(node) => &node.input,
        LogicalPlan::Sort(node) if node.fetch.is_none() => &node.input,
        LogicalPlan::Window(node) => &node.input,
        LogicalPlan::Distinct(Distinct::All(input)) => input,
        LogicalPlan::Limit(node) => match (node.get_skip_type()?, node.get_fetch_type()?) {
            (SkipType::Literal(0), FetchType::Literal(Some(1..) | None)) => &node.input,
            _ => return Ok(plan),
        },
        _ => return Ok(plan),
    };
    rows_of(input.as_ref().clone())
}

/// Whether a condition says that a value of the subquery equals one of the query around.
fn is_equality(condition: &Expr) -> bool {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            let outer = |expr: &Expr| expr.contains_outer() && expr.column_refs().is_empty();
            let inner = |expr: &Expr| !expr.contains_outer() && !expr.column_refs().is_empty();
            outer(left) && inner(right) || outer(right) && inner(left)
        }
        _ => false,
    }
}

/// Whether a plan always gives exactly one row.
fn is_single_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => is_single_row(&projection.input),
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::EmptyRelation(empty) => empty.produce_one_row,
        LogicalPlan::Values(values) => values.values.len() == 1,
        _ => false,
    }
}
