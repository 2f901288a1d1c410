//! Sources: splits are stable, reading again gives the same rows, and reading goes on exactly where an offset says.

use std::{collections::BTreeMap, path::Path, sync::Arc, task::Poll, time::Duration};

use anyhow::{Context, Result, ensure};
use arrow::datatypes::SchemaRef;
use headwater_engine::{
    connector::{
        Bound, JobContext, Offset, OpenRequest, Source, SourceBatch, SourceData, SourceEvent, SplitId, SplitReader,
        SplitStart, StartAt,
    },
    format::Decoder,
};

use super::{job, texts};

/// How long a source may take for one step.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was read: for each split its rows with their positions, in order, and where to go on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Read {
    rows: BTreeMap<SplitId, Vec<String>>,
    resume: BTreeMap<SplitId, Offset>,
    batches: usize,
}

/// Every row of a source, as text.
pub async fn rows_of(source: &Arc<dyn Source>, columns: &SchemaRef, folder: &Path) -> Result<Vec<String>> {
    let reading = Reading { source, columns, job: &job(1, folder) };
    let read = reading.read(&BTreeMap::new(), usize::MAX).await?;
    let without_position = |row: String| row.split_once(' ').map_or(row.clone(), |(_, row)| row.to_owned());
    Ok(read.rows.into_values().flatten().map(without_position).collect())
}

/// One way to read a source.
struct Reading<'a> {
    source: &'a Arc<dyn Source>,
    columns: &'a SchemaRef,
    job: &'a JobContext,
}

/// Runs the suite over a source that holds rows of `columns` in at least one split, and does not change meanwhile.
pub async fn source_conforms(source: Arc<dyn Source>, columns: SchemaRef, folder: &Path) -> Result<()> {
    let job = job(1, folder);
    let reading = Reading { source: &source, columns: &columns, job: &job };
    let first = source.splits(&job).await?;
    let again = source.splits(&job).await?;
    ensure!(first == again, "two lists of splits differ: {first:?} and {again:?}");
    let names: std::collections::BTreeSet<_> = first.iter().map(|split| &split.id).collect();
    ensure!(names.len() == first.len() && !first.is_empty(), "splits need names of their own: {first:?}");

    let whole = reading.read(&BTreeMap::new(), usize::MAX).await?;
    let count: usize = whole.rows.values().map(Vec::len).sum();
    ensure!(count > 0, "the source has no rows");
    let repeated = reading.read(&BTreeMap::new(), usize::MAX).await?;
    ensure!(repeated.rows == whole.rows, "reading again gives other rows");
    let nothing = reading.read(&whole.resume, usize::MAX).await?;
    ensure!(nothing.rows.values().all(Vec::is_empty), "there are rows after the end: {:?}", nothing.rows);

    for batches in 1..=whole.batches.min(5) {
        let part = reading.read(&BTreeMap::new(), batches).await?;
        let rest = reading.read(&part.resume, usize::MAX).await?;
        let mut rows = part.rows.clone();
        rest.rows.into_iter().for_each(|(split, more)| rows.entry(split).or_default().extend(more));
        rows.retain(|_, rows| !rows.is_empty());
        let mut expected = whole.rows.clone();
        expected.retain(|_, rows| !rows.is_empty());
        ensure!(rows == expected, "resumed after {batches} batches: other rows");
    }
    reading.pausing(&whole).await?;
    for (split, offset) in &whole.resume {
        source.acknowledge(&job, split, offset).await.with_context(|| format!("acknowledging {split}"))?;
        source.acknowledge(&job, split, offset).await.with_context(|| format!("acknowledging {split} again"))?;
    }
    let after = reading.read(&BTreeMap::new(), usize::MAX).await?;
    ensure!(after.rows == whole.rows, "an acknowledged row is gone");
    Ok(())
}

