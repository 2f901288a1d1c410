//! Function calls: which function a name and its arguments mean, and how they are coerced.
//!
//! Invariant: the library decides first; a DataFusion function is only called where Trino has one of the same meaning.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::{
    common::ScalarValue,
    logical_expr::{
        Expr, ReturnFieldArgs, ScalarUDF, expr::ScalarFunction as ScalarCall, type_coercion::functions::fields_with_udf,
    },
    sql::sqlparser::ast::{self, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments},
};
use headwater_engine::error::{Error, Result};

use super::{
    Binder, Value,
    lambdas::kept,
    overloads::{refuse_ambiguous, refuse_by_types},
    scope::{Context, Inside},
    suggest,
};
use crate::{
    functions::{Callable, bound},
    types::Type,
};

/// DataFusion's aggregates that mean the same in Trino, as long as the library has none of the name.
const AGGREGATES: &[&str] = &[
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "array_agg",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "var_pop",
    "var_samp",
    "corr",
    "covar_pop",
    "covar_samp",
    "bool_and",
    "bool_or",
    "first_value",
    "last_value",
    "nth_value",
    "regr_slope",
    "regr_intercept",
];

/// DataFusion's window functions that mean the same in Trino.
const WINDOWS: &[&str] = &[
    "row_number",
    "rank",
    "dense_rank",
    "percent_rank",
    "cume_dist",
    "ntile",
    "lag",
    "lead",
    "first_value",
    "last_value",
    "nth_value",
];

/// An argument: a value, or a lambda that is bound once its parameters' types are known.
#[derive(Debug, Clone)]
pub(crate) enum Argument<'n> {
    Value(Value),
    Lambda(&'n ast::LambdaFunction),
}

/// A call, taken apart.
pub(crate) struct Call<'n> {
    pub(crate) name: String,
    pub(crate) args: Vec<&'n ast::Expr>,
    pub(crate) star: bool,
    pub(crate) distinct: bool,
    pub(crate) order_by: Vec<ast::OrderByExpr>,
    pub(crate) filter: Option<&'n ast::Expr>,
    pub(crate) over: Option<&'n ast::WindowType>,
    pub(crate) nulls: Option<ast::NullTreatment>,
    pub(crate) overflow: Option<&'n ast::ListAggOnOverflow>,
}

/// The error of syntax we do not know.
pub(crate) fn unsupported(node: &ast::Expr) -> Error {
    Error::user("SYNTAX_ERROR", format!("expression is not supported: {node}"))
}

