//! Expressions: from each kind of syntax to the file that binds it.
//!
//! Invariant: an error carries the place of the innermost expression it is about.

use datafusion::{common::ScalarValue, logical_expr::Expr, sql::sqlparser::ast};
use headwater_engine::error::{Error, Result};

use super::{Binder, Value, at, calls::unsupported, literal, literals::text_value, scope::Context};
use crate::{
    kernels::{self, Comparison, Op, cast, zoned::Notation},
    types::{Type, common},
};

impl Binder<'_> {
    /// Binds an expression.
    pub(crate) fn expr(&self, node: &ast::Expr, context: &Context<'_>) -> Result<Value> {
        at(self.nested(|| self.any_expr(node, context)), node)
    }

    /// Binds an expression that must be boolean.
    pub(crate) fn condition(&self, node: &ast::Expr, context: &Context<'_>) -> Result<Value> {
        let value = self.expr(node, context)?;
        let found = value.data_type.clone();
        at(
            self.coerce(value, &Type::Boolean).map_err(|_| {
                Error::user("TYPE_MISMATCH", format!("{} must evaluate to a boolean, not {found}", context.place))
            }),
            node,
        )
    }

    fn any_expr(&self, node: &ast::Expr, context: &Context<'_>) -> Result<Value> {
        use ast::Expr as E;
        if super::operators::is_chained(node) {
            return Err(Error::user("SYNTAX_ERROR", "a comparison of a comparison needs parentheses"));
        }
        let conjunct = context.filter && context.conjunct && super::subqueries::is_conjunct(node);
        let context = &Context { conjunct, ..*context };
        match node {
            E::Identifier(ident) => self.bare_name(ident, context),
            E::CompoundIdentifier(parts) => self.compound(parts, context),
            E::CompoundFieldAccess { root, access_chain } => self.access(root, access_chain, context),
            E::Nested(inner) => self.expr(inner, context),
            E::Value(value) => self.literal(value),
            E::TypedString(typed) => self.typed_literal(typed),
            E::Interval(interval) => self.interval(interval),
            E::UnaryOp { op, expr } => self.unary(op, expr, context),
            E::BinaryOp { op, .. } if super::chains::computation(op).is_some() => self.chained(node, context),
            E::BinaryOp { left, op, right } => self.binary(left, op, right, context),
            E::Cast { kind: ast::CastKind::DoubleColon, expr, data_type, .. } => {
                Err(Error::user("SYNTAX_ERROR", "'::' is not supported")
                    .with_hint(format!("write CAST({expr} AS {data_type})")))
            }
            E::Cast { kind, expr, data_type, .. } => {
                let safe = matches!(kind, ast::CastKind::TryCast | ast::CastKind::SafeCast);
                let value = self.expr(expr, context)?;
                self.cast(value, &named_type(data_type)?, safe)
            }
            E::Array(array) => {
                let elements = self.exprs(&array.elem, context)?;
                self.array(elements)
            }
            E::Tuple(values) => {
                let values = self.exprs(values, context)?;
                Ok(row(values.into_iter().map(|value| (None, value)).collect()))
            }
            E::AtTimeZone { timestamp, time_zone } => {
                if !matches!(time_zone.as_ref(), E::Value(_) | E::Interval(_)) {
                    return Err(Error::user("SYNTAX_ERROR", "the zone of AT TIME ZONE is a literal")
                        .with_hint("write at_timezone(x, zone)"));
                }
                let (value, zone) = (self.expr(timestamp, context)?, self.expr(time_zone, context)?);
                self.at_time_zone(value, zone)
            }
            E::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref(), context)
            }
            E::Function(function) => self.call(function, context),
            E::Lambda(_) => {
                Err(Error::user("TYPE_MISMATCH", "a lambda can only be an argument of a function that takes one"))
            }
            E::Exists { .. } | E::Subquery(_) | E::InSubquery { .. } | E::AnyOp { .. } | E::AllOp { .. } => {
                self.subquery_expr(node, context)
            }
            _ => self.predicate_or_call(node, context),
        }
    }

    fn predicate_or_call(&self, node: &ast::Expr, context: &Context<'_>) -> Result<Value> {
        use ast::Expr as E;
        match node {
            E::IsNull(inner) => Ok(boolean(self.expr(inner, context)?.expr.is_null())),
            E::IsNotNull(inner) => Ok(boolean(self.expr(inner, context)?.expr.is_not_null())),
            E::IsTrue(_)
            | E::IsNotTrue(_)
            | E::IsFalse(_)
            | E::IsNotFalse(_)
            | E::IsUnknown(_)
            | E::IsNotUnknown(_) => Err(Error::user("SYNTAX_ERROR", "IS takes NULL or DISTINCT FROM")
                .with_hint("write x, NOT x, or x IS NOT DISTINCT FROM true")),
            E::IsDistinctFrom(left, right) => self.compare_nodes(Comparison::Distinct, left, right, context),
            E::IsNotDistinctFrom(left, right) => self.compare_nodes(Comparison::NotDistinct, left, right, context),
            E::InList { expr, list, negated } => self.in_list(expr, list, *negated, context),
            E::Between { expr, negated, low, high } => self.between(expr, low, high, *negated, context),
            E::Like { negated, any: false, expr, pattern, escape_char } => {
                self.like(expr, pattern, escape_char.as_ref(), *negated, context)
            }
            E::Extract { field, expr, .. } => self.extract(field, expr, context),
            E::Ceil { expr, .. } => self.named_call("ceiling", &[expr], context),
            E::Floor { expr, .. } => self.named_call("floor", &[expr], context),
            E::Position { expr, r#in } => self.named_call("strpos", &[r#in, expr], context),
            E::Substring { expr, substring_from, substring_for, .. } => {
                let parts: Vec<&ast::Expr> =
                    std::iter::once(expr).chain(substring_from).chain(substring_for).map(AsRef::as_ref).collect();
                self.named_call("substr", &parts, context)
            }
            E::Trim { expr, trim_where, trim_what, trim_characters } => {
                let name = match trim_where {
                    Some(ast::TrimWhereField::Leading) => "ltrim",
                    Some(ast::TrimWhereField::Trailing) => "rtrim",
                    Some(ast::TrimWhereField::Both) | None => "trim",
                };
                let what = trim_what.as_deref().or_else(|| trim_characters.as_ref().and_then(|list| list.first()));
                let parts: Vec<&ast::Expr> = std::iter::once(expr.as_ref()).chain(what).collect();
                self.named_call(name, &parts, context)
            }
            other => Err(unsupported(other)),
        }
    }

    /// A name that may also be a function written without parentheses.
    fn bare_name(&self, ident: &ast::Ident, context: &Context<'_>) -> Result<Value> {
        let found = self.identifier(ident, context);
        let name = ident.value.to_lowercase();
        let bare = [
            "current_date",
            "current_time",
            "current_timestamp",
            "localtime",
            "localtimestamp",
            "current_user",
            "current_catalog",
            "current_schema",
            "current_path",
            "current_timezone",
        ];
        match found {
            Err(error)
                if error.code().0 == "COLUMN_NOT_FOUND"
                    && ident.quote_style.is_none()
                    && bare.contains(&name.as_str()) =>
            {
                self.function_value(&name, Vec::new()).map_err(|_| error)
            }
            found => found,
        }
    }

    /// Binds several expressions.
    pub(crate) fn exprs(&self, nodes: &[ast::Expr], context: &Context<'_>) -> Result<Vec<Value>> {
        nodes.iter().map(|node| self.expr(node, context)).collect()
    }

    fn access(&self, root: &ast::Expr, chain: &[ast::AccessExpr], context: &Context<'_>) -> Result<Value> {
        let mut chain = chain;
        let mut parts: Vec<ast::Ident> = Vec::new();
        if let ast::Expr::Identifier(first) = root {
            parts.push(first.clone());
            while let [ast::AccessExpr::Dot(ast::Expr::Identifier(next)), rest @ ..] = chain {
                parts.push(next.clone());
                chain = rest;
            }
        }
        let mut value = if parts.is_empty() { self.expr(root, context)? } else { self.compound(&parts, context)? };
        for access in chain {
            value = match access {
                ast::AccessExpr::Dot(ast::Expr::Identifier(name)) => self.dereference(value, name)?,
                ast::AccessExpr::Dot(other) => return Err(unsupported(other)),
                ast::AccessExpr::Subscript(ast::Subscript::Index { index }) => {
                    let key = self.expr(index, context)?;
                    at(self.subscript(value, key), index)?
                }
                ast::AccessExpr::Subscript(_) => {
                    return Err(Error::user("SYNTAX_ERROR", "array slices are not supported")
                        .with_hint("use slice(array, start, length)"));
                }
            };
        }
        Ok(value)
    }

    /// `base[key]`
    pub(crate) fn subscript(&self, base: Value, key: Value) -> Result<Value> {
        let mismatch =
            |base: &Type, key: &Type| Error::user("TYPE_MISMATCH", format!("cannot subscript {base} with {key}"));
        match base.data_type.clone() {
            Type::Array(element) => {
                let Ok(key) = self.coerce(key.clone(), &Type::Bigint) else {
                    return Err(mismatch(&base.data_type, &key.data_type));
                };
                Ok(Value::new(kernels::call(Op::Subscript, vec![base.expr, key.expr], (*element).clone()), *element))
            }
            Type::Map(key_type, value_type) => {
                let Some(both) = common(&key_type, &key.data_type) else {
                    return Err(mismatch(&base.data_type, &key.data_type));
                };
                let key = self.convert(key, &both)?;
                let base = self.convert(base, &Type::map(both.clone(), (*value_type).clone()))?;
                let op = Op::MapSubscript(both);
                Ok(Value::new(kernels::call(op, vec![base.expr, key.expr], (*value_type).clone()), *value_type))
            }
            Type::Row(fields) => {
                let index = match &key.expr {
                    Expr::Literal(value, _) if key.data_type.is_integer() => {
                        value.cast_to(&arrow::datatypes::DataType::Int64)?.to_string().parse::<usize>().ok()
                    }
                    _ => {
                        return Err(Error::user("TYPE_MISMATCH", "a row's subscript is a whole number written out"));
                    }
                };
                let found = index.and_then(|index| index.checked_sub(1)).and_then(|at| Some((at, fields.get(at)?)));
                let Some((at, (_, inner))) = found else {
                    return Err(Error::user(
                        "INVALID_FUNCTION_ARGUMENT",
                        format!("row subscript must be from 1 to {}", fields.len()),
                    ));
                };
                Ok(Value::new(kernels::call(Op::Field(at), vec![base.expr], inner.clone()), inner.clone()))
            }
            Type::Unknown => Value::null(Type::Unknown),
            other => Err(mismatch(&other, &key.data_type)),
        }
    }

    /// `CAST(value AS type)`
    pub(crate) fn cast(&self, value: Value, to: &Type, safe: bool) -> Result<Value> {
        if !cast::exists(&value.data_type, to) {
            return Err(Error::user("TYPE_MISMATCH", format!("cannot cast {} to {to}", value.data_type)));
        }
        let to = match (&value.data_type, to) {
            (Type::Varchar(_) | Type::Char(_), Type::TimestampTz(p, zone)) => {
                Type::TimestampTz(*p, written_zone(&value.expr).unwrap_or_else(|| zone.clone()))
            }
            (from, to) => super::zones::kept(from, to, self.environment.zone),
        };
        if value.data_type == to {
            return Ok(value);
        }
        if value.data_type == Type::Unknown || matches!(to, Type::ZonedEach(_)) {
            return self.convert(value, &to);
        }
        let told = !matches!(value.expr, Expr::Literal(..)) && matches!(value.data_type, Type::Varchar(_));
        if let (Type::TimestampTz(..), true) = (&to, told) {
            let text = self.convert(value, &Type::VARCHAR)?;
            let op = Op::Cast { from: Type::VARCHAR, to: to.clone(), safe };
            let instants = Value::new(kernels::call(op, vec![text.expr.clone()], to.clone()), to);
            return self.in_written_zones(instants, vec![text], Notation::Plain);
        }
        let lossless = match (&value.data_type, &to) {
            (Type::Varchar(_), Type::Varchar(None)) => true,
            (from, to) => from.is_integer() && to.is_numeric() && crate::types::coerces(from, to),
        };
        if lossless {
            return self.convert(value, &to);
        }
        let op = Op::Cast { from: value.data_type, to: to.clone(), safe };
        Ok(Value::new(kernels::call(op, vec![value.expr], to.clone()), to))
    }

    /// `ARRAY[..]`
    pub(crate) fn array(&self, elements: Vec<Value>) -> Result<Value> {
        let element = self.common_type(elements.iter(), "array elements")?;
        let elements =
            elements.into_iter().map(|value| Ok(self.convert(value, &element)?.expr)).collect::<Result<_>>()?;
        let data_type = Type::array(element);
        Ok(Value::new(kernels::call(Op::Array, elements, data_type.clone()), data_type))
    }

    /// The common type of values.
    pub(crate) fn common_type<'v>(&self, values: impl Iterator<Item = &'v Value>, what: &str) -> Result<Type> {
        let mut all = Type::Unknown;
        for value in values {
            all = common(&all, &value.data_type).ok_or_else(|| {
                Error::user(
                    "TYPE_MISMATCH",
                    format!("{what} must be of one type: {all} and {} have none in common", value.data_type),
                )
            })?;
        }
        Ok(all)
    }

    fn unary(&self, op: &ast::UnaryOperator, node: &ast::Expr, context: &Context<'_>) -> Result<Value> {
        match op {
            ast::UnaryOperator::Minus => {
                if let ast::Expr::Value(ast::ValueWithSpan { value: ast::Value::Number(text, long), span }) = node {
                    let _ = (long, span);
                    if let Ok(value) = format!("-{}", text.replace('_', "")).parse::<i64>() {
                        return Ok(super::literals::integer_value(value));
                    }
                }
                let value = self.expr(node, context)?;
                self.negate(value)
            }
            ast::UnaryOperator::Plus => {
                let value = self.expr(node, context)?;
                if value.data_type.is_numeric() { Ok(value) } else { Err(no_operator("+", &value.data_type)) }
            }
            ast::UnaryOperator::Not => {
                let context = Context { place: "value of logical NOT expression", ..*context };
                Ok(boolean(self.condition(node, &context)?.expr.negated_keeping_null()))
            }
            other => Err(Error::user("SYNTAX_ERROR", format!("operator {other} is not supported"))),
        }
    }

    fn negate(&self, value: Value) -> Result<Value> {
        let folded = match &value.expr {
            Expr::Literal(ScalarValue::Int32(Some(v)), _) => v.checked_neg().map(|v| ScalarValue::Int32(Some(v))),
            Expr::Literal(ScalarValue::Int64(Some(v)), _) => v.checked_neg().map(|v| ScalarValue::Int64(Some(v))),
            Expr::Literal(ScalarValue::Float64(Some(v)), _) => Some(ScalarValue::Float64(Some(-v))),
            Expr::Literal(ScalarValue::Decimal128(Some(v), p, s), _) => Some(ScalarValue::Decimal128(Some(-v), *p, *s)),
            _ => None,
        };
        if let Some(folded) = folded {
            return Ok(Value::new(literal(folded), value.data_type));
        }
        match &value.data_type {
            of if of.is_numeric() || matches!(of, Type::IntervalDaySecond | Type::IntervalYearMonth) => {
                let of = of.clone();
                Ok(Value::new(kernels::call(Op::Negate(of.clone()), vec![value.expr], of.clone()), of))
            }
            Type::Unknown => Err(ambiguous("-")),
            other => Err(no_operator("-", other)),
        }
    }

    fn binary(
        &self,
        left: &ast::Expr,
        op: &ast::BinaryOperator,
        right: &ast::Expr,
        context: &Context<'_>,
    ) -> Result<Value> {
        use ast::BinaryOperator as B;
        let compare = |kind| {
            if is_comparison(left) {
                return Err(Error::user("SYNTAX_ERROR", "comparisons do not chain").with_hint("put one in parentheses"));
            }
            self.compare_nodes(kind, left, right, context)
        };
        match op {
            B::And | B::Or => self.logical(left, right, *op == B::And, context),
            B::Eq => compare(Comparison::Equal),
            B::NotEq => compare(Comparison::NotEqual),
            B::Lt => compare(Comparison::Less),
            B::LtEq => compare(Comparison::LessOrEqual),
            B::Gt => compare(Comparison::Greater),
            B::GtEq => compare(Comparison::GreaterOrEqual),
            other => Err(Error::user("SYNTAX_ERROR", format!("operator {other} is not supported"))),
        }
    }

    fn extract(&self, field: &ast::DateTimeField, node: &ast::Expr, context: &Context<'_>) -> Result<Value> {
        let name = match field.to_string().to_lowercase().as_str() {
            "dow" | "day_of_week" | "dayofweek" => "day_of_week",
            "doy" | "day_of_year" | "dayofyear" => "day_of_year",
            "yow" | "year_of_week" => "year_of_week",
            "day_of_month" | "dayofmonth" => "day_of_month",
            "timezone_hour" => "timezone_hour",
            "timezone_minute" => "timezone_minute",
            "year" => "year",
            "quarter" => "quarter",
            "month" => "month",
            "week" => "week",
            "day" => "day",
            "hour" => "hour",
            "minute" => "minute",
            "second" => "second",
            other => return Err(Error::user("SYNTAX_ERROR", format!("invalid EXTRACT field: {other}"))),
        };
        let value = self.expr(node, context)?;
        let found = value.data_type.clone();
        let zoned_only = matches!(name, "timezone_hour" | "timezone_minute");
        let timed_only = matches!(name, "hour" | "minute" | "second");
        if found == Type::Unknown
            || found == Type::Date && timed_only
            || zoned_only && !matches!(found, Type::TimestampTz(..) | Type::ZonedEach(_))
        {
            return Err(Error::user("TYPE_MISMATCH", format!("cannot extract {name} from {found}")));
        }
        self.function_value(name, vec![value]).map_err(|error| match error.code().0 {
            "FUNCTION_NOT_FOUND" => Error::user("TYPE_MISMATCH", format!("cannot extract {name} from {found}")),
            _ => error,
        })
    }

    fn named_call(&self, name: &str, nodes: &[&ast::Expr], context: &Context<'_>) -> Result<Value> {
        let values = nodes.iter().map(|node| self.expr(node, context)).collect::<Result<Vec<_>>>()?;
        self.function_value(name, values)
    }

    fn like(
        &self,
        node: &ast::Expr,
        pattern: &ast::Expr,
        escape: Option<&ast::ValueWithSpan>,
        negated: bool,
        context: &Context<'_>,
    ) -> Result<Value> {
        let mut args = Vec::new();
        for node in [node, pattern] {
            let value = self.expr(node, context)?;
            match value.data_type {
                Type::Varchar(_) | Type::Char(_) => args.push(value.expr),
                Type::Unknown => args.push(Value::null(Type::VARCHAR)?.expr),
                other => return Err(Error::user("TYPE_MISMATCH", format!("LIKE needs varchar, not {other}"))),
            }
        }
        if let Some(escape) = escape {
            let text = escape.value.clone().into_string().unwrap_or_default();
            args.push(text_value(&text).expr);
        }
        let matched = kernels::call(Op::Like, args, Type::Boolean);
        Ok(boolean(if negated { matched.negated_keeping_null() } else { matched }))
    }
}

