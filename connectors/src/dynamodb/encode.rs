//! Rows to items: one encoder a column, chosen once by the column's type.
//!
//! | column | attribute |
//! |---|---|
//! | VARCHAR, CHAR, UUID, DATE, TIME | S |
//! | TIMESTAMP | S, ISO-8601 with Z, without a fraction that is zero |
//! | integers, REAL, DOUBLE, DECIMAL | N |
//! | BOOLEAN, VARBINARY | BOOL, B |
//! | ARRAY | L, or a set where `sink.attribute-types` says so |
//! | MAP, ROW | M |
//! | JSON | the attribute its value is |
//!
//! Invariant: a value either becomes an attribute or a reason why its row is refused; it never becomes another value.

use std::collections::HashMap;

use arrow::{
    array::{Array, ArrayRef, AsArray},
    datatypes::{
        DataType, Date32Type, Decimal128Type, Field, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
        Int64Type, SchemaRef, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    },
    record_batch::RecordBatch,
    util::display::{ArrayFormatter, FormatOptions},
};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_types::Blob;
use headwater_engine::error::{Error, Result};

use super::{options::SetKind, size::Item};

/// A value as an attribute, nothing where there is none, or why it cannot be one.
type Encoded = std::result::Result<Option<AttributeValue>, String>;

/// Makes items of rows of one schema.
#[derive(Debug, Clone)]
pub(super) struct ItemEncoder {
    /// Index, attribute and kind.
    columns: Vec<(usize, String, ColumnKind)>,
    ignore_nulls: bool,
}

/// What a column becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ColumnKind {
    Text,
    TextView,
    Json,
    Number,
    Float,
    Decimal(i8),
    Bool,
    Binary,
    Date,
    /// Units of a second, as a power of ten.
    Timestamp(u32),
    Displayed,
    List(Box<ColumnKind>),
    Set(SetKind, Box<ColumnKind>),
    Map(Box<ColumnKind>),
    Row(Vec<(String, ColumnKind)>),
}

impl ColumnKind {
    /// What a column of a type becomes; an error names the types that have no attribute.
    pub(super) fn of(name: &str, data_type: &DataType) -> Result<Self> {
        let nested = |field: &Field| Self::of(name, field.data_type()).map(Box::new);
        Ok(match data_type {
            DataType::Utf8 => Self::Text,
            DataType::Utf8View => Self::TextView,
            DataType::LargeUtf8 => Self::Json,
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Self::Number,
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => Self::Number,
            DataType::Float32 | DataType::Float64 => Self::Float,
            DataType::Decimal128(_, scale) => Self::Decimal(*scale),
            DataType::Boolean => Self::Bool,
            DataType::Binary => Self::Binary,
            DataType::Date32 => Self::Date,
            DataType::Timestamp(unit, _) => Self::Timestamp(digits(*unit)),
            DataType::Time32(_) | DataType::Time64(_) => Self::Displayed,
            DataType::List(item) => Self::List(nested(item)?),
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(fields) if fields.len() == 2 && fields[0].data_type() == &DataType::Utf8 => {
                    Self::Map(nested(&fields[1])?)
                }
                _ => return Err(refused(name, "MAP with keys that are not VARCHAR")),
            },
            DataType::Struct(fields) => Self::Row(
                fields
                    .iter()
                    .map(|field| Ok((field.name().clone(), Self::of(name, field.data_type())?)))
                    .collect::<Result<Vec<_>>>()?,
            ),
            other => return Err(refused(name, &other.to_string())),
        })
    }

    /// The scalar type of the attribute it becomes, if a key can have it: S, N or B.
    pub(super) fn key_type(&self) -> Option<&'static str> {
        match self {
            Self::Text | Self::TextView | Self::Date | Self::Timestamp(_) | Self::Displayed => Some("S"),
            Self::Number | Self::Float | Self::Decimal(_) => Some("N"),
            Self::Binary => Some("B"),
            _ => None,
        }
    }
}

