//! Joins of streams by equal keys: within a window, within an interval of event time, or without bound as a changelog.
//!
//! Invariant: a NULL in a key matches nothing; what an outer join pads is taken back once a match comes, or is held until
//! none can come.

mod side;
mod stream;
mod window;

use std::{sync::Arc, time::Duration};

use arrow::{
    array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt16Array},
    compute::interleave_record_batch,
    datatypes::{Field, Schema, SchemaRef},
};
use datafusion::physical_expr::PhysicalExpr;

use crate::{
    connector::ChangelogMode,
    error::{Error, Result},
    hash::key_groups,
    operator::{Operator, OperatorContext, OperatorFactory},
    operators::{
        groups::{batch_of, mask},
        keys::KeyEncoder,
        spilling::{Keyed, KeyedOperator, Spilling},
    },
};

/// The tables of the rows of each side.
const TABLES: [&str; 2] = ["left", "right"];

/// Which rows without a match come out, padded with NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinKind {
    /// None.
    Inner,
    /// Those of the left.
    Left,
    /// Those of the right.
    Right,
    /// Those of both.
    Full,
}

impl JoinKind {
    /// Whether rows of a side (0 left, 1 right) without a match come out.
    pub fn keeps(self, side: usize) -> bool {
        match self {
            JoinKind::Inner => false,
            JoinKind::Left => side == 0,
            JoinKind::Right => side == 1,
            JoinKind::Full => true,
        }
    }
}

/// How long rows wait for each other. Indexes are columns of each side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinBound {
    /// Until their window ends: the `window_end` columns, which are equal for a match.
    Window {
        /// `window_end` of left and right.
        ends: [usize; 2],
    },
    /// While `left + lower <= right <= left + upper` can still come true; microseconds.
    Interval {
        /// Event time columns of left and right.
        times: [usize; 2],
        /// Least difference.
        lower: i64,
        /// Greatest difference.
        upper: i64,
    },
    /// For ever.
    None,
}

/// A join; input 0 is the left, both are exchanged by their keys. Output: left columns, then right columns.
#[derive(Debug, Clone)]
pub struct Join {
    kind: JoinKind,
    bound: JoinBound,
    keys: [Vec<usize>; 2],
    residual: Option<Arc<dyn PhysicalExpr>>,
    inputs: [SchemaRef; 2],
    schema: SchemaRef,
    ttl: Option<Duration>,
}

impl Join {
    /// A join on equal keys and, over the joined columns, a further condition.
    pub fn new(
        kind: JoinKind,
        bound: JoinBound,
        keys: [Vec<usize>; 2],
        residual: Option<Arc<dyn PhysicalExpr>>,
        inputs: [SchemaRef; 2],
    ) -> Result<Self> {
        if keys[0].is_empty() || keys[0].len() != keys[1].len() {
            return Err(Error::not_supported("a join of streams without an equality between them")
                .with_hint("join ON a.key = b.key, further conditions may follow"));
        }
        let padded = |side: usize| {
            let nullable = kind.keeps(1 - side);
            let field = move |field: &Arc<Field>| field.as_ref().clone().with_nullable(nullable || field.is_nullable());
            inputs[side].fields().iter().map(field).collect::<Vec<_>>()
        };
        let schema = Arc::new(Schema::new([padded(0), padded(1)].concat()));
        Ok(Self { kind, bound, keys, residual, inputs, schema, ttl: None })
    }

    /// Keeps the rows of a join without a bound for so long.
    #[must_use]
    pub fn with_ttl(self, ttl: Option<Duration>) -> Self {
        Self { ttl: ttl.filter(|_| self.bound == JoinBound::None), ..self }
    }

    /// How long a row is kept: until every row it can have matched has been padded or not.
    fn kept_for(&self) -> i64 {
        match self.bound {
            JoinBound::Interval { lower, upper, .. } => {
                let widest = upper.max(lower.saturating_neg()).max(0);
                widest.saturating_mul(2)
            }
            JoinBound::Window { .. } | JoinBound::None => i64::MAX,
        }
    }

    fn key_columns(&self, side: usize, rows: &RecordBatch) -> Vec<ArrayRef> {
        self.keys[side].iter().map(|index| Arc::clone(rows.column(*index))).collect()
    }

    fn key_encoder(&self) -> Result<KeyEncoder> {
        let types = self.keys[0].iter().zip(&self.keys[1]).map(|(left, right)| {
            let (left, right) = (self.inputs[0].field(*left), self.inputs[1].field(*right));
            if left.data_type() != right.data_type() {
                let message = format!("join keys of types {} and {}", left.data_type(), right.data_type());
                return Err(Error::internal(message));
            }
            Ok(left.data_type().clone())
        });
        KeyEncoder::new(types.collect::<Result<Vec<_>>>()?)
    }

