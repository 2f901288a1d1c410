//! Aggregation per key and window, in two halves: partial states per pane before the exchange, windows after it.
//!
//! ```text
//! rows ──partial──> (pane, keys.., states..) ──hash(keys)──> final: panes ──watermark reaches a window's end──> rows
//! ```
//!
//! A pane holds *increments* (batches of partial states, as they are written to checkpoints) and *live* groups since the
//! last barrier. At a barrier the live groups become an increment; a window that fires merges the increments and live
//! groups of its panes into fresh groups and evaluates those. Increments are merged into one when there are many.
//!
//! Over the memory limit, increments go to files on local disk, in buckets of key groups, and a window fires a bucket at a
//! time, so that one sixteenth of its groups is in memory at once.
//!
//! Where windows overlap, rows that came too late for the first windows of their pane are a pane of their own, named by the
//! end of the first window they take part in.
//!
//! Invariant: a row is in exactly one pane, and a pane is dropped once the last window that contains it has fired.

mod finish;
mod partial;
mod spill;

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, UInt16Array},
    compute::cast,
    datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit},
};

use crate::{
    connector::ChangelogMode,
    error::{Error, Result},
    hash::key_groups,
    message::ChangeBatch,
    operator::{Operator, OperatorContext, OperatorFactory, OperatorRef},
    operators::{
        groups::Grouping,
        session::{self, Sessions},
        spilling::{Keyed, KeyedOperator, Spilling},
    },
    runtime::micros,
    window::WindowSpec,
};

/// Name of the pane column between the two halves.
pub const PANE: &str = "headwater_pane";

/// In place of a first end: the rows of a pane take part in all its windows.
const FROM_FIRST: i64 = i64::MIN;

/// An aggregation over windows. `partial` runs before the exchange, `finish` behind it.
#[derive(Debug, Clone)]
pub struct WindowAggregate {
    windows: Windows,
    grouping: Arc<Grouping>,
    /// Type of `window_start` and `window_end`.
    time_type: DataType,
    allowed: i64,
}

/// Which windows a row belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windows {
    /// Those of a window function over this event time column.
    Assign {
        /// The windows.
        spec: WindowSpec,
        /// Index of the event time column in the input.
        time: usize,
    },
    /// The one the row carries (a window over a window): indexes of its `window_start` and `window_end` columns.
    Attached {
        /// Index of `window_start`.
        start: usize,
        /// Index of `window_end`.
        end: usize,
    },
}

impl WindowAggregate {
    /// An aggregation; `time_type` is the type of the window columns, `allowed` the allowed lateness in microseconds.
    pub fn new(windows: Windows, grouping: Grouping, time_type: DataType, allowed: i64) -> Result<Self> {
        if let Windows::Assign { spec, .. } = windows {
            spec.validate()?;
        }
        if !matches!(time_type, DataType::Timestamp(_, _)) {
            return Err(Error::internal(format!("window columns must be timestamps, not {time_type}")));
        }
        Ok(Self { windows, grouping: Arc::new(grouping), time_type, allowed })
    }

    /// The half before the exchange; without state.
    pub fn partial(&self) -> Result<OperatorRef> {
        Ok(Arc::new(PartialFactory { spec: self.clone(), schema: self.partial_schema()? }))
    }

    /// The half behind the exchange.
    pub fn finish(&self) -> Result<OperatorRef> {
        Ok(Arc::new(FinalFactory { spec: self.clone(), schema: self.output_schema() }))
    }

    /// The columns of the partial rows that make up the key, for the exchange.
    pub fn exchange_keys(&self) -> Vec<usize> {
        let first = self.prefix();
        (first..first + self.grouping.keys.len()).collect()
    }

    /// Columns before the keys in partial rows: the pane, where windows overlap with the end of the first one its rows
    /// take part in, or start and end.
    pub(crate) fn prefix(&self) -> usize {
        match self.windows {
            Windows::Assign { spec: WindowSpec::Session { .. }, .. } | Windows::Attached { .. } => 2,
            Windows::Assign { spec, .. } => 1 + usize::from(spec.overlap()),
        }
    }

    pub(crate) fn is_session(&self) -> bool {
        matches!(self.windows, Windows::Assign { spec: WindowSpec::Session { .. }, .. })
    }

    pub(crate) fn windows(&self) -> Windows {
        self.windows
    }

    pub(crate) fn grouping(&self) -> &Arc<Grouping> {
        &self.grouping
    }

    /// `[pane | pane, open from | start, end]`, keys, states.
    pub(crate) fn partial_schema(&self) -> Result<SchemaRef> {
        let int = |name: &str| Arc::new(Field::new(name, DataType::Int64, false));
        let mut fields: Vec<FieldRef> = match self.prefix() {
            1 => vec![int(PANE)],
            _ if matches!(self.windows, Windows::Assign { spec, .. } if spec.overlap()) => {
                vec![int(PANE), int("headwater_open_from")]
            }
            _ => vec![int("headwater_start"), int("headwater_end")],
        };
        fields.extend(self.grouping.key_fields());
        fields.extend(self.grouping.state_fields()?);
        Ok(Arc::new(Schema::new(fields)))
    }

    /// Keys, `window_start`, `window_end`, values.
    pub fn output_schema(&self) -> SchemaRef {
        let mut fields = self.grouping.key_fields();
        fields.push(Arc::new(Field::new("window_start", self.time_type.clone(), false)));
        fields.push(Arc::new(Field::new("window_end", self.time_type.clone(), false)));
        fields.extend(self.grouping.value_fields());
        Arc::new(Schema::new(fields))
    }

