//! Evaluates a window function over a partition.
//!
//! Invariant: one result per row, in the partition's order.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, UInt32Array},
    compute::{cast, filter, take},
    datatypes::{DataType, Field, FieldRef, Int64Type, Schema},
};
use datafusion::{
    common::{Result as PlanResult, ScalarValue},
    logical_expr::{AggregateUDF, PartitionEvaluator},
    physical_expr::{PhysicalExpr, aggregate::AggregateExprBuilder, expressions::Column},
};
use headwater_engine::error::{Error, Result};

use super::{Framed, What, frame::Partition};
use crate::kernels::rows::pick;

/// Evaluates one call, partition by partition.
#[derive(Debug)]
pub(super) struct Evaluator {
    framed: Framed,
}

impl Evaluator {
    pub(super) fn new(framed: Framed) -> Self {
        Self { framed }
    }
}

impl PartitionEvaluator for Evaluator {
    fn evaluate_all(&mut self, values: &[ArrayRef], num_rows: usize) -> PlanResult<ArrayRef> {
        let (first, sorts) = &self.framed.keys;
        let partition = Partition::new(values, num_rows, (*first, sorts))?;
        Ok(evaluate(&self.framed, values, &partition)?)
    }
}

fn evaluate(framed: &Framed, values: &[ArrayRef], partition: &Partition<'_>) -> Result<ArrayRef> {
    let own = values.get(..framed.own).ok_or_else(|| Error::internal("arguments of a window function are missing"))?;
    let rows = partition.len();
    match (&framed.what, own) {
        (What::Ntile, [count]) => ntile(count, rows),
        (What::Shift { forwards }, [x, rest @ ..]) => {
            let forwards = *forwards;
            shifted(framed, x, rest, forwards)
        }
        (What::Aggregate(udaf, fields, distinct), own) => {
            let kept = framed.filter.and_then(|filter| values.get(filter));
            aggregated((udaf, fields, *distinct), own, &partition.frames(framed.frame)?, kept)
        }
        (what, [x, rest @ ..]) => {
            let counts = rest.first().map(|counts| cast(counts, &DataType::Int64)).transpose()?;
            let mut picked = Vec::with_capacity(rows);
            for (row, frame) in partition.frames(framed.frame)?.into_iter().enumerate() {
                let mut candidates = frame.filter(|at| !framed.ignore_nulls || x.is_valid(*at));
                picked.push(match what {
                    What::First => candidates.next(),
                    What::Last => candidates.next_back(),
                    _ => match nth(counts.as_ref(), row)? {
                        Some(count) => candidates.nth(count),
                        None => None,
                    },
                });
            }
            pick(x, picked.into_iter().map(|at| at.map(|at| at as u32)).collect())
        }
        _ => Err(Error::internal("a window function has an argument")),
    }
}

/// How many values of the frame `nth_value` passes over.
fn nth(counts: Option<&ArrayRef>, row: usize) -> Result<Option<usize>> {
    let Some(counts) = counts else { return Ok(None) };
    let counts = counts.as_primitive::<Int64Type>();
    if counts.is_null(row) {
        return Ok(None);
    }
    match usize::try_from(counts.value(row)) {
        Ok(count) if count > 0 => Ok(Some(count - 1)),
        _ => Err(Error::user("INVALID_FUNCTION_ARGUMENT", "offset must be at least 1")),
    }
}

fn ntile(counts: &ArrayRef, rows: usize) -> Result<ArrayRef> {
    let counts = cast(counts, &DataType::Int64)?;
    let tiles = counts.as_primitive::<Int64Type>().iter().enumerate().map(|(row, count)| {
        let Some(count) = count else { return Ok(None) };
        let buckets = usize::try_from(count).ok().filter(|count| *count > 0);
        let buckets =
            buckets.ok_or_else(|| Error::user("INVALID_FUNCTION_ARGUMENT", "buckets must be greater than 0"))?;
        let (each, larger) = (rows / buckets, rows % buckets);
        let in_larger = larger * (each + 1);
        let tile = if row < in_larger { row / (each + 1) } else { larger + (row - in_larger) / each.max(1) };
        Ok(Some(tile as i64 + 1))
    });
    Ok(Arc::new(tiles.collect::<Result<Int64Array>>()?))
}

