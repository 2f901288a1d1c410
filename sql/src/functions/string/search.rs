//! Finding, cutting and replacing.
//!
//! Invariant: positions count characters from 1.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListBuilder, StringBuilder};
use headwater_engine::error::Result;
use memchr::memmem::Finder;

use super::{
    super::{
        Family,
        column::{Bytes, Column, Compiled, I64, Str, Text, ToBool, ToBytes, ToI32, ToI64},
        define::{Definition, scalar},
        kernel::{invalid, text1, text2, text2_with, text3, text3_with, value1, value2, value2_with, value3, whole},
        nested::{Offsets, as_list},
        scalar::{Call, Kernel},
    },
    case::put,
    columns,
};

fn string(name: &'static str, summary: &'static str) -> Definition {
    scalar(Family::String, name, summary)
}

/// The byte where the character of an index (from 0) begins.
fn byte_of(text: &str, index: usize) -> Option<usize> {
    text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(index)
}

/// The part of `length` from 1-based `start`; a negative start counts from the end.
fn range(total: usize, start: i64, length: Option<i64>) -> Option<(usize, usize)> {
    let count = i64::try_from(total).ok()?;
    let first = match start {
        0 => return None,
        1.. => start - 1,
        _ => count + start,
    };
    let length = length.unwrap_or(count);
    if first < 0 || first >= count || length <= 0 {
        return None;
    }
    Some((usize::try_from(first).ok()?, usize::try_from(first.saturating_add(length).min(count)).ok()?))
}

fn substr(text: &str, start: i64, length: Option<i64>) -> &str {
    if text.is_ascii() {
        return range(text.len(), start, length).and_then(|(from, to)| text.get(from..to)).unwrap_or_default();
    }
    let cut = range(text.chars().count(), start, length);
    cut.and_then(|(from, to)| text.get(byte_of(text, from)?..byte_of(text, to)?)).unwrap_or_default()
}

fn cut(call: &Call<'_>, each: &Kernel) -> Result<ArrayRef> {
    columns::substr(call, range, each)
}

/// A kernel for a whole column, and the one for each row that it falls back to.
fn at_once(each: Kernel, all: fn(&Call<'_>, &Kernel) -> Result<ArrayRef>) -> Kernel {
    whole(move |call| all(call, &each))
}

fn subbytes(bytes: &[u8], start: i64, length: Option<i64>) -> Vec<u8> {
    range(bytes.len(), start, length).map_or_else(Vec::new, |(from, to)| bytes[from..to].to_vec())
}

/// The position of the `instance`th occurrence; from the end if negative; 0 if there is none.
fn position(text: &str, part: &str, instance: i64) -> Result<i64> {
    if instance == 0 {
        return Err(invalid("'instance' must be a positive or negative number."));
    }
    if part.is_empty() {
        return Ok(1);
    }
    let nth = usize::try_from(instance.unsigned_abs() - 1).unwrap_or(usize::MAX);
    let found = if instance > 0 { nth_forward(text, part, nth) } else { nth_backward(text, part, nth) };
    Ok(found.map_or(0, |at| i64::try_from(text[..at].chars().count()).unwrap_or(i64::MAX) + 1))
}

fn first_position(sought: &mut Sought, text: &str, part: &str) -> Result<Option<i64>> {
    let found = if part.is_empty() { Some(0) } else { finder(sought, part)?.find(text.as_bytes()) };
    Ok(Some(found.map_or(0, |at| i64::try_from(text[..at].chars().count()).unwrap_or(i64::MAX) + 1)))
}

fn nth_forward(text: &str, part: &str, nth: usize) -> Option<usize> {
    let mut from = 0;
    for _ in 0..nth {
        let at = from + text[from..].find(part)?;
        from = at + text[at..].chars().next()?.len_utf8();
    }
    text[from..].find(part).map(|at| from + at)
}

fn nth_backward(text: &str, part: &str, nth: usize) -> Option<usize> {
    let mut end = text.len();
    for _ in 0..nth {
        let at = text[..end].rfind(part)?;
        let last = at + part.len();
        end = last - text[..last].chars().next_back()?.len_utf8();
    }
    text[..end].rfind(part)
}

/// Bytes of a text that is quicker to walk through than to search.
const SHORT: usize = 64;

/// A text to look for; its searcher is made once for as long as it stays the same.
type Sought = Compiled<Finder<'static>>;

fn replace(sought: &mut Sought, text: &str, from: &str, to: &str, out: &mut Text) -> Result<bool> {
    if from.is_empty() {
        out.push_str(to);
        for c in text.chars() {
            out.push(c);
            out.push_str(to);
        }
        return Ok(true);
    }
    let mut last = 0;
    let mut replaced = |at: usize| {
        out.push_str(&text[last..at]);
        out.push_str(to);
        last = at + from.len();
    };
    match from.as_bytes() {
        [byte] if text.len() <= SHORT => each_place(text.as_bytes(), *byte, &mut replaced),
        [byte] => memchr::memchr_iter(*byte, text.as_bytes()).for_each(&mut replaced),
        _ => finder(sought, from)?.find_iter(text.as_bytes()).for_each(&mut replaced),
    }
    put(&text[last..], out)
}

/// Where a byte is in a short text, eight bytes at a time: sooner than by a search for each place.
fn each_place(text: &[u8], byte: u8, mut f: impl FnMut(usize)) {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const LOW: u64 = u64::from_le_bytes([0x7f; 8]);
    let (words, rest) = text.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let other = u64::from_le_bytes(*word) ^ (ONES * u64::from(byte));
        // The upper bit of each byte that is zero; no carry crosses a byte.
        let mut equal = !(((other & LOW) + LOW) | other | LOW);
        while equal != 0 {
            f(index * 8 + equal.trailing_zeros() as usize / 8);
            equal &= equal - 1;
        }
    }
    let from = words.len() * 8;
    rest.iter().enumerate().filter(|(_, c)| **c == byte).for_each(|(at, _)| f(from + at));
}

