//! Functions of arrays and maps that take lambdas.
//!
//! Invariant: each lambda is evaluated over all elements of a batch at once; `reduce` over one element of each row at a
//! time, and a comparator over all pairs.

use std::{cmp::Ordering, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, ListArray, MapArray, UInt32Array, new_null_array},
    compute::{interleave, take},
    datatypes::{DataType, Int32Type},
};
use headwater_engine::error::{Error, Result};

use super::{
    Callable, Example, Family, Function,
    kernel::invalid,
    lambda::{ArgumentType, Higher, HigherArgument},
    nested::{Offsets, as_list, conform},
    signature::{list_of, map_of, map_parts},
};
use crate::kernels::{booleans, rows::pick};

mod entries;
mod maps;

use entries::{ENTRIES, Kind};
use maps::{map_filter, map_transform, map_zip_with};

/// The family's functions.
pub fn functions() -> Result<Vec<Function>> {
    Ok(ENTRIES
        .iter()
        .map(|(kind, name, signature, summary, statement, result)| Function {
            name,
            aliases: &[],
            family: Family::Lambda,
            signatures: vec![signature],
            summary,
            example: Example { statement, result },
            callable: Callable::Higher(Arc::new(HigherFunction(*kind))),
        })
        .collect())
}

#[derive(Debug)]
struct HigherFunction(Kind);

impl HigherFunction {
    /// How many values and how many parameters each lambda has.
    fn shape(&self) -> (usize, &'static [usize]) {
        match self.0 {
            Kind::Transform | Kind::Filter | Kind::AnyMatch | Kind::AllMatch | Kind::NoneMatch => (1, &[1]),
            Kind::Reduce => (2, &[2, 1]),
            Kind::ZipWith => (2, &[2]),
            Kind::Sort | Kind::MapFilter | Kind::TransformKeys | Kind::TransformValues => (1, &[2]),
            Kind::MapZipWith => (2, &[3]),
        }
    }

    fn takes_maps(&self) -> bool {
        matches!(self.0, Kind::MapFilter | Kind::MapZipWith | Kind::TransformKeys | Kind::TransformValues)
    }
}

fn value_type(arguments: &[ArgumentType], index: usize) -> Result<DataType> {
    match arguments.get(index).and_then(ArgumentType::data_type) {
        Some(data_type) => Ok(data_type.clone()),
        None => Err(Error::internal("a lambda's result is not known yet")),
    }
}

fn element(of: &DataType) -> DataType {
    match of {
        DataType::List(field) => field.data_type().clone(),
        _ => DataType::Null,
    }
}

fn parts(of: &DataType) -> (DataType, DataType) {
    map_parts(of).map_or((DataType::Null, DataType::Null), |(key, value)| (key.clone(), value.clone()))
}

