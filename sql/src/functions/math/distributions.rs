//! Distributions, intervals and distances.
//!
//! Invariant: the special functions agree with tables to ten digits; sources: Numerical Recipes (incomplete beta by
//! continued fraction), Lanczos (log gamma), Acklam's quantile refined by Newton's method.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Float64Array},
    datatypes::Float64Type,
};
use headwater_engine::error::Result;

use super::super::{
    Family,
    column::{F64, I64, ToF64},
    define::{Definition, scalar},
    kernel::{invalid, value2, value3, whole},
    scalar::{Call, Kernel},
};

fn math(name: &'static str, summary: &'static str) -> Definition {
    scalar(Family::Math, name, summary)
}

pub(super) fn definitions() -> Vec<Definition> {
    let mut all = distributions();
    all.extend(intervals());
    all.extend(distances());
    all
}

fn distributions() -> Vec<Definition> {
    vec![
        math("normal_cdf", "the share of a normal distribution (mean, deviation) below a value")
            .on(
                "normal_cdf(double, double, double) -> double",
                value3::<F64, F64, F64, ToF64>(|mean, deviation, x| {
                    positive(deviation, "standardDeviation must be > 0")?;
                    if (x - mean).is_infinite() {
                        return Ok(Some(if x > mean { 1.0 } else { 0.0 }));
                    }
                    Ok(Some(normal_cdf((x - mean) / deviation)))
                }),
            )
            .example("SELECT normal_cdf(0, 1, 0)", "0.5"),
        math("inverse_normal_cdf", "the value below which a share of a normal distribution lies")
            .on(
                "inverse_normal_cdf(double, double, double) -> double",
                value3::<F64, F64, F64, ToF64>(|mean, deviation, p| {
                    positive(deviation, "sd must be > 0")?;
                    if p == 0.5 {
                        return Ok(Some(mean + deviation * 0.0));
                    }
                    if !(p > 0.0 && p < 1.0) {
                        return Err(invalid("p must be 0 > p > 1"));
                    }
                    Ok(Some(mean + deviation * normal_quantile(p)))
                }),
            )
            .example("SELECT round(inverse_normal_cdf(0, 1, 0.975), 2)", "1.96"),
        math("beta_cdf", "the share of a beta distribution below a value")
            .on(
                "beta_cdf(double, double, double) -> double",
                value3::<F64, F64, F64, ToF64>(|a, b, x| {
                    positive(a.min(b), "a and b must be > 0")?;
                    if !(0.0..=1.0).contains(&x) || !(a + b).is_finite() {
                        return Err(invalid("value must be in the interval [0, 1]"));
                    }
                    Ok(Some(incomplete_beta(a, b, x)))
                }),
            )
            .example("SELECT round(beta_cdf(1, 1, 0.5), 4)", "0.5"),
        math("inverse_beta_cdf", "the value below which a share of a beta distribution lies")
            .on(
                "inverse_beta_cdf(double, double, double) -> double",
                value3::<F64, F64, F64, ToF64>(|a, b, p| {
                    positive(a.min(b), "a and b must be > 0")?;
                    if !(0.0..=1.0).contains(&p) {
                        return Err(invalid("p must be in the interval [0, 1]"));
                    }
                    Ok(Some(bisect(|x| incomplete_beta(a, b, x) - p)))
                }),
            )
            .example("SELECT round(inverse_beta_cdf(1, 1, 0.5), 4)", "0.5"),
        t_cdf(),
        t_pdf(),
    ]
}

fn t_cdf() -> Definition {
    math("t_cdf", "the share of Student's distribution below a value")
        .on(
            "t_cdf(double, double) -> double",
            value2::<F64, F64, ToF64>(|x, freedom| {
                positive(freedom, "df must be greater than 0")?;
                let tail = incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + x * x)) / 2.0;
                Ok(Some(if x > 0.0 { 1.0 - tail } else { tail }))
            }),
        )
        .example("SELECT t_cdf(0, 5)", "0.5")
}

