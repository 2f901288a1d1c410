//! One batch of a source: from payloads to rows with event time, and then to each branch.
//!
//! Lateness is decided here, row by row, against the running watermark of the row's own split, before anything is
//! aggregated: so results do not depend on batch size, parallelism or restarts.
//!
//! Invariant: each row read ends up in exactly one of rejected, filtered, late, held, released for each INSERT.

use std::{ops::Range, sync::Arc};

use crate::{
    accounts::{Tally, records_schema},
    connector::{Carries, Positions, SourceBatch, SourceData, SplitId},
    error::{Error, Result},
    format::{Decoder, Payloads},
    graph::{Branch, Projection, SourceNode, Step, TimeSpec, WatermarkRule},
    message::{ChangeBatch, RowKind},
    runtime::{
        exchange::{filter_changes, take_changes},
        lateness::{self, Fate},
        narrow::{self, filter_mask, project},
    },
    time::{Instant, Watermark},
};
use arrow::{
    array::{
        Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Int64Array, RecordBatch, TimestampMillisecondArray,
        UInt32Array,
    },
    compute::{cast, take},
    datatypes::{DataType, Int64Type, TimeUnit},
};

/// Rows of a batch before branching, with what each came with.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The table's rows.
    pub(super) changes: ChangeBatch,
    /// Event time of each row in microseconds, for a table with time.
    pub(super) times: Option<Vec<i64>>,
    /// The split's watermark just before each row.
    pub(super) before: Vec<i64>,
    /// Rows further beyond their arrival than a watermark follows.
    pub(super) ahead: u64,
    /// The record each row came from, of the rows as they were decoded.
    records: Option<Vec<u32>>,
    /// The place of each of these rows among all of its record, where some were left out.
    places: Option<Vec<u32>>,
    /// The bytes of each of these rows, where some are not all of their record.
    parts: Option<Vec<Range<usize>>>,
    /// Where each row was among those, once some have been left out.
    decoded: Option<Vec<u32>>,
    /// What could not become a row.
    pub(super) rejected: Vec<Rejected>,
}

/// A row of `"t$rejected"`.
#[derive(Debug, Clone)]
pub(super) struct Rejected {
    pub(super) raw: Vec<u8>,
    pub(super) reason: String,
    pub(super) offset: String,
    pub(super) arrival_ms: i64,
    /// The ready row it was, when `raw` are its columns and not the bytes it came as.
    pub(super) row: Option<u32>,
}

/// What a branch makes of a batch.
#[derive(Debug, Default)]
pub(super) struct Branched {
    /// What goes on.
    pub(super) changes: Option<ChangeBatch>,
    /// Indexes in the prepared batch of rows that missed windows, with the end of the last one of them for a row that
    /// takes part in later ones.
    pub(super) late: Vec<(u32, Option<i64>)>,
    /// Rows an expression failed on.
    pub(super) failed: Vec<(u32, String)>,
    /// Indexes in the prepared batch of the rows that go on.
    rows: Vec<u32>,
}

/// The payloads and places of a batch, for rejected and late rows.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) split: SplitId,
    positions: Positions,
    arrivals_ms: Option<Vec<i64>>,
    payloads: Option<Payloads>,
    /// Metadata columns of the payloads, as they were asked for.
    pub(super) metadata: Vec<ArrayRef>,
    now: Instant,
}

impl Origin {
    fn arrival_ms(&self, record: usize) -> i64 {
        self.arrivals_ms.as_ref().and_then(|arrivals| arrivals.get(record)).copied().unwrap_or(self.now.0)
    }

    /// The position of a record as text.
    pub(super) fn position(&self, record: usize) -> String {
        self.positions.text(record)
    }

    /// The position of a ready row where each has a number of its own.
    pub(super) fn number(&self, row: u32) -> Option<i64> {
        match &self.positions {
            Positions::Numbers(numbers) => numbers.get(row as usize).copied(),
            Positions::From(_) | Positions::Texts(_) => None,
        }
    }

    /// Whether rows came as payloads.
    pub(super) fn has_payloads(&self) -> bool {
        self.payloads.is_some()
    }

    pub(super) fn record(&self, record: usize) -> Option<&[u8]> {
        let payloads = self.payloads.as_ref()?;
        (record < payloads.len()).then(|| payloads.payload(record))
    }

