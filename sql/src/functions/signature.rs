//! Function signatures in Trino's notation, and how a call chooses one of them.
//!
//! A signature is written as text, `"element_at(array(E), bigint) -> E"`, and parsed once when the registry is built.
//! Single capitals (with an optional digit) are type variables, `decimal(p,s)`, `timestamp(p)`, `time(p)` match any
//! precision, `...` after the last parameter repeats it, `function` marks a lambda.
//!
//! Invariant: choosing an overload looks at types only, never at values, so that it is the same at every planning step.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use headwater_engine::error::{Error, Result};

use super::coercion::{coerces, super_type};

/// One parameter or result type of a signature.
#[derive(Debug, Clone, PartialEq)]
pub enum Pattern {
    /// Exactly this type.
    Exact(DataType),
    /// A type variable.
    Variable(String),
    /// Any decimal.
    Decimal,
    /// A timestamp of any precision; `true`: with a time zone.
    Timestamp(bool),
    /// A time of day of any precision.
    Time,
    /// An array of the inner pattern.
    Array(Box<Pattern>),
    /// A map of the inner patterns.
    Map(Box<Pattern>, Box<Pattern>),
    /// A row of the inner patterns.
    Row(Vec<Pattern>),
    /// A lambda; its types are decided by the function itself.
    Function,
}

/// The types that the variables of a signature stand for in one call.
pub type Bindings = HashMap<String, DataType>;

/// A parsed signature.
#[derive(Debug, Clone)]
pub struct Signature {
    /// Its text, as shown to users.
    pub text: &'static str,
    /// Parameter types.
    pub parameters: Vec<Pattern>,
    /// Whether the last parameter may be repeated.
    pub variadic: bool,
    /// Result type.
    pub result: Pattern,
}

/// What a call has to be given for a signature, and how far the arguments are from it.
#[derive(Debug, Clone)]
pub struct Applied {
    /// The types the arguments have to be cast to.
    pub arguments: Vec<DataType>,
    /// What the variables stand for.
    pub bindings: Bindings,
    /// Sum of the coercions' costs; 0 is an exact match.
    pub cost: u32,
}

impl Signature {
    /// Parses `name(type, ...) -> type`.
    pub fn parse(text: &'static str) -> Result<Self> {
        let malformed = || Error::internal(format!("signature \"{text}\" is malformed"));
        let (head, result) = text.rsplit_once("->").ok_or_else(malformed)?;
        let open = head.find('(').ok_or_else(malformed)?;
        let inside = head[open + 1..].trim().strip_suffix(')').ok_or_else(malformed)?;
        let variadic = inside.trim_end().ends_with("...");
        let inside = inside.trim_end().trim_end_matches("...");
        let parameters = split_top(inside).into_iter().map(parse_pattern).collect::<Result<_>>()?;
        Ok(Self { text, parameters, variadic, result: parse_pattern(result)? })
    }

    fn parameter(&self, index: usize) -> Option<&Pattern> {
        if self.variadic { self.parameters.get(index).or(self.parameters.last()) } else { self.parameters.get(index) }
    }

    fn accepts_count(&self, count: usize) -> bool {
        let wanted = self.parameters.len();
        if self.variadic { count + 1 >= wanted.max(1) } else { count == wanted }
    }

    /// Fits the signature to argument types, coercing as Trino does; `None` if it does not apply.
    pub fn apply(&self, arguments: &[DataType]) -> Option<Applied> {
        if !self.accepts_count(arguments.len()) {
            return None;
        }
        let mut bindings = Bindings::new();
        for (index, argument) in arguments.iter().enumerate() {
            collect(self.parameter(index)?, argument, &mut bindings)?;
        }
        let mut cost = 0;
        let mut targets = Vec::with_capacity(arguments.len());
        for (index, argument) in arguments.iter().enumerate() {
            let target = target(self.parameter(index)?, argument, &bindings)?;
            cost += coerces(argument, &target)?;
            targets.push(target);
        }
        Some(Applied { arguments: targets, bindings, cost })
    }

    /// The result type under the bindings; `None` where the text does not determine it.
    pub fn result_type(&self, bindings: &Bindings) -> Option<DataType> {
        resolve(&self.result, bindings)
    }
}

/// `array(T)` as this engine writes it.
pub fn list_of(element: DataType) -> DataType {
    DataType::List(Field::new("item", element, true).into())
}

