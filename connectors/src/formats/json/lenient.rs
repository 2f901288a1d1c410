//! The loose syntax that the OpenX SerDe takes: unquoted words, single quotes, `;` between pairs, `=` and `=>` for `:`,
//! comments.
//!
//! Invariant: it is asked only after strict parsing has failed, and gives nodes of the same kinds plus [`Kind::Word`].
//! A comma too many is an error in an object and a NULL in an array.

use super::{
    lexer::{DEPTH_MAX, Fault, Scan, bad},
    tape::{Kind, Tape},
};

/// Parses the loose value at the start of `row` into `tape`; returns its end.
pub(super) fn parse(tape: &mut Tape, row: &[u8]) -> Scan<usize> {
    tape.nodes.clear();
    Loose { tape, row }.value(0, 0)
}

struct Loose<'a> {
    tape: &'a mut Tape,
    row: &'a [u8],
}

impl Loose<'_> {
    fn value(&mut self, at: usize, depth: usize) -> Scan<usize> {
        match self.row.get(at) {
            None => Err(Fault::Incomplete),
            Some(&quote @ (b'"' | b'\'')) => self.quoted(at, quote),
            Some(b'{') => self.object(at, depth + 1),
            Some(b'[') => self.array(at, depth + 1),
            Some(_) => self.word(at, true),
        }
    }

    fn object(&mut self, at: usize, depth: usize) -> Scan<usize> {
        check_depth(at, depth)?;
        let index = self.tape.open(Kind::Object, at);
        let mut at = self.skip(at + 1)?;
        if self.row.get(at) == Some(&b'}') {
            self.tape.close(index, at + 1);
            return Ok(at + 1);
        }
        loop {
            at = match self.row.get(at) {
                None => return Err(Fault::Incomplete),
                Some(&quote @ (b'"' | b'\'')) => self.quoted(at, quote)?,
                Some(_) => self.word(at, false)?,
            };
            at = self.skip(at)?;
            at = match (self.row.get(at), self.row.get(at + 1)) {
                (Some(b'='), None) => return Err(Fault::Incomplete),
                (Some(b'='), Some(b'>')) => at + 2,
                (Some(b':' | b'='), _) => at + 1,
                (None, _) => return Err(Fault::Incomplete),
                _ => return bad(at, "expected \":\" after a key"),
            };
            at = self.skip(at)?;
            at = self.value(at, depth)?;
            at = self.skip(at)?;
            match self.row.get(at) {
                Some(b'}') => {
                    self.tape.close(index, at + 1);
                    return Ok(at + 1);
                }
                Some(b',' | b';') => at = self.skip(at + 1)?,
                None => return Err(Fault::Incomplete),
                Some(_) => return bad(at, "expected \",\" or \"}\""),
            }
        }
    }

    fn array(&mut self, at: usize, depth: usize) -> Scan<usize> {
        check_depth(at, depth)?;
        let index = self.tape.open(Kind::Array, at);
        let mut at = self.skip(at + 1)?;
        if self.row.get(at) == Some(&b']') {
            self.tape.close(index, at + 1);
            return Ok(at + 1);
        }
        loop {
            if let Some(b',' | b';' | b']') = self.row.get(at) {
                self.tape.leaf(Kind::Null, at, at);
            } else {
                at = self.value(at, depth)?;
                at = self.skip(at)?;
            }
            match self.row.get(at) {
                Some(b']') => {
                    self.tape.close(index, at + 1);
                    return Ok(at + 1);
                }
                Some(b',' | b';') => at = self.skip(at + 1)?,
                None => return Err(Fault::Incomplete),
                Some(_) => return bad(at, "expected \",\" or \"]\""),
            }
        }
    }

    fn quoted(&mut self, at: usize, quote: u8) -> Scan<usize> {
        let start = at + 1;
        let (mut at, mut kind) = (start, Kind::Text);
        loop {
            match self.row.get(at) {
                None => return Err(Fault::Incomplete),
                Some(&byte) if byte == quote => break,
                Some(b'\\') if at + 1 >= self.row.len() => return Err(Fault::Incomplete),
                Some(b'\\') => {
                    kind = Kind::EscapedText;
                    match self.row[at + 1] {
                        b'u' => super::lexer::hex4(self.row, at + 2).map(drop)?,
                        b'"' | b'\'' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                        _ => return bad(at, "an escape is unknown"),
                    }
                    at += 2;
                }
                Some(0 | b'\n' | b'\r') => return bad(at, "a string does not end on its line"),
                Some(_) => at += 1,
            }
        }
        self.tape.leaf(kind, start, at);
        Ok(at + 1)
    }

    /// An unquoted word; `null`, `true` and `false` only where a value may stand.
    fn word(&mut self, at: usize, is_value: bool) -> Scan<usize> {
        let is_end = |byte: &u8| *byte <= b' ' || b",:]}/\\\"[{;=#".contains(byte);
        let length = self.row[at..].iter().position(is_end).ok_or(Fault::Incomplete)?;
        let word = &self.row[at..at + length];
        let kind = match word {
            [] => return bad(at, "a value or key is missing"),
            _ if !is_value => Kind::Text,
            _ if word.eq_ignore_ascii_case(b"null") => Kind::Null,
            _ if word.eq_ignore_ascii_case(b"true") => Kind::True,
            _ if word.eq_ignore_ascii_case(b"false") => Kind::False,
            _ if super::lexer::number_end(word, 0) == Ok(length) => Kind::Number,
            _ => Kind::Word,
        };
        self.tape.leaf(kind, at, at + length);
        Ok(at + length)
    }

    /// Skips blanks and comments.
    fn skip(&self, mut at: usize) -> Scan<usize> {
        loop {
            let rest = self.row.get(at..).unwrap_or_default();
            let skipped = match rest {
                [0..=b' ', ..] => 1,
                [b'#', ..] | [b'/', b'/', ..] => rest.iter().position(|&b| b == b'\n').ok_or(Fault::Incomplete)?,
                [b'/', b'*', inside @ ..] => 4 + memchr::memmem::find(inside, b"*/").ok_or(Fault::Incomplete)?,
                [b'/'] => return Err(Fault::Incomplete),
                _ => return Ok(at),
            };
            at += skipped;
        }
    }
}

fn check_depth(at: usize, depth: usize) -> Scan<()> {
    if depth > DEPTH_MAX { bad(at, "values are nested more than 256 deep") } else { Ok(()) }
}
