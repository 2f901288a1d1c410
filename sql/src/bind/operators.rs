//! Operators on bound values: arithmetic, concatenation, comparisons, IN and BETWEEN.
//!
//! Invariant: both sides of a comparison have one type; where DataFusion's comparison means the same it is used, so
//! that filters reach the files.

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType};
use datafusion::{
    common::ScalarValue,
    logical_expr::{BinaryExpr, Cast, Expr, Operator, expr::InList},
    sql::sqlparser::ast,
};
use headwater_engine::error::{Error, Result};

use super::{
    Binder, Value, at,
    expr::{Negation, boolean},
    scope::Context,
};
use crate::{
    kernels::{self, Arithmetic, Comparison, Op, decimal, interval},
    types::{Type, as_instants, coerces, common, decimal_of},
};

impl Binder<'_> {
    /// `left op right` of numbers, times and intervals.
    pub(crate) fn arithmetic(&self, kind: Arithmetic, left: Value, right: Value) -> Result<Value> {
        let mismatch = || {
            Error::user(
                "TYPE_MISMATCH",
                format!("'{}' cannot be applied to {}, {}", kind.symbol(), left.data_type, right.data_type),
            )
        };
        if let Some(moved) = time_with_zone_moved(kind, &left, &right) {
            return Ok(moved);
        }
        let unknown = [&left.data_type, &right.data_type].into_iter().filter(|of| **of == Type::Unknown).count();
        let spans = matches!(left.data_type, Type::Double | Type::Bigint)
            || matches!(right.data_type, Type::Double | Type::Bigint);
        if unknown == 2
            || unknown == 1 && kind == Arithmetic::Multiply && spans
            || kind == Arithmetic::Divide && left.data_type == Type::Unknown && right.data_type == Type::Double
        {
            return Err(super::expr::ambiguous(kind.symbol()));
        }
        if let Some((to_left, to_right, result)) = numeric_types(kind, &left.data_type, &right.data_type)? {
            let (a, b) = (self.convert(left, &to_left)?, self.convert(right, &to_right)?);
            return Ok(compute(kind, a, b, result));
        }
        if let Some(moved) = self.moved_per_zone(kind, &left, &right)? {
            return Ok(moved);
        }
        if let Some(of) = beside_null(kind, &left.data_type, &right.data_type)? {
            return Value::null(of);
        }
        let (left_type, right_type) = interval_operands(kind, &left.data_type, &right.data_type);
        let Some(result) = interval::result_of(kind, &left_type, &right_type) else { return Err(mismatch()) };
        let (a, b) = (self.convert(left, &left_type)?, self.convert(right, &right_type)?);
        Ok(compute(kind, a, b, result))
    }

    /// Timestamps in several zones and an interval, added or subtracted.
    fn moved_per_zone(&self, kind: Arithmetic, left: &Value, right: &Value) -> Result<Option<Value>> {
        let plain = |of: &Type| match of {
            Type::ZonedEach(p) => Type::TimestampTz(*p, "UTC".into()),
            other => other.clone(),
        };
        let is_interval = |of: &Type| matches!(of, Type::IntervalDaySecond | Type::IntervalYearMonth);
        let (a, b) = (plain(&left.data_type), plain(&right.data_type));
        let one_each = a != left.data_type && is_interval(&b) || b != right.data_type && is_interval(&a);
        let Some(Type::TimestampTz(p, _)) = interval::result_of(kind, &a, &b).filter(|_| one_each) else {
            return Ok(None);
        };
        let op = Op::MovedPerZone(Box::new(Op::Arithmetic(kind, a, b)));
        let args = vec![left.expr.clone(), right.expr.clone()];
        Ok(Some(Value::new(kernels::call(op, args, Type::ZonedEach(p)), Type::ZonedEach(p))))
    }

    /// `left || right`
    pub(crate) fn concat(&self, left: Value, right: Value) -> Result<Value> {
        let (a, b) = (left.data_type.clone(), right.data_type.clone());
        let none = || {
            Error::user("FUNCTION_NOT_FOUND", format!("unexpected parameters ({a}, {b}) for function concat"))
                .with_hint("cast both sides to varchar")
        };
        let element = |of: &Type| match of {
            Type::Array(element) => Some((**element).clone()),
            _ => None,
        };
        let (left, right, both) = match (&a, &b) {
            (Type::Varchar(x), Type::Varchar(y)) => {
                let length = x.zip(*y).and_then(|(x, y)| x.checked_add(y));
                let _ = length;
                return Ok(joined(left, right, Type::VARCHAR));
            }
            (Type::Unknown, Type::Unknown) => return Err(super::expr::ambiguous("||")),
            (Type::Unknown, Type::Array(of)) | (Type::Array(of), Type::Unknown) if **of == Type::Unknown => {
                return Value::null(Type::array(Type::Unknown));
            }
            (Type::Unknown, Type::Array(_) | Type::Varchar(None) | Type::Char(_) | Type::Varbinary)
            | (Type::Array(_) | Type::Varchar(None) | Type::Char(_) | Type::Varbinary, Type::Unknown) => {
                return Err(super::expr::ambiguous("||"));
            }
            (Type::Unknown, other) | (other, Type::Unknown) => {
                return Value::null(Type::array(other.clone()));
            }
            (Type::Char(x), Type::Char(y)) => return Ok(joined(left, right, Type::Char((x + y).min(65_536)))),
            (Type::Char(x), Type::Varchar(y)) | (Type::Varchar(y), Type::Char(x)) => match y {
                Some(y) => {
                    let whole = Type::Char((x + y).min(65_536));
                    let (x, y) = (Type::Char(*x), Type::Char((*y).max(1)));
                    let (to_a, to_b) = if matches!(a, Type::Char(_)) { (&x, &y) } else { (&y, &x) };
                    return Ok(joined(self.cast(left, to_a, false)?, self.cast(right, to_b, false)?, whole));
                }
                None => return Err(none()),
            },
            (Type::Varbinary, Type::Varbinary) => (left, right, Type::Varbinary),
            _ => {
                if let Some(both) = common(&a, &b).filter(|both| matches!(both, Type::Array(_))) {
                    (left, right, both)
                } else if let Some(both) = element(&a).and_then(|inner| common(&inner, &b)) {
                    let (array, one) = (self.convert(left, &Type::array(both.clone()))?, self.convert(right, &both)?);
                    return Ok(with_element(array, one, true));
                } else if let Some(both) = element(&b).and_then(|inner| common(&inner, &a)) {
                    let (one, array) = (self.convert(left, &both)?, self.convert(right, &Type::array(both))?);
                    return Ok(with_element(array, one, false));
                } else {
                    return Err(none());
                }
            }
        };
        Ok(joined(self.convert(left, &both)?, self.convert(right, &both)?, both))
    }

    pub(crate) fn compare_nodes(
        &self,
        kind: Comparison,
        left: &ast::Expr,
        right: &ast::Expr,
        context: &Context<'_>,
    ) -> Result<Value> {
        let (left, right) = (self.expr(left, context)?, self.expr(right, context)?);
        self.compare(kind, left, right)
    }

    /// A comparison of two values.
    pub(crate) fn compare(&self, kind: Comparison, left: Value, right: Value) -> Result<Value> {
        let cannot = || {
            Error::user(
                "TYPE_MISMATCH",
                format!("cannot apply operator: {} {} {}", left.data_type, kind.symbol(), right.data_type),
            )
            .with_hint("cast one side to the type of the other")
        };
        let both = as_instants(common(&left.data_type, &right.data_type).ok_or_else(cannot)?);
        if let Some(scale) = wider_scale(&left, &right) {
            let wide = DataType::Decimal256(DECIMAL256_MAX_PRECISION, scale);
            let side = |value: Value| Box::new(Expr::Cast(Cast::new(Box::new(value.expr), wide.clone())));
            return Ok(boolean(Expr::BinaryExpr(BinaryExpr::new(side(left), operator(kind), side(right)))));
        }
        let allowed = match kind {
            Comparison::Equal | Comparison::NotEqual | Comparison::Distinct | Comparison::NotDistinct => {
                both.is_comparable()
            }
            _ => both.is_orderable(),
        };
        if !allowed {
            return Err(cannot());
        }
        if matches!(both, Type::TimeTz(_)) {
            let instant = |value: Value| -> Result<Value> {
                let value = self.convert(value, &both)?;
                let part = Op::TimeTzPart(kernels::time_tz::Part::Instant);
                Ok(Value::new(kernels::call(part, vec![value.expr], Type::Bigint), Type::Bigint))
            };
            return self.compare(kind, instant(left)?, instant(right)?);
        }
        let (left, right) = (self.convert(left, &both)?.expr, self.convert(right, &both)?.expr);
        let plain = match &both {
            Type::Double | Type::Real => float_is_plain(kind, &left, &right),
            Type::Array(_) | Type::Map(..) | Type::Row(_) | Type::Char(_) | Type::Unknown => false,
            _ => true,
        };
        if plain {
            return Ok(boolean(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), operator(kind), Box::new(right)))));
        }
        Ok(boolean(kernels::call(Op::Compare(kind, both), vec![left, right], Type::Boolean)))
    }

    pub(crate) fn between(
        &self,
        node: &ast::Expr,
        low: &ast::Expr,
        high: &ast::Expr,
        negated: bool,
        context: &Context<'_>,
    ) -> Result<Value> {
        let (value, low, high) = (self.expr(node, context)?, self.expr(low, context)?, self.expr(high, context)?);
        let from = self.compare(Comparison::GreaterOrEqual, value.clone(), low)?;
        let to = self.compare(Comparison::LessOrEqual, value, high)?;
        let within = from.expr.and(to.expr);
        Ok(boolean(if negated { within.negated_keeping_null() } else { within }))
    }

    pub(crate) fn in_list(
        &self,
        node: &ast::Expr,
        list: &[ast::Expr],
        negated: bool,
        context: &Context<'_>,
    ) -> Result<Value> {
        let value = self.expr(node, context)?;
        let mut candidates = self.exprs(list, context)?;
        if let [_] = candidates.as_slice()
            && let Some(only) = candidates.pop_if(|only| wider_scale(&value, only).is_some())
        {
            let equal = self.compare(Comparison::Equal, value, only)?.expr;
            return Ok(boolean(if negated { equal.negated_keeping_null() } else { equal }));
        }
        let both = at(self.common_type(std::iter::once(&value).chain(&candidates), "values of IN"), node)?;
        let both = as_instants(both);
        let simple = !matches!(
            both,
            Type::Double | Type::Real | Type::Array(_) | Type::Map(..) | Type::Row(_) | Type::Char(_) | Type::Unknown
        );
        let value = self.convert(value, &both)?;
        let candidates = candidates.into_iter().map(|one| self.convert(one, &both)).collect::<Result<Vec<_>>>()?;
        if simple {
            let list = candidates.into_iter().map(|one| one.expr).collect();
            return Ok(boolean(Expr::InList(InList::new(Box::new(value.expr), list, negated))));
        }
        let mut any: Option<Expr> = None;
        for one in candidates {
            let equal = self.compare(Comparison::Equal, value.clone(), one)?.expr;
            any = Some(match any {
                Some(known) => known.or(equal),
                None => equal,
            });
        }
        let any = any.ok_or_else(|| Error::user("SYNTAX_ERROR", "IN needs at least one value"))?;
        Ok(boolean(if negated { any.negated_keeping_null() } else { any }))
    }
}

