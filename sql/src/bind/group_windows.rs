//! Flink's windows of old, in GROUP BY: put as the window table functions they became.
//!
//! ```text
//! SELECT k, TUMBLE_START(ts, i), count(*) FROM t GROUP BY k, TUMBLE(ts, i)
//! SELECT k, window_start, count(*) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), i)) GROUP BY k, window_start, window_end
//! ```
//!
//! Invariant: a query without such a call stays as it is.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::{
    ast::{
        self, Expr, Function, GroupByExpr, Ident, ObjectName, OrderByExpr, Query, Select, SetExpr, Spanned, TableAlias,
        TableFactor, TableWithJoins,
    },
    dialect::GenericDialect,
    parser::Parser,
};
use headwater_engine::error::{Error, Result};

use super::{
    at,
    loaded::TABLE_ARGUMENT,
    window_tables::{call, unnamed},
};

/// The functions that windows were in GROUP BY.
const FUNCTIONS: [&str; 3] = ["TUMBLE", "HOP", "SESSION"];
/// The columns of a window, behind the functions that gave them.
const PARTS: [(&str, &str); 3] = [("_START", "window_start"), ("_END", "window_end"), ("_ROWTIME", "window_time")];

/// A SELECT that groups by such a window, and its ORDER BY, over the table function.
pub(super) fn over_table_function(
    select: &Select,
    order: &[OrderByExpr],
) -> Result<Option<(Select, Vec<OrderByExpr>)>> {
    let GroupByExpr::Expressions(keys, _) = &select.group_by else { return Ok(None) };
    let mut windows = keys.iter().filter_map(|key| Some((key, window(key)?)));
    let Some((node, (name, function))) = windows.next() else { return Ok(None) };
    if windows.next().is_some() {
        return at(Err(Error::not_supported("two windows in one GROUP BY")), node);
    }
    let others: Vec<&Expr> = keys.iter().filter(|key| window(key).is_none()).collect();
    let mut over = (select.clone(), order.to_vec());
    at(over_relation(&mut over.0, name, function, &others), node)?;
    let mut used = vec!["window_start", "window_end"];
    let changed = ast::visit_expressions_mut(&mut over.0.projection, |node| replace(node, name, function, &mut used));
    let changed = merged(changed, || {
        ast::visit_expressions_mut(&mut over.0.having, |node| replace(node, name, function, &mut used))
    });
    let changed =
        merged(changed, || ast::visit_expressions_mut(&mut over.1, |node| replace(node, name, function, &mut used)));
    if let ControlFlow::Break(error) = changed {
        return Err(error);
    }
    if let GroupByExpr::Expressions(keys, _) = &mut over.0.group_by {
        keys.retain(|key| window(key).is_none());
        let column = |name: &&str| Expr::Identifier(Ident::with_span(function.name.span(), *name));
        keys.extend(used.iter().map(column));
    }
    Ok(Some(over))
}

fn merged(before: ControlFlow<Error>, next: impl FnOnce() -> ControlFlow<Error>) -> ControlFlow<Error> {
    match before {
        ControlFlow::Continue(()) => next(),
        broken @ ControlFlow::Break(_) => broken,
    }
}

/// The call of a window, and its name.
fn window(node: &Expr) -> Option<(&'static str, &Function)> {
    let Expr::Function(function) = node else { return None };
    let [ast::ObjectNamePart::Identifier(name)] = function.name.0.as_slice() else { return None };
    let known = FUNCTIONS.into_iter().find(|known| known.eq_ignore_ascii_case(&name.value))?;
    name.quote_style.is_none().then_some((known, function))
}

