//! A job as its sources and sinks see it, where no job runs.
//!
//! Invariant: it is the first attempt of a job that nobody overtakes, with memory enough for any test.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    connector::{Fence, JobContext, Unfenced},
    error::{Error, ErrorKind, Result},
    memory::MemoryBudget,
    message::Generation,
    time::SystemClock,
};

/// A job of this name; what differs goes before `..`.
pub fn job_context(job: &str) -> JobContext {
    JobContext {
        job: job.to_owned(),
        incarnation: "inc1".to_owned(),
        generation: Generation(1),
        local_state: std::env::temp_dir(),
        clock: Arc::new(SystemClock),
        memory: MemoryBudget::new(256 << 20),
        fence: Arc::new(Unfenced),
        parallelism: 1,
    }
}

/// The fence of an attempt that another one has overtaken.
#[derive(Debug)]
pub struct Overtaken;

#[async_trait]
impl Fence for Overtaken {
    async fn check(&self) -> Result<()> {
        Err(Error::new(ErrorKind::Fenced, "JOB_FENCED", "another attempt holds the job"))
    }
}
