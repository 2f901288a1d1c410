//! Expressions over rows of which some fail: narrowed down until only those are left out.
//!
//! Invariant: a batch on which nothing fails is evaluated once, as a whole.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, new_empty_array},
    compute::concat,
};
use datafusion::physical_expr::PhysicalExpr;

use crate::{
    error::{Error, Result},
    graph::Projection,
};

/// The rows an expression fails on, each with the reason.
pub(super) type Failures = Vec<(u32, String)>;

/// Which rows a filter keeps (NULL keeps none), and the rows it failed on.
pub(super) fn filter_mask(expr: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> Result<(BooleanArray, Failures)> {
    let evaluate = |rows: &RecordBatch| -> Result<ArrayRef> { Ok(expr.evaluate(rows)?.into_array(rows.num_rows())?) };
    let (pieces, failed) = narrowed(rows, &evaluate)?;
    let mut mask = vec![false; rows.num_rows()];
    for (start, piece) in pieces {
        let piece = piece.as_boolean_opt().ok_or_else(|| Error::internal("a filter that is no boolean"))?.clone();
        for row in 0..piece.len() {
            mask[start + row] = piece.is_valid(row) && piece.value(row);
        }
    }
    Ok((mask.into(), failed))
}

/// An expression's values over the rows it did not fail on, and the rows it failed on.
pub(super) fn column(expr: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> Result<(ArrayRef, Failures)> {
    let evaluate = |rows: &RecordBatch| -> Result<ArrayRef> { Ok(expr.evaluate(rows)?.into_array(rows.num_rows())?) };
    let (pieces, failed) = narrowed(rows, &evaluate)?;
    if let [(_, whole)] = pieces.as_slice() {
        return Ok((Arc::clone(whole), failed));
    }
    let pieces: Vec<&dyn Array> = pieces.iter().map(|(_, piece)| piece.as_ref()).collect();
    if pieces.is_empty() {
        return Ok((new_empty_array(&expr.data_type(&rows.schema())?), failed));
    }
    Ok((concat(&pieces)?, failed))
}

/// The columns of a projection over the rows it did not fail on, and the rows it failed on.
pub(super) fn project(rows: &RecordBatch, projection: &Projection) -> Result<(RecordBatch, Failures)> {
    let evaluate = |rows: &RecordBatch| evaluate_all(projection, rows);
    let (pieces, failed) = narrowed(rows, &evaluate)?;
    if let [(_, whole)] = pieces.as_slice() {
        return Ok((whole.clone(), failed));
    }
    let pieces: Vec<RecordBatch> = pieces.into_iter().map(|(_, piece)| piece).collect();
    Ok((arrow::compute::concat_batches(&projection.schema, &pieces)?, failed))
}

/// Evaluates the columns of a projection.
pub(crate) fn evaluate_all(projection: &Projection, rows: &RecordBatch) -> Result<RecordBatch> {
    let columns = projection.exprs.iter().map(|expr| Ok(expr.evaluate(rows)?.into_array(rows.num_rows())?));
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
    Ok(RecordBatch::try_new_with_options(Arc::clone(&projection.schema), columns, &options)?)
}

/// Evaluates over the rows, halving until only the rows that fail are left out.
pub(super) fn narrowed<T>(
    rows: &RecordBatch,
    evaluate: &dyn Fn(&RecordBatch) -> Result<T>,
) -> Result<(Vec<(usize, T)>, Failures)> {
    let mut pieces = Vec::new();
    let mut failed = Vec::new();
    let mut todo = vec![(0, rows.num_rows())];
    while let Some((start, length)) = todo.pop() {
        match evaluate(&rows.slice(start, length)) {
            Ok(done) => pieces.push((start, done)),
            Err(error) if length <= 1 => failed.push((start as u32, format!("expression: {error}"))),
            Err(_) => {
                let half = length / 2;
                todo.push((start + half, length - half));
                todo.push((start, half));
            }
        }
    }
    Ok((pieces, failed))
}
