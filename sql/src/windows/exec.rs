//! Assigns rows to windows in batch.
//!
//! Invariant: a row without a time is in no window, as in a job, where it is rejected.

use std::{collections::BTreeMap, fmt, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array, make_array},
    compute::{cast, concat_batches, take_record_batch},
    datatypes::{
        DataType, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampSecondType,
    },
    row::{RowConverter, SortField},
};
use datafusion::{
    common::Result,
    execution::{SendableRecordBatchStream, TaskContext, memory_pool::MemoryConsumer},
    physical_plan::{Distribution, stream::RecordBatchStreamAdapter},
};
use futures::{StreamExt, TryStreamExt};
use headwater_engine::{
    error::Error,
    hash::with_one_zero,
    window::{Window, WindowSpec},
};

use super::describe;
use crate::unary::{Unary, by_columns};

/// Assigns rows to windows by the column at `time`; its schema has three columns more than its input's.
#[derive(Debug)]
pub(crate) struct Windows {
    pub(super) spec: WindowSpec,
    pub(super) time: usize,
    pub(super) keys: Vec<usize>,
}

impl fmt::Display for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&describe(&self.spec))
    }
}

impl Unary for Windows {
    fn name(&self) -> &'static str {
        "WindowExec"
    }

    fn distribution(&self, input: &Schema) -> Distribution {
        match self.spec {
            WindowSpec::Session { .. } => by_columns(&self.keys, input),
            WindowSpec::Tumble { .. } | WindowSpec::Hop { .. } | WindowSpec::Cumulate { .. } => {
                Distribution::UnspecifiedDistribution
            }
        }
    }

    fn run(
        &self,
        _: usize,
        mut input: SendableRecordBatchStream,
        schema: &SchemaRef,
        context: &TaskContext,
    ) -> Result<SendableRecordBatchStream> {
        let (spec, time, made) = (self.spec, self.time, Arc::clone(schema));
        if let WindowSpec::Session { gap } = spec {
            let keys = self.keys.clone();
            let memory = MemoryConsumer::new("sessions").register(context.memory_pool());
            let sessions = async move {
                let mut batches: Vec<RecordBatch> = Vec::new();
                while let Some(batch) = input.try_next().await? {
                    memory.try_grow(batch.get_array_memory_size())?;
                    batches.push(batch);
                }
                let all = concat_batches(&input.schema(), &batches)?;
                sessions(&all, (gap, time, &keys), &made)
            };
            let stream = futures::stream::once(sessions);
            return Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), stream)));
        }
        let stream = input.map(move |batch| assign(&batch?, spec, time, &made));
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), stream)))
    }
}

/// Microseconds of a time column, NULLs kept.
fn micros(column: &ArrayRef) -> Result<Int64Array> {
    let zone = match column.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    let micros = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, zone))?;
    let numbers = cast(&micros, &DataType::Int64)?;
    let numbers = numbers.as_any().downcast_ref::<Int64Array>().cloned();
    numbers.ok_or_else(|| Error::internal("a time column does not count microseconds").into())
}

/// The values of a time column and how many microseconds one of them stands for, where that is a whole number.
fn counted(column: &ArrayRef) -> Option<(&[i64], i64)> {
    match column.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => {
            Some((column.as_primitive::<TimestampSecondType>().values(), 1_000_000))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            Some((column.as_primitive::<TimestampMillisecondType>().values(), 1000))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Some((column.as_primitive::<TimestampMicrosecondType>().values(), 1))
        }
        _ => None,
    }
}

/// Tumbling windows of a batch in which every row has one: the rows stay as they are.
fn assign_each(batch: &RecordBatch, spec: WindowSpec, time: usize, schema: &SchemaRef) -> Result<Option<RecordBatch>> {
    let column = batch.column(time);
    let Some((times, unit)) = counted(column).filter(|_| column.null_count() == 0) else { return Ok(None) };
    let Some((starts, size)) = spec.tumbling_starts(times, unit) else { return Ok(None) };
    let ends: Vec<i64> = starts.iter().map(|start| start.saturating_add(size)).collect();
    let lasts = ends.iter().map(|end| (end.saturating_mul(unit) - WINDOW_TIME_BEFORE_END) / unit).collect();
    let mut columns = batch.columns().to_vec();
    for values in [starts, ends, lasts] {
        let typed = Int64Array::from(values).into_data().into_builder().data_type(column.data_type().clone());
        columns.push(make_array(typed.build()?));
    }
    Ok(Some(RecordBatch::try_new(Arc::clone(schema), columns)?))
}

