//! Columns under construction: plain vectors that can be cut back to an earlier length when a row is refused.
//!
//! Invariant: every column of a batch has the same length between rows, and text columns hold valid UTF-8.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, FixedSizeBinaryArray, LargeStringArray,
        ListArray, MapArray, NullArray, NullBufferBuilder, PrimitiveArray, StringArray, StructArray,
    },
    buffer::{NullBuffer, OffsetBuffer, ScalarBuffer},
    datatypes::*,
};
use headwater_engine::error::{Error, Result};

use super::options::JsonOptions;

/// Values of one fixed width, with their NULLs.
#[derive(Debug)]
pub(super) struct Fixed<T> {
    pub(super) values: Vec<T>,
    pub(super) nulls: NullBufferBuilder,
}

impl<T: Copy + Default> Fixed<T> {
    fn new(capacity: usize) -> Self {
        Self { values: Vec::with_capacity(capacity), nulls: NullBufferBuilder::new(capacity) }
    }

    /// Adds a value.
    #[inline(always)]
    pub(super) fn push(&mut self, value: T) {
        self.values.push(value);
        self.nulls.append_non_null();
    }

    fn push_null(&mut self) {
        self.values.push(T::default());
        self.nulls.append_null();
    }

    fn truncate(&mut self, length: usize) {
        self.values.truncate(length);
        self.nulls.truncate(length);
    }

    fn take(&mut self) -> (ScalarBuffer<T>, Option<NullBuffer>)
    where
        T: arrow::datatypes::ArrowNativeType,
    {
        let fresh = Vec::with_capacity(self.values.len());
        (std::mem::replace(&mut self.values, fresh).into(), self.nulls.finish())
    }
}

/// Values of varying length.
#[derive(Debug)]
pub(super) struct Varying {
    pub(super) bytes: Vec<u8>,
    ends: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl Varying {
    fn new(capacity: usize) -> Self {
        let mut ends = Vec::with_capacity(capacity + 1);
        ends.push(0);
        Self { bytes: Vec::new(), ends, nulls: NullBufferBuilder::new(capacity) }
    }

    /// Adds a value.
    #[inline(always)]
    pub(super) fn push(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.end_value();
    }

    /// Makes what was added to `bytes` since the last value the next one.
    #[inline(always)]
    pub(super) fn end_value(&mut self) {
        self.ends.push(self.bytes.len() as i32);
        self.nulls.append_non_null();
    }

    fn push_null(&mut self) {
        self.ends.push(self.bytes.len() as i32);
        self.nulls.append_null();
    }

    fn truncate(&mut self, length: usize) {
        self.ends.truncate(length + 1);
        self.bytes.truncate(self.ends.last().map_or(0, |&end| end as usize));
        self.nulls.truncate(length);
    }

    fn take(&mut self) -> (Vec<i32>, Vec<u8>, Option<NullBuffer>) {
        let mut fresh = Vec::with_capacity(self.ends.len());
        fresh.push(0);
        let bytes = Vec::with_capacity(self.bytes.len());
        (std::mem::replace(&mut self.ends, fresh), std::mem::replace(&mut self.bytes, bytes), self.nulls.finish())
    }
}

/// Values of one column, by how they are stored.
#[derive(Debug)]
pub(super) enum Data {
    Null(usize),
    Boolean(BooleanBufferBuilder, NullBufferBuilder),
    Int8(Fixed<i8>),
    Int16(Fixed<i16>),
    Int32(Fixed<i32>),
    Int64(Fixed<i64>),
    Float32(Fixed<f32>),
    Float64(Fixed<f64>),
    Decimal(Fixed<i128>, u8, i8),
    Date(Fixed<i32>),
    /// Time of day in units of 10^-n seconds.
    Time32(Fixed<i32>, u32),
    Time64(Fixed<i64>, u32),
    /// In units of 10^-n seconds.
    Timestamp(Fixed<i64>, u32),
    Text(Varying),
    /// JSON text.
    Json(Varying),
    Binary(Varying),
    Uuid(Fixed<u128>),
    List {
        ends: Vec<i32>,
        nulls: NullBufferBuilder,
        items: Box<Column>,
    },
    Map {
        ends: Vec<i32>,
        nulls: NullBufferBuilder,
        keys: Box<Column>,
        values: Box<Column>,
    },
    Struct {
        nulls: NullBufferBuilder,
        fields: Vec<Column>,
        names: Names,
    },
}

/// A column under construction.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) data: Data,
    pub(super) data_type: DataType,
}

/// Which field a JSON key belongs to.
#[derive(Debug)]
pub(super) struct Names {
    by_key: HashMap<String, usize>,
    case_insensitive: bool,
    dots_to_underscores: bool,
}

