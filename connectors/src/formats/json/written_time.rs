//! Timestamps as JSON text, written digit by digit: a calendar library reads its format string again for each value.
//!
//! Invariant: the text is that of the format `%Y-%m-%d %H:%M:%S`, with `T` and `Z` in ISO-8601, and a fraction of three
//! digits always (`%.3f`) or, where the rows have finer times, of as many groups of three as there are (`%.f`).

use arrow::{
    array::{Array, AsArray},
    datatypes::{
        DataType, FieldRef, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
        TimestampSecondType,
    },
    error::ArrowError,
    json::{Encoder, EncoderFactory, EncoderOptions, writer::NullableEncoder},
};

const DAY: i64 = 86_400;
const NANOS: i64 = 1_000_000_000;

/// How timestamps are spelled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spelling {
    /// `2026-01-02T03:04:05.678Z` instead of `2026-01-02 03:04:05.678`.
    pub(super) iso: bool,
    /// As many digits of a second as there are, in groups of three.
    pub(super) fine: bool,
}

impl EncoderFactory for Spelling {
    /// An encoder for timestamps without zone or in UTC; others are left to the library, which knows the zones.
    fn make_default_encoder<'a>(
        &self,
        _field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let DataType::Timestamp(unit, zone) = array.data_type() else { return Ok(None) };
        if zone.as_deref().is_some_and(|zone| !matches!(zone, "UTC" | "+00:00")) {
            return Ok(None);
        }
        let (ticks, per_second): (&[i64], i64) = match unit {
            TimeUnit::Second => (array.as_primitive::<TimestampSecondType>().values(), 1),
            TimeUnit::Millisecond => (array.as_primitive::<TimestampMillisecondType>().values(), 1_000),
            TimeUnit::Microsecond => (array.as_primitive::<TimestampMicrosecondType>().values(), 1_000_000),
            TimeUnit::Nanosecond => (array.as_primitive::<TimestampNanosecondType>().values(), NANOS),
        };
        let texts = Texts { spelling: *self, ticks, per_second, last: None, text: Vec::new(), day: None };
        Ok(Some(NullableEncoder::new(Box::new(texts), array.nulls().cloned())))
    }
}

/// The texts of one column. Neighbours often share their time, and nearly always their day.
struct Texts<'a> {
    spelling: Spelling,
    ticks: &'a [i64],
    per_second: i64,
    last: Option<i64>,
    /// The text of `last`, in quotes.
    text: Vec<u8>,
    /// A day with the length of its text, which `text` begins with.
    day: Option<(i64, usize)>,
}

impl Encoder for Texts<'_> {
    fn encode(&mut self, index: usize, out: &mut Vec<u8>) {
        let Some(tick) = self.ticks.get(index).copied() else { return };
        if self.last != Some(tick) {
            self.spell(tick);
            self.last = Some(tick);
        }
        out.extend_from_slice(&self.text);
    }
}

impl Texts<'_> {
    fn spell(&mut self, tick: i64) {
        let seconds = tick.div_euclid(self.per_second);
        let nanos = tick.rem_euclid(self.per_second) * (NANOS / self.per_second);
        let (day, clock) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        match self.day {
            Some((known, length)) if known == day => self.text.truncate(length),
            _ => {
                self.text.clear();
                self.text.push(b'"');
                date(day, &mut self.text);
                self.day = Some((day, self.text.len()));
            }
        }
        let text = &mut self.text;
        text.push(if self.spelling.iso { b'T' } else { b' ' });
        digits(clock / 3_600, 2, text);
        text.push(b':');
        digits(clock / 60 % 60, 2, text);
        text.push(b':');
        digits(clock % 60, 2, text);
        let (fraction, count) = match nanos {
            _ if !self.spelling.fine => (nanos / 1_000_000, 3),
            0 => (0, 0),
            _ if nanos % 1_000_000 == 0 => (nanos / 1_000_000, 3),
            _ if nanos % 1_000 == 0 => (nanos / 1_000, 6),
            _ => (nanos, 9),
        };
        if count > 0 {
            text.push(b'.');
            digits(fraction, count, text);
        }
        if self.spelling.iso {
            text.push(b'Z');
        }
        text.push(b'"');
    }
}

