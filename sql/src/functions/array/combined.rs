//! Arrays of arrays, and arrays side by side.
//!
//! Invariant: shorter arrays are filled with NULLs.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, ListArray, UInt32Array},
    compute::take,
    datatypes::{DataType, Field},
};
use headwater_engine::error::{Error, Result};

use super::{
    super::{
        column::I64,
        define::Definition,
        kernel::{invalid, whole},
        nested::{Offsets, as_list, conform},
        scalar::{Call, Kernel, Typing},
        signature::list_of,
    },
    *,
};

pub(super) fn definitions() -> Vec<Definition> {
    vec![define_combinations(), define_ngrams(), define_flatten(), zip()]
}

fn define_combinations() -> Definition {
    array("combinations", "the combinations of so many elements")
        .on("combinations(array(E), bigint) -> array(array(E))", groups(chosen))
        .example("SELECT combinations(ARRAY[1, 2], 1)", "[[1], [2]]")
}

fn define_ngrams() -> Definition {
    array("ngrams", "the runs of so many elements")
        .on("ngrams(array(E), bigint) -> array(array(E))", groups(windows))
        .example("SELECT ngrams(ARRAY[1, 2, 3], 2)", "[[1, 2], [2, 3]]")
}

fn define_flatten() -> Definition {
    array("flatten", "the elements of the arrays in an array")
        .on(
            "flatten(array(array(E))) -> array(E)",
            whole(|call| {
                let lists = call.full(0)?;
                let list = as_list(&lists)?;
                let values = conform(list.values().clone(), &list_of(flat_element(call.result)?))?;
                let inner = as_list(&values)?;
                let (mut offsets, mut indices) = (Offsets::new(call.rows), Vec::new());
                for row in 0..call.rows {
                    if list.is_valid(row) {
                        for at in list.value_offsets()[row] as usize..list.value_offsets()[row + 1] as usize {
                            if inner.is_valid(at) {
                                indices.extend(
                                    (inner.value_offsets()[at]..inner.value_offsets()[at + 1]).map(|i| i as u32),
                                );
                            }
                        }
                    }
                    offsets.end(indices.len(), list.is_valid(row))?;
                }
                offsets.list(take(inner.values(), &UInt32Array::from(indices), None)?, call.result)
            }),
        )
        .example("SELECT flatten(ARRAY[ARRAY[1], ARRAY[2]])", "[1, 2]")
}

/// Arrays of arrays of elements of the first argument.
fn groups(f: impl Fn(usize, usize) -> Result<Vec<Vec<usize>>> + Send + Sync + 'static) -> Kernel {
    whole(move |call: &Call<'_>| {
        let lists = call.full(0)?;
        let list = as_list(&lists)?;
        let sizes = call.column::<I64>(1)?;
        let (mut outer, mut lengths, mut indices) = (Offsets::new(call.rows), Vec::new(), Vec::new());
        for row in 0..call.rows {
            let size = if list.is_valid(row) { sizes.value(row) } else { None };
            if let Some(size) = size {
                let size = usize::try_from(size).map_err(|_| invalid("size must not be negative"))?;
                let start = list.value_offsets()[row] as usize;
                for group in f(list.value_length(row) as usize, size)? {
                    lengths.push(group.len());
                    indices.extend(group.into_iter().map(|at| (start + at) as u32));
                }
            }
            outer.end(lengths.len(), size.is_some())?;
        }
        let values = take(list.values(), &UInt32Array::from(indices), None)?;
        let field = Field::new("item", values.data_type().clone(), true);
        let inner = ListArray::try_new(field.into(), arrow::buffer::OffsetBuffer::from_lengths(lengths), values, None)?;
        outer.list(Arc::new(inner), call.result)
    })
}

