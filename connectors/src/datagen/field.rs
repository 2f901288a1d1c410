//! One column: which values it gets, from the options `fields.<name>.*`.
//!
//! Invariant: the value of a row depends on the row's number, not on the rows before it.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, StringArray},
    compute::cast,
    datatypes::{DataType, Field, TimeUnit},
};
use headwater_engine::error::{Error, Result};

use crate::options::{Options, parse_duration};

/// Characters of a random text, unless its column says otherwise.
const LENGTH: u64 = 100;

/// How a column is filled.
#[derive(Debug, Clone)]
pub(super) struct FieldRule {
    name: String,
    data_type: DataType,
    null_rate: f64,
    values: Values,
}

#[derive(Debug, Clone)]
enum Values {
    /// Whole numbers from the first on, to the last if there is one; times count in steps.
    Sequence {
        start: i64,
        end: Option<i64>,
        step: i64,
    },
    Whole {
        min: i64,
        max: i64,
    },
    Real {
        min: f64,
        max: f64,
    },
    Flag,
    Text {
        length: u64,
        vary: bool,
    },
    /// Milliseconds before now, at most.
    Past {
        max_ms: i64,
    },
}

impl FieldRule {
    /// Takes the options of a column.
    pub(super) fn take(options: &mut Options, field: &Field) -> Result<Self> {
        let name = field.name().clone();
        let key = |what: &str| format!("fields.{name}.{what}");
        let is_sequence = options.choice(&key("kind"), &[("random", false), ("sequence", true)])?.unwrap_or_default();
        let null_key = key("null-rate");
        let null_rate = match options.text(&null_key) {
            None => 0.0,
            Some(text) => text.parse().map_err(|_| options.invalid(&null_key, &text, "a number between 0 and 1"))?,
        };
        let values = if is_sequence { sequence(options, field, &key)? } else { random(options, field, &key)? };
        Ok(Self { data_type: field.data_type().clone(), name, null_rate, values })
    }

    /// Whether it fills the column of this name.
    pub(super) fn is_of(&self, name: &str) -> bool {
        self.name == name
    }

    /// How many rows its sequence has.
    pub(super) fn end(&self) -> Option<u64> {
        match &self.values {
            Values::Sequence { start, end: Some(end), step } => {
                Some(u64::try_from((end - start).div_euclid((*step).max(1)) + 1).unwrap_or_default())
            }
            _ => None,
        }
    }

    /// The values of rows `first..first + count`.
    pub(super) fn column(&self, seed: u64, first: u64, count: usize, now_ms: i64) -> Result<ArrayRef> {
        let own = self.name.bytes().fold(mix(seed), |hash, byte| mix(hash ^ u64::from(byte)));
        let random = |row: u64| mix(own ^ mix(row));
        let is_null = |row: u64| self.null_rate > 0.0 && unit(mix(random(row))) < self.null_rate;
        let rows = (0..count as u64).map(|row| first + row);
        let whole = |value: &dyn Fn(u64) -> i64| -> Result<ArrayRef> {
            let values = rows.clone().map(|row| (!is_null(row)).then(|| value(row)));
            self.of_whole(Int64Array::from_iter(values))
        };
        match &self.values {
            Values::Sequence { start, step, .. } => {
                whole(&|row| start.saturating_add(i64::try_from(row).unwrap_or(i64::MAX).saturating_mul(*step)))
            }
            Values::Whole { min, max } => whole(&|row| between(random(row), *min, *max)),
            Values::Past { max_ms } => whole(&|row| now_ms - between(random(row), 0, *max_ms)),
            Values::Real { min, max } => {
                let values = rows.map(|row| (!is_null(row)).then(|| min + unit(random(row)) * (max - min)));
                let values: ArrayRef = Arc::new(Float64Array::from_iter(values));
                Ok(cast(&values, &self.data_type)?)
            }
            Values::Flag => {
                let values = rows.map(|row| (!is_null(row)).then(|| random(row) & 1 == 1));
                Ok(Arc::new(BooleanArray::from_iter(values)))
            }
            Values::Text { length, vary } => {
                let values = rows.map(|row| (!is_null(row)).then(|| text(random(row), *length, *vary)));
                let values: ArrayRef = Arc::new(StringArray::from_iter(values));
                Ok(cast(&values, &self.data_type)?)
            }
        }
    }

    fn of_whole(&self, values: Int64Array) -> Result<ArrayRef> {
        let values: ArrayRef = match &self.data_type {
            DataType::Timestamp(_, _) => cast(&values, &DataType::Timestamp(TimeUnit::Millisecond, None))?,
            DataType::Date32 => {
                let days: Int64Array = arrow::array::PrimitiveArray::unary(&values, |ms| ms.div_euclid(86_400_000));
                cast(&days, &DataType::Int32)?
            }
            DataType::Decimal128(precision, scale) => {
                let wide = arrow::array::PrimitiveArray::unary(&values, i128::from);
                let wide: Decimal128Array = wide;
                return Ok(Arc::new(wide.with_precision_and_scale(*precision, *scale)?));
            }
            _ => Arc::new(values),
        };
        Ok(cast(&values, &self.data_type)?)
    }
}

type Key<'a> = &'a dyn Fn(&str) -> String;

