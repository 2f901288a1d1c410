//! How far an argument is from a parameter: which of several signatures is nearest.
//!
//! Invariant: text and numbers never mix, and no coercion loses digits except integers and decimals to floating point.

use arrow::datatypes::{DataType, TimeUnit};

use super::signature::map_parts;
use crate::{
    kernels::zoned,
    sketches::Sketch,
    types::{Type, common},
};

/// Cost of coercing `from` into `to`; 0 when equal, `None` when Trino does not.
pub fn coerces(from: &DataType, to: &DataType) -> Option<u32> {
    use DataType::{
        Date32, Decimal128, Float32, Float64, List, Null, Struct, Time32, Time64, Timestamp, Utf8, Utf8View,
    };
    if from == to {
        return Some(0);
    }
    if let Some(unit) = zoned::unit_of(to) {
        return match from {
            Null | Date32 => Some(1),
            Timestamp(own, _) => (unit >= *own).then_some(1),
            from => zoned::unit_of(from).filter(|own| unit >= *own).map(|_| 1),
        };
    }
    match (from, to) {
        (Null, _) => Some(1),
        _ if Sketch::from_arrow(from).is_some() || Sketch::from_arrow(to).is_some() => None,
        (Utf8View, Utf8) => Some(1),
        (Float32, Float64) => Some(1),
        (Decimal128(p, s), Decimal128(q, t)) => {
            (t >= s && i16::from(*q as i8) - i16::from(*t) >= i16::from(*p as i8) - i16::from(*s)).then_some(1)
        }
        (Decimal128(..), Float32) => Some(5),
        (Decimal128(..), Float64) => Some(4),
        (Date32, Timestamp(_, zone)) => Some(if zone.is_none() { 1 } else { 2 }),
        (Timestamp(a, None), Timestamp(b, zone)) => (b >= a).then_some(if zone.is_none() { 1 } else { 2 }),
        (Timestamp(a, Some(_)), Timestamp(b, Some(_))) => (b >= a).then_some(1),
        (Time32(_), Time32(TimeUnit::Millisecond) | Time64(_)) | (Time64(_), Time64(TimeUnit::Nanosecond)) => Some(1),
        (List(a), List(b)) => coerces(a.data_type(), b.data_type()),
        (Struct(a), Struct(b)) if a.len() == b.len() => {
            a.iter().zip(b).try_fold(0, |sum, (a, b)| Some(sum + coerces(a.data_type(), b.data_type())?))
        }
        (DataType::Map(..), DataType::Map(..)) => {
            let ((ka, va), (kb, vb)) = (map_parts(from)?, map_parts(to)?);
            Some(coerces(ka, kb)? + coerces(va, vb)?)
        }
        _ => integer_coerces(from, to),
    }
}

fn integer_coerces(from: &DataType, to: &DataType) -> Option<u32> {
    let (width, digits) = integer(from)?;
    match to {
        DataType::Decimal128(p, s) => (i16::from(*p as i8) - i16::from(*s) >= digits).then_some(5),
        DataType::Float32 => Some(7),
        DataType::Float64 => Some(6),
        _ => {
            let (wider, _) = integer(to)?;
            (wider > width).then(|| wider - width)
        }
    }
}

fn integer(data_type: &DataType) -> Option<(u32, i16)> {
    match data_type {
        DataType::Int8 => Some((1, 3)),
        DataType::Int16 => Some((2, 5)),
        DataType::Int32 => Some((3, 10)),
        DataType::Int64 => Some((4, 19)),
        _ => None,
    }
}

/// The smallest type both coerce to.
pub fn super_type(a: &DataType, b: &DataType) -> Option<DataType> {
    common(&Type::from_arrow(a), &Type::from_arrow(b)).map(|shared| shared.to_arrow())
}
