//! Joins that emit as rows come: within an interval of event time, or without bound.
//!
//! Each side keeps its rows by key. A row that comes is paired with what the other side has. Without a bound, a row that
//! an outer join keeps comes out padded at once, and the padded row is taken back when a first match comes. Within an
//! interval it is padded when the watermark says that no match can come any more.
//!
//! The state is what was written to each side, in order; a restart replays it without emitting, which also restores how
//! many matches each row has. Rows within an interval, and those of an outer join whose lifetime is over, therefore stay
//! until the last row they can have matched is gone.
//!
//! Invariant: `matches` of a kept row is the number of rows on the other side it is paired with.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, AsArray, Int8Array, Int64Array, RecordBatch, UInt32Array},
    compute::take_record_batch,
    datatypes::{DataType, Field, Int8Type, Schema},
};
use futures::future::BoxFuture;

use crate::{
    error::{Error, Result},
    hash::key_groups,
    message::{ChangeBatch, RowKind},
    operator::{Observation, Operator, OperatorContext, Output, Progress},
    operators::{
        groups::batch_of,
        join::{
            Join, JoinBound, TABLES, has_null,
            side::{Kept, Side},
        },
        keys::{Key, KeyEncoder},
        lifetime::Lifetime,
        spilling::{Keyed, KeyedOperator},
    },
    runtime::micros,
    state::{StateReader, StateWriter, key_group_field},
    time::{Instant, Watermark},
};

/// Bytes a kept row takes beside its columns: its place, and its key twice.
const KEPT_BYTES: usize = 200;

/// A row of the other side: its index among the rows of its key, and its place.
type Partner = (usize, (usize, usize));

/// A row to emit.
#[derive(Debug)]
struct Emission {
    kind: RowKind,
    places: [(usize, usize); 2],
}

/// Pairs rows as they come.
#[derive(Debug)]
pub(super) struct StreamJoin {
    join: Join,
    keys: KeyEncoder,
    sides: [Side; 2],
    /// Event time from which a row of each side has not been padded yet.
    padded_below: [i64; 2],
    watermark: Watermark,
    lifetime: Lifetime,
}

impl StreamJoin {
    pub(super) fn new(join: Join, context: &OperatorContext) -> Result<Self> {
        let side = |side: usize| -> Result<Side> {
            let padding = join.padding(side)?;
            let mut fields = vec![key_group_field(), Arc::new(Field::new("headwater_kind", DataType::Int8, false))];
            fields.extend(padding.schema().fields().iter().cloned().chain(Lifetime::field(join.ttl)));
            let types = join.inputs[side].fields().iter().map(|field| field.data_type().clone());
            Ok(Side {
                batches: vec![padding],
                by_key: HashMap::new(),
                by_time: BTreeMap::new(),
                unsaved: Vec::new(),
                row_keys: KeyEncoder::exact(types)?,
                state: Arc::new(Schema::new(fields)),
                dead: 0,
                kept: 0,
                bytes: 0,
            })
        };
        Ok(Self {
            keys: join.key_encoder()?,
            sides: [side(0)?, side(1)?],
            padded_below: [i64::MIN; 2],
            watermark: Watermark::MIN,
            lifetime: Lifetime::new(join.ttl, context.running),
            join,
        })
    }

    /// Event times, or zeros without a bound.
    fn times(&self, side: usize, rows: &RecordBatch) -> Result<Vec<i64>> {
        match self.join.bound {
            JoinBound::Interval { times, .. } => Ok(micros(rows.column(times[side]))?.values().to_vec()),
            JoinBound::Window { .. } | JoinBound::None => Ok(vec![0; rows.num_rows()]),
        }
    }

    fn is_within(&self, side: usize, own: i64, other: i64) -> bool {
        let JoinBound::Interval { lower, upper, .. } = self.join.bound else { return true };
        let (left, right) = if side == 0 { (own, other) } else { (other, own) };
        left.saturating_add(lower) <= right && right <= left.saturating_add(upper)
    }

    /// How long after its time a row of a side can still be matched: the watermark beyond which none comes. Not less than
    /// nothing, though its partners may all be older: until then rows of its time still come.
    fn open_for(&self, side: usize) -> i64 {
        let open = match self.join.bound {
            JoinBound::Interval { lower, upper, .. } => {
                if side == 0 {
                    upper
                } else {
                    lower.saturating_neg()
                }
            }
            JoinBound::Window { .. } | JoinBound::None => i64::MAX,
        };
        open.max(0)
    }

