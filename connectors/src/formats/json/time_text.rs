//! Texts and numbers that are dates, times of day and timestamps.
//!
//! Invariant: digits beyond a column's precision are cut, never rounded, and a time with an offset becomes UTC.

use super::options::TimestampStandard;

/// A point in time without calendar: seconds since 1970 and nanoseconds within the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) seconds: i64,
    pub(super) nanos: u32,
}

impl Moment {
    /// The moment in units of 10^-`digits` seconds.
    #[inline]
    pub(super) fn in_unit(self, digits: u32) -> Option<i64> {
        let (units, nanos) = match digits {
            0 => (1, 0),
            3 => (1000, self.nanos / 1_000_000),
            6 => (1_000_000, self.nanos / 1000),
            _ => (10i64.pow(digits), self.nanos / 10u32.pow(9 - digits)),
        };
        self.seconds.checked_mul(units)?.checked_add(i64::from(nanos))
    }
}

/// What a text says, before anyone asks whether such a day exists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Civil {
    pub(super) year: i64,
    pub(super) month: u32,
    pub(super) day: u32,
    pub(super) hour: u32,
    pub(super) minute: u32,
    pub(super) second: u32,
    pub(super) nanos: u32,
    /// Seconds east of Greenwich, where the text says.
    pub(super) offset: Option<i32>,
    /// `T` or a blank; 0 for a date alone.
    pub(super) separator: u8,
}

/// Days since 1970-01-01 of a day of the proleptic Gregorian calendar; months beyond 12 and days beyond the month roll over.
#[inline]
pub(super) fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let (year, month) = (year + i64::from(month.saturating_sub(1) / 12), (month.saturating_sub(1) % 12) + 1);
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = i64::from((month + 9) % 12);
    let day_of_year = (153 * shifted + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl Civil {
    /// Whether such a moment exists.
    #[inline]
    pub(super) fn exists(&self) -> bool {
        (1..=12).contains(&self.month)
            && self.day >= 1
            && (self.day <= 28 || self.day <= days_in_month(self.year, self.month))
            && self.hour < 24
            && self.minute < 60
            && self.second < 60
    }

    /// The moment in UTC; what does not exist rolls over.
    #[inline]
    pub(super) fn moment(&self) -> Moment {
        let days = days_from_civil(self.year, self.month, self.day);
        let seconds = i64::from(self.hour) * 3600 + i64::from(self.minute) * 60 + i64::from(self.second);
        Moment { seconds: days * 86_400 + seconds - i64::from(self.offset.unwrap_or(0)), nanos: self.nanos }
    }

    /// Parses `yyyy-m-d[(T| )h:mm[:ss[.f]][Z|+hh[:]mm]]`.
    #[inline]
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        match text.first_chunk::<19>() {
            Some(head) => Self::parse_padded(head, &text[19..]).or_else(|| Self::parse_any(text)),
            None => Self::parse_any(text),
        }
    }

    /// The usual form with every number padded.
    #[inline]
    fn parse_padded(head: &[u8; 19], tail: &[u8]) -> Option<Self> {
        let [y1, y2, y3, y4, m1, m2, m3, m4, d1, d2, separator @ (b' ' | b'T'), time @ ..] = *head else { return None };
        let date = number_pairs([y1, y2, y3, y4, m1, m2, m3, m4], *b"0000-00-")?;
        let days = number_pairs([d1, d2, b'0', b'0', b'0', b'0', b'0', b'0'], *b"00000000")?;
        let time = number_pairs(time, *b"00:00:00")?;
        let year = i64::from(date[0]) * 100 + i64::from(date[2]);
        let (month, day) = (u32::from(date[5]), u32::from(days[0]));
        let (hour, minute, second) = (u32::from(time[0]), u32::from(time[3]), u32::from(time[6]));
        let (nanos, tail) = fraction(tail)?;
        let offset = offset(tail)?;
        Some(Self { year, month, day, hour, minute, second, nanos, offset, separator })
    }

    fn parse_any(text: &[u8]) -> Option<Self> {
        let mut rest = text;
        let year = number(&mut rest, 4, 4)?;
        let month = after(&mut rest, b'-').and_then(|()| number(&mut rest, 1, 2))?;
        let day = after(&mut rest, b'-').and_then(|()| number(&mut rest, 1, 2))?;
        let mut civil = Self { year: i64::from(year), month, day, ..Self::default() };
        let Some((&separator, mut rest)) = rest.split_first() else { return Some(civil) };
        if !matches!(separator, b' ' | b'T') {
            return None;
        }
        civil.separator = separator;
        civil.hour = number(&mut rest, 1, 2)?;
        civil.minute = after(&mut rest, b':').and_then(|()| number(&mut rest, 2, 2))?;
        if after(&mut rest, b':').is_some() {
            civil.second = number(&mut rest, 2, 2)?;
            (civil.nanos, rest) = fraction(rest)?;
        }
        civil.offset = offset(rest)?;
        Some(civil)
    }
}

