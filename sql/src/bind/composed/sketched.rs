//! Aggregates whose state is a sketch.
//!
//! Invariant: over a window's frame, with DISTINCT or with ORDER BY an aggregate is computed of all its values.

use std::sync::Arc;

use datafusion::{
    common::ScalarValue,
    functions_aggregate::array_agg::array_agg_udaf,
    logical_expr::{AggregateUDF, Expr, SortExpr, expr::AggregateFunction},
};
use headwater_engine::error::{Error, Result};

use super::{super::Value, Composition, With, is_number, is_whole};
use crate::{
    bind::{expr::row, literal},
    kernels::{self, Op, collected::Collected},
    sketches::{
        Sketch,
        aggregate::{Kind, aggregate},
        hll::Hll,
    },
    types::Type,
};

impl Composition<'_, '_> {
    /// Whether a sketch may stand for the values.
    pub(super) fn is_plain(&self) -> bool {
        self.call.over.is_none() && !self.call.distinct && self.call.order_by.is_empty()
    }

    fn of(&self, kind: Kind, args: Vec<Value>, result: Type) -> Result<Value> {
        self.inner(aggregate(kind), args, result, With::default())
    }

    /// `approx_distinct(x [, error])`
    pub(super) fn distinct_count(&self, x: &Value, error: Option<&Value>) -> Result<Value> {
        let x = &self.binder.instants_of(x.clone())?;
        let error = error.map(|error| self.binder.convert(error.clone(), &Type::Double)).transpose()?;
        if let Some(Expr::Literal(ScalarValue::Float64(Some(error)), _)) = error.as_ref().map(|error| &error.expr) {
            Hll::bits_for(*error)?;
        }
        if self.call.over.is_some() || x.data_type == Type::Unknown {
            let with = With { distinct: true, ..With::default() };
            let count = datafusion::functions_aggregate::count::count_udaf();
            return self.inner(count, vec![x.clone()], Type::Bigint, with);
        }
        self.of(Kind::ApproxDistinct, std::iter::once(x.clone()).chain(error).collect(), Type::Bigint)
    }

    /// The aggregates that give sketches.
    pub(super) fn sketched(&self, name: &str, args: &[Value]) -> Result<Option<Value>> {
        let convert = |value: &Value, to: &Type| self.binder.convert(value.clone(), to);
        let rank = |x: &Value| match &x.data_type {
            of if of.is_integer() || *of == Type::Unknown => Some((Type::Bigint, Sketch::QDigestBigint)),
            Type::Real => Some((Type::Real, Sketch::QDigestReal)),
            of if of.is_numeric() => Some((Type::Double, Sketch::QDigestDouble)),
            _ => None,
        };
        Ok(Some(match (name, args) {
            ("approx_set", [x]) => {
                let x = match &x.data_type {
                    of if of.is_integer() => convert(x, &Type::Bigint)?,
                    of if of.is_numeric() => convert(x, &Type::Double)?,
                    Type::Varchar(_) | Type::Char(_) => convert(x, &Type::VARCHAR)?,
                    Type::Unknown => return Err(super::super::expr::ambiguous(name)),
                    _ => return Ok(None),
                };
                self.of(Kind::ApproxSet, vec![x], Type::Sketch(Sketch::HyperLogLog))?
            }
            ("make_set_digest", [x]) => self.of(Kind::SetDigest, vec![x.clone()], Type::Sketch(Sketch::SetDigest))?,
            ("merge_set_digest", [x]) if x.data_type == Type::Sketch(Sketch::SetDigest) => {
                self.of(Kind::Merge(Sketch::SetDigest), vec![x.clone()], x.data_type.clone())?
            }
            ("merge", [x]) => match &x.data_type {
                Type::Sketch(Sketch::Color | Sketch::SetDigest) => return Ok(None),
                Type::Sketch(sketch) => self.of(Kind::Merge(*sketch), vec![x.clone()], x.data_type.clone())?,
                _ => return Ok(None),
            },
            ("tdigest_agg", [x, rest @ ..]) if rest.len() < 2 && is_number(x) && rest.iter().all(is_number) => {
                let args = args.iter().map(|arg| convert(arg, &Type::Double)).collect::<Result<_>>()?;
                self.of(Kind::TDigest, args, Type::Sketch(Sketch::TDigest))?
            }
            ("qdigest_agg", [x, rest @ ..]) if rest.len() < 3 && rest.iter().all(is_number) => {
                let Some((to, sketch)) = rank(x) else { return Ok(None) };
                let mut all = vec![convert(x, &to)?];
                for one in rest {
                    all.push(convert(one, &Type::Double)?);
                }
                self.of(Kind::QDigest(sketch), all, Type::Sketch(sketch))?
            }
            _ => return Ok(None),
        }))
    }

