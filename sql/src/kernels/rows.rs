//! Expressions that are evaluated for some rows only: TRY, and AND and OR whose right side may fail.
//!
//! Invariant: an expression is never evaluated for a row whose result does not need it.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::{
    array::{Array, ArrayRef, BooleanArray, UInt32Array, new_null_array},
    compute::{concat, filter, take},
    datatypes::{DataType, Int64Type},
};
use headwater_engine::error::{Error, ErrorKind, Result};

use super::booleans;
use crate::functions::lambda::Closed;

/// Codes that `TRY` turns into NULL.
const CAUGHT: &[&str] = &[
    "DIVISION_BY_ZERO",
    "INVALID_CAST_ARGUMENT",
    "INVALID_FUNCTION_ARGUMENT",
    "NUMERIC_VALUE_OUT_OF_RANGE",
    "INVALID_JSON_LITERAL",
];

/// Whether `TRY` gives NULL for an error.
pub fn caught(error: &Error) -> bool {
    CAUGHT.contains(&error.code().0) && !matches!(error.kind(), ErrorKind::Internal)
}

/// Evaluates `one` over ever smaller ranges until the rows that fail are alone; those are NULL.
pub fn by_halves(
    start: usize,
    count: usize,
    result: &DataType,
    one: &dyn Fn(usize, usize) -> Result<ArrayRef>,
) -> Result<ArrayRef> {
    match one(start, count) {
        Err(error) if !caught(&error) => Err(error),
        Ok(array) => super::fit(array, result),
        Err(_) if count <= 1 => Ok(new_null_array(result, count)),
        Err(_) => {
            let half = count / 2;
            let left = by_halves(start, half, result, one)?;
            let right = by_halves(start + half, count - half, result, one)?;
            Ok(concat(&[left.as_ref(), right.as_ref()])?)
        }
    }
}

/// TRY: rows that fail are NULL.
pub fn try_rows(closed: &Closed, args: &[ArrayRef], rows: usize, result: &DataType) -> Result<ArrayRef> {
    by_halves(0, rows, result, &|start, count| {
        let columns = args.iter().map(|arg| arg.slice(start, count)).collect();
        closed.evaluate(columns, count)
    })
}

/// What a cast makes of JSON_VALUE's text; that it fails is an error of JSON_VALUE.
pub fn fitted(closed: &Closed, args: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
    closed.evaluate(args.to_vec(), rows).map_err(|error| match caught(&error) {
        true => {
            let message = format!("the value does not fit the type asked for: {}", error.message());
            Error::user("JSON_VALUE_RESULT_ERROR", message)
        }
        false => error,
    })
}

/// `left AND right` (or OR), the right side only for rows the left one leaves open.
pub fn lazy(closed: &Closed, args: &[ArrayRef], rows: usize, and: bool) -> Result<ArrayRef> {
    let Some((left, captures)) = args.split_first() else { return Err(Error::internal("a condition is missing")) };
    let left = booleans(left)?;
    let open: BooleanArray = left.iter().map(|value| Some(value != Some(!and))).collect();
    let count = open.true_count();
    let mut right: Vec<Option<bool>> = Vec::new();
    if count > 0 {
        let columns = captures.iter().map(|column| Ok(filter(column, &open)?)).collect::<Result<Vec<_>>>()?;
        right = booleans(&closed.evaluate(columns, count)?)?.iter().collect();
    }
    let mut right = right.into_iter();
    let combined: BooleanArray = (0..rows)
        .map(|row| {
            let known = left.is_valid(row).then(|| left.value(row));
            if known == Some(!and) {
                return known;
            }
            match (known, right.next().flatten()) {
                (_, Some(other)) if other != and => Some(other),
                (Some(_), other) => other,
                (None, _) => None,
            }
        })
        .collect();
    Ok(Arc::new(combined))
}

/// The value of a subquery; fails where it had more than one row.
pub fn at_most_one(value: &ArrayRef, count: &ArrayRef) -> Result<ArrayRef> {
    let counts = count.as_primitive::<Int64Type>();
    if counts.iter().flatten().any(|count| count > 1) {
        return Err(Error::user("SUBQUERY_MULTIPLE_ROWS", "scalar sub-query has returned multiple rows"));
    }
    Ok(value.clone())
}

/// Takes rows by index; an index that is NULL gives NULL.
pub fn pick(array: &ArrayRef, indices: Vec<Option<u32>>) -> Result<ArrayRef> {
    Ok(take(array, &UInt32Array::from(indices), None)?)
}
