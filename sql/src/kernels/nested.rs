//! Arrays, maps and rows: building, subscripts, concatenation, and zipping for UNNEST.
//!
//! Invariant: subscripts count from 1, and one outside the array is an error.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BinaryArray, Int64Array, ListArray, StringArray, StringViewArray, StructArray,
        UInt32Array,
    },
    buffer::{NullBuffer, OffsetBuffer},
    compute::{interleave, take},
    datatypes::{DataType, Int64Type},
};
use headwater_engine::error::{Error, Result};

use super::{compare, rows};
use crate::types::Type;

/// `array[index]`
pub fn subscript(array: &ArrayRef, index: &ArrayRef) -> Result<ArrayRef> {
    let wrong = |message: String| Error::user("INVALID_FUNCTION_ARGUMENT", message);
    let list = array.as_list::<i32>();
    let index = index.as_primitive::<Int64Type>();
    let picked = (0..list.len()).map(|row| {
        if list.is_null(row) || index.is_null(row) {
            return Ok(None);
        }
        let (at, length) = (index.value(row), i64::from(list.value_length(row)));
        match at {
            0 => Err(wrong("SQL array indices start at 1".into())),
            at if at < 0 => Err(wrong(format!("array subscript is negative: {at}"))),
            at if at > length => {
                Err(wrong(format!("array subscript must be less than or equal to array length: {at} > {length}"))
                    .with_hint("element_at gives NULL past the end"))
            }
            at => Ok(Some((i64::from(list.value_offsets()[row]) + at - 1) as u32)),
        }
    });
    rows::pick(list.values(), picked.collect::<Result<_>>()?)
}

/// Whether a value equals an element of an array; NULL if only a NULL could make it so.
pub fn among(values: &ArrayRef, lists: &ArrayRef) -> Result<ArrayRef> {
    let lists = lists.as_list::<i32>();
    let found = (0..values.len()).map(|row| {
        if lists.is_null(row) || lists.value_length(row) == 0 {
            return Ok(Some(false));
        }
        let list = lists.value(row);
        let mut unknown = false;
        for at in 0..list.len() {
            match compare::equal(values, row, &list, at)? {
                Some(true) => return Ok(Some(true)),
                Some(false) => {}
                None => unknown = true,
            }
        }
        Ok((!unknown).then_some(false))
    });
    Ok(Arc::new(found.collect::<Result<arrow::array::BooleanArray>>()?))
}

/// What the rows of a subquery are, if there are any: no NULL among them.
pub const ALL_KNOWN: i64 = 1;
/// What the rows of a subquery are, if there are any: a NULL among them.
pub const WITH_NULL: i64 = 2;

/// `value IN (subquery)` by whether a row is equal, whether the value is NULL, and what the rows are.
pub fn marked(args: &[ArrayRef]) -> Result<ArrayRef> {
    let [equal, unknown, kinds] = args else { return Err(Error::internal("an operator is missing an argument")) };
    let (equal, unknown) = (super::booleans(equal)?, super::booleans(unknown)?);
    let kinds = kinds.as_primitive::<Int64Type>();
    let found = (0..kinds.len()).map(|row| match kinds.is_valid(row) {
        _ if equal.is_valid(row) && equal.value(row) => Some(true),
        false => Some(false),
        true => (!unknown.value(row) && kinds.value(row) != WITH_NULL).then_some(false),
    });
    Ok(Arc::new(found.collect::<arrow::array::BooleanArray>()))
}

/// `map[key]`
pub fn map_subscript(map: &ArrayRef, key: &ArrayRef, key_type: &Type) -> Result<ArrayRef> {
    let map = map.as_map();
    let mut picked = Vec::with_capacity(map.len());
    for row in 0..map.len() {
        if map.is_null(row) || key.is_null(row) {
            picked.push(None);
            continue;
        }
        let start = map.value_offsets()[row] as usize;
        let keys = map.keys().slice(start, map.value_length(row) as usize);
        match compare::find(&keys, key, row)? {
            Some(at) => picked.push(Some((start + at) as u32)),
            None => {
                let shown = super::render::texts(&key.slice(row, 1), key_type).ok();
                let shown = shown.and_then(|mut texts| texts.pop().flatten()).unwrap_or_else(|| "the key".into());
                return Err(Error::user("INVALID_FUNCTION_ARGUMENT", format!("key not present in map: {shown}"))
                    .with_hint("element_at gives NULL for a key that is not there"));
            }
        }
    }
    rows::pick(map.values(), picked)
}