fn finder<'a>(sought: &'a mut Sought, part: &str) -> Result<&'a Finder<'static>> {
    Ok(sought.get(part, |part| Ok(Finder::new(part.as_bytes()).into_owned()))?)
}

fn translate(text: &str, from: &str, to: &str, out: &mut Text) -> Result<bool> {
    for c in text.chars() {
        match from.chars().position(|known| known == c) {
            None => out.push(c),
            Some(index) => to.chars().nth(index).into_iter().for_each(|mapped| out.push(mapped)),
        }
    }
    Ok(true)
}

fn split_part(sought: &mut Sought, text: &str, delimiter: &str, index: i64, out: &mut Text) -> Result<bool> {
    let nth = usize::try_from(index.saturating_sub(1)).map_err(|_| invalid("index must be greater than zero"))?;
    if delimiter.is_empty() {
        let c = text.chars().nth(nth);
        return match c {
            Some(c) => put(c.encode_utf8(&mut [0; 4]), out),
            None if text.is_empty() && nth == 0 => Ok(true),
            None => Ok(false),
        };
    }
    let mut rest = text;
    for _ in 0..nth {
        match find(sought, rest, delimiter)? {
            Some(at) => rest = &rest[at + delimiter.len()..],
            None => return Ok(false),
        }
    }
    let end = find(sought, rest, delimiter)?;
    put(&rest[..end.unwrap_or(rest.len())], out)
}

fn find(sought: &mut Sought, text: &str, part: &str) -> Result<Option<usize>> {
    Ok(match part.as_bytes() {
        [byte] => memchr::memchr(*byte, text.as_bytes()),
        _ => finder(sought, part)?.find(text.as_bytes()),
    })
}

