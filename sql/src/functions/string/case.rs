//! Case, trimming and padding.
//!
//! Invariant: lengths count characters (code points); `lower` and `upper` map one character to one, as Java's
//! `Character` does.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, StringArray},
    buffer::{Buffer, OffsetBuffer, ScalarBuffer},
};
use headwater_engine::error::Result;

use super::super::{
    Family,
    column::{Bytes, I64, Str, Text, ToBytes},
    define::{Definition, scalar},
    kernel::{invalid, text1, text2, text3, value1, value3, whole},
    scalar::{Call, Kernel},
};

fn string(name: &'static str, summary: &'static str) -> Definition {
    scalar(Family::String, name, summary)
}

fn lower(c: char) -> char {
    let mut mapped = c.to_lowercase();
    match (mapped.next(), mapped.next()) {
        (Some(one), None) => one,
        _ if c == '\u{130}' => 'i',
        _ => c,
    }
}

fn upper(c: char) -> char {
    let mut mapped = c.to_uppercase();
    match (mapped.next(), mapped.next()) {
        (Some(one), None) => one,
        _ => c,
    }
}

/// Maps each character; a column that is all ASCII is mapped as one text and keeps its offsets.
fn map_kernel(ascii: fn(&[u8]) -> Vec<u8>, map: fn(char) -> char) -> Kernel {
    whole(move |call: &Call<'_>| {
        let array = call.argument(0)?.array.as_string::<i32>();
        let offsets = array.value_offsets();
        let (first, last) = (offsets.first().copied().unwrap_or(0), offsets.last().copied().unwrap_or(0));
        let bytes = array.value_data().get(first as usize..last as usize).unwrap_or_default();
        if array.len() == call.rows && bytes.is_ascii() {
            let offsets: ScalarBuffer<i32> = offsets.iter().map(|offset| offset - first).collect();
            let values = Buffer::from(ascii(bytes));
            let mapped: ArrayRef =
                Arc::new(StringArray::try_new(OffsetBuffer::new(offsets), values, array.nulls().cloned())?);
            return Ok(mapped);
        }
        let texts = call.column::<Str>(0)?;
        let mut out = Text::new(call.rows, call.result);
        for row in 0..call.rows {
            let text = texts.value(row);
            text.into_iter().flat_map(str::chars).map(map).for_each(|c| out.push(c));
            out.end(text.is_some());
        }
        out.finish()
    })
}

/// What Java calls white space: Unicode spaces except the non-breaking ones, and the control characters of layout.
pub fn is_space(c: char) -> bool {
    matches!(c, '\t'..='\r' | '\u{1c}'..='\u{1f}')
        || (c.is_whitespace() && !matches!(c, '\u{a0}' | '\u{2007}' | '\u{202f}' | '\u{85}'))
}

fn trims() -> Vec<Definition> {
    vec![
        string("trim", "a text without the white space, or the characters given, at both ends")
            .on("trim(varchar) -> varchar", text1::<Str>(|text, out| put(text.trim_matches(is_space), out)))
            .on(
                "trim(varchar, varchar) -> varchar",
                text2::<Str, Str>(|text, set, out| put(text.trim_matches(|c| set.contains(c)), out)),
            )
            .example("SELECT trim('  a ')", "a"),
        string("ltrim", "a text without the white space, or the characters given, at its beginning")
            .on("ltrim(varchar) -> varchar", text1::<Str>(|text, out| put(text.trim_start_matches(is_space), out)))
            .on(
                "ltrim(varchar, varchar) -> varchar",
                text2::<Str, Str>(|text, set, out| put(text.trim_start_matches(|c| set.contains(c)), out)),
            )
            .example("SELECT ltrim('xxa', 'x')", "a"),
        string("rtrim", "a text without the white space, or the characters given, at its end")
            .on("rtrim(varchar) -> varchar", text1::<Str>(|text, out| put(text.trim_end_matches(is_space), out)))
            .on(
                "rtrim(varchar, varchar) -> varchar",
                text2::<Str, Str>(|text, set, out| put(text.trim_end_matches(|c| set.contains(c)), out)),
            )
            .example("SELECT rtrim('axx', 'x')", "a"),
    ]
}