/// What a comparison or another test compares first, if an expression is one.
fn tested(node: &ast::Expr) -> Option<&ast::Expr> {
    use ast::{BinaryOperator as B, Expr as E};
    match node {
        E::BinaryOp { left, op: B::Eq | B::NotEq | B::Lt | B::LtEq | B::Gt | B::GtEq, .. }
        | E::IsDistinctFrom(left, _)
        | E::IsNotDistinctFrom(left, _) => Some(left),
        E::IsNull(expr) | E::IsNotNull(expr) => Some(expr),
        E::Between { expr, .. } | E::InList { expr, .. } | E::InSubquery { expr, .. } | E::Like { expr, .. } => {
            Some(expr)
        }
        _ => None,
    }
}

/// Whether an expression tests a test, which takes parentheses.
pub(crate) fn is_chained(node: &ast::Expr) -> bool {
    let is_not = |node: &ast::Expr| matches!(node, ast::Expr::UnaryOp { op: ast::UnaryOperator::Not, .. });
    let against_not = matches!(node, ast::Expr::BinaryOp { right, .. } if tested(node).is_some() && is_not(right));
    against_not || tested(node).is_some_and(|inner| tested(inner).is_some())
}

/// The scale that a decimal is compared with one written out, where no decimal has room for the digits of both.
fn wider_scale(a: &Value, b: &Value) -> Option<i8> {
    let written = |value: &Value| match &value.expr {
        Expr::ScalarFunction(call) if matches!(kernels::op_of(&value.expr), Some(Op::Cast { .. })) => {
            matches!(call.args.as_slice(), [Expr::Literal(..)])
        }
        expr => matches!(expr, Expr::Literal(..)),
    };
    let (a, b) = if written(a) || written(b) { (&a.data_type, &b.data_type) } else { return None };
    if !matches!((a, b), (Type::Decimal(..), _) | (_, Type::Decimal(..))) {
        return None;
    }
    let ((p, s), (q, t)) = (decimal_of(a)?, decimal_of(b)?);
    let scale = s.max(t);
    let whole = (i16::from(p) - i16::from(s)).max(i16::from(q) - i16::from(t));
    (whole + i16::from(scale) > i16::from(DECIMAL128_MAX_PRECISION)).then_some(scale)
}

