//! Delivering an epoch: publish its manifest, commit every sink, mark it, acknowledge the sources, collect garbage.
//!
//! Invariant: no sink commits before the manifest is published, and the marker is written after all of them have.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use arrow::array::RecordBatch;
use futures::{StreamExt, TryStreamExt, stream};

use crate::{
    checkpoint::{
        files, gc,
        log::Log,
        manifest::{CommitMarker, Manifest, SplitStatus, UnitState},
        store::is_transient,
    },
    connector::{Committable, Guarantee, JobContext, OutboxRows, RefusedRow},
    error::{Error, Result},
    graph::{Graph, NodeKind, SinkNode},
    verdict,
};

/// Delivers epochs of one attempt.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) log: Log,
    pub(super) graph: Arc<Graph>,
    pub(super) job: JobContext,
    pub(super) keep: usize,
}

/// Longest wait before a commit is tried again, while the outside does not answer.
const WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(10);

impl Delivery {
    /// Publishes and commits an epoch; the number of its log entry.
    pub(super) async fn deliver(self, manifest: Manifest, after: u64) -> Result<u64> {
        let number = self.log.publish(&manifest, after).await?;
        self.commit(&manifest).await?;
        self.acknowledge(&manifest).await;
        if let Err(error) = gc::collect(&self.log, self.keep, manifest.generation).await {
            tracing::warn!(%error, "old checkpoints could not be collected; the next checkpoint tries again");
        }
        Ok(number)
    }

    /// Commits a published epoch and marks it; repeating it is harmless.
    pub(super) async fn commit(&self, manifest: &Manifest) -> Result<()> {
        let mut refused = BTreeMap::new();
        for (name, sink) in self.exactly_once() {
            let rows = self.commit_sink(name, sink, manifest).await?;
            if !rows.is_empty() {
                refused.insert(name.to_owned(), rows);
            }
        }
        let marker = CommitMarker { generation: self.job.generation, at_ms: self.job.clock.now().0, refused };
        self.log.mark_committed(manifest.epoch, &marker).await
    }

    /// The sinks that have units.
    pub(super) fn exactly_once(&self) -> impl Iterator<Item = (&str, &SinkNode)> {
        self.graph.nodes.iter().filter_map(|node| match &node.kind {
            NodeKind::Sink(sink) if sink.sink.guarantee() == Guarantee::ExactlyOnce => Some((node.name.as_str(), sink)),
            NodeKind::Sink(_) | NodeKind::Source(_) | NodeKind::Operator(_) => None,
        })
    }

    async fn commit_sink(&self, name: &str, sink: &SinkNode, manifest: &Manifest) -> Result<Vec<RefusedRow>> {
        let empty = Vec::new();
        let state = manifest.sinks.get(name).filter(|state| verdict::is_same_destination(state, sink));
        let units = state.map_or(&empty, |state| &state.closed);
        let last = LastRead::default();
        let mut wait = std::time::Duration::from_millis(100);
        loop {
            let work = units.iter().map(|unit| self.committable(unit, &last)).collect();
            match sink.sink.commit(&self.job, manifest.epoch, work).await {
                Ok(report) => return Ok(report.refused),
                // Starting again would stop the sources too, and a listener must go on answering.
                Err(error) if is_transient(&error) => {
                    tracing::warn!(%error, sink = name, "the commit of a sink failed and is tried again");
                    self.job.clock.sleep(wait).await;
                    wait = (wait * 2).min(WAIT_MAX);
                    self.job.fence.check().await?;
                }
                Err(error) => return Err(error.context(format!("sink \"{}\"", sink.table))),
            }
        }
    }

    fn committable(&self, unit: &UnitState, last: &LastRead) -> Committable {
        Committable { unit: unit.unit.clone(), detail: unit.detail.clone(), rows: outbox_rows(&self.log, unit, last) }
    }

    async fn acknowledge(&self, manifest: &Manifest) {
        for node in &self.graph.nodes {
            let NodeKind::Source(source) = &node.kind else { continue };
            let Some(state) = manifest.sources.get(&node.name) else { continue };
            for split in state.splits.iter().filter(|split| split.status == SplitStatus::Open) {
                let Some(offset) = &split.offset else { continue };
                if let Err(error) = source.source.acknowledge(&self.job, &split.split.id, offset).await {
                    tracing::warn!(%error, table = source.table, "progress could not be told to the source");
                }
            }
        }
    }
}

/// The outbox file that was read last: units of one commit often share it.
type LastRead = Arc<Mutex<Option<(String, Arc<Vec<RecordBatch>>)>>>;

/// All rows of a unit, read back from the outbox a segment at a time.
fn outbox_rows(log: &Log, unit: &UnitState, last: &LastRead) -> OutboxRows {
    let (log, last) = (log.clone(), Arc::clone(last));
    let segments = stream::iter(unit.segments.clone());
    let batches = segments.then(move |segment| {
        let (log, last) = (log.clone(), Arc::clone(&last));
        async move {
            let rows = outbox_file(&log, &segment.path, &last).await?;
            let wanted = rows.get(segment.first..segment.first + segment.count);
            let wanted = wanted.ok_or_else(|| Error::internal(format!("outbox file \"{}\" is short", segment.path)))?;
            let changes: Vec<_> = wanted.iter().map(files::rows_to_changes).collect();
            Ok::<_, Error>(stream::iter(changes))
        }
    });
    batches.try_flatten().boxed()
}

async fn outbox_file(log: &Log, path: &str, last: &LastRead) -> Result<Arc<Vec<RecordBatch>>> {
    let known = last.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some((_, rows)) = known.filter(|(known, _)| known == path) {
        return Ok(rows);
    }
    let bytes = log.retrying(|| log.store().get(path)).await?;
    let bytes = bytes.ok_or_else(|| files::missing("outbox", path))?;
    let rows = Arc::new(files::decode(path, bytes)?);
    *last.lock().unwrap_or_else(PoisonError::into_inner) = Some((path.to_owned(), Arc::clone(&rows)));
    Ok(rows)
}
