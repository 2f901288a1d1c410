//! Join within windows: rows of both sides wait until the watermark reaches their window's end.
//!
//! Invariant: a window comes out once, with all its matches and paddings.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

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
        rank::by_time,
        spilling::KeyedOperator,
    },
    state::{StateReader, StateWriter, key_group_field},
    time::Watermark,
};

const BATCH_ROWS: usize = 8192;

#[derive(Debug, Default)]
struct Waiting {
    pieces: [Vec<RecordBatch>; 2],
    unsaved: [usize; 2],
}

/// Joins each window once it has ended.
#[derive(Debug)]
pub(super) struct WindowJoin {
    join: Join,
    ends: [usize; 2],
    states: [SchemaRef; 2],
    keys: KeyEncoder,
    windows: BTreeMap<i64, Waiting>,
    watermark: Watermark,
    ready: VecDeque<RecordBatch>,
    /// Bytes of all pieces.
    bytes: usize,
}

impl WindowJoin {
    pub(super) fn new(join: Join, ends: [usize; 2]) -> Result<Self> {
        let state = |side: usize| -> Result<SchemaRef> {
            let mut fields = vec![key_group_field()];
            fields.extend(join.padding(side)?.schema().fields().iter().cloned());
            Ok(Arc::new(Schema::new(fields)))
        };
        Ok(Self {
            states: [state(0)?, state(1)?],
            keys: join.key_encoder()?,
            ends,
            windows: BTreeMap::new(),
            watermark: Watermark::MIN,
            ready: VecDeque::new(),
            bytes: 0,
            join,
        })
    }

    fn weigh(&mut self) {
        let pieces = self.windows.values().flat_map(|waiting| waiting.pieces.iter().flatten());
        self.bytes = pieces.map(RecordBatch::get_array_memory_size).sum();
    }

    fn fire(&mut self, waiting: Waiting) -> Result<()> {
        let whole = |side: usize| -> Result<[RecordBatch; 2]> {
            let padding = self.join.padding(side)?;
            let rows = concat_batches(&padding.schema(), &waiting.pieces[side])?;
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
        for places in places.chunks(BATCH_ROWS) {
            self.ready.push_back(self.join.joined([&sides[0], &sides[1]], places)?);
        }
        Ok(())
    }

    fn passing(
        &self,
        sides: &[[RecordBatch; 2]; 2],
        places: &[[(usize, usize); 2]],
    ) -> Result<Option<arrow::array::BooleanArray>> {
        if self.join.residual.is_none() {
            return Ok(None);
        }
        self.join.passes(&self.join.joined([&sides[0], &sides[1]], places)?)
    }

    fn matches(&mut self, sides: &[[RecordBatch; 2]; 2]) -> Result<Vec<[(usize, usize); 2]>> {
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
        let rows = self.join.nullable(input, &changes.rows)?;
        for (end, rows) in by_time(&rows, self.ends[input])? {
            let waiting = self.windows.entry(end).or_default();
            self.bytes += rows.get_array_memory_size();
            waiting.pieces[input].push(rows);
            waiting.unsaved[input] += 1;
        }
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Progress> {
        self.watermark = self.watermark.max(watermark);
        if let Some(rows) = self.ready.pop_front() {
            out.emit(ChangeBatch::inserts(rows));
            return Ok(Progress::More);
        }
        let due = self.windows.first_entry().filter(|window| *window.key() <= watermark.0);
        match due.map(std::collections::btree_map::OccupiedEntry::remove) {
            Some(waiting) => {
                self.fire(waiting)?;
                self.weigh();
                Ok(Progress::More)
            }
            None => Ok(Progress::Done),
        }
    }

    fn snapshot(&mut self, state: &mut StateWriter) -> Result<()> {
        for side in [0, 1] {
            let mut batches = Vec::new();
            let mut last = i64::MIN;
            for (end, waiting) in &mut self.windows {
                let pieces = &waiting.pieces[side];
                let from = if state.wants_whole() { 0 } else { pieces.len() - waiting.unsaved[side] };
                for piece in &pieces[from..] {
                    let groups = key_groups(&self.join.key_columns(side, piece), piece.num_rows())?;
                    let mut columns: Vec<ArrayRef> = vec![Arc::new(groups)];
                    columns.extend(piece.columns().iter().cloned());
                    batches.push(batch_of(&self.states[side], columns, piece.num_rows())?);
                    last = *end;
                }
                waiting.unsaved[side] = 0;
            }
            state.write_panes(TABLES[side], batches, last, self.watermark.0.saturating_add(1));
        }
        Ok(())
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        self.watermark = state.watermark();
        for side in [0, 1] {
            let columns: Vec<usize> = (1..self.states[side].fields().len()).collect();
            for batch in state.batches(TABLES[side]) {
                for (end, rows) in by_time(&batch.project(&columns)?, self.ends[side])? {
                    if end > self.watermark.0 {
                        self.windows.entry(end).or_default().pieces[side].push(rows);
                    }
                }
            }
        }
        self.weigh();
        Ok(())
    }

    fn observe(&self) -> Observation {
        let pieces = self.windows.values().flat_map(|waiting| waiting.pieces.iter().flatten());
        Observation {
            state_bytes: self.bytes as u64,
            state_rows: pieces.map(|rows| rows.num_rows() as u64).sum(),
            spilled_bytes: 0,
            oldest_open_window: self.windows.keys().next().copied(),
            open_windows: self.windows.len() as u64,
        }
    }
}

impl KeyedOperator for WindowJoin {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn next_event(&self) -> Option<i64> {
        self.windows.keys().next().copied()
    }
}
