//! `format_number`: a number in three digits and a unit.
//!
//! Invariant: below a thousand a number loses its fraction, as in Trino.

use headwater_engine::error::Result;

use super::super::{
    Family,
    column::{F64, I64, Text},
    define::{Definition, scalar},
    kernel::text1,
};

fn write(value: i64, out: &mut Text) -> Result<bool> {
    const UNITS: [&str; 6] = ["", "K", "M", "B", "T", "Q"];
    if value < 0 {
        out.push('-');
    }
    let whole = value.unsigned_abs();
    let mut unit = 0;
    let mut scale = 1_u64;
    while unit + 1 < UNITS.len() && whole / scale >= 1_000 {
        scale *= 1_000;
        unit += 1;
    }
    let scaled = whole as f64 / scale as f64;
    let digits = match scaled {
        _ if unit == 0 => 0,
        _ if value < 0 => 2,
        s if s >= 100.0 => 0,
        s if s >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{scaled:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    out.push_str(text);
    out.push_str(UNITS[unit]);
    Ok(true)
}

/// The function.
pub(super) fn definitions() -> Vec<Definition> {
    vec![
        scalar(Family::String, "format_number", "a number in up to three digits with a unit (K, M, B, T, Q)")
            .on("format_number(bigint) -> varchar", text1::<I64>(write))
            .on("format_number(double) -> varchar", text1::<F64>(|value, out| write(value as i64, out)))
            .example("SELECT format_number(123456)", "123K"),
    ]
}