fn assign(batch: &RecordBatch, spec: WindowSpec, time: usize, schema: &SchemaRef) -> Result<RecordBatch> {
    if let Some(assigned) = assign_each(batch, spec, time, schema)? {
        return Ok(assigned);
    }
    let times = micros(batch.column(time))?;
    let (mut rows, mut windows) = (Vec::new(), Vec::new());
    let mut last: Option<(i64, Vec<Window>)> = None;
    for row in (0..times.len()).filter(|row| times.is_valid(*row)) {
        let at = times.value(row);
        if !spec.covers(at) {
            continue;
        }
        let pane = spec.pane_of(at);
        if last.as_ref().is_none_or(|(known, _)| *known != pane) {
            last = Some((pane, spec.windows_of_pane(pane)));
        }
        for window in last.iter().flat_map(|(_, windows)| windows) {
            rows.push(row as u32);
            windows.push(*window);
        }
    }
    with_windows(batch, rows, &windows, schema)
}

type Sessions<'a> = (i64, usize, &'a [usize]);

fn sessions(batch: &RecordBatch, (gap, time, keys): Sessions<'_>, schema: &SchemaRef) -> Result<RecordBatch> {
    let times = micros(batch.column(time))?;
    let columns: Vec<ArrayRef> = keys.iter().map(|key| with_one_zero(batch.column(*key))).collect();
    let sorts = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let encoded = RowConverter::new(sorts)?.convert_columns(&columns)?;
    let mut by_key: BTreeMap<Vec<u8>, Vec<(i64, u32)>> = BTreeMap::new();
    for row in (0..times.len()).filter(|row| times.is_valid(*row)) {
        let key = if keys.is_empty() { Vec::new() } else { encoded.row(row).as_ref().to_vec() };
        by_key.entry(key).or_default().push((times.value(row), row as u32));
    }
    let (mut rows, mut windows) = (Vec::new(), Vec::new());
    for mut events in by_key.into_values() {
        events.sort_unstable();
        for session in events.chunk_by(|before, after| after.0 <= before.0.saturating_add(gap)) {
            let (Some(first), Some(last)) = (session.first(), session.last()) else { continue };
            let window = Window { start: first.0, end: last.0.saturating_add(gap) };
            rows.extend(session.iter().map(|(_, row)| *row));
            windows.extend(std::iter::repeat_n(window, session.len()));
        }
    }
    with_windows(batch, rows, &windows, schema)
}

/// `window_time` lies this many microseconds before the window's end.
const WINDOW_TIME_BEFORE_END: i64 = 1000;

fn with_windows(batch: &RecordBatch, rows: Vec<u32>, windows: &[Window], schema: &SchemaRef) -> Result<RecordBatch> {
    let taken = take_record_batch(batch, &UInt32Array::from(rows))?;
    let width = batch.num_columns();
    let column = |index: usize, value: fn(&Window) -> i64| {
        let numbers: Int64Array = windows.iter().map(|window| Some(value(window))).collect();
        let wanted = schema.field(width + index).data_type();
        let zone = match wanted {
            DataType::Timestamp(_, zone) => zone.clone(),
            _ => None,
        };
        let micros = cast(&numbers, &DataType::Timestamp(TimeUnit::Microsecond, zone))?;
        cast(&micros, wanted)
    };
    let mut columns = taken.columns().to_vec();
    columns.push(column(0, |window| window.start)?);
    columns.push(column(1, |window| window.end)?);
    columns.push(column(2, |window| window.end - WINDOW_TIME_BEFORE_END)?);
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
