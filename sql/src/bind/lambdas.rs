//! Lambdas, and expressions closed over the columns they use.
//!
//! Invariant: a closed expression sees nothing but its inputs: parameters first, then what it captured.

use std::collections::HashMap;

use datafusion::{
    common::{
        Column, DFSchema,
        tree_node::{Transformed, TreeNode},
    },
    execution::context::ExecutionProps,
    logical_expr::{Expr, physical_planning_context::PhysicalPlanningContext},
    physical_expr::create_physical_expr,
    sql::sqlparser::ast,
};
use headwater_engine::error::{Error, Result};

use super::{
    Binder, Value, arrow_field,
    calls::{Argument, collect_leaves, refine},
    column,
    scope::{Context, Field},
};
use crate::{
    functions::{
        lambda::{ArgumentType, Closed, Higher, HigherCall, Slot, inputs},
        scalar::is_clock,
    },
    types::{Type, coerces},
};

/// An argument of a higher function, half bound.
enum Half<'n> {
    Value(Value),
    Lambda(&'n ast::LambdaFunction),
}

impl Binder<'_> {
    /// A call of a function that takes lambdas.
    pub(crate) fn higher_call(
        &self,
        function: &std::sync::Arc<dyn Higher>,
        args: &[Argument<'_>],
        context: &Context<'_>,
    ) -> Result<Value> {
        let mut halves = Vec::with_capacity(args.len());
        for arg in args {
            halves.push(match arg {
                Argument::Lambda(lambda) => Half::Lambda(lambda),
                Argument::Value(value) => Half::Value(value.clone()),
            });
        }
        let mut known: Vec<ArgumentType> = halves
            .iter()
            .map(|half| match half {
                Half::Value(value) => ArgumentType::Value(value.data_type.to_arrow()),
                Half::Lambda(lambda) => ArgumentType::Lambda(lambda.params.len(), None),
            })
            .collect();
        known = function.coerce(&known)?;
        let mut given: Vec<Type> = Vec::new();
        let (mut slots, mut values, mut captured) = (Vec::new(), Vec::new(), Vec::new());
        for (index, half) in halves.into_iter().enumerate() {
            match half {
                Half::Value(value) => {
                    let wanted = match known.get(index) {
                        Some(ArgumentType::Value(wanted)) => kept(&value.data_type, wanted),
                        _ => value.data_type.clone(),
                    };
                    given.push(value.data_type.clone());
                    values.push(self.convert(value, &wanted)?.expr);
                    slots.push(Slot::Value);
                }
                Half::Lambda(lambda) => {
                    if function.name() == "reduce" && index == 2 {
                        self.widen_state(
                            lambda,
                            function.parameters(index, &known)?,
                            (&mut known, &mut values),
                            context,
                        )?;
                    }
                    let parameters = function.parameters(index, &known)?;
                    let parameters: Vec<Type> = parameters.iter().map(Type::from_arrow).collect();
                    let wanted = function.lambda_result(index, &known).as_ref().map(Type::from_arrow);
                    let (closed, captures, result) = self.lambda(lambda, &parameters, wanted, context)?;
                    if let Some(ArgumentType::Lambda(_, known)) = known.get_mut(index) {
                        *known = Some(result.to_arrow());
                    }
                    given.push(result);
                    slots.push(Slot::Lambda(closed));
                    captured.extend(captures);
                }
            }
        }
        let result = function.result(&known)?;
        let call = HigherCall::new(function.clone(), slots, result.clone());
        let udf = std::sync::Arc::new(datafusion::logical_expr::ScalarUDF::new_from_impl(call));
        values.extend(captured);
        let expr = Expr::ScalarFunction(datafusion::logical_expr::expr::ScalarFunction::new_udf(udf, values));
        let mut parts = Vec::new();
        given.iter().for_each(|of| collect_leaves(of, &mut parts));
        Ok(Value::new(expr, refine(Type::from_arrow(&result), &parts)))
    }

    /// The state of `reduce` has the type that its first step gives, where the one given coerces to it.
    fn widen_state(
        &self,
        lambda: &ast::LambdaFunction,
        parameters: Vec<arrow::datatypes::DataType>,
        (known, values): (&mut [ArgumentType], &mut [Expr]),
        context: &Context<'_>,
    ) -> Result<()> {
        let parameters: Vec<Type> = parameters.iter().map(Type::from_arrow).collect();
        let Some(state) = parameters.first().cloned() else { return Ok(()) };
        let (_, _, result) = self.lambda(lambda, &parameters, None, context)?;
        if coerces(&result, &state) || !coerces(&state, &result) {
            return Ok(());
        }
        if let (Some(known), Some(value)) = (known.get_mut(1), values.get_mut(1)) {
            *value = self.convert(Value::new(value.clone(), state), &result)?.expr;
            *known = ArgumentType::Value(result.to_arrow());
        }
        Ok(())
    }

    fn lambda(
        &self,
        lambda: &ast::LambdaFunction,
        types: &[Type],
        wanted: Option<Type>,
        context: &Context<'_>,
    ) -> Result<(Closed, Vec<Expr>, Type)> {
        if lambda.params.len() != types.len() {
            return Err(Error::user(
                "INVALID_PARAMETER_USAGE",
                format!("expected a lambda that takes {} arguments, found {}", types.len(), lambda.params.len()),
            ));
        }
        let mut scope: Vec<Field> = context.parameters.to_vec();
        let mut names = Vec::with_capacity(types.len());
        for (parameter, data_type) in lambda.params.iter().zip(types) {
            let name = parameter.name.value.clone();
            let column = self.column(Some(&name), data_type);
            names.push(column.clone());
            scope.push(Field {
                qualifier: Vec::new(),
                name: Some(name),
                column,
                data_type: data_type.clone(),
                hidden: false,
            });
        }
        let inner = Context { parameters: &scope, place: "lambda", ..*context };
        let mut body = self.expr(&lambda.body, &inner)?;
        if let Some(wanted) = wanted {
            let is_missing = body.data_type == Type::Unknown && matches!(wanted, Type::Boolean | Type::Varchar(_));
            if is_missing || !coerces(&body.data_type, &wanted) {
                return Err(Error::user(
                    "FUNCTION_NOT_FOUND",
                    format!("expected a lambda that gives {wanted}, found {}", body.data_type),
                ));
            }
            body = self.convert(body, &wanted)?;
        }
        let (closed, captures) = self.close(&body.expr, &names)?;
        Ok((closed, captures, body.data_type))
    }

    /// Compiles an expression over parameters and whatever else it refers to; the latter is returned to be passed on.
    pub(crate) fn close(&self, expr: &Expr, parameters: &[String]) -> Result<(Closed, Vec<Expr>)> {
        let mut captures: Vec<Expr> = Vec::new();
        let mut names: Vec<(String, Type)> = Vec::new();
        let mut by_expr: HashMap<Expr, String> = HashMap::new();
        for parameter in parameters {
            names.push((parameter.clone(), self.column_type(parameter)?));
        }
        let body = expr
            .clone()
            .transform_down(|node| {
                let (name, data_type) = match &node {
                    Expr::Column(column) if parameters.contains(&column.name) => return Ok(Transformed::no(node)),
                    Expr::Column(column) | Expr::OuterReferenceColumn(_, column) => {
                        (column.name.clone(), self.column_type(&column.name)?)
                    }
                    Expr::ScalarSubquery(subquery) => {
                        let field = subquery.subquery.schema().field(0);
                        let data_type = self.column_type(field.name())?;
                        (self.column(Some("subquery"), &data_type), data_type)
                    }
                    // The planner that knows the statement's time sees what is passed on, not what is closed over.
                    Expr::ScalarFunction(call) if call.args.is_empty() && is_clock(&call.func) => {
                        let data_type = Type::from_arrow(&call.func.return_type(&[])?);
                        (self.column(Some("clock"), &data_type), data_type)
                    }
                    Expr::Exists(_) | Expr::InSubquery(_) => {
                        (self.column(Some("subquery"), &Type::Boolean), Type::Boolean)
                    }
                    _ => return Ok(Transformed::no(node)),
                };
                let known = by_expr.get(&node).cloned();
                let name = known.unwrap_or_else(|| {
                    by_expr.insert(node.clone(), name.clone());
                    captures.push(node.clone());
                    names.push((name.clone(), data_type));
                    name
                });
                Ok(Transformed::new(
                    Expr::Column(Column::new_unqualified(name)),
                    true,
                    datafusion::common::tree_node::TreeNodeRecursion::Jump,
                ))
            })?
            .data;
        let schema = inputs(names.iter().map(|(name, data_type)| arrow_field(name, data_type)));
        let df_schema = DFSchema::try_from(schema.as_ref().clone())?;
        let is_volatile = body.is_volatile();
        let planned_from = by_places(&body, &names)?;
        let body =
            create_physical_expr(&body, &df_schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())?;
        Ok((Closed { inputs: schema, parameters: parameters.len(), body, planned_from, is_volatile }, captures))
    }
}

/// An expression whose inputs have their places for names.
fn by_places(body: &Expr, names: &[(String, Type)]) -> Result<Expr> {
    let named = body.clone().transform(|node| {
        let place = match &node {
            Expr::Column(column) => names.iter().position(|(name, _)| *name == column.name),
            _ => None,
        };
        Ok(place.map_or_else(|| Transformed::no(node), |place| Transformed::yes(column(&format!("#{place}")))))
    })?;
    Ok(named.data)
}

/// The type wanted, with what Arrow cannot say kept from the type given.
pub(crate) fn kept(given: &Type, wanted: &arrow::datatypes::DataType) -> Type {
    if given.to_arrow() == *wanted { given.clone() } else { Type::from_arrow(wanted) }
}
