//! What Flink writes otherwise than Trino, taken where only streams are declared: in computed columns, in watermarks
//! and in the arguments of window functions.
//!
//! ```text
//! INTERVAL '10' MINUTES        INTERVAL '10' MINUTE
//! TO_TIMESTAMP_LTZ(n, 3)       date_add('millisecond', n, TIMESTAMP '1970-01-01 00:00:00.000')
//! TO_TIMESTAMP_LTZ(n, 0)       date_add('second', n, TIMESTAMP '1970-01-01 00:00:00.000')
//! TO_TIMESTAMP(s)              CAST(s AS TIMESTAMP(3))
//! TO_TIMESTAMP(s, format)      CAST(parse_datetime(s, format) AS TIMESTAMP(3))
//! ```
//!
//! Invariant: queries keep to Trino, which refuses all of this; what is put in place keeps the places of what was
//! written.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::{
    ast::{self, DateTimeField as Unit, Expr, FunctionArg, FunctionArgExpr, FunctionArguments},
    tokenizer::Span,
};
use headwater_engine::error::{Error, Result};

use super::at;

/// An interval whose unit may be in the plural, as Trino writes it.
pub(crate) fn singular(interval: &ast::Interval) -> ast::Interval {
    let one = |unit: &Unit| match unit {
        Unit::Years => Unit::Year,
        Unit::Months => Unit::Month,
        Unit::Days => Unit::Day,
        Unit::Hours => Unit::Hour,
        Unit::Minutes => Unit::Minute,
        Unit::Seconds => Unit::Second,
        other => other.clone(),
    };
    let mut interval = interval.clone();
    interval.leading_field = interval.leading_field.as_ref().map(one);
    interval
}

/// An expression of a declaration, as Trino would write it.
pub(crate) fn as_trino(expression: &Expr) -> Result<Expr> {
    let mut expression = expression.clone();
    let changed = ast::visit_expressions_mut(&mut expression, |node| match rewritten(node) {
        Ok(Some(other)) => {
            *node = other;
            ControlFlow::Continue(())
        }
        Ok(None) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    });
    match changed {
        ControlFlow::Continue(()) => Ok(expression),
        ControlFlow::Break(error) => Err(error),
    }
}

fn rewritten(node: &Expr) -> Result<Option<Expr>> {
    match node {
        Expr::Interval(interval) => Ok(Some(Expr::Interval(singular(interval)))),
        Expr::Function(function) => {
            let name = function.name.to_string().to_uppercase();
            if name != "TO_TIMESTAMP" && name != "TO_TIMESTAMP_LTZ" {
                return Ok(None);
            }
            at(moment(&name, function), node).map(Some)
        }
        _ => Ok(None),
    }
}

fn values(function: &ast::Function) -> Vec<&Expr> {
    let FunctionArguments::List(list) = &function.args else { return Vec::new() };
    let value = |arg| match arg {
        &FunctionArg::Unnamed(FunctionArgExpr::Expr(ref value)) => Some(value),
        _ => None,
    };
    list.args.iter().filter_map(value).collect()
}

fn moment(name: &str, function: &ast::Function) -> Result<Expr> {
    match (name, values(function).as_slice()) {
        ("TO_TIMESTAMP", [text]) => Ok(as_timestamp((*text).clone())),
        ("TO_TIMESTAMP", [text, format]) => {
            let args = vec![(*text).clone(), (*format).clone()];
            Ok(as_timestamp(called(function, "parse_datetime", args)))
        }
        ("TO_TIMESTAMP_LTZ", [number, precision]) => {
            let unit = match precision.to_string().as_str() {
                "0" => "second",
                "3" => "millisecond",
                other => {
                    let message = format!("TO_TIMESTAMP_LTZ takes 0 (seconds) or 3 (milliseconds), not {other}");
                    return Err(Error::user("INVALID_FUNCTION_ARGUMENT", message));
                }
            };
            let args = vec![Expr::Value(text_of(unit)), (*number).clone(), epoch()];
            Ok(called(function, "date_add", args))
        }
        _ => Err(Error::user("INVALID_FUNCTION_ARGUMENT", format!("{name} does not take these arguments"))
            .with_hint("write TO_TIMESTAMP(text), TO_TIMESTAMP(text, format) or TO_TIMESTAMP_LTZ(number, 3)")),
    }
}

/// Another function in the place of one.
fn called(function: &ast::Function, name: &str, args: Vec<Expr>) -> Expr {
    let mut call = function.clone();
    let written = function.name.0.first().and_then(ast::ObjectNamePart::as_ident);
    let span = written.map_or_else(Span::empty, |ident| ident.span);
    call.name = ast::Ident { value: name.to_owned(), quote_style: None, span }.into();
    if let FunctionArguments::List(list) = &mut call.args {
        list.args = args.into_iter().map(|value| FunctionArg::Unnamed(FunctionArgExpr::Expr(value))).collect();
    }
    Expr::Function(call)
}

fn as_timestamp(value: Expr) -> Expr {
    let data_type = ast::DataType::Timestamp(Some(3), ast::TimezoneInfo::None);
    Expr::Cast { kind: ast::CastKind::Cast, expr: Box::new(value), data_type, array: false, format: None }
}

fn epoch() -> Expr {
    let data_type = ast::DataType::Timestamp(None, ast::TimezoneInfo::None);
    let value = text_of("1970-01-01 00:00:00.000");
    Expr::TypedString(ast::TypedString { data_type, value, uses_odbc_syntax: false })
}

fn text_of(text: &str) -> ast::ValueWithSpan {
    ast::Value::SingleQuotedString(text.to_owned()).with_empty_span()
}
