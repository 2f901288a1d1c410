//! From the matches of a partition to rows of the result.
//!
//! Invariant: a measure is computed for many rows of the result at once.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray, UInt32Array, new_null_array},
    compute::take,
    datatypes::SchemaRef,
};
use datafusion::common::ScalarValue;
use headwater_engine::error::{Error, Result};

use super::{
    Anchor, Computed, MatchSpec, Navigation, Output, RowsPerMatch, Skip, Slot, SlotKind,
    matcher::Matcher,
    values::{EXCLUDED, Found, Running, View, column, label_at, within},
};

/// How many rows of the result are made at once.
const ROWS_AT_ONCE: usize = 8192;

/// A row of the result: a row of the partition, and, unless it is in no match, which match and how many of its rows
/// are up to it.
struct Row {
    input: u32,
    of: Option<(usize, usize)>,
}

/// All rows that one partition gives.
pub(super) fn partition(spec: &MatchSpec, batch: &RecordBatch, schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
    let (matches, rows) = search(spec, batch)?;
    rows.chunks(ROWS_AT_ONCE).map(|rows| result(spec, (batch, &matches), rows, schema)).collect()
}

fn search(spec: &MatchSpec, batch: &RecordBatch) -> Result<(Vec<Found>, Vec<Row>)> {
    let mut matcher = Matcher::new(spec, batch)?;
    let (mut matches, mut rows): (Vec<Found>, Vec<Row>) = (Vec::new(), Vec::new());
    let (mut start, mut covered) = (0, 0);
    let (shows_empty, shows_unmatched) = match spec.rows {
        RowsPerMatch::One => (true, false),
        RowsPerMatch::All { empty, unmatched } => (empty, unmatched),
    };
    while start < batch.num_rows() {
        let number = matches.len() as i64 + 1;
        let Some(labels) = matcher.find(start, number)? else {
            if shows_unmatched && start >= covered {
                rows.push(Row { input: start as u32, of: None });
            }
            start += 1;
            continue;
        };
        let (index, count) = (matches.len(), labels.len());
        if count == 0 {
            if shows_empty {
                rows.push(Row { input: start as u32, of: Some((index, 0)) });
            }
        } else if spec.rows == RowsPerMatch::One {
            rows.push(Row { input: start as u32, of: Some((index, count)) });
        } else {
            let kept = labels.iter().enumerate().filter(|(_, label)| **label & EXCLUDED == 0);
            rows.extend(kept.map(|(at, _)| Row { input: (start + at) as u32, of: Some((index, at + 1)) }));
        }
        covered = covered.max(start + count);
        let next = next_start(&spec.skip, start, &labels)?;
        matches.push(Found { start, labels, number });
        start = next;
    }
    Ok((matches, rows))
}

fn next_start(skip: &Skip, start: usize, labels: &[u16]) -> Result<usize> {
    let failed = |what: &str| Error::user("GENERIC_USER_ERROR", format!("AFTER MATCH SKIP failed: {what}"));
    if labels.is_empty() {
        return Ok(start + 1);
    }
    match skip {
        Skip::PastLast => Ok(start + labels.len()),
        Skip::ToNext => Ok(start + 1),
        Skip::To(first, wanted) => {
            let mut fits = labels.iter().enumerate().filter(|(_, label)| wanted.contains(&(**label & !EXCLUDED)));
            let found = if *first { fits.next() } else { fits.next_back() };
            match found {
                None => Err(failed("pattern variable is not present in match")),
                Some((0, _)) => Err(failed("cannot skip to first row of match")),
                Some((index, _)) => Ok(start + index),
            }
        }
    }
}

