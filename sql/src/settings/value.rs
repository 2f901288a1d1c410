//! How the value of a setting is written: counts, sizes, times.
//!
//! Invariant: `parse(&show(v)) == v`.

use std::time::Duration;

/// A number of bytes; MB and the like are powers of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteCount(pub u64);

/// The value of a setting.
pub trait SettingValue: Sized {
    /// Reads it, or says what is expected.
    fn parse(text: &str) -> Result<Self, String>;
    /// Writes it.
    fn show(&self) -> String;
}

impl SettingValue for bool {
    fn parse(text: &str) -> Result<Self, String> {
        match text.to_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("true or false".to_owned()),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl SettingValue for usize {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "a whole number of at least 1".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl SettingValue for u32 {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "a whole number".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl SettingValue for String {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("a text that is not empty".to_owned()) } else { Ok(text.to_owned()) }
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl<T: SettingValue> SettingValue for Option<T> {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { T::parse(text).map(Some) }
    }

    fn show(&self) -> String {
        self.as_ref().map(T::show).unwrap_or_default()
    }
}

/// Splits `10 s` into its number and its unit.
fn number_and_unit(text: &str) -> Option<(u64, String)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..digits].parse().ok()?;
    Some((number, text[digits..].trim().to_lowercase()))
}

const SIZES: &[(&str, u64)] = &[("TB", 1 << 40), ("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)];

impl SettingValue for ByteCount {
    fn parse(text: &str) -> Result<Self, String> {
        let parsed = number_and_unit(text).and_then(|(number, unit)| {
            let scale = match unit.as_str() {
                "" | "b" | "bytes" => 1,
                "k" | "kb" | "kib" => 1 << 10,
                "m" | "mb" | "mib" => 1 << 20,
                "g" | "gb" | "gib" => 1 << 30,
                "t" | "tb" | "tib" => 1 << 40,
                _ => return None,
            };
            number.checked_mul(scale)
        });
        parsed.map(Self).ok_or_else(|| "a size such as 512 MB".to_owned())
    }

    fn show(&self) -> String {
        match SIZES.iter().find(|(_, scale)| self.0 > 0 && self.0.is_multiple_of(*scale)) {
            Some((unit, scale)) => format!("{} {unit}", self.0 / scale),
            None => format!("{} bytes", self.0),
        }
    }
}

const TIMES: &[(&str, u64)] = &[("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1)];

impl SettingValue for Duration {
    fn parse(text: &str) -> Result<Self, String> {
        let parsed = number_and_unit(text).and_then(|(number, unit)| {
            let unit = match unit.as_str() {
                "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => "ms",
                "s" | "sec" | "second" | "seconds" => "s",
                "m" | "min" | "minute" | "minutes" => "min",
                "h" | "hour" | "hours" => "h",
                "d" | "day" | "days" => "d",
                _ => return None,
            };
            let (_, scale) = TIMES.iter().find(|(name, _)| *name == unit)?;
            number.checked_mul(*scale)
        });
        parsed.map(Self::from_millis).ok_or_else(|| "a time such as 10 s".to_owned())
    }

    fn show(&self) -> String {
        let millis = u64::try_from(self.as_millis()).unwrap_or(u64::MAX);
        match TIMES.iter().find(|(_, scale)| millis > 0 && millis.is_multiple_of(*scale)) {
            Some((unit, scale)) => format!("{} {unit}", millis / scale),
            None => "0 s".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_round_trip() {
        for (text, bytes) in [("512 MB", 512 << 20), ("1 GB", 1 << 30), ("17 bytes", 17), ("1536 KB", 1536 << 10)] {
            assert_eq!(ByteCount::parse(text).map(|count| count.0), Ok(bytes));
            assert_eq!(ByteCount(bytes).show(), text);
        }
        for (text, millis) in
            [("10 s", 10_000), ("1500 ms", 1500), ("2 min", 120_000), ("7 d", 604_800_000), ("0 s", 0)]
        {
            assert_eq!(Duration::parse(text), Ok(Duration::from_millis(millis)));
            assert_eq!(Duration::from_millis(millis).show(), text);
        }
        assert!(Duration::parse("soon").is_err() && ByteCount::parse("1 parsec").is_err());
    }
}
