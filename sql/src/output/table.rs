//! Rows as an aligned table, or one value a line (expanded) where the table is wider than the terminal.
//!
//! Invariant: memory is bounded: the widths come from the first rows, and later rows are written as they come, a value that
//! is wider than its column pushing its own line out.

use std::{io, io::Write};

use arrow::{
    array::{Array, RecordBatch},
    datatypes::{DataType, Schema},
};
use unicode_width::UnicodeWidthStr;

use super::value;

/// Rows that decide the widths of the columns.
const ROWS_MEASURED: usize = 1_000;
/// How NULL is shown, so that it differs from the empty text.
const NULL: &str = "NULL";

/// When rows are shown expanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expanded {
    /// Always.
    On,
    /// Never.
    #[default]
    Off,
    /// If the table is wider than the terminal.
    Auto,
}

/// Writes rows as a table.
#[derive(Debug)]
pub(super) struct Table {
    names: Vec<String>,
    right: Vec<bool>,
    waiting: Vec<Vec<String>>,
    widths: Option<Vec<usize>>,
    width_max: Option<usize>,
    expanded: Expanded,
    rows: u64,
}

impl Table {
    /// A table for a terminal of so many columns, or for a file.
    pub(super) fn new(schema: &Schema, width_max: Option<usize>, expanded: Expanded) -> Self {
        let fields = schema.fields();
        Self {
            names: fields.iter().map(|field| visible(field.name())).collect(),
            right: fields.iter().map(|field| is_right_aligned(field.data_type())).collect(),
            waiting: Vec::new(),
            widths: None,
            width_max,
            expanded,
            rows: 0,
        }
    }

    /// Takes the rows of a batch and writes them once the widths are known.
    pub(super) fn batch(&mut self, batch: &RecordBatch, out: &mut dyn Write) -> io::Result<()> {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| cell(column, row)).collect();
            self.waiting.push(cells);
            if self.widths.is_some() || self.waiting.len() >= ROWS_MEASURED {
                self.write_waiting(out)?;
            }
        }
        Ok(())
    }

    /// Writes what is left.
    pub(super) fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.write_waiting(out)
    }

    fn write_waiting(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.widths.is_none() {
            let widths = self.measure();
            let total: usize = widths.iter().map(|width| width + 3).sum();
            if self.expanded == Expanded::Auto {
                let fits = self.width_max.is_none_or(|max| total <= max + 1);
                self.expanded = if fits { Expanded::Off } else { Expanded::On };
            }
            if self.expanded == Expanded::Off {
                self.write_header(&widths, out)?;
            }
            self.widths = Some(widths);
        }
        let widths = self.widths.as_deref().unwrap_or_default();
        let mut text = String::new();
        for cells in self.waiting.drain(..) {
            self.rows += 1;
            match self.expanded {
                Expanded::On => write_record(self.rows, &self.names, &cells, &mut text),
                Expanded::Off | Expanded::Auto => write_line(&cells, widths, &self.right, &mut text),
            }
        }
        out.write_all(text.as_bytes())
    }

    fn measure(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.names.iter().map(|name| name.width()).collect();
        for cells in &self.waiting {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.width());
            }
        }
        widths
    }

    fn write_header(&self, widths: &[usize], out: &mut dyn Write) -> io::Result<()> {
        let mut text = String::new();
        write_line(&self.names, widths, &self.right, &mut text);
        let rules: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
        text.push_str(&rules.join("+"));
        text.push('\n');
        out.write_all(text.as_bytes())
    }
}

fn cell(column: &dyn Array, row: usize) -> String {
    if column.is_null(row) || column.data_type().is_null() {
        return NULL.to_owned();
    }
    let mut text = String::new();
    value::write_text(column, row, &mut text);
    visible(&text)
}

/// The text on one line: control characters are shown as escapes, so that no value can move the cursor.
fn visible(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

fn is_right_aligned(data_type: &DataType) -> bool {
    data_type.is_numeric()
}

fn write_line(cells: &[String], widths: &[usize], right: &[bool], out: &mut String) {
    for (i, cell) in cells.iter().enumerate() {
        out.push_str(if i == 0 { " " } else { " | " });
        let padding = " ".repeat(widths[i].saturating_sub(cell.width()));
        if right[i] {
            out.push_str(&padding);
            out.push_str(cell);
        } else {
            out.push_str(cell);
            if i + 1 < cells.len() {
                out.push_str(&padding);
            }
        }
    }
    out.push('\n');
}

fn write_record(number: u64, names: &[String], cells: &[String], out: &mut String) {
    let width = names.iter().map(|name| name.width()).max().unwrap_or_default();
    let title = format!("-[ row {number} ]");
    out.push_str(&title);
    out.push_str(&"-".repeat((width + 20).saturating_sub(title.len())));
    out.push('\n');
    for (name, cell) in names.iter().zip(cells) {
        out.push_str(name);
        out.push_str(&" ".repeat(width - name.width()));
        out.push_str(" | ");
        out.push_str(cell);
        out.push('\n');
    }
}
