//! `ROW_NUMBER() OVER (..)` under a bound: Top-N and deduplication, per window or as a changelog.
//!
//! Invariant: the conditions above stay as they are; only a bound that the operator itself keeps is left out.

use arrow::compute::SortOptions;
use datafusion::{
    logical_expr::{Expr, Filter, Operator, SortExpr, Window, WindowFunctionDefinition, utils::split_conjunction},
    scalar::ScalarValue,
};
use headwater_engine::{
    connector::ChangelogMode,
    error::{Error, Result},
    graph::{Exchange, NodeKind, OperatorNode, Step},
    operator::OperatorFactory,
    operators::rank::{Rank, Ties},
};

use super::{
    facts::Facts,
    flow::{Flow, Lowering, arrow_schema, index_of, physical, unaliased},
    refused::unsupported,
    wavering,
};

/// What the way out of an unbounded rank is.
const HINT: &str = "number the rows in a subquery and keep the first N: WHERE rn <= 10";

impl Lowering {
    /// `filter` over `window`; `is_ranked` says whether anything above needs the number itself.
    pub(super) fn rank(&mut self, filter: &Filter, window: &Window, is_ranked: bool) -> Result<Flow> {
        let [call] = window.window_expr.as_slice() else {
            return Err(Error::not_supported("several window functions with OVER in one SELECT of a job")
                .with_hint("a job runs ROW_NUMBER() alone, with a bound: WHERE rn <= 10"));
        };
        let Expr::WindowFunction(function) = unaliased(call) else {
            return Err(Error::internal("a window node without a window function"));
        };
        let ties = match &function.fun {
            WindowFunctionDefinition::WindowUDF(udwf) if udwf.name() == "row_number" => Ties::InTurn,
            WindowFunctionDefinition::WindowUDF(udwf) if udwf.name() == "rank" => Ties::Alike,
            WindowFunctionDefinition::WindowUDF(udwf) if udwf.name() == "dense_rank" => Ties::Dense,
            other => {
                return Err(Error::not_supported(format!("{}() OVER (..) cannot run continuously", other.name()))
                    .with_hint("a job ranks with a bound (WHERE rn <= 10); aggregate over TABLE(TUMBLE(..)) instead"));
            }
        };
        let width = window.input.schema().fields().len();
        let conditions = split_conjunction(&filter.predicate);
        let bounds = conditions.iter().map(|one| upper_bound(one, width, window));
        let bounds = bounds.collect::<Result<Vec<_>>>()?;
        let Some(limit) = bounds.iter().flatten().map(|bound| bound.limit).min() else {
            return Err(Error::not_supported("ROW_NUMBER() without a bound cannot run continuously").with_hint(HINT));
        };
        let rest = conditions.iter().zip(&bounds).filter(|(_, bound)| bound.is_none_or(|one| !one.is_all_it_says));
        let rest: Vec<Expr> = rest.map(|(condition, _)| (*condition).clone()).collect();
        let uses = |expr: &Expr| {
            expr.column_refs().iter().any(|column| window.schema.index_of_column(column).is_ok_and(|at| at == width))
        };
        let is_ranked = is_ranked || rest.iter().any(uses);
        let params = &function.params;
        let mut flow = self.ranked(window, (&params.partition_by, &params.order_by), (limit, is_ranked, ties))?;
        for condition in rest {
            let predicate = physical(&condition, &window.schema)?;
            wavering::check("filter", [&predicate], &flow.facts)?;
            flow.steps.push(Step::Filter(predicate));
        }
        Ok(flow)
    }

