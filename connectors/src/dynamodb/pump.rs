//! A reader whose splits are each read by a task of their own, ahead of the one that takes the rows.
//!
//! Invariant: at most [`EVENTS_AHEAD`] events of a split wait; a split that is dropped stops being read.

use std::{fmt, future::poll_fn, sync::Arc, task::Poll};

use async_trait::async_trait;
use headwater_engine::{
    connector::{SourceEvent, SplitId, SplitReader, SplitStart},
    error::Result,
};
use tokio::{sync::mpsc, task::JoinHandle};

/// Events of a split that wait.
const EVENTS_AHEAD: usize = 2;

/// Where a split's task puts what it reads.
pub(super) type Events = mpsc::Sender<Result<SourceEvent>>;

/// Reads one split.
#[async_trait]
pub(super) trait ReadSplit: fmt::Debug + Send + Sync + 'static {
    /// Sends the split's events until it ends, or until nobody takes them.
    async fn read(&self, start: SplitStart, events: &Events) -> Result<()>;
}

/// Reads splits in turn.
#[derive(Debug)]
pub(super) struct PumpedReader<R> {
    reader: Arc<R>,
    splits: Vec<Pumped>,
    turn: usize,
}

#[derive(Debug)]
struct Pumped {
    id: SplitId,
    events: mpsc::Receiver<Result<SourceEvent>>,
    task: JoinHandle<()>,
    is_paused: bool,
}

impl Drop for Pumped {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<R: ReadSplit> PumpedReader<R> {
    /// A reader of these splits.
    pub(super) fn new(reader: R, splits: Vec<SplitStart>) -> Self {
        let mut pumped = Self { reader: Arc::new(reader), splits: Vec::new(), turn: 0 };
        splits.into_iter().for_each(|split| pumped.add(split));
        pumped
    }

    fn add(&mut self, start: SplitStart) {
        let (sender, events) = mpsc::channel(EVENTS_AHEAD);
        let (reader, id) = (Arc::clone(&self.reader), start.split.id.clone());
        let task = tokio::spawn(async move {
            if let Err(error) = reader.read(start, &sender).await {
                let _nobody_listens = sender.send(Err(error)).await;
            }
        });
        self.splits.push(Pumped { id, events, task, is_paused: false });
    }

    fn set_paused(&mut self, splits: &[SplitId], is_paused: bool) {
        for split in self.splits.iter_mut().filter(|split| splits.contains(&split.id)) {
            split.is_paused = is_paused;
        }
    }
}

#[async_trait]
impl<R: ReadSplit> SplitReader for PumpedReader<R> {
    async fn next(&mut self) -> Result<SourceEvent> {
        poll_fn(|context| {
            let mut ended = Vec::new();
            let count = self.splits.len();
            for step in 0..count {
                let index = (self.turn + step) % count;
                let split = &mut self.splits[index];
                if split.is_paused {
                    continue;
                }
                match split.events.poll_recv(context) {
                    Poll::Ready(Some(event)) => {
                        self.turn = index + 1;
                        return Poll::Ready(event);
                    }
                    Poll::Ready(None) => ended.push(split.id.clone()),
                    Poll::Pending => {}
                }
            }
            self.splits.retain(|split| !ended.contains(&split.id));
            Poll::Pending
        })
        .await
    }

    async fn assign(&mut self, splits: Vec<SplitStart>) -> Result<()> {
        splits.into_iter().for_each(|split| self.add(split));
        Ok(())
    }

    fn pause(&mut self, splits: &[SplitId]) {
        self.set_paused(splits, true);
    }

    fn resume(&mut self, splits: &[SplitId]) {
        self.set_paused(splits, false);
    }
}

#[cfg(test)]
mod tests {
    use headwater_engine::connector::{Split, StartAt};

    use super::*;

    #[derive(Debug)]
    struct Twice;

    #[async_trait]
    impl ReadSplit for Twice {
        async fn read(&self, start: SplitStart, events: &Events) -> Result<()> {
            for _ in 0..2 {
                let _taken = events.send(Ok(SourceEvent::CaughtUp(start.split.id.clone()))).await;
            }
            Ok(())
        }
    }

    fn start(id: &str) -> SplitStart {
        SplitStart { split: Split::new(id), at: StartAt::Beginning }
    }

    async fn next(reader: &mut PumpedReader<Twice>) -> String {
        match reader.next().await.unwrap() {
            SourceEvent::CaughtUp(split) => split.to_string(),
            other => format!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn splits_take_turns_and_paused_ones_wait() {
        let mut reader = PumpedReader::new(Twice, vec![start("a"), start("b")]);
        reader.pause(&[SplitId::new("a")]);
        assert_eq!((next(&mut reader).await.as_str(), next(&mut reader).await.as_str()), ("b", "b"));
        reader.resume(&[SplitId::new("a")]);
        reader.assign(vec![start("c")]).await.unwrap();
        let mut left = vec![next(&mut reader).await, next(&mut reader).await];
        left.extend([next(&mut reader).await, next(&mut reader).await]);
        left.sort();
        assert_eq!(left, ["a", "a", "c", "c"]);
    }
}
