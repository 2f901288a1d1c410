//! One table read without a job: its rows, or the records its decoder refuses, to the end that was there at the start.
//!
//! A query that ends needs no checkpoint, no exchange and no watermark: the splits are read one client for all, in the
//! order of the source, and what they hold is handed on as it comes.
//!
//! Invariant: nothing is acknowledged, so that reading a table leaves no trace in its system.

use std::{sync::Arc, time::Duration};

use futures::stream::{BoxStream, StreamExt, try_unfold};

use crate::{
    connector::{Bound, Boundedness, JobContext, OpenRequest, SourceEvent, SplitReader},
    error::{Error, Result},
    format::Decoder,
    graph::{Malformed, SourceNode},
    message::ChangeBatch,
    runtime::{
        aside,
        source_batch::{self, Rejected},
        splits::{Assignment, SplitTable},
    },
    time::{Watermark, as_of},
};

/// What is read of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Its rows.
    Rows,
    /// `"t$rejected"`, with the columns of [`crate::accounts::rejected_schema`].
    Rejected,
}

/// When reading ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// At the end that is there now.
    EndNow,
    /// Never, for a table that goes on.
    Stopped,
}

/// Is told how many rows were left out of a batch.
pub type OnLeftOut = Arc<dyn Fn(u64) + Send + Sync>;

struct Reading {
    node: Arc<SourceNode>,
    job: JobContext,
    what: What,
    until: Until,
    reader: Box<dyn SplitReader>,
    decoder: Option<Box<dyn Decoder>>,
    splits: SplitTable,
    discovery: Option<Duration>,
    on_left_out: OnLeftOut,
}

/// Rows of a table whose branches are not looked at; with [`What::Rows`] and [`Malformed::Reject`] what the decoder
/// refuses is left out and counted.
pub fn read(
    node: Arc<SourceNode>,
    job: JobContext,
    what: What,
    until: Until,
    on_left_out: OnLeftOut,
) -> BoxStream<'static, Result<ChangeBatch>> {
    let opened = async move { Reading::open(node, job, (what, until), on_left_out).await };
    futures::stream::once(opened)
        .map(|opened| match opened {
            Ok(reading) => {
                try_unfold(
                    reading,
                    |mut reading| async move { Ok(reading.next().await?.map(|changes| (changes, reading))) },
                )
                .boxed()
            }
            Err(error) => futures::stream::once(async move { Err(error) }).boxed(),
        })
        .flatten()
        .boxed()
}

impl Reading {
    async fn open(
        node: Arc<SourceNode>,
        job: JobContext,
        (what, until): (What, Until),
        on_left_out: OnLeftOut,
    ) -> Result<Self> {
        let source = &node.source;
        let goes_on = source.boundedness() == Boundedness::Unbounded;
        let bound = if goes_on && until == Until::EndNow { Bound::EndNow } else { Bound::Table };
        let physical = node.columns.fields().iter().enumerate();
        let physical = physical.filter(|(index, _)| node.metadata.iter().all(|(column, _)| column != index));
        let physical = arrow::datatypes::Schema::new(physical.map(|(_, field)| Arc::clone(field)).collect::<Vec<_>>());
        let decoder = source.decoder(Arc::new(physical))?;
        let mut splits = SplitTable::restore(None, 1);
        splits.listed(source.splits(&job).await?, Watermark::MIN);
        let request = OpenRequest {
            splits: splits.assign().into_iter().map(|assignment| assignment.start).collect(),
            bound,
            columns: Arc::clone(&node.columns),
            metadata: node.metadata.clone(),
            task: 0,
            tasks: 1,
        };
        let reader = source.open(&job, request).await?;
        let discovery = source.discovery_interval().filter(|_| goes_on && until == Until::Stopped);
        Ok(Self { node, job, what, until, reader, decoder, splits, discovery, on_left_out })
    }

    /// Whether everything that is wanted has been read.
    fn is_done(&self) -> bool {
        match (self.node.source.boundedness(), self.until) {
            (Boundedness::Bounded, _) => self.splits.is_all_ended(),
            (Boundedness::Unbounded, Until::EndNow) => self.splits.is_all_reached(),
            (Boundedness::Unbounded, Until::Stopped) => false,
        }
    }

    async fn next(&mut self) -> Result<Option<ChangeBatch>> {
        while !self.is_done() {
            let event = match self.discovery {
                None => self.reader.next().await,
                Some(interval) => tokio::select! {
                    event = self.reader.next() => event,
                    () = self.job.clock.sleep(interval) => {
                        let listing = self.node.source.splits(&self.job).await?;
                        self.splits.listed(listing, Watermark::MIN);
                        self.assign().await?;
                        continue;
                    }
                },
            };
            match event.map_err(|error| error.context(format!("table \"{}\"", self.node.table)))? {
                SourceEvent::Batch(batch) => {
                    let changes = self.changes(batch)?;
                    if changes.num_rows() > 0 {
                        return Ok(Some(changes));
                    }
                }
                SourceEvent::CaughtUp(_) => {}
                SourceEvent::ReachedEnd { split, .. } => self.splits.reached_end(&split),
                SourceEvent::Ended { split, children } => {
                    self.splits.ended(&split, Watermark::MIN);
                    self.splits.add(children, Watermark::MIN);
                    self.assign().await?;
                }
            }
        }
        Ok(None)
    }

    async fn assign(&mut self) -> Result<()> {
        let assigned: Vec<Assignment> = self.splits.assign();
        if assigned.is_empty() {
            return Ok(());
        }
        self.reader.assign(assigned.into_iter().map(|assignment| assignment.start).collect()).await
    }

    fn changes(&mut self, batch: crate::connector::SourceBatch) -> Result<ChangeBatch> {
        let (split, mut watermark, now) = (batch.split.clone(), Watermark::MIN, self.job.clock.now());
        let decoder = self.decoder.as_mut();
        let prepared = as_of(now, || source_batch::prepare(&self.node, decoder, batch, &mut watermark, now));
        let (prepared, _) = prepared?;
        match (self.what, self.node.malformed, prepared.rejected.first()) {
            (What::Rejected, _, _) => Ok(ChangeBatch::inserts(aside::rejected_batch(&split, &prepared.rejected)?)),
            (What::Rows, Malformed::Fail, Some(row)) => Err(malformed(&self.node.table, &split, row)),
            (What::Rows, Malformed::Reject, Some(_)) => {
                (self.on_left_out)(prepared.rejected.len() as u64);
                Ok(prepared.changes)
            }
            (What::Rows, Malformed::Fail | Malformed::Reject, _) => Ok(prepared.changes),
        }
    }
}

/// The error for a record that cannot be read where that is not to be.
pub(super) fn malformed(table: &str, split: &crate::connector::SplitId, row: &Rejected) -> Error {
    let message = format!("table \"{table}\", split \"{split}\", offset {}: {}", row.offset, row.reason);
    Error::data("MALFORMED_ROW", message)
        .with_hint("set 'malformed' = 'reject' to keep such rows in a table of their own")
}
