//! Aggregate calls and `grouping(..)`.
//!
//! Invariant: an aggregate call becomes a column that the query's aggregation makes; equal calls are one column.

use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::{
    logical_expr::{AggregateUDF, Expr, SortExpr, expr::AggregateFunction},
    sql::sqlparser::ast,
};
use headwater_engine::error::{Error, Result};

use super::{
    Binder, Value,
    calls::{Call, must_collect, refined},
    column,
    scope::{Context, Inside},
};
use crate::{functions::Callable, types::Type};

impl Binder<'_> {
    /// An aggregate call: collected, and referred to by its column.
    pub(crate) fn aggregate_call(&self, call: &Call<'_>, context: &Context<'_>) -> Result<Value> {
        must_collect(context, &call.name, true)?;
        let inner = Context { inside: Inside::Aggregate, ..*context };
        if self.is_composed(&call.name) {
            return self.composed(call, context, &inner);
        }
        let (expr, data_type) = self.aggregate_expr(call, &inner)?;
        self.collect(call, expr, data_type, context)
    }

    /// The column of a collected aggregate.
    pub(crate) fn collect(&self, call: &Call<'_>, expr: Expr, data_type: Type, context: &Context<'_>) -> Result<Value> {
        let collected = must_collect(context, &call.name, true)?;
        let mut collected = collected.borrow_mut();
        if let Some((_, name, data_type)) = collected.aggregates.iter().find(|(known, ..)| *known == expr) {
            return Ok(Value::new(column(name), data_type.clone()));
        }
        let name = self.column(Some(&call.name), &data_type);
        collected.aggregates.push((expr, name.clone(), data_type.clone()));
        Ok(Value::new(column(&name), data_type))
    }

    /// The call itself, also for windows.
    fn aggregate_expr(&self, call: &Call<'_>, context: &Context<'_>) -> Result<(Expr, Type)> {
        let (udaf, args, data_type) = self.aggregate_parts(call, context)?;
        let filter = self.filter(call, context)?.map(Box::new);
        let order_by = self.sort_exprs(&call.order_by, context)?;
        if call.distinct {
            if let Some(arg) = args.iter().find(|arg| !arg.data_type.is_comparable()) {
                return Err(Error::user(
                    "TYPE_MISMATCH",
                    format!("DISTINCT can only be applied to comparable types, not {}", arg.data_type),
                ));
            }
            let sorted_by_arg = order_by.iter().all(|sort| args.iter().any(|arg| arg.expr == sort.expr));
            if !sorted_by_arg {
                return Err(Error::user(
                    "EXPRESSION_NOT_IN_DISTINCT",
                    "for an aggregate with DISTINCT, ORDER BY expressions must be among its arguments",
                ));
            }
        }
        let args = args.into_iter().map(|arg| arg.expr).collect();
        let function = AggregateFunction::new_udf(udaf, args, call.distinct, filter, order_by, None);
        Ok((Expr::AggregateFunction(function), data_type))
    }

    /// The FILTER of a call.
    pub(crate) fn filter(&self, call: &Call<'_>, context: &Context<'_>) -> Result<Option<Expr>> {
        let context = Context { place: "FILTER clause", ..*context };
        call.filter.map(|node| Ok(self.condition(node, &context)?.expr)).transpose()
    }

    /// The function of a call, its coerced arguments and its type.
    pub(crate) fn aggregate_parts(
        &self,
        call: &Call<'_>,
        context: &Context<'_>,
    ) -> Result<(Arc<AggregateUDF>, Vec<Value>, Type)> {
        let udaf = self.aggregate_udf(&call.name)?;
        if call.args.iter().any(|node| matches!(node, ast::Expr::Lambda(_))) {
            return Err(Error::not_supported(format!("aggregate {} with a lambda is not supported", call.name)));
        }
        let mut args = self.exprs_of(&call.args, context)?;
        if call.name == "count" {
            if args.len() > 1 {
                return Err(Error::user(
                    "FUNCTION_NOT_FOUND",
                    "unexpected parameters for function count; expected: count(), count(T)",
                ));
            }
            if args.is_empty() {
                args.push(Value::new(super::literal(datafusion::common::ScalarValue::Int64(Some(1))), Type::Bigint));
            }
            args = args.into_iter().map(|arg| self.instants_of(arg)).collect::<Result<_>>()?;
        } else if call.star {
            return Err(Error::user("FUNCTION_NOT_FOUND", format!("function {} does not take *", call.name)));
        }
        if matches!(call.name.as_str(), "min" | "max")
            && let Some(arg) = args.iter().find(|arg| !arg.data_type.is_orderable())
        {
            return Err(Error::user(
                "FUNCTION_NOT_FOUND",
                format!("{} needs values with an order, not {}", call.name, arg.data_type),
            ));
        }
        let wanted = self.wanted_by(&call.name, &args, udaf.as_ref())?;
        let args = self.convert_all(args, &wanted)?;
        let fields: Vec<FieldRef> = args.iter().map(|arg| arg.data_type.to_field("").into()).collect();
        let field = udaf.return_field(&fields)?;
        let data_type = match (call.name.as_str(), args.first()) {
            ("min" | "max" | "arbitrary" | "any_value" | "max_by" | "min_by", Some(arg))
                if arg.data_type.to_arrow() == *field.data_type() =>
            {
                arg.data_type.clone()
            }
            ("array_agg", Some(arg)) => Type::array(arg.data_type.clone()),
            _ => refined(&field, &args),
        };
        Ok((udaf, args, data_type))
    }

    fn aggregate_udf(&self, name: &str) -> Result<Arc<AggregateUDF>> {
        if let Some(Callable::Aggregate(udaf)) = self.environment.library.get(name).map(|function| &function.callable) {
            return Ok(udaf.clone());
        }
        self.environment.builtin.udaf(name).map_err(|_| self.no_function(name))
    }

    /// ORDER BY of a call or a window.
    pub(crate) fn sort_exprs(&self, order: &[ast::OrderByExpr], context: &Context<'_>) -> Result<Vec<SortExpr>> {
        order
            .iter()
            .map(|one| {
                let value = self.expr(&one.expr, context)?;
                sortable(&value)?;
                Ok(sort(self.instants_of(value)?.expr, &one.options))
            })
            .collect()
    }

    /// `grouping(a, b)`
    pub(crate) fn grouping(&self, call: &Call<'_>, context: &Context<'_>) -> Result<Value> {
        let collected = must_collect(context, "grouping", true)?;
        let args = self.exprs_of(&call.args, context)?.into_iter().map(|value| value.expr).collect();
        let data_type = if call.args.len() < 32 { Type::Integer } else { Type::Bigint };
        let name = self.column(Some("grouping"), &data_type);
        collected.borrow_mut().groupings.push((args, name.clone()));
        Ok(Value::new(column(&name), data_type))
    }
}

/// A sort expression: NULLs last unless the query says otherwise.
pub(crate) fn sort(expr: Expr, options: &ast::OrderByOptions) -> SortExpr {
    SortExpr::new(expr, options.asc.unwrap_or(true), options.nulls_first.unwrap_or(false))
}

/// Refuses to order by a type without an order.
pub(crate) fn sortable(value: &Value) -> Result<()> {
    if value.data_type.is_orderable() {
        return Ok(());
    }
    Err(Error::user(
        "TYPE_MISMATCH",
        format!("type {} is not orderable, and therefore cannot be used in ORDER BY", value.data_type),
    ))
}
