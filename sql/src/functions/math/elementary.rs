//! Powers, logarithms, angles, bases, random numbers.
//!
//! Invariant: results outside the reals are NaN or infinite, as IEEE has them, never an error.

use arrow::array::{Array, AsArray};
use arrow::datatypes::Float64Type;
use datafusion::logical_expr::Volatility;
use headwater_engine::error::Result;
use rand::Rng;

use super::super::{
    Family,
    column::{F32, F64, I8, I16, I32, I64, Str, ToBool, ToF64, ToI8, ToI16, ToI32, ToI64},
    define::{Definition, scalar},
    kernel::{invalid, out_of_range, text2, value1, value2, value4, whole},
    scalar::Kernel,
};

fn math(name: &'static str, summary: &'static str) -> Definition {
    scalar(Family::Math, name, summary)
}

fn double(name: &'static str, summary: &'static str, signature: &'static str, f: fn(f64) -> f64) -> Definition {
    math(name, summary).on(signature, value1::<F64, ToF64>(move |x| Ok(Some(f(x)))))
}

pub(super) fn definitions() -> Vec<Definition> {
    let mut all = angles();
    all.extend(powers());
    all.extend(constants());
    all.extend(bases());
    all.extend(randoms());
    all.push(width_bucket());
    all
}

fn angles() -> Vec<Definition> {
    vec![
        double("sin", "the sine", "sin(double) -> double", f64::sin).example("SELECT sin(0)", "0.0"),
        double("cos", "the cosine", "cos(double) -> double", f64::cos).example("SELECT cos(0)", "1.0"),
        double("tan", "the tangent", "tan(double) -> double", f64::tan).example("SELECT tan(0)", "0.0"),
        double("asin", "the arc sine", "asin(double) -> double", f64::asin).example("SELECT asin(0)", "0.0"),
        double("acos", "the arc cosine", "acos(double) -> double", f64::acos).example("SELECT acos(1)", "0.0"),
        double("atan", "the arc tangent", "atan(double) -> double", f64::atan).example("SELECT atan(0)", "0.0"),
        double("sinh", "the hyperbolic sine", "sinh(double) -> double", f64::sinh).example("SELECT sinh(0)", "0.0"),
        double("cosh", "the hyperbolic cosine", "cosh(double) -> double", f64::cosh).example("SELECT cosh(0)", "1.0"),
        double("tanh", "the hyperbolic tangent", "tanh(double) -> double", f64::tanh).example("SELECT tanh(0)", "0.0"),
        double("degrees", "radians as degrees", "degrees(double) -> double", f64::to_degrees)
            .example("SELECT degrees(0)", "0.0"),
        double("radians", "degrees as radians", "radians(double) -> double", f64::to_radians)
            .example("SELECT radians(0)", "0.0"),
        math("atan2", "the arc tangent of y / x")
            .on("atan2(double, double) -> double", value2::<F64, F64, ToF64>(|y, x| Ok(Some(y.atan2(x)))))
            .example("SELECT atan2(0, 1)", "0.0"),
    ]
}

fn powers() -> Vec<Definition> {
    vec![
        double("sqrt", "the square root", "sqrt(double) -> double", f64::sqrt).example("SELECT sqrt(9)", "3.0"),
        double("cbrt", "the cube root", "cbrt(double) -> double", f64::cbrt).example("SELECT cbrt(27)", "3.0"),
        double("exp", "e to the power of the value", "exp(double) -> double", f64::exp).example("SELECT exp(0)", "1.0"),
        double("ln", "the natural logarithm", "ln(double) -> double", f64::ln).example("SELECT ln(1)", "0.0"),
        double("log2", "the logarithm to base 2", "log2(double) -> double", f64::log2).example("SELECT log2(8)", "3.0"),
        double("log10", "the logarithm to base 10", "log10(double) -> double", f64::log10)
            .example("SELECT log10(100)", "2.0"),
        math("log", "the logarithm of the second argument to the base of the first")
            .on("log(double, double) -> double", value2::<F64, F64, ToF64>(|base, x| Ok(Some(x.ln() / base.ln()))))
            .example("SELECT log(2, 64)", "6.0"),
        math("power", "the first argument to the power of the second")
            .aliases(&["pow"])
            .on("power(double, double) -> double", value2::<F64, F64, ToF64>(|x, y| Ok(Some(java_power(x, y)))))
            .example("SELECT power(2, 10)", "1024.0"),
    ]
}

