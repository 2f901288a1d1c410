//! The fast way through a row: keys in the order of earlier rows, each compared as one literal with its punctuation,
//! values straight into their columns.
//!
//! Invariant: it takes a row only if the general parser would take it, and to the same values: grammar is judged by
//! [`lexer`](super::lexer), values by [`coerce`](super::coerce), and whatever is in doubt is left to the general parser.

use std::collections::HashSet;

use super::{
    coerce::{Fit, Rules},
    column::Column,
    lexer,
    nested::{Placer, is_nested, is_refused},
    tape::{Kind, Tape},
};

/// Most keys of a shape; rows with more take the general way.
const KEYS_MAX: usize = 256;
/// Keys that may be absent in a row between two that are there.
const ABSENT_MAX: usize = 16;
/// What learning a shape costs, in rows the shape must have taken before.
const LEARN_COST: u32 = 8;
/// Most rows that count towards later learning.
const CREDIT_MAX: u32 = 1024;

/// Bytes to be met as a whole; up to sixteen are compared at once.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Literal {
    bytes: Box<[u8]>,
    word: u128,
    mask: u128,
}

impl Literal {
    fn new(bytes: Vec<u8>) -> Self {
        let mut padded = [0; 16];
        let length = bytes.len().min(16);
        padded[..length].copy_from_slice(&bytes[..length]);
        let mask = if length == 16 { u128::MAX } else { (1 << (8 * length)) - 1 };
        Self { bytes: bytes.into(), word: u128::from_le_bytes(padded), mask }
    }

    #[inline(always)]
    fn is_at(&self, buffer: &[u8], at: usize) -> bool {
        let Some(rest) = buffer.get(at..) else { return false };
        match rest.first_chunk::<16>() {
            Some(chunk) if (u128::from_le_bytes(*chunk) ^ self.word) & self.mask != 0 => false,
            Some(_) if self.bytes.len() <= 16 => true,
            _ => rest.starts_with(&self.bytes),
        }
    }
}

/// A key with its punctuation, and the column of its values.
#[derive(Debug, Clone)]
struct Key {
    /// The key in quotes, as written.
    name: Box<[u8]>,
    /// What no other key of the row may be.
    identity: Vec<u8>,
    /// What leads to the value when the key is the first of its row, and when it is a later one.
    first: Literal,
    later: Literal,
    column: Option<usize>,
}

/// The keys of earlier rows, in their order.
#[derive(Debug)]
pub(super) struct Shape {
    keys: Vec<Key>,
    credit: u32,
}

/// What the fast way needs besides the row.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) columns: &'a mut [Column],
    pub(super) rules: &'a Rules,
    pub(super) tape: &'a mut Tape,
    pub(super) scratch: &'a mut Vec<u8>,
    /// Rows the columns have.
    pub(super) length: usize,
    /// Values that became NULL because they did not fit.
    pub(super) nulled: u64,
}

impl Default for Shape {
    fn default() -> Self {
        Self { keys: Vec::new(), credit: 16 * LEARN_COST }
    }
}

impl Shape {
    /// Adds the row that starts at `at` and returns its end, or adds nothing for sure but perhaps parts, which the
    /// caller cuts back.
    #[inline]
    pub(super) fn take(&mut self, buffer: &[u8], at: usize, target: &mut Target<'_>) -> Option<usize> {
        let (mut at, mut next, mut pushed) = (at, 0, 0);
        loop {
            let is_first = next == 0;
            let Some(found) = self.find(buffer, at, next, is_first) else {
                at = lexer::skip_blanks(buffer, at);
                break;
            };
            let key = &self.keys[found];
            at += if is_first { key.first.bytes.len() } else { key.later.bytes.len() };
            next = found + 1;
            at = match key.column {
                Some(column) => {
                    pushed += 1;
                    target.value(column, buffer, at)?
                }
                None if buffer.get(at) == Some(&b'"') => lexer::string_end(buffer, at + 1).ok()?.0 + 1,
                None => lexer::skip_value(buffer, at, 1).ok()?,
            };
            if buffer.get(at) == Some(&b'}') {
                break;
            }
        }
        if next == 0 || buffer.get(at) != Some(&b'}') {
            return None;
        }
        if pushed < target.columns.len() {
            target.complete();
        }
        self.credit = (self.credit + 1).min(CREDIT_MAX);
        Some(at + 1)
    }

    /// The first key at or after `next` that stands at `at`.
    #[inline(always)]
    fn find(&self, buffer: &[u8], at: usize, next: usize, is_first: bool) -> Option<usize> {
        let keys = self.keys.get(next..)?;
        let literal = |key: &Key| if is_first { key.first.is_at(buffer, at) } else { key.later.is_at(buffer, at) };
        keys.iter().take(ABSENT_MAX).position(literal).map(|position| next + position)
    }

    /// Learns from a row that the general parser took: `column_of` gives the column of the key of a node, `identity`
    /// what no other key of the row may be.
    pub(super) fn learn(
        &mut self,
        tape: &Tape,
        row: &[u8],
        column_of: impl Fn(usize) -> Option<usize>,
        identity: impl Fn(usize) -> Vec<u8>,
    ) {
        if self.credit < LEARN_COST || tape.nodes.first().is_none_or(|node| node.kind != Kind::Object) {
            return;
        }
        let Some(keys) = keys_of(tape, row, column_of, identity) else { return };
        self.credit -= LEARN_COST;
        self.keys = self.merged(&keys).filter(|merged| is_unambiguous(merged)).unwrap_or(keys);
    }

