//! Where Firehose would put an object: a prefix with expressions, evaluated for each row.
//!
//! ```text
//! events/name=!{partitionKeyFromQuery:name}/d=!{timestamp:yyyy-MM-dd}/     a key of the row, its arrival in `sink.time-zone`
//! raw/!{firehose:random-string}/                                           eleven characters, new for each object
//! errors/!{firehose:error-output-type}/                                    why its rows are there
//! legacy                                                                   legacy2026/07/13/14/  (no expression)
//! ```
//!
//! Invariant: rows of one object have the same prefix, and no prefix leaves the folder it is relative to.

mod time;

use chrono::NaiveDateTime;
use headwater_engine::error::{Error, Result};
use rand::Rng;

use self::time::TimePart;
use super::failure::ErrorType;

/// Longest prefix, evaluated.
const LENGTH_MAX: usize = 512;
/// Stands for a random text until an object is begun.
const RANDOM: char = '\u{1}';
const RANDOM_CHARACTERS: usize = 11;
/// What a prefix without expressions gets.
const DEFAULT_TIME: &str = "yyyy/MM/dd/HH/";

/// What a prefix is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The rows of the INSERT.
    Rows,
    /// What could not be delivered.
    Errors,
    /// Records as they came.
    Backup,
}

impl Purpose {
    /// The option that holds it.
    pub(super) fn option(self) -> &'static str {
        match self {
            Self::Rows => "sink.prefix",
            Self::Errors => "sink.error-prefix",
            Self::Backup => "sink.backup-prefix",
        }
    }
}

/// A prefix with expressions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    /// Where it is relative to, when it says so itself.
    location: Option<String>,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Time(Vec<TimePart>),
    Key(Key),
    ErrorType,
    Random,
}

/// A partition key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    /// Its name.
    pub(super) name: String,
    /// Whose word it is.
    pub(super) from: KeyFrom,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyFrom {
    /// `sink.partition-keys-query`, else a column.
    Query,
    /// A column, which the query of the INSERT computes.
    Lambda,
}

/// What a prefix is evaluated with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    /// Arrival of the row, on the clocks of the sink's time zone.
    pub(super) time: NaiveDateTime,
    /// Values of [`Prefix::keys`].
    pub(super) keys: &'a [String],
    /// Why a row is an error.
    pub(super) error: Option<ErrorType>,
}

impl Prefix {
    /// Reads a prefix as Firehose writes it. One that begins with `/` or has a scheme is relative to the folder it names
    /// itself, others to that of the table.
    pub fn parse(text: &str, purpose: Purpose) -> Result<Self> {
        let invalid = |why: &str| invalid(text, purpose, why);
        let (location, relative) = located(text);
        if purpose == Purpose::Rows && location.is_some() {
            return Err(invalid("it is relative to 'path'; leave out its beginning"));
        }
        if relative.contains("//") {
            return Err(invalid("a folder has no name: \"//\""));
        }
        if relative.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(invalid("it has control characters"));
        }
        let (mut parts, mut rest) = (Vec::new(), relative);
        while let Some((before, after)) = rest.split_once("!{") {
            let (expression, after) = after.split_once('}').ok_or_else(|| invalid("an expression is not closed"))?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(expression_of(expression, purpose).map_err(|why| invalid(&why))?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        if parts.iter().all(|part| matches!(part, Part::Text(_))) {
            if purpose == Purpose::Errors {
                parts.extend([Part::ErrorType, Part::Text("/".to_owned())]);
            }
            parts.push(Part::Time(time::parse(DEFAULT_TIME).map_err(|why| invalid(&why))?));
        } else if purpose == Purpose::Errors && !parts.contains(&Part::ErrorType) {
            return Err(invalid("it has expressions, but not !{firehose:error-output-type}"));
        }
        let prefix = Self { location: location.map(str::to_owned), parts };
        // What any row is refused for is said now, and not of the first one.
        let keys: Vec<String> = prefix.keys().map(|_| "k".to_owned()).collect();
        let facts = Facts { time: NaiveDateTime::default(), keys: &keys, error: Some(ErrorType::Processing) };
        prefix.evaluated(facts).map_err(|why| invalid(&why))?;
        Ok(prefix)
    }

    /// The folder it is relative to, if that is not the table's.
    pub(super) fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }

