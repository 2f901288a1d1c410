//! The half before the exchange: partial states per pane, handed on when a watermark could fire something.
//!
//! Invariant: everything taken before a barrier, a watermark that fires or the end is out before it.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{ArrayRef, Int64Array, UInt32Array},
    compute::{concat_batches, take_record_batch},
    datatypes::SchemaRef,
};

use crate::{
    error::Result,
    message::ChangeBatch,
    operator::{Operator, Output, Progress},
    operators::{
        groups::{Grouping, Groups, batch_of},
        window_aggregate::{WindowAggregate, Windows, panes},
    },
    time::Watermark,
};

/// Groups kept before they are handed on whatever the watermark says.
const PARTIAL_GROUPS: usize = 65_536;

/// Most runs of rows of one pane that are taken as they are; in more, rows are first gathered by pane.
const RUNS_MAX: usize = 16;

/// Partial aggregates of one task since they were last handed on.
#[derive(Debug)]
pub(super) struct Partial {
    spec: WindowAggregate,
    schema: SchemaRef,
    panes: BTreeMap<(i64, i64), Groups>,
    sent: Watermark,
}

impl Partial {
    pub(super) fn new(spec: WindowAggregate, schema: SchemaRef) -> Self {
        Self { spec, schema, panes: BTreeMap::new(), sent: Watermark::MIN }
    }

    fn flush(&mut self, out: &mut Output) -> Result<()> {
        let mut parts = Vec::new();
        for ((first, second), mut groups) in std::mem::take(&mut self.panes) {
            let (keys, states, rows) = groups.drain()?;
            let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_value(first, rows))];
            if self.spec.prefix() == 2 {
                columns.push(Arc::new(Int64Array::from_value(second, rows)));
            }
            columns.extend(keys);
            columns.extend(states);
            if rows > 0 {
                parts.push(batch_of(&self.schema, columns, rows)?);
            }
        }
        if !parts.is_empty() {
            out.emit(ChangeBatch::inserts(concat_batches(&self.schema, &parts)?));
        }
        Ok(())
    }

    /// Whether two watermarks fire the same windows, so that the first can stand for the second.
    fn is_same_step(&self, a: Watermark, b: Watermark) -> bool {
        match self.spec.windows {
            _ if a == Watermark::MIN || b == Watermark::MAX => false,
            Windows::Assign { spec, .. } => spec.pane_of(a.0) == spec.pane_of(b.0),
            Windows::Attached { .. } => false,
        }
    }
}

impl Operator for Partial {
    fn on_changes(&mut self, _: usize, changes: ChangeBatch, out: &mut Output) -> Result<Progress> {
        let panes = panes(self.spec.windows, &changes)?;
        let runs = panes.chunk_by(|a, b| a == b);
        if runs.clone().take(RUNS_MAX + 1).count() <= RUNS_MAX {
            let mut start = 0;
            for run in runs {
                let part = changes.rows.slice(start, run.len());
                group_of(&mut self.panes, run[0], &self.spec.grouping)?.update(&part)?;
                start += run.len();
            }
        } else {
            let mut rows_of: BTreeMap<(i64, i64), Vec<u32>> = BTreeMap::new();
            panes.iter().enumerate().for_each(|(row, pane)| rows_of.entry(*pane).or_default().push(row as u32));
            for (pane, rows) in rows_of {
                let part = take_record_batch(&changes.rows, &UInt32Array::from(rows))?;
                group_of(&mut self.panes, pane, &self.spec.grouping)?.update(&part)?;
            }
        }
        if self.panes.values().map(Groups::len).sum::<usize>() >= PARTIAL_GROUPS {
            self.flush(out)?;
        }
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Progress> {
        if self.is_same_step(self.sent, watermark) {
            out.hold_watermark(self.sent);
            return Ok(Progress::Done);
        }
        self.flush(out)?;
        self.sent = watermark;
        Ok(Progress::Done)
    }

    fn on_barrier(&mut self, out: &mut Output) -> Result<Progress> {
        self.flush(out)?;
        Ok(Progress::Done)
    }

    fn on_end_of_input(&mut self, out: &mut Output) -> Result<Progress> {
        self.flush(out)?;
        Ok(Progress::Done)
    }
}

fn group_of<'a, K: Ord>(
    panes: &'a mut BTreeMap<K, Groups>,
    pane: K,
    grouping: &Arc<Grouping>,
) -> Result<&'a mut Groups> {
    match panes.entry(pane) {
        std::collections::btree_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
        std::collections::btree_map::Entry::Vacant(entry) => Ok(entry.insert(Groups::new(Arc::clone(grouping))?)),
    }
}