fn refused(name: &str, what: &str) -> Error {
    Error::not_supported(format!("column \"{name}\" of type {what} in a DynamoDB table"))
        .with_hint("CAST it to VARCHAR, or to a type that has an attribute")
}

pub(super) fn digits(unit: arrow::datatypes::TimeUnit) -> u32 {
    use arrow::datatypes::TimeUnit;
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

impl ItemEncoder {
    /// An encoder of rows; `names` are the attributes' names, column by column.
    pub(super) fn new(
        schema: &SchemaRef,
        names: Vec<String>,
        sets: &std::collections::BTreeMap<String, SetKind>,
        ignore_nulls: bool,
    ) -> Result<Self> {
        let mut columns = Vec::with_capacity(names.len());
        for (index, (field, name)) in schema.fields().iter().zip(names).enumerate() {
            let kind = ColumnKind::of(field.name(), field.data_type())?;
            let kind = match (sets.get(field.name()), kind) {
                (None, kind) => kind,
                (Some(set), ColumnKind::List(item)) if fits_set(*set, &item) => ColumnKind::Set(*set, item),
                (Some(_), _) => {
                    return Err(Error::user(
                        "TYPE_MISMATCH",
                        format!("column \"{}\" of type {} is no set", field.name(), field.data_type()),
                    )
                    .with_hint("SS is ARRAY of VARCHAR, NS of numbers, BS of VARBINARY"));
                }
            };
            columns.push((index, name, kind));
        }
        Ok(Self { columns, ignore_nulls })
    }

    /// An encoder of some of the columns.
    pub(super) fn only(&self, wanted: &[usize]) -> Self {
        let columns = self.columns.iter().filter(|(index, ..)| wanted.contains(index)).cloned().collect();
        Self { columns, ignore_nulls: self.ignore_nulls }
    }

    /// What a column becomes.
    pub(super) fn kind(&self, index: usize) -> Option<&ColumnKind> {
        self.columns.iter().find(|(own, ..)| *own == index).map(|(.., kind)| kind)
    }

    /// The item of a row, or why it cannot be one.
    pub(super) fn item(&self, rows: &RecordBatch, row: usize) -> std::result::Result<Item, String> {
        let mut item = HashMap::with_capacity(self.columns.len());
        for (index, name, kind) in &self.columns {
            let value = self
                .value(kind, rows.column(*index), row)
                .map_err(|reason| format!("attribute \"{name}\": {reason}"))?;
            match value {
                Some(value) => item.insert(name.clone(), value),
                None if self.ignore_nulls => None,
                None => item.insert(name.clone(), AttributeValue::Null(true)),
            };
        }
        Ok(item)
    }

    fn value(&self, kind: &ColumnKind, array: &ArrayRef, row: usize) -> Encoded {
        if array.is_null(row) {
            return Ok(None);
        }
        let text = |text: &str| Ok(Some(AttributeValue::S(text.to_owned())));
        match kind {
            ColumnKind::Text => text(array.as_string::<i32>().value(row)),
            ColumnKind::TextView => text(array.as_string_view().value(row)),
            ColumnKind::Json => of_json_text(array.as_string::<i64>().value(row)).map(Some),
            ColumnKind::Number => Ok(Some(AttributeValue::N(whole(array, row)))),
            ColumnKind::Float => float(float_at(array, row)).map(|n| Some(AttributeValue::N(n))),
            ColumnKind::Decimal(scale) => {
                let value = array.as_primitive::<Decimal128Type>().value(row);
                Ok(Some(AttributeValue::N(decimal(value, *scale))))
            }
            ColumnKind::Bool => Ok(Some(AttributeValue::Bool(array.as_boolean().value(row)))),
            ColumnKind::Binary => Ok(Some(AttributeValue::B(Blob::new(array.as_binary::<i32>().value(row))))),
            ColumnKind::Date => date(array.as_primitive::<Date32Type>().value(row)).map(|s| Some(AttributeValue::S(s))),
            ColumnKind::Timestamp(digits) => {
                timestamp(timestamp_at(array, row), *digits).map(|s| Some(AttributeValue::S(s)))
            }
            ColumnKind::Displayed => displayed(array, row).map(|s| Some(AttributeValue::S(s))),
            ColumnKind::List(item) => self.list(item, &array.as_list::<i32>().value(row)).map(Some),
            ColumnKind::Set(set, item) => self.set(*set, item, &array.as_list::<i32>().value(row)),
            ColumnKind::Map(value) => self.map(value, array, row).map(Some),
            ColumnKind::Row(fields) => {
                let columns = array.as_struct().columns();
                let mut members = HashMap::new();
                for ((name, kind), column) in fields.iter().zip(columns) {
                    let value = self.value(kind, column, row)?;
                    self.member(&mut members, name, value);
                }
                Ok(Some(AttributeValue::M(members)))
            }
        }
    }

    fn member(&self, members: &mut Item, name: &str, value: Option<AttributeValue>) {
        if let Some(value) = value.or_else(|| (!self.ignore_nulls).then_some(AttributeValue::Null(true))) {
            members.insert(name.to_owned(), value);
        }
    }

    fn list(&self, kind: &ColumnKind, values: &ArrayRef) -> std::result::Result<AttributeValue, String> {
        let member = |row| self.value(kind, values, row).map(|value| value.unwrap_or(AttributeValue::Null(true)));
        (0..values.len()).map(member).collect::<std::result::Result<_, _>>().map(AttributeValue::L)
    }

    fn map(&self, kind: &ColumnKind, array: &ArrayRef, row: usize) -> std::result::Result<AttributeValue, String> {
        let entries = array.as_map().value(row);
        let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1));
        let mut members = HashMap::with_capacity(entries.len());
        for index in 0..entries.len() {
            let value = self.value(kind, values, index)?;
            self.member(&mut members, keys.value(index), value);
        }
        Ok(AttributeValue::M(members))
    }

    /// A set without its repeats; DynamoDB has no empty set, so that one is no attribute.
    fn set(&self, set: SetKind, kind: &ColumnKind, values: &ArrayRef) -> Encoded {
        if values.null_count() > 0 {
            return Err("a set cannot hold NULL".to_owned());
        }
        let (mut texts, mut blobs): (Vec<String>, Vec<Blob>) = (Vec::new(), Vec::new());
        for row in 0..values.len() {
            match self.value(kind, values, row)? {
                Some(AttributeValue::S(text) | AttributeValue::N(text)) if !texts.contains(&text) => texts.push(text),
                Some(AttributeValue::B(blob)) if !blobs.contains(&blob) => blobs.push(blob),
                _ => {}
            }
        }
        if texts.is_empty() && blobs.is_empty() {
            return if self.ignore_nulls { Ok(None) } else { Err("a set cannot be empty".to_owned()) };
        }
        Ok(Some(match set {
            SetKind::Strings => AttributeValue::Ss(texts),
            SetKind::Numbers => AttributeValue::Ns(texts),
            SetKind::Binaries => AttributeValue::Bs(blobs),
        }))
    }
}

