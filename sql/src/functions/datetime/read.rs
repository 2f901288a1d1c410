//! Reading a moment by the pieces of a format.
//!
//! Invariant: fields are saved in the order they are read; what they mean together is decided in `resolve`.

use headwater_engine::error::{Error, Result};

use super::{
    super::kernel::invalid,
    civil::{days_of, month_length},
    pattern::{Field, Named, Pattern, Piece},
    print::{DAYS, MONTHS},
    resolve::{Saved, resolve},
    zone::{Zone, canonical_name, offset_text, parse_offset},
};

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Local milliseconds since 1970.
    pub millis: i64,
    /// The zone, if the text named one.
    pub zone: Option<String>,
}

#[derive(Debug, Default)]
struct Fields {
    saved: Vec<(Saved, i64)>,
    zone: Option<String>,
    before_christ: bool,
}

impl Fields {
    fn save(&mut self, field: Field, value: i64) {
        self.saved.push((Saved::Number(field), value));
    }

    /// The fields, with years before Christ as Joda counts them.
    fn of_era(self) -> Vec<(Saved, i64)> {
        let before = self.before_christ;
        let year = |(field, value)| match field {
            Saved::Number(Field::Year) if before => (field, 1 - value),
            _ => (field, value),
        };
        self.saved.into_iter().map(year).collect()
    }
}

/// Reads a text by a format.
pub fn read(pattern: &Pattern, text: &str) -> Result<Parsed> {
    match plain(pattern, text) {
        Some(millis) => Ok(Parsed { millis, zone: None }),
        None => read_fields(pattern, text),
    }
}

fn read_fields(pattern: &Pattern, text: &str) -> Result<Parsed> {
    let mut fields = Fields::default();
    let mut rest = text;
    for piece in &pattern.pieces {
        rest = read_piece(piece, rest, &mut fields).ok_or_else(|| malformed(text, rest))?;
    }
    if !rest.is_empty() {
        return Err(malformed(text, rest));
    }
    let zone = fields.zone.take();
    let millis = resolve(fields.of_era()).map_err(|problem| invalid(format!("cannot parse \"{text}\": {problem}")))?;
    Ok(Parsed { millis, zone })
}

/// A whole date, and a time or a part of one, written in numbers: what most texts are, without a list of fields. `None`
/// for every other format, and for texts that are not in the ranges of the calendar.
fn plain(pattern: &Pattern, text: &str) -> Option<i64> {
    let (mut date, mut time, mut fraction) = ([None; 3], [None; 3], None);
    let mut rest = text;
    for piece in &pattern.pieces {
        let place = match piece {
            Piece::Literal(literal) => {
                rest = rest.strip_prefix(literal.as_str())?;
                continue;
            }
            Piece::Fraction(_, longest) => {
                let digits = rest.bytes().take(*longest).take_while(u8::is_ascii_digit).count();
                let (head, tail) = rest.split_at(digits);
                let shown = head.bytes().chain(std::iter::repeat(b'0')).take(3);
                let millis = shown.fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
                rest = tail;
                (digits > 0 && fraction.replace(millis).is_none()).then_some(())?;
                continue;
            }
            Piece::Number(field, _, longest) => {
                let place = match field {
                    Field::Year => date.get_mut(0),
                    Field::Month => date.get_mut(1),
                    Field::Day => date.get_mut(2),
                    Field::Hour => time.get_mut(0),
                    Field::Minute => time.get_mut(1),
                    Field::Second => time.get_mut(2),
                    _ => None,
                }?;
                let digits = rest.bytes().take(*longest).take_while(u8::is_ascii_digit).count();
                (1..=9).contains(&digits).then_some(())?;
                let (head, tail) = rest.split_at(digits);
                rest = tail;
                place.replace(head.bytes().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'))).is_none()
            }
            _ => return None,
        };
        place.then_some(())?;
    }
    let [Some(year), Some(month), Some(day)] = date else { return None };
    let [hour, minute, second] = time.map(|part| part.unwrap_or(0));
    let whole = rest.is_empty()
        && (0..10_000).contains(&year)
        && (1..=12).contains(&month)
        && (1..=month_length(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    whole.then(|| {
        ((days_of(year, month, day) * 24 + hour) * 60 + minute) * 60_000 + second * 1_000 + fraction.unwrap_or(0)
    })
}

fn malformed(text: &str, rest: &str) -> Error {
    if rest.is_empty() {
        invalid(format!("invalid format: \"{text}\" is too short"))
    } else if rest == text {
        invalid(format!("invalid format: \"{text}\""))
    } else {
        invalid(format!("invalid format: \"{text}\" is malformed at \"{rest}\""))
    }
}

/// Reads one piece; what is left of the text.
fn read_piece<'a>(piece: &Piece, text: &'a str, fields: &mut Fields) -> Option<&'a str> {
    match piece {
        Piece::Literal(literal) => {
            let head = text.get(..literal.len())?;
            head.eq_ignore_ascii_case(literal).then(|| &text[literal.len()..])
        }
        Piece::Number(field, _, longest) => {
            let signed = matches!(field, Field::Year | Field::WeekYear);
            let (value, rest) = number(text, *longest, signed)?;
            fields.save(*field, value);
            Some(rest)
        }
        Piece::TwoDigits(field, pivot) => {
            let digits = text.bytes().take_while(u8::is_ascii_digit).count();
            let (value, rest) = number(text, if digits == 2 { 2 } else { 9 }, false)?;
            let low = pivot - 50;
            let year = if digits == 2 { low + (value - low).rem_euclid(100) } else { value };
            fields.save(*field, year);
            Some(rest)
        }
        Piece::Name(name, _) => read_name(*name, text, fields),
        Piece::Fraction(_, longest) => {
            let digits = text.bytes().take(*longest).take_while(u8::is_ascii_digit).count();
            let shown = format!("{:0<3}", &text[..digits]);
            fields.saved.push((Saved::Fraction, shown.get(..3)?.parse().ok()?));
            (digits > 0).then(|| &text[digits..])
        }
        Piece::Offset(_) => read_offset(text, fields),
        Piece::ZoneId => read_zone_id(text, fields),
        Piece::ZoneName => read_zone_name(text, fields),
    }
}

fn number(text: &str, longest: usize, signed: bool) -> Option<(i64, &str)> {
    let sign = usize::from(signed && text.starts_with(['-', '+']));
    let digits = text[sign..].bytes().take(longest).take_while(u8::is_ascii_digit).count();
    let end = sign + digits;
    (digits > 0).then(|| Some((text[..end].parse().ok()?, &text[end..])))?
}

fn strip_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let head = text.get(..word.len())?;
    head.eq_ignore_ascii_case(word).then(|| &text[word.len()..])
}

