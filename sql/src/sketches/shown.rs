//! Sketches shown as maps, and their whole-number arguments.
//!
//! Invariant: a map has one entry for each bucket or value, in the order the sketch gives them.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, MapArray, StringArray, StructArray},
    buffer::OffsetBuffer,
    compute::cast,
    datatypes::{DataType, Int64Type},
};
use headwater_engine::error::{Error, Result};

use super::{buckets::Frequent, bytes::Reader};

pub(super) use crate::functions::signature::map_of;

/// An argument as whole numbers.
pub(super) fn whole(values: &[ArrayRef], index: usize) -> Result<Int64Array> {
    let values = values.get(index).ok_or_else(|| Error::internal("an argument of a sketch is missing"))?;
    Ok(cast(values, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

/// An array of one map.
pub(super) fn one_map(keys: ArrayRef, values: ArrayRef, of: &DataType) -> Result<ArrayRef> {
    let DataType::Map(field, sorted) = of else { return Err(Error::internal("expected a map type")) };
    let DataType::Struct(fields) = field.data_type() else { return Err(Error::internal("a map has entries")) };
    let offsets = OffsetBuffer::from_lengths([keys.len()]);
    let entries = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
    Ok(Arc::new(MapArray::try_new(field.clone(), offsets, entries, None, *sorted)?))
}

/// The most frequent values as a map to how often they occurred.
pub(super) fn frequent(counts: &Frequent, is_text: bool, of: &DataType) -> Result<ArrayRef> {
    let top = counts.top();
    let often: Int64Array = top.iter().map(|(_, count)| Some(*count)).collect();
    let keys: ArrayRef = if is_text {
        let texts = top.iter().map(|(value, _)| String::from_utf8_lossy(value));
        Arc::new(StringArray::from_iter_values(texts))
    } else {
        let number = |(value, _): &(&[u8], i64)| Reader::new(value, "count of frequent values").i64();
        Arc::new(Int64Array::from(top.iter().map(number).collect::<Result<Vec<_>>>()?))
    };
    one_map(keys, Arc::new(often), of)
}
