//! Window calls: functions OVER a partition, an order and a frame.
//!
//! Invariant: NULLs come last in a window's order unless the query says otherwise; ranks are `bigint`.

use arrow::datatypes::{DataType, FieldRef};
use datafusion::{
    common::ScalarValue,
    logical_expr::{
        Expr, SortExpr, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition,
        expr::{NullTreatment, WindowFunction},
        function::WindowUDFFieldArgs,
    },
    sql::sqlparser::ast,
};
use headwater_engine::error::{Error, Result};

use super::{
    Binder, Value,
    calls::{Call, must_collect, refined},
    column,
    framed::WindowCall,
    scope::{Context, Inside},
};
use crate::{
    frames::unordered,
    functions::Callable,
    types::{Type, common},
};

impl Binder<'_> {
    /// A window call: collected, and referred to by its column.
    pub(crate) fn window_call(&self, call: &Call<'_>, context: &Context<'_>) -> Result<Value> {
        must_collect(context, &call.name, false)?;
        let inner = Context { inside: Inside::Window, ..*context };
        if self.is_composed(&call.name) {
            if call.nulls.is_some() {
                let message = format!("null treatment is not allowed for {}", call.name);
                return Err(Error::user("NULL_TREATMENT_NOT_ALLOWED", message));
            }
            return self.composed(call, context, &inner);
        }
        if matches!(call.name.as_str(), "lag" | "lead") && self.window_spec(call, context)?.order_by.is_empty() {
            return Err(Error::user("MISSING_ORDER_BY", format!("{} requires ORDER BY", call.name)));
        }
        let made = self.window_function(call, &inner)?;
        let filter = self.filter(call, &inner)?;
        self.over(call, made, (filter, call.distinct), context)
    }

    /// A function over the window of a call.
    pub(crate) fn over(
        &self,
        call: &Call<'_>,
        (fun, args, data_type): (WindowFunctionDefinition, Vec<Value>, Type),
        (filter, distinct): (Option<Expr>, bool),
        context: &Context<'_>,
    ) -> Result<Value> {
        let collected = must_collect(context, &call.name, false)?;
        let inner = Context { inside: Inside::Window, ..*context };
        let spec = self.window_spec(call, context)?;
        let parted = |node| Ok(self.instants_of(self.expr(node, &inner)?)?.expr);
        let partition_by = spec.partition_by.iter().map(parted).collect::<Result<Vec<_>>>()?;
        if matches!(call.name.as_str(), "lag" | "lead") && spec.order_by.is_empty() {
            return Err(Error::user("MISSING_ORDER_BY", format!("{} requires ORDER BY", call.name)));
        }
        if call.filter.is_some() {
            return Err(Error::not_supported("FILTER is not supported for window functions")
                .with_hint("use CASE inside the call"));
        }
        let key = |one: &ast::OrderByExpr| self.instants_of(self.expr(&one.expr, &inner)?);
        let order_values = spec.order_by.iter().map(key).collect::<Result<Vec<_>>>()?;
        let order_by = self.sort_exprs(&spec.order_by, &inner)?;
        if is_ranking(&call.name) && spec.window_frame.is_some() {
            return Err(Error::user(
                "INVALID_WINDOW_FRAME",
                format!("cannot specify a window frame for {}", call.name),
            ));
        }
        let function = match fun {
            WindowFunctionDefinition::AggregateUDF(udaf) => {
                WindowFunctionDefinition::AggregateUDF(unordered(udaf, &data_type.to_arrow()))
            }
            other => other,
        };
        let window = WindowCall {
            call,
            function,
            args,
            data_type: data_type.clone(),
            frame: spec.window_frame.as_ref(),
            order: &order_values,
            sorts: &order_by,
            filter,
            distinct,
        };
        let mut function = self.window_function_call(window, &inner)?;
        function.params.partition_by = partition_by;
        function.params.order_by = order_by;
        let expr = Expr::WindowFunction(Box::new(function));
        let made = self.window_column(expr, call, &data_type, collected)?;
        Ok(made)
    }

    /// The function and its frame: DataFusion's, or one of ours where a row tells the frame.
    fn window_function_call(&self, window: WindowCall<'_>, context: &Context<'_>) -> Result<WindowFunction> {
        check_frame(window.frame, window.order)?;
        let call = window.call;
        if self.is_told_by_rows(&window, context)? {
            let ordered = !window.sorts.is_empty();
            let (function, args) = self.told_by_rows(window, context)?;
            let mut function = WindowFunction::new(function, args);
            function.params.window_frame = WindowFrame::new(ordered.then_some(false));
            return Ok(function);
        }
        let frame = match is_ranking(&call.name) {
            true => WindowFrame::new(None),
            false => self.frame(window.frame, window.order, window.sorts)?,
        };
        let args = window.args.into_iter().map(|arg| arg.expr).collect();
        let mut function = WindowFunction::new(window.function, args);
        function.params.window_frame = frame;
        function.params.filter = window.filter.map(Box::new);
        function.params.distinct = window.distinct;
        function.params.null_treatment = call.nulls.map(|nulls| match nulls {
            ast::NullTreatment::IgnoreNulls => NullTreatment::IgnoreNulls,
            ast::NullTreatment::RespectNulls => NullTreatment::RespectNulls,
        });
        Ok(function)
    }

    fn window_column(
        &self,
        expr: Expr,
        call: &Call<'_>,
        data_type: &Type,
        collected: &std::cell::RefCell<super::scope::Collected>,
    ) -> Result<Value> {
        let mut collected = collected.borrow_mut();
        let known = collected.windows.iter().find(|(known, ..)| *known == expr).map(|(_, name, _)| name.clone());
        let name = known.unwrap_or_else(|| {
            let name = self.column(Some(&call.name), data_type);
            collected.windows.push((expr, name.clone(), data_type.clone()));
            name
        });
        let value = column(&name);
        let ranks = matches!(call.name.as_str(), "row_number" | "rank" | "dense_rank" | "ntile");
        let value = if ranks {
            Expr::Cast(datafusion::logical_expr::Cast::new(Box::new(value), DataType::Int64))
        } else {
            value
        };
        Ok(Value::new(value, data_type.clone()))
    }

    fn window_spec(&self, call: &Call<'_>, context: &Context<'_>) -> Result<ast::WindowSpec> {
        match call.over {
            Some(ast::WindowType::WindowSpec(spec)) => resolve(spec, context),
            Some(ast::WindowType::NamedWindow(name)) => named(&name.value, context),
            None => Err(Error::internal("a window call has a window")),
        }
    }

    fn window_function(
        &self,
        call: &Call<'_>,
        context: &Context<'_>,
    ) -> Result<(WindowFunctionDefinition, Vec<Value>, Type)> {
        if self.is_aggregate(&call.name) {
            if call.nulls.is_some() {
                let message = format!("null treatment is not allowed for {}", call.name);
                return Err(Error::user("NULL_TREATMENT_NOT_ALLOWED", message));
            }
            let (udaf, args, data_type) = self.aggregate_parts(call, context)?;
            return Ok((WindowFunctionDefinition::AggregateUDF(udaf), args, data_type));
        }
        let udwf = match self.environment.library.get(&call.name).map(|function| &function.callable) {
            Some(Callable::Window(udwf)) => udwf.clone(),
            Some(_) => {
                return Err(Error::user("FUNCTION_NOT_WINDOW", format!("{} is not a window function", call.name)));
            }
            None if self.is_window_only(&call.name) => {
                self.environment.builtin.udwf(&call.name).map_err(|_| self.no_function(&call.name))?
            }
            None => return Err(self.no_function(&call.name)),
        };
        let mut args = self.exprs_of(&call.args, context)?;
        if matches!(call.name.as_str(), "lag" | "lead") {
            args = self.offset_args(args)?;
        }
        if matches!(call.name.as_str(), "ntile") && args.iter().any(|arg| !arg.data_type.is_integer()) {
            return Err(Error::user("FUNCTION_NOT_FOUND", "unexpected parameters for function ntile"));
        }
        check_counts(&call.name, &args)?;
        let wanted = self.wanted_by(&call.name, &args, udwf.as_ref())?;
        let args = self.convert_all(args, &wanted)?;
        let fields: Vec<FieldRef> = args.iter().map(|arg| arg.data_type.to_field("").into()).collect();
        let field = udwf.field(WindowUDFFieldArgs::new(&fields, &call.name))?;
        let data_type = match (call.name.as_str(), args.first()) {
            ("lag" | "lead" | "first_value" | "last_value" | "nth_value", Some(arg)) => arg.data_type.clone(),
            ("row_number" | "rank" | "dense_rank" | "ntile", _) => Type::Bigint,
            _ => refined(&field, &args),
        };
        Ok((WindowFunctionDefinition::WindowUDF(udwf), args, data_type))
    }

    /// `lag(x, offset, default)`: the offset is a `bigint`, the default of the type of `x`.
    fn offset_args(&self, args: Vec<Value>) -> Result<Vec<Value>> {
        let mut all = args.into_iter();
        let Some(mut first) = all.next() else { return Ok(Vec::new()) };
        let (offset, default) = (all.next(), all.next());
        let unfit = || Error::user("FUNCTION_NOT_FOUND", "unexpected parameters for function lag or lead");
        if let Some(default) = &default {
            let both = common(&first.data_type, &default.data_type).ok_or_else(unfit)?;
            first = self.convert(first, &both)?;
        }
        let data_type = first.data_type.clone();
        let mut args = vec![first];
        if let Some(offset) = offset {
            let offset = self.coerce(offset, &Type::Bigint).map_err(|_| unfit())?;
            if matches!(&offset.expr, Expr::Literal(value, _) if value.is_null()) {
                return Err(Error::user("INVALID_FUNCTION_ARGUMENT", "offset must not be null"));
            }
            args.push(offset);
        }
        if let Some(default) = default {
            args.push(self.convert(default, &data_type)?);
        }
        args.extend(all);
        Ok(args)
    }

    fn frame(&self, frame: Option<&ast::WindowFrame>, order: &[Value], sorts: &[SortExpr]) -> Result<WindowFrame> {
        // Without an order all rows are peers.
        let told = frame.filter(|frame| frame.units != ast::WindowFrameUnits::Range || !sorts.is_empty());
        let Some(frame) = told else {
            return Ok(WindowFrame::new((!sorts.is_empty()).then_some(false)));
        };
        let units = match frame.units {
            ast::WindowFrameUnits::Rows => WindowFrameUnits::Rows,
            ast::WindowFrameUnits::Range => WindowFrameUnits::Range,
            ast::WindowFrameUnits::Groups => WindowFrameUnits::Groups,
        };
        let end = frame.end_bound.clone().unwrap_or(ast::WindowFrameBound::CurrentRow);
        let start = self.bound(&frame.start_bound, units, order)?;
        let end = self.bound(&end, units, order)?;
        Ok(WindowFrame::new_bounds(units, start, end))
    }

    fn bound(
        &self,
        bound: &ast::WindowFrameBound,
        units: WindowFrameUnits,
        order: &[Value],
    ) -> Result<WindowFrameBound> {
        let null = match units {
            WindowFrameUnits::Rows | WindowFrameUnits::Groups => ScalarValue::UInt64(None),
            WindowFrameUnits::Range => ScalarValue::Null,
        };
        Ok(match bound {
            ast::WindowFrameBound::CurrentRow => WindowFrameBound::CurrentRow,
            ast::WindowFrameBound::Preceding(None) => WindowFrameBound::Preceding(null),
            ast::WindowFrameBound::Following(None) => WindowFrameBound::Following(null),
            ast::WindowFrameBound::Preceding(Some(node)) => {
                WindowFrameBound::Preceding(self.offset(node, units, order)?)
            }
            ast::WindowFrameBound::Following(Some(node)) => {
                WindowFrameBound::Following(self.offset(node, units, order)?)
            }
        })
    }

    fn offset(&self, node: &ast::Expr, units: WindowFrameUnits, order: &[Value]) -> Result<ScalarValue> {
        let empty = super::Scope::default();
        let ctes = super::Ctes::default();
        let value = self.expr(node, &Context::new(&empty, None, &ctes, "window frame bound"))?;
        let Expr::Literal(literal, _) = &value.expr else {
            return Err(Error::internal("the offset of a frame that no row tells is a literal"));
        };
        let negative = || Error::user("INVALID_WINDOW_FRAME", "window frame offset value must not be negative or null");
        if literal.is_null() && (units == WindowFrameUnits::Range || value.data_type.is_integer()) {
            return Err(negative());
        }
        if units != WindowFrameUnits::Range {
            if !value.data_type.is_integer() {
                return Err(Error::user(
                    "TYPE_MISMATCH",
                    format!("window frame {units} offset must be a whole number, not {}", value.data_type),
                ));
            }
            let ScalarValue::Int64(Some(count)) = literal.cast_to(&DataType::Int64)? else { return Err(negative()) };
            return u64::try_from(count).map(|count| ScalarValue::UInt64(Some(count))).map_err(|_| negative());
        }
        let key = order.first().map(|value| value.data_type.clone()).unwrap_or(Type::Unknown);
        let mismatch = || {
            Error::user(
                "TYPE_MISMATCH",
                format!("window frame offset of type {} does not fit the sort key of type {key}", value.data_type),
            )
        };
        Ok(match (&key, literal) {
            (
                Type::Date | Type::Timestamp(_) | Type::TimestampTz(..),
                ScalarValue::DurationMillisecond(Some(millis)),
            ) => {
                if *millis < 0 {
                    return Err(negative());
                }
                if key == Type::Date && millis % 86_400_000 != 0 {
                    let message = "cannot add hours, minutes or seconds to a date";
                    return Err(Error::user("INVALID_FUNCTION_ARGUMENT", message));
                }
                let (days, rest) = (millis / 86_400_000, millis % 86_400_000);
                ScalarValue::new_interval_mdn(0, days as i32, rest * 1_000_000)
            }
            (Type::Date | Type::Timestamp(_) | Type::TimestampTz(..), ScalarValue::IntervalYearMonth(Some(months))) => {
                ScalarValue::new_interval_mdn(*months, 0, 0)
            }
            (key, literal) if key.is_numeric() && value.data_type.is_numeric() => {
                let wide = literal.cast_to(&key.to_arrow())?;
                if wide.to_string().starts_with('-') {
                    return Err(negative());
                }
                wide
            }
            _ => return Err(mismatch()),
        })
    }
}

