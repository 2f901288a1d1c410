//! `WITH` options as a connector reads them: each key is taken once with its type, and what is left over is an error.
//!
//! Invariant: no option is silently ignored; an unknown key names the nearest known one of its table.

use std::time::Duration;

use headwater_engine::{
    catalog::Properties,
    error::{Error, Result},
};

/// Reads the options of one table; [`Options::finish`] refuses what nobody asked for.
#[derive(Debug)]
pub struct Options {
    table: String,
    left: Properties,
    taken: Properties,
    known: Vec<String>,
}

impl Options {
    /// The options of a table.
    pub fn new(table: impl Into<String>, options: &Properties) -> Self {
        Self { table: table.into(), left: options.clone(), taken: Properties::new(), known: Vec::new() }
    }

    /// Takes a text; one that is shared (by the formats of key and value) may be taken again.
    pub fn text(&mut self, key: &str) -> Option<String> {
        self.known.push(key.to_owned());
        if let Some(value) = self.left.remove(key) {
            self.taken.insert(key.to_owned(), value);
        }
        self.taken.get(key).cloned()
    }

    /// Takes a text that must be there.
    pub fn required(&mut self, key: &str) -> Result<String> {
        self.text(key).ok_or_else(|| {
            Error::user("INVALID_TABLE_PROPERTY", format!("table \"{}\" needs the option '{key}'", self.table))
                .with_hint(format!("add '{key}' = '..' to its WITH clause"))
        })
    }

    /// Takes a whole number.
    pub fn number(&mut self, key: &str) -> Result<Option<u64>> {
        self.parsed(key, "a whole number", |text| text.trim().parse().ok())
    }

    /// Takes a whole number from 1 to `max`.
    pub fn bounded(&mut self, key: &str, max: u64) -> Result<Option<u64>> {
        match self.number(key)? {
            Some(value) if value == 0 || value > max => {
                Err(self.invalid(key, &value.to_string(), &format!("a number from 1 to {max}")))
            }
            value => Ok(value),
        }
    }

    /// Takes `true` or `false`.
    pub fn flag(&mut self, key: &str) -> Result<Option<bool>> {
        self.parsed(key, "true or false", |text| match text.trim().to_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        })
    }

    /// Takes a length of time such as `10 s`, `500ms`, `1 h`; a bare number is milliseconds.
    pub fn duration(&mut self, key: &str) -> Result<Option<Duration>> {
        self.parsed(key, "a length of time such as '10 s' or '500 ms'", parse_duration)
    }

    /// Takes a size such as `128 MB`, `64kb`; a bare number is bytes. Units are powers of two.
    pub fn size(&mut self, key: &str) -> Result<Option<u64>> {
        self.parsed(key, "a size such as '128 MB'", parse_size)
    }

    /// Takes one of a list of words, compared without regard to case.
    pub fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Result<Option<T>> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let found = |text: &str| choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(text.trim())).map(|c| c.1);
        self.parsed(key, &format!("one of {}", words.join(", ")), found)
    }

    /// Takes every option whose key starts with `prefix`, without the prefix.
    pub fn prefixed(&mut self, prefix: &str) -> Properties {
        self.known.push(format!("{prefix}*"));
        let (taken, left) = std::mem::take(&mut self.left).into_iter().partition(|(key, _)| key.starts_with(prefix));
        self.left = left;
        let taken: Properties = taken;
        taken.into_iter().map(|(key, value)| (key[prefix.len()..].to_owned(), value)).collect()
    }

    /// Takes options without reading them (those of the other direction, or of another reader type).
    pub fn accept(&mut self, keys: &[&str]) {
        for key in keys {
            self.text(key);
        }
    }

    /// An error about the value of an option.
    pub fn invalid(&self, key: &str, value: &str, wanted: &str) -> Error {
        Error::user(
            "INVALID_TABLE_PROPERTY",
            format!("table \"{}\": option '{key}' = '{value}' is not {wanted}", self.table),
        )
    }

    /// Refuses what is left over.
    pub fn finish(self) -> Result<()> {
        let Some(unknown) = self.left.keys().next() else { return Ok(()) };
        let error =
            Error::user("INVALID_TABLE_PROPERTY", format!("table \"{}\": unknown option '{unknown}'", self.table));
        Err(match nearest(unknown, self.known.iter().map(String::as_str)) {
            Some(known) => error.with_hint(format!("did you mean '{known}'?")),
            None => error.with_hint(format!("known options: {}", self.known.join(", "))),
        })
    }

    fn parsed<T>(&mut self, key: &str, wanted: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>> {
        let Some(text) = self.text(key) else { return Ok(None) };
        parse(&text).map(Some).ok_or_else(|| self.invalid(key, &text, wanted))
    }
}