    /// Lifetimes for which a row that is over stays, so that a replay pairs it with what it was paired with.
    fn stays_for(&self) -> i64 {
        i64::from(self.join.kind.keeps(0) || self.join.kind.keeps(1))
    }

    fn takes_back(&self) -> bool {
        self.join.bound == JoinBound::None
    }

    /// Takes rows of a side and says what to emit; without bound, rows may be taken back.
    fn take(&mut self, side: usize, changes: &ChangeBatch, written: &[i64]) -> Result<Vec<Emission>> {
        let rows = self.join.nullable(side, &changes.rows)?;
        let columns = self.join.key_columns(side, &rows);
        let keys = self.keys.encode(&columns, rows.num_rows())?;
        let times: Vec<(i64, i64)> = self.times(side, &rows)?.into_iter().zip(written.iter().copied()).collect();
        let batch = self.sides[side].batches.len();
        self.sides[side].bytes += rows.get_array_memory_size();
        self.sides[side].batches.push(rows.clone());
        let partners = self.partners(side, batch, &columns, &keys, &times)?;
        let whole = self.sides[side].row_keys.encode(rows.columns(), rows.num_rows())?;
        let mut emissions = Vec::new();
        for (row, key) in keys.into_iter().enumerate() {
            let (time, written) = times[row];
            let kept = Kept { batch, row, time, written, matches: partners[row].len() };
            match changes.kind(row) {
                RowKind::Insert | RowKind::UpdateAfter => self.insert(side, key, kept, &partners[row], &mut emissions),
                RowKind::Delete | RowKind::UpdateBefore => {
                    let Some(gone) = self.sides[side].forget(&key, &whole[row], (&self.lifetime, written))? else {
                        if self.lifetime.is_limited() {
                            // It takes back a row that has gone.
                            continue;
                        }
                        return Err(Error::data(
                            "GENERIC_INTERNAL_ERROR",
                            "a join was told to take back a row it never got",
                        ));
                    };
                    let kept = Kept { matches: gone.matches, ..kept };
                    self.remove(side, &key, &kept, &partners[row], &mut emissions);
                }
            }
        }
        self.note_unsaved(side, &rows, changes, written)?;
        Ok(emissions)
    }

