//! What aggregates make of the values of a group once those are collected in an array.
//!
//! Invariant: an array that is NULL (a group without values) gives NULL.

use std::{cmp::Ordering, collections::HashMap, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BinaryBuilder, Float64Array, Int64Array, ListArray, MapArray, StructArray,
        UInt32Array, new_empty_array,
    },
    buffer::{NullBuffer, OffsetBuffer},
    compute::{SortOptions, concat, take},
    datatypes::{DataType, Field, Float32Type, Float64Type},
    row::{RowConverter, SortField},
};
use headwater_engine::error::{Error, Result};

use super::{cast, compare};
use crate::{
    sketches::hash,
    types::{Type, as_instants},
};

mod joined;
mod percentile;

use joined::join;
use percentile::percentiles;

/// What to make of an array of collected values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Collected {
    /// A map of `row(key, value)`; the first value of a key stays.
    Map,
    /// A map of the entries of maps; the first value of a key stays.
    Union,
    /// A map of keys to all their values.
    Multimap,
    /// A map of values to how often they occur.
    Histogram,
    /// Text joined by the second argument; cut, with the third argument at the end, where it is too long.
    Join(Overflow),
    /// The first elements, as many as the second argument says.
    Prefix,
    /// The third standardised moment.
    Skewness,
    /// The fourth standardised moment.
    Kurtosis,
    /// Of `row(value, weight)` the value below which a share of the weight lies; with an array of shares, an array.
    Percentile,
    /// The first of an array of quantiles, or all of them, as the result's type.
    Quantiles,
    /// The elements in order: descending, and NULLs first, or not.
    Sorted {
        /// Greatest first.
        descending: bool,
        /// NULLs before the rest.
        nulls_first: bool,
    },
    /// The second fields of `row(key, value)` in the order of the first.
    SortedBy {
        /// Greatest first.
        descending: bool,
        /// NULLs before the rest.
        nulls_first: bool,
    },
    /// The second fields of `row(row(keys), value)` in the order of the keys; a bit for each key says how it sorts.
    SortedByKeys {
        /// Greatest first.
        descending: u64,
        /// NULLs before the rest.
        nulls_first: u64,
    },
    /// An order-independent checksum.
    Checksum,
    /// The second field of the `row(by, value)` whose first field is greatest (`true`) or least.
    Best(bool),
}

/// What becomes of text longer than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// It is an error.
    Error,
    /// It is cut, and the number of values left out may be written.
    Truncate {
        /// Whether it is written.
        count: bool,
    },
}

/// Evaluates one over its arguments.
pub fn evaluate(kind: Collected, args: &[ArrayRef], result: &Type) -> Result<ArrayRef> {
    let Some(lists) = args.first() else { return Err(Error::internal("an aggregate's values are missing")) };
    let lists = lists.as_list::<i32>();
    let second = args.get(1);
    match kind {
        Collected::Map => maps(lists, result, first_values),
        Collected::Union => maps(&entries_of_maps(lists)?, result, first_values),
        Collected::Multimap => maps(lists, result, all_values),
        Collected::Histogram => maps(lists, result, counts),
        Collected::Join(overflow) => join(lists, args, overflow),
        Collected::Prefix => prefix(lists, need(second)?),
        Collected::Skewness => moments(lists, 3, skewness),
        Collected::Kurtosis => moments(lists, 4, kurtosis),
        Collected::Percentile => percentiles(lists, need(second)?, result),
        Collected::Quantiles => percentile::of_quantiles(lists, result),
        Collected::Sorted { descending, nulls_first } => {
            let keys = [(lists.values().clone(), SortOptions { descending, nulls_first })];
            sorted(lists, &keys, lists.values())
        }
        Collected::SortedBy { descending, nulls_first } => {
            let pairs = lists.values().as_struct();
            sorted(lists, &[(pairs.column(0).clone(), SortOptions { descending, nulls_first })], pairs.column(1))
        }
        Collected::SortedByKeys { descending, nulls_first } => {
            let pairs = lists.values().as_struct();
            let bit = |of: u64, at: usize| of >> at & 1 == 1;
            let option = |at| SortOptions { descending: bit(descending, at), nulls_first: bit(nulls_first, at) };
            let keys = pairs.column(0).as_struct().columns().iter().enumerate();
            let keys: Vec<_> = keys.map(|(at, key)| (key.clone(), option(at))).collect();
            sorted(lists, &keys, pairs.column(1))
        }
        Collected::Checksum => checksums(lists),
        Collected::Best(greatest) => best(lists, greatest),
    }
}

