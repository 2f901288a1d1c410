//! Aggregates of all rows: there is one row of them, also where there are no rows.
//!
//! Behind an aggregation without keys, this puts its row of nothing (a count of 0, a sum of NULL) where the aggregation has
//! none: before the first barrier, and when the last row is taken back.
//!
//! Invariant: from the first barrier on, folding what was emitted gives one row.

use std::sync::Arc;

use arrow::{
    array::{AsArray, Int8Array, RecordBatch, UInt16Array},
    datatypes::{DataType, Field, Int8Type, Schema, SchemaRef},
};

use crate::{
    connector::ChangelogMode,
    error::{Error, Result},
    message::{ChangeBatch, RowKind},
    operator::{Operator, OperatorContext, OperatorFactory, Output, Progress},
    operators::groups::batch_of,
    state::{StateReader, StateWriter, key_group_field},
};

/// Its state table.
const TABLE: &str = "shown";

/// Gives the row of an aggregation without keys over no rows, as long as there is no other.
#[derive(Debug, Clone)]
pub struct Always {
    empty: RecordBatch,
}

impl Always {
    /// `empty` is the row of nothing.
    pub fn new(empty: RecordBatch) -> Result<Self> {
        match empty.num_rows() {
            1 => Ok(Self { empty }),
            rows => Err(Error::internal(format!("{rows} rows of aggregates over nothing"))),
        }
    }
}

impl OperatorFactory for Always {
    fn name(&self) -> &'static str {
        "always"
    }

    fn describe(&self) -> String {
        "a row also of no rows".to_owned()
    }

    fn schema(&self) -> SchemaRef {
        self.empty.schema()
    }

    fn output(&self, _: &[ChangelogMode]) -> Result<ChangelogMode> {
        Ok(ChangelogMode::Retract)
    }

    fn fingerprint(&self) -> Option<String> {
        Some("always 1".to_owned())
    }

    fn create(&self, context: &OperatorContext) -> Result<Box<dyn Operator>> {
        let state =
            Schema::new(vec![key_group_field(), Arc::new(Field::new("headwater_shown", DataType::Int8, false))]);
        let is_first = context.task == 0;
        Ok(Box::new(Showing {
            empty: self.empty.clone(),
            state: Arc::new(state),
            is_first,
            shown: Shown::Nothing,
            saved: None,
        }))
    }
}

/// What was emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Nothing,
    Empty,
    Row,
}

#[derive(Debug)]
struct Showing {
    empty: RecordBatch,
    state: SchemaRef,
    /// Whether the aggregation's rows come to this task.
    is_first: bool,
    shown: Shown,
    saved: Option<Shown>,
}

impl Showing {
    fn emit_empty(&mut self, kind: RowKind, out: &mut Output) {
        out.emit(ChangeBatch::new(self.empty.clone(), Some(Int8Array::from(vec![kind as i8]))));
        self.shown = if kind == RowKind::Insert { Shown::Empty } else { Shown::Nothing };
    }
}

impl Operator for Showing {
    fn on_changes(&mut self, _: usize, changes: ChangeBatch, out: &mut Output) -> Result<Progress> {
        if changes.num_rows() == 0 {
            return Ok(Progress::Done);
        }
        if self.shown == Shown::Empty {
            self.emit_empty(RowKind::Delete, out);
        }
        // Of one row the last change says whether it is there.
        let is_there = matches!(changes.kind(changes.num_rows() - 1), RowKind::Insert | RowKind::UpdateAfter);
        let columns = changes.rows.columns().to_vec();
        let rows = batch_of(&self.empty.schema(), columns, changes.num_rows())?;
        out.emit(changes.in_columns(rows));
        match is_there {
            true => self.shown = Shown::Row,
            false => self.emit_empty(RowKind::Insert, out),
        }
        Ok(Progress::Done)
    }

    fn on_barrier(&mut self, out: &mut Output) -> Result<Progress> {
        if self.is_first && self.shown == Shown::Nothing {
            self.emit_empty(RowKind::Insert, out);
        }
        Ok(Progress::Done)
    }

    fn on_end_of_input(&mut self, out: &mut Output) -> Result<Progress> {
        self.on_barrier(out)
    }