/// `map(K, V)` as this engine writes it.
pub fn map_of(key: DataType, value: DataType) -> DataType {
    let entries = DataType::Struct(vec![Field::new("key", key, false), Field::new("value", value, true)].into());
    DataType::Map(Field::new("entries", entries, false).into(), false)
}

/// Key and value types of a map type.
pub fn map_parts(map: &DataType) -> Option<(&DataType, &DataType)> {
    let DataType::Map(entries, _) = map else { return None };
    let DataType::Struct(fields) = entries.data_type() else { return None };
    Some((fields.first()?.data_type(), fields.get(1)?.data_type()))
}

fn split_top(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0i32, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    let last = text[start..].trim();
    if !last.is_empty() {
        parts.push(last);
    }
    parts
}

fn parse_pattern(text: &str) -> Result<Pattern> {
    let text = text.trim();
    if let Some(inner) = text.strip_prefix("array(").and_then(|rest| rest.strip_suffix(')')) {
        return Ok(Pattern::Array(Box::new(parse_pattern(inner)?)));
    }
    if let Some(inner) = text.strip_prefix("row(").and_then(|rest| rest.strip_suffix(')')) {
        return Ok(Pattern::Row(split_top(inner).into_iter().map(parse_pattern).collect::<Result<_>>()?));
    }
    if let Some(inner) = text.strip_prefix("map(").and_then(|rest| rest.strip_suffix(')')) {
        return match split_top(inner).as_slice() {
            [key, value] => Ok(Pattern::Map(Box::new(parse_pattern(key)?), Box::new(parse_pattern(value)?))),
            _ => Err(Error::internal(format!("map type \"{text}\" needs two types"))),
        };
    }
    if text.starts_with("function") {
        return Ok(Pattern::Function);
    }
    let mut letters = text.chars();
    if letters.next().is_some_and(|c| c.is_ascii_uppercase()) && letters.all(|c| c.is_ascii_digit()) {
        return Ok(Pattern::Variable(text.to_owned()));
    }
    if let Some(sketch) = crate::sketches::Sketch::named(text) {
        return Ok(Pattern::Exact(sketch.to_arrow()));
    }
    simple_pattern(text).ok_or_else(|| Error::internal(format!("type \"{text}\" of a signature is not known")))
}

fn simple_pattern(text: &str) -> Option<Pattern> {
    Some(Pattern::Exact(match text {
        "decimal(p,s)" => return Some(Pattern::Decimal),
        "timestamp(p)" => return Some(Pattern::Timestamp(false)),
        "timestamp(p) with time zone" => return Some(Pattern::Timestamp(true)),
        "time(p)" => return Some(Pattern::Time),
        "boolean" => DataType::Boolean,
        "tinyint" => DataType::Int8,
        "smallint" => DataType::Int16,
        "integer" => DataType::Int32,
        "bigint" => DataType::Int64,
        "real" => DataType::Float32,
        "double" => DataType::Float64,
        "varchar" => DataType::Utf8,
        "char" => DataType::Utf8View,
        "json" => DataType::LargeUtf8,
        "varbinary" => DataType::Binary,
        "date" => DataType::Date32,
        "uuid" => DataType::FixedSizeBinary(16),
        "ipaddress" => DataType::LargeBinary,
        "unknown" => DataType::Null,
        "decimal(38,0)" => DataType::Decimal128(38, 0),
        "timestamp(3)" => DataType::Timestamp(TimeUnit::Millisecond, None),
        "timestamp(3) with time zone" => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
        "timestamp(9) with time zone" => DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
        "interval year to month" => DataType::Interval(IntervalUnit::YearMonth),
        "interval day to second" => DataType::Duration(TimeUnit::Millisecond),
        _ => return None,
    }))
}

