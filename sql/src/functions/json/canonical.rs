//! Canonical JSON text: no white space, numbers as Trino writes them, keys sorted where a value is parsed.
//!
//! Invariant: the canonical form of canonical text is itself.

use std::{borrow::Cow, cmp::Ordering, fmt::Write};

use super::scan::{Kind, RawString, Scanner};

/// Whether the members of objects are put in the order of their keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// In order, and of two equal keys the last.
    Sorted,
    /// As they come.
    AsWritten,
}

/// Writes the canonical form of the next value; `None` if it is malformed.
pub fn write_value(scanner: &mut Scanner<'_>, keys: Keys, out: &mut String) -> Option<()> {
    write_at(scanner, keys, out, 0)
}

/// The canonical form, keys sorted, of a text that is one value and nothing else.
pub fn canonical(text: &str) -> Option<String> {
    let mut scanner = Scanner::new(text);
    let mut out = String::with_capacity(text.len());
    write_value(&mut scanner, Keys::Sorted, &mut out)?;
    scanner.at_end().then_some(out)
}

fn write_at(scanner: &mut Scanner<'_>, keys: Keys, out: &mut String, depth: usize) -> Option<()> {
    match scanner.peek()? {
        b'{' if depth < 1000 => write_object(scanner, keys, out, depth),
        b'[' if depth < 1000 => {
            out.push('[');
            let mut more = scanner.enter(b']')?;
            while more {
                write_at(scanner, keys, out, depth + 1)?;
                more = scanner.another(b']')?;
                if more {
                    out.push(',');
                }
            }
            out.push(']');
            Some(())
        }
        b'"' => {
            write_raw_string(scanner.string()?, out);
            Some(())
        }
        _ => {
            let start = scanner.position();
            let kind = scanner.skip()?;
            write_number_or_word(scanner.since(start), kind, out);
            Some(())
        }
    }
}

fn write_object(scanner: &mut Scanner<'_>, keys: Keys, out: &mut String, depth: usize) -> Option<()> {
    out.push('{');
    let body = out.len();
    let mut members: Vec<(Cow<'_, str>, usize, usize)> = Vec::new();
    let mut in_order = true;
    let mut more = scanner.enter(b'}')?;
    while more {
        let key = scanner.key()?;
        let start = out.len();
        write_raw_string(key, out);
        out.push(':');
        write_at(scanner, keys, out, depth + 1)?;
        if keys == Keys::Sorted {
            let key = key.decode();
            in_order &= members.last().is_none_or(|(last, ..)| compare_keys(last, &key) == Ordering::Less);
            members.push((key, start, out.len()));
        }
        more = scanner.another(b'}')?;
        if more {
            out.push(',');
        }
    }
    if !in_order {
        reorder(&mut members, body, out);
    }
    out.push('}');
    Some(())
}

/// Puts the members written after `body` in the order of their keys; of equal keys the last stays.
fn reorder(members: &mut [(Cow<'_, str>, usize, usize)], body: usize, out: &mut String) {
    members.sort_by(|a, b| compare_keys(&a.0, &b.0).then(a.1.cmp(&b.1)));
    let mut sorted = String::with_capacity(out.len() - body);
    for (index, (key, start, end)) in members.iter().enumerate() {
        if members.get(index + 1).is_some_and(|next| next.0 == *key) {
            continue;
        }
        if !sorted.is_empty() {
            sorted.push(',');
        }
        sorted.push_str(&out[*start..*end]);
    }
    out.truncate(body);
    out.push_str(&sorted);
}

/// The order of Java strings: by UTF-16 units.
fn compare_keys(a: &str, b: &str) -> Ordering {
    if a.is_ascii() && b.is_ascii() { a.cmp(b) } else { a.encode_utf16().cmp(b.encode_utf16()) }
}

fn write_raw_string(string: RawString<'_>, out: &mut String) {
    if !string.escaped && string.raw.bytes().all(|byte| byte < 0xF0) {
        out.push('"');
        out.push_str(string.raw);
        out.push('"');
    } else {
        write_string(&string.decode(), out);
    }
}

/// Writes text as a JSON string; characters beyond the basic plane as two escapes.
pub fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if !(' '..='\u{FFFF}').contains(&c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a string cannot fail.
                    let _ = write!(out, "\\u{unit:04X}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn write_number_or_word(text: &str, kind: Kind, out: &mut String) {
    match kind {
        Kind::Float => match text.parse::<f64>() {
            Ok(value) if value.is_infinite() => {
                out.push_str(if value > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" });
            }
            Ok(value) => write_double(value, out),
            Err(_) => out.push_str(text),
        },
        Kind::Integer if text == "-0" => out.push('0'),
        _ => out.push_str(text),
    }
}

/// Writes a double as Java does: the shortest digits, `1.0E7` from ten million and below a thousandth.
pub fn write_double(value: f64, out: &mut String) {
    if value.is_nan() {
        return out.push_str("NaN");
    }
    if value.is_infinite() {
        return out.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
    if value == 0.0 {
        return out.push_str(if value.is_sign_negative() { "-0.0" } else { "0.0" });
    }
    let magnitude = value.abs();
    // Writing to a string cannot fail.
    if (1e-3..1e7).contains(&magnitude) {
        let _ = write!(out, "{value:?}");
        return;
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let point = if digits.contains('.') { "" } else { ".0" };
    let _ = write!(out, "{digits}{point}E{exponent}");
}
