//! TABLESAMPLE: each row of a relation with the chance asked for.
//!
//! Invariant: the percentage is known before there are rows, and is from 0 to 100.

use arrow::{
    array::{AsArray, RecordBatch, RecordBatchOptions},
    datatypes::{Float64Type, Schema},
};
use datafusion::{
    common::DFSchema,
    execution::context::ExecutionProps,
    logical_expr::{ColumnarValue, Expr, LogicalPlanBuilder, lit, physical_planning_context::PhysicalPlanningContext},
    physical_expr::create_physical_expr,
    sql::sqlparser::ast,
};
use headwater_engine::error::{Error, Result};

use super::{
    Binder, Bound, at,
    conditions::has_subquery,
    ctes::Ctes,
    scope::{Context, Scope},
};
use crate::types::Type;

impl Binder<'_> {
    /// A relation, sampled if that is asked for.
    pub(crate) fn sampled(&self, bound: Bound, sample: Option<&ast::TableSampleKind>) -> Result<Bound> {
        let Some(ast::TableSampleKind::BeforeTableAlias(sample) | ast::TableSampleKind::AfterTableAlias(sample)) =
            sample
        else {
            return Ok(bound);
        };
        let quantity = written(sample)?;
        let percent = at(self.percentage(quantity), quantity)?;
        let drawn = datafusion::functions::math::random().call(Vec::new());
        let plan = LogicalPlanBuilder::from(bound.plan).filter(drawn.lt(lit(percent / 100.0)))?.build()?;
        Ok(Bound { plan, scope: bound.scope })
    }

    fn percentage(&self, node: &ast::Expr) -> Result<f64> {
        let (scope, ctes) = (Scope::default(), Ctes::default());
        let not_constant = |message: &str| Error::user("EXPRESSION_NOT_CONSTANT", message);
        let context = Context::new(&scope, None, &ctes, "TABLESAMPLE");
        let percent = self.expr(node, &context).map_err(|error| match error.code().0 {
            "COLUMN_NOT_FOUND" => not_constant(error.message()),
            _ => error,
        })?;
        if has_subquery(&percent.expr) {
            return Err(not_constant("a sample percentage cannot contain a subquery"));
        }
        let null = || Error::user("INVALID_ARGUMENTS", "sample percentage cannot be NULL");
        if percent.data_type == Type::Unknown {
            return Err(null());
        }
        if !percent.data_type.is_numeric() {
            return Err(Error::user("TYPE_MISMATCH", "sample percentage should be a numeric expression"));
        }
        let percent = computed(&self.convert(percent, &Type::Double)?.expr)?.ok_or_else(null)?;
        if (0.0..=100.0).contains(&percent) {
            return Ok(percent);
        }
        Err(Error::user("NUMERIC_VALUE_OUT_OF_RANGE", "sample percentage must be between 0 and 100"))
    }
}

/// The percentage of a sample that is written as Trino has it.
fn written(sample: &ast::TableSample) -> Result<&ast::Expr> {
    use ast::TableSampleMethod as M;
    let known =
        matches!(sample.name, Some(M::Bernoulli | M::System)) && sample.seed.is_none() && sample.offset.is_none();
    match &sample.quantity {
        Some(quantity) if known && quantity.parenthesized && quantity.unit.is_none() => Ok(&quantity.value),
        _ => Err(Error::user("SYNTAX_ERROR", "TABLESAMPLE is not well formed")
            .with_hint("write TABLESAMPLE BERNOULLI (10), or SYSTEM")),
    }
}

/// The value of an expression that needs no row.
fn computed(expr: &Expr) -> Result<Option<f64>> {
    let made =
        create_physical_expr(expr, &DFSchema::empty(), &ExecutionProps::new(), &PhysicalPlanningContext::default())?;
    let one = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Schema::empty().into(), Vec::new(), &one)?;
    let value = match made.evaluate(&row)? {
        ColumnarValue::Scalar(value) => value.to_array()?,
        ColumnarValue::Array(array) => array,
    };
    Ok(value.as_primitive_opt::<Float64Type>().and_then(|values| values.iter().next().flatten()))
}
