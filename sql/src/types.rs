//! Trino's types: names, the Arrow types that carry them, and which coerce into which.
//!
//! Arrow lacks the length of text and the exact precision of a timestamp, so a plan's types are these; the Arrow type
//! follows from one ([`Type::to_arrow`]) and a column that came without more says what its Arrow type says.
//!
//! Invariant: `Type::from_arrow(&t.to_arrow())` has the same Arrow type as `t`.

use std::{collections::HashMap, fmt, sync::Arc};

use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};

mod coercion;
mod parse;

use crate::{
    kernels::{time_tz, zoned},
    sketches::Sketch,
};

pub use coercion::{coerces, common, decimal_of};

/// Key of a field's metadata that holds the exact Trino type.
pub const TYPE_KEY: &str = "headwater.type";
/// Key of a field's metadata that hides a column from `*`.
pub const HIDDEN_KEY: &str = "headwater.hidden";

/// A type as a query sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Type {
    /// The type of NULL.
    Unknown,
    /// `boolean`
    Boolean,
    /// `tinyint`
    Tinyint,
    /// `smallint`
    Smallint,
    /// `integer`
    Integer,
    /// `bigint`
    Bigint,
    /// `real`
    Real,
    /// `double`
    Double,
    /// `decimal(p,s)`
    Decimal(u8, i8),
    /// `varchar` or `varchar(n)`
    Varchar(Option<u32>),
    /// `char(n)`
    Char(u32),
    /// `varbinary`
    Varbinary,
    /// `json`
    Json,
    /// `date`
    Date,
    /// `time(p)`
    Time(u8),
    /// `time(p) with time zone`
    TimeTz(u8),
    /// `timestamp(p)`
    Timestamp(u8),
    /// `timestamp(p) with time zone`, and the zone its values are shown in
    TimestampTz(u8, Arc<str>),
    /// `timestamp(p) with time zone` of which each value has a zone of its own
    ZonedEach(u8),
    /// `interval year to month`
    IntervalYearMonth,
    /// `interval day to second`
    IntervalDaySecond,
    /// `uuid`
    Uuid,
    /// `ipaddress`
    IpAddress,
    /// `array(E)`
    Array(Box<Type>),
    /// `map(K, V)`
    Map(Box<Type>, Box<Type>),
    /// `row(..)`; a field may be without a name
    Row(Vec<(Option<Arc<str>>, Type)>),
    /// A sketch, or another value that only its own functions look into.
    Sketch(Sketch),
    /// An Arrow type without a Trino name, passed through.
    Other(DataType),
}

impl Type {
    /// `array(element)`
    pub fn array(element: Type) -> Self {
        Self::Array(Box::new(element))
    }

    /// `map(key, value)`
    pub fn map(key: Type, value: Type) -> Self {
        Self::Map(Box::new(key), Box::new(value))
    }

    /// `varchar` without a length.
    pub const VARCHAR: Type = Type::Varchar(None);

    /// The type an Arrow type stands for when nothing more is known.
    pub fn from_arrow(data_type: &DataType) -> Self {
        use DataType as D;
        match data_type {
            D::Null => Self::Unknown,
            D::Boolean => Self::Boolean,
            D::Int8 => Self::Tinyint,
            D::Int16 => Self::Smallint,
            D::Int32 => Self::Integer,
            D::Int64 => Self::Bigint,
            D::Float32 => Self::Real,
            D::Float64 => Self::Double,
            D::Decimal128(p, s) => Self::Decimal(*p, *s),
            D::Utf8 => Self::VARCHAR,
            D::Utf8View => Self::Char(1),
            D::LargeUtf8 => Self::Json,
            D::Binary => Self::Varbinary,
            D::Date32 => Self::Date,
            D::Time32(unit) | D::Time64(unit) => Self::Time(digits(*unit)),
            D::Timestamp(unit, None) => Self::Timestamp(digits(*unit)),
            D::Timestamp(unit, Some(zone)) => Self::TimestampTz(digits(*unit), zone.clone()),
            D::Interval(IntervalUnit::YearMonth) => Self::IntervalYearMonth,
            D::Duration(TimeUnit::Millisecond) => Self::IntervalDaySecond,
            D::FixedSizeBinary(16) => Self::Uuid,
            D::LargeBinary => Self::IpAddress,
            D::FixedSizeBinary(time_tz::BYTES) => Self::TimeTz(3),
            D::List(element) => Self::array(Self::from_field(element)),
            D::Map(entries, _) => match entries.data_type() {
                D::Struct(fields) if fields.len() == 2 => {
                    Self::map(Self::from_field(&fields[0]), Self::from_field(&fields[1]))
                }
                other => Self::Other(other.clone()),
            },
            D::Struct(_) if let Some(unit) = zoned::unit_of(data_type) => Self::ZonedEach(digits(unit)),
            D::Struct(_) if let Some(sketch) = Sketch::from_arrow(data_type) => Self::Sketch(sketch),
            D::Struct(fields) => Self::Row(
                fields
                    .iter()
                    .map(|field| {
                        let name = Some(field.name().as_str()).filter(|name| !name.is_empty()).map(Arc::from);
                        (name, Self::from_field(field))
                    })
                    .collect(),
            ),
            other => Self::Other(other.clone()),
        }
    }

