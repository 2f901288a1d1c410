//! Arrays.
//!
//! Invariant: positions count from 1, NULLs sort last, and sets count NULL equal to NULL.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, ListArray, UInt32Array},
    compute::take,
    datatypes::{DataType, Field, Int64Type},
};
use headwater_engine::error::{Error, Result};

use super::{
    Family, Function,
    define::{self, Definition, scalar},
    kernel::whole,
    nested::{Offsets, as_list},
    scalar::{Call, Kernel, Typing},
};
use crate::{
    kernels::{compare, nested::concat, render, rows::pick},
    types::Type,
};

mod combined;
mod searches;
mod sequence;
mod sets;
mod shapes;

/// The family's functions.
pub fn functions() -> Result<Vec<Function>> {
    let mut all = sets::definitions();
    all.extend(searches::definitions());
    all.extend(shapes::definitions());
    all.extend(combined::definitions());
    all.push(sequence::definition());
    define::build(all)
}

fn array(name: &'static str, summary: &'static str) -> Definition {
    scalar(Family::Array, name, summary)
}

/// Arrays of elements of the first argument, by their positions in it; `None` makes the row NULL.
fn elements(f: impl Fn(&Call<'_>, &ArrayRef, usize) -> Result<Option<Vec<usize>>> + Send + Sync + 'static) -> Kernel {
    whole(move |call: &Call<'_>| {
        let lists = call.full(0)?;
        let list = as_list(&lists)?;
        let (mut offsets, mut indices) = (Offsets::new(call.rows), Vec::new());
        for row in 0..call.rows {
            let chosen = if list.is_null(row) { None } else { f(call, &list.value(row), row)? };
            let start = list.value_offsets()[row] as usize;
            let valid = chosen.is_some();
            indices.extend(chosen.into_iter().flatten().map(|at| (start + at) as u32));
            offsets.end(indices.len(), valid)?;
        }
        offsets.list(take(list.values(), &UInt32Array::from(indices), None)?, call.result)
    })
}

fn element_of(typing: &Typing<'_>) -> Result<DataType> {
    match typing.arguments.first() {
        Some(DataType::List(field)) => Ok(field.data_type().clone()),
        Some(DataType::Null) | None => Ok(DataType::Null),
        Some(other) => Err(Error::internal(format!("an array is expected, not {other}"))),
    }
}

/// `reverse(array)`
pub fn reverse_kernel() -> Kernel {
    elements(|_, values, _| Ok(Some((0..values.len()).rev().collect())))
}

/// `concat(array, ..)`
pub fn concat_kernel() -> Kernel {
    whole(|call: &Call<'_>| {
        let mut all = call.full(0)?;
        for index in 1..call.arguments.len() {
            all = concat(&all, &call.full(index)?, &Type::array(Type::Unknown))?;
        }
        Ok(all)
    })
}

fn singles(values: &ArrayRef) -> Result<ArrayRef> {
    let field = Field::new("item", values.data_type().clone(), true);
    let offsets = arrow::buffer::OffsetBuffer::from_lengths(std::iter::repeat_n(1, values.len()));
    // Without an element there is no array.
    Ok(Arc::new(ListArray::try_new(field.into(), offsets, values.clone(), values.logical_nulls())?))
}

/// `concat(element, array)`
pub fn prepend_kernel() -> Kernel {
    whole(|call: &Call<'_>| concat(&singles(&call.full(0)?)?, &call.full(1)?, &Type::array(Type::Unknown)))
}

/// `concat(array, element)`
pub fn append_kernel() -> Kernel {
    whole(|call: &Call<'_>| concat(&call.full(0)?, &singles(&call.full(1)?)?, &Type::array(Type::Unknown)))
}

/// Whole numbers of a column.
pub(super) fn numbers(array: &ArrayRef) -> Vec<Option<i64>> {
    array.as_primitive::<Int64Type>().iter().collect()
}