fn chosen(count: usize, size: usize) -> Result<Vec<Vec<usize>>> {
    const GROUPS_MAX: usize = 100_000;
    if size > 5 {
        return Err(invalid("combination size must not exceed 5"));
    }
    let mut all: Vec<Vec<usize>> = vec![Vec::new()];
    for _ in 0..size {
        let mut longer = Vec::new();
        for group in &all {
            let from = group.last().map_or(0, |last| last + 1);
            longer.extend((from..count).map(|next| [group.as_slice(), &[next]].concat()));
        }
        if longer.len() > GROUPS_MAX {
            return Err(invalid("combinations exceed max size"));
        }
        all = longer;
    }
    all.sort_by(|a, b| a.iter().rev().cmp(b.iter().rev()));
    Ok(all)
}

fn windows(count: usize, size: usize) -> Result<Vec<Vec<usize>>> {
    if size == 0 {
        return Err(invalid("N must be positive"));
    }
    if count <= size {
        return Ok(vec![(0..count).collect()]);
    }
    Ok((0..=count - size).map(|start| (start..start + size).collect()).collect())
}

fn flat_element(result: &DataType) -> Result<DataType> {
    match result {
        DataType::List(field) => Ok(field.data_type().clone()),
        other => Err(Error::internal(format!("an array type is expected, not {other}"))),
    }
}

fn zipped_type(typing: &Typing<'_>) -> Result<DataType> {
    let fields = typing.arguments.iter().map(|argument| {
        let inner = match argument {
            DataType::List(field) => field.data_type().clone(),
            _ => DataType::Null,
        };
        Field::new("", inner, true)
    });
    Ok(list_of(DataType::Struct(fields.collect())))
}

fn zip() -> Definition {
    let kernel = || {
        whole(|call: &Call<'_>| {
            let args = (0..call.arguments.len()).map(|index| call.full(index)).collect::<Result<Vec<_>>>()?;
            let shape = crate::kernels::nested::ZipShape {
                inputs: args.iter().map(|arg| Type::from_arrow(arg.data_type())).collect(),
                ordinality: false,
                outer: false,
            };
            let zipped = zip_rows(&args, call, &shape)?;
            Ok(zipped)
        })
    };
    array("zip", "arrays as one array of rows, the shorter ones filled with NULLs")
        .on_typed("zip(array(A), array(B)) -> array(row(A, B))", zipped_type, kernel())
        .on_typed("zip(array(A), array(B), array(C)) -> array(row(A, B, C))", zipped_type, kernel())
        .on_typed("zip(array(A), array(B), array(C), array(D)) -> array(row(A, B, C, D))", zipped_type, kernel())
        .on_typed(
            "zip(array(A), array(B), array(C), array(D), array(E)) -> array(row(A, B, C, D, E))",
            zipped_type,
            kernel(),
        )
        .example("SELECT zip(ARRAY[1], ARRAY['a'])", "[[1, a]]")
}

fn zip_rows(args: &[ArrayRef], call: &Call<'_>, _shape: &crate::kernels::nested::ZipShape) -> Result<ArrayRef> {
    let lists = args.iter().map(as_list).collect::<Result<Vec<_>>>()?;
    let mut offsets = Offsets::new(call.rows);
    let mut picks: Vec<Vec<Option<u32>>> = vec![Vec::new(); lists.len()];
    let mut total = 0;
    for row in 0..call.rows {
        let valid = lists.iter().all(|list| list.is_valid(row));
        if valid {
            let length = lists.iter().map(|list| list.value_length(row)).max().unwrap_or(0);
            for (list, picks) in lists.iter().zip(&mut picks) {
                let start = list.value_offsets()[row];
                picks.extend((0..length).map(|at| (at < list.value_length(row)).then_some((start + at) as u32)));
            }
            total += length as usize;
        }
        offsets.end(total, valid)?;
    }
    let DataType::List(item) = call.result else { return Err(Error::internal("zip gives an array")) };
    let DataType::Struct(fields) = item.data_type() else { return Err(Error::internal("zip gives rows")) };
    let columns = lists
        .iter()
        .zip(picks)
        .zip(fields)
        .map(|((list, picks), field)| conform(pick(list.values(), picks)?, field.data_type()))
        .collect::<Result<Vec<_>>>()?;
    let rows = arrow::array::StructArray::try_new_with_length(fields.clone(), columns, None, total)?;
    offsets.list(Arc::new(rows), call.result)
}