impl Binder<'_> {
    /// A function call of any kind.
    pub(crate) fn call(&self, function: &ast::Function, context: &Context<'_>) -> Result<Value> {
        if let Some(here) = context.matching
            && let Some(value) = self.matched_call(function, here, context)?
        {
            return Ok(value);
        }
        self.plain_call(function, context)
    }

    /// A function call outside of MATCH_RECOGNIZE, or one that means the same within it.
    pub(crate) fn plain_call(&self, function: &ast::Function, context: &Context<'_>) -> Result<Value> {
        let call = take_apart(function)?;
        let context = &Context { filter: false, ..*context };
        if let ("current_timestamp" | "localtimestamp" | "localtime" | "current_time", [precision]) =
            (call.name.as_str(), call.args.as_slice())
        {
            return self.precise_clock(&call.name, precision);
        }
        if call.name == "current_time" && call.args.is_empty() {
            let now = self.function_value("now", Vec::new())?;
            return self.cast(now, &Type::TimeTz(3), false);
        }
        if let ("$ipaddress", [text]) = (call.name.as_str(), call.args.as_slice()) {
            let text = self.expr(text, context)?;
            return self.ip_literal(text);
        }
        if call.name == "grouping" {
            return self.grouping(&call, context);
        }
        if call.name == "row" && call.over.is_none() {
            let values = self.exprs_of(&call.args, context)?;
            return Ok(super::expr::row(values.into_iter().map(|value| (None, value)).collect()));
        }
        if let Some(value) = self.conditional(&call.name, &call.args, context)? {
            return Ok(value);
        }
        if call.over.is_some() {
            return self.window_call(&call, context);
        }
        if self.is_window_only(&call.name) {
            return Err(Error::user("MISSING_OVER", format!("window function {} requires an OVER clause", call.name)));
        }
        if self.is_aggregate(&call.name) {
            return self.aggregate_call(&call, context);
        }
        if call.distinct || !call.order_by.is_empty() || call.filter.is_some() {
            let known = self.environment.library.get(&call.name).is_some();
            if !known {
                return Err(self.no_function(&call.name));
            }
            return Err(Error::user(
                "FUNCTION_NOT_AGGREGATE",
                format!("DISTINCT, ORDER BY and FILTER belong to aggregate functions, and {} is none", call.name),
            ));
        }
        let mut args = Vec::with_capacity(call.args.len());
        for node in &call.args {
            args.push(match node {
                ast::Expr::Lambda(lambda) => Argument::Lambda(lambda),
                node => Argument::Value(self.expr(node, context)?),
            });
        }
        self.scalar_call(&call.name, args, context)
    }

    pub(crate) fn exprs_of(&self, nodes: &[&ast::Expr], context: &Context<'_>) -> Result<Vec<Value>> {
        nodes.iter().map(|node| self.expr(node, context)).collect()
    }

    pub(crate) fn scalar_call(&self, name: &str, args: Vec<Argument<'_>>, context: &Context<'_>) -> Result<Value> {
        let with_lambda = args.iter().any(|arg| matches!(arg, Argument::Lambda(_)));
        let special = with_lambda.then(|| self.environment.library.get(&format!("{name}$lambda"))).flatten();
        let padded =
            |arg: &Argument<'_>| matches!(arg, Argument::Value(value) if matches!(value.data_type, Type::Char(_)));
        let textual = |arg: &Argument<'_>| {
            padded(arg) || matches!(arg, Argument::Value(value) if matches!(value.data_type, Type::Varchar(_)))
        };
        if name == "concat" && args.len() > 1 && args.iter().any(padded) && args.iter().all(textual) {
            return self.concat_all(plain(args)?);
        }
        let unknown = |arg: &Argument<'_>| matches!(arg, Argument::Value(value) if value.data_type == Type::Unknown);
        if name == "concat" && args.len() == 2 && args.iter().any(unknown) {
            return self.concat_all(plain(args)?);
        }
        let Some(function) = special.or_else(|| self.environment.library.get(name)) else {
            if let ("concat", true) = (name, args.len() >= 2) {
                return self.concat_all(plain(args)?);
            }
            return Err(self.no_function(name));
        };
        match &function.callable {
            Callable::Higher(higher) => self.higher_call(higher, &args, context),
            Callable::Scalar(_, udf) => self.udf_value(udf, plain(args)?).map_err(|error| match error.code().0 {
                "FUNCTION_NOT_FOUND" if name.starts_with("$json_") => {
                    Error::user("TYPE_MISMATCH", format!("{} takes text or bytes", name.trim_start_matches('$')))
                        .with_hint("write json_format(x) for a value of type json")
                }
                _ => error,
            }),
            Callable::Aggregate(_) | Callable::Window(_) => {
                Err(Error::internal(format!("{name} was not recognised as an aggregate or window function")))
            }
        }
    }

    fn concat_all(&self, values: Vec<Value>) -> Result<Value> {
        let mut values = values.into_iter();
        let first = values.next().ok_or_else(|| Error::internal("concat has arguments"))?;
        values.try_fold(first, |all, value| self.concat(all, value))
    }

    /// A call of a library function with bound arguments.
    pub(crate) fn function_value(&self, name: &str, args: Vec<Value>) -> Result<Value> {
        match self.environment.library.get(name).map(|function| &function.callable) {
            Some(Callable::Scalar(_, udf)) => self.udf_value(udf, args),
            _ => Err(self.no_function(name)),
        }
    }

    pub(crate) fn udf_value(&self, udf: &Arc<ScalarUDF>, args: Vec<Value>) -> Result<Value> {
        if let Some(value) = self.of_zones_told_by_rows(udf, &args)? {
            return Ok(value);
        }
        self.plain_udf_value(udf, args)
    }

    pub(crate) fn plain_udf_value(&self, udf: &Arc<ScalarUDF>, args: Vec<Value>) -> Result<Value> {
        if let [only] = args.as_slice()
            && let Type::TimeTz(precision) = only.data_type
        {
            return self.of_time_with_zone(udf, only.clone(), precision);
        }
        let args = self.without_padding(udf.name(), args)?;
        let given: Vec<Type> = args.iter().map(|arg| arg.data_type.clone()).collect();
        if given.contains(&Type::Unknown) {
            refuse_ambiguous(udf, &given)?;
        }
        refuse_by_types(udf.name(), &given)?;
        let wanted = udf.coerce_types(&arrow_types(&given))?;
        let args = self.convert_all(args, &wanted)?;
        let fields: Vec<FieldRef> = args.iter().map(|arg| arg.data_type.to_field("").into()).collect();
        let constants: Vec<Option<ScalarValue>> = args.iter().map(|arg| constant(&arg.expr)).collect();
        let constants: Vec<Option<&ScalarValue>> = constants.iter().map(Option::as_ref).collect();
        let field =
            udf.return_field_from_args(ReturnFieldArgs { arg_fields: &fields, scalar_arguments: &constants })?;
        let result = refined(field.as_ref(), &args);
        let exprs = args.into_iter().map(|arg| arg.expr).collect();
        let value = Value::new(Expr::ScalarFunction(ScalarCall::new_udf(udf.clone(), exprs)), result);
        if let ("map", [Type::Array(key), Type::Array(of)]) = (udf.name(), given.as_slice()) {
            return Ok(Value::new(value.expr, Type::map(key.as_ref().clone(), of.as_ref().clone())));
        }
        let value = Value::new(value.expr, super::overloads::measured(udf.name(), &given, value.data_type));
        match (udf.name(), given.first()) {
            ("lower" | "upper" | "reverse", Some(fixed @ Type::Char(_))) => self.cast(value, fixed, false),
            _ => Ok(value),
        }
    }

    /// What trims text never sees the padding of `char(n)`.
    fn without_padding(&self, name: &str, mut args: Vec<Value>) -> Result<Vec<Value>> {
        if let ("trim" | "ltrim" | "rtrim", Some(first)) = (name, args.first_mut())
            && matches!(first.data_type, Type::Char(_))
        {
            let text = self.cast(first.clone(), &Type::VARCHAR, false)?;
            *first = self.function_value("rtrim", vec![text, super::literals::text_value(" ")])?;
        }
        Ok(args)
    }

    /// Converts arguments to the types a function wants.
    pub(crate) fn convert_all(&self, args: Vec<Value>, wanted: &[DataType]) -> Result<Vec<Value>> {
        args.into_iter()
            .zip(wanted)
            .map(|(arg, wanted)| {
                let wanted = kept(&arg.data_type, wanted);
                self.convert(arg, &wanted)
            })
            .collect()
    }

    /// Types that a DataFusion function of any signature wants for those given.
    pub(crate) fn wanted_by<F: datafusion::logical_expr::type_coercion::functions::UDFCoercionExt>(
        &self,
        name: &str,
        args: &[Value],
        function: &F,
    ) -> Result<Vec<DataType>> {
        let fields: Vec<FieldRef> = args.iter().map(|arg| arg.data_type.to_field("").into()).collect();
        let fitted = fields_with_udf(&fields, function).map_err(|error| match Error::find_in(&error) {
            Some(ours) => ours.duplicate(),
            None => {
                let given: Vec<String> = args.iter().map(|arg| arg.data_type.to_string()).collect();
                Error::user(
                    "FUNCTION_NOT_FOUND",
                    format!("unexpected parameters ({}) for function {name}", given.join(", ")),
                )
            }
        })?;
        Ok(fitted.iter().map(|field| field.data_type().clone()).collect())
    }

    /// Whether a name is an aggregate.
    pub(crate) fn is_aggregate(&self, name: &str) -> bool {
        match self.environment.library.get(name) {
            Some(function) => matches!(function.callable, Callable::Aggregate(_)),
            None => AGGREGATES.contains(&name) && !WINDOWS.contains(&name) || self.is_composed(name),
        }
    }

    /// Whether a name is a window function and nothing else.
    pub(crate) fn is_window_only(&self, name: &str) -> bool {
        match self.environment.library.get(name) {
            Some(function) => matches!(function.callable, Callable::Window(_)),
            None => WINDOWS.contains(&name),
        }
    }

    /// The error of a name that means nothing.
    pub(crate) fn no_function(&self, name: &str) -> Error {
        if let Err(error) = super::reserved::check(&ast::Ident::new(name)) {
            return if matches!(name, "left" | "right") { error.with_hint("use substr") } else { error };
        }
        let error = Error::user("FUNCTION_NOT_FOUND", format!("function '{name}' not registered"));
        if let Some(alternative) = super::foreign::alternative(name) {
            return error.with_hint(format!("use {alternative}"));
        }
        let names: Vec<&str> = self.environment.library.iter().map(|function| function.name).collect();
        suggest(error, name, names.into_iter().chain(bound::all().map(|function| function.name)))
    }
}

