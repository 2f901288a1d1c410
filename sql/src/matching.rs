//! MATCH_RECOGNIZE: row patterns over ordered partitions, in batch.
//!
//! ```text
//!  pattern text --pattern--> program --matcher--> matches of a partition --measures--> rows
//!                                         ^ DEFINE: whole columns where a condition only looks at fixed distances,
//!                                           else one row at a time
//! ```
//!
//! Invariant: the match found is the one a backtracking search in the pattern's order of preference finds first.

use std::{cmp::Ordering, fmt, hash::Hash, sync::Arc};

use arrow::datatypes::SchemaRef;
use datafusion::{
    common::{DFSchema, DFSchemaRef},
    error::{DataFusionError, Result as PlanResult},
    logical_expr::{Expr, LogicalPlan, SortExpr, UserDefinedLogicalNodeCore},
    physical_expr::aggregate::AggregateFunctionExpr,
};
use headwater_engine::error::Result;

use crate::{functions::lambda::Closed, types::Type};

mod exec;
mod matcher;
mod measures;
pub mod pattern;
mod planner;
mod values;

pub use pattern::Program;

/// Which rows a match gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowsPerMatch {
    /// One for the match.
    One,
    /// Each row of it.
    All {
        /// Matches without rows give their first row.
        empty: bool,
        /// Rows outside of matches are given too.
        unmatched: bool,
    },
}

/// Where the search goes on after a match.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Skip {
    /// After its last row.
    PastLast,
    /// At the row after its first.
    ToNext,
    /// At the first (`true`) or last row with one of these labels.
    To(bool, Vec<u16>),
}

/// Which end of a match positions count from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Anchor {
    /// From its first row on.
    First,
    /// From its last row back.
    Last,
}

/// The row of a match that a value is taken from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Navigation {
    /// Rows with one of these labels count; none named: all rows.
    pub labels: Vec<u16>,
    /// Where to count from.
    pub anchor: Anchor,
    /// How many such rows to pass over.
    pub offset: usize,
    /// How many rows of the partition to go on from there.
    pub physical: i64,
    /// Whether the whole match counts, not only the rows up to the current one.
    pub whole: bool,
}

/// What a slot of an expression holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SlotKind {
    /// A column of the input at a row of the match.
    Column(String, Navigation),
    /// The label of a row of the match.
    Classifier(Navigation),
    /// The number of the match.
    MatchNumber,
    /// An aggregate, by its place among all, over the rows of these labels; `true`: of the whole match.
    Aggregate(usize, Vec<u16>, bool),
    /// A column with one value in all rows.
    Constant(String),
}

/// A value an expression is computed from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Where it comes from.
    pub kind: SlotKind,
    /// Its type.
    pub data_type: Type,
}

/// An expression over slots: each is an input of the compiled expression.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Computed {
    /// The expression.
    pub body: Closed,
    /// Its inputs, in order.
    pub slots: Vec<Slot>,
}

/// An argument, filter or sort key of an aggregate, over the classifier, the match number and columns of the input.
pub type Input = Closed;

/// An aggregate over rows of a match.
#[derive(Debug, Clone)]
pub struct Aggregate {
    /// The function, over columns that are its arguments and sort keys.
    pub function: Arc<AggregateFunctionExpr>,
    /// Arguments, then sort keys.
    pub inputs: Vec<Input>,
    /// Which rows count.
    pub filter: Option<Input>,
    /// How the call looks.
    pub text: String,
}

/// A column of the result.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Output {
    /// A column of the input.
    Input(String),
    /// A measure, by its place.
    Measure(usize),
}

/// All of a MATCH_RECOGNIZE but its input, partitions and order.
#[derive(Debug)]
pub struct MatchSpec {
    /// Names of the labels.
    pub labels: Vec<Arc<str>>,
    /// The compiled pattern.
    pub program: Program,
    /// The condition of each label; without one every row fits.
    pub defines: Vec<Option<Computed>>,
    /// Measures.
    pub measures: Vec<Computed>,
    /// Aggregates of conditions and measures.
    pub aggregates: Vec<Aggregate>,
    /// Columns of the result.
    pub output: Vec<Output>,
    /// Which rows a match gives.
    pub rows: RowsPerMatch,
    /// Where the search goes on.
    pub skip: Skip,
    /// How the pattern was written.
    pub text: String,
}

/// MATCH_RECOGNIZE in a plan.
#[derive(Debug, Clone)]
pub struct MatchNode {
    /// Where the rows come from.
    pub input: LogicalPlan,
    /// Columns that divide the rows.
    pub partition_by: Vec<Expr>,
    /// Order within a partition.
    pub order_by: Vec<SortExpr>,
    /// The rest.
    pub spec: Arc<MatchSpec>,
    schema: DFSchemaRef,
}

impl MatchNode {
    /// A node whose result has this schema.
    pub fn try_new(
        input: LogicalPlan,
        partition_by: Vec<Expr>,
        order_by: Vec<SortExpr>,
        spec: Arc<MatchSpec>,
        schema: &SchemaRef,
    ) -> Result<Self> {
        let schema = Arc::new(DFSchema::try_from(schema.as_ref().clone())?);
        Ok(Self { input, partition_by, order_by, spec, schema })
    }
}

impl PartialEq for MatchNode {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.spec, &other.spec)
            && self.input == other.input
            && self.partition_by == other.partition_by
            && self.order_by == other.order_by
    }
}

impl Eq for MatchNode {}

impl Hash for MatchNode {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        self.spec.text.hash(state);
    }
}

impl PartialOrd for MatchNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.input.partial_cmp(&other.input)
    }
}

impl UserDefinedLogicalNodeCore for MatchNode {
    fn name(&self) -> &'static str {
        "MatchRecognize"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.partition_by.iter().cloned().chain(self.order_by.iter().map(|sort| sort.expr.clone())).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MatchRecognize: pattern ({})", self.spec.text)
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> PlanResult<Self> {
        let Some(input) = inputs.into_iter().next() else {
            return Err(DataFusionError::Internal("MATCH_RECOGNIZE has an input".to_owned()));
        };
        let mut exprs = exprs.into_iter();
        let partition_by = exprs.by_ref().take(self.partition_by.len()).collect();
        let order_by = exprs
            .zip(&self.order_by)
            .map(|(expr, sort)| SortExpr { expr, asc: sort.asc, nulls_first: sort.nulls_first })
            .collect();
        Ok(Self { input, partition_by, order_by, spec: Arc::clone(&self.spec), schema: Arc::clone(&self.schema) })
    }
}