impl Higher for HigherFunction {
    fn name(&self) -> &'static str {
        let entry = ENTRIES.iter().find(|(kind, ..)| *kind == self.0);
        entry.map_or("higher", |(_, name, ..)| name.trim_end_matches("$lambda"))
    }

    fn coerce(&self, arguments: &[ArgumentType]) -> Result<Vec<ArgumentType>> {
        let (values, lambdas) = self.shape();
        let unfit = || Error::user("FUNCTION_NOT_FOUND", format!("unexpected parameters for function {}", self.name()));
        if arguments.len() != values + lambdas.len() {
            return Err(unfit());
        }
        arguments
            .iter()
            .enumerate()
            .map(|(index, argument)| match argument {
                ArgumentType::Lambda(..) if index >= values => Ok(argument.clone()),
                ArgumentType::Value(given) if index < values => {
                    let is_state = self.0 == Kind::Reduce && index == 1;
                    Ok(ArgumentType::Value(match given {
                        any if is_state => any.clone(),
                        DataType::Null if self.takes_maps() => map_of(DataType::Null, DataType::Null),
                        DataType::Null => list_of(DataType::Null),
                        DataType::Map(..) if self.takes_maps() => given.clone(),
                        DataType::List(_) if !self.takes_maps() => given.clone(),
                        _ => return Err(unfit()),
                    }))
                }
                _ => Err(unfit()),
            })
            .collect()
    }

    fn parameters(&self, index: usize, arguments: &[ArgumentType]) -> Result<Vec<DataType>> {
        let first = value_type(arguments, 0)?;
        Ok(match (self.0, index) {
            (Kind::Reduce, 2) => vec![value_type(arguments, 1)?, element(&first)],
            (Kind::Reduce, _) => vec![value_type(arguments, 1)?],
            (Kind::ZipWith, _) => vec![element(&first), element(&value_type(arguments, 1)?)],
            (Kind::Sort, _) => vec![element(&first), element(&first)],
            (Kind::MapZipWith, _) => {
                let ((key, value), (_, other)) = (parts(&first), parts(&value_type(arguments, 1)?));
                vec![key, value, other]
            }
            (Kind::MapFilter | Kind::TransformKeys | Kind::TransformValues, _) => {
                let (key, value) = parts(&first);
                vec![key, value]
            }
            _ => vec![element(&first)],
        })
    }

    fn lambda_result(&self, index: usize, arguments: &[ArgumentType]) -> Option<DataType> {
        match (self.0, index) {
            (Kind::Filter | Kind::AnyMatch | Kind::AllMatch | Kind::NoneMatch | Kind::MapFilter, _) => {
                Some(DataType::Boolean)
            }
            (Kind::Sort, _) => Some(DataType::Int32),
            (Kind::Reduce, 2) => value_type(arguments, 1).ok(),
            _ => None,
        }
    }

    fn result(&self, arguments: &[ArgumentType]) -> Result<DataType> {
        let first = value_type(arguments, 0)?;
        Ok(match self.0 {
            Kind::Transform => list_of(value_type(arguments, 1)?),
            Kind::ZipWith => list_of(value_type(arguments, 2)?),
            Kind::Filter | Kind::Sort | Kind::MapFilter => first,
            Kind::AnyMatch | Kind::AllMatch | Kind::NoneMatch => DataType::Boolean,
            Kind::Reduce => value_type(arguments, 3)?,
            Kind::MapZipWith => map_of(parts(&first).0, value_type(arguments, 2)?),
            Kind::TransformKeys => map_of(value_type(arguments, 1)?, parts(&first).1),
            Kind::TransformValues => map_of(parts(&first).0, value_type(arguments, 1)?),
        })
    }

    fn invoke(&self, arguments: &[HigherArgument<'_>], rows: usize, result: &DataType) -> Result<ArrayRef> {
        match self.0 {
            Kind::Transform => transform(arguments, result),
            Kind::Filter => filter(arguments, result),
            Kind::AnyMatch => matches(arguments, rows, |any, _, unknown| {
                if any {
                    Some(true)
                } else if unknown {
                    None
                } else {
                    Some(false)
                }
            }),
            Kind::AllMatch => {
                matches(
                    arguments,
                    rows,
                    |_, all, unknown| if all { if unknown { None } else { Some(true) } } else { Some(false) },
                )
            }
            Kind::NoneMatch => matches(arguments, rows, |any, _, unknown| {
                if any {
                    Some(false)
                } else if unknown {
                    None
                } else {
                    Some(true)
                }
            }),
            Kind::Reduce => reduce(arguments, rows, result),
            Kind::ZipWith => zip_with(arguments, rows, result),
            Kind::Sort => sort(arguments, result),
            Kind::MapFilter => map_filter(arguments, result),
            Kind::MapZipWith => map_zip_with(arguments, rows, result),
            Kind::TransformKeys => map_transform(arguments, result, true),
            Kind::TransformValues => map_transform(arguments, result, false),
        }
    }
}

fn argument<'a, 'b>(arguments: &'a [HigherArgument<'b>], index: usize) -> Result<&'a HigherArgument<'b>> {
    arguments.get(index).ok_or_else(|| Error::internal("an argument is missing"))
}

/// Elements of the rows that are not NULL: their positions, and the row each belongs to.
fn flat(offsets: &[i32], is_valid: impl Fn(usize) -> bool) -> (UInt32Array, UInt32Array) {
    let (mut places, mut owners) = (Vec::new(), Vec::new());
    for row in 0..offsets.len().saturating_sub(1) {
        if is_valid(row) {
            places.extend((offsets[row]..offsets[row + 1]).map(|at| at as u32));
            owners.extend(std::iter::repeat_n(row as u32, (offsets[row + 1] - offsets[row]) as usize));
        }
    }
    (UInt32Array::from(places), UInt32Array::from(owners))
}

