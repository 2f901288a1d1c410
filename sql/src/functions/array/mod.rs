//! Arrays.
//!
//! Invariant: positions count from 1, NULLs sort last, and sets count NULL equal to NULL.

use std::{cmp::Ordering, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, StringArray, UInt32Array},
    compute::take,
    datatypes::{DataType, Field, Int64Type},
};
use datafusion::logical_expr::Volatility;
use headwater_engine::error::{Error, Result};
use rand::seq::SliceRandom;

use super::{
    Family, Function,
    column::{I64, Str},
    define::{self, Definition, like_first, scalar},
    kernel::{invalid, whole},
    nested::{Offsets, as_list, as_map},
    scalar::{Call, Kernel, Typing},
    signature::{list_of, map_of},
};
use crate::{
    kernels::{compare, nested::concat, render, rows::pick},
    types::Type,
};

mod sequence;

/// The family's functions.
pub fn functions() -> Result<Vec<Function>> {
    let mut all = sets();
    all.extend(searches());
    all.extend(shapes());
    all.extend(combined());
    all.push(sequence::definition());
    define::build(all)
}

fn array(name: &'static str, summary: &'static str) -> Definition {
    scalar(Family::Array, name, summary)
}

/// Arrays of elements of the first argument, by their positions in it; `None` makes the row NULL.
fn elements(f: impl Fn(&Call<'_>, &ArrayRef, usize) -> Result<Option<Vec<usize>>> + Send + Sync + 'static) -> Kernel {
    whole(move |call: &Call<'_>| {
        let lists = call.full(0)?;
        let list = as_list(&lists)?;
        let (mut offsets, mut indices) = (Offsets::new(call.rows), Vec::new());
        for row in 0..call.rows {
            let chosen = if list.is_null(row) { None } else { f(call, &list.value(row), row)? };
            let start = list.value_offsets()[row] as usize;
            let valid = chosen.is_some();
            indices.extend(chosen.into_iter().flatten().map(|at| (start + at) as u32));
            offsets.end(indices.len(), valid)?;
        }
        offsets.list(take(list.values(), &UInt32Array::from(indices), None)?, call.result)
    })
}

/// A second array of the same row, if it is not NULL.
fn other(call: &Call<'_>, row: usize) -> Result<Option<ArrayRef>> {
    let lists = call.full(1)?;
    let list = as_list(&lists)?;
    Ok(list.is_valid(row).then(|| list.value(row)))
}

fn holds(values: &ArrayRef, other: &ArrayRef, at: usize) -> Result<bool> {
    Ok(compare::find(values, other, at)?.is_some())
}

fn distinct(values: &ArrayRef) -> Result<Vec<usize>> {
    let mut kept: Vec<usize> = Vec::new();
    for at in 0..values.len() {
        let mut seen = false;
        for &known in &kept {
            seen |= compare::same(values, known, values, at)?;
        }
        if !seen {
            kept.push(at);
        }
    }
    Ok(kept)
}

/// Positions in ascending order, NULLs last.
pub(super) fn sorted(values: &ArrayRef) -> Result<Vec<usize>> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    let mut failed = None;
    order.sort_by(|&a, &b| match (values.is_null(a), values.is_null(b)) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => compare::order(values, a, values, b)
            .unwrap_or_else(|error| {
                failed = Some(error);
                None
            })
            .unwrap_or(Ordering::Equal),
    });
    failed.map_or(Ok(order), Err)
}

