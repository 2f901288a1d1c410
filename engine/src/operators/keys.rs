//! Keys as bytes that compare like their values, for maps in memory. They never leave the process.
//!
//! Invariant: two rows have the same bytes exactly when all their columns are equal, NULL being equal to NULL.

use arrow::{
    array::ArrayRef,
    compute::SortOptions,
    datatypes::DataType,
    row::{RowConverter, SortField},
};

use crate::error::Result;

/// A key.
pub(crate) type Key = Box<[u8]>;

/// Turns columns of fixed types into keys and back.
#[derive(Debug)]
pub(crate) struct KeyEncoder(Option<RowConverter>, usize);

impl KeyEncoder {
    pub(crate) fn new(types: impl IntoIterator<Item = DataType>) -> Result<Self> {
        Self::ordered(types.into_iter().map(|data_type| (data_type, SortOptions::default())))
    }

    /// Keys that compare as these orders do.
    pub(crate) fn ordered(columns: impl IntoIterator<Item = (DataType, SortOptions)>) -> Result<Self> {
        let field = |(data_type, options)| SortField::new_with_options(data_type, options);
        let fields: Vec<SortField> = columns.into_iter().map(field).collect();
        let width = fields.len();
        Ok(Self(if fields.is_empty() { None } else { Some(RowConverter::new(fields)?) }, width))
    }

    /// How many columns a key has.
    pub(crate) fn width(&self) -> usize {
        self.1
    }

    pub(crate) fn encode(&mut self, columns: &[ArrayRef], rows: usize) -> Result<Vec<Key>> {
        let Some(converter) = &self.0 else { return Ok(vec![Key::default(); rows]) };
        Ok(converter.convert_columns(columns)?.iter().map(|row| row.as_ref().into()).collect())
    }

    pub(crate) fn decode<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> Result<Vec<ArrayRef>> {
        let Some(converter) = &self.0 else { return Ok(Vec::new()) };
        let parser = converter.parser();
        Ok(converter.convert_rows(keys.map(|key| parser.parse(key)))?)
    }
}
