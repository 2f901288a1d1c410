//! The hash that decides which key goes where: exchanges and checkpointed key groups use the same one.
//!
//! Canonical encoding, version [`HASH_VERSION`]; two equal keys hash alike whatever their column's width or layout:
//!
//! | value | hashed as |
//! |---|---|
//! | NULL | one constant |
//! | booleans, integers, dates, times, timestamps, durations | their number, sign-extended to 64 bits |
//! | decimals | both halves of the 128-bit number |
//! | floats | the bits of the double, `-0.0` as `0.0`, every NaN as one NaN |
//! | texts, bytes | 8-byte little-endian chunks, the last padded with zeros, then the length |
//! | rows, arrays | their members in order, then how many |
//!
//! Columns are folded left to right: `h = mix(h ^ value) `, `mix` being the finaliser of splitmix64 (Steele, Lea, Flood 2014).
//!
//! Invariant: this function never changes without a new version, since checkpoints are laid out by it.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, UInt16Array},
    compute::cast,
    datatypes::{DataType, Decimal128Type, Float32Type, Float64Type, Int64Type, UInt64Type},
};

use crate::error::{Error, Result};

/// Version of the encoding, kept in every manifest.
pub const HASH_VERSION: u32 = 1;

/// How many key groups state is kept in.
pub const KEY_GROUPS: u16 = 128;

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const NULL: u64 = 0x6e75_6c6c_6e75_6c6c;

/// The hash of each row over these columns; without columns every row has the same.
pub fn hash_rows(columns: &[ArrayRef], rows: usize) -> Result<Vec<u64>> {
    let mut hashes = vec![SEED; rows];
    for column in columns {
        fold(column, &mut hashes)?;
    }
    Ok(hashes)
}

/// The key group of a hash.
pub fn key_group(hash: u64) -> u16 {
    ((hash >> 32) % u64::from(KEY_GROUPS)) as u16
}

/// The key groups of each row over these columns.
pub fn key_groups(columns: &[ArrayRef], rows: usize) -> Result<UInt16Array> {
    Ok(hash_rows(columns, rows)?.into_iter().map(key_group).collect())
}

/// The key groups of one of several tasks.
pub fn key_groups_of_task(task: usize, tasks: usize) -> Range<u16> {
    let bound = |task: usize| (task * usize::from(KEY_GROUPS)).div_ceil(tasks.max(1)) as u16;
    bound(task)..bound(task + 1)
}

/// The task of a key group.
pub fn task_of_key_group(group: u16, tasks: usize) -> usize {
    usize::from(group) * tasks / usize::from(KEY_GROUPS)
}

/// A column of keys with 0.0 in place of -0.0, which are equal.
pub fn with_one_zero(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float64 => {
            Arc::new(column.as_primitive::<Float64Type>().unary::<_, Float64Type>(|value| value + 0.0))
        }
        DataType::Float32 => {
            Arc::new(column.as_primitive::<Float32Type>().unary::<_, Float32Type>(|value| value + 0.0))
        }
        _ => Arc::clone(column),
    }
}

fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut hash = SEED;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let word = chunk.iter().rev().fold(0u64, |word, byte| (word << 8) | u64::from(*byte));
        hash = mix(hash ^ word);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        let word = rest.iter().rev().fold(0u64, |word, byte| (word << 8) | u64::from(*byte));
        hash = mix(hash ^ word);
    }
    mix(hash ^ bytes.len() as u64)
}

fn float_bits(value: f64) -> u64 {
    match value {
        0.0 => 0,
        value if value.is_nan() => f64::NAN.to_bits(),
        value => value.to_bits(),
    }
}

fn fold_with(column: &dyn Array, hashes: &mut [u64], value: impl Fn(usize) -> u64) {
    if column.null_count() == 0 {
        hashes.iter_mut().enumerate().for_each(|(row, hash)| *hash = mix(*hash ^ value(row)));
        return;
    }
    for (row, hash) in hashes.iter_mut().enumerate() {
        *hash = mix(*hash ^ if column.is_null(row) { NULL } else { value(row) });
    }
}

