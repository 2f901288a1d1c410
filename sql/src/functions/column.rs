//! Arguments of a kernel as typed columns, and results as typed builders.
//!
//! Invariant: a constant argument is one value read with stride 0, so a kernel's loop is the same for constants and
//! columns and never copies a constant to every row.

use arrow::{
    array::{
        Array, ArrayRef, BinaryArray, BinaryBuilder, BooleanArray, BooleanBuilder, Decimal128Array, Float32Array,
        Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, LargeStringArray, NullBufferBuilder,
        OffsetSizeTrait, StringArray, StringViewArray, make_array,
    },
    buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer},
    datatypes::DataType,
};
use headwater_engine::error::{Error, Result};

use super::scalar::Argument;

/// How values of one kind are read from an array.
pub trait Read {
    /// The array that holds them.
    type Array: Array + Clone + 'static;
    /// One value.
    type Item<'a>;
    /// The type to which arrays of the same width are reinterpreted first, if any.
    const RAW: Option<DataType> = None;
    /// The value at an index, which is not NULL.
    fn get(array: &Self::Array, index: usize) -> Self::Item<'_>;
}

macro_rules! read {
    ($($(#[$doc:meta])* $name:ident: $array:ty => $item:ty, $raw:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;
        impl Read for $name {
            type Array = $array;
            type Item<'a> = $item;
            const RAW: Option<DataType> = $raw;
            fn get(array: &Self::Array, index: usize) -> Self::Item<'_> {
                array.value(index)
            }
        }
    )*};
}

read! {
    /// `varchar`.
    Str: StringArray => &'a str, None;
    /// `json`.
    Json: LargeStringArray => &'a str, None;
    /// `char(n)`.
    Char: StringViewArray => &'a str, None;
    /// `varbinary`.
    Bytes: BinaryArray => &'a [u8], None;
    /// `boolean`.
    Bool: BooleanArray => bool, None;
    /// `tinyint`.
    I8: Int8Array => i8, None;
    /// `smallint`.
    I16: Int16Array => i16, None;
    /// `integer`, and the days of a date.
    I32: Int32Array => i32, Some(DataType::Int32);
    /// `bigint`, and the ticks of a timestamp, time or interval.
    I64: Int64Array => i64, Some(DataType::Int64);
    /// `real`.
    F32: Float32Array => f32, None;
    /// `double`.
    F64: Float64Array => f64, None;
    /// The unscaled value of a decimal.
    Dec: Decimal128Array => i128, None;
}

/// One argument as a typed column.
#[derive(Debug)]
pub struct Column<R: Read> {
    array: R::Array,
    nulls: Option<NullBuffer>,
    stride: usize,
}

impl<R: Read> Column<R> {
    /// Reads an argument; its type has been decided by the signature.
    pub fn new(argument: &Argument) -> Result<Self> {
        let array = match R::RAW {
            Some(raw) if argument.array.data_type() != &raw => retype(&argument.array, &raw)?,
            _ => argument.array.clone(),
        };
        let typed = array.as_any().downcast_ref::<R::Array>().ok_or_else(|| {
            Error::internal(format!("argument of type {} is read as another type", argument.array.data_type()))
        })?;
        Ok(Self { array: typed.clone(), nulls: typed.nulls().cloned(), stride: usize::from(!argument.constant) })
    }

    /// Whether the value of a row is NULL.
    pub fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row * self.stride))
    }

    /// The value of a row, which is not NULL.
    pub fn get(&self, row: usize) -> R::Item<'_> {
        R::get(&self.array, row * self.stride)
    }

    /// The value of a row, if it is not NULL.
    pub fn value(&self, row: usize) -> Option<R::Item<'_>> {
        (!self.is_null(row)).then(|| self.get(row))
    }
}

/// The same bits under another type of the same width.
pub fn retype(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    if array.data_type() == data_type {
        return Ok(array.clone());
    }
    Ok(make_array(array.to_data().into_builder().data_type(data_type.clone()).build()?))
}

/// How results of one kind are collected.
pub trait Collect {
    /// One result.
    type Item;
    /// Starts a collection for a number of rows.
    fn new(rows: usize) -> Self;
    /// Adds a result.
    fn push(&mut self, item: Option<Self::Item>);
    /// Ends the collection.
    fn finish(self) -> ArrayRef;
}

