//! Nodes into columns: objects into rows and maps, arrays into arrays, and any value into a text column as JSON.
//!
//! Invariant: a refusal leaves columns longer than before at most; the row decoder cuts them back.

use std::collections::HashMap;

use super::{
    coerce::{Fit, Misfit, Rules},
    column::{Column, Data},
    lexer,
    options::Dialect,
    tape::{Kind, Node, Tape},
};

/// Puts the values of one row into columns.
#[derive(Debug)]
pub(super) struct Placer<'a> {
    pub(super) tape: &'a Tape,
    pub(super) row: &'a [u8],
    pub(super) rules: &'a Rules,
    pub(super) scratch: &'a mut Vec<u8>,
    /// Values that became NULL because they did not fit.
    pub(super) nulled: u64,
}

impl Placer<'_> {
    /// Adds the value of node `index`; an error is the reason why the row is malformed.
    pub(super) fn place(&mut self, column: &mut Column, index: usize) -> Result<(), String> {
        let node = self.tape.nodes[index];
        let fit = match node.kind {
            Kind::Null => {
                column.push_null();
                return Ok(());
            }
            Kind::Object | Kind::Array => self.container(column, index)?,
            _ if is_nested(column) => self.scalar_into_nested(column, index)?,
            Kind::True => column.push_boolean(true),
            Kind::False => column.push_boolean(false),
            Kind::Number => column.push_number(node.bytes(self.row), self.rules),
            Kind::Word => self.word(column, node),
            Kind::Text => column.push_text(node.bytes(self.row), self.rules),
            Kind::EscapedText => {
                let mut text = std::mem::take(self.scratch);
                text.clear();
                lexer::unescape(node.bytes(self.row), &mut text);
                let fit = column.push_text(&text, self.rules);
                *self.scratch = text;
                fit
            }
        };
        match fit {
            Ok(()) => Ok(()),
            Err(misfit) => self.settle(column, index, misfit),
        }
    }

    fn settle(&mut self, column: &mut Column, index: usize, misfit: Misfit) -> Result<(), String> {
        if is_refused(misfit, self.rules) {
            return Err(misfit_reason(self.tape.nodes[index].bytes(self.row), column));
        }
        column.push_null();
        self.nulled += 1;
        Ok(())
    }

    /// An unquoted word of the loose syntax reads as text does, except that `007` is the number 7.
    fn word(&mut self, column: &mut Column, node: Node) -> Fit {
        let word = node.bytes(self.row);
        let is_number = word.iter().all(u8::is_ascii_digit);
        let trimmed = word.iter().position(|&digit| digit != b'0').unwrap_or(word.len() - 1);
        let is_string = matches!(column.data, Data::Text(_));
        column.push_text(if is_number && is_string { &word[trimmed..] } else { word }, self.rules)
    }

    fn container(&mut self, column: &mut Column, index: usize) -> Result<Fit, String> {
        let kind = self.tape.nodes[index].kind;
        match (&mut column.data, kind) {
            (Data::Struct { nulls, fields, names }, Kind::Object) => {
                let mut slots = vec![None; fields.len()];
                for key in self.tape.children(index).step_by(2) {
                    let text = self.text_of(key);
                    let Some(field) = names.find(&text) else { continue };
                    if slots[field].replace(key + 1).is_some() {
                        self.refuse_twice(&text)?;
                    }
                }
                self.fields(fields, &slots)?;
                nulls.append_non_null();
            }
            (Data::Struct { nulls, fields, .. }, Kind::Array) if self.rules.dialect == Dialect::OpenX => {
                let slots: Vec<_> = self.tape.children(index).map(Some).collect();
                self.fields(fields, &slots)?;
                nulls.append_non_null();
            }
            (Data::List { ends, nulls, items }, Kind::Array) => {
                for child in self.tape.children(index) {
                    self.place(items, child)?;
                }
                ends.push(items.len() as i32);
                nulls.append_non_null();
            }
            (Data::List { ends, nulls, items }, Kind::Object) if self.rules.dialect == Dialect::OpenX => {
                self.place(items, index)?;
                ends.push(items.len() as i32);
                nulls.append_non_null();
            }
            (Data::Map { ends, nulls, keys, values }, Kind::Object) => {
                self.entries(keys, values, index)?;
                ends.push(keys.len() as i32);
                nulls.append_non_null();
            }
            (Data::Text(_), _) if self.rules.dialect == Dialect::Hive => return Ok(Err(Misfit::Shape)),
            (Data::Text(varying) | Data::Json(varying), _) => {
                self.write_json(index, &mut varying.bytes);
                varying.end_value();
            }
            (Data::Boolean(values, nulls), _) if self.rules.dialect == Dialect::OpenX => {
                values.append(false);
                nulls.append_non_null();
            }
            _ => return Ok(Err(Misfit::Shape)),
        }
        Ok(Ok(()))
    }

    fn fields(&mut self, fields: &mut [Column], slots: &[Option<usize>]) -> Result<(), String> {
        for (position, field) in fields.iter_mut().enumerate() {
            match slots.get(position).copied().flatten() {
                Some(value) => self.place(field, value)?,
                None => field.push_null(),
            }
        }
        Ok(())
    }

    /// Of equal keys the last one counts, except that OpenX refuses them.
    fn refuse_twice(&self, key: &[u8]) -> Result<(), String> {
        match self.rules.dialect {
            Dialect::OpenX => Err(format!("key \"{}\" stands twice", String::from_utf8_lossy(key))),
            Dialect::Hive | Dialect::Headwater => Ok(()),
        }
    }

    /// Entries of a map.
    fn entries(&mut self, keys: &mut Column, values: &mut Column, index: usize) -> Result<(), String> {
        let mut last = HashMap::new();
        for key in self.tape.children(index).step_by(2) {
            let text = self.text_of(key);
            if last.insert(text.clone(), key).is_some() {
                self.refuse_twice(&text)?;
            }
        }
        for key in self.tape.children(index).step_by(2) {
            let text = self.text_of(key);
            if last.get(&text) != Some(&key) {
                continue;
            }
            if keys.push_text(&text, self.rules).is_err() {
                return Err(misfit_reason(&text, keys));
            }
            self.place(values, key + 1)?;
        }
        Ok(())
    }

    /// The OpenX SerDe makes an array of a scalar, and reads `""` as nothing.
    fn scalar_into_nested(&mut self, column: &mut Column, index: usize) -> Result<Fit, String> {
        if self.rules.dialect != Dialect::OpenX {
            return Ok(Err(Misfit::Shape));
        }
        let node = self.tape.nodes[index];
        let is_empty = node.kind == Kind::Text && node.start == node.end;
        match &mut column.data {
            Data::List { .. } | Data::Map { .. } if is_empty => column.push_null(),
            Data::List { ends, nulls, items } => {
                self.place(items, index)?;
                ends.push(items.len() as i32);
                nulls.append_non_null();
            }
            Data::Struct { nulls, fields, .. } if is_empty => {
                fields.iter_mut().for_each(Column::push_null);
                nulls.append_non_null();
            }
            _ => return Ok(Err(Misfit::Shape)),
        }
        Ok(Ok(()))
    }

    /// What a key or string node stands for.
    pub(super) fn text_of(&self, index: usize) -> Vec<u8> {
        text_of(self.tape, index, self.row)
    }

    /// Writes a node as compact JSON, its keys in their order and case.
    fn write_json(&self, index: usize, out: &mut Vec<u8>) {
        let node = self.tape.nodes[index];
        match node.kind {
            Kind::Null => out.extend_from_slice(b"null"),
            Kind::True => out.extend_from_slice(b"true"),
            Kind::False => out.extend_from_slice(b"false"),
            Kind::Number => out.extend_from_slice(node.bytes(self.row)),
            Kind::Text | Kind::EscapedText | Kind::Word => write_text(&self.text_of(index), out),
            Kind::Object | Kind::Array => {
                let is_object = node.kind == Kind::Object;
                out.push(if is_object { b'{' } else { b'[' });
                for (position, child) in self.tape.children(index).enumerate() {
                    match (position, is_object && position % 2 == 1) {
                        (0, _) => {}
                        (_, true) => out.push(b':'),
                        (_, false) => out.push(b','),
                    }
                    self.write_json(child, out);
                }
                out.push(if is_object { b'}' } else { b']' });
            }
        }
    }
}

