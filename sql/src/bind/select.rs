//! SELECT: its items, grouping, windows, DISTINCT and order, as one chain of plan nodes.
//!
//! ```text
//! from -> where -> (keys) -> aggregate -> having -> windows -> items and sort keys -> distinct -> sort -> limit -> items
//! ```
//!
//! Invariant: after grouping an expression refers to group keys and aggregates only; anything else is refused by name.

use std::cell::RefCell;

use datafusion::{
    common::tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, SortExpr, Subquery},
    sql::sqlparser::ast,
};
use headwater_engine::error::{Error, Result};

use super::{
    Binder, Bound, Value, aggregates, at, column,
    ctes::Ctes,
    group_windows::over_table_function,
    marks::Lateral,
    query::{Limits, ordinal},
    scope::{Collected, Context, Field, Scope},
};
use crate::{
    kernels::{self, Op},
    types::Type,
};

mod grouping;

/// An item of the select list.
#[derive(Debug, Clone)]
struct Item<'q> {
    name: Option<String>,
    value: Value,
    /// As it is written, if it is not of a star.
    node: Option<&'q ast::Expr>,
}

/// The parts of a SELECT while it is bound.
struct Parts<'q> {
    items: Vec<Item<'q>>,
    having: Option<(Expr, &'q ast::Expr)>,
    sorts: Vec<(Value, &'q ast::OrderByExpr)>,
}

impl Binder<'_> {
    /// Binds a SELECT with the ORDER BY and limits around it.
    pub(crate) fn select(
        &self,
        select: &ast::Select,
        order: &[ast::OrderByExpr],
        limits: &Limits,
        outer: Option<&Context<'_>>,
        ctes: &Ctes,
    ) -> Result<Bound> {
        refuse_foreign(select)?;
        if let Some((select, order)) = over_table_function(select, order)? {
            return self.select(&select, &order, limits, outer, ctes);
        }
        let mut from = self.from(&select.from, outer, ctes)?;
        if let Some(condition) = &select.selection {
            let laterals = RefCell::default();
            let context = Context::new(&from.scope, outer, ctes, "WHERE clause").filtering().joining(&laterals);
            let condition = self.condition(condition, &context)?;
            from = self.with_laterals(from, laterals.take())?;
            from.plan = LogicalPlanBuilder::from(from.plan).filter(condition.expr)?.build()?;
        }
        let (collected, laterals) = (RefCell::new(Collected::default()), RefCell::default());
        let windows = named_windows(select)?;
        let mut context = Context::new(&from.scope, outer, ctes, "SELECT").collecting(&collected).joining(&laterals);
        context.windows = &windows;
        let items = self.items(&select.projection, &context)?;
        let written = items_for_keys(&items, &collected.borrow());
        let keys = self.group_keys(&select.group_by, &written, &from.scope, outer, ctes)?;
        let having = match &select.having {
            Some(node) => {
                let context = Context { place: "HAVING clause", ..context }.filtering();
                Some((self.condition(node, &context)?.expr, node))
            }
            None => None,
        };
        let sorts = self.order_keys(order, &items, &context)?;
        let parts = Parts { items, having, sorts };
        let collected = collected.replace(Collected::default());
        let grouped = keys.is_some()
            || !collected.aggregates.is_empty()
            || parts.having.is_some()
            || !collected.groupings.is_empty();
        let (first, laterals) = laterals_before(grouped, laterals.take(), keys.as_ref());
        from = self.with_laterals(from, first)?;
        let (after_windows, laterals) = laterals_after_windows(laterals, &collected)?;
        let (plan, parts, window_calls) = if grouped {
            self.grouped(from.plan, keys.unwrap_or_default(), collected, (laterals, parts))?
        } else {
            (self.with_laterals(from, laterals)?.plan, parts, collected.windows)
        };
        let mut plan = self.windowed(plan, window_calls)?;
        if !after_windows.is_empty() {
            plan = self.with_laterals(self.anonymous(plan)?, after_windows)?.plan;
        }
        let distinct = match &select.distinct {
            None | Some(ast::Distinct::All) => false,
            Some(ast::Distinct::Distinct) => true,
            Some(ast::Distinct::On(_)) => return Err(Error::user("SYNTAX_ERROR", "DISTINCT ON is not supported")),
        };
        self.finish(plan, parts, distinct, limits)
    }

    /// A plan whose columns have no names of a query's.
    pub(super) fn anonymous(&self, plan: LogicalPlan) -> Result<Bound> {
        let columns = plan.schema().columns().into_iter();
        let fields = columns
            .map(|column| {
                let data_type = self.column_type(&column.name)?;
                Ok(Field { qualifier: Vec::new(), name: None, column: column.name, data_type, hidden: true })
            })
            .collect::<Result<_>>()?;
        Ok(Bound { plan, scope: Scope { fields } })
    }

    fn items<'q>(&self, projection: &'q [ast::SelectItem], context: &Context<'_>) -> Result<Vec<Item<'q>>> {
        let mut items = Vec::new();
        for item in projection {
            match item {
                ast::SelectItem::UnnamedExpr(node) => {
                    items.push(Item { name: implied_name(node), value: self.expr(node, context)?, node: Some(node) });
                }
                ast::SelectItem::ExprWithAlias { alias, .. } if alias.quote_style == Some('\'') => {
                    return at(Err(Error::user("SYNTAX_ERROR", "a column's name stands in double quotes")), item);
                }
                ast::SelectItem::ExprWithAlias { expr, alias } => {
                    super::reserved::check(alias)?;
                    let (name, value) = (Some(alias.value.clone()), self.expr(expr, context)?);
                    items.push(Item { name, value, node: Some(expr) });
                }
                ast::SelectItem::Wildcard(_) => {
                    let fields = context.scope.fields.iter().filter(|field| !field.hidden);
                    let before = items.len();
                    items.extend(fields.map(|field| Item {
                        name: field.name.clone(),
                        value: field.value(),
                        node: None,
                    }));
                    if items.len() == before {
                        return at(
                            Err(Error::user("COLUMN_NOT_FOUND", "SELECT * not allowed in queries without FROM clause")),
                            item,
                        );
                    }
                }
                ast::SelectItem::QualifiedWildcard(kind, _) => {
                    items.extend(at(self.qualified_wildcard(kind, context), item)?)
                }
                ast::SelectItem::ExprWithAliases { .. } => {
                    return at(Err(Error::user("SYNTAX_ERROR", "an item of a select list has one name")), item);
                }
            }
        }
        Ok(items)
    }

    fn qualified_wildcard(
        &self,
        kind: &ast::SelectItemQualifiedWildcardKind,
        context: &Context<'_>,
    ) -> Result<Vec<Item<'static>>> {
        let value = match kind {
            ast::SelectItemQualifiedWildcardKind::ObjectName(name) => {
                let parts: Vec<ast::Ident> = name.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
                let of: Vec<Item<'static>> = context
                    .scope
                    .fields
                    .iter()
                    .filter(|field| !field.hidden && field.is_of(&parts))
                    .map(|field| Item { name: field.name.clone(), value: field.value(), node: None })
                    .collect();
                if !of.is_empty() {
                    return Ok(of);
                }
                let missing = || Error::user("TABLE_NOT_FOUND", format!("table \"{name}\" not found in FROM"));
                if parts.len() < 2 {
                    return Err(missing().with_hint("write table.column.* for the fields of a row"));
                }
                self.compound(&parts, context).map_err(|_| missing())?
            }
            ast::SelectItemQualifiedWildcardKind::Expr(ast::Expr::Nested(inner))
                if matches!(inner.as_ref(), ast::Expr::Identifier(_)) =>
            {
                let missing = format!("table \"{inner}\" not found in FROM");
                return Err(
                    Error::user("TABLE_NOT_FOUND", missing).with_hint("write table.column.* for the fields of a row")
                );
            }
            ast::SelectItemQualifiedWildcardKind::Expr(node) => self.expr(node, context)?,
        };
        let Type::Row(fields) = &value.data_type else {
            return Err(Error::user(
                "TYPE_MISMATCH",
                format!("expected expression of type row, found {}", value.data_type),
            ));
        };
        Ok(fields
            .iter()
            .enumerate()
            .map(|(index, (name, inner))| Item {
                name: name.as_deref().map(str::to_owned),
                value: Value::new(
                    kernels::call(Op::Field(index), vec![value.expr.clone()], inner.clone()),
                    inner.clone(),
                ),
                node: None,
            })
            .collect())
    }

    fn order_keys<'q>(
        &self,
        order: &'q [ast::OrderByExpr],
        items: &[Item<'_>],
        context: &Context<'_>,
    ) -> Result<Vec<(Value, &'q ast::OrderByExpr)>> {
        let aliases: Vec<(String, Value)> =
            items.iter().filter_map(|item| Some((item.name.clone()?, item.value.clone()))).collect();
        let context = Context { aliases: &aliases, place: "ORDER BY", ..*context };
        order
            .iter()
            .map(|one| {
                let value = match ordinal(&one.expr) {
                    Some(position) => {
                        let item = usize::try_from(position - 1).ok().and_then(|index| items.get(index));
                        at(
                            item.map(|item| item.value.clone()).ok_or_else(|| {
                                Error::user(
                                    "INVALID_COLUMN_REFERENCE",
                                    format!("ORDER BY position {position} is not in select list"),
                                )
                            }),
                            &one.expr,
                        )?
                    }
                    None => self.expr(&one.expr, &context)?,
                };
                at(aggregates::sortable(&value), &one.expr)?;
                Ok((value, one))
            })
            .collect()
    }

    fn windowed(&self, plan: LogicalPlan, calls: Vec<(Expr, String, Type)>) -> Result<LogicalPlan> {
        if calls.is_empty() {
            return Ok(plan);
        }
        self.windows(plan, calls.into_iter().map(|(expr, name, _)| (expr, name)).collect())
    }

    /// Items, DISTINCT, order and limits.
    fn finish(&self, plan: LogicalPlan, parts: Parts<'_>, distinct: bool, limits: &Limits) -> Result<Bound> {
        let mut fields = Vec::with_capacity(parts.items.len());
        let mut exprs = Vec::new();
        for item in &parts.items {
            let made = self.column(item.name.as_deref(), &item.value.data_type);
            exprs.push(item.value.expr.clone().alias(made.clone()));
            fields.push(Field {
                qualifier: Vec::new(),
                name: item.name.clone(),
                column: made,
                data_type: item.value.data_type.clone(),
                hidden: false,
            });
        }
        if distinct && let Some(item) = parts.items.iter().find(|item| !item.value.data_type.is_comparable()) {
            return Err(Error::user(
                "TYPE_MISMATCH",
                format!("DISTINCT can only be applied to comparable types, not {}", item.value.data_type),
            ));
        }
        let mut sorts: Vec<SortExpr> = Vec::with_capacity(parts.sorts.len());
        for (value, written) in &parts.sorts {
            let position = parts.items.iter().position(|item| item.value.expr == value.expr);
            let name = match position {
                Some(index) => fields.get(index).map(|field| field.column.clone()).unwrap_or_default(),
                None if distinct => {
                    return Err(Error::user(
                        "EXPRESSION_NOT_IN_DISTINCT",
                        "for SELECT DISTINCT, ORDER BY expressions must appear in select list",
                    ));
                }
                None => {
                    let made = self.column(Some("sort"), &value.data_type);
                    exprs.push(value.expr.clone().alias(made.clone()));
                    made
                }
            };
            let key = self.instants_of(Value::new(column(&name), value.data_type.clone()))?;
            sorts.push(aggregates::sort(key.expr, &written.options));
        }
        let extra = exprs.len() > fields.len();
        let mut plan = self.project(plan, exprs)?;
        if distinct {
            plan = LogicalPlanBuilder::from(plan).distinct()?.build()?;
        }
        plan = self.sorted(plan, sorts, limits)?;
        if extra {
            plan = self.project(plan, fields.iter().map(Field::expr).collect())?;
        }
        Ok(Bound { plan, scope: Scope { fields } })
    }
}