    fn rejected(&self, record: usize, raw: Option<Vec<u8>>, reason: String) -> Rejected {
        let raw = raw.or_else(|| self.record(record).map(<[u8]>::to_vec));
        Rejected {
            raw: raw.unwrap_or_default(),
            reason,
            offset: self.positions.text(record),
            arrival_ms: self.arrival_ms(record),
            row: None,
        }
    }
}

impl Prepared {
    /// Rows that come without records, times and rejects.
    pub(super) fn of_rows(changes: ChangeBatch) -> Self {
        let (before, rejected, parts) = (Vec::new(), Vec::new(), None);
        Self { changes, times: None, before, ahead: 0, records: None, places: None, parts, decoded: None, rejected }
    }

    /// Where a row was among those that were decoded.
    pub(super) fn decoded_at(&self, row: usize) -> usize {
        self.decoded.as_ref().map_or(row, |decoded| decoded[row] as usize)
    }

    pub(super) fn record_of(&self, row: usize) -> usize {
        let decoded = self.decoded_at(row);
        self.records.as_ref().map_or(decoded, |records| records[decoded] as usize)
    }

    /// The record of a row, and its place among the rows of that record.
    pub(super) fn place_in_record(&self, row: usize) -> (u32, u32) {
        let decoded = self.decoded_at(row);
        let Some(records) = &self.records else { return (decoded as u32, 0) };
        let record = records[decoded];
        if let Some(places) = &self.places {
            return (record, places[decoded]);
        }
        let before = records[..decoded].iter().rev().take_while(|other| **other == record).count();
        (record, before as u32)
    }

    /// The bytes a row was read from: its record, or its part of one.
    fn bytes_of<'o>(&self, origin: &'o Origin, row: usize) -> Option<&'o [u8]> {
        match &self.parts {
            Some(parts) => origin.payloads.as_ref()?.buffer.get(parts[self.decoded_at(row)].clone()),
            None => origin.record(self.record_of(row)),
        }
    }

    /// The row of `"t$rejected"` for a row an expression failed on.
    pub(super) fn reject_row(&self, origin: &Origin, row: u32, reason: String) -> Rejected {
        let text = origin.payloads.is_none().then(|| row_text(&self.changes.rows, row as usize));
        let own = text.is_some().then(|| self.decoded_at(row as usize) as u32);
        let raw = text.or_else(|| self.bytes_of(origin, row as usize).map(<[u8]>::to_vec));
        Rejected { row: own, ..origin.rejected(self.record_of(row as usize), raw, reason) }
    }
}

fn row_text(rows: &RecordBatch, row: usize) -> Vec<u8> {
    crate::connector::RefusedRow::of(rows, row, "").map(|row| row.raw.into_bytes()).unwrap_or_default()
}

/// Decodes a batch and computes the table's columns, event times and the running watermark.
pub(super) fn prepare(
    node: &SourceNode,
    decoder: Option<&mut Box<dyn Decoder>>,
    batch: SourceBatch,
    watermark: &mut Watermark,
    now: Instant,
) -> Result<(Prepared, Origin)> {
    let SourceBatch { split, data, positions, arrivals_ms, .. } = batch;
    let mut origin = Origin { split, positions, arrivals_ms, payloads: None, metadata: Vec::new(), now };
    let mut prepared = match data {
        SourceData::Rows { rows, rejected } => {
            let rejected = rejected.into_iter().map(|record| Rejected {
                raw: record.raw.to_vec(),
                reason: record.reason,
                offset: record.position,
                arrival_ms: now.0,
                row: None,
            });
            Prepared { rejected: rejected.collect(), ..Prepared::of_rows(rows) }
        }
        SourceData::Payloads { payloads, metadata } => {
            let decoder = decoder.ok_or_else(|| Error::internal("a source of payloads without a decoder"))?;
            let prepared = decode(node, decoder, &payloads, &metadata, &origin)?;
            (origin.payloads, origin.metadata) = (Some(payloads), metadata);
            prepared
        }
    };
    reject_nulls(&mut prepared, &node.not_null, &origin)?;
    if let Some(projection) = &node.project {
        project_table(&mut prepared, projection, &origin)?;
    }
    if let Some(time) = &node.time {
        stamp(&mut prepared, time, &origin, watermark)?;
    }
    Ok((prepared, origin))
}