fn flat_list(list: &ListArray) -> (UInt32Array, UInt32Array) {
    flat(list.value_offsets(), |row| list.is_valid(row))
}

fn flat_map(map: &MapArray) -> (UInt32Array, UInt32Array) {
    flat(map.value_offsets(), |row| map.is_valid(row))
}

/// Offsets of rows that keep so many elements.
fn kept(rows: usize, owners: &UInt32Array, is_valid: impl Fn(usize) -> bool) -> Result<Offsets> {
    let mut counts = vec![0usize; rows];
    for owner in owners.values() {
        if let Some(count) = counts.get_mut(*owner as usize) {
            *count += 1;
        }
    }
    let mut offsets = Offsets::new(rows);
    let mut total = 0;
    for (row, count) in counts.into_iter().enumerate() {
        total += count;
        offsets.end(total, is_valid(row))?;
    }
    Ok(offsets)
}

fn transform(arguments: &[HigherArgument<'_>], result: &DataType) -> Result<ArrayRef> {
    let list = as_list(argument(arguments, 0)?.value()?)?;
    let (places, owners) = flat_list(list);
    let elements = take(list.values(), &places, None)?;
    let made = argument(arguments, 1)?.lambda()?.evaluate(&[elements], &owners)?;
    kept(list.len(), &owners, |row| list.is_valid(row))?.list(made, result)
}

fn chosen(truth: &ArrayRef, places: &UInt32Array, owners: &UInt32Array) -> Result<(UInt32Array, UInt32Array)> {
    let truth = booleans(truth)?;
    let keep = |values: &UInt32Array| -> UInt32Array {
        values
            .values()
            .iter()
            .enumerate()
            .filter(|(at, _)| truth.is_valid(*at) && truth.value(*at))
            .map(|(_, value)| *value)
            .collect()
    };
    Ok((keep(places), keep(owners)))
}

fn filter(arguments: &[HigherArgument<'_>], result: &DataType) -> Result<ArrayRef> {
    let list = as_list(argument(arguments, 0)?.value()?)?;
    let (places, owners) = flat_list(list);
    let elements = take(list.values(), &places, None)?;
    let truth = argument(arguments, 1)?.lambda()?.evaluate(&[elements], &owners)?;
    let (places, owners) = chosen(&truth, &places, &owners)?;
    let values = take(list.values(), &places, None)?;
    kept(list.len(), &owners, |row| list.is_valid(row))?.list(values, result)
}

/// Any, all and none: decided by whether one element matched, all did, and whether some result was NULL.
fn matches(
    arguments: &[HigherArgument<'_>],
    rows: usize,
    decide: fn(bool, bool, bool) -> Option<bool>,
) -> Result<ArrayRef> {
    let list = as_list(argument(arguments, 0)?.value()?)?;
    let (places, owners) = flat_list(list);
    let elements = take(list.values(), &places, None)?;
    let truth = argument(arguments, 1)?.lambda()?.evaluate(&[elements], &owners)?;
    let truth = booleans(&truth)?;
    let mut seen = vec![(false, true, false); rows];
    for (at, owner) in owners.values().iter().enumerate() {
        let Some((any, all, unknown)) = seen.get_mut(*owner as usize) else { continue };
        match truth.is_valid(at).then(|| truth.value(at)) {
            Some(true) => *any = true,
            Some(false) => *all = false,
            None => *unknown = true,
        }
    }
    let decided: BooleanArray = seen
        .into_iter()
        .enumerate()
        .map(|(row, (any, all, unknown))| if list.is_valid(row) { decide(any, all, unknown) } else { None })
        .collect();
    Ok(Arc::new(decided))
}

fn reduce(arguments: &[HigherArgument<'_>], rows: usize, result: &DataType) -> Result<ArrayRef> {
    let list = as_list(argument(arguments, 0)?.value()?)?;
    let mut states = argument(arguments, 1)?.value()?.clone();
    let step = argument(arguments, 2)?.lambda()?;
    let longest = (0..rows).filter(|row| list.is_valid(*row)).map(|row| list.value_length(row)).max().unwrap_or(0);
    for at in 0..longest {
        let active: Vec<u32> =
            (0..rows).filter(|row| list.is_valid(*row) && list.value_length(*row) > at).map(|row| row as u32).collect();
        let places: UInt32Array = active.iter().map(|row| (list.value_offsets()[*row as usize] + at) as u32).collect();
        let owners = UInt32Array::from(active.clone());
        let made = step.evaluate(&[take(&states, &owners, None)?, take(list.values(), &places, None)?], &owners)?;
        let made = conform(made, states.data_type())?;
        let mut order: Vec<(usize, usize)> = (0..rows).map(|row| (0, row)).collect();
        for (index, row) in active.iter().enumerate() {
            if let Some(place) = order.get_mut(*row as usize) {
                *place = (1, index);
            }
        }
        states = interleave(&[states.as_ref(), made.as_ref()], &order)?;
    }
    let present: Vec<u32> = (0..rows).filter(|row| list.is_valid(*row)).map(|row| row as u32).collect();
    if present.is_empty() {
        return Ok(new_null_array(result, rows));
    }
    let owners = UInt32Array::from(present.clone());
    let made = argument(arguments, 3)?.lambda()?.evaluate(&[take(&states, &owners, None)?], &owners)?;
    let mut back: Vec<Option<u32>> = vec![None; rows];
    for (index, row) in present.iter().enumerate() {
        if let Some(place) = back.get_mut(*row as usize) {
            *place = Some(index as u32);
        }
    }
    pick(&made, back)
}

fn zip_with(arguments: &[HigherArgument<'_>], rows: usize, result: &DataType) -> Result<ArrayRef> {
    let a = as_list(argument(arguments, 0)?.value()?)?;
    let b = as_list(argument(arguments, 1)?.value()?)?;
    let (mut from_a, mut from_b, mut owners) = (Vec::new(), Vec::new(), Vec::new());
    for row in (0..rows).filter(|row| a.is_valid(*row) && b.is_valid(*row)) {
        let length = a.value_length(row).max(b.value_length(row));
        for at in 0..length {
            from_a.push((at < a.value_length(row)).then_some((a.value_offsets()[row] + at) as u32));
            from_b.push((at < b.value_length(row)).then_some((b.value_offsets()[row] + at) as u32));
            owners.push(row as u32);
        }
    }
    let owners = UInt32Array::from(owners);
    let made =
        argument(arguments, 2)?.lambda()?.evaluate(&[pick(a.values(), from_a)?, pick(b.values(), from_b)?], &owners)?;
    kept(rows, &owners, |row| a.is_valid(row) && b.is_valid(row))?.list(made, result)
}

fn sort(arguments: &[HigherArgument<'_>], result: &DataType) -> Result<ArrayRef> {
    const PAIRS_MAX: usize = 10_000_000;
    let list = as_list(argument(arguments, 0)?.value()?)?;
    let (mut left, mut right, mut owners) = (Vec::new(), Vec::new(), Vec::new());
    for row in (0..list.len()).filter(|row| list.is_valid(*row)) {
        let own = list.value_offsets()[row]..list.value_offsets()[row + 1];
        for a in own.clone() {
            for b in own.clone() {
                left.push(a as u32);
                right.push(b as u32);
                owners.push(row as u32);
            }
        }
        if left.len() > PAIRS_MAX {
            return Err(Error::user("EXCEEDED_LOCAL_MEMORY_LIMIT", "arrays are too long to sort with a comparator"));
        }
    }
    let elements =
        [take(list.values(), &UInt32Array::from(left), None)?, take(list.values(), &UInt32Array::from(right), None)?];
    let orders = argument(arguments, 1)?.lambda()?.evaluate(&elements, &UInt32Array::from(owners))?;
    let orders: &Int32Array = orders.as_primitive::<Int32Type>();
    if orders.null_count() > 0 {
        return Err(invalid("lambda comparator must return either -1, 0, or 1"));
    }
    let (mut offsets, mut indices, mut base) = (Offsets::new(list.len()), Vec::new(), 0);
    for row in 0..list.len() {
        if list.is_valid(row) {
            let (start, length) = (list.value_offsets()[row] as usize, list.value_length(row) as usize);
            let mut own: Vec<usize> = (0..length).collect();
            own.sort_by(|a, b| {
                orders.values().get(base + a * length + b).map_or(Ordering::Equal, |order| order.cmp(&0))
            });
            indices.extend(own.into_iter().map(|at| (start + at) as u32));
            base += length * length;
        }
        offsets.end(indices.len(), list.is_valid(row))?;
    }
    offsets.list(take(list.values(), &UInt32Array::from(indices), None)?, result)
}
