//! ISO 8601 texts: dates by month, ordinal day or week; timestamps with fraction and offset.
//!
//! Invariant: a text without an offset is in the session's zone, UTC.

use super::{
    civil::{days_of, is_leap, iso_monday, iso_weeks, month_length},
    print::zone_id,
    zone::{Zone, parse_offset},
};

/// A text read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Iso {
    /// Local nanoseconds into the day.
    pub nanos: i64,
    /// Days since 1970.
    pub days: i64,
    /// The offset written, if any.
    pub zone: Option<Zone>,
}

impl Iso {
    /// The name of the zone.
    pub fn zone_name(&self) -> String {
        zone_id(self.zone.unwrap_or(Zone::Fixed(0)))
    }
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn eat(&mut self, byte: u8) -> bool {
        let found = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    fn digits(&mut self, longest: usize) -> Option<(i64, usize)> {
        let count = self.text[self.at..].iter().take(longest).take_while(|b| b.is_ascii_digit()).count();
        let text = std::str::from_utf8(&self.text[self.at..self.at + count]).ok()?;
        self.at += count;
        Some((text.parse().ok()?, count))
    }

    fn ranged(&mut self, low: i64, high: i64) -> Option<i64> {
        let (value, _) = self.digits(2)?;
        (low..=high).contains(&value).then_some(value)
    }

    fn done(&self) -> bool {
        self.at == self.text.len()
    }
}

/// Reads a date: `2024`, `2024-06`, `2024-06-15`, `2024-167`, `2024-W24`, `2024-W24-6`.
pub fn date(text: &str) -> Option<i64> {
    let mut reader = Reader { text: text.as_bytes(), at: 0 };
    let days = read_date(&mut reader)?;
    reader.done().then_some(days)
}

/// Reads a date with or without a time and an offset.
pub fn timestamp(text: &str) -> Option<Iso> {
    let mut reader = Reader { text: text.as_bytes(), at: 0 };
    let days = read_date(&mut reader)?;
    let (mut nanos, mut zone) = (0, None);
    if reader.eat(b'T') {
        nanos = read_time(&mut reader)?;
        if !reader.done() {
            let rest = text.get(reader.at..)?;
            zone = Some(if rest == "Z" { Zone::Fixed(0) } else { Zone::Fixed(parse_offset(rest)?) });
            reader.at = text.len();
        }
    }
    reader.done().then_some(Iso { nanos, days, zone })
}

fn read_date(reader: &mut Reader<'_>) -> Option<i64> {
    let negative = reader.eat(b'-');
    if !negative {
        reader.eat(b'+');
    }
    let (year, _) = reader.digits(9)?;
    let year = if negative { -year } else { year };
    if !reader.eat(b'-') {
        return Some(days_of(year, 1, 1));
    }
    if reader.eat(b'W') {
        let week = reader.ranged(1, iso_weeks(year))?;
        let day = if reader.eat(b'-') { reader.digits(1)?.0 } else { 1 };
        return (1..=7).contains(&day).then(|| iso_monday(year, week) + day - 1);
    }
    let start = reader.at;
    let (value, count) = reader.digits(3)?;
    if count == 3 {
        return (1..=365 + i64::from(is_leap(year))).contains(&value).then(|| days_of(year, 1, 1) + value - 1);
    }
    reader.at = start;
    let month = reader.ranged(1, 12)?;
    let day = if reader.eat(b'-') { reader.ranged(1, month_length(year, month))? } else { 1 };
    Some(days_of(year, month, day))
}

fn read_time(reader: &mut Reader<'_>) -> Option<i64> {
    let mut nanos = reader.ranged(0, 23)? * 3_600_000_000_000;
    if reader.eat(b':') {
        nanos += reader.ranged(0, 59)? * 60_000_000_000;
        if reader.eat(b':') {
            nanos += reader.ranged(0, 59)? * 1_000_000_000;
            if reader.eat(b'.') || reader.eat(b',') {
                let start = reader.at;
                reader.digits(18)?;
                let digits = std::str::from_utf8(reader.text.get(start..reader.at)?).ok()?;
                nanos += format!("{digits:0<9}").get(..9)?.parse::<i64>().ok()?;
            }
        }
    }
    Some(nanos)
}
