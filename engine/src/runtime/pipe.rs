//! A pipe: operators one after another within a task, and where their rows go.
//!
//! Invariant: an event passes the whole pipe before the next one enters it, so a snapshot sees no row half-way.

use std::{collections::BTreeMap, sync::Arc};

use arrow::datatypes::SchemaRef;
use futures::future::BoxFuture;

use crate::{
    checkpoint::{
        files,
        manifest::{StateFile, UnitSegment},
        paths::DataFolder,
    },
    connector::{RefusedRow, SinkWriter, TextLength},
    error::{Error, Result},
    memory::Unpublished,
    message::{Barrier, ChangeBatch, Message},
    metrics::JobMetrics,
    operator::{Operator, Output, Progress, Traffic},
    runtime::{
        effects::{Effects, OperatorAck, SinkAck, UnitAck},
        exchange::Outgoing,
    },
    state::{StateWriter, TableIncrement},
    time::{Instant, Watermark, as_of},
};

/// Files a state table may have before its whole state is written again.
const FILES_PER_TABLE: usize = 12;

/// What goes through a pipe.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Message(Message),
    Time(Instant),
}

/// Operators and outlets.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) operators: Vec<OperatorSlot>,
    pub(super) outlets: Vec<Outlet>,
}

/// Where rows of a pipe go.
#[derive(Debug)]
pub(super) enum Outlet {
    Exchange(Outgoing),
    Pipe(Pipe),
    Sink(Box<SinkSlot>),
}

/// An operator with what the checkpoint knows about it.
#[derive(Debug)]
pub(super) struct OperatorSlot {
    pub(super) node: String,
    pub(super) operator: Box<dyn Operator>,
    /// Node name and fingerprint, for an operator with state.
    pub(super) state: Option<SlotState>,
    pub(super) out: Output,
    pub(super) emitted: Watermark,
    /// What has passed since the last barrier.
    pub(super) traffic: Traffic,
}

/// What the checkpoint knows about an operator.
#[derive(Debug)]
pub(super) struct SlotState {
    pub(super) node: String,
    pub(super) task: usize,
    pub(super) fingerprint: String,
    pub(super) watermark: Watermark,
    pub(super) tables: BTreeMap<String, Vec<StateFile>>,
    pub(super) whole_next: bool,
}

/// A sink writer.
#[derive(Debug)]
pub(super) struct SinkSlot {
    pub(super) node: String,
    pub(super) table: String,
    pub(super) task: usize,
    pub(super) writer: Box<dyn SinkWriter>,
    pub(super) not_null: Vec<usize>,
    pub(super) lengths: Vec<(usize, TextLength)>,
    pub(super) refused: Vec<RefusedRow>,
    pub(super) rows: u64,
    /// What the writer holds until the next checkpoint; `None` if it holds nothing.
    pub(super) unpublished: Option<Unpublished>,
    pub(super) metrics: Arc<JobMetrics>,
}

impl Pipe {
    /// Sends an event of operator input `input` through the pipe.
    pub(super) async fn push(&mut self, input: usize, event: Event, effects: &mut Effects) -> Result<()> {
        push(&mut self.operators, &mut self.outlets, input, event, effects).await
    }
}

fn push<'a>(
    operators: &'a mut [OperatorSlot],
    outlets: &'a mut [Outlet],
    input: usize,
    event: Event,
    effects: &'a mut Effects,
) -> BoxFuture<'a, Result<()>> {
    Box::pin(async move {
        let Some((slot, rest)) = operators.split_first_mut() else {
            return deliver(outlets, event, effects).await;
        };
        let mut first = true;
        loop {
            let now = effects.clock().now();
            if let Some(work) = slot.operator.between_calls(now) {
                work.await?;
            }
            let progress = as_of(effects.at(), || slot.call(input, &event, first))?;
            first = false;
            while let Some(changes) = slot.out.next_changes() {
                slot.traffic.rows_out += changes.num_rows() as u64;
                push(rest, outlets, 0, Event::Message(Message::Changes(changes)), effects).await?;
            }
            if progress == Progress::Done {
                break;
            }
        }
        if let Some(watermark) = slot.released() {
            push(rest, outlets, 0, Event::Message(Message::Watermark(watermark)), effects).await?;
        }
        match event {
            Event::Message(Message::Changes(_)) => Ok(()),
            Event::Message(Message::Watermark(watermark)) => match slot.forwarded(watermark) {
                Some(watermark) => push(rest, outlets, 0, Event::Message(Message::Watermark(watermark)), effects).await,
                None => Ok(()),
            },
            Event::Message(Message::Barrier(barrier)) => {
                slot.snapshot(effects).await?;
                push(rest, outlets, 0, Event::Message(Message::Barrier(barrier)), effects).await
            }
            event @ (Event::Message(Message::EndOfInput) | Event::Time(_)) => {
                push(rest, outlets, 0, event, effects).await
            }
        }
    })
}

