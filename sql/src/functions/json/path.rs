//! The JSON paths of `json_extract`: `$`, `.key`, `["key"]`, `[index]`.
//!
//! Invariant: a path has no wildcards and no branches, so it names at most one value of a document.

use headwater_engine::error::{Error, Result};

use super::{
    super::kernel::invalid,
    scan::{Kind, Scanner},
};

/// One step down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The key of an object's member.
    pub key: String,
    /// The same as an index into an array, if it is a number.
    pub index: Option<usize>,
}

/// A parsed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    steps: Vec<Step>,
}

impl Path {
    /// Parses a path.
    pub fn parse(text: &str) -> Result<Self> {
        parse_steps(text).map(|steps| Self { steps }).ok_or_else(|| malformed(text))
    }

    /// Moves the scanner to the value the path names; `None` if there is none or the text is malformed before it.
    pub fn find(&self, scanner: &mut Scanner<'_>) -> Option<()> {
        self.steps.iter().try_for_each(|step| match scanner.peek()? {
            b'{' => find_member(scanner, &step.key),
            b'[' => find_element(scanner, step.index?),
            _ => None,
        })
    }
}

fn malformed(text: &str) -> Error {
    invalid(format!("invalid JSON path: '{text}'"))
        .with_hint("write $.key, $[\"key\"] or $[0]; wildcards are not JSON paths of this function")
}

fn find_member(scanner: &mut Scanner<'_>, key: &str) -> Option<()> {
    let mut more = scanner.enter(b'}')?;
    while more {
        if scanner.key()?.is(key) {
            return Some(());
        }
        scanner.skip()?;
        more = scanner.another(b'}')?;
    }
    None
}

fn find_element(scanner: &mut Scanner<'_>, index: usize) -> Option<()> {
    let mut more = scanner.enter(b']')?;
    for _ in 0..index {
        if !more {
            return None;
        }
        scanner.skip()?;
        more = scanner.another(b']')?;
    }
    more.then_some(())
}

fn parse_steps(text: &str) -> Option<Vec<Step>> {
    let mut rest = text.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let (key, after) = if let Some(dotted) = rest.strip_prefix('.') {
            let end = dotted.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':'))).unwrap_or(dotted.len());
            (dotted[..end].to_owned(), &dotted[end..])
        } else if let Some(quoted) = rest.strip_prefix("[\"") {
            let (key, after) = parse_quoted(quoted)?;
            steps.push(step(key));
            rest = after.strip_prefix(']')?;
            continue;
        } else {
            let (inside, after) = rest.strip_prefix('[')?.split_once(']')?;
            inside.chars().all(|c| c.is_alphanumeric() || c == '_').then_some(())?;
            (inside.to_owned(), after)
        };
        if key.is_empty() {
            return None;
        }
        steps.push(step(key));
        rest = after;
    }
    Some(steps)
}

fn parse_quoted(text: &str) -> Option<(String, &str)> {
    let mut key = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((key, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                escaped @ ('"' | '\\') => key.push(escaped),
                _ => return None,
            },
            c => key.push(c),
        }
    }
    None
}

fn step(key: String) -> Step {
    let index = key.parse().ok();
    Step { key, index }
}

/// How many members the value at a path has: of an array or object, 0 for a scalar; `None` if there is none.
pub fn size(text: &str, path: &Path) -> Option<i64> {
    let mut scanner = Scanner::new(text);
    path.find(&mut scanner)?;
    match scanner.peek()? {
        b'{' => count(&mut scanner, b'}'),
        b'[' => count(&mut scanner, b']'),
        _ => scanner.skip().map(|_| 0),
    }
}

/// How many elements a JSON array has; `None` for anything else.
pub fn array_length(text: &str) -> Option<i64> {
    let mut scanner = Scanner::new(text);
    if scanner.peek()? != b'[' {
        return None;
    }
    count(&mut scanner, b']')
}

fn count(scanner: &mut Scanner<'_>, close: u8) -> Option<i64> {
    let mut members = 0;
    let mut more = scanner.enter(close)?;
    while more {
        if close == b'}' {
            scanner.key()?;
        }
        scanner.skip()?;
        members += 1;
        more = scanner.another(close)?;
    }
    Some(members)
}

/// A scalar found at a path.
#[derive(Debug)]
pub enum Scalar<'a> {
    /// A string.
    String(super::scan::RawString<'a>),
    /// A number or truth value, as it stands in the text.
    Plain(&'a str),
}

/// The scalar at the scanner; `None` for `null`, arrays and objects.
pub fn scalar_at<'a>(scanner: &mut Scanner<'a>) -> Option<Scalar<'a>> {
    match scanner.peek()? {
        b'"' => scanner.string().map(Scalar::String),
        b'{' | b'[' => None,
        _ => {
            let start = scanner.position();
            match scanner.skip()? {
                Kind::Null => None,
                _ => Some(Scalar::Plain(scanner.since(start))),
            }
        }
    }
}
