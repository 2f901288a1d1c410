//! Hashes of values as Trino's operators and sketches have them.
//!
//! Invariant: equal values of one type have equal hashes; both zeros and all NaNs of floating point are equal.

use arrow::{
    array::{Array, ArrayRef, AsArray},
    datatypes::{
        DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    },
    row::{RowConverter, SortField},
};
use headwater_engine::error::{Error, Result};
use twox_hash::XxHash64;

/// Which hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// XXH64, as operators have it.
    Xx,
    /// The first half of Murmur3, as sketches have it.
    Murmur,
}

/// Calls `each` with the row and hash of every value that is not NULL.
pub fn each(values: &ArrayRef, kind: Kind, mut each: impl FnMut(usize, u64)) -> Result<()> {
    macro_rules! numbers {
        ($type:ty, $long:expr) => {{
            let column = values.as_primitive::<$type>();
            for row in (0..column.len()).filter(|row| column.is_valid(*row)) {
                each(row, of_long($long(column.value(row)), kind));
            }
        }};
    }
    match values.data_type() {
        DataType::Null => {}
        DataType::Boolean => {
            let column = values.as_boolean();
            for row in (0..column.len()).filter(|row| column.is_valid(*row)) {
                each(row, of_long(i64::from(column.value(row)), kind));
            }
        }
        DataType::Int8 => numbers!(Int8Type, i64::from),
        DataType::Int16 => numbers!(Int16Type, i64::from),
        DataType::Int32 => numbers!(Int32Type, i64::from),
        DataType::Int64 => numbers!(Int64Type, i64::from),
        DataType::Date32 => numbers!(Date32Type, i64::from),
        DataType::Float64 => numbers!(Float64Type, double_bits),
        DataType::Float32 => numbers!(Float32Type, real_bits),
        DataType::Decimal128(digits, _) if *digits <= 18 => numbers!(Decimal128Type, |value: i128| value as i64),
        DataType::Utf8 => {
            let column = values.as_string::<i32>();
            for row in (0..column.len()).filter(|row| column.is_valid(*row)) {
                each(row, of_bytes(column.value(row).as_bytes(), kind)?);
            }
        }
        DataType::Binary => {
            let column = values.as_binary::<i32>();
            for row in (0..column.len()).filter(|row| column.is_valid(*row)) {
                each(row, of_bytes(column.value(row), kind)?);
            }
        }
        other => {
            let rows = RowConverter::new(vec![SortField::new(other.clone())])?;
            let rows = rows.convert_columns(std::slice::from_ref(values))?;
            for row in (0..values.len()).filter(|row| values.is_valid(*row)) {
                each(row, of_bytes(rows.row(row).as_ref(), kind)?);
            }
        }
    }
    Ok(())
}

fn double_bits(value: f64) -> i64 {
    if value.is_nan() { f64::NAN.to_bits() as i64 } else { (value + 0.0).to_bits() as i64 }
}

fn real_bits(value: f32) -> i64 {
    let bits = if value.is_nan() { f32::NAN.to_bits() } else { (value + 0.0).to_bits() };
    i64::from(bits as i32)
}

fn of_long(value: i64, kind: Kind) -> u64 {
    const FIRST: u64 = 0x87c3_7b91_1142_53d5;
    const SECOND: u64 = 0x4cf5_ad43_2745_937f;
    const LENGTH: u64 = 8;
    match kind {
        Kind::Xx => XxHash64::oneshot(0, &value.to_le_bytes()),
        Kind::Murmur => {
            // Murmur3 of eight bytes, its first 64 bits.
            let mixed = (value as u64).wrapping_mul(FIRST).rotate_left(31).wrapping_mul(SECOND);
            let one = LENGTH.wrapping_add(LENGTH ^ mixed);
            mix(one).wrapping_add(mix(one.wrapping_add(LENGTH)))
        }
    }
}

fn mix(mut k: u64) -> u64 {
    k ^= k >> 33;
    k = k.wrapping_mul(0xff51_afd7_ed55_8ccd);
    k ^= k >> 33;
    k = k.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    k ^ k >> 33
}

fn of_bytes(mut bytes: &[u8], kind: Kind) -> Result<u64> {
    match kind {
        Kind::Xx => Ok(XxHash64::oneshot(0, bytes)),
        Kind::Murmur => {
            let hash = murmur3::murmur3_x64_128(&mut bytes, 0).map_err(|error| Error::internal(error.to_string()))?;
            Ok(hash as u64)
        }
    }
}