/// Learns what the variables stand for from one argument.
fn collect(pattern: &Pattern, argument: &DataType, bindings: &mut Bindings) -> Option<()> {
    match (pattern, argument) {
        (Pattern::Variable(name), _) => {
            let merged = match bindings.get(name) {
                Some(known) => super_type(known, argument)?,
                None => argument.clone(),
            };
            bindings.insert(name.clone(), merged);
        }
        (Pattern::Array(element), DataType::List(field)) => collect(element, field.data_type(), bindings)?,
        (Pattern::Array(element), DataType::Null) => collect(element, &DataType::Null, bindings)?,
        (Pattern::Map(key, value), DataType::Null) => {
            collect(key, &DataType::Null, bindings)?;
            collect(value, &DataType::Null, bindings)?;
        }
        (Pattern::Map(key, value), map) => {
            let (k, v) = map_parts(map)?;
            collect(key, k, bindings)?;
            collect(value, v, bindings)?;
        }
        (Pattern::Row(patterns), DataType::Struct(fields)) if patterns.len() == fields.len() => {
            for (pattern, field) in patterns.iter().zip(fields) {
                collect(pattern, field.data_type(), bindings)?;
            }
        }
        (Pattern::Row(patterns), DataType::Null) => {
            for pattern in patterns {
                collect(pattern, &DataType::Null, bindings)?;
            }
        }
        (Pattern::Array(_) | Pattern::Row(_), _) => return None,
        _ => {}
    }
    Some(())
}

/// The type an argument has to be cast to.
fn target(pattern: &Pattern, argument: &DataType, bindings: &Bindings) -> Option<DataType> {
    let millis = TimeUnit::Millisecond;
    Some(match (pattern, argument) {
        (Pattern::Decimal, DataType::Decimal128(..)) => argument.clone(),
        (Pattern::Decimal, DataType::Int8) => DataType::Decimal128(3, 0),
        (Pattern::Decimal, DataType::Int16) => DataType::Decimal128(5, 0),
        (Pattern::Decimal, DataType::Int32) => DataType::Decimal128(10, 0),
        (Pattern::Decimal, DataType::Int64) => DataType::Decimal128(19, 0),
        (Pattern::Decimal, DataType::Null) => DataType::Decimal128(1, 0),
        (Pattern::Timestamp(zoned), DataType::Timestamp(unit, zone)) => match (zoned, zone) {
            (true, None) => DataType::Timestamp(*unit, Some("UTC".into())),
            (true, Some(_)) | (false, None) => argument.clone(),
            (false, Some(_)) => return None,
        },
        (Pattern::Timestamp(true), DataType::Date32 | DataType::Null) => {
            DataType::Timestamp(millis, Some("UTC".into()))
        }
        (Pattern::Timestamp(false), DataType::Date32) => DataType::Timestamp(TimeUnit::Second, None),
        (Pattern::Timestamp(false), DataType::Null) => DataType::Timestamp(millis, None),
        (Pattern::Time, DataType::Time32(_) | DataType::Time64(_)) => argument.clone(),
        (Pattern::Time, DataType::Null) => DataType::Time32(millis),
        (Pattern::Decimal | Pattern::Timestamp(_) | Pattern::Time, _) => return None,
        (Pattern::Row(patterns), DataType::Struct(fields)) => DataType::Struct(
            patterns
                .iter()
                .zip(fields)
                .map(|(pattern, field)| {
                    Some(Field::new(field.name(), target(pattern, field.data_type(), bindings)?, true))
                })
                .collect::<Option<Vec<_>>>()?
                .into(),
        ),
        (Pattern::Array(inner), DataType::List(field)) => list_of(target(inner, field.data_type(), bindings)?),
        (Pattern::Map(key, value), DataType::Map(..)) => {
            let (k, v) = map_parts(argument)?;
            map_of(target(key, k, bindings)?, target(value, v, bindings)?)
        }
        (Pattern::Function, _) => argument.clone(),
        (Pattern::Exact(DataType::Timestamp(unit, Some(_))), DataType::Timestamp(_, Some(zone))) => {
            DataType::Timestamp(*unit, Some(zone.clone()))
        }
        _ => resolve(pattern, bindings)?,
    })
}

fn resolve(pattern: &Pattern, bindings: &Bindings) -> Option<DataType> {
    Some(match pattern {
        Pattern::Exact(exact) => exact.clone(),
        Pattern::Variable(name) => bindings.get(name)?.clone(),
        Pattern::Array(element) => list_of(resolve(element, bindings)?),
        Pattern::Map(key, value) => map_of(resolve(key, bindings)?, resolve(value, bindings)?),
        Pattern::Row(patterns) => DataType::Struct(
            patterns
                .iter()
                .map(|pattern| Some(Field::new("", resolve(pattern, bindings)?, true)))
                .collect::<Option<Vec<_>>>()?
                .into(),
        ),
        Pattern::Decimal | Pattern::Timestamp(_) | Pattern::Time | Pattern::Function => return None,
    })
}