/// Eight bytes that look like `form`, where 0 stands for any digit: at each digit that another one follows, the number of
/// the two. All bytes are judged and computed at once.
#[inline(always)]
fn number_pairs(text: [u8; 8], form: [u8; 8]) -> Option<[u8; 8]> {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let digits = u64::from_le_bytes(text) ^ u64::from_le_bytes(form);
    let is_digit = form.map(|byte| if byte == b'0' { 0xFF } else { 0 });
    let most = u64::from_le_bytes(is_digit) & (EACH * 9);
    // Beyond nine a byte becomes 0x80 or more; where no digit stands, beyond zero.
    let beyond = digits.wrapping_add(EACH * 0x7F - most) | digits;
    (beyond & (EACH * 0x80) == 0).then(|| (digits * 10 + (digits >> 8)).to_le_bytes())
}

/// Nanoseconds of `.f`, if it is there, and what follows it.
#[inline]
fn fraction(text: &[u8]) -> Option<(u32, &[u8])> {
    let [b'.' | b',', digits @ ..] = text else { return Some((0, text)) };
    if let [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] = digits {
        let millis = u32::from(a - b'0') * 100 + u32::from(b - b'0') * 10 + u32::from(c - b'0');
        return Some((millis * 1_000_000, &[]));
    }
    let length = digits.iter().position(|b| !b.is_ascii_digit()).unwrap_or(digits.len());
    let (mut nanos, mut unit) = (0, 100_000_000);
    for digit in &digits[..length] {
        nanos += u32::from(digit - b'0') * unit;
        unit /= 10;
    }
    (length > 0).then_some((nanos, &digits[length..]))
}

/// The offset a text ends with: `None` for nonsense, `Some(None)` for nothing.
#[inline]
fn offset(text: &[u8]) -> Option<Option<i32>> {
    let text = text.strip_prefix(b" ").unwrap_or(text);
    let two = |tens: u8, ones: u8| -> Option<i32> {
        (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| i32::from(tens - b'0') * 10 + i32::from(ones - b'0'))
    };
    let (sign, hours, minutes) = match *text {
        [] => return Some(None),
        [b'Z' | b'z'] | [b'U', b'T', b'C'] => return Some(Some(0)),
        [sign, a, b, c, d] | [sign, a, b, b':', c, d] => (sign, two(a, b)?, two(c, d)?),
        [sign, a, b] => (sign, two(a, b)?, 0),
        _ => return None,
    };
    let seconds = hours * 3600 + minutes * 60;
    match sign {
        _ if hours > 18 || minutes > 59 => None,
        b'+' => Some(Some(seconds)),
        b'-' => Some(Some(-seconds)),
        _ => None,
    }
}

