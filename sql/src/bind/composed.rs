//! Aggregates made of others: an inner aggregate, often of collected values, and an expression over its result.
//!
//! ```text
//!  avg(decimal)  = sum(decimal(38)) / count        max_by(x, y) = first_value(x ORDER BY y DESC) FILTER (y IS NOT NULL)
//!  count_if(c)   = count(CASE WHEN c THEN 1 END)   map_agg(k, v) = map(array_agg(row(k, v)) FILTER (k IS NOT NULL))
//! ```
//!
//! Invariant: an aggregate of the library's own goes before one composed here.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::{
    common::ScalarValue,
    functions_aggregate::{
        average::avg_udaf,
        bit_and_or_xor::{bit_and_udaf, bit_or_udaf, bit_xor_udaf},
        bool_and_or::{bool_and_udaf, bool_or_udaf},
        correlation::corr_udaf,
        count::count_udaf,
        covariance::{covar_pop_udaf, covar_samp_udaf},
        first_last::first_value_udaf,
        min_max::{max_udaf, min_udaf},
        regr::{regr_intercept_udaf, regr_slope_udaf},
        stddev::{stddev_pop_udaf, stddev_udaf},
        sum::sum_udaf,
        variance::{var_pop_udaf, var_samp_udaf},
    },
    logical_expr::{
        AggregateUDF, Expr, SortExpr, WindowFunctionDefinition,
        expr::{AggregateFunction, NullTreatment},
    },
};
use headwater_engine::error::{Error, Result};

use super::{Binder, Value, calls::Call, expr::row, literal, scope::Context};
use crate::{
    kernels::{self, Op, collected::Collected, totals::Total},
    sketches::counts::histogram,
    types::{Type, as_instants},
};

/// Names composed here.
const COMPOSED: &[&str] = &[
    "sum",
    "avg",
    "count_if",
    "arbitrary",
    "any_value",
    "every",
    "bool_and",
    "bool_or",
    "variance",
    "var_samp",
    "var_pop",
    "stddev",
    "stddev_samp",
    "stddev_pop",
    "covar_pop",
    "covar_samp",
    "corr",
    "regr_slope",
    "regr_intercept",
    "geometric_mean",
    "max_by",
    "min_by",
    "max",
    "min",
    "map_agg",
    "map_union",
    "multimap_agg",
    "histogram",
    "listagg",
    "approx_percentile",
    "approx_distinct",
    "skewness",
    "kurtosis",
    "checksum",
    "bitwise_and_agg",
    "bitwise_or_agg",
    "bitwise_xor_agg",
    "numeric_histogram",
    "approx_most_frequent",
    "reduce_agg",
    "array_agg",
    "approx_set",
    "merge",
    "tdigest_agg",
    "qdigest_agg",
    "make_set_digest",
    "merge_set_digest",
];

/// Digits of decimals of which ten thousand million fit into a sum of 38 digits.
const SHORT_SUMMAND: u8 = 27;

/// What the inner aggregate is given beside its arguments.
#[derive(Default)]
struct With {
    order: Vec<SortExpr>,
    filter: Option<Expr>,
    ignore_nulls: bool,
    distinct: bool,
    /// The order that the call is written with is made of what was collected.
    unordered: bool,
}

fn is_number(value: &Value) -> bool {
    value.data_type.is_numeric() || value.data_type == Type::Unknown
}

fn is_truth(value: &Value) -> bool {
    matches!(value.data_type, Type::Boolean | Type::Unknown)
}

fn is_whole(value: &Value) -> bool {
    value.data_type.is_integer() || value.data_type == Type::Unknown
}

/// One call being composed.
struct Composition<'b, 'c> {
    binder: &'b Binder<'b>,
    call: &'c Call<'c>,
    outer: &'c Context<'c>,
    inner: &'c Context<'c>,
}

