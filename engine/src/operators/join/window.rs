//! Join within windows: rows of both sides wait until the watermark reaches their window's end.
//!
//! Invariant: a window comes out once, with all its matches and paddings.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch},
    compute::concat_batches,
    datatypes::{Schema, SchemaRef},
};

use crate::{
    error::Result,
    hash::key_groups,
    message::ChangeBatch,
    operator::{Observation, Operator, Output, Progress},
    operators::{
        groups::batch_of,
        join::{Join, TABLES, has_null},
        keys::{Key, KeyEncoder},
        spilling::KeyedOperator,
        waiting::{Waiting, WindowRows},
    },
    state::{StateReader, StateWriter, key_group_field},
    time::Watermark,
};

const BATCH_ROWS: usize = 8192;

/// Rows of both sides, each with the padding that stands for none of its rows before them.
type Sides = [[RecordBatch; 2]; 2];

/// Joins each window once it has ended.
#[derive(Debug)]
pub(super) struct WindowJoin {
    matching: Matching,
    ends: [usize; 2],
    states: [SchemaRef; 2],
    waiting: Waiting<2>,
}

#[derive(Debug)]
struct Matching {
    join: Join,
    keys: KeyEncoder,
}

impl WindowJoin {
    pub(super) fn new(join: Join, ends: [usize; 2]) -> Result<Self> {
        let state = |side: usize| -> Result<SchemaRef> {
            let mut fields = vec![key_group_field()];
            fields.extend(join.padding(side)?.schema().fields().iter().cloned());
            Ok(Arc::new(Schema::new(fields)))
        };
        let states = [state(0)?, state(1)?];
        let matching = Matching { keys: join.key_encoder()?, join };
        Ok(Self { matching, ends, states, waiting: Waiting::default() })
    }
}

impl Matching {
    /// The joined rows of a window.
    fn joined(&mut self, window: &WindowRows<2>) -> Result<Vec<RecordBatch>> {
        let whole = |side: usize| -> Result<[RecordBatch; 2]> {
            let padding = self.join.padding(side)?;
            let rows = concat_batches(&padding.schema(), &window.pieces[side])?;
            Ok([padding, rows])
        };
        let sides = [whole(0)?, whole(1)?];
        let mut places = self.matches(&sides)?;
        if let (false, Some(mask)) = (places.is_empty(), self.passing(&sides, &places)?) {
            let mut row = 0;
            places.retain(|_| {
                row += 1;
                mask.value(row - 1)
            });
        }
        for side in [0, 1].into_iter().filter(|side| self.join.kind.keeps(*side)) {
            let mut matched = vec![false; sides[side][1].num_rows()];
            places.iter().filter(|place| place[side].0 == 1).for_each(|place| matched[place[side].1] = true);
            for row in (0..matched.len()).filter(|row| !matched[*row]) {
                let mut place = [(0, 0); 2];
                place[side] = (1, row);
                places.push(place);
            }
        }
        places.chunks(BATCH_ROWS).map(|places| self.join.joined([&sides[0], &sides[1]], places)).collect()
    }

    fn passing(&self, sides: &Sides, places: &[[(usize, usize); 2]]) -> Result<Option<arrow::array::BooleanArray>> {
        if self.join.residual.is_none() {
            return Ok(None);
        }
        self.join.passes(&self.join.joined([&sides[0], &sides[1]], places)?)
    }

    fn matches(&mut self, sides: &Sides) -> Result<Vec<[(usize, usize); 2]>> {
        let columns = [0, 1].map(|side| self.join.key_columns(side, &sides[side][1]));
        let left = self.keys.encode(&columns[0], sides[0][1].num_rows())?;
        let right = self.keys.encode(&columns[1], sides[1][1].num_rows())?;
        let mut by_key: HashMap<Key, Vec<usize>> = HashMap::new();
        for (row, key) in right.into_iter().enumerate().filter(|(row, _)| !has_null(&columns[1], *row)) {
            by_key.entry(key).or_default().push(row);
        }
        let pairs = left.iter().enumerate().filter_map(|(row, key)| by_key.get(key).map(|others| (row, others)));
        Ok(pairs.flat_map(|(row, others)| others.iter().map(move |other| [(1, row), (1, *other)])).collect())
    }
}

impl Operator for WindowJoin {
    fn on_changes(&mut self, input: usize, changes: ChangeBatch, _: &mut Output) -> Result<Progress> {
        let rows = self.matching.join.nullable(input, &changes.rows)?;
        self.waiting.keep(input, &rows, self.ends[input])?;
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Progress> {
        let matching = &mut self.matching;
        self.waiting.advance(watermark, out, |window| matching.joined(&window))
    }

    fn snapshot(&mut self, state: &mut StateWriter) -> Result<()> {
        let join = &self.matching.join;
        for side in [0, 1] {
            let schema = &self.states[side];
            self.waiting.snapshot(side, TABLES[side], state, |piece| {
                let groups = key_groups(&join.key_columns(side, piece), piece.num_rows())?;
                let mut columns: Vec<ArrayRef> = vec![Arc::new(groups)];
                columns.extend(piece.columns().iter().cloned());
                batch_of(schema, columns, piece.num_rows())
            })?;
        }
        Ok(())
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        for side in [0, 1] {
            let columns = self.states[side].fields().len() - 1;
            self.waiting.restore(side, TABLES[side], state, (columns, self.ends[side]))?;
        }
        Ok(())
    }

    fn observe(&self) -> Observation {
        self.waiting.observe()
    }
}

impl KeyedOperator for WindowJoin {
    fn bytes(&self) -> usize {
        self.waiting.bytes()
    }

    fn next_event(&self) -> Option<i64> {
        self.waiting.first_end()
    }
}