/// Refuses literal offsets and counts that no row could satisfy.
fn check_counts(name: &str, args: &[Value]) -> Result<()> {
    let (index, least) = match name {
        "lag" | "lead" => (1, 0),
        "ntile" => (0, 1),
        "nth_value" => (1, 1),
        _ => return Ok(()),
    };
    let Some(Expr::Literal(literal, _)) = args.get(index).map(|arg| &arg.expr) else { return Ok(()) };
    match literal.cast_to(&DataType::Int64)? {
        ScalarValue::Int64(Some(count)) if count < least => {
            Err(Error::user("INVALID_FUNCTION_ARGUMENT", format!("{name}: {count} is below {least}")))
        }
        _ => Ok(()),
    }
}

fn is_ranking(name: &str) -> bool {
    matches!(name, "row_number" | "rank" | "dense_rank" | "percent_rank" | "cume_dist" | "ntile" | "lag" | "lead")
}

fn has_offset(bound: &ast::WindowFrameBound) -> bool {
    matches!(bound, ast::WindowFrameBound::Preceding(Some(_)) | ast::WindowFrameBound::Following(Some(_)))
}

/// Refuses a frame that its window's order does not allow.
fn check_frame(frame: Option<&ast::WindowFrame>, order: &[Value]) -> Result<()> {
    let Some(frame) = frame else { return Ok(()) };
    let end = frame.end_bound.clone().unwrap_or(ast::WindowFrameBound::CurrentRow);
    check_bounds(&frame.start_bound, &end)?;
    let offsets = has_offset(&frame.start_bound) || has_offset(&end);
    let (is_groups, is_range) = match frame.units {
        ast::WindowFrameUnits::Groups => (true, false),
        ast::WindowFrameUnits::Range => (false, offsets),
        ast::WindowFrameUnits::Rows => (false, false),
    };
    if (is_groups || is_range) && order.is_empty() {
        let message = format!("window frame of type {} requires ORDER BY", frame.units);
        return Err(Error::user("MISSING_ORDER_BY", message));
    }
    if is_range && order.len() != 1 {
        return Err(Error::user(
            "INVALID_ORDER_BY",
            "window frame of type RANGE with an offset requires a single sort item in ORDER BY",
        ));
    }
    Ok(())
}