impl Binder<'_> {
    /// Whether an aggregate is composed of others.
    pub(crate) fn is_composed(&self, name: &str) -> bool {
        COMPOSED.contains(&name) && self.environment.library.get(name).is_none()
    }

    /// Composes an aggregate or window call.
    pub(crate) fn composed(&self, call: &Call<'_>, outer: &Context<'_>, inner: &Context<'_>) -> Result<Value> {
        let composition = Composition { binder: self, call, outer, inner };
        if let ("reduce_agg", Some(first)) = (call.name.as_str(), call.args.first()) {
            return composition.folded(&self.expr(first, inner)?, &call.args);
        }
        let args = self.exprs_of(&call.args, inner)?;
        let types: Vec<String> = args.iter().map(|arg| arg.data_type.to_string()).collect();
        composition.compose(args).transpose().unwrap_or_else(|| {
            Err(Error::user(
                "FUNCTION_NOT_FOUND",
                format!("unexpected parameters ({}) for function {}", types.join(", "), call.name),
            ))
        })
    }
}

impl Composition<'_, '_> {
    fn compose(&self, args: Vec<Value>) -> Result<Option<Value>> {
        let name = self.call.name.as_str();
        Ok(Some(match (name, args.as_slice()) {
            ("sum", [x]) => return self.sum(x.clone()),
            ("avg", [x]) => return self.average(x.clone()),
            ("count_if", [x]) if x.data_type == Type::Boolean || x.data_type == Type::Unknown => self.count_if(x)?,
            ("arbitrary" | "any_value", [x]) => {
                let with = With { ignore_nulls: true, ..With::default() };
                self.inner(first_value_udaf(), vec![x.clone()], x.data_type.clone(), with)?
            }
            ("bool_or", [x]) if self.call.over.is_some() && is_truth(x) => self.truth(max_udaf(), x)?,
            ("bool_and" | "every", [x]) if self.call.over.is_some() && is_truth(x) => self.truth(min_udaf(), x)?,
            ("bool_or", [x]) if is_truth(x) => {
                let x = self.binder.convert(x.clone(), &Type::Boolean)?;
                self.inner(bool_or_udaf(), vec![x], Type::Boolean, With::default())?
            }
            ("bool_and" | "every", [x]) if is_truth(x) => {
                let x = self.binder.convert(x.clone(), &Type::Boolean)?;
                self.inner(bool_and_udaf(), vec![x], Type::Boolean, With::default())?
            }
            ("max_by" | "min_by", [x, y]) if y.data_type.is_orderable() => self.extreme_by(x, y)?,
            ("max_by" | "min_by", [x, y, n]) if y.data_type.is_orderable() => self.extremes_by(x, y, n)?,
            ("max", [x]) if x.data_type.is_orderable() => self.extreme(max_udaf(), x)?,
            ("min", [x]) if x.data_type.is_orderable() => self.extreme(min_udaf(), x)?,
            ("max" | "min", [x, n]) if x.data_type.is_orderable() && n.data_type.is_integer() => {
                self.extremes_by(x, x, n)?
            }
            ("array_agg", [x]) => {
                self.check_distinct(x)?;
                self.gathered(x.clone(), None)?
            }
            ("bitwise_and_agg", [x]) if is_whole(x) => self.bits(bit_and_udaf(), x)?,
            ("bitwise_or_agg", [x]) if is_whole(x) => self.bits(bit_or_udaf(), x)?,
            ("bitwise_xor_agg", [x]) if is_whole(x) => self.bits(bit_xor_udaf(), x)?,
            ("approx_distinct", [x]) => self.distinct_count(x, None)?,
            ("approx_distinct", [x, error]) if is_number(error) => self.distinct_count(x, Some(error))?,
            _ => match self.sketched(name, &args)? {
                Some(sketch) => sketch,
                None => return self.statistic(name, &args),
            },
        }))
    }

    /// Moments, correlations and regressions.
    fn statistic(&self, name: &str, args: &[Value]) -> Result<Option<Value>> {
        Ok(Some(match (name, args) {
            ("variance" | "var_samp", [x]) if is_number(x) => self.doubles(var_samp_udaf(), &[x])?,
            ("var_pop", [x]) if is_number(x) => self.doubles(var_pop_udaf(), &[x])?,
            ("stddev" | "stddev_samp", [x]) if is_number(x) => self.doubles(stddev_udaf(), &[x])?,
            ("stddev_pop", [x]) if is_number(x) => self.doubles(stddev_pop_udaf(), &[x])?,
            ("covar_pop", [y, x]) if is_number(y) && is_number(x) => self.doubles(covar_pop_udaf(), &[y, x])?,
            ("covar_samp", [y, x]) if is_number(y) && is_number(x) => self.doubles(covar_samp_udaf(), &[y, x])?,
            ("corr", [y, x]) if is_number(y) && is_number(x) => self.finite(corr_udaf(), y, x)?,
            ("regr_slope", [y, x]) if is_number(y) && is_number(x) => self.finite(regr_slope_udaf(), y, x)?,
            ("regr_intercept", [y, x]) if is_number(y) && is_number(x) => self.finite(regr_intercept_udaf(), y, x)?,
            ("geometric_mean", [x]) if is_number(x) => self.geometric_mean(x)?,
            _ => return self.of_collected(name, args),
        }))
    }

