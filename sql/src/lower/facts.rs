//! What is known about the rows of a flow beside their columns: how they change, which columns are event times, which
//! are keys. All columns are indexes into the plan's schema of the flow.
//!
//! Invariant: a fact that cannot be shown is absent; nothing here is a guess.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::DataType};
use datafusion::{
    common::{DFSchema, ScalarValue},
    logical_expr::{Expr, LogicalPlan},
};
use headwater_engine::connector::ChangelogMode;

use super::{
    flow::{index_of, physical, unaliased},
    wavering::Wavering,
};
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
    /// Columns that have the time at which a row was read, beside the event time of its table.
    pub(super) clocks: Vec<usize>,
    /// Sets of columns, each of which names one row at most.
    pub(super) keys: Vec<Vec<usize>>,
    /// Sets of columns: rows that agree on one of them are on one task.
    pub(super) spread: Vec<Vec<usize>>,
    /// Columns that have one of a few values, none of them NULL.
    pub(super) values: Vec<(usize, Vec<ScalarValue>)>,
    /// Branches of sources that reach here through stateless operators only.
    pub(super) feeds: Vec<(usize, usize)>,
    /// Columns whose values are others when a row is taken back.
    pub(super) wavering: Vec<Wavering>,
}

impl Facts {
    /// Rows that are only added, about which nothing else is known.
    pub(super) fn append() -> Self {
        Self::of(ChangelogMode::Append)
    }

    pub(super) fn of(changes: ChangelogMode) -> Self {
        let (times, keys, spread, values, feeds) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (clocks, wavering) = (Vec::new(), Vec::new());
        Self { changes, attached: None, times, clocks, keys, spread, values, feeds, wavering }
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
        let wavers = |known: &Wavering| Some(Wavering { column: exact(known.column)?, shown: known.shown.clone() });
        Self {
            changes: self.changes,
            attached: self.attached.and_then(window),
            times: self.times.iter().filter_map(|column| exact(*column)).collect(),
            clocks: self.clocks.iter().filter_map(|column| exact(*column)).collect(),
            keys: sets(&self.keys),
            spread: sets(&self.spread),
            values: Vec::new(),
            feeds: self.feeds.clone(),
            wavering: self.wavering.iter().filter_map(wavers).collect(),
        }
    }

    /// The facts behind expressions over these columns.
    pub(super) fn projected(&self, exprs: &[Expr], schema: &DFSchema) -> Self {
        let place = |of: &dyn Fn(&Expr) -> Option<usize>, column: usize| {
            exprs.iter().position(|expr| of(unaliased(expr)) == Some(column))
        };
        let exact = |expr: &Expr| index_of(expr, schema).ok();
        let same = |expr: &Expr| index_of(distinct_value(expr, schema), schema).ok();
        let values: Vec<Option<(Option<usize>, Vec<ScalarValue>)>> =
            exprs.iter().map(|expr| self.values_of(unaliased(expr), schema)).collect();
        let told_apart = |column: usize| {
            let known = self.values.iter().find(|(known, _)| *known == column).map_or(0, |(_, known)| known.len());
            values.iter().position(|values| {
                let of_column = values.as_ref().filter(|(from, _)| *from == Some(column));
                of_column.is_some_and(|(_, values)| known > 0 && all_differ(values))
            })
        };
        let found = |column| place(&exact, column).or_else(|| place(&same, column)).or_else(|| told_apart(column));
        let mut facts = self.moved(&|column| place(&exact, column), &found);
        let few = (0..).zip(values).filter_map(|(place, values)| Some((place, values?.1)));
        facts.values = few.collect();
        facts
    }

    /// The column an expression is computed from, with its value for each of the column's, where these are few.
    fn values_of(&self, expr: &Expr, schema: &DFSchema) -> Option<(Option<usize>, Vec<ScalarValue>)> {
        let columns = expr.column_refs();
        let mut columns = columns.iter();
        let (from, rows) = match (columns.next(), columns.next(), expr) {
            (None, _, Expr::Literal(value, _)) => return (!value.is_null()).then(|| (None, vec![value.clone()])),
            (Some(column), None, _) if !expr.is_volatile() => {
                let index = schema.index_of_column(column).ok()?;
                let (_, known) = self.values.iter().find(|(column, _)| *column == index)?;
                let (qualifier, field) = schema.qualified_field(index);
                let fields = vec![(qualifier.cloned(), Arc::clone(field))];
                let alone = DFSchema::new_with_metadata(fields, Default::default()).ok()?;
                let array = ScalarValue::iter_to_array(known.iter().cloned()).ok()?;
                let rows = RecordBatch::try_new(Arc::clone(alone.inner()), vec![array]).ok()?;
                (index, (alone, rows))
            }
            _ => return None,
        };
        let (schema, rows) = rows;
        let found = physical(expr, &schema).ok()?.evaluate(&rows).ok()?.into_array(rows.num_rows()).ok()?;
        let values =
            (0..found.len()).map(|row| ScalarValue::try_from_array(&found, row)).collect::<Result<Vec<_>, _>>();
        values.ok().filter(|values| !values.iter().any(ScalarValue::is_null)).map(|values| (Some(from), values))
    }

    /// The facts about rows of several flows that a column tells apart.
    pub(super) fn told_apart(parts: &[Facts]) -> Option<Self> {
        let mut candidates = parts.first()?.values.iter().map(|(column, _)| *column);
        let values = |column: usize| -> Option<Vec<ScalarValue>> {
            let of =
                |part: &Facts| part.values.iter().find(|(own, _)| *own == column).map(|(_, values)| values.clone());
            let all: Vec<ScalarValue> = parts.iter().map(of).collect::<Option<Vec<_>>>()?.concat();
            all_differ(&all).then_some(all)
        };
        let (column, values) = candidates.find_map(|column| Some((column, values(column)?)))?;
        let together = |sets: &dyn Fn(&Facts) -> Option<Vec<usize>>| -> Vec<Vec<usize>> {
            let Some(sets) = parts.iter().map(sets).collect::<Option<Vec<_>>>() else { return Vec::new() };
            let mut set = [sets.concat(), vec![column]].concat();
            set.sort_unstable();
            set.dedup();
            vec![set]
        };
        let keys = together(&|part| part.keys.iter().min_by_key(|key| key.len()).cloned());
        let spread = together(&|part| part.spread.iter().min_by_key(|set| set.len()).cloned());
        Some(Self { keys, spread, values: vec![(column, values)], ..Self::append() })
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

/// Whether no value is another one, as keys are compared: -0.0 is 0.0.
fn all_differ(values: &[ScalarValue]) -> bool {
    let value_of = |value: &ScalarValue| match value {
        ScalarValue::Float64(Some(number)) if *number == 0.0 => ScalarValue::Float64(Some(0.0)),
        ScalarValue::Float32(Some(number)) if *number == 0.0 => ScalarValue::Float32(Some(0.0)),
        other => other.clone(),
    };
    let values: Vec<ScalarValue> = values.iter().map(value_of).collect();
    let plain = !values.iter().any(|value| value.data_type().is_nested());
    plain && values.iter().enumerate().all(|(place, value)| !values[..place].contains(value))
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