/// C gives 1 for a base of 1 or -1 with NaN or infinite exponents where Java gives NaN.
fn java_power(x: f64, y: f64) -> f64 {
    if y != 0.0 && (y.is_nan() || x.abs() == 1.0 && y.is_infinite()) { f64::NAN } else { x.powf(y) }
}

fn constants() -> Vec<Definition> {
    let constant = |name, summary, signature, value: f64| {
        math(name, summary).on(
            signature,
            whole(move |call| {
                let values = arrow::array::Float64Array::from(vec![value; call.rows]);
                Ok(std::sync::Arc::new(values))
            }),
        )
    };
    vec![
        constant("pi", "the number pi", "pi() -> double", std::f64::consts::PI)
            .example("SELECT pi()", "3.141592653589793"),
        constant("e", "Euler's number", "e() -> double", std::f64::consts::E)
            .example("SELECT e()", "2.718281828459045"),
        constant("nan", "not a number", "nan() -> double", f64::NAN).example("SELECT nan()", "NaN"),
        constant("infinity", "positive infinity", "infinity() -> double", f64::INFINITY)
            .example("SELECT infinity()", "Infinity"),
        math("is_nan", "whether a value is not a number")
            .on("is_nan(real) -> boolean", value1::<F32, ToBool>(|x| Ok(Some(x.is_nan()))))
            .on("is_nan(double) -> boolean", value1::<F64, ToBool>(|x| Ok(Some(x.is_nan()))))
            .example("SELECT is_nan(nan())", "true"),
        math("is_finite", "whether a value is neither infinite nor NaN")
            .on("is_finite(double) -> boolean", value1::<F64, ToBool>(|x| Ok(Some(x.is_finite()))))
            .example("SELECT is_finite(1)", "true"),
        math("is_infinite", "whether a value is infinite")
            .on("is_infinite(double) -> boolean", value1::<F64, ToBool>(|x| Ok(Some(x.is_infinite()))))
            .example("SELECT is_infinite(infinity())", "true"),
    ]
}

fn bases() -> Vec<Definition> {
    vec![
        math("from_base", "the number a text writes in a base")
            .on(
                "from_base(varchar, bigint) -> bigint",
                value2::<Str, I64, ToI64>(|text, base| from_base(text, base).map(Some)),
            )
            .example("SELECT from_base('ff', 16)", "255"),
        math("to_base", "a number written in a base")
            .on(
                "to_base(bigint, bigint) -> varchar",
                text2::<I64, I64>(|value, base, out| {
                    out.push_str(&to_base(value, radix(base)?));
                    Ok(true)
                }),
            )
            .example("SELECT to_base(255, 16)", "ff"),
    ]
}

fn radix(base: i64) -> Result<u32> {
    match u32::try_from(base) {
        Ok(base @ 2..=36) => Ok(base),
        _ => Err(invalid("radix must be between 2 and 36")),
    }
}

fn from_base(text: &str, base: i64) -> Result<i64> {
    let base = radix(base)?;
    i64::from_str_radix(text, base).map_err(|_| invalid(format!("not a valid base-{base} number: {text}")))
}

fn to_base(value: i64, base: u32) -> String {
    let mut rest = value.unsigned_abs();
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit((rest % u64::from(base)) as u32, base).unwrap_or('0'));
        rest /= u64::from(base);
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        digits.push('-');
    }
    digits.iter().rev().collect()
}

fn drawn<T: rand::distr::uniform::SampleUniform + PartialOrd + Copy>(low: T, high: T, what: &str) -> Result<T> {
    if low >= high {
        return Err(invalid(what));
    }
    Ok(rand::rng().random_range(low..high))
}