    /// Aggregates of collected values.
    fn of_collected(&self, name: &str, args: &[Value]) -> Result<Option<Value>> {
        let known = |value: &Value| Some(value.expr.clone().is_not_null());
        Ok(Some(match (name, args) {
            ("map_agg", [k, v]) => {
                let entry = row(vec![(None, k.clone()), (None, v.clone())]);
                let result = Type::map(k.data_type.clone(), v.data_type.clone());
                self.collected(Collected::Map, entry, known(k), None, result)?
            }
            ("map_union", [x]) if matches!(x.data_type, Type::Map(..)) => {
                self.collected(Collected::Union, x.clone(), known(x), None, x.data_type.clone())?
            }
            ("multimap_agg", [k, v]) => {
                let entry = row(vec![(None, k.clone()), (None, v.clone())]);
                let result = Type::map(k.data_type.clone(), Type::array(v.data_type.clone()));
                self.collected(Collected::Multimap, entry, known(k), None, result)?
            }
            ("histogram", [x]) => {
                let result = Type::map(x.data_type.clone(), Type::Bigint);
                if self.is_plain() && x.data_type != Type::Unknown && as_instants(x.data_type.clone()) == x.data_type {
                    let counts = histogram(&x.data_type.to_arrow());
                    return self.inner(counts, vec![x.clone()], result, With::default()).map(Some);
                }
                self.collected(Collected::Histogram, x.clone(), known(x), None, result)?
            }
            ("listagg", [x]) => self.listagg(x, super::literals::text_value(""))?,
            ("listagg", [x, separator]) => self.listagg(x, separator.clone())?,
            ("approx_percentile", [x, p]) if is_number(x) => self.percentile(x, None, p)?,
            ("approx_percentile", [x, w, p] | [x, w, p, _]) if x.data_type.is_numeric() => {
                self.percentile(x, Some(w), p)?
            }
            ("skewness" | "kurtosis" | "checksum", [x]) if self.is_plain() => return self.moment(name, x),
            ("skewness", [x]) if is_number(x) => {
                self.collected(Collected::Skewness, x.clone(), known(x), None, Type::Double)?
            }
            ("kurtosis", [x]) if is_number(x) => {
                self.collected(Collected::Kurtosis, x.clone(), known(x), None, Type::Double)?
            }
            ("checksum", [x]) => self.collected(Collected::Checksum, x.clone(), None, None, Type::Varbinary)?,
            ("numeric_histogram", [n, x, rest @ ..]) => return self.numeric_histogram(n, x, rest),
            ("approx_most_frequent", [n, x, capacity]) => return self.most_frequent(n, x, capacity),
            _ => return Ok(None),
        }))
    }

    /// The inner aggregate, collected as the call's kind wants it: of a group or over a window.
    fn inner(&self, udaf: Arc<AggregateUDF>, args: Vec<Value>, data_type: Type, with: With) -> Result<Value> {
        let own = self.binder.filter(self.call, self.inner)?;
        let filter = match (own, with.filter) {
            (Some(a), Some(b)) => Some(a.and(b)),
            (a, b) => a.or(b),
        };
        if self.call.over.is_some() {
            let made = (WindowFunctionDefinition::AggregateUDF(udaf), args, data_type);
            let distinct = self.call.distinct || with.distinct;
            return self.binder.over(self.call, made, (filter, distinct), self.outer);
        }
        let written = self.binder.sort_exprs(&self.call.order_by, self.inner)?;
        let order = if with.order.is_empty() && !with.unordered { written } else { with.order };
        let nulls = with.ignore_nulls.then_some(NullTreatment::IgnoreNulls);
        let exprs = args.into_iter().map(|arg| arg.expr).collect();
        let distinct = self.call.distinct || with.distinct;
        if let ([sort], true, "array_agg") = (order.as_slice(), distinct, udaf.name()) {
            return self.sorted_distinct(udaf, exprs, data_type, (filter, sort));
        }
        let call = AggregateFunction::new_udf(udaf, exprs, distinct, filter.map(Box::new), order, nulls);
        self.binder.collect(self.call, Expr::AggregateFunction(call), data_type, self.outer)
    }

