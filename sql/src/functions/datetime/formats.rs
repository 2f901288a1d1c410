//! `date_format`, `date_parse`, `format_datetime` and `parse_datetime`.
//!
//! Invariant: a format is compiled once for a batch when it is constant.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array},
    datatypes::{DataType, TimeUnit},
};
use chrono::{Datelike, Utc};
use headwater_engine::error::Result;

use super::{
    super::{
        Family,
        column::{Compiled, Str, Text, retype},
        define::{Definition, scalar},
        kernel::{invalid, whole},
        scalar::{Call, Kernel, Typing},
    },
    moments::Moments,
    pattern::Pattern,
    print::{Day, Printed, print},
    read::read,
    zone::Zone,
};

fn joda(format: &str) -> Result<Pattern> {
    Pattern::joda(format, i64::from(Utc::now().year()))
}

fn print_kernel(compile: fn(&str) -> Result<Pattern>, zone_wanted: bool) -> Kernel {
    whole(move |call: &Call<'_>| -> Result<ArrayRef> {
        let (moments, formats) = (Moments::new(call, 0)?, call.column::<Str>(1)?);
        let (mut pattern, mut day) = (Compiled::default(), Day::default());
        let mut out = Text::new(call.rows, call.result);
        let zone = moments.zone.unwrap_or(Zone::Fixed(0));
        for row in 0..call.rows {
            let (Some(instant), Some(format)) = (moments.get(row), formats.value(row)) else {
                out.end(false);
                continue;
            };
            let pattern = pattern.get(format, compile)?;
            if zone_wanted && moments.zone.is_none() && pattern.names_zone() {
                return Err(invalid(
                    "format_datetime for TIMESTAMP type, cannot use 'Z' nor 'z' in format, as this type does not \
                     contain TZ information",
                ));
            }
            let instant = moments.scale.to_whole_millis(instant);
            let local = moments.to_local(instant);
            let moment = Printed { local, instant, scale: moments.scale, zone, fraction_digits: 3 };
            print(pattern, moment, &mut day, &mut out);
            out.end(true);
        }
        out.finish()
    })
}

fn date_parse_kernel(call: &Call<'_>) -> Result<ArrayRef> {
    let (texts, formats) = (call.column::<Str>(0)?, call.column::<Str>(1)?);
    let mut pattern = Compiled::default();
    let mut out = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        out.push(match (texts.value(row), formats.value(row)) {
            (Some(text), Some(format)) => Some(read(pattern.get(format, Pattern::mysql)?, text)?.millis),
            _ => None,
        });
    }
    retype(&(Arc::new(Int64Array::from(out)) as ArrayRef), call.result)
}

fn parse_datetime_kernel(call: &Call<'_>) -> Result<ArrayRef> {
    let (texts, formats) = (call.column::<Str>(0)?, call.column::<Str>(1)?);
    let mut pattern = Compiled::default();
    let mut out = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        out.push(match (texts.value(row), formats.value(row)) {
            (Some(text), Some(format)) => {
                let parsed = read(pattern.get(format, joda)?, text)?;
                let zone = parsed.zone.as_deref().map_or(Ok(Zone::Fixed(0)), Zone::parse)?;
                Some(parsed.millis - zone.offset_at_local(parsed.millis.div_euclid(1_000)) * 1_000)
            }
            _ => None,
        });
    }
    retype(&(Arc::new(Int64Array::from(out)) as ArrayRef), call.result)
}

/// The zone is part of the type, so only a constant text can decide it; others are shown in UTC.
fn parsed_type(typing: &Typing<'_>) -> Result<DataType> {
    let zone = match (typing.text(0), typing.text(1)) {
        (Some(text), Some(format)) => joda(format).and_then(|pattern| read(&pattern, text)).ok().and_then(|p| p.zone),
        _ => None,
    };
    Ok(DataType::Timestamp(TimeUnit::Millisecond, Some(zone.as_deref().unwrap_or("UTC").into())))
}

/// Finds the zones that texts name.
#[derive(Debug, Default)]
pub(crate) struct ZoneReader(Compiled<Pattern>);

impl ZoneReader {
    /// The zone of a text in ISO 8601.
    pub(crate) fn iso(text: &str) -> Option<String> {
        super::iso::timestamp(text).map(|read| read.zone_name())
    }

    /// The zone of a text by Joda's letters.
    pub(crate) fn letters(&mut self, text: &str, letters: &str) -> Option<String> {
        read(self.0.get(letters, joda).ok()?, text).ok()?.zone
    }
}

/// The functions.
pub(super) fn definitions() -> Vec<Definition> {
    let datetime = |name, summary| scalar(Family::DateTime, name, summary);
    vec![
        datetime("date_format", "a timestamp as text, by MySQL's format codes")
            .on("date_format(timestamp(p), varchar) -> varchar", print_kernel(Pattern::mysql, false))
            .on("date_format(timestamp(p) with time zone, varchar) -> varchar", print_kernel(Pattern::mysql, false))
            .example("SELECT date_format(TIMESTAMP '2024-06-05 13:04:09', '%Y-%m-%d %H:%i')", "2024-06-05 13:04"),
        datetime("date_parse", "the timestamp a text stands for, by MySQL's format codes")
            .on("date_parse(varchar, varchar) -> timestamp(3)", whole(date_parse_kernel))
            .example("SELECT date_parse('5/6/2024', '%d/%m/%Y')", "2024-06-05 00:00:00.000"),
        datetime("format_datetime", "a timestamp as text, by Joda's format letters")
            .on("format_datetime(timestamp(p), varchar) -> varchar", print_kernel(joda, true))
            .on("format_datetime(timestamp(p) with time zone, varchar) -> varchar", print_kernel(joda, true))
            .example("SELECT format_datetime(TIMESTAMP '2024-06-05 13:04:09', 'EEE d MMM yyyy')", "Wed 5 Jun 2024"),
        datetime("parse_datetime", "the timestamp with time zone a text stands for, by Joda's format letters")
            .on_typed(
                "parse_datetime(varchar, varchar) -> timestamp(3) with time zone",
                parsed_type,
                whole(parse_datetime_kernel),
            )
            .example("SELECT parse_datetime('2024/06', 'yyyy/MM')", "2024-06-01 00:00:00.000 UTC"),
    ]
}
