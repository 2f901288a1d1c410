//! One row at a time into the columns of a batch.
//!
//! Invariant: a row is added to all columns or to none, and so are its counts.

use std::collections::HashSet;

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions},
    datatypes::SchemaRef,
};
use headwater_engine::error::Result;

use super::{
    coerce::Rules,
    column::{Column, Names},
    lenient,
    lexer::Fault,
    nested::{self, Placer},
    options::{Dialect, JsonOptions},
    shape::{Shape, Target},
    tape::{Kind, Tape},
};

/// Why a row was not added.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The bytes end before the row does.
    Incomplete,
    /// The row is malformed.
    Malformed {
        /// Its end, if its syntax is in order.
        end: Option<usize>,
        reason: String,
    },
}

/// The columns of a batch under construction, and what is needed to add rows to them.
#[derive(Debug)]
pub(super) struct Rows {
    schema: SchemaRef,
    names: Names,
    columns: Vec<Column>,
    rules: Rules,
    tape: Tape,
    scratch: Vec<u8>,
    slots: Vec<Option<usize>>,
    /// For each column that the table declares its column here, if it is wanted: arrays and `_colN` go by position.
    positions: Vec<Option<usize>>,
    shape: Shape,
    /// Whether shapes are learned; never off but in tests of the general parser.
    learns: bool,
    /// Whether the row last parsed is strict JSON.
    is_strict_row: bool,
    length: usize,
    nulled: u64,
    /// Bytes of rows in this batch.
    bytes: usize,
    row_bytes_max: usize,
}

impl Rows {
    pub(super) fn new(schema: SchemaRef, options: &JsonOptions) -> Result<Self> {
        let fields = schema.fields();
        Ok(Self {
            names: Names::new(fields, options, true),
            columns: fields.iter().map(|field| Column::new(field.data_type(), options)).collect::<Result<_>>()?,
            rules: Rules::new(options)?,
            tape: Tape::default(),
            scratch: Vec::new(),
            slots: vec![None; fields.len()],
            positions: (0..fields.len()).map(Some).collect(),
            shape: Shape::default(),
            learns: true,
            is_strict_row: true,
            length: 0,
            nulled: 0,
            bytes: 0,
            row_bytes_max: options.row_bytes_max,
            schema,
        })
    }

    /// Says at which positions of the table the columns wanted stand.
    pub(super) fn declare(&mut self, table: &SchemaRef) {
        self.positions = table.fields().iter().map(|field| self.schema.index_of(field.name()).ok()).collect();
    }

    /// Keeps to the general parser, to compare it with the fast way.
    #[cfg(test)]
    pub(super) fn learn_nothing(&mut self) {
        self.learns = false;
    }

    /// How many rows the batch has so far.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Bytes the rows so far were decoded from.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds the row that starts at `at`; returns its end. `is_utf8` says that the whole buffer is known to be UTF-8.
    #[inline]
    pub(super) fn add(&mut self, buffer: &[u8], at: usize, is_utf8: bool) -> Result<usize, Refusal> {
        let limit = buffer.len().min(at.saturating_add(self.row_bytes_max));
        let end = self.add_any(&buffer[..limit], at, is_utf8)?;
        self.length += 1;
        self.bytes += end - at;
        Ok(end)
    }

    /// Adds a row of NULLs.
    pub(super) fn add_nulls(&mut self) {
        self.columns.iter_mut().for_each(Column::push_null);
        self.length += 1;
    }

    #[inline]
    fn add_any(&mut self, buffer: &[u8], at: usize, is_utf8: bool) -> Result<usize, Refusal> {
        let columns = &mut self.columns;
        let (rules, tape, scratch, length) = (&self.rules, &mut self.tape, &mut self.scratch, self.length);
        let mut target = Target { columns, rules, tape, scratch, length, nulled: 0 };
        if let Some(end) = self.shape.take(buffer, at, &mut target)
            && (is_utf8 || simdutf8::basic::from_utf8(&buffer[at..end]).is_ok())
        {
            self.nulled += target.nulled;
            return Ok(end);
        }
        self.add_general(buffer, at, is_utf8)
    }

    fn add_general(&mut self, buffer: &[u8], at: usize, is_utf8: bool) -> Result<usize, Refusal> {
        self.columns.iter_mut().for_each(|column| column.truncate(self.length));
        let row = &buffer[at..];
        let end = self.parse(buffer, at)?;
        let refuse = |reason| Refusal::Malformed { end: Some(at + end), reason };
        if !is_utf8 && simdutf8::basic::from_utf8(&row[..end]).is_err() {
            return Err(refuse("the row is not valid UTF-8".to_owned()));
        }
        let nulled = self.place(row).map_err(|reason| {
            self.columns.iter_mut().for_each(|column| column.truncate(self.length));
            refuse(reason)
        })?;
        self.nulled += nulled;
        if self.learns && self.is_strict_row {
            let (names, dialect, positions, tape) = (&self.names, self.rules.dialect, &self.positions, &self.tape);
            let column_of = |key| find(names, dialect, positions, &nested::text_of(tape, key, row));
            let identity = |key| match dialect {
                Dialect::OpenX => names.compared(&nested::text_of(tape, key, row)),
                Dialect::Headwater | Dialect::Hive => nested::text_of(tape, key, row),
            };
            self.shape.learn(tape, row, column_of, identity);
        }
        Ok(at + end)
    }

