//! Keys as bytes that compare like their values, for maps in memory. They never leave the process.
//!
//! Invariant: two rows have the same bytes exactly when all their columns are equal, NULL being equal to NULL and -0.0 to
//! 0.0. Only where rows are ordered, or are to come back as they were, the zeros are told apart.

use arrow::{
    array::ArrayRef,
    compute::SortOptions,
    datatypes::DataType,
    row::{RowConverter, SortField},
};

use crate::{error::Result, hash::with_one_zero};

/// A key.
pub(crate) type Key = Box<[u8]>;

/// Turns columns of fixed types into keys and back.
#[derive(Debug)]
pub(crate) struct KeyEncoder {
    /// `None` without columns.
    converter: Option<RowConverter>,
    width: usize,
    zeros: Zeros,
}

/// Whether -0.0 and 0.0 are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Zeros {
    One,
    Two,
}

impl KeyEncoder {
    pub(crate) fn new(types: impl IntoIterator<Item = DataType>) -> Result<Self> {
        let keys = Self::ordered(types.into_iter().map(|data_type| (data_type, SortOptions::default())))?;
        Ok(Self { zeros: Zeros::One, ..keys })
    }

    /// Whole rows, which come back as they were.
    pub(crate) fn exact(types: impl IntoIterator<Item = DataType>) -> Result<Self> {
        Self::ordered(types.into_iter().map(|data_type| (data_type, SortOptions::default())))
    }

    /// Keys that compare as these orders do.
    pub(crate) fn ordered(columns: impl IntoIterator<Item = (DataType, SortOptions)>) -> Result<Self> {
        let field = |(data_type, options)| SortField::new_with_options(data_type, options);
        let fields: Vec<SortField> = columns.into_iter().map(field).collect();
        let width = fields.len();
        let converter = if fields.is_empty() { None } else { Some(RowConverter::new(fields)?) };
        Ok(Self { converter, width, zeros: Zeros::Two })
    }

    /// How many columns a key has.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    pub(crate) fn encode(&mut self, columns: &[ArrayRef], rows: usize) -> Result<Vec<Key>> {
        let Some(converter) = &self.converter else { return Ok(vec![Key::default(); rows]) };
        let encoded = match self.zeros {
            Zeros::Two => converter.convert_columns(columns)?,
            Zeros::One => converter.convert_columns(&columns.iter().map(with_one_zero).collect::<Vec<_>>())?,
        };
        Ok(encoded.iter().map(|row| row.as_ref().into()).collect())
    }

    pub(crate) fn decode<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> Result<Vec<ArrayRef>> {
        let Some(converter) = &self.converter else { return Ok(Vec::new()) };
        let parser = converter.parser();
        Ok(converter.convert_rows(keys.map(|key| parser.parse(key)))?)
    }
}
