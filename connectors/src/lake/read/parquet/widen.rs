//! Columns of a file in the types of the table: which changes of type are safe, and how they are made.
//!
//! Invariant: whatever [`check`] accepts, [`widen`] turns into values that mean the same, or fails on a value that
//! does not fit; it never makes a NULL of a value.

use std::{fmt, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray, new_null_array},
    compute::{CastOptions, cast_with_options},
    datatypes::{
        DataType, FieldRef, Fields, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
        TimestampNanosecondType,
    },
    error::ArrowError,
};

use crate::lake::hive_type;

/// Two types of which one does not widen to the other, with the path to where that is in nested types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::lake) struct Mismatch(Vec<String>);

impl Mismatch {
    /// ` (at "a.b")`, or nothing at the top.
    pub(in crate::lake) fn place(&self) -> String {
        match self.0.is_empty() {
            true => String::new(),
            false => format!(" (at \"{}\")", self.0.iter().rev().cloned().collect::<Vec<_>>().join(".")),
        }
    }
}

/// Index of a column by name, the exact one before one that differs in case.
pub(in crate::lake) fn position(fields: &Fields, name: &str) -> Option<usize> {
    let exact = fields.iter().position(|field| field.name() == name);
    exact.or_else(|| {
        fields.iter().position(|field| {
            field.name().eq_ignore_ascii_case(name) || field.name().to_lowercase() == name.to_lowercase()
        })
    })
}

/// A type as messages spell it.
pub(in crate::lake) fn spelled(data_type: &DataType) -> String {
    struct Text<'a>(&'a DataType);
    impl fmt::Display for Text<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match hive_type::text(self.0) {
                Ok(text) => f.write_str(&text),
                Err(_) => write!(f, "{}", self.0),
            }
        }
    }
    Text(data_type).to_string()
}

/// Whether every value of `from` has a meaning in `to`.
pub(in crate::lake) fn check(from: &DataType, to: &DataType) -> Result<(), Mismatch> {
    use DataType as T;
    let at = |name: &str, inner: Result<(), Mismatch>| {
        inner.map_err(|mut mismatch| {
            mismatch.0.push(name.to_owned());
            mismatch
        })
    };
    match (from, to) {
        (T::Struct(found), T::Struct(wanted)) => {
            wanted.iter().try_for_each(|field| match position(found, field.name()) {
                None => Ok(()),
                Some(index) => at(field.name(), check(found[index].data_type(), field.data_type())),
            })
        }
        (T::List(found) | T::LargeList(found) | T::FixedSizeList(found, _), T::List(wanted)) => {
            at("item", check(found.data_type(), wanted.data_type()))
        }
        (T::Map(found, _), T::Map(wanted, _)) => match (found.data_type(), wanted.data_type()) {
            (T::Struct(found), T::Struct(wanted)) if found.len() == 2 && wanted.len() == 2 => {
                at("key", check(found[0].data_type(), wanted[0].data_type()))?;
                at("value", check(found[1].data_type(), wanted[1].data_type()))
            }
            _ => Err(Mismatch(Vec::new())),
        },
        _ if is_safe(from, to) => Ok(()),
        _ => Err(Mismatch(Vec::new())),
    }
}