/// Subqueries that are joined before rows are grouped, and the others.
fn laterals_before(
    grouped: bool,
    laterals: Vec<Lateral>,
    keys: Option<&grouping::Keys>,
) -> (Vec<Lateral>, Vec<Lateral>) {
    let in_keys = |column: &str| {
        let keys = keys.iter().flat_map(|keys| &keys.keys);
        keys.flat_map(|key| key.expr.column_refs()).any(|used| used.name == column)
    };
    laterals.into_iter().partition(|lateral| grouped && (lateral.is_aggregated() || in_keys(lateral.column())))
}

/// Subqueries that look at what windows give, and the others.
fn laterals_after_windows(laterals: Vec<Lateral>, collected: &Collected) -> Result<(Vec<Lateral>, Vec<Lateral>)> {
    let (mut after, mut others) = (Vec::new(), Vec::new());
    for lateral in laterals {
        let looks_at = lateral.looks_at()?;
        let is_after = collected.windows.iter().any(|(_, window, _)| looks_at.contains(window));
        if is_after { after.push(lateral) } else { others.push(lateral) }
    }
    Ok((after, others))
}

fn refuse_foreign(select: &ast::Select) -> Result<()> {
    let refused = |what: &str| Err(Error::user("SYNTAX_ERROR", format!("{what} is not supported")));
    if select.top.is_some() {
        return refused("TOP");
    }
    if select.qualify.is_some() {
        return refused("QUALIFY");
    }
    if select.into.is_some() {
        return Err(Error::user("SYNTAX_ERROR", "SELECT INTO is not supported").with_hint("use CREATE TABLE .. AS"));
    }
    if !select.lateral_views.is_empty() {
        return Err(Error::user("SYNTAX_ERROR", "LATERAL VIEW is not supported").with_hint("use CROSS JOIN UNNEST"));
    }
    if select.projection.is_empty() {
        return refused("SELECT without items");
    }
    Ok(())
}

