//! From a query's columns to those of a target: which goes where, and whether its type may.
//!
//! Invariant: Trino's rules decide what is assigned without a CAST; everything else is refused with both types named.

use std::sync::Arc;

use datafusion::{
    common::Column as PlanColumn,
    logical_expr::{Cast, Expr, LogicalPlan, LogicalPlanBuilder, lit},
    scalar::ScalarValue,
    sql::sqlparser::{
        ast,
        dialect::GenericDialect,
        tokenizer::{Token, Tokenizer},
    },
};
use headwater_connectors::lake::hive_type;
use headwater_engine::{
    catalog::Column,
    error::{Error, Location, Result},
};

use crate::{
    bind::{BoundQuery, OutputColumn},
    kernels::{self, Op, stored},
    parser::cursor::Identifier,
    types::{Type, coerces},
};

/// Type of a table's column as a query sees it.
pub(super) fn column_type(column: &Column) -> Result<Type> {
    Ok(Type::from_arrow(&hive_type::parse(&column.type_text)?))
}

/// Where a target column's values come from.
#[derive(Debug, Clone)]
pub(super) enum From {
    /// A column of the query.
    Query(usize),
    /// One text for all rows, in the column's type.
    Text(String),
    /// NULL.
    Nothing,
}

/// Columns that are a query's, one by one.
pub(super) fn in_order(all: Vec<Column>) -> Vec<(Column, From)> {
    all.into_iter().enumerate().map(|(index, column)| (column, From::Query(index))).collect()
}

/// The plan whose columns are the target's, in its order; types were checked.
pub(super) fn assigned(bound: BoundQuery, targets: &[(Column, From)]) -> Result<LogicalPlan> {
    let inputs: Vec<Expr> = (bound.plan.schema().iter())
        .map(|(qualifier, field)| Expr::Column(PlanColumn::new(qualifier.cloned(), field.name())))
        .collect();
    let mut exprs = Vec::with_capacity(targets.len());
    for (column, from) in targets {
        let to = column_type(column)?;
        let expr = match from {
            From::Query(index) => convert(inputs[*index].clone(), &bound.columns[*index].data_type, &to),
            From::Text(text) => {
                let varchar = Type::Varchar(None);
                convert(lit(text.clone()), &varchar, &to)
            }
            From::Nothing => Expr::Literal(ScalarValue::try_from(&to.to_arrow())?, None),
        };
        let is_within = |most: usize| match from {
            From::Query(index) => {
                matches!(bound.columns[*index].data_type, Type::Varchar(Some(n)) if n as usize <= most)
            }
            From::Text(_) => false,
            From::Nothing => true,
        };
        let expr = match stored::declared(&column.name, &column.type_text)
            .filter(|length| length.is_padded || !is_within(length.most))
        {
            Some(length) => kernels::call(Op::Stored(length), vec![expr], to),
            None => expr,
        };
        exprs.push(expr.alias(column.name.clone()));
    }
    Ok(LogicalPlanBuilder::from(bound.plan).project(exprs)?.build()?)
}

/// The plan, failing on a row without a value in one of these columns.
pub(super) fn with_values(plan: LogicalPlan, not_null: &[String]) -> Result<LogicalPlan> {
    if not_null.is_empty() {
        return Ok(plan);
    }
    let checked = plan.schema().iter().map(|(qualifier, field)| {
        let column = Expr::Column(PlanColumn::new(qualifier.cloned(), field.name()));
        if !not_null.iter().any(|name| name.eq_ignore_ascii_case(field.name())) {
            return column;
        }
        let (present, of) = (Op::Present(field.name().clone()), Type::from_arrow(field.data_type()));
        kernels::call(present, vec![column], of).alias(field.name().clone())
    });
    let checked: Vec<Expr> = checked.collect();
    Ok(LogicalPlanBuilder::from(plan).project(checked)?.build()?)
}

