//! Values of expressions over rows of a match: which row a slot means, and aggregates over rows.
//!
//! Invariant: a row outside of the partition, or of the match where only its rows count, has no value: NULL.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, UInt32Array, new_null_array},
    compute::{SortColumn, filter, lexsort_to_indices, take},
};
use datafusion::{common::ScalarValue, logical_expr::Accumulator};
use headwater_engine::error::{Error, Result};

use super::{Aggregate, Anchor, Input, MatchSpec, Navigation, Slot, SlotKind};

/// Set in a label whose row is left out of the result.
pub(super) const EXCLUDED: u16 = 1 << 15;

/// A match: the row of the partition it starts at, and a label for each of its rows.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) start: usize,
    pub(super) labels: Vec<u16>,
    pub(super) number: i64,
}

/// A match while or after it is searched for, as seen from one of its rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'m> {
    pub(super) start: usize,
    pub(super) labels: &'m [u16],
    pub(super) number: i64,
    /// How many of its rows are up to the current one.
    pub(super) seen: usize,
}

impl Navigation {
    pub(super) fn counts(&self, label: u16) -> bool {
        self.labels.is_empty() || self.labels.contains(&(label & !EXCLUDED))
    }

    /// The row of the partition, perhaps outside of it.
    pub(super) fn row(&self, view: View<'_>) -> Option<i64> {
        let count = if self.whole { view.labels.len() } else { view.seen };
        let labels = view.labels.get(..count)?;
        let index = if self.labels.is_empty() {
            match self.anchor {
                Anchor::First => Some(self.offset).filter(|offset| *offset < count),
                Anchor::Last => count.checked_sub(self.offset + 1),
            }
        } else {
            let mut fits = labels.iter().enumerate().filter(|(_, label)| self.counts(**label)).map(|(index, _)| index);
            match self.anchor {
                Anchor::First => fits.nth(self.offset),
                Anchor::Last => fits.nth_back(self.offset),
            }
        };
        index.map(|index| (view.start + index) as i64 + self.physical)
    }
}

/// The row as an index of an array of this length.
pub(super) fn within(row: Option<i64>, rows: usize) -> Option<u32> {
    row.and_then(|row| u32::try_from(row).ok()).filter(|row| (*row as usize) < rows)
}

/// The label of a row of the match.
pub(super) fn label_at(row: Option<i64>, view: View<'_>) -> Option<u16> {
    let index = usize::try_from(row? - view.start as i64).ok()?;
    view.labels.get(index).map(|label| label & !EXCLUDED)
}

/// A column of a partition by its name.
pub(super) fn column<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| Error::internal(format!("MATCH_RECOGNIZE has no column {name}")))
}

/// An aggregate over the rows seen so far.
#[derive(Debug)]
pub(super) struct Running {
    accumulator: Box<dyn Accumulator>,
    /// How many rows of the match were looked at.
    pub(super) consumed: usize,
}

impl Running {
    pub(super) fn new(aggregate: &Aggregate) -> Result<Self> {
        Ok(Self { accumulator: aggregate.function.create_accumulator()?, consumed: 0 })
    }

    /// Takes in what has been seen since, and gives the result.
    pub(super) fn value(
        &mut self,
        (aggregate, labels): (&Aggregate, &[u16]),
        view: View<'_>,
        (spec, batch): (&MatchSpec, &RecordBatch),
    ) -> Result<ScalarValue> {
        let counts = |label: u16| labels.is_empty() || labels.contains(&(label & !EXCLUDED));
        let rows: Vec<u32> = (self.consumed..view.seen)
            .filter(|index| view.labels.get(*index).is_some_and(|label| counts(*label)))
            .map(|index| (view.start + index) as u32)
            .collect();
        self.consumed = view.seen;
        if !rows.is_empty() {
            self.feed(aggregate, rows, view, (spec, batch))?;
        }
        Ok(self.accumulator.evaluate()?)
    }

    fn feed(
        &mut self,
        aggregate: &Aggregate,
        rows: Vec<u32>,
        view: View<'_>,
        (spec, batch): (&MatchSpec, &RecordBatch),
    ) -> Result<()> {
        let classifier: StringArray = rows
            .iter()
            .map(|row| label_at(Some(i64::from(*row)), view).and_then(|label| spec.labels.get(label as usize)))
            .map(|label| label.map(AsRef::as_ref))
            .collect();
        let number = Int64Array::from(vec![view.number; rows.len()]);
        let given: [ArrayRef; 2] = [Arc::new(classifier), Arc::new(number)];
        let rows = UInt32Array::from(rows);
        let evaluated = |input: &Input| -> Result<ArrayRef> {
            let mut columns = given.to_vec();
            for field in input.inputs.fields().iter().skip(2) {
                columns.push(take(column(batch, field.name())?, &rows, None)?);
            }
            input.evaluate(columns, rows.len())
        };
        let mut values = aggregate.inputs.iter().map(evaluated).collect::<Result<Vec<_>>>()?;
        if let Some(condition) = &aggregate.filter {
            let kept = evaluated(condition)?;
            values = values.iter().map(|value| Ok(filter(value, kept.as_boolean())?)).collect::<Result<_>>()?;
        }
        let sorts = aggregate.function.order_bys();
        if !sorts.is_empty() {
            let keys = values.iter().skip(values.len().saturating_sub(sorts.len()));
            let keys: Vec<SortColumn> = keys
                .zip(sorts)
                .map(|(value, sort)| SortColumn { values: Arc::clone(value), options: Some(sort.options) })
                .collect();
            let order = lexsort_to_indices(&keys, None)?;
            values = values.iter().map(|value| Ok(take(value, &order, None)?)).collect::<Result<_>>()?;
        }
        Ok(self.accumulator.update_batch(&values)?)
    }
}

/// The value of a slot that is no aggregate, as an array of one row.
pub(super) fn single(slot: &Slot, view: View<'_>, (spec, batch): (&MatchSpec, &RecordBatch)) -> Result<ArrayRef> {
    let null = || new_null_array(&slot.data_type.to_arrow(), 1);
    Ok(match &slot.kind {
        SlotKind::Column(name, navigation) => match within(navigation.row(view), batch.num_rows()) {
            Some(row) => column(batch, name)?.slice(row as usize, 1),
            None => null(),
        },
        SlotKind::Classifier(navigation) => {
            let label = label_at(navigation.row(view), view).and_then(|label| spec.labels.get(label as usize));
            Arc::new(StringArray::from(vec![label.map(AsRef::as_ref)]))
        }
        SlotKind::MatchNumber => Arc::new(Int64Array::from(vec![view.number])),
        SlotKind::Constant(name) if batch.num_rows() > 0 => column(batch, name)?.slice(0, 1),
        SlotKind::Constant(_) | SlotKind::Aggregate(..) => null(),
    })
}