fn fold(column: &ArrayRef, hashes: &mut [u64]) -> Result<()> {
    match column.data_type() {
        DataType::Null => hashes.iter_mut().for_each(|hash| *hash = mix(*hash ^ NULL)),
        DataType::Int64 => {
            let values = column.as_primitive::<Int64Type>().values();
            fold_with(column, hashes, |row| values[row] as u64);
        }
        DataType::UInt64 => {
            let values = column.as_primitive::<UInt64Type>().values();
            fold_with(column, hashes, |row| values[row]);
        }
        DataType::Float64 => {
            let values = column.as_primitive::<Float64Type>().values();
            fold_with(column, hashes, |row| float_bits(values[row]));
        }
        DataType::Utf8 => {
            let values = column.as_string::<i32>();
            fold_with(column, hashes, |row| hash_bytes(values.value(row).as_bytes()));
        }
        DataType::LargeUtf8 => {
            let values = column.as_string::<i64>();
            fold_with(column, hashes, |row| hash_bytes(values.value(row).as_bytes()));
        }
        DataType::Utf8View => {
            let values = column.as_string_view();
            fold_with(column, hashes, |row| hash_bytes(values.value(row).as_bytes()));
        }
        DataType::Binary => {
            let values = column.as_binary::<i32>();
            fold_with(column, hashes, |row| hash_bytes(values.value(row)));
        }
        DataType::FixedSizeBinary(_) => {
            let values = column.as_fixed_size_binary();
            fold_with(column, hashes, |row| hash_bytes(values.value(row)));
        }
        DataType::Decimal128(_, _) => {
            let values = column.as_primitive::<Decimal128Type>().values();
            fold_with(column, hashes, |row| mix(values[row] as u64) ^ ((values[row] >> 64) as u64));
        }
        _ => return fold_other(column, hashes),
    }
    Ok(())
}

fn fold_other(column: &ArrayRef, hashes: &mut [u64]) -> Result<()> {
    match column.data_type() {
        DataType::Struct(_) => fold_rows(column, hashes),
        DataType::List(_) => fold_lists(column, hashes),
        DataType::Float32 | DataType::Float16 => fold(&cast(column, &DataType::Float64)?, hashes),
        DataType::Date32 | DataType::Time32(_) => {
            fold(&cast(&cast(column, &DataType::Int32)?, &DataType::Int64)?, hashes)
        }
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::Date64
        | DataType::Time64(_)
        | DataType::Timestamp(_, _)
        | DataType::Duration(_)
        | DataType::Interval(arrow::datatypes::IntervalUnit::YearMonth) => {
            fold(&cast(column, &DataType::Int64)?, hashes)
        }
        DataType::LargeBinary | DataType::BinaryView => fold(&cast(column, &DataType::Binary)?, hashes),
        DataType::Dictionary(_, values) => fold(&cast(column, values)?, hashes),
        other => Err(Error::not_supported(format!("a column of type {other} cannot be a key of a streaming job"))
            .with_hint("cast it to VARCHAR first")),
    }
}

fn fold_rows(column: &ArrayRef, hashes: &mut [u64]) -> Result<()> {
    let members = column.as_struct();
    let inner = hash_rows(members.columns(), column.len())?;
    fold_with(column, hashes, |row| mix(inner[row] ^ members.num_columns() as u64));
    Ok(())
}

fn fold_lists(column: &ArrayRef, hashes: &mut [u64]) -> Result<()> {
    let lists = column.as_list::<i32>();
    let items = hash_rows(&[Arc::clone(lists.values())], lists.values().len())?;
    let offsets = lists.value_offsets();
    fold_with(column, hashes, |row| {
        let range = offsets[row] as usize..offsets[row + 1] as usize;
        let count = range.len() as u64;
        mix(items[range].iter().fold(SEED, |hash, item| mix(hash ^ item)) ^ count)
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int32Array, Int64Array, StringArray, StringViewArray};

    fn hash(column: impl Array + 'static) -> Vec<u64> {
        let rows = column.len();
        hash_rows(&[Arc::new(column)], rows).unwrap()
    }

    #[test]
    fn equal_keys_hash_alike_whatever_their_layout() {
        assert_eq!(hash(Int32Array::from(vec![-5, 7])), hash(Int64Array::from(vec![-5, 7])));
        assert_eq!(hash(StringArray::from(vec!["a post"])), hash(StringViewArray::from(vec!["a post"])));
        let floats = hash(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN]));
        assert_eq!(floats[0], floats[1]);
        assert_eq!(floats[2], floats[3]);
    }

    #[test]
    fn null_is_not_zero_and_length_counts() {
        let ints = hash(Int64Array::from(vec![Some(0), None]));
        assert_ne!(ints[0], ints[1]);
        let texts = hash(StringArray::from(vec!["", "\0", "\0\0"]));
        assert!(texts[0] != texts[1] && texts[1] != texts[2]);
    }

    /// Checkpoints depend on these numbers; a change needs a new `HASH_VERSION`.
    #[test]
    fn the_hash_of_version_one_is_fixed() {
        assert_eq!(HASH_VERSION, 1);
        let groups: Vec<u16> =
            hash(StringArray::from(vec!["post-1", "post-2", ""])).into_iter().map(key_group).collect();
        assert_eq!(groups, [7, 95, 41]);
    }

    #[test]
    fn tasks_share_the_key_groups_without_gap_or_overlap() {
        for tasks in 1..=130 {
            let mut next = 0;
            for task in 0..tasks {
                let groups = key_groups_of_task(task, tasks);
                assert_eq!(groups.start, next);
                next = groups.end;
                for group in groups {
                    assert_eq!(task_of_key_group(group, tasks), task, "{tasks} tasks, group {group}");
                }
            }
            assert_eq!(next, KEY_GROUPS);
        }
    }
}
