//! Edges between tasks: one channel for each pair of tasks, bounded by bytes, and the gate that reads many of them.
//!
//! Invariant: bytes waiting in a channel never exceed its limit by more than one message, which is let through alone.

use std::{sync::Arc, task::Poll};

use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, UInt32Array},
    compute::{filter, filter_record_batch, take, take_record_batch},
};
use futures::future::poll_fn;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::{
    error::{Error, ErrorKind, Result},
    graph::Exchange,
    hash::{hash_rows, key_group, task_of_key_group},
    message::{ChangeBatch, Message},
    metrics::JobMetrics,
};

/// Messages a channel holds at most, whatever their size.
const MESSAGES: usize = 64;

#[derive(Debug)]
struct Envelope {
    message: Message,
    _bytes: Option<OwnedSemaphorePermit>,
}

/// Sends to one task.
#[derive(Debug, Clone)]
pub struct ChannelSender {
    messages: mpsc::Sender<Envelope>,
    bytes: Arc<Semaphore>,
    limit: usize,
}

/// Receives from one task.
#[derive(Debug)]
pub struct ChannelReceiver(mpsc::Receiver<Envelope>);

/// A channel that holds at most `limit` bytes of rows.
pub fn channel(limit: usize) -> (ChannelSender, ChannelReceiver) {
    let limit = limit.clamp(1, u32::MAX as usize);
    let (sender, receiver) = mpsc::channel(MESSAGES);
    (ChannelSender { messages: sender, bytes: Arc::new(Semaphore::new(limit)), limit }, ChannelReceiver(receiver))
}

impl ChannelSender {
    /// Shows what waits in this channel, in front of a node.
    pub(crate) fn watched_by(&self, metrics: &JobMetrics, node: &str) {
        metrics.queue(node, Arc::clone(&self.bytes), self.limit);
    }

    /// Sends once there is room. Fails when the receiver has gone, which only a job that is ending does.
    pub async fn send(&self, message: Message) -> Result<()> {
        let bytes = match &message {
            Message::Changes(changes) => changes.bytes().clamp(1, self.limit) as u32,
            Message::Watermark(_) | Message::Barrier(_) | Message::EndOfInput => 0,
        };
        let permit = match bytes {
            0 => None,
            bytes => Some(Arc::clone(&self.bytes).acquire_many_owned(bytes).await.map_err(|_| gone())?),
        };
        self.messages.send(Envelope { message, _bytes: permit }).await.map_err(|_| gone())
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Cancelled, "QUERY_CANCELLED", "the task downstream has stopped")
}

/// All channels of one task; blocked ones wait.
#[derive(Debug)]
pub struct Gate {
    channels: Vec<ChannelReceiver>,
    blocked: Vec<bool>,
    turn: usize,
}

impl Gate {
    /// A gate over channels.
    pub fn new(channels: Vec<ChannelReceiver>) -> Self {
        let blocked = vec![false; channels.len()];
        Self { channels, blocked, turn: 0 }
    }

