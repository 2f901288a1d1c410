//! Rows that a statement makes itself: listings, descriptions, plans.
//!
//! Invariant: every column is text, and a missing value is NULL.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::physical_plan::{SendableRecordBatchStream, stream::RecordBatchStreamAdapter};
use headwater_engine::error::Result;

use crate::{information_schema::text_batch, session::Outcome};

/// An outcome of these rows.
pub fn texts(names: &[&str], rows: Vec<Vec<Option<String>>>) -> Result<Outcome> {
    Ok(batch(text_batch(names, &rows)?))
}

/// An outcome of one column of texts.
pub fn lines(name: &str, lines: impl IntoIterator<Item = String>) -> Result<Outcome> {
    texts(&[name], lines.into_iter().map(|line| vec![Some(line)]).collect())
}

/// An outcome of one batch.
pub fn batch(batch: RecordBatch) -> Outcome {
    let schema = batch.schema();
    let stream = RecordBatchStreamAdapter::new(schema, futures::stream::iter([Ok(batch)]));
    Outcome::Rows { stream: Box::pin(stream) as SendableRecordBatchStream, stats: Arc::default() }
}