/// `NOT`, which keeps NULL.
pub(crate) trait Negation {
    /// The negation of a condition.
    fn negated_keeping_null(self) -> Expr;
}

impl Negation for Expr {
    fn negated_keeping_null(self) -> Expr {
        Expr::Not(Box::new(self))
    }
}

/// A type by its name in a query.
pub(crate) fn named_type(data_type: &ast::DataType) -> Result<Type> {
    Type::from_ast(data_type).map_err(|error| match error.code().0 {
        "TYPE_NOT_FOUND" => Error::user("TYPE_MISMATCH", error.message()),
        _ => error,
    })
}

/// A boolean value.
pub(crate) fn boolean(expr: Expr) -> Value {
    Value::new(expr, Type::Boolean)
}

/// A row of values.
pub(crate) fn row(fields: Vec<(Option<std::sync::Arc<str>>, Value)>) -> Value {
    let data_type = Type::Row(fields.iter().map(|(name, value)| (name.clone(), value.data_type.clone())).collect());
    let exprs = fields.into_iter().map(|(_, value)| value.expr).collect();
    Value::new(kernels::call(Op::Row, exprs, data_type.clone()), data_type)
}

/// The error of NULLs that fit several operators.
pub(crate) fn ambiguous(name: &str) -> Error {
    Error::user("AMBIGUOUS_FUNCTION_CALL", format!("could not choose a best candidate for {name}; cast NULL to a type"))
}

/// The error of an operator that a type does not have.
pub(crate) fn no_operator(symbol: &str, of: &Type) -> Error {
    Error::user("TYPE_MISMATCH", format!("operator {symbol} cannot be applied to {of}"))
}

fn written_zone(expr: &Expr) -> Option<std::sync::Arc<str>> {
    let Expr::Literal(ScalarValue::Utf8(Some(text)), _) = expr else { return None };
    crate::kernels::parse::timestamp(text)?.zone.map(|zone| zone.as_str().into())
}

/// Whether syntax is a comparison without parentheses around it.
fn is_comparison(node: &ast::Expr) -> bool {
    use ast::BinaryOperator as B;
    match node {
        ast::Expr::BinaryOp { op, .. } => matches!(op, B::Eq | B::NotEq | B::Lt | B::LtEq | B::Gt | B::GtEq),
        ast::Expr::InList { .. } | ast::Expr::Between { .. } | ast::Expr::Like { .. } => true,
        _ => false,
    }
}