impl Names {
    pub(super) fn new(fields: &Fields, options: &JsonOptions, is_top: bool) -> Self {
        let mut names = Self {
            by_key: HashMap::with_capacity(fields.len()),
            case_insensitive: options.case_insensitive,
            dots_to_underscores: options.dots_to_underscores,
        };
        for (index, field) in fields.iter().enumerate() {
            let mapped = options.mapping.iter().find(|(column, _)| column.eq_ignore_ascii_case(field.name()));
            let key = mapped.filter(|_| is_top).map_or(field.name(), |(_, key)| key);
            let key = names.folded(key).unwrap_or_else(|| key.clone());
            names.by_key.insert(key, index);
        }
        names
    }

    /// The field of a key.
    pub(super) fn find(&self, key: &[u8]) -> Option<usize> {
        let key = std::str::from_utf8(key).ok()?;
        match self.folded(key) {
            Some(folded) => self.by_key.get(&folded).copied(),
            None => self.by_key.get(key).copied(),
        }
    }

    /// What must differ between two keys of one object.
    pub(super) fn compared(&self, key: &[u8]) -> Vec<u8> {
        let folded = std::str::from_utf8(key).ok().and_then(|key| self.folded(key));
        folded.map_or_else(|| key.to_vec(), String::into_bytes)
    }

    /// The key as it is compared, if that differs.
    fn folded(&self, key: &str) -> Option<String> {
        let lowers = self.case_insensitive && !key.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase());
        let undots = self.dots_to_underscores && key.contains('.');
        if !lowers && !undots {
            return None;
        }
        let lowered = if lowers { key.to_lowercase() } else { key.to_owned() };
        Some(if undots { lowered.replace('.', "_") } else { lowered })
    }
}

/// Digits after the point of a second in a time unit.
fn digits_of(unit: TimeUnit) -> u32 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

impl Column {
    /// An empty column of a type, or the reason why JSON is not read into it.
    pub(super) fn new(data_type: &DataType, options: &JsonOptions) -> Result<Self> {
        let rows = options.batch_rows_max;
        let data = match data_type {
            DataType::Null => Data::Null(0),
            DataType::Boolean => Data::Boolean(BooleanBufferBuilder::new(rows), NullBufferBuilder::new(rows)),
            DataType::Int8 => Data::Int8(Fixed::new(rows)),
            DataType::Int16 => Data::Int16(Fixed::new(rows)),
            DataType::Int32 => Data::Int32(Fixed::new(rows)),
            DataType::Int64 => Data::Int64(Fixed::new(rows)),
            DataType::Float32 => Data::Float32(Fixed::new(rows)),
            DataType::Float64 => Data::Float64(Fixed::new(rows)),
            DataType::Decimal128(precision, scale) => Data::Decimal(Fixed::new(rows), *precision, *scale),
            DataType::Date32 => Data::Date(Fixed::new(rows)),
            DataType::Time32(unit) => Data::Time32(Fixed::new(rows), digits_of(*unit)),
            DataType::Time64(unit) => Data::Time64(Fixed::new(rows), digits_of(*unit)),
            DataType::Timestamp(unit, _) => Data::Timestamp(Fixed::new(rows), digits_of(*unit)),
            DataType::Utf8 => Data::Text(Varying::new(rows)),
            DataType::LargeUtf8 => Data::Json(Varying::new(rows)),
            DataType::Binary => Data::Binary(Varying::new(rows)),
            DataType::FixedSizeBinary(16) => Data::Uuid(Fixed::new(rows)),
            DataType::List(item) => Data::List {
                ends: vec![0],
                nulls: NullBufferBuilder::new(rows),
                items: Box::new(Self::new(item.data_type(), options)?),
            },
            DataType::Map(entries, _) => Self::map(entries, options)?,
            DataType::Struct(fields) => Data::Struct {
                nulls: NullBufferBuilder::new(rows),
                fields: fields.iter().map(|field| Self::new(field.data_type(), options)).collect::<Result<_>>()?,
                names: Names::new(fields, options, false),
            },
            other => return Err(Error::not_supported(format!("JSON is not read into a column of type {other}"))),
        };
        Ok(Self { data, data_type: data_type.clone() })
    }

    fn map(entries: &FieldRef, options: &JsonOptions) -> Result<Data> {
        let DataType::Struct(fields) = entries.data_type() else {
            return Err(Error::internal("the entries of a map are a struct"));
        };
        let [key, value] = fields.as_ref() else {
            return Err(Error::internal("the entries of a map have a key and a value"));
        };
        Ok(Data::Map {
            ends: vec![0],
            nulls: NullBufferBuilder::new(options.batch_rows_max),
            keys: Box::new(Self::new(key.data_type(), options)?),
            values: Box::new(Self::new(value.data_type(), options)?),
        })
    }