async fn deliver(outlets: &mut [Outlet], event: Event, effects: &mut Effects) -> Result<()> {
    for outlet in outlets {
        match (outlet, event.clone()) {
            (Outlet::Exchange(outgoing), Event::Message(message)) => outgoing.send(message).await?,
            (Outlet::Exchange(_), Event::Time(_)) => {}
            (Outlet::Pipe(pipe), event) => pipe.push(0, event, effects).await?,
            (Outlet::Sink(sink), Event::Message(message)) => sink.take(message, effects).await?,
            (Outlet::Sink(_), Event::Time(_)) => {}
        }
    }
    Ok(())
}

impl OperatorSlot {
    /// A slot for an operator without state in the checkpoint.
    pub(super) fn new(node: String, operator: Box<dyn Operator>, state: Option<SlotState>) -> Self {
        let (out, traffic) = (Output::default(), Traffic::default());
        Self { node, operator, state, out, emitted: Watermark::MIN, traffic }
    }

    fn call(&mut self, input: usize, event: &Event, first: bool) -> Result<Progress> {
        let (operator, out) = (&mut self.operator, &mut self.out);
        match event {
            Event::Message(Message::Changes(changes)) if first => {
                self.traffic.rows_in += changes.num_rows() as u64;
                operator.on_changes(input, changes.clone(), out)
            }
            Event::Message(Message::Changes(_)) => operator.resume(out),
            Event::Message(Message::Watermark(watermark)) => {
                if let Some(state) = &mut self.state {
                    state.watermark = *watermark;
                }
                operator.on_watermark(*watermark, out)
            }
            Event::Message(Message::Barrier(_)) => operator.on_barrier(out),
            Event::Message(Message::EndOfInput) => operator.on_end_of_input(out),
            Event::Time(now) => operator.on_time(*now, out),
        }
    }

    fn forwarded(&mut self, watermark: Watermark) -> Option<Watermark> {
        let watermark = self.out.take_held_watermark().unwrap_or(watermark);
        if watermark <= self.emitted {
            return None;
        }
        self.emitted = watermark;
        Some(watermark)
    }

    /// A watermark that was held until now.
    fn released(&mut self) -> Option<Watermark> {
        let watermark = self.out.take_released_watermark().filter(|watermark| *watermark > self.emitted)?;
        self.emitted = watermark;
        Some(watermark)
    }

    async fn snapshot(&mut self, effects: &mut Effects) -> Result<()> {
        let mut traffic = std::mem::take(&mut self.traffic);
        traffic.dropped = self.out.take_dropped();
        effects.parts().traffic.push((self.node.clone(), traffic));
        let Some(state) = &mut self.state else { return Ok(()) };
        // Spilled state has many files; writing it all again would not make them fewer.
        let spilled = self.operator.observe().spilled_bytes > 0;
        let many = !spilled && state.tables.values().any(|files| files.len() >= FILES_PER_TABLE);
        let mut writer = StateWriter::new(state.whole_next || many);
        self.operator.snapshot(&mut writer)?;
        state.whole_next = false;
        for increment in writer.into_increments() {
            state.write(increment, effects).await?;
        }
        effects.parts().operators.push(OperatorAck {
            node: state.node.clone(),
            task: state.task,
            fingerprint: state.fingerprint.clone(),
            watermark: state.watermark,
            tables: state.tables.clone(),
            observed: self.operator.observe(),
        });
        Ok(())
    }
}

impl SlotState {
    async fn write(&mut self, increment: TableIncrement, effects: &mut Effects) -> Result<()> {
        let files = self.tables.entry(increment.table.to_owned()).or_default();
        if increment.whole {
            files.clear();
        }
        files.retain(|file| file.last_pane >= increment.alive_from);
        let name = format!("{}-{}", self.node, increment.table);
        for (path, last_pane) in &increment.files {
            let (path, rows, bytes) = effects.copy_state(&name, path).await?;
            files.push(StateFile { path, rows, bytes, last_pane: *last_pane });
        }
        let Some(first) = increment.batches.first() else { return Ok(()) };
        let (path, bytes) = effects.write(DataFolder::State, &name, &first.schema(), &increment.batches).await?;
        let rows = increment.batches.iter().map(|batch| batch.num_rows() as u64).sum();
        files.push(StateFile { path, rows, bytes, last_pane: increment.last_pane });
        Ok(())
    }
}

