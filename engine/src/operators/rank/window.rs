//! Ranks per window: rows are kept until the watermark reaches the window's end, and come out once.
//!
//! Invariant: a window that has come out never opens again.

use std::sync::Arc;

use arrow::{
    array::{Int64Array, RecordBatch},
    compute::concat_batches,
    datatypes::SchemaRef,
};

use super::{PIECES, Rank};
use crate::{
    error::Result,
    message::ChangeBatch,
    operator::{Observation, Operator, Output, Progress},
    operators::{
        groups::batch_of,
        spilling::KeyedOperator,
        waiting::{Waiting, WindowRows},
    },
    state::{StateReader, StateWriter},
    time::Watermark,
};

const TABLE: &str = "rows";

#[derive(Debug)]
pub(super) struct WindowRank {
    spec: Rank,
    end: usize,
    state: SchemaRef,
    output: SchemaRef,
    waiting: Waiting<1>,
}

impl WindowRank {
    pub(super) fn new(spec: &Rank, end: usize) -> Self {
        let (state, output) = (spec.state_schema(), spec.output_schema());
        Self { end, state, output, waiting: Waiting::default(), spec: spec.clone() }
    }
}

fn cut_down(spec: &Rank, window: &WindowRows<1>) -> Result<Option<(RecordBatch, Int64Array)>> {
    let [pieces] = &window.pieces;
    if pieces.is_empty() {
        return Ok(None);
    }
    spec.best(&concat_batches(&spec.input, pieces)?).map(Some)
}

impl Operator for WindowRank {
    fn on_changes(&mut self, _: usize, changes: ChangeBatch, _: &mut Output) -> Result<Progress> {
        self.waiting.keep(0, &changes.rows, self.end)?;
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Progress> {
        let (spec, output) = (&self.spec, &self.output);
        self.waiting.advance(watermark, out, |window| {
            let Some((rows, ranks)) = cut_down(spec, &window)? else { return Ok(Vec::new()) };
            let mut columns = rows.columns().to_vec();
            if spec.rank_name.is_some() {
                columns.push(Arc::new(ranks));
            }
            Ok(vec![batch_of(output, columns, rows.num_rows())?])
        })
    }

    fn snapshot(&mut self, state: &mut StateWriter) -> Result<()> {
        let (spec, schema) = (&self.spec, &self.state);
        self.waiting.snapshot(0, TABLE, state, |piece| spec.with_key_groups(schema, piece, None))?;
        // What can never be among the best is dropped once it is saved.
        self.waiting.replace(|window| {
            let best = if window.pieces[0].len() > PIECES { cut_down(spec, window)? } else { None };
            Ok(best.map(|(rows, _)| [vec![rows]]))
        })
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        self.waiting.restore(0, TABLE, state, (self.spec.input.fields().len(), self.end))
    }

    fn observe(&self) -> Observation {
        self.waiting.observe()
    }
}

impl KeyedOperator for WindowRank {
    fn bytes(&self) -> usize {
        self.waiting.bytes()
    }

    fn next_event(&self) -> Option<i64> {
        self.waiting.first_end()
    }
}
