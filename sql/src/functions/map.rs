//! Maps.
//!
//! Invariant: a map's keys are distinct and none is NULL.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, MapArray, StructArray, UInt32Array},
    compute::{interleave, take},
    datatypes::{DataType, Field},
};
use headwater_engine::error::{Error, Result};

use super::{
    Family, Function,
    define::{self, Definition, scalar},
    kernel::{invalid, whole},
    nested::{Offsets, as_list, as_map},
    scalar::{Call, Typing},
    signature::{list_of, map_of, map_parts},
};
use crate::kernels::compare;

/// The family's functions.
pub fn functions() -> Result<Vec<Function>> {
    define::build(vec![make(), keys(), values(), entries(), from_entries(), multimap(), concat()])
}

fn map(name: &'static str, summary: &'static str) -> Definition {
    scalar(Family::Map, name, summary)
}

fn duplicate() -> Error {
    invalid("duplicate map keys are not allowed")
}

/// Refuses NULL and repeated keys.
pub(super) fn check_keys(keys: &ArrayRef) -> Result<()> {
    if keys.logical_null_count() > 0 {
        return Err(invalid("map key cannot be null"));
    }
    if keys.len() > PAIRS_MAX {
        let distinct = crate::kernels::collected::grouped(keys)?.len();
        return if distinct < keys.len() { Err(duplicate()) } else { Ok(()) };
    }
    for at in 0..keys.len() {
        for before in 0..at {
            if compare::same(keys, before, keys, at)? {
                return Err(duplicate());
            }
        }
    }
    Ok(())
}

/// Keys up to which comparing each with each is faster than encoding them.
const PAIRS_MAX: usize = 16;

fn make() -> Definition {
    map("map", "a map of an array of keys and one of values, or an empty one")
        .on_typed(
            "map() -> unknown",
            |_: &Typing<'_>| Ok(map_of(DataType::Null, DataType::Null)),
            whole(|call| {
                let mut offsets = Offsets::new(call.rows);
                for _ in 0..call.rows {
                    offsets.end(0, true)?;
                }
                let none: ArrayRef = Arc::new(arrow::array::NullArray::new(0));
                offsets.map(none.clone(), none, call.result)
            }),
        )
        .on(
            "map(array(K), array(V)) -> map(K, V)",
            whole(|call| {
                let (keys, values) = (call.full(0)?, call.full(1)?);
                let (keys, values) = (as_list(&keys)?, as_list(&values)?);
                let (mut offsets, mut from_keys, mut from_values) = (Offsets::new(call.rows), Vec::new(), Vec::new());
                for row in 0..call.rows {
                    let valid = keys.is_valid(row) && values.is_valid(row);
                    if valid {
                        if keys.value_length(row) != values.value_length(row) {
                            return Err(invalid("key and value arrays must be the same length"));
                        }
                        check_keys(&keys.value(row))?;
                        from_keys
                            .extend((keys.value_offsets()[row]..keys.value_offsets()[row + 1]).map(|at| at as u32));
                        from_values
                            .extend((values.value_offsets()[row]..values.value_offsets()[row + 1]).map(|at| at as u32));
                    }
                    offsets.end(from_keys.len(), valid)?;
                }
                let keys = take(keys.values(), &UInt32Array::from(from_keys), None)?;
                let values = take(values.values(), &UInt32Array::from(from_values), None)?;
                offsets.map(keys, values, call.result)
            }),
        )
        .example("SELECT map(ARRAY['a'], ARRAY[1])", "{a=1}")
}

/// The present entries of a map column: offsets and the positions of the entries.
fn present(map: &MapArray, rows: usize) -> Result<(Offsets, UInt32Array)> {
    let (mut offsets, mut indices) = (Offsets::new(rows), Vec::new());
    for row in 0..rows {
        if map.is_valid(row) {
            indices.extend((map.value_offsets()[row]..map.value_offsets()[row + 1]).map(|at| at as u32));
        }
        offsets.end(indices.len(), map.is_valid(row))?;
    }
    Ok((offsets, UInt32Array::from(indices)))
}

fn keys() -> Definition {
    map("map_keys", "the keys of a map")
        .on(
            "map_keys(map(K, V)) -> array(K)",
            whole(|call| {
                let maps = call.full(0)?;
                let map = as_map(&maps)?;
                let (offsets, indices) = present(map, call.rows)?;
                offsets.list(take(map.keys(), &indices, None)?, call.result)
            }),
        )
        .example("SELECT map_keys(map(ARRAY['a'], ARRAY[1]))", "[a]")
}

fn values() -> Definition {
    map("map_values", "the values of a map")
        .on(
            "map_values(map(K, V)) -> array(V)",
            whole(|call| {
                let maps = call.full(0)?;
                let map = as_map(&maps)?;
                let (offsets, indices) = present(map, call.rows)?;
                offsets.list(take(map.values(), &indices, None)?, call.result)
            }),
        )
        .example("SELECT map_values(map(ARRAY['a'], ARRAY[1]))", "[1]")
}

fn entry_rows(typing: &Typing<'_>) -> Result<DataType> {
    let (key, value) = match typing.arguments.first() {
        Some(map @ DataType::Map(..)) => {
            map_parts(map).map(|(k, v)| (k.clone(), v.clone())).unwrap_or((DataType::Null, DataType::Null))
        }
        _ => (DataType::Null, DataType::Null),
    };
    Ok(list_of(DataType::Struct(vec![Field::new("", key, true), Field::new("", value, true)].into())))
}

