//! Aggregates that give sketches, as SHOW FUNCTIONS lists them.
//!
//! Invariant: as of all bound functions, the registry has none of these names.

use super::{Bound, bound};

/// All of them, by name.
pub(super) const SKETCHES: [Bound; 6] = [
    bound(
        "approx_set",
        "aggregate",
        &[
            "approx_set(bigint) -> HyperLogLog",
            "approx_set(double) -> HyperLogLog",
            "approx_set(varchar) -> HyperLogLog",
        ],
        "a sketch that counts distinct values, to be merged with others",
        ("SELECT cardinality(approx_set(x)) FROM (VALUES 1, 1, 2) t(x)", "2"),
    ),
    bound(
        "make_set_digest",
        "aggregate",
        &["make_set_digest(T) -> SetDigest"],
        "a sketch of a set, to be compared with others",
        ("SELECT cardinality(make_set_digest(x)) FROM (VALUES 1, 1, 2) t(x)", "2"),
    ),
    bound(
        "merge",
        "aggregate",
        &["merge(HyperLogLog) -> HyperLogLog", "merge(tdigest) -> tdigest", "merge(qdigest(T)) -> qdigest(T)"],
        "the sketch of all that the sketches of the group took",
        ("SELECT cardinality(merge(s)) FROM (SELECT approx_set(x) s FROM (VALUES 1, 2) t(x) GROUP BY x)", "2"),
    ),
    bound(
        "merge_set_digest",
        "aggregate",
        &["merge_set_digest(SetDigest) -> SetDigest"],
        "the set of all that the sets of the group took",
        (
            "SELECT cardinality(merge_set_digest(s)) FROM (SELECT make_set_digest(x) s FROM (VALUES 1, 2) t(x) GROUP BY x)",
            "2",
        ),
    ),
    bound(
        "qdigest_agg",
        "aggregate",
        &[
            "qdigest_agg(T) -> qdigest(T)",
            "qdigest_agg(T, bigint) -> qdigest(T)",
            "qdigest_agg(T, bigint, double) -> qdigest(T)",
        ],
        "a sketch of quantiles, of values, their weight and the error of rank",
        ("SELECT value_at_quantile(qdigest_agg(x), 0.9) FROM (VALUES 1, 2, 3) t(x)", "3"),
    ),
    bound(
        "tdigest_agg",
        "aggregate",
        &["tdigest_agg(double) -> tdigest", "tdigest_agg(double, double) -> tdigest"],
        "a sketch of quantiles, finer towards the ends, of values and their weight",
        ("SELECT value_at_quantile(tdigest_agg(x), 0.5) FROM (VALUES 1, 2, 3) t(x)", "2.0"),
    ),
];