    pub(crate) fn window_column(&self, micros: i64, rows: usize) -> Result<ArrayRef> {
        self.window_columns(Int64Array::from_value(micros, rows))
    }

    pub(crate) fn window_columns(&self, micros: Int64Array) -> Result<ArrayRef> {
        let DataType::Timestamp(_, zone) = &self.time_type else {
            return Err(Error::internal("window columns must be timestamps"));
        };
        let exact = cast(&micros, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
        Ok(cast(&exact, &self.time_type)?)
    }

    fn describe(&self) -> String {
        let windows = match self.windows {
            Windows::Assign { spec, .. } => format!("{spec:?}"),
            Windows::Attached { .. } => "attached".to_owned(),
        };
        format!("{windows} {}", self.grouping.fingerprint())
    }
}

/// The pane of each row: its start and, where windows overlap, the end of the first one the row takes part in; for
/// attached windows start and end.
fn panes(windows: Windows, changes: &ChangeBatch) -> Result<Vec<(i64, i64)>> {
    let rows = &changes.rows;
    match windows {
        Windows::Assign { spec, time } => {
            let times = micros(rows.column(time))?;
            let panes = spec.panes_of(times.values()).into_iter();
            Ok(match &changes.open_from {
                Some(ends) if spec.overlap() => panes.zip(ends.values().iter().copied()).collect(),
                _ => panes.map(|pane| (pane, FROM_FIRST)).collect(),
            })
        }
        Windows::Attached { start, end } => {
            let (starts, ends) = (micros(rows.column(start))?, micros(rows.column(end))?);
            Ok(starts.values().iter().copied().zip(ends.values().iter().copied()).collect())
        }
    }
}

#[derive(Debug)]
struct PartialFactory {
    spec: WindowAggregate,
    schema: SchemaRef,
}

impl OperatorFactory for PartialFactory {
    fn name(&self) -> &'static str {
        "window-aggregate-partial"
    }

    fn describe(&self) -> String {
        self.spec.describe()
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn output(&self, inputs: &[ChangelogMode]) -> Result<ChangelogMode> {
        append_only(inputs)
    }

    fn fingerprint(&self) -> Option<String> {
        None
    }

    fn create(&self, _: &OperatorContext) -> Result<Box<dyn Operator>> {
        if self.spec.is_session() {
            return Ok(Box::new(session::Partial::new(self.spec.clone(), Arc::clone(&self.schema))));
        }
        Ok(Box::new(partial::Partial::new(self.spec.clone(), Arc::clone(&self.schema))?))
    }
}

fn append_only(inputs: &[ChangelogMode]) -> Result<ChangelogMode> {
    match inputs.iter().max() {
        None | Some(ChangelogMode::Append) => Ok(ChangelogMode::Append),
        Some(ChangelogMode::Upsert | ChangelogMode::Retract) => {
            Err(Error::not_supported("a window aggregate over rows that are updated later")
                .with_hint("aggregate in the window first, or group without a window"))
        }
    }
}

#[derive(Debug)]
struct FinalFactory {
    spec: WindowAggregate,
    schema: SchemaRef,
}

impl OperatorFactory for FinalFactory {
    fn name(&self) -> &'static str {
        if self.spec.is_session() { "session-aggregate" } else { "window-aggregate" }
    }

    fn describe(&self) -> String {
        self.spec.describe()
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn output(&self, inputs: &[ChangelogMode]) -> Result<ChangelogMode> {
        append_only(inputs)?;
        Ok(if self.spec.allowed > 0 { ChangelogMode::Upsert } else { ChangelogMode::Append })
    }

    fn fingerprint(&self) -> Option<String> {
        let version = if matches!(self.spec.windows, Windows::Assign { spec, .. } if spec.overlap()) { 2 } else { 1 };
        Some(format!("window-aggregate {version}: {}", self.spec.describe()))
    }

    fn create(&self, context: &OperatorContext) -> Result<Box<dyn Operator>> {
        let partial = self.spec.partial_schema()?;
        if self.spec.is_session() {
            let sessions = KeyedSessions { spec: self.spec.clone(), partial, schema: Arc::clone(&self.schema) };
            return Spilling::create(sessions, context);
        }
        Ok(Box::new(finish::Final::new(self.spec.clone(), &partial, Arc::clone(&self.schema), context)))
    }
}

/// The second half for sessions, by key.
#[derive(Debug)]
struct KeyedSessions {
    spec: WindowAggregate,
    partial: SchemaRef,
    schema: SchemaRef,
}

impl Keyed for KeyedSessions {
    fn tables(&self) -> &'static [&'static str] {
        &["pieces"]
    }

    fn key_groups(&self, _: usize, rows: &RecordBatch) -> Result<UInt16Array> {
        let keys = self.spec.exchange_keys().into_iter().map(|index| Arc::clone(rows.column(index)));
        key_groups(&keys.collect::<Vec<_>>(), rows.num_rows())
    }

    fn in_memory(&self, _: &OperatorContext) -> Result<Box<dyn KeyedOperator>> {
        Ok(Box::new(Sessions::new(self.spec.clone(), Arc::clone(&self.partial), Arc::clone(&self.schema))))
    }
}
