//! Where Firehose would put an object: a prefix with expressions, evaluated for each row.
//!
//! ```text
//! events/name=!{partitionKeyFromQuery:name}/d=!{timestamp:yyyy-MM-dd}/     column "name", time of writing in UTC
//! raw/!{firehose:random-string}/                                           eleven characters, new for each object
//! legacy                                                                   legacy2026/07/13/14/  (no expression)
//! ```
//!
//! Invariant: rows of one object have the same prefix; a key that is NULL or empty refuses its row.

use std::collections::BTreeMap;

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array},
    compute::{cast, take_record_batch},
    datatypes::{DataType, Schema},
};
use chrono::{DateTime, Datelike, Timelike, Utc};
use headwater_engine::{
    error::{Error, Result},
    time::Instant,
};
use rand::Rng;

/// Longest prefix, evaluated.
const LENGTH_MAX: usize = 512;
/// Stands for a random text until an object is begun.
const RANDOM: char = '\u{1}';
const RANDOM_CHARACTERS: usize = 11;
/// What a prefix without expressions gets.
const DEFAULT_TIME: &str = "yyyy/MM/dd/HH/";

/// A prefix with expressions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Time(Vec<TimePart>),
    /// The text of a column.
    Key(String),
    Random,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum TimePart {
    Text(String),
    /// A letter of Java's formatter and how often it stands there.
    Field(char, usize),
}

/// Rows of one evaluated prefix, or rows that have none.
#[derive(Debug)]
pub(super) struct Dealt {
    /// Prefix and its rows.
    pub(super) groups: Vec<(String, RecordBatch)>,
    /// Rows and why they have no prefix.
    pub(super) refused: Vec<(u32, String)>,
}

impl Prefix {
    /// Reads a prefix as Firehose writes it.
    pub fn parse(text: &str) -> Result<Self> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once("!{") {
            let (expression, after) =
                after.split_once('}').ok_or_else(|| invalid(text, "an expression is not closed"))?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(expression_of(text, expression)?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        if parts.iter().all(|part| matches!(part, Part::Text(_))) {
            parts.push(Part::Time(time_parts(text, DEFAULT_TIME)?));
        }
        Ok(Self { parts })
    }

    /// The columns it needs must be there.
    pub(super) fn check(&self, schema: &Schema) -> Result<()> {
        self.keys(schema).map(drop)
    }

    fn keys(&self, schema: &Schema) -> Result<Vec<usize>> {
        let find = |name: &String| {
            let found = schema.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name));
            found.ok_or_else(|| {
                Error::user(
                    "COLUMN_NOT_FOUND",
                    format!("'sink.prefix' names column \"{name}\", which the table has not"),
                )
                .with_hint("a partition key of Firehose's query is a column here")
            })
        };
        let keys = self.parts.iter().filter_map(|part| match part {
            Part::Key(name) => Some(find(name)),
            Part::Text(_) | Part::Time(_) | Part::Random => None,
        });
        keys.collect()
    }

    /// Deals rows out by their prefix at this time.
    pub(super) fn deal(&self, rows: &RecordBatch, now: Instant) -> Result<Dealt> {
        let columns = self.keys(&rows.schema())?;
        let texts = columns.iter().map(|column| Ok(cast(rows.column(*column), &DataType::Utf8)?));
        let texts: Vec<ArrayRef> = texts.collect::<Result<_>>()?;
        let time = DateTime::<Utc>::from_timestamp_millis(now.0).unwrap_or_default();
        let (mut rows_of, mut refused) = (BTreeMap::<String, Vec<u32>>::new(), Vec::new());
        for row in 0..rows.num_rows() {
            match self.evaluated(&texts, row, time) {
                Ok(prefix) => rows_of.entry(prefix).or_default().push(row as u32),
                Err(reason) => refused.push((row as u32, reason)),
            }
        }
        let batch = |(prefix, indexes): (String, Vec<u32>)| {
            let is_all = indexes.len() == rows.num_rows();
            let rows = if is_all { rows.clone() } else { take_record_batch(rows, &UInt32Array::from(indexes))? };
            Ok((prefix, rows))
        };
        Ok(Dealt { groups: rows_of.into_iter().map(batch).collect::<Result<_>>()?, refused })
    }

    fn evaluated(&self, keys: &[ArrayRef], row: usize, time: DateTime<Utc>) -> std::result::Result<String, String> {
        let (mut out, mut keys) = (String::new(), keys.iter());
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Random => out.push(RANDOM),
                Part::Time(parts) => parts.iter().for_each(|part| part.write(time, &mut out)),
                Part::Key(name) => {
                    let text = keys.next().map(|array| array.as_string::<i32>());
                    let value = text.filter(|text| text.is_valid(row)).map(|text| text.value(row)).unwrap_or_default();
                    if value.is_empty() {
                        return Err(format!("metadata-extraction-failed: partition key \"{name}\" is null or empty"));
                    }
                    out.push_str(value);
                }
            }
        }
        if out.len() > LENGTH_MAX {
            return Err(format!(
                "metadata-extraction-failed: a prefix of {} bytes; {LENGTH_MAX} are allowed",
                out.len()
            ));
        }
        Ok(out)
    }
}

/// An evaluated prefix with its random texts.
pub(super) fn settled(evaluated: &str) -> String {
    let mut random = rand::rng();
    let mut out = String::with_capacity(evaluated.len());
    for character in evaluated.chars() {
        if character == RANDOM {
            out.extend((0..RANDOM_CHARACTERS).map(|_| char::from(random.sample(rand::distr::Alphanumeric))));
        } else {
            out.push(character);
        }
    }
    out
}

