//! The search for matches in one partition.
//!
//! A condition that looks at rows at fixed distances from the current one is computed for the whole partition at once;
//! others are computed when the search asks. The search backtracks; where no condition depends on the way to a row,
//! a choice that failed at a row is not tried there again, so that the search is bounded by steps times rows.
//!
//! Invariant: a search gives up with an error at a stated limit, never with a wrong answer.

use std::{collections::HashSet, sync::Arc};

use arrow::{
    array::{Array, AsArray, BooleanArray, RecordBatch, UInt32Array},
    compute::take,
};
use headwater_engine::error::{Error, ErrorKind, Result};

use super::{
    Anchor, Computed, MatchSpec, SlotKind,
    pattern::Step,
    values::{EXCLUDED, Running, View, column, single, within},
};

/// How many steps one search may take where conditions depend on the rows before.
const SEARCH_STEPS_MAX: usize = 20_000_000;
/// How many failed choices are remembered for one partition.
const FAILED_MAX: usize = 16_000_000;
/// After so many steps a search starts to remember failed choices.
const PATIENCE: usize = 1024;

/// How a label's condition is known.
enum Condition<'p> {
    /// Every row fits.
    Always,
    /// Computed for all rows.
    Column(BooleanArray),
    /// Computed when asked for.
    Row(&'p Computed),
}

/// A way not yet tried, or what to put back before it.
enum Frame {
    Way { step: usize, taken: usize },
    Loop { number: usize, row: usize },
}

/// Searches one partition.
pub(super) struct Matcher<'p> {
    spec: &'p MatchSpec,
    batch: &'p RecordBatch,
    conditions: Vec<Condition<'p>>,
    /// Whether conditions depend on rows alone.
    pure: bool,
    failed: HashSet<(usize, usize)>,
    aggregates: Vec<Option<Running>>,
}

impl<'p> Matcher<'p> {
    pub(super) fn new(spec: &'p MatchSpec, batch: &'p RecordBatch) -> Result<Self> {
        let conditions = spec
            .defines
            .iter()
            .enumerate()
            .map(|(label, define)| match define {
                None => Condition::Always,
                Some(computed) => match at_once(computed, label as u16, batch) {
                    Some(column) => Condition::Column(column),
                    None => Condition::Row(computed),
                },
            })
            .collect::<Vec<_>>();
        let pure = !conditions.iter().any(|condition| matches!(condition, Condition::Row(_)));
        let aggregates = spec.aggregates.iter().map(|_| None).collect();
        Ok(Self { spec, batch, conditions, pure, failed: HashSet::new(), aggregates })
    }

    /// The labels of the match that starts at a row, if there is one.
    pub(super) fn find(&mut self, start: usize, number: i64) -> Result<Option<Vec<u16>>> {
        self.forget(0);
        let rows = self.batch.num_rows();
        let mut labels: Vec<u16> = Vec::new();
        let mut loops = vec![usize::MAX; self.spec.program.loops];
        let mut stack = vec![Frame::Way { step: 0, taken: 0 }];
        let mut steps = 0usize;
        while let Some(frame) = stack.pop() {
            let mut at = match frame {
                Frame::Loop { number, row } => {
                    loops[number] = row;
                    continue;
                }
                Frame::Way { step, taken } => {
                    labels.truncate(taken);
                    step
                }
            };
            loop {
                steps += 1;
                self.check(steps)?;
                let row = start + labels.len();
                match self.spec.program.steps[at] {
                    Step::Row(label, excluded) => {
                        if row >= rows || !self.fits(label, start, &mut labels, number)? {
                            break;
                        }
                        labels.push(if excluded { label | EXCLUDED } else { label });
                        at += 1;
                    }
                    Step::Either(first, second) => {
                        let remember = self.pure && (steps > PATIENCE || !self.failed.is_empty());
                        if remember && !self.failed.insert((at, row)) {
                            break;
                        }
                        stack.push(Frame::Way { step: second, taken: labels.len() });
                        at = first;
                    }
                    Step::Jump(to) => at = to,
                    Step::Enter(number) => {
                        stack.push(Frame::Loop { number, row: loops[number] });
                        loops[number] = row;
                        at += 1;
                    }
                    Step::Progress(number, after) => at = if loops[number] == row { after } else { at + 1 },
                    Step::AtStart if row != 0 => break,
                    Step::AtEnd if row != rows => break,
                    Step::AtStart | Step::AtEnd => at += 1,
                    Step::Done => {
                        self.failed.clear();
                        return Ok(Some(labels));
                    }
                }
            }
        }
        Ok(None)
    }

