//! Queries: WITH, the body, and what follows it: ORDER BY, OFFSET, LIMIT, FETCH.
//!
//! Invariant: WITH TIES keeps every row equal to the last one in the order asked for.

use std::sync::Arc;

use datafusion::{
    catalog::cte_worktable::CteWorkTable,
    common::ScalarValue,
    datasource::provider_as_source,
    functions_window::{rank::rank_udwf, row_number::row_number_udwf},
    logical_expr::{
        Expr, Extension, LogicalPlan, LogicalPlanBuilder, SortExpr, WindowFrame, WindowFunctionDefinition, WindowUDF,
        expr::WindowFunction, lit,
    },
    sql::sqlparser::ast,
};
use headwater_engine::error::{Error, Result};

use super::{
    Binder, Bound, Value, aggregates, at, column,
    ctes::{Ctes, Meaning},
    scope::{Context, Field, Scope},
};
use crate::{
    recursion::StepNode,
    types::{Type, common},
};

/// How many rows a query keeps.
#[derive(Debug, Clone, Default)]
pub(crate) struct Limits {
    pub(crate) skip: usize,
    pub(crate) fetch: Option<usize>,
    pub(crate) ties: bool,
}

impl Limits {
    pub(crate) fn any(&self) -> bool {
        self.skip > 0 || self.fetch.is_some()
    }
}

