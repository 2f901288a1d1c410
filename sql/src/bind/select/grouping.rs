//! GROUP BY: keys, grouping sets, and what may be used after grouping.
//!
//! Invariant: a key that is a plain column keeps its internal name, so that subqueries still find it.

use std::collections::HashMap;

use datafusion::{
    common::{
        ScalarValue,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Operator, binary_expr},
    sql::sqlparser::ast,
};
use headwater_engine::error::{Error, Result};

use super::{Parts, replace, subquery_of};
use crate::{
    bind::{
        Binder, Value, at, column,
        conditions::has_subquery,
        ctes::Ctes,
        literal,
        marks::Lateral,
        query::ordinal,
        scope::{Collected, Context, Scope},
    },
    types::Type,
};

/// GROUP BY as sets of keys.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keys {
    /// All keys in order.
    pub(crate) keys: Vec<Value>,
    /// The sets, as indices of keys; `None`: one set of all of them.
    pub(crate) sets: Option<Vec<Vec<usize>>>,
}

/// What follows grouping: the plan, the rewritten parts, and the window calls.
type Grouped<'q> = (LogicalPlan, Parts<'q>, Vec<(Expr, String, Type)>);

/// How the parser hands on `GROUP BY DISTINCT ..`: equal grouping sets are one.
const DISTINCT_SETS: &str = "\"$distinct\"";

/// Grouping sets are limited, since a cube doubles with each column.
const SETS_MAX: usize = 2048;