/// `2026-01-02` of a count of days since 1970 (Howard Hinnant, "chrono-compatible low-level date algorithms"); a year of
/// other than four digits has its sign.
fn date(day: i64, out: &mut Vec<u8>) {
    let shifted = day + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    if (0..10_000).contains(&year) {
        digits(year, 4, out);
    } else {
        out.extend_from_slice(format!("{year:+05}").as_bytes());
    }
    out.push(b'-');
    digits(month, 2, out);
    out.push(b'-');
    digits(of_year - (153 * from_march + 2) / 5 + 1, 2, out);
}

/// The last so many digits of a number that is not negative.
fn digits(number: i64, count: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + count, b'0');
    let mut rest = number;
    for place in out.iter_mut().skip(start).rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampSecondArray};
    use chrono::DateTime;
    use proptest::prelude::*;

    use super::*;

    fn spelled(spelling: Spelling, ticks: &[i64], per_second: i64) -> Vec<String> {
        let mut texts = Texts { spelling, ticks, per_second, last: None, text: Vec::new(), day: None };
        let text = |index| {
            let mut out = Vec::new();
            texts.encode(index, &mut out);
            String::from_utf8(out).unwrap()
        };
        (0..ticks.len()).map(text).collect()
    }

    fn with_chrono(spelling: Spelling, tick: i64, per_second: i64) -> String {
        let nanos = tick.rem_euclid(per_second) * (NANOS / per_second);
        let time = DateTime::from_timestamp(tick.div_euclid(per_second), nanos as u32).unwrap().naive_utc();
        let fraction = if spelling.fine { "%.f" } else { "%.3f" };
        let format = match spelling.iso {
            true => format!("\"%Y-%m-%dT%H:%M:%S{fraction}Z\""),
            false => format!("\"%Y-%m-%d %H:%M:%S{fraction}\""),
        };
        time.format(&format).to_string()
    }

    proptest! {
        #[test]
        fn the_text_is_that_of_the_calendar_library(
            seconds in -100_000_000_000i64..400_000_000_000,
            steps in prop::collection::vec((-100_000i64..100_000, 0i64..NANOS), 1..20),
            iso: bool,
            fine: bool,
        ) {
            let spelling = Spelling { iso, fine };
            for per_second in [1, 1_000, 1_000_000, NANOS] {
                // Nanoseconds of 64 bits end in 2262.
                let seconds = if per_second == NANOS { seconds % 9_000_000_000 } else { seconds };
                let tick = |(step, nanos): &(i64, i64)| (seconds + step) * per_second + nanos / (NANOS / per_second);
                let ticks: Vec<i64> = steps.iter().flat_map(|step| [tick(step), tick(step)]).collect();
                let expected: Vec<String> = ticks.iter().map(|tick| with_chrono(spelling, *tick, per_second)).collect();
                prop_assert_eq!(spelled(spelling, &ticks, per_second), expected);
            }
        }
    }

    #[test]
    fn only_times_without_zone_or_in_utc_are_taken() {
        let spelling = Spelling { iso: false, fine: false };
        let millis = || TimestampMillisecondArray::from(vec![Some(1), None]);
        let cases: [(ArrayRef, bool); 5] = [
            (std::sync::Arc::new(millis()), true),
            (std::sync::Arc::new(millis().with_timezone("UTC")), true),
            (std::sync::Arc::new(millis().with_timezone("Asia/Tokyo")), false),
            (std::sync::Arc::new(TimestampSecondArray::from(vec![1])), true),
            (std::sync::Arc::new(TimestampMicrosecondArray::from(vec![1])), true),
        ];
        for (array, taken) in cases {
            let field: FieldRef =
                std::sync::Arc::new(arrow::datatypes::Field::new("t", array.data_type().clone(), true));
            let options = EncoderOptions::default();
            let encoder = spelling.make_default_encoder(&field, &array, &options).unwrap();
            assert_eq!(encoder.is_some(), taken, "{}", array.data_type());
        }
    }
}
