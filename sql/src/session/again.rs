//! Statements that begin again because a file of theirs was replaced between its listing and its reading.
//!
//! Whoever replaces files deletes the old ones at once: other engines would see both. A reader that lists again sees the
//! table as it is then.
//!
//! Invariant: nothing begins again once a row was given out, or once its own decision was asked for.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use datafusion::{
    error::DataFusionError, execution::SendableRecordBatchStream, physical_plan::stream::RecordBatchStreamAdapter,
    sql::sqlparser::ast,
};
use futures::{StreamExt, stream};
use headwater_connectors::lake::{
    commit::LISTINGS_MAX,
    stats::{ScanStats, SoFar},
};
use headwater_engine::error::{Error, Result};

use super::{Outcome, Session, named};
use crate::parser::StatementKind;

/// A query that runs.
struct Run {
    stream: SendableRecordBatchStream,
    session: Session,
    query: ast::Query,
    stats: Arc<ScanStats>,
    before: SoFar,
    /// How often it may begin again; never once it has given out rows.
    left: usize,
}

impl Session {
    /// The rows of a query, counted into `stats`.
    pub(super) async fn rows(&self, query: &ast::Query, stats: &Arc<ScanStats>) -> Result<SendableRecordBatchStream> {
        let (mut left, before) = (LISTINGS_MAX, stats.so_far());
        let stream = loop {
            match self.started(query, stats).await {
                Err(error) if left > 0 && is_gone(&error) => left -= 1,
                started => break started?,
            }
            stats.begin_again(&before);
        };
        let schema = stream.schema();
        let run = Run { stream, session: self.clone(), query: query.clone(), stats: Arc::clone(stats), before, left };
        let rows = stream::unfold(Some(run), |run| async move { run?.next().await });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }

    async fn started(&self, query: &ast::Query, stats: &Arc<ScanStats>) -> Result<SendableRecordBatchStream> {
        let (bound, state) = self.bound(query, stats).await?;
        let stream = self.run_plan(&bound.plan, &state).await?;
        Ok(named(stream, bound.schema()))
    }

    /// Runs a statement that writes, alone or after others that count into the same counters.
    pub(super) async fn written(&self, statement: &StatementKind) -> Result<Outcome> {
        let stats = self.counters();
        let before = stats.so_far();
        stats.committing.store(false, Relaxed);
        let session = self.counting_into(Arc::clone(&stats));
        for _ in 0..LISTINGS_MAX {
            match session.write(statement).await {
                Err(error) if is_gone(&error) && !stats.committing.load(Relaxed) => {
                    stats.begin_again(&before);
                }
                ended => return ended,
            }
        }
        session.write(statement).await
    }

    async fn write(&self, statement: &StatementKind) -> Result<Outcome> {
        match statement {
            StatementKind::Insert(insert) => crate::write::insert(self, insert).await,
            StatementKind::CreateTableAs(create) => crate::write::create_table_as(self, create).await,
            StatementKind::Unload(unload) => crate::write::unload(self, unload).await,
            _ => Err(Error::internal("a statement that writes no rows")),
        }
    }
}

impl Run {
    /// Its next rows, and what gives those after them.
    async fn next(mut self) -> Option<(datafusion::error::Result<arrow::array::RecordBatch>, Option<Self>)> {
        loop {
            let item = self.stream.next().await?;
            let is_gone = matches!(&item, Err(error) if Error::find_in(error).is_some_and(is_gone));
            if !is_gone || self.left == 0 {
                self.left = 0;
                return Some((item, Some(self)));
            }
            self.left -= 1;
            self.stats.begin_again(&self.before);
            match self.session.started(&self.query, &self.stats).await {
                // Its columns are promised.
                Ok(stream) if stream.schema() != self.stream.schema() => return Some((item, None)),
                Ok(stream) => self.stream = stream,
                Err(error) => return Some((Err(DataFusionError::from(error)), None)),
            }
        }
    }
}

fn is_gone(error: &Error) -> bool {
    error.code().0 == "HIVE_FILE_NOT_FOUND"
}