macro_rules! collect {
    ($($(#[$doc:meta])* $name:ident: $builder:ident => $item:ty;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name(arrow::array::$builder);
        impl Collect for $name {
            type Item = $item;
            fn new(rows: usize) -> Self {
                Self(arrow::array::$builder::with_capacity(rows))
            }
            fn push(&mut self, item: Option<$item>) {
                self.0.append_option(item);
            }
            fn finish(mut self) -> ArrayRef {
                std::sync::Arc::new(self.0.finish())
            }
        }
    )*};
}

collect! {
    /// `tinyint` results.
    ToI8: Int8Builder => i8;
    /// `smallint` results.
    ToI16: Int16Builder => i16;
    /// `integer` or `date` results.
    ToI32: Int32Builder => i32;
    /// `bigint`, timestamp, time or interval results.
    ToI64: Int64Builder => i64;
    /// `real` results.
    ToF32: Float32Builder => f32;
    /// `double` results.
    ToF64: Float64Builder => f64;
    /// Decimal results.
    ToDec: Decimal128Builder => i128;
}

/// `boolean` results.
#[derive(Debug)]
pub struct ToBool(BooleanBuilder);

impl Collect for ToBool {
    type Item = bool;
    fn new(rows: usize) -> Self {
        Self(BooleanBuilder::with_capacity(rows))
    }
    fn push(&mut self, item: Option<bool>) {
        self.0.append_option(item);
    }
    fn finish(mut self) -> ArrayRef {
        std::sync::Arc::new(self.0.finish())
    }
}

/// `varbinary` results.
#[derive(Debug)]
pub struct ToBytes(BinaryBuilder);

impl Collect for ToBytes {
    type Item = Vec<u8>;
    fn new(rows: usize) -> Self {
        Self(BinaryBuilder::with_capacity(rows, rows * 16))
    }
    fn push(&mut self, item: Option<Vec<u8>>) {
        self.0.append_option(item);
    }
    fn finish(mut self) -> ArrayRef {
        std::sync::Arc::new(self.0.finish())
    }
}

/// Text results, written in place: what is pushed until [`Text::end`] is one value.
#[derive(Debug)]
pub struct Text {
    values: String,
    ends: Vec<usize>,
    nulls: NullBufferBuilder,
    json: bool,
}

impl Text {
    /// Starts a collection of `varchar` or, for `LargeUtf8`, of `json`.
    pub fn new(rows: usize, data_type: &DataType) -> Self {
        const LENGTH_GUESSED: usize = 16;
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        let values = String::with_capacity(rows * LENGTH_GUESSED);
        let json = matches!(data_type, DataType::LargeUtf8);
        Self { values, ends, nulls: NullBufferBuilder::new(rows), json }
    }

    /// Adds a piece of the present value.
    #[inline]
    pub fn push_str(&mut self, piece: &str) {
        self.values.push_str(piece);
    }

    /// Adds a character to the present value.
    #[inline]
    pub fn push(&mut self, c: char) {
        self.values.push(c);
    }

    /// Ends the present value; `false` makes it NULL and drops what was written of it.
    #[inline]
    pub fn end(&mut self, valid: bool) {
        if valid {
            self.nulls.append_non_null();
        } else {
            self.values.truncate(self.ends.last().copied().unwrap_or_default());
            self.nulls.append_null();
        }
        self.ends.push(self.values.len());
    }

    /// Ends the collection; fails where a batch of `varchar` is longer than its offsets can say.
    pub fn finish(mut self) -> Result<ArrayRef> {
        let nulls = self.nulls.finish();
        if !self.json {
            return text_array(self.values.into_bytes(), &self.ends, nulls);
        }
        let values = Buffer::from(self.values.into_bytes());
        Ok(std::sync::Arc::new(LargeStringArray::try_new(offsets(&self.ends)?, values, nulls)?))
    }
}

/// A column of `varchar` from the bytes of its texts and where they end, 0 first.
pub fn text_array(values: Vec<u8>, ends: &[usize], nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    Ok(std::sync::Arc::new(StringArray::try_new(offsets(ends)?, Buffer::from(values), nulls)?))
}

fn offsets<O: OffsetSizeTrait>(ends: &[usize]) -> Result<OffsetBuffer<O>> {
    let last = ends.last().copied().unwrap_or_default();
    if O::from_usize(last).is_none() {
        return Err(Error::user("EXCEEDED_LOCAL_MEMORY_LIMIT", format!("a batch of text has {last} bytes, over 2 GB"))
            .with_hint("make the texts shorter, or batch.rows smaller"));
    }
    let offsets: ScalarBuffer<O> = ends.iter().map(|end| O::usize_as(*end)).collect();
    Ok(OffsetBuffer::new(offsets))
}

impl std::fmt::Write for Text {
    fn write_str(&mut self, piece: &str) -> std::fmt::Result {
        self.push_str(piece);
        Ok(())
    }
}

/// Something compiled from text (a pattern, a path, a zone) and kept while the text stays the same.
#[derive(Debug)]
pub struct Compiled<T> {
    text: String,
    value: Option<T>,
}

impl<T> Default for Compiled<T> {
    fn default() -> Self {
        Self { text: String::new(), value: None }
    }
}

impl<T> Compiled<T> {
    /// The compiled form of the text.
    pub fn get(&mut self, text: &str, compile: impl FnOnce(&str) -> Result<T>) -> Result<&mut T> {
        if self.value.is_some() && self.text == text {
            return self.value.as_mut().ok_or_else(|| Error::internal("a compiled value is expected"));
        }
        text.clone_into(&mut self.text);
        Ok(self.value.insert(compile(text)?))
    }
}
