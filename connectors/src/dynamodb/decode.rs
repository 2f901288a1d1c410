//! Items to rows: the same for scans, keys, change streams and change records in JSON.
//!
//! | attribute | column |
//! |---|---|
//! | S | VARCHAR; DATE and TIMESTAMP by their ISO text |
//! | N | the declared number; TIMESTAMP as seconds since 1970, DynamoDB's own convention; VARCHAR as its text |
//! | BOOL, B | BOOLEAN, VARBINARY |
//! | L and sets, M | ARRAY; ROW or MAP |
//! | any | JSON, or VARCHAR as JSON text |
//! | NULL, or no attribute | NULL |
//!
//! An attribute is found by its exact name, else without regard to case, so that `orderId` fills `orderid`.
//!
//! Invariant: an attribute that does not fit its column is named with its row; it never becomes NULL unseen.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{
        ArrayRef, ArrowPrimitiveType, BinaryBuilder, BooleanArray, BooleanBuilder, Decimal128Array, LargeStringBuilder,
        ListArray, MapArray, PrimitiveBuilder, StringArray, StringBuilder, StructArray, new_null_array,
    },
    buffer::{NullBuffer, OffsetBuffer},
    compute::{cast, filter_record_batch, kernels::cast_utils::parse_decimal},
    datatypes::{
        DataType, Date32Type, Decimal128Type, FieldRef, Fields, Float32Type, Float64Type, Int8Type, Int16Type,
        Int32Type, Int64Type, SchemaRef, TimeUnit,
    },
    record_batch::{RecordBatch, RecordBatchOptions},
};
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine;
use headwater_engine::error::{Error, Result};

use super::size::Item;

/// A value with the row it belongs to.
type Cell<'a> = (usize, Option<&'a AttributeValue>);

/// Makes rows of items.
#[derive(Debug, Clone)]
pub(crate) struct ItemDecoder {
    schema: SchemaRef,
    /// Columns that no row has, but that decide whether an item is one.
    judged: Vec<FieldRef>,
}

/// Rows, which items they came from, and why the others are none.
#[derive(Debug)]
pub(crate) struct DecodedItems {
    /// The rows.
    pub(crate) rows: RecordBatch,
    /// For each row the index of its item.
    pub(crate) kept: Vec<u32>,
    /// Items that do not fit, and why.
    pub(crate) misfits: Misfits,
}

/// Why items do not fit, by index.
pub(crate) type Misfits = BTreeMap<usize, String>;

impl ItemDecoder {
    /// A decoder into columns of a schema; fails for types no attribute becomes.
    pub(crate) fn new(schema: SchemaRef) -> Result<Self> {
        for field in schema.fields() {
            check(field.name(), field.data_type())?;
        }
        Ok(Self { schema, judged: Vec::new() })
    }

    /// The same, so that an item is a row only if it fits all these columns: whichever of them are wanted, the same ones are.
    #[must_use]
    pub(crate) fn judging(self, declared: &SchemaRef) -> Self {
        let is_new = |field: &&FieldRef| self.schema.field_with_name(field.name()).is_err();
        let judged = declared.fields().iter().filter(is_new).filter(|field| may_refuse(field.data_type()));
        Self { judged: judged.cloned().collect(), ..self }
    }

    /// Rows of items, one each unless one of its attributes does not fit.
    pub(crate) fn decode(&self, items: &[Option<&Item>]) -> Result<DecodedItems> {
        let mut misfits = Misfits::new();
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for (index, field) in self.schema.fields().iter().chain(&self.judged).enumerate() {
            let cells: Vec<Cell<'_>> = items
                .iter()
                .enumerate()
                .map(|(row, item)| (row, item.and_then(|item| find(item, field.name()))))
                .collect();
            let mut wrong = Misfits::new();
            let values = column(field.data_type(), &cells, &mut wrong)?;
            if index < self.schema.fields().len() {
                columns.push(values);
            }
            for (row, reason) in wrong {
                misfits.entry(row).or_insert_with(|| format!("attribute \"{}\" {reason}", field.name()));
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(items.len()));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        let kept: Vec<u32> = (0..items.len()).filter(|row| !misfits.contains_key(row)).map(|row| row as u32).collect();
        if misfits.is_empty() {
            return Ok(DecodedItems { rows, kept, misfits });
        }
        let mask: BooleanArray = (0..items.len()).map(|row| Some(!misfits.contains_key(&row))).collect();
        Ok(DecodedItems { rows: filter_record_batch(&rows, &mask)?, kept, misfits })
    }
}

/// Whether some attribute does not fit a column of this type.
pub(crate) fn may_refuse(data_type: &DataType) -> bool {
    !matches!(data_type, DataType::Utf8 | DataType::LargeUtf8)
}

/// An attribute by its exact name, else without regard to case.
pub(crate) fn find<'a>(item: &'a Item, name: &str) -> Option<&'a AttributeValue> {
    let folded = || item.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    item.get(name).or_else(folded)
}

