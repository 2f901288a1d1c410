//! JSON_TABLE, as the parser rewrites it: rows of a document beside the rows of the relation to its left.
//!
//! Invariant: the columns it works with are not in scope outside of it.

use datafusion::{
    common::JoinType,
    logical_expr::{Expr, LogicalPlanBuilder},
    sql::sqlparser::ast,
};
use headwater_engine::error::{Error, Result};

use super::{
    Binder, Bound, at,
    ctes::Ctes,
    query::rename,
    relations::is_true,
    scope::{Context, Field, Scope},
};

/// The subquery that carries a JSON_TABLE, if a query is one.
pub(crate) fn carrier(query: &ast::Query) -> Option<&ast::Select> {
    let ast::SetExpr::Select(select) = query.body.as_ref() else { return None };
    match select.projection.first()? {
        ast::SelectItem::UnnamedExpr(ast::Expr::Function(function))
            if function.name.to_string() == "\"$json_table\"" =>
        {
            Some(select)
        }
        _ => None,
    }
}

impl Binder<'_> {
    /// Rows of documents beside those of `left`.
    pub(crate) fn json_table(
        &self,
        left: Bound,
        (select, alias): (&ast::Select, Option<&ast::TableAlias>),
        (kind, constraint): (JoinType, &ast::JoinConstraint),
        outer: Option<&Context<'_>>,
        ctes: &Ctes,
    ) -> Result<Bound> {
        let optional = match (kind, constraint) {
            (JoinType::Inner, _) => false,
            (JoinType::Left, ast::JoinConstraint::On(node)) if is_true(node) => true,
            _ => {
                return Err(Error::not_supported(
                    "JSON_TABLE in other than CROSS JOIN, INNER JOIN or LEFT JOIN .. ON TRUE is not supported",
                ));
            }
        };
        let broken = || Error::internal("JSON_TABLE was handed over without its rows");
        let from = select.from.first().ok_or_else(broken)?;
        let ast::TableFactor::UNNEST { alias: rows, array_exprs, .. } = &from.relation else { return Err(broken()) };
        let before = left.scope.fields.clone();
        let all = self.unnest(left, array_exprs, false, rows.as_ref(), (optional, outer, ctes))?;
        let all = from.joins.iter().try_fold(all, |all, join| self.join(all, join, outer, ctes))?;
        let mut exprs: Vec<Expr> = before.iter().map(Field::expr).collect();
        let mut own = Vec::new();
        for item in &select.projection[1..] {
            let ast::SelectItem::ExprWithAlias { expr, alias } = item else { return Err(broken()) };
            let value = at(self.expr(expr, &Context::new(&all.scope, outer, ctes, "JSON_TABLE")), expr)?;
            let made = self.column(Some(&alias.value), &value.data_type);
            exprs.push(value.expr.alias(made.clone()));
            own.push(Field {
                qualifier: Vec::new(),
                name: Some(alias.value.clone()),
                column: made,
                data_type: value.data_type,
                hidden: false,
            });
        }
        let mut own = Bound { plan: self.project(all.plan, exprs)?, scope: Scope { fields: own } };
        if let Some(alias) = alias {
            let columns: Vec<ast::Ident> = alias.columns.iter().map(|column| column.name.clone()).collect();
            own = rename(own, &columns, &alias.name.value)?;
        }
        let scope = Scope { fields: before.into_iter().chain(own.scope.fields).collect() };
        let plan = match (kind, constraint) {
            (JoinType::Inner, ast::JoinConstraint::On(node)) if !is_true(node) => {
                let condition = self.condition(node, &Context::new(&scope, outer, ctes, "JOIN ON clause"))?;
                LogicalPlanBuilder::from(own.plan).filter(condition.expr)?.build()?
            }
            _ => own.plan,
        };
        Ok(Bound { plan, scope })
    }
}