/// A field of a row.
pub fn field(row: &ArrayRef, index: usize) -> Result<ArrayRef> {
    let row = row.as_struct();
    let column = row.columns().get(index).ok_or_else(|| Error::internal(format!("a row has no field {index}")))?;
    match row.nulls() {
        None => Ok(column.clone()),
        Some(nulls) => {
            let indices = (0..row.len()).map(|at| nulls.is_valid(at).then_some(at as u32)).collect();
            rows::pick(column, indices)
        }
    }
}

/// `ROW(..)`
pub fn row(args: &[ArrayRef], rows: usize, result: &DataType) -> Result<ArrayRef> {
    let DataType::Struct(fields) = result else { return Err(Error::internal("a row has a row type")) };
    let columns = args
        .iter()
        .zip(fields)
        .map(|(column, field)| super::fit(column.clone(), field.data_type()))
        .collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, None, rows)?))
}

/// `ARRAY[..]` of elements of one type.
pub fn array(args: &[ArrayRef], rows: usize, result: &DataType) -> Result<ArrayRef> {
    let DataType::List(field) = result else { return Err(Error::internal("an array has an array type")) };
    let columns =
        args.iter().map(|column| super::fit(column.clone(), field.data_type())).collect::<Result<Vec<_>>>()?;
    let values = if columns.is_empty() {
        arrow::array::new_empty_array(field.data_type())
    } else {
        let refs: Vec<&dyn Array> = columns.iter().map(AsRef::as_ref).collect();
        let order: Vec<(usize, usize)> =
            (0..rows).flat_map(|row| (0..refs.len()).map(move |column| (column, row))).collect();
        interleave(&refs, &order)?
    };
    let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(args.len(), rows));
    Ok(Arc::new(ListArray::try_new(field.clone(), offsets, values, None)?))
}

/// `left || right` of values of one type.
pub fn concat(a: &ArrayRef, b: &ArrayRef, of: &Type) -> Result<ArrayRef> {
    match of {
        Type::Varchar(_) => {
            let pairs = a.as_string::<i32>().iter().zip(b.as_string::<i32>().iter());
            Ok(Arc::new(pairs.map(|(a, b)| Some([a?, b?].concat())).collect::<StringArray>()))
        }
        Type::Char(_) => {
            let pairs = a.as_string_view().iter().zip(b.as_string_view().iter());
            Ok(Arc::new(pairs.map(|(a, b)| Some([a?, b?].concat())).collect::<StringViewArray>()))
        }
        Type::Varbinary => {
            let pairs = a.as_binary::<i32>().iter().zip(b.as_binary::<i32>().iter());
            Ok(Arc::new(pairs.map(|(a, b)| Some([a?, b?].concat())).collect::<BinaryArray>()))
        }
        Type::Array(_) => concat_lists(a.as_list::<i32>(), b.as_list::<i32>()),
        other => Err(Error::internal(format!("{other} cannot be concatenated"))),
    }
}

/// An array with one more element at its end or its beginning; without an element there is no array.
pub fn appended(args: &[ArrayRef], at_end: bool) -> Result<ArrayRef> {
    let [lists, ones] = args else { return Err(Error::internal("an operator is missing an argument")) };
    let lists = lists.as_list::<i32>();
    let DataType::List(field) = lists.data_type().clone() else { return Err(Error::internal("expected arrays")) };
    let ones = super::fit(ones.clone(), field.data_type())?;
    let offsets = lists.value_offsets();
    let (mut order, mut lengths) = (Vec::new(), Vec::with_capacity(lists.len()));
    for row in 0..lists.len() {
        let before = order.len();
        if lists.is_valid(row) && ones.is_valid(row) {
            order.extend((!at_end).then_some((1, row)));
            order.extend((offsets[row]..offsets[row + 1]).map(|at| (0, at as usize)));
            order.extend(at_end.then_some((1, row)));
        }
        lengths.push(order.len() - before);
    }
    let values = interleave(&[lists.values().as_ref(), ones.as_ref()], &order)?;
    let nulls = NullBuffer::union(lists.nulls(), ones.logical_nulls().as_ref());
    Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), values, nulls)?))
}