fn split_kernel(call: &Call<'_>) -> Result<ArrayRef> {
    let (texts, delimiters) = (call.column::<Str>(0)?, call.column::<Str>(1)?);
    let limits = if call.arguments.len() > 2 { Some(call.column::<I64>(2)?) } else { None };
    let mut out = ListBuilder::new(StringBuilder::new());
    for row in 0..call.rows {
        let limit = limits.as_ref().map_or(Some(i64::MAX), |limits: &Column<I64>| limits.value(row));
        let (Some(text), Some(delimiter), Some(limit)) = (texts.value(row), delimiters.value(row), limit) else {
            out.append_null();
            continue;
        };
        let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0);
        let limit = limit.ok_or_else(|| invalid("limit must be positive"))?;
        if delimiter.is_empty() {
            return Err(invalid("the delimiter may not be the empty string"));
        }
        text.splitn(limit, delimiter).for_each(|part| out.values().append_value(part));
        out.append(true);
    }
    Ok(Arc::new(out.finish()))
}

fn concat_kernel(call: &Call<'_>) -> Result<ArrayRef> {
    if call.arguments.len() < 2 {
        return Err(invalid("there must be two or more concatenation arguments"));
    }
    let columns = (0..call.arguments.len()).map(|index| call.column::<Str>(index)).collect::<Result<Vec<_>>>()?;
    let mut out = Text::new(call.rows, call.result);
    for row in 0..call.rows {
        let valid = !columns.iter().any(|column| column.is_null(row));
        if valid {
            columns.iter().for_each(|column| out.push_str(column.get(row)));
        }
        out.end(valid);
    }
    out.finish()
}

fn concat_bytes_kernel(call: &Call<'_>) -> Result<ArrayRef> {
    let columns = (0..call.arguments.len()).map(|index| call.column::<Bytes>(index)).collect::<Result<Vec<_>>>()?;
    let mut out = arrow::array::BinaryBuilder::new();
    for row in 0..call.rows {
        if columns.iter().any(|column| column.is_null(row)) {
            out.append_null();
        } else {
            out.append_value(columns.iter().flat_map(|column| column.get(row)).copied().collect::<Vec<u8>>());
        }
    }
    Ok(Arc::new(out.finish()))
}

fn concat_ws_kernel(call: &Call<'_>) -> Result<ArrayRef> {
    if call.arguments.len() < 2 {
        return Err(invalid("there must be two or more arguments"));
    }
    let columns = (0..call.arguments.len()).map(|index| call.column::<Str>(index)).collect::<Result<Vec<_>>>()?;
    let mut out = Text::new(call.rows, call.result);
    for row in 0..call.rows {
        let Some(separator) = columns[0].value(row) else {
            out.end(false);
            continue;
        };
        join(columns[1..].iter().filter_map(|column| column.value(row)), separator, &mut out);
        out.end(true);
    }
    out.finish()
}

fn join<'a>(parts: impl Iterator<Item = &'a str>, separator: &str, out: &mut Text) {
    for (index, part) in parts.enumerate() {
        if index > 0 {
            out.push_str(separator);
        }
        out.push_str(part);
    }
}

fn concat_ws_array_kernel(call: &Call<'_>) -> Result<ArrayRef> {
    let separators = call.column::<Str>(0)?;
    let lists = call.full(1)?;
    let lists = as_list(&lists)?;
    let mut out = Text::new(call.rows, call.result);
    for row in 0..call.rows {
        let Some(separator) = separators.value(row).filter(|_| lists.is_valid(row)) else {
            out.end(false);
            continue;
        };
        let parts = lists.value(row);
        let parts = arrow::array::AsArray::as_string::<i32>(parts.as_ref());
        join(parts.iter().flatten(), separator, &mut out);
        out.end(true);
    }
    out.finish()
}

/// Which of the delimited entries' keys come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeated {
    Refused,
    Collected,
}