    /// `numeric_histogram(buckets, x [, weight])`
    pub(super) fn numeric_histogram(&self, n: &Value, x: &Value, rest: &[Value]) -> Result<Option<Value>> {
        let fits = is_whole(n) && is_number(x) && rest.len() < 2 && rest.iter().all(is_number);
        if !fits {
            return Ok(None);
        }
        let single = if x.data_type == Type::Double { Type::Double } else { Type::Real };
        let mut args = vec![self.binder.cast(x.clone(), &Type::Double, false)?, n.clone()];
        if single == Type::Real {
            let real = self.binder.cast(x.clone(), &Type::Real, false)?;
            args[0] = self.binder.convert(real, &Type::Double)?;
        }
        for weight in rest {
            args.push(self.binder.convert(weight.clone(), &Type::Double)?);
        }
        args[1] = self.binder.convert(args[1].clone(), &Type::Bigint)?;
        let doubles = Type::map(Type::Double, Type::Double);
        let found = self.of(Kind::Histogram, args, doubles)?;
        if single == Type::Double {
            return Ok(Some(found));
        }
        self.binder.cast(found, &Type::map(Type::Real, Type::Real), false).map(Some)
    }

    /// `approx_most_frequent(buckets, x, capacity)`
    pub(super) fn most_frequent(&self, n: &Value, x: &Value, capacity: &Value) -> Result<Option<Value>> {
        let (is_text, key) = match &x.data_type {
            Type::Varchar(_) | Type::Char(_) => (true, Type::VARCHAR),
            of if of.is_integer() => (false, Type::Bigint),
            _ => return Ok(None),
        };
        if !is_whole(n) || !is_whole(capacity) {
            return Ok(None);
        }
        let args = vec![
            self.binder.convert(x.clone(), &key)?,
            self.binder.convert(n.clone(), &Type::Bigint)?,
            self.binder.convert(capacity.clone(), &Type::Bigint)?,
        ];
        self.of(Kind::Frequent(is_text), args, Type::map(key, Type::Bigint)).map(Some)
    }

    /// `skewness`, `kurtosis`, `checksum`
    pub(super) fn moment(&self, name: &str, x: &Value) -> Result<Option<Value>> {
        let (kind, result) = match name {
            "skewness" => (Kind::Skewness, Type::Double),
            "kurtosis" => (Kind::Kurtosis, Type::Double),
            _ => return self.of(Kind::Checksum, vec![x.clone()], Type::Varbinary).map(Some),
        };
        if !is_number(x) {
            return Ok(None);
        }
        let x = self.binder.convert(x.clone(), &Type::Double)?;
        self.of(kind, vec![x], result).map(Some)
    }

    /// Refuses DISTINCT of values without equality, and an order by anything but the values.
    pub(super) fn check_distinct(&self, x: &Value) -> Result<()> {
        if !self.call.distinct {
            return Ok(());
        }
        if !x.data_type.is_comparable() {
            let message = format!("DISTINCT can only be applied to comparable types, not {}", x.data_type);
            return Err(Error::user("TYPE_MISMATCH", message));
        }
        let order = self.binder.sort_exprs(&self.call.order_by, self.inner)?;
        if order.iter().any(|sort| sort.expr != x.expr) {
            let message = "for an aggregate with DISTINCT, ORDER BY expressions must be among its arguments";
            return Err(Error::user("EXPRESSION_NOT_IN_DISTINCT", message));
        }
        Ok(())
    }

