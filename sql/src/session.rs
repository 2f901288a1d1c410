//! A session: the catalog, settings and prepared statements of one connection, and how a statement runs.
//!
//! Invariant: a statement either returns rows with the counters of what it read, or an error with its code.

use std::{path::PathBuf, sync::Arc};

use datafusion::{execution::SendableRecordBatchStream, prelude::SessionContext};
use headwater_connectors::lake::stats::ScanStats;
use headwater_engine::error::Result;

/// Where a session keeps its state.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Directory of catalog, checkpoints and history.
    pub state: PathBuf,
}

/// One connection.
pub struct Session {
    context: SessionContext,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// What a statement gave.
pub enum Outcome {
    /// Rows to read, with the counters they fill while they are read.
    Rows {
        /// The rows.
        stream: SendableRecordBatchStream,
        /// What was read for them.
        stats: Arc<ScanStats>,
    },
    /// Nothing to show; how many rows were written, if any.
    Done {
        /// Rows written.
        rows: Option<u64>,
        /// What was read.
        stats: Arc<ScanStats>,
    },
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rows { .. } => f.write_str("Rows"),
            Self::Done { rows, .. } => write!(f, "Done({rows:?})"),
        }
    }
}

impl Session {
    /// Opens a session on its state directory.
    pub async fn open(_config: SessionConfig) -> Result<Self> {
        Ok(Self { context: SessionContext::new() })
    }

    /// Runs one statement.
    pub async fn execute(&self, sql: &str) -> Result<Outcome> {
        let frame = self.context.sql(sql).await?;
        Ok(Outcome::Rows { stream: frame.execute_stream().await?, stats: Arc::default() })
    }
}