fn sets() -> Vec<Definition> {
    vec![
        array("array_distinct", "the elements of an array without repetitions")
            .on_typed(
                "array_distinct(array(E)) -> array(E)",
                like_first,
                elements(|_, values, _| distinct(values).map(Some)),
            )
            .example("SELECT array_distinct(ARRAY[1, 1, 2])", "[1, 2]"),
        array("array_except", "the elements of one array that another does not hold, without repetitions")
            .on(
                "array_except(array(E), array(E)) -> array(E)",
                elements(|call, values, row| {
                    let Some(other) = other(call, row)? else { return Ok(None) };
                    let mut kept = Vec::new();
                    for at in distinct(values)? {
                        if !holds(&other, values, at)? {
                            kept.push(at);
                        }
                    }
                    Ok(Some(kept))
                }),
            )
            .example("SELECT array_except(ARRAY[1, 2], ARRAY[2])", "[1]"),
        array("array_intersect", "the elements two arrays share, without repetitions")
            .on(
                "array_intersect(array(E), array(E)) -> array(E)",
                elements(|call, values, row| {
                    let Some(other) = other(call, row)? else { return Ok(None) };
                    let mut kept = Vec::new();
                    for at in distinct(values)? {
                        if holds(&other, values, at)? {
                            kept.push(at);
                        }
                    }
                    Ok(Some(kept))
                }),
            )
            .example("SELECT array_intersect(ARRAY[1, 2], ARRAY[2])", "[2]"),
        array("array_union", "the elements of two arrays, without repetitions")
            .on(
                "array_union(array(E), array(E)) -> array(E)",
                whole(|call| {
                    let both = concat(&call.full(0)?, &call.full(1)?, &Type::array(Type::Unknown))?;
                    let list = as_list(&both)?;
                    let (mut offsets, mut indices) = (Offsets::new(call.rows), Vec::new());
                    for row in 0..call.rows {
                        let start = list.value_offsets()[row] as usize;
                        if list.is_valid(row) {
                            indices.extend(distinct(&list.value(row))?.into_iter().map(|at| (start + at) as u32));
                        }
                        offsets.end(indices.len(), list.is_valid(row))?;
                    }
                    offsets.list(take(list.values(), &UInt32Array::from(indices), None)?, call.result)
                }),
            )
            .example("SELECT array_union(ARRAY[1], ARRAY[1, 2])", "[1, 2]"),
        array("arrays_overlap", "whether two arrays share an element")
            .on(
                "arrays_overlap(array(E), array(E)) -> boolean",
                whole(|call| {
                    let (a, b) = (call.full(0)?, call.full(1)?);
                    let (a, b) = (as_list(&a)?, as_list(&b)?);
                    let found = (0..call.rows).map(|row| {
                        if a.is_null(row) || b.is_null(row) {
                            return Ok(None);
                        }
                        overlap(&a.value(row), &b.value(row))
                    });
                    Ok(Arc::new(found.collect::<Result<BooleanArray>>()?))
                }),
            )
            .example("SELECT arrays_overlap(ARRAY[1, 2], ARRAY[2])", "true"),
        array("array_histogram", "how often each element of an array occurs")
            .on_typed(
                "array_histogram(array(E)) -> map(E, bigint)",
                histogram_type,
                whole(|call| {
                    let lists = call.full(0)?;
                    let list = as_list(&lists)?;
                    let (mut offsets, mut keys, mut counts) = (Offsets::new(call.rows), Vec::new(), Vec::new());
                    for row in 0..call.rows {
                        if list.is_valid(row) {
                            let (values, start) = (list.value(row), list.value_offsets()[row] as usize);
                            for at in distinct(&values)?.into_iter().filter(|&at| values.is_valid(at)) {
                                let mut count = 0;
                                for other in 0..values.len() {
                                    count += i64::from(compare::same(&values, at, &values, other)?);
                                }
                                keys.push((start + at) as u32);
                                counts.push(count);
                            }
                        }
                        offsets.end(keys.len(), list.is_valid(row))?;
                    }
                    let keys = take(list.values(), &UInt32Array::from(keys), None)?;
                    offsets.map(keys, Arc::new(Int64Array::from(counts)), call.result)
                }),
            )
            .example("SELECT array_histogram(ARRAY[1, 1])", "{1=2}"),
    ]
}

fn histogram_type(typing: &Typing<'_>) -> Result<DataType> {
    Ok(map_of(element_of(typing)?, DataType::Int64))
}

