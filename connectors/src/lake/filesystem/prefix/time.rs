//! Time patterns as Java's DateTimeFormatter has them in the locale of the United States, as far as dates and times of day go.
//!
//! | letters | shown |
//! |---|---|
//! | `G` | `AD` |
//! | `u y` | year; two letters: its last two digits |
//! | `Y w W` | year, week of it and week of the month, where weeks begin on Sunday and the first has day 1 |
//! | `Q q` | quarter: `3`, `03`, `Q3`, `3rd quarter`, `3` |
//! | `M L` | month: `7`, `07`, `Jul`, `July`, `J` |
//! | `d D` | day of the month, of the year |
//! | `E`, `e c` | day of the week: `Fri`, `Friday`, `F`; by number from Sunday on for one or two letters |
//! | `a`, `h K k H` | `AM` or `PM`; hour of 1-12, 0-11, 1-24, 0-23 |
//! | `m s S`, `A n N` | minute, second, fraction; milliseconds of the day, nanoseconds of the second and of the day |
//!
//! `'text'` stands for itself, and `[..]`, Java's optional section, for what is in it, since nothing of a time is missing.
//! Zones, offsets, `F`, whose meaning changed between versions of Java, and `p` are not among them.
//!
//! Invariant: a letter that is not understood is refused, never written as it is.

use std::{iter::Peekable, str::Chars};

use chrono::{Datelike, NaiveDateTime, Timelike};

/// A piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TimePart {
    Text(String),
    /// A letter of Java's formatter and how often it stands there.
    Field(char, usize),
}

/// A pattern of Java's DateTimeFormatter, as far as dates and times of day go.
pub(super) fn parse(pattern: &str) -> Result<Vec<TimePart>, String> {
    let (mut parts, mut letters, mut open) = (Vec::new(), pattern.chars().peekable(), 0_usize);
    while let Some(letter) = letters.next() {
        match letter {
            '\'' => {
                let quoted = quoted(&mut letters)?;
                parts.push(TimePart::Text(if quoted.is_empty() { "'".to_owned() } else { quoted }));
            }
            '[' => open += 1,
            ']' => open = open.checked_sub(1).ok_or("a time pattern has a \"]\" without its \"[\"")?,
            '{' | '#' => return Err(format!("\"{letter}\" in a time pattern is to be in quotes")),
            letter if letter.is_ascii_alphabetic() => {
                let mut count = 1;
                while letters.next_if_eq(&letter).is_some() {
                    count += 1;
                }
                match letters_max(letter) {
                    0 => return Err(format!("the letter {letter} of a time pattern is not supported")),
                    most if count > most || (letter, count) == ('c', 2) => {
                        return Err(format!("{count} letters {letter} in a time pattern are not supported"));
                    }
                    _ => parts.push(TimePart::Field(letter, count)),
                }
            }
            other => parts.push(TimePart::Text(other.to_string())),
        }
    }
    Ok(parts)
}

/// How often a letter may stand one after the other; 0 of one that is not known.
fn letters_max(letter: char) -> usize {
    match letter {
        'W' | 'a' => 1,
        'd' | 'H' | 'h' | 'K' | 'k' | 'm' | 's' | 'w' => 2,
        'D' => 3,
        'G' | 'M' | 'L' | 'Q' | 'q' | 'E' | 'e' | 'c' => 5,
        'S' => 9,
        'u' | 'y' | 'Y' | 'A' | 'n' | 'N' => 19,
        _ => 0,
    }
}

/// The text up to the next quote; two quotes are one of it.
fn quoted(letters: &mut Peekable<Chars<'_>>) -> Result<String, String> {
    let mut text = String::new();
    loop {
        match letters.next() {
            Some('\'') if letters.next_if_eq(&'\'').is_none() => return Ok(text),
            Some(letter) => text.push(letter),
            None => return Err("a quote of a time pattern is not closed".to_owned()),
        }
    }
}

impl TimePart {
    pub(super) fn write(&self, time: NaiveDateTime, out: &mut String) {
        let (letter, count) = match self {
            Self::Text(text) => return out.push_str(text),
            Self::Field(letter, count) => (*letter, *count),
        };
        match words(letter, count, time) {
            Some(words) => out.push_str(&words),
            None => out.push_str(&format!("{:0count$}", number(letter, count, time))),
        }
    }
}

