//! Comparisons of two values of one type, three-valued inside arrays and rows, by IEEE for floating point.
//!
//! Invariant: `Distinct` and `NotDistinct` never give NULL, and count a NaN equal to itself.

use std::{cmp::Ordering, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, StructArray, make_comparator},
    compute::{SortOptions, kernels::cmp},
    datatypes::{DataType, Float32Type, Float64Type},
};
use headwater_engine::error::{Error, Result};

use crate::types::Type;

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `<>`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `IS DISTINCT FROM`
    Distinct,
    /// `IS NOT DISTINCT FROM`
    NotDistinct,
}

impl Comparison {
    /// How it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Distinct => "IS DISTINCT FROM",
            Self::NotDistinct => "IS NOT DISTINCT FROM",
        }
    }

    fn holds(self, order: Option<Ordering>) -> bool {
        match self {
            Self::Equal | Self::NotDistinct => order == Some(Ordering::Equal),
            Self::NotEqual | Self::Distinct => order != Some(Ordering::Equal),
            Self::Less => order == Some(Ordering::Less),
            Self::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Self::Greater => order == Some(Ordering::Greater),
            Self::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

/// Compares two columns of one type.
pub fn evaluate(kind: Comparison, a: &ArrayRef, b: &ArrayRef, of: &Type) -> Result<ArrayRef> {
    let compared = match (of, kind) {
        (Type::Unknown, Comparison::Distinct) => BooleanArray::from(vec![false; a.len()]),
        (Type::Unknown, Comparison::NotDistinct) => BooleanArray::from(vec![true; a.len()]),
        (Type::Unknown, _) => BooleanArray::new_null(a.len()),
        (Type::Double | Type::Real, Comparison::Distinct | Comparison::NotDistinct) => distinct_floats(kind, a, b)?,
        (Type::Char(_), Comparison::Distinct | Comparison::NotDistinct) => distinct(kind, &trimmed(a)?, &trimmed(b)?)?,
        (_, Comparison::Distinct | Comparison::NotDistinct) => distinct(kind, a, b)?,
        (Type::Double | Type::Real, _) => floats(kind, a, b)?,
        (Type::Array(_) | Type::Row(_) | Type::Map(..), _) => nested(kind, a, b)?,
        (Type::Char(_), _) => {
            let (a, b) = (trimmed(a)?, trimmed(b)?);
            flat(kind, &a, &b)?
        }
        _ => flat(kind, a, b)?,
    };
    Ok(Arc::new(compared))
}

fn flat(kind: Comparison, a: &dyn arrow::array::Datum, b: &dyn arrow::array::Datum) -> Result<BooleanArray> {
    Ok(match kind {
        Comparison::Equal => cmp::eq(a, b),
        Comparison::NotEqual => cmp::neq(a, b),
        Comparison::Less => cmp::lt(a, b),
        Comparison::LessOrEqual => cmp::lt_eq(a, b),
        Comparison::Greater => cmp::gt(a, b),
        Comparison::GreaterOrEqual => cmp::gt_eq(a, b),
        Comparison::Distinct => cmp::distinct(a, b),
        Comparison::NotDistinct => cmp::not_distinct(a, b),
    }?)
}

/// Text without its padding, as `char` values are compared.
fn trimmed(array: &ArrayRef) -> Result<ArrayRef> {
    let text = arrow::compute::cast(array, &DataType::Utf8)?;
    let trimmed: arrow::array::StringArray =
        text.as_string::<i32>().iter().map(|value| value.map(|value| value.trim_end_matches(' '))).collect();
    Ok(Arc::new(trimmed))
}

fn floats(kind: Comparison, a: &ArrayRef, b: &ArrayRef) -> Result<BooleanArray> {
    if let (Some(a), Some(b)) = (a.as_primitive_opt::<Float64Type>(), b.as_primitive_opt::<Float64Type>()) {
        return Ok(a.iter().zip(b).map(|(a, b)| Some(kind.holds(a?.partial_cmp(&b?)))).collect());
    }
    match (a.as_primitive_opt::<Float32Type>(), b.as_primitive_opt::<Float32Type>()) {
        (Some(a), Some(b)) => Ok(a.iter().zip(b).map(|(a, b)| Some(kind.holds(a?.partial_cmp(&b?)))).collect()),
        _ => Err(Error::internal("expected floating point")),
    }
}

/// Zeros are one value whatever their sign, and so are NaNs.
fn distinct_floats(kind: Comparison, a: &ArrayRef, b: &ArrayRef) -> Result<BooleanArray> {
    let (a, b) = (arrow::compute::cast(a, &DataType::Float64)?, arrow::compute::cast(b, &DataType::Float64)?);
    let wanted = kind == Comparison::NotDistinct;
    let same = |pair: (Option<f64>, Option<f64>)| match pair {
        (Some(a), Some(b)) => a == b || (a.is_nan() && b.is_nan()),
        (a, b) => a.is_none() && b.is_none(),
    };
    let pairs = a.as_primitive::<Float64Type>().iter().zip(b.as_primitive::<Float64Type>());
    Ok(BooleanArray::from(pairs.map(|pair| same(pair) == wanted).collect::<Vec<bool>>()))
}

fn distinct(kind: Comparison, a: &ArrayRef, b: &ArrayRef) -> Result<BooleanArray> {
    if !a.data_type().is_nested() {
        return flat(kind, a, b);
    }
    let wanted = kind == Comparison::NotDistinct;
    let same = (0..a.len()).map(|row| Ok(same(a, row, b, row)? == wanted)).collect::<Result<Vec<bool>>>()?;
    Ok(BooleanArray::from(same))
}

fn nested(kind: Comparison, a: &ArrayRef, b: &ArrayRef) -> Result<BooleanArray> {
    let rows = 0..a.len();
    match kind {
        Comparison::Equal | Comparison::NotEqual => {
            let wanted = kind == Comparison::Equal;
            rows.map(|row| Ok(equal(a, row, b, row)?.map(|is| is == wanted))).collect()
        }
        _ => rows
            .map(|row| {
                if a.is_null(row) || b.is_null(row) {
                    return Ok(None);
                }
                Ok(order(a, row, b, row)?.map(|order| kind.holds(Some(order))))
            })
            .collect(),
    }
}

/// Whether two values are the same, NULLs being the same as NULLs.
pub fn same(a: &ArrayRef, i: usize, b: &ArrayRef, j: usize) -> Result<bool> {
    match (a.is_null(i), b.is_null(j)) {
        (true, true) => return Ok(true),
        (false, false) => {}
        _ => return Ok(false),
    }
    match (a.data_type(), b.data_type()) {
        (DataType::List(_), DataType::List(_)) => {
            let (a, b) = (a.as_list::<i32>().value(i), b.as_list::<i32>().value(j));
            if a.len() != b.len() {
                return Ok(false);
            }
            all(a.len(), |at| same(&a, at, &b, at))
        }
        (DataType::Struct(_), DataType::Struct(_)) => {
            let (a, b) = (a.as_struct(), b.as_struct());
            all(compared(a, b), |at| same(a.column(at), i, b.column(at), j))
        }
        (DataType::Map(..), DataType::Map(..)) => {
            let (a, b) = (a.as_map().value(i), b.as_map().value(j));
            if a.len() != b.len() {
                return Ok(false);
            }
            all(a.len(), |at| match find(b.column(0), a.column(0), at)? {
                Some(other) => same(a.column(1), at, b.column(1), other),
                None => Ok(false),
            })
        }
        _ => Ok(scalar_order(a, i, b, j)? == Some(Ordering::Equal) || both_nan(a, i, b, j)),
    }
}

/// How many columns decide a comparison of rows: of an instant beside its zone, the instant.
fn compared(a: &StructArray, b: &StructArray) -> usize {
    if super::zoned::unit_of(a.data_type()).is_some() { 1 } else { a.num_columns().min(b.num_columns()) }
}

fn all(count: usize, mut holds: impl FnMut(usize) -> Result<bool>) -> Result<bool> {
    for at in 0..count {
        if !holds(at)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Position of a key in a column of keys.
pub fn find(keys: &ArrayRef, key: &ArrayRef, at: usize) -> Result<Option<usize>> {
    for position in 0..keys.len() {
        if same(keys, position, key, at)? {
            return Ok(Some(position));
        }
    }
    Ok(None)
}

fn both_nan(a: &ArrayRef, i: usize, b: &ArrayRef, j: usize) -> bool {
    is_nan(a, i) && is_nan(b, j)
}

/// `a = b`; NULL if a part that decides it is NULL.
pub fn equal(a: &ArrayRef, i: usize, b: &ArrayRef, j: usize) -> Result<Option<bool>> {
    if a.is_null(i) || b.is_null(j) {
        return Ok(None);
    }
    match (a.data_type(), b.data_type()) {
        (DataType::List(_), DataType::List(_)) => {
            let (a, b) = (a.as_list::<i32>().value(i), b.as_list::<i32>().value(j));
            if a.len() != b.len() {
                return Ok(Some(false));
            }
            conjunction(a.len(), |at| equal(&a, at, &b, at))
        }
        (DataType::Struct(_), DataType::Struct(_)) => {
            let (a, b) = (a.as_struct(), b.as_struct());
            conjunction(compared(a, b), |at| equal(a.column(at), i, b.column(at), j))
        }
        (DataType::Map(..), DataType::Map(..)) => {
            let (a, b) = (a.as_map().value(i), b.as_map().value(j));
            if a.len() != b.len() {
                return Ok(Some(false));
            }
            conjunction(a.len(), |at| match find(b.column(0), a.column(0), at)? {
                Some(other) => equal(a.column(1), at, b.column(1), other),
                None => Ok(Some(false)),
            })
        }
        (DataType::Null, _) | (_, DataType::Null) => Ok(None),
        _ => Ok(Some(scalar_order(a, i, b, j)? == Some(Ordering::Equal))),
    }
}

fn conjunction(count: usize, mut part: impl FnMut(usize) -> Result<Option<bool>>) -> Result<Option<bool>> {
    let mut all = Some(true);
    for at in 0..count {
        match part(at)? {
            Some(false) => return Ok(Some(false)),
            None => all = None,
            Some(true) => {}
        }
    }
    Ok(all)
}

/// Order of two values; `None` where a NULL or a NaN decides it.
pub fn order(a: &ArrayRef, i: usize, b: &ArrayRef, j: usize) -> Result<Option<Ordering>> {
    if a.is_null(i) || b.is_null(j) {
        return Ok(None);
    }
    match (a.data_type(), b.data_type()) {
        (DataType::List(_), DataType::List(_)) => {
            let (a, b) = (a.as_list::<i32>().value(i), b.as_list::<i32>().value(j));
            let common = a.len().min(b.len());
            let first = lexical(common, |at| order(&a, at, &b, at))?;
            Ok(first.map(|order| order.then(a.len().cmp(&b.len()))))
        }
        (DataType::Struct(_), DataType::Struct(_)) => {
            let (a, b) = (a.as_struct(), b.as_struct());
            lexical(compared(a, b), |at| order(a.column(at), i, b.column(at), j))
        }
        _ => scalar_order(a, i, b, j),
    }
}

fn lexical(count: usize, mut part: impl FnMut(usize) -> Result<Option<Ordering>>) -> Result<Option<Ordering>> {
    for at in 0..count {
        match part(at)? {
            Some(Ordering::Equal) => {}
            decided => return Ok(decided),
        }
    }
    Ok(Some(Ordering::Equal))
}

fn scalar_order(a: &ArrayRef, i: usize, b: &ArrayRef, j: usize) -> Result<Option<Ordering>> {
    if let (Some(a), Some(b)) = (a.as_primitive_opt::<Float64Type>(), b.as_primitive_opt::<Float64Type>()) {
        return Ok(a.value(i).partial_cmp(&b.value(j)));
    }
    if let (Some(a), Some(b)) = (a.as_primitive_opt::<Float32Type>(), b.as_primitive_opt::<Float32Type>()) {
        return Ok(a.value(i).partial_cmp(&b.value(j)));
    }
    if let (Some(a), Some(b)) = (a.as_string_view_opt(), b.as_string_view_opt()) {
        return Ok(Some(a.value(i).trim_end_matches(' ').cmp(b.value(j).trim_end_matches(' '))));
    }
    let compare = make_comparator(a, b, SortOptions::default())?;
    Ok(Some(compare(i, j)))
}

/// The greatest or least of the columns in each row; NULL if one is NULL. A NaN loses against every number.
pub fn extreme(columns: &[ArrayRef], rows: usize, greatest: bool) -> Result<ArrayRef> {
    let better = if greatest { Ordering::Greater } else { Ordering::Less };
    let mut chosen: Vec<(usize, usize)> = Vec::with_capacity(rows);
    for row in 0..rows {
        let mut best = 0;
        for (index, column) in columns.iter().enumerate() {
            let Some(known) = columns.get(best) else { continue };
            if known.is_null(row) {
                break;
            }
            let wins = column.is_null(row) || is_nan(known, row) || order(column, row, known, row)? == Some(better);
            if wins {
                best = index;
            }
        }
        chosen.push((best, row));
    }
    let columns: Vec<&dyn Array> = columns.iter().map(AsRef::as_ref).collect();
    Ok(arrow::compute::interleave(&columns, &chosen)?)
}

fn is_nan(array: &ArrayRef, at: usize) -> bool {
    array.as_primitive_opt::<Float64Type>().is_some_and(|array| array.value(at).is_nan())
        || array.as_primitive_opt::<Float32Type>().is_some_and(|array| array.value(at).is_nan())
}

/// Order of two values of which one may be NaN: NaN last.
pub fn nan_last(values: &ArrayRef, a: usize, b: usize) -> Ordering {
    is_nan(values, a).cmp(&is_nan(values, b))
}