fn decode(
    node: &SourceNode,
    decoder: &mut Box<dyn Decoder>,
    payloads: &Payloads,
    metadata: &[ArrayRef],
    origin: &Origin,
) -> Result<Prepared> {
    let decoded = decoder.decode(payloads)?;
    let (places, parts) = (decoder.places().map(<[u32]>::to_vec), decoder.parts().map(<[_]>::to_vec));
    let rejected = decoded.rejected.into_iter().map(|row| {
        let raw = payloads.buffer.get(row.start..row.end).map(<[u8]>::to_vec);
        origin.rejected(row.payload, raw, row.reason)
    });
    let rejected: Vec<Rejected> = rejected.collect();
    let rows = decoded.rows.num_rows();
    let indexes = decoded.payload_of_row.as_ref().map(|records| UInt32Array::from(records.clone()));
    let mut physical = decoded.rows.rows.columns().iter();
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(node.columns.fields().len());
    for index in 0..node.columns.fields().len() {
        let place = node.metadata.iter().position(|(column, _)| *column == index);
        let column = match place {
            Some(place) => {
                let values =
                    metadata.get(place).ok_or_else(|| Error::internal("a source left out a metadata column"))?;
                match &indexes {
                    Some(indexes) => take(values, indexes, None)?,
                    // Row `i` is payload `i`, but payloads after the last row may have been rejected.
                    None => values.slice(0, rows.min(values.len())),
                }
            }
            None => Arc::clone(physical.next().ok_or_else(|| Error::internal("a decoder left out a column"))?),
        };
        columns.push(column);
    }
    let rows = RecordBatch::try_new_with_options(
        Arc::clone(&node.columns),
        columns,
        &arrow::array::RecordBatchOptions::new().with_row_count(Some(rows)),
    )?;
    let changes = ChangeBatch::new(rows, decoded.rows.kinds);
    Ok(Prepared { records: decoded.payload_of_row, places, parts, rejected, ..Prepared::of_rows(changes) })
}

/// Rejects rows that have no value in a column where there must be one. A row that goes may name its key alone.
fn reject_nulls(prepared: &mut Prepared, not_null: &[usize], origin: &Origin) -> Result<()> {
    let has_nulls = |column: &&usize| prepared.changes.rows.column(**column).null_count() > 0;
    if !not_null.iter().any(|column| has_nulls(&column)) {
        return Ok(());
    }
    let mut failed: Vec<(u32, String)> = Vec::new();
    for row in 0..prepared.changes.num_rows() {
        let is_null = |column: &&usize| prepared.changes.rows.column(**column).is_null(row);
        let Some(column) = not_null.iter().find(is_null) else { continue };
        if prepared.changes.kind(row) != RowKind::Delete {
            let name = prepared.changes.rows.schema().field(*column).name().clone();
            failed.push((row as u32, format!("column \"{name}\" is NULL")));
        }
    }
    reject(prepared, &failed, origin)
}

/// Moves rows to the rejected ones.
fn reject(prepared: &mut Prepared, failed: &[(u32, String)], origin: &Origin) -> Result<()> {
    if failed.is_empty() {
        return Ok(());
    }
    let rejects: Vec<Rejected> =
        failed.iter().map(|(row, reason)| prepared.reject_row(origin, *row, reason.clone())).collect();
    let kept = without(prepared.changes.num_rows(), failed.iter().map(|(row, _)| *row));
    keep(prepared, &kept)?;
    prepared.rejected.extend(rejects);
    Ok(())
}

fn project_table(prepared: &mut Prepared, projection: &Projection, origin: &Origin) -> Result<()> {
    let (rows, failed) = project(&prepared.changes.rows, projection)?;
    reject(prepared, &failed, origin)?;
    // Evaluated on the rows that passed, so that both have the same order.
    prepared.changes.rows = rows;
    Ok(())
}

fn without(rows: usize, dropped: impl Iterator<Item = u32>) -> UInt32Array {
    let mut keep = vec![true; rows];
    dropped.for_each(|row| keep[row as usize] = false);
    (0..rows as u32).filter(|row| keep[*row as usize]).collect()
}

fn keep(prepared: &mut Prepared, rows: &UInt32Array) -> Result<()> {
    prepared.changes = take_changes(&prepared.changes, rows)?;
    prepared.decoded = Some(rows.values().iter().map(|row| prepared.decoded_at(*row as usize) as u32).collect());
    if let Some(times) = &prepared.times {
        prepared.times = Some(rows.values().iter().map(|row| times[*row as usize]).collect());
    }
    Ok(())
}

