//! Sketches: small states that answer for many values, and can be merged.
//!
//! ```text
//!  values --hash or number--> state --bytes--> a column (partial results, checkpoints, the sketch types of SQL)
//!                               merge <--bytes--'
//! ```
//!
//! The same states stand behind `approx_distinct` and `approx_percentile` in batch and in stream windows, so that both
//! agree.
//!
//! Invariant: a sketch type's column is a row of one field of bytes, whose name is the type's.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, BinaryArray, StructArray},
    datatypes::{DataType, Field},
};
use headwater_engine::error::{Error, Result};

pub mod aggregate;
pub mod buckets;
pub(crate) mod bytes;
pub mod counts;
pub mod hash;
pub mod hll;
pub mod moments;
pub mod qdigest;
pub mod set_digest;
mod shown;

/// The types of sketches, and of other values that are bytes to everything but their own functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sketch {
    /// `HyperLogLog`
    HyperLogLog,
    /// `tdigest`
    TDigest,
    /// `qdigest(bigint)`
    QDigestBigint,
    /// `qdigest(real)`
    QDigestReal,
    /// `qdigest(double)`
    QDigestDouble,
    /// `SetDigest`
    SetDigest,
    /// `color`
    Color,
}

const ALL: [Sketch; 7] = [
    Sketch::HyperLogLog,
    Sketch::TDigest,
    Sketch::QDigestBigint,
    Sketch::QDigestReal,
    Sketch::QDigestDouble,
    Sketch::SetDigest,
    Sketch::Color,
];

impl Sketch {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::HyperLogLog => "HyperLogLog",
            Self::TDigest => "tdigest",
            Self::QDigestBigint => "qdigest(bigint)",
            Self::QDigestReal => "qdigest(real)",
            Self::QDigestDouble => "qdigest(double)",
            Self::SetDigest => "SetDigest",
            Self::Color => "color",
        }
    }

    /// The sketch type of a name.
    pub fn named(name: &str) -> Option<Self> {
        let name = name.replace(' ', "");
        ALL.into_iter().find(|sketch| sketch.name().eq_ignore_ascii_case(&name))
    }

    /// The Arrow type that carries it.
    pub fn to_arrow(self) -> DataType {
        DataType::Struct(vec![Field::new(format!("${}", self.name()), DataType::Binary, true)].into())
    }

    /// The sketch type that an Arrow type carries.
    pub fn from_arrow(data_type: &DataType) -> Option<Self> {
        let DataType::Struct(fields) = data_type else { return None };
        match fields.as_ref() {
            [only] if *only.data_type() == DataType::Binary => Self::named(only.name().strip_prefix('$')?),
            _ => None,
        }
    }

    /// A column of it from bytes.
    pub fn wrap(self, bytes: BinaryArray) -> Result<ArrayRef> {
        let DataType::Struct(fields) = self.to_arrow() else { return Err(Error::internal("a sketch is a row")) };
        let nulls = bytes.nulls().cloned();
        Ok(Arc::new(StructArray::try_new(fields, vec![Arc::new(bytes)], nulls)?))
    }

    /// The bytes of a column of a sketch type.
    pub fn unwrap(column: &ArrayRef) -> Result<BinaryArray> {
        let row = column.as_struct_opt().filter(|row| row.num_columns() == 1);
        let row = row.ok_or_else(|| Error::internal(format!("expected a sketch, got {}", column.data_type())))?;
        let bytes = row.column(0).as_binary_opt::<i32>().cloned();
        let bytes = bytes.ok_or_else(|| Error::internal("a sketch is a row of bytes"))?;
        Ok((0..row.len()).map(|at| (row.is_valid(at) && bytes.is_valid(at)).then(|| bytes.value(at))).collect())
    }
}

#[cfg(test)]
mod tests;
