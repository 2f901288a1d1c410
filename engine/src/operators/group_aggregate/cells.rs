//! What one aggregate keeps of one key, and how rows are added to it and taken back.
//!
//! Invariant: taking a row back undoes adding it.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, ListArray},
    buffer::OffsetBuffer,
    datatypes::{DataType, Field},
};
use datafusion::scalar::ScalarValue;

use crate::{
    error::{Error, Result},
    operators::keys::Key,
};

/// One aggregate of one key.
#[derive(Debug, Clone)]
pub(super) enum Cell {
    Sum { sum: Option<ScalarValue>, count: i64 },
    Values(BTreeMap<Key, i64>),
}

/// The argument of a call over a batch: scalars for sums, keys for value sets, NULL where the row does not count.
pub(super) enum Argument {
    Rows(Vec<bool>),
    Scalars(Vec<Option<ScalarValue>>),
    Keys(Vec<Option<Key>>),
}

impl Cell {
    /// Bytes it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let values = match self {
            Cell::Sum { .. } => 0,
            Cell::Values(values) => values.len() * (48 + values.keys().next().map_or(0, |key| key.len())),
        };
        values + size_of::<Self>()
    }

    pub(super) fn apply(&mut self, argument: &Argument, row: usize, sign: i64) -> Result<()> {
        match (self, argument) {
            (Cell::Sum { count, .. }, Argument::Rows(rows)) => *count += if rows[row] { sign } else { 0 },
            (Cell::Sum { sum, count }, Argument::Scalars(scalars)) => {
                let Some(value) = &scalars[row] else { return Ok(()) };
                *count += sign;
                *sum = Some(match (sum.take(), sign) {
                    (None, 1) => value.clone(),
                    (None, _) => value.arithmetic_negate()?,
                    (Some(sum), 1) => sum.add_checked(value)?,
                    (Some(sum), _) => sum.sub_checked(value)?,
                });
            }
            (Cell::Values(values), Argument::Keys(keys)) => {
                let Some(key) = &keys[row] else { return Ok(()) };
                let count = values.entry(key.clone()).or_default();
                *count += sign;
                if *count == 0 {
                    values.remove(key);
                }
            }
            (Cell::Sum { .. }, Argument::Keys(_)) | (Cell::Values(_), Argument::Rows(_) | Argument::Scalars(_)) => {
                return Err(Error::internal("an aggregate got another's argument"));
            }
        }
        Ok(())
    }
}

/// A decimal sum of the result's scale over a count, rounded half up.
pub(super) fn decimal_average(sum: i128, count: i64, wanted: &DataType) -> Result<ScalarValue> {
    let DataType::Decimal128(precision, scale) = wanted else {
        return Err(Error::internal(format!("the average of decimals is {wanted}")));
    };
    let count = i128::from(count);
    let (whole, rest) = (sum / count, sum % count);
    let up = i128::from(2 * rest.abs() >= count) * sum.signum();
    Ok(ScalarValue::Decimal128(Some(whole + up), *precision, *scale))
}

pub(super) fn list(lengths: Vec<usize>, values: ArrayRef) -> Result<ArrayRef> {
    let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), values, None)?))
}