    /// The type of a column: what its metadata says, else what its Arrow type does.
    pub fn from_field(field: &Field) -> Self {
        let stated = field.metadata().get(TYPE_KEY).and_then(|text| Self::parse(text).ok());
        match stated {
            Some(stated) if stated.to_arrow() == *field.data_type() => stated,
            Some(Self::TimestampTz(p, _)) => match Self::from_arrow(field.data_type()) {
                Self::TimestampTz(_, zone) => Self::TimestampTz(p, zone),
                Self::ZonedEach(_) => Self::ZonedEach(p),
                other => other,
            },
            _ => Self::from_arrow(field.data_type()),
        }
    }

    /// The Arrow type that carries it.
    pub fn to_arrow(&self) -> DataType {
        use DataType as D;
        match self {
            Self::Unknown => D::Null,
            Self::Boolean => D::Boolean,
            Self::Tinyint => D::Int8,
            Self::Smallint => D::Int16,
            Self::Integer => D::Int32,
            Self::Bigint => D::Int64,
            Self::Real => D::Float32,
            Self::Double => D::Float64,
            Self::Decimal(p, s) => D::Decimal128(*p, *s),
            Self::Varchar(_) => D::Utf8,
            Self::Char(_) => D::Utf8View,
            Self::Varbinary => D::Binary,
            Self::Json => D::LargeUtf8,
            Self::Date => D::Date32,
            Self::Time(p) => match unit(*p) {
                coarse @ (TimeUnit::Second | TimeUnit::Millisecond) => D::Time32(coarse),
                fine @ (TimeUnit::Microsecond | TimeUnit::Nanosecond) => D::Time64(fine),
            },
            Self::TimeTz(_) => D::FixedSizeBinary(time_tz::BYTES),
            Self::Timestamp(p) => D::Timestamp(unit(*p), None),
            Self::TimestampTz(p, zone) => D::Timestamp(unit(*p), Some(zone.clone())),
            Self::ZonedEach(p) => zoned::arrow_type(unit(*p)),
            Self::IntervalYearMonth => D::Interval(IntervalUnit::YearMonth),
            Self::IntervalDaySecond => D::Duration(TimeUnit::Millisecond),
            Self::Uuid => D::FixedSizeBinary(16),
            Self::IpAddress => D::LargeBinary,
            Self::Array(element) => D::List(Field::new("item", element.to_arrow(), true).into()),
            Self::Map(key, value) => {
                let entries = [
                    Arc::new(Field::new("key", key.to_arrow(), false)),
                    Arc::new(Field::new("value", value.to_arrow(), true)),
                ];
                D::Map(Field::new("entries", D::Struct(entries.into()), false).into(), false)
            }
            Self::Row(fields) => D::Struct(
                fields
                    .iter()
                    .map(|(name, inner)| Field::new(name.as_deref().unwrap_or(""), inner.to_arrow(), true))
                    .collect(),
            ),
            Self::Sketch(sketch) => sketch.to_arrow(),
            Self::Other(other) => other.clone(),
        }
    }

    /// A field of this type that keeps what Arrow cannot say.
    pub fn to_field(&self, name: &str) -> Field {
        let field = Field::new(name, self.to_arrow(), true);
        if Self::from_arrow(field.data_type()) == *self {
            return field;
        }
        field.with_metadata(HashMap::from([(TYPE_KEY.to_owned(), self.to_string())]))
    }