fn check_bounds(start: &ast::WindowFrameBound, end: &ast::WindowFrameBound) -> Result<()> {
    use ast::WindowFrameBound as B;
    let wrong = |message: &str| Err(Error::user("INVALID_WINDOW_FRAME", message.to_owned()));
    match (start, end) {
        (B::Following(None), _) => wrong("window frame start cannot be UNBOUNDED FOLLOWING"),
        (_, B::Preceding(None)) => wrong("window frame end cannot be UNBOUNDED PRECEDING"),
        (B::CurrentRow, B::Preceding(_)) => wrong("window frame starting from CURRENT ROW cannot end with PRECEDING"),
        (B::Following(_), B::Preceding(_)) => wrong("window frame starting from FOLLOWING cannot end with PRECEDING"),
        (B::Following(_), B::CurrentRow) => wrong("window frame starting from FOLLOWING cannot end with CURRENT ROW"),
        _ => Ok(()),
    }
}

fn named(name: &str, context: &Context<'_>) -> Result<ast::WindowSpec> {
    let wanted = name.to_lowercase();
    match context.windows.iter().find(|(known, _)| *known == wanted) {
        Some((_, spec)) => resolve(spec, context),
        None => Err(Error::user("INVALID_WINDOW_REFERENCE", format!("window \"{name}\" is not defined"))),
    }
}

/// A specification with the one it builds on filled in.
fn resolve(spec: &ast::WindowSpec, context: &Context<'_>) -> Result<ast::WindowSpec> {
    let Some(base) = &spec.window_name else { return Ok(spec.clone()) };
    let mut whole = named(&base.value, context)?;
    if whole.window_frame.is_some() {
        let message = format!("window \"{}\" has a frame, and cannot be built on", base.value);
        return Err(Error::user("INVALID_WINDOW_REFERENCE", message));
    }
    let refused = |what: &str| {
        Err(Error::user(
            "INVALID_PARTITION_BY",
            format!("{what} of a window that refers to \"{}\" is not allowed", base.value),
        ))
    };
    if !spec.partition_by.is_empty() {
        return refused("PARTITION BY");
    }
    if !spec.order_by.is_empty() {
        if !whole.order_by.is_empty() {
            let message = format!("ORDER BY of a window that refers to \"{}\" is given twice", base.value);
            return Err(Error::user("INVALID_ORDER_BY", message));
        }
        whole.order_by.clone_from(&spec.order_by);
    }
    if spec.window_frame.is_some() {
        whole.window_frame.clone_from(&spec.window_frame);
    }
    whole.window_name = None;
    Ok(whole)
}
