//! What every source and every sink must do, whatever system is behind it: one function each, run by all of them.
//!
//! Invariant: a suite knows the seams and no system; what differs (how rows are put there and seen) comes as a parameter.

mod sink;
mod source;

use std::path::Path;

use arrow::{
    array::RecordBatch,
    util::display::{ArrayFormatter, FormatOptions},
};
use headwater_engine::{connector::JobContext, error::Result, message::Generation, testing::job_context};

pub use sink::{SinkUnderTest, sink_conforms};
pub use source::{rows_of, source_conforms};

/// A job as connectors see it, at a generation.
pub fn job(generation: u64, local_state: &Path) -> JobContext {
    JobContext { generation: Generation(generation), local_state: local_state.to_owned(), ..job_context("conformance") }
}

/// Each row as text.
fn texts(rows: &RecordBatch) -> Result<Vec<String>> {
    let options = FormatOptions::default().with_null("NULL");
    let columns = rows.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
    let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
    Ok((0..rows.num_rows())
        .map(|row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|"))
        .collect())
}
