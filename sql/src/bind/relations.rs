//! FROM: tables, views, subqueries, joins.
//!
//! Invariant: every relation in FROM gives its columns internal names of its own, so a self-join has no clash.

use std::cell::RefCell;

use datafusion::{
    common::{JoinType, TableReference, tree_node::TreeNode},
    logical_expr::{Expr, LogicalPlanBuilder, Subquery, utils::conjunction},
    sql::sqlparser::ast,
};
use headwater_engine::error::{Error, Result};

use super::{
    Binder, Bound, Relation, at, column,
    conditions::has_subquery,
    ctes::{Ctes, Meaning},
    json_table,
    loaded::looked_up_name,
    marks::Lateral,
    matching::carrier,
    query::rename,
    scope::{Context, Field, Scope, located},
    suggest,
    window_tables::bare_call,
};
use crate::{
    kernels::Comparison,
    types::{HIDDEN_KEY, Type, common},
};

impl Binder<'_> {
    /// The relations of FROM; one row without columns if there is none.
    pub(crate) fn from(&self, from: &[ast::TableWithJoins], outer: Option<&Context<'_>>, ctes: &Ctes) -> Result<Bound> {
        let mut all: Option<Bound> = None;
        for item in from {
            let joined = self.table_with_joins(item, all.take(), outer, ctes)?;
            all = Some(joined);
        }
        match all {
            Some(all) => Ok(all),
            None => Ok(Bound { plan: LogicalPlanBuilder::empty(true).build()?, scope: Scope::default() }),
        }
    }

    fn table_with_joins(
        &self,
        item: &ast::TableWithJoins,
        before: Option<Bound>,
        outer: Option<&Context<'_>>,
        ctes: &Ctes,
    ) -> Result<Bound> {
        let Some(before) = before else {
            let first = self.factor(&item.relation, None, outer, ctes)?;
            return item.joins.iter().try_fold(first, |left, join| self.join(left, join, outer, ctes));
        };
        if is_lateral(&item.relation) {
            let first =
                self.joined(before, &item.relation, (JoinType::Inner, &ast::JoinConstraint::None), outer, ctes)?;
            return item.joins.iter().try_fold(first, |left, join| self.join(left, join, outer, ctes));
        }
        let depends = item.joins.iter().any(|join| is_lateral(&join.relation));
        if depends {
            let first =
                self.joined(before, &item.relation, (JoinType::Inner, &ast::JoinConstraint::None), outer, ctes)?;
            return item.joins.iter().try_fold(first, |left, join| self.join(left, join, outer, ctes));
        }
        let right = self.table_with_joins(item, None, outer, ctes)?;
        cross(before, right)
    }

    pub(crate) fn join(
        &self,
        left: Bound,
        join: &ast::Join,
        outer: Option<&Context<'_>>,
        ctes: &Ctes,
    ) -> Result<Bound> {
        use ast::JoinOperator as J;
        let (kind, constraint) = match &join.join_operator {
            J::Join(constraint) | J::Inner(constraint) => (JoinType::Inner, constraint),
            J::Left(constraint) | J::LeftOuter(constraint) => (JoinType::Left, constraint),
            J::Right(constraint) | J::RightOuter(constraint) => (JoinType::Right, constraint),
            J::FullOuter(constraint) => (JoinType::Full, constraint),
            J::CrossJoin(constraint) => (JoinType::Inner, constraint),
            other => return Err(Error::user("SYNTAX_ERROR", format!("join {other:?} is not supported"))),
        };
        if *constraint == ast::JoinConstraint::None && !matches!(join.join_operator, J::CrossJoin(_)) {
            return Err(Error::user("SYNTAX_ERROR", "a join needs ON or USING")
                .with_hint("write CROSS JOIN for every pair of rows"));
        }
        self.joined(left, &join.relation, (kind, constraint), outer, ctes)
    }

    fn joined(
        &self,
        left: Bound,
        right: &ast::TableFactor,
        (kind, constraint): (JoinType, &ast::JoinConstraint),
        outer: Option<&Context<'_>>,
        ctes: &Ctes,
    ) -> Result<Bound> {
        if let ast::TableFactor::UNNEST { alias, array_exprs, with_ordinality, .. } = right {
            let optional = match (kind, constraint) {
                (JoinType::Inner, ast::JoinConstraint::None) => false,
                (JoinType::Inner, ast::JoinConstraint::On(node)) if is_true(node) => false,
                (JoinType::Left, ast::JoinConstraint::On(node)) if is_true(node) => true,
                (JoinType::Right | JoinType::Full, _) => {
                    let message = "UNNEST on the right side of RIGHT and FULL JOIN cannot refer to the left side";
                    return Err(Error::user("INVALID_COLUMN_REFERENCE", message));
                }
                _ => {
                    return Err(Error::not_supported(
                        "UNNEST in other than the right side of CROSS JOIN or LEFT JOIN .. ON TRUE is not supported",
                    ));
                }
            };
            return self.unnest(left, array_exprs, *with_ordinality, alias.as_ref(), (optional, outer, ctes));
        }
        if let ast::TableFactor::Derived { subquery, alias, .. } = right
            && let Some(select) = json_table::carrier(subquery)
        {
            return self.json_table(left, (select, alias.as_ref()), (kind, constraint), outer, ctes);
        }
        let around = Context::new(&left.scope, outer, ctes, "LATERAL");
        if let ast::TableFactor::Table { version: Some(ast::TableVersion::ForSystemTimeAsOf(time)), .. } = right {
            self.check_version_time(time, &around)?;
        }
        let right = self.factor(right, is_lateral(right).then_some(&around), outer, ctes)?;
        let dependent = super::lateral::depends(&right, &left)?;
        match constraint {
            ast::JoinConstraint::None if dependent => self.dependent_join(left, right, kind, Vec::new()),
            ast::JoinConstraint::None => cross(left, right),
            ast::JoinConstraint::On(node) => {
                let scope = both(&left.scope, &right.scope);
                let context = Context::new(&scope, outer, ctes, "JOIN ON clause");
                if kind == JoinType::Inner && !dependent {
                    return self.inner_join(left, right, node, &context);
                }
                let condition = self.condition(node, &context)?.expr;
                at(refuse_correlated(&condition, &scope), node)?;
                if dependent {
                    return self.dependent_join(left, right, kind, split(condition));
                }
                let plan = LogicalPlanBuilder::from(left.plan).join_on(right.plan, kind, split(condition))?.build()?;
                Ok(Bound { plan, scope })
            }
            ast::JoinConstraint::Using(names) => self.join_using(left, right, kind, names),
            ast::JoinConstraint::Natural => {
                Err(Error::not_supported("NATURAL JOIN is not supported").with_hint("write JOIN .. USING (..)"))
            }
        }
    }

    /// Pairs of rows for which a condition holds; its subqueries are of a filter over the pairs.
    fn inner_join(&self, left: Bound, right: Bound, node: &ast::Expr, context: &Context<'_>) -> Result<Bound> {
        let laterals = RefCell::default();
        let condition = self.condition(node, &context.filtering().joining(&laterals))?.expr;
        let laterals: Vec<Lateral> = laterals.take();
        let made: Vec<String> = laterals.iter().map(|made| made.column().to_owned()).collect();
        let later =
            |part: &Expr| has_subquery(part) || part.column_refs().iter().any(|column| made.contains(&column.name));
        let (later, first): (Vec<Expr>, Vec<Expr>) = split(condition).into_iter().partition(later);
        let scope = context.scope.clone();
        let plan = LogicalPlanBuilder::from(left.plan);
        let plan = match first.is_empty() {
            true => plan.cross_join(right.plan)?,
            false => plan.join_on(right.plan, JoinType::Inner, first)?,
        };
        let mut plan = self.with_laterals(Bound { plan: plan.build()?, scope: scope.clone() }, laterals)?.plan;
        if let Some(condition) = conjunction(later) {
            let pairs = scope.fields.iter().map(Field::expr).collect();
            plan = self.project(LogicalPlanBuilder::from(plan).filter(condition)?.build()?, pairs)?;
        }
        Ok(Bound { plan, scope })
    }

    fn join_using(&self, left: Bound, right: Bound, kind: JoinType, names: &[ast::ObjectName]) -> Result<Bound> {
        let mut conditions = Vec::new();
        let mut merged = Vec::new();
        let mut taken: Vec<String> = Vec::new();
        for name in names {
            let Some(ident) = name.0.last().and_then(ast::ObjectNamePart::as_ident) else { continue };
            let (a, b) = (one_of(&left.scope, ident, "left")?, one_of(&right.scope, ident, "right")?);
            conditions.push(at(self.compare(Comparison::Equal, a.value(), b.value()), name)?.expr);
            let data_type = common(&a.data_type, &b.data_type).unwrap_or_else(|| a.data_type.clone());
            let (x, y) = (self.convert(a.value(), &data_type)?, self.convert(b.value(), &data_type)?);
            let value = match kind {
                JoinType::Right => y,
                JoinType::Full => self.coalesce(vec![x, y])?,
                _ => x,
            };
            let made = self.column(a.name.as_deref(), &data_type);
            merged.push((
                value.expr.alias(made.clone()),
                Field { qualifier: Vec::new(), name: a.name.clone(), column: made, data_type, hidden: false },
            ));
            taken.extend([a.column.clone(), b.column.clone()]);
        }
        let rest: Vec<Field> = left
            .scope
            .fields
            .iter()
            .chain(&right.scope.fields)
            .filter(|field| !taken.contains(&field.column))
            .cloned()
            .collect();
        let plan = LogicalPlanBuilder::from(left.plan).join_on(right.plan, kind, conditions)?.build()?;
        let (mut exprs, mut fields): (Vec<Expr>, Vec<Field>) = merged.into_iter().unzip();
        exprs.extend(rest.iter().map(Field::expr));
        fields.extend(rest);
        Ok(Bound { plan: self.project(plan, exprs)?, scope: Scope { fields } })
    }

    /// A relation in FROM. `around` is what is to the left of a LATERAL one.
    fn factor(
        &self,
        factor: &ast::TableFactor,
        around: Option<&Context<'_>>,
        outer: Option<&Context<'_>>,
        ctes: &Ctes,
    ) -> Result<Bound> {
        use ast::TableFactor as F;
        match factor {
            F::Table { name, alias, args: None, sample, version, .. } => {
                let parts: Vec<ast::Ident> = name.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
                let bound = match version {
                    Some(version) => self.versioned(&parts, version, ctes)?,
                    None => self.named_relation(&parts, outer, ctes)?,
                };
                let bound = self.sampled(bound, sample.as_ref())?;
                aliased(bound, alias.as_ref())
            }
            F::Table { name, alias, args: Some(args), .. } if let Some(call) = bare_call(name, &args.args) => {
                aliased(self.window_table(&call, outer, ctes)?, alias.as_ref())
            }
            F::Table { name, alias, args: Some(args), .. } => {
                let arguments = &args.args;
                aliased(self.table_function(&name.to_string(), arguments)?, alias.as_ref())
            }
            F::Function { name, args, alias, .. } => {
                aliased(self.table_function(&name.to_string(), args)?, alias.as_ref())
            }
            F::Derived { subquery, alias, sample: None, .. } if let Some(select) = json_table::carrier(subquery) => {
                let one = Bound { plan: LogicalPlanBuilder::empty(true).build()?, scope: Scope::default() };
                let join = (JoinType::Inner, &ast::JoinConstraint::None);
                self.json_table(one, (select, alias.as_ref()), join, around.or(outer), ctes)
            }
            F::Derived { subquery, alias, sample: None, .. } if let Some(carried) = carrier(subquery) => {
                aliased(self.match_recognize(subquery, carried, around.or(outer), ctes)?, alias.as_ref())
            }
            F::Derived { subquery, alias, sample, .. } => {
                let bound = self.query(subquery, around.or(outer), ctes)?;
                let bound = self.sampled(bound, sample.as_ref())?;
                aliased(bound, alias.as_ref())
            }
            F::TableFunction { expr, alias } => aliased(self.window_table(expr, outer, ctes)?, alias.as_ref()),
            F::UNNEST { alias, array_exprs, with_ordinality, .. } => {
                let one = Bound { plan: LogicalPlanBuilder::empty(true).build()?, scope: Scope::default() };
                self.unnest(one, array_exprs, *with_ordinality, alias.as_ref(), (false, outer, ctes))
            }
            F::NestedJoin { table_with_joins, alias } => {
                let bound = self.table_with_joins(table_with_joins, None, outer, ctes)?;
                aliased(bound, alias.as_ref())
            }
            F::MatchRecognize { .. } => Err(Error::user("SYNTAX_ERROR", "MATCH_RECOGNIZE is not well formed").with_hint(
                "write MATCH_RECOGNIZE (PARTITION BY .. ORDER BY .. MEASURES .. AS .. PATTERN (..) DEFINE .. AS ..)",
            )),
            F::JsonTable { .. } => {
                Err(Error::user("SYNTAX_ERROR", "JSON_TABLE is not well formed")
                    .with_hint("write JSON_TABLE(document, 'lax $[*]' COLUMNS (name type PATH 'lax $.key')); a column has no EXISTS, ask json_exists"))
            }
            other => Err(Error::user("SYNTAX_ERROR", format!("{other} is not supported in FROM"))),
        }
    }

    /// A named table, view or common table expression.
    pub(crate) fn named_relation(
        &self,
        parts: &[ast::Ident],
        outer: Option<&Context<'_>>,
        ctes: &Ctes,
    ) -> Result<Bound> {
        if let [only] = parts {
            match ctes.get(&only.value) {
                Some(Meaning::Query { query, columns, scope }) => {
                    let bound = self.query(query, outer, scope)?;
                    return rename(bound, columns, &only.value);
                }
                Some(Meaning::Plan(bound)) => return self.fresh((**bound).clone(), &only.value),
                None => {}
            }
        }
        let names: Vec<String> = parts.iter().map(|part| part.value.clone()).collect();
        let first = parts.first().ok_or_else(|| Error::internal("a table has a name"))?;
        let found = self.environment.tables.table(&names).map_err(|error| located(error, first))?;
        let Some(relation) = found else {
            let written = names.join(".");
            let error = Error::user("TABLE_NOT_FOUND", format!("table '{written}' does not exist"));
            let known: Vec<String> = self.environment.tables.names().into_iter().chain(ctes.names()).collect();
            return Err(located(suggest(error, &written, known.iter().map(String::as_str)), first));
        };
        self.relation(relation, &names)
    }

    /// `t FOR SYSTEM_TIME AS OF time`: the table as it is when a row looks it up.
    fn versioned(&self, parts: &[ast::Ident], version: &ast::TableVersion, ctes: &Ctes) -> Result<Bound> {
        let first = parts.first().ok_or_else(|| Error::internal("a table has a name"))?;
        if !matches!(version, ast::TableVersion::ForSystemTimeAsOf(_)) {
            return Err(located(Error::not_supported("earlier versions of a table are not kept"), first));
        }
        if matches!(parts, [only] if ctes.get(&only.value).is_some()) {
            return Err(located(Error::not_supported("FOR SYSTEM_TIME AS OF of a query in WITH"), first));
        }
        let names: Vec<String> = parts.iter().map(|part| part.value.clone()).collect();
        let found = self.environment.tables.table(&looked_up_name(names.clone()));
        match found.map_err(|error| located(error, first))? {
            Some(relation) => self.relation(relation, &names),
            None => Err(Error::internal("a table that is looked up was not loaded")),
        }
    }

    /// The time of a lookup is that of the row: a timestamp of the other side, or the clock.
    fn check_version_time(&self, time: &ast::Expr, around: &Context<'_>) -> Result<()> {
        let value = self.expr(time, around)?;
        let is_constant = matches!(value.expr, Expr::Literal(..));
        match value.data_type {
            Type::Timestamp(_) | Type::TimestampTz(..) if !is_constant => Ok(()),
            _ => at(
                Err(Error::not_supported("FOR SYSTEM_TIME AS OF other than the time of the row that looks up")
                    .with_hint("name a timestamp of the other side, such as its PROCTIME() column")),
                time,
            ),
        }
    }

    /// A relation's plan, its columns renamed.
    pub(crate) fn relation(&self, relation: Relation, names: &[String]) -> Result<Bound> {
        let qualifier: Vec<String> = names.iter().map(|name| name.to_lowercase()).collect();
        let table = names.last().cloned().unwrap_or_default();
        let plan = match relation {
            Relation::View(query) => return rename(self.query(&query, None, &Ctes::default())?, &[], &table),
            Relation::Table(source) => LogicalPlanBuilder::scan(TableReference::bare(table), source, None)?.build()?,
            Relation::Plan(plan) => *plan,
        };
        let mut exprs = Vec::new();
        let mut fields = Vec::new();
        for (owner, field) in plan.schema().iter() {
            let data_type = Type::from_field(field);
            let made = self.column(Some(field.name()), &data_type);
            let from = Expr::Column(datafusion::common::Column::new(owner.cloned(), field.name()));
            exprs.push(from.alias(made.clone()));
            fields.push(Field {
                qualifier: qualifier.clone(),
                name: Some(field.name().clone()),
                column: made,
                data_type,
                hidden: field.metadata().get(HIDDEN_KEY).is_some_and(|hidden| hidden == "true"),
            });
        }
        Ok(Bound { plan: self.project(plan, exprs)?, scope: Scope { fields } })
    }

    /// The same relation under new internal names.
    pub(crate) fn fresh(&self, bound: Bound, relation: &str) -> Result<Bound> {
        let mut exprs = Vec::new();
        let mut fields = Vec::new();
        for field in bound.scope.fields {
            let made = self.column(field.name.as_deref(), &field.data_type);
            exprs.push(column(&field.column).alias(made.clone()));
            fields.push(Field { qualifier: vec![relation.to_lowercase()], column: made, ..field });
        }
        Ok(Bound { plan: self.project(bound.plan, exprs)?, scope: Scope { fields } })
    }

    fn table_function(&self, name: &str, args: &[ast::FunctionArg]) -> Result<Bound> {
        match self.environment.tables.function(&name.to_lowercase(), args)? {
            Some(relation) => self.relation(relation, &[name.to_owned()]),
            None => Err(Error::user("FUNCTION_NOT_FOUND", format!("table function '{name}' not registered"))),
        }
    }
}

