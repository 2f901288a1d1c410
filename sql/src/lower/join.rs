//! Joins: within windows, within an interval of event time, without bound as a changelog, and with a bounded table.
//!
//! ```text
//!  one side reads tables that end, or that answer for keys .... lookup
//!  both sides carry windows, and their ends are equal ........ window join: comes out when the window has ended
//!  l.ts between r.ts - a and r.ts + b, event times ........... interval join: rows wait no longer than that
//!  equal keys and nothing else ............................... changelog: rows wait for ever
//! ```
//!
//! Invariant: which kind is chosen changes how long rows are kept, never which pairs there are.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::{
    common::{
        JoinType, NullEquality,
        tree_node::{Transformed, TreeNode},
    },
    logical_expr::{
        Expr, Join as JoinPlan, Operator,
        utils::{conjunction, split_conjunction_owned},
    },
    physical_expr::{PhysicalExpr, expressions::Column},
    scalar::ScalarValue,
};
use headwater_engine::{
    connector::ChangelogMode,
    error::{Error, Result},
    graph::{Exchange, Lateness, NodeKind, OperatorNode},
    operator::OperatorFactory,
    operators::join::{Join, JoinBound, JoinKind},
};

use super::{
    facts::{Facts, is_bounded},
    flow::{Flow, Lowering, arrow_schema, index_of, physical, unaliased},
    wavering,
};
use crate::kernels::{self, Arithmetic, Op};

/// A join's condition, taken apart.
#[derive(Debug, Default)]
pub(super) struct Condition {
    /// Pairs that are equal: an expression over the left, one over the right.
    pub(super) equal: Vec<(Expr, Expr)>,
    /// Everything else.
    pub(super) rest: Vec<Expr>,
}

/// One side, ready to be an input.
pub(super) struct Side {
    pub(super) flow: Flow,
    /// Columns of the plan.
    pub(super) width: usize,
    /// Where the keys are in the rows.
    pub(super) keys: Vec<usize>,
    /// The rows: the plan's columns, then computed keys.
    pub(super) rows: SchemaRef,
}

impl Lowering {
    pub(super) fn join(&mut self, join: &JoinPlan) -> Result<Flow> {
        let kind = kind(join)?;
        if join.null_equality == NullEquality::NullEqualsNull {
            return Err(Error::not_supported("a join of streams by IS NOT DISTINCT FROM")
                .with_hint("join by =, with coalesce(key, ..) where NULLs are to match"));
        }
        let condition = condition(join)?;
        match looked_up(join) {
            Some(table) => self.lookup(join, kind, &condition, 1 - table),
            None => self.stream_join(join, kind, &condition),
        }
    }

