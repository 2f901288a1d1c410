//! The half before the exchange: partial states per pane, handed on when a watermark could fire something.
//!
//! Where almost every row is a group of its own, gathering them here only costs: rows then pass as states of one row each,
//! for a while.
//!
//! Invariant: everything taken before a barrier, a watermark that fires or the end is out before it.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, UInt32Array},
    compute::{cast, concat_batches, take_record_batch},
    datatypes::{FieldRef, SchemaRef},
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

/// Rows after which gathering is judged.
const JUDGED_ROWS: usize = 4096;

/// Groups in a hundred rows from which on gathering does not pay.
const GROUPS_PER_100_ROWS: usize = 80;

/// Rows that pass before gathering is tried again.
const PASSING_ROWS: usize = 1_000_000;

/// Partial aggregates of one task since they were last handed on.
#[derive(Debug)]
pub(super) struct Partial {
    spec: WindowAggregate,
    schema: SchemaRef,
    panes: BTreeMap<(i64, i64), Groups>,
    /// Rows that were gathered since they were last handed on.
    gathered: usize,
    /// What turns rows into states of one row, if the aggregates can.
    single: Option<Groups>,
    /// Rows that still pass without being gathered.
    passing: usize,
    sent: Watermark,
}

impl Partial {
    pub(super) fn new(spec: WindowAggregate, schema: SchemaRef) -> Result<Self> {
        let single = Some(Groups::new(Arc::clone(&spec.grouping))?).filter(Groups::converts);
        let panes = BTreeMap::new();
        Ok(Self { spec, schema, panes, gathered: 0, single, passing: 0, sent: Watermark::MIN })
    }

    /// Hands rows on, each as the states of a group of its own.
    fn pass(&self, single: &Groups, rows: &RecordBatch, panes: &[(i64, i64)]) -> Result<ChangeBatch> {
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(panes.iter().map(|pane| pane.0)))];
        if self.spec.prefix() == 2 {
            columns.push(Arc::new(Int64Array::from_iter_values(panes.iter().map(|pane| pane.1))));
        }
        let fields = self.schema.fields().iter().skip(columns.len());
        let as_declared = |(column, field): (ArrayRef, &FieldRef)| match column.data_type() == field.data_type() {
            true => Ok(column),
            false => cast(&column, field.data_type()),
        };
        let states = single.states_of(rows)?.into_iter().zip(fields).map(as_declared);
        columns.extend(states.collect::<Result<Vec<_>, _>>()?);
        Ok(ChangeBatch::inserts(batch_of(&self.schema, columns, rows.num_rows())?))
    }

    fn flush(&mut self, out: &mut Output) -> Result<()> {
        let mut parts = Vec::new();
        let (groups, gathered) = (self.groups(), std::mem::take(&mut self.gathered));
        if gathered >= JUDGED_ROWS && groups * 100 > gathered * GROUPS_PER_100_ROWS && self.single.is_some() {
            self.passing = PASSING_ROWS;
        }
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

    fn groups(&self) -> usize {
        self.panes.values().map(Groups::len).sum()
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
        if let (Some(single), 1..) = (&self.single, self.passing) {
            out.emit(self.pass(single, &changes.rows, &panes)?);
            self.passing = self.passing.saturating_sub(changes.num_rows());
            return Ok(Progress::Done);
        }
        self.gathered += changes.num_rows();
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
        if self.groups() >= PARTIAL_GROUPS {
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