    fn snapshot(&mut self, state: &mut StateWriter) -> Result<()> {
        let is_written = self.shown != Shown::Nothing && (state.wants_whole() || self.saved != Some(self.shown));
        let code = i8::from(self.shown == Shown::Row);
        let row = || {
            batch_of(&self.state, vec![Arc::new(UInt16Array::from(vec![0])), Arc::new(Int8Array::from(vec![code]))], 1)
        };
        state.write(TABLE, is_written.then(row).transpose()?.into_iter().collect());
        self.saved = Some(self.shown);
        Ok(())
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        // A later increment replaces an earlier one.
        if let Some(batch) = state.batches(TABLE).last() {
            let codes = batch.column(1).as_primitive::<Int8Type>();
            self.shown = if codes.value(batch.num_rows() - 1) == 1 { Shown::Row } else { Shown::Empty };
            self.saved = Some(self.shown);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::{array::Int64Array, datatypes::Int64Type};

    fn operator() -> Box<dyn Operator> {
        let zero = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![0])) as _)]).unwrap();
        Always::new(zero).unwrap().create(&OperatorContext::alone(0)).unwrap()
    }

    fn changes(rows: &[(RowKind, i64)]) -> ChangeBatch {
        let values = Int64Array::from_iter_values(rows.iter().map(|row| row.1));
        let kinds = Int8Array::from_iter_values(rows.iter().map(|row| row.0 as i8));
        ChangeBatch::new(RecordBatch::try_from_iter([("n", Arc::new(values) as _)]).unwrap(), Some(kinds))
    }

    fn emitted(out: &mut Output) -> Vec<(RowKind, i64)> {
        let batches = std::iter::from_fn(|| out.next_changes()).collect::<Vec<_>>();
        let rows = batches.iter().flat_map(|batch| {
            let values = batch.rows.column(0).as_primitive::<Int64Type>();
            (0..batch.num_rows()).map(|row| (batch.kind(row), values.value(row)))
        });
        rows.collect()
    }

    #[test]
    fn a_count_of_no_rows_is_there_at_the_first_barrier_and_after_the_last_row_has_gone() {
        use RowKind::{Delete, Insert, UpdateAfter, UpdateBefore};
        let (mut operator, mut out) = (operator(), Output::default());
        let _ = operator.on_barrier(&mut out).unwrap();
        assert_eq!(emitted(&mut out), [(Insert, 0)]);
        let _ = operator.on_barrier(&mut out).unwrap();
        assert_eq!(emitted(&mut out), []);
        let first = [(Insert, 1), (UpdateBefore, 1), (UpdateAfter, 2)];
        let _ = operator.on_changes(0, changes(&first), &mut out).unwrap();
        assert_eq!(emitted(&mut out), [&[(Delete, 0)][..], &first].concat());
        let _ = operator.on_changes(0, changes(&[(Delete, 2)]), &mut out).unwrap();
        assert_eq!(emitted(&mut out), [(Delete, 2), (Insert, 0)]);
    }

    #[test]
    fn what_was_shown_outlives_a_restart() {
        for (changed, expected) in [(None, vec![]), (Some(5), vec![(RowKind::Delete, 5), (RowKind::Insert, 0)])] {
            let (mut before, mut out) = (operator(), Output::default());
            let _ = before.on_barrier(&mut out).unwrap();
            if let Some(value) = changed {
                let _ = before.on_changes(0, changes(&[(RowKind::Insert, value)]), &mut out).unwrap();
            }
            let mut writer = StateWriter::new(false);
            before.snapshot(&mut writer).unwrap();
            let tables = writer.into_increments().into_iter().map(|table| (table.table.to_owned(), table.batches));
            let (mut after, mut out) = (operator(), Output::default());
            let reader = StateReader::new(tables.collect(), &(0..128), crate::time::Watermark::MIN).unwrap();
            after.restore(&reader).unwrap();
            let _ = after.on_barrier(&mut out).unwrap();
            if let Some(value) = changed {
                let _ = after.on_changes(0, changes(&[(RowKind::Delete, value)]), &mut out).unwrap();
            }
            assert_eq!(emitted(&mut out), expected);
        }
    }
}
