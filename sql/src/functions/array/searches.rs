//! Finding elements.
//!
//! Invariant: a position counts from 1, and from the end if it is negative.

use std::{cmp::Ordering, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, StringArray},
    datatypes::DataType,
};
use headwater_engine::error::Result;

use super::sets::holds;
use super::{
    super::{
        column::{I64, Str},
        define::Definition,
        kernel::{invalid, whole},
        nested::{as_list, as_map},
        scalar::{Call, Kernel},
        sketch,
    },
    *,
};
use crate::kernels::ip;

pub(super) fn definitions() -> Vec<Definition> {
    vec![
        define_array_max(),
        define_array_min(),
        define_array_position(),
        define_contains(),
        define_contains_sequence(),
        define_array_remove(),
        define_element_at(),
        define_cardinality(),
        define_array_join(),
    ]
}

fn define_array_max() -> Definition {
    array("array_max", "the greatest element; NULL if one is NULL")
        .on("array_max(array(E)) -> E", extreme(Ordering::Greater))
        .example("SELECT array_max(ARRAY[1, 3, 2])", "3")
}

fn define_array_min() -> Definition {
    array("array_min", "the least element; NULL if one is NULL")
        .on("array_min(array(E)) -> E", extreme(Ordering::Less))
        .example("SELECT array_min(ARRAY[2, 1, 3])", "1")
}

fn define_array_position() -> Definition {
    array("array_position", "the position of an element; 0 if it is not there")
        .on(
            "array_position(array(E), E) -> bigint",
            whole(|call| {
                let (lists, wanted) = (call.full(0)?, call.full(1)?);
                let list = as_list(&lists)?;
                let found = (0..call.rows).map(|row| {
                    if list.is_null(row) || wanted.is_null(row) {
                        return Ok(None);
                    }
                    Ok(Some(compare::find(&list.value(row), &wanted, row)?.map_or(0, |at| at as i64 + 1)))
                });
                Ok(Arc::new(found.collect::<Result<Int64Array>>()?))
            }),
        )
        .example("SELECT array_position(ARRAY[3, 4], 4)", "2")
}

fn define_contains() -> Definition {
    array("contains", "whether an array holds an element")
        .on(
            "contains(array(E), E) -> boolean",
            whole(|call| {
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
            }),
        )
        .on(
            "contains(varchar, ipaddress) -> boolean",
            whole(|call| {
                let (networks, addresses) = (call.column::<Str>(0)?, call.full(1)?);
                let addresses = addresses.as_binary::<i64>();
                let found = (0..call.rows).map(|row| match networks.value(row).filter(|_| addresses.is_valid(row)) {
                    Some(network) => ip::contains(network, addresses.value(row)).map(Some),
                    None => Ok(None),
                });
                Ok(Arc::new(found.collect::<Result<BooleanArray>>()?) as ArrayRef)
            }),
        )
        .example("SELECT contains(ARRAY[1, 2], 2)", "true")
}

fn define_contains_sequence() -> Definition {
    array("contains_sequence", "whether an array holds the elements of another one after the other")
        .on(
            "contains_sequence(array(E), array(E)) -> boolean",
            whole(|call| {
                let (lists, wanted) = (call.full(0)?, call.full(1)?);
                let (list, wanted) = (as_list(&lists)?, as_list(&wanted)?);
                let found = (0..call.rows).map(|row| {
                    if list.is_null(row) || wanted.is_null(row) {
                        return Ok(None);
                    }
                    let (values, part) = (list.value(row), wanted.value(row));
                    for start in 0..(values.len() + 1).saturating_sub(part.len()) {
                        let mut all = true;
                        for at in 0..part.len() {
                            all = all && compare::same(&values, start + at, &part, at)?;
                        }
                        if all {
                            return Ok(Some(true));
                        }
                    }
                    Ok(Some(false))
                });
                Ok(Arc::new(found.collect::<Result<BooleanArray>>()?))
            }),
        )
        .example("SELECT contains_sequence(ARRAY[1, 2, 3], ARRAY[2, 3])", "true")
}

fn define_array_remove() -> Definition {
    array("array_remove", "an array without the elements equal to a value")
        .on(
            "array_remove(array(E), E) -> array(E)",
            elements(|call, values, row| {
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
            }),
        )
        .example("SELECT array_remove(ARRAY[1, 2], 1)", "[2]")
}

fn define_element_at() -> Definition {
    array(
        "element_at",
        "an array's element at a position, from the end if negative, or a map's value of a key; NULL if there is none",
    )
    .on(
        "element_at(array(E), bigint) -> E",
        element(|call, values, row| {
            let position = call.column::<I64>(1)?;
            let length = values.len() as i64;
            Ok(match position.value(row) {
                Some(0) => return Err(invalid("SQL array indices start at 1")),
                Some(at) if at > 0 && at <= length => usize::try_from(at - 1).ok(),
                Some(at) if at < 0 && at >= -length => usize::try_from(length + at).ok(),
                _ => None,
            })
        }),
    )
    .on(
        "element_at(map(K, V), K) -> V",
        whole(|call| {
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
        }),
    )
    .example("SELECT element_at(ARRAY[1, 2], -1)", "2")
}

fn define_cardinality() -> Definition {
    array("cardinality", "how many elements an array or map has")
        .on(
            "cardinality(array(E)) -> bigint",
            whole(|call| {
                let lists = call.full(0)?;
                let list = as_list(&lists)?;
                let counts = (0..call.rows).map(|row| list.is_valid(row).then(|| i64::from(list.value_length(row))));
                Ok(Arc::new(counts.collect::<Int64Array>()))
            }),
        )
        .on(
            "cardinality(map(K, V)) -> bigint",
            whole(|call| {
                let maps = call.full(0)?;
                let map = as_map(&maps)?;
                let counts = (0..call.rows).map(|row| map.is_valid(row).then(|| i64::from(map.value_length(row))));
                Ok(Arc::new(counts.collect::<Int64Array>()))
            }),
        )
        .on("cardinality(hyperloglog) -> bigint", sketch::count(sketch::count_of_hll))
        .on("cardinality(setdigest) -> bigint", sketch::count(sketch::count_of_set))
        .example("SELECT cardinality(ARRAY[1, NULL])", "2")
}

fn define_array_join() -> Definition {
    array("array_join", "the elements as text with a separator between; NULLs are left out, or written as given")
        .on("array_join(array(E), varchar) -> varchar", whole(|call| joined(call, false)))
        .on("array_join(array(E), varchar, varchar) -> varchar", whole(|call| joined(call, true)))
        .example("SELECT array_join(ARRAY[1, NULL, 2], '-')", "1-2")
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
            let wins = match compare::nan_last(values, at, best) {
                Ordering::Equal => compare::order(values, at, values, best)? == Some(wanted),
                order => order == Ordering::Less,
            };
            if wins {
                best = at;
            }
        }
        Ok(Some(best))
    })
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