    fn note_unsaved(&mut self, side: usize, rows: &RecordBatch, changes: &ChangeBatch, written: &[i64]) -> Result<()> {
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(key_groups(&self.join.key_columns(side, rows), rows.num_rows())?),
            Arc::new(Int8Array::from_iter_values((0..rows.num_rows()).map(|row| changes.kind(row) as i8))),
        ];
        columns.extend(rows.columns().iter().cloned());
        if self.lifetime.is_limited() {
            columns.push(Arc::new(Int64Array::from(written.to_vec())));
        }
        let rows = batch_of(&self.sides[side].state, columns, rows.num_rows())?;
        self.sides[side].unsaved.push(rows);
        Ok(())
    }

    /// For each row the places of the other side's rows it is paired with: (key's rows, index).
    fn partners(
        &self,
        side: usize,
        batch: usize,
        columns: &[ArrayRef],
        keys: &[Key],
        times: &[(i64, i64)],
    ) -> Result<Vec<Vec<Partner>>> {
        let other = &self.sides[1 - side];
        let mut candidates: Vec<(usize, usize, (usize, usize))> = Vec::new();
        for (row, key) in keys.iter().enumerate().filter(|(row, _)| !has_null(columns, *row)) {
            let (time, written) = times[row];
            for (index, kept) in other.by_key.get(key).into_iter().flatten().enumerate() {
                if self.is_within(side, time, kept.time) && !self.lifetime.missed(kept.written, written) {
                    candidates.push((row, index, (kept.batch, kept.row)));
                }
            }
        }
        if self.join.residual.is_some() && !candidates.is_empty() {
            let place = |candidate: &(usize, usize, (usize, usize))| {
                let mut places = [(batch, candidate.0); 2];
                places[1 - side] = candidate.2;
                places
            };
            let places: Vec<_> = candidates.iter().map(place).collect();
            let rows = self.join.joined([&self.sides[0].batches, &self.sides[1].batches], &places)?;
            if let Some(mask) = self.join.passes(&rows)? {
                candidates =
                    candidates.into_iter().enumerate().filter(|(i, _)| mask.value(*i)).map(|(_, c)| c).collect();
            }
        }
        let mut partners = vec![Vec::new(); keys.len()];
        candidates.into_iter().for_each(|(row, index, place)| partners[row].push((index, place)));
        Ok(partners)
    }

    fn insert(&mut self, side: usize, key: Key, kept: Kept, partners: &[Partner], emissions: &mut Vec<Emission>) {
        let (eager, own) = (self.takes_back(), (kept.batch, kept.row));
        let others_kept = self.join.kind.keeps(1 - side);
        for (index, place) in partners {
            let other = self.sides[1 - side].by_key.get_mut(&key).and_then(|rows| rows.get_mut(*index));
            let Some(other) = other else { continue };
            if eager && others_kept && other.matches == 0 {
                emissions.push(emission(RowKind::Delete, 1 - side, *place, (0, 0)));
            }
            other.matches += 1;
            emissions.push(emission(RowKind::Insert, side, own, *place));
        }
        if eager && self.join.kind.keeps(side) && partners.is_empty() {
            emissions.push(emission(RowKind::Insert, side, own, (0, 0)));
        }
        if !eager {
            self.sides[side].by_time.entry(kept.time).or_default().push(key.clone());
        }
        self.sides[side].kept += 1;
        self.sides[side].by_key.entry(key).or_default().push(kept);
    }

    fn remove(&mut self, side: usize, key: &Key, kept: &Kept, partners: &[Partner], emissions: &mut Vec<Emission>) {
        let own = (kept.batch, kept.row);
        let others_kept = self.join.kind.keeps(1 - side);
        for (index, place) in partners {
            emissions.push(emission(RowKind::Delete, side, own, *place));
            let other = self.sides[1 - side].by_key.get_mut(key).and_then(|rows| rows.get_mut(*index));
            let Some(other) = other else { continue };
            other.matches = other.matches.saturating_sub(1);
            if others_kept && other.matches == 0 {
                emissions.push(emission(RowKind::Insert, 1 - side, *place, (0, 0)));
            }
        }
        // Its partners may be gone by now though it was not emitted alone.
        if self.join.kind.keeps(side) && kept.matches == 0 {
            emissions.push(emission(RowKind::Delete, side, own, (0, 0)));
        }
    }

    fn emit(&self, emissions: &[Emission], out: &mut Output) -> Result<()> {
        for part in emissions.chunks(8192) {
            let places: Vec<_> = part.iter().map(|emission| emission.places).collect();
            let rows = self.join.joined([&self.sides[0].batches, &self.sides[1].batches], &places)?;
            let plain = part.iter().all(|emission| emission.kind == RowKind::Insert);
            let kinds = part.iter().map(|emission| emission.kind as i8);
            let kinds = if plain { None } else { Some(Int8Array::from_iter_values(kinds)) };
            out.emit(ChangeBatch::new(rows, kinds));
        }
        Ok(())
    }

    /// Rows that can no longer be matched and never were.
    fn pad(&mut self, watermark: Watermark) -> Vec<Emission> {
        let mut emissions = Vec::new();
        for side in [0, 1] {
            let limit = watermark.0.saturating_sub(self.open_for(side));
            let from = self.padded_below[side];
            self.padded_below[side] = limit.max(from);
            if !self.join.kind.keeps(side) || limit <= from {
                continue;
            }
            let own = &self.sides[side];
            let due = own.by_time.range(from..limit).flat_map(|(time, keys)| keys.iter().map(move |key| (*time, key)));
            let mut seen = std::collections::HashSet::new();
            for (time, key) in due.filter(|due| seen.insert(*due)) {
                let unmatched =
                    own.by_key.get(key).into_iter().flatten().filter(|kept| kept.time == time && kept.matches == 0);
                emissions.extend(unmatched.map(|kept| emission(RowKind::Insert, side, (kept.batch, kept.row), (0, 0))));
            }
        }
        emissions
    }

    fn expire(&mut self, watermark: Watermark) -> Result<()> {
        let limit = watermark.0.saturating_sub(self.join.kept_for());
        for side in &mut self.sides {
            let alive = side.by_time.split_off(&limit);
            let gone = std::mem::replace(&mut side.by_time, alive);
            for key in gone.into_values().flatten() {
                let Some(rows) = side.by_key.get_mut(&key) else { continue };
                let before = rows.len();
                rows.retain(|kept| kept.time >= limit);
                let (lost, is_empty) = (before - rows.len(), rows.is_empty());
                if is_empty {
                    side.by_key.remove(&key);
                }
                side.lose(lost);
            }
            side.put_together()?;
        }
        Ok(())
    }
}