fn result(
    spec: &MatchSpec,
    (batch, matches): (&RecordBatch, &[Found]),
    rows: &[Row],
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let inputs = UInt32Array::from_iter_values(rows.iter().map(|row| row.input));
    let mut views = Vec::with_capacity(rows.len());
    let mut place = Vec::with_capacity(rows.len());
    for row in rows {
        let found = row.of.and_then(|(index, seen)| Some((matches.get(index)?, seen)));
        place.push(found.map(|_| views.len() as u32));
        if let Some((found, seen)) = found {
            views.push(View { start: found.start, labels: &found.labels, number: found.number, seen });
        }
    }
    let place = UInt32Array::from(place);
    let scattered = place.null_count_any();
    let mut columns = Vec::with_capacity(spec.output.len());
    for (output, field) in spec.output.iter().zip(schema.fields()) {
        let values = match output {
            Output::Input(name) => take(column(batch, name)?, &inputs, None)?,
            Output::Measure(index) => {
                let measure = &spec.measures[*index];
                let values = computed(measure, &views, (spec, batch))?;
                if scattered { take(&values, &place, None)? } else { values }
            }
        };
        columns.push(crate::kernels::fit(values, field.data_type())?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

trait Nulls {
    fn null_count_any(&self) -> bool;
}

impl Nulls for UInt32Array {
    fn null_count_any(&self) -> bool {
        arrow::array::Array::null_count(self) > 0
    }
}

fn computed(measure: &Computed, views: &[View<'_>], known: (&MatchSpec, &RecordBatch)) -> Result<ArrayRef> {
    let columns = measure.slots.iter().map(|slot| values(slot, views, known)).collect::<Result<Vec<_>>>()?;
    measure.body.evaluate(columns, views.len())
}

/// The values of a slot as seen from rows of matches.
fn values(slot: &Slot, views: &[View<'_>], (spec, batch): (&MatchSpec, &RecordBatch)) -> Result<ArrayRef> {
    let rows = batch.num_rows();
    Ok(match &slot.kind {
        SlotKind::Column(name, navigation) => {
            let mut places = Places::default();
            let taken = views.iter().map(|view| within(places.row(navigation, *view), rows));
            take(column(batch, name)?, &UInt32Array::from_iter(taken), None)?
        }
        SlotKind::Classifier(navigation) => {
            let mut places = Places::default();
            let label = |view: &View<'_>| {
                let label = label_at(places.row(navigation, *view), *view)?;
                spec.labels.get(label as usize).map(AsRef::as_ref)
            };
            Arc::new(views.iter().map(label).collect::<StringArray>())
        }
        SlotKind::MatchNumber => Arc::new(Int64Array::from_iter_values(views.iter().map(|view| view.number))),
        SlotKind::Constant(name) => {
            take(column(batch, name)?, &UInt32Array::from_iter_values(views.iter().map(|_| 0)), None)?
        }
        SlotKind::Aggregate(index, labels, whole) => aggregated((*index, labels, *whole), slot, views, (spec, batch))?,
    })
}

fn aggregated(
    (index, labels, whole): (usize, &[u16], bool),
    slot: &Slot,
    views: &[View<'_>],
    (spec, batch): (&MatchSpec, &RecordBatch),
) -> Result<ArrayRef> {
    let aggregate = spec.aggregates.get(index).ok_or_else(|| Error::internal("an aggregate is missing"))?;
    let mut out: Vec<ScalarValue> = Vec::with_capacity(views.len());
    let mut running: Option<(i64, Running)> = None;
    for view in views {
        let seen = if whole { view.labels.len() } else { view.seen };
        let same = running.as_ref().is_some_and(|(number, running)| *number == view.number && running.consumed <= seen);
        if whole
            && same
            && let Some(last) = out.last()
        {
            out.push(last.clone());
            continue;
        }
        if !same {
            running = Some((view.number, Running::new(aggregate)?));
        }
        let Some((_, running)) = &mut running else { continue };
        out.push(running.value((aggregate, labels), View { seen, ..*view }, (spec, batch))?);
    }
    if out.is_empty() {
        return Ok(new_null_array(&slot.data_type.to_arrow(), 0));
    }
    Ok(ScalarValue::iter_to_array(out)?)
}

/// Where rows with some labels are in the match looked at last, so that a long match is gone through once.
#[derive(Default)]
struct Places {
    number: i64,
    indices: Vec<usize>,
}

impl Places {
    fn row(&mut self, navigation: &Navigation, view: View<'_>) -> Option<i64> {
        if navigation.labels.is_empty() {
            return navigation.row(view);
        }
        if self.number != view.number {
            self.number = view.number;
            self.indices = (0..view.labels.len()).filter(|index| navigation.counts(view.labels[*index])).collect();
        }
        let seen = if navigation.whole { view.labels.len() } else { view.seen };
        let count = self.indices.partition_point(|index| *index < seen);
        let at = match navigation.anchor {
            Anchor::First => Some(navigation.offset).filter(|offset| *offset < count)?,
            Anchor::Last => count.checked_sub(navigation.offset + 1)?,
        };
        Some((view.start + self.indices.get(at)?) as i64 + navigation.physical)
    }
}
