//! Arrays as sets.
//!
//! Invariant: NULL counts as equal to NULL here.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, BooleanArray, Int64Array, UInt32Array},
    compute::take,
    datatypes::DataType,
};
use headwater_engine::error::Result;

use super::{
    super::{
        define::{Definition, like_first},
        kernel::whole,
        nested::{Offsets, as_list},
        scalar::{Call, Typing},
        signature::map_of,
    },
    *,
};

pub(super) fn definitions() -> Vec<Definition> {
    vec![
        define_array_distinct(),
        define_array_except(),
        define_array_intersect(),
        define_array_union(),
        define_arrays_overlap(),
        define_array_histogram(),
    ]
}

fn define_array_distinct() -> Definition {
    array("array_distinct", "the elements of an array without repetitions")
        .on_typed(
            "array_distinct(array(E)) -> array(E)",
            like_first,
            elements(|_, values, _| distinct(values).map(Some)),
        )
        .example("SELECT array_distinct(ARRAY[1, 1, 2])", "[1, 2]")
}

fn define_array_except() -> Definition {
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
        .example("SELECT array_except(ARRAY[1, 2], ARRAY[2])", "[1]")
}

fn define_array_intersect() -> Definition {
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
        .example("SELECT array_intersect(ARRAY[1, 2], ARRAY[2])", "[2]")
}

fn define_array_union() -> Definition {
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
        .example("SELECT array_union(ARRAY[1], ARRAY[1, 2])", "[1, 2]")
}

fn define_arrays_overlap() -> Definition {
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
        .example("SELECT arrays_overlap(ARRAY[1, 2], ARRAY[2])", "true")
}

fn define_array_histogram() -> Definition {
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
        .example("SELECT array_histogram(ARRAY[1, 1])", "{1=2}")
}

/// A second array of the same row, if it is not NULL.
fn other(call: &Call<'_>, row: usize) -> Result<Option<ArrayRef>> {
    let lists = call.full(1)?;
    let list = as_list(&lists)?;
    Ok(list.is_valid(row).then(|| list.value(row)))
}

pub(super) fn holds(values: &ArrayRef, other: &ArrayRef, at: usize) -> Result<bool> {
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

fn histogram_type(typing: &Typing<'_>) -> Result<DataType> {
    Ok(map_of(element_of(typing)?, DataType::Int64))
}

fn overlap(a: &ArrayRef, b: &ArrayRef) -> Result<Option<bool>> {
    if *a.data_type() == DataType::Null || *b.data_type() == DataType::Null {
        return Ok(if a.is_empty() || b.is_empty() { Some(false) } else { None });
    }
    for at in (0..a.len()).filter(|&at| a.is_valid(at)) {
        if holds(b, a, at)? {
            return Ok(Some(true));
        }
    }
    let unknown = a.null_count() > 0 && !b.is_empty() || b.null_count() > 0 && !a.is_empty();
    Ok((!unknown).then_some(false))
}
