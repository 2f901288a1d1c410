//! A window function without aggregation: each row once for every window it belongs to.
//!
//! Invariant: the columns of the input stay as they are; `window_start`, `window_end` and `window_time` follow them.

use std::sync::Arc;

use arrow::{
    array::{Int64Array, UInt32Array},
    compute::cast,
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
};

use crate::{
    connector::ChangelogMode,
    error::{Error, Result},
    message::ChangeBatch,
    operator::{Operator, OperatorContext, OperatorFactory, Output, Progress},
    operators::groups::batch_of,
    runtime::micros,
    window::WindowSpec,
};

/// Adds window columns of TUMBLE, HOP or CUMULATE over an event time column.
#[derive(Debug, Clone)]
pub struct AssignWindows {
    spec: WindowSpec,
    time: usize,
    schema: SchemaRef,
}

impl AssignWindows {
    /// Windows over column `time` of rows of `input`.
    pub fn new(spec: WindowSpec, time: usize, input: &Schema) -> Result<Self> {
        spec.validate()?;
        if let WindowSpec::Session { .. } = spec {
            return Err(Error::not_supported("a SESSION window without aggregation in a streaming job")
                .with_hint("group by the session's window_start and window_end"));
        }
        let time_type = input.field(time).data_type().clone();
        if !matches!(time_type, DataType::Timestamp(_, _)) {
            return Err(Error::internal(format!("event time must be a timestamp, it is {time_type}")));
        }
        let mut fields: Vec<_> = input.fields().iter().cloned().collect();
        for name in ["window_start", "window_end", "window_time"] {
            fields.push(Arc::new(Field::new(name, time_type.clone(), false)));
        }
        Ok(Self { spec, time, schema: Arc::new(Schema::new(fields)) })
    }
}

impl OperatorFactory for AssignWindows {
    fn name(&self) -> &'static str {
        "assign-windows"
    }

    fn describe(&self) -> String {
        format!("{:?} over column {}", self.spec, self.time)
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn output(&self, inputs: &[ChangelogMode]) -> Result<ChangelogMode> {
        Ok(inputs.iter().copied().max().unwrap_or(ChangelogMode::Append))
    }

    fn fingerprint(&self) -> Option<String> {
        None
    }

    fn create(&self, _: &OperatorContext) -> Result<Box<dyn Operator>> {
        Ok(Box::new(self.clone()))
    }
}

impl Operator for AssignWindows {
    fn on_changes(&mut self, _: usize, changes: ChangeBatch, out: &mut Output) -> Result<Progress> {
        let times = micros(changes.rows.column(self.time))?;
        let (mut rows, mut starts, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for (row, time) in times.values().iter().enumerate() {
            let windows = self.spec.windows_of_pane(self.spec.pane_of(*time)).into_iter();
            for window in windows.filter(|window| changes.is_open(row, window.end)) {
                rows.push(row as u32);
                starts.push(window.start);
                ends.push(window.end);
            }
        }
        let taken = crate::runtime::exchange::take_changes(&changes, &UInt32Array::from(rows))?;
        let time_type = self.schema.field(self.time).data_type();
        let zone = match time_type {
            DataType::Timestamp(_, zone) => zone.clone(),
            _ => None,
        };
        let column = |micros: Vec<i64>| {
            let exact = cast(&Int64Array::from(micros), &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
            cast(&exact, time_type)
        };
        let mut columns = taken.rows.columns().to_vec();
        let last = ends.iter().map(|end| end - 1000).collect();
        columns.extend([column(starts)?, column(ends)?, column(last)?]);
        let rows = batch_of(&self.schema, columns, taken.rows.num_rows())?;
        out.emit(ChangeBatch::new(rows, taken.kinds));
        Ok(Progress::Done)
    }
}