    /// The partition keys it needs, in their order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.parts.iter().filter_map(|part| match part {
            Part::Key(key) => Some(key),
            Part::Text(_) | Part::Time(_) | Part::ErrorType | Part::Random => None,
        })
    }

    /// The prefix of a row, or what is wrong with it.
    pub(super) fn evaluated(&self, facts: Facts<'_>) -> std::result::Result<String, String> {
        let (mut out, mut keys) = (String::new(), facts.keys.iter());
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Random => out.push(RANDOM),
                Part::Time(parts) => parts.iter().for_each(|part| part.write(facts.time, &mut out)),
                Part::Key(_) => {
                    let key = keys.next().map(String::as_str).unwrap_or_default();
                    if key.bytes().any(|byte| byte.is_ascii_control()) {
                        return Err(format!("the partition key {key:?} has control characters"));
                    }
                    out.push_str(key);
                }
                Part::ErrorType => out.push_str(facts.error.map(ErrorType::name).unwrap_or_default()),
            }
        }
        if out.len() > LENGTH_MAX {
            return Err(format!("a prefix of {} bytes; {LENGTH_MAX} are allowed", out.len()));
        }
        if out.split('/').any(|folder| matches!(folder, "." | "..")) {
            return Err(format!("the prefix \"{out}\" names a folder above its own"));
        }
        if out.contains("//") || out.starts_with('/') {
            return Err(format!("the prefix \"{out}\" has a folder without a name"));
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

/// The folder an absolute prefix is relative to, and the rest.
fn located(text: &str) -> (Option<&str>, &str) {
    let literal = text.split("!{").next().unwrap_or_default();
    if !literal.starts_with('/') && !literal.contains("://") {
        return (None, text);
    }
    let end = literal.rfind('/').map_or(0, |slash| slash + 1);
    (Some(&text[..end]), &text[end..])
}

fn invalid(text: &str, purpose: Purpose, why: &str) -> Error {
    let keys = match purpose {
        Purpose::Rows => "!{partitionKeyFromQuery:..}",
        Purpose::Errors => "!{firehose:error-output-type}",
        Purpose::Backup => "!{firehose:random-string}",
    };
    Error::user("INVALID_TABLE_PROPERTY", format!("'{}' = '{text}': {why}", purpose.option()))
        .with_hint(format!("expressions are !{{timestamp:yyyy-MM-dd}}, {keys} and !{{firehose:random-string}}"))
}

fn expression_of(expression: &str, purpose: Purpose) -> std::result::Result<Part, String> {
    let key = |name: &str, from| match purpose {
        _ if name.is_empty() => Err(format!("\"{expression}\" names no key")),
        Purpose::Rows => Ok(Part::Key(Key { name: name.to_owned(), from })),
        Purpose::Errors | Purpose::Backup => Err("partition keys stand in 'sink.prefix' only".to_owned()),
    };
    match expression.split_once(':') {
        Some(("timestamp", pattern)) => Ok(Part::Time(time::parse(pattern)?)),
        Some(("partitionKeyFromQuery", name)) => key(name, KeyFrom::Query),
        Some(("partitionKeyFromLambda", name)) => key(name, KeyFrom::Lambda),
        Some(("firehose", "random-string")) => Ok(Part::Random),
        Some(("firehose", "error-output-type")) if purpose == Purpose::Errors => Ok(Part::ErrorType),
        Some(("firehose", "error-output-type")) => {
            Err("error-output-type stands in 'sink.error-prefix' only".to_owned())
        }
        _ => Err(format!("\"{expression}\" is no expression")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(keys: &[String]) -> Facts<'_> {
        // 2026-07-03T14:05:09.120Z.
        let time = chrono::DateTime::from_timestamp_millis(1_783_087_509_120).unwrap().naive_utc();
        Facts { time, keys, error: Some(ErrorType::Processing) }
    }

    fn evaluated(prefix: &str, purpose: Purpose, keys: &[&str]) -> String {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        Prefix::parse(prefix, purpose).unwrap().evaluated(facts(&keys)).unwrap_or_else(|why| format!("refused: {why}"))
    }

    #[test]
    fn time_is_added_only_where_there_is_no_expression() {
        let rows = |prefix| evaluated(prefix, Purpose::Rows, &["a"]);
        assert_eq!(rows("legacy"), "legacy2026/07/03/14/");
        assert_eq!(rows(""), "2026/07/03/14/");
        assert_eq!(rows("d=!{timestamp:yyyy-MM-dd'T'HHmmss.SSS}/"), "d=2026-07-03T140509.120/");
        assert_eq!(rows("!{timestamp:yy/M/d/D/DDD/YYYY}/"), "26/7/3/184/184/2026/");
        assert_eq!(rows("!{timestamp:MMM-MMMM}/"), "Jul-July/");
        assert_eq!(rows("!{timestamp:HH 'o''clock'}/"), "14 o'clock/");
        assert_eq!(rows("n=!{partitionKeyFromQuery:name}/"), "n=a/");
        assert_eq!(evaluated("errors/", Purpose::Errors, &[]), "errors/processing-failed/2026/07/03/14/");
        let errors = "e/!{firehose:error-output-type}/!{timestamp:yyyy}/";
        assert_eq!(evaluated(errors, Purpose::Errors, &[]), "e/processing-failed/2026/");
    }

    /// As Java 17 shows them.
    #[test]
    fn every_plain_letter_of_javas_patterns_is_known() {
        let rows = |prefix: &str| evaluated(prefix, Purpose::Rows, &[]);
        assert_eq!(rows("!{timestamp:hh-h-K-k-a}/"), "02-2-2-14-PM/");
        assert_eq!(rows("!{timestamp:E,EEE,EEEE,EEEEE,e,ee,eee,c,cccc}/"), "Fri,Fri,Friday,F,6,06,Fri,6,Friday/");
        assert_eq!(rows("!{timestamp:MMMMM-L-LL-LLL-LLLL}/"), "J-7-07-Jul-July/");
        assert_eq!(rows("!{timestamp:Q,QQ,QQQ,QQQQ,q}/"), "3,03,Q3,3rd quarter,3/");
        assert_eq!(rows("!{timestamp:YYYY,w,ww,W}/"), "2026,27,27,1/");
        assert_eq!(rows("!{timestamp:G-GGGG-uuuu-A-n-N}/"), "AD-Anno Domini-2026-50709120-120000000-50709120000000/");
        assert_eq!(rows("d=!{timestamp:[yyyy][-MM['-'dd]]}/"), "d=2026-07-03/");
        assert_eq!(rows("!{timestamp:'[yyyy]'}/"), "[yyyy]/");
    }

    #[test]
    fn a_prefix_stays_where_it_belongs() {
        assert!(evaluated("!{partitionKeyFromQuery:n}/x", Purpose::Rows, &["../up"]).starts_with("refused: "));
        assert!(evaluated("!{partitionKeyFromQuery:n}/x", Purpose::Rows, &[&"a".repeat(511)]).starts_with("refused: "));
        let refused = |key: &str| evaluated("r/k=!{partitionKeyFromQuery:n}/", Purpose::Rows, &[key]);
        for key in ["a//b", "a\u{0}b", "\u{1}"] {
            assert!(refused(key).starts_with("refused: "), "{key:?}");
        }
        assert_eq!(refused("a/b"), "r/k=a/b/");
        for text in ["/elsewhere/!{timestamp:yyyy}/", "s3://b/x/", "a//b/", "a\u{1}/"] {
            assert!(Prefix::parse(text, Purpose::Rows).is_err(), "{text}");
        }
        for text in ["../up/", "a/../b/", "./a/", "s3://b/a/!{timestamp:yyyy}/../", "!{timestamp:'..'}/"] {
            let errors = format!("{text}!{{firehose:error-output-type}}/");
            for (prefix, purpose) in [(errors.as_str(), Purpose::Errors), (text, Purpose::Backup)] {
                let why = Prefix::parse(prefix, purpose).unwrap_err();
                assert!(why.message().contains("names a folder above its own"), "{why}");
            }
        }
        let elsewhere = Prefix::parse("s3://b/a/c!{timestamp:yyyy}/", Purpose::Backup).unwrap();
        assert_eq!((elsewhere.location(), &elsewhere.parts[0]), (Some("s3://b/a/"), &Part::Text("c".into())));
        assert_eq!(Prefix::parse("a/b/", Purpose::Backup).unwrap().location(), None);
    }

    #[test]
    fn a_random_text_is_new_for_each_object() {
        let evaluated = evaluated("r/!{firehose:random-string}/", Purpose::Rows, &[]);
        let (one, two) = (settled(&evaluated), settled(&evaluated));
        assert!(one != two && one.len() == "r//".len() + RANDOM_CHARACTERS, "{one} {two}");
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for wrong in [
            "!{timestamp:yyyy",
            "!{time:yyyy}",
            "!{firehose:error-output-type}/",
            "!{timestamp:VV}",
            "!{timestamp:ddd}",
            "!{timestamp:cc}",
            "!{timestamp:yyyy]}",
            "!{timestamp:HH 'open}",
        ] {
            assert!(Prefix::parse(wrong, Purpose::Rows).is_err(), "{wrong}");
        }
        for wrong in ["!{timestamp:yyyy}/", "!{firehose:error-output-type}/!{partitionKeyFromQuery:k}/"] {
            assert!(Prefix::parse(wrong, Purpose::Errors).is_err(), "{wrong}");
        }
    }
}
