//! What one aggregate keeps of one key, and how rows are added to it and taken back.
//!
//! Sums are wider than their results: a sum may be out of range between two changes of one batch, and doubles are summed
//! exactly (see `exact`).
//!
//! Invariant: taking a row back undoes adding it.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, Decimal256Array, Float64Array, Int64Array, ListArray, StructArray},
    buffer::OffsetBuffer,
    compute::cast,
    datatypes::{DataType, Decimal256Type, Field, Float64Type, i256},
    error::ArrowError,
};
use datafusion::scalar::ScalarValue;

use super::exact::ExactSum;
use crate::{
    error::{Error, Result},
    operators::keys::{Key, KeyEncoder},
};

/// Digits of sums of whole and decimal numbers.
pub(super) const SUM_DIGITS: u8 = 76;

/// One aggregate of one key.
#[derive(Debug, Clone)]
pub(super) enum Cell {
    /// Rows.
    Count(i64),
    /// Whole and decimal numbers.
    Whole { sum: i256, count: i64 },
    /// Doubles.
    Exact { sum: ExactSum, count: i64 },
    /// What else can be added.
    Sum { sum: Option<ScalarValue>, count: i64 },
    /// Each value with how often it is there.
    Values(BTreeMap<Key, i64>),
}

/// The argument of a call over a batch, NULL where the row does not count.
pub(super) enum Argument {
    Rows(Vec<bool>),
    Wholes(Vec<Option<i256>>),
    Doubles(Vec<Option<f64>>),
    Scalars(Vec<Option<ScalarValue>>),
    Keys(Vec<Option<Key>>),
}

impl Argument {
    /// The values of a column that are summed up, where their rows count.
    pub(super) fn summed(column: &ArrayRef, kept: &DataType, counts: impl Fn(usize) -> bool) -> Result<Self> {
        let rows = 0..column.len();
        let column = if column.data_type() == kept { Arc::clone(column) } else { cast(column, kept)? };
        if let Some(wholes) = column.as_primitive_opt::<Decimal256Type>() {
            return Ok(Argument::Wholes(rows.map(|row| counts(row).then(|| wholes.value(row))).collect()));
        }
        if let Some(doubles) = column.as_primitive_opt::<Float64Type>() {
            return Ok(Argument::Doubles(rows.map(|row| counts(row).then(|| doubles.value(row))).collect()));
        }
        let scalar = |row| if counts(row) { ScalarValue::try_from_array(&column, row).map(Some) } else { Ok(None) };
        Ok(Argument::Scalars(rows.map(scalar).collect::<Result<_, _>>()?))
    }
}

impl Cell {
    /// An empty sum of what is kept as this type.
    pub(super) fn sum_of(kept: &DataType) -> Self {
        match kept {
            DataType::Decimal256(..) => Cell::Whole { sum: i256::ZERO, count: 0 },
            DataType::Float64 => Cell::Exact { sum: ExactSum::default(), count: 0 },
            _ => Cell::Sum { sum: None, count: 0 },
        }
    }

