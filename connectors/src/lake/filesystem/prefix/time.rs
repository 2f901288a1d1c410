//! Time patterns as Java's DateTimeFormatter has them, as far as dates and times of day go.
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
    let (mut parts, mut letters) = (Vec::new(), pattern.chars().peekable());
    while let Some(letter) = letters.next() {
        match letter {
            '\'' => {
                let quoted = quoted(&mut letters)?;
                parts.push(TimePart::Text(if quoted.is_empty() { "'".to_owned() } else { quoted }));
            }
            'y' | 'u' | 'Y' | 'M' | 'd' | 'D' | 'H' | 'm' | 's' | 'S' => {
                let mut count = 1;
                while letters.next_if_eq(&letter).is_some() {
                    count += 1;
                }
                let is_known = match letter {
                    'M' => count <= 4,
                    'd' | 'H' | 'm' | 's' => count <= 2,
                    'D' => count <= 3,
                    _ => true,
                };
                if !is_known {
                    return Err(format!("{count} letters {letter} in a time pattern are not supported"));
                }
                parts.push(TimePart::Field(letter, count));
            }
            letter if letter.is_ascii_alphabetic() => {
                return Err(format!("the letter {letter} of a time pattern is not supported"));
            }
            other => parts.push(TimePart::Text(other.to_string())),
        }
    }
    Ok(parts)
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
        if letter == 'M' && count > 2 {
            return out.push_str(&time.format(if count == 3 { "%b" } else { "%B" }).to_string());
        }
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