/// Arrow types of types.
pub(crate) fn arrow_types(of: &[Type]) -> Vec<DataType> {
    of.iter().map(Type::to_arrow).collect()
}

fn constant(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        Expr::Cast(cast) => match cast.expr.as_ref() {
            Expr::Literal(value, _) => value.cast_to(cast.field.data_type()).ok(),
            _ => None,
        },
        _ => None,
    }
}

/// A function's result type with the precision Arrow cannot say, taken from an argument, or a part of one, of the same
/// Arrow type.
pub(crate) fn refined(field: &arrow::datatypes::Field, args: &[Value]) -> Type {
    let stated = Type::from_field(field);
    if field.metadata().contains_key(crate::types::TYPE_KEY) {
        return stated;
    }
    let mut parts = Vec::new();
    args.iter().for_each(|arg| collect_leaves(&arg.data_type, &mut parts));
    refine(stated, &parts)
}

pub(crate) fn collect_leaves<'t>(of: &'t Type, parts: &mut Vec<&'t Type>) {
    match of {
        Type::Array(element) => collect_leaves(element, parts),
        Type::Map(key, value) => {
            collect_leaves(key, parts);
            collect_leaves(value, parts);
        }
        Type::Row(fields) => fields.iter().for_each(|(_, field)| collect_leaves(field, parts)),
        leaf => parts.push(leaf),
    }
}

