//! Building arrays and maps of a result type from offsets and flat values.
//!
//! Invariant: the field names and types are those of the type a call has to produce, whatever the parts were called.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, ListArray, MapArray, StructArray, new_null_array},
    buffer::{NullBuffer, OffsetBuffer, ScalarBuffer},
    compute::cast,
    datatypes::{DataType, Fields},
};
use headwater_engine::error::{Error, Result};

/// Where the rows of an array or map begin and which are NULL, while they are being written.
#[derive(Debug)]
pub struct Offsets {
    ends: Vec<i32>,
    valid: Vec<bool>,
}

impl Offsets {
    /// For a number of rows.
    pub fn new(rows: usize) -> Self {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        Self { ends, valid: Vec::with_capacity(rows) }
    }

    /// Ends a row; `total` values have been written so far.
    pub fn end(&mut self, total: usize, valid: bool) -> Result<()> {
        let end = i32::try_from(total).map_err(|_| {
            Error::user("EXCEEDED_LOCAL_MEMORY_LIMIT", "an array column holds more than 2^31 values")
                .with_hint("produce smaller arrays, or fewer rows at a time")
        })?;
        self.ends.push(end);
        self.valid.push(valid);
        Ok(())
    }

    fn parts(self) -> (OffsetBuffer<i32>, Option<NullBuffer>) {
        let nulls = self.valid.contains(&false).then(|| NullBuffer::from(self.valid));
        (OffsetBuffer::new(ScalarBuffer::from(self.ends)), nulls)
    }

    /// The arrays over flat values.
    pub fn list(self, values: ArrayRef, result: &DataType) -> Result<ArrayRef> {
        let DataType::List(field) = result else {
            return Err(Error::internal(format!("an array type is expected, not {result}")));
        };
        let values = conform(values, field.data_type())?;
        let (offsets, nulls) = self.parts();
        Ok(Arc::new(ListArray::try_new(field.clone(), offsets, values, nulls)?))
    }

    /// The maps over flat keys and values.
    pub fn map(self, keys: ArrayRef, values: ArrayRef, result: &DataType) -> Result<ArrayRef> {
        let (entry, fields) = entries_of(result)?;
        let [key, value] = fields.as_ref() else { return Err(Error::internal("a map entry has two fields")) };
        let keys = conform(keys, key.data_type())?;
        let values = conform(values, value.data_type())?;
        let entries = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
        let (offsets, nulls) = self.parts();
        Ok(Arc::new(MapArray::try_new(entry, offsets, entries, nulls, false)?))
    }
}

fn entries_of(map: &DataType) -> Result<(arrow::datatypes::FieldRef, Fields)> {
    if let DataType::Map(entry, _) = map
        && let DataType::Struct(fields) = entry.data_type()
    {
        return Ok((entry.clone(), fields.clone()));
    }
    Err(Error::internal(format!("a map type is expected, not {map}")))
}

/// The values under a type that differs in names only, or in the lack of any value.
pub fn conform(array: ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    if array.data_type() == data_type {
        return Ok(array);
    }
    if array.data_type() == &DataType::Null {
        return Ok(new_null_array(data_type, array.len()));
    }
    Ok(cast(&array, data_type)?)
}

/// An array argument.
pub fn as_list(array: &ArrayRef) -> Result<&ListArray> {
    let list = array.as_any().downcast_ref::<ListArray>();
    list.ok_or_else(|| Error::internal(format!("an array is expected, not {}", array.data_type())))
}

/// A map argument.
pub fn as_map(array: &ArrayRef) -> Result<&MapArray> {
    let map = array.as_any().downcast_ref::<MapArray>();
    map.ok_or_else(|| Error::internal(format!("a map is expected, not {}", array.data_type())))
}