fn concat_lists(a: &ListArray, b: &ListArray) -> Result<ArrayRef> {
    let DataType::List(field) = a.data_type().clone() else { return Err(Error::internal("expected arrays")) };
    let other = super::fit(b.values().clone(), field.data_type())?;
    let mut order = Vec::new();
    let mut lengths = Vec::with_capacity(a.len());
    for row in 0..a.len() {
        if a.is_null(row) || b.is_null(row) {
            lengths.push(0);
            continue;
        }
        let before = order.len();
        order.extend((a.value_offsets()[row]..a.value_offsets()[row + 1]).map(|at| (0, at as usize)));
        order.extend((b.value_offsets()[row]..b.value_offsets()[row + 1]).map(|at| (1, at as usize)));
        lengths.push(order.len() - before);
    }
    let values = interleave(&[a.values().as_ref(), other.as_ref()], &order)?;
    let nulls = NullBuffer::union(a.nulls(), b.nulls());
    Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), values, nulls)?))
}

/// How UNNEST zips its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ZipShape {
    /// Types of the arguments: arrays (of rows, too) and maps.
    pub inputs: Vec<Type>,
    /// Whether the position follows as a last field.
    pub ordinality: bool,
    /// Whether a row without elements gives one element of NULLs.
    pub outer: bool,
}

/// Zips arrays and maps into one array of rows; shorter ones are filled with NULLs.
pub fn zip(args: &[ArrayRef], rows: usize, shape: &ZipShape, result: &Type) -> Result<ArrayRef> {
    let DataType::List(item) = result.to_arrow() else { return Err(Error::internal("a zip gives an array")) };
    let DataType::Struct(fields) = item.data_type().clone() else { return Err(Error::internal("a zip gives rows")) };
    let length = |column: &ArrayRef, row: usize| match span(column, row) {
        Some((_, length)) => length,
        None => 0,
    };
    let lengths: Vec<usize> =
        (0..rows).map(|row| args.iter().map(|column| length(column, row)).max().unwrap_or(0)).collect();
    let total: Vec<usize> = lengths.iter().map(|&length| if shape.outer { length.max(1) } else { length }).collect();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for column in args {
        let indices: Vec<Option<u32>> = (0..rows)
            .flat_map(|row| {
                let (start, length) = span(column, row).unwrap_or((0, 0));
                (0..total[row]).map(move |at| (at < length).then_some((start + at) as u32))
            })
            .collect();
        let indices = UInt32Array::from(indices);
        for values in element_columns(column)? {
            columns.push(take(&values, &indices, None)?);
        }
    }
    if shape.ordinality {
        let positions = (0..rows).flat_map(|row| {
            let real = lengths[row];
            (0..total[row]).map(move |at| (at < real).then_some(at as i64 + 1))
        });
        columns.push(Arc::new(positions.collect::<Int64Array>()));
    }
    let count = total.iter().sum();
    let columns = columns
        .into_iter()
        .zip(&fields)
        .map(|(column, field)| super::fit(column, field.data_type()))
        .collect::<Result<Vec<_>>>()?;
    let values = StructArray::try_new_with_length(fields, columns, None, count)?;
    Ok(Arc::new(ListArray::try_new(item, OffsetBuffer::from_lengths(total), Arc::new(values), None)?))
}

fn span(column: &ArrayRef, row: usize) -> Option<(usize, usize)> {
    if column.is_null(row) {
        return None;
    }
    let offsets = match column.data_type() {
        DataType::Map(..) => column.as_map().value_offsets(),
        DataType::List(_) => column.as_list::<i32>().value_offsets(),
        _ => return None,
    };
    Some((offsets[row] as usize, (offsets[row + 1] - offsets[row]) as usize))
}

/// The columns one argument of UNNEST becomes.
fn element_columns(column: &ArrayRef) -> Result<Vec<ArrayRef>> {
    match column.data_type() {
        DataType::Map(..) => Ok(vec![column.as_map().keys().clone(), column.as_map().values().clone()]),
        DataType::List(item) => {
            let values = column.as_list::<i32>().values();
            match item.data_type() {
                DataType::Struct(fields) => (0..fields.len()).map(|index| field(values, index)).collect(),
                _ => Ok(vec![values.clone()]),
            }
        }
        other => Err(Error::internal(format!("cannot unnest {other}"))),
    }
}