fn convert(expr: Expr, from: &Type, to: &Type) -> Expr {
    match from {
        _ if from == to => expr,
        Type::Unknown => Expr::Cast(Cast::new(Box::new(expr), to.to_arrow())),
        // Text that is padded in a query is padded text in a file.
        Type::Char(_) => Expr::Cast(Cast::new(Box::new(expr), to.to_arrow())),
        _ if from.to_arrow() == to.to_arrow() => expr,
        _ => kernels::call(Op::Cast { from: from.clone(), to: to.clone(), safe: false }, vec![expr], to.clone()),
    }
}

/// Checks that a query's columns may be assigned to these, one by one.
pub(super) fn check(table: &str, targets: &[&Column], query: &[OutputColumn]) -> Result<()> {
    let types = targets.iter().map(|column| column_type(column)).collect::<Result<Vec<_>>>()?;
    let fits = |(to, from): (&Type, &OutputColumn)| coerces(&from.data_type, to) || is_text_of(&from.data_type, to);
    if types.len() == query.len() && types.iter().zip(query).all(fits) {
        return Ok(());
    }
    let names = |types: Vec<String>| types.join(", ");
    let wanted = names(targets.iter().zip(&types).map(|(column, of)| format!("{} {of}", column.name)).collect());
    let given = names(query.iter().map(|column| format!("{} {}", column.name, column.data_type)).collect());
    let message = format!("the query's columns do not fit those of \"{table}\": [{wanted}] from [{given}]");
    let error = Error::user("TYPE_MISMATCH", message);
    let wrong = types.iter().zip(query).position(|(to, from)| !fits((to, from)));
    Err(match wrong.filter(|_| types.len() == query.len()) {
        Some(index) => {
            let (column, to) = (&targets[index].name, &types[index]);
            error.with_hint(format!("CAST the value of \"{column}\" AS {to}"))
        }
        None => error.with_hint(format!("the table has {} columns here, the query {}", types.len(), query.len())),
    })
}

/// A lake's `char(n)` and `varchar(n)` columns are text; so are values of them.
fn is_text_of(from: &Type, to: &Type) -> bool {
    matches!((from, to), (Type::Char(_), Type::Varchar(None)))
}

/// The names that files get for a query's columns where no table says: those in quotes keep their case, others are in
/// lower case.
pub(super) fn written_names(query: &ast::Query, columns: &[OutputColumn]) -> Vec<String> {
    let mut names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
    let items = items_of(&query.body);
    let is_star = |item: &ast::SelectItem| {
        !matches!(item, ast::SelectItem::UnnamedExpr(_) | ast::SelectItem::ExprWithAlias { .. })
    };
    // What a star stands for is named where it comes from.
    let (before, after) = match (items.iter().position(is_star), items.iter().rposition(is_star)) {
        (Some(first), Some(last)) => (&items[..first], &items[last + 1..]),
        _ => (items, &items[items.len()..]),
    };
    for (name, item) in names.iter_mut().zip(before) {
        fold(name, item);
    }
    for (name, item) in names.iter_mut().rev().zip(after.iter().rev()) {
        fold(name, item);
    }
    if before.len() < items.len() {
        let starred = before.len()..names.len().saturating_sub(after.len());
        fold_inner(names.get_mut(starred).unwrap_or_default(), query);
    }
    names
}

/// Folds the names that a query's inner parts give without quotes.
fn fold_inner(names: &mut [String], query: &ast::Query) {
    let text = query.to_string();
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, &text).tokenize() else { return };
    let words = || tokens.iter().filter_map(|token| if let Token::Word(word) = token { Some(word) } else { None });
    for name in names {
        let mut written = words().filter(|word| word.value == *name).peekable();
        if written.peek().is_some() && written.all(|word| word.quote_style.is_none()) {
            *name = name.to_lowercase();
        }
    }
}

/// The items of a query's first SELECT, by which its columns are called.
fn items_of(body: &ast::SetExpr) -> &[ast::SelectItem] {
    match body {
        ast::SetExpr::Select(select) => &select.projection,
        ast::SetExpr::Query(query) => items_of(&query.body),
        ast::SetExpr::SetOperation { left, .. } => items_of(left),
        _ => &[],
    }
}

