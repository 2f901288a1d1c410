//! Elements of JSON arrays: `json_array_get` and `json_array_contains`.
//!
//! Invariant: reading stops at the element asked for; what follows it is not looked at.

use super::{
    canonical::{Keys, write_value},
    scan::{Kind, Scanner},
};

/// Writes the element of an index (from 0; negative from the end): `false` if there is none, it is `null` or the text
/// is malformed. A string is written without its quotes, as Trino does.
pub fn write_element(text: &str, index: i64, out: &mut String) -> bool {
    element(text, index, out).is_some()
}

fn element(text: &str, index: i64, out: &mut String) -> Option<()> {
    let index = match usize::try_from(index) {
        Ok(index) => index,
        Err(_) => {
            let length = super::path::array_length(text)?;
            usize::try_from(length.checked_add(index)?).ok()?
        }
    };
    let mut scanner = Scanner::new(text);
    if scanner.peek()? != b'[' {
        return None;
    }
    let mut more = scanner.enter(b']')?;
    for _ in 0..index {
        if !more {
            return None;
        }
        scanner.skip()?;
        more = scanner.another(b']')?;
    }
    if !more {
        return None;
    }
    match scanner.peek()? {
        b'"' => out.push_str(&scanner.string()?.decode()),
        b'{' | b'[' => write_value(&mut scanner, Keys::AsWritten, out)?,
        _ => {
            let start = scanner.position();
            if scanner.skip()? == Kind::Null {
                return None;
            }
            out.push_str(scanner.since(start));
        }
    }
    Some(())
}

/// A scalar to look for in an array.
#[derive(Debug, Clone, Copy)]
pub enum Wanted<'a> {
    /// An integer.
    Integer(i64),
    /// A number with a fraction.
    Double(f64),
    /// A truth value.
    Bool(bool),
    /// Text.
    Text(&'a str),
}

/// Whether the array holds the value; `None` if the text is no array or is malformed before the value.
pub fn contains(text: &str, wanted: Wanted<'_>) -> Option<bool> {
    if matches!(wanted, Wanted::Double(value) if !value.is_finite()) {
        return Some(false);
    }
    let mut scanner = Scanner::new(text);
    if scanner.peek()? != b'[' {
        return None;
    }
    let mut more = scanner.enter(b']')?;
    while more {
        if is_wanted(&mut scanner, wanted)? {
            return Some(true);
        }
        more = scanner.another(b']')?;
    }
    Some(false)
}

fn is_wanted(scanner: &mut Scanner<'_>, wanted: Wanted<'_>) -> Option<bool> {
    if scanner.peek()? == b'"' {
        let string = scanner.string()?;
        return Some(matches!(wanted, Wanted::Text(text) if string.is(text)));
    }
    let start = scanner.position();
    let kind = scanner.skip()?;
    let text = scanner.since(start);
    Some(match (wanted, kind) {
        (Wanted::Integer(value), Kind::Integer) => text.parse() == Ok(value),
        (Wanted::Double(value), Kind::Float) => text.parse() == Ok(value),
        (Wanted::Bool(value), Kind::Bool) => (text == "true") == value,
        _ => false,
    })
}