    /// Makes nodes of the row; returns its length.
    fn parse(&mut self, buffer: &[u8], at: usize) -> Result<usize, Refusal> {
        let row = &buffer[at..];
        let is_loose = self.rules.dialect == Dialect::OpenX;
        let parsed = match self.tape.parse(row) {
            Err(Fault::Bad { .. }) if is_loose => {
                self.is_strict_row = false;
                lenient::parse(&mut self.tape, row)
            }
            parsed => {
                self.is_strict_row = true;
                parsed
            }
        };
        let malformed = |reason: String| Refusal::Malformed { end: None, reason };
        let end = parsed.map_err(|fault| match fault {
            Fault::Incomplete => Refusal::Incomplete,
            Fault::Bad { at, reason } => malformed(format!("{reason} (byte {at} of the row)")),
        })?;
        match self.tape.nodes.first().map(|node| node.kind) {
            Some(Kind::Object) => Ok(end),
            Some(Kind::Array) if is_loose => Ok(end),
            // A number at the very end may go on.
            Some(Kind::Number) if end == row.len() => Err(Refusal::Incomplete),
            // Words that are no JSON are one bad row up to where the next one may start, not a row each.
            Some(Kind::Word) => Err(malformed("expected a JSON object".to_owned())),
            _ => Err(Refusal::Malformed { end: Some(at + end), reason: "expected a JSON object".to_owned() }),
        }
    }

    /// Puts the parsed row into the columns; returns how many values became NULL.
    fn place(&mut self, row: &[u8]) -> Result<u64, String> {
        self.slots.fill(None);
        self.fill_slots(row)?;
        let (rules, scratch) = (&self.rules, &mut self.scratch);
        let mut placer = Placer { tape: &self.tape, row, rules, scratch, nulled: 0 };
        for (position, column) in self.columns.iter_mut().enumerate() {
            match self.slots[position] {
                Some(value) => placer
                    .place(column, value)
                    .map_err(|reason| format!("column \"{}\": {reason}", self.schema.field(position).name()))?,
                None => column.push_null(),
            }
        }
        Ok(placer.nulled)
    }

    /// Finds the value of each column; of equal keys the last one counts, except that OpenX refuses them, whether they
    /// are a column's or not.
    fn fill_slots(&mut self, row: &[u8]) -> Result<(), String> {
        if self.tape.nodes[0].kind == Kind::Array {
            for (position, value) in self.positions.iter().zip(self.tape.children(0)) {
                if let Some(column) = position {
                    self.slots[*column] = Some(value);
                }
            }
            return Ok(());
        }
        let (names, dialect, positions) = (&self.names, self.rules.dialect, &self.positions);
        let mut seen = HashSet::new();
        for key in self.tape.children(0).step_by(2) {
            let node = self.tape.nodes[key];
            let unescaped = (node.kind == Kind::EscapedText).then(|| nested::text_of(&self.tape, key, row));
            let text = unescaped.as_deref().unwrap_or(node.bytes(row));
            if dialect == Dialect::OpenX && !seen.insert(names.compared(text)) {
                return Err(format!("key \"{}\" stands twice", String::from_utf8_lossy(text)));
            }
            if let Some(column) = find(names, dialect, positions, text) {
                self.slots[column] = Some(key + 1);
            }
        }
        Ok(())
    }

    /// The rows so far as a batch, and how many of their values became NULL.
    pub(super) fn finish(&mut self) -> Result<(RecordBatch, u64)> {
        let arrays = self.columns.iter_mut().map(Column::finish).collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.length));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)?;
        (self.length, self.bytes) = (0, 0);
        Ok((batch, std::mem::take(&mut self.nulled)))
    }
}

/// Where the row at the start of `bytes` ends as this dialect reads it, or else its line; `None` if that is not among them,
/// unless they are all there is.
pub(crate) fn row_end(dialect: Dialect, bytes: &[u8], is_all: bool) -> Option<usize> {
    let mut tape = Tape::default();
    let parsed = match tape.parse(bytes) {
        Err(Fault::Bad { .. }) if dialect == Dialect::OpenX => lenient::parse(&mut tape, bytes),
        parsed => parsed,
    };
    match parsed {
        Ok(end) => Some(end),
        Err(Fault::Incomplete) if !is_all => None,
        Err(Fault::Incomplete | Fault::Bad { .. }) => {
            memchr::memchr(b'\n', bytes).or_else(|| is_all.then_some(bytes.len()))
        }
    }
}

/// The column of a key; the Hive SerDe also takes `_colN` for the column at position N.
fn find(names: &Names, dialect: Dialect, positions: &[Option<usize>], key: &[u8]) -> Option<usize> {
    let found = names.find(key);
    if found.is_some() || dialect != Dialect::Hive {
        return found;
    }
    let position: usize = std::str::from_utf8(key.strip_prefix(b"_col")?).ok()?.parse().ok()?;
    positions.get(position).copied().flatten()
}