impl Binder<'_> {
    /// Binds a query.
    pub(crate) fn query(&self, query: &ast::Query, outer: Option<&Context<'_>>, ctes: &Ctes) -> Result<Bound> {
        self.nested(|| {
            let ctes = match &query.with {
                Some(with) => self.with(with, outer, ctes)?,
                None => ctes.clone(),
            };
            if !query.locks.is_empty() {
                return Err(Error::user("SYNTAX_ERROR", "FOR UPDATE is not supported"));
            }
            let limits = self.limits(query)?;
            let order = order_items(query)?;
            match query.body.as_ref() {
                ast::SetExpr::Select(select) => self.select(select, order, &limits, outer, &ctes),
                ast::SetExpr::Query(inner) if order.is_empty() && !limits.any() => self.query(inner, outer, &ctes),
                body => {
                    let bound = self.set_expr(body, outer, &ctes)?;
                    self.order_and_limit(bound, order, &limits, outer, &ctes)
                }
            }
        })
    }

    /// A query's body.
    pub(crate) fn set_expr(&self, body: &ast::SetExpr, outer: Option<&Context<'_>>, ctes: &Ctes) -> Result<Bound> {
        match body {
            ast::SetExpr::Select(select) => self.select(select, &[], &Limits::default(), outer, ctes),
            ast::SetExpr::Query(query) => self.query(query, outer, ctes),
            ast::SetExpr::Values(values) => self.values(values, outer, ctes),
            ast::SetExpr::SetOperation { left, op, set_quantifier, right } => {
                self.set_operation(left, (*op, *set_quantifier), right, outer, ctes)
            }
            ast::SetExpr::Table(table) => {
                let parts: Vec<ast::Ident> = table
                    .schema_name
                    .iter()
                    .chain(&table.table_name)
                    .map(|name| ast::Ident::new(name.clone()))
                    .collect();
                self.named_relation(&parts, outer, ctes)
            }
            other => Err(Error::user("SYNTAX_ERROR", format!("{other} is not a query"))),
        }
    }

    fn with(&self, with: &ast::With, outer: Option<&Context<'_>>, ctes: &Ctes) -> Result<Ctes> {
        let mut ctes = ctes.clone();
        let mut seen = std::collections::HashSet::new();
        for cte in &with.cte_tables {
            super::reserved::check(&cte.alias.name)?;
            let name = &cte.alias.name.value;
            if !seen.insert(name.to_lowercase()) {
                return Err(Error::user("DUPLICATE_NAMED_QUERY", format!("WITH query name \"{name}\" is given twice")));
            }
            let columns: Vec<ast::Ident> = cte.alias.columns.iter().map(|column| column.name.clone()).collect();
            let recursion = recursion(with.recursive, name, &cte.query)?;
            if with.recursive && columns.is_empty() {
                let message = format!("missing column aliases in recursive WITH query \"{name}\"");
                return Err(Error::user("MISSING_COLUMN_ALIASES", message));
            }
            let meaning = match recursion {
                Some((base, step, distinct)) => {
                    Meaning::Plan(Box::new(self.recursive(name, &columns, (base, step, distinct), outer, &ctes)?))
                }
                None => Meaning::Query { query: cte.query.clone(), columns, scope: ctes.clone() },
            };
            ctes = ctes.with(name, meaning);
        }
        Ok(ctes)
    }

    fn recursive(
        &self,
        name: &str,
        columns: &[ast::Ident],
        (base, step, distinct): (&ast::SetExpr, &ast::SetExpr, bool),
        outer: Option<&Context<'_>>,
        ctes: &Ctes,
    ) -> Result<Bound> {
        let base = rename(self.set_expr(base, outer, ctes)?, columns, name)?;
        let table = self.column(Some(name), &Type::Unknown);
        let arrow: Vec<arrow::datatypes::Field> = base
            .scope
            .fields
            .iter()
            .map(|field| arrow::datatypes::Field::new(&field.column, field.data_type.to_arrow(), true))
            .collect();
        let schema = Arc::new(arrow::datatypes::Schema::new(arrow));
        let source = provider_as_source(Arc::new(CteWorkTable::new(&table, schema)));
        let scan = LogicalPlanBuilder::scan(table.as_str(), source, None)?.build()?;
        let mut fields = Vec::new();
        let mut exprs = Vec::new();
        for (field, (qualifier, from)) in base.scope.fields.iter().zip(scan.schema().iter()) {
            let made = self.column(field.name.as_deref(), &field.data_type);
            let from = datafusion::common::Column::new(qualifier.cloned(), from.name());
            exprs.push(Expr::Column(from).alias(made.clone()));
            fields.push(Field { qualifier: vec![name.to_lowercase()], column: made, ..field.clone() });
        }
        let working = Bound { plan: self.project(scan, exprs)?, scope: Scope { fields } };
        let inner = ctes.with(name, Meaning::Plan(Box::new(working)));
        let step = self.set_expr(step, outer, &inner)?;
        if step.scope.fields.len() != base.scope.fields.len() {
            return Err(Error::user(
                "TYPE_MISMATCH",
                format!("the two sides of recursive query \"{name}\" have different numbers of columns"),
            ));
        }
        let mut exprs = Vec::new();
        for (from, to) in step.scope.fields.iter().zip(&base.scope.fields) {
            exprs.push(self.coerce(from.value(), &to.data_type)?.expr.alias(to.column.clone()));
        }
        let step = StepNode { input: self.project(step.plan, exprs)? };
        let step = LogicalPlan::Extension(Extension { node: Arc::new(step) });
        let plan = LogicalPlanBuilder::from(base.plan).to_recursive_query(table, step, distinct)?.build()?;
        Ok(Bound { plan, scope: base.scope })
    }

    fn limits(&self, query: &ast::Query) -> Result<Limits> {
        let mut limits = Limits::default();
        match &query.limit_clause {
            Some(ast::LimitClause::LimitOffset { limit, offset, .. }) => {
                limits.fetch = limit.as_ref().map(|node| self.count(node, "LIMIT")).transpose()?;
                if let Some(offset) = offset {
                    let after = limit.as_ref().and_then(super::place) < super::place(&offset.value);
                    if limit.is_some() && after {
                        return Err(Error::user("SYNTAX_ERROR", "OFFSET stands before LIMIT")
                            .with_hint("write OFFSET m LIMIT n"));
                    }
                    limits.skip = self.count(&offset.value, "OFFSET")?;
                }
            }
            Some(ast::LimitClause::OffsetCommaLimit { .. }) => {
                return Err(Error::user("SYNTAX_ERROR", "LIMIT takes one number").with_hint("write OFFSET m LIMIT n"));
            }
            None => {}
        }
        if let Some(fetch) = &query.fetch {
            if limits.fetch.is_some() {
                return Err(Error::user("SYNTAX_ERROR", "a query has LIMIT or FETCH, not both"));
            }
            let count = match &fetch.quantity {
                Some(node) => self.count(node, "FETCH FIRST")?,
                None => 1,
            };
            if count == 0 {
                return Err(Error::user("NUMERIC_VALUE_OUT_OF_RANGE", "FETCH FIRST row count must be positive"));
            }
            limits.fetch = Some(count);
            limits.ties = fetch.with_ties;
        }
        Ok(limits)
    }

    fn count(&self, node: &ast::Expr, clause: &str) -> Result<usize> {
        let scope = Scope::default();
        let ctes = Ctes::default();
        let value =
            self.expr(node, &Context::new(&scope, None, &ctes, clause)).map_err(|error| match error.code().0 {
                "COLUMN_NOT_FOUND" => Error::user("SYNTAX_ERROR", format!("{clause} needs a whole number")),
                _ => error,
            })?;
        let count = match value.expr {
            Expr::Literal(ScalarValue::Int32(Some(count)), _) => usize::try_from(count).ok(),
            Expr::Literal(ScalarValue::Int64(Some(count)), _) => usize::try_from(count).ok(),
            _ => None,
        };
        at(
            count.ok_or_else(|| {
                Error::user("SYNTAX_ERROR", format!("{clause} needs a whole number that is not negative"))
            }),
            node,
        )
    }

    /// ORDER BY and limits over a relation that is no SELECT.
    fn order_and_limit(
        &self,
        bound: Bound,
        order: &[ast::OrderByExpr],
        limits: &Limits,
        outer: Option<&Context<'_>>,
        ctes: &Ctes,
    ) -> Result<Bound> {
        let mut sorts = Vec::new();
        for one in order {
            let context = Context::new(&bound.scope, outer, ctes, "ORDER BY");
            let value = match ordinal(&one.expr) {
                Some(position) => self.by_position(position, &bound.scope, &one.expr)?,
                None => self.expr(&one.expr, &context)?,
            };
            aggregates::sortable(&value)?;
            sorts.push(aggregates::sort(self.instants_of(value)?.expr, &one.options));
        }
        let plan = self.sorted(bound.plan, sorts, limits)?;
        Ok(Bound { plan, scope: bound.scope })
    }

    /// The column at a position counted from 1.
    pub(crate) fn by_position(&self, position: i64, scope: &Scope, node: &ast::Expr) -> Result<Value> {
        let field = usize::try_from(position - 1).ok().and_then(|index| scope.fields.get(index));
        at(
            field.map(Field::value).ok_or_else(|| {
                Error::user("INVALID_COLUMN_REFERENCE", format!("ORDER BY position {position} is not in select list"))
            }),
            node,
        )
    }

    /// Sorts and cuts.
    pub(crate) fn sorted(&self, plan: LogicalPlan, sorts: Vec<SortExpr>, limits: &Limits) -> Result<LogicalPlan> {
        if limits.ties {
            return self.with_ties(plan, sorts, limits);
        }
        if limits.skip > 0 && limits.fetch.is_none() && !sorts.is_empty() {
            let rest = self.without_first(plan, &sorts, limits.skip)?;
            return Ok(LogicalPlanBuilder::from(rest).sort(sorts)?.build()?);
        }
        let mut builder = LogicalPlanBuilder::from(plan);
        if !sorts.is_empty() {
            builder = builder.sort(sorts)?;
        }
        if limits.any() {
            builder = builder.limit(limits.skip, limits.fetch)?;
        }
        Ok(builder.build()?)
    }

    fn with_ties(&self, plan: LogicalPlan, sorts: Vec<SortExpr>, limits: &Limits) -> Result<LogicalPlan> {
        if sorts.is_empty() {
            return Err(Error::user("MISSING_ORDER_BY", "FETCH FIRST WITH TIES clause requires ORDER BY"));
        }
        let plan = if limits.skip > 0 { self.without_first(plan, &sorts, limits.skip)? } else { plan };
        let count = limits.fetch.unwrap_or(usize::MAX) as u64;
        let first = self.placed(plan, rank_udwf(), &sorts, |place| place.lt_eq(lit(count)))?;
        Ok(LogicalPlanBuilder::from(first).sort(sorts)?.build()?)
    }

    /// The rows behind the first ones of an order. DataFusion forgets the order below an OFFSET that has no LIMIT, where
    /// nothing above asks for it.
    fn without_first(&self, plan: LogicalPlan, sorts: &[SortExpr], count: usize) -> Result<LogicalPlan> {
        self.placed(plan, row_number_udwf(), sorts, |place| place.gt(lit(count as u64)))
    }

    /// The rows whose place in an order meets a condition.
    fn placed(
        &self,
        plan: LogicalPlan,
        place: Arc<WindowUDF>,
        sorts: &[SortExpr],
        condition: impl FnOnce(Expr) -> Expr,
    ) -> Result<LogicalPlan> {
        let mut call = WindowFunction::new(WindowFunctionDefinition::WindowUDF(place), Vec::new());
        call.params.order_by = sorts.to_vec();
        call.params.window_frame = WindowFrame::new(Some(false));
        let name = self.column(Some("place"), &Type::Bigint);
        let kept: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
        let placed = self.windows(plan, vec![(Expr::WindowFunction(Box::new(call)), name.clone())])?;
        Ok(LogicalPlanBuilder::from(placed).filter(condition(column(&name)))?.project(kept)?.build()?)
    }

    /// `VALUES ..`
    fn values(&self, values: &ast::Values, outer: Option<&Context<'_>>, ctes: &Ctes) -> Result<Bound> {
        let empty = Scope::default();
        let context = Context::new(&empty, outer, ctes, "VALUES");
        let mut rows: Vec<Vec<Value>> = Vec::with_capacity(values.rows.len());
        for row in &values.rows {
            let mut bound = self.exprs(row, &context)?;
            if let ([only], Some(Type::Row(fields))) =
                (row.as_slice(), bound.first().map(|value| value.data_type.clone()))
            {
                let _ = only;
                if !fields.is_empty() {
                    let row = bound.remove(0);
                    bound = fields
                        .iter()
                        .enumerate()
                        .map(|(index, (_, inner))| {
                            let field = crate::kernels::Op::Field(index);
                            Value::new(
                                crate::kernels::call(field, vec![row.expr.clone()], inner.clone()),
                                inner.clone(),
                            )
                        })
                        .collect();
                }
            }
            rows.push(bound);
        }
        let width = rows.first().map_or(0, Vec::len);
        let mismatch = |message: String| Error::user("TYPE_MISMATCH", message);
        if rows.iter().any(|row| row.len() != width) {
            return Err(mismatch("values rows have mismatched sizes".into()));
        }
        let mut types = vec![Type::Unknown; width];
        for row in &rows {
            for (known, value) in types.iter_mut().zip(row) {
                *known = common(known, &value.data_type).ok_or_else(|| {
                    mismatch(format!("values rows have mismatched types: {known} and {}", value.data_type))
                })?;
            }
        }
        let rows = rows
            .into_iter()
            .map(|row| row.into_iter().zip(&types).map(|(value, to)| Ok(self.convert(value, to)?.expr)).collect())
            .collect::<Result<Vec<Vec<Expr>>>>()?;
        self.values_plan(rows, types)
    }

    fn values_plan(&self, rows: Vec<Vec<Expr>>, types: Vec<Type>) -> Result<Bound> {
        let special = |expr: &Expr| super::conditions::has_subquery(expr) || expr.contains_outer();
        let names: Vec<String> = types.iter().map(|data_type| self.column(None, data_type)).collect();
        let plan = if rows.iter().flatten().any(special) {
            let mut all: Option<LogicalPlanBuilder> = None;
            for row in rows {
                let exprs: Vec<Expr> =
                    row.into_iter().zip(&names).map(|(expr, name)| expr.alias(name.clone())).collect();
                let one = LogicalPlanBuilder::empty(true).project(exprs)?;
                all = Some(match all {
                    Some(before) => before.union(one.build()?)?,
                    None => one,
                });
            }
            all.ok_or_else(|| Error::user("SYNTAX_ERROR", "VALUES needs a row"))?.build()?
        } else {
            let values = LogicalPlanBuilder::values(rows)?.build()?;
            let exprs = values
                .schema()
                .columns()
                .into_iter()
                .zip(&names)
                .map(|(from, name)| Expr::Column(from).alias(name.clone()))
                .collect();
            self.project(values, exprs)?
        };
        let fields = names
            .into_iter()
            .zip(types)
            .map(|(column, data_type)| Field { qualifier: Vec::new(), name: None, column, data_type, hidden: false })
            .collect();
        Ok(Bound { plan, scope: Scope { fields } })
    }
}