fn overlap(a: &ArrayRef, b: &ArrayRef) -> Result<Option<bool>> {
    for at in (0..a.len()).filter(|&at| a.is_valid(at)) {
        if holds(b, a, at)? {
            return Ok(Some(true));
        }
    }
    let unknown = a.null_count() > 0 && !b.is_empty() || b.null_count() > 0 && !a.is_empty();
    Ok((!unknown).then_some(false))
}

/// One element of the first argument per row, by its position.
fn element(f: impl Fn(&Call<'_>, &ArrayRef, usize) -> Result<Option<usize>> + Send + Sync + 'static) -> Kernel {
    whole(move |call: &Call<'_>| {
        let lists = call.full(0)?;
        let list = as_list(&lists)?;
        let chosen = (0..call.rows).map(|row| {
            if list.is_null(row) {
                return Ok(None);
            }
            let start = list.value_offsets()[row] as usize;
            Ok(f(call, &list.value(row), row)?.map(|at| (start + at) as u32))
        });
        pick(list.values(), chosen.collect::<Result<_>>()?)
    })
}

fn extreme(wanted: Ordering) -> Kernel {
    element(move |_, values, _| {
        if values.null_count() > 0 || values.is_empty() || values.data_type() == &DataType::Null {
            return Ok(None);
        }
        let mut best = 0;
        for at in 1..values.len() {
            match compare::order(values, at, values, best)? {
                Some(order) if order == wanted => best = at,
                None => {
                    best =
                        if compare::same(values, at, values, at)? && compare::order(values, at, values, at)?.is_none() {
                            at
                        } else {
                            best
                        }
                }
                _ => {}
            }
        }
        Ok(Some(best))
    })
}

fn element_of(typing: &Typing<'_>) -> Result<DataType> {
    match typing.arguments.first() {
        Some(DataType::List(field)) => Ok(field.data_type().clone()),
        Some(DataType::Null) | None => Ok(DataType::Null),
        Some(other) => Err(Error::internal(format!("an array is expected, not {other}"))),
    }
}