pub(crate) fn refine(stated: Type, parts: &[&Type]) -> Type {
    match stated {
        Type::Array(element) => Type::array(refine(*element, parts)),
        Type::Map(key, value) => Type::map(refine(*key, parts), refine(*value, parts)),
        Type::Row(fields) => Type::Row(fields.into_iter().map(|(name, field)| (name, refine(field, parts))).collect()),
        Type::Timestamp(_) | Type::TimestampTz(..) | Type::Time(_) | Type::Char(_) => refined_leaf(stated, parts),
        other => other,
    }
}

fn refined_leaf(stated: Type, parts: &[&Type]) -> Type {
    let precision = |part: &Type| match part {
        Type::Timestamp(p) | Type::TimestampTz(p, _) => Some(*p),
        _ => None,
    };
    let arrow = stated.to_arrow();
    let same = parts.iter().filter(|part| part.to_arrow() == arrow);
    if let Some(same) = same.max_by_key(|part| precision(part)) {
        return (*same).clone();
    }
    let unit_only = parts.iter().filter_map(|part| precision(part)).filter(|p| match &stated {
        Type::Timestamp(q) | Type::TimestampTz(q, _) => crate::types::unit(*p) == crate::types::unit(*q),
        _ => false,
    });
    match (unit_only.max(), stated) {
        (Some(p), Type::Timestamp(_)) => Type::Timestamp(p),
        (Some(p), Type::TimestampTz(_, zone)) => Type::TimestampTz(p, zone),
        (_, stated) => stated,
    }
}