    /// How many values it has.
    #[inline]
    pub(super) fn len(&self) -> usize {
        match &self.data {
            Data::Null(length) => *length,
            Data::Boolean(_, nulls) => nulls.len(),
            Data::Int8(fixed) => fixed.values.len(),
            Data::Int16(fixed) => fixed.values.len(),
            Data::Int32(fixed) | Data::Date(fixed) | Data::Time32(fixed, _) => fixed.values.len(),
            Data::Int64(fixed) | Data::Time64(fixed, _) | Data::Timestamp(fixed, _) => fixed.values.len(),
            Data::Float32(fixed) => fixed.values.len(),
            Data::Float64(fixed) => fixed.values.len(),
            Data::Decimal(fixed, _, _) => fixed.values.len(),
            Data::Uuid(fixed) => fixed.values.len(),
            Data::Text(varying) | Data::Json(varying) | Data::Binary(varying) => varying.ends.len() - 1,
            Data::List { ends, .. } | Data::Map { ends, .. } => ends.len() - 1,
            Data::Struct { nulls, .. } => nulls.len(),
        }
    }

    /// Adds a NULL.
    pub(super) fn push_null(&mut self) {
        match &mut self.data {
            Data::Null(length) => *length += 1,
            Data::Boolean(values, nulls) => {
                values.append(false);
                nulls.append_null();
            }
            Data::Int8(fixed) => fixed.push_null(),
            Data::Int16(fixed) => fixed.push_null(),
            Data::Int32(fixed) | Data::Date(fixed) | Data::Time32(fixed, _) => fixed.push_null(),
            Data::Int64(fixed) | Data::Time64(fixed, _) | Data::Timestamp(fixed, _) => fixed.push_null(),
            Data::Float32(fixed) => fixed.push_null(),
            Data::Float64(fixed) => fixed.push_null(),
            Data::Decimal(fixed, _, _) => fixed.push_null(),
            Data::Uuid(fixed) => fixed.push_null(),
            Data::Text(varying) | Data::Json(varying) | Data::Binary(varying) => varying.push_null(),
            Data::List { ends, nulls, items } => {
                ends.push(items.len() as i32);
                nulls.append_null();
            }
            Data::Map { ends, nulls, keys, .. } => {
                ends.push(keys.len() as i32);
                nulls.append_null();
            }
            Data::Struct { nulls, fields, .. } => {
                fields.iter_mut().for_each(Self::push_null);
                nulls.append_null();
            }
        }
    }

    /// Cuts it back to `length` values.
    pub(super) fn truncate(&mut self, length: usize) {
        match &mut self.data {
            Data::Null(current) => *current = length.min(*current),
            Data::Boolean(values, nulls) => {
                values.truncate(length);
                nulls.truncate(length);
            }
            Data::Int8(fixed) => fixed.truncate(length),
            Data::Int16(fixed) => fixed.truncate(length),
            Data::Int32(fixed) | Data::Date(fixed) | Data::Time32(fixed, _) => fixed.truncate(length),
            Data::Int64(fixed) | Data::Time64(fixed, _) | Data::Timestamp(fixed, _) => fixed.truncate(length),
            Data::Float32(fixed) => fixed.truncate(length),
            Data::Float64(fixed) => fixed.truncate(length),
            Data::Decimal(fixed, _, _) => fixed.truncate(length),
            Data::Uuid(fixed) => fixed.truncate(length),
            Data::Text(varying) | Data::Json(varying) | Data::Binary(varying) => varying.truncate(length),
            Data::List { ends, nulls, items } => {
                ends.truncate(length + 1);
                nulls.truncate(length);
                items.truncate(ends.last().map_or(0, |&end| end as usize));
            }
            Data::Map { ends, nulls, keys, values } => {
                ends.truncate(length + 1);
                nulls.truncate(length);
                let entries = ends.last().map_or(0, |&end| end as usize);
                keys.truncate(entries);
                values.truncate(entries);
            }
            Data::Struct { nulls, fields, .. } => {
                fields.iter_mut().for_each(|field| field.truncate(length));
                nulls.truncate(length);
            }
        }
    }