fn invalid(text: &str, why: &str) -> Error {
    Error::user("INVALID_TABLE_PROPERTY", format!("'sink.prefix' = '{text}': {why}"))
        .with_hint("expressions are !{timestamp:..}, !{partitionKeyFromQuery:..} and !{firehose:random-string}")
}

fn expression_of(text: &str, expression: &str) -> Result<Part> {
    match expression.split_once(':') {
        Some(("timestamp", pattern)) => Ok(Part::Time(time_parts(text, pattern)?)),
        Some(("partitionKeyFromQuery" | "partitionKeyFromLambda", key)) if !key.is_empty() => {
            Ok(Part::Key(key.to_owned()))
        }
        Some(("firehose", "random-string")) => Ok(Part::Random),
        Some(("firehose", "error-output-type")) => {
            Err(invalid(text, "error-output-type stands in 'sink.error-prefix' only"))
        }
        _ => Err(invalid(text, &format!("\"{expression}\" is no expression"))),
    }
}

/// A pattern of Java's DateTimeFormatter, as far as dates and times of day go.
fn time_parts(text: &str, pattern: &str) -> Result<Vec<TimePart>> {
    let (mut parts, mut letters) = (Vec::new(), pattern.chars().peekable());
    while let Some(letter) = letters.next() {
        match letter {
            '\'' => {
                let quoted: String = letters.by_ref().take_while(|letter| *letter != '\'').collect();
                parts.push(TimePart::Text(if quoted.is_empty() { "'".to_owned() } else { quoted }));
            }
            'y' | 'u' | 'Y' | 'M' | 'd' | 'D' | 'H' | 'm' | 's' | 'S' => {
                let mut count = 1;
                while letters.next_if_eq(&letter).is_some() {
                    count += 1;
                }
                parts.push(TimePart::Field(letter, count));
            }
            letter if letter.is_ascii_alphabetic() => {
                return Err(invalid(text, &format!("the letter {letter} of a time pattern is not supported")));
            }
            other => parts.push(TimePart::Text(other.to_string())),
        }
    }
    Ok(parts)
}

impl TimePart {
    fn write(&self, time: DateTime<Utc>, out: &mut String) {
        let (letter, count) = match self {
            Self::Text(text) => return out.push_str(text),
            Self::Field(letter, count) => (*letter, *count),
        };
        let number = match letter {
            // Weeks of the United States begin on Sunday, and the first is the one with January 1.
            'Y' if time.month() == 12 && time.day() + 6 - time.weekday().num_days_from_sunday() > 31 => time.year() + 1,
            'y' | 'u' | 'Y' => time.year(),
            'M' => time.month() as i32,
            'd' => time.day() as i32,
            'D' => time.ordinal() as i32,
            'H' => time.hour() as i32,
            'm' => time.minute() as i32,
            's' => time.second() as i32,
            _ => {
                let nanos = format!("{:09}", time.nanosecond());
                out.push_str(&nanos[..count.min(9)]);
                return;
            }
        };
        let number = if matches!(letter, 'y' | 'u' | 'Y') && count == 2 { number % 100 } else { number };
        out.push_str(&format!("{number:0count$}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{array::StringArray, datatypes::Field};

    use super::*;

    /// 2026-07-03T14:05:09.120Z.
    const NOW: Instant = Instant(1_783_087_509_120);

    fn deal(prefix: &str) -> Result<Dealt> {
        let schema = Arc::new(Schema::new(vec![Field::new("name", DataType::Utf8, true)]));
        let names = StringArray::from(vec![Some("a"), Some("b"), None, Some("a"), Some("")]);
        Prefix::parse(prefix)?.deal(&RecordBatch::try_new(schema, vec![Arc::new(names)])?, NOW)
    }

    fn evaluated(prefix: &str) -> String {
        deal(prefix).unwrap().groups.into_iter().map(|(prefix, _)| prefix).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn time_is_added_only_where_there_is_no_expression() {
        assert_eq!(evaluated("legacy"), "legacy2026/07/03/14/");
        assert_eq!(evaluated(""), "2026/07/03/14/");
        assert_eq!(evaluated("d=!{timestamp:yyyy-MM-dd'T'HHmmss.SSS}/"), "d=2026-07-03T140509.120/");
        assert_eq!(evaluated("!{timestamp:yy/M/d/D/DDD/YYYY}/"), "26/7/3/184/184/2026/");
    }

    #[test]
    fn rows_are_dealt_by_their_keys_and_one_without_is_refused() {
        let dealt = deal("n=!{partitionKeyFromQuery:name}/d=!{timestamp:yyyy}/").unwrap();
        let groups: Vec<_> = dealt.groups.iter().map(|(prefix, rows)| (prefix.as_str(), rows.num_rows())).collect();
        assert_eq!(groups, [("n=a/d=2026/", 2), ("n=b/d=2026/", 1)]);
        assert_eq!(dealt.refused.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [2, 4]);
        assert!(deal("!{partitionKeyFromLambda:other}/").unwrap_err().message().contains("\"other\""));
    }

    #[test]
    fn a_random_text_is_new_for_each_object() {
        let evaluated = evaluated("r/!{firehose:random-string}/");
        let (one, two) = (settled(&evaluated), settled(&evaluated));
        assert!(one != two && one.len() == "r//".len() + RANDOM_CHARACTERS, "{one} {two}");
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for wrong in ["!{timestamp:yyyy", "!{time:yyyy}", "!{firehose:error-output-type}/", "!{timestamp:QQ}"] {
            assert!(Prefix::parse(wrong).is_err(), "{wrong}");
        }
    }
}
