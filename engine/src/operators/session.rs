//! Aggregation per key and session: rows at most a gap apart.
//!
//! The first half makes *pieces*: partial states of rows of one key whose times fall in the same bucket of one gap, and
//! which therefore are always in one session. The second half keeps pieces and knows for each key which of them make a
//! session; a session that ends more than a gap before the watermark is merged, evaluated and forgotten.
//!
//! Invariant: sessions of one key are more than a gap apart; which of them have fired follows from the pieces and the
//! watermark alone, so a restart rebuilds them from both.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array},
    compute::{concat_batches, interleave, take_record_batch},
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef},
};
use datafusion::physical_expr::expressions::Column;

use crate::{
    error::{Error, Result},
    hash::key_groups,
    message::ChangeBatch,
    operator::{Observation, Operator, Output, Progress},
    operators::{
        groups::{Grouping, Groups, batch_of},
        keys::{Key, KeyEncoder},
        spilling::KeyedOperator,
        window_aggregate::{WindowAggregate, Windows},
    },
    runtime::micros,
    state::{StateReader, StateWriter, key_group_field},
    time::Watermark,
    window::WindowSpec,
};

/// Rows of a batch that leaves.
const BATCH_ROWS: usize = 8192;

/// Bytes a piece takes beside its row: its key twice, its session and its deadline.
const PIECE_BYTES: usize = 200;

/// Stored batches before what is alive in them is put together.
const BATCHES: usize = 64;

/// Makes pieces.
#[derive(Debug)]
pub(crate) struct Partial {
    spec: WindowAggregate,
    schema: SchemaRef,
}

impl Partial {
    pub(crate) fn new(spec: WindowAggregate, schema: SchemaRef) -> Self {
        Self { spec, schema }
    }

    fn pieces(&self, rows: &RecordBatch, times: &Int64Array) -> Result<Option<RecordBatch>> {
        let mut groups = Groups::new(Arc::clone(self.spec.grouping()))?;
        groups.update(rows)?;
        let mut spans = vec![(i64::MAX, i64::MIN); groups.len()];
        for (row, group) in groups.last_indexes().iter().enumerate() {
            let span = &mut spans[*group];
            *span = (span.0.min(times.value(row)), span.1.max(times.value(row)));
        }
        let (keys, states, count) = groups.drain()?;
        if count == 0 {
            return Ok(None);
        }
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(spans.iter().map(|span| span.0))),
            Arc::new(Int64Array::from_iter_values(spans.iter().map(|span| span.1))),
        ];
        columns.extend(keys);
        columns.extend(states);
        batch_of(&self.schema, columns, count).map(Some)
    }
}

impl Operator for Partial {
    fn on_changes(&mut self, _: usize, changes: ChangeBatch, out: &mut Output) -> Result<Progress> {
        let Windows::Assign { spec, time } = self.spec.windows() else {
            return Err(Error::internal("sessions need an event time"));
        };
        let times = micros(changes.rows.column(time))?;
        let mut buckets: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (row, time) in times.values().iter().enumerate() {
            buckets.entry(spec.pane_of(*time)).or_default().push(row as u32);
        }
        for rows in buckets.into_values() {
            let rows = UInt32Array::from(rows);
            let part = take_record_batch(&changes.rows, &rows)?;
            let times = micros(part.column(time))?;
            if let Some(pieces) = self.pieces(&part, &times)? {
                out.emit(ChangeBatch::inserts(pieces));
            }
        }
        Ok(Progress::Done)
    }
}

#[derive(Debug)]
struct Session {
    start: i64,
    end: i64,
    pieces: Vec<(usize, usize)>,
}

#[derive(Debug)]
struct Stored {
    rows: RecordBatch,
    alive: Vec<bool>,
    saved: bool,
}

/// Keeps pieces and fires sessions.
#[derive(Debug)]
pub(crate) struct Sessions {
    spec: WindowAggregate,
    gap: i64,
    output: SchemaRef,
    state: SchemaRef,
    keys: Option<KeyEncoder>,
    stored: Vec<Stored>,
    open: HashMap<Key, Vec<Session>>,
    deadlines: BTreeMap<i64, Vec<Key>>,
    watermark: Watermark,
    ready: VecDeque<RecordBatch>,
    /// Bytes of what is stored.
    bytes: usize,
}

impl Sessions {
    pub(crate) fn new(spec: WindowAggregate, partial: SchemaRef, output: SchemaRef) -> Self {
        let mut fields = vec![key_group_field()];
        fields.extend(partial.fields().iter().cloned());
        let gap = match spec.windows() {
            Windows::Assign { spec: WindowSpec::Session { gap }, .. } => gap,
            Windows::Assign { .. } | Windows::Attached { .. } => 0,
        };
        Self {
            spec,
            gap,
            output,
            state: Arc::new(Schema::new(fields)),
            keys: None,
            stored: Vec::new(),
            open: HashMap::new(),
            deadlines: BTreeMap::new(),
            watermark: Watermark::MIN,
            ready: VecDeque::new(),
            bytes: 0,
        }
    }

