//! Flink's `LIKE source [(INCLUDING | EXCLUDING | OVERWRITING feature ..)]`, the last clause of a table of the run.
//!
//! Invariant: what is not said is included, and options given twice are those of the new table.

use headwater_engine::error::{Error, Result};

use crate::parser::cursor::{Cursor, ObjectName};

/// The table a new one is like.
#[derive(Debug, Clone)]
pub struct Like {
    /// That table, of the run or of the catalog.
    pub source: ObjectName,
    /// What is taken over besides the columns of its payload.
    pub keeps: Kept,
}

/// What is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// The PRIMARY KEY.
    pub constraints: bool,
    /// Computed columns.
    pub generated: bool,
    /// Metadata columns.
    pub metadata: bool,
    /// `WITH (..)`.
    pub options: bool,
    /// `PARTITIONED BY (..)`.
    pub partitions: bool,
    /// `WATERMARK FOR ..`.
    pub watermarks: bool,
}

impl Kept {
    fn all(is_kept: bool) -> Self {
        Self {
            constraints: is_kept,
            generated: is_kept,
            metadata: is_kept,
            options: is_kept,
            partitions: is_kept,
            watermarks: is_kept,
        }
    }

    fn feature(&mut self, name: &str) -> Option<&mut bool> {
        Some(match name {
            "CONSTRAINTS" => &mut self.constraints,
            "GENERATED" => &mut self.generated,
            "METADATA" => &mut self.metadata,
            "OPTIONS" => &mut self.options,
            "PARTITIONS" => &mut self.partitions,
            "WATERMARKS" => &mut self.watermarks,
            _ => return None,
        })
    }
}

/// Parses the clause where there is one.
pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Option<Like>> {
    if !cursor.take(&["LIKE"]) {
        return Ok(None);
    }
    let source = cursor.object_name("the name of the table it is like")?;
    let mut keeps = Kept::all(true);
    if !cursor.take_symbol('(') {
        return Ok(Some(Like { source, keeps }));
    }
    while !cursor.take_symbol(')') {
        let is_kept = if cursor.take(&["EXCLUDING"]) {
            false
        } else if cursor.take(&["INCLUDING"]) || cursor.take(&["OVERWRITING"]) {
            true
        } else {
            return Err(cursor.expected("INCLUDING, EXCLUDING or OVERWRITING"));
        };
        if cursor.take(&["ALL"]) {
            keeps = Kept::all(is_kept);
            continue;
        }
        let word = cursor.word_ahead(0).unwrap_or_default();
        match keeps.feature(&word) {
            Some(kept) => *kept = is_kept,
            None => return Err(unknown(cursor)),
        }
        cursor.skip(1);
    }
    Ok(Some(Like { source, keeps }))
}

fn unknown(cursor: &Cursor<'_>) -> Error {
    cursor.expected("ALL, CONSTRAINTS, GENERATED, METADATA, OPTIONS, PARTITIONS or WATERMARKS")
}