fn split_to_map_kernel(call: &Call<'_>, repeated: Repeated) -> Result<ArrayRef> {
    let columns = (0..3).map(|index| call.column::<Str>(index)).collect::<Result<Vec<_>>>()?;
    let (mut keys, mut flat) = (StringBuilder::new(), StringBuilder::new());
    let (mut maps, mut lists) = (Offsets::new(call.rows), Offsets::new(call.rows));
    let (mut key_count, mut value_count) = (0, 0);
    for row in 0..call.rows {
        let (Some(text), Some(entry), Some(pair)) =
            (columns[0].value(row), columns[1].value(row), columns[2].value(row))
        else {
            maps.end(key_count, false)?;
            continue;
        };
        for (key, values) in split_entries(text, entry, pair, repeated)? {
            keys.append_value(key);
            values.iter().for_each(|value| flat.append_value(value));
            (key_count, value_count) = (key_count + 1, value_count + values.len());
            lists.end(value_count, true)?;
        }
        maps.end(key_count, true)?;
    }
    let values: ArrayRef = Arc::new(flat.finish());
    let values = match repeated {
        Repeated::Refused => values,
        Repeated::Collected => {
            lists.list(values, &super::super::signature::list_of(arrow::datatypes::DataType::Utf8))?
        }
    };
    maps.map(Arc::new(keys.finish()), values, call.result)
}

fn split_entries<'a>(
    text: &'a str,
    entry: &str,
    pair: &str,
    repeated: Repeated,
) -> Result<indexmap::IndexMap<&'a str, Vec<&'a str>>> {
    if entry.is_empty() {
        return Err(invalid("entryDelimiter is empty"));
    }
    if pair.is_empty() {
        return Err(invalid("keyValueDelimiter is empty"));
    }
    if entry == pair {
        return Err(invalid("entryDelimiter and keyValueDelimiter must not be the same"));
    }
    let mut entries = indexmap::IndexMap::<&str, Vec<&str>>::new();
    let text = text.strip_suffix(entry).unwrap_or(text);
    for piece in text.split(entry).filter(|_| !text.is_empty()) {
        let parts = piece.split_once(pair).filter(|(_, value)| !value.contains(pair));
        let (key, value) = parts.ok_or_else(|| {
            invalid(format!("key-value delimiter must appear exactly once in each entry. Bad input: '{piece}'"))
        })?;
        let values = entries.entry(key).or_default();
        if repeated == Repeated::Refused && !values.is_empty() {
            return Err(invalid(format!("duplicate keys ({key}) are not allowed")));
        }
        values.push(value);
    }
    Ok(entries)
}

fn splits() -> Vec<Definition> {
    vec![
        string("split", "the parts of a text between the delimiters, at most so many")
            .on("split(varchar, varchar) -> array(varchar)", whole(split_kernel))
            .on("split(varchar, varchar, bigint) -> array(varchar)", whole(split_kernel))
            .example("SELECT split('a,b,c', ',', 2)", "[a, b,c]"),
        string("split_part", "the part of an index (from 1) between the delimiters; NULL past the last")
            .on("split_part(varchar, varchar, bigint) -> varchar", text3_with::<Str, Str, I64, Sought>(split_part))
            .example("SELECT split_part('a,b,c', ',', 2)", "b"),
        string("split_to_map", "a map from a text of entries and pairs; a key may come once")
            .on(
                "split_to_map(varchar, varchar, varchar) -> map(varchar, varchar)",
                whole(|call| split_to_map_kernel(call, Repeated::Refused)),
            )
            .example("SELECT split_to_map('a=1,b=2', ',', '=')", "{a=1, b=2}"),
        string("split_to_multimap", "a map from a text of entries and pairs, with all values of a key")
            .on(
                "split_to_multimap(varchar, varchar, varchar) -> map(varchar, array(varchar))",
                whole(|call| split_to_map_kernel(call, Repeated::Collected)),
            )
            .example("SELECT split_to_multimap('a=1,a=2', ',', '=')", "{a=[1, 2]}"),
    ]
}

fn concats() -> Vec<Definition> {
    vec![
        string("concat", "texts, bytes or arrays one after the other; NULL if one is")
            .on("concat(varchar...) -> varchar", whole(concat_kernel))
            .on("concat(varbinary...) -> varbinary", whole(concat_bytes_kernel))
            .on("concat(array(E)...) -> array(E)", super::super::array::concat_kernel())
            .on("concat(E, array(E)) -> array(E)", super::super::array::prepend_kernel())
            .on("concat(array(E), E) -> array(E)", super::super::array::append_kernel())
            .example("SELECT concat('a', 'b', 'c')", "abc"),
        string("concat_ws", "texts with a separator between them; NULLs are left out")
            .on("concat_ws(varchar, varchar...) -> varchar", whole(concat_ws_kernel))
            .on("concat_ws(varchar, array(varchar)) -> varchar", whole(concat_ws_array_kernel))
            .example("SELECT concat_ws('-', 'a', NULL, 'b')", "a-b"),
    ]
}