    fn sum(&self, x: Value) -> Result<Option<Value>> {
        let data_type = match &x.data_type {
            of if of.is_integer() => Type::Bigint,
            Type::Unknown => return Err(super::expr::ambiguous("sum")),
            Type::Decimal(_, s) => Type::Decimal(38, *s),
            Type::IntervalDaySecond | Type::IntervalYearMonth => x.data_type.clone(),
            Type::Real | Type::Double => {
                let real = x.data_type == Type::Real;
                let x = self.binder.convert(x, &Type::Double)?;
                let sum = self.inner(sum_udaf(), vec![x], Type::Double, With::default())?;
                return Ok(Some(if real { self.binder.cast(sum, &Type::Real, false)? } else { sum }));
            }
            _ => return Ok(None),
        };
        let sum = self.exact_sum(x)?;
        Ok(Some(Value::new(kernels::call(Op::Total(Total::Sum), vec![sum.expr], data_type.clone()), data_type)))
    }

    /// A sum that cannot wrap, as a decimal.
    fn exact_sum(&self, x: Value) -> Result<Value> {
        let (of, summand) = match &x.data_type {
            Type::Decimal(p, s) if *p <= SHORT_SUMMAND => (Type::Decimal(38, *s), None),
            Type::Decimal(_, s) => {
                let wide = Type::Other(DataType::Decimal256(76, *s));
                (wide.clone(), Some(wide))
            }
            Type::IntervalDaySecond | Type::IntervalYearMonth => (Type::Decimal(38, 0), Some(Type::Decimal(38, 0))),
            _ => (Type::Decimal(38, 0), None),
        };
        let summand = match summand {
            Some(summand) => {
                Value::new(kernels::call(Op::Total(Total::Summand), vec![x.expr], summand.clone()), summand)
            }
            None => {
                let whole = if x.data_type == Type::Unknown { self.binder.convert(x, &Type::Bigint)? } else { x };
                Value::new(datafusion::logical_expr::cast(whole.expr, of.to_arrow()), of.clone())
            }
        };
        self.inner(sum_udaf(), vec![summand], of, With::default())
    }

    fn average(&self, x: Value) -> Result<Option<Value>> {
        let result = match &x.data_type {
            Type::Decimal(..) | Type::IntervalDaySecond | Type::IntervalYearMonth => x.data_type.clone(),
            of if of.is_numeric() || *of == Type::Unknown => {
                let real = x.data_type == Type::Real;
                let x = self.binder.convert(x, &Type::Double)?;
                let average = self.inner(avg_udaf(), vec![x], Type::Double, With::default())?;
                return Ok(Some(if real { self.binder.cast(average, &Type::Real, false)? } else { average }));
            }
            _ => return Ok(None),
        };
        let count = self.inner(count_udaf(), vec![x.clone()], Type::Bigint, With::default())?;
        let sum = self.exact_sum(x)?;
        let mean = kernels::call(Op::Total(Total::Mean), vec![sum.expr, count.expr], result.clone());
        Ok(Some(Value::new(mean, result)))
    }

    /// `max` and `min`: a NaN only where there is nothing else.
    fn extreme(&self, udaf: Arc<AggregateUDF>, x: &Value) -> Result<Value> {
        if matches!(x.data_type, Type::ZonedEach(_)) {
            return self.extreme_by(x, &self.binder.instants_of(x.clone())?);
        }
        if !matches!(x.data_type, Type::Real | Type::Double) {
            return self.inner(udaf, vec![x.clone()], x.data_type.clone(), With::default());
        }
        let found = self.inner(udaf, vec![self.key(x)], Type::Bigint, With::default())?;
        let of_key = kernels::call(Op::Total(Total::OfKey), vec![found.expr], x.data_type.clone());
        Ok(Value::new(of_key, x.data_type.clone()))
    }