fn entries() -> Definition {
    map("map_entries", "the entries of a map as rows of key and value")
        .on_typed(
            "map_entries(map(K, V)) -> array(row(K, V))",
            entry_rows,
            whole(|call| {
                let maps = call.full(0)?;
                let map = as_map(&maps)?;
                let (offsets, indices) = present(map, call.rows)?;
                let DataType::List(item) = call.result else { return Err(Error::internal("entries are an array")) };
                let DataType::Struct(fields) = item.data_type() else {
                    return Err(Error::internal("entries are rows"));
                };
                let columns = vec![take(map.keys(), &indices, None)?, take(map.values(), &indices, None)?];
                let columns = columns
                    .into_iter()
                    .zip(fields)
                    .map(|(column, field)| super::nested::conform(column, field.data_type()))
                    .collect::<Result<Vec<_>>>()?;
                let rows = StructArray::try_new_with_length(fields.clone(), columns, None, indices.len())?;
                offsets.list(Arc::new(rows), call.result)
            }),
        )
        .example("SELECT map_entries(map(ARRAY['a'], ARRAY[1]))", "[[a, 1]]")
}

fn from_entries() -> Definition {
    map("map_from_entries", "a map of an array of rows of key and value")
        .on(
            "map_from_entries(array(row(K, V))) -> map(K, V)",
            whole(|call| {
                let lists = call.full(0)?;
                let list = as_list(&lists)?;
                let (mut offsets, mut indices) = (Offsets::new(call.rows), Vec::new());
                let rows = list.values().as_struct();
                for row in 0..call.rows {
                    if list.is_valid(row) {
                        let own = list.value(row);
                        if own.null_count() > 0 {
                            return Err(invalid("map entry cannot be null"));
                        }
                        check_keys(own.as_struct().column(0))?;
                        indices.extend((list.value_offsets()[row]..list.value_offsets()[row + 1]).map(|at| at as u32));
                    }
                    offsets.end(indices.len(), list.is_valid(row))?;
                }
                let indices = UInt32Array::from(indices);
                offsets.map(take(rows.column(0), &indices, None)?, take(rows.column(1), &indices, None)?, call.result)
            }),
        )
        .example("SELECT map_from_entries(ARRAY[ROW('a', 1)])", "{a=1}")
}

fn multimap() -> Definition {
    map("multimap_from_entries", "a map of keys to all their values, of an array of rows of key and value")
        .on(
            "multimap_from_entries(array(row(K, V))) -> map(K, array(V))",
            whole(|call| {
                let lists = call.full(0)?;
                let result = crate::types::Type::from_arrow(call.result);
                crate::kernels::collected::evaluate(crate::kernels::collected::Collected::Multimap, &[lists], &result)
            }),
        )
        .example("SELECT multimap_from_entries(ARRAY[ROW('a', 1), ROW('a', 2)])", "{a=[1, 2]}")
}

fn concat() -> Definition {
    map("map_concat", "maps as one; the last one's value of a key stays")
        .on(
            "map_concat(map(K, V), map(K, V)...) -> map(K, V)",
            whole(|call: &Call<'_>| {
                let all = (0..call.arguments.len()).map(|index| call.full(index)).collect::<Result<Vec<_>>>()?;
                let maps = all.iter().map(as_map).collect::<Result<Vec<_>>>()?;
                let (mut offsets, mut order) = (Offsets::new(call.rows), Vec::new());
                for row in 0..call.rows {
                    let valid = maps.iter().all(|map| map.is_valid(row));
                    if valid {
                        order.extend(union(&maps, row)?);
                    }
                    offsets.end(order.len(), valid)?;
                }
                let keys: Vec<&dyn Array> = maps.iter().map(|map| map.keys().as_ref()).collect();
                let values: Vec<&dyn Array> = maps.iter().map(|map| map.values().as_ref()).collect();
                offsets.map(interleave(&keys, &order)?, interleave(&values, &order)?, call.result)
            }),
        )
        .example("SELECT map_concat(map(ARRAY['a'], ARRAY[1]), map(ARRAY['a'], ARRAY[2]))", "{a=2}")
}

/// The entries of the union of maps: map and position of each.
fn union(maps: &[&MapArray], row: usize) -> Result<Vec<(usize, usize)>> {
    let entries = |map: &MapArray| map.value_offsets()[row] as usize..map.value_offsets()[row + 1] as usize;
    if maps.iter().map(|map| entries(map).len()).sum::<usize>() > PAIRS_MAX {
        let all: Vec<(usize, usize)> =
            maps.iter().enumerate().flat_map(|(index, map)| entries(map).map(move |at| (index, at))).collect();
        let keys: Vec<&dyn Array> = maps.iter().map(|map| map.keys().as_ref()).collect();
        let groups = crate::kernels::collected::grouped(&interleave(&keys, &all)?)?;
        return Ok(groups.iter().filter_map(|group| all.get(*group.last()? as usize).copied()).collect());
    }
    let mut kept: Vec<(usize, usize)> = Vec::new();
    for (index, map) in maps.iter().enumerate() {
        for at in map.value_offsets()[row] as usize..map.value_offsets()[row + 1] as usize {
            let mut known = None;
            for (place, (other, other_at)) in kept.iter().enumerate() {
                if compare::same(maps[*other].keys(), *other_at, map.keys(), at)? {
                    known = Some(place);
                }
            }
            match known.and_then(|place| kept.get_mut(place)) {
                Some(entry) => *entry = (index, at),
                None => kept.push((index, at)),
            }
        }
    }
    Ok(kept)
}