    /// The next message of a channel that is not blocked; channels take turns. `None` once one has gone. Cancel-safe.
    pub async fn receive(&mut self) -> Option<(usize, Message)> {
        poll_fn(|context| {
            let count = self.channels.len();
            for step in 0..count {
                let index = (self.turn + step) % count;
                if self.blocked[index] {
                    continue;
                }
                match self.channels[index].0.poll_recv(context) {
                    Poll::Ready(Some(envelope)) => {
                        self.turn = (index + 1) % count;
                        return Poll::Ready(Some((index, envelope.message)));
                    }
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Pending => {}
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Reads no more of a channel until [`Gate::unblock_all`].
    pub fn block(&mut self, channel: usize) {
        self.blocked[channel] = true;
    }

    /// Reads all channels again.
    pub fn unblock_all(&mut self) {
        self.blocked.fill(false);
    }
}

/// The sending side of an edge in one task.
#[derive(Debug)]
pub struct Outgoing {
    senders: Vec<ChannelSender>,
    exchange: Exchange,
    task: usize,
}

impl Outgoing {
    /// The edge from task `task` to all tasks of the next stage.
    pub fn new(senders: Vec<ChannelSender>, exchange: Exchange, task: usize) -> Self {
        Self { senders, exchange, task }
    }

    /// Sends a message: rows where they belong, everything else to all.
    pub async fn send(&self, message: Message) -> Result<()> {
        let Message::Changes(changes) = message else {
            for sender in &self.senders {
                sender.send(message.clone()).await?;
            }
            return Ok(());
        };
        match &self.exchange {
            _ if self.senders.len() == 1 => self.senders[0].send(Message::Changes(changes)).await,
            Exchange::Forward => self.senders[self.task % self.senders.len()].send(Message::Changes(changes)).await,
            Exchange::Single => self.senders[0].send(Message::Changes(changes)).await,
            Exchange::Hash(columns) => {
                for (task, part) in partition(&changes, columns, self.senders.len())? {
                    self.senders[task].send(Message::Changes(part)).await?;
                }
                Ok(())
            }
        }
    }
}

/// Splits rows by the task their key belongs to, keeping their order.
pub fn partition(changes: &ChangeBatch, columns: &[usize], tasks: usize) -> Result<Vec<(usize, ChangeBatch)>> {
    let keys: Vec<ArrayRef> = columns.iter().map(|column| Arc::clone(changes.rows.column(*column))).collect();
    let mut rows_of = vec![Vec::new(); tasks];
    for (row, hash) in hash_rows(&keys, changes.num_rows())?.into_iter().enumerate() {
        rows_of[task_of_key_group(key_group(hash), tasks)].push(row as u32);
    }
    let parts = rows_of.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty());
    parts
        .map(|(task, rows)| {
            if rows.len() == changes.num_rows() {
                return Ok((task, changes.clone()));
            }
            Ok((task, take_changes(changes, &UInt32Array::from(rows))?))
        })
        .collect()
}

/// The rows at these indexes.
pub fn take_changes(changes: &ChangeBatch, rows: &UInt32Array) -> Result<ChangeBatch> {
    let kinds = match &changes.kinds {
        None => None,
        Some(kinds) => Some(take(kinds, rows, None)?.as_primitive().clone()),
    };
    let open_from = match &changes.open_from {
        None => None,
        Some(ends) => Some(Arc::new(take(ends.as_ref(), rows, None)?.as_primitive().clone())),
    };
    Ok(ChangeBatch { rows: take_record_batch(&changes.rows, rows)?, kinds, open_from })
}

/// The rows a mask keeps.
pub(crate) fn filter_changes(changes: &ChangeBatch, mask: &BooleanArray) -> Result<ChangeBatch> {
    let kinds = match &changes.kinds {
        None => None,
        Some(kinds) => Some(filter(kinds, mask)?.as_primitive().clone()),
    };
    let open_from = match &changes.open_from {
        None => None,
        Some(ends) => Some(Arc::new(filter(ends.as_ref(), mask)?.as_primitive().clone())),
    };
    Ok(ChangeBatch { rows: filter_record_batch(&changes.rows, mask)?, kinds, open_from })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::{
        array::{Int64Array, RecordBatch},
        datatypes::{DataType, Field, Schema},
    };

    fn changes(rows: i64) -> ChangeBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, true)]));
        let column = Arc::new(Int64Array::from_iter_values(0..rows));
        ChangeBatch::inserts(RecordBatch::try_new(schema, vec![column]).unwrap())
    }

    #[test]
    fn every_row_goes_to_the_task_of_its_key_group() {
        let parts = partition(&changes(1000), &[0], 3).unwrap();
        assert_eq!(parts.iter().map(|(_, part)| part.num_rows()).sum::<usize>(), 1000);
        for (task, part) in parts {
            let groups = crate::hash::key_groups(part.rows.columns(), part.num_rows()).unwrap();
            let range = crate::hash::key_groups_of_task(task, 3);
            assert!(groups.values().iter().all(|group| range.contains(group)));
        }
    }

    #[tokio::test]
    async fn a_full_channel_makes_the_sender_wait() {
        let (sender, receiver) = channel(1);
        sender.send(Message::Changes(changes(10))).await.unwrap();
        let mut second = Box::pin(sender.send(Message::Changes(changes(10))));
        assert!(futures::poll!(&mut second).is_pending());
        let mut gate = Gate::new(vec![receiver]);
        assert!(gate.receive().await.is_some());
        second.await.unwrap();
    }

    #[tokio::test]
    async fn a_blocked_channel_is_left_alone() {
        let (first, first_end) = channel(1 << 20);
        let (second, second_end) = channel(1 << 20);
        first.send(Message::EndOfInput).await.unwrap();
        second.send(Message::Changes(changes(1))).await.unwrap();
        let mut gate = Gate::new(vec![first_end, second_end]);
        gate.block(0);
        assert_eq!(gate.receive().await.unwrap().0, 1);
        gate.unblock_all();
        assert_eq!(gate.receive().await.unwrap().0, 0);
    }
}
