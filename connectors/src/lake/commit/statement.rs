//! The name of a statement that writes, and of its files.
//!
//! Invariant: a file name tells its statement, and the statement's name tells whether it replaces files.

use std::{fmt, str::FromStr};

use headwater_engine::error::{Error, Result};

/// Whether a statement only adds files or also takes some away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StatementKind {
    /// Adds files.
    Append,
    /// Replaces files, or claims an empty folder; such statements of one folder commit one after another.
    Exclusive,
}

/// Name of one statement, unique without coordination: `hw-a` or `hw-x` and 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StatementId {
    kind: StatementKind,
    unique: u128,
}

const PREFIX: &str = "hw-";
/// Characters of a statement's name.
const LENGTH: usize = 36;

impl StatementId {
    /// A statement of this kind with a number nobody else has (a random UUID).
    pub fn new(kind: StatementKind, unique: u128) -> Self {
        Self { kind, unique }
    }

    /// A statement with a fresh random number.
    pub fn random(kind: StatementKind) -> Self {
        Self::new(kind, uuid::Uuid::new_v4().as_u128())
    }

    /// Whether it adds or replaces.
    pub fn kind(self) -> StatementKind {
        self.kind
    }

    /// Name of the statement's `number`-th file with this extension (`parquet`, `json.gz`).
    pub fn file_name(self, number: usize, extension: &str) -> String {
        format!("{self}-{number:05}.{extension}")
    }

    /// The statement that wrote a file of this name (or path), if one of ours did.
    pub fn of_file(path: &str) -> Option<Self> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let id = name.get(..LENGTH)?.parse().ok()?;
        name[LENGTH..].starts_with('-').then_some(id)
    }
}

impl fmt::Display for StatementId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = match self.kind {
            StatementKind::Append => 'a',
            StatementKind::Exclusive => 'x',
        };
        write!(f, "{PREFIX}{letter}{:032x}", self.unique)
    }
}

impl FromStr for StatementId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::internal(format!("\"{text}\" is not the name of a statement"));
        let rest = text.strip_prefix(PREFIX).filter(|_| text.len() == LENGTH).ok_or_else(wrong)?;
        let kind = match rest.as_bytes()[0] {
            b'a' => StatementKind::Append,
            b'x' => StatementKind::Exclusive,
            _ => return Err(wrong()),
        };
        let digits = rest.get(1..).ok_or_else(wrong)?;
        let lower = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let unique = u128::from_str_radix(digits, 16).ok().filter(|_| lower).ok_or_else(wrong)?;
        Ok(Self { kind, unique })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_tells_its_statement() {
        for kind in [StatementKind::Append, StatementKind::Exclusive] {
            let id = StatementId::new(kind, 0xfeed);
            assert_eq!(StatementId::of_file(&format!("t/a=1/{}", id.file_name(7, "json.gz"))), Some(id));
            assert_eq!(id.to_string().parse::<StatementId>().unwrap(), id);
        }
    }

    #[test]
    fn files_of_others_have_no_statement() {
        for name in ["part-0.parquet", "hw-a", "hw-b0000000000000000000000000000feed-0.json", "é".repeat(30).as_str()]
        {
            assert_eq!(StatementId::of_file(name), None, "{name}");
        }
        assert_eq!(StatementId::of_file("hw-a0000000000000000000000000000feed.json"), None);
        assert_eq!(StatementId::of_file("hw-aFFFF000000000000000000000000feed-1.json"), None);
    }
}