    /// Whether it is a number.
    pub fn is_numeric(&self) -> bool {
        self.is_integer() || matches!(self, Self::Real | Self::Double | Self::Decimal(..))
    }

    /// Whether it is a whole number.
    pub fn is_integer(&self) -> bool {
        matches!(self, Self::Tinyint | Self::Smallint | Self::Integer | Self::Bigint)
    }

    /// Whether values of it may be compared for equality.
    pub fn is_comparable(&self) -> bool {
        match self {
            Self::Array(inner) => inner.is_comparable(),
            Self::Map(key, value) => key.is_comparable() && value.is_comparable(),
            Self::Row(fields) => fields.iter().all(|(_, inner)| inner.is_comparable()),
            Self::Sketch(_) | Self::Other(_) => false,
            _ => true,
        }
    }

    /// Whether values of it have an order.
    pub fn is_orderable(&self) -> bool {
        match self {
            Self::Array(inner) => inner.is_orderable(),
            Self::Row(fields) => fields.iter().all(|(_, inner)| inner.is_orderable()),
            Self::Map(..) | Self::Json | Self::Sketch(_) | Self::Other(_) => false,
            _ => true,
        }
    }
}

/// The Arrow unit that carries a precision.
pub fn unit(precision: u8) -> TimeUnit {
    match precision {
        0 => TimeUnit::Second,
        1..=3 => TimeUnit::Millisecond,
        4..=6 => TimeUnit::Microsecond,
        _ => TimeUnit::Nanosecond,
    }
}

fn digits(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

/// The name users know an Arrow type by.
pub fn trino_type_name(data_type: &DataType) -> String {
    Type::from_arrow(data_type).to_string()
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown"),
            Self::Boolean => f.write_str("boolean"),
            Self::Tinyint => f.write_str("tinyint"),
            Self::Smallint => f.write_str("smallint"),
            Self::Integer => f.write_str("integer"),
            Self::Bigint => f.write_str("bigint"),
            Self::Real => f.write_str("real"),
            Self::Double => f.write_str("double"),
            Self::Decimal(p, s) => write!(f, "decimal({p},{s})"),
            Self::Varchar(None) => f.write_str("varchar"),
            Self::Varchar(Some(length)) => write!(f, "varchar({length})"),
            Self::Char(length) => write!(f, "char({length})"),
            Self::Varbinary => f.write_str("varbinary"),
            Self::Json => f.write_str("json"),
            Self::Date => f.write_str("date"),
            Self::Time(p) => write!(f, "time({p})"),
            Self::TimeTz(p) => write!(f, "time({p}) with time zone"),
            Self::Timestamp(p) => write!(f, "timestamp({p})"),
            Self::TimestampTz(p, _) | Self::ZonedEach(p) => write!(f, "timestamp({p}) with time zone"),
            Self::IntervalYearMonth => f.write_str("interval year to month"),
            Self::IntervalDaySecond => f.write_str("interval day to second"),
            Self::Uuid => f.write_str("uuid"),
            Self::IpAddress => f.write_str("ipaddress"),
            Self::Array(element) => write!(f, "array({element})"),
            Self::Map(key, value) => write!(f, "map({key}, {value})"),
            Self::Row(fields) => {
                f.write_str("row(")?;
                for (index, (name, inner)) in fields.iter().enumerate() {
                    let comma = if index > 0 { ", " } else { "" };
                    match name {
                        Some(name) => write!(f, "{comma}{} {inner}", quoted(name))?,
                        None => write!(f, "{comma}{inner}")?,
                    }
                }
                f.write_str(")")
            }
            Self::Sketch(sketch) => f.write_str(sketch.name()),
            Self::Other(other) => write!(f, "{}", other.to_string().to_lowercase()),
        }
    }
}

fn quoted(name: &str) -> String {
    let plain = name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
        && name.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic());
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// Timestamps are compared as instants, whatever zones they are in, also inside of arrays, maps and rows.
pub(crate) fn as_instants(of: Type) -> Type {
    match of {
        Type::ZonedEach(p) => Type::TimestampTz(p, "UTC".into()),
        Type::Array(element) => Type::array(as_instants(*element)),
        Type::Map(key, value) => Type::map(as_instants(*key), as_instants(*value)),
        Type::Row(fields) => Type::Row(fields.into_iter().map(|(name, of)| (name, as_instants(of))).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