fn check(name: &str, data_type: &DataType) -> Result<()> {
    match data_type {
        DataType::List(item) => check(name, item.data_type()),
        DataType::Struct(fields) => fields.iter().try_for_each(|field| check(name, field.data_type())),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 && fields[0].data_type() == &DataType::Utf8 => {
                check(name, fields[1].data_type())
            }
            _ => Err(unreadable(name, "MAP with keys that are not VARCHAR")),
        },
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Boolean | DataType::Binary | DataType::Date32 => Ok(()),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Ok(()),
        DataType::Float32 | DataType::Float64 | DataType::Decimal128(..) | DataType::Timestamp(..) => Ok(()),
        other => Err(unreadable(name, &other.to_string())),
    }
}

fn unreadable(name: &str, what: &str) -> Error {
    Error::not_supported(format!("column \"{name}\" of type {what} of a DynamoDB table"))
        .with_hint("declare it as VARCHAR and CAST it in the query")
}

/// A column of values; what does not fit is NULL in it and noted.
fn column(data_type: &DataType, cells: &[Cell<'_>], wrong: &mut Misfits) -> Result<ArrayRef> {
    Ok(match data_type {
        DataType::Utf8 => {
            let mut built = StringBuilder::new();
            cells.iter().for_each(|(_, value)| built.append_option(present(*value).map(text_of)));
            Arc::new(built.finish())
        }
        DataType::LargeUtf8 => {
            let mut built = LargeStringBuilder::new();
            cells.iter().for_each(|(_, value)| built.append_option(value.map(|value| json_of(value).to_string())));
            Arc::new(built.finish())
        }
        DataType::Boolean => {
            let mut built = BooleanBuilder::new();
            each(cells, "is no boolean", wrong, |value| value.as_bool().ok().copied(), |v| built.append_option(v));
            Arc::new(built.finish())
        }
        DataType::Binary => {
            let mut built = BinaryBuilder::new();
            let of = |value: &AttributeValue| value.as_b().ok().map(|blob| blob.as_ref().to_vec());
            each(cells, "is no binary", wrong, of, |v| built.append_option(v));
            Arc::new(built.finish())
        }
        DataType::Int8 => number::<Int8Type>(cells, wrong, |text| whole(text)?.try_into().ok()),
        DataType::Int16 => number::<Int16Type>(cells, wrong, |text| whole(text)?.try_into().ok()),
        DataType::Int32 => number::<Int32Type>(cells, wrong, |text| whole(text)?.try_into().ok()),
        DataType::Int64 => number::<Int64Type>(cells, wrong, whole),
        DataType::Float32 => {
            number::<Float32Type>(cells, wrong, |text| text.parse().ok().filter(|number: &f32| number.is_finite()))
        }
        DataType::Float64 => {
            number::<Float64Type>(cells, wrong, |text| text.parse().ok().filter(|number: &f64| number.is_finite()))
        }
        DataType::Decimal128(precision, scale) => decimal(cells, wrong, (*precision, *scale))?,
        DataType::Date32 => primitive::<Date32Type>(cells, "is no date", wrong, |value| {
            let date = chrono::NaiveDate::parse_from_str(value.as_s().ok()?, "%Y-%m-%d").ok()?;
            i32::try_from(date.signed_duration_since(chrono::NaiveDate::default()).num_days()).ok()
        }),
        DataType::Timestamp(unit, _) => timestamp(*unit, data_type, cells, wrong)?,
        DataType::List(item) => list(item, cells, wrong)?,
        DataType::Struct(fields) => structure(fields, cells, wrong)?,
        DataType::Map(entries, _) => map(entries, cells, wrong)?,
        other => new_null_array(other, cells.len()),
    })
}

/// The value, unless it is the attribute NULL.
fn present(value: Option<&AttributeValue>) -> Option<&AttributeValue> {
    value.filter(|value| !matches!(value, AttributeValue::Null(_)))
}

fn each<T>(
    cells: &[Cell<'_>],
    wrong_words: &str,
    wrong: &mut Misfits,
    of: impl Fn(&AttributeValue) -> Option<T>,
    mut append: impl FnMut(Option<T>),
) {
    for (row, value) in cells {
        let read = present(*value).map(&of);
        if read.as_ref().is_some_and(Option::is_none) {
            wrong.entry(*row).or_insert_with(|| format!("{wrong_words}: {}", shown(*value)));
        }
        append(read.flatten());
    }
}

fn shown(value: Option<&AttributeValue>) -> String {
    value.map(|value| text_of(value).chars().take(60).collect()).unwrap_or_default()
}

fn primitive<T: ArrowPrimitiveType>(
    cells: &[Cell<'_>],
    words: &str,
    wrong: &mut Misfits,
    of: impl Fn(&AttributeValue) -> Option<T::Native>,
) -> ArrayRef {
    let mut built = PrimitiveBuilder::<T>::with_capacity(cells.len());
    each(cells, words, wrong, of, |value| built.append_option(value));
    Arc::new(built.finish())
}

fn number<T: ArrowPrimitiveType>(
    cells: &[Cell<'_>],
    wrong: &mut Misfits,
    of: impl Fn(&str) -> Option<T::Native>,
) -> ArrayRef {
    let words = format!("is no {}", T::DATA_TYPE);
    primitive::<T>(cells, &words, wrong, |value| of(value.as_n().ok()?))
}

/// A number without a fraction.
fn whole(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| i64::try_from(exact_decimal(text, 38, 0)?).ok())
}

/// A number in units of its last digit, if it has no digit beyond these; it may have an exponent.
fn exact_decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, i64::from(exponent.parse::<i32>().ok()?)),
        None => (text, 0),
    };
    let (is_negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(mantissa) => (true, mantissa),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let kept = digits.trim_end_matches('0');
    let zeros = exponent - fraction.len() as i64 + i64::from(scale) + (digits.len() - kept.len()) as i64;
    let kept = kept.trim_start_matches('0');
    if kept.is_empty() {
        return Some(0);
    }
    let zeros = u32::try_from(zeros).ok().filter(|zeros| kept.len() + *zeros as usize <= usize::from(precision))?;
    let value = kept.parse::<i128>().ok()?.checked_mul(10_i128.checked_pow(zeros)?)?;
    Some(if is_negative { -value } else { value })
}

fn decimal(cells: &[Cell<'_>], wrong: &mut Misfits, (precision, scale): (u8, i8)) -> Result<ArrayRef> {
    let mut built = Vec::with_capacity(cells.len());
    let of = |value: &AttributeValue| exact_decimal(value.as_n().ok()?, precision, scale);
    each(cells, &format!("is no decimal({precision},{scale})"), wrong, of, |value| built.push(value));
    Ok(Arc::new(Decimal128Array::from(built).with_precision_and_scale(precision, scale)?))
}

fn timestamp(unit: TimeUnit, to: &DataType, cells: &[Cell<'_>], wrong: &mut Misfits) -> Result<ArrayRef> {
    let digits = super::encode::digits(unit);
    let per_second = 10_i64.pow(digits);
    let of = |value: &AttributeValue| match value {
        AttributeValue::S(text) => {
            let time = moment(text)?;
            let fraction = i64::from(time.timestamp_subsec_nanos() / 10_u32.pow(9 - digits));
            time.timestamp().checked_mul(per_second)?.checked_add(fraction)
        }
        AttributeValue::N(seconds) => {
            i64::try_from(parse_decimal::<Decimal128Type>(seconds, 38, digits as i8).ok()?).ok()
        }
        _ => None,
    };
    let counts = primitive::<Int64Type>(cells, "is no timestamp", wrong, of);
    Ok(cast(&counts, to)?)
}

/// ISO-8601 with or without an offset; without one it is UTC.
fn moment(text: &str) -> Option<chrono::DateTime<chrono::Utc>> {
    if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
        return Some(time.to_utc());
    }
    let formats = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"];
    let time = formats.iter().find_map(|format| chrono::NaiveDateTime::parse_from_str(text, format).ok());
    let date = || chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    time.or_else(date).map(|time| time.and_utc())
}

fn list(item: &FieldRef, cells: &[Cell<'_>], wrong: &mut Misfits) -> Result<ArrayRef> {
    let (mut owned, mut lengths, mut valid) = (Vec::new(), Vec::new(), Vec::new());
    for (row, value) in cells {
        let members = present(*value).map(members);
        if matches!(members, Some(None)) {
            wrong.entry(*row).or_insert_with(|| format!("is no list: {}", shown(*value)));
        }
        let members = members.flatten();
        valid.push(members.is_some());
        let members = members.unwrap_or_default();
        lengths.push(members.len());
        owned.extend(members.into_iter().map(|member| (*row, member)));
    }
    let cells: Vec<Cell<'_>> = owned.iter().map(|(row, member)| (*row, Some(member.as_ref()))).collect();
    let values = column(item.data_type(), &cells, wrong)?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, Some(NullBuffer::from(valid)))?))
}