fn searches() -> Vec<Definition> {
    vec![
        array("array_max", "the greatest element; NULL if one is NULL")
            .on("array_max(array(E)) -> E", extreme(Ordering::Greater))
            .example("SELECT array_max(ARRAY[1, 3, 2])", "3"),
        array("array_min", "the least element; NULL if one is NULL")
            .on("array_min(array(E)) -> E", extreme(Ordering::Less))
            .example("SELECT array_min(ARRAY[2, 1, 3])", "1"),
        array("array_position", "the position of an element; 0 if it is not there")
            .on("array_position(array(E), E) -> bigint", whole(|call| {
                let (lists, wanted) = (call.full(0)?, call.full(1)?);
                let list = as_list(&lists)?;
                let found = (0..call.rows).map(|row| {
                    if list.is_null(row) || wanted.is_null(row) {
                        return Ok(None);
                    }
                    Ok(Some(compare::find(&list.value(row), &wanted, row)?.map_or(0, |at| at as i64 + 1)))
                });
                Ok(Arc::new(found.collect::<Result<Int64Array>>()?))
            }))
            .example("SELECT array_position(ARRAY[3, 4], 4)", "2"),
        array("contains", "whether an array holds an element")
            .on("contains(array(E), E) -> boolean", whole(|call| {
                let (lists, wanted) = (call.full(0)?, call.full(1)?);
                let list = as_list(&lists)?;
                let found = (0..call.rows).map(|row| {
                    if list.is_null(row) || wanted.is_null(row) {
                        return Ok(None);
                    }
                    let values = list.value(row);
                    Ok(match (holds(&values, &wanted, row)?, values.null_count() > 0) {
                        (true, _) => Some(true),
                        (false, true) => None,
                        (false, false) => Some(false),
                    })
                });
                Ok(Arc::new(found.collect::<Result<BooleanArray>>()?))
            }))
            .example("SELECT contains(ARRAY[1, 2], 2)", "true"),
        array("array_remove", "an array without the elements equal to a value")
            .on("array_remove(array(E), E) -> array(E)", elements(|call, values, row| {
                let wanted = call.full(1)?;
                if wanted.is_null(row) {
                    return Ok(None);
                }
                let mut kept = Vec::new();
                for at in 0..values.len() {
                    if values.is_null(at) || !compare::same(values, at, &wanted, row)? {
                        kept.push(at);
                    }
                }
                Ok(Some(kept))
            }))
            .example("SELECT array_remove(ARRAY[1, 2], 1)", "[2]"),
        array("element_at", "an array's element at a position, from the end if negative, or a map's value of a key; NULL if there is none")
            .on("element_at(array(E), bigint) -> E", element(|call, values, row| {
                let position = call.column::<I64>(1)?;
                let length = values.len() as i64;
                Ok(match position.value(row) {
                    Some(0) => return Err(invalid("SQL array indices start at 1")),
                    Some(at) if at > 0 && at <= length => usize::try_from(at - 1).ok(),
                    Some(at) if at < 0 && -at <= length => usize::try_from(length + at).ok(),
                    _ => None,
                })
            }))
            .on("element_at(map(K, V), K) -> V", whole(|call| {
                let (maps, keys) = (call.full(0)?, call.full(1)?);
                let map = as_map(&maps)?;
                let mut chosen = Vec::with_capacity(call.rows);
                for row in 0..call.rows {
                    if map.is_null(row) || keys.is_null(row) {
                        chosen.push(None);
                        continue;
                    }
                    let start = map.value_offsets()[row] as usize;
                    let own = map.keys().slice(start, map.value_length(row) as usize);
                    chosen.push(compare::find(&own, &keys, row)?.map(|at| (start + at) as u32));
                }
                pick(map.values(), chosen)
            }))
            .example("SELECT element_at(ARRAY[1, 2], -1)", "2"),
        array("cardinality", "how many elements an array or map has")
            .on("cardinality(array(E)) -> bigint", whole(|call| {
                let lists = call.full(0)?;
                let list = as_list(&lists)?;
                let counts = (0..call.rows).map(|row| list.is_valid(row).then(|| i64::from(list.value_length(row))));
                Ok(Arc::new(counts.collect::<Int64Array>()))
            }))
            .on("cardinality(map(K, V)) -> bigint", whole(|call| {
                let maps = call.full(0)?;
                let map = as_map(&maps)?;
                let counts = (0..call.rows).map(|row| map.is_valid(row).then(|| i64::from(map.value_length(row))));
                Ok(Arc::new(counts.collect::<Int64Array>()))
            }))
            .example("SELECT cardinality(ARRAY[1, NULL])", "2"),
        array("array_join", "the elements as text with a separator between; NULLs are left out, or written as given")
            .on("array_join(array(E), varchar) -> varchar", whole(|call| joined(call, false)))
            .on("array_join(array(E), varchar, varchar) -> varchar", whole(|call| joined(call, true)))
            .example("SELECT array_join(ARRAY[1, NULL, 2], '-')", "1-2"),
    ]
}

fn joined(call: &Call<'_>, replaces: bool) -> Result<ArrayRef> {
    let lists = call.full(0)?;
    let list = as_list(&lists)?;
    let separators = call.column::<Str>(1)?;
    let replacements = if replaces { Some(call.column::<Str>(2)?) } else { None };
    let texts = render::texts(list.values(), &Type::from_arrow(list.values().data_type()))?;
    let made = (0..call.rows).map(|row| {
        if list.is_null(row) {
            return None;
        }
        let replacement = match &replacements {
            Some(column) => Some(column.value(row)?),
            None => None,
        };
        let own = list.value_offsets()[row] as usize..list.value_offsets()[row + 1] as usize;
        let parts: Vec<&str> = texts[own].iter().filter_map(|text| text.as_deref().or(replacement)).collect();
        Some(parts.join(separators.value(row)?))
    });
    Ok(Arc::new(made.collect::<StringArray>()))
}

/// `reverse(array)`
pub fn reverse_kernel() -> Kernel {
    elements(|_, values, _| Ok(Some((0..values.len()).rev().collect())))
}