/// `lag(x, offset, default)` and `lead`.
fn shifted(framed: &Framed, x: &ArrayRef, rest: &[ArrayRef], forwards: bool) -> Result<ArrayRef> {
    let Some(offsets) = rest.first() else { return Err(Error::internal("the offset is missing")) };
    let offsets = cast(offsets, &DataType::Int64)?;
    let offsets = offsets.as_primitive::<Int64Type>();
    let known: Vec<usize> = (0..x.len()).filter(|at| !framed.ignore_nulls || x.is_valid(*at)).collect();
    let mut picked = Vec::with_capacity(x.len());
    for row in 0..x.len() {
        let offset = offsets.is_valid(row).then(|| offsets.value(row));
        let Some(offset) = offset.and_then(|offset| usize::try_from(offset).ok()) else {
            let message = "offset must be a number that is not negative";
            return Err(Error::user("INVALID_FUNCTION_ARGUMENT", message));
        };
        picked.push(match (offset, forwards) {
            (0, _) => Some(row),
            (offset, true) => {
                let next = known.partition_point(|at| *at <= row);
                next.checked_add(offset - 1).and_then(|at| known.get(at)).copied()
            }
            (offset, false) => {
                let before = known.partition_point(|at| *at < row);
                before.checked_sub(offset).map(|at| known[at])
            }
        });
    }
    let Some(defaults) = rest.get(1) else {
        return pick(x, picked.into_iter().map(|at| at.map(|at| at as u32)).collect());
    };
    let indices: Vec<(usize, usize)> =
        picked.into_iter().enumerate().map(|(row, at)| at.map_or((1, row), |at| (0, at))).collect();
    Ok(arrow::compute::interleave(&[x.as_ref(), defaults.as_ref()], &indices)?)
}

type Aggregate<'a> = (&'a Arc<AggregateUDF>, &'a [FieldRef], bool);

fn aggregated(
    (udaf, fields, distinct): Aggregate<'_>,
    values: &[ArrayRef],
    frames: &[Range<usize>],
    kept: Option<&ArrayRef>,
) -> Result<ArrayRef> {
    let fields: Vec<Field> =
        fields.iter().enumerate().map(|(index, field)| field.as_ref().clone().with_name(format!("c{index}"))).collect();
    let columns: Vec<Arc<dyn PhysicalExpr>> =
        fields.iter().enumerate().map(|(index, field)| Arc::new(Column::new(field.name(), index)) as _).collect();
    let call = AggregateExprBuilder::new(Arc::clone(udaf), columns)
        .schema(Arc::new(Schema::new(fields)))
        .alias("frame")
        .with_distinct(distinct)
        .build()?;
    let mut results: Vec<ScalarValue> = Vec::with_capacity(frames.len());
    let mut last: Option<&Range<usize>> = None;
    for frame in frames {
        if last == Some(frame)
            && let Some(known) = results.last().cloned()
        {
            results.push(known);
            continue;
        }
        last = Some(frame);
        let mut accumulator = call.create_accumulator()?;
        let rows: Vec<ArrayRef> = values.iter().map(|value| value.slice(frame.start, frame.len())).collect();
        let rows = match kept {
            Some(kept) => {
                let kept = kept.slice(frame.start, frame.len());
                let kept = kept.as_boolean();
                rows.iter().map(|rows| filter(rows, kept)).collect::<std::result::Result<_, _>>()?
            }
            None => rows,
        };
        accumulator.update_batch(&rows)?;
        results.push(accumulator.evaluate()?);
    }
    if results.is_empty() {
        let nothing = ScalarValue::try_from(call.field().data_type())?.to_array_of_size(1)?;
        return Ok(take(&nothing, &UInt32Array::from(Vec::<u32>::new()), None)?);
    }
    Ok(ScalarValue::iter_to_array(results)?)
}