/// Puts the table function in place of the one relation of FROM.
fn over_relation(select: &mut Select, name: &str, function: &Function, others: &[&Expr]) -> Result<()> {
    let wanted =
        format!("write FROM TABLE({name}(TABLE t, DESCRIPTOR(time), INTERVAL ..)) GROUP BY window_start, window_end");
    let refused = |message: &str| Error::not_supported(message).with_hint(&wanted);
    let [from] = select.from.as_mut_slice() else { return Err(refused("a window in GROUP BY over several relations")) };
    if !from.joins.is_empty() {
        return Err(refused("a window in GROUP BY over several relations"));
    }
    if name == "SESSION" && select.selection.is_some() {
        // The condition would stand above the sessions, not below them.
        return Err(Error::not_supported("SESSION in GROUP BY beside WHERE").with_hint(
            "name the rows first: WITH w AS (SELECT .. WHERE ..) SELECT .. FROM w GROUP BY .., SESSION(..)",
        ));
    }
    let arguments = unnamed(function);
    let Some((time, lengths)) = arguments.split_first() else { return Err(refused("a window without its time")) };
    let time = match time {
        Expr::Identifier(name) => name.clone(),
        Expr::CompoundIdentifier(parts) if !parts.is_empty() => parts[parts.len() - 1].clone(),
        _ => return Err(refused("a window over a computed time")),
    };
    let keys = if name == "SESSION" { others } else { &[] };
    let (data, alias) = match &from.relation {
        relation @ (TableFactor::Table { alias, sample, .. }
        | TableFactor::Derived { alias, sample, lateral: false, .. })
            if keys.is_empty()
                && (sample.is_some() || alias.as_ref().is_some_and(|alias| !alias.columns.is_empty())) =>
        {
            let plain = alias.clone().map(|alias| TableAlias { columns: Vec::new(), ..alias });
            (Expr::Subquery(Box::new(all_of(relation)?)), plain)
        }
        TableFactor::Table { name: table, alias, args: None, sample: None, .. }
            if alias.as_ref().is_none_or(|alias| alias.columns.is_empty()) =>
        {
            let parts: Option<Vec<Ident>> = table.0.iter().map(|part| part.as_ident().cloned()).collect();
            let parts = parts.ok_or_else(|| refused("a window in GROUP BY over this relation"))?;
            let called = alias.as_ref().map(|alias| &alias.name).or(parts.last()).cloned();
            let named = Expr::CompoundIdentifier(parts);
            let of_table = std::iter::once(named).chain(keys.iter().map(|key| within(key, called.as_ref())));
            (call(ObjectName::from(vec![Ident::new(TABLE_ARGUMENT)]), of_table), alias.clone())
        }
        TableFactor::Derived { subquery, alias, lateral: false, sample: None, .. } if keys.is_empty() => {
            (Expr::Subquery(subquery.clone()), alias.clone())
        }
        _ => return Err(refused("a window in GROUP BY over this relation")),
    };
    let descriptor = call(ObjectName::from(vec![Ident::new("DESCRIPTOR")]), std::iter::once(Expr::Identifier(time)));
    let all = [data, descriptor].into_iter().chain(lengths.iter().map(|length| (*length).clone()));
    from.relation = TableFactor::TableFunction { expr: call(function.name.clone(), all), alias };
    Ok(())
}

/// `SELECT * FROM relation`
fn all_of(relation: &TableFactor) -> Result<Query> {
    let broken = |_| Error::internal("a query of all columns does not parse");
    let parser = Parser::new(&GenericDialect {}).try_with_sql("SELECT * FROM t");
    let mut query = parser.and_then(|mut parser| parser.parse_query()).map_err(broken)?;
    if let SetExpr::Select(select) = query.body.as_mut() {
        select.from = vec![TableWithJoins { relation: relation.clone(), joins: Vec::new() }];
    }
    Ok(*query)
}

/// A key as it is called within a table of this name.
fn within(key: &Expr, table: Option<&Ident>) -> Expr {
    match (key, table) {
        (Expr::CompoundIdentifier(parts), Some(table)) => match parts.as_slice() {
            [first, column] if first.value.eq_ignore_ascii_case(&table.value) => Expr::Identifier(column.clone()),
            _ => key.clone(),
        },
        _ => key.clone(),
    }
}

/// Puts the column of the window in place of the function that gave it.
fn replace(node: &mut Expr, name: &str, of: &Function, used: &mut Vec<&'static str>) -> ControlFlow<Error> {
    let Expr::Function(function) = node else { return ControlFlow::Continue(()) };
    let [ast::ObjectNamePart::Identifier(written)] = function.name.0.as_slice() else {
        return ControlFlow::Continue(());
    };
    let wanted = written.value.to_uppercase();
    let Some(part) = wanted.strip_prefix(name).filter(|part| part.starts_with('_')) else {
        return ControlFlow::Continue(());
    };
    let Some((_, column)) = PARTS.into_iter().find(|(known, _)| *known == part) else {
        return ControlFlow::Continue(());
    };
    if function.args != of.args {
        let message = format!("{wanted} is of another window than GROUP BY has");
        let error =
            Error::user("EXPRESSION_NOT_AGGREGATE", message).with_hint(format!("give it the arguments of {name}"));
        return match at::<()>(Err(error), &*node) {
            Err(error) => ControlFlow::Break(error),
            Ok(()) => ControlFlow::Continue(()),
        };
    }
    if !used.contains(&column) {
        used.push(column);
    }
    *node = Expr::Identifier(Ident::with_span(written.span, column));
    ControlFlow::Continue(())
}