impl Binder<'_> {
    /// The keys of GROUP BY; `None` without one.
    pub(super) fn group_keys(
        &self,
        group_by: &ast::GroupByExpr,
        items: &[Written<'_>],
        scope: &Scope,
        outer: Option<&Context<'_>>,
        ctes: &Ctes,
    ) -> Result<Option<Keys>> {
        let ast::GroupByExpr::Expressions(nodes, modifiers) = group_by else {
            return Err(Error::user("COLUMN_NOT_FOUND", "column \"all\" cannot be resolved")
                .with_hint("name the columns, or write GROUP BY AUTO"));
        };
        let (distinct, nodes) = match nodes.as_slice() {
            [ast::Expr::Function(call), rest @ ..] if call.name.to_string() == DISTINCT_SETS => (true, rest),
            nodes => (false, nodes),
        };
        if nodes.is_empty() {
            return Ok(None);
        }
        if !modifiers.is_empty() {
            return Err(Error::user("SYNTAX_ERROR", "GROUP BY .. WITH is not supported")
                .with_hint("write GROUP BY ROLLUP (..)"));
        }
        let context = Context::new(scope, outer, ctes, "GROUP BY clause");
        let mut keys = Keys::default();
        if let [ast::Expr::Identifier(word)] = nodes
            && word.quote_style.is_none()
            && word.value.eq_ignore_ascii_case("AUTO")
        {
            keys.keys = columns_of(items);
            return Ok(Some(keys));
        }
        let mut sets: Vec<Vec<usize>> = vec![Vec::new()];
        let mut several = false;
        for node in nodes {
            let alternatives = match node {
                ast::Expr::GroupingSets(groups) => self.key_sets(groups, items, &context, &mut keys)?,
                ast::Expr::Cube(groups) => {
                    let parts = self.key_sets(groups, items, &context, &mut keys)?;
                    cube(&parts)?
                }
                ast::Expr::Rollup(groups) => {
                    let parts = self.key_sets(groups, items, &context, &mut keys)?;
                    (0..=parts.len()).rev().map(|count| parts[..count].concat()).collect()
                }
                ast::Expr::Tuple(nodes) => vec![self.key_set(nodes, items, &context, &mut keys)?],
                node => vec![vec![self.key(node, items, &context, &mut keys)?]],
            };
            several |= !matches!(node, ast::Expr::Tuple(nodes) if !nodes.is_empty()) && is_set(node);
            sets = sets
                .iter()
                .flat_map(|before| alternatives.iter().map(move |more| [before.as_slice(), more.as_slice()].concat()))
                .collect();
            if sets.len() > SETS_MAX {
                return Err(Error::user(
                    "TOO_MANY_GROUPING_SETS",
                    format!("GROUP BY has more than {SETS_MAX} grouping sets"),
                ));
            }
        }
        if distinct {
            let mut seen = std::collections::HashSet::new();
            sets.retain(|set| seen.insert(set.iter().copied().collect::<std::collections::BTreeSet<_>>()));
        }
        keys.sets = several.then_some(sets);
        Ok(Some(keys))
    }

    fn key_sets(
        &self,
        groups: &[Vec<ast::Expr>],
        items: &[Written<'_>],
        context: &Context<'_>,
        keys: &mut Keys,
    ) -> Result<Vec<Vec<usize>>> {
        let context = Context { place: SETS, ..*context };
        groups.iter().map(|group| self.key_set(group, items, &context, keys)).collect()
    }

    fn key_set(
        &self,
        nodes: &[ast::Expr],
        items: &[Written<'_>],
        context: &Context<'_>,
        keys: &mut Keys,
    ) -> Result<Vec<usize>> {
        let mut set = Vec::new();
        for node in nodes {
            match node {
                ast::Expr::Tuple(inner) => set.extend(self.key_set(inner, items, context, keys)?),
                ast::Expr::Function(call)
                    if ["rollup", "cube"].iter().any(|name| call.name.to_string().eq_ignore_ascii_case(name)) =>
                {
                    return at(Err(Error::user("SYNTAX_ERROR", "grouping sets do not nest")), node);
                }
                node if context.place == SETS && !is_column(node) => {
                    let message = "GROUP BY expression must be a column reference in grouping sets";
                    return at(Err(Error::user("INVALID_COLUMN_REFERENCE", message)), node);
                }
                node => set.push(self.key(node, items, context, keys)?),
            }
        }
        Ok(set)
    }

    fn key(&self, node: &ast::Expr, items: &[Written<'_>], context: &Context<'_>, keys: &mut Keys) -> Result<usize> {
        let value = match ordinal(node) {
            Some(position) => {
                let item = usize::try_from(position - 1).ok().and_then(|index| items.get(index));
                let item = item.map(|item| item.value.clone());
                if matches!(item, Some(None)) {
                    let message = format!("GROUP BY position {position} is an aggregate or window function");
                    return at(Err(Error::user("EXPRESSION_NOT_SCALAR", message)), node);
                }
                at(
                    item.flatten().ok_or_else(|| {
                        Error::user(
                            "INVALID_COLUMN_REFERENCE",
                            format!("GROUP BY position {position} is not in select list"),
                        )
                    }),
                    node,
                )?
            }
            // What holds a subquery is the same only if it is bound once.
            None => match items.iter().find(|item| item.node.is_some_and(|written| holds_query(written, node))) {
                Some(Written { value: Some(value), .. }) => value.clone(),
                _ => self.expr(node, context)?,
            },
        };
        if !value.data_type.is_comparable() {
            return at(
                Err(Error::user(
                    "TYPE_MISMATCH",
                    format!("{} is not comparable, and therefore cannot be used in GROUP BY", value.data_type),
                )),
                node,
            );
        }
        if let Some(known) = keys.keys.iter().position(|key| key.expr == value.expr) {
            return Ok(known);
        }
        keys.keys.push(value);
        Ok(keys.keys.len() - 1)
    }

    /// Aggregates a plan and rewrites what comes after in terms of its output.
    pub(super) fn grouped<'q>(
        &self,
        plan: LogicalPlan,
        keys: Keys,
        mut collected: Collected,
        (laterals, mut parts): (Vec<Lateral>, Parts<'q>),
    ) -> Result<Grouped<'q>> {
        let mut prepared: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
        let given = prepared.len();
        for (aggregate, _, _) in &mut collected.aggregates {
            *aggregate = self.beside(aggregate.clone(), &mut prepared)?;
        }
        let mut names = Vec::with_capacity(keys.keys.len());
        for key in &keys.keys {
            names.push(match &key.expr {
                Expr::Column(column) => column.name.clone(),
                other => {
                    let name = self.column(Some("key"), &key.data_type);
                    prepared.push(other.clone().alias(name.clone()));
                    name
                }
            });
        }
        let plan = if prepared.len() > given { self.project(plan, prepared)? } else { plan };
        let (mut plan, grouping) = self.aggregated(plan, &keys, &names, &collected)?;
        let by_key: HashMap<Expr, String> =
            keys.keys.iter().map(|key| key.expr.clone()).zip(names.iter().cloned()).collect();
        let mut made: Vec<String> =
            names.iter().chain(collected.aggregates.iter().map(|(_, name, _)| name)).cloned().collect();
        let in_keys = |expr: Expr| -> Result<Expr> {
            replace(expr, &|node| match node {
                Expr::Column(known) => match grouping.get(&known.name) {
                    Some(bits) => Some(bits.clone()),
                    None => by_key.get(node).map(|name| column(name)),
                },
                node => by_key.get(node).map(|name| column(name)),
            })
        };
        for lateral in laterals {
            let lateral = lateral.rewritten(&in_keys)?;
            for name in lateral.looks_at()? {
                check(&column(&name), None, &made, &collected)?;
            }
            made.push(lateral.column().to_owned());
            plan = self.with_laterals(self.anonymous(plan)?, vec![lateral])?.plan;
        }
        let rewrite = |expr: Expr, node: Option<&ast::Expr>| -> Result<Expr> {
            let replaced = in_keys(expr)?;
            check(&replaced, node, &made, &collected)?;
            Ok(replaced)
        };
        for item in &mut parts.items {
            item.value.expr = rewrite(item.value.expr.clone(), item.node)?;
        }
        for (value, written) in &mut parts.sorts {
            value.expr = rewrite(value.expr.clone(), Some(&written.expr))?;
        }
        if let Some((having, node)) = parts.having.take() {
            plan = LogicalPlanBuilder::from(plan).filter(rewrite(having, Some(node))?)?.build()?;
        }
        let windows = collected
            .windows
            .iter()
            .map(|(expr, name, data_type)| Ok((rewrite(expr.clone(), None)?, name.clone(), data_type.clone())))
            .collect::<Result<Vec<_>>>()?;
        Ok((plan, parts, windows))
    }

    /// The aggregation, and an expression for each `grouping(..)` column.
    fn aggregated(
        &self,
        plan: LogicalPlan,
        keys: &Keys,
        names: &[String],
        collected: &Collected,
    ) -> Result<(LogicalPlan, HashMap<String, Expr>)> {
        let by_key: HashMap<&Expr, usize> =
            keys.keys.iter().enumerate().map(|(index, key)| (&key.expr, index)).collect();
        let aggregates: Vec<Expr> =
            collected.aggregates.iter().map(|(expr, name, _)| expr.clone().alias(name.clone())).collect();
        let columns: Vec<Expr> = names.iter().map(|name| column(name)).collect();
        let mut grouping = HashMap::new();
        let Some(sets) = &keys.sets else {
            return self.aggregated_once(plan, (columns, aggregates), &by_key, collected);
        };
        let id = self.column(Some("set"), &Type::Integer);
        let mut all: Option<LogicalPlanBuilder> = None;
        for (number, set) in sets.iter().enumerate() {
            let mut own: Vec<usize> = Vec::new();
            for &index in set {
                if !own.contains(&index) {
                    own.push(index);
                }
            }
            let group: Vec<Expr> = own.iter().filter_map(|&index| columns.get(index).cloned()).collect();
            let mut made = aggregates.clone();
            if group.is_empty() && made.is_empty() {
                made.push(
                    datafusion::functions_aggregate::count::count_all().alias(self.column(Some("rows"), &Type::Bigint)),
                );
            }
            let one = LogicalPlanBuilder::from(plan.clone()).aggregate(group, made)?;
            let mut exprs = Vec::new();
            for (index, (name, key)) in names.iter().zip(&keys.keys).enumerate() {
                let value = if own.contains(&index) {
                    column(name)
                } else {
                    literal(ScalarValue::try_from(&key.data_type.to_arrow())?)
                };
                exprs.push(value.alias(name.clone()));
            }
            exprs.extend(collected.aggregates.iter().map(|(_, name, _)| column(name)));
            exprs.push(literal(ScalarValue::Int32(Some(number as i32))).alias(id.clone()));
            let one = one.project(exprs)?;
            all = Some(match all {
                Some(before) => before.union(one.build()?)?,
                None => one,
            });
        }
        for (args, name) in &collected.groupings {
            grouping.insert(name.clone(), self.grouping_bits(args, &by_key, sets, &id)?);
        }
        let all = all.ok_or_else(|| Error::internal("GROUP BY has a grouping set"))?;
        Ok((all.build()?, grouping))
    }

    /// The aggregation by one set of keys.
    fn aggregated_once(
        &self,
        plan: LogicalPlan,
        (columns, aggregates): (Vec<Expr>, Vec<Expr>),
        by_key: &HashMap<&Expr, usize>,
        collected: &Collected,
    ) -> Result<(LogicalPlan, HashMap<String, Expr>)> {
        let mut grouping = HashMap::new();
        for (args, name) in &collected.groupings {
            for arg in args {
                known_key(by_key, arg)?;
            }
            grouping.insert(name.clone(), literal(ScalarValue::Int32(Some(0))));
        }
        let plan = if columns.is_empty() && aggregates.is_empty() {
            LogicalPlanBuilder::from(plan).aggregate(
                columns,
                vec![
                    datafusion::functions_aggregate::count::count_all().alias(self.column(Some("rows"), &Type::Bigint)),
                ],
            )?
        } else {
            LogicalPlanBuilder::from(plan).aggregate(columns, aggregates)?
        };
        Ok((plan.build()?, grouping))
    }

    fn grouping_bits(
        &self,
        args: &[Expr],
        by_key: &HashMap<&Expr, usize>,
        sets: &[Vec<usize>],
        id: &str,
    ) -> Result<Expr> {
        let wanted = args.iter().map(|arg| known_key(by_key, arg)).collect::<Result<Vec<_>>>()?;
        let mut when_then = Vec::with_capacity(sets.len());
        for (number, set) in sets.iter().enumerate() {
            let bits = wanted.iter().fold(0i64, |bits, key| bits << 1 | i64::from(!set.contains(key)));
            let value =
                if args.len() < 32 { ScalarValue::Int32(Some(bits as i32)) } else { ScalarValue::Int64(Some(bits)) };
            let is = binary_expr(column(id), Operator::Eq, literal(ScalarValue::Int32(Some(number as i32))));
            when_then.push((Box::new(is), Box::new(literal(value))));
        }
        Ok(Expr::Case(datafusion::logical_expr::Case { expr: None, when_then_expr: when_then, else_expr: None }))
    }
}

/// An item of the select list as GROUP BY sees it.
pub(super) struct Written<'q> {
    /// As it is written, if it is not of a star.
    pub(super) node: Option<&'q ast::Expr>,
    /// `None` for one that aggregates.
    pub(super) value: Option<Value>,
}

/// The items that GROUP BY AUTO groups by.
fn columns_of(items: &[Written<'_>]) -> Vec<Value> {
    let values = items.iter().filter_map(|item| item.value.clone());
    values.filter(|value| !matches!(value.expr, Expr::Literal(..))).collect()
}

/// Whether a key is written like an item and holds a query.
fn holds_query(item: &ast::Expr, key: &ast::Expr) -> bool {
    let query = |key: &ast::Expr| {
        ast::visit_expressions(key, |node| match node {
            ast::Expr::Subquery(_) | ast::Expr::Exists { .. } | ast::Expr::InSubquery { .. } => {
                std::ops::ControlFlow::Break(())
            }
            _ => std::ops::ControlFlow::Continue(()),
        })
        .is_break()
    };
    query(key) && item.to_string() == key.to_string()
}

/// The place of keys within GROUPING SETS, CUBE and ROLLUP.
const SETS: &str = "grouping sets";

fn is_column(node: &ast::Expr) -> bool {
    match node {
        ast::Expr::Identifier(_) | ast::Expr::CompoundIdentifier(_) | ast::Expr::CompoundFieldAccess { .. } => true,
        ast::Expr::Nested(inner) => is_column(inner),
        _ => false,
    }
}

fn is_set(node: &ast::Expr) -> bool {
    match node {
        ast::Expr::GroupingSets(_) | ast::Expr::Cube(_) | ast::Expr::Rollup(_) => true,
        ast::Expr::Tuple(nodes) => nodes.is_empty(),
        _ => false,
    }
}

fn cube(parts: &[Vec<usize>]) -> Result<Vec<Vec<usize>>> {
    if parts.len() > 11 {
        return Err(Error::user("TOO_MANY_GROUPING_SETS", format!("GROUP BY has more than {SETS_MAX} grouping sets")));
    }
    let all = 1usize << parts.len();
    Ok((0..all)
        .rev()
        .map(|mask| {
            let chosen = parts.iter().enumerate().filter(|(index, _)| mask >> (parts.len() - 1 - index) & 1 == 1);
            chosen.flat_map(|(_, part)| part.iter().copied()).collect()
        })
        .collect())
}

fn known_key(by_key: &HashMap<&Expr, usize>, arg: &Expr) -> Result<usize> {
    by_key.get(arg).copied().ok_or_else(|| {
        Error::user("INVALID_ARGUMENTS", "the arguments to grouping() must be expressions referenced by the GROUP BY")
    })
}

/// Refuses columns that are neither keys nor aggregates nor windows, in an expression that may be known as written.
fn check(expr: &Expr, node: Option<&ast::Expr>, made: &[String], collected: &Collected) -> Result<()> {
    let mut stray = None;
    expr.apply(|part| {
        let mut look = |name: &String| {
            let known = made.contains(name)
                || name.starts_with("set#")
                || collected.windows.iter().any(|(_, window, _)| window == name);
            if !known && stray.is_none() {
                stray = Some(name.clone());
            }
        };
        match part {
            Expr::Column(column) => look(&column.name),
            other => {
                if let Some(subquery) = subquery_of(other) {
                    for outer in &subquery.outer_ref_columns {
                        if let Expr::OuterReferenceColumn(_, column) = outer {
                            look(&column.name);
                        }
                    }
                }
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let Some(name) = stray else { return Ok(()) };
    let own = name.rsplit_once('#').map_or(name.as_str(), |(own, _)| own);
    let refused = |shown: &str| {
        let message = format!("'{shown}' must be an aggregate expression or appear in GROUP BY clause");
        Err(Error::user("EXPRESSION_NOT_AGGREGATE", message))
    };
    match node {
        Some(node) if own.is_empty() || !has_subquery(expr) => at(refused(&node.to_string()), node),
        Some(node) => at(refused(own), node),
        None if own.is_empty() => refused("a column without a name"),
        None => refused(own),
    }
}