/// An array with one more element at its end or its beginning; without an element there is no array.
fn with_element(array: Value, one: Value, at_end: bool) -> Value {
    let of = array.data_type;
    Value::new(kernels::call(Op::Appended(at_end), vec![array.expr, one.expr], of.clone()), of)
}

fn joined(left: Value, right: Value, of: Type) -> Value {
    Value::new(kernels::call(Op::Concat(of.clone()), vec![left.expr, right.expr], of.clone()), of)
}

fn compute(kind: Arithmetic, left: Value, right: Value, result: Type) -> Value {
    let op = Op::Arithmetic(kind, left.data_type, right.data_type);
    Value::new(kernels::call(op, vec![left.expr, right.expr], result.clone()), result)
}

/// Operand and result types of arithmetic on numbers; `None` if a side is no number.
fn numeric_types(kind: Arithmetic, left: &Type, right: &Type) -> Result<Option<(Type, Type, Type)>> {
    let (left, right) = match (left, right) {
        (Type::Unknown, Type::Unknown) => (&Type::Bigint, &Type::Bigint),
        (Type::Unknown, Type::Decimal(..)) => (&Type::Decimal(1, 0), right),
        (Type::Decimal(..), Type::Unknown) => (left, &Type::Decimal(1, 0)),
        (Type::Unknown, other) | (other, Type::Unknown) if other.is_numeric() => (other, other),
        pair => pair,
    };
    if !left.is_numeric() || !right.is_numeric() {
        return Ok(None);
    }
    let both = |of: Type| Ok(Some((of.clone(), of.clone(), of)));
    match (left, right) {
        (Type::Double, _) | (_, Type::Double) => both(Type::Double),
        (Type::Real, _) | (_, Type::Real) => both(Type::Real),
        (Type::Decimal(..), _) | (_, Type::Decimal(..)) => {
            let (Some((p, s)), Some((q, t))) = (decimal_of(left), decimal_of(right)) else { return Ok(None) };
            let (precision, scale) = decimal::result_of(kind, (p, s), (q, t))?;
            Ok(Some((Type::Decimal(p, s), Type::Decimal(q, t), Type::Decimal(precision, scale))))
        }
        _ => both(if coerces(left, right) { right.clone() } else { left.clone() }),
    }
}