/// Members of a list or a set.
fn members(value: &AttributeValue) -> Option<Vec<std::borrow::Cow<'_, AttributeValue>>> {
    use std::borrow::Cow;
    Some(match value {
        AttributeValue::L(values) => values.iter().map(Cow::Borrowed).collect(),
        AttributeValue::Ss(texts) => texts.iter().map(|text| Cow::Owned(AttributeValue::S(text.clone()))).collect(),
        AttributeValue::Ns(texts) => texts.iter().map(|text| Cow::Owned(AttributeValue::N(text.clone()))).collect(),
        AttributeValue::Bs(blobs) => blobs.iter().map(|blob| Cow::Owned(AttributeValue::B(blob.clone()))).collect(),
        _ => return None,
    })
}

fn structure(fields: &Fields, cells: &[Cell<'_>], wrong: &mut Misfits) -> Result<ArrayRef> {
    let (mut maps, mut valid) = (Vec::new(), Vec::new());
    let of = |value: &AttributeValue| value.as_m().ok().cloned();
    each(cells, "is no map", wrong, of, |value| {
        valid.push(value.is_some());
        maps.push(value);
    });
    let mut columns = Vec::with_capacity(fields.len());
    for field in fields {
        let member = |(cell, map): (&Cell<'_>, &'_ Option<Item>)| {
            (cell.0, map.as_ref().and_then(|map| find(map, field.name()).cloned()))
        };
        let owned: Vec<(usize, Option<AttributeValue>)> = cells.iter().zip(&maps).map(member).collect();
        let cells: Vec<Cell<'_>> = owned.iter().map(|(row, value)| (*row, value.as_ref())).collect();
        columns.push(column(field.data_type(), &cells, wrong)?);
    }
    let nulls = Some(NullBuffer::from(valid));
    Ok(match fields.is_empty() {
        true => Arc::new(StructArray::new_empty_fields(cells.len(), nulls)),
        false => Arc::new(StructArray::try_new(fields.clone(), columns, nulls)?),
    })
}

fn map(entries: &FieldRef, cells: &[Cell<'_>], wrong: &mut Misfits) -> Result<ArrayRef> {
    let DataType::Struct(fields) = entries.data_type() else {
        return Err(Error::internal("a map without entries"));
    };
    let (mut keys, mut owned, mut lengths, mut valid) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let rows: Vec<usize> = cells.iter().map(|(row, _)| *row).collect();
    let mut at = 0;
    each(
        cells,
        "is no map",
        wrong,
        |value| value.as_m().ok().cloned(),
        |value| {
            valid.push(value.is_some());
            let members: BTreeMap<String, AttributeValue> = value.into_iter().flatten().collect();
            lengths.push(members.len());
            for (key, value) in members {
                keys.push(key);
                owned.push((rows[at], value));
            }
            at += 1;
        },
    );
    let cells: Vec<Cell<'_>> = owned.iter().map(|(row, value)| (*row, Some(value))).collect();
    let values = column(fields[1].data_type(), &cells, wrong)?;
    let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(keys)), values];
    let members = StructArray::try_new(fields.clone(), columns, None)?;
    let (offsets, nulls) = (OffsetBuffer::from_lengths(lengths), Some(NullBuffer::from(valid)));
    Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, members, nulls, false)?))
}