fn is_lateral(factor: &ast::TableFactor) -> bool {
    match factor {
        ast::TableFactor::UNNEST { .. } => true,
        ast::TableFactor::Derived { subquery, .. } if json_table::carrier(subquery).is_some() => true,
        ast::TableFactor::Derived { lateral, .. } | ast::TableFactor::Function { lateral, .. } => *lateral,
        _ => false,
    }
}

pub(crate) fn both(left: &Scope, right: &Scope) -> Scope {
    Scope { fields: left.fields.iter().chain(&right.fields).cloned().collect() }
}

fn cross(left: Bound, right: Bound) -> Result<Bound> {
    let scope = both(&left.scope, &right.scope);
    let plan = LogicalPlanBuilder::from(left.plan).cross_join(right.plan)?.build()?;
    Ok(Bound { plan, scope })
}

/// Refuses subqueries that look at the rows which are being joined, where unmatched rows are kept.
fn refuse_correlated(condition: &Expr, scope: &Scope) -> Result<()> {
    let looks = |subquery: &Subquery| {
        let names = subquery.outer_ref_columns.iter().filter_map(|outer| match outer {
            Expr::OuterReferenceColumn(_, column) => Some(column.name.as_str()),
            _ => None,
        });
        names.into_iter().any(|name| scope.fields.iter().any(|field| field.column == name))
    };
    let found = condition.exists(|node| {
        Ok(match node {
            Expr::ScalarSubquery(subquery) => looks(subquery),
            Expr::Exists(exists) => looks(&exists.subquery),
            Expr::InSubquery(inside) => looks(&inside.subquery),
            _ => false,
        })
    })?;
    if !found {
        return Ok(());
    }
    Err(Error::not_supported("a subquery in the ON of LEFT, RIGHT and FULL JOIN that looks at the joined rows")
        .with_hint("compute it in a query around one side of the join"))
}