impl Reading<'_> {
    async fn open(&self, from: &BTreeMap<SplitId, Offset>) -> Result<(Box<dyn SplitReader>, usize)> {
        let splits = self.source.splits(self.job).await?;
        let start = |split: headwater_engine::connector::Split| {
            let at = from.get(&split.id).map_or(StartAt::Beginning, |offset| StartAt::Offset(offset.clone()));
            SplitStart { split, at }
        };
        let splits: Vec<SplitStart> = splits.into_iter().map(start).collect();
        let count = splits.len();
        let request = OpenRequest {
            splits,
            bound: Bound::EndNow,
            columns: Arc::clone(self.columns),
            metadata: Vec::new(),
            task: 0,
            tasks: 1,
        };
        Ok((self.source.open(self.job, request).await?, count))
    }

    /// Reads to the end that is there now, or so many batches.
    async fn read(&self, from: &BTreeMap<SplitId, Offset>, batches_max: usize) -> Result<Read> {
        let (mut reader, mut left) = self.open(from).await?;
        let mut decoder = self.source.decoder(Arc::clone(self.columns))?;
        let mut read = Read { resume: from.clone(), ..Read::default() };
        while left > 0 && read.batches < batches_max {
            // A call that is dropped has taken nothing.
            let at_once = {
                let mut next = std::pin::pin!(reader.next());
                futures::poll!(next.as_mut())
            };
            let event = match at_once {
                Poll::Ready(event) => event?,
                Poll::Pending => {
                    tokio::time::timeout(PATIENCE, reader.next()).await.context("the source is silent")??
                }
            };
            read.take(event, &mut decoder, &mut left)?;
        }
        Ok(read)
    }

    /// A paused split is silent until it is resumed, and loses nothing by it.
    async fn pausing(&self, whole: &Read) -> Result<()> {
        let (mut reader, mut left) = self.open(&BTreeMap::new()).await?;
        let Some(paused) = whole.rows.keys().next().cloned() else { return Ok(()) };
        reader.pause(std::slice::from_ref(&paused));
        let mut decoder = self.source.decoder(Arc::clone(self.columns))?;
        let mut read = Read::default();
        // Batches that were on their way may still come; after a silence there are no more.
        while let Ok(event) = tokio::time::timeout(Duration::from_millis(500), reader.next()).await {
            read.take(event?, &mut decoder, &mut left)?;
        }
        let early = read.rows.get(&paused).map_or(0, Vec::len);
        reader.resume(std::slice::from_ref(&paused));
        while left > 0 {
            let event = tokio::time::timeout(PATIENCE, reader.next()).await.context("a resumed split is silent")??;
            read.take(event, &mut decoder, &mut left)?;
        }
        let rows = &read.rows[&paused];
        ensure!(rows == &whole.rows[&paused], "pausing changed the rows of {paused}; {early} came early");
        Ok(())
    }
}

impl Read {
    fn take(&mut self, event: SourceEvent, decoder: &mut Option<Box<dyn Decoder>>, left: &mut usize) -> Result<()> {
        match event {
            SourceEvent::Batch(batch) => self.batch(batch, decoder)?,
            SourceEvent::CaughtUp(_) => {}
            SourceEvent::ReachedEnd { split, resume_at } => {
                self.resume.extend(resume_at.map(|offset| (split, offset)));
                *left -= 1;
            }
            SourceEvent::Ended { .. } => *left -= 1,
        }
        Ok(())
    }

    fn batch(&mut self, batch: SourceBatch, decoder: &mut Option<Box<dyn Decoder>>) -> Result<()> {
        let positions = batch.positions;
        let (rows, payload_of_row) = match batch.data {
            SourceData::Rows { rows, .. } => (rows.rows, None),
            SourceData::Payloads { payloads, .. } => {
                let decoder = decoder.as_mut().context("payloads without a decoder")?;
                let decoded = decoder.decode(&payloads)?;
                (decoded.rows.rows, decoded.payload_of_row)
            }
        };
        self.batches += 1;
        let rows = texts(&rows)?.into_iter().enumerate().map(|(row, text)| {
            let record = payload_of_row.as_ref().map_or(row, |payloads| payloads[row] as usize);
            format!("{} {text}", positions.text(record))
        });
        self.rows.entry(batch.split.clone()).or_default().extend(rows);
        self.resume.insert(batch.split, batch.resume_at);
        Ok(())
    }
}