/// A whole number written as an ORDER BY or GROUP BY item.
pub(crate) fn ordinal(node: &ast::Expr) -> Option<i64> {
    match node {
        ast::Expr::Value(ast::ValueWithSpan { value: ast::Value::Number(text, _), .. }) => {
            let value = super::literals::number(text).ok()?;
            if !value.data_type.is_integer() {
                return None;
            }
            match value.expr {
                Expr::Literal(ScalarValue::Int32(Some(value)), _) => Some(i64::from(value)),
                Expr::Literal(ScalarValue::Int64(Some(value)), _) => Some(value),
                _ => None,
            }
        }
        ast::Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } => ordinal(expr).map(|position| -position),
        _ => None,
    }
}

pub(crate) fn order_items(query: &ast::Query) -> Result<&[ast::OrderByExpr]> {
    match &query.order_by {
        None => Ok(&[]),
        Some(ast::OrderBy { kind: ast::OrderByKind::Expressions(items), .. }) => Ok(items),
        Some(_) => Err(Error::user("SYNTAX_ERROR", "ORDER BY ALL is not supported").with_hint("name the columns")),
    }
}

/// The sides of a recursive query, and whether equal rows are one.
type Recursion<'q> = (&'q ast::SetExpr, &'q ast::SetExpr, bool);