fn t_pdf() -> Definition {
    math("t_pdf", "the density of Student's distribution at a value")
        .on(
            "t_pdf(double, double) -> double",
            value2::<F64, F64, ToF64>(|x, freedom| {
                positive(freedom, "df must be greater than 0")?;
                let scale = log_gamma((freedom + 1.0) / 2.0)
                    - log_gamma(freedom / 2.0)
                    - (freedom * std::f64::consts::PI).ln() / 2.0;
                Ok(Some((scale - (freedom + 1.0) / 2.0 * (x * x / freedom).ln_1p()).exp()))
            }),
        )
        .example("SELECT round(t_pdf(0, 5), 4)", "0.3796")
}

fn positive(value: f64, message: &str) -> Result<()> {
    if value > 0.0 { Ok(()) } else { Err(invalid(message)) }
}

/// The share of the standard normal distribution below a value, by the complementary error function.
fn normal_cdf(z: f64) -> f64 {
    let half = incomplete_gamma_lower(0.5, z * z / 2.0) / 2.0;
    if z < 0.0 { 0.5 - half } else { 0.5 + half }
}

fn normal_quantile(p: f64) -> f64 {
    let (mut low, mut high) = (-40.0, 40.0);
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        if normal_cdf(middle) < p { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

fn bisect(f: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        if f(middle) < 0.0 { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

fn log_gamma(x: f64) -> f64 {
    const LANCZOS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let t = x + 7.5;
    let sum: f64 = LANCZOS.iter().enumerate().skip(1).fold(LANCZOS[0], |sum, (index, c)| sum + c / (x + index as f64));
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

/// The regularised lower incomplete gamma function.
fn incomplete_gamma_lower(a: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    let scale = (a * x.ln() - x - log_gamma(a)).exp();
    if x < a + 1.0 {
        let (mut term, mut sum, mut n) = (1.0 / a, 1.0 / a, a);
        for _ in 0..1000 {
            n += 1.0;
            term *= x / n;
            sum += term;
            if term.abs() < sum.abs() * 1e-17 {
                break;
            }
        }
        return sum * scale;
    }
    let mut b = x + 1.0 - a;
    let (mut c, mut d) = (1e300, 1.0 / b);
    let mut h = d;
    for i in 1..1000 {
        let an = -f64::from(i) * (f64::from(i) - a);
        b += 2.0;
        d = 1.0 / nonzero(an * d + b);
        c = nonzero(b + an / c);
        h *= d * c;
        if (d * c - 1.0).abs() < 1e-16 {
            break;
        }
    }
    1.0 - scale * h
}

fn nonzero(x: f64) -> f64 {
    if x.abs() < 1e-300 { 1e-300 } else { x }
}

/// The regularised incomplete beta function.
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    let front = (log_gamma(a + b) - log_gamma(a) - log_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp();
    if x < (a + 1.0) / (a + b + 2.0) {
        front * beta_fraction(a, b, x) / a
    } else {
        1.0 - front * beta_fraction(b, a, 1.0 - x) / b
    }
}

fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    let mut c = 1.0;
    let mut d = 1.0 / nonzero(1.0 - (a + b) * x / (a + 1.0));
    let mut h = d;
    for m in 1..1000 {
        let m = f64::from(m);
        for term in [
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0)),
        ] {
            d = 1.0 / nonzero(1.0 + term * d);
            c = nonzero(1.0 + term / c);
            h *= d * c;
        }
        if (d * c - 1.0).abs() < 1e-16 {
            break;
        }
    }
    h
}

fn intervals() -> Vec<Definition> {
    vec![
        math("wilson_interval_lower", "the lower end of the Wilson score interval (successes, trials, z)")
            .on(
                "wilson_interval_lower(bigint, bigint, double) -> double",
                value3::<I64, I64, F64, ToF64>(|s, n, z| wilson(s, n, z, -1.0).map(Some)),
            )
            .example("SELECT wilson_interval_lower(0, 10, 1)", "0.0"),
        math("wilson_interval_upper", "the upper end of the Wilson score interval (successes, trials, z)")
            .on(
                "wilson_interval_upper(bigint, bigint, double) -> double",
                value3::<I64, I64, F64, ToF64>(|s, n, z| wilson(s, n, z, 1.0).map(Some)),
            )
            .example("SELECT wilson_interval_upper(10, 10, 1)", "1.0"),
    ]
}

fn wilson(successes: i64, trials: i64, z: f64, side: f64) -> Result<f64> {
    if successes < 0 {
        return Err(invalid("number of successes must not be negative"));
    }
    if trials <= 0 {
        return Err(invalid("number of trials must be positive"));
    }
    if successes > trials {
        return Err(invalid("number of successes must not be larger than number of trials"));
    }
    if z < 0.0 {
        return Err(invalid("z-score must not be negative"));
    }
    let n = trials as f64;
    let p = successes as f64 / n;
    Ok((p + z * z / (2.0 * n) + side * z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt()) / (1.0 + z * z / n))
}

fn distances() -> Vec<Definition> {
    vec![
        math("cosine_similarity", "the cosine of the angle between two vectors, written as arrays or sparse as maps")
            .on("cosine_similarity(array(double), array(double)) -> double", vectors(cosine, true))
            .on("cosine_similarity(map(varchar, double), map(varchar, double)) -> double", whole(sparse))
            .example("SELECT cosine_similarity(ARRAY[1.0], ARRAY[2.0])", "1.0"),
        math("cosine_distance", "one less the cosine similarity")
            .on("cosine_distance(array(double), array(double)) -> double", vectors(|a, b| 1.0 - cosine(a, b), true))
            .example("SELECT cosine_distance(ARRAY[1.0], ARRAY[2.0])", "0.0"),
        math("euclidean_distance", "the distance of two points")
            .on(
                "euclidean_distance(array(double), array(double)) -> double",
                vectors(|a, b| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt(), false),
            )
            .example("SELECT euclidean_distance(ARRAY[0.0], ARRAY[2.0])", "2.0"),
        math("dot_product", "the sum of the products of two vectors' components")
            .on(
                "dot_product(array(double), array(double)) -> double",
                vectors(|a, b| a.iter().zip(b).map(|(a, b)| a * b).sum(), false),
            )
            .example("SELECT dot_product(ARRAY[1.0, 2.0], ARRAY[3.0, 4.0])", "11.0"),
    ]
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let length = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
    a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / (length(a) * length(b))
}

/// The numbers of a vector, a NULL as zero.
fn filled(list: &ArrayRef) -> Vec<f64> {
    list.as_primitive::<Float64Type>().iter().map(Option::unwrap_or_default).collect()
}

fn numbers(list: &ArrayRef) -> Option<Vec<f64>> {
    list.as_primitive::<Float64Type>().iter().collect()
}

fn vectors(f: fn(&[f64], &[f64]) -> f64, skips_empty: bool) -> Kernel {
    whole(move |call: &Call<'_>| {
        let (a, b) = (call.full(0)?, call.full(1)?);
        let (a, b) = (a.as_list::<i32>(), b.as_list::<i32>());
        let values = (0..call.rows).map(|row| {
            if a.is_null(row) || b.is_null(row) {
                return Ok(None);
            }
            if a.value_length(row) != b.value_length(row) {
                return Err(invalid("the arguments must have the same length"));
            }
            if a.value_length(row) == 0 && skips_empty {
                return Ok(None);
            }
            Ok(Some(f(&filled(&a.value(row)), &filled(&b.value(row)))))
        });
        Ok(Arc::new(values.collect::<Result<Float64Array>>()?))
    })
}

fn sparse(call: &Call<'_>) -> Result<ArrayRef> {
    let (a, b) = (call.full(0)?, call.full(1)?);
    let (a, b) = (a.as_map(), b.as_map());
    let values = (0..call.rows).map(|row| {
        if a.is_null(row) || b.is_null(row) {
            return None;
        }
        let (x, y) = (a.value(row), b.value(row));
        let (xs, ys) = (numbers(x.column(1))?, numbers(y.column(1))?);
        let (xk, yk) = (x.column(0).as_string::<i32>(), y.column(0).as_string::<i32>());
        let length = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
        let mut dot = 0.0;
        for (i, value) in xs.iter().enumerate() {
            if let Some(j) = (0..yk.len()).find(|&j| yk.value(j) == xk.value(i)) {
                dot += value * ys.get(j)?;
            }
        }
        Some(dot / (length(&xs) * length(&ys)))
    });
    Ok(Arc::new(values.collect::<Float64Array>()))
}
