//! Exactly-once sinks: nothing is visible before its commit, and a commit may be repeated by whoever comes next.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use anyhow::{Result, ensure};
use arrow::{array::RecordBatch, datatypes::SchemaRef};
use futures::{StreamExt, future::BoxFuture};
use headwater_engine::{
    connector::{
        ChangelogMode, CommitFacts, Committable, Cut, Guarantee, JobContext, OpenUnit, Sink, SinkTask, SinkWriter,
    },
    error::ErrorKind,
    message::{ChangeBatch, Epoch},
    testing::Overtaken,
};

use super::{job, texts};

/// A sink with what the suite needs to know of it.
pub struct SinkUnderTest<'a> {
    /// A new handle, as a new process would make it.
    pub open: Box<dyn Fn() -> Result<Arc<dyn Sink>> + 'a>,
    /// Rows that are visible outside, as texts of [`SinkUnderTest::rows`]' columns.
    pub visible: Box<dyn Fn() -> BoxFuture<'a, Result<Vec<String>>> + 'a>,
    /// Rows to write, all different; at least six.
    pub rows: RecordBatch,
    /// Whether a commit asks the job's log if it still holds the job.
    pub asks_fence: bool,
}

impl std::fmt::Debug for SinkUnderTest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SinkUnderTest").field("rows", &self.rows.num_rows()).finish_non_exhaustive()
    }
}

/// Units as the outbox keeps them.
#[derive(Default)]
struct Outbox {
    rows: BTreeMap<String, Vec<ChangeBatch>>,
    details: BTreeMap<String, String>,
    open: Vec<String>,
}

impl Outbox {
    /// Keeps what a writer prepared; the units that closed.
    async fn keep(&mut self, writer: &mut Box<dyn SinkWriter>, epoch: Epoch, cut: Cut) -> Result<Vec<String>> {
        let prepared = writer.prepare(epoch, cut).await?;
        ensure!(prepared.refused.is_empty(), "rows were refused: {:?}", prepared.refused);
        let mut closed = Vec::new();
        for unit in prepared.units {
            self.rows.entry(unit.unit.clone()).or_default().extend(unit.rows);
            self.details.insert(unit.unit.clone(), unit.detail);
            self.open.retain(|open| *open != unit.unit);
            if unit.closes { closed.push(unit.unit) } else { self.open.push(unit.unit) }
        }
        Ok(closed)
    }

    fn work(&self, units: &[String]) -> Vec<Committable> {
        let unit = |unit: &String| Committable {
            unit: unit.clone(),
            detail: self.details[unit].clone(),
            rows: futures::stream::iter(self.rows[unit].clone().into_iter().map(Ok)).boxed(),
        };
        units.iter().map(unit).collect()
    }

    fn open_units(&self) -> Vec<OpenUnit> {
        let unit = |unit: &String| {
            let rows = self.rows[unit].iter().map(|rows| rows.num_rows() as u64).sum();
            OpenUnit { unit: unit.clone(), detail: self.details[unit].clone(), rows, bytes: 100 }
        };
        self.open.iter().map(unit).collect()
    }
}

fn task(schema: &SchemaRef) -> SinkTask {
    SinkTask { insert: "i".to_owned(), index: 0, count: 1, schema: Arc::clone(schema), changes: ChangelogMode::Append }
}

impl SinkUnderTest<'_> {
    async fn ensure_visible(&self, rows: usize, when: &str) -> Result<()> {
        let mut found = (self.visible)().await?;
        let mut expected = texts(&self.rows.slice(0, rows))?;
        found.sort();
        expected.sort();
        ensure!(found == expected, "{when}: {found:?} is visible, not {expected:?}");
        Ok(())
    }

    async fn writer(&self, sink: &Arc<dyn Sink>, job: &JobContext, open: Vec<OpenUnit>) -> Result<Box<dyn SinkWriter>> {
        Ok(sink.writer(job, task(&self.rows.schema()), open).await?)
    }

    fn part(&self, from: usize, to: usize) -> ChangeBatch {
        ChangeBatch::inserts(self.rows.slice(from, to - from))
    }
}

/// Runs the suite over an exactly-once sink into something that is empty.
pub async fn sink_conforms(sink: SinkUnderTest<'_>, folder: &Path) -> Result<()> {
    let all = sink.rows.num_rows();
    let (third, schema) = (all / 3, sink.rows.schema());
    let first_job = job(1, folder);
    let first = (sink.open)()?;
    ensure!(first.guarantee() == Guarantee::ExactlyOnce, "the suite is for exactly-once sinks");
    first.check(&first_job, Arc::clone(&schema)).await?;
    first.recover(&first_job, &CommitFacts::default()).await?;
    sink.ensure_visible(0, "after the check").await?;

    let mut outbox = Outbox::default();
    let mut writer = sink.writer(&first, &first_job, Vec::new()).await?;
    writer.write(sink.part(0, third)).await?;
    let mut closed = outbox.keep(&mut writer, Epoch(1), Cut::Periodic).await?;
    sink.ensure_visible(0, "prepared, not committed").await?;
    first.commit(&first_job, Epoch(1), outbox.work(&closed)).await?;
    let mut seen = if outbox.open.is_empty() { third } else { 0 };
    sink.ensure_visible(seen, "epoch 1").await?;
    first.commit(&first_job, Epoch(1), outbox.work(&closed)).await?;
    sink.ensure_visible(seen, "epoch 1, committed twice").await?;

    // Another attempt goes on with what is open, and repeats the commit that has no marker.
    drop(writer);
    let second_job = job(2, folder);
    let second = (sink.open)()?;
    second.recover(&second_job, &CommitFacts { published: Some(Epoch(1)), ..CommitFacts::default() }).await?;
    second.commit(&second_job, Epoch(1), outbox.work(&closed)).await?;
    sink.ensure_visible(seen, "epoch 1, repeated by another attempt").await?;
    let mut writer = sink.writer(&second, &second_job, outbox.open_units()).await?;
    closed = outbox.keep(&mut writer, Epoch(2), Cut::Periodic).await?;
    second.commit(&second_job, Epoch(2), outbox.work(&closed)).await?;
    if outbox.open.is_empty() {
        seen = third;
    }
    sink.ensure_visible(seen, "epoch 2, without rows").await?;

    writer.write(sink.part(third, 2 * third)).await?;
    writer.write(sink.part(2 * third, all)).await?;
    closed = outbox.keep(&mut writer, Epoch(3), Cut::Final).await?;
    ensure!(outbox.open.is_empty(), "the last barrier left units open: {:?}", outbox.open);

    // An older attempt that has not noticed changes nothing.
    if sink.asks_fence {
        let overtaken = JobContext { fence: Arc::new(Overtaken), ..first_job };
        let fenced = first.commit(&overtaken, Epoch(3), outbox.work(&closed)).await;
        ensure!(fenced.as_ref().is_err_and(|error| error.kind() == ErrorKind::Fenced), "not fenced: {fenced:?}");
        sink.ensure_visible(seen, "an older attempt").await?;
    }
    for time in ["once", "twice"] {
        second.commit(&second_job, Epoch(3), outbox.work(&closed)).await?;
        sink.ensure_visible(all, &format!("epoch 3 committed {time}")).await?;
    }
    let third = (sink.open)()?;
    let facts = CommitFacts { published: Some(Epoch(3)), committed: Some(Epoch(3)), ..CommitFacts::default() };
    third.recover(&job(3, folder), &facts).await?;
    third.commit(&job(3, folder), Epoch(3), outbox.work(&closed)).await?;
    sink.ensure_visible(all, "after another start").await
}
