//! A task and the only event loop over data.
//!
//! ```text
//! commands (barrier, assign, end) ─┐
//! head (reader or gate) ───────────┼─> one event at a time through the pipe ──> acks, news
//! tick (about a second) ───────────┘
//! ```
//!
//! Invariant: whatever was taken from the head is fully processed before the next event is looked at; what waits is
//! cancel-safe.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    connector::{Cut, SourceEvent},
    error::{Error, ErrorKind, Result},
    message::{Barrier, Message},
    runtime::{
        align::{Aligned, Aligner},
        effects::{Effects, TaskAck},
        exchange::Gate,
        pipe::{Event, Pipe},
        source_head::{SourceHead, SplitNews},
        splits::Assignment,
    },
};

/// How often operators hear of the clock.
const TICK: Duration = Duration::from_millis(500);

/// What the coordinator tells a source task.
#[derive(Debug)]
pub(super) enum Command {
    Assign(Vec<Assignment>),
    Barrier(Barrier),
    EndOfInput,
}

/// What a task tells the coordinator.
#[derive(Debug)]
pub(super) enum TaskEvent {
    Ack(Box<TaskAck>),
    Split { node: usize, news: SplitNews },
}

/// Where a task's events come from.
#[derive(Debug)]
pub(super) enum Head {
    Source { node: usize, head: Box<SourceHead>, commands: mpsc::Receiver<Command> },
    Gate { gate: Gate, aligner: Aligner, pipe: Pipe },
}

/// One task.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) name: String,
    pub(super) head: Head,
    pub(super) effects: Effects,
    pub(super) events: mpsc::Sender<TaskEvent>,
    pub(super) cancel: CancellationToken,
}

#[expect(clippy::large_enum_variant, reason = "one lives at a time, on the stack of the loop")]
enum Incoming {
    Cancelled,
    Command(Option<Command>),
    Source(Result<Option<SourceEvent>>),
    Channel(Option<(usize, Message)>),
    Tick,
}

impl Task {
    /// Runs until cancelled or failed.
    pub(super) async fn run(mut self) -> Result<()> {
        let clock = std::sync::Arc::clone(self.effects.clock());
        let mut tick = Box::pin(clock.sleep(TICK));
        loop {
            let incoming = tokio::select! {
                biased;
                () = self.cancel.cancelled() => Incoming::Cancelled,
                () = &mut tick => Incoming::Tick,
                incoming = self.head.next() => incoming,
            };
            let done = match incoming {
                Incoming::Cancelled => return Ok(()),
                Incoming::Tick => {
                    tick = Box::pin(clock.sleep(TICK));
                    self.tick().await
                }
                Incoming::Command(Some(command)) => self.command(command).await,
                Incoming::Source(event) => self.source_event(event?).await,
                Incoming::Channel(Some((channel, message))) => self.channel_message(channel, message).await,
                Incoming::Command(None) | Incoming::Channel(None) => {
                    // A neighbour has gone: the job is ending, for a reason the coordinator knows.
                    self.cancel.cancelled_owned().await;
                    return Ok(());
                }
            };
            done.map_err(|error| self.explain(error))?;
        }
    }

    fn explain(&self, error: Error) -> Error {
        if error.kind() == ErrorKind::Internal { error.context(format!("task \"{}\"", self.name)) } else { error }
    }

    async fn tick(&mut self) -> Result<()> {
        self.effects.begin();
        match &mut self.head {
            Head::Source { head, .. } => head.tick(&mut self.effects).await,
            Head::Gate { pipe, .. } => {
                let now = self.effects.clock().now();
                pipe.push(0, Event::Time(now), &mut self.effects).await
            }
        }
    }

    async fn command(&mut self, command: Command) -> Result<()> {
        self.effects.begin();
        let Head::Source { head, .. } = &mut self.head else { return Ok(()) };
        match command {
            Command::Assign(splits) => head.assign(splits).await,
            Command::EndOfInput => head.end(&mut self.effects).await,
            Command::Barrier(barrier) => {
                if barrier.cut == Cut::Final {
                    tokio::select! {
                        biased;
                        () = self.cancel.cancelled() => return Ok(()),
                        closed = head.close(&mut self.effects) => closed?,
                    }
                }
                head.barrier(barrier, &mut self.effects).await?;
                self.acknowledge(barrier).await
            }
        }
    }

    async fn source_event(&mut self, event: Option<SourceEvent>) -> Result<()> {
        self.effects.begin();
        let Head::Source { head, node, .. } = &mut self.head else { return Ok(()) };
        let Some(event) = event else { return head.forward_watermark(&mut self.effects).await };
        let Some(news) = head.take(event, &mut self.effects).await? else { return Ok(()) };
        tell(&self.events, TaskEvent::Split { node: *node, news }).await
    }

    async fn channel_message(&mut self, channel: usize, message: Message) -> Result<()> {
        self.effects.begin();
        let Head::Gate { gate, aligner, pipe } = &mut self.head else { return Ok(()) };
        match aligner.next(channel, message) {
            Aligned::Nothing => Ok(()),
            Aligned::Block => {
                gate.block(channel);
                Ok(())
            }
            Aligned::Forward(input, message) => pipe.push(input, Event::Message(message), &mut self.effects).await,
            Aligned::Complete(barrier) => {
                gate.unblock_all();
                pipe.push(0, Event::Message(Message::Barrier(barrier)), &mut self.effects).await?;
                self.acknowledge(barrier).await
            }
        }
    }

    async fn acknowledge(&mut self, barrier: Barrier) -> Result<()> {
        let ack = self.effects.acknowledge(barrier);
        tell(&self.events, TaskEvent::Ack(Box::new(ack))).await
    }
}

async fn tell(events: &mpsc::Sender<TaskEvent>, event: TaskEvent) -> Result<()> {
    let gone = |_| Error::new(ErrorKind::Cancelled, "QUERY_CANCELLED", "the job has stopped");
    events.send(event).await.map_err(gone)
}

impl Head {
    async fn next(&mut self) -> Incoming {
        match self {
            Head::Source { head, commands, .. } => tokio::select! {
                biased;
                command = commands.recv() => Incoming::Command(command),
                event = head.next() => Incoming::Source(event),
            },
            Head::Gate { gate, .. } => Incoming::Channel(gate.receive().await),
        }
    }
}
