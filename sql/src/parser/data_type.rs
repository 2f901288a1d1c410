//! Column types in DDL, in Hive's, Trino's and Flink's spelling: `struct<a:int>`, `row(a integer)`, `ROW<a INT>`.
//!
//! Invariant: [`ColumnType::text`] is the one spelling the catalog keeps; names in quotes keep their case, others do not.

use std::{fmt::Write, sync::Arc};

use arrow::datatypes::{DataType, FieldRef};
use headwater_engine::error::{Error, Result};

use super::cursor::Cursor;
use crate::types::Type;

/// A column's type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnType {
    /// A type with its arguments: `bigint`, `decimal(10,2)`, `timestamp(3)`.
    Simple(&'static str, Vec<u8>),
    /// `varchar(n)`, `char(n)`.
    Bounded(&'static str, u32),
    /// `timestamp(p) with time zone`, Flink's `TIMESTAMP_LTZ(p)`.
    ZonedTimestamp(u8),
    /// `array<..>`.
    Array(Box<ColumnType>),
    /// `map<..,..>`.
    Map(Box<ColumnType>, Box<ColumnType>),
    /// `struct<name:..>`, `row(name ..)`.
    Row(Vec<(String, ColumnType)>),
}

/// Spellings of the types that take no nested ones: as written, and as the catalog keeps them.
const SIMPLE: &[(&str, &str)] = &[
    ("BOOLEAN", "boolean"),
    ("TINYINT", "tinyint"),
    ("SMALLINT", "smallint"),
    ("INT", "int"),
    ("INTEGER", "int"),
    ("BIGINT", "bigint"),
    ("REAL", "float"),
    ("FLOAT", "float"),
    ("DOUBLE", "double"),
    ("STRING", "string"),
    ("VARCHAR", "varchar"),
    ("CHAR", "char"),
    ("BINARY", "binary"),
    ("VARBINARY", "binary"),
    ("BYTES", "binary"),
    ("DATE", "date"),
    ("TIMESTAMP", "timestamp"),
    ("TIMESTAMP_LTZ", "timestamp_ltz"),
    ("TIME", "time"),
    ("DECIMAL", "decimal"),
    ("NUMERIC", "decimal"),
    ("DEC", "decimal"),
    ("JSON", "json"),
    ("UUID", "uuid"),
];

impl ColumnType {
    /// Parses the type that comes next.
    pub fn parse(cursor: &mut Cursor<'_>) -> Result<Self> {
        let Some(word) = cursor.word_ahead(0) else { return Err(cursor.expected("a type")) };
        let start = cursor.clone();
        cursor.skip(1);
        match word.as_str() {
            "ARRAY" => {
                let [item] = Self::arguments(cursor)?;
                Ok(Self::Array(Box::new(item)))
            }
            "MAP" => {
                let [key, value] = Self::arguments(cursor)?;
                Ok(Self::Map(Box::new(key), Box::new(value)))
            }
            "STRUCT" | "ROW" => Self::fields(cursor),
            _ => match SIMPLE.iter().find(|(written, _)| *written == word) {
                Some((_, kept)) => Self::simple(cursor, kept),
                None => Err(unknown(&start, &word)),
            },
        }
    }

    fn simple(cursor: &mut Cursor<'_>, kept: &'static str) -> Result<Self> {
        let start = cursor.clone();
        let numbers = match cursor.is_at_symbol('(') {
            true => cursor.list(|cursor| cursor.number("a number"))?,
            false => Vec::new(),
        };
        let numbers: Option<Vec<u32>> = numbers.iter().map(|number| number.parse().ok()).collect();
        let numbers = numbers.ok_or_else(|| start.error("a type takes whole numbers between its parentheses"))?;
        let precision = |most: u8| match numbers.as_slice() {
            [] => Ok(None),
            [precision] if *precision <= u32::from(most) => Ok(u8::try_from(*precision).ok()),
            _ => Err(start.error(format!("{kept} takes one precision between 0 and {most}"))),
        };
        match kept {
            "varchar" | "char" => match numbers.as_slice() {
                [] if kept == "varchar" => Ok(Self::Simple("string", Vec::new())),
                [] => Ok(Self::Bounded(kept, 1)),
                [length] if *length > 0 => Ok(Self::Bounded(kept, *length)),
                _ => Err(start.error(format!("{kept} takes one length of at least 1"))),
            },
            "binary" => Ok(Self::Simple(kept, Vec::new())),
            "double" => {
                cursor.take(&["PRECISION"]);
                Ok(Self::Simple(kept, Vec::new()))
            }
            "decimal" => decimal(&start, &numbers),
            "time" => Ok(Self::Simple(kept, precision(9)?.into_iter().collect())),
            "timestamp_ltz" => Ok(Self::ZonedTimestamp(precision(9)?.unwrap_or(3))),
            "timestamp" => {
                let precision = precision(9)?;
                let is_zoned =
                    cursor.take(&["WITH", "TIME", "ZONE"]) || cursor.take(&["WITH", "LOCAL", "TIME", "ZONE"]);
                cursor.take(&["WITHOUT", "TIME", "ZONE"]);
                Ok(match is_zoned {
                    true => Self::ZonedTimestamp(precision.unwrap_or(3)),
                    false => Self::Simple(kept, precision.into_iter().collect()),
                })
            }
            _ if numbers.is_empty() => Ok(Self::Simple(kept, Vec::new())),
            _ => Err(start.error(format!("{kept} takes no arguments"))),
        }
    }

    fn arguments<const N: usize>(cursor: &mut Cursor<'_>) -> Result<[Self; N]> {
        let close = opening(cursor)?;
        let mut types = Vec::with_capacity(N);
        for index in 0..N {
            if index > 0 {
                cursor.expect_symbol(',')?;
            }
            types.push(Self::parse(cursor)?);
        }
        cursor.expect_symbol(close)?;
        types.try_into().map_err(|_| cursor.expected("a type"))
    }

    fn fields(cursor: &mut Cursor<'_>) -> Result<Self> {
        let close = opening(cursor)?;
        let mut fields: Vec<(String, Self)> = Vec::new();
        loop {
            let at = cursor.clone();
            let name = cursor.identifier("the name of a field")?;
            let name = if name.is_quoted { name.value } else { name.value.to_lowercase() };
            if fields.iter().any(|(known, _)| known.eq_ignore_ascii_case(&name)) {
                return Err(
                    Error::user("DUPLICATE_COLUMN_NAME", format!("field \"{name}\" is named twice")).at(at.location())
                );
            }
            cursor.take_symbol(':');
            fields.push((name, Self::parse(cursor)?));
            if cursor.take(&["COMMENT"]) {
                cursor.text("a comment")?;
            }
            if !cursor.take_symbol(',') {
                break;
            }
        }
        cursor.expect_symbol(close)?;
        Ok(Self::Row(fields))
    }

    /// The spelling the catalog keeps.
    pub fn text(&self) -> String {
        match self {
            Self::Simple(name, arguments) if arguments.is_empty() => (*name).to_owned(),
            Self::Simple(name, arguments) => {
                let arguments: Vec<_> = arguments.iter().map(u8::to_string).collect();
                format!("{name}({})", arguments.join(","))
            }
            Self::Bounded(name, length) => format!("{name}({length})"),
            Self::ZonedTimestamp(precision) => format!("timestamp({precision}) with time zone"),
            Self::Array(item) => format!("array<{}>", item.text()),
            Self::Map(key, value) => format!("map<{},{}>", key.text(), value.text()),
            Self::Row(fields) => {
                let mut text = "struct<".to_owned();
                for (index, (name, field)) in fields.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    let _ = write!(text, "{comma}{name}:{}", field.text());
                }
                text + ">"
            }
        }
    }

    /// The Arrow type.
    pub fn arrow(&self) -> Result<DataType> {
        Ok(as_stored(Type::parse(&self.text())?.to_arrow()))
    }
}

