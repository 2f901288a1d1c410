//! Aggregates that gather the values of a group and compute over the array.
//!
//! Invariant: what an argument other than the values says is the same for the whole group.

use datafusion::{
    common::ScalarValue,
    functions_aggregate::{array_agg::array_agg_udaf, first_last::first_value_udaf},
    logical_expr::{Expr, SortExpr},
    sql::sqlparser::ast,
};
use headwater_engine::error::{Error, Result};

use super::{
    super::{
        Value,
        calls::Argument,
        expr::{ambiguous, row},
        literal,
        literals::text_value,
    },
    Composition, With,
};
use crate::{
    kernels::{
        self, Op,
        collected::{Collected, Overflow},
    },
    types::Type,
};

impl Composition<'_, '_> {
    pub(super) fn extremes_by(&self, x: &Value, y: &Value, n: &Value) -> Result<Value> {
        let n = self.binder.coerce(n.clone(), &Type::Bigint)?;
        let list = Type::array(x.data_type.clone());
        if self.call.over.is_some() {
            let known = Some(y.expr.clone().is_not_null());
            let values = self.sorted_over(x, self.key(y), (self.is_greatest(), false), known)?;
            let n = self.settled(n)?;
            let call = kernels::call(Op::Collected(Collected::Prefix), vec![values.expr, n.expr], list.clone());
            return Ok(Value::new(call, list));
        }
        let order = vec![SortExpr::new(self.key(y).expr, !self.is_greatest(), false)];
        let with = With { order, filter: Some(y.expr.clone().is_not_null()), ..With::default() };
        let values = self.inner(array_agg_udaf(), vec![x.clone()], list.clone(), with)?;
        let n = self.settled(n)?;
        let call = kernels::call(Op::Collected(Collected::Prefix), vec![values.expr, n.expr], list.clone());
        Ok(Value::new(call, list))
    }

    pub(super) fn listagg(&self, x: &Value, separator: Value) -> Result<Value> {
        let x = self.binder.coerce(x.clone(), &Type::VARCHAR)?;
        let known = x.expr.clone().is_not_null();
        let mut args = vec![self.binder.coerce(separator, &Type::VARCHAR)?];
        let overflow = match self.call.overflow {
            Some(ast::ListAggOnOverflow::Truncate { filler, with_count }) => {
                args.push(match filler {
                    Some(node) => self.binder.expr(node, self.inner)?,
                    None => text_value("..."),
                });
                Overflow::Truncate { count: *with_count }
            }
            Some(ast::ListAggOnOverflow::Error) | None => Overflow::Error,
        };
        self.collected_with(Collected::Join(overflow), x, Some(known), args, Type::VARCHAR)
    }

    pub(super) fn percentile(&self, x: &Value, weight: Option<&Value>, share: &Value) -> Result<Value> {
        if share.data_type == Type::Unknown {
            return Err(ambiguous(&self.call.name));
        }
        let x = match &x.data_type {
            of if of.is_integer() => self.binder.convert(x.clone(), &Type::Bigint)?,
            Type::Decimal(..) => self.binder.convert(x.clone(), &Type::Real)?,
            _ => x.clone(),
        };
        let (share, result) = match &share.data_type {
            Type::Array(_) => {
                (self.binder.coerce(share.clone(), &Type::array(Type::Double))?, Type::array(x.data_type.clone()))
            }
            _ => (self.binder.coerce(share.clone(), &Type::Double)?, x.data_type.clone()),
        };
        let weight = match weight {
            Some(weight) => self.binder.coerce(weight.clone(), &Type::Double)?,
            None => Value::new(literal(ScalarValue::Float64(Some(1.0))), Type::Double),
        };
        if self.is_plain() {
            return self.digest_percentile(x, weight, share, result);
        }
        let known = x.expr.clone().is_not_null().and(weight.expr.clone().is_not_null());
        let pair = row(vec![(None, x), (None, weight)]);
        self.collected(Collected::Percentile, pair, Some(known), Some(share), result)
    }

    /// `reduce_agg(x, state, (state, x) -> state, (state, state) -> state)`: the values folded in their order.
    pub(super) fn folded(&self, x: &Value, nodes: &[&ast::Expr]) -> Result<Value> {
        let [_, initial, ast::Expr::Lambda(step), ast::Expr::Lambda(combine)] = nodes else {
            return Err(Error::user("FUNCTION_NOT_FOUND", "reduce_agg takes a value, a state and two lambdas"));
        };
        let initial = self.binder.expr(initial, self.inner)?;
        let list = Type::array(x.data_type.clone());
        let with = With { filter: Some(x.expr.clone().is_not_null()), ..With::default() };
        let values = self.inner(array_agg_udaf(), vec![x.clone()], list, with)?;
        let Some(state) = combine.params.iter().next() else {
            return Err(Error::user("INVALID_ARGUMENTS", "the last lambda of reduce_agg takes two states"));
        };
        let same = ast::LambdaFunction {
            params: ast::OneOrManyWithParens::One(state.clone()),
            body: Box::new(ast::Expr::Identifier(state.name.clone())),
            syntax: combine.syntax,
        };
        let args =
            vec![Argument::Value(values), Argument::Value(initial), Argument::Lambda(step), Argument::Lambda(&same)];
        self.binder.scalar_call("reduce", args, self.outer)
    }

    /// An expression over the values collected in an array.
    pub(super) fn collected(
        &self,
        kind: Collected,
        value: Value,
        filter: Option<Expr>,
        extra: Option<Value>,
        result: Type,
    ) -> Result<Value> {
        self.collected_with(kind, value, filter, extra.into_iter().collect(), result)
    }

    /// A further argument: itself if it is the same for all rows, else that of the first row.
    pub(super) fn settled(&self, argument: Value) -> Result<Value> {
        if argument.expr.column_refs().is_empty() {
            return Ok(argument);
        }
        let with = With { ignore_nulls: true, ..With::default() };
        self.inner(first_value_udaf(), vec![argument.clone()], argument.data_type, with)
    }

    pub(super) fn collected_with(
        &self,
        kind: Collected,
        value: Value,
        filter: Option<Expr>,
        extra: Vec<Value>,
        result: Type,
    ) -> Result<Value> {
        let values = self.gathered(value, filter)?;
        let mut args = vec![values.expr];
        for one in extra {
            args.push(self.settled(one)?.expr);
        }
        Ok(Value::new(kernels::call(Op::Collected(kind), args, result.clone()), result))
    }
}