/// A row of `side` with its partner, or padded where the partner is place (0, 0).
fn emission(kind: RowKind, side: usize, own: (usize, usize), other: (usize, usize)) -> Emission {
    let mut places = [other; 2];
    places[side] = own;
    Emission { kind, places }
}

impl Operator for StreamJoin {
    fn on_changes(&mut self, input: usize, changes: ChangeBatch, out: &mut Output) -> Result<Progress> {
        let written = vec![self.lifetime.now(); changes.num_rows()];
        let emissions = self.take(input, &changes, &written)?;
        self.emit(&emissions, out)?;
        self.sides[input].put_together()?;
        Ok(Progress::Done)
    }

    fn between_calls<'a>(&'a mut self, now: Instant) -> Option<BoxFuture<'a, Result<()>>> {
        self.lifetime.moves_to(now);
        None
    }

    fn on_time(&mut self, now: Instant, _: &mut Output) -> Result<Progress> {
        self.lifetime.moves_to(now);
        if self.lifetime.is_sweep_due() {
            let more = self.stays_for();
            for side in &mut self.sides {
                side.sweep(&self.lifetime, more);
                side.put_together()?;
            }
        }
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<Progress> {
        self.watermark = self.watermark.max(watermark);
        if self.takes_back() {
            return Ok(Progress::Done);
        }
        let emissions = self.pad(watermark);
        self.emit(&emissions, out)?;
        self.expire(watermark)?;
        if watermark != Watermark::MAX {
            out.hold_watermark(Watermark(watermark.0.saturating_sub(self.join.holds_back())));
        }
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, state: &mut StateWriter) -> Result<()> {
        for index in [0, 1] {
            let unsaved = self.sides[index].take_unsaved();
            let whole = state.wants_whole();
            let batches =
                if whole { self.sides[index].whole(&self.join, index, self.lifetime.is_limited())? } else { unsaved };
            state.write(TABLES[index], batches);
        }
        Ok(())
    }

    fn restore(&mut self, state: &StateReader) -> Result<()> {
        self.watermark = state.watermark();
        for side in [0, 1] {
            let columns: Vec<usize> = (2..2 + self.join.inputs[side].fields().len()).collect();
            for batch in state.batches(TABLES[side]) {
                let kinds = batch.column(1).as_primitive::<Int8Type>().clone();
                let rows = batch.project(&columns)?;
                let times = self.times(side, &rows)?;
                let limit =
                    if self.takes_back() { i64::MIN } else { self.watermark.0.saturating_sub(self.join.kept_for()) };
                let written = self.lifetime.written(batch);
                let more = self.stays_for();
                let is_alive = |row: usize| times[row] >= limit && !self.lifetime.is_over_for(more, written.value(row));
                let alive = (0..rows.num_rows() as u32).filter(|row| is_alive(*row as usize));
                let alive = UInt32Array::from_iter_values(alive);
                let kinds = arrow::compute::take(&kinds, &alive, None)?.as_primitive::<Int8Type>().clone();
                let rows = take_record_batch(&rows, &alive)?;
                let written: Vec<i64> = alive.values().iter().map(|row| written.value(*row as usize)).collect();
                self.take(side, &ChangeBatch::new(rows, Some(kinds)), &written)?;
            }
            self.sides[side].take_unsaved();
            self.padded_below[side] = self.watermark.0.saturating_sub(self.open_for(side));
        }
        Ok(())
    }

    fn observe(&self) -> Observation {
        let rows: usize = self.sides.iter().flat_map(|side| side.by_key.values()).map(Vec::len).sum();
        Observation { state_bytes: self.bytes() as u64, state_rows: rows as u64, ..Observation::default() }
    }
}

impl KeyedOperator for StreamJoin {
    fn bytes(&self) -> usize {
        self.sides.iter().map(|side| side.bytes + side.kept * KEPT_BYTES).sum()
    }

    fn next_event(&self) -> Option<i64> {
        if self.takes_back() {
            return None;
        }
        let first = |side: usize| self.sides[side].by_time.keys().next().map(|time| (side, *time));
        let wait = |side: usize| self.open_for(side).min(self.join.kept_for());
        [0, 1].into_iter().filter_map(first).map(|(side, time)| time.saturating_add(wait(side))).min()
    }
}
