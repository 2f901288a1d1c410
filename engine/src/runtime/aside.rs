//! Rows that are kept aside: `"t$rejected"` and `"t$late"` as batches.
//!
//! A late row has all columns its table declares, whatever the INSERTs use. Those that no INSERT uses are read once more,
//! for the late rows alone: payloads are decoded again, readers of ready rows are asked for theirs.
//!
//! Invariant: a row kept aside has the values its INSERTs saw; a column that cannot be had again is NULL.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arrow::{
    array::{
        ArrayRef, BinaryArray, RecordBatch, RecordBatchOptions, StringArray, TimestampMillisecondArray, UInt32Array,
        new_null_array,
    },
    compute::{take, take_record_batch},
};

use crate::{
    accounts::{late_schema, rejected_schema},
    connector::{Source, SplitId},
    error::{Error, Result},
    format::{Decoder, Payloads},
    graph::{SourceNode, WholeColumn, WholeRows},
    runtime::{
        narrow,
        source_batch::{Origin, Prepared, Rejected},
    },
};

/// Rows that missed windows: the row, and the end of the last window it missed if it takes part in later ones, with the
/// names of the INSERTs.
pub(super) type LateRows = BTreeMap<(u32, Option<i64>), String>;

/// Rows that were read once more.
#[derive(Debug)]
pub(super) struct ReadAgain {
    /// All columns a table reads.
    pub(super) rows: RecordBatch,
    /// Where each late row is among them, if it was found.
    pub(super) places: Vec<Option<u32>>,
}

/// Rejected rows as a batch of `"t$rejected"`.
pub(super) fn rejected_batch(split: &SplitId, rejected: &[Rejected]) -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(BinaryArray::from_iter_values(rejected.iter().map(|row| &row.raw))),
        Arc::new(StringArray::from_iter_values(rejected.iter().map(|row| &row.reason))),
        Arc::new(StringArray::from_iter_values(rejected.iter().map(|_| split.0.as_ref()))),
        Arc::new(StringArray::from_iter_values(rejected.iter().map(|row| &row.offset))),
        Arc::new(TimestampMillisecondArray::from_iter_values(rejected.iter().map(|row| row.arrival_ms))),
    ];
    Ok(RecordBatch::try_new(rejected_schema(), columns)?)
}

/// Late rows as a batch of `"t$late"`: each row once for all the INSERTs in which it missed the same.
pub(super) fn late_batch(
    whole: RecordBatch,
    prepared: &Prepared,
    origin: &Origin,
    late: &LateRows,
) -> Result<RecordBatch> {
    let mut columns = whole.columns().to_vec();
    let offsets = late.keys().map(|(row, _)| origin.position(prepared.record_of(*row as usize)));
    let watermarks = late.keys().map(|(row, _)| prepared.before[*row as usize].div_euclid(1000));
    columns.push(Arc::new(StringArray::from_iter_values(late.keys().map(|_| origin.split.0.as_ref()))));
    columns.push(Arc::new(StringArray::from_iter_values(offsets)));
    columns.push(Arc::new(TimestampMillisecondArray::from_iter_values(watermarks)));
    columns.push(Arc::new(StringArray::from_iter_values(late.values())));
    let missed = late.keys().map(|(_, missed)| missed.map(|end| end.div_euclid(1000)));
    columns.push(Arc::new(missed.collect::<TimestampMillisecondArray>()));
    Ok(RecordBatch::try_new(late_schema(&whole.schema()), columns)?)
}

/// The late rows in the columns of the table that were read for the INSERTs.
pub(super) fn late_rows(source: &dyn Source, prepared: &Prepared, late: &LateRows) -> Result<RecordBatch> {
    let rows = UInt32Array::from_iter_values(late.keys().map(|(row, _)| *row));
    let hidden = [source.change_id(), source.change_order()];
    let read = prepared.changes.rows.schema();
    let is_shown = |column: &usize| !hidden.contains(&Some(read.field(*column).name().as_str()));
    let shown: Vec<usize> = (0..read.fields().len()).filter(is_shown).collect();
    Ok(take_record_batch(&prepared.changes.rows.project(&shown)?, &rows)?)
}

/// The late rows in all columns that the table declares.
pub(super) fn whole_rows(whole: &WholeRows, late: &RecordBatch, again: Option<ReadAgain>) -> Result<RecordBatch> {
    let again = again.map(|again| computed(whole, &again)).transpose()?;
    let columns = whole.columns_of.iter().zip(whole.schema.fields()).map(|(column, field)| match (column, &again) {
        (WholeColumn::Used(index), _) => Ok(Arc::clone(late.column(*index))),
        (WholeColumn::Again(index), Some(columns)) => match columns.get(*index) {
            Some((values, places)) => Ok(take(values, places, None)?),
            None => Err(Error::internal("a column of late rows that is not read again")),
        },
        (WholeColumn::Again(_), None) => Ok(new_null_array(field.data_type(), late.num_rows())),
    });
    let options = RecordBatchOptions::new().with_row_count(Some(late.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(&whole.schema), columns.collect::<Result<_>>()?, &options)?)
}

/// The columns that are wanted of rows read again, each with where the late rows are in it. A row on which one of them
/// fails has the others.
fn computed(whole: &WholeRows, again: &ReadAgain) -> Result<Vec<(ArrayRef, UInt32Array)>> {
    let column = |expr| {
        let (values, failed) = narrow::column(expr, &again.rows)?;
        let place = |place: u32| {
            let before = failed.partition_point(|(row, _)| *row < place);
            let has_failed = failed.get(before).is_some_and(|(row, _)| *row == place);
            (!has_failed).then(|| place - before as u32)
        };
        Ok((values, again.places.iter().map(|found| found.and_then(place)).collect()))
    };
    whole.project.exprs.iter().map(column).collect()
}