/// Tables keep `char(n)` as the text it is, without its padding and its length.
fn as_stored(data_type: DataType) -> DataType {
    let element =
        |field: &FieldRef| Arc::new(field.as_ref().clone().with_data_type(as_stored(field.data_type().clone())));
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::List(field) => DataType::List(element(&field)),
        DataType::Map(entries, is_sorted) => DataType::Map(element(&entries), is_sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(element).collect()),
        other => other,
    }
}

fn opening(cursor: &mut Cursor<'_>) -> Result<char> {
    if cursor.take_symbol('<') {
        Ok('>')
    } else if cursor.take_symbol('(') {
        Ok(')')
    } else {
        Err(cursor.expected("\"<\""))
    }
}

fn decimal(start: &Cursor<'_>, numbers: &[u32]) -> Result<ColumnType> {
    let (precision, scale) = match numbers {
        [] => (10, 0),
        [precision] => (*precision, 0),
        [precision, scale] => (*precision, *scale),
        _ => return Err(start.error("decimal takes a precision and a scale")),
    };
    match (u8::try_from(precision), u8::try_from(scale)) {
        (Ok(precision @ 1..=38), Ok(scale)) if scale <= precision => {
            Ok(ColumnType::Simple("decimal", vec![precision, scale]))
        }
        _ => Err(start.error("decimal has a precision between 1 and 38 and a scale of at most that")),
    }
}