    fn check(&self, steps: usize) -> Result<()> {
        if self.failed.len() <= FAILED_MAX && (self.pure || steps <= SEARCH_STEPS_MAX) {
            return Ok(());
        }
        let message = format!(
            "the search for a match took more than {SEARCH_STEPS_MAX} steps or {FAILED_MAX} remembered choices"
        );
        Err(Error::new(ErrorKind::Limit, "GENERIC_INSUFFICIENT_RESOURCES", message)
            .with_hint("bound the quantifiers of PATTERN, or divide the rows by PARTITION BY"))
    }

    /// Whether the next row may have a label.
    fn fits(&mut self, label: u16, start: usize, labels: &mut Vec<u16>, number: i64) -> Result<bool> {
        let computed = match &self.conditions[label as usize] {
            Condition::Always => return Ok(true),
            Condition::Column(column) => {
                let row = start + labels.len();
                return Ok(column.is_valid(row) && column.value(row));
            }
            Condition::Row(computed) => *computed,
        };
        self.forget(labels.len());
        labels.push(label);
        let view = View { start, labels, number, seen: labels.len() };
        let known = (self.spec, self.batch);
        let mut columns = Vec::with_capacity(computed.slots.len());
        for slot in &computed.slots {
            columns.push(match &slot.kind {
                SlotKind::Aggregate(index, counted, _) => {
                    let aggregate = &self.spec.aggregates[*index];
                    let running = match &mut self.aggregates[*index] {
                        Some(running) => running,
                        none => none.insert(Running::new(aggregate)?),
                    };
                    running.value((aggregate, counted), view, known)?.to_array()?
                }
                _ => single(slot, view, known)?,
            });
        }
        labels.pop();
        let holds = computed.body.evaluate(columns, 1)?;
        let holds = holds.as_boolean();
        Ok(holds.is_valid(0) && holds.value(0))
    }

    /// Starts aggregates anew that have seen more rows than are kept.
    fn forget(&mut self, kept: usize) {
        for running in &mut self.aggregates {
            if running.as_ref().is_some_and(|running| kept == 0 || running.consumed > kept) {
                *running = None;
            }
        }
    }
}

/// The condition for all rows, if it only looks at rows at fixed distances; `None` also if it fails for some row, since
/// the search may never ask for that one.
fn at_once(computed: &Computed, label: u16, batch: &RecordBatch) -> Option<BooleanArray> {
    let rows = batch.num_rows();
    let mut columns = Vec::with_capacity(computed.slots.len());
    for slot in &computed.slots {
        columns.push(match &slot.kind {
            SlotKind::Column(name, navigation)
                if navigation.anchor == Anchor::Last && navigation.offset == 0 && navigation.counts(label) =>
            {
                let values = column(batch, name).ok()?;
                if navigation.physical == 0 {
                    Arc::clone(values)
                } else {
                    let from = |row: usize| within(Some(row as i64 + navigation.physical), rows);
                    take(values, &UInt32Array::from_iter((0..rows).map(from)), None).ok()?
                }
            }
            SlotKind::Constant(name) => Arc::clone(column(batch, name).ok()?),
            _ => return None,
        });
    }
    let holds = computed.body.evaluate(columns, rows).ok()?;
    Some(holds.as_boolean_opt()?.clone())
}
