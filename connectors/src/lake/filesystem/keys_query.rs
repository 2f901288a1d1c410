//! `sink.partition-keys-query`: partition keys taken from the raw record by a JQ query, as Firehose does it.
//!
//! Invariant: numbers are what jq 1.6 makes of them: doubles, printed with the fewest digits.

use std::fmt;

use headwater_engine::error::{Error, Result};
use jaq_core::{
    Compiler, Ctx, Vars,
    data::JustLut,
    load::{Arena, File, Loader},
    unwrap_valr,
};
use jaq_json::{Num, Val, read};

use super::failure::Failure;

/// A compiled query.
pub(super) struct KeysQuery {
    filter: jaq_core::Filter<JustLut<Val>>,
}

impl fmt::Debug for KeysQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeysQuery")
    }
}

impl KeysQuery {
    /// Compiles a query.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let invalid = |why: String| {
            Error::user("INVALID_TABLE_PROPERTY", format!("'sink.partition-keys-query' = '{text}': {why}"))
                .with_hint("write an object of keys, as in {name: .name}")
        };
        let defs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let funs = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
        let arena = Arena::default();
        let modules = Loader::new(defs).load(&arena, File { code: text, path: () });
        let modules = modules.map_err(|_| invalid("it is no JQ".to_owned()))?;
        let filter = Compiler::default().with_funs(funs).compile(modules);
        let filter = filter.map_err(|errors| {
            let unknown = errors.iter().flat_map(|(_, errors)| errors).map(|(name, _)| format!("\"{name}\""));
            invalid(format!("{} is not defined", unknown.collect::<Vec<_>>().join(", ")))
        })?;
        Ok(Self { filter })
    }

    /// The values of these keys for a record.
    pub(super) fn keys<'k>(
        &self,
        record: &[u8],
        names: impl Iterator<Item = &'k str>,
    ) -> std::result::Result<Vec<String>, Failure> {
        let parsed = read::parse_single(record).map_err(|_| Failure::no_key("Non JSON record provided"))?;
        let context = Ctx::<JustLut<Val>>::new(&self.filter.lut, Vars::new([]));
        let found = self.filter.id.run((context, as_jq_has_it(parsed))).map(unwrap_valr).next();
        let keys = match found {
            Some(Ok(Val::Obj(keys))) => keys,
            Some(Ok(_)) | None => return Err(Failure::no_key("the query does not give an object of keys")),
            Some(Err(error)) => return Err(Failure::no_key(error.to_string())),
        };
        let value = |name: &str| {
            let value = keys.get(&Val::from(name.to_owned())).map(text).unwrap_or_default();
            let message = "partitionKeys values must not be null or empty";
            if value.is_empty() { Err(Failure::no_key(message)) } else { Ok(value) }
        };
        names.map(value).collect()
    }
}

/// A value with its numbers as doubles, and as integers where they are whole.
fn as_jq_has_it(value: Val) -> Val {
    match value {
        Val::Num(number) => Val::Num(double(&number)),
        Val::Arr(items) => items.iter().cloned().map(as_jq_has_it).collect(),
        Val::Obj(members) => {
            Val::obj(members.iter().map(|(key, value)| (key.clone(), as_jq_has_it(value.clone()))).collect())
        }
        other @ (Val::Null | Val::Bool(_) | Val::BStr(_) | Val::TStr(_)) => other,
    }
}

/// Largest whole number that a double holds with all its neighbours.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

fn double(number: &Num) -> Num {
    let value = number.to_string().parse::<f64>().unwrap_or(f64::NAN);
    if value.fract() == 0.0 && value.abs() <= WHOLE_MAX { Num::Int(value as isize) } else { Num::Float(value) }
}

fn text(value: &Val) -> String {
    match value {
        Val::Null => String::new(),
        Val::TStr(text) | Val::BStr(text) => String::from_utf8_lossy(text).into_owned(),
        Val::Num(number) => number_text(number.to_string().parse().unwrap_or(f64::NAN)),
        other @ (Val::Bool(_) | Val::Arr(_) | Val::Obj(_)) => other.to_string(),
    }
}

/// A number as jq 1.6 prints it: plain up to fifteen zeros behind its digits, else with an exponent.
fn number_text(value: f64) -> String {
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return "null".to_owned() };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let count = digits.bytes().filter(u8::is_ascii_digit).count();
    let point = exponent + 1;
    if point > -4 && point <= i32::try_from(count).unwrap_or(i32::MAX) + 15 {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(query: &str, record: &str, names: &[&str]) -> std::result::Result<Vec<String>, String> {
        let query = KeysQuery::parse(query).unwrap();
        query.keys(record.as_bytes(), names.iter().copied()).map_err(|failure| failure.reason())
    }

    #[test]
    fn keys_are_taken_as_firehose_takes_them() {
        let query = r#"{event_name:.name, event_date:.tstamp | split(".")[0] | strptime("%Y-%m-%d %H:%M:%S") | strftime("%Y-%m")}"#;
        let record = "{\"name\": \"visited\", \"tstamp\": \"2023-06-18 14:27:52.000000\"}\n";
        assert_eq!(keys(query, record, &["event_date", "event_name"]).unwrap(), ["2023-06", "visited"]);
        assert_eq!(keys("{n: .n}", "{\"n\": 10000000000000001}", &["n"]).unwrap(), ["1e+16"]);
        for (number, expected) in [("1.0", "1"), ("1.10", "1.1"), ("-3", "-3"), ("0.5e1", "5")] {
            let record = format!("{{\"n\": {number}}}");
            assert_eq!(keys("{n: .n}", &record, &["n"]).unwrap(), [expected], "{number}");
            assert_eq!(keys("{n: (.n | tostring)}", &record, &["n"]).unwrap(), [expected], "{number} as text");
        }
        assert_eq!(keys("{a: .a.b}", "{\"a\": {\"b\": true}}", &["a"]).unwrap(), ["true"]);
    }

    #[test]
    fn a_record_without_its_key_says_why() {
        let refused = |record, wanted: &str| {
            let why = keys("{n: .n}", record, &["n"]).unwrap_err();
            assert!(why.starts_with("metadata-extraction-failed: ") && why.contains(wanted), "{why}");
        };
        refused("no json", "Non JSON record provided");
        refused("{\"n\": 1}{\"n\": 2}", "Non JSON record provided");
        refused("{\"n\": null}", "must not be null or empty");
        refused("{\"n\": \"\"}", "must not be null or empty");
        refused("{}", "must not be null or empty");
        refused("3", "index");
        assert!(KeysQuery::parse("{n: .n").is_err() && KeysQuery::parse("nothing_of_this(.)").is_err());
    }
}
