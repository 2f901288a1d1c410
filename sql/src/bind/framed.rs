//! Window calls whose frame or offset is told by a column.
//!
//! Invariant: what a row tells is an argument of the call, so it is evaluated where the row is.

use arrow::compute::SortOptions;
use datafusion::{
    logical_expr::{Expr, SortExpr, WindowFunctionDefinition, lit},
    sql::sqlparser::ast,
};
use headwater_engine::error::{Error, Result};

use super::{Binder, Value, calls::Call, scope::Context};
use crate::{
    frames::{Edge, Frame, Framed, Units, What},
    kernels::Arithmetic,
    types::{Type, common},
};

/// A window call with its window.
pub(crate) struct WindowCall<'c> {
    pub(crate) call: &'c Call<'c>,
    pub(crate) function: WindowFunctionDefinition,
    pub(crate) args: Vec<Value>,
    pub(crate) data_type: Type,
    pub(crate) frame: Option<&'c ast::WindowFrame>,
    pub(crate) order: &'c [Value],
    pub(crate) sorts: &'c [SortExpr],
    pub(crate) filter: Option<Expr>,
    pub(crate) distinct: bool,
}

impl Binder<'_> {
    /// Whether DataFusion cannot run a call: a row tells its offset or the bounds of its frame, its frame may end before
    /// it begins, it sums distinct values of a frame that slides, or it is `lead` that passes over NULLs, of which
    /// DataFusion loses count.
    pub(crate) fn is_told_by_rows(&self, window: &WindowCall<'_>, context: &Context<'_>) -> Result<bool> {
        let counted = match window.call.name.as_str() {
            "lag" | "lead" | "nth_value" => window.args.get(1..).unwrap_or_default(),
            "ntile" => window.args.as_slice(),
            _ => &[],
        };
        let passes_over = window.call.name == "lead" && window.call.nulls == Some(ast::NullTreatment::IgnoreNulls);
        if passes_over || counted.iter().any(|arg| !matches!(arg.expr, Expr::Literal(..))) {
            return Ok(true);
        }
        let Some(frame) = window.frame else { return Ok(false) };
        let slides = !matches!(frame.start_bound, ast::WindowFrameBound::Preceding(None));
        let name = window.call.name.as_str();
        if slides && (matches!(name, "numeric_histogram" | "approx_most_frequent") || window.distinct) {
            return Ok(true);
        }
        use ast::WindowFrameBound as B;
        let on_one_side = matches!(
            (&frame.start_bound, &frame.end_bound),
            (B::Preceding(Some(_)), Some(B::Preceding(Some(_)))) | (B::Following(Some(_)), Some(B::Following(Some(_))))
        );
        if on_one_side && !is_forwards(frame) {
            return Ok(true);
        }
        for bound in std::iter::once(&frame.start_bound).chain(&frame.end_bound) {
            let (ast::WindowFrameBound::Preceding(Some(node)) | ast::WindowFrameBound::Following(Some(node))) = bound
            else {
                continue;
            };
            if !matches!(self.expr(node, context)?.expr, Expr::Literal(..)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Such a call as a function of our own over whole partitions.
    pub(crate) fn told_by_rows(
        &self,
        window: WindowCall<'_>,
        context: &Context<'_>,
    ) -> Result<(WindowFunctionDefinition, Vec<Expr>)> {
        let what = what(&window)?;
        let mut args: Vec<Expr> = window.args.into_iter().map(|arg| arg.expr).collect();
        if matches!(what, What::Shift { .. }) && args.len() == 1 {
            args.push(lit(1_i64));
        }
        let own = args.len();
        let mut keys: Vec<Value> = window.order.to_vec();
        let frame = match window.frame {
            None => Frame { units: Units::Range, start: Edge::Unbounded, end: Edge::Current },
            Some(frame) => {
                let units = match frame.units {
                    ast::WindowFrameUnits::Rows => Units::Rows,
                    ast::WindowFrameUnits::Range => Units::Range,
                    ast::WindowFrameUnits::Groups => Units::Groups,
                };
                let end = frame.end_bound.clone().unwrap_or(ast::WindowFrameBound::CurrentRow);
                let start = self.edge(&frame.start_bound, (units, window.sorts), (&mut args, &mut keys), context)?;
                let end = self.edge(&end, (units, window.sorts), (&mut args, &mut keys), context)?;
                Frame { units, start, end }
            }
        };
        let first_key = args.len();
        args.extend(keys.into_iter().map(|key| key.expr));
        let filter = window.filter.map(|filter| {
            args.push(filter);
            args.len() - 1
        });
        let options = |sort: &SortExpr| SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
        let framed = Framed {
            what,
            own,
            frame,
            keys: (first_key, window.sorts.iter().map(options).collect()),
            filter,
            ignore_nulls: window.call.nulls == Some(ast::NullTreatment::IgnoreNulls),
            result: window.data_type.to_field("result").into(),
        };
        Ok((WindowFunctionDefinition::WindowUDF(framed.function()), args))
    }

    /// One end of a frame; its offset becomes an argument.
    fn edge(
        &self,
        bound: &ast::WindowFrameBound,
        (units, sorts): (Units, &[SortExpr]),
        (args, keys): (&mut Vec<Expr>, &mut Vec<Value>),
        context: &Context<'_>,
    ) -> Result<Edge> {
        let (node, ahead) = match bound {
            ast::WindowFrameBound::CurrentRow => return Ok(Edge::Current),
            ast::WindowFrameBound::Preceding(None) | ast::WindowFrameBound::Following(None) => {
                return Ok(Edge::Unbounded);
            }
            ast::WindowFrameBound::Preceding(Some(node)) => (node, false),
            ast::WindowFrameBound::Following(Some(node)) => (node, true),
        };
        let offset = self.expr(node, context)?;
        let at = args.len();
        let edge = if ahead { Edge::Following(at) } else { Edge::Preceding(at) };
        let mismatch = |offset: &Type, wanted: &str| {
            Error::user("TYPE_MISMATCH", format!("window frame offset of type {offset} does not fit {wanted}"))
        };
        if units != Units::Range {
            if !offset.data_type.is_integer() {
                return Err(mismatch(&offset.data_type, "a number of rows"));
            }
            args.push(self.coerce(offset, &Type::Bigint)?.expr);
            return Ok(edge);
        }
        let (Some(key), Some(sort)) = (keys.first().cloned(), sorts.first()) else {
            return Err(Error::internal("a RANGE frame has a sort key"));
        };
        let unfit = || mismatch(&offset.data_type, &format!("the sort key of type {}", key.data_type));
        let kind = if ahead == sort.asc { Arithmetic::Add } else { Arithmetic::Subtract };
        let limit = self.arithmetic(kind, key.clone(), offset.clone()).map_err(|_| unfit())?;
        let both = common(&key.data_type, &limit.data_type).ok_or_else(unfit)?;
        args.push(offset.expr.clone());
        args.push(self.convert(limit, &both)?.expr);
        if let Some(first) = keys.first_mut() {
            *first = self.convert(key, &both)?;
        }
        Ok(edge)
    }
}

/// Whether a frame whose ends lie on one side of the row begins no later than it ends, as numbers tell.
fn is_forwards(frame: &ast::WindowFrame) -> bool {
    use ast::WindowFrameBound as B;
    let count = |node: &ast::Expr| node.to_string().parse::<f64>().ok();
    match (&frame.start_bound, &frame.end_bound) {
        (B::Preceding(Some(start)), Some(B::Preceding(Some(end)))) => {
            count(start) >= count(end) && count(end).is_some()
        }
        (B::Following(Some(start)), Some(B::Following(Some(end)))) => {
            count(start) <= count(end) && count(start).is_some()
        }
        _ => true,
    }
}

/// What a function computes of the rows of a frame.
fn what(window: &WindowCall<'_>) -> Result<What> {
    Ok(match &window.function {
        WindowFunctionDefinition::AggregateUDF(udaf) => {
            let fields = window.args.iter().map(|arg| arg.data_type.to_field("").into()).collect();
            What::Aggregate(udaf.clone(), fields, window.distinct)
        }
        WindowFunctionDefinition::WindowUDF(udwf) => match udwf.name() {
            "first_value" => What::First,
            "last_value" => What::Last,
            "nth_value" => What::Nth,
            "lag" => What::Shift { forwards: false },
            "lead" => What::Shift { forwards: true },
            "ntile" => What::Ntile,
            name => return Err(Error::not_supported(format!("{name} over a frame told by a column is not supported"))),
        },
    })
}