fn split(condition: Expr) -> Vec<Expr> {
    datafusion::logical_expr::utils::split_conjunction_owned(condition)
}

pub(crate) fn is_true(node: &ast::Expr) -> bool {
    match node {
        ast::Expr::Nested(inner) => is_true(inner),
        ast::Expr::Value(value) => value.value == ast::Value::Boolean(true),
        _ => false,
    }
}

fn one_of<'s>(scope: &'s Scope, ident: &ast::Ident, side: &str) -> Result<&'s Field> {
    let wanted = ident.value.to_lowercase();
    let mut fits =
        scope.fields.iter().filter(|field| field.name.as_deref().is_some_and(|name| name.to_lowercase() == wanted));
    let Some(field) = fits.next() else {
        return Err(located(
            Error::user("COLUMN_NOT_FOUND", format!("column '{}' is missing from {side} side of join", ident.value)),
            ident,
        ));
    };
    if fits.next().is_some() {
        return Err(located(Error::user("AMBIGUOUS_NAME", format!("column '{}' is ambiguous", ident.value)), ident));
    }
    Ok(field)
}

/// Gives a relation its alias.
pub(crate) fn aliased(bound: Bound, alias: Option<&ast::TableAlias>) -> Result<Bound> {
    let Some(alias) = alias else { return Ok(bound) };
    super::reserved::check(&alias.name)?;
    let columns: Vec<ast::Ident> = alias.columns.iter().map(|column| column.name.clone()).collect();
    rename(bound, &columns, &alias.name.value).map_err(|error| located(error, &alias.name))
}
