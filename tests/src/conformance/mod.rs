//! What every source and every sink must do, whatever system is behind it: one function each, run by all of them.
//!
//! Invariant: a suite knows the seams and no system; what differs (how rows are put there and seen) comes as a parameter.

mod sink;
mod source;

use std::{path::Path, sync::Arc};

use arrow::{
    array::RecordBatch,
    util::display::{ArrayFormatter, FormatOptions},
};
use headwater_engine::{
    connector::{Fence, JobContext, Unfenced},
    error::{Error, ErrorKind, Result},
    memory::MemoryBudget,
    message::Generation,
    time::SystemClock,
};

pub use sink::{SinkUnderTest, sink_conforms};
pub use source::{rows_of, source_conforms};

/// A job as connectors see it, at a generation.
pub fn job(generation: u64, local_state: &Path) -> JobContext {
    JobContext {
        job: "conformance".to_owned(),
        incarnation: "inc1".to_owned(),
        generation: Generation(generation),
        local_state: local_state.to_owned(),
        clock: Arc::new(SystemClock),
        memory: MemoryBudget::new(256 << 20),
        fence: Arc::new(Unfenced),
        parallelism: 1,
    }
}

/// The fence of an attempt that another one has overtaken.
#[derive(Debug)]
struct Overtaken;

#[async_trait::async_trait]
impl Fence for Overtaken {
    async fn check(&self) -> Result<()> {
        Err(Error::new(ErrorKind::Fenced, "JOB_FENCED", "another attempt holds the job"))
    }
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