fn implied_name(node: &ast::Expr) -> Option<String> {
    match node {
        ast::Expr::Identifier(ident) => Some(ident.value.clone()),
        ast::Expr::CompoundIdentifier(parts) => parts.last().map(|ident| ident.value.clone()),
        ast::Expr::Nested(inner) => implied_name(inner),
        _ => None,
    }
}

/// The items that GROUP BY may mean.
fn items_for_keys<'q>(items: &[Item<'q>], collected: &Collected) -> Vec<grouping::Written<'q>> {
    let made = |name: &String| {
        collected.aggregates.iter().chain(&collected.windows).any(|(_, column, _)| column == name)
            || collected.groupings.iter().any(|(_, column)| column == name)
    };
    let aggregates = |expr: &Expr| {
        expr.exists(|node| Ok(matches!(node, Expr::Column(column) if made(&column.name)))).unwrap_or(true)
    };
    let seen = |item: &Item<'q>| grouping::Written {
        node: item.node,
        value: Some(item.value.clone()).filter(|value| !aggregates(&value.expr)),
    };
    items.iter().map(seen).collect()
}

fn named_windows(select: &ast::Select) -> Result<Vec<(String, ast::WindowSpec)>> {
    let mut windows: Vec<(String, ast::WindowSpec)> = Vec::with_capacity(select.named_window.len());
    for ast::NamedWindowDefinition(name, window) in &select.named_window {
        let spec = match window {
            ast::NamedWindowExpr::WindowSpec(spec) => spec.clone(),
            ast::NamedWindowExpr::NamedWindow(base) => ast::WindowSpec {
                window_name: Some(base.clone()),
                partition_by: Vec::new(),
                order_by: Vec::new(),
                window_frame: None,
            },
        };
        let key = name.value.to_lowercase();
        if windows.iter().any(|(known, _)| *known == key) {
            let message = format!("window \"{}\" is defined twice", name.value);
            return Err(Error::user("DUPLICATE_WINDOW_NAME", message));
        }
        windows.push((key, spec));
    }
    Ok(windows)
}

/// Replaces every part of an expression that a function gives something else for, outermost first.
pub(crate) fn replace(expr: Expr, with: &dyn Fn(&Expr) -> Option<Expr>) -> Result<Expr> {
    Ok(expr
        .transform_down(|node| match with(&node) {
            Some(other) => Ok(Transformed::new(other, true, TreeNodeRecursion::Jump)),
            None => Ok(Transformed::no(node)),
        })?
        .data)
}

/// The subquery of an expression, if it is one.
pub(crate) fn subquery_of(expr: &Expr) -> Option<&Subquery> {
    match expr {
        Expr::ScalarSubquery(subquery) => Some(subquery),
        Expr::Exists(exists) => Some(&exists.subquery),
        Expr::InSubquery(inside) => Some(&inside.subquery),
        _ => None,
    }
}