    /// Bytes it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let values = match self {
            Cell::Count(_) | Cell::Whole { .. } | Cell::Sum { .. } => 0,
            Cell::Exact { sum, .. } => sum.bytes(),
            Cell::Values(values) => values.len() * (48 + values.keys().next().map_or(0, |key| key.len())),
        };
        values + size_of::<Self>()
    }

    pub(super) fn apply(&mut self, argument: &Argument, row: usize, sign: i64) -> Result<()> {
        match (self, argument) {
            (Cell::Count(count), Argument::Rows(rows)) => *count += if rows[row] { sign } else { 0 },
            (Cell::Whole { sum, count }, Argument::Wholes(wholes)) => {
                let Some(value) = wholes[row] else { return Ok(()) };
                *count += sign;
                *sum = if sign > 0 { sum.wrapping_add(value) } else { sum.wrapping_sub(value) };
            }
            (Cell::Exact { sum, count }, Argument::Doubles(doubles)) => {
                let Some(value) = doubles[row] else { return Ok(()) };
                *count += sign;
                sum.add(value, sign);
            }
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
            (
                Cell::Count(_) | Cell::Whole { .. } | Cell::Exact { .. } | Cell::Sum { .. } | Cell::Values(_),
                Argument::Rows(_)
                | Argument::Wholes(_)
                | Argument::Doubles(_)
                | Argument::Scalars(_)
                | Argument::Keys(_),
            ) => return Err(Error::internal("an aggregate got another's argument")),
        }
        Ok(())
    }

    /// The sum in the type of the result; NULL over no values.
    pub(super) fn total(&self, kept: &DataType, wanted: &DataType) -> Result<ScalarValue> {
        let total = match self {
            Cell::Whole { sum, count: 1.. } => return whole(*sum, kept, wanted),
            Cell::Exact { sum, count: 1.. } => ScalarValue::Float64(Some(sum.value())),
            Cell::Sum { sum: Some(sum), count: 1.. } => sum.clone(),
            _ => ScalarValue::try_from(wanted)?,
        };
        Ok(total.cast_to(wanted)?)
    }

    /// The average in the type of the result; NULL over no values.
    pub(super) fn average(&self, wanted: &DataType) -> Result<ScalarValue> {
        let average = match self {
            Cell::Whole { sum, count: count @ 1.. } => return decimal_average(*sum, *count, wanted),
            Cell::Exact { sum, count: count @ 1.. } => ScalarValue::Float64(Some(sum.value() / *count as f64)),
            _ => ScalarValue::try_from(wanted)?,
        };
        Ok(average.cast_to(wanted)?)
    }

    /// What a state file has of it: values, and numbers beside them.
    pub(super) fn state(&self, stored: &DataType, values: &KeyEncoder) -> Result<(Option<ArrayRef>, Vec<i64>)> {
        Ok(match self {
            Cell::Count(count) => (None, vec![*count]),
            Cell::Whole { sum, count } => {
                let sum = Decimal256Array::from(vec![*sum]).with_data_type(stored.clone());
                (Some(Arc::new(sum)), vec![*count])
            }
            Cell::Exact { sum, count } => {
                let (parts, [small, nan, above, below]) = sum.lists();
                (Some(Arc::new(Float64Array::from(parts))), vec![*count, small, nan, above, below])
            }
            Cell::Sum { sum, count } => {
                let sum = sum.as_ref().map(|sum| sum.cast_to(stored)?.to_array()).transpose()?;
                (sum, vec![*count])
            }
            Cell::Values(map) => {
                let mut columns = values.decode(map.keys())?;
                let all: ArrayRef = match stored {
                    DataType::Struct(fields) if columns.len() > 1 => {
                        Arc::new(StructArray::try_new(fields.clone(), columns, None)?)
                    }
                    _ => columns.pop().ok_or_else(|| Error::internal("values without their column"))?,
                };
                (Some(all), map.values().copied().collect())
            }
        })
    }

    /// Takes over what a state file has.
    pub(super) fn restore(&mut self, values: &ArrayRef, counts: &Int64Array, encoder: &mut KeyEncoder) -> Result<()> {
        let no_state = || {
            Error::internal(format!(
                "a checkpoint keeps an aggregate as {}, which is not its state",
                values.data_type()
            ))
        };
        let first = || counts.values().first().copied().ok_or_else(no_state);
        match self {
            Cell::Count(count) => *count = first()?,
            Cell::Whole { sum, count } => {
                *count = first()?;
                let kept = values.as_primitive_opt::<Decimal256Type>().filter(|kept| kept.len() == 1);
                *sum = kept.ok_or_else(no_state)?.value(0);
            }
            Cell::Exact { sum, count } => {
                *count = first()?;
                let parts = values.as_primitive_opt::<Float64Type>().ok_or_else(no_state)?.values();
                let numbers = counts.values().get(1..).unwrap_or_default();
                *sum = ExactSum::from_lists(parts, numbers).ok_or_else(no_state)?;
            }
            Cell::Sum { sum, count } => {
                *count = first()?;
                *sum = (!values.is_empty()).then(|| ScalarValue::try_from_array(values, 0)).transpose()?;
            }
            Cell::Values(map) => {
                let columns = match values.as_struct_opt() {
                    Some(columns) if encoder.width() > 1 => columns.columns().to_vec(),
                    _ => vec![Arc::clone(values)],
                };
                let keys = encoder.encode(&columns, values.len())?;
                *map = keys.into_iter().zip(counts.values().iter().copied()).collect();
            }
        }
        Ok(())
    }
}

fn out_of_range(sum: i256, wanted: &DataType) -> Error {
    ArrowError::ArithmeticOverflow(format!("Overflow happened on: the sum {sum} as {wanted}")).into()
}

/// A sum kept as decimal, in the type of the result.
fn whole(sum: i256, kept: &DataType, wanted: &DataType) -> Result<ScalarValue> {
    let narrow = || sum.to_i128().ok_or_else(|| out_of_range(sum, wanted));
    match (wanted, kept) {
        (DataType::Int64, _) => {
            let value = i64::try_from(narrow()?).map_err(|_| out_of_range(sum, wanted))?;
            Ok(ScalarValue::Int64(Some(value)))
        }
        (DataType::Decimal128(precision, scale), DataType::Decimal256(_, of_sum)) if scale == of_sum => {
            let value = narrow()?;
            let digits = 10_i128.checked_pow(u32::from(*precision)).unwrap_or(i128::MAX);
            if value.abs() >= digits {
                return Err(out_of_range(sum, wanted));
            }
            Ok(ScalarValue::Decimal128(Some(value), *precision, *scale))
        }
        _ => {
            let DataType::Decimal256(precision, scale) = kept else {
                return Err(Error::internal(format!("a sum kept as {kept}")));
            };
            Ok(ScalarValue::Decimal256(Some(sum), *precision, *scale).cast_to(wanted)?)
        }
    }
}

/// A decimal sum of the result's scale over a count, rounded half up.
fn decimal_average(sum: i256, count: i64, wanted: &DataType) -> Result<ScalarValue> {
    let DataType::Decimal128(precision, scale) = wanted else {
        return Err(Error::internal(format!("the average of decimals is {wanted}")));
    };
    let of = i256::from(count);
    let (whole, rest) = (sum.wrapping_div(of), sum.wrapping_rem(of));
    let up = if rest.wrapping_abs().wrapping_add(rest.wrapping_abs()) >= of { sum.signum() } else { i256::ZERO };
    let average = whole.wrapping_add(up).to_i128().ok_or_else(|| out_of_range(sum, wanted))?;
    Ok(ScalarValue::Decimal128(Some(average), *precision, *scale))
}

pub(super) fn list(lengths: Vec<usize>, values: ArrayRef) -> Result<ArrayRef> {
    let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), values, None)?))
}