fn plain(args: Vec<Argument<'_>>) -> Result<Vec<Value>> {
    args.into_iter()
        .map(|arg| match arg {
            Argument::Value(value) => Ok(value),
            Argument::Lambda(_) => Err(Error::user("FUNCTION_NOT_FOUND", "this function takes no lambda")),
        })
        .collect()
}

fn take_apart(function: &ast::Function) -> Result<Call<'_>> {
    let name = function.name.0.last().and_then(ast::ObjectNamePart::as_ident).map(|ident| ident.value.to_lowercase());
    let name = name.ok_or_else(|| Error::user("SYNTAX_ERROR", format!("{} is no function name", function.name)))?;
    let mut call = Call {
        name,
        args: Vec::new(),
        star: false,
        distinct: false,
        order_by: function.within_group.clone(),
        filter: function.filter.as_deref(),
        over: function.over.as_ref(),
        nulls: function.null_treatment,
        overflow: None,
    };
    if function.uses_odbc_syntax {
        return Err(Error::user("SYNTAX_ERROR", "{fn ..} is not supported").with_hint("write the call without braces"));
    }
    if call.order_by.is_empty() && call.name == "listagg" || !call.order_by.is_empty() && call.name != "listagg" {
        return Err(Error::user("SYNTAX_ERROR", "WITHIN GROUP belongs to listagg, and listagg needs it")
            .with_hint("write listagg(x, ',') WITHIN GROUP (ORDER BY x)"));
    }
    let FunctionArguments::List(list) = &function.args else {
        return match &function.args {
            FunctionArguments::None => Ok(call),
            _ => Err(Error::user("SYNTAX_ERROR", "a subquery as an argument needs its own parentheses")),
        };
    };
    call.distinct = list.duplicate_treatment == Some(ast::DuplicateTreatment::Distinct);
    if let (true, [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]) = (call.distinct, list.args.as_slice()) {
        return Err(Error::user("SYNTAX_ERROR", "DISTINCT * is not supported").with_hint("name the columns"));
    }
    for arg in &list.args {
        match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(node)) => call.args.push(node),
            FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => call.star = true,
            other => {
                return Err(Error::user("SYNTAX_ERROR", format!("argument {other} of {} is not supported", call.name)));
            }
        }
    }
    for clause in &list.clauses {
        match clause {
            FunctionArgumentClause::OrderBy(order) => call.order_by.clone_from(order),
            FunctionArgumentClause::IgnoreOrRespectNulls(nulls) => call.nulls = Some(*nulls),
            FunctionArgumentClause::OnOverflow(overflow) => call.overflow = Some(overflow),
            other => return Err(Error::user("SYNTAX_ERROR", format!("{other} is not supported in a call"))),
        }
    }
    Ok(call)
}

/// Refuses an aggregate or window where there may be none.
pub(crate) fn must_collect<'c>(
    context: &Context<'c>,
    name: &str,
    aggregate: bool,
) -> Result<&'c std::cell::RefCell<super::scope::Collected>> {
    if !context.parameters.is_empty() {
        return Err(Error::user(
            "EXPRESSION_NOT_SCALAR",
            format!("lambda expression cannot contain aggregations or windows: {name}"),
        ));
    }
    match (context.inside, aggregate) {
        (Inside::Aggregate, true) => {
            return Err(Error::user(
                "NESTED_AGGREGATION",
                format!("cannot nest aggregation {name} inside an aggregation"),
            ));
        }
        (Inside::Aggregate, false) => {
            return Err(Error::user(
                "NESTED_WINDOW",
                format!("cannot nest window function {name} inside an aggregation"),
            ));
        }
        (Inside::Window, false) => {
            return Err(Error::user(
                "NESTED_WINDOW",
                format!("cannot nest window function {name} inside a window function"),
            ));
        }
        (Inside::Window, true) | (Inside::Nothing, _) => {}
    }
    context.collected.ok_or_else(|| {
        Error::user(
            "EXPRESSION_NOT_SCALAR",
            format!("{} cannot contain aggregations, window functions or grouping operations: {name}", context.place),
        )
    })
}