/// Writes a whole value.
pub fn put(text: &str, out: &mut Text) -> Result<bool> {
    out.push_str(text);
    Ok(true)
}

/// How many of `padding`'s characters go before or after the text, or where it is cut.
fn pad(text: &str, size: i64, padding: &str, left: bool, out: &mut Text) -> Result<bool> {
    let size = pad_size(size)?;
    if padding.is_empty() {
        return Err(invalid("padding string must not be empty"));
    }
    let length = text.chars().count();
    if length >= size {
        let end = text.char_indices().nth(size).map_or(text.len(), |(at, _)| at);
        return put(&text[..end], out);
    }
    if !left {
        out.push_str(text);
    }
    padding.chars().cycle().take(size - length).for_each(|c| out.push(c));
    if left {
        out.push_str(text);
    }
    Ok(true)
}

fn pad_size(size: i64) -> Result<usize> {
    const SIZE_MAX: i64 = i32::MAX as i64;
    if !(0..=SIZE_MAX).contains(&size) {
        return Err(invalid(format!("target length must be in the range [0..{SIZE_MAX}]")));
    }
    usize::try_from(size).map_err(|_| invalid("target length is negative"))
}

fn pad_bytes(bytes: &[u8], size: i64, padding: &[u8], left: bool) -> Result<Option<Vec<u8>>> {
    let size = pad_size(size)?;
    if padding.is_empty() {
        return Err(invalid("padding bytes must not be empty"));
    }
    if bytes.len() >= size {
        return Ok(Some(bytes[..size].to_vec()));
    }
    let fill = padding.iter().copied().cycle().take(size - bytes.len());
    Ok(Some(if left {
        fill.chain(bytes.iter().copied()).collect()
    } else {
        bytes.iter().copied().chain(fill).collect()
    }))
}

/// The functions.
pub(super) fn definitions() -> Vec<Definition> {
    let mut all = vec![
        string("lower", "a text in small letters")
            .on("lower(varchar) -> varchar", map_kernel(<[u8]>::to_ascii_lowercase, lower))
            .example("SELECT lower('ÀB')", "àb"),
        string("upper", "a text in capitals")
            .on("upper(varchar) -> varchar", map_kernel(<[u8]>::to_ascii_uppercase, upper))
            .example("SELECT upper('straße')", "STRAßE"),
        string("lpad", "a text filled up at its beginning, or cut, to a length")
            .on(
                "lpad(varchar, bigint, varchar) -> varchar",
                text3::<Str, I64, Str>(|t, n, p, out| pad(t, n, p, true, out)),
            )
            .on(
                "lpad(varbinary, bigint, varbinary) -> varbinary",
                value3::<Bytes, I64, Bytes, ToBytes>(|b, n, p| pad_bytes(b, n, p, true)),
            )
            .example("SELECT lpad('7', 3, '0')", "007"),
        string("rpad", "a text filled up at its end, or cut, to a length")
            .on(
                "rpad(varchar, bigint, varchar) -> varchar",
                text3::<Str, I64, Str>(|t, n, p, out| pad(t, n, p, false, out)),
            )
            .on(
                "rpad(varbinary, bigint, varbinary) -> varbinary",
                value3::<Bytes, I64, Bytes, ToBytes>(|b, n, p| pad_bytes(b, n, p, false)),
            )
            .example("SELECT rpad('a', 3, 'xy')", "axy"),
        string("reverse", "a text, bytes or an array from its end to its beginning")
            .on(
                "reverse(varchar) -> varchar",
                text1::<Str>(|text, out| {
                    text.chars().rev().for_each(|c| out.push(c));
                    Ok(true)
                }),
            )
            .on(
                "reverse(varbinary) -> varbinary",
                value1::<Bytes, ToBytes>(|bytes| Ok(Some(bytes.iter().rev().copied().collect()))),
            )
            .on_typed(
                "reverse(array(E)) -> array(E)",
                super::super::define::like_first,
                super::super::array::reverse_kernel(),
            )
            .example("SELECT reverse('héllo')", "olléh"),
    ];
    all.extend(trims());
    all
}