    /// What decides the order of values: floating point as whole numbers in which a NaN never wins.
    fn key(&self, x: &Value) -> Value {
        if !matches!(x.data_type, Type::Real | Type::Double) {
            return x.clone();
        }
        let key = kernels::call(Op::Total(Total::Key(self.is_greatest())), vec![x.expr.clone()], Type::Bigint);
        Value::new(key, Type::Bigint)
    }

    fn count_if(&self, x: &Value) -> Result<Value> {
        let one = Value::new(literal(ScalarValue::Int64(Some(1))), Type::Bigint);
        let with = With { filter: Some(self.binder.convert(x.clone(), &Type::Boolean)?.expr), ..With::default() };
        self.inner(count_udaf(), vec![one], Type::Bigint, with)
    }

    /// An aggregate of doubles; of two columns of which none is a double the result is a real.
    fn doubles(&self, udaf: Arc<AggregateUDF>, args: &[&Value]) -> Result<Value> {
        let real = args.len() == 2 && args.iter().all(|arg| !matches!(arg.data_type, Type::Double | Type::Unknown));
        let wide = args.iter().map(|arg| self.binder.convert((*arg).clone(), &Type::Double));
        let value = self.inner(udaf, wide.collect::<Result<_>>()?, Type::Double, With::default())?;
        if real { self.binder.cast(value, &Type::Real, false) } else { Ok(value) }
    }

    /// The greatest or least truth value, which a sliding frame can take back.
    fn truth(&self, udaf: Arc<AggregateUDF>, x: &Value) -> Result<Value> {
        let x = self.binder.convert(x.clone(), &Type::Boolean)?;
        let x = self.binder.cast(x, &Type::Tinyint, false)?;
        let found = self.inner(udaf, vec![x], Type::Tinyint, With::default())?;
        self.binder.cast(found, &Type::Boolean, false)
    }

    /// An aggregate that is NULL where it would be a NaN.
    fn finite(&self, udaf: Arc<AggregateUDF>, y: &Value, x: &Value) -> Result<Value> {
        let value = self.doubles(udaf, &[y, x])?;
        let number = kernels::call(
            Op::Compare(kernels::Comparison::Equal, value.data_type.clone()),
            vec![value.expr.clone(), value.expr.clone()],
            Type::Boolean,
        );
        self.binder.choose(vec![(number, value.clone())], Some(Value::null(value.data_type)?), "if")
    }

    fn bits(&self, udaf: Arc<AggregateUDF>, x: &Value) -> Result<Value> {
        let x = self.binder.convert(x.clone(), &Type::Bigint)?;
        self.inner(udaf, vec![x], Type::Bigint, With::default())
    }

    fn geometric_mean(&self, x: &Value) -> Result<Value> {
        let real = matches!(x.data_type, Type::Real | Type::Decimal(..));
        let x = self.binder.convert(x.clone(), &Type::Double)?;
        let logarithm = self.binder.function_value("ln", vec![x])?;
        let mean = self.inner(avg_udaf(), vec![logarithm], Type::Double, With::default())?;
        let mean = self.binder.function_value("exp", vec![mean])?;
        if real { self.binder.cast(mean, &Type::Real, false) } else { Ok(mean) }
    }

    fn is_greatest(&self) -> bool {
        self.call.name.starts_with("max")
    }

    fn extreme_by(&self, x: &Value, y: &Value) -> Result<Value> {
        let known = Some(y.expr.clone().is_not_null());
        if self.call.over.is_some() {
            let pair = row(vec![(None, self.key(y)), (None, x.clone())]);
            return self.collected(Collected::Best(self.is_greatest()), pair, known, None, x.data_type.clone());
        }
        let order = vec![SortExpr::new(self.key(y).expr, !self.is_greatest(), false)];
        self.inner(
            first_value_udaf(),
            vec![x.clone()],
            x.data_type.clone(),
            With { order, filter: known, ..With::default() },
        )
    }
}

mod gathered;
mod sketched;