fn fold(name: &mut String, item: &ast::SelectItem) {
    let written = match item {
        ast::SelectItem::ExprWithAlias { alias, .. } => Some(alias),
        ast::SelectItem::UnnamedExpr(ast::Expr::Identifier(column)) => Some(column),
        ast::SelectItem::UnnamedExpr(ast::Expr::CompoundIdentifier(parts)) => parts.last(),
        _ => None,
    };
    match written {
        Some(written) if written.quote_style.is_some() => {}
        _ => *name = name.to_lowercase(),
    }
}

/// The columns a new table has for a query's, with their Hive types.
pub(super) fn of_query(query: &[OutputColumn], names: &[Identifier], at: Location) -> Result<Vec<Column>> {
    if !names.is_empty() && names.len() != query.len() {
        let message = format!("{} column names for {} columns of the query", names.len(), query.len());
        return Err(Error::user("MISMATCHED_COLUMN_ALIASES", message).at(at));
    }
    let mut columns: Vec<Column> = Vec::with_capacity(query.len());
    for (index, column) in query.iter().enumerate() {
        let name = names.get(index).map_or(&column.name, |name| &name.value);
        if names.is_empty() && !column.is_named {
            let message = format!("column {} of the query has no name", index + 1);
            return Err(Error::user("MISSING_COLUMN_NAME", message).with_hint("name it with AS").at(at));
        }
        if columns.iter().any(|other| other.name.eq_ignore_ascii_case(name)) {
            return Err(Error::user("DUPLICATE_COLUMN_NAME", format!("column name \"{name}\" is given twice"))
                .with_hint("give one of them another name with AS")
                .at(at));
        }
        let type_text =
            hive_text(&column.data_type).map_err(|error| error.context(format!("column \"{name}\"")).at(at))?;
        columns.push(Column { name: name.to_lowercase(), type_text, comment: None });
    }
    Ok(columns)
}

/// How Hive spells a type that a query gives; what files of the lake cannot hold is refused with the way out.
fn hive_text(of: &Type) -> Result<String> {
    let refuse = |hint: &str| Err(Error::not_supported(format!("a file cannot hold {of}")).with_hint(hint));
    Ok(match of {
        Type::Unknown => return refuse("CAST the NULL to the type it should have"),
        Type::Varchar(Some(length)) => format!("varchar({length})"),
        Type::Char(length) => format!("char({length})"),
        Type::Timestamp(0..=3) => "timestamp".into(),
        Type::Timestamp(_) => return refuse("CAST it AS timestamp(3), which is what lake tables hold"),
        Type::TimestampTz(..) | Type::ZonedEach(_) => return refuse("CAST it AS timestamp, or AT TIME ZONE first"),
        Type::Time(_)
        | Type::TimeTz(_)
        | Type::IntervalYearMonth
        | Type::IntervalDaySecond
        | Type::Uuid
        | Type::IpAddress
        | Type::Sketch(_)
        | Type::Other(_) => {
            return refuse("CAST it AS varchar");
        }
        Type::Json => return refuse("CAST it with json_format(..), or to ROW, ARRAY or MAP"),
        Type::Array(element) => format!("array<{}>", hive_text(element)?),
        Type::Map(key, value) => format!("map<{},{}>", hive_text(key)?, hive_text(value)?),
        Type::Row(fields) => {
            let field = |(index, (name, of)): (usize, &(Option<Arc<str>>, Type))| {
                Ok(format!(
                    "{}:{}",
                    name.as_deref().map_or_else(|| format!("field{index}"), str::to_owned),
                    hive_text(of)?
                ))
            };
            format!("struct<{}>", fields.iter().enumerate().map(field).collect::<Result<Vec<_>>>()?.join(","))
        }
        plain => hive_type::text(&plain.to_arrow())?,
    })
}
