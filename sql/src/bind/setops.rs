//! UNION, INTERSECT and EXCEPT, with and without ALL.
//!
//! Invariant: NULLs are equal here, and under ALL each row counts as often as it occurs.

use datafusion::{
    functions_aggregate::expr_fn::sum,
    functions_window::row_number::row_number_udwf,
    logical_expr::{
        Expr, LogicalPlan, LogicalPlanBuilder, WindowFrame, WindowFunctionDefinition, expr::WindowFunction, lit,
    },
    sql::sqlparser::ast,
};
use headwater_engine::error::{Error, Result};

use super::{
    Binder, Bound, column,
    ctes::Ctes,
    scope::{Context, Field, Scope},
};
use crate::types::{Type, common};

impl Binder<'_> {
    pub(crate) fn set_operation(
        &self,
        left: &ast::SetExpr,
        (op, quantifier): (ast::SetOperator, ast::SetQuantifier),
        right: &ast::SetExpr,
        outer: Option<&Context<'_>>,
        ctes: &Ctes,
    ) -> Result<Bound> {
        let (left, right) = (self.set_expr(left, outer, ctes)?, self.set_expr(right, outer, ctes)?);
        let all = match quantifier {
            ast::SetQuantifier::All => true,
            ast::SetQuantifier::Distinct | ast::SetQuantifier::None => false,
            other => return Err(Error::user("SYNTAX_ERROR", format!("{other} is not supported"))),
        };
        let scope = self.set_scope(&left.scope, &right.scope, op)?;
        let (a, b) = (self.side(left, &scope)?, self.side(right, &scope)?);
        let plan = match (op, all) {
            (ast::SetOperator::Union, true) => LogicalPlanBuilder::from(a).union(b)?.build()?,
            (ast::SetOperator::Union, false) => LogicalPlanBuilder::from(a).union(b)?.distinct()?.build()?,
            (ast::SetOperator::Intersect, _) => self.counted_sides(a, b, &scope, all, true)?,
            (ast::SetOperator::Except | ast::SetOperator::Minus, _) => self.counted_sides(a, b, &scope, all, false)?,
        };
        Ok(Bound { plan, scope })
    }

    fn set_scope(&self, left: &Scope, right: &Scope, op: ast::SetOperator) -> Result<Scope> {
        if left.fields.len() != right.fields.len() {
            return Err(Error::user(
                "TYPE_MISMATCH",
                format!("{op} query has different number of fields: {}, {}", left.fields.len(), right.fields.len()),
            ));
        }
        let fields = left.fields.iter().zip(&right.fields).enumerate().map(|(index, (a, b))| {
            let data_type = common(&a.data_type, &b.data_type).ok_or_else(|| {
                Error::user(
                    "TYPE_MISMATCH",
                    format!(
                        "column {} in {op} query has incompatible types: {}, {}",
                        index + 1,
                        a.data_type,
                        b.data_type
                    ),
                )
            })?;
            let made = self.column(a.name.as_deref(), &data_type);
            Ok(Field { qualifier: Vec::new(), name: a.name.clone(), column: made, data_type, hidden: false })
        });
        Ok(Scope { fields: fields.collect::<Result<_>>()? })
    }

    fn side(&self, bound: Bound, scope: &Scope) -> Result<LogicalPlan> {
        let exprs = bound
            .scope
            .fields
            .iter()
            .zip(&scope.fields)
            .map(|(from, to)| Ok(self.convert(from.value(), &to.data_type)?.expr.alias(to.column.clone())))
            .collect::<Result<Vec<_>>>()?;
        self.project(bound.plan, exprs)
    }

    /// INTERSECT and EXCEPT by counting each row on each side; under ALL a row's occurrences are numbered first.
    fn counted_sides(
        &self,
        a: LogicalPlan,
        b: LogicalPlan,
        scope: &Scope,
        all: bool,
        intersect: bool,
    ) -> Result<LogicalPlan> {
        let (in_a, in_b) = (self.column(Some("left"), &Type::Bigint), self.column(Some("right"), &Type::Bigint));
        let occurrence = self.column(Some("occurrence"), &Type::Bigint);
        let mut keys: Vec<Expr> = scope.fields.iter().map(Field::expr).collect();
        if all {
            keys.push(column(&occurrence));
        }
        let side = |plan: LogicalPlan, left: i64| -> Result<LogicalPlan> {
            let plan = if all { self.windows(plan, vec![(numbered(scope), occurrence.clone())])? } else { plan };
            let mut exprs = keys.clone();
            exprs.push(lit(left).alias(in_a.clone()));
            exprs.push(lit(1 - left).alias(in_b.clone()));
            self.project(plan, exprs)
        };
        let (a, b) = (side(a, 1)?, side(b, 0)?);
        let (sum_a, sum_b) = (self.column(Some("left"), &Type::Bigint), self.column(Some("right"), &Type::Bigint));
        let totals = vec![sum(column(&in_a)).alias(sum_a.clone()), sum(column(&in_b)).alias(sum_b.clone())];
        let other = if intersect { column(&sum_b).gt(lit(0i64)) } else { column(&sum_b).eq(lit(0i64)) };
        let plan = LogicalPlanBuilder::from(a)
            .union(b)?
            .aggregate(keys, totals)?
            .filter(column(&sum_a).gt(lit(0i64)).and(other))?
            .project(scope.fields.iter().map(Field::expr))?;
        Ok(plan.build()?)
    }
}

fn numbered(scope: &Scope) -> Expr {
    let mut number = WindowFunction::new(WindowFunctionDefinition::WindowUDF(row_number_udwf()), Vec::new());
    number.params.partition_by = scope.fields.iter().map(Field::expr).collect();
    number.params.window_frame = WindowFrame::new(None);
    Expr::WindowFunction(Box::new(number))
}
