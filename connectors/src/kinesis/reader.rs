//! Reads the shards of one source task: a task a shard, one bounded channel for all.
//!
//! Invariant: at most [`QUEUE_BATCHES`] batches wait in the channel, and as many replies are in memory as the budget
//! allows; beyond that the shards' tasks stop asking.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use headwater_engine::{
    connector::{SourceEvent, SplitId, SplitReader, SplitStart},
    error::{Error, Result},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::shard::{ShardEvent, ShardTask, Shared};

/// Batches that wait between the shards' tasks and the source task.
const QUEUE_BATCHES: usize = 4;

/// The reader of a source task.
#[derive(Debug)]
pub(super) struct KinesisReader {
    shared: Arc<Shared>,
    sender: mpsc::Sender<ShardEvent>,
    events: mpsc::Receiver<ShardEvent>,
    tasks: JoinSet<()>,
    pauses: BTreeMap<SplitId, watch::Sender<bool>>,
}

impl KinesisReader {
    pub(super) fn new(shared: Arc<Shared>, splits: Vec<SplitStart>) -> Self {
        let (sender, events) = mpsc::channel(QUEUE_BATCHES);
        let mut reader = Self { shared, sender, events, tasks: JoinSet::new(), pauses: BTreeMap::new() };
        reader.start(splits);
        reader
    }

    fn start(&mut self, splits: Vec<SplitStart>) {
        for SplitStart { split, at } in splits {
            let (pause, paused) = watch::channel(false);
            let task = ShardTask {
                shared: Arc::clone(&self.shared),
                split: split.id.clone(),
                at,
                events: self.sender.clone(),
                paused,
            };
            self.tasks.spawn(task.run());
            self.pauses.insert(split.id, pause);
        }
    }

    fn set_paused(&self, splits: &[SplitId], is_paused: bool) {
        for pause in splits.iter().filter_map(|split| self.pauses.get(split)) {
            pause.send_replace(is_paused);
        }
    }
}

#[async_trait]
impl SplitReader for KinesisReader {
    async fn next(&mut self) -> Result<SourceEvent> {
        loop {
            tokio::select! {
                biased;
                event = self.events.recv() => {
                    let event = event.ok_or_else(|| Error::internal("the channel of a Kinesis reader is closed"))??;
                    if let SourceEvent::Ended { split, .. } | SourceEvent::ReachedEnd { split, .. } = &event {
                        self.pauses.remove(split);
                    }
                    return Ok(event);
                }
                Some(ended) = self.tasks.join_next() => {
                    ended.map_err(|error| Error::internal(format!("the task of a shard ended: {error}")))?;
                }
            }
        }
    }

    async fn assign(&mut self, splits: Vec<SplitStart>) -> Result<()> {
        self.start(splits);
        Ok(())
    }

    fn pause(&mut self, splits: &[SplitId]) {
        self.set_paused(splits, true);
    }

    fn resume(&mut self, splits: &[SplitId]) {
        self.set_paused(splits, false);
    }
}
