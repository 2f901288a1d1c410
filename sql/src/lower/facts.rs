//! What is known about the rows of a flow beside their columns: how they change, which columns are event times, which
//! are keys. All columns are indexes into the plan's schema of the flow.
//!
//! Invariant: a fact that cannot be shown is absent; nothing here is a guess.

use arrow::datatypes::DataType;
use datafusion::{
    common::DFSchema,
    logical_expr::{Expr, LogicalPlan},
};
use headwater_engine::connector::ChangelogMode;

use super::flow::{index_of, unaliased};
use crate::{
    kernels::{self, Op},
    types::Type,
};

/// Where the window of a row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attached {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) time: Option<usize>,
}

/// Facts about a flow.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// Which changes the rows are.
    pub(super) changes: ChangelogMode,
    /// Where `window_start` and `window_end` of an operator below stand: rows come before the watermark reaches the end.
    pub(super) attached: Option<Attached>,
    /// Columns below which no value comes any more once the watermark has passed it.
    pub(super) times: Vec<usize>,
    /// Sets of columns, each of which names one row at most.
    pub(super) keys: Vec<Vec<usize>>,
    /// Sets of columns: rows that agree on one of them are on one task.
    pub(super) spread: Vec<Vec<usize>>,
    /// Branches of sources that reach here through stateless operators only.
    pub(super) feeds: Vec<(usize, usize)>,
}

impl Facts {
    /// Rows that are only added, about which nothing else is known.
    pub(super) fn append() -> Self {
        Self::of(ChangelogMode::Append)
    }

    pub(super) fn of(changes: ChangelogMode) -> Self {
        Self { changes, attached: None, times: Vec::new(), keys: Vec::new(), spread: Vec::new(), feeds: Vec::new() }
    }

    /// The facts after columns have moved; `same` also finds a column whose values are told apart in another type.
    pub(super) fn moved(&self, exact: &dyn Fn(usize) -> Option<usize>, same: &dyn Fn(usize) -> Option<usize>) -> Self {
        let window = |attached: Attached| {
            let (start, end) = (exact(attached.start)?, exact(attached.end)?);
            Some(Attached { start, end, time: attached.time.and_then(exact) })
        };
        let sets = |sets: &[Vec<usize>]| -> Vec<Vec<usize>> {
            sets.iter().filter_map(|set| set.iter().map(|column| same(*column)).collect()).collect()
        };
        Self {
            changes: self.changes,
            attached: self.attached.and_then(window),
            times: self.times.iter().filter_map(|column| exact(*column)).collect(),
            keys: sets(&self.keys),
            spread: sets(&self.spread),
            feeds: self.feeds.clone(),
        }
    }

    /// The facts behind expressions over these columns.
    pub(super) fn projected(&self, exprs: &[Expr], schema: &DFSchema) -> Self {
        let place = |of: &dyn Fn(&Expr) -> Option<usize>, column: usize| {
            exprs.iter().position(|expr| of(unaliased(expr)) == Some(column))
        };
        let exact = |expr: &Expr| index_of(expr, schema).ok();
        let same = |expr: &Expr| index_of(distinct_value(expr, schema), schema).ok();
        self.moved(&|column| place(&exact, column), &|column| place(&exact, column).or_else(|| place(&same, column)))
    }

    /// Whether a set of columns names one row at most.
    pub(super) fn is_key(&self, columns: &[usize]) -> bool {
        self.keys.iter().any(|key| is_subset(key, columns) && is_subset(columns, key))
    }

    /// Whether at most one row agrees with given values of these columns.
    pub(super) fn is_unique(&self, columns: &[usize]) -> bool {
        self.keys.iter().any(|key| is_subset(key, columns))
    }

    /// Whether rows that agree on these columns are on one task.
    pub(super) fn is_together(&self, columns: &[usize]) -> bool {
        self.spread.iter().any(|set| is_subset(set, columns))
    }
}

pub(super) fn is_subset(small: &[usize], large: &[usize]) -> bool {
    small.iter().all(|column| large.contains(column))
}

/// What an expression is a copy of in a wider type, so that different values stay different.
fn distinct_value<'e>(expr: &'e Expr, schema: &DFSchema) -> &'e Expr {
    match expr {
        // The number of a row, which is far below the limit of a `bigint`.
        Expr::Cast(cast) => match index_of(&cast.expr, schema).map(|index| schema.field(index).data_type()) {
            Ok(DataType::UInt64) if *cast.field.data_type() == DataType::Int64 => unaliased(&cast.expr),
            _ => expr,
        },
        Expr::ScalarFunction(function) => match (kernels::op_of(expr), function.args.as_slice()) {
            (Some(Op::Cast { from, to, .. }), [inner]) if is_wider(from, to) => {
                distinct_value(unaliased(inner), schema)
            }
            _ => expr,
        },
        _ => expr,
    }
}

fn is_wider(from: &Type, to: &Type) -> bool {
    let rank = |of: &Type| match of {
        Type::Tinyint => Some(1),
        Type::Smallint => Some(2),
        Type::Integer => Some(3),
        Type::Bigint => Some(4),
        _ => None,
    };
    match (from, to) {
        (Type::Varchar(_), Type::Varchar(None)) => true,
        (Type::Timestamp(a), Type::Timestamp(b)) => a <= b,
        _ => rank(from).zip(rank(to)).is_some_and(|(a, b)| a <= b),
    }
}

/// Whether a plan reads only tables that a join looks up.
pub(super) fn is_bounded(plan: &LogicalPlan) -> bool {
    use datafusion::{catalog::default_table_source::source_as_provider, common::tree_node::TreeNodeRecursion};
    let mut bounded = true;
    let walked = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let ends = |provider| super::aside::read_table(&provider).is_none_or(|(table, _)| table.is_looked_up());
            bounded &= source_as_provider(&scan.source).is_ok_and(ends);
        }
        Ok(if bounded { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    bounded && walked.is_ok()
}