/// The known name nearest to a wrong one, if any is near enough to be meant.
pub fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |name: &&str| strsim::damerau_levenshtein(&wrong.to_lowercase(), &name.to_lowercase());
    let near = known.min_by_key(distance)?;
    (distance(&near) <= 2.max(wrong.chars().count() / 3)).then_some(near)
}

/// A length of time: a number with `ms`, `s`, `min`, `h` or `d`, spelled out or not; a bare number is milliseconds.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let seconds = match unit.to_lowercase().as_str() {
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => number / 1e3,
        "us" | "micro" | "micros" | "microsecond" | "microseconds" => number / 1e6,
        "s" | "sec" | "secs" | "second" | "seconds" => number,
        "m" | "min" | "mins" | "minute" | "minutes" => number * 60.0,
        "h" | "hour" | "hours" => number * 3600.0,
        "d" | "day" | "days" => number * 86400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

/// A size: a number with `b`, `kb`, `mb`, `gb` or `tb` (powers of two), spelled in any case; a bare number is bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text)?;
    let shift = match unit.to_lowercase().as_str() {
        "" | "b" | "bytes" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    let bytes = number * (1_u64 << shift) as f64;
    (bytes.is_finite() && bytes >= 0.0 && bytes < u64::MAX as f64).then_some(bytes as u64)
}

fn split_unit(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        let map = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Options::new("t", &map)
    }

    #[test]
    fn durations_and_sizes_have_units() {
        assert_eq!(parse_duration("10 s"), Some(Duration::from_secs(10)));
        assert_eq!(parse_duration("1.5min"), Some(Duration::from_secs(90)));
        assert_eq!(parse_duration("250"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("ten"), None);
        assert_eq!(parse_size("128 MB"), Some(134_217_728));
        assert_eq!(parse_size("1.5k"), Some(1536));
        assert_eq!(parse_size("-1"), None);
    }

    #[test]
    fn an_unknown_option_names_the_nearest_known_one() {
        let mut options = options(&[("topci", "a")]);
        assert_eq!(options.text("topic"), None);
        let error = options.finish().unwrap_err();
        assert_eq!(error.message(), "table \"t\": unknown option 'topci'");
        assert_eq!(error.hint(), Some("did you mean 'topic'?"));
    }

    #[test]
    fn a_wrong_value_says_what_is_wanted() {
        let error =
            options(&[("scan.mode", "fast")]).choice("scan.mode", &[("earliest", 1), ("latest", 2)]).unwrap_err();
        assert_eq!(error.message(), "table \"t\": option 'scan.mode' = 'fast' is not one of earliest, latest");
    }

    #[test]
    fn prefixed_options_lose_their_prefix() {
        let mut options = options(&[("properties.group.id", "g"), ("topic", "t")]);
        assert_eq!(options.prefixed("properties.").get("group.id").map(String::as_str), Some("g"));
        assert_eq!(options.required("topic").ok().as_deref(), Some("t"));
        assert!(options.finish().is_ok());
    }
}
