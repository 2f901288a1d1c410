//! A row as a flat list of nodes: what the general parser makes of any object before its values meet column types.
//!
//! Invariant: a node's `next` is the index after its whole subtree; children of an object alternate key and value.
//! Text is not copied: nodes point into the row.

use super::lexer::{self, DEPTH_MAX, Fault, Scan, bad, skip_blanks};

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    True,
    False,
    /// A number in JSON's grammar.
    Number,
    /// Content of a quoted string without escapes.
    Text,
    /// Content of a quoted string with escapes.
    EscapedText,
    /// An unquoted word, in the loose syntax only.
    Word,
    Object,
    Array,
}

/// One value, or one key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// First byte in the row: of a string, its content.
    pub(super) start: u32,
    /// One past the last byte.
    pub(super) end: u32,
    /// Index of the node after this one and all below it.
    pub(super) next: u32,
}

impl Node {
    /// Bytes of the node.
    pub(super) fn bytes<'a>(&self, row: &'a [u8]) -> &'a [u8] {
        &row[self.start as usize..self.end as usize]
    }
}

/// The nodes of one row; reused from row to row.
#[derive(Debug, Default)]
pub(super) struct Tape {
    pub(super) nodes: Vec<Node>,
}

impl Tape {
    /// Parses the strict JSON value at the start of `row`; returns its end.
    pub(super) fn parse(&mut self, row: &[u8]) -> Scan<usize> {
        self.parse_below(row, 0)
    }

    /// The same for a value that stands in `depth` containers.
    pub(super) fn parse_below(&mut self, value: &[u8], depth: usize) -> Scan<usize> {
        self.nodes.clear();
        self.value(value, 0, depth)
    }

    /// Indices of the direct children of a container.
    pub(super) fn children(&self, index: usize) -> impl Iterator<Item = usize> + '_ {
        let end = self.nodes[index].next as usize;
        let mut at = index + 1;
        std::iter::from_fn(move || {
            let current = at;
            (current < end).then(|| {
                at = self.nodes[current].next as usize;
                current
            })
        })
    }

    /// Adds a leaf.
    pub(super) fn leaf(&mut self, kind: Kind, start: usize, end: usize) {
        let next = self.nodes.len() as u32 + 1;
        self.nodes.push(Node { kind, start: start as u32, end: end as u32, next });
    }

    /// Adds a container whose end is not known yet; [`Self::close`] completes it.
    pub(super) fn open(&mut self, kind: Kind, start: usize) -> usize {
        self.leaf(kind, start, start);
        self.nodes.len() - 1
    }

    /// Completes a container.
    pub(super) fn close(&mut self, index: usize, end: usize) {
        let next = self.nodes.len() as u32;
        let node = &mut self.nodes[index];
        (node.end, node.next) = (end as u32, next);
    }

    fn value(&mut self, row: &[u8], at: usize, depth: usize) -> Scan<usize> {
        let (kind, end) = match row.get(at) {
            None => return Err(Fault::Incomplete),
            Some(b'"') => {
                let end = self.text(row, at)?;
                return Ok(end);
            }
            Some(b'{') => return self.container(row, at, depth + 1, (Kind::Object, b'}')),
            Some(b'[') => return self.container(row, at, depth + 1, (Kind::Array, b']')),
            Some(b't') => (Kind::True, lexer::word_end(row, at, b"true")?),
            Some(b'f') => (Kind::False, lexer::word_end(row, at, b"false")?),
            Some(b'n') => (Kind::Null, lexer::word_end(row, at, b"null")?),
            Some(_) => (Kind::Number, lexer::number_end(row, at)?),
        };
        self.leaf(kind, at, end);
        Ok(end)
    }

    fn text(&mut self, row: &[u8], at: usize) -> Scan<usize> {
        let (end, is_escaped) = lexer::string_end(row, at + 1)?;
        self.leaf(if is_escaped { Kind::EscapedText } else { Kind::Text }, at + 1, end);
        Ok(end + 1)
    }

    fn container(&mut self, row: &[u8], at: usize, depth: usize, (kind, close): (Kind, u8)) -> Scan<usize> {
        if depth > DEPTH_MAX {
            return bad(at, "values are nested more than 256 deep");
        }
        let index = self.open(kind, at);
        let mut at = skip_blanks(row, at + 1);
        if row.get(at) == Some(&close) {
            self.close(index, at + 1);
            return Ok(at + 1);
        }
        loop {
            if kind == Kind::Object {
                let ((end, is_escaped), value) = lexer::key_end(row, at)?;
                self.leaf(if is_escaped { Kind::EscapedText } else { Kind::Text }, at + 1, end);
                at = value;
            }
            at = skip_blanks(row, self.value(row, at, depth)?);
            match row.get(at) {
                Some(&byte) if byte == close => {
                    self.close(index, at + 1);
                    return Ok(at + 1);
                }
                Some(b',') => at = skip_blanks(row, at + 1),
                None => return Err(Fault::Incomplete),
                Some(_) => return bad(at, lexer::expected_after(close)),
            }
        }
    }
}