    /// Joined rows from places in the batches of each side.
    fn joined(&self, batches: [&[RecordBatch]; 2], places: &[[(usize, usize); 2]]) -> Result<RecordBatch> {
        let side = |side: usize| -> Result<RecordBatch> {
            let batches: Vec<&RecordBatch> = batches[side].iter().collect();
            let places: Vec<(usize, usize)> = places.iter().map(|place| place[side]).collect();
            Ok(interleave_record_batch(&batches, &places)?)
        };
        let columns = side(0)?.columns().iter().chain(side(1)?.columns()).cloned().collect();
        batch_of(&self.schema, columns, places.len())
    }

    /// Which of the joined rows meet the further condition.
    fn passes(&self, rows: &RecordBatch) -> Result<Option<BooleanArray>> {
        let Some(residual) = &self.residual else { return Ok(None) };
        Ok(Some(mask(&residual.evaluate(rows)?.into_array(rows.num_rows())?)?))
    }

    /// A batch of one row of NULLs, at place 0 of each side's batches.
    fn padding(&self, side: usize) -> Result<RecordBatch> {
        let fields = self.inputs[side].fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let columns = schema.fields().iter().map(|field| arrow::array::new_null_array(field.data_type(), 1)).collect();
        batch_of(&schema, columns, 1)
    }

    /// A side's rows under the schema the padding has, so that both can be taken from together.
    fn nullable(&self, side: usize, rows: &RecordBatch) -> Result<RecordBatch> {
        let padding = self.padding(side)?;
        batch_of(&padding.schema(), rows.columns().to_vec(), rows.num_rows())
    }
}

/// Whether any key of a row is NULL.
fn has_null(columns: &[ArrayRef], row: usize) -> bool {
    columns.iter().any(|column| column.is_null(row))
}

impl OperatorFactory for Join {
    fn name(&self) -> &'static str {
        match self.bound {
            JoinBound::Window { .. } => "window-join",
            JoinBound::Interval { .. } => "interval-join",
            JoinBound::None => "join",
        }
    }

    fn describe(&self) -> String {
        let residual = self.residual.as_ref().map(|residual| format!(" and {residual}")).unwrap_or_default();
        format!("{:?} on {:?} = {:?}{residual}, {:?}", self.kind, self.keys[0], self.keys[1], self.bound)
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn output(&self, inputs: &[ChangelogMode]) -> Result<ChangelogMode> {
        let most = inputs.iter().copied().max().unwrap_or(ChangelogMode::Append);
        match (self.bound, most) {
            (_, ChangelogMode::Upsert) => {
                Err(Error::not_supported("a join of rows that are replaced by key without their old value"))
            }
            (JoinBound::None, ChangelogMode::Append) if self.kind == JoinKind::Inner => Ok(ChangelogMode::Append),
            (JoinBound::None, _) => Ok(ChangelogMode::Retract),
            (JoinBound::Window { .. } | JoinBound::Interval { .. }, ChangelogMode::Append) => Ok(ChangelogMode::Append),
            (JoinBound::Window { .. } | JoinBound::Interval { .. }, ChangelogMode::Retract) => {
                Err(Error::not_supported("a window or interval join of rows that are updated later"))
            }
        }
    }

    fn fingerprint(&self) -> Option<String> {
        let inputs = self.inputs.iter().map(|input| format!("{:?}", input.fields())).collect::<Vec<_>>();
        Some(format!("join 1: {} over {}", self.describe(), inputs.join(" and ")))
    }

    fn create(&self, context: &OperatorContext) -> Result<Box<dyn Operator>> {
        Spilling::create(self.clone(), context)
    }
}

impl Keyed for Join {
    fn tables(&self) -> &'static [&'static str] {
        &TABLES
    }

    fn key_groups(&self, input: usize, rows: &RecordBatch) -> Result<UInt16Array> {
        key_groups(&self.key_columns(input, rows), rows.num_rows())
    }

    fn holds_back(&self) -> i64 {
        match self.bound {
            // A pair, or a padded row, is as old as its older half.
            JoinBound::Interval { .. } => self.kept_for() / 2,
            JoinBound::Window { .. } | JoinBound::None => 0,
        }
    }

    fn in_memory(&self, context: &OperatorContext) -> Result<Box<dyn KeyedOperator>> {
        match self.bound {
            JoinBound::Window { ends } => Ok(Box::new(window::WindowJoin::new(self.clone(), ends)?)),
            JoinBound::Interval { .. } | JoinBound::None => {
                Ok(Box::new(stream::StreamJoin::new(self.clone(), context)?))
            }
        }
    }
}

#[cfg(test)]
mod tests;