fn need(argument: Option<&ArrayRef>) -> Result<&ArrayRef> {
    argument.ok_or_else(|| Error::internal("an aggregate's second argument is missing"))
}

type Entries = (ArrayRef, ArrayRef);

fn maps(lists: &ListArray, result: &Type, entries: fn(&ArrayRef, &Type) -> Result<Entries>) -> Result<ArrayRef> {
    let DataType::Map(field, sorted) = result.to_arrow() else { return Err(Error::internal("expected a map type")) };
    let DataType::Struct(fields) = field.data_type().clone() else { return Err(Error::internal("a map has entries")) };
    let (mut lengths, mut all_keys, mut all_values) = (Vec::new(), Vec::new(), Vec::new());
    for row in 0..lists.len() {
        if lists.is_null(row) {
            lengths.push(0);
            continue;
        }
        let (keys, values) = entries(&lists.value(row), result)?;
        lengths.push(keys.len());
        all_keys.push(super::fit(keys, fields[0].data_type())?);
        all_values.push(super::fit(values, fields[1].data_type())?);
    }
    let joined = |parts: &[ArrayRef], of: &DataType| -> Result<ArrayRef> {
        if parts.is_empty() {
            return Ok(new_empty_array(of));
        }
        Ok(concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<_>>())?)
    };
    let columns = vec![joined(&all_keys, fields[0].data_type())?, joined(&all_values, fields[1].data_type())?];
    let entries = StructArray::try_new(fields, columns, None)?;
    let nulls: NullBuffer = (0..lists.len()).map(|row| lists.is_valid(row)).collect();
    Ok(Arc::new(MapArray::try_new(field, OffsetBuffer::from_lengths(lengths), entries, Some(nulls), sorted)?))
}

/// For each distinct key the rows it stands in, in order of appearance.
pub(crate) fn grouped(keys: &ArrayRef) -> Result<Vec<Vec<u32>>> {
    // One instant is one key, whatever zone it is shown in.
    let shown = Type::from_arrow(keys.data_type());
    let instants = as_instants(shown.clone());
    let keys = if instants == shown { keys.clone() } else { cast::evaluate(keys, &shown, &instants, false)? };
    let keys = positive_zeros(&keys);
    let converter = RowConverter::new(vec![SortField::new(keys.data_type().clone())])?;
    let rows = converter.convert_columns(&[keys])?;
    let mut known: HashMap<&[u8], usize> = HashMap::with_capacity(rows.num_rows());
    let mut groups: Vec<Vec<u32>> = Vec::new();
    for row in 0..rows.num_rows() {
        let next = groups.len();
        let index = *known.entry(rows.row(row).data()).or_insert(next);
        match groups.get_mut(index) {
            Some(group) => group.push(row as u32),
            None => groups.push(vec![row as u32]),
        }
    }
    Ok(groups)
}

/// Both zeros are one key, and so are all NaNs.
pub(crate) fn positive_zeros(keys: &ArrayRef) -> ArrayRef {
    match keys.data_type() {
        DataType::Float64 => {
            let one = |key: f64| if key.is_nan() { f64::NAN } else { key + 0.0 };
            Arc::new(keys.as_primitive::<Float64Type>().unary::<_, Float64Type>(one))
        }
        DataType::Float32 => {
            let one = |key: f32| if key.is_nan() { f32::NAN } else { key + 0.0 };
            Arc::new(keys.as_primitive::<Float32Type>().unary::<_, Float32Type>(one))
        }
        _ => keys.clone(),
    }
}