/// Base and step of a recursive query, if it is one.
fn recursion<'q>(recursive: bool, name: &str, query: &'q ast::Query) -> Result<Option<Recursion<'q>>> {
    let invalid =
        |message: &str| Error::user("INVALID_RECURSIVE_REFERENCE", format!("recursive query \"{name}\": {message}"));
    if !recursive || query.with.is_some() {
        return Ok(None);
    }
    let ast::SetExpr::SetOperation { left, op: ast::SetOperator::Union, set_quantifier, right } = query.body.as_ref()
    else {
        return match uses(query.body.as_ref(), name) {
            0 => Ok(None),
            _ => Err(invalid("it is not a UNION of a base and a step")),
        };
    };
    let distinct = *set_quantifier != ast::SetQuantifier::All;
    match (uses(left, name), uses(right, name)) {
        (0, 0) => Ok(None),
        (0, 1) if query.limit_clause.is_some() || query.fetch.is_some() => {
            Err(Error::user("INVALID_LIMIT_CLAUSE", "FETCH FIRST / LIMIT clause is not allowed in a recursive query"))
        }
        (0, 1) => Ok(Some((left.as_ref(), right.as_ref(), distinct))),
        (0, _) => Err(invalid("the step refers to it more than once")),
        _ => Err(invalid("the base refers to it")),
    }
}

/// How often a relation is named.
fn uses(body: &ast::SetExpr, name: &str) -> usize {
    let wanted = name.to_lowercase();
    let mut count = 0;
    let _ = ast::visit_relations(body, |relation| {
        count += usize::from(relation.to_string().trim_matches('"').to_lowercase() == wanted);
        std::ops::ControlFlow::<()>::Continue(())
    });
    count
}

/// Gives a relation's columns new names.
pub(crate) fn rename(mut bound: Bound, columns: &[ast::Ident], relation: &str) -> Result<Bound> {
    let visible = bound.scope.fields.iter().filter(|field| !field.hidden).count();
    if !columns.is_empty() && columns.len() != visible {
        return Err(Error::user(
            "MISMATCHED_COLUMN_ALIASES",
            format!(
                "column alias list of \"{relation}\" has {} entries but relation has {visible} columns",
                columns.len()
            ),
        ));
    }
    let mut names = columns.iter();
    for field in &mut bound.scope.fields {
        field.qualifier = vec![relation.to_lowercase()];
        if field.hidden && !columns.is_empty() {
            continue;
        }
        if let Some(name) = names.next() {
            field.name = Some(name.value.clone());
        }
    }
    Ok(bound)
}