fn fits_set(set: SetKind, item: &ColumnKind) -> bool {
    let wanted = match set {
        SetKind::Strings => "S",
        SetKind::Numbers => "N",
        SetKind::Binaries => "B",
    };
    item.key_type() == Some(wanted)
}

fn whole(array: &ArrayRef, row: usize) -> String {
    match array.data_type() {
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).to_string(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::UInt8 => array.as_primitive::<UInt8Type>().value(row).to_string(),
        DataType::UInt16 => array.as_primitive::<UInt16Type>().value(row).to_string(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(row).to_string(),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(row).to_string(),
        _ => array.as_primitive::<Int64Type>().value(row).to_string(),
    }
}

fn float_at(array: &ArrayRef, row: usize) -> f64 {
    match array.data_type() {
        // Through its text, so that 0.1 stays 0.1.
        DataType::Float32 => array.as_primitive::<Float32Type>().value(row).to_string().parse().unwrap_or(f64::NAN),
        _ => array.as_primitive::<Float64Type>().value(row),
    }
}

/// The shortest text of a double that DynamoDB takes: magnitudes from 1E-130 to 9.99..E+125.
fn float(value: f64) -> std::result::Result<String, String> {
    if !value.is_finite() {
        return Err(format!("{value} is no number of DynamoDB"));
    }
    let magnitude = value.abs();
    if magnitude == 0.0 {
        return Ok("0".to_owned());
    }
    if !(1e-130..1e126).contains(&magnitude) {
        return Err(format!("{value:e} is outside of DynamoDB's numbers (1E-130 to 9.9E+125)"));
    }
    Ok(if (1e-6..1e21).contains(&magnitude) { format!("{value}") } else { format!("{value:E}") })
}

/// A decimal without zeros at the end of its fraction, so that equal numbers have one text.
fn decimal(value: i128, scale: i8) -> String {
    let (mut value, mut scale) = (value, i32::from(scale));
    while scale > 0 && value % 10 == 0 {
        (value, scale) = (value / 10, scale - 1);
    }
    if scale <= 0 {
        let zeros = if value == 0 { 0 } else { scale.unsigned_abs() as usize };
        return format!("{value}{}", "0".repeat(zeros));
    }
    let digits = format!("{:0width$}", value.unsigned_abs(), width = scale as usize + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale as usize);
    format!("{}{whole}.{fraction}", if value < 0 { "-" } else { "" })
}

fn date(days: i32) -> std::result::Result<String, String> {
    let date = chrono::NaiveDate::from_num_days_from_ce_opt(days.saturating_add(719_163));
    date.map(|date| date.format("%Y-%m-%d").to_string()).ok_or_else(|| "the date is out of range".to_owned())
}

fn timestamp_at(array: &ArrayRef, row: usize) -> i64 {
    use arrow::datatypes::{
        TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    };
    match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => array.as_primitive::<TimestampSecondType>().value(row),
        DataType::Timestamp(TimeUnit::Millisecond, _) => array.as_primitive::<TimestampMillisecondType>().value(row),
        DataType::Timestamp(TimeUnit::Microsecond, _) => array.as_primitive::<TimestampMicrosecondType>().value(row),
        _ => array.as_primitive::<TimestampNanosecondType>().value(row),
    }
}

