//! Conditionals: CASE, IF, COALESCE, NULLIF, TRY, AND and OR.
//!
//! Invariant: a part of a conditional that is not needed for a row is not evaluated for it, so its errors do not leak.

use datafusion::{
    common::tree_node::{TreeNode, TreeNodeRecursion},
    logical_expr::{Case, Expr, utils::split_conjunction},
    sql::sqlparser::ast,
};
use headwater_engine::error::{Error, Result};

use super::{Binder, Value, at, expr::boolean, scope::Context};
use crate::{
    kernels::{self, Comparison, Op},
    types::Type,
};

/// Library functions that fail on ordinary data.
const FAILING: &[&str] = &[
    "date_parse",
    "parse_datetime",
    "from_iso8601_date",
    "from_iso8601_timestamp",
    "json_parse",
    "from_base64",
    "from_hex",
    "from_utf8",
    "url_decode",
    "date",
    "abs",
    "mod",
    "repeat",
    "sequence",
    "split_to_map",
    "parse_duration",
    "from_base",
];

/// Conditions that are joined one after the other.
const IN_A_LINE_MAX: usize = 64;

impl Binder<'_> {
    /// `CASE [operand] WHEN .. THEN .. ELSE .. END`
    pub(crate) fn case(
        &self,
        operand: Option<&ast::Expr>,
        whens: &[ast::CaseWhen],
        otherwise: Option<&ast::Expr>,
        context: &Context<'_>,
    ) -> Result<Value> {
        let context = &Context { filter: false, ..*context };
        let operand = operand.map(|node| self.expr(node, context)).transpose()?;
        let mut branches = Vec::with_capacity(whens.len());
        for when in whens {
            let condition = match &operand {
                None => {
                    let context = Context { place: "CASE WHEN clause", ..*context };
                    self.condition(&when.condition, &context)?
                }
                Some(operand) => {
                    let candidate = self.expr(&when.condition, context)?;
                    at(self.compare(Comparison::Equal, operand.clone(), candidate), &when.condition)?
                }
            };
            branches.push((condition.expr, self.expr(&when.result, context)?));
        }
        let otherwise = otherwise.map(|node| self.expr(node, context)).transpose()?;
        self.choose(branches, otherwise, "CASE results")
    }

    /// A choice among values by conditions.
    pub(crate) fn choose(&self, branches: Vec<(Expr, Value)>, otherwise: Option<Value>, what: &str) -> Result<Value> {
        let all = self.common_type(branches.iter().map(|(_, value)| value).chain(&otherwise), what)?;
        let fallible = branches.iter().any(|(_, value)| can_fail(&value.expr))
            || otherwise.as_ref().is_some_and(|value| can_fail(&value.expr));
        let hidden = all == Type::Boolean && fallible;
        let wrap = |value: Value| -> Result<Box<Expr>> {
            let value = self.convert(value, &all)?;
            let value = if hidden { self.cast(value, &Type::Tinyint, false)? } else { value };
            Ok(Box::new(value.expr))
        };
        let when_then_expr = branches
            .into_iter()
            .map(|(condition, value)| Ok((Box::new(condition), wrap(value)?)))
            .collect::<Result<Vec<_>>>()?;
        let null = || Value::null(all.clone());
        let else_expr = wrap(match otherwise {
            Some(value) => value,
            None => null()?,
        })?;
        let case = Expr::Case(Case { expr: None, when_then_expr, else_expr: Some(else_expr) });
        if hidden {
            return Ok(boolean(kernels::call(Op::Truth, vec![case], Type::Boolean)));
        }
        Ok(Value::new(case, all))
    }

    /// The functions that are syntax: they do not evaluate all of their arguments.
    pub(crate) fn conditional(&self, name: &str, args: &[&ast::Expr], context: &Context<'_>) -> Result<Option<Value>> {
        let count = |expected: std::ops::RangeInclusive<usize>| {
            if expected.contains(&args.len()) {
                return Ok(());
            }
            Err(Error::user("SYNTAX_ERROR", format!("invalid number of arguments for '{name}' function")))
        };
        Ok(Some(match (name, args) {
            ("if", [condition, rest @ ..]) => {
                count(2..=3)?;
                let place = Context { place: "IF condition", ..*context };
                let condition = self.condition(condition, &place)?;
                let mut values = rest.iter().map(|node| self.expr(node, context)).collect::<Result<Vec<_>>>()?;
                let otherwise = if values.len() > 1 { values.pop() } else { None };
                let chosen = values.pop().ok_or_else(|| Error::internal("IF has a result"))?;
                self.choose(vec![(condition.expr, chosen)], otherwise, "IF results")?
            }
            ("coalesce", args) => {
                count(2..=usize::MAX)?;
                let values = args.iter().map(|node| self.expr(node, context)).collect::<Result<Vec<_>>>()?;
                self.coalesce(values)?
            }
            ("nullif", [left, right]) => {
                let (left, right) = (self.expr(left, context)?, self.expr(right, context)?);
                let equal = self.compare(Comparison::Equal, left.clone(), right)?;
                let null = Value::null(left.data_type.clone())?;
                self.choose(vec![(equal.expr, null)], Some(left), "NULLIF")?
            }
            ("try", [inner]) => {
                let value = self.expr(inner, context)?;
                self.try_value(value)?
            }
            ("$json_fit", [ast::Expr::Cast { expr, data_type, .. }]) => self.fitted(expr, data_type, context)?,
            ("typeof", [inner]) => {
                let value = self.expr(inner, context)?;
                let shown = super::literals::text_value(&value.data_type.to_string().replace('"', ""));
                Value::new(shown.expr, Type::VARCHAR)
            }
            ("mod", [left, right]) => {
                let (left, right) = (self.expr(left, context)?, self.expr(right, context)?);
                self.arithmetic(crate::kernels::Arithmetic::Modulus, left, right).map_err(|error| {
                    match error.code().0 {
                        "TYPE_MISMATCH" => Error::user("FUNCTION_NOT_FOUND", format!("mod: {}", error.message())),
                        _ => error,
                    }
                })?
            }
            ("format", []) | ("format", [_]) => {
                return Err(Error::user("SYNTAX_ERROR", "there must be two or more arguments of format"));
            }
            ("format", [pattern, rest @ ..]) => {
                let pattern = self.expr(pattern, context)?;
                let pattern = self.coerce(pattern, &Type::VARCHAR)?;
                let values = rest.iter().map(|node| self.expr(node, context)).collect::<Result<Vec<_>>>()?;
                let types = values.iter().map(|value| value.data_type.clone()).collect();
                let exprs = std::iter::once(pattern.expr).chain(values.into_iter().map(|value| value.expr)).collect();
                Value::new(kernels::call(Op::Format(types), exprs, Type::VARCHAR), Type::VARCHAR)
            }
            ("greatest" | "least", [_, ..]) => {
                let values = args.iter().map(|node| self.expr(node, context)).collect::<Result<Vec<_>>>()?;
                self.extreme(name, values)?
            }
            ("if" | "nullif" | "try", _) => {
                count(usize::MAX..=usize::MAX)?;
                return Ok(None);
            }
            _ => return Ok(None),
        }))
    }

    /// `GREATEST`, `LEAST`
    fn extreme(&self, name: &str, values: Vec<Value>) -> Result<Value> {
        let unfit = |message: &str| {
            Error::user("FUNCTION_NOT_FOUND", format!("unexpected parameters for function {name}: {message}"))
        };
        let all = self.common_type(values.iter(), name).map_err(|error| unfit(error.message()))?;
        if !all.is_orderable() {
            return Err(unfit(&format!("{all} has no order")));
        }
        let exprs = values.into_iter().map(|value| Ok(self.convert(value, &all)?.expr)).collect::<Result<_>>()?;
        Ok(Value::new(kernels::call(Op::Extreme(name == "greatest"), exprs, all.clone()), all))
    }

    /// `COALESCE`
    pub(crate) fn coalesce(&self, mut values: Vec<Value>) -> Result<Value> {
        let all = self.common_type(values.iter(), "COALESCE operands")?;
        let last = values.pop().map(|value| self.convert(value, &all)).transpose()?;
        let branches = values
            .into_iter()
            .map(|value| {
                let value = self.convert(value, &all)?;
                Ok((value.expr.clone().is_not_null(), value))
            })
            .collect::<Result<Vec<_>>>()?;
        if branches.is_empty() {
            return last.ok_or_else(|| Error::internal("COALESCE has operands"));
        }
        self.choose(branches, last, "COALESCE operands")
    }

    /// `TRY(value)`
    pub(crate) fn try_value(&self, value: Value) -> Result<Value> {
        let (closed, captures) = self.close(&value.expr, &[])?;
        let data_type = value.data_type;
        Ok(Value::new(kernels::call(Op::Try(closed), captures, data_type.clone()), data_type))
    }

    /// What a cast makes of JSON_VALUE's text, where its failure is one of JSON_VALUE.
    fn fitted(&self, node: &ast::Expr, to: &ast::DataType, context: &Context<'_>) -> Result<Value> {
        let (text, to) = (self.expr(node, context)?, super::expr::named_type(to)?);
        let made = self.column(Some("text"), &text.data_type);
        let cast = self.cast(Value::new(super::column(&made), text.data_type), &to, false)?;
        let (closed, captures) = self.close(&cast.expr, &[made])?;
        let args = std::iter::once(text.expr).chain(captures).collect();
        Ok(Value::new(kernels::call(Op::Fit(closed), args, cast.data_type.clone()), cast.data_type))
    }

    /// `left AND right`, `left OR right`
    pub(crate) fn logical(
        &self,
        left: &ast::Expr,
        right: &ast::Expr,
        and: bool,
        context: &Context<'_>,
    ) -> Result<Value> {
        let context = Context { place: if and { "logical AND" } else { "logical OR" }, ..*context };
        let (mut nodes, mut first) = (vec![right], left);
        while let ast::Expr::BinaryOp { left, op, right } = first
            && *op == if and { ast::BinaryOperator::And } else { ast::BinaryOperator::Or }
        {
            nodes.push(right);
            first = left;
        }
        nodes.push(first);
        let parts = nodes.into_iter().rev().map(|node| Ok(self.condition(node, &context)?.expr));
        self.combine_all(parts.collect::<Result<_>>()?, and)
    }

    /// All of some conditions, or any of them; many as a tree that is no deeper than it must be.
    fn combine_all(&self, mut parts: Vec<Expr>, and: bool) -> Result<Value> {
        if parts.len() > IN_A_LINE_MAX {
            let later = parts.split_off(parts.len() / 2);
            let (first, second) = (self.combine_all(parts, and)?, self.combine_all(later, and)?);
            return self.combine(first.expr, second.expr, and);
        }
        let mut parts = parts.into_iter();
        let first = parts.next().ok_or_else(|| Error::internal("a condition has parts"))?;
        parts.try_fold(boolean(first), |all, part| self.combine(all.expr, part, and))
    }

    /// A conjunction or disjunction that does not evaluate its right side in vain.
    pub(crate) fn combine(&self, left: Expr, right: Expr, and: bool) -> Result<Value> {
        if !can_fail(&right) || has_subquery(&right) {
            return Ok(boolean(if and { left.and(right) } else { left.or(right) }));
        }
        let (closed, captures) = self.close(&right, &[])?;
        let args = std::iter::once(left.clone()).chain(captures).collect();
        let lazy = kernels::call(Op::Lazy(closed, and), args, Type::Boolean);
        if !and {
            return Ok(boolean(lazy));
        }
        if !can_fail(&left) {
            return Ok(boolean(left.and(lazy)));
        }
        // Subqueries stay conditions of their own: as such they are joins, and those know NULL.
        let joins = split_conjunction(&left).into_iter().filter(|part| has_subquery(part) && !can_fail(part)).cloned();
        Ok(boolean(joins.reduce(Expr::and).map_or(lazy.clone(), |joins| joins.and(lazy))))
    }
}

/// Whether evaluating an expression can fail for a row.
pub(crate) fn can_fail(expr: &Expr) -> bool {
    let mut fails = false;
    let walked = expr.apply(|node| {
        let here = match kernels::op_of(node) {
            Some(op) => op.can_fail(),
            None => match node {
                Expr::ScalarFunction(function) => FAILING.contains(&function.name()),
                _ => false,
            },
        };
        fails |= here;
        Ok(if here { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    fails || walked.is_err()
}

/// Whether an expression holds a subquery.
pub(crate) fn has_subquery(expr: &Expr) -> bool {
    expr.exists(|node| Ok(matches!(node, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_))))
        .unwrap_or(true)
}