impl SinkSlot {
    async fn take(&mut self, message: Message, effects: &mut Effects) -> Result<()> {
        match message {
            Message::Changes(mut changes) => {
                // Every row counts here, refused ones too: whoever wants those written takes the refused ones away.
                self.rows += changes.num_rows() as u64;
                self.refused.extend(RefusedRow::without_values(&mut changes, &self.not_null)?);
                self.refused.extend(RefusedRow::too_long(&mut changes, &self.lengths)?);
                let rows = changes.num_rows();
                if let Some(unpublished) = &mut self.unpublished {
                    unpublished.add(changes.bytes());
                }
                let refused = self.writer.write(changes).await.map_err(|error| self.named(error))?;
                self.metrics.written(&self.table, rows.saturating_sub(refused.len()) as u64);
                self.refused.extend(refused);
                Ok(())
            }
            Message::Barrier(barrier) => self.prepare(barrier, effects).await,
            Message::Watermark(watermark) => {
                self.writer.on_watermark(watermark);
                Ok(())
            }
            Message::EndOfInput => Ok(()),
        }
    }

    fn named(&self, error: Error) -> Error {
        error.context(format!("sink \"{}\"", self.table))
    }

    async fn prepare(&mut self, barrier: Barrier, effects: &mut Effects) -> Result<()> {
        let prepared = self.writer.prepare(barrier.epoch, barrier.cut).await.map_err(|error| self.named(error))?;
        self.unpublished.iter_mut().for_each(Unpublished::clear);
        self.refused.extend(prepared.refused);
        let mut units = Vec::with_capacity(prepared.units.len());
        // Units of one writer may have different columns; a file has one schema.
        let mut outbox: Vec<OutboxFile> = Vec::new();
        for unit in prepared.units {
            let rows: Vec<ChangeBatch> = unit.rows.into_iter().filter(|rows| rows.num_rows() > 0).collect();
            let file = rows.first().map(|first| OutboxFile::of(&mut outbox, &first.rows.schema()));
            let segment = file.map(|file| (file, outbox[file].batches.len(), rows.len()));
            units.push(UnitAck {
                unit: unit.unit,
                detail: unit.detail,
                closes: unit.closes,
                rows: rows.iter().map(|rows| rows.num_rows() as u64).sum(),
                bytes: rows.iter().map(|rows| rows.bytes() as u64).sum(),
                segment: None,
            });
            if let Some((file, first, count)) = segment {
                outbox[file].batches.extend(rows);
                outbox[file].segments.push((units.len() - 1, first, count));
            }
        }
        for file in outbox {
            let schema = files::change_schema(&file.schema);
            let rows = file.batches.iter().map(|changes| files::changes_to_rows(changes, &schema));
            let rows = rows.collect::<Result<Vec<_>>>()?;
            let (path, _) = effects.write(DataFolder::Outbox, &self.node, &schema, &rows).await?;
            for (unit, first, count) in file.segments {
                units[unit].segment = Some(UnitSegment { path: path.clone(), first, count });
            }
        }
        let refused = std::mem::take(&mut self.refused);
        effects.write_refused(&self.table, &refused).await?;
        effects.parts().sinks.push(SinkAck {
            node: self.node.clone(),
            task: self.task,
            units,
            rows: std::mem::take(&mut self.rows),
            refused: refused.len() as u64,
        });
        Ok(())
    }
}

/// Rows of one schema on their way into the outbox.
#[derive(Debug)]
struct OutboxFile {
    schema: SchemaRef,
    batches: Vec<ChangeBatch>,
    /// Index of a unit, its first batch here and how many.
    segments: Vec<(usize, usize, usize)>,
}

impl OutboxFile {
    /// The file for rows of this schema, by its index.
    fn of(files: &mut Vec<Self>, schema: &SchemaRef) -> usize {
        let known = files.iter().position(|file| file.schema == *schema);
        known.unwrap_or_else(|| {
            files.push(Self { schema: Arc::clone(schema), batches: Vec::new(), segments: Vec::new() });
            files.len() - 1
        })
    }
}