/// The type of a sum or difference of a time or an interval and NULL, where that is not ambiguous.
fn beside_null(kind: Arithmetic, left: &Type, right: &Type) -> Result<Option<Type>> {
    use Type as T;
    let of = match (left, right) {
        (T::Unknown, of) | (of, T::Unknown) => of,
        _ => return Ok(None),
    };
    let is_time = matches!(
        of,
        T::Date
            | T::Time(_)
            | T::TimeTz(_)
            | T::Timestamp(_)
            | T::TimestampTz(..)
            | T::IntervalDaySecond
            | T::IntervalYearMonth
    );
    if !is_time {
        return Ok(None);
    }
    Ok(Some(match (kind, left, of) {
        (Arithmetic::Add, _, T::Date) | (Arithmetic::Subtract, T::Date, _) => T::Date,
        (Arithmetic::Add, _, T::Time(p)) => T::Time((*p).max(3)),
        (Arithmetic::Subtract, T::IntervalDaySecond | T::IntervalYearMonth, _) => of.clone(),
        (Arithmetic::Subtract, T::Unknown, T::Date | T::Time(_) | T::Timestamp(_) | T::TimestampTz(..)) => {
            T::IntervalDaySecond
        }
        (Arithmetic::Add | Arithmetic::Subtract, ..) => return Err(super::expr::ambiguous(kind.symbol())),
        _ => return Ok(None),
    }))
}

