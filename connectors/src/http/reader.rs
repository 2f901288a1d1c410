//! Reads the log of a table while the listener fills it.
//!
//! Invariant: only what is on disk is handed on, so that a row downstream is one that a restart would read again.

use std::{future, sync::Arc};

use async_trait::async_trait;
use headwater_engine::{
    connector::{Bound, Offset, OpenRequest, SourceEvent, SplitId, SplitReader, SplitStart, StartAt},
    error::{Error, Result},
};
use tokio::sync::watch;

use super::{listener::Registration, log::Log, record};

/// Bytes of one batch.
const BATCH_BYTES: usize = 2 << 20;

/// The reader of a source task; only one task has the log.
#[derive(Debug)]
pub(super) struct HttpReader {
    metadata: Vec<(usize, String)>,
    bound: Bound,
    reading: Option<Reading>,
}

#[derive(Debug)]
struct Reading {
    split: SplitId,
    log: Arc<Log>,
    durable: watch::Receiver<u64>,
    next: u64,
    /// Where `--once` ends.
    end: Option<u64>,
    is_paused: bool,
    said_caught_up: bool,
    has_ended: bool,
    /// Keeps the listener open.
    _registration: Option<Registration>,
}

impl HttpReader {
    pub(super) fn new(request: OpenRequest) -> Self {
        Self { metadata: request.metadata, bound: request.bound, reading: None }
    }

    /// Takes up the log from where the checkpoint says.
    pub(super) fn start(&mut self, start: SplitStart, log: Arc<Log>, registration: Option<Registration>) -> Result<()> {
        let durable = log.durable();
        let (first, end) = (log.first(), *durable.borrow());
        let next = match &start.at {
            StartAt::TableDefault | StartAt::Beginning => first,
            StartAt::Offset(offset) => position(offset)?,
        };
        if !(first..=end).contains(&next) {
            let message = format!("the checkpoint goes on at record {next}, but the log holds {first} to {end}");
            return Err(Error::data("OFFSET_LOST", message)
                .with_hint("the log's folder was replaced; restore it, or drop the job's state"));
        }
        self.reading = Some(Reading {
            split: start.split.id,
            log,
            durable,
            next,
            end: (self.bound == Bound::EndNow).then_some(end),
            is_paused: false,
            said_caught_up: false,
            has_ended: false,
            _registration: registration,
        });
        Ok(())
    }

    fn set_paused(&mut self, splits: &[SplitId], is_paused: bool) {
        if let Some(reading) = self.reading.as_mut().filter(|reading| splits.contains(&reading.split)) {
            reading.is_paused = is_paused;
        }
    }
}

/// A record's number from a checkpoint.
pub(super) fn position(offset: &Offset) -> Result<u64> {
    offset.0.parse().map_err(|_| Error::internal(format!("\"{offset}\" is no number of a record")))
}

#[async_trait]
impl SplitReader for HttpReader {
    async fn next(&mut self) -> Result<SourceEvent> {
        let Some(reading) = self.reading.as_mut() else { return future::pending().await };
        loop {
            if reading.is_paused || reading.has_ended {
                return future::pending().await;
            }
            let durable = *reading.durable.borrow_and_update();
            let until = reading.end.unwrap_or(durable).min(durable);
            if reading.next < until {
                let records = reading.log.read(reading.next, until, BATCH_BYTES)?;
                let batch = record::batch(&reading.split, reading.next, &records, &self.metadata)?;
                reading.next += records.len() as u64;
                reading.said_caught_up = false;
                return Ok(SourceEvent::Batch(batch));
            }
            if reading.end.is_some() {
                reading.has_ended = true;
                let resume_at = Some(Offset::new(reading.next.to_string()));
                return Ok(SourceEvent::ReachedEnd { split: reading.split.clone(), resume_at });
            }
            if !std::mem::replace(&mut reading.said_caught_up, true) {
                return Ok(SourceEvent::CaughtUp(reading.split.clone()));
            }
            if reading.durable.changed().await.is_err() {
                return Err(Error::internal("the writer of a log has ended"));
            }
        }
    }

    async fn assign(&mut self, splits: Vec<SplitStart>) -> Result<()> {
        match splits.first() {
            None => Ok(()),
            Some(start) => Err(Error::internal(format!("split \"{}\" of an http table appears late", start.split.id))),
        }
    }

    async fn close(&mut self) -> Result<Vec<SplitId>> {
        let Some(reading) = self.reading.as_mut().filter(|reading| !reading.has_ended) else { return Ok(Vec::new()) };
        if reading.end.is_none() {
            reading.log.close().await?;
            reading.end = Some(*reading.durable.borrow());
        }
        reading.is_paused = false;
        Ok(vec![reading.split.clone()])
    }

    fn pause(&mut self, splits: &[SplitId]) {
        self.set_paused(splits, true);
    }

    fn resume(&mut self, splits: &[SplitId]) {
        self.set_paused(splits, false);
    }
}