    fn encoded(&mut self, columns: &[ArrayRef], rows: usize) -> Result<Vec<Key>> {
        let encoder = match &mut self.keys {
            Some(encoder) => encoder,
            None => self.keys.insert(KeyEncoder::new(columns.iter().map(|column| column.data_type().clone()))?),
        };
        encoder.encode(columns, rows)
    }

    /// Takes pieces in the columns of the state table.
    fn take_pieces(&mut self, rows: RecordBatch, saved: bool) -> Result<()> {
        let int = |index: usize| {
            let column = rows.column(index).as_primitive_opt::<Int64Type>().cloned();
            column.ok_or_else(|| Error::internal("pieces without their span"))
        };
        let (starts, ends) = (int(1)?, int(2)?);
        let keys = self.encoded(&rows.columns()[3..3 + self.spec.grouping().keys.len()], rows.num_rows())?;
        let batch = self.stored.len();
        for (row, key) in keys.into_iter().enumerate() {
            let piece = Session { start: starts.value(row), end: ends.value(row), pieces: vec![(batch, row)] };
            let end = self.add(key.clone(), piece);
            self.deadlines.entry(end).or_default().push(key);
        }
        self.bytes += rows.get_array_memory_size() + rows.num_rows() * PIECE_BYTES;
        self.stored.push(Stored { alive: vec![true; rows.num_rows()], rows, saved });
        Ok(())
    }

    /// Joins a piece with the sessions it touches; the end of what came of it.
    fn add(&mut self, key: Key, piece: Session) -> i64 {
        let sessions = self.open.entry(key).or_default();
        let touches = |session: &Session| {
            session.start <= piece.end.saturating_add(self.gap) && piece.start <= session.end.saturating_add(self.gap)
        };
        let (touched, apart): (Vec<Session>, Vec<Session>) = std::mem::take(sessions).into_iter().partition(touches);
        let mut joined = Session { start: piece.start, end: piece.end, pieces: Vec::new() };
        for session in touched.into_iter().chain([piece]) {
            joined.start = joined.start.min(session.start);
            joined.end = joined.end.max(session.end);
            joined.pieces.extend(session.pieces);
        }
        let end = joined.end;
        *sessions = apart;
        sessions.push(joined);
        end
    }

    /// Takes the sessions out that ended more than a gap before the watermark.
    fn closed(&mut self) -> Vec<Session> {
        let limit = if self.watermark == Watermark::MAX { i64::MAX } else { self.watermark.0.saturating_sub(self.gap) };
        let later = self.deadlines.split_off(&limit);
        let due = std::mem::replace(&mut self.deadlines, later);
        let mut closed = Vec::new();
        for key in due.into_values().flatten() {
            let Some(sessions) = self.open.get_mut(&key) else { continue };
            let (ended, open): (Vec<_>, Vec<_>) = std::mem::take(sessions).into_iter().partition(|s| s.end < limit);
            closed.extend(ended);
            if open.is_empty() {
                self.open.remove(&key);
            } else {
                *sessions = open;
            }
        }
        closed.sort_by_key(|session| (session.end, session.start));
        closed
    }

    fn fire(&mut self, sessions: &[Session]) -> Result<()> {
        let columns = self.evaluate(sessions)?;
        for session in sessions {
            for (batch, row) in &session.pieces {
                self.stored[*batch].alive[*row] = false;
            }
        }
        self.ready.push_back(batch_of(&self.output, columns, sessions.len())?);
        Ok(())
    }