/// What a key or string node stands for.
pub(super) fn text_of(tape: &Tape, index: usize, row: &[u8]) -> Vec<u8> {
    let node = tape.nodes[index];
    if node.kind != Kind::EscapedText {
        return node.bytes(row).to_vec();
    }
    let mut text = Vec::with_capacity(node.bytes(row).len());
    lexer::unescape(node.bytes(row), &mut text);
    text
}

/// Whether a column's values are arrays, maps or rows.
#[inline]
pub(super) fn is_nested(column: &Column) -> bool {
    matches!(column.data, Data::List { .. } | Data::Map { .. } | Data::Struct { .. })
}

/// Whether a misfit makes its row malformed.
pub(super) fn is_refused(misfit: Misfit, rules: &Rules) -> bool {
    match misfit {
        Misfit::Null => false,
        Misfit::Scalar => rules.is_strict,
        Misfit::Shape => rules.is_strict || rules.dialect == Dialect::OpenX,
    }
}

/// Longest part of a value shown in a reason.
const SHOWN_BYTES_MAX: usize = 64;

/// Why a value does not fit, for the user.
pub(super) fn misfit_reason(value: &[u8], column: &Column) -> String {
    let shown = String::from_utf8_lossy(&value[..value.len().min(SHOWN_BYTES_MAX)]).into_owned();
    let dots = if value.len() > SHOWN_BYTES_MAX { ".." } else { "" };
    let wanted = crate::lake::hive_type::text(&column.data_type).unwrap_or_else(|_| column.data_type.to_string());
    format!("\"{shown}{dots}\" does not read as {wanted}")
}