    /// These keys among the known ones, if both have one order.
    fn merged(&self, keys: &[Key]) -> Option<Vec<Key>> {
        let (mut merged, mut next) = (self.keys.clone(), 0);
        for key in keys {
            match merged.iter().position(|known| known.name == key.name) {
                Some(known) if known < next => return None,
                Some(known) => {
                    merged[known] = key.clone();
                    next = known + 1;
                }
                None => {
                    merged.insert(next, key.clone());
                    next += 1;
                }
            }
        }
        Some(merged)
    }
}

/// The keys of a row with the punctuation it uses; `None` when they cannot be a shape.
fn keys_of(
    tape: &Tape,
    row: &[u8],
    column_of: impl Fn(usize) -> Option<usize>,
    identity: impl Fn(usize) -> Vec<u8>,
) -> Option<Vec<Key>> {
    let nodes: Vec<usize> = tape.children(0).step_by(2).collect();
    let quoted_start = |node: usize| tape.nodes[node].start as usize - 1;
    let opening = row.get(..quoted_start(*nodes.first()?))?;
    let mut separators = Vec::with_capacity(nodes.len());
    for (position, &node) in nodes.iter().enumerate().skip(1) {
        let value_end = outer_end(tape, nodes[position - 1] + 1);
        separators.push(row.get(value_end..quoted_start(node))?);
    }
    let usual = separators.first().copied().unwrap_or(b",");
    let mut keys = Vec::with_capacity(nodes.len());
    for (position, &node) in nodes.iter().enumerate() {
        let separator = position.checked_sub(1).map_or(usual, |before| separators[before]);
        let key = row.get(quoted_start(node)..outer_start(tape, node + 1))?;
        let name_length = tape.nodes[node].end as usize + 1 - quoted_start(node);
        keys.push(Key {
            name: key[..name_length].into(),
            identity: identity(node),
            first: Literal::new([opening, key].concat()),
            later: Literal::new([separator, key].concat()),
            column: column_of(node),
        });
    }
    is_unambiguous(&keys).then_some(keys)
}

/// Whether no key and no column stands twice, so that a row that follows the keys has no value to choose between.
fn is_unambiguous(keys: &[Key]) -> bool {
    let (mut names, mut columns) = (HashSet::new(), HashSet::new());
    keys.len() <= KEYS_MAX
        && keys.iter().all(|key| names.insert(&key.identity) && key.column.is_none_or(|column| columns.insert(column)))
}

/// Start of a value with its quote.
fn outer_start(tape: &Tape, node: usize) -> usize {
    let node = tape.nodes[node];
    node.start as usize - usize::from(matches!(node.kind, Kind::Text | Kind::EscapedText))
}

/// End of a value with its quote.
fn outer_end(tape: &Tape, node: usize) -> usize {
    let node = tape.nodes[node];
    node.end as usize + usize::from(matches!(node.kind, Kind::Text | Kind::EscapedText))
}

impl Target<'_> {
    /// Adds the value at `at` to a column; returns its end, or nothing if the general parser must look.
    #[inline]
    fn value(&mut self, index: usize, buffer: &[u8], at: usize) -> Option<usize> {
        let column = &mut self.columns[index];
        let (fit, end): (Fit, usize) = match *buffer.get(at)? {
            b'{' | b'[' => return self.any_value(index, buffer, at),
            _ if is_nested(column) => return self.any_value(index, buffer, at),
            b'"' => {
                let (end, is_escaped) = lexer::string_end(buffer, at + 1).ok()?;
                let text = &buffer[at + 1..end];
                let fit = if is_escaped {
                    self.scratch.clear();
                    lexer::unescape(text, self.scratch);
                    column.push_text(self.scratch, self.rules)
                } else {
                    column.push_text(text, self.rules)
                };
                (fit, end + 1)
            }
            b't' => (column.push_boolean(true), lexer::word_end(buffer, at, b"true").ok()?),
            b'f' => (column.push_boolean(false), lexer::word_end(buffer, at, b"false").ok()?),
            b'n' => {
                column.push_null();
                return lexer::word_end(buffer, at, b"null").ok();
            }
            _ => {
                let end = lexer::number_end(buffer, at).ok()?;
                (column.push_number(&buffer[at..end], self.rules), end)
            }
        };
        if let Err(misfit) = fit {
            if is_refused(misfit, self.rules) {
                return None;
            }
            column.push_null();
            self.nulled += 1;
        }
        Some(end)
    }

    /// The same for values that need nodes.
    fn any_value(&mut self, index: usize, buffer: &[u8], at: usize) -> Option<usize> {
        let row = &buffer[at..];
        let length = self.tape.parse_below(row, 1).ok()?;
        let mut placer = Placer { tape: self.tape, row, rules: self.rules, scratch: self.scratch, nulled: 0 };
        placer.place(&mut self.columns[index], 0).ok()?;
        self.nulled += placer.nulled;
        Some(at + length)
    }

    /// Adds a NULL where the row has no key.
    #[cold]
    fn complete(&mut self) {
        for column in self.columns.iter_mut() {
            if column.len() == self.length {
                column.push_null();
            }
        }
    }
}
