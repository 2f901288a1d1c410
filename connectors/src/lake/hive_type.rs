//! Column types as Hive and Athena spell them, to Arrow and back.
//!
//! Invariant: `parse(&text(&t)) == t` for every type [`text`] can spell.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use headwater_engine::error::{Error, Result};

/// The Arrow type of a Hive type text such as `array<struct<a:int,b:decimal(10,2)>>`; case and blanks do not matter.
pub fn parse(text: &str) -> Result<DataType> {
    let mut parser = Parser { text, at: 0 };
    let parsed = parser.parse_type()?;
    parser.skip_blanks();
    if parser.at < text.len() {
        return Err(parser.unknown());
    }
    Ok(parsed)
}

/// The Hive spelling of an Arrow type, or an error that names it.
pub fn text(data_type: &DataType) -> Result<String> {
    Ok(match data_type {
        DataType::Boolean => "boolean".into(),
        DataType::Int8 => "tinyint".into(),
        DataType::Int16 => "smallint".into(),
        DataType::Int32 => "int".into(),
        DataType::Int64 => "bigint".into(),
        DataType::Float32 => "float".into(),
        DataType::Float64 => "double".into(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 | DataType::Null => "string".into(),
        DataType::Binary => "binary".into(),
        DataType::Date32 => "date".into(),
        DataType::Timestamp(_, _) => "timestamp".into(),
        DataType::Time32(unit) | DataType::Time64(unit) => format!("time({})", digits_of(*unit)),
        DataType::List(item) => format!("array<{}>", text(item.data_type())?),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(kv) if kv.len() == 2 => {
                format!("map<{},{}>", text(kv[0].data_type())?, text(kv[1].data_type())?)
            }
            _ => return Err(Error::internal("map entries are not a pair")),
        },
        DataType::Struct(fields) => {
            let fields: Result<Vec<_>> =
                fields.iter().map(|field| Ok(format!("{}:{}", field.name(), text(field.data_type())?))).collect();
            format!("struct<{}>", fields?.join(","))
        }
        other => return Err(Error::not_supported(format!("a table column cannot have the type {other}"))),
    })
}

/// Digits of a second's fraction.
fn digits_of(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

/// The field that DDL type `array<..>` gives its items.
pub fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, true)))
}

