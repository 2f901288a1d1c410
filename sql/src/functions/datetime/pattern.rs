//! Format strings as a list of pieces: MySQL's codes (`%Y-%m-%d`) and Joda's letters (`yyyy-MM-dd`).
//!
//! Invariant: both notations compile to the same pieces, which one printer and one reader understand.

use headwater_engine::error::{Error, Result};

use super::super::kernel::invalid;

/// One piece of a format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text as it is.
    Literal(String),
    /// A number with so many digits at least when printed, so many at most when read.
    Number(Field, usize, usize),
    /// The last two digits of a year, and the year whose century is meant (50 before to 49 after).
    TwoDigits(Field, i64),
    /// A name, short or long.
    Name(Named, bool),
    /// Digits of the second's fraction: printed, and read at most.
    Fraction(usize, usize),
    /// The offset, with a colon or without.
    Offset(bool),
    /// The zone's identifier.
    ZoneId,
    /// The zone's abbreviation.
    ZoneName,
}

/// A numeric field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Years of the era, from 1.
    Century,
    /// Year.
    Year,
    /// Year of the ISO week.
    WeekYear,
    /// ISO week.
    Week,
    /// 1 = Monday.
    DayOfWeek,
    /// Day of the year.
    DayOfYear,
    /// Month.
    Month,
    /// Day of the month.
    Day,
    /// 0 to 11.
    HalfHour0,
    /// 1 to 12.
    HalfHour,
    /// 0 to 23.
    Hour,
    /// 1 to 24.
    ClockHour,
    /// Minute.
    Minute,
    /// Second.
    Second,
}

/// A field shown by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// AD or BC.
    Era,
    /// January.
    Month,
    /// Monday.
    Day,
    /// AM or PM.
    Half,
}

/// A compiled format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// Its pieces.
    pub pieces: Vec<Piece>,
}

impl Pattern {
    /// Whether it shows the zone.
    pub fn names_zone(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Offset(_) | Piece::ZoneId | Piece::ZoneName))
    }

    /// Compiles MySQL's notation.
    pub fn mysql(format: &str) -> Result<Self> {
        let mut builder = Builder::default();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            match c {
                '%' => {
                    let code = chars.next().ok_or_else(nothing)?;
                    mysql_code(code, &mut builder)?;
                }
                c => builder.literal(c),
            }
        }
        if format.is_empty() {
            return Err(nothing());
        }
        Ok(builder.finish())
    }

    /// Compiles Joda's notation; `this_year` decides the century of two digits.
    pub fn joda(format: &str, this_year: i64) -> Result<Self> {
        if format.is_empty() {
            return Err(invalid("invalid pattern specification"));
        }
        let mut builder = Builder::default();
        let tokens = joda_tokens(format)?;
        for (index, token) in tokens.iter().enumerate() {
            match token {
                Token::Text(text) => text.chars().for_each(|c| builder.literal(c)),
                Token::Letters(letter, count) => {
                    let adjacent =
                        matches!(tokens.get(index + 1), Some(Token::Letters(next, n)) if is_number(*next, *n));
                    joda_letters(*letter, *count, adjacent, this_year, &mut builder)?;
                }
            }
        }
        Ok(builder.finish())
    }
}

fn nothing() -> Error {
    invalid("both printing and parsing not supported")
}

#[derive(Default)]
struct Builder {
    pieces: Vec<Piece>,
    text: String,
}

impl Builder {
    fn literal(&mut self, c: char) {
        self.text.push(c);
    }

    fn push(&mut self, piece: Piece) {
        if !self.text.is_empty() {
            self.pieces.push(Piece::Literal(std::mem::take(&mut self.text)));
        }
        self.pieces.push(piece);
    }

    fn number(&mut self, field: Field, digits: usize) {
        let longest = match field {
            Field::DayOfYear => 3,
            Field::Year | Field::WeekYear => 4,
            Field::Century => 9,
            Field::DayOfWeek => 1,
            _ => 2,
        };
        self.push(Piece::Number(field, digits, longest));
    }

    fn finish(mut self) -> Pattern {
        if !self.text.is_empty() {
            self.pieces.push(Piece::Literal(self.text));
        }
        Pattern { pieces: self.pieces }
    }
}