    fn stream_join(&mut self, join: &JoinPlan, kind: JoinKind, condition: &Condition) -> Result<Flow> {
        if condition.equal.is_empty() {
            return Err(Error::not_supported("a join of streams without an equality cannot run continuously")
                .with_hint("join ON a.key = b.key; further conditions may follow"));
        }
        let (left, right): (Vec<Expr>, Vec<Expr>) = condition.equal.iter().cloned().unzip();
        let sides = [self.side(&join.left, &left)?, self.side(&join.right, &right)?];
        let bound = bound(&sides, condition);
        let residual = match conjunction(condition.rest.iter().cloned()) {
            Some(rest) => Some(behind(&physical(&rest, &join.schema)?, &|index| match index < sides[0].width {
                true => index,
                false => index - sides[0].width + sides[0].rows.fields().len(),
            })?),
            None => None,
        };
        // Rows that are taken back are found as wholes, and the condition sees both sides' rows.
        let changes = sides[0].flow.facts.changes.max(sides[1].flow.facts.changes);
        wavering::check("condition", &residual, &Facts::of(changes))?;
        sides.iter().try_for_each(|side| side.flow.facts.check_columns())?;
        let keys = [sides[0].keys.clone(), sides[1].keys.clone()];
        let inputs = [Arc::clone(&sides[0].rows), Arc::clone(&sides[1].rows)];
        let operator = Join::new(kind, bound, keys, residual, inputs)?.with_ttl(self.ttl);
        let changes = operator.output(&[sides[0].flow.facts.changes, sides[1].flow.facts.changes])?;
        if bound == JoinBound::None {
            self.unbounded_state("a join of streams without a window or interval");
        }
        let facts = joined_facts(&sides, kind, bound, changes);
        let widths = [0, 1].map(|side| (sides[side].width, sides[side].rows.fields().len()));
        let lateness = matches!(bound, JoinBound::Interval { .. }).then_some(Lateness::EventTime);
        let mut inputs = Vec::with_capacity(2);
        for side in sides {
            inputs.push(self.input(side.flow, Exchange::Hash(side.keys), side.rows, lateness)?);
        }
        let what = operator.name();
        let node = OperatorNode { inputs, operator: Arc::new(operator) };
        let id = self.add(what, NodeKind::Operator(node));
        let mut flow = Flow::of_node(id, &join.schema, facts);
        let [(left, left_rows), (right, _)] = widths;
        flow.pick((0..left).chain(left_rows..left_rows + right).map(Some), &arrow_schema(&join.schema))?;
        Ok(flow)
    }

    pub(super) fn side(&mut self, plan: &datafusion::logical_expr::LogicalPlan, keys: &[Expr]) -> Result<Side> {
        let flow = self.flow(plan)?;
        flow.settled("a join of")?;
        let flow = self.assign(flow)?;
        let width = flow.schema.fields().len();
        let (flow, keys, rows) = self.with_columns(flow, keys)?;
        Ok(Side { flow, width, keys, rows })
    }
}

/// Which side of a join is a bounded table that rows of the other one look up. A side whose rows come out without a match
/// is none, since those change as the stream goes on.
pub(super) fn looked_up(join: &JoinPlan) -> Option<usize> {
    match join.join_type {
        JoinType::Inner | JoinType::Left if is_bounded(&join.right) => Some(1),
        JoinType::Inner | JoinType::Right if is_bounded(&join.left) => Some(0),
        _ => None,
    }
}

fn kind(join: &JoinPlan) -> Result<JoinKind> {
    Ok(match join.join_type {
        JoinType::Inner => JoinKind::Inner,
        JoinType::Left => JoinKind::Left,
        JoinType::Right => JoinKind::Right,
        JoinType::Full => JoinKind::Full,
        JoinType::LeftSemi
        | JoinType::RightSemi
        | JoinType::LeftAnti
        | JoinType::RightAnti
        | JoinType::LeftMark
        | JoinType::RightMark => {
            return Err(Error::not_supported(
                "IN, EXISTS, INTERSECT and EXCEPT over unbounded tables cannot run continuously",
            )
            .with_hint(
                "join by equal keys with SELECT DISTINCT of the other side; for NOT EXISTS keep the rows of a \
                        LEFT JOIN whose other side IS NULL",
            ));
        }
    })
}

/// Takes a join's condition apart: equalities between the sides, and the rest.
pub(super) fn condition(join: &JoinPlan) -> Result<Condition> {
    let mut found = Condition { equal: join.on.clone(), rest: Vec::new() };
    for one in join.filter.iter().cloned().flat_map(split_conjunction_owned) {
        let Expr::BinaryExpr(binary) = &one else {
            found.rest.push(one);
            continue;
        };
        let of = |expr: &Expr, side: usize| {
            let schema = if side == 0 { join.left.schema() } else { join.right.schema() };
            let columns = expr.column_refs();
            !columns.is_empty() && columns.iter().all(|column| schema.has_column(column))
        };
        let (a, b) = (binary.left.as_ref().clone(), binary.right.as_ref().clone());
        match binary.op {
            Operator::Eq if of(&a, 0) && of(&b, 1) => found.equal.push((a, b)),
            Operator::Eq if of(&a, 1) && of(&b, 0) => found.equal.push((b, a)),
            _ => found.rest.push(one),
        }
    }
    Ok(found)
}

