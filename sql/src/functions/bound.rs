//! Functions that the binder composes of operators and aggregates, as SHOW FUNCTIONS lists them.
//!
//! Invariant: what stands here has no entry in the registry, and its example is run by the same test.

use super::Example;

mod sketches;

/// A function that the binder makes.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// Its name.
    pub name: &'static str,
    /// `scalar`, `aggregate` or `window`.
    pub kind: &'static str,
    /// Its signatures.
    pub signatures: &'static [&'static str],
    /// What it does.
    pub summary: &'static str,
    /// How it is used.
    pub example: Example,
}

const fn bound(
    name: &'static str,
    kind: &'static str,
    signatures: &'static [&'static str],
    summary: &'static str,
    (statement, result): (&'static str, &'static str),
) -> Bound {
    Bound { name, kind, signatures, summary, example: Example { statement, result } }
}

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Bound> {
    BOUND.iter().chain(&sketches::SKETCHES)
}

/// Those without sketches, by kind and name.
const BOUND: &[Bound] = &[
    bound(
        "any_value",
        "aggregate",
        &["any_value(T) -> T"],
        "any value of the group that is not NULL",
        ("SELECT any_value(x) FROM (VALUES 7, 7) t(x)", "7"),
    ),
    bound(
        "approx_distinct",
        "aggregate",
        &["approx_distinct(T) -> bigint", "approx_distinct(T, double) -> bigint"],
        "how many different values there are; counted exactly",
        ("SELECT approx_distinct(x) FROM (VALUES 1, 1, 2) t(x)", "2"),
    ),
    bound(
        "approx_most_frequent",
        "aggregate",
        &["approx_most_frequent(bigint, T, bigint) -> map(T, bigint)"],
        "the most frequent values and how often they occur",
        ("SELECT approx_most_frequent(2, x, 10) FROM (VALUES 1, 2, 2) t(x)", "{2=2, 1=1}"),
    ),
    bound(
        "approx_percentile",
        "aggregate",
        &[
            "approx_percentile(T, double) -> T",
            "approx_percentile(T, array(double)) -> array(T)",
            "approx_percentile(T, double, double) -> T",
            "approx_percentile(T, double, double, double) -> T",
        ],
        "the value below which a share of the values, or of their weight, lies",
        ("SELECT approx_percentile(x, 0.5) FROM (VALUES 1, 2, 3) t(x)", "2"),
    ),
    bound(
        "arbitrary",
        "aggregate",
        &["arbitrary(T) -> T"],
        "any value of the group that is not NULL",
        ("SELECT arbitrary(x) FROM (VALUES 7, 7) t(x)", "7"),
    ),
    bound(
        "array_agg",
        "aggregate",
        &["array_agg(T) -> array(T)"],
        "the values of the group as an array, NULLs among them",
        ("SELECT array_agg(x ORDER BY x) FROM (VALUES 2, 1) t(x)", "[1, 2]"),
    ),
    bound(
        "avg",
        "aggregate",
        &[
            "avg(double) -> double",
            "avg(real) -> real",
            "avg(bigint) -> double",
            "avg(decimal(p,s)) -> decimal(p,s)",
            "avg(interval day to second) -> interval day to second",
            "avg(interval year to month) -> interval year to month",
        ],
        "the mean; of decimals with their scale",
        ("SELECT avg(x) FROM (VALUES 1.0, 2.0) t(x)", "1.5"),
    ),
    bound(
        "bitwise_and_agg",
        "aggregate",
        &["bitwise_and_agg(bigint) -> bigint"],
        "the bits set in all numbers",
        ("SELECT bitwise_and_agg(x) FROM (VALUES 7, 6) t(x)", "6"),
    ),
    bound(
        "bitwise_or_agg",
        "aggregate",
        &["bitwise_or_agg(bigint) -> bigint"],
        "the bits set in any number",
        ("SELECT bitwise_or_agg(x) FROM (VALUES 4, 1) t(x)", "5"),
    ),
    bound(
        "bitwise_xor_agg",
        "aggregate",
        &["bitwise_xor_agg(bigint) -> bigint"],
        "the bits set in an odd count of numbers",
        ("SELECT bitwise_xor_agg(x) FROM (VALUES 7, 2) t(x)", "5"),
    ),
    bound(
        "bool_and",
        "aggregate",
        &["bool_and(boolean) -> boolean"],
        "whether all values are true",
        ("SELECT bool_and(x) FROM (VALUES true, false) t(x)", "false"),
    ),
    bound(
        "bool_or",
        "aggregate",
        &["bool_or(boolean) -> boolean"],
        "whether any value is true",
        ("SELECT bool_or(x) FROM (VALUES true, false) t(x)", "true"),
    ),
    bound(
        "checksum",
        "aggregate",
        &["checksum(T) -> varbinary"],
        "a checksum that does not depend on the order",
        ("SELECT to_hex(checksum(x)) FROM (VALUES 1, 2) t(x)", "6387D0F5865FD136"),
    ),
    bound(
        "corr",
        "aggregate",
        &["corr(double, double) -> double", "corr(real, real) -> real"],
        "the correlation of two columns",
        ("SELECT corr(x, x) FROM (VALUES 1e0, 2e0) t(x)", "1.0"),
    ),
    bound(
        "count",
        "aggregate",
        &["count() -> bigint", "count(T) -> bigint"],
        "how many rows there are, or values that are not NULL",
        ("SELECT count(x) FROM (VALUES 1, NULL) t(x)", "1"),
    ),
    bound(
        "count_if",
        "aggregate",
        &["count_if(boolean) -> bigint"],
        "how many values are true",
        ("SELECT count_if(x > 1) FROM (VALUES 1, 2) t(x)", "1"),
    ),
    bound(
        "covar_pop",
        "aggregate",
        &["covar_pop(double, double) -> double", "covar_pop(real, real) -> real"],
        "the covariance of a population",
        ("SELECT covar_pop(x, x) FROM (VALUES 1e0, 3e0) t(x)", "1.0"),
    ),
    bound(
        "covar_samp",
        "aggregate",
        &["covar_samp(double, double) -> double", "covar_samp(real, real) -> real"],
        "the covariance of a sample",
        ("SELECT covar_samp(x, x) FROM (VALUES 1e0, 3e0) t(x)", "2.0"),
    ),
    bound(
        "every",
        "aggregate",
        &["every(boolean) -> boolean"],
        "whether all values are true",
        ("SELECT every(x) FROM (VALUES true, true) t(x)", "true"),
    ),
    bound(
        "geometric_mean",
        "aggregate",
        &["geometric_mean(bigint) -> double", "geometric_mean(double) -> double", "geometric_mean(real) -> real"],
        "the geometric mean",
        ("SELECT round(geometric_mean(x)) FROM (VALUES 2, 8) t(x)", "4.0"),
    ),
    bound(
        "histogram",
        "aggregate",
        &["histogram(T) -> map(T, bigint)"],
        "how often each value occurs",
        ("SELECT histogram(x) FROM (VALUES 7, 7) t(x)", "{7=2}"),
    ),
    bound(
        "kurtosis",
        "aggregate",
        &["kurtosis(bigint) -> double", "kurtosis(double) -> double"],
        "the excess kurtosis",
        ("SELECT kurtosis(x) FROM (VALUES 1, 2) t(x)", "NULL"),
    ),
    bound(
        "listagg",
        "aggregate",
        &["listagg(varchar, varchar) -> varchar"],
        "texts joined by a separator, in the order WITHIN GROUP; ON OVERFLOW says what becomes of more than 1 MiB",
        ("SELECT listagg(x, ',') WITHIN GROUP (ORDER BY x) FROM (VALUES 'b', 'a') t(x)", "a,b"),
    ),
    bound(
        "map_agg",
        "aggregate",
        &["map_agg(K, V) -> map(K, V)"],
        "a map of keys to values; the first value of a key stays",
        ("SELECT map_agg(k, v) FROM (VALUES ('a', 1)) t(k, v)", "{a=1}"),
    ),
    bound(
        "map_union",
        "aggregate",
        &["map_union(map(K, V)) -> map(K, V)"],
        "the union of maps; the first value of a key stays",
        ("SELECT map_union(x) FROM (VALUES map(ARRAY['a'], ARRAY[1])) t(x)", "{a=1}"),
    ),
    bound(
        "max",
        "aggregate",
        &["max(T) -> T", "max(T, bigint) -> array(T)"],
        "the greatest value, or so many; a NaN loses against every number",
        ("SELECT max(x) FROM (VALUES 1e0, nan()) t(x)", "1.0"),
    ),
    bound(
        "max_by",
        "aggregate",
        &["max_by(V, K) -> V", "max_by(V, K, bigint) -> array(V)"],
        "the value beside the greatest key, or the values beside so many",
        ("SELECT max_by(v, k) FROM (VALUES ('a', 1), ('b', 2)) t(v, k)", "b"),
    ),
    bound(
        "min",
        "aggregate",
        &["min(T) -> T", "min(T, bigint) -> array(T)"],
        "the least value, or so many",
        ("SELECT min(x, 2) FROM (VALUES 3, 1, 2) t(x)", "[1, 2]"),
    ),
    bound(
        "min_by",
        "aggregate",
        &["min_by(V, K) -> V", "min_by(V, K, bigint) -> array(V)"],
        "the value beside the least key, or the values beside so many",
        ("SELECT min_by(v, k) FROM (VALUES ('a', 1), ('b', 2)) t(v, k)", "a"),
    ),
    bound(
        "multimap_agg",
        "aggregate",
        &["multimap_agg(K, V) -> map(K, array(V))"],
        "a map of keys to all their values",
        ("SELECT multimap_agg(k, v) FROM (VALUES ('a', 1)) t(k, v)", "{a=[1]}"),
    ),
    bound(
        "numeric_histogram",
        "aggregate",
        &["numeric_histogram(bigint, double) -> map(double, double)"],
        "a histogram of so many buckets",
        ("SELECT numeric_histogram(2, x) FROM (VALUES 1e0, 1e0) t(x)", "{1.0=2.0}"),
    ),
    bound(
        "reduce_agg",
        "aggregate",
        &["reduce_agg(T, S, function(S, T, S), function(S, S, S)) -> S"],
        "the values folded into a state by a lambda",
        ("SELECT reduce_agg(x, 0, (s, v) -> s + v, (a, b) -> a + b) FROM (VALUES 1, 2) t(x)", "3"),
    ),
    bound(
        "regr_intercept",
        "aggregate",
        &["regr_intercept(double, double) -> double", "regr_intercept(real, real) -> real"],
        "where the regression line crosses the axis",
        ("SELECT regr_intercept(x, x) FROM (VALUES 1e0, 2e0) t(x)", "0.0"),
    ),
    bound(
        "regr_slope",
        "aggregate",
        &["regr_slope(double, double) -> double", "regr_slope(real, real) -> real"],
        "the slope of the regression line",
        ("SELECT regr_slope(x, x) FROM (VALUES 1e0, 2e0) t(x)", "1.0"),
    ),
    bound(
        "skewness",
        "aggregate",
        &["skewness(bigint) -> double", "skewness(double) -> double"],
        "the skewness",
        ("SELECT skewness(x) FROM (VALUES 1, 2) t(x)", "NULL"),
    ),
    bound(
        "stddev",
        "aggregate",
        &["stddev(bigint) -> double", "stddev(double) -> double"],
        "the standard deviation of a sample",
        ("SELECT stddev(x) FROM (VALUES 1, 1) t(x)", "0.0"),
    ),
    bound(
        "stddev_pop",
        "aggregate",
        &["stddev_pop(bigint) -> double", "stddev_pop(double) -> double"],
        "the standard deviation of a population",
        ("SELECT stddev_pop(x) FROM (VALUES 1, 3) t(x)", "1.0"),
    ),
    bound(
        "stddev_samp",
        "aggregate",
        &["stddev_samp(bigint) -> double", "stddev_samp(double) -> double"],
        "the standard deviation of a sample",
        ("SELECT stddev_samp(x) FROM (VALUES 1, 1) t(x)", "0.0"),
    ),
    bound(
        "sum",
        "aggregate",
        &[
            "sum(bigint) -> bigint",
            "sum(double) -> double",
            "sum(real) -> real",
            "sum(decimal(p,s)) -> decimal(38,s)",
            "sum(interval day to second) -> interval day to second",
            "sum(interval year to month) -> interval year to month",
        ],
        "the sum; an error where it overflows",
        ("SELECT sum(x) FROM (VALUES 1, 2) t(x)", "3"),
    ),
    bound(
        "var_pop",
        "aggregate",
        &["var_pop(bigint) -> double", "var_pop(double) -> double"],
        "the variance of a population",
        ("SELECT var_pop(x) FROM (VALUES 1, 3) t(x)", "1.0"),
    ),
    bound(
        "var_samp",
        "aggregate",
        &["var_samp(bigint) -> double", "var_samp(double) -> double"],
        "the variance of a sample",
        ("SELECT var_samp(x) FROM (VALUES 1, 3) t(x)", "2.0"),
    ),
    bound(
        "variance",
        "aggregate",
        &["variance(bigint) -> double", "variance(double) -> double"],
        "the variance of a sample",
        ("SELECT variance(x) FROM (VALUES 1, 3) t(x)", "2.0"),
    ),
    bound(
        "cume_dist",
        "window",
        &["cume_dist() -> double"],
        "the share of rows at or before the row",
        ("SELECT cume_dist() OVER (ORDER BY x) FROM (VALUES 1) t(x)", "1.0"),
    ),
    bound(
        "dense_rank",
        "window",
        &["dense_rank() -> bigint"],
        "the rank without gaps",
        ("SELECT dense_rank() OVER (ORDER BY x) FROM (VALUES 1) t(x)", "1"),
    ),
    bound(
        "first_value",
        "window",
        &["first_value(T) -> T"],
        "the first value of the frame",
        ("SELECT first_value(x) OVER (ORDER BY x) FROM (VALUES 1) t(x)", "1"),
    ),
    bound(
        "lag",
        "window",
        &["lag(T) -> T", "lag(T, bigint) -> T", "lag(T, bigint, T) -> T"],
        "the value some rows before",
        ("SELECT lag(x, 1, 0) OVER (ORDER BY x) FROM (VALUES 1) t(x)", "0"),
    ),
    bound(
        "last_value",
        "window",
        &["last_value(T) -> T"],
        "the last value of the frame",
        ("SELECT last_value(x) OVER (ORDER BY x) FROM (VALUES 1) t(x)", "1"),
    ),
    bound(
        "lead",
        "window",
        &["lead(T) -> T", "lead(T, bigint) -> T", "lead(T, bigint, T) -> T"],
        "the value some rows after",
        ("SELECT lead(x, 1, 0) OVER (ORDER BY x) FROM (VALUES 1) t(x)", "0"),
    ),
    bound(
        "nth_value",
        "window",
        &["nth_value(T, bigint) -> T"],
        "the value of a position in the frame, from 1",
        ("SELECT nth_value(x, 1) OVER (ORDER BY x) FROM (VALUES 5) t(x)", "5"),
    ),
    bound(
        "ntile",
        "window",
        &["ntile(bigint) -> bigint"],
        "which of so many equal parts the row is in",
        ("SELECT ntile(2) OVER (ORDER BY x) FROM (VALUES 5) t(x)", "1"),
    ),
    bound(
        "percent_rank",
        "window",
        &["percent_rank() -> double"],
        "the rank as a share",
        ("SELECT percent_rank() OVER (ORDER BY x) FROM (VALUES 5) t(x)", "0.0"),
    ),
    bound(
        "rank",
        "window",
        &["rank() -> bigint"],
        "the rank with gaps",
        ("SELECT rank() OVER (ORDER BY x) FROM (VALUES 5) t(x)", "1"),
    ),
    bound(
        "row_number",
        "window",
        &["row_number() -> bigint"],
        "the number of the row, from 1",
        ("SELECT row_number() OVER (ORDER BY x) FROM (VALUES 5) t(x)", "1"),
    ),
    bound(
        "greatest",
        "scalar",
        &["greatest(E...) -> E"],
        "the greatest argument; NULL if one is",
        ("SELECT greatest(1, 3, 2)", "3"),
    ),
    bound(
        "least",
        "scalar",
        &["least(E...) -> E"],
        "the least argument; NULL if one is",
        ("SELECT least(3, 1, 2)", "1"),
    ),
    bound(
        "mod",
        "scalar",
        &[
            "mod(bigint, bigint) -> bigint",
            "mod(double, double) -> double",
            "mod(decimal(p,s), decimal(p,s)) -> decimal(p,s)",
        ],
        "the remainder, with the sign of the first",
        ("SELECT mod(-7, 3)", "-1"),
    ),
    bound(
        "current_time",
        "scalar",
        &["current_time() -> time(3) with time zone"],
        "the time of day when the query began, in the session's zone",
        ("SELECT typeof(current_time)", "time(3) with time zone"),
    ),
    bound("typeof", "scalar", &["typeof(T) -> varchar"], "the name of a type", ("SELECT typeof(1)", "integer")),
];