/// A timestamp column of any unit as microseconds.
pub(crate) fn micros(column: &ArrayRef) -> Result<Int64Array> {
    let zone = match column.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        other => return Err(Error::internal(format!("event time must be a timestamp, it is {other}"))),
    };
    let column = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, zone))?;
    Ok(cast(&column, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

fn stamp(prepared: &mut Prepared, time: &TimeSpec, origin: &Origin, watermark: &mut Watermark) -> Result<()> {
    for column in &time.clocks {
        set_from_clock(prepared, *column, origin.now)?;
    }
    if let WatermarkRule::Clock = time.watermark {
        set_from_clock(prepared, time.column, origin.now)?;
        prepared.before = vec![i64::MIN; prepared.changes.num_rows()];
        prepared.times = Some(vec![origin.now.micros(); prepared.changes.num_rows()]);
        return Ok(());
    }
    let mut values = micros(prepared.changes.rows.column(time.column))?;
    if values.null_count() > 0 {
        let name = prepared.changes.rows.schema().field(time.column).name().clone();
        let nulls = (0..values.len() as u32).filter(|row| values.is_null(*row as usize));
        let nulls: Vec<_> = nulls.map(|row| (row, format!("event time \"{name}\" is NULL"))).collect();
        reject(prepared, &nulls, origin)?;
        values = micros(prepared.changes.rows.column(time.column))?;
    }
    let WatermarkRule::Expr(expr) = &time.watermark else { return Ok(()) };
    let (marks, failed) = narrow::column(expr, &prepared.changes.rows)?;
    if !failed.is_empty() {
        reject(prepared, &failed, origin)?;
        values = micros(prepared.changes.rows.column(time.column))?;
    }
    let marks = micros(&marks)?;
    let ahead = i64::try_from(time.max_ahead.as_micros()).unwrap_or(i64::MAX);
    let mut before = Vec::with_capacity(values.len());
    for row in 0..values.len() {
        before.push(watermark.0);
        let limit = origin.arrival_ms(prepared.record_of(row)).saturating_mul(1000).saturating_add(ahead);
        if values.value(row) > limit {
            prepared.ahead += 1;
        } else if marks.is_valid(row) {
            watermark.0 = watermark.0.max(marks.value(row));
        }
    }
    prepared.before = before;
    prepared.times = Some(values.values().to_vec());
    Ok(())
}

fn set_from_clock(prepared: &mut Prepared, column: usize, now: Instant) -> Result<()> {
    let rows = &prepared.changes.rows;
    let clock: ArrayRef = Arc::new(TimestampMillisecondArray::from_value(now.0, rows.num_rows()));
    let mut columns = rows.columns().to_vec();
    columns[column] = cast(&clock, rows.schema().field(column).data_type())?;
    prepared.changes.rows = RecordBatch::try_new(rows.schema(), columns)?;
    Ok(())
}

/// Applies a branch's steps and its lateness, and keeps its tally.
pub(super) fn branch(branch: &Branch, prepared: &Prepared, tally: &mut Tally) -> Result<Branched> {
    let rows = prepared.changes.num_rows();
    tally.read += (rows + prepared.rejected.len()) as u64;
    tally.rejected += prepared.rejected.len() as u64;
    let mut branched = Branched::default();
    let mut changes = prepared.changes.clone();
    let mut origin: Vec<u32> = (0..rows as u32).collect();
    for step in &branch.steps {
        match step {
            Step::Filter(expr) => {
                let (mask, failed) = filter_mask(expr, &changes.rows)?;
                tally.rejected += failed.len() as u64;
                tally.filtered += (mask.len() - mask.true_count() - failed.len()) as u64;
                branched.failed.extend(failed.into_iter().map(|(row, reason)| (origin[row as usize], reason)));
                if mask.true_count() < mask.len() {
                    changes = filter_changes(&changes, &mask)?;
                    origin = (0..mask.len()).filter(|row| mask.value(*row)).map(|row| origin[row]).collect();
                }
            }
            Step::Project(projection) => {
                let (rows, failed) = project(&changes.rows, projection)?;
                if !failed.is_empty() {
                    tally.rejected += failed.len() as u64;
                    let kept = without(changes.num_rows(), failed.iter().map(|(row, _)| *row));
                    changes = take_changes(&changes, &kept)?;
                    branched.failed.extend(failed.into_iter().map(|(row, reason)| (origin[row as usize], reason)));
                    origin = kept.values().iter().map(|row| origin[*row as usize]).collect();
                }
                changes.rows = rows;
            }
        }
    }
    let mut ends = Vec::new();
    if let (Some(lateness), Some(times)) = (&branch.lateness, &prepared.times) {
        let decided = lateness::decide(lateness, times, &prepared.before, &origin);
        ends = decided.ends;
        if let Some(fates) = decided.fates {
            branched.late = lateness::missed(&fates, &origin, tally);
            changes = in_time(&changes, &fates)?;
            let is_kept = |fate: &Fate| matches!(fate, Fate::Whole | Fate::Part { .. });
            let mut kept = fates.iter();
            ends.retain(|_| kept.next().is_some_and(is_kept));
            let mut kept = fates.iter();
            origin.retain(|_| kept.next().is_some_and(is_kept));
        }
    }
    hold(branch, changes.num_rows(), &ends, tally);
    branched.changes = (changes.num_rows() > 0).then_some(changes);
    branched.rows = origin;
    Ok(branched)
}

/// Adds to the rows of a branch what comes along with them.
pub(super) fn carry(branch: &Branch, prepared: &Prepared, origin: &Origin, branched: &mut Branched) -> Result<()> {
    let is_more = branch.carries > Carries::Nothing || !branch.tells.is_empty();
    let Some(changes) = branched.changes.as_mut().filter(|_| is_more) else { return Ok(()) };
    let records: Vec<usize> = branched.rows.iter().map(|row| prepared.record_of(*row as usize)).collect();
    let mut columns = changes.rows.columns().to_vec();
    let rows = UInt32Array::from(branched.rows.clone());
    for column in &branch.tells {
        columns.push(take(prepared.changes.rows.column(*column), &rows, None)?);
    }
    if branch.carries > Carries::Nothing {
        let arrivals = records.iter().map(|record| origin.arrival_ms(*record));
        columns.push(Arc::new(TimestampMillisecondArray::from_iter_values(arrivals)));
    }
    if branch.carries == Carries::Record {
        let bytes = branched.rows.iter().map(|row| prepared.bytes_of(origin, *row as usize));
        columns.push(Arc::new(bytes.collect::<BinaryArray>()));
    }
    changes.rows = RecordBatch::try_new(Arc::clone(&branch.schema), columns)?;
    Ok(())
}

/// Every record of a batch as it came; `None` from a source of ready rows.
pub(super) fn records_batch(origin: &Origin) -> Result<Option<RecordBatch>> {
    let Some(payloads) = &origin.payloads else { return Ok(None) };
    let records = 0..payloads.len();
    let raw = BinaryArray::from_iter_values(records.clone().map(|record| payloads.payload(record)));
    let arrivals = TimestampMillisecondArray::from_iter_values(records.map(|record| origin.arrival_ms(record)));
    Ok(Some(RecordBatch::try_new(records_schema(), vec![Arc::new(raw), Arc::new(arrivals)])?))
}

/// The rows that take part in windows, and from which one on.
fn in_time(changes: &ChangeBatch, fates: &[Fate]) -> Result<ChangeBatch> {
    let from = fates.iter().filter_map(|fate| match *fate {
        Fate::Whole => Some(i64::MIN),
        Fate::Part { from, .. } => Some(from),
        Fate::Late | Fate::Between => None,
    });
    let from = Int64Array::from_iter_values(from);
    let mask: BooleanArray = fates.iter().map(|fate| Some(matches!(fate, Fate::Whole | Fate::Part { .. }))).collect();
    let mut kept = if from.len() < fates.len() { filter_changes(changes, &mask)? } else { changes.clone() };
    let has_parts = fates.iter().any(|fate| matches!(fate, Fate::Part { .. }));
    kept.open_from = has_parts.then(|| Arc::new(from));
    Ok(kept)
}

/// Accounts for rows that go on: held until `ends` where the branch holds them, else released.
fn hold(branch: &Branch, rows: usize, ends: &[i64], tally: &mut Tally) {
    if !branch.holds || ends.len() != rows {
        tally.released += rows as u64;
        return;
    }
    for run in ends.chunk_by(|a, b| a == b) {
        tally.hold(run[0], run.len() as u64);
    }
}