fn shapes() -> Vec<Definition> {
    vec![
        array("array_sort", "the elements in ascending order, NULLs last")
            .on_typed("array_sort(array(E)) -> array(E)", like_first, elements(|_, values, _| sorted(values).map(Some)))
            .example("SELECT array_sort(ARRAY[2, 1])", "[1, 2]"),
        array("shuffle", "the elements in random order")
            .on_typed(
                "shuffle(array(E)) -> array(E)",
                like_first,
                elements(|_, values, _| {
                    let mut order: Vec<usize> = (0..values.len()).collect();
                    order.shuffle(&mut rand::rng());
                    Ok(Some(order))
                }),
            )
            .volatility(Volatility::Volatile)
            .example("SELECT shuffle(ARRAY[1])", "[1]"),
        array("slice", "so many elements from a position on, from the end if it is negative")
            .on(
                "slice(array(E), bigint, bigint) -> array(E)",
                elements(|call, values, row| {
                    let (start, length) = (call.column::<I64>(1)?, call.column::<I64>(2)?);
                    let (Some(start), Some(length)) = (start.value(row), length.value(row)) else { return Ok(None) };
                    if start == 0 {
                        return Err(invalid("SQL array indices start at 1"));
                    }
                    if length < 0 {
                        return Err(invalid("length must be greater than or equal to 0"));
                    }
                    let count = values.len() as i64;
                    let from = if start > 0 { start - 1 } else { count + start };
                    if from < 0 || from >= count {
                        return Ok(Some(Vec::new()));
                    }
                    Ok(Some((from as usize..from.saturating_add(length).min(count) as usize).collect()))
                }),
            )
            .example("SELECT slice(ARRAY[1, 2, 3], 2, 2)", "[2, 3]"),
        array("trim_array", "an array without its last elements")
            .on(
                "trim_array(array(E), bigint) -> array(E)",
                elements(|call, values, row| {
                    let Some(count) = call.column::<I64>(1)?.value(row) else { return Ok(None) };
                    let kept = usize::try_from(count).ok().and_then(|count| values.len().checked_sub(count));
                    match (kept, count < 0) {
                        (Some(kept), _) => Ok(Some((0..kept).collect())),
                        (None, true) => Err(invalid("size must not be negative")),
                        (None, false) => {
                            Err(invalid(format!("size must not exceed array cardinality {}", values.len())))
                        }
                    }
                }),
            )
            .example("SELECT trim_array(ARRAY[1, 2], 1)", "[1]"),
        array("repeat", "an array of a value so many times")
            .on_typed(
                "repeat(E, bigint) -> array(E)",
                repeated_type,
                whole(|call| {
                    let (values, counts) = (call.full(0)?, call.column::<I64>(1)?);
                    let (mut offsets, mut indices) = (Offsets::new(call.rows), Vec::new());
                    for row in 0..call.rows {
                        let count = counts.value(row);
                        if let Some(count) = count {
                            if !(0..=10_000).contains(&count) {
                                return Err(invalid("count argument of repeat function must be from 0 to 10000"));
                            }
                            indices.extend(std::iter::repeat_n(row as u32, count as usize));
                        }
                        offsets.end(indices.len(), count.is_some())?;
                    }
                    offsets.list(take(&values, &UInt32Array::from(indices), None)?, call.result)
                }),
            )
            .example("SELECT repeat('a', 2)", "[a, a]"),
    ]
}

fn repeated_type(typing: &Typing<'_>) -> Result<DataType> {
    Ok(list_of(typing.arguments.first().cloned().unwrap_or(DataType::Null)))
}