/// A value as text: strings and numbers as they are, everything else as JSON.
fn text_of(value: &AttributeValue) -> String {
    match value {
        AttributeValue::S(text) | AttributeValue::N(text) => text.clone(),
        other => json_of(other).to_string(),
    }
}

/// A value as plain JSON; binaries become base64.
pub(crate) fn json_of(value: &AttributeValue) -> serde_json::Value {
    use serde_json::Value;
    let base64 = |bytes: &[u8]| Value::String(base64::engine::general_purpose::STANDARD.encode(bytes));
    let number = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
    match value {
        AttributeValue::S(text) => Value::String(text.clone()),
        AttributeValue::N(text) => number(text),
        AttributeValue::Bool(value) => Value::Bool(*value),
        AttributeValue::B(blob) => base64(blob.as_ref()),
        AttributeValue::L(values) => Value::Array(values.iter().map(json_of).collect()),
        AttributeValue::M(members) => {
            let members: BTreeMap<&String, &AttributeValue> = members.iter().collect();
            Value::Object(members.into_iter().map(|(name, value)| (name.clone(), json_of(value))).collect())
        }
        AttributeValue::Ss(texts) => Value::Array(texts.iter().cloned().map(Value::String).collect()),
        AttributeValue::Ns(texts) => Value::Array(texts.iter().map(|text| number(text)).collect()),
        AttributeValue::Bs(blobs) => Value::Array(blobs.iter().map(|blob| base64(blob.as_ref())).collect()),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests;