fn randoms() -> Vec<Definition> {
    const BOUND: &str = "bound must be positive";
    const ORDER: &str = "start value must be less than stop value";
    let unit: Kernel = whole(|call| {
        let values: Vec<f64> = (0..call.rows).map(|_| rand::rng().random()).collect();
        Ok(std::sync::Arc::new(arrow::array::Float64Array::from(values)))
    });
    vec![
        math("random", "a random number below 1, below a bound, or in a range")
            .aliases(&["rand"])
            .on("random() -> double", unit)
            .on("random(tinyint) -> tinyint", value1::<I8, ToI8>(|high| drawn(0, high, BOUND).map(Some)))
            .on("random(smallint) -> smallint", value1::<I16, ToI16>(|high| drawn(0, high, BOUND).map(Some)))
            .on("random(integer) -> integer", value1::<I32, ToI32>(|high| drawn(0, high, BOUND).map(Some)))
            .on("random(bigint) -> bigint", value1::<I64, ToI64>(|high| drawn(0, high, BOUND).map(Some)))
            .on(
                "random(tinyint, tinyint) -> tinyint",
                value2::<I8, I8, ToI8>(|low, high| drawn(low, high, ORDER).map(Some)),
            )
            .on(
                "random(smallint, smallint) -> smallint",
                value2::<I16, I16, ToI16>(|low, high| drawn(low, high, ORDER).map(Some)),
            )
            .on(
                "random(integer, integer) -> integer",
                value2::<I32, I32, ToI32>(|low, high| drawn(low, high, ORDER).map(Some)),
            )
            .on(
                "random(bigint, bigint) -> bigint",
                value2::<I64, I64, ToI64>(|low, high| drawn(low, high, ORDER).map(Some)),
            )
            .volatility(Volatility::Volatile)
            .example("SELECT random(5, 6)", "5"),
    ]
}

fn width_bucket() -> Definition {
    math("width_bucket", "the number of the bucket a value falls into, 0 below the first and one more above the last")
        .on(
            "width_bucket(double, double, double, bigint) -> bigint",
            value4::<F64, F64, F64, I64, ToI64>(|x, low, high, count| equal_buckets(x, low, high, count).map(Some)),
        )
        .on(
            "width_bucket(double, array(double)) -> bigint",
            whole(|call| {
                let values = call.column::<F64>(0)?;
                let bins = call.full(1)?;
                let bins = bins.as_list::<i32>();
                let found = (0..call.rows).map(|row| {
                    let Some(value) = values.value(row).filter(|_| bins.is_valid(row)) else { return Ok(None) };
                    if value.is_nan() {
                        return Err(invalid("operand cannot be NaN"));
                    }
                    let own = bins.value(row);
                    let own = own.as_primitive::<Float64Type>();
                    if own.is_empty() {
                        return Err(invalid("bins cannot be an empty array"));
                    }
                    bucket_of(own.values(), value).map(Some)
                });
                Ok(std::sync::Arc::new(found.collect::<Result<arrow::array::Int64Array>>()?))
            }),
        )
        .example("SELECT width_bucket(5.3, 0.2, 10.6, 5)", "3")
}

/// How many bins are not above a value, found by halves; bins that turn out to be unsorted on the way are refused.
fn bucket_of(bins: &[f64], value: f64) -> Result<i64> {
    let (mut low, mut high) = (0, bins.len());
    while low < high {
        if bins[low] > bins[high - 1] {
            return Err(invalid("bin values are not sorted in ascending order"));
        }
        let middle = (low + high) / 2;
        if !bins[middle].is_finite() {
            return Err(invalid(format!("bin value must be finite, got {}", bins[middle])));
        }
        if value < bins[middle] { high = middle } else { low = middle + 1 }
    }
    Ok(low as i64)
}

fn equal_buckets(x: f64, low: f64, high: f64, count: i64) -> Result<i64> {
    if count <= 0 {
        return Err(invalid("bucketCount must be greater than 0"));
    }
    if x.is_nan() {
        return Err(invalid("operand must not be NaN"));
    }
    if !low.is_finite() || !high.is_finite() {
        return Err(invalid("bounds must be finite"));
    }
    if low == high {
        return Err(invalid("bounds cannot equal each other"));
    }
    let (least, most) = (low.min(high), low.max(high));
    let bucket = if x < least {
        0
    } else if x >= most {
        count.checked_add(1).ok_or_else(|| out_of_range("bucket for value is out of range"))?
    } else {
        (count as f64 * (x - least) / (most - least) + 1.0) as i64
    };
    Ok(if low > high { count - bucket + 1 } else { bucket })
}