/// A field that is shown in words, or in digits that are not those of a number.
fn words(letter: char, count: usize, time: NaiveDateTime) -> Option<String> {
    let named = |short: &str, full: &str| {
        let full = time.format(full).to_string();
        match count {
            4 => full,
            5 => full.chars().take(1).collect(),
            _ => time.format(short).to_string(),
        }
    };
    let quarter = time.month0() / 3;
    Some(match (letter, count) {
        ('G', 4) => "Anno Domini".to_owned(),
        ('G', 5) => "A".to_owned(),
        ('G', _) => "AD".to_owned(),
        ('M' | 'L', 3..) => named("%b", "%B"),
        ('E', _) | ('e' | 'c', 3..) => named("%a", "%A"),
        ('Q' | 'q', 3) => format!("Q{}", quarter + 1),
        ('Q' | 'q', 4) => format!("{} quarter", ["1st", "2nd", "3rd", "4th"][quarter as usize % 4]),
        ('Q' | 'q', 5) => (quarter + 1).to_string(),
        ('a', _) => String::from(if time.hour() < 12 { "AM" } else { "PM" }),
        ('S', _) => format!("{:09}", time.nanosecond() % 1_000_000_000)[..count].to_owned(),
        _ => return None,
    })
}

fn number(letter: char, count: usize, time: NaiveDateTime) -> i64 {
    let from_sunday = time.weekday().num_days_from_sunday();
    // The week of the last days of December is the first of the next year if that begins in it.
    let is_next_year = time.month() == 12 && time.day() + 6 - from_sunday > 31;
    let year = i64::from(time.year()) + i64::from(letter == 'Y' && is_next_year);
    // Weeks since the Sunday at or before day 1 of the month or year.
    let week = |day0: u32| (day0 + (from_sunday + 7 - day0 % 7) % 7) / 7 + 1;
    let nanos_of_day = i64::from(time.num_seconds_from_midnight()) * 1_000_000_000 + i64::from(time.nanosecond());
    match letter {
        'u' | 'y' | 'Y' if count == 2 => year % 100,
        'u' | 'y' | 'Y' => year,
        'w' if is_next_year => 1,
        'w' => i64::from(week(time.ordinal0())),
        'W' => i64::from(week(time.day0())),
        'Q' | 'q' => i64::from(time.month0() / 3 + 1),
        'M' | 'L' => i64::from(time.month()),
        'd' => i64::from(time.day()),
        'D' => i64::from(time.ordinal()),
        'e' | 'c' => i64::from(from_sunday + 1),
        'h' => i64::from(time.hour12().1),
        'K' => i64::from(time.hour() % 12),
        'k' if time.hour() == 0 => 24,
        'H' | 'k' => i64::from(time.hour()),
        'm' => i64::from(time.minute()),
        's' => i64::from(time.second()),
        'A' => nanos_of_day / 1_000_000,
        'N' => nanos_of_day,
        _ => i64::from(time.nanosecond()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Java 17 shows them.
    #[test]
    fn weeks_begin_on_sunday_and_hours_have_four_countings() {
        for (time, expected) in [
            ("2023-01-01T00:30:00", "2023-1-01-1 12 0 24 AM"),
            ("2024-03-02T11:00:00", "2024-9-09-1 11 11 11 AM"),
            ("2026-12-26T12:00:00", "2026-52-52-4 12 0 12 PM"),
            ("2026-12-27T12:00:00", "2027-1-01-5 12 0 12 PM"),
            ("2027-01-01T01:00:00", "2027-1-01-1 1 1 1 AM"),
            ("2028-12-30T23:00:00", "2028-53-53-5 11 11 23 PM"),
        ] {
            let mut shown = String::new();
            let time: NaiveDateTime = time.parse().unwrap();
            parse("YYYY-w-ww-W h K k a").unwrap().iter().for_each(|part| part.write(time, &mut shown));
            assert_eq!(shown, expected);
        }
    }
}
