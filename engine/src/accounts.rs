//! The ledger: what became of every row that was read, and the tables that hold what was not processed.
//!
//! For each INSERT, table and split: `read = rejected + filtered + late + held + released`. A row is held while the first
//! stateful operator keeps it for a window; [`Tally::held`] counts such rows by the end of their last window, and they
//! are released once the operator's watermark has passed that end.
//!
//! Invariant: [`Tally::is_balanced`] after every batch.

use std::{collections::BTreeMap, sync::Arc};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

use crate::{connector::Carries, time::Watermark};

/// Ends of windows that one account tells apart; beyond that, rows are released with a later end beside theirs.
const ENDS_MAX: usize = 512;

/// Accounts of one split by INSERT.
pub type SplitAccount = BTreeMap<String, Tally>;

/// Rows of one (INSERT, table, split).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Rows read, rejected ones included.
    pub read: u64,
    /// Rows that could not be decoded or have no event time.
    pub rejected: u64,
    /// Rows WHERE left out.
    pub filtered: u64,
    /// Rows all of whose windows had closed.
    pub late: u64,
    /// Rows some of whose windows had closed; they are among those held or released.
    #[serde(default)]
    pub partly_late: u64,
    /// Rows that have done their work.
    pub released: u64,
    /// Rows kept for windows, by the end of the last window they belong to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held: BTreeMap<i64, u64>,
}

impl Tally {
    /// How many rows are held.
    pub fn held_rows(&self) -> u64 {
        self.held.values().sum()
    }

    /// Whether every row is accounted for.
    pub fn is_balanced(&self) -> bool {
        self.read == self.rejected + self.filtered + self.late + self.released + self.held_rows()
    }

    /// Holds rows until a watermark has passed `end`, or an end near it where there are too many.
    pub fn hold(&mut self, end: i64, rows: u64) {
        *self.held.entry(end).or_default() += rows;
        let (Some((first, _)), Some((last, _))) = (self.held.first_key_value(), self.held.last_key_value()) else {
            return;
        };
        if self.held.len() <= ENDS_MAX {
            return;
        }
        let (first, cell) = (*first, last.abs_diff(*first) / (ENDS_MAX as u64 / 2) + 1);
        let mut coarse: BTreeMap<u64, (i64, u64)> = BTreeMap::new();
        for (end, rows) in &self.held {
            let kept = coarse.entry(end.abs_diff(first) / cell).or_insert((*end, 0));
            *kept = (*end, kept.1 + rows);
        }
        self.held = coarse.into_values().collect();
    }

    /// Releases what a watermark has passed.
    pub fn release(&mut self, watermark: Watermark) {
        if watermark == Watermark::MAX {
            self.released += self.held_rows();
            self.held.clear();
            return;
        }
        let open = self.held.split_off(&watermark.0.saturating_add(1));
        self.released += self.held.values().sum::<u64>();
        self.held = open;
    }

    /// Adds another account to this one.
    pub fn add(&mut self, other: &Tally) {
        self.read += other.read;
        self.rejected += other.rejected;
        self.filtered += other.filtered;
        self.late += other.late;
        self.partly_late += other.partly_late;
        self.released += other.released;
        for (end, rows) in &other.held {
            self.hold(*end, *rows);
        }
    }
}

/// Adds the accounts of a split to a sum.
pub fn add_account(sum: &mut SplitAccount, account: &SplitAccount) {
    for (insert, tally) in account {
        sum.entry(insert.clone()).or_default().add(tally);
    }
}

/// Columns of `"t$rejected"`.
pub fn rejected_schema() -> SchemaRef {
    let field = |name: &str, data_type: DataType| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        field("raw", DataType::Binary),
        field("reason", DataType::Utf8),
        field("split", DataType::Utf8),
        field("offset", DataType::Utf8),
        field("arrival", DataType::Timestamp(TimeUnit::Millisecond, None)),
    ]))
}

/// Columns of the records of a table as they came.
pub fn records_schema() -> SchemaRef {
    let raw = Arc::new(Schema::new(vec![Field::new("raw", DataType::Binary, true)]));
    Carries::Arrival.extend(&raw)
}

/// Columns of `"t$late"` for a table with these columns; `missed_until` is the end of the last window that a row missed
/// which takes part in later ones, NULL for a row that takes part in none. A column of the table with one of our names keeps it, ours gets
/// the prefix `headwater_`.
pub fn late_schema(table: &Schema) -> SchemaRef {
    let ours = [
        ("split", DataType::Utf8),
        ("offset", DataType::Utf8),
        ("watermark", DataType::Timestamp(TimeUnit::Millisecond, None)),
        ("inserts", DataType::Utf8),
        ("missed_until", DataType::Timestamp(TimeUnit::Millisecond, None)),
    ];
    let taken = |name: &str| table.fields().iter().any(|field| field.name().eq_ignore_ascii_case(name));
    let ours = ours.into_iter().map(|(name, data_type)| {
        let name = if taken(name) { format!("headwater_{name}") } else { name.to_owned() };
        Arc::new(Field::new(name, data_type, true))
    });
    Arc::new(Schema::new(table.fields().iter().cloned().chain(ours).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_end_is_released_when_the_watermark_reaches_it() {
        let mut tally = Tally { read: 6, held: BTreeMap::from([(10, 1), (20, 2), (30, 3)]), ..Default::default() };
        tally.release(Watermark(19));
        assert_eq!((tally.released, tally.held_rows()), (1, 5));
        tally.release(Watermark(20));
        assert_eq!((tally.released, tally.held_rows()), (3, 3));
        tally.release(Watermark::MAX);
        assert!(tally.is_balanced() && tally.held.is_empty());
    }

    #[test]
    fn a_column_of_the_table_keeps_its_name() {
        let table = Schema::new(vec![Field::new("Offset", DataType::Int64, true)]);
        let names: Vec<String> = late_schema(&table).fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, ["Offset", "split", "headwater_offset", "watermark", "inserts", "missed_until"]);
    }

    #[test]
    fn a_row_of_each_moment_is_held_in_bounded_space_and_never_released_early() {
        let (mut tally, mut released) = (Tally::default(), 0);
        for end in 0..100_000 {
            tally.hold(end * 7 % 100_000, 1);
            assert!(tally.held.len() <= ENDS_MAX);
        }
        for watermark in (0..=100_000).step_by(1000) {
            tally.release(Watermark(watermark));
            assert!((released..=watermark as u64 + 1).contains(&tally.released), "{} at {watermark}", tally.released);
            assert!(tally.released + 1000 > watermark as u64, "{} at {watermark}", tally.released);
            released = tally.released;
        }
        assert_eq!((tally.released, tally.held_rows()), (100_000, 0));
    }
}