    fn ranked(
        &mut self,
        window: &Window,
        (partition, order): (&[Expr], &[SortExpr]),
        (limit, is_ranked, ties): (usize, bool, Ties),
    ) -> Result<Flow> {
        let input = self.flow(&window.input)?;
        let input = self.assign(input)?;
        let width = input.schema.fields().len();
        let exprs: Vec<Expr> = partition.iter().cloned().chain(order.iter().map(|sort| sort.expr.clone())).collect();
        let (input, places, rows) = self.with_columns(input, &exprs)?;
        input.facts.check_columns()?;
        let (partition, sorted) = places.split_at(partition.len());
        let options = order.iter().map(|sort| SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first });
        let is_updated = input.facts.changes != ChangelogMode::Append;
        let window_end = input.facts.attached.map(|attached| attached.end).filter(|end| partition.contains(end));
        // A window that fires again has no last row.
        let window_end = window_end.filter(|_| !is_updated);
        if ties != Ties::InTurn && window_end.is_none() {
            let name = if ties == Ties::Dense { "dense_rank" } else { "rank" };
            return Err(unsupported(&format!("{name}() OVER (..) without a window"))
                .with_hint("partition it by window_start and window_end, or number the rows by ROW_NUMBER()"));
        }
        let rank_name = is_ranked.then(|| window.schema.field(width).name().clone());
        let operator = Rank {
            partition: partition.to_vec(),
            order: sorted.iter().copied().zip(options).collect(),
            limit,
            window_end,
            rank_name,
            ties,
            input: rows.clone(),
            ttl: self.ttl,
            is_updated,
        };
        let changes = operator.output(&[input.facts.changes])?;
        if window_end.is_none() {
            self.unbounded_state("ROW_NUMBER() without a window");
        }
        let mut facts = Facts::of(changes);
        facts.keys = match (limit, is_ranked) {
            _ if ties != Ties::InTurn => Vec::new(),
            (1, _) => vec![partition.to_vec()],
            (_, true) => vec![[partition, &[width]].concat()],
            (_, false) => Vec::new(),
        };
        facts.keys.retain(|key| key.iter().all(|column| *column <= width));
        facts.spread = vec![partition.to_vec()];
        if window_end.is_some() {
            facts.attached = input.facts.attached;
            facts.times.clone_from(&input.facts.times);
            facts.times.retain(|time| facts.attached.is_some_and(|w| *time == w.end || Some(*time) == w.time));
        }
        let exchange = if partition.is_empty() { Exchange::Single } else { Exchange::Hash(partition.to_vec()) };
        let (what, behind) = (operator.name(), rows.fields().len());
        let from = self.input(input, exchange, rows, None)?;
        let node = OperatorNode { inputs: vec![from], operator: std::sync::Arc::new(operator) };
        let id = self.add(what, NodeKind::Operator(node));
        let mut flow = Flow::of_node(id, &window.schema, facts);
        // The columns of the plan: the input's own, then the number, which nothing reads if it is not there.
        let number = is_ranked.then_some(behind);
        flow.pick((0..width).map(Some).chain([number]), &arrow_schema(&window.schema))?;
        Ok(flow)
    }
}

/// What a condition says about the number of a row.
#[derive(Debug, Clone, Copy)]
struct Bound {
    limit: usize,
    is_all_it_says: bool,
}

/// `rn <= 3`, `rn < 4`, `rn = 1`, and the same turned round.
fn upper_bound(condition: &Expr, rank: usize, window: &Window) -> Result<Option<Bound>> {
    let Expr::BinaryExpr(binary) = condition else { return Ok(None) };
    let is_rank = |expr: &Expr| index_of(uncast(expr), &window.schema).is_ok_and(|index| index == rank);
    let (op, value) = match (is_rank(&binary.left), is_rank(&binary.right)) {
        (true, false) => (binary.op, &binary.right),
        (false, true) => (binary.op.swap().unwrap_or(binary.op), &binary.left),
        _ => return Ok(None),
    };
    let Expr::Literal(literal, _) = uncast(value) else { return Ok(None) };
    let ScalarValue::Int64(Some(number)) = literal.cast_to(&arrow::datatypes::DataType::Int64)? else {
        return Ok(None);
    };
    let (limit, is_all_it_says) = match op {
        Operator::LtEq => (number, true),
        Operator::Lt => (number.saturating_sub(1), true),
        Operator::Eq => (number, number == 1),
        _ => return Ok(None),
    };
    if limit < 1 {
        return Err(Error::user("INVALID_FUNCTION_ARGUMENT", "the bound of ROW_NUMBER() keeps no row").with_hint(HINT));
    }
    Ok(usize::try_from(limit).ok().map(|limit| Bound { limit, is_all_it_says }))
}

fn uncast(expr: &Expr) -> &Expr {
    match unaliased(expr) {
        Expr::Cast(cast) => uncast(&cast.expr),
        other => other,
    }
}