fn read_name<'a>(name: Named, text: &'a str, fields: &mut Fields) -> Option<&'a str> {
    let (names, field): (&[&str], _) = match name {
        Named::Month => (&MONTHS, Field::Month),
        Named::Day => (&DAYS, Field::DayOfWeek),
        Named::Half => {
            let (half, rest) = [("AM", 0), ("PM", 1)].iter().find_map(|(w, h)| Some((*h, strip_word(text, w)?)))?;
            fields.saved.push((Saved::Half, half));
            return Some(rest);
        }
        Named::Era => {
            let (bc, rest) =
                [("AD", false), ("BC", true)].iter().find_map(|(w, b)| Some((*b, strip_word(text, w)?)))?;
            fields.before_christ = bc;
            return Some(rest);
        }
    };
    for (index, long) in names.iter().enumerate() {
        let rest = strip_word(text, long).or_else(|| strip_word(text, long.get(..3)?));
        if let Some(rest) = rest {
            fields.save(field, i64::try_from(index + 1).ok()?);
            return Some(rest);
        }
    }
    None
}

fn read_offset<'a>(text: &'a str, fields: &mut Fields) -> Option<&'a str> {
    if let Some(rest) = text.strip_prefix(['Z', 'z']) {
        fields.zone = Some("UTC".to_owned());
        return Some(rest);
    }
    let length = text.bytes().take(6).take_while(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b':')).count();
    let (seconds, used) = (3..=length).rev().find_map(|end| Some((parse_offset(text.get(..end)?)?, end)))?;
    fields.zone = Some(if seconds == 0 { "UTC".to_owned() } else { offset_text(i64::from(seconds), true) });
    Some(&text[used..])
}

fn read_zone_id<'a>(text: &'a str, fields: &mut Fields) -> Option<&'a str> {
    let letter = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '+' | '-' | ':');
    let length = text.chars().take_while(letter).count();
    let (name, used) = (1..=length).rev().find_map(|end| {
        let name = text.get(..end)?;
        Zone::find(name)?;
        Some((canonical_name(name).ok()?, end))
    })?;
    fields.zone = Some(name);
    Some(&text[used..])
}

fn read_zone_name<'a>(text: &'a str, fields: &mut Fields) -> Option<&'a str> {
    const NAMES: [(&str, &str); 11] = [
        ("UTC", "UTC"),
        ("UT", "UTC"),
        ("GMT", "UTC"),
        ("EST", "America/New_York"),
        ("EDT", "America/New_York"),
        ("CST", "America/Chicago"),
        ("CDT", "America/Chicago"),
        ("MST", "America/Denver"),
        ("MDT", "America/Denver"),
        ("PST", "America/Los_Angeles"),
        ("PDT", "America/Los_Angeles"),
    ];
    let (zone, rest) = NAMES.iter().find_map(|(name, zone)| Some((*zone, text.strip_prefix(name)?)))?;
    fields.zone = Some(zone.to_owned());
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_dates_are_what_their_fields_say() {
        let formats =
            ["%Y-%m-%d %H:%i:%s", "%d/%m/%Y", "%Y%m%d", "%s.%f %d.%m.%Y", "%Y-%m-%d %Y", "%Y-%m", "%Y-%m-%dT%H"];
        let numbers =
            ["0", "1", "02", "7", "12", "13", "24", "28", "29", "30", "31", "59", "60", "1900", "2000", "2024", "+1"];
        let (mut plainly, mut seed) = (0, 1_u64);
        for _ in 0..20_000 {
            let mut draw = |count: usize| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (seed >> 33) as usize % count
            };
            let format = formats[draw(formats.len())];
            let text: String = format
                .split_inclusive(|c: char| c.is_ascii_alphabetic())
                .map(|piece| match piece.split_once('%') {
                    Some((between, code)) if code != "T" => {
                        let number = if code == "Y" { numbers[13 + draw(4)] } else { numbers[draw(numbers.len())] };
                        format!("{between}{number}")
                    }
                    _ => piece.to_owned(),
                })
                .collect();
            let pattern = Pattern::mysql(format).unwrap();
            if let Some(millis) = plain(&pattern, &text) {
                plainly += 1;
                let fields = read_fields(&pattern, &text).unwrap();
                assert_eq!(fields, Parsed { millis, zone: None }, "{text} by {format}");
            }
        }
        assert!(plainly > 500, "only {plainly} were plain");
    }
}