/// Writes a text as a JSON string.
pub(super) fn write_text(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text;
    loop {
        let stop = lexer::string_stop(rest, 0);
        out.extend_from_slice(&rest[..stop]);
        let Some(&byte) = rest.get(stop) else { break };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x8 => out.extend_from_slice(b"\\b"),
            0xC => out.extend_from_slice(b"\\f"),
            _ => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        }
        rest = &rest[stop + 1..];
    }
    out.push(b'"');
}

/// Writes a number as Java's `BigDecimal` shows it: `1e2` is `1E+2`, `1.230` stays.
pub(super) fn write_java_number(text: &[u8], out: &mut Vec<u8>) {
    let has_exponent = memchr::memchr2(b'e', b'E', text).is_some();
    let parts = if has_exponent { super::coerce::decimal_parts(text) } else { None };
    let Some((mantissa, exponent)) = parts else {
        out.extend_from_slice(text);
        return;
    };
    let digits = mantissa.unsigned_abs().to_string();
    if mantissa < 0 {
        out.push(b'-');
    }
    let adjusted = i64::from(exponent) + digits.len() as i64 - 1;
    if exponent <= 0 && adjusted >= -6 {
        let fraction = exponent.unsigned_abs() as usize;
        let padded = format!("{digits:0>width$}", width = fraction + 1);
        let (whole, part) = padded.split_at(padded.len() - fraction);
        out.extend_from_slice(whole.as_bytes());
        if fraction > 0 {
            out.push(b'.');
            out.extend_from_slice(part.as_bytes());
        }
        return;
    }
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    let sign = if adjusted < 0 { "" } else { "+" };
    out.extend_from_slice(format!("{first}{point}{rest}E{sign}{adjusted}").as_bytes());
}