/// Arrays of arrays of elements of the first argument.
fn groups(f: impl Fn(usize, usize) -> Result<Vec<Vec<usize>>> + Send + Sync + 'static) -> Kernel {
    whole(move |call: &Call<'_>| {
        let lists = call.full(0)?;
        let list = as_list(&lists)?;
        let sizes = call.column::<I64>(1)?;
        let (mut outer, mut lengths, mut indices) = (Offsets::new(call.rows), Vec::new(), Vec::new());
        for row in 0..call.rows {
            let size = if list.is_valid(row) { sizes.value(row) } else { None };
            if let Some(size) = size {
                let size = usize::try_from(size).map_err(|_| invalid("size must not be negative"))?;
                let start = list.value_offsets()[row] as usize;
                for group in f(list.value_length(row) as usize, size)? {
                    lengths.push(group.len());
                    indices.extend(group.into_iter().map(|at| (start + at) as u32));
                }
            }
            outer.end(lengths.len(), size.is_some())?;
        }
        let values = take(list.values(), &UInt32Array::from(indices), None)?;
        let field = Field::new("item", values.data_type().clone(), true);
        let inner = ListArray::try_new(field.into(), arrow::buffer::OffsetBuffer::from_lengths(lengths), values, None)?;
        outer.list(Arc::new(inner), call.result)
    })
}

fn chosen(count: usize, size: usize) -> Result<Vec<Vec<usize>>> {
    const GROUPS_MAX: usize = 100_000;
    if size > 5 {
        return Err(invalid("combination size must not exceed 5"));
    }
    let mut all: Vec<Vec<usize>> = vec![Vec::new()];
    for _ in 0..size {
        let mut longer = Vec::new();
        for group in &all {
            let from = group.last().map_or(0, |last| last + 1);
            longer.extend((from..count).map(|next| [group.as_slice(), &[next]].concat()));
        }
        if longer.len() > GROUPS_MAX {
            return Err(invalid("combinations exceed max size"));
        }
        all = longer;
    }
    Ok(all)
}

fn windows(count: usize, size: usize) -> Result<Vec<Vec<usize>>> {
    if size == 0 {
        return Err(invalid("N must be positive"));
    }
    if count <= size {
        return Ok(vec![(0..count).collect()]);
    }
    Ok((0..=count - size).map(|start| (start..start + size).collect()).collect())
}

fn combined() -> Vec<Definition> {
    vec![
        array("combinations", "the combinations of so many elements")
            .on("combinations(array(E), bigint) -> array(array(E))", groups(chosen))
            .example("SELECT combinations(ARRAY[1, 2], 1)", "[[1], [2]]"),
        array("ngrams", "the runs of so many elements")
            .on("ngrams(array(E), bigint) -> array(array(E))", groups(windows))
            .example("SELECT ngrams(ARRAY[1, 2, 3], 2)", "[[1, 2], [2, 3]]"),
        array("flatten", "the elements of the arrays in an array")
            .on(
                "flatten(array(array(E))) -> array(E)",
                whole(|call| {
                    let lists = call.full(0)?;
                    let list = as_list(&lists)?;
                    let values = super::nested::conform(list.values().clone(), &list_of(flat_element(call.result)?))?;
                    let inner = as_list(&values)?;
                    let (mut offsets, mut indices) = (Offsets::new(call.rows), Vec::new());
                    for row in 0..call.rows {
                        if list.is_valid(row) {
                            for at in list.value_offsets()[row] as usize..list.value_offsets()[row + 1] as usize {
                                if inner.is_valid(at) {
                                    indices.extend(
                                        (inner.value_offsets()[at]..inner.value_offsets()[at + 1]).map(|i| i as u32),
                                    );
                                }
                            }
                        }
                        offsets.end(indices.len(), list.is_valid(row))?;
                    }
                    offsets.list(take(inner.values(), &UInt32Array::from(indices), None)?, call.result)
                }),
            )
            .example("SELECT flatten(ARRAY[ARRAY[1], ARRAY[2]])", "[1, 2]"),
        zip(),
    ]
}

fn flat_element(result: &DataType) -> Result<DataType> {
    match result {
        DataType::List(field) => Ok(field.data_type().clone()),
        other => Err(Error::internal(format!("an array type is expected, not {other}"))),
    }
}

fn zipped_type(typing: &Typing<'_>) -> Result<DataType> {
    let fields = typing.arguments.iter().map(|argument| {
        let inner = match argument {
            DataType::List(field) => field.data_type().clone(),
            _ => DataType::Null,
        };
        Field::new("", inner, true)
    });
    Ok(list_of(DataType::Struct(fields.collect())))
}

