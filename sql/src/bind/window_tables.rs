//! TABLE(..): the window table functions.
//!
//! Invariant: the columns `window_start`, `window_end` and `window_time` follow the table's own, in this order.

use std::sync::Arc;

use datafusion::{
    common::ScalarValue,
    logical_expr::{Expr, Extension, LogicalPlan, LogicalPlanBuilder},
    sql::sqlparser::ast,
};
use headwater_engine::{
    error::{Error, Result},
    window::WindowSpec,
};

use super::{
    Binder, Bound, at, column,
    ctes::Ctes,
    flink,
    loaded::TABLE_ARGUMENT,
    scope::{Context, Field, located},
    suggest,
};
use crate::{types::Type, windows::WindowNode};

/// The window table functions, with the lengths each takes, in order.
const FUNCTIONS: [(&str, &[&str]); 4] =
    [("TUMBLE", &["SIZE"]), ("HOP", &["SLIDE", "SIZE"]), ("CUMULATE", &["STEP", "SIZE"]), ("SESSION", &["GAP"])];

/// `TUMBLE(..)` in FROM without `TABLE(..)` around it, as Flink writes it too.
pub(crate) fn bare_call(name: &ast::ObjectName, args: &[ast::FunctionArg]) -> Option<ast::Expr> {
    let written = name.to_string();
    FUNCTIONS
        .iter()
        .any(|(known, _)| known.eq_ignore_ascii_case(&written))
        .then(|| plain_call(name.clone(), args.to_vec()))
}

/// The call of a function with these values.
pub(super) fn call(name: ast::ObjectName, values: impl Iterator<Item = ast::Expr>) -> ast::Expr {
    plain_call(name, values.map(|value| ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(value))).collect())
}