fn sequence(options: &mut Options, field: &Field, key: Key<'_>) -> Result<Values> {
    let is_time = matches!(field.data_type(), DataType::Timestamp(_, _) | DataType::Date32);
    let is_text = matches!(field.data_type(), DataType::Utf8);
    if !is_time && !is_text && !field.data_type().is_integer() {
        return Err(unsupported(field, "a sequence"));
    }
    let parse = |text: &str| if is_time { millis(text) } else { text.trim().parse().ok() };
    let wanted = if is_time { "a time such as '2024-01-01 00:00:00'" } else { "a whole number" };
    let mut take = |what: &str| -> Result<Option<i64>> {
        let key = key(what);
        let Some(text) = options.text(&key) else { return Ok(None) };
        parse(&text).map(Some).ok_or_else(|| options.invalid(&key, &text, wanted))
    };
    let (start, end) = (take("start")?, take("end")?);
    let start = start.ok_or_else(|| {
        let message = format!("the sequence of column \"{}\" has no '{}'", field.name(), key("start"));
        Error::user("INVALID_TABLE_PROPERTY", message).with_hint("say where it begins")
    })?;
    let step = if is_time { options.duration(&key("step"))? } else { None };
    let step = step.map_or(if is_time { 1000 } else { 1 }, |step| i64::try_from(step.as_millis()).unwrap_or(i64::MAX));
    Ok(Values::Sequence { start, end, step: step.max(1) })
}

fn random(options: &mut Options, field: &Field, key: Key<'_>) -> Result<Values> {
    let number = |options: &mut Options, what: &str| -> Result<Option<f64>> {
        let key = key(what);
        let Some(text) = options.text(&key) else { return Ok(None) };
        text.trim().parse().map(Some).map_err(|_| options.invalid(&key, &text, "a number"))
    };
    Ok(match field.data_type() {
        DataType::Boolean => Values::Flag,
        DataType::Utf8 | DataType::Binary => {
            let length = options.number(&key("length"))?.unwrap_or(LENGTH);
            Values::Text { length, vary: options.flag(&key("var-len"))?.unwrap_or_default() }
        }
        DataType::Float32 | DataType::Float64 => {
            let (min, max) = (number(options, "min")?, number(options, "max")?);
            Values::Real { min: min.unwrap_or(0.0), max: max.unwrap_or(1.0) }
        }
        DataType::Timestamp(_, _) | DataType::Date32 => {
            let past = options.text(&key("max-past"));
            let past = past.map(|text| {
                parse_duration(&text).ok_or_else(|| options.invalid(&key("max-past"), &text, "a length of time"))
            });
            let max = past.transpose()?.unwrap_or_default();
            Values::Past { max_ms: i64::try_from(max.as_millis()).unwrap_or(i64::MAX) }
        }
        DataType::Decimal128(precision, scale) => {
            let unit = 10_f64.powi(i32::from(*scale));
            let all = 10_f64.powi(i32::from(*precision).min(18)) - 1.0;
            let (min, max) = (number(options, "min")?, number(options, "max")?);
            Values::Whole {
                min: min.map_or(0, |min| (min * unit) as i64),
                max: max.map_or(all as i64, |max| (max * unit) as i64),
            }
        }
        whole if whole.is_integer() => {
            let (least, most) = range(whole);
            let mut bound = |what: &str| -> Result<Option<i64>> {
                let key = key(what);
                let Some(text) = options.text(&key) else { return Ok(None) };
                text.trim().parse().map(Some).map_err(|_| options.invalid(&key, &text, "a whole number"))
            };
            Values::Whole { min: bound("min")?.unwrap_or(least), max: bound("max")?.unwrap_or(most) }
        }
        _ => return Err(unsupported(field, "random values")),
    })
}

fn range(data_type: &DataType) -> (i64, i64) {
    match data_type {
        DataType::Int8 => (i64::from(i8::MIN), i64::from(i8::MAX)),
        DataType::Int16 => (i64::from(i16::MIN), i64::from(i16::MAX)),
        DataType::Int32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => (i64::MIN, i64::MAX),
    }
}

fn unsupported(field: &Field, what: &str) -> Error {
    Error::not_supported(format!("datagen has no {what} of the type of column \"{}\"", field.name()))
        .with_hint("declare a number, text, boolean, date or timestamp, and compute the rest with AS")
}

/// Milliseconds since 1970 of `2024-01-01`, `2024-01-01 00:00:00[.000]`, also with a `T`.
fn millis(text: &str) -> Option<i64> {
    let text = text.trim().trim_end_matches('Z').replace('T', " ");
    let with_time = if text.contains(' ') { text } else { format!("{text} 00:00:00") };
    let parsed = chrono::NaiveDateTime::parse_from_str(&with_time, "%Y-%m-%d %H:%M:%S%.f").ok()?;
    Some(parsed.and_utc().timestamp_millis())
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A number from 0 up to 1.
fn unit(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

fn between(random: u64, min: i64, max: i64) -> i64 {
    // The width is at most 2^64, so the product fits.
    let width = u128::from(max.max(min).abs_diff(min)) + 1;
    let offset = (u128::from(random) * width) >> 64;
    i64::try_from(i128::from(min) + offset as i128).unwrap_or(max)
}

fn text(random: u64, length: u64, vary: bool) -> String {
    let length = if vary { 1 + random % length.max(1) } else { length };
    let mut state = random;
    let mut next = || {
        state = mix(state);
        char::from(b"0123456789abcdef"[(state >> 60) as usize])
    };
    (0..length).map(|_| next()).collect()
}