/// Arrays of maps as arrays of their entries; the maps are not NULL.
fn entries_of_maps(lists: &ListArray) -> Result<ListArray> {
    let maps = lists.values().as_map();
    let ends = lists.value_offsets().iter().map(|at| maps.value_offsets()[*at as usize]).collect::<Vec<i32>>();
    let entries: ArrayRef = Arc::new(maps.entries().clone());
    let field = Arc::new(Field::new("item", entries.data_type().clone(), true));
    Ok(ListArray::try_new(field, OffsetBuffer::new(ends.into()), entries, lists.nulls().cloned())?)
}

fn firsts(groups: &[Vec<u32>]) -> UInt32Array {
    groups.iter().filter_map(|group| group.first().copied()).collect()
}

fn first_values(rows: &ArrayRef, _: &Type) -> Result<Entries> {
    let rows = rows.as_struct();
    let groups = grouped(rows.column(0))?;
    let picked = firsts(&groups);
    Ok((take(rows.column(0), &picked, None)?, take(rows.column(1), &picked, None)?))
}

fn all_values(rows: &ArrayRef, result: &Type) -> Result<Entries> {
    let rows = rows.as_struct();
    let groups = grouped(rows.column(0))?;
    let order: UInt32Array = groups.iter().flatten().copied().collect();
    let values = take(rows.column(1), &order, None)?;
    let offsets = OffsetBuffer::from_lengths(groups.iter().map(Vec::len));
    let Type::Map(_, lists) = result else { return Err(Error::internal("expected a map type")) };
    let DataType::List(item) = lists.to_arrow() else { return Err(Error::internal("expected a map of arrays")) };
    let values = super::fit(values, item.data_type())?;
    let lists: ArrayRef = Arc::new(ListArray::try_new(item, offsets, values, None)?);
    Ok((take(rows.column(0), &firsts(&groups), None)?, lists))
}

fn counts(values: &ArrayRef, _: &Type) -> Result<Entries> {
    let groups = grouped(values)?;
    let counts: Int64Array = groups.iter().map(|group| Some(group.len() as i64)).collect();
    Ok((take(values, &firsts(&groups), None)?, Arc::new(counts)))
}

fn number_of(argument: &ArrayRef) -> Result<usize> {
    let numbers = arrow::compute::cast(argument, &DataType::Int64)?;
    let numbers = numbers.as_primitive::<arrow::datatypes::Int64Type>();
    match numbers.iter().flatten().next().map(usize::try_from) {
        Some(Ok(count)) => Ok(count),
        Some(Err(_)) => Err(Error::user("INVALID_FUNCTION_ARGUMENT", "the number must not be negative")),
        None => Ok(0),
    }
}

fn doubles(values: &ArrayRef) -> Result<Vec<f64>> {
    let cast = arrow::compute::cast(values, &DataType::Float64)?;
    Ok(cast.as_primitive::<Float64Type>().iter().flatten().collect())
}

fn prefix(lists: &ListArray, count: &ArrayRef) -> Result<ArrayRef> {
    let count = number_of(count)?;
    if count == 0 {
        return Err(Error::user(
            "INVALID_FUNCTION_ARGUMENT",
            "third argument of max_by/min_by must be a positive integer",
        ));
    }
    let offsets = lists.value_offsets();
    let mut lengths = Vec::with_capacity(lists.len());
    let mut picked: Vec<u32> = Vec::new();
    for (row, start) in offsets.iter().take(lists.len()).enumerate() {
        let start = *start as usize;
        let own = if lists.is_null(row) { 0 } else { (lists.value_length(row) as usize).min(count) };
        picked.extend((start..start + own).map(|at| at as u32));
        lengths.push(own);
    }
    let DataType::List(item) = lists.data_type().clone() else { return Err(Error::internal("expected an array")) };
    let values = take(lists.values(), &UInt32Array::from(picked), None)?;
    Ok(Arc::new(ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), values, lists.nulls().cloned())?))
}

