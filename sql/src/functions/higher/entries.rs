//! Names, signatures and examples of the functions that take lambdas.
//!
//! Invariant: every kind has one entry.

/// One of the functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Transform,
    Filter,
    AnyMatch,
    AllMatch,
    NoneMatch,
    Reduce,
    ZipWith,
    Sort,
    MapFilter,
    MapZipWith,
    TransformKeys,
    TransformValues,
}

/// Kind, name, signature, purpose, example and its answer.
pub(super) type Entry = (Kind, &'static str, &'static str, &'static str, &'static str, &'static str);

pub(super) const ENTRIES: &[Entry] = &[
    (
        Kind::Transform,
        "transform",
        "transform(array(T), function(T, U)) -> array(U)",
        "the lambda of each element",
        "SELECT transform(ARRAY[1], x -> x + 1)",
        "[2]",
    ),
    (
        Kind::Filter,
        "filter",
        "filter(array(T), function(T, boolean)) -> array(T)",
        "the elements for which the lambda is true",
        "SELECT filter(ARRAY[1, 2], x -> x > 1)",
        "[2]",
    ),
    (
        Kind::AnyMatch,
        "any_match",
        "any_match(array(T), function(T, boolean)) -> boolean",
        "whether the lambda is true for any element",
        "SELECT any_match(ARRAY[1], x -> x = 1)",
        "true",
    ),
    (
        Kind::AllMatch,
        "all_match",
        "all_match(array(T), function(T, boolean)) -> boolean",
        "whether the lambda is true for all elements",
        "SELECT all_match(ARRAY[1], x -> x = 1)",
        "true",
    ),
    (
        Kind::NoneMatch,
        "none_match",
        "none_match(array(T), function(T, boolean)) -> boolean",
        "whether the lambda is true for no element",
        "SELECT none_match(ARRAY[1], x -> x = 2)",
        "true",
    ),
    (
        Kind::Reduce,
        "reduce",
        "reduce(array(T), S, function(S, T, S), function(S, R)) -> R",
        "the elements folded into one value",
        "SELECT reduce(ARRAY[1, 2], 0, (s, x) -> s + x, s -> s)",
        "3",
    ),
    (
        Kind::ZipWith,
        "zip_with",
        "zip_with(array(T), array(U), function(T, U, R)) -> array(R)",
        "the lambda of the elements of two arrays side by side",
        "SELECT zip_with(ARRAY[1], ARRAY[2], (x, y) -> x + y)",
        "[3]",
    ),
    (
        Kind::Sort,
        "array_sort$lambda",
        "array_sort(array(T), function(T, T, integer)) -> array(T)",
        "the elements in the order of a comparator",
        "SELECT array_sort(ARRAY[1, 2], (a, b) -> b - a)",
        "[2, 1]",
    ),
    (
        Kind::MapFilter,
        "map_filter",
        "map_filter(map(K, V), function(K, V, boolean)) -> map(K, V)",
        "the entries for which the lambda is true",
        "SELECT map_filter(map(ARRAY[1, 2], ARRAY[3, 4]), (k, v) -> k > 1)",
        "{2=4}",
    ),
    (
        Kind::MapZipWith,
        "map_zip_with",
        "map_zip_with(map(K, V), map(K, W), function(K, V, W, X)) -> map(K, X)",
        "two maps merged by the lambda of key and values",
        "SELECT map_zip_with(map(ARRAY[1], ARRAY[2]), map(ARRAY[1], ARRAY[3]), (k, x, y) -> x + y)",
        "{1=5}",
    ),
    (
        Kind::TransformKeys,
        "transform_keys",
        "transform_keys(map(K, V), function(K, V, L)) -> map(L, V)",
        "a map with the keys the lambda gives",
        "SELECT transform_keys(map(ARRAY[1], ARRAY[2]), (k, v) -> k + 1)",
        "{2=2}",
    ),
    (
        Kind::TransformValues,
        "transform_values",
        "transform_values(map(K, V), function(K, V, W)) -> map(K, W)",
        "a map with the values the lambda gives",
        "SELECT transform_values(map(ARRAY[1], ARRAY[2]), (k, v) -> v + 1)",
        "{1=3}",
    ),
];
