//! A turn over the buckets that are on disk: each that has something to do is read back, called, and written again.
//!
//! Invariant: a bucket sees its rows in the order they came and then the watermark, as it would have in memory.

use std::collections::{BTreeMap, VecDeque};

use super::{
    Keyed, KeyedOperator,
    disk::{Bucket, Increments, OnDisk, Turned},
    files::{LayerWriter, blocking},
};
use crate::{
    error::Result,
    message::ChangeBatch,
    operator::{OperatorContext, Output, Progress},
    state::{StateReader, StateWriter},
    time::{Instant, Watermark},
};

/// What a bucket that was read back still has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Rows,
    Watermark,
    Time,
    Done,
}

#[derive(Debug)]
struct Loaded {
    bucket: usize,
    operator: Box<dyn KeyedOperator>,
    rows: VecDeque<(usize, ChangeBatch)>,
    stage: Stage,
    now: Instant,
}

#[derive(Debug)]
pub(super) struct Turn {
    /// Whether every bucket is written whole.
    replaces: bool,
    to: Watermark,
    /// Buckets that are still to be called.
    due: VecDeque<usize>,
    loaded: Option<Loaded>,
    writers: BTreeMap<&'static str, LayerWriter>,
    alive_from: BTreeMap<&'static str, i64>,
    is_over: bool,
}

impl Turn {
    /// A turn, unless there is nothing to do.
    pub(super) fn begin(disk: &OnDisk, to: Watermark) -> Option<Self> {
        let moves = |bucket: &Bucket| to > disk.done && bucket.next_event.is_some_and(|event| event <= to.0);
        if !disk.has_waiting() && !disk.buckets.iter().any(moves) {
            return None;
        }
        Some(Self {
            replaces: disk.wants_rewrite(),
            to,
            due: (0..disk.buckets.len()).collect(),
            loaded: None,
            writers: disk.writers(),
            alive_from: BTreeMap::new(),
            is_over: false,
        })
    }

    /// Whether it must be advanced before the next step.
    pub(super) fn waits(&self) -> bool {
        !self.is_over && self.loaded.as_ref().is_none_or(|loaded| loaded.stage == Stage::Done)
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Bytes of the bucket in memory.
    pub(super) fn bytes(&self) -> usize {
        self.loaded.as_ref().map_or(0, |loaded| loaded.operator.bytes())
    }

    /// Calls the operator of the bucket in memory once.
    pub(super) fn step(&mut self, out: &mut Output) -> Result<()> {
        let Some(loaded) = &mut self.loaded else { return Ok(()) };
        let (operator, now) = (&mut loaded.operator, loaded.now);
        match loaded.stage {
            Stage::Rows => match loaded.rows.pop_front() {
                Some((input, changes)) => {
                    let mut progress = operator.on_changes(input, changes, out)?;
                    while progress == Progress::More {
                        progress = operator.resume(out)?;
                    }
                }
                None => loaded.stage = Stage::Watermark,
            },
            Stage::Watermark if self.to == Watermark::MIN => loaded.stage = Stage::Time,
            Stage::Watermark => {
                if operator.on_watermark(self.to, out)? == Progress::Done {
                    loaded.stage = Stage::Time;
                }
            }
            Stage::Time => {
                if operator.on_time(now, out)? == Progress::Done {
                    loaded.stage = Stage::Done;
                }
            }
            Stage::Done => {}
        }
        Ok(())
    }

    /// Writes the bucket that is done, and reads the next one.
    pub(super) async fn advance(
        &mut self,
        disk: &mut OnDisk,
        keyed: &dyn Keyed,
        context: &OperatorContext,
        now: Instant,
    ) -> Result<()> {
        disk.flush().await?;
        if let Some(loaded) = self.loaded.take() {
            self.put_away(loaded, disk).await?;
        }
        while let Some(bucket) = self.due.pop_front() {
            let moves = disk.buckets[bucket].next_event.is_some_and(|event| self.to > disk.done && event <= self.to.0);
            if !self.replaces && !moves && !disk.is_waiting[bucket] {
                continue;
            }
            let read = disk.read(bucket).await?;
            let group = disk.groups.start + bucket as u16;
            let groups = group..group + 1;
            let context = OperatorContext { key_groups: groups.clone(), ..context.clone() };
            let mut operator = keyed.in_memory(&context)?;
            // It learns what time it is before anything else.
            drop(operator.between_calls(now));
            operator.restore(&StateReader::new(read.state, &groups, disk.done)?)?;
            self.loaded = Some(Loaded { bucket, operator, rows: read.waiting.into(), stage: Stage::Rows, now });
            return Ok(());
        }
        self.finish(disk).await
    }

    async fn put_away(&mut self, loaded: Loaded, disk: &mut OnDisk) -> Result<()> {
        let Loaded { bucket, mut operator, .. } = loaded;
        let mut writer = StateWriter::new(self.replaces);
        operator.snapshot(&mut writer)?;
        disk.buckets[bucket] = Bucket { observed: operator.observe(), next_event: operator.next_event() };
        drop(operator);
        let increments: Increments = writer.into_increments();
        for increment in &increments {
            let alive = self.alive_from.entry(increment.table).or_insert(i64::MIN);
            *alive = increment.alive_from.max(*alive);
        }
        let mut writers = std::mem::take(&mut self.writers);
        let work = move || {
            for increment in increments {
                let Some(writer) = writers.get_mut(increment.table) else { continue };
                increment.batches.iter().try_for_each(|rows| writer.write(bucket, rows, increment.last_pane))?;
            }
            Ok(writers)
        };
        self.writers = blocking(work).await?;
        Ok(())
    }

    async fn finish(&mut self, disk: &mut OnDisk) -> Result<()> {
        let (writers, alive) = (std::mem::take(&mut self.writers), self.alive_from.clone());
        let work = move || {
            let finish = |(name, writer): (&'static str, LayerWriter)| {
                let alive_from = alive.get(name).copied().unwrap_or(i64::MIN);
                Ok((name, (writer.finish()?, alive_from)))
            };
            writers.into_iter().map(finish).collect::<Result<Turned>>()
        };
        disk.finish(blocking(work).await?, self.replaces)?;
        self.is_over = true;
        Ok(())
    }
}
