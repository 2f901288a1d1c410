//! `'connector' = 'datagen'`: made-up rows, under Flink's options.
//!
//! Invariant: row `n` of a table is a function of its seed, its options and `n` alone (times of kind `random` aside),
//! so that reading from any offset gives the rows an earlier reader would have given.

mod field;
mod source;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use headwater_engine::{
    connector::{Connector, Sink, Source, TableSpec},
    error::{Error, Result},
};

use self::{field::FieldRule, source::DatagenSource};
use crate::options::Options;

/// The connector.
#[derive(Debug, Clone, Copy, Default)]
pub struct Datagen;

/// Rows a second, unless the table says otherwise.
const ROWS_PER_SECOND: u64 = 10_000;

/// What a table generates.
#[derive(Debug, Clone)]
struct DatagenOptions {
    /// `None`: as fast as they are taken.
    rows_per_second: Option<u64>,
    /// `None`: for ever.
    rows: Option<u64>,
    seed: u64,
    fields: Vec<FieldRule>,
}

impl DatagenOptions {
    fn parse(table: &TableSpec) -> Result<Self> {
        let mut options = Options::new(&table.name, &table.options);
        options.accept(&["connector", "scan.parallelism"]);
        let rate = options.number("rows-per-second")?.unwrap_or(ROWS_PER_SECOND);
        let rows = options.number("number-of-rows")?;
        let seed = options.number("seed")?.unwrap_or_default();
        let fields = table.schema.fields().iter().map(|field| FieldRule::take(&mut options, field));
        let fields = fields.collect::<Result<Vec<_>>>()?;
        options.finish()?;
        let sequence_end = fields.iter().filter_map(FieldRule::end).min();
        let rows = rows.into_iter().chain(sequence_end).min();
        Ok(Self { rows_per_second: (rate > 0).then_some(rate), rows, seed, fields })
    }

    /// How long after the first row this one is due.
    fn due(&self, row: u64) -> Duration {
        match self.rows_per_second {
            Some(rate) => {
                Duration::from_micros(u64::try_from(u128::from(row) * 1_000_000 / u128::from(rate)).unwrap_or(u64::MAX))
            }
            None => Duration::ZERO,
        }
    }
}

impl Connector for Datagen {
    fn name(&self) -> &'static str {
        "datagen"
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(DatagenSource::new(table.name.clone(), DatagenOptions::parse(table)?)))
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>> {
        Err(Error::not_supported(format!("table \"{}\": a datagen table cannot be written", table.name)))
    }
}