fn is_safe(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    if from == to {
        return true;
    }
    match (from, to) {
        (T::Null, _) => true,
        (T::Int8 | T::UInt8, T::Int16 | T::Int32 | T::Int64)
        | (T::Int16 | T::UInt16, T::Int32 | T::Int64)
        | (T::Int32 | T::UInt32, T::Int64)
        | (T::Float16, T::Float32 | T::Float64)
        | (T::Float32, T::Float64)
        | (T::Int8 | T::UInt8 | T::Int16 | T::UInt16, T::Float32)
        | (T::Int8 | T::UInt8 | T::Int16 | T::UInt16 | T::Int32 | T::UInt32, T::Float64) => true,
        // Parquet has no smaller integers: writers store them as 32 bits; a value that does not fit is an error.
        (T::Int32, T::Int8 | T::Int16) => true,
        // Lake tables have no unsigned integers: a value over half their range is an error in a column of their width.
        (T::UInt8, T::Int8) | (T::UInt16, T::Int16) | (T::UInt32, T::Int32) | (T::UInt64, T::Int64) => true,
        (from, T::Decimal128(precision, scale)) if from.is_integer() => {
            i16::from(*precision) - i16::from(*scale) >= digits_max(from)
        }
        // More digits than a column can have: a value that needs them is an error.
        (T::Decimal256(_, s1), T::Decimal128(_, s2)) => s2 >= s1,
        (T::Decimal256(_, _), T::Utf8) => true,
        (T::Time32(_) | T::Time64(_), T::Time32(_) | T::Time64(_)) => true,
        (T::Decimal128(p1, s1) | T::Decimal32(p1, s1) | T::Decimal64(p1, s1), T::Decimal128(p2, s2)) => {
            s2 >= s1 && i16::from(*p2) - i16::from(*s2) >= i16::from(*p1) - i16::from(*s1)
        }
        (T::Utf8View | T::LargeUtf8, T::Utf8) | (T::Utf8, T::LargeUtf8) => true,
        (T::BinaryView | T::LargeBinary | T::FixedSizeBinary(_) | T::Utf8, T::Binary) => true,
        // Old writers leave out the mark of text; bytes that are not UTF-8 are an error.
        (T::Binary | T::BinaryView | T::LargeBinary, T::Utf8) => true,
        (T::Timestamp(_, _), T::Timestamp(_, _)) => true,
        (T::Dictionary(_, value), _) => is_safe(value, to),
        _ => false,
    }
}

/// Digits of the largest number of an integer type.
fn digits_max(integer: &DataType) -> i16 {
    match integer {
        DataType::Int8 | DataType::UInt8 => 3,
        DataType::Int16 | DataType::UInt16 => 5,
        DataType::Int32 | DataType::UInt32 => 10,
        DataType::Int64 => 19,
        _ => 20,
    }
}

/// The type of a table's column for what files hold in one, where no DDL says it. A type that has no counterpart is
/// `binary`, into which it does not widen: the table can be used without that column.
pub(in crate::lake) fn usable(found: &DataType) -> DataType {
    use DataType as T;
    match found {
        T::UInt8 => T::Int16,
        T::UInt16 => T::Int32,
        T::UInt32 => T::Int64,
        T::UInt64 => T::Decimal128(20, 0),
        T::Float16 => T::Float32,
        T::FixedSizeBinary(_) => T::Binary,
        T::Decimal256(precision, scale @ 0..=38) => T::Decimal128((*precision).min(38), *scale),
        T::Decimal256(_, _) => T::Utf8,
        T::List(item) | T::LargeList(item) | T::FixedSizeList(item, _) => hive_type::list_of(usable(item.data_type())),
        T::Struct(fields) => {
            let usable = |field: &FieldRef| field.as_ref().clone().with_data_type(usable(field.data_type()));
            T::Struct(fields.iter().map(usable).collect())
        }
        T::Map(entries, _) => match entries.data_type() {
            T::Struct(kv) if kv.len() == 2 => hive_type::map_of(usable(kv[0].data_type()), usable(kv[1].data_type())),
            _ => T::Binary,
        },
        known if hive_type::text(known).is_ok() => known.clone(),
        _ => T::Binary,
    }
}