    /// Distinct values, collected and then sorted: of two orders DataFusion keeps one.
    pub(super) fn sorted_distinct(
        &self,
        udaf: Arc<AggregateUDF>,
        args: Vec<Expr>,
        data_type: Type,
        (filter, sort): (Option<Expr>, &SortExpr),
    ) -> Result<Value> {
        let call = AggregateFunction::new_udf(udaf, args, true, filter.map(Box::new), Vec::new(), None);
        let values = self.binder.collect(self.call, Expr::AggregateFunction(call), data_type.clone(), self.outer)?;
        let kind = Collected::Sorted { descending: !sort.asc, nulls_first: sort.nulls_first };
        Ok(Value::new(kernels::call(Op::Collected(kind), vec![values.expr], data_type.clone()), data_type))
    }

    /// The values of a group or a frame in the order the call asks for: sorted once collected, so that other aggregates of
    /// the query see the rows as they come.
    pub(super) fn gathered(&self, value: Value, filter: Option<Expr>) -> Result<Value> {
        let list = Type::array(value.data_type.clone());
        let pairs = self.call.over.is_some() || !self.call.distinct;
        match self.call.order_by.as_slice() {
            [] => {}
            [one] if pairs => {
                let key = self.binder.expr(&one.expr, self.inner)?;
                super::super::aggregates::sortable(&key)?;
                let key = self.binder.instants_of(key)?;
                let order = (!one.options.asc.unwrap_or(true), one.options.nulls_first.unwrap_or(false));
                return self.sorted_over(&value, key, order, filter);
            }
            several if pairs => {
                let (mut keys, mut descending, mut nulls_first) = (Vec::new(), 0, 0);
                for (at, one) in several.iter().enumerate().take(u64::BITS as usize) {
                    let key = self.binder.expr(&one.expr, self.inner)?;
                    super::super::aggregates::sortable(&key)?;
                    keys.push((None, self.binder.instants_of(key)?));
                    descending |= u64::from(!one.options.asc.unwrap_or(true)) << at;
                    nulls_first |= u64::from(one.options.nulls_first.unwrap_or(false)) << at;
                }
                let kind = Collected::SortedByKeys { descending, nulls_first };
                return self.ordered_over(&value, row(keys), kind, filter);
            }
            _ => {}
        }
        self.inner(array_agg_udaf(), vec![value], list, With { filter, ..With::default() })
    }

    /// The values of a frame in the order of a key: descending, and NULLs first, or not.
    pub(super) fn sorted_over(
        &self,
        value: &Value,
        key: Value,
        (descending, nulls_first): (bool, bool),
        filter: Option<Expr>,
    ) -> Result<Value> {
        self.ordered_over(value, key, Collected::SortedBy { descending, nulls_first }, filter)
    }

    /// The values of a frame in an order of their keys.
    fn ordered_over(&self, value: &Value, key: Value, kind: Collected, filter: Option<Expr>) -> Result<Value> {
        let pair = row(vec![(None, key), (None, value.clone())]);
        let list = Type::array(pair.data_type.clone());
        let with = With { filter, unordered: true, ..With::default() };
        let pairs = self.inner(array_agg_udaf(), vec![pair], list, with)?;
        let of = Type::array(value.data_type.clone());
        Ok(Value::new(kernels::call(Op::Collected(kind), vec![pairs.expr], of.clone()), of))
    }

    /// `approx_percentile(x, weight, shares)`: the shares of a digest, then one or all of them.
    pub(super) fn digest_percentile(&self, x: Value, weight: Value, share: Value, result: Type) -> Result<Value> {
        let x = self.binder.convert(x, &Type::Double)?;
        let found = self.of(Kind::Percentile, vec![x, weight, share], Type::array(Type::Double))?;
        let single = Value::new(literal(ScalarValue::Boolean(Some(true))), Type::Boolean);
        let args = vec![found.expr, single.expr];
        Ok(Value::new(kernels::call(Op::Collected(Collected::Quantiles), args, result.clone()), result))
    }
}