fn mysql_code(code: char, out: &mut Builder) -> Result<()> {
    match code {
        'a' => out.push(Piece::Name(Named::Day, true)),
        'b' => out.push(Piece::Name(Named::Month, true)),
        'c' => out.number(Field::Month, 1),
        'd' => out.number(Field::Day, 2),
        'e' => out.number(Field::Day, 1),
        'f' => out.push(Piece::Fraction(6, 9)),
        'H' => out.number(Field::Hour, 2),
        'h' | 'I' => out.number(Field::HalfHour, 2),
        'i' => out.number(Field::Minute, 2),
        'j' => out.number(Field::DayOfYear, 3),
        'k' => out.number(Field::Hour, 1),
        'l' => out.number(Field::HalfHour, 1),
        'M' => out.push(Piece::Name(Named::Month, false)),
        'm' => out.number(Field::Month, 2),
        'p' => out.push(Piece::Name(Named::Half, false)),
        'r' => {
            mysql_clock(Field::HalfHour, out);
            out.literal(' ');
            out.push(Piece::Name(Named::Half, false));
        }
        'S' | 's' => out.number(Field::Second, 2),
        'T' => mysql_clock(Field::Hour, out),
        'v' => out.number(Field::Week, 2),
        'W' => out.push(Piece::Name(Named::Day, false)),
        'x' => out.number(Field::WeekYear, 4),
        'Y' => out.number(Field::Year, 4),
        'y' => out.push(Piece::TwoDigits(Field::Year, 2020)),
        'D' | 'U' | 'u' | 'V' | 'w' | 'X' => {
            return Err(invalid(format!("%{code} not supported in date format string")));
        }
        other => out.literal(other),
    }
    Ok(())
}

fn mysql_clock(hour: Field, out: &mut Builder) {
    out.number(hour, 2);
    out.literal(':');
    out.number(Field::Minute, 2);
    out.literal(':');
    out.number(Field::Second, 2);
}

enum Token {
    Text(String),
    Letters(char, usize),
}

fn joda_tokens(format: &str) -> Result<Vec<Token>> {
    let chars: Vec<char> = format.chars().collect();
    let (mut at, mut tokens) = (0, Vec::new());
    while let Some(&c) = chars.get(at) {
        if c.is_ascii_alphabetic() {
            let count = chars[at..].iter().take_while(|&&next| next == c).count();
            tokens.push(Token::Letters(c, count));
            at += count;
        } else if c == '\'' {
            let (text, after) = quoted(&chars, at + 1);
            tokens.push(Token::Text(text));
            at = after;
        } else {
            tokens.push(Token::Text(c.to_string()));
            at += 1;
        }
    }
    Ok(tokens)
}

/// The text of a quotation that begins before `at`, and where it ends; two quotes are one.
fn quoted(chars: &[char], mut at: usize) -> (String, usize) {
    if chars.get(at) == Some(&'\'') {
        return ("'".to_owned(), at + 1);
    }
    let mut text = String::new();
    while let Some(&c) = chars.get(at) {
        if c != '\'' {
            text.push(c);
        } else if chars.get(at + 1) == Some(&'\'') {
            text.push('\'');
            at += 1;
        } else {
            return (text, at + 1);
        }
        at += 1;
    }
    (text, at)
}

fn is_number(letter: char, count: usize) -> bool {
    match letter {
        'c' | 'C' | 'x' | 'y' | 'Y' | 'd' | 'h' | 'H' | 'm' | 's' | 'S' | 'e' | 'D' | 'F' | 'w' | 'W' | 'k' | 'K' => {
            true
        }
        'M' => count <= 2,
        _ => false,
    }
}

fn joda_letters(letter: char, count: usize, adjacent: bool, this_year: i64, out: &mut Builder) -> Result<()> {
    let year = |field: Field, out: &mut Builder| {
        if count == 2 {
            out.push(Piece::TwoDigits(field, this_year - 30));
        } else {
            out.push(Piece::Number(field, count, if adjacent { count } else { 9 }));
        }
    };
    match letter {
        'G' => out.push(Piece::Name(Named::Era, true)),
        'C' => out.push(Piece::Number(Field::Century, count, count.max(2))),
        'Y' | 'y' => year(Field::Year, out),
        'x' => year(Field::WeekYear, out),
        'w' => out.number(Field::Week, count),
        'e' => out.number(Field::DayOfWeek, count),
        'E' => out.push(Piece::Name(Named::Day, count < 4)),
        'D' => out.number(Field::DayOfYear, count),
        'M' if count >= 3 => out.push(Piece::Name(Named::Month, count == 3)),
        'M' => out.number(Field::Month, count),
        'd' => out.number(Field::Day, count),
        'a' => out.push(Piece::Name(Named::Half, false)),
        'K' => out.number(Field::HalfHour0, count),
        'h' => out.number(Field::HalfHour, count),
        'H' => out.number(Field::Hour, count),
        'k' => out.number(Field::ClockHour, count),
        'm' => out.number(Field::Minute, count),
        's' => out.number(Field::Second, count),
        'S' => out.push(Piece::Fraction(count, count)),
        'z' => out.push(Piece::ZoneName),
        'Z' if count >= 3 => out.push(Piece::ZoneId),
        'Z' => out.push(Piece::Offset(count == 2)),
        other => return Err(invalid(format!("illegal pattern component: {other}"))),
    }
    Ok(())
}
