//! Lambdas over the entries of maps.
//!
//! Invariant: the keys a lambda gives are checked like those of any map.

use arrow::{
    array::{Array, ArrayRef, UInt32Array},
    compute::{interleave, take},
    datatypes::DataType,
};
use headwater_engine::error::Result;

use super::{
    super::{lambda::HigherArgument, map::check_keys, nested::as_map},
    argument, chosen, flat_map, kept,
};
use crate::kernels::{compare, rows::pick};

pub(super) fn map_filter(arguments: &[HigherArgument<'_>], result: &DataType) -> Result<ArrayRef> {
    let map = as_map(argument(arguments, 0)?.value()?)?;
    let (places, owners) = flat_map(map);
    let entries = [take(map.keys(), &places, None)?, take(map.values(), &places, None)?];
    let truth = argument(arguments, 1)?.lambda()?.evaluate(&entries, &owners)?;
    let (places, owners) = chosen(&truth, &places, &owners)?;
    let (keys, values) = (take(map.keys(), &places, None)?, take(map.values(), &places, None)?);
    kept(map.len(), &owners, |row| map.is_valid(row))?.map(keys, values, result)
}

pub(super) fn map_transform(arguments: &[HigherArgument<'_>], result: &DataType, of_keys: bool) -> Result<ArrayRef> {
    let map = as_map(argument(arguments, 0)?.value()?)?;
    let (places, owners) = flat_map(map);
    let (keys, values) = (take(map.keys(), &places, None)?, take(map.values(), &places, None)?);
    let made = argument(arguments, 1)?.lambda()?.evaluate(&[keys.clone(), values.clone()], &owners)?;
    let offsets = kept(map.len(), &owners, |row| map.is_valid(row))?;
    if !of_keys {
        return offsets.map(keys, made, result);
    }
    let mut start = 0;
    while start < owners.len() {
        let owner = owners.value(start);
        let length = owners.values()[start..].iter().take_while(|other| **other == owner).count();
        check_keys(&made.slice(start, length))?;
        start += length;
    }
    offsets.map(made, values, result)
}

pub(super) fn map_zip_with(arguments: &[HigherArgument<'_>], rows: usize, result: &DataType) -> Result<ArrayRef> {
    let a = as_map(argument(arguments, 0)?.value()?)?;
    let b = as_map(argument(arguments, 1)?.value()?)?;
    let (mut keys, mut from_a, mut from_b, mut owners) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in (0..rows).filter(|row| a.is_valid(*row) && b.is_valid(*row)) {
        let own_a = a.value_offsets()[row] as usize..a.value_offsets()[row + 1] as usize;
        let own_b = b.value_offsets()[row] as usize..b.value_offsets()[row + 1] as usize;
        let other_keys = b.keys().slice(own_b.start, own_b.len());
        let mut met = vec![false; own_b.len()];
        for at in own_a {
            let found = compare::find(&other_keys, a.keys(), at)?;
            if let Some(flag) = found.and_then(|found| met.get_mut(found)) {
                *flag = true;
            }
            keys.push((0, at));
            from_a.push(Some(at as u32));
            from_b.push(found.map(|found| (own_b.start + found) as u32));
            owners.push(row as u32);
        }
        for (index, _) in met.iter().enumerate().filter(|(_, met)| !**met) {
            keys.push((1, own_b.start + index));
            from_a.push(None);
            from_b.push(Some((own_b.start + index) as u32));
            owners.push(row as u32);
        }
    }
    let owners = UInt32Array::from(owners);
    let keys = interleave(&[a.keys().as_ref(), b.keys().as_ref()], &keys)?;
    let made = argument(arguments, 2)?
        .lambda()?
        .evaluate(&[keys.clone(), pick(a.values(), from_a)?, pick(b.values(), from_b)?], &owners)?;
    kept(rows, &owners, |row| a.is_valid(row) && b.is_valid(row))?.map(keys, made, result)
}