/// Operand types of arithmetic with times and intervals.
fn interval_operands(kind: Arithmetic, left: &Type, right: &Type) -> (Type, Type) {
    let is_interval = |of: &Type| matches!(of, Type::IntervalDaySecond | Type::IntervalYearMonth);
    let factor = |of: &Type| match of {
        of if of.is_integer() => Type::Bigint,
        Type::Decimal(..) | Type::Real => Type::Double,
        other => other.clone(),
    };
    match (left, right) {
        (Type::Unknown, other) if is_interval(other) => (other.clone(), other.clone()),
        (other, Type::Unknown) if is_interval(other) => (other.clone(), other.clone()),
        (a, b) if is_interval(a) && is_interval(b) => (a.clone(), b.clone()),
        (a, b) if is_interval(a) => (a.clone(), factor(b)),
        (a, b) if is_interval(b) => (factor(a), b.clone()),
        (a, b) if kind == Arithmetic::Subtract && *b != Type::Unknown => match common(a, b).map(as_instants) {
            Some(both) => (both.clone(), both),
            None => (a.clone(), b.clone()),
        },
        (a, b) => (a.clone(), b.clone()),
    }
}

fn operator(kind: Comparison) -> Operator {
    match kind {
        Comparison::Equal => Operator::Eq,
        Comparison::NotEqual => Operator::NotEq,
        Comparison::Less => Operator::Lt,
        Comparison::LessOrEqual => Operator::LtEq,
        Comparison::Greater => Operator::Gt,
        Comparison::GreaterOrEqual => Operator::GtEq,
        Comparison::Distinct => Operator::IsDistinctFrom,
        Comparison::NotDistinct => Operator::IsNotDistinctFrom,
    }
}

/// Arrow orders every NaN above the numbers and -0.0 below 0.0; with a plain number on the right side of `<`, `<=` or
/// `=` that is what IEEE says too.
fn float_is_plain(kind: Comparison, left: &Expr, right: &Expr) -> bool {
    let number = |expr: &Expr| match expr {
        Expr::Literal(ScalarValue::Float64(Some(value)), _) => !value.is_nan() && *value != 0.0,
        Expr::Literal(ScalarValue::Float32(Some(value)), _) => !value.is_nan() && *value != 0.0,
        _ => false,
    };
    match kind {
        Comparison::Equal => number(left) || number(right),
        Comparison::Less | Comparison::LessOrEqual => number(right),
        Comparison::Greater | Comparison::GreaterOrEqual => number(left),
        Comparison::NotEqual | Comparison::Distinct | Comparison::NotDistinct => false,
    }
}

/// A `time with time zone` and an interval of days to seconds, added or subtracted.
fn time_with_zone_moved(kind: Arithmetic, left: &Value, right: &Value) -> Option<Value> {
    let (time, span, forwards) = match (kind, &left.data_type, &right.data_type) {
        (Arithmetic::Add, Type::TimeTz(_), Type::IntervalDaySecond) => (left, right, true),
        (Arithmetic::Add, Type::IntervalDaySecond, Type::TimeTz(_)) => (right, left, true),
        (Arithmetic::Subtract, Type::TimeTz(_), Type::IntervalDaySecond) => (left, right, false),
        _ => return None,
    };
    let args = vec![time.expr.clone(), span.expr.clone()];
    Some(Value::new(kernels::call(Op::TimeTzMove(forwards), args, time.data_type.clone()), time.data_type.clone()))
}