fn plain_call(name: ast::ObjectName, args: Vec<ast::FunctionArg>) -> ast::Expr {
    ast::Expr::Function(ast::Function {
        name,
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args: ast::FunctionArguments::List(ast::FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// A call's arguments by name, whether they were named or not.
struct Call<'a> {
    data: Option<&'a ast::Expr>,
    time: Option<&'a ast::Expr>,
    lengths: Vec<Option<&'a ast::Expr>>,
    offset: Option<&'a ast::Expr>,
}

impl Binder<'_> {
    /// `TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL ..))`
    pub(crate) fn window_table(&self, node: &ast::Expr, outer: Option<&Context<'_>>, ctes: &Ctes) -> Result<Bound> {
        let ast::Expr::Function(function) = node else {
            return at(Err(Error::user("SYNTAX_ERROR", "TABLE(..) takes the call of a table function")), node);
        };
        let written = function.name.to_string();
        if written.eq_ignore_ascii_case("sequence") {
            return at(self.sequence_table(function, outer, ctes), node);
        }
        if written.eq_ignore_ascii_case("exclude_columns") {
            return at(self.without_columns(function, outer, ctes), node);
        }
        let Some((name, lengths)) = FUNCTIONS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&written)) else {
            let error = Error::user("FUNCTION_NOT_FOUND", format!("table function \"{written}\" does not exist"));
            return at(Err(suggest(error, &written, FUNCTIONS.iter().map(|(name, _)| *name))), node);
        };
        let call = at(arguments(function, lengths), node)?;
        let missing = |what: &str| {
            Error::user("SYNTAX_ERROR", format!("{name} needs {what}"))
                .with_hint(format!("write {name}(TABLE t, DESCRIPTOR(time), {})", intervals(lengths)))
        };
        let (table, keys) = at(table_argument(call.data.ok_or_else(|| missing("a table"))?), node)?;
        let bound = match table {
            TableArgument::Named(parts) => self.named_relation(parts, outer, ctes)?,
            TableArgument::Query(query) => self.query(query, outer, ctes)?,
        };
        let time = self.descriptor(call.time.ok_or_else(|| missing("DESCRIPTOR(time)"))?, &bound)?;
        let mut micros = Vec::with_capacity(lengths.len());
        for (length, known) in call.lengths.iter().zip(*lengths) {
            micros.push(self.length(length.ok_or_else(|| missing(known))?)?);
        }
        let offset = call.offset.map(|offset| self.length(offset)).transpose()?.unwrap_or(0);
        let spec = match (*name, micros.as_slice()) {
            ("TUMBLE", [size]) => WindowSpec::Tumble { size: *size, offset },
            ("HOP", [slide, size]) => WindowSpec::Hop { size: *size, slide: *slide, offset },
            ("CUMULATE", [step, size]) => WindowSpec::Cumulate { size: *size, step: *step, offset },
            ("SESSION", [gap]) if offset == 0 => WindowSpec::Session { gap: *gap },
            _ => return at(Err(Error::user("SYNTAX_ERROR", format!("{name} does not take these arguments"))), node),
        };
        let keys = self.session_keys(&keys, &bound, &spec, ctes)?;
        at(self.over_windows(bound, spec, &time, keys), node)
    }

    /// `TABLE(sequence(start => 1, stop => 5, step => 2))`
    fn sequence_table(&self, function: &ast::Function, outer: Option<&Context<'_>>, ctes: &Ctes) -> Result<Bound> {
        let wrong = || {
            Error::user("INVALID_ARGUMENTS", "sequence does not take these arguments")
                .with_hint("write TABLE(sequence(start => 1, stop => 5, step => 1))")
        };
        let mut call = function.clone();
        let ast::FunctionArguments::List(list) = &mut call.args else { return Err(wrong()) };
        let number = |text: &str| ast::Expr::value(ast::Value::Number(text.to_owned(), false));
        let mut args = [Some(number("0")), None, Some(number("1"))];
        for (index, arg) in list.args.iter().enumerate() {
            let (place, value) = match arg {
                ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(value)) => (index, value),
                ast::FunctionArg::Named { name, arg: ast::FunctionArgExpr::Expr(value), .. } => {
                    let known =
                        ["start", "stop", "step"].iter().position(|known| name.value.eq_ignore_ascii_case(known));
                    (known.ok_or_else(wrong)?, value)
                }
                _ => return Err(wrong()),
            };
            *args.get_mut(place).ok_or_else(wrong)? = Some(value.clone());
        }
        let bigint = |expr: ast::Expr| ast::Expr::Cast {
            kind: ast::CastKind::Cast,
            expr: Box::new(expr),
            data_type: ast::DataType::BigInt(None),
            array: false,
            format: None,
        };
        list.args = args
            .into_iter()
            .map(|arg| Ok(ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(bigint(arg.ok_or_else(wrong)?)))))
            .collect::<Result<_>>()?;
        let one = Bound { plan: LogicalPlanBuilder::empty(true).build()?, scope: super::Scope::default() };
        let mut bound = self.unnest(one, &[ast::Expr::Function(call)], false, None, (false, outer, ctes))?;
        for field in &mut bound.scope.fields {
            field.name = Some("sequential_number".to_owned());
        }
        Ok(bound)
    }

    /// `TABLE(exclude_columns(input => TABLE(t), columns => DESCRIPTOR(a, b)))`
    fn without_columns(&self, function: &ast::Function, outer: Option<&Context<'_>>, ctes: &Ctes) -> Result<Bound> {
        let wrong = |message: &str| {
            Error::user("INVALID_FUNCTION_ARGUMENT", message.to_owned())
                .with_hint("write TABLE(exclude_columns(input => TABLE(t), columns => DESCRIPTOR(a, b)))")
        };
        let ast::FunctionArguments::List(list) = &function.args else { return Err(wrong("there are no arguments")) };
        let (mut input, mut columns) = (None, None);
        for (index, argument) in list.args.iter().enumerate() {
            let (name, expr) = match argument {
                ast::FunctionArg::Named { name, arg: ast::FunctionArgExpr::Expr(expr), .. } => {
                    (name.value.to_lowercase(), expr)
                }
                ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) if index == 0 => ("input".to_owned(), expr),
                ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => ("columns".to_owned(), expr),
                other => return Err(wrong(&format!("argument {other} is not known"))),
            };
            match name.as_str() {
                "input" => input = Some(expr),
                "columns" => columns = Some(expr),
                other => return Err(wrong(&format!("argument {other} is not known"))),
            }
        }
        let (table, _) = table_argument(input.ok_or_else(|| wrong("the input is missing"))?)?;
        let mut bound = match table {
            TableArgument::Named(parts) => self.named_relation(parts, outer, ctes)?,
            TableArgument::Query(query) => self.query(query, outer, ctes)?,
        };
        let names = match columns {
            Some(ast::Expr::Function(call)) if call.name.to_string().eq_ignore_ascii_case("descriptor") => {
                unnamed(call)
            }
            _ => return Err(wrong("the columns are not a descriptor")),
        };
        for name in names {
            let ast::Expr::Identifier(name) = name else { return Err(wrong("a descriptor names columns")) };
            let is_named = |field: &Field| field.is_named(&name.value);
            if !bound.scope.fields.iter().any(is_named) {
                return Err(wrong(&format!("excluded column \"{}\" is not in the table", name.value)));
            }
            bound.scope.fields.retain(|field| !is_named(field));
        }
        if bound.scope.fields.iter().all(|field| field.hidden) {
            return Err(wrong("all columns are excluded"));
        }
        let exprs = bound.scope.fields.iter().map(Field::expr).collect();
        bound.plan = self.project(bound.plan, exprs)?;
        Ok(bound)
    }

    fn over_windows(&self, bound: Bound, spec: WindowSpec, time: &Field, keys: Vec<Expr>) -> Result<Bound> {
        let Bound { plan, mut scope } = bound;
        let own = ["window_start", "window_end", "window_time"].map(|name| Field {
            qualifier: scope.fields.first().map(|field| field.qualifier.clone()).unwrap_or_default(),
            name: Some(name.to_owned()),
            column: self.column(Some(name), &time.data_type),
            data_type: time.data_type.clone(),
            hidden: false,
        });
        let names = own.clone().map(|field| field.column);
        let node = WindowNode::try_new(plan, spec, column(&time.column), keys, names)?;
        scope.fields.extend(own);
        Ok(Bound { plan: LogicalPlan::Extension(Extension { node: Arc::new(node) }), scope })
    }

    /// The time column of `DESCRIPTOR(column)`.
    fn descriptor(&self, node: &ast::Expr, bound: &Bound) -> Result<Field> {
        let wrong = || Error::user("SYNTAX_ERROR", "the time of a window is written DESCRIPTOR(column)");
        let name = match node {
            ast::Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("DESCRIPTOR") => {
                match unnamed(function).as_slice() {
                    [ast::Expr::Identifier(name)] => (*name).clone(),
                    _ => return at(Err(wrong()), node),
                }
            }
            _ => return at(Err(wrong()), node),
        };
        let found = bound
            .scope
            .fields
            .iter()
            .find(|field| field.name.as_deref().is_some_and(|own| own.to_lowercase() == name.value.to_lowercase()));
        let Some(field) = found else {
            let error = Error::user("COLUMN_NOT_FOUND", format!("column \"{}\" not found", name.value));
            let known = bound.scope.fields.iter().filter_map(|field| field.name.as_deref());
            return Err(located(suggest(error, &name.value, known), &name));
        };
        match field.data_type {
            Type::Timestamp(_) | Type::TimestampTz(..) => Ok(field.clone()),
            ref other => Err(located(
                Error::user(
                    "TYPE_MISMATCH",
                    format!("the time of a window is a timestamp, but \"{}\" is {other}", name.value),
                )
                .with_hint("cast it in a view, or declare the column as TIMESTAMP(3)"),
                &name,
            )),
        }
    }

    /// Microseconds of a constant day-time interval.
    fn length(&self, node: &ast::Expr) -> Result<i64> {
        let ast::Expr::Interval(interval) = node else {
            return at(Err(Error::user("TYPE_MISMATCH", "the length of a window is a constant INTERVAL")), node);
        };
        match self.interval(&flink::singular(interval))?.expr {
            Expr::Literal(ScalarValue::DurationMillisecond(Some(millis)), _) => millis
                .checked_mul(1000)
                .ok_or_else(|| Error::user("INVALID_FUNCTION_ARGUMENT", "the length of a window is out of range")),
            _ => at(
                Err(Error::user("TYPE_MISMATCH", "the length of a window is an INTERVAL of days or shorter units")
                    .with_hint("months and years have no fixed length: group by date_trunc('month', ..) instead")),
                node,
            ),
        }
    }

    fn session_keys(&self, keys: &[&ast::Expr], bound: &Bound, spec: &WindowSpec, ctes: &Ctes) -> Result<Vec<Expr>> {
        let Some(first) = keys.first() else { return Ok(Vec::new()) };
        if !matches!(spec, WindowSpec::Session { .. }) {
            return at(Err(Error::user("SYNTAX_ERROR", "PARTITION BY belongs to SESSION windows")), *first);
        }
        let context = Context::new(&bound.scope, None, ctes, "PARTITION BY");
        keys.iter()
            .map(|key| match self.expr(key, &context)?.expr {
                Expr::Column(column) => Ok(Expr::Column(column)),
                _ => at(Err(Error::not_supported("a session is partitioned by columns only")), *key),
            })
            .collect()
    }
}