/// An expression over rows whose columns stand elsewhere.
pub(super) fn behind(expr: &Arc<dyn PhysicalExpr>, place: &dyn Fn(usize) -> usize) -> Result<Arc<dyn PhysicalExpr>> {
    let moved = Arc::clone(expr).transform_up(|node| {
        Ok(match node.downcast_ref::<Column>() {
            Some(column) => {
                let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(column.name(), place(column.index())));
                Transformed::yes(column)
            }
            None => Transformed::no(node),
        })
    })?;
    Ok(moved.data)
}

/// How long rows wait for each other.
fn bound(sides: &[Side; 2], condition: &Condition) -> JoinBound {
    let [left, right] = [0, 1].map(|side| &sides[side].flow.facts);
    if let (Some(a), Some(b)) = (left.attached, right.attached) {
        let pairs: Vec<(usize, usize)> = sides[0].keys.iter().copied().zip(sides[1].keys.iter().copied()).collect();
        if pairs.contains(&(a.end, b.end)) && pairs.contains(&(a.start, b.start)) {
            return JoinBound::Window { ends: [a.end, b.end] };
        }
    }
    let append = [left, right].iter().all(|facts| facts.changes == ChangelogMode::Append);
    if !append {
        return JoinBound::None;
    }
    for l in &left.times {
        for r in &right.times {
            if let (Some(lower), Some(upper)) = differences(sides, condition, (*l, *r)) {
                return JoinBound::Interval { times: [*l, *r], lower, upper };
            }
        }
    }
    JoinBound::None
}

/// The least and greatest `right - left` of two time columns that a condition allows, in microseconds.
fn differences(sides: &[Side; 2], condition: &Condition, times: (usize, usize)) -> (Option<i64>, Option<i64>) {
    let (mut lower, mut upper): (Option<i64>, Option<i64>) = (None, None);
    let mut at_least = |value: i64| lower = Some(lower.map_or(value, |known| known.max(value)));
    let mut at_most = |value: i64| upper = Some(upper.map_or(value, |known| known.min(value)));
    let shifted = |expr: &Expr, side: usize| {
        let (column, shift) = shift(expr)?;
        let time = if side == 0 { times.0 } else { times.1 };
        (index_of(column, &sides[side].flow.schema).ok() == Some(time)).then_some(shift)
    };
    let pairs = condition.equal.iter().map(|(a, b)| (a, Operator::Eq, b));
    let others = condition.rest.iter().filter_map(|one| match one {
        Expr::BinaryExpr(binary) => Some((binary.left.as_ref(), binary.op, binary.right.as_ref())),
        _ => None,
    });
    for (a, op, b) in pairs.chain(others) {
        let (op, of_left, of_right) = match (shifted(a, 0), shifted(b, 1), shifted(b, 0), shifted(a, 1)) {
            (Some(left), Some(right), ..) => (op, left, right),
            (_, _, Some(left), Some(right)) => (op.swap().unwrap_or(op), left, right),
            _ => continue,
        };
        // left + a <= right + b  <=>  right - left >= a - b
        let difference = of_left.saturating_sub(of_right);
        match op {
            Operator::LtEq | Operator::Lt => at_least(difference),
            Operator::GtEq | Operator::Gt => at_most(difference),
            Operator::Eq => {
                at_least(difference);
                at_most(difference);
            }
            _ => {}
        }
    }
    (lower, upper)
}