/// The values of an array in a type that [`check`] accepts.
pub(in crate::lake) fn widen(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == to {
        return Ok(Arc::clone(array));
    }
    match to {
        DataType::Struct(wanted) => Ok(Arc::new(fields(array.as_struct(), wanted)?)),
        DataType::List(wanted) => list(array, wanted),
        DataType::Map(wanted, sorted) => {
            let map = array.as_map();
            let DataType::Struct(kv) = wanted.data_type() else { return Err(unexpected(to)) };
            let columns = vec![widen(map.keys(), kv[0].data_type())?, widen(map.values(), kv[1].data_type())?];
            let entries = StructArray::try_new(kv.clone(), columns, None)?;
            Ok(Arc::new(MapArray::try_new(
                Arc::clone(wanted),
                map.offsets().clone(),
                entries,
                map.nulls().cloned(),
                *sorted,
            )?))
        }
        // Digits are cut off before 1970 too, where the cast would round up; and the compiler knows the divisor.
        DataType::Timestamp(TimeUnit::Millisecond, None) if unit_of(array) == Some(TimeUnit::Microsecond) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>();
            Ok(Arc::new(micros.unary::<_, TimestampMillisecondType>(|micros| micros.div_euclid(1000))))
        }
        DataType::Timestamp(TimeUnit::Millisecond, None) if unit_of(array) == Some(TimeUnit::Nanosecond) => {
            let nanos = array.as_primitive::<TimestampNanosecondType>();
            Ok(Arc::new(nanos.unary::<_, TimestampMillisecondType>(|nanos| nanos.div_euclid(1_000_000))))
        }
        _ => cast_with_options(&without_zone(array)?, to, &CastOptions { safe: false, ..Default::default() }),
    }
}

fn unit_of(array: &ArrayRef) -> Option<TimeUnit> {
    match array.data_type() {
        DataType::Timestamp(unit, _) => Some(*unit),
        _ => None,
    }
}

/// An instant as the wall clock of UTC, so that a cast does not shift it.
fn without_zone(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let unit = match array.data_type() {
        DataType::Timestamp(unit, Some(_)) => *unit,
        _ => return Ok(Arc::clone(array)),
    };
    let data = array.to_data().into_builder().data_type(DataType::Timestamp(unit, None)).build()?;
    Ok(arrow::array::make_array(data))
}

fn fields(found: &StructArray, wanted: &Fields) -> Result<StructArray, ArrowError> {
    let columns = wanted.iter().map(|field| match position(found.fields(), field.name()) {
        None => Ok(new_null_array(field.data_type(), found.len())),
        Some(index) => widen(found.column(index), field.data_type()),
    });
    StructArray::try_new_with_length(
        wanted.clone(),
        columns.collect::<Result<_, _>>()?,
        found.nulls().cloned(),
        found.len(),
    )
}

fn list(array: &ArrayRef, wanted: &FieldRef) -> Result<ArrayRef, ArrowError> {
    let plain = match array.data_type() {
        DataType::List(_) => Arc::clone(array),
        DataType::LargeList(item) | DataType::FixedSizeList(item, _) => cast_with_options(
            array,
            &DataType::List(Arc::clone(item)),
            &CastOptions { safe: false, ..Default::default() },
        )?,
        other => return Err(unexpected(other)),
    };
    let list: &ListArray = plain.as_list();
    let values = widen(list.values(), wanted.data_type())?;
    Ok(Arc::new(ListArray::try_new(Arc::clone(wanted), list.offsets().clone(), values, list.nulls().cloned())?))
}