fn zip() -> Definition {
    let kernel = || {
        whole(|call: &Call<'_>| {
            let args = (0..call.arguments.len()).map(|index| call.full(index)).collect::<Result<Vec<_>>>()?;
            let shape = crate::kernels::nested::ZipShape {
                inputs: args.iter().map(|arg| Type::from_arrow(arg.data_type())).collect(),
                ordinality: false,
                outer: false,
            };
            let zipped = zip_rows(&args, call, &shape)?;
            Ok(zipped)
        })
    };
    array("zip", "arrays as one array of rows, the shorter ones filled with NULLs")
        .on_typed("zip(array(A), array(B)) -> array(A)", zipped_type, kernel())
        .on_typed("zip(array(A), array(B), array(C)) -> array(A)", zipped_type, kernel())
        .on_typed("zip(array(A), array(B), array(C), array(D)) -> array(A)", zipped_type, kernel())
        .on_typed("zip(array(A), array(B), array(C), array(D), array(E)) -> array(A)", zipped_type, kernel())
        .example("SELECT zip(ARRAY[1], ARRAY['a'])", "[[1, a]]")
}

fn zip_rows(args: &[ArrayRef], call: &Call<'_>, _shape: &crate::kernels::nested::ZipShape) -> Result<ArrayRef> {
    let lists = args.iter().map(as_list).collect::<Result<Vec<_>>>()?;
    let mut offsets = Offsets::new(call.rows);
    let mut picks: Vec<Vec<Option<u32>>> = vec![Vec::new(); lists.len()];
    let mut total = 0;
    for row in 0..call.rows {
        let valid = lists.iter().all(|list| list.is_valid(row));
        if valid {
            let length = lists.iter().map(|list| list.value_length(row)).max().unwrap_or(0);
            for (list, picks) in lists.iter().zip(&mut picks) {
                let start = list.value_offsets()[row];
                picks.extend((0..length).map(|at| (at < list.value_length(row)).then_some((start + at) as u32)));
            }
            total += length as usize;
        }
        offsets.end(total, valid)?;
    }
    let DataType::List(item) = call.result else { return Err(Error::internal("zip gives an array")) };
    let DataType::Struct(fields) = item.data_type() else { return Err(Error::internal("zip gives rows")) };
    let columns = lists
        .iter()
        .zip(picks)
        .zip(fields)
        .map(|((list, picks), field)| super::nested::conform(pick(list.values(), picks)?, field.data_type()))
        .collect::<Result<Vec<_>>>()?;
    let rows = arrow::array::StructArray::try_new_with_length(fields.clone(), columns, None, total)?;
    offsets.list(Arc::new(rows), call.result)
}

/// `concat(array, ..)`
pub fn concat_kernel() -> Kernel {
    whole(|call: &Call<'_>| {
        let mut all = call.full(0)?;
        for index in 1..call.arguments.len() {
            all = concat(&all, &call.full(index)?, &Type::array(Type::Unknown))?;
        }
        Ok(all)
    })
}

fn singles(values: &ArrayRef) -> Result<ArrayRef> {
    let field = Field::new("item", values.data_type().clone(), true);
    let offsets = arrow::buffer::OffsetBuffer::from_lengths(std::iter::repeat_n(1, values.len()));
    Ok(Arc::new(ListArray::try_new(field.into(), offsets, values.clone(), None)?))
}

/// `concat(element, array)`
pub fn prepend_kernel() -> Kernel {
    whole(|call: &Call<'_>| concat(&singles(&call.full(0)?)?, &call.full(1)?, &Type::array(Type::Unknown)))
}

/// `concat(array, element)`
pub fn append_kernel() -> Kernel {
    whole(|call: &Call<'_>| concat(&call.full(0)?, &singles(&call.full(1)?)?, &Type::array(Type::Unknown)))
}

/// Whole numbers of a column.
pub(super) fn numbers(array: &ArrayRef) -> Vec<Option<i64>> {
    array.as_primitive::<Int64Type>().iter().collect()
}