    fn evaluate(&self, sessions: &[Session]) -> Result<Vec<ArrayRef>> {
        let grouping = self.spec.grouping();
        let keys = grouping.keys.len();
        let ordinal = Arc::new(Field::new("session", DataType::Int64, false));
        let by_session = Grouping {
            keys: vec![(Arc::new(Column::new("session", 0)), ordinal)],
            aggregates: grouping.aggregates.clone(),
        };
        let mut groups = Groups::new(Arc::new(by_session))?;
        let mut by_batch: BTreeMap<usize, (Vec<u32>, Vec<i64>)> = BTreeMap::new();
        for (session, pieces) in sessions.iter().enumerate().map(|(index, session)| (index as i64, &session.pieces)) {
            for (batch, row) in pieces {
                let (rows, sessions) = by_batch.entry(*batch).or_default();
                rows.push(*row as u32);
                sessions.push(session);
            }
        }
        for (batch, (rows, of)) in by_batch {
            let count = rows.len();
            let part = take_record_batch(&self.stored[batch].rows, &UInt32Array::from(rows))?;
            groups.merge(&[Arc::new(Int64Array::from(of))], &part.columns()[3 + keys..], count)?;
        }
        let (order, values, _) = groups.evaluate()?;
        let order = order.first().and_then(|order| order.as_primitive_opt::<Int64Type>()).cloned();
        let order = order.ok_or_else(|| Error::internal("sessions without their number"))?;
        let chosen: Vec<&Session> = order.values().iter().filter_map(|index| sessions.get(*index as usize)).collect();
        let mut columns = Vec::new();
        for key in 0..keys {
            let arrays: Vec<&dyn Array> =
                self.stored.iter().map(|stored| stored.rows.column(3 + key).as_ref()).collect();
            let first: Vec<(usize, usize)> =
                chosen.iter().filter_map(|session| session.pieces.first().copied()).collect();
            columns.push(interleave(&arrays, &first)?);
        }
        let starts = chosen.iter().map(|session| session.start);
        let ends = chosen.iter().map(|session| session.end.saturating_add(self.gap));
        columns.push(self.spec.window_columns(Int64Array::from_iter_values(starts))?);
        columns.push(self.spec.window_columns(Int64Array::from_iter_values(ends))?);
        columns.extend(values);
        Ok(columns)
    }

    fn alive_rows(stored: &Stored) -> Result<Option<RecordBatch>> {
        let rows: Vec<u32> = (0..stored.alive.len() as u32).filter(|row| stored.alive[*row as usize]).collect();
        match rows.len() {
            0 => Ok(None),
            all if all == stored.alive.len() => Ok(Some(stored.rows.clone())),
            _ => Ok(Some(take_record_batch(&stored.rows, &UInt32Array::from(rows))?)),
        }
    }

    /// Puts what is alive into one batch.
    fn put_together(&mut self) -> Result<()> {
        let alive = self.stored.iter().map(Self::alive_rows).collect::<Result<Vec<_>>>()?;
        let alive: Vec<RecordBatch> = alive.into_iter().flatten().collect();
        self.stored.clear();
        self.bytes = 0;
        self.open.clear();
        self.deadlines.clear();
        if !alive.is_empty() {
            self.take_pieces(concat_batches(&self.state, &alive)?, true)?;
        }
        Ok(())
    }
}

impl Operator for Sessions {
    fn on_changes(&mut self, _: usize, changes: ChangeBatch, _: &mut Output) -> Result<Progress> {
        let rows = &changes.rows;
        let keys = &rows.columns()[2..2 + self.spec.grouping().keys.len()];
        let mut columns: Vec<ArrayRef> = vec![Arc::new(key_groups(keys, rows.num_rows())?)];
        columns.extend(rows.columns().iter().cloned());
        let rows = batch_of(&self.state, columns, rows.num_rows())?;
        self.take_pieces(rows, false)?;
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Progress> {
        if watermark > self.watermark {
            self.watermark = watermark;
            let closed = self.closed();
            for sessions in closed.chunks(BATCH_ROWS) {
                self.fire(sessions)?;
            }
        }
        match self.ready.pop_front() {
            Some(rows) => {
                out.emit(ChangeBatch::inserts(rows));
                Ok(Progress::More)
            }
            None => Ok(Progress::Done),
        }
    }

    fn snapshot(&mut self, state: &mut StateWriter) -> Result<()> {
        let whole = state.wants_whole();
        let wanted = self.stored.iter().filter(|stored| whole || !stored.saved);
        let batches = wanted.map(Self::alive_rows).collect::<Result<Vec<_>>>()?;
        state.write("pieces", batches.into_iter().flatten().collect());
        self.stored.iter_mut().for_each(|stored| stored.saved = true);
        if whole || self.stored.len() > BATCHES {
            self.put_together()?;
        }
        Ok(())
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        for batch in state.batches("pieces") {
            self.take_pieces(batch.clone(), true)?;
        }
        self.watermark = state.watermark();
        for session in self.closed() {
            for (batch, row) in session.pieces {
                self.stored[batch].alive[row] = false;
            }
        }
        self.put_together()
    }

    fn observe(&self) -> Observation {
        let alive = self.stored.iter().flat_map(|stored| &stored.alive).filter(|alive| **alive).count();
        let open = self.open.values().map(|sessions| sessions.len() as u64).sum();
        Observation {
            state_bytes: self.bytes as u64,
            state_rows: alive as u64,
            spilled_bytes: 0,
            oldest_open_window: self.deadlines.keys().next().map(|end| end.saturating_add(self.gap)),
            open_windows: open,
        }
    }
}

impl KeyedOperator for Sessions {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn next_event(&self) -> Option<i64> {
        self.deadlines.keys().next().copied()
    }
}
