//! Sorting, cutting and repeating.
//!
//! Invariant: the elements themselves are never changed.

use std::cmp::Ordering;

use arrow::{
    array::{Array, ArrayRef, UInt32Array},
    compute::take,
    datatypes::DataType,
};
use datafusion::logical_expr::Volatility;
use headwater_engine::error::Result;
use rand::seq::SliceRandom;

use super::{
    super::{
        column::I64,
        define::{Definition, like_first},
        kernel::{invalid, whole},
        nested::Offsets,
        scalar::Typing,
        signature::list_of,
    },
    *,
};

pub(super) fn definitions() -> Vec<Definition> {
    vec![define_array_sort(), define_shuffle(), define_slice(), define_trim_array(), define_repeat()]
}

fn define_array_sort() -> Definition {
    array("array_sort", "the elements in ascending order, NULLs last")
        .on_typed("array_sort(array(E)) -> array(E)", like_first, elements(|_, values, _| sorted(values).map(Some)))
        .example("SELECT array_sort(ARRAY[2, 1])", "[1, 2]")
}

fn define_shuffle() -> Definition {
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
        .example("SELECT shuffle(ARRAY[1])", "[1]")
}

fn define_slice() -> Definition {
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
        .example("SELECT slice(ARRAY[1, 2, 3], 2, 2)", "[2, 3]")
}

fn define_trim_array() -> Definition {
    array("trim_array", "an array without its last elements")
        .on(
            "trim_array(array(E), bigint) -> array(E)",
            elements(|call, values, row| {
                let Some(count) = call.column::<I64>(1)?.value(row) else { return Ok(None) };
                let kept = usize::try_from(count).ok().and_then(|count| values.len().checked_sub(count));
                match (kept, count < 0) {
                    (Some(kept), _) => Ok(Some((0..kept).collect())),
                    (None, true) => Err(invalid("size must not be negative")),
                    (None, false) => Err(invalid(format!("size must not exceed array cardinality {}", values.len()))),
                }
            }),
        )
        .example("SELECT trim_array(ARRAY[1, 2], 1)", "[1]")
}

fn define_repeat() -> Definition {
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
        .example("SELECT repeat('a', 2)", "[a, a]")
}

/// Positions in ascending order, NULLs last.
pub(super) fn sorted(values: &ArrayRef) -> Result<Vec<usize>> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    let mut failed = None;
    order.sort_by(|&a, &b| match (values.is_null(a), values.is_null(b)) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => compare::nan_last(values, a, b).then_with(|| {
            let order = compare::order(values, a, values, b).unwrap_or_else(|error| {
                failed = Some(error);
                None
            });
            order.unwrap_or(Ordering::Equal)
        }),
    });
    failed.map_or(Ok(order), Err)
}

fn repeated_type(typing: &Typing<'_>) -> Result<DataType> {
    Ok(list_of(typing.arguments.first().cloned().unwrap_or(DataType::Null)))
}