fn number(rest: &mut &[u8], digits_min: usize, digits_max: usize) -> Option<u32> {
    let length = rest.iter().take(digits_max).take_while(|b| b.is_ascii_digit()).count();
    if length < digits_min {
        return None;
    }
    let (digits, after) = rest.split_at(length);
    *rest = after;
    Some(digits.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0')))
}

fn after(rest: &mut &[u8], wanted: u8) -> Option<()> {
    *rest = rest.strip_prefix(&[wanted])?;
    Some(())
}

/// A timestamp as our short form reads it.
#[inline]
pub(super) fn headwater_timestamp(text: &[u8], standard: TimestampStandard) -> Option<Moment> {
    let civil = Civil::parse(text)?;
    let fits = match standard {
        TimestampStandard::Auto => true,
        TimestampStandard::Sql => civil.separator == b' ' && civil.offset.is_none(),
        TimestampStandard::Iso8601 => civil.separator == b'T',
    };
    (fits && civil.exists()).then(|| civil.moment())
}

/// A timestamp as the OpenX SerDe reads it: an offset only with `T`, no date alone, and what does not exist rolls over.
pub(super) fn openx_timestamp(text: &[u8]) -> Option<Moment> {
    let has_year = text.get(4) == Some(&b'-');
    if !has_year
        && text.iter().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+'))
        && memchr::memchr(b'-', &text[1.min(text.len())..]).is_none()
    {
        let digits = if text.len() >= 13 && memchr::memchr(b'.', text).is_none() { 3 } else { 0 };
        return moment_of_number(text, digits);
    }
    let civil = Civil::parse(text)?;
    (civil.separator == b'T' || civil.separator == b' ' && civil.offset.is_none()).then(|| civil.moment())
}

/// A timestamp as the Hive SerDe reads it: without an offset.
pub(super) fn hive_timestamp(text: &[u8]) -> Option<Moment> {
    let civil = Civil::parse(text)?;
    (civil.offset.is_none() && civil.exists()).then(|| civil.moment())
}

/// A date alone, as days since 1970.
pub(super) fn date(text: &[u8]) -> Option<i32> {
    let civil = Civil::parse_any(text)?;
    (civil.separator == 0 && civil.exists())
        .then(|| days_from_civil(civil.year, civil.month, civil.day))
        .and_then(|days| i32::try_from(days).ok())
}

/// A time of day `h:mm[:ss[.f]]`, in nanoseconds.
pub(super) fn time_of_day(text: &[u8]) -> Option<i64> {
    let mut rest = text;
    let hour = number(&mut rest, 1, 2)?;
    let minute = after(&mut rest, b':').and_then(|()| number(&mut rest, 2, 2))?;
    let (mut second, mut nanos) = (0, 0);
    if after(&mut rest, b':').is_some() {
        second = number(&mut rest, 2, 2)?;
        (nanos, rest) = fraction(rest)?;
    }
    let exists = rest.is_empty() && hour < 24 && minute < 60 && second < 60;
    exists.then(|| i64::from(hour * 3600 + minute * 60 + second) * 1_000_000_000 + i64::from(nanos))
}

/// The moment of a number in units of 10^-`digits` seconds, a fraction included.
#[inline]
pub(super) fn moment_of_number(text: &[u8], digits: u32) -> Option<Moment> {
    let (mantissa, exponent) = super::coerce::decimal_parts(text)?;
    let shift = exponent.checked_add(9 - digits as i32)?;
    let nanos = if shift >= 0 {
        mantissa.checked_mul(10i128.checked_pow(shift as u32)?)?
    } else {
        10i128.checked_pow(shift.unsigned_abs()).map_or(0, |unit| mantissa.div_euclid(unit))
    };
    let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).ok()?;
    Some(Moment { seconds, nanos: nanos.rem_euclid(1_000_000_000) as u32 })
}

/// A Java date pattern of a SerDe's `timestamp.formats`.
#[derive(Debug, Clone)]
pub(super) enum Pattern {
    /// A number of milliseconds.
    Millis,
    /// Fields and literals in order.
    Fields(Vec<PatternItem>),
}