fn unknown(cursor: &Cursor<'_>, word: &str) -> Error {
    let known = SIMPLE.iter().map(|(written, _)| *written).chain(["ARRAY", "MAP", "STRUCT", "ROW"]);
    let hint = match crate::diagnostics::nearest(word, known) {
        Some(near) => format!("did you mean \"{}\"?", near.to_lowercase()),
        None => {
            "use boolean, tinyint, smallint, int, bigint, float, double, decimal(p,s), string, varchar(n), binary, \
                 date, timestamp, array<..>, map<..,..> or struct<name:type,..>"
                .to_owned()
        }
    };
    Error::user("INVALID_COLUMN_TYPE", format!("type \"{}\" is not known", word.to_lowercase()))
        .with_hint(hint)
        .at(cursor.location())
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;
    use headwater_connectors::lake::hive_type;

    use super::*;
    use crate::parser::source::{Parameters, Source};

    fn parsed(text: &str) -> Result<ColumnType> {
        let source = Source::new(text, &Parameters::new())?;
        let mut cursor = Cursor::new(&source, source.tokens());
        let parsed = ColumnType::parse(&mut cursor)?;
        cursor.expect_end()?;
        Ok(parsed)
    }

    #[test]
    fn three_spellings_of_one_type() -> Result<()> {
        let hive = parsed("struct<Lat:double,`Lon`:decimal(10,2),tags:array<string>,m:map<string,int>>")?;
        assert_eq!(hive.text(), "struct<lat:double,Lon:decimal(10,2),tags:array<string>,m:map<string,int>>");
        assert_eq!(
            hive,
            parsed("row(lat double, \"Lon\" decimal(10, 2), tags array(varchar), m map(varchar, integer))")?
        );
        assert_eq!(hive, parsed("ROW<lat DOUBLE, `Lon` DECIMAL(10,2), tags ARRAY<STRING>, m MAP<STRING, INT>>")?);
        assert_eq!(hive.arrow()?, hive_type::parse(&hive.text())?);
        Ok(())
    }

    #[test]
    fn time_types() -> Result<()> {
        assert_eq!(parsed("TIMESTAMP(3)")?.arrow()?, DataType::Timestamp(TimeUnit::Millisecond, None));
        let zoned = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        assert_eq!(parsed("timestamp(3) with time zone")?.arrow()?, zoned);
        assert_eq!(parsed("TIMESTAMP_LTZ(3)")?.arrow()?, zoned);
        Ok(())
    }

    #[test]
    fn nonsense_is_refused_with_its_place() {
        for (text, message) in [
            ("strng", "type \"strng\" is not known"),
            ("decimal(39,1)", "decimal has a precision"),
            ("array<int", "expected \">\""),
            ("struct<a:int,A:int>", "field \"a\" is named twice"),
            ("bigint(3)", "bigint takes no arguments"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.message().starts_with(message) && error.location().is_some(), "{error:?}");
        }
    }
}