fn intervals(lengths: &[&str]) -> String {
    lengths.iter().map(|length| format!("{length} => INTERVAL '..' SECOND")).collect::<Vec<_>>().join(", ")
}

pub(super) fn unnamed(function: &ast::Function) -> Vec<&ast::Expr> {
    let ast::FunctionArguments::List(list) = &function.args else { return Vec::new() };
    let expr = |argument| match argument {
        &ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(ref expr)) => Some(expr),
        _ => None,
    };
    list.args.iter().filter_map(expr).collect()
}

/// Sorts a call's arguments by what they are.
fn arguments<'a>(function: &'a ast::Function, lengths: &[&str]) -> Result<Call<'a>> {
    let ast::FunctionArguments::List(list) = &function.args else {
        return Err(Error::user("SYNTAX_ERROR", "a window function needs arguments"));
    };
    let mut call = Call { data: None, time: None, lengths: vec![None; lengths.len()], offset: None };
    for (index, argument) in list.args.iter().enumerate() {
        let (name, expr) = match argument {
            ast::FunctionArg::Named { name, arg: ast::FunctionArgExpr::Expr(expr), .. } => {
                (Some(name.value.to_uppercase()), expr)
            }
            ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => (None, expr),
            other => return Err(Error::user("SYNTAX_ERROR", format!("argument {other} of a window function"))),
        };
        let by_place = match index {
            0 => "DATA",
            1 => "TIMECOL",
            _ => lengths.get(index - 2).copied().unwrap_or("OFFSET"),
        };
        let name = name.as_deref().unwrap_or(by_place);
        let place = match name {
            "DATA" => &mut call.data,
            "TIMECOL" => &mut call.time,
            "OFFSET" => &mut call.offset,
            other => {
                let length = lengths.iter().position(|length| *length == other);
                let length = length.and_then(|length| call.lengths.get_mut(length));
                length.ok_or_else(|| Error::user("SYNTAX_ERROR", format!("there is no argument \"{other}\" here")))?
            }
        };
        if place.replace(expr).is_some() {
            return Err(Error::user("SYNTAX_ERROR", format!("argument {name} of a window function is given twice")));
        }
    }
    Ok(call)
}

enum TableArgument<'a> {
    Named(&'a [ast::Ident]),
    Query(&'a ast::Query),
}

/// The table of `TABLE t [PARTITION BY ..]`, as the dialect hands it over, or of a subquery.
fn table_argument(node: &ast::Expr) -> Result<(TableArgument<'_>, Vec<&ast::Expr>)> {
    let wrong = || Error::user("SYNTAX_ERROR", "the data of a window is written TABLE name");
    let function = match node {
        ast::Expr::Subquery(query) => return Ok((TableArgument::Query(query), Vec::new())),
        ast::Expr::Function(function) if function.name.to_string().trim_matches('"') == TABLE_ARGUMENT => function,
        _ => return Err(wrong()),
    };
    if let ast::FunctionArguments::Subquery(query) = &function.args {
        return Ok((TableArgument::Query(query), Vec::new()));
    }
    let mut arguments = unnamed(function).into_iter();
    let name = match arguments.next() {
        Some(ast::Expr::Identifier(name)) => std::slice::from_ref(name),
        Some(ast::Expr::CompoundIdentifier(parts)) => parts.as_slice(),
        _ => return Err(wrong()),
    };
    Ok((TableArgument::Named(name), arguments.collect()))
}