/// Arrays of values in the order of keys; equal keys keep their order.
fn sorted(lists: &ListArray, keys: &[(ArrayRef, SortOptions)], values: &ArrayRef) -> Result<ArrayRef> {
    let fields = keys.iter().map(|(key, options)| SortField::new_with_options(key.data_type().clone(), *options));
    let rows = RowConverter::new(fields.collect())?;
    let rows = rows.convert_columns(&keys.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>())?;
    let mut picked: Vec<u32> = Vec::with_capacity(values.len());
    let mut lengths = Vec::with_capacity(lists.len());
    for ends in lists.value_offsets().windows(2) {
        let mut own: Vec<u32> = (ends[0] as u32..ends[1] as u32).collect();
        own.sort_by(|a, b| rows.row(*a as usize).cmp(&rows.row(*b as usize)));
        lengths.push(own.len());
        picked.extend(own);
    }
    let values = take(values, &UInt32Array::from(picked), None)?;
    let item = Arc::new(Field::new("item", values.data_type().clone(), true));
    Ok(Arc::new(ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), values, lists.nulls().cloned())?))
}

fn moments(lists: &ListArray, least: usize, f: fn(&[f64]) -> f64) -> Result<ArrayRef> {
    let values = (0..lists.len()).map(|row| {
        if lists.is_null(row) {
            return Ok(None);
        }
        let own = doubles(&lists.value(row))?;
        Ok((own.len() >= least).then(|| f(&own)))
    });
    Ok(Arc::new(values.collect::<Result<Float64Array>>()?))
}

fn central(values: &[f64], power: i32) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|value| (value - mean).powi(power)).sum()
}

fn skewness(values: &[f64]) -> f64 {
    (values.len() as f64).sqrt() * central(values, 3) / central(values, 2).powf(1.5)
}

fn kurtosis(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let variance = central(values, 2) / (n - 1.0);
    let scale = n * (n + 1.0) / ((n - 1.0) * (n - 2.0) * (n - 3.0));
    scale * central(values, 4) / (variance * variance) - 3.0 * (n - 1.0).powi(2) / ((n - 2.0) * (n - 3.0))
}

const PRIME64: u64 = 0x9E37_79B1_85EB_CA87;

fn checksums(lists: &ListArray) -> Result<ArrayRef> {
    let mut out = BinaryBuilder::new();
    for row in 0..lists.len() {
        if lists.is_null(row) {
            out.append_null();
            continue;
        }
        let values = lists.value(row);
        let mut sum = PRIME64.wrapping_mul(values.logical_null_count() as u64);
        hash::each(&values, hash::Kind::Xx, |_, hash| sum = sum.wrapping_add(hash.wrapping_mul(PRIME64)))?;
        out.append_value(sum.to_le_bytes());
    }
    Ok(Arc::new(out.finish()))
}

fn best(lists: &ListArray, greatest: bool) -> Result<ArrayRef> {
    let rows = lists.values().as_struct();
    let (by, values) = (rows.column(0), rows.column(1));
    let better = if greatest { Ordering::Greater } else { Ordering::Less };
    let offsets = lists.value_offsets();
    let mut picked: Vec<Option<u32>> = Vec::with_capacity(lists.len());
    for row in 0..lists.len() {
        let mut chosen: Option<usize> = None;
        if lists.is_valid(row) {
            for at in offsets[row] as usize..offsets[row + 1] as usize {
                if by.is_null(at) {
                    continue;
                }
                let wins = match chosen {
                    None => true,
                    Some(known) => compare::order(by, at, by, known)? == Some(better),
                };
                if wins {
                    chosen = Some(at);
                }
            }
        }
        picked.push(chosen.map(|at| at as u32));
    }
    super::rows::pick(values, picked)
}