/// Decodes the payloads of late rows once more, into all columns.
pub(super) fn decoded_again(
    decoder: &mut dyn Decoder,
    (node, whole): (&SourceNode, &WholeRows),
    (prepared, origin): (&Prepared, &Origin),
    late: &LateRows,
) -> Result<ReadAgain> {
    let wanted: Vec<(u32, u32)> = late.keys().map(|(row, _)| prepared.place_in_record(*row as usize)).collect();
    let mut records: Vec<u32> = wanted.iter().map(|(record, _)| *record).collect();
    records.dedup();
    let (mut buffer, mut ends) = (Vec::new(), Vec::with_capacity(records.len()));
    for record in &records {
        buffer.extend_from_slice(origin.record(*record as usize).unwrap_or_default());
        ends.push(buffer.len());
    }
    let decoded = decoder.decode(&Payloads { buffer: buffer.into(), ends })?;
    let places = decoder.places();
    let rows = decoded.rows.num_rows();
    let payload_of = |row: usize| decoded.payload_of_row.as_ref().map_or(row, |payloads| payloads[row] as usize);
    let of_row: UInt32Array = (0..rows).map(|row| records.get(payload_of(row)).copied()).collect();
    let mut physical = decoded.rows.rows.columns().iter();
    let columns = (0..whole.columns.fields().len()).map(|index| {
        match whole.metadata.iter().find(|(column, _)| *column == index) {
            None => physical.next().cloned().ok_or_else(|| Error::internal("a decoder left out a column")),
            Some((_, key)) => {
                let place = node.metadata.iter().position(|(_, other)| other == key);
                let values = place.and_then(|place| origin.metadata.get(place));
                let values = values.ok_or_else(|| Error::internal("a source left out a metadata column"))?;
                Ok(take(values, &of_row, None)?)
            }
        }
    });
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
    let batch = RecordBatch::try_new_with_options(Arc::clone(&whole.columns), columns, &options)?;
    Ok(ReadAgain { rows: batch, places: found(&wanted, of_row.values(), places) })
}

/// Where rows are that are wanted by their record and their place in it, among rows of these records at these places, or one
/// after another.
fn found(wanted: &[(u32, u32)], records: &[u32], places: Option<&[u32]>) -> Vec<Option<u32>> {
    let mut rows = HashMap::with_capacity(records.len());
    let mut before = (0, 0);
    for (row, record) in (0..).zip(records) {
        let next = if row > 0 && before.0 == *record { before.1 + 1 } else { 0 };
        before = (*record, places.map_or(next, |places| places[row as usize]));
        rows.entry(before).or_insert(row);
    }
    wanted.iter().map(|place| rows.get(place).copied()).collect()
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{AsArray, Int64Array},
        datatypes::{DataType, Field, Int64Type, Schema},
    };
    use datafusion::{
        logical_expr::Operator,
        physical_expr::expressions::{BinaryExpr, Column, lit},
    };

    use super::*;
    use crate::graph::Projection;

    #[test]
    fn rows_read_again_are_found_in_time_by_their_number() {
        let records: Vec<u32> = (0..200_000).map(|row| row / 2 * 3).collect();
        let wanted: Vec<(u32, u32)> = (0..200_000).rev().map(|row| (row / 2 * 3, row % 2)).collect();
        let rows: Vec<Option<u32>> = (0..200_000).rev().map(Some).collect();
        assert_eq!(found(&wanted, &records, None), rows);
        let places: Vec<u32> = (0..200_000).map(|row| row % 2 * 7).collect();
        let behind: Vec<(u32, u32)> = wanted.iter().map(|(record, nth)| (*record, nth * 7)).collect();
        assert_eq!(found(&behind, &records, Some(&places)), rows);
        assert_eq!(found(&[(3, 1), (1, 0)], &records, Some(&places)), [None, None]);
    }

    #[test]
    fn a_column_that_fails_on_a_late_row_takes_no_other_with_it() {
        let columns = |names: &[&str]| {
            Arc::new(Schema::new(names.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect::<Vec<_>>()))
        };
        let divided = BinaryExpr::new(lit(10_i64), Operator::Divide, Arc::new(Column::new("n", 0)));
        let exprs = vec![Arc::new(Column::new("n", 0)) as _, Arc::new(divided) as _];
        let whole = WholeRows {
            columns: columns(&["n"]),
            metadata: Vec::new(),
            project: Projection { exprs, schema: columns(&["n", "d"]) },
            columns_of: vec![WholeColumn::Used(0), WholeColumn::Again(0), WholeColumn::Again(1)],
            schema: columns(&["k", "n", "d"]),
        };
        let batch = |names: &[&str], values: &[i64]| {
            RecordBatch::try_new(columns(names), vec![Arc::new(Int64Array::from(values.to_vec()))]).unwrap()
        };
        let late = batch(&["k"], &[7, 8, 9, 6]);
        let again = ReadAgain { rows: batch(&["n"], &[0, 5, 2]), places: vec![Some(2), Some(0), Some(1), None] };
        let rows = whole_rows(&whole, &late, Some(again)).unwrap();
        let values = |index: usize| rows.column(index).as_primitive::<Int64Type>().iter().collect::<Vec<_>>();
        assert_eq!(values(0), [Some(7), Some(8), Some(9), Some(6)]);
        assert_eq!(values(1), [Some(2), Some(0), Some(5), None]);
        assert_eq!(values(2), [Some(5), None, Some(2), None]);
    }
}
