//! Percentiles of weighted values.
//!
//! Invariant: a group without values has none.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, ListArray},
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::{DataType, Float64Type},
};
use headwater_engine::error::{Error, Result};

use super::{
    super::{render::java_double, tdigest::Digest},
    doubles,
};
use crate::types::Type;

/// Over arrays of `row(value, weight)`.
pub(super) fn percentiles(lists: &ListArray, shares: &ArrayRef, result: &Type) -> Result<ArrayRef> {
    let pairs = lists.values().as_struct();
    let (values, weights) = (doubles_or_null(pairs.column(0))?, doubles_or_null(pairs.column(1))?);
    let several = matches!(shares.data_type(), DataType::List(_));
    let (mut found, mut lengths): (Vec<Option<f64>>, Vec<usize>) = (Vec::new(), Vec::new());
    for (row, ends) in lists.value_offsets().windows(2).enumerate() {
        let shares = if several && shares.is_valid(row) {
            doubles(&shares.as_list::<i32>().value(row))?
        } else if several {
            Vec::new()
        } else {
            doubles(&shares.slice(row, 1))?
        };
        if shares.iter().any(|share| !(0.0..=1.0).contains(share)) {
            return Err(Error::user("INVALID_FUNCTION_ARGUMENT", "percentile must be between 0 and 1"));
        }
        let mut digest = Digest::default();
        let own = if lists.is_null(row) { 0..0 } else { ends[0] as usize..ends[1] as usize };
        for at in own {
            let (Some(value), Some(weight)) = (values[at], weights[at]) else { continue };
            if weight < 1.0 {
                return Err(Error::user(
                    "INVALID_FUNCTION_ARGUMENT",
                    format!("weight must be >= 1, was {}", java_double(weight)),
                ));
            }
            digest.add(value, weight);
        }
        digest.finish();
        lengths.push(shares.len());
        if shares.is_empty() && !several {
            found.push(None);
        }
        found.extend(shares.into_iter().map(|share| digest.quantile(share)));
    }
    let values = typed(found, result)?;
    if !several {
        return Ok(values);
    }
    let DataType::List(item) = result.to_arrow() else { return Err(Error::internal("expected an array type")) };
    let empty = |row: usize| lists.is_null(row) || lists.value_length(row) == 0;
    let nulls: NullBuffer = (0..lists.len()).map(|row| !empty(row)).collect();
    Ok(Arc::new(ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), values, Some(nulls))?))
}

/// Quantiles as values of a type, or of the elements of an array.
fn typed(found: Vec<Option<f64>>, result: &Type) -> Result<ArrayRef> {
    let of = if let Type::Array(element) = result { element.as_ref() } else { result };
    Ok(match of {
        Type::Bigint => Arc::new(
            found.into_iter().map(|value| value.map(|value| (value + 0.5).floor() as i64)).collect::<Int64Array>(),
        ),
        of => arrow::compute::cast(&Float64Array::from(found), &of.to_arrow())?,
    })
}

/// Arrays of quantiles as an array of another type, or the first of each.
pub(super) fn of_quantiles(lists: &ListArray, result: &Type) -> Result<ArrayRef> {
    let all = lists.values().as_primitive::<Float64Type>();
    if let DataType::List(item) = result.to_arrow() {
        let values = typed(all.iter().collect(), result)?;
        return Ok(Arc::new(ListArray::try_new(item, lists.offsets().clone(), values, lists.nulls().cloned())?));
    }
    let first = |row: usize| {
        let at = lists.value_offsets()[row] as usize;
        (lists.is_valid(row) && lists.value_length(row) > 0 && all.is_valid(at)).then(|| all.value(at))
    };
    typed((0..lists.len()).map(first).collect(), result)
}

fn doubles_or_null(values: &ArrayRef) -> Result<Vec<Option<f64>>> {
    let cast = arrow::compute::cast(values, &DataType::Float64)?;
    Ok(cast.as_primitive::<Float64Type>().iter().collect())
}