/// A column, shifted by a constant number of microseconds.
fn shift(expr: &Expr) -> Option<(&Expr, i64)> {
    let expr = unaliased(expr);
    if matches!(expr, Expr::Column(_)) {
        return Some((expr, 0));
    }
    let (kind, Expr::ScalarFunction(function)) = (kernels::op_of(expr)?, expr) else { return None };
    let [a, b] = function.args.as_slice() else { return None };
    let (column, micros, sign) = match kind {
        Op::Arithmetic(Arithmetic::Add, ..) => match micros(b) {
            Some(micros) => (a, micros, 1),
            None => (b, micros(a)?, 1),
        },
        Op::Arithmetic(Arithmetic::Subtract, ..) => (a, micros(b)?, -1),
        _ => return None,
    };
    matches!(unaliased(column), Expr::Column(_)).then(|| (unaliased(column), micros.saturating_mul(sign)))
}

fn micros(expr: &Expr) -> Option<i64> {
    match unaliased(expr) {
        Expr::Literal(ScalarValue::DurationMillisecond(Some(millis)), _) => millis.checked_mul(1000),
        _ => None,
    }
}

/// What is known of joined rows.
fn joined_facts(sides: &[Side; 2], kind: JoinKind, bound: JoinBound, changes: ChangelogMode) -> Facts {
    let width = sides[0].width;
    let shift = |side: usize, columns: &[usize]| -> Option<Vec<usize>> {
        let known = columns.iter().all(|column| *column < sides[side].width);
        known.then(|| columns.iter().map(|column| if side == 0 { *column } else { column + width }).collect())
    };
    let is_padded = |side: usize| kind.keeps(1 - side);
    let mut facts = Facts::of(changes);
    let own: Vec<usize> = (0..2).filter(|side| !is_padded(*side)).collect();
    for side in &own {
        let of = &sides[*side].flow.facts;
        match bound {
            JoinBound::Window { .. } => {
                let place = |column: usize| Some(if *side == 0 { column } else { column + width });
                let moved = of.moved(&place, &place);
                facts.attached = facts.attached.or(moved.attached);
                facts
                    .times
                    .extend(moved.attached.into_iter().flat_map(|window| [Some(window.end), window.time]).flatten());
            }
            JoinBound::Interval { times, .. } => {
                facts.times.extend(shift(*side, &[times[*side]]).into_iter().flatten())
            }
            JoinBound::None => {}
        }
        facts.spread.extend(shift(*side, &sides[*side].keys));
    }
    facts.keys = joined_keys(sides, kind, &shift);
    // Rows that are only added stay where their pair was made.
    if sides.iter().all(|side| side.flow.facts.changes == ChangelogMode::Append) {
        facts.spread.extend(facts.keys.clone());
    }
    facts
}

type Shift<'a> = &'a dyn Fn(usize, &[usize]) -> Option<Vec<usize>>;

/// Sets of columns that name a pair: one side's key alone where the other side has at most one row for it.
fn joined_keys(sides: &[Side; 2], kind: JoinKind, shift: Shift<'_>) -> Vec<Vec<usize>> {
    let mut keys = Vec::new();
    let facts = [0, 1].map(|side| &sides[side].flow.facts);
    for side in 0..2 {
        let is_single = facts[1 - side].is_unique(&sides[1 - side].keys);
        if is_single && !kind.keeps(1 - side) {
            keys.extend(facts[side].keys.iter().filter_map(|key| shift(side, key)));
            // An inner pair has the same values in both sides' keys.
            if kind == JoinKind::Inner {
                let swapped = |column: &usize| {
                    let place = sides[side].keys.iter().position(|key| key == column)?;
                    shift(1 - side, &sides[1 - side].keys[place..=place])?.first().copied()
                };
                keys.extend(
                    facts[side].keys.iter().filter_map(|key| key.iter().map(swapped).collect::<Option<Vec<_>>>()),
                );
            }
        }
    }
    for left in facts[0].keys.iter().filter_map(|key| shift(0, key)) {
        for right in facts[1].keys.iter().filter_map(|key| shift(1, key)) {
            keys.push([left.as_slice(), &right].concat());
        }
    }
    keys
}