    /// The values as an array; the column is empty afterwards.
    pub(super) fn finish(&mut self) -> Result<ArrayRef> {
        let data_type = self.data_type.clone();
        let array: ArrayRef = match &mut self.data {
            Data::Null(length) => Arc::new(NullArray::new(std::mem::take(length))),
            Data::Boolean(values, nulls) => Arc::new(BooleanArray::new(values.finish(), nulls.finish())),
            Data::Int8(fixed) => primitive::<Int8Type>(fixed, data_type),
            Data::Int16(fixed) => primitive::<Int16Type>(fixed, data_type),
            Data::Int32(fixed) => primitive::<Int32Type>(fixed, data_type),
            Data::Int64(fixed) => primitive::<Int64Type>(fixed, data_type),
            Data::Float32(fixed) => primitive::<Float32Type>(fixed, data_type),
            Data::Float64(fixed) => primitive::<Float64Type>(fixed, data_type),
            Data::Decimal(fixed, _, _) => primitive::<Decimal128Type>(fixed, data_type),
            Data::Date(fixed) => primitive::<Date32Type>(fixed, data_type),
            Data::Time32(fixed, 0) => primitive::<Time32SecondType>(fixed, data_type),
            Data::Time32(fixed, _) => primitive::<Time32MillisecondType>(fixed, data_type),
            Data::Time64(fixed, 6) => primitive::<Time64MicrosecondType>(fixed, data_type),
            Data::Time64(fixed, _) => primitive::<Time64NanosecondType>(fixed, data_type),
            Data::Timestamp(fixed, 0) => primitive::<TimestampSecondType>(fixed, data_type),
            Data::Timestamp(fixed, 3) => primitive::<TimestampMillisecondType>(fixed, data_type),
            Data::Timestamp(fixed, 6) => primitive::<TimestampMicrosecondType>(fixed, data_type),
            Data::Timestamp(fixed, _) => primitive::<TimestampNanosecondType>(fixed, data_type),
            Data::Text(varying) => {
                let (ends, bytes, nulls) = varying.take();
                Arc::new(StringArray::try_new(OffsetBuffer::new(ends.into()), bytes.into(), nulls)?)
            }
            Data::Json(varying) => {
                let (ends, bytes, nulls) = varying.take();
                let ends: Vec<i64> = ends.into_iter().map(i64::from).collect();
                Arc::new(LargeStringArray::try_new(OffsetBuffer::new(ends.into()), bytes.into(), nulls)?)
            }
            Data::Binary(varying) => {
                let (ends, bytes, nulls) = varying.take();
                Arc::new(BinaryArray::try_new(OffsetBuffer::new(ends.into()), bytes.into(), nulls)?)
            }
            Data::Uuid(fixed) => uuids(fixed)?,
            Data::List { .. } | Data::Map { .. } | Data::Struct { .. } => self.finish_nested()?,
        };
        Ok(array)
    }

    fn finish_nested(&mut self) -> Result<ArrayRef> {
        Ok(match (&mut self.data, &self.data_type) {
            (Data::List { ends, nulls, items }, DataType::List(item)) => {
                let ends = OffsetBuffer::new(std::mem::replace(ends, vec![0]).into());
                Arc::new(ListArray::try_new(item.clone(), ends, items.finish()?, nulls.finish())?)
            }
            (Data::Map { ends, nulls, keys, values }, DataType::Map(entries, is_sorted)) => {
                let DataType::Struct(fields) = entries.data_type() else {
                    return Err(Error::internal("the entries of a map are a struct"));
                };
                let pairs = StructArray::try_new(fields.clone(), vec![keys.finish()?, values.finish()?], None)?;
                let ends = OffsetBuffer::new(std::mem::replace(ends, vec![0]).into());
                Arc::new(MapArray::try_new(entries.clone(), ends, pairs, nulls.finish(), *is_sorted)?)
            }
            (Data::Struct { nulls, fields, .. }, DataType::Struct(types)) => {
                let length = nulls.len();
                let arrays = fields.iter_mut().map(Self::finish).collect::<Result<Vec<_>>>()?;
                Arc::new(StructArray::try_new_with_length(types.clone(), arrays, nulls.finish(), length)?)
            }
            _ => return Err(Error::internal("a nested column holds nested values")),
        })
    }
}

fn primitive<T: ArrowPrimitiveType>(fixed: &mut Fixed<T::Native>, data_type: DataType) -> ArrayRef
where
    T::Native: Default,
{
    let (values, nulls) = fixed.take();
    Arc::new(PrimitiveArray::<T>::new(values, nulls).with_data_type(data_type))
}

fn uuids(fixed: &mut Fixed<u128>) -> Result<ArrayRef> {
    let bytes: Vec<u8> = fixed.values.iter().flat_map(|uuid| uuid.to_be_bytes()).collect();
    fixed.values.clear();
    let array = FixedSizeBinaryArray::try_new(16, bytes.into(), fixed.nulls.finish())?;
    debug_assert_eq!(array.data_type(), &DataType::FixedSizeBinary(16));
    Ok(Arc::new(array))
}