fn code_point(code: i64) -> Result<char> {
    let c = u32::try_from(code).ok().and_then(char::from_u32);
    c.ok_or_else(|| invalid(format!("not a valid Unicode code point: {code}")))
}

fn code_points() -> Vec<Definition> {
    vec![
        string("chr", "the character of a code point")
            .on(
                "chr(bigint) -> varchar",
                text1::<I64>(|code, out| {
                    out.push(code_point(code)?);
                    Ok(true)
                }),
            )
            .example("SELECT chr(233)", "é"),
        string("codepoint", "the code point of a text of one character")
            .on(
                "codepoint(varchar) -> integer",
                value1::<Str, ToI32>(|text| {
                    let mut chars = text.chars();
                    match (chars.next(), chars.next()) {
                        (Some(c), None) => Ok(Some(u32::from(c).cast_signed())),
                        _ => Err(invalid(format!("a single character is expected, not '{text}'"))),
                    }
                }),
            )
            .example("SELECT codepoint('é')", "233"),
    ]
}

/// The functions.
pub(super) fn definitions() -> Vec<Definition> {
    let mut all = vec![
        string("substr", "the part of a text from a position (from 1; negative from the end), of a length")
            .aliases(&["substring"])
            .on(
                "substr(varchar, bigint) -> varchar",
                at_once(text2::<Str, I64>(|t, s, out| put(substr(t, s, None), out)), cut),
            )
            .on(
                "substr(varchar, bigint, bigint) -> varchar",
                at_once(text3::<Str, I64, I64>(|t, s, n, out| put(substr(t, s, Some(n)), out)), cut),
            )
            .on(
                "substr(varbinary, bigint) -> varbinary",
                value2::<Bytes, I64, ToBytes>(|b, s| Ok(Some(subbytes(b, s, None)))),
            )
            .on(
                "substr(varbinary, bigint, bigint) -> varbinary",
                value3::<Bytes, I64, I64, ToBytes>(|b, s, n| Ok(Some(subbytes(b, s, Some(n))))),
            )
            .example("SELECT substr('hello', -3, 2)", "ll"),
        string("strpos", "the position of a text in another, of its nth occurrence; 0 if there is none")
            .on("strpos(varchar, varchar) -> bigint", value2_with::<Str, Str, ToI64, Sought>(first_position))
            .on(
                "strpos(varchar, varchar, bigint) -> bigint",
                value3::<Str, Str, I64, ToI64>(|t, p, n| position(t, p, n).map(Some)),
            )
            .example("SELECT strpos('banana', 'an', 2)", "4"),
        string("replace", "a text with all occurrences of another replaced, or removed")
            .on(
                "replace(varchar, varchar) -> varchar",
                at_once(text2_with::<Str, Str, Sought>(|s, t, f, out| replace(s, t, f, "", out)), columns::replace),
            )
            .on(
                "replace(varchar, varchar, varchar) -> varchar",
                at_once(text3_with::<Str, Str, Str, Sought>(replace), columns::replace),
            )
            .example("SELECT replace('banana', 'an', 'x')", "bxxa"),
        string("translate", "a text with each character of one list replaced by its counterpart in another")
            .on("translate(varchar, varchar, varchar) -> varchar", text3::<Str, Str, Str>(translate))
            .example("SELECT translate('hello', 'el', 'ip')", "hippo"),
        string("starts_with", "whether a text begins with another")
            .on(
                "starts_with(varchar, varchar) -> boolean",
                value2::<Str, Str, ToBool>(|t, p| Ok(Some(t.starts_with(p)))),
            )
            .example("SELECT starts_with('hello', 'he')", "true"),
    ];
    all.extend(code_points());
    all.extend(splits());
    all.extend(concats());
    all
}