/// The Arrow map type with these key and value types.
pub fn map_of(key: DataType, value: DataType) -> DataType {
    let entries = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn parse_type(&mut self) -> Result<DataType> {
        let name = self.word().to_lowercase();
        Ok(match name.as_str() {
            "boolean" => DataType::Boolean,
            "tinyint" => DataType::Int8,
            "smallint" => DataType::Int16,
            "int" | "integer" => DataType::Int32,
            "bigint" => DataType::Int64,
            "float" | "real" => DataType::Float32,
            "double" => DataType::Float64,
            "string" => DataType::Utf8,
            "varchar" | "char" => {
                self.numbers()?;
                DataType::Utf8
            }
            "binary" | "varbinary" => DataType::Binary,
            "date" => DataType::Date32,
            "timestamp" => DataType::Timestamp(self.unit()?, None),
            "time" => match self.unit()? {
                coarse @ (TimeUnit::Second | TimeUnit::Millisecond) => DataType::Time32(coarse),
                fine @ (TimeUnit::Microsecond | TimeUnit::Nanosecond) => DataType::Time64(fine),
            },
            "decimal" | "numeric" => self.decimal()?,
            "array" => {
                let [item] = self.arguments()?;
                list_of(item)
            }
            "map" => {
                let [key, value] = self.arguments()?;
                map_of(key, value)
            }
            "struct" | "row" => self.fields()?,
            _ => return Err(self.unknown()),
        })
    }

    /// The unit that has the digits of a precision, three if none is given.
    fn unit(&mut self) -> Result<TimeUnit> {
        Ok(match self.numbers()?.first() {
            None | Some(1..=3) => TimeUnit::Millisecond,
            Some(0) => TimeUnit::Second,
            Some(4..=6) => TimeUnit::Microsecond,
            Some(7..=9) => TimeUnit::Nanosecond,
            Some(_) => return Err(self.unknown()),
        })
    }

    fn decimal(&mut self) -> Result<DataType> {
        let numbers = self.numbers()?;
        let precision = numbers.first().copied().unwrap_or(10);
        let scale = numbers.get(1).copied().unwrap_or(0);
        match (u8::try_from(precision), i8::try_from(scale)) {
            (Ok(precision @ 1..=38), Ok(scale)) if scale as u64 <= u64::from(precision) => {
                Ok(DataType::Decimal128(precision, scale))
            }
            _ => Err(self.unknown()),
        }
    }

    fn arguments<const N: usize>(&mut self) -> Result<[DataType; N]> {
        self.expect('<')?;
        let mut types = Vec::with_capacity(N);
        for index in 0..N {
            if index > 0 {
                self.expect(',')?;
            }
            types.push(self.parse_type()?);
        }
        self.expect('>')?;
        types.try_into().map_err(|_| self.unknown())
    }

    fn fields(&mut self) -> Result<DataType> {
        self.expect('<')?;
        let mut fields = Vec::new();
        loop {
            let name = self.field_name().to_owned();
            self.expect(':')?;
            fields.push(Field::new(name, self.parse_type()?, true));
            if !self.take(',') {
                break;
            }
        }
        self.expect('>')?;
        Ok(DataType::Struct(fields.into()))
    }

    fn numbers(&mut self) -> Result<Vec<u64>> {
        let mut numbers = Vec::new();
        if !self.take('(') {
            return Ok(numbers);
        }
        loop {
            let word = self.word().to_owned();
            numbers.push(word.parse().map_err(|_| self.unknown())?);
            if !self.take(',') {
                break;
            }
        }
        self.expect(')')?;
        Ok(numbers)
    }

    fn skip_blanks(&mut self) {
        self.at = self.text.len() - self.text[self.at..].trim_start().len();
    }

    fn take(&mut self, wanted: char) -> bool {
        self.skip_blanks();
        let found = self.text[self.at..].starts_with(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn expect(&mut self, wanted: char) -> Result<()> {
        if self.take(wanted) { Ok(()) } else { Err(self.unknown()) }
    }

    fn until(&mut self, is_end: impl Fn(char) -> bool) -> &str {
        self.skip_blanks();
        let start = self.at;
        let rest = &self.text[start..];
        self.at = start + rest.find(is_end).unwrap_or(rest.len());
        &self.text[start..self.at]
    }

    fn word(&mut self) -> &str {
        self.until(|c| !(c.is_alphanumeric() || c == '_'))
    }

    fn field_name(&mut self) -> &str {
        self.until(|c| c == ':').trim_end().trim_matches(['`', '"'])
    }

    fn unknown(&self) -> Error {
        Error::user("INVALID_COLUMN_TYPE", format!("type \"{}\" is not a column type", self.text)).with_hint(
            "use boolean, tinyint, smallint, int, bigint, float, double, decimal(p,s), string, varchar(n), binary, date, \
             timestamp, array<..>, map<..,..> or struct<name:type,..>",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_round_trip() -> Result<()> {
        for spelled in [
            "boolean",
            "bigint",
            "decimal(10,2)",
            "array<struct<a:int,b:decimal(38,0)>>",
            "map<string,array<double>>",
            "struct<lat:double,lon:double>",
            "time(3)",
            "array<time(6)>",
        ] {
            assert_eq!(text(&parse(spelled)?)?, spelled);
        }
        Ok(())
    }

    #[test]
    fn spelling_is_free_of_case_and_blanks() -> Result<()> {
        assert_eq!(parse(" ARRAY < INT > ")?, parse("array<int>")?);
        assert_eq!(parse("VARCHAR(10)")?, DataType::Utf8);
        Ok(())
    }

    #[test]
    fn nonsense_is_refused_with_the_list_of_types() {
        for wrong in ["", "array<int", "decimal(39,1)", "int>", "struct<a>", "foo"] {
            let error = parse(wrong).unwrap_err();
            assert!(error.hint().is_some_and(|hint| hint.contains("bigint")), "{wrong}");
        }
    }
}