/// ISO-8601 in UTC; the fraction has the column's digits, and is left out when it is zero.
fn timestamp(value: i64, digits: u32) -> std::result::Result<String, String> {
    let per_second = 10_i64.pow(digits);
    let (seconds, fraction) = (value.div_euclid(per_second), value.rem_euclid(per_second));
    let time = chrono::DateTime::from_timestamp(seconds, 0).ok_or_else(|| "the time is out of range".to_owned())?;
    let text = time.format("%Y-%m-%dT%H:%M:%S");
    Ok(match fraction {
        0 => format!("{text}Z"),
        _ => format!("{text}.{fraction:0width$}Z", width = digits as usize),
    })
}

fn displayed(array: &ArrayRef, row: usize) -> std::result::Result<String, String> {
    let formatter = ArrayFormatter::try_new(array.as_ref(), &FormatOptions::default()).map_err(|e| e.to_string())?;
    formatter.value(row).try_to_string().map_err(|error| error.to_string())
}

fn of_json_text(text: &str) -> std::result::Result<AttributeValue, String> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
    Ok(of_json(value))
}

fn of_json(value: serde_json::Value) -> AttributeValue {
    match value {
        serde_json::Value::Null => AttributeValue::Null(true),
        serde_json::Value::Bool(value) => AttributeValue::Bool(value),
        serde_json::Value::Number(number) => AttributeValue::N(number.to_string()),
        serde_json::Value::String(text) => AttributeValue::S(text),
        serde_json::Value::Array(values) => AttributeValue::L(values.into_iter().map(of_json).collect()),
        serde_json::Value::Object(members) => {
            AttributeValue::M(members.into_iter().map(|(name, value)| (name, of_json(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests;