/// A letter of a pattern with its count, or a byte to be met.
#[derive(Debug, Clone, Copy)]
pub(super) enum PatternItem {
    Field(u8, usize),
    Literal(u8),
}

const MONTHS: [&[u8]; 12] =
    [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];

impl Pattern {
    /// Compiles a pattern; `None` when it uses a letter that is not known here.
    pub(super) fn compile(text: &str) -> Option<Self> {
        if text.eq_ignore_ascii_case("millis") {
            return Some(Self::Millis);
        }
        let bytes = text.as_bytes();
        let (mut items, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            match bytes[at] {
                b'\'' => {
                    let length = memchr::memchr(b'\'', &bytes[at + 1..])?;
                    let literal = if length == 0 { b"'".as_slice() } else { &bytes[at + 1..at + 1 + length] };
                    items.extend(literal.iter().map(|&byte| PatternItem::Literal(byte)));
                    at += length + 2;
                }
                letter @ (b'y' | b'u' | b'M' | b'd' | b'H' | b'h' | b'm' | b's' | b'S' | b'a' | b'X' | b'Z') => {
                    let count = bytes[at..].iter().take_while(|&&byte| byte == letter).count();
                    items.push(PatternItem::Field(letter, count));
                    at += count;
                }
                byte if byte.is_ascii_alphabetic() || byte == b'[' || byte == b']' => return None,
                byte => {
                    items.push(PatternItem::Literal(byte));
                    at += 1;
                }
            }
        }
        Some(Self::Fields(items))
    }

    /// The moment a text says by this pattern.
    pub(super) fn parse(&self, text: &[u8]) -> Option<Moment> {
        let Self::Fields(items) = self else { return moment_of_number(text, 3) };
        let mut civil = Civil { year: 1970, month: 1, day: 1, ..Civil::default() };
        let (mut rest, mut is_afternoon) = (text, None);
        for item in items {
            match *item {
                PatternItem::Literal(byte) => after(&mut rest, byte)?,
                PatternItem::Field(b'a', _) => {
                    let (half, tail) = rest.split_at_checked(2)?;
                    is_afternoon = Some(half.eq_ignore_ascii_case(b"pm"));
                    rest = tail;
                }
                PatternItem::Field(b'X' | b'Z', _) => {
                    civil.offset = offset(rest)?;
                    rest = &[];
                }
                PatternItem::Field(letter, count) => civil.field(&mut rest, letter, count)?,
            }
        }
        match is_afternoon {
            Some(true) => civil.hour = civil.hour % 12 + 12,
            Some(false) => civil.hour %= 12,
            None => {}
        }
        (rest.is_empty() && civil.exists()).then(|| civil.moment())
    }
}

impl Civil {
    fn field(&mut self, rest: &mut &[u8], letter: u8, count: usize) -> Option<()> {
        match (letter, count) {
            (b'y' | b'u', 2) => self.year = 2000 + i64::from(number(rest, 2, 2)?),
            (b'y' | b'u', _) => self.year = i64::from(number(rest, count.min(4), count.max(4))?),
            (b'M', 3..) => {
                let (name, tail) = rest.split_at_checked(3)?;
                self.month = MONTHS.iter().position(|month| name.eq_ignore_ascii_case(month))? as u32 + 1;
                *rest = tail;
            }
            (b'S', _) => {
                let length = rest.iter().take(count.min(9)).take_while(|b| b.is_ascii_digit()).count();
                let value = number(rest, 1, length)?;
                self.nanos = value * 10u32.pow(9 - length as u32);
            }
            (_, _) => {
                let value = number(rest, count.min(2), 2)?;
                match letter {
                    b'M' => self.month = value,
                    b'd' => self.day = value,
                    b'H' | b'h' => self.hour = value,
                    b'm' => self.minute = value,
                    _ => self.second = value,
                }
            }
        }
        Some(())
    }
}