fn unexpected(data_type: &DataType) -> ArrowError {
    ArrowError::CastError(format!("{data_type} is not expected here"))
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Decimal128Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    };

    use arrow::datatypes::TimeUnit;

    use super::*;

    #[test]
    fn integers_widen_and_never_wrap() {
        let found: ArrayRef = Arc::new(Int32Array::from(vec![Some(7), None]));
        let wide = widen(&found, &DataType::Int64).unwrap();
        assert_eq!(wide.as_ref(), &Int64Array::from(vec![Some(7), None]) as &dyn Array);
        let large: ArrayRef = Arc::new(Int32Array::from(vec![300]));
        assert!(widen(&large, &DataType::Int8).is_err());
        assert!(check(&DataType::Int64, &DataType::Int32).is_err());
        assert!(check(&DataType::Utf8, &DataType::Int32).is_err());
        assert!(check(&DataType::Float64, &DataType::Float32).is_err());
        assert!(check(&DataType::Int32, &DataType::Float64).is_ok());
        assert!(check(&DataType::Int32, &DataType::Float32).is_err());
        assert!(check(&DataType::Int64, &DataType::Float64).is_err());
    }

    #[test]
    fn unsigned_integers_have_room_or_fail() {
        use arrow::array::{Decimal128Array, UInt64Array};
        let found: ArrayRef = Arc::new(UInt64Array::from(vec![Some(u64::MAX), None]));
        assert_eq!(usable(found.data_type()), DataType::Decimal128(20, 0));
        let wide = widen(&found, &DataType::Decimal128(20, 0)).unwrap();
        let wanted = Decimal128Array::from(vec![Some(i128::from(u64::MAX)), None]).with_precision_and_scale(20, 0);
        assert_eq!(wide.as_ref(), &wanted.unwrap() as &dyn Array);
        check(found.data_type(), &DataType::Int64).unwrap();
        assert!(widen(&found, &DataType::Int64).is_err());
        assert!(check(found.data_type(), &DataType::Decimal128(20, 1)).is_err());
    }

    #[test]
    fn what_no_column_can_hold_does_not_widen() {
        let interval = DataType::Interval(arrow::datatypes::IntervalUnit::DayTime);
        assert!(check(&interval, &usable(&interval)).is_err());
        for found in [
            DataType::UInt8,
            DataType::Float16,
            DataType::FixedSizeBinary(5),
            DataType::Decimal256(60, 4),
            DataType::Decimal256(60, 50),
            DataType::Time64(TimeUnit::Nanosecond),
            DataType::List(Arc::new(arrow::datatypes::Field::new("element", DataType::UInt32, false))),
        ] {
            check(&found, &usable(&found)).unwrap();
            assert!(hive_type::text(&usable(&found)).is_ok(), "{found}");
        }
    }

    #[test]
    fn decimals_widen_on_both_sides_of_the_point() {
        assert!(check(&DataType::Decimal128(5, 2), &DataType::Decimal128(10, 4)).is_ok());
        assert!(check(&DataType::Decimal128(5, 2), &DataType::Decimal128(6, 4)).is_err());
        let found: ArrayRef = Arc::new(Decimal128Array::from(vec![12345]).with_precision_and_scale(5, 2).unwrap());
        let wide = widen(&found, &DataType::Decimal128(10, 4)).unwrap();
        assert_eq!(wide.as_primitive::<arrow::datatypes::Decimal128Type>().value(0), 1_234_500);
    }

    #[test]
    fn an_instant_keeps_its_wall_clock_in_utc() {
        let found: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1_500]).with_timezone("UTC"));
        let wide = widen(&found, &DataType::Timestamp(TimeUnit::Millisecond, None)).unwrap();
        assert_eq!(wide.as_ref(), &TimestampMillisecondArray::from(vec![1]) as &dyn Array);
    }

    #[test]
    fn digits_are_cut_off_before_1970_as_after() {
        let to = DataType::Timestamp(TimeUnit::Millisecond, None);
        let expected = TimestampMillisecondArray::from(vec![-1, -2, 1]);
        let micros: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![-1, -1_500, 1_999]));
        assert_eq!(widen(&micros, &to).unwrap().as_ref(), &expected as &dyn Array);
        let nanos = arrow::array::TimestampNanosecondArray::from(vec![-1, -1_500_000, 1_999_999]);
        let nanos: ArrayRef = Arc::new(nanos);
        assert_eq!(widen(&nanos, &to).unwrap().as_ref(), &expected as &dyn Array);
    }

    #[test]
    fn rows_take_fields_by_name_and_fill_what_is_missing() {
        let a = Arc::new(arrow::datatypes::Field::new("B", DataType::Int32, true));
        let found: ArrayRef = Arc::new(StructArray::from(vec![(a, Arc::new(Int32Array::from(vec![1])) as ArrayRef)]));
        let wanted = hive_type::parse("struct<a:string,b:bigint>").unwrap();
        check(found.data_type(), &wanted).unwrap();
        let wide = widen(&found, &wanted).unwrap();
        assert_eq!(wide.as_struct().column(0).as_ref(), &StringArray::from(vec![None::<&str>]) as &dyn Array);
        assert_eq!(wide.as_struct().column(1).as_ref(), &Int64Array::from(vec![1]) as &dyn Array);
        let narrow = hive_type::parse("struct<b:tinyint,c:array<int>>").unwrap();
        let deep = check(&hive_type::parse("struct<c:array<string>>").unwrap(), &narrow).unwrap_err();
        assert_eq!(deep.place(), " (at \"c.item\")");
    }
}
